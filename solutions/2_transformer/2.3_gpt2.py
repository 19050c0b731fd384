# %% [markdown]
# # 2.3 GPT-2
#
# You will write GPT-2 from nothing, part by part, and load real weights into it. Every weight that interpretability
# studies has its place here: after this notebook "layer 5, head 1" is a line of your own code.
#
# ![The residual stream: each block reads a normalised copy and adds to it](figures/residual_stream.svg)
#
# The line from left to right is the **residual stream**: parts read from it, and only ever *add* to it.
# %% generated="overview"
# %% setup=True
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from concrete_steps import corpus, models, plot
from concrete_steps.errors import CourseError
from concrete_steps.evidence import interval, ratio_of_times, seconds
from concrete_steps.models import shipped

# %% [markdown]
# **The rules.** A part is a class: `nn.Module`, made from a `Config` alone, with exactly the parameters or submodules
# that its text names (name and shape); the checks set them. No buffers in the state dict (`persistent=False`), no
# dropout (it only serves training), and all of it computed in the dtype of its weights. Everything else is yours. Do
# not copy an implementation: the checks tell you what is wrong.
# %%
@dataclass
class Config:
    """The sizes of a GPT-2; by default a tiny one."""

    d_model: int = 32  # width of the residual stream
    n_heads: int = 4
    d_head: int = 8
    d_mlp: int = 128  # neurons in each MLP
    n_layers: int = 3
    n_ctx: int = 64  # most positions
    d_vocab: int = 100
    eps: float = 1e-5  # inside LayerNorm's root


def weight(*shape: int) -> nn.Parameter:
    """A trainable tensor, small and random, as GPT-2's weights start."""
    return nn.Parameter(0.02 * torch.randn(*shape))


def bias(*shape: int) -> nn.Parameter:
    """A trainable tensor of zeros, as GPT-2's biases start."""
    return nn.Parameter(torch.zeros(*shape))


torch.manual_seed(0)
GPT2_SMALL = Config(
    d_model=768, n_heads=12, d_head=64, d_mlp=3072, n_layers=12, n_ctx=1024, d_vocab=50257
)
# %% [markdown]
# ## 1. LayerNorm
#
# Whatever size the residual stream has, a part that reads it wants tame numbers. **LayerNorm** takes each position's
# vector $x$ by itself, along its last axis:
#
# $$y = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} \odot w + b, \qquad
# \mu = \frac{1}{n} \sum_i x_i, \qquad \sigma^2 = \frac{1}{n} \sum_i (x_i - \mu)^2$$
#
# $n$ is d_model: the variance is the *mean* of squares (divided by n, not n - 1). $\varepsilon$ is `cfg.eps`; `w` and
# `b`, both `[d_model]`, are learned, and start at 1 and at 0.
# %%
v = torch.tensor([1.0, 2.0, 3.0, 6.0])
centred = v - v.mean()
variance = (centred**2).mean()
print(
    "centred:",
    centred.tolist(),
    " variance:",
    variance.item(),
    " torch's default .var():",
    round(v.var().item(), 2),
)
print("normalised:", [round(n, 2) for n in (centred / variance.sqrt()).tolist()])
# %% [markdown]
# <details><summary>Hint</summary>
#
# `x.mean(-1, keepdim=True)` keeps the axis, so that the subtraction lines up; `.var` has `unbiased=False`. `w` starts
# at ones: not `weight(...)`, but `nn.Parameter(torch.ones(...))`.
#
# </details>
# %% exercise="LayerNorm" points=2 difficulty=2 minutes=10
class LayerNorm(nn.Module):
    """Normalises each position's vector. Parameters: w [d_model], all 1 at first, and b
    [d_model], all 0.
    """

    def __init__(self, cfg: Config):
        super().__init__()
        self.cfg = cfg
        ### BEGIN SOLUTION
        self.w = nn.Parameter(torch.ones(cfg.d_model))
        self.b = bias(cfg.d_model)
        ### END SOLUTION

    def forward(
        self, x: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        ### BEGIN SOLUTION
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        return centred / (variance + self.cfg.eps).sqrt() * self.w + self.b
        ### END SOLUTION
# %% check="LayerNorm"
# %% [markdown]
# **Predict**: `y = LayerNorm(x)`, with `w` and `b` as they start. What is `LayerNorm(3 * x + 5)`, up to `eps`?
# (a) `3 * y + 5`; (b) `3 * y`; (c) `y`
# %% exercise="answer_forgets" points=1 difficulty=1 minutes=2
answer_forgets = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_forgets = "c"
### END SOLUTION
# %% check="answer_forgets"
# %% [markdown]
# **Predict**: what of a vector survives, and what is lost?
#
# <details><summary>Answer</summary>
#
# Its direction survives, once its mean is taken off. Its length is lost, and whatever lies along `[1, 1, ..., 1]`.
#
# </details>
# %% experiment=True
norm = LayerNorm(Config(d_model=8))
x = torch.randn(8)
variants = {
    "x": x,
    "3x": 3 * x,
    "x + 5": x + 5,
    "-x": -x,
    "x, one entry + 5": x + 5 * torch.eye(8)[0],
}
after = torch.cat([norm(vector[None, None])[0] for vector in variants.values()]).detach()
for name, out in zip(variants, after, strict=True):
    before = variants[name].norm()
    print(
        f"{name:>17}: length before {before:5.2f}, after {out.norm():.2f},"
        f" mean after {out.mean():.2f}"
    )
plot.imshow(
    torch.stack([torch.stack(list(variants.values())), after]),
    facets=["before", "after LayerNorm"],
    y=list(variants),
    x_label="dimension",
    y_label="vector",
    title="What LayerNorm throws away",
)
# %% [markdown]
# Every length after is about the root of d_model. One loud entry shrinks all others: LayerNorm is not linear. That is
# why attributing a logit to parts needs care.
#
# ## 2. Embed: a row for a token, a row for a place
#
# `W_E`, `[d_vocab d_model]`, has one row a token; `W_pos`, `[n_ctx d_model]`, one row a position, learned like any
# weight. The residual stream begins as their sum. A position's row is the same in each text of the batch.
# %%
table = torch.tensor([[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]])
print("rows 2, 0, 2:", table[torch.tensor([2, 0, 2])].tolist())
print("shape for two texts:", list(table[torch.tensor([[2, 0, 2], [1, 1, 1]])].shape))
# %% exercise="Embed" points=1 difficulty=1 minutes=3
class Embed(nn.Module):
    """Each token's row of W_E [d_vocab d_model], the only parameter."""

    def __init__(self, cfg: Config):
        super().__init__()
        self.W_E = weight(cfg.d_vocab, cfg.d_model)

    def forward(
        self, tokens: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos d_model"]:
        ### BEGIN SOLUTION
        return self.W_E[tokens]
        ### END SOLUTION
# %% check="Embed"
# %% [markdown]
# <details><summary>Hint</summary>
#
# How many positions are in use? `tensor.expand(batch, -1, -1)` shows one tensor to every text, without copying.
#
# </details>
# %% exercise="PosEmbed" points=1 difficulty=2 minutes=5
class PosEmbed(nn.Module):
    """The first rows of W_pos [n_ctx d_model], the only parameter; given the tokens only
    for their shape.
    """

    def __init__(self, cfg: Config):
        super().__init__()
        ### BEGIN SOLUTION
        self.W_pos = weight(cfg.n_ctx, cfg.d_model)
        ### END SOLUTION

    def forward(
        self, tokens: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos d_model"]:
        ### BEGIN SOLUTION
        batch, pos = tokens.shape
        return self.W_pos[:pos].expand(batch, -1, -1)
        ### END SOLUTION
# %% check="PosEmbed"
# %% [markdown]
# `story_lm` comes with the course: a small GPT-2 that learned little stories. Take its embeddings.
#
# **Predict**: which words have rows most like that of *" happy"*? Is position 20 more like 21, 22 or 2?
#
# <details><summary>Answer</summary>
#
# Words that can stand in its place: other feelings. And 22: places two apart look more alike than neighbours, far ones
# little. (An accident of this model and its corpus; we do not know why.) The random tables show nothing of either.
#
# </details>
# %% experiment=True
story_lm = models.load(
    "story_lm"
)  # a TransformerBridge of the library TransformerLens (notebook 3.1)
tokenizer = corpus.tokenizer()
vocabulary = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
story_cfg = Config(
    d_model=story_lm.cfg.d_model,
    n_heads=story_lm.cfg.n_heads,
    d_head=story_lm.cfg.d_head,
    d_mlp=story_lm.cfg.d_mlp,
    n_layers=story_lm.cfg.n_layers,
    n_ctx=story_lm.cfg.n_ctx,
    d_vocab=story_lm.cfg.d_vocab,
)
embed, pos_embed = Embed(story_cfg), PosEmbed(story_cfg)


def cosines(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """The cosine of each pair of rows."""
    unit = x / x.norm(dim=-1, keepdim=True)
    return unit @ unit.T


everything = torch.arange(story_cfg.d_vocab)[None]
places = torch.zeros(1, 40, dtype=torch.long)
pictures = []
for name in ("random", "learned"):
    if name == "learned":
        embed.W_E.data, pos_embed.W_pos.data = (
            story_lm.W_E.detach().clone(),
            story_lm.W_pos.detach().clone(),
        )
    like = cosines(embed(everything)[0])[vocabulary.index(" happy")]
    print(
        f"{name:>8}:", {vocabulary[i]: round(like[i].item(), 2) for i in like.topk(6).indices}
    )
    pictures.append(cosines(pos_embed(places)[0]))
    means = {
        apart: round(pictures[-1].diagonal(apart).mean().item(), 2)
        for apart in (1, 2, 3, 4, 20)
    }
    print(f"{name:>8}: mean cosine of positions by distance", means)
plot.imshow(
    torch.stack(pictures),
    facets=["random W_pos", "learned W_pos"],
    x_label="position",
    y_label="position",
    value_label="cosine",
    title="Which positions look alike",
)
# %% [markdown]
# Words of a kind lie together because they are used alike. Cosines do not show *that* the model uses this.
#
# ## 3. Attention
#
# Each head makes from every position a **query** (what it seeks), a **key** (what it offers) and a **value** (what it
# hands over): `x @ W_Q[head] + b_Q[head]`, and so on.
#
# - Scores: query · key, over $\sqrt{d_\text{head}}$; minus infinity where the key is later. Softmax over the keys: the
#   **pattern** $A$.
# - `z`: the pattern's weighted mean of values. Heads write `z @ W_O[head]`, all are summed, and `b_O` is added
#   **once**:
#
# $$A_h = \text{softmax}\!\left(\frac{Q_h K_h^\top}{\sqrt{d_\text{head}}} + \text{mask}\right), \qquad
# \text{out} = \sum_h A_h V_h W_O^h + b_O$$
#
# One head, one word, two keys:
# %%
q, k, d_head = torch.tensor([2.0, 0.0]), torch.tensor([[1.0, 5.0], [3.0, 0.0]]), 2
scores = k @ q / math.sqrt(d_head)
print(
    "scores",
    [round(s, 2) for s in scores.tolist()],
    "-> weights",
    [round(w, 2) for w in scores.softmax(0).tolist()],
)
# %% [markdown]
# **Predict**: the first row of a pattern, whatever the weights are?
#
# <details><summary>Answer</summary>
#
# Weight 1 on itself: all other keys come later.
#
# </details>
# <details><summary>Hint 1</summary>
#
# `einsum(x, self.W_Q, "batch pos d_model, head d_model d_head -> batch pos head d_head")`; the bias broadcasts.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.ones(pos, pos, dtype=torch.bool).triu(1)` is true where the key is later; `masked_fill` those with
# `-torch.inf`. `forward` begins with `self.pattern(x)`.
#
# </details>
# %% exercise="Attention" points=4 difficulty=4 minutes=45
class Attention(nn.Module):
    """Causal multi-head attention. `pattern` gives who reads from whom, `forward` what all
    heads write.
    """

    def __init__(self, cfg: Config):
        super().__init__()
        self.cfg = cfg
        self.W_Q = weight(cfg.n_heads, cfg.d_model, cfg.d_head)
        self.W_K = weight(cfg.n_heads, cfg.d_model, cfg.d_head)
        self.W_V = weight(cfg.n_heads, cfg.d_model, cfg.d_head)
        self.W_O = weight(cfg.n_heads, cfg.d_head, cfg.d_model)
        self.b_Q = bias(cfg.n_heads, cfg.d_head)
        self.b_K = bias(cfg.n_heads, cfg.d_head)
        self.b_V = bias(cfg.n_heads, cfg.d_head)
        self.b_O = bias(cfg.d_model)

    def pattern(
        self, x: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch head query key"]:
        ### BEGIN SOLUTION
        project = "batch pos d_model, head d_model d_head -> batch pos head d_head"
        q = einsum(x, self.W_Q, project) + self.b_Q
        k = einsum(x, self.W_K, project) + self.b_K
        scores = einsum(q, k, "batch query head d_head, batch key head d_head -> batch head query key")
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        return (scores / math.sqrt(self.cfg.d_head)).masked_fill(later, -torch.inf).softmax(-1)
        ### END SOLUTION

    def forward(
        self, x: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        ### BEGIN SOLUTION
        v = einsum(x, self.W_V, "batch key d_model, head d_model d_head -> batch key head d_head") + self.b_V
        z = einsum(self.pattern(x), v, "batch head query key, batch key head d_head -> batch query head d_head")
        return einsum(z, self.W_O, "batch pos head d_head, head d_head d_model -> batch pos d_model") + self.b_O
        ### END SOLUTION
# %% check="Attention"
# %% [markdown]
# **Predict**: now your class runs layer 0 of `story_lm`. A head there knows only words and places. What patterns can it
# make?
#
# <details><summary>Answer</summary>
#
# By place ("the one before"), by word, or both; not by context: nothing has moved yet. A head far from the even spread
# that prefers no place on average chooses by word: see its largest weights.
#
# </details>
# %% experiment=True
tokens = torch.tensor(
    [corpus.token_ids(corpus.story(3, corpus.HELD_OUT).tokens[:24])]
)  # [batch=1 pos]
words = [vocabulary[token] for token in tokens[0]]
norm, attention = LayerNorm(story_cfg), Attention(story_cfg)
block_0 = story_lm.blocks[0]
norm.w.data, norm.b.data = block_0.ln1.w.detach(), block_0.ln1.b.detach()
for name, parameter in attention.named_parameters():
    parameter.data = getattr(block_0.attn, name).detach()
pattern = attention.pattern(norm(embed(tokens) + pos_embed(tokens))).detach()
_, cache = story_lm.run_with_cache(tokens, names_filter="blocks.0.attn.hook_pattern")
print(
    "largest difference from the library's pattern:",
    f"{(pattern - cache['pattern', 0]).abs().max():.0e}",
)
even = torch.ones(len(words), len(words)).tril()
even = even / even.sum(-1, keepdim=True)  # the null: every query reads all keys alike
for name, weights in [
    *((f"head {i}", p) for i, p in enumerate(pattern[0])),
    ("even spread", even),
]:
    moved = (weights - even).abs().sum(
        -1
    ).mean() / 2  # the share of its weight that a query puts elsewhere
    before, own, first = (
        weights.diagonal(-1).mean(),
        weights.diagonal().mean(),
        weights[:, 0].mean(),
    )
    print(
        f"{name:>11}: distance from even {moved:.2f};",
        f"mean weight on the word before {before:.2f}",
        end=", ",
    )
    print(f"itself {own:.2f}, the first {first:.2f}")
plot.attention(words, pattern[0], title="Layer 0 of story_lm, by your Attention")
# %% [markdown]
# A pattern says where a head reads, not what it hands over, nor whether anything uses it (notebook 3.2).
#
# ## 4. MLP
#
# `x @ W_in + b_in` gives `d_mlp` neurons; each goes through GELU; `@ W_out + b_out` adds up what they write. Every
# position by itself: only attention moves information.
#
# GELU is a smooth ReLU, $x \cdot P(N \le x)$ for a standard normal N. GPT-2 uses Hendrycks and Gimpel's approximation
# (2016), and so must you:
#
# $$\tfrac{1}{2}\, x \left(1 + \tanh\!\left(\sqrt{2 / \pi}\,(x + 0.044715\, x^3)\right)\right)$$
# %%
grid = torch.linspace(-4, 4, 161)
exact, approximate = nn.functional.gelu(grid), nn.functional.gelu(grid, approximate="tanh")
print(f"largest difference of the two GELUs: {(exact - approximate).abs().max():.1e}")
plot.line(
    {
        "ReLU": grid.relu(),
        "GELU as in GPT-2": approximate,
        "exact - that, x 1000": 1000 * (exact - approximate),
    },
    x=grid,
    x_label="input of the neuron",
    y_label="output",
    title="A bend at zero, or a curve",
)
# %% [markdown]
# **Predict**: the difference is tiny. Can it matter for "logits equal to 1e-4"?
#
# <details><summary>Answer</summary>
#
# Yes: it is above 1e-4, and thousands of neurons and many layers pass it on.
#
# </details>
# %% exercise="MLP" points=2 difficulty=3 minutes=10
class MLP(nn.Module):
    """Parameters: W_in [d_model d_mlp], b_in [d_mlp], W_out [d_mlp d_model], b_out
    [d_model].
    """

    def __init__(self, cfg: Config):
        super().__init__()
        ### BEGIN SOLUTION
        self.W_in, self.b_in = weight(cfg.d_model, cfg.d_mlp), bias(cfg.d_mlp)
        self.W_out, self.b_out = weight(cfg.d_mlp, cfg.d_model), bias(cfg.d_model)
        ### END SOLUTION

    def forward(
        self, x: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        ### BEGIN SOLUTION
        neurons = nn.functional.gelu(x @ self.W_in + self.b_in, approximate="tanh")
        return neurons @ self.W_out + self.b_out
        ### END SOLUTION
# %% check="MLP"
# %% [markdown]
# **Predict**: for a word, on average, are more or fewer of `story_lm`'s neurons clearly on (above 0.5) than with a
# random `W_in` of the same size and the same biases?
#
# <details><summary>Answer</summary>
#
# Fewer, about half as many; but those are further on. Trained inputs spread wider: below zero for most neurons, far
# above it for a few. The biases are the same in both.
#
# </details>
# %% experiment=True
mlp = MLP(story_cfg)
for name, parameter in mlp.named_parameters():
    parameter.data = getattr(block_0.mlp, name).detach()
norm_2 = LayerNorm(story_cfg)
norm_2.w.data, norm_2.b.data = block_0.ln2.w.detach(), block_0.ln2.b.detach()
resid_pre = embed(tokens) + pos_embed(tokens)
read = norm_2(resid_pre + attention(norm(resid_pre)))
control = torch.randn_like(mlp.W_in) * mlp.W_in.std()
inputs = {"story_lm": read @ mlp.W_in + mlp.b_in, "random W_in": read @ control + mlp.b_in}
for name, before in inputs.items():
    neurons = nn.functional.gelu(before, approximate="tanh")
    print(f"{name:>11}: {(neurons > 0.5).float().mean():.0%} of neurons on")
plot.hist(
    {name: before.detach().flatten() for name, before in inputs.items()},
    density=True,
    x_label="input of a neuron, layer 0",
    title="Most neurons are off",
)
# %% [markdown]
# ## 5. A block: read, then add
#
# `TransformerBlock` holds `ln1`, `attn`, `ln2`, `mlp`. Attention reads a normalised copy of the stream and gives a *new
# stream*: the old one plus its output. Then the MLP does the same, reading what attention has added. The stream itself
# is never normalised ("pre-norm"; the transformer of 2017 normalised the sum, "post-norm").
# %% exercise="TransformerBlock" points=2 difficulty=3 minutes=8
class TransformerBlock(nn.Module):
    """One layer. Submodules: ln1, attn, ln2, mlp; no other parameters."""

    def __init__(self, cfg: Config):
        super().__init__()
        ### BEGIN SOLUTION
        self.ln1, self.attn = LayerNorm(cfg), Attention(cfg)
        self.ln2, self.mlp = LayerNorm(cfg), MLP(cfg)
        ### END SOLUTION

    def forward(
        self, resid_pre: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        ### BEGIN SOLUTION
        resid_mid = resid_pre + self.attn(self.ln1(resid_pre))
        return resid_mid + self.mlp(self.ln2(resid_mid))
        ### END SOLUTION
# %% check="TransformerBlock"
# %% [markdown]
# **Predict**: stack 24 fresh blocks. How much of the input is left in the stream at the end? And if we normalise the
# stream itself after each block?
#
# <details><summary>Answer</summary>
#
# Fresh blocks write little: nearly all is left either way. Turn what they write up, and the normalised stream
# shrinks the past at every block; the pre-norm stream only adds to it, and keeps more.
#
# </details>
# %% experiment=True
start = torch.randn(1, 16, 32)
curves = {}
for scale in (1, 30):
    torch.manual_seed(1)  # the same blocks for both
    blocks = [TransformerBlock(Config()) for _ in range(24)]
    for block in blocks:
        block.attn.W_O.data *= scale
        block.mlp.W_out.data *= scale
    for name in ("pre-norm", "post-norm"):
        x, kept = start, []
        for block in blocks:
            x = block(x) if name == "pre-norm" else block.ln1(block(x))
            kept.append(nn.functional.cosine_similarity(x, start, dim=-1).mean().item())
        curves[f"{name}, weights x {scale}"] = kept
        print(
            f"{name}, weights x {scale}: cosine with the start after 24 blocks {kept[-1]:.2f}"
        )
plot.line(
    curves,
    x=list(range(1, 25)),
    x_label="blocks passed",
    y_label="cosine with the input",
    title="What is left of the input",
)
# %% [markdown]
# Because the stream is only added to, what any block wrote can be read by every later one, and summed apart again:
# interpretability lives on that. These weights are random; training decides what is kept.
#
# ## 6. Unembed, and the whole
#
# After the last block one more LayerNorm, `ln_final`; then `W_U`, `[d_model d_vocab]`, gives every token a logit: how
# far the stream points in that token's direction. GPT-2 adds no bias here.
# %% exercise="Unembed" points=1 difficulty=1 minutes=3
class Unembed(nn.Module):
    """A logit for each token. Parameter: W_U [d_model d_vocab]."""

    def __init__(self, cfg: Config):
        super().__init__()
        ### BEGIN SOLUTION
        self.W_U = weight(cfg.d_model, cfg.d_vocab)
        ### END SOLUTION

    def forward(
        self, x: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_vocab"]:
        ### BEGIN SOLUTION
        return x @ self.W_U
        ### END SOLUTION
# %% check="Unembed"
# %% [markdown]
# Now all of it. If the check fails, it names the first place where your residual stream leaves GPT-2's.
#
# <details><summary>Hint</summary>
#
# A plain list hides its blocks from PyTorch; `nn.ModuleList` does not. `[block] * 3` is one block, three times.
#
# </details>
# %% exercise="GPT2" points=3 difficulty=3 minutes=12
class GPT2(nn.Module):
    """From tokens to logits. Submodules: embed, pos_embed, blocks (n_layers of them),
    ln_final, unembed.
    """

    def __init__(self, cfg: Config):
        super().__init__()
        ### BEGIN SOLUTION
        self.embed, self.pos_embed = Embed(cfg), PosEmbed(cfg)
        self.blocks = nn.ModuleList(TransformerBlock(cfg) for _ in range(cfg.n_layers))
        self.ln_final, self.unembed = LayerNorm(cfg), Unembed(cfg)
        ### END SOLUTION

    def forward(
        self, tokens: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos d_vocab"]:
        ### BEGIN SOLUTION
        resid = self.embed(tokens) + self.pos_embed(tokens)
        for block in self.blocks:
            resid = block(resid)
        return self.unembed(self.ln_final(resid))
        ### END SOLUTION
# %% check="GPT2"
# %% [markdown]
# **Predict**: a fresh model, small random weights, 100 tokens: what loss (mean of -log p, as in 1.1) does it have on
# random tokens?
#
# <details><summary>Answer</summary>
#
# About log(100): small weights give almost equal logits, an even guess. A fresh model far above that is broken.
#
# </details>
# %% experiment=True
fresh = GPT2(Config()).eval()
guess = torch.randint(0, 100, (8, 64))
with torch.no_grad():
    log_probs = fresh(guess)[:, :-1].log_softmax(-1)
loss = -log_probs.gather(-1, guess[:, 1:, None]).mean()
print(f"loss of a fresh model {loss:.3f}, log(100) = {math.log(100):.3f}")
sizes = {
    name: sum(p.numel() for p in part.parameters()) for name, part in fresh.named_children()
}
print("parameters:", sizes, "total", f"{sum(sizes.values()):,}")
# %% [markdown]
# An even guess is a first test that costs nothing. It cannot tell a right model from a wrong one that also guesses.
#
# ## 7. Real weights
#
# Hugging Face stores the same GPT-2 under other names. Most weights only need ours; `i` is the layer:
# %%
OURS_TO_THEIRS = {
    "embed.W_E": "transformer.wte.weight",
    "pos_embed.W_pos": "transformer.wpe.weight",
    "blocks.{i}.ln1.w": "transformer.h.{i}.ln_1.weight",
    "blocks.{i}.ln1.b": "transformer.h.{i}.ln_1.bias",
    "blocks.{i}.attn.b_O": "transformer.h.{i}.attn.c_proj.bias",
    "blocks.{i}.ln2.w": "transformer.h.{i}.ln_2.weight",
    "blocks.{i}.ln2.b": "transformer.h.{i}.ln_2.bias",
    "blocks.{i}.mlp.W_in": "transformer.h.{i}.mlp.c_fc.weight",
    "blocks.{i}.mlp.b_in": "transformer.h.{i}.mlp.c_fc.bias",
    "blocks.{i}.mlp.W_out": "transformer.h.{i}.mlp.c_proj.weight",
    "blocks.{i}.mlp.b_out": "transformer.h.{i}.mlp.c_proj.bias",
    "ln_final.w": "transformer.ln_f.weight",
    "ln_final.b": "transformer.ln_f.bias",
}
# %% [markdown]
# You add the others, whose shape differs (`E` is d_model):
#
# | theirs | shape | ours |
# |---|---|---|
# | `transformer.wte.weight` | `[d_vocab E]` | transposed: `unembed.W_U` |
# | `transformer.h.i.attn.c_attn.weight` | `[E 3*E]` | `W_Q`, `W_K`, `W_V` of `blocks.i.attn` |
# | `transformer.h.i.attn.c_attn.bias` | `[3*E]` | its `b_Q`, `b_K`, `b_V` |
# | `transformer.h.i.attn.c_proj.weight` | `[E E]` | its `W_O` |
#
# GPT-2 is **tied**: the same numbers serve as `W_E` and, transposed, as `W_U`. Two traps. Their layers are `Conv1D`,
# which computes `x @ weight`, so the weight is stored `[in out]`: **no layer's weight is transposed** (`nn.Linear`
# stores `[out in]`). And `c_attn` holds queries, keys, values side by side, in each of them head 0 first, then head 1,
# and so on.
# %%
fused = torch.arange(12)  # a c_attn.bias for 2 heads of 2: queries, keys, values
for name, part in zip("QKV", fused.chunk(3), strict=True):
    print(f"b_{name}:", rearrange(part, "(head d_head) -> head d_head", head=2).tolist())
# %% [markdown]
# **Predict**: which of their matrices could you transpose by mistake, and no shape would complain?
#
# <details><summary>Answer</summary>
#
# `attn.c_proj`: it is square.
#
# </details>
# <details><summary>Hint 1</summary>
#
# `"blocks.{i}.ln1.w".format(i=2)` is `"blocks.2.ln1.w"`; a name without `{i}` stays as it is.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `W_O` is `[head d_head E]`: the *first* axis of `c_proj` holds the heads. For `W_Q` it is the last axis.
#
# </details>
# %% exercise="load_gpt2_weights" points=4 difficulty=4 minutes=30
def load_gpt2_weights(theirs: dict[str, Tensor], cfg: Config) -> dict[str, Tensor]:
    """The weights of a Hugging Face GPT2LMHeadModel under our names, ready for
    GPT2(cfg).load_state_dict(...).

    Args:
        theirs: its state dict; it stays as it is.
    """
    ### BEGIN SOLUTION
    ours = {"unembed.W_U": theirs["transformer.wte.weight"].T}
    for i in range(cfg.n_layers):
        ours |= {mine.format(i=i): theirs[its.format(i=i)] for mine, its in OURS_TO_THEIRS.items()}
        mine, its = f"blocks.{i}.attn", f"transformer.h.{i}.attn"
        weights = theirs[f"{its}.c_attn.weight"].chunk(3, dim=-1)
        biases = theirs[f"{its}.c_attn.bias"].chunk(3)
        for name, w, b in zip("QKV", weights, biases, strict=True):
            ours[f"{mine}.W_{name}"] = rearrange(w, "d (head d_head) -> head d d_head", head=cfg.n_heads)
            ours[f"{mine}.b_{name}"] = rearrange(b, "(head d_head) -> head d_head", head=cfg.n_heads)
        w_out = theirs[f"{its}.c_proj.weight"]
        ours[f"{mine}.W_O"] = rearrange(w_out, "(head d_head) d -> head d_head d", head=cfg.n_heads)
    return ours
    ### END SOLUTION
# %% check="load_gpt2_weights"
# %% [markdown]
# ## 8. Equal?
#
# The check has compared logits on small random models. Now one of GPT-2's own size, 12 layers wide 768, weights
# random: no network needed. First, a trap:
# %% experiment=True
torch.manual_seed(0)
reference = transformers.GPT2LMHeadModel(transformers.GPT2Config())
tokens = torch.randint(0, GPT2_SMALL.d_vocab, (1, 64))
with torch.no_grad():
    twice = [reference(tokens).logits for _ in range(2)]
print(
    "the same model, the same tokens, twice: logits differ by up to",
    f"{(twice[0] - twice[1]).abs().max():.2f}",
)
# %% [markdown]
# **Why?**
# (a) dropout is still on; (b) its weights are random; (c) sums are rounded
# %% exercise="answer_twice" points=1 difficulty=1 minutes=2
answer_twice = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_twice = "a"
### END SOLUTION
# %% check="answer_twice"
# %% [markdown]
# **Predict**: in evaluation mode, how far will your logits be from theirs: 0, about 1e-6, about 1e-3? And which is
# faster?
#
# <details><summary>Answer</summary>
#
# About 1e-6: the same sums, added in another order. Theirs uses a fused attention kernel, yours plain einsum; at this
# length most time goes into matrix products that both share, so neither is far ahead.
#
# </details>
# %% experiment=True
@torch.no_grad()
def compare(
    mine: GPT2, theirs: nn.Module, tokens: Int[Tensor, "batch pos"], repeats: int = 3
) -> None:
    """Prints the largest difference of the logits, and how long each takes."""
    ours, reference = mine(tokens), theirs(tokens)
    reference = getattr(reference, "logits", reference)
    apart = (ours - reference).abs().max()
    print(f"largest difference of logits: {apart:.1e}; their spread: {reference.std():.2f}")
    times = ratio_of_times(lambda: mine(tokens), lambda: theirs(tokens), repeats)
    print("mine against theirs:", times)


def my_gpt2(theirs: dict[str, Tensor], cfg: Config) -> GPT2:
    """Your model with their weights, in evaluation mode."""
    model = GPT2(cfg).eval()
    model.load_state_dict(load_gpt2_weights(theirs, cfg))
    return model


reference.eval()
mine = my_gpt2(reference.state_dict(), GPT2_SMALL)
compare(mine, reference, tokens)
# %% [markdown]
# To write, both are asked again for each new token. Theirs can keep what it computed of the earlier ones, in a
# **cache** (2.4 builds one). Even then each token needs every weight once, so whoever writes one text is limited by
# the memory: bytes read a second, over bytes of weights.
#
# **Predict**: how many tokens a second does yours write after these 64: 0.5, 5, 50? And theirs with the cache?
#
# <details><summary>Answer</summary>
#
# A few, and some times as many: one position instead of 64 and more, but the weights must still be read.
#
# </details>
# %% experiment=True
@torch.no_grad()
def tokens_a_second(step: Callable, n: int = 4) -> float:
    """Greedy writing, at the quickest of n steps, after a first one that reads the prompt."""
    text, times = tokens, []
    logits, state = step(text, None)
    for _ in range(n):
        text = torch.cat([text, logits[:, -1:].argmax(-1)], dim=-1)
        began = time.perf_counter()
        logits, state = step(text, state)
        times.append(time.perf_counter() - began)
    return 1 / min(times)


def with_cache(text: Tensor, past) -> tuple:
    out = reference(text if past is None else text[:, -1:], past_key_values=past)
    return out.logits, out.past_key_values


writers = {
    "mine": lambda text, state: (mine(text), None),
    "theirs": lambda text, state: (reference(text, use_cache=False).logits, None),
    "theirs, with cache": with_cache,
}
for name, step in writers.items():
    print(f"{name:>23}: {tokens_a_second(step):5.1f} tokens a second")
big, vector = torch.ones(2**13, 2**13), torch.ones(2**13)  # 268 MB
bandwidth = 2**28 / min(seconds(lambda: big @ vector) for _ in range(4))
n_bytes = 4 * sum(p.numel() for p in reference.parameters())
print(f"limit: bytes of weights: {bandwidth / n_bytes:5.1f} tokens a second", end=" ")
print(f"({n_bytes / 1e6:.0f} MB at {bandwidth / 1e9:.1f} GB/s)")
del reference, twice, mine, big
# %% [markdown]
# The real GPT-2 small needs the Hugging Face hub, or an earlier download. Where neither answers, this cell says so,
# and the next section uses weights that came with the course.
# %% experiment=True
try:
    hub, hub_tokenizer = models.gpt2_hf()
except CourseError as error:
    hub = None
    print(error)
if hub is not None:
    text = "<|endoftext|>When Mary and John went to the store, John gave a drink to"
    prompt = hub_tokenizer(text, return_tensors="pt").input_ids
    mine = my_gpt2(hub.state_dict(), GPT2_SMALL)
    compare(mine, hub, prompt)
    with torch.no_grad():
        top = mine(prompt)[0, -1].softmax(-1).topk(5)
    likeliest = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    print(
        {
            hub_tokenizer.decode([token]): round(probability, 3)
            for token, probability in likeliest
        }
    )
# %% [markdown]
# Equal logits on a few prompts are strong evidence for equal code: almost any slip would show (one that
# cannot: bonus 2). They say nothing about how the model does it.
#
# ## 9. It tells a story
#
# Your class, with the weights of `story_lm`, writes: take the last position's logits, draw a token, append it, again.
# Temperature 0 means: always the likeliest.
# %% experiment=True
narrator = my_gpt2(shipped.state_dict("story_lm"), story_cfg)


@torch.no_grad()
def tell(model: GPT2, words: list[str], temperature: float, most: int = 100) -> str:
    """Continues the words until the story ends, or `most` tokens are there."""
    tokens = torch.tensor([corpus.token_ids(words)])
    while tokens.shape[1] < most and tokens[0, -1] != tokenizer.eos_token_id:
        logits = model(tokens)[0, -1]
        drawn = (logits / max(temperature, 1e-6)).softmax(-1).multinomial(1)
        new = logits.argmax(keepdim=True) if temperature == 0 else drawn
        tokens = torch.cat([tokens, new[None]], dim=-1)
    return tokenizer.decode(tokens[0], skip_special_tokens=True)


torch.manual_seed(0)
opening = corpus.story(0, corpus.HELD_OUT).tokens[:10]
print("opening:    ", "".join(opening))
for temperature in (0, 1.0, 3.0):
    print(f"\ntemperature {temperature}: {tell(narrator, opening, temperature)}")
# %% [markdown]
# Change `opening` to another story's, and the temperature: too low and it repeats itself, too high and it babbles.
#
# ## 10. Your model on the bench
#
# You own every line, so you can take parts away and watch.
#
# **Predict**: how well does it predict *new* stories: whole; without positions (`W_pos` zero); without attention (`W_O`
# zero); without MLPs (`W_out` zero)? The stories' **law** is known: what the law itself loses on the same stories is
# the least that can be hoped for. A **table of pairs** knows only how often each word follows each.
#
# <details><summary>Answer</summary>
#
# Whole: near the law. Without positions: clearly worse. Without attention it sees one word and its place, and yet
# does far worse than the table of pairs: its MLPs rely on what attention wrote. Without MLPs it is even *above*
# log(d_vocab), an even guess: it is sure, and wrong.
#
# </details>
# %% experiment=True
@torch.no_grad()
def story_loss(model: Callable[[Tensor], Tensor], stories: Int[Tensor, "batch pos"]) -> float:
    """Nats per token of whatever gives logits, padding (token 0) left out."""
    log_probs = (
        model(stories)[:, :-1].log_softmax(-1).gather(-1, stories[:, 1:, None])[..., 0]
    )
    real = stories[:, 1:] != 0
    return -(log_probs * real).sum().item() / real.sum().item()


old_stories = corpus.batch(2000, story_cfg.n_ctx)
pairs = torch.full(
    (story_cfg.d_vocab, story_cfg.d_vocab), 0.01
)  # a pair never seen is unlikely, not impossible
pairs.index_put_(
    (old_stories[:, :-1], old_stories[:, 1:]), torch.tensor(1.0), accumulate=True
)
new_stories = corpus.batch(40, story_cfg.n_ctx, corpus.HELD_OUT, first=1000)
by_law = [
    -sum(corpus.token_log_probs(story.tokens)[: story_cfg.n_ctx - 1])
    for story in corpus.stories(
        40, corpus.HELD_OUT, first=1000
    )  # the same stories, cut alike
]
lengths = (new_stories[:, 1:] != 0).sum(-1)
losses = {"the law itself": sum(by_law) / lengths.sum().item()}
losses["whole"] = story_loss(narrator, new_stories)
excess = [
    story_loss(narrator, one[None]) - cost / n.item()
    for one, cost, n in zip(new_stories, by_law, lengths, strict=True)
]
print(f"a story costs the model {interval(excess):.3f} nats a token more than the law")
losses["table of pairs"] = story_loss(lambda tokens: pairs.log()[tokens], new_stories)
for name, ending in {
    "without positions": "W_pos",
    "without attention": "W_O",
    "without MLPs": "W_out",
}.items():
    weights = {
        key: 0 * w if key.endswith(ending) else w for key, w in narrator.state_dict().items()
    }
    damaged = GPT2(story_cfg)
    damaged.load_state_dict(weights)
    losses[name] = story_loss(damaged, new_stories)
losses["fresh weights"] = story_loss(GPT2(story_cfg), new_stories)
for name, loss in [*losses.items(), ("log(d_vocab)", math.log(story_cfg.d_vocab))]:
    print(f"{name:>18}: {loss:.3f}")
plot.bar(
    list(losses.values()),
    x=list(losses),
    x_label="model",
    y_label="nats per token",
    title="Loss on new stories",
)
# %% [markdown]
# Zeroing is a blunt tool: later layers meet a stream that they never saw, so a part's "cost" is not its share of the
# skill (notebook 3.2 compares kinds of ablation).
#
# ## 11. The stream, watched
#
# Hooks on your own blocks show what passes.
#
# **Predict**: does the stream's length grow, shrink or stay, from layer to layer?
#
# <details><summary>Answer</summary>
#
# It grows here, and so does a fresh model's, on a smaller scale. Adding can shrink too, but parts that point in
# unrelated directions add up to more.
#
# </details>
# %% experiment=True
@torch.no_grad()
def stream_lengths(model: GPT2, tokens: Int[Tensor, "batch pos"]) -> list[float]:
    """The mean length of the residual stream before the first block, and after each."""
    stream = []
    hooks = [
        model.blocks[0].register_forward_pre_hook(lambda module, args: stream.append(args[0]))
    ]
    hooks += [
        block.register_forward_hook(lambda module, args, out: stream.append(out))
        for block in model.blocks
    ]
    model(tokens)
    for hook in hooks:
        hook.remove()
    return [resid.norm(dim=-1).mean().item() for resid in stream]


one_story = new_stories[:1, :40]
lengths = {
    "story_lm": stream_lengths(narrator, one_story),
    "fresh": stream_lengths(GPT2(story_cfg), one_story),
}
print({name: [round(length, 1) for length in values] for name, values in lengths.items()})
plot.line(
    lengths,
    tokens=["start", *map(str, range(story_cfg.n_layers))],
    x_label="after block",
    y_label="mean length of the residual stream",
    title="The stream grows",
)
# %% [markdown]
# Because `ln_final` divides by the length, a late block must write more to turn the stream as much. One model, one
# story: look at others before believing it.
#
# ## Bonus (not graded)
#
# 1. Give `Attention` a `use_flash` switch that calls `scaled_dot_product_attention`; compare with `compare`.
# 2. Set `b_K` to random numbers: up to rounding no pattern changes. Why? (What does it add to one query's scores?)
# 3. Add dropout to your parts, as GPT-2 was trained, so that `.eval()` still gives equal logits.
# %% [markdown]
# ## Recap
#
# | confusion | what holds |
# |---|---|
# | "Heads are concatenated, then projected" | the same as: each head writes `z @ W_O[head]`, and all are added |
# | "LayerNorm changes the stream" | it changes the copy that a part reads |
# | "`.var()` is the variance" | by default it divides by n - 1 |
# | "The model runs, so it is right" | mask, scale, axis, square transpose: all run |
#
# Read on: Radford et al., *Language Models are Unsupervised Multitask Learners* (2019); Vaswani et al., *Attention Is
# All You Need* (2017); Karpathy, *minGPT*; Elhage et al., *A Mathematical Framework for Transformer Circuits* (2021).
# Next: **2.4 Training and sampling**.
