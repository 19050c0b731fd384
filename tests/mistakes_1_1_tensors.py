"""Wrong answers to 1.1 Tensors, and what each of them is."""

import torch
from einops import einsum, rearrange, repeat

from concrete_steps.checking.mistakes import mistake

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


@mistake("gives [m n], y along the rows: the new axis belongs behind x")
def outer(x, y):
    return y[:, None] * x


@mistake("multiplies x and y entry by entry: x needs a new axis to be a column")
def outer(x, y):
    return x * y


@mistake("sums the products to one number, as @ does with two vectors: keep each product")
def outer(x, y):
    return x @ y


@mistake("adds where it should multiply")
def outer(x, y):
    return x[:, None] + y


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


@mistake("adds up absolute differences: that is the way round the corner, not the straight line")
def pairwise_distances(x, y):
    return (x[:, None] - y).abs().sum(-1)


# --- 2. einsum


@mistake("sums every entry, not the diagonal: give both axes the same name")
def batched_trace(x):
    return x.sum((-1, -2))


@mistake("adds the whole batch into one number: keep the batch on the right of the arrow")
def batched_trace(x):
    return einsum(x, "batch i i -> ")


@mistake("gives the diagonals, not yet summed: drop the name on the right of the arrow")
def batched_trace(x):
    return einsum(x, "batch i i -> batch i")


@mistake("takes the diagonal through batch and rows (the default of .diagonal): the last two axes are the matrix")
def batched_trace(x):
    return x.diagonal().sum(-1)


@mistake("does not divide by the root of d_head")
def attention_scores(q, k):
    return einsum(q, k, "b q h d, b k h d -> b h q k")


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
def split_heads(x, n_heads):
    return rearrange(x, "b p (d h) -> b p h d", h=n_heads)


@mistake("cuts with the heads before the positions, which keeps the shape but mixes heads: cut the last axis first")
def split_heads(x, n_heads):
    return x.reshape(x.shape[0], n_heads, x.shape[1], -1).transpose(1, 2)


@mistake("takes n_heads for the size of a head")
def split_heads(x, n_heads):
    return rearrange(x, "b p (h d) -> b p h d", d=n_heads)


@mistake("gives [batch head pos d_head]: here the position stays in front of the head")
def split_heads(x, n_heads):
    return rearrange(x, "b p (h d) -> b h p d", h=n_heads)


@mistake("reshapes to [batch head pos d_head], which only cuts the reading order: cut the last axis alone")
def split_heads(x, n_heads):
    return x.reshape(x.shape[0], n_heads, x.shape[1], -1)


@mistake("joins as (d_head head), which interleaves the heads: the head moves slowest, so it comes first")
def merge_heads(z):
    return rearrange(z, "b p h d -> b p (d h)")


@mistake("adds the heads up: they belong side by side")
def merge_heads(z):
    return z.sum(2)


@mistake("joins positions and heads: the last two axes are the ones to join")
def merge_heads(z):
    return z.flatten(1, 2)


@mistake("takes the input for [batch head pos d_head], and joins each position's numbers into the wrong row")
def merge_heads(z):
    return rearrange(z, "b h p d -> b p (h d)")


@mistake("repeats the whole row of key heads (0, 1, 0, 1): copies of one head belong together (0, 0, 1, 1)")
def repeat_kv(k, group):
    return k.repeat(1, 1, group, 1)


@mistake("repeats the positions: the head axis is number 2")
def repeat_kv(k, group):
    return k.repeat_interleave(group, dim=1)


@mistake("repeats the entries of each vector: the head axis is number 2")
def repeat_kv(k, group):
    return k.repeat_interleave(group, dim=3)


@mistake("keeps key head and group as two axes: put them in one bracket")
def repeat_kv(k, group):
    return repeat(k, "b p h d -> b p h g d", g=group)


@mistake("only cuts the reading order into pieces, so a patch is a strip of whole rows: cut height and width first")
def image_to_patches(image, size):
    return image.reshape(image.shape[0], -1, size * size)


@mistake("numbers the patches down the columns: in (row column) the row moves slowest")
def image_to_patches(image, size):
    return rearrange(image, "b (r y) (c x) -> b (c r) (y x)", y=size, x=size)


@mistake("turns each patch over its diagonal: the pixels go in the order (y x)")
def image_to_patches(image, size):
    return rearrange(image, "b (r y) (c x) -> b (r c) (x y)", y=size, x=size)


@mistake("gives [batch pixel patch]: the patches come first")
def image_to_patches(image, size):
    return rearrange(image, "b (r y) (c x) -> b (y x) (r c)", y=size, x=size)


@mistake("takes every size-th pixel, all over the image: in (row y) the row of patches moves slowest")
def image_to_patches(image, size):
    return rearrange(image, "b (y r) (x c) -> b (r c) (y x)", y=size, x=size)


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


@mistake("pairs a pattern with fewer value heads than it has heads: give each query head its copy (repeat_kv)")
def mix_values(pattern, v, n_kv_heads):
    values = rearrange(v, "b k (h d) -> b k h d", h=n_kv_heads)
    return einsum(pattern, values, "b h q k, b k h d -> b q h d").flatten(2)


# --- 4. Triangles


def _later(scores):
    return torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)


@mistake("fills with 0, and softmax gives a score of 0 weight: fill with minus infinity")
def causal_mask(scores):
    return scores.masked_fill(_later(scores), 0)


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


@mistake("uses the other triangle, and so sums from entry i to the end")
def cumsum_by_matmul(x):
    return x @ torch.ones(x.shape[-1], x.shape[-1], dtype=x.dtype, device=x.device).tril()


@mistake("leaves out entry i itself: the diagonal belongs to the triangle")
def cumsum_by_matmul(x):
    return x @ torch.ones(x.shape[-1], x.shape[-1], dtype=x.dtype, device=x.device).triu(1)


@mistake("makes the triangle as float32 whatever x is: a product needs equal dtypes, so pass dtype=x.dtype")
def cumsum_by_matmul(x):
    return x @ torch.ones(x.shape[-1], x.shape[-1]).triu()


@mistake("divides by how many were added: that is the running mean")
def cumsum_by_matmul(x):
    return x.cumsum(-1) / torch.arange(1, x.shape[-1] + 1)


@mistake("gives the total everywhere: the matrix of ones is still to be cut to a triangle")
def cumsum_by_matmul(x):
    return x.sum(-1, keepdim=True).expand(x.shape)


@mistake("takes the triangle's size from the first axis, which may be the batch: the last two are query and key")
def causal_mask(scores):
    allowed = torch.ones(len(scores), len(scores), dtype=torch.bool, device=scores.device).tril()
    return scores.masked_fill(~allowed, -torch.inf)


@mistake("is right for one vector only: with batch axes in front x stands on the left, x @ m")
def cumsum_by_matmul(x):
    return torch.ones(x.shape[-1], x.shape[-1], dtype=x.dtype, device=x.device).tril() @ x


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


@mistake("pairs queries with fewer key heads than they have heads: give each query head its copy (repeat_kv)")
def attention_pattern(q, k, n_heads, n_kv_heads):
    q = rearrange(q, "b p (h d) -> b p h d", h=n_heads)
    k = rearrange(k, "b p (h d) -> b p h d", h=n_kv_heads)
    scores = einsum(q, k, "b q h d, b k h d -> b h q k") / q.shape[-1] ** 0.5
    return scores.masked_fill(_later(scores), -torch.inf).softmax(-1)


# --- 5. Pick by index


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


@mistake("only looks at the highest logit, whatever k is")
def topk_accuracy(logits, labels, k):
    return (logits.argmax(-1) == labels).float().mean()


@mistake("averages over the k guesses as well: a row is right if any of them is")
def topk_accuracy(logits, labels, k):
    return (logits.topk(k).indices == labels[:, None]).float().mean()


@mistake("looks among the k lowest logits")
def topk_accuracy(logits, labels, k):
    return (logits.topk(k, largest=False).indices == labels[:, None]).any(-1).float().mean()


@mistake("only looks at the k-th highest logit: those above count too")
def topk_accuracy(logits, labels, k):
    return (logits.topk(k).indices[:, -1] == labels).float().mean()


@mistake("counts the hits: the share is asked for, so divide by the number of rows")
def topk_accuracy(logits, labels, k):
    return (logits.topk(k).indices == labels[:, None]).any(-1).sum()


@mistake("compares the logits with the labels: topk has .values and .indices, and a label is an index")
def topk_accuracy(logits, labels, k):
    return (logits.topk(k).values == labels[:, None]).any(-1).float().mean()


@mistake("lines the labels up with the k guesses: labels[:, None] lines them up with the rows")
def topk_accuracy(logits, labels, k):
    return (logits.topk(k).indices == labels).any(-1).float().mean()


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


@mistake("starts a window at every token, so the last ones run past the end: pos - size + 1 of them fit")
def sliding_windows(tokens, size):
    return _windows(tokens, range(tokens.shape[1]), size)


# --- 6. Reduce


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
    return (values * mask).sum(-1) / mask.sum(-1)


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


@mistake("sums the losses: divide by the number of real tokens that were predicted")
def next_token_loss(logits, tokens, mask):
    return (_surprise(logits[:, :-1], tokens[:, 1:]) * mask[:, 1:]).sum(-1)
