# %% [markdown]
# # 4.2 What features are
#
# *"This neuron detects countries." "Years are a direction." "The dictionary found the feature."* Each says what a
# feature **is**: a neuron, a direction, a latent of a dictionary. Each is a guess about a model, and models can
# contradict it.
#
# ![Six things a feature may be, and what tests each](figures/4.2_what_a_feature_may_be.svg)
#
# One question all along: *what is a feature, and how would you know?* Six answers, each with an experiment and what the
# same experiment gives where there is nothing to find.
# %% generated="overview"
# %% setup=True
import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens import utilities as utils

from concrete_steps import concepts, corpus, evidence, models, plot
# %% [markdown]
# ## The words
#
# Twelve concepts, about 17 words each, shown to SmolLM2-135M-Instruct (unpacked from 4-bit weights) at the end of three
# short texts. What is independent is a word: everything is averaged over the texts.
# %%
CONCEPTS = {
    "times": """Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February
        April June July August September October November December""",
    "numbers": """two three four five six seven eight nine ten eleven twelve twenty thirty
        forty fifty hundred thousand million""",
    "colours": """red blue green yellow white black brown pink purple orange grey silver
        golden violet scarlet""",
    "names": """Anna Mark Mary John Tom Peter Alice Paul Sarah James David Emma Simon Laura
        George Robert Helen Martin""",
    "animals": """dog cat horse cow pig sheep goat lion tiger bear wolf fox mouse rabbit snake
        bird fish elephant monkey duck""",
    "countries": """France Germany Italy Spain Portugal Greece Turkey Russia China Japan India
        Brazil Mexico Canada Egypt Kenya Poland Sweden Norway Chile""",
    "foods": """bread cheese butter milk rice soup cake honey apple banana lemon potato onion
        tomato salt sugar pepper meat egg""",
    "body": """head arm leg hand foot eye ear nose mouth neck knee shoulder finger heart lung
        brain skin bone stomach""",
    "jobs": """doctor teacher lawyer farmer nurse engineer soldier judge artist writer singer
        driver baker painter scientist dentist""",
    "feelings": """happy sad angry afraid proud jealous nervous calm lonely curious bored
        grateful ashamed excited anxious""",
    "tools": "hammer saw knife axe rope nail needle shovel ladder wheel brush scissors",
    "places": """school hospital church park station office museum library market garden
        kitchen bridge castle farm hotel""",
}
WORDS = [word for words in CONCEPTS.values() for word in words.split()]
concept_of = torch.tensor([i for i, its in enumerate(CONCEPTS.values()) for _ in its.split()])
TEXTS = ["They often talked about", "The next word is", "He asked me about"]
LAYER = 12
smol = models.smollm2()


@torch.no_grad()
def at_words(
    words: list[str], hook: str, texts: list[str] = TEXTS
) -> Float[Tensor, "word width"]:
    """What the hook holds at each word, after each of the texts, averaged over them."""
    ids = torch.tensor([smol.to_single_token(" " + word) for word in words])[:, None]
    found, after = [], int(hook.split(".")[1]) + 1
    for text in texts:
        rows = torch.cat([smol.to_tokens(text).expand(len(words), -1), ids], dim=1)
        _, cache = smol.run_with_cache(rows, names_filter=hook, stop_at_layer=after)
        found.append(cache[hook][:, -1])
    return torch.stack(found).mean(0)


neurons = at_words(WORDS, utils.get_act_name("post", LAYER))
print(f"{len(WORDS)} words of {len(CONCEPTS)} concepts;", end=" ")
print(f"{neurons.shape[1]} neurons of layer {LAYER}")
# %% [markdown]
# ## 1. A neuron?
#
# Take a neuron's strongest words and you have its feature; so it seems. Notebook 3.3 tested a label at one threshold.
# But a neuron is not on or off: later layers read its weak activations as well. So ask at *every* level.
# %% exercise="label_by_level" points=2 difficulty=2 minutes=10
def label_by_level(
    acts: Float[Tensor, "word"], label: Bool[Tensor, "word"], edges: list[float]
) -> Float[Tensor, "level"]:
    """Where a neuron's activation, as a share of its largest, lies in
    [edges[i], edges[i + 1]): which share of these words has the label? One number for each
    two neighbouring edges.

    The largest activation (which is above 0) belongs to the last level, whose upper edge
    is 1. nan for a level in which no word lies.
    """
    ### BEGIN SOLUTION
    share = acts / acts.max()
    levels = []
    for i, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        here = (share >= low) & (share < high)
        if i == len(edges) - 2:
            here |= share >= 1
        levels.append(label[here].float().mean())  # of nothing: nan
    return torch.stack(levels)
    ### END SOLUTION
# %% check="label_by_level"
# %% [markdown]
# **Predict**: the nine strongest words of neuron 1174 are all countries. Between a quarter and half of its largest
# activation, which share of the words are countries: nearly all, half, or under a tenth?
#
# <details><summary>Answer</summary>
#
# Under a tenth; and of the words between half and three quarters a sixth, beside foods and names: a **polysemantic**
# neuron.
#
# </details>
# %% experiment=True
NEURON, EDGES = 1174, [0.1, 0.25, 0.5, 0.75, 1.0]
NAMES = list(CONCEPTS)
order = neurons[:, NEURON].argsort(descending=True).tolist()
print("strongest:", ", ".join(WORDS[i] for i in order[:10]))
print("and then: ", ", ".join(WORDS[i] for i in order[10:22]))
top = concept_of[neurons.topk(6, dim=0).indices]  # [6 neuron]
sure = (top == top[0]).all(0).nonzero()[:, 0].tolist()  # six strongest words of one concept


def levels_of(neuron: int, labels: Int[Tensor, "word"]) -> Float[Tensor, "level"]:
    return label_by_level(neurons[:, neuron], labels == top[0, neuron], EDGES)


own = levels_of(NEURON, concept_of)
all_sure = torch.stack([levels_of(neuron, concept_of) for neuron in sure])
generator = torch.Generator().manual_seed(0)


def six_kept(neuron: int) -> Int[Tensor, "word"]:
    """The null, chosen in the same way: labels shuffled, but for the six strongest words."""
    labels, rest = concept_of.clone(), neurons[:, neuron].argsort()[:-6]
    labels[rest] = labels[rest[torch.randperm(len(rest), generator=generator)]]
    return labels


by_chance = torch.stack([levels_of(neuron, six_kept(neuron)) for neuron in sure])


def by_concept(levels: Float[Tensor, "neuron level"], level: int) -> Float[Tensor, "concept"]:
    """Means over the neurons of each concept, which share its words: concepts count."""
    of = top[0, sure]
    means = torch.stack([levels[of == c, level].nanmean() for c in of.unique()])
    return means[~means.isnan()]


print("share of countries, lowest level first:", ", ".join(f"{share:.2f}" for share in own))
kinds = top[0, sure].bincount(minlength=len(NAMES))
print(f"{len(sure)} neurons whose six strongest words are of one concept:", end=" ")
print(", ".join(f"{name} {count}" for name, count in zip(NAMES, kinds, strict=True) if count))
for i in range(4):
    holds, null = by_concept(all_sure, i), by_concept(by_chance, i)
    more = evidence.difference(holds, null, paired=True)
    print(f"  {EDGES[i]:.2f} to {EDGES[i + 1]:.2f} of the largest: label holds", end=" ")
    print(f"{evidence.interval(holds):.2f}, null {null.mean():.2f}, more by {more:.2f}")
plot.bar(
    {
        f"neuron {NEURON}, {NAMES[top[0, NEURON]]}": own,
        f"{len(sure)} neurons, mean": all_sure.nanmean(0),
        "shuffled, but for the six": by_chance.nanmean(0),
    },
    x=[f"{low:.2f} to {high:.2f}" for low, high in zip(EDGES[:-1], EDGES[1:], strict=True)],
    x_label="activation, as a share of the neuron's largest",
    y_label="share of words with the label",
    title="A label of the strongest words, level by level",
)
# %% [markdown]
# Most words of the top level are those that chose the label: with all *others* shuffled it fits there nearly as well,
# so its fit says little. Below half of the largest it holds for a minority, if more often than in the null (of neuron
# 1174 it falls off sooner than on average). The neuron is not *for* countries; countries are what moves it most.
#
# ## 2. An axis of a privileged basis?
#
# Perhaps one neuron is a poor detector, yet neurons are still better than other directions: the nonlinearity acts on
# them one by one (1.2). A claim with a null: **rotate** the same activations, and let the null choose its best axis,
# too.
# %%
def auroc(
    acts: Float[Tensor, "word axis"], label: Bool[Tensor, "word"]
) -> Float[Tensor, "axis"]:
    """How often a word with the label has more than one without (ties: half), by axis."""
    more = acts[label][:, None] - acts[~label][None]
    return ((more > 0).double() + 0.5 * (more == 0).double()).mean((0, 1))
# %% exercise="best_axis" points=2 difficulty=3 minutes=10
def best_axis(
    acts: Float[Tensor, "word axis"],
    label: Bool[Tensor, "word"],
    new_acts: Float[Tensor, "new axis"],
    new_label: Bool[Tensor, "new"],
) -> float:
    """The auroc, on new words, of the axis that tells the label best on the first ones.

    An axis may tell it by being low: then it is turned round, on the new words as well (so
    that the result may be below .5 there).
    """
    ### BEGIN SOLUTION
    found = auroc(acts, label)
    best = int((found - 0.5).abs().argmax())
    on_new = float(auroc(new_acts[:, best : best + 1], new_label)[0])
    return on_new if found[best] >= 0.5 else 1 - on_new
    ### END SOLUTION
# %% check="best_axis"
# %% [markdown]
# **Predict**: the best of 1536 neurons for a concept, on unseen words, against the best of 1536 axes of a rotated
# space: by far better, by some hundredths, or not at all? And a difference of means?
#
# <details><summary>Answer</summary>
#
# By some hundredths in layers 4 and 8, with intervals that end about at 0; by nothing in 12 and 18. A direction that
# need not be an axis is better everywhere.
#
# </details>
# %% experiment=True
LAYERS, SPLITS = [4, 8, 12, 18], 8  # each split of the words with a rotation of its own
orders = [torch.randperm(len(WORDS), generator=generator) for _ in range(SPLITS)]
squares = torch.randn(SPLITS, neurons.shape[1], neurons.shape[1], generator=generator)
rotations = torch.linalg.qr(squares).Q
told = {}
for layer in LAYERS:
    acts = at_words(WORDS, utils.get_act_name("post", layer))
    scores = torch.zeros(3, SPLITS, len(CONCEPTS))
    for i in range(SPLITS):
        first, second = orders[i].chunk(2)
        turned = (acts - acts.mean(0)) @ rotations[i]
        for concept in range(len(CONCEPTS)):
            yes, new = (concept_of[half] == concept for half in (first, second))
            direction = acts[first][yes].mean(0) - acts[first][~yes].mean(0)
            scores[0, i, concept] = best_axis(acts[first], yes, acts[second], new)
            scores[1, i, concept] = best_axis(turned[first], yes, turned[second], new)
            scores[2, i, concept] = auroc((acts[second] @ direction)[:, None], new)[0]
    told[layer] = its = dict(
        zip(["neurons", "rotated", "direction"], scores.mean(1), strict=True)
    )
    gain = evidence.difference(its["neurons"], its["rotated"], paired=True)
    over = evidence.difference(its["direction"], its["neurons"], paired=True)
    means = ", ".join(f"{name} {evidence.interval(row):.2f}" for name, row in its.items())
    print(f"layer {layer:>2}: {means}")
    print(f"          neurons less rotated {gain:+.2f}; a direction less neurons {over:+.2f}")
plot.bar(
    {name: [told[layer][name].mean() for layer in LAYERS] for name in told[LAYER]},
    x=[str(layer) for layer in LAYERS],
    x_label="layer",
    y_label="auroc on unseen words",
    title="The best neuron, the best rotated axis, and a direction",
)
# %% [markdown]
# Concepts can be read, and from a direction better than from the axis that was best on the first words. Early neurons
# may lead rotated axes by a little: the intervals end at 0. That an axis is privileged for the *nonlinearity* does not
# make it the unit of meaning. (Twelve concepts, words alone.)
#
# ## 3. One dimension each?
#
# If a feature is a direction, there is no need for one dimension each: 8,192 directions fit into 576 dimensions if they
# interfere little and few are on at once. That is **superposition**. SmolLM2 does it from the start: each token has a
# direction, its embedding. Add up k of them. Can you tell which?
# %% exercise="read_back" points=2 difficulty=2 minutes=10
def read_back(
    directions: Float[Tensor, "feature d"], on: Int[Tensor, "row k"]
) -> Float[Tensor, "row"]:
    """The unit directions of the k features of a row are added up. Each feature is then read
    by the dot product with its direction, and the k largest are named: which share of the
    features that were on is among them, for each row?
    """
    ### BEGIN SOLUTION
    streams = directions[on].sum(1)
    named = (streams @ directions.T).topk(on.shape[1], dim=1).indices
    return (named[:, :, None] == on[:, None, :]).any(1).float().mean(1)
    ### END SOLUTION
# %% check="read_back"
# %% [markdown]
# **Predict**: of 8,192 tokens, 8 are on: how many of the 8 are named? With 8,192 *random* directions all are. And of
# 64?
#
# <details><summary>Answer</summary>
#
# Over three quarters of 8, a quarter of 64. Random directions interfere less: the embeddings do not use the
# 576 dimensions evenly, and similar tokens lie close.
#
# </details>
# %% experiment=True
def unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


generator = torch.Generator().manual_seed(1)
drawn = 100 + torch.randperm(49_000, generator=generator)[:8192]
embedded = smol.W_E.detach()[drawn]
embedded = embedded - embedded.mean(0)
_, sizes, axes = torch.linalg.svd(unit(embedded), full_matrices=False)
normal = torch.randn(8192, 576, generator=generator)
sets = {
    "token embeddings": unit(embedded),
    "random, as uneven": unit(normal * sizes @ axes),
    "random": unit(normal),
}
COUNTS = [1, 2, 4, 8, 16, 32, 64, 128]
named = {name: [] for name in sets}
for k in COUNTS:
    on = torch.rand(32, 8192, generator=generator).topk(k, dim=1).indices
    for name, directions in sets.items():
        named[name].append(evidence.interval(read_back(directions, on)))
used = (sizes.square().sum() ** 2 / sizes.pow(4).sum()).item()
print(f"the embeddings spread over the 576 dimensions as if over {used:.0f} evenly")
for k, *row in zip(COUNTS, *named.values(), strict=True):
    said = "; ".join(f"{name} {value:.2f}" for name, value in zip(named, row, strict=True))
    print(f"{k:>4} on: {said}")
plot.line(
    {name: [its.value for its in row] for name, row in named.items()},
    x=COUNTS,
    log_x=True,
    x_label="tokens that are on at once",
    y_label="share read back",
    title="8192 features in 576 dimensions",
).update_xaxes(tickvals=COUNTS, minor_ticks="")
# %% [markdown]
# Fourteen features a dimension, nearly all readable *while few are on*: how many are on at once is what is limited.
# From 16 on, most of the loss comes with uneven use: random directions with the same spectrum read back little better.
# (How a model *learns* this is 5.2.)
#
# ## 4. A direction?
#
# So is a feature one direction? The months have an order: is there a direction along which they grow? Twelve points in
# 576 dimensions can be put in *any* order by some direction. So leave each word out, and ask where the others place it.
# %% exercise="left_out" points=2 difficulty=3 minutes=12
def left_out(
    points: Float[Tensor, "n d"], code: Float[Tensor, "n k"], ridge: float
) -> Float[Tensor, "n k"]:
    """The code of each point as foretold from the others alone: ridge regression with the
    n - 1 other points and their codes.

    Points and codes are centred on the mean of the n - 1; with X and Y these centred ones,
    the weights are X^T (X X^T + ridge m I)^-1 Y, where m is the mean of X X^T's diagonal.
    """
    ### BEGIN SOLUTION
    foretold = []
    for i in range(len(points)):
        others = torch.arange(len(points)) != i
        mean, mean_code = points[others].mean(0), code[others].mean(0)
        x = points[others] - mean
        kernel = x @ x.T
        eye = torch.eye(len(x), dtype=x.dtype)
        weights = x.T @ torch.linalg.solve(
            kernel + ridge * kernel.diagonal().mean() * eye, code[others] - mean_code
        )
        foretold.append((points[i] - mean) @ weights + mean_code)
    return torch.stack(foretold)
    ### END SOLUTION
# %% check="left_out"
# %% [markdown]
# ### Does it close?
#
# A circle has two codes, $\cos$ and $\sin$ of the place; an angle is read from both. But a bent line suits a circle's
# codes as well. What tells them apart are the ends: does the first come after the last?
# %% exercise="closing" points=1 difficulty=2 minutes=6
def closing(points: Float[Tensor, "n d"]) -> float:
    """How far the last point is from the first, in mean steps: their distance over the mean
    distance of neighbours (the step from the last to the first not counted).
    """
    ### BEGIN SOLUTION
    steps = (points[1:] - points[:-1]).norm(dim=1)
    return ((points[-1] - points[0]).norm() / steps.mean()).item()
    ### END SOLUTION
# %% check="closing"
# %% [markdown]
# **Predict**: a month left out of twelve: how far off is its place, foretold along one direction, and on a circle? And
# which of months, days, number words and ordinals close?
#
# <details><summary>Answer</summary>
#
# Along one direction nearly two months, on the circle a third of one (shuffled: over three). Months close: another
# of their gaps is wider. Number words and ordinals do not: their circle's codes do well too, but last and first are
# nearly two steps apart. Days are between: Sunday to Monday is the widest of their gaps, if by little.
#
# </details>
# %% experiment=True
ORDERS = {
    "months": """January February March April May June July August September October November
        December""",
    "days": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "number words": "one two three four five six seven eight nine ten eleven twelve",
    "ordinals": "first second third fourth fifth sixth seventh eighth ninth tenth",
}


def steps_off(points: Float[Tensor, "n d"], circle: bool) -> Float[Tensor, "n"]:
    """How many steps off each left-out point is, the short way round in both cases."""
    n = len(points)
    place = torch.arange(n, dtype=points.dtype)
    angle = 2 * math.pi * place / n
    code = torch.stack([angle.cos(), angle.sin()], 1) if circle else place[:, None]
    said = left_out(points, code, ridge=0.1)
    said = torch.atan2(said[:, 1], said[:, 0]) * n / (2 * math.pi) if circle else said[:, 0]
    off = (said - place) % n
    return torch.minimum(off, n - off)


streams = {
    name: at_words(words.split(), utils.get_act_name("resid_post", 10), ["It was"]).double()
    for name, words in ORDERS.items()
}
placed, closes = {}, {name: closing(points) for name, points in streams.items()}
for name, points in streams.items():
    orders = [torch.randperm(len(points), generator=generator) for _ in range(40)]
    for circle in (False, True):
        null = torch.stack([steps_off(points[its], circle).mean() for its in orders])
        placed[name, circle] = evidence.interval(steps_off(points, circle)), null
        off, kind = placed[name, circle][0], "circle" if circle else "line"
        print(f"{name:>12}, {kind:>6}: {off:.2f} steps off;", end=" ")
        print(f"shuffled {null.mean():.2f}, least {null.min():.2f}")
    null = torch.tensor([closing(points[its]) for its in orders])
    gaps = [closing(points.roll(cut, 0)) for cut in range(1, len(points))]  # cut elsewhere
    print(f"{name:>12}: last to first {closes[name]:.2f} steps;", end=" ")
    print(f"its other gaps at most {max(gaps):.2f}; shuffled {null.mean():.2f}")
months = streams["months"] - streams["months"].mean(0)
flat = months @ torch.linalg.svd(months, full_matrices=False).Vh[:2].T
plot.scatter(
    flat[:, 0],
    flat[:, 1],
    text=ORDERS["months"].split(),
    x_label="first principal component",
    y_label="second principal component",
    title="The months in SmolLM2's stream, after layer 10",
)
# %% [markdown]
# ### What it shows
#
# The months' order lies on a circle better than along a direction (Engels et al. 2024 find such circles *used* in
# modular arithmetic; here we only read). A direction misses most at its two ends, which the other points pull inwards,
# and so it does on open curves: the ends decide between them. A shuffled order closes as well, all distances being
# alike then: closing says something only after the order was shown.
#
# **Nine words: a left-out one is placed half a step off by a circle's codes (shuffled 2.1), and last and first are 2.6
# mean steps apart. What are they?**
# (a) an ordered curve that does not close; (b) a circle; (c) without order: 2.6 is above what shuffled ones have
# %% exercise="answer_curve" points=1 difficulty=2 minutes=3
answer_curve = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_curve = "a"
### END SOLUTION
# %% check="answer_curve"
# %% [markdown]
# ## 5. What a dictionary finds?
#
# If features are directions in superposition, a **sparse autoencoder** may find them: latents that are seldom on, each
# with a direction, which together rebuild the activation. To judge it we need data whose features are known. Ours are a
# hierarchy: 4 parents (*animal*), each with 3 children (*dog*, *cat*, *cow*): a child is on only where its parent is.
# Null: the same, but children ignore their parents.
# %%
PARENTS, CHILDREN, WIDTH, SEEDS = 4, 3, 24, 4


def draw_features(n: int, tied: bool, generator) -> Bool[Tensor, "seed n feature"]:
    """Parents first, then the children of each."""
    parents = torch.rand(SEEDS, n, PARENTS, generator=generator) < 0.2
    other = torch.rand(SEEDS, n, PARENTS, generator=generator) < 0.2
    which = torch.randint(CHILDREN + 1, (SEEDS, n, PARENTS, 1), generator=generator)
    children = (which == torch.arange(CHILDREN)) & (parents if tied else other)[..., None]
    return torch.cat([parents, children.flatten(-2)], dim=-1)


def learn_dictionary(latents: int, tied: bool, steps: int = 900):
    """A sparse autoencoder for each of SEEDS: which latents are on, [seed row latent], for
    4000 rows, their unit directions, the features of these rows, and the true directions."""
    generator = torch.Generator().manual_seed(0)
    count = PARENTS * (1 + CHILDREN)
    square = torch.randn(SEEDS, WIDTH, WIDTH, generator=generator)
    true = torch.linalg.qr(square).Q[:, :count]
    decoder = torch.randn(SEEDS, latents, WIDTH, generator=generator)
    decoder = (decoder / decoder.norm(dim=-1, keepdim=True)).requires_grad_()
    encoder = decoder.detach().mT.clone().requires_grad_()
    bias = torch.zeros(SEEDS, 1, latents, requires_grad=True)
    optimiser = torch.optim.Adam([decoder, encoder, bias], lr=8e-3)
    for _ in range(steps):
        x = draw_features(256, tied, generator).float() @ true
        acts = (x @ encoder + bias).relu()
        rebuilt = acts @ (decoder / decoder.norm(dim=-1, keepdim=True))
        wrong, active = (rebuilt - x).square().sum(-1), acts.sum(-1)
        loss = (wrong + 0.08 * active).mean(1).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        features = draw_features(4000, tied, generator)
        fires = (features.float() @ true @ encoder + bias).relu() > 0.1
        return fires, decoder / decoder.norm(dim=-1, keepdim=True), features, true
# %% [markdown]
# ### A latent with a hole
#
# **Feature absorption** (Chanin et al. 2024): a latent looks like *animal*, on for every animal, except where *dog* is
# on, as the dog's latent has taken *animal* into its own direction. One latent less is on, which is what the loss
# wants.
# %% exercise="absorbed" points=2 difficulty=3 minutes=12
def absorbed(
    fires: Bool[Tensor, "row latent"], parent: Bool[Tensor, "row"], child: Bool[Tensor, "row"]
) -> tuple[float, float]:
    """How often the parent's latent is on where the parent is on: without the child, and
    with it.

    The parent's latent is the one whose share of rows, where the parent is on without the
    child, is furthest above its share of rows where the parent is off.
    """
    ### BEGIN SOLUTION
    alone = fires[parent & ~child].float().mean(0)
    latent = (alone - fires[~parent].float().mean(0)).argmax()
    return alone[latent].item(), fires[parent & child][:, latent].float().mean().item()
    ### END SOLUTION
# %% check="absorbed"
# %% [markdown]
# **Predict**: 4, 16 or 32 latents for 16 features. At which sizes is the parent's latent on where a child is? At which
# does a child have a latent along its own direction?
#
# <details><summary>Answer</summary>
#
# With 4, always: it stands for the whole family. With 16 and 32 the parent's latent is hardly ever on where a child
# is. No child's latent lies along the child: they lie along *parent and child*. One feature was **split** into four.
#
# </details>
# %% experiment=True
found = {}
for tied in (True, False):
    for latents in (4, 16, 32):
        fires, learnt, features, true = learn_dictionary(latents, tied)
        rates, alike, both, split = [], [], [], []
        for seed in range(SEEDS):
            on, cosines = features[seed], (true[seed] @ learnt[seed].T).max(1).values
            alike.append(cosines[PARENTS:].mean().item())
            families, latents_of = [], []
            for parent in range(PARENTS):
                its = slice(PARENTS + parent * CHILDREN, PARENTS + (parent + 1) * CHILDREN)
                any_child = on[:, its].any(1)
                families.append(absorbed(fires[seed], on[:, parent], any_child))
                pairs = (true[seed, its] + true[seed, parent]) / 2**0.5
                both.append((pairs @ learnt[seed].T).max(1).values.mean().item())
                # latents that are on mostly where this parent is, and not too seldom
                share = fires[seed][on[:, parent]].float().mean(0)
                elsewhere = fires[seed][~on[:, parent]].float().mean(0)
                latents_of.append(((share > 0.1) & (elsewhere < 0.02)).sum().item())
            rates.append(torch.tensor(families).mean(0).tolist())
            split.append(sum(latents_of) / PARENTS)
        alone, together = (evidence.interval(its) for its in zip(*rates, strict=True))
        found[latents, tied] = alone, together, evidence.interval(split)
        cosine, pair = evidence.interval(alike), sum(both) / len(both)
        data = "hierarchy" if tied else "no hierarchy"
        print(f"{data:>12}, {latents:>2} latents:", end=" ")
        print(f"parent's latent on, alone {alone:.2f}, with a child {together:.2f};")
        print(f"{'':>14}cosine with the child {cosine:.2f}, with child + parent {pair:.2f};")
        print(f"{'':>14}latents of one family {found[latents, tied][2]:.1f}")
# %% [markdown]
# With children that ignore their parents and 16 latents, the same autoencoder finds every feature. So this is not a
# badly trained dictionary: with a hierarchy, the objective prefers another answer to ours. Parent and child as two
# latents of size 1 cost $.08 \cdot 2$; as one, along both, $.08 \sqrt 2$. And what it finds depends on its size.
# "The latent is on" and "the feature is on" are two claims; a latent that reads well may have such holes.
#
# ## 6. What every model has?
#
# A last hope: a feature is what *different* models find. Do models agree on words? Compare which words lie close in one
# model with which do in another; a common basis is not needed.
# %% exercise="geometry_agreement" points=2 difficulty=2 minutes=10
def geometry_agreement(a: Float[Tensor, "word d"], b: Float[Tensor, "word e"]) -> float:
    """How alike two models place the same words: in each, the cosines of all pairs of
    different words, after the mean over words was taken off; then the correlation of the two
    lists.
    """
    ### BEGIN SOLUTION
    lists = []
    for words in (a, b):
        words = words - words.mean(0)
        words = words / words.norm(dim=1, keepdim=True)
        pairs = torch.ones(len(words), len(words), dtype=torch.bool).triu(1)
        lists.append((words @ words.T)[pairs])
    return torch.corrcoef(torch.stack(lists))[0, 1].item()
    ### END SOLUTION
# %% check="geometry_agreement"
# %% [markdown]
# The matched null: two models may agree on *frequent* against *rare* alone. So words change places only among words
# that are as frequent.
# %% exercise="shuffle_within" points=1 difficulty=2 minutes=8
def shuffle_within(groups: Int[Tensor, "word"], seed: int) -> Int[Tensor, "word"]:
    """A random order of the words, in which each place has a word of the group that it had:
    groups[order] equals groups. Each such order is equally likely; it is drawn from a
    generator of its own, with this seed.
    """
    ### BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    order = torch.arange(len(groups))
    for group in groups.unique():
        places = (groups == group).nonzero()[:, 0]
        order[places] = places[torch.randperm(len(places), generator=generator)]
    return order
    ### END SOLUTION
# %% check="shuffle_within"
# %% [markdown]
# **Predict**: the embeddings of two trained models of the course, `attn_only_1l` and `attn_only_2l`, agree by .96. Both
# start from the same seed. What is the agreement of one of them with the *untrained* other?
#
# <details><summary>Answer</summary>
#
# .95. They agree since they began alike and hardly moved. The unembeddings did not begin alike, and moved: they
# show what training agrees on.
#
# </details>
# %% experiment=True
TRAINED = ["attn_only_1l", "attn_only_2l", "story_lm"]
their = {name: models.load(name) for name in TRAINED}
their["untrained 1l"] = models.load("attn_only_1l", step=0)
their["untrained 2l"] = models.load("attn_only_2l", step=0)
their["untrained lm"] = models.load("story_lm", step=0)
times = torch.bincount(corpus.batch(300, 60, corpus.HELD_OUT).flatten(), minlength=333)
words = (times >= 10).nonzero()[:, 0]
words = words[words > 3]
groups = torch.empty_like(words)
groups[times[words].argsort()] = torch.arange(len(words)) // 10  # ten that are as frequent
agreements = {}
for part in ("embedding", "unembedding"):
    placed_by = {
        name: (model.W_E if part == "embedding" else model.W_U.T).detach()[words]
        for name, model in their.items()
    }
    pairs = [
        ("attn_only_1l", "attn_only_2l"),
        ("attn_only_1l", "untrained 2l"),
        ("attn_only_1l", "story_lm"),
        ("attn_only_2l", "story_lm"),
        ("attn_only_2l", "untrained lm"),
        ("untrained 1l", "untrained 2l"),
    ]
    for a, b in pairs:
        null = [
            geometry_agreement(placed_by[a], placed_by[b][shuffle_within(groups, seed)])
            for seed in range(20)
        ]
        value = geometry_agreement(placed_by[a], placed_by[b])
        agreements[part, a, b] = evidence.against_null(value, null)
        print(f"{part:>11}, {a} and {b}: {agreements[part, a, b]:.2f}")
plot.bar(
    {
        part: [agreements[part, a, b].value for a, b in pairs]
        for part in ("embedding", "unembedding")
    },
    x=[f"{a}, {b}".replace("attn_only_", "").replace("untrained", "new") for a, b in pairs],
    x_label="two models (1l, 2l: attn_only; lm: story_lm; new: untrained)",
    y_label="agreement",
    title="Do models place words alike?",
)
# %% [markdown]
# Two nulls are needed. Shuffled words say that the agreement is about words; the untrained model, that it came from
# training. The first alone would have sold a shared seed as a law of nature. (.01 with a small p is still .01.)
# What is left, of a GPT-2 with MLPs (`story_lm`) and an attention-only model, trained on the same stories, is far from
# 1: universal in part.
#
# **Two models of different seeds agree by .45 on words; shuffled .05, untrained .04. Which claim stands?**
# (a) they have the same features; (b) their features differ, since .45 is below 1; (c) training brings them to
# place words partly alike
# %% exercise="answer_universal" points=1 difficulty=2 minutes=3
answer_universal = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_universal = "c"
### END SOLUTION
# %% check="answer_universal"
# %% [markdown]
# ## 7. Open task: how is it held?
#
# Activations nobody has seen, and a concept with ordered values. Is it held by a neuron, a direction, an arc, a
# circle, or not at all? Size, noise and the neurons' means are drawn alike for all. In each set something is held in
# every way, and other neurons are loud: only which of these goes with the *value* differs. There are few rows: where
# nothing is held, a good part of any code is still explained on the rows that it was fitted to. Nine of ten must be
# named rightly.
#
# <details><summary>Hint</summary>
#
# Two codes on held-out rows: the value itself, and $\cos$ of $2 \pi (v + \frac{1}{2}) / n$, which is high at both ends
# and unrelated to a straight line. Then the ends, from mean activations of each value.
#
# </details>
# %%
for kind, means in concepts.KINDS.items():
    print(f"{kind!r}: {means}")
example = concepts.concept("arc", seed=0)
rows, width = example.acts.shape
print(f"{rows} rows, {width} neurons, {example.n_values} values")
# %% exercise="find_kind" points=5 difficulty=5 minutes=45
def find_kind(concept: concepts.Concept) -> str:
    """Which of concepts.KINDS it is."""
    ### BEGIN SOLUTION
    acts, value, n = concept.acts.double(), concept.value, concept.n_values
    half = torch.zeros(len(value), dtype=torch.bool)
    for v in range(n):  # half of the rows of each value
        rows = (value == v).nonzero()[:, 0]
        half[rows[: len(rows) // 2]] = True
    angle = 2 * math.pi * (value.double() + 0.5) / n
    codes = torch.stack([value.double() - (n - 1) / 2, angle.cos()], 1)

    def explained(fit: Tensor) -> Float[Tensor, "2"]:
        """Share of each code's variance that is foretold on the other rows."""
        x, mean = acts[fit] - acts[fit].mean(0), codes[fit].mean(0)
        ridge = 10 * torch.eye(x.shape[1])
        weights = torch.linalg.solve(x.T @ x + ridge, x.T @ (codes[fit] - mean))
        left = codes[~fit] - mean - (acts[~fit] - acts[fit].mean(0)) @ weights
        return 1 - left.square().sum(0) / (codes[~fit] - mean).square().sum(0)

    line, fold = ((explained(half) + explained(~half)) / 2).tolist()
    if max(line, fold) < 0.25:
        return "nothing"
    if fold < 0.25:
        r = torch.corrcoef(torch.cat([codes[:, :1], acts], dim=1).T)[0, 1:]
        return "neuron" if r.abs().max() > 0.79 else "direction"
    # Squared distances of values' means, without the noise: one difference from each half.
    a, b = (
        torch.stack([acts[its & (value == v)].mean(0) for v in range(n)])
        for its in (half, ~half)
    )

    def apart(i: int, j: int) -> float:
        return ((a[i] - a[j]) @ (b[i] - b[j])).item()

    step = sum(apart(i, i + 1) for i in range(n - 1)) / (n - 1)
    across = [apart(i, i + n // 2) for i in range(n - n // 2)]
    return "circle" if apart(0, n - 1) < (step + sum(across) / len(across)) / 2 else "arc"
    ### END SOLUTION
# %% check="find_kind"
# %% experiment=True
for kind in concepts.KINDS:
    said = [find_kind(concepts.concept(kind, seed)) for seed in range(1, 9)]
    print(f"{kind:>10}: named rightly {said.count(kind)} of {len(said)}")
# %% [markdown]
# ## What was found
#
# Intervals over concepts, draws of tokens, left-out words (which share the other words: trust the shuffled orders
# more) or seeds; a value beside its null.
# %% experiment=True
strong, weak = (evidence.interval(by_concept(all_sure, level)) for level in (3, 1))
strong_null, weak_null = (by_concept(by_chance, level).mean() for level in (3, 1))
eight, eight_random = named["token embeddings"][3], named["random"][3]
on_circle, null_circle = placed["months", True]
on_line, null_line = placed["months", False]
early, late = (
    [evidence.interval(told[layer][name]) for name in ("neurons", "rotated")]
    for layer in (8, 18)
)
closed_ends, open_ends = closes["months"], closes["number words"]
tied_on, free_on = found[16, True][1], found[16, False][1]
closing_table = [
    ("1 label at the top level", f"{strong:.2f}", "others shuffled", f"{strong_null:.2f}"),
    ("  between .25 and .5", f"{weak:.2f}", "others shuffled", f"{weak_null:.2f}"),
    ("2 best neuron, layer 8", f"{early[0]:.2f}", "rotated", f"{early[1]:.2f}"),
    ("  best neuron, layer 18", f"{late[0]:.2f}", "rotated", f"{late[1]:.2f}"),
    ("3 eight of 8192 read back", f"{eight:.2f}", "random directions", f"{eight_random:.2f}"),
    ("4 months, one direction", f"{on_line:.2f}", "least shuffled", f"{null_line.min():.2f}"),
    ("  months, circle", f"{on_circle:.2f}", "least shuffled", f"{null_circle.min():.2f}"),
    ("  months, last to first", f"{closed_ends:.2f}", "number words", f"{open_ends:.2f}"),
    ("5 parent on, with a child", f"{tied_on:.2f}", "no hierarchy", f"{free_on:.2f}"),
]
for part, a, b, other in [
    ("embedding", *pairs[0], pairs[1]),
    ("unembedding", *pairs[3], pairs[4]),
]:
    value, untrained = agreements[part, a, b], agreements[part, *other]
    names = f"{a[-2:]}, {b[-2:]}"
    row = f"6 {part}s, {names}", f"{value.value:.2f}", "untrained", f"{untrained.value:.2f}"
    closing_table.append(row)
for what, value, null, other in closing_table:
    print(f"{what:<26} {value:<19} {null:<18} {other}")
# %% [markdown]
# ## Bonus (not graded)
#
# 1. After another text, *I have never seen*, are neuron 1174's strongest words still countries alone? Part 2 with one
#    split of the words: how wide is the interval of the neurons' lead? And with more concepts of your own?
# 2. Part 3 with 1,024 and 16,384 random directions: which costs more, four times as many features or four times as
#    many on at once? Which tokens are named in place of the right ones in part 3? Are they similar words?
# 3. Letters of the alphabet in part 4: line, arc, or circle?
# 4. After another text, *They often talked about*, do the days close? How far apart are words three days apart?
# 5. Change the penalty on active latents in part 5 from .08 to .02. Does absorption go away?
# %% [markdown]
# ## Recap
#
# | a feature is | what it explains | what it misses |
# |---|---|---|
# | a neuron | its strongest words | most of its weak activations |
# | an axis | where the nonlinearity acts | a direction that is no axis reads better |
# | a dimension | nothing here: 8192 fit into 576 | sparsity is what counts |
# | a direction | what a probe reads | circles and curves |
# | a dictionary's latent | sparse parts | holes where a child is on; its size decides |
# | what models share | a common part | a shared seed looks the same |
#
# None of the six is *the* definition. A feature is a hypothesis about what varies, how it is held, and what reads it,
# and each comes with a null. "Held" is not "used": for that see 3.6 and 4.3.
#
# Read on: Elhage et al. 2022, *Toy Models of Superposition*; Bricken et al. 2023, *Towards Monosemanticity*; Engels et
# al. 2024, *Not All Language Model Features Are Linear*; Chanin et al. 2024, *A is for Absorption*; Park et al. 2023,
# *The Linear Representation Hypothesis*.