"""Wrong answers to 1.1 Tensors, and what each of them is."""

import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, repeat

from concrete_steps.checking.mistakes import mistake, right

# --- 1. A shape is a sentence


@mistake("d_model names resid's last axis, so its size is 768, not 5; the sum runs over d_model and leaves batch, pos")
def answer_annotation():
    return "b"


@mistake("direction has one name in its annotation, so one axis: it is a single vector for all positions")
def answer_annotation():
    return "c"


@mistake("shapes align at the right, so the 4 meets no axis of y, and each other pair has a 1 to stretch")
def answer_broadcast():
    return "a"


@mistake("shapes are laid over each other, not strung together: the result has as many axes as the longer one")
def answer_broadcast():
    return "c"


@mistake("compares the positions with the vocabulary: the tokens need a new last axis to line up against")
def one_hot(tokens, d_vocab):
    return (tokens == torch.arange(d_vocab)).float()


@mistake("counts tokens from 1: token 0 belongs in column 0")
def one_hot(tokens, d_vocab):
    return (tokens[..., None] == torch.arange(1, d_vocab + 1)).float()


@mistake("takes the largest token that occurs for the size of the vocabulary: use d_vocab")
def one_hot(tokens, d_vocab):
    return torch.nn.functional.one_hot(tokens).float()


@mistake("has the right places, but holds True and False or whole numbers: einsum with floats needs .float()")
def one_hot(tokens, d_vocab):
    return tokens[..., None] == torch.arange(d_vocab)


@right("rows of the identity")
def one_hot(tokens, d_vocab):
    return torch.eye(d_vocab, device=tokens.device)[tokens]


@mistake("uses a token as a place in the batch: out[tokens] picks along the first axis, the token belongs in the last")
def one_hot(tokens, d_vocab):
    out = torch.zeros(*tokens.shape, d_vocab)
    out[tokens] = 1
    return out


@mistake("gives squared distances: the root is missing")
def pairwise_distances(x, y):
    return (x[:, None] - y).square().sum(-1)


@mistake("gives [m n]: the points of x belong along the rows")
def pairwise_distances(x, y):
    return (y[:, None] - x).norm(dim=-1)


@mistake("sums over the points, not the coordinates: the last axis of the differences is the one to reduce")
def pairwise_distances(x, y):
    return (x[:, None] - y).norm(dim=1)


@mistake("pairs x[0] with y[0], x[1] with y[1]: a new axis makes each meet each")
def pairwise_distances(x, y):
    return (x - y).norm(dim=-1)


@mistake("squares before it subtracts: for near points far from 0 nothing is left of the difference")
def pairwise_distances(x, y):
    squares = x.square().sum(-1)[:, None] + y.square().sum(-1) - 2 * x @ y.T
    return squares.clamp(min=0).sqrt()


@right("torch.cdist")
def pairwise_distances(x, y):
    return torch.cdist(x, y)


@right("loops over points")
def pairwise_distances(x, y):
    return torch.stack([torch.stack([(a - b).square().sum().sqrt() for b in y]) for a in x])


@mistake("adds up absolute differences: that is the way round the corner, not the straight line")
def pairwise_distances(x, y):
    return (x[:, None] - y).abs().sum(-1)


# --- 2. einsum


@mistake("does not divide by the root of d_head")
def attention_scores(q, k):
    return einsum(q, k, "b q h d, b k h d -> b h q k")


@right("matrix products of transposed axes")
def attention_scores(q, k):
    return q.transpose(1, 2) @ k.permute(0, 2, 3, 1) * q.shape[-1] ** -0.5


@mistake("divides by d_head: its root is meant")
def attention_scores(q, k):
    return einsum(q, k, "b q h d, b k h d -> b h q k") / q.shape[-1]


@mistake("gives [batch head key query]: queries are the rows")
def attention_scores(q, k):
    return einsum(q, k, "b q h d, b k h d -> b h k q") / q.shape[-1] ** 0.5


@mistake("gives [batch query head key]: the head comes before the query")
def attention_scores(q, k):
    return einsum(q, k, "b q h d, b k h d -> b q h k") / q.shape[-1] ** 0.5


@mistake("divides by the root of the number of keys: d_head is the last axis of q")
def attention_scores(q, k):
    return einsum(q, k, "b q h d, b k h d -> b h q k") / k.shape[1] ** 0.5


@mistake("adds the heads together: each head has scores of its own, so keep its name on the right of the arrow")
def attention_scores(q, k):
    return einsum(q, k, "b q h d, b k h d -> b q k") / q.shape[-1] ** 0.5


@mistake("writes into its input: q / root makes a new tensor, q /= root changes the caller's, which training forbids")
def attention_scores(q, k):
    q /= q.shape[-1] ** 0.5
    return einsum(q, k, "b q h d, b k h d -> b h q k")


def _pairs(tokens, d_vocab):
    hot = torch.nn.functional.one_hot(tokens, d_vocab).float()
    return hot[:, :-1], hot[:, 1:]


@mistake("counts how often a comes after b: the earlier token is the row")
def bigram_counts(tokens, d_vocab):
    return einsum(*_pairs(tokens, d_vocab), "batch pos a, batch pos b -> b a")


@mistake("joins the rows first, and so counts the last token of one row with the first of the next")
def bigram_counts(tokens, d_vocab):
    return einsum(*_pairs(tokens.reshape(1, -1), d_vocab), "batch pos a, batch pos b -> a b")


@mistake("counts a pair once however often it occurs: counts[a, b] += 1 does not add up for equal indices")
def bigram_counts(tokens, d_vocab):
    counts = torch.zeros(d_vocab, d_vocab)
    counts[tokens[:, :-1], tokens[:, 1:]] += 1
    return counts


@mistake("takes the last token of a row to be followed by its first: roll wraps round")
def bigram_counts(tokens, d_vocab):
    flat = (tokens * d_vocab + tokens.roll(-1, dims=1)).flatten()
    return torch.bincount(flat, minlength=d_vocab**2).reshape(d_vocab, d_vocab).float()


@right("bincount of pairs as numbers")
def bigram_counts(tokens, d_vocab):
    pairs = (tokens[:, :-1] * d_vocab + tokens[:, 1:]).flatten()
    return torch.bincount(pairs, minlength=d_vocab**2).reshape(d_vocab, d_vocab).float()


@right("index_put_ that accumulates")
def bigram_counts(tokens, d_vocab):
    counts = torch.zeros(d_vocab, d_vocab)
    return counts.index_put_((tokens[:, :-1], tokens[:, 1:]), torch.ones(()), accumulate=True)


@mistake("counts each token with itself: shift one of the two by a position")
def bigram_counts(tokens, d_vocab):
    first, _ = _pairs(tokens, d_vocab)
    return einsum(first, first, "batch pos a, batch pos b -> a b")


@mistake("pairs every token of a row with every other: both one-hots need the same name for the position")
def bigram_counts(tokens, d_vocab):
    return einsum(*_pairs(tokens, d_vocab), "batch i a, batch j b -> a b")


@mistake("divides the rows by their sums: counts are asked for, not probabilities")
def bigram_counts(tokens, d_vocab):
    counts = einsum(*_pairs(tokens, d_vocab), "batch pos a, batch pos b -> a b")
    return counts / counts.sum(-1, keepdim=True).clamp(min=1)


@mistake("names both axes of the result alike: the right of the arrow needs two names, one for each token of the pair")
def bigram_counts(tokens, d_vocab):
    return einsum(*_pairs(tokens, d_vocab), "batch pos d_vocab, batch pos d_vocab -> d_vocab d_vocab")


# --- 3. Cut and join axes


@mistake("reads the last axis as (d_head head), so each head gets every n-th number: head 0 is the first piece")
def split_heads(x, n_heads, group=1):
    return repeat(x, "b p (d h) -> b p (h g) d", h=n_heads, g=group)


@mistake("cuts with the heads before the positions, which keeps the shape but mixes heads: cut the last axis first")
def split_heads(x, n_heads, group=1):
    return x.reshape(x.shape[0], n_heads, x.shape[1], -1).transpose(1, 2).repeat_interleave(group, dim=2)


@mistake("takes n_heads for the size of a head")
def split_heads(x, n_heads, group=1):
    return repeat(x, "b p (h d) -> b p (h g) d", d=n_heads, g=group)


@mistake("gives [batch head pos d_head]: here the position stays in front of the head")
def split_heads(x, n_heads, group=1):
    return repeat(x, "b p (h d) -> b (h g) p d", h=n_heads, g=group)


@mistake("reshapes to [batch head pos d_head], which only cuts the reading order: cut the last axis alone")
def split_heads(x, n_heads, group=1):
    return x.reshape(x.shape[0], n_heads, x.shape[1], -1).repeat_interleave(group, dim=1)


@mistake("repeats the whole row of heads (0, 1, 0, 1): copies of one head belong together (0, 0, 1, 1)")
def split_heads(x, n_heads, group=1):
    return repeat(x, "b p (h d) -> b p (g h) d", h=n_heads, g=group)


@mistake("keeps head and copy as two axes: put them in one bracket")
def split_heads(x, n_heads, group=1):
    return repeat(x, "b p (h d) -> b p h g d", h=n_heads, g=group)


@mistake("gives each head once, whatever `group` is")
def split_heads(x, n_heads, group=1):
    return rearrange(x, "b p (h d) -> b p h d", h=n_heads)


@right("reshape, then repeat_interleave")
def split_heads(x, n_heads, group=1):
    return x.reshape(*x.shape[:2], n_heads, -1).repeat_interleave(group, dim=2)


@right("chunks, stacked")
def split_heads(x, n_heads, group=1):
    return torch.stack([piece for piece in x.chunk(n_heads, -1) for _ in range(group)], dim=2)


def _filled_up(image, size):
    _, height, width = image.shape
    return F.pad(image, (0, -width % size, 0, -height % size))


def _patches(image, size, plan="b (r y) (c x) -> b (r c) (y x)"):
    return rearrange(image, plan, y=size, x=size)


@mistake("only cuts the reading order into pieces, so a patch is a strip of whole rows: cut height and width first")
def image_to_patches(image, size):
    return _filled_up(image, size).reshape(image.shape[0], -1, size * size)


@mistake("numbers the patches down the columns: in (row column) the row moves slowest")
def image_to_patches(image, size):
    return _patches(_filled_up(image, size), size, "b (r y) (c x) -> b (c r) (y x)")


@mistake("turns each patch over its diagonal: the pixels go in the order (y x)")
def image_to_patches(image, size):
    return _patches(_filled_up(image, size), size, "b (r y) (c x) -> b (r c) (x y)")


@mistake("gives [batch pixel patch]: the patches come first")
def image_to_patches(image, size):
    return _patches(_filled_up(image, size), size, "b (r y) (c x) -> b (y x) (r c)")


@mistake("takes every size-th pixel, all over the image: in (row y) the row of patches moves slowest")
def image_to_patches(image, size):
    return _patches(_filled_up(image, size), size, "b (y r) (x c) -> b (r c) (y x)")


@mistake("cuts off the rows and columns that fill no whole patch: fill them up with zeros")
def image_to_patches(image, size):
    _, height, width = image.shape
    return _patches(image[:, : height // size * size, : width // size * size], size)


@mistake("fills up at the top and on the left: F.pad's list begins with left, right, then top, bottom")
def image_to_patches(image, size):
    _, height, width = image.shape
    return _patches(F.pad(image, (-width % size, 0, -height % size, 0)), size)


@mistake("adds a whole patch of zeros where nothing is missing: size - height % size is size, not 0, for a multiple")
def image_to_patches(image, size):
    _, height, width = image.shape
    return _patches(F.pad(image, (0, size - width % size, 0, size - height % size)), size)


@mistake("fills up with the last pixel, not with zeros")
def image_to_patches(image, size):
    _, height, width = image.shape
    whole = F.pad(image[:, None], (0, -width % size, 0, -height % size), mode="replicate")
    return _patches(whole[:, 0], size)


@right("a canvas of zeros, unfolded twice")
def image_to_patches(image, size):
    batch, height, width = image.shape
    canvas = image.new_zeros(batch, -(-height // size) * size, -(-width // size) * size)
    canvas[:, :height, :width] = image
    return canvas.unfold(1, size, size).unfold(2, size, size).reshape(batch, -1, size * size)


@right("torch's unfold, patches brought to the front")
def image_to_patches(image, size):
    return F.unfold(_filled_up(image, size)[:, None], size, stride=size).mT


def _values(pattern, v, n_kv_heads):
    return rearrange(v, "b k (h d) -> b k h d", h=n_kv_heads).repeat_interleave(pattern.shape[1] // n_kv_heads, dim=2)


@mistake("hands the value heads out in turn (0, 1, 0, 1): neighbours share one (0, 0, 1, 1)")
def mix_values(pattern, v, n_kv_heads):
    values = rearrange(v, "b k (h d) -> b k h d", h=n_kv_heads).repeat(1, 1, pattern.shape[1] // n_kv_heads, 1)
    return einsum(pattern, values, "b h q k, b k h d -> b q h d").flatten(2)


@mistake("sums over the queries: each query sums over the keys that it reads")
def mix_values(pattern, v, n_kv_heads):
    return einsum(pattern, _values(pattern, v, n_kv_heads), "b h q k, b q h d -> b k h d").flatten(2)


@mistake("joins as (d_head head), which interleaves the heads")
def mix_values(pattern, v, n_kv_heads):
    mixed = einsum(pattern, _values(pattern, v, n_kv_heads), "b h q k, b k h d -> b q h d")
    return rearrange(mixed, "b q h d -> b q (d h)")


@mistake("adds the heads up: their results belong side by side")
def mix_values(pattern, v, n_kv_heads):
    return einsum(pattern, _values(pattern, v, n_kv_heads), "b h q k, b k h d -> b q d")


@mistake("splits the values into as many heads as the pattern has: there are only n_kv_heads, which are then repeated")
def mix_values(pattern, v, n_kv_heads):
    values = rearrange(v, "b k (h d) -> b k h d", h=pattern.shape[1])
    return einsum(pattern, values, "b h q k, b k h d -> b q h d").flatten(2)


@mistake("pairs a pattern with fewer value heads than it has heads: split_heads gives copies")
def mix_values(pattern, v, n_kv_heads):
    values = rearrange(v, "b k (h d) -> b k h d", h=n_kv_heads)
    return einsum(pattern, values, "b h q k, b k h d -> b q h d").flatten(2)


# --- 4. Triangles


def _later(scores):
    return torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)


@mistake("fills with 0, and softmax gives a score of 0 weight: fill with minus infinity")
def causal_mask(scores):
    return scores.masked_fill(_later(scores), 0)


@mistake("hides every score that happens to be 0 as well: x.tril() == 0 is not where the later keys are")
def causal_mask(scores):
    return scores.masked_fill(scores.tril() == 0, -torch.inf)


@mistake("fills with the lowest float, which softmax cannot tell from a score that low: -torch.inf is lower than all")
def causal_mask(scores):
    return scores.masked_fill(_later(scores), torch.finfo(scores.dtype).min)


@right("adds a triangle of minus infinities")
def causal_mask(scores):
    return scores + torch.full_like(scores, -torch.inf).triu(1)


@right("compares positions")
def causal_mask(scores):
    place = torch.arange(scores.shape[-1], device=scores.device)
    return torch.where(place[:, None] >= place, scores, -torch.inf)


@mistake("hides a query's own position too: the diagonal stays (triu(1), not triu())")
def causal_mask(scores):
    return scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(), -torch.inf)


@mistake("hides the past and leaves the future: the other triangle")
def causal_mask(scores):
    return scores.masked_fill(_later(scores).mT, -torch.inf)


@mistake("writes into its input: masked_fill without the underscore makes a copy")
def causal_mask(scores):
    return scores.masked_fill_(_later(scores), -torch.inf)


@mistake("fills with -10000, which is not low enough for every score: -torch.inf is")
def causal_mask(scores):
    return scores.masked_fill(_later(scores), -1e4)


@mistake("already takes the softmax: only the scores are asked for")
def causal_mask(scores):
    return scores.masked_fill(_later(scores), -torch.inf).softmax(-1)


@mistake("takes the triangle's size from the first axis, which may be the batch: the last two are query and key")
def causal_mask(scores):
    allowed = torch.ones(len(scores), len(scores), dtype=torch.bool, device=scores.device).tril()
    return scores.masked_fill(~allowed, -torch.inf)


def _scores(q, k, n_heads, n_kv_heads):
    q = rearrange(q, "b p (h d) -> b p h d", h=n_heads)
    k = rearrange(k, "b p (h d) -> b p h d", h=n_kv_heads).repeat_interleave(n_heads // n_kv_heads, dim=2)
    return einsum(q, k, "b q h d, b k h d -> b h q k") / q.shape[-1] ** 0.5


@mistake("hands the key heads out in turn (0, 1, 0, 1): neighbours share one (0, 0, 1, 1)")
def attention_pattern(q, k, n_heads, n_kv_heads):
    tiled = rearrange(k, "b p (h d) -> b p h d", h=n_kv_heads).repeat(1, 1, n_heads // n_kv_heads, 1)
    scores = _scores(q, tiled.flatten(2), n_heads, n_heads)
    return scores.masked_fill(_later(scores), -torch.inf).softmax(-1)


@mistake("takes the softmax over the queries: each query's weights sum to 1 over its keys, the last axis")
def attention_pattern(q, k, n_heads, n_kv_heads):
    scores = _scores(q, k, n_heads, n_kv_heads)
    return scores.masked_fill(_later(scores), -torch.inf).softmax(-2)


@mistake("masks after the softmax, so rows no longer sum to 1: mask the scores first")
def attention_pattern(q, k, n_heads, n_kv_heads):
    return _scores(q, k, n_heads, n_kv_heads).softmax(-1).tril()


@mistake("divides by the root of the whole width of q: d_head is the width of one head")
def attention_pattern(q, k, n_heads, n_kv_heads):
    scores = _scores(q, k, n_heads, n_kv_heads) / n_heads**0.5
    return scores.masked_fill(_later(scores), -torch.inf).softmax(-1)


@mistake("lets queries read later keys: the causal mask is missing")
def attention_pattern(q, k, n_heads, n_kv_heads):
    return _scores(q, k, n_heads, n_kv_heads).softmax(-1)


@mistake("lets no query read its own position: only later keys are hidden (triu(1), not triu())")
def attention_pattern(q, k, n_heads, n_kv_heads):
    scores = _scores(q, k, n_heads, n_kv_heads)
    return scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(), -torch.inf).softmax(-1).nan_to_num(0)


@mistake("gives the masked scores: the softmax is missing")
def attention_pattern(q, k, n_heads, n_kv_heads):
    scores = _scores(q, k, n_heads, n_kv_heads)
    return scores.masked_fill(_later(scores), -torch.inf)


@mistake("does not divide the scores by the root of d_head")
def attention_pattern(q, k, n_heads, n_kv_heads):
    scores = _scores(q, k, n_heads, n_kv_heads) * (q.shape[-1] // n_heads) ** 0.5
    return scores.masked_fill(_later(scores), -torch.inf).softmax(-1)


@mistake("masks after the softmax, so weights become minus infinity: mask the scores first")
def attention_pattern(q, k, n_heads, n_kv_heads):
    weights = _scores(q, k, n_heads, n_kv_heads).softmax(-1)
    return weights.masked_fill(_later(weights), -torch.inf)


@mistake("pairs queries with fewer key heads than they have heads: split_heads gives copies")
def attention_pattern(q, k, n_heads, n_kv_heads):
    q = rearrange(q, "b p (h d) -> b p h d", h=n_heads)
    k = rearrange(k, "b p (h d) -> b p h d", h=n_kv_heads)
    scores = einsum(q, k, "b q h d, b k h d -> b h q k") / q.shape[-1] ** 0.5
    return scores.masked_fill(_later(scores), -torch.inf).softmax(-1)


# --- 5. A layer


def _layer(
    resid, W_Q, W_K, W_V, W_O, real, later=True, padding=True, scale=True, zero=True, copies="(h g)", hidden=-torch.inf
):
    """attention_layer, with a part left out."""
    group = len(W_Q) // len(W_K)
    W_K, W_V = (repeat(W, f"h m d -> {copies} m d", g=group) for W in (W_K, W_V))
    q, k, v = (einsum(resid, W, "b p m, h m d -> b h p d") for W in (W_Q, W_K, W_V))
    scores = q @ k.mT / (q.shape[-1] ** 0.5 if scale else 1)
    if later:
        scores = scores.masked_fill(_later(scores), hidden)
    if padding:
        scores = scores.masked_fill(~real[:, None, None], hidden)
    pattern = scores.softmax(-1)
    if zero:
        pattern = pattern.masked_fill(~real[:, None, :, None], 0)
    return einsum(pattern @ v, W_O, "b h p d, h d m -> b p m")


@mistake("lets real words read the padding: its keys (columns) belong at minus infinity, as later ones do")
def attention_layer(resid, W_Q, W_K, W_V, W_O, real):
    return _layer(resid, W_Q, W_K, W_V, W_O, real, padding=False)


@mistake("writes nan at the padding")
def attention_layer(resid, W_Q, W_K, W_V, W_O, real):
    return _layer(resid, W_Q, W_K, W_V, W_O, real, zero=False)


@mistake("lets queries read later keys: the causal mask is missing")
def attention_layer(resid, W_Q, W_K, W_V, W_O, real):
    return _layer(resid, W_Q, W_K, W_V, W_O, real, later=False)


@mistake("does not divide the scores by the root of d_head")
def attention_layer(resid, W_Q, W_K, W_V, W_O, real):
    return _layer(resid, W_Q, W_K, W_V, W_O, real, scale=False)


@mistake("hands the key and value heads out in turn (0, 1, 0, 1): neighbours share one (0, 0, 1, 1)")
def attention_layer(resid, W_Q, W_K, W_V, W_O, real):
    return _layer(resid, W_Q, W_K, W_V, W_O, real, copies="(g h)")


@mistake("adds the stream itself: only what the heads write is asked for")
def attention_layer(resid, W_Q, W_K, W_V, W_O, real):
    return resid + _layer(resid, W_Q, W_K, W_V, W_O, real)


@mistake("averages over the heads: what they write is added up")
def attention_layer(resid, W_Q, W_K, W_V, W_O, real):
    return _layer(resid, W_Q, W_K, W_V, W_O, real) / len(W_Q)


@mistake("hides keys by a number that scores can undercut: only minus infinity is lower than all")
def attention_layer(resid, W_Q, W_K, W_V, W_O, real):
    return _layer(resid, W_Q, W_K, W_V, W_O, real, hidden=-1e4)


@right("PyTorch's own attention, with a mask in which padding reads itself")
def attention_layer(resid, W_Q, W_K, W_V, W_O, real):
    group, pos = len(W_Q) // len(W_K), resid.shape[1]
    W_K, W_V = W_K.repeat_interleave(group, dim=0), W_V.repeat_interleave(group, dim=0)
    q, k, v = (torch.einsum("bpm,hmd->bhpd", resid, W) for W in (W_Q, W_K, W_V))
    seen = torch.ones(pos, pos, dtype=torch.bool).tril() & real[:, None, None] | torch.eye(pos, dtype=torch.bool)
    z = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    return torch.einsum("bhpd,hdm->bpm", z, W_O) * real[..., None]


@right("each text by itself, its padding taken out and put back")
def attention_layer(resid, W_Q, W_K, W_V, W_O, real):
    rows = []
    for text, mask in zip(resid, real, strict=True):
        places, row = mask.nonzero()[:, 0], torch.zeros_like(text)
        if len(places):
            out = _layer(text[None, places], W_Q, W_K, W_V, W_O, torch.ones(1, len(places), dtype=torch.bool))
            row = row.index_add(0, places, out[0])
        rows.append(row)
    return torch.stack(rows)


# --- 6. Pick by index


def _picked(values, tokens):
    return values.gather(-1, tokens[..., None])[..., 0]


@mistake("picks the raw logit: log_softmax comes first")
def gather_log_probs(logits, tokens):
    return _picked(logits, tokens)


@mistake("gives probabilities: the logarithm is missing")
def gather_log_probs(logits, tokens):
    return _picked(logits.softmax(-1), tokens)


@mistake("normalises over the positions: probabilities sum to 1 over the vocabulary, the last axis")
def gather_log_probs(logits, tokens):
    return _picked(logits.log_softmax(1), tokens)


@mistake("looks every token up at every position: [:, :, tokens] does not pair them, gather does")
def gather_log_probs(logits, tokens):
    return logits.log_softmax(-1)[:, :, tokens]


@mistake(
    "takes the softmax and then the logarithm, which rounds small probabilities to 0: log_softmax does both at once"
)
def gather_log_probs(logits, tokens):
    return _picked(logits.softmax(-1).log(), tokens)


@right("minus torch's cross_entropy")
def gather_log_probs(logits, tokens):
    return -F.cross_entropy(logits.mT, tokens, reduction="none")


@right("index tensors that broadcast")
def gather_log_probs(logits, tokens):
    batch, pos = tokens.shape
    return logits.log_softmax(-1)[torch.arange(batch)[:, None], torch.arange(pos), tokens]


@mistake("keeps the last axis, of size 1, that gather leaves: take it away with [..., 0]")
def gather_log_probs(logits, tokens):
    return logits.log_softmax(-1).gather(-1, tokens[..., None])


@mistake("gives the log-probability of the likeliest token: that of the given one is asked for")
def gather_log_probs(logits, tokens):
    return logits.log_softmax(-1).max(-1).values


@mistake("gives gather an index with fewer axes than the logits: tokens[..., None] has as many")
def gather_log_probs(logits, tokens):
    return logits.log_softmax(-1).gather(-1, tokens)


@mistake("uses a token as a place in the batch: [tokens] picks along the first axis, gather(-1, ...) along the last")
def gather_log_probs(logits, tokens):
    return logits.log_softmax(-1)[tokens]


@mistake("y shows x's own numbers: zero_ writes through the slice into x")
def answer_view():
    return "a"


@mistake("[0] is a list, and picking by a list copies: z keeps its numbers")
def answer_view():
    return "c"


def _windows(tokens, starts, size):
    return tokens[:, torch.tensor(starts)[:, None] + torch.arange(size)]


@mistake("misses the last window: pos - size + 1 of them fit")
def sliding_windows(tokens, size):
    return tokens.unfold(1, size, 1)[:, :-1]


@mistake("cuts the row into pieces that do not overlap: each window begins one token after the last")
def sliding_windows(tokens, size):
    return tokens.unfold(1, size, size)


@mistake("gives [batch size window]: each window is a row")
def sliding_windows(tokens, size):
    return tokens.unfold(1, size, 1).mT


@mistake("runs past the end and begins again at the front: only whole windows count")
def sliding_windows(tokens, size):
    return torch.cat([tokens, tokens[:, : size - 1]], dim=1).unfold(1, size, 1)


@mistake("holds each window backwards: its first token comes first")
def sliding_windows(tokens, size):
    return tokens.unfold(1, size, 1).flip(-1)


@mistake("assumes that a row lies in memory in one piece: as_strided needs the input's own strides")
def sliding_windows(tokens, size):
    batch, pos = tokens.shape
    return tokens.as_strided((batch, pos - size + 1, size), (pos, 1, 1))


@right("unfold")
def sliding_windows(tokens, size):
    return tokens.unfold(1, size, 1)


@right("slices, stacked")
def sliding_windows(tokens, size):
    return torch.stack([tokens[:, i : i + size] for i in range(tokens.shape[1] - size + 1)], dim=1)


@mistake("starts a window at every token, so the last ones run past the end: pos - size + 1 of them fit")
def sliding_windows(tokens, size):
    return _windows(tokens, range(tokens.shape[1]), size)


def _beams(totals, tokens):
    """The best of each batch entry's totals, and the texts that they go on from."""
    n_beams, d_vocab = totals.shape[1:]
    best = totals.flatten(1).topk(n_beams)
    parent = (best.indices // d_vocab)[..., None]
    return best.values, tokens.gather(1, parent.expand(-1, -1, tokens.shape[-1])), (best.indices % d_vocab)[..., None]


@mistake("leaves the histories in their old order: each new text goes on from its own parent beam, so gather them")
def beam_step(scores, logits, tokens):
    new_scores, _, token = _beams(scores[..., None] + logits.log_softmax(-1), tokens)
    return new_scores, torch.cat([tokens, token], dim=-1)


@mistake("adds raw logits to the scores: log_softmax makes them log-probabilities")
def beam_step(scores, logits, tokens):
    new_scores, histories, token = _beams(scores[..., None] + logits, tokens)
    return new_scores, torch.cat([histories, token], dim=-1)


@mistake("adds probabilities to the scores: log-probabilities add up, so log_softmax")
def beam_step(scores, logits, tokens):
    new_scores, histories, token = _beams(scores[..., None] + logits.softmax(-1), tokens)
    return new_scores, torch.cat([histories, token], dim=-1)


@mistake("lets each beam go on by its own likeliest token: all continuations of a batch entry compete")
def beam_step(scores, logits, tokens):
    best = logits.log_softmax(-1).max(-1)
    return scores + best.values, torch.cat([tokens, best.indices[..., None]], dim=-1)


@mistake("forgets the scores so far: a new score is the old one plus the token's log-probability")
def beam_step(scores, logits, tokens):
    new_scores, histories, token = _beams(logits.log_softmax(-1), tokens)
    return new_scores, torch.cat([histories, token], dim=-1)


@mistake("normalises over all beams at once: each beam's next-token probabilities sum to 1")
def beam_step(scores, logits, tokens):
    log_probs = logits.flatten(1).log_softmax(-1).reshape(logits.shape)
    new_scores, histories, token = _beams(scores[..., None] + log_probs, tokens)
    return new_scores, torch.cat([histories, token], dim=-1)


@mistake("lets the whole batch compete: each batch entry keeps its own best")
def beam_step(scores, logits, tokens):
    totals = scores[..., None] + logits.log_softmax(-1)
    best, d_vocab = totals.flatten().topk(scores.numel()), logits.shape[-1]
    texts = torch.cat([tokens.flatten(0, 1)[best.indices // d_vocab], best.indices[:, None] % d_vocab], dim=-1)
    return best.values.reshape(scores.shape), texts.reshape(*scores.shape, -1)


@mistake("takes every history from the first batch entry: tokens[0][parent]; gather picks in each entry's own")
def beam_step(scores, logits, tokens):
    totals = scores[..., None] + logits.log_softmax(-1)
    best, d_vocab = totals.flatten(1).topk(scores.shape[1]), logits.shape[-1]
    histories, token = tokens[0][best.indices // d_vocab], best.indices[..., None] % d_vocab
    return best.values, torch.cat([histories, token], dim=-1)


@right("fancy indices and a sort")
def beam_step(scores, logits, tokens):
    batch, n_beams, d_vocab = logits.shape
    totals = (scores.unsqueeze(-1) + logits - logits.logsumexp(-1, keepdim=True)).reshape(batch, -1)
    values, flat = totals.sort(dim=-1, descending=True)
    parent, token = flat[:, :n_beams].div(d_vocab, rounding_mode="floor"), flat[:, :n_beams] % d_vocab
    texts = tokens[torch.arange(batch)[:, None], parent]
    return values[:, :n_beams], torch.cat([texts, token.unsqueeze(-1)], dim=-1)


@right("a loop over the batch")
def beam_step(scores, logits, tokens):
    kept = [
        _beams((s[:, None] + x.log_softmax(-1))[None], t[None]) for s, x, t in zip(scores, logits, tokens, strict=True)
    ]
    texts = [torch.cat([histories, token], dim=-1) for _, histories, token in kept]
    return torch.cat([values for values, _, _ in kept]), torch.cat(texts)


# --- 7. Reduce


@mistake("p.sum(-1) is [3], and broadcasting aligns it with p's columns; keepdim=True makes it a column, [3, 1]")
def answer_keepdim():
    return "a"


@mistake("[3] fits [3, 3] without complaint: it is read as [1, 3]; that is what makes this slip dangerous")
def answer_keepdim():
    return "b"


@mistake("divides by the whole length, padding and all: divide by the number of real entries")
def masked_mean(x, mask):
    return x.masked_fill(~mask, 0).mean(-1)


@mistake("averages the padding too: the mask is not used")
def masked_mean(x, mask):
    return x.mean(-1)


@mistake("multiplies by the mask, and 0 * nan is nan: masked_fill replaces whatever stands there")
def masked_mean(x, mask):
    return (x * mask).sum(-1) / mask.sum(-1)


@mistake("takes every 0 for padding: a real entry may be 0; count the mask")
def masked_mean(x, mask):
    kept = x.masked_fill(~mask, 0)
    return kept.sum(-1) / (kept != 0).sum(-1)


@right("nan for the padding, and nanmean")
def masked_mean(x, mask):
    return x.masked_fill(~mask, math.nan).nanmean(-1)


@right("row by row, by a mask as index")
def masked_mean(x, mask):
    return torch.stack([row[real].mean() for row, real in zip(x, mask, strict=True)])


@mistake("averages the whole batch: each row has a mean of its own")
def masked_mean(x, mask):
    return x[mask].mean()


@mistake("averages the padding and leaves out what is real: the mask is True where an entry is real")
def masked_mean(x, mask):
    return x.masked_fill(mask, 0).sum(-1) / (~mask).sum(-1)


@mistake("fills the real entries with 0 and keeps the padding: the padding is ~mask")
def masked_mean(x, mask):
    return x.masked_fill(mask, 0).sum(-1) / mask.sum(-1)


@mistake("writes zeros into its input: work on a copy (masked_fill without the underscore)")
def masked_mean(x, mask):
    x[~mask] = 0
    return x.sum(-1) / mask.sum(-1)


def _surprise(logits, tokens):
    return -_picked(logits.log_softmax(-1), tokens)


def _mean(values, mask):
    return values.masked_fill(~mask, 0).sum(-1) / mask.sum(-1)


@mistake("scores each token by the logits at its own position, which have seen it: the logits before it predict it")
def next_token_loss(logits, tokens, mask):
    return _mean(_surprise(logits, tokens), mask)


@mistake("shifts the wrong way: logits[:, :-1] predict tokens[:, 1:]")
def next_token_loss(logits, tokens, mask):
    return _mean(_surprise(logits[:, 1:], tokens[:, :-1]), mask[:, 1:])


@mistake("cuts the mask's end, so the first padding token is scored: the mask goes with the tokens, mask[:, 1:]")
def next_token_loss(logits, tokens, mask):
    return _mean(_surprise(logits[:, :-1], tokens[:, 1:]), mask[:, :-1])


@mistake("gives the log-probability: a loss has a minus sign")
def next_token_loss(logits, tokens, mask):
    return -_mean(_surprise(logits[:, :-1], tokens[:, 1:]), mask[:, 1:])


@mistake("averages over the padding too")
def next_token_loss(logits, tokens, mask):
    return _surprise(logits[:, :-1], tokens[:, 1:]).mean(-1)


@mistake("averages the whole batch into one number: each row has a loss of its own")
def next_token_loss(logits, tokens, mask):
    return _surprise(logits[:, :-1], tokens[:, 1:])[mask[:, 1:]].mean()


@right("torch's cross_entropy with an index that it ignores")
def next_token_loss(logits, tokens, mask):
    targets = tokens[:, 1:].masked_fill(~mask[:, 1:], -100)
    return F.cross_entropy(logits[:, :-1].mT, targets, reduction="none").sum(-1) / mask[:, 1:].sum(-1)


@mistake("multiplies by the mask, and 0 * nan is nan: masked_fill replaces whatever the padding gives")
def next_token_loss(logits, tokens, mask):
    return (_surprise(logits[:, :-1], tokens[:, 1:]) * mask[:, 1:]).sum(-1) / mask[:, 1:].sum(-1)


@mistake("sums the losses: divide by the number of real tokens that were predicted")
def next_token_loss(logits, tokens, mask):
    return _surprise(logits[:, :-1], tokens[:, 1:]).masked_fill(~mask[:, 1:], 0).sum(-1)
