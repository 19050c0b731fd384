"""Wrong answers to 3.5 Circuits in the weights, and what each of them is."""

import itertools

import torch
from einops import einsum

from concrete_steps.checking.mistakes import mistake, right

# --- 1. Products that stay factors


def _norm(a, b):
    return ((a.mT @ a) * (b @ b.mT)).sum((-2, -1)).clamp(min=0).sqrt()


@mistake("multiplies the two norms: the norm of a product is not the product of the norms")
def factored_norm(a, b):
    return a.square().sum((-2, -1)).sqrt() * b.square().sum((-2, -1)).sqrt()


@mistake("leaves out the root: this is the square of the norm")
def factored_norm(a, b):
    return _norm(a, b).square()


@mistake("takes a row with a column in the sum over both brackets: multiplies them as matrices, and sums all entries")
def factored_norm(a, b):
    return ((a.mT @ a) @ (b @ b.mT)).sum((-2, -1)).clamp(min=0).sqrt()


@mistake("sums the diagonals' products only: all entries of the two brackets count")
def factored_norm(a, b):
    return ((a.mT @ a) * (b @ b.mT)).diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=0).sqrt()


@mistake("adds up everything, axes in front included: each pair has a norm of its own")
def factored_norm(a, b):
    return ((a.mT @ a) * (b @ b.mT)).sum().clamp(min=0).sqrt()


@mistake("gives the largest singular value: that is another norm")
def factored_norm(a, b):
    return torch.linalg.svdvals(torch.linalg.qr(a).R @ torch.linalg.qr(b.mT).R.mT)[..., 0]


@mistake("makes the whole product")
def factored_norm(a, b):
    return (a @ b).square().sum((-2, -1)).sqrt()


@right("the trace of the two brackets' product")
def factored_norm(a, b):
    gram = (a.mT @ a) @ (b @ b.mT)
    return gram.diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=0).sqrt()


@right("einsum over both brackets")
def factored_norm(a, b):
    left, right_ = einsum(a, a, "... m r, ... m s -> ... r s"), einsum(b, b, "... r n, ... s n -> ... r s")
    return einsum(left, right_, "... r s, ... r s -> ...").clamp(min=0) ** 0.5


def _svd(a, b, k):
    q_a, r_a = torch.linalg.qr(a)
    q_b, r_b = torch.linalg.qr(b.mT)
    u, s, vt = torch.linalg.svd(r_a @ r_b.mT)
    return q_a @ u[..., :k], s[..., :k], q_b @ vt.mT[..., :k]


@mistake("takes V^T for V: the vectors are its rows, and become columns by a transpose")
def factored_svd(a, b, k):
    q_a, r_a = torch.linalg.qr(a)
    q_b, r_b = torch.linalg.qr(b.mT)
    u, s, vt = torch.linalg.svd(r_a @ r_b.mT)
    return q_a @ u[..., :k], s[..., :k], q_b @ vt[..., :k]


@mistake("gives the squares of the singular values")
def factored_svd(a, b, k):
    u, s, v = _svd(a, b, k)
    return u, s.square(), v


@mistake("gives the k smallest: the largest come first")
def factored_svd(a, b, k):
    u, s, v = _svd(a, b, a.shape[-1])
    return u[..., -k:], s[..., -k:], v[..., -k:]


@mistake("takes the SVD of R_A R_B, where it should be R_A with R_B transposed")
def factored_svd(a, b, k):
    q_a, r_a = torch.linalg.qr(a)
    q_b, r_b = torch.linalg.qr(b.mT)
    u, s, vt = torch.linalg.svd(r_a @ r_b)
    return q_a @ u[..., :k], s[..., :k], q_b @ vt.mT[..., :k]


@mistake("scales what is written by the singular values: the vectors have length 1")
def factored_svd(a, b, k):
    u, s, v = _svd(a, b, k)
    return u, s, v * s[..., None, :]


@mistake("has reading and writing exchanged")
def factored_svd(a, b, k):
    u, s, v = _svd(a, b, k)
    return v, s, u


@right("a basis for one side only")
def factored_svd(a, b, k):
    q_b, r_b = torch.linalg.qr(b.mT)
    u, s, vt = torch.linalg.svd(a @ r_b.mT, full_matrices=False)
    return u[..., :k], s[..., :k], (q_b @ vt.mT)[..., :k]


# --- A head's matrices


def _kv(model, head):
    return head // (model.W_Q.shape[1] // model.W_K.shape[1])


def _heads(model, layer, head, kv=None):
    kv = _kv(model, head) if kv is None else kv
    return model.W_Q[layer, head], model.W_K[layer, kv], model.W_V[layer, kv], model.W_O[layer, head]


# --- 2. OV


def _ov(model, layer, head, kv=None):
    _, _, V, out = _heads(model, layer, head, kv)
    return model.W_E @ V, out @ model.W_U


@mistake("reads with value head `head % (number of value heads)`: neighbours share one")
def ov_circuit(model, layer, head):
    return _ov(model, layer, head, head % model.W_V.shape[1])


@mistake("takes the first value head for every query head")
def ov_circuit(model, layer, head):
    return _ov(model, layer, head, 0)


@mistake("gives the transposed circuit: the token looked at is the row")
def ov_circuit(model, layer, head):
    a, b = _ov(model, layer, head)
    return b.T, a.T


@mistake("reads with W_K: what a head writes comes from its values")
def ov_circuit(model, layer, head):
    _, K, _, out = _heads(model, layer, head)
    return model.W_E @ K, out @ model.W_U


@mistake("unembeds with W_E transposed: the logits are read by W_U")
def ov_circuit(model, layer, head):
    a, _ = _ov(model, layer, head)
    return a, model.W_O[layer, head] @ model.W_E.T


@mistake("takes the layer before")
def ov_circuit(model, layer, head):
    return _ov(model, layer - 1, head)


@mistake("stays in the stream: without the embedding and the unembedding its rows are no tokens")
def ov_circuit(model, layer, head):
    _, _, V, out = _heads(model, layer, head)
    return V, out


@right("values repeated for all query heads")
def ov_circuit(model, layer, head):
    values = model.W_V.repeat_interleave(model.cfg.n_heads // model.W_V.shape[1], dim=1)
    return [model.W_E @ values[layer][head], model.W_O[layer][head] @ model.W_U]


@right("einsum")
def ov_circuit(model, layer, head):
    shared = model.cfg.n_heads // (model.cfg.n_key_value_heads or model.cfg.n_heads)
    a = einsum(model.W_E, model.W_V[layer, head // shared], "vocab d, d h -> vocab h")
    return a, einsum(model.W_O[layer, head], model.W_U, "h d, d vocab -> h vocab")


def _best(circuit, block, of_block):
    a, b = circuit
    hits = 0
    for start in range(0, len(a), block):
        hits += of_block(a[start : start + block] @ b, start)
    return hits / len(a)


@mistake("compares with 0, 1, 2 ... in every block: the rows of a later block have later numbers")
def top1_copying(circuit, block=100):
    return _best(circuit, block, lambda rows, start: (rows.argmax(-1) == torch.arange(len(rows))).sum().item())


@mistake("leaves out the last rows, where the block is not full")
def top1_copying(circuit, block=100):
    a, b = circuit
    hits = 0
    for start in range(0, len(a) - block + 1, block):
        best = (a[start : start + block] @ b).argmax(-1)
        hits += (best == torch.arange(start, start + block)).sum().item()
    return hits / len(a)


@mistake("looks for the largest entry of each column: a row is a token looked at")
def top1_copying(circuit, block=100):
    a, b = circuit
    return _best((b.T, a.T), block, lambda rows, start: _on_diagonal(rows.argmax(-1), start))


@mistake("counts entries that are large in absolute value: a token that is lowered most is not copied")
def top1_copying(circuit, block=100):
    return _best(circuit, block, lambda rows, start: _on_diagonal(rows.abs().argmax(-1), start))


@mistake("counts positive entries on the diagonal: copying needs the largest of the row")
def top1_copying(circuit, block=100):
    return _best(circuit, block, lambda rows, start: (rows.diagonal(start) > 0).sum().item())


@mistake("gives the number of rows, not the share")
def top1_copying(circuit, block=100):
    return float(
        round(_best(circuit, block, lambda rows, start: _on_diagonal(rows.argmax(-1), start)) * len(circuit[0]))
    )


def _on_diagonal(best, start):
    return (best == torch.arange(start, start + len(best))).sum().item()


@right("torch.split, and the diagonal against the maximum")
def top1_copying(circuit, block=100):
    a, b = circuit
    hits, start = 0, 0
    for rows in a.split(block):
        product = rows @ b
        own = product[torch.arange(len(rows)), torch.arange(start, start + len(rows))]
        hits += int((own == product.amax(-1)).sum())
        start += len(rows)
    return hits / start


@mistake("adds the factors: (A1 + A2)(B1 + B2) has cross terms of one head's V with another's out")
def effective_ov(model, heads):
    pairs = [_ov(model, *head) for head in heads]
    a, b = (torch.stack(factors).sum(0) for factors in zip(*pairs, strict=True))
    rest = len(heads) - 1
    return torch.cat([a, a.new_zeros(len(a), rest * b.shape[0])], 1), b.repeat(len(heads), 1)


@mistake("puts the second factors in another order than the first ones")
def effective_ov(model, heads):
    pairs = [_ov(model, *head) for head in heads]
    return torch.cat([a for a, _ in pairs], 1), torch.cat([b for _, b in pairs[::-1]], 0)


@mistake("takes the mean over heads: what heads write adds up")
def effective_ov(model, heads):
    pairs = [_ov(model, *head) for head in heads]
    return torch.cat([a for a, _ in pairs], 1) / len(heads), torch.cat([b for _, b in pairs], 0)


@mistake("takes all heads from the first one's layer")
def effective_ov(model, heads):
    pairs = [_ov(model, heads[0][0], head) for _, head in heads]
    return torch.cat([a for a, _ in pairs], 1), torch.cat([b for _, b in pairs], 0)


@mistake("gives the transposed sum: the token looked at is the row")
def effective_ov(model, heads):
    pairs = [_ov(model, *head) for head in heads]
    return torch.cat([b for _, b in pairs], 0).T, torch.cat([a for a, _ in pairs], 1).T


@right("embeds and unembeds once")
def effective_ov(model, heads):
    values = torch.cat([_heads(model, *head)[2] for head in heads], dim=-1)
    outputs = torch.cat([model.W_O[layer, head] for layer, head in heads])
    return model.W_E @ values, outputs @ model.W_U


@mistake("takes what a head writes for what the model predicts: other heads and other places write, too")
def answer_ov():
    return "a"


@mistake("takes a property of weights for one of texts")
def answer_ov():
    return "c"


# --- 3. QK


def _qk(model, layer, head, kv=None):
    Q, K, _, _ = _heads(model, layer, head, kv)
    return model.W_E @ Q / Q.shape[-1] ** 0.5, (model.W_E @ K).T


@mistake("forgets the scale: scores are divided by the root of d_head")
def qk_circuit(model, layer, head):
    a, b = _qk(model, layer, head)
    return a * model.W_Q.shape[-1] ** 0.5, b


@mistake("divides by d_head, not by its root")
def qk_circuit(model, layer, head):
    a, b = _qk(model, layer, head)
    return a / model.W_Q.shape[-1] ** 0.5, b


@mistake("divides by the root of d_model: it is the root of d_head")
def qk_circuit(model, layer, head):
    a, b = _qk(model, layer, head)
    return a * (model.W_Q.shape[-1] / model.W_E.shape[-1]) ** 0.5, b


@mistake("has keys in rows and queries in columns: it is the other way round")
def qk_circuit(model, layer, head):
    a, b = _qk(model, layer, head)
    return b.T, a.T


@mistake("reads with key head `head % (number of key heads)`: neighbours share one")
def qk_circuit(model, layer, head):
    return _qk(model, layer, head, head % model.W_K.shape[1])


@mistake("puts W_U in place of the key's embedding")
def qk_circuit(model, layer, head):
    Q, K, _, _ = _heads(model, layer, head)
    return model.W_E @ Q / Q.shape[-1] ** 0.5, K.T @ model.W_U


@right("the scale in the keys")
def qk_circuit(model, layer, head):
    Q, K, _, _ = _heads(model, layer, head)
    return model.W_E @ Q, K.T @ model.W_E.T * Q.shape[-1] ** -0.5


def _positions(model, layer, head, scale=True, axis=-1, kv=None, mask=1, source=None):
    Q, K, _, _ = _heads(model, layer, head, kv)
    position = model.W_pos if source is None else source
    scores = (position @ Q) @ (position @ K).T
    if scale:
        scores = scores / Q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(torch.ones_like(scores).triu(mask).bool(), -torch.inf)
    return scores.softmax(axis)


@mistake("forgets the scale before the softmax: scores are divided by the root of d_head")
def pos_by_pos(model, layer, head):
    return _positions(model, layer, head, scale=False)


@mistake("takes the softmax over the queries: each query's weights over its keys sum to 1")
def pos_by_pos(model, layer, head):
    return _positions(model, layer, head, axis=0)


@mistake("has no mask: a query sees no later key")
def pos_by_pos(model, layer, head):
    return _positions(model, layer, head, mask=None)


@mistake("masks with 0: to the softmax 0 is a score like others, and minus infinity is none")
def pos_by_pos(model, layer, head):
    Q, K, _, _ = _heads(model, layer, head)
    scores = (model.W_pos @ Q) @ (model.W_pos @ K).T / Q.shape[-1] ** 0.5
    return scores.tril().softmax(-1)


@mistake("masks after the softmax, so that the weights of a query do not sum to 1")
def pos_by_pos(model, layer, head):
    return _positions(model, layer, head, mask=None).tril()


@mistake("takes the first key head for every query head")
def pos_by_pos(model, layer, head):
    return _positions(model, layer, head, kv=0)


@right("a mask that is added")
def pos_by_pos(model, layer, head):
    Q, K, _, _ = _heads(model, layer, head)
    scores = einsum(model.W_pos @ Q, model.W_pos @ K, "query d, key d -> query key") / Q.shape[1] ** 0.5
    return (scores + torch.full_like(scores, -torch.inf).triu(1)).softmax(dim=1)


# --- 4. Parts


@torch.no_grad()
def _parts(model, tokens, layer, part="z", through=None):
    names = [f"blocks.{below}.attn.hook_{part}" for below in range(layer if through is None else through)]
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name in names)
    parts = [model.W_E[tokens], model.W_pos[: tokens.shape[1]].expand(len(tokens), -1, -1)]
    return parts, [
        cache[name][:, :, head] @ model.W_O[below, head]
        for below, name in enumerate(names)
        for head in range(model.cfg.n_heads)
    ]


@right("from patterns and values")
def decompose_input(model, tokens, layer):
    _, cache = model.run_with_cache(tokens)
    parts = [cache["embed"], cache["pos_embed"].expand_as(cache["embed"])]
    for below in range(layer):
        values = cache["v", below]
        values = values.repeat_interleave(model.cfg.n_heads // values.shape[2], dim=2)
        mixed = einsum(cache["pattern", below], values, "b h q k, b k h d -> b q h d")
        parts += list(einsum(mixed, model.W_O[below], "b q h d, h d m -> h b q m"))
    return torch.stack(parts)


@mistake("leaves the positions at 0: they are a part of the stream")
def decompose_input(model, tokens, layer):
    (token, position), written = _parts(model, tokens, layer)
    return torch.stack([token, torch.zeros_like(position), *written])


@mistake("puts the heads before token and position")
def decompose_input(model, tokens, layer):
    (token, position), written = _parts(model, tokens, layer)
    return torch.stack([*written, token, position])


@mistake("has position before token")
def decompose_input(model, tokens, layer):
    (token, position), written = _parts(model, tokens, layer)
    return torch.stack([position, token, *written])


@mistake("gives one part a layer: each head is a part")
def decompose_input(model, tokens, layer):
    (token, position), written = _parts(model, tokens, layer)
    heads = model.cfg.n_heads
    layers = [sum(written[i * heads : (i + 1) * heads]) for i in range(layer)]
    return torch.stack([token, position, *layers])


@mistake("includes the heads of the layer itself: the stream before it lacks them")
def decompose_input(model, tokens, layer):
    parts, written = _parts(model, tokens, layer, through=layer + 1)
    return torch.stack(parts + written)


@mistake("goes head by head through the layers: all heads of one layer come first")
def decompose_input(model, tokens, layer):
    parts, written = _parts(model, tokens, layer)
    heads = model.cfg.n_heads
    return torch.stack(parts + [written[i * heads + h] for h in range(heads) for i in range(layer)])


@right("hooks that keep z, and einsum")
@torch.no_grad()
def decompose_input(model, tokens, layer):
    kept = []
    names = [f"blocks.{below}.attn.hook_z" for below in range(layer)]
    model.run_with_hooks(tokens, fwd_hooks=[(name, lambda z, hook: kept.append(z.clone())) for name in names])
    result = torch.zeros(2 + layer * model.cfg.n_heads, *tokens.shape, model.cfg.d_model)
    result[0], result[1] = model.W_E[tokens], model.W_pos[: tokens.shape[1]]
    for below, z in enumerate(kept):
        start = 2 + below * model.cfg.n_heads
        each = einsum(z, model.W_O[below], "b p h d, h d m -> h b p m")
        result[start : start + model.cfg.n_heads] = each
    return result


@mistake("multiplies by W_K: queries are read by W_Q")
def decompose_q(model, parts, layer, head):
    return parts @ _heads(model, layer, head)[1]


@mistake("takes head 0 for every head")
def decompose_q(model, parts, layer, head):
    return parts @ model.W_Q[layer, 0]


@mistake("adds up the parts: each part has its own")
def decompose_q(model, parts, layer, head):
    return (parts @ model.W_Q[layer, head]).sum(0)


@mistake("takes layer 0 for every layer")
def decompose_q(model, parts, layer, head):
    return parts @ model.W_Q[0, head]


@right("einsum over d_model")
def decompose_q(model, parts, layer, head):
    return einsum(parts, model.W_Q[layer][head], "part b p d, d h -> part b p h")


@mistake("reads with key head `head % (number of key heads)`: neighbours share one")
def decompose_k(model, parts, layer, head):
    return parts @ model.W_K[layer, head % model.W_K.shape[1]]


@mistake("multiplies by W_Q: keys are read by W_K")
def decompose_k(model, parts, layer, head):
    return parts @ model.W_Q[layer, head]


@mistake("takes the first key head for every query head")
def decompose_k(model, parts, layer, head):
    return parts @ model.W_K[layer, 0]


@mistake("multiplies by W_V: keys are read by W_K")
def decompose_k(model, parts, layer, head):
    return parts @ _heads(model, layer, head)[2]


@right("keys repeated for all query heads")
def decompose_k(model, parts, layer, head):
    keys = model.W_K[layer].repeat_interleave(model.cfg.n_heads // model.W_K.shape[1], dim=0)
    return torch.stack([part @ keys[head] for part in parts])


def _pairs(q, k):
    return torch.einsum("abqd,cbkd->acbqk", q, k) / q.shape[-1] ** 0.5


@mistake("forgets the scale: divide by the root of d_head")
def decompose_scores(q_parts, k_parts):
    return _pairs(q_parts, k_parts) * q_parts.shape[-1] ** 0.5


@mistake("divides by d_head, not by its root")
def decompose_scores(q_parts, k_parts):
    return _pairs(q_parts, k_parts) / q_parts.shape[-1] ** 0.5


@mistake("has the keys' parts first: the queries' parts come first")
def decompose_scores(q_parts, k_parts):
    return _pairs(q_parts, k_parts).transpose(0, 1)


@mistake("has keys in rows: the last axes are query, key")
def decompose_scores(q_parts, k_parts):
    return _pairs(q_parts, k_parts).mT


@mistake("takes the softmax: these are scores before it, which add up")
def decompose_scores(q_parts, k_parts):
    return _pairs(q_parts, k_parts).softmax(-1)


@mistake("pairs each query part with the sum of all key parts")
def decompose_scores(q_parts, k_parts):
    return _pairs(q_parts, k_parts.sum(0, keepdim=True)).expand(-1, len(k_parts), -1, -1, -1)


@right("broadcast matrix products")
def decompose_scores(q_parts, k_parts):
    return q_parts[:, None] @ k_parts[None].mT * q_parts.shape[-1] ** -0.5


# --- 5. K-composition


def _composed(model, writer, reader, wkv=None, rkv=None):
    _, _, V, out = _heads(model, *writer, wkv)
    Q, K, _, _ = _heads(model, *reader, rkv)
    return model.W_E @ Q / Q.shape[-1] ** 0.5, (model.W_E @ V @ out @ K).T


@mistake("forgets the scale: scores are divided by the root of d_head")
def k_composition_circuit(model, writer, reader):
    a, b = _composed(model, writer, reader)
    return a * model.W_Q.shape[-1] ** 0.5, b


@mistake("leaves the writer out: that is the reader's plain QK circuit")
def k_composition_circuit(model, writer, reader):
    return _qk(model, *reader)


@mistake("puts the writer before the queries: that is Q-composition")
def k_composition_circuit(model, writer, reader):
    _, _, V, out = _heads(model, *writer)
    Q, K, _, _ = _heads(model, *reader)
    return model.W_E @ V @ out @ Q / Q.shape[-1] ** 0.5, (model.W_E @ K).T


@mistake("has the noted token in rows: the query's token is the row")
def k_composition_circuit(model, writer, reader):
    a, b = _composed(model, writer, reader)
    return b.T, a.T


@mistake("exchanges writer and reader")
def k_composition_circuit(model, writer, reader):
    return _composed(model, reader, writer)


@mistake("takes key and value heads `head % (their number)`: neighbours share one")
def k_composition_circuit(model, writer, reader):
    n = model.W_K.shape[1]
    return _composed(model, writer, reader, writer[1] % n, reader[1] % n)


@right("from the small middle outwards")
def k_composition_circuit(model, writer, reader):
    _, _, V, out = _heads(model, *writer)
    Q, K, _, _ = _heads(model, *reader)
    middle = K.T @ out.T @ V.T  # [d_head d_model]
    return model.W_E @ (Q * Q.shape[-1] ** -0.5), middle @ model.W_E.T


# --- 6. Scores


def _score(first, second):
    (a, b), (c, d) = first, second
    return _norm(a, (b @ c) @ d) / (_norm(a, b) * _norm(c, d))


@mistake("divides by nothing: a loud head composes with everybody")
def composition_score(first, second):
    return _norm(first[0], (first[1] @ second[0]) @ second[1])


@mistake("divides by one norm only: both belong below")
def composition_score(first, second):
    return _score(first, second) * _norm(*second)


@mistake("divides by the norms of the four factors: the norms are those of the two products")
def composition_score(first, second):
    (a, b), (c, d) = first, second
    below = 1
    for factor in (a, b, c, d):
        below = below * factor.square().sum((-2, -1)).sqrt()
    return _norm(a, (b @ c) @ d) / below


@mistake("gives the square of the score")
def composition_score(first, second):
    return _score(first, second).square()


@mistake("multiplies out only what touches: the norm of b @ c, without a and d")
def composition_score(first, second):
    (_, b), (c, _) = first, second
    inner = (b @ c).square().sum((-2, -1)).sqrt()
    return inner / (b.square().sum((-2, -1)).sqrt() * c.square().sum((-2, -1)).sqrt())


@mistake("makes the whole product")
def composition_score(first, second):
    a, b = first[0] @ first[1], second[0] @ second[1]
    size = lambda x: x.square().sum((-2, -1)).sqrt()  # noqa: E731
    return size(a @ b) / (size(a) * size(b))


@right("normalises both first")
def composition_score(first, second):
    (a, b), (c, d) = first, second
    a = a / _norm(a, b)[..., None, None]
    d = d / _norm(c, d)[..., None, None]
    return _norm(a @ (b @ c), d)


@right("small triangles")
def composition_score(first, second):
    (a, b), (c, d) = first, second
    left, right_ = torch.linalg.qr(a).R, torch.linalg.qr(d.mT).R.mT

    def size(x):
        return torch.linalg.matrix_norm(x)

    return size(left @ (b @ c) @ right_) / (size(left @ b) * size(c @ right_))


def _scores(model, part, below, layer, readers=None, shared=None):
    n = model.W_Q.shape[1]
    kv = shared or [_kv(model, head) for head in range(n)]
    W_Q, W_K, W_V, W_O = model.W_Q, model.W_K[:, kv], model.W_V[:, kv], model.W_O
    pairs = readers or {
        "q": lambda Q, K, V, out: (Q, K.mT),
        "k": lambda Q, K, V, out: (K, Q.mT),
        "v": lambda Q, K, V, out: (V, out),
    }
    second = pairs[part](W_Q[layer], W_K[layer], W_V[layer], W_O[layer])
    return _score((W_V[below][:, None], W_O[below][:, None]), second)


@mistake("has q and k exchanged")
def composition_scores(model, part, below, layer):
    return _scores(model, {"q": "k", "k": "q", "v": "v"}[part], below, layer)


@mistake("has readers in rows and writers in columns")
def composition_scores(model, part, below, layer):
    return _scores(model, part, below, layer).T


@mistake("pairs query heads with key and value heads by `head % (their number)`: neighbours share one")
def composition_scores(model, part, below, layer):
    n, kv = model.W_Q.shape[1], model.W_K.shape[1]
    return _scores(model, part, below, layer, shared=[head % kv for head in range(n)])


@mistake("scores by queries with W_Q alone, and by keys with W_K alone: the score takes W_Q W_K^T, and its transpose")
def composition_scores(model, part, below, layer):
    def alone(W):
        return W, torch.eye(W.shape[-1])

    readers = {
        "q": lambda Q, K, V, out: alone(Q),
        "k": lambda Q, K, V, out: alone(K),
        "v": lambda Q, K, V, out: (V, out),
    }
    return _scores(model, part, below, layer, readers)


@mistake("composes in the wrong order: the writer's output goes into the reader, not the reverse")
def composition_scores(model, part, below, layer):
    n = model.W_Q.shape[1]
    kv = [_kv(model, head) for head in range(n)]
    W_Q, W_K, W_V, W_O = model.W_Q, model.W_K[:, kv], model.W_V[:, kv], model.W_O
    readers = {"q": (W_Q, W_K.mT), "k": (W_K, W_Q.mT), "v": (W_V, W_O)}
    a, b = (w[layer] for w in readers[part])
    return _score((a[None], b[None]), (W_V[below][:, None], W_O[below][:, None]))


@mistake("writes the value through W_O of another head: with shared values each query head has its own W_O")
def composition_scores(model, part, below, layer):
    n = model.W_Q.shape[1]
    kv = [_kv(model, head) for head in range(n)]
    first = (model.W_V[below][kv][:, None], model.W_O[below][kv][:, None])
    Q, K, V, out = model.W_Q[layer], model.W_K[layer][kv], model.W_V[layer][kv], model.W_O[layer]
    second = {"q": (Q, K.mT), "k": (K, Q.mT), "v": (V, out[kv])}[part]
    return _score(first, second)


@right("two loops")
def composition_scores(model, part, below, layer):
    heads = range(model.W_Q.shape[1])
    result = torch.zeros(len(heads), len(heads))
    for writer, reader in itertools.product(heads, heads):
        _, _, V, out = _heads(model, below, writer)
        Q, K, V2, O2 = _heads(model, layer, reader)
        second = {"q": (Q, K.T), "k": (K, Q.T), "v": (V2, O2)}[part]
        result[writer, reader] = _score((V, out), second)
    return result


def _rotated(first, second, draws, seed, rotation):
    generator = torch.Generator().manual_seed(seed)
    d = len(second[0])
    return torch.stack([_score((first[0], first[1] @ rotation(d, generator)), second) for _ in range(draws)])


def _q(d, generator):
    return torch.linalg.qr(torch.randn(d, d, generator=generator)).Q


@mistake("turns by a Gaussian matrix: it does not keep lengths, so it is no rotation")
def random_baseline(first, second, draws, seed):
    return _rotated(first, second, draws, seed, lambda d, generator: torch.randn(d, d, generator=generator))


@mistake("only exchanges axes: a permutation is one rotation of very few")
def random_baseline(first, second, draws, seed):
    def exchanged(d, generator):
        signs = torch.randint(0, 2, (d,), generator=generator) * 2.0 - 1
        return torch.eye(d)[torch.randperm(d, generator=generator)] * signs

    return _rotated(first, second, draws, seed, exchanged)


@mistake("makes the square of evenly drawn positive numbers: its Q points one way")
def random_baseline(first, second, draws, seed):
    def even(d, generator):
        return torch.linalg.qr(torch.rand(d, d, generator=generator)).Q

    return _rotated(first, second, draws, seed, even)


@mistake("the same rotation for all: one must be drawn for each score")
def random_baseline(first, second, draws, seed):
    one = _q(len(second[0]), torch.Generator().manual_seed(seed))
    return _rotated(first, second, draws, seed, lambda d, generator: one)


@mistake("seeds draw i with seed + i: neighbouring seeds then share all draws but one")
def random_baseline(first, second, draws, seed):
    d = len(second[0])
    seeds = [torch.Generator().manual_seed(seed + i) for i in range(draws)]
    return torch.stack([_score((first[0], first[1] @ _q(d, its)), second) for its in seeds])


@mistake("draws from torch's global random state: use a torch.Generator of its own, with the seed")
def random_baseline(first, second, draws, seed):
    torch.manual_seed(seed)
    d = len(second[0])
    return torch.stack([_score((first[0], first[1] @ _q(d, None)), second) for _ in range(draws)])


@right("all rotations at once")
def random_baseline(first, second, draws, seed):
    d = len(second[0])
    squares = torch.randn(draws, d, d, generator=torch.Generator().manual_seed(seed))
    return _score((first[0], first[1] @ torch.linalg.qr(squares).Q), second)


@right("turns what the second reads, signs made even")
def random_baseline(first, second, draws, seed):
    generator = torch.Generator().manual_seed(seed)
    result = torch.empty(draws)
    for i in range(draws):
        q, r = torch.linalg.qr(torch.randn(len(second[0]), len(second[0]), generator=generator))
        result[i] = _score(first, ((q * r.diagonal().sign()) @ second[0], second[1]))
    return result


@mistake("takes the null for wrong, because it does not say what one would like")
def answer_baseline():
    return "a"


@mistake("takes composition for need: what is read may be of no use")
def answer_baseline():
    return "b"


# --- 7. The prediction


def _without(scores, without, axis=1, mask=1):
    kept = [part for part in range(scores.shape[axis]) if part not in without]
    total = scores.index_select(axis, torch.tensor(kept)).sum((0, 1))
    if mask is not None:
        total = total.masked_fill(torch.ones(total.shape[-2:]).triu(mask).bool(), -torch.inf)
    return total.softmax(-1)


@mistake("takes the parts out of the queries: the first axis is the query's, the second the key's")
def pattern_without(scores, without):
    return _without(scores, [part for part in without if part < len(scores)], axis=0)


@mistake("has no mask: the scores come unmasked, and a query sees no later key")
def pattern_without(scores, without):
    return _without(scores, without, mask=None)


@mistake("keeps only the listed parts, and takes out the others")
def pattern_without(scores, without):
    return _without(scores, [part for part in range(scores.shape[1]) if part not in without])


@mistake("takes the softmax of each pair and then adds up: the softmax is of the sum")
def pattern_without(scores, without):
    kept = [part for part in range(scores.shape[1]) if part not in without]
    later = torch.ones(scores.shape[-2:]).triu(1).bool()
    return scores[:, kept].masked_fill(later, -torch.inf).softmax(-1).mean((0, 1))


@mistake("takes only the first of the listed parts out")
def pattern_without(scores, without):
    return _without(scores, without[:1])


@mistake("gives the scores, without a softmax")
def pattern_without(scores, without):
    kept = [part for part in range(scores.shape[1]) if part not in without]
    return scores[:, kept].sum((0, 1)).tril()


@right("subtracts, and adds minus infinity")
def pattern_without(scores, without):
    total = scores.sum((0, 1))
    for part in set(without):
        total = total - scores[:, part].sum(0)
    return (total + torch.full(total.shape[-2:], -torch.inf).triu(1)).softmax(-1)


@mistake("takes a fact about texts for one about weights: rotary turns queries and keys by distance, and tokens decide")
def answer_weights():
    return "b"


@mistake("takes a score for an effect")
def answer_weights():
    return "c"


# --- 9. Directions


def _channels(model, layer, head, k, kv=None):
    _, _, V, out = _heads(model, layer, head, kv)
    return _svd(V, out, k)


@mistake("reads and writes have signs of their own: turn both or neither")
def svd_of_ov(model, layer, head, k):
    u, s, v = _channels(model, layer, head, k)
    reads, writes = (model.W_E @ u).T, v.T @ model.W_U
    return reads, s, -writes


@mistake("reads through the unembedding: a head reads what was embedded")
def svd_of_ov(model, layer, head, k):
    u, s, v = _channels(model, layer, head, k)
    return u.T @ model.W_U, s, v.T @ model.W_U


@mistake("writes through the embedding: logits are read by W_U")
def svd_of_ov(model, layer, head, k):
    u, s, v = _channels(model, layer, head, k)
    return (model.W_E @ u).T, s, (model.W_E @ v).T


@mistake("exchanges what is read and what is written")
def svd_of_ov(model, layer, head, k):
    u, s, v = _channels(model, layer, head, k)
    return (model.W_E @ v).T, s, u.T @ model.W_U


@mistake("takes value head `head % (number of value heads)`: neighbours share one")
def svd_of_ov(model, layer, head, k):
    u, s, v = _channels(model, layer, head, k, head % model.W_V.shape[1])
    return (model.W_E @ u).T, s, v.T @ model.W_U


@mistake("takes the SVD of the full circuit, from tokens to logits: it should be that of W_V W_O in the stream")
def svd_of_ov(model, layer, head, k):
    a, b = _ov(model, layer, head)
    u, s, v = _svd(a, b, k)
    return u.T, s, v.T


@right("multiplies out in the stream, which is small here")
def svd_of_ov(model, layer, head, k):
    _, _, V, out = _heads(model, layer, head)
    u, s, vt = torch.linalg.svd(V @ out)
    return einsum(model.W_E, u[:, :k], "t d, d k -> k t"), s[:k], vt[:k] @ model.W_U


@right("turns every sign")
def svd_of_ov(model, layer, head, k):
    u, s, v = _channels(model, layer, head, k)
    return -(model.W_E @ u).T, s, -(v.T @ model.W_U)


# --- 10. Open task


def _grid(weights):
    n_layers, n_heads = weights["W_Q"].shape[:2]
    return list(itertools.product(range(n_layers), range(n_heads)))


def _raw(weights, writer, reader):
    Q, K, V, out = (weights[f"W_{name}"][reader] for name in "QKVO")
    first = weights["W_V"][writer], weights["W_O"][writer]
    return {"q": _score(first, (Q, K.T)), "k": _score(first, (K, Q.T)), "v": _score(first, (V, out))}


@mistake("v: hollow writer to")
def find_composition(weights):
    """Composition scores above twice chance: falls for weights that match and carry nothing."""
    width = weights["W_E"].shape[1]
    return {
        (writer, reader, part)
        for writer, reader in itertools.product(_grid(weights), repeat=2)
        if writer[0] < reader[0]
        for part, score in _raw(weights, writer, reader).items()
        if score > 2 * width**-0.5
    }


def _flow(weights, parts="qkv", live=True, chains=True, held=True):
    heads, d_head = _grid(weights), weights["W_Q"].shape[-1]
    base = torch.cat([weights["W_E"], weights["W_pos"]])
    there, wrote = {}, {}
    for head in heads:
        before = [wrote[w] for w in heads if w[0] < head[0]] if chains else []
        there[head] = torch.cat([base, *before])
        wrote[head] = there[head] @ weights["W_V"][head] @ weights["W_O"][head]
    edges, reaching = set(), {h for h in heads if not live or (wrote[h] @ weights["W_U"]).abs().max() > 1}
    for reader, writer in itertools.product(reversed(heads), heads):
        if reader not in reaching or writer[0] >= reader[0]:
            continue
        Q, K, V, out = (weights[f"W_{name}"][reader] for name in "QKVO")
        rows, note = there[reader], wrote[writer]
        carries = {
            "q": ((note @ Q) @ (rows @ K).T).abs().max() > 5 * d_head**0.5,
            "k": ((note @ K) @ (rows @ Q).T).abs().max() > 5 * d_head**0.5,
            "v": (note @ V @ out).norm() > 0.3 * note.norm() and (not held or note.norm() > 0.1 * base.norm()),
        }
        edges |= {(writer, reader, part) for part in parts if carries[part]}
        reaching |= {writer} if any(carries.values()) else set()
    return edges


@mistake("missed were")
def find_composition(weights):
    """Looks at keys alone."""
    return _flow(weights, parts="k")


@mistake("others were named")
def find_composition(weights):
    """Does not ask whether a reader's output reaches the logits."""
    return _flow(weights, live=False)


@mistake("v: hollow writer to reads by v")
def find_composition(weights):
    """Does not ask, of values, whether there is a note at all."""
    return _flow(weights, held=False)


@mistake("no edge was named in any model")
def find_composition(weights):
    return set()


@right("a list of lists, from the same flow of rows")
def find_composition(weights):
    return [[list(writer), list(reader), part] for writer, reader, part in sorted(_flow(weights))]
