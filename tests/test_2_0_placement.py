"""Checks of 2.0, the placement of step 2. In each the smallest case comes first: a learner is shown that one."""

import itertools
import math

import torch
from torch import nn

from concrete_steps.checking.testing import (
    answer_to,
    assert_close,
    assert_equal,
    assert_gradient_values,
    assert_minus_infinity,
    assert_plain,
    assert_precise,
    assert_tensor,
    nothing_left_behind,
    shapes_with_ones,
    strided,
    unchanged,
)

# Changes that make no wrong answer; scripts/mutate.py counts them apart:
# equivalent mutant of merges_used, Lt -> NotEq (2x): i steps over two symbols only where two are left; none are added
# equivalent mutant of stream_text, 1 -> 2: the empty beginning, cut 0, is text, so the loop never goes below it
# equivalent mutant of pattern_from_table, masked_fill -> masked_fill_: an index by tensors has just made these scores
# equivalent mutant of matching_keys, drop device= of arange: only a GPU can tell, and the checks run on the CPU
# equivalent mutant of matching_keys, BitAnd -> Mult (3x): the product of truth values is their "and"
# equivalent mutant of matching_keys, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of matching_keys, 0 -> -1 (2x): any token may stand where there is no note: has_notes leaves it out
# equivalent mutant of packed_attention, masked_fill -> masked_fill_: these scores have just been made
# equivalent mutant of reply_loss, drop device= of arange: only a GPU can tell, and the checks run on the CPU
# equivalent mutant of reply_loss, BitAnd -> Mult: the product of truth values is their "and"
# equivalent mutant of reply_loss, 1 -> -1: of the two axes of tokens, 1 is the last
# equivalent mutant of reply_loss, 0 -> -1: gather gives one entry for each token
# equivalent mutant of reply_loss, tokens -> logits (2x): they have the same positions, on one device
# equivalent mutant of reply_loss, tokens -> start: the inputs are on one device
# equivalent mutant of reply_loss, tokens -> end: the inputs are on one device
# equivalent mutant of reply_loss, [:-1] -> [:]: gather leaves out what its index does not reach
# equivalent mutant of scores_at_distance, q -> k (3x): query and key have the same length, dtype and device
# equivalent mutant of scores_at_distance, drop device= of arange: only a GPU can tell, and the checks run on the CPU
# equivalent mutant of scores_at_distance, q -> distances: the inputs are on one device

BOTH = (torch.float32, torch.float64)


# --- 1. Tokens


def neighbours(symbols):
    return list(itertools.pairwise(symbols))


def joined_at(symbols, places):
    """The symbols with those at these places and the next ones joined."""
    out, skip = [], False
    for i, symbol in enumerate(symbols):
        if not skip:
            out.append(symbol + symbols[i + 1] if i in places else symbol)
        skip = not skip and i in places
    return out


def cut_by_rank(piece, merges):
    """Tokens and the merges used: always the first place of the pair that was learned first, until none is left."""
    symbols, used = list(piece), set()
    while pairs := [pair for pair in neighbours(symbols) if pair in merges]:
        best = min(pairs, key=merges.index)
        used.add(best)
        symbols = joined_at(symbols, {neighbours(symbols).index(best)})
    return symbols, [pair for pair in merges if pair in used]


def learned(rng, letters, length, n_merges):
    """Merges of a random text, each of which makes another string; in the order in which they were learned."""
    symbols, merges = [rng.choice(letters) for _ in range(length)], []
    while len(merges) < n_merges:
        known = {left + right for left, right in merges}
        pairs = [pair for pair in neighbours(symbols) if pair[0] + pair[1] not in known]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs.count(pair), pair))
        merges.append(best)
        symbols = cut_by_rank("".join(symbols), merges)[0]
    return merges


def test_merges_used(merges_used, rng):
    """The first learned first, wherever it stands; overlaps, repeats, nothing to join, one letter, none."""
    ab, bc, abc = ("a", "b"), ("b", "c"), ("a", "bc")
    cases = [("ab", [ab]), ("abc", [ab, bc]), ("abc", [bc, ab]), ("abc", [bc, ab, abc]), ("abab", [ab])]
    cases += [("aaa", [("a", "a"), ("aa", "a")]), ("aaaa", [("a", "a"), ("aa", "a")]), ("a", [ab]), ("", [ab])]
    cases += [("aaaaa", [("a", "a"), ("aa", "aa")]), ("abab", [ab, ("ab", "ab")]), ("ba", [ab]), ("xyz", [])]
    for letters, length in (("ab", 30), ("abc", 40), ("abcd", 60)):
        merges = learned(rng, letters, length, 8)
        cases += [("".join(rng.choice(letters) for _ in range(n)), merges) for n in (3, 6, 9, 12, 12)]
    for piece, merges in cases:
        with nothing_left_behind(), unchanged(merges):
            used = assert_plain(merges_used(piece, merges), list)
        symbols, expected = cut_by_rank(piece, merges)
        said = f"{piece!r} with merges {merges} becomes {symbols}"
        assert_equal([tuple(pair) for pair in used], expected, f"{said}; the merges used")


def shown_so_far(tokens):
    """Of each token what it adds; by Python's own reading of unfinished text."""
    before, added = "", []
    for n in range(1, len(tokens) + 1):
        whole = b"".join(tokens[:n])
        while True:
            try:
                text = whole.decode()
                break
            except UnicodeDecodeError as error:
                whole = whole[: error.start]
        added.append(text[len(before) :])
        before = text
    return added


def test_stream_text(stream_text, rng):
    """Characters of one to four bytes, cut anywhere; tokens that hold several, end one, or add none."""
    cases = [[b"a"], [b"a", b"bc"], ["é".encode()], [b"\xc3", b"\xa9"], [b"a\xc3", b"\xa9b"]]
    cases += [["é".encode() + b"\xc3", b"\xa9"], [b"\xc3", b"\xa9\xc3", b"\xa9"], [], ["日本".encode()]]
    cases += [["🙂".encode()[i : i + 1] for i in range(4)], ["🙂".encode()[:3], "🙂".encode()[3:] + b" ok"]]
    for _ in range(12):
        text = "".join(rng.choice("ab éß日本🙂𝄞\ufffd") for _ in range(rng.integer(3, 9))).encode()
        cuts = [0, *sorted(set(rng.integers(1, len(text), 6).tolist())), len(text)] if len(text) > 1 else [0, 1]
        cases.append([text[first:last] for first, last in itertools.pairwise(cuts)])
    for tokens in cases:
        with nothing_left_behind(), unchanged(tokens):
            added = assert_plain(stream_text(tokens), list, str)
        assert len(added) == len(tokens), f"of {len(tokens)} tokens each adds a string, also an empty one; got {added}"
        expected = shown_so_far(tokens)
        assert "".join(added) == "".join(expected), f"tokens {tokens} are the text {b''.join(tokens).decode()!r}" + (
            f", not {''.join(added)!r}: does a character wait until all of its bytes have come?"
        )
        assert_equal(added, expected, f"tokens {tokens}: a character is shown as soon as it is whole")


# --- 2. Attention by hand


def test_pattern_from_table(pattern_from_table, rng):
    """A row for each query, by its own token and the keys' tokens; causal; large scores, one position, one token."""
    small = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]]), torch.tensor([[0, 1]])  # row 1: 3/4, 1/4
    cases = [small, (torch.tensor([[0.0, 2.0], [-1.0, 0.5]]), torch.tensor([[1, 0, 0]]))]
    for batch, pos, vocab in [*shapes_with_ones(3, 5, 4), (2, 7, 3)]:
        cases.append((rng.normal(vocab, vocab) * 2, rng.integers(0, vocab, batch, pos)))
    cases += [
        (rng.normal(4, 4) * 40 - 100, rng.integers(0, 4, 2, 6)),
        (rng.normal(4, 4) + 200, rng.integers(0, 4, 2, 6)),
        (strided(rng.normal(3, 3)), strided(rng.integers(0, 3, 2, 5))),
    ]
    for table, tokens in cases:
        batch, pos = tokens.shape
        actual = assert_tensor(answer_to(pattern_from_table, table, tokens), shape=(batch, pos, pos))
        expected = torch.zeros(batch, pos, pos)
        for row, query in itertools.product(range(batch), range(pos)):
            keys = tokens[row, : query + 1]
            expected[row, query, : query + 1] = table[tokens[row, query], keys].softmax(-1)
        later = actual[:, *torch.ones(pos, pos).triu(1).nonzero(as_tuple=True)]
        assert not later.any(), "a query gives weight to keys after it; the head is causal"
        assert_close(actual.sum(-1), torch.ones(batch, pos), "the weights of a query do not sum to 1")
        assert_close(actual, expected, "a query's weights are not the softmax of its row of scores")
    table, tokens = rng.normal(4, 4, dtype=torch.float64), torch.tensor([[2, 0, 3, 3, 1]])
    scores = table[tokens[0]][:, tokens[0]].exp().tril()
    assert_precise(pattern_from_table(table, tokens), (scores / scores.sum(1, keepdim=True))[None], "loses digits")
    assert_gradient_values(lambda t: pattern_from_table(t, tokens), table, rng=rng)


def test_matching_keys(matching_keys, rng):
    """Induction, duplicates, notes of either side and of both, longer than the text too; no match without a note."""
    induction = torch.tensor([[1, 2, 1]]), 0, 1  # the last 1 finds the 2, after the first 1
    cases = [induction, (torch.tensor([[1, 1]]), 0, 0), (torch.tensor([[3, 2, 3, 1]]), 0, 1)]
    cases += [(torch.tensor([[1, 2, 1, 2]]), 1, 0), (torch.tensor([[1, 1, 1]]), 0, 1), (torch.tensor([[1]]), 0, 1)]
    cases += [(torch.tensor([[1, 2, 3, 1]]), 1, 1), (torch.tensor([[0, 0, 0]]), 2, 0), (torch.tensor([[5, 5]]), 0, 4)]
    for batch, pos in shapes_with_ones(3, 7):
        for query_back, key_back in ((0, 1), (1, 0), (0, 0), (2, 1), (0, 3)):
            cases.append((rng.integers(0, 3, batch, pos), query_back, key_back))
    cases.append((strided(rng.integers(0, 3, 2, 6)), 0, 1))
    for tokens, query_back, key_back in cases:
        batch, pos = tokens.shape
        actual = assert_tensor(
            answer_to(matching_keys, tokens, query_back, key_back), shape=(batch, pos, pos), dtype=torch.bool
        )
        text = tokens.tolist()
        for row, i, j in itertools.product(range(batch), range(pos), range(pos)):
            noted = i - query_back >= 0 and j - key_back >= 0
            expected = noted and j <= i and text[row][i - query_back] == text[row][j - key_back]
            said = f"text {text[row]}, query_back {query_back}, key_back {key_back}: query {i} and key {j} "
            said += "match" if expected else "do not match"
            if not expected:
                said += ", the key is later" if j > i else "" if noted else ", one of them has no note"
            assert bool(actual[row, i, j]) == expected, said


# --- 3. GPT-2


def by_pytorch(x, W_qkv, b_qkv, W_out, b_out, n_heads):
    """PyTorch's own attention with these weights."""
    theirs = nn.MultiheadAttention(x.shape[-1], n_heads, batch_first=True, dtype=x.dtype)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(W_qkv.T)
        theirs.in_proj_bias.copy_(b_qkv)
        theirs.out_proj.weight.copy_(W_out.T)
        theirs.out_proj.bias.copy_(b_out)
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return theirs(x, x, x, attn_mask=later, need_weights=False)[0]


def drawn_attention(rng, batch, pos, n_heads, d_head, dtype=torch.float32, large=1.0):
    d_model = n_heads * d_head
    weights = [rng.normal(d_model, 3 * d_model, dtype=dtype), rng.normal(3 * d_model, dtype=dtype)]
    weights += [rng.normal(d_model, d_model, dtype=dtype), rng.normal(d_model, dtype=dtype)]
    return large * rng.normal(batch, pos, d_model, dtype=dtype), *weights, n_heads


def test_packed_attention(packed_attention, rng):
    """Against PyTorch's own attention, for one head and many; every bias, large scores, no look ahead."""
    one, *others = shapes_with_ones(2, 4, 3, 2)
    sizes = [one, (3, 4, 1, 2), *others, (1, 3, 2, 4), (2, 5, 4, 1)]  # soon one whose batch is not its d_head, nor 1
    cases = [drawn_attention(rng, *each) for each in sizes]
    cases.append(drawn_attention(rng, 1, 4, 2, 3, large=10))
    strides = drawn_attention(rng, 2, 4, 2, 3)
    cases.append((*(strided(x) for x in strides[:-1]), 2))
    for case in cases:
        x, n_heads = case[0], case[-1]
        with torch.random.fork_rng(devices=[]):
            expected = by_pytorch(*case)
        actual = assert_tensor(answer_to(packed_attention, *case), shape=x.shape)
        assert not actual.isnan().any(), "the output has nan in it: does a row of scores hold nothing but -inf?"
        if x.shape[1] > 1:
            changed = torch.cat([x[:, :-1], 10 * x[:, -1:] + 7], 1)
            before = packed_attention(changed, *case[1:])[:, :-1]
            said = "a change of the last position changes earlier ones: they look ahead, before or after the softmax"
            assert torch.allclose(before, actual[:, :-1], rtol=1e-3, atol=1e-3 * float(x.abs().max())), said
        size = float(expected.abs().max())
        said = f"with {n_heads} {'head' if n_heads == 1 else 'heads'}, not what GPT-2's attention writes"
        assert_close(actual, expected, said, rtol=1e-3, atol=1e-4 * max(size, 1))
    case = drawn_attention(rng, 2, 3, 2, 3, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        assert_precise(packed_attention(*case), by_pytorch(*case), "loses digits on the way", loosen=10)
    assert_gradient_values(lambda *tensors: packed_attention(*tensors, 2), *case[:-1], rng=rng)


def counted(n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab):
    """By the shapes of all tensors."""

    def layer(read, write):  # matrix and bias
        return [(read, write), (write,)]

    inner = n_heads * d_head
    shapes = {
        "embed": [(d_vocab, d_model)],
        "pos_embed": [(n_ctx, d_model)],
        "attention": [*layer(d_model, inner) * 3, *layer(inner, d_model)] * n_layers,
        "mlp": [*layer(d_model, d_mlp), *layer(d_mlp, d_model)] * n_layers,
        "norms": [(d_model,), (d_model,)] * (2 * n_layers + 1),
    }
    return {part: sum(map(math.prod, found)) for part, found in shapes.items()}


def test_parameters_by_part(parameters_by_part, rng):
    """A tiny model, GPT-2 small, and models of any sizes; part by part, biases and the last LayerNorm included."""
    names = ("n_layers", "d_model", "n_heads", "d_head", "d_mlp", "n_ctx", "d_vocab")
    cases = [
        (1, 2, 1, 2, 3, 4, 5),
        (12, 768, 12, 64, 3072, 1024, 50257),
        (2, 6, 3, 5, 7, 11, 13),
    ]
    cases += [tuple(rng.integers(1, 30, len(names)).tolist()) for _ in range(4)]
    for case in cases:
        with nothing_left_behind():
            actual = assert_plain(parameters_by_part(*case), dict)
        expected = counted(*case)
        assert set(actual) == set(expected), f"the parts are {', '.join(expected)}; got {', '.join(map(str, actual))}"
        said = ", ".join(f"{name} {value}" for name, value in zip(names, case, strict=True))
        for part, number in expected.items():
            assert_equal(assert_plain(actual[part], int), number, f"{said}: parameters of {part!r}")


# --- 4. Training and sampling


def test_reply_loss(reply_loss, rng):
    """Each reply token against the logits before it; replies of one token, of all but the first, of other lengths."""
    small = torch.tensor([[[0.0, math.log(3.0)], [5.0, 0.0]]]), torch.tensor([[0, 1]]), torch.tensor([1])
    cases = [(*small, torch.tensor([2]))]  # -log 3/4
    for batch, pos, vocab in [(1, 3, 2), (1, 5, 1), (3, 2, 4), (3, 6, 5), (4, 8, 3)]:
        start = rng.integers(1, pos, batch)
        end = start + 1 + (rng.uniform(batch) * (pos - start)).long()
        cases.append((rng.normal(batch, pos, vocab) * 3, rng.integers(0, vocab, batch, pos), start, end))
    unequal = torch.tensor([1, 5]), torch.tensor([6, 6])  # five tokens and one: the mean is over six
    cases.append((rng.normal(2, 6, 3) * 3, rng.integers(0, 3, 2, 6), *unequal))
    cases.append((rng.normal(2, 6, 3) * 9 + 300, rng.integers(0, 3, 2, 6), *unequal))
    cases.append((strided(rng.normal(2, 6, 3)), strided(rng.integers(0, 3, 2, 6)), *unequal))
    for logits, tokens, start, end in cases:
        actual = assert_tensor(answer_to(reply_loss, logits, tokens, start, end), shape=())
        costs = []
        for row, (first, last) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
            for place in range(first, last):
                costs.append(-float(logits[row, place - 1].double().log_softmax(-1)[tokens[row, place]]))
        said = f"replies at {start.tolist()} to {end.tolist()}: not the mean over their {len(costs)} tokens"
        assert_close(actual, torch.tensor(sum(costs) / len(costs)), said, atol=1e-4)
    logits, tokens = rng.normal(2, 6, 3, dtype=torch.float64), rng.integers(0, 3, 2, 6)
    rows = logits.softmax(-1)
    chosen = torch.stack([rows[0, t - 1, tokens[0, t]] for t in range(1, 6)] + [rows[1, 4, tokens[1, 5]]])
    assert_precise(reply_loss(logits, tokens, *unequal), -chosen.log().mean(), "loses digits on the way")
    assert_gradient_values(lambda x: reply_loss(x, tokens, *unequal), logits, rng=rng)


def test_min_p(min_p, rng):
    """By the likeliest of each row; sure rows and even ones, ties, a share of 1, logits at minus infinity before."""
    small = torch.tensor([0.6, 0.3, 0.1]).log()  # of the likeliest: 1, 1/2, 1/6
    cases = [(small, 0.4), (small, 0.55), (small, 0.1), (small + 3, 0.4), (torch.tensor([0.9, 0.06, 0.04]).log(), 0.1)]
    cases += [(torch.tensor([0.25, 0.25, 0.25, 0.25]).log(), 0.9), (torch.tensor([2.0, 2.0, 1.0]), 1.0)]
    cases += [(torch.tensor([1.0, -torch.inf, 0.9, -5.0]), 0.5), (torch.tensor([[0.0]]), 0.3)]
    for shape in [(1,), (6,), (3, 5), (2, 3, 4), (5, 1)]:
        cases += [(rng.normal(*shape) * 2 + offset, rng.uniform(1, low=0.05, high=0.9).item()) for offset in (0, 90)]
    cases.append((strided(rng.normal(3, 5)), 0.2))
    for logits, share in cases:
        actual = assert_tensor(answer_to(min_p, logits, share), shape=logits.shape, dtype=logits.dtype)
        probs = logits.double().softmax(-1)
        ratio = probs / probs.amax(-1, keepdim=True)
        clear = (ratio - share).abs() >= 1e-4 * (share < 1)  # not at the border, where rounding decides
        keep, cut = clear & (ratio >= share), clear & (ratio < share)
        said = f"share {share:.3g}"
        if logits.ndim == 1:
            said += f", probabilities {[round(p, 3) for p in probs.tolist()]}"
        lost = keep & ~actual.isfinite()
        left = cut & actual.isfinite()
        for where, what in ((lost, "cut off"), (left, "kept")):
            least = [f"{value:.3g} times the likeliest one's" for value in ratio[where].tolist()[:1]]
            assert not least, f"{said}: a token whose probability is {least[0]} is {what}"
        assert_minus_infinity(actual[cut], f"{said}: what is cut off")
        assert_close(actual[keep], logits[keep], f"{said}: what is kept is to keep its logit")
    for dtype in BOTH:
        logits = torch.tensor([[3.0, 2.9, -4.0]], dtype=dtype)
        assert_precise(min_p(logits, 0.5)[:, :2], logits[:, :2], "kept logits lose digits")
    assert_gradient_values(lambda x: min_p(x, 0.5)[:, :2], logits, rng=rng)


# --- 5. Llama


def turned(x, position, theta):
    """By complex numbers: pair i turned by position * theta^(-2i/d_head)."""
    half = len(x) // 2
    angles = position * theta ** (-torch.arange(half, dtype=torch.float64) / half)
    return torch.complex(x[:half].double(), x[half:].double()) * torch.polar(torch.ones_like(angles), angles)


def test_scores_at_distance(scores_at_distance, rng):
    """As by turning both, wherever the query stands; distances 0, and in any order; one pair and many."""
    quarter = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]), torch.tensor([0, 1]), 100.0
    cases = [quarter, (torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 0.0, 0.0, 1.0]), torch.tensor([2]), 10.0)]
    for d_head, n, theta in [(2, 1, 10.0), (2, 4, 10_000.0), (4, 5, 100.0), (8, 6, 10_000.0), (6, 3, 500_000.0)]:
        cases.append((rng.normal(d_head), rng.normal(d_head), rng.integers(0, 60, n), theta))
    cases += [(rng.normal(4), rng.normal(4), torch.tensor([3, 5, 0, 1]), 100.0)]
    cases += [(strided(rng.normal(4)), strided(rng.normal(4)), rng.integers(0, 60, 3), 1000.0)]
    for q, k, distances, theta in cases:
        actual = assert_tensor(answer_to(scores_at_distance, q, k, distances, theta), shape=distances.shape)
        place = rng.integer(0, 100)
        at = turned(q, place, theta)
        expected = [(at * turned(k, place - n, theta).conj()).real.sum() for n in distances.tolist()]
        said = "not the product of query and key, each turned at its own position"
        assert_close(actual, torch.stack(expected).to(q.dtype), said, rtol=1e-3, atol=1e-3)
    q, k, distances = rng.normal(6, dtype=torch.float64), rng.normal(6, dtype=torch.float64), torch.tensor([0, 7, 300])
    expected = torch.stack([(turned(q, n, 100.0) * turned(k, 0, 100.0).conj()).real.sum() for n in (0, 7, 300)])
    assert_precise(scores_at_distance(q, k, distances, 100.0), expected, "loses digits on the way", loosen=10)
    assert_gradient_values(lambda q, k: scores_at_distance(q, k, distances, 100.0), q, k, rng=rng)


def test_share_heads(share_heads, rng):
    """Means of neighbouring heads; a group of one, of all, three of three; nothing summed or mixed."""
    cases = [(torch.tensor([1.0, 3.0, 10.0, 20.0]).reshape(4, 1, 1), 2), (torch.tensor([1.0, 2.0]).reshape(2, 1, 1), 2)]
    for n_heads, n_kv_heads, d_model, d_head in [(1, 1, 2, 3), (4, 1, 3, 2), (6, 2, 1, 4), (6, 3, 4, 1), (9, 3, 4, 2)]:
        cases.append((rng.normal(n_heads, d_model, d_head), n_kv_heads))
    cases.append((strided(rng.normal(8, 3, 2)), 4))
    for W_K, n_kv_heads in cases:
        group = len(W_K) // n_kv_heads
        actual = assert_tensor(answer_to(share_heads, W_K, n_kv_heads), shape=(n_kv_heads, *W_K.shape[1:]))
        expected = torch.stack([sum(W_K[kv * group : (kv + 1) * group]) / group for kv in range(n_kv_heads)])
        said = f"{len(W_K)} heads, {n_kv_heads} key-value heads: not the mean of the heads that read it"
        assert_close(actual, expected, said)
    W_K = rng.normal(6, 2, 3, dtype=torch.float64)
    assert_precise(share_heads(W_K, 3), (W_K[0::2] + W_K[1::2]) / 2, "loses digits on the way")
    assert_gradient_values(lambda x: share_heads(x, 2), W_K, rng=rng)
