"""From a seed to a model and its truth: which heads there are, where they stand, and the basis that hides them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from concrete_steps.errors import CourseError
from concrete_steps.wired import heads as wiring
from concrete_steps.wired.heads import Spaces, Weights
from concrete_steps.wired.truth import COPY_GAIN, OUT_GAIN, Edge, Head, Truth

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

DECOYS = ("mute induction", "mute previous", "offset", "rest")


def build(
    seed: int,
    *,
    n_layers: int = 2,
    n_heads: int = 6,
    n_tokens: int = 12,
    n_ctx: int = 32,
    d_model: int | None = None,
    copies: int = 1,
    behaviours: tuple[str, ...] = ("induction", "seen", "copying"),
    decoys: tuple[str, ...] = DECOYS,
    rotate: bool = True,
    noise: float = 0.0,
) -> tuple[TransformerBridge, Truth]:
    """A model with circuits at random places, and its truth.

    Args:
        seed: decides everything that is random.
        n_layers, n_heads, n_tokens, n_ctx: sizes; induction needs two layers.
        d_model: width of the residual stream; None for the least that holds the spaces. More is filled with nothing.
        copies: how many induction circuits there are; each does the whole job, alone.
        behaviours: which of "induction", "seen" (a duplicate-token head) and "copying" the model has.
        decoys: heads with a telling pattern whose output nobody reads: "mute induction" and "mute previous" attend as
            the real ones do; "offset" looks `truth.period` back, which passes for induction on repeats of that
            length; "rest" stays on [BOS].
        rotate: a random rotation of the residual stream and of every head's own axes, so that no entry tells anything.
        noise: Gaussian noise on every matrix, as a share of its root mean square.

    Raises:
        CourseError: the heads do not fit into the layers, or the width is too small.
    """
    draw = random.Random(f"wired {seed}")
    generator = torch.Generator().manual_seed(draw.getrandbits(31))
    spaces = Spaces(n_tokens, n_ctx, copies if "induction" in behaviours else 0)
    width = spaces.size if d_model is None else d_model
    if width < spaces.size:
        raise CourseError(f"d_model={width} is too small: these circuits need {spaces.size} axes.")
    period = draw.randint(max(3, n_tokens // 2), min(n_tokens, (n_ctx - 1) // 2))
    layout = place(draw, n_layers, n_heads, spaces, behaviours, decoys)
    d_head = wiring.needed_d_head(n_tokens, n_ctx)
    grid = {}
    for layer in range(n_layers):
        for head in range(n_heads):
            weights = wiring.blank(width, d_head)
            write(weights, spaces, layout.get((layer, head), ("idle", 0)), period, generator)
            grid[layer, head] = weights
    embed, positions, unembed = stream_ends(width, spaces)
    if rotate:
        embed, positions, unembed = hide(grid, embed, positions, unembed, generator)
    if noise:
        add_noise(grid, [embed, positions, unembed], noise, generator)
    model = to_bridge(grid, embed, positions, unembed, n_layers, n_heads)
    return model, truth_of(layout, spaces, n_layers, n_heads, period)


def place(draw, n_layers, n_heads, spaces, behaviours, decoys) -> dict[Head, tuple[str, int]]:
    """Role and copy of each head that has one, at random places; a writer stands in a layer before its reader."""
    for _ in range(1000):
        free = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
        draw.shuffle(free)
        layout: dict[Head, tuple[str, int]] = {}
        if len(free) < 2 * len(spaces.previous) + len(behaviours) + len(decoys):
            break
        for copy in range(len(spaces.previous)):
            layout[free.pop()] = ("previous", copy)
            layout[free.pop()] = ("induction", copy)
        for behaviour, role in (("seen", "duplicate"), ("copying", "copying")):
            if behaviour in behaviours:
                layout[free.pop()] = (role, 0)
        for decoy in decoys:
            layout[free.pop()] = (f"decoy: {decoy}", 0)
        if all(feeds(layout, copy) for copy in range(len(spaces.previous))) and decoys_can_look(layout, spaces):
            return layout
    raise CourseError(
        f"{n_layers} layers of {n_heads} heads do not hold these circuits and decoys: give more heads, or two layers."
    )


def of_copy(layout, role: str, copy: int) -> Head:
    return next(head for head, named in layout.items() if named == (role, copy))


def feeds(layout, copy: int) -> bool:
    return of_copy(layout, "previous", copy)[0] < of_copy(layout, "induction", copy)[0]


def decoys_can_look(layout, spaces: Spaces) -> bool:
    """A mute induction head needs a previous-token head before it, or its pattern is not induction's."""
    mute = [layer for (layer, _), named in layout.items() if named[0] == "decoy: mute induction"]
    if not mute:
        return True
    return bool(spaces.previous) and min(mute) > of_copy(layout, "previous", 0)[0]


def write(weights: Weights, spaces: Spaces, role_and_copy: tuple[str, int], period: int, generator) -> None:
    """One head's matrices for its role."""
    role, copy = role_and_copy
    match role:
        case "previous":
            wiring.look_back(weights, spaces, 1)
            wiring.copy_token(weights, spaces, spaces.previous[copy], 1.0)
        case "induction":
            wiring.look_for_token(weights, spaces, spaces.previous[copy])
            wiring.copy_token(weights, spaces, spaces.out, 1.0)
        case "duplicate":
            wiring.look_for_token(weights, spaces, spaces.words)
            wiring.not_itself(weights, spaces)
            wiring.write_flag(weights, spaces, spaces.seen, 1.0)
        case "copying":
            wiring.copy_token(weights, spaces, spaces.out, COPY_GAIN / OUT_GAIN)
        case "decoy: mute induction":
            wiring.look_for_token(weights, spaces, spaces.previous[0])
            wiring.copy_token(weights, spaces, spaces.junk, 1.0)
        case "decoy: mute previous":
            wiring.look_back(weights, spaces, 1)
            wiring.copy_token(weights, spaces, spaces.junk, 1.0)
        case "decoy: offset":
            wiring.look_back(weights, spaces, period - 1)
            wiring.copy_token(weights, spaces, spaces.junk, 1.0)
        case "decoy: rest":
            wiring.rest_on_bos(weights, spaces)
            wiring.copy_token(weights, spaces, spaces.junk, 1.0)
        case "idle":
            reads = slice(spaces.token.start, spaces.position.stop)
            for matrix in (weights.W_Q, weights.W_K):
                matrix[reads] = 2 * torch.randn(matrix[reads].shape, generator=generator)
            wiring.copy_token(weights, spaces, spaces.junk, 1.0)
        case _:
            raise ValueError(role)


def stream_ends(width: int, spaces: Spaces) -> tuple[Tensor, Tensor, Tensor]:
    """Embedding [d_vocab d_model], positions [n_ctx d_model] and unembedding [d_model d_vocab], in the plain basis."""
    n = spaces.n_tokens
    embed, unembed = torch.zeros(n + 2, width), torch.zeros(width, n + 2)
    embed[: n + 1, spaces.token] = torch.eye(n + 1)
    positions = torch.zeros(spaces.n_ctx, width)
    positions[:, spaces.position] = torch.eye(spaces.n_ctx)
    unembed[spaces.out, 1 : n + 1] = OUT_GAIN * torch.eye(n)
    unembed[spaces.seen, n + 1] = OUT_GAIN
    return embed, positions, unembed


def hide(grid, embed, positions, unembed, generator, turn: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The same model in a random basis of the residual stream, and of each head's queries and keys, and values.

    Args:
        turn: the orthogonal matrix that takes the plain stream to the new basis; None for a random one.
    """
    turn = rotation(embed.shape[1], generator) if turn is None else turn
    for weights in grid.values():
        score, value = (rotation(weights.W_Q.shape[1], generator) for _ in range(2))
        scale = weights.W_K.norm().clamp(min=1e-9) / weights.W_Q.norm().clamp(min=1e-9)
        even = scale.sqrt() if weights.W_Q.any() else torch.tensor(1.0)  # queries and keys of one size
        weights.W_Q, weights.W_K = turn.T @ weights.W_Q @ score * even, turn.T @ weights.W_K @ score / even
        weights.W_V, weights.W_O = turn.T @ weights.W_V @ value, value.T @ weights.W_O @ turn
    return embed @ turn, positions @ turn, turn.T @ unembed


def rotation(n: int, generator: torch.Generator) -> Tensor:
    """A random orthogonal matrix [n n], evenly distributed (signs fixed by R's diagonal)."""
    q, r = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    return (q * r.diagonal().sign()).float()


def add_noise(grid, ends: list[Tensor], noise: float, generator: torch.Generator) -> None:
    matrices = [m for w in grid.values() for m in (w.W_Q, w.W_K, w.W_V, w.W_O)] + ends
    for matrix in matrices:
        matrix += noise * matrix.square().mean().sqrt() * torch.randn(matrix.shape, generator=generator)


def to_bridge(
    grid, embed, positions, unembed, n_layers: int, n_heads: int, final_norm: Tensor | None = None
) -> TransformerBridge:
    """The matrices as an attention-only TransformerBridge in evaluation mode.

    Args:
        grid: the weights of each (layer, head), all of one d_head.
        embed, positions, unembed: [d_vocab d_model], [n_ctx d_model] and [d_model d_vocab].
        final_norm: None for a model without norms, or [d_model] weights of an RMS norm before the unembedding; then
            each block has an RMS norm, too, whose weights are 1.
    """
    from transformer_lens import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    d_vocab, d_model = embed.shape
    config = TransformerBridgeConfig(
        d_model=d_model,
        d_head=grid[0, 0].W_Q.shape[1],
        n_heads=n_heads,
        n_layers=n_layers,
        n_ctx=positions.shape[0],
        d_vocab=d_vocab,
        attn_only=True,
        normalization_type=None if final_norm is None else "RMS",
        seed=0,
    )
    state = torch.random.get_rng_state()
    try:  # booting draws initial weights from the global generator
        model = TransformerBridge.boot_native(config, tokenizer=None)
    finally:
        torch.random.set_rng_state(state)
    weights = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    weights |= {"embed.weight": embed, "pos_embed.weight": positions, "unembed.weight": unembed.T}
    if final_norm is not None:
        weights["ln_final.weight"] = final_norm
        weights |= {f"blocks.{layer}.ln1.weight": torch.ones(d_model) for layer in range(n_layers)}
    for layer in range(n_layers):
        of_layer = [grid[layer, head] for head in range(n_heads)]
        prefix = f"blocks.{layer}.attn"
        weights[f"{prefix}.q.weight"] = torch.cat([w.W_Q for w in of_layer], dim=1).T
        weights[f"{prefix}.k.weight"] = torch.cat([w.W_K for w in of_layer], dim=1).T
        weights[f"{prefix}.v.weight"] = torch.cat([w.W_V for w in of_layer], dim=1).T
        weights[f"{prefix}.o.weight"] = torch.cat([w.W_O for w in of_layer], dim=0).T
    model.load_state_dict(weights)
    return model.eval()


def truth_of(layout, spaces: Spaces, n_layers: int, n_heads: int, period: int) -> Truth:
    edges: set[Edge] = set()
    paths: dict[str, list[frozenset[Head]]] = {"induction": [], "seen": [], "copying": []}
    for copy in range(len(spaces.previous)):
        writer, reader = of_copy(layout, "previous", copy), of_copy(layout, "induction", copy)
        edges.add((writer, reader, "k"))
        paths["induction"].append(frozenset({writer, reader}))
    for head, (role, _) in layout.items():
        if role == "duplicate":
            paths["seen"].append(frozenset({head}))
        if role == "copying":
            paths["copying"].append(frozenset({head}))
    grid = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    roles = {head: layout.get(head, ("idle", 0))[0] for head in grid}
    return Truth(
        spaces.n_tokens,
        spaces.n_ctx,
        roles,
        frozenset(edges),
        {behaviour: tuple(sets) for behaviour, sets in paths.items()},
        period,
    )
