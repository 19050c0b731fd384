# %% [markdown]
# # 3.4 Patching
#
# After *"Once Anna Wood met Mark Stone. Later Anna"* a model expects *" Wood"*. Exchange the
# first names in the middle, *"Once Mark Wood met Anna Stone ..."*, and it expects *" Stone"*. Two prompts that differ
# in one thing: run the model on one, put a single activation of the other into it, and watch the answer. If the answer
# comes back, that activation carries the difference. This is **activation patching**, the field's main causal tool.
#
# ![One activation of the clean run is copied into the corrupted run, and the answer is measured](figures/patching.svg)
#
# You will localise a behaviour of a real model to positions, heads and their inputs, do it several times faster than
# with one run for each head, and find out when the popular gradient shortcut lies.
# %% generated="overview"
# %% setup=True
import random
from collections.abc import Callable
from functools import partial
from itertools import product
from unittest import mock

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import patching
from transformer_lens import utilities as utils
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import evidence, models, plot, wired

Head = tuple[int, int]  # (layer, head)
Source = dict[str, Tensor]  # activations of one run, by hook name
# what is measured: from logits [pair pos d_vocab] a number for each pair, at the last position
Metric = Callable[[Tensor], Tensor]
# %% [markdown]
# ## 1. A behaviour, and its measure
#
# Each pair of prompts has the same tokens in the same places, but for the two first names. Names are drawn at random;
# the question is about the first person as often as about the second.
# %%
smol = models.smollm2()
N_LAYERS, N_HEADS = smol.cfg.n_layers, smol.cfg.n_heads
FIRST = [
    "Anna", "Mark", "Mary", "John", "Tom", "Peter", "Alice",
    "Paul", "Sarah", "James", "David", "Emma", "Simon", "Laura",
]
LAST = [
    "Wood", "Stone", "Green", "King", "Fox", "Hill", "Rose",
    "Young", "White", "Bell", "Cook", "Baker", "Field", "Brown",
]
FRAMES = [
    "Once {} {} met {} {}. Later {}",
    "Once {} {} saw {} {}. Today {}",
    "Once {} {} called {} {}. Then {}",
    "Once {} {} helped {} {}. Now {}",
]


def name_pairs(n: int, seed: int):
    """Clean and corrupted prompts [pair pos], and the last names they ask for [pair]."""
    draw = random.Random(seed)
    clean, corrupted, right, wrong = [], [], [], []
    for i in range(n):
        (a, b), (last_a, last_b) = draw.sample(FIRST, 2), draw.sample(LAST, 2)
        frame, asked = FRAMES[i // 2 % 4], i % 2
        clean.append(frame.format(a, last_a, b, last_b, (a, b)[asked]))
        corrupted.append(frame.format(b, last_a, a, last_b, (a, b)[asked]))
        right.append(smol.to_single_token(" " + (last_a, last_b)[asked]))
        wrong.append(smol.to_single_token(" " + (last_b, last_a)[asked]))
    clean = torch.cat([smol.to_tokens(text) for text in clean])
    corrupted = torch.cat([smol.to_tokens(text) for text in corrupted])
    return clean, corrupted, torch.tensor(right), torch.tensor(wrong)


clean, corrupted, right, wrong = name_pairs(4, seed=0)  # to search on
fresh = name_pairs(12, seed=1)  # to test on what was found
for prompt in (clean[0], corrupted[0]):
    print(smol.to_str_tokens(prompt))
PLACES = {"first a": 2, "last a": 3, "first b": 5, "last b": 6, "period": 7, "end": 9}
# %% [markdown]
# The measure is the **logit difference**: the right answer's logit less the wrong one's, at the last position. What
# both answers share (*some last name comes*) cancels, and it adds up: logits are sums of what the parts of a model
# write (given the final norm's scale), probabilities are not.
# %% exercise="logit_diff" points=1 difficulty=2 minutes=5
def logit_diff(
    logits: Float[Tensor, "pair pos d_vocab"],
    right: Int[Tensor, "pair"],
    wrong: Int[Tensor, "pair"],
) -> Float[Tensor, "pair"]:
    """For each pair, the logit of its right token minus that of its wrong one, at the last
    position.
    """
    ### BEGIN SOLUTION
    last = logits[:, -1]
    return (last.gather(-1, right[:, None]) - last.gather(-1, wrong[:, None]))[:, 0]
    ### END SOLUTION
# %% check="logit_diff"
# %% [markdown]
# **Predict**: on how many of the 12 fresh pairs does the model prefer the right name to the wrong one, in the clean
# prompt? A behaviour that the model does not have cannot be localised: the base rate comes first.
#
# <details><summary>Answer</summary>
#
# On nearly all, by several nats. In the corrupted prompt, where the other name is right, the sign turns.
#
# </details>
# %% experiment=True
metric = partial(logit_diff, right=right, wrong=wrong)
prefers = {}  # how often the right name is preferred
with torch.no_grad():
    for name, tokens in (("clean", fresh[0]), ("corrupted", fresh[1])):
        differences = logit_diff(smol(tokens, logits_to_keep=1), *fresh[2:])
        n_right = (differences > 0).sum()
        said = evidence.interval(differences)
        prefers[name] = evidence.interval(differences > 0, "exact")
        print(f"{name:>9}: {said:.2f} nats, above 0 on {n_right} of 12")
# %% [markdown]
# 11 of 12: it has the behaviour. (Pairs that fail stay in: to drop them would flatter every later number.)
#
# ### How much came back?
#
# Put the patched value on a scale: 0 is the corrupted run, 1 the clean run. Take **means over pairs first**, then the
# ratio. A ratio for each pair, averaged, is ruled by pairs whose two runs hardly differ.
#
# $$\text{recovered} = \frac{\overline{\text{patched}} - \overline{\text{corrupted}}}{\overline{\text{clean}} -
# \overline{\text{corrupted}}}$$
# %% exercise="recovered" points=1 difficulty=2 minutes=4
def recovered(
    patched: Float[Tensor, "... pair"],
    clean: Float[Tensor, "pair"],
    corrupted: Float[Tensor, "pair"],
) -> Float[Tensor, "..."]:
    """The share of the gap between corrupted (0) and clean (1) that patching closes: of the
    means over pairs.
    """
    ### BEGIN SOLUTION
    return (patched.mean(-1) - corrupted.mean()) / (clean.mean() - corrupted.mean())
    ### END SOLUTION
# %% check="recovered"
# %% [markdown]
# ## 2. Which position, at which layer?
#
# Patching needs the activations of the other run. `keep` stores them in a dictionary, by the names that we ask for.
#
# - **Copy before you write**: the hook gets the model's own tensor. `x = x.clone()`, change, return.
# - **`hook.name` is another name** than the one you asked for (see below), so `source[hook.name]` fails. Hand the name
#   or the tensor to the hook yourself, by `partial` or a default argument.
# - **`hook_resid_mid` is a dead end**: it is a copy that only the MLP's norm reads. To change the stream, write to
#   `hook_resid_pre`, `hook_resid_post` or `hook_attn_out`.
# %%
@torch.no_grad()
def keep(model: TransformerBridge, tokens: Int[Tensor, "pair pos"], parts: list[str]):
    """The logits of a run, and the activations of these parts in all layers, by hook name."""
    layers = range(model.cfg.n_layers)
    names = [utils.get_act_name(part, layer) for part, layer in product(parts, layers)]
    logits, cache = model.run_with_cache(tokens, names_filter=names)
    return logits, {name: cache[name] for name in names}


toy = models.load("story_lm")  # three layers with MLPs: quick to try things on
toy_tokens = torch.arange(4, 20)[None]
with torch.no_grad():
    toy.run_with_hooks(
        toy_tokens, fwd_hooks=[("blocks.1.hook_resid_pre", lambda x, hook: print(hook.name))]
    )
    whole = toy(toy_tokens)


def beside_mlp(hooks):
    """What block 1 leaves in the stream, but for what its MLP writes."""
    with toy.hooks(fwd_hooks=hooks):
        _, kept = keep(toy, toy_tokens, ["resid_post", "mlp_out"])
    return kept["blocks.1.hook_resid_post"] - kept["blocks.1.hook_mlp_out"]


for name in ("hook_resid_mid", "hook_attn_out"):
    zero = [(f"blocks.1.{name}", lambda x, hook: torch.zeros_like(x))]
    with torch.no_grad():
        moved = (toy.run_with_hooks(toy_tokens, fwd_hooks=zero) - whole).abs().max()
    change = (beside_mlp(zero) - beside_mlp([])).abs().max()
    print(f"{name} at zero: logits move by up to {moved:.2f},", end=" ")
    print(f"the stream beside the MLP's output by {change:.2f}")
# %% [markdown]
# Zeros in `resid_mid` do change the logits, because the MLP reads them; but the stream keeps all that was in it, and
# what attention wrote. So a patch there looks as if it worked, and is not what you think.
#
# ### The first tool
#
# Replace the stream at one layer's entrance (`resid_pre`) and one position.
#
# <details><summary>Hint</summary>
#
# Two loops; in each a hook for `utils.get_act_name("resid_pre", layer)` that replaces `x[:, position]`, a run, and
# `metric(logits)`. Then `torch.stack(...).reshape(...)`.
#
# </details>
# %% exercise="patch_residual" points=2 difficulty=3 minutes=15
def patch_residual(
    model: TransformerBridge,
    tokens: Int[Tensor, "pair pos"],
    source: Source,
    layers: list[int],
    positions: list[int],
    metric: Metric,
) -> Float[Tensor, "layer position pair"]:
    """metric(logits) of runs on tokens in which resid_pre of one layer at one position (the
    same in all rows) comes from source: one run for each of the layers and positions.

    No hook of yours stays behind, and those of others do. No gradient is kept, tokens and
    source stay as they are. All this holds for the functions below, too.
    """
    ### BEGIN SOLUTION
    values = []
    for layer, position in product(layers, positions):
        name = utils.get_act_name("resid_pre", layer)

        def swap(resid, hook, kept=source[name], position=position):
            resid = resid.clone()
            resid[:, position] = kept[:, position]
            return resid

        with torch.no_grad():
            values.append(metric(model.run_with_hooks(tokens, fwd_hooks=[(name, swap)])))
    return torch.stack(values).reshape(len(layers), len(positions), -1)
    ### END SOLUTION
# %% check="patch_residual"
# %%
PARTS = ["resid_pre", "q", "k", "v", "z", "pattern"]
clean_logits, from_clean = keep(smol, clean, PARTS)
corrupted_logits, from_corrupted = keep(smol, corrupted, PARTS)
# %% [markdown]
# **Predict**: the runs differ at the two first names, and the answer is read at the end. Where does the difference sit
# in the middle layers: still at the first names, at the last names, or at the end already?
#
# <details><summary>Answer</summary>
#
# It moves twice: from the first names to the last names beside them, and from there to the end. The period is the
# control: nothing passes there.
#
# </details>
# %% experiment=True
at_clean, at_corrupted = metric(clean_logits), metric(corrupted_logits)
two = slice(0, 2)  # two pairs are enough for a first look
layers = [0, 16, 18, 21, 26]
by_place = patch_residual(
    smol,
    corrupted[two],
    {name: kept[two] for name, kept in from_clean.items()},
    layers,
    list(PLACES.values()),
    partial(logit_diff, right=right[two], wrong=wrong[two]),
)
stream_map = recovered(by_place, at_clean[two], at_corrupted[two])
plot.imshow(
    stream_map,
    x=list(PLACES),
    y=layers,
    x_label="position",
    y_label="layer",
    value_label="recovered",
    text=True,
    title="Clean stream, one place at a time",
)
# %% [markdown]
# Up to layer 16 the difference sits at the first names: each of the two restores a part of it. At layer 18 it is on its
# way: some at the last names, some at the end. From layer 21 on it is at the end. So what moves most of it does so in
# blocks 16 to 20. Two pairs, one model: a first look, which says *where*, not *by what* (section 4 tests the end again,
# on fresh pairs).
#
# ## 3. Which heads?
#
# Heads move information between positions. Patch `z`, what a head has read, of a **set of heads at once**: at all
# positions, or only at some.
#
# A trap of shared keys (3.2): SmolLM2 has 9 query heads, but 3 heads of keys and values. Three query heads read each of
# them: query head `h` reads `h // 3`. To patch the keys of a query head is to patch those of its two neighbours.
# `model.cfg.n_key_value_heads` is None where nothing is shared.
#
# <details><summary>Hint</summary>
#
# Heads of several layers need several hooks: one for each layer that occurs. Or one for each head: hooks at the same
# place run one after the other.
#
# </details>
# %% exercise="patch_heads" points=2 difficulty=3 minutes=12
def patch_heads(
    model: TransformerBridge,
    tokens: Int[Tensor, "pair pos"],
    source: Source,
    heads: list[Head],
    metric: Metric,
    positions: list[int] | None = None,
) -> Float[Tensor, "pair"]:
    """metric(logits) of one run on tokens in which z of all these heads comes from source, at
    these positions (None: at all).
    """
    ### BEGIN SOLUTION
    where = slice(None) if positions is None else positions
    hooks = []
    for layer, head in heads:
        name = utils.get_act_name("z", layer)

        def swap(z, hook, kept=source[name], head=head):
            z = z.clone()
            z[:, where, head] = kept[:, where, head]
            return z

        hooks.append((name, swap))
    with torch.no_grad():
        return metric(model.run_with_hooks(tokens, fwd_hooks=hooks))
    ### END SOLUTION
# %% check="patch_heads"
# %% exercise="patch_head_part" points=2 difficulty=3 minutes=12
def patch_head_part(
    model: TransformerBridge,
    tokens: Int[Tensor, "pair pos"],
    source: Source,
    heads: list[Head],
    part: str,
    metric: Metric,
) -> Float[Tensor, "pair"]:
    """metric(logits) of one run on tokens in which one part of all these query heads, at all
    positions, comes from source.

    Args:
        part: "q", "k", "v" or "z". For "k" and "v", what these query heads read is patched:
            the heads of keys and values that they share with others.
    """
    ### BEGIN SOLUTION
    shared_by = 1
    if part in ("k", "v") and model.cfg.n_key_value_heads:
        shared_by = model.cfg.n_heads // model.cfg.n_key_value_heads
    hooks = []
    for layer, head in heads:
        name = utils.get_act_name(part, layer)

        def swap(x, hook, kept=source[name], head=head // shared_by):
            x = x.clone()
            x[:, :, head] = kept[:, :, head]
            return x

        hooks.append((name, swap))
    with torch.no_grad():
        return metric(model.run_with_hooks(tokens, fwd_hooks=hooks))
    ### END SOLUTION
# %% check="patch_head_part"
# %% [markdown]
# The pattern has its axes in another order: `[pair head query key]`, and a head there is always a query head.
# %% exercise="patch_pattern" points=1 difficulty=2 minutes=6
def patch_pattern(
    model: TransformerBridge,
    tokens: Int[Tensor, "pair pos"],
    source: Source,
    heads: list[Head],
    metric: Metric,
) -> Float[Tensor, "pair"]:
    """metric(logits) of one run on tokens in which the attention patterns of all these heads
    come from source: they look where they look there, and read what is there here.
    """
    ### BEGIN SOLUTION
    hooks = []
    for layer, head in heads:
        name = utils.get_act_name("pattern", layer)

        def swap(pattern, hook, kept=source[name], head=head):
            pattern = pattern.clone()
            pattern[:, head] = kept[:, head]
            return pattern

        hooks.append((name, swap))
    with torch.no_grad():
        return metric(model.run_with_hooks(tokens, fwd_hooks=hooks))
    ### END SOLUTION
# %% check="patch_pattern"
# %% [markdown]
# ## 4. All heads, quickly
#
# 270 heads, a run each: half a minute to minutes. Two savings:
#
# - **Resume.** Below the patched layer both runs are the same: begin with the stream as it enters that layer. The
#   bridge has `start_at_layer`, but it still runs every block and then puts your tensor in its place: right numbers,
#   nothing saved. So call the blocks yourself.
# - **Batch.** One copy of the prompts for each head of a layer; in copy `h`, head `h` is patched.
#
# And unembed the last position only: 49,152 tokens make it expensive.
# %%
def one_block(
    model: TransformerBridge, layer: int, resid: Float[Tensor, "row pos d_model"]
) -> Float[Tensor, "row pos d_model"]:
    """What leaves a block when resid enters; its hooks run. Rotary models need angles."""
    angles = {}
    if hasattr(model, "rotary_emb"):
        places = torch.arange(resid.shape[1], device=resid.device)[None]
        angles = {"position_embeddings": model.rotary_emb(resid, places)}
    out = model.blocks[layer](resid, **angles)
    return out[0] if isinstance(out, tuple) else out


seconds = {}
with torch.no_grad():
    resid = from_corrupted[utils.get_act_name("resid_pre", 29)]
    for start in (0, 29):
        again = partial(smol, resid, start_at_layer=start, logits_to_keep=1)
        seconds[f"start_at_layer={start}"] = evidence.seconds(again)
    seconds["one_block(smol, 29, ...)"] = evidence.seconds(lambda: one_block(smol, 29, resid))
print({name: f"{value:.2f} s" for name, value in seconds.items()})
block_size = sum(weight.numel() for weight in smol.blocks[0].parameters())
print(f"the unembedding has as many weights as {smol.W_U.numel() / block_size:.0f} blocks")
# %% [markdown]
# `model.ln_final` and `model.unembed` make logits of what leaves the last block. Hooks for a stretch of code:
# `with model.hooks(fwd_hooks=[...]): ...`
# %% exercise="resume_from_layer" points=2 difficulty=3 minutes=12
def resume_from_layer(
    model: TransformerBridge,
    resid: Float[Tensor, "row pos d_model"],
    layer: int,
    fwd_hooks: list[tuple[str, Callable]],
) -> Float[Tensor, "row 1 d_vocab"]:
    """The logits at the last position when resid enters the block of this layer, with these
    hooks, as run_with_hooks takes them. The blocks before it do not run.
    """
    ### BEGIN SOLUTION
    with torch.no_grad(), model.hooks(fwd_hooks=fwd_hooks):
        for later in range(layer, model.cfg.n_layers):
            resid = one_block(model, later, resid)
        return model.unembed(model.ln_final(resid[:, -1:]))
    ### END SOLUTION
# %% check="resume_from_layer"
# %% [markdown]
# <details><summary>Hint</summary>
#
# `keep(model, tokens, ["resid_pre"])` gives the streams; `resid.repeat(n_heads, 1, 1)` copies them: head by head, in
# each all pairs. In the hook, `z` is `[head*pair pos head d_head]`. Give `metric` one copy at a time: it knows only as
# many answers as there are pairs.
#
# </details>
# %% exercise="batched_head_patching" points=4 difficulty=4 minutes=25
def batched_head_patching(
    model: TransformerBridge,
    tokens: Int[Tensor, "pair pos"],
    source: Source,
    metric: Metric,
) -> Float[Tensor, "layer head pair"]:
    """patch_heads of every head by itself, at all positions, from one resumed run for each
    layer: block b runs once to give the streams, and once more for each layer up to b.
    """
    ### BEGIN SOLUTION
    n_heads, n = model.cfg.n_heads, len(tokens)
    _, streams = keep(model, tokens, ["resid_pre"])
    values = []
    for layer in range(model.cfg.n_layers):
        name = utils.get_act_name("z", layer)

        def swap(z, hook, kept=source[name]):
            z = z.clone()
            for head in range(n_heads):
                z[head * n : (head + 1) * n, :, head] = kept[:, :, head]
            return z

        resid = streams[utils.get_act_name("resid_pre", layer)].repeat(n_heads, 1, 1)
        logits = resume_from_layer(model, resid, layer, [(name, swap)])
        values.append(torch.stack([metric(copy) for copy in logits.split(n)]))
    return torch.stack(values)
    ### END SOLUTION
# %% check="batched_head_patching"
# %% [markdown]
# **Predict**: how many of the 270 heads restore more than a tenth of the gap: about 5, 30 or 100? And how many times
# as long does the library's helper (`transformer_lens.patching`, a whole run for each head) take? We give it every
# 45th head, and both two pairs at a time.
#
# <details><summary>Answer</summary>
#
# About 5, in the later half. And several times as long; the numbers are the same. You do less than half of its
# arithmetic; the rest is that one run with many rows costs less than many with few. With more pairs at a time that
# part of the gain shrinks.
#
# </details>
# %% experiment=True
some = [divmod(i, N_HEADS) for i in range(0, N_LAYERS * N_HEADS, 45)]
mine, slow, batched_seconds, helper_seconds = [], [], [], []
for two in (slice(0, 2), slice(2, 4)):  # two pairs at a time
    source = {name: kept[two] for name, kept in from_clean.items()}
    measure = partial(logit_diff, right=right[two], wrong=wrong[two])
    ours = partial(batched_head_patching, smol, corrupted[two], source, measure)
    # each result comes back through a list
    batched_seconds.append(evidence.seconds(lambda ours=ours: mine.append(ours())))
    helper = partial(
        patching.generic_activation_patch,
        smol,
        corrupted[two],
        source,
        lambda logits, measure=measure: measure(logits).mean(),
        patching.layer_head_vector_patch_setter,
        "z",
    )
    with torch.no_grad(), mock.patch.object(patching, "tqdm", iter):  # no progress bar
        for head in some:
            one = pd.DataFrame([head], columns=["layer", "head"])
            theirs = partial(helper, index_df=one)
            helper_seconds.append(evidence.seconds(lambda its=theirs: slow.append(its())))
exact = torch.cat(mine, dim=-1)  # [layer head pair]
# how many times as long 270 heads take at the pace of each
one_of_270 = sum(batched_seconds) / 2 / (N_LAYERS * N_HEADS)
pace = evidence.interval([each / one_of_270 for each in helper_seconds])
apart = torch.stack([its[head].mean() for its in mine for head in some]) - torch.cat(slow)
apart = apart.abs().max()
print("yours, 270 heads:", " and ".join(f"{each:.1f} s" for each in batched_seconds))
print(f"the helper, {len(slow)} heads: {sum(helper_seconds):.1f} s; at that pace 270 take")
print(f"  {pace:.1f} times as long as yours; largest difference {apart:.0e} nats")
by_head = recovered(exact, at_clean, at_corrupted)
best = [divmod(i, N_HEADS) for i in by_head.flatten().topk(6).indices.tolist()]
print("best:", ", ".join(f"L{head[0]}H{head[1]} {by_head[head]:.2f}" for head in best))
print(f"over a tenth: {(by_head > 0.1).sum()} of 270; below -0.1: {(by_head < -0.1).sum()}")
plot.imshow(
    by_head.T,
    x_label="layer",
    y_label="head",
    value_label="recovered",
    title="SmolLM2: z of one head from the clean run",
)
# %% [markdown]
# ### Fresh pairs, and two nulls
#
# Seven heads, all from layer 16 on. But they are the best of 270, on four pairs: luck helped some of them. So they are
# scored again on pairs that did not choose them, next to two nulls: other heads of the same layers, and the same
# heads, but patched from the clean run of **another** pair (a sentence of the same build and question, none of these
# names). A patch also **wipes out** what was there, and the second null says what that alone does.
#
# ### Denoising and noising
#
# Putting clean into corrupted is **denoising**: is this part *enough*, given the rest of the corrupted run? Putting
# corrupted into clean is **noising**: is it *needed*, given the rest of the clean run? Your functions do both: exchange
# the two prompts.
#
# **Predict**: together, what do the best six restore: the sum of what each restores, or more, or less? And patched from
# another pair, whose names are all wrong here: about 0, or far from it?
#
# <details><summary>Answer</summary>
#
# Less than the sum: in a chain each link alone can restore the same share, and a sum counts it twice. And another
# pair's activations restore far more than 0. The corrupted run is not ignorant, it is *sure of the other name*.
# Whoever wipes that out brings the difference from there to about 0 nats, and on our scale that lies above the middle.
#
# </details>
# %% experiment=True
test_clean, test_corrupted, test_right, test_wrong = fresh
test_metric = partial(logit_diff, right=test_right, wrong=test_wrong)
test_clean_logits, test_from_clean = keep(smol, test_clean, PARTS)
test_corrupted_logits, test_from_corrupted = keep(smol, test_corrupted, ["resid_pre", "z"])
high, low = test_metric(test_clean_logits), test_metric(test_corrupted_logits)
gap = (high - low).mean()
# for each pair the next one with the same question that shares no name with it
names = [set(row[[2, 3, 5, 6]].tolist()) for row in test_clean]
turns = [
    [(i + step) % len(names) for step in range(2, len(names), 2)] for i in range(len(names))
]
others = [next(j for j in turn if not names[i] & names[j]) for i, turn in enumerate(turns)]
another = {name: kept[others] for name, kept in test_from_clean.items()}
draw = random.Random(0)
controls = []
for layer, _ in best:
    free = [(layer, head) for head in range(N_HEADS) if (layer, head) not in best + controls]
    controls.append(draw.choice(free))


def share(values: Float[Tensor, "pair"]) -> evidence.Interval:
    """What is recovered, with an interval over pairs (the gap taken as known)."""
    return evidence.interval((values - low) / gap)


def resumed(streams: Source, source: Source, heads: list[Head]) -> Float[Tensor, "pair"]:
    """patch_heads on the run that streams are of, resumed from the first of these layers."""

    def swap(z, hook, kept, head):
        z = z.clone()
        z[:, :, head] = kept[:, :, head]
        return z

    names = [(utils.get_act_name("z", layer), head) for layer, head in heads]
    hooks = [(name, partial(swap, kept=source[name], head=head)) for name, head in names]
    first = min(layer for layer, _ in heads)
    stream = streams[utils.get_act_name("resid_pre", first)]
    return test_metric(resume_from_layer(smol, stream, first, hooks))


denoise, noise = partial(resumed, test_from_corrupted), partial(resumed, test_from_clean)
each_alone = {head: denoise(test_from_clean, [head]) for head in best}
whole_run = patch_heads(smol, test_corrupted, test_from_clean, [best[0]], test_metric)
off = (each_alone[best[0]] - whole_run).abs().max()
print(f"resumed runs and a whole one differ by {off:.0e} nats")
on_test = {head: share(values) for head, values in each_alone.items()}
wiped = {head: share(denoise(another, [head])) for head in best}
for head in best:
    name = f"{f'L{head[0]}H{head[1]}':>6}"
    print(f"{name}: searched {by_head[head]:.2f}, fresh {on_test[head]:.2f},", end=" ")
    print(f"from another pair {wiped[head]:.2f}")
print(f"a run that favours neither name is at {(-low.mean() / gap).item():.2f}")
all_six, all_wiped = denoise(test_from_clean, best), denoise(another, best)
control_values = denoise(test_from_clean, controls)
sets = {
    "best six, denoised": share(all_six),
    "from another pair": share(all_wiped),
    "six controls, denoised": share(control_values),
    "best six, noised": share(noise(test_from_corrupted, best)),
    "six controls, noised": share(noise(test_from_corrupted, controls)),
}
for name, found in sets.items():
    print(f"{name:>23}: {found:.2f}  (0: as corrupted, 1: as clean)")
total = evidence.interval(sum((values - low) / gap for values in each_alone.values()))
print(f"sum of the best six, one at a time: {total:.2f}")
gained = evidence.difference(all_six / gap, all_wiped / gap, paired=True)
control_wiped = denoise(another, controls)
by_controls = evidence.difference(control_values / gap, control_wiped / gap, paired=True)
print(f"the right names minus another pair's: {gained:.2f}; by controls {by_controls:.2f}")
two_places = [PLACES["end"], PLACES["period"]]
by_stream = patch_residual(
    smol, test_corrupted, test_from_clean, [21], two_places, test_metric
)
stream_end, stream_period = (share(values) for values in by_stream[0])
print(f"the stream before layer 21, end: {stream_end:.2f}; period: {stream_period:.2f}")
# %% [markdown]
# Six heads restore .93, and noised they leave .05; controls (one draw of six) restore .16, and leave .80. But .62 come
# back without the right names, too: only the difference, .31 (.11 to .51; controls .10), is *about these names*. L17H4
# restores .14 with them, .12 without. Say which null you mean: a recovered share mixes *brings the right answer* with
# *takes the wrong one away*.
#
# **Denoising a head restores nothing, and noising the same head destroys the whole difference. What fits?**
# (a) the head does nothing here, and noising merely breaks the model; (b) it works together with a part that the
# corrupted run lacks too; (c) a second head does the same job, and stands in for it
# %% exercise="answer_needed" points=1 difficulty=3 minutes=3
answer_needed = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_needed = "b"
### END SOLUTION
# %% check="answer_needed"
# %% [markdown]
# ## 5. Through which input?
#
# A head that restores the answer may do so because it **looks** elsewhere (query or keys carry the difference: the
# pattern changes), or because it **reads** something else there (its values).
#
# **Predict**: the last token, and so the last query's own word, is the same in both prompts, and so are the last names.
# Which input of the heads that act at the end carries the difference: q, k or v?
#
# <details><summary>Answer</summary>
#
# The first names were exchanged: what changes at a last name is *whose* it is. A head that looks for the right person's
# last name finds it by its keys; its value there is the same name as before. The run shows who works like this.
#
# </details>
# %% experiment=True
by_part = torch.zeros(4, 6)
inputs = ["q", "k", "v", "pattern"]
main_part = {}  # the input that restores most; there on fresh pairs; the other two, at most
for row, head in enumerate(best[:4]):
    for column, part in enumerate(inputs):
        if part == "pattern":
            values = patch_pattern(smol, corrupted, from_clean, [head], metric)
        else:
            values = patch_head_part(smol, corrupted, from_clean, [head], part, metric)
        by_part[row, column] = recovered(values, at_clean, at_corrupted)
    values = patch_heads(smol, corrupted, from_clean, [head], metric, [PLACES["end"]])
    by_part[row, 4:] = torch.stack([by_head[head], recovered(values, at_clean, at_corrupted)])
    runner_up, winner = by_part[row, :3].argsort()[1:].tolist()
    again = smol, test_corrupted, test_from_clean, [head], inputs[winner], test_metric
    restored = share(patch_head_part(*again))
    main_part[head] = inputs[winner], restored, by_part[row, runner_up].item()
    print(f"L{head[0]}H{head[1]}, fresh pairs: {inputs[winner]} restores {restored:.2f}")
plot.imshow(
    by_part,
    x=[*inputs, "z", "z at end"],
    y=[f"L{layer}H{head}" for layer, head in best[:4]],
    x_label="part that is patched",
    y_label="head",
    value_label="recovered",
    text=True,
    title="One part of one head from the clean run",
)
# %% [markdown]
# Four jobs. L16H0 works by its **values** (it reads the first name), and writes before the end. L18H6 works by its
# **keys**, so by its pattern, at the end: an induction head, 3.2's best. L23H2 works by its **queries**, mostly: what
# the end holds has changed. L29H1 works by its **values**; they restore less than its `z` does: L29H0 reads them too,
# and its `z` does harm.
#
# **In SmolLM2 (9 query heads, 3 heads of keys), patching "k" of L17H3 and patching "k" of L17H4 restore the same to the
# last digit. What follows?**
# (a) both heads look for the same thing in the same places; (b) one of the two runs has used the wrong hook point;
# (c) nothing about the two: it was the same patch twice
# %% exercise="answer_shared" points=1 difficulty=2 minutes=3
answer_shared = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_shared = "c"
### END SOLUTION
# %% check="answer_shared"
# %% [markdown]
# ## 6. The gradient shortcut
#
# How does the metric change when `z` moves from its own value to the source's? To first order:
#
# $$\Delta\text{metric} \approx \sum (z_\text{source} - z) \cdot \frac{\partial\,\text{metric}}{\partial z}$$
#
# One forward and one backward pass give all heads at once: **attribution patching** (Nanda 2023). It is exact where the
# rest of the model is linear in `z`. Softmax, norms and MLPs are not.
#
# - A hook can keep the tensor itself: `torch.autograd.grad(value.sum(), list_of_z)` differentiates by it. Here the hook
#   must **return** what it kept: the bridge shows a hook a reshaped `z`, and goes on with another tensor if nothing
#   comes back. PyTorch then says *appears to not have been used in the graph*.
# - `.backward()` would also fill `.grad` of every weight: half a gigabyte in SmolLM2, and it stays.
# %% exercise="attribution_patching" points=3 difficulty=4 minutes=20
def attribution_patching(
    model: TransformerBridge,
    tokens: Int[Tensor, "pair pos"],
    source: Source,
    metric: Metric,
) -> Float[Tensor, "layer head pair"]:
    """The first-order estimate, for each head by itself, of how much metric changes in a run
    on tokens when z of the head, at all positions, comes from source.

    The weights' .grad stays as it was, and the result keeps no gradient.
    """
    ### BEGIN SOLUTION
    names = [utils.get_act_name("z", layer) for layer in range(model.cfg.n_layers)]
    own = {}

    def watch(z, hook, name):
        own[name] = z
        return z

    hooks = [(name, partial(watch, name=name)) for name in names]
    value = metric(model.run_with_hooks(tokens, fwd_hooks=hooks))
    gradients = torch.autograd.grad(value.sum(), [own[name] for name in names])
    moves = [source[name] - own[name].detach() for name in names]
    both = zip(moves, gradients, strict=True)
    terms = [(move * gradient).sum((1, 3)) for move, gradient in both]
    return torch.stack(terms).transpose(1, 2)
    ### END SOLUTION
# %% check="attribution_patching"
# %% [markdown]
# ### Is it good?
#
# One number is not enough: a correlation $r$ over 270 heads is ruled by a few large ones, and by
# hundreds that do nothing in both. So also count how many of the best heads it finds, and name the heads that it
# misjudges most.
# %% exercise="compare_with_exact" points=2 difficulty=2 minutes=12
def compare_with_exact(
    exact: Float[Tensor, "layer head"], estimate: Float[Tensor, "layer head"], count: int
) -> tuple[float, int, list[Head]]:
    """How far an estimate can stand for the exact effects.

    Returns:
        Pearson's r over all heads; how many of the count heads with the largest exact effects
        (with their sign: a head that harms is none) are among the count heads with the
        largest estimates; and the count heads with the largest |exact - estimate|, largest
        first.
    """
    ### BEGIN SOLUTION
    r = torch.corrcoef(torch.stack([exact.flatten(), estimate.flatten()]))[0, 1].item()
    n_heads = exact.shape[1]

    def top(values):
        return [divmod(i, n_heads) for i in values.flatten().topk(count).indices.tolist()]

    return r, len(set(top(exact)) & set(top(estimate))), top((exact - estimate).abs())
    ### END SOLUTION
# %% check="compare_with_exact"
# %% [markdown]
# **Predict**: over all heads the correlation is high. For which heads will the estimate be too small: those whose
# output is read by the unembedding, or those whose output is read by another head's keys?
#
# <details><summary>Answer</summary>
#
# Those that are read by keys: then the effect passes through another head's softmax, which bends.
#
# </details>
# %% experiment=True
linear = []
linear_seconds = evidence.seconds(
    lambda: linear.append(attribution_patching(smol, corrupted, from_clean, metric))
)
estimates = linear[0]  # [layer head pair]
linear = estimates.mean(-1) / (at_clean - at_corrupted).mean()
r, shared, misjudged = compare_with_exact(by_head, linear, 6)
print(f"all heads on four pairs: {linear_seconds:.1f} s; r = {r:.2f};", end=" ")
print(f"{shared} of the best 6 are found")
for head in misjudged:
    print(f"  L{head[0]}H{head[1]}: exact {by_head[head]:+.2f}, estimate {linear[head]:+.2f}")
r_of_pair = [compare_with_exact(exact[..., i], estimates[..., i], 6)[0] for i in range(4)]
r_of_pair = evidence.interval(r_of_pair)
shuffled = []  # the null: the estimates of each layer belong to other heads of it
generator = torch.Generator().manual_seed(0)
for _ in range(200):
    order = torch.rand(linear.shape, generator=generator).argsort(1)
    shuffled.append(compare_with_exact(by_head, linear.gather(1, order), 6)[:2])
null_r, null_shared = (max(values) for values in zip(*shuffled, strict=True))
print(f"r of one pair: {r_of_pair:.2f};", end=" ")
print(f"heads of a layer shuffled, 200 times: at most {null_r:.2f}, and {null_shared} of 6")
on_fresh = attribution_patching(smol, test_corrupted, test_from_clean, test_metric) / gap
worst = misjudged[0]
by_slope = evidence.interval(on_fresh[worst])
said = f"exact {on_test[worst]:.2f}, estimate {by_slope:.2f}"
print(f"L{worst[0]}H{worst[1]} on fresh pairs: {said}")
plot.scatter(
    by_head.flatten(),
    linear.flatten(),
    text=[f"L{layer}H{head}" for layer, head in product(range(N_LAYERS), range(N_HEADS))],
    x_label="recovered, exact",
    y_label="recovered, estimated",
    title="Attribution patching against patching, 270 heads",
)
# %% [markdown]
# ### Where it lies
#
# L16H0, which matters most, gets a tenth of its effect, and on fresh pairs none. Is the gradient wrong? No: it is the
# tangent at the corrupted run, and the clean run is far away. Move `z` there bit by bit and look.
#
# Then the same in a model of **known truth** (`wired`): a previous-token head writes a note, an induction head finds it
# by its keys.
#
# **Predict**: in that model the softmax is sharp: the best key gets all the weight. What is the estimate for the
# previous-token head, whose exact effect is 1?
#
# <details><summary>Answer</summary>
#
# 0. A saturated softmax has no slope: a small step towards the note changes nothing, the whole note everything. The
# gradient does not merely underestimate the head: it does not see it.
#
# </details>
# %% experiment=True
steps = [0.0, 0.25, 0.5, 0.75, 1.0]
curves = {}
for layer, head in misjudged[:2]:
    name = utils.get_act_name("z", layer)
    curve = [0.0]  # the corrupted run itself
    for part in steps[1:-1]:
        mixed = {name: torch.lerp(from_corrupted[name], from_clean[name], part)}
        values = patch_heads(smol, corrupted, mixed, [(layer, head)], metric)
        curve.append(recovered(values, at_clean, at_corrupted).item())
    curves[f"L{layer}H{head}"] = [*curve, by_head[layer, head].item()]
    slope = linear[layer, head].item()
    curves[f"L{layer}H{head}, tangent"] = [part * slope for part in steps]

wired_model, truth = wired.build(seed=4, n_layers=3, n_heads=6)
wired_clean = torch.tensor([[0, 3, 7, 1, 5, 8, 2, 3], [0, 6, 2, 4, 9, 1, 5, 9]])
wired_corrupted = wired_clean.clone()
wired_corrupted[0, [1, 4]] = wired_clean[0, [4, 1]]  # 3 is followed by 8 now
wired_corrupted[1, [4, 1]] = wired_clean[1, [1, 4]]
wired_metric = partial(
    logit_diff, right=torch.tensor([7, 1]), wrong=torch.tensor([8, 2])
)
high_logits, wired_source = keep(wired_model, wired_clean, ["z"])
low_logits, _ = keep(wired_model, wired_corrupted, ["z"])
wired_high, wired_low = wired_metric(high_logits), wired_metric(low_logits)
wired_exact = recovered(
    batched_head_patching(wired_model, wired_corrupted, wired_source, wired_metric),
    wired_high,
    wired_low,
)
wired_linear = attribution_patching(wired_model, wired_corrupted, wired_source, wired_metric)
wired_linear = wired_linear.mean(-1) / (wired_high - wired_low).mean()
wired_note = min(truth.with_role("previous"))
for role in ("previous", "induction", "decoy: mute induction", "copying"):
    for head in truth.with_role(role):
        print(f"{role:>21}: exact {wired_exact[head]:.2f}, estimate {wired_linear[head]:.2f}")
plot.line(
    curves,
    x=steps,
    x_label="part of the way from corrupted to clean",
    y_label="recovered",
    title="SmolLM2: the way and its tangent",
)
# %% [markdown]
# L16H0's curve is an S: it starts flat, and rises when the later heads' keys begin to match. L18H6, which writes to the
# end and is read there, is nearly straight. In the wired model the S has become a step, and the slope at its foot is 0.
#
# **A screening by attribution patching gives a head the estimate 0. May you leave it out?**
# (a) no: what it feeds may sit behind a saturated softmax; (b) yes: a part with slope 0 cannot have an effect here;
# (c) yes, provided that the correlation over all heads is above 0.9
# %% exercise="answer_slope" points=1 difficulty=2 minutes=3
answer_slope = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_slope = "a"
### END SOLUTION
# %% check="answer_slope"
# %% [markdown]
# ## 7. Along one path
#
# Head A matters, and so does head B in a later layer. Does A work **through** B? Patch one path only (*path patching*,
# Wang et al. 2022):
#
# 1. run on `tokens` with A's `z` from the source and **every other head frozen** at its own `z` of the plain run on
#    `tokens`; keep what the receivers' `k` (or `q`, `v`) would be. MLPs are not frozen: they count as part of the path.
# 2. run on `tokens` with nothing changed but the receivers' `k`, set to what was kept.
#
# Freezing makes the path direct: what A does to a third head, and this one to B, is left out.
# %% exercise="path_patch" points=4 difficulty=5 minutes=30
def path_patch(
    model: TransformerBridge,
    tokens: Int[Tensor, "pair pos"],
    source: Source,
    sender: Head,
    receivers: list[Head],
    part: str,
    metric: Metric,
) -> Float[Tensor, "pair"]:
    """metric(logits) of a run on tokens in which one part of the receivers is as if z of the
    sender came from source, with all other heads as they are.

    Args:
        receivers: query heads of layers after the sender's.
        part: "q", "k" or "v"; shared keys and values as in patch_head_part.
    """
    ### BEGIN SOLUTION
    _, own = keep(model, tokens, ["z"])
    name, head = utils.get_act_name("z", sender[0]), sender[1]
    own[name] = own[name].clone()
    own[name][:, :, head] = source[name][:, :, head]
    there = {}

    def freeze(z, hook, name):
        return own[name]

    def watch(x, hook, name):
        there[name] = x.clone()

    hooks = [(name, partial(freeze, name=name)) for name in own]
    for name in {utils.get_act_name(part, layer) for layer, _ in receivers}:
        hooks.append((name, partial(watch, name=name)))
    with torch.no_grad():
        model.run_with_hooks(tokens, fwd_hooks=hooks)
    return patch_head_part(model, tokens, there, receivers, part, metric)
    ### END SOLUTION
# %% check="path_patch"
# %% [markdown]
# **Predict**: the earliest of the best heads, L16H0, writes at the last names. Through which input of the other five
# does it work: q, k or v?
#
# <details><summary>Answer</summary>
#
# Keys. As in 3.2, a previous-token head writes *after Anna* at " Wood", and later heads look for it by their keys.
#
# </details>
# %% experiment=True
sender = min(best)
receivers = [head for head in best if head[0] > sender[0]]
beside = [(sender[0], head) for head in range(N_HEADS) if head != sender[1]]
null_senders = random.Random(0).sample(beside, 2)
print(f"L{sender[0]}H{sender[1]} to", ", ".join(f"L{ly}H{head}" for ly, head in receivers))
through, span = {}, (at_clean - at_corrupted).mean()
for part in ("q", "k", "v"):
    values = path_patch(smol, corrupted, from_clean, sender, receivers, part, metric)
    through[part] = evidence.interval((values - at_corrupted) / span)
values = path_patch(smol, corrupted, from_clean, null_senders[1], receivers, "k", metric)
null_path = recovered(values, at_clean, at_corrupted)
by_keys = partial(path_patch, smol, test_corrupted, test_from_clean)
fresh_path = share(by_keys(sender, receivers, "k", test_metric))
fresh_null = share(by_keys(null_senders[0], receivers, "k", test_metric))
alone = by_head[sender].item()
by_one = ", ".join(f"{part} {value:.2f}" for part, value in through.items())
print(f"by every path {alone:.2f}; by one: {by_one}")
print(f"by k from another head of its layer: {null_path:.2f}")
print(f"by k on fresh pairs: {fresh_path:.2f}; from yet another head {fresh_null:.2f}")
# %% [markdown]
# The effect of L16H0 passes through keys that five heads read (on fresh pairs, too), and next to nothing through their
# queries and values. *Together* is not *each*: their neighbours read the same keys, and one receiver at a time is
# bonus 6. So the behaviour starts as induction on names, found causally: a note, and heads that match it.
#
# ## 8. Open task: who carries it?
#
# Models written by hand again. Each has some of three behaviours: it continues what it has seen (induction), it marks
# tokens that came before, it favours tokens of the context. Other heads only look the part: nobody reads what they
# write. Some models are noisy: every weight is a little off.
#
# You get a model and pairs of prompts for **one** behaviour; nobody tells you which. Name the heads that carry the
# difference between clean and corrupted: those that write it and those that feed them, spare ones included. A model
# may lack the behaviour: then there is nothing to name. Over all models together your function must find at least
# 90 % of all such heads, and at most 10 % of those that it names may be others.
#
# <details><summary>Hint</summary>
#
# Two circuits that each do the whole job give half each. What does a head restore that has nothing to do with it, in a
# noisy model? And what do you divide by, where clean and corrupted are alike?
#
# </details>
# %%
example, truth = wired.build(seed=0, n_layers=3, n_heads=6, copies=2, noise=0.03)
for behaviour in wired.BEHAVIOURS:
    tokens = wired.pairs(truth, behaviour, batch=1, seed=0)
    said = [x[0].tolist() for x in tokens]
    print(f"{behaviour:>10}: clean {said[0]}, right {said[2]}")
    print(f"{'':>10}  corrupted {said[1]}, wrong {said[3]}")
for role in sorted(set(truth.roles.values())):
    print(f"{role:>21}: {sorted(truth.with_role(role))}")
# %% exercise="find_heads" points=5 difficulty=5 minutes=40
def find_heads(
    model: TransformerBridge,
    clean: Int[Tensor, "pair pos"],
    corrupted: Int[Tensor, "pair pos"],
    right: Int[Tensor, "pair"],
    wrong: Int[Tensor, "pair"],
) -> set[Head]:
    """The heads (layer, head) that carry the difference between clean and corrupted."""
    ### BEGIN SOLUTION
    metric = partial(logit_diff, right=right, wrong=wrong)
    clean_logits, source = keep(model, clean, ["z"])
    corrupted_logits, _ = keep(model, corrupted, ["z"])
    high, low = metric(clean_logits), metric(corrupted_logits)
    if high.mean() - low.mean() < 0.2:  # the behaviour is not there
        return set()
    shares = recovered(batched_head_patching(model, corrupted, source, metric), high, low)
    return {(layer, head) for layer, head in (shares > 0.15).nonzero().tolist()}
    ### END SOLUTION
# %% check="find_heads"
# %% experiment=True
named = dict.fromkeys(("found", "of", "wrong"), 0)
for behaviour in wired.BEHAVIOURS:
    found = find_heads(example, *wired.pairs(truth, behaviour, batch=8, seed=1))
    carriers = set().union(*truth.paths[behaviour])
    wrong_roles = {head: truth.roles[head] for head in sorted(found - carriers)}
    missed = sorted(carriers - found)
    print(f"{behaviour:>10}: found {sorted(found)}, missed {missed}, wrong {wrong_roles}")
    named["found"] += len(found & carriers)
    named["of"] += len(carriers)
    named["wrong"] += len(found - carriers)
# The null: a model with the other heads, and without the behaviour
lacking, its_truth = wired.build(
    seed=0,
    n_layers=3,
    n_heads=6,
    noise=0.03,
    behaviours=("seen", "copying"),
    decoys=("offset", "mute previous", "rest"),
)
without = find_heads(lacking, *wired.pairs(its_truth, "induction", batch=8, seed=1))
print("without induction:", sorted(without))
# %% [markdown]
# ## What was found
#
# Value, 95 % interval over what is independent (pairs of prompts), and what
# is to stand beside it: a null, or the other way to ask.
# %% experiment=True
all_said = {name: f"{found:.2f}" for name, found in sets.items()}
together, controls_do = all_said["best six, denoised"], all_said["six controls, denoised"]
high_said, low_said = (f"{evidence.interval(values):.2f}" for values in (high, low))
harm = evidence.interval((exact[29, 0] - at_corrupted) / span)
harmless = by_head[29, 3:].abs().max()  # heads of the layer that read other values
worst_said, sender_said = (f"L{head[0]}H{head[1]}" for head in (worst, sender))
all_wiped_said = all_said["from another pair"]
best_noised, controls_noised = all_said["best six, noised"], all_said["six controls, noised"]
wrongly = prefers["corrupted"]
others_said = f"others {named['wrong']}"
wired_said = f"exact {wired_exact[wired_note]:.2f}"
lines = [
    ("right less wrong, clean (nats)", high_said, f"corrupted {low_said}"),
    ("right name preferred, clean", prefers["clean"], f"corrupted {wrongly:.2f}"),
    ("stream at the end, layer 21", stream_end, f"at the period {stream_period:.2f}"),
    ("best six, denoised", together, f"controls {controls_do}"),
    ("  one at a time, summed", total, f"together {together}"),
    ("  from another pair", all_wiped_said, f"controls {share(control_wiped):.2f}"),
    ("  right names less another pair's", gained, f"controls {by_controls:.2f}"),
    ("best six, noised", best_noised, f"controls {controls_noised}"),
    ("L29H0 alone, denoised (4 pairs)", harm, f"L29H3 to H8 at most {harmless:.2f}"),
    ("gradient: r with exact (4 pairs)", r_of_pair, f"heads shuffled at most {null_r:.2f}"),
    ("  finds of the best six", f"{shared}", f"heads shuffled at most {null_shared}"),
    (f"  its estimate for {worst_said}", by_slope, f"exact {on_test[worst]:.2f}"),
    ("  wired model: the note's writer", wired_linear[wired_note], wired_said),
    (f"{sender_said} through keys", fresh_path, f"another head {fresh_null:.2f}"),
    ("  through queries (4 pairs)", through["q"], f"values {through['v']:.2f}"),
    ("helper: times as long as batched", pace, f"the same numbers, to {apart:.0e} nats"),
    ("open task: carriers named", f"{named['found']} of {named['of']}", others_said),
]
for finding, value, null in lines:
    value = value if isinstance(value, str) else f"{value:.2f}"
    print(f"{finding:<33} {value:<21} {null}")
print("\nz of one head, denoised; its main input; its other inputs, at most (4 pairs)")
for head in best:
    restored = f"{on_test[head]:.2f}, another pair's {wiped[head]:.2f}"
    if head in main_part:
        part, by_main, second = main_part[head]
        restored += f"; {part} {by_main:.2f}; {second:.2f}"
    print(f"L{head[0]}H{head[1]} {restored}")
# %% [markdown]
# Intervals: t (how often: exact), over 12 fresh pairs of drawn names in four sentences, but where *4 pairs* stands,
# those of the search; of times over twelve runs of the helper's, yours timed twice. The wired model and the open task
# are written by hand: their truth is known, and they are no sample. The model is one model, SmolLM2-135M-*Instruct*,
# unpacked from 4-bit weights, and the behaviour one kind of sentence.
#
# ## Bonus (not graded)
#
# 1. Attribution patching for `q` and `k`: which is worse, and where?
# 2. Integrated gradients: average the gradient over points on the way from corrupted to clean. How many are enough?
# 3. `patch_residual` at the positions between: does the difference ever pass through the period?
# 4. The same four tools on a fact: *The capital of France is*. Heads or MLPs?
# 5. Patch `hook_mlp_out` by position: where do MLPs matter here?
# 6. `path_patch` to one receiver at a time: which of the five need L16H0's note?
#
# ## Recap
#
# Measure (a base rate, a difference that cancels what is shared), localise (stream, heads, parts, paths), compare
# (fresh pairs, other heads, another pair's activations), and use gradients to look, not to conclude.
#
# | confusion | what holds |
# |---|---|
# | "It restores 40 %, so it does 40 % of the work" | heads in a chain each restore the same share |
# | "It restores 60 %, so it knows the answer" | wiping out the wrong one may do that: patch from another pair |
# | "Denoising restores nothing, so it is not needed" | it may need a partner: noise it, too |
# | "Patching keys of head 4 worked" | its two neighbours read the same keys |
# | "The estimate is 0, so the head is out" | a saturated softmax hides it: patch it |
# | "I patched `resid_mid`, and the answer moved" | it is a copy that only the MLP reads; the stream went on |
# | "The best head restores half" | on the pairs that chose it; score it on fresh ones |
#
# Read on: Heimersheim & Nanda 2024, *How to use and interpret activation patching*; Zhang & Nanda 2023, *Towards Best
# Practices of Activation Patching*; Wang et al. 2022, *Interpretability in the Wild* (path patching); Nanda 2023,
# *Attribution Patching*; Kramár et al. 2024, *AtP\** (what to do about saturated attention);
# `transformer_lens.patching`, which has a helper for every sweep above.
