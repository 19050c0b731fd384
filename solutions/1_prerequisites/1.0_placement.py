# %% [markdown]
# # 1.0 What of step 1 can you do already?
#
# Ten small exercises, some 45 minutes, two for each notebook of this step. They are not the notebooks' own. Give each a
# few minutes and no more: a look into the notebook is the cure, not a longer look at the exercise.
#
# **Not to try an exercise is a fine answer.** It says: this notebook is for me. Nobody needs to know these things
# before the step that teaches them.
#
# ![Two exercises for a notebook: both passed, skip it; one, skim it; none, work through it](figures/1.0_placement.svg)
# %% generated="overview"
# %% [markdown]
# There are no hints here. When you are done, run `concrete_steps.placement(1)` in a new cell, or
# `python scripts/placement.py 1` in a terminal: it says which notebooks to skip, which to skim, and where to begin.
# Nothing is sent anywhere, and you can come back after a notebook and see what has changed.
# %% setup=True
import math

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor, nn

# %% [markdown]
# ## 1. Tensors
#
# The mean of a residual stream over a stretch of positions that is another one in each row of the batch. A stretch
# holds one position or more.
# %% exercise="mean_of_stretch" points=1 difficulty=2 minutes=5
def mean_of_stretch(
    resid: Float[Tensor, "batch pos d_model"],
    start: Int[Tensor, "batch"],
    end: Int[Tensor, "batch"],
) -> Float[Tensor, "batch d_model"]:
    """Row by row the mean over the positions from `start` on, up to but without `end`."""
    ### BEGIN SOLUTION
    pos = torch.arange(resid.shape[1], device=resid.device)
    inside = (pos >= start[:, None]) & (pos < end[:, None])
    total = einsum(resid, inside.to(resid.dtype), "batch pos d_model, batch pos -> batch d_model")
    return total / (end - start)[:, None]
    ### END SOLUTION


# %% check="mean_of_stretch"
# %% [markdown]
# Attention mixes values into `z`, for each head; the matrix $W_O$ of a head makes of it what that head adds to the
# stream.
# %% exercise="head_outputs" points=1 difficulty=2 minutes=3
def head_outputs(
    z: Float[Tensor, "batch pos head d_head"], W_O: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "batch pos head d_model"]:
    """What each head adds, the heads not summed."""
    ### BEGIN SOLUTION
    return einsum(z, W_O, "batch pos head d_head, head d_head d_model -> batch pos head d_model")
    ### END SOLUTION


# %% check="head_outputs"
# %% [markdown]
# ## 2. Linear algebra
#
# A mirror: what lies along a direction changes its sign, the rest stays.
# %% exercise="reflect" points=1 difficulty=2 minutes=3
def reflect(
    x: Float[Tensor, "... d_model"], direction: Float[Tensor, "d_model"]
) -> Float[Tensor, "... d_model"]:
    """Each x with its part along the direction, of any length but 0, turned round."""
    ### BEGIN SOLUTION
    along = (x @ direction) / (direction @ direction)
    return x - 2 * along[..., None] * direction
    ### END SOLUTION


# %% check="reflect"
# %% [markdown]
# A matrix is the sum of its singular directions, each times its singular value. The square of its Frobenius norm is the
# sum of the squares of those values: so they say how much of it a few directions hold.
# %% exercise="directions_needed" points=1 difficulty=3 minutes=4
def directions_needed(W: Float[Tensor, "m n"], share: float) -> int:
    """The fewest singular directions that hold a `share` (0 to 1) of W's squared norm."""
    ### BEGIN SOLUTION
    held = torch.linalg.svdvals(W).square().cumsum(0)
    return int((held < share * held[-1]).sum()) + 1
    ### END SOLUTION


# %% check="directions_needed"
# %% [markdown]
# ## 3. Probability and evidence
#
# How many bits a token does a model save, against one that knows nothing but how frequent each token is? A bit is a
# factor of two in the probability of the token that came.
# %% exercise="bits_saved" points=1 difficulty=2 minutes=4
def bits_saved(
    logits: Float[Tensor, "pos d_vocab"],
    tokens: Int[Tensor, "pos"],
    frequency: Float[Tensor, "d_vocab"],
) -> Float[Tensor, ""]:
    """Mean over pos of how much less surprise the model has: log2 p_model - log2 p_frequency.

    Args:
        logits: the model's, for the token at the same place of `tokens`.
        frequency: the probability of each token, above 0.
    """
    ### BEGIN SOLUTION
    nats = logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0] - frequency.log()[tokens]
    return nats.mean() / math.log(2)
    ### END SOLUTION


# %% check="bits_saved"
# %% [markdown]
# The same texts with an ablation and without, so one difference for each text. If the ablation did nothing, each
# difference might as well have the other sign: that is the null.
# %% exercise="sign_flip_p" points=1 difficulty=3 minutes=6
def sign_flip_p(
    differences: Float[Tensor, "text"], draws: int, generator: torch.Generator
) -> float:
    """Two-sided p: the share of draws whose mean is as far from 0 as measured, or farther.

    A draw gives each difference a random sign of its own. The measured signs count as one
    more draw, so that p is never 0. Means that are equal but for rounding are as far.
    """
    ### BEGIN SOLUTION
    shape = (draws, len(differences))
    signs = 2.0 * torch.randint(2, shape, generator=generator, device=differences.device) - 1
    means = (signs * differences).mean(1).abs()
    slack = 1e-6 * differences.abs().max()  # equal but for rounding
    as_far = (means >= differences.mean().abs() - slack).sum()
    return (1 + int(as_far)) / (1 + draws)
    ### END SOLUTION


# %% check="sign_flip_p"
# %% [markdown]
# ## 4. Backpropagation
#
# No autograd in the next two. The loss depends on the length of each row of `x`, and `grad` is its derivative with
# respect to those lengths.
# %% exercise="length_backward" points=1 difficulty=2 minutes=3
def length_backward(
    grad: Float[Tensor, "row"], x: Float[Tensor, "row d_model"]
) -> Float[Tensor, "row d_model"]:
    """The loss's derivative with respect to x, whose rows have lengths above 0."""
    ### BEGIN SOLUTION
    return grad[:, None] * x / x.norm(dim=-1, keepdim=True)
    ### END SOLUTION


# %% check="length_backward"
# %% [markdown]
# A softmax over the last axis gave `p`; `grad` is the loss's derivative with respect to `p`.
# %% exercise="softmax_backward" points=1 difficulty=4 minutes=6
def softmax_backward(
    grad: Float[Tensor, "... n"], p: Float[Tensor, "... n"]
) -> Float[Tensor, "... n"]:
    """The loss's derivative with respect to the scores that the softmax took."""
    ### BEGIN SOLUTION
    return p * (grad - (grad * p).sum(-1, keepdim=True))
    ### END SOLUTION


# %% check="softmax_backward"
# %% [markdown]
# ## 5. Training
#
# Gradients that are too long all together are made shorter, all by the same factor; others stay.
# %% exercise="clip_gradients" points=1 difficulty=2 minutes=4
def clip_gradients(gradients: list[Tensor], longest: float) -> list[Tensor]:
    """The gradients, as one long vector no longer than `longest`; shorter ones unchanged."""
    ### BEGIN SOLUTION
    length = torch.stack([gradient.norm() for gradient in gradients]).norm()
    factor = longest / length if length > longest else 1.0
    return [gradient * factor for gradient in gradients]
    ### END SOLUTION


# %% check="clip_gradients"
# %% [markdown]
# Now a whole training. `y` depends on `x` in a way that no straight line follows; 512 points of it are enough. Use what
# PyTorch has, its global seed too. It must take seconds, and explain 95 % of the variance of points not seen before.
# %% exercise="fit" points=2 difficulty=3 minutes=8
def fit(
    x: Float[Tensor, "sample feature"], y: Float[Tensor, "sample"], seed: int
) -> nn.Module:
    """A trained network that maps x to predictions [sample]; a seed gives one network,
    another seed another.
    """
    ### BEGIN SOLUTION
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(x.shape[1], 64), nn.Tanh(), nn.Linear(64, 1), nn.Flatten(0)).to(x.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(400):
        optimizer.zero_grad()
        (network(x) - y).square().mean().backward()
        optimizer.step()
    return network
    ### END SOLUTION


# %% check="fit"
# %% [markdown]
# ## What now
#
# Run `concrete_steps.placement(1)` in a new cell. A notebook that it says to skim: read its criteria, and do the
# exercises of those that you doubt.
