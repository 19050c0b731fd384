# %% [markdown]
# # 2.5 Llama
#
# GPT-2 is from 2019. Many open models are now built like **Llama** (Touvron et al. 2023), with four things done in
# another way: norms, positions, the MLP, and (since Llama 2's larger models) keys and values that heads share. You will
# write each, and then load **SmolLM2-135M-Instruct**, a real model that answers questions, into your own class: its
# logits come out of your lines, and so does every word that it says.
#
# ![A GPT-2 block beside a Llama block: four parts differ](figures/llama_block.svg)
# %% generated="overview"
# %% setup=True
import math
import time
from dataclasses import dataclass

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from concrete_steps import models, plot
from concrete_steps.evidence import difference, interval, seconds

# %% [markdown]
# **The rules** are those of 2.3. A part is a class: `nn.Module`, made from a `Config` alone, with exactly the
# parameters or submodules that its text names (name and shape); the checks set them. No buffers in the state dict
# (`persistent=False`), no biases, and all of it computed in the dtype of its weights. Everything else is yours.
# %%
@dataclass
class Config:
    """The sizes of a Llama; by default a tiny one."""

    d_model: int = 32  # width of the residual stream
    n_heads: int = 4  # of queries
    n_kv_heads: int = 2  # of keys and values; n_heads is a multiple of it
    d_head: int = 8  # even
    d_mlp: int = 64  # neurons in each MLP
    n_layers: int = 3
    d_vocab: int = 100
    eps: float = 1e-5  # inside RMSNorm's root
    theta: float = 10000.0  # sets how slowly the slowest pair turns


def weight(*shape: int) -> nn.Parameter:
    """A trainable tensor, small and random."""
    return nn.Parameter(0.02 * torch.randn(*shape))


torch.manual_seed(0)
SMOLLM2 = Config(
    d_model=576,
    n_heads=9,
    n_kv_heads=3,
    d_head=64,
    d_mlp=1536,
    n_layers=30,
    d_vocab=49152,
    theta=100000.0,
)
# %% [markdown]
# ## 1. RMSNorm
#
# LayerNorm subtracts the mean, divides by the deviation, multiplies by `w`, adds `b`. **RMSNorm** (Zhang and Sennrich
# 2019) keeps half of it: divide by the root mean square, multiply by `w`.
#
# $$y = \frac{x}{\sqrt{\frac{1}{n} \sum_i x_i^2 + \varepsilon}} \odot w$$
#
# Each position by itself, along the last axis; $n$ is d_model, $\varepsilon$ is `cfg.eps`; `w`, `[d_model]`, starts
# at 1.
# %%
v = torch.tensor([1.0, 2.0, 3.0, 6.0])
mean_square = (v**2).mean()
print("mean square:", mean_square.item())
print("RMSNorm:  ", [round(n, 2) for n in (v / mean_square.sqrt()).tolist()])
centred = v - v.mean()
centred = centred / centred.square().mean().sqrt()
print("LayerNorm:", [round(n, 2) for n in centred.tolist()])
# %% exercise="RMSNorm" points=2 difficulty=2 minutes=8
class RMSNorm(nn.Module):
    """Divides each position's vector by its root mean square. Parameter: w [d_model], all 1
    at first.
    """

    def __init__(self, cfg: Config):
        super().__init__()
        self.cfg = cfg
        ### BEGIN SOLUTION
        self.w = nn.Parameter(torch.ones(cfg.d_model))
        ### END SOLUTION

    def forward(
        self, x: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        ### BEGIN SOLUTION
        mean_square = x.square().mean(-1, keepdim=True)
        return x / (mean_square + self.cfg.eps).sqrt() * self.w
        ### END SOLUTION
# %% check="RMSNorm"
# %% [markdown]
# **Predict**: `y = RMSNorm(x)`, with `w` as it starts. LayerNorm maps `3 * x + 5` to where it maps `x`. And RMSNorm, up
# to `eps`? (a) to `y`, too; (b) to `3 * y + 5`; (c) to neither
# %% exercise="answer_shifted" points=1 difficulty=1 minutes=2
answer_shifted = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_shifted = "c"
### END SOLUTION
# %% check="answer_shifted"
# %% [markdown]
# **Predict**: how long is every vector after RMSNorm, with d_model 8? After LayerNorm, which also takes the mean off?
#
# <details><summary>Answer</summary>
#
# $\sqrt{8} = 2.83$, both: the mean of the squares is 1. RMSNorm throws away the length alone.
#
# </details>
# %% experiment=True
x = torch.randn(8)
variants = {"x": x, "3x": 3 * x, "x + 5": x + 5, "3x + 5": 3 * x + 5}
rms_norm, layer_norm = RMSNorm(Config(d_model=8)), nn.LayerNorm(8)
norms = {"RMSNorm": rms_norm, "LayerNorm": layer_norm}
after = {
    name: torch.stack([norm(given[None, None])[0, 0].detach() for given in variants.values()])
    for name, norm in norms.items()
}
for name, rows in after.items():
    for variant, row in zip(variants, rows, strict=True):
        print(
            f"{name:>9} of {variant:>6}: length {row.norm():.2f}, mean {row.mean():5.2f},"
            f" away from that of x {(row - rows[0]).norm():.2f}"
        )
plot.imshow(
    torch.stack(list(after.values())),
    facets=list(after),
    y=list(variants),
    x_label="dimension",
    y_label="vector",
    title="What the two norms leave",
)
# %% [markdown]
# RMSNorm rescales: but for `w`, the stream's direction reaches the next part as it is. LayerNorm hides one direction
# from every part, the mean; RMSNorm hides none. One trap less for interpretability.
#
# ## 2. Rotary embedding
#
# GPT-2 *adds* a row for each position. Llama adds nothing: it **turns** queries and keys (Su et al. 2021). A head's
# vector is cut into pairs of coordinates; at position $m$ pair $i$ is turned by the angle $m\,\omega_i$,
#
# $$\begin{pmatrix} a' \\ b' \end{pmatrix} = \begin{pmatrix} \cos m\omega_i & -\sin m\omega_i \\
# \sin m\omega_i & \cos m\omega_i \end{pmatrix} \begin{pmatrix} a \\ b \end{pmatrix}, \qquad
# \omega_i = \theta^{-2i/d_\text{head}}, \quad 0 \le i < d_\text{head}/2$$
#
# ![Which coordinates make a pair: halves, or neighbours](figures/rope_pairs.svg)
#
# Pair $i$ is coordinates $i$ and $i + d_\text{head}/2$, as in Hugging Face's Llama (left): the first halves hold the
# $a$, the second the $b$. Values are not turned.
# %%
angle = torch.tensor(math.pi / 2)  # a quarter turn
a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0])  # two pairs: (1, 0) and (0, 2)
turned = torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()])
print("first halves, then second:", [round(n, 2) + 0.0 for n in turned.tolist()])
# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The angles are a table, `[pos, d_head / 2]`: an outer product of positions and frequencies.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `x` is `[batch pos head d_head]`: the table needs an axis for the heads, `[:, None]`. `x.chunk(2, dim=-1)` gives the
# halves.
#
# </details>
# %% exercise="rope" points=3 difficulty=4 minutes=20
def rope(
    x: Float[Tensor, "batch pos head d_head"], positions: Int[Tensor, "pos"], theta: float
) -> Float[Tensor, "batch pos head d_head"]:
    """Queries or keys, each turned by the angles of its position; computed in x's dtype.

    Args:
        positions: where each entry of axis pos stands in the text; they need not start at 0.
    """
    ### BEGIN SOLUTION
    d_head = x.shape[-1]
    frequencies = theta ** (-torch.arange(0, d_head, 2, dtype=x.dtype, device=x.device) / d_head)
    angles = positions[:, None, None] * frequencies  # [pos head=1 d_head/2]
    cos, sin = angles.cos(), angles.sin()
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
    ### END SOLUTION
# %% check="rope"
# %% [markdown]
# **Predict**: a prompt stands at positions 0, 1, ...; then, alone, at 1000, 1001, ... What happens to the scores of its
# queries and keys?
# (a) they shrink with the position; (b) up to rounding they stay; (c) only the diagonal stays
# %% exercise="answer_moved" points=1 difficulty=2 minutes=3
answer_moved = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_moved = "b"
### END SOLUTION
# %% check="answer_moved"
# %% [markdown]
# **Predict**: one query and one key, all entries 1, further and further apart. Does their score fall with the
# distance? Faster with theta 100 or with theta 100,000?
#
# <details><summary>Answer</summary>
#
# It falls, with waves: each pair adds a cosine of its own frequency, and they fall out of step. Faster with 100, since
# its slow pairs are quicker. But this is said of equal vectors only: with a random query and key no distance is
# preferred, on average. A single such pair wobbles around a level of its own: its slow coordinates have hardly turned.
#
# </details>
# %% experiment=True
distances = torch.arange(0, 200)
ones = torch.ones(1, 1, 1, 64)


def scores_by_distance(query: Tensor, key: Tensor, theta: float) -> Float[Tensor, "distance"]:
    """The score of a query at each distance after one key, over the two lengths."""
    queries = rope(query.expand(1, len(distances), 1, -1), distances, theta)
    keys = rope(key, torch.tensor([0]), theta)
    return (queries * keys).sum(-1).flatten() / (query.norm() * key.norm())


same_texts = {}
for start in (0, 1000):
    torch.manual_seed(1)
    queries, keys = torch.randn(2, 1, 12, 1, 64).unbind(0)
    places = torch.arange(start, start + 12)
    queries, keys = rope(queries, places, 100000.0), rope(keys, places, 100000.0)
    same_texts[start] = einsum(queries, keys, "b query h d, b key h d -> query key")
moved = (same_texts[0] - same_texts[1000]).abs().max()
print(f"moved by 1000 positions, scores change by up to {moved:.0e}")
print(f"their size is about {same_texts[0].std():.0f}")
curves = {
    f"equal vectors, theta {theta:,}": scores_by_distance(ones, ones, theta)
    for theta in (100, 100000)
}
random = [scores_by_distance(*torch.randn(2, 1, 1, 1, 64), 100000) for _ in range(200)]
curves["one random pair, theta 100,000"] = random[0]
curves["200 random pairs, mean"] = torch.stack(random).mean(0)
plot.line(
    curves,
    x=distances,
    x_label="how far the key is behind the query",
    y_label="score / lengths",
    title="Distance, written as angles",
)
# %% [markdown]
# Turning the query by $m\omega$, the key by $n\omega$ leaves $(m - n)\,\omega$ in their product: the *distance*, not
# the place. Heads can look "three back" anywhere.
#
# ## 3. Two conventions, and why weights care
#
# The paper pairs *neighbours*: coordinates 0 and 1, 2 and 3 (right in the picture). So does llama.cpp for Llamas; its
# **GGUF** files carry models for laptops, this one too. Which coordinates are paired is arbitrary: a reordering of
# `W_Q`'s and `W_K`'s outputs turns one into the other. But weights are made for one of them, and no shape complains.
#
# A file holds `W_Q` as `[n_heads * d_head, d_model]`, a head after another. In each head row $2i$ must become row $i$,
# and row $2i + 1$ row $i + d_\text{head}/2$.
# %%
rows = torch.arange(8)[:, None]  # one head of 8 rows, in pairs: (0 1) (2 3) (4 5) (6 7)
print("in halves:", rows[torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])].flatten().tolist())
# %% [markdown]
# **Predict**: must `W_V` and `W_O` be reordered, too?
#
# <details><summary>Answer</summary>
#
# No: values are never turned. And what queries and keys share, a reordering of both, cancels in their product.
#
# </details>
# %% exercise="pairs_to_halves" points=2 difficulty=3 minutes=10
def pairs_to_halves(
    weight: Float[Tensor, "n_heads*d_head d_model"], n_heads: int
) -> Float[Tensor, "n_heads*d_head d_model"]:
    """The rows of W_Q or W_K, made for pairs of neighbours, in the order that `rope`
    expects.
    """
    ### BEGIN SOLUTION
    return rearrange(weight, "(head pair member) d -> (head member pair) d", head=n_heads, member=2)
    ### END SOLUTION
# %% check="pairs_to_halves"
# %% [markdown]
# ## 4. Grouped queries
#
# When a model writes, the keys and values of all earlier positions are kept, and read for every new token. To keep
# less, **grouped-query attention** (Ainslie et al. 2023) has fewer heads of keys and values than of queries: ours
# has 3 and 9. The first 3 query heads read key-value head 0, the next 3 head 1, the last 3 head 2.
#
# $$z_h = \text{softmax}\!\left(\frac{Q_h K_{g(h)}^\top}{\sqrt{d_\text{head}}} + \text{mask}\right) V_{g(h)}, \qquad
# g(h) = \left\lfloor \frac{h}{n_\text{heads} / n_\text{kv heads}} \right\rfloor$$
#
# The mask is 0 where a query may read a key, and $-\infty$ where not.
# There may be **more keys than queries**: then the queries are the *last* positions of the text, and each reads all
# keys up to its own.
# %%
n_query, n_key = 2, 5  # keys 0, 1, 2 are of the past; the queries stand at positions 3 and 4
own = torch.arange(n_key - n_query, n_key)
print("may read:")
print((torch.arange(n_key) <= own[:, None]).int())
# %% [markdown]
# **Predict**: with 9 query heads, how much of what is kept is left with 3 heads of keys and values? With 1?
#
# <details><summary>Answer</summary>
#
# A third, and a ninth ("multi-query"). In `W_K` and `W_V`, too. Nothing changes in queries, nor in `W_O`.
#
# </details>
# <details><summary>Hint</summary>
#
# Which of these gives 0 0 0 1 1 1: `tensor.repeat`, or `tensor.repeat_interleave`? The mask's first row is no longer
# one key long: `triu` takes a diagonal.
#
# </details>
# %% exercise="grouped_query_attention" points=4 difficulty=4 minutes=25
def grouped_query_attention(
    q: Float[Tensor, "batch query head d_head"],
    k: Float[Tensor, "batch key kv_head d_head"],
    v: Float[Tensor, "batch key kv_head d_head"],
) -> Float[Tensor, "batch query head d_head"]:
    """z: for each query head the pattern's mean of its group's values. Causal; the queries
    are the last positions of the keys.
    """
    ### BEGIN SOLUTION
    group = q.shape[2] // k.shape[2]
    k, v = (repeat(x, "batch key kv d_head -> batch key (kv group) d_head", group=group) for x in (k, v))
    scores = einsum(q, k, "batch query head d_head, batch key head d_head -> batch head query key")
    n_query, n_key = scores.shape[-2:]
    later = torch.ones(n_query, n_key, dtype=torch.bool, device=q.device).triu(1 + n_key - n_query)
    pattern = (scores / math.sqrt(q.shape[-1])).masked_fill(later, -torch.inf).softmax(-1)
    return einsum(pattern, v, "batch head query key, batch key head d_head -> batch query head d_head")
    ### END SOLUTION
# %% check="grouped_query_attention"
# %% [markdown]
# ## 5. A cache
#
# To write token 101, a model needs the queries of token 100 alone, and the keys and values of all. A layer's **cache**
# keeps those, as in 2.4, but one for each layer, and positions on axis 1. Keys go in as they are read: already turned
# by `rope`.
#
# <details><summary>Hint</summary>
#
# At first there is nothing to join to: `None`, or a list that is joined when it is asked for. Which axis holds the
# positions?
#
# </details>
# %% exercise="LayerCache" points=2 difficulty=2 minutes=10
class LayerCache:
    """Keys and values of one layer, of all positions that it has seen; empty when it is made
    by LayerCache().
    """

    def __init__(self):
        ### BEGIN SOLUTION
        self.kept = None
        ### END SOLUTION

    def __len__(self) -> int:
        """How many positions it holds."""
        ### BEGIN SOLUTION
        return 0 if self.kept is None else self.kept[0].shape[1]
        ### END SOLUTION

    def extend(
        self,
        k: Float[Tensor, "batch pos kv_head d_head"],
        v: Float[Tensor, "batch pos kv_head d_head"],
    ) -> tuple[Tensor, Tensor]:
        """Keeps the new keys and values behind the old ones, and returns all keys and all
        values, both [batch key kv_head d_head].
        """
        ### BEGIN SOLUTION
        old = self.kept or (k[:, :0], v[:, :0])
        self.kept = torch.cat([old[0], k], dim=1), torch.cat([old[1], v], dim=1)
        return self.kept
        ### END SOLUTION
# %% check="LayerCache"
# %% [markdown]
# ## 6. Attention, with a past
#
# Now the layer: queries, keys and values by `W_Q`, `W_K`, `W_V`; `rope` on the first two; the cache, if there is one;
# `grouped_query_attention`; then each head writes `z @ W_O[head]`, and all are summed.
#
# **Predict**: the cache holds 100 positions and one token comes. At which position do its query and its key stand? What
# if you forget?
#
# <details><summary>Answer</summary>
#
# At 100: `len(cache)`, asked *before* the new key is in. At 0 the new token would believe that its own past lies in the
# future: distances come out negative.
#
# </details>
# %% exercise="LlamaAttention" points=4 difficulty=4 minutes=25
class LlamaAttention(nn.Module):
    """Causal attention with rotary embedding and grouped queries. Parameters: W_Q
    [n_heads d_model d_head], W_K and W_V [n_kv_heads d_model d_head], W_O [n_heads d_head
    d_model].
    """

    def __init__(self, cfg: Config):
        super().__init__()
        self.cfg = cfg
        ### BEGIN SOLUTION
        self.W_Q = weight(cfg.n_heads, cfg.d_model, cfg.d_head)
        self.W_K = weight(cfg.n_kv_heads, cfg.d_model, cfg.d_head)
        self.W_V = weight(cfg.n_kv_heads, cfg.d_model, cfg.d_head)
        self.W_O = weight(cfg.n_heads, cfg.d_head, cfg.d_model)
        ### END SOLUTION

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], cache: LayerCache | None = None
    ) -> Float[Tensor, "batch pos d_model"]:
        """Without a cache, x is the whole text; with one, what follows the positions that it
        holds, and the cache is extended.
        """
        ### BEGIN SOLUTION
        start = 0 if cache is None else len(cache)
        positions = torch.arange(start, start + x.shape[1], device=x.device)
        # A product for each head; einsum would first copy the weights into another order.
        q, k, v = ((x[:, None] @ W).transpose(1, 2) for W in (self.W_Q, self.W_K, self.W_V))
        q, k = rope(q, positions, self.cfg.theta), rope(k, positions, self.cfg.theta)
        if cache is not None:
            k, v = cache.extend(k, v)
        z = grouped_query_attention(q, k, v)
        return einsum(z, self.W_O, "batch pos head d_head, head d_head d_model -> batch pos d_model")
        ### END SOLUTION
# %% check="LlamaAttention"
# %% [markdown]
# ## 7. SwiGLU
#
# GPT-2's neurons: one product, a bend. Llama's have two products, and one **gates** the other (Shazeer 2020):
#
# $$\text{MLP}(x) = \big(\text{SiLU}(x W_\text{gate}) \odot x W_\text{up}\big)\, W_\text{down}, \qquad
# \text{SiLU}(a) = a \cdot \sigma(a)$$
#
# $\sigma$ is the sigmoid. Three matrices, no biases.
# %%
grid = torch.linspace(-6, 6, 121)
silu = grid * grid.sigmoid()
plot.line(
    {
        "gate alone: SiLU": silu,
        "up = 2": 2 * silu,
        "up = -1": -silu,
        "GPT-2's GELU": nn.functional.gelu(grid, approximate="tanh"),
    },
    x=grid,
    x_label="x @ W_gate",
    y_label="neuron",
    title="One product opens, the other one says how much",
)
# %% [markdown]
# **Predict**: a GELU neuron is never far below 0. And a SwiGLU neuron?
#
# <details><summary>Answer</summary>
#
# It can be anything: where the gate is open, `up` sets size *and sign*. "This neuron is on" needs a second look.
#
# </details>
# %% exercise="SwiGLU" points=2 difficulty=2 minutes=8
class SwiGLU(nn.Module):
    """Parameters: W_gate and W_up [d_model d_mlp], W_down [d_mlp d_model]."""

    def __init__(self, cfg: Config):
        super().__init__()
        ### BEGIN SOLUTION
        self.W_gate, self.W_up = weight(cfg.d_model, cfg.d_mlp), weight(cfg.d_model, cfg.d_mlp)
        self.W_down = weight(cfg.d_mlp, cfg.d_model)
        ### END SOLUTION

    def forward(
        self, x: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        ### BEGIN SOLUTION
        gate = x @ self.W_gate
        return (gate * gate.sigmoid() * (x @ self.W_up)) @ self.W_down
        ### END SOLUTION
# %% check="SwiGLU"
# %% [markdown]
# ## 8. The block, and the whole
#
# The block reads and adds as GPT-2's does: attention reads through `ln1`, the MLP through `ln2`. It hands the cache on.
# %% exercise="LlamaBlock" points=2 difficulty=2 minutes=6
class LlamaBlock(nn.Module):
    """One layer. Submodules: ln1 and ln2 (RMSNorm), attn, mlp; no other parameters."""

    def __init__(self, cfg: Config):
        super().__init__()
        ### BEGIN SOLUTION
        self.ln1, self.attn = RMSNorm(cfg), LlamaAttention(cfg)
        self.ln2, self.mlp = RMSNorm(cfg), SwiGLU(cfg)
        ### END SOLUTION

    def forward(
        self, resid_pre: Float[Tensor, "batch pos d_model"], cache: LayerCache | None = None
    ) -> Float[Tensor, "batch pos d_model"]:
        ### BEGIN SOLUTION
        resid_mid = resid_pre + self.attn(self.ln1(resid_pre), cache)
        return resid_mid + self.mlp(self.ln2(resid_mid))
        ### END SOLUTION
# %% check="LlamaBlock"
# %% [markdown]
# The whole: a token's row of `W_E`; the blocks; `ln_final`; then the logits. SmolLM2 is **tied**: the logits are
# products with the rows of the *same* `W_E`. No positions are added.
#
# With a cache for each layer, `tokens` are those that the caches have not seen yet.
# %%
def new_caches(cfg: Config) -> list[LayerCache]:
    """An empty cache for each layer."""
    return [LayerCache() for _ in range(cfg.n_layers)]


# %% exercise="Llama" points=3 difficulty=3 minutes=12
class Llama(nn.Module):
    """From tokens to logits. Parameter: W_E [d_vocab d_model]. Submodules: blocks (n_layers
    of them), ln_final.
    """

    def __init__(self, cfg: Config):
        super().__init__()
        ### BEGIN SOLUTION
        self.W_E = weight(cfg.d_vocab, cfg.d_model)
        self.blocks = nn.ModuleList(LlamaBlock(cfg) for _ in range(cfg.n_layers))
        self.ln_final = RMSNorm(cfg)
        ### END SOLUTION

    def forward(
        self, tokens: Int[Tensor, "batch pos"], caches: list[LayerCache] | None = None
    ) -> Float[Tensor, "batch pos d_vocab"]:
        ### BEGIN SOLUTION
        resid = self.W_E[tokens]
        for layer, block in enumerate(self.blocks):
            resid = block(resid, caches[layer] if caches else None)
        return self.ln_final(resid) @ self.W_E.T
        ### END SOLUTION
# %% check="Llama"
# %% [markdown]
# **Predict**: a text in one piece, or token by token with caches: how far apart are the logits of a fresh tiny model?
# And if the caches forget that the text has begun, so that every token stands at position 0?
#
# <details><summary>Answer</summary>
#
# About 1e-6, rounding. Without positions they are off by about as much as they spread.
#
# </details>
# %% experiment=True
class Forgetful(LayerCache):
    """Keeps everything, and says that it holds nothing."""

    def __len__(self) -> int:
        return 0


torch.manual_seed(0)
fresh = Llama(Config()).eval()
for parameter in fresh.parameters():
    if parameter.ndim > 1:  # louder than at the start, so that attention chooses
        parameter.data *= 10
tokens = torch.randint(0, 100, (1, 20))
with torch.no_grad():
    whole = fresh(tokens)
    for kind in (LayerCache, Forgetful):
        caches = [kind() for _ in fresh.blocks]
        pieces = torch.cat([fresh(tokens[:, i : i + 1], caches) for i in range(20)], dim=1)
        apart = pieces - whole
        print(f"{kind.__name__:>10}: logits differ by {apart.std():.1e}", end=", ")
        print(f"at most {apart.abs().max():.1e}")
print(f"spread of the logits: {whole.std():.2f}")
# %% [markdown]
# ## 9. Real weights
#
# Hugging Face's names. `E` is d_model, `i` the layer; heads lie in an axis one after another, head 0 first:
#
# | theirs | shape | ours |
# |---|---|---|
# | `model.embed_tokens.weight` | `[d_vocab E]` | `W_E` |
# | `model.layers.i.input_layernorm.weight` | `[E]` | `blocks.i.ln1.w` |
# | `model.layers.i.self_attn.q_proj.weight` | `[n_heads*d_head E]` | `blocks.i.attn.W_Q` |
# | `model.layers.i.self_attn.k_proj.weight` | `[n_kv_heads*d_head E]` | `blocks.i.attn.W_K` |
# | `model.layers.i.self_attn.v_proj.weight` | `[n_kv_heads*d_head E]` | `blocks.i.attn.W_V` |
# | `model.layers.i.self_attn.o_proj.weight` | `[E n_heads*d_head]` | `blocks.i.attn.W_O` |
# | `model.layers.i.post_attention_layernorm.weight` | `[E]` | `blocks.i.ln2.w` |
# | `model.layers.i.mlp.gate_proj.weight` | `[d_mlp E]` | `blocks.i.mlp.W_gate` |
# | `model.layers.i.mlp.up_proj.weight` | `[d_mlp E]` | `blocks.i.mlp.W_up` |
# | `model.layers.i.mlp.down_proj.weight` | `[E d_mlp]` | `blocks.i.mlp.W_down` |
# | `model.norm.weight` | `[E]` | `ln_final.w` |
#
# Their layers are `nn.Linear`: stored `[out in]`, **each is transposed** (GPT-2's were not). Their dict also holds
# `lm_head.weight`, the same numbers as `W_E`: tied. Rows of `q_proj` and `k_proj` lie in halves already.
# %%
theirs = torch.arange(12).reshape(4, 3)  # a q_proj for 2 heads of 2, d_model 3: [out in]
print("head 0 [d_model d_head]:", theirs[:2].T.tolist())
# %% [markdown]
# **Predict**: which two of SmolLM2's matrices could you forget to transpose, and no shape would complain?
#
# <details><summary>Answer</summary>
#
# `q_proj` and `o_proj`: 9 heads of 64 are 576, and d_model is 576.
#
# </details>
# <details><summary>Hint</summary>
#
# For `W_Q` the *first* axis of `q_proj` holds the heads; for `W_O` it is the *last* of `o_proj`. `rearrange` cuts an
# axis and transposes at once.
#
# </details>
# %% exercise="load_smollm2" points=4 difficulty=4 minutes=25
def load_smollm2(theirs: dict[str, Tensor], cfg: Config) -> dict[str, Tensor]:
    """The weights of a tied Hugging Face LlamaForCausalLM under our names, ready for
    Llama(cfg).load_state_dict(...).

    Args:
        theirs: its state dict; it stays as it is.
    """
    ### BEGIN SOLUTION
    ours = {"W_E": theirs["model.embed_tokens.weight"], "ln_final.w": theirs["model.norm.weight"]}
    heads = {"q": cfg.n_heads, "k": cfg.n_kv_heads, "v": cfg.n_kv_heads}
    for i in range(cfg.n_layers):
        mine, its = f"blocks.{i}", f"model.layers.{i}"
        ours[f"{mine}.ln1.w"] = theirs[f"{its}.input_layernorm.weight"]
        ours[f"{mine}.ln2.w"] = theirs[f"{its}.post_attention_layernorm.weight"]
        for name, n in heads.items():
            w = theirs[f"{its}.self_attn.{name}_proj.weight"]
            ours[f"{mine}.attn.W_{name.upper()}"] = rearrange(w, "(head d_head) d -> head d d_head", head=n)
        w_out = theirs[f"{its}.self_attn.o_proj.weight"]
        ours[f"{mine}.attn.W_O"] = rearrange(w_out, "d (head d_head) -> head d_head d", head=cfg.n_heads)
        for name in ("gate", "up", "down"):
            ours[f"{mine}.mlp.W_{name}"] = theirs[f"{its}.mlp.{name}_proj.weight"].T
    return ours
    ### END SOLUTION
# %% check="load_smollm2"
# %% [markdown]
# ## 10. SmolLM2, in your class
#
# 134.5 million numbers, unpacked from 4-bit (Q4_1) weights: your lines against Hugging Face's, on the same numbers.
#
# **Predict**: how far apart are the logits: about 1e-6, 1e-4 or 1e-2? (They spread over several units, and 30 layers
# pass on each other's rounding.)
#
# <details><summary>Answer</summary>
#
# Of the order of 1e-4, or a little below. The same sums in another order, thirty times over.
#
# </details>
# %% experiment=True
reference, tokenizer = models.smollm2_hf()


def my_llama(theirs: dict[str, Tensor], cfg: Config) -> Llama:
    """Your model with their weights, in evaluation mode."""
    model = Llama(cfg).eval().requires_grad_(False)
    model.load_state_dict(load_smollm2(theirs, cfg))
    return model


smol = my_llama(reference.state_dict(), SMOLLM2)
text = "The Eiffel Tower stands in the city of"
tokens = tokenizer("<|endoftext|>" + text, return_tensors="pt").input_ids
with torch.no_grad():
    mine, its = smol(tokens), reference(tokens).logits
print(f"parameters: {sum(p.numel() for p in smol.parameters()):,}")
print(f"largest difference of logits: {(mine - its).abs().max():.1e}; spread {its.std():.2f}")
likeliest = mine[0, -1].softmax(-1).topk(4)
pairs = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
print(text, {tokenizer.decode([token]): round(p, 2) for token, p in pairs})
# %% [markdown]
# ## 11. It talks
#
# SmolLM2-135M-*Instruct* was trained on conversations, marked by `<|im_start|>` and `<|im_end|>`. Greedy: always the
# likeliest token. Each step hands your model one token, and your caches the past.
# %% experiment=True
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
END = tokenizer.convert_tokens_to_ids("<|im_end|>")


@torch.no_grad()
def say(question: str, most: int = 40, temperature: float = 0.0) -> None:
    """Prints the answer of your model, a token at a time."""
    given = tokenizer(CHAT.format(question), return_tensors="pt").input_ids
    caches = new_caches(SMOLLM2)
    said = []
    print(f"{question}\n  ", end="")
    while len(said) < most:
        logits = smol(given, caches)[0, -1]
        drawn = (logits / max(temperature, 1e-6)).softmax(-1).multinomial(1)
        given = (logits.argmax(keepdim=True) if temperature == 0 else drawn)[None]
        said.append(given.item())
        if said[-1] == END:
            break
        print(tokenizer.decode(said[-1:]), end="", flush=True)
    print("\n")


for question in ("What is the capital of France?", "Write one sentence about the sea."):
    say(question)
# %% [markdown]
# Every one of those words went through 30 layers that you wrote. Ask it something else:
# `say("...", most=100, temperature=0.7)`. It is small: do not take its word for anything.
#
# ## 12. How fast, and why not faster
#
# **Predict**: one text of a hundred tokens goes on, a token at a time, with the cache. What takes the time?
# (a) reading the weights; (b) multiplying by them; (c) reading the cache
# %% exercise="answer_limit" points=1 difficulty=2 minutes=4
answer_limit = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_limit = "a"
### END SOLUTION
# %% check="answer_limit"
# %% [markdown]
# Every token needs every weight once: 4 bytes, and only two operations, a multiplication and an addition. So the
# machine's **bandwidth** sets a limit: bytes read a second, over bytes of weights. Beside it: the products with all
# weights, each once, and nothing else.
#
# **Predict**: without the cache the whole text is computed again for each token. How much slower, at 60 tokens: not at
# all, some 5 times, or 60 times?
#
# <details><summary>Answer</summary>
#
# Some 5 times, more or less by machine: 60 times the operations, but the weights are read once for all 60 positions.
#
# </details>
#
# (The next cell takes half a minute, or some on a busy machine.)
# %% experiment=True
@torch.no_grad()
def step_seconds(step, prompt: Int[Tensor, "1 pos"], n: int, cached: bool) -> float:
    """The quickest of n greedy steps after the prompt, whose own reading is not counted."""
    tokens, times = prompt, []
    logits, state = step(prompt, None)
    for _ in range(n):
        new = logits[:, -1:].argmax(-1)
        tokens = torch.cat([tokens, new], dim=1)
        began = time.perf_counter()
        logits, state = step(new if cached else tokens, state)
        times.append(time.perf_counter() - began)
    return min(times)


def my_step(given: Tensor, caches: list[LayerCache] | None) -> tuple:
    """Logits, and the state with which it goes on."""
    caches = caches or new_caches(SMOLLM2)
    return smol(given, caches), caches


def its_step(given: Tensor, past) -> tuple:
    out = reference(given, past_key_values=past, use_cache=True)
    return out.logits, out.past_key_values


steps = {
    "mine, with cache": my_step,
    "Hugging Face's, with cache": its_step,
    "mine, without": lambda given, _: (smol(given), None),
    "Hugging Face's, without": lambda given, _: (
        reference(given, use_cache=False).logits,
        None,
    ),
}
prompt = CHAT.format("Tell me a long story. " * 8)
prompt = tokenizer(prompt, return_tensors="pt").input_ids
big = torch.ones(2**13, 2**13)  # 268 MB, more than a CPU's caches hold
narrow = big.flatten()[: 2**26 // 576 * 576].view(-1, 576)  # the same, in shorter rows
vector, square = torch.ones(2**13), torch.ones(2**11, 2**11)
ones = {w.shape[-1]: torch.ones(w.shape[-1]) for w in smol.parameters()}
parts = {
    "products with the weights": lambda: [w @ ones[w.shape[-1]] for w in smol.parameters()],
    "268 MB read": lambda: big @ vector,
    "in rows of 576": lambda: narrow @ ones[576],
    "2**34 operations": lambda: square @ square,
}
times = dict.fromkeys([*steps, *parts], math.inf)
for _ in range(3):  # by turns, and the quickest: another program may be busy
    for name, step in steps.items():
        cached = "with cache" in name
        took = step_seconds(step, prompt, 8 if cached else 2, cached)
        times[name] = min(times[name], took)
    for name, part in parts.items():
        times[name] = min(times[name], *(seconds(part) for _ in range(4)))
bandwidth = big.numel() * 4 / times["268 MB read"]
operations = 2**34 / times["2**34 operations"]
n_weights = sum(p.numel() for p in smol.parameters())
n_cached = prompt.shape[1] * SMOLLM2.n_layers * 2 * SMOLLM2.n_kv_heads * SMOLLM2.d_head
print(f"{prompt.shape[1]} tokens before, {torch.get_num_threads()} thread(s)")
print(f"weights {4 * n_weights / 1e6:.0f} MB, cache {4 * n_cached / 1e6:.1f} MB")
print(f"here {operations / 1e9:.0f} billion operations/s", end="; ")
print(f"{bandwidth / 1e9:.1f} GB/s", end=", ")
print(f"{narrow.numel() * 4e-9 / times['in rows of 576']:.1f} GB/s in rows of 576 numbers")
speeds = {name: 1 / times[name] for name in [*steps, "products with the weights"]}
speeds["limit: bytes of weights"] = bandwidth / (4 * n_weights)
speeds["limit: operations"] = operations / (2 * n_weights)
for name, speed in speeds.items():
    print(f"{name:>27}: {speed:6.1f} tokens a second")
faster = speeds["mine, with cache"] / speeds["mine, without"]
print(f"your cache makes it {faster:.1f} times as fast")
share = times["products with the weights"] / times["mine, with cache"]
print(f"products with the weights are {share:.0%} of your step")
del big, narrow
shown = [name for name in speeds if name != "limit: operations"]
plot.bar(
    [speeds[name] for name in shown],
    x=shown,
    x_label="who writes",
    y_label="tokens a second",
    title="Your SmolLM2 on this machine",
)
# %% [markdown]
# Of the two limits that of the bytes is by far the lower, and most of a step is products with the weights. Why not all
# of the limit? Memory is read less quickly in short rows than in the long ones that measured the bandwidth; and between
# the products stand norms, `rope`, attention. So 4-bit weights pay: this model's packed file takes 93 MB, ours 538. And
# servers answer many readers with one reading of the weights.
#
# ## 13. The wrong convention, measured
#
# A GGUF file's rows lie in pairs of neighbours. What if nobody reorders them? We put our weights back into that
# order.
#
# **Predict**: an error, an even guess, or something between? Better or worse than each head's rows in *random* order
# (the same for queries and keys)?
#
# <details><summary>Answer</summary>
#
# No error, and something between: a common order cancels in a product, but `rope` now turns coordinates together that
# are no pair. At distance 0 the scores are right, elsewhere garbled. The file's order does less harm than chance.
#
# </details>
# %% experiment=True
sentences = [
    "The river rose in the night, and by morning the bridge was under water.",
    "She opened the old box and found a letter that her mother had written in 1962.",
    "Plants take in light, water and carbon dioxide, and they give off oxygen.",
    "The committee will meet on Monday to discuss the budget for the next year.",
    "He forgot his umbrella at home, so he was wet when he arrived at the office.",
    "To make bread you need flour, water, salt and yeast, and a little patience.",
    "The train to the coast leaves at nine and takes about three hours.",
    "Most birds build their nests in spring, when there is enough food for the young.",
]
rows_of = [tokenizer("<|endoftext|>" + s, return_tensors="pt").input_ids for s in sentences]


@torch.no_grad()
def losses(model: Llama) -> list[float]:
    """Nats per token on each sentence."""
    found = []
    for row in rows_of:
        log_probs = model(row)[0, :-1].log_softmax(-1)
        found.append(-log_probs.gather(-1, row[0, 1:, None]).mean().item())
    return found


def halves_to_pairs(weight: Tensor, n_heads: int) -> Tensor:
    """The file's order: what pairs_to_halves undoes."""
    return rearrange(
        weight, "(head member pair) d -> (head pair member) d", head=n_heads, member=2
    )


def reordered(order) -> Llama:
    """`smol` with order(weight, n_heads) for each q_proj and k_proj."""
    theirs = dict(reference.state_dict())
    for name, w in theirs.items():
        if "q_proj" in name or "k_proj" in name:
            theirs[name] = order(w, 9 if "q_proj" in name else 3)
    smol.load_state_dict(load_smollm2(theirs, SMOLLM2))
    return smol


def in_random_order(seed: int):
    """Each head's rows by the same draw, in all layers."""
    drawn = torch.randperm(64, generator=torch.Generator().manual_seed(seed))
    return lambda w, n_heads: w.unflatten(0, (n_heads, 64))[:, drawn].flatten(0, 1)


orders = {
    "right": lambda w, n_heads: w,
    "file's order": halves_to_pairs,
    "mended": lambda w, n_heads: pairs_to_halves(halves_to_pairs(w, n_heads), n_heads),
    **{f"random {seed}": in_random_order(seed) for seed in range(3)},
}
found = {}
for name, order in orders.items():
    found[name] = losses(reordered(order))
    print(f"{name:>14}: {interval(found[name]):.2f} nats a token")
print(f"an even guess: {math.log(SMOLLM2.d_vocab):.2f}")
for seed in range(3):
    better = difference(found[f"random {seed}"], found["file's order"], paired=True)
    print(f"random {seed} costs more than the file's order by {better:.2f}")
for name in ("right", "file's order"):
    reordered(orders[name])
    say("What is the capital of France?", most=12)
reordered(orders["right"])
plot.bar(
    [sum(values) / len(values) for values in found.values()],
    x=list(found),
    x_label="order of the rows of W_Q and W_K",
    y_label="nats per token",
    title="What a convention is worth",
)
# %% [markdown]
# No shape and no error tells: only a loss that you know, or a reference's logits. The wrong model still makes words,
# and a quick look may let it pass. (Intervals are over sentences. One model; why the file's order is kinder than
# chance, these numbers do not say.)
#
# ## Bonus (not graded)
#
# 1. `grouped_query_attention` by `scaled_dot_product_attention(..., enable_gqa=True)`: how much faster at 60 tokens, at
#    1000?
# 2. Raise `theta` to 1,000,000 without training: does the loss change on short texts, on long ones?
# 3. Keep the weights in bfloat16 (`smol.bfloat16()`): half the bytes. Faster on your CPU? How far are the logits?
# %% [markdown]
# ## Recap
#
# | confusion | what holds |
# |---|---|
# | "RMSNorm is LayerNorm without `b`" | it does not subtract the mean, either |
# | "RoPE adds positions to the stream" | it turns queries and keys; nothing is added to the stream |
# | "The weights fit, so they are right" | order of rows, square transposes: all run |
# | "9 heads share 3 keys, so there are 3 patterns" | each query head has its own queries: 9 patterns |
# | "The cache changes the output" | up to rounding it gives the same logits |
#
# Read on: Touvron et al., *LLaMA* (2023); Su et al., *RoFormer* (2021); Shazeer, *GLU Variants Improve Transformer*
# (2020); Ainslie et al., *GQA* (2023); Zhang and Sennrich, *Root Mean Square Layer Normalization* (2019); Ben Allal et
# al., *SmolLM2* (2025).
# Next: **3.2 Attention heads and induction**.
