"""Wrong answers to 2.3 GPT-2, and what each of them is. The underscored classes are right; the wrong ones vary them."""

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from concrete_steps.checking.mistakes import mistake, right


def _normal(*shape):
    return nn.Parameter(torch.randn(*shape))


# --- 1. LayerNorm


class _LayerNorm(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.ones(cfg.d_model)), nn.Parameter(torch.zeros(cfg.d_model))
        self.eps = cfg.eps

    def forward(self, x):
        return F.layer_norm(x, self.w.shape, self.w, self.b, self.eps)


@mistake("divides the sum of squares by n - 1 (as .var() and .std() do by default): the mean of squares is meant")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + self.eps).sqrt() * self.w + self.b


@mistake("adds eps outside the root: it belongs to the variance, under the root")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        spread = x.var(-1, keepdim=True, unbiased=False).sqrt()
        return (x - x.mean(-1, keepdim=True)) / (spread + self.eps) * self.w + self.b


@mistake("subtract the mean before you square")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        mean = x.mean(-1, keepdim=True)
        variance = x.square().mean(-1, keepdim=True) - mean.square()
        return (x - mean) / (variance + self.eps).sqrt() * self.w + self.b


@mistake("does both: n - 1 in the variance, and eps outside the root")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + self.eps) * self.w + self.b


@mistake("does not subtract the mean before it divides")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        return x / (x.var(-1, keepdim=True, unbiased=False) + self.eps).sqrt() * self.w + self.b


@mistake("divides by the variance: its root is missing")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        variance = x.var(-1, keepdim=True, unbiased=False)
        return (x - x.mean(-1, keepdim=True)) / (variance + self.eps) * self.w + self.b


@mistake("keep the axis in the mean, and in the variance of what is left: keepdim=True")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        centred = x - x.mean(-1)
        return centred / (centred.square().mean(-1) + self.eps).sqrt() * self.w + self.b


@mistake("keep the axis in the mean and in the variance: keepdim=True")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        return (x - x.mean(-1)) / (x.var(-1, unbiased=False) + self.eps).sqrt() * self.w + self.b


@mistake("keep the axis in the mean: keepdim=True")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        centred = x - x.mean(-1)
        return centred / (centred.square().mean(-1, keepdim=True) + self.eps).sqrt() * self.w + self.b


@mistake("keep the axis in the variance: keepdim=True")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False) + self.eps).sqrt() * self.w + self.b


@mistake("takes one mean of all positions together: each position has its own")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        centred = x - x.mean()
        return centred / (centred.square().mean(-1, keepdim=True) + self.eps).sqrt() * self.w + self.b


@mistake("takes one mean and one variance of all positions together: each position has its own")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        return (x - x.mean()) / (x.var(unbiased=False) + self.eps).sqrt() * self.w + self.b


@mistake("w does not start at 1")
class LayerNorm(_LayerNorm):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.w = _normal(cfg.d_model)


@mistake("changes its input in place, as `+=` and methods ending in `_` do")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        x -= x.mean(-1, keepdim=True)
        return super().forward(x)


@mistake("mixes positions: mean and variance belong to the last axis alone, each position by itself")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        variance = x.var(1, keepdim=True, unbiased=False)
        return (x - x.mean(1, keepdim=True)) / (variance + self.eps).sqrt() * self.w + self.b


@mistake("leaves eps out, or uses another than cfg.eps")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        return F.layer_norm(x, self.w.shape, self.w, self.b, 1e-5)


@mistake("normalises, but forgets to multiply by w and add b")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        return F.layer_norm(x, self.w.shape, eps=self.eps)


@mistake("adds b before it multiplies by w: first times w, then plus b")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        return (F.layer_norm(x, self.w.shape, eps=self.eps) + self.b) * self.w


@mistake("it is a plain tensor, not a parameter: wrap it in nn.Parameter")
class LayerNorm(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.w, self.b, self.eps = torch.ones(cfg.d_model), torch.zeros(cfg.d_model), cfg.eps

    def forward(self, x):
        return F.layer_norm(x, self.w.shape, self.w, self.b, self.eps)


@mistake("the 5 is the same for every entry, so the mean takes it along, and centring removes it")
def answer_forgets():
    return "a"


@mistake("the deviation of 3 * x is three times that of x, so dividing by it removes the 3")
def answer_forgets():
    return "b"


@mistake("is a part of the computation detached?")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        centred = x - x.mean(-1, keepdim=True)
        spread = (centred.square().mean(-1, keepdim=True) + self.eps).sqrt().detach()
        return centred / spread * self.w + self.b


@mistake("is something on the way not float64?")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        return F.layer_norm(x.float(), self.w.shape, self.w.float(), self.b.float(), self.eps).to(x.dtype)


@mistake("a hook stays behind: remove it")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        self.register_forward_hook(lambda module, args, out: None)
        return super().forward(x)


@right("rsqrt of torch's variance without correction")
class LayerNorm(_LayerNorm):
    def forward(self, x):
        centred = x - x.mean(dim=-1, keepdim=True)
        return centred * torch.rsqrt(x.var(dim=-1, keepdim=True, correction=0) + self.eps) * self.w + self.b


class _MyNorm(_LayerNorm):
    pass


right("a class under another name", exercise="LayerNorm")(_MyNorm)


# --- 2. Embed


class _Embed(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.W_E = _normal(cfg.d_vocab, cfg.d_model)

    def forward(self, tokens):
        return self.W_E[tokens]


@mistake("takes the rows 0, 1, 2, ... of W_E, whatever the tokens are: index it by the tokens")
class Embed(_Embed):
    def forward(self, tokens):
        return self.W_E[torch.arange(tokens.shape[1]) % len(self.W_E)].expand(len(tokens), -1, -1)


@mistake("multiplies the rows by the root of d_model: the transformer of 2017 did, GPT-2 does not")
class Embed(_Embed):
    def forward(self, tokens):
        return self.W_E[tokens] * self.W_E.shape[1] ** 0.5


@mistake("counts tokens from 1: token 0 has row 0")
class Embed(_Embed):
    def forward(self, tokens):
        return self.W_E[tokens - 1]


class _PosEmbed(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.W_pos = _normal(cfg.n_ctx, cfg.d_model)

    def forward(self, tokens):
        return self.W_pos[: tokens.shape[1]].expand(len(tokens), -1, -1)


@mistake("gives [pos d_model], without the batch: each text of the batch gets the same rows")
class PosEmbed(_PosEmbed):
    def forward(self, tokens):
        return self.W_pos[: tokens.shape[1]]


@mistake("looks positions up by the token's number: the first position has row 0, the next row 1, and so on")
class PosEmbed(_PosEmbed):
    def forward(self, tokens):
        return self.W_pos[tokens]


@mistake("counts positions from 1: the first position has row 0")
class PosEmbed(_PosEmbed):
    def forward(self, tokens):
        return self.W_pos[torch.arange(1, tokens.shape[1] + 1) % len(self.W_pos)].expand(len(tokens), -1, -1)


@mistake("gives all n_ctx rows, however short the text is: only its positions are in use")
class PosEmbed(_PosEmbed):
    def forward(self, tokens):
        return self.W_pos.expand(len(tokens), -1, -1)


@mistake("takes the size of the batch for the number of positions: tokens are [batch pos]")
class PosEmbed(_PosEmbed):
    def forward(self, tokens):
        return self.W_pos[: len(tokens)].expand(len(tokens), -1, -1)


@right("torch's embedding")
class Embed(_Embed):
    def forward(self, tokens):
        return F.embedding(tokens, self.W_E)


@right("indexed by positions")
class PosEmbed(_PosEmbed):
    def forward(self, tokens):
        return self.W_pos[torch.arange(tokens.shape[1]).expand_as(tokens)]


# --- 3. Attention


class _Attention(nn.Module):
    """Right, with the steps in which the wrong ones differ as methods."""

    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        for name in "QKV":
            setattr(self, f"W_{name}", _normal(cfg.n_heads, cfg.d_model, cfg.d_head))
            setattr(self, f"b_{name}", _normal(cfg.n_heads, cfg.d_head))
        self.W_O, self.b_O = _normal(cfg.n_heads, cfg.d_head, cfg.d_model), _normal(cfg.d_model)

    def project(self, x, name):
        return torch.einsum("bpm,hmd->bhpd", x, getattr(self, f"W_{name}")) + getattr(self, f"b_{name}")[:, None]

    def scores(self, x):
        return self.project(x, "Q") @ self.project(x, "K").mT / math.sqrt(self.cfg.d_head)

    def later(self, scores):
        return torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)

    def pattern(self, x):
        scores = self.scores(x)
        return scores.masked_fill(self.later(scores), -torch.inf).softmax(-1)

    def z(self, x):
        return self.pattern(x) @ self.project(x, "V")

    def forward(self, x):
        return torch.einsum("bhpd,hdm->bpm", self.z(x), self.W_O) + self.b_O


@mistake("does not divide the scores by the root of d_head")
class Attention(_Attention):
    def scores(self, x):
        return self.project(x, "Q") @ self.project(x, "K").mT


@mistake("divides the scores by d_head: its root is meant")
class Attention(_Attention):
    def scores(self, x):
        return super().scores(x) / math.sqrt(self.cfg.d_head)


@mistake("divides the scores by the root of d_model: each head's vectors have d_head entries")
class Attention(_Attention):
    def scores(self, x):
        return super().scores(x) * math.sqrt(self.cfg.d_head / self.cfg.d_model)


@mistake("has no mask: queries read keys that come later")
class Attention(_Attention):
    def later(self, scores):
        return torch.zeros(scores.shape[-2:], dtype=torch.bool)


@mistake("masks the wrong way round: it hides the past, and shows what comes later")
class Attention(_Attention):
    def later(self, scores):
        return torch.ones(scores.shape[-2:], dtype=torch.bool).tril(-1)


@mistake("hides each position from itself too: a query may read its own key")
class Attention(_Attention):
    def later(self, scores):
        return torch.ones(scores.shape[-2:], dtype=torch.bool).triu(0)


@mistake("sets masked scores to 0: softmax still gives them weight; minus infinity gets none")
class Attention(_Attention):
    def pattern(self, x):
        scores = self.scores(x)
        return scores.masked_fill(self.later(scores), 0).softmax(-1)


@mistake("masks after the softmax: the weights that are left no longer sum to 1")
class Attention(_Attention):
    def pattern(self, x):
        scores = self.scores(x)
        return scores.softmax(-1).masked_fill(self.later(scores), 0)


@mistake("takes the softmax over the queries: each query's weights over its keys should sum to 1")
class Attention(_Attention):
    def pattern(self, x):
        scores = self.scores(x)
        return scores.masked_fill(self.later(scores), -torch.inf).softmax(-2)


@mistake("gives the pattern as [head key query]: queries are the rows")
class Attention(_Attention):
    def pattern(self, x):
        return super().pattern(x).mT


@mistake("computes the scores as [head key query], then masks and normalises: queries are the rows, keys the columns")
class Attention(_Attention):
    def scores(self, x):
        return super().scores(x).mT


@mistake("`pattern` is right; `forward` uses it transposed: each query mixes the values of its keys")
class Attention(_Attention):
    def z(self, x):
        return self.pattern(x).mT @ self.project(x, "V")


@mistake("adds b_K to the values: b_V belongs there")
class Attention(_Attention):
    def z(self, x):
        values = torch.einsum("bpm,hmd->bhpd", x, self.W_V) + self.b_K[:, None]
        return self.pattern(x) @ values


@mistake("makes the values with W_K: W_V belongs there")
class Attention(_Attention):
    def z(self, x):
        values = torch.einsum("bpm,hmd->bhpd", x, self.W_K) + self.b_V[:, None]
        return self.pattern(x) @ values


@mistake("forgets the bias b_Q")
class Attention(_Attention):
    def scores(self, x):
        q = torch.einsum("bpm,hmd->bhpd", x, self.W_Q)
        return q @ self.project(x, "K").mT / math.sqrt(self.cfg.d_head)


@mistake("forgets the bias b_V")
class Attention(_Attention):
    def z(self, x):
        return self.pattern(x) @ torch.einsum("bpm,hmd->bhpd", x, self.W_V)


@mistake("forgets the bias b_O")
class Attention(_Attention):
    def forward(self, x):
        return super().forward(x) - self.b_O


@mistake("adds b_O once for each head: it is added once")
class Attention(_Attention):
    def forward(self, x):
        return super().forward(x) + (self.cfg.n_heads - 1) * self.b_O


@mistake("averages the heads: their outputs are added up")
class Attention(_Attention):
    def forward(self, x):
        return (super().forward(x) - self.b_O) / self.cfg.n_heads + self.b_O


@mistake("multiplies by the values without the pattern: nothing moves between positions")
class Attention(_Attention):
    def z(self, x):
        return self.project(x, "V")


@mistake("hands over keys: the pattern mixes values")
class Attention(_Attention):
    def z(self, x):
        return self.pattern(x) @ self.project(x, "K")


@mistake("a large negative number in place of -torch.inf")
class Attention(_Attention):
    def pattern(self, x):
        scores = self.scores(x)
        return scores.masked_fill(self.later(scores), -1e9).softmax(-1)


@mistake("is 0 taken for masked?")
class Attention(_Attention):
    def pattern(self, x):
        scores = self.scores(x).tril()
        return scores.masked_fill(scores == 0, -torch.inf).softmax(-1)


@mistake("is a part of the computation detached?")
class Attention(_Attention):
    def pattern(self, x):
        scores = self.project(x, "Q") @ self.project(x.detach(), "K").mT / math.sqrt(self.cfg.d_head)
        return scores.masked_fill(self.later(scores), -torch.inf).softmax(-1)


@right("PyTorch's own attention in forward")
class Attention(_Attention):
    def z(self, x):
        q, k, v = (self.project(x, name) for name in "QKV")
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@right("heads side by side, then one matrix")
class Attention(_Attention):
    def forward(self, x):
        return self.z(x).transpose(1, 2).flatten(2) @ self.W_O.flatten(0, 1) + self.b_O


@right("a mask kept as a buffer that is not saved")
class Attention(_Attention):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.register_buffer("mask", torch.ones(cfg.n_ctx, cfg.n_ctx, dtype=torch.bool).triu(1), persistent=False)

    def later(self, scores):
        return self.mask[: scores.shape[-2], : scores.shape[-1]]


# --- 4. MLP


class _MLP(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.W_in, self.b_in = _normal(cfg.d_model, cfg.d_mlp), _normal(cfg.d_mlp)
        self.W_out, self.b_out = _normal(cfg.d_mlp, cfg.d_model), _normal(cfg.d_model)

    def act(self, x):
        return F.gelu(x, approximate="tanh")

    def forward(self, x):
        return self.act(x @ self.W_in + self.b_in) @ self.W_out + self.b_out


@mistake("uses the exact GELU (the default of nn.GELU): GPT-2 has the tanh approximation")
class MLP(_MLP):
    def act(self, x):
        return F.gelu(x)


@mistake("uses ReLU: GPT-2 has GELU")
class MLP(_MLP):
    def act(self, x):
        return x.relu()


@mistake("has no activation, so the two matrices are one")
class MLP(_MLP):
    def act(self, x):
        return x


@mistake("approximates GELU by x * sigmoid(1.702 x): GPT-2 has the tanh approximation")
class MLP(_MLP):
    def act(self, x):
        return x * (1.702 * x).sigmoid()


@mistake("forgets the bias b_in")
class MLP(_MLP):
    def forward(self, x):
        return self.act(x @ self.W_in) @ self.W_out + self.b_out


@mistake("forgets the bias b_out")
class MLP(_MLP):
    def forward(self, x):
        return self.act(x @ self.W_in + self.b_in) @ self.W_out


@mistake("applies the activation to the output too: only the neurons in the middle get it")
class MLP(_MLP):
    def forward(self, x):
        return self.act(super().forward(x))


@mistake("gives another output each time, even after .eval(): dropout is on; leave it out, or use nn.Dropout")
class MLP(_MLP):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.5)


@mistake("is a part of the computation detached?")
class MLP(_MLP):
    def act(self, x):
        return x * (F.gelu(x, approximate="tanh") / x).detach()


@right("GELU written out, with the root as a number")
class MLP(_MLP):
    def act(self, x):
        return 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * torch.pow(x, 3))))


@right("torch's linear, with transposed weights")
class MLP(_MLP):
    def forward(self, x):
        return F.linear(self.act(F.linear(x, self.W_in.T, self.b_in)), self.W_out.T, self.b_out)


# --- 5. Block


class _TransformerBlock(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.ln1, self.attn, self.ln2, self.mlp = _LayerNorm(cfg), _Attention(cfg), _LayerNorm(cfg), _MLP(cfg)

    def forward(self, x):
        mid = x + self.attn(self.ln1(x))
        return mid + self.mlp(self.ln2(mid))


@mistake("normalises after adding (post-norm): GPT-2 normalises only what a part reads")
class TransformerBlock(_TransformerBlock):
    def forward(self, x):
        mid = self.ln1(x + self.attn(x))
        return self.ln2(mid + self.mlp(mid))


@mistake("lets the MLP read the stream as it was before attention: it reads what attention has added, too")
class TransformerBlock(_TransformerBlock):
    def forward(self, x):
        return x + self.attn(self.ln1(x)) + self.mlp(self.ln2(x))


@mistake("does not add to the stream: each part's output replaces it")
class TransformerBlock(_TransformerBlock):
    def forward(self, x):
        return self.mlp(self.ln2(self.attn(self.ln1(x))))


@mistake("adds attention's output, but then replaces the stream by the MLP's: add that, too")
class TransformerBlock(_TransformerBlock):
    def forward(self, x):
        return self.mlp(self.ln2(x + self.attn(self.ln1(x))))


@mistake("adds to the normalised copy: the stream itself stays as it is, and gets the outputs added")
class TransformerBlock(_TransformerBlock):
    def forward(self, x):
        x = self.ln1(x)
        x = self.ln2(x + self.attn(x))
        return x + self.mlp(x)


@mistake("leaves the LayerNorms out")
class TransformerBlock(_TransformerBlock):
    def forward(self, x):
        mid = x + self.attn(x)
        return mid + self.mlp(mid)


@mistake("uses ln1 twice: the MLP reads through ln2")
class TransformerBlock(_TransformerBlock):
    def forward(self, x):
        mid = x + self.attn(self.ln1(x))
        return mid + self.mlp(self.ln1(mid))


@mistake("changes its input in place, as `+=` and methods ending in `_` do: write `x = x + ...` or copy it")
class TransformerBlock(_TransformerBlock):
    def forward(self, x):
        x += self.attn(self.ln1(x))
        x += self.mlp(self.ln2(x))
        return x


@mistake("uses one and the same part more than once: make a new one for each place")
class TransformerBlock(_TransformerBlock):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.ln2 = self.ln1


# --- 6. The whole


class _Unembed(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.W_U = _normal(cfg.d_model, cfg.d_vocab)

    def forward(self, x):
        return x @ self.W_U


@mistake("gives probabilities: logits are what comes before the softmax")
class Unembed(_Unembed):
    def forward(self, x):
        return super().forward(x).softmax(-1)


@mistake("divides by the root of d_model: GPT-2 takes the plain product")
class Unembed(_Unembed):
    def forward(self, x):
        return super().forward(x) / x.shape[-1] ** 0.5


@mistake("gives logits for the last position only: every position predicts its next token")
class Unembed(_Unembed):
    def forward(self, x):
        return super().forward(x[:, -1:])


class _GPT2(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.embed, self.pos_embed = _Embed(cfg), _PosEmbed(cfg)
        self.blocks = nn.ModuleList(_TransformerBlock(cfg) for _ in range(cfg.n_layers))
        self.ln_final, self.unembed = _LayerNorm(cfg), _Unembed(cfg)

    def stream(self, tokens):
        x = self.embed(tokens) + self.pos_embed(tokens)
        for block in self.blocks:
            x = block(x)
        return x

    def forward(self, tokens):
        return self.unembed(self.ln_final(self.stream(tokens)))


@mistake("leaves the positions out: the stream begins as embed + pos_embed")
class GPT2(_GPT2):
    def stream(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return x


@mistake("leaves ln_final out: the last block's stream is normalised before W_U")
class GPT2(_GPT2):
    def forward(self, tokens):
        return self.unembed(self.stream(tokens))


@mistake("normalises after every block: ln_final comes once, at the end")
class GPT2(_GPT2):
    def forward(self, tokens):
        x = self.embed(tokens) + self.pos_embed(tokens)
        for block in self.blocks:
            x = self.ln_final(block(x))
        return self.unembed(x)


@mistake("adds each block's output to the stream once more: a block has already added")
class GPT2(_GPT2):
    def stream(self, tokens):
        x = self.embed(tokens) + self.pos_embed(tokens)
        for block in self.blocks:
            x = x + block(x)
        return x


@mistake("gives what the last block alone makes of the embeddings: each block reads what the one before has left")
class GPT2(_GPT2):
    def stream(self, tokens):
        x = self.embed(tokens) + self.pos_embed(tokens)
        for block in self.blocks:
            out = block(x)
        return out


@mistake("goes through the blocks backwards")
class GPT2(_GPT2):
    def stream(self, tokens):
        x = self.embed(tokens) + self.pos_embed(tokens)
        for block in reversed(self.blocks):
            x = block(x)
        return x


@mistake("leaves the last block out")
class GPT2(_GPT2):
    def stream(self, tokens):
        x = self.embed(tokens) + self.pos_embed(tokens)
        for block in self.blocks[:-1]:
            x = block(x)
        return x


@mistake("uses one and the same part more than once: make a new one for each place")
class GPT2(_GPT2):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.blocks = nn.ModuleList([_TransformerBlock(cfg)] * cfg.n_layers)


@mistake("blocks is a plain list, which hides its blocks from PyTorch: use nn.ModuleList")
class GPT2(_GPT2):
    def __init__(self, cfg):
        super().__init__(cfg)
        del self.blocks
        self.blocks = [_TransformerBlock(cfg) for _ in range(cfg.n_layers)]


@right("blocks in nn.Sequential")
class GPT2(_GPT2):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.blocks = nn.Sequential(*self.blocks)

    def stream(self, tokens):
        return self.blocks(self.embed(tokens) + self.pos_embed(tokens))


class _DemoTransformer(_GPT2):
    pass


right("a class under another name", exercise="GPT2")(_DemoTransformer)


# --- 7. Real weights


def _first(tensor, axis, cfg):
    """An axis cut into heads, head 0 first, and the heads moved to the front: right."""
    return tensor.unflatten(axis, (cfg.n_heads, -1)).movedim(axis, 0)


def _last(tensor, axis, cfg):
    """As "(d_head head)" cuts it: head 0 gets every n-th column (or row)."""
    return tensor.unflatten(axis, (-1, cfg.n_heads)).movedim(axis + 1, 0)


def _reshape(tensor, axis, cfg):
    """To the right shape, without a thought of the order."""
    return tensor.reshape(cfg.n_heads, cfg.d_model, cfg.d_head)


def _attention(theirs, cfg, layer, order="QKV", weights=_first, biases=_first, out=_first, split=1):
    """W_Q ... b_O of a layer from c_attn and c_proj; how heads are cut, and which axis is split in three."""
    its, mine = f"transformer.h.{layer}.attn", f"blocks.{layer}.attn"
    w_parts = theirs[f"{its}.c_attn.weight"].chunk(3, split)
    b_parts = theirs[f"{its}.c_attn.bias"].chunk(3)
    ours = {}
    for name, w, b in zip(order, w_parts, b_parts, strict=True):
        ours[f"{mine}.W_{name}"], ours[f"{mine}.b_{name}"] = weights(w, 1, cfg), biases(b, 0, cfg)
    ours[f"{mine}.W_O"] = out(theirs[f"{its}.c_proj.weight"], 0, cfg)
    return ours | {f"{mine}.b_O": theirs[f"{its}.c_proj.bias"]}


def _converted(theirs, cfg, **options):
    ours = {"embed.W_E": theirs["transformer.wte.weight"], "unembed.W_U": theirs["transformer.wte.weight"].T}
    ours |= {"pos_embed.W_pos": theirs["transformer.wpe.weight"]}
    ours |= {"ln_final.w": theirs["transformer.ln_f.weight"], "ln_final.b": theirs["transformer.ln_f.bias"]}
    names = {"ln1": "ln_1", "ln2": "ln_2"}, {"in": "c_fc", "out": "c_proj"}
    for layer in range(cfg.n_layers):
        for mine, its in names[0].items():
            for letter, kind in (("w", "weight"), ("b", "bias")):
                ours[f"blocks.{layer}.{mine}.{letter}"] = theirs[f"transformer.h.{layer}.{its}.{kind}"]
        for mine, its in names[1].items():
            for letter, kind in (("W", "weight"), ("b", "bias")):
                ours[f"blocks.{layer}.mlp.{letter}_{mine}"] = theirs[f"transformer.h.{layer}.mlp.{its}.{kind}"]
        ours |= _attention(theirs, cfg, layer, **options)
    return ours


@mistake("transposes attn.c_proj: it is square, so nothing complains, but Conv1D already stores [in out]")
def load_gpt2_weights(theirs, cfg):
    turned = {name: w.T if name.endswith("attn.c_proj.weight") else w for name, w in theirs.items()}
    return _converted(turned, cfg)


@mistake("transposes c_attn.weight, as for nn.Linear: Conv1D already stores [in out]")
def load_gpt2_weights(theirs, cfg):
    return _converted(theirs, cfg, weights=lambda tensor, axis, cfg: _first(tensor.T, axis, cfg))


@mistake("transposes the MLP's weights, as for nn.Linear: Conv1D already stores [in out]")
def load_gpt2_weights(theirs, cfg):
    return {name: w.T if ".mlp.W_" in name else w for name, w in _converted(theirs, cfg).items()}


@mistake("takes c_attn for keys, queries, values: queries come first")
def load_gpt2_weights(theirs, cfg):
    return _converted(theirs, cfg, order="KQV")


@mistake("takes c_attn for queries, values, keys: values come last")
def load_gpt2_weights(theirs, cfg):
    return _converted(theirs, cfg, order="QVK")


@mistake("mixes the heads everywhere: head 0 holds the first d_head columns (for W_O: rows), not every n-th")
def load_gpt2_weights(theirs, cfg):
    return _converted(theirs, cfg, weights=_last, biases=_last, out=_last)


@mistake("mixes the heads of queries, keys and values: head 0 holds the first d_head columns, not every n-th")
def load_gpt2_weights(theirs, cfg):
    return _converted(theirs, cfg, weights=_last, biases=_last)


@mistake("mixes the heads of W_Q, W_K and W_V: head 0 holds the first d_head columns, not every n-th")
def load_gpt2_weights(theirs, cfg):
    return _converted(theirs, cfg, weights=_last)


@mistake("mixes the heads of W_Q, W_K, W_V and W_O: head 0 holds the first d_head columns (for W_O: rows)")
def load_gpt2_weights(theirs, cfg):
    return _converted(theirs, cfg, weights=_last, out=_last)


@mistake("mixes the heads of b_Q, b_K and b_V: head 0 holds the first d_head entries, not every n-th")
def load_gpt2_weights(theirs, cfg):
    return _converted(theirs, cfg, biases=_last)


@mistake("mixes the heads of W_O: head 0 holds the first d_head rows, not every n-th")
def load_gpt2_weights(theirs, cfg):
    return _converted(theirs, cfg, out=_last)


@mistake("mixes the heads by a bare reshape: head 0 holds the first d_head columns, a reshape goes along the rows")
def load_gpt2_weights(theirs, cfg):
    return _converted(theirs, cfg, weights=_reshape)


@mistake("splits the rows of c_attn.weight: queries, keys and values lie side by side in the columns")
def load_gpt2_weights(theirs, cfg):
    return _converted(theirs, cfg, split=0)


@mistake("splits the rows of c_attn.weight and then reshapes: queries, keys and values lie side by side in the columns")
def load_gpt2_weights(theirs, cfg):
    return _converted(theirs, cfg, split=0, weights=_reshape)


@mistake("does not transpose the embedding for W_U: it is [d_model d_vocab]")
def load_gpt2_weights(theirs, cfg):
    return _converted(theirs, cfg) | {"unembed.W_U": theirs["transformer.wte.weight"]}


@mistake("gives every layer the weights of layer 0")
def load_gpt2_weights(theirs, cfg):
    def first(name):
        parts = name.split(".")
        return ".".join([*parts[:2], "0", *parts[3:]]) if name.startswith("transformer.h.") else name

    return _converted({name: theirs[first(name)] for name in theirs}, cfg)


@mistake("takes the MLP's LayerNorm (ln_2) for attention's (ln_1), and the other way round")
def load_gpt2_weights(theirs, cfg):
    swap = {"ln_1": "ln_2", "ln_2": "ln_1"}
    return _converted(
        {".".join(swap.get(part, part) for part in name.split(".")): w for name, w in theirs.items()}, cfg
    )


@mistake("leaves the biases at zero: theirs are not")
def load_gpt2_weights(theirs, cfg):
    return {name: 0 * w if name.split(".")[-1].startswith("b") else w for name, w in _converted(theirs, cfg).items()}


@mistake("takes entries out of the state dict that it was given: it should stay as it is")
def load_gpt2_weights(theirs, cfg):
    ours = _converted(theirs, cfg)
    theirs.pop("lm_head.weight")
    return ours


@right("copies, in an OrderedDict")
def load_gpt2_weights(theirs, cfg):
    return OrderedDict((name, weight.clone()) for name, weight in _converted(theirs, cfg).items())


@mistake("random weights are drawn once, when the model is made; two calls use the same")
def answer_twice():
    return "b"


@mistake("rounding is the same for the same sums, and a millionth at most: these differences are huge")
def answer_twice():
    return "c"
