# %% [markdown]
# # 1.2 Linear algebra for interpretability
#
# A transformer keeps a list of numbers for each token and adds to it: the **residual stream**. What a number in that
# list means is nowhere written. This notebook is about what can be said all the same: which *directions* a part
# reads and writes, how many it uses, how much room there is, and whether the axes themselves mean anything.
#
# ![Left: the projection of a vector on a direction. Right: the same in turned axes.](figures/1.2_directions.svg)
# %% generated="overview"
# %% setup=True
import math

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from concrete_steps import evidence, models, plot, wired


# %% [markdown]
# ## 1. A direction
#
# A direction is a vector whose length does not matter. How much of $x$ lies along $d$?
#
# $$\operatorname{proj}_d(x) = \frac{x \cdot d}{d \cdot d}\, d$$
#
# Divide by $d \cdot d$, or the answer depends on how long somebody made $d$.
# %% exercise="project" points=1 difficulty=1 minutes=5
def project(
    x: Float[Tensor, "... d_model"], direction: Float[Tensor, "d_model"]
) -> Float[Tensor, "... d_model"]:
    """The part of each x that lies along the direction, which may have any length but 0."""
    ### BEGIN SOLUTION
    amount = (x @ direction) / (direction @ direction)
    return amount[..., None] * direction
    ### END SOLUTION


# %% check="project"
# %% [markdown]
# **Ablating** a direction removes that part. It is how one asks whether a model uses it. Several directions at once:
# if they are not at right angles, removing them one after the other leaves something of the first.
#
# So first make them orthonormal (at right angles, each of length 1). **Gram-Schmidt** takes the vectors in turn,
# removes what lies in the ones kept so far, and keeps the rest, scaled to length 1.
#
# <details><summary>Hint</summary>
#
# Some vectors have nothing left (up to rounding): they lie in the span of those before, and are not kept. Compare what
# is left with how long the vector was.
#
# </details>
# %% exercise="gram_schmidt" points=2 difficulty=3 minutes=15
def gram_schmidt(vectors: Float[Tensor, "n d_model"]) -> Float[Tensor, "rank d_model"]:
    """An orthonormal basis of the span, in the order of the vectors: row i is what vector i
    adds to those before.

    A vector of which less than 1e-5 of its length is left adds nothing and is left out.
    """
    ### BEGIN SOLUTION
    basis = vectors.new_zeros(0, vectors.shape[1])
    for vector in vectors:
        rest = vector
        for _ in range(2):  # twice: rounding of the first leaves a trace of the others
            rest = rest - (basis @ rest) @ basis
        if rest.norm() > 1e-5 * vector.norm():
            basis = torch.cat([basis, rest[None] / rest.norm()])
    return basis
    ### END SOLUTION


# %% check="gram_schmidt"
# %% exercise="ablate_direction" points=2 difficulty=2 minutes=8
def ablate_direction(
    x: Float[Tensor, "... d_model"], directions: Float[Tensor, "n d_model"]
) -> Float[Tensor, "... d_model"]:
    """x without anything in the span of the directions, which need not be at right angles."""
    ### BEGIN SOLUTION
    basis = gram_schmidt(directions)
    return x - (x @ basis.T) @ basis
    ### END SOLUTION


# %% check="ablate_direction"
# %% [markdown]
# **Predict**: two directions at 45°, a random x in 100 dimensions. You remove one, then the other, each by itself.
# How much along the first is left: nothing, a tenth, half?
#
# <details><summary>Answer</summary>
#
# Half, in root mean square: removing the second subtracts a vector that leans towards the first, and so puts some of it
# back.
#
# </details>
# %% experiment=True
generator = torch.Generator().manual_seed(0)
first = torch.nn.functional.one_hot(torch.tensor(0), 100).double()
other = torch.nn.functional.one_hot(torch.tensor(1), 100).double()
second = (first + other) / math.sqrt(2)  # at 45 degrees
x = torch.randn(1000, 100, generator=generator, dtype=torch.float64)
in_turn = x - project(x, first)
in_turn = in_turn - project(in_turn, second)
together = ablate_direction(x, torch.stack([first, second]))
for name, left in (("before", x), ("one after the other", in_turn), ("the span", together)):
    print(
        f"{name:>20}: root mean square along the first direction",
        f"{(left @ first).square().mean().sqrt():.3f}",
    )


# %% [markdown]
# ## 2. Angles
#
# The **cosine similarity** of two vectors is $u \cdot v / (|u||v|)$: embeddings and neurons are compared by it.
# %% exercise="cosine_matrix" points=1 difficulty=2 minutes=6
def cosine_matrix(
    a: Float[Tensor, "n d_model"], b: Float[Tensor, "m d_model"]
) -> Float[Tensor, "n m"]:
    """The cosine similarity of every row of a with every row of b; 0 where a row is zero."""

    ### BEGIN SOLUTION
    def unit(rows: Tensor) -> Tensor:
        lengths = rows.norm(dim=-1, keepdim=True)
        return rows / torch.where(lengths == 0, 1, lengths)

    return unit(a) @ unit(b).T
    ### END SOLUTION


# %% check="cosine_matrix"
# %% [markdown]
# How near to a right angle are *random* directions? Each cosine is about normal, with standard deviation $1/\sqrt{d}$.
# But whoever looks at many pairs sees the largest.
#
# <details><summary>Hint</summary>
#
# Directions spread evenly over the sphere: normal numbers, divided by their length. The diagonal of their cosines is
# no pair, and each pair stands there twice.
#
# </details>
# %% exercise="interference_of_random_directions" points=2 difficulty=3 minutes=12
def interference_of_random_directions(
    n: int, d: int, generator: torch.Generator
) -> tuple[float, float]:
    """Root mean square and largest absolute value of the cosines between n random directions
    in d dimensions, over the pairs of different ones.
    """
    ### BEGIN SOLUTION
    directions = torch.randn(n, d, generator=generator)
    cosines = cosine_matrix(directions, directions)
    pairs = cosines[torch.ones(n, n).triu(1).bool()]
    return pairs.square().mean().sqrt().item(), pairs.abs().max().item()
    ### END SOLUTION


# %% check="interference_of_random_directions"
# %% [markdown]
# **Predict**: SmolLM2's stream has 576 dimensions. Of 4,000 random directions in it, how alike are the two that
# are most alike: cosine 0.05, 0.25 or 0.75?
#
# <details><summary>Answer</summary>
#
# About 0.25: the largest grows slowly, as $\sqrt{4 \ln n / d}$ for $n$ directions. Seven times as many as dimensions,
# and no two within 75° of each other: this is the room in which **superposition** keeps more features than dimensions.
#
# </details>
# %% experiment=True
measured, theory = [], []
sizes = (10, 30, 100, 300, 1000, 4000)
for d in (64, 576):
    found = [interference_of_random_directions(n, d, generator) for n in sizes]
    measured.append([largest for _, largest in found])
    theory.append([math.sqrt(4 * math.log(n) / d) for n in sizes])
    print(
        f"d = {d}: root mean square {found[-1][0]:.4f}, 1/sqrt(d) is {1 / math.sqrt(d):.4f}"
    )
    print(
        f"    largest of 4,000 directions {found[-1][1]:.3f}, theory {theory[-1][-1]:.3f}"
    )
plot.line(
    {
        f"{name}, d = {d}": values[i]
        for i, d in enumerate((64, 576))
        for name, values in (("largest", measured), ("theory", theory))
    },
    x=sizes,
    log_x=True,
    x_label="random directions",
    y_label="largest |cosine| of a pair",
    title="Many directions nearly at right angles",
)


# %% [markdown]
# The theory is for large n, and mostly a little high. Random directions are the null for every cosine that you will
# report.
#
# ## 3. No basis is special, in theory
#
# Coordinates depend on the basis. With basis vectors as rows of $B$, the coordinates $c$ of $x$ are those with
# $x = c B$. They are dot products with the rows only if the rows are orthonormal.
# %% exercise="change_of_basis" points=2 difficulty=2 minutes=8
def change_of_basis(
    x: Float[Tensor, "n d"], basis: Float[Tensor, "d d"]
) -> Float[Tensor, "n d"]:
    """The coordinates of each x in the basis of these rows, which are independent but
    neither at right angles nor of length 1.
    """
    ### BEGIN SOLUTION
    return torch.linalg.solve(basis.T, x.T).T
    ### END SOLUTION


# %% check="change_of_basis"
# %% [markdown]
# Every part of a transformer without normalisation reads the stream by a matrix ($x W$) and writes to it by a matrix.
# So turn the stream, $x \to x R$ with orthogonal $R$ ($R R^T = 1$), turn all these matrices with it, and no logit
# changes.
#
# The embeddings $W_E$, $W_\text{pos}$ write token and position into the stream. An
# attention **head** reads where to look by $W_Q$, $W_K$, what to fetch by $W_V$, and writes it by $W_O$. The
# unembedding $W_U$ reads a score for every next token: the **logits**.
# Writers are `[... d_model]`, readers `[... d_model k]`.
#
# <details><summary>Hint</summary>
#
# A writer's output is followed by R. Before a reader, R must be undone: which matrix does that?
#
# </details>
# %% exercise="rotate_stream" points=2 difficulty=4 minutes=15
def rotate_stream(
    weights: dict[str, Float[Tensor, "..."]],
    rotation: Float[Tensor, "d_model d_model"],
) -> dict[str, Float[Tensor, "..."]]:
    """The same model with its residual stream x turned to x @ rotation (orthogonal): new
    weights under the same names.

    W_E, W_pos: [n d_model]; W_Q, W_K, W_V: [layer head d_model d_head];
    W_O: [layer head d_head d_model]; W_U: [d_model d_vocab].
    """
    ### BEGIN SOLUTION
    writers, readers = ("W_E", "W_pos", "W_O"), ("W_Q", "W_K", "W_V", "W_U")
    turned = {name: weights[name] @ rotation for name in writers}
    return turned | {name: rotation.T @ weights[name] for name in readers}
    ### END SOLUTION


# %% check="rotate_stream"
# %% [markdown]
# Try it on a model whose weights were written by hand: each axis of its stream means one thing.
#
# **Predict**: after a random rotation, which of these are the same: the logits, the entries of $W_E$, the cosines
# between rows of $W_E$?
#
# <details><summary>Answer</summary>
#
# Logits and cosines. No entry of a matrix that touches the stream keeps its value or, for a person, its meaning.
#
# </details>
# %% experiment=True
model, truth = wired.build(seed=0, rotate=False)
names = ("W_E", "W_pos", "W_Q", "W_K", "W_V", "W_O", "W_U")
plain = {name: getattr(model, name).detach() for name in names}
random_square = torch.randn(plain["W_E"].shape[1], plain["W_E"].shape[1], generator=generator)
rotation = torch.linalg.qr(random_square).Q
turned = rotate_stream(plain, rotation)


def logits_of(weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """An attention-only transformer without normalisation or biases."""
    x = weights["W_E"][tokens] + weights["W_pos"][: tokens.shape[1]]
    later = torch.ones(tokens.shape[1], tokens.shape[1]).triu(1).bool()
    for layer in range(len(weights["W_Q"])):
        q, k, v = (
            einsum(
                x,
                weights[f"W_{name}"][layer],
                "batch pos d, head d d_head -> batch head pos d_head",
            )
            for name in "QKV"
        )
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(later, -torch.inf)
        z = scores.softmax(-1) @ v
        x = x + einsum(
            z, weights["W_O"][layer], "batch head pos d_head, head d_head d -> batch pos d"
        )
    return x @ weights["W_U"]


tokens = wired.repeated(truth, batch=4, seed=0)
gap = (logits_of(plain, tokens) - logits_of(turned, tokens)).abs().max()
print(
    f"largest change of a logit {gap:.1e};",
    f"logits reach {logits_of(plain, tokens).abs().max():.1f}",
)
embedding = {name: w["W_E"][1:-1] for name, w in (("as it was", plain), ("turned", turned))}
before, after = (cosine_matrix(rows, rows) for rows in embedding.values())
cosine_gap = (before - after).abs().max()
print(f"largest change of a cosine between embeddings {cosine_gap:.1e}")
plot.imshow(
    torch.stack(list(embedding.values()))[:, :, :60],
    facets=list(embedding),
    x_label="axis of the stream",
    y_label="token",
    value_label="entry",
    title="The embedding, before and after a rotation",
)


# %% [markdown]
# So "axis 17 of the residual stream" should mean nothing. In a *trained* model, does it? Section 6 tests that.
#
# ## 4. How many directions a matrix uses
#
# The **singular value decomposition** $W = U S V^T$ says what a matrix does: it reads along columns of $U$, scales by
# the singular values $S$ (sorted), and writes along rows of $V^T$ (as $x W$). Keeping the $k$ largest is the
# best approximation of rank $k$.
# %% exercise="low_rank" points=1 difficulty=2 minutes=6
def low_rank(w: Float[Tensor, "m n"], k: int) -> Float[Tensor, "m n"]:
    """The matrix of rank k (or less) that is nearest to w, by sum of squares."""
    ### BEGIN SOLUTION
    u, s, vt = torch.linalg.svd(w, full_matrices=False)
    return u[:, :k] @ (s[:k, None] * vt[:k])
    ### END SOLUTION


# %% check="low_rank"
# %% [markdown]
# A head's **OV circuit** $W_V W_O$ is `[576 576]` of rank 64 at most. Never multiply
# it out: take the factors. With $A$ `[m r]`, $B$ `[r n]`:
#
# - the trace of $AB$ (m = n) is $\sum_{ij} A_{ij} B_{ji}$;
# - QR decompositions $A = Q_A R_A$, $B^T = Q_B R_B$ give $AB = Q_A (R_A R_B^T) Q_B^T$, and Q's change no lengths;
# - the eigenvalues of $AB$, but for zeros, are those of the small $BA$.
# %% exercise="factored_trace" points=1 difficulty=1 minutes=4
def factored_trace(a: Float[Tensor, "n r"], b: Float[Tensor, "r n"]) -> Float[Tensor, ""]:
    """The trace of a @ b, without making anything of size [n n]."""
    ### BEGIN SOLUTION
    return (a * b.T).sum()
    ### END SOLUTION


# %% check="factored_trace"
# %% exercise="rank_of_product" points=3 difficulty=4 minutes=20
def rank_of_product(
    a: Float[Tensor, "m r"], b: Float[Tensor, "r n"], share: float = 1e-5
) -> tuple[int, Float[Tensor, "r"]]:
    """The rank of a @ b, and its r largest singular values in falling order, without making
    anything of size [m n] (m, n at least r).

    The rank is the number of singular values above `share` of the largest; of zeros, 0.
    """
    ### BEGIN SOLUTION
    _, triangle_a = torch.linalg.qr(a)
    _, triangle_b = torch.linalg.qr(b.T)
    values = torch.linalg.svdvals(triangle_a @ triangle_b.T)
    return int((values > share * values[0]).sum()), values
    ### END SOLUTION


# %% check="rank_of_product"
# %% [markdown]
# Rank counts weak directions, too. The **participation ratio** $(\sum s^2)^2 / \sum s^4$ counts by weight: 64 for 64
# equal singular values, 1 for a single one.
#
# **Predict**: do the OV circuits of SmolLM2-135M-Instruct (unpacked from 4-bit, Q4_1, weights) use more or fewer
# directions than products of random matrices of the same shapes?
#
# <details><summary>Answer</summary>
#
# Most use fewer, and some very few. The random product is the null, and it is not 64.
#
# </details>
# %%
smol = models.smollm2()
W_V, W_O = smol.W_V.detach(), smol.W_O.detach()  # [30 3 576 64] and [30 9 64 576]
heads = [(layer, head) for layer in range(30) for head in range(9)]


def ov(layer: int, head: int) -> tuple[Tensor, Tensor]:
    """The factors of a head's OV circuit: three query heads share one value head."""
    return W_V[layer, head // 3], W_O[layer, head]


# %% experiment=True
def participation(values: Float[Tensor, "r"]) -> float:
    power = values.square()
    return (power.sum().square() / power.square().sum()).item()


of_heads = [participation(rank_of_product(*ov(*head))[1]) for head in heads]
null = [
    participation(
        rank_of_product(
            torch.randn(576, 64, generator=generator),
            torch.randn(64, 576, generator=generator),
        )[1]
    )
    for _ in range(30)
]
below, above = (sum(v < min(null) for v in of_heads), sum(v > max(null) for v in of_heads))
ranks = {rank_of_product(*ov(*head))[0] for head in heads}
print(f"ranks of the heads' OV circuits: {sorted(ranks)}")
print(
    f"participation ratio: heads {min(of_heads):.1f} to {max(of_heads):.1f},",
    f"median {sorted(of_heads)[135]:.1f}",
)
print(
    f"  random products {min(null):.1f} to {max(null):.1f};",
    f"of 270 heads {below} below the lowest, {above} above the highest",
)
print(
    "fewest directions:",
    [f"L{i}H{h} {v:.1f}" for v, (i, h) in sorted(zip(of_heads, heads, strict=True))[:4]],
)
plot.hist(
    {"heads": torch.tensor(of_heads), "random": torch.tensor(null)},
    bins=30,
    x_label="participation ratio of the OV circuit's singular values",
    y_label="how many",
    title="Directions used",
)


# %% [markdown]
# The null is for independent normal weights. That a head uses few directions does not say what for.
#
# ## 5. Does it copy?
#
# If what a head reads and what it writes are the same direction, $W_V W_O$ has an eigenvalue with positive real part
# there. *A Mathematical Framework* (Elhage et al., 2021) sums eigenvalues up:
#
# $$\frac{\sum_i \lambda_i}{\sum_i |\lambda_i|} = \frac{\sum_i \operatorname{Re} \lambda_i}{\sum_i |\lambda_i|}$$
#
# It is 1 if all the head does is to keep directions, -1 if it turns each round. The paper takes it of the whole way
# from token to logit, $W_E W_V W_O W_U$. It is `[49152 49152]` in SmolLM2, and its eigenvalues are those of a
# `[64 64]`: move factors round as in section 4.
# %% exercise="eigenvalue_copying_score" points=2 difficulty=3 minutes=10
def eigenvalue_copying_score(a: Float[Tensor, "n r"], b: Float[Tensor, "r n"]) -> float:
    """The sum of the real parts of the eigenvalues of a @ b over the sum of their absolute
    values, from the small product; 0 where all are 0.
    """
    ### BEGIN SOLUTION
    eigenvalues = torch.linalg.eigvals(b @ a)
    total = eigenvalues.abs().sum()
    return (eigenvalues.real.sum() / total).item() if total > 0 else 0.0
    ### END SOLUTION


# %% check="eigenvalue_copying_score"
# %% [markdown]
# **Predict**: what does a head's $W_V$ score with the $W_O$ of another layer? And of SmolLM2's 270 heads, with their
# own: are a few above 0.5, about 30, or over 100?
#
# <details><summary>Answer</summary>
#
# In the stream wrong pairs are near 0, as random matrices are. Of the heads over 100 are above a half, and some near
# -1: those write the opposite of what they read.
#
# </details>
# %% experiment=True
final = smol.ln_final.weight.detach()[:, None] * smol.W_U.detach()
unembed_embed = final @ smol.W_E.detach()  # [576 576], with the last norm's weights


def scores_with(shift: int) -> tuple[list[float], list[float]]:
    """Each head's W_V with the W_O so many layers on: in the stream, from token to logit."""
    in_stream, in_full = [], []
    for layer, head in heads:
        v, o = W_V[layer, head // 3], W_O[(layer + shift) % 30, head]
        norm = smol.blocks[layer].ln1.weight.detach()[:, None]
        in_stream.append(eigenvalue_copying_score(v, o))
        in_full.append(eigenvalue_copying_score(unembed_embed @ (norm * v), o))
    return in_stream, in_full


(scores, scores_in_full), (wrong, wrong_in_full) = scores_with(0), scores_with(15)
random_scores = [
    eigenvalue_copying_score(
        torch.randn(576, 64, generator=generator), torch.randn(64, 576, generator=generator)
    )
    for _ in range(100)
]
for name, of in (
    ("100 random matrices", random_scores),
    ("in the stream: wrong pairs", wrong),
    ("own pairs", scores),
    ("token to logit: wrong pairs", wrong_in_full),
    ("own pairs", scores_in_full),
):
    above, below = sum(s > 0.5 for s in of), sum(s < -0.5 for s in of)
    print(
        f"{name:>28}: {min(of):6.3f} to {max(of):.3f};",
        f"{above} above 0.5, {below} below -0.5",
    )
ranked = sorted(zip(scores, heads, strict=True))
for name, some in (("highest", ranked[::-1][:4]), ("lowest", ranked[:4])):
    print(f"{name}:", [f"L{layer}H{head} {score:.3f}" for score, (layer, head) in some])
plot.imshow(
    torch.tensor(scores).view(30, 9),
    x_label="head",
    y_label="layer",
    value_label="score",
    limit=1,
    title="Eigenvalue scores in the stream",
)
# %% [markdown]
# In the stream wrong pairs stay near 0. From token to logit they reach beyond 0.5 on either side: count beside *that*
# null. And positive eigenvalues mean copying on average, not proof.
#
# **A head has score -0.99. What does its output do to the part of the stream that it read?**
# (a) leaves it as it is; (b) doubles it; (c) takes some of it away
# %% exercise="answer_negative" points=1 difficulty=2 minutes=2
answer_negative = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_negative = "c"


### END SOLUTION
# %% check="answer_negative"
# %% [markdown]
# ## 6. Are the axes special after all?
#
# A **privileged basis** is one whose axes stand out: numbers along them are unlike those along random directions. A
# test: the **kurtosis** of a vector's coordinates, $\overline{x^4} / \overline{x^2}^2$, is 3 for normal numbers and
# large where few axes carry much. A rotation mixes the axes. If they were nothing special, nothing changes.
#
# <details><summary>Hint</summary>
#
# The kurtosis of each row over its axes, then the mean over rows. A random rotation is Q of the QR decomposition of a
# square of normal numbers; do it in float64.
#
# </details>
# %% exercise="privileged_basis_test" points=3 difficulty=4 minutes=20
def privileged_basis_test(
    x: Float[Tensor, "n d"], n_rotations: int, generator: torch.Generator
) -> tuple[float, list[float]]:
    """The mean over rows of the kurtosis over axes, mean(x^4) / mean(x^2)^2: of x as it is,
    and after each of n_rotations random rotations of its axes.
    """

    ### BEGIN SOLUTION
    def kurtosis(rows: Float[Tensor, "n d"]) -> float:
        return (rows.pow(4).mean(-1) / rows.square().mean(-1).square()).mean().item()

    x = x.double()
    rotated = []
    for _ in range(n_rotations):
        square = torch.randn(x.shape[1], x.shape[1], generator=generator, dtype=torch.float64)
        rotated.append(kurtosis(x @ torch.linalg.qr(square).Q))
    return kurtosis(x), rotated
    ### END SOLUTION


# %% check="privileged_basis_test"
# %% [markdown]
# **Predict**: for which of these do the axes stand out: random vectors; the neurons of an MLP, right after their
# nonlinearity; the residual stream?
#
# <details><summary>Answer</summary>
#
# Not for random vectors. For neurons, since the nonlinearity acts on each axis by itself (their inputs stand out far
# less). For the residual stream theory says no, and the trained model says yes.
#
# </details>
# %% experiment=True
text = (
    "When the rain had stopped, Anna walked down to the harbour and counted the boats. "
    "The old keeper of the lighthouse had seen them all, and went on mending his nets."
)
other_text = (
    "The committee will publish its report on public transport next spring, after hearing "
    "from engineers, drivers and passengers in eleven cities."
)


@torch.no_grad()
def layer_15(text: str) -> tuple[Tensor, ...]:
    """The stream, and the neurons before and after the nonlinearity, without the start."""
    parts = ("hook_resid_post", "mlp.hook_pre", "mlp.hook_post")
    names = [f"blocks.15.{part}" for part in parts]
    _, cache = smol.run_with_cache(smol.to_tokens(text), names_filter=names)
    return tuple(cache[name][0, 1:] for name in names)


stream, pre, post = layer_15(text)
vectors = {
    "random vectors": torch.randn(stream.shape, generator=generator),
    "token embeddings": smol.W_E.detach()[1000:3000],
    "neurons' inputs, layer 15": pre[:, :576],
    "neurons, layer 15": post[:, :576],
    "residual stream, layer 15": stream,
}
for name, rows in vectors.items():
    own, rotated = privileged_basis_test(rows, 20, generator)
    print(f"{name:>26}: kurtosis {evidence.against_null(own, rotated):.2f}")
other_stream = layer_15(other_text)[0]
size, other_size = stream.square().mean(0), other_stream.square().mean(0)
loud = size.argsort(descending=True)
print(
    f"the 3 loudest of 576 axes, {sorted(loud[:3].tolist())},",
    f"carry {size[loud[:3]].sum() / size.sum():.0%} of the stream's squares,",
    f"on another text {other_size[loud[:3]].sum() / other_size.sum():.0%}",
)
for name, axes in (
    ("all axes", loud),
    ("without the 3 loudest", loud[3:]),
    ("without 3 drawn at random", loud[torch.randperm(576, generator=generator)[3:]]),
):
    cosines = cosine_matrix(other_stream[:, axes], other_stream[:, axes])
    pairs = cosines[torch.ones_like(cosines).triu(1).bool()]
    print(f"mean cosine of two tokens of the other text, {name}: {pairs.mean():.2f}")
plot.bar(
    {
        "the text that chose them": size[loud[:10]] / size.sum(),
        "another text": other_size[loud[:10]] / other_size.sum(),
    },
    x=[str(int(axis)) for axis in loud[:10]],
    x_label="axis, loudest in the first text first",
    y_label="share of all squares",
    title="A few axes of the residual stream carry much of it (layer 15)",
)
# %% [markdown]
# A few axes are enormous, the same ones on a text that did not choose them. Nothing in the architecture asks for that
# but the norm's weights; Elhage et al. (*Privileged Bases in the Transformer Residual Stream*, 2023) trace it in models
# of theirs to Adam, which treats every axis by itself. A practical lesson: those axes make any two tokens look alike,
# as cosines go. Two texts, one layer: a finding about this model.
#
# **You rotate all weights that touch the stream, as in section 3. What does the test say of the new stream?**
# (a) about 3: the axes are mixed; (b) what it said before: the model is the same; (c) nothing: the logits have changed
# %% exercise="answer_rotated" points=1 difficulty=2 minutes=3
answer_rotated = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_rotated = "a"


### END SOLUTION
# %% check="answer_rotated"
# %% [markdown]
# ## 7. Directions from data
#
# **Principal components**: the directions along which a cloud of points varies most. Centre the points, then take the
# SVD.
# %% exercise="pca" points=2 difficulty=3 minutes=10
def pca(x: Float[Tensor, "n d"], k: int) -> tuple[Float[Tensor, "k d"], Float[Tensor, "k"]]:
    """The first k principal components (unit rows, of either sign), and the share of the
    variance that each of them explains.
    """
    ### BEGIN SOLUTION
    _, s, vt = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    return vt[:k], s[:k].square() / s.square().sum()
    ### END SOLUTION


# %% check="pca"
# %% [markdown]
# **Least squares**: the direction $w$ (and intercept $b$) from which a number is best read: $x \cdot w + b \approx y$.
#
#
# <details><summary>Hint</summary>
#
# A further column of ones makes the intercept a weight like the others. `torch.linalg.lstsq` solves for all.
#
# </details>
# %% exercise="least_squares_direction" points=2 difficulty=3 minutes=10
def least_squares_direction(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n"]
) -> tuple[Float[Tensor, "d"], Float[Tensor, ""]]:
    """The direction w and intercept b that make the sum of squares of x @ w + b - y least
    (n above d, columns independent).
    """
    ### BEGIN SOLUTION
    with_ones = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    solution = torch.linalg.lstsq(with_ones, y[:, None]).solution[:, 0]
    return solution[:-1], solution[-1]
    ### END SOLUTION


# %% check="least_squares_direction"
# %% [markdown]
# Can a token's *length in letters* be read from its embedding? Nobody trained for it. Fit on 3,000 tokens, and judge
# on 2,000 others.
#
# **Predict**: what share of the variance does the direction explain on the *fitted* tokens if the lengths are shuffled
# among them: 0, about 0.2, or over 0.5?
#
# <details><summary>Answer</summary>
#
# About 576 / 3,000 = 0.19: so many free numbers fit noise as well. On other tokens that turns negative.
#
# </details>
# %% experiment=True
order = torch.randperm(20_000, generator=generator)[:5000] + 1000
words = [smol.tokenizer.decode([int(token)]).strip() for token in order]
lengths = torch.tensor([len(word) for word in words]).double()
rows = smol.W_E.detach()[order].double()


def explained(w: Tensor, b: Tensor, x: Tensor, y: Tensor) -> float:
    return (1 - (x @ w + b - y).square().sum() / (y - y.mean()).square().sum()).item()


def fitted_and_held_out(x: Tensor, y: Tensor) -> tuple[float, float]:
    w, b = least_squares_direction(x[:3000], y[:3000])
    return explained(w, b, x[:3000], y[:3000]), explained(w, b, x[3000:], y[3000:])


real = fitted_and_held_out(rows, lengths)
shuffled = [
    fitted_and_held_out(rows, lengths[torch.randperm(5000, generator=generator)])
    for _ in range(20)
]
for i, name in enumerate(("fitted tokens", "other tokens")):
    print(
        f"{name}, length in letters:",
        f"{evidence.against_null(real[i], [pair[i] for pair in shuffled]):.2f}",
    )
w, b = least_squares_direction(rows[:3000], lengths[:3000])
known = {word[:4].lower() for word in words[:3000]}
strange = [i for i in range(3000, 5000) if words[i][:4].lower() not in known]
print(
    f"the {len(strange)} others that begin with four letters of no fitted token:",
    f"{explained(w, b, rows[strange], lengths[strange]):.2f}",
)
components, shares = pca(rows[:3000], 5)
drawn = torch.randn(5, 576, generator=generator, dtype=torch.float64)
print(
    f"from the first five principal components ({shares.sum():.0%} of the variance):",
    f"{fitted_and_held_out(rows @ components.T, lengths)[1]:.2f} on other tokens;",
    f"from five random directions: {fitted_and_held_out(rows @ drawn.T, lengths)[1]:.2f}",
)
# %% [markdown]
# It can be read, far above the shuffled null, and not only by way of relatives ("house" fitted, "houses" judged). The
# first principal components have little of it: what varies most is not what you look for. That the model *uses* the
# direction is another claim, and needs an experiment on the model.
#
# **Shuffle the labels again, but fit on 6,000 tokens. What share of the variance does the fit explain on these?**
# (a) 0.19 as before: labels without meaning stay without; (b) about 0.10: as many free numbers, twice as much noise;
# (c) about 0.38: twice the tokens, so twice as much to explain
# %% exercise="answer_shuffled" points=1 difficulty=2 minutes=3
answer_shuffled = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_shuffled = "b"
### END SOLUTION
# %% check="answer_shuffled"
# %% [markdown]
# ## Bonus (not graded)
#
# 1. **Which layer?** Run the privileged-basis test at every layer. Where do the loud axes appear, and are they the
#    same?
# 2. **Sparse rotations.** A rotation that mixes only pairs of axes: how many until the kurtosis has fallen to half?
# 3. **Copying, in full.** From token to logit wrong pairs score far from 0. Take the mean of all embeddings away: what
#    becomes of them? And which heads of the toy `attn_only_2l` copy?
# %% [markdown]
# ## Recap
#
# | confusion | what holds |
# |---|---|
# | "Axis 17 means something" | only in a privileged basis: test it against rotations |
# | "Cosine 0.2 is high" | of many pairs the largest is: compare with random directions |
# | "Remove two directions in turn" | at an angle, that leaves some of the first: remove their span |
# | "Its rank is 64, so it uses 64 directions" | look at the singular values, beside those of a random product |
# | "The first component is the important one" | it varies most, which is something else |
#
# Read on: Strang, *Introduction to Linear Algebra*; Elhage et al., *A Mathematical Framework for Transformer Circuits*
# (2021) and *Privileged Bases in the Transformer Residual Stream* (2023); Eckart and Young, *The approximation of one
# matrix by another of lower rank* (1936).
