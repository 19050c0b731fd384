"""The two edits that questions ask about, run on a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concrete_steps.mystery.rows import examples, kept, withheld

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

Head = tuple[int, int]  # layer, head


def answers(model: TransformerBridge, tokens: Int[Tensor, "row pos"]) -> Int[Tensor, " row"]:
    """What the model says at the last position."""
    import torch

    with torch.no_grad():
        return model(tokens)[:, -1].argmax(-1)


def swapped(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"], source: Int[Tensor, "row pos"], heads: Iterable[Head]
) -> Int[Tensor, " row"]:
    """What the model says to `tokens` when these heads' z is, at all positions, what it is in a run on `source`."""
    return _with_z(model, tokens, {head: _z(model, source)[head[0]][:, :, head[1]] for head in heads})


def removed(model: TransformerBridge, name: str, tokens: Int[Tensor, "row pos"], head: Head) -> Int[Tensor, " row"]:
    """What the model says when this head's z is, at each position, its mean over `examples(name, 512, seed=0)`."""
    return _with_z(model, tokens, {head: mean_z(name)[head[0]][:, head[1]]})


@withheld
def mean_z(name: str) -> dict[int, Float[Tensor, "pos head d_head"]]:
    """By layer, the mean of z over `examples(name, 512, seed=0)`."""
    tokens, _ = examples(name, 512, seed=0)
    return {layer: z.mean(0) for layer, z in _z(kept(name), tokens).items()}


def _z(model: TransformerBridge, tokens: Int[Tensor, "row pos"]) -> dict[int, Float[Tensor, "row pos head d_head"]]:
    import torch

    names = [f"blocks.{layer}.attn.hook_z" for layer in range(model.cfg.n_layers)]
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=names)
    return {layer: cache[name] for layer, name in enumerate(names)}


def _with_z(model: TransformerBridge, tokens: Int[Tensor, "row pos"], new: dict[Head, Tensor]) -> Int[Tensor, " row"]:
    import torch

    hooks = []
    for (layer, head), its in new.items():

        def put(z: Tensor, hook, head: int = head, its: Tensor = its) -> Tensor:
            z = z.clone()
            z[:, :, head] = its
            return z

        hooks.append((f"blocks.{layer}.attn.hook_z", put))
    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1].argmax(-1)
