# %% [markdown]
# # 3.2 Attention heads and induction
#
# After *"Mrs Quill opened the door. Mrs"* a language model expects *" Quill"*. It never saw that name in training: it
# found it in the text. Two kinds of attention heads do this together, an **induction circuit**:
#
# ![A previous-token head notes at Quill: after Mrs. An induction head finds it and copies Quill](figures/induction.svg)
#
# You will find such heads in a toy model and in a real one, show by experiment that they matter, and then hunt them
# among decoys.
# %% generated="overview"
# %% setup=True
from collections.abc import Callable
from functools import partial
from itertools import pairwise, product

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import utilities as utils
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import corpus, evidence, models, plot, wired
from concrete_steps.models import shipped

Head = tuple[int, int]  # (layer, head)
Ablate = Callable[..., Tensor]  # a hook for z that also takes heads=, such as zero_ablate in section 6
# %% [markdown]
# ## 1. Where a head looks
#
# In TransformerLens 4 every model is a `TransformerBridge` (the `HookedTransformer` of older texts is gone).
# `run_with_cache` also returns activations; `names_filter` says which, out of over a thousand in a large model.
#
# The toy: two layers of four heads, no MLPs, trained on little stories and on random tokens that repeat.
# %%
toy = models.load("attn_only_2l")
# [row pos], each row a story's beginning after [BOS]
stories = corpus.batch(32, 40, corpus.HELD_OUT)
layer_0 = utils.get_act_name("pattern", 0)
only_patterns = lambda name: name.endswith("hook_pattern")  # noqa: E731
with torch.no_grad():
    logits, cache = toy.run_with_cache(stories, names_filter=only_patterns)
shape = list(cache["pattern", 0].shape)
print(f"cache['pattern', 0] is {layer_0}: [batch head query key] = {shape}")
weights = ", ".join(f"{weight:.2f}" for weight in cache["pattern", 0][0, 1, 2, :3])
print(f"row 0, head 1: query 2 gives keys 0, 1 and 2 the weights {weights}")


def patterns(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "layer batch head query key"]:
    """The attention patterns of all layers, for the sections below."""
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=only_patterns)
    return torch.stack([cache["pattern", layer] for layer in range(model.cfg.n_layers)])
# %% [markdown]
# `pattern[b, h, query, key]` is how much of what `query` reads comes from `key`; over the keys it sums to 1. Three
# detectors: the mean weight on the query **itself**, on the **previous** position, on the **first**.
#
# Query 0 sees only itself, and for query 1 the previous position *is* the first. So all three leave out queries 0 and
# 1: the mean is over the batch and **queries 2, 3, 4, ...**
#
# <details><summary>Hint</summary>
#
# `x.diagonal(offset, dim1=-2, dim2=-1)` has the entries `[i, i + offset]` along its last axis; offsets may be
# negative. Which of the entries belong to queries 0 and 1?
#
# </details>
# %% exercise="current_token_score" points=1 difficulty=2 minutes=6
def current_token_score(
    pattern: Float[Tensor, "batch head query key"]
) -> Float[Tensor, "head"]:
    """Each head's mean weight on the query's own position, over the batch and the queries
    from 2 on.
    """
    ### BEGIN SOLUTION
    return pattern.diagonal(dim1=-2, dim2=-1)[..., 2:].mean((0, 2))
    ### END SOLUTION
# %% check="current_token_score"
# %% exercise="previous_token_score" points=1 difficulty=2 minutes=4
def previous_token_score(
    pattern: Float[Tensor, "batch head query key"]
) -> Float[Tensor, "head"]:
    """Each head's mean weight on the position before the query, over the batch and the
    queries from 2 on.
    """
    ### BEGIN SOLUTION
    return pattern.diagonal(-1, dim1=-2, dim2=-1)[..., 1:].mean((0, 2))
    ### END SOLUTION
# %% check="previous_token_score"
# %% exercise="first_token_score" points=1 difficulty=1 minutes=3
def first_token_score(
    pattern: Float[Tensor, "batch head query key"]
) -> Float[Tensor, "head"]:
    """Each head's mean weight on position 0, over the batch and the queries from 2 on."""
    ### BEGIN SOLUTION
    return pattern[:, :, 2:, 0].mean((0, 2))
    ### END SOLUTION
# %% check="first_token_score"
# %% [markdown]
# **Predict**: which layer holds the previous-token head? And does a head that spreads its weight evenly score 0?
#
# <details><summary>Answer</summary>
#
# Layer 0: induction, in layer 1, needs its notes. An even spread over 40 positions scores well above 0 on all three:
# it is the null to compare with ("even" in the figure).
#
# </details>
# %% experiment=True
detectors = {
    "itself": current_token_score,
    "previous": previous_token_score,
    "first": first_token_score,
}
even = torch.ones(1, 1, 40, 40).tril()
even = even / even.sum(-1, keepdim=True)  # the null: no preference at all
both_layers = torch.cat([cache["pattern", 0], cache["pattern", 1]], dim=1)  # 8 heads
scores = {}
for name, score in detectors.items():
    scores[name] = torch.cat([score(both_layers), score(even)])
names = [f"L{layer}H{head}" for layer, head in product(range(2), range(4))] + ["even"]
words = toy.to_str_tokens(stories[0][:16])
plot.show(
    plot.bar(
        scores,
        x=names,
        x_label="head",
        y_label="mean weight",
        title="Where the toy's heads look, in stories",
    ),
    plot.attention(
        words,
        cache["pattern", 0][0, [1, 0], :16, :16],
        heads=["L0H1", "L0H0"],
        title="One story",
    ),
)
# %% [markdown]
# L0H1, and less so L0H0 and L0H2, look at the previous token; layer 1 prefers the first. Such a mean hides what a head
# does only now and then.
#
# ## 2. Attention sinks
#
# SmolLM2-135M-Instruct is a real language model: 30 layers of 9 heads (unpacked from 4-bit weights, Q4_1). Two traps:
#
# - **Shared keys.** Its 9 query heads share 3 key and value heads ("grouped queries"): `hook_k` and `hook_v` have 3
#   heads; `hook_q`, `hook_pattern` and `hook_z` have 9.
# - **The start token.** `to_tokens` and friends put one before your text; a tensor of tokens is taken as it is. Forget
#   it, and position 0 is an ordinary word.
# %%
smol = models.smollm2()
text = (
    "When the rain had stopped, Anna walked down to the harbour "
    "and counted the boats that had come in overnight."
)
with_start, without = smol.to_tokens(text), smol.to_tokens(text, prepend_bos=False)
print(smol.to_str_tokens(with_start[0][:4]), smol.to_str_tokens(without[0][:4]))
parts = ("q", "k", "v", "z", "pattern")
wanted = [utils.get_act_name(part, 3) for part in parts]
with torch.no_grad():
    _, shapes = smol.run_with_cache(with_start, names_filter=wanted)
print({part: list(shapes[part, 3].shape) for part in parts})
# %% [markdown]
# **Predict**: does the first position get over half of the weight in one head of ten, or in one of three? And where do
# the heads look when the start token is missing?
#
# <details><summary>Answer</summary>
#
# In more than one of three. Without the start token they look at the first word instead: whatever comes first is the
# sink.
#
# </details>
# %% experiment=True
on_first = {}
for name, tokens in (("with the start token", with_start), ("without", without)):
    by_layer = [first_token_score(pattern) for pattern in patterns(smol, tokens)]
    on_first[name] = torch.stack(by_layer)  # [layer head]
    over_half, n = (on_first[name] > 0.5).sum(), tokens.shape[1]
    even_score = sum(1 / (query + 1) for query in range(2, n)) / (n - 2)
    print(f"{name:>20}: {over_half} of 270 heads over 0.5 (even spread: {even_score:.2f})")
plot.imshow(
    torch.stack(list(on_first.values())).transpose(1, 2),
    facets=list(on_first),
    x_label="layer",
    y_label="head",
    value_label="weight",
    scale="positive",
    title="SmolLM2: weight on the first position",
)
# %% [markdown]
# **With the start token, a head gives position 0 a weight of 0.95 in all texts. What follows?**
# (a) it carries the beginning of the text to all of the later words; (b) it matters more than heads with spread
# weights do, in any text; (c) it reads next to nothing about this text, whichever it is
# %% exercise="answer_rest" points=1 difficulty=2 minutes=3
answer_rest = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_rest = "c"
### END SOLUTION
# %% check="answer_rest"
# %% [markdown]
# The field calls such a position an **attention sink** (Xiao et al. 2023). One reading: these heads rest there until
# what they look for turns up. High weight is not importance.
#
# ## 3. Random tokens, repeated
#
# In stories, many tricks predict the next word. In **random tokens, repeated**, few do: look what came next the last
# time; prefer whatever was there before; or look back by a fixed distance (section 4 tells that one apart). Each row is
#
# `[bos, t1, t2, ..., t_block, t1, t2, ..., t_block]`
#
# Tokens are drawn from a list of *ordinary* ones: special tokens, such as `[BOS]` or padding, would confuse the model.
# %%
def copy_loss(
    logits: Float[Tensor, "row 2*block+1 d_vocab"], tokens: Int[Tensor, "row 2*block+1"]
) -> Float[Tensor, "row"]:
    """For each row, the mean loss in nats on the second copy, without its first token, which
    nothing foretells.
    """
    log_probs = logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    return -log_probs[:, tokens.shape[1] // 2 + 1 :].mean(-1)


for seed in (1, 1, 2):
    generator = torch.Generator().manual_seed(seed)
    print(f"seed {seed}:", torch.randint(0, 100, (3,), generator=generator).tolist())
# %% [markdown]
# <details><summary>Hint</summary>
#
# Draw *places* in `ordinary` with `torch.randint(..., generator=...)`, and index. Then `torch.cat` along `dim=1`.
#
# </details>
# %% exercise="repeated_tokens" points=2 difficulty=2 minutes=8
def repeated_tokens(
    rows: int, block: int, bos: int, ordinary: Int[Tensor, "n"], seed: int
) -> Int[Tensor, "rows 2*block+1"]:
    """In each row: bos, then a block of random tokens, then the same block again.

    Args:
        ordinary: the tokens to draw from; every draw is independent and each entry equally
            likely, so that a token may come twice in a block. Rows are drawn independently,
            too.
        seed: the same seed gives the same tokens again; another seed gives others.
    """
    ### BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    once = ordinary[torch.randint(len(ordinary), (rows, block), generator=generator)]
    return torch.cat([torch.full((rows, 1), bos), once, once], dim=1)
    ### END SOLUTION
# %% check="repeated_tokens"
# %%
BLOCK = 30
STORY_WORDS = torch.arange(4, 333)  # 0 to 3 are [PAD] [BOS] [EOS] [UNK]
random_rows = repeated_tokens(32, BLOCK, 1, STORY_WORDS, seed=0)
short = repeated_tokens(1, 8, 1, STORY_WORDS, seed=2)
one_layer, untrained = models.load("attn_only_1l"), models.load("attn_only_2l", step=0)
trio = {"two layers": toy, "one layer": one_layer, "untrained": untrained}
# %% [markdown]
# **Predict**: the loss of the toy, of its twin with *one* layer, and of the toy before training. Which of the three
# fall on the second copy, and which falls most?
#
# <details><summary>Answer</summary>
#
# On the first copy all guess: $\log 329 = 5.8$ nats is the best that a guess can do on average. On the second, from
# its second token on, the toy's loss falls almost to 0. One layer can favour tokens that were there, but not the one
# that comes next: it gains less.
#
# </details>
# %% experiment=True
curves = {}
for name, model in trio.items():
    with torch.no_grad():
        log_probs = model(random_rows)[:, :-1].log_softmax(-1)
    losses = -log_probs.gather(-1, random_rows[:, 1:, None])[..., 0]  # [row pos-1]
    curves[name] = losses.mean(0)
    first, second = losses[:, :BLOCK].mean(), losses[:, BLOCK + 1 :].mean()
    print(f"{name:>10}: first copy {first:.2f} nats, second {second:.2f}")
figure = plot.line(
    curves,
    x=list(range(1, 2 * BLOCK + 1)),
    x_label="position of the token that is predicted",
    y_label="loss (nats)",
    title=f"Random tokens; from position {BLOCK + 1} on they repeat",
)
figure.add_vline(x=BLOCK + 0.5, line_dash="dot")
plot.show(figure)
# %% [markdown]
# Both trained models gain, two layers several times as much. This shows *that* the toy copies, not by which heads.
#
# ## 4. The stripe
#
# At a token's second copy, an induction head looks at what came **after** the first. A block of 3:
#
# ```text
# position   0     1   2   3     4   5   6
# token     BOS    A   B   C     A   B   C
# query 4 (A) should look at key 2 (B), query 5 (B) at key 3 (C), query 6 (C) at key 4 (A)
# ```
#
# **Induction score** (also *prefix-matching score*, Olsson et al. 2022): the mean weight there, over the batch and the
# `block` queries of the second copy.
#
# <details><summary>Hint</summary>
#
# What is `query - key`, for a block of 3, and for any? With `queries = torch.arange(...)`,
# `pattern[:, :, queries, keys]` picks pairs.
#
# </details>
# %% exercise="induction_score" points=2 difficulty=3 minutes=8
def induction_score(
    pattern: Float[Tensor, "batch head query key"]
) -> Float[Tensor, "head"]:
    """Each head's mean weight, over the batch and the queries of the second copy, on the
    key after the first copy.

    Args:
        pattern: of a model that read rows from repeated_tokens; so there are 2 * block + 1
            queries, and keys.
    """
    ### BEGIN SOLUTION
    block = pattern.shape[-1] // 2
    queries = torch.arange(block + 1, 2 * block + 1)
    return pattern[:, :, queries, queries - block + 1].mean((0, 2))
    ### END SOLUTION
# %% check="induction_score"
# %% [markdown]
# **Predict**: how many of the toy's four heads in layer 1 are induction heads: one or two, or more?
#
# A head that always looks back by 29 positions scores 1 here, too. The null that tells them apart is a second half that
# does **not** repeat: what would the two score there?
#
# <details><summary>Answer</summary>
#
# All four! On rows that do not repeat, an induction head finds nothing and scores little; the fixed distance still
# scores 1.
#
# </details>
# %% experiment=True
fresh_half = repeated_tokens(32, BLOCK, 1, STORY_WORDS, seed=99)[:, 1 : BLOCK + 1]
unrepeated = torch.cat([random_rows[:, : BLOCK + 1], fresh_half], dim=1)
for kind, tokens in (("repeated", random_rows), ("not repeated", unrepeated)):
    for name, model in trio.items():
        by_layer = [induction_score(pattern).tolist() for pattern in patterns(model, tokens)]
        said = [[round(score, 2) for score in layer] for layer in by_layer]
        print(f"{kind:>12}, {name:>10}: {said}")
even = torch.ones(1, 1, 2 * BLOCK + 1, 2 * BLOCK + 1).tril()
print(f"even spread: {induction_score(even / even.sum(-1, keepdim=True)).item():.3f}")
plot.attention(
    toy.to_str_tokens(short[0]),
    patterns(toy, short)[:, 0].flip(0).flatten(0, 1),
    heads=[f"L{layer}H{head}" for layer, head in product((1, 0), range(4))],
    title="8 random tokens, twice: layer 1 shows the stripe",
)
# %% [markdown]
# The toy's stripe comes from the tokens. The twin's low score stays: no induction.
#
# %% [markdown]
# **Another head, same rows: at each query of the second copy its weight lies on key `query - block`. What is it?**
# (a) a duplicate-token head: it finds the same token; (b) an induction head, as a whole block comes again; (c) a
# previous-token head, which looks back
# %% exercise="answer_stripe" points=1 difficulty=2 minutes=2
answer_stripe = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_stripe = "a"
### END SOLUTION
# %% check="answer_stripe"
# %% [markdown]
# ### What a head writes
#
# Where a head looks is half of it: what does it **do** with what it reads? Its output, before `W_O`, is `z`:
# `[batch pos head d_head]`. Through $z\,W_O\,W_U$ it changes the logits at once. A head that copies raises the token
# that it looks at; on the second copy an induction head looks at the next one.
#
# **Copying score**: how many standard deviations, over the vocabulary, the next token's logit stands above the mean in
# what this head adds. Over the queries of the second copy but the last, which has no next token. (Olsson et al. use
# another scale.)
#
# <details><summary>Hint</summary>
#
# `z[:, queries, h] @ W_O[h] @ W_U` has shape `[row query d_vocab]`; `.gather(-1, tokens[:, queries + 1, None])`.
#
# </details>
# %% exercise="copying_score" points=2 difficulty=3 minutes=12
def copying_score(
    z: Float[Tensor, "row 2*block+1 head d_head"],
    W_O: Float[Tensor, "head d_head d_model"],
    W_U: Float[Tensor, "d_model d_vocab"],
    tokens: Int[Tensor, "row 2*block+1"],
) -> Float[Tensor, "head"]:
    """How far each head's own part of the logits puts the next token above the mean over the
    vocabulary, in standard deviations over the vocabulary (the standard deviation divides by
    d_vocab - 1, as x.std() does).

    The mean over rows and the queries of the second copy, without the last.
    """
    ### BEGIN SOLUTION
    block = tokens.shape[1] // 2
    queries = torch.arange(block + 1, 2 * block)
    scores = []
    for head in range(z.shape[2]):
        added = z[:, queries, head] @ W_O[head] @ W_U  # [row query d_vocab]
        heights = (added - added.mean(-1, keepdim=True)) / added.std(-1, keepdim=True)
        scores.append(heights.gather(-1, tokens[:, queries + 1, None]).mean())
    return torch.stack(scores)
    ### END SOLUTION
# %% check="copying_score"
# %% [markdown]
# **Predict**: both scores of the toy's heads. Which heads copy: those with the stripe, or L0H1 as well?
#
# <details><summary>Answer</summary>
#
# Those with the stripe. L0H1 looks at the *previous* token, and what it writes is read by layer 1, not by the output.
#
# </details>
# %% experiment=True
shuffled = random_rows[torch.arange(32).roll(1)]  # another row's tokens: the null
with torch.no_grad():
    _, cache = toy.run_with_cache(random_rows)
    stripe = [induction_score(cache["pattern", layer]) for layer in range(2)]
    copying = [
        [
            copying_score(cache["z", layer], toy.W_O[layer], toy.W_U, tokens)
            for layer in range(2)
        ]
        for tokens in (random_rows, shuffled)
    ]
print("head   prefix matching   copying   copying, tokens of another row")
for layer, head in product(range(2), range(4)):
    own, null = (kind[layer][head] for kind in copying)
    print(f"L{layer}H{head} {stripe[layer][head]:16.2f} {own:10.2f} {null:10.2f}")
# %% [markdown]
# Only heads that pass both tests are called induction heads here: a stripe alone may be read by nobody (section 11).
#
# ## 5. A hook that watches
#
# A **hook** is a function that the running model calls with an activation: `your_function(value, hook=point)`.
#
# - The second parameter must be **called** `hook`. `hook.layer()` says where it is; `hook.name` may be another name
#   for the place that you asked for, as below.
# - What it **returns** replaces the activation. Return nothing, and all stays as it is.
# - `run_with_hooks` takes its hooks away afterwards; those of `model.add_hook` stay until `model.reset_hooks()`.
# %%
def look(z: Float[Tensor, "batch pos head d_head"], hook: HookPoint) -> None:
    print(f"layer {hook.layer()}, shape {list(z.shape)}, name {hook.name}")


z_of_layer_1 = utils.get_act_name("z", 1)
print("asked for:", z_of_layer_1)
with torch.no_grad():
    toy.run_with_hooks(short, fwd_hooks=[(z_of_layer_1, look)])
# %% [markdown]
# Write a hook for patterns that keeps each head's score, so that no pattern needs to be stored. Write *into* the tensor
# `scores` that you are given: `scores = ...` would only reuse its name.
# %% exercise="induction_hook" points=2 difficulty=2 minutes=6
def induction_hook(
    pattern: Float[Tensor, "batch head query key"],
    hook: HookPoint,
    scores: Float[Tensor, "layer head"],
) -> None:
    """Puts the induction scores of this layer's heads into row hook.layer() of scores, and
    changes nothing else.
    """
    ### BEGIN SOLUTION
    scores[hook.layer()] = induction_score(pattern)
    ### END SOLUTION
# %% check="induction_hook"
# %%
def all_induction_scores(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"]
) -> Float[Tensor, "layer head"]:
    """The induction score of every head, by your hook."""
    scores = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    watch = [(only_patterns, partial(induction_hook, scores=scores))]
    with torch.no_grad():
        model.run_with_hooks(tokens, return_type=None, fwd_hooks=watch)
    return scores
# %% [markdown]
# Now watch the circuit form: 19 checkpoints of the toy, and of its twin with one layer.
#
# **Predict**: does the best score rise evenly over the training, or suddenly? What does the loss on the second copy do
# meanwhile?
#
# <details><summary>Answer</summary>
#
# Suddenly, and the loss falls with it: a **phase change**. The twin's score stays low. (The figures: below.)
#
# </details>
# %% experiment=True
steps = models.checkpoints("attn_only_2l")
best, second_copy = {}, {}
for name, model_name in (("two layers", "attn_only_2l"), ("one layer", "attn_only_1l")):
    model = models.load(model_name)
    best[name], second_copy[name] = [], []
    for step in steps:
        model.load_state_dict(shipped.state_dict(model_name, step))
        best[name].append(all_induction_scores(model, random_rows[:8]).max().item())
        with torch.no_grad():
            losses = copy_loss(model(random_rows[:8]), random_rows[:8])
        second_copy[name].append(losses.mean().item())
    chosen = (0, 400, 500, 600, 1000, 3000)
    said = [round(best[name][steps.index(step)], 2) for step in chosen]
    print(f"{name}: best score at steps {list(chosen)}: {said}")
plot.show(
    plot.line(
        best,
        x=steps,
        x_label="training step",
        y_label="best induction score",
        title="Induction appears suddenly",
    ),
    plot.line(
        second_copy,
        x=steps,
        x_label="training step",
        y_label="loss (nats)",
        title="Loss on the second copy",
    ),
)
# %% [markdown]
# Score and loss change together, and of our two models only in the one with two layers. Together is not yet *because*:
# for that, take heads away.
#
# ## 6. Hooks that edit
#
# To **ablate** a head is to overwrite what its `z`, `[batch pos head d_head]`, tells:
#
# - **zero**: all of it becomes 0;
# - **mean**: all of it becomes its mean over the batch *and* all positions: one vector `[d_head]`.
#
# A trap first. The library hands you the tensor itself, and so do caches:
# %% experiment=True
def careless(z, hook):
    z[:, :, 0] = 0  # writes into the model's own tensor
    return z


kept = []
with torch.no_grad():
    keep = (z_of_layer_1, lambda z, hook: kept.append(z))
    toy.run_with_hooks(short, fwd_hooks=[keep, (z_of_layer_1, careless)])
largest = kept[0].abs().amax((0, 1, 3))  # [head]
print(f"what the first hook kept: head 0 {largest[0]:.2f}, head 1 {largest[1]:.2f}")
# %% [markdown]
# What we kept was overwritten by a *later* hook. So: change a copy, `z.clone()`, and return it.
# %% exercise="zero_ablate" points=1 difficulty=2 minutes=5
def zero_ablate(
    z: Float[Tensor, "batch pos head d_head"], hook: HookPoint, heads: list[int]
) -> Float[Tensor, "batch pos head d_head"]:
    """A copy of z in which the listed heads are 0; z itself stays as it is."""
    ### BEGIN SOLUTION
    z = z.clone()
    z[:, :, heads] = 0
    return z
    ### END SOLUTION
# %% check="zero_ablate"
# %% exercise="mean_ablate" points=1 difficulty=2 minutes=5
def mean_ablate(
    z: Float[Tensor, "batch pos head d_head"], hook: HookPoint, heads: list[int]
) -> Float[Tensor, "batch pos head d_head"]:
    """A copy of z in which each listed head has, everywhere, its own mean over batch and
    positions.
    """
    ### BEGIN SOLUTION
    z = z.clone()
    z[:, :, heads] = z[:, :, heads].mean((0, 1))
    return z
    ### END SOLUTION
# %% check="mean_ablate"
# %% [markdown]
# **Zero ablation of a head raises the loss by 2 nats, mean ablation not at all. What do you learn?**
# (a) how the head's output varies from place to place matters; (b) the others count on the constant part of its output;
# (c) one of the hooks must be wrong, as the two should agree
# %% exercise="answer_zero" points=1 difficulty=2 minutes=3
answer_zero = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_zero = "b"
### END SOLUTION
# %% check="answer_zero"
# %%
kinds = {"zero": zero_ablate, "mean": mean_ablate}
all_heads = list(product(range(2), range(4)))
labels = [f"L{layer}H{head}" for layer, head in all_heads]


@torch.no_grad()
def text_losses(model, tokens, heads: list[Head], ablate) -> Float[Tensor, "row"]:
    """The mean loss on each row, without these heads of one layer."""
    layer = heads[0][0] if heads else 0
    hook = partial(ablate, heads=[head for _, head in heads])
    hooks = [(utils.get_act_name("z", layer), hook)] if heads else []
    log_probs = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, :-1].log_softmax(-1)
    return -log_probs.gather(-1, tokens[:, 1:, None])[..., 0].mean(-1)


SENTENCES = [
    "The museum opens at nine, but on Mondays the garden is closed for the gardeners.",
    "To make the soup, cut the onions into thin rings and fry them slowly in butter.",
    "Most bridges of that time were built of stone, because iron was still too dear.",
    "She wrote to her brother every week, although he rarely answered any of them.",
    "A computer stores each number as a row of bits, and the first gives its sign.",
    "In winter the wolves come closer to the farms, where the snow is not so deep.",
]
# %% [markdown]
# **Predict**: one head ablated at a time, in the toy on stories and in layer 1 of SmolLM2 on six sentences. In which of
# the two models does it matter which kind of ablation?
#
# <details><summary>Answer</summary>
#
# In SmolLM2, for one head above all. The toy's heads add next to nothing that is the same everywhere.
#
# </details>
# %% experiment=True
sentences = [smol.to_tokens(text) for text in SENTENCES]
shortest = min(tokens.shape[1] for tokens in sentences)
sentences = torch.cat([tokens[:, :shortest] for tokens in sentences])
cases = {
    "toy, stories": (toy, stories, all_heads),
    "SmolLM2, layer 1": (smol, sentences, [(1, head) for head in range(9)]),
}
figures = []
for name, (model, tokens, heads) in cases.items():
    whole = text_losses(model, tokens, [], zero_ablate)
    rises, errors = {}, []
    for kind, ablate in kinds.items():
        without = [text_losses(model, tokens, [head], ablate) - whole for head in heads]
        intervals = [evidence.interval(rise) for rise in without]  # over rows
        rises[kind] = [each.value for each in intervals]
        errors.append([each.high - each.value for each in intervals])
    figures.append(
        plot.bar(
            rises,
            x=[f"L{layer}H{head}" for layer, head in heads],
            errors=errors,
            x_label="head that is ablated",
            y_label="rise of the loss (nats)",
            title=f"{name}: without one head (bars: 95 % intervals over rows)",
        )
    )
plot.show(*figures)
# %% [markdown]
# On stories the toy misses L0H1 and L0H2 most, whichever way they are ablated. SmolLM2's L1H3 hurts when it is zeroed,
# and not at its mean: other parts count on a constant. Use mean ablation where a head may add one.
#
# ## 7. Which heads does the toy need?
#
# Now any set of heads, in any layers, at once. Heads are pairs `(layer, head)`; `partial(zero_ablate, heads=[1, 3])` is
# the hook for two heads of a layer.
#
# A Python trap: a `lambda` or inner function made in a loop looks its variables up when it is *called*, after the loop.
# All of them then see the last layer's heads. `partial` stores the value at once.
#
# Run the model under `torch.no_grad()`: a loss with a gradient keeps all activations of its run in memory.
# %%
late = [lambda: head for head in range(3)]  # noqa: B023 (a linter knows this trap)
at_once = [partial(int, head) for head in range(3)]
print("lambda:", [f() for f in late], " partial:", [f() for f in at_once])
# %% [markdown]
# <details><summary>Hint</summary>
#
# Collect pairs (hook name, hook) in a list, one for each layer that occurs; then run once, and `copy_loss`.
#
# </details>
# %% exercise="loss_without" points=2 difficulty=3 minutes=10
def loss_without(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    heads: list[Head],
    ablate: Ablate,
) -> Float[Tensor, "row"]:
    """copy_loss of each row while all these heads are ablated, by ablate(z, hook,
    heads=[...]) in each layer.

    With an empty list, the loss of the model as it is. No hook stays behind, and no
    gradient is kept.
    """
    ### BEGIN SOLUTION
    hooks = []
    for layer in {layer for layer, _ in heads}:
        here = [head for its_layer, head in heads if its_layer == layer]
        hooks.append((utils.get_act_name("z", layer), partial(ablate, heads=here)))
    with torch.no_grad():
        return copy_loss(model.run_with_hooks(tokens, fwd_hooks=hooks), tokens)
    ### END SOLUTION
# %% check="loss_without"
# %% exercise="ablation_scores" points=2 difficulty=3 minutes=8
def ablation_scores(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"], ablate: Ablate
) -> Float[Tensor, "layer head"]:
    """By how much the mean loss_without of the rows rises when this one head is ablated,
    and no other.
    """
    ### BEGIN SOLUTION
    baseline = loss_without(model, tokens, [], ablate).mean()
    scores = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    for layer, head in product(range(model.cfg.n_layers), range(model.cfg.n_heads)):
        scores[layer, head] = loss_without(model, tokens, [(layer, head)], ablate).mean() - baseline
    return scores
    ### END SOLUTION
# %% check="ablation_scores"
# %% [markdown]
# **Predict**: whose ablation hurts most: that of the best induction head?
#
# <details><summary>Answer</summary>
#
# No: that of L0H1, the previous-token head. All four induction heads read its notes, and any of them can stand in for
# another.
#
# </details>
# %% experiment=True
damage_of_one = {"zero": ablation_scores(toy, random_rows, zero_ablate)}
damage_of_one["mean"] = ablation_scores(toy, random_rows, mean_ablate)
plot.imshow(
    torch.stack(list(damage_of_one.values())),
    facets=[f"{kind} ablation" for kind in damage_of_one],
    x_label="head",
    y_label="layer",
    value_label="rise (nats)",
    scale="positive",
    text=True,
    title="One head ablated: rise of the loss on the second copy",
)
# %% [markdown]
# A run for each head is slow in large models. Instead, **stack**: one copy of the batch for each head, one run.
#
# **Predict**: one run of 8 copies in place of 9 runs. Is it 9 times as fast, or less?
#
# <details><summary>Answer</summary>
#
# Less: the arithmetic is the same, only what each run costs beside it is saved.
#
# </details>
# %% experiment=True
def stacked_ablation_scores(model, tokens):
    """The zero ablation scores of all heads, from a single run."""
    heads = list(product(range(model.cfg.n_layers), range(model.cfg.n_heads)))
    stacked, rows = tokens.repeat(len(heads), 1), len(tokens)  # [head*row pos]

    def edit(z, hook):
        z = z.clone()
        for i, (layer, head) in enumerate(heads):
            if layer == hook.layer():
                z[i * rows : (i + 1) * rows, :, head] = 0
        return z

    hooks = [(utils.get_act_name("z", layer), edit) for layer in range(model.cfg.n_layers)]
    with torch.no_grad():
        baseline = copy_loss(model(tokens), tokens).mean()
        losses = copy_loss(model.run_with_hooks(stacked, fwd_hooks=hooks), stacked)
    return losses.reshape(model.cfg.n_layers, model.cfg.n_heads, rows).mean(-1) - baseline


few = repeated_tokens(2, 10, 1, STORY_WORDS, seed=2)
times = evidence.ratio_of_times(
    lambda: ablation_scores(toy, few, zero_ablate), lambda: stacked_ablation_scores(toy, few)
)
print(f"a run for each head, against stacked: {times}")
difference = ablation_scores(toy, few, zero_ablate) - stacked_ablation_scores(toy, few)
print(f"largest difference {difference.abs().max():.0e}")
# %% [markdown]
# What is gained depends on model and machine, and all copies must fit into memory.
#
# ## 8. Who reads what: composition
#
# Losing L0H1 hurts most. Does layer 1 read its notes in its queries, its keys or its values? Papers call this Q-, K-
# and
# V-**composition** (Elhage et al. 2021). Ablate the head *for one of these inputs alone*, by two runs:
#
# 1. with the heads ablated; keep what the hook `k` of the layer sees;
# 2. with nothing ablated, but that layer's `k` replaced by what you kept.
# %% [markdown]
# <details><summary>Hint</summary>
#
# The first run needs the hooks of `loss_without`, and one more at `utils.get_act_name(part, layer)` that appends the
# activation to a list. The second needs one hook, which returns it.
#
# </details>
# %% exercise="composition_ablation" points=3 difficulty=4 minutes=20
def composition_ablation(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    heads: list[Head],
    layer: int,
    part: str,
    ablate: Ablate,
) -> Float[Tensor, "row"]:
    """copy_loss of each row when only one input of one layer lacks these heads.

    Args:
        heads: heads of layers before `layer`, ablated by ablate(z, hook, heads=[...]).
        part: "q", "k" or "v": the input of `layer` that is as if the heads were ablated,
            for all its heads; all else in the model is as it was.

    No hook stays behind, and no gradient is kept.
    """
    ### BEGIN SOLUTION
    hooks = []
    for below in {its_layer for its_layer, _ in heads}:
        here = [head for its_layer, head in heads if its_layer == below]
        hooks.append((utils.get_act_name("z", below), partial(ablate, heads=here)))
    name, kept = utils.get_act_name(part, layer), []
    with torch.no_grad():
        model.run_with_hooks(tokens, fwd_hooks=[*hooks, (name, lambda x, hook: kept.append(x.clone()))])
        return copy_loss(model.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: kept[0])]), tokens)
    ### END SOLUTION
# %% check="composition_ablation"
# %% [markdown]
# **Predict**: for L0H1, through which of the three does layer 1 need it? Look at the drawing at the top.
#
# <details><summary>Answer</summary>
#
# Through the keys: "I follow Mrs" is what the induction head looks *for*. Its query is the word itself, and so is what
# it copies.
#
# </details>
# %% experiment=True
whole = loss_without(toy, random_rows, [], mean_ablate)
by_part = [
    [
        composition_ablation(toy, random_rows, [(0, head)], 1, part, mean_ablate) - whole
        for part in "qkv"
    ]
    for head in range(4)
]  # [head][part], each [row]
for part, rise in zip("qkv", by_part[1], strict=True):
    print(f"L0H1 mean-ablated for {part} alone: rise {evidence.interval(rise):.2f} nats")
everywhere = loss_without(toy, random_rows, [(0, 1)], mean_ablate) - whole
print(f"L0H1 mean-ablated everywhere: rise {evidence.interval(everywhere):.2f} nats")
plot.imshow(
    torch.tensor([[rise.mean() for rise in row] for row in by_part]),
    x=["q", "k", "v"],
    y=[f"L0H{head}" for head in range(4)],
    x_label="input of layer 1 that lacks the head",
    y_label="head",
    value_label="rise (nats)",
    text=True,
    title="Loss on the second copy: who feeds which input of layer 1",
)
# %% [markdown]
# Most of what L0H1 is worth on this task goes through the keys; queries and values, and the other heads, are the null.
#
# ## 9. Controls
#
# "Without these heads the loss rises by 2" says little: perhaps it does without *any*. The matched control: as many
# other heads of the same layers, drawn at random.
# %% [markdown]
# <details><summary>Hint</summary>
#
# `torch.randperm(n, generator=...)` shuffles 0 to n - 1.
#
# </details>
# %% exercise="control_heads" points=2 difficulty=3 minutes=10
def control_heads(heads: list[Head], n_heads: int, seed: int) -> list[Head]:
    """As many heads as there are, in each layer, drawn at random from its other heads.

    Args:
        heads: different pairs (layer, head), in any order. No layer has over half of its
            heads in the list.
        n_heads: heads in a layer, numbered from 0.
        seed: the same seed gives the same heads; over many seeds, all other heads of a
            layer come up equally often, independently of what is drawn in other layers.
    """
    ### BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    controls = []
    for layer in sorted({layer for layer, _ in heads}):
        others = [head for head in range(n_heads) if (layer, head) not in heads]
        needed = n_heads - len(others)
        controls += [(layer, others[i]) for i in torch.randperm(len(others), generator=generator)[:needed].tolist()]
    return controls
    ### END SOLUTION
# %% check="control_heads"
# %% [markdown]
# **The best two induction heads of the toy are L1H0 and L1H1, so the control is L1H2 and L1H3: induction heads, too.
# Ablating them hurts, though less. What does that show?**
# (a) that induction heads matter little for this task; (b) that ablation breaks the model, whichever heads it takes;
# (c) nothing against them: the difference understates their part
# %% exercise="answer_control" points=1 difficulty=2 minutes=3
answer_control = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_control = "c"
### END SOLUTION
# %% check="answer_control"
# %% [markdown]
# How far would the mean move with other rows? `evidence.interval` gives the 95 % **confidence interval** of a mean over
# independent values (Student's t), here rows: `0.42 [0.31, 0.53]`.
#
# **Predict**: L1H0 alone costs about 0.4, L1H1 about 0.3. And both at once: less than the sum, the sum, or more?
#
# <details><summary>Answer</summary>
#
# Far more. Single ablations understate heads that stand in for each other.
#
# </details>
# %% experiment=True
def damage(model, tokens, heads, ablate) -> Float[Tensor, "row"]:
    """How much each row's loss rises without these heads."""
    whole = loss_without(model, tokens, [], ablate)
    return loss_without(model, tokens, heads, ablate) - whole


top_two = [(1, 0), (1, 1)]
control = control_heads(top_two, 4, seed=0)
sets = {
    "top two of layer 1": top_two,
    "control in layer 1": control,
    "previous-token L0H0, L0H1": [(0, 0), (0, 1)],
    "rest of layer 0": [(0, 2), (0, 3)],
}
# rows that did not choose the top two
fresh_rows = repeated_tokens(32, BLOCK, 1, STORY_WORDS, seed=1)
for kind, ablate in kinds.items():
    harm = {name: damage(toy, fresh_rows, heads, ablate) for name, heads in sets.items()}
    for name, values in harm.items():
        print(f"{kind}, {name:>25}: rise {evidence.interval(values):.2f} nats")
    apart = evidence.difference(
        harm["top two of layer 1"], harm["control in layer 1"], paired=True
    )
    print(f"{kind}, top two minus control: {apart:.2f}")
few_rows = random_rows[:8]
pairs = [
    [damage(toy, few_rows, list({a, b}), zero_ablate).mean() for b in all_heads]
    for a in all_heads
]
plot.imshow(
    torch.tensor(pairs),
    x=labels,
    y=labels,
    x_label="and without",
    y_label="without",
    value_label="rise (nats)",
    scale="positive",
    text=True,
    title="Loss on the second copy without two heads (diagonal: one)",
)
# %% [markdown]
# The best two cost several times as much as the other two; the interval of the difference is far from 0. But most harm
# comes from losing L0H1, whose induction score is 0: damage shows what is *needed*, not what does the job. And this is
# one trained model: the intervals are over rows, not over models.
#
# ## 10. The real model
#
# Put it together: the heads of any model that do most induction.
#
# <details><summary>Hint</summary>
#
# `all_induction_scores` of section 5, `.flatten().topk(count).indices.tolist()`; then
# `divmod(index, model.cfg.n_heads)`.
#
# </details>
# %% exercise="induction_heads" points=2 difficulty=2 minutes=8
def induction_heads(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"], count: int
) -> list[Head]:
    """The `count` heads with the highest induction scores on rows from repeated_tokens,
    best first.

    Heads of equal score may come in any order.
    """
    ### BEGIN SOLUTION
    scores = all_induction_scores(model, tokens)
    return [divmod(index, model.cfg.n_heads) for index in scores.flatten().topk(count).indices.tolist()]
    ### END SOLUTION
# %% check="induction_heads"
# %% [markdown]
# **Predict**: SmolLM2 has 270 heads. We ablate its best 8, and then, five times over, 8 controls of the same layers.
# Does the loss on the second copy rise by more or by less than in the toy? And without the controls? On the *first*
# copy, is the loss of the whole model near $\log 49152 = 10.8$ nats, which a guess that favours nothing has? (This
# takes
# up to a minute.)
#
# <details><summary>Answer</summary>
#
# More, and without the controls hardly: in a large model most heads have other jobs. The first copy costs *more* than
# 10.8: the model does not spread its guesses evenly, it bets on text, and loses. Its bets have an entropy of some 6
# nats.
# A guess about random tokens is never better, on average, than the even one.
#
# </details>
# %% experiment=True
SMOL_WORDS = torch.arange(17, smol.cfg.d_vocab)  # 0 to 16 are special
BOS = smol.tokenizer.bos_token_id
smol_rows = repeated_tokens(6, 20, BOS, SMOL_WORDS, seed=0)
scores = all_induction_scores(smol, smol_rows)
best_8 = induction_heads(smol, smol_rows, 8)
fresh = repeated_tokens(8, 20, BOS, SMOL_WORDS, seed=1)  # these did not choose the heads
fresh_half = repeated_tokens(8, 20, BOS, SMOL_WORDS, seed=2)[:, 1:21]
unrepeated = torch.cat([fresh[:, :21], fresh_half], dim=1)
again, null = (all_induction_scores(smol, tokens) for tokens in (fresh, unrepeated))
print("best 8: score on the rows that chose them, on fresh rows, on rows that do not repeat")
for head in best_8:
    said = " ".join(f"{of[head]:.2f}" for of in (scores, again, null))
    print(f"  L{head[0]}H{head[1]} {said}")
print(f"largest of 270 on rows that do not repeat: {null.max():.2f}")
draws = [control_heads(best_8, smol.cfg.n_heads, seed) for seed in range(5)]
whole = loss_without(smol, fresh, [], zero_ablate)  # [row]
with torch.no_grad():
    log_probs = smol(fresh)[:, :20].log_softmax(-1)
first_copy = -log_probs.gather(-1, fresh[:, 1:21, None])[..., 0].mean(-1)
entropy = -(log_probs.exp() * log_probs).sum(-1).mean(-1)
print(f"nothing ablated: loss on the first copy {evidence.interval(first_copy):.2f} nats,")
print(f"  where the guesses have entropy {evidence.interval(entropy):.2f};")
print(f"  loss on the second copy {evidence.interval(whole):.2f}")
harms = {}
for kind, ablate in kinds.items():
    harm = harms[kind] = loss_without(smol, fresh, best_8, ablate) - whole
    controls = [loss_without(smol, fresh, heads, ablate) - whole for heads in draws]
    worst = max(rise.mean() for rise in controls)
    apart = evidence.interval(harm - torch.stack(controls).mean(0))
    print(f"{kind}, best 8: rise {evidence.interval(harm):.2f} nats")
    print(f"{kind}, the worst of {len(draws)} draws of controls: rise {worst:.2f}")
    print(f"{kind}, best 8 minus the mean of the controls: {apart:.2f}")
plot.imshow(
    scores.T,
    x_label="layer",
    y_label="head",
    value_label="score",
    scale="positive",
    title="SmolLM2: induction scores",
)
# %% [markdown]
# The intervals (t, over 8 rows) are far apart, for both kinds of ablation, and no draw of controls comes near. On rows
# that do not repeat the stripe is gone: these heads follow the tokens, not a fixed distance.
#
# **Predict**: ordinary text, with invented names that come again. Where does the loss rise without the best 8?
#
# <details><summary>Answer</summary>
#
# Where a name goes on as it did before, and hardly elsewhere. Without controls: hardly anywhere.
#
# </details>
# %% experiment=True
FIRST = ["Tobias", "Oda", "Marlo", "Ines", "Ruben", "Petra", "Jonas", "Wanda"]
LAST = ["Wrennick", "Marlowick", "Teskin", "Orbel", "Quandry", "Solvane", "Fenwarth", "Dubb"]
PLACES = ["village", "harbour", "valley", "suburb", "abbey", "castle"]


def a_story(i: int) -> str:
    """Two people with invented names, who are named three times."""
    a = f"{FIRST[i]} {LAST[i]}"
    b = f"{FIRST[(i + 3) % 8]} {LAST[(i + 5) % 8]}"
    return (
        f"In the {PLACES[i]} lived {a} and {b}. Each morning {a} fed the gulls, while {b} "
        f"painted the boats. One day a letter came for {b}, and the postman asked an old "
        f"woman where to find the house. Ask {a}, she said."
    )


@torch.no_grad()
def token_losses(tokens, heads: list[Head]) -> Float[Tensor, "pos-1"]:
    """SmolLM2's loss on each token after the first, with these heads at their mean."""
    by_layer = {layer: [head for its, head in heads if its == layer] for layer, _ in heads}
    hooks = [
        (utils.get_act_name("z", layer), partial(mean_ablate, heads=here))
        for layer, here in by_layer.items()
    ]
    log_probs = smol.run_with_hooks(tokens, fwd_hooks=hooks)[0, :-1].log_softmax(-1)
    return -log_probs.gather(-1, tokens[0, 1:, None])[:, 0]


def follows_again(ids: list[int]) -> list[bool]:
    """For each token after the first: did it follow the one before it once already?"""
    pairs = list(pairwise(ids))
    return [pair in pairs[:i] for i, pair in enumerate(pairs)]


rises = {(who, where): [] for who in ("best 8", "controls") for where in ("again", "else")}
shown = {}
for i in range(len(PLACES)):
    tokens = smol.to_tokens(a_story(i))
    again = torch.tensor(follows_again(tokens[0].tolist()))
    whole = token_losses(tokens, [])
    for who, sets in (("best 8", [best_8]), ("controls", draws[:2])):
        without = torch.stack([token_losses(tokens, heads) for heads in sets]).mean(0) - whole
        rises[who, "again"].append(without[again].mean().item())
        rises[who, "else"].append(without[~again].mean().item())
        shown.setdefault(who, (tokens, without))
for (who, where), of_story in rises.items():
    place = "where a token follows again" if where == "again" else "elsewhere"
    print(f"without {who:>8}, {place:>27}: rise {evidence.interval(of_story):.2f} nats")
plot.show(
    *(
        plot.tokens(
            smol.to_str_tokens(tokens[0][1:]),
            without,
            title=f"Without {who}: blue, the loss rises; red, it falls (nats)",
            limit=5,
        )
        for who, (tokens, without) in shown.items()
    )
)
# %% [markdown]
# The heads found on random tokens do the same job in text. The intervals are over six stories of one kind, made to have
# such names: the heads *can* matter in language, this does not say how often they do.
#
# ## 11. Open task: a circuit among decoys
#
# Here are models whose weights were written by hand. In each, some previous-token heads and induction heads form one
# **or several** induction circuits, and each circuit does the whole job alone. Other heads look the same, but what they
# write is read by nobody; look back by a fixed distance; rest on a sink; or do another job.
#
# Find the heads that induction runs through, spare circuits included, and name no other; a model may have no circuit at
# all. You choose measure, threshold and null. Your function is tried on models that you have not seen; it must find at
# least 90 % of all such heads, and at most 10 % of those that it names may be others.
#
# <details><summary>Hint</summary>
#
# When a second circuit stands in, does the loss move much? Do the logits? Whose removal moves them?
#
# </details>
# %%
example, truth = wired.build(seed=0, n_layers=3, n_heads=6, copies=2)
cfg = example.cfg
print(f"{cfg.n_layers} layers of {cfg.n_heads} heads, at most {cfg.n_ctx} positions")
print(f"tokens: 0 is [BOS]; 1 to {cfg.d_vocab - 2} are ordinary;", end=" ")
print(f"{cfg.d_vocab - 1} is only predicted")
for role in sorted(set(truth.roles.values())):
    print(f"{role:>21}: {sorted(truth.with_role(role))}")
# %% exercise="find_induction_circuit" points=5 difficulty=5 minutes=45
def find_induction_circuit(model: TransformerBridge) -> set[Head]:
    """The heads (layer, head) that the model's induction runs through, and no others."""
    ### BEGIN SOLUTION
    n = model.cfg.d_vocab - 2
    block = min(n, (model.cfg.n_ctx - 1) // 2)
    tokens = repeated_tokens(16, block, 0, torch.arange(1, n + 1), seed=0)
    is_next = torch.nn.functional.one_hot(tokens[:, block + 2 :], n + 2)[..., 1 : n + 1].bool()

    @torch.no_grad()
    def height(heads: list[Head]) -> Tensor:
        """How far the next token's logit stands above those of the other ordinary tokens."""
        hooks = [(utils.get_act_name("z", layer), partial(zero_ablate, heads=[head])) for layer, head in heads]
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, block + 1 : -1, 1 : n + 1]
        return logits[is_next].mean() - logits[~is_next].mean()

    whole = height([])
    if whole < 1:  # no circuit: a copying head alone raises the tokens of a row by some tenths
        return set()
    heads = product(range(model.cfg.n_layers), range(model.cfg.n_heads))
    return {head for head in heads if whole - height([head]) > 0.15 * whole}
    ### END SOLUTION
# %% check="find_induction_circuit"
# %% experiment=True
found = find_induction_circuit(example)
print("found: ", sorted(found))
circuit = set().union(*truth.paths["induction"])
print("missed:", sorted(circuit - found))
print("wrong: ", {head: truth.roles[head] for head in sorted(found - circuit)})
# The null: a model that has the other heads, but no induction circuit
rest = {"behaviours": ("seen", "copying"), "decoys": ("offset", "mute previous", "rest")}
without, _ = wired.build(seed=0, n_layers=3, n_heads=6, **rest)
print("without a circuit:", sorted(find_induction_circuit(without)))
# %% [markdown]
# A pattern is a hypothesis; removal is the test, and what you measure decides what removal can show.
#
# ## Bonus (not graded)
#
# 1. Find SmolLM2's duplicate-token heads (key `query - block`), and ablate them. Does copying need them?
# 2. Rows of three copies: is the third easier than the second? Where do induction heads look then?
# 3. `composition_ablation` on SmolLM2: which heads do the best induction heads read in their keys?
# 4. SmolLM2's best previous-token head: does ablating it hurt copying as L0H1 does in the toy?
# %% [markdown]
# ## Recap
#
# Look (a score against its null), test (random tokens, repeated), intervene (ablate), trace (composition), compare
# (controls).
#
# | confusion | what holds |
# |---|---|
# | "It attends there, so it uses that" | many heads rest on the first token; ablate before you say *uses* |
# | "Induction heads look at the earlier copy" | at the token *after* it; on the copy itself: duplicate-token heads |
# | "Ablating one head does little, so it does little" | others may stand in; ablate them together |
# | "The loss rose, so I found the circuit" | how much does it rise for as many other heads of those layers? |
# | "My hook did nothing" | it forgot to `return`; or its tensor was not the one that the name stands for |
#
# Read on: Elhage et al. 2021, *A Mathematical Framework for Transformer Circuits*; Olsson et al. 2022, *In-context
# Learning and Induction Heads* (both on transformer-circuits.pub); Xiao et al. 2023, *Efficient Streaming Language
# Models with Attention Sinks*; `transformer_lens.head_detector`, which scores heads
# against patterns of your own.
