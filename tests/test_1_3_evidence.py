"""Checks of 1.3 Probability and evidence. The smallest case comes first: it is the one that a learner is shown.

What draws random numbers is compared with what is known of its distribution, never with the draws of one solution.
Limits are wide enough for chance to reach them less than once in 100,000 checks.
"""

import itertools
import math

import numpy as np
import torch
from scipy import stats

from concrete_steps.checking.testing import (
    assert_choice,
    assert_close,
    assert_draws_from,
    assert_equal,
    assert_gradient_values,
    assert_independent,
    assert_minus_infinity,
    assert_plain,
    assert_precise,
    assert_tensor,
    awkward,
    nothing_left_behind,
    shapes_with_ones,
    strided,
    unchanged,
)

F32, F64 = torch.float32, torch.float64


# Changes that make no wrong answer; scripts/mutate.py counts them apart:
# equivalent mutant of cross_entropy, 1 -> -1 (2x): the last axis of two is axis 1
# equivalent mutant of cross_entropy, [:-1] -> [:]: gather leaves the last position out
# equivalent mutant of cross_entropy, 0 -> -1: what gather gives has one entry there
# equivalent mutant of perplexity, drop .double(): the text asks for no more than the losses' own dtype holds
# equivalent mutant of sample_categorical, drop line borders = borders / borders[..., -1:]: probabilities sum to 1
# equivalent mutant of sample_categorical, Div -> Mult: of probabilities the sum is 1
# equivalent mutant of sample_categorical, Div -> Pow: of probabilities the sum is 1
# equivalent mutant of sample_categorical, keep borders: of probabilities the sum is 1
# equivalent mutant of sample_categorical, drop dtype= of rand: float32 throws fall as often into each part
# equivalent mutant of sample_categorical, drop .double(): float32 borders move by less than any count can tell
# equivalent mutant of sample_categorical, drop right= of searchsorted: a throw on a border has probability 2^-53
# equivalent mutant of sample_categorical, True -> False: a throw on a border has probability 2^-53
# equivalent mutant of bigram_model, swap arguments 0 and 1 of max: max has no order
# equivalent mutant of bigram_model, keep 1: a count of one for all, whatever it is, comes to the same after the sum
# equivalent mutant of bigram_model, 0 -> 1: texts shorter than two tokens count nothing either way
# equivalent mutant of bigram_model, 0 -> -1: no text is shorter than one token
# equivalent mutant of bigram_model, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of bootstrap_interval, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of bca_interval, drop .double() (3x): float32 is near enough to quantiles of draws
# equivalent mutant of bca_interval, Eq -> GtE: the least is never above the largest
# equivalent mutant of bca_interval, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of bca_interval, 0 -> 1 (2x): all values are equal there
# equivalent mutant of bca_interval, 0 -> -1 (2x): all values are equal there
# equivalent mutant of permutation_test, drop .double(): float32 is near enough where nothing ties
# equivalent mutant of permutation_test, drop argument 0 of argsort: the last axis of two is axis 1
# equivalent mutant of permutation_test, 1 -> -1 (3x): the last axis of two is axis 1
# equivalent mutant of permutation_test, keep 1e-09: the slack is for rounding, of any small size
# equivalent mutant of permutation_test, max -> min: the slack is for rounding, of any small size
# equivalent mutant of permutation_test, drop .abs(): the slack is for rounding, of any small size
# equivalent mutant of permutation_test, rand -> randn: the order of normal numbers is as random
# equivalent mutant of permutation_test, GtE -> Gt: the slack decides on ties
# equivalent mutant of permutation_test, [:len(a)] -> [:]: mean of all less one group's is in proportion to the gap
# equivalent mutant of permutation_test, [len(a):] -> [:]: mean of all less one group's is in proportion to the gap
# equivalent mutant of matched_null, drop float(...) (2x): the check's statistics give floats, the text allows tensors
# equivalent mutant of matched_null, y -> x: x and y are as long
# equivalent mutant of holm, 0 -> -1 (2x): there is one axis
# equivalent mutant of holm, drop empty_like(...): every entry is written
# equivalent mutant of best_of_many, drop strict= of zip: the columns are as long
# equivalent mutant of best_of_many, True -> False: the columns are as long
# equivalent mutant of best_of_many, 2 -> -2 (2x): the part before the last half, and the last half, are the same two


def answer_to(function, *inputs):
    """What the function gives for inputs that stay as they are; generators alone may be drawn from."""
    with nothing_left_behind(), unchanged(*(x for x in inputs if not isinstance(x, torch.Generator))):
        return function(*inputs)


def seeded(rng):
    return torch.Generator().manual_seed(rng.integer(0, 2**31))


def log_probs(rng, *shape, dtype=F64):
    return rng.normal(*shape, dtype=F64).log_softmax(-1).to(dtype)


# --- 1. From logits to nats


def test_log_softmax(log_softmax, rng):
    """Log-probabilities at any temperature, for logits of any size."""
    cases = [(torch.tensor([0.0, math.log(3.0)]), 1.0), (torch.tensor([0.0, math.log(9.0)]), 2.0)]
    for dtype in (F32, F64):
        cases += [(rng.normal(*shape, dtype=dtype), 0.7) for shape in shapes_with_ones(2, 3, 5)]
        cases += [(x, 1.0) for x in awkward(rng, 3, 4, dtype=dtype)]
        cases += [(1000 * rng.normal(2, 5, dtype=dtype), 0.5), (strided(rng.normal(3, 4, dtype=dtype)), 3.0)]
    for logits, temperature in cases:
        actual = assert_tensor(answer_to(log_softmax, logits, temperature), shape=logits.shape)
        assert actual.isfinite().all(), "not finite for finite logits: take the largest of the row away first"
        expected = torch.log_softmax(logits.double() / temperature, -1)
        close = {"rtol": 1e-5, "atol": 3e-4} if logits.dtype == F32 else {"rtol": 1e-9, "atol": 1e-9}
        assert_close(actual, expected, f"not the log-probabilities at temperature {temperature}", **close)
        assert actual.dtype == logits.dtype, f"logits are {logits.dtype}, the result is {actual.dtype}"
    assert_close(log_softmax(cases[0][0]), cases[0][0].log_softmax(-1), "the temperature is 1 unless given")


def test_log_softmax__forbidden_tokens(log_softmax, rng):
    """A logit of -inf gives -inf, and leaves the others as they would be without it"""
    logits = rng.normal(3, 4)
    for forbidden in (0, 2):
        barred = logits.clone()
        barred[:, forbidden] = -torch.inf
        others = [i for i in range(4) if i != forbidden]
        actual = answer_to(log_softmax, barred, 1.0)
        assert_minus_infinity(actual[:, forbidden], "the forbidden token")
        assert_close(actual[:, others], logits[:, others].log_softmax(-1), "with one token forbidden, the others")


def test_log_softmax__gradient(log_softmax, rng):
    """Gradients are the derivative"""
    assert_gradient_values(lambda x: log_softmax(x, 1.5), rng.normal(3, 4, dtype=F64), rng=rng)


class notice_library:
    """Within the block PyTorch's own softmax and logsumexp, under any name, are an error."""

    def __enter__(self):
        from torch.utils._python_dispatch import TorchDispatchMode

        class Notice(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                name = func._schema.name.removeprefix("aten::")
                assert "softmax" not in name and "logsumexp" not in name, (
                    "uses PyTorch's own softmax or logsumexp: write it with exp, sum and log"
                )
                return func(*args, **(kwargs or {}))

        self.mode = Notice()
        self.mode.__enter__()

    def __exit__(self, *error):
        self.mode.__exit__(*error)


def test_log_softmax__by_hand(log_softmax, rng):
    """Without PyTorch's own softmax and logsumexp"""
    logits = rng.normal(2, 3)
    with notice_library():
        log_softmax(logits, 0.5)


def loss_by_hand(logits, tokens, keep):
    """One text's cross-entropy, token by token."""
    costs = []
    for place in range(1, len(tokens)):
        if keep[place]:
            row = logits[place - 1].double()
            costs.append(torch.logsumexp(row, 0) - row[tokens[place]])
    return torch.stack(costs).mean()


def test_cross_entropy(cross_entropy, rng):
    """One mean for each text, of the kept tokens given those before them."""
    small = torch.tensor([[[0.0, math.log(3.0)], [5.0, 0.0]]]), torch.tensor([[0, 1]]), torch.ones(1, 2).bool()
    cases = [small]
    for dtype in (F32, F64):
        for texts, pos, vocab in ((1, 2, 3), (2, 5, 4), (3, 4, 2), (1, 7, 1)):
            logits = 3 * rng.normal(texts, pos, vocab, dtype=dtype)
            tokens = rng.integers(0, vocab, texts, pos)
            keep = rng.uniform(texts, pos) < 0.5
            keep[:, rng.integer(1, pos)] = True
            cases += [(logits, tokens, keep), (strided(logits), tokens, torch.ones(texts, pos).bool())]
    for logits, tokens, keep in cases:
        actual = assert_tensor(answer_to(cross_entropy, logits, tokens, keep), shape=tokens.shape[:1])
        expected = torch.stack([loss_by_hand(*text) for text in zip(logits, tokens, keep, strict=True)])
        message = "not the mean of -log p(token | those before it) over each text's kept tokens"
        assert_close(actual, expected, message, rtol=1e-4, atol=1e-5)
        assert actual.dtype == logits.dtype, f"logits are {logits.dtype}, the result is {actual.dtype}"


def test_cross_entropy__what_is_left_out(cross_entropy, rng):
    """Infinities and nan where nothing is kept do not reach the loss"""
    logits, tokens = rng.normal(2, 4, 3), rng.integers(0, 3, 2, 4)
    keep = torch.tensor([[True, True, True, False], [True, True, False, True]])
    expected = torch.stack([loss_by_hand(*text) for text in zip(logits, tokens, keep, strict=True)])
    for strange in (torch.nan, -torch.inf):
        spoilt = logits.clone()
        spoilt[:, 3] = torch.nan  # after the last token nothing is asked
        spoilt[0, 2, int(tokens[0, 3])] = strange
        spoilt[1, 1, int(tokens[1, 2])] = strange
        assert_close(answer_to(cross_entropy, spoilt, tokens, keep), expected, f"with {strange} where nothing is kept")


def test_cross_entropy__a_token_that_was_forbidden(cross_entropy, rng):
    """A kept token of probability 0 costs infinitely much, and only its own text"""
    logits, tokens = rng.normal(2, 3, 4), rng.integers(0, 4, 2, 3)
    logits[0, 1, int(tokens[0, 2])] = -torch.inf
    keep = torch.ones(2, 3).bool()
    losses = answer_to(cross_entropy, logits, tokens, keep)
    expected = torch.stack([torch.tensor(torch.inf), loss_by_hand(logits[1], tokens[1], keep[1])])
    assert_close(losses, expected, "the first text's last token had probability 0, and was kept")


def test_perplexity(perplexity, rng):
    """Of all tokens together, whatever the texts' lengths."""
    cases = [(torch.tensor([math.log(2.0), math.log(8.0)]), torch.tensor([3, 1]))]
    cases += [(rng.uniform(n, high=4.0), rng.integers(1, 100, n)) for n in (1, 2, 7)]
    cases += [(rng.uniform(3, high=4.0).double(), torch.tensor([5, 5, 5])), (torch.zeros(2), torch.tensor([1, 9]))]
    for losses, counts in cases:
        actual = assert_plain(answer_to(perplexity, losses, counts), float)
        total = sum(loss * n for loss, n in zip(losses.tolist(), counts.tolist(), strict=True))
        expected = math.exp(total / sum(counts.tolist()))
        said = [round(x, 3) for x in losses.tolist()], counts.tolist()
        assert math.isclose(actual, expected, rel_tol=1e-4), (
            f"losses {said[0]} of {said[1]} tokens: expected perplexity {expected:.4f}, got {actual:.4f}"
        )


# --- 2. Two distributions


def test_entropy(entropy, rng):
    """In nats, with 0 log 0 = 0."""
    certain = torch.tensor([[0.0, -torch.inf]])
    cases = [torch.tensor([[0.5, 0.5]]).log(), certain, torch.tensor([[0.25, 0.0, 0.75]]).log()]
    for dtype in (F32, F64):
        cases += [log_probs(rng, *shape, dtype=dtype) for shape in ((3,), *shapes_with_ones(2, 3, 4))]
        cases += [(6 * rng.normal(2, 50, dtype=F64)).log_softmax(-1).to(dtype)]  # many small probabilities
    cases += [strided(log_probs(rng, 3, 4))]
    for log_p in cases:
        actual = answer_to(entropy, log_p)
        rows = [[p * math.log(p) for p in row.exp().tolist() if p > 0] for row in log_p.reshape(-1, log_p.shape[-1])]
        expected = torch.tensor([-sum(row) for row in rows], dtype=log_p.dtype).view(log_p.shape[:-1])
        assert not actual.isnan().any(), "nan where a probability is 0: 0 times -inf; that term is 0"
        assert_precise(actual, expected, "not the entropy in nats")


def test_kl_divergence(kl_divergence, rng):
    """In nats; 0 where p is 0, infinite where only q is."""
    cases = [torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]).log()]
    cases += [torch.tensor([[0.5, 0.5, 0.0], [0.4, 0.6, 0.0]]).log(), torch.tensor([[0.5, 0.5], [1.0, 0.0]]).log()]
    for dtype in (F32, F64):
        cases += [log_probs(rng, 2, *shape, dtype=dtype) for shape in ((3,), *shapes_with_ones(2, 3, 4))]
    cases += [log_probs(rng, 3, 4).expand(2, 3, 4)]
    for log_p, log_q in cases:
        actual = answer_to(kl_divergence, log_p, log_q)
        rows = zip(
            log_p.reshape(-1, log_p.shape[-1]).tolist(), log_q.reshape(-1, log_p.shape[-1]).tolist(), strict=True
        )
        sums = [sum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True) if a > -math.inf) for p, q in rows]
        expected = torch.tensor(sums, dtype=log_p.dtype).view(log_p.shape[:-1])
        assert not actual.isnan().any(), "nan where p is 0 (and perhaps q, too): that term is 0"
        assert_precise(actual, expected, "not KL(p || q) in nats")


# --- 3. Sampling and counting


def test_sample_categorical(sample_categorical, rng):
    """Every token as often as its probability has it, and never one of probability 0."""
    n = 20_000
    cases = [torch.tensor([0.25, 0.75]), torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0], [0.1, 0.2, 0.3, 0.4, 0.0]])]
    cases += [torch.ones(2, 1), log_probs(rng, 2, 3, 4).exp(), log_probs(rng, 1, 300, dtype=F32).exp()]
    cases += [strided(log_probs(rng, 3, 4).exp())]
    for probs in cases:
        drawn = assert_tensor(answer_to(sample_categorical, probs, n, seeded(rng)), shape=(*probs.shape[:-1], n))
        assert not drawn.is_floating_point(), f"token ids are whole numbers, these are {drawn.dtype}"
        vocab = probs.shape[-1]
        assert drawn.min() >= 0 and drawn.max() < vocab, f"drew {int(drawn.max())} of {vocab} tokens"
        for row, p in zip(drawn.reshape(-1, n), probs.reshape(-1, vocab).double(), strict=True):
            share = row.bincount(minlength=vocab) / n
            assert (share[p == 0] == 0).all(), "a token of probability 0 was drawn"
            limit = 6 * (p * (1 - p) / n).sqrt() + 6 / n
            worst = int(((share - p).abs() - limit).argmax())
            assert abs(share[worst] - p[worst]) <= limit[worst], (
                f"token {worst} of probability {p[worst]:.3f} came in {share[worst]:.3f} of {n} draws"
            )


def test_sample_categorical__independent(sample_categorical):
    """Rows, and draws in a row, have random numbers of their own; the generator's seed decides them"""

    def draw(seed):
        return sample_categorical(torch.full((3, 4), 0.25), 600, torch.Generator().manual_seed(seed)).float()

    assert_independent(draw)
    assert_draws_from(lambda generator: sample_categorical(torch.full((3, 4), 0.25), 5, generator))
    pairs = draw(5)
    share = (pairs[:, 1:] == pairs[:, :-1]).float().mean()
    assert 0.15 < share < 0.35, f"neighbouring draws are equal in {share:.2f} of cases; expected 0.25: are they sorted?"


def test_sample_categorical__few(sample_categorical, rng):
    """One draw"""
    assert_tensor(answer_to(sample_categorical, torch.full((2, 3), 1 / 3), 1, seeded(rng)), shape=(2, 1))


def test_sample_categorical__borders(sample_categorical):
    """Numbers at either end of [0, 1]: no token of probability 0, and none beyond the last"""
    # Among the 20,000 numbers of torch.rand, this seed has an exact 0, and the other one 1 - 2^-24.
    probs = torch.tensor([0.0, 0.5, 0.5])
    drawn = sample_categorical(probs, 20_000, torch.Generator().manual_seed(146))
    assert (drawn > 0).all(), (
        "a token of probability 0 was drawn: where the number thrown is exactly 0, it hits no stretch of length 0"
    )
    probs = torch.tensor([0.25, 0.75 - 2**-22])  # as rounding leaves it
    drawn = sample_categorical(probs, 20_000, torch.Generator().manual_seed(80))
    assert (drawn < 2).all(), (
        "gives a token that does not exist: rounding left the last border below 1, and the number thrown was above it"
    )


def test_bigram_model(bigram_model, rng):
    """The smoothed share of each next token, pair by pair, within texts only."""
    cases = [([torch.tensor([0, 1, 1])], 2, 1.0), ([torch.tensor([0, 1]), torch.tensor([1, 0])], 2, 0.5)]
    cases += [([rng.integers(0, v, n) for n in (5, 1, 30)], v, a) for v, a in ((1, 1.0), (4, 0.01), (7, 2.0))]
    cases += [([torch.tensor([2])], 3, 1.0), ([rng.integers(0, 2, 6)], 5, 0.1)]
    for texts, n_vocab, alpha in cases:
        actual = assert_tensor(answer_to(bigram_model, texts, n_vocab, alpha), shape=(n_vocab, n_vocab))
        expected = torch.full((n_vocab, n_vocab), alpha, dtype=F64)
        for text in texts:
            for a, b in itertools.pairwise(text.tolist()):
                expected[a, b] += 1
        expected /= expected.sum(1, keepdim=True)
        said = f"texts {[t.tolist() for t in texts]}, alpha {alpha}: " if len(texts) < 3 else f"alpha {alpha}: "
        assert_precise(actual, expected, f"{said}entry [a, b] is not p(b | a)")


# --- 4. An interval


def skewed(n, sign=1, spread=1.0, shift=0.0):
    """n values like a log-normal sample, without chance."""
    return sign * (spread * torch.special.ndtri((torch.arange(n, dtype=F64) + 0.5) / n)).exp() + shift


def means_of_draws(values, n_draws=40_000):
    picks = np.random.default_rng(0).integers(0, len(values), (n_draws, len(values)))
    return values.double().numpy()[picks].mean(1)


def assert_interval(found, low, high, message, share=0.06):
    """Low and high, plain numbers, within a share of the width: what the draws leave open."""
    assert isinstance(found, tuple | list) and len(found) == 2, f"expected the pair (low, high), got {found!r}"
    for name, actual, expected in zip(("low", "high"), found, (low, high), strict=True):
        assert_plain(actual, float)
        assert abs(actual - expected) <= share * (high - low), (
            f"{message}: expected {name} about {expected:.4g}, got {actual:.4g}"
        )


def interval_cases(rng):
    cases = [(skewed(8), 0.95), (skewed(12, sign=-1), 0.95), (skewed(12), 0.8), (skewed(30, spread=0.5), 0.9)]
    cases += [(strided(rng.normal(20, dtype=F64)), 0.95), (1000 + rng.normal(15, dtype=F64), 0.9)]
    return cases


def test_bootstrap_interval(bootstrap_interval, rng):
    """Quantiles of the means of samples drawn with replacement."""
    for values, level in interval_cases(rng):
        low, high = np.quantile(means_of_draws(values), [(1 - level) / 2, (1 + level) / 2])
        found = answer_to(bootstrap_interval, values, level, 10_000, seeded(rng))
        assert_interval(found, low, high, f"{len(values)} values, level {level}: not the percentile interval")
    values = skewed(6, spread=0.5)  # so few that a value more or less in each sample shows
    low, high = np.quantile(means_of_draws(values, 200_000), [0.1, 0.9])
    found = answer_to(bootstrap_interval, values, 0.8, 20_000, seeded(rng))
    assert_interval(found, low, high, "6 values, level 0.8 (does each sample have 6?)", 0.033)
    found = answer_to(bootstrap_interval, torch.tensor([2.0, 2.0, 2.0]), 0.95, 100, seeded(rng))
    assert_interval(found, 2 - 1e-6, 2 + 1e-6, "equal values", 1.0)


def test_bootstrap_interval__seed(bootstrap_interval):
    """The generator decides the draws: the same seed gives the same interval, another another"""
    ends = [tuple(bootstrap_interval(skewed(9), 0.9, 50, torch.Generator().manual_seed(s))) for s in (0, 0, 1)]
    assert ends[0] == ends[1], "the same seed gives other numbers each time"
    assert ends[0] != ends[2], "another seed gives the same numbers: use the generator"
    assert_draws_from(lambda generator: bootstrap_interval(skewed(9), 0.9, 50, generator))


def bca_by_hand(values, level):
    """Efron's formulas, the acceleration by the jackknife."""
    x = values.double().numpy()
    means = means_of_draws(values)
    below = ((means < x.mean()).mean() + (means <= x.mean()).mean()) / 2
    left_out = np.array([np.delete(x, i).mean() for i in range(len(x))])
    d = left_out.mean() - left_out
    acceleration = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    z = stats.norm.ppf(below) + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    return np.quantile(means, stats.norm.cdf(stats.norm.ppf(below) + z / (1 - acceleration * z)))


def test_bca_interval(bca_interval, rng):
    """Quantiles corrected for bias and acceleration."""
    cases = [*interval_cases(rng), (skewed(7, spread=1.5), 0.95)]
    cases += [(skewed(9, spread=1.2), 0.5)]  # the bias is large beside so narrow an interval
    cases += [(skewed(7, spread=1.5, shift=-20.0), 0.95)]  # values below 0: the acceleration is of differences
    for values, level in cases:
        low, high = bca_by_hand(values, level)
        found = answer_to(bca_interval, values, level, 20_000, seeded(rng))
        assert_interval(found, low, high, f"{len(values)} values, level {level}: not the BCa interval")
    found = answer_to(bca_interval, torch.tensor([3.0, 3.0, 3.0]), 0.95, 100, seeded(rng))
    assert_interval(found, 3 - 1e-6, 3 + 1e-6, "equal values: the value twice", 1.0)


def test_bca_interval__seed(bca_interval):
    """The generator decides the draws: the same seed gives the same interval, another another"""
    ends = [tuple(bca_interval(skewed(9), 0.9, 50, torch.Generator().manual_seed(s))) for s in (0, 0, 1)]
    assert ends[0] == ends[1], "the same seed gives other numbers each time"
    assert ends[0] != ends[2], "another seed gives the same numbers: use the generator"
    assert_draws_from(lambda generator: bca_interval(skewed(9), 0.9, 50, generator))


def test_bca_interval__ties(bca_interval, rng):
    """Where many bootstrap means equal the sample's, half of them count as below"""
    values = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0], dtype=F64)
    low, high = bca_by_hand(values, 0.6)
    assert_interval(answer_to(bca_interval, values, 0.6, 20_000, seeded(rng)), low, high, "values 0, 0, 0, 1, 1", 0.02)


def test_coverage(coverage, rng):
    """The share of intervals that hold the truth, ends included, and its standard error."""

    def ends(sample):
        return sample.min().item(), sample.max().item()

    samples = torch.tensor([[1.0, 3.0], [4.0, 5.0], [2.0, 2.5], [0.0, 1.0]])
    cases = [(samples, 2.0), (samples, 1.0), (samples, 9.0), (samples[:1], 2.0)]
    cases += [(rng.normal(n, 3), 0.3) for n in (1, 7, 40)]
    for rows, truth in cases:
        found = answer_to(coverage, ends, rows, truth)
        assert isinstance(found, tuple | list) and len(found) == 2, f"expected (share, error), got {found!r}"
        held = [min(row) <= truth <= max(row) for row in rows.tolist()]
        share = sum(held) / len(held)
        assert_plain(found[0], float)
        assert_plain(found[1], float)
        assert math.isclose(found[0], share, abs_tol=1e-6), (
            f"{sum(held)} of {len(held)} intervals hold {truth}: expected a share of {share:.4f}, got {found[0]:.4f}"
        )
        error = math.sqrt(share * (1 - share) / len(held))
        assert math.isclose(found[1], error, abs_tol=1e-6), (
            f"share {share:.3f} of {len(held)}: expected a standard error of {error:.4f}, got {found[1]:.4f}"
        )


def test_coverage__once_each(coverage):
    """The interval is asked once a sample, and given one sample"""
    seen = []

    def ends(sample):
        seen.append(tuple(sample.shape))
        return -1.0, 1.0

    coverage(ends, torch.zeros(5, 3), 0.0)
    assert_equal(seen, [(3,)] * 5, "the shapes that the interval was given, once for each of 5 samples of 3")


def test_answer_unit(answer_unit):
    """What was drawn independently of what."""
    assert_choice(answer_unit, "c", "the claim is about models trained so: of what did you draw several?")


# --- 6. Two groups


def exact_p(a, b):
    """Over every way to choose who is a."""
    both = [*a.tolist(), *b.tolist()]
    total, n, m = sum(both), len(a), len(b)

    def gap(chosen):
        part = sum(both[i] for i in chosen)
        return abs(part / n - (total - part) / m)

    real = gap(range(n))
    gaps = [gap(chosen) for chosen in itertools.combinations(range(n + m), n)]
    return sum(g >= real - 1e-9 * max(map(abs, both)) for g in gaps) / len(gaps)


def hint(a, b):
    values = torch.cat([a, b])
    if values.dtype == F64 and len(values.unique()) < len(values):
        return "; many differences here are equal, but for rounding"
    return f"; no value here is above {float(values.abs().max()):.1g}" if values.abs().max() < 1e-4 else ""


TIED = (([0.1, 0.2, 0.3], [0.1, 0.2, 0.3, 0.6]), ([0.7, 0.1, 0.1], [0.1, 0.2, 0.1, 0.2, 0.1, 0.7]))


def test_permutation_test(permutation_test, rng):
    """Near the exact p over all ways to give out the labels; ties count, and so does the real one."""
    cases = [(torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 1.0]))]
    cases += [(torch.tensor([3.0, 4.0, 5.0, 9.0]), torch.tensor([1.0, 2.0])), (torch.ones(3), torch.ones(4))]
    # In float64: tenths in float32 are equal or not according to who adds them up.
    cases += [(torch.tensor(a, dtype=F64), torch.tensor(b, dtype=F64)) for a, b in TIED]
    cases += [(1e-6 * rng.normal(4, dtype=F64), 1e-6 * rng.normal(5, dtype=F64))]
    cases += [(rng.normal(5, dtype=F64), rng.normal(6, dtype=F64) + 1), (rng.normal(6) + 1, rng.normal(4))]
    cases += [(1000 + rng.normal(5), 1000 + rng.normal(5)), (strided(rng.normal(1)), rng.normal(9))]
    cases += [(10 * rng.normal(4, dtype=F64), torch.full((8,), 4.0, dtype=F64))]
    n_draws = 8000
    for a, b in cases:
        actual = assert_plain(answer_to(permutation_test, a, b, n_draws, seeded(rng)), float)
        expected = exact_p(a.double(), b.double())
        limit = 6 * math.sqrt(expected * (1 - expected) / n_draws) + 2e-4
        assert abs(actual - expected) <= limit, (
            f"{len(a)} values against {len(b)}: p over all labellings is {expected:.4f}, got {actual:.4f}{hint(a, b)}"
        )


def test_permutation_test__never_zero(permutation_test, rng):
    """The smallest p is 1 / (1 + draws)"""
    for n_draws in (9, 99):
        p = permutation_test(rng.normal(30), rng.normal(30) + 50, n_draws, seeded(rng))
        assert math.isclose(p, 1 / (1 + n_draws), rel_tol=1e-6), (
            f"no shuffle of {n_draws} comes near: expected p = 1/{1 + n_draws}, got {p:.5f}"
        )
    assert_draws_from(lambda generator: permutation_test(rng.normal(4), rng.normal(4), 9, generator))


def test_answer_p(answer_p):
    """What a p-value is the probability of."""
    assert_choice(answer_p, "a", "the test shuffles labels, as if they meant nothing; what does it count?")


# --- 7. A null that matches


def total_product(x, y):
    return (x.sum(1) * y).sum().item()


def test_matched_null(matched_null, rng):
    """The value, its null over shuffled labels, and p with the real value counted."""
    x, y = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([1.0, 2.0, 4.0])
    cases = [
        (x, y, 600),
        (x.flip(0), y, 600),
        (-x, y, 600),
        (rng.normal(4, 3), rng.normal(4), 1500),
        (torch.ones(3, 2), y, 50),
    ]
    for x, y, n_draws in cases:
        found = answer_to(matched_null, total_product, x, y, n_draws, seeded(rng))
        assert isinstance(found, tuple | list) and len(found) == 3, f"expected (value, null, p), got {found!r}"
        value, null, p = found
        assert_tensor(null, shape=(n_draws,))
        real = total_product(x, y)
        assert math.isclose(assert_plain(value, float), real, rel_tol=1e-4, abs_tol=1e-4), (
            f"the statistic of the data is {real:.4f}, got {value:.4f}"
        )
        possible = torch.tensor([total_product(x, y[list(order)]) for order in itertools.permutations(range(len(y)))])
        nearest = (null[:, None].double() - possible.double()).abs().amin(1)
        assert nearest.max() < 1e-3, (
            f"the null holds {null[nearest.argmax()]:.4f}, which no order of the labels gives: shuffle y, and only y"
        )
        spread = possible.double().std(correction=0)
        drift = abs(null.double().mean() - possible.double().mean())
        assert drift <= 6 * spread / math.sqrt(n_draws) + 1e-4, (
            f"over all orders the mean is {possible.mean():.4f}, the null's {null.mean():.4f}: shuffle anew each time"
        )
        assert null.double().std(correction=0) >= 0.7 * spread - 1e-6, "the null hardly varies: shuffle anew each time"
        counted = (1 + sum(v >= value for v in null.tolist())) / (1 + n_draws)
        near = (1 + sum(v >= value - 1e-4 for v in null.tolist())) / (1 + n_draws)
        assert counted - 1e-6 <= assert_plain(p, float) <= near + 1e-6, (
            f"{round(counted * (1 + n_draws)) - 1} of {n_draws} null values are as large: expected p = {counted:.4f}, "
            f"got {p:.4f}"
        )


def test_matched_null__same_statistic(matched_null, rng):
    """The statistic sees all of x each time: selection happens in the null, too"""
    shapes, data, labels = [], rng.normal(12, 4), rng.normal(12)

    def statistic(x, y):
        shapes.append((tuple(x.shape), tuple(y.shape)))
        return float(torch.allclose(y @ x, labels @ data, atol=1e-4))  # 1 for the data's own pairs alone

    _, _, p = matched_null(statistic, data, labels, 19, seeded(rng))
    assert_equal(set(shapes), {((12, 4), (12,))}, "the shapes that the statistic was given")
    assert_equal(len(shapes), 20, "calls of the statistic: once for the data, once for each of 19 draws")
    assert math.isclose(p, 1 / 20, rel_tol=1e-6), f"no null value of 19 is as large: expected p = 0.05, got {p:.4f}"
    assert_draws_from(lambda generator: matched_null(total_product, data, labels, 9, generator))


def holm_by_hand(p_values):
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, most = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        most = max(most, (len(p_values) - rank) * p_values[i])
        adjusted[i] = min(1.0, most)
    return adjusted


def test_holm(holm, rng):
    """Each p times what is left, never falling, at most 1, in the order given."""
    cases = [
        torch.tensor([0.01, 0.04]),
        torch.tensor([0.04, 0.01, 0.03]),
        torch.tensor([0.9, 0.2]),
        torch.tensor([0.3]),
    ]
    cases += [torch.tensor([0.02, 0.02, 0.5, 0.02]), torch.zeros(3), torch.ones(2)]
    cases += [0.02 + torch.arange(6) / 1000]  # the smallest decides for all
    for dtype in (F32, F64):
        cases += [(rng.uniform(n) ** 3).to(dtype) for n in (2, 5, 40)]
        cases += [strided(rng.uniform(6) / 20).to(dtype)]
    for p_values in cases:
        actual = assert_tensor(answer_to(holm, p_values), shape=p_values.shape)
        said = [round(p, 3) for p in p_values.tolist()][:5]
        assert_close(actual, torch.tensor(holm_by_hand(p_values.tolist())), f"p-values {said}: adjusted wrongly")


def test_answer_coin(answer_coin):
    """What many tests that go together give, when nothing is there."""
    assert_choice(
        answer_coin,
        "b",
        "13.5 is the mean over many coins; heads attend alike, so what happens to all of them at once?",
    )


# --- 8. The best of many


def test_best_of_many(best_of_many, rng):
    """Chosen on one half and scored on the rest, which did not choose."""
    n_splits = 400
    pair = torch.tensor([[1.0, 0.0], [0.0, 3.0]])  # either half chooses the head that fails on the other
    chosen, fresh, again = parts(answer_to(best_of_many, pair, n_splits, seeded(rng)))
    assert abs(fresh) < 1e-6, f"each prompt's best head scores 0 on the other prompt; the fresh score is {fresh:.3f}"
    assert abs(chosen - 2) < 6 / math.sqrt(n_splits), f"the chosen score is 1 or 3, 2 on average; got {chosen:.3f}"
    assert again == 0, f"no head is the best on both halves; got {again}"


def test_best_of_many__a_real_effect(best_of_many, rng):
    """A head that is the best everywhere keeps its score, and is the best again"""
    scores = rng.normal(9, 20)
    scores[:, 7] += 100
    chosen, fresh, again = parts(answer_to(best_of_many, scores, 200, seeded(rng)))
    mean, close = scores[:, 7].mean().item(), 6 * scores[:, 7].std().item() / math.sqrt(200)
    for name, value in (("chosen", chosen), ("fresh", fresh)):
        assert abs(value - mean) < close, (
            f"the best head scores {mean:.2f} in the mean; the {name} score is {value:.2f}"
        )
    assert again == 1, f"head 7 is the best in every part of every split; got {again}"


def test_best_of_many__halves(best_of_many, rng):
    """The first part is n // 2 prompts, the rest the others: together all, none twice"""
    scores = torch.cat([torch.eye(5), torch.full((5, 1), -9.0)], dim=1)  # in 2 prompts, a head has 1/2 or 0
    chosen, fresh, again = parts(answer_to(best_of_many, scores, 50, seeded(rng)))
    assert abs(chosen - 0.5) < 1e-5, (
        f"5 prompts, each with a head of its own that scores 1: 2 prompts choose a head of mean 0.5, got {chosen:.3f}"
    )
    assert abs(fresh) < 1e-6, f"the other 3 prompts give that head 0; got {fresh:.3f}: do the parts overlap?"
    assert again == 0, f"no head scores in both parts; got {again}"
    one = torch.tensor([[1.0, 0.0], [0.0, 0.1], [0.0, 0.1]])
    chosen, fresh, again = parts(answer_to(best_of_many, one, 3000, seeded(rng)))
    for name, value, expected in (
        ("chosen", chosen, (1 + 0.1 + 0.1) / 3),
        ("fresh", fresh, (0 + 0.05 + 0.05) / 3),
        ("again", again, 0.0),
    ):
        if name == "again":
            assert value <= 1e-6, f"1 prompt against 2: the best head never is the best again, got {value:.3f}"
        else:
            assert abs(value - expected) < 0.05, f"1 prompt chooses for 2: {name} is {expected:.3f}, got {value:.3f}"


def over_all_splits(scores):
    """Chosen score, fresh score and agreement of every way to cut the prompts."""
    every = []
    for chosen in itertools.combinations(range(len(scores)), len(scores) // 2):
        first = scores[list(chosen)].mean(0)
        rest = scores[[i for i in range(len(scores)) if i not in chosen]].mean(0)
        head = int(first.argmax())
        every.append((first[head].item(), rest[head].item(), float(rest.argmax() == head)))
    return torch.tensor(every, dtype=F64)


def test_best_of_many__on_average(best_of_many, rng):
    """All three are means over random splits: near those over all splits there are"""
    n_splits = 400
    names = ("chosen score", "fresh score", "share of splits where it is the best again")
    for n in (4, 5):
        every = torch.ones(1, 3)
        while not 0.3 < every[:, 2].mean() < 0.7:  # so that some splits agree and others do not
            scores = rng.normal(n, 3)
            every = over_all_splits(scores)
        found = parts(answer_to(best_of_many, scores, n_splits, seeded(rng)))
        limits = 6 * every.std(0, correction=0) / math.sqrt(n_splits) + 1e-4
        for name, value, expected, limit in zip(names, found, every.mean(0).tolist(), limits.tolist(), strict=True):
            assert abs(value - expected) <= limit, (
                f"{n} prompts, 3 heads, {n_splits} splits: over all {len(every)} splits that there are the {name} is "
                f"{expected:.3f}, got {value:.3f}"
            )


def test_best_of_many__generator(best_of_many, rng):
    """Splits are drawn from the generator"""
    assert_draws_from(lambda generator: best_of_many(rng.normal(4, 3), 9, generator))


def parts(found):
    assert isinstance(found, tuple | list) and len(found) == 3, f"expected (chosen, fresh, again), got {found!r}"
    return [assert_plain(value, float) for value in found]
