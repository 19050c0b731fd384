"""Intervals cover as often as they say, and every function agrees with an independent computation."""

import numpy as np
import pytest
import torch
from scipy import stats

from concrete_steps import evidence
from concrete_steps.errors import CourseError


def coverage(method: str, n: int, trials: int = 600) -> float:
    """Share of intervals of n normal values that hold the true mean 3."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(trials):
        found = evidence.interval(rng.normal(3.0, 2.0, n), method)
        hits += found.low <= 3.0 <= found.high
    return hits / trials


def test_student_covers_as_often_as_it_says():
    assert abs(coverage("t", 5) - 0.95) < 4 * (0.95 * 0.05 / 600) ** 0.5


def test_bca_of_many_values_agrees_with_student():
    values = np.random.default_rng(1).normal(0, 1, 400)
    t, bca = evidence.interval(values, "t"), evidence.interval(values, "bca")
    assert abs(t.low - bca.low) < 0.02 and abs(t.high - bca.high) < 0.02 and t.value == bca.value


def test_the_exact_interval_of_shares_covers_at_least_as_often_as_it_says():
    """By Clopper and Pearson's formulas where all or none happened; by all outcomes of 15, for many true shares."""
    assert evidence.interval([1] * 15, method="exact").low == pytest.approx(0.025 ** (1 / 15))
    assert evidence.interval([0.0] * 8, method="exact").high == pytest.approx(1 - 0.025 ** (1 / 8))
    intervals = [evidence.interval([1] * k + [0] * (15 - k), method="exact") for k in range(16)]
    for share in np.linspace(0.01, 0.99, 99):
        chance = stats.binom.pmf(range(16), 15, share)
        assert sum(p for p, each in zip(chance, intervals, strict=True) if each.low <= share <= each.high) >= 0.95
    with pytest.raises(CourseError, match="0 or 1"):
        evidence.interval([0.5, 1.0], method="exact")


def test_an_interval_reads_tensors_and_shows_itself():
    found = evidence.interval(torch.tensor([1.0, 2.0, 3.0]))
    assert f"{found:.1f}" == "2.0 [-0.5, 4.5]" and found.n == 3
    assert evidence.interval([2.0, 2.0]).low == 2.0


def test_difference_paired_and_not():
    a, b = np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.5, 2.5])
    paired, apart = evidence.difference(a, b, paired=True), evidence.difference(a, b)
    assert paired.low == paired.high == pytest.approx(0.5)
    assert apart.low < 0 < apart.high


def test_permutation_p_of_all_shuffles():
    # 20 ways to choose 3 of 6; two of them are as far apart as the data.
    assert evidence.permutation_test([4.0, 5.0, 6.0], [1.0, 2.0, 3.0]) == pytest.approx(2 / 20)


def test_against_null_counts_the_value_itself():
    found = evidence.against_null(5.0, [1.0, 2.0, 3.0])
    assert found.p == 1 / 4 and found.largest == 3.0
    assert evidence.against_null(2.0, [1.0, 2.0, 3.0]).p == 3 / 4


def test_the_best_of_many_regresses():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, 270)
    index, chosen, fresh = evidence.best_of_many(truth + rng.normal(0, 1, 270), truth)
    assert chosen > fresh == truth[index]


def test_ratio_of_times_sees_twice_the_work():
    work = np.random.default_rng(0).normal(size=(300, 300))
    ratio = evidence.ratio_of_times(lambda: [work @ work for _ in range(20)], lambda: [work @ work for _ in range(2)])
    assert ratio.slow > ratio.quick and "times as long" in str(ratio)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: evidence.interval([1.0]), "2 independent values"),
        (lambda: evidence.interval([1.0, float("nan")]), "not finite"),
        (lambda: evidence.interval([1.0, 2.0], "magic"), "no interval 'magic'"),
        (lambda: evidence.difference([1.0, 2.0], [1.0, 2.0, 3.0], paired=True), "as many"),
        (lambda: evidence.best_of_many([1.0, 2.0], [1.0, 2.0, 3.0]), "both data sets"),
    ],
)
def test_bad_input_gets_one_sentence(call, words):
    with pytest.raises(CourseError, match=words):
        call()
