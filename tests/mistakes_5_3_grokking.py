"""Wrong answers to 5.3, each of which its check must reject and name, and right ones in other styles."""

import functools
import math

import torch
from torch import nn

from concrete_steps.checking.mistakes import mistake, right

# --- 1. Waves


def _waves(p, functions=(torch.cos, torch.sin), start=0, turn=2 * torch.pi, top=None):
    n = torch.arange(start, start + p, dtype=torch.float64)
    top = (p - 1) // 2 if top is None else top
    return [torch.ones_like(n)] + [f(turn * k * n / p) for k in range(1, top + 1) for f in functions]


def _unit(rows):
    rows = torch.stack(rows)
    return rows / rows.norm(dim=1, keepdim=True)


@mistake("does not scale the rows: each should have length 1")
def fourier_basis(p):
    return torch.stack(_waves(p))


@mistake("scales every row by the root of 2/p: the constant's squares sum to more than a wave's do")
def fourier_basis(p):
    return torch.stack(_waves(p)) * (2 / p) ** 0.5


@mistake("puts sin before cos")
def fourier_basis(p):
    return _unit(_waves(p, functions=(torch.sin, torch.cos)))


@mistake("puts all cosines first, then all sines: they take turns")
def fourier_basis(p):
    rows = _waves(p)
    return _unit([rows[0], *rows[1::2], *rows[2::2]])


@mistake("has the waves as columns: they are the rows")
def fourier_basis(p):
    return _unit(_waves(p)).T


@mistake("leaves the constant out")
def fourier_basis(p):
    return _unit(_waves(p)[1:])


@mistake("counts from n = 1: the first entry belongs to the number 0")
def fourier_basis(p):
    return _unit(_waves(p, start=1))


@mistake("goes half round per frequency: 2πkn/p, not πkn/p")
def fourier_basis(p):
    return _unit(_waves(p, turn=torch.pi))


@mistake("stops one frequency early: the last one is (p - 1)/2")
def fourier_basis(p):
    return _unit(_waves(p, top=(p - 1) // 2 - 1))


@mistake("computes in float32: it is not exact enough for what comes")
def fourier_basis(p):
    return _unit(_waves(p)).float()


@mistake("leaves the constant at 1/p: its length should be 1, too")
def fourier_basis(p):
    rows = _unit(_waves(p))
    rows[0] = 1 / p
    return rows


def _basis(p):
    return _unit(_waves(p))


@mistake("keeps the constant: entry 0 should be frequency 1")
def frequency_power(x):
    power = (_basis(len(x)) @ x).square().sum(-1)
    return torch.cat([power[:1], power[1::2] + power[2::2]])


@mistake("counts the cos alone")
def frequency_power(x):
    return (_basis(len(x)) @ x).square().sum(-1)[1::2]


@mistake("gives one entry for each wave: cos and sin of a frequency belong together")
def frequency_power(x):
    return (_basis(len(x)) @ x).square().sum(-1)[1:]


@mistake("pairs the constant with cos 1, and each sin with the next frequency's cos")
def frequency_power(x):
    power = (_basis(len(x)) @ x).square().sum(-1)
    return power[:-1:2] + power[1::2]


@mistake("takes the root: power is the sum of squares itself")
def frequency_power(x):
    power = (_basis(len(x)) @ x).square().sum(-1)
    return (power[1::2] + power[2::2]).sqrt()


@mistake("averages over the columns: sum over them")
def frequency_power(x):
    power = (_basis(len(x)) @ x).square().mean(-1)
    return power[1::2] + power[2::2]


@mistake("adds the columns before squaring: opposite ones cancel")
def frequency_power(x):
    power = (_basis(len(x)) @ x).sum(-1).square()
    return power[1::2] + power[2::2]


@mistake("does not square the coefficients")
def frequency_power(x):
    power = (_basis(len(x)) @ x).abs().sum(-1)
    return power[1::2] + power[2::2]


@mistake("reshapes to (2, -1): the two rows of a frequency are neighbours, so (-1, 2) pairs them")
def frequency_power(x):
    power = (_basis(len(x)) @ x).square().sum(-1)[1:]
    return power.reshape(2, -1).sum(0)


def _power(x):
    power = (_basis(len(x)) @ x).square().sum(-1)
    return power[1::2] + power[2::2]


@mistake("counts frequencies from 0: entry 0 is frequency 1")
def key_frequencies(x, times=2.0):
    power = _power(x)
    return [k for k in range(len(power)) if power[k] > times * power.mean()]


@mistake("compares with a mean that includes the constant")
def key_frequencies(x, times=2.0):
    power, constant = _power(x), (_basis(len(x)) @ x)[0].square().sum()
    mean = (power.sum() + constant) / (len(power) + 1)
    return [k + 1 for k in range(len(power)) if power[k] > times * mean]


@mistake("picks single waves: a frequency's cos and sin count together")
def key_frequencies(x, times=2.0):
    power = (_basis(len(x)) @ x).square().sum(-1)[1:]
    return sorted({row // 2 + 1 for row in range(len(power)) if power[row] > times * power.mean()})


@mistake("always uses twice the mean, whatever `times` is")
def key_frequencies(x, times=2.0):
    power = _power(x)
    return [k + 1 for k in range(len(power)) if power[k] > 2 * power.mean()]


@mistake("lists the strongest first: ascending order is asked for")
def key_frequencies(x, times=2.0):
    power = _power(x)
    return [k + 1 for k in power.argsort(descending=True).tolist() if power[k] > times * power.mean()]


@mistake("gives tensors of one number: .tolist() makes plain numbers")
def key_frequencies(x, times=2.0):
    power = _power(x)
    return list((power > times * power.mean()).nonzero()[:, 0] + 1)


@mistake("compares with the median: the mean is meant")
def key_frequencies(x, times=2.0):
    power = _power(x)
    return [k + 1 for k in range(len(power)) if power[k] > times * power.median()]


@mistake("keeps the weak frequencies: those above the threshold are asked for")
def key_frequencies(x, times=2.0):
    power = _power(x)
    return [k + 1 for k in range(len(power)) if power[k] < times * power.mean()]


# --- 2. Two axes


def _fft2d(x, a=None, b=None):
    a, b = (_basis(len(x)) if basis is None else basis for basis in (a, b))
    return torch.einsum("jb,ib...->ij...", b, torch.einsum("ia,ab...->ib...", a, x))


@mistake("transforms along a alone: b is still a number")
def fft2d(x):
    return torch.einsum("ia,ab...->ib...", _basis(len(x)), x)


@mistake("transforms along b alone: a is still a number")
def fft2d(x):
    return torch.einsum("jb,ab...->aj...", _basis(len(x)), x)


@mistake("exchanges the axes: out[i, j] has wave i along a and j along b")
def fft2d(x):
    return _fft2d(x).transpose(0, 1)


@mistake("goes back instead of forth: it sums over the waves (rows of F), not over the numbers")
def fft2d(x):
    basis = _basis(len(x)).T
    return _fft2d(x, basis, basis)


@mistake("transforms along a twice")
def fft2d(x):
    basis = _basis(len(x))
    return _fft2d(x, basis @ basis, torch.eye(len(x), dtype=x.dtype))


@mistake("transforms the last two axes: a and b are the first two")
def fft2d(x):
    basis = _basis(len(x))
    return basis @ x @ basis.T


@mistake("undoes the first transform with the second: F x F, where F x Fᵀ is meant")
def fft2d(x):
    basis = _basis(len(x))
    return _fft2d(x, basis, basis.T)


@mistake("cos(a + b) is cos a cos b minus sin a sin b: the second sign is wrong for a + b")
def answer_product():
    return "a"


@mistake("both products have coefficient 1: that is a sum of just two, and one of the two formulas fits")
def answer_product():
    return "b"


# --- 3. Neurons of one frequency


def _shares(x, linear=True, products=True, mixed=True, constant=False, tiny=1e-30, total="variance"):
    power = _fft2d(x).square()
    if not constant:
        power[0, 0] = 0
    shares = []
    for k in range(1, (len(x) - 1) // 2 + 1):
        of_k = slice(2 * k - 1, 2 * k + 1)
        share = torch.zeros_like(power[0, 0])
        if linear:
            share = share + power[of_k, 0].sum(0) + power[0, of_k].sum(0)
        if products and mixed:
            share = share + power[of_k, of_k].sum((0, 1))
        if products and not mixed:
            share = share + power[2 * k - 1, 2 * k - 1] + power[2 * k, 2 * k]
        shares.append(share)
    shares = torch.stack(shares)
    return shares / (power.sum((0, 1)) if total == "variance" else shares.sum(0)).clamp_min(tiny)


@mistake("divides by all power with the constant: the variance leaves (constant, constant) out")
def variance_by_frequency(x):
    return _shares(x, constant=True)


@mistake("counts the waves of a alone and of b alone, not the four products")
def variance_by_frequency(x):
    return _shares(x, products=False)


@mistake("counts the four products, not the waves of a alone and of b alone")
def variance_by_frequency(x):
    return _shares(x, linear=False)


@mistake("leaves out the products cos a sin b and sin a cos b")
def variance_by_frequency(x):
    return _shares(x, mixed=False)


@mistake("gives nan for a neuron that is always 0")
def variance_by_frequency(x):
    return _shares(x, tiny=0.0)


@mistake("divides by what all frequencies hold together: products of two different frequencies are variance, too")
def variance_by_frequency(x):
    return _shares(x, total="frequencies")


@mistake("divides by the unbiased variance: it sums over p² - 1, the coefficients over p²")
def variance_by_frequency(x):
    p2 = len(x) ** 2
    return _shares(x) * (p2 - 1) / p2


@mistake("gives power: divide by the variance for a share")
def variance_by_frequency(x):
    power = _fft2d(x).square()
    power[0, 0] = 0
    return _shares(x) * power.sum((0, 1))


@mistake("does not square the coefficients")
def variance_by_frequency(x):
    size = _fft2d(x).abs()
    size[0, 0] = 0
    rows = [slice(2 * k - 1, 2 * k + 1) for k in range(1, (len(x) - 1) // 2 + 1)]
    parts = [size[of_k, 0].sum(0) + size[0, of_k].sum(0) + size[of_k, of_k].sum((0, 1)) for of_k in rows]
    return torch.stack(parts) / size.sum((0, 1)).clamp_min(1e-30)


@mistake("counts frequencies from 0: row 0 is frequency 1")
def neuron_frequencies(neurons):
    best = _shares(neurons).max(0)
    return best.indices, best.values


@mistake("gives the shares first, then the frequencies")
def neuron_frequencies(neurons):
    best = _shares(neurons).max(0)
    return best.values, best.indices + 1


@mistake("reads the frequency off the waves of a alone and of b alone")
def neuron_frequencies(neurons):
    best = _shares(neurons, products=False).max(0)
    return best.indices + 1, best.values


@mistake("takes the best neuron of each frequency: the best frequency of each neuron is asked for")
def neuron_frequencies(neurons):
    best = _shares(neurons).max(1)
    return best.indices + 1, best.values


@mistake("gives the shares of all frequencies together")
def neuron_frequencies(neurons):
    shares = _shares(neurons)
    return shares.argmax(0) + 1, shares.sum(0)


# --- 4. Directions of a + b


def _pictures(p, frequencies, sign=1, functions=(torch.cos, torch.sin), turn=2 * torch.pi):
    n = torch.arange(p, dtype=torch.float64)
    angles = [turn * k * (n[:, None] + sign * n) / p for k in frequencies]
    return [f(angle) for angle in angles for f in functions]


def _unit_pictures(pictures):
    pictures = torch.stack(pictures)
    return pictures / pictures.flatten(1).norm(dim=1)[:, None, None]


@mistake("makes waves of a - b")
def trig_directions(p, frequencies):
    return _unit_pictures(_pictures(p, frequencies, sign=-1))


@mistake("does not scale the pictures: their squares should sum to 1")
def trig_directions(p, frequencies):
    return torch.stack(_pictures(p, frequencies))


@mistake("gives each row of a picture length 1, as √(2/p) does: the squares of the whole picture sum to 1")
def trig_directions(p, frequencies):
    pictures = torch.stack(_pictures(p, frequencies))
    return pictures / pictures.norm(dim=-1, keepdim=True)


@mistake("puts sin before cos")
def trig_directions(p, frequencies):
    return _unit_pictures(_pictures(p, frequencies, functions=(torch.sin, torch.cos)))


@mistake("puts all cosines first, then all sines: each frequency's two stand together")
def trig_directions(p, frequencies):
    pictures = _pictures(p, frequencies)
    return _unit_pictures(pictures[::2] + pictures[1::2])


@mistake("divides by p alone: the mean of cos² is a half, so each length is then 1/√2")
def trig_directions(p, frequencies):
    return torch.stack(_pictures(p, frequencies)) / p


@mistake("goes half round per frequency: 2πk(a + b)/p, not πk(a + b)/p")
def trig_directions(p, frequencies):
    return _unit_pictures(_pictures(p, frequencies, turn=torch.pi))


@mistake("makes the cosines alone: each frequency has a sin, too")
def trig_directions(p, frequencies):
    return _unit_pictures(_pictures(p, frequencies, functions=(torch.cos,)))


@mistake("sorts the frequencies: their order is as given")
def trig_directions(p, frequencies):
    return _unit_pictures(_pictures(p, sorted(frequencies)))


def _amounts(x, directions):
    return torch.einsum("nab,ab...->n...", directions, x)


def _combine(amounts, directions):
    return torch.einsum("nab,n...->ab...", directions, amounts)


@mistake("does not divide by the directions' lengths: they are not 1")
def project_onto(x, directions):
    return _combine(_amounts(x, directions), directions)


@mistake("divides by each direction's length once: (x · d) / (d · d) has its square")
def project_onto(x, directions):
    lengths = directions.flatten(1).norm(dim=1)[:, None, None]
    return _combine(_amounts(x, directions / lengths), directions)


@mistake("gives what is left when the projection is taken away")
def project_onto(x, directions):
    unit = _unit_pictures(list(directions))
    return x - _combine(_amounts(x, unit), unit)


@mistake("gives one number a direction: the sum of directions, each times its number, is asked for")
def project_onto(x, directions):
    squares = directions.flatten(1).square().sum(1)
    return _amounts(x, directions) / squares.view(-1, *[1] * (x.ndim - 2))


@mistake("projects onto the sum of the directions: each has its own part")
def project_onto(x, directions):
    unit = _unit_pictures([directions.sum(0)])
    return _combine(_amounts(x, unit), unit)


@mistake("divides by the length of all directions together: each has its own")
def project_onto(x, directions):
    unit = directions / directions.norm()
    return _combine(_amounts(x, unit), unit)


# --- 5. How ReLU adds, and the weights alone


def _adder(p, k, n_neurons, weigh=2, relu=True, signs=(1, 1), turn=2 * torch.pi, inner=False, weight=torch.cos):
    n, j = (torch.arange(size, dtype=torch.float64) for size in (p, n_neurons))
    w, phases = turn * k / p, 2 * torch.pi * j / n_neurons
    a, b = ((sign * w * n[:, None] + phases).cos() for sign in signs)
    if inner:
        return (a[:, None].relu() + b[None].relu()) @ weight(weigh * phases)
    neurons = a[:, None] + b[None]
    return (neurons.relu() if relu else neurons) @ weight(weigh * phases)


@mistake("leaves ReLU out: a sum of waves has no products")
def relu_adder(p, k, n_neurons=16):
    return _adder(p, k, n_neurons, relu=False)


@mistake("weighs with cos(φ): the overtone turns twice as fast, cos(2φ)")
def relu_adder(p, k, n_neurons=16):
    return _adder(p, k, n_neurons, weigh=1)


@mistake("weighs with sin(2φ): cos(2φ) is asked for")
def relu_adder(p, k, n_neurons=16):
    return _adder(p, k, n_neurons, weight=torch.sin)


@mistake("adds the neurons up without weights")
def relu_adder(p, k, n_neurons=16):
    return _adder(p, k, n_neurons, weigh=0)


@mistake("puts each wave through ReLU by itself: their sum is meant")
def relu_adder(p, k, n_neurons=16):
    return _adder(p, k, n_neurons, inner=True)


@mistake("turns b's wave the other way round: its phase is +φ, as a's")
def relu_adder(p, k, n_neurons=16):
    return _adder(p, k, n_neurons, signs=(1, -1))


@mistake("goes half round per frequency: w is 2πk/p, not πk/p")
def relu_adder(p, k, n_neurons=16):
    return _adder(p, k, n_neurons, turn=torch.pi)


@mistake("takes the mean over the neurons: their sum is asked for")
def relu_adder(p, k, n_neurons=16):
    return _adder(p, k, n_neurons) / n_neurons


def _column_power(x, first=1):
    power = (_basis(len(x)) @ x).square()
    return power[1::2] + power[2::2] if first else power


@mistake("counts frequencies from 0: the first is 1")
def column_frequencies(x):
    power = _column_power(x)
    best = power.max(0)
    return best.indices, best.values / power.sum(0).clamp_min(1e-30)


@mistake("gives the shares first, then the frequencies")
def column_frequencies(x):
    power = _column_power(x)
    best = power.max(0)
    return best.values / power.sum(0).clamp_min(1e-30), best.indices + 1


@mistake("gives the strongest power: divide by the column's for a share")
def column_frequencies(x):
    best = _column_power(x).max(0)
    return best.indices + 1, best.values


@mistake("counts the constant among the power: it is left out")
def column_frequencies(x):
    power = _column_power(x)
    best = power.max(0)
    return best.indices + 1, best.values / x.square().sum(0).clamp_min(1e-30)


@mistake("looks for the strongest single wave: cos and sin of a frequency belong together")
def column_frequencies(x):
    power = _column_power(x, first=0)[1:]
    best = power.max(0)
    return best.indices // 2 + 1, best.values / power.sum(0).clamp_min(1e-30)


@mistake("does not square the coefficients")
def column_frequencies(x):
    size = (_basis(len(x)) @ x).abs()
    size = size[1::2] + size[2::2]
    best = size.max(0)
    return best.indices + 1, best.values / size.sum(0).clamp_min(1e-30)


@mistake("gives nan for a column of zeros")
def column_frequencies(x):
    power = _column_power(x)
    best = power.max(0)
    return best.indices + 1, best.values / power.sum(0)


@mistake("takes the share of one frequency in all columns: each column has a share of its own")
def column_frequencies(x):
    power = _column_power(x)
    best = power.max(0)
    return best.indices + 1, best.values / power.sum()


# --- 6. A formula


def _formula(p, amplitudes, signs=(1, 1, -1), function=torch.cos, turn=2 * torch.pi):
    n = torch.arange(p, dtype=torch.float64)
    distance = signs[0] * n[:, None, None] + signs[1] * n[:, None] + signs[2] * n
    return sum(size * function(turn * k * distance / p) for k, size in amplitudes.items())


@mistake("adds c: the wave is of a + b - c")
def predict_from_trig(p, amplitudes):
    return _formula(p, amplitudes, signs=(1, 1, 1))


@mistake("uses sin: at the right answer the wave should be at its top, cos(0)")
def predict_from_trig(p, amplitudes):
    return _formula(p, amplitudes, function=torch.sin)


@mistake("leaves the amplitudes out")
def predict_from_trig(p, amplitudes):
    return _formula(p, dict.fromkeys(amplitudes, 1.0))


@mistake("goes half round per frequency: 2πk(a + b - c)/p, not πk(a + b - c)/p")
def predict_from_trig(p, amplitudes):
    return _formula(p, amplitudes, turn=torch.pi)


# Subtracting b gives the very same numbers.
@mistake("gives the wave of a - b - c, as an answer axis that comes first does, too: [a b c] of a + b - c is asked for")
def predict_from_trig(p, amplitudes):
    return _formula(p, amplitudes).permute(2, 0, 1)


def _fit(logits, frequencies, pairs, whole=False, scale=1.0, **options):
    amplitudes, p = {}, len(logits)
    if whole:
        pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    at = pairs[:, 0], pairs[:, 1]
    for k in frequencies:
        wave = _formula(p, {k: 1.0}, **options)[at]
        amplitudes[k] = (scale * (logits[at] * wave).sum() / wave.square().sum()).item()
    return amplitudes


@mistake("fits to all pairs: those given are meant")
def fit_amplitudes(logits, frequencies, pairs):
    return _fit(logits, frequencies, pairs, whole=True)


@mistake("divides by the number of entries: the mean of cos² is a half, not 1")
def fit_amplitudes(logits, frequencies, pairs):
    return _fit(logits, frequencies, pairs, scale=0.5)


@mistake("does not divide by wave · wave")
def fit_amplitudes(logits, frequencies, pairs):
    return _fit(logits, frequencies, pairs, scale=len(pairs) * len(logits) / 2)


@mistake("divides by the length of the wave: its square is meant")
def fit_amplitudes(logits, frequencies, pairs):
    return _fit(logits, frequencies, pairs, scale=(len(pairs) * len(logits) / 2) ** 0.5)


@mistake("fits waves of a - b")
def fit_amplitudes(logits, frequencies, pairs):
    return _fit(logits, frequencies, pairs, signs=(1, -1, -1))


@mistake("reads the right answers' logits alone: all c belong to the fit")
def fit_amplitudes(logits, frequencies, pairs):
    right = logits[pairs[:, 0], pairs[:, 1], pairs.sum(-1) % len(logits)]
    return {k: right.mean().item() for k in frequencies}


@mistake("the model uses none of these frequencies: they explain nothing of its logits")
def answer_accuracy():
    return "b"


@mistake("whether they are multiples of the keys plays no part: any frequency peaks at c = a + b")
def answer_accuracy():
    return "c"


# --- 7. Keep only the waves, or all but the waves


def _loss(logits, pairs):
    at = logits[pairs[:, 0], pairs[:, 1]]
    return torch.nn.functional.cross_entropy(at, pairs.sum(-1) % len(logits))


def _part(logits, frequencies, **options):
    unit = _unit_pictures(_pictures(len(logits), frequencies, **options))
    return _combine(_amounts(logits, unit), unit)


def _all_pairs(logits):
    n = torch.arange(len(logits))
    return torch.cartesian_prod(n, n)


# To keep each pair's mean over the answers instead gives the very same loss.
@mistake("leaves each answer's mean out, or keeps what moves all answers of a pair alike: its own mean stays")
def restricted_loss(logits, frequencies, pairs):
    return _loss(_part(logits, frequencies), pairs)


@mistake("measures on all pairs: the loss is over those given")
def restricted_loss(logits, frequencies, pairs):
    return _loss(_part(logits, frequencies) + logits.mean((0, 1)), _all_pairs(logits))


@mistake("takes the waves away: that is the excluded loss")
def restricted_loss(logits, frequencies, pairs):
    return _loss(logits - _part(logits, frequencies), pairs)


@mistake("takes each answer's mean over the given pairs: over all pairs is meant")
def restricted_loss(logits, frequencies, pairs):
    mean = logits[pairs[:, 0], pairs[:, 1]].mean(0)
    return _loss(_part(logits, frequencies) + mean, pairs)


@mistake("keeps waves of a - b")
def restricted_loss(logits, frequencies, pairs):
    return _loss(_part(logits, frequencies, sign=-1) + logits.mean((0, 1)), pairs)


@mistake("keeps the cosines alone: each frequency has a sin, too")
def restricted_loss(logits, frequencies, pairs):
    return _loss(_part(logits, frequencies, functions=(torch.cos,)) + logits.mean((0, 1)), pairs)


@mistake("cuts nothing: it is the plain loss")
def restricted_loss(logits, frequencies, pairs):
    return _loss(logits, pairs)


@mistake("sets other pairs to 0 before projecting: the projection is over the whole grid")
def restricted_loss(logits, frequencies, pairs):
    seen = torch.zeros_like(logits)
    seen[pairs[:, 0], pairs[:, 1]] = logits[pairs[:, 0], pairs[:, 1]]
    return _loss(_part(seen, frequencies) + logits.mean((0, 1)), pairs)


@mistake("keeps only the waves: that is the restricted loss")
def excluded_loss(logits, frequencies, pairs):
    return _loss(_part(logits, frequencies) + logits.mean((0, 1)), pairs)


@mistake("takes each answer's mean away, too: only the waves go")
def excluded_loss(logits, frequencies, pairs):
    return _loss(logits - _part(logits, frequencies) - logits.mean((0, 1)), pairs)


@mistake("measures on all pairs: the loss is over those given")
def excluded_loss(logits, frequencies, pairs):
    return _loss(logits - _part(logits, frequencies), _all_pairs(logits))


@mistake("takes a difference of losses: the loss of the difference of logits is meant")
def excluded_loss(logits, frequencies, pairs):
    return _loss(logits, pairs) - _loss(_part(logits, frequencies), pairs)


@mistake("takes waves of a - b away")
def excluded_loss(logits, frequencies, pairs):
    return _loss(logits - _part(logits, frequencies, sign=-1), pairs)


@mistake("is a part of the computation detached?")
def excluded_loss(logits, frequencies, pairs):
    return _loss(logits - _part(logits.detach(), frequencies), pairs)


@mistake("adds the waves once more: they are taken away")
def excluded_loss(logits, frequencies, pairs):
    return _loss(logits + _part(logits, frequencies), pairs)


@mistake("takes the cosines away and leaves the sines")
def excluded_loss(logits, frequencies, pairs):
    return _loss(logits - _part(logits, frequencies, functions=(torch.cos,)), pairs)


@mistake("the training loss is flat: nothing is answered wrongly while the waves are there")
def answer_excluded():
    return "a"


@mistake("weaker waves would be missed less: excluded loss would fall")
def answer_excluded():
    return "c"


# --- 8. Absent is not unused


def _two(x, k):
    return _basis(len(x))[2 * k - 1 : 2 * k + 1]


@mistake("takes the cos alone away: each frequency has a sin, too")
def remove_frequency(x, k):
    wave = _two(x, k)[:1]
    return x - wave.T @ (wave @ x)


@mistake("keeps only frequency k: all else should stay")
def remove_frequency(x, k):
    waves = _two(x, k)
    return waves.T @ (waves @ x)


@mistake("takes the next frequency away: frequency k has rows 2k - 1 and 2k")
def remove_frequency(x, k):
    waves = _basis(len(x))[2 * k : 2 * k + 2]
    return x - waves.T @ (waves @ x)


@mistake("takes each column's mean away, too")
def remove_frequency(x, k):
    waves = _two(x, k)
    return x - waves.T @ (waves @ x) - x.mean(0)


@mistake("stays among the waves: come back to the numbers with F's transpose")
def remove_frequency(x, k):
    coefficients = _basis(len(x)) @ x
    coefficients[2 * k - 1 : 2 * k + 1] = 0
    return coefficients


@mistake("adds the waves once more: they are taken away")
def remove_frequency(x, k):
    waves = _two(x, k)
    return x + waves.T @ (waves @ x)


def _normal(x, seed):
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)


@mistake("makes the noise as long as `changed`: as long as the change is asked for")
def equal_noise(x, changed, seed):
    noise = _normal(x, seed)
    return x + noise * changed.norm() / noise.norm()


@mistake("scales each row by itself: the length is that of the whole change")
def equal_noise(x, changed, seed):
    noise = _normal(x, seed)
    return x + noise * (changed - x).norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)


@mistake("adds the noise to `changed`: x is asked for, with noise in place of the change")
def equal_noise(x, changed, seed):
    noise = _normal(x, seed)
    return changed + noise * (changed - x).norm() / noise.norm()


@mistake("gives the noise alone: it is added to x")
def equal_noise(x, changed, seed):
    noise = _normal(x, seed)
    return noise * (changed - x).norm() / noise.norm()


@mistake("it is the same for a part that mends what others do: its share is 0, and it is used")
def answer_idle():
    return "a"


@mistake("other parts of the network can use it, and reach the output")
def answer_idle():
    return "b"


def _doubled(logits, k, twice=True, fold=True, rows=None, centre=True, single=True, both=True):
    p = len(logits)
    pictures = logits @ (_basis(p)[2 * k - 1 : 2 * k + 1] if rows is None else _basis(p)[rows]).T
    power = _fft2d(pictures).square().sum(-1)
    if centre:
        power[0, 0] = 0
    at = 2 * k if twice else k
    if fold and at > p // 2:
        at = p - at
    at = slice(2 * at - 1, 2 * at + 1)
    part = power[at, 0].sum() + (power[0, at].sum() if both else 0) if single else power[at, at].sum()
    return (part / power.sum()).item()


@mistake("looks at frequency k: twice k is meant")
def doubled_share(logits, k):
    return _doubled(logits, k, twice=False)


@mistake("divides by all power with the constant: the variance leaves (constant, constant) out")
def doubled_share(logits, k):
    return _doubled(logits, k, centre=False)


@mistake("counts the products of frequency 2k: waves of a alone and of b alone are meant")
def doubled_share(logits, k):
    return _doubled(logits, k, single=False)


@mistake("counts the waves of a alone: those of b alone count, too")
def doubled_share(logits, k):
    return _doubled(logits, k, both=False)


@mistake("reads c's cos alone: the sin of frequency k is read, too")
def doubled_share(logits, k):
    return _doubled(logits, k, rows=slice(2 * k - 1, 2 * k))


@mistake("reads all waves of c: those of frequency k are meant")
def doubled_share(logits, k):
    return _doubled(logits, k, rows=slice(0, None))


@mistake("gives 0 where 2k is above (p - 1)/2: it is then frequency p - 2k")
def doubled_share(logits, k):
    return _doubled(logits, k, fold=False)


def _ablate(run, w_l, chosen, held):
    neurons = run["neurons"][..., chosen]
    return run["logits"] - (neurons - held(neurons)) @ w_l[:, chosen].T


@mistake("sets the neurons to 0: they are held at their means")
def ablate_neurons(run, w_l, chosen):
    return _ablate(run, w_l, chosen, lambda neurons: 0)


@mistake("holds the others: the chosen ones are meant")
def ablate_neurons(run, w_l, chosen):
    return _ablate(run, w_l, ~chosen, lambda neurons: neurons.mean((0, 1)))


@mistake("holds all chosen neurons at one mean: each has its own")
def ablate_neurons(run, w_l, chosen):
    return _ablate(run, w_l, chosen, lambda neurons: neurons.mean() if neurons.numel() else 0)


@mistake("takes the mean over b alone: it is over all pairs")
def ablate_neurons(run, w_l, chosen):
    return _ablate(run, w_l, chosen, lambda neurons: neurons.mean(1, keepdim=True))


@mistake("gives only what the neurons left write: all else that reaches the logits stays")
def ablate_neurons(run, w_l, chosen):
    neurons = run["neurons"].clone()
    neurons[..., chosen] = neurons[..., chosen].mean((0, 1))
    return neurons @ w_l.T


@mistake("adds what the neurons write above their means: it is taken away")
def ablate_neurons(run, w_l, chosen):
    return 2 * run["logits"] - _ablate(run, w_l, chosen, lambda neurons: neurons.mean((0, 1)))


# --- 9. Phases


def _phases(steps, reached, from_before=True, last=False, skip=False, index=False):
    found, start = [None, None, None], 0
    for phase, is_reached in enumerate(reached):
        later = [i for i in range(start if from_before else 0, len(steps)) if is_reached[i]]
        if not later:
            if skip:
                continue
            break
        at = later[-1 if last else 0]
        start = at
        found[phase] = at if index else steps[at]
    return found


def _reached(train_loss, restricted, excluded, test_loss):
    return [
        [loss < 0.1 * train_loss[0] for loss in train_loss],
        [only < min(0.5 * restricted[0], without) for only, without in zip(restricted, excluded, strict=True)],
        [loss < 0.1 * test_loss[0] for loss in test_loss],
    ]


@mistake("searches each from the start: each begins where the one before was found")
def find_phases(steps, train_loss, restricted, excluded, test_loss):
    return _phases(steps, _reached(train_loss, restricted, excluded, test_loss), from_before=False, skip=True)


@mistake("goes on when one never comes: then all after it is None")
def find_phases(steps, train_loss, restricted, excluded, test_loss):
    return _phases(steps, _reached(train_loss, restricted, excluded, test_loss), skip=True)


@mistake("gives places in the list: the steps themselves are asked for")
def find_phases(steps, train_loss, restricted, excluded, test_loss):
    return _phases(steps, _reached(train_loss, restricted, excluded, test_loss), index=True)


@mistake("takes 10 % for a loss of 0.1: 10 % of the first value is meant")
def find_phases(steps, train_loss, restricted, excluded, test_loss):
    reached = _reached(train_loss, restricted, excluded, test_loss)
    reached[0], reached[2] = ([loss < 0.1 for loss in losses] for losses in (train_loss, test_loss))
    return _phases(steps, reached)


@mistake("compares test loss with 10 % of the first train loss: its own first value is meant")
def find_phases(steps, train_loss, restricted, excluded, test_loss):
    reached = _reached(train_loss, restricted, excluded, test_loss)
    reached[2] = [loss < 0.1 * train_loss[0] for loss in test_loss]
    return _phases(steps, reached)


@mistake("asks only for restricted loss below excluded loss: it must be below half of its first value, too")
def find_phases(steps, train_loss, restricted, excluded, test_loss):
    reached = _reached(train_loss, restricted, excluded, test_loss)
    reached[1] = [only < without for only, without in zip(restricted, excluded, strict=True)]
    return _phases(steps, reached)


@mistake("asks only for restricted loss below half of its first value: it must be below excluded loss, too")
def find_phases(steps, train_loss, restricted, excluded, test_loss):
    reached = _reached(train_loss, restricted, excluded, test_loss)
    reached[1] = [only < 0.5 * restricted[0] for only in restricted]
    return _phases(steps, reached)


@mistake("exchanges restricted and excluded loss")
def find_phases(steps, train_loss, restricted, excluded, test_loss):
    return _phases(steps, _reached(train_loss, excluded, restricted, test_loss))


@mistake("takes the last step that fits: the first is meant")
def find_phases(steps, train_loss, restricted, excluded, test_loss):
    return _phases(steps, _reached(train_loss, restricted, excluded, test_loss), last=True)


def _seen(steps, tables, first=False, keep=None, index=False):
    keys, seen = [key_frequencies_of(table) for table in tables], {}
    for k in sorted(set().union(*keys)) if keep else keys[-1]:
        i = len(steps) - 1
        while i > 0 and k in keys[i - 1]:
            i -= 1
        if first or (keep and k not in keys[-1]):
            i = next(i for i, found in enumerate(keys) if k in found)
        seen[k] = i if index else steps[i]
    return seen


def key_frequencies_of(table):
    power = _power(table)
    return [k + 1 for k in range(len(power)) if power[k] > 2 * power.mean()]


@mistake("takes the first step of all: it must be a key frequency at every later one, too")
def first_seen(steps, tables):
    return _seen(steps, tables, first=True)


@mistake("lists frequencies that are gone at the end")
def first_seen(steps, tables):
    return _seen(steps, tables, keep=True)


@mistake("gives places in the list: the steps themselves are asked for")
def first_seen(steps, tables):
    return _seen(steps, tables, index=True)


@mistake("gives the last step at which it is missing: the one after is meant")
def first_seen(steps, tables):
    return {k: steps[max(steps.index(step) - 1, 0)] for k, step in _seen(steps, tables).items()}


@mistake("maps steps to frequencies: frequencies to steps are asked for")
def first_seen(steps, tables):
    return {step: k for k, step in _seen(steps, tables).items()}


# --- 10. Open task


def _numbers(weights):
    return weights["embed.weight"][:-1]


@mistake("is one weak in the embedding")
def find_used_frequencies(weights):
    return key_frequencies_of(_numbers(weights))


@mistake("or absent from the logits, and needed all the same?")
def find_used_frequencies(weights):
    """Those that the embedding holds and the neurons' output weights write."""
    w_l = weights["unembed.weight"] @ weights["blocks.0.mlp.out.weight"]
    held, written = _power(_numbers(weights)), _power(w_l)
    both = (held > 0.01 * held.mean()) & (written > 0.01 * written.mean())
    return (both.nonzero()[:, 0] + 1).tolist()


@mistake("strong in the embedding, or in the output weights, is not yet used")
def find_used_frequencies(weights):
    return list(range(1, len(_numbers(weights)) // 2 + 1))


# --- Right answers in other styles


@right("outer products of n and k, interleaved")
def fourier_basis(p):
    n = torch.arange(p).double()
    angles = 2 * math.pi * torch.outer(torch.arange(1, (p + 1) // 2).double(), n) / p
    waves = torch.stack([angles.cos(), angles.sin()], dim=1).reshape(p - 1, p) * math.sqrt(2 / p)
    return torch.cat([torch.full((1, p), 1 / math.sqrt(p), dtype=torch.float64), waves])


@right("torch.fft")
def frequency_power(x):
    return torch.fft.rfft(x, dim=0, norm="ortho").abs().square().sum(-1)[1:] * 2


@right("reshape to pairs")
def frequency_power(x):
    return (_basis(len(x)) @ x)[1:].square().reshape(-1, 2 * x.shape[1]).sum(1)


@right("a comparison, then nonzero")
def key_frequencies(x, times=2.0):
    power = _power(x)
    return ((power > times * power.mean()).nonzero()[:, 0] + 1).tolist()


@right("one einsum of three: slow, and right")
def fft2d(x):
    basis = _basis(len(x))
    return torch.einsum("ia,jb,ab...->ij...", basis, basis, x)


@right("tensordot, and moving axes")
def fft2d(x):
    basis = _basis(len(x))
    return torch.tensordot(basis, torch.tensordot(basis, x, ([1], [0])), ([1], [1])).transpose(0, 1)


class _Spectrum(nn.Module):
    def forward(self, x):
        return _fft2d(x)


right("a module", exercise="fft2d")(_Spectrum())


@right("the variance by var, unbiased turned off")
def variance_by_frequency(x):
    power, p = _fft2d(x).square(), len(x)
    total = x.var((0, 1), correction=0) * p * p
    rows = [[0, 2 * k - 1, 2 * k] for k in range(1, (p + 1) // 2)]
    parts = torch.stack([power[row][:, row].sum((0, 1)) - power[0, 0] for row in rows])
    return torch.where(total > 0, parts / total, torch.zeros_like(parts))


@right("argmax and gather")
def neuron_frequencies(neurons):
    shares = _shares(neurons)
    at = shares.argmax(0)
    return at + 1, shares.gather(0, at[None])[0]


@right("scaled by root 2 over p")
def trig_directions(p, frequencies):
    n = torch.arange(p, dtype=torch.float64)
    w = 2 * math.pi / p * torch.tensor(frequencies, dtype=torch.float64)[:, None, None]
    angle = w * (n[:, None] + n[None, :])
    return torch.stack([angle.cos(), angle.sin()], 1).flatten(0, 1) * math.sqrt(2) / p


@right("least squares")
def project_onto(x, directions):
    columns = directions.flatten(1).T
    return (columns @ torch.linalg.lstsq(columns, x.reshape(len(columns), -1)).solution).reshape(x.shape)


@right("one direction at a time")
def project_onto(x, directions):
    out = torch.zeros_like(x)
    for d in directions:
        d = d.reshape(*d.shape, *[1] * (x.ndim - 2))
        out = out + d * (d * x).sum((0, 1)) / d.square().sum()
    return out


@right("a loop over neurons")
def relu_adder(p, k, n_neurons=16):
    n = torch.arange(p, dtype=torch.float64)
    out = torch.zeros(p, p, dtype=torch.float64)
    for j in range(n_neurons):
        phase = 2 * math.pi * j / n_neurons
        one = torch.cos(2 * math.pi * k * n / p + phase)
        out += math.cos(2 * phase) * torch.clamp(one[:, None] + one, min=0)
    return out


@right("torch.fft and topk")
def column_frequencies(x):
    power = torch.fft.rfft(x, dim=0).abs().square()[1:]
    best = power.topk(1, dim=0)
    return best.indices[0] + 1, torch.nan_to_num(best.values[0] / power.sum(0))


@right("a table of waves of the distance")
def predict_from_trig(p, amplitudes):
    n = torch.arange(p)
    distance = (n[:, None, None] + n[None, :, None] - n[None, None, :]) % p
    wave = sum(a * torch.cos(2 * math.pi * k * torch.arange(p, dtype=torch.float64) / p) for k, a in amplitudes.items())
    return wave[distance]


@right("lstsq on all frequencies at once")
def fit_amplitudes(logits, frequencies, pairs):
    at = pairs[:, 0], pairs[:, 1]
    waves = torch.stack([_formula(len(logits), {k: 1.0})[at].flatten() for k in frequencies], dim=1)
    best = torch.linalg.lstsq(waves, logits[at].reshape(-1, 1)).solution[:, 0]
    return dict(zip(frequencies, best.tolist(), strict=True))


@right("log_softmax and gather")
def restricted_loss(logits, frequencies, pairs):
    kept = _part(logits, frequencies) + logits.mean(dim=(0, 1), keepdim=True)
    log_probs = kept[pairs[:, 0], pairs[:, 1]].log_softmax(-1)
    answers = (pairs[:, 0] + pairs[:, 1]) % len(logits)
    return -log_probs.gather(1, answers[:, None]).mean()


def _excluded(scale, logits, frequencies, pairs):
    return _loss(logits - scale * _part(logits, frequencies), pairs)


_partial = functools.partial(_excluded, 1.0)
_partial.__module__ = __name__  # a partial says "functools"
right("a partial", exercise="excluded_loss")(_partial)


@right("zeroed coefficients, and back")
def remove_frequency(x, k):
    basis = _basis(len(x))
    coefficients = basis @ x
    coefficients[2 * k - 1 : 2 * k + 1] = 0
    return basis.T @ coefficients


@right("a unit vector, then the length")
def equal_noise(x, changed, seed):
    rng = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(x.numel(), generator=rng, dtype=torch.float64), dim=0)
    return x + direction.view_as(x) * torch.linalg.vector_norm(changed - x)


@right("picture by picture, a tensor at the end")
def doubled_share(logits, k):
    p, total, part = len(logits), 0.0, 0.0
    twice = min(2 * k, p - 2 * k)
    for row in _basis(p)[2 * k - 1 : 2 * k + 1]:
        power = _fft2d(torch.einsum("abc,c->ab", logits, row)) ** 2
        total = total + power.sum() - power[0, 0]
        for single in (2 * twice - 1, 2 * twice):
            part = part + power[single, 0] + power[0, single]
    return part / total


@right("all neurons, the others unmoved")
def ablate_neurons(run, w_l, chosen):
    neurons = run["neurons"]
    held = torch.where(chosen, neurons.mean((0, 1)), neurons)
    return run["logits"] + torch.einsum("abn,cn->abc", held - neurons, w_l)


@right("a scan forward that forgets")
def first_seen(steps, tables):
    since = {}
    for step, table in zip(steps, tables, strict=True):
        now = key_frequencies_of(table)
        since = {k: since.get(k, step) for k in now}
    return since
