"""Questions about the inside of a mystery model, drawn anew for each seed, and what the model then really does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from concrete_steps.mystery import edits
from concrete_steps.mystery.rows import examples, kept, require, unusual

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

KINDS = ("swap", "remove", "breaks")
ROWS = 64  # of a question
PAIRS = 6  # swaps of two heads, at most


@dataclass(frozen=True)
class Question:
    """One edit, and the rows that it is made on. What an account needs is here; the model is not.

    Attributes:
        kind: "swap", "remove" or "breaks".
        tokens: [row pos] what the model reads.
        heads: the edited heads as (layer, head): one or two for a swap, one for a removal, none for "breaks".
        says: [row] what the model says to `tokens` without the edit; None for "breaks".
        source: [row pos] the rows that a swap takes z from; else None.
        source_says: [row] what the model says to these; else None.
    """

    kind: str
    tokens: Int[Tensor, "row pos"]
    heads: tuple[edits.Head, ...] = ()
    says: Int[Tensor, " row"] | None = None
    source: Int[Tensor, "row pos"] | None = None
    source_says: Int[Tensor, " row"] | None = None


Truth = "Int[Tensor, ' row'] | Bool[Tensor, ' row']"
Account = Callable[[Question], "Tensor"]


@functools.lru_cache(maxsize=16)
def questions(name: str, seed: int) -> tuple[tuple[Question, Truth], ...]:
    """Questions and what the model does: swaps of each head and of pairs, removals of each head, and unusual rows.

    In a swap the model says different letters to the two rows. Of the rows of "breaks" half break the model.
    """
    import torch

    model, generator = kept(require(name)), torch.Generator().manual_seed(seed)

    def fresh() -> int:
        return int(torch.randint(1_000_000, 2_000_000, (), generator=generator))

    heads = [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]
    pairs = [(heads[i], heads[j]) for i in range(len(heads)) for j in range(i + 1, len(heads))]
    chosen = [pairs[i] for i in torch.randperm(len(pairs), generator=generator)[:PAIRS].tolist()]
    asked = [_swap(name, its, fresh()) for its in [*((head,) for head in heads), *chosen]]
    asked += [_removal(name, head, fresh()) for head in heads]
    return *asked, _breaks(name, fresh())


def _swap(name: str, heads: tuple[edits.Head, ...], seed: int) -> tuple[Question, Truth]:
    import torch

    (tokens, _), (source, _) = (examples(name, 4 * ROWS, seed + more) for more in (0, 5_000_000))
    model = kept(name)
    says, source_says = edits.answers(model, tokens), edits.answers(model, source)
    rows = torch.nonzero(says != source_says)[:ROWS, 0]
    question = Question("swap", tokens[rows], heads, says[rows], source[rows], source_says[rows])
    return question, edits.swapped(model, question.tokens, question.source, heads)


def _removal(name: str, head: edits.Head, seed: int) -> tuple[Question, Truth]:
    tokens, _ = examples(name, ROWS, seed)
    says = edits.answers(kept(name), tokens)
    return Question("remove", tokens, (head,), says), edits.removed(kept(name), name, tokens, head) != says


def _breaks(name: str, seed: int) -> tuple[Question, Truth]:
    import torch

    tokens, plain = unusual(name, 40 * ROWS, seed)
    broken = edits.answers(kept(name), tokens) != plain
    rows = torch.cat([torch.nonzero(its)[: ROWS // 2, 0] for its in (broken, ~broken)]).sort().values
    return Question("breaks", tokens[rows]), broken[rows]
