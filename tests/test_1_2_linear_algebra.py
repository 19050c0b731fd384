"""Checks of 1.2 Linear algebra. The smallest case comes first: it is the one that a learner is shown."""

import math

import torch

from concrete_steps.checking.testing import (
    assert_choice,
    assert_close,
    assert_draws_from,
    assert_gradient_values,
    assert_plain,
    assert_tensor,
    awkward,
    nothing_left_behind,
    refuse_large,
    shapes_with_ones,
    strided,
    unchanged,
)

F32, F64 = torch.float32, torch.float64
# Changes that make no wrong answer; scripts/mutate.py counts them apart:
# equivalent mutant of gram_schmidt, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of cosine_matrix, drop USub: the last axis of two is axis 1
# equivalent mutant of cosine_matrix, 1 -> -1 (2x): the last axis of two is axis 1; and 0 divided by -1 is 0
# equivalent mutant of cosine_matrix, Eq -> LtE: no length is below 0
# equivalent mutant of cosine_matrix, 1 -> 2: a row of zeros divided by 2 is a row of zeros
# equivalent mutant of privileged_basis_test, 1 -> -1 (4x): the last axis of two is axis 1
# equivalent mutant of privileged_basis_test, drop USub (2x): the last axis of two is axis 1
# equivalent mutant of privileged_basis_test, rows -> x: a rotation keeps each row's mean square
# equivalent mutant of low_rank, drop full_matrices= of svd: the rows and columns beyond are never used
# equivalent mutant of low_rank, False -> True: the rows and columns beyond are never used
# equivalent mutant of pca, drop full_matrices= of svd: the rows beyond are never used
# equivalent mutant of pca, False -> True: the rows beyond are never used
# equivalent mutant of least_squares_direction, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of least_squares_direction, 0 -> -1: the solution has one column
# equivalent mutant of eigenvalue_copying_score, Gt -> NotEq: a sum of sizes is not below 0
# equivalent mutant of eigenvalue_copying_score, 0.0 -> -0.0: they are equal
# equivalent mutant of gram_schmidt, 2 -> 3: a third time changes nothing
# equivalent mutant of gram_schmidt, 2 -> 1: a second time matters only for vectors that are nearly dependent


def answer_to(function, *inputs):
    """What the function gives for the inputs, which stay as they are; as do PyTorch's modes and random numbers."""
    with nothing_left_behind(), unchanged(*inputs):
        return function(*inputs)


def tolerance(dtype, scale=1.0):
    """What rounding allows for numbers of this size."""
    return {"rtol": 1e-3 if dtype == F32 else 1e-9, "atol": (2e-4 if dtype == F32 else 1e-10) * scale}


def same_dtype(actual, x):
    assert actual.dtype == x.dtype, f"the inputs are {x.dtype}, the result is {actual.dtype}: keep their dtype"


# --- 1. A direction


def dot(a, b):
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def projected(x, direction):
    """One vector's projection, by hand."""
    size = dot(x, direction) / dot(direction, direction)
    return torch.tensor([size * value for value in direction.tolist()], dtype=x.dtype)


def test_project(project, rng):
    """The part along the direction, for directions of any length and any axes before."""
    cases = [(torch.tensor([[3.0, 4.0]]), torch.tensor([2.0, 0.0]))]
    for dtype in (F32, F64):
        cases += [
            (rng.normal(*shape, 4, dtype=dtype), 3 * rng.normal(4, dtype=dtype)) for shape in ((1,), (3,), (2, 3))
        ]
        cases += [(x, rng.normal(5, dtype=dtype) + 1) for x in awkward(rng, 3, 5, dtype=dtype)]
    cases += [(strided(rng.normal(3, 4)), strided(rng.normal(4)) / 100), (rng.normal(1, 1), rng.normal(1))]
    cases += [(rng.normal(4), rng.normal(4)), (rng.normal(2, 1, 2, 3), 5 * rng.normal(3))]
    for x, direction in cases:
        actual = assert_tensor(answer_to(project, x, direction), shape=x.shape)
        expected = torch.stack([projected(row, direction) for row in x.reshape(-1, x.shape[-1])]).view(x.shape)
        message = f"not the part of x along the direction, whose length is {direction.norm():.3g}"
        assert_close(actual, expected, message, **tolerance(x.dtype, float(x.abs().max())))
        same_dtype(actual, x)


def test_project__gradient(project, rng):
    """Gradients reach x and the direction, and are the derivative"""
    assert_gradient_values(project, rng.normal(3, 4, dtype=F64), rng.normal(4, dtype=F64), rng=rng)


def dependent(rng, dtype):
    """Vectors of which some lie in the span of those before."""
    a, b = rng.normal(2, 6, dtype=dtype)
    return torch.stack([a, 2 * a, b, a - 3 * b, rng.normal(6, dtype=dtype)]), [0, 2, 4]


def test_gram_schmidt(gram_schmidt, rng):
    """Orthonormal rows with the span of the vectors, in their order; dependent ones left out."""
    cases = [(torch.tensor([[3.0, 0.0], [1.0, 2.0]]), [0, 1]), (torch.tensor([[1.0, 0.0], [2.0, 0.0]]), [0])]
    for dtype in (F32, F64):
        cases += [(rng.normal(n, d, dtype=dtype), list(range(n))) for n, d in ((1, 1), (1, 4), (3, 3), (3, 7))]
        cases += [dependent(rng, dtype), (1e-3 * rng.normal(3, 5, dtype=dtype), [0, 1, 2])]
        cases += [(rng.normal(5, 3, dtype=dtype), [0, 1, 2]), (1e4 * rng.normal(2, 5, dtype=dtype), [0, 1])]
        # What is left counts beside the vector's own length, however short it is and however long the others are.
        cases += [(1e-7 * dependent(rng, dtype)[0], [0, 2, 4]), (1e7 * dependent(rng, dtype)[0], [0, 2, 4])]
        cases += [(torch.tensor([[1e4], [1e-4], [1e4]], dtype=dtype) * rng.normal(3, 4, dtype=dtype), [0, 1, 2])]
    cases += [(strided(rng.normal(3, 5)), [0, 1, 2]), (torch.zeros(2, 3), [])]
    cases += [(torch.cat([torch.zeros(1, 4), rng.normal(2, 4)]), [1, 2])]
    for vectors, kept in cases:
        basis = assert_tensor(answer_to(gram_schmidt, vectors))
        said = f"{len(vectors)} vectors, of which {len(kept)} are independent"
        assert tuple(basis.shape) == (len(kept), vectors.shape[1]), (
            f"{said}: expected shape {[len(kept), vectors.shape[1]]}, got {list(basis.shape)}"
        )
        products = basis @ basis.T
        assert_close(products.diagonal(), torch.ones(len(kept)), "a row is not of length 1", **tolerance(basis.dtype))
        assert_close(products, torch.eye(len(kept)), "two rows are not at right angles", **tolerance(basis.dtype))
        for i, at in enumerate(kept):
            vector = vectors[at]
            inside = (basis[: i + 1] @ vector) @ basis[: i + 1]
            assert_close(
                inside,
                vector,
                f"vector {at} is not in the span of the first {i + 1} rows: is the order kept?",
                **tolerance(vector.dtype, float(vector.abs().max())),
            )
            assert basis[i] @ vector > 0, f"row {i} points away from vector {at}: it is what that vector adds"
        same_dtype(basis, vectors)


def test_gram_schmidt__nearly_dependent(gram_schmidt, rng):
    """Rows are at right angles also where the vectors nearly lie on each other"""
    for dtype, apart, size in ((F64, 1e-4, 1), (F32, 1e-3, 1), (F64, 1e-4, 1e6), (F64, 1e-4, 1e-6)):
        first = rng.normal(1, 8, dtype=dtype)
        basis = answer_to(gram_schmidt, size * (first + apart * rng.normal(3, 8, dtype=dtype)))
        assert len(basis) == 3, f"three independent vectors, {apart} apart, gave {len(basis)} rows"
        limit = 1e-2 if dtype == F32 else 1e-6
        off = (basis @ basis.T - torch.eye(3, dtype=dtype)).abs().max()
        assert off < limit, f"for vectors {apart} apart two rows have a product of {off:.2g}: not at right angles"


def test_ablate_direction(ablate_direction, rng):
    """Nothing along any of the directions is left, and nothing else is changed."""
    cases = [(torch.tensor([[3.0, 4.0, 5.0]]), torch.tensor([[2.0, 0.0, 0.0]]))]
    cases += [(torch.tensor([[3.0, 4.0, 5.0]]), torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]))]
    for dtype in (F32, F64):
        cases += [
            (rng.normal(*s, 6, dtype=dtype), 2 * rng.normal(n, 6, dtype=dtype)) for s, n in (((2,), 1), ((2, 3), 3))
        ]
        cases += [(rng.normal(4, 6, dtype=dtype), dependent(rng, dtype)[0])]
    cases += [(strided(rng.normal(3, 6)), strided(rng.normal(2, 6))), (rng.normal(6), rng.normal(1, 6))]
    cases += [(rng.normal(1, 1), rng.normal(1, 1))]
    for x, directions in cases:
        actual = assert_tensor(answer_to(ablate_direction, x, directions), shape=x.shape)
        span = torch.linalg.svd(directions.double(), full_matrices=False)
        basis = span.Vh[1e-5 * span.S[0] < span.S]
        left = (actual.double() @ directions.double().T).abs().max()
        assert left < (1e-3 if x.dtype == F32 else 1e-8), (
            f"along one of the {len(directions)} directions {left:.3g} is left: remove their span, not one by one"
        )
        expected = x.double() - (x.double() @ basis.T) @ basis
        assert_close(actual, expected, "more than the directions was removed", **tolerance(x.dtype))
        same_dtype(actual, x)


# --- 2. Angles


def test_cosine_matrix(cosine_matrix, rng):
    """Every cosine by hand, 0 for zero rows, for rows of any length."""
    cases = [(torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 2.0]]))]
    for dtype in (F32, F64):
        cases += [
            (rng.normal(n, d, dtype=dtype), rng.normal(m, d, dtype=dtype)) for n, m, d in shapes_with_ones(3, 4, 5)
        ]
        cases += [(1e-4 * rng.normal(2, 5, dtype=dtype), 1e4 * rng.normal(3, 5, dtype=dtype))]
    cases += [(strided(rng.normal(3, 4)), strided(rng.normal(2, 4))), (rng.normal(2, 3), torch.zeros(2, 3))]
    cases += [(torch.cat([torch.zeros(1, 3), rng.normal(2, 3)]), rng.normal(2, 3))]
    for a, b in cases:
        actual = assert_tensor(answer_to(cosine_matrix, a, b), shape=(len(a), len(b)))
        expected = torch.zeros(len(a), len(b), dtype=a.dtype)
        for i, row in enumerate(a):
            for j, other in enumerate(b):
                size = math.sqrt(dot(row, row)) * math.sqrt(dot(other, other))
                expected[i, j] = dot(row, other) / size if size > 0 else 0
        assert not actual.isnan().any(), "nan where a row is zero: its cosine is 0"
        assert_close(
            actual, expected, "entry [i, j] is not the cosine of row i of a and row j of b", **tolerance(a.dtype)
        )
        same_dtype(actual, a)


def generator_from(rng):
    return torch.Generator().manual_seed(rng.integer(0, 2**31))


def test_interference_of_random_directions(interference_of_random_directions, rng):
    """Of the size that theory gives, for several n and d, over pairs of different directions."""
    for n, d in ((40, 20), (200, 100), (300, 10), (2, 400)):
        with nothing_left_behind():
            out = interference_of_random_directions(n, d, generator_from(rng))
        assert isinstance(out, tuple) and len(out) == 2, "two numbers are promised: root mean square and largest"
        mean, largest = (float(assert_plain(value, float)) for value in out)
        pairs = n * (n - 1) / 2
        assert not math.isnan(mean + largest), f"n={n}, d={d}: nan; {pairs:.0f} pairs have a root mean square"
        assert largest <= 1 + 1e-5, f"n={n}, d={d}: the largest |cosine| is {largest:.3g}; none is above 1"
        assert mean <= largest + 1e-6, f"n={n}, d={d}: root mean square {mean:.3g} above the largest, {largest:.3g}"
        if pairs > 10:
            slack = 6 / math.sqrt(2 * pairs)  # six standard errors of a root mean square
            expected = 1 / math.sqrt(d)
            assert abs(mean / expected - 1) < slack + 2 / math.sqrt(pairs), (
                f"n={n}, d={d}: root mean square {mean:.4f}, not near 1/sqrt(d) = {expected:.4f}"
                + (
                    ": do cosines of directions with themselves count, or do all directions point one way?"
                    if mean > expected
                    else ""
                )
            )
        assert largest < 0.9 if n > 2 and d >= 20 else True, (
            f"n={n}, d={d}: the largest is {largest:.3f}; so high is only a direction with itself"
        )


def test_interference_of_random_directions__drawn_anew(interference_of_random_directions, rng):
    """The generator decides, directions go to all sides, and the largest is of either sign"""
    seed = rng.integer(0, 2**31)
    same = [interference_of_random_directions(20, 10, torch.Generator().manual_seed(seed)) for _ in range(2)]
    assert same[0] == same[1], "the same generator state gives other numbers: draw from the generator"
    other = interference_of_random_directions(20, 10, torch.Generator().manual_seed(seed + 1))
    assert other != same[0], "two seeds give the same numbers: draw from the generator"
    assert_draws_from(lambda generator: interference_of_random_directions(5, 3, generator))
    # Two directions: one cosine, so root mean square and largest are both its absolute value.
    both = [interference_of_random_directions(2, 3, generator_from(rng)) for _ in range(200)]
    for mean, largest in both:
        assert_close(mean, torch.tensor(largest), "of one pair, root mean square and largest are both its |cosine|")
    mean_square = sum(largest**2 for _, largest in both) / 200
    evenly = "evenly spread directions are normal numbers divided by their length"
    assert abs(mean_square - 1 / 3) < 0.13, (
        f"200 pairs in 3 dimensions have mean squared cosine {mean_square:.2f}, not near 1/3: {evenly}"
    )
    # In 3 dimensions |cosine| is uniform on [0, 1] (Archimedes).
    off = max(abs((i + 0.5) / 200 - value) for i, value in enumerate(sorted(largest for _, largest in both)))
    assert off < 0.2, f"|cosines| of pairs in 3 dimensions lie between 0 and 1 evenly; yours do not: {evenly}"


def test_interference_of_random_directions__all_pairs(interference_of_random_directions, rng):
    """The largest is that of all pairs, not of some"""
    ours = torch.nn.functional.normalize(rng.normal(400, 12, 6), dim=-1)
    expected = (ours @ ours.mT)[:, *torch.triu_indices(12, 12, 1)].abs().amax(-1)
    found = torch.tensor([interference_of_random_directions(12, 6, generator_from(rng))[1] for _ in range(60)])
    gap = abs(found.mean() - expected.mean())
    assert gap < 6 * expected.std() * math.sqrt(1 / 60 + 1 / 400), (
        f"12 directions in 6 dimensions make 66 pairs, whose largest |cosine| is {expected.mean():.3f} on average; "
        f"yours {found.mean():.3f}: are all pairs among yours, and each direction drawn once?"
    )


# --- 3. Bases


def test_change_of_basis(change_of_basis, rng):
    """Coordinates that give x back, for bases at any angles and of any lengths."""
    cases = [(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [1.0, 2.0]]))]
    for dtype in (F32, F64):
        cases += [
            (rng.normal(n, d, dtype=dtype), rng.normal(d, d, dtype=dtype) + 3 * torch.eye(d, dtype=dtype))
            for n, d in ((1, 1), (1, 3), (4, 3), (2, 6))
        ]
    cases += [(strided(rng.normal(3, 4)), strided(rng.normal(4, 4) + 3 * torch.eye(4)))]
    cases += [(rng.normal(3, 4), torch.linalg.qr(rng.normal(4, 4)).Q), (rng.normal(2, 3), 5 * torch.eye(3))]
    for x, basis in cases:
        actual = assert_tensor(answer_to(change_of_basis, x, basis), shape=x.shape)
        size = float(x.abs().max())
        assert_close(
            actual @ basis, x, "coordinates times the basis rows do not give x back", **tolerance(x.dtype, 10 * size)
        )
        same_dtype(actual, x)


SHAPES = {"W_E": (7, 6), "W_pos": (5, 6), "W_Q": (2, 3, 6, 4), "W_K": (2, 3, 6, 4), "W_V": (2, 3, 6, 4)}
SHAPES |= {"W_O": (2, 3, 4, 6), "W_U": (6, 8)}


def test_rotate_stream(rotate_stream, rng):
    """Every writer turned, every reader turned back: all that reaches a reader is as before."""
    for dtype in (F32, F64):
        weights = {name: rng.normal(*shape, dtype=dtype) for name, shape in SHAPES.items()}
        rotation = torch.linalg.qr(rng.normal(6, 6, dtype=dtype)).Q
        turned = answer_to(rotate_stream, weights, rotation)
        assert isinstance(turned, dict), f"a dict of weights is promised, this is a {type(turned).__name__}"
        assert set(turned) == set(weights), f"the names should be {sorted(weights)}, they are {sorted(turned)}"
        for name, before in weights.items():
            assert_tensor(turned[name], shape=before.shape)
            same_dtype(turned[name], before)
        for name in ("W_E", "W_pos", "W_O"):
            message = f"{name} writes to the stream: its rows should be turned as the stream is"
            assert_close(turned[name], weights[name] @ rotation, message, **tolerance(dtype, 10))
        for name in ("W_Q", "W_K", "W_V", "W_U"):
            message = f"{name} reads the turned stream: the turn should be undone before it reads"
            assert_close(rotation @ turned[name], weights[name], message, **tolerance(dtype, 10))


def heavy(rng, n, d):
    """Rows with one loud axis."""
    return rng.normal(n, d) * torch.where(torch.arange(d) == d // 2, 8.0, 1.0)


def kurtosis_of(x):
    """Mean over rows, by hand."""
    each = [(sum(v**4 for v in row) / len(row)) / (sum(v**2 for v in row) / len(row)) ** 2 for row in x.tolist()]
    return sum(each) / len(each)


def test_privileged_basis_test(privileged_basis_test, rng):
    """The kurtosis over axes as it is, and after rotations that change no length."""
    for x in (torch.tensor([[1.0, 2.0, 0.0, -4.0]]), rng.normal(3, 5), heavy(rng, 4, 30), 5 + rng.normal(3, 8)):
        with unchanged(x), nothing_left_behind():
            out = privileged_basis_test(x, 3, generator_from(rng))
        assert isinstance(out, tuple) and len(out) == 2, "two things are promised: a number, and a list of numbers"
        own, rotated = out
        assert isinstance(rotated, list), f"the second should be a list, it is a {type(rotated).__name__}"
        assert len(rotated) == 3, f"3 rotations were asked for, the list has {len(rotated)} numbers"
        assert_plain(own, float)
        message = "the first number is not the mean over rows of mean(x^4) / mean(x^2)^2 over the axes of a row"
        assert_close(float(own), torch.tensor(kurtosis_of(x.double())), message, rtol=1e-4)
        assert len({round(float(value), 9) for value in rotated}) == 3, (
            "rotations give the same number: draw each anew, and mix the axes of each row"
        )
    _, rotated = privileged_basis_test(torch.ones(1, 40), 20, generator_from(rng))
    mean = sum(rotated) / 20  # over all rotations 3 d / (d + 2)
    assert abs(mean - 120 / 42) < 1.3, (
        f"a row of 40 ones: the mean kurtosis over 20 rotations is {mean:.2f}, over all rotations 2.86: "
        "an even draw needs normal numbers before the QR"
    )
    x = heavy(rng, 20, 60)
    _, rotated = privileged_basis_test(x, 20, generator_from(rng))
    for value in rotated:
        assert_plain(value, float)
    mean = sum(rotated) / 20  # a single one can lie far off: all rows share the loud axis
    assert 2.4 < mean < 3.6, (
        f"one loud axis of 60: after random rotations the kurtosis should be near 3, it is {mean:.2f} on average"
    )


def test_privileged_basis_test__rotations(privileged_basis_test, rng):
    """Rotations, drawn evenly from the generator: they keep every length and angle"""
    # In two dimensions, the kurtosis of (1, 0) and of (1, 1), half a right angle apart, have mean 1.5 at every turn.
    pair = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    _, rotated = privileged_basis_test(pair, 10, generator_from(rng))
    off = max(abs(value - 1.5) for value in rotated)
    assert off < 1e-4, (
        f"rows (1, 0) and (1, 1): their mean kurtosis is 1.5 after any rotation, yours is off by {off:.2g}: "
        "lengths and angles change"
    )
    seed = rng.integer(0, 2**31)
    x = rng.normal(2, 5)
    twice = [privileged_basis_test(x, 3, torch.Generator().manual_seed(seed))[1] for _ in range(2)]
    assert twice[0] == twice[1], "the same generator state gives other rotations: draw from the generator"
    assert_draws_from(lambda generator: privileged_basis_test(x, 2, generator))
    row = torch.tensor([[1.0, 1.0]])  # kurtosis 1 as it is, 1.5 on average over all angles
    mean = sum(privileged_basis_test(row, 400, generator_from(rng))[1]) / 400
    assert abs(mean - 1.5) < 0.13, (
        f"over 400 rotations of (1, 1) the mean kurtosis is {mean:.2f}; over all angles it is 1.5"
    )


def test_answer_rotated(answer_rotated):
    """What is left of loud axes when the stream is turned."""
    assert_choice(answer_rotated, "a", "section 3: logits stay; but the test looks at coordinates along axes")


# --- 4. and 5. Matrices


def test_low_rank(low_rank, rng):
    """The nearest matrix of rank k, for tall, wide and square ones."""
    cases = [(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), 1)]
    for dtype in (F32, F64):
        cases += [
            (rng.normal(m, n, dtype=dtype), k) for m, n, k in ((1, 1, 1), (4, 3, 2), (3, 5, 1), (4, 4, 4), (5, 2, 2))
        ]
    cases += [(strided(rng.normal(4, 6)), 3), (rng.normal(5, 4) + 50, 1), (rng.normal(3, 3), 5)]
    for w, k in cases:
        near = assert_tensor(answer_to(low_rank, w, k), shape=w.shape)
        u, s, v = torch.linalg.svd(w.double(), full_matrices=False)
        best = sum((s[i] * u[:, i : i + 1] @ v[i : i + 1] for i in range(min(k, len(s)))), torch.zeros_like(w.double()))
        message = f"k = {k}: not the nearest matrix of that rank"
        assert_close(near, best, message, **tolerance(w.dtype, 10 * float(w.abs().max())))
        same_dtype(near, w)


def test_factored_trace(factored_trace, rng):
    """The trace of the product, for any n and r."""
    cases = [(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0, 4.0]]))]
    for dtype in (F32, F64):
        cases += [
            (rng.normal(n, r, dtype=dtype), rng.normal(r, n, dtype=dtype)) for n, r in ((1, 1), (3, 2), (2, 5), (4, 4))
        ]
    cases += [(strided(rng.normal(4, 3)), strided(rng.normal(3, 4)))]
    for a, b in cases:
        actual = assert_tensor(answer_to(factored_trace, a, b), shape=())
        expected = torch.tensor(sum(dot(a[i], b[:, i]) for i in range(len(a))), dtype=F64)
        assert_close(actual, expected, "not the trace of a @ b", **tolerance(a.dtype))
        same_dtype(actual, a)


def test_factored_trace__memory(factored_trace, rng):
    """Nothing of size [n n] is made"""
    a = rng.normal(600, 1)
    with refuse_large(100_000):
        actual = factored_trace(a, a.T)
    assert_close(actual, a.square().sum(), "not the trace of a @ b", rtol=1e-3)


def random_factors(rng, m, r, n, dtype):
    """Factors whose product has rank r clearly: a random one is nearly of a lower rank now and then."""
    while True:
        a, b = rng.normal(m, r, dtype=dtype), rng.normal(r, n, dtype=dtype)
        values = torch.linalg.svdvals(a.double() @ b.double())
        if values[r - 1] > 1e-3 * values[0]:
            return a, b


def test_rank_of_product(rank_of_product, rng):
    """Rank and singular values of the product, also where the factors have more."""
    cases = [(torch.tensor([[2.0], [0.0]]), torch.tensor([[0.0, 3.0]]), 1)]
    for dtype in (F64, F32):
        for m, r, n in ((4, 2, 3), (5, 3, 5), (6, 4, 4), (3, 3, 3)):
            cases += [(*random_factors(rng, m, min(r, n), n, dtype), min(r, n))]
        a, b = random_factors(rng, 6, 4, 5, dtype)
        a[:, 3] = a[:, 0] + a[:, 1]
        cases += [(a, b, 3)]
        # a writes to two axes that b does not read: rank 3 and rank 3, the product's is 1
        a, b = torch.zeros(5, 4, dtype=dtype), torch.zeros(4, 5, dtype=dtype)
        a[:3, :3], b[2:, :2] = rng.normal(3, 3, dtype=dtype), rng.normal(2, 2, dtype=dtype)
        cases += [(a, b, 1)]
    cases += [(strided(rng.normal(5, 2)), strided(rng.normal(2, 4)), 2), (torch.zeros(3, 2), torch.zeros(2, 3), 0)]
    cases += [(1e-4 * rng.normal(4, 2, dtype=F64), 1e-4 * rng.normal(2, 4, dtype=F64), 2)]
    for a, b, expected in cases:
        out = answer_to(rank_of_product, a, b)
        assert isinstance(out, tuple) and len(out) == 2, "two things are promised: the rank, and the singular values"
        rank, values = out
        values = assert_tensor(values, shape=(a.shape[1],))
        wanted = torch.linalg.svdvals(a.double() @ b.double())[: a.shape[1]]
        scale = max(float(wanted.max()), 1e-12)
        assert_close(values / scale, wanted / scale, "not the singular values of a @ b", **tolerance(a.dtype, 10))
        assert_plain(rank, int)
        assert rank == expected, (
            f"[{a.shape[0]} {a.shape[1]}] @ [{b.shape[0]} {b.shape[1]}] has rank {expected}, not {rank}"
        )
    a, b = torch.diag(torch.tensor([10.0, 6.0, 1.0, 0.01])), torch.eye(4)
    for share, expected in ((1e-5, 4), (0.05, 3), (0.55, 2), (0.7, 1)):
        rank = rank_of_product(a, b, share)[0]
        assert rank == expected, (
            f"singular values 10, 6, 1, 0.01, share={share}: above {10 * share:.4g} there are {expected}, not {rank}"
        )


def test_rank_of_product__memory(rank_of_product, rng):
    """Nothing of size [m n] is made"""
    with refuse_large(100_000):
        rank, values = rank_of_product(rng.normal(600, 3), rng.normal(3, 600))
    assert rank == 3, f"random factors of 3 columns have a product of rank 3, not {rank}"
    assert len(values) == 3, f"there are 3 singular values, not {len(values)}"


def turning(angle):
    return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def test_eigenvalue_copying_score(eigenvalue_copying_score, rng):
    """Real parts over absolute values, for known eigenvalues and for random factors."""
    known = [(torch.eye(2), torch.eye(2), 1.0), (torch.eye(3), -2 * torch.eye(3), -1.0)]
    known += [(torch.diag(torch.tensor([3.0, -1.0])), torch.eye(2), 0.5), (torch.eye(2), turning(math.pi / 2), 0.0)]
    known += [(torch.eye(2), 4 * turning(math.pi / 3), 0.5), (torch.zeros(3, 2), torch.zeros(2, 3), 0.0)]
    for a, b, expected in known:
        score = answer_to(eigenvalue_copying_score, a, b)
        message = (
            f"the eigenvalues of a @ b are {[f'{v:.2f}' for v in torch.linalg.eigvals(a @ b).tolist()]}; the score"
        )
        assert_close(float(assert_plain(score, float)), torch.tensor(expected), message, atol=1e-4)
    for dtype, n, r in ((F64, 6, 3), (F64, 4, 4), (F32, 5, 1), (F64, 9, 4)):
        a, b = rng.normal(n, r, dtype=dtype), rng.normal(r, n, dtype=dtype)
        values = torch.linalg.eigvals(a.double() @ b.double())
        expected = (values.real.sum() / values.abs().sum()).item()
        score = answer_to(eigenvalue_copying_score, a, b)
        assert_close(float(score), torch.tensor(expected), "not sum(real parts) / sum(absolute values)", atol=1e-4)
    small = torch.diag(torch.tensor([3e-5, -1e-5], dtype=F64))
    score = answer_to(eigenvalue_copying_score, small, 1e-4 * torch.eye(2, dtype=F64))
    message = "eigenvalues 3e-09 and -1e-09 score as 3 and -1 do"
    assert_close(float(score), torch.tensor(0.5), message, atol=1e-4)


def test_eigenvalue_copying_score__memory(eigenvalue_copying_score, rng):
    """Nothing of size [n n] is made"""
    a = rng.normal(600, 2)
    with refuse_large(100_000):
        score = eigenvalue_copying_score(a, a.T)
    assert_close(float(score), torch.tensor(1.0), "a @ a.T has no negative eigenvalue: the score", atol=1e-4)


def test_answer_negative(answer_negative):
    """What an eigenvalue near -1 of what is added to the stream does."""
    assert_choice(
        answer_negative, "c", "the head ADDS its output to the stream; with a negative eigenvalue, that is what?"
    )


# --- 7. Directions from data


def test_pca(pca, rng):
    """Unit components at right angles in falling order, and the shares of variance of centred points."""
    line = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.1]])
    cases = [(line, 1), (line + 100, 2)]
    for dtype in (F32, F64):
        cases += [
            (rng.normal(n, d, dtype=dtype) * torch.arange(1, d + 1) + shift, k)
            for n, d, k, shift in ((6, 3, 3, 0), (20, 4, 2, 5), (5, 8, 3, 0), (30, 2, 1, -20), (4, 1, 1, 2))
        ]
    cases += [(strided(rng.normal(8, 3)) * torch.tensor([3.0, 2.0, 1.0]), 2)]
    for x, k in cases:
        out = answer_to(pca, x, k)
        assert isinstance(out, tuple) and len(out) == 2, "two tensors are promised: components and shares"
        components, shares = assert_tensor(out[0], shape=(k, x.shape[1])), assert_tensor(out[1], shape=(k,))
        centred = x.double() - x.double().mean(0)
        _, s, v = torch.linalg.svd(centred, full_matrices=False)
        wanted = (s.square() / s.square().sum())[:k]
        assert_close(shares, wanted, "not each component's share of the variance (of ALL of it)", rtol=2e-3, atol=1e-4)
        alike = (components.double() * v[:k]).sum(-1).abs()
        assert_close(components.norm(dim=1), torch.ones(k), "a component is not of length 1", rtol=1e-3)
        assert_close(alike, torch.ones(k), "row i is not component i of the centred points (of either sign)", rtol=1e-3)
        same_dtype(components, x)


def test_least_squares_direction(least_squares_direction, rng):
    """The best direction and intercept, with and without noise, far from 0 too."""
    cases = []
    for dtype, n, d, shift, noise in ((F64, 3, 1, 0, 0), (F64, 20, 3, 0, 0), (F64, 30, 4, 50, 1), (F32, 40, 2, 3, 0.5)):
        x = rng.normal(n, d, dtype=dtype) + shift
        cases += [(x, x @ rng.normal(d, dtype=dtype) + 7 + noise * rng.normal(n, dtype=dtype))]
    x = strided(rng.normal(10, 2, dtype=F64))
    cases += [(x, strided(x.sum(-1) - 3)), (rng.normal(12, 2, dtype=F64), torch.full((12,), 5.0, dtype=F64))]
    for x, y in cases:
        out = answer_to(least_squares_direction, x, y)
        assert isinstance(out, tuple) and len(out) == 2, "two tensors are promised: the direction w and the intercept b"
        w, b = assert_tensor(out[0], shape=(x.shape[1],)), assert_tensor(out[1], shape=())
        xs, ys = x.double() - x.double().mean(0), y.double() - y.double().mean()
        best = torch.linalg.lstsq(xs, ys[:, None]).solution[:, 0]
        limits = {"rtol": 1e-2, "atol": 2e-2} if x.dtype == F32 else {"rtol": 1e-6, "atol": 1e-7}
        assert_close(w, best, "w is not the least-squares direction of a fit with an intercept", **limits)
        assert_close(b, y.double().mean() - x.double().mean(0) @ best, "b is not the best intercept", **limits)
        same_dtype(w, x)


def test_answer_shuffled(answer_shuffled):
    """How much of noise a fit follows, with more to fit."""
    assert_choice(
        answer_shuffled, "b", "the fit follows noise by its free numbers: how many are there for each token now?"
    )
