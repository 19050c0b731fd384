"""Random numbers that should have nothing to do with each other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# In standard deviations of a chance correlation. Chance reaches it once in 10^9 pairs.
SURPRISING = 6.0


def assert_independent(draw: Callable[[int], Tensor], what: str = "row") -> None:
    """`draw(seed)` gives rows of random numbers: the same for the same seed, and no row shared within or between seeds.

    Two seeds side by side find rows seeded r, r + 1, ...: row 1 of seed 0 is row 0 of seed 1.
    """
    again = draw(0)
    seeds = {seed: draw(seed) for seed in (0, 1, 2)}
    assert torch.equal(seeds[0], again), "the same seed gives other numbers each time"
    rows = [(seed, number, row.flatten()) for seed, drawn in seeds.items() for number, row in enumerate(drawn)]
    for place, earlier in _suspicious([row for _, _, row in rows]):
        (seed, number, row), (other_seed, other_number, other) = rows[place], rows[earlier]
        pair = f"{what} {other_number} of seed {other_seed} and {what} {number} of seed {seed}"
        assert not torch.equal(row, other), f"{pair} are the same: each needs random numbers of its own"
        assert_uncorrelated(row, other, f"{pair} are not independent")


def _suspicious(rows: list[Tensor]) -> list[tuple[int, int]]:
    """Pairs (place, an earlier place) worth a look: all correlations at once, for one pair at a time takes seconds."""
    everyone = [(place, earlier) for place in range(len(rows)) for earlier in range(place)]
    if len({row.numel() for row in rows}) > 1 or not rows[0].numel():
        return everyone
    numbers = torch.stack([row.detach().double() for row in rows])
    numbers = numbers - numbers.mean(1, keepdim=True)
    worst = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for x in (numbers, numbers.abs() - numbers.abs().mean(1, keepdim=True)):
        unit = x / x.norm(dim=1, keepdim=True)  # nan where all numbers are the same, and that is suspicious
        worst = torch.maximum(worst, (unit @ unit.T).abs())
    usual = (worst < 0.99 * SURPRISING / numbers.shape[1] ** 0.5).tolist()
    return [(place, earlier) for place, earlier in everyone if not usual[place][earlier]]


def assert_draws_from(call: Callable[[torch.Generator], object]) -> None:
    """`call(generator)` draws from the generator itself, so that a second call gives other numbers."""
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    call(generator)
    assert not torch.equal(before, generator.get_state()), (
        "the generator is as it was before: draw from it, not from one of your own, or every call gives the same"
    )


def assert_uncorrelated(a: Tensor, b: Tensor, message: str) -> None:
    """Neither the numbers of a and b, nor their distances from the mean, go together more than chance has it."""
    centred = [x.detach().flatten().double() - x.detach().double().mean() for x in (a, b)]
    for kind, (x, y) in (("numbers", centred), ("sizes", [c.abs() - c.abs().mean() for c in centred])):
        scale = x.norm() * y.norm()
        if scale == 0:  # constant numbers go together with nothing
            continue
        correlation = float(x @ y / scale)
        limit = SURPRISING / len(x) ** 0.5
        assert abs(correlation) < limit, (
            f"{message}: their {kind} have correlation {correlation:.2f} over {len(x)} draws; "
            f"chance stays below {limit:.2f}"
        )
