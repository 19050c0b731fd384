"""Points for an account of a mystery model's inside: how far it beats whoever only watches what the model says."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from concrete_steps.errors import CourseError
from concrete_steps.mystery import edits
from concrete_steps.mystery.questions import KINDS, Account, Question, questions
from concrete_steps.mystery.rows import kept, unusual

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

WATCHED = 2_000  # unusual rows that a watcher sees answered


@dataclass(frozen=True)
class Score:
    """How an account did.

    Attributes:
        right: by kind, the mean share of rows that it predicts, over questions.
        watcher: by kind, the share that the best watcher of outputs reaches on the same questions, chosen afterwards.
        points: by kind, from 0 to 100: (right - watcher) / (1 - watcher), and nothing below 0.
        by_question: what was asked ("swap L0H1") and the share of rows predicted.
    """

    right: dict[str, float]
    watcher: dict[str, float]
    points: dict[str, float]
    by_question: tuple[tuple[str, float], ...]

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
        CourseError: the account runs a model, or its answer is not one value for each row.
    """
    shares: dict[str, list[float]] = {kind: [] for kind in KINDS}
    by_question = []
    for question, truth in questions(name, seed):
        with _no_model():
            said = account(question)
        share = _share(said, truth, question)
        shares[question.kind].append(share)
        by_question.append((_named(question), share))
    right = {kind: sum(its) / len(its) for kind, its in shares.items()}
    best = {kind: max(watched(name, seed)[kind].values()) for kind in KINDS}
    points = {kind: 100 * max(0.0, (right[kind] - best[kind]) / max(1 - best[kind], 1e-6)) for kind in KINDS}
    return Score(right, best, points, tuple(by_question))


def watchers(name: str, question: Question) -> dict[str, Tensor]:
    """What watchers of outputs answer, by what they go by. They run the model as it is, as often as they like.

    For a swap: nothing changes; the source's answer; what the model says to a row in which one position, or one half,
    is the source's. For a removal: always, never. For what breaks: never, and a logistic regression on the letters at
    their places, fitted to 2,000 unusual rows of which the watcher saw the model's answers and the rule's.
    """
    import torch

    if question.kind == "breaks":
        n = len(question.tokens)
        return {"never": torch.zeros(n, dtype=torch.bool), "letters": _from_letters(name, question.tokens)}
    if question.kind == "remove":
        return {way: torch.full_like(question.says, way == "always", dtype=torch.bool) for way in ("never", "always")}
    found = {"nothing changes": question.says, "the source's": question.source_says}
    places = question.tokens.shape[1] - 1
    spans = {f"place {place}": [place] for place in range(places)}
    spans |= {"first half": list(range(places // 2)), "second half": list(range(places // 2, places))}
    for way, span in spans.items():
        mixed = question.tokens.clone()
        mixed[:, span] = question.source[:, span]
        found[way] = edits.answers(kept(name), mixed)
    return found


@functools.lru_cache(maxsize=32)
def watched(name: str, seed: int) -> dict[str, dict[str, float]]:
    """By kind, the mean share of rows that each watcher has right, over the questions of this seed."""
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
    for question, truth in questions(name, seed):
        for way, its in watchers(name, question).items():
            found[question.kind].setdefault(way, []).append(_share(its, truth, question))
    return {kind: {way: sum(its) / len(its) for way, its in ways.items()} for kind, ways in found.items()}


def _from_letters(name: str, tokens: Tensor) -> Tensor:
    import torch

    fitted = _fitted(name)
    if fitted is None:
        return torch.zeros(len(tokens), dtype=torch.bool)
    return torch.as_tensor(fitted.predict(_one_hot(tokens, kept(name).cfg.d_vocab)))


@functools.cache
def _fitted(name: str):
    """A logistic regression that says from the letters what breaks the model; None where the watcher saw no case."""
    from sklearn.linear_model import LogisticRegression

    tokens, plain = unusual(name, WATCHED, seed=31)
    broken = edits.answers(kept(name), tokens) != plain
    if broken.all() or not broken.any():
        return None
    regression = LogisticRegression(class_weight="balanced", max_iter=1000)
    return regression.fit(_one_hot(tokens, kept(name).cfg.d_vocab), broken.numpy())


def _one_hot(tokens: Tensor, d_vocab: int) -> Float[Tensor, "row feature"]:
    import torch

    return torch.nn.functional.one_hot(tokens, d_vocab).flatten(1).float().numpy()


def _share(said: Tensor, truth: Tensor, question: Question) -> float:
    import torch

    what = "a letter" if question.kind == "swap" else "True or False"
    if not isinstance(said, torch.Tensor) or said.shape != truth.shape or said.is_floating_point():
        given = f"a tensor of shape {list(said.shape)}, {said.dtype}" if hasattr(said, "shape") else repr(said)[:60]
        raise CourseError(f"{_named(question)}: give {what} for each of {len(truth)} rows, in a tensor; not {given}.")
    if (said.dtype == torch.bool) != (truth.dtype == torch.bool):
        raise CourseError(f"{_named(question)}: the answer is {what} for each row, not {said.dtype}.")
    return (said == truth).float().mean().item()


def _named(question: Question) -> str:
    return " ".join([question.kind, *(f"L{layer}H{head}" for layer, head in question.heads)])


@contextlib.contextmanager
def _no_model() -> Iterator[None]:
    """Inside, a model that is run says that predictions come first."""
    import torch
    from transformer_lens.model_bridge import TransformerBridge

    def refuse(module: torch.nn.Module, inputs: tuple) -> None:
        if isinstance(module, TransformerBridge):
            raise CourseError("An account predicts before the model runs: it may not run a model itself.")

    handle = torch.nn.modules.module.register_module_forward_pre_hook(refuse)
    try:
        yield
    finally:
        handle.remove()
