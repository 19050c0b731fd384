# %% [markdown]
# # 6.1 Explore and build on a paper
#
# A paper says something about models. You take one claim of it, run it again, put a null beside it, ask a second model,
# and write two pages whose table cannot differ from the runs.
#
# ![One card names one measure. The measure runs on the claim's rows and on the null's, in two models: four runs. The
# table of the write-up is filled from them, and an auditor compares both.](figures/6.1_four_runs.svg)
#
# One claim is worked through here, from a paper that step 5 leaves out. Then comes yours.
# %% generated="overview"
# %% setup=True
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from IPython.display import Markdown
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import corpus, evidence, plot, study

# (model, tokens [row pos], layer) -> logits [row pos d_vocab] of a run with that layer changed
Change = Callable[[TransformerBridge, Tensor, int], Tensor]
# %% [markdown]
# ## How to go about it
#
# The guide's advice, in our words. 6.1, 6.2 and 6.3 are options and no sequence: take what draws you. Learning and fun
# come before importance; nobody's first project has to matter. Take small models: twenty experiments a day teach more
# than one a week. Be the first to attack your own result. And when weeks bring nothing, change the path: what you
# learned comes along.
#
# ## 1. Choose
#
# | ask of a paper | good sign |
# |---|---|
# | Do I want to know? | you would read it on a Sunday |
# | Is one claim a number? | a measure, a direction, on stated data |
# | What would refute it? | you can say it before you run |
# | Can I run it by tonight? | a model that you have; minutes, not days |
# | What is left to find? | no null in it, few models, a choice that nobody explains |
#
# **Which of these would you take, for a week on a laptop?**
# (a) a model of 70B plans its rhymes: ten poems; (b) small models mirror moods: see our pictures; (c) heads at commas
# can be cut: two small models
# %% exercise="answer_choice" points=1 difficulty=1 minutes=4
answer_choice = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_choice = "c"
### END SOLUTION
# %% check="answer_choice"
# %% [markdown]
# ## 2. The card
#
# The worked paper: Lad, Lee, Gurnee and Tegmark 2024, *The Remarkable Robustness of LLMs: Stages of Inference?* Its
# abstract, in our words: in models of several families and sizes, single layers were deleted, or neighbours swapped,
# with no training afterwards. 72 to 95 % of the top-1 accuracy stayed. First and last layers cost most, middle ones
# little. From the pattern over depth the authors read four stages of inference.
#
# That is several claims. A card takes *one*, and takes it apart before anything is run: afterwards you would find
# reasons for what came out.
#
# The check looks at the structure alone. Whether the card is any *good*, only a reader can say: show it to one.
#
# <details><summary>Hint</summary>
#
# A falsifier is an outcome of the same measure, with a figure: "below ... on ...". What is left open in the abstract:
# which layers, which texts, which mean? That is where numbers can be picked.
#
# </details>
# %% exercise="claim_card" points=2 difficulty=2 minutes=20
claim_card = None  # study.ClaimCard(paper=..., claim=..., measure=..., evidence=...,
#            falsifier=..., cherry_picked=..., breaks=...), all texts. `paper` holds its year;
#            `claim` is one sentence; `falsifier` has a figure (no year, no name like top-1 or
#            layer 5) and a word of `measure`, of four letters or more, no "than" or "with";
#            all but `paper` have six words or more
### BEGIN SOLUTION
claim_card = study.ClaimCard(
    paper="Lad, Lee, Gurnee and Tegmark 2024, The Remarkable Robustness of LLMs: Stages of Inference?",
    claim="When one layer of the middle third is deleted, 72 % or more of the top-1 predictions stay.",
    measure="The share of positions whose top-1 prediction stays, mean over the layers of the middle third.",
    evidence="Deletions and swaps in several families of models; 72 to 95 % is what the abstract reports.",
    falsifier="A share whose interval lies wholly below 0.72, or one that is no larger than the null's.",
    cherry_picked="Which layers the 72 to 95 % are a mean of, and whether they count the true token or the old one.",
    breaks="In models of few layers, and at layers that write much, such as the one that makes the sink.",
)
### END SOLUTION
# %% check="claim_card"
# %% [markdown]
# ## 3. The measure
#
# Accuracy that *stays* can be read in two ways: the likeliest token is the same as before, or it is still the true one.
# The abstract does not say; the authors' code (github.com/vdlad/Remarkable-Robustness-of-LLMs) writes down the token
# before, the token after and the true one. We take the first reading, and come back to the second. One number a row:
# rows are independent here, positions of one text are not (1.3). The first position sees [BOS] alone, and is left out,
# as in their code.
# %% exercise="kept_predictions" points=1 difficulty=1 minutes=5
def kept_predictions(
    before: Float[Tensor, "row pos d_vocab"], after: Float[Tensor, "row pos d_vocab"]
) -> Float[Tensor, "row"]:
    """Of each row, the share of positions from 1 on whose likeliest token stays the same."""
    ### BEGIN SOLUTION
    return (before.argmax(-1) == after.argmax(-1))[:, 1:].float().mean(1)
    ### END SOLUTION
# %% check="kept_predictions"
# %% [markdown]
# To delete a layer is to leave the residual stream as it was: what comes out is what went in.
#
# <details><summary>Hint</summary>
#
# Two hooks: one keeps what `blocks.{layer}.hook_resid_pre` sees, the other returns it at `hook_resid_post`.
#
# </details>
# %% exercise="delete_layer" points=2 difficulty=2 minutes=12
def delete_layer(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"], layer: int
) -> Float[Tensor, "row pos d_vocab"]:
    """Logits of a run in which the layer adds nothing to the residual stream, attention and
    MLP alike.

    No gradient is kept and no hook stays behind; this holds for all functions below.
    """
    ### BEGIN SOLUTION
    kept = {}

    def keep(resid, hook):
        kept["before"] = resid

    hooks = [
        (f"blocks.{layer}.hook_resid_pre", keep),
        (f"blocks.{layer}.hook_resid_post", lambda resid, hook: kept["before"]),
    ]
    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=hooks)
    ### END SOLUTION
# %% check="delete_layer"
# %% [markdown]
# ## 4. A matched null
#
# Say .7 stay. Is that *robust*? Perhaps any change of that size would leave .7. Then the number tells its size, and
# nothing of the layer.
#
# A matched null has everything but the claim: the same statistic, rows, places and size of change. A deletion takes
# away the update $u = r_\text{post} - r_\text{pre}$. The null leaves the layer in, and adds a vector of the same length
# in a random direction: $r_\text{post} + \lVert u \rVert\, \epsilon / \lVert \epsilon \rVert$, with
# $\epsilon \sim \mathcal N(0, I)$ drawn anew for each row and position.
#
# <details><summary>Hint</summary>
#
# A `torch.Generator` of its own, seeded with the layer, gives the same draw at each call and leaves the global state.
#
# </details>
# %% exercise="push_layer" points=2 difficulty=3 minutes=12
def push_layer(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"], layer: int
) -> Float[Tensor, "row pos d_vocab"]:
    """Logits of a run in which, after the layer, a random vector is added at each row and
    position, as long as what the layer added there. Called again, it gives the same.
    """
    ### BEGIN SOLUTION
    kept, generator = {}, torch.Generator().manual_seed(layer)

    def keep(resid, hook):
        kept["before"] = resid

    def push(resid, hook):
        size = (resid - kept["before"]).norm(dim=-1, keepdim=True)
        noise = torch.randn(resid.shape, generator=generator)
        return resid + size * noise / noise.norm(dim=-1, keepdim=True)

    hooks = [
        (f"blocks.{layer}.hook_resid_pre", keep),
        (f"blocks.{layer}.hook_resid_post", push),
    ]
    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=hooks)
    ### END SOLUTION
# %% check="push_layer"
# %% [markdown]
# **Predict**: SmolLM2 has 30 layers. Where does a deletion cost most, and is the push of the same size milder, worse,
# or about as bad?
#
# <details><summary>Answer</summary>
#
# A deletion costs most in the first three layers, and as much at one in the middle, 11: it writes the huge vector at
# the first position, on which attention rests later (3.1). Both curves mostly go up and down together. But at layers 0,
# 1, 13 and 28 the push is milder, at 9 and 29 far worse.
#
# </details>
# %%
smol, small = study.load("smollm2"), study.load("story_lm")
TEXTS = [story.text for story in corpus.stories(60, corpus.HELD_OUT) if len(story.text) > 200]


def first_tokens(model: TransformerBridge, rows: int, length: int) -> Int[Tensor, "row pos"]:
    """The beginnings of so many stories, [BOS] first."""
    return torch.cat([model.to_tokens(text)[:, :length] for text in TEXTS[:rows]])
# %% experiment=True
few = first_tokens(smol, 8, 20)
layers = [0, 1, 2, 5, 9, 11, 13, 17, 21, 25, 28, 29]
with torch.no_grad():
    intact = smol(few)
by_layer = {
    name: torch.stack(
        [kept_predictions(intact, change(smol, few, layer)) for layer in layers]
    )
    for name, change in {"deleted": delete_layer, "pushed": push_layer}.items()
}
for i, layer in enumerate(layers):
    shares = {name: its[i] for name, its in by_layer.items()}
    said = "; ".join(f"{name} {its.mean():.2f}" for name, its in shares.items())
    less = evidence.difference(shares["pushed"], shares["deleted"], paired=True)
    print(f"layer {layer:>2}: {said}; pushed less deleted {less:.2f}")
curves = torch.stack([its.mean(1) for its in by_layer.values()])
more = int((curves[1] > curves[0]).sum())
print(f"the push keeps more at {more} of these {len(layers)} layers;", end=" ")
print(f"the curves' correlation is {torch.corrcoef(curves)[0, 1]:.2f}")
plot.line(
    {name: its.mean(1) for name, its in by_layer.items()},
    x=layers,
    x_label="layer",
    y_label="share of top-1 predictions kept",
    title="SmolLM2, one layer at a time (8 stories)",
)
# %% [markdown]
# Is it that huge vector? Layers 11 and 13 deleted at the first position alone, and at all others:
# %% experiment=True
def delete_at(layer: int, where: slice) -> Float[Tensor, "row pos d_vocab"]:
    """As `delete_layer`, on `few`, at the positions `where` alone."""
    names = [f"blocks.{layer}.hook_resid_{end}" for end in ("pre", "post")]

    def undo(resid, hook):
        resid = resid.clone()
        resid[:, where] = cache[names[0]][:, where]
        return resid

    with torch.no_grad():
        _, cache = smol.run_with_cache(few, names_filter=names[0])
        return smol.run_with_hooks(few, fwd_hooks=[(names[1], undo)])


for layer in (11, 13):
    for place, where in {"first position": slice(0, 1), "all others": slice(1, None)}.items():
        share = kept_predictions(intact, delete_at(layer, where))
        print(f"layer {layer} deleted, {place}: {evidence.interval(share):.2f} kept")
# %% [markdown]
# It is: deleted elsewhere, layer 11 costs about as much as 13.
#
# **A claim: the best of 270 heads scores .6 on texts that repeat. What is its matched null?**
# (a) the mean of 270, on texts that repeat; (b) the best of 270, on texts that do not; (c) the same head's entropy, on
# both kinds
# %% exercise="answer_null" points=1 difficulty=2 minutes=3
answer_null = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_null = "b"
### END SOLUTION
# %% check="answer_null"
# %% [markdown]
# ## 5. Replicate
#
# The rule comes before the run. Ours: layers $l$ with $\lfloor n/3 \rfloor \le l < n - \lfloor n/3 \rfloor$, the mean
# over them for each row, and the abstract's .72 as the bar. All of the middle third counts, the odd layer too.
# %% exercise="kept_in_the_middle" points=2 difficulty=3 minutes=12
def kept_in_the_middle(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"], change: Change
) -> Float[Tensor, "row"]:
    """Of each row, the share of predictions kept (as in `kept_predictions`) when one layer
    of the middle third is changed: the mean over these layers.
    """
    ### BEGIN SOLUTION
    n_layers = model.cfg.n_layers
    third = n_layers // 3
    with torch.no_grad():
        before = model(tokens)
    shares = [
        kept_predictions(before, change(model, tokens, layer))
        for layer in range(third, n_layers - third)
    ]
    return torch.stack(shares).mean(0)
    ### END SOLUTION
# %% check="kept_in_the_middle"
# %% exercise="verdict" points=2 difficulty=3 minutes=12
def verdict(
    claim: Float[Tensor, "row"], null: Float[Tensor, "row"], bar: float
) -> tuple[str, str]:
    """What the rule says, from 95 % intervals (evidence.interval, evidence.difference).

    First about the claim's mean: "holds" if its interval lies wholly above the bar, "fails"
    if wholly below, else "open". Then about claim less null, paired by row: "above" if that
    interval lies wholly above 0, "below" if wholly below, else "no different".
    """
    ### BEGIN SOLUTION
    def side(interval, at, names):
        below, above, neither = names
        return below if interval.high < at else above if interval.low > at else neither

    level = side(evidence.interval(claim), bar, ("fails", "holds", "open"))
    gap = evidence.difference(claim, null, paired=True)
    return level, side(gap, 0, ("below", "above", "no different"))
    ### END SOLUTION
# %% check="verdict"
# %% [markdown]
# Now ONE measure, and what it runs on: `kept(model, rows)`, where `rows` say which change. `study.carry_out` calls it
# for both arms and both models, and keeps values, the measure's name and a fingerprint of the weights.
# %%
def kept(model: TransformerBridge, rows: tuple[Tensor, Change]) -> Float[Tensor, "row"]:
    """The measure: the same function for claim and null, first model and second."""
    tokens, change = rows
    return kept_in_the_middle(model, tokens, change)


def rows_of(model: TransformerBridge, arm: str) -> tuple[Tensor, Change]:
    """The same stories for both arms and both models."""
    return first_tokens(model, 12, 24), delete_layer if arm == "claim" else push_layer


def verdicts_of(runs: list[study.Run], bar: float) -> dict[str, str]:
    """The verdict on each model, for the write-up."""
    said = {}
    for claim, null in zip(runs[::2], runs[1::2], strict=True):
        level, beside = verdict(torch.tensor(claim.values), torch.tensor(null.values), bar)
        said[claim.model] = f"the claim: {level}; beside its null: {beside}"
    return said
# %% experiment=True
worked = study.Study(claim_card, kept, ("smollm2", "story_lm"), rows_of)
runs = study.carry_out(worked)
print("| arm | model | measure | rows | mean | low | high |")
print(*map(study.table_row, runs), sep="\n")
for name, said in verdicts_of(runs, bar=0.72).items():
    print(f"{name}: {said}")
# %% [markdown]
# The claim, taken so, *fails* narrowly on SmolLM2. And the deletion keeps *less*: on average a push of that size is a
# little milder.
#
# **Predict**: three choices could have been others: twelve other stories, layer 11 left out, and the second reading of
# *accuracy*, hits of the true token. Which of them turns the verdict?
#
# <details><summary>Answer</summary>
#
# Not the stories: it fails again. Without layer 11 the interval holds the bar: open, which is no "holds". And of the
# hits more than eight in ten are left.
#
# </details>
# %% experiment=True
tokens = first_tokens(smol, 24, 24)[12:]  # twelve other stories


def hits(logits: Float[Tensor, "row pos d_vocab"]) -> Float[Tensor, "row"]:
    """Of each row, the share of positions from 1 on where the likeliest token comes."""
    return (logits.argmax(-1)[:, 1:-1] == tokens[:, 2:]).float().mean(1)


with torch.no_grad():
    intact = smol(tokens)
print(f"untouched: hits {evidence.interval(hits(intact)):.2f}")
for name, change in {"deleted": delete_layer, "pushed": push_layer}.items():
    after = [change(smol, tokens, layer) for layer in range(10, 20)]
    same = torch.stack([kept_predictions(intact, logits) for logits in after])
    hit = torch.stack([hits(logits) for logits in after]).mean(0)
    without = torch.cat([same[:1], same[2:]]).mean(0)
    lost = evidence.difference(hit, hits(intact), paired=True)
    print(f"{name}: same token {evidence.interval(same.mean(0)):.2f},", end=" ")
    print(f"without layer 11 {evidence.interval(without):.2f}")
    print(f"  hits {evidence.interval(hit):.2f}, change {lost:.2f},", end=" ")
    print(f"{hit.mean() / hits(intact).mean():.2f} times as many")
# %% [markdown]
# By the second reading 87 % of the hits are left, after a push too: within the paper's range (no interval, no rule).
# Neither reading is wrong; to run both and report the kinder one alone would be.
#
# Not run here: the paper's models (ours is SmolLM2-135M-Instruct, unpacked from 4-bit weights), its texts (a grammar
# makes ours), its mean over layers.
#
# ## 6. A second model
#
# `story_lm` was trained by us, on stories: 3 layers (its middle third is one), other data, another tokenizer. A copy of
# SmolLM2 under another name would be no second model, nor one that was fine-tuned a little. Names do not tell; weights
# do.
# %% exercise="same_training" points=1 difficulty=2 minutes=8
def same_training(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two fingerprints are of one model, or of one that was changed a little: as many
    weights, and the length of a - b is less than a tenth of the longer of the two.
    """
    ### BEGIN SOLUTION
    if len(a) != len(b):
        return False
    return math.dist(a, b) < 0.1 * max(math.hypot(*a), math.hypot(*b))
    ### END SOLUTION
# %% check="same_training"
# %% experiment=True
prints = {"smollm2": study.fingerprint(smol), "story_lm": study.fingerprint(small)}
prints["a copy, +1 %"] = [1.01 * weight for weight in prints["smollm2"]]
for (name, a), (other, b) in combinations(prints.items(), 2):
    print(f"{name} and {other}: one training? {same_training(a, b)}")
print(*map(study.table_row, runs[2:]), sep="\n")
# %% [markdown]
# **On story_lm far fewer predictions stay. What may be said?**
# (a) by this measure it fails there; (b) it is wrong for small models; (c) it is refuted everywhere
# %% exercise="answer_transfer" points=1 difficulty=2 minutes=3
answer_transfer = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_transfer = "a"
### END SOLUTION
# %% check="answer_transfer"
# %% [markdown]
# ## 7. A write-up that cannot drift
#
# Numbers go wrong on the way from the cell to the page: a run is repeated, the text is not. `study.write_up` fills its
# table and its differences from the runs. What you type beside them, an auditor reads. You write it.
#
# First it must find numbers. Only those with a decimal point count: years and counts are no measurements.
#
# <details><summary>Hint</summary>
#
# `re.findall`, with a look behind: `(?<!\d)` before a minus says that no digit stands there.
#
# </details>
# %% exercise="numbers_in" points=2 difficulty=3 minutes=15
def numbers_in(text: str) -> list[float]:
    """The numbers with a decimal point and digits after it, in their order: "0.66", ".66",
    "-0.05".

    A minus (- or −) right before a number belongs to it, unless a digit stands before the
    minus: "0.63-0.70" are two positive numbers. An en dash is no minus. What has two points,
    as "4.3.0", is no number.
    """
    ### BEGIN SOLUTION
    found = re.findall(r"(?<![\d.])-?\d*\.\d+(?!\d|\.\d)", text.replace("−", "-"))
    return [float(number) for number in found]
    ### END SOLUTION
# %% check="numbers_in"
# %% [markdown]
# ### The auditor
#
# `study.FAULTS` names six faults. `study.example(faults, seed)` makes a study up, with these faults in it: text, card,
# runs. Nothing in it was measured.
# %%
for fault, meaning in study.FAULTS.items():
    print(f"{fault:>10}: {meaning}")
text, card, made_up = study.example(["number", "measure"], seed=0)
table = text[text.index("| claim |") : text.index("![")].strip()
print("in the text:", table, sep="\n")
print("of the runs:", *map(study.table_row, made_up), sep="\n")
print("", text[text.index("## What came out") :], sep="\n")
# %% [markdown]
# What may stand in the text, to two decimals: mean, low and high of each run (`study.interval(run)`); the
# same of each model's `study.gap(claim, null)`; the card's own numbers. In the table each line is its run's.
#
# <details><summary>Hint 1</summary>
#
# One `set` of faults, one paragraph of code for each. Runs in a dict by `(arm, model)`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The table: the text's lines that begin with `| claim |` or `| null |`, as a set, against the set of `study.table_row`.
#
# </details>
# %% exercise="audit" points=5 difficulty=4 minutes=50
def audit(text: str, card: study.ClaimCard, runs: list[study.Run]) -> set[str]:
    """The names of the faults (study.FAULTS) that a write-up has: an empty set if none."""
    ### BEGIN SOLUTION
    faults, of = set(), {(its.arm, its.model): its for its in runs}
    models = list(dict.fromkeys(its.model for its in runs))
    if not any(sign.isdigit() for sign in card.falsifier):
        faults.add("falsifier")

    true = set(numbers_in(" ".join(card)))
    intervals = [study.interval(its) for its in runs]
    for model in models:
        claim, null = of["claim", model], of.get(("null", model))
        if null is None:
            faults.add("null")
            continue
        intervals.append(study.gap(claim, null))
        if null.measure != claim.measure:
            faults.add("measure")
        if len(null.values) != len(claim.values):
            faults.add("rows")

    weights = [of["claim", model].weights for model in models]
    if len(models) < 2 or any(same_training(a, b) for a, b in combinations(weights, 2)):
        faults.add("model")

    true.update(round(x, 2) for its in intervals for x in (its.value, its.low, its.high))
    table = {line for line in text.splitlines() if line.startswith(("| claim |", "| null |"))}
    typed = {round(x, 2) for x in numbers_in(text)}
    if table != {study.table_row(its) for its in runs} or not typed <= {round(x, 2) for x in true}:
        faults.add("number")
    return faults
    ### END SOLUTION
# %% check="audit"
# %% [markdown]
# **Predict**: which fault can an auditor of this kind never see: a null that is measured otherwise, a null that is too
# easy, or a number that was altered?
#
# <details><summary>Answer</summary>
#
# A null that is too easy. It has the right form, and only someone who knows the field can say that it lacks the effect
# for another reason. Nor does it see a right number in a wrong sentence, or one that was typed in percent.
#
# </details>
# %% experiment=True
caught, alarms = Counter(), Counter()
DRAWS = 20
for fault in (None, *study.FAULTS):
    for seed in range(DRAWS):
        said = audit(*study.example([fault] if fault else [], seed=1000 + seed))
        caught[fault] += fault in said
        alarms[fault] += bool(said - {fault})
print(f"{'planted':>10}  caught  false alarms   ({DRAWS} write-ups each)")
for fault in (None, *study.FAULTS):
    found = caught[fault] if fault else "-"
    print(f"{fault or 'nothing':>10}  {found:>6}  {alarms[fault]:>12}")
# %% [markdown]
# Now the worked study, two pages. `open("write_up.md", "w").write(pages)` keeps them.
# %% experiment=True
remarks = (
    "All layers of the middle third count, also layer 11 of SmolLM2, where both changes "
    "cost most. Run after the verdict, on twelve other stories: it fails again; without "
    "layer 11 it is open; of the hits of the true token more than eight in ten are left. "
    "The texts are a grammar's stories. The paper's models were not run, and its mean may "
    "be over other layers."
)
pages = study.write_up(claim_card, runs, verdicts_of(runs, 0.72), remarks)
print("the auditor finds:", audit(pages, claim_card, runs) or "nothing")
Markdown(pages)
# %% [markdown]
# ## 8. Open task: your paper
#
# Choose, fill the card, write a measure, find rows without the effect, take a second model. `my_study` returns it
# all. Any model of the course will do: `study.load("smollm2")`, `"story_lm"`, `"attn_only_2l"`, `"othello_6x6"`, ...
# The check runs it three times or more, in ten minutes at most, so take short rows. It asks for the same values again
# (seed what you draw), for others once the model's weights are drawn anew (what you look for is missing there: let no
# loop wait for it), for two models of other training, and a null whose values are not the claim's. For both arms, torch
# must do the same with what the model answers; thresholds, NumPy and plain numbers it does not see, nor a null that is
# too easy. A number with a point in `remarks` must be, to two decimals, one of a run, of a difference or of the card;
# whether its sentence is true, no check sees.
#
# | hours | what | it ends with |
# |---|---|---|
# | 2 | read three abstracts, one paper | a card |
# | 2 | measure on one model, look at single rows | a number that you believe |
# | 2 | the null; then attack: what duller thing gives this? | a null that could have won |
# | 1 | the second model, first guess written down | four runs |
# | 1 | write, and give it to somebody | two pages, one objection |
#
# `verdict` says "holds" above a bar: for a claim of "less than", turn the measure round (1 less a share). The cells
# after the check take as your bar the first number with a point in your falsifier ("0.30", not "30 %").
#
# <details><summary>Hint</summary>
#
# Papers with a number that a small model can have: much attention to the first token (Xiao et al. 2023; the solutions
# take this one), successor heads (Gould et al. 2023), copy suppression (McDougall et al. 2023), growth of the residual
# stream (Heimersheim and Turner 2023), near-linear layers (Razzhigaev et al. 2024).
#
# </details>
# %% exercise="my_study" points=8 difficulty=5 minutes=240
def my_study() -> tuple[study.Study, str]:
    """Your study: study.Study(card, measure, models, rows), and remarks for its write-up.

    measure(model, rows(model, arm)) is a tensor: one value a row, of eight different rows or
    more; the claim's values are not all equal. The arm is "claim" or "null", and both have as
    many rows. `rows` bring what differs (tokens, a place, a change of the run); the measure
    makes the values, does the same for both with what the model answers, and leaves the
    model as it was. `models` are names for study.load.
    """
    ### BEGIN SOLUTION
    card = study.ClaimCard(
        paper="Xiao, Tian, Chen, Han and Lewis 2023, Efficient Streaming Language Models with Attention Sinks",
        claim="Of their attention, queries give 0.30 or more to the first token, as a mean over all heads.",
        measure="The mean attention of queries from position 8 on to one key, over all heads and layers.",
        evidence="Maps of attention in large models, in which most heads of later layers rest on the first token.",
        falsifier="A mean attention below 0.30, or one that is no larger than that to the second token.",
        cherry_picked="The maps show single heads and layers; the figure of 0.30 is ours, set before the run.",
        breaks="In small models, which may have no use for a place where attention does nothing.",
    )

    def attention_to(model, rows):
        tokens, key = rows
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("pattern"))
        layers = range(model.cfg.n_layers)
        shares = [cache["pattern", layer][:, :, 8:, key].mean((1, 2)) for layer in layers]
        return torch.stack(shares).mean(0)

    def rows(model, arm):
        return first_tokens(model, 16, 32), 0 if arm == "claim" else 1

    remarks = "The null is the second token: nearly as far away, and a word of the story like others."
    return study.Study(card, attention_to, ("story_lm", "attn_only_2l"), rows), remarks
    ### END SOLUTION
# %% check="my_study"
# %% experiment=True
mine, my_remarks = my_study()
my_runs = study.carry_out(mine)
my_bar = (numbers_in(mine.card.falsifier) or [math.nan])[0]  # none: no verdict but "open"
my_pages = study.write_up(mine.card, my_runs, verdicts_of(my_runs, my_bar), my_remarks)
print("the auditor finds:", audit(my_pages, mine.card, my_runs) or "nothing")
Markdown(my_pages)
# %% [markdown]
# ## What was found
#
# Means over rows with 95 % intervals; beside each claim its null, and the bar that was set before.
# %% experiment=True
bars = [("middle layers deleted", runs, 0.72), (my_runs[0].measure[:22], my_runs, my_bar)]
print(f"{'claim':<22} {'model':<13} {'claim':<18} {'null':<18} bar   verdict")
for what, its, bar in bars:
    for claim_run, null_run in zip(its[::2], its[1::2], strict=True):
        a, b = torch.tensor(claim_run.values), torch.tensor(null_run.values)
        shown = (f"{evidence.interval(values):.2f}" for values in (a, b))
        print(f"{what:<22} {claim_run.model:<13}", *(f"{one:<18}" for one in shown), end=" ")
        print(f"{bar:.2f}  {', '.join(verdict(a, b, bar))}")
# %% [markdown]
# The first claim was put to two models, none of the paper's own, on two dozen stories. That a claim fails here says
# that it does not hold *for these*, by our measure.
#
# ## Bonus (not graded)
#
# 1. Twelve English sentences of your own in place of the stories: on which side of the bar is SmolLM2 then?
# 2. Swap neighbours instead of deleting. Which null matches a swap?
# 3. `othello_6x6` has six layers. Write down your guess, then run `kept` on games.
# 4. The median over layers in place of the mean; layer 11 left out, on stories 36 to 48: which verdicts? Why may you
#    choose none of them now?
# 5. A fault that `audit` does not see: plant it, and mend the auditor.
# %% [markdown]
# ## Recap
#
# | confusion | what holds |
# |---|---|
# | "I replicated the paper" | one claim, by one measure, on these rows |
# | "It fails, so the paper is wrong" | other models, texts, means: say which |
# | "The null is zero" | what does the same measure give without the effect? |
# | "It works on a second model, too" | is it another one, and where is its null? |
# | "The numbers are in my notes" | in the runs, and looked up |
#
# Read on: Lad et al. 2024, *The Remarkable Robustness of LLMs: Stages of Inference?*; Xiao et al. 2023, *Efficient
# Streaming Language Models with Attention Sinks*; Razzhigaev et al. 2024, *Your Transformer is Secretly Linear*; Neel
# Nanda, *Concrete Steps to Get Started in Transformer Mechanistic Interpretability*.
