# %% [markdown]
# # 3.5 Circuits in the weights
#
# 3.2 and 3.4 found circuits by running a model on prompts. A head is also a few matrices, and they say what it *can*
# do on any prompt: which token it raises when it looks at one, which tokens and positions it looks for, and whose notes
# it is able to read.
#
# ![A head's OV and QK circuits, and an earlier head's OV before a later one's keys](figures/3.5_circuits.svg)
#
# You will read an induction circuit off a toy's weights, predict which head it needs, test the prediction on the
# running model, do the same in SmolLM2, and then read circuits in models that hide them.
# %% generated="overview"
# %% setup=True
from functools import partial
from itertools import product
from types import SimpleNamespace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import FactoredMatrix
from transformer_lens import utilities as utils
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import corpus, evidence, models, plot, wired

Head = tuple[int, int]  # (layer, head)
Edge = tuple[Head, Head, str]  # (writer, reader, "q", "k" or "v")
Factored = tuple[Tensor, Tensor]  # (a, b) stands for the product a @ b
# %% [markdown]
# ## 1. Products that stay factors
#
# What a head does with a token is $W_E W_V W_O W_U$. In SmolLM2 that is `[49152 49152]`, ten gigabytes, and its rank is
# 64. So we keep a thin pair $(A, B)$ with the product $AB$: `a` is `[m r]`, `b` is `[r n]`. A matrix from the left goes
# into `a`, one from the right into `b`.
#
# 1.2 had trace and eigenvalues of such a pair. Two more are needed, for many pairs at once (axes in front). With
# $\lVert X \rVert^2 = \operatorname{tr}(X^T X)$ and $\operatorname{tr}(XY) = \operatorname{tr}(YX)$:
#
# $$\lVert AB \rVert^2 = \operatorname{tr}\left((A^T A)(B B^T)\right)$$
#
# Both brackets are `[r r]`. They are symmetric: what is the trace of a product of two such matrices, entry by entry?
# %% exercise="factored_norm" points=1 difficulty=2 minutes=8
def factored_norm(
    a: Float[Tensor, "... m r"], b: Float[Tensor, "... r n"]
) -> Float[Tensor, "..."]:
    """The root of the sum of squares of all entries of a @ b, without making anything of size
    [m n]. Axes in front are broadcast.
    """
    ### BEGIN SOLUTION
    return ((a.mT @ a) * (b @ b.mT)).sum((-2, -1)).clamp(min=0).sqrt()
    ### END SOLUTION
# %% check="factored_norm"
# %% [markdown]
# ### Singular vectors
#
# First orthonormal bases: $A = Q_A R_A$ and $B^T = Q_B R_B$ give $AB = Q_A (R_A R_B^T) Q_B^T$. Take
# the SVD of the small middle, and turn its vectors back by the $Q$'s.
# %% exercise="factored_svd" points=2 difficulty=3 minutes=12
def factored_svd(
    a: Float[Tensor, "... m r"], b: Float[Tensor, "... r n"], k: int
) -> tuple[Float[Tensor, "... m k"], Float[Tensor, "... k"], Float[Tensor, "... n k"]]:
    """The k largest singular values of a @ b, in falling order, with what they read (columns
    of the first) and what they write (columns of the last), without making anything of size
    [m n].

    So a @ b is about U @ diag(S) @ V.mT. m and n are at least r, and k is at most r.
    """
    ### BEGIN SOLUTION
    q_a, r_a = torch.linalg.qr(a)
    q_b, r_b = torch.linalg.qr(b.mT)
    u, s, vt = torch.linalg.svd(r_a @ r_b.mT)
    return q_a @ u[..., :k], s[..., :k], q_b @ vt.mT[..., :k]
    ### END SOLUTION
# %% check="factored_svd"
# %% [markdown]
# TransformerLens has a class for this, `FactoredMatrix`, and gives all heads at once as `model.OV` and `model.QK`. They
# should agree with you.
#
# **Predict**: the norm of one of SmolLM2's OV circuits in the stream, `[576 576]` of rank 64. Count multiplications: is
# yours the faster by about 2, 5 or 50?
#
# <details><summary>Answer</summary>
#
# $576 \cdot 64 \cdot 576$ against twice $64 \cdot 576 \cdot 64$: 4.5. From token to logit, with 49,152 in place of
# 576, it is 384.
#
# </details>
# %% experiment=True
smol = models.smollm2().requires_grad_(False)  # nothing is trained here
a, b = smol.W_V[10, 1], smol.W_O[10, 4]
library = FactoredMatrix(a, b)
print(f"norm {factored_norm(a, b):.4f}, library's {library.norm():.4f}")
values = factored_svd(a, b, 3)[1]
print("values", [round(v, 3) for v in values.tolist()], end=", ")
print("library's", [round(v, 3) for v in library.S[:3].tolist()])
many = range(200)  # a single one is over too soon to be timed
times = evidence.ratio_of_times(
    lambda: [(a @ b).norm() for _ in many], lambda: [factored_norm(a, b) for _ in many]
)
print("200 times multiplied out, against factored:", times)
# %% [markdown]
# ## 2. OV: what a head does with what it sees
#
# If a head looks at token $i$ with weight 1, it adds row $i$ of $W_E\,W_V W_O\,W_U$ to the logits: the **full OV
# circuit**. In the course's attention-only toys (no norm or MLP, biases 0) it is exact.
#
# - `model.W_V` is `[layer head d_model d_head]`, `W_O` `[layer head d_head d_model]`: copies, put together anew each
#   time that you ask. `W_E`, `W_U` and `model.blocks[layer].attn.W_V` are the model's own: write into them, and you
#   change it.
# - With shared values (3.2) `W_V` and `W_K` have fewer heads than `W_O` and `W_Q`: a group of neighbours reads each.
#   Take sizes from the tensors. A wrong index raises nothing where it happens to exist.
# %% exercise="ov_circuit" points=1 difficulty=2 minutes=8
def ov_circuit(model: TransformerBridge, layer: int, head: int) -> Factored:
    """The full OV circuit of a query head, from the token looked at (row) to the logits
    (column), as thin factors: [d_vocab d_head] and [d_head d_vocab].

    The model has no norm; it may have shared values.
    """
    ### BEGIN SOLUTION
    shared_by = model.W_O.shape[1] // model.W_V.shape[1]
    return model.W_E @ model.W_V[layer, head // shared_by], model.W_O[layer, head] @ model.W_U
    ### END SOLUTION
# %% check="ov_circuit"
# %% [markdown]
# ### Does it copy?
#
# A head **copies** if looking at a token raises that token: the diagonal wins. The share of rows in which it does is
# measured a block of rows at a time.
# %% exercise="top1_copying" points=2 difficulty=3 minutes=10
def top1_copying(circuit: Factored, block: int = 100) -> float:
    """The share of rows i of a @ b whose largest entry stands in column i, with no more than
    `block` rows in memory at once. No two entries of a row are equal.
    """
    ### BEGIN SOLUTION
    a, b = circuit
    hits = 0
    for start in range(0, len(a), block):
        best = (a[start : start + block] @ b).argmax(-1)
        hits += (best == torch.arange(start, start + len(best), device=best.device)).sum().item()
    return hits / len(a)
    ### END SOLUTION
# %% check="top1_copying"
# %% [markdown]
# ### Several heads
#
# Several heads that look at the same place add up, as one circuit of a higher rank. The **effective** circuit of a set
# of heads has one pair of factors, too: how must theirs be put side by side?
#
# <details><summary>Hint</summary>
#
# $A_1 B_1 + A_2 B_2$ is a wide matrix times a tall one.
#
# </details>
# %% exercise="effective_ov" points=2 difficulty=3 minutes=8
def effective_ov(model: TransformerBridge, heads: list[Head]) -> Factored:
    """The sum of the full OV circuits of these heads, as one pair of factors: [d_vocab r] and
    [r d_vocab], where r is d_head times the number of heads.
    """
    ### BEGIN SOLUTION
    pairs = [ov_circuit(model, *head) for head in heads]
    return torch.cat([a for a, _ in pairs], dim=1), torch.cat([b for _, b in pairs], dim=0)
    ### END SOLUTION
# %% check="effective_ov"
# %% [markdown]
# **Predict**: the toy with one layer has 333 tokens. How many of its four heads copy more than half of the tokens? Do
# three together copy more than the best alone, or less? And the null: a head's $W_V$ with another head's $W_O$?
#
# <details><summary>Answer</summary>
#
# Three, and the fourth does something else. Together they copy nearly everything: their errors differ. Wrong pairs copy
# next to nothing, as chance does (1/333).
#
# </details>
# %% experiment=True
one = models.load("attn_only_1l").requires_grad_(False)
toy = models.load("attn_only_2l").requires_grad_(False)
untrained = models.load("attn_only_2l", step=0).requires_grad_(False)
N_TOKENS = one.cfg.d_vocab


def over_tokens(share: float) -> evidence.Interval:
    """A share of the toys' tokens, with its interval."""
    hits = round(share * N_TOKENS)
    return evidence.interval([1] * hits + [0] * (N_TOKENS - hits), "exact")


copying, wrong_pairs = {}, {}
for name, model in (("one layer", one), ("two layers", toy), ("untrained", untrained)):
    for layer in range(model.cfg.n_layers):
        own = [top1_copying(ov_circuit(model, layer, head)) for head in range(4)]
        crossed = []
        for head, other in product(range(4), range(4)):
            if head != other:
                pair = ov_circuit(model, layer, head)[0], ov_circuit(model, layer, other)[1]
                crossed.append(top1_copying(pair))
        copying[name, layer], wrong_pairs[name, layer] = own, max(crossed)
        said = ", ".join(f"{value:.2f}" for value in own)
        print(f"{name:>10}, layer {layer}: {said}; wrong pairs at most {max(crossed):.3f}")
joint = {}  # of several heads together, and of their values with the next one's W_O
for name, model, heads in (
    ("one layer, heads 1 to 3", one, [(0, 1), (0, 2), (0, 3)]),
    ("two layers, layer 0", toy, [(0, head) for head in range(4)]),
    ("two layers, layer 1", toy, [(1, head) for head in range(4)]),
):
    a, b = effective_ov(model, heads)
    pairs = (a, b), (a, b.roll(model.cfg.d_head, 0))
    joint[name] = [over_tokens(top1_copying(pair)) for pair in pairs]
    print(f"{name} together: {joint[name][0]:.2f}, wrong pairs {joint[name][1].value:.3f}")
WORDS = [one.tokenizer.decode([token]) for token in range(one.cfg.d_vocab)]
a, b = effective_ov(one, [(0, 1), (0, 2), (0, 3)])
few = list(range(40, 56))
plot.imshow(
    (a @ b)[few][:, few],
    x=[WORDS[i] for i in few],
    y=[WORDS[i] for i in few],
    x_label="token whose logit changes",
    y_label="token looked at",
    value_label="logit",
    title="Three heads of the toy with one layer: a corner of their OV circuit",
)
# %% [markdown]
# Layer 1 of the second toy copies, layer 0 does not. That does not make it idle: section 5 asks what it writes for
# readers other than the unembedding.
#
# **The OV circuit of a head copies 94 % of the tokens. What does that tell about a text?**
# (a) that it predicts the token that it has looked at most; (b) what it adds if it looks at a token, not where it
# looks; (c) that its words are going to be repeated in this text
# %% exercise="answer_ov" points=1 difficulty=1 minutes=2
answer_ov = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_ov = "b"
### END SOLUTION
# %% check="answer_ov"
# %% [markdown]
# ## 3. QK: where a head looks
#
# The **full QK circuit** $W_E W_Q W_K^T W_E^T / \sqrt{d_\text{head}}$ holds the score that a query of one token (row)
# gives a key of another (column). A constant added to a whole row changes nothing after the softmax: compare entries of
# one row, never of two.
# %% exercise="qk_circuit" points=1 difficulty=2 minutes=6
def qk_circuit(model: TransformerBridge, layer: int, head: int) -> Factored:
    """The full QK circuit of a query head, from query token (row) to key token (column), in
    units of the scores before the softmax: [d_vocab d_head] and [d_head d_vocab].

    The model has no norm; it may have shared keys.
    """
    ### BEGIN SOLUTION
    shared_by = model.W_Q.shape[1] // model.W_K.shape[1]
    queries = model.W_E @ model.W_Q[layer, head] / model.W_Q.shape[-1] ** 0.5
    return queries, (model.W_E @ model.W_K[layer, head // shared_by]).T
    ### END SOLUTION
# %% check="qk_circuit"
# %% [markdown]
# Positions have a circuit of their own, with $W_\text{pos}$ in place of $W_E$. It is small, so look at it as what it
# would be alone: an attention pattern.
# %% exercise="pos_by_pos" points=2 difficulty=3 minutes=10
def pos_by_pos(
    model: TransformerBridge, layer: int, head: int
) -> Float[Tensor, "query key"]:
    """The attention pattern [n_ctx n_ctx] of a head that sees nothing but positions: W_pos in
    place of the stream, causal, each query's weights sum to 1.
    """
    ### BEGIN SOLUTION
    shared_by = model.W_Q.shape[1] // model.W_K.shape[1]
    q = model.W_pos @ model.W_Q[layer, head]
    k = model.W_pos @ model.W_K[layer, head // shared_by]
    scores = q @ k.T / q.shape[-1] ** 0.5
    later = torch.ones_like(scores).triu(1).bool()
    return scores.masked_fill(later, -torch.inf).softmax(-1)
    ### END SOLUTION
# %% check="pos_by_pos"
# %% [markdown]
# **Predict**: for induction, layer 0 must look at the previous position. Does one head stand out? What would an even
# spread give, on average over 60 positions?
#
# <details><summary>Answer</summary>
#
# L0H1 by a factor of two; the other three look back, too. An even spread gives less than .1.
#
# </details>
# %% experiment=True
def on_previous(pattern: Float[Tensor, "query key"]) -> float:
    """The mean weight on the position before, for queries from 2 on."""
    return pattern.diagonal(-1)[1:].mean().item()


previous = {}
for name, model in (("trained", toy), ("untrained", untrained)):
    for layer in range(2):
        looks = [on_previous(pos_by_pos(model, layer, head)) for head in range(4)]
        previous[name, layer] = looks
        said = ", ".join(f"{value:.2f}" for value in looks)
        print(f"{name:>9}, layer {layer}: weight on the previous position {said}")
q, k = qk_circuit(one, 0, 1)  # and what do tokens look for?
for word in (" the", " he"):
    row = q[WORDS.index(word)] @ k
    best = [WORDS[i] for i in row.topk(6).indices]
    print(f"toy with one layer, head 1: {word!r} looks for {best}")
plot.imshow(
    torch.stack([pos_by_pos(toy, 0, head)[:24, :24] for head in range(4)]),
    facets=[f"L0H{head}" for head in range(4)],
    x_label="key position",
    y_label="query position",
    value_label="weight",
    scale="positive",
    title="Layer 0 from positions alone",
)
# %% [markdown]
# These are patterns of positions *alone*: in a text tokens add to the same scores. The last lines are half of a
# **skip-trigram**, read off weights: " the" looks for things that were named, and head 1 copies what it sees.
#
# ## 4. Whose query, whose key?
#
# In layer 1 the stream is a sum: token, position, and what each head of layer 0 wrote. Queries and keys are linear in
# it, and scores are linear in both. So each score is a sum over **pairs of parts**, with nothing left over.
#
# A trap: `cache["attn_scores", layer]` of this library's native models holds the pattern *after* the softmax (rows sum
# to 1; TransformerLens issue 1692). Do not test your scores against it: take their softmax, and compare patterns.
# %% exercise="decompose_input" points=2 difficulty=3 minutes=12
def decompose_input(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], layer: int
) -> Float[Tensor, "part batch pos d_model"]:
    """The parts that add up to the stream before `layer` (hook resid_pre): token embedding,
    position embedding, then what each head of the layers before wrote, layer by layer.

    The model has attention only, no norm, and biases of 0. No hook stays behind.
    """
    ### BEGIN SOLUTION
    parts = [model.W_E[tokens], model.W_pos[: tokens.shape[1]].expand(len(tokens), -1, -1)]
    names = [utils.get_act_name("z", below) for below in range(layer)]
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=names)
    for below, head in product(range(layer), range(model.cfg.n_heads)):
        parts.append(cache["z", below][:, :, head] @ model.W_O[below, head])
    return torch.stack(parts)
    ### END SOLUTION
# %% check="decompose_input"
# %% exercise="decompose_q" points=1 difficulty=1 minutes=3
def decompose_q(
    model: TransformerBridge,
    parts: Float[Tensor, "part batch pos d_model"],
    layer: int,
    head: int,
) -> Float[Tensor, "part batch pos d_head"]:
    """What each part adds to the queries of a head."""
    ### BEGIN SOLUTION
    return parts @ model.W_Q[layer, head]
    ### END SOLUTION
# %% check="decompose_q"
# %% exercise="decompose_k" points=1 difficulty=2 minutes=4
def decompose_k(
    model: TransformerBridge,
    parts: Float[Tensor, "part batch pos d_model"],
    layer: int,
    head: int,
) -> Float[Tensor, "part batch pos d_head"]:
    """What each part adds to the keys that a query head reads, which may be shared."""
    ### BEGIN SOLUTION
    shared_by = model.W_Q.shape[1] // model.W_K.shape[1]
    return parts @ model.W_K[layer, head // shared_by]
    ### END SOLUTION
# %% check="decompose_k"
# %% exercise="decompose_scores" points=2 difficulty=3 minutes=10
def decompose_scores(
    q_parts: Float[Tensor, "q_part batch query d_head"],
    k_parts: Float[Tensor, "k_part batch key d_head"],
) -> Float[Tensor, "q_part k_part batch query key"]:
    """What each pair of parts adds to the scores before the softmax, without a mask. The sum
    over both first axes gives the head's scores.
    """
    ### BEGIN SOLUTION
    pairs = torch.einsum("abqd,cbkd->acbqk", q_parts, k_parts)
    return pairs / q_parts.shape[-1] ** 0.5
    ### END SOLUTION
# %% check="decompose_scores"
# %% [markdown]
# Random tokens, repeated: where an induction head should look, how far is the score above that of the other keys of the
# first copy? Split by pairs, this says who finds the place.
#
# **Predict**: 6 x 6 pairs. How many carry most of the gap, and which?
#
# <details><summary>Answer</summary>
#
# Two: the *token* in the query, with what *L0H1* and *L0H0* wrote in the key. Scores by position are as large, and
# nearly the same for right and wrong keys.
#
# </details>
# %% experiment=True
BLOCK = 30
generator = torch.Generator().manual_seed(0)


def repeated(rows: int) -> Int[Tensor, "row 2*block+1"]:
    """[BOS], then 30 random words of the stories, twice."""
    once = torch.randint(4, 333, (rows, BLOCK), generator=generator)
    return torch.cat([torch.ones(rows, 1, dtype=torch.long), once, once], dim=1)


QUERIES = torch.arange(BLOCK + 1, 2 * BLOCK + 1)  # the second copy
KEYS = QUERIES - BLOCK + 1  # the tokens after the first copy of each
tokens = repeated(32)
parts = decompose_input(toy, tokens, 1)
PARTS = ["token", "position", *(f"L0H{head}" for head in range(4))]
scores = [
    decompose_scores(decompose_q(toy, parts, 1, head), decompose_k(toy, parts, 1, head))
    for head in range(4)
]
_, cache = toy.run_with_cache(tokens)
later = torch.ones(2 * BLOCK + 1, 2 * BLOCK + 1).triu(1).bool()
pattern = scores[0].sum((0, 1)).masked_fill(later, -torch.inf).softmax(-1)
off = (pattern - cache["pattern", 1][:, 0]).abs().max()
sums = cache["attn_scores", 1].sum(-1)
print(f"pattern from the parts, off by {off:.0e}")
print(f"rows of 'attn_scores' sum to {sums.min():.3f} ... {sums.max():.3f}: a pattern")


def gap(scores):
    """How far the right key is above the others of the first copy, by pair of parts."""
    right, all_keys = scores[..., QUERIES, KEYS].mean(-1), scores[..., QUERIES, 1 : BLOCK + 1]
    return (right - all_keys.mean((-2, -1))) * BLOCK / (BLOCK - 1)  # right is one of BLOCK


gaps = [gap(each) for each in scores]  # a head each: [q_part k_part row]
for head in range(4):
    by_row = gaps[head].sum((0, 1))
    share = gaps[head][0, 2:4].sum(0).mean() / by_row.mean()
    both = f"token with L0H0 and L0H1: {share:.0%}"
    print(f"L1H{head}: gap {evidence.interval(by_row):.1f}, of it {both}")
plot.imshow(
    gaps[0].mean(-1),
    x=PARTS,
    y=PARTS,
    x_label="part of the key",
    y_label="part of the query",
    value_label="gap",
    text=True,
    title="L1H0: how far the right key stands out",
)
# %% [markdown]
# That used prompts. What follows does not.
#
# ## 5. The K-composition circuit
#
# Put the writer's OV circuit before the reader's keys: a query of token $i$ (row), and a key where the writer has
# looked at token $j$ (column).
#
# $$W_E W_Q^{r}\,\left(W_E W_V^{w} W_O^{w} W_K^{r}\right)^T / \sqrt{d_\text{head}}$$
#
# In an induction circuit, a query of "Mrs" should match a key with the note "after Mrs": the diagonal again.
# %% exercise="k_composition_circuit" points=2 difficulty=4 minutes=12
def k_composition_circuit(
    model: TransformerBridge, writer: Head, reader: Head
) -> Factored:
    """From query token (row) to the token that the writer noted in the key (column), in units
    of scores: [d_vocab d_head] and [d_head d_vocab].

    The model has no norm; it may have shared keys and values.
    """
    ### BEGIN SOLUTION
    (below, early), (layer, late) = writer, reader
    shared_by = model.W_Q.shape[1] // model.W_K.shape[1]
    noted = model.W_E @ model.W_V[below, early // shared_by] @ model.W_O[below, early]
    queries = model.W_E @ model.W_Q[layer, late] / model.W_Q.shape[-1] ** 0.5
    return queries, (noted @ model.W_K[layer, late // shared_by]).T
    ### END SOLUTION
# %% check="k_composition_circuit"
# %% [markdown]
# **Predict**: for which of the four writers does the diagonal win? And without any writer, in the reader's plain QK
# circuit: does an induction head look for its own token?
#
# <details><summary>Answer</summary>
#
# For L0H1 on nearly every token, for L0H0 on nine of ten; the other two on one of ten or so. Plain: on none.
#
# </details>
# %% experiment=True
def matches(model: TransformerBridge) -> Float[Tensor, "writer reader"]:
    """How many tokens the K-composition circuit of each pair matches with themselves."""
    return torch.tensor(
        [
            [
                top1_copying(k_composition_circuit(model, (0, writer), (1, reader)))
                for reader in range(4)
            ]
            for writer in range(4)
        ]
    )


matched = matches(toy)
plain = [top1_copying(qk_circuit(toy, 1, reader)) for reader in range(4)]
unmatched = matches(untrained).max()
print(f"untrained: at most {unmatched:.3f}; plain QK: at most {max(plain):.3f}")
plot.imshow(
    matched,
    x=[f"L1H{head}" for head in range(4)],
    y=[f"L0H{head}" for head in range(4)],
    x_label="reader",
    y_label="writer",
    value_label="share",
    scale="positive",
    text=True,
    title="Tokens that match themselves through the writer",
)
# %% [markdown]
# ## 6. Composition scores
#
# That test asked for one pattern, the diagonal. Elhage et al. (2021) ask less: does the reader read *anything* of what
# the writer writes?
#
# $$\frac{\lVert W_{OV}^{w}\, W^{r} \rVert}{\lVert W_{OV}^{w} \rVert\ \lVert W^{r} \rVert}$$
#
# $W^r$ is what the reader does with the stream that it composes with: by queries $W_Q W_K^T$, by keys $W_K W_Q^T$, by
# values $W_V W_O$. (The paper's $W_{QK}$ acts on columns, ours on rows.) Norms are of the whole product; both norms
# below belong to it, or a loud head composes with everybody.
# %% exercise="composition_score" points=2 difficulty=3 minutes=10
def composition_score(
    first: Factored, second: Factored
) -> Float[Tensor, "..."]:
    """norm(first @ second) / (norm(first) * norm(second)), for pairs of factors of which the
    second reads what the first writes. Axes in front are broadcast.

    Args:
        first: [... m r] and [... r d]. second: [... d s] and [... s n].
    """
    ### BEGIN SOLUTION
    (a, b), (c, d) = first, second
    whole = factored_norm(a, (b @ c) @ d)
    return whole / (factored_norm(a, b) * factored_norm(c, d))
    ### END SOLUTION
# %% check="composition_score"
# %% exercise="composition_scores" points=2 difficulty=4 minutes=15
def composition_scores(
    model: TransformerBridge, part: str, below: int, layer: int
) -> Float[Tensor, "writer reader"]:
    """The composition score of each head of layer `below` with each query head of `layer`,
    through one input of the reader.

    Args:
        part: "q", "k" or "v". The model may have shared keys and values.
    """
    ### BEGIN SOLUTION
    shared_by = model.W_Q.shape[1] // model.W_K.shape[1]
    W_K, W_V = (w.repeat_interleave(shared_by, dim=1) for w in (model.W_K, model.W_V))
    W_Q, W_O = model.W_Q, model.W_O
    readers = {
        "q": (W_Q[layer], W_K[layer].mT),
        "k": (W_K[layer], W_Q[layer].mT),
        "v": (W_V[layer], W_O[layer]),
    }
    return composition_score((W_V[below][:, None], W_O[below][:, None]), readers[part])
    ### END SOLUTION
# %% check="composition_scores"
# %% [markdown]
# ### What does chance give?
#
# The null must keep what is not composition: the singular values of both. So turn one against the other: put a random
# **rotation** $R$ between writer and reader, $W_{OV} R W$, and score again. (Gaussian matrices in place of the heads
# have other singular values; the mean comes out the same, the spread does not.)
#
# <details><summary>Hint</summary>
#
# A random rotation is Q of the QR decomposition of a square of normal numbers. It may go into a factor of the first.
#
# </details>
# %% exercise="random_baseline" points=2 difficulty=3 minutes=10
def random_baseline(
    first: Factored, second: Factored, draws: int, seed: int
) -> Float[Tensor, "draws"]:
    """The composition scores of one pair, with a random rotation (orthogonal, drawn for each
    score anew) between what the first writes and what the second reads.

    Args:
        first: [m r] and [r d]. second: [d s] and [s n].
        seed: the same seed gives the same scores again, another seed others.
    """
    ### BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    d = second[0].shape[0]
    scores = []
    for _ in range(draws):
        square = torch.randn(d, d, generator=generator, dtype=first[1].dtype)
        scores.append(composition_score((first[0], first[1] @ torch.linalg.qr(square).Q), second))
    return torch.stack(scores)
    ### END SOLUTION
# %% check="random_baseline"
# %% [markdown]
# **Predict**: the toy's 16 pairs. Do L0H0 and L0H1, which the diagonal picked out, lie alone above the random scores by
# keys? Where do queries and values lie: at the random scores, above, or below?
#
# <details><summary>Answer</summary>
#
# By keys *all four* writers beat the random scores, with every reader. By queries and values nearly all lie below them.
#
# </details>
# %% experiment=True
by_part = {part: composition_scores(toy, part, 0, 1) for part in "qkv"}
rotated = {part: [] for part in "qkv"}
for writer, reader in product(range(4), range(4)):
    W_OV = toy.W_V[0, writer], toy.W_O[0, writer]
    reads = {
        "q": (toy.W_Q[1, reader], toy.W_K[1, reader].T),
        "k": (toy.W_K[1, reader], toy.W_Q[1, reader].T),
        "v": (toy.W_V[1, reader], toy.W_O[1, reader]),
    }
    for part, matrices in reads.items():
        draws = random_baseline(W_OV, matrices, 20, seed=4 * writer + reader)
        rotated[part].append(draws)
rotated = {part: torch.cat(draws) for part, draws in rotated.items()}
print(f"1/sqrt(128) = {128**-0.5:.3f}; {len(rotated['k'])} rotated scores for each input")
for part, of in by_part.items():
    before, null = composition_scores(untrained, part, 0, 1), rotated[part]
    print(f"by {part}: {of.min():.3f} to {of.max():.3f};", end=" ")
    print(f"rotated {null.min():.3f} to {null.max():.3f};", end=" ")
    print(f"untrained {before.min():.3f} to {before.max():.3f}")
    above, below = (of > null.max()).sum(), (of < null.min()).sum()
    print(f"  of 16 pairs {above} above all rotated scores, {below} below all of them")
for writer in range(4):
    mean = by_part["k"][writer].mean().item()
    print(f"L0H{writer} by k: mean over readers {mean:.3f}")
plot.hist(
    {**{part: of.flatten() for part, of in by_part.items()}, "k, rotated": rotated["k"]},
    bins=45,
    density=True,
    x_label="composition score",
    title="The toy's 16 pairs, by input of the reader",
)
# %% [markdown]
# Training has turned layer 0's outputs towards layer 1's keys, and away from its queries and values.
#
# **L0H2 and L0H3 beat every random score, too. What follows?**
# (a) the baseline is wrong, since these two match few tokens; (b) layer 1 needs their notes to find its keys; (c) its
# keys read some of what they write, useful or not
# %% exercise="answer_baseline" points=1 difficulty=2 minutes=3
answer_baseline = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_baseline = "c"
### END SOLUTION
# %% check="answer_baseline"
# %% [markdown]
# ## 7. A prediction, tested
#
# From weights alone, three readings of which writer the induction heads need: its composition score; the share of
# tokens that match; and that share times its weight on the previous position, since a note is worth nothing if it is
# about the wrong place.
#
# The test is causal: take the writer out of the **keys alone**. In a two-layer toy that is leaving one part out of the
# sum of section 4. (3.2 did it by hooks, for the whole layer.)
# %% exercise="pattern_without" points=2 difficulty=3 minutes=10
def pattern_without(
    scores: Float[Tensor, "q_part k_part batch query key"], without: list[int]
) -> Float[Tensor, "batch query key"]:
    """The causal attention pattern of a head whose keys lack the listed parts; its queries
    have all of theirs.

    Args:
        scores: from decompose_scores, unmasked. They stay as they are.
    """
    ### BEGIN SOLUTION
    kept = [part for part in range(scores.shape[1]) if part not in without]
    total = scores.sum(0)[kept].sum(0)
    later = torch.ones(total.shape[-2:], dtype=torch.bool, device=total.device).triu(1)
    return total.masked_fill(later, -torch.inf).softmax(-1)
    ### END SOLUTION
# %% check="pattern_without"
# %% [markdown]
# **Predict**: write down the order of the four writers by how much the induction score (weight on the right key) falls
# without each. Then look.
#
# <details><summary>Answer</summary>
#
# L0H1, then L0H0; the other two next to nothing. That is the order of the third reading.
#
# </details>
# %% experiment=True
fresh = repeated(32)  # rows that chose nothing
parts = decompose_input(toy, fresh, 1)
wrote = parts[2:]  # by layer 0
noise = torch.randn(wrote.shape, generator=generator)  # the null: as long as what each wrote
noise = noise * wrote.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
padded = torch.cat([parts, noise, -noise])  # cancels, unless one of the two is left out
drops, by_noise = torch.zeros(2, 4, 4, 32)  # each [writer reader row]
alone = torch.zeros(4, 32)
for reader in range(4):
    its = decompose_scores(
        decompose_q(toy, parts, 1, reader), decompose_k(toy, padded, 1, reader)
    )
    alone[reader] = pattern_without(its, [])[:, QUERIES, KEYS].mean(-1)
    for writer, (fall, out) in product(range(4), ((drops, 2), (by_noise, 6))):
        without = pattern_without(its, [out + writer])[:, QUERIES, KEYS].mean(-1)
        fall[writer, reader] = alone[reader] - without
readings = {
    "composition score": by_part["k"].mean(1),
    "tokens that match": matched.mean(1),
    "matching x previous": matched.mean(1) * torch.tensor(previous["trained", 0]),
}
said = ", ".join(f"{value:.2f}" for value in alone.mean(1))
print("induction score of the four readers:", said)
print("writer " + "  ".join(readings) + "   drop of the induction score, noise")
for writer in range(4):
    row = "  ".join(f"{of[writer]:{len(name)}.3f}" for name, of in readings.items())
    fall = evidence.interval(drops[writer].mean(0))  # over rows
    print(f"L0H{writer}   {row}   {fall:.3f}, {by_noise[writer].mean():.3f}")
by_weights = {name: of for name, of in readings.items() if name != "tokens that match"}
plot.bar(
    {**by_weights, "drop, measured": drops.mean((1, 2))},
    x=[f"L0H{writer}" for writer in range(4)],
    x_label="writer",
    y_label="score, share or drop",
    title="Two predictions from weights, and the test",
)
# %% [markdown]
# All three put L0H1 first. The score alone says that L0H2 and L0H3 are nearly as good; without either the induction
# score falls by .03 of .84, and by .01 without noise of that length. The third reading comes close even in size, which
# nobody promised. Four writers in one trained model: an example, no law.
#
# Needed for what? Keys serve more than repeats:
# %% experiment=True
told = corpus.batch(200, toy.cfg.n_ctx, seed="3.5")
real = (told[:, 1:] != 0).float()  # the rest is padding
wrote = decompose_input(toy, told, 1)[2:]
noise = torch.randn(wrote.shape, generator=generator)
noise = noise * wrote.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)


def story_loss(taken: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch"]:
    """The loss on stories if layer 1's keys lack this part of the stream."""
    def lacking(k, hook):
        return k - torch.einsum("bpd,hde->bphe", taken, toy.W_K[1])

    hooks = [(utils.get_act_name("k", 1), lacking)]
    loss = toy.run_with_hooks(told, fwd_hooks=hooks, return_type="loss", loss_per_token=True)
    return (loss * real).sum(1) / real.sum(1)


whole = story_loss(torch.zeros_like(wrote[0]))
print(f"loss on stories: {whole.mean():.2f} nats")
on_stories = []  # what it costs; how much more than noise
for writer in range(4):
    costs, by_chance = (story_loss(taken[writer]) - whole for taken in (wrote, noise))
    than_noise = evidence.difference(costs, by_chance, paired=True)
    on_stories.append((evidence.interval(costs), than_noise))
    print(f"keys without L0H{writer}: {on_stories[-1][0]:.3f} more;", end=" ")
    print(f"than without noise {than_noise:.3f}")
# %% [markdown]
# On stories keys without L0H2 cost .06 nats; without L0H0 no more than without noise. What a head is for is not read
# off one score, nor off one measure.
#
# ## 8. A real model
#
# What changes in SmolLM2:
#
# - **Norm weights** stand before each reader: fold them into $W_Q, W_K, W_V$ and $W_U$, as below.
#   (`enable_compatibility_mode` does so to the model itself, for good, and needs memory for several copies.) The norm's
#   *scale* depends on the text, and no weight tells it.
# - **Rotary**: queries and keys are turned by their positions in between, so $W_Q W_K^T$ is another matrix for each
#   distance, and there is no $W_\text{pos}$. For keys, score $W_{OV} W_K$ alone.
# - **Shared keys**: a writer composes with three readers at once.
# - **MLPs**, and 17 layers: what a middle layer reads is no plain embedding.
# %% experiment=True
norms = torch.stack([block.ln1.weight for block in smol.blocks])[:, None, :, None]
folded = SimpleNamespace(  # what your functions take from a model
    cfg=smol.cfg,
    W_E=smol.W_E,
    **{name: norms * getattr(smol, name) for name in ("W_Q", "W_K", "W_V")},
    W_O=smol.W_O,
    W_U=smol.ln_final.weight[:, None] * smol.W_U,
)
W_V, W_O, W_K = folded.W_V.repeat_interleave(3, 1), folded.W_O, folded.W_K
same = torch.eye(64)  # W_K alone, as a pair of factors
turning = torch.Generator().manual_seed(0)
to_keys, turned = torch.full((2, 30, 9, 30, 3), torch.nan)  # each [layer head, layer keys]
for below in range(29):
    keys = W_K[below + 1 :].flatten(0, 1), same
    rotation = torch.linalg.qr(torch.randn(576, 576, generator=turning)).Q
    outputs = (to_keys, W_O[below]), (turned, W_O[below] @ rotation)
    for (scores, W_out), head in product(outputs, range(9)):
        its = composition_score((W_V[below, head], W_out[head]), keys)
        scores[below, head, below + 1 :] = its.unflatten(0, (-1, 3))
known = ~to_keys.isnan()
ranked = to_keys.where(known, torch.tensor(0.0)).flatten().topk(6).indices.tolist()
first = [
    (place // 810, place // 90 % 9, place // 3 % 30, place % 3, to_keys.flatten()[place])
    for place in ranked
]
print(f"{known.sum()} pairs: median {to_keys[known].median():.3f},", end=" ")
print(f"99.9 % below {to_keys[known].quantile(0.999):.3f};", end=" ")
print(f"rotated: mean {turned[known].mean():.3f}, highest {turned[known].max():.3f}")
for below, head, layer, keys, score in first:
    readers = f"L{layer}H{3 * keys} to H{3 * keys + 2}"
    print(f"L{below}H{head} to the keys of {readers}: {score:.3f}")
of_17, of_18 = to_keys[:18, :, 17, 1].nan_to_num(), to_keys[:18, :, 18, 2]
plot.imshow(
    torch.stack([of_17.T, of_18.T]),
    facets=["keys of L17H3 to H5", "keys of L18H6 to H8"],
    x_label="layer",
    y_label="writer's head",
    value_label="score",
    scale="positive",
    title="SmolLM2: who writes for these keys",
)
# %% [markdown]
# ### The second prediction
#
# The three highest of 11,745 pairs end at the keys of L17H3 to H5 and L18H6 to H8. 3.2 found induction heads there
# (L17H3, L17H4, L17H5, L18H6), on prompts; and 3.4 that L16H0 works through keys. Here nothing ran.
#
# **Predict**: L11H1 looks at the previous token nearly as much as L16H0 does, and has less than half its score. Which
# will these induction heads miss in their keys: L16H0, L11H1, both? And L17H8, whose score with L18H6 is the highest of
# all: more than L16H0, or less?
#
# <details><summary>Answer</summary>
#
# L16H0 and not L11H1. L17H8: less, by far. High scores say who may be read, not how much it matters.
#
# </details>
# %% experiment=True
BOS, SMOL_BLOCK = smol.tokenizer.bos_token_id, 16
once = torch.randint(17, smol.cfg.d_vocab, (5, SMOL_BLOCK), generator=generator)
smol_rows = torch.cat([torch.full((5, 1), BOS), once, once], dim=1)
ends = torch.arange(SMOL_BLOCK + 1, 2 * SMOL_BLOCK + 1)


def attention_of(layer: int, hooks: list) -> tuple[Tensor, Tensor]:
    """Keys and patterns of one layer, in a run that ends there."""
    kept = {}
    names = [utils.get_act_name(part, layer) for part in ("k", "pattern")]

    def watch(x, hook, name):
        kept[name] = x.clone()

    watching = [(name, partial(watch, name=name)) for name in names]
    smol.run_with_hooks(
        smol_rows, fwd_hooks=[*hooks, *watching], stop_at_layer=layer + 1, return_type=None
    )
    return kept[names[0]], kept[names[1]]


def induction_of(layer: int, head: int, pattern: Tensor) -> Float[Tensor, "row"]:
    return pattern[:, head, ends, ends - SMOL_BLOCK + 1].mean(-1)


def mean_of(writer: Head):
    """A hook that puts a head's z at its mean over rows and positions."""
    def at_mean(z, hook):
        z = z.clone()
        z[:, :, writer[1]] = z[:, :, writer[1]].mean((0, 1))
        return z

    return utils.get_act_name("z", writer[0]), at_mean


looks_back = {}
for layer, head in ((16, 0), (11, 1)):
    pattern = attention_of(layer, [])[1]
    back = pattern.diagonal(-1, dim1=2, dim2=3)[..., 1:].mean(-1)  # [row head]
    rest = max(back[:, other].mean().item() for other in range(9) if other != head)
    back = evidence.interval(back[:, head])
    print(f"L{layer}H{head}: weight on the token before {back:.2f};", end=" ")
    print(f"the other heads of its layer at most {rest:.2f}")
    looks_back[layer, head] = back, rest
tested = {(17, 3): [(16, 0), (11, 1), (15, 1)], (18, 6): [(16, 0), (17, 8), (11, 1), (15, 1)]}
smol_drops = {}
for (layer, head), writers in tested.items():
    _, pattern = attention_of(layer, [])
    whole = induction_of(layer, head, pattern)
    print(f"L{layer}H{head}: induction score {evidence.interval(whole):.2f}")
    for writer in writers:
        keys, _ = attention_of(layer, [mean_of(writer)])
        put = (utils.get_act_name("k", layer), lambda k, hook, keys=keys: keys)
        _, pattern = attention_of(layer, [put])
        fall = evidence.interval(whole - induction_of(layer, head, pattern))
        score = to_keys[(*writer, layer, head // 3)]
        smol_drops[(layer, head), writer] = score, fall
        name = f"L{writer[0]}H{writer[1]}"
        print(f"  keys without {name:>6}: score {score:.3f}, falls by {fall:.2f}")
# %% [markdown]
# For L17H3 the weights picked the writer out of 153, and the prompts agree; for L18H6 they put L17H8 first, which
# matters little. L15H1 comes next in score, L11H1 has L16H0's pattern: both beat every rotated score, and these two
# readers miss neither. (k as it is with the head at its mean everywhere before: paths through layers between count.)
#
# **Which of these can be read from SmolLM2's weights alone?**
# (a) whose output a head's keys can read, loudly or not; (b) how far L16H0 looks back in a text; (c) how much L17H3
# would lose without L16H0
# %% exercise="answer_weights" points=1 difficulty=2 minutes=3
answer_weights = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_weights = "a"
### END SOLUTION
# %% check="answer_weights"
# %% [markdown]
# ## 9. Reading a head's directions
#
# The SVD of an OV circuit *in the stream* splits a head into channels: reads along $u_i$, scales by $s_i$, writes along
# $v_i$. Read $u_i$ through the embedding and $v_i$ through the unembedding, and each channel becomes two lists of
# tokens. (Millidge & Black 2022.) A singular vector has no sign of its own: turn both $u_i$ and $v_i$, and the product
# is the same. So look at both ends; and never turn one alone.
# %% exercise="svd_of_ov" points=2 difficulty=3 minutes=12
def svd_of_ov(
    model: TransformerBridge, layer: int, head: int, k: int
) -> tuple[Float[Tensor, "k d_vocab"], Float[Tensor, "k"], Float[Tensor, "k d_vocab"]]:
    """The k strongest channels of W_V W_O: how far each token's embedding lies along what a
    channel reads, the singular values, and how far what it writes raises each token.

    Shared values as before. A channel may have either sign, the same for reading and writing.
    """
    ### BEGIN SOLUTION
    shared_by = model.W_O.shape[1] // model.W_V.shape[1]
    u, s, v = factored_svd(model.W_V[layer, head // shared_by], model.W_O[layer, head], k)
    return (model.W_E @ u).T, s, v.T @ model.W_U
    ### END SOLUTION
# %% check="svd_of_ov"
# %% [markdown]
# **Predict**: in late heads, do the eight tokens that a channel reads most and the eight that it raises most share
# words? ($W_U$ is $W_E$ in SmolLM2, so what copies shares them.) The null: the list that one channel reads beside the
# one that another channel of the same head writes.
#
# <details><summary>Answer</summary>
#
# In some heads most of them, in about half of the heads few or none. Between channels: nearly never.
#
# </details>
# %% experiment=True
def words(scores: Float[Tensor, "d_vocab"]) -> list[str]:
    """The eight highest tokens, in small letters and without spaces."""
    top = scores.topk(8).indices.tolist()
    return [smol.tokenizer.decode([token]).strip().lower() for token in top]


CHANNELS = 4
own, crossed = {}, {}
for layer, head in product(range(24, 30), range(9)):
    reads, _, writes = svd_of_ov(folded, layer, head, CHANNELS)
    lists = [
        (set(words(sign * read)), set(words(sign * write)))
        for read, write in zip(reads, writes, strict=True)
        for sign in (1, -1)
    ]
    both = [len(r & w) / max(1, len(w)) for r, w in lists]
    own[layer, head] = sum(both) / len(both)
    others = [
        len(r & w) / max(1, len(w))
        for i, (r, _) in enumerate(lists)
        for j, (_, w) in enumerate(lists)
        if i // 2 != j // 2
    ]
    crossed[layer, head] = sum(others) / len(others)
best_heads = sorted(own, key=own.get, reverse=True)[:2]
share_own = evidence.interval(list(own.values()))
share_crossed = evidence.interval(list(crossed.values()))
print(f"words shared, over 54 heads: {share_own:.2f}; between channels {share_crossed:.2f}")
for what, of in (("their own", own), ("between channels", crossed)):
    many, few = sum(x > 0.5 for x in of.values()), sum(x < 0.1 for x in of.values())
    print(f"{what}: heads that share over half: {many}; less than a tenth: {few}")
for layer, head in best_heads:
    print(f"L{layer}H{head}: {own[layer, head]:.2f}, the highest of 54")
    reads, _, writes = svd_of_ov(folded, layer, head, 2)
    for i, sign in product(range(2), (1, -1)):
        read, write = (words(sign * of[i])[:5] for of in (reads, writes))
        print(f"  channel {i}, {'+' if sign > 0 else '-'}: reads {read}, writes {write}")
# %% [markdown]
# A list that can be read is not yet a function: it is built of plain embeddings, which a late layer hardly sees, and
# chosen for its beauty among 54 heads. What stands is the difference from the null.
#
# ## 10. Open task: read the circuit
#
# You get weights, no model: `W_E`, `W_pos`, `W_Q`, `W_K`, `W_V`, `W_O`, `W_U` of an attention-only transformer, written
# by hand and hidden by random rotations of the stream and of each head. Some are a little noisy: taking an edge away
# moves some logit by 10, taking away what noise carries by about 1 at most.
#
# Name every **edge** (writer, reader, part): the reader's queries, keys or values take in what the writer notes, *and*
# something of the text gets through to the logits. Decoys have matching weights and carry nothing:
# writers with nothing to read, readers whose output nobody reads, keys that no query asks for, notes written too late.
# There may be chains, and there may be no edge at all.
#
# Your function is tried on models that you have not seen: it must find at least 90 % of the edges, and at most 10 % of
# those that it names may be others. It has two minutes for all of them.
#
# <details><summary>Hint</summary>
#
# Which rows can the stream hold before layer 0? After it? Send *them* through the products, and measure in units that
# mean something: scores, logits. Then walk back from the logits.
#
# </details>
# %%
NAMES = ("W_E", "W_pos", "W_Q", "W_K", "W_V", "W_O", "W_U")
example, truth = wired.compositions(seed=0)
example_weights = {name: getattr(example, name).detach().clone() for name in NAMES}
print({name: list(value.shape) for name, value in example_weights.items()})
for role in sorted(set(truth.roles.values())):
    print(f"{role:>14}: {[head for head, its in truth.roles.items() if its == role]}")
print("edges:", *sorted(truth.edges), sep="\n  ")
# %% exercise="find_composition" points=5 difficulty=5 minutes=50
def find_composition(weights: dict[str, Float[Tensor, "..."]]) -> set[Edge]:
    """The edges (writer, reader, part) through which something of the text reaches the
    logits.

    Args:
        weights: W_E, W_pos [n d_model], W_Q, W_K, W_V [layer head d_model d_head], W_O [layer
            head d_head d_model], W_U [d_model d_vocab].
    """
    ### BEGIN SOLUTION
    W_Q, W_K, W_V, W_O, W_U = (weights[f"W_{name}"] for name in "QKVOU")
    n_layers, n_heads, _, d_head = W_Q.shape
    heads = list(product(range(n_layers), range(n_heads)))

    def in_scores(left: Tensor, right: Tensor) -> bool:
        """Whether these rows of queries and keys make scores of more than 5."""
        return bool((left @ right.T).abs().max() > 5 * d_head**0.5)

    # Forward: the rows that the stream can hold before each layer, and those that each head can write.
    there, wrote = [torch.cat([weights["W_E"], weights["W_pos"]])], {}
    for layer in range(n_layers):
        for head in range(n_heads):
            wrote[layer, head] = there[layer] @ W_V[layer, head] @ W_O[layer, head]
        there.append(torch.cat([there[layer], *(wrote[layer, head] for head in range(n_heads))]))
    # Backward: which heads reach the logits, by themselves or through a later one.
    edges, reaching = set(), {head for head in heads if (wrote[head] @ W_U).abs().max() > 1}
    for reader in reversed(heads):
        if reader not in reaching:
            continue
        rows = there[reader[0]]
        for writer in heads:
            if writer[0] >= reader[0]:
                continue
            note = wrote[writer]
            moved = note @ W_V[reader] @ W_O[reader]
            carries = {
                "q": in_scores(note @ W_Q[reader], rows @ W_K[reader]),
                "k": in_scores(rows @ W_Q[reader], note @ W_K[reader]),
                "v": moved.norm() > 0.3 * note.norm() and note.norm() > 0.1 * weights["W_E"].norm(),
            }
            edges |= {(writer, reader, part) for part, does in carries.items() if does}
            reaching |= {writer} if any(carries.values()) else set()
    return edges
    ### END SOLUTION
# %% check="find_composition"
# %% experiment=True
found = find_composition(example_weights)
print("missed:", sorted(truth.edges - found))
print("wrong: ", sorted(found - truth.edges))
n_found, n_wrong = len(found & truth.edges), len(found - truth.edges)
# The null: decoys and single heads, and nothing that composes
lone, _ = wired.compositions(seed=0, circuits=(), decoys=("mute reader", "deaf reader"))
lone_weights = {name: getattr(lone, name).detach().clone() for name in NAMES}
print("without a circuit:", find_composition(lone_weights))
raw = []  # the composition score alone: edges and decoys
for (below, i), (layer, j) in product(truth.roles, truth.roles):
    if below < layer:
        score = composition_scores(example, "k", below, layer)[i, j].item()
        is_edge = ((below, i), (layer, j), "k") in truth.edges
        roles = f"{truth.roles[below, i]} to {truth.roles[layer, j]}"
        raw.append((score, is_edge, roles))
print("highest composition scores by k:")
for score, is_edge, roles in sorted(raw, reverse=True)[:6]:
    print(f"  {score:.2f} {'edge ' if is_edge else 'decoy'} {roles}")
# %% [markdown]
# ## What was found
#
# Value, 95 % interval over what is independent, and the null that matches.
# %% experiment=True
three, layer_0, layer_1 = joint.values()
least = over_tokens(min(copying["one layer", 0][1:]))
one_wrong = wrong_pairs["one layer", 0]
looks, looks_untrained = previous["trained", 0][1], max(previous["untrained", 0])
gap_said, rest_said = (
    evidence.interval(gaps[0][0, keys].sum(0)) for keys in (slice(2, 4), slice(4, 6))
)
by_one = over_tokens(matched[1].min().item())  # by the reader that matches fewest
halves, halves_null = (
    evidence.interval([each > 0.5 for each in of.values()], "exact") for of in (own, crossed)
)
lines = [
    ("factored norm, times as fast", times.times, "counted 4.5"),
    ("one layer, heads 1 to 3 copy", three[0], f"wrong pairs {three[1]:.2f}"),
    ("  the least of the three alone", least, f"wrong pairs at most {one_wrong:.3f}"),
    ("two layers, layer 1 copies", layer_1[0], f"layer 0 {layer_0[0]:.2f}"),
    ("L0H1's weight on the token before", looks, f"untrained at most {looks_untrained:.2f}"),
    ("L1H0's gap: L0H0, L0H1 in the key", gap_said, f"L0H2, L0H3 {rest_said:.2f}"),
    ("tokens matched by L0H1, at least", by_one, f"untrained at most {unmatched:.3f}"),
]
for part, of in by_part.items():
    low, high = rotated[part].aminmax()
    over_writers = f"{evidence.interval(of.mean(1)):.3f}"
    lines.append((f"composition by {part}", over_writers, f"rotated {low:.3f} to {high:.3f}"))
for head, (back, rest) in looks_back.items():
    what = f"L{head[0]}H{head[1]}'s weight on the token before"
    lines.append((what, back, f"its layer's others at most {rest:.2f}"))
lines += [
    ("words a channel reads and writes", share_own, f"between channels {share_crossed:.2f}"),
    ("  heads that share over half", halves, f"between channels {halves_null:.2f}"),
    ("open task: edges found", f"{n_found} of {len(truth.edges)}", f"others {n_wrong}"),
]
for what, value, beside in lines:
    value = value if isinstance(value, str) else f"{value:.2f}"
    print(f"{what:<36} {value:<22} {beside}")
print("\ntoy, keys without a writer")
print(f"{'':<6}{'induction falls':<19}{'by noise':<19}{'stories cost':<22}more than noise")
for writer, (costs, than_noise) in enumerate(on_stories):
    falls = (evidence.interval(of[writer].mean(0)) for of in (drops, by_noise))
    fall, by_chance = (f"{each:.2f}" for each in falls)
    print(f"L0H{writer}  {fall:<19}{by_chance:<19}{f'{costs:.3f}':<22}{than_noise:.3f}")
print("\nSmolLM2, keys without a writer")
print(f"{'':<16}score (rotated at most {turned[known].max():.3f})   induction falls")
for (reader, writer), (score, fall) in smol_drops.items():
    pair = f"L{writer[0]}H{writer[1]} to L{reader[0]}H{reader[1]}"
    print(f"{pair:<16}{score:<32.3f}{fall:.2f}")
# %% [markdown]
# Intervals: t (shares: exact), over rows, stories, heads, the toys' 333 tokens, seven timings, or the four writers of
# the composition scores (whose 16 by k are each above every rotated one); each null's range is over all its draws. A
# single number of one set of weights has no interval: nothing was sampled. Two toys trained by us, one seed each, one
# model written by hand, and one real model, SmolLM2-135M-*Instruct*, unpacked from 4-bit weights.
#
# ## Bonus (not graded)
#
# 1. L16H5 scores .11 with the keys of L17H0 to H2. What does it write, and do they miss it?
# 2. Score writers with readers' *values* in SmolLM2 (virtual heads). Which pairs stand out of the rotated null?
# 3. Compute the scores of section 6 at every checkpoint of the toy: do they rise before the induction score does, or
#    with it?
# 4. The K-composition circuit of L16H0 and L17H3 at distance 0, on 1,000 tokens: what share match themselves?
# 5. Composition with the weights as they are, not folded: which conclusions change?
#
# ## Recap
#
# Keep factors; read OV (what), QK (where), and products of the two (whose notes); compare with rotated weights; then
# test on the running model.
#
# | confusion | what holds |
# |---|---|
# | "Its OV circuit copies, so it predicts repeats" | only where it looks at them: that is QK |
# | "The composition score beats chance, so they form a circuit" | all four of layer 0 did; two carry induction |
# | "It attends to the previous token, so it feeds induction" | L11H1 does, and the two heads tested do not miss it |
# | "`attn_scores` are scores" | in native models they are softmaxed |
# | "The weights say how much it matters" | L17H8 scores higher than L16H0, and matters less |
# | "Head 4 has its own W_V" | with shared values heads 3, 4 and 5 have one |
#
# Read on: Elhage et al. 2021, *A Mathematical Framework for Transformer Circuits*; Millidge & Black 2022, *The Singular
# Value Decompositions of Transformer Weight Matrices are Highly Interpretable*; Olsson et al. 2022, *In-context
# Learning and Induction Heads*; `transformer_lens.FactoredMatrix`; `model.all_composition_scores`.
