"""Checks of 1.5 Training networks: PyTorch's own layers and optimisers are the reference, and fresh runs the exam."""

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from concrete_steps.checking.mistakes import mistakes_of, same
from concrete_steps.checking.testing import (
    OverManyCalls,
    assert_choice,
    assert_close,
    assert_equal,
    assert_plain,
    assert_precise,
    assert_tensor,
    awkward,
    nothing_left_behind,
    strided,
    unchanged,
)
from concrete_steps.course import load_course
from concrete_steps.models import broken_runs

# Changes that make no wrong answer; scripts/mutate.py counts them apart:
# equivalent mutant of Adam, Is -> Eq: of None the two are the same
# equivalent mutant of Adam, True -> False: the lists are as long
# equivalent mutant of Adam, drop strict= of zip: the lists are as long
# equivalent mutant of Adam, swap arguments 1 and 2 of zip: which list holds which moment is the same all along
# equivalent mutant of AdamW, IsNot -> NotEq: of None the two are the same
# equivalent mutant of SGD, 0.0 -> -0.0: they are equal
# equivalent mutant of evaluate, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of evaluate, drop USub: the last axis of two is axis 1
# equivalent mutant of overfit_one_batch, 0 -> -1: any order of one batch is the same batch
# equivalent mutant of overfit_one_batch, 0 -> 1: any order of one batch is the same batch
# equivalent mutant of overfit_one_batch, drop .manual_seed(): any order of one batch is the same batch
# equivalent mutant of overfit_one_batch, x -> y: they are as long
# equivalent mutant of train_epoch, optimizer -> model: the optimizer holds all of the model's parameters
# equivalent mutant of train_epoch, x -> y: they are as long
# equivalent mutant of warmup_cosine, 0.0 -> -0.0: they are equal
# equivalent mutant of warmup_cosine, swap arguments 0 and 1 of min: min has no order
# equivalent mutant of what_is_wrong, any: what finds enough on fresh cases is right
# equivalent mutant of read_digits, any: what finds enough on fresh cases is right
# equivalent mutant of Linear, 1 -> -1: uniform between a bound and its negative, either way round
# equivalent mutant of MLP, drop strict= of zip: the two lists are equally long
# equivalent mutant of MLP, True -> False: the two lists are equally long
# equivalent mutant of init_variance, 1 -> -1: axis 1 is the last
# equivalent mutant of SGD, drop strict= of zip: the two lists are equally long
# equivalent mutant of SGD, True -> False: the two lists are equally long
# equivalent mutant of AdamW, lr -> params: the rate is set again before each step
# equivalent mutant of AdamW, lr -> betas: the rate is set again before each step
# equivalent mutant of AdamW, lr -> eps: the rate is set again before each step
# equivalent mutant of AdamW, lr -> weight_decay: the rate is set again before each step
# equivalent mutant of SGD, IsNot -> NotEq: a gradient is a tensor or None


def slips(name, behaviour, learners, right):
    """The sentences of the known wrong classes that behave as the learner's does, and not as the right one."""
    found = []
    for entry in mistakes_of(load_course().notebook("1.5")).get(name, []):
        try:
            theirs = behaviour(entry.implementation)
            if same(theirs, learners) and not same(theirs, right):
                found.append(entry.sentence)
        except Exception:  # a wrong class need not survive every input
            continue
    return " or ".join(found)


# --- 1. Layers


def linear(cls, seed):
    """A layer whose weights depend on the seed alone."""
    torch.manual_seed(seed)
    return cls(3, 2)


def test_Linear(Linear, rng):
    """x @ weight.T + bias with its own parameters, for any batch axes, in float32 and float64."""
    for d_in, d_out in ((2, 2), (1, 1), (3, 2), (2, 5)):
        layer = Linear(d_in, d_out)
        assert isinstance(layer, nn.Module), "Linear is no nn.Module"
        shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
        assert_equal(shapes, {"weight": (d_out, d_in), "bias": (d_out,)}, f"the parameters of Linear({d_in}, {d_out})")
        for dtype in (torch.float32, torch.float64):
            layer = layer.to(dtype)
            weight, bias = rng.normal(d_out, d_in, dtype=dtype), rng.normal(d_out, dtype=dtype)
            filled(layer, (weight, bias))
            for batch in ((), (1,), (4,), (2, 3)):
                x = strided(rng.normal(*batch, d_in, dtype=dtype))
                with unchanged(x):
                    out = layer(x)
                expected = F.linear(x, weight, bias)
                if not same(out, expected):
                    given = (d_in, d_out), (weight, bias), x
                    twin = slips("Linear", lambda cls, given=given: outcome(cls, *given), out, expected)
                    assert not twin, twin
                assert_precise(out, expected, f"not x @ weight.T + bias, for x of shape {list(x.shape)}", loosen=10)
        assert_trainable(layer, rng.normal(4, d_in, dtype=dtype))


def outcome(cls, sizes, values, x):
    """What a module says to x once its parameters have these values."""
    return filled(cls(*sizes).to(x.dtype), values)(x)


def filled(module, values):
    """The module with these weights and biases [weight, bias, weight, bias, ...]: it may hold them in another order."""
    values = [value for axes in (2, 1) for value in values if value.ndim == axes]
    own = [p for axes in (2, 1) for p in module.parameters() if p.ndim == axes]
    with torch.no_grad():
        for p, value in zip(own, values, strict=True):
            p.copy_(value)
    return module


def assert_trainable(module, x):
    """Every parameter gets a gradient: nothing on the way is detached."""
    module.zero_grad()
    out = module(x)
    assert out.requires_grad, "no gradient flows back: parameters are used as they are, not by .data or .detach()"
    out.sum().backward()
    for name, p in module.named_parameters():
        assert p.grad is not None, (
            f"no gradient reaches {name}: parameters and activations are used as they are, not by .data or .detach()"
        )


def test_Linear__start(Linear):
    """The start: uniform between -1 and 1 over the root of d_in, drawn anew for each layer, gradients on"""
    layer, other = Linear(25, 400), Linear(25, 400)
    for name in ("weight", "bias"):
        p = getattr(layer, name).detach()
        assert p.abs().max() <= 0.2 + 1e-6, (
            f"starts too large: {name} of Linear(25, 400) has {p.abs().max():.2g}, the bound is 1 / 5"
        )
        assert p.max() > 0.19 and p.min() < -0.19, (
            f"does not reach from -1 / sqrt(d_in) to 1 / sqrt(d_in): {name} goes from {p.min():.2g} to {p.max():.2g}"
        )
        assert_close(p.mean(), 0.0, f"the mean of {name} at the start", atol=0.03)
        assert_close(p.std(), 0.2 / math.sqrt(3), f"the spread of {name}, for uniform numbers", atol=0.02)
        assert not torch.equal(p, getattr(other, name)), f"two layers start with the same {name}"
        assert getattr(layer, name).requires_grad, f"{name} takes no gradient"


def test_relu(relu, rng):
    """0 below 0, x above, the input unchanged, gradient 1 or 0."""
    cases = [torch.tensor([-1.0, 0.0, 2.0]), *awkward(rng, 2, 3), rng.normal(2, 1, 3, dtype=torch.float64)]
    for x in cases:
        with unchanged(x):
            actual = relu(x)
        assert_precise(actual, torch.where(x > 0, x, torch.zeros_like(x)), "not x where x > 0, else 0")
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    relu(x).sum().backward()
    assert_close(x.grad, torch.tensor([0.0, 1.0]), "the gradient of relu")


def test_MLP(MLP, rng):
    """Each layer in turn with relu between, none at the end, for one to four layers and both float types."""
    for sizes in ([2, 3, 2], [3, 2], [1, 1, 1], [2, 5, 4, 3], [4, 3, 3, 3, 2]):
        model = MLP(sizes)
        assert isinstance(model, nn.Module), "MLP is no nn.Module"
        shapes = [s for a, b in itertools.pairwise(sizes) for s in ((b, a), (b,))]
        found = [tuple(p.shape) for p in model.parameters()]
        assert found, "has no parameters that PyTorch can see: nn.ModuleList, not a plain list"
        order = sorted(found, key=len, reverse=True), sorted(shapes, key=len, reverse=True)  # weights, then biases
        assert_equal(*order, f"the shapes of the parameters of MLP({sizes})")
        for dtype in (torch.float32, torch.float64):
            values = [rng.normal(*shape, dtype=dtype) for shape in shapes]
            for batch in ((4,), (), (2, 3)):
                x = rng.normal(*batch, sizes[0], dtype=dtype)
                model = filled(model.to(dtype), values)
                with unchanged(x):
                    out = model(x)
                expected = x
                for i in range(0, len(values), 2):
                    expected = F.linear(expected if i == 0 else expected.relu(), values[i], values[i + 1])
                if not same(out, expected):
                    given = (sizes,), values, x
                    twin = slips("MLP", lambda cls, given=given: outcome(cls, *given), out, expected)
                    assert not twin, twin
                assert_precise(out, expected, f"MLP({sizes}) for x of shape {list(x.shape)}", loosen=10)
        assert_trainable(model, x)


def test_answer_start(answer_start):
    """log(10): every class gets a tenth."""
    assert_choice(answer_start, "c", "which probability does it give to the right class? The loss is minus its log")


# --- 2. The size of the start


def test_init_variance(init_variance, rng):
    """The mean square after each layer, with weights drawn from the generator in turn."""
    for batch, width, n_layers, gain in (
        (3, 2, 1, 2.0),
        (1, 1, 1, 1.0),
        (4, 5, 3, 2.0),
        (2, 6, 4, 0.5),
        (5, 3, 2, 1.0),
    ):
        x = rng.normal(batch, width)
        seed = rng.integer(0, 10**6)
        with unchanged(x), nothing_left_behind():
            actual = assert_tensor(
                init_variance(x, n_layers, gain, torch.Generator().manual_seed(seed)), shape=(n_layers,)
            )
        generator = torch.Generator().manual_seed(seed)
        in_turn = torch.stack([torch.randn(width, width, generator=generator) for _ in range(n_layers)])
        at_once = torch.randn(n_layers, width, width, generator=generator.manual_seed(seed))
        in_turn, at_once = (mean_squares(x, w * math.sqrt(gain / width)) for w in (in_turn, at_once))
        expected = at_once if same(actual, at_once) else in_turn
        assert_close(actual, expected, f"the mean square after each layer, gain {gain}, width {width}")


def mean_squares(x, weights):
    found = []
    for w in weights:
        x = (x @ w.T).clamp(min=0)
        found.append(x.square().mean())
    return torch.stack(found)


# --- 3. Optimisers


def walk(make, seed, steps=5, size=1.0, lrs=None, pile=False):
    """The parameters after each step of an optimiser, on gradients that depend on the seed alone.

    `pile`: gradients are not cleared but added to in place, as backward() does.
    """
    generator = torch.Generator().manual_seed(seed)
    params = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((2,), (3, 2), ())]
    optimizer, path = make(p for p in params), [_flat(params)]
    for step in range(steps):
        if lrs is not None:
            set_rate(optimizer, lrs[step])
        if not pile:
            optimizer.zero_grad()
        for p in params:
            cleared = pile or p.grad is None or not p.grad.any()
            assert cleared, "zero_grad leaves gradients: backward adds to what is there"
            fresh = size * torch.randn(p.shape, generator=generator)
            p.grad = p.grad.add_(fresh) if pile and p.grad is not None else fresh
        given = [p.grad.clone() for p in params]
        with nothing_left_behind():
            optimizer.step()
        for p, grad in zip(params, given, strict=True):
            assert p.grad is not None and torch.equal(p.grad, grad), (
                "step() changes the gradients themselves: what is kept of them must be a tensor of its own"
            )
        path.append(_flat(params))
        assert step or not torch.equal(path[0], path[1]), (
            "the parameters have not moved in the first step: it counts the new gradient, changes them in place "
            "(p -= ..., not p = p - ...), and finds them in a list (params may be a generator, gone through once)"
        )
    return path[1:]


def _flat(params):
    return torch.cat([p.detach().flatten() for p in params]).clone()


def set_rate(optimizer, rate):
    if hasattr(optimizer, "param_groups"):
        for group in optimizer.param_groups:
            group["lr"] = rate
    else:
        optimizer.lr = rate


def compare(name, cls, reference, rng, settings):
    """The learner's optimiser walks as PyTorch's does, step by step, for each of the settings."""
    seeds = [rng.integer(0, 10**6) for _ in settings]

    def paths(which):
        return [walk_with(which, seed, **options) for seed, options in zip(seeds, settings, strict=True)]

    mine, right = paths(cls), paths(reference)
    for options, my_path, right_path in zip(settings, mine, right, strict=True):
        told = ", ".join(f"{key}={value}" for key, value in options.items() if key not in WALK) or "defaults"
        told += ", gradients not cleared" if options.get("pile") else ""
        if not all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(my_path, right_path, strict=True)):
            slip = slips(name, paths, mine, right)
            assert not slip, f"{slip} ({name} with {told})"
        for step, (a, b) in enumerate(zip(my_path, right_path, strict=True), 1):
            assert_close(a, b, f"{name} with {told}: all parameters after step {step}", atol=1e-6)


WALK = ("size", "lrs", "pile")  # what is the walk's, not the optimiser's


def walk_with(which, seed, **options):
    of_walk = {key: options.pop(key) for key in WALK if key in options}
    return walk(lambda params: which(params, **options), seed, **of_walk)


def test_SGD(SGD, rng):
    """As torch.optim.SGD, step by step, with and without momentum."""
    settings = [{"lr": 0.1}, {"lr": 0.1, "momentum": 0.9}, {"lr": 0.5, "momentum": 0.5}, {"lr": 1e-3, "momentum": 0.0}]
    settings += [{"lr": 0.1, "momentum": 0.9, "pile": True}]
    compare("SGD", SGD, torch.optim.SGD, rng, settings)
    alone(lambda params: SGD(params, 0.1, 0.9))


def test_Adam(Adam, rng):
    """As torch.optim.Adam, step by step: defaults, other betas, tiny gradients, and a rate that changes."""
    settings = [{}, {"lr": 0.1}, {"lr": 0.1, "betas": (0.5, 0.8)}, {"lr": 0.1, "eps": 0.3}, {"lr": 0.1, "size": 1e-8}]
    settings += [{"lr": 0.1, "lrs": (0.1, 0.2, 0.05, 0.0, 1.0)}, {"lr": 0.1, "betas": (0.0, 0.99)}]
    compare("Adam", Adam, torch.optim.Adam, rng, settings)
    alone(Adam)


def test_AdamW(AdamW, rng):
    """As torch.optim.AdamW, step by step: decay apart from the gradient, and a rate that changes."""
    settings = [
        {"lr": 0.1, "weight_decay": 0.5},
        {"lr": 0.1},
        {},
        {"lr": 0.1, "betas": (0.5, 0.8), "weight_decay": 0.1},
    ]
    settings += [{"lr": 0.1, "eps": 0.3, "weight_decay": 0.0}, {"lr": 0.1, "size": 1e-8, "weight_decay": 0.2}]
    settings += [{"lr": 0.1, "weight_decay": 0.3, "lrs": (0.1, 0.2, 0.05, 0.0, 1.0)}]
    compare("AdamW", AdamW, torch.optim.AdamW, rng, settings)
    alone(lambda params: AdamW(params, weight_decay=0.5))


def alone(make):
    """A parameter without gradient stays where it is: from the start, and where its gradient was cleared later."""
    first, used, later = (nn.Parameter(torch.tensor([value])) for value in (2.0, 1.0, 3.0))
    optimizer = make([first, used, later])
    try:
        optimizer.zero_grad()
        for step in range(3):
            used.grad, later.grad = torch.tensor([1.0]), torch.tensor([1.0]) if step < 2 else None
            before = later.item(), used.item()
            optimizer.step()
            assert used.item() != before[1], "stops at a parameter whose grad is None: those after it must still move"
    except (TypeError, AttributeError) as error:
        raise AssertionError(f"a parameter whose grad is None must be left alone: {error}") from None
    assert first.item() == 2.0, "a parameter whose grad is None must be left alone: it has moved"
    assert later.item() == before[0], (
        "a parameter whose grad is None must be left alone: it has moved, by the velocity of earlier steps"
    )


# --- 4. The rate over time


def test_warmup_cosine(warmup_cosine):
    """Linear up, half a cosine down, and flat after the end: known values, with and without warm-up and floor."""
    for step, right, what in (
        (0, 0.25, "the rate of step 0, in a warm-up of 4 to 1.0"),
        (3, 1.0, "the rate of the last step of the warm-up"),
        (12, 0.5, "the rate half way down"),
    ):
        assert_close(assert_plain(warmup_cosine(step, 4, 20, 1.0), float), torch.tensor(right), what)
    cases = ((4, 20, 1.0, 0.0), (0, 10, 3e-3, 3e-4), (1, 3, 2.0, 0.5), (7, 8, 1.0, 0.1), (3, 9, 0.3, 0.02))
    for warmup, total, peak, floor in cases:
        for step in range(total + 5):
            u = min(max(step - warmup, 0) / (total - warmup), 1)
            right = floor + (peak - floor) * (math.cos(u * math.pi) + 1) / 2
            right = peak * (step + 1) / warmup if step < warmup else right
            found = assert_plain(warmup_cosine(step, warmup, total, peak, floor), float)
            assert_close(found, torch.tensor(right), f"step {step} of warmup={warmup}, total={total}, floor={floor}")


# --- 5. The loop


class Watched(nn.Module):
    """A network that notes what it was shown, in which mode."""

    def __init__(self, rng, d, classes=3, dropout=0.0):
        super().__init__()
        self.inner = nn.Linear(d, classes)
        with torch.no_grad():
            self.inner.weight.copy_(rng.normal(classes, d))
            self.inner.bias.copy_(rng.normal(classes))
        self.drop = nn.Dropout(dropout)
        self.seen, self.modes, self.graphs = [], [], []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        self.modes.append(self.training)
        self.graphs.append(torch.is_grad_enabled())
        return self.inner(self.drop(x))


def rows_of(x, batch):
    """Which rows of x a batch holds; rows of x are all different."""
    return [int((x == row).all(-1).nonzero()[0, 0]) for row in batch]


def replay(model, batches, lr, piled=None):
    """Losses and weights of plain descent on batches [(x, y)]; `piled`: gradients are never cleared, from there on."""
    weights = [p.detach().clone() for p in model.inner.parameters()]
    losses, grads = [], [torch.full_like(w, piled or 0.0) for w in weights]
    for x, y in batches:
        leaves = [w.requires_grad_() for w in weights]
        loss = F.cross_entropy(F.linear(x, *leaves), y)
        fresh = torch.autograd.grad(loss, leaves)
        grads = [g + (old if piled is not None else 0) for g, old in zip(fresh, grads, strict=True)]
        losses.append(loss.item())
        weights = [(w - lr * g).detach() for w, g in zip(weights, grads, strict=True)]
    return losses, weights


PILED = "does not clear the gradients before each step, so that they pile up"


def test_train_epoch(train_epoch, rng):
    """Each example once, in the generator's order, in training mode, gradients cleared, each loss before its step."""
    for n, batch_size in ((4, 2), (1, 1), (7, 3), (5, 8), (6, 1)):
        x, y = rng.normal(n, 4), rng.integers(0, 3, n)
        model = Watched(rng, 4)
        first = Watched(rng, 4)
        first.load_state_dict(model.state_dict())
        model.eval()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for p in model.parameters():
            p.grad = torch.ones_like(p)  # left from before
        generator = torch.Generator().manual_seed(rng.integer(0, 1000))
        with unchanged(x, y), nothing_left_behind():
            losses = train_epoch(model, optimizer, x, y, batch_size, generator)
        shown = [rows_of(x, batch) for batch in model.seen]
        if len(shown) == 2 * math.ceil(n / batch_size) and shown[::2] == shown[1::2]:
            shown = shown[::2]  # the model may be asked for a batch's loss once more
        rows = list(itertools.chain(*shown))
        assert len(set(rows)) == len(rows), f"some examples come twice in an epoch: the rows shown are {rows}"
        short = len(rows) == n - n % batch_size < n
        assert not short, f"drops the last, smaller batch: {len(rows)} of {n} examples, in batches of {batch_size}"
        assert_equal(sorted(rows), list(range(n)), "each example is seen once in an epoch; the rows shown")
        sizes = [len(batch) for batch in shown]
        full = [batch_size] * (n // batch_size) + ([n % batch_size] if n % batch_size else [])
        assert_equal(sizes, full, f"the sizes of the batches, for {n} examples and batch_size={batch_size}")
        assert all(model.modes), "the model is not in training mode: model.train() comes first"
        batches = [(x[rows], y[rows]) for rows in shown]
        right, weights = replay(first, batches, lr=0.5)
        _, piled = replay(first, batches, lr=0.5, piled=1.0)
        after = [p.detach() for p in model.inner.parameters()]
        assert not same(after, piled), PILED
        assert not same(after, [p.detach() for p in first.inner.parameters()]), (
            "never moves the weights: is optimizer.step() missing, or are gradients cleared before it can use them?"
        )
        assert_plain(losses, list, of=float)
        updated = [replay(first, [*batches[: i + 1], batch], lr=0.5)[0][-1] for i, batch in enumerate(batches)]
        assert not same(losses, updated), "gives each batch's loss after its update: before is asked for"
        assert_close(torch.tensor(losses), torch.tensor(right), "each batch's cross-entropy before its update")
        for mine, theirs in zip(after, weights, strict=True):
            assert_close(
                mine, theirs, "the weights after the epoch: not one step for each batch, on its gradients alone"
            )


def test_train_epoch__order(train_epoch, rng):
    """Another order in each epoch, and the same again for the same generator"""
    x, y = rng.normal(30, 4), rng.integers(0, 3, 30)
    orders = []
    for seed, epochs in ((0, 2), (0, 1), (1, 1)):
        model, generator = Watched(rng, 4), torch.Generator().manual_seed(seed)
        for _ in range(epochs):
            model.seen.clear()
            train_epoch(model, torch.optim.SGD(model.parameters(), lr=0.1), x, y, 7, generator)
            orders.append([row for batch in model.seen for row in rows_of(x, batch)])
    assert orders[0] != list(range(30)), "the order is not drawn: examples come as they stand"
    assert orders[0] == orders[2], "the same generator gives another order: draw from it, and from nothing else"
    parts = [orders[0][i : i + 7] for i in range(0, 30, 7)]
    assert not all(part == list(range(part[0], part[0] + len(part))) for part in parts), (
        "draws the order of the batches only: which examples come together must be drawn, too"
    )
    assert orders[0] != orders[1], "two epochs in a row have the same order"
    assert orders[0] != orders[3], "another generator gives the same order: it is not used"


def test_evaluate(evaluate, rng):
    """Mean cross-entropy and accuracy without dropout and without a graph; the model's mode is put back."""
    for n, training in ((3, True), (1, False), (8, True), (5, False)):
        x, y = rng.normal(n, 4), rng.integers(0, 3, n)
        model = Watched(rng, 4, dropout=0.5).train(training)
        logits = F.linear(x, model.inner.weight, model.inner.bias).detach()
        with nothing_left_behind(model), unchanged(x, y):
            result = evaluate(model, x, y)
            assert not any(model.modes), "the model is not in evaluation mode, so dropout is on"
        assert isinstance(result, tuple) and len(result) == 2, "expected two numbers: loss and accuracy"
        loss, accuracy = (assert_plain(value, float) for value in result)
        assert not any(model.graphs), "builds a graph: no gradients are needed here, torch.no_grad()"
        assert_close(loss, F.cross_entropy(logits, y), "the mean cross-entropy")
        assert_close(accuracy, (logits.argmax(-1) == y).float().mean(), "the share of right answers")


def test_answer_chosen(answer_chosen):
    """Chosen as the best of many: luck helped it."""
    assert_choice(answer_chosen, "b", "imagine that all 20 settings are equally good")


# --- 6. What went wrong?


def test_overfit_one_batch(overfit_one_batch, rng):
    """All of the batch in each step, and the loss before each step."""
    for n, steps in ((2, 1), (1, 3), (5, 6), (3, 0), (1, 100)):
        x, y = rng.normal(n, 4), rng.integers(0, 3, n)
        model, first = Watched(rng, 4), Watched(rng, 4)
        first.load_state_dict(model.state_dict())
        with unchanged(x, y), nothing_left_behind():
            losses = overfit_one_batch(model, torch.optim.SGD(model.parameters(), lr=0.3), x, y, steps)
        assert_plain(losses, list, of=float)
        assert_equal(len(losses), steps, "one loss for each step")
        right, _ = replay(first, [(x, y)] * (steps + 1), lr=0.3)
        if steps > 1:
            piled, _ = replay(first, [(x, y)] * steps, lr=0.3, piled=0.0)
            assert not same(losses, piled), PILED
        assert not steps or not same(losses, right[1:]), "gives the loss after each step: before is asked for"
        least = min((len(batch) for batch in model.seen), default=n)
        assert least == n, f"takes {least} of {n} examples in a step: all of the batch in each is asked for"
        assert_close(torch.tensor(losses), torch.tensor(right[:steps]), "the loss before each step")


@pytest.mark.seconds(120, again=True)  # it trains nine networks, once: on a busy machine 30 are too few
def test_what_is_wrong(what_is_wrong, rng):
    """A fresh run of every kind, a sound one among them, each named rightly."""
    missed, first = [], None
    for number, fault in enumerate(broken_runs.FAULTS):
        # Of three runs each: broken_runs keeps them, so that many answers can be tried in the time of a few.
        run = copy.deepcopy(broken_runs.train(fault, 1000 + rng.integer(0, 3)))
        with unchanged(*(value for value in vars(run).values() if isinstance(value, torch.Tensor))):
            answer = what_is_wrong(run)
        assert isinstance(answer, str), f"expected one of FAULTS, a string, got a {type(answer).__name__}"
        assert answer in broken_runs.FAULTS, f"{answer!r} is none of FAULTS"
        if answer != fault:
            missed.append(f"{fault!r} taken for {answer!r}")
            first = number if first is None else first
    if missed:
        raise OverManyCalls(f"{len(broken_runs.FAULTS)} fresh runs: {', '.join(missed)}", first)


# --- 7. Digits


@pytest.mark.seconds(180)
def test_read_digits(read_digits, rng):
    """97 % or more of 450 held-out digits, or of three times as many where the first draw falls just short."""
    images, labels = broken_runs.digits()
    shares = []
    for _ in range(3):
        order = rng.permutation(len(images))
        train, held = order[450:], order[:450]
        names = rng.permutation(10)  # which digit is called what: so the labels are learnt from those that are given
        x, y = images[train], names[labels[train]]
        seed = rng.integer(0, 1000)
        with unchanged(x, y), nothing_left_behind():
            read = read_digits(x, y, seed)
        assert callable(read), "expected a function that reads new images"
        says = assert_tensor(read(images[held]))
        assert says.ndim == 1, f"gives a score for each digit, not the digit: shape {list(says.shape)}, expected [450]"
        assert_tensor(says, shape=(450,))
        assert not says.is_floating_point(), f"digits are whole numbers, not {says.dtype}"
        alone = assert_tensor(read(images[held[:1]]), shape=(1,))  # batch norm in training mode cannot read one image
        assert alone.equal(says[:1]), "reads the same image differently when it is alone: is the network in eval mode?"
        shares.append((says == names[labels[held]]).float().mean().item())
        if shares[0] >= 0.97 or max(shares) < 0.95:
            break
    # On noise a reader is never sure: another start of the training reads much of it otherwise.
    noise = rng.uniform(500, 64)
    alike = (read(noise) == read_digits(x, y, seed)(noise)).float().mean().item()
    assert alike > 0.98, f"the same seed gives another reader: only {alike:.0%} of 500 noisy images are read alike"
    share = sum(shares) / len(shares)
    found = ", ".join(f"{share:.1%}" for share in shares)
    assert share > 0.3, f"hardly better than guessing: of 450 held-out images it reads {found}; are the labels theirs?"
    assert max(shares[0], share) >= 0.97, f"reads too few of the held-out images: {found} of 450; 97 % are asked for"
