"""Checks of 1.1 Tensors. In each the smallest case comes first: it is the one that a learner is shown."""

import math

import torch

from concrete_steps.checking.testing import assert_choice, assert_close, assert_gradient_flows, assert_tensor, unchanged

# Changes that make no wrong answer; scripts/mutate.py counts them apart:
# equivalent mutant of one_hot, drop device= of arange: only a GPU can tell, and there a check does
# equivalent mutant of causal_mask, drop device= of ones: only a GPU can tell, and there a check does
# equivalent mutant of cumsum_by_matmul, drop device= of ones: only a GPU can tell
# equivalent mutant of sliding_windows, drop device= of arange: index tensors on the CPU also pick from a GPU
# equivalent mutant of attention_scores, q -> k: queries and keys have the same d_head
# equivalent mutant of causal_mask, [-2:] -> [:]: a mask with the batch axes too is as good
# equivalent mutant of causal_mask, 2 -> 3: a mask with one of the batch axes too is as good
# equivalent mutant of gather_log_probs, 0 -> -1: the axis has size 1, so first and last are the same
# equivalent mutant of topk_accuracy, drop USub: axis 1 is the last
# equivalent mutant of topk_accuracy, 1 -> -1: axis 1 is the last
# equivalent mutant of sliding_windows, 1 -> -1: axis 1 is the last
# equivalent mutant of masked_mean, drop USub: axis 1 is the last
# equivalent mutant of masked_mean, 1 -> -1: axis 1 is the last
# equivalent mutant of next_token_loss, [:-1] -> [:]: gather leaves out what its index does not reach


def softmax(scores):
    """Weights of a list of numbers, by hand."""
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    return [power / sum(powers) for power in powers]


# --- 1. A shape is a sentence


def test_answer_annotation(answer_annotation):
    """One name stands for one size, wherever it occurs."""
    assert_choice(answer_annotation, "a", "which of the three sizes of resid is called d_model?")


def test_answer_broadcast(answer_broadcast):
    """Shapes align at the right, and axes of 1 are stretched."""
    assert_choice(answer_broadcast, "b", "write [5, 1] below [4, 1, 3], aligned at the right, and go axis by axis")


def test_outer(outer, rng):
    """Each entry of x times each entry of y, x along the rows, for several lengths."""
    cases = [(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 10.0]))]
    cases += [(rng.normal(n), rng.normal(m)) for n, m in [(1, 4), (3, 1), (3, 3), (2, 5)]]
    cases += [(rng.normal(2, dtype=torch.float64), rng.normal(3, dtype=torch.float64))]
    for x, y in cases:
        expected = torch.tensor([[a * b for b in y.tolist()] for a in x.tolist()], dtype=x.dtype)
        with unchanged(x, y):
            actual = outer(x, y)
        assert_close(actual, expected, "entry [i, j] is not x[i] * y[j]")


def test_outer__gradient(outer, rng):
    """Gradients reach both inputs"""
    assert_gradient_flows(outer, rng.normal(2), rng.normal(3))


def test_one_hot(one_hot, rng):
    """A single 1.0 at each token's place, also when the largest token does not occur."""
    cases = [(torch.tensor([[2, 0]]), 4)]
    cases += [
        (rng.integers(0, d_vocab, b, p), d_vocab) for b, p, d_vocab in [(1, 1, 1), (1, 3, 3), (3, 2, 5), (2, 4, 2)]
    ]
    for tokens, d_vocab in cases:
        with unchanged(tokens):
            actual = assert_tensor(one_hot(tokens, d_vocab), shape=(*tokens.shape, d_vocab))
        expected = torch.zeros(*tokens.shape, d_vocab)
        for b, row in enumerate(tokens.tolist()):
            for p, token in enumerate(row):
                expected[b, p, token] = 1
        assert_close(actual, expected, "the row of a token is not 1 at the token's place and 0 elsewhere")
        assert actual.is_floating_point(), f"the annotation promises floats, the result holds {actual.dtype}"


def test_pairwise_distances(pairwise_distances, rng):
    """Euclidean distances of every x to every y, for several numbers of points and dimensions."""
    cases = [(torch.tensor([[0.0, 0.0], [3.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0], [6.0, 0.0]]))]
    cases += [
        (rng.normal(n, d), rng.normal(m, d)) for n, m, d in [(1, 1, 1), (1, 3, 2), (4, 1, 3), (3, 3, 3), (3, 5, 7)]
    ]
    cases += [(rng.normal(2, 3, dtype=torch.float64), rng.normal(3, 3, dtype=torch.float64))]
    for x, y in cases:
        expected = [[math.dist(a, b) for b in y.tolist()] for a in x.tolist()]
        with unchanged(x, y):
            actual = pairwise_distances(x, y)
        assert_close(actual, torch.tensor(expected), "entry [i, j] is not the distance of x[i] to y[j]", atol=1e-3)


def test_pairwise_distances__itself(pairwise_distances, rng):
    """A point is at distance 0 from itself, and gradients reach both inputs"""
    points = rng.normal(4, 3)
    nearest = pairwise_distances(points, points.clone()).diagonal()
    assert_close(nearest, torch.zeros(4), "the distance of a point to itself is not 0", atol=1e-2)
    assert_gradient_flows(pairwise_distances, rng.normal(2, 3), rng.normal(4, 3))


# --- 2. einsum


def test_batched_trace(batched_trace, rng):
    """The sum of each matrix's diagonal, for several batches and sizes."""
    cases = [torch.tensor([[[1.0, 2.0], [3.0, 5.0]], [[4.0, 1.0], [0.0, 3.0]]])]
    cases += [rng.normal(b, n, n) for b, n in [(1, 1), (1, 3), (3, 1), (5, 3), (2, 4)]]
    cases += [rng.normal(2, 3, 3, dtype=torch.float64)]
    for x in cases:
        expected = torch.tensor([sum(matrix[i][i] for i in range(len(matrix))) for matrix in x.tolist()], dtype=x.dtype)
        with unchanged(x):
            actual = batched_trace(x)
        assert_close(actual, expected, "entry b is not the sum of the diagonal of x[b]")


def test_batched_trace__gradient(batched_trace, rng):
    """A gradient reaches the input"""
    assert_gradient_flows(batched_trace, rng.normal(2, 3, 3))


def scores_by_loops(q, k):
    """[batch head query key] by loops from [batch query head d_head] and [batch key head d_head]."""
    batch, n_query, n_heads, d_head = q.shape
    scores = torch.zeros(batch, n_heads, n_query, k.shape[1], dtype=q.dtype)
    for b in range(batch):
        for h in range(n_heads):
            for i in range(n_query):
                for j in range(k.shape[1]):
                    scores[b, h, i, j] = sum(q[b, i, h] * k[b, j, h]) / math.sqrt(d_head)
    return scores


def test_attention_scores(attention_scores, rng):
    """Scaled dot products within each batch entry and head, also with more keys than queries."""
    cases = [(rng.integers(-3, 4, 1, 2, 2, 4).float(), rng.integers(1, 4, 1, 3, 2, 4).float())]
    for batch, n_query, n_key, n_heads, d_head in [(1, 1, 1, 1, 1), (2, 3, 3, 1, 2), (2, 3, 2, 3, 5)]:
        cases += [(rng.normal(batch, n_query, n_heads, d_head), rng.normal(batch, n_key, n_heads, d_head))]
    cases += [(rng.normal(1, 2, 2, 3, dtype=torch.float64), rng.normal(1, 2, 2, 3, dtype=torch.float64))]
    for q, k in cases:
        with unchanged(q, k):
            actual = attention_scores(q, k)
        meaning = "entry [b, h, i, j] is not q[b, i, h] · k[b, j, h] / sqrt(d_head)"
        assert_close(actual, scores_by_loops(q, k), meaning)


def test_attention_scores__gradient(attention_scores, rng):
    """Gradients reach queries and keys"""
    assert_gradient_flows(attention_scores, rng.normal(1, 2, 2, 3), rng.normal(1, 2, 2, 3))


def test_bigram_counts(bigram_counts, rng):
    """Each pair of neighbours is counted as often as it occurs, and never across two rows."""
    cases = [(torch.tensor([[0, 1, 0, 1], [2, 2, 2, 1]]), 4)]
    cases += [
        (rng.integers(0, d_vocab, b, p), d_vocab) for b, p, d_vocab in [(1, 2, 3), (3, 5, 2), (4, 6, 5), (2, 1, 3)]
    ]
    for tokens, d_vocab in cases:
        expected = torch.zeros(d_vocab, d_vocab)
        for row in tokens.tolist():
            for i in range(len(row) - 1):
                expected[row[i], row[i + 1]] += 1
        with unchanged(tokens):
            actual = bigram_counts(tokens, d_vocab)
        assert_close(actual, expected, "entry [a, b] is not the number of times that b comes directly after a")


# --- 3. Cut and join axes


def test_split_heads(split_heads, rng):
    """Head h is the h-th piece of the last axis, for several numbers of heads."""
    cases = [(torch.arange(24.0).reshape(1, 3, 8), 2)]
    for batch, pos, n_heads, d_head in [(1, 1, 1, 1), (2, 2, 3, 1), (2, 3, 1, 4), (3, 4, 5, 2)]:
        cases += [(rng.normal(batch, pos, n_heads * d_head), n_heads)]
    for x, n_heads in cases:
        d_head = x.shape[-1] // n_heads
        expected = torch.stack([x[..., h * d_head : (h + 1) * d_head] for h in range(n_heads)], dim=2)
        with unchanged(x):
            actual = split_heads(x, n_heads)
        assert_close(actual, expected, "[b, p, h] is not the h-th piece of x[b, p]")


def test_split_heads__gradient(split_heads, rng):
    """A gradient reaches the input"""
    assert_gradient_flows(lambda x: split_heads(x, 2), rng.normal(1, 3, 4))


def test_merge_heads(merge_heads, rng):
    """The vectors of all heads side by side, head 0 first."""
    cases = [torch.arange(12.0).reshape(1, 2, 3, 2)]
    cases += [rng.normal(*shape) for shape in [(1, 1, 1, 1), (2, 3, 1, 4), (2, 2, 3, 1), (3, 2, 4, 5)]]
    for z in cases:
        expected = torch.cat([z[:, :, head] for head in range(z.shape[2])], dim=-1)
        with unchanged(z):
            actual = merge_heads(z)
        assert_close(actual, expected, "[b, p] is not z[b, p, 0], then z[b, p, 1], and so on")


def test_merge_heads__gradient(merge_heads, rng):
    """A gradient reaches the input"""
    assert_gradient_flows(merge_heads, rng.normal(1, 3, 2, 2))


def copies(k, group):
    """[batch pos head d_head] by loops: query head h uses key head h // group."""
    return torch.stack([k[:, :, h // group] for h in range(k.shape[2] * group)], dim=2)


def test_repeat_kv(repeat_kv, rng):
    """Query head h gets key head h // group, for several groups."""
    cases = [(torch.arange(8.0).reshape(1, 2, 2, 2), 3)]
    for batch, pos, n_kv_heads, d_head, group in [(1, 1, 1, 1, 2), (2, 3, 2, 4, 1), (2, 3, 4, 2, 2)]:
        cases += [(rng.normal(batch, pos, n_kv_heads, d_head), group)]
    for k, group in cases:
        with unchanged(k):
            actual = repeat_kv(k, group)
        assert_close(actual, copies(k, group), "query head h did not get key head h // group")


def test_repeat_kv__gradient(repeat_kv, rng):
    """A gradient reaches the input"""
    assert_gradient_flows(lambda k: repeat_kv(k, 2), rng.normal(1, 3, 2, 2))


def test_image_to_patches(image_to_patches, rng):
    """Patches and their pixels in reading order, also for images that are not square."""
    cases = [(torch.arange(24.0).reshape(1, 4, 6), 2)]
    cases += [
        (rng.normal(*shape), size) for shape, size in [((1, 1, 1), 1), ((2, 3, 2), 1), ((2, 3, 3), 3), ((2, 9, 6), 3)]
    ]
    for image, size in cases:
        rows, columns = image.shape[1] // size, image.shape[2] // size
        corners = [(row * size, column * size) for row in range(rows) for column in range(columns)]
        pieces = [image[:, top : top + size, left : left + size].flatten(1) for top, left in corners]
        with unchanged(image):
            actual = image_to_patches(image, size)
        assert_close(
            actual, torch.stack(pieces, dim=1), "[b, patch] does not hold that patch's pixels in reading order"
        )


def mixed_by_loops(pattern, v, n_kv_heads):
    """What mix_values promises, query by query."""
    batch, n_heads, n_query, _ = pattern.shape
    d_head = v.shape[-1] // n_kv_heads
    out = torch.zeros(batch, n_query, n_heads * d_head, dtype=v.dtype)
    for head in range(n_heads):
        kv_head = head // (n_heads // n_kv_heads)
        own = v[..., kv_head * d_head : (kv_head + 1) * d_head]
        for query in range(n_query):
            weights = pattern[:, head, query, :, None]
            out[:, query, head * d_head : (head + 1) * d_head] = (weights * own).sum(1)
    return out


def test_mix_values(mix_values, rng):
    """Each head's weighted average of its own values, with shared value heads and fewer queries than keys."""
    pattern = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5], [0.25, 0.75]])[:, None].repeat(1, 2, 1)
    pattern[:, 0] = torch.tensor([1.0, 0.0])  # the first query can only read the first key
    cases = [(pattern[None], torch.tensor([[[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]]]), 2)]
    for batch, n_heads, n_kv_heads, n_query, n_key, d_head in [
        (1, 1, 1, 1, 1, 1),
        (2, 2, 2, 3, 3, 3),
        (2, 4, 2, 3, 3, 2),
        (2, 6, 2, 1, 4, 5),
        (1, 3, 1, 2, 3, 2),
    ]:
        random_pattern = rng.normal(batch, n_heads, n_query, n_key).softmax(-1)
        cases += [(random_pattern, rng.normal(batch, n_key, n_kv_heads * d_head), n_kv_heads)]
    for pattern, v, n_kv_heads in cases:
        with unchanged(pattern, v):
            actual = mix_values(pattern, v, n_kv_heads)
        expected = mixed_by_loops(pattern, v, n_kv_heads)
        assert_close(actual, expected, "[b, query] is not each head's average of its values, head after head")


def test_mix_values__gradient(mix_values, rng):
    """Gradients reach pattern and values"""
    assert_gradient_flows(lambda pattern, v: mix_values(pattern, v, 1), rng.normal(1, 2, 3, 3), rng.normal(1, 3, 2))


# --- 4. Triangles


def test_causal_mask(causal_mask, rng):
    """Later keys get weight 0 after softmax, every other score stays, and the input too."""
    cases = [torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])]
    cases += [3 * rng.normal(*shape) for shape in [(1, 1), (1, 2, 2), (2, 3, 5, 5)]]
    cases += [rng.normal(2, 4, 4, dtype=torch.float64), rng.normal(3, 3) - 1e6]
    for scores in cases:
        with unchanged(scores):
            actual = assert_tensor(causal_mask(scores), shape=scores.shape, dtype=scores.dtype)
        kept = "a score for the query's own position or an earlier one has changed"
        assert_close(actual.tril(), scores.tril(), kept)
        weights = actual.softmax(-1).triu(1)
        assert_close(weights, torch.zeros_like(weights), "after softmax a query still gives weight to a later key")


def test_causal_mask__gradient(causal_mask, rng):
    """A gradient reaches the scores"""
    assert_gradient_flows(causal_mask, rng.normal(3, 3))


def test_cumsum_by_matmul(cumsum_by_matmul, rng):
    """Entry i is the sum of entries 0 to i, for vectors, batches, and both float types."""
    cases = [torch.tensor([1.0, 2.0, 3.0, 4.0])]
    cases += [rng.normal(*shape) for shape in [(1,), (2, 3), (1, 5), (2, 3, 4)]]
    cases += [rng.normal(2, 3, dtype=torch.float64)]
    for x in cases:
        expected = torch.stack([x[..., : i + 1].sum(-1) for i in range(x.shape[-1])], dim=-1)
        with unchanged(x):
            actual = assert_tensor(cumsum_by_matmul(x), dtype=x.dtype)
        assert_close(actual, expected, "entry i is not the sum of entries 0 to i")


def test_cumsum_by_matmul__gradient(cumsum_by_matmul, rng):
    """A gradient reaches the input"""
    assert_gradient_flows(cumsum_by_matmul, rng.normal(3))


def pattern_by_loops(q, k, n_heads, n_kv_heads):
    """What attention_pattern promises, row by row."""
    batch, pos, _ = q.shape
    q = q.reshape(batch, pos, n_heads, -1)
    k = copies(k.reshape(batch, pos, n_kv_heads, -1), n_heads // n_kv_heads)
    scores = scores_by_loops(q, k)
    pattern = torch.zeros_like(scores)
    for b in range(batch):
        for head in range(n_heads):
            for i in range(pos):
                weights = softmax(scores[b, head, i, : i + 1].tolist())
                pattern[b, head, i, : i + 1] = torch.tensor(weights, dtype=pattern.dtype)
    return pattern


def test_attention_pattern(attention_pattern, rng):
    """Rows that sum to 1, no weight on later keys, shared key heads, and agreement with attention by loops."""
    cases = [(rng.integers(-2, 3, 1, 3, 8).float(), torch.arange(12.0).reshape(1, 3, 4).cos().round(decimals=1), 4, 2)]
    for batch, pos, n_heads, n_kv_heads, d_head in [(1, 1, 1, 1, 1), (2, 3, 2, 2, 3), (1, 4, 3, 1, 5), (2, 3, 6, 2, 2)]:
        q, k = rng.normal(batch, pos, n_heads * d_head), rng.normal(batch, pos, n_kv_heads * d_head)
        cases += [(2 * q, 2 * k, n_heads, n_kv_heads)]
    for q, k, n_heads, n_kv_heads in cases:
        batch, pos, _ = q.shape
        with unchanged(q, k):
            actual = assert_tensor(attention_pattern(q, k, n_heads, n_kv_heads), shape=(batch, n_heads, pos, pos))
        blind = (
            "some weights are nan: softmax gives that where a query has no key left (its own stays), so does 0 * inf"
        )
        assert not actual[:, :, 0].isnan().any(), blind
        own = actual.diagonal(dim1=-2, dim2=-1)
        assert (own != 0).all(), "a query gives its own key no weight: a query may look at itself"
        later = actual.triu(1)
        assert_close(later, torch.zeros_like(later), "a query gives weight to a later key")
        assert_close(actual.sum(-1), torch.ones(batch, n_heads, pos), "the weights of a query do not sum to 1")
        assert_close(actual, pattern_by_loops(q, k, n_heads, n_kv_heads), "the weights differ from attention by loops")


def test_attention_pattern__gradient(attention_pattern, rng):
    """Gradients reach queries and keys"""
    assert_gradient_flows(lambda q, k: attention_pattern(q, k, 2, 1), rng.normal(1, 3, 4), rng.normal(1, 3, 2))


# --- 5. Pick by index


def test_gather_log_probs(gather_log_probs, rng):
    """The log-probability of the one token given at each position."""
    cases = [(torch.tensor([[[1.0, 2.0, 3.0], [0.0, 4.0, 1.0]]]), torch.tensor([[0, 2]]))]
    for batch, pos, d_vocab in [(1, 1, 1), (1, 3, 3), (2, 3, 5), (4, 2, 7)]:
        cases += [(2 * rng.normal(batch, pos, d_vocab), rng.integers(0, d_vocab, batch, pos))]
    for logits, tokens in cases:
        with unchanged(logits, tokens):
            actual = gather_log_probs(logits, tokens)
        expected = torch.zeros(tokens.shape)
        for b, row in enumerate(tokens.tolist()):
            for p, token in enumerate(row):
                expected[b, p] = math.log(softmax(logits[b, p].tolist())[token])
        assert_close(actual, expected, "[b, p] is not the log-probability of tokens[b, p]")


def test_gather_log_probs__far_apart(gather_log_probs):
    """Right for logits 1000 apart, too"""
    logits, tokens = torch.tensor([[[0.0, 1000.0]]]), torch.tensor([[0]])
    actual = gather_log_probs(logits, tokens)
    assert_close(actual, torch.tensor([[-1000.0]]), "logits 1000 apart: softmax rounds to 0 and its log is -inf")


def test_gather_log_probs__gradient(gather_log_probs, rng):
    """A gradient reaches the logits"""
    tokens = torch.tensor([[1, 0]])
    assert_gradient_flows(lambda logits: gather_log_probs(logits, tokens), rng.normal(1, 2, 3))


def test_topk_accuracy(topk_accuracy, rng):
    """The share of labels among the k highest logits, from k = 1 to the whole vocabulary."""
    cases = [([0, 0, 0, 1, 1, 2], 4, 2)]  # the rank of each row's label, the vocabulary's size, k
    cases += [([0], 1, 1), ([1], 2, 1), ([0, 1, 2], 3, 3), ([0, 3, 1, 2, 4], 5, 1), ([0, 3, 1, 2, 4, 4, 2], 6, 3)]
    for ranks, d_vocab, k in cases:
        order = torch.stack([rng.permutation(d_vocab) for _ in ranks])  # the tokens from highest to lowest logit
        heights = torch.arange(d_vocab, 0, -1) - d_vocab / 2 + 0.25
        logits = torch.zeros(len(ranks), d_vocab).scatter(1, order, heights.expand(len(ranks), -1))
        labels = torch.tensor([order[row, rank] for row, rank in enumerate(ranks)])
        with unchanged(logits, labels):
            actual = topk_accuracy(logits, labels, k)
        share = sum(rank < k for rank in ranks) / len(ranks)
        assert_close(actual, share, f"share of labels among the {k} highest logits")


def test_answer_view(answer_view):
    """A slice is a view, a list of indices copies."""
    assert_choice(answer_view, "b", "try it on torch.arange(6).reshape(2, 3)")


def test_sliding_windows(sliding_windows, rng):
    """Every run of `size` tokens, the first and the last too, from size 1 to the whole row."""
    cases = [(torch.tensor([[5, 6, 7, 8]]), 2)]
    cases += [
        (rng.integers(0, 50, b, p), size) for b, p, size in [(1, 1, 1), (2, 5, 3), (3, 4, 4), (2, 4, 1), (3, 9, 2)]
    ]
    for tokens, size in cases:
        rows = [[row[start : start + size] for start in range(len(row) - size + 1)] for row in tokens.tolist()]
        with unchanged(tokens):
            actual = sliding_windows(tokens, size)
        assert_close(actual, torch.tensor(rows), "[b, w] does not hold tokens w to w + size - 1")


# --- 6. Reduce


def test_answer_keepdim(answer_keepdim):
    """A sum without keepdim lines up with the wrong axis."""
    assert_choice(answer_keepdim, "c", "p.sum(-1) has shape [3]: with which axis of p does broadcasting align it?")


def test_masked_mean(masked_mean, rng):
    """The mean of the real entries of each row, whatever the padding holds: numbers, infinity or nan."""
    first = torch.tensor([[2.0, 4.0, 99.0], [1.0, 3.0, 8.0]])
    cases = [(first, torch.tensor([[True, True, False], [True, True, True]]))]
    for batch, pos in [(1, 1), (1, 4), (3, 5), (4, 2)]:
        mask = rng.uniform(batch, pos) < 0.5
        mask[:, rng.integer(0, pos)] = True
        cases += [(rng.normal(batch, pos), mask)]
    cases += [(rng.normal(2, 3, dtype=torch.float64), torch.ones(2, 3, dtype=torch.bool))]
    for padding in (math.inf, -math.inf, math.nan):
        cases += [(torch.tensor([[padding, 1.0, 3.0, padding]]), torch.tensor([[False, True, True, False]]))]
    for x, mask in cases:
        as_bits = x.view(torch.int64 if x.dtype == torch.float64 else torch.int32)  # nan != nan, but its bits are equal
        with unchanged(as_bits, mask):
            actual = masked_mean(x, mask)
        expected = [
            sum(value for value, real in zip(values, reals, strict=True) if real) / sum(reals)
            for values, reals in zip(x.tolist(), mask.tolist(), strict=True)
        ]
        assert_close(actual, torch.tensor(expected), "entry b is not the mean of x[b] where mask is True")


def test_masked_mean__gradient(masked_mean, rng):
    """A gradient reaches the numbers"""
    mask = torch.tensor([[True, True, False]])
    assert_gradient_flows(lambda x: masked_mean(x, mask), rng.normal(1, 3))


def test_next_token_loss(next_token_loss, rng):
    """Each real token but the first is scored by the logits before it; padding counts nowhere."""
    cases = [([4, 2], 4, 2)]  # the number of real tokens of each row, the padded length, the vocabulary's size
    cases += [([2], 2, 3), ([2, 5, 4], 5, 4), ([6, 6], 6, 3), ([3], 5, 2)]
    for lengths, pos, d_vocab in cases:
        logits = 2 * rng.normal(len(lengths), pos, d_vocab)
        tokens = rng.integers(0, d_vocab, len(lengths), pos)
        mask = torch.arange(pos) < torch.tensor(lengths)[:, None]
        with unchanged(logits, tokens, mask):
            actual = next_token_loss(logits, tokens, mask)
        expected = []
        for b, length in enumerate(lengths):
            surprises = [-math.log(softmax(logits[b, p - 1].tolist())[tokens[b, p]]) for p in range(1, length)]
            expected.append(sum(surprises) / len(surprises))
        assert_close(
            actual, torch.tensor(expected), "entry b is not the mean loss of row b's real tokens after the first"
        )


def test_next_token_loss__gradient(next_token_loss, rng):
    """A gradient reaches the logits"""
    tokens, mask = torch.tensor([[1, 0, 2]]), torch.tensor([[True, True, True]])
    assert_gradient_flows(lambda logits: next_token_loss(logits, tokens, mask), rng.normal(1, 3, 3))


# --- Where the input lives. Only a GPU can tell; without one these checks do not exist.

if torch.cuda.is_available():

    def test_one_hot__device(one_hot):
        """Works on the GPU"""
        assert one_hot(torch.tensor([[2, 0]], device="cuda"), 3).is_cuda, "tokens on the GPU, but a result on the CPU"

    def test_causal_mask__device(causal_mask):
        """Works on the GPU"""
        assert causal_mask(torch.ones(2, 2, device="cuda")).is_cuda, "scores on the GPU, but a result on the CPU"

    def test_cumsum_by_matmul__device(cumsum_by_matmul):
        """Works on the GPU"""
        assert cumsum_by_matmul(torch.ones(3, device="cuda")).is_cuda, "x on the GPU, but a result on the CPU"
