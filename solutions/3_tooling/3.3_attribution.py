# %% [markdown]
# # 3.3 Logit attribution and lenses
#
# A transformer's parts do not overwrite each other: each **adds** to the residual stream, and the unembedding reads the
# sum. So a logit is a sum, too, with one term for each part: **direct logit attribution**. And the stream can be read
# before it is finished: the **logit lens**.
#
# ![Each part adds to the stream; read along a direction, the sum is a sum of terms](figures/attribution.svg)
#
# Both are cheap, exact in their way, and misread more than most tools. You will make the sum come out, find the heads
# and neurons that write an answer, see what the sum leaves out, and read a model's middle layers.
# %% generated="overview"
# %% setup=True
from collections import Counter
from pydoc_data.topics import topics
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens import utilities as utils
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import corpus, evidence, facts, models, plot, wired

Head = tuple[int, int]  # (layer, head)
Place = tuple[int, int]  # (text, position)
Parts = dict[str, Float[Tensor, "row d_model"]]  # what each part wrote, by its name
# %% [markdown]
# ## 1. Who wrote what
#
# The behaviour: *The capital of France is* ... The right token is the country's capital, the wrong one that of the row
# before. Half of the countries serve to look, the other half to test what was found.
# %%
smol = models.smollm2()
N_LAYERS, N_HEADS = smol.cfg.n_layers, smol.cfg.n_heads
ONE_TOKEN = [
    (country, capital)
    for country, capital in facts.pairs("capitals")
    if smol.to_tokens(" " + capital, prepend_bos=False).shape[1] == 1
]


def capital_rows(couples: list[tuple[str, str]]):
    """Prompts [row pos], and the right and the wrong token of each [row]."""
    tokens = smol.to_tokens([f"The capital of {country} is" for country, _ in couples])
    right = torch.tensor([smol.to_single_token(" " + capital) for _, capital in couples])
    return tokens, right, right.roll(1)


prompts, right, wrong = capital_rows(ONE_TOKEN[::2])  # to search on
fresh = capital_rows(ONE_TOKEN[1::2])  # to test on


def gap_of(
    logits: Float[Tensor, "row d_vocab"], right: Int[Tensor, "row"], wrong: Int[Tensor, "row"]
) -> Float[Tensor, "row"]:
    rows = torch.arange(len(right))
    return logits[rows, right] - logits[rows, wrong]


with torch.no_grad():
    answers = smol(fresh[0], logits_to_keep=1)[:, -1]
first_guess = answers.argmax(-1)
n_best = (first_guess == fresh[1]).sum()
fresh_gap = gap_of(answers, *fresh[1:])
print(smol.to_str_tokens(prompts[0]), "->", smol.to_string(right[:1]))
print(f"the capital is the best of 49,152 tokens in {n_best} of 16 fresh prompts;")
print(f"right less wrong logit: {evidence.interval(fresh_gap):.2f} nats")
# %% [markdown]
# The model has the behaviour. Now take its last stream apart. What adds to the stream: the embedding, positions where
# a model embeds them (GPT-2 does; SmolLM2 turns queries and keys instead), and in each layer attention and MLP.
#
# <details><summary>Hint</summary>
#
# `run_with_cache` with a `names_filter`; then `cache["attn_out", layer]`, `cache["mlp_out", layer]`. What a model lacks
# is not in its cache: `"hook_pos_embed" in cache`. Not `resid_pre`, `resid_mid` or `resid_post`: those are sums.
#
# </details>
# %% exercise="residual_decomposition" points=2 difficulty=3 minutes=12
def residual_decomposition(model: TransformerBridge, tokens: Int[Tensor, "row pos"]) -> Parts:
    """What each part of the model wrote to the residual stream at the last position.

    Names: "embed", "pos_embed", "0_attn_out", "0_mlp_out", "1_attn_out", ...; a part that
    the model lacks has no entry. They add up to the stream that the last norm reads. No
    gradient is kept; this holds for all functions below.
    """
    ### BEGIN SOLUTION
    hooks = {"embed": "hook_embed", "pos_embed": "hook_pos_embed"}
    for layer in range(model.cfg.n_layers):
        for part in ("attn_out", "mlp_out"):
            hooks[f"{layer}_{part}"] = utils.get_act_name(part, layer)
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: name in hooks.values())
    return {name: cache[hook][:, -1] for name, hook in hooks.items() if hook in cache}
    ### END SOLUTION
# %% check="residual_decomposition"
# %% experiment=True
parts = residual_decomposition(smol, prompts)
with torch.no_grad():
    whole_logits, cache = smol.run_with_cache(
        prompts, names_filter=utils.get_act_name("resid_post", N_LAYERS - 1), logits_to_keep=1
    )
stream, whole_gap = cache["resid_post", -1][:, -1], gap_of(whole_logits[:, -1], right, wrong)
off, size = (sum(parts.values()) - stream).abs().max(), stream.norm(dim=1).mean()
print(f"{len(parts)} parts; their sum is off by {off:.4f} from a stream of norm {size:.0f}")
# %% [markdown]
# ## 2. The sum that does not come out
#
# A term for each part: its dot product with the difference of two columns of the unembedding, `W_U[:, right]` less
# `W_U[:, wrong]`. But between the stream and the unembedding stands the **last norm**, which divides by a scale:
#
# $$\text{RMSNorm}(x) = \frac{x}{\sqrt{\overline{x^2} + \epsilon}} \odot w, \qquad \text{LayerNorm}(x) = \frac{x -
# \bar x}{\sqrt{\overline{(x - \bar x)^2} + \epsilon}} \odot w + b$$
#
# The scale is one number a row; *freeze* it at what the whole stream has, and the rest is linear.
#
# **Predict**: we divide each part by the frozen scale, and leave the norm's weights $w$ out. Does the sum of all terms
# miss the logit difference by a few percent, or by a half?
#
# <details><summary>Answer</summary>
#
# By about a half, and nothing warns you: the terms look as plausible as the right ones.
#
# </details>
# %%
class Readout(NamedTuple):
    """How a model reads its last stream: logits = stream / scale @ W + c."""

    W: Float[Tensor, "d_model d_vocab"]
    c: Float[Tensor, "d_vocab"]


def is_centred(model: TransformerBridge) -> bool:
    """LayerNorm subtracts the mean first, RMSNorm does not."""
    return model.cfg.normalization_type == "LN"


def final_scale(
    model: TransformerBridge, stream: Float[Tensor, "*more d_model"]
) -> Float[Tensor, "*more 1"]:
    """What the last norm divides by, for this stream."""
    x = stream - stream.mean(-1, keepdim=True) if is_centred(model) else stream
    return (x.square().mean(-1, keepdim=True) + model.cfg.eps).sqrt()
# %% experiment=True
raw = (smol.W_U[:, right] - smol.W_U[:, wrong]).T.detach() / final_scale(smol, stream)
raw_sum = sum((part * raw).sum(1) for part in parts.values())
print(f"sum of raw terms {raw_sum.mean():.2f}, true difference {whole_gap.mean():.2f}")
with torch.no_grad():
    _, whole_cache = smol.run_with_cache(prompts[:1])
library = whole_cache.logit_attrs(
    whole_cache.decompose_resid(layer=-1, pos_slice=-1),
    tokens=right[:1],
    incorrect_tokens=wrong[:1],
    pos_slice=-1,
)
print(f"cache.logit_attrs, first prompt: sum {library.sum():.2f}, true {whole_gap[0]:.2f}")
# %% [markdown]
# TransformerLens gives raw weights unless you call `enable_compatibility_mode()`, which folds norms into the weights,
# for good. On a raw bridge `tools.analysis.direct_logit_attribution` refuses to work; `cache.logit_attrs` works, and
# leaves $w$ out. So fold it yourself: everything linear after the division goes into one matrix and one vector.
#
# <details><summary>Hint</summary>
#
# $w$ multiplies the rows of `W_U`. To subtract the mean of $x$ and then multiply by $M$ is to multiply by $M$ with the
# mean of each *column* taken out. And $b$ becomes logits, too.
#
# </details>
# %% exercise="fold_layer_norm" points=2 difficulty=3 minutes=12
def fold_layer_norm(
    W_U: Float[Tensor, "d_model d_vocab"],
    b_U: Float[Tensor, "d_vocab"],
    weight: Float[Tensor, "d_model"],
    bias: Float[Tensor, "d_model"] | None,
    centred: bool,
) -> Readout:
    """The last norm's weights, and its centring, folded into the unembedding.

    Args:
        weight, bias: the norm's; an RMSNorm has no bias.
        centred: whether the norm subtracts the mean of the stream first (LayerNorm).

    Returns:
        W and c with stream / scale @ W + c = the logits, for every stream, where scale is
        what the norm divides by.
    """
    ### BEGIN SOLUTION
    W = weight[:, None] * W_U
    if centred:
        W = W - W.mean(0)
    c = b_U if bias is None else b_U + bias @ W_U
    return Readout(W, c)
    ### END SOLUTION
# %% check="fold_layer_norm"
# %%
def readout(model: TransformerBridge) -> Readout:
    weight, bias = model.ln_final.weight.detach(), getattr(model.ln_final, "bias", None)
    bias = bias if bias is None else bias.detach()
    W_U, b_U = model.W_U.detach(), model.b_U.detach()
    return fold_layer_norm(W_U, b_U, weight, bias, is_centred(model))
# %% exercise="logit_directions" points=1 difficulty=2 minutes=6
def logit_directions(
    model: TransformerBridge,
    stream: Float[Tensor, "row d_model"],
    right: Int[Tensor, "row"],
    wrong: Int[Tensor, "row"],
) -> Float[Tensor, "row d_model"]:
    """For each row the direction whose dot product with what a part wrote is that part's
    share of the right token's logit less the wrong one's, with the norm's scale frozen.

    Args:
        stream: the whole stream that the last norm reads, at the last position.
    """
    ### BEGIN SOLUTION
    W, _ = readout(model)
    return (W[:, right] - W[:, wrong]).T / final_scale(model, stream)
    ### END SOLUTION
# %% check="logit_directions"
# %% [markdown]
# **In the raw sum, which of the model's own numbers were missing?**
# (a) the scale, which differs from part to part; (b) the weights of the norms before each block; (c) the weights
# that the last norm multiplies by
# %% exercise="answer_raw" points=1 difficulty=2 minutes=3
answer_raw = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_raw = "c"
### END SOLUTION
# %% check="answer_raw"
# %% [markdown]
# ## 3. Direct logit attribution
#
# Put it together. One more term belongs to no part: what `c` says, the same in every row for the same two tokens.
# %% exercise="direct_logit_attribution" points=2 difficulty=3 minutes=10
def direct_logit_attribution(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    right: Int[Tensor, "row"],
    wrong: Int[Tensor, "row"],
) -> dict[str, Float[Tensor, "row"]]:
    """Each part's term of the right token's logit less the wrong one's, at the last position.

    Names as in residual_decomposition, and "bias" for what no part wrote. The terms add up
    to the logit difference, to 0.001.
    """
    ### BEGIN SOLUTION
    parts = residual_decomposition(model, tokens)
    directions = logit_directions(model, sum(parts.values()), right, wrong)
    terms = {name: (part * directions).sum(-1) for name, part in parts.items()}
    c = readout(model).c
    return terms | {"bias": c[right] - c[wrong]}
    ### END SOLUTION
# %% check="direct_logit_attribution"
# %% [markdown]
# **Why a difference of two logits?** A part that raises *all* logits by 5 changes no probability, but gets a term of 5
# in every single logit. The difference does not see it. (Against what? The choice of the wrong token is part of the
# question: against another capital, terms for *some capital comes* cancel, too.)
#
# **Predict**: of 30 layers, how many write most of the answer? And is it attention or MLPs?
#
# The null is the same sum for two capitals of *other* rows, which this prompt does not ask for.
#
# <details><summary>Answer</summary>
#
# One: attention of layer 23 writes half of it. Layers 0 to 20 write next to nothing that the unembedding reads as this
# answer. The MLPs from 23 on share the rest.
#
# </details>
# %% experiment=True
terms = direct_logit_attribution(smol, fresh[0], *fresh[1:])
others = direct_logit_attribution(smol, fresh[0], fresh[1].roll(5), fresh[1].roll(9))
error = (sum(terms.values()) - fresh_gap).abs().max()
sum_of_terms = sum(terms.values())
print(f"sum of all terms {sum_of_terms.mean():.3f}, true {fresh_gap.mean():.3f};", end=" ")
print(f"largest error {error:.5f}")
by_layer = {
    kind: [terms[f"{layer}_{kind}_out"].mean() for layer in range(N_LAYERS)]
    for kind in ("attn", "mlp")
}
null_terms = torch.stack(list(others.values())).mean(1)
groups = {  # parts, added up
    "attention of layer 23": ["23_attn_out"],
    "layers 0 to 20": [f"{i}_{kind}_out" for i in range(21) for kind in ("attn", "mlp")],
    "MLPs from layer 23 on": [f"{i}_mlp_out" for i in range(23, N_LAYERS)],
    "MLP of layer 29": ["29_mlp_out"],
}
of_group = {}  # a term, and that of the null
for name, members in groups.items():
    both = (sum(of[member] for member in members) for of in (terms, others))
    of_group[name] = [evidence.interval(each) for each in both]
    print(f"{name}: {of_group[name][0]:.2f}; for two others {of_group[name][1]:.2f}")
print(f"largest of 62 null terms {null_terms.abs().max():.2f}")
plot.bar(
    by_layer,
    x=list(range(N_LAYERS)),
    x_label="layer",
    y_label="nats",
    title="Who writes the capital: mean term over 16 fresh prompts",
)
# %% [markdown]
# ## 4. By head
#
# Attention's output is the sum of what its heads wrote, `z[head] @ W_O[head]`, and, in GPT-2, a bias `b_O` that belongs
# to no head. All heads have their own `z` and `W_O`, shared keys or not.
#
# <details><summary>Hint</summary>
#
# Two matrix products, or one `torch.einsum("rhd,hdm,rm->hr", ...)` a layer; `model.blocks[layer].attn.W_O` is
# [head d_head d_model].
#
# </details>
# %% exercise="attribution_by_head" points=2 difficulty=3 minutes=12
def attribution_by_head(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    right: Int[Tensor, "row"],
    wrong: Int[Tensor, "row"],
) -> Float[Tensor, "layer head row"]:
    """Each head's term of the right token's logit less the wrong one's, at the last position.

    The heads of a layer add up to its attention's term, but for its output bias.
    """
    ### BEGIN SOLUTION
    names = [utils.get_act_name("z", layer) for layer in range(model.cfg.n_layers)]
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=names)
        stream = sum(residual_decomposition(model, tokens).values())
        directions = logit_directions(model, stream, right, wrong)
        by_layer = [
            torch.einsum("rhd,hdm,rm->hr", cache[name][:, -1], model.blocks[layer].attn.W_O, directions)
            for layer, name in enumerate(names)
        ]
    return torch.stack(by_layer)
    ### END SOLUTION
# %% check="attribution_by_head"
# %% [markdown]
# **Predict**: layer 23's attention gives over 5 nats. Do its nine heads share them evenly? And does any head write
# *against* the capital?
#
# <details><summary>Answer</summary>
#
# Three of the nine write nearly all of it. And yes: one head of the last layer takes away about as much as its
# neighbour gives. GPT-2 has *negative heads*, too: they suppress what earlier layers predict, if the context holds it
# (McDougall et al. 2023). Here the context does not hold the capital: this one does something else.
#
# </details>
# %% experiment=True
def name_of(head: Head) -> str:
    return f"L{head[0]}H{head[1]}"


by_head = attribution_by_head(smol, prompts, right, wrong)
on_fresh = attribution_by_head(smol, *fresh)
on_others = attribution_by_head(smol, fresh[0], fresh[1].roll(5), fresh[1].roll(9))
loudest = by_head.mean(-1).abs().flatten().topk(6).indices.tolist()
loudest = [divmod(i, N_HEADS) for i in loudest]
print("chosen on 16 prompts, tested on 16 others:")
for head in loudest:
    said = evidence.interval(on_fresh[head])
    print(f"  {name_of(head)}: chosen by {by_head[head].mean():+.2f}, fresh {said:+.2f}")
print(f"largest of 270 for two other capitals: {on_others.mean(-1).abs().max():.2f}")
plot.imshow(
    on_fresh[20:].mean(-1),
    y=list(range(20, N_LAYERS)),
    x_label="head",
    y_label="layer",
    value_label="nats",
    text=True,
    title="Direct attribution by head, layers 20 to 29, fresh prompts",
)
# %% [markdown]
# ## 5. By neuron
#
# A neuron writes its activation (`hook_post`) times its row of `W_out`. In a gated MLP `hook_post` holds the product of
# both branches, so that the same sum is right.
# %% exercise="attribution_by_neuron" points=2 difficulty=3 minutes=10
def attribution_by_neuron(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    layer: int,
    right: Int[Tensor, "row"],
    wrong: Int[Tensor, "row"],
) -> Float[Tensor, "neuron row"]:
    """Each neuron's term of the right token's logit less the wrong one's, at the last
    position, in the MLP of one layer.

    The neurons add up to the MLP's term, but for its output bias.
    """
    ### BEGIN SOLUTION
    name = utils.get_act_name("post", layer)
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=name)
        stream = sum(residual_decomposition(model, tokens).values())
        directions = logit_directions(model, stream, right, wrong)
        along = directions @ model.blocks[layer].mlp.W_out.T  # [row neuron]
    return (cache[name][:, -1] * along).T
    ### END SOLUTION
# %% check="attribution_by_neuron"
# %% [markdown]
# **Predict**: layer 29's MLP writes 1.2 nats of the capital. How many of its 1536 neurons, those first that wrote most
# on the *other* prompts, give half of that: one or two, some dozens, or hundreds?
#
# <details><summary>Answer</summary>
#
# Some dozens: no neuron stands out as heads do. The sum rises nearly to the end, overshoots, and falls: the last few
# neurons write against the capital.
#
# </details>
# %% experiment=True
mlp_layers = [29, 27, 23]
curves = {}
of_ten = {}  # [row]; and the largest mean of ten neurons drawn at random
generator = torch.Generator().manual_seed(0)
for layer in mlp_layers:
    found = attribution_by_neuron(smol, prompts, layer, right, wrong).mean(1)
    again = attribution_by_neuron(smol, fresh[0], layer, *fresh[1:])  # [neuron row]
    order = found.argsort(descending=True)
    curve = again.mean(1)[order].cumsum(0)
    curves[f"layer {layer}"] = curve
    at_random = torch.rand(200, len(order), generator=generator).argsort(1)[:, :10]
    ten_null = again.mean(1)[at_random].sum(1).max()
    of_ten[layer] = evidence.interval(again[order[:10]].sum(0)), ten_null
    n_half = int((curve > curve[-1] / 2).nonzero()[0]) + 1
    print(f"layer {layer}: MLP {curve[-1]:+.2f}, half of it from {n_half} neurons;", end=" ")
    print(f"the first ten {of_ten[layer][0]:+.2f}; ten at random at most {ten_null:+.2f}")
plot.line(
    curves,
    x_label="neurons, in the order of what they wrote on the other 16 prompts",
    y_label="nats, added up",
    title="What neurons write of the capital, on fresh prompts",
)
# %% [markdown]
# ## 6. What the sum leaves out
#
# The terms are exact, and answer one question: what does the unembedding read in what this part wrote? They do not
# count
#
# - what later parts made of it (an **indirect** effect);
# - what would have been there without it: others may stand in (*backup heads*, *self-repair*), and the norm's scale
#   would change.
#
# ### One change, two effects
#
# The change: a head's `z` becomes its mean over the prompts. **Direct**: the stream loses that, all else frozen.
# **Total**: the model runs on. Your hooks go afterwards, those of others stay.
#
# <details><summary>Hint</summary>
#
# Direct: attribution of `z - z.mean(0)`, last position; `W_O` and `logit_directions` as before. Total: a hook on `z`
# that puts the mean over rows into one head at *every* position.
#
# </details>
# %% exercise="direct_and_total" points=3 difficulty=4 minutes=20
def direct_and_total(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    heads: list[Head],
    right: Int[Tensor, "row"],
    wrong: Int[Tensor, "row"],
) -> tuple[Float[Tensor, "head row"], Float[Tensor, "head row"]]:
    """How far right less wrong logit falls, in each row, when the z of one head is replaced,
    at every position, by its mean over the rows there; for each of the heads in turn.

    Returns:
        the direct effect, through the last position's stream alone, with everything else and
        the norm's scale as they were; and the total effect, of the run with that change.
    """
    ### BEGIN SOLUTION
    names = {layer: utils.get_act_name("z", layer) for layer, _ in heads}
    rows, direct, total = torch.arange(len(tokens)), [], []

    def gap(logits):
        return logits[rows, -1, right] - logits[rows, -1, wrong]

    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names_filter=list(names.values()))
        directions = logit_directions(model, sum(residual_decomposition(model, tokens).values()), right, wrong)
        for layer, head in heads:
            z = cache[names[layer]][:, :, head]
            mean = z.mean(0)

            def to_mean(z, hook, head=head, mean=mean):
                z = z.clone()
                z[:, :, head] = mean
                return z

            changed = model.run_with_hooks(tokens, fwd_hooks=[(names[layer], to_mean)])
            total.append(gap(logits) - gap(changed))
            lost = (z - mean)[:, -1] @ model.blocks[layer].attn.W_O[head]
            direct.append((lost * directions).sum(-1))
    return torch.stack(direct), torch.stack(total)
    ### END SOLUTION
# %% check="direct_and_total"
# %% [markdown]
# **Predict**: the six loudest heads all write directly. Whose total effect differs most from the direct one, those
# of layer 23 or those of layer 29? And can a head in the early half have a total effect at all?
#
# <details><summary>Answer</summary>
#
# Layer 23: six layers read what it wrote. The last layer's heads are read by one MLP and the unembedding, so direct and
# total stay closer. A few early heads have a total effect and no direct one.
#
# </details>
# %% experiment=True
some = [*loudest, (10, 6), (10, 8), (7, 4)]
beside = [(23, 2), (24, 0), (29, 7)]  # heads of the same layers that write little
direct, total = direct_and_total(smol, fresh[0], some + beside, *fresh[1:])
for head, by_path, by_all in zip(some + beside, direct, total, strict=True):
    more = evidence.interval(by_all - by_path)
    means = f"direct {by_path.mean():+.2f}, total {by_all.mean():+.2f}"
    print(f"{name_of(head):>6}: {means}; total less direct {more:+.2f}")
asked = [(23, 4), *some[6:]]  # the null: the same change, read for two other capitals
two_others = fresh[1].roll(5), fresh[1].roll(9)
null_direct, null_total = direct_and_total(smol, fresh[0], asked, *two_others)
more_null = dict(zip(asked, map(evidence.interval, null_total - null_direct), strict=True))
for head, more in more_null.items():
    print(f"{name_of(head):>6}, for two other capitals: total less direct {more:+.2f}")
plot.scatter(
    direct.mean(1),
    total.mean(1),
    text=[name_of(head) if head in loudest else "" for head in some + beside],
    x_label="direct effect (nats)",
    y_label="total effect (nats)",
    title="One change: direct and total effect",
)
# %% [markdown]
# ### What it shows
#
# L23H4 does over half as much again as its own writing shows: later parts read it. L23H1 does less, and two things may
# be behind that: others write more, or the last norm, which is frozen for the direct effect, divides by another scale
# (Bonus 2 parts them). Neither number is *the* importance of a head.
#
# The three early heads come from a sweep of all 270 (Bonus 3), in which they were the largest of the first half; some
# of its prompts are among these, so take their sizes as a little flattered. For two other capitals, the null, total
# less direct is 0 as far as 16 prompts can tell, for these three and for L23H4.
#
# **A head has a direct effect of +1.3 nats, and a total one of +0.3. What may be so?**
# (a) its term was computed with raw weights, and is too large; (b) parts after it write more of the answer once it is
# gone; (c) direct effects are upper bounds of total ones, for every head
# %% exercise="answer_direct" points=1 difficulty=2 minutes=3
answer_direct = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_direct = "b"
### END SOLUTION
# %% check="answer_direct"
# %% [markdown]
# ## 7. The logit lens
#
# Read the stream after *any* layer as if it were the last (nostalgebraist 2020): the last norm, with the scale of
# *this* stream, then the unembedding. It asks: if the model stopped here, what would it say?
# %% exercise="logit_lens" points=1 difficulty=2 minutes=6
def logit_lens(
    model: TransformerBridge, streams: Float[Tensor, "*more d_model"]
) -> Float[Tensor, "*more d_vocab"]:
    """Log-probabilities of the next token, if each of these streams were the last one: with
    the last norm (its own scale for each stream) and the unembedding.
    """
    ### BEGIN SOLUTION
    W, c = readout(model)
    return (streams / final_scale(model, streams) @ W + c).log_softmax(-1)
    ### END SOLUTION
# %% check="logit_lens"
# %% [markdown]
# How far is the lens from what the model says in the end? $\operatorname{KL}(p_\text{final} \,\|\, p_\text{lens})$ in
# nats (1.3): 0 where it says the same.
#
# **Predict**: after which of the 30 layers is the capital among the lens's ten best tokens, in the median prompt: about
# 10, about 20, or only at the end? Does the KL fall from the first layer on?
#
# <details><summary>Answer</summary>
#
# Only at the end: its rank is over ten thousand up to layer 22, a hundred at layer 27, and best after the last.
# The KL doubles by layer 10 and is hardly lower at layer 22: the lens guesses something else, confidently. (Is that
# worse than a guess which never looks? Section 8 asks both about the same texts.)
#
# </details>
# %%
def kl(
    log_p: Float[Tensor, "*more d_vocab"], log_q: Float[Tensor, "*more d_vocab"]
) -> Float[Tensor, "*more"]:
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def rank_of(
    log_probs: Float[Tensor, "row d_vocab"], token: Int[Tensor, "row"]
) -> Int[Tensor, "row"]:
    """How many tokens are likelier than this one."""
    return (log_probs > log_probs.gather(-1, token[:, None])).sum(-1)


def streams_of(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"], layers: list[int]
) -> Float[Tensor, "layer row pos d_model"]:
    """The stream after each of these layers, a few rows at a time."""
    names = [utils.get_act_name("resid_post", layer) for layer in layers]
    kept = []
    for some in tokens.split(8):
        with torch.no_grad():
            _, cache = model.run_with_cache(some, names_filter=names, logits_to_keep=1)
        kept.append(torch.stack([cache[name] for name in names]))
    return torch.cat(kept, dim=1)
# %% experiment=True
LAYERS = list(range(N_LAYERS))
capital_streams = streams_of(smol, fresh[0], LAYERS)[:, :, -1]  # [layer row d_model]
said = [logit_lens(smol, streams) for streams in capital_streams]
ranks = torch.stack([rank_of(log_probs, fresh[1]) for log_probs in said]).float()
capital_kl = torch.stack([kl(said[-1], log_probs) for log_probs in said])
for layer in (0, 10, 20, 22, 23, 25, 27, 28, 29):
    best_word = smol.to_string(said[layer][0].argmax()[None])
    print(f"layer {layer:>2}: rank {ranks[layer].median():>6.0f}, KL", end=" ")
    print(f"{evidence.interval(capital_kl[layer]):.1f}; first prompt: {best_word!r}")
plot.line(
    {"median rank + 1": ranks.median(1).values + 1},
    x=LAYERS,
    x_label="after layer",
    y_label="rank of the capital + 1",
    log_y=True,
    title="Logit lens: where the capital stands among 49,152 tokens",
)
# %% [markdown]
# **Silent before layer 23, of little use before the end**: the model's own answer shows after the very last layer. Is
# the capital not there yet, or does the lens not understand? Its figures cannot tell: they presume that all layers
# speak the last one's language.
#
# ## 8. A tuned lens
#
# So translate first (Belrose et al. 2023): learn an affine map from a layer's stream to the last one. The closed form
# does it in a second: **ridge regression**. With streams $x$ and targets $y$, in rows, the $A$ and $b$ that make
#
# $$\frac{1}{n} \sum_i \lVert x_i A + b - y_i \rVert^2 + \lambda \lVert A \rVert^2$$
#
# as small as can be. (Belrose et al. train on the KL itself, which gives lower ones, and takes longer.)
#
# <details><summary>Hint</summary>
#
# Subtract the means of `x` and `y`; solve $(X^T X / n + \lambda I) A = X^T Y / n$ with `torch.linalg.solve`, in
# float64; `b` follows from the means.
#
# </details>
# %%
class Translator(NamedTuple):
    A: Float[Tensor, "d_model d_model"]
    b: Float[Tensor, "d_model"]
# %% exercise="tuned_lens" points=3 difficulty=4 minutes=15
def tuned_lens(
    streams: Float[Tensor, "row d_model"],
    targets: Float[Tensor, "row d_model"],
    penalty: float,
) -> Translator:
    """The A and b with the least mean squared length of streams @ A + b - targets over rows,
    plus penalty times the sum of squares of A; b costs nothing.

    Found to 0.001 of the largest entry, by whatever method; float32 in, float32 out.
    """
    ### BEGIN SOLUTION
    x, y = streams.double(), targets.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x / len(x) + penalty * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    A = torch.linalg.solve(gram, x.T @ y / len(x))
    return Translator(A.to(streams.dtype), (y_mean - x_mean @ A).to(streams.dtype))
    ### END SOLUTION
# %% check="tuned_lens"
# %% [markdown]
# ### Fitted to what, and against what
#
# Text that needs no network: the manual that comes with Python. Streams are divided by their scale before and after
# (so that a guess which is unsure stays short, and says so). Whole texts are held out.
#
# Two nulls. A lens that was **fitted to shuffled rows**: the same number of free numbers, nothing to learn. And the
# **best constant**: the mean of all predictions in training, whatever the text.
# %%
LENS_LAYERS = [0, 5, 10, 15, 20, 23, 25, 27]
PENALTY = 0.05


def unit(streams: Float[Tensor, "*more d_model"]) -> Float[Tensor, "*more d_model"]:
    return streams / final_scale(smol, streams)


articles = sorted(topics.values(), key=len)[-28:]
text_rows = torch.stack(
    [smol.to_tokens(" ".join(each[1000:3000].split()))[0, :65] for each in articles]
)
text_streams = streams_of(smol, text_rows, [*LENS_LAYERS, N_LAYERS - 1])[:, :, 1:]
held_out = torch.arange(28) % 4 == 0  # 7 of 28 texts
for_fit = unit(text_streams[:, ~held_out]).flatten(1, 2)  # [layer row d_model]
for_test = unit(text_streams[:, held_out])  # [layer text pos d_model]
print(smol.to_string(text_rows[0, 1:20]))
print("to fit, to test [layer row d_model]:", list(for_fit.shape), list(for_test.shape))
# %% [markdown]
# **Predict**: after layer 20 the plain lens is over 14 nats off. The tuned one: above the constant, between the
# constant and half of it, or below half? And after layer 0?
#
# <details><summary>Answer</summary>
#
# Below half, after layer 20: most of what the model will say can be read there. After layer 0 it is below the constant,
# by a nat or less.
#
# </details>
# %% experiment=True
W, c = readout(smol)


def read(units: Float[Tensor, "*more d_model"]) -> Float[Tensor, "*more d_vocab"]:
    return (units @ W + c).log_softmax(-1)


final = read(for_test[-1])  # [text pos d_vocab]
constant = read(for_fit[-1]).exp().mean(0).log()
generator = torch.Generator().manual_seed(0)
shuffle = torch.randperm(for_fit.shape[1], generator=generator)
lens_kl = {"plain lens": [], "tuned lens": [], "fitted to shuffled rows": []}
lenses = []
for rows, test in zip(for_fit[:-1], for_test[:-1], strict=True):
    lens = tuned_lens(rows, for_fit[-1], PENALTY)
    null = tuned_lens(rows, for_fit[-1][shuffle], PENALTY)
    lenses.append(lens)
    lens_kl["plain lens"].append(kl(final, read(test)).mean(1))
    for name, (A, b) in (("tuned lens", lens), ("fitted to shuffled rows", null)):
        lens_kl[name].append(kl(final, read(test @ A + b)).mean(1))
constant_kls = kl(final, constant).mean(1)  # [text]
constant_kl = evidence.interval(constant_kls)
print(f"always the same: {constant_kl:.2f} nats, over 7 texts")
for i, layer in enumerate(LENS_LAYERS):
    print(f"after layer {layer}:", end=" ")
    here = {name: evidence.interval(kls[i]) for name, kls in lens_kl.items()}
    print("; ".join(f"{name} {interval:.2f}" for name, interval in here.items()))
figure = plot.line(
    {name: [each.mean() for each in found] for name, found in lens_kl.items()},
    x=LENS_LAYERS,
    x_label="after layer",
    y_label="KL to the model's own prediction (nats)",
    log_y=True,
    title="Lenses on seven articles that were held out",
)
figure.add_hline(y=constant_kl.value, line_dash="dot")
plot.show(figure)
# %% [markdown]
# ### What it shows
#
# The dotted line is the constant. The plain lens is worse up to layer 25; at layer 27 seven texts cannot tell the two
# apart. The tuned one beats both nulls from the first layer on.
#
# **And the capitals?** The lens was fitted to a manual. Does it find capitals before layer 23?
# %% experiment=True
def above_another(log_probs: Float[Tensor, "row d_vocab"]) -> evidence.Interval:
    """How much better the capital's rank is than another capital's, in powers of ten."""
    own, other = (
        (rank_of(log_probs, token) + 1).log10() for token in (fresh[1], fresh[1].roll(5))
    )
    return evidence.difference(other, own, paired=True)


above = {"plain lens": [], "tuned lens": []}
for i, layer in enumerate(LENS_LAYERS):
    A, b = lenses[i]
    units = unit(capital_streams[layer])
    print(f"after layer {layer:>2}, median rank (powers of ten above another's):", end=" ")
    medians = []
    for name, log_probs in (("plain lens", read(units)), ("tuned lens", read(units @ A + b))):
        above[name].append(above_another(log_probs))
        median = rank_of(log_probs, fresh[1]).median()
        medians.append(f"{name[:5]} {median} ({above[name][-1].value:.1f})")
    print(", ".join(medians))
# %% [markdown]
# Before layer 23 neither finds them: the capital that is asked for stands no higher than another row's, which is the
# null. (Its median rank is even *worse* in the tuned lens after layers 0, 5 and 10.) That agrees with attribution:
# attention of layer 23 brings them. From there on the tuned lens has them among the best dozens, where the plain one
# goes from a thousand to a hundred.
#
# ### What a lens that was fitted shows
#
# A tuned lens also *learns*: it says what can be predicted from a stream, not what the model would say there, and not
# what it uses (3.6 tells those apart).
#
# **A tuned lens reads the answer after layer 12; the plain lens only after layer 25. What was shown?**
# (a) an affine map of the stream after layer 12 predicts the answer; (b) the model has decided by layer 12, and later
# layers only format it; (c) the plain lens is wrong, and should not be used any more
# %% exercise="answer_lens" points=1 difficulty=2 minutes=3
answer_lens = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_lens = "a"
### END SOLUTION
# %% check="answer_lens"
# %% [markdown]
# ## 9. What does this neuron do?
#
# The usual look: the examples that excite it most. They all show a word; a label is born. To test a label we need a
# model whose texts we can make: `story_lm`, three layers with MLPs.
#
# One text may hold the same thing many times, so take **at most one place a text**: places of different texts are also
# independent.
# %%
lm = models.load("story_lm")
WORDS = corpus.vocabulary()
story_rows = corpus.batch(400, 60, "search")  # to look
new_stories = corpus.batch(400, 60, corpus.HELD_OUT)  # to test


def neurons(tokens: Int[Tensor, "text pos"], layer: int) -> Float[Tensor, "text pos neuron"]:
    with torch.no_grad():
        name = utils.get_act_name("post", layer)
        return lm.run_with_cache(tokens, names_filter=name, stop_at_layer=layer + 1)[1][name]


def words_of(tokens: Int[Tensor, "text pos"]) -> Bool[Tensor, "text pos"]:
    """Where there is a word: not at [PAD] and [BOS]."""
    return tokens > 1
# %% exercise="max_activating_examples" points=2 difficulty=3 minutes=10
def max_activating_examples(
    acts: Float[Tensor, "text pos"], allowed: Bool[Tensor, "text pos"], count: int
) -> list[Place]:
    """The places (text, position) of the largest activations among the allowed ones, largest
    first, at most one in a text.

    Fewer than count where fewer texts have an allowed place. Of equal ones any.
    """
    ### BEGIN SOLUTION
    best, at = acts.masked_fill(~allowed, -torch.inf).max(1)
    order = [text for text in best.argsort(descending=True).tolist() if allowed[text].any()]
    return [(text, at[text].item()) for text in order[:count]]
    ### END SOLUTION
# %% check="max_activating_examples"
# %% exercise="random_examples" points=2 difficulty=3 minutes=10
def random_examples(allowed: Bool[Tensor, "text pos"], count: int, seed: int) -> list[Place]:
    """Allowed places (text, position), drawn at random: different texts, each that has an
    allowed place equally likely; in a text each allowed place equally likely.

    Fewer than count where fewer texts have an allowed place. The same seed gives the same
    places again.
    """
    ### BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    texts = allowed.any(1).nonzero()[:, 0]
    chosen = texts[torch.randperm(len(texts), generator=generator)[:count]].tolist()
    places = []
    for text in chosen:
        positions = allowed[text].nonzero()[:, 0]
        places.append((text, positions[torch.randint(len(positions), (), generator=generator)].item()))
    return places
    ### END SOLUTION
# %% check="random_examples"
# %% [markdown]
# **Predict**: the 20 strongest examples of a neuron all show one word. Among the places in *new* stories where it
# reaches half of its largest activation, how many show that word: nearly all, about half, or few?
#
# <details><summary>Answer</summary>
#
# A good half. The strongest examples are a sample of an extreme, not of what the neuron does all day.
#
# </details>
# %% experiment=True
LAYER, NEURON = 1, 6
acts, ok = neurons(story_rows, LAYER)[..., NEURON], words_of(story_rows)
threshold = 0.5 * acts[ok].max().item()


def show(tokens, places: list[Place], acts) -> None:
    for text, at in places:
        before = "".join(WORDS[i] for i in tokens[text, max(1, at - 6) : at])
        print(f"  {acts[text, at]:5.2f}  ...{before} >>{WORDS[tokens[text, at]]}<<")


print("strongest:")
show(story_rows, max_activating_examples(acts, ok, 8), acts)
print(f"random, above half of the largest ({threshold:.2f}):")
show(story_rows, random_examples(ok & (acts > threshold), 8, seed=0), acts)
print("random, anywhere:")
show(story_rows, random_examples(ok, 4, seed=0), acts)
strongest = max_activating_examples(acts, ok, 20)
word, times = Counter(story_rows[place].item() for place in strongest).most_common(1)[0]
print(f"the label: {WORDS[word]!r}, on {times} of the 20 strongest")
# %% [markdown]
# A label predicts two things: where the neuron **fires**, the label holds (*precision*); where the label holds, it
# fires (*recall*). Measured on new texts; what is independent is a text, so one number for each.
# %% exercise="label_test" points=2 difficulty=3 minutes=12
def label_test(
    acts: Float[Tensor, "text pos"],
    label: Bool[Tensor, "text pos"],
    allowed: Bool[Tensor, "text pos"],
    threshold: float,
) -> tuple[Float[Tensor, "some_texts"], Float[Tensor, "other_texts"]]:
    """How well a label tells where a neuron fires (acts above the threshold), text by text,
    at allowed places alone.

    Returns:
        precision: for each text in which it fires, the share of those places where the label
            holds;
        recall: for each text in which the label holds, the share of those places where it
            fires.
        Texts that have no such place have no entry; the others keep their order.
    """
    ### BEGIN SOLUTION
    fires, holds = allowed & (acts > threshold), allowed & label
    both = (fires & holds).sum(1).float()

    def share(of):
        n = of.sum(1)
        return both[n > 0] / n[n > 0]

    return share(fires), share(holds)
    ### END SOLUTION
# %% check="label_test"
# %% experiment=True
new_acts, new_ok = neurons(new_stories, LAYER), words_of(new_stories)
label = new_stories == word
precision, recall = label_test(new_acts[..., NEURON], label, new_ok, threshold)
precision, recall = evidence.interval(precision), evidence.interval(recall)
fires = (new_acts[..., NEURON] > threshold) & new_ok
base, base_fires = (
    evidence.interval(where.sum(1) / new_ok.sum(1)) for where in (label & new_ok, fires)
)
print(f"precision {precision:.2f}; the word's share of all places {base:.3f}")
print(f"recall {recall:.2f}; the share of all places where the neuron fires {base_fires:.3f}")
# The same for each neuron of the layer: is the top of the list a fair sample?
all_acts = neurons(story_rows, LAYER)
in_top, in_new, sure_words, firing = [], [], [], []
for neuron in range(all_acts.shape[-1]):
    its = all_acts[..., neuron]
    top = [story_rows[place].item() for place in max_activating_examples(its, ok, 20)]
    its_word, its_times = Counter(top).most_common(1)[0]
    if its_times >= 16:  # a label that looks sure
        half = 0.5 * its[ok].max().item()
        found, _ = label_test(new_acts[..., neuron], new_stories == its_word, new_ok, half)
        in_top.append(its_times / 20)
        in_new.append(found.mean().item())
        sure_words.append(its_word)
        firing.append((neuron, half))
in_null = []  # each neuron with the label of the next one that has another
for i, (neuron, half) in enumerate(firing):
    turned = sure_words[i:] + sure_words[:i]
    other_word = next(each for each in turned if each != sure_words[i])
    found, _ = label_test(new_acts[..., neuron], new_stories == other_word, new_ok, half)
    in_null.append(found.mean().item())
print(f"{len(in_top)} neurons with a label on 16 or more of their 20 strongest examples;")
keeps, keeps_null = ([share >= 0.8 for share in of] for of in (in_new, in_null))
print("on new texts it holds at 80 % of the places where they fire for", end=" ")
print(f"{sum(keeps)} of them, and another neuron's label for {sum(keeps_null)}")
plot.hist(
    {"among the 20 strongest": in_top, "wherever it fires, new stories": in_new},
    bins=20,
    x_label="share of places where the label holds",
    title=f"Labels of layer {LAYER}'s neurons, before and after the test",
)
# %% [markdown]
# ### What it shows
#
# The strongest 20 all show the word; of the places where the neuron fires in new stories, two in five show another
# (full stops, quotes). Of the neurons with so sure a label, under a third keep it at 80 % of these places.
#
# **A neuron's 50 strongest examples, of a million, are all numbers. Which claim stands?**
# (a) wherever the neuron is active, there is a number; (b) its very largest activations are at numbers; (c) the
# neuron is there in order to detect numbers
# %% exercise="answer_top" points=1 difficulty=2 minutes=3
answer_top = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_top = "b"
### END SOLUTION
# %% check="answer_top"
# %% [markdown]
# ## 10. Open task: who writes the answer?
#
# Models written by hand. At the last position two tokens stand far above all others, and the words of the row decide
# which of them wins. Some heads **write** the answer: take what such a head wrote out of the last stream, leave all
# else as it is, and the gap between the two tokens moves. Others
#
# - bring a word to the last position, for a later head to write; or write only once another one is gone;
# - raise or lower all logits alike; or write loudly where nobody reads;
# - write where the unembedding reads and the last norm wipes it out.
#
# Name those that write it, and no other; there may be none. You choose the measure and the null. Your function is
# tried on models that you have not seen: it must find 90 % of all writers, and at most 10 % of those that it names may
# be others.
#
# <details><summary>Hint</summary>
#
# Words differ from row to row, and so does the winner: what does a mean over rows do to a head that is outvoted?
#
# </details>
# %%
example, truth = wired.writers(seed=0)
example_rows = wired.writer_rows(truth, rows=64, seed=0)
for role in sorted(set(truth.roles.values())):
    print(f"{role:>14}: {sorted(truth.with_role(role))}")
# %% exercise="find_writers" points=5 difficulty=5 minutes=40
def find_writers(model: TransformerBridge, tokens: Int[Tensor, "row pos"]) -> set[Head]:
    """The heads (layer, head) that write the model's answer at the last position."""
    ### BEGIN SOLUTION
    with torch.no_grad():
        best, second = model(tokens)[:, -1].topk(2).indices.T
    size = attribution_by_head(model, tokens, best, second).abs().mean(-1)
    return {(layer, head) for layer, head in (size > 1.5).nonzero().tolist()}
    ### END SOLUTION
# %% check="find_writers"
# %% experiment=True
found = find_writers(example, example_rows)
print("found: ", sorted(found))
print("missed:", sorted(truth.writers - found))
print("wrong: ", {head: truth.roles[head] for head in sorted(found - truth.writers)})
with torch.no_grad():
    two = example(example_rows)[:, -1].topk(2).indices.T
by_path, by_all = direct_and_total(example, example_rows, list(truth.roles), *two)
for head, here, everywhere in zip(truth.roles, by_path, by_all, strict=True):
    if truth.roles[head] != "idle":
        sizes = f"direct {here.abs().mean():.1f}, total {everywhere.abs().mean():.1f}"
        print(f"  {truth.roles[head]:>14}: {sizes}")
n_found, n_wrong = len(found & truth.writers), len(found - truth.writers)
# The null: a model in which no head writes the answer
none, none_truth = wired.writers(seed=1, kinds=("even", "mute", "scaled away", "mute"))
none_rows = wired.writer_rows(none_truth, rows=64, seed=1)
none_named = find_writers(none, none_rows)
print("where no head writes it:", none_named)
# %% [markdown]
# Feeders have a total effect and no direct one, the backed writer a direct effect and hardly a total one. And heads
# that write in vain have *some* total effect: without them the last norm divides by less, so that all else grows.
#
# ## What was found
#
# Value, 95 % interval over what is independent, and the null that matches: *two others* are capitals of other rows.
# %% experiment=True
own_gap, other_gap = map(evidence.interval, (fresh_gap, gap_of(answers, *two_others)))
best_token, wrong_best = (evidence.interval(first_guess == of, "exact") for of in fresh[1:])
raw_misses = evidence.difference(raw_sum, whole_gap, paired=True)
in_ten, in_ten_null = of_ten[29]
kept, kept_null = (evidence.interval(of, "exact") for of in (keeps, keeps_null))
lines = [
    ("gap, right less wrong (nats)", own_gap, f"two others {other_gap:.2f}"),
    ("the capital is the best token", best_token, f"the wrong one {wrong_best:.2f}"),
    ("raw terms, sum less the gap", raw_misses, f"folded, fresh: {error:.0e}"),
]
for name, (value, null) in of_group.items():
    lines.append((name, value, f"two others {null:.2f}"))
lines += [
    ("  its ten neurons", in_ten, f"ten at random at most {in_ten_null:.2f}"),
    (f"label of L{LAYER}N{NEURON}, precision", precision, f"share of places {base:.3f}"),
    ("  recall", recall, f"it fires at {base_fires:.3f}"),
    (f"labels kept, of {len(keeps)} neurons", kept, f"another's label {kept_null:.2f}"),
    ("open task: writers found", f"{n_found} of {len(truth.writers)}", f"others {n_wrong}"),
]
for what, value, beside_it in lines:
    value = value if isinstance(value, str) else f"{value:.2f}"
    print(f"{what:<31} {value:<22} {beside_it}")
largest_null = on_others.mean(-1).abs().max()
print(f"\na head at its mean (largest direct term of 270 for two others {largest_null:.2f})")
print(f"{'':>6}  {'direct':<22}{'total less direct':<22}total less direct, two others")
for i, head in enumerate(some + beside):
    by_path, more = direct[i], total[i] - direct[i]
    by_path, more = (f"{evidence.interval(each):.2f}" for each in (by_path, more))
    null = f"{more_null[head]:.2f}" if head in more_null else ""
    print(f"{name_of(head):>6}  {by_path:<22}{more:<22}{null}")
print("\nlens: KL less the constant's (nats); the capital above another one (powers of ten)")
print(f"after   {'plain':<22}{'tuned':<22}{'shuffled rows':<20}rank, tuned")
for i, layer in enumerate(LENS_LAYERS):
    than_constant = (kls[i] - constant_kls for kls in lens_kl.values())
    plain_said, tuned_said, shuffled_said = (
        f"{evidence.interval(each):.2f}" for each in than_constant
    )
    print(f"{layer:>5}   {plain_said:<22}{tuned_said:<22}{shuffled_said:<20}", end="")
    print(f"{above['tuned lens'][i]:.1f}")
# %% [markdown]
# Intervals: t (how often: exact), over 16 countries (neighbours share a token), 7 articles, stories, or the neurons of
# one layer (no sample of layers). The model of the open task is written by hand, no sample. One model,
# SmolLM2-135M-*Instruct*, unpacked from 4-bit weights, and one kind of sentence; the neurons are of a small model of
# small stories.
#
# ## Bonus (not graded)
#
# 1. Train the lens on the KL itself, in `story_lm`, by gradient descent. How much lower does it get?
# 2. Read the last stream of the changed run with the *old* scale. How much of total less direct is later parts, how
#    much the norm, for L23H4, L23H1 and L29H0?
# 3. `direct_and_total` for all 270 heads (minutes). Which have a total effect and no direct one?
# 4. Attribution along other directions: which heads write *some capital* (the mean of all capitals) against *the*?
# 5. `enable_compatibility_mode()` on a fresh bridge: compare its `W_U` with your `readout`. What else did it change?
# 6. `cache.accumulated_resid`: the difference after each layer, with the last scale frozen, and with each stream's own.
# 7. Which tokens does each neuron of layer 29 promote (`W_out @ W`)? Does that agree with its strongest examples?
#
# ## Recap
#
# Add up (parts, folded norm, frozen scale), compare (two other capitals), run on (total effect), read early (plain and
# tuned lens, against a constant), and test a label where it was not found.
#
# | confusion | what holds |
# |---|---|
# | "The terms look right" | do they add up to the logit? The raw ones gave half |
# | "This head has +5 on the logit" | on *all* logits, perhaps: take a difference |
# | "No direct effect, so it does nothing" | it may feed those that write: run the model without it |
# | "Removing it changes nothing, so it wrote nothing" | another stepped in |
# | "The lens shows nothing, so nothing is there" | a translated stream shows most of it |
# | "All strong examples are numbers, so it detects numbers" | draw examples from wherever it fires |
#
# Read on: nostalgebraist 2020, *interpreting GPT: the logit lens*; Belrose et al. 2023, *Eliciting Latent Predictions
# from Transformers with the Tuned Lens*; Elhage et al. 2021 (direct paths); McGrath et al. 2023, *The Hydra Effect*;
# Bolukbasi et al. 2021, *An Interpretability Illusion for BERT* (strongest examples).
