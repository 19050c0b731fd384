"""Assertions about one result: its type, dtype, shape and values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# How close a right answer comes in each dtype, relative and (for numbers near 1) absolute.
TOLERANCE = {torch.float64: (1e-9, 1e-10), torch.float32: (1e-4, 1e-5), torch.bfloat16: (2e-2, 1e-2)}


def assert_tensor(actual: Any, shape: Sequence[int] | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """The result is a tensor of this shape and dtype; returns it."""
    assert isinstance(actual, Tensor), f"expected a tensor, got {_kind(actual)}" + _return_hint(actual)
    if shape is not None:
        assert tuple(actual.shape) == tuple(shape), f"expected shape {_shape(shape)}, got {_shape(actual.shape)}"
    if dtype is not None:
        assert actual.dtype == dtype, f"expected dtype {_dtype(dtype)}, got {_dtype(actual.dtype)}"
    return actual


def assert_close(actual: Any, expected: Any, message: str, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """`actual` equals `expected` up to rounding; says `message`, and where and by how much they differ first.

    Shapes must agree; dtypes need not. `message` says what a difference means: "row i does not hold token i".
    """
    expected = torch.as_tensor(expected)
    if not isinstance(actual, Tensor) and isinstance(actual, int | float) and expected.ndim == 0:
        actual = torch.tensor(actual)
    actual = assert_tensor(actual).detach().cpu()
    expected = expected.detach().cpu()
    assert actual.shape == expected.shape, (
        f"{message}: expected shape {_shape(expected.shape)}, got {_shape(actual.shape)}"
    )
    wrong = ~_close(actual, expected, rtol, atol)
    if wrong.any():
        index = tuple(int(i) for i in wrong.nonzero()[0])
        at = f"at {list(index)} " if index else ""
        share = f" ({int(wrong.sum())} of {wrong.numel()} entries differ)" if wrong.numel() > 1 else ""
        sign = "; only the sign is wrong" if _close(-1 * actual, expected, rtol / 10, atol / 100).all() else ""
        got = f"expected {_number(expected[index])}, got {_number(actual[index])}"
        if _number(expected[index]) == _number(actual[index]):  # alike as shown
            got = f"expected {_number(expected[index], 12)}, got {_number(actual[index], 12)}"
        raise AssertionError(f"{message}: {at}{got}{share}{sign}")


def assert_precise(actual: Any, expected: Tensor, message: str, loosen: float = 1.0) -> None:
    """A tensor of the dtype of `expected`, and as close as that dtype can be, times `loosen`.

    So float64 in gives float64 out, computed in float64: a float32 constant or table on the way is seen.
    """
    actual = assert_tensor(actual)
    assert actual.dtype == expected.dtype, f"expected dtype {_dtype(expected.dtype)}, got {_dtype(actual.dtype)}" + (
        ": has something on the way another dtype than the input?" if actual.is_floating_point() else ""
    )
    if not (expected.is_floating_point() or expected.is_complex()):
        return assert_close(actual, expected, message, rtol=0, atol=0)
    rtol, atol = (loosen * tolerance for tolerance in TOLERANCE.get(expected.dtype, TOLERANCE[torch.float32]))
    if expected.dtype == torch.float64 and actual.shape == expected.shape:
        rough = max(rtol, 1e-5), max(atol, 1e-6)
        if _close(actual.detach(), expected.detach(), *rough).all():
            hint = "is something on the way not float64? Or is a small number added?"
            message += f" (no further off than float32 rounds: {hint})"
    return assert_close(actual, expected, message, rtol, atol)


def assert_minus_infinity(actual: Tensor, message: str) -> None:
    """Every entry is minus infinity: a large negative number only hides a score that is not larger still."""
    wrong = actual.detach()[~actual.detach().isneginf()]
    assert not len(wrong), f"{message}: expected -inf, got {_number(wrong[0])}"


def assert_plain(actual: Any, kind: type, of: type | None = None) -> Any:
    """A plain Python int, float, str, bool, list, tuple or dict, where one is promised; `of` is what it holds."""
    right = isinstance(actual, kind) and not (isinstance(actual, bool) and kind is not bool)
    right = right or (kind is float and type(actual) is int)
    assert right, f"expected {_article(kind.__name__)}, got {_kind(actual)}{_plain_hint(actual, kind)}"
    for item in actual if of else ():
        assert_plain(item, of)
    return actual


def assert_equal(actual: Any, expected: Any, message: str) -> None:
    """Plain Python values are equal."""
    assert actual == expected, f"{message}: expected {expected!r}, got {actual!r}"


class OverManyCalls(AssertionError):
    """What an answer gave in many calls is wrong as a whole, so the last of them need not be.

    Attributes:
        shown_by: the number of a call that is wrong, counted from 0 in this test; None if no call is by itself.
    """

    def __init__(self, message: str, shown_by: int | None = None) -> None:
        super().__init__(message)
        self.shown_by = shown_by


def assert_mostly_found(found: int, missed: list[str], wrong: list[str], said: str, kind: str = "head") -> None:
    """What was named over many unseen models: 90 % or more of what there was, and at most 10 % of the named are others.

    `missed` and `wrong` tell for each what it is; `said` begins the messages, "in 5 models, 3 of 9 were found".
    """
    if not found + len(wrong):
        raise OverManyCalls(f"no {kind} was named in any model")
    if found < 0.9 * (found + len(missed)):
        raise OverManyCalls(f"{said}; missed were {_counted(missed)}")
    if len(wrong) > 0.1 * (found + len(wrong)):
        raise OverManyCalls(f"{said}, but {len(wrong)} others were named, too: {_counted(wrong)}")


def _counted(kinds: list[str]) -> str:
    """'2 decoy: offset, 1 idle'."""
    return ", ".join(f"{n} {kind}" for kind, n in Counter(kinds).most_common())


def assert_choice(answer: Any, right: str, hint: str, options: str = "abc") -> None:
    """A letter was chosen, and the right one; the message hints without giving it away."""
    letter = str(answer).strip(" ().").lower()
    assert len(letter) == 1 and letter in options, (
        f"answer with one of the letters {', '.join(options)}, in quotes; this is {answer!r}"
    )
    assert letter == right, f"({letter}) is not it; {hint}"


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return "a tensor"
    kind = type(value)
    return "None" if value is None else _article(("numpy " if kind.__module__ == "numpy" else "") + kind.__name__)


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _return_hint(value: Any) -> str:
    """What turns a value into the tensor that is promised."""
    match value:
        case None:
            return ": is a return missing?"
        case bool() | int() | float() | complex():
            return ": leave .item(), int() or float() away"
        case list() | tuple():
            return ": torch.stack or torch.tensor makes one"
    return ": keep to torch" if type(value).__module__ == "numpy" else ""


def _plain_hint(value: Any, kind: type) -> str:
    """What turns a value into the plain one that is promised."""
    if value is None:
        return ": is a return missing?"
    if not (isinstance(value, Tensor) or type(value).__module__ == "numpy"):
        return ""
    if kind in (list, tuple, dict):
        return ": .tolist() makes a list" if kind is list else ""
    return f": .item() or {kind.__name__}() makes it plain"


def _close(a: Tensor, b: Tensor, rtol: float, atol: float) -> Tensor:
    kind = torch.complex128 if a.is_complex() or b.is_complex() else torch.float64
    return torch.isclose(a.to(kind), b.to(kind), rtol=rtol, atol=atol, equal_nan=True)


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _number(value: Tensor, digits: int = 5) -> str:
    return str(value.item()) if not value.is_floating_point() else f"{value.item():.{digits}g}"
