"""Points for an account of a mystery model's inside: how far it beats whoever only watches what the model says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from concrete_steps.errors import CourseError
from concrete_steps.models import shipped
from concrete_steps.mystery import edits
from concrete_steps.mystery.held import MOST, held
from concrete_steps.mystery.questions import KINDS, Account, Question, asked
from concrete_steps.mystery.rows import PREDICTS, kept, require, withheld

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Score:
    """How an account did.

    Attributes:
        right: by kind, the mean share of rows that it predicts, over questions.
        watcher: by kind, the share that the best watcher of outputs reaches on the same questions, chosen afterwards.
        points: by kind, from 0 to 100: (right - watcher) / (1 - watcher), and nothing below 0.
        by_question: what was asked ("swap L0H1") and the share of rows predicted.
        slips: for each question the first row that was predicted wrongly, in words; "" if there is none.
    """

    right: dict[str, float]
    watcher: dict[str, float]
    points: dict[str, float]
    by_question: tuple[tuple[str, float], ...]
    slips: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """Mean of the points of the three kinds."""
        return sum(self.points.values()) / len(self.points)

    def __str__(self) -> str:
        kinds = (
            f"{kind} {self.right[kind]:.2f} (watcher {self.watcher[kind]:.2f}): {self.points[kind]:.0f}"
            for kind in self.points
        )
        return f"{self.total:.0f} points; " + ", ".join(kinds)


def score(name: str, account: Account, seed: int) -> Score:
    """Put fresh questions to an account, and compare it with what the model does and with the best watcher.

    Raises:
        CourseError: the account holds more numbers than an explanation needs, it runs a model, or its answer is not one
            value for each row.
    """
    _require_short(account)
    shares: dict[str, list[float]] = {kind: [] for kind in KINDS}
    by_question, slips = [], []
    for question, truth in asked(name, seed):
        with _no_model():
            said = account(question)
        share = _share(said, truth, question)
        shares[question.kind].append(share)
        by_question.append((_named(question), share))
        slips.append(_slip(question, said, truth))
    right = {kind: sum(its) / len(its) for kind, its in shares.items()}
    best = {kind: max(watched(name, seed)[kind].values()) for kind in KINDS}
    points = {kind: 100 * max(0.0, (right[kind] - best[kind]) / max(1 - best[kind], 1e-6)) for kind in KINDS}
    return Score(right, best, points, tuple(by_question), tuple(slips))


def watchers(name: str, question: Question) -> dict[str, Tensor]:
    """What watchers of outputs answer, by what they go by. They run the model as it is, as often as they like.

    For a removal: always, never. Else: nothing changes; the source's answer; what the model says to a row in which one
    position, or one half, is the source's; the same letter to all rows.
    """
    import torch

    if question.kind == "remove":
        return {way: torch.full_like(question.says, way == "always", dtype=torch.bool) for way in ("never", "always")}
    found = {"nothing changes": question.says, "the source's": question.source_says}
    places = question.tokens.shape[1] - 1
    spans = {f"place {place}": [place] for place in range(places)}
    spans |= {"first half": list(range(places // 2)), "second half": list(range(places // 2, places))}
    for way, span in spans.items():
        mixed = question.tokens.clone()
        mixed[:, span] = question.source[:, span]
        found[way] = edits.answers(kept(require(name)), mixed)
    letters = kept(name).cfg.d_vocab_out
    return found | {f"always {letter}": torch.full_like(question.says, letter) for letter in range(letters)}


@withheld
def watched(name: str, seed: int) -> dict[str, dict[str, float]]:
    """By kind, the mean share of rows that each watcher has right, over the questions of this seed."""
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
    for question, truth in asked(name, seed):
        for way, its in watchers(name, question).items():
            found[question.kind].setdefault(way, []).append(_share(its, truth, question))
    return {kind: {way: sum(its) / len(its) for way, its in ways.items()} for kind, ways in found.items()}


def _require_short(account: Account) -> None:
    numbers = held(account)
    total, largest = sum(numbers.values()), max(numbers, key=numbers.get, default="")
    if total > MOST:
        raise CourseError(
            f"The account holds {total:,} numbers, {numbers[largest]:,} of them in {largest}; {MOST} are allowed. Say "
            "what the model does in fewer: a copy of its answers explains nothing."
        )


def _share(said: Tensor, truth: Tensor, question: Question) -> float:
    import torch

    what = "True or False" if question.kind == "remove" else "a letter"
    if not isinstance(said, torch.Tensor) or said.shape != truth.shape or said.is_floating_point():
        tensor = isinstance(said, torch.Tensor)
        given = f"a tensor of shape {list(said.shape)}, {said.dtype}" if tensor else _kind(said)
        raise CourseError(f"{_named(question)}: give {what} for each of {len(truth)} rows, in a tensor; not {given}.")
    if (said.dtype == torch.bool) != (truth.dtype == torch.bool):
        raise CourseError(f"{_named(question)}: the answer is {what} for each row, not {said.dtype}.")
    return (said == truth).float().mean().item()


def _kind(said: object) -> str:
    if said is None:
        return "None (is a return missing?)"
    return f"{type(said).__module__.partition('.')[0]}'s {type(said).__name__}".removeprefix("builtins's ")


def _slip(question: Question, said: Tensor, truth: Tensor) -> str:
    wrong = (said != truth).nonzero()
    if not len(wrong):
        return ""
    row = int(wrong[0])
    seen = f"{_named(question)}, row {_letters(question.tokens[row])}"
    if question.kind == "remove":
        does, yours = ("changes", "stays") if truth[row] else ("stays", "changes")
        return f"{seen}: unedited the model says {question.says[row]}, edited that {does}; you say it {yours}"
    alone = f"unedited the model says {question.says[row]}, to the source {question.source_says[row]}"
    return f"{seen}, source {_letters(question.source[row])}: {alone}; edited {truth[row]}, and you say {said[row]}"


def _letters(row: Tensor) -> str:
    return " ".join(str(letter) for letter in row[:-1].tolist())


def _named(question: Question) -> str:
    return " ".join([question.kind, *(f"L{layer}H{head}" for layer, head in question.heads)])


@contextlib.contextmanager
def _no_model() -> Iterator[None]:
    """Inside, a model that is run, whole or in parts, or loaded says that predictions come first."""
    import torch

    def refuse(module: torch.nn.Module, inputs: tuple) -> None:
        if type(module).__module__.startswith("transformer_lens"):
            raise CourseError(PREDICTS)

    handle = torch.nn.modules.module.register_module_forward_pre_hook(refuse)
    shipped.withheld.append(PREDICTS)
    try:
        yield
    finally:
        shipped.withheld.pop()
        handle.remove()
