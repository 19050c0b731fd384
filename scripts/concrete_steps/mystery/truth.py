"""For maintainers: points of the sealed rule, of the best one-line heuristic, of watchers and of copies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from concrete_steps.mystery import copies, edits, sealed
from concrete_steps.mystery.held import MOST
from concrete_steps.mystery.questions import Account, Question
from concrete_steps.mystery.rows import NAMES, examples, kept, require
from concrete_steps.mystery.scoring import score, watched

if TYPE_CHECKING:
    from torch import Tensor

OTHERS = 24  # rows whose values a removed head may stand for


def sealed_account(name: str) -> Account:
    """The account that the sealed rule gives: what remains of it is what training did not achieve.

    A removed head stands for some value, the rule does not say which. So: do most of the values change the answer?
    """
    rule, (others, _) = sealed.rules()[require(name)], examples(name, OTHERS, seed=77)

    def account(question: Question) -> Tensor:
        letters = question.tokens[:, :-1]
        if question.kind != "remove":
            return after_swap(name, question.tokens, question.source, question.heads)
        changed = [
            after_swap(name, question.tokens, other.expand_as(question.tokens), question.heads) != rule.answer(letters)
            for other in others
        ]
        return sum(each.float() for each in changed) > len(changed) / 2

    return account


def after_swap(name: str, tokens: Tensor, source: Tensor, heads: Iterable[edits.Head], blind: bool = True) -> Tensor:
    """What the sealed rule says after the swap."""
    import torch

    rule = sealed.rules()[name]
    swaps = torch.zeros(len(tokens), rule.layers, rule.heads, dtype=torch.bool)
    for layer, head in heads:
        swaps[:, layer, head] = True
    return sealed.swapped_answer(rule, tokens[:, :-1], source[:, :-1], swaps, blind)


def _heads(name: str) -> list[edits.Head]:
    model = kept(name)
    return [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]


def heuristic(name: str, seed: int = 5) -> Account:
    """One line: a head that matters brings the source's answer, and its removal changes all; no other does anything.

    Whether a head matters was measured: swaps of it change more than half of the answers.
    """
    import torch

    model, (tokens, _), (source, _) = kept(name), examples(name, 256, seed), examples(name, 256, seed + 1)
    says = edits.answers(model, tokens)
    apart = edits.answers(model, source) != says
    changes = {
        head: (edits.swapped(model, tokens, source, [head]) != says)[apart].float().mean() for head in _heads(name)
    }

    def account(question: Question) -> Tensor:
        matters = any(changes[head] > 0.5 for head in question.heads)
        if question.kind != "remove":
            return question.source_says if matters else question.says
        return torch.full((len(question.tokens),), matters)

    return account


def table(
    names: Iterable[str] = NAMES, seeds: Iterable[int] = range(5), draws: int = 12, fits: bool = True
) -> Iterator[dict[str, float | str]]:
    """For each model: accuracy, and points of the sealed truth, the heuristic and a watcher chosen beforehand.

    Points are means over draws of questions. The watcher's are not cut off at 0: on each draw it goes by what was best
    on the draw before, so that it is no better than it would be if nobody knew the answers. With `fits`, also points of
    copies of so many draws, and the numbers that these hold: the best within what is allowed, tables, networks.
    """
    for name in names:
        tokens, plain = examples(name, 1000, seed=9)
        row: dict[str, float | str] = {"model": name}
        row["accuracy"] = (edits.answers(kept(name), tokens) == plain).float().mean().item()
        row["watcher"] = _mean([_beforehand(name, seed) for seed in seeds])
        row["heuristic"] = _mean([score(name, heuristic(name), seed).total for seed in seeds])
        row["truth"] = _mean([score(name, sealed_account(name), seed).total for seed in seeds])
        if fits:
            for key, (account, numbers) in {
                "short copy": copies.tabled(name, draws, MOST),
                "table": copies.tabled(name, draws),
                "network": copies.network(name, draws),
            }.items():
                row[key] = _mean([score(name, account, seed).total for seed in seeds])
                row[f"{key} holds"] = numbers
        yield row


def _beforehand(name: str, seed: int) -> float:
    """Points of the watcher that was best on another draw."""
    points = []
    for kind, now in watched(name, seed).items():
        before = watched(name, seed + 100)[kind]
        zero, its = max(now.values()), now[max(before, key=before.get)]
        points.append(100 * (its - zero) / max(1 - zero, 1e-6))
    return _mean(points)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
