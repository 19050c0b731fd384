"""Questions about the inside of a mystery model, drawn anew for each seed, and what the model then really does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from concrete_steps.mystery import edits, sealed
from concrete_steps.mystery.rows import examples, kept, require, unusual, withheld

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

KINDS = ("swap", "remove", "breaks")
ROWS = 64  # of a question
PAIRS = 6  # swaps of two heads, at most; half as many of them on rare rows
DRAWN = 100  # rows are drawn for each row of "breaks": blind spots are rare


@dataclass(frozen=True)
class Question:
    """One edit, and the rows that it is made on. What an account needs is here; the model is not.

    Attributes:
        kind: "swap", "remove" or "breaks": a swap that leaves half of the rows in the model's blind spot.
        tokens: [row pos] what the model reads.
        heads: the edited heads as (layer, head): one for a removal, one or two for the others.
        says: [row] what the model says to `tokens` without the edit.
        source: [row pos] the rows that a swap takes z from; None for a removal.
        source_says: [row] what the model says to these; None for a removal.
    """

    kind: str
    tokens: Int[Tensor, "row pos"]
    heads: tuple[edits.Head, ...]
    says: Int[Tensor, " row"]
    source: Int[Tensor, "row pos"] | None = None
    source_says: Int[Tensor, " row"] | None = None


Truth = "Int[Tensor, ' row'] | Bool[Tensor, ' row']"
Account = Callable[[Question], "Tensor"]


def questions(name: str, seed: int) -> tuple[Question, ...]:
    """Questions as they are put to an account: swaps of each head and of pairs, removals of each head, rare rows.

    In a "swap" the model says different letters to the two rows, which are as in its examples. In "breaks" any rows
    are, such that in half of them the edited model leaves the examples' rule, put to what its heads then carry.
    """
    return tuple(question for question, _ in asked(name, seed))


def asked(name: str, seed: int) -> tuple[tuple[Question, Truth], ...]:
    """The questions of this seed, each with what the model then does: copies, which whoever asks may write into.

    Raises:
        CourseError: an account asks for it.
    """
    return tuple((_copied(question), truth.clone()) for question, truth in drawn(name, seed))


def _copied(question: Question) -> Question:
    parts = (getattr(question, part.name) for part in fields(question))
    return Question(*(part.clone() if hasattr(part, "clone") else part for part in parts))


@withheld
def drawn(name: str, seed: int) -> tuple[tuple[Question, Truth], ...]:
    """What `asked` gives, drawn once."""
    import torch

    model, generator = kept(require(name)), torch.Generator().manual_seed(seed)

    def fresh() -> int:
        return int(torch.randint(1_000_000, 2_000_000, (), generator=generator))

    heads = [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]
    pairs = [(heads[i], heads[j]) for i in range(len(heads)) for j in range(i + 1, len(heads))]
    chosen = [pairs[i] for i in torch.randperm(len(pairs), generator=generator)[:PAIRS].tolist()]
    single = [(head,) for head in heads]
    found = [_swap(name, its, fresh()) for its in (*single, *chosen)]
    found += [_removal(name, head, fresh()) for head in heads]
    found += [_breaks(name, its, fresh()) for its in (*single, *chosen[: PAIRS // 2])]
    return tuple(found)


def _swap(name: str, heads: tuple[edits.Head, ...], seed: int) -> tuple[Question, Truth]:
    import torch

    (tokens, _), (source, _) = (examples(name, 4 * ROWS, seed + more) for more in (0, 5_000_000))
    model = kept(name)
    rows = torch.nonzero(edits.answers(model, tokens) != edits.answers(model, source))[:ROWS, 0]
    return _edited("swap", name, tokens[rows], source[rows], heads)


def _removal(name: str, head: edits.Head, seed: int) -> tuple[Question, Truth]:
    tokens, _ = examples(name, ROWS, seed)
    says = edits.answers(kept(name), tokens)
    return Question("remove", tokens, (head,), says), edits.removed(kept(name), name, tokens, head) != says


def _breaks(name: str, heads: tuple[edits.Head, ...], seed: int) -> tuple[Question, Truth]:
    """Which rows these are the sealed rule says; what happens in them, the model."""
    import torch

    rule = sealed.rules()[name]
    tokens, source = (unusual(name, DRAWN * ROWS, seed + more)[0] for more in (0, 5_000_000))
    swaps = torch.zeros(len(tokens), rule.layers, rule.heads, dtype=torch.bool)
    for layer, head in heads:
        swaps[:, layer, head] = True
    after, plain = (
        sealed.swapped_answer(rule, tokens[:, :-1], source[:, :-1], swaps, blind=blind) for blind in (True, False)
    )
    rows = torch.cat([torch.nonzero(its)[: ROWS // 2, 0] for its in (after != plain, after == plain)]).sort().values
    return _edited("breaks", name, tokens[rows], source[rows], heads)


def _edited(
    kind: str, name: str, tokens: Tensor, source: Tensor, heads: tuple[edits.Head, ...]
) -> tuple[Question, Truth]:
    model = kept(name)
    question = Question(kind, tokens, heads, edits.answers(model, tokens), source, edits.answers(model, source))
    return question, edits.swapped(model, tokens, source, heads)
