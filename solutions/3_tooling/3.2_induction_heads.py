# %% [markdown]
# # 3.2 Attention heads and induction
#
# After *"Mrs Quill opened the door. Mrs"* a language model expects *" Quill"*. It never saw that name in training: it
# found it in the text. Two kinds of attention heads do this together:
#
# ```text
# position      1       2          3        4      5       6         7
# token        Mrs    Quill     opened     the    door.   Mrs        ?
#               |       |                                  |
#               +-----> +  1. a previous-token head notes  |
#                       |     on Quill: "I follow Mrs"     |
#                       +--------------------------------> +  2. an induction head at the second Mrs looks for
#                                                                "I follow Mrs", finds Quill, and predicts it
# ```
#
# You will find such heads in a toy model and in a real one, and show by experiment that they matter.
# %% generated="overview"
# %% setup=True
import math
import time
from collections.abc import Callable
from functools import partial
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import utilities as utils
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import corpus, models, plot
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
stories = corpus.batch(32, 40, corpus.HELD_OUT)  # [row pos], each row a story's beginning after [BOS]
layer_0 = utils.get_act_name("pattern", 0)
with torch.no_grad():
    logits, cache = toy.run_with_cache(stories, names_filter=lambda name: name.endswith("hook_pattern"))
print(f"cache['pattern', 0] is {layer_0}: [batch head query key] = {list(cache['pattern', 0].shape)}")
weights = ", ".join(f"{weight:.2f}" for weight in cache["pattern", 0][0, 1, 2, :3])
print(f"row 0, head 1: query 2 gives keys 0, 1 and 2 the weights {weights}")


def patterns(model: TransformerBridge, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "layer batch head query key"]:
    """The attention patterns of all layers, for the sections below."""
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern"))
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
# **Predict**: which layer holds the previous-token head? What does a head score that spreads its weight evenly?
#
# <details><summary>Answer</summary>
#
# Layer 0: induction, in layer 1, needs its notes. An even spread scores 0.07 on each: compare with that, not with 0.
#
# </details>
# %% experiment=True
detectors = {"itself": current_token_score, "previous": previous_token_score, "first": first_token_score}
even = torch.ones(1, 1, 40, 40).tril()
even = even / even.sum(-1, keepdim=True)  # the null: no preference at all
both_layers = torch.cat([cache["pattern", 0], cache["pattern", 1]], dim=1)  # [batch head=8 query key]
scores = {name: torch.cat([score(both_layers), score(even)]) for name, score in detectors.items()}
names = [f"L{layer}H{head}" for layer, head in product(range(2), range(4))] + ["even"]
words = toy.to_str_tokens(stories[0][:16])
plot.show(
    plot.bar(scores, x=names, x_label="head", y_label="mean weight", title="Where the toy's heads look, in stories"),
    plot.attention(words, cache["pattern", 0][0, [1, 0], :16, :16], heads=["L0H1", "L0H0"], title="One story"),
)
# %% [markdown]
# L0H1, and less so L0H0 and L0H2, look at the previous token; layer 1 prefers the first. Such a mean hides what a head
# does only now and then.
#
# ## 2. Heads that rest
#
# SmolLM2-135M is a real language model: 30 layers of 9 heads. Mind two traps.
#
# - **Shared keys.** Its 9 query heads share 3 key and value heads ("grouped queries"): `hook_k` and `hook_v` have 3
#   heads; `hook_q`, `hook_pattern` and `hook_z` have 9.
# - **The start token.** `to_tokens` and friends put one before your text; a tensor of tokens is taken as it is. Forget
#   it, and position 0 is an ordinary word.
# %%
smol = models.smollm2()
text = "When the rain had stopped, Anna walked down to the harbour and counted the boats that had come in overnight."
with_start, without = smol.to_tokens(text), smol.to_tokens(text, prepend_bos=False)
print(smol.to_str_tokens(with_start[0][:4]), smol.to_str_tokens(without[0][:4]))
parts = ("q", "k", "v", "z", "pattern")
with torch.no_grad():
    _, shapes = smol.run_with_cache(with_start, names_filter=[utils.get_act_name(part, 3) for part in parts])
print({part: list(shapes[part, 3].shape) for part in parts})
# %% [markdown]
# **Predict**: how many of the 270 heads give the first position over half of their weight? And where do they look when
# the start token is missing?
#
# <details><summary>Answer</summary>
#
# 109 with it, 147 without: whatever comes first, there they look.
#
# </details>
# %% experiment=True
on_first = {}
for name, tokens in (("with the start token", with_start), ("without", without)):
    on_first[name] = torch.stack([first_token_score(pattern) for pattern in patterns(smol, tokens)])  # [layer head]
    over_half, n = (on_first[name] > 0.5).sum(), tokens.shape[1]
    even_score = sum(1 / (query + 1) for query in range(2, n)) / (n - 2)
    print(f"{name:>20}: {over_half} of 270 heads over 0.5 (an even spread scores {even_score:.2f})")
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
# (a) it carries the beginning of the text to all later words; (b) it carries next to nothing about this text: at
# position 0 the model has seen the start token alone, the same in all texts; (c) it matters more than heads with spread
# weights
# %% exercise="answer_rest" points=1 difficulty=2 minutes=3
answer_rest = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_rest = "b"
### END SOLUTION
# %% check="answer_rest"
# %% [markdown]
# One reading: these heads rest until what they look for turns up. High weight is not importance.
#
# ## 3. A test that only copying passes
#
# In stories, many tricks predict the next word. In **random tokens, repeated**, only one does: look what came next the
# last time. Each row is
#
# `[bos, t1, t2, ..., t_block, t1, t2, ..., t_block]`
#
# Tokens are drawn from a list of *ordinary* ones: special tokens, such as `[BOS]` or padding, would confuse the model.
# %%
def copy_loss(
    logits: Float[Tensor, "row 2*block+1 d_vocab"], tokens: Int[Tensor, "row 2*block+1"]
) -> Float[Tensor, "row"]:
    """For each row, the mean loss in nats on the second copy, without its first token, which nothing foretells."""
    log_probs = logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    return -log_probs[:, tokens.shape[1] // 2 + 1 :].mean(-1)


generators = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
print("seeds 1, 1 and 2:", [torch.randint(0, 100, (3,), generator=generator).tolist() for generator in generators])
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
# %% [markdown]
# **Predict**: at each position, the loss of the toy, of its twin with *one* layer, and of the toy before training?
#
# <details><summary>Answer</summary>
#
# On the first copy all guess, and are near log(329) = 5.8 or above. On the second, from its second token on, the toy's
# loss falls almost to 0. One layer can favour tokens that were there, but not the one that comes next: it gains less.
#
# </details>
# %% experiment=True
BLOCK = 30
STORY_WORDS = torch.arange(4, 333)  # 0 to 3 are [PAD] [BOS] [EOS] [UNK]
one_layer, untrained = models.load("attn_only_1l"), models.load("attn_only_2l", step=0)
trio = {"two layers": toy, "one layer": one_layer, "untrained": untrained}
random_rows = repeated_tokens(32, BLOCK, 1, STORY_WORDS, seed=0)
curves = {}
for name, model in trio.items():
    with torch.no_grad():
        log_probs = model(random_rows)[:, :-1].log_softmax(-1)
    losses = -log_probs.gather(-1, random_rows[:, 1:, None])[..., 0]  # [row pos - 1]
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
# Two layers gain 6 nats, one layer 1.8. This shows *that* the toy copies, not by which heads.
#
# ## 4. The stripe
#
# At the second copy of a token, an induction head looks at what came **after** its first copy. A block of 3:
#
# ```text
# position   0     1   2   3     4   5   6
# token     BOS    A   B   C     A   B   C
# query 4 (A) should look at key 2 (B), query 5 (B) at key 3 (C), query 6 (C) at key 4 (A)
# ```
#
# **Induction score**: the mean weight there, over the batch and the `block` queries of the second copy.
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
# **Predict**: how many of the toy's four heads in layer 1 are induction heads? What does an even spread score?
#
# <details><summary>Answer</summary>
#
# All four! Even spread: about 0.02.
#
# </details>
# %% experiment=True
for name, model in trio.items():
    by_layer = [induction_score(pattern) for pattern in patterns(model, random_rows)]
    print(f"{name:>10}:", [[round(score, 3) for score in layer.tolist()] for layer in by_layer])
even = torch.ones(1, 1, 2 * BLOCK + 1, 2 * BLOCK + 1).tril()
print(f"even spread: {induction_score(even / even.sum(-1, keepdim=True)).item():.3f}")
short = repeated_tokens(1, 8, 1, STORY_WORDS, seed=2)
plot.attention(
    toy.to_str_tokens(short[0]),
    patterns(toy, short)[:, 0].flip(0).flatten(0, 1),
    heads=[f"L{layer}H{head}" for layer, head in product((1, 0), range(4))],
    title="8 random tokens, twice: layer 1 shows the stripe",
)
# %% [markdown]
# **Another head, same rows: at each query of the second copy its weight lies on key `query - block`. What is it?**
# (a) an induction head; (b) a duplicate-token head: it looks at the earlier copy of the same token; (c) a
# previous-token head
# %% exercise="answer_stripe" points=1 difficulty=2 minutes=2
answer_stripe = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_stripe = "b"
### END SOLUTION
# %% check="answer_stripe"
# %% [markdown]
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
# %% [markdown]
# Now watch it being learned: 19 checkpoints of the toy, and of its twin with one layer.
#
# **Predict**: does the best score rise evenly? What does the loss on the second copy do meanwhile?
#
# <details><summary>Answer</summary>
#
# 0.05 at step 400, 0.49 at 600, 0.81 at 1000; the loss falls with it: a **phase change**. The twin's score stays
# below 0.08.
#
# </details>
# %% experiment=True
def all_induction_scores(model: TransformerBridge, tokens: Int[Tensor, "row pos"]) -> Float[Tensor, "layer head"]:
    """The induction score of every head, by your hook."""
    scores = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    watch = [(lambda name: name.endswith("hook_pattern"), partial(induction_hook, scores=scores))]
    with torch.no_grad():
        model.run_with_hooks(tokens, return_type=None, fwd_hooks=watch)
    return scores


steps = models.checkpoints("attn_only_2l")
best, second_copy = {}, {}
for name, model_name in (("two layers", "attn_only_2l"), ("one layer", "attn_only_1l")):
    model = models.load(model_name)
    best[name], second_copy[name] = [], []
    for step in steps:
        model.load_state_dict(shipped.state_dict(model_name, step))
        best[name].append(all_induction_scores(model, random_rows[:8]).max().item())
        with torch.no_grad():
            second_copy[name].append(copy_loss(model(random_rows[:8]), random_rows[:8]).mean().item())
    at = [steps.index(step) for step in (0, 400, 500, 600, 1000, 3000)]
    print(f"{name}: best score at steps {[steps[i] for i in at]}: {[round(best[name][i], 2) for i in at]}")
plot.show(
    plot.line(
        best, x=steps, x_label="training step", y_label="best induction score", title="Induction appears suddenly"
    ),
    plot.line(second_copy, x=steps, x_label="training step", y_label="loss (nats)", title="Loss on the second copy"),
)
# %% [markdown]
# Score and loss change together, and only with two layers. Together is not yet *because*: for that, take heads away.
#
# ## 6. Hooks that edit
#
# A head's output, before `W_O`, is `z`: `[batch pos head d_head]`. To **ablate** it is to overwrite its information:
#
# - **zero**: all of the head's `z` become 0;
# - **mean**: all become the mean of the head's own `z` over the batch *and* all positions: one vector `[d_head]`.
#
# A trap first. The library hands you the tensor itself, and so do caches:
# %% experiment=True
def careless(z, hook):
    z[:, :, 0] = 0  # writes into the model's own tensor
    return z


kept = []
with torch.no_grad():
    keep_then_edit = [(z_of_layer_1, lambda z, hook: kept.append(z)), (z_of_layer_1, careless)]
    toy.run_with_hooks(short, fwd_hooks=keep_then_edit)
print(
    f"what the first hook kept, head 0: {kept[0][:, :, 0].abs().max():.2f}; head 1: {kept[0][:, :, 1].abs().max():.2f}"
)
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
# (a) how the head's output varies matters a lot; (b) the rest of the model counts on the constant that it adds, but not
# on how it varies; (c) one of the two hooks must be wrong
# %% exercise="answer_zero" points=1 difficulty=2 minutes=3
answer_zero = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_zero = "b"
### END SOLUTION
# %% check="answer_zero"
# %% [markdown]
# **Predict**: held-out stories, one head of the toy ablated at a time. Does it matter which kind of ablation?
#
# <details><summary>Answer</summary>
#
# Hardly: these heads add next to nothing that is the same everywhere. In SmolLM2 (section 9) it does.
#
# </details>
# %% experiment=True
@torch.no_grad()
def story_losses(hooks: list) -> Float[Tensor, "row"]:
    """The toy's mean loss on each story, under these hooks."""
    log_probs = toy.run_with_hooks(stories, fwd_hooks=hooks)[:, :-1].log_softmax(-1)
    return -log_probs.gather(-1, stories[:, 1:, None])[..., 0].mean(-1)


kinds = {"zero": zero_ablate, "mean": mean_ablate}
all_heads = list(product(range(2), range(4)))
labels = [f"L{layer}H{head}" for layer, head in all_heads]
rises, errors = {}, []
for kind, ablate in kinds.items():
    of_head = [[(utils.get_act_name("z", layer), partial(ablate, heads=[head]))] for layer, head in all_heads]
    rise = torch.stack([story_losses(hooks) - story_losses([]) for hooks in of_head])  # [head row]
    rises[kind] = rise.mean(-1)
    errors.append(2 * rise.std(-1) / math.sqrt(len(stories)))
plot.bar(
    rises,
    x=labels,
    errors=errors,
    x_label="head that is ablated",
    y_label="rise of the loss (nats)",
    title="Stories without one head (bars: 2 standard errors over stories)",
)
# %% [markdown]
# On stories L0H1 and L0H2 matter most. On other data it may be others: see next.
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
print("lambda:", [f() for f in late], " partial:", [f() for f in [partial(int, head) for head in range(3)]])
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
# %% exercise="ablation_scores" points=2 difficulty=2 minutes=8
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
# **Predict**: one run of 8 copies in place of 9 runs. How much faster, for this toy?
#
# <details><summary>Answer</summary>
#
# A few times, not 9: the arithmetic is the same, only what each run costs beside it is saved.
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
ways = {"a run for each head": partial(ablation_scores, ablate=zero_ablate), "stacked": stacked_ablation_scores}
seconds = {way: [] for way in ways}
for _ in range(5):
    for way, function in ways.items():
        began = time.perf_counter()
        result = function(toy, few)
        seconds[way].append(time.perf_counter() - began)
fastest = {way: min(times) for way, times in seconds.items()}
print({way: f"{1000 * took:.0f} ms" for way, took in fastest.items()})
print(f"stacked is {fastest['a run for each head'] / fastest['stacked']:.1f} times as fast")
print(f"largest difference {(result - ablation_scores(toy, few, zero_ablate)).abs().max():.0e}")
# %% [markdown]
# What is gained depends on model and machine, and all copies must fit into memory.
#
# ## 8. Controls
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
# (a) that induction heads do not matter; (b) nothing against them: the difference understates their part; (c) that
# ablation breaks the model, whichever heads one takes
# %% exercise="answer_control" points=1 difficulty=2 minutes=3
answer_control = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_control = "b"
### END SOLUTION
# %% check="answer_control"
# %% [markdown]
# How far would the mean move with other rows? The **bootstrap** draws the rows anew, with replacement, 2,000 times, and
# gives the middle 95 % of the means (notebook 1.3).
#
# **Predict**: L1H0 alone costs about 0.4, L1H1 about 0.3. And both at once?
#
# <details><summary>Answer</summary>
#
# 1.7, far more than the sum. Single ablations understate heads that stand in for each other.
#
# </details>
# %% experiment=True
def interval(values: Float[Tensor, "row"], draws: int = 2000) -> str:
    """The mean, and the middle 95 % of the means of rows drawn anew with replacement."""
    picks = torch.randint(len(values), (draws, len(values)), generator=torch.Generator().manual_seed(0))
    low, high = values[picks].mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
    return f"{values.mean():5.2f} [{low:.2f}, {high:.2f}]"


def damage(model, tokens, heads, ablate) -> Float[Tensor, "row"]:
    """How much each row's loss rises without these heads."""
    return loss_without(model, tokens, heads, ablate) - loss_without(model, tokens, [], ablate)


top_two = [(1, 0), (1, 1)]
sets = {"top two of layer 1": top_two, "control in layer 1": control_heads(top_two, 4, seed=0)}
sets |= {"previous-token L0H0, L0H1": [(0, 0), (0, 1)], "rest of layer 0": [(0, 2), (0, 3)]}
for kind, ablate in kinds.items():
    harm = {name: damage(toy, random_rows, heads, ablate) for name, heads in sets.items()}
    for name, values in harm.items():
        print(f"{kind}, {name:>25}: rise {interval(values)} nats")
    print(f"{kind}, top two minus control: {interval(harm['top two of layer 1'] - harm['control in layer 1'])}")
few_rows = random_rows[:8]
pairs = [[damage(toy, few_rows, list({a, b}), zero_ablate).mean() for b in all_heads] for a in all_heads]
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
# The best two cost three times as much as the other two; the interval of the difference is far from 0. But most harm
# comes from losing L0H1, whose induction score is 0: damage shows what is *needed*, not what does the job. And this is
# one trained model: rows were drawn anew, not models.
#
# ## 9. The real model
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
# **Predict**: SmolLM2 has 270 heads. We ablate its best 8, and then, eight times over, 8 controls of the same layers.
# Does the loss on the second copy rise as much as in the toy? And without the controls? (This takes up to a minute.)
#
# <details><summary>Answer</summary>
#
# More: by about 9 nats. Without the controls by less than 1. In a large model most heads have other jobs.
#
# </details>
# %% experiment=True
SMOL_WORDS = torch.arange(17, smol.cfg.d_vocab)  # 0 to 16 are special
smol_rows = repeated_tokens(6, 20, smol.tokenizer.bos_token_id, SMOL_WORDS, seed=0)
scores = all_induction_scores(smol, smol_rows)
best_8 = induction_heads(smol, smol_rows, 8)
print("best:", ", ".join(f"L{layer}H{head} {scores[layer, head]:.2f}" for layer, head in best_8))
fresh = repeated_tokens(6, 20, smol.tokenizer.bos_token_id, SMOL_WORDS, seed=1)  # not the rows that chose the heads
draws = [control_heads(best_8, smol.cfg.n_heads, seed) for seed in range(8)]
whole = loss_without(smol, fresh, [], zero_ablate)  # [row]
with torch.no_grad():
    log_probs = smol(fresh)[:, :20].log_softmax(-1)
first_copy = -log_probs.gather(-1, fresh[:, 1:21, None])[..., 0].mean(-1)
print(f"nothing ablated: loss {interval(first_copy)} nats on the first copy, {interval(whole)} on the second")
harms = {}
for kind, ablate in kinds.items():
    harm = harms[kind] = loss_without(smol, fresh, best_8, ablate) - whole
    controls = torch.stack([loss_without(smol, fresh, heads, ablate) for heads in draws]) - whole  # [draw row]
    worst = controls.mean(1).max()
    print(f"{kind}, best 8: rise {interval(harm)} nats")
    print(f"{kind}, controls: rise {interval(controls.mean(0))}, the worst of {len(draws)} draws {worst:.2f}")
    print(f"{kind}, difference: {interval(harm - controls.mean(0))}")
print(f"best 8, zero minus mean: {interval(harms['zero'] - harms['mean'])}")
plot.imshow(
    scores.T, x_label="layer", y_label="head", value_label="score", scale="positive", title="SmolLM2: induction scores"
)
# %% [markdown]
# The intervals are far apart, for both kinds of ablation, and no draw of controls comes near. Zero ablation hurts more
# than mean ablation: here heads do add something constant that others count on.
#
# **Predict**: ordinary text, with invented names that come again. Where does the loss rise without the best 8?
#
# <details><summary>Answer</summary>
#
# Where a name goes on as it did before, and hardly elsewhere. Without controls: hardly anywhere.
#
# </details>
# %% experiment=True
story = (
    "In the village lived Tobias Wrennick and his sister Oda Marlowick. Each morning Tobias Wrennick fed the gulls, "
    "while Oda Marlowick painted the boats that the fishermen had mended. One day a letter came for Oda Marlowick, "
    "and the postman asked an old woman at the market where he could find her. Ask Tobias Wrennick, she said."
)
tokens = smol.to_tokens(story)


@torch.no_grad()
def token_losses(heads: list[Head]) -> Float[Tensor, "pos-1"]:
    """SmolLM2's loss on each token of the story after the first, with these heads at their mean."""
    by_layer = {layer: [head for its, head in heads if its == layer] for layer, _ in heads}
    hooks = [(utils.get_act_name("z", layer), partial(mean_ablate, heads=here)) for layer, here in by_layer.items()]
    log_probs = smol.run_with_hooks(tokens, fwd_hooks=hooks)[0, :-1].log_softmax(-1)
    return -log_probs.gather(-1, tokens[0, 1:, None])[:, 0]


ids, whole = tokens[0].tolist(), token_losses([])
seen = [ids[i - 1 : i + 1] in [ids[j - 1 : j + 1] for j in range(1, i)] for i in range(1, len(ids))]
seen = torch.tensor(seen)  # [pos - 1]: this token followed the one before it once already
without_best = token_losses(best_8) - whole
without_controls = torch.stack([token_losses(heads) - whole for heads in draws[:5]]).mean(0)
print(f"loss of the whole model: {whole[seen].mean():.2f} on {seen.sum()} tokens that follow the same token once more,")
print(f"                         {whole[~seen].mean():.2f} on the {(~seen).sum()} others")
for name, rise in (("best 8", without_best), ("controls", without_controls)):
    print(f"without {name:>8}: rise {interval(rise[seen])} on the former, {interval(rise[~seen])} on the latter")
shown = smol.to_str_tokens(tokens[0][1:])
plot.show(
    plot.tokens(shown, without_best, title="Rise of the loss without the best 8 (nats)", limit=5),
    plot.tokens(shown, without_controls, title="Without 8 controls (mean of 5 draws)", limit=5),
)
# %% [markdown]
# The heads found on random tokens do the same job in text. One text, chosen by us to have such names: it shows that
# they *can* matter in language, not how often they do.
#
# ## Bonus (not graded)
#
# 1. Find SmolLM2's duplicate-token heads (key `query - block`), and ablate them. Does copying need them?
# 2. Rows of three copies: is the third easier than the second? Where do induction heads look then?
# 3. Ablate only what L0H1 gives to layer 1's *keys*: hook `k` of layer 1 (papers call this K-composition; notebook 3.5
#    finds it in the weights).
# 4. SmolLM2's best previous-token head: does ablating it hurt copying as L0H1 does in the toy?
# %% [markdown]
# ## Recap
#
# Look (a score against an even spread), test (random tokens, repeated), intervene (ablate), compare (controls).
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
# Learning and Induction Heads* (both on transformer-circuits.pub); `transformer_lens.head_detector`, which scores heads
# against patterns of your own. Next: **3.3 Logit attribution and lenses**.
