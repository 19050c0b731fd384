"""Models in which a few heads write the answer, and others only seem to, or only once those are gone: notebook 3.3.

    model, truth = wired.writers(seed=0)
    tokens = wired.writer_rows(truth, rows=64, seed=0)
    truth.writers                                           # the heads that write the answer themselves

A row is [BOS], a word for each place, and one of two last tokens. Each word belongs to one of two classes. At the last
position two tokens, the last two of the vocabulary, stand far above all others; the words decide which of them wins.

The model has attention only, RMS norms, and norm weights at the end that are far from 1. Every row has the same norm
at the same place of each layer, so that what a head reads is exactly what another one wrote, divided by a constant.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from concrete_steps.wired.build import add_noise, hide, rotation, to_bridge
from concrete_steps.wired.heads import MATCH, Weights, blank
from concrete_steps.wired.truth import Head

if TYPE_CHECKING:
    from jaxtyping import Int
    from transformer_lens.model_bridge import TransformerBridge

# What becomes of a place's word. The heads of each kind have these roles; those of WRITERS write the answer.
PLAIN = "plain"  # a "writer" reads the word and writes to the answer
RELAYED = "relayed"  # a "feeder" brings the word to the last position, a later "writer" reads it there
BACKED = "backed"  # a "backed writer"; a later "backup" writes the same once that one is removed, else nothing
EVEN = "even"  # an "even" head reads the word and raises or lowers the logits of all tokens alike
MUTE = "mute"  # a "mute" head writes the word, loudly, where nobody reads
SCALED_AWAY = "scaled away"  # a "scaled away" head writes where the unembedding reads, and the last norm wipes it out
KINDS = (PLAIN, RELAYED, BACKED, EVEN, MUTE, SCALED_AWAY)
WRITERS = ("writer", "backed writer")

VARIANTS = 2  # words in a class
D_HEAD = 4
EPS = 1e-5  # of the model's norms
LOGITS = 4.0  # what a writer of part 1 gives one of the two answers, and takes from the other
ABOVE = 30.0  # how far both stand above all other tokens
SCALED = 0.02  # the weight of the last norm on the axes that it wipes out
OWN = 0.4  # the last token's own part of the answer


@dataclass(frozen=True)
class WriterTruth:
    """The truth about one model.

    Attributes:
        roles: each head's role: "writer" and "backed writer" write the answer; "feeder", "backup", "even", "mute",
            "scaled away" and "idle" do not.
        n_words: how many places there are between [BOS] and the last token.
    """

    roles: dict[Head, str]
    n_words: int

    @property
    def writers(self) -> frozenset[Head]:
        """Heads whose own writing moves the two answers' logits apart, all else as it is."""
        return frozenset(head for head, role in self.roles.items() if role in WRITERS)

    def with_role(self, role: str) -> frozenset[Head]:
        """Heads of exactly this role."""
        return frozenset(head for head, named in self.roles.items() if named == role)


def writers(
    seed: int,
    *,
    kinds: tuple[str, ...] = KINDS,
    n_layers: int = 3,
    n_heads: int = 6,
    noise: float = 0.01,
) -> tuple[TransformerBridge, WriterTruth]:
    """A model whose answer some heads write, and its truth.

    Args:
        seed: decides everything that is random.
        kinds: what becomes of the word at each place, in any order. Without one of the first three kinds no head
            writes the answer: the last token alone decides it.
        n_layers, n_heads: sizes; at least 2 layers. Where `n_heads` are too few, a layer has as many as are needed.
        noise: Gaussian noise on every matrix, as a share of its root mean square.
    """
    draw = random.Random(f"writers {seed}")
    generator = torch.Generator().manual_seed(draw.getrandbits(31))
    kinds = draw.sample(kinds, len(kinds))
    axes = Axes(len(kinds))
    jobs = [job for place, kind in enumerate(kinds, start=1) for job in jobs_of(draw, kind, place, n_layers)]
    n_heads = max(n_heads, *(sum(job.layer == layer for job in jobs) for layer in range(n_layers)))
    grid = {(layer, head): blank(axes.size, D_HEAD) for layer in range(n_layers) for head in range(n_heads)}
    roles = dict.fromkeys(grid, "idle")
    stream = LastStream(axes)
    for layer in range(n_layers):
        free = draw.sample(range(n_heads), n_heads)
        here = [job for job in jobs if job.layer == layer]
        for job, head in zip(here, free, strict=False):
            write(grid[layer, head], axes, job, stream.scale)
            roles[layer, head] = job.role
        for job in here:
            stream.add(job)
        for head in free[len(here) :]:
            look_only(grid[layer, head], axes, draw.randint(1, axes.n_words))
    embed, positions, unembed = ends(axes, stream.scale)
    turn, norm = last_basis(axes, generator)
    embed, positions, unembed = hide(grid, embed, positions, unembed, generator, turn)
    unembed = torch.where(norm[:, None] == SCALED, unembed, unembed / norm[:, None])
    if noise:
        add_noise(grid, [embed, positions, unembed], noise, generator)
    model = to_bridge(grid, embed, positions, unembed, n_layers, n_heads, norm)
    return model, WriterTruth(roles, axes.n_words)


def writer_rows(truth: WriterTruth, rows: int, seed: int) -> Int[Tensor, "row pos"]:
    """Rows of tokens; a token's number tells nothing of its class."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, truth.n_words)
    values, variants = (torch.randint(0, n, shape, generator=generator) for n in (2, VARIANTS))
    words = 1 + torch.arange(truth.n_words) * 2 * VARIANTS + 2 * variants + values
    last = 1 + truth.n_words * 2 * VARIANTS + torch.randint(0, 2, (rows, 1), generator=generator)
    return torch.cat([torch.zeros(rows, 1, dtype=torch.long), words, last], dim=1)


# --- How they are written

Axis = tuple[str, int]  # what it holds, and the place that this is about (0: the last token, or none)


class Axes:
    """Which axes of the plain residual stream hold what."""

    def __init__(self, n_words: int):
        self.n_words, self.n_ctx = n_words, n_words + 2
        kinds = ("held", "out", "flag", "even", "junk", "dead")  # the last norm wipes out the dead ones
        names = [("value", 0), *(("position", place) for place in range(self.n_ctx))]
        names += [(kind, place) for kind in kinds for place in range(n_words + 1)]
        self.number = {name: i for i, name in enumerate(names)}
        self.size, self.n_dead = len(names), n_words + 1

    def __getitem__(self, axis: Axis) -> int:
        return self.number[axis]

    def of(self, kind: str) -> list[int]:
        return [i for (named, _), i in self.number.items() if named == kind]


@dataclass
class Job:
    """What one head does at the last position: it reads one word, or axes of that position, and writes to axes."""

    role: str
    layer: int
    place: int  # of the word
    writes: dict[Axis, float]  # what is written for a word of value 1
    reads: dict[Axis, float] = field(default_factory=dict)  # axes of the last position, and how much of each


def jobs_of(draw: random.Random, kind: str, place: int, n_layers: int) -> list[Job]:
    """The heads of one place, in layers that suit them."""
    early, late = sorted(draw.sample(range(n_layers), 2))
    anywhere, part = draw.randrange(n_layers), draw.choice([-1, 1]) * draw.uniform(0.7, 1.0)
    loud = draw.uniform(1.5, 2.5)
    out, held, flag = ("out", place), ("held", place), ("flag", place)
    feeder = Job("feeder", early, place, {held: loud})
    match kind:
        case "plain":
            return [Job("writer", anywhere, place, {out: part})]
        case "relayed":
            return [feeder, Job("writer", late, place, {out: part}, {held: 1 / loud})]
        case "backed":
            backed = Job("backed writer", early, place, {out: part, flag: 1.0})
            return [feeder, backed, Job("backup", late, place, {out: part}, {held: 1 / loud, flag: -1.0})]
        case "even":
            return [Job("even", anywhere, place, {("even", place): loud})]
        case "mute":
            return [Job("mute", anywhere, place, {("junk", place): loud})]
        case "scaled away":
            return [Job("scaled away", anywhere, place, {("dead", place): part})]
    raise ValueError(kind)


class LastStream:
    """How long the stream at the last position is: the same in all rows, as each axis has one writer."""

    def __init__(self, axes: Axes):
        self.size, self.squares = axes.size, 1 + OWN**2  # its position, and the last token's own part

    def add(self, job: Job) -> None:
        if job.role != "backup":  # writes nothing while the one before it works
            self.squares += sum(amount**2 for amount in job.writes.values())

    @property
    def scale(self) -> float:
        """What an RMS norm divides by."""
        return (self.squares / self.size + EPS) ** 0.5


def write(head: Weights, axes: Axes, job: Job, last_scale: float) -> None:
    """A head that does its job at the last position, and rests on [BOS] everywhere else."""
    strength = MATCH * D_HEAD**0.5
    last = axes["position", axes.n_ctx - 1]
    target = last if job.reads else axes["position", job.place]
    head.W_Q[last, 0], head.W_K[target, 0] = 1, strength
    rest_elsewhere(head, axes)
    if job.reads:
        scale = last_scale
        for axis, amount in job.reads.items():
            head.W_V[axes[axis], 0] = amount
    else:
        scale = (2 / axes.size + EPS) ** 0.5  # a word's stream is its value and its position
        head.W_V[axes["value", 0], 0] = 1
    for axis, amount in job.writes.items():
        head.W_O[0, axes[axis]] = amount * scale


def rest_elsewhere(head: Weights, axes: Axes) -> None:
    for place in range(axes.n_ctx - 1):
        head.W_Q[axes["position", place], 1] = 1
    head.W_K[axes["position", 0], 1] = MATCH * D_HEAD**0.5


def look_only(head: Weights, axes: Axes, place: int) -> None:
    """An idle head: it looks at a word, and writes nothing."""
    write(head, axes, Job("idle", 0, place, {}), 1.0)


def ends(axes: Axes, last_scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Embedding, positions and unembedding in the plain basis, before the last norm's weights."""
    n = axes.n_words * 2 * VARIANTS
    embed, unembed = torch.zeros(n + 5, axes.size), torch.zeros(axes.size, n + 5)
    embed[1 : n + 1, axes["value", 0]] = torch.tensor([-1.0, 1.0]).repeat(n // 2)
    embed[n + 1, axes["out", 0]], embed[n + 2, axes["out", 0]] = -OWN, OWN
    positions = torch.zeros(axes.n_ctx, axes.size)
    positions[:, axes.of("position")] = torch.eye(axes.n_ctx)
    unembed[axes["position", axes.n_ctx - 1], -2:] = ABOVE * last_scale
    for axis in (*axes.of("out"), *axes.of("dead")):
        unembed[axis, -2], unembed[axis, -1] = LOGITS * last_scale, -LOGITS * last_scale
    unembed[axes.of("even")] = LOGITS * last_scale
    return embed, positions, unembed


def last_basis(axes: Axes, generator: torch.Generator) -> tuple[Tensor, Float[Tensor, " d_model"]]:
    """A basis in which nothing can be read off but where the last norm wipes out, and that norm's weights."""
    live = axes.size - axes.n_dead
    turn = torch.block_diag(rotation(live, generator), torch.eye(axes.n_dead))
    norm = torch.cat([0.5 + 1.5 * torch.rand(live, generator=generator), torch.full((axes.n_dead,), SCALED)])
    order = torch.randperm(axes.size, generator=generator)
    return turn[:, order], norm[order]
