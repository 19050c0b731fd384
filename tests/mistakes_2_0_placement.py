"""Wrong answers to 2.0, the placement of step 2, and what each of them is."""

import codecs
import itertools
import math

import torch

from concrete_steps.checking.mistakes import mistake, right

# --- 1. Tokens


def joined(symbols, left, right_):
    out, i = [], 0
    while i < len(symbols):
        found = symbols[i : i + 2] == [left, right_]
        out.append(left + right_ if found else symbols[i])
        i += 2 if found else 1
    return out


@mistake("names every merge whose string stands in the piece: an earlier merge may have used its letters up")
def merges_used(piece, merges):
    return [(left, right_) for left, right_ in merges if left + right_ in piece]


@mistake("joins from left to right whatever can be joined: the merge that was learned first comes first, anywhere")
def merges_used(piece, merges):
    symbols, used, i = list(piece), set(), 0
    while i + 1 < len(symbols):
        pair = symbols[i], symbols[i + 1]
        if pair in merges:
            used.add(pair)
            symbols[i : i + 2] = ["".join(pair)]
            i = 0
        else:
            i += 1
    return [pair for pair in merges if pair in used]


@mistake("takes the longest token first: merges apply in the order of learning")
def merges_used(piece, merges):
    made, used = {left + right_: (left, right_) for left, right_ in merges}, set()

    def parts(token):
        if token in made:
            used.add(made[token])
            for part in made[token]:
                parts(part)

    while piece:
        token = next(piece[:n] for n in range(len(piece), 0, -1) if n == 1 or piece[:n] in made)
        parts(token)
        piece = piece[len(token) :]
    return [pair for pair in merges if pair in used]


@mistake("names a merge once for each place that it joins: once is asked for")
def merges_used(piece, merges):
    symbols, used = list(piece), []
    for left, right_ in merges:
        after = joined(symbols, left, right_)
        used += [(left, right_)] * (len(symbols) - len(after))
        symbols = after
    return used


@mistake("never joins what a merge has joined: its string is a symbol for later merges")
def merges_used(piece, merges):
    pairs = {(a, b) for a, b in itertools.pairwise(piece)}
    return [pair for pair in merges if pair in pairs]


@right("the first of all pairs, again and again")
def merges_used(piece, merges):
    rank, symbols, used = {pair: n for n, pair in enumerate(merges)}, list(piece), []
    while True:
        pairs = [pair for pair in itertools.pairwise(symbols) if pair in rank]
        if not pairs:
            return used
        best = min(pairs, key=rank.get)
        used.append(best)
        symbols = joined(symbols, *best)


@mistake("decodes each token by itself: a character that is cut is lost, or shown as a replacement sign")
def stream_text(tokens):
    return [token.decode(errors="replace") for token in tokens]


@mistake("leaves out the bytes of a character that is cut: keep them until the rest has come")
def stream_text(tokens):
    return [token.decode(errors="ignore") for token in tokens]


@mistake("waits until nothing is left over: whole characters before an unfinished one are shown at once")
def stream_text(tokens):
    added, waiting = [], b""
    for token in tokens:
        waiting += token
        try:
            added.append(waiting.decode())
            waiting = b""
        except UnicodeDecodeError:
            added.append("")
    return added


@mistake("gives all that is on the screen: what each token adds is asked for")
def stream_text(tokens):
    decoder, shown = codecs.getincrementaldecoder("utf-8")(), [""]
    for token in tokens:
        shown.append(shown[-1] + decoder.decode(token))
    return shown[1:]


@right("the library's incremental decoder")
def stream_text(tokens):
    decoder = codecs.getincrementaldecoder("utf-8")()
    return [decoder.decode(token) for token in tokens]


@right("by the bytes that begin a character")
def stream_text(tokens):
    added, waiting = [], b""
    for token in tokens:
        waiting, text = waiting + token, ""
        while waiting:
            first = waiting[0]
            size = 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
            if len(waiting) < size:
                break
            text, waiting = text + waiting[:size].decode(), waiting[size:]
        added.append(text)
    return added


# --- 2. Attention by hand


def causal_softmax(scores):
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1)


@mistake("takes the table's rows for the keys: a row is for the query")
def pattern_from_table(table, tokens):
    return causal_softmax(table[tokens[:, None, :], tokens[:, :, None]])


@mistake("lets a query look at later keys: the head is causal")
def pattern_from_table(table, tokens):
    return table[tokens[:, :, None], tokens[:, None, :]].softmax(-1)


@mistake("masks after the softmax: then a row's weights no longer sum to 1")
def pattern_from_table(table, tokens):
    return table[tokens[:, :, None], tokens[:, None, :]].softmax(-1).tril()


@mistake("divides the scores by a root once more: the table has the division in it")
def pattern_from_table(table, tokens):
    return causal_softmax(table[tokens[:, :, None], tokens[:, None, :]] / len(table) ** 0.5)


@mistake("takes the softmax over the queries: each query's weights sum to 1")
def pattern_from_table(table, tokens):
    scores = table[tokens[:, :, None], tokens[:, None, :]]
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-2)


@right("one-hot vectors and matrix products")
def pattern_from_table(table, tokens):
    x = torch.eye(len(table), dtype=table.dtype)[tokens]
    scores = x @ table @ x.mT
    return (scores + torch.full_like(scores, -torch.inf).triu(1)).softmax(-1)


def noted(tokens, back):
    """Token - back at each position, -1 - back where there is none."""
    return torch.cat([torch.full_like(tokens[:, :back], -1 - back), tokens[:, : max(tokens.shape[1] - back, 0)]], 1)


def equal_notes(tokens, query, key, query_back, key_back):
    pos = torch.arange(tokens.shape[1])
    there = (pos >= query_back)[:, None] & (pos >= key_back)
    return (query[:, :, None] == key[:, None, :]) & there


@mistake("exchanges the sides: query_back is the note of the query")
def matching_keys(tokens, query_back, key_back):
    same = equal_notes(tokens, noted(tokens, key_back), noted(tokens, query_back), key_back, query_back)
    return same.tril()


@mistake("lets a query look at later keys")
def matching_keys(tokens, query_back, key_back):
    return equal_notes(tokens, noted(tokens, query_back), noted(tokens, key_back), query_back, key_back)


@mistake("leaves out the query's own position: it is among the keys")
def matching_keys(tokens, query_back, key_back):
    same = equal_notes(tokens, noted(tokens, query_back), noted(tokens, key_back), query_back, key_back)
    return same.tril(-1)


@mistake("rolls the text round: the first positions have no note, and get one from its end")
def matching_keys(tokens, query_back, key_back):
    return (tokens.roll(query_back, 1)[:, :, None] == tokens.roll(key_back, 1)[:, None, :]).tril()


@mistake("takes two missing notes, or the same filler, for a match")
def matching_keys(tokens, query_back, key_back):
    def filled(back):
        kept = tokens[:, : max(tokens.shape[1] - back, 0)]
        return torch.cat([torch.full_like(tokens[:, :back], -1), kept], 1)

    return (filled(query_back)[:, :, None] == filled(key_back)[:, None, :]).tril()


@right("by plain loops")
def matching_keys(tokens, query_back, key_back):
    batch, pos = tokens.shape
    found = torch.zeros(batch, pos, pos, dtype=torch.bool)
    for i in range(query_back, pos):
        for j in range(key_back, i + 1):
            found[:, i, j] = tokens[:, i - query_back] == tokens[:, j - key_back]
    return found


# --- 3. GPT-2


def packed(x, W_qkv, b_qkv, n_heads):
    out = (x @ W_qkv + b_qkv).chunk(3, -1)
    return (part.unflatten(-1, (n_heads, -1)).transpose(1, 2) for part in out)


def written(z, W_out, b_out):
    return z.transpose(1, 2).flatten(-2) @ W_out + b_out


@mistake("divides the scores by d_head: its root is asked for")
def packed_attention(x, W_qkv, b_qkv, W_out, b_out, n_heads):
    q, k, v = packed(x, W_qkv, b_qkv, n_heads)
    return written(causal_softmax(q @ k.mT / q.shape[-1]) @ v, W_out, b_out)


@mistake("divides by the root of d_model: each head's own d_head counts")
def packed_attention(x, W_qkv, b_qkv, W_out, b_out, n_heads):
    q, k, v = packed(x, W_qkv, b_qkv, n_heads)
    return written(causal_softmax(q @ k.mT / x.shape[-1] ** 0.5) @ v, W_out, b_out)


@mistake("does not divide the scores by the root of d_head")
def packed_attention(x, W_qkv, b_qkv, W_out, b_out, n_heads):
    q, k, v = packed(x, W_qkv, b_qkv, n_heads)
    return written(causal_softmax(q @ k.mT) @ v, W_out, b_out)


@mistake("leaves the mask out: a position looks ahead")
def packed_attention(x, W_qkv, b_qkv, W_out, b_out, n_heads):
    q, k, v = packed(x, W_qkv, b_qkv, n_heads)
    return written((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v, W_out, b_out)


@mistake("masks after the softmax: later keys still take part in its sum")
def packed_attention(x, W_qkv, b_qkv, W_out, b_out, n_heads):
    q, k, v = packed(x, W_qkv, b_qkv, n_heads)
    return written((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).tril() @ v, W_out, b_out)


@mistake("reshapes to heads without moving the axis: a head then holds pieces of several positions")
def packed_attention(x, W_qkv, b_qkv, W_out, b_out, n_heads):
    batch, pos, d_model = x.shape
    q, k, v = (part.reshape(batch, n_heads, pos, -1) for part in (x @ W_qkv + b_qkv).chunk(3, -1))
    z = causal_softmax(q @ k.mT / q.shape[-1] ** 0.5) @ v
    return z.reshape(batch, pos, d_model) @ W_out + b_out


@mistake("adds x: attention gives what is added to the stream, not the sum")
def packed_attention(x, W_qkv, b_qkv, W_out, b_out, n_heads):
    q, k, v = packed(x, W_qkv, b_qkv, n_heads)
    return x + written(causal_softmax(q @ k.mT / q.shape[-1] ** 0.5) @ v, W_out, b_out)


@right("PyTorch's own scaled dot product")
def packed_attention(x, W_qkv, b_qkv, W_out, b_out, n_heads):
    q, k, v = packed(x, W_qkv, b_qkv, n_heads)
    z = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return written(z, W_out, b_out)


@right("head by head")
def packed_attention(x, W_qkv, b_qkv, W_out, b_out, n_heads):
    d_model = x.shape[-1]
    q, k, v = (x @ W_qkv + b_qkv).split(d_model, dim=-1)
    size, out = d_model // n_heads, b_out
    for start in range(0, d_model, size):
        own = slice(start, start + size)
        scores = torch.einsum("bqd,bkd->bqk", q[..., own], k[..., own]) / math.sqrt(size)
        out = out + causal_softmax(scores) @ v[..., own] @ W_out[own]
    return out


def parts_of(n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab):
    inner = n_heads * d_head
    return {
        "embed": d_vocab * d_model,
        "pos_embed": n_ctx * d_model,
        "attention": n_layers * (4 * d_model * inner + 3 * inner + d_model),
        "mlp": n_layers * (2 * d_model * d_mlp + d_mlp + d_model),
        "norms": (2 * n_layers + 1) * 2 * d_model,
    }


@mistake("forgets the LayerNorm after the last layer")
def parameters_by_part(n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab):
    found = parts_of(n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab)
    return found | {"norms": n_layers * 4 * d_model}


@mistake("leaves the biases out, of attention and MLP")
def parameters_by_part(n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab):
    found = parts_of(n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab)
    found["attention"] = n_layers * 4 * d_model * n_heads * d_head
    return found | {"mlp": n_layers * 2 * d_model * d_mlp}


@mistake("counts a bias of d_model for each head of W_O: it is added once")
def parameters_by_part(n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab):
    found = parts_of(n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab)
    return found | {"attention": found["attention"] + n_layers * (n_heads - 1) * d_model}


@mistake("counts one weight for each axis in a LayerNorm: it has a bias as well")
def parameters_by_part(n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab):
    found = parts_of(n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab)
    return found | {"norms": (2 * n_layers + 1) * d_model}


@mistake("counts attention and MLP of one layer: there are n_layers of them")
def parameters_by_part(n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab):
    one = parts_of(1, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab)
    found = parts_of(n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab)
    return found | {"attention": one["attention"], "mlp": one["mlp"]}


@right("by modules")
def parameters_by_part(n_layers, d_model, n_heads, d_head, d_mlp, n_ctx, d_vocab):
    def layer(read, write):
        return read * write + write

    one = 3 * layer(d_model, n_heads * d_head) + layer(n_heads * d_head, d_model)
    two = layer(d_model, d_mlp) + layer(d_mlp, d_model)
    norms = sum(2 * d_model for _ in range(2 * n_layers)) + 2 * d_model
    ends = {"embed": d_vocab * d_model, "pos_embed": n_ctx * d_model}
    return {"norms": norms, "mlp": n_layers * two, "attention": n_layers * one, **ends}


# --- 4. Training and sampling


def losses_of(logits, tokens):
    """-log p of tokens 1, 2, ..."""
    return -logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]


def inside(tokens, start, end, shift=0):
    pos = torch.arange(1, tokens.shape[1]) + shift
    return (pos >= start[:, None]) & (pos < end[:, None])


@mistake("reads the logits at a token's own place: those of the place before predict it")
def reply_loss(logits, tokens, start, end):
    pos = torch.arange(tokens.shape[1])
    losses = -logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    return losses[(pos >= start[:, None]) & (pos < end[:, None])].mean()


@mistake("counts the tokens of prompt and padding, too")
def reply_loss(logits, tokens, start, end):
    return losses_of(logits, tokens).mean()


@mistake("averages each reply first: a token of a short reply then counts more")
def reply_loss(logits, tokens, start, end):
    counts = inside(tokens, start, end)
    return ((losses_of(logits, tokens) * counts).sum(1) / counts.sum(1)).mean()


@mistake("moves the mask as well as the targets: the reply's first token is left out, one behind it counts")
def reply_loss(logits, tokens, start, end):
    losses = torch.cat([losses_of(logits, tokens), torch.zeros_like(logits[:, :1, 0])], 1)
    pos = torch.arange(tokens.shape[1])
    return losses[(pos >= start[:, None]) & (pos < end[:, None])].mean()


@mistake("divides by all positions: only the reply's tokens count")
def reply_loss(logits, tokens, start, end):
    return (losses_of(logits, tokens) * inside(tokens, start, end)).mean()


@mistake("is the sum, not the mean")
def reply_loss(logits, tokens, start, end):
    return losses_of(logits, tokens)[inside(tokens, start, end)].sum()


@right("cross entropy with targets to ignore")
def reply_loss(logits, tokens, start, end):
    pos = torch.arange(tokens.shape[1])
    targets = tokens.masked_fill((pos < start[:, None]) | (pos >= end[:, None]), -100)
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten())


@mistake("compares with the share itself: the border is the share times the likeliest token's probability")
def min_p(logits, share):
    return logits.masked_fill(logits.softmax(-1) < share, -torch.inf)


@mistake("is top-p: it keeps the likeliest that reach the share together")
def min_p(logits, share):
    ordered = logits.sort(descending=True)
    probs = ordered.values.softmax(-1)
    kept = ordered.values.masked_fill(probs.cumsum(-1) - probs >= share, -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter(-1, ordered.indices, kept)


@mistake("multiplies the largest logit by the share: probabilities are compared, so add log(share) to the logit")
def min_p(logits, share):
    return logits.masked_fill(logits < share * logits.amax(-1, keepdim=True), -torch.inf)


@mistake("takes the likeliest of all rows: each row has its own")
def min_p(logits, share):
    return logits.masked_fill(logits < logits.max() + math.log(share), -torch.inf)


@mistake("cuts off at the border as well: what has just the share is kept")
def min_p(logits, share):
    return logits.masked_fill(logits <= logits.amax(-1, keepdim=True) + math.log(share), -torch.inf)


@mistake("gives probabilities, or log probabilities, of what is kept: logits stay as they are")
def min_p(logits, share):
    least = logits.amax(-1, keepdim=True) + math.log(share)
    return logits.log_softmax(-1).masked_fill(logits < least, -torch.inf)


@right("by probabilities")
def min_p(logits, share):
    probs = logits.softmax(-1)
    kept = probs >= share * probs.max(dim=-1, keepdim=True).values
    return torch.where(kept, logits, torch.full_like(logits, float("-inf")))


# --- 5. Llama


def turn(x, angles):
    a, b = x.chunk(2, -1)
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)


def frequencies_of(q, theta):
    return theta ** (-torch.arange(0, len(q), 2, dtype=q.dtype) / len(q))


@mistake("turns the other way: the key stands before the query, so the query is turned further")
def scores_at_distance(q, k, distances, theta):
    return turn(q, -distances[:, None] * frequencies_of(q, theta)) @ k


@mistake("pairs neighbours, coordinates 2i and 2i + 1: here a pair is i and i + d_head / 2")
def scores_at_distance(q, k, distances, theta):
    order = torch.cat([torch.arange(0, len(q), 2), torch.arange(1, len(q), 2)])
    return turn(q[order], distances[:, None] * frequencies_of(q, theta)) @ k[order]


@mistake("divides by the root of d_head: the dot product is asked for")
def scores_at_distance(q, k, distances, theta):
    return turn(q, distances[:, None] * frequencies_of(q, theta)) @ k / len(q) ** 0.5


@mistake("leaves the 2 out of the exponent: pair i turns by theta^(-2i / d_head)")
def scores_at_distance(q, k, distances, theta):
    return turn(q, distances[:, None] * theta ** (-torch.arange(len(q) // 2, dtype=q.dtype) / len(q))) @ k


@mistake("turns query and key by the same angle: then the distance is gone")
def scores_at_distance(q, k, distances, theta):
    angles = distances[:, None] * frequencies_of(q, theta)
    return (turn(q, angles) * turn(k, angles)).sum(-1)


@mistake("keeps the cosines alone: the sines, of a and b crosswise, are missing")
def scores_at_distance(q, k, distances, theta):
    alike = (q * k).unflatten(-1, (2, -1)).sum(0)
    return (distances[:, None] * frequencies_of(q, theta)).cos() @ alike


@right("turn the query, leave the key")
def scores_at_distance(q, k, distances, theta):
    return turn(q, distances[:, None] * frequencies_of(q, theta)) @ k


@right("both turned, far from the start")
def scores_at_distance(q, k, distances, theta):
    here = turn(q, 400 * frequencies_of(q, theta))
    there = turn(k.expand(len(distances), -1), (400 - distances)[:, None] * frequencies_of(q, theta))
    return there @ here


@mistake("groups heads 0, n_kv_heads, 2 n_kv_heads, ...: neighbours share, 0 1 2, then 3 4 5")
def share_heads(W_K, n_kv_heads):
    return W_K.unflatten(0, (-1, n_kv_heads)).mean(0)


@mistake("adds the heads of a group up: the mean is asked for")
def share_heads(W_K, n_kv_heads):
    return W_K.unflatten(0, (n_kv_heads, -1)).sum(1)


@mistake("takes the first head of each group: the mean is asked for")
def share_heads(W_K, n_kv_heads):
    return W_K[:: len(W_K) // n_kv_heads]


@mistake("takes the mean of all heads for every group")
def share_heads(W_K, n_kv_heads):
    return W_K.mean(0, keepdim=True).repeat(n_kv_heads, 1, 1)


@right("slices")
def share_heads(W_K, n_kv_heads):
    return torch.stack([heads.mean(0) for heads in W_K.chunk(n_kv_heads)])
