"""Heads that read what other heads wrote, by queries, keys or values: the open task of notebook 3.5.

    model, truth = wired.compositions(seed=0, noise=0.02)
    truth.edges                 # {((0, 2), (1, 4), "k"), ...}: writer, reader, and which input of the reader

A triple is an edge just when taking the writer out of this one input of the reader can change a logit. Decoys have
weights that match as well, and carry nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from concrete_steps.errors import CourseError
from concrete_steps.wired import heads as wiring
from concrete_steps.wired.build import add_noise, hide, stream_ends, to_bridge
from concrete_steps.wired.heads import Spaces, Weights
from concrete_steps.wired.truth import COPY_GAIN, OUT_GAIN, Edge, Head

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

PARTS = ("q", "k", "v")
CHAIN = "chain"  # a writer whose note a second head moves on, and a third looks for
HOLLOW, MUTE, DEAF, UNREAD, LATE = "hollow writer", "mute reader", "deaf reader", "unread writer", "late writer"
MISLEADING = (HOLLOW, MUTE, DEAF, UNREAD, LATE)
TRIES = 30_000  # one placement in 400 fits the defaults: of a thousand seeds not one may stay without


@dataclass(frozen=True)
class CompositionTruth:
    """Which head composes with which, and how.

    Attributes:
        roles: what each head was made as.
        edges: (writer, reader, part), part being "q", "k" or "v".
        n_tokens: ordinary tokens have the ids 1 .. n_tokens; 0 is [BOS].
    """

    roles: dict[Head, str]
    edges: frozenset[Edge]
    n_tokens: int
    n_ctx: int


@dataclass(frozen=True)
class _Job:
    """One head's role, the note that it writes or reads, and the note that it passes on."""

    role: str
    note: int = 0
    into: int = 0


def compositions(
    seed: int,
    *,
    n_layers: int = 3,
    n_heads: int = 6,
    n_tokens: int = 8,
    n_ctx: int = 16,
    circuits: tuple[str, ...] = (*PARTS, CHAIN),
    decoys: tuple[str, ...] = MISLEADING,
    rotate: bool = True,
    noise: float = 0.0,
) -> tuple[TransformerBridge, CompositionTruth]:
    """A model whose heads read each other's notes, at random places, and the truth about it.

    Args:
        circuits: in "q", "k" and "v" a head notes the token before, and a later one reads the note by this input;
            "chain" needs three layers. Each has a note of its own.
        decoys: a hollow writer has an output that a real reader reads, and reads nothing itself; a mute reader writes
            where nobody reads; a deaf reader has keys for a note and queries for nothing; an unread writer's note
            nobody reads; a late writer writes a note in its reader's layer, or after it.
        rotate, noise: as in `build`.

    Raises:
        CourseError: for a circuit or decoy that is not known, and where the heads do not fit into the layers.
    """
    draw = random.Random(f"compositions {seed}")
    generator = torch.Generator().manual_seed(draw.getrandbits(31))
    unknown = [name for name in (*circuits, *decoys) if name not in (*PARTS, CHAIN, *MISLEADING)]
    if unknown:
        raise CourseError(f"There is no {unknown[0]!r}: use {', '.join((*PARTS, CHAIN, *MISLEADING))}.")
    n_notes = len(circuits) + circuits.count(CHAIN)
    spaces = Spaces(n_tokens, n_ctx, n_notes + 1)  # the last note is never written
    layout, edges = _place(draw, n_layers, n_heads, circuits, decoys)
    d_head = wiring.needed_d_head(n_tokens, n_ctx)
    grid = {}
    for place in [(layer, head) for layer in range(n_layers) for head in range(n_heads)]:
        grid[place] = wiring.blank(spaces.size, d_head)
        _write(grid[place], spaces, layout.get(place, _Job("idle")), draw, generator)
    ends = stream_ends(spaces.size, spaces)
    if rotate:
        ends = hide(grid, *ends, generator)
    if noise:
        add_noise(grid, list(ends), noise, generator)
    model = to_bridge(grid, *ends, n_layers, n_heads)
    roles = {place: layout[place].role if place in layout else "idle" for place in grid}
    return model, CompositionTruth(roles, frozenset(edges), n_tokens, n_ctx)


def _place(draw, n_layers, n_heads, circuits, decoys) -> tuple[dict[Head, _Job], set[Edge]]:
    """Where each head stands; a writer in a layer before its reader."""
    for _ in range(TRIES):
        free = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
        draw.shuffle(free)
        layout: dict[Head, _Job] = {}
        edges: set[Edge] = set()
        readers: list[tuple[Head, int]] = []
        try:
            _circuits(layout, edges, readers, free, circuits)
            _decoys(layout, readers, free, decoys, draw)
        except (IndexError, StopIteration):  # too few heads are left
            continue
        if all(writer[0] < reader[0] for writer, reader, _ in edges):
            return layout, edges
    raise CourseError(f"{n_layers} layers of {n_heads} heads do not hold these circuits and decoys: give more heads.")


def _circuits(layout, edges, readers, free, circuits) -> None:
    note = 0
    for circuit in circuits:
        writer = free.pop()
        layout[writer] = _Job("previous", into=note)
        if circuit == CHAIN:
            middle = free.pop()
            layout[middle] = _Job("passes on", note, into=note + 1)
            edges.add((writer, middle, "v"))
            readers.append((middle, note))
            writer, note = middle, note + 1
        reader, part = free.pop(), "k" if circuit == CHAIN else circuit
        layout[reader] = _Job(f"reads by {part}", note)
        edges.add((writer, reader, part))
        readers.append((reader, note))
        note += 1


def _decoys(layout, readers, free, decoys, draw) -> None:
    for decoy in decoys:
        reader, note = draw.choice(readers) if readers else ((1, 0), 0)
        if decoy == HOLLOW:
            place = _take(free, lambda layer, before=reader[0]: layer < before)
            layout[place] = _Job(decoy, into=note)
        elif decoy == LATE:
            last = max(its[0] for its, of in readers if of == note) if readers else 1
            place = _take(free, lambda layer, last=last: layer >= last)
            layout[place] = _Job(decoy, into=note)
        elif decoy in (MUTE, DEAF):
            layout[_take(free, lambda layer: layer > 0)] = _Job(decoy, note)
        else:
            layout[free.pop()] = _Job(decoy)


def _take(free: list[Head], allowed) -> Head:
    """The first free place in such a layer, which is then no longer free."""
    place = next(place for place in free if allowed(place[0]))
    free.remove(place)
    return place


def _write(head: Weights, spaces: Spaces, job: _Job, draw, generator) -> None:
    """One head's matrices for its role."""
    n, note, void = spaces.n_tokens, spaces.previous[job.note], spaces.previous[-1]
    match job.role:
        case "previous" | "late writer":
            wiring.look_back(head, spaces, 1)
            wiring.copy_token(head, spaces, spaces.previous[job.into], 1.0)
        case "unread writer":
            wiring.look_back(head, spaces, 1)
            wiring.copy_token(head, spaces, spaces.junk, 1.0)
        case "hollow writer":
            wiring.look_back(head, spaces, 1)
            _move(head, void, spaces.previous[job.into], n, 1.0)
        case "passes on":
            wiring.look_back(head, spaces, draw.randint(1, 2))
            _move(head, note, spaces.previous[job.into], n, 1.0)
        case "reads by k" | "mute reader":
            wiring.look_for_token(head, spaces, note)
            wiring.copy_token(head, spaces, spaces.junk if job.role == MUTE else spaces.out, 1.0)
        case "reads by q":
            head.W_Q[note, :n] = torch.eye(n)
            head.W_K[spaces.words, :n] = torch.eye(n) * wiring.strength(head)
            wiring.rest_on_bos(head, spaces, axis=head.W_Q.shape[1] - 1, share=0.5)
            wiring.copy_token(head, spaces, spaces.out, 1.0)
        case "reads by v":
            wiring.look_back(head, spaces, draw.randint(1, 3))
            _move(head, note, spaces.out, n, 1.0)
        case "deaf reader":
            head.W_Q[void, :n] = torch.eye(n)
            head.W_K[note, :n] = torch.eye(n) * wiring.strength(head)
            wiring.copy_token(head, spaces, spaces.out, COPY_GAIN / OUT_GAIN)
        case "idle":
            reads = slice(spaces.token.start, spaces.position.stop)
            for matrix in (head.W_Q, head.W_K):
                matrix[reads] = 2 * torch.randn(matrix[reads].shape, generator=generator)
            wiring.copy_token(head, spaces, spaces.junk, 1.0)
        case _:
            raise ValueError(job.role)


def _move(head: Weights, source: slice, into: slice, n: int, gain: float) -> None:
    """Reads one space and writes it into another."""
    head.W_V[source, :n] = torch.eye(n)
    head.W_O[:n, into] = gain * torch.eye(n)
