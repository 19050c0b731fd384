"""Checks of 1.0, the placement of step 1. In each the smallest case comes first: a learner is shown that one."""

import itertools
import math

import torch
from torch import nn
from torch.autograd import forward_ad

from concrete_steps.checking.testing import (
    answer_to,
    assert_close,
    assert_draws_from,
    assert_gradient_values,
    assert_plain,
    assert_precise,
    assert_tensor,
    awkward,
    nothing_left_behind,
    shapes_with_ones,
    strided,
    unchanged,
)

# Changes that make no wrong answer; scripts/mutate.py counts them apart:
# equivalent mutant of mean_of_stretch, drop device= of arange: only a GPU can tell, and the checks run on the CPU
# equivalent mutant of mean_of_stretch, resid -> start: the inputs are on one device
# equivalent mutant of mean_of_stretch, resid -> end: the inputs are on one device
# equivalent mutant of mean_of_stretch, BitAnd -> Mult: the product of truth values is their "and"
# equivalent mutant of directions_needed, 0 -> -1: singular values have one axis
# equivalent mutant of bits_saved, drop USub (2x): of two axes, 1 is the last
# equivalent mutant of bits_saved, 1 -> -1 (2x): of two axes, 1 is the last
# equivalent mutant of bits_saved, 0 -> -1: gather gives one column
# equivalent mutant of sign_flip_p, drop device= of randint: only a GPU can tell, and the checks run on the CPU
# equivalent mutant of sign_flip_p, differences -> generator: a generator is on the device on which it draws
# equivalent mutant of sign_flip_p, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of sign_flip_p, keep 1e-06: the text leaves open how small a difference is rounding
# equivalent mutant of length_backward, drop USub: of two axes, 1 is the last
# equivalent mutant of length_backward, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of clip_gradients, Gt -> GtE: where the length is `longest`, and not 0, the factor is 1
# equivalent mutant of fit, drop .to(): only a GPU can tell, and the checks run on the CPU
# equivalent mutant of fit, drop argument 0 of to: only a GPU can tell, and the checks run on the CPU
# equivalent mutant of fit, x -> y: the inputs are on one device
# equivalent mutant of fit, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of fit, 400 -> 401: how long to train is open
# equivalent mutant of fit, 400 -> 399: how long to train is open
# equivalent mutant of fit, mean -> sum: Adam's steps depend on the loss's scale by its eps alone
# equivalent mutant of fit, drop lr= of Adam: any rate that reaches 95 % is right
# equivalent mutant of fit, 0.01 -> 1.01: any rate that reaches 95 % is right

BOTH = (torch.float32, torch.float64)


def test_mean_of_stretch(mean_of_stretch, rng):
    """Another stretch in each row, of one position, of all, and with a row of large numbers outside of it."""
    cases = [(torch.tensor([[[1.0], [2.0], [6.0]], [[1.0], [2.0], [6.0]]]), torch.tensor([0, 1]), torch.tensor([1, 3]))]
    for batch, pos, d_model in [*shapes_with_ones(3, 5, 2), (4, 6, 3)]:
        start = rng.integers(0, pos, batch)
        end = start + 1 + (rng.uniform(batch) * (pos - start)).long()
        cases += [(rng.normal(batch, pos, d_model), start, end)]
    cases += [(strided(rng.normal(3, 5, 2)), torch.tensor([0, 4, 2]), torch.tensor([5, 5, 3]))]
    for resid, start, end in cases:
        actual = assert_tensor(answer_to(mean_of_stretch, resid, start, end), shape=(len(resid), resid.shape[2]))
        rows = zip(resid, start.tolist(), end.tolist(), strict=True)
        expected = torch.stack([row[first:last].sum(0) / (last - first) for row, first, last in rows])
        assert_close(actual, expected, "a row is not the mean over its own positions start, ..., end - 1")
    for dtype in BOTH:
        resid, start, end = rng.normal(3, 5, 2, dtype=dtype), torch.tensor([0, 4, 2]), torch.tensor([5, 5, 3])
        expected = torch.stack([resid[0].mean(0), resid[1, 4], resid[2, 2]])
        assert_precise(mean_of_stretch(resid, start, end), expected, "loses digits on the way")
    assert_gradient_values(mean_of_stretch, resid, start, end, rng=rng)


def test_head_outputs(head_outputs, rng):
    """Each head's own matrix, its outputs kept apart."""
    small = torch.tensor([[[[1.0], [1.0]]]]), torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    cases = [small]
    for batch, pos, head, d_head, d_model in [*shapes_with_ones(2, 3, 4, 3, 5), (2, 2, 2, 2, 2)]:
        cases.append((rng.normal(batch, pos, head, d_head), rng.normal(head, d_head, d_model)))
    cases.append((strided(rng.normal(2, 3, 2, 3)), strided(rng.normal(2, 3, 4))))
    for z, W_O in cases:
        actual = assert_tensor(answer_to(head_outputs, z, W_O), shape=(*z.shape[:3], W_O.shape[2]))
        expected = torch.stack([z[:, :, head] @ W_O[head] for head in range(len(W_O))], 2)
        assert_close(actual, expected, "a head's output is not its z times its own W_O")
    z, W_O = rng.normal(2, 3, 2, 3, dtype=torch.float64), rng.normal(2, 3, 4, dtype=torch.float64)
    assert_precise(head_outputs(z, W_O), torch.stack([z[:, :, h] @ W_O[h] for h in range(2)], 2), "loses digits")
    assert_gradient_values(head_outputs, z, W_O, rng=rng)


def test_reflect(reflect, rng):
    """The part along the direction turned round, whatever the direction's length; any number of axes before d_model."""
    cases = [
        (torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.0])),
        (torch.tensor([[3.0, 4.0]]), torch.tensor([0.0, 0.5])),
    ]
    cases += [(x, rng.normal(3) * 5) for x in awkward(rng, 4, 3)]
    cases += [
        (rng.normal(2, 3, 5), rng.normal(5) / 10),
        (strided(rng.normal(4, 3)), rng.normal(3)),
        (rng.normal(2, 1), rng.normal(1)),
    ]
    for x, direction in cases:
        actual = assert_tensor(answer_to(reflect, x, direction), shape=x.shape)
        unit = direction.double() / direction.double().norm()
        expected = x.double() - 2 * (x.double() @ unit)[..., None] * unit
        size = float(x.abs().max())
        assert_close(actual, expected.to(x.dtype), "x is not mirrored along the direction", atol=1e-5 * max(size, 1))
    x, direction = rng.normal(4, 3, dtype=torch.float64), rng.normal(3, dtype=torch.float64)
    unit = direction / direction.norm()
    assert_precise(reflect(x, direction), x - 2 * (x @ unit)[:, None] * unit, "loses digits on the way")
    assert_gradient_values(reflect, x, direction, rng=rng)


def with_singular_values(rng, values, m, n):
    """A matrix with these singular values, in directions that nobody sees."""
    left = torch.linalg.qr(rng.normal(m, m, dtype=torch.float64))[0]
    right = torch.linalg.qr(rng.normal(n, n, dtype=torch.float64))[0]
    return (left[:, : len(values)] * torch.tensor(values, dtype=torch.float64)) @ right[:, : len(values)].T


def test_directions_needed(directions_needed, rng):
    """Squares of singular values, of tall and wide matrices of any size of numbers; from one direction to all."""
    W = torch.diag(torch.tensor([3.0, 2.0, 1.0]))  # squares 9, 4, 1 of 14: shares .64, .93, 1
    for share, expected in [(0.5, 1), (0.7, 2), (0.9, 2), (0.95, 3), (0.0, 1)]:
        actual = assert_plain(answer_to(directions_needed, W, share), int)
        assert actual == expected, f"of squares 9, 4 and 1, {expected} hold a share of {share:g}: got {actual}"
    for share, expected in [(0.5, 2), (0.25, 1)]:
        actual = directions_needed(torch.eye(4), share)
        assert actual == expected, f"of four equal singular values, {expected} hold a share of {share:g}: got {actual}"
    for values, m, n in [((5, 3, 2, 1), 6, 4), ((5, 3, 2, 1), 4, 7), ((2, 2, 2), 3, 3), ((4,), 5, 2)]:
        shares = torch.tensor(values, dtype=torch.float64).square().cumsum(0)
        shares = (shares / shares[-1]).tolist()
        for scale, (number, held) in itertools.product((1.0, 30.0, 0.01), enumerate(shares)):
            W = (scale * with_singular_values(rng, values, m, n)).float()
            for share, expected in ((held - 0.004, number + 1), (held + 0.004, number + 2)):
                if expected <= len(values):
                    actual = answer_to(directions_needed, W, share)
                    said = f"of singular values {', '.join(f'{scale * value:g}' for value in values)}"
                    assert actual == expected, f"{said}, {expected} hold {share:.3f} of the square: got {actual}"
    whole = directions_needed(with_singular_values(rng, (3, 2, 1), 5, 5).float(), 1 - 1e-4)
    assert whole == 3, f"a matrix of rank 3 needs 3 directions, got {whole}"


def test_bits_saved(bits_saved, rng):
    """Bits, a mean, and any logits: shifted, large, of one position."""
    one = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([1]), torch.tensor([0.5, 0.5])  # .75 against .5
    cases = [one, (torch.tensor([[5.0, 5.0]]), torch.tensor([0]), torch.tensor([0.25, 0.75]))]
    for pos, d_vocab in [(1, 2), (5, 1), (4, 6), (7, 3)]:
        frequency = rng.uniform(d_vocab, low=0.1, high=1.0)
        cases.append((rng.normal(pos, d_vocab) * 3, rng.integers(0, d_vocab, pos), frequency / frequency.sum()))
    cases.append((rng.normal(4, 3) * 5 + 300, rng.integers(0, 3, 4), torch.tensor([0.2, 0.3, 0.5])))
    cases.append((torch.tensor([[200.0, 0.0]]), torch.tensor([1]), torch.tensor([0.5, 0.5])))  # p is 1e-87
    for logits, tokens, frequency in cases:
        actual = assert_tensor(answer_to(bits_saved, logits, tokens, frequency), shape=())
        rows = logits.double().log_softmax(-1)
        gain = [float(row[t] - frequency.double()[t].log()) for row, t in zip(rows, tokens, strict=True)]
        expected = torch.tensor(sum(gain) / len(gain) / math.log(2), dtype=logits.dtype)
        assert_close(actual, expected, "not the mean of log2 p_model - log2 p_frequency", atol=1e-4)
    logits, frequency = rng.normal(4, 3, dtype=torch.float64), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    tokens = logits.argmin(1)  # where the model's share of the bits is large
    p = logits.softmax(-1)[range(4), tokens]
    assert_precise(bits_saved(logits, tokens, frequency), (p / frequency[tokens]).log2().mean(), "loses digits")
    assert_gradient_values(lambda x: bits_saved(x, tokens, frequency), logits, rng=rng)


def every_sign(differences):
    """The p of all 2^n flips, exactly; and the share of those whose mean is as far above 0."""
    measured = abs(sum(differences)) - 1e-9 * max(map(abs, differences))
    flips = itertools.product((1, -1), repeat=len(differences))
    sums = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in flips]
    return sum(abs(x) >= measured for x in sums) / len(sums), sum(x >= measured for x in sums) / len(sums)


def test_sign_flip_p(sign_flip_p, rng):
    """Against the exact p of all flips, two-sided, of either sign, with ties, of tenths as well; never 0."""
    draws = 20_000
    sets = [[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, -1.0], [2.0, -1.0, 0.5, 3.0], [0.0, 0.0], [1.0]]
    sets += [[0.002, -0.001, 0.0005, 0.003]]
    sets += [rng.normal(n).tolist() for n in (5, 8)]
    # Of these, means that are equal come out different in their last digits, in whatever order they are summed.
    tenths = [[0.2, 0.4, 0.5, -0.2, 0.1, 0.0], [0.5, -0.2, 0.1, 0.2, -0.6, 0.4, 0.3]]
    for values in sets + tenths:
        exact, above = every_sign(values)
        differences = torch.tensor(values, dtype=torch.float64 if values in tenths else torch.float32)
        with nothing_left_behind(), unchanged(differences):
            p = assert_plain(sign_flip_p(differences, draws, rng.generator), float)
        slack = 6 * math.sqrt(exact * (1 - exact) / draws) + 1e-3
        side = f" (on its own side {above:.3f})" if above < exact else ""
        assert abs(p - exact) <= slack, (
            f"differences {[float(f'{v:.2g}') for v in values]}: of all flips {exact:.3f} are as far from 0{side}; "
            f"p is this share, got {p:.3f}"
            + ("; do means that are equal but for rounding count?" if values in tenths and p < exact else "")
        )
    far = torch.full((40,), 1.0)
    for few in (1, 4, 19):
        p = sign_flip_p(far, few, rng.generator)
        said = f"of 40 equal differences and {few} draws none is as far: p is 1 / {few + 1}, got {p:.4f}"
        assert math.isclose(p, 1 / (few + 1), rel_tol=1e-6), said
    assert_draws_from(lambda generator: sign_flip_p(torch.tensor([1.0, 2.0, -1.0]), 50, generator))
    several = {sign_flip_p(torch.tensor([1.0, 2.0, -1.0]), 7, rng.generator) for _ in range(30)}
    assert len(several) > 1, "30 calls of 7 draws give the same p each time: each draw needs signs of its own"


USES_AUTOGRAD = "uses autograd: the derivative is to be worked out by hand"


def by_hand(backward, *inputs):
    """What it gives. Autograd, wherever it is turned on, takes out again what it has saved on the way forward."""
    taken_out = []
    saved = torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: taken_out.append(x) or x)
    try:
        with saved, forward_ad.dual_level():
            actual = answer_to(backward, *inputs)
    except RuntimeError as error:  # torch.func forbids such hooks, and its derivatives forward a second level
        assert not any(words in str(error) for words in ("saved tensor hooks", "forward mode AD")), USES_AUTOGRAD
        raise
    assert not taken_out, USES_AUTOGRAD
    return actual


def test_length_backward(length_backward, rng):
    """The derivative of each row's length, against autograd; rows of any length, a single row, one feature."""
    cases = [(torch.tensor([2.0]), torch.tensor([[3.0, 4.0]]))]
    for row, d_model in [(1, 1), (3, 1), (1, 4), (5, 3)]:
        cases.append((rng.normal(row), rng.normal(row, d_model) * 10))
    cases.append((torch.zeros(2), rng.normal(2, 3)))
    cases.append((strided(rng.normal(4, 2))[:, 0], strided(rng.normal(4, 3))))
    for grad, x in cases:
        leaf = x.clone().requires_grad_()
        (leaf.norm(dim=1) * grad).sum().backward()
        actual = assert_tensor(by_hand(length_backward, grad, x), shape=x.shape)
        assert_close(actual, leaf.grad, "not grad times the derivative of each row's length")
    grad, x = rng.normal(4, dtype=torch.float64), rng.normal(4, 3, dtype=torch.float64)
    assert_precise(length_backward(grad, x), grad[:, None] * x / x.norm(dim=1)[:, None], "loses digits on the way")


def test_softmax_backward(softmax_backward, rng):
    """The derivative through softmax, against autograd; each row its own, sharp and flat ones, any axes before."""
    cases = [(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0]))]
    for shape in [(1, 1), (3, 4), (2, 3, 5), (6,), (4, 2)]:
        cases.append((rng.normal(*shape), rng.normal(*shape) * 3))
    cases.append((torch.ones(3, 4), rng.normal(3, 4)))
    cases.append((strided(rng.normal(3, 4)), strided(rng.normal(3, 4))))
    for grad, scores in cases:
        leaf = scores.clone().requires_grad_()
        p = leaf.softmax(-1)
        p.backward(grad)
        actual = assert_tensor(by_hand(softmax_backward, grad, p.detach()), shape=scores.shape)
        assert_close(actual, leaf.grad, "not the derivative with respect to the scores", atol=1e-6)
    grad, p = rng.normal(3, 4, dtype=torch.float64), rng.normal(3, 4, dtype=torch.float64).softmax(-1)
    jacobian = torch.diag_embed(p) - p[..., None] * p[:, None]
    assert_precise(softmax_backward(grad, p), (jacobian @ grad[..., None])[..., 0], "loses digits on the way")


def test_clip_gradients(clip_gradients, rng):
    """One factor for all, and only where they are too long; one gradient, many, of any shapes, zeros."""
    cases = [([torch.tensor([3.0]), torch.tensor([4.0])], 1.0), ([torch.tensor([3.0]), torch.tensor([4.0])], 10.0)]
    cases += [([torch.tensor([[0.3]]), torch.tensor([0.4, 0.0])], 0.25), ([torch.zeros(3)], 1.0)]
    for scale in (0.1, 1.0, 20.0):
        shapes = [(3, 2), (4,), ()] if scale == 1.0 else [(3, 2), (4,)]
        cases.append(([rng.normal(*shape) * scale for shape in shapes], rng.uniform(1).item() * 2 + 0.1))
    cases.append(([strided(rng.normal(3, 4))], 0.5))
    for gradients, longest in cases:
        with nothing_left_behind(), unchanged(*gradients):
            clipped = assert_plain(clip_gradients(gradients, longest), list)
        assert len(clipped) == len(gradients), f"of {len(gradients)} gradients, {len(clipped)} came back"
        before = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
        factor = min(1.0, longest / before) if before else 1.0
        for actual, gradient in zip(clipped, gradients, strict=True):
            said = f"of gradients {before:.3g} long, at most {longest:.3g} allowed, each is to be times {factor:.3g}"
            assert_close(assert_tensor(actual, shape=gradient.shape), factor * gradient, said, rtol=1e-3, atol=1e-5)
    gradients = [rng.normal(3, dtype=torch.float64), rng.normal(2, 2, dtype=torch.float64)]
    length = torch.cat([g.flatten() for g in gradients]).norm()
    for actual, gradient in zip(clip_gradients(gradients, 0.5), gradients, strict=True):
        assert_precise(actual, gradient * 0.5 / length, "loses digits on the way")


def bent(rng, samples):
    """Points and values of a smooth function that no straight line follows; its scale and place vary."""
    x = rng.uniform(samples, 2, low=-2.0, high=2.0)
    a, b = rng.uniform(2, low=0.8, high=1.4).tolist()
    y = torch.sin(a * 2 * x[:, 0]) + b * x[:, 1] * x[:, 0] / 2 + rng.uniform(1, low=-0.5, high=0.5)
    return x, y


def explained(network, x, y):
    with torch.no_grad():
        predicted = assert_tensor(network(x))
    assert predicted.shape != (*y.shape, 1), (
        f"it gives {list(predicted.shape)}, not [sample]: against [sample, 1], y would be spread to a square"
    )
    assert_tensor(predicted, shape=y.shape)
    return 1 - float((predicted - y).square().mean() / y.var(correction=0))


def test_fit(fit, rng):
    """95 % of the variance of unseen points, where a straight line explains far less; a network for each seed."""
    x, y = bent(rng, 1024)
    (train_x, train_y), (held_x, held_y) = (x[:512], y[:512]), (x[512:], y[512:])
    seed = rng.integer(0, 1000)
    with unchanged(train_x, train_y), nothing_left_behind(random_state=False):  # the text lets it seed PyTorch
        network = fit(train_x, train_y, seed)
    assert isinstance(network, nn.Module), f"expected a network (nn.Module), got {type(network).__name__}"
    share = explained(network, held_x, held_y)
    inputs = torch.cat([train_x, torch.ones(512, 1)], 1)
    line = torch.linalg.lstsq(inputs, train_y[:, None]).solution
    straight = 1 - float(
        (torch.cat([held_x, torch.ones(512, 1)], 1) @ line - held_y[:, None]).square().mean() / held_y.var(correction=0)
    )
    assert share > straight + 0.1, (
        f"it explains {share:.0%} of the variance of unseen points, a straight line {max(straight, 0):.0%}: is there "
        "a nonlinearity between two layers, and is it trained?"
    )
    assert share >= 0.95, f"it explains {share:.1%} of the variance of unseen points; 95 % are asked for"
    again = fit(train_x, train_y, seed)
    with torch.no_grad():
        assert torch.allclose(network(held_x), again(held_x), atol=1e-4), "the same seed gives another network"
    other = fit(train_x, train_y, seed + 1)
    with torch.no_grad():
        alike = torch.allclose(network(held_x), other(held_x), atol=1e-6)
    assert not alike, f"seeds {seed} and {seed + 1} give the same network: is the seed used that comes in?"
