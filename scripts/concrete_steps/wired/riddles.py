"""Rules that are given as examples only: the open task of notebook 2.2. Whoever solves it should not read on.

    tokens, answers = wired.riddle("A", rows=8, seed=0)

Each row is [BOS], which is token 0, and then ordinary tokens, drawn evenly. An answer stands at each position where the
rule says something, and NO_ANSWER elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from concrete_steps.errors import CourseError

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

NO_ANSWER = -1


def riddle(
    rule: str, rows: int, seed: int, n_tokens: int = 7, length: int = 20
) -> tuple[Int[Tensor, "row length"], Int[Tensor, "row length"]]:
    """Rows of tokens and the answers of a rule to them.

    Args:
        rule: "A", "B", "C" or "D".
        n_tokens: how many tokens there are, [BOS] among them.
    """
    import torch

    if rule not in RULES:
        raise CourseError(f"There is no rule {rule!r}: the riddles are {', '.join(RULES)}.")
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, n_tokens, (rows, length), generator=generator)
    tokens[:, 0] = 0
    answers = [[RULES[rule](row[: i + 1]) for i in range(length)] for row in tokens.tolist()]
    return tokens, torch.tensor(answers)


def two_back(row: list[int]) -> int:
    return row[-3] if len(row) > 3 else NO_ANSWER


def before_the_same(row: list[int]) -> int:
    """What stood before the one earlier occurrence of the last token."""
    places = [i for i in range(len(row) - 1) if row[i] == row[-1]]
    return row[places[0] - 1] if len(places) == 1 and places[0] > 1 else NO_ANSWER


def latest_follower(row: list[int]) -> int:
    """What came after the last token the last time."""
    places = [i for i in range(len(row) - 1) if row[i] == row[-1]]
    return row[places[-1] + 1] if places else NO_ANSWER


def follower_of_pair(row: list[int]) -> int:
    """What came after the last two tokens, where they stood together once before."""
    places = [i for i in range(2, len(row) - 1) if row[i - 1 : i + 1] == row[-2:]]
    return row[places[0] + 1] if len(places) == 1 else NO_ANSWER


RULES: dict[str, Callable[[list[int]], int]] = {
    "A": two_back,
    "B": before_the_same,
    "C": latest_follower,
    "D": follower_of_pair,
}
