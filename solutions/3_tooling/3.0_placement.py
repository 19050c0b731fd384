# %% [markdown]
# # 3.0 What of step 3 can you do already?
#
# Fourteen small exercises, some 45 minutes, two for each notebook of this step. They are not the notebooks' own. Give
# each a few minutes and no more.
#
# **Not to try an exercise is a fine answer.** It says: this notebook is for me. Nobody needs to know these things
# before the step that teaches them.
#
# ![Two exercises for a notebook: both passed, skip it; one, skim it; none, work through
# it](../1_prerequisites/figures/1.0_placement.svg)
# %% generated="overview"
# %% [markdown]
# There are no hints here. When you are done, run `concrete_steps.placement(3)` in a new cell, or
# `python scripts/placement.py 3` in a terminal: it says which notebooks to skip, which to skim, and where to begin.
# Nothing is sent anywhere, and you can come back after a notebook and see what has changed.
#
# Models are those of TransformerLens 4, and so are the names of their hooks, such as `blocks.0.hook_resid_post` (the
# residual stream after layer 0) or `blocks.0.attn.hook_pattern`. `toy` is one to try your functions on; the checks have
# others. Where a function runs such a model, no hook of yours stays behind, and no gradient is kept.
# %% setup=True
import math
from collections.abc import Callable

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

config = TransformerBridgeConfig(
    d_model=16, d_head=4, n_heads=4, n_layers=3, n_ctx=32, d_vocab=20, d_mlp=32, act_fn="gelu", seed=0
)
toy = TransformerBridge.boot_native(config, tokenizer=None).eval()
# %% [markdown]
# ## 1. Hooks
#
# First any model of plain PyTorch.
# %% exercise="times_called" points=1 difficulty=2 minutes=3
def times_called(model: nn.Module, x: Tensor) -> dict[str, int]:
    """How often each part of the model is called when the model runs once, on x.

    Parts of any depth, by their paths, also those that are never called; without the model
    itself. No hook of yours stays, also where the run fails; its error reaches the caller.
    """
    ### BEGIN SOLUTION
    counts = {path: 0 for path, _ in model.named_modules() if path}

    def counter(path):
        def count(part, args):
            counts[path] += 1

        return count

    handles = [model.get_submodule(path).register_forward_pre_hook(counter(path)) for path in counts]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return counts
    ### END SOLUTION


# %% check="times_called"
# %% [markdown]
# Now a transformer. Each of its layers has attention and an MLP.
# %% exercise="without_layers" points=1 difficulty=3 minutes=3
def without_layers(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"], layers: list[int]
) -> Float[Tensor, "row pos d_vocab"]:
    """The logits of a run in which each of these layers does nothing: the residual stream
    leaves it as it came in.
    """
    ### BEGIN SOLUTION
    entered = {}

    def keep(resid, hook):
        entered[hook.layer()] = resid

    def put_back(resid, hook):
        return entered[hook.layer()]

    hooks = [(f"blocks.{layer}.hook_resid_pre", keep) for layer in layers]
    hooks += [(f"blocks.{layer}.hook_resid_post", put_back) for layer in layers]
    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=hooks)
    ### END SOLUTION


# %% check="without_layers"
# %% [markdown]
# ## 2. Attention heads and induction
#
# Each row of a batch holds a block of random tokens, the same block again, and then padding. Blocks are of different
# lengths.
# %% exercise="induction_of_blocks" points=1 difficulty=2 minutes=3
def induction_of_blocks(
    pattern: Float[Tensor, "row head query key"], length: Int[Tensor, "row"]
) -> Float[Tensor, "head"]:
    """Each head's mean weight on the key where an induction head looks, over all queries of
    the second blocks. Each query counts the same.

    Args:
        length: of each row's block, 2 or more; the first block begins at position 0.
    """
    ### BEGIN SOLUTION
    query = torch.arange(pattern.shape[2], device=pattern.device)
    second = (query >= length[:, None]) & (query < 2 * length[:, None])
    row, query = second.nonzero(as_tuple=True)
    return pattern[row, :, query, query - length[row] + 1].mean(0)
    ### END SOLUTION


# %% check="induction_of_blocks"
# %% [markdown]
# Blind a head to one distance, without giving it less to read in all.
# %% exercise="blind_at_distance" points=1 difficulty=3 minutes=4
def blind_at_distance(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"], layer: int, head: int, back: int
) -> Float[Tensor, "row pos d_vocab"]:
    """The logits of a run in which no query of this head gives weight to the key `back`
    positions before it (1 or more). Its weights on its other keys grow, all by the same
    factor, until they sum to 1 again.
    """
    ### BEGIN SOLUTION
    def blind(pattern, hook):
        pattern = pattern.clone()
        seen = pattern[:, head] - pattern[:, head].tril(-back).triu(-back)
        pattern[:, head] = seen / seen.sum(-1, keepdim=True)
        return pattern

    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_pattern", blind)])
    ### END SOLUTION


# %% check="blind_at_distance"
# %% [markdown]
# ## 3. Logit attribution and lenses
#
# What the parts of a model wrote at one position adds up to the stream that the last norm reads, a LayerNorm. Then
# comes `W_U`, with no bias.
# %% exercise="split_logit" points=1 difficulty=3 minutes=4
def split_logit(
    parts: Float[Tensor, "part row d_model"],
    weight: Float[Tensor, "d_model"],
    bias: Float[Tensor, "d_model"],
    W_U: Float[Tensor, "d_model d_vocab"],
    token: Int[Tensor, "row"],
    eps: float = 1e-5,
) -> Float[Tensor, "part+1 row"]:
    """The logit of each row's token as a sum: a term for what each part wrote, and at the
    end one for the norm's bias. The norm's scale counts as a constant.

    Args:
        weight, bias, eps: the norm's.
    """
    ### BEGIN SOLUTION
    scale = (parts.sum(0).var(-1, correction=0) + eps).sqrt()
    normalised = (parts - parts.mean(-1, keepdim=True)) / scale[:, None] * weight
    direction = W_U[:, token]
    terms = einsum(normalised, direction, "part row d_model, d_model row -> part row")
    return torch.cat([terms, (bias @ direction)[None]])
    ### END SOLUTION


# %% check="split_logit"
# %% [markdown]
# The logit lens reads the stream after a layer as if it were the last one.
# %% exercise="settles_at" points=2 difficulty=4 minutes=5
def settles_at(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"]
) -> Int[Tensor, "row"]:
    """For each row the layer at which the answer is settled: after it, and after every later
    layer, the lens at the last position has the model's own answer on top. The first such
    layer, counted from 0.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("resid_post"))
        streams = torch.stack([cache["resid_post", layer][:, -1] for layer in range(model.cfg.n_layers)])
        lens = model.unembed(model.ln_final(streams)).argmax(-1)
    agrees = lens == logits[:, -1].argmax(-1)
    settled = agrees.flip(0).cumprod(0)
    return model.cfg.n_layers - settled.sum(0)
    ### END SOLUTION


# %% check="settles_at"
# %% [markdown]
# ## 4. Patching
#
# Two prompts need not line up: each row has its own place in either.
# %% exercise="transplant" points=1 difficulty=3 minutes=4
def transplant(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    at: Int[Tensor, "row"],
    other: Int[Tensor, "row other_pos"],
    other_at: Int[Tensor, "row"],
    layer: int,
) -> Float[Tensor, "row pos d_vocab"]:
    """The logits of a run on tokens in which one vector of each row comes from a run on
    other: the residual stream after `layer`, at position at[r] of row r, is what it is at
    position other_at[r] of row r there.
    """
    ### BEGIN SOLUTION
    name, rows = f"blocks.{layer}.hook_resid_post", torch.arange(len(tokens))

    def put(resid, hook):
        resid = resid.clone()
        resid[rows, at] = cache[name][rows, other_at]
        return resid

    with torch.no_grad():
        _, cache = model.run_with_cache(other, names_filter=name)
        return model.run_with_hooks(tokens, fwd_hooks=[(name, put)])
    ### END SOLUTION


# %% check="transplant"
# %% [markdown]
# A model answers on a clean prompt and on a corrupted one, and one head at a time is patched, in both directions. What
# is measured is a logit difference; which of the two prompts has the larger one depends on the task.
# %% exercise="enough_and_needed" points=1 difficulty=2 minutes=3
def enough_and_needed(
    clean: float,
    corrupted: float,
    into_corrupted: Float[Tensor, "layer head"],
    into_clean: Float[Tensor, "layer head"],
    share: float,
) -> tuple[Bool[Tensor, "layer head"], Bool[Tensor, "layer head"]]:
    """Which heads are enough: alone they bring back `share` of what was corrupted, or more.
    And which are needed: without them alone `share` or more of it is lost.

    Args:
        clean, corrupted: the measure on either prompt, nothing patched.
        into_corrupted: in a run on the corrupted prompt with this head from the clean one.
        into_clean: in a run on the clean prompt with this head from the corrupted one.
    """
    ### BEGIN SOLUTION
    brought_back = (into_corrupted - corrupted) / (clean - corrupted)
    lost = (clean - into_clean) / (clean - corrupted)
    return brought_back >= share, lost >= share
    ### END SOLUTION


# %% check="enough_and_needed"
# %% [markdown]
# ## 5. Circuits in the weights
#
# A model without norms and biases, whose heads share values: neighbouring heads read the same ones.
# %% exercise="raised_most" points=1 difficulty=2 minutes=2
def raised_most(
    W_E: Float[Tensor, "d_vocab d_model"],
    W_V: Float[Tensor, "value_head d_model d_head"],
    W_O: Float[Tensor, "head d_head d_model"],
    W_U: Float[Tensor, "d_model d_vocab"],
) -> Int[Tensor, "head d_vocab"]:
    """For each head, and each token that it may look at: the token whose logit it raises
    most, by what it writes straight to the logits.
    """
    ### BEGIN SOLUTION
    W_V = W_V.repeat_interleave(len(W_O) // len(W_V), dim=0)
    return (W_E @ W_V @ W_O @ W_U).argmax(-1)
    ### END SOLUTION


# %% check="raised_most"
# %% [markdown]
# In the same kind of model, where each head has keys and values of its own: a head of layer 0, the writer, looks at the
# token before. So at each position it leaves a note, which token that was. A head of layer 1, the reader, finds the
# note in its keys, and looks for its own token.
# %% exercise="match_gain" points=2 difficulty=3 minutes=3
def match_gain(
    W_E: Float[Tensor, "d_vocab d_model"],
    writer: tuple[Float[Tensor, "d_model d_w"], Float[Tensor, "d_w d_model"]],
    reader: tuple[Float[Tensor, "d_model d_r"], Float[Tensor, "d_model d_r"]],
) -> Float[Tensor, ""]:
    """How much more a match scores than a mismatch, before the softmax: the mean of the
    note's part of the reader's score over notes of the query's own token, less the mean over
    notes of other tokens; all tokens count the same.

    Args:
        writer: its W_V and W_O.
        reader: its W_Q and W_K.
    """
    ### BEGIN SOLUTION
    (W_V, W_O), (W_Q, W_K) = writer, reader
    queries, notes = W_E @ W_Q, W_E @ W_V @ W_O @ W_K
    scores = queries @ notes.T / math.sqrt(W_K.shape[1])
    same = torch.eye(len(W_E), dtype=torch.bool, device=W_E.device)
    return scores[same].mean() - scores[~same].mean()
    ### END SOLUTION


# %% check="match_gain"
# %% [markdown]
# ## 6. Probes
#
# Rows of a group are about the same thing, so a probe that has seen one of them knows something of the others.
# %% exercise="held_out_scores" points=1 difficulty=3 minutes=3
def held_out_scores(
    acts: Float[Tensor, "row d_model"],
    labels: Bool[Tensor, "row"],
    groups: Int[Tensor, "row"],
) -> Float[Tensor, "row"]:
    """Each row's score by the mean-difference probe that was made from all rows of other
    groups: its direction is their true mean less their false mean, not scaled; a point
    half-way between these two means scores 0.

    Whichever group is left out, true and false rows remain.
    """
    ### BEGIN SOLUTION
    scores = torch.empty_like(acts[:, 0])
    for group in groups.unique():
        inside = groups == group
        true, false = acts[~inside & labels].mean(0), acts[~inside & ~labels].mean(0)
        scores[inside] = (acts[inside] - (true + false) / 2) @ (true - false)
    return scores
    ### END SOLUTION


# %% check="held_out_scores"
# %% [markdown]
# A probe is fitted to every layer, and the best one is reported. Is it better than chance?
# %% exercise="best_layer_p" points=1 difficulty=2 minutes=2
def best_layer_p(
    accuracies: Float[Tensor, "layer"], shuffled: Float[Tensor, "draw layer"]
) -> float:
    """The p value of the best layer's accuracy, if the layer was chosen by accuracy; the real
    labels count as one more draw.

    Args:
        shuffled: accuracies with shuffled labels; in a draw all layers have the same labels.
    """
    ### BEGIN SOLUTION
    as_good = (shuffled.amax(-1) >= accuracies.max()).sum().item()
    return (1 + as_good) / (1 + len(shuffled))
    ### END SOLUTION


# %% check="best_layer_p"
# %% [markdown]
# ## 7. Steering
#
# Push a model from some position on, and leave the stream as long as it is.
# %% exercise="steer_from" points=1 difficulty=3 minutes=4
def steer_from(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    layer: int,
    push: Float[Tensor, "d_model"],
    start: Int[Tensor, "row"],
) -> Float[Tensor, "row pos d_vocab"]:
    """The logits of a run in which push is added to the residual stream after `layer`, from
    position start[r] of row r on; each sum is brought to the length that the stream had
    there before.
    """
    ### BEGIN SOLUTION
    def pushed(resid, hook):
        moved = resid + push
        moved = moved * resid.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True)
        pos = torch.arange(resid.shape[1], device=resid.device)
        return torch.where((pos >= start[:, None])[..., None], moved, resid)

    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.hook_resid_post", pushed)])
    ### END SOLUTION


# %% check="steer_from"
# %% [markdown]
# A vector moves some measure. Would any other?
# %% exercise="as_strong" points=1 difficulty=2 minutes=2
def as_strong(
    effect: Callable[[Float[Tensor, "d_model"]], float],
    vector: Float[Tensor, "d_model"],
    others: Float[Tensor, "n d_model"],
) -> int:
    """How many of the other directions move the measure as far as the vector, or further, to
    whichever side, in a push that is as long.

    Args:
        effect: how far a push moves the measure.
        others: drawn at random, and of any length.
    """
    ### BEGIN SOLUTION
    size = abs(effect(vector))
    pushes = others * (vector.norm() / others.norm(dim=-1, keepdim=True))
    return sum(abs(effect(push)) >= size for push in pushes)
    ### END SOLUTION


# %% check="as_strong"
# %% [markdown]
# ## What now
#
# Run `concrete_steps.placement(3)` in a new cell. A notebook that it says to skim: read its criteria, and do the
# exercises of those that you doubt. Each ends with an open task, on models that nobody has seen: to try only that is
# the quickest way to doubt what you can do. One to work through takes two to six hours, by our guess.
