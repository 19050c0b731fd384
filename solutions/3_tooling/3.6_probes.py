# %% [markdown]
# # 3.6 Probes
#
# A **probe** reads a property off a model's activations: is this statement true? is the subject plural? If it can, the
# property is **decodable** there. That is not yet: the model **uses** it. And a probe may read something else, which
# only goes together with the property.
#
# ![A probe reads the stream, a bag of words the words; a push shows whether the answer follows](figures/probe.svg)
#
# You will read truth from SmolLM2, find out what the probe really reads, push along its direction, and then tell used
# from decodable in models that you have not seen.
# %% generated="overview"
# %% setup=True
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens import utilities as utils
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import evidence, facts, models, plot, wired
from concrete_steps.facts import Statement


class Probe(NamedTuple):
    """Says "true" where acts @ direction + bias is above 0."""

    direction: Float[Tensor, "d_model"]
    bias: Float[Tensor, ""]


Fit = Callable[[Float[Tensor, "row d_model"], Bool[Tensor, "row"]], Probe]
Measure = Callable[[Float[Tensor, "row d_vocab"]], Float[Tensor, "row"]]


def says_true(
    probe: Probe, acts: Float[Tensor, "row d_model"]
) -> Bool[Tensor, "row"]:
    return acts @ probe.direction + probe.bias > 0
# %% [markdown]
# ## 1. Statements, and where to read
#
# The statements come in **couples** that swap what is said: so no word tells whether a statement is true.
# %%
capitals = facts.statements("capitals")
for statement in capitals[:4]:
    print(statement)
smol = models.smollm2()
print(smol.to_str_tokens(capitals[0].text))
# %% [markdown]
# The full stop is the last token: only there has the model seen the whole statement. We read the residual stream after
# a layer (`resid_post`). But texts of one batch have different lengths. Four ways to get the last token's activation:
# %% experiment=True
short, long = "The capital of Peru is Lima.", "The capital of Malaysia is Kuala Lumpur."
name = utils.get_act_name("resid_post", 12)


def stream(tokens, **more) -> Float[Tensor, "row pos d_model"]:
    with torch.no_grad():
        return smol.run_with_cache(tokens, names_filter=name, **more)[1][name]


alone = stream(smol.to_tokens(short))[0, -1]
right = smol.to_tokens([short, long], padding_side="right")
left = smol.to_tokens([short, long], padding_side="left")
n = smol.to_tokens(short).shape[1]
mask = (torch.arange(left.shape[1]) >= left.shape[1] - n).long()
mask = torch.stack([mask, torch.ones_like(mask)])
ways = {
    "padded on the right, position -1": stream(right)[0, -1],
    "padded on the right, its own last": stream(right)[0, n - 1],
    "padded on the left, position -1": stream(left)[0, -1],
    "the same, with an attention mask": stream(left, attention_mask=mask)[0, -1],
}
for way, found in ways.items():
    print(f"{way:>34}: off by {(found - alone).norm() / alone.norm():.0%}")
# %% [markdown]
# Padding on the right is harmless to what comes before it (attention is causal), if you look up the right position.
# Padding on the left is not, without a mask: the words attend to it.
#
# <details><summary>Hint</summary>
#
# `model.to_tokens(texts, padding_side="right")`, and each text's own length from `model.to_tokens(text)`. With
# `x[torch.arange(len(x)), last]` each row gives its own position. `run_with_cache(..., stop_at_layer=...)` saves the
# rest of the run.
#
# </details>
# %% exercise="collect_activations" points=2 difficulty=3 minutes=12
def collect_activations(
    model: TransformerBridge, texts: list[str], layers: list[int]
) -> Float[Tensor, "text layer d_model"]:
    """The residual stream after each of the layers, at each text's last token: what you get
    when the text runs alone, after the start token that model.to_tokens puts in front.

    Texts may be of different lengths, and many: no more than 64 of them in one run. No
    gradient is kept.
    """
    ### BEGIN SOLUTION
    tokens = model.to_tokens(texts, padding_side="right")
    last = torch.tensor([model.to_tokens(text).shape[1] - 1 for text in texts])
    names = [utils.get_act_name("resid_post", layer) for layer in layers]
    parts = []
    for first in range(0, len(texts), 32):
        rows = slice(first, first + 32)
        with torch.no_grad():
            _, cache = model.run_with_cache(
                tokens[rows, : last[rows].max() + 1], names_filter=names, stop_at_layer=max(layers) + 1
            )
        stream = torch.stack([cache[name] for name in names], dim=1)  # [row layer pos d_model]
        parts.append(stream[torch.arange(len(stream)), :, last[rows]])
    return torch.cat(parts)
    ### END SOLUTION
# %% check="collect_activations"
# %% [markdown]
# **A colleague pads on the right, and reads position -1 of every text. What do the probes of the shorter texts see?**
# (a) the last token of each text, as attention is causal; (b) a padding token, which has read all of the text; (c) a
# padding token, the same whatever the text is
# %% exercise="answer_padding" points=1 difficulty=2 minutes=3
answer_padding = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_padding = "b"
### END SOLUTION
# %% check="answer_padding"
# %% [markdown]
# ## 2. The simplest probe
#
# Is a statement true? The **mean difference** (also *mass mean*, Marks & Tegmark 2023): the direction from the mean
# of the false to the mean of the true.
#
# A language model's stream has a few numbers far larger than the others (*massive activations*, Sun et al. 2024). So
# that they do not drown the rest, `standardised` brings every number to mean 0 and standard deviation 1 over the rows
# (it does not look at labels).
# %%
LAYERS = list(range(2, 30, 4))


def standardised(
    acts: Float[Tensor, "row *more d_model"],
) -> Float[Tensor, "row *more d_model"]:
    return (acts - acts.mean(0)) / (acts.std(0) + 1e-6)
# %% exercise="mean_difference_probe" points=1 difficulty=2 minutes=6
def mean_difference_probe(
    acts: Float[Tensor, "row d_model"], labels: Bool[Tensor, "row"]
) -> Probe:
    """From the mean of the false rows to the mean of the true ones: the direction (of any
    length); the bias puts 0 half-way between the two means.
    """
    ### BEGIN SOLUTION
    true, false = acts[labels].mean(0), acts[~labels].mean(0)
    direction = true - false
    return Probe(direction, -(true + false) / 2 @ direction)
    ### END SOLUTION
# %% check="mean_difference_probe"
# %% [markdown]
# ### Things that are new
#
# A probe is judged on what it has not seen. But what is *new*? The four statements of France and Italy share all
# their words: one of them in training says something about the others. Whole couples have to be held out.
#
# **Cross-validation** in folds judges every row once, by a probe that was fitted to the other folds.
# %% exercise="group_folds" points=1 difficulty=2 minutes=8
def group_folds(groups: list[str], n_folds: int, seed: int) -> Int[Tensor, "row"]:
    """A fold (0 to n_folds - 1) for each row: all rows of a group are in one fold.

    The numbers of groups in any two folds differ by at most 1. Which groups go together is
    drawn by the seed, whatever their order; the same seed gives the same folds again, in
    another session of Python as well.
    """
    ### BEGIN SOLUTION
    names = sorted(set(groups))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    fold = {names[i]: place % n_folds for place, i in enumerate(order)}
    return torch.tensor([fold[group] for group in groups])
    ### END SOLUTION
# %% check="group_folds"
# %% exercise="held_out_correct" points=1 difficulty=2 minutes=6
def held_out_correct(
    acts: Float[Tensor, "row d_model"],
    labels: Bool[Tensor, "row"],
    folds: Int[Tensor, "row"],
    fit: Fit,
) -> Bool[Tensor, "row"]:
    """Whether each row is called right by the probe that was fitted to all rows of the other
    folds.
    """
    ### BEGIN SOLUTION
    correct = torch.zeros_like(labels)
    for fold in folds.unique():
        here = folds == fold
        probe = fit(acts[~here], labels[~here])
        correct[here] = says_true(probe, acts[here]) == labels[here]
    return correct
    ### END SOLUTION
# %% check="held_out_correct"
# %% [markdown]
# **128 statements are split at random, row by row. Which rows of the test are as good as new?**
# (a) all of those whose text does not occur in training; (b) those whose country is in no training statement; (c)
# only those of whose couple no statement is in training
# %% exercise="answer_split" points=1 difficulty=2 minutes=3
answer_split = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_split = "c"
### END SOLUTION
# %% check="answer_split"
# %% [markdown]
# **Predict**: how does the held-out accuracy go with the layer: even, rising to the end, or highest in the middle? (7
# layers; a minute on a slow machine.)
#
# <details><summary>Answer</summary>
#
# Near chance in the early layers; then it jumps, and falls a little towards the end,
# where the stream prepares the next token.
#
# </details>
# %%
def labels_of(statements: list[Statement]) -> Bool[Tensor, "row"]:
    return torch.tensor([each.true for each in statements])


def groups_of(statements: list[Statement]) -> list[str]:
    return [each.about for each in statements]


def by_group(correct: Bool[Tensor, "row"], groups: list[str]) -> Float[Tensor, "group"]:
    """The share of right rows in each group: the unit that is independent."""
    of_row = torch.tensor([sorted(set(groups)).index(group) for group in groups])
    return torch.stack([correct[of_row == i].float().mean() for i in of_row.unique()])
# %% experiment=True
labels, groups = labels_of(capitals), groups_of(capitals)
folds = group_folds(groups, 4, seed=0)
raw = collect_activations(smol, [each.text for each in capitals], LAYERS)
acts = standardised(raw)  # [statement layer d_model]
found = [
    held_out_correct(acts[:, i], labels, folds, mean_difference_probe) for i in range(7)
]
accuracy = torch.stack([each.float().mean() for each in found])
best = int(accuracy.argmax())
said = evidence.interval(by_group(found[best], groups))
print(f"best layer {LAYERS[best]}: {said:.2f} over {len(set(groups))} couples")
plot.line(
    accuracy,
    x=LAYERS,
    x_label="layer",
    y_label="held-out accuracy",
    title="Capitals: is the statement true? (mean difference)",
)
# %% [markdown]
# ## 3. A null that chooses, too
#
# We looked at 7 layers and named the best. That alone lifts a score above one half. The **matched null** does all
# that we did, the choice of the layer included, with labels that mean nothing: shuffled within each couple, so that
# they stay balanced there.
#
# Shuffled labels take the place of the true ones everywhere. In fitting alone, they would answer another question.
# The same seed is to give the same draws in another session of Python, too, where a `set` has another order.
#
# <details><summary>Hint</summary>
#
# For one draw: `shuffled = labels.clone()`, then for the rows of each group `shuffled[rows] = labels[rows[...]]` with
# a `torch.randperm`; one generator for all draws.
#
# </details>
# %% exercise="shuffled_label_control" points=2 difficulty=3 minutes=15
def shuffled_label_control(
    acts: Float[Tensor, "row layer d_model"],
    labels: Bool[Tensor, "row"],
    groups: list[str],
    folds: Int[Tensor, "row"],
    fit: Fit,
    draws: int,
    seed: int,
) -> Float[Tensor, "draw"]:
    """The best layer's held-out accuracy, when labels mean nothing: in each draw the labels
    of each group change places at random among its rows, and then stand for the labels
    everywhere, in fitting and in testing, in all layers.

    The same seed gives the same numbers again.
    """
    ### BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    rows_of = [torch.tensor([i for i, its in enumerate(groups) if its == group]) for group in sorted(set(groups))]
    best = []
    for _ in range(draws):
        shuffled = labels.clone()
        for rows in rows_of:
            shuffled[rows] = labels[rows[torch.randperm(len(rows), generator=generator)]]
        by_layer = [held_out_correct(acts[:, layer], shuffled, folds, fit) for layer in range(acts.shape[1])]
        best.append(torch.stack(by_layer).float().mean(1).max())
    return torch.stack(best)
    ### END SOLUTION
# %% check="shuffled_label_control"
# %% [markdown]
# **Predict**: the mean of the null, best of 7 layers: at .50, some hundredths above, or above .70?
#
# <details><summary>Answer</summary>
#
# Some hundredths above: neighbouring layers are much alike, so that 7 layers are not 7 independent tries.
#
# </details>
# %% experiment=True
shuffled = partial(shuffled_label_control, fit=mean_difference_probe, draws=40, seed=1)
null = shuffled(acts, labels, groups, folds)
null_mean = null.mean()
print("best of 7 layers:", format(evidence.against_null(accuracy.max().item(), null), ".2f"))
one = shuffled(acts[:, 3:4], labels, groups, folds)
print(f"null of layer 14 alone: mean {one.mean():.2f}; of the best of 7: {null.mean():.2f}")
figure = plot.hist(
    {"best of 7": null, "layer 14": one},
    title="Held-out accuracy, labels shuffled",
    x_label="accuracy",
)
figure.add_vline(x=accuracy.max().item(), line_dash="dot", annotation_text="true labels")
# %% [markdown]
# **Another property: the best of 30 layers reaches .68 on held-out rows; one layer alone has a null of .50, give or
# take .05. What is missing?**
# (a) the null's own best of its 30 layers; (b) nothing: .68 is over three deviations away; (c) more rows, until the
# interval is clear of .50
# %% exercise="answer_best" points=1 difficulty=2 minutes=3
answer_best = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_best = "a"
### END SOLUTION
# %% check="answer_best"
# %% [markdown]
# ## 4. The logistic probe
#
# The mean difference does not ask which numbers vary together. A **logistic** probe finds the direction that predicts
# best: with scores $s_i = a_i \cdot w + b$ and labels $y_i = \pm 1$ it makes
#
# $$\frac{1}{n} \sum_i \log\left(1 + e^{-y_i s_i}\right) + \frac{\lambda}{2} \lVert w \rVert^2$$
#
# as small as it can be; the activations are standardised, or nearly. With 576 numbers and 96 rows some direction
# *always* separates the training rows; the penalty $\lambda$ keeps it short. Use any tool: LBFGS in `torch.optim`,
# scipy, scikit-learn (mind what its `C` multiplies), or steps of your own.
# %% exercise="logistic_probe" points=2 difficulty=3 minutes=15
def logistic_probe(
    acts: Float[Tensor, "row d_model"], labels: Bool[Tensor, "row"], penalty: float = 0.1
) -> Probe:
    """The probe with the least mean cross-entropy loss (in nats), plus penalty / 2 times the
    squared length of the direction; the bias costs nothing.

    Found to within 0.001 of the least value, by whatever method.
    """
    ### BEGIN SOLUTION
    x, y = acts.detach().double(), labels.double()
    w = torch.zeros(x.shape[1] + 1, dtype=torch.double, requires_grad=True)  # the last one is the bias
    search = torch.optim.LBFGS([w], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        scores = x @ w[:-1] + w[-1]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, y) + penalty / 2 * (w[:-1] ** 2).sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        search.step(closure)
    w = w.detach().to(acts.dtype)
    return Probe(w[:-1], w[-1])
    ### END SOLUTION
# %% check="logistic_probe"
# %% [markdown]
# **Predict**: on the rows that it was fitted to, and on held-out couples: how right is the logistic probe with next
# to no penalty?
#
# <details><summary>Answer</summary>
#
# All right in training, whatever the labels: shuffled ones as well. Only held-out rows say anything.
#
# </details>
# %% experiment=True
at_14 = acts[:, LAYERS.index(14)]
generator = torch.Generator().manual_seed(0)
nonsense = labels[torch.randperm(len(labels), generator=generator)]
fits = {"mean difference": mean_difference_probe}
fits |= {f"logistic, {p}": partial(logistic_probe, penalty=p) for p in (0.001, 0.1, 10.0)}
held_by = {}
for name, fit in fits.items():
    held_by[name] = by_group(held_out_correct(at_14, labels, folds, fit), groups)
    held = evidence.interval(held_by[name])
    seen = [(says_true(fit(at_14, y), at_14) == y).float().mean() for y in (labels, nonsense)]
    print(f"{name:>16}: training {seen[0]:.2f}, shuffled {seen[1]:.2f}; held out {held:.2f}")
# %% [markdown]
# On so few rows the logistic probe gains nothing over the simple one. From here on we stay with it, and with layer 14.
#
# ## 5. Truth?
#
# The probe tells true capitals from false ones. Does it read *truth*? Then it should work on other statements,
# untouched:
#
# - **not the capital**: "The capital of France is not Paris." The same couples, every label turned round;
# - **kinds**: "A sparrow is a bird." (and not a fish); **larger**: "Nine is larger than two."
#
# A trap: the first two sets are about the same couples. A probe that saw *France, Italy* in one has seen something of
# it in the other; so a couple has the same fold in both.
# %% exercise="generalisation_matrix" points=2 difficulty=3 minutes=10
def generalisation_matrix(
    acts: dict[str, Float[Tensor, "row d_model"]],
    labels: dict[str, Bool[Tensor, "row"]],
    folds: dict[str, Int[Tensor, "row"]],
    fit: Fit,
) -> Float[Tensor, "train test"]:
    """Accuracy of probes fitted to one set on another: the share of all its rows that are
    called right. Both sets in the dicts' order.

    Sets may share groups, and a group is in the same fold in all of them: so rows of fold f
    are judged by a probe that saw no row of fold f, of whichever set. All have all folds.
    """
    ### BEGIN SOLUTION
    accuracies = torch.zeros(len(acts), len(acts))
    for i, train in enumerate(acts):
        correct = {test: [] for test in acts}
        for fold in folds[train].unique():
            seen = folds[train] != fold
            probe = fit(acts[train][seen], labels[train][seen])
            for test in acts:
                here = folds[test] == fold
                correct[test].append(says_true(probe, acts[test][here]) == labels[test][here])
        accuracies[i] = torch.stack([torch.cat(parts).float().mean() for parts in correct.values()])
    return accuracies
    ### END SOLUTION
# %% check="generalisation_matrix"
# %% [markdown]
# **Predict**: fitted to capitals, tested on *not the capital* and on *kinds*: well above one half, about one half, or
# well below?
#
# <details><summary>Answer</summary>
#
# On kinds nearly as good as at home. On *not the capital* well **below** one half: it says "true" just where a right
# answer is named, "not" or no "not".
#
# </details>
# %% experiment=True
sets = {name: facts.statements(name) for name in facts.names()}
set_labels = {name: labels_of(its) for name, its in sets.items()}
set_folds = {name: group_folds(groups_of(its), 4, seed=0) for name, its in sets.items()}
set_acts = {"capitals": at_14}
for name in facts.names()[1:]:
    texts = [each.text for each in sets[name]]
    set_acts[name] = standardised(collect_activations(smol, texts, [14])[:, 0])
matrix = generalisation_matrix(set_acts, set_labels, set_folds, mean_difference_probe)
plain = mean_difference_probe(at_14, labels)
generator = torch.Generator().manual_seed(2)
by_couple = labels.reshape(-1, 4)
mixed = [
    by_couple.gather(1, torch.rand(by_couple.shape, generator=generator).argsort(1)).flatten()
    for _ in range(99)
]
nonsense_probes = [mean_difference_probe(at_14, each) for each in mixed]
transfer, null_of = {}, {}
for name in ("kinds", "larger"):
    its, truth = set_acts[name], set_labels[name]
    by_chance = [(says_true(each, its) == truth).float().mean() for each in nonsense_probes]
    null_of[name] = torch.stack(by_chance)
    correct = says_true(plain, set_acts[name]) == set_labels[name]
    transfer[name] = evidence.interval(by_group(correct, groups_of(sets[name])))
    print(f"fitted to capitals, tested on {name}: {transfer[name]:.2f}", end="; ")
    mean, largest = null_of[name].mean(), null_of[name].max()
    print(f"labels shuffled: mean {mean:.2f}, largest of 99 {largest:.2f}")
name = "not the capital"  # of the same couples: each is judged by a probe that did not see it
its, truth, correct = set_acts[name], set_labels[name], torch.zeros(len(sets[name])) > 0
for fold in range(4):
    here = set_folds[name] == fold
    probe = mean_difference_probe(at_14[~here], labels[~here])
    correct[here] = says_true(probe, its[here]) == truth[here]
transfer[name] = evidence.interval(by_group(correct, groups_of(sets[name])))
by_chance = [(says_true(each, its) == truth).float().mean() for each in nonsense_probes]
null_of[name] = torch.stack(by_chance)
print(f"fitted to capitals, tested on {name}: {transfer[name]:.2f}", end="; ")
print(f"labels shuffled: mean {null_of[name].mean():.2f}, least {null_of[name].min():.2f}")
plot.imshow(
    matrix - 0.5,
    x=list(sets),
    y=list(sets),
    x_label="tested on",
    y_label="fitted to",
    value_label="above .5",
    text=True,
    title="Accuracy after layer 14, less 0.5 (chance)",
)
# %% [markdown]
# **Fitted to capitals, a probe is right on .90 of new capitals and on .10 of *not the capital*. What does it read?**
# (a) nothing that lasts: on new statements it fails; (b) truth, and SmolLM2 misreads the "not" in these; (c) that the
# two names belong together, and not the truth
# %% exercise="answer_negated" points=1 difficulty=2 minutes=3
answer_negated = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_negated = "c"
### END SOLUTION
# %% check="answer_negated"
# %% [markdown]
# The probe's accuracy on its own set was no lie, and its *name* was. Bürger et al. (2024) find two directions in
# larger models: one that "not" turns round, and one that it does not.
#
# ## 6. A probe, or a bag of words?
#
# Now a set with a flaw: most true statements say "capital", most false ones "capital city". You build it, at any
# strength of the flaw.
# %% exercise="confounded_dataset" points=2 difficulty=3 minutes=12
def confounded_dataset(
    things: list[tuple[str, str]], templates: tuple[str, str], agreement: float, seed: int
) -> list[Statement]:
    """Four statements for each couple: its two things, each with what is right and with what
    is said of the other.

    Args:
        things: what is right (second) of each thing (first), such as ("France", "Paris"). Two
            neighbours, 0 and 1, 2 and 3, ..., are a couple; `about` is the same for its four.
        templates: texts with {thing} and {said}. A true statement uses the first with
            probability `agreement`, else the second; a false one the second with probability
            `agreement`, else the first. Each statement is drawn by itself.
        seed: the same seed gives the same statements.
    """
    ### BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    made = []
    for (a, of_a), (b, of_b) in zip(things[::2], things[1::2], strict=True):
        for thing, said, true in ((a, of_a, True), (a, of_b, False), (b, of_b, True), (b, of_a, False)):
            agrees = torch.rand((), generator=generator).item() < agreement
            template = templates[0] if agrees == true else templates[1]
            made.append(Statement(template.format(thing=thing, said=said), true, f"{a}, {b}"))
    return made
    ### END SOLUTION
# %% check="confounded_dataset"
# %% [markdown]
# The baseline sees words alone: how often each of them occurs, without their order. What it reaches, a probe may
# reach without anything that the model *computed*.
# %% exercise="bag_of_words" points=1 difficulty=2 minutes=6
def bag_of_words(texts: list[str], vocabulary: list[str]) -> Float[Tensor, "text word"]:
    """How often each word of the vocabulary occurs in each text.

    A word is a run of letters a to z, after the text was put into lower case. Words that are
    not in the vocabulary are left out.
    """
    ### BEGIN SOLUTION
    words = [re.findall("[a-z]+", text.lower()) for text in texts]
    return torch.tensor([[float(text.count(word)) for word in vocabulary] for text in words])
    ### END SOLUTION
# %% check="bag_of_words"
# %% exercise="probe_against_baseline" points=2 difficulty=3 minutes=12
def probe_against_baseline(
    acts: Float[Tensor, "row d_model"],
    texts: list[str],
    labels: Bool[Tensor, "row"],
    groups: list[str],
    folds: Int[Tensor, "row"],
    fit: Fit,
) -> tuple[Float[Tensor, "group"], Float[Tensor, "group"]]:
    """For each group the held-out accuracy of the probe on acts, and of the same kind of
    probe on the bag of words of the texts: same fit, same folds. Both in the groups'
    alphabetical order.

    The vocabulary: every word of the texts.
    """
    ### BEGIN SOLUTION
    vocabulary = sorted({word for text in texts for word in re.findall("[a-z]+", text.lower())})
    counts = bag_of_words(texts, vocabulary).to(acts.dtype)
    accuracies = []
    for inputs in (acts, counts):
        correct = held_out_correct(inputs, labels, folds, fit).float()
        of_group = [[i for i, its in enumerate(groups) if its == group] for group in sorted(set(groups))]
        accuracies.append(torch.stack([correct[rows].mean() for rows in of_group]))
    return accuracies[0], accuracies[1]
    ### END SOLUTION
# %% check="probe_against_baseline"
# %% [markdown]
# **Predict**: with the flaw at its strongest (agreement 1), the probe on activations and the bag of words: which is
# better? And the probe, fitted there, on a set where the flaw is turned round (agreement 0)?
#
# <details><summary>Answer</summary>
#
# Neither: both are perfect. And on the reversed set the probe is wrong everywhere: it took the easiest thing that it
# found, as any fit does.
#
# </details>
# %% experiment=True
TWO = ("The capital of {thing} is {said}.", "The capital city of {thing} is {said}.")
things = facts.pairs("capitals")[:40]
versions = {share: confounded_dataset(things, TWO, share, seed=0) for share in (1, 0.5, 0)}
texts = sorted({each.text for its in versions.values() for each in its})
place = {text: i for i, text in enumerate(texts)}
pool = standardised(collect_activations(smol, texts, [14])[:, 0])
of = {a: pool[[place[each.text] for each in its]] for a, its in versions.items()}
against = {}
for agreement, its in versions.items():
    names, truth = groups_of(its), labels_of(its)
    its_folds = group_folds(names, 4, seed=0)
    words = [each.text for each in its]
    pair = probe_against_baseline(
        of[agreement], words, truth, names, its_folds, mean_difference_probe
    )
    against[agreement] = pair
    shown = [format(evidence.interval(part), ".2f") for part in pair]
    gain = evidence.difference(*pair, paired=True)
    print(f"agreement {agreement}: probe {shown[0]}, words {shown[1]}, difference {gain:.2f}")
flawed, sound = (mean_difference_probe(of[a], labels_of(versions[a])) for a in (1, 0.5))
reverse = labels_of(versions[0])
turned = {}
for name, probe in (("flawed", flawed), ("sound", sound)):
    correct = by_group(says_true(probe, of[0]) == reverse, groups_of(versions[0]))
    turned[name] = evidence.interval(correct)
    print(f"fitted to the {name} set, tested on the reversed one: {turned[name]:.2f}")
# %% [markdown]
# (The sound probe has seen these couples, with other templates; read its last number with that in mind.) Where words
# give nothing away the probe beats them, and the interval of the difference says so.
#
# **On a set of reviews a probe reaches .93, and the bag of words .92, give or take .03. What do you know of the
# probe?**
# (a) that it may have read no more than the words; (b) that it reads what the model has understood; (c) that it reads
# the words, since it is no better than they are
# %% exercise="answer_bag" points=1 difficulty=2 minutes=3
answer_bag = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_bag = "a"
### END SOLUTION
# %% check="answer_bag"
# %% [markdown]
# ## 7. Decodable, or used?
#
# Does the model *use* what the probe reads? Push the stream along the direction, and see whether the model's own
# answer follows. First, then: has the model an answer of its own?
# %% experiment=True
TRUE, FALSE = (smol.to_tokens(w, prepend_bos=False)[0].item() for w in (" true", " false"))
asked = [each.text + " This statement is" for each in capitals[:32]]
last = [smol.to_tokens(text).shape[1] - 1 for text in asked]
with torch.no_grad():
    logits = smol(smol.to_tokens(asked))[torch.arange(32), last]
own, truth = logits[:, TRUE] - logits[:, FALSE], labels[:32]
says = [(own > 0)[kind].float().mean() for kind in (truth, ~truth)]
print(f'says " true" of {says[0]:.0%} of the true statements,', end=" ")
print(f"{says[1]:.0%} of the false ones")
signs = 2.0 * truth - 1  # two of each in a couple
lift = evidence.interval((own * signs).reshape(8, 4).sum(1) / 2)
print(f'" true" less " false": higher by {lift:.2f} for true statements (8 couples)')
# %% [markdown]
# Its logits lean the right way a little, and its verdict never changes: there is hardly a behaviour to move, whatever
# is decodable. **Gate a causal test on behaviour.**
#
# ### A behaviour to push
#
# So take a behaviour that SmolLM2 has. After "The keys near the cabinet" comes "are": the verb follows the *subject*,
# and not the noun just before. At the last token, two properties can be read: the number of the subject, and of the
# last noun. One is used.
#
# Write the push first. Moves may differ from row to row; so you can also exchange or remove what a direction says.
#
# <details><summary>Hint</summary>
#
# A hook at `utils.get_act_name("resid_post", layer)` returns a changed copy; bind the move with `partial` or a
# default argument.
#
# </details>
# %% exercise="measure_when_moved" points=2 difficulty=3 minutes=12
def measure_when_moved(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    layer: int,
    moves: Float[Tensor, "move row d_model"],
    measure: Measure,
) -> Float[Tensor, "move row"]:
    """measure(the logits at the last position), as it is, when moves[m, r] is added to the
    residual stream after `layer`, at the last position of row r and nowhere else.

    No hook stays behind, no gradient is kept.
    """
    ### BEGIN SOLUTION
    values = []
    for move in moves:
        def push(stream, hook, move=move):
            return torch.cat([stream[:, :-1], stream[:, -1:] + move[:, None]], dim=1)

        with torch.no_grad():
            logits = model.run_with_hooks(tokens, fwd_hooks=[(utils.get_act_name("resid_post", layer), push)])
        values.append(measure(logits[:, -1]))
    return torch.stack(values)
    ### END SOLUTION
# %% check="measure_when_moved"
# %% [markdown]
# A push of any direction does *something*. The null: as long a push in many random directions.
# %% exercise="random_directions" points=1 difficulty=2 minutes=5
def random_directions(n: int, d_model: int, seed: int) -> Float[Tensor, "n d_model"]:
    """Directions of length 1 (float32), drawn independently: no direction is likelier than
    another, whatever the others are.

    The same seed gives the same directions again.
    """
    ### BEGIN SOLUTION
    drawn = torch.randn(n, d_model, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=1, keepdim=True)
    ### END SOLUTION
# %% check="random_directions"
# %% exercise="causal_probe_test" points=3 difficulty=4 minutes=20
def causal_probe_test(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    layer: int,
    direction: Float[Tensor, "d_model"],
    size: float,
    measure: Measure,
    n_random: int,
    seed: int,
) -> tuple[Float[Tensor, "row"], Float[Tensor, "n_random"]]:
    """What a push along the direction does to the answer, and what as long a push along
    random directions does.

    The effect on a row: measure when the stream after `layer`, at the last position, is
    pushed by `size` along the direction, minus measure when pushed as far the other way.

    Returns:
        the effect on each row, along `direction` (which may have any length); and for each of
        n_random random directions (drawn as in random_directions) the effect along it, the
        mean over rows.
    """
    ### BEGIN SOLUTION
    directions = torch.cat([(direction / direction.norm())[None], random_directions(n_random, len(direction), seed)])
    effects = []
    for unit in directions:
        move = (size * unit).expand(len(tokens), -1)
        up, down = measure_when_moved(model, tokens, layer, torch.stack([move, -move]), measure)
        effects.append(up - down)
    return effects[0], torch.stack(effects[1:]).mean(1)
    ### END SOLUTION
# %% check="causal_probe_test"
# %%
SOME = "key picture letter book road door teacher doctor farmer dog horse bird ship car train"
MORE = "lamp chair bottle window bridge garden tower student river"
NOUNS = f"{SOME} {MORE}".split()
phrases, subject_plural, last_plural, subjects = [], [], [], []
for i, noun in enumerate(NOUNS):
    other = NOUNS[(i + 7) % len(NOUNS)]
    for plural in (False, True):
        for other_plural in (False, True):
            phrases.append(f"The {noun}{'s' * plural} near the {other}{'s' * other_plural}")
            subject_plural.append(plural)
            last_plural.append(other_plural)
            subjects.append(noun)
numbers = {"subject": torch.tensor(subject_plural), "last noun": torch.tensor(last_plural)}
ARE, IS = (smol.to_tokens(word, prepend_bos=False)[0].item() for word in (" are", " is"))


def are_less_is(logits: Float[Tensor, "row d_vocab"]) -> Float[Tensor, "row"]:
    return logits[:, ARE] - logits[:, IS]


print(phrases[:4])
# %% [markdown]
# ### Two numbers, one verb
#
# **Predict**: which number can be read better at the last token, the subject's or the last noun's? Which push moves
# "are" against "is" after layer 26? And if after layer 18 the last token gets the *whole* stream that it has in the
# phrase with the subject's other number: how far does the answer follow?
#
# <details><summary>Answer</summary>
#
# The last noun's, from the first layer on and without a mistake: it is that token. But it is the subject's direction
# that moves the answer, and the last noun's does no more than random ones. After layer 18: not at all, though the
# number can be read there.
#
# </details>
# %% experiment=True
stream = collect_activations(smol, phrases, LAYERS)
noun_folds = group_folds(subjects, 4, seed=0)
readable = {}
for name, its in numbers.items():
    right_ones = [
        held_out_correct(standardised(stream[:, i]), its, noun_folds, mean_difference_probe)
        for i in range(7)
    ]
    readable[name] = [by_group(each, subjects) for each in right_ones]
plot.line(
    {name: [each.mean() for each in by_layer] for name, by_layer in readable.items()},
    x=LAYERS,
    x_label="layer",
    y_label="held-out accuracy",
    title="Singular or plural, read at the last token",
)
# %% experiment=True
fitted, tested = slice(32, None), [4 * i + i % 4 for i in range(8)]  # other nouns
partners = [i ^ 2 for i in tested]  # the same phrase, but for the number of its subject
with torch.no_grad():
    logits = smol(smol.to_tokens([phrases[i] for i in tested + partners]))[:, -1]
as_it_is, otherwise = are_less_is(logits).split(8)
signs = 1 - 2.0 * numbers["subject"][tested]  # 1 where the exchange makes a plural of it
natural = evidence.interval((otherwise - as_it_is) * signs)
print(f"are less is: a plural subject adds {natural:.2f}")
tokens, exchanged, pushes = smol.to_tokens([phrases[i] for i in tested]), {}, {}
for layer in (18, 26):
    x = stream[:, LAYERS.index(layer)]
    moves = (x[partners] - x[tested])[None]
    changed = measure_when_moved(smol, tokens, layer, moves, are_less_is)[0]
    exchanged[layer] = evidence.interval((changed - as_it_is) * signs)
    print(f"the last token's stream exchanged after layer {layer}: {exchanged[layer]:.2f}")
for name, its in numbers.items():
    probe = mean_difference_probe(x[fitted], its[fitted])  # after layer 26
    half = probe.direction.norm().item() / 2  # from the middle to a mean
    effect, null = causal_probe_test(
        smol, tokens, 26, probe.direction, half, are_less_is, 19, seed=0
    )
    pushes[name] = effect, null
    print(f"layer 26, {name:>9}: read {readable[name][-1].mean():.2f};", end=" ")
    print(f"pushed by {half:.0f}: {evidence.interval(effect):.2f};", end=" ")
    print(f"random: mean size {null.abs().mean():.2f}, largest {null.abs().max():.2f}")
# %% [markdown]
# ### Used, and where
#
# After layer 26 accuracy ranks the two the wrong way round. And use has a *place*: after layer 18 a probe reads the
# subject's number at the last token, yet with the **whole** stream of the other phrase there the answer stays: nothing
# that differs is used from there, in any direction. Later layers take the number from the positions before. After
# layer 26 the exchange does about half of what the words do.
#
# What remains open: a push may reach where no text leads. This one does no less than the exchange, which brings all
# that the number changes there. And random directions mostly point where streams do not vary: a direction that varies
# as much and means something else is the stricter null, here the last noun's.
#
# **A probe reads a property at .97 after layer 10, at the last token. A push along it moves the answer no more than
# random ones. What follows?**
# (a) the property is not decodable there after all; (b) its use was not shown, at this layer and place; (c) the model
# does not use the property in this task
# %% exercise="answer_used" points=1 difficulty=2 minutes=3
answer_used = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_used = "b"
### END SOLUTION
# %% check="answer_used"
# %% [markdown]
# ## 8. Open task: used, or only held
#
# Here are models whose weights were written by hand. A row is [BOS], a word for each property, and "?"; every word
# belongs to one of two classes, its property's value. At "?" the model answers: the logit of its last token but one,
# less that of its last.
#
# After a given layer, many properties can be read at "?". Some of them the answer is made from, **there**. Others are
# held, loudly even, and nobody reads them; or move attention to no effect; or the answer depends on them, but a later
# layer takes them from the word itself; or they are not there at all, and only go together with one that is.
#
# Name those that are used there, and no other; there may be none. If a used one, and nothing else, turned into its
# opposite there, the answer would move by more than half of its standard deviation over rows; for others not at all.
# You choose the measure and the null. Your function is tried on models that you have not seen: it must find 90 % of all
# used properties, and at most 10 % of those that it names may be others.
#
# <details><summary>Hint</summary>
#
# If two labels mostly agree, what does the difference of means hold? What is a property's *own* direction, the others
# held? What would a gradient say about attention that has settled on one place? And in a stream of some 27 numbers,
# what does a random push meet as well: is it a fair null here?
#
# </details>
# %%
example, truth = wired.properties(seed=0)
example_rows, example_labels = wired.property_rows(truth, rows=200, seed=0)
print(f"after layer {truth.layer} of {example.cfg.n_layers}: {truth.kinds}")
print("used:", sorted(truth.used))
# %% exercise="find_used" points=5 difficulty=5 minutes=45
def find_used(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    labels: dict[str, Bool[Tensor, "row"]],
    layer: int,
) -> set[str]:
    """The properties that the answer is made from, as the stream after `layer` holds them at
    the last position.
    """
    ### BEGIN SOLUTION
    def answer(logits: Tensor) -> Tensor:
        return logits[:, -2] - logits[:, -1]

    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=utils.get_act_name("resid_post", layer))
    acts = cache["resid_post", layer][:, -1]
    # Each property's own direction: what its label adds when the other labels stay as they are.
    signs = torch.stack([2 * label.float() - 1 for label in labels.values()], dim=1)  # [row property]
    known = torch.cat([signs, torch.ones(len(signs), 1)], dim=1)
    directions = torch.linalg.lstsq(known, acts).solution[:-1]  # [property d_model]
    flips = -2 * signs.T[:, :, None] * directions[:, None]  # [property row d_model]
    still = measure_when_moved(model, tokens, layer, torch.zeros_like(flips[:1]), answer)
    effects = ((measure_when_moved(model, tokens, layer, flips, answer) - still) * -signs.T).mean(1)
    return {name for name, effect in zip(labels, effects, strict=True) if effect.abs() > 0.35 * still.std()}
    ### END SOLUTION
# %% check="find_used"
# %% experiment=True
print("found:", sorted(find_used(example, example_rows, example_labels, truth.layer)))
with torch.no_grad():
    _, cache = example.run_with_cache(example_rows)
held = cache["resid_post", truth.layer][:, -1]
tenths = torch.arange(200) % 10
for name, its in example_labels.items():
    can_read = held_out_correct(held, its, tenths, mean_difference_probe).float().mean()
    print(f"{name} {truth.kinds[name]:>9}: read {can_read:.2f}")
# The null: a model that uses none of what it holds
none = ("mute", "bypassed", "looked at", "absent")
idle, idle_truth = wired.properties(seed=1, kinds=none)
rows, row_labels = wired.property_rows(idle_truth, rows=200, seed=1)
print("in a model that uses none:", find_used(idle, rows, row_labels, idle_truth.layer))
# %% [markdown]
# ## What was found
#
# Value, 95 % interval over what is independent, and the null that matches.
# %% experiment=True
subject, last_noun = (evidence.interval(pushes[name][0]) for name in numbers)
random_26 = [pushes[name][1].abs().max() for name in numbers]
kept = evidence.interval(by_group(found[best], groups))
better = evidence.difference(*against[0.5], paired=True)
by_luck = {name: its.max() for name, its in null_of.items()}  # the largest of 99
at_18, at_26 = exchanged[18], exchanged[26].value
logistic_gain = evidence.difference(
    held_by["logistic, 0.1"], held_by["mean difference"], paired=True
)
own_rows = says_true(logistic_probe(at_14, nonsense, 0.001), at_14) == nonsense
memorised = f"in training, shuffled labels: {own_rows.float().mean():.2f}"
negated, least_of_99 = transfer["not the capital"], null_of["not the capital"].min()
on_flawed = evidence.interval(against[1][0])
read = {name: evidence.interval(by_layer[-1]) for name, by_layer in readable.items()}
findings = [
    ("truth of capitals, best of 7 layers", kept, f"shuffled, best of 7: {null_mean:.2f}"),
    ("logistic less mean difference", logistic_gain, "0"),
    ("logistic, hardly a penalty", evidence.interval(held_by["logistic, 0.001"]), memorised),
    ("capitals -> kinds", transfer["kinds"], f"shuffled, at most {by_luck['kinds']:.2f}"),
    ("capitals -> larger", transfer["larger"], f"shuffled, at most {by_luck['larger']:.2f}"),
    ("capitals -> not the capital", negated, f"shuffled, least: {least_of_99:.2f}"),
    ("flawed set: probe", on_flawed, f"words {against[1][1].mean():.2f}"),
    ("sound set: probe minus words", better, "0"),
    ("flawed probe, reversed set", turned["flawed"], f"sound {turned['sound'].value:.2f}"),
    ('" true" less " false", if true', lift, "0; its verdict is the same for all"),
    ("subject's number read, layer 26", read["subject"], "chance .50"),
    ("last noun's number read, layer 26", read["last noun"], "chance .50"),
    ("are/is, exchange after layer 18", at_18, f"after 26: {at_26:.2f}"),
    ("are/is, exchange after layer 26", exchanged[26], f"the words do {natural.value:.2f}"),
    ("are/is, subject's push, layer 26", subject, f"largest of 19 random {random_26[0]:.2f}"),
    ("are/is, last noun's, layer 26", last_noun, f"largest of 19 random {random_26[1]:.2f}"),
]
for what, value, beside in findings:
    print(f"{what:<38} {value:.2f}   {beside}")
# %% [markdown]
# All of it is about one small model, its four-bit weights unpacked, and lists of a few dozen things.
#
# ## Bonus (not graded)
#
# 1. **CCS** (Burns et al. 2022): a probe without labels, from statements and their negations alone. Does it find this
#    direction?
# 2. Erase the subject's direction (a move for each row) instead of pushing along it. How much of "are" is left?
# 3. Probe with an **attention pool** over all positions in place of the last. Does accuracy rise, and the null's with
#    it?
# 4. Read at the last word, before the full stop. From which layer on can truth be read there?
# %% [markdown]
# ## Recap
#
# Read (a probe, on new things), compare (shuffled labels, words, other sets), intervene (push, beside random pushes).
#
# | confusion | what holds |
# |---|---|
# | "The probe is at .95, so the model knows" | what do words, shuffled labels and a chosen layer reach? |
# | "It is a truth probe" | name it after you saw other sets: "not" turns it round |
# | "Held-out rows are new rows" | new *things* are; rows of one couple are no test of each other |
# | "Well decodable, so important" | the last noun's number is read best; its push does what random ones do |
# | "The push did nothing, so it is not used" | at this layer and place; it may be used elsewhere |
#
# Read on: Alain & Bengio 2016, *Understanding intermediate layers using linear classifier probes*; Hewitt & Liang
# 2019, *Designing and Interpreting Probes with Control Tasks*; Belinkov 2022, *Probing Classifiers: Promises,
# Shortcomings, and Advances*; Marks & Tegmark 2023, *The Geometry of Truth*; Bürger et al. 2024, *Truth is
# Universal*.
