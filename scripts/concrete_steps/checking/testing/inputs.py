"""Random inputs, and the awkward ones that a check of the easy case never meets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        return low + (high - low) * torch.rand(shape, generator=self.generator)

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


def awkward(rng: Rng, *shape: int, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
    """Numbers of this shape with zeros among them, with ties, all positive, all negative, large, and far from 0.

    Far from 0 (around 1000, a spread of 1) a difference of squares loses what a difference keeps.
    """
    yield rng.normal(*shape, dtype=dtype) * (rng.uniform(*shape) < 0.6)
    yield rng.integers(-1, 2, *shape).to(dtype)
    yield rng.normal(*shape, dtype=dtype).abs() + 0.1
    yield -rng.normal(*shape, dtype=dtype).abs() - 0.1
    yield 100 * rng.normal(*shape, dtype=dtype)
    yield 1000 + rng.normal(*shape, dtype=dtype)


def shapes_with_ones(*sizes: int) -> list[tuple[int, ...]]:
    """The smallest shape, then each axis at 1 by turns, then the sizes as they are."""
    each = [tuple(1 if axis == one else size for axis, size in enumerate(sizes)) for one in range(len(sizes))]
    return list(dict.fromkeys([(1,) * len(sizes), *each, tuple(sizes)]))


def strided(x: Tensor) -> Tensor:
    """The same values, not contiguous: the axes lie in memory in reverse, and of a vector every other number counts."""
    if x.ndim == 1:
        return torch.stack([x, x], dim=-1)[:, 0]
    axes = tuple(reversed(range(x.ndim)))
    return x.permute(axes).contiguous().permute(axes)


def _entropy() -> torch.Generator:
    """A generator seeded by the system, so that drawing a seed leaves the learner's own random state alone."""
    generator = torch.Generator()
    generator.seed()
    return generator
