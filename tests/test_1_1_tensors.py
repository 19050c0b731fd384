"""Checks of 1.1 Tensors. In each the smallest case comes first: it is the one that a learner is shown."""

import math

import torch
from torch.nn.functional import scaled_dot_product_attention

from concrete_steps.checking.testing import (
    assert_choice,
    assert_close,
    assert_gradient_values,
    assert_minus_infinity,
    assert_precise,
    assert_tensor,
    awkward,
    nothing_left_behind,
    shapes_with_ones,
    strided,
    unchanged,
)

# Changes that make no wrong answer; scripts/mutate.py counts them apart:
# equivalent mutant of one_hot, drop device= of arange: only a GPU can tell, and there a check does
# equivalent mutant of causal_mask, drop device= of ones: only a GPU can tell, and there a check does
# equivalent mutant of sliding_windows, drop device= of arange (2x): only a GPU can tell
# equivalent mutant of mix_values, FloorDiv -> Div: einops repeats 2.0 times as it does 2 times
# equivalent mutant of attention_pattern, FloorDiv -> Div: einops repeats 2.0 times as it does 2 times
# equivalent mutant of attention_scores, q -> k: queries and keys have the same d_head
# equivalent mutant of causal_mask, [-2:] -> [:]: a mask with the batch axes too is as good
# equivalent mutant of causal_mask, 2 -> 3: a mask with one of the batch axes too is as good
# equivalent mutant of attention_layer, masked_fill -> masked_fill_: these scores were made just before
# equivalent mutant of attention_layer, W_Q -> W_O: both have a matrix for each query head
# equivalent mutant of attention_layer, W_K -> W_V: both have a matrix for each key head
# equivalent mutant of beam_step, 1 -> -1: the scores' axis 1 is their last
# equivalent mutant of beam_step, scores -> logits: axis 1 of both is the beams
# equivalent mutant of beam_step, scores -> tokens: axis 1 of both is the beams
# equivalent mutant of gather_log_probs, 0 -> -1: the axis has size 1, so first and last are the same
# equivalent mutant of sliding_windows, 1 -> -1: axis 1 is the last
# equivalent mutant of masked_mean, drop USub (2x): axis 1 is the last
# equivalent mutant of masked_mean, 1 -> -1 (2x): axis 1 is the last
# equivalent mutant of next_token_loss, [:-1] -> [:]: gather leaves out what its index does not reach

BOTH = (torch.float32, torch.float64)


def softmax(scores):
    """Weights of a list of numbers, by hand."""
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    return [power / sum(powers) for power in powers]


def answer_to(function, *inputs):
    """What the function gives for the inputs, which stay as they are; as do PyTorch's modes and random numbers."""
    with nothing_left_behind(), unchanged(*inputs):
        return function(*inputs)


# --- 1. A shape is a sentence


def test_answer_annotation(answer_annotation):
    """One name stands for one size, wherever it occurs."""
    assert_choice(answer_annotation, "a", "which of the three sizes of resid is called d_model?")


def test_answer_broadcast(answer_broadcast):
    """Shapes align at the right, and axes of 1 are stretched."""
    assert_choice(answer_broadcast, "b", "write [5, 1] below [4, 1, 3], aligned at the right, and go axis by axis")


def test_one_hot(one_hot, rng):
    """A single 1.0 at each token's place, also when the largest token does not occur."""
    cases = [(torch.tensor([[2, 0]]), 4)]
    cases += [(rng.integers(0, d_vocab, b, p), d_vocab) for b, p, d_vocab in [*shapes_with_ones(3, 2, 5), (2, 4, 2)]]
    cases += [(strided(rng.integers(0, 4, 2, 3)), 6)]
    for tokens, d_vocab in cases:
        actual = assert_tensor(answer_to(one_hot, tokens, d_vocab), shape=(*tokens.shape, d_vocab))
        expected = torch.zeros(*tokens.shape, d_vocab)
        for b, row in enumerate(tokens.tolist()):
            for p, token in enumerate(row):
                expected[b, p, token] = 1
        assert_close(actual, expected, "the row of a token is not 1 at the token's place and 0 elsewhere")
        assert actual.is_floating_point(), f"the annotation promises floats, the result holds {actual.dtype}"


def test_pairwise_distances(pairwise_distances, rng):
    """Euclidean distances of every x to every y, also of equal points and of near points far from 0."""
    cases = [(torch.tensor([[0.0, 0.0], [3.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0], [6.0, 0.0]]))]
    for n, m, d in [*shapes_with_ones(4, 3, 2), (3, 3, 3), (3, 5, 7)]:
        cases += [(rng.normal(n, d, dtype=dtype), rng.normal(m, d, dtype=dtype)) for dtype in BOTH]
    cases += [(x, x[:2] + 0.5) for dtype in BOTH for x in awkward(rng, 3, 4, dtype=dtype)]
    cases += [(strided(rng.normal(3, 4)), strided(rng.normal(2, 4)))]
    for x, y in cases:
        expected = torch.tensor([[math.dist(a, b) for b in y.tolist()] for a in x.tolist()], dtype=x.dtype)
        message = "entry [i, j] is not the distance of x[i] to y[j]"
        if x.abs().max() > 50 * expected.min():
            message += ", for near points far from 0: are numbers squared before they are subtracted?"
        assert_precise(answer_to(pairwise_distances, x, y), expected, message, loosen=10)


def test_pairwise_distances__itself(pairwise_distances, rng):
    """A point is at distance 0 from itself, and gradients reach both inputs"""
    points = rng.normal(4, 3)
    nearest = pairwise_distances(points, points.clone()).diagonal()
    assert_close(nearest, torch.zeros(4), "the distance of a point to itself is not 0", atol=1e-2)
    assert_gradient_values(pairwise_distances, rng.normal(2, 3, dtype=torch.float64), rng.normal(4, 3).double())


# --- 2. einsum


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
    for batch, n_query, n_key, n_heads, d_head in [*shapes_with_ones(2, 2, 3, 3, 5), (2, 3, 3, 1, 2), (1, 2, 2, 2, 3)]:
        for dtype in BOTH:
            sizes = (batch, n_query, n_heads, d_head), (batch, n_key, n_heads, d_head)
            cases += [tuple(rng.normal(*size, dtype=dtype) for size in sizes)]
    cases += [tuple(map(strided, cases[-1]))]
    for q, k in cases:
        meaning = "entry [b, h, i, j] is not q[b, i, h] · k[b, j, h] / sqrt(d_head)"
        assert_precise(answer_to(attention_scores, q, k), scores_by_loops(q, k), meaning)


def test_attention_scores__gradient(attention_scores, rng):
    """Gradients reach queries and keys"""
    assert_gradient_values(attention_scores, rng.normal(1, 2, 2, 3).double(), rng.normal(1, 2, 2, 3).double())


def test_bigram_counts(bigram_counts, rng):
    """Each pair of neighbours is counted as often as it occurs, and never across two rows."""
    cases = [(torch.tensor([[0, 1, 0, 1], [2, 2, 2, 1]]), 4)]
    for batch, pos, d_vocab in [*shapes_with_ones(3, 5, 2), (4, 6, 5), (2, 1, 3)]:
        cases += [(rng.integers(0, d_vocab, batch, pos), d_vocab)]
    cases += [(strided(rng.integers(0, 3, 3, 4)), 4)]
    for tokens, d_vocab in cases:
        expected = torch.zeros(d_vocab, d_vocab)
        for row in tokens.tolist():
            for i in range(len(row) - 1):
                expected[row[i], row[i + 1]] += 1
        actual = answer_to(bigram_counts, tokens, d_vocab)
        assert_close(actual, expected, "entry [a, b] is not the number of times that b comes directly after a")
        assert actual.is_floating_point(), f"the annotation promises floats, the result holds {actual.dtype}"


# --- 3. Cut and join axes


def test_split_heads(split_heads, rng):
    """Head h is the h-th piece of the last axis; its copies, if any, follow each other."""
    cases = [(torch.arange(24.0).reshape(1, 3, 8), 2, 1), (torch.arange(8.0).reshape(1, 2, 4), 2, 3)]
    for batch, pos, n_heads, d_head, group in [*shapes_with_ones(3, 4, 5, 2, 2), (2, 3, 2, 4, 1), (2, 3, 4, 2, 3)]:
        cases += [(rng.normal(batch, pos, n_heads * d_head), n_heads, group)]
    cases += [(strided(rng.normal(2, 3, 8)).double(), 4, 2)]
    for x, n_heads, group in cases:
        d_head = x.shape[-1] // n_heads
        pieces = [x[..., h * d_head : (h + 1) * d_head] for h in range(n_heads) for _ in range(group)]
        message = "[b, p, h] is not the h-th piece of x[b, p]"
        if group > 1:
            message = "with group copies of each head, [b, p, h] is not piece h // group of x[b, p]"
        assert_precise(answer_to(split_heads, x, n_heads, group), torch.stack(pieces, dim=2), message)
    assert_precise(split_heads(x, n_heads), split_heads(x, n_heads, 1), "without `group` each head comes once")


def test_split_heads__gradient(split_heads, rng):
    """A gradient reaches the input"""
    assert_gradient_values(lambda x: split_heads(x, 2, 3), rng.normal(1, 3, 4).double())


def test_image_to_patches(image_to_patches, rng):
    """Patches and their pixels in reading order, also where the last patches must be filled up with zeros."""
    cases = [(torch.arange(24.0).reshape(1, 4, 6), 2), (torch.arange(1.0, 16).reshape(1, 3, 5), 2)]
    for shape, size in [((1, 1, 1), 1), ((1, 1, 1), 2), ((2, 3, 2), 1), ((2, 3, 3), 3), ((2, 9, 6), 3), ((3, 4, 7), 3)]:
        cases += [(rng.normal(*shape, dtype=dtype), size) for dtype in BOTH]
    cases += [(strided(rng.normal(2, 6, 4)), 2), (strided(rng.normal(2, 5, 4)), 3)]
    for image, size in cases:
        batch, height, width = image.shape
        rows, columns = math.ceil(height / size), math.ceil(width / size)
        canvas = image.new_zeros(batch, rows * size, columns * size)
        canvas[:, :height, :width] = image
        corners = [(row * size, column * size) for row in range(rows) for column in range(columns)]
        pieces = [canvas[:, top : top + size, left : left + size].flatten(1) for top, left in corners]
        message = "[b, patch] does not hold that patch's pixels in reading order"
        if canvas.shape != image.shape:
            message += f" (of {height} x {width} pixels, filled up with zeros for patches of {size} x {size})"
        assert_precise(answer_to(image_to_patches, image, size), torch.stack(pieces, dim=1), message)


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
        (2, 4, 4, 2, 3, 1),
    ]:
        for dtype in BOTH:
            random_pattern = rng.normal(batch, n_heads, n_query, n_key, dtype=dtype).softmax(-1)
            cases += [(random_pattern, rng.normal(batch, n_key, n_kv_heads * d_head, dtype=dtype), n_kv_heads)]
    cases += [(strided(cases[5][0]), strided(cases[5][1]), cases[5][2])]
    for pattern, v, n_kv_heads in cases:
        expected = mixed_by_loops(pattern, v, n_kv_heads)
        message = "[b, query] is not each head's average of its values, head after head"
        assert_precise(answer_to(mix_values, pattern, v, n_kv_heads), expected, message)


def test_mix_values__gradient(mix_values, rng):
    """Gradients reach pattern and values"""
    pattern, v = rng.normal(1, 2, 3, 3).double(), rng.normal(1, 3, 2).double()
    assert_gradient_values(lambda pattern, v: mix_values(pattern, v, 1), pattern, v)


# --- 4. Triangles


def test_causal_mask(causal_mask, rng):
    """Later keys at minus infinity, every other score as it was, zeros and very low ones too."""
    cases = [torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])]
    cases += [3 * rng.normal(*shape, dtype=dtype) for shape in [(1, 1), (1, 2, 2), (2, 3, 5, 5)] for dtype in BOTH]
    cases += [torch.zeros(1, 3, 3), rng.normal(3, 3) - 1e6, rng.normal(3, 3) - 1e12]
    cases += [*awkward(rng, 4, 4), strided(rng.normal(2, 4, 4, dtype=torch.float64))]
    for scores in cases:
        actual = assert_tensor(answer_to(causal_mask, scores), shape=scores.shape, dtype=scores.dtype)
        kept = "a score for the query's own position or an earlier one has changed"
        assert_close(actual.tril(), scores.tril(), kept, rtol=0, atol=0)
        later = torch.ones_like(scores, dtype=torch.bool).triu(1)
        assert_minus_infinity(actual[later], "a key after its query is not at minus infinity")


def test_causal_mask__gradient(causal_mask, rng):
    """A gradient reaches the scores"""
    assert_gradient_values(causal_mask, rng.normal(3, 3).double())


def copies(k, group):
    """[batch pos head d_head] by loops: query head h uses key head h // group."""
    return torch.stack([k[:, :, h // group] for h in range(k.shape[2] * group)], dim=2)


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
        for dtype in BOTH:
            q, k = (rng.normal(batch, pos, n * d_head, dtype=dtype) for n in (n_heads, n_kv_heads))
            cases += [(2 * q, 2 * k, n_heads, n_kv_heads)]
    cases += [(strided(q), strided(k), n_heads, n_kv_heads)]
    cases += [(100 * q, 100 * k, n_heads, n_kv_heads), (0 * q, k, n_heads, n_kv_heads)]
    for q, k, n_heads, n_kv_heads in cases:
        batch, pos, _ = q.shape
        actual = answer_to(attention_pattern, q, k, n_heads, n_kv_heads)
        actual = assert_tensor(actual, shape=(batch, n_heads, pos, pos), dtype=q.dtype)
        if q.abs().max() > 50:
            unfit = "scores are large: exp of them is infinite, or a row whose weights round to 0 is divided by its sum"
        elif not actual[..., 1:, :].isnan().any():
            unfit = "there, where a query has no key left (its own stays)"
        else:
            unfit = "a query has no key left (its own stays), the softmax is not over the keys, or 0 meets infinity"
        assert not actual.isnan().any(), f"some weights are nan: {unfit}"
        assert (actual >= 0).all(), f"a weight is {actual.min():.3g}: softmax gives weights from 0 to 1"
        own = actual.diagonal(dim1=-2, dim2=-1)
        assert q.abs().max() > 50 or (own != 0).all(), "a query gives its own key no weight: a query may look at itself"
        later = actual.triu(1)
        assert_close(later, torch.zeros_like(later), "a query gives weight to a later key")
        assert_close(actual.sum(-1), torch.ones(batch, n_heads, pos), "the weights of a query do not sum to 1")
        assert_precise(
            actual, pattern_by_loops(q, k, n_heads, n_kv_heads), "the weights differ from attention by loops"
        )


def test_attention_pattern__gradient(attention_pattern, rng):
    """Gradients reach queries and keys"""
    q, k = rng.normal(1, 3, 4).double(), rng.normal(1, 3, 2).double()
    assert_gradient_values(lambda q, k: attention_pattern(q, k, 2, 1), q, k)


# --- 5. A layer


def layer_by_torch(resid, w_q, w_k, w_v, w_o, real):
    """What attention_layer promises: each text without its padding, by PyTorch's own attention, a head at a time."""
    out = torch.zeros_like(resid)
    for b, mask in enumerate(real):
        if not mask.any():
            continue
        text = resid[b, mask]
        for head in range(len(w_q)):
            kv_head = head // (len(w_q) // len(w_k))
            q, k, v = text @ w_q[head], text @ w_k[kv_head], text @ w_v[kv_head]
            out[b, mask] += scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0] @ w_o[head]
    return out


def layer_inputs(rng, sizes, dtype=torch.float64):
    """A stream and weights of these sizes: batch, pos, d_model, n_heads, n_kv_heads, d_head."""
    batch, pos, d_model, n_heads, n_kv_heads, d_head = sizes
    into = [rng.normal(n, d_model, d_head, dtype=dtype) for n in (n_heads, n_kv_heads, n_kv_heads)]
    return rng.normal(batch, pos, d_model, dtype=dtype), *into, rng.normal(n_heads, d_head, d_model, dtype=dtype)


LAYERS = ((1, 1, 1, 1, 1, 1), (1, 3, 2, 2, 2, 3), (2, 4, 3, 4, 2, 5), (3, 5, 4, 6, 2, 1), (2, 3, 5, 3, 1, 2))


def test_attention_layer(attention_layer, rng):
    """Without padding it is PyTorch's attention, head by head, with shared key and value heads."""
    for sizes in LAYERS:
        for dtype in BOTH:
            given = layer_inputs(rng, sizes, dtype)
            real = torch.ones(given[0].shape[:2], dtype=torch.bool)
            message = "with no padding, not the sum of what each head writes by PyTorch's own attention"
            assert_precise(answer_to(attention_layer, *given, real), layer_by_torch(*given, real), message, loosen=10)


def test_attention_layer__padding(attention_layer, rng):
    """Padding on the left, on the right or in between is read by nobody and writes 0."""
    for sizes in LAYERS:
        batch, pos = sizes[:2]
        left = torch.arange(pos) >= torch.tensor([min(b + 1, pos - 1) for b in range(batch)])[:, None]
        between = rng.uniform(batch, pos) < 0.6
        for where, real in (("left", left), ("right", left.flip(1)), ("inside", between), ("whole", left & False)):
            given = layer_inputs(rng, sizes)
            actual = assert_tensor(answer_to(attention_layer, *given, real), shape=given[0].shape)
            place = f"a padded text (padding: {where}, `real` is {real.tolist()})"
            assert not actual[real].isnan().any(), f"nan at a real position of {place}: 0 times nan is nan"
            padding = actual[~real]
            assert not padding.isnan().any(), f"writes nan at the padding of {place}: a softmax of -inf only"
            assert_close(padding, torch.zeros_like(padding), f"the padding does not write 0 in {place}")
            assert_precise(actual, layer_by_torch(*given, real), f"not what the text gives alone: {place}", loosen=10)
    given, real = layer_inputs(rng, (2, 4, 3, 4, 2, 5)), torch.tensor([[False, True, True, True], [True] * 4])
    views = [strided(x) for x in given]
    assert_precise(
        answer_to(attention_layer, *views, real), layer_by_torch(*given, real), "differs for views", loosen=10
    )


def test_attention_layer__hidden(attention_layer, rng):
    """What is hidden stays hidden, however low the other scores are"""
    resid, w_q, _, w_v, w_o = layer_inputs(rng, (2, 4, 3, 2, 2, 3))
    given, real = (500 * resid, w_q, -w_q, w_v, w_o), torch.tensor([[False, True, True, True], [True] * 4])
    message = "where the other scores are very low, something hidden is read: only minus infinity is lower than all"
    assert_precise(answer_to(attention_layer, *given, real), layer_by_torch(*given, real), message, loosen=10)


def test_attention_layer__gradient(attention_layer, rng):
    """Gradients reach the stream and every weight, and padding makes none of them nan"""
    real = torch.tensor([[False, True, True], [True, True, True]])
    assert_gradient_values(lambda *given: attention_layer(*given, real), *layer_inputs(rng, (2, 3, 4, 2, 1, 3)))


# --- 6. Pick by index


def test_gather_log_probs(gather_log_probs, rng):
    """The log-probability of the one token given at each position."""
    cases = [(torch.tensor([[[1.0, 2.0, 3.0], [0.0, 4.0, 1.0]]]), torch.tensor([[0, 2]]))]
    for batch, pos, d_vocab in [*shapes_with_ones(2, 3, 5), (1, 3, 3), (4, 2, 7)]:
        for dtype in BOTH:
            cases += [(2 * rng.normal(batch, pos, d_vocab, dtype=dtype), rng.integers(0, d_vocab, batch, pos))]
    cases += [(logits, rng.integers(0, 4, 2, 3)) for logits in awkward(rng, 2, 3, 4)]
    cases += [(strided(rng.normal(2, 3, 4)), strided(rng.integers(0, 4, 2, 3)))]
    for logits, tokens in cases:
        expected = torch.zeros(tokens.shape, dtype=logits.dtype)
        for b, row in enumerate(tokens.tolist()):
            for p, token in enumerate(row):
                numbers = logits[b, p].double()
                expected[b, p] = numbers[token] - numbers.max() - (numbers - numbers.max()).exp().sum().log()
        actual = answer_to(gather_log_probs, logits, tokens)
        assert_precise(actual, expected, "[b, p] is not the log-probability of tokens[b, p]", loosen=5)


def test_gather_log_probs__far_apart(gather_log_probs):
    """Right for logits 1000 apart, too"""
    logits, tokens = torch.tensor([[[0.0, 1000.0]]]), torch.tensor([[0]])
    actual = gather_log_probs(logits, tokens)
    assert_close(actual, torch.tensor([[-1000.0]]), "logits 1000 apart: softmax rounds to 0 and its log is -inf")


def test_gather_log_probs__gradient(gather_log_probs, rng):
    """A gradient reaches the logits"""
    tokens = torch.tensor([[1, 0]])
    assert_gradient_values(lambda logits: gather_log_probs(logits, tokens), rng.normal(1, 2, 3).double())


def test_answer_view(answer_view):
    """A slice is a view, a list of indices copies."""
    assert_choice(answer_view, "b", "try it on torch.arange(6).reshape(2, 3)")


def test_sliding_windows(sliding_windows, rng):
    """Every run of `size` tokens, the first and the last too, from size 1 to the whole row."""
    cases = [(torch.tensor([[5, 6, 7, 8]]), 2)]
    sizes = [(1, 1, 1), (1, 4, 2), (2, 5, 3), (3, 4, 4), (2, 4, 1), (3, 9, 2)]
    cases += [(rng.integers(0, 50, b, p), size) for b, p, size in sizes]
    cases += [(strided(rng.integers(0, 50, 3, 5)), 2), (strided(rng.integers(0, 2, 2, 6)), 3)]
    for tokens, size in cases:
        rows = [[row[start : start + size] for start in range(len(row) - size + 1)] for row in tokens.tolist()]
        actual = answer_to(sliding_windows, tokens, size)
        assert_precise(actual, torch.tensor(rows), "[b, w] does not hold tokens w to w + size - 1")


def continuations(scores, logits, tokens):
    """All that beam_step may choose from, for one batch entry: (score, text), best first."""
    found = []
    for score, row, text in zip(
        scores.tolist(), logits.double().log_softmax(-1).tolist(), tokens.tolist(), strict=True
    ):
        found += [(score + log_prob, [*text, token]) for token, log_prob in enumerate(row)]
    return sorted(found, key=lambda pair: -pair[0])


def beam_inputs(rng, batch, n_beams, d_vocab, pos, dtype=torch.float32):
    """Scores, logits and texts. The texts of one batch entry all differ, so that a wrong parent shows."""
    tokens = rng.integers(0, d_vocab, batch, n_beams, pos)
    tokens[..., 0] = torch.stack([rng.permutation(n_beams) for _ in range(batch)])
    scores, logits = rng.normal(batch, n_beams, dtype=dtype), 2 * rng.normal(batch, n_beams, d_vocab, dtype=dtype)
    return scores - 3, logits, tokens


def test_beam_step(beam_step, rng):
    """The best continuations of all beams together, best first, each with its own history."""
    ranks = torch.tensor([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1]]).log()[None]
    cases = [(torch.tensor([[-1.0, -1.1]]), ranks + 2, torch.tensor([[[7], [8]]]))]
    sizes = [(1, 1, 1, 1), (1, 1, 4, 3), (1, 3, 2, 2), (2, 2, 5, 1), (3, 4, 6, 3), (2, 3, 3, 4)]
    cases += [beam_inputs(rng, *size, dtype=dtype) for size in sizes for dtype in BOTH]
    alive = beam_inputs(rng, 2, 3, 5, 2)
    cases += [(torch.tensor([[0.0, -torch.inf, -torch.inf], [-torch.inf, -1.0, -torch.inf]]), *alive[1:])]
    cases += [(cases[-1][0] - 2000, 300 * alive[1], alive[2]), tuple(map(strided, beam_inputs(rng, 2, 3, 5, 3)))]
    for scores, logits, tokens in cases:
        result = answer_to(beam_step, scores, logits, tokens)
        pair = isinstance(result, tuple | list) and len(result) == 2
        assert pair, f"expected two tensors, scores and tokens, got {type(result).__name__}"
        batch, n_beams, pos = tokens.shape
        new_scores = assert_tensor(result[0], shape=(batch, n_beams), dtype=scores.dtype)
        new_tokens = assert_tensor(result[1], shape=(batch, n_beams, pos + 1), dtype=tokens.dtype)
        for b in range(batch):
            best = continuations(scores[b], logits[b], tokens[b])[:n_beams]
            expected = torch.tensor([score for score, _ in best], dtype=scores.dtype)
            message = f"batch entry {b}: not the scores of its {n_beams} best continuations, best first"
            assert_precise(new_scores[b], expected, message, loosen=5)
            texts = torch.tensor([text for _, text in best])
            parents = "do not go on from the beams that the scores belong to"
            assert_close(new_tokens[b, :, :-1], texts[:, :-1], f"batch entry {b}: the histories {parents}")
            assert_close(new_tokens[b, :, -1], texts[:, -1], f"batch entry {b}: the new tokens are not those that win")


def test_beam_step__gradient(beam_step, rng):
    """A gradient reaches scores and logits"""
    scores, logits, tokens = beam_inputs(rng, 2, 2, 3, 2, dtype=torch.float64)
    assert_gradient_values(lambda scores, logits: beam_step(scores, logits, tokens)[0], scores, logits)


# --- 7. Reduce


def test_answer_keepdim(answer_keepdim):
    """A sum without keepdim lines up with the wrong axis."""
    assert_choice(answer_keepdim, "c", "p.sum(-1) has shape [3]: with which axis of p does broadcasting align it?")


def test_masked_mean(masked_mean, rng):
    """The mean of the real entries of each row, zeros among them, whatever the padding holds: inf or nan, too."""
    first = torch.tensor([[2.0, 4.0, 99.0], [1.0, 3.0, 8.0]])
    cases = [(first, torch.tensor([[True, True, False], [True, True, True]]))]
    cases += [(torch.tensor([[0.0, 4.0, 0.0, 5.0]]), torch.tensor([[True, True, True, False]]))]

    def some(batch, pos):
        mask = rng.uniform(batch, pos) < 0.5
        mask[:, rng.integer(0, pos)] = True
        return mask

    cases += [(rng.normal(*shape, dtype=dtype), some(*shape)) for shape in shapes_with_ones(3, 5) for dtype in BOTH]
    cases += [(x, some(3, 4)) for dtype in BOTH for x in awkward(rng, 3, 4, dtype=dtype)]
    cases += [(strided(rng.normal(3, 5)), strided(some(3, 5)))]
    for padding in (math.inf, -math.inf, math.nan):
        cases += [(torch.tensor([[padding, 1.0, 3.0, padding]]), torch.tensor([[False, True, True, False]]))]
    for x, mask in cases:
        expected = [
            sum(value for value, real in zip(values, reals, strict=True) if real) / sum(reals)
            for values, reals in zip(x.tolist(), mask.tolist(), strict=True)
        ]
        message = "entry b is not the mean of x[b] where mask is True"
        assert_precise(answer_to(masked_mean, x, mask), torch.tensor(expected, dtype=x.dtype), message)


def test_masked_mean__gradient(masked_mean, rng):
    """A gradient reaches the numbers"""
    mask = torch.tensor([[True, True, False], [False, True, False]])
    assert_gradient_values(lambda x: masked_mean(x, mask), rng.normal(2, 3).double())


def test_next_token_loss(next_token_loss, rng):
    """Each real token but the first is scored by the logits before it; padding counts nowhere."""
    cases = [([4, 2], 4, 2, torch.float32)]  # how many tokens of each row are real, the padded length, d_vocab, dtype
    for lengths, pos, d_vocab in [([2], 2, 3), ([2, 5, 4], 5, 4), ([6, 6], 6, 3), ([3], 5, 2), ([2, 3], 4, 1)]:
        cases += [(lengths, pos, d_vocab, dtype) for dtype in BOTH]
    for lengths, pos, d_vocab, dtype in cases:
        logits = 2 * rng.normal(len(lengths), pos, d_vocab, dtype=dtype)
        tokens = rng.integers(0, d_vocab, len(lengths), pos)
        mask = torch.arange(pos) < torch.tensor(lengths)[:, None]
        if pos > 4:
            logits, tokens, mask = strided(logits), strided(tokens), strided(mask)
        expected = []
        for b, length in enumerate(lengths):
            surprises = [-math.log(softmax(logits[b, p - 1].tolist())[tokens[b, p]]) for p in range(1, length)]
            expected.append(sum(surprises) / len(surprises))
        actual = answer_to(next_token_loss, logits, tokens, mask)
        message = "entry b is not the mean loss of row b's real tokens after the first"
        assert_precise(actual, torch.tensor(expected, dtype=dtype), message)


def test_next_token_loss__nan(next_token_loss, rng):
    """Nor does it count where its logits are nan"""
    logits, tokens, mask = rng.normal(2, 4, 3), rng.integers(0, 3, 2, 4), torch.arange(4) < torch.tensor([[2], [4]])
    expected = answer_to(next_token_loss, logits, tokens, mask)
    actual = answer_to(next_token_loss, logits.masked_fill(~mask[..., None], math.nan), tokens, mask)
    assert_close(actual, expected, "nan among the logits of the padding spoils the loss: 0 * nan is nan")


def test_next_token_loss__gradient(next_token_loss, rng):
    """A gradient reaches the logits"""
    tokens, mask = torch.tensor([[1, 0, 2], [2, 2, 0]]), torch.tensor([[True, True, True], [True, True, False]])
    assert_gradient_values(lambda logits: next_token_loss(logits, tokens, mask), rng.normal(2, 3, 3).double())


# --- Where the input lives. Only a GPU can tell; without one these checks do not exist.

if torch.cuda.is_available():

    def test_one_hot__device(one_hot):
        """Works on the GPU"""
        assert one_hot(torch.tensor([[2, 0]], device="cuda"), 3).is_cuda, "tokens on the GPU, but a result on the CPU"

    def test_causal_mask__device(causal_mask):
        """Works on the GPU"""
        assert causal_mask(torch.ones(2, 2, device="cuda")).is_cuda, "scores on the GPU, but a result on the CPU"
