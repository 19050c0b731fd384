"""Models that some directions steer, at some layers and strengths, and at some cost: the open task of notebook 3.7.

    model, truth = wired.steerable(seed=0)
    asked, others = wired.steerable_rows(truth, rows=64, seed=0)
    truth.clean                                             # {("A", 0), ("C", 2), ...}: (direction, after which layer)

A row is [BOS], a word for each place, and one of two last tokens. After the first of them ("asked") the model answers
YES or NO, after the second ("others") it answers another question, of other words: the last two tokens of the
vocabulary, and the two before them. Each direction is an axis of the stream, of length 1; at the last position its
natural value is 1 or -1 (loud ones: more). A push along it raises YES less NO if a later head reads it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING

import torch

from concrete_steps.wired.build import hide, rotation, to_bridge
from concrete_steps.wired.heads import MATCH, Weights, blank

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

# What a push along a direction does. Those of STEERING raise the answer, at a strength that differs.
LINEAR = "linear"  # a head adds it to the answer
SWITCH = "switch"  # a head's attention jumps once the push is long enough; before that nothing happens
WINDOW = "window"  # as linear; a longer push spoils the other answer
LATE = "late"  # a short push spoils the other answer, but an earlier layer reads it for that: later pushes are clean
COSTLY = "costly"  # it steers, and long before that it spoils the other answer
SPOILS = "spoils"  # only the other answer reads it
MUTE = "mute"  # it is held, loudly, and nobody reads it
BYPASSED = "bypassed"  # it is held, but the answer is made from the word itself
KINDS = (LINEAR, SWITCH, WINDOW, LATE, COSTLY, SPOILS, MUTE, BYPASSED)
# What only part of a measure takes for one that steers; they are made where they are asked for.
LOWERS = "lowers"  # as linear, but the answer falls: YES by three times as much as NO
FAINT = "faint"  # as linear, but only a push beyond the longest would do
EVEN = "even"  # it raises the logits of YES and of NO alike
SCATTERS = "scatters"  # a long push makes the answer rise in some rows, and fall in others: by the last word
LEAKS = "leaks"  # as costly, but what it spoils the other answer with is YES
FLIPS = "flips"  # as costly, but each other answer becomes its opposite, so that their mean stays
# Who overwrites what is held, where a push adds to it, mistakes it for one that spoils.
KEPT = "kept"  # as linear; the other answer is made of what it holds there, so loudly that a push hardly changes it
ALL_KINDS = (*KINDS, LOWERS, FAINT, EVEN, SCATTERS, LEAKS, FLIPS, KEPT)
STEERING = (LINEAR, SWITCH, WINDOW, LATE, COSTLY, KEPT)

# By so much the answer rises where a push steers (the mean over rows). Elsewhere no push that leaves the others as they
# were raises it by half as much, whatever is meant by "as they were": the learner's lines need not be these.
RAISED = 5.0
LONGEST = 8.0  # no push is longer
MOST_COST = 0.05  # nats of the other rows' answers, mean KL
LOUDEST = 60.0  # what a kept direction holds where the other question is asked
LOGITS = 5.0  # what the answer's axis gives YES, and takes from NO
VARIANTS = 3  # words in a class
D_HEAD = 4


@dataclass(frozen=True)
class SteerTruth:
    """The truth about one model.

    Attributes:
        kinds: each direction's kind, by its name.
        directions: [d_model] of length 1, by name.
        clean: (name, layer) where a push after this layer, at the last position and of a strength of at most LONGEST,
            raises the answer by RAISED and costs the other rows at most MOST_COST.
        windows: for each of them the strengths that do, from and to.
        n_words: how many places there are between [BOS] and the last token.
    """

    kinds: dict[str, str]
    directions: dict[str, Float[Tensor, " d_model"]]
    windows: dict[tuple[str, int], tuple[float, float]]
    n_words: int

    @property
    def clean(self) -> frozenset[tuple[str, int]]:
        return frozenset(self.windows)


def steerable(
    seed: int, *, kinds: tuple[str, ...] = KINDS, n_layers: int = 4, n_heads: int = 5
) -> tuple[TransformerBridge, SteerTruth]:
    """A model with directions that steer it or do not, and its truth.

    Args:
        seed: decides everything that is random.
        kinds: of the directions, of ALL_KINDS, in any order; names and places are drawn.
        n_layers, n_heads: sizes; at least 3 layers. Where `n_heads` are too few, a layer has as many as are needed.
            One more hears a push at [BOS], which spoils the other answer.
    """
    draw = random.Random(f"steerable {seed}")
    generator = torch.Generator().manual_seed(draw.getrandbits(31))
    kinds = draw.sample(kinds, len(kinds))
    axes = Axes(len(kinds), even=EVEN in kinds or LOWERS in kinds)
    plans = [plan(draw, kind, n_layers) for kind in kinds]
    jobs = [job for i, its in enumerate(plans) for job in jobs_of(its, i, axes)]
    # Each question has a word of its own, that nothing steers.
    jobs += [(draw.randint(1, n_layers - 1), word_reader(axes, axes.own[which], which, 0.6)) for which in (0, 1)]
    n_heads = max(n_heads, *(sum(at == layer for at, _ in jobs) for layer in range(n_layers)))
    grid = {(layer, head): blank(axes.size, D_HEAD) for layer in range(n_layers) for head in range(n_heads)}
    for layer in range(n_layers):
        free = draw.sample(range(n_heads), n_heads)
        for head, (_, weights) in zip(free, [job for job in jobs if job[0] == layer], strict=False):
            grid[layer, head] = weights
        grid[layer, n_heads] = blank(axes.size, D_HEAD) if layer < n_layers - 1 else listener(axes)
    n_heads += 1
    turn = rotation(axes.size, generator)
    embed, positions, unembed = hide(grid, *ends(axes), generator, turn)
    names = draw.sample(ascii_uppercase[: len(kinds)], len(kinds))
    directions = {name: turn[axes.held + i].clone() for i, name in enumerate(names)}
    windows = {
        (name, layer): window
        for name, its in zip(names, plans, strict=True)
        for layer in range(n_layers)
        if (window := its.window(layer))
    }
    ordered = sorted(names)
    truth = SteerTruth(
        {name: kinds[names.index(name)] for name in ordered},
        {name: directions[name] for name in ordered},
        windows,
        axes.n_words,
    )
    return to_bridge(grid, embed, positions, unembed, n_layers, n_heads), truth


def steerable_rows(truth: SteerTruth, rows: int, seed: int) -> tuple[Int[Tensor, "row pos"], Int[Tensor, "row pos"]]:
    """Rows that ask the question, and rows that ask the other one; a token's number tells nothing of its class."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for which in (0, 1):
        shape = (rows, truth.n_words)
        values, variants = (torch.randint(0, n, shape, generator=generator) for n in (2, VARIANTS))
        words = 1 + torch.arange(truth.n_words) * 2 * VARIANTS + 2 * variants + values
        first, last = (torch.full((rows, 1), token) for token in (0, 1 + truth.n_words * 2 * VARIANTS + which))
        made.append(torch.cat([first, words, last], dim=1))
    return made[0], made[1]


# --- How they are written


class Axes:
    """Which axes of the plain residual stream hold what."""

    def __init__(self, n_directions: int, *, even: bool):
        self.n_words = n_directions + 2  # a word for each direction, and one for each question
        self.own = (n_directions + 1, n_directions + 2)
        self.n_ctx = self.n_words + 2
        self.value = 0  # the value of the word at its own position
        self.position = 1
        self.asks = self.position + self.n_ctx  # which of the two questions the last token asks
        self.held = self.asks + 2  # at the last position, an axis for each direction
        self.out = self.held + n_directions  # the two answers
        self.even = self.out + 2 if even else None  # what raises YES and NO alike
        self.size = self.out + 2 + even


@dataclass(frozen=True)
class Plan:
    """What becomes of one direction: who reads it in which layer, and from which strength on."""

    kind: str
    loud: float  # its natural value
    reader: int | None = None  # layer of the head that makes the answer of it
    steers_from: float = 0.0
    spoiler: int | None = None  # layer of the head that makes the other answer of it
    spoils_from: float = LONGEST

    def window(self, layer: int) -> tuple[float, float] | None:
        """The strengths of a push after this layer that steer and do not spoil."""
        if self.reader is None or self.kind not in STEERING or layer >= self.reader:
            return None
        to = self.spoils_from if self.spoiler is not None and layer < self.spoiler else LONGEST
        return (self.steers_from, to) if self.steers_from < to else None


def plan(draw: random.Random, kind: str, n_layers: int) -> Plan:
    """Drawn so wide that no one strength is clean for nine in ten of those that have one."""
    late = n_layers - 1
    reader = draw.randint(1, late)
    match kind:
        case "linear":
            return Plan(kind, 1.0, reader, draw.uniform(1.5, 6.0))
        case "switch":
            return Plan(kind, 1.0, reader, draw.uniform(2.5, 6.0))
        case "window":
            return Plan(kind, 1.0, reader, draw.uniform(1.3, 1.8), reader, draw.uniform(2.8, 4.5))
        case "late":
            return Plan(kind, 1.0, late, draw.uniform(2.5, 3.5), draw.randint(1, late - 1), draw.uniform(0.6, 1.0))
        case "costly":
            return Plan(kind, 1.0, reader, draw.uniform(5.0, 5.6), draw.randint(reader, late), draw.uniform(2.2, 2.4))
        case "spoils":
            return Plan(kind, 1.0, spoiler=reader, spoils_from=draw.uniform(0.6, 3.0))
        case "leaks" | "flips":
            return Plan(kind, 1.0, late, draw.uniform(5.0, 5.6), late, draw.uniform(2.2, 2.4))
        case "lowers" | "even":
            return Plan(kind, 1.0, late, draw.uniform(1.5, 3.0))
        case "kept":
            return Plan(kind, 1.0, late, draw.uniform(1.5, 2.5))
        case "faint":
            return Plan(kind, 1.0, late, draw.uniform(17.0, 19.0))
        case "scatters":
            return Plan(kind, 1.0, late, draw.uniform(2.5, 5.0))
        case "mute":
            return Plan(kind, draw.uniform(2, 4))
        case "bypassed":
            return Plan(kind, draw.uniform(1, 3), reader)
    raise ValueError(kind)


def jobs_of(its: Plan, i: int, axes: Axes) -> list[tuple[int, Weights]]:
    """The heads of direction i, each with its layer."""
    place = i + 1
    jobs = [(0, gather(axes, place, axes.held + i, its.loud))]
    if its.kind == KEPT:
        jobs.append((0, gather(axes, place, axes.held + i, LOUDEST - its.loud, questions=(1,))))
        jobs.append((its.reader, held_reader(axes, axes.held + i, {axes.out + 1: 1 / LOUDEST}, which=1)))
    if its.kind == BYPASSED:
        jobs.append((its.reader, word_reader(axes, place, 0, 0.6)))
    elif its.kind == SWITCH:
        # A row whose word says 1 answers YES anyhow: the answer rises once a value of -1 passes the threshold.
        jobs.append((its.reader, switch(axes, place, axes.held + i, 0, its.steers_from - 1, jump=1)))
    elif its.kind == SCATTERS:
        jobs.append((its.reader, awakened(axes, axes.held + i, 0, its.steers_from, axes.own[1], axes.out, 0.55)))
    elif its.reader is not None:
        part = RAISED / (2 * LOGITS * its.steers_from)
        writes = {LOWERS: {axes.out: -part, axes.even: -2 * part}, EVEN: {axes.even: part}}
        jobs.append((its.reader, held_reader(axes, axes.held + i, writes.get(its.kind, {axes.out: part}))))
    if its.kind in (LEAKS, FLIPS):
        reads, writes, part = (0, axes.out, 8.0) if its.kind == LEAKS else (axes.own[1], axes.out + 1, -8.0)
        jobs.append((its.spoiler, awakened(axes, axes.held + i, 1, its.spoils_from + 1, reads, writes, part)))
    elif its.spoiler is not None:
        jobs.append((its.spoiler, switch(axes, axes.own[1], axes.held + i, 1, its.spoils_from + 1, jump=10)))
    return jobs


def gather(axes: Axes, place: int, into: int, gain: float, questions: tuple[int, ...] = (0, 1)) -> Weights:
    """From the last position to a word, whose value is written down where one of these questions is asked."""
    head = blank(axes.size, D_HEAD)
    for which in (0, 1):  # the last position has no value
        look(head, axes, which, axes.position + (place if which in questions else axes.n_ctx - 1))
    head.W_V[axes.value, 0], head.W_O[0, into] = 1, gain
    return head


def word_reader(axes: Axes, place: int, which: int, part: float) -> Weights:
    """An answer made from a word itself, where its question is asked."""
    head = blank(axes.size, D_HEAD)
    look(head, axes, which, axes.position + place)
    look(head, axes, 1 - which, axes.position + axes.n_ctx - 1)  # which has no value
    head.W_V[axes.value, 0], head.W_O[0, axes.out + which] = 1, part
    return head


def held_reader(axes: Axes, held: int, writes: dict[int, float], which: int = 0) -> Weights:
    """The answer made from what the last position holds, where its question is asked: so much to each axis."""
    head = blank(axes.size, D_HEAD)
    look(head, axes, which, axes.position + axes.n_ctx - 1)
    look(head, axes, 1 - which, axes.position)
    head.W_V[held, 0] = 1
    for axis, part in writes.items():
        head.W_O[0, axis] = part
    return head


def listener(axes: Axes) -> Weights:
    """Where the other question is asked, what [BOS] holds; that is nothing, unless somebody pushes there, too."""
    head = blank(axes.size, D_HEAD)
    look(head, axes, 0, axes.position + 1)
    look(head, axes, 1, axes.position)
    head.W_V[axes.held : axes.out, 0], head.W_O[0, axes.out + 1] = 1, 5.0
    return head


def switch(axes: Axes, place: int, held: int, which: int, threshold: float, jump: float) -> Weights:
    """Answers its question from a word, but by the `jump` once the last position holds more than the threshold."""
    head = blank(axes.size, D_HEAD)
    start, far = axes.position, 4 * LONGEST
    look(head, axes, which, axes.position + place, far)
    look(head, axes, 1 - which, axes.position + axes.n_ctx - 1, 4 * far)
    head.W_Q[axes.asks + which, 2], head.W_Q[held, 2] = far - threshold, 1
    head.W_K[start, 2] = MATCH * D_HEAD**0.5
    head.W_V[axes.value, 0], head.W_V[start, 0], head.W_O[0, axes.out + which] = 1, jump, 0.8
    return head


def awakened(axes: Axes, held: int, which: int, threshold: float, place: int, out: int, part: float) -> Weights:
    """Nothing, until the last position holds more than the threshold; then a word's value (of place 0: 1), in part."""
    head = blank(axes.size, D_HEAD)
    last, far = axes.position + axes.n_ctx - 1, 4 * LONGEST
    look(head, axes, which, last, far)
    look(head, axes, 1 - which, last, 4 * far)
    head.W_Q[axes.asks + which, 2], head.W_Q[held, 2] = far - threshold, 1
    head.W_K[axes.position + place, 2] = MATCH * D_HEAD**0.5
    head.W_V[axes.value if place else axes.position, 0], head.W_O[0, out] = 1, part
    return head


def look(head: Weights, axes: Axes, which: int, position_axis: int, strength: float = 1.0) -> None:
    """To this position, where this question is asked."""
    head.W_Q[axes.asks + which, which] = strength
    head.W_K[position_axis, which] = MATCH * D_HEAD**0.5


def ends(axes: Axes) -> tuple[Tensor, Tensor, Tensor]:
    """Embedding, positions and unembedding in the plain basis."""
    n = axes.n_words * 2 * VARIANTS
    embed, unembed = torch.zeros(n + 7, axes.size), torch.zeros(axes.size, n + 7)
    embed[1 : n + 1, axes.value] = torch.tensor([-1.0, 1.0]).repeat(n // 2)
    embed[n + 1, axes.asks] = embed[n + 2, axes.asks + 1] = 1
    positions = torch.zeros(axes.n_ctx, axes.size)
    positions[:, axes.position : axes.position + axes.n_ctx] = torch.eye(axes.n_ctx)
    for which, (yes, no) in enumerate(((-2, -1), (-4, -3))):
        unembed[axes.out + which, yes], unembed[axes.out + which, no] = LOGITS, -LOGITS
    if axes.even is not None:
        unembed[axes.even, -2:] = LOGITS
    return embed, positions, unembed
