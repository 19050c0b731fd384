"""Checks of 5.2 Toy Models of Superposition.

Formulas are compared with slow computations, feature by feature; samplers by what large samples must show: the bounds
lie at least six standard errors away, so that a right sampler fails less than once in a million runs.
"""

import math
from collections import Counter
from dataclasses import dataclass

import torch

from concrete_steps.checking.mistakes import mistakes_of, same
from concrete_steps.checking.testing import (
    assert_choice,
    assert_close,
    assert_gradient_values,
    assert_plain,
    assert_precise,
    assert_tensor,
    awkward,
    strided,
    unchanged,
)
from concrete_steps.course import load_course

# --- 1. The model


@dataclass
class Config:
    """The same fields as in the notebook."""

    n_instances: int = 2
    n_features: int = 5
    d_hidden: int = 3
    is_linear: bool = False


# The first has as many instances as samples: there a bias that is added along the wrong axis raises no error.
SIZES = [(Config(), 2), (Config(3, 4, 2), 5), (Config(1, 3, 1), 1), (Config(2, 3, 3, True), 4), (Config(4, 2, 5), 3)]


def toy_shapes(c):
    return {"W": (c.n_instances, c.d_hidden, c.n_features), "b": (c.n_instances, c.n_features)}


def absolute_shapes(c):
    i, n, m = c.n_instances, c.n_features, c.d_hidden
    return {"W_in": (i, m, n), "W_out": (i, n, m), "b": (i, n)}


def toy_out(p, x, c):
    """(out, what stood before a ReLU), instance by instance, sample by sample."""
    before = torch.stack(
        [torch.stack([W.T @ (W @ v) + b for v in xs]) for W, b, xs in zip(p["W"], p["b"], x, strict=True)]
    )
    return (before if c.is_linear else before.clamp(min=0)), [before]


def absolute_out(p, x, c):
    rows = list(zip(p["W_in"], p["W_out"], p["b"], x, strict=True))
    neurons = torch.stack([torch.stack([i @ v for v in xs]) for i, _, _, xs in rows])
    reads = zip(rows, neurons, strict=True)
    before = torch.stack([torch.stack([o @ n.clamp(min=0) + b for n in ns]) for (_, o, b, _), ns in reads])
    return before.clamp(min=0), [neurons, before]


def parameters_of(module, shapes):
    """The learner's parameters, with the names and shapes that the text fixes."""
    name = type(module).__name__
    assert isinstance(module, torch.nn.Module), f"{name} is no nn.Module: write class {name}(nn.Module)"
    found = dict(module.named_parameters())
    for key, shape in shapes.items():
        if key not in found:
            is_plain = isinstance(getattr(module, key, None), torch.Tensor)
            why = ": it is a plain tensor, not a parameter: wrap it in nn.Parameter" if is_plain else ""
            raise AssertionError(f"{name}(cfg) has no parameter {key} {list(shape)}{why}")
        actual = tuple(found[key].shape)
        swapped = (*shape[:-2], shape[-1], shape[-2])
        assert actual == shape or actual != swapped, (
            f"{key} is transposed: it has shape {list(actual)}, the text asks for {list(shape)}"
        )
        assert actual == shape, f"{key} has shape {list(actual)}, the text asks for {list(shape)}"
        assert found[key].requires_grad, f"{key} has requires_grad=False: it is to be trained"
    extra = sorted(found.keys() - shapes.keys())
    assert not extra, f"{name}(cfg) has parameters that the text does not name: {', '.join(extra)}"
    return found


@dataclass
class Trial:
    """What a learner's class made of weights and inputs."""

    cfg: Config
    weights: dict
    x: torch.Tensor
    out: object  # or what it raised
    expected: torch.Tensor

    def is_right(self):
        return same(self.out, self.expected)

    def looks_like(self, implementation):
        """Whether another class gives the same, or fails, too."""
        try:
            twin = implementation(self.cfg)
            twin.load_state_dict(self.weights)
            twin = twin.to(self.x.dtype)
            out = twin(self.x)
        except Exception:  # a wrong class need not survive every input
            return isinstance(self.out, Exception)
        return same(out, self.out)


def check_model(cls, shapes_of, expected_of, rng):
    """With random weights the learner's class gives what is expected; a known slip is named."""
    trials = [trial(cls, c, batch, dtype, shapes_of, expected_of, rng) for c, batch, dtype in sizes_and_dtypes()]
    wrong = next((one for one in trials if not one.is_right()), None)
    if wrong is None:
        return check_model_gradient(cls, shapes_of, expected_of, rng)
    if isinstance(wrong.out, Exception):
        raise wrong.out
    slip = named(cls.__name__, trials)
    where = f"for x of shape {list(wrong.x.shape)}, cfg.is_linear={wrong.cfg.is_linear}"
    assert not slip, f"{slip} ({where} your output equals what comes of that)"
    assert_precise(wrong.out, wrong.expected, f"not what the text describes, {where}")
    raise AssertionError(f"not what the text describes, {where}")


def sizes_and_dtypes():
    return [(c, batch, dtype) for c, batch in SIZES for dtype in (torch.float32, torch.float64)]


def trial(cls, c, batch, dtype, shapes_of, expected_of, rng):
    module = cls(c)
    weights = {key: rng.normal(*shape, dtype=dtype) for key, shape in shapes_of(c).items()}
    for key, parameter in parameters_of(module, shapes_of(c)).items():
        parameter.data = weights[key].clone()
    x = rng.normal(c.n_instances, batch, c.n_features, dtype=dtype)
    x = strided(x * (rng.uniform(*x.shape) < 0.8))  # some features are off
    expected, _ = expected_of(weights, x, c)
    try:
        with unchanged(x, *module.parameters()):
            out = module(x)
    except AssertionError:
        raise
    except Exception as error:
        return Trial(c, weights, x, error, expected)
    assert_tensor(out)
    if out.shape == expected.shape:
        assert out.dtype == expected.dtype, f"for {dtype} x and weights out is {out.dtype}: keep the dtype of x"
    return Trial(c, weights, x, out.detach(), expected)


def check_model_gradient(cls, shapes_of, expected_of, rng):
    """Gradients of x and of every parameter are derivatives: no part is detached."""
    c = Config()
    module = cls(c)
    while True:  # far from where a ReLU bends
        weights = {key: rng.normal(*shape, dtype=torch.float64) for key, shape in shapes_of(c).items()}
        x = rng.normal(c.n_instances, 2, c.n_features, dtype=torch.float64)
        if min(before.abs().min() for before in expected_of(weights, x, c)[1]) > 0.01:
            break
    for key, parameter in module.named_parameters():
        parameter.data = weights[key].clone()
    assert_gradient_values(module, x, weights=module.named_parameters(), rng=rng)


def named(name, trials):
    """The sentence of the one known wrong class that agrees with the learner's in every trial, if one does."""
    known = mistakes_of(load_course().notebook("5.2")).get(name, [])
    found = [entry.sentence for entry in known if all(one.looks_like(entry.implementation) for one in trials)]
    return found[0] if len(found) == 1 else ""


def test_ToyModel(ToyModel, rng):
    """W, then W transposed, then b and the ReLU, for several sizes; every instance by its own weights."""
    check_model(ToyModel, toy_shapes, toy_out, rng)


def test_ToyModel__start(ToyModel, rng):
    """Each instance starts from its own random W, and from b = 0."""
    c = Config(3, 6, 4)
    first, second = (parameters_of(ToyModel(c), toy_shapes(c)) for _ in range(2))
    W = first["W"].detach()
    assert_close(first["b"], torch.zeros(3, 6), "b does not start at 0")
    assert W.isfinite().all() and W.std() > 0, f"W does not start at random: all its entries are {W.flatten()[0]:.3g}"
    assert not torch.allclose(W[0], W[1]), "starts every instance from the same W: draw each its own"
    assert not torch.allclose(W, second["W"]), "W starts the same in every ToyModel: do not fix a seed inside"
    assert W.unique().numel() > W.numel() / 2, "some entries of W start equal: draw each entry by itself"
    assert W.abs().max() < 20, f"W starts with an entry of size {W.abs().max():.3g}: keep it of the order of 1"


def test_answer_pair(answer_pair):
    """The ReLU removes the negative echo."""
    assert_choice(answer_pair, "a", "hidden is 0.8; what does the ReLU make of 0.8 and of -0.8?")


# --- 2. Data and loss

# equivalent mutant of find_disturbing_pairs, any: what finds enough on fresh cases is right
# equivalent mutant of generate_batch, drop device= of rand (2x): only a GPU can tell
# equivalent mutant of generate_batch, Lt -> LtE: the two differ with probability 0


def close_to(actual, expected, error, message):
    """`actual` is within six standard errors of `expected`, and a little: a uniform number may be exactly 0."""
    actual = float(actual)
    assert abs(actual - expected) <= 6 * error + 1e-3, f"{message}: expected about {expected:.3g}, got {actual:.3g}"


def check_values(x, low, message="values that are on are not uniform", who="everything is 0: no feature"):
    """What is not 0 is uniform in [low, 1]."""
    on = x[x != 0].double()
    assert len(on) > 1, f"{who} is ever on"
    assert on.min() >= low and on.max() <= 1, f"{message}: they go from {on.min():.3g} to {on.max():.3g}"
    assert on.unique().numel() > 0.9 * len(on), f"{message}: the same values come again and again"
    spread, count = 1 - low, math.sqrt(len(on))
    close_to(on.mean(), (1 + low) / 2, spread * 0.289 / count, f"{message} in [{low}, 1]: their mean")
    close_to(on.std(), spread / math.sqrt(12), 0.13 * spread * 1.5 / count, f"{message} in [{low}, 1]: their deviation")
    below = (on < low + spread / 4).double().mean()
    close_to(below, 0.25, 0.433 / count, f"{message} in [{low}, 1]: the share of the lowest quarter")


def check_unrelated(a, b, message):
    """Two columns of samples [batch] are independent: being on, sizes, and sizes and values while both are on."""
    both = (a != 0) & (b != 0)
    pairs = [("being on", (a != 0).double(), (b != 0).double()), ("their sizes", a.double().abs(), b.double().abs())]
    if both.sum() > 300:
        pairs += [("their values", a[both].double(), b[both].double())]
        pairs += [("the sizes of their values", a[both].double().abs(), b[both].double().abs())]
    for kind, u, v in pairs:
        if u.std() > 0 and v.std() > 0:
            r = torch.corrcoef(torch.stack([u, v]))[0, 1]
            close_to(r, 0, 1 / math.sqrt(len(u)), f"{message} ({kind})")


def check_sampler(sampler, rng, low, size=4000):
    """Shape, share of what is on, values and independence of a sampler of independent features."""
    tiny = torch.tensor([[0.5, 0.5]])
    assert_tensor(sampler(tiny, 3), shape=(1, 3, 2), dtype=torch.float32)
    for density in (torch.tensor([[1.0, 0.0, 0.3], [0.1, 0.6, 0.9]]), rng.uniform(3, 2, low=0.2, high=0.8)):
        with unchanged(density):
            x = sampler(density, size)
        assert_tensor(x, shape=(len(density), size, density.shape[1]), dtype=torch.float32)
        for i, row in enumerate(density.tolist()):
            for f, p in enumerate(row):
                error = math.sqrt(p * (1 - p) / size)
                close_to((x[i, :, f] != 0).double().mean(), p, error, f"density[{i}, {f}] is {p:.2f}; the share on")
        check_values(x, low)
        for f in range(density.shape[1]):
            if density[:, f].sum() > 0.2:
                check_values(x[..., f], low, f"values of feature {f} are not uniform")
        check_unrelated(x[0, :, -1], x[-1, :, -1], "the instances are not independent")
        check_unrelated(x[0, :, 0], x[-1, :, 1], "the instances are not independent")
        check_unrelated(x[-1, :, 0], x[-1, :, 1], "the features are not independent")
        check_unrelated(x[-1, 1:, 1], x[-1, :-1, 1], "the samples are not independent")
    often = torch.tensor([[0.9, 1.0]])
    first, again = sampler(often, size), sampler(often, size)
    assert not torch.equal(first, again), "two calls give the same samples: draw anew in each, fix no seed inside"
    for f in range(2):
        check_unrelated(first[0, :, f], again[0, :, f], "two calls are not independent")
    counts = (sampler(torch.full((1, 200), 0.5), 10) != 0).sum(1)
    assert counts.min() < counts.max(), (
        f"of 10 samples each of 200 features is on in exactly {counts[0, 0]}: each sample decides for itself"
    )


def test_generate_batch(generate_batch, rng):
    """Shape, how often each feature is on, uniform values, and independence."""
    check_sampler(generate_batch, rng, low=0)


# equivalent mutant of importance_loss, drop USub: after the sum over features axis 1 is the last
# equivalent mutant of importance_loss, 1 -> -1: after the sum over features axis 1 is the last


def slow_loss(x, out, importance):
    """[instance], sample by sample."""
    losses = []
    for xs, outs, weights in zip(x.tolist(), out.tolist(), importance.tolist(), strict=True):
        rows = zip(xs, outs, strict=True)
        each = [sum(w * (a - b) ** 2 for a, b, w in zip(*row, weights, strict=True)) for row in rows]
        losses.append(sum(each) / len(each))
    return torch.tensor(losses, dtype=x.dtype)


def test_importance_loss(importance_loss, rng):
    """Importance times squared error, summed over features, the mean over samples; one number an instance."""
    # Three samples of two features: which of the two axes is averaged shows.
    cases = [(torch.tensor([[[1.0, 0.0]] * 3]), torch.tensor([[[0.5, 0.5]] * 3]), torch.tensor([[2.0, 1.0]]))]
    for i, batch, n in ((1, 1, 3), (2, 3, 4), (3, 3, 3), (2, 2, 2), (2, 5, 1)):
        cases.append((rng.normal(i, batch, n), rng.normal(i, batch, n), rng.uniform(i, n)))
    for x in awkward(rng, 2, 3, 4):
        cases.append((strided(x), x + rng.normal(2, 3, 4), strided(rng.integers(0, 3, 2, 4).float())))
        cases.append((x + rng.normal(2, 3, 4), x, rng.uniform(2, 4)))
    double = [rng.normal(*shape, dtype=torch.float64) for shape in ((2, 3, 4), (2, 3, 4), (2, 4))]
    cases.append((double[0], double[1], double[2].abs()))
    for x, out, importance in cases:
        with unchanged(x, out, importance):
            loss = importance_loss(x, out, importance)
        assert_precise(loss, slow_loss(x, out, importance), "not the importance-weighted loss of each instance")


def test_importance_loss__gradient(importance_loss, rng):
    """The gradient that reaches x, the model's output and the importance is the derivative."""
    x, out = (rng.normal(2, 3, 4, dtype=torch.float64) for _ in range(2))
    assert_gradient_values(importance_loss, x, out, rng.uniform(2, 4, low=0.5).double(), rng=rng)


def test_answer_linear(answer_linear):
    """Without the ReLU every echo stays in the output."""
    assert_choice(answer_linear, "c", "what did the ReLU do for the antipodal pair of section 1?")


# --- 4. Dimensionality

# equivalent mutant of feature_dimensionality, drop USub: WᵀW is symmetric, its rows and columns have the same sums
# equivalent mutant of feature_dimensionality, 1 -> 2: WᵀW is symmetric
# equivalent mutant of feature_dimensionality, 1 -> -1: WᵀW is symmetric


def turned(W, rng):
    """The same shape in a random rotation of its space, [... d_hidden feature]."""
    q, _ = torch.linalg.qr(rng.normal(W.shape[-2], W.shape[-2], dtype=W.dtype))
    return q @ W


def polygon(corners):
    angle = torch.arange(corners) * 2 * math.pi / corners
    return torch.stack([angle.cos(), angle.sin()])


def tetrahedron():
    return torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) / math.sqrt(3)


def beside(*shapes):
    """The shapes in dimensions of their own."""
    return torch.block_diag(*shapes)


def slow_dimensionality(W):
    """[feature], from the definition."""
    columns = list(W.double().T)
    out = []
    for own in columns:
        length = own.norm()
        crowd = sum(float(own @ other / length) ** 2 for other in columns) if length > 0 else 1.0
        out.append(float(length**2) / crowd)
    return torch.tensor(out, dtype=torch.float64)


def test_feature_dimensionality(feature_dimensionality, rng):
    """The definition on known shapes, random matrices, other lengths, several instances; 0 for an absent feature."""
    pair = torch.tensor([[[1.0, -1.0]]])
    cases = [pair, 0.5 * pair, 0.1 * pair, polygon(5)[None], 2 * turned(tetrahedron(), rng)[None]]
    cases += [rng.normal(i, m, n) for i, m, n in ((1, 2, 3), (3, 3, 3), (2, 4, 2), (2, 1, 5))]
    absent = rng.normal(2, 2, 4)
    absent[0, :, 1] = 0
    cases += [rng.normal(2, 3, 4, dtype=torch.float64), absent, strided(rng.normal(2, 3, 4)), *awkward(rng, 2, 3, 4)]
    for W in cases:
        expected = torch.stack([slow_dimensionality(one) for one in W]).to(W.dtype)
        with unchanged(W):
            D = assert_tensor(feature_dimensionality(W), shape=expected.shape)
        assert not D.isnan().any(), "NaN for a feature whose column of W is 0: its D is 0"
        assert_precise(D, expected, "not |W_i|² / Σ_j (Ŵ_i · W_j)²", loosen=2)


# --- 5. Geometry

# equivalent mutant of find_geometry, Eq -> LtE: no size is below 0
# equivalent mutant of find_geometry, Gt -> GtE (2x): no cosine is just 0.25, no singular value just 0.5
# equivalent mutant of find_geometry, Gt -> NotEq: counts are never below 0


def two_at(cosine):
    """Two unit directions in a plane."""
    return torch.tensor([[1.0, cosine], [0.0, math.sqrt(1 - cosine * cosine)]])


def shapes(rng):
    """(W, its groups), smallest first."""
    zeros = torch.zeros(2, 2)
    chain = polygon(12)[:, :4].clone()  # 0 and 3 are at right angles; links lead from one to the other
    weak, strong = 0.48 * torch.eye(2)[:, :1], 0.52 * torch.eye(2)[:, 1:]
    below, above = two_at(0.2), two_at(0.3)
    bent = two_at(math.cos(2.97))  # 170 degrees: nearly opposite
    neighbours = torch.eye(7) + 0.3 * (torch.ones(7, 7).triu(1).tril(1) + torch.ones(7, 7).tril(-1).triu(-1))
    long = torch.linalg.cholesky(neighbours).mT  # each is linked to its neighbours alone
    yield torch.tensor([[1.0, -1.0]]), [(2, 1)]
    yield torch.eye(2), [(1, 1), (1, 1)]
    yield zeros, []
    yield polygon(5), [(5, 2)]
    yield polygon(3), [(3, 2)]
    yield tetrahedron(), [(4, 3)]
    yield beside(torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0, -1.0]])), [(2, 1), (2, 1)]
    yield beside(torch.tensor([[1.0, -1.0]]), polygon(5), torch.ones(1, 1)), [(5, 2), (2, 1), (1, 1)]
    yield beside(polygon(3), tetrahedron()), [(4, 3), (3, 2)]
    yield beside(tetrahedron(), polygon(5)), [(5, 2), (4, 3)]
    yield chain, [(4, 2)]
    yield torch.cat([weak, strong], -1), [(1, 1)]
    yield 0.6 * torch.tensor([[1.0, -1.0]]), [(2, 1)]
    yield 3 * below, [(1, 1), (1, 1)]
    yield 0.7 * above, [(2, 2)]
    yield above * torch.tensor([1.0, -1.0]), [(2, 2)]
    yield two_at(-0.995), [(2, 1)]  # the smaller singular value is 0.07, where the next has 0.12
    yield bent, [(2, 1)]
    yield two_at(-0.78), [(2, 1)]  # 0.47
    yield two_at(-0.7), [(2, 2)]  # 0.55, less than half of the larger one
    yield torch.tensor([[0.5, -0.5]]), [(2, 1)]  # of length 0.5, and so represented
    yield 6 * bent, [(2, 1)]
    yield long, [(7, 7)]
    yield torch.cat([polygon(5), 0.1 * polygon(3)], -1), [(5, 2)]
    yield beside(torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0, -1.0]])).double(), [(2, 1), (2, 1)]


def assert_pairs(found, what):
    """A list of tuples of two plain whole numbers."""
    for pair in assert_plain(found, list):
        assert_plain(pair, tuple)
        assert len(pair) == 2, f"expected pairs {what}, got {pair}"
        for number in pair:
            assert_plain(number, int)


def test_find_geometry(find_geometry, rng):
    """Digons, triangles, pentagons, tetrahedra and chains, turned and shuffled; absent features are left out."""
    for W, expected in shapes(rng):
        W = strided(turned(W, rng)[:, rng.permutation(W.shape[1])])
        with unchanged(W):
            found = find_geometry(W)
        assert_pairs(found, "(features, dimensions)")
        assert sorted(found) == sorted(expected), f"the groups should be {expected}, yours are {found}"
        assert found == expected, f"largest first: {expected}, not {found}"


def test_answer_crossing(answer_crossing):
    """Two kinds of solution, side by side."""
    assert_choice(
        answer_crossing, "b", "water just below 0 °C may stay liquid for a while; where is that in the figure?"
    )


# --- 8. Correlated features

# equivalent mutant of correlated_features, drop device= of rand (2x): only a GPU can tell
# equivalent mutant of correlated_features, Lt -> LtE: the two differ with probability 0
# equivalent mutant of anticorrelated_features, drop device= of randint: only a GPU can tell
# equivalent mutant of anticorrelated_features, drop device= of arange: only a GPU can tell
# equivalent mutant of anticorrelated_features, drop USub: axis 2 of four is the last but one
# equivalent mutant of anticorrelated_features, 2 -> -2: axis 2 of four is the last but one


def samples_of_sets(sampler, rng, size=4000):
    """(x as [instance batch set feature], density, size of a set) for several shapes, the smallest first."""
    for density, members in (
        (torch.tensor([[0.5]]), 2),
        (torch.tensor([[0.3, 0.8], [0.6, 0.2]]), 2),
        (torch.tensor([[0.9, 0.4]]), 3),
        (torch.tensor([[1.0], [0.3]]), 2),
        (rng.uniform(2, 3, low=0.2, high=0.8), 1),
    ):
        with unchanged(density):
            x = sampler(density, members, size)
        assert_tensor(x, shape=(len(density), size, density.shape[1] * members), dtype=torch.float32)
        x = x.unflatten(-1, (density.shape[1], members))
        check_values(x, 0)
        first, last = x[0, :, 0, 0], x[-1, :, 0, 0]
        both = (first != 0) & (last != 0)
        if len(density) > 1:
            check_unrelated(first[both], last[both], "the instances are not independent")
        for f in range(members):
            check_values(x[..., f], 0, f"values of feature {f} of a set are not uniform", f"no feature {f} of a set")
        if density.shape[1] > 1:
            check_unrelated(x[0, :, 0, 0], x[0, :, 1, -1], "the sets are not independent")
        yield x, density, members


def check_sets(is_active, density):
    """How often each set is active, and that sets, instances and samples do not depend on each other."""
    size = is_active.shape[1]
    for i, row in enumerate(density.tolist()):
        for s, p in enumerate(row):
            error = math.sqrt(p * (1 - p) / size)
            close_to(is_active[i, :, s].double().mean(), p, error, f"density[{i}, {s}] is {p:.2f}; the share active")
    check_unrelated(is_active[0, 1:, 0], is_active[0, :-1, 0], "the samples are not independent")
    if density.shape[1] > 1:
        check_unrelated(is_active[0, :, 0], is_active[0, :, 1], "the sets are not independent")
    if len(density) > 1:
        check_unrelated(is_active[0, :, 0], is_active[1, :, 0], "the instances are not independent")


def test_correlated_features(correlated_features, rng):
    """All features of a set on or off together, as often as density says; each with a value of its own."""
    for x, density, members in samples_of_sets(correlated_features, rng):
        on = x != 0
        partly = (on.any(-1) & ~on.all(-1)).double().mean()
        assert partly < 1e-3, (
            f"in {partly:.0%} of cases some features of a set are on and others off (neighbours form a set)"
        )
        check_sets(on.any(-1), density)
        for other in range(1, members):
            active = x[0, :, 0][on[0, :, 0, 0]]
            check_unrelated(active[:, 0], active[:, other], "features of an active set need values of their own")


def test_anticorrelated_features(anticorrelated_features, rng):
    """One feature of an active set on, each equally often, as often as density says; never two."""
    for x, density, members in samples_of_sets(anticorrelated_features, rng):
        on = x != 0
        most = int(on.sum(-1).max())
        assert most <= 1, f"{most} features of a set are on at once (neighbours form a set)"
        check_sets(on.any(-1), density)
        for f in range(members):
            p = density[0, 0].item() / members
            share = on[0, :, 0, f].double().mean()
            close_to(share, p, math.sqrt(p * (1 - p) / x.shape[1]), f"feature {f} of {members} is on in a share of")
        if density.shape[1] > 1 and members > 1:
            check_choices(on[0, :, 0], on[0, :, 1], "sets choose their feature together")
        if members > 1:
            check_choices(on[0, 1:, 0], on[0, :-1, 0], "samples choose their feature together")
            check_choices(on[0, :, 0], on[-1, :, 0], "instances choose their feature together", len(density) > 1)


def check_choices(a, b, message, applies=True):
    """Where two sets [batch feature] are active, which feature is on in one says nothing about the other."""
    active = a.any(-1) & b.any(-1)
    if applies and active.sum() > 300:
        which = torch.stack([one.double().argmax(-1)[active] for one in (a, b)]).double()
        close_to(torch.corrcoef(which)[0, 1], 0, 1 / math.sqrt(which.shape[1]), message)


# --- 9 and 10. Phase diagram

# equivalent mutant of phase_change, drop USub (2x): axis 1 is the last
# equivalent mutant of phase_change, 1 -> -1 (2x): axis 1 is the last
# equivalent mutant of phase_change, 0 -> -1: there is one hidden dimension, first and last


def grid_losses(p, r, points=400):
    """The three candidates' losses from their outputs, averaged over a fine grid of values and the four cases."""
    values = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    zero = torch.zeros(1, dtype=torch.float64)
    mean = p / 2
    total = torch.zeros(3, dtype=torch.float64)
    for x0, weight0 in ((zero, 1 - p), (values, p)):
        for x1, weight1 in ((zero, 1 - p), (values, p)):
            a, b = x0[:, None].expand(-1, len(x1)), x1.expand(len(x0), -1)
            outs = [(a, mean + 0 * b), (mean + 0 * a, b), ((a - b).clamp(min=0), (b - a).clamp(min=0))]
            errors = [((a - out0) ** 2 + r * (b - out1) ** 2).mean() for out0, out1 in outs]
            total += weight0 * weight1 * torch.stack(errors)
    return total


def test_candidate_losses(candidate_losses, rng):
    """Each loss equals an average over a fine grid of inputs; any shape of p and r."""
    for shape in ((), (1,), (3,), (2, 2)):
        count = math.prod(shape)
        p, r = rng.uniform(count, low=0.05).reshape(shape), rng.uniform(count, low=0.1, high=4).reshape(shape)
        if count > 1:
            p.view(-1)[0], r.view(-1)[1], p.view(-1)[1] = 1.0, 1.0, 0.0  # always on, equal importance, never on
            p, r = p.double(), strided(r.double())
        with unchanged(p, r):
            losses = assert_tensor(candidate_losses(p, r), shape=(*shape, 3), dtype=p.dtype)
        pairs = zip(p.flatten().tolist(), r.flatten().tolist(), losses.reshape(-1, 3), strict=True)
        for one_p, one_r, row in pairs:
            expected = grid_losses(one_p, one_r)
            for number, name in enumerate(("ignored", "dedicated", "superposed")):
                message = f"the loss of {name} at p = {one_p:.3f}, r = {one_r:.3f}"
                assert_close(row[number], expected[number].float(), message, rtol=1e-3, atol=1e-5)


def test_phase_change(phase_change, rng):
    """What |W| says of feature 1, with either sign, and the cheapest candidate by theory."""
    clear = [(0.9, 0.2, 0), (0.9, 5.0, 1), (0.05, 1.0, 2)]  # p, r, the cheapest: far from any border, then nearer
    clear += [(0.3, 0.1, 0), (0.7, 1.1, 1), (0.54, 1.0, 2), (0.2, 0.9, 2), (0.95, 0.95, 0)]
    weights = {0: [(1.0, 0.1), (-1.0, 0.45), (0.2, 0.2), (0.0, 0.0)], 1: [(0.1, 1.0), (0.45, -1.0), (0.0, 0.5)]}
    weights[2] = [(1.0, -1.0), (0.5, 0.5), (-0.55, 0.55), (0.9, -0.7), (1.0, 1.0), (-0.6, -0.9), (0.8, 0.8)]
    rows = [(W, (p, r), now, theory) for now, kind in weights.items() for W in kind for p, r, theory in clear]
    for chosen in ([rows[0]], [rows[-1]], [rows[i] for i in rng.permutation(len(rows)).tolist()]):
        W = torch.tensor([[W] for W, *_ in chosen])
        p, r = torch.tensor([at for _, at, *_ in chosen]).unbind(-1)
        found, expected = answers(phase_change, W, p, r)
        for name, got, right in zip(
            ("found", "expected"), (found, expected), zip(*[row[2:] for row in chosen], strict=True), strict=True
        ):
            assert_close(got, torch.tensor(right), f"{name} (0 ignored, 1 dedicated, 2 superposed) is wrong")


def test_phase_change__tie(phase_change):
    """Where ignored and dedicated cost the same, either is right, superposed is not."""
    p, W = torch.tensor([0.7, 0.9, 1.0]), torch.tensor([[[1.0, 0.0]]]).repeat(3, 1, 1)
    _, expected = answers(phase_change, W, p, torch.ones(3))
    assert (expected < 2).all() and (expected >= 0).all(), (
        "at p = 0.7, 0.9 and 1, r = 1, superposed costs the most, and the others the same; "
        f"you expect {expected.tolist()}"
    )


def answers(phase_change, W, p, r):
    with unchanged(W, p, r):
        answer = phase_change(W, p, r)
    assert isinstance(answer, tuple | list) and len(answer) == 2, "expected two tensors: found and expected"
    for name, got in zip(("found", "expected"), answer, strict=True):
        assert_tensor(got, shape=(len(W),))
        whole = not (got.is_floating_point() or got.dtype == torch.bool)
        assert whole, f"{name} holds whole numbers, as torch.long; yours are {str(got.dtype).removeprefix('torch.')}"
    return answer


# --- 11. Attack


def test_adversarial_interference(adversarial_interference, rng):
    """Each attack has the length asked for and follows the gradient of its output; absent features get none."""
    absent = rng.normal(2, 2, 3)
    absent[1, :, 2] = 0
    # Not the antipodal pair first: there several slips look alike.
    cases = [(torch.tensor([[[1.0, -0.5, 0.2], [0.0, 0.6, 1.0]]]), 0.5), (torch.tensor([[[1.0, -1.0]]]), 1.0)]
    cases += [
        (rng.normal(1, 2, 3), 0.1),
        (rng.normal(3, 4, 5), 2.0),
        (strided(rng.normal(2, 3, 3)), 0.5),
        (rng.normal(2, 1, 4, dtype=torch.float64), 0.1),
        (0.1 * polygon(5)[None], 1.0),
        (absent, 0.3),
        *((W, 0.2) for W in awkward(rng, 2, 3, 4)),
    ]
    for W, length in cases:
        with unchanged(W):
            attack = assert_tensor(adversarial_interference(W, length), shape=(W.shape[0], W.shape[2], W.shape[2]))
        assert not attack.isnan().any(), "NaN for a target whose column of W is 0: its attack is all 0"
        for i, one in enumerate(W.double()):
            for target in range(W.shape[2]):
                x = torch.zeros(W.shape[2], dtype=torch.float64, requires_grad=True)
                (one.T @ (one @ x))[target].backward()
                expected = length * x.grad / x.grad.norm().clamp(min=1e-12)
                message = f"not the best attack of length {length} on feature {target}"
                assert_precise(attack[i, target], expected.to(W.dtype), message, loosen=2)


# --- 12. Computing

# equivalent mutant of signed_batch, swap arguments 1 and 2 of where: either sign has probability 1/2
# equivalent mutant of signed_batch, Lt -> LtE: the two differ with probability 0
# equivalent mutant of signed_batch, Lt -> Gt: either sign has probability 1/2
# equivalent mutant of signed_batch, Lt -> GtE: either sign has probability 1/2


def test_signed_batch(signed_batch, rng):
    """Shape, how often each feature is on, values uniform in [-1, 1], and independence."""
    check_sampler(signed_batch, rng, low=-1)
    x = signed_batch(torch.ones(2, 2), 4000)
    one = x[0, :, 0]
    for a, b, what in ((one, x[0, :, 1], "features"), (one, x[1, :, 0], "instances"), (one[1:], one[:-1], "samples")):
        for kind, u, v in (("signs", a.sign(), b.sign()), ("signs and sizes", a.sign(), b.abs())):
            r = torch.corrcoef(torch.stack([u, v]))[0, 1]
            close_to(r, 0, 1 / math.sqrt(len(u)), f"the {kind} of {what} are not independent")


def test_AbsoluteModel(AbsoluteModel, rng):
    """ReLU of W_in x, then W_out, b and a ReLU, for several sizes; every instance by its own weights."""
    check_model(AbsoluteModel, absolute_shapes, absolute_out, rng)


# --- Open task: models of known truth

# equivalent mutant of find_disturbing_pairs, 5 -> 4: the null may be beaten by a little less


@dataclass
class Block:
    """Features in dimensions of their own: encoder [dim feature], decoder [feature dim], what disturbs what."""

    encoder: torch.Tensor
    decoder: torch.Tensor | None = None  # as the encoder, transposed
    bias: tuple[float, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    decoy: str = ""  # why features 0 and 1 do not disturb each other

    @property
    def count(self):
        return self.encoder.shape[1]


def blocks(rng):
    """What a model stores."""
    digon, close = torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0, 0.8], [0.0, 0.6]])
    acute = torch.tensor([[1.0, 0.4], [0.0, math.sqrt(0.84)]])
    one_way = torch.tensor([[1.0, 0.6], [0.0, 0.8]]), torch.tensor([[1.0, 0.0], [0.0, 1.25]])
    first = ((0, 1),)
    for _ in range(rng.integer(1, 3)):
        yield Block(digon, pairs=first)
    yield Block(polygon(5), pairs=tuple((i, j) for j in range(5) for i in range(j)))
    for _ in range(2):
        yield Block(*one_way, pairs=first)
    yield Block(acute, bias=(-0.45, -0.45), pairs=first)  # the bias takes off the echo of one alone
    apart = "{0} and {1} lie close in %s, yet with both on each output is what it is alone"
    yield Block(close, close.inverse(), decoy=apart % "W_in")
    yield Block(close.inverse().mT, close.mT, decoy=apart % "W_out")
    yield Block(digon, bias=(-3.0, 0.0), decoy="output {0} is always 0, so feature {0} is not given back")
    unread = torch.tensor([[1.0, 0.9]]), torch.tensor([[1.0], [0.0]])
    yield Block(*unread, bias=(0.0, 0.3), decoy="output {1} does not depend on feature {1}")
    yield Block(torch.eye(rng.integer(1, 4)))


def stranger(rng, noise):
    """(W_in, W_out, b, kinds of disturbing pairs, {decoy: why}) of a model of known truth, in a basis of its own.

    Axes have lengths from 0.05 to 20; on one axis W_in writes every feature, and W_out reads nothing.
    """
    parts = list(blocks(rng))
    count = sum(part.count for part in parts)
    encoder = torch.block_diag(*(part.encoder for part in parts)).double()
    decoder = torch.block_diag(*(part.encoder.mT if part.decoder is None else part.decoder for part in parts)).double()
    bias = torch.tensor([x for part in parts for x in part.bias or [0.0] * part.count])
    encoder, decoder = (x + noise * rng.normal(*x.shape, dtype=torch.float64) for x in (encoder, decoder))
    encoder = torch.cat([encoder, torch.full((1, count), 1.5)])  # written, and not read
    decoder = torch.cat([decoder, torch.zeros(count, 1)], dim=1)
    dims = len(encoder)
    lengths = 20 ** rng.uniform(dims, low=-1).double()
    basis = torch.linalg.qr(rng.normal(dims, dims, dtype=torch.float64)).Q * lengths
    place = rng.permutation(count)  # feature f of the blocks is feature place[f] of the model
    order, kinds, decoys, start = place.argsort(), {}, {}, 0
    for part in parts:
        for pair in part.pairs + (((0, 1),) if part.decoy else ()):
            moved = tuple(int(place[f + start]) for f in pair)
            if part.decoy:
                decoys[tuple(sorted(moved))] = part.decoy.format(*moved)
            else:
                kind = round(float((decoder @ encoder)[pair[0] + start, pair[1] + start]), 1)
                kinds.setdefault(kind, []).append(tuple(sorted(moved)))
        start += part.count
    W_in, W_out = (basis @ encoder)[:, order], (decoder @ basis.inverse())[order]
    return W_in.float(), W_out.float(), bias[order], kinds, decoys


def together(W_in, W_out, b, i, j):
    """What outputs i and j are, alone and with both on, in words."""
    one = torch.eye(len(b))
    out = [(x @ W_in.mT @ W_out.mT + b).relu() for x in (one[i], one[j], one[i] + one[j])]
    return (
        f"output {i} is {out[0][i]:.2f} with {i} on alone and {out[2][i]:.2f} with both on, "
        f"output {j} {out[1][j]:.2f} and {out[2][j]:.2f}"
    )


def test_find_disturbing_pairs(find_disturbing_pairs, rng):
    """Nine pairs of ten of each kind are found in models that nobody has seen; decoys and chance are left alone."""
    right, missed, taken, extra, offered = Counter(), {}, [], [], 0
    for noise in (0.002, 0.004, 0.008, 0.012, 0.003, 0.01):
        W_in, W_out, b, kinds, decoys = stranger(rng, noise)
        with unchanged(W_in, W_out, b):
            found = find_disturbing_pairs(W_in, W_out, b)
        assert_pairs(found, "(i, j)")
        ordered = all(0 <= i < j < len(b) for i, j in found) and len(set(found)) == len(found)
        assert ordered, f"expected each pair once, as (i, j) with i < j, both features; got {found}"
        for kind, pairs in kinds.items():
            right[kind] += sum(pair in found for pair in pairs)
            lost = [(pair, together(W_in, W_out, b, *pair)) for pair in pairs if pair not in found]
            missed.setdefault(kind, []).extend(lost)
        taken += [(pair, decoys[pair]) for pair in found if pair in decoys]
        known = {*decoys, *(pair for pairs in kinds.values() for pair in pairs)}
        extra += [(pair, together(W_in, W_out, b, *pair)) for pair in found if pair not in known]
        offered += len(decoys)
    assert len(taken) <= 0.1 * offered, f"you take {len(taken)} decoys of {offered}, such as {say(taken)}"
    for kind, lost in missed.items():
        most = right[kind] + len(lost)
        assert len(lost) <= 0.1 * most, f"of one kind of pairs you miss {len(lost)} of {most}, such as {say(lost)}"
    assert len(extra) <= 0.1 * right.total(), f"{len(extra)} of your pairs are chance overlaps, such as {say(extra)}"


def say(cases):
    (i, j), why = cases[0]
    return f"({i}, {j}): {why}"
