# %% [markdown]
# # 3.1 Hooks, from nothing to TransformerLens
#
# Every experiment of this step reads a number inside a running model, or changes one and looks at what comes of it. A
# **hook** does both: a function that the model calls with an activation, and whose return value takes its place.
#
# ![Three hooks on an activation's way: one keeps a copy, one returns another value, one stops](figures/hooks.svg)
#
# You will write a hook layer of some 60 lines on plain PyTorch, see that TransformerLens is that with names, learn
# its traps where they bite, and find a hook that somebody left behind.
# %% generated="overview"
# %% setup=True
import contextlib
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens import utilities as utils
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import corpus, evidence, models, plot

Hook = Callable[..., Tensor | None]  # is called as function(value, hook=...)
Place = tuple[str, int, int | None]  # (name of a hook point, position, head)
# %% [markdown]
# ## 1. Points to hook
#
# PyTorch calls a function after a part of a model (an `nn.Module`) has run: `part.register_forward_hook(function)`.
# It sees what the part **returns**, and nothing else. An attention pattern that is a local variable cannot be hooked.
# The remedy is a part that does nothing, `nn.Identity()`, wherever one may want to look: a **hook point**.
#
# Here is a plain attention-only transformer with such points. It takes the weights of the toy, a model of two layers of
# four heads that was trained on little stories and on repeated random tokens.
# %%
class Attention(nn.Module):
    """W_Q, W_K, W_V: [head d_model d_head]; W_O: [head d_head d_model]."""

    def __init__(self, W_Q, W_K, W_V, W_O):
        super().__init__()
        self.W_Q, self.W_K, self.W_V, self.W_O = map(nn.Parameter, (W_Q, W_K, W_V, W_O))
        self.q, self.k, self.v = nn.Identity(), nn.Identity(), nn.Identity()
        self.scores, self.pattern, self.z = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x):
        q = self.q(torch.einsum("bpm,hmd->bphd", x, self.W_Q))
        k = self.k(torch.einsum("bpm,hmd->bphd", x, self.W_K))
        v = self.v(torch.einsum("bpm,hmd->bphd", x, self.W_V))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
        later = torch.ones(scores.shape[-2:]).triu(1).bool()
        scores = self.scores(scores.masked_fill(later, -torch.inf))
        pattern = self.pattern(scores.softmax(-1))
        z = self.z(torch.einsum("bhqk,bkhd->bqhd", pattern, v))
        return torch.einsum("bphd,hdm->bpm", z, self.W_O)


class Plain(nn.Module):
    def __init__(self, W_E, W_pos, W_U, layers):
        super().__init__()
        self.W_E, self.W_pos, self.W_U = map(nn.Parameter, (W_E, W_pos, W_U))
        self.attn = nn.ModuleList(Attention(*matrices) for matrices in layers)
        # the residual stream at the entrance of each layer, and at the end
        self.resid = nn.ModuleList(nn.Identity() for _ in range(len(layers) + 1))

    def forward(self, tokens):
        x = self.W_E[tokens] + self.W_pos[: tokens.shape[1]]
        for resid, attn in zip(self.resid, self.attn, strict=False):
            x = resid(x)
            x = x + attn(x)
        return self.resid[-1](x) @ self.W_U


toy = models.load("attn_only_2l")
by_layer = zip(toy.W_Q, toy.W_K, toy.W_V, toy.W_O, strict=True)
layers = [[W.detach().clone() for W in of_layer] for of_layer in by_layer]
plain = Plain(*(W.detach().clone() for W in (toy.W_E, toy.W_pos, toy.W_U)), layers)
stories = corpus.batch(32, 24, corpus.HELD_OUT)  # [row pos]
with torch.no_grad():
    print(f"largest difference to the toy: {(plain(stories) - toy(stories)).abs().max():.0e}")
# %% [markdown]
# A part is found again by its path: `model.get_submodule("attn.0.q")` is `model.attn[0].q`; `model.named_modules()`
# goes through all of them, at any depth.
# %% exercise="hook_points" points=1 difficulty=1 minutes=4
def hook_points(model: nn.Module) -> dict[str, nn.Module]:
    """All parts of the model that are an nn.Identity (or of a class made from it), at any
    depth, by their paths, in the order of named_modules.
    """
    ### BEGIN SOLUTION
    return {name: part for name, part in model.named_modules() if isinstance(part, nn.Identity)}
    ### END SOLUTION
# %% check="hook_points"
# %%
print("points:", ", ".join(hook_points(plain)))
# %% [markdown]
# ## 2. Edit
#
# Now the heart: run a model with some functions at some of its parts.
#
# - PyTorch's own hook has the form `(part, args, value)`; what it returns, unless it is `None`, replaces the value.
#   `register_forward_hook` returns a handle, whose `.remove()` takes the hook away.
# - **Ours** are called as `function(value, hook=name)`: the second argument says where they are.
# - A run may fail half-way: an error in a function, a wrong shape. A hook that stays behind then edits every later run,
#   without a word. `try: ... finally: ...` cleans up in any case.
# - Functions that a loop defines look their variables up when they are *called*, after the loop. Bind them at once, by
#   `partial` or a default argument (`def call(..., name=name)`).
#
# <details><summary>Hint</summary>
#
# A list of handles; in a `try`: for each pair a function of PyTorch's form that calls ours and returns what it returns,
# registered; then `return model(x)`. In the `finally`: `.remove()` for each handle.
#
# </details>
# %% exercise="run_with_hooks" points=3 difficulty=3 minutes=20
def run_with_hooks(model: nn.Module, x: Tensor, hooks: list[tuple[str, Hook]]) -> Tensor:
    """model(x), while functions are called with what parts of the model return.

    Args:
        hooks: pairs (path of a part, function), called as function(value, hook=path). What a
            function returns takes the value's place; None leaves it. Of several at one part,
            each gets what the one before it in the list has left.

    Afterwards none of these hooks is left, also where the run fails or a path does not exist
    (which is an error); hooks of others stay.
    """
    ### BEGIN SOLUTION
    handles = []
    try:
        for path, function in hooks:

            def call(part, args, value, function=function, path=path):
                return function(value, hook=path)

            handles.append(model.get_submodule(path).register_forward_hook(call))
        return model(x)
    finally:
        for handle in handles:
            handle.remove()
    ### END SOLUTION
# %% check="run_with_hooks"
# %% [markdown]
# ### Any slice
#
# A function that edits must not write into the value it gets: that is the model's own tensor, and others may hold it,
# too. It changes a **copy**, and returns it. This one does for every slice: `index` is what stands in `x[...]`.
#
# ```python
# partial(put, index=(slice(None), -1, 3), new=0.0)     # z of head 3 at the last position is 0
# ```
# %% exercise="put" points=1 difficulty=2 minutes=5
def put(x: Tensor, hook: object, index: object, new: Tensor | float) -> Tensor:
    """A copy of x, with new at x[index]; x stays as it is, and gradients flow to x and new.

    Args:
        hook: where x comes from; not needed here.
        index: whatever may stand in x[index]: a number, a slice, a list, a tuple of them.
    """
    ### BEGIN SOLUTION
    x = x.clone()
    x[index] = new
    return x
    ### END SOLUTION
# %% check="put"
# %% [markdown]
# ### One head at one position
#
# Rows of random tokens that repeat: the toy's induction heads predict the second half (3.2). We set head L0H1 to 0 at
# *one* position, and ask at which positions the logits move; then the same with L0H3, and with noise.
#
# **Predict**: the edit is at position 5. Can the logits at position 3 move? Which positions after 5 will move most: the
# next ones, or some far away?
#
# <details><summary>Answer</summary>
#
# None before: attention is causal. Position 5 itself, and one far away in the second half, where the same context comes
# again: L0H1 notes the token before, and an induction head finds the note.
#
# </details>
# %%
def repeated_rows(rows: int, block: int, seed: int) -> Int[Tensor, "row 2*block+1"]:
    """[BOS], a block of random words of the stories, and the block again."""
    generator = torch.Generator().manual_seed(seed)
    once = torch.randint(4, 333, (rows, block), generator=generator)
    return torch.cat([torch.ones(rows, 1, dtype=torch.long), once, once], dim=1)


BLOCK = 10
rows = repeated_rows(16, BLOCK, seed=0)
with torch.no_grad():
    whole = plain(rows)
# %% experiment=True
def noisy(z, hook, index):
    """Adds noise, as long after W_O as what the head writes there."""
    W_O, own = plain.attn[0].W_O[index[-1]], z[index]
    noise = torch.randn(own.shape, generator=torch.Generator().manual_seed(index[1]))
    size = (own @ W_O).norm(dim=-1, keepdim=True) / (noise @ W_O).norm(dim=-1, keepdim=True)
    return put(z, hook, index, own + size * noise)


def moved_by(head: int, at: int, edit: Hook) -> Float[Tensor, "row pos"]:
    """How far the logits at each position move when L0's head is edited at one position."""
    edit = partial(edit, index=(slice(None), at, head))
    with torch.no_grad():
        return (run_with_hooks(plain, rows, [("attn.0.z", edit)]) - whole).norm(dim=-1)


positions = range(1, 2 * BLOCK + 1)
places = range(1, BLOCK)  # edits at 2 .. BLOCK: their notes are read BLOCK - 1 later
moves, far, near, null = {}, {}, {}, {}
for head in (1, 3):  # [edited at, row, read at]
    moves[head] = torch.stack([moved_by(head, at, partial(put, new=0.0)) for at in positions])
    by_noise = torch.stack([moved_by(head, at, noisy) for at in positions])
    before = max(moves[head][i, :, : i + 1].max() for i in range(BLOCK))
    print(f"L0H{head} at 0: moved before the edit by {before:.0e} at most;", end=" ")
    far[head] = torch.stack([moves[head][i, :, i + BLOCK] for i in places]).mean(0)  # [row]
    near[head] = torch.stack([moves[head][i, :, i + BLOCK + 1] for i in places]).mean(0)
    null[head] = torch.stack([by_noise[i, :, i + BLOCK] for i in places]).mean(0)
    print(f"{BLOCK - 1} later {evidence.interval(far[head]):.1f},", end=" ")
    print(f"{BLOCK} later {evidence.interval(near[head]):.1f};", end=" ")
    print(f"by noise, {BLOCK - 1} later {evidence.interval(null[head]):.1f}")
plot.imshow(
    torch.stack([of_head.mean(1)[:, 1:] for of_head in moves.values()]),
    facets=["L0H1", "L0H3"],
    x=list(positions),
    y=list(positions),
    x_label="logits read at",
    y_label="head is 0 at",
    value_label="moved by",
    scale="positive",
    title="One head at one position",
)
# %% [markdown]
# Nothing moves to the left of the diagonal: exactly 0. Nine positions later, L0H1 at 0 moves the logits more than twice
# as far as noise of the length of what it writes; L0H3, which writes less, hardly further than its noise. Ten positions
# later, the null for the place, neither does. Intervals: 95 %, over 16 rows; one model.
#
# ## 3. Read
#
# To read is to hook and return nothing. The value must be **copied**: later code may write into the same tensor.
# `.detach()` cuts it off from the gradient, so that what you keep does not keep the whole run in memory.
#
# <details><summary>Hint</summary>
#
# One function for all parts: it writes into a dictionary under `hook`, the path. Then your `run_with_hooks`.
#
# </details>
# %% exercise="run_with_cache" points=2 difficulty=2 minutes=10
def run_with_cache(
    model: nn.Module, x: Tensor, names: list[str] | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """model(x), gradient and all, and what these parts returned, by path: detached copies.

    Args:
        names: paths of parts; None: all hook points (nn.Identity).
    """
    ### BEGIN SOLUTION
    kept = {}

    def keep(value, hook):
        kept[hook] = value.detach().clone()

    names = hook_points(model) if names is None else names
    output = run_with_hooks(model, x, [(name, keep) for name in names])
    return output, kept
    ### END SOLUTION
# %% check="run_with_cache"
# %% [markdown]
# **TransformerLens's cache copies nothing: it keeps the model's own tensors. What can change what it holds?**
# (a) the model's next run, on other tokens; (b) a later hook that writes `value[:, 0] = 0`; (c) a later hook that
# returns `0 * value`
# %% exercise="answer_copy" points=1 difficulty=2 minutes=2
answer_copy = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_copy = "b"
### END SOLUTION
# %% check="answer_copy"
# %% [markdown]
# ### A model that nobody prepared
#
# Your layer works on any PyTorch model: here SmolLM2-135M-Instruct (30 layers, unpacked from 4-bit weights, Q4_1) as
# the library `transformers` has it. It has no `nn.Identity`, but every layer is a part that returns the stream.
# %%
hf, tokenizer = models.smollm2_hf()
SENTENCES = [
    "The museum opens at nine, but on Mondays the garden is closed for the gardeners.",
    "To make the soup, cut the onions into thin rings and fry them slowly in butter.",
    "Most bridges of that time were built of stone, because iron was still too dear.",
    "She wrote to her brother every week, although he rarely answered any of them.",
    "A computer stores each number as a row of bits, and the first gives its sign.",
    "In winter the wolves come closer to the farms, where the snow is not so deep.",
]
START = tokenizer.convert_tokens_to_ids("<|endoftext|>")
ids = [[START, *tokenizer(text)["input_ids"]][:16] for text in SENTENCES]
smol_tokens = torch.tensor(ids)  # [row pos]
parts = [name for name, _ in hf.named_modules() if ".layers.11" in name]
print(", ".join(parts))
# %% [markdown]
# **Predict**: the norm of the stream after each layer, at the first position and on average at the others. Does it grow
# evenly? Is the first position any different?
#
# <details><summary>Answer</summary>
#
# At the others it grows steadily. At the first it jumps, after layer 11 to more than a hundred times the rest, and
# falls at the very end. *One* number of the 576 does it: a **massive activation** (Sun et al. 2024).
#
# </details>
# %% experiment=True
ends = [f"model.layers.{layer}" for layer in range(30)]
with torch.no_grad():
    _, streams = run_with_cache(hf, smol_tokens, ends)
first = torch.stack([streams[name][:, 0].norm(dim=-1).mean() for name in ends])
others = torch.stack([streams[name][:, 1:].norm(dim=-1).mean() for name in ends])
after_11 = streams[ends[11]][:, 0].mean(0)  # [d_model]
largest = after_11.abs().topk(3).indices.tolist()
print("after layer 11, first position, largest numbers:", end=" ")
print(", ".join(f"axis {axis}: {after_11[axis]:.0f}" for axis in largest))
on_axis = streams[ends[11]][:, :, largest[0]].abs()  # [row pos]
elsewhere = on_axis[:, 1:].amax(1)
print(f"axis {largest[0]} at other positions: at most {elsewhere.max():.0f}")
rest = after_11.clone().index_fill_(0, torch.tensor(largest[:1]), 0)
print(f"length of the vector {after_11.norm():.0f}, without that number {rest.norm():.0f}")
plot.line(
    {"first position": first.log10(), "other positions": others.log10()},
    x=list(range(30)),
    x_label="after layer",
    y_label="log10 of the norm",
    title="SmolLM2: the residual stream",
)
# %% [markdown]
# ### One number
#
# A number that large at a place that says nothing. Does it matter? Read has found it; edit must tell.
#
# **Predict**: we set that one number to 0. Does the loss rise at all? With the second largest at 0? And with everything
# at that position at 0, the number included: is that worse?
#
# <details><summary>Answer</summary>
#
# At 0 by many nats, to more than an even guess would cost. The second largest costs little. And everything at 0 costs
# hardly more than that: a fifteenth of the one number!
#
# </details>
# %% experiment=True
def smol_losses(hooks) -> Float[Tensor, "row"]:
    """The mean loss of each sentence in nats."""
    with torch.no_grad():
        log_probs = run_with_hooks(hf, smol_tokens, hooks).logits[:, :-1].log_softmax(-1)
    return -log_probs.gather(-1, smol_tokens[:, 1:, None])[..., 0].mean(-1)


smol_whole = smol_losses([])
everywhere = slice(None)
edits = {
    "the massive number to 0": ((everywhere, 0, largest[0]), 0.0),
    "to half": ((everywhere, 0, largest[0]), after_11[largest[0]] / 2),
    "second largest to 0": ((everywhere, 0, largest[1]), 0.0),
    "same axis, position 5, to 0": ((everywhere, 5, largest[0]), 0.0),
    "all at position 0 to 0": ((everywhere, 0), 0.0),
    "all but the massive to 0": ((everywhere, 0), after_11 - rest),
}
rises = {}
print(f"loss of the whole model {evidence.interval(smol_whole):.2f} nats")
for name, (index, new) in edits.items():
    edit = partial(put, index=index, new=new)
    rises[name] = smol_losses([(ends[11], edit)]) - smol_whole
    print(f"{name:>27}: loss rises by {evidence.interval(rises[name]):.2f} nats")
# %% [markdown]
# One number of $16 \cdot 576$ in the stream after layer 11 to 0, and the model is lost. Yet it does not *need* the
# number: it does nearly as well with the whole position at 0. What it cannot bear is the rest of that vector *alone*
# (intervals over six sentences). A lead, no proof: each norm divides by the length, so without the number the rest
# comes out nine times as large, at a position on which many heads rest (3.2).
#
# ## 4. Stop
#
# If you want layer 3, the other 27 need not run. A function may also raise an error of its own kind, which the caller
# catches: the run ends there. Errors of others must go on their way.
#
# <details><summary>Hint</summary>
#
# `class Stop(Exception): pass`, inside your function; `try: ... except Stop: ...`.
#
# </details>
# %% exercise="run_until" points=2 difficulty=3 minutes=10
def run_until(model: nn.Module, x: Tensor, name: str) -> Tensor:
    """What this part returns when the model runs on x; what comes after it does not run.

    No hook is left, and an error of the model itself reaches the caller.
    """
    ### BEGIN SOLUTION

    class Stop(Exception):
        pass

    kept = []

    def stop(value, hook):
        kept.append(value)
        raise Stop

    with contextlib.suppress(Stop):
        run_with_hooks(model, x, [(name, stop)])
    return kept[0]
    ### END SOLUTION
# %% check="run_until"
# %% [markdown]
# **Predict**: SmolLM2 up to layer 3 of 30, against the whole run: a tenth of the time, or more?
#
# <details><summary>Answer</summary>
#
# About a tenth: three layers of 30, and the unembedding, with its 49,152 columns, is saved as well.
#
# </details>
# %% experiment=True
with torch.no_grad():
    times = evidence.ratio_of_times(
        lambda: hf(smol_tokens), lambda: run_until(hf, smol_tokens, ends[2]), repeats=3
    )
print(f"the whole run, against three layers of it: {times}")
# %% [markdown]
# ## 5. Back
#
# How much would the loss change, if this activation changed a little? That is the **gradient at a point**. A cached
# copy cannot tell: it is a side branch, and nothing flows back to it from the output.
#
# ```text
# value ──┬──> the rest of the model ──> loss
#         └──> copy                            no way from the loss to the copy
# ```
#
# The gradient must be asked for at the tensor that the rest of the model really uses. So let a hook *return* one: a
# fresh leaf, `value.detach().clone().requires_grad_()`, and keep it. `torch.autograd.grad(loss, leaf)` then gives the
# gradient, and leaves every weight's `.grad` alone.
# %% exercise="gradient_at" points=3 difficulty=4 minutes=15
def gradient_at(
    model: nn.Module, x: Tensor, name: str, measure: Callable[[Tensor], Tensor]
) -> Tensor:
    """The gradient of measure(model(x)), one number, with respect to what this part returned.

    Also under torch.no_grad(), and in models whose weights ask for no gradient. No weight's
    .grad or requires_grad changes, no hook is left, and the result needs no gradient.
    """
    ### BEGIN SOLUTION
    kept = []

    def branch_off(value, hook):
        leaf = value.detach().clone().requires_grad_()
        kept.append(leaf)
        return leaf

    with torch.enable_grad():
        value = measure(run_with_hooks(model, x, [(name, branch_off)]))
        return torch.autograd.grad(value, kept[0])[0]
    ### END SOLUTION
# %% check="gradient_at"
# %% [markdown]
# ### A tangent in place of an edit
#
# A first use: how far would a measure fall with a head's `z` at 0? By the tangent, $z \cdot \partial\,
# \text{measure}/\partial z$, summed over the head: one run back for all heads of a layer, instead of one for each.
#
# **Predict**: the measure is the logit of the right token. For which heads is the tangent exact? Is it exact for the
# log-probability, too?
#
# <details><summary>Answer</summary>
#
# For the last layer's: in this model, which has no norm, matrices alone lead from their `z` to the logits. L0H1's notes
# pass through the softmax of other heads. Of the log-probability for none: it passes through a softmax at the end.
#
# </details>
# %% experiment=True
def of_right(values: Float[Tensor, "row pos d_vocab"]) -> Float[Tensor, "row"]:
    """The mean value of the tokens that come, over the second copy."""
    right = values[:, BLOCK + 1 : -1].gather(-1, rows[:, BLOCK + 2 :, None])
    return right[..., 0].mean(-1)


measures = {"logit": of_right, "log p": lambda logits: of_right(logits.log_softmax(-1))}
heads = list(product(range(2), range(4)))
falls = {}  # of a measure, by a kind: [layer head row]
for what, measure in measures.items():
    true, tangent = torch.zeros(2, 4, len(rows)), torch.zeros(2, 4, len(rows))
    for layer in range(2):
        name = f"attn.{layer}.z"
        _, cached = run_with_cache(plain, rows, [name])
        slope = gradient_at(plain, rows, name, lambda logits, of=measure: of(logits).sum())
        tangent[layer] = (cached[name] * slope).sum((1, 3)).T
    for layer, head in heads:
        zero = partial(put, index=(slice(None), slice(None), head), new=0.0)
        with torch.no_grad():
            without = run_with_hooks(plain, rows, [(f"attn.{layer}.z", zero)])
        true[layer, head] = measure(whole) - measure(without)
    falls[what] = {"true fall": true, "by the gradient": tangent}
    shares = (tangent[1].mean(-1) / true[1].mean(-1)).tolist()
    print(f"{what}: of layer 1 the gradient gives", [round(share, 2) for share in shares])
    gap = (true - tangent)[1].abs().max()
    print(f"{what}: layer 1, largest difference {gap:.0e}; L0H1", end=" ")
    print("; ".join(f"{k} {evidence.interval(v[0, 1]):.2f}" for k, v in falls[what].items()))
of_log_p = falls["log p"]
spans = {kind: [evidence.interval(x[at]) for at in heads] for kind, x in of_log_p.items()}
plot.bar(
    {kind: [span.value for span in of_head] for kind, of_head in spans.items()},
    errors=[[span.high - span.value for span in of_head] for of_head in spans.values()],
    x=[f"L{layer}H{head}" for layer, head in heads],
    x_label="head whose z is 0",
    y_label="fall of log p (nats)",
    title="Repeated random tokens: log-probability of the second copy",
)
# %% [markdown]
# Of the logit, the gradient gives layer 1 exactly and two thirds of L0H1. Of the log-probability it gives two fifths or
# less for layer 1 and a tenth for L0H1: where a model is sure, the last softmax is almost flat. A fast look, not a
# measurement (3.4 has more).
#
# ## 6. The same, with names: TransformerLens
#
# You have written the core of TransformerLens. There, a `TransformerBridge` is the model and a `HookPoint` is the
# identity with a name; `model.hook_dict` is your `hook_points`. `run_with_hooks` and `run_with_cache` are methods, and
# hooks are called as `function(value, hook=point)`: `put` works as it is.
#
# | yours | there |
# |---|---|
# | `run_with_hooks(model, x, [(name, f)])` | `model.run_with_hooks(x, fwd_hooks=[(name, f)])` |
# | `run_with_cache(model, x, names)` | `model.run_with_cache(x, names_filter=names)` |
# | `run_until(model, x, name)` | `model.run_with_cache(x, stop_at_layer=3)` |
# | `gradient_at` | `incl_bwd=True`, or `bwd_hooks=[...]` |
#
# A cache also understands short names: `cache["z", 0]` is `cache["blocks.0.attn.hook_z"]`, which is
# `utils.get_act_name("z", 0)`.
#
# **Predict**: your cache of `plain` against the toy's, point by point. Will all agree?
#
# <details><summary>Answer</summary>
#
# All but the scores.
#
# </details>
# %% experiment=True
with torch.no_grad():
    _, mine = run_with_cache(plain, rows)
    _, theirs = toy.run_with_cache(rows)
pairs = [(f"attn.{layer}.{part}", (part, layer)) for layer in (0, 1) for part in "qkvz"]
pairs += [(f"attn.{layer}.pattern", ("pattern", layer)) for layer in (0, 1)]
pairs += [("resid.0", ("resid_pre", 0)), ("resid.2", ("resid_post", 1))]
print(f"{len(pairs)} points, largest difference:", end=" ")
print(f"{max((mine[own] - theirs[key]).abs().max() for own, key in pairs):.0e}")
at = (0, 1, 3, slice(0, 4))  # row, head, query, keys
print("scores, mine:  ", [round(x, 2) for x in mine["attn.0.scores"][at].tolist()])
print("scores, theirs:", [round(x, 2) for x in theirs["attn_scores", 0][at].tolist()])
print("pattern, both: ", [round(x, 2) for x in theirs["pattern", 0][at].tolist()])
# %% [markdown]
# A trap of the toy and of all models that `boot_native` makes: their `attn_scores` holds the *pattern*, whose rows sum
# to 1. It is filled in after attention is done.
#
# **A hook at the toy's `blocks.0.attn.hook_attn_scores` returns zeros. What happens to the logits?**
# (a) every head of layer 0 attends evenly; (b) every head of layer 0 attends to nothing; (c) they stay exactly as they
# are
# %% exercise="answer_scores" points=1 difficulty=2 minutes=3
answer_scores = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_scores = "c"
### END SOLUTION
# %% check="answer_scores"
# %% [markdown]
# ### Scores of your own
#
# They are made from queries and keys. $\text{pattern} = \text{softmax}(q k^\top /
# \sqrt{d_\text{head}})$ over the keys up to the query. In models with **shared keys** (SmolLM2: 9 query heads, 3 of
# keys) a few neighbouring query heads read one key head: of 9 and 3, query head `h` reads key head `h // 3`.
# %% exercise="pattern_from_qk" points=2 difficulty=3 minutes=12
def pattern_from_qk(
    q: Float[Tensor, "batch pos head d_head"], k: Float[Tensor, "batch pos key_head d_head"]
) -> Float[Tensor, "batch head pos pos"]:
    """The causal attention pattern, [batch head query key], from queries and keys.

    There are as many query heads for each key head: the first few read key head 0, the next
    few key head 1, and so on.
    """
    ### BEGIN SOLUTION
    k = k.repeat_interleave(q.shape[2] // k.shape[2], dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1)
    ### END SOLUTION
# %% check="pattern_from_qk"
# %%
hf = None  # to free its memory: the bridge loads its own
smol, story_lm = models.smollm2(), models.load("story_lm")
# %% [markdown]
# **Predict**: from `hook_q` and `hook_k` of SmolLM2, is it the model's pattern? It has rotary positions (2.5).
#
# <details><summary>Answer</summary>
#
# No: `hook_q` and `hook_k` lie *before* the rotation. `hook_rot_q` and `hook_rot_k` lie after it.
#
# </details>
# %% experiment=True
with torch.no_grad():
    prefix = "blocks.5.attn.hook_"
    wanted = [prefix + part for part in ("q", "k", "rot_q", "rot_k", "pattern")]
    _, of_smol = smol.run_with_cache(smol_tokens, names_filter=wanted, stop_at_layer=6)
apart_by = {}
for kind in ("", "rot_"):
    made = pattern_from_qk(of_smol[f"{prefix}{kind}q"], of_smol[f"{prefix}{kind}k"])
    apart_by[kind] = (made - of_smol["pattern", 5]).abs().amax((1, 2, 3))  # [row]
    gap = apart_by[kind].max()
    print(f"SmolLM2, layer 5, from hook_{kind}q: largest difference {gap:.0e}")
made = pattern_from_qk(theirs["q", 0], theirs["k", 0])
print(f"toy, from hook_q: {(made - theirs['pattern', 0]).abs().max():.0e}")
# %% [markdown]
# ### A first measurement
#
# How often is the model's first guess the next token? The logits at position `i` are about token `i + 1`; those at the
# last position are about a token that is not there.
# %% exercise="token_accuracy" points=1 difficulty=1 minutes=5
def token_accuracy(model: TransformerBridge, tokens: Int[Tensor, "row pos"]) -> float:
    """The share of tokens, from the second on, that had the highest logit just before."""
    ### BEGIN SOLUTION
    with torch.no_grad():
        guesses = model(tokens)[:, :-1].argmax(-1)
    return (guesses == tokens[:, 1:]).float().mean().item()
    ### END SOLUTION
# %% check="token_accuracy"
# %% [markdown]
# **Predict**: which of these reads stories best: the toy, a model of no layers, or `story_lm` (three layers with MLPs,
# a GPT-2)? What does guessing the commonest word give?
#
# <details><summary>Answer</summary>
#
# The toy and `story_lm` are close, and no layers, which know no more than the last word, not far
# behind. The commonest word is right once in ten times.
#
# </details>
# %% experiment=True
readers = {"no layers": models.load("attn_only_0l"), "toy": toy, "story_lm": story_lm}
by_story = {}
for name, model in readers.items():
    by_story[name] = [token_accuracy(model, row[None]) for row in stories]
    print(f"{name:>13}: {evidence.interval(by_story[name]):.2f}")
than_toy = {}
for name in ("story_lm", "no layers"):
    than_toy[name] = evidence.difference(by_story[name], by_story["toy"], paired=True)
    print(f"{name} minus toy: {than_toy[name]:.3f}")
targets = stories[:, 1:]
commonest = (targets == targets.flatten().mode().values).float().mean(-1)
print(f"commonest word: {evidence.interval(commonest):.2f} (intervals over 32 stories)")
# %% [markdown]
# ## 7. The map of points
#
# One point may have several names: `blocks.0.attn.hook_z` is an **alias** of `blocks.0.attn.o.hook_in`, its *canonical*
# name. In `hook_dict` both lead to the same `HookPoint` object; in a cache both are there, with the same tensor. Make
# the list that has each point of a cache once, with the shape that it has there.
#
# <details><summary>Hint</summary>
#
# `id(point)` is the same for both names. A dictionary by `id` keeps the last name that is written to it.
#
# </details>
# %% exercise="activation_shapes" points=2 difficulty=3 minutes=10
def activation_shapes(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"]
) -> dict[str, tuple[int, ...]]:
    """The shape of each activation of a run, one entry for each hook point that is reached.

    Of a point's names the last one in model.hook_dict is used. No hook is left, and shapes
    are plain tuples of numbers.
    """
    ### BEGIN SOLUTION
    names = {id(point): name for name, point in model.hook_dict.items()}  # the last one stays
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    return {name: tuple(cache[name].shape) for name in names.values() if name in cache}
    ### END SOLUTION
# %% check="activation_shapes"
# %% [markdown]
# With it, a table of what each point is in the architectures of this course. Keep it at hand: all later notebooks name
# points from it. Sizes have names here: *2 stories of 11 tokens* would only hide which axis is which.
# %% experiment=True
MEANING = {
    "hook_embed": "the tokens' embeddings",
    "hook_pos_embed": "what is added for the position",
    "hook_resid_pre": "residual stream, entering the layer",
    "ln1.hook_scale": "what the norm before attention divides by",
    "ln1.hook_normalized": "normalised stream, before the norm's weights",
    "attn.hook_in": "what attention reads, after the norm",
    "attn.hook_q": "queries (SmolLM2: before the rotation)",
    "attn.hook_k": "keys (SmolLM2: before the rotation)",
    "attn.hook_rot_q": "queries after the rotation",
    "attn.hook_rot_k": "keys after the rotation",
    "attn.hook_v": "values",
    "attn.hook_attn_scores": "scores, masked; boot_native: the PATTERN, edits are lost",
    "attn.hook_pattern": "where heads look; sums to 1 over keys",
    "attn.hook_z": "pattern times values, each head's, before W_O",
    "hook_attn_out": "what attention adds to the stream",
    "hook_resid_mid": "stream after attention; edits reach the MLP alone",
    "ln2.hook_scale": "what the norm before the MLP divides by",
    "mlp.hook_pre": "MLP, before the activation function",
    "mlp.hook_pre_linear": "MLP, the part that is gated",
    "mlp.hook_post": "neurons: what W_out reads",
    "hook_mlp_out": "what the MLP adds to the stream",
    "hook_resid_post": "residual stream, leaving the layer",
    "ln_final.hook_normalized": "normalised stream at the end",
    "hook_unembed": "logits",
}


def axes(model, shape) -> str:
    """The shape in words; the batch has 2 rows of 11 tokens."""
    cfg = model.cfg
    words = {cfg.d_model: "d_model", cfg.d_head: "d_head", cfg.n_heads: "head"}
    words |= {cfg.n_key_value_heads: "key_head"} if cfg.n_key_value_heads else {}
    words |= {cfg.d_mlp: "d_mlp", cfg.d_vocab: "d_vocab", 2: "batch", 11: "pos", 1: "1"}
    return " ".join(words.get(size, str(size)) for size in shape)


columns = {}
kinds = {"attn-only (toy)": toy, "GPT-2 (story_lm)": story_lm, "Llama (SmolLM2)": smol}
for kind, model in kinds.items():
    shapes = activation_shapes(model, stories[:2, :11])
    print(f"{kind}: {len(shapes)} points under {len(model.hook_dict)} names;", end=" ")
    print(f"{model.cfg.n_layers} layers, {model.cfg.n_heads} heads")
    columns[kind] = {}
    for part in MEANING:
        for name in (part, f"blocks.0.{part}"):
            if name in shapes:
                columns[kind][part] = axes(model, shapes[name])
for part, meaning in MEANING.items():
    columns.setdefault("what it is", {})[part] = meaning
pd.set_option("display.max_colwidth", None)
pd.DataFrame(columns).reindex(MEANING).fillna("")
# %% [markdown]
# An empty field: this architecture has no such point. Names in layers have `blocks.0.` before them, and two questions
# stay for each new model: *is the name there?* and *does an edit there do anything?*
#
# ## 8. Read little
#
# A cache without a filter keeps everything: SmolLM2 has 1,393 entries. Ask for less: `names_filter=` a list or a
# function of the name, `pos_slice=` positions (of patterns: queries), `stop_at_layer=n` (layers from `n` on do not
# run), `return_type=None` (no logits).
#
# A slice of a tensor is a **view**: keep it, and the whole tensor stays in memory. `.clone()` lets go.
#
# <details><summary>Hint</summary>
#
# `utils.get_act_name(part, layer)` for each pair; one run; then pick the position: `x.select(axis, position)` takes it
# and drops the axis. Which axis is it in a pattern?
#
# </details>
# %% exercise="cache_only" points=2 difficulty=3 minutes=12
def cache_only(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    parts: list[str],
    layers: list[int],
    position: int,
) -> dict[tuple[str, int], Tensor]:
    """The activations of these parts of these layers at one position, by (part, layer).

    Layers after the last that is needed do not run. No hook is left, no gradient is kept, and
    what is returned holds no memory but its own.

    Args:
        parts: short names, such as "resid_post", "z" or "pattern".
        position: may be negative, from the end; of a pattern, the query's. Its axis is gone:
            [row d_model], [row head d_head], [row head key].
    """
    ### BEGIN SOLUTION
    names = {(part, layer): utils.get_act_name(part, layer) for part, layer in product(parts, layers)}
    with torch.no_grad():
        _, cache = model.run_with_cache(
            tokens, names_filter=list(names.values()), stop_at_layer=max(layers) + 1, return_type=None
        )
    return {
        key: cache[name].select(-2 if key[0] in ("pattern", "attn_scores") else 1, position).clone()
        for key, name in names.items()
    }
    ### END SOLUTION
# %% check="cache_only"
# %% [markdown]
# **Predict**: of SmolLM2, the stream of layer 8 at the last position, against a full cache: how much less memory, and
# how much less time?
#
# <details><summary>Answer</summary>
#
# Ten thousand times less memory; several times less time.
#
# </details>
# %% experiment=True
def megabytes(cache) -> float:
    """Memory of the tensors in a cache, each counted once."""
    kept = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in cache}
    return sum(kept.values()) / 1e6


with torch.no_grad():
    _, full = smol.run_with_cache(smol_tokens)
little = cache_only(smol, smol_tokens, ["resid_post"], [8], -1)
sizes = megabytes(full.values()), megabytes(little.values())
print(f"full cache {sizes[0]:.0f} MB, {len(full):,} entries; one tensor {sizes[1]:.3f} MB")
del full
with torch.no_grad():
    little_times = evidence.ratio_of_times(
        lambda: smol.run_with_cache(smol_tokens),
        lambda: cache_only(smol, smol_tokens, ["resid_post"], [8], -1),
        repeats=3,
    )
print(f"full cache, against one activation: {little_times}")
# %% [markdown]
# ## 9. Traps
#
# Each of these has cost somebody a day. **Predict** for each line below what is printed, then run it.
#
# <details><summary>Answer</summary>
#
# A misspelt name is an error, and so is a point that is switched off. A hook whose second parameter is not called
# `hook` fails. `hook.name` is the canonical name. `add_hook` stays, even when a later run fails, until `reset_hooks`;
# permanent ones stay after that, too. Writing into the value *is* an edit, without any return. With `resid_pre` at 0
# little is left of the stream; at `hook_resid_mid` the zeros reach the MLP alone, and the stream goes on, but for what
# the MLP would have added.
#
# </details>
# %% experiment=True
few = stories[:2, :8]
Z0 = "blocks.0.attn.hook_z"


def attempt(what, model, hooks):
    with torch.no_grad(), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            moved = (model.run_with_hooks(few, fwd_hooks=hooks) - model(few)).abs().max()
            said = f"logits move by {moved:.1f}"
        except Exception as error:
            said = f"{type(error).__name__}: {str(error)[:58]}"
    print(f"{what:>28}: {said}{' (and a warning)' if warned else ''}")


def write_into(z, hook):
    z[:, :, 1] = 0


zeros = lambda x, hook: 0 * x  # noqa: E731
attempt("misspelt", toy, [("blocks.0.attn.hook_zz", zeros)])
attempt("switched off", toy, [("blocks.0.attn.hook_result", zeros)])
attempt("parameter not called hook", toy, [(Z0, lambda z, point: None)])
attempt("no return", toy, [(Z0, lambda z, hook: None)])
attempt("writes into z, no return", toy, [(Z0, write_into)])
attempt("native attn_scores", toy, [("blocks.0.attn.hook_attn_scores", zeros)])
norm_after = {}
for name, hook in (
    ("hook_resid_pre at 0", ("blocks.2.hook_resid_pre", zeros)),
    ("hook_resid_mid at 0", ("blocks.2.hook_resid_mid", zeros)),
    ("no edit", ("blocks.2.hook_resid_mid", lambda x, hook: None)),
):
    with torch.no_grad(), story_lm.hooks(fwd_hooks=[hook]):
        _, cache = story_lm.run_with_cache(stories, names_filter="blocks.2.hook_resid_post")
    norm_after[name] = evidence.interval(cache["resid_post", 2].norm(dim=-1).mean(1))
    print(f"story_lm, {name}: the stream after the layer has norm {norm_after[name]:.0f}")
names = []
toy.run_with_hooks(few, fwd_hooks=[(Z0, lambda z, hook: names.append(hook.name))])
print(f"asked for {Z0}; hook.name is {names[0]}")
toy.add_hook(Z0, zeros)
toy.add_hook("blocks.1.attn.hook_z", zeros, is_permanent=True)
for what in ("after add_hook", "after reset_hooks()", "with including_permanent=True"):
    print(f"{what:>28}: hooks at {[name for name in toy.list_hooks() if '.o.' not in name]}")
    toy.reset_hooks(including_permanent=what == "after reset_hooks()")
print("of a model that misbehaves, look at model.list_hooks() first")
# %% [markdown]
# ### Who comes first
#
# Hooks at one point run in the order in which they were added, each on what the one before has left; `prepend=True`
# puts one in front.
#
# **`add_hook` has put an edit at `z`. Then `run_with_cache` runs. What is in the cache for `z`?**
# (a) the edited value: its hook was added later; (b) the model's own value: caches look first; (c) an error: the point
# is taken already
# %% exercise="answer_order" points=1 difficulty=2 minutes=2
answer_order = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_order = "a"
### END SOLUTION
# %% check="answer_order"
# %% [markdown]
# To see what other people's hooks do at a point, look in front of them and behind. The point itself is
# `model.hook_dict[name]`; it has `point.add_hook(function, prepend=..., level=...)` and
# `point.remove_hooks(level=...)`, which removes the hooks with that number and no others (levels of `with
# model.hooks(...)` and of runs are 1, 2, ...; `None` removes all but the permanent ones).
# %% exercise="before_and_after" points=2 difficulty=4 minutes=15
def before_and_after(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"], name: str
) -> tuple[Tensor, Tensor]:
    """An activation as the model made it, and as the hooks at its point leave it, in one run.

    Both are copies without gradient. The model's hooks are afterwards what they were, also
    where the run fails.
    """
    ### BEGIN SOLUTION
    point, seen = model.hook_dict[name], []

    def look(value, hook):
        seen.append(value.detach().clone())

    try:
        point.add_hook(look, prepend=True, level=-1)
        point.add_hook(look, level=-1)
        with torch.no_grad():
            model(tokens)
    finally:
        point.remove_hooks(level=-1)
    return seen[0], seen[1]
    ### END SOLUTION
# %% check="before_and_after"
# %% experiment=True
with toy.hooks(fwd_hooks=[(Z0, write_into)]):  # writes into the tensor itself
    before, after = before_and_after(toy, few, Z0)
    with torch.no_grad():
        _, cache = toy.run_with_cache(few, names_filter=Z0)
    norms = [x[:, :, 1].norm().item() for x in (before, after, cache[Z0])]
print("head 1 before, after, in the cache:", [round(norm, 2) for norm in norms])
# %% [markdown]
# ## 10. Compatibility mode
#
# Older texts and some analyses want weights in another form. `model.enable_compatibility_mode()` rewrites them, for
# good, so that the model says the same:
#
# - **folds** the weights of each norm into the matrices that read after it, and value biases into `b_O`;
# - **centres** what is written to the stream (LayerNorm subtracts the mean anyway) and the unembedding over the
#   vocabulary (a constant on all logits changes no probability).
#
# **Predict**: which of these happen in SmolLM2, which has RMSNorm and no biases?
#
# <details><summary>Answer</summary>
#
# Norms are folded and the unembedding is centred. What is written to the stream is not: RMSNorm does not subtract the
# mean, so the mean counts.
#
# </details>
# %% experiment=True
def looks_like(model, tokens) -> dict[str, float]:
    with torch.no_grad():
        logits, cache = model.run_with_cache(
            tokens, names_filter=lambda name: name.endswith(("resid_post", "resid_pre"))
        )
        ln1 = model.blocks[0].ln1.weight
        found = {
            "norm's weights, furthest from 1": (ln1 - 1).abs().max(),
            "W_O, largest mean over d_model": model.W_O.mean(-1).abs().max(),
            "W_U, largest mean over words": model.W_U.mean(-1).abs().max(),
            "stream, largest mean over d_model": cache["resid_post", -1].mean(-1).abs().max(),
            "stream, mean norm": cache["resid_post", -1].norm(dim=-1).mean(),
            "logit of the first guess": logits.max(-1).values.mean(),
        }
    found["probability of the first guess"] = logits.softmax(-1).max(-1).values.mean()
    return {name: value.item() for name, value in found.items()}, logits


columns, gaps = {}, {}
folded = {"story_lm": models.load("story_lm"), "SmolLM2": models.smollm2()}
for name, model, tokens in (("story_lm", story_lm, few), ("SmolLM2", smol, smol_tokens)):
    columns[f"{name}, as it is"], own = looks_like(model, tokens)
    folded[name].enable_compatibility_mode(disable_warnings=True)
    columns[f"{name}, folded"], its = looks_like(folded[name], tokens)
    shift = (its - own).mean(-1, keepdim=True)
    gaps[name] = ((its - own) - shift).abs().max().item(), shift.abs().max().item()
    print(f"{name}: each logit moves by up to {gaps[name][1]:.1f};", end=" ")
    print(f"after subtracting the shift that all words share, by {gaps[name][0]:.0e}")
del folded
pd.DataFrame(columns).round(3)
# %% [markdown]
# The same model in other coordinates: whoever compares a norm, a logit or a weight with another text must say which.
#
# **After folding, the logit of *Paris* at one position has gone from 17 to 15. What has its probability done?**
# (a) fallen by a factor of $e^2$; (b) stayed as it was; (c) fallen, but by less
# %% exercise="answer_folded" points=1 difficulty=2 minutes=2
answer_folded = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_folded = "b"
### END SOLUTION
# %% check="answer_folded"
# %% [markdown]
# ## 11. Open task: a hook left behind
#
# A colleague's logits are not yours. In their copy of the model a hook was left behind, which sets **one activation to
# 0**: `resid_pre` or `attn_out` of some layer (`mlp_out`, where there are MLPs), or `q`, `k`, `v` or `z` of one head,
# at one position, in all rows.
#
# You get your clean model, the tokens and their logits. Find the place: the point's name, the position, and the head as
# the tensor at that point counts heads (`None` for a stream). Several places may explain the same logits: each of them
# is right. If nothing of this kind explains them (the logits are yours, or a hook does something else), return `None`.
#
# Your function is tried on models of several architectures that you have not seen. 90 % of the hooks must be found, and
# at most 10 % of what it names may be wrong. You have about 4 seconds for each.
#
# <details><summary>Hint</summary>
#
# What does the first position whose logits differ tell? How can one run try many places at once?
#
# </details>
# %%
def with_hook_left(model, tokens, place: Place) -> Float[Tensor, "row pos d_vocab"]:
    """What the colleague sees."""
    name, position, head = place
    index = (slice(None), position) if head is None else (slice(None), position, head)
    with torch.no_grad():
        zero = partial(put, index=index, new=0.0)
        return model.run_with_hooks(tokens, fwd_hooks=[(name, zero)])


example = ("blocks.0.attn.hook_k", 7, 1)
their_logits = with_hook_left(toy, stories[:1], example)
with torch.no_grad():
    differs = (their_logits - toy(stories[:1])).abs().amax((0, 2))
print("their logits differ at each position by", [round(x, 2) for x in differs.tolist()])
# %% exercise="find_hook" points=5 difficulty=5 minutes=40
def find_hook(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    logits: Float[Tensor, "row pos d_vocab"],
) -> Place | None:
    """Where an activation was set to 0, so that the model gave these logits on tokens: (name,
    position, head), or None if no such place explains them.
    """
    ### BEGIN SOLUTION
    n_rows, close = len(tokens), 1e-3
    with torch.no_grad():
        own, cache = model.run_with_cache(tokens)
    different = ((logits - own).abs() > close).any(-1).any(0).nonzero()
    if not len(different):
        return None
    first = int(different[0])  # an edit moves nothing before its own position
    names = [
        utils.get_act_name(part, layer)
        for layer in range(model.cfg.n_layers)
        for part in ("resid_pre", "attn_out", "mlp_out", "q", "k", "v", "z")
    ]
    for name in names:
        if name not in cache:
            continue
        heads = range(cache[name].shape[2]) if cache[name].ndim == 4 else [None]
        places = list(product(reversed(range(first + 1)), heads))

        def zero(x, hook, places=places):
            x = x.clone()
            for i, (position, head) in enumerate(places):
                block = x[i * n_rows : (i + 1) * n_rows, position]
                (block if head is None else block[:, head]).zero_()
            return x

        with torch.no_grad():
            tried = model.run_with_hooks(tokens.repeat(len(places), 1), fwd_hooks=[(name, zero)])
        gaps = (tried.reshape(len(places), *logits.shape) - logits).abs().flatten(1).amax(1)
        if gaps.min() < close:
            return name, *places[int(gaps.argmin())]
    return None
    ### END SOLUTION
# %% check="find_hook"
# %% experiment=True
print("left at", example, "found", find_hook(toy, stories[:1], their_logits))
with torch.no_grad():
    half = toy.run_with_hooks(stories[:1], fwd_hooks=[(Z0, lambda z, hook: z / 2)])
    print("the null: no hook", find_hook(toy, stories[:1], toy(stories[:1])), end="; ")
    print("a hook that halves", find_hook(toy, stories[:1], half))
# %% [markdown]
# ## What was found
#
# Value, 95 % interval over what is independent, and what is to stand beside it: a null, or the other way to ask.
# %% experiment=True
said = (f"{evidence.interval(rise):.2f}" for rise in rises.values())
massive, half, second, later, none, alone = said
moved = {head: [evidence.interval(of[head]) for of in (far, null)] for head in (1, 3)}
highest, after = evidence.interval(on_axis[:, 0]), evidence.interval(elsewhere)
unturned, turned = (evidence.interval(apart_by[kind]) for kind in ("", "rot_"))
lines = [
    ("logits moved 9 later, L0H1 at 0", f"{moved[1][0]:.1f}", f"by noise {moved[1][1]:.1f}"),
    ("  the same", f"{moved[1][0]:.1f}", f"10 later {evidence.interval(near[1]):.1f}"),
    ("  L0H3 at 0", f"{moved[3][0]:.1f}", f"by noise {moved[3][1]:.1f}"),
    (f"axis {largest[0]}, first position", f"{highest:.0f}", f"largest later {after:.0f}"),
    ("  that number to 0 (nats)", massive, f"second largest {second}"),
    ("  to half", half, f"same axis, later {later}"),
    ("  the whole position to 0", none, f"all but the number {alone}"),
]
for what, by_kind in falls.items():
    for kind, fall in by_kind.items():
        own, other = (evidence.interval(fall[0, head]) for head in (1, 3))
        lines.append((f"{what}, L0H1 at 0, {kind}", f"{own:.2f}", f"L0H3 {other:.2f}"))
of_toy, of_word = (evidence.interval(each) for each in (by_story["toy"], commonest))
better, worse = than_toy["story_lm"], than_toy["no layers"]
shift, rest = gaps["SmolLM2"][1], gaps["SmolLM2"][0]
of_run, of_cache = times.times, little_times.times
at_mid, at_pre, untouched = (
    f"{norm_after[name]:.0f}"
    for name in ("hook_resid_mid at 0", "hook_resid_pre at 0", "no edit")
)
lines += [
    ("pattern from q, off by", f"{unturned:.2f}", f"from rotated q {turned.value:.0e}"),
    ("toy, share of next tokens", f"{of_toy:.2f}", f"commonest word {of_word:.2f}"),
    ("  story_lm, less the toy", f"{better:.2f}", f"no layers less it {worse:.2f}"),
    ("stream's norm, resid_mid at 0", at_mid, f"no edit {untouched}; resid_pre {at_pre}"),
    ("folding SmolLM2: logits move by", f"{shift:.1f}", f"without the shift {rest:.0e}"),
    ("whole run, times of three layers", f"{of_run:.1f}", f"by layers {30 / 3:.1f}"),
    ("full cache, times of one tensor", f"{of_cache:.1f}", f"by layers {30 / 9:.1f}"),
]
for finding, value, beside in lines:
    print(f"{finding:<34} {value:<20} {beside}")
# %% [markdown]
# Intervals: t, 95 %, over rows, sentences or stories; of times, over three runs. The number at the first position is
# the same in all sentences: nothing but the start token is seen there. Each model is one model, SmolLM2 unpacked from
# 4-bit weights.
#
# ## Bonus (not graded)
#
# 1. `run_with_hooks` for gradients: `register_full_backward_hook` on `plain`'s points. What does the returned value do?
# 2. Let your layer take a function of the name in place of a name, and pass over parts that return no tensor.
# 3. `find_hook` for two places at once: does causality still help?
# 4. SmolLM2's massive activation: which number of which layer writes it? Does it come without the start token?
# 5. `start_at_layer` starts from a stream of yours. Does it save time? (Every block still runs.)
#
# ## Recap
#
# A point is a part that does nothing; a hook reads (returns nothing), edits (returns a copy), or stops (raises). Every
# hook goes, also when the run fails.
#
# | confusion | what holds |
# |---|---|
# | "My hook did nothing" | it forgot to `return`, or the point is filled in afterwards, as native `attn_scores` is |
# | "`clean[hook.name]` fails" | `hook.name` is the canonical name; close over the one you asked for |
# | "The cache holds the model's values" | it holds what the hooks before it left, and is no copy |
# | "I cached it, so I can differentiate by it" | a detached copy is a side branch |
# | "The notebook gives other numbers today" | a hook was left: `list_hooks()`, `reset_hooks()` |
# | "The logits differ, so the model differs" | a shift that all words share changes no probability |
#
# Read on: the documentation of `torch.nn.Module.register_forward_hook`; Sun et al. 2024, *Massive Activations in Large
# Language Models*; TransformerLens's pages on `TransformerBridge` and on compatibility mode.
