"""What the authors of checks use: seeded random inputs, and assertions that speak to a learner.

Every assertion says what is wrong in the learner's terms, with shapes and the smallest failing values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


class Rng:
    """Random inputs for a check. `seed` is drawn afresh unless given; the same seed gives the same inputs."""

    def __init__(self, seed: int | None = None):
        self.seed = int(torch.randint(0, 2**31 - 1, (), generator=_entropy())) if seed is None else seed
        self.generator = torch.Generator().manual_seed(self.seed)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(dtype)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform numbers in [low, high)."""
        return low + (high - low) * torch.rand(*shape, generator=self.generator)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers in [low, high)."""
        return torch.randint(low, high, shape, generator=self.generator)

    def integer(self, low: int, high: int) -> int:
        """One whole number in [low, high)."""
        return int(self.integers(low, high))

    def permutation(self, n: int) -> Tensor:
        """The numbers 0 .. n-1 in random order."""
        return torch.randperm(n, generator=self.generator)

    def choice(self, options: Sequence[Any]) -> Any:
        """One of the options."""
        return options[self.integer(0, len(options))]


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
    kind = torch.complex128 if actual.is_complex() or expected.is_complex() else torch.float64
    wrong = ~torch.isclose(actual.to(kind), expected.to(kind), rtol=rtol, atol=atol, equal_nan=True)
    if wrong.any():
        index = tuple(int(i) for i in wrong.nonzero()[0])
        at = f"at {list(index)} " if index else ""
        share = f" ({int(wrong.sum())} of {wrong.numel()} entries differ)" if wrong.numel() > 1 else ""
        raise AssertionError(f"{message}: {at}expected {_number(expected[index])}, got {_number(actual[index])}{share}")


def assert_equal(actual: Any, expected: Any, message: str) -> None:
    """Plain Python values are equal."""
    assert actual == expected, f"{message}: expected {expected!r}, got {actual!r}"


def assert_choice(answer: Any, right: str, hint: str, options: str = "abc") -> None:
    """A letter was chosen, and the right one; the message hints without giving it away."""
    letter = str(answer).strip(" ().").lower()
    assert len(letter) == 1 and letter in options, (
        f"answer with one of the letters {', '.join(options)}, in quotes; this is {answer!r}"
    )
    assert letter == right, f"({letter}) is not it; {hint}"


@contextlib.contextmanager
def unchanged(*inputs: Tensor) -> Iterator[None]:
    """The tensors are not changed in place inside the block."""
    before = [tensor.detach().clone() for tensor in inputs]
    yield
    for tensor, copy in zip(inputs, before, strict=True):
        assert tensor.shape == copy.shape and torch.equal(tensor, copy), (
            "your code changes its input in place, as `+=` and methods ending in `_` do: write `x = x + ...` or copy it"
        )


def assert_gradient_flows(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """A gradient reaches every floating-point input."""
    leaves = [x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
    output = assert_tensor(function(*leaves))
    assert output.requires_grad, (
        "no gradient flows through your function: keep to torch operations (no .item(), .data, numpy)"
    )
    output[output.isfinite()].sum().backward()
    for number, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            assert leaf.grad is not None, f"no gradient reaches input {number}: is it detached or copied to numpy?"


def _entropy() -> torch.Generator:
    """A generator seeded by the system, so that drawing a seed leaves the learner's own random state alone."""
    generator = torch.Generator()
    generator.seed()
    return generator


def _kind(value: Any) -> str:
    name = type(value).__name__
    return "None" if value is None else f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _return_hint(value: Any) -> str:
    return ": is a return missing?" if value is None else ""


def _shape(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _number(value: Tensor) -> str:
    return str(value.item()) if not value.is_floating_point() else f"{value.item():.5g}"
