# %% [markdown]
# # 4.0 What of step 4 can you do already?
#
# Eight exercises, some 40 minutes, two for each notebook of this step. They are not the notebooks' own. Give each a few
# minutes and no more.
#
# **Not to try an exercise is a fine answer.** It says: this notebook is for me. Nobody needs to know these things
# before the step that teaches them.
#
# ![Two exercises for a notebook: both passed, skip it; one, skim it; none, work through
# it](../1_prerequisites/figures/1.0_placement.svg)
# %% generated="overview"
# %% [markdown]
# There are no hints here. When you are done, run `concrete_steps.placement(4)` in a new cell, or
# `python scripts/placement.py 4` in a terminal: it says which notebooks to skip, which to skim, and where to begin.
# Nothing is sent anywhere.
#
# Models are those of TransformerLens 4, and so are the names of their hooks, such as `blocks.0.attn.hook_z` (what the
# heads of layer 0 give, before `W_O`) or `blocks.0.attn.hook_pattern`. `toy` is one to try your functions on; the
# checks have others. Where a function runs a model, no hook of yours stays behind, and no gradient is kept.
# %% setup=True
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

Head = tuple[int, int]  # (layer, head)

config = TransformerBridgeConfig(
    d_model=16,
    d_head=4,
    n_heads=4,
    n_key_value_heads=2,
    n_layers=3,
    n_ctx=32,
    d_vocab=20,
    attn_only=True,
    normalization_type=None,
    seed=0,
)
toy = TransformerBridge.boot_native(config, tokenizer=None).eval()
# %% [markdown]
# ## 1. A Mathematical Framework
#
# Models like `toy`: attention alone, no norms, biases of 0, and neighbouring heads may share keys and values. With its
# patterns held fixed, such a model's logits are a sum over paths from the tokens to the output.
# %% exercise="paths_through" points=2 difficulty=4 minutes=6
def paths_through(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"], layer: int, head: int
) -> Float[Tensor, "row pos d_vocab"]:
    """What all paths that pass this head add to the logits, together; those that also pass
    earlier or later heads among them. All patterns are as they are in this run.
    """
    ### BEGIN SOLUTION
    def as_it_was(pattern, hook):
        return cache["pattern", hook.layer()]

    def without(z, hook):
        z = z.clone()
        z[:, :, head] = 0
        return z

    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens)
        hooks = [(f"blocks.{later}.attn.hook_pattern", as_it_was) for later in range(model.cfg.n_layers)]
        hooks.append((f"blocks.{layer}.attn.hook_z", without))
        return logits - model.run_with_hooks(tokens, fwd_hooks=hooks)
    ### END SOLUTION


# %% check="paths_through"
# %% [markdown]
# Whether a head copies is asked of its OV circuit, from a token to the logits. A path of several heads has one, too.
# %% exercise="path_copies" points=1 difficulty=3 minutes=4
def path_copies(model: TransformerBridge, path: list[Head]) -> float:
    """The sum of the eigenvalues of the path's OV circuit, over the sum of their sizes.

    Args:
        path: the heads that it passes, one or more, in order.
    """
    ### BEGIN SOLUTION
    shared_by = model.W_O.shape[1] // model.W_V.shape[1]
    with torch.no_grad():
        written = model.W_E
        for layer, head in path:
            written = written @ model.W_V[layer, head // shared_by] @ model.W_O[layer, head]
        eigenvalues = torch.linalg.eigvals(written @ model.W_U)
    return (eigenvalues.sum().real / eigenvalues.abs().sum()).item()
    ### END SOLUTION


# %% check="path_copies"
# %% [markdown]
# ## 2. What features are
#
# A neuron is named after its strongest word. Does the name hold of the other words that move it, at every level? And
# would the same search have found a name as good where there is none?
# %% exercise="label_p" points=2 difficulty=3 minutes=5
def label_p(
    acts: Float[Tensor, "word"],
    concept: Int[Tensor, "word"],
    levels: list[float],
    shuffled: Int[Tensor, "draw word"],
) -> Float[Tensor, "level"]:
    """The p value of a neuron's label at each level; the real concepts are one more draw.

    The label is the concept of the word with the largest activation. At a level, its score is
    the share of words with the label among the other words whose activation is at least this
    part of the largest, which is above 0.

    Args:
        levels: parts of the largest activation; each is reached by other words, too.
        shuffled: the concepts in other orders. A draw's label is its own.
    """
    ### BEGIN SOLUTION
    concepts = torch.cat([concept[None], shuffled])
    best = acts.argmax()
    has_label = (concepts == concepts[:, best : best + 1]).float()
    found = []
    for level in levels:
        reached = acts >= level * acts[best]
        reached[best] = False
        scores = has_label[:, reached].mean(1)
        found.append((scores >= scores[0]).float().mean())
    return torch.stack(found)
    ### END SOLUTION


# %% check="label_p"
# %% [markdown]
# More features than dimensions. Each row is the sum of the unit directions of the features that are on, each times its
# strength. A feature is read by the dot product with its direction. Could one threshold tell what is on in a row?
# %% exercise="reading_margin" points=1 difficulty=2 minutes=3
def reading_margin(
    directions: Float[Tensor, "feature d"], strengths: Float[Tensor, "row feature"]
) -> Float[Tensor, "row"]:
    """For each row: the least reading of a feature that is on, less the largest reading of
    one that is off. (Above 0, a threshold can tell.)

    Args:
        strengths: above 0 for what is on, 0 for what is off. Each row has both.
    """
    ### BEGIN SOLUTION
    readings = strengths @ directions @ directions.T
    on = strengths > 0
    least = readings.masked_fill(~on, torch.inf).amin(1)
    return least - readings.masked_fill(on, -torch.inf).amax(1)
    ### END SOLUTION


# %% check="reading_margin"
# %% [markdown]
# ## 3. How to be wrong
#
# > *Of 270 heads, L9H6 has the largest effect: .8 nats over 12 prompts.*
#
# The prompts that chose the head also say how large its effect is. Mend that, and use each of the prompts.
# %% exercise="effect_of_chosen" points=1 difficulty=2 minutes=4
def effect_of_chosen(effects: Float[Tensor, "head row"]) -> Float[Tensor, "row"]:
    """For each row: the effect there of the head whose mean effect over all the other rows is
    the largest. There are two rows or more.
    """
    ### BEGIN SOLUTION
    over_others = effects.sum(1, keepdim=True) - effects
    chosen = over_others.argmax(0)
    return effects.gather(0, chosen[None])[0]
    ### END SOLUTION


# %% check="effect_of_chosen"
# %% [markdown]
# > *With these heads at 0 the answer is gone.*
#
# At 0, or at its mean, a head may be where no prompt brings it. Give the heads, together, what they hold on another
# prompt.
# %% exercise="resampled_effects" points=2 difficulty=3 minutes=6
def resampled_effects(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    heads: list[Head],
    orders: Int[Tensor, "draw row"],
    measure: Callable[[Float[Tensor, "row d_vocab"]], Float[Tensor, "row"]],
) -> Float[Tensor, "draw row"]:
    """By how much the measure of each row falls, in each draw, when z of these heads is, at
    all positions of row r, what it is in row orders[draw, r] of the untouched run.

    Args:
        measure: from logits at the last position, a number for each row.
    """
    ### BEGIN SOLUTION
    names = {f"blocks.{layer}.attn.hook_z" for layer, _ in heads}
    falls = []
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names_filter=list(names))
        for order in orders:

            def put(z, hook, order=order):
                z = z.clone()
                for layer, head in heads:
                    if layer == hook.layer():
                        z[:, :, head] = cache["z", layer][order, :, head]
                return z

            changed = model.run_with_hooks(tokens, fwd_hooks=[(name, put) for name in names])
            falls.append(measure(logits[:, -1]) - measure(changed[:, -1]))
    return torch.stack(falls)
    ### END SOLUTION


# %% check="resampled_effects"
# %% [markdown]
# ## 4. The field
#
# What is it? Two of the three are something else.
#
# 1. *Transcoder*: (a) gives an activation again, from itself; (b) gives an MLP's output, from its input; (c) gives
#    the last logits, from a stream
# 2. *Causal scrubbing*: (a) edges go one by one while a metric stays; (b) a part is swapped, as is its variable;
#    (c) what should be alike is exchanged
# 3. *Path patching*: (a) a gradient foretells what patches do; (b) one reader alone sees the new output; (c) all
#    later parts see the new output
# 4. *Feature absorption*: (a) a special feature silences a general one; (b) one neuron answers to unlike things;
#    (c) there are more features than dimensions
# 5. *Self-repair*: (a) a head lowers what stands in the context; (b) a head rests on a token that says little; (c)
#    later parts make up for a removed one
#
# ### Five more
#
# 6. *Control tasks*: (a) random labels, given to types of words; (b) statements, each with its negation; (c)
#    prompts that put activations in words
# 7. *Crosscoder*: (a) a task's vector, from outputs of heads; (b) one dictionary for layers or models; (c) weights
#    as a sum of simple parts
# 8. *Illusion of a subspace*: (a) a lens shows nothing in early layers; (b) a probe learns its task by itself; (c)
#    a patch acts through a dormant path
# 9. *Auditing game*: (a) a narrow fault spoils the whole model; (b) teams look for an aim that was planted; (c)
#    reasons are written that decided nothing
# 10. *Progress measures*: (a) change smoothly where the loss jumps; (b) say how degenerate the minima are; (c) say
#     how alike the seeds have become
# %% exercise="answer_topics" points=2 difficulty=2 minutes=5
answer_topics = None  # ten letters, such as "abcabcabca"; - for one that you leave out
### BEGIN SOLUTION
answer_topics = "bcbacabcba"
### END SOLUTION


# %% check="answer_topics"
# %% [markdown]
# ### Six claims
#
# What speaks against each?
#
# 1. "The weights of A and B compose strongly: on our texts B reads A." (a) only keys compose, not values; (b) they
#    say that it could, not does; (c) A and B stand in two layers
# 2. "With a large network as the map, our algorithm fits: 99 %." (a) with such maps any one fits; (b) below 100 %
#    it is refuted; (c) maps should never be learnt
# 3. "Its neurons answer to unlike things: it has more features than dimensions." (a) then each would answer to one;
#    (b) it shows noise, not features; (c) they may do so without that
# 4. "Probes on these features reach 94 %: they are the model's units." (a) how many features are there? (b) what do
#    plain activations give? (c) do they rebuild all activations?
# 5. "Auditors found our planted aim: hidden aims can be found." (a) its true aim is unknown; (b) they had looked
#    for an aim; (c) one that grew may hide better
# 6. "Without this direction it refuses nothing: refusal is one direction." (a) others may do it as well; (b) it is
#    in one layer only; (c) its refusals are in words
# %% exercise="answer_claims" points=1 difficulty=2 minutes=4
answer_claims = None  # six letters
### BEGIN SOLUTION
answer_claims = "bacbca"
### END SOLUTION


# %% check="answer_claims"
# %% [markdown]
# ## What now
#
# Run `concrete_steps.placement(4)` in a new cell. A notebook that it says to skim: read its criteria, and do the
# exercises of those that you doubt. 4.1 to 4.3 each end with an open task, on models or activations that nobody has
# seen, and 4.4 with a quiz that is drawn anew: to try only that is the quickest way to doubt what you can do.
