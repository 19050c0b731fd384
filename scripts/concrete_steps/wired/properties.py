"""Models that hold many properties of their input at one place, and use a few: the open task of notebook 3.6.

    model, truth = wired.properties(seed=0)
    tokens, labels = wired.property_rows(truth, rows=200, seed=0)
    truth.used                                              # the names of those that the answer is made from there

A row is [BOS], a word for each property, and "?". Each word belongs to one of two classes, the property's value. At "?"
the model answers: the logit of its last token but one (YES) minus that of its last (NO).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING

import torch

from concrete_steps.wired.build import hide, to_bridge
from concrete_steps.wired.heads import MATCH, Weights, blank

if TYPE_CHECKING:
    from jaxtyping import Bool, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

# What becomes of a property. Only those of the first two kinds are used at "?" after the layer of the question.
READ = "read"  # a later head reads it at "?" and writes it to the answer
ROUTE = "route"  # a later head's query reads it at "?", and looks at one of two places, which answer YES and NO
BYPASSED = "bypassed"  # it is held at "?", but the answer takes it from the word itself, in a later layer
MUTE = "mute"  # it is held at "?", loudly, and nobody reads it
LOOKED_AT = "looked at"  # it is held at "?" and moves a later head's attention, but what that head writes nobody reads
TWIN = "twin"  # it is not held at all, but mostly goes together with one that is used
ABSENT = "absent"  # it is not held, and goes together with nothing
KINDS = (READ, ROUTE, BYPASSED, MUTE, LOOKED_AT, TWIN, ABSENT)
USED = (READ, ROUTE)
HELD = (READ, ROUTE, BYPASSED, MUTE, LOOKED_AT)

VARIANTS = 6  # words in a class
NOISE_AXES = 6  # what else a word says
TOGETHER = 0.8  # how often a twin has the value of its partner


@dataclass(frozen=True)
class PropertyTruth:
    """The truth about one model of properties.

    Attributes:
        kinds: each property's kind, by its name.
        layer: the question is about the residual stream after this layer, at the last position.
        places: where in the row each property's word stands; one place belongs to a property without a name.
        partners: for each twin the used property that it goes together with.
        n_words: how many places there are between [BOS] and "?".
    """

    kinds: dict[str, str]
    layer: int
    places: dict[str, int]
    partners: dict[str, str]
    n_words: int

    @property
    def used(self) -> frozenset[str]:
        """Properties whose direction after `layer`, at the last position, the answer is made from."""
        return frozenset(name for name, kind in self.kinds.items() if kind in USED)


def properties(
    seed: int, *, kinds: tuple[str, ...] = KINDS, n_layers: int = 3, n_heads: int = 6
) -> tuple[TransformerBridge, PropertyTruth]:
    """A model that holds properties, and its truth.

    Args:
        seed: decides everything that is random.
        kinds: what becomes of each property, in any order; names and places are drawn. Without a used property in
            them, the answer is made from a property that has no name.
        n_layers, n_heads: sizes; at least 2 layers. Where `n_heads` are too few, a layer has as many as are needed.
    """
    draw = random.Random(f"properties {seed}")
    generator = torch.Generator().manual_seed(draw.getrandbits(31))
    layer = draw.randint(0, n_layers - 2)
    kinds = [*draw.sample(kinds, len(kinds)), READ]  # the last one has no name, and is used
    n_words = len(kinds)
    places = draw.sample(range(1, n_words + 1), n_words)
    axes = Axes(n_words)
    heads = [(kind, i, place) for i, (kind, place) in enumerate(zip(kinds, places, strict=True))]
    gathers = [head for head in heads if head[0] in HELD]
    readers = [head for head in heads if head[0] in (*USED, BYPASSED, LOOKED_AT)]
    early, late = layer + 1, n_layers - 1 - layer
    n_heads = max(n_heads, -(-len(gathers) // early), -(-len(readers) // late))
    grid = {(at, head): blank(axes.size, D_HEAD) for at in range(n_layers) for head in range(n_heads)}
    for which, first, last in ((gathers, 0, layer), (readers, layer + 1, n_layers - 1)):
        free = draw.sample([(at, head) for at in range(first, last + 1) for head in range(n_heads)], len(which))
        for (kind, i, place), at in zip(which, free, strict=True):
            # A loud decoy is easier to decode than what is used.
            gain, noise = (1.0, draw.uniform(0.7, 0.9)) if kind == READ else (draw.uniform(2, 4), 0.3)
            if which is gathers:
                gather(grid[at], axes, i, place, gain, noise, generator)
            else:
                gain = held_gain(grid, axes, i)
                read(grid[at], axes, kind, i, place, gain, part=draw.choice([-1, 1]) * draw.uniform(0.85, 1.0))
    embed, positions, unembed = ends(axes, generator)
    embed, positions, unembed = hide(grid, embed, positions, unembed, generator)
    names = ascii_uppercase[: n_words - 1]
    named = dict(zip(names, kinds, strict=False))
    used = [name for name in names if named[name] in USED]
    partners = {name: draw.choice(used) for name in names if named[name] == TWIN and used}
    truth = PropertyTruth(named, layer, dict(zip(names, places, strict=False)), partners, n_words)
    return to_bridge(grid, embed, positions, unembed, n_layers, n_heads), truth


def property_rows(
    truth: PropertyTruth, rows: int, seed: int
) -> tuple[Int[Tensor, "row pos"], dict[str, Bool[Tensor, " row"]]]:
    """Rows of tokens, and for each property whether its word is of the first class.

    A token's number tells nothing of its class: the words of both classes are mixed.
    """
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(rows, truth.n_words, generator=generator) < 0.5  # by place
    for twin, partner in truth.partners.items():
        same = torch.rand(rows, generator=generator) < TOGETHER
        values[:, truth.places[twin] - 1] = values[:, truth.places[partner] - 1] == same
    variants = torch.randint(0, VARIANTS, values.shape, generator=generator)
    words = 1 + torch.arange(truth.n_words) * 2 * VARIANTS + 2 * variants + values.long()
    ends = torch.full((rows, 1), 0), torch.full((rows, 1), 1 + truth.n_words * 2 * VARIANTS)
    tokens = torch.cat([ends[0], words, ends[1]], dim=1)
    return tokens, {name: values[:, place - 1] for name, place in truth.places.items()}


# --- How they are written

D_HEAD = 4


class Axes:
    """Which axes of the plain residual stream hold what."""

    def __init__(self, n_words: int):
        self.n_words, self.n_ctx = n_words, n_words + 2
        self.value = 0  # the value of the word at its own position
        self.noise = slice(1, 1 + NOISE_AXES)
        self.position = self.noise.stop
        self.held = self.position + self.n_ctx  # at "?", an axis for each property
        self.out = self.held + n_words
        self.junk = self.out + 1
        self.size = self.junk + 1

    @property
    def last(self) -> int:
        return self.position + self.n_ctx - 1


def look_at(head: Weights, axes: Axes, place: int) -> None:
    """From "?" to this place."""
    head.W_Q[axes.last, 0] = 1
    head.W_K[axes.position + place, 0] = MATCH * D_HEAD**0.5


def gather(head: Weights, axes: Axes, i: int, place: int, gain: float, noise: float, generator) -> None:
    """Property i comes from its word to "?", with some of what else the word says."""
    look_at(head, axes, place)
    head.W_V[axes.value, 0] = 1
    other = torch.randn(NOISE_AXES, generator=generator)
    head.W_V[axes.noise, 0] = noise * other / other.norm()
    head.W_O[0, axes.held + i] = gain


def held_gain(grid, axes: Axes, i: int) -> float:
    """How loud property i is at "?"."""
    return sum(float(head.W_O[0, axes.held + i]) for head in grid.values()) or 1.0


def read(head: Weights, axes: Axes, kind: str, i: int, place: int, gain: float, part: float) -> None:
    """What a later head makes of property i; `part` is its part of the answer."""
    match kind:
        case "read":
            look_at(head, axes, axes.n_ctx - 1)
            head.W_V[axes.held + i, 0] = 1 / gain
            head.W_O[0, axes.out] = part
        case "bypassed":
            look_at(head, axes, place)
            head.W_V[axes.value, 0] = 1
            head.W_O[0, axes.out] = part
        case "route" | "looked at":
            head.W_Q[axes.held + i, 0] = MATCH / gain
            head.W_K[axes.last, 0], head.W_K[axes.position, 0] = D_HEAD**0.5, -(D_HEAD**0.5)
            head.W_V[axes.last, 0], head.W_V[axes.position, 0] = 1, -1
            head.W_O[0, axes.out if kind == "route" else axes.junk] = part


def ends(axes: Axes, generator) -> tuple[Tensor, Tensor, Tensor]:
    """Embedding, positions and unembedding in the plain basis; YES and NO are the last two tokens."""
    n = axes.n_words * 2 * VARIANTS
    embed, unembed = torch.zeros(n + 4, axes.size), torch.zeros(axes.size, n + 4)
    embed[1 : n + 1, axes.value] = torch.tensor([-1.0, 1.0]).repeat(n // 2)
    other = torch.randn(axes.n_words, VARIANTS, 2, NOISE_AXES, generator=generator)
    other -= other.mean(1, keepdim=True)  # what else the words of a class say averages out
    embed[1 : n + 1, axes.noise] = other.reshape(n, NOISE_AXES)
    positions = torch.zeros(axes.n_ctx, axes.size)
    positions[:, axes.position : axes.position + axes.n_ctx] = torch.eye(axes.n_ctx)
    unembed[axes.out, -2], unembed[axes.out, -1] = 5, -5
    return embed, positions, unembed
