"""What turns a measurement into evidence: an interval, a matched null, a fair comparison of times. scipy underneath.

The learner writes the core of each in notebook 1.3; every other notebook takes them from here. The values handed over
must be of the unit that is independent: prompts, seeds or draws, not the tokens of one text.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from concrete_steps.errors import CourseError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Values = Sequence[float] | np.ndarray | Tensor

METHODS = ("t", "bca", "exact")


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval: `print(f"{interval:.2f}")` gives "0.42 [0.31, 0.53]"."""

    value: float
    low: float
    high: float
    n: int
    level: float = 0.95

    def __format__(self, spec: str) -> str:
        spec = spec or ".3g"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return format(self, "")


@dataclass(frozen=True)
class AgainstNull:
    """A value beside the null's values: `p` is the share of null values at least as large, the value itself counted."""

    value: float
    null: Interval
    largest: float
    p: float

    def __format__(self, spec: str) -> str:
        spec = spec or ".3g"
        return (
            f"{self.value:{spec}}; null {self.null.value:{spec}}, largest of {self.null.n} {self.largest:{spec}}, "
            f"p {'=' if self.value < self.largest else '<='} {self.p:.2g}"
        )

    def __str__(self) -> str:
        return format(self, "")


@dataclass(frozen=True)
class Ratio:
    """How many times as long `slow` takes as `quick`: medians in seconds, and an interval for their ratio."""

    slow: float
    quick: float
    times: Interval

    def __str__(self) -> str:
        return f"{self.slow:.3g} s against {self.quick:.3g} s: {self.times:.2g} times as long"


def interval(values: Values, method: str = "t", level: float = 0.95, seed: int = 0) -> Interval:
    """Confidence interval for the mean of independent values.

    Args:
        values: [n] numbers, n at least 2, one for each independent unit.
        method: "t" (Student's, exact for normal values), or "bca" (Efron's bias-corrected and accelerated bootstrap,
            10,000 draws), whose two sides may differ. Neither covers as often as it says for few skewed values: the
            table in notebook 1.3 says how often. "exact" (Clopper and Pearson's) for values that are all 0 or 1: how
            often something happened. It is never narrower than it says, and not a point where all are alike.
        level: the share of such intervals that should hold the true mean.
        seed: of the bootstrap's draws.

    Raises:
        CourseError: fewer than 2 values, values that are not finite, or an unknown method.
    """
    import numpy as np
    from scipy import stats

    x = _numbers(values)
    if method not in METHODS:
        raise CourseError(f"There is no interval {method!r}: use one of {', '.join(METHODS)}.")
    mean = float(x.mean())
    if method == "exact":
        if not np.isin(x, (0, 1)).all():
            raise CourseError("The exact interval is for values that are all 0 or 1: use method='t' for others.")
        low, high = stats.binomtest(int(x.sum()), len(x)).proportion_ci(level)
        return Interval(mean, float(low), float(high), len(x), level)
    if np.ptp(x) == 0:
        return Interval(mean, mean, mean, len(x), level)
    if method == "t":
        low, high = stats.t.interval(level, len(x) - 1, loc=mean, scale=stats.sem(x))
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a degenerate bootstrap gives nan, which is said below
            drawn = stats.bootstrap((x,), np.mean, confidence_level=level, n_resamples=9_999, rng=seed, method="BCa")
        low, high = drawn.confidence_interval
        if not (np.isfinite(low) and np.isfinite(high)):
            raise CourseError(f"BCa gives no interval for these {len(x)} values: use method='t'.")
    return Interval(mean, float(low), float(high), len(x), level)


def difference(a: Values, b: Values, paired: bool = False, level: float = 0.95) -> Interval:
    """Confidence interval for mean(a) - mean(b): Welch's t for independent samples, Student's for paired ones."""
    from scipy import stats

    x, y = _numbers(a), _numbers(b)
    if paired:
        if len(x) != len(y):
            raise CourseError(f"Paired values must be as many: here are {len(x)} and {len(y)}.")
        return interval(x - y, level=level)
    low, high = stats.ttest_ind(x, y, equal_var=False).confidence_interval(level)
    return Interval(float(x.mean() - y.mean()), float(low), float(high), len(x) + len(y), level)


def permutation_test(
    a: Values, b: Values, statistic: Callable[..., float] | None = None, draws: int = 9_999, seed: int = 0
) -> float:
    """Two-sided p of the difference of means (or of `statistic(a, b)`) over shuffled labels, the data counted too.

    The smallest p that it can give is 1 / (draws + 1), or 1 over the number of different shuffles where that is less.
    """
    from scipy import stats

    def of_means(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return x.mean(axis) - y.mean(axis)

    result = stats.permutation_test(
        (_numbers(a), _numbers(b)), statistic or of_means, n_resamples=draws, rng=seed, vectorized=statistic is None
    )
    return float(result.pvalue)


def against_null(value: float, null: Values) -> AgainstNull:
    """A value beside the same statistic on matched controls; p = (1 + how many are at least as large) / (1 + n).

    The null must match: same statistic, same selection, same biases, on data or weights without the effect.
    """
    x = _numbers(null)
    p = (1 + int((x >= value).sum())) / (1 + len(x))
    return AgainstNull(float(value), interval(x), float(x.max()), p)


def best_of_many(scores: Values, fresh: Values) -> tuple[int, float, float]:
    """The best of many candidates and what it scores on fresh data: (index, score that chose it, score on fresh data).

    Report the last of the three: the score that chose the best is too high by as much as luck helped it.
    """
    x, y = _numbers(scores), _numbers(fresh)
    if len(x) != len(y):
        raise CourseError(f"Each candidate needs a score on both data sets: here are {len(x)} and {len(y)}.")
    best = int(x.argmax())
    return best, float(x[best]), float(y[best])


def ratio_of_times(slow: Callable[[], Any], quick: Callable[[], Any], repeats: int = 7) -> Ratio:
    """How many times as long `slow()` takes as `quick()`: run in turn, so that a busy machine slows both.

    Each is run once beforehand, uncounted. The interval is of the ratios of neighbouring runs.
    """
    slow(), quick()
    pairs = [(seconds(slow), seconds(quick)) for _ in range(max(repeats, 2))]
    return Ratio(
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        interval([a / b for a, b in pairs]),
    )


def seconds(function: Callable[[], Any]) -> float:
    """Wall-clock seconds that one call takes."""
    began = time.perf_counter()
    function()
    return max(time.perf_counter() - began, 1e-9)


def _numbers(values: Values) -> np.ndarray:
    """[n] float64, at least 2 and all finite."""
    import numpy as np

    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    x = np.asarray(values, dtype=np.float64).reshape(-1)
    if len(x) < 2:
        raise CourseError(f"An interval needs 2 independent values or more: here is {len(x)}.")
    if not np.isfinite(x).all():
        raise CourseError("Some values are not finite (nan or infinite): find out why before measuring them.")
    return x
