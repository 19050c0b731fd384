# %% [markdown]
# # 5.2 Toy Models of Superposition
#
# A language model seems to know more things (**features**) than it has dimensions. How do they all fit? Elhage et al.
# (2022) built a model so small that you can see it, and answered: as directions that overlap a little, in
# **superposition**. You will rebuild that model and most of the paper's pictures, and train all of it here.
#
# ```text
# x (n features) -> W (m x n) -> hidden (m < n dimensions) -> W transposed -> + b -> ReLU -> out (n features)
# ```
# %% generated="overview"
# %% setup=True
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import plotly.graph_objects as go
import torch
from jaxtyping import Float, Int
from plotly.subplots import make_subplots
from torch import Tensor, nn

from concrete_steps import plot
from concrete_steps.plot.look import PALETTE, finish

torch.manual_seed(0)
# %% [markdown]
# ## 1. The model
#
# `x` holds `n` features. `W` squeezes them into `m` dimensions: `hidden = W x`. The same `W`, transposed, reads them
# back: `out = ReLU(Wᵀ hidden + b)`. Column `i` of `W` is the direction of feature `i`, written `W_i`.
#
# Descent often gets stuck, so we train many models at once and keep the lowest losses. One module holds them as
# **instances**; they share nothing. The instance is the **first** axis: `W` is `[instance d_hidden feature]`, `b` is
# `[instance feature]`, `x` is `[instance batch feature]`.
#
# With `is_linear=True` the last ReLU is left out.
#
# <details><summary>Hint</summary>
#
# `@` multiplies the last two axes and treats those before as a batch. `W.mT` swaps the last two. Which axis does `b`
# lack?
#
# </details>
# %%
@dataclass
class Config:
    """Sizes of the toy models."""

    n_instances: int = 1
    n_features: int = 5
    d_hidden: int = 2
    is_linear: bool = False


def random_weights(*shape: int) -> nn.Parameter:
    """A trainable tensor [... d_hidden feature], random and of moderate size."""
    return nn.Parameter(torch.randn(*shape) / math.sqrt(shape[-2]))
# %% exercise="ToyModel" points=3 difficulty=2 minutes=12
class ToyModel(nn.Module):
    """Many toy models side by side.

    Parameters: W [instance d_hidden feature], random at first (each instance its own), and
    b [instance feature], all 0.
    """

    def __init__(self, cfg: Config):
        super().__init__()
        self.cfg = cfg
        ### BEGIN SOLUTION
        self.W = random_weights(cfg.n_instances, cfg.d_hidden, cfg.n_features)
        self.b = nn.Parameter(torch.zeros(cfg.n_instances, cfg.n_features))
        ### END SOLUTION

    def forward(
        self, x: Float[Tensor, "instance batch feature"]
    ) -> Float[Tensor, "instance batch feature"]:
        ### BEGIN SOLUTION
        hidden = x @ self.W.mT
        out = hidden @ self.W + self.b[:, None]
        return out if self.cfg.is_linear else out.relu()
        ### END SOLUTION
# %% check="ToyModel"
# %% [markdown]
# **Two features, one dimension, `W = [[1, -1]]`, `b = 0`. What comes out for `x = (0.8, 0)`?**
# (a) `(0.8, -0.8)`; (b) `(0.8, 0)`; (c) `(0.4, 0.4)`
# %% exercise="answer_pair" points=1 difficulty=1 minutes=2
answer_pair = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_pair = "b"
### END SOLUTION
# %% check="answer_pair"
# %% [markdown]
# **Predict**: and if both are on, at 0.8 and 0.5?
#
# <details><summary>Answer</summary>
#
# They cancel: hidden is 0.3, so out is (0.3, 0). The pair works as long as only one of the two is on.
#
# </details>
# %% experiment=True
pair = ToyModel(Config(n_features=2, d_hidden=1))
pair.W.data = torch.tensor([[[1.0, -1.0]]])
for x in ([0.8, 0.0], [0.0, 0.5], [0.8, 0.5]):
    print(x, "->", [round(v, 2) for v in pair(torch.tensor([[x]])).flatten().tolist()])
# %% [markdown]
# An **antipodal pair** stores two features in one dimension. The ReLU removes the negative echo. What it cannot remove
# is both at once: interference.
#
# ## 2. Sparse data
#
# Features of the world are mostly absent. Each feature is 0, or with probability `density` (the paper's `1 - S`, where
# `S` is the sparsity) uniform in [0, 1]. All are independent, also between instances.
# %% exercise="generate_batch" points=2 difficulty=2 minutes=8
def generate_batch(
    density: Float[Tensor, "instance feature"], batch_size: int
) -> Float[Tensor, "instance batch feature"]:
    """Samples in which feature f of instance i is uniform in [0, 1] with probability
    density[i, f], and else 0.

    Drawn on the device of `density`, fresh at each call.
    """
    ### BEGIN SOLUTION
    instances, features = density.shape
    values = torch.rand(instances, batch_size, features, device=density.device)
    is_on = torch.rand(instances, batch_size, features, device=density.device) < density[:, None]
    return values * is_on
    ### END SOLUTION
# %% check="generate_batch"
# %% [markdown]
# The loss of one instance: squared errors, each **times** its feature's importance; **summed** over features; the
# **mean** over the batch.
# %% exercise="importance_loss" points=2 difficulty=2 minutes=6
def importance_loss(
    x: Float[Tensor, "instance batch feature"],
    out: Float[Tensor, "instance batch feature"],
    importance: Float[Tensor, "instance feature"],
) -> Float[Tensor, "instance"]:
    """How badly each instance gives back its x: importance-weighted squared error, a mean
    over samples.
    """
    ### BEGIN SOLUTION
    return (importance[:, None] * (x - out).square()).sum(-1).mean(-1)
    ### END SOLUTION
# %% check="importance_loss"
# %% [markdown]
# The training loop is given. It adds up the losses of the instances: since they share nothing, each is trained as if it
# were alone.
# %%
def train(
    model: nn.Module,
    sample: Callable[[int], Float[Tensor, "instance batch feature"]],
    importance: Float[Tensor, "instance feature"],
    steps: int = 1200,
    target: Callable[[Tensor], Tensor] = lambda x: x,
    batch_size: int = 256,
    frames: int = 12,
) -> Float[Tensor, "frame instance d_hidden feature"]:
    """Adam, with a learning rate falling from 0.01 to 0. Returns W along the way."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    keep = {round((steps - 1) * (i / (frames - 1)) ** 2) for i in range(frames)}
    history = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
        x = sample(batch_size)
        loss = importance_loss(target(x), model(x), importance)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        if step in keep and hasattr(model, "W"):
            history.append(model.W.detach().clone())
    return torch.stack(history) if history else torch.empty(0)


@torch.no_grad()
def measure(
    model: nn.Module,
    sample: Callable[[int], Float[Tensor, "instance batch feature"]],
    importance: Float[Tensor, "instance feature"],
    target: Callable[[Tensor], Tensor] = lambda x: x,
    rounds: int = 8,
) -> Float[Tensor, "instance"]:
    """The loss of each instance on 4096 fresh samples a round."""
    losses = [importance_loss(target(x), model(x), importance) for x in (sample(4096) for _ in range(rounds))]
    return torch.stack(losses).mean(0)


def train_toys(
    density: Float[Tensor, "instance feature"],
    importance: Float[Tensor, "instance feature"],
    d_hidden: int,
    is_linear: bool = False,
    **options,
) -> tuple[ToyModel, Float[Tensor, "instance"], Tensor]:
    """Trained toy models, one for each row of `density`, with their losses and the history of W."""
    model = ToyModel(Config(*density.shape, d_hidden=d_hidden, is_linear=is_linear))

    def sample(size: int) -> Float[Tensor, "instance batch feature"]:
        return generate_batch(density, size)

    history = train(model, sample, importance, **options)
    return model, measure(model, sample, importance), history


def lowest(losses: Float[Tensor, "instance"], seeds: int) -> Int[Tensor, "group"]:
    """In each run of `seeds` neighbouring instances, the index of the lowest loss."""
    groups = losses.view(-1, seeds)
    return groups.argmin(-1) + seeds * torch.arange(len(groups))
# %% [markdown]
# **Predict**: 40 instances in one batched module, or a Python loop over 40 modules of one: how much faster?
#
# <details><summary>Answer</summary>
#
# Many times. Each operation on so small a tensor costs nearly the same, whatever it holds, and the loop makes 40 times
# as many.
#
# </details>
# %% experiment=True
forty = torch.full((40, 5), 0.1)
ones = torch.ones(40, 5)


def seconds(instances: int, steps: int = 50) -> float:
    """How long it takes to train so many instances in one module."""
    began = time.perf_counter()
    train(ToyModel(Config(instances)), lambda size: generate_batch(forty[:instances], size), ones[:instances], steps)
    return time.perf_counter() - began


seconds(1, steps=5)  # the first call is slow: leave it out
batched, looped = seconds(40), sum(seconds(1) for _ in range(40))
print(f"batched {batched:.2f} s, loop {looped:.2f} s: the loop takes {looped / batched:.0f} times as long")
# %% [markdown]
# ## 3. Linear against ReLU
#
# The paper's first experiment: n = 20, m = 5, importance `0.7 ** i`. Feature 0 matters most.
#
# **Predict**: which features does the linear model keep? Does sparsity change that? And with the ReLU?
#
# <details><summary>Answer</summary>
#
# Linear: the 5 most important, whatever the sparsity (it does PCA). With ReLU: the same 5 while data are dense, and
# more and more as they get sparse.
#
# </details>
# %% experiment=True
torch.manual_seed(0)
LEVELS, SEEDS = [1.0, 0.3, 0.1, 0.05, 0.02, 0.007], 3
density = torch.tensor(LEVELS).repeat_interleave(SEEDS)[:, None].expand(-1, 20)
falling = (0.7 ** torch.arange(20.0)).expand(len(density), -1)
shuffled = falling[:, torch.randperm(20)]  # the null for importance
runs = {"linear": (True, falling), "linear, shuffled": (True, shuffled), "ReLU": (False, falling)}
kept, products = {}, {}
for name, (is_linear, importance) in runs.items():
    model, losses, _ = train_toys(density, importance, 5, is_linear, steps=1200)
    best = model.W.detach()[lowest(losses, SEEDS)]
    kept[name] = best.square().sum(1) > 0.5
    products[name] = best.mT @ best
    of_top = (kept[name][:, :5].sum(-1).tolist(), kept[name].sum(-1).tolist())
    print(f"{name:>16}: features kept at each density {of_top[1]}, of them among 0 to 4: {of_top[0]}")
plot.imshow(
    torch.stack([products["linear"], products["ReLU"]], 1),
    animation_frame="density",
    frames=LEVELS,
    facets=["linear", "ReLU"],
    x_label="feature",
    y_label="feature",
    value_label="WᵀW",
    title="What each output reads (slider: from dense to sparse; best of 3 seeds)",
)
# %% [markdown]
# A diagonal entry of 1 is a feature that comes back whole; entries beside it are interference. Even the best of
# three seeds may take feature 5 for 4. This is one importance curve; try another base than 0.7.
#
# **Why does the linear model never use superposition?**
# (a) it has fewer parameters; (b) nothing removes the interference, and noise costs more than a rare feature brings;
# (c) it cannot see sparsity, because it trains too slowly
# %% exercise="answer_linear" points=1 difficulty=2 minutes=3
answer_linear = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_linear = "b"
### END SOLUTION
# %% check="answer_linear"
# %% [markdown]
# ## 4. How many dimensions does a feature get?
#
# Along `W_i`'s own direction, how crowded is it? With `Ŵ_i = W_i / |W_i|`, the paper defines
#
# `D_i = |W_i|² / Σ_j (Ŵ_i · W_j)²`
#
# where the sum runs over **all** j, i itself included. A feature alone in its dimension has D = 1; each of an antipodal
# pair has 1/2. A feature that is not there (`W_i = 0`) gets 0.
#
# <details><summary>Hint</summary>
#
# Multiply top and bottom by |W_i|²: then only entries of `WᵀW` are left. To avoid 0/0, `.clamp(min=1e-12)`.
#
# </details>
# %% exercise="feature_dimensionality" points=3 difficulty=3 minutes=12
def feature_dimensionality(
    W: Float[Tensor, "instance d_hidden feature"]
) -> Float[Tensor, "instance feature"]:
    """The share of a dimension that each feature has to itself, from 0 to 1; 0 for a
    feature whose column is 0.
    """
    ### BEGIN SOLUTION
    product = W.mT @ W
    crowd = product.square().sum(-1)
    return product.diagonal(dim1=-2, dim2=-1).square() / crowd.clamp(min=1e-12)
    ### END SOLUTION
# %% check="feature_dimensionality"
# %% [markdown]
# **Predict**: D of each corner of a regular triangle, pentagon, tetrahedron? (They share their dimensions fairly.)
#
# <details><summary>Answer</summary>
#
# Dimensions over corners: 2/3, 2/5, 3/4.
#
# </details>
# %% experiment=True
def polygon(corners: int) -> Float[Tensor, "1 2 corner"]:
    """The corners of a regular polygon, as columns."""
    angle = torch.arange(corners) * 2 * math.pi / corners
    return torch.stack([angle.cos(), angle.sin()])[None]


tetrahedron = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])[None]
for name, shape in {"triangle": polygon(3), "pentagon": polygon(5), "tetrahedron": tetrahedron}.items():
    random = feature_dimensionality(torch.nn.functional.normalize(torch.randn(1000, *shape.shape[1:]), dim=1))
    print(f"{name:>11}: D = {feature_dimensionality(shape)[0, 0]:.3f};", end=" ")
    print(f"as many random directions: {random.mean():.3f}, spread (standard deviation) {random.std():.3f}")
# %% [markdown]
# Random directions get somewhat less, and unevenly; what marks a regular shape is that **each** feature gets the same.
#
# ## 5. Geometry
#
# Now let a program name the shape. For one model `W`:
#
# 1. A feature is *represented* when `|W_i| >= 0.5`; leave the others out.
# 2. Two represented features are *linked* when the absolute cosine of their directions is above 0.25.
# 3. A *group* is what links connect, directly or by way of others. A feature without links is a group.
# 4. Its *dimensions*: how many singular values of the matrix of its **unit** directions are above 0.5.
#
# A digon is `(2, 1)`: two features, one dimension. A pentagon is `(5, 2)`.
#
# <details><summary>Hint 1</summary>
#
# Take the links as a matrix of 0 and 1, with 1 on the diagonal. Its product with itself is above 0 where two links
# suffice. Repeat.
#
# </details>
# <details><summary>Hint 2</summary>
#
# In the end features of one group have equal rows: `.unique(dim=0)`. For the dimensions: `torch.linalg.svdvals`.
#
# </details>
# %% exercise="find_geometry" points=4 difficulty=4 minutes=25
def find_geometry(W: Float[Tensor, "d_hidden feature"]) -> list[tuple[int, int]]:
    """One pair (features, dimensions) for each group of linked features, largest first; []
    if there is none.
    """
    ### BEGIN SOLUTION
    lengths = W.norm(dim=0)
    unit = (W / lengths)[:, lengths >= 0.5]
    if unit.numel() == 0:
        return []
    reach = (unit.T @ unit).abs() > 0.25
    for _ in reach:
        reach = reach.float() @ reach.float() > 0  # links of links
    groups = reach.unique(dim=0)
    return sorted(((int(g.sum()), int(torch.linalg.matrix_rank(unit[:, g], atol=0.5))) for g in groups), reverse=True)
    ### END SOLUTION
# %% check="find_geometry"
# %%
NAMES = {(1, 1): "alone", (2, 1): "digon", (3, 2): "triangle", (4, 3): "tetrahedron", (5, 2): "pentagon"}


def shape_name(W: Float[Tensor, "d_hidden feature"]) -> str:
    """The groups in words: "2 digon"."""
    counted = Counter(NAMES.get(group, f"{group[0]} in {group[1]}D") for group in find_geometry(W))
    return ", ".join(f"{count} {name}" for name, count in counted.items()) or "nothing"


def plane(W: Float[Tensor, "frame panel 2 feature"], panels: list[str], frames: list[str], title: str) -> go.Figure:
    """Each feature as a line from the origin, in the plane of the two hidden dimensions; a slider over the frames."""
    fig = make_subplots(1, len(panels), subplot_titles=panels, horizontal_spacing=0.04)
    W = (W * 1000).round() / 1000
    pictures = [[_arrows(columns) for columns in frame] for frame in W]
    for i, picture in enumerate(pictures[0]):
        fig.add_trace(picture, 1, i + 1)
    fig.frames = [go.Frame(data=picture, name=name) for picture, name in zip(pictures, frames, strict=True)]
    settings = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}}
    steps = [{"method": "animate", "label": name, "args": [[name], settings]} for name in frames]
    finish(fig, title, "", "hidden 1", what=f"Arrows in the plane, {len(frames)} frames, {len(panels)} panels")
    fig.update_xaxes(range=[-1.7, 1.7], title_text="hidden 0", dtick=1)
    fig.update_yaxes(range=[-1.7, 1.7], dtick=1)
    fig.update_layout(showlegend=False, height=360, width=700 if len(panels) > 1 else 340, margin_t=80)
    if len(frames) > 1:
        fig.update_layout(sliders=[{"steps": steps, "pad": {"t": 50}}], height=430)
    return fig


def _arrows(columns: Float[Tensor, "2 feature"]) -> go.Scatter:
    x, y = ([v for end in row.tolist() for v in (0, end, None)] for row in columns)
    colours = [c for i in range(columns.shape[1]) for c in (PALETTE[i], PALETTE[i], PALETTE[i])]
    marker = {"color": colours, "size": [0, 10, 0] * columns.shape[1], "opacity": 1}
    return go.Scatter(x=x, y=y, mode="lines+markers", line_color="#bbb", marker=marker, hoverinfo="x+y")
# %% [markdown]
# Five equal features, two dimensions, from dense to sparse; eight seeds each.
#
# **Predict**: which shapes, in which order?
#
# <details><summary>Answer</summary>
#
# Dense: no clean shape. Then two digons, and the fifth dropped. Sparse: the pentagon. Between, both: seeds get stuck.
#
# </details>
# %% experiment=True
torch.manual_seed(0)
LEVELS, SEEDS = [1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02], 8
density = torch.tensor(LEVELS).repeat_interleave(SEEDS)[:, None].expand(-1, 5)
five, losses, history = train_toys(density, torch.ones_like(density), 2, steps=1500)
best = lowest(losses, SEEDS)
shapes = [shape_name(W) for W in five.W.detach()]
for i, level in enumerate(LEVELS):
    seen = Counter(shapes[i * SEEDS : (i + 1) * SEEDS])
    print(f"density {level:<5} lowest loss: {shapes[best[i]]:<20} all seeds: {dict(seen)}")
trained_D = feature_dimensionality(five.W.detach()[[shape == "1 pentagon" for shape in shapes]])
untrained = [W for W in ToyModel(Config(500)).W.detach() if shape_name(W) == "1 pentagon"]
untrained_D = feature_dimensionality(torch.stack(untrained))
print(f"D in trained pentagons: {trained_D.mean():.3f}, spread {trained_D.std():.3f}")
print(f"null: of 500 untrained W, {len(untrained)} pass as (5, 2)", end="; ")
print(f"their D: {untrained_D.mean():.3f}, spread {untrained_D.std():.3f}")
steps = [str(round(1499 * (i / 11) ** 2)) for i in range(12)]
shown = [0, 2, 5]
plane(
    history[:, best[shown]],
    [f"density {LEVELS[i]}" for i in shown],
    steps,
    "Five features find their places (slider: training step)",
)
# %% [markdown]
# `(5, 2)` alone says little: chance gives it too. Training adds regularity: every D near 2/5. Which feature sits at
# which corner is chance.
#
# ## 6. The pentagon collapses
#
# Now make one of the five features rarer: feature 4 comes with `ratio * 0.05`, the others with 0.05.
#
# **Predict**: how does the picture change as `ratio` falls from 1 to 0.1: smoothly, or at once?
#
# <details><summary>Answer</summary>
#
# Both. The pentagon makes less and less room for feature 4; and at some ratio two digons without it are cheaper. The
# best shape jumps from one to the other.
#
# </details>
# %% experiment=True
torch.manual_seed(0)
RATIOS, SEEDS = [1.5, 1.0, 0.6, 0.4, 0.35, 0.3, 0.25, 0.2, 0.1], 10
density = torch.full((len(RATIOS) * SEEDS, 5), 0.05)
density[:, 4] *= torch.tensor(RATIOS).repeat_interleave(SEEDS)
equal = torch.ones_like(density)
rarer, _, _ = train_toys(density, equal, 2, steps=1500)
twice = [measure(rarer, lambda size: generate_batch(density, size), equal, rounds=25) for _ in range(2)]
losses, noise = (twice[0] + twice[1]) / 2, (twice[0] - twice[1]).std().item()
shapes = [shape_name(W) for W in rarer.W.detach()]
is_kind = {kind: torch.tensor([s == kind for s in shapes]).view(-1, SEEDS) for kind in ("1 pentagon", "2 digon")}


def cheapest(kind: str, losses: Float[Tensor, "ratio seed"]) -> Float[Tensor, "ratio"]:
    """The lowest loss of a shape at each ratio; infinite where no seed found it."""
    return losses.masked_fill(~is_kind[kind], math.inf).amin(-1)


by_ratio = losses.view(-1, SEEDS)
low = {kind: cheapest(kind, by_ratio) for kind in is_kind}
gap = low["1 pentagon"] - low["2 digon"]
shuffles = [by_ratio[:, torch.randperm(SEEDS)] for _ in range(200)]  # the null: losses without their shapes
null_gap = torch.stack([cheapest("1 pentagon", some) - cheapest("2 digon", some) for some in shuffles])
for i, ratio in enumerate(RATIOS):
    found = [f"{kind} {low[kind][i]:.5f} ({int(is_kind[kind][i].sum())} seeds)" for kind in low]
    print(f"ratio {ratio}: {', '.join(found)}; gap {gap[i]:+.5f}")
last, first = int((gap < -noise).nonzero()[-1]), int((gap > noise).nonzero()[0])
crossing = f"{1 / RATIOS[last]:.1f} to {1 / RATIOS[first]:.1f}"
print(f"digons become cheaper where feature 4 is {crossing} times rarer (losses are known to {noise:.5f})")
same_order = ((null_gap < 0) == (gap < 0)).all(-1).float().mean().item()
print(f"null, shapes shuffled among the seeds: the same order of cheaper shapes in {same_order:.1%} of cases")
seen = {kind: low[kind].isfinite() for kind in low}
curves = plot.line(
    {kind: low[kind][seen[kind]] for kind in low},
    x=[torch.tensor(RATIOS)[seen[kind]] for kind in low],
    x_label="density of feature 4, relative to the others",
    y_label="lowest loss of this shape",
    title="Two kinds of solution, whose losses cross",
)
best = lowest(losses, SEEDS)
angle = torch.atan2(rarer.W[best, 1, 0], rarer.W[best, 0, 0]).detach()  # turn feature 0 to the right, to compare
turned = torch.stack([torch.stack([angle.cos(), angle.sin()], -1), torch.stack([-angle.sin(), angle.cos()], -1)], 1)
moving = plane(
    (turned @ rarer.W.detach()[best])[:, None],
    ["lowest loss"],
    [str(ratio) for ratio in RATIOS],
    "Feature 4 (pink) gets rarer",
)
plot.show(curves, moving)
# %% [markdown]
# **The paper calls this a first-order change, like water freezing. What shows that?**
# (a) the pentagon shrinks until it is a square; (b) both kinds exist on both sides, and their losses cross;
# (c) the loss jumps up
# %% exercise="answer_crossing" points=1 difficulty=2 minutes=3
answer_crossing = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_crossing = "b"
### END SOLUTION
# %% check="answer_crossing"
# %% [markdown]
# ## 7. Sticky fractions
#
# Many equal features. The paper trains n = 400, m = 30; that takes minutes here, so we take n = 60, m = 8 (its authors
# found that the numbers matter little while n is far above m). A measure of the whole model: `D* = m / |W|²`, with the
# sum of all squares below: dimensions per feature.
#
# **Predict**: as features get sparser, D* falls from 1. Smoothly?
#
# <details><summary>Answer</summary>
#
# No: it waits near 1/2, where the features that are kept form digons. Single features' D pile up at the fractions of regular shapes.
#
# </details>
# %% experiment=True
def sticky(D: Float[Tensor, "n"]) -> float:
    """Which share lies within 0.02 of 3/4, 2/3, 1/2, 2/5 or 3/8."""
    return ((D[:, None] - torch.tensor([3 / 4, 2 / 3, 1 / 2, 2 / 5, 3 / 8])).abs() < 0.02).any(-1).float().mean().item()


torch.manual_seed(0)
RARITY, SEEDS_MANY = torch.logspace(0.12, 0.9, 12), 2
many_density = (1 / RARITY).repeat_interleave(SEEDS_MANY)[:, None].expand(-1, 60)
many, many_losses, _ = train_toys(many_density, torch.ones_like(many_density), 8, steps=2000)
many_W, kept_many = many.W.detach(), lowest(many_losses, SEEDS_MANY)
D_star = 8 / many_W.square().sum((1, 2))
many_D, lengths = feature_dimensionality(many_W), many_W.norm(dim=1, keepdim=True)
rarity = RARITY.repeat_interleave(SEEDS_MANY)
there = lengths[:, 0] >= 0.5  # [instance feature]
shares, null_shares = [], []
for i in range(len(many_W)):
    directions = torch.nn.functional.normalize(torch.randn(50, 8, int(there[i].sum())), dim=1)
    shares.append(sticky(many_D[i, there[i]]))
    null_shares.append(sticky(feature_dimensionality(directions * lengths[i][:, there[i]]).flatten()))
for i in kept_many.tolist():
    print(f"1/density {rarity[i]:.2f}: D* {D_star[i]:.2f}, on a sticky fraction {shares[i]:.0%}", end=" ")
    print(f"(random directions {null_shares[i]:.0%}); {shape_name(many_W[i])}")
print(f"mean over the other seeds {(sum(shares) - sum(shares[i] for i in kept_many)) / len(kept_many):.0%}", end=", ")
print(f"over those with the lowest loss {sum(shares[i] for i in kept_many) / len(kept_many):.0%}")
figure = plot.scatter(
    rarity[kept_many, None].expand(-1, 60)[there[kept_many]],
    many_D[kept_many][there[kept_many]],
    x_label="1 / density (sparser to the right)",
    y_label="dimensions per feature",
    title="D of each feature (points), D* (line), fractions of regular shapes",
    log_x=True,
)
figure.update_traces(marker_size=6)
figure.add_scatter(x=RARITY.tolist(), y=D_star[kept_many].tolist(), mode="lines", line_color=PALETTE[3])
for fraction, name in ((3 / 4, "3/4"), (2 / 3, "2/3"), (1 / 2, "1/2"), (2 / 5, "2/5"), (3 / 8, "3/8")):
    side = "bottom right" if name == "3/8" else "top right"
    figure.add_hline(y=fraction, line_dash="dot", line_color="#888", annotation_text=name, annotation_position=side)
plot.show(figure)
# %% [markdown]
# Random directions of the same lengths sit on a fraction only by chance. But not every density is sticky: when
# many features share all 8 dimensions, there is no regular shape to find.
#
# ## 8. Features that come together, or never do
#
# Features come in sets of `size`; set s holds features `s * size` to `s * size + size - 1`. `density[i, s]` is the
# probability that set s is **active**. In an active *correlated* set all features are on, each with its own
# value in [0, 1]. In an active *anticorrelated* set exactly one is, each equally likely. Sets are independent.
#
# <details><summary>Hint</summary>
#
# `repeat_interleave(size, dim=-1)` repeats the answer for a set for each of its features. For the other exercise: draw
# the number of the chosen feature, and compare it with `torch.arange(size)`; `flatten(-2)` joins the last two axes.
#
# </details>
# %% exercise="correlated_features" points=2 difficulty=3 minutes=10
def correlated_features(
    density: Float[Tensor, "instance set"], size: int, batch_size: int
) -> Float[Tensor, "instance batch set*size"]:
    """Samples in which the features of a set are on together, each uniform in [0, 1], or
    all 0.
    """
    ### BEGIN SOLUTION
    instances, sets = density.shape
    is_active = torch.rand(instances, batch_size, sets, device=density.device) < density[:, None]
    values = torch.rand(instances, batch_size, sets * size, device=density.device)
    return values * is_active.repeat_interleave(size, dim=-1)
    ### END SOLUTION
# %% check="correlated_features"
# %% exercise="anticorrelated_features" points=2 difficulty=3 minutes=10
def anticorrelated_features(
    density: Float[Tensor, "instance set"], size: int, batch_size: int
) -> Float[Tensor, "instance batch set*size"]:
    """Samples in which one random feature of an active set is on, uniform in [0, 1], and
    all others are 0.
    """
    ### BEGIN SOLUTION
    instances, sets = density.shape
    drawn = torch.randint(size, (instances, batch_size, sets, 1), device=density.device)
    is_drawn = (drawn == torch.arange(size, device=density.device)).flatten(-2)
    return correlated_features(density, size, batch_size) * is_drawn
    ### END SOLUTION
# %% check="anticorrelated_features"
# %% [markdown]
# Two pairs in two dimensions: digons, but who sits opposite whom? Independent features pair up by chance.
#
# **Predict**: which partner suits a feature best: one that always comes along, or one that never does?
#
# <details><summary>Answer</summary>
#
# One that never does: then the pair never collides. Correlated features avoid each other and stand at right angles.
#
# </details>
# %% experiment=True
def train_pairs(pairs: int, seeds: int) -> Float[Tensor, "kind seed 2 feature"]:
    """W of models with correlated, independent and anticorrelated pairs, all in one module; the lowest loss first."""
    half, whole = torch.full((seeds, pairs), 0.1), torch.full((seeds, pairs), 0.2)
    separate = torch.full((seeds, 2 * pairs), 0.1)

    def sample(size: int) -> Float[Tensor, "instance batch feature"]:
        together, apart = correlated_features(half, 2, size), anticorrelated_features(whole, 2, size)
        return torch.cat([together, generate_batch(separate, size), apart])

    model = ToyModel(Config(3 * seeds, 2 * pairs, 2))
    train(model, sample, torch.ones(3 * seeds, 2 * pairs))
    losses = measure(model, sample, torch.ones(3 * seeds, 2 * pairs))
    order = losses.view(3, seeds).argsort(-1)
    return torch.stack([W[i] for W, i in zip(model.W.detach().view(3, seeds, 2, -1), order, strict=True)])


torch.manual_seed(0)
KINDS, SEEDS = ["correlated", "independent", "anticorrelated"], 24
pairs_W = train_pairs(2, SEEDS)
unit = torch.nn.functional.normalize(pairs_W, dim=2)
cosine = (unit[..., 0::2] * unit[..., 1::2]).sum(2)  # [kind seed pair]
opposite, right_angle = (cosine < -0.9).float().mean(-1), (cosine.abs() < 0.3).float().mean(-1)
for i, kind in enumerate(KINDS):
    for name, some in (("lowest 6 losses", slice(6)), (f"all {SEEDS} seeds", slice(None))):
        means = opposite[i, some].mean().item(), right_angle[i, some].mean().item()
        print(f"{kind:>14}, {name}: {means[0]:.0%} of pairs opposite, {means[1]:.0%} at right angles")
pair_shares = {kind: (opposite[i, :6].mean().item(), right_angle[i, :6].mean().item()) for i, kind in enumerate(KINDS)}
six_W = train_pairs(3, 16)
six_unit = torch.nn.functional.normalize(six_W, dim=2)
six_cosine = (six_unit[..., 0::2] * six_unit[..., 1::2]).sum(2)[:, :4].mean((1, 2))
for kind, mean in zip(KINDS, six_cosine.tolist(), strict=True):
    print(f"three pairs, {kind}: mean cosine within a pair {mean:.2f} (lowest 4 losses)")
plane(pairs_W[None, :, 0], KINDS, ["lowest"], "Two pairs: features 0 and 1 (blue, orange), 2 and 3 (green, red)")
# %% [markdown]
# "By chance" is one in three: of three partners, one is its own. Where three pairs must share two dimensions, no right
# angles are left; correlated features then turn towards each other.
#
# ## 9. What should the smallest model do?
#
# The smallest model: n = 2, m = 1. Feature 0 has importance 1, feature 1 has importance r; both have density p.
# Three candidates, in this order:
#
# 0. **Ignored**: `W = [1, 0]`. Feature 1's output is a constant; the best constant is its mean.
# 1. **Dedicated**: `W = [0, 1]`. Feature 0 is ignored in that way.
# 2. **Superposed**: `W = [1, -1]`, `b = 0`. Only wrong when both are on.
#
# Derive each loss (as `importance_loss`, in expectation).
#
# <details><summary>Hint 1</summary>
#
# Ignored costs `r` times a variance. The mean of `x` is p/2; the mean of `x²` is p/3.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Both on: out = (max(x0 - x1, 0), max(x1 - x0, 0)). By how much is each wrong? It is the smaller of the two values,
# and the square of the smaller has mean 1/6.
#
# </details>
# %% exercise="candidate_losses" points=3 difficulty=4 minutes=20
def candidate_losses(
    p: Float[Tensor, "..."], r: Float[Tensor, "..."]
) -> Float[Tensor, "... candidate"]:
    """Expected losses of ignored, dedicated and superposed, along a new last axis; p and r
    have the same shape.
    """
    ### BEGIN SOLUTION
    variance = p / 3 - p.square() / 4
    return torch.stack([r * variance, variance, (1 + r) * p.square() / 6], dim=-1)
    ### END SOLUTION
# %% check="candidate_losses"
# %% [markdown]
# ## 10. The phase diagram
#
# Now compare with trained models. For feature 1 of each instance: 0 if `|W_1| < 0.5`; else 1 if `|W_0| < 0.5`; else 2.
# And what theory expects: the cheapest candidate.
# %% exercise="phase_change" points=3 difficulty=2 minutes=8
def phase_change(
    W: Float[Tensor, "instance 1 2"],
    p: Float[Tensor, "instance"],
    r: Float[Tensor, "instance"],
) -> tuple[Int[Tensor, "instance"], Int[Tensor, "instance"]]:
    """What became of feature 1 in each trained model, and what theory expects: 0, 1 or 2 as
    in the text.
    """
    ### BEGIN SOLUTION
    zero, one = (W[:, 0].abs() >= 0.5).unbind(-1)
    found = torch.where(one, torch.where(zero, 2, 1), 0)
    return found, candidate_losses(p, r).argmin(-1)
    ### END SOLUTION
# %% check="phase_change"
# %% [markdown]
# **Predict**: superposition wins when features are rare. Equal importance: at which density does it stop? Solve
# "superposed = ignored" for p.
#
# <details><summary>Answer</summary>
#
# `p = 4r / (2 + 5r)` for r up to 1: so at r = 1, p = 4/7.
#
# </details>
# %% experiment=True
torch.manual_seed(0)
SEEDS = 6
p_levels, r_levels = torch.logspace(-1.5, 0, 10), torch.logspace(-1, 1, 11)
grid_p, grid_r = (t.flatten() for t in torch.meshgrid(p_levels, r_levels, indexing="ij"))
p, r = grid_p.repeat_interleave(SEEDS), grid_r.repeat_interleave(SEEDS)
both, weights = p[:, None].expand(-1, 2), torch.stack([torch.ones_like(r), r], -1)
agreement = {}
for name, is_linear in (("ReLU", False), ("linear", True)):
    model, losses, _ = train_toys(both, weights, 1, is_linear, steps=1200 if not is_linear else 500, batch_size=128)
    best = lowest(losses, SEEDS)
    found, expected = phase_change(model.W.detach()[best], grid_p, grid_r)
    agreement[name] = (found == expected).float().mean().item()
    counts = torch.bincount(found, minlength=3).tolist()
    print(f"{name:>6}: theory right on {agreement[name]:.0%}; ignored, dedicated, superposed: {counts}")
    if name == "ReLU":
        trained, theory = found, expected
        every = phase_change(model.W.detach(), p, r)
chance = torch.stack([(trained == theory[torch.randperm(len(theory))]).float().mean() for _ in range(200)])
print(f"every seed, not only the lowest loss: {(every[0] == every[1]).float().mean():.0%}")
print(f"null, theory shuffled: {chance.mean():.0%}, spread {chance.std():.0%}")
costs = candidate_losses(grid_p, grid_r).sort(-1).values
off = trained != theory
most = (costs[:, 1] / costs[:, 0])[off].max()
print(f"theory errs on {int(off.sum())} of {len(off)} points, where the next candidate costs at most {most:.2f} x")
picture = torch.stack([trained, theory]).view(2, len(p_levels), -1).float()
plot.imshow(
    picture,
    facets=["trained", "theory"],
    x=[f"{v:.2g}" for v in r_levels.tolist()],
    y=[f"{v:.2g}" for v in p_levels.tolist()],
    x_label="importance of feature 1",
    y_label="density",
    scale="positive",
    value_label="0 ignored<br>1 dedicated<br>2 superposed",
    title="What becomes of feature 1",
)
# %% [markdown]
# Theory errs at borders, and at r = 1, where ignored and dedicated cost the same. The candidates are ideal: a trained
# model adds a bias or another length, and does a little better. The linear model has no use for the third candidate;
# its few cases are ties.
#
# ## 11. An attack on the interference
#
# Output i reads row i of `WᵀW`. Which small change of `x`, of a given length, raises output i most (before the ReLU)?
# The gradient: `length * (WᵀW)_i / |(WᵀW)_i|`. That is the paper's attack.
# %% exercise="adversarial_interference" points=3 difficulty=3 minutes=10
def adversarial_interference(
    W: Float[Tensor, "instance d_hidden feature"], length: float
) -> Float[Tensor, "instance target feature"]:
    """For each target feature the change of x that raises its output most; all 0 where the
    target's column of W is 0.

    Args:
        length: the Euclidean length of each change.
    """
    ### BEGIN SOLUTION
    product = W.mT @ W
    return length * product / product.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    ### END SOLUTION
# %% check="adversarial_interference"
# %% [markdown]
# Square the part of the attack that lies on feature i itself, over all: it is exactly `D_i`. The rest, `1 - D_i`,
# is interference. Now the damage. As in the paper: attacks of a tenth of the mean length of x; of all targets the
# worst. The unit is the damage to a model without superposition, `length²`: there only the target's output moves.
#
# **Predict**: how does damage go with features per dimension, `1 / D*`? And random directions of that length?
#
# <details><summary>Answer</summary>
#
# It grows along with it. Random directions do far less harm: most of them falls outside what W reads.
#
# </details>
# %% experiment=True
torch.manual_seed(0)
x = generate_batch(many_density, 1000)
length = 0.1 * x.norm(dim=-1).mean().item()
ones = torch.ones_like(many_density)


@torch.no_grad()
def damage(changes: Float[Tensor, "instance change feature"]) -> Float[Tensor, "instance change"]:
    """The rise of the loss by each change, over length²."""
    before = importance_loss(x, many(x), ones)
    after = [importance_loss(x, many(x + change[:, None]), ones) for change in changes.unbind(1)]
    return (torch.stack(after, -1) - before[:, None]) / length**2


attacks = adversarial_interference(many_W, length)
by_attack = damage(attacks)
worst = by_attack.max(-1).values
by_chance = damage(length * torch.nn.functional.normalize(torch.randn(len(many_W), 60, 60), dim=-1))
own = attacks.diagonal(dim1=-2, dim2=-1).square() / length**2
print(f"largest difference of the attack's own share and D: {(own - many_D)[lengths[:, 0] > 0.5].abs().max():.1e}")
per_dimension = 1 / D_star
for i in range(0, len(worst), 4):
    print(f"features per dimension {per_dimension[i]:.2f}: worst attack {worst[i]:.2f}", end="")
    print(f", 60 random directions: mean {by_chance[i].mean():.2f}, worst {by_chance[i].max():.2f}")
correlation = torch.corrcoef(torch.stack([per_dimension, worst]))[0, 1].item()
print(f"correlation of worst attack and features per dimension: {correlation:.2f}")
plot.scatter(
    torch.cat([per_dimension, per_dimension]),
    torch.cat([worst, by_chance.max(-1).values]),
    color=["worst attack"] * len(worst) + ["worst of 60 random directions"] * len(worst),
    color_label="change of x",
    x_label="features per dimension, 1 / D*",
    y_label="rise of the loss / length²",
    title="Superposition makes a model easier to fool",
)
# %% [markdown]
# Attacks here may leave the data: entries below 0 never occur. And an autoencoder is a friendly case: its
# outputs *are* the features. It does not follow that superposition explains adversarial images.
# %% [markdown]
# ## 12. Computing in superposition
#
# So far features were stored. Can a model also *compute* with more features than it has neurons? Now x is between -1
# and 1, and the target is `|x|`. First the data: as `generate_batch`, but a value that is on gets a random sign.
# %% exercise="signed_batch" points=1 difficulty=2 minutes=5
def signed_batch(
    density: Float[Tensor, "instance feature"], batch_size: int
) -> Float[Tensor, "instance batch feature"]:
    """Samples in which feature f of instance i is uniform in [-1, 1] with probability
    density[i, f], and else 0.
    """
    ### BEGIN SOLUTION
    x = generate_batch(density, batch_size)
    return torch.where(torch.rand_like(x) < 0.5, x, -x)
    ### END SOLUTION
# %% check="signed_batch"
# %% [markdown]
# The model: `neurons = ReLU(W_in x)`, no bias; `out = ReLU(W_out neurons + b)`. The two matrices are not tied any more.
# As `|x| = ReLU(x) + ReLU(-x)`, one feature takes two neurons.
# %%
def absolute_weights(cfg: Config) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter]:
    """W_in, W_out and b to start from. W_out is positive: fewer models get stuck."""
    W_in = random_weights(cfg.n_instances, cfg.d_hidden, cfg.n_features)
    return W_in, nn.Parameter(W_in.detach().mT.abs()), nn.Parameter(torch.zeros(cfg.n_instances, cfg.n_features))
# %% exercise="AbsoluteModel" points=2 difficulty=2 minutes=8
class AbsoluteModel(nn.Module):
    """Many models that can compute absolute values. cfg.d_hidden is the number of neurons.

    Parameters: W_in [instance neuron feature], W_out [instance feature neuron],
    b [instance feature].
    """

    def __init__(self, cfg: Config):
        super().__init__()
        self.W_in, self.W_out, self.b = absolute_weights(cfg)

    def forward(
        self, x: Float[Tensor, "instance batch feature"]
    ) -> Float[Tensor, "instance batch feature"]:
        ### BEGIN SOLUTION
        neurons = (x @ self.W_in.mT).relu()
        return (neurons @ self.W_out.mT + self.b[:, None]).relu()
        ### END SOLUTION
# %% check="AbsoluteModel"
# %% [markdown]
# Ten features, eight neurons (the paper: 100 and 40). Without superposition, eight neurons do four features; the other
# six stay at their mean: 60 % of the variance is left. Null: a random, frozen `W_in`.
#
# **Predict**: below 60 %, at which densities? And does a neuron belong to one feature?
#
# <details><summary>Answer</summary>
#
# Dense: not below it, and each neuron serves one feature. Sparse: far below, so more than four are computed, and each
# neuron serves several.
#
# </details>
# %% experiment=True
torch.manual_seed(0)
LEVELS, SEEDS = [1.0, 0.3, 0.1, 0.03, 0.01], 5
density = torch.tensor(LEVELS).repeat_interleave(SEEDS)[:, None].expand(-1, 10)
variance = (density / 3 - density.square() / 4).sum(-1)
left, purity = {}, []
for name in ("trained", "random W_in"):
    absolute = AbsoluteModel(Config(len(density), 10, 8))
    absolute.W_in.requires_grad_(name == "trained")
    data = (lambda size: signed_batch(density, size)), torch.ones_like(density)
    train(absolute, *data, steps=1800, target=torch.abs)
    losses = measure(absolute, *data, target=torch.abs)
    best = lowest(losses, SEEDS)
    left[name] = (losses / variance)[best].tolist()
    if name == "trained":
        use = (absolute.W_in.abs() * absolute.W_out.mT.abs()).detach()[best]  # [density neuron feature]
        purity = (use.amax(-1) / use.sum(-1).clamp(min=1e-9)).mean(-1).tolist()
for level, mine, null, pure in zip(LEVELS, left["trained"], left["random W_in"], purity, strict=True):
    print(f"density {level}: variance left {mine:.0%}, random W_in {null:.0%};", end=" ")
    print(f"a neuron's largest feature has {pure:.0%} of its weight")
plot.imshow(
    use / use.sum(-1, keepdim=True).clamp(min=1e-9),
    animation_frame="density",
    frames=LEVELS,
    x_label="feature",
    y_label="neuron",
    value_label="share of<br>the weight",
    scale="positive",
    title="Which features a neuron serves (slider: from dense to sparse)",
)
# %% [markdown]
# A polysemantic neuron is not broken: it takes part in many computations, and sparsity keeps them apart. The share of
# weight is a rough measure; a small weight may matter.
#
# ## 13. The paper beside this run
# %% experiment=True
plateau = [i for i in kept_many if abs(D_star[i] - 0.5) < 0.03]
on_plateau, null_plateau = (sum(values[i] for i in plateau) / len(plateau) for values in (shares, null_shares))
by_luck = by_chance[-SEEDS_MANY:].max(-1).values.mean()
together, alone, never = opposite[:, :6].mean(-1).tolist()
top = {name: int(mask[-1, :5].sum()) for name, mask in kept.items()}  # at the sparsest level
count = {name: int(mask[-1].sum()) for name, mask in kept.items()}
D_here, D_null = (f"{D.mean():.3f}, spread {D.std():.3f}" for D in (trained_D, untrained_D))
table = [
    ("finding", "paper", "this run", "null"),
    ("linear model: kept of the top 5", "5", top["linear"], f"{top['linear, shuffled']}, importance shuffled"),
    ("ReLU, sparsest: features in 5 dimensions", "above 5", count["ReLU"], f"{count['linear']}, linear model"),
    ("D in the pentagon", "2/5 each", D_here, f"{D_null}, untrained"),
    ("pentagon to digons: times rarer", "about 2.5", crossing, f"in this order {same_order:.1%}, shapes shuffled"),
    ("D on a fraction, while D* is near 1/2", "sticky", f"{on_plateau:.0%}", f"{null_plateau:.0%}, random directions"),
    ("anticorrelated pairs opposite", "all", f"{never:.0%}", f"{alone:.0%}, independent"),
    ("correlated pairs opposite", "none", f"{together:.0%}", f"{alone:.0%}, independent"),
    ("theory right on the phase diagram", "mostly", f"{agreement['ReLU']:.0%}", f"{chance.mean():.0%}, shuffled"),
    ("worst attack, densest", "1", f"{worst[:SEEDS_MANY].mean():.1f}", ""),
    ("worst attack, sparsest", "above 3", f"{worst[-SEEDS_MANY:].mean():.1f}", f"{by_luck:.1f}, random directions"),
    ("|x|, sparsest: variance left", "", f"{left['trained'][-1]:.0%}", f"{left['random W_in'][-1]:.0%}, random W_in"),
]
for what, paper, here, null in table:
    print(f"{what:<42} {paper:<10} {here!s:<20} {null}")
# %% [markdown]
# The paper has no figure for the last line: it shows neurons that become polysemantic. One line differs: our pentagon
# holds out longer against the digons than the paper's "about 2.5". Both keep the lowest loss of several runs; we do
# not know which detail of the training makes the difference.
# %% [markdown]
# ## Bonus (not graded)
#
# 1. Train 3 sets of 2 correlated features in 2 dimensions from dense to sparse: when do the two become one direction?
# 2. n = 3, m = 2: which candidates are there, and what does each cost?
# 3. Train on attacked inputs. How strong must attacks be before superposition goes?
# %% [markdown]
# ## Recap
#
# | confusion | what holds |
# |---|---|
# | "Superposition needs a ReLU in the middle" | here the ReLU is at the end; it filters interference |
# | "More features than dimensions means superposition" | the linear model simply drops the rest |
# | "Superposition is polysemantic neurons" | neurons need a ReLU: section 12 has them, section 3 has only dimensions |
# | "D counts features" | D is the share of a dimension that one feature has |
# | "The model found the best shape" | a seed finds some shape: look at the losses of many |
#
# Read on: Elhage et al., *Toy Models of Superposition* (2022), source of the figures above; Scherlis et al.,
# *Polysemanticity and Capacity in Neural Networks* (2022); Bricken et al., *Towards Monosemanticity* (2023): taking
# superposition apart, as you will in notebook 5.5.
