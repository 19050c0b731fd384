"""For maintainers: what copies of a model's answers would earn, by somebody who looks at nothing inside.

Such a person has many questions answered (by running the edits) and fits a table or a network to the answers.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

from concrete_steps.mystery.questions import Account, Question, drawn
from concrete_steps.mystery.rows import kept

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

FIRST = 20_000  # seed of the draws that are copied
WIDEST = 4  # columns of a table
LEAST_GAIN = 0.005

Sort = tuple[str, tuple]  # a kind of question and its heads


@functools.lru_cache(maxsize=1)
def answered(name: str, draws: int) -> dict[Sort, tuple[Int[Tensor, "row column"], Int[Tensor, " row"]]]:
    """What a question shows of each row, and what the model does, by sort of question, of so many draws."""
    import torch

    found: dict[Sort, list] = {}
    for seed in range(FIRST, FIRST + draws):
        for question, truth in drawn.__wrapped__(name, seed):
            found.setdefault((question.kind, question.heads), []).append((_shown(question), truth.long()))
    return {sort: tuple(torch.cat(each) for each in zip(*pairs, strict=True)) for sort, pairs in found.items()}


def _shown(question: Question) -> Int[Tensor, "row column"]:
    import torch

    parts = [question.tokens[:, :-1], question.says[:, None]]
    if question.source is not None:
        parts += [question.source[:, :-1], question.source_says[:, None]]
    return torch.cat(parts, 1)


class Table:
    """The commonest answer by the values of some columns; for values never seen together, by the first of these."""

    def __init__(self, shown: Tensor, truth: Tensor, columns: tuple[int, ...]):
        import torch

        self.columns, self.base = columns, int(shown.max()) + 2
        counts = torch.zeros(self.base ** len(columns), int(truth.max()) + 1)
        counts.index_put_((self._key(shown), truth), torch.ones(len(truth)), accumulate=True)
        seen = counts.sum(1) > 0
        self.numbers, self.said = int(seen.sum()), counts.argmax(1)
        if columns and not seen.all():
            fewer = Table(shown, truth, columns[:-1])
            every = torch.arange(len(seen)) // self.base
            self.said = torch.where(seen, self.said, fewer.said[every])

    def __call__(self, shown: Tensor) -> Tensor:
        return self.said[self._key(shown)]

    def _key(self, shown: Tensor) -> Tensor:
        import torch

        key = torch.zeros(len(shown), dtype=torch.long)
        for column in self.columns:
            key = key * self.base + shown[:, column].clamp(max=self.base - 1)
        return key


class Echo:
    """What stands in one column: one number, which one."""

    numbers = 1

    def __init__(self, column: int):
        self.column = column

    def __call__(self, shown: Tensor) -> Tensor:
        return shown[:, self.column]


def tabled(name: str, draws: int, most: int | None = None) -> tuple[Account, int]:
    """The account by tables, one a sort of question, and the numbers it holds: at most so many.

    Each begins with the best single letter or column. Then, as long as that gains anything, the table that gains most
    (for its numbers, if these are limited) gets one column more, or two if it had none.
    """
    data = answered(name, draws)
    best, offers = {}, {}
    for sort, (shown, _) in data.items():
        starts = [_tried((), data[sort]), *(_tried(column, data[sort]) for column in range(shown.shape[1]))]
        best[sort] = max(starts, key=lambda pair: pair[1])
        offers[sort] = _wider((), data[sort])
    while True:
        left = float("inf") if most is None else most - sum(table.numbers for table, _ in best.values())
        worth = []
        for sort, tried in offers.items():
            for table, right in tried:
                more, gain = table.numbers - best[sort][0].numbers, right - best[sort][1]
                if gain > LEAST_GAIN and more <= left:
                    worth.append((gain if most is None else gain / max(more, 1), sort, table, right))
        if not worth:
            break
        _, sort, *best[sort] = max(worth, key=lambda offer: offer[0])
        offers[sort] = _wider(best[sort][0].columns, data[sort])

    def account(question: Question) -> Tensor:
        table, _ = best.get((question.kind, question.heads), (None, 0))  # a pair may never have been asked about
        said = table(_shown(question)) if table else question.says * 0
        return said.bool() if question.kind == "remove" else said

    return account, sum(table.numbers for table, _ in best.values())


def _tried(columns: tuple[int, ...] | int, data: tuple[Tensor, Tensor]) -> tuple[Table | Echo, float]:
    """A table of two thirds of the data, or an echo of one column, and the share of the rest that it has right."""
    shown, truth = data
    most = len(truth) * 2 // 3
    table = Echo(columns) if isinstance(columns, int) else Table(shown[:most], truth[:most], columns)
    return table, (table(shown[most:]) == truth[most:]).float().mean().item()


def _wider(columns: tuple[int, ...], data: tuple[Tensor, Tensor]) -> list[tuple[Table, float]]:
    others = [column for column in range(data[0].shape[1]) if column not in columns]
    more = [(column,) for column in others] + ([] if columns else list(itertools.combinations(others, 2)))
    return [_tried((*columns, *its), data) for its in more] if len(columns) < WIDEST else []


def network(name: str, draws: int, width: int = 256, steps: int = 1000) -> tuple[Account, int]:
    """The account by networks, one a kind of question, and the numbers they hold."""
    import torch
    from torch.nn import functional as F

    config, data = kept(name).cfg, answered(name, draws)
    nets: dict[str, torch.nn.Module] = {}

    def seen(shown: Tensor, heads: tuple) -> Tensor:
        marks = torch.zeros(len(shown), config.n_heads)
        marks[:, [head for _, head in heads]] = 1
        return torch.cat([F.one_hot(shown, config.d_vocab).flatten(1).float(), marks], 1)

    for kind in sorted({kind for kind, _ in data}):
        those = [(seen(shown, heads), truth) for (its, heads), (shown, truth) in data.items() if its == kind]
        inputs, truth = (torch.cat(each) for each in zip(*those, strict=True))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            sizes = (inputs.shape[1], width, width, config.d_vocab)
            layers = [torch.nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
            net = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
            optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.01)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps + 1)
            for _ in range(steps):
                rows = torch.randint(len(inputs), (256,))
                loss = F.cross_entropy(net(inputs[rows]), truth[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        nets[kind] = net

    @torch.no_grad()
    def account(question: Question) -> Tensor:
        said = nets[question.kind](seen(_shown(question), question.heads)).argmax(1)
        return said.bool() if question.kind == "remove" else said

    return account, sum(its.numel() for net in nets.values() for its in net.parameters())
