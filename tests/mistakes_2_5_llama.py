"""Wrong answers to 2.5 Llama, and what each of them is. The underscored classes are right; the wrong ones vary them."""

import math
from collections import OrderedDict
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from concrete_steps.checking.mistakes import mistake, right


def _normal(*shape):
    return nn.Parameter(torch.randn(*shape))


# --- 1. RMSNorm


class _RMSNorm(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.w, self.eps = nn.Parameter(torch.ones(cfg.d_model)), cfg.eps

    def forward(self, x):
        return F.rms_norm(x, self.w.shape, self.w, self.eps)


@mistake("subtracts the mean, as LayerNorm does: RMSNorm leaves it in")
class RMSNorm(_RMSNorm):
    def forward(self, x):
        return F.layer_norm(x, self.w.shape, self.w, None, self.eps)


@mistake("divides by the deviation: squares of x itself are meant, without its mean taken off")
class RMSNorm(_RMSNorm):
    def forward(self, x):
        return x / (x.var(-1, keepdim=True, unbiased=False) + self.eps).sqrt() * self.w


@mistake("divides by the length: the mean of squares is meant, not their sum")
class RMSNorm(_RMSNorm):
    def forward(self, x):
        return x / (x.square().sum(-1, keepdim=True) + self.eps).sqrt() * self.w


@mistake("adds eps outside the root: it belongs to the mean square, under the root")
class RMSNorm(_RMSNorm):
    def forward(self, x):
        return x / (x.square().mean(-1, keepdim=True).sqrt() + self.eps) * self.w


@mistake("divides by the mean square: its root is missing")
class RMSNorm(_RMSNorm):
    def forward(self, x):
        return x / (x.square().mean(-1, keepdim=True) + self.eps) * self.w


@mistake("takes the mean of absolute values: the root of the mean of squares is meant")
class RMSNorm(_RMSNorm):
    def forward(self, x):
        return x / (x.abs().mean(-1, keepdim=True) + self.eps).sqrt() * self.w


@mistake("takes one mean square of all positions together: each position has its own")
class RMSNorm(_RMSNorm):
    def forward(self, x):
        return x / (x.square().mean() + self.eps).sqrt() * self.w


@mistake("keep the axis in the mean square: keepdim=True")
class RMSNorm(_RMSNorm):
    def forward(self, x):
        return x / (x.square().mean(-1) + self.eps).sqrt() * self.w


@mistake("leaves eps out, or uses another than cfg.eps")
class RMSNorm(_RMSNorm):
    def forward(self, x):
        return F.rms_norm(x, self.w.shape, self.w, 1e-5)


@mistake("normalises, but forgets to multiply by w")
class RMSNorm(_RMSNorm):
    def forward(self, x):
        return F.rms_norm(x, self.w.shape, eps=self.eps)


@mistake("multiplies by 1 + w, as Gemma does: Llama multiplies by w")
class RMSNorm(_RMSNorm):
    def forward(self, x):
        return F.rms_norm(x, self.w.shape, 1 + self.w, self.eps)


@mistake("has parameters that the text does not name: b")
class RMSNorm(_RMSNorm):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.b = nn.Parameter(torch.zeros(cfg.d_model))


@mistake("w does not start at 1")
class RMSNorm(_RMSNorm):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.w = _normal(cfg.d_model)


@mistake("is something on the way not float64?")
class RMSNorm(_RMSNorm):
    def forward(self, x):
        return F.rms_norm(x.float(), self.w.shape, self.w.float(), self.eps).to(x.dtype)


@mistake("is a part of the computation detached?")
class RMSNorm(_RMSNorm):
    def forward(self, x):
        return x / (x.square().mean(-1, keepdim=True) + self.eps).sqrt().detach() * self.w


@right("rsqrt, and the power 2")
class RMSNorm(_RMSNorm):
    def forward(self, x):
        return self.w * x * torch.rsqrt((x**2).mean(dim=-1, keepdim=True) + self.eps)


@right("length over the root of the number of entries")
class RMSNorm(_RMSNorm):
    def forward(self, x):
        n = x.shape[-1]
        return torch.einsum("...d,d->...d", x, self.w) / torch.sqrt((x * x).sum(-1)[..., None] / n + self.eps)


@mistake("LayerNorm does that; RMSNorm does not take the mean off, so the 5 stays")
def answer_shifted():
    return "a"


@mistake("the 3 is divided out again: the root mean square is three times as large, too")
def answer_shifted():
    return "b"


# --- 2. rope


def _halves(x):
    return x.chunk(2, dim=-1)


def _turn(x, angles, split=_halves, join=lambda a, b: torch.cat([a, b], dim=-1)):
    cos, sin = angles.cos()[:, None].to(x.dtype), angles.sin()[:, None].to(x.dtype)
    a, b = split(x)
    return join(a * cos - b * sin, b * cos + a * sin)


def _frequencies(x, theta):
    d_head = x.shape[-1]
    return theta ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)


def _angles(x, positions, theta):
    return positions[:, None] * _frequencies(x, theta)


@mistake("pairs neighbours (0 1), (2 3), ...: here coordinate i is paired with i + d_head / 2")
def rope(x, positions, theta):
    pairs = (lambda x: (x[..., ::2], x[..., 1::2])), (lambda a, b: torch.stack([a, b], -1).flatten(-2))
    return _turn(x, _angles(x, positions, theta), *pairs)


@mistake("turns the other way round: a' = a cos - b sin, b' = b cos + a sin")
def rope(x, positions, theta):
    return _turn(x, -_angles(x, positions, theta))


@mistake("has the wrong sign in the second line: b' = b cos + a sin")
def rope(x, positions, theta):
    cos, sin = (f(_angles(x, positions, theta))[:, None].to(x.dtype) for f in (torch.cos, torch.sin))
    a, b = _halves(x)
    return torch.cat([a * cos - b * sin, b * cos - a * sin], dim=-1)


@mistake("has the wrong sign in the first line: a' = a cos - b sin")
def rope(x, positions, theta):
    cos, sin = (f(_angles(x, positions, theta))[:, None].to(x.dtype) for f in (torch.cos, torch.sin))
    a, b = _halves(x)
    return torch.cat([a * cos + b * sin, b * cos + a * sin], dim=-1)


@mistake("uses i / d_head for the exponent: it is 2 i / d_head")
def rope(x, positions, theta):
    return _turn(x, positions[:, None] * _frequencies(x, theta).sqrt())


@mistake("turns later pairs faster: the exponent is negative")
def rope(x, positions, theta):
    return _turn(x, positions[:, None] / _frequencies(x, theta))


@mistake("counts positions 0, 1, 2, ... itself: they are given, and need not start at 0")
def rope(x, positions, theta):
    return _turn(x, _angles(x, torch.arange(x.shape[1]), theta))


@mistake("counts positions from 1: position 0 is not turned")
def rope(x, positions, theta):
    return _turn(x, _angles(x, positions + 1, theta))


@mistake("has a fixed theta of 10000: it is an argument")
def rope(x, positions, theta):
    return _turn(x, _angles(x, positions, 10000.0))


@mistake("turns every pair by the same angle: each has its own frequency")
def rope(x, positions, theta):
    return _turn(x, _angles(x, positions, theta)[:, :1])


@mistake("multiplies by the cosine and forgets the other half: a' = a cos - b sin")
def rope(x, positions, theta):
    cos = _angles(x, positions, theta).cos()[:, None].to(x.dtype)
    return torch.cat([part * cos for part in _halves(x)], dim=-1)


@mistake("turns the halves, but gives them in pairs of neighbours")
def rope(x, positions, theta):
    return _turn(x, _angles(x, positions, theta), join=lambda a, b: torch.stack([a, b], -1).flatten(-2))


@mistake("expected dtype float64, got float32")
def rope(x, positions, theta):
    return _turn(x.float(), _angles(x, positions, theta))


@mistake("is something on the way not float64?")
def rope(x, positions, theta):
    frequencies = theta ** (-torch.arange(0, x.shape[-1], 2) / x.shape[-1])  # whole numbers divided are float32
    return _turn(x, positions[:, None] * frequencies.to(x.dtype))


@right("complex numbers")
def rope(x, positions, theta):
    angles = _angles(x, positions, theta)
    pairs = (
        torch.complex(*(half.double() for half in _halves(x))) * torch.polar(torch.ones_like(angles), angles)[:, None]
    )
    return torch.cat([pairs.real, pairs.imag], -1).to(x.dtype)


@right("rotate_half, as transformers writes it")
def rope(x, positions, theta):
    angles = torch.cat([_angles(x, positions, theta)] * 2, dim=-1)[None, :, None].to(x.dtype)
    a, b = _halves(x)
    return x * angles.cos() + torch.cat((-b, a), dim=-1) * angles.sin()


@right("a matrix for each pair")
def rope(x, positions, theta):
    angles = _angles(x, positions, theta).to(x.dtype)
    turns = torch.stack([torch.stack([angles.cos(), -angles.sin()]), torch.stack([angles.sin(), angles.cos()])])
    return torch.einsum("ijpf,bphjf->bphif", turns, x.unflatten(-1, (2, -1))).flatten(-2)


@mistake("turning keeps every length, wherever it stands; and a score asks for two positions, not for one")
def answer_moved():
    return "a"


@mistake("the diagonal stays, as query and key are turned alike; off it, too, both are turned by the same more")
def answer_moved():
    return "c"


# --- 3. Two conventions


@mistake("goes the other way: from halves to pairs")
def pairs_to_halves(weight, n_heads):
    return weight.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


@mistake("takes all rows for one head: each head is reordered by itself")
def pairs_to_halves(weight, n_heads):
    return torch.cat([weight[::2], weight[1::2]])


@mistake("puts the second members first")
def pairs_to_halves(weight, n_heads):
    return weight.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flip(1).flatten(0, 2)


@mistake("takes rows of different heads together: a head's rows lie one after another")
def pairs_to_halves(weight, n_heads):
    return weight.unflatten(0, (-1, 2, n_heads)).transpose(0, 1).flatten(0, 2)


@mistake("returns the weight as it was")
def pairs_to_halves(weight, n_heads):
    return weight.clone()


@mistake("changes its input in place")
def pairs_to_halves(weight, n_heads):
    heads = weight.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2)
    weight.copy_(heads)
    return weight


@right("a list of rows")
def pairs_to_halves(weight, n_heads):
    d_head = len(weight) // n_heads
    order = [head * d_head + i for head in range(n_heads) for i in [*range(0, d_head, 2), *range(1, d_head, 2)]]
    return weight[order]


@right("strides of each head")
def pairs_to_halves(weight, n_heads):
    heads = weight.chunk(n_heads)
    return torch.vstack([torch.vstack([head[0::2], head[1::2]]) for head in heads])


# --- 4. Grouped queries


def _interleaved(k, group):
    return k.repeat_interleave(group, dim=2)


def _scores(q, k, scale):
    return torch.einsum("bqhd,bkhd->bhqk", q, k) / scale


def _later(scores, past=True):
    n_query, n_key = scores.shape[-2:]
    return torch.ones(n_query, n_key, dtype=torch.bool).triu(1 + (n_key - n_query if past else 0))


def _pattern(scores):
    return scores.masked_fill(_later(scores), -torch.inf).softmax(-1)


def _grouped(q, k, v, widen=_interleaved, pattern=_pattern, scale=None):
    group = q.shape[2] // k.shape[2]
    k, v = widen(k, group), widen(v, group)
    weights = pattern(_scores(q, k, scale or math.sqrt(q.shape[-1])))
    return torch.einsum("bhqk,bkhd->bqhd", weights, v)


@mistake("gives query head h the key head h mod n_kv_heads: neighbouring heads share one (repeat_interleave)")
def grouped_query_attention(q, k, v):
    return _grouped(q, k, v, widen=lambda k, group: k.repeat(1, 1, group, 1))


@mistake("gives all query heads the first head of keys and values")
def grouped_query_attention(q, k, v):
    return _grouped(q, k, v, widen=lambda k, group: k[:, :, :1].expand(-1, -1, q.shape[2], -1))


@mistake("groups the keys rightly, and the values as h mod n_kv_heads")
def grouped_query_attention(q, k, v):
    group = q.shape[2] // k.shape[2]
    weights = _pattern(_scores(q, _interleaved(k, group), math.sqrt(q.shape[-1])))
    return torch.einsum("bhqk,bkhd->bqhd", weights, v.repeat(1, 1, group, 1))


@mistake("places the queries at the first positions: they are the last, and may read all keys of the past")
def grouped_query_attention(q, k, v):
    return _grouped(q, k, v, pattern=lambda s: s.masked_fill(_later(s, past=False), -torch.inf).softmax(-1))


@mistake("has no mask: queries read keys that come later")
def grouped_query_attention(q, k, v):
    return _grouped(q, k, v, pattern=lambda s: s.softmax(-1))


@mistake("hides each position's own key: a query may read it")
def grouped_query_attention(q, k, v):
    def pattern(s):
        n_query, n_key = s.shape[-2:]
        return s.masked_fill(torch.ones(n_query, n_key, dtype=torch.bool).triu(n_key - n_query), -torch.inf).softmax(-1)

    return _grouped(q, k, v, pattern=pattern)


@mistake("does not divide the scores by the root of d_head")
def grouped_query_attention(q, k, v):
    return _grouped(q, k, v, scale=1.0)


@mistake("divides the scores by d_head: its root is meant")
def grouped_query_attention(q, k, v):
    return _grouped(q, k, v, scale=float(q.shape[-1]))


@mistake("masks after the softmax: the weights that are left no longer sum to 1")
def grouped_query_attention(q, k, v):
    return _grouped(q, k, v, pattern=lambda s: s.softmax(-1).masked_fill(_later(s), 0))


@mistake("takes the softmax over the queries: each query's weights over its keys should sum to 1")
def grouped_query_attention(q, k, v):
    return _grouped(q, k, v, pattern=lambda s: s.masked_fill(_later(s), -torch.inf).softmax(-2))


@mistake("masks with a large negative number: later keys win over scores lower still; -torch.inf does not")
def grouped_query_attention(q, k, v):
    return _grouped(q, k, v, pattern=lambda s: s.masked_fill(_later(s), -1e9).softmax(-1))


@mistake("takes a score of 0 for masked")
def grouped_query_attention(q, k, v):
    def pattern(s):
        s = s.masked_fill(_later(s), 0)
        return s.masked_fill(s == 0, -torch.inf).softmax(-1)

    return _grouped(q, k, v, pattern=pattern)


@mistake("mixes keys: the pattern mixes values")
def grouped_query_attention(q, k, v):
    return _grouped(q, k, k)


@right("PyTorch's own, with groups")
def grouped_query_attention(q, k, v):
    mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1])
    z = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask, enable_gqa=True
    )
    return z.transpose(1, 2)


@right("an axis of groups, and nothing copied")
def grouped_query_attention(q, k, v):
    q = q.unflatten(2, (k.shape[2], -1))
    scores = torch.einsum("bqgnd,bkgd->bgnqk", q, k) * q.shape[-1] ** -0.5
    positions = torch.arange(k.shape[1])
    hidden = positions > positions[-q.shape[1] :, None]
    scores = torch.where(hidden, torch.tensor(-torch.inf, dtype=scores.dtype), scores)
    return torch.einsum("bgnqk,bkgd->bqgnd", scores.softmax(-1), v).flatten(2, 3)


@right("a loop over heads")
def grouped_query_attention(q, k, v):
    heads = []
    for head in range(q.shape[2]):
        shared = head * k.shape[2] // q.shape[2]
        scores = q[:, :, head] @ k[:, :, shared].mT / q.shape[-1] ** 0.5
        hidden = ~torch.ones_like(scores, dtype=torch.bool).tril(k.shape[1] - q.shape[1])
        heads.append(scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v[:, :, shared])
    return torch.stack(heads, dim=2)


# --- 5. A cache


class _LayerCache:
    def __init__(self):
        self.pieces = []

    def __len__(self):
        return sum(k.shape[1] for k, _ in self.pieces)

    def extend(self, k, v):
        self.pieces.append((k, v))
        return self.all()

    def all(self):
        return tuple(torch.cat(parts, dim=1) for parts in zip(*self.pieces, strict=True))


@mistake("returns only the new keys and values: all of them are meant")
class LayerCache(_LayerCache):
    def extend(self, k, v):
        super().extend(k, v)
        return k, v


@mistake("puts the new in front of the old: positions go on behind")
class LayerCache(_LayerCache):
    def extend(self, k, v):
        self.pieces.insert(0, (k, v))
        return self.all()


@mistake("keeps only the latest piece: the earlier ones are lost")
class LayerCache(_LayerCache):
    def extend(self, k, v):
        self.pieces = [*self.pieces[-1:], (k, v)]
        return self.all()


@mistake("returns what it held before, without the new")
class LayerCache(_LayerCache):
    def extend(self, k, v):
        before = self.all() if self.pieces else (k[:, :0], v[:, :0])
        super().extend(k, v)
        return before


@mistake("joins along axis 2: axis 1 holds the positions")
class LayerCache(_LayerCache):
    def all(self):
        return tuple(torch.cat(parts, dim=2) for parts in zip(*self.pieces, strict=True))


@mistake("len counts the pieces: positions are meant")
class LayerCache(_LayerCache):
    def __len__(self):
        return len(self.pieces)


@mistake("the keys after 2 piece(s) are not all keys in order")
class LayerCache(_LayerCache):
    def extend(self, k, v):
        k, v = super().extend(k, v)
        self.pieces = [(k[:, -1024:], v[:, -1024:])]
        return self.all()


@mistake("shares what it keeps with other caches")
class LayerCache(_LayerCache):
    shared: ClassVar[list] = []

    def __init__(self):
        self.pieces = self.shared


@mistake("returns the values first: keys, then values")
class LayerCache(_LayerCache):
    def extend(self, k, v):
        return super().extend(k, v)[::-1]


@right("a list of pieces, joined when asked for")
class LayerCache(_LayerCache):
    pass


@right("a buffer that grows by doubling")
class LayerCache:
    def __init__(self):
        self.n, self.buffer = 0, None

    def __len__(self):
        return self.n

    def extend(self, k, v):
        new = torch.stack([k, v])
        if self.buffer is None:
            self.buffer = torch.empty_like(new)
        while self.n + new.shape[2] > self.buffer.shape[2]:
            self.buffer = torch.cat([self.buffer, torch.empty_like(self.buffer)], dim=2)
        self.buffer[:, :, self.n : self.n + new.shape[2]] = new
        self.n += new.shape[2]
        return tuple(self.buffer[:, :, : self.n])


# --- 6. Attention


class _LlamaAttention(nn.Module):
    """Right, with the steps in which the wrong ones differ as methods."""

    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.W_Q = _normal(cfg.n_heads, cfg.d_model, cfg.d_head)
        self.W_K = _normal(cfg.n_kv_heads, cfg.d_model, cfg.d_head)
        self.W_V = _normal(cfg.n_kv_heads, cfg.d_model, cfg.d_head)
        self.W_O = _normal(cfg.n_heads, cfg.d_head, cfg.d_model)

    def project(self, x, weight):
        return torch.einsum("bpm,hmd->bphd", x, weight)

    def start(self, cache):
        return 0 if cache is None else len(cache)

    def rope(self, x, start):
        return _turn(x, _angles(x, torch.arange(start, start + x.shape[1]), self.cfg.theta))

    def turn(self, q, k, v, start):
        return self.rope(q, start), self.rope(k, start), v

    def extend(self, cache, k, v):
        return (k, v) if cache is None else cache.extend(k, v)

    def z(self, x, cache):
        q, k, v = (self.project(x, weight) for weight in (self.W_Q, self.W_K, self.W_V))
        q, k, v = self.turn(q, k, v, self.start(cache))
        return _grouped(q, *self.extend(cache, k, v))

    def forward(self, x, cache=None):
        return torch.einsum("bphd,hdm->bpm", self.z(x, cache), self.W_O)


@mistake("does not turn queries and keys: positions are missing")
class LlamaAttention(_LlamaAttention):
    def turn(self, q, k, v, start):
        return q, k, v


@mistake("turns the keys only: queries are turned, too")
class LlamaAttention(_LlamaAttention):
    def turn(self, q, k, v, start):
        return q, self.rope(k, start), v


@mistake("turns the queries only: keys are turned, too")
class LlamaAttention(_LlamaAttention):
    def turn(self, q, k, v, start):
        return self.rope(q, start), k, v


@mistake("turns the values, too: only queries and keys have positions")
class LlamaAttention(_LlamaAttention):
    def turn(self, q, k, v, start):
        return self.rope(q, start), self.rope(k, start), self.rope(v, start)


@mistake("averages the heads: their outputs are added up")
class LlamaAttention(_LlamaAttention):
    def forward(self, x, cache=None):
        return super().forward(x, cache) / self.cfg.n_heads


@mistake("makes the values with W_K: W_V belongs there")
class LlamaAttention(_LlamaAttention):
    def turn(self, q, k, v, start):
        return super().turn(q, k, k, start)


@mistake("lets positions start at 0 with a cache, too: they go on behind those that it holds")
class LlamaAttention(_LlamaAttention):
    def start(self, cache):
        return 0


@mistake("asks for the length of the cache after it was extended: the new positions are counted twice")
class LlamaAttention(_LlamaAttention):
    def z(self, x, cache):
        q, k, v = (self.project(x, weight) for weight in (self.W_Q, self.W_K, self.W_V))
        start = self.start(cache)
        after = start if cache is None else start + x.shape[1]
        q, k = self.rope(q, after), self.rope(k, start)
        return _grouped(q, *self.extend(cache, k, v))


@mistake("reads new keys and values alone: is an empty cache taken for none? (`if cache:` does; use `is not None`)")
class LlamaAttention(_LlamaAttention):
    def forward(self, x, cache=None):
        return super().forward(x, cache if cache else None)


@mistake("caches keys before they are turned: they go in turned")
class LlamaAttention(_LlamaAttention):
    def z(self, x, cache):
        q, k, v = (self.project(x, weight) for weight in (self.W_Q, self.W_K, self.W_V))
        q, new = self.rope(q, self.start(cache)), self.rope(k, self.start(cache))
        k, v = self.extend(cache, k, v)
        return _grouped(q, torch.cat([k[:, : k.shape[1] - x.shape[1]], new], dim=1), v)


@mistake("W_K has shape [6, 7, 4], the text asks for [2, 7, 4]")
class LlamaAttention(_LlamaAttention):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.W_K = self.W_V = None
        self.W_K, self.W_V = (_normal(cfg.n_heads, cfg.d_model, cfg.d_head) for _ in "KV")


@right("all heads in one product")
class LlamaAttention(_LlamaAttention):
    def project(self, x, weight):
        flat = weight.transpose(0, 1).flatten(1)
        return (x @ flat).unflatten(-1, weight.shape[::2])

    def forward(self, x, cache=None):
        return self.z(x, cache).flatten(2) @ self.W_O.flatten(0, 1)


@right("keys kept as they are, and all turned at each step")
class LlamaAttention(_LlamaAttention):
    def z(self, x, cache):
        q, k, v = (self.project(x, weight) for weight in (self.W_Q, self.W_K, self.W_V))
        q = self.rope(q, self.start(cache))
        k, v = self.extend(cache, k, v)
        return _grouped(q, self.rope(k, 0), v)


# --- 7. SwiGLU


class _SwiGLU(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.W_gate, self.W_up = _normal(cfg.d_model, cfg.d_mlp), _normal(cfg.d_model, cfg.d_mlp)
        self.W_down = _normal(cfg.d_mlp, cfg.d_model)

    def neurons(self, gate, up):
        return F.silu(gate) * up

    def forward(self, x):
        return self.neurons(x @ self.W_gate, x @ self.W_up) @ self.W_down


@mistake("applies SiLU to up: it belongs to the gate")
class SwiGLU(_SwiGLU):
    def neurons(self, gate, up):
        return gate * F.silu(up)


@mistake("uses GELU (GEGLU): Llama's gate has SiLU")
class SwiGLU(_SwiGLU):
    def neurons(self, gate, up):
        return F.gelu(gate) * up


@mistake("uses the sigmoid alone (GLU): SiLU is a times the sigmoid of a")
class SwiGLU(_SwiGLU):
    def neurons(self, gate, up):
        return gate.sigmoid() * up


@mistake("has no activation: the gate goes through SiLU")
class SwiGLU(_SwiGLU):
    def neurons(self, gate, up):
        return gate * up


@mistake("applies SiLU to the product: it belongs to the gate alone")
class SwiGLU(_SwiGLU):
    def neurons(self, gate, up):
        return F.silu(gate * up)


@mistake("adds gate and up: they are multiplied")
class SwiGLU(_SwiGLU):
    def neurons(self, gate, up):
        return F.silu(gate) + up


@mistake("leaves W_up out: the gate multiplies it")
class SwiGLU(_SwiGLU):
    def forward(self, x):
        return F.silu(x @ self.W_gate) @ self.W_down


@mistake("is a part of the computation detached?")
class SwiGLU(_SwiGLU):
    def neurons(self, gate, up):
        return gate * gate.sigmoid().detach() * up


@right("the sigmoid written out")
class SwiGLU(_SwiGLU):
    def neurons(self, gate, up):
        return up * gate / (1 + torch.exp(-gate))


@right("gate and up in one product")
class SwiGLU(_SwiGLU):
    def forward(self, x):
        gate, up = (x @ torch.cat([self.W_gate, self.W_up], dim=1)).chunk(2, dim=-1)
        return F.linear(nn.SiLU()(gate) * up, self.W_down.T)


# --- 8. Block and whole


class _LlamaBlock(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.ln1, self.attn, self.ln2, self.mlp = _RMSNorm(cfg), _LlamaAttention(cfg), _RMSNorm(cfg), _SwiGLU(cfg)

    def forward(self, x, cache=None):
        mid = x + self.attn(self.ln1(x), cache)
        return mid + self.mlp(self.ln2(mid))


@mistake("normalises after adding (post-norm): Llama normalises only what a part reads")
class LlamaBlock(_LlamaBlock):
    def forward(self, x, cache=None):
        mid = self.ln1(x + self.attn(x, cache))
        return self.ln2(mid + self.mlp(mid))


@mistake("lets the MLP read the stream as it was before attention: it reads what attention has added, too")
class LlamaBlock(_LlamaBlock):
    def forward(self, x, cache=None):
        return x + self.attn(self.ln1(x), cache) + self.mlp(self.ln2(x))


@mistake("does not add to the stream: each part's output replaces it")
class LlamaBlock(_LlamaBlock):
    def forward(self, x, cache=None):
        return self.mlp(self.ln2(self.attn(self.ln1(x), cache)))


@mistake("adds attention's output, but then replaces the stream by the MLP's: add that, too")
class LlamaBlock(_LlamaBlock):
    def forward(self, x, cache=None):
        return self.mlp(self.ln2(x + self.attn(self.ln1(x), cache)))


@mistake("uses ln1 twice: the MLP reads through ln2")
class LlamaBlock(_LlamaBlock):
    def forward(self, x, cache=None):
        mid = x + self.attn(self.ln1(x), cache)
        return mid + self.mlp(self.ln1(mid))


@mistake("does not hand the cache on to attention")
class LlamaBlock(_LlamaBlock):
    def forward(self, x, cache=None):
        return super().forward(x)


@mistake("changes its input in place, as `+=` and methods ending in `_` do: write `x = x + ...` or copy it")
class LlamaBlock(_LlamaBlock):
    def forward(self, x, cache=None):
        x += self.attn(self.ln1(x), cache)
        return x + self.mlp(self.ln2(x))


@right("the cache by name")
class LlamaBlock(_LlamaBlock):
    def forward(self, resid, cache=None):
        resid = resid + self.attn(self.ln1(resid), cache=cache)
        return self.mlp(self.ln2(resid)).add(resid)


class _Llama(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.W_E = _normal(cfg.d_vocab, cfg.d_model)
        self.blocks = nn.ModuleList(_LlamaBlock(cfg) for _ in range(cfg.n_layers))
        self.ln_final = _RMSNorm(cfg)

    def embed(self, tokens):
        return self.W_E[tokens]

    def stream(self, tokens, caches):
        x = self.embed(tokens)
        for block, cache in zip(self.blocks, caches or [None] * len(self.blocks), strict=True):
            x = block(x, cache)
        return x

    def forward(self, tokens, caches=None):
        return self.ln_final(self.stream(tokens, caches)) @ self.W_E.T


@mistake("leaves ln_final out: the last block's stream is normalised before the logits")
class Llama(_Llama):
    def forward(self, tokens, caches=None):
        return self.stream(tokens, caches) @ self.W_E.T


@mistake("multiplies the rows of W_E by the root of d_model, as Gemma does: Llama does not")
class Llama(_Llama):
    def embed(self, tokens):
        return self.W_E[tokens] * self.W_E.shape[1] ** 0.5


@mistake("gives probabilities: logits are what comes before the softmax")
class Llama(_Llama):
    def forward(self, tokens, caches=None):
        return super().forward(tokens, caches).softmax(-1)


@mistake("gives logits for the last position only: every position predicts its next token")
class Llama(_Llama):
    def forward(self, tokens, caches=None):
        return super().forward(tokens, caches)[:, -1:]


@mistake("leaves the last block out")
class Llama(_Llama):
    def stream(self, tokens, caches):
        x = self.embed(tokens)
        for layer, block in enumerate(self.blocks[:-1]):
            x = block(x, caches[layer] if caches else None)
        return x


@mistake("goes through the blocks backwards")
class Llama(_Llama):
    def stream(self, tokens, caches):
        x = self.embed(tokens)
        for layer, block in reversed(list(enumerate(self.blocks))):
            x = block(x, caches[layer] if caches else None)
        return x


@mistake("hands every layer the first layer's cache: each has its own")
class Llama(_Llama):
    def stream(self, tokens, caches):
        return super().stream(tokens, caches and [caches[0]] * len(self.blocks))


@mistake("does not hand the caches on to the blocks")
class Llama(_Llama):
    def stream(self, tokens, caches):
        return super().stream(tokens, None)


@mistake("has parameters that the text does not name: W_U")
class Llama(_Llama):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.W_U = _normal(cfg.d_model, cfg.d_vocab)


@mistake("uses one and the same part more than once: make a new one for each place")
class Llama(_Llama):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.blocks = nn.ModuleList([_LlamaBlock(cfg)] * cfg.n_layers)


@mistake("blocks is a plain list, which hides its blocks from PyTorch: use nn.ModuleList")
class Llama(_Llama):
    def __init__(self, cfg):
        super().__init__(cfg)
        del self.blocks
        self.blocks = [_LlamaBlock(cfg) for _ in range(cfg.n_layers)]


@right("blocks by number")
class Llama(_Llama):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.blocks = nn.ModuleDict({str(layer): _LlamaBlock(cfg) for layer in range(cfg.n_layers)})

    def forward(self, tokens, caches=None):
        x = self.W_E[tokens]
        for layer, block in enumerate(self.blocks.values()):
            x = block(x, None if caches is None else caches[layer])
        return self.ln_final(x) @ self.W_E.T


@right("linear and embedding of PyTorch")
class Llama(_Llama):
    def embed(self, tokens):
        return F.embedding(tokens, self.W_E)

    def forward(self, tokens, caches=None):
        return F.linear(self.ln_final(self.stream(tokens, caches)), self.W_E)


class _MyLlama(_Llama):
    pass


right("a class under another name", exercise="Llama")(_MyLlama)


# --- 9. Real weights


def _rows(weight, n_heads):
    """W_Q, W_K or W_V of a projection: right."""
    return weight.unflatten(0, (n_heads, -1)).mT


def _columns(weight, n_heads):
    """W_O: right."""
    return weight.unflatten(1, (n_heads, -1)).permute(1, 2, 0)


def _spread(weight, n_heads):
    """As "(d_head head)" cuts it: head 0 gets every n-th row."""
    return weight.unflatten(0, (-1, n_heads)).permute(1, 2, 0)


def _converted(theirs, cfg, rows=_rows, columns=_columns, mlp=lambda w: w.T):
    ours = {"W_E": theirs["model.embed_tokens.weight"], "ln_final.w": theirs["model.norm.weight"]}
    heads = {"Q": cfg.n_heads, "K": cfg.n_kv_heads, "V": cfg.n_kv_heads}
    for layer in range(cfg.n_layers):
        mine, its = f"blocks.{layer}", f"model.layers.{layer}"
        ours[f"{mine}.ln1.w"] = theirs[f"{its}.input_layernorm.weight"]
        ours[f"{mine}.ln2.w"] = theirs[f"{its}.post_attention_layernorm.weight"]
        for name, n in heads.items():
            ours[f"{mine}.attn.W_{name}"] = rows(theirs[f"{its}.self_attn.{name.lower()}_proj.weight"], n)
        ours[f"{mine}.attn.W_O"] = columns(theirs[f"{its}.self_attn.o_proj.weight"], cfg.n_heads)
        for name in ("gate", "up", "down"):
            ours[f"{mine}.mlp.W_{name}"] = mlp(theirs[f"{its}.mlp.{name}_proj.weight"])
    return ours


def _renamed(theirs, swap):
    """The dict with parts of its names exchanged."""
    return {".".join(swap.get(part, part) for part in name.split(".")): w for name, w in theirs.items()}


@mistake("does not transpose o_proj: nn.Linear stores [out in], and where it is square nothing complains")
def load_smollm2(theirs, cfg):
    return _converted(theirs, cfg, columns=lambda w, n: w.reshape(n, cfg.d_head, cfg.d_model))


@mistake("does not transpose q_proj, k_proj and v_proj: nn.Linear stores [out in]")
def load_smollm2(theirs, cfg):
    return _converted(theirs, cfg, rows=lambda w, n: w.unflatten(0, (n, -1)))


@mistake("transposes q_proj, k_proj and v_proj by a bare reshape: that goes along the rows")
def load_smollm2(theirs, cfg):
    return _converted(theirs, cfg, rows=lambda w, n: w.reshape(n, cfg.d_model, cfg.d_head))


@mistake("does not transpose the MLP's weights: nn.Linear stores [out in]")
def load_smollm2(theirs, cfg):
    return _converted(theirs, cfg, mlp=lambda w: w)


@mistake("mixes the heads of W_Q, W_K and W_V: head 0 holds the first d_head rows, not every n-th")
def load_smollm2(theirs, cfg):
    return _converted(theirs, cfg, rows=_spread)


@mistake("reorders the rows from pairs to halves: Hugging Face's lie in halves already")
def load_smollm2(theirs, cfg):
    def mended(name, w):
        n = {"q_proj": cfg.n_heads, "k_proj": cfg.n_kv_heads}.get(name.split(".")[-2])
        return w if n is None else w.unflatten(0, (n, -1, 2)).transpose(1, 2).flatten(0, 2)

    return _converted({name: mended(name, w) for name, w in theirs.items()}, cfg)


@mistake("takes gate_proj for up_proj, and the other way round")
def load_smollm2(theirs, cfg):
    return _converted(_renamed(theirs, {"gate_proj": "up_proj", "up_proj": "gate_proj"}), cfg)


@mistake("takes keys for values, and the other way round")
def load_smollm2(theirs, cfg):
    return _converted(_renamed(theirs, {"k_proj": "v_proj", "v_proj": "k_proj"}), cfg)


@mistake("takes the MLP's norm (post_attention_layernorm) for attention's (input_layernorm), and the other way round")
def load_smollm2(theirs, cfg):
    names = "input_layernorm", "post_attention_layernorm"
    return _converted(_renamed(theirs, dict(zip(names, names[::-1], strict=True))), cfg)


@mistake("gives every layer the weights of layer 0")
def load_smollm2(theirs, cfg):
    def first(name):
        parts = name.split(".")
        return ".".join([*parts[:2], "0", *parts[3:]]) if name.startswith("model.layers.") else name

    return _converted({name: theirs[first(name)] for name in theirs}, cfg)


@mistake("Llama has no parameter of these names: W_U")
def load_smollm2(theirs, cfg):
    return _converted(theirs, cfg) | {"W_U": theirs["lm_head.weight"].T}


@mistake("takes entries out of the state dict that it was given: it should stay as it is")
def load_smollm2(theirs, cfg):
    ours = _converted(theirs, cfg)
    theirs.pop("lm_head.weight")
    return ours


@right("copies, in an OrderedDict")
def load_smollm2(theirs, cfg):
    return OrderedDict((name, weight.clone()) for name, weight in _converted(theirs, cfg).items())


@right("goes through their names")
def load_smollm2(theirs, cfg):
    names = {
        "embed_tokens": "W_E",
        "norm": "ln_final.w",
        "input_layernorm": "ln1.w",
        "post_attention_layernorm": "ln2.w",
    }
    names |= {f"{letter.lower()}_proj": f"attn.W_{letter}" for letter in "QKVO"}
    names |= {f"{part}_proj": f"mlp.W_{part}" for part in ("gate", "up", "down")}
    ours = {}
    for name, w in theirs.items():
        *path, part, _ = name.split(".")
        if part == "lm_head":
            continue
        if part[0] in "qkv" and part.endswith("_proj"):
            w = torch.stack([head.T for head in w.split(cfg.d_head)])
        elif part == "o_proj":
            w = torch.stack([head.T for head in w.split(cfg.d_head, dim=1)])
        elif part.endswith("_proj"):
            w = w.T
        ours[(f"blocks.{path[2]}." if "layers" in path else "") + names[part]] = w
    return ours


@mistake("two operations for each weight that is read: a CPU multiplies far faster than memory delivers")
def answer_limit():
    return "b"


@mistake("at a hundred positions the cache is a few megabytes, and the weights are half a gigabyte")
def answer_limit():
    return "c"
