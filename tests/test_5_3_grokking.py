"""Checks of 5.3 Progress measures for grokking.

No check loads a model: small primes and random tensors suffice, and nothing may depend on one seed's frequencies.
"""

import math

import torch

from concrete_steps.checking.testing import assert_choice, assert_close, assert_equal, assert_tensor, unchanged

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


def some_pairs(rng, p, n):
    """n different pairs [n 2] in random order."""
    numbers = rng.permutation(p * p)[:n]
    return torch.stack([numbers // p, numbers % p], dim=1)


# --- 1. Waves


# equivalent mutant of fourier_basis, 1 -> -1: the matrix has two axes, 1 is its last
def test_fourier_basis(fourier_basis):
    """Constant, cos 1, sin 1, cos 2, ...: p rows of length 1 at right angles, for several p."""
    for p in (5, *PRIMES, 9, 113):  # 5 first: with one frequency, cos and sin have one order only
        basis = assert_tensor(fourier_basis(p), shape=(p, p))
        assert basis.dtype == torch.float64, f"the docstring promises float64, this is {basis.dtype}"
        lengths = basis.norm(dim=1)
        assert_close(lengths, torch.ones(p), "the length of a row (root of the sum of its squares) is not 1")
        assert_close(basis[0], wave(p, 0), "row 0 is not constant")
        assert_close(basis[1::2], basis_of(p)[1::2], "row 2k - 1 is not the cos of frequency k: of rows 1, 3, 5, ...")
        assert_close(basis[2::2], basis_of(p)[2::2], "row 2k is not the sin of frequency k: of rows 2, 4, 6, ...")


def test_fourier_basis__exact(fourier_basis):
    """Float64 all the way: the rows are at right angles to 12 digits"""
    basis = fourier_basis(13)
    off = (basis @ basis.T - torch.eye(13, dtype=basis.dtype)).abs().max().item()
    assert off < 1e-12, f"products of rows are off by {off:.0e}: were the angles made in float32? Give arange a dtype"


# equivalent mutant of frequency_power, drop USub: the matrix has two axes, 1 is its last
# equivalent mutant of frequency_power, 1 -> -1: --1 is 1, the last of two axes
def test_frequency_power(frequency_power, rng):
    """The squares of cos and sin together, over all columns, without the constant."""
    cases = [wave(5, 1)[:, None], (2 * wave(5, 4) + wave(5, 3) + 3 * wave(5, 0))[:, None]]
    cases += [random(rng, p, d) for p, d in [(3, 1), (5, 2), (7, 4), (11, 3), (13, 13)]]
    for x in cases:
        p = len(x)
        with unchanged(x):
            power = assert_tensor(frequency_power(x), shape=((p - 1) // 2,))
        expected = [sum(((wave(p, row) @ x) ** 2).sum() for row in (2 * k - 1, 2 * k)) for k in range(1, (p + 1) // 2)]
        assert_close(power, torch.stack(expected), "entry k - 1 is not the sum of squares in frequency k's two rows")


def test_frequency_power__shift(frequency_power, rng):
    """Shifting all waves leaves every power as it is, and powers add up to all that varies"""
    x = random(rng, 11, 3)
    power = frequency_power(x)
    assert_close(frequency_power(x.roll(rng.integer(1, 10), 0)), power, "the power changes when the waves are shifted")
    total = (x - x.mean(0)).square().sum()
    assert_close(power.sum(), total, "the powers do not add up to the sum of squares around the columns' means")


def embedding_with(powers, rng, d=5):
    """A [p d] table in random directions whose frequency k has power powers[k - 1]; its constant is large."""
    p = 2 * len(powers) + 1
    table = 9 * wave(p, 0)[:, None] * torch.ones(d, dtype=torch.float64)
    for k, power in enumerate(powers, start=1):
        turn, direction = 2 * math.pi * float(rng.uniform(1)), random(rng, d)
        picture = math.cos(turn) * wave(p, 2 * k - 1) + math.sin(turn) * wave(p, 2 * k)
        table = table + math.sqrt(power) * picture[:, None] * direction / direction.norm()
    return table


# equivalent mutant of key_frequencies, Gt -> GtE: rounding decides exact ties
def test_key_frequencies(key_frequencies, rng):
    """Frequencies of more than `times` the mean power, ascending, counted from 1."""
    cases = [([0.1, 0.1, 0.1, 5.0, 0.1], {}, [4]), ([9.0, 0.1, 0.2, 0.1, 7.0, 0.1], {}, [1, 5])]
    cases += [([1.0, 1.2, 0.9, 1.1, 1.0], {}, []), ([1.0, 2.3, 1.0, 3.0, 0.5], {}, [])]  # 3.0 is not above 2 x 1.56
    cases += [([1.0, 2.3, 1.0, 4.0, 0.5], {}, [4]), ([1.0, 2.3, 1.0, 3.0, 0.5], {"times": 1.2}, [2, 4])]
    cases += [([4.0, 1.0, 1.0, 1.0, 9.0, 1.0], {"times": 3.0}, [5]), ([2.0, 1.0, 3.0], {"times": 0.1}, [1, 2, 3])]
    for powers, options, expected in cases:
        x = embedding_with(powers, rng)
        with unchanged(x):
            found = key_frequencies(x, **options)
        assert isinstance(found, list), f"a list of whole numbers is promised, this is a {type(found).__name__}"
        mean = sum(powers) / len(powers)
        told = f"powers of frequencies 1, 2, ... are {powers}, their mean {mean:.3g}, times {options.get('times', 2.0)}"
        assert_equal([int(k) for k in found], expected, told)


# --- 2. Two axes


def test_fft2d(fft2d, rng):
    """Coefficient [i, j] is the sum of wave i along a times wave j along b times x, with any further axes."""
    cases = [wave(3, 1)[:, None] * wave(3, 2)]
    shapes = [(3, ()), (5, (2,)), (7, (2, 3)), (3, (3,)), (5, (1,)), (5, (5, 5))]
    cases += [random(rng, p, p, *rest) for p, rest in shapes]
    for x in cases:
        p = len(x)
        with unchanged(x):
            out = assert_tensor(fft2d(x), shape=x.shape)
        expected = torch.zeros_like(x)
        for i in range(p):
            for j in range(p):
                product = wave(p, i)[:, None] * wave(p, j)
                expected[i, j] = (product.view(p, p, *[1] * (x.ndim - 2)) * x).sum((0, 1))
        assert_close(out, expected, "out[i, j] is not the sum over a, b of F[i, a] * F[j, b] * x[a, b]")


def test_answer_product(answer_product):
    """Which wave two equal coefficients make"""
    assert_choice(
        answer_product, "b", "cos(a - b) is cos(a + (-b)), and sin(-b) = -sin b: what does that do to the signs?"
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
        assert_close(shares, expected, "entry [k - 1, j] is not the share of neuron j's variance in frequency k")


def test_variance_by_frequency__scale(variance_by_frequency, rng):
    """Neither the mean nor the size of a column changes its shares, and no share is above 1"""
    x = random(rng, 7, 7, 3)
    shares = variance_by_frequency(x)
    assert_close(variance_by_frequency(1e-3 * x + 5), shares, "adding a constant to a neuron changes its shares")
    assert shares.max() <= 1 + 1e-9, f"a share is {shares.max():.3g}: no share is above 1"


def test_neuron_frequencies(neuron_frequencies, rng):
    """The frequency with the largest share, counted from 1, and that share."""
    for x in [*(random(rng, p, p, n) for p, n in [(5, 3), (7, 1), (11, 4)]), neurons_for(rng, 7)]:
        with unchanged(x):
            out = neuron_frequencies(x)
        assert isinstance(out, tuple) and len(out) == 2, "two tensors are promised: frequencies and shares"
        frequency, share = (assert_tensor(part, shape=x.shape[-1:]) for part in out)
        best = shares_by_projection(x).max(0)
        assert_close(share, best.values, "the share of neuron j is not its largest one")
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
        assert_close(out, pictures_of(p, frequencies), told)
        assert out.dtype == torch.float64, f"float64 is promised, this is {out.dtype}"


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
    for x, directions in cases:
        with unchanged(x, directions):
            out = assert_tensor(project_onto(x, directions), shape=x.shape)
        columns = directions.flatten(1).T
        fitted = columns @ torch.linalg.lstsq(columns, x.reshape(len(columns), -1)).solution
        assert_close(out, fitted.reshape(x.shape), "the result is not the part of x in the span of the directions")
        assert_close(project_onto(out, directions), out, "projecting a second time changes the result")


# --- 5. A formula


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
        assert_close(out, formula_by_loops(p, amplitudes), told)
        assert out.dtype == torch.float64, f"float64 is promised, this is {out.dtype}"


# equivalent mutant of fit_amplitudes, drop .item(): a tensor of one number is a number
# equivalent mutant of fit_amplitudes, 1 -> -1: pairs have two columns
def test_fit_amplitudes(fit_amplitudes, rng):
    """The least-squares amplitudes on the given pairs, whatever the logits of other pairs are."""
    for p, frequencies, n in [(5, [2], 1), (5, [1, 2], 6), (7, [3, 1], 20), (11, [2, 5, 1], 40), (7, [2], 49)]:
        logits, pairs = random(rng, p, p, p) + 2, some_pairs(rng, p, n)
        with unchanged(logits, pairs):
            amplitudes = fit_amplitudes(logits, frequencies, pairs)
        assert isinstance(amplitudes, dict), (
            f"a dict from frequency to amplitude is promised, not {type(amplitudes).__name__}"
        )
        assert_equal(sorted(amplitudes), sorted(frequencies), "the frequencies in the dict")
        at = pairs[:, 0], pairs[:, 1]
        waves = torch.stack([formula_by_loops(p, {k: 1.0})[at].flatten() for k in frequencies], dim=1)
        best = torch.linalg.lstsq(waves, logits[at].reshape(-1, 1)).solution[:, 0].tolist()
        for k, expected in zip(frequencies, best, strict=True):
            told = f"p = {p}, {n} pairs: the amplitude of frequency {k} is not the least-squares one"
            assert_close(float(amplitudes[k]), torch.tensor(expected), told)


def test_answer_accuracy(answer_accuracy):
    """What the accuracy of a formula shows"""
    assert_choice(answer_accuracy, "b", "at c = a + b every cosine is 1: what does accuracy then say about the model?")


# --- 6. Keep only the waves, or all but the waves


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
        assert_close(float(loss), loss_by_loops(kept, pairs).float(), told)


def test_excluded_loss(excluded_loss, rng):
    """The loss on the given pairs of logits without the waves of a + b."""
    for logits, frequencies, pairs in logit_cases(rng):
        with unchanged(logits, pairs):
            loss = excluded_loss(logits, frequencies, pairs)
        told = f"p = {len(logits)}: not the loss of the logits without the waves of a + b"
        assert_close(float(loss), loss_by_loops(logits - waves_in(logits, frequencies), pairs).float(), told)


def test_answer_excluded(answer_excluded):
    """What a rising excluded loss means"""
    assert_choice(answer_excluded, "b", "excluded loss says how well the training pairs are known *without* the waves")


# --- 7. Phases

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
# equivalent mutant of find_phases, steps -> train_loss: all lists are equally long
# equivalent mutant of find_phases, steps -> restricted: all lists are equally long
# equivalent mutant of find_phases, steps -> excluded: all lists are equally long
# equivalent mutant of find_phases, steps -> test_loss: all lists are equally long
def test_find_phases(find_phases):
    """Memorised, formed, generalised on made-up runs, each searched from the one before on."""
    for name, (losses, expected) in RUNS.items():
        found = find_phases(list(STEPS), *(list(loss) for loss in losses))
        assert isinstance(found, list | tuple) and len(found) == 3, f"a list of three is promised, this is {found!r}"
        found = [None if step is None else int(step) for step in found]
        assert_equal(found, list(expected), f"a run that {name}, steps {STEPS}: (memorised, formed, generalised)")
