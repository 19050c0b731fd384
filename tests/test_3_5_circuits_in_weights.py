"""Checks of 3.5 Circuits in the weights: on tiny random models, with shared keys and without, and on wired ones."""

import contextlib
import functools
import math

import pytest
import torch
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import wired
from concrete_steps.checking.testing import (
    assert_choice,
    assert_close,
    assert_gradient_values,
    assert_mostly_found,
    assert_plain,
    assert_precise,
    assert_tensor,
    assert_uncorrelated,
    nothing_left_behind,
    refuse_large,
    settled,
    strided,
    unchanged,
)

F32, F64 = torch.float32, torch.float64
# Changes that make no wrong answer; scripts/mutate.py counts them apart:
# equivalent mutant of factored_norm, drop .clamp(): a sum of squares falls below 0 by rounding alone
# equivalent mutant of factored_norm, 0 -> -1: the same
# equivalent mutant of top1_copying, 100 -> 101: how large a block is by default changes no result
# equivalent mutant of top1_copying, 100 -> 99: the same
# equivalent mutant of top1_copying, drop USub: of two axes, 1 is the last
# equivalent mutant of top1_copying, 1 -> -1: --1 is 1, of two axes the last
# equivalent mutant of top1_copying, drop device= of arange: the checks run on the CPU
# equivalent mutant of pattern_without, drop device= of ones: the checks run on the CPU
# equivalent mutant of pattern_without, masked_fill -> masked_fill_: the sum is the function's own
# equivalent mutant of pattern_without, [-2:] -> [:]: a mask for each row is the same mask
# equivalent mutant of pattern_without, 2 -> 3: the same
# equivalent mutant of random_baseline, drop dtype= of randn: the text promises nothing for float64
# equivalent mutant of random_baseline, first -> second: both have one dtype
# equivalent mutant of random_baseline, 1 -> 0: both factors have one dtype
# equivalent mutant of random_baseline, 1 -> -1 (2x): of two entries, 1 is the last
# equivalent mutant of decompose_input, drop names_filter= of run_with_cache: it keeps more than it needs
# equivalent mutant of decompose_input, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of pos_by_pos, drop USub (2x): of two axes, 1 is the last
# equivalent mutant of pos_by_pos, 1 -> -1 (2x): of two axes, 1 is the last
# equivalent mutant of pos_by_pos, masked_fill -> masked_fill_: the scores are the function's own
# equivalent mutant of pos_by_pos, drop ones_like(...): scores are never just 0
# equivalent mutant of decompose_scores, q_parts -> k_parts: both have one d_head
# equivalent mutant of effective_ov, drop dim= of cat: it is 0 by default
# equivalent mutant of effective_ov, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of find_composition, any: what finds enough of unseen pairs is right

# --- 1. Products that stay factors


def factors(rng, m, r, n, dtype=F32, front=()):
    """A pair of factors, not contiguous."""
    return strided(rng.normal(*front, m, r, dtype=dtype)), strided(rng.normal(*front, r, n, dtype=dtype))


def test_factored_norm(factored_norm, rng):
    """The root of the sum of squares of the product: thin, square and wide factors, one pair and many."""
    cases = [((3, 2, 4), F32, ()), ((1, 1, 1), F32, ()), ((5, 1, 2), F64, ()), ((4, 3, 4), F64, (2,))]
    cases += [((2, 5, 3), F32, ()), ((4, 2, 3), F32, (2, 3))]
    for (m, r, n), dtype, front in cases:
        a, b = factors(rng, m, r, n, dtype, front)
        with unchanged(a, b), nothing_left_behind():
            actual = assert_tensor(factored_norm(a, b), shape=front)
        expected = (a.double() @ b.double()).square().sum((-2, -1)).sqrt().to(dtype)
        assert_precise(actual, expected, "it is not the root of the sum of squares of a @ b", loosen=10)


def test_factored_norm__broadcast(factored_norm, rng):
    """Axes in front are broadcast against each other; a product of 0 has norm 0"""
    a, b = rng.normal(3, 1, 4, 2), rng.normal(2, 2, 5)
    actual = assert_tensor(factored_norm(a, b), shape=(3, 2))
    assert_precise(actual, (a @ b).square().sum((-2, -1)).sqrt(), "with axes in front it is not the norm", loosen=10)
    zero = assert_tensor(factored_norm(torch.zeros(3, 2), rng.normal(2, 3)), shape=())
    assert zero == 0, f"a product of zeros has norm 0, not {zero}"


def test_factored_norm__memory(factored_norm, rng):
    """Nothing of size [m n] is made"""
    a, b = rng.normal(600, 2), rng.normal(2, 500)
    with refuse_large(100_000):
        actual = factored_norm(a, b)
    assert_close(actual, (a @ b).norm(), "not the norm of a @ b", rtol=1e-3)


def test_factored_norm__gradient(factored_norm, rng):
    """Gradients reach both factors, and are the derivative"""
    assert_gradient_values(factored_norm, rng.normal(4, 2, dtype=F64), rng.normal(2, 3, dtype=F64), rng=rng)


def test_factored_svd(factored_svd, rng):
    """Orthonormal columns on both sides, the largest values in order, and the best product of rank k."""
    cases = [((4, 2, 3), 2, F32, ()), ((3, 3, 3), 2, F32, ()), ((6, 3, 5), 1, F64, ()), ((5, 2, 4), 2, F64, (3,))]
    cases += [((1, 1, 1), 1, F32, ()), ((7, 4, 6), 3, F32, (2, 2))]
    for (m, r, n), k, dtype, front in cases:
        a, b = factors(rng, m, r, n, dtype, front)
        with unchanged(a, b), nothing_left_behind():
            result = factored_svd(a, b, k)
        assert isinstance(result, tuple | list) and len(result) == 3, "the result is three tensors: U, S and V"
        u = assert_tensor(result[0], shape=(*front, m, k), dtype=dtype)
        s = assert_tensor(result[1], shape=(*front, k), dtype=dtype)
        v = assert_tensor(result[2], shape=(*front, n, k), dtype=dtype)
        whole = torch.linalg.svd(a.double() @ b.double(), full_matrices=False)
        loose = {"rtol": 1e-3, "atol": 1e-3} if dtype == F32 else {"rtol": 1e-8, "atol": 1e-8}
        assert_close(s, whole.S[..., :k].to(dtype), "S is not the k largest singular values of a @ b", **loose)
        near = (whole.U[..., :k] * whole.S[..., None, :k]) @ whole.Vh[..., :k, :]
        assert_close(
            (u * s[..., None, :]) @ v.mT,
            near.to(dtype),
            "U @ diag(S) @ V.mT is not a @ b kept to its k largest",
            **loose,
        )
        for name, of in (("U", u), ("V", v)):
            eye = torch.eye(k, dtype=dtype).expand(*front, k, k)
            assert_close(of.mT @ of, eye, f"the columns of {name} are not orthonormal", **loose)


def test_factored_svd__memory(factored_svd, rng):
    """Nothing of size [m n] is made"""
    a, b = rng.normal(600, 2), rng.normal(2, 500)
    with refuse_large(100_000):
        _, s, _ = factored_svd(a, b, 1)
    assert_close(s, torch.linalg.svdvals(a @ b)[:1], "S is not the largest singular value of a @ b", rtol=1e-3)


# --- The models of the checks

SIZES = {
    "plain": {"n_heads": 3, "n_layers": 3},
    "shared": {"n_heads": 4, "n_key_value_heads": 2, "n_layers": 2},
    "one head": {"n_heads": 1, "n_layers": 2},
    "six heads": {"n_heads": 6, "n_key_value_heads": 2, "n_layers": 2},
}


@functools.cache
def blank(kind):
    """A tiny model; its weights are drawn anew by `tiny`."""
    config = TransformerBridgeConfig(
        d_model=10, d_head=3, n_ctx=8, d_vocab=9, attn_only=True, normalization_type=None, seed=0, **SIZES[kind]
    )
    return TransformerBridge.boot_native(config, tokenizer=None).eval()


def tiny(kind, rng, scale=0.6):
    """A tiny model of random weights and no biases, which asks for no gradients."""
    model = blank(kind).requires_grad_(False)  # whatever an earlier answer did to it
    model.reset_hooks()
    for parameter in model.parameters():
        parameter.copy_(scale * rng.normal(*parameter.shape) if parameter.ndim > 1 else torch.zeros(parameter.shape))
    return settled(model)


def models(rng):
    return {kind: tiny(kind, rng) for kind in SIZES}


def weights(model, *head):
    """W_Q, W_K, W_V and W_O of a query head, read from the modules in float64."""
    layer, head = head
    cfg, attn = model.cfg, model.blocks[layer].attn
    kv = head // (cfg.n_heads // (cfg.n_key_value_heads or cfg.n_heads))
    read = {}
    for name, at in (("q", head), ("k", kv), ("v", kv)):
        read[name] = getattr(attn, name).weight.double().T[:, at * cfg.d_head : (at + 1) * cfg.d_head]
    out = attn.o.weight.double().T[head * cfg.d_head : (head + 1) * cfg.d_head]
    return read["q"], read["k"], read["v"], out


def ends(model):
    return model.embed.weight.double(), model.pos_embed.weight.double(), model.unembed.weight.double().T


@contextlib.contextmanager
def as_found(model, *inputs):
    """Model, inputs, modes and random state are as before, and no hook stays."""
    with unchanged(*inputs), nothing_left_behind(model):
        try:
            yield
        finally:
            left = [name for name, point in model.hook_dict.items() if point.fwd_hooks or point.bwd_hooks]
            model.reset_hooks()
            assert not left, f"hooks stay behind in the model, at {left[0]}"


def as_pair(circuit, rows, rank, columns):
    """The factors of a circuit."""
    assert isinstance(circuit, tuple | list) and len(circuit) == 2, (
        f"a circuit is a pair of factors (a, b), not {type(circuit).__name__}"
    )
    a, b = (assert_tensor(of) for of in circuit)
    assert a.shape == (rows, rank) and b.shape == (rank, columns), (
        f"the factors should be [{rows} {rank}] and [{rank} {columns}]; got {list(a.shape)} and {list(b.shape)}"
    )
    return a.double() @ b.double()


LOOSE = {"rtol": 1e-3, "atol": 1e-3}

# Heads that tell wrong indices apart; the last of "shared" reads the second key and value head.
HEADS = [("plain", (0, 1)), ("shared", (1, 1)), ("one head", (1, 0)), ("shared", (0, 3)), ("plain", (2, 0))]
HEADS += [("six heads", (1, 2))]


def check_circuit(call, expected, rng, meaning):
    """Circuits of one head: `call(model, layer, head)` is the pair of `expected(model, layer, head)`."""
    drawn = models(rng)
    for kind, head in HEADS:
        model = drawn[kind]
        with as_found(model):
            circuit = call(model, *head)
        actual = as_pair(circuit, 9, 3, 9)
        assert_close(actual, expected(model, *head), f"{kind}, layer {head[0]}, head {head[1]}: {meaning}", **LOOSE)


# --- 2. OV


def full_ov(model, layer, head):
    W_E, _, W_U = ends(model)
    _, _, V, out = weights(model, layer, head)
    return W_E @ V @ out @ W_U


def test_ov_circuit(ov_circuit, rng):
    """W_E W_V W_O W_U of a query head in thin factors, shared values included."""
    check_circuit(ov_circuit, full_ov, rng, "a @ b is not what looking at a token (row) adds to the logits (column)")


def test_ov_circuit__agrees(ov_circuit, rng):
    """A head of weight 1 on one position adds this token's row to the logits"""
    model, token = tiny("shared", rng), 5
    a, b = ov_circuit(model, 0, 2)
    stream = model.embed.weight[token]
    _, _, V, out = weights(model, 0, 2)
    assert_close((a @ b)[token].double(), stream.double() @ V @ out @ ends(model)[2], "row 5 is not that", **LOOSE)


def test_top1_copying(top1_copying, rng):
    """The share of rows whose largest entry is on the diagonal: for blocks that divide the rows and that do not."""
    for rows, rank, block, planted in [(4, 4, 3, 2), (1, 1, 1, 1), (7, 3, 2, 0), (30, 30, 7, 11), (12, 12, 100, 12)]:
        b = rng.normal(rank, rows)
        a = rng.normal(rows, rank)
        if planted:  # for some rows the diagonal wins, for others another column
            target = torch.arange(rows)
            target[planted:] = (target[planted:] + 1 + rng.integer(0, max(1, rows - planted))) % rows
            a, b = (2 * torch.eye(rows)[target] + 0.2 * rng.uniform(rows, rows)) - 3, torch.eye(rows)
        product = (a @ b).tolist()
        expected = sum(max(range(rows), key=row.__getitem__) == i for i, row in enumerate(product)) / rows
        a, b = strided(a), strided(b)
        with unchanged(a, b), nothing_left_behind():
            share = assert_plain(top1_copying((a, b), block), float)
        assert abs(share - expected) < 1e-6, (
            f"{rows} rows in blocks of {block}: in {expected:.3f} of the rows the largest entry is on the diagonal; "
            f"got {share:.3f}"
        )


def test_top1_copying__default(top1_copying, rng):
    """Without a block, on more rows than one block holds"""
    target = torch.arange(250)
    target[240:] = 0
    near = 1000 + 0.1 * torch.eye(250)[target]  # large entries that differ by little
    share = assert_plain(top1_copying((near, torch.eye(250))), float)
    assert abs(share - 240 / 250) < 1e-6, f"240 of 250 rows copy, a share of 0.96; got {share:.3f}"


def test_top1_copying__memory(top1_copying, rng):
    """No more rows at once than a block has"""
    a = torch.arange(400.0)[:, None]
    with refuse_large(50 * 400, "in blocks of 50, has more than 50 rows of 400 in memory"):
        top1_copying((torch.cat([a, torch.ones_like(a)], 1), rng.normal(2, 400)), 50)


def test_effective_ov(effective_ov, rng):
    """The sum of the heads' circuits as one pair of rank d_head times their number."""
    drawn = models(rng)
    cases = [("plain", [(0, 1), (0, 2)]), ("shared", [(1, 0), (1, 3), (0, 2)]), ("one head", [(1, 0)])]
    cases += [("plain", [(2, 0), (0, 0), (1, 2)])]
    for kind, heads in cases:
        model, listed = drawn[kind], list(heads)
        with as_found(model, listed):
            circuit = effective_ov(model, listed)
        actual = as_pair(circuit, 9, 3 * len(heads), 9)
        expected = sum(full_ov(model, *head) for head in heads)
        assert_close(actual, expected, f"heads {heads}: a @ b is not the sum of their circuits", **LOOSE)


def test_answer_ov(answer_ov):
    """OV says what is added, if the head looks there; where it looks is QK."""
    assert_choice(answer_ov, "b", "the circuit begins at the token that is looked at: what chooses that token?")


# --- 3. QK


def full_qk(model, layer, head):
    W_E, _, _ = ends(model)
    Q, K, _, _ = weights(model, layer, head)
    return (W_E @ Q) @ (W_E @ K).T / math.sqrt(3)


def test_qk_circuit(qk_circuit, rng):
    """W_E W_Q W_K^T W_E^T over the root of d_head, queries in rows, shared keys included."""
    meaning = "a @ b is not the score of a query token (row) with a key token (column)"
    check_circuit(qk_circuit, full_qk, rng, meaning)


def test_pos_by_pos(pos_by_pos, rng):
    """The causal pattern that positions alone make."""
    drawn = models(rng)
    for kind, (layer, head) in HEADS:
        model = drawn[kind]
        Q, K, _, _ = weights(model, layer, head)
        position = ends(model)[1]
        expected = torch.zeros(8, 8, dtype=F64)
        for query in range(8):
            scores = [math.exp((position[query] @ Q) @ (position[key] @ K) / math.sqrt(3)) for key in range(query + 1)]
            expected[query, : query + 1] = torch.tensor(scores, dtype=F64) / sum(scores)
        with as_found(model):
            pattern = assert_tensor(pos_by_pos(model, layer, head), shape=(8, 8))
        meaning = f"{kind}, layer {layer}, head {head}: row q is not how query q spreads its weight over keys 0 to q"
        assert_close(pattern.double(), expected, meaning, **LOOSE)


def test_pos_by_pos__low(pos_by_pos, rng):
    """A later key gets no weight, however low the scores of the earlier ones are"""
    model = tiny("one head", rng)
    attn = model.blocks[0].attn
    attn.q.weight.copy_(-400 * attn.k.weight)  # each position's own score is far below 0
    pattern = assert_tensor(pos_by_pos(settled(model), 0, 0), shape=(8, 8))
    assert pattern.triu(1).abs().max() < 1e-6 and (pattern.sum(-1) - 1).abs().max() < 1e-4, (
        f"with scores of -900 query 0 gives its own key the weight {pattern[0, 0]:.3g}, and should give 1: "
        "what is masked must be lower than any score"
    )


# --- 4. Parts


@torch.no_grad()
def parts_of(model, tokens, layer):
    """The parts of the stream before a layer, by hand."""
    kept = {}
    names = [f"blocks.{below}.attn.hook_z" for below in range(layer)]
    watch = [(name, lambda z, hook, name=name: kept.__setitem__(name, z.double())) for name in names]
    model.run_with_hooks(tokens, fwd_hooks=watch)
    W_E, position, _ = ends(model)
    parts = [W_E[tokens], position[: tokens.shape[1]].expand(*tokens.shape, -1)]
    for below, name in enumerate(names):
        parts += [kept[name][:, :, head] @ weights(model, below, head)[3] for head in range(model.cfg.n_heads)]
    return torch.stack(parts)


def test_decompose_input(decompose_input, rng):
    """Token, position, and each head of the layers before, in order; together they are the stream before the layer."""
    drawn, more = models(rng), [("one head", 0, 2, 5), ("six heads", 1, 1, 3)]
    for kind, layer, batch, pos in [("plain", 1, 2, 4), ("shared", 1, 1, 8), ("plain", 2, 3, 3), *more]:
        model, tokens = drawn[kind], rng.integers(0, 9, batch, pos)
        n_parts = 2 + layer * model.cfg.n_heads
        with as_found(model, tokens):
            actual = assert_tensor(decompose_input(model, tokens, layer), shape=(n_parts, batch, pos, 10))
        meaning = (
            f"layer {layer}, {model.cfg.n_heads} heads: entry i is not part i (token, position, then head after head)"
        )
        assert_close(actual.double(), parts_of(model, tokens, layer), meaning, **LOOSE)


def check_parts(call, which, rng):
    """What each part adds to queries or keys."""
    drawn = models(rng)
    for i, (kind, (layer, head)) in enumerate(HEADS):
        model, parts = drawn[kind], strided(rng.normal(2 + i, 2, 3, 10))
        with as_found(model, parts):
            actual = assert_tensor(call(model, parts, layer, head), shape=(2 + i, 2, 3, 3))
        expected = parts.double() @ weights(model, layer, head)["qk".index(which)]
        meaning = f"{kind}, layer {layer}, head {head}: entry i is not what part i adds to {which}"
        assert_close(actual.double(), expected, meaning, **LOOSE)


def test_decompose_q(decompose_q, rng):
    """Each part times the head's W_Q."""
    check_parts(decompose_q, "q", rng)


def test_decompose_k(decompose_k, rng):
    """Each part times the W_K that the query head reads, shared keys included."""
    check_parts(decompose_k, "k", rng)


def test_decompose_scores(decompose_scores, rng):
    """Scores for each pair of parts, over the root of d_head; queries' parts come first."""
    for q_n, k_n, batch, query, key, d, dtype in [
        (2, 3, 1, 2, 2, 4, F32),
        (1, 1, 2, 3, 3, 1, F32),
        (3, 2, 2, 4, 3, 9, F64),
        (2, 1, 1, 2, 5, 3, F32),
        (4, 4, 1, 5, 5, 2, F32),
    ]:
        q, k = (
            strided(rng.normal(q_n, batch, query, d, dtype=dtype)),
            strided(rng.normal(k_n, batch, key, d, dtype=dtype)),
        )
        with unchanged(q, k), nothing_left_behind():
            actual = assert_tensor(decompose_scores(q, k), shape=(q_n, k_n, batch, query, key))
        expected = torch.stack([torch.stack([q[i] @ k[j].mT / math.sqrt(d) for j in range(k_n)]) for i in range(q_n)])
        meaning = "entry [i, j] is not the score of the query's part i with the key's part j"
        assert_precise(actual, expected, meaning, loosen=10)


# --- 5. K-composition


def test_k_composition_circuit(k_composition_circuit, rng):
    """From the query's token to the token that the writer noted in the key, in units of scores."""
    drawn = models(rng)
    cases = [("plain", (0, 1), (1, 2)), ("shared", (0, 3), (1, 1)), ("one head", (0, 0), (1, 0))]
    cases += [("shared", (0, 0), (1, 3)), ("plain", (1, 0), (2, 1)), ("six heads", (0, 5), (1, 2))]
    for kind, writer, reader in cases:
        model = drawn[kind]
        with as_found(model):
            circuit = k_composition_circuit(model, writer, reader)
        actual = as_pair(circuit, 9, 3, 9)
        W_E, _, _ = ends(model)
        _, _, V, out = weights(model, *writer)
        Q, K, _, _ = weights(model, *reader)
        expected = (W_E @ Q) @ (W_E @ V @ out @ K).T / math.sqrt(3)
        meaning = (
            f"{kind}, {writer} to {reader}: a @ b is not the score of a query token (row) with a noted one (column)"
        )
        assert_close(actual, expected, meaning, **LOOSE)


# --- 6. Scores


def norm(x):
    return x.double().square().sum((-2, -1)).sqrt()


def test_composition_score(composition_score, rng):
    """norm(first @ second) over the product of the norms: one pair and many, of any ranks and sizes."""
    for m, r, d, s, n, dtype in [
        (2, 2, 3, 2, 2, F32),
        (4, 1, 5, 2, 3, F64),
        (1, 1, 1, 1, 1, F32),
        (3, 2, 4, 1, 6, F32),
    ]:
        first, second = factors(rng, m, r, d, dtype), factors(rng, d, s, n, dtype)
        first = (30 * first[0], first[1])  # a loud head composes no more than a quiet one
        with unchanged(*first, *second), nothing_left_behind():
            actual = assert_tensor(composition_score(first, second), shape=())
        whole = [a.double() @ b.double() for a, b in (first, second)]
        expected = norm(whole[0] @ whole[1]) / (norm(whole[0]) * norm(whole[1]))
        assert_precise(
            actual, expected.to(dtype), "it is not norm(first @ second) / (norm(first) norm(second))", loosen=30
        )


def test_composition_score__axes(composition_score, rng):
    """Axes in front are broadcast: writers down, readers across"""
    first, second = factors(rng, 4, 2, 5, front=(3, 1)), factors(rng, 5, 2, 6, front=(2,))
    actual = assert_tensor(composition_score(first, second), shape=(3, 2))
    for i in range(3):
        for j in range(2):
            a, b = first[0][i, 0] @ first[1][i, 0], second[0][j] @ second[1][j]
            expected = (norm(a @ b) / (norm(a) * norm(b))).float()
            assert_precise(actual[i, j], expected, f"entry [{i}, {j}] is not the score of that pair", loosen=30)


def test_composition_score__memory(composition_score, rng):
    """No whole product is made"""
    first, second = (rng.normal(600, 2), rng.normal(2, 500)), (rng.normal(500, 2), rng.normal(2, 600))
    with refuse_large(100_000):
        actual = composition_score(first, second)
    a, b = first[0] @ first[1], second[0] @ second[1]
    assert_close(actual, (norm(a @ b) / (norm(a) * norm(b))).float(), "not the score", rtol=1e-3)


def test_composition_scores(composition_scores, rng):
    """Each writer of a layer with each reader of a later one, by q, k or v, shared keys and values included."""
    drawn = models(rng)
    cases = [("plain", "k", 0, 1), ("shared", "k", 0, 1), ("shared", "v", 0, 1), ("shared", "q", 0, 1)]
    cases += [("plain", "q", 0, 2), ("plain", "v", 1, 2), ("one head", "k", 0, 1), ("six heads", "k", 0, 1)]
    for kind, part, below, layer in cases:
        model = drawn[kind]
        heads = range(model.cfg.n_heads)
        expected = torch.zeros(len(heads), len(heads), dtype=F64)
        for i in heads:
            for j in heads:
                _, _, V, out = weights(model, below, i)
                Q, K, V2, O2 = weights(model, layer, j)
                reads = {"q": Q @ K.T, "k": K @ Q.T, "v": V2 @ O2}[part]
                expected[i, j] = norm(V @ out @ reads) / (norm(V @ out) * norm(reads))
        with as_found(model):
            actual = assert_tensor(composition_scores(model, part, below, layer), shape=expected.shape)
        meaning = f"{kind}, by {part}, layer {below} to {layer}: entry [writer, reader] is not that pair's score"
        assert_close(actual.double(), expected, meaning, **LOOSE)


def rank_one(a, b):
    """A pair of factors of rank 1 that writes along a, or reads along a."""
    return a[:, None], b[None]


def test_random_baseline(random_baseline, rng):
    """Scores after a random rotation: their mean square is 1 over the width, whatever the two matrices are."""
    d, draws = 6, 100
    ones, axis, half = torch.ones(d), torch.eye(d)[0], torch.eye(d)[:3]
    # With it the deviation of a squared score: against one direction, of one (the largest that there is) or of three.
    cases = [
        (rank_one(rng.normal(4), ones), rank_one(axis, rng.normal(3)), "of rank 1", _deviation(1, d)),
        ((strided(torch.eye(3)), half), rank_one(axis, rng.normal(3)), "of ranks 3 and 1", _deviation(3, d)),
        (factors(rng, 4, 2, d), factors(rng, d, 3, 5), "of ranks 2 and 3", _deviation(1, d)),
    ]
    for first, second, said, deviation in cases:
        first, second = (5 * first[0], first[1]), (second[0], 0.1 * second[1])
        seed = rng.integer(0, 10_000)
        with unchanged(*first, *second), nothing_left_behind():
            scores = assert_tensor(random_baseline(first, second, draws, seed), shape=(draws,)).detach()
        assert scores.isfinite().all(), "some scores are not finite"
        assert bool((scores >= 0).all() and (scores <= 1.001).all()), (
            f"scores lie between 0 and 1, and one is {scores.max():.3g}: does your rotation keep lengths? "
            "Q of a QR decomposition does"
        )
        square, apart = scores.square().mean().item(), 6 * deviation / math.sqrt(draws)
        assert abs(square - 1 / d) < apart, (
            f"matrices {said}, width {d}: the mean square of {draws} scores is {square:.3f}; "
            f"random rotations give 1/{d} = {1 / d:.3f}, give or take {apart:.3f}"
        )
        assert scores.std() > 1e-4, "all draws give the same score: draw a rotation for each"


def _deviation(rank, d):
    """Of the squared score of `rank` equal directions with one other, randomly turned: a beta distribution."""
    return math.sqrt(2 * rank * (d - rank) / (d * d * (d + 2))) / rank


def test_random_baseline__lengths(random_baseline, rng):
    """What writes all directions alike still does so after a rotation: each score is 1 over the root of the width"""
    for d in (3, 5):
        everything = torch.linalg.qr(rng.normal(d, d)).Q, torch.linalg.qr(rng.normal(d, d)).Q
        scores = random_baseline(everything, rank_one(rng.normal(d), rng.normal(4)), 5, rng.integer(0, 1000))
        expected = torch.full((5,), d**-0.5)
        assert_close(
            scores, expected, "the first's singular values are not what they were: is your rotation orthogonal?"
        )


def test_random_baseline__draws(random_baseline, rng):
    """The same seed gives the same, another one others, and each draw is its own"""
    first, second = factors(rng, 4, 2, 5), factors(rng, 5, 2, 4)
    one, again, other = (random_baseline(first, second, 20, seed) for seed in (3, 3, 4))
    assert torch.equal(one, again), "the same seed gives other scores each time"
    assert not (one[:, None] == other).any(), "another seed gives some of the same scores"
    few = random_baseline(first, second, 2, 3)
    assert few.shape == (2,), f"2 draws give 2 scores, not {list(few.shape)}"
    many = random_baseline(first, second, 200, 5)
    for later in range(1, 20):  # powers of one rotation come back after some steps
        assert_uncorrelated(many[:-later], many[later:], f"a draw tells the one {later} later")
    # A few scores agree to the last digit of float32 by chance, in one run of a thousand.
    assert len(many.unique()) > 195, "some draws are the same: draw a rotation for each"


def test_answer_baseline(answer_baseline):
    """Above random means that something is read; not what, nor whether it helps."""
    assert_choice(answer_baseline, "c", "what does the score ask, and what did the diagonal ask?")


# --- 7. The prediction


def test_pattern_without(pattern_without, rng):
    """The causal pattern when parts are missing from the keys: none, one, several; queries keep theirs."""
    cases = [(3, 3, 1, 4, [1]), (2, 4, 2, 3, [0, 3]), (3, 2, 2, 5, []), (1, 3, 1, 1, [2]), (4, 4, 2, 4, [3, 1])]
    for q_n, k_n, batch, pos, without in cases:
        scores, listed = strided(3 * rng.normal(q_n, k_n, batch, pos, pos)), list(without)
        with unchanged(scores, listed), nothing_left_behind():
            actual = assert_tensor(pattern_without(scores, listed), shape=(batch, pos, pos))
        total = sum(scores[i, j] for i in range(q_n) for j in range(k_n) if j not in without)
        expected = torch.zeros(batch, pos, pos)
        for query in range(pos):
            expected[:, query, : query + 1] = total[:, query, : query + 1].softmax(-1)
        meaning = f"without parts {without} of the keys, row q is not how query q spreads its weight over keys 0 to q"
        assert_close(actual, expected, meaning)


def test_answer_weights(answer_weights):
    """Weights say what can be read; where and how much is a matter of the text."""
    assert_choice(answer_weights, "a", "which of the three did this notebook need a text for?")


# --- 9. Directions


def test_svd_of_ov(svd_of_ov, rng):
    """Channels of W_V W_O in the stream, read through embedding and unembedding; one sign for both sides."""
    drawn = models(rng)
    for (kind, (layer, head)), k in zip(HEADS, (2, 3, 1, 2, 3, 2), strict=True):
        model = drawn[kind]
        with as_found(model):
            result = svd_of_ov(model, layer, head, k)
        assert isinstance(result, tuple | list) and len(result) == 3, "the result is three tensors"
        reads, s, writes = (
            assert_tensor(of, shape=shape) for of, shape in zip(result, ((k, 9), (k,), (k, 9)), strict=True)
        )
        _, _, V, out = weights(model, layer, head)
        u, values, vt = torch.linalg.svd(V @ out)
        W_E, _, W_U = ends(model)
        said = f"{kind}, layer {layer}, head {head}"
        assert_close(s.double(), values[:k], f"{said}: not the {k} largest singular values of W_V W_O", **LOOSE)
        for i in range(k):
            both = reads[i].double()[:, None] * writes[i].double()[None]
            expected = (W_E @ u[:, i])[:, None] * (vt[i] @ W_U)[None]
            assert_close(
                both,
                expected,
                f"{said}: channel {i} does not read each token's embedding, and raise each token, as it should "
                "(up to a sign for both)",
                **LOOSE,
            )
            assert_close(
                reads[i].double().norm(), (W_E @ u[:, i]).norm(), f"{said}: channel {i} reads on another scale", **LOOSE
            )


# --- 10. Open task

NAMES = ("W_E", "W_pos", "W_Q", "W_K", "W_V", "W_O", "W_U")
# Seeds are drawn. Two of four layers, so that not to look beyond the third shows; three without a circuit, so that to
# name an edge always does.
WIRED = [
    {},
    {"n_layers": 4, "n_heads": 5, "noise": 0.02},
    {"n_layers": 2, "n_heads": 7, "circuits": ("q", "k", "v"), "noise": 0.01},
    {"n_layers": 4, "n_heads": 5, "circuits": ("k", "chain", "chain"), "n_tokens": 6},
    {
        "n_layers": 2,
        "n_heads": 6,
        "circuits": ("v", "k", "q"),
        "decoys": ("hollow writer", "deaf reader", "mute reader"),
    },
    {"circuits": (), "decoys": ("mute reader", "deaf reader", "unread writer"), "n_layers": 2, "n_heads": 4},
    {"circuits": (), "decoys": ("hollow writer", "late writer", "mute reader"), "n_heads": 3, "noise": 0.02},
    {"circuits": (), "decoys": ("deaf reader", "unread writer"), "n_layers": 2, "n_heads": 3},
    # Readers by values, and writers whose outputs match them and hold nothing but noise.
    {"circuits": ("v", "v"), "decoys": ("hollow writer",) * 4, "n_heads": 5, "noise": 0.02},
]


@pytest.mark.seconds(120)
def test_find_composition(find_composition, rng):
    """At least 90 % of the edges of unseen models, and at most 10 % others among those named."""
    found, missed, wrong = 0, [], []
    for sizes in WIRED:
        model, truth = wired.compositions(rng.integer(0, 100_000), **sizes)
        given = {name: getattr(model, name).detach().clone() for name in NAMES}
        with unchanged(given), nothing_left_behind(random_state=False):
            named = as_edges(find_composition(given), truth)
        found += len(named & truth.edges)
        missed += [said(edge, truth) for edge in sorted(truth.edges - named)]
        wrong += [said(edge, truth) for edge in sorted(named - truth.edges)]
    of = found + len(missed)
    assert_mostly_found(found, missed, wrong, f"in {len(WIRED)} models, {found} of {of} edges were found", "edge")


def as_edges(named, truth):
    """The learner's edges as ((layer, head), (layer, head), part)."""
    edges = set()
    try:
        for (below, i), (layer, j), part in named:
            edges.add(((int(below), int(i)), (int(layer), int(j)), str(part)))
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"the result is a set of edges ((layer, head), (layer, head), part), not {named!r:.80}"
        ) from error
    for writer, reader, part in edges:
        assert writer in truth.roles and reader in truth.roles and part in ("q", "k", "v"), (
            f"{(writer, reader, part)} is no edge of this model: heads are {sorted(truth.roles)}, parts q, k and v"
        )
    return edges


def said(edge, truth):
    writer, reader, part = edge
    return f"{part}: {truth.roles[writer]} to {truth.roles[reader]}"
