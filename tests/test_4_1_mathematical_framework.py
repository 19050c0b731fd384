"""Checks of 4.1 A Mathematical Framework, in code: on tiny random models, on tables, and on models of known paths."""

# equivalent mutant of bigram_of_zero_layers, drop USub: of two axes, 1 is the last
# equivalent mutant of bigram_of_zero_layers, 1 -> -1: --1 is 1, of two axes the last
# equivalent mutant of bigram_kl, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of bigram_kl, Mult -> MatMult: the dot product is the sum
# equivalent mutant of path_expansion, Eq -> LtE: no tuple is below the empty one but itself
# equivalent mutant of path_expansion, Lt -> NotEq: heads come layer by layer, so no path ends in a later one yet
# equivalent mutant of path_expansion, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of virtual_head, 1 -> -1: the last of two patterns is the second
# equivalent mutant of term_importance, NotEq -> Gt: no token is below 0
# equivalent mutant of term_importance, 0 -> -1: zeros like any term: all have one shape
# equivalent mutant of term_importance, 1 -> -1 (2x): of two axes, 1 is the last
# equivalent mutant of term_importance, Mult -> Pow: x ** 1 is x, and the 1 of a padding goes in the difference
# equivalent mutant of key_weight, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of skip_trigrams, drop tuple(...): lists of three are accepted as well
# equivalent mutant of skip_trigrams, drop .tolist(): whole numbers in tensors are accepted as well
# equivalent mutant of skip_trigrams, 1 -> -1 (2x): of two axes, 1 is the last
# equivalent mutant of skip_trigram_shares, Gt -> NotEq: a count is not below 0
# equivalent mutant of skip_trigram_shares, BitAnd -> Mult (3x): of booleans the product is the and
# equivalent mutant of skip_trigram_shares, NotEq -> Gt: no token is below 0
# equivalent mutant of skip_trigram_shares, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of exclusive_or, any: whichever numbers compute it, in all contexts that there are, are right
# equivalent mutant of find_paths, any: what finds the paths of models that nobody has seen is right
# equivalent mutant of skip_trigram_bug, 1 -> -1: of two axes, 1 is the last

import contextlib
import itertools
import math

import pytest
import torch

from concrete_steps import wired
from concrete_steps.checking.testing import (
    assert_choice,
    assert_close,
    assert_mostly_found,
    assert_plain,
    assert_tensor,
    drawn_bridge,
    nothing_left_behind,
    refuse_large,
    settled,
    strided,
    unchanged,
)

F32, F64 = torch.float32, torch.float64
LOOSE = {"rtol": 1e-3, "atol": 1e-3}

# --- The models of the checks

SIZES = {
    "no layers": {"n_layers": 0, "n_heads": 2},
    "one layer": {"n_layers": 1, "n_heads": 3},
    "two layers, shared": {"n_layers": 2, "n_heads": 4, "n_key_value_heads": 2},
    "three layers": {"n_layers": 3, "n_heads": 2},
    "many tokens": {"n_layers": 1, "n_heads": 3, "d_vocab": 300},
}


def tiny(kind, rng, scale=0.6):
    """A tiny attention-only model of random weights and no biases, which asks for no gradients."""
    sizes = {"d_model": 10, "d_head": 3, "n_ctx": 8, "d_vocab": 9, **SIZES[kind]}
    model = drawn_bridge(rng, scale, biases=False, attn_only=True, normalization_type=None, **sizes)
    return settled(model.requires_grad_(False))


def models(rng):
    """Drawn once for a check: what a recorded call has seen must not change under it."""
    return {kind: tiny(kind, rng) for kind in SIZES if kind != "many tokens"}


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


def values_and_out(model, layer, head):
    """W_V and W_O of a query head, read from the modules in float64."""
    cfg, attn = model.cfg, model.blocks[layer].attn
    kv = head // (cfg.n_heads // (cfg.n_key_value_heads or cfg.n_heads))
    V = attn.v.weight.double().T[:, kv * cfg.d_head : (kv + 1) * cfg.d_head]
    return V, attn.o.weight.double().T[head * cfg.d_head : (head + 1) * cfg.d_head]


def ends(model):
    return model.embed.weight.double(), model.pos_embed.weight.double(), model.unembed.weight.double().T


def some_tokens(rng, rows, length):
    return rng.integers(0, 9, rows, length)


# --- 1. No layers


def test_bigram_of_zero_layers(bigram_of_zero_layers, rng):
    """Row i is the log-probability of each token after token i; positions have no part in it."""
    drawn = models(rng)
    for kind in ("no layers", "one layer"):
        model = drawn[kind]
        with as_found(model):
            table = assert_tensor(bigram_of_zero_layers(model), shape=(9, 9))
        W_E, _, W_U = ends(model)
        meaning = "entry [i, j] is not the log-probability of token j after token i"
        assert_close(table.double(), (W_E @ W_U).log_softmax(-1), meaning, **LOOSE)


def test_bigram_kl(bigram_kl, rng):
    """The KL of each row, from the counts' law to the table, weighted by how often the row's token occurs."""
    cases = [[[2.0, 2.0], [0.0, 4.0]], [[0.0, 0.0], [1.0, 3.0]], [[5.0]], [[1.0, 0.0, 7.0], [2.0, 2.0, 0.0], [0.0] * 3]]
    for rows in [*cases, rng.integers(0, 4, 6, 6).tolist(), rng.integers(0, 9, 4, 4).tolist()]:
        counts = torch.tensor(rows).float()
        if not counts.any():
            continue
        log_q = rng.normal(*counts.shape).log_softmax(-1)
        expected, n = 0.0, counts.sum().item()
        for i, row in enumerate(rows):
            for j, c in enumerate(row):
                expected += c / n * (math.log(c / sum(row)) - log_q[i, j].item()) if c else 0
        with unchanged(counts, log_q), nothing_left_behind():
            actual = assert_plain(bigram_kl(strided(counts), strided(log_q)), float)
        assert not math.isnan(actual), "the result is nan: pairs that never occur add nothing, and 0 * log 0 is nan"
        assert abs(actual - expected) < 1e-3 + 1e-3 * abs(expected), (
            f"for the counts {rows} the KL is {expected:.4f} nats; got {actual:.4f}"
        )


def test_bigram_kl__forbidden(bigram_kl, rng):
    """Where the table says 0 of what never occurs, nothing is added; of what occurs, the KL is infinite"""
    counts, log_q = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, -torch.inf], [-0.7, -0.7]])
    actual = assert_plain(bigram_kl(counts, log_q), float)
    assert abs(actual - (0.7 - math.log(2)) / 2) < 1e-3, (
        f"a pair that never occurs and of which the table says 0 adds nothing; got {actual:.4f}"
    )


# --- 2. All paths

HEADS = [
    ("one layer", (0, 1)),
    ("two layers, shared", (1, 1)),
    ("two layers, shared", (0, 3)),
    ("three layers", (2, 1)),
]
HEADS += [("one layer", (0, 2)), ("two layers, shared", (1, 2))]


def test_through_head(through_head, rng):
    """The pattern mixes positions of x, then W_V and W_O of the query head, shared values included."""
    drawn = models(rng)
    for i, (kind, (layer, head)) in enumerate(HEADS):
        model, batch, query = drawn[kind], 1 + i % 3, 3 + i
        x = strided(rng.normal(batch, query, 10))
        pattern = strided(rng.normal(batch, query, query).softmax(-1))
        with as_found(model, x, pattern):
            actual = assert_tensor(through_head(model, x, pattern, layer, head), shape=(batch, query, 10))
        V, out = values_and_out(model, layer, head)
        mixed = torch.einsum("bqk,bkd->bqd", pattern.double(), x.double())
        meaning = f"{kind}, layer {layer}, head {head}: entry [b, q] is not what the head writes at query q"
        assert_close(actual.double(), mixed @ V @ out, meaning, **LOOSE)


@torch.no_grad()
def all_terms(model, tokens):
    """Each path's term from the run's patterns: one sum a path, no term made of another."""
    _, cache = model.run_with_cache(tokens)
    W_E, W_pos, W_U = ends(model)
    start = W_E[tokens] + W_pos[: tokens.shape[1]]
    layers = range(model.cfg.n_layers)
    expected = {}
    for stations in itertools.product([None, *range(model.cfg.n_heads)], repeat=len(layers)):
        path, x = tuple((layer, head) for layer, head in zip(layers, stations, strict=True) if head is not None), start
        for layer, head in path:
            V, out = values_and_out(model, layer, head)
            x = cache["pattern", layer][:, head].double() @ x @ V @ out
        expected[path] = x @ W_U
    return expected


def test_path_expansion(path_expansion, rng):
    """One term for each path, that path's own, and their sum is the logits: for no, one, two and three layers."""
    shapes = [("no layers", 1, 3), ("one layer", 2, 4), ("two layers, shared", 1, 5), ("three layers", 2, 3)]
    drawn = models(rng)
    for kind, rows, length in [*shapes, ("one layer", 1, 1), ("two layers, shared", 3, 8)]:
        model, tokens = drawn[kind], some_tokens(rng, rows, length)
        with as_found(model, tokens):
            terms = path_expansion(model, tokens)
        assert isinstance(terms, dict), f"the result is a dictionary from path to logits, not {type(terms).__name__}"
        expected = all_terms(model, tokens)
        for path in expected:
            assert path in terms, f"{kind}: the path {path} is missing; there are {len(expected)}"
        extra = [path for path in terms if path not in expected]
        assert not extra, f"{kind}: {extra[0]!r} is no path: a path passes at most one head of each layer, in order"
        for path, term in expected.items():
            actual = assert_tensor(terms[path], shape=(rows, length, 9))
            meaning = f"{kind}: the term of path {path} is not what this path adds to the logits"
            assert_close(actual.double(), term, meaning, **LOOSE)


# --- 3. How much is a term worth?


def losses_of(logits, tokens):
    rows = []
    for row, ids in zip(logits.double(), tokens.tolist(), strict=True):
        log_probs = row.log_softmax(-1)
        costs = [-log_probs[i, ids[i + 1]] for i in range(len(ids) - 1) if ids[i + 1] != 0]
        rows.append(sum(costs) / len(costs))
    return torch.stack(rows)


def test_term_importance(term_importance, rng):
    """The fall of each row's loss as terms are added one after the other, padding left out."""
    for n, rows, length, vocab in [(1, 1, 3, 4), (3, 2, 5, 6), (2, 3, 4, 3), (4, 2, 6, 5), (3, 1, 2, 7)]:
        terms = [strided(2 * rng.normal(rows, length, vocab)) for _ in range(n)]
        tokens = rng.integers(1, vocab, rows, length)
        if length > 3:
            tokens[0, -2:] = 0
        with unchanged(terms, tokens), nothing_left_behind():
            actual = assert_tensor(term_importance(list(terms), tokens), shape=(n, rows))
        total, expected = torch.zeros(rows, length, vocab), []
        for term in terms:
            expected.append(losses_of(total, tokens) - losses_of(total + term, tokens))
            total = total + term
        meaning = "entry [i, r] is not by how much the loss of row r falls when term i joins those before it"
        assert_close(actual.double(), torch.stack(expected), meaning, **LOOSE)


def test_answer_order(answer_order):
    """The first takes the credit for all that others say as well."""
    assert_choice(answer_order, "b", "both numbers are falls of the loss: what was there already, the second time?")


def test_answer_frozen(answer_frozen):
    """Keys of layer 1 are read from layer 0: that is in the pattern."""
    assert_choice(answer_frozen, "c", "what does layer 1 read from layer 0 to do induction, and where does that show?")


# --- 4. Skip-trigrams


def test_key_weight(key_weight, rng):
    """e^s over e^s and `others` times the mean e^s of the row, by the tokens' shares; some shares are 0."""
    for queries, keys, others, size in [(2, 3, 1, 1), (1, 1, 5, 1), (4, 6, 30, 3), (3, 5, 7, 2), (5, 5, 10, 4)]:
        scores = strided(size * rng.normal(queries, keys) + 3)
        shares = rng.integers(1, 6, keys).float()
        shares[0] = 0 if keys > 2 else shares[0]
        shares = shares / shares.sum()
        with unchanged(scores, shares), nothing_left_behind():
            actual = assert_tensor(key_weight(scores, shares, others), shape=(queries, keys))
        own = scores.double().exp()
        expected = own / (own + others * (own @ shares.double())[:, None])
        assert_close(actual.double(), expected, "entry [i, j] is not the weight that query i gives key j", **LOOSE)


def test_key_weight__large(key_weight, rng):
    """Scores in the hundreds, of either sign: exp of them is infinite or 0"""
    for base in (400.0, -400.0):
        scores = base + rng.normal(3, 4)
        actual = assert_tensor(key_weight(scores, torch.full((4,), 0.25), 8), shape=(3, 4))
        own = (scores - base).double().exp()
        expected = own / (own + 8 * own.mean(1, keepdim=True))
        assert actual.isfinite().all(), (
            f"scores near {base:.0f} give nan or infinity: exp overflows; use logsumexp, or take a row's maximum away"
        )
        assert_close(actual.double(), expected, f"scores near {base:.0f}: not the weights", rtol=1e-2, atol=1e-3)


def tables(rng, present, source, out):
    """A head's weights and OV circuit; some rows of OV have a large constant."""
    ov = rng.normal(source, out) + 4 * rng.normal(source, 1)
    return strided(rng.uniform(present, source)), strided(ov)


def boosts(weight, ov):
    """[source present out]"""
    above = ov.double() - ov.double().mean(1, keepdim=True)
    return torch.einsum("ps,so->spo", weight.double(), above)


def test_skip_trigrams(skip_trigrams, rng):
    """The k largest boosts among the allowed, as (source, present, out), largest first."""
    sizes = [(2, 3, 4, 3), (5, 4, 6, 8), (3, 3, 3, 1), (4, 7, 5, 12), (1, 2, 3, 2), (3, 2, 5, 0)]
    for present, source, out, k in sizes:
        weight, ov = tables(rng, present, source, out)
        allowed = rng.uniform(present, out) < 0.6
        allowed[:, 0] = True
        allowed[0, :2] = True
        allowed[:, -1] &= k > 0  # some are forbidden where all of the allowed are asked for, boosts below 0 too
        k = k or source * int(allowed.sum())
        with unchanged(weight, ov, allowed), nothing_left_behind():
            actual = skip_trigrams(weight, ov, allowed, k)
        actual = as_triples(actual)
        every = boosts(weight, ov)
        order = sorted(
            ((every[s, p, o].item(), (s, p, o)) for s in range(source) for p, o in allowed.nonzero().tolist()),
            reverse=True,
        )
        expected = [triple for _, triple in order[:k]]
        assert len(actual) == k, f"{k} were asked for, and {len(actual)} came"
        for i, (got, right) in enumerate(zip(actual, expected, strict=True)):
            assert got == right, (
                f"place {i + 1} of {k}: (source, present, out) with the largest boost is {right}, not {got}"
            )


def as_triples(listed):
    try:
        triples = [tuple(int(token) for token in triple) for triple in listed]
    except (TypeError, ValueError):
        raise AssertionError(f"the result holds triples (source, present, out), not {listed!r:.80}") from None
    assert all(len(triple) == 3 for triple in triples), f"a triple has three tokens: {triples[:3]}"
    return triples


def shares_slowly(rows, source, present, out):
    hits = {True: [], False: []}
    for row in rows:
        for i in range(len(row) - 1):
            if row[i] == present and row[i + 1] != 0:
                hits[source in row[:i]].append(row[i + 1] == out)
    return [sum(of) / len(of) if of else math.nan for of in (hits[True], hits[False])]


def test_skip_trigram_shares(skip_trigram_shares, rng):
    """Shares of places with the source before and without, places before padding left out."""
    cases = [([[1, 2, 3, 4, 2, 5], [2, 5, 1, 2, 3, 2]], 1, 2, 3), ([[3, 3, 4, 3, 4, 0], [3, 4, 3, 3, 0, 0]], 3, 3, 4)]
    cases += [([[2, 3, 1, 1, 4], [2, 4, 2, 3, 1]], 1, 2, 3), ([[1, 2, 0, 0], [2, 3, 1, 2], [2, 1, 2, 3]], 1, 2, 3)]
    for _ in range(4):
        rows = rng.integers(1, 5, 6, 9)
        rows[1, 6:] = 0
        cases.append((rows.tolist(), *rng.integers(1, 5, 3).tolist()))
    for rows, source, present, out in cases:
        tokens = strided(torch.tensor(rows))
        with unchanged(tokens), nothing_left_behind():
            result = skip_trigram_shares(tokens, source, present, out)
        assert isinstance(result, tuple | list) and len(result) == 2, "the result is two shares: with, without"
        expected = shares_slowly(rows, source, present, out)
        for said, got, right in zip(("with the source before", "without it"), result, expected, strict=True):
            got = assert_plain(got, float)
            same = math.isnan(got) if math.isnan(right) else abs(got - right) < 1e-4
            assert same, (
                f"rows {rows if len(rows) < 4 else '...'}, source {source}, present {present}, out {out}: "
                f"{said}, {out} follows in a share of {right:.3f}; got {got:.3f}"
            )


# --- 5. The bug


def bugs_slowly(weight, ov, wanted):
    every, bugs = boosts(weight, ov), set()
    for s, p, _ in wanted:
        weakest = min(every[triple].item() for triple in wanted if triple[0] == s)
        for other, _, o in wanted:
            if other == s and (s, p, o) not in wanted and every[s, p, o].item() >= weakest:
                bugs.add((s, p, o))
    return bugs


def test_skip_trigram_bug(skip_trigram_bug, rng):
    """Unwanted crossings of one source's own presents and outs that are as strong as its weakest wanted one."""
    weight = torch.tensor([[0.9, 0.5], [0.3, 0.5], [0.1, 0.8]])
    ov = torch.tensor([[9.0, 5.0, 0.0, -2.0], [7.0, 3.0, 6.0, 0.0]])
    cases = [(weight, ov, [(0, 0, 0), (0, 1, 1)]), (weight, ov, [(0, 0, 0), (1, 2, 2)]), (weight, ov, [])]
    # Numbers that are exact in binary, so that all four are just as strong however they are computed.
    cases.append((torch.full((2, 1), 0.5), torch.tensor([[8.0, 8.0, 0.0, 0.0]]), [(0, 0, 0), (0, 1, 1)]))
    for present, source, out in [(4, 2, 5), (3, 3, 4), (5, 1, 6), (6, 4, 4)]:
        own_weight, own_ov = tables(rng, present, source, out)
        every = [*itertools.product(range(source), range(present), range(out))]
        places = rng.permutation(len(every))[: max(4, len(every) // 4)].tolist()
        cases.append((own_weight, own_ov, [every[place] for place in places]))
    for weight, ov, wanted in cases:
        listed = list(wanted)
        with unchanged(weight, ov, listed), nothing_left_behind():
            actual = skip_trigram_bug(weight, ov, listed)
        actual, expected = set(as_triples(actual)), bugs_slowly(weight, ov, wanted)
        missed, wrong = sorted(expected - actual), sorted(actual - expected)
        assert not missed, (
            f"wanted {wanted[:6]}: {missed[0]} is as strong as a wanted one of its source, and was missed"
        )
        assert not wrong, f"wanted {wanted[:6]}: {wrong[0]} is none of the bugs: see the four conditions of the text"


# --- 6. Not a sum of skip-trigrams


def test_exclusive_or(exclusive_or):
    """Just one of A and B: above 0.1; both or none: below -0.1, with 1 to 20 fillers."""
    result = exclusive_or()
    assert isinstance(result, tuple | list) and len(result) == 2, "the result is two tensors: scores and values"
    scores, values = (assert_tensor(of, shape=(2, 3)).double() for of in result)
    assert scores.isfinite().all() and values.isfinite().all(), "scores and values are finite numbers"
    for fillers, a, b in itertools.product((1, 2, 5, 20), (0, 1), (0, 1)):
        context = [0] * fillers + [1] * a + [2] * b
        output = sum((scores[head, context].softmax(-1) * values[head, context]).sum() for head in range(2)).item()
        said = f"{fillers} filler{'s' * (fillers > 1)}{' and A' * a}{' and B' * b}: both heads give {output:.2f}"
        if a != b:
            assert output > 0.1, f"{said}, and it should be above 0.1"
        else:
            assert output < -0.1, f"{said}, and it should be below -0.1"


# --- 7. Do heads copy?


def test_copying_eigenvalues(copying_eigenvalues, rng):
    """The d_head eigenvalues of W_E W_V W_O W_U that need not be 0, shared values included."""
    drawn = models(rng)
    for kind, (layer, head) in HEADS:
        model = drawn[kind]
        with as_found(model):
            actual = assert_tensor(copying_eigenvalues(model, layer, head), shape=(3,))
        assert actual.is_complex(), "eigenvalues of a matrix that is not symmetric are complex: torch.linalg.eigvals"
        V, out = values_and_out(model, layer, head)
        W_E, _, W_U = ends(model)
        whole = torch.linalg.eigvals(W_E @ V @ out @ W_U)
        expected = whole[whole.abs().topk(3).indices]
        said = f"{kind}, layer {layer}, head {head}"
        for power in (1, 2, 3):  # equal sums of three powers: the same three numbers, in any order
            left, right = actual.to(torch.complex128).pow(power).sum(), expected.pow(power).sum()
            scale = expected.abs().max().item() ** power
            assert abs(left - right) < 1e-3 * (1 + scale), (
                f"{said}: the eigenvalues' powers {power} sum to {right:.3f}; yours to {left:.3f}"
            )


def test_copying_eigenvalues__memory(copying_eigenvalues, rng):
    """Nothing of size [d_vocab d_vocab] is made"""
    model = tiny("many tokens", rng)
    with refuse_large(20_000, "has the whole circuit, [300 300], in memory"):
        copying_eigenvalues(model, 0, 1)


def test_answer_copying(answer_copying):
    """Eigenvalues are about mixes of tokens."""
    assert_choice(answer_copying, "a", "try [[1, 2], [0, 1]]: what are its eigenvalues, and its largest entries?")


# --- 8. A virtual head

PATHS = [("two layers, shared", ((0, 3), (1, 1))), ("two layers, shared", ((0, 0), (1, 2)))]
PATHS += [("three layers", ((0, 1), (2, 0))), ("three layers", ((1, 0), (2, 1)))]


def test_virtual_head(virtual_head, rng):
    """The later pattern after the earlier one, and the circuit of both, shared values included."""
    drawn = models(rng)
    for i, (kind, (first, second)) in enumerate(PATHS):
        model, batch, length = drawn[kind], 1 + i % 2, 3 + i
        patterns = tuple(strided(rng.normal(batch, length, length).softmax(-1)) for _ in range(2))
        with as_found(model, patterns):
            result = virtual_head(model, patterns, (first, second))
        assert isinstance(result, tuple | list) and len(result) == 2, "the result is a pattern and a circuit"
        pattern, circuit = result
        assert isinstance(circuit, tuple | list) and len(circuit) == 2, "the circuit is a pair of factors (a, b)"
        pattern = assert_tensor(pattern, shape=(batch, length, length))
        a, b = assert_tensor(circuit[0], shape=(9, 3)), assert_tensor(circuit[1], shape=(3, 9))
        said = f"{kind}, {first} then {second}"
        early, late = (of.double() for of in patterns)
        expected = torch.einsum("bqm,bmk->bqk", late, early)
        assert_close(pattern.double(), expected, f"{said}: row q is not where the virtual head looks from q", **LOOSE)
        (V, out), (V2, out2) = (values_and_out(model, *head) for head in (first, second))
        W_E, _, W_U = ends(model)
        meaning = f"{said}: a @ b is not what looking at a token (row) adds to the logits (column)"
        assert_close(a.double() @ b.double(), W_E @ V @ out @ V2 @ out2 @ W_U, meaning, **LOOSE)


# --- 9. Open task

# The seed is drawn, but for the last: there no path alone brings the predictions nearer in nats, so that who adds the
# best by nats finds none. In half of the draws of such sizes this is so.
EXPANSIONS = [
    {},
    {"noise": 0.02},
    {"n_heads": 8, "real": ("single", "single", "virtual", "virtual")},
    {"n_layers": 3, "n_heads": 4, "n_tokens": 6, "decoys": ("cancelling", "cancelling virtual")},
    {"n_layers": 1, "n_heads": 6, "real": ("direct", "single", "single"), "decoys": ("cancelling", "alike")},
    {"seed": 1, "n_heads": 8, "real": ("single", "single", "virtual", "virtual")},
]


@pytest.mark.seconds(120)
def test_find_paths(find_paths, rng):
    """At least 90 % of the paths of unseen models, and at most 10 % others among those named."""
    found, missed, wrong = 0, [], []
    for sizes in EXPANSIONS:
        model, truth = wired.expansions(**{"seed": rng.integer(0, 100_000), **sizes})
        tokens = truth.tokens(6, sizes.get("seed", rng.integer(0, 100_000)))
        with unchanged(tokens), nothing_left_behind(random_state=False):
            named = as_paths(find_paths(model, tokens), truth)
        found += len(named & truth.paths)
        missed += [said(path, truth) for path in sorted(truth.paths - named)]
        wrong += [said(path, truth) for path in sorted(named - truth.paths)]
    of = found + len(missed)
    assert_mostly_found(found, missed, wrong, f"in {len(EXPANSIONS)} models, {found} of {of} paths were found", "path")


def as_paths(named, truth):
    """The learner's paths as tuples of (layer, head)."""
    try:
        paths = {tuple((int(layer), int(head)) for layer, head in path) for path in named}
    except (TypeError, ValueError) as error:
        raise AssertionError(f"the result is a set of paths ((layer, head), ...), not {named!r:.80}") from error
    for path in paths:
        assert all(head in truth.roles for head in path), f"{path} passes a head that this model does not have"
    return paths


def said(path, truth):
    return " to ".join(truth.roles[head] for head in path) or "the direct path"
