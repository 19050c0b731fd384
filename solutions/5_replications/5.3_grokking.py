# %% [markdown]
# # 5.3 Progress measures for grokking
#
# A small transformer learned to add modulo 113 from 30 % of all pairs. It knew those by heart after 200 steps. Some
# 15,000 steps later, with nothing changed, it could do all the others as well: it **grokked**. Nanda et al. (*Progress
# measures for grokking via mechanistic interpretability*, 2023) took such a model apart, and then could see the
# ability grow before it showed. You will do the same, and find out what a part is for that looks idle.
#
# ![Numbers become waves; the ReLU neurons make waves of a + b of them; the unembedding compares these with the waves of
# each answer c, and the logit is highest where c = a + b.](figures/5.3_mechanism.svg)
# %% generated="overview"
# %% setup=True
import json
import math
import tempfile
import time
from pathlib import Path

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from concrete_steps import models, plot
from concrete_steps.errors import CourseError
from concrete_steps.evidence import ratio_of_times
from concrete_steps.games import modular_addition
from concrete_steps.models import shipped

# %%
torch.set_num_threads(
    1
)  # the matrices are small: several cores would mostly wait for each other
curve = json.loads(shipped.verified_file("grokking", "losses.json").read_text())["curve"]
plot.line(
    {
        "on the pairs it trains on": curve["train_loss"],
        "on the pairs it never sees": curve["test_loss"],
    },
    x=curve["step"],
    log_y=True,
    x_label="training step",
    y_label="loss (nats)",
    title="Grokking: addition modulo 113",
)
# %% [markdown]
# The losses are in **nats**: minus the natural logarithm of the probability of the right answer. Giving each of the 113
# answers the same probability costs log 113 = 4.73 nats, **chance level**. Far above it is who errs with confidence.
#
# ## 0. The model
#
# It reads three tokens, `a b =`, and answers at `=`: one layer, 4 heads, an MLP of 512 ReLU neurons, no LayerNorm. Ours
# has no biases, the paper's has; the code takes both. So few inputs exist that we compute everything for **all** pairs
# at once: `x[a, b]` always belongs to the pair (a, b), and `logits[a, b, c]` is the score of answer c. Analysis is in
# float64, where not said otherwise: late losses are below what float32 can tell from 0.
# %%
def load_weights(file: Path) -> dict[str, Tensor]:
    """The weights of a one-layer model of this architecture, from safetensors, in float64."""
    return checked({name: tensor.double() for name, tensor in load_file(file).items()})


def checked(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights; a CourseError for those that `activations` cannot run."""
    if "embed.weight" not in weights or any(name.startswith("blocks.1.") for name in weights):
        raise CourseError(
            "No weights of a one-layer model: 'embed.weight' and 'blocks.0.*' are needed."
        )
    if len(weights["unembed.weight"]) < len(weights["embed.weight"]) - 1:
        raise CourseError(
            "The model has fewer answers than numbers: it does not add modulo their number."
        )
    return weights


def linear(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """x through the layer of this name, with its bias where there is one."""
    out = x @ weights[f"{name}.weight"].T
    return out + weights[f"{name}.bias"] if f"{name}.bias" in weights else out


def activations(
    weights: dict[str, Tensor], n_heads: int = 4, mean_attention: bool = False
) -> dict[str, Tensor]:
    """What the model computes at "=" for all pairs.

    pattern [a b head key], neurons [a b neuron], logits [a b c]. With `mean_attention` each
    head's pattern is held at its mean over all pairs.
    """
    embed, pos = weights["embed.weight"], weights["pos_embed.weight"]
    p = len(embed) - 1  # the last token is "="
    stream = [
        (embed[:p] + pos[0])[:, None],
        (embed[:p] + pos[1])[None],
        (embed[p] + pos[2])[None, None],
    ]  # a, b, =

    def heads(x: Tensor, name: str) -> Tensor:
        return linear(weights, f"blocks.0.attn.{name}", x).unflatten(-1, (n_heads, -1))

    q = heads(stream[2], "q")
    scores = [
        ((heads(x, "k") * q).sum(-1) / math.sqrt(q.shape[-1])).expand(p, p, n_heads)
        for x in stream
    ]
    pattern = torch.stack(scores, dim=-1).softmax(-1)
    if mean_attention:
        pattern = pattern.mean((0, 1), keepdim=True).expand_as(pattern)
    z = sum(pattern[..., key, None] * heads(x, "v") for key, x in enumerate(stream))
    resid_mid = stream[2] + linear(weights, "blocks.0.attn.o", z.flatten(-2))
    neurons = linear(weights, "blocks.0.mlp.in", resid_mid).relu()
    resid_post = resid_mid + linear(weights, "blocks.0.mlp.out", neurons)
    logits = linear(weights, "unembed", resid_post)[
        ..., :p
    ]  # some models can answer "=", too
    return {"pattern": pattern, "neurons": neurons, "logits": logits}


def embedding(weights: dict[str, Tensor]) -> Float[Tensor, "p d_model"]:
    """The rows of the numbers, without that of "="."""
    return weights["embed.weight"][:-1]


def with_embedding(
    weights: dict[str, Tensor], table: Float[Tensor, "p d_model"]
) -> dict[str, Tensor]:
    """The same weights with this embedding of the numbers."""
    return weights | {"embed.weight": torch.cat([table, weights["embed.weight"][-1:]])}


def logit_weights(weights: dict[str, Tensor]) -> Float[Tensor, "p neuron"]:
    """W_L, from neurons to logits."""
    return (
        weights["unembed.weight"][: len(embedding(weights))]
        @ weights["blocks.0.mlp.out.weight"]
    )


def pair_loss(
    logits: Float[Tensor, "p p p"], pairs: Int[Tensor, "pair 2"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats over these pairs (a, b); right is (a + b) mod p."""
    return cross_entropy(logits[pairs[:, 0], pairs[:, 1]], pairs.sum(-1) % len(logits))


def accuracy(logits: Float[Tensor, "p p p"], pairs: Int[Tensor, "pair 2"]) -> float:
    """How many of these pairs get the right answer, as a share."""
    return (
        (logits[pairs[:, 0], pairs[:, 1]].argmax(-1) == pairs.sum(-1) % len(logits))
        .double()
        .mean()
        .item()
    )
# %%
trained = load_weights(shipped.verified_file("grokking", "model.safetensors"))
untrained = checked(
    {name: tensor.double() for name, tensor in shipped.state_dict("grokking", 0).items()}
)
train, test = modular_addition.split_pairs()  # [pair 2] each
found, before = activations(trained), activations(untrained)

some = test[:200]
with torch.no_grad():
    library = models.load("grokking")(modular_addition.tokens(some))[:, -1]
difference = (found["logits"][some[:, 0], some[:, 1]] - library).abs().max()
print(f"largest difference from TransformerLens: {difference:.0e}")
print(f"pairs: {len(train)} to train on, {len(test)} never seen", end="; ")
print(f"accuracy there {accuracy(found['logits'], test)}")
# %% [markdown]
# ## 1. Waves
#
# Numbers modulo p lie on a circle, like hours. The natural axes for functions on a circle are **waves**, the field's
# *Fourier components*: $\cos(2\pi kn/p)$ and $\sin(2\pi kn/p)$, which go round k times. For odd p there are (p - 1)/2
# **frequencies** k = 1, 2, ...: at whole n, frequency p - k is k again. With the constant, that is p waves, an
# orthogonal basis.
#
# The order here, for `F[row, n]`: row 0 constant, row 1 cos of k = 1, row 2 sin of k = 1, row 3 cos of k = 2, ... Each
# row has length 1: the root of the sum of its squares.
#
# <details><summary>Hint</summary>
#
# Make each row as it is, stack, then divide each by its norm. Should the constant's entries be 1?
#
# </details>
# %% exercise="fourier_basis" points=2 difficulty=2 minutes=10
def fourier_basis(p: int) -> Float[Tensor, "p p"]:
    """Waves on the numbers 0 .. p-1 (p odd), one a row, each of length 1: constant, cos 1,
    sin 1, cos 2, sin 2, ...

    In float64. Row 2k - 1 is cos(2πkn/p) and row 2k is sin(2πkn/p), up to their lengths.
    """
    ### BEGIN SOLUTION
    n = torch.arange(p, dtype=torch.float64)
    rows = [torch.ones_like(n)]
    for k in range(1, p // 2 + 1):
        angle = 2 * torch.pi * k * n / p
        rows += [angle.cos(), angle.sin()]
    waves = torch.stack(rows)
    return waves / waves.norm(dim=1, keepdim=True)
    ### END SOLUTION
# %% check="fourier_basis"
# %% [markdown]
# ## 2. Key frequencies
#
# Write a table with a row a number, such as the embedding `[p d_model]`, in this basis: `F @ x` has a row a wave. A
# **frequency's power** is the sum of squares in its two rows. One row alone says little: shift a wave by a quarter
# turn, and its cos has become a sin.
#
# A **key frequency** has more than twice the power that it would have if all had the same.
# %% exercise="frequency_power" points=1 difficulty=2 minutes=6
def frequency_power(x: Float[Tensor, "p d"]) -> Float[Tensor, "(p-1)/2"]:
    """Sum of squares of the cos and sin coefficients of each frequency, over all columns;
    entry 0 is frequency 1.

    x is float64. The constant has no frequency, and is left out.
    """
    ### BEGIN SOLUTION
    power = (fourier_basis(len(x)) @ x).square().sum(-1)
    return power[1::2] + power[2::2]
    ### END SOLUTION
# %% check="frequency_power"
# %% exercise="key_frequencies" points=1 difficulty=1 minutes=5
def key_frequencies(x: Float[Tensor, "p d"], times: float = 2.0) -> list[int]:
    """The frequencies with more than `times` the mean power of the (p-1)/2 frequencies, in
    ascending order.
    """
    ### BEGIN SOLUTION
    power = frequency_power(x)
    return [k + 1 for k in range(len(power)) if power[k] > times * power.mean()]
    ### END SOLUTION
# %% check="key_frequencies"
# %% [markdown]
# **Predict**: an untrained embedding is random. How is its power spread? And the trained one's?
#
# <details><summary>Answer</summary>
#
# Random: about evenly, 1/56 each, with no key frequency. Trained: nearly all in a handful. Which ones depends on the
# seed; that they are few does not (section 16).
#
# </details>
# %% experiment=True
shares = {
    name: frequency_power(embedding(w))
    for name, w in (("untrained", untrained), ("trained", trained))
}
shares = {name: power / power.sum() for name, power in shares.items()}
keys = key_frequencies(embedding(trained))
print(f"key frequencies: trained {keys}, untrained {key_frequencies(embedding(untrained))}")
for name, share in shares.items():
    print(
        f"{name:>9}: {share[[k - 1 for k in keys]].sum():.1%} of the power is in these"
    )
plot.bar(
    shares,
    x=range(1, 57),
    x_label="frequency",
    y_label="share of the embedding's power",
    title="A few waves carry it",
)
# %% [markdown]
# The embedding *holds* these waves. Whether the model *uses* each of them is another question (section 11).
#
# ## 3. Two axes
#
# An activation depends on a and b: it is a picture `x[a, b]`. Its basis are products of waves, one along each axis:
#
# $$\text{out}[i, j] = \sum_{a, b} F[i, a]\, F[j, b]\, x[a, b]$$
#
# Further axes (neurons, answers) just go along.
#
# <details><summary>Hint</summary>
#
# Two products: first one axis, then the other. In an `einsum` pattern `...` stands for the axes that go along. (One
# einsum of all three is right as well, but it may multiply F by F first: p⁴ numbers, slower than a loop.)
#
# </details>
# %% exercise="fft2d" points=2 difficulty=3 minutes=10
def fft2d(x: Float[Tensor, "p p *rest"]) -> Float[Tensor, "p p *rest"]:
    """Coefficients of x in the products of waves: out[i, j] belongs to wave i along a (axis
    0) and j along b (axis 1).

    x is float64. Axes after the first two stay as they are.
    """
    ### BEGIN SOLUTION
    basis = fourier_basis(len(x))
    along_a = einsum(basis, x, "i a, a b ... -> i b ...")
    return einsum(basis, along_a, "j b, i b ... -> i j ...")
    ### END SOLUTION
# %% check="fft2d"
# %% [markdown]
# ### Sums of angles
#
# What makes this basis so useful:
#
# $$\cos(a + b) = \cos a \cos b - \sin a \sin b \qquad \sin(a + b) = \sin a \cos b + \cos a \sin b$$
#
# **A picture has just two coefficients other than 0: +1 at (cos k, cos k) and +1 at (sin k, sin k). It is a wave of**
# (a) a + b alone; (b) neither of them; (c) a - b alone
# %% exercise="answer_product" points=1 difficulty=2 minutes=3
answer_product = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_product = "c"
### END SOLUTION
# %% check="answer_product"
# %% [markdown]
# **Predict**: by about what factor do two matrix products beat a loop over all (i, j), for p = 113: 5, 50 or 500? More
# or less for p = 29?
#
# <details><summary>Answer</summary>
#
# A loop does p² sums of p² terms, you do 2p³ multiplications: p/2 times fewer, 56 for p = 113. It also makes thousands
# of calls, each with a cost of its own, so the gain is larger, and small p gain as well.
#
# </details>
# %% experiment=True
def fft2d_loop(x: Float[Tensor, "p p"]) -> Float[Tensor, "p p"]:
    """The definition, one coefficient at a time."""
    basis, out = fourier_basis(len(x)), torch.empty_like(x)
    for i in range(len(x)):
        for j in range(len(x)):
            out[i, j] = (basis[i][:, None] * basis[j] * x).sum()
    return out


for p in (29, 113):
    picture = found["neurons"][:p, :p, 0].contiguous()
    ratio = ratio_of_times(lambda x=picture: fft2d_loop(x), lambda x=picture: fft2d(x), 3)
    print(f"p = {p}: loop {ratio.slow:.4f} s, fft2d {ratio.quick:.4f} s", end=", ")
    print(f"{ratio.slow / ratio.quick:.0f} times as fast")
# %% [markdown]
# ## 4. What a neuron looks like
#
# Look at one neuron and at one head's attention from `=` to a.
#
# **Predict**: one trained neuron in waves: a few coefficients, or many? And an untrained one?
#
# <details><summary>Answer</summary>
#
# Trained: a few dots, at one frequency and its products, which make a **plaid**: stripes along both axes. Untrained: a
# little of everything along the edges, row 0 and column 0, where a wave of one number stands alone.
#
# </details>
# %% experiment=True
def loudest(neurons: Float[Tensor, "p p neuron"]) -> Float[Tensor, "p p"]:
    """The neuron with the largest variance over all pairs."""
    return neurons[..., neurons.flatten(0, 1).var(0).argmax()]


pictures = {
    "a trained neuron": loudest(found["neurons"]),
    "an untrained neuron": loudest(before["neurons"]),
    "attention of head 0 to a": found["pattern"][..., 0, 0],
}
centred = [picture - picture.mean() for picture in pictures.values()]
raw = torch.stack([picture / picture.abs().max() for picture in centred])
waves = [0] + [row for k in keys for row in (2 * k - 1, 2 * k)]
names = ["const"] + [f"{function} {k}" for k in keys for function in ("cos", "sin")]
shown = []
for name, picture in zip(pictures, centred, strict=True):
    spectrum = fft2d(picture).abs()
    shown.append((spectrum[waves][:, waves] / spectrum.max()).round(decimals=6))
    of_keys = spectrum[waves][:, waves].square().sum() / spectrum.square().sum()
    products = spectrum[1:, 1:].square().sum() / spectrum.square().sum()
    print(f"{name}: {of_keys:.1%} of the variance is in the key frequencies,", end=" ")
    print(f"{products:.1%} in products of a wave of a and one of b")
shared = {"facets": list(pictures), "value_label": "of largest"}
axes = {"x_label": "b", "y_label": "a", "title": "Activations for a, b below 40"}
wave_axes = {
    "x_label": "wave along b",
    "y_label": "wave along a",
    "title": "The same in waves of the key frequencies",
}
plot.show(
    plot.imshow(raw[:, :40, :40], x=range(40), y=range(40), **axes, **shared),
    plot.imshow(
        torch.stack(shown), x=names, y=names, scale="positive", **wave_axes, **shared
    ),
)
# %% [markdown]
# The head's picture has next to no products: it is a wave of a plus a wave of b, of one frequency. The neuron's
# has. But three pictures are anecdotes; the next section counts.
#
# ## 5. Neurons of one frequency
#
# A neuron "of frequency k" is built from waves of k alone. Eight products are: cos or sin of a (constant
# along b), cos or sin of b (constant along a), and the four products of both, `cos a cos b` to `sin a sin b`.
#
# The coefficients' squares add up to the squares of the activation. Leave out (constant, constant): the rest adds up to
# the squares of its distance from its mean. So: what share of *that* lies in frequency k's eight coefficients?
#
# <details><summary>Hint 1</summary>
#
# `square` the `fft2d`. Frequency k's rows are `slice(2 * k - 1, 2 * k + 1)`, and its columns likewise.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A **dead** neuron, 0 for every pair, has variance 0, and 0 / 0 is nan: `clamp_min` the denominator by 1e-30.
#
# </details>
# %% exercise="variance_by_frequency" points=3 difficulty=3 minutes=15
def variance_by_frequency(x: Float[Tensor, "p p n"]) -> Float[Tensor, "(p-1)/2 n"]:
    """Entry [k - 1, j]: the share (0 to 1) of the variance of x[:, :, j] that is in the
    eight products of frequency k.

    The variance is over all pairs (a, b). x is float64; where it is 0 for all pairs, so are
    its shares.
    """
    ### BEGIN SOLUTION
    power = fft2d(x).square()
    power[0, 0] = 0
    shares = []
    for k in range(1, len(x) // 2 + 1):
        of_k = slice(2 * k - 1, 2 * k + 1)
        shares.append(power[of_k, 0].sum(0) + power[0, of_k].sum(0) + power[of_k, of_k].sum((0, 1)))
    return torch.stack(shares) / power.sum((0, 1)).clamp_min(1e-30)
    ### END SOLUTION
# %% check="variance_by_frequency"
# %% exercise="neuron_frequencies" points=1 difficulty=1 minutes=4
def neuron_frequencies(
    neurons: Float[Tensor, "p p neuron"]
) -> tuple[Int[Tensor, "neuron"], Float[Tensor, "neuron"]]:
    """Each neuron's best frequency (1, 2, ...), and the share of its variance in it.

    A neuron that is 0 for all pairs has share 0, and any frequency.
    """
    ### BEGIN SOLUTION
    best = variance_by_frequency(neurons).max(dim=0)
    return best.indices + 1, best.values
    ### END SOLUTION
# %% check="neuron_frequencies"
# %% [markdown]
# Call a neuron **pure** if over 85 % of its variance is in one frequency. **Predict**: in the paper, about 85 % of the
# neurons are. Here? Untrained? And has each key frequency pure neurons of its own?
#
# <details><summary>Answer</summary>
#
# About as many here, and none untrained. But one of the key frequencies has none: the one that is twice another. Is it
# of no use, then? Section 11 tests it.
#
# </details>
# %% experiment=True
best = {
    name: neuron_frequencies(run["neurons"])
    for name, run in (("trained", found), ("untrained", before))
}
alive = {
    name: run["neurons"].flatten(0, 1).var(0) > 0
    for name, run in (("trained", found), ("untrained", before))
}
for name, (frequency, share) in best.items():
    pure = share > 0.85
    counts = {k: int((frequency[pure] == k).sum()) for k in keys}
    print(
        f"{name:>9}: {pure.double().mean():.1%} of the neurons are pure,",
        f"{int((~alive[name]).sum())} are dead",
    )
    print(
        f"{'':>9}  (median share {share.median():.2f}); pure of each key frequency: {counts}"
    )
frequency, share = best["trained"]
pure, loudness = share > 0.85, found["neurons"].flatten(0, 1).var(0)
of_rest = loudness[~pure].sum() / loudness.sum()
print(f"share of all variance that is in the neurons that are not pure: {of_rest:.1%}")
plot.hist(
    {name: share[alive[name]] for name, (_, share) in best.items()},
    x_label="share of the variance in the best frequency",
    y_label="neurons that are not dead",
    title="Neurons of one frequency",
)
# %% [markdown]
# ### Part by part
#
# The same measure works on every part of the model. **Predict**: which parts use fewer frequencies than the embedding
# holds?
#
# <details><summary>Answer</summary>
#
# All do. Neurons and logits lack the one that is a double. Attention lacks it, too, *and* the one that it is the double
# of. Section 12 finds out why.
#
# </details>
# %% experiment=True
parts = {
    "attention": found["pattern"][..., :2].flatten(2),
    "neurons": found["neurons"],
    "logits": found["logits"],
}
spread = {"embedding": shares["trained"]}
for name, part in parts.items():
    weight = part.flatten(0, 1).var(0)  # loud columns count more
    spread[name] = (variance_by_frequency(part) * weight).sum(-1) / weight.sum()
for name, values in spread.items():
    print(
        f"{name:>9}:",
        {k: f"{values[k - 1]:.2%}" for k in keys},
        f"all others {1 - values[[k - 1 for k in keys]].sum():.1%}",
    )
plot.bar(
    spread,
    x=range(1, 57),
    x_label="frequency",
    y_label="share of variance",
    title="Each part has its own choice of the same few",
)
# %% [markdown]
# ## 6. Directions of a + b
#
# Products can make waves of a + b *and* of a - b. To add, the model needs the first. Take two pictures a frequency,
# cos and sin of 2πk(a + b)/p, as **directions** in the space of all pictures `[p p]`.
# %% exercise="trig_directions" points=1 difficulty=2 minutes=6
def trig_directions(p: int, frequencies: list[int]) -> Float[Tensor, "2*frequency p p"]:
    """Pictures of length 1 (their squares sum to 1), in float64, two for each frequency in
    the order given:

    first cos(2πk(a+b)/p), then sin(2πk(a+b)/p); then those of the next frequency.
    """
    ### BEGIN SOLUTION
    n = torch.arange(p, dtype=torch.float64)
    angles = [2 * torch.pi * k * (n[:, None] + n) / p for k in frequencies]
    pictures = torch.stack([wave for angle in angles for wave in (angle.cos(), angle.sin())])
    return pictures / pictures.flatten(1).norm(dim=1)[:, None, None]
    ### END SOLUTION
# %% check="trig_directions"
# %% [markdown]
# The **projection** of x onto a direction d is `(x · d) / (d · d) * d`: the part of x that lies along d. For
# directions at right angles to each other, add up the parts.
#
# <details><summary>Hint</summary>
#
# First a number for each direction (and each further axis of x), then the sum of directions, each times its number.
#
# </details>
# %% exercise="project_onto" points=2 difficulty=3 minutes=10
def project_onto(
    x: Float[Tensor, "p p *rest"], directions: Float[Tensor, "n p p"]
) -> Float[Tensor, "p p *rest"]:
    """The part of x, a picture along its first two axes, in the span of the directions.

    The directions are at right angles to each other, of any length but 0. All is float64.
    """
    ### BEGIN SOLUTION
    unit = directions / directions.flatten(1).norm(dim=1)[:, None, None]
    amounts = einsum(unit, x, "n a b, a b ... -> n ...")
    return einsum(unit, amounts, "n a b, n ... -> a b ...")
    ### END SOLUTION
# %% check="project_onto"
# %% [markdown]
# **Predict**: how much of the logits' variance is in waves of a + b of the key frequencies? And in as many of a - b?
#
# <details><summary>Answer</summary>
#
# Nearly all, and next to nothing. Those of a - b are a matched null: the same frequencies, as many directions. Random
# other frequencies, and untrained logits, give next to nothing too.
#
# </details>
# %%
def other_frequencies(p: int, frequencies: list[int], seed: int) -> list[int]:
    """As many frequencies as given, drawn at random from the others: the matched null."""
    others = [k for k in range(1, (p - 1) // 2 + 1) if k not in frequencies]
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))
    return sorted(others[i] for i in order[: len(frequencies)])


def explained(x: Float[Tensor, "p p c"], directions: Float[Tensor, "n p p"]) -> float:
    """The share of the variance of x over pairs, all c together, in these directions."""
    centred = x - x.mean((0, 1))
    return (project_onto(centred, directions).square().sum() / centred.square().sum()).item()
# %% experiment=True
backwards = (-torch.arange(113)) % 113  # b -> -b turns waves of a + b into waves of a - b
along = trig_directions(113, keys)
print(f"a + b: {explained(found['logits'], along):.1%}")
print(f"a - b: {explained(found['logits'], along[:, :, backwards]):.1%}")
nulls = [
    explained(found["logits"], trig_directions(113, other_frequencies(113, keys, seed)))
    for seed in range(20)
]
print(
    f"a + b, 20 draws of {len(keys)} other frequencies: {min(nulls):.2%} to {max(nulls):.2%}"
)
print(f"a + b, untrained logits: {explained(before['logits'], along):.1%}")
print(
    {f"k = {k}": f"{explained(found['logits'], trig_directions(113, [k])):.1%}" for k in keys}
)
# %% [markdown]
# One of the five is absent from the logits.
#
# ## 7. How ReLU adds
#
# A neuron receives a *sum* of waves, and a sum has no products. With $w = 2\pi k/p$ and a phase $\varphi$:
#
# $$\cos(wa + \varphi) + \cos(wb + \varphi) = 2 \cos\tfrac{w(a - b)}{2} \cos\left(\tfrac{w(a + b)}{2} + \varphi\right)$$
#
# ReLU cuts off the half below 0. What remains has an overtone: a part that turns twice as fast in $\varphi$,
# $|\cos\tfrac{w(a - b)}{2}|\, \cos(w(a + b) + 2\varphi)$, up to a factor. So let neurons have all phases, and weigh
# each with $\cos 2\varphi$: the other parts cancel, and a wave of **a + b** is left. Build it.
#
# <details><summary>Hint</summary>
#
# Make all inputs at once, `[p p neuron]`: a along axis 0, b along axis 1, the phases along axis 2.
#
# </details>
# %% exercise="relu_adder" points=3 difficulty=3 minutes=15
def relu_adder(p: int, k: int, n_neurons: int = 16) -> Float[Tensor, "p p"]:
    """The sum over j = 0 .. n_neurons-1 of cos(2φ) ReLU(cos(wa + φ) + cos(wb + φ)), for all
    a and b.

    w = 2πk/p, and neuron j has the phase φ = 2πj/n_neurons. In float64.
    """
    ### BEGIN SOLUTION
    n = torch.arange(p, dtype=torch.float64)
    wave = 2 * torch.pi * k / p * n[:, None]
    phases = 2 * torch.pi * torch.arange(n_neurons, dtype=torch.float64) / n_neurons
    one = (wave + phases).cos()  # [number neuron]
    neurons = (one[:, None] + one[None]).relu()
    return neurons @ (2 * phases).cos()
    ### END SOLUTION
# %% check="relu_adder"
# %% [markdown]
# ### What is left over
#
# **Predict**: is all of this picture's variance in cos of w(a + b)? Where might the rest be?
#
# <details><summary>Answer</summary>
#
# About four fifths. The factor $|\cos\tfrac{w(a - b)}{2}|$ is not constant: it has a wave of w(a - b), and
# $\cos w(a + b) \cos w(a - b) = (\cos 2wa + \cos 2wb)/2$. So most of the rest is at **twice the frequency**, in waves
# of a alone and of b alone.
#
# </details>
# %% experiment=True
k, picture = 5, relu_adder(113, 5)
power = fft2d(picture - picture.mean()).square()
twice = slice(4 * k - 1, 4 * k + 1)  # the rows of frequency 2k
alone = (power[twice, 0].sum() + power[0, twice].sum()) / power.sum()
of_five = trig_directions(113, [k])
print(f"waves of a + b: {explained(picture[..., None], of_five):.1%} of the variance")
print(f"waves of a - b: {explained(picture[..., None], of_five[:, :, backwards]):.1%}")
print(f"waves of a alone and b alone, at twice the frequency: {alone:.1%}")
n = torch.arange(113, dtype=torch.float64)
summed = sum((2 * torch.pi * k * x / 113).cos() for x in (n[:, None], n))
both = torch.stack([summed / summed.max(), picture / picture.max()])
plot.imshow(
    both[:, :40, :40],
    facets=["a neuron's input", "sum of 16 ReLU neurons"],
    x=range(40),
    y=range(40),
    x_label="b",
    y_label="a",
    value_label="of largest",
    title="From waves of a and of b to a wave of a + b",
)
# %% [markdown]
# The right picture's stripes run along a + b, as a sum's must, but they fade where a - b is half a turn. This is close
# to what Zhong et al. (2023) call the *pizza*. Does our model pay this price, too? Section 12.
#
# ## 8. The weights alone
#
# `W_L = unembed @ mlp.out` `[p neuron]` maps neurons to logits: its columns are functions of the answer c. No input is
# needed to look at it. Its **singular vectors**, strongest first, say which functions of c it can write. Write one
# measure for both: which frequency has each column?
# %% exercise="column_frequencies" points=2 difficulty=2 minutes=10
def column_frequencies(
    x: Float[Tensor, "p n"]
) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """For each column of x: its strongest frequency (1, 2, ...), and the share of its power
    in it, without the constant.

    x is float64. A column of zeros has share 0, and any frequency.
    """
    ### BEGIN SOLUTION
    power = (fourier_basis(len(x)) @ x).square()
    power = power[1::2] + power[2::2]
    best = power.max(dim=0)
    return best.indices + 1, best.values / power.sum(0).clamp_min(1e-30)
    ### END SOLUTION
# %% check="column_frequencies"
# %% [markdown]
# **Predict**: four frequencies reach the logits, each with a cos and a sin of c. How many singular values of W_L will
# be far from 0? And does a neuron that *reads* frequency k (section 5) *write* frequency k?
#
# <details><summary>Answer</summary>
#
# Two a frequency: eight, then a cliff. (The paper: a rank of about 10, of five frequencies.) And yes: every pure neuron
# does. By chance, with the neurons shuffled, it would be a quarter.
#
# </details>
# %% experiment=True
w_l = logit_weights(trained)
vectors, strengths, _ = torch.linalg.svd(w_l, full_matrices=False)
of_vector, vector_share = column_frequencies(vectors[:, :10])
for i in range(10):
    print(f"singular value {strengths[i]:6.2f}: frequency {of_vector[i]:>2}", end=", ")
    print(f"share {vector_share[i]:.2f}")
null = torch.linalg.svdvals(logit_weights(untrained))
print(f"untrained: {null[0]:.2f}, {null[1]:.2f}, ... {null[7]:.2f}, {null[8]:.2f}: no cliff")
print("key frequencies of W_L:", key_frequencies(w_l))
writes, _ = column_frequencies(w_l)
same = (writes == frequency)[pure].double().mean()
rng = torch.Generator().manual_seed(0)
orders = [torch.randperm(int(pure.sum()), generator=rng) for _ in range(20)]
chance = [(writes[pure][order] == frequency[pure]).double().mean().item() for order in orders]
print(f"pure neurons that write the frequency they read: {same:.1%}", end="")
print(f" (20 shuffles: {min(chance):.1%} to {max(chance):.1%})")
plot.line(
    {"trained": strengths[:20], "untrained": null[:20]},
    x=range(1, 21),
    x_label="singular value, largest first",
    y_label="value",
    title="W_L can write eight functions of c",
)
# %% [markdown]
# ## 9. A formula for the logits
#
# The neurons hold waves of a + b, and W_L writes waves of c. Its rows weigh one with the other, and with $w_k=2\pi k/p$
#
# $$\cos w_k(a + b) \cos w_k c + \sin w_k(a + b) \sin w_k c = \cos w_k(a + b - c)$$
#
# This is 1, its largest, where c = a + b, whatever k is. A single frequency is nearly as large at other c;
# several agree at c = a + b alone. So the logits should be
#
# $$\text{logits}[a, b, c] = \sum_k \text{amplitude}[k] \cos w_k(a + b - c)$$
#
# One number a key frequency, for more than a million logits. First the formula:
# %% exercise="predict_from_trig" points=2 difficulty=2 minutes=8
def predict_from_trig(p: int, amplitudes: dict[int, float]) -> Float[Tensor, "p p p"]:
    """The formula's logits [a b c], in float64; `amplitudes` maps each frequency k to its
    amplitude.
    """
    ### BEGIN SOLUTION
    n = torch.arange(p, dtype=torch.float64)
    distance = n[:, None, None] + n[:, None] - n
    return sum(amplitude * (2 * torch.pi * k * distance / p).cos() for k, amplitude in amplitudes.items())
    ### END SOLUTION
# %% check="predict_from_trig"
# %% [markdown]
# ### The amplitudes
#
# Those that bring the formula closest (least squares) to the logits of *given* pairs. For
# each pair, waves of different k are at right angles over c. So each amplitude is a projection of its own:
# `(logits · wave) / (wave · wave)`, with sums over the given pairs and all c.
# %% exercise="fit_amplitudes" points=2 difficulty=3 minutes=10
def fit_amplitudes(
    logits: Float[Tensor, "p p p"], frequencies: list[int], pairs: Int[Tensor, "pair 2"]
) -> dict[int, float]:
    """For each frequency the amplitude with which `predict_from_trig` fits the logits of
    these pairs (a, b) best.
    """
    ### BEGIN SOLUTION
    amplitudes = {}
    for k in frequencies:
        wave = predict_from_trig(len(logits), {k: 1.0})[pairs[:, 0], pairs[:, 1]]
        actual = logits[pairs[:, 0], pairs[:, 1]]
        amplitudes[k] = ((actual * wave).sum() / wave.square().sum()).item()
    return amplitudes
    ### END SOLUTION
# %% check="fit_amplitudes"
# %% [markdown]
# **Predict**: fit five amplitudes on the training pairs. How much of the variance over c of the logits of all
# *other* pairs does the formula then explain: a half, nine tenths, nearly all? (The paper: 95 %.)
#
# <details><summary>Answer</summary>
#
# Nearly all. The frequency that is absent from the logits gets an amplitude near 0.
#
# </details>
# %%
def formula_fit(
    logits: Float[Tensor, "p p p"],
    predicted: Float[Tensor, "p p p"],
    pairs: Int[Tensor, "pair 2"],
) -> float:
    """The share of the variance over c of these pairs' logits that is predicted."""
    actual, predicted = (x[pairs[:, 0], pairs[:, 1]] for x in (logits, predicted))
    actual = actual - actual.mean(-1, keepdim=True)
    return (1 - (actual - predicted).square().sum() / actual.square().sum()).item()
# %% experiment=True
amplitudes = fit_amplitudes(found["logits"], keys, train)
formula = predict_from_trig(113, amplitudes)
print("amplitudes:", {k: round(float(amplitude), 1) for k, amplitude in amplitudes.items()})
fit = formula_fit(found["logits"], formula, test)
print(f"variance of unseen pairs' logits explained: {fit:.1%}")
print(f"accuracy of the formula on them: {accuracy(formula, test):.0%}")
others = other_frequencies(113, keys, seed=0)
null_formula = predict_from_trig(113, fit_amplitudes(found["logits"], others, train))
null_fit = abs(formula_fit(found["logits"], null_formula, test))
print(f"\nnull, {others} fitted: {null_fit:.1%} explained")
tens = predict_from_trig(113, dict.fromkeys(others, 10.0))
print(f"{others}, all amplitudes 10, nothing fitted: accuracy {accuracy(tens, test):.0%}")
# %% [markdown]
# **The last line used no number of the model's, and yet it has accuracy 100 %. What does a formula's accuracy show?**
# (a) that the formula can add, not that the model uses it; (b) that the model uses each of its frequencies; (c) that
# its frequencies are multiples of the model's
# %% exercise="answer_accuracy" points=1 difficulty=2 minutes=4
answer_accuracy = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_accuracy = "a"
### END SOLUTION
# %% check="answer_accuracy"
# %% [markdown]
# ## 10. Keep only the waves, or all but the waves
#
# Explained variance is not importance. So cut, and look at the loss. For logits `[p p p]`:
#
# - **restricted loss**: keep *only* each answer's mean over all pairs, and the projection onto the key
#   frequencies' directions of a + b;
# - **excluded loss**: take that projection *away*, and keep all else, the means too.
#
# Project over the whole grid of pairs; then take `pair_loss` on the pairs that you are given.
# %% exercise="restricted_loss" points=2 difficulty=2 minutes=8
def restricted_loss(
    logits: Float[Tensor, "p p p"], frequencies: list[int], pairs: Int[Tensor, "pair 2"]
) -> Float[Tensor, ""]:
    """The loss on these pairs, with nothing left of logits [a b c] but each c's mean and
    the waves of a + b.
    """
    ### BEGIN SOLUTION
    waves = project_onto(logits, trig_directions(len(logits), frequencies))
    return pair_loss(waves + logits.mean((0, 1)), pairs)
    ### END SOLUTION
# %% check="restricted_loss"
# %% exercise="excluded_loss" points=1 difficulty=1 minutes=3
def excluded_loss(
    logits: Float[Tensor, "p p p"], frequencies: list[int], pairs: Int[Tensor, "pair 2"]
) -> Float[Tensor, ""]:
    """The loss on these pairs, with the waves of a + b taken out of logits [a b c], and
    nothing else.
    """
    ### BEGIN SOLUTION
    return pair_loss(logits - project_onto(logits, trig_directions(len(logits), frequencies)), pairs)
    ### END SOLUTION
# %% check="excluded_loss"
# %% [markdown]
# **Predict**: cutting away all but ten directions and the mean: does the loss on unseen pairs rise or fall? And if the
# five frequencies are random ones? With the waves gone: chance level, below, above?
#
# <details><summary>Answer</summary>
#
# With the key frequencies it *falls*: what was cut did harm. With random ones it is chance level or worse. Without the
# waves it is above chance: what is left has opinions, and they are no better than a guess.
#
# </details>
# %% experiment=True
draws = [other_frequencies(113, keys, seed) for seed in range(20)]
rows = {
    "nothing cut": pair_loss(found["logits"], test),
    "only key waves": restricted_loss(found["logits"], keys, test),
}
rows["all but key waves"] = excluded_loss(found["logits"], keys, test)
for name, loss in rows.items():
    print(f"{name:>20}: loss on unseen pairs {loss:.2g}")
for name, cut in (
    ("only random waves", restricted_loss),
    ("all but random waves", excluded_loss),
):
    losses = torch.stack([cut(found["logits"], draw, test) for draw in draws])
    print(f"{name:>20}: {losses.min():.2g} to {losses.max():.2g} (20 draws)")
rest = found["logits"] - project_onto(found["logits"], along)
rest = rest - rest.mean(-1, keepdim=True)
for name, pairs in (("training", train), ("unseen", test)):
    right = rest[pairs[:, 0], pairs[:, 1], pairs.sum(-1) % 113]
    print(f"{name} pairs, all but key waves: right logit {right.mean():+.2f}", end=", ")
    print(f"all logits spread by {rest.std():.1f}")
# %% [markdown]
# What is left favours the right answer a little on the pairs that were trained: a trace of memory. Its spread of about
# 2 is noise to all others, and noise of standard deviation s costs about s²/2 nats above chance.
#
# ## 11. Absent is not unused
#
# One key frequency of the embedding is absent from neurons, W_L and logits. Idle, then? *Unused* is a causal claim:
# remove it, and look. For comparison remove other frequencies, and add noise **as long as** what was removed.
# %% exercise="remove_frequency" points=2 difficulty=2 minutes=8
def remove_frequency(x: Float[Tensor, "p d"], k: int) -> Float[Tensor, "p d"]:
    """The table without its two waves of frequency k; all else as it was. x is float64."""
    ### BEGIN SOLUTION
    waves = fourier_basis(len(x))[2 * k - 1 : 2 * k + 1]
    return x - waves.T @ (waves @ x)
    ### END SOLUTION
# %% check="remove_frequency"
# %% exercise="equal_noise" points=2 difficulty=2 minutes=8
def equal_noise(
    x: Float[Tensor, "p d"], changed: Float[Tensor, "p d"], seed: int
) -> Float[Tensor, "p d"]:
    """x with a change in a random direction, exactly as long (all entries' squares summed,
    then the root) as that from x to `changed`.

    Normally distributed, from a generator of its own with this seed. x is float64.
    """
    ### BEGIN SOLUTION
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(x.shape, generator=rng, dtype=x.dtype)
    return x + noise * (changed - x).norm() / noise.norm()
    ### END SOLUTION
# %% check="equal_noise"
# %% [markdown]
# **Predict**: the loss on unseen pairs is 2e-7. What will it be without the absent frequency: the same, twice, hundreds
# of times?
#
# <details><summary>Answer</summary>
#
# Hundreds of times! Equal noise makes it three times as large, other frequencies hardly change it. The answers stay
# right: this model has much to spare.
#
# </details>
# %% experiment=True
def run_with(table: Float[Tensor, "p d_model"]) -> dict[str, Tensor]:
    """The activations of the trained model with this embedding of the numbers."""
    return activations(with_embedding(trained, table))


absent = [k for k in keys if k not in key_frequencies(w_l)]
print("key frequencies of the embedding that W_L does not write:", absent)
numbers, intact = embedding(trained), pair_loss(found["logits"], test)
for k in keys + draws[0]:
    logits = run_with(remove_frequency(numbers, k))["logits"]
    kind = "absent from W_L" if k in absent else "key" if k in keys else "random"
    loss = pair_loss(logits, test)
    print(f"without {k:>2} ({kind}): loss {loss:.2g}, {loss / intact:.3g} times", end=", ")
    print(f"accuracy {accuracy(logits, test):.2f}")
for seed in range(5):
    logits = run_with(equal_noise(numbers, remove_frequency(numbers, absent[0]), seed))[
        "logits"
    ]
    loss = pair_loss(logits, test)
    print(f"noise as long as {absent[0]}, seed {seed}: {loss:.2g}, {loss / intact:.3g} times")
# %% [markdown]
# **A part of a network is absent from its output. What would show that the network does not use it?**
# (a) its share of the logits' variance is nearly 0; (b) the output layer has no weight of its frequency; (c) removed,
# it is missed no more than other things are
# %% exercise="answer_idle" points=1 difficulty=2 minutes=4
answer_idle = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_idle = "c"
### END SOLUTION
# %% check="answer_idle"
# %% [markdown]
# ## 12. What the double is for
#
# The absent frequency is twice another one. Remember section 7: ReLU leaves an error at *twice* the frequency, in waves
# of a alone and of b alone. Measure that error in the logits, where it would mislead: for the waves of c of frequency k
# (`F`'s two rows), take the pictures over (a, b) that they read, and see how much is in those waves.
#
# <details><summary>Hint</summary>
#
# `logits @ basis[2 * k - 1]` is the picture of cos. Add both pictures' powers, then set (constant, constant) to 0.
#
# </details>
# %% exercise="doubled_share" points=3 difficulty=4 minutes=15
def doubled_share(logits: Float[Tensor, "p p p"], k: int) -> float:
    """The share of the two pictures' variance, both together, that is in waves of a alone
    or of b alone, of frequency 2k.

    The pictures are logits [a b c] summed over c with the weights of row 2k - 1 of the basis,
    and of row 2k. Above (p - 1)/2 frequency 2k is frequency p - 2k. All is float64.
    """
    ### BEGIN SOLUTION
    p = len(logits)
    pictures = logits @ fourier_basis(p)[2 * k - 1 : 2 * k + 1].T
    power = fft2d(pictures).square().sum(-1)
    power[0, 0] = 0
    twice = 2 * k if 2 * k <= p // 2 else p - 2 * k
    rows = slice(2 * twice - 1, 2 * twice + 1)
    return ((power[rows, 0].sum() + power[0, rows].sum()) / power.sum()).item()
    ### END SOLUTION
# %% check="doubled_share"
# %% [markdown]
# Attention could help as well: it depends on a and b, at every key frequency but two (section 5). So hold each head's
# pattern at its mean, too.
#
# **Predict**: for which frequencies will the error appear without the double? And for which with mean attention?
#
# <details><summary>Answer</summary>
#
# Without the double: only for the frequency that it is the double of. With mean attention: only for the others! In both
# cases it is as large as in the adder of section 7. So the model has *two* ways to cancel ReLU's error, and each
# frequency has one.
#
# </details>
# %% experiment=True
out_keys = key_frequencies(w_l)
cases = {
    "intact": found,
    f"without frequency {absent[0]}": run_with(remove_frequency(numbers, absent[0])),
    "equal noise": run_with(equal_noise(numbers, remove_frequency(numbers, absent[0]), 0)),
    "mean attention": activations(trained, mean_attention=True),
}
print(
    f"{'error at 2k, for k =':>22}", *(f"{k:>6}" for k in out_keys), "   loss on unseen pairs"
)
for name, run in cases.items():
    errors = [doubled_share(run["logits"], k) for k in out_keys]
    print(
        f"{name:>22}",
        *(f"{error:6.1%}" for error in errors),
        f"   {pair_loss(run['logits'], test):.2g}",
    )
of_one = pure & (frequency == absent[0] // 2)
moved = (cases[f"without frequency {absent[0]}"]["neurons"] - found["neurons"])[..., of_one]
logits = found["logits"] + moved @ w_l[:, of_one].T
print(f"only the {int(of_one.sum())} pure neurons of {absent[0] // 2} see it gone", end=": ")
error = doubled_share(logits, absent[0] // 2)
print(f"error {error:.1%}, loss {pair_loss(logits, test):.2g}")
# %% [markdown]
# ## 13. Without its neurons
#
# Explain a network by its pure neurons, and they must be what matters. Hold some at their mean over all pairs
# (**mean ablation**), so that they say nothing about a or b. Compare with as many neurons drawn at random.
# %% exercise="ablate_neurons" points=2 difficulty=2 minutes=10
def ablate_neurons(
    run: dict[str, Tensor],
    w_l: Float[Tensor, "p neuron"],
    chosen: Bool[Tensor, "neuron"],
) -> Float[Tensor, "p p p"]:
    """The logits with each chosen neuron held at its mean over all pairs (a, b).

    run["neurons"] is [p p neuron], run["logits"] [p p p]; a neuron reaches the logits only
    through its column of w_l.
    """
    ### BEGIN SOLUTION
    neurons = run["neurons"][..., chosen]
    return run["logits"] - (neurons - neurons.mean((0, 1))) @ w_l[:, chosen].T
    ### END SOLUTION
# %% check="ablate_neurons"
# %% [markdown]
# **Predict**: which hurts most: without the pure neurons of one frequency, without as many drawn at random, or without
# all 94 that are not pure?
#
# <details><summary>Answer</summary>
#
# Often the first, but mind the null: for two frequencies of four no random draw does as much harm, for the others some
# do. A random choice upsets all frequencies at once. Those that are not pure, a fifth of all, are missed less than any
# draw.
#
# </details>
# %% experiment=True
groups = {f"pure, frequency {k}": pure & (frequency == k) for k in out_keys} | {
    "not pure": ~pure
}
for name, chosen in groups.items():
    loss, size, at_random = (
        pair_loss(ablate_neurons(found, w_l, chosen), test),
        int(chosen.sum()),
        [],
    )
    for seed in range(10):
        order = torch.randperm(512, generator=torch.Generator().manual_seed(seed))
        at_random.append(pair_loss(ablate_neurons(found, w_l, order < size), test).item())
    as_bad = sum(x >= loss for x in at_random)
    print(f"without {name:>18} ({size:>3}): loss {loss:.2g}; as many at random:", end=" ")
    print(f"median {sorted(at_random)[5]:.2g}, {as_bad} of 10 do as much harm")
# %% [markdown]
# ## 14. Through training
#
# Now the measures of section 10 at all 30 checkpoints, with the *final* key frequencies. (The models run in float32
# here, to save memory: of losses below 1e-6 trust no second digit.)
#
# **Predict**: after memorising, training loss is next to 0 and test loss above 20 until step 11,000. What will
# restricted loss (unseen pairs) and excluded loss (training pairs) do in this time: rise, fall, both?
#
# <details><summary>Answer</summary>
#
# Restricted loss falls all along: the circuit grows. Excluded loss falls first, while memory is perfected, then rises
# as memory is given up. With random frequencies neither happens.
#
# </details>
# %%
MEASURES = (
    "train_loss",
    "test_loss",
    "restricted_train",
    "restricted_test",
    "excluded_train",
)


def progress(
    logits: Float[Tensor, "p p p"], frequencies: list[int], train: Tensor, test: Tensor
) -> dict[str, float]:
    """All progress measures of one checkpoint, with these frequencies."""
    logits = logits.double()
    losses = (
        pair_loss(logits, train),
        pair_loss(logits, test),
        restricted_loss(logits, frequencies, train),
    )
    losses += (
        restricted_loss(logits, frequencies, test),
        excluded_loss(logits, frequencies, train),
    )
    return {name: loss.item() for name, loss in zip(MEASURES, losses, strict=True)}


def histories(
    all_logits: list[Tensor], frequencies: list[int], train: Tensor, test: Tensor
) -> dict[str, list[float]]:
    """The progress measures of a whole run: by name a list, an entry for each checkpoint."""
    points = [progress(logits, frequencies, train, test) for logits in all_logits]
    return {name: [point[name] for point in points] for name in MEASURES}


def spreads(logits: Float[Tensor, "p p p"], frequencies: list[int]) -> tuple[float, float]:
    """Standard deviations over the answers, of these frequencies' waves and of all else."""
    waves = project_onto(logits.double(), trig_directions(len(logits), frequencies))
    return tuple((x - x.mean(-1, keepdim=True)).std().item() for x in (waves, logits - waves))
# %% experiment=True
steps = models.checkpoints("grokking")
checkpoints = [shipped.state_dict("grokking", step) for step in steps]
all_logits = [activations(weights)["logits"] for weights in checkpoints]
history = histories(all_logits, keys, train, test)
at_random = [histories(all_logits, draw, train, test) for draw in draws[:2]]

print("step   ", *(f"{name:>16}" for name in MEASURES))
for i in range(0, len(steps), 3):
    print(f"{steps[i]:<7}", *(f"{history[name][i]:16.2g}" for name in MEASURES))
for name in ("restricted_test", "excluded_train"):
    print(
        f"two draws of random frequencies, last step: {name}",
        [f"{run[name][-1]:.3g}" for run in at_random],
    )
for step in (4_000, 16_500, 25_000):
    waves_spread, rest_spread = spreads(all_logits[steps.index(step)], keys)
    print(f"step {step:>6}: logits spread by {waves_spread:.1f} in the waves,", end=" ")
    print(f"{rest_spread:.1f} in all else")
early = all_logits[steps.index(8_000)].double()  # for section 15
del all_logits
plot.line(
    {
        "train": history["train_loss"],
        "test": history["test_loss"],
        "restricted (test pairs)": history["restricted_test"],
        "excluded (training pairs)": history["excluded_train"],
        "restricted, random frequencies": at_random[0]["restricted_test"],
    },
    x=steps,
    log_y=True,
    x_label="training step",
    y_label="loss (nats)",
    title="Restricted loss passes chance level long before test loss",
)
# %% [markdown]
# Test loss falls all the time, too, from its top of 34 nats; on this axis that hardly shows. Only restricted loss says
# that what grows is the circuit. After step 16,500 excluded loss comes down again, and restricted loss goes
# up a little: weight decay makes all logits smaller, noise and peaks alike.
#
# ### What rises
#
# **Between steps 4,000 and 13,500 the training loss hardly moves, but excluded loss on the training pairs rises more
# than ten-thousandfold. What has happened?**
# (a) the model gets more and more of its training pairs wrong; (b) its training pairs lean on the waves more, on memory
# less; (c) the waves have become weaker, so all else counts for more
# %% exercise="answer_excluded" points=1 difficulty=2 minutes=4
answer_excluded = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_excluded = "b"
### END SOLUTION
# %% check="answer_excluded"
# %% [markdown]
# ## 15. Three phases
#
# Let three steps part the paper's phases (memorising, **circuit formation**, clean-up), so that nobody draws them where
# they like. Each is searched **from the one before on** (that step included):
#
# 1. **memorised**: the first at which train loss is below 10 % of its first value;
# 2. **formed**: the first at which restricted loss is below half of its first value *and* below excluded loss (both on
#    training pairs): the waves do half the job, and do it better than all else together;
# 3. **generalised**: the first at which test loss is below 10 % of its first value.
#
# What never comes is `None`, and so is all after it.
# %% exercise="find_phases" points=2 difficulty=3 minutes=15
def find_phases(
    steps: list[int],
    train_loss: list[float],
    restricted: list[float],
    excluded: list[float],
    test_loss: list[float],
) -> list[int | None]:
    """[memorised, formed, generalised]: the steps as defined above, None for those that
    never come.

    All lists have an entry for each checkpoint; restricted and excluded are losses on the
    training pairs.
    """
    ### BEGIN SOLUTION
    reached = [
        lambda i: train_loss[i] < 0.1 * train_loss[0],
        lambda i: restricted[i] < 0.5 * restricted[0] and restricted[i] < excluded[i],
        lambda i: test_loss[i] < 0.1 * test_loss[0],
    ]
    found, start = [], 0
    for is_reached in reached:
        start = next((i for i in range(start, len(steps)) if is_reached(i)), len(steps))
        found.append(steps[start] if start < len(steps) else None)
    return found
    ### END SOLUTION
# %% check="find_phases"
# %% [markdown]
# **Predict**: test loss falls below 10 % of its first value at step 15,500. How many steps earlier is the circuit
# formed: 500, 4,000 or 10,000?
#
# <details><summary>Answer</summary>
#
# About 4,000. The waves alone would do far better on unseen pairs by then; but there memory still shouts wrong answers,
# until it is cleaned up.
#
# </details>
# %%
def phases_of(history: dict[str, list[float]], steps: list[int]) -> list[int | None]:
    """find_phases on a history as `progress` measures it."""
    names = ("train_loss", "restricted_train", "excluded_train", "test_loss")
    return find_phases(steps, *(history[name] for name in names))
# %% experiment=True
phases = phases_of(history, steps)
print(
    "memorised, formed, generalised:",
    phases,
    "  (the paper's run, by its own definition: 1,400, 9,400, 14,000)",
)
for run in at_random:
    print("the same with random frequencies:", phases_of(run, steps))
for name in ("restricted_test", "test_loss"):
    half = next(
        step
        for step, loss in zip(steps, history[name], strict=True)
        if loss < math.log(113) / 2
    )
    print(f"{name} first below half of chance level: step {half}")
# %% [markdown]
# ### Without hindsight
#
# The jump is the end of something gradual. But these measures were chosen with hindsight: they need the *final* key
# frequencies. Which of them could you have known, and since when?
# %% exercise="first_seen" points=2 difficulty=3 minutes=10
def first_seen(steps: list[int], tables: list[Float[Tensor, "p d"]]) -> dict[int, int]:
    """For each key frequency of the last table: the step since when it is one, without a
    break.

    Table i is the embedding at checkpoint steps[i]; key frequencies as `key_frequencies`
    finds them. The dict is in ascending order of frequency.
    """
    ### BEGIN SOLUTION
    keys = [key_frequencies(table) for table in tables]
    seen = {}
    for k in keys[-1]:
        i = len(steps) - 1
        while i > 0 and k in keys[i - 1]:
            i -= 1
        seen[k] = steps[i]
    return seen
    ### END SOLUTION
# %% check="first_seen"
# %% [markdown]
# **Predict**: at step 8,000, halfway to grokking: do you know all of them? Only them?
#
# <details><summary>Answer</summary>
#
# Neither. The double comes after generalisation, in the clean-up; and two others are there that will vanish. Even so,
# with these early frequencies restricted loss tells the same story.
#
# </details>
# %% experiment=True
tables = [embedding(weights).double() for weights in checkpoints]
print("key for good since step:", first_seen(steps, tables))
known = key_frequencies(tables[steps.index(8_000)])
print(
    "key frequencies at step 8,000:",
    known,
    " of them not at the end:",
    [k for k in known if k not in keys],
)
choices = {"these": known, "the final ones": keys}
choices["random ones"] = other_frequencies(113, keys + known, 0)
for name, frequencies in choices.items():
    loss = restricted_loss(early, frequencies, test)
    print(f"restricted loss (test pairs) at step 8,000 with {name}: {loss:.2f}")
# %% [markdown]
# ## 16. Grok one yourself
#
# Now live: p = 37, 80 % of all pairs, a model 32 wide. Three seeds, each twice: with weight decay 1, and without, from
# the same start on the same pairs. (a, b) and (b, a) stay on one side: a model that merely remembers often answers
# both. All six train in one batch: `vmap` runs `activations` on a stack of weights.
#
# **Predict**: which of the six will generalise? Which will have key frequencies?
#
# <details><summary>Answer</summary>
#
# Here, those with weight decay. The others favour a wave or two as well, but spread most of their embedding over all.
# (Elsewhere it can be otherwise: Prieto et al., 2025, make models grok without weight decay.)
#
# </details>
# %%
def fresh_weights(
    p: int, seed: int, d_model: int = 32, d_mlp: int = 128
) -> dict[str, Tensor]:
    """Random weights of the same architecture, by the same names."""
    shapes = {"embed": (p + 1, d_model), "pos_embed": (3, d_model), "unembed": (p, d_model)}
    shapes |= {f"blocks.0.attn.{name}": (d_model, d_model) for name in "qkvo"}
    shapes |= {"blocks.0.mlp.in": (d_mlp, d_model), "blocks.0.mlp.out": (d_model, d_mlp)}
    rng = torch.Generator().manual_seed(seed)
    return {
        f"{name}.weight": torch.randn(*shape, generator=rng) / d_model**0.5
        for name, shape in shapes.items()
    }


def random_split(p: int, seed: int, fraction: float = 0.8) -> tuple[Tensor, Tensor]:
    """All pairs [pair 2], shuffled: those to train on, and the others.

    (a, b) and (b, a) are on the same side.
    """
    pairs = torch.combinations(torch.arange(p), with_replacement=True)
    pairs = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))]
    sides = pairs.tensor_split([int(fraction * len(pairs))])
    return tuple(torch.cat([side, side[side[:, 0] != side[:, 1]].flip(1)]) for side in sides)


LEARNING_RATE = 1e-2


def train_together(
    starts: list[dict], splits: list[tuple], decays: list[float], n_steps: int, keep: int
) -> list:
    """Full-batch AdamW for all models at once: their stacked weights, every `keep` steps."""
    stacked = {
        name: torch.stack([start[name] for start in starts]).requires_grad_()
        for name in starts[0]
    }
    p = stacked["unembed.weight"].shape[1]
    answers = (torch.arange(p)[:, None] + torch.arange(p)) % p
    mask = torch.zeros(len(starts), p, p)
    for model, (pairs, _) in enumerate(splits):
        mask[model, pairs[:, 0], pairs[:, 1]] = 1 / len(pairs)
    shrink = 1 - LEARNING_RATE * torch.tensor(decays)
    optimizer = torch.optim.AdamW(
        stacked.values(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0
    )
    logits_of = torch.vmap(lambda weights: activations(weights)["logits"])
    kept = []
    for step in range(n_steps + 1):
        if step % keep == 0:
            kept.append({name: tensor.detach().clone() for name, tensor in stacked.items()})
        log_probs = logits_of(stacked).double().log_softmax(-1)
        right = log_probs.gather(-1, answers.expand(len(starts), p, p)[..., None])[..., 0]
        optimizer.zero_grad()
        (-(right * mask).sum()).backward()
        with torch.no_grad():
            for tensor in stacked.values():
                tensor.mul_(
                    shrink.view(-1, *[1] * (tensor.ndim - 1))
                )  # weight decay, as AdamW does it
        optimizer.step()
    return kept
# %% experiment=True
P, N_STEPS, KEEP, SEEDS = 37, 800, 20, (0, 1, 2)
decays = [1.0] * len(SEEDS) + [0.0] * len(SEEDS)
starts = [fresh_weights(P, seed) for seed in SEEDS] * 2
splits = [random_split(P, seed) for seed in SEEDS] * 2


def one_by_one() -> None:
    for start, split, decay in zip(starts, splits, decays, strict=True):
        train_together([start], [split], [decay], 10, 10)


ratio = ratio_of_times(one_by_one, lambda: train_together(starts, splits, decays, 10, 10), 3)
print(f"10 steps of six models: one by one {ratio.slow:.2f} s, a batch {ratio.quick:.2f} s")
began = time.perf_counter()
kept = train_together(starts, splits, decays, N_STEPS, KEEP)
print(f"{N_STEPS} steps took {time.perf_counter() - began:.0f} s")
# %%
def model_of(stacked: dict[str, Tensor], i: int) -> dict[str, Tensor]:
    """One model's weights out of the stack, in float64."""
    return checked({name: tensor[i].double() for name, tensor in stacked.items()})
# %% experiment=True
live_steps, live = list(range(0, N_STEPS + 1, KEEP)), []
final = [model_of(kept[-1], i) for i in range(len(decays))]
for i, (decay, split) in enumerate(zip(decays, splits, strict=True)):
    seed = i % len(SEEDS)
    twin = key_frequencies(
        embedding(final[seed])
    )  # the keys of this seed's model with weight decay
    live.append(
        histories(
            [activations(model_of(stacked, i))["logits"] for stacked in kept], twin, *split
        )
    )
    unseen = accuracy(activations(final[i])["logits"], split[1])
    print(
        f"seed {SEEDS[seed]}, weight decay {decay}: accuracy on unseen pairs {unseen:.2f}, ",
        end="",
    )
    print(
        f"key frequencies {key_frequencies(embedding(final[i]))},",
        f"phases {phases_of(live[-1], live_steps)}",
    )
plot.line(
    {
        f"{name}, {what}": live[i][measure]
        for i, name in ((0, "weight decay"), (len(SEEDS), "none"))
        for what, measure in (
            ("test", "test_loss"),
            ("restricted", "restricted_test"),
            ("excluded", "excluded_train"),
        )
    },
    x=live_steps,
    log_y=True,
    x_label="training step",
    y_label="loss (nats)",
    title="Seed 0, with weight decay and without",
)
# %% [markdown]
# With decay all three seeds generalise, or nearly; without, none does. But *formed* does not tell the two apart: two of
# the three without decay count as formed, as early as the others. The waves are in there, drowned by memory; decay's
# part here is the clean-up. What this small run does *not* show is the long middle: with 80 % of the pairs, memory and
# circuit come together.
#
# ## 17. Any checkpoint, from a file
#
# Nothing that you wrote knows the prime, the seed or the frequencies. Put it into one function that takes weights, and
# give it a file. The paper's own runs (`saved_runs/` in
# github.com/mechanistic-interpretability-grokking/progress-measures-paper) have other names, biases, and 114 answers:
# `load_paper_run` takes those. We make such a file, and compare with TransformerLens.
#
# **Predict**: will the model of seed 1 use the frequencies of seed 0?
#
# <details><summary>Answer</summary>
#
# Nothing prefers a frequency (p is prime: each is another's waves in other order). So only by chance.
#
# </details>
# %%
def load_paper_run(file: Path) -> dict[str, Tensor]:
    """The weights of a run of the paper's code (a .pth file), by our names, in float64."""
    theirs = torch.load(file, map_location="cpu", weights_only=True)["model"]
    ours = {
        "embed.weight": theirs["embed.W_E"].T,
        "pos_embed.weight": theirs["pos_embed.W_pos"],
    }
    ours["unembed.weight"] = theirs["unembed.W_U"].T
    for name in "QKVO":
        ours[f"blocks.0.attn.{name.lower()}.weight"] = theirs[
            f"blocks.0.attn.W_{name}"
        ].flatten(end_dim=-2)
    for name in ("in", "out"):
        ours[f"blocks.0.mlp.{name}.weight"] = theirs[f"blocks.0.mlp.W_{name}"]
        ours[f"blocks.0.mlp.{name}.bias"] = theirs[f"blocks.0.mlp.b_{name}"]
    return checked({name: tensor.double() for name, tensor in ours.items()})


def save_like_the_paper(weights: dict[str, Tensor], file: Path, seed: int = 0) -> None:
    """As the paper's code: its names, MLP biases (small random ones), an answer for "="."""
    rng = torch.Generator().manual_seed(seed)
    theirs = {
        "embed.W_E": weights["embed.weight"].T,
        "pos_embed.W_pos": weights["pos_embed.weight"],
    }
    extra = torch.randn(1, weights["unembed.weight"].shape[1], generator=rng)
    theirs["unembed.W_U"] = torch.cat([weights["unembed.weight"], extra]).T
    for name in "QKV":
        theirs[f"blocks.0.attn.W_{name}"] = weights[
            f"blocks.0.attn.{name.lower()}.weight"
        ].unflatten(0, (4, -1))
    theirs["blocks.0.attn.W_O"] = weights["blocks.0.attn.o.weight"]
    for name in ("in", "out"):
        matrix = theirs[f"blocks.0.mlp.W_{name}"] = weights[f"blocks.0.mlp.{name}.weight"]
        theirs[f"blocks.0.mlp.b_{name}"] = 0.05 * torch.randn(len(matrix), generator=rng)
    torch.save({"model": theirs}, file)
# %% experiment=True
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "run.pth"
    save_like_the_paper(shipped.state_dict("grokking"), file)
    theirs = load_paper_run(file)
model = models.load("grokking")
with torch.no_grad():
    for name in ("in", "out"):
        getattr(model.blocks[0].mlp, name).bias.copy_(theirs[f"blocks.0.mlp.{name}.bias"])
    library = model(modular_addition.tokens(some))[:, -1]
difference = (activations(theirs)["logits"][some[:, 0], some[:, 1]] - library).abs().max()
print(f"{len(theirs['unembed.weight'])} answers, with biases:", end=" ")
print(f"largest difference from TransformerLens {difference:.0e}")
# %%
def strongest(x: Float[Tensor, "p d"], n_keys: int | None) -> list[int]:
    """The key frequencies of a table, or its `n_keys` strongest ones."""
    if n_keys is None:
        return key_frequencies(x)
    return sorted((frequency_power(x).topk(n_keys).indices + 1).tolist())


def projection_fits(
    neurons: Float[Tensor, "p p neuron"], w_l: Tensor, frequencies: list[int]
) -> list[float]:
    """The paper's measure: is what W_L reads for cos, sin of c a cos, sin of a + b?"""
    p, fits = len(neurons), []
    for k in frequencies:
        for row, direction in zip(
            fourier_basis(p)[2 * k - 1 : 2 * k + 1], trig_directions(p, [k]), strict=True
        ):
            fits.append(explained((neurons @ (row @ w_l))[..., None], direction[None]))
    return fits


@torch.no_grad()
def report(
    weights: dict[str, Tensor], train: Tensor, test: Tensor, n_keys: int | None = None
) -> dict:
    """The whole analysis; for models without keys, of the `n_keys` strongest frequencies."""
    power, run, w_l = (
        frequency_power(embedding(weights)),
        activations(weights),
        logit_weights(weights),
    )
    frequencies, logits, p = (
        strongest(embedding(weights), n_keys),
        run["logits"],
        len(run["logits"]),
    )
    formula = predict_from_trig(p, fit_amplitudes(logits, frequencies, train))
    return {
        "frequencies": frequencies,
        "of them in W_L": [k for k in frequencies if k in strongest(w_l, n_keys)],
        "accuracy, unseen pairs": accuracy(logits, test),
        "embedding in them": (power[[k - 1 for k in frequencies]].sum() / power.sum()).item(),
        "pure neurons": (neuron_frequencies(run["neurons"])[1] > 0.85).double().mean().item(),
        "MLP projections, lowest": min(
            projection_fits(run["neurons"], w_l, strongest(w_l, n_keys)), default=0.0
        ),
        "logits in waves of a + b": explained(logits, trig_directions(p, frequencies)),
        "formula, unseen pairs": formula_fit(logits, formula, test),
        "test loss": pair_loss(logits, test).item(),
        "restricted, unseen": restricted_loss(logits, frequencies, test).item(),
        "excluded, training": excluded_loss(logits, frequencies, train).item(),
    }
# %% experiment=True
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "mine.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in final[1].items()}, file)
    for name, value in report(load_weights(file), *splits[1]).items():
        print(f"{name:>24}: {value if isinstance(value, list) else float(f'{value:.3g}')}")
# %% [markdown]
# ## 18. Paper, this run, null
#
# **Predict**: in which rows will an untrained model do as well as a trained one?
#
# <details><summary>Answer</summary>
#
# In none. But mind the models that memorised without decay: parts of the circuit are in them.
#
# </details>
# %% experiment=True
ours, null = report(trained, train, test), report(untrained, train, test, n_keys=len(keys))
grokked = [
    report(weights, *split) for weights, split in zip(final[:3], splits[:3], strict=True)
]
without = [
    report(weights, *split, n_keys=len(twin["frequencies"]))
    for weights, split, twin in zip(final[3:], splits[3:], grokked, strict=True)
]
PAPER = {
    "frequencies": "5",
    "accuracy, unseen pairs": "1",
    "pure neurons": "0.85",
    "MLP projections, lowest": "0.93",
    "formula, unseen pairs": "0.95",
    "memorised": "(1400)",
    "formed": "(9400)",
    "generalised": "(14000)",
}


def short(value: float) -> str:
    """Two digits; what is 0 but for rounding as 0."""
    return "0" if abs(value) < 1e-9 else f"{value:.2g}"


def span(reports: list[dict], name: str) -> str:
    """The smallest and the largest value; of frequencies, their number."""
    values = sorted(len(r[name]) if isinstance(r[name], list) else r[name] for r in reports)
    ends = [short(values[0]), short(values[-1])]
    return " to ".join(ends if ends[0] != ends[1] else ends[:1])


def print_row(name: str, *values: str) -> None:
    widths = (24, 8, 8, 15, 18, 18)
    print(
        " | ".join(
            f"{text:{width}}" for text, width in zip((name, *values), widths, strict=True)
        )
    )


def written(runs: list[list], phase: int) -> str:
    return ", ".join("never" if run[phase] is None else str(run[phase]) for run in runs)


live_phases = [phases_of(run, live_steps) for run in live]
random_run = phases_of(at_random[0], steps)
print_row("", "paper", "p = 113", "its untrained", "live, with decay", "live, without")
for name in ours:
    print_row(
        name,
        PAPER.get(name, ""),
        *(span(reports, name) for reports in ([ours], [null], grokked, without)),
    )
print_row("step at which:", "", "", "random k", "", "")
for i, name in enumerate(("memorised", "formed", "generalised")):
    columns = (
        written(runs, i)
        for runs in ([phases], [random_run], live_phases[:3], live_phases[3:])
    )
    print_row(name, PAPER[name], *columns)
# %% [markdown]
# Every effect of the paper is there, and far from its null. Mind what is compared:
#
# - The paper's 93 to 98 % are of the MLP projections, its 95 % of the formula (there with the logits' fit over all
#   pairs, here over unseen ones). Other rows have no figure of the paper's.
# - Its three steps are its authors' reading of the curves, ours have definitions. The difference may be the
#   definition's: by ours, its public runs memorise at epochs 111 to 133.
# - Between live seeds the MLP projections, the share of pure neurons and the formula's fit vary most; of p = 113 we
#   have one seed alone.
#
# ## Open task: which frequencies does a stranger use?
#
# Somebody hands you the weights of a model that adds (any p; all pairs are yours to run). Which frequencies of the
# embedding would it miss? The strangers have strong ones that nothing reads, weak ones that all depends on, ones that
# reach no logit and are missed, and output weights of frequencies that never arrive. Choose your measure, and the null
# that it must beat. (Noise as long as a strong wave hits all other waves, too, and may do more harm than the strong
# wave's loss.)
#
# Graded on models that nobody has seen, built for the purpose: by how many used frequencies you find, and by the decoys
# that you do not fall for.
# %% exercise="find_used_frequencies" points=5 difficulty=5 minutes=40
def find_used_frequencies(weights: dict[str, Tensor]) -> list[int]:
    """The frequencies that the model needs in its embedding to add well, in ascending order.

    The weights are float64, by the names that `activations` takes; 4 heads.
    """
    ### BEGIN SOLUTION
    numbers = embedding(weights)
    p = len(numbers)
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    losses = []
    for k in range(1, p // 2 + 1):
        changed = with_embedding(weights, remove_frequency(numbers, k))
        losses.append(pair_loss(activations(changed)["logits"], pairs))
    losses = torch.stack(losses)
    null = losses.median()  # most frequencies are not used
    return [k + 1 for k in range(len(losses)) if losses[k] > 2 * null]
    ### END SOLUTION
# %% check="find_used_frequencies"
# %% experiment=True
for i, weights in enumerate(final[: len(SEEDS)]):
    print(f"live model {i}: key {key_frequencies(embedding(weights))}", end=", ")
    print(f"used {find_used_frequencies(weights)}")
# %% [markdown]
# ## Bonus (not graded)
#
# 1. **Another seed.** Change `SEEDS`: which frequencies come out? Then train on fewer pairs, or let (a, b) and (b, a)
#    fall on different sides: what accuracy does a model without decay reach, and why?
# 2. **Shuffled labels.** Give a live model random answers to learn. What do restricted and excluded loss say?
# 3. **Two ways to cancel.** Do the live models cancel the error at 2k by attention, or by a double? The paper's runs?
# 4. **A better "formed".** Find a definition that tells decay from none on the live seeds. Then test it on new seeds.
# %% [markdown]
# ## Recap
#
# | confusion | what holds |
# |---|---|
# | "Grokking is a sudden insight" | the circuit grows slowly; what ends late is memory's noise |
# | "Restricted loss is low, so the waves do it" | they *could*; excluded loss says whether all else is needed |
# | "The formula is always right, so it is the model's" | any positive amplitudes add; ask how well it fits the logits |
# | "This frequency is in the embedding, so it is used" | held is not used: remove it, beside equal noise |
# | "This frequency is absent from the logits, so it is idle" | absent is not unused: it may mend what others do |
# | "cos alone is enough" | a wave has a phase: cos and sin belong together |
#
# Read on: Nanda et al., *Progress measures for grokking via mechanistic interpretability* (2023); Power et al.,
# *Grokking* (2022), where it was first seen; Zhong et al., *The Clock and the Pizza* (2023), on two ways to add;
# Prieto et al., *Grokking at the Edge of Numerical Stability* (2025), on grokking without weight decay;
# Chughtai et al., *A Toy Model of Universality* (2023), from addition to all finite groups.
