"""The models themselves, and rows for them: as in their examples, or such as these never show."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from concrete_steps.errors import CourseError
from concrete_steps.models import shipped
from concrete_steps.mystery import sealed

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

NAMES = ("amber", "birch", "coral", "dune", "ember", "flint")  # in an order of rising difficulty
PREDICTS = "An account predicts before the model runs: it may not run a model itself, nor load one."


def withheld(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which remembers what it gave; while an account is asked it gives nothing."""
    remembered = functools.lru_cache(maxsize=32)(function)

    @functools.wraps(function)
    def guarded(*args: Any) -> Any:
        if shipped.withheld:
            raise CourseError(shipped.withheld[-1])
        return remembered(*args)

    return guarded


def load(name: str) -> TransformerBridge:
    """A mystery model in evaluation mode. It reads letters 0, 1, ... and a last token that asks; it answers there.

    Raises:
        CourseError: there is no such model, or an account asks for it.
    """
    return shipped.load(f"mystery/{require(name)}")


@withheld
def kept(name: str) -> TransformerBridge:
    """The model that questions are put to: no learner has it in hand."""
    return load(name)


def examples(name: str, rows: int, seed: int) -> tuple[Int[Tensor, "row pos"], Int[Tensor, " row"]]:
    """Rows of the kind that the model's examples show, and the rule's answers to them.

    Raises:
        CourseError: there is no such model.
    """
    import torch

    rule = sealed.rules()[require(name)]
    generator, found = torch.Generator().manual_seed(seed), []
    while sum(len(each) for each in found) < rows:
        drawn = rule.draw(2 * rows, generator)
        found.append(drawn[rule.usual(drawn)])
    letters = torch.cat(found)[:rows]
    return asking(name, letters), rule.plain(letters)


def unusual(name: str, rows: int, seed: int) -> tuple[Int[Tensor, "row pos"], Int[Tensor, " row"]]:
    """Any rows, the kind that examples never show among them, and what the examples' rule says to them."""
    import torch

    rule = sealed.rules()[require(name)]
    letters = rule.draw(rows, torch.Generator().manual_seed(seed))
    return asking(name, letters), rule.plain(letters)


def asking(name: str, letters: Int[Tensor, "row length"]) -> Int[Tensor, "row pos"]:
    """The letters with the token that asks after them."""
    import torch

    return torch.nn.functional.pad(letters, (0, 1), value=sealed.rules()[name].letters)


def require(name: str) -> str:
    if name not in NAMES:
        raise CourseError(f"There is no mystery model {name!r}: they are {', '.join(NAMES)}.")
    return name
