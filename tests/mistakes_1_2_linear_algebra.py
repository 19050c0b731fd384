"""Wrong answers to 1.2, each of which its check must reject and name, and right ones in other styles."""

import math

import numpy as np
import torch
from einops import einsum, rearrange

from concrete_steps.checking.mistakes import mistake, right

# --- 1. A direction


@mistake("does not divide by d . d: the answer depends on how long the direction is")
def project(x, direction):
    return (x @ direction)[..., None] * direction


@mistake("divides by the length of d once: by its square, or scale d to length 1 first and use that twice")
def project(x, direction):
    return (x @ direction)[..., None] * direction / direction.norm()


@mistake("gives only how much of x lies along d, as a number: the part itself is that times d")
def project(x, direction):
    return (x @ direction) / (direction @ direction)


@mistake("divides by x . x: that projects the direction onto x")
def project(x, direction):
    return ((x @ direction) / (x * x).sum(-1))[..., None] * x


@mistake("gives what is left of x without its part along d: that is ablation")
def project(x, direction):
    return x - (x @ direction)[..., None] / (direction @ direction) * direction


@right("scales the direction first, and uses einsum")
def project(x, direction):
    unit = direction / direction.norm()
    return einsum(x, unit, unit, "... d, d, e -> ... e")


@right("as a matrix of rank 1")
def project(x, direction):
    return x @ (torch.outer(direction, direction) / direction.square().sum())


def _schmidt(vectors, share=1e-5, keep_all=False, scale=True, against=None):
    kept = []
    for vector in vectors:
        rest = vector.clone()
        for _ in range(2):
            for other in kept if against is None else kept[-against:]:
                rest = rest - (rest @ other) / (other @ other) * other
        if keep_all or rest.norm() > share * vector.norm():
            kept.append(rest / rest.norm() if scale else rest)
    return torch.stack(kept) if kept else vectors.new_zeros(0, vectors.shape[1])


@mistake("does not scale the rows to length 1")
def gram_schmidt(vectors):
    return _schmidt(vectors, scale=False)


@mistake("keeps vectors of which nothing is left: rounding, scaled up to length 1")
def gram_schmidt(vectors):
    return _schmidt(vectors, keep_all=True)


@mistake("removes only the row just before: each vector must lose its part in all rows so far")
def gram_schmidt(vectors):
    return _schmidt(vectors, against=1)


@mistake("gives the vectors scaled to length 1, which are not at right angles")
def gram_schmidt(vectors):
    return vectors / vectors.norm(dim=1, keepdim=True)


@mistake("gives the right singular vectors: the same span, but not vector by vector in its order")
def gram_schmidt(vectors):
    _, s, v = torch.linalg.svd(vectors, full_matrices=False)
    return v[s > 1e-5 * s[0]]


@mistake("leaves out what is short, not what has little left: compare with the vector's own length")
def gram_schmidt(vectors):
    kept = []
    for vector in vectors:
        rest = vector.clone()
        for _ in range(2):
            for other in kept:
                rest = rest - (rest @ other) * other
        if rest.norm() > 0.1:
            kept.append(rest / rest.norm())
    return torch.stack(kept) if kept else vectors.new_zeros(0, vectors.shape[1])


@mistake("leaves out vectors of which more than 1e-5 of the length is left: they add something")
def gram_schmidt(vectors):
    return _schmidt(vectors, share=1e-3)


@mistake("compares what is left with a fixed length, not with the vector's own length")
def gram_schmidt(vectors):
    kept = []
    for vector in vectors:
        rest = vector.clone()
        for _ in range(2):
            for other in kept:
                rest = rest - (rest @ other) * other
        if rest.norm() > 1e-5:
            kept.append(rest / rest.norm())
    return torch.stack(kept) if kept else vectors.new_zeros(0, vectors.shape[1])


@mistake("stops at the first vector that adds nothing: those after it may add something")
def gram_schmidt(vectors):
    for i in range(len(vectors)):
        basis = _schmidt(vectors[: i + 1])
        if len(basis) <= i:
            return basis
    return _schmidt(vectors)


@right("by a matrix that takes away what is spanned so far, in float64")
def gram_schmidt(vectors):
    rows, left = [], torch.eye(vectors.shape[1], dtype=torch.float64)
    for vector in vectors.double():
        rest = left @ (left @ vector)
        if rest.norm() > 1e-5 * vector.norm():
            rows.append(rest / rest.norm())
            left = left - torch.outer(rows[-1], rows[-1])
    return torch.stack(rows).to(vectors.dtype) if rows else vectors[:0]


@right("row by row in a list, each row twice")
def gram_schmidt(vectors):
    return _schmidt(vectors)


@right("in float64 and back")
def gram_schmidt(vectors):
    kept = []
    for vector in vectors.double():
        rest = vector - sum(((vector @ row) * row for row in kept), torch.zeros_like(vector))
        rest = rest - sum(((rest @ row) * row for row in kept), torch.zeros_like(vector))
        if rest.norm() > 1e-5 * vector.norm():
            kept.append(rest / rest.norm())
    return torch.stack(kept).to(vectors.dtype) if kept else torch.empty(0, vectors.shape[1], dtype=vectors.dtype)


def _span(directions):
    return _schmidt(directions)


@mistake("removes the directions one after the other: at an angle, some of the first comes back")
def ablate_direction(x, directions):
    for direction in directions:
        x = x - (x @ direction)[..., None] / (direction @ direction) * direction
    return x


@mistake("removes each direction's part of the original x: what two of them share is removed twice")
def ablate_direction(x, directions):
    return x - sum((x @ d)[..., None] / (d @ d) * d for d in directions)


@mistake("keeps the span instead of removing it")
def ablate_direction(x, directions):
    basis = _span(directions)
    return (x @ basis.T) @ basis


@mistake("adds the span's part instead of taking it away")
def ablate_direction(x, directions):
    basis = _span(directions)
    return x + (x @ basis.T) @ basis


@mistake("removes the first direction alone")
def ablate_direction(x, directions):
    basis = _span(directions)[:1]
    return x - (x @ basis.T) @ basis


@mistake("takes a QR decomposition as the basis: of dependent directions it makes up columns that they do not span")
def ablate_direction(x, directions):
    basis = torch.linalg.qr(directions.T).Q
    return x - (x @ basis) @ basis.T


@right("by the pseudo-inverse")
def ablate_direction(x, directions):
    return x - x @ torch.linalg.pinv(directions, rtol=1e-4) @ directions


@right("one basis vector after the other, on a copy")
def ablate_direction(x, directions):
    left = x.clone()
    for row in _span(directions):
        left -= (left @ row)[..., None] * row
    return left


# --- 2. Angles


def _unit(rows):
    lengths = rows.norm(dim=-1, keepdim=True)
    return rows / torch.where(lengths == 0, 1, lengths)


@mistake("gives dot products: the lengths are not divided out")
def cosine_matrix(a, b):
    return a @ b.T


@mistake("divides by the lengths of a's rows alone")
def cosine_matrix(a, b):
    return _unit(a) @ b.T


@mistake("gives nan for rows of zeros: 0 / 0")
def cosine_matrix(a, b):
    return (a / a.norm(dim=1, keepdim=True)) @ (b / b.norm(dim=1, keepdim=True)).T


@mistake("has the rows of b along axis 0: [n m] has one row for each row of a")
def cosine_matrix(a, b):
    return _unit(b) @ _unit(a).T


@mistake("gives absolute values: opposite directions have cosine -1")
def cosine_matrix(a, b):
    return (_unit(a) @ _unit(b).T).abs()


@mistake("divides by the squares of the lengths: the root is missing")
def cosine_matrix(a, b):
    sizes = torch.outer(a.square().sum(1), b.square().sum(1))
    return torch.where(sizes == 0, 0, (a @ b.T) / sizes.masked_fill(sizes == 0, 1))


@mistake("scales the columns to length 1: rows are the vectors")
def cosine_matrix(a, b):
    return _unit(a.T).T @ _unit(b.T)


@right("cosine_similarity, broadcast")
def cosine_matrix(a, b):
    return torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=-1)


@right("torch's own, pair by pair")
def cosine_matrix(a, b):
    return torch.nn.functional.normalize(a, dim=-1, eps=1e-30) @ torch.nn.functional.normalize(b, dim=-1, eps=1e-30).T


@right("products over an outer product of lengths")
def cosine_matrix(a, b):
    sizes = torch.outer(a.norm(dim=1), b.norm(dim=1))
    return torch.where(sizes == 0, 0, (a @ b.T) / sizes.masked_fill(sizes == 0, 1))


def _cosines(n, d, generator, draw=torch.randn):
    directions = _unit(draw(n, d, generator=generator))
    return directions @ directions.T


@mistake("counts the cosine of each direction with itself, which is 1")
def interference_of_random_directions(n, d, generator):
    cosines = _cosines(n, d, generator)
    return cosines.square().mean().sqrt().item(), cosines.abs().max().item()


@mistake("takes the largest cosine, not the largest absolute value: opposite directions interfere, too")
def interference_of_random_directions(n, d, generator):
    pairs = _cosines(n, d, generator)[torch.ones(n, n).triu(1).bool()]
    return pairs.square().mean().sqrt().item(), pairs.max().item()


@mistake("gives the mean absolute cosine, not the root of the mean square")
def interference_of_random_directions(n, d, generator):
    pairs = _cosines(n, d, generator)[torch.ones(n, n).triu(1).bool()]
    return pairs.abs().mean().item(), pairs.abs().max().item()


@mistake("draws from a uniform distribution: all directions lie in one corner")
def interference_of_random_directions(n, d, generator):
    pairs = _cosines(n, d, generator, torch.rand)[torch.ones(n, n).triu(1).bool()]
    return pairs.square().mean().sqrt().item(), pairs.abs().max().item()


@mistake("does not scale the directions to length 1: these are dot products")
def interference_of_random_directions(n, d, generator):
    directions = torch.randn(n, d, generator=generator)
    pairs = (directions @ directions.T)[torch.ones(n, n).triu(1).bool()]
    return pairs.square().mean().sqrt().item(), pairs.abs().max().item()


def _pairs(n, d, generator):
    return _cosines(n, d, generator)[torch.ones(n, n).triu(1).bool()]


@mistake("takes the standard deviation: it subtracts the mean, and of one pair it is nan")
def interference_of_random_directions(n, d, generator):
    pairs = _pairs(n, d, generator)
    return pairs.std().item(), pairs.abs().max().item()


@mistake("forgets the root of the mean square")
def interference_of_random_directions(n, d, generator):
    pairs = _pairs(n, d, generator)
    return pairs.square().mean().item(), pairs.abs().max().item()


@mistake("divides by all entries of the table, the emptied ones too, not by the number of pairs")
def interference_of_random_directions(n, d, generator):
    cosines = _cosines(n, d, generator).triu(1)
    return cosines.square().mean().sqrt().item(), cosines.abs().max().item()


@mistake("looks at neighbours alone: every direction makes a pair with every other")
def interference_of_random_directions(n, d, generator):
    pairs = _cosines(n, d, generator).diagonal(1)
    return pairs.square().mean().sqrt().item(), pairs.abs().max().item()


@mistake("draws signs: only the corners of a cube, not all directions")
def interference_of_random_directions(n, d, generator):
    signs = torch.randint(0, 2, (n, d), generator=generator) * 2.0 - 1
    pairs = (_unit(signs) @ _unit(signs).T)[torch.ones(n, n).triu(1).bool()]
    return pairs.square().mean().sqrt().item(), pairs.abs().max().item()


@right("off-diagonal entries, each pair twice")
def interference_of_random_directions(n, d, generator):
    cosines = _cosines(n, d, generator)
    off = cosines[~torch.eye(n, dtype=torch.bool)]
    return math.sqrt(off.square().mean().item()), float(off.abs().max())


@right("with triu_indices and pdist-like pairs")
def interference_of_random_directions(n, d, generator):
    unit = torch.nn.functional.normalize(torch.randn(n, d, generator=generator), dim=-1)
    i, j = torch.triu_indices(n, n, 1)
    pairs = (unit @ unit.T)[i, j]
    return (pairs**2).mean().item() ** 0.5, pairs.abs().max().item()


# --- 3. Bases


@mistake("takes dot products with the basis vectors: that is right for orthonormal ones only")
def change_of_basis(x, basis):
    return x @ basis.T


@mistake("multiplies by the basis: that goes from coordinates back to x")
def change_of_basis(x, basis):
    return x @ basis


@mistake("takes the basis vectors for columns: they are the rows")
def change_of_basis(x, basis):
    return torch.linalg.solve(basis, x.T).T


@mistake("divides the dot products by the vectors' squared lengths: that is right only at right angles")
def change_of_basis(x, basis):
    return (x @ basis.T) / basis.square().sum(1)


@right("by the inverse")
def change_of_basis(x, basis):
    return x @ torch.linalg.inv(basis)


@right("solves from the left side")
def change_of_basis(x, basis):
    return torch.linalg.solve(basis, x, left=False)


def _turned(weights, writers, readers):
    return {name: writers(w) if name in ("W_E", "W_pos", "W_O") else readers(w) for name, w in weights.items()}


@mistake("turns the readers the wrong way: R @ W turns once more, R.T @ W undoes the turn")
def rotate_stream(weights, rotation):
    return _turned(weights, lambda w: w @ rotation, lambda w: rotation @ w)


@mistake("turns the writers backwards: they are followed by R, not by its transpose")
def rotate_stream(weights, rotation):
    return _turned(weights, lambda w: w @ rotation.T, lambda w: rotation.T @ w)


@mistake("forgets the positions: they are added to the stream, so they write to it")
def rotate_stream(weights, rotation):
    return _turned(weights, lambda w: w @ rotation, lambda w: rotation.T @ w) | {"W_pos": weights["W_pos"]}


@mistake("leaves the unembedding as it is: it reads the stream")
def rotate_stream(weights, rotation):
    return _turned(weights, lambda w: w @ rotation, lambda w: rotation.T @ w) | {"W_U": weights["W_U"]}


@mistake("turns the writers alone: whoever reads then reads a turned stream with old weights")
def rotate_stream(weights, rotation):
    return _turned(weights, lambda w: w @ rotation, lambda w: w)


@right("weight by weight, with einsum")
def rotate_stream(weights, rotation):
    out = {}
    for name in ("W_E", "W_pos", "W_O"):
        out[name] = einsum(weights[name], rotation, "... old, old new -> ... new")
    for name in ("W_Q", "W_K", "W_V", "W_U"):
        out[name] = einsum(rotation, weights[name], "old new, ... old k -> ... new k")
    return out


# --- 4. and 5. Matrices


def _svd(w):
    return torch.linalg.svd(w, full_matrices=False)


@mistake("keeps the k smallest singular values: they come in falling order")
def low_rank(w, k):
    u, s, v = _svd(w)
    return u[:, -k:] @ (s[-k:, None] * v[-k:])


@mistake("leaves the singular values out")
def low_rank(w, k):
    u, _, v = _svd(w)
    return u[:, :k] @ v[:k]


@mistake("transposes what torch calls Vh once more: its rows are the directions already")
def low_rank(w, k):
    u, s, v = _svd(w)
    return u[:, :k] * s[:k] @ v.T[:k] if v.shape[0] == v.shape[1] else u[:, :k] * s[:k] @ v[:, :k].T


@mistake("centres the columns first: that is PCA, and another matrix")
def low_rank(w, k):
    mean = w.mean(0)
    u, s, v = _svd(w - mean)
    return u[:, :k] * s[:k] @ v[:k]


@mistake("takes away the k largest, instead of keeping them")
def low_rank(w, k):
    u, s, v = _svd(w)
    return w - u[:, :k] * s[:k] @ v[:k]


@right("zeroes the small singular values")
def low_rank(w, k):
    u, s, v = torch.linalg.svd(w, full_matrices=False)
    return (u * torch.where(torch.arange(len(s)) < k, s, 0)) @ v


@right("a sum of outer products")
def low_rank(w, k):
    u, s, v = _svd(w)
    return sum(torch.outer(u[:, i], v[i]) * s[i] for i in range(min(k, len(s))))


@mistake("sums every product of entries of A and B that have the same place: B must be transposed first")
def factored_trace(a, b):
    return (a * b.reshape(a.shape)).sum()


@mistake("sums all entries of the product, not its diagonal")
def factored_trace(a, b):
    return (a.sum(0) * b.sum(1)).sum()


@mistake("makes the whole product")
def factored_trace(a, b):
    with_all = a @ b
    return with_all.trace()


@right("the trace of the small product")
def factored_trace(a, b):
    return (b @ a).trace()


@right("einsum over both")
def factored_trace(a, b):
    return einsum(a, b, "n r, r n ->")


def _triangles(a, b):
    return torch.linalg.qr(a).R, torch.linalg.qr(b.T).R


def _rank(values, share):
    return int((values > share * values[0]).sum())


@mistake("multiplies the singular values of the factors: directions do not match one to one")
def rank_of_product(a, b, share=1e-5):
    values = torch.linalg.svdvals(a) * torch.linalg.svdvals(b)
    return _rank(values, share), values


@mistake("takes the eigenvalues' sizes of B A, which are not singular values")
def rank_of_product(a, b, share=1e-5):
    values = torch.linalg.eigvals(b @ a).abs().sort(descending=True).values
    return _rank(values, share), values


@mistake("gives the smaller rank of the two factors: the product's can be less")
def rank_of_product(a, b, share=1e-5):
    ra, rb = _triangles(a, b)
    return min(int(torch.linalg.matrix_rank(a)), int(torch.linalg.matrix_rank(b))), torch.linalg.svdvals(ra @ rb.T)


@mistake("multiplies R_A R_B: the second triangle must be transposed")
def rank_of_product(a, b, share=1e-5):
    ra, rb = _triangles(a, b)
    values = torch.linalg.svdvals(ra @ rb)
    return _rank(values, share), values


@mistake("compares with a fixed number, not with a share of the largest singular value")
def rank_of_product(a, b, share=1e-5):
    ra, rb = _triangles(a, b)
    values = torch.linalg.svdvals(ra @ rb.T)
    return int((values > share).sum()), values


@mistake("makes the whole product")
def rank_of_product(a, b, share=1e-5):
    values = torch.linalg.svdvals(a @ b)[: a.shape[1]]
    return _rank(values, share), values


@mistake("takes the share of the sum of the singular values, not of the largest")
def rank_of_product(a, b, share=1e-5):
    ra, rb = _triangles(a, b)
    values = torch.linalg.svdvals(ra @ rb.T)
    return int((values > share * values.sum()).sum()), values


@mistake("does not use the share that was asked for")
def rank_of_product(a, b, share=1e-5):
    ra, rb = _triangles(a, b)
    values = torch.linalg.svdvals(ra @ rb.T)
    return _rank(values, 1e-5), values


@right("SVDs of both factors, joined in float64")
def rank_of_product(a, b, share=1e-5):
    _, sa, va = torch.linalg.svd(a.double(), full_matrices=False)
    ub, sb, _ = torch.linalg.svd(b.double(), full_matrices=False)
    values = torch.linalg.svdvals(sa[:, None] * (va @ ub) * sb)
    return (values > share * values[0]).sum().item(), values.to(a.dtype)


@right("one QR, then the SVD of the wide rest")
def rank_of_product(a, b, share=1e-5):
    ra = torch.linalg.qr(a).R
    values = torch.linalg.svdvals(ra @ b)
    return int(torch.count_nonzero(values > share * values.max())), values


@mistake("divides by the sum of the real parts' sizes: the absolute value of a complex number counts both parts")
def eigenvalue_copying_score(a, b):
    values = torch.linalg.eigvals(b @ a)
    total = values.real.abs().sum()
    return (values.real.sum() / total).item() if total > 1e-6 else 0.0


@mistake("takes singular values, which are never negative: the score is about eigenvalues")
def eigenvalue_copying_score(a, b):
    values = torch.linalg.svdvals(b @ a)
    return (values.sum() / values.abs().sum()).item() if values.sum() > 0 else 0.0


@mistake("is the share of eigenvalues with positive real part, however large they are")
def eigenvalue_copying_score(a, b):
    values = torch.linalg.eigvals(b @ a)
    return (values.real > 1e-6).double().mean().item()


@mistake("is nan where all eigenvalues are 0")
def eigenvalue_copying_score(a, b):
    values = torch.linalg.eigvals(b @ a)
    return (values.real.sum() / values.abs().sum()).item()


@mistake("takes the absolute value of the sum below the line: opposite eigenvalues cancel there")
def eigenvalue_copying_score(a, b):
    values = torch.linalg.eigvals(b @ a)
    total = values.sum().abs()
    return (values.real.sum() / total).item() if total > 1e-6 else 0.0


@mistake("adds a small number below the line: for small weights it is no longer small")
def eigenvalue_copying_score(a, b):
    values = torch.linalg.eigvals(b @ a)
    return (values.real.sum() / (values.abs().sum() + 1e-8)).item()


@mistake("divides the trace by the sum of the singular values: they are not the eigenvalues' sizes")
def eigenvalue_copying_score(a, b):
    sizes = torch.linalg.svdvals(b @ a).sum()
    return (torch.trace(b @ a) / sizes).item() if sizes > 0 else 0.0


@mistake("makes the whole product")
def eigenvalue_copying_score(a, b):
    values = torch.linalg.eigvals(a @ b)
    return (values.real.sum() / values.abs().sum()).item() if values.abs().sum() > 0 else 0.0


@right("the trace over the sum of sizes")
def eigenvalue_copying_score(a, b):
    small = b.double() @ a.double()
    total = torch.linalg.eigvals(small).abs().sum()
    return float(small.trace() / total) if total else 0.0


@mistake("the head adds its output to the stream, so with eigenvalue -1 what was read is taken away")
def answer_negative():
    return "a"


@mistake("a score of 1 would double what was read; this one has the other sign")
def answer_negative():
    return "b"


# --- 6. Axes


def _kurtosis(x):
    return (x.pow(4).mean(-1) / x.square().mean(-1).square()).mean().item()


def _rotation(d, generator):
    return torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q


def _privileged(x, n_rotations, generator, kurtosis=_kurtosis):
    x = x.double()
    return kurtosis(x), [kurtosis(x @ _rotation(x.shape[1], generator)) for _ in range(n_rotations)]


@mistake("takes the kurtosis over rows, axis by axis: it is over the axes of each row")
def privileged_basis_test(x, n_rotations, generator):
    return _privileged(x, n_rotations, generator, lambda rows: _kurtosis(rows.T))


@mistake("subtracts each row's mean first: the definition does not")
def privileged_basis_test(x, n_rotations, generator):
    return _privileged(x, n_rotations, generator, lambda rows: _kurtosis(rows - rows.mean(-1, keepdim=True)))


@mistake("gives the excess over 3: the definition does not subtract it")
def privileged_basis_test(x, n_rotations, generator):
    return _privileged(x, n_rotations, generator, lambda rows: _kurtosis(rows) - 3)


@mistake("does not square the mean square below the line")
def privileged_basis_test(x, n_rotations, generator):
    return _privileged(
        x, n_rotations, generator, lambda rows: (rows.pow(4).mean(-1) / rows.square().mean(-1)).mean().item()
    )


@mistake("uses one rotation for all")
def privileged_basis_test(x, n_rotations, generator):
    x, rotation = x.double(), _rotation(x.shape[1], generator)
    return _kurtosis(x), [_kurtosis(x @ rotation)] * n_rotations


@mistake("multiplies by a random matrix that is no rotation: lengths and angles change")
def privileged_basis_test(x, n_rotations, generator):
    x, d = x.double(), x.shape[1]
    return _kurtosis(x), [
        _kurtosis(x @ torch.randn(d, d, generator=generator, dtype=torch.float64)) for _ in range(n_rotations)
    ]


@mistake("rotates the rows among each other: a rotation of the axes is multiplied from the right")
def privileged_basis_test(x, n_rotations, generator):
    x = x.double()
    return _kurtosis(x), [_kurtosis(_rotation(len(x), generator) @ x) for _ in range(n_rotations)]


@mistake("shuffles the axes: that mixes none of them, and no kurtosis changes")
def privileged_basis_test(x, n_rotations, generator):
    x = x.double()
    return _kurtosis(x), [_kurtosis(x[:, torch.randperm(x.shape[1], generator=generator)]) for _ in range(n_rotations)]


@mistake("takes the QR of uniform numbers, which favours one direction: normal ones favour none")
def privileged_basis_test(x, n_rotations, generator):
    x, d = x.double(), x.shape[1]
    draws = [torch.rand(d, d, generator=generator, dtype=torch.float64) for _ in range(n_rotations)]
    return _kurtosis(x), [_kurtosis(x @ torch.linalg.qr(draw).Q) for draw in draws]


@right("QR of the transpose, and a loop that appends")
def privileged_basis_test(x, n_rotations, generator):
    found = []
    for _ in range(n_rotations):
        q, r = torch.linalg.qr(torch.randn(x.shape[1], x.shape[1], generator=generator).double())
        found.append(_kurtosis(x.double() @ (q * r.diagonal().sign())))
    return _kurtosis(x.double()), found


@right("the left singular vectors of a random matrix")
def privileged_basis_test(x, n_rotations, generator):
    rows, d = x.double(), x.shape[1]
    draws = [torch.randn(d, d, generator=generator, dtype=torch.float64) for _ in range(n_rotations)]
    return _kurtosis(rows), [_kurtosis(rows @ torch.linalg.svd(draw)[0]) for draw in draws]


@mistake("logits are the same; the test looks at the coordinates along axes, and these are mixed")
def answer_rotated():
    return "b"


@mistake("a turned stream with turned weights gives the same logits")
def answer_rotated():
    return "c"


# --- 7. Data


def _pca(x, k, centre=True, of_all=True, square=True):
    _, s, v = torch.linalg.svd(x - x.mean(0) if centre else x, full_matrices=False)
    power = s.square() if square else s
    return v[:k], power[:k] / (power if of_all else power[:k]).sum()


@mistake("does not centre the points: the first component then points at their mean")
def pca(x, k):
    return _pca(x, k, centre=False)


@mistake("gives shares of the k components' variance, not of all of it")
def pca(x, k):
    return _pca(x, k, of_all=False)


@mistake("uses singular values where their squares are variances")
def pca(x, k):
    return _pca(x, k, square=False)


@mistake("gives the last components: eigh sorts upwards")
def pca(x, k):
    _, s, v = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    return v.flip(0)[:k], s.flip(0)[:k].square() / s.square().sum()


@mistake("scales every axis to variance 1 first: that is another question")
def pca(x, k):
    centred = x - x.mean(0)
    return _pca(centred / centred.std(0), k)


@mistake("takes columns of what torch calls Vh: its rows are the directions")
def pca(x, k):
    _, s, v = torch.linalg.svd(x - x.mean(0))
    return v[:, :k].T, s[:k].square() / s.square().sum()


@mistake("gives variances, not their share of all variance")
def pca(x, k):
    _, s, v = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    return v[:k], s[:k].square() / (len(x) - 1)


@mistake("adds the shares up: each component's own is asked for")
def pca(x, k):
    components, shares = _pca(x, k)
    return components, shares.cumsum(0)


@right("eigenvectors of the covariance")
def pca(x, k):
    values, vectors = torch.linalg.eigh(torch.cov(x.T).reshape(x.shape[1], x.shape[1]))
    values, vectors = values.flip(0), vectors.flip(1)
    return vectors[:, :k].T, values[:k] / values.sum()


@mistake("fits without an intercept: the line is forced through 0")
def least_squares_direction(x, y):
    w = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    return w, (y - x @ w).mean()


@mistake("gives the covariance of x and y, not divided by how x itself varies")
def least_squares_direction(x, y):
    centred = x - x.mean(0)
    w = centred.T @ (y - y.mean()) / len(x)
    return w, y.mean() - x.mean(0) @ w


@mistake("gives the mean of y as the intercept: the mean of x times w is missing")
def least_squares_direction(x, y):
    w = torch.linalg.lstsq(x - x.mean(0), (y - y.mean())[:, None]).solution[:, 0]
    return w, y.mean()


@mistake("gives the intercept the wrong sign")
def least_squares_direction(x, y):
    w = torch.linalg.lstsq(x - x.mean(0), (y - y.mean())[:, None]).solution[:, 0]
    return w, x.mean(0) @ w - y.mean()


@mistake("scales w to length 1: then it no longer predicts y")
def least_squares_direction(x, y):
    w = torch.linalg.lstsq(x - x.mean(0), (y - y.mean())[:, None]).solution[:, 0]
    return w / w.norm(), y.mean() - x.mean(0) @ w


@right("centres, then solves")
def least_squares_direction(x, y):
    w = torch.linalg.lstsq(x - x.mean(0), (y - y.mean())[:, None]).solution[:, 0]
    return w, y.mean() - x.mean(0) @ w


@right("with numpy")
def least_squares_direction(x, y):
    table = np.concatenate([x.numpy(), np.ones((len(x), 1))], axis=1)
    solution = torch.tensor(np.linalg.lstsq(table, y.numpy(), rcond=None)[0]).to(x.dtype)
    return solution[:-1], solution[-1]


@right("by the pseudo-inverse, with the ones in front")
def least_squares_direction(x, y):
    ones = rearrange(torch.ones_like(y), "n -> n 1")
    solution = torch.linalg.pinv(torch.hstack([ones, x])) @ y
    return solution[1:], solution[0]


@mistake("the fit follows noise, and the more easily the fewer tokens there are for a free number")
def answer_shuffled():
    return "a"


@mistake("more tokens are harder to follow with the same free numbers, not easier")
def answer_shuffled():
    return "c"
