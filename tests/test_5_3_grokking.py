"""Checks of 5.3 Progress measures for grokking.

No check loads a model: small primes and random tensors suffice, and nothing may depend on one seed's frequencies.
"""

import math
import numbers

import pytest
import torch

from concrete_steps.checking.testing import (
    assert_choice,
    assert_close,
    assert_equal,
    assert_gradient_values,
    assert_independent,
    assert_plain,
    assert_precise,
    assert_tensor,
    nothing_left_behind,
    strided,
    unchanged,
)

PRIMES = (3, 5, 7, 11, 13)


def random(rng, *shape):
    return rng.normal(*shape, dtype=torch.float64)


def wave(p, row):
    """Row `row` of the basis, entry by entry."""
    if row == 0:
        return torch.full((p,), 1 / math.sqrt(p), dtype=torch.float64)
    k, function = (row + 1) // 2, math.cos if row % 2 else math.sin
    values = [function(2 * math.pi * k * n / p) * math.sqrt(2 / p) for n in range(p)]
    return torch.tensor(values, dtype=torch.float64)


def basis_of(p):
    return torch.stack([wave(p, row) for row in range(p)])


def exact(x):
    """What is 0 but for rounding as 0: a message should not say 5.2e-32."""
    return torch.where(x.abs() < 1e-13, 0.0, x)


def some_pairs(rng, p, n):
    """n different pairs [n 2] in random order."""
    numbers = rng.permutation(p * p)[:n]
    return torch.stack([numbers // p, numbers % p], dim=1)


# --- 1. Waves


# equivalent mutant of find_used_frequencies, any: what finds enough on fresh cases is right
# equivalent mutant of fourier_basis, 1 -> -1: the matrix has two axes, 1 is its last
def test_fourier_basis(fourier_basis):
    """Constant, cos 1, sin 1, cos 2, ...: p rows of length 1 at right angles, for several p."""
    for p in (5, *PRIMES, 9, 113):  # 5 first: with one frequency, cos and sin have one order only
        basis = assert_tensor(fourier_basis(p), shape=(p, p))
        assert basis.dtype == torch.float64, f"the docstring promises float64, this is {basis.dtype}"
        assert_close(
            basis[0].square().sum().item(),
            1.0,
            "row 0, the constant: the sum of its squares (and so its length) is not 1",
        )
        lengths = basis.norm(dim=1)
        assert_close(lengths, torch.ones(p), "the length of a row (root of the sum of its squares) is not 1")
        assert_close(basis[0], wave(p, 0), "row 0 is not constant")
        assert_close(basis[1::2], basis_of(p)[1::2], "row 2k - 1 is not the cos of frequency k: of rows 1, 3, 5, ...")
        assert_close(basis[2::2], basis_of(p)[2::2], "row 2k is not the sin of frequency k: of rows 2, 4, 6, ...")


def test_fourier_basis__exact(fourier_basis):
    """Float64 all the way"""
    basis = fourier_basis(13)
    expected = basis_of(13)
    told = "the rows are not exact"
    if tuple(basis.shape) == (13, 13) and torch.allclose(basis.double(), expected, rtol=1e-3, atol=1e-3):
        assert_precise(basis, expected, told)


# equivalent mutant of frequency_power, drop USub: the matrix has two axes, 1 is its last
# equivalent mutant of frequency_power, 1 -> -1: --1 is 1, the last of two axes
def test_frequency_power(frequency_power, rng):
    """The squares of cos and sin together, over all columns, without the constant."""
    cases = [wave(5, 1)[:, None], (2 * wave(5, 4) + wave(5, 3) + 3 * wave(5, 0))[:, None]]
    cases += [random(rng, p, d) for p, d in [(3, 1), (5, 2), (7, 4), (11, 3), (13, 13)]]
    cases += [strided(random(rng, 5, 3))]
    for x in cases:
        p = len(x)
        with unchanged(x):
            power = assert_tensor(frequency_power(x), shape=((p - 1) // 2,))
        expected = [sum(((wave(p, row) @ x) ** 2).sum() for row in (2 * k - 1, 2 * k)) for k in range(1, (p + 1) // 2)]
        assert_precise(
            power, exact(torch.stack(expected)), "entry k - 1 is not the sum of squares in frequency k's rows"
        )


def test_frequency_power__shift(frequency_power, rng):
    """Shifting all waves leaves every power as it is, and powers add up to all that varies"""
    x = random(rng, 11, 3)
    power = frequency_power(x)
    assert_close(frequency_power(x.roll(rng.integer(1, 10), 0)), power, "the power changes when the waves are shifted")
    total = (x - x.mean(0)).square().sum()
    assert_close(power.sum(), total, "the powers do not add up to the sum of squares around the columns' means")


def embedding_with(powers, rng, d=5, constant=9):
    """A [p d] table in random directions whose frequency k has power powers[k - 1], beside a constant."""
    p = 2 * len(powers) + 1
    table = constant * wave(p, 0)[:, None] * torch.ones(d, dtype=torch.float64)
    for k, power in enumerate(powers, start=1):
        turn, direction = 2 * math.pi * float(rng.uniform(1)), random(rng, d)
        picture = math.cos(turn) * wave(p, 2 * k - 1) + math.sin(turn) * wave(p, 2 * k)
        table = table + math.sqrt(power) * picture[:, None] * direction / direction.norm()
    return table


def assert_whole_numbers(found, what):
    """Numbers that a dict finds: numpy's do, torch's do not."""
    for k in found:
        assert not isinstance(k, torch.Tensor), f"{what}: gives tensors of one number: .tolist() makes plain numbers"
        assert isinstance(k, numbers.Integral), f"{what}: expected whole numbers, got {k!r}"


def test_key_frequencies(key_frequencies, rng):
    """Frequencies of more than `times` the mean power, ascending, counted from 1."""
    cases = [([0.1, 0.1, 0.1, 5.0, 0.1], {}, [4]), ([9.0, 0.1, 0.2, 0.1, 7.0, 0.1], {}, [1, 5])]
    cases += [([1.0, 1.2, 0.9, 1.1, 1.0], {}, []), ([1.0, 2.3, 1.0, 3.0, 0.5], {}, [])]  # 3.0 is not above 2 x 1.56
    cases += [([1.0, 2.3, 1.0, 4.0, 0.5], {}, [4]), ([1.0, 2.3, 1.0, 3.0, 0.5], {"times": 1.2}, [2, 4])]
    cases += [([4.0, 1.0, 1.0, 1.0, 9.0, 1.0], {"times": 3.0}, [5]), ([2.0, 1.0, 3.0], {"times": 0.1}, [1, 2, 3])]
    nothing = key_frequencies(torch.zeros(7, 2, dtype=torch.float64))
    assert_equal(assert_plain(nothing, list), [], "a table of zeros: no power is above twice the mean, 0")
    for powers, options, expected in cases:
        x = embedding_with(powers, rng, constant=0.5 if powers is cases[0][0] else 9)
        with unchanged(x):
            found = key_frequencies(x, **options)
        assert_whole_numbers(assert_plain(found, list), "a list of frequencies")
        mean = sum(powers) / len(powers)
        told = f"powers of frequencies 1, 2, ... are {powers}, their mean {mean:.3g}, times {options.get('times', 2.0)}"
        assert_equal([int(k) for k in found], expected, told)  # a number of numpy's or torch's is a number


# --- 2. Two axes


def test_fft2d(fft2d, rng):
    """Coefficient [i, j] is the sum of wave i along a times wave j along b times x, with any further axes."""
    cases = [wave(3, 1)[:, None] * wave(3, 2)]
    shapes = [(3, ()), (5, (2,)), (7, (2, 3)), (3, (3,)), (5, (1,)), (5, (5, 5))]
    cases += [random(rng, p, p, *rest) for p, rest in shapes]
    cases += [strided(random(rng, 5, 5, 2))]
    for x in cases:
        p = len(x)
        with unchanged(x):
            out = assert_tensor(fft2d(x), shape=x.shape)
        expected = torch.zeros_like(x)
        for i in range(p):
            for j in range(p):
                product = wave(p, i)[:, None] * wave(p, j)
                expected[i, j] = (product.view(p, p, *[1] * (x.ndim - 2)) * x).sum((0, 1))
        assert_precise(out, exact(expected), "out[i, j] is not the sum over a, b of F[i, a] * F[j, b] * x[a, b]")


def test_answer_product(answer_product):
    """Which wave two equal coefficients make"""
    assert_choice(
        answer_product, "c", "cos(a - b) is cos(a + (-b)), and sin(-b) = -sin b: what does that do to the signs?"
    )


# --- 3. Neurons of one frequency


def shares_by_projection(x):
    """[frequency n]: for each frequency the eight products one by one."""
    p, n = len(x), x.shape[-1]
    shares = torch.zeros((p - 1) // 2, n, dtype=torch.float64)
    for column in range(n):
        picture = x[..., column]
        variance = (picture - picture.mean()).square().sum()
        for k in range(1, (p - 1) // 2 + 1):
            rows = (0, 2 * k - 1, 2 * k)
            products = [(i, j) for i in rows for j in rows if (i, j) != (0, 0)]
            power = sum((wave(p, i) @ picture @ wave(p, j)) ** 2 for i, j in products)
            shares[k - 1, column] = power / variance if variance > 0 else 0
    return shares


def neurons_for(rng, p):
    """Pure and mixed neurons, one that is always 0, and noise; all but the dead one with a large mean."""
    a, b = wave(p, 1), wave(p, p - 1)  # cos of frequency 1, sin of the last
    pictures = [a[:, None] * wave(p, 0), wave(p, 0)[:, None] * b, a[:, None] * wave(p, 2), a[:, None] * b]
    pictures = [picture + 2 for picture in pictures]
    pictures += [torch.zeros(p, p, dtype=torch.float64), random(rng, p, p).relu(), 3 + random(rng, p, p)]
    return torch.stack(pictures, dim=-1)


def test_variance_by_frequency(variance_by_frequency, rng):
    """The share of each column's variance in the eight products of each frequency."""
    for x in [
        neurons_for(rng, 5),
        *(random(rng, p, p, n) for p, n in [(3, 1), (5, 3), (7, 4), (11, 2)]),
        neurons_for(rng, 11),
    ]:
        p, n = len(x), x.shape[-1]
        with unchanged(x):
            shares = assert_tensor(variance_by_frequency(x), shape=((p - 1) // 2, n))
        assert not shares.isnan().any(), "there are nan: a neuron that is always 0 has variance 0, and 0 / 0 is nan"
        expected = shares_by_projection(x)
        assert_precise(
            shares, exact(expected), "entry [k - 1, j] is not the share of neuron j's variance in frequency k"
        )


def test_variance_by_frequency__scale(variance_by_frequency, rng):
    """Neither the mean nor the size of a column changes its shares, and no share is above 1"""
    x = random(rng, 7, 7, 3)
    shares = variance_by_frequency(x)
    assert_close(variance_by_frequency(1e-3 * x + 5), shares, "adding a constant to a neuron changes its shares")
    assert_close(variance_by_frequency(1e-9 * x), shares, "a neuron a thousand million times as quiet has other shares")
    assert shares.max() <= 1 + 1e-9, f"a share is {shares.max():.3g}: no share is above 1"


def frequencies_and_shares(out, shape):
    """Two tensors of this shape, in this order; the first of whole numbers."""
    assert isinstance(out, tuple) and len(out) == 2, "two tensors are promised: frequencies and shares"
    frequency, share = (assert_tensor(part, shape=shape) for part in out)
    in_order = share.is_floating_point() or not frequency.is_floating_point()
    assert in_order, "gives the shares first, then the frequencies"
    whole = not (frequency.is_floating_point() or frequency.is_complex() or frequency.dtype == torch.bool)
    assert whole, f"frequencies are whole numbers, this tensor is {frequency.dtype}"
    return frequency, share


def test_neuron_frequencies(neuron_frequencies, rng):
    """The frequency with the largest share, counted from 1, and that share."""
    for x in [*(random(rng, p, p, n) for p, n in [(5, 3), (7, 1), (11, 4)]), neurons_for(rng, 7)]:
        with unchanged(x):
            out = neuron_frequencies(x)
        frequency, share = frequencies_and_shares(out, x.shape[-1:])
        best = shares_by_projection(x).max(0)
        assert_precise(share, exact(best.values), "the share of neuron j is not its largest one")
        alive = best.values > 0
        assert_close(
            frequency[alive], best.indices[alive] + 1, "the frequency of neuron j is not the one of most variance"
        )


# --- 4. Directions of a + b


def pictures_of(p, frequencies):
    """cos and sin of 2πk(a+b)/p, each of length 1, entry by entry."""
    pictures = [
        [[function(2 * math.pi * k * (a + b) / p) for b in range(p)] for a in range(p)]
        for k in frequencies
        for function in (math.cos, math.sin)
    ]
    return torch.tensor(pictures, dtype=torch.float64) * math.sqrt(2) / p


# equivalent mutant of trig_directions, 1 -> -1: flatten(1) leaves two axes, 1 is the last
def test_trig_directions(trig_directions):
    """cos, then sin, of 2πk(a + b)/p for each frequency in the order given, each of length 1."""
    for p, frequencies in [(3, [1]), (5, [2]), (7, [1, 3]), (7, [3, 1]), (11, [2, 5, 1]), (13, [6])]:
        out = assert_tensor(trig_directions(p, frequencies), shape=(2 * len(frequencies), p, p))
        lengths = out.flatten(1).norm(dim=1)
        assert_close(lengths, torch.ones(len(out)), "a picture's length (root of the sum of its squares) is not 1")
        told = f"p = {p}, frequencies {frequencies}: picture 2i is not cos, or 2i + 1 not sin, of 2πk(a + b)/p"
        assert_precise(out, exact(pictures_of(p, frequencies)), told)


def at_right_angles(rng, p, n):
    """n random pictures at right angles, of lengths between a half and 3."""
    unit = torch.linalg.qr(random(rng, p * p, n)).Q.T
    return (unit * rng.uniform(n, 1, low=0.5, high=3.0)).view(n, p, p)


# equivalent mutant of project_onto, 1 -> -1: flatten(1) leaves two axes, 1 is the last
def test_project_onto(project_onto, rng):
    """The part of x in the span of directions of any length, with any further axes."""
    cases = [(torch.ones(3, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)[None])]
    for p, n, rest in [(3, 1, ()), (5, 3, (2,)), (7, 4, (2, 3)), (5, 2, (5,)), (3, 2, (3, 3))]:
        cases += [(random(rng, p, p, *rest), at_right_angles(rng, p, n))]
    cases += [(strided(random(rng, 5, 5, 2)), strided(at_right_angles(rng, 5, 3)))]
    for x, directions in cases:
        with unchanged(x, directions):
            out = assert_tensor(project_onto(x, directions), shape=x.shape)
        columns = directions.flatten(1).T
        fitted = columns @ torch.linalg.lstsq(columns, x.reshape(len(columns), -1)).solution
        assert_precise(
            out, fitted.reshape(x.shape), "the result is not the part of x in the span of the directions", loosen=10
        )
        assert_close(project_onto(out, directions), out, "projecting a second time changes the result")


# --- 5. How ReLU adds, and the weights alone


def adder_by_loops(p, k, n_neurons):
    out = torch.zeros(p, p, dtype=torch.float64)
    for a in range(p):
        for b in range(p):
            for j in range(n_neurons):
                phase, w = 2 * math.pi * j / n_neurons, 2 * math.pi * k / p
                neuron = max(0.0, math.cos(w * a + phase) + math.cos(w * b + phase))
                out[a, b] += math.cos(2 * phase) * neuron
    return out


# equivalent mutant of relu_adder, 2 -> -2 (3x): cos is even, and all phases are there
def test_relu_adder(relu_adder):
    """The sum over neurons of cos(2φ) times ReLU of the sum of both waves, for every pair."""
    for p, k, n_neurons in [(3, 1, 1), (5, 2, 3), (5, 1, 5), (7, 3, 8), (7, 2, 1), (11, 4, 16), (5, 1, 4)]:
        out = assert_tensor(relu_adder(p, k, n_neurons), shape=(p, p))
        told = f"p = {p}, k = {k}, {n_neurons} neurons: entry [a, b] is not the sum over neurons of cos(2φ) ReLU(...)"
        assert_precise(out, exact(adder_by_loops(p, k, n_neurons)), told, 10)


def test_relu_adder__default(relu_adder):
    """16 neurons unless told otherwise"""
    assert_close(relu_adder(7, 2), adder_by_loops(7, 2, 16), "without n_neurons: not the sum over 16 neurons")


def test_column_frequencies(column_frequencies, rng):
    """Each column's strongest frequency, counted from 1, and its share of the power without the constant."""
    cases = [
        wave(5, 3)[:, None] + 4 * wave(5, 0)[:, None],
        torch.stack([wave(7, 1), 2 * wave(7, 6), wave(7, 4)], dim=1),
    ]
    cases += [random(rng, p, n) + 3 for p, n in [(3, 1), (5, 4), (7, 7), (11, 2), (13, 5)]]
    cases += [torch.cat([random(rng, 7, 2), torch.zeros(7, 1, dtype=torch.float64)], dim=1), strided(random(rng, 7, 3))]
    cases += [1e-9 * random(rng, 7, 3)]
    for x in cases:
        p, n = x.shape
        with unchanged(x):
            out = column_frequencies(x)
        frequency, share = frequencies_and_shares(out, (n,))
        power = torch.stack([((basis_of(p)[2 * k - 1 : 2 * k + 1] @ x) ** 2).sum(0) for k in range(1, (p + 1) // 2)])
        best = power.max(0)
        alive = best.values > 0
        assert not share.isnan().any(), "there are nan: a column of zeros has power 0, and 0 / 0 is nan"
        expected = torch.where(alive, best.values / power.sum(0).clamp_min(1e-30), 0.0)
        assert_precise(share, expected, "entry j is not the share of column j's power in its strongest frequency")
        assert_close(frequency[alive], best.indices[alive] + 1, "the frequency of column j is not its strongest")


# --- 6. A formula


def formula_by_loops(p, amplitudes):
    logits = torch.zeros(p, p, p, dtype=torch.float64)
    for a in range(p):
        for b in range(p):
            for c in range(p):
                waves = [size * math.cos(2 * math.pi * k * (a + b - c) / p) for k, size in amplitudes.items()]
                logits[a, b, c] = sum(waves)
    return logits


# equivalent mutant of predict_from_trig, 2 -> -2: cos is even
def test_predict_from_trig(predict_from_trig, rng):
    """Each logit is the sum over k of amplitude times cos(2πk(a + b - c)/p)."""
    cases = [(3, {1: 1.0}), (5, {2: -1.5})]
    cases += [(p, {k: float(rng.normal(1)) for k in ks}) for p, ks in [(5, [1, 2]), (7, [3, 1]), (11, [2, 4, 5])]]
    for p, amplitudes in cases:
        out = assert_tensor(predict_from_trig(p, amplitudes), shape=(p, p, p))
        told = f"p = {p}: entry [a, b, c] is not the formula's"
        assert_precise(out, exact(formula_by_loops(p, amplitudes)), told)


# equivalent mutant of fit_amplitudes, drop .item(): a tensor of one number is a number
# equivalent mutant of fit_amplitudes, 1 -> -1 (2x): pairs have two columns
def test_fit_amplitudes(fit_amplitudes, rng):
    """The least-squares amplitudes on the given pairs, whatever the logits of other pairs are."""
    for p, frequencies, n in [(5, [2], 1), (5, [1, 2], 6), (7, [3, 1], 20), (11, [2, 5, 1], 40), (7, [2], 49)]:
        logits, pairs = random(rng, p, p, p) + 2, some_pairs(rng, p, n)
        with unchanged(logits, pairs):
            amplitudes = fit_amplitudes(logits, frequencies, pairs)
        assert_plain(amplitudes, dict)
        assert_equal(sorted(amplitudes), sorted(frequencies), "the frequencies in the dict")
        at = pairs[:, 0], pairs[:, 1]
        waves = torch.stack([formula_by_loops(p, {k: 1.0})[at].flatten() for k in frequencies], dim=1)
        best = torch.linalg.lstsq(waves, logits[at].reshape(-1, 1)).solution[:, 0]
        for k, expected in zip(frequencies, best, strict=True):
            told = f"p = {p}, {n} pairs: the amplitude of frequency {k} is not the least-squares one"
            assert_precise(torch.tensor(float(amplitudes[k]), dtype=torch.float64), expected, told, 10)


def test_answer_accuracy(answer_accuracy):
    """What the accuracy of a formula shows"""
    assert_choice(answer_accuracy, "a", "at c = a + b every cosine is 1: what does accuracy then say about the model?")


# --- 7. Keep only the waves, or all but the waves


def loss_by_loops(logits, pairs):
    p = len(logits)
    losses = [-logits[a, b].log_softmax(-1)[(a + b) % p] for a, b in pairs.tolist()]
    return sum(losses) / len(losses)


def waves_in(logits, frequencies):
    """The part of logits [a b c] in the waves of a + b, one coefficient at a time."""
    pictures = pictures_of(len(logits), frequencies)
    return sum(picture[..., None] * (picture[..., None] * logits).sum((0, 1)) for picture in pictures)


def logit_cases(rng):
    """Logits [a b c] with waves, a mean for each answer and noise; frequencies; pairs to measure on."""
    for p, frequencies, n in [(3, [1], 1), (5, [2], 7), (7, [1, 3], 30), (11, [5, 2, 3], 50), (5, [1], 25)]:
        waves = formula_by_loops(p, {k: 2.0 for k in frequencies})
        yield waves + random(rng, p) + random(rng, p, p, p) + random(rng, p, p, 1), frequencies, some_pairs(rng, p, n)


def test_restricted_loss(restricted_loss, rng):
    """The loss on the given pairs of each answer's mean plus the waves of a + b."""
    for logits, frequencies, pairs in logit_cases(rng):
        with unchanged(logits, pairs):
            loss = restricted_loss(logits, frequencies, pairs)
        kept = logits.mean((0, 1)) + waves_in(logits, frequencies)
        told = f"p = {len(logits)}: not the loss of each answer's mean over (a, b) plus the waves of a + b"
        assert_precise(loss, loss_by_loops(kept, pairs), told, 10)


def test_restricted_loss__gradient(restricted_loss, rng):
    """The gradient that reaches the logits is the derivative"""
    pairs = some_pairs(rng, 5, 7)
    assert_gradient_values(lambda logits: restricted_loss(logits, [1], pairs), random(rng, 5, 5, 5), rng=rng)


def test_excluded_loss(excluded_loss, rng):
    """The loss on the given pairs of logits without the waves of a + b."""
    for logits, frequencies, pairs in logit_cases(rng):
        with unchanged(logits, pairs):
            loss = excluded_loss(logits, frequencies, pairs)
        told = f"p = {len(logits)}: not the loss of the logits without the waves of a + b"
        assert_precise(loss, loss_by_loops(logits - waves_in(logits, frequencies), pairs), told, 10)


def test_excluded_loss__gradient(excluded_loss, rng):
    """The gradient that reaches the logits is the derivative"""
    pairs = some_pairs(rng, 5, 7)
    assert_gradient_values(lambda logits: excluded_loss(logits, [1], pairs), random(rng, 5, 5, 5), rng=rng)


def test_answer_excluded(answer_excluded):
    """What a rising excluded loss means"""
    assert_choice(answer_excluded, "b", "excluded loss says how well the training pairs are known *without* the waves")


# --- 8. Absent is not unused


def test_remove_frequency(remove_frequency, rng):
    """The table without its cos and sin of frequency k, all else as it was."""
    cases = [(wave(5, 1)[:, None] + 2 * wave(5, 4)[:, None] + 3 * wave(5, 0)[:, None], 1)]
    cases += [(random(rng, p, d) + 2, k) for p, d, k in [(3, 1, 1), (5, 2, 2), (7, 4, 3), (11, 3, 1), (7, 7, 2)]]
    cases += [(strided(random(rng, 7, 3)), 3)]
    for x, k in cases:
        with unchanged(x):
            out = assert_tensor(remove_frequency(x, k), shape=x.shape)
        rows = [wave(len(x), row) for row in (2 * k - 1, 2 * k)]
        expected = x - sum(row[:, None] * (row[:, None] * x).sum(0) for row in rows)
        assert_precise(out, exact(expected), f"p = {len(x)}: not the table without its two waves of frequency {k}")


def test_equal_noise(equal_noise, rng):
    """x plus a random change exactly as long as that from x to `changed`."""
    for p, d, size in [(3, 1, 1.0), (5, 2, 0.1), (7, 4, 10.0), (1, 1, 2.0), (5, 5, 1e-3)]:
        x = random(rng, p, d) + 5
        changed = x + size * random(rng, p, d)
        with unchanged(x, changed), nothing_left_behind():
            out = assert_tensor(equal_noise(x, changed, rng.integer(0, 1000)), shape=x.shape, dtype=torch.float64)
        told = "the noise is not as long as the change (root of the sum of all squares)"
        assert_precise((out - x).norm(), (changed - x).norm(), told, 1e4)


# equivalent mutant of equal_noise, Add -> Sub: noise and its opposite are equally likely
# equivalent mutant of equal_noise, Sub -> Add: noise and its opposite are equally likely
def test_equal_noise__random(equal_noise, rng):
    """The noise is normal, around 0, the same for one seed, and has nothing to do with that of another"""
    x = random(rng, 60, 50)
    ramps = torch.linspace(0, 2, 60)[:, None], torch.linspace(0, 2, 50)  # noise must not follow the change's sizes
    changed = x + random(rng, 60, 50) * ramps[0] * ramps[1]

    def noise(seed):
        return equal_noise(x, changed, seed) - x

    for axis, name in ((1, "rows"), (0, "columns")):
        sizes = noise(0).norm(dim=axis)
        assert sizes.max() < 2.5 * sizes.min(), f"the noise has loud and quiet {name}: one size for all entries"
    assert_independent(noise)
    drawn = noise(rng.integer(3, 1000))
    standard = drawn / drawn.square().mean().sqrt()
    assert abs(standard.mean()) < 0.11, f"the noise has mean {standard.mean():.2f} of its size: it should be around 0"
    kurtosis = (standard**4).mean()
    assert 2.3 < kurtosis < 4.2, "the noise is not normally distributed: torch.randn, one size for all entries"
    change = (changed - x) / (changed - x).norm()
    along = float((standard * change).sum())
    assert abs(along) < 6, "the noise goes the way of the change: its direction should be random"


def test_answer_idle(answer_idle):
    """What shows that a part is not used"""
    assert_choice(answer_idle, "c", "the frequency that you removed was absent from logits and W_L, too")


def doubled_by_projection(logits, k):
    p = len(logits)
    twice = next(m for m in range(1, (p + 1) // 2) if (2 * k - m) % p == 0 or (2 * k + m) % p == 0)
    variance = power = 0
    for row in (2 * k - 1, 2 * k):
        picture = (logits * wave(p, row)).sum(-1)
        variance = variance + (picture - picture.mean()).square().sum()
        for single in (2 * twice - 1, 2 * twice):
            power = (
                power + (wave(p, single) @ picture @ wave(p, 0)) ** 2 + (wave(p, 0) @ picture @ wave(p, single)) ** 2
            )
    return power / variance


# equivalent mutant of doubled_share, drop .item(): a tensor of one number is a number
# equivalent mutant of doubled_share, LtE -> Lt: 2k is even, and so never p // 2 where that is odd; else tested
def test_doubled_share(doubled_share, rng):
    """The share of what frequency k of c reads that is in single waves of frequency 2k."""
    cases = []
    for p, k in [(5, 1), (7, 1), (7, 2), (7, 3), (11, 2), (11, 4), (9, 2), (13, 3)]:
        n = torch.arange(p, dtype=torch.float64)
        doubles = [(4 * math.pi * k * x / p + 1).cos() for x in (n[:, None, None], n[:, None])]
        reads = wave(p, 2 * k - 1) + 0.3 * wave(p, 2 * k)
        cases += [(random(rng, p, p, p) + 3 + (doubles[0] + 2 * doubles[1]) * reads, k)]
    for logits, k in cases:
        with unchanged(logits):
            share = doubled_share(logits, k)
        one = isinstance(share, float) or (isinstance(share, torch.Tensor) and share.ndim == 0)
        assert one, f"a number is promised, this is {type(share).__name__}"
        told = f"p = {len(logits)}, k = {k}: not the share of the pictures' variance in single waves of frequency 2k"
        assert_precise(torch.as_tensor(share, dtype=torch.float64), doubled_by_projection(logits, k), told)


def test_ablate_neurons(ablate_neurons, rng):
    """The logits with each chosen neuron at its mean over all pairs."""
    for p, n, how_many in [(3, 1, 1), (3, 4, 2), (5, 6, 3), (5, 3, 3), (3, 5, 0), (5, 8, 1)]:
        run = {"neurons": (random(rng, p, p, n) + 1).relu(), "logits": random(rng, p, p, p)}
        w_l, chosen = random(rng, p, n), torch.zeros(n, dtype=torch.bool)
        chosen[rng.permutation(n)[:how_many]] = True
        with unchanged(run, w_l, chosen):
            out = assert_tensor(ablate_neurons(run, w_l, chosen), shape=(p, p, p))
        expected = run["logits"].clone()
        for j in chosen.nonzero()[:, 0].tolist():
            neuron = run["neurons"][..., j]
            expected = expected + (neuron.mean() - neuron)[..., None] * w_l[:, j]
        told = f"{how_many} of {n} neurons chosen: not the logits with these at their means over (a, b)"
        assert_precise(out, expected, told)


# --- 9. Phases

STEPS = [0, 10, 30, 70, 90, 200]
START = [4.0, 3.0, 0.3, 0.2, 0.1, 0.1]  # memorised at step 30
FALLS, RISES = [4, 4, 3, 1.5, 0.9, 0.1], [4, 3, 0, 1, 3, 5]  # restricted and excluded loss: the circuit is there at 90
HIGH = [4, 6, 9, 8, 2, 0.3]  # test loss: generalised at step 200
# what the run does: (train, restricted, excluded, test), expected
RUNS = {
    "groks": ((START, FALLS, RISES, HIGH), (30, 90, 200)),
    "has its circuit and its skill at one step": ((START, FALLS, RISES, [4, 6, 9, 8, 0.3, 0.1]), (30, 90, 90)),
    "has all at one step": (
        (START, [4, 4, 1, 1, 1, 1], [4, 3, 3, 3, 3, 3], [4, 6, 0.3, 0.1, 0.1, 0.1]),
        (30, 30, 30),
    ),
    "has a restricted loss that is low by chance at first": (
        (START, [4, 1, 3, 1.5, 0.9, 0.1], RISES, HIGH),
        (30, 90, 200),
    ),
    "has a dip of test loss before its circuit": ((START, FALLS, RISES, [4, 0.1, 0.2, 0.1, 3, 0.2]), (30, 90, 200)),
    "has waves that do harm, while all else does more": (
        (START, [4, 9, 8, 5, 3, 1], [4, 3, 9, 9, 9, 9], HIGH),
        (30, 200, 200),
    ),
    "has a restricted loss of 3 at first": ((START, [3, 3, 1.7, 1.6, 1.4, 1], [5, 4, 5, 5, 5, 5], HIGH), (30, 90, 200)),
    "touches 10 % before it is below": (
        ([10, 1, 0.9, 0.5, 0.5, 0.5], FALLS, RISES, [10, 9, 9, 9, 1, 0.9]),
        (30, 90, 200),
    ),
    "touches a half before it is below": ((START, [4, 3, 3, 2, 1, 1], [4, 3, 5, 5, 5, 5], HIGH), (30, 90, 200)),
    "has equal losses, none below the other": ((START, FALLS, [4, 3, 3, 1.5, 0.9, 3], HIGH), (30, 200, 200)),
    "starts with a low excluded loss": (
        (START, [4, 4, 1.9, 1.5, 0.9, 0.1], [1, 2, 3, 3, 3, 5], HIGH),
        (30, 30, 200),
    ),
    "never generalises": ((START, FALLS, RISES, [4, 6, 9, 8, 2, 0.5]), (30, 90, None)),
    "forms no circuit, though its test loss falls": ((START, FALLS, [4, 3, 0, 0, 0, 0], HIGH), (30, None, None)),
    "never memorises": (([4, 3, 2, 1, 1, 1], FALLS, RISES, HIGH), (None, None, None)),
    "starts at a test loss of 40": ((START, FALLS, RISES, [40, 60, 90, 80, 3, 0.1]), (30, 90, 90)),
    "starts at losses of 0.5": (
        ([0.5, 0.3, 0.4, 0.06, 0.04, 0.01], FALLS, RISES, [0.5, 1, 1, 1, 0.08, 0.04]),
        (90, 90, 200),
    ),
    "comes and goes": (
        ([4, 0.1, 3, 0.1, 1, 1], [4, 1.5, 1, 4, 1, 1], [4, 5, 0, 1, 3, 9], [4, 4, 0.1, 4, 0.1, 4]),
        (10, 10, 30),
    ),
}


# equivalent mutant of find_phases, keep int: an annotation
# equivalent mutant of find_phases, keep None: an annotation
# equivalent mutant of find_phases, Lt -> NotEq: start never passes the end
# equivalent mutant of find_phases, 0 -> 1: no loss is below a tenth of itself
# equivalent mutant of find_phases, steps -> train_loss (3x): all lists are equally long
# equivalent mutant of find_phases, steps -> restricted (3x): all lists are equally long
# equivalent mutant of find_phases, steps -> excluded (3x): all lists are equally long
# equivalent mutant of find_phases, steps -> test_loss (3x): all lists are equally long
def test_find_phases(find_phases):
    """Memorised, formed, generalised on made-up runs, each searched from the one before on."""
    for name, (losses, expected) in RUNS.items():
        found = find_phases(list(STEPS), *(list(loss) for loss in losses))
        assert isinstance(found, list | tuple) and len(found) == 3, f"a list of three is promised, this is {found!r}"
        found = [None if step is None else int(step) for step in found]
        assert_equal(found, list(expected), f"a run that {name}, steps {STEPS}: (memorised, formed, generalised)")


# Frequencies by checkpoint, and since when those of the last one are there without a break.
HISTORIES = {
    "one that stays": ([[], [2], [2]], {2: 10}),
    "one that comes last": ([[], [2], [1, 2]], {1: 30, 2: 10}),
    "there from the start": ([[1], [1], [1]], {1: 0}),
    "one that comes, goes and returns": ([[3], [], [3]], {3: 30}),
    "one that vanishes": ([[1, 3], [1, 3], [1]], {1: 0}),
    "none at the end": ([[1], [1], []], {}),
    "one that returns for good": ([[2], [], [2], [2, 4]], {2: 30, 4: 70}),
    "a single checkpoint": ([[2, 3]], {2: 0, 3: 0}),
}


def test_first_seen(first_seen, rng):
    """For each key frequency of the end: the step since when it is one, without a break."""
    for name, (frequencies, expected) in HISTORIES.items():
        tables = [embedding_with([9.0 + k if k in keys else 0.1 for k in range(1, 9)], rng) for keys in frequencies]
        tables = [size * table for size, table in zip((0.1, 9.0, 1.0, 0.3), tables, strict=False)]
        steps = STEPS[: len(tables)]
        with unchanged(tables, steps):
            found = first_seen(steps, tables)
        assert_whole_numbers(assert_plain(found, dict), "the dict's keys are frequencies")
        told = f"{name}: key frequencies {frequencies} at steps {steps}"
        assert_equal({int(k): int(step) for k, step in found.items()}, expected, told)
        assert_equal([int(k) for k in found], sorted(expected), f"{told}; the order of the frequencies")


# --- 10. Open task: models of known truth


def stranger(rng, noise=1e-3):
    """Weights of a model that adds, with its used frequencies and its decoys: (weights, used, decoys).

    Two heads bring a and b to "=", each to a place of its own; for each frequency 25 neurons of all pairs of phases
    make waves of a + b. One decoy is strong in the embedding, and attention drops it; neurons read another, and no
    answer reads them; a third is in the output weights alone. One used frequency is weak in the embedding.
    Another reaches no logit, and is used all the same: it mends an error, at twice the frequency that makes it.
    """
    phases = 2 * math.pi * torch.arange(5, dtype=torch.float64) / 5
    phases = torch.cartesian_prod(phases, phases)  # of a's wave, of b's
    cos, sin, both = phases.cos(), phases.sin(), phases.sum(-1)
    height = 1.5 * float((both.cos() * cos.sum(-1).relu()).sum())  # of each frequency's wave in the logits
    while True:
        p = rng.choice([23, 29, 31])  # most frequencies are not used
        frequencies = [int(k) + 1 for k in rng.permutation((p - 1) // 2)]
        used, (dropped, unread, never) = sorted(frequencies[:4]), frequencies[4:7]
        whole = formula_loss(p, used, height)
        if all(formula_loss(p, [j for j in used if j != k], height) > 10 * whole for k in used):
            doubles = {k: min(2 * k, p - 2 * k) for k in used}
            doubles = {k: double for k, double in doubles.items() if double not in frequencies[:7]}
            if doubles:
                break  # each is missed, and one can be mended
    mended, mends = rng.choice(list(doubles.items()))
    sizes = dict.fromkeys(used, 1.0) | {dropped: 2.0, unread: 1.0, mends: 1.0, rng.choice(used): 0.4}
    kept, d, d_head = [*used, unread, never, mends], 64, 16
    axes = iter(torch.linalg.qr(random(rng, d, d)).Q.split(2))  # two directions at a time, in a random place
    into, at_a, at_b, out = ({k: next(axes) for k in keys} for keys in ([*kept, dropped], kept, kept, kept))
    (first, second), (last, _) = next(axes), next(axes)  # directions of the three positions

    def by_head(**rows):  # [4 * d_head d]: heads without a name do nothing
        return torch.cat([rows.get(f"head{h}", torch.zeros(d_head, d, dtype=torch.float64)) for h in range(4)])

    carry = torch.linalg.qr(random(rng, d_head, d_head)).Q[:, : 2 * len(kept)]
    look = torch.linalg.qr(random(rng, d_head, 1)).Q
    values = carry @ torch.cat([into[k] for k in kept])
    mlp_in, mlp_out, unembed = [], [], torch.zeros(p, d, dtype=torch.float64)
    for k in kept[:-1]:
        reads = [torch.stack([cos[:, i], -sin[:, i]], dim=1) @ at[k] for i, at in enumerate((at_a, at_b))]
        mlp_in.append((reads[0] + reads[1]) / sizes.get(k, 1.0))
        mlp_out.append(torch.stack([both.cos(), -both.sin()], dim=1) @ out[k])
        if k != unread:
            unembed += 1.5 * waves_of(p, k) @ out[k]
    # ReLU of one wave holds 2/(3π) of its double and half of itself; with 11 phases next to nothing else is left.
    phase = 2 * math.pi * torch.arange(11, dtype=torch.float64) / 11
    for k, weights, share in ((mended, (2 * phase).cos(), 2 / (3 * math.pi)), (mends, -phase.cos(), 1 / 2)):
        mlp_in.append(torch.stack([phase.cos(), -phase.sin()], dim=1) @ at_a[k] / sizes[k])
        mlp_out.append(height / (11 / 2 * share) * weights[:, None] * out[used[0]][0])
    embed = sum(size * waves_of(p, k) @ into[k] for k, size in sizes.items())
    weights = {
        "embed.weight": torch.cat([embed, torch.zeros(1, d, dtype=torch.float64)]),
        "pos_embed.weight": 8 * torch.stack([first, second, last]),
        "blocks.0.attn.q.weight": by_head(head0=look * last, head2=look * last),
        "blocks.0.attn.k.weight": by_head(head0=look * first, head2=look * second),
        "blocks.0.attn.v.weight": by_head(head0=values, head2=values),
        "blocks.0.attn.o.weight": by_head(
            head0=carry @ torch.cat([at_a[k] for k in kept]), head2=carry @ torch.cat([at_b[k] for k in kept])
        ).T,
        "blocks.0.mlp.in.weight": torch.cat(mlp_in),
        "blocks.0.mlp.out.weight": torch.cat(mlp_out).T,
        "unembed.weight": unembed,
    }
    weights = {name: x + noise * random(rng, *x.shape) for name, x in weights.items()}
    return weights, sorted([*used, mends]), [dropped, unread, never]


def formula_loss(p, frequencies, height):
    """The loss of logits that are `height` times the sum of these frequencies' waves of a + b - c."""
    distance = torch.arange(p, dtype=torch.float64)
    logits = height * sum((2 * math.pi * k * distance / p).cos() for k in frequencies)
    return float(-logits.log_softmax(0)[0])


def waves_of(p, k):
    """[p 2] cos and sin of frequency k, of height 1."""
    angles = 2 * math.pi * k * torch.arange(p, dtype=torch.float64) / p
    return torch.stack([angles.cos(), angles.sin()], dim=1)


@pytest.mark.seconds(120)
def test_find_used_frequencies(find_used_frequencies, rng):
    """On five models that nobody has seen: at least 90 % of the used frequencies, and hardly a decoy."""
    found_of_used = decoys_taken = others_taken = n_used = 0
    for _ in range(5):
        weights, used, decoys = stranger(rng)
        with unchanged(weights):
            found = find_used_frequencies(weights)
        assert_plain(found, list)
        found = [int(k) for k in found]
        assert_equal(found, sorted(set(found)), "the frequencies are not in ascending order, each once")
        n_used += len(used)
        found_of_used += len(set(found) & set(used))
        decoys_taken += len(set(found) & set(decoys))
        others_taken += len(set(found) - set(used) - set(decoys))
    told = f"of {n_used} frequencies in use in five models you found {found_of_used}"
    assert found_of_used >= 0.9 * n_used, (
        f"{told}: is one weak in the embedding, or absent from the logits, and needed all the same? Without one the "
        "loss is at least ten times as large, though it may still be small"
    )
    assert decoys_taken <= 1, (
        f"{told}, but took {decoys_taken} of 15 decoys for used: strong in the embedding, or in the output weights, is "
        "not yet used"
    )
    assert others_taken <= 2, f"{told}, but also {others_taken} that are nowhere but in the noise: what is your null?"
