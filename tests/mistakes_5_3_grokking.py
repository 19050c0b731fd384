"""Wrong answers to 5.3, each of which its check must reject and name."""

import torch

from concrete_steps.checking.mistakes import mistake

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


@mistake("compares with the median: the mean is meant")
def key_frequencies(x, times=2.0):
    power = _power(x)
    return [k + 1 for k in range(len(power)) if power[k] > times * power.median()]


@mistake("keeps the weak frequencies: those above the threshold are asked for")
def key_frequencies(x, times=2.0):
    power = _power(x)
    return [k + 1 for k in range(len(power)) if power[k] <= times * power.mean()]


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
    return "c"


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


@mistake("scales each row of a picture by itself: the squares of the whole picture sum to 1")
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


# --- 5. A formula


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


@mistake("random frequencies are not what the model computes: they explain nothing of its logits")
def answer_accuracy():
    return "a"


@mistake("whether they are multiples of the keys plays no part: any frequency peaks at c = a + b")
def answer_accuracy():
    return "c"


# --- 6. Keep only the waves, or all but the waves


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


@mistake("takes waves of a - b away")
def excluded_loss(logits, frequencies, pairs):
    return _loss(logits - _part(logits, frequencies, sign=-1), pairs)


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


# --- 7. Phases


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
