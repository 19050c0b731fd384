# %% [markdown]
# # 6.3 Read around the field
#
# Reading is no substitute for coding. This path is a few papers, read deeply, code beside them: which to read, what one
# of them claims, whether its numbers follow, and what its claim does on a model of yours. It ends with a review of one
# page.
#
# ![A paper is skimmed, one claim of it is noted with what would refute it, one number is recomputed, one figure is made
# small on a model of one's own, the claim is held against another paper; then one comes back.](figures/6.3_read.svg)
# %% generated="overview"
# %% setup=True
import math
import re

import torch
from scipy import stats

from concrete_steps import models, plot, readings, topics
# %%
FIELD = topics.load_topics()
NEEDS = {topic.id: list(topic.needs) for topic in FIELD.values()}
# %% [markdown]
# ## How to read
#
# The guide's advice, in our words: skim first. Take one claim at a time. Make one figure yourself rather than read a
# fifth paper. Come back: the second reading, after code, is another one.
#
# | minutes | what | it ends with |
# |---|---|---|
# | 10 | title, abstract, figures, limitations | read on, or not |
# | 20 | one claim: what was measured, beside which null? | a note |
# | 20 | one number: does it follow from the table? | yes, no, or cannot be told |
# | 60 | one figure, made small | the claim here, and the null's |
# | 10 | who says otherwise? | a second paper, or "none found, looked in ..." |
# %% [markdown]
# ## 1. What to read, in which order
#
# A row for each topic that can be replicated here; `readings.table(["ioi"])` shows one.
# %%
readings.table()
# %% [markdown]
# In 4.4 there was one goal. Now there are several wishes and few evenings: first the wish that is nearest.
# %% exercise="reading_list" points=2 difficulty=3 minutes=15
def reading_list(needs: dict[str, list[str]], known: set[str], wishes: set[str]) -> list[str]:
    """What to read until all wishes are read: each topic once, after all that it needs.

    Next comes always the wish with the fewest topics still to read for it, itself counted;
    of equals, the first by alphabet. Right before it comes what it still needs. What is known
    is not read, nor what only that needed.
    """
    ### BEGIN SOLUTION
    def unread(topic: str, read: set[str]) -> list[str]:
        order: list[str] = []

        def visit(name: str) -> None:
            if name not in read and name not in order:
                for needed in needs[name]:
                    visit(needed)
                order.append(name)

        visit(topic)
        return order

    listed: list[str] = []
    while left := wishes - known - set(listed):
        ways = {wish: unread(wish, known | set(listed)) for wish in left}
        listed += ways[min(left, key=lambda wish: (len(ways[wish]), wish))]
    return listed
    ### END SOLUTION
# %% check="reading_list"
# %% experiment=True
here = {topic.id for topic in FIELD.values() if topic.here}
wishes = {"attribution_graphs", "refusal", "othello"}
for label, known in (("knowing nothing", set()), ("with this course", here)):
    order = reading_list(NEEDS, known, wishes)
    papers = {FIELD[topic].url for topic in order}
    print(f"{label}: {len(order)} topics, {len(papers)} papers\n  {' > '.join(order)}")
# %% [markdown]
# ## 2. What does an abstract support?
#
# Of each four sentences, one follows from the abstract (here in our words). The others turn it round, stretch it, or
# speak of something else.
# %%
readings.abstracts()
# %% exercise="supported" points=3 difficulty=3 minutes=20
supported = None  # {1: "a", 2: ..., 3: ..., 4: ...}: by abstract, a letter from a to d
### BEGIN SOLUTION
supported = {1: "b", 2: "c", 3: "a", 4: "d"}
### END SOLUTION
# %% check="supported"
# %% [markdown]
# **"Head H is needed for induction in this model: ablated, it costs 2 nats on repeated text." Which figure would speak
# most against it?**
# (a) any other head of its layer costs 2 nats too; (b) H rests on the first token of most texts; (c) a probe finds the
# copy in other heads
# %% exercise="answer_falsifier" points=1 difficulty=2 minutes=3
answer_falsifier = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_falsifier = "a"
### END SOLUTION
# %% check="answer_falsifier"
# %% [markdown]
# ## 3. Notes by claim
#
# A summary of a paper is soon forgotten, and nobody can be wrong about it. A note on *one claim* can be tested:
# %%
print(readings.TEMPLATE)
# %% exercise="parse_notes" points=2 difficulty=3 minutes=20
def parse_notes(text: str) -> list[dict[str, str]]:
    """Notes in the template's form, as one dict a note; blank lines part the notes.

    A line that begins with one of `readings.FIELDS` and a colon (in any case) begins that
    field, by its name in small letters. Any other line goes on with the field above, after
    one space. Spaces around entries go; a field with nothing in it is left out. A line of
    spaces is blank.
    """
    ### BEGIN SOLUTION
    notes = []
    for block in re.split(r"\n\s*\n", text.strip()):
        note: dict[str, str] = {}
        field = None
        for line in block.splitlines():
            name, colon, entry = line.partition(":")
            if colon and name.strip().lower() in readings.FIELDS:
                field = name.strip().lower()
                note[field] = entry.strip()
            elif field:
                note[field] = f"{note[field]} {line.strip()}".strip()
        note = {name: entry for name, entry in note.items() if entry}
        if note:
            notes.append(note)
    return notes
    ### END SOLUTION
# %% check="parse_notes"
# %% experiment=True
invented = """claim: Head 7 is needed for induction in this model.
evidence: Ablated to its mean, it costs 2.1 nats on repeated text;
  of the other heads none costs more than 0.3
where: Table 2

claim: Head 7 does little else.
falsifier: On text without repeats, its removal costs as much"""
for note in parse_notes(invented):
    lacks = [field for field in readings.FIELDS if field not in note]
    print(f"{note}\n  lacks {', '.join(lacks)}")
# %% [markdown]
# A note needs a paper that others find. Whether a link leads anywhere shows online; whether it *can* lead somewhere
# shows in its form.
#
# - arXiv since April 2007: year and month `YYMM`, a dot, a number of four digits until the end of 2014 and of five
#   since, perhaps a version `v2`: `https://arxiv.org/abs/2301.05217v3`, `arxiv.org/pdf/2301.05217`, `arXiv:2301.05217`.
# - DOI: `10.`, four to nine digits, a slash, and something without spaces: `https://doi.org/10.23915/distill.00024`,
#   `doi:10.23915/distill.00024`.
# %% exercise="canonical_link" points=2 difficulty=3 minutes=15
def canonical_link(link: str) -> str | None:
    """Of any of the forms above, or of the bare number: "arXiv:2301.05217" (without version)
    or "doi:10.23915/distill.00024". None of anything else.

    Case does not matter; a DOI comes in small letters. Spaces around it go. `http://` and
    `www.` are allowed as well, and nothing may stand behind it.
    """
    ### BEGIN SOLUTION
    link = link.strip()
    number = r"(\d\d)(0[1-9]|1[0-2])\.(\d{4,5})(?:v\d+)?"
    place = r"(?:(?:https?://)?(?:www\.)?arxiv\.org/(?:abs|pdf)/|arxiv:)?"
    if found := re.fullmatch(place + number, link, re.IGNORECASE):
        year, month, digits = found.groups()
        since_2007 = int(year + month) >= 704
        if since_2007 and len(digits) == (4 if int(year) < 15 else 5):
            return f"arXiv:{year}{month}.{digits}"
    place = r"(?:(?:https?://)?(?:www\.)?doi\.org/|doi:)?"
    if found := re.fullmatch(place + r"(10\.\d{4,9}/\S+)", link, re.IGNORECASE):
        return f"doi:{found[1].lower()}"
    return None
    ### END SOLUTION
# %% check="canonical_link"
# %% experiment=True
urls = {topic.url for topic in FIELD.values()}
found = [url for url in urls if canonical_link(url)]
print(f"{len(urls)} papers of the map, {len(found)} with such a link")
print("others are on:", *sorted({url.split("/")[2] for url in urls.difference(found)}))
# %% [markdown]
# ## 4. Does the number follow?
#
# A table prints what was counted, the text what was made of it. Often you can go the way yourself.
# %% exercise="could_print" points=1 difficulty=2 minutes=8
def could_print(value: float, printed: str) -> bool:
    """Whether `value`, rounded to as many decimals as `printed` shows, may give `printed`.

    "0.30" is for values from 0.295 to 0.305, both ends included (to 1e-9, for the machine
    rounds as well): people round a half either way.
    """
    ### BEGIN SOLUTION
    decimals = len(printed.partition(".")[2])
    return abs(value - float(printed)) <= 0.5 * 10**-decimals + 1e-9
    ### END SOLUTION
# %% check="could_print"
# %% experiment=True
of_papers = [
    ("IOI: the circuit recovers 87 %", 100 * (3.56 - 0.46) / 3.56, "87"),
    ("ACDC: 68 of 32,000 edges, in percent", 100 * 68 / 32_000, "0.2"),
    ("IOI: 26 of 144 heads, in percent", 100 * 26 / 144, "18"),
]
for label, value, printed in of_papers:
    print(f"{label:<44} {value:9.3f} as {printed}: {could_print(value, printed)}")
# %% [markdown]
# The first is Wang et al. (2022): mean logit difference 3.56, of the circuit 0.46 less. The second is from Conmy et al.
# (2023). The last is a reader's own: of all heads of GPT-2 small, how many are in the circuit?
#
# A share of whole things jumps: of 25 prompts, 87.5 % cannot be right.
# %% exercise="impossible_percentages" points=1 difficulty=2 minutes=8
def impossible_percentages(printed: list[str], n: int) -> list[str]:
    """Those printed percentages, in order, that no number of `n` things can give.

    A half may have been rounded either way, as in `could_print`.
    """
    ### BEGIN SOLUTION
    return [
        one for one in printed if not any(could_print(100 * k / n, one) for k in range(n + 1))
    ]
    ### END SOLUTION
# %% check="impossible_percentages"
# %% [markdown]
# **Predict**: percentages with one decimal. With how many prompts can nothing be caught any more?
#
# <details><summary>Answer</summary>
#
# From 1,000 on surely: steps of 0.1 hit every one. The run shows how it fades before.
#
# </details>
# %% experiment=True
every = [f"{tenth / 10:.1f}" for tenth in range(1001)]
sizes = [10, 25, 50, 100, 250, 500, 900, 1000]
caught = [len(impossible_percentages(every, n)) / len(every) for n in sizes]
print(*(f"n = {n}: {share:.0%}" for n, share in zip(sizes, caught, strict=True)), sep=", ")
plot.line(
    caught,
    x=sizes,
    x_label="n, of which percent are printed",
    y_label="share caught",
    title="Percentages with one decimal, made up at random",
)
# %% [markdown]
# ### Means
#
# A mean with standard deviation and n gives an interval: Student's t, as in 1.3. "±" alone gives none: it may be a
# standard deviation, a standard error, or half an interval.
# %% exercise="interval_from_table" points=1 difficulty=2 minutes=8
def interval_from_table(
    mean: float, sd: float, n: int, level: float = 0.95
) -> tuple[float, float]:
    """Student's t interval of the mean; `sd` is of the n values, not of their mean."""
    ### BEGIN SOLUTION
    half = stats.t.ppf((1 + level) / 2, n - 1) * sd / math.sqrt(n)
    return float(mean - half), float(mean + half)
    ### END SOLUTION
# %% check="interval_from_table"
# %% experiment=True
for meaning, sd in (("standard deviation", 1.5), ("standard error", 1.5 * math.sqrt(50))):
    low, high = interval_from_table(3.96, sd, 50)
    print(f"3.96 ± 1.5 of 50 prompts, read as {meaning}: [{low:.2f}, {high:.2f}]")
# %% [markdown]
# (An invented sentence, of a common form.) Next, all together: a table, and what a text says of it.
#
# | kind | of rows a, b |
# |---|---|
# | `"difference"` | $m_a - m_b$ |
# | `"ratio"` | $m_a / m_b$ |
# | `"percent"` | by how many percent a's mean is above b's (below: negative) |
# | `"effect"` | Cohen's $d = (m_a - m_b) / s$, $s^2 = \frac{(n_a - 1) s_a^2 + (n_b - 1) s_b^2}{n_a + n_b - 2}$ |
# %% exercise="does_not_follow" points=3 difficulty=4 minutes=30
def does_not_follow(
    table: dict[str, tuple[int, float, float]],
    figures: dict[str, tuple[str, str, str, str]],
) -> list[str]:
    """Names of the figures that cannot follow from the table, in their order.

    Args:
        table: by row, its n, mean and standard deviation; take them as exact.
        figures: by name, its kind, row a, row b, and the number as printed. A printed number
            may have a sign, "+" as well.
    """
    ### BEGIN SOLUTION
    def derived(kind: str, a: str, b: str) -> float:
        (n_a, mean_a, sd_a), (n_b, mean_b, sd_b) = table[a], table[b]
        if kind == "difference":
            return mean_a - mean_b
        if kind == "ratio":
            return mean_a / mean_b
        if kind == "percent":
            return 100 * (mean_a - mean_b) / mean_b
        pooled = ((n_a - 1) * sd_a**2 + (n_b - 1) * sd_b**2) / (n_a + n_b - 2)
        return (mean_a - mean_b) / math.sqrt(pooled)

    return [
        name
        for name, (kind, a, b, printed) in figures.items()
        if not could_print(derived(kind, a, b), printed)
    ]
    ### END SOLUTION
# %% check="does_not_follow"
# %% experiment=True
table = {
    "copying heads": (40, 9.2, 1.1),  # n, mean loss that ablating them adds, its deviation
    "other heads": (60, 0.5, 0.9),
    "no heads": (60, 0.0, 0.8),
}
text = {
    "18 times the loss": ("ratio", "copying heads", "other heads", "18"),
    "8.7 nats more": ("difference", "copying heads", "other heads", "8.7"),
    "an effect of d = 8.8": ("effect", "copying heads", "other heads", "8.8"),
    "others: an effect of d = 0.9": ("effect", "other heads", "no heads", "0.9"),
}
print("of an invented text, this cannot follow:")
print(*does_not_follow(table, text), sep="\n")
# %% [markdown]
# Real tables are rounded as well: a figure that is off by its last digit may be right (bonus 1). What does not follow
# is a question to the authors, and may be a slip of the pen.
# %% [markdown]
# ## 5. Do two papers disagree?
#
# Two estimates with 95 % intervals, from independent data. Half of an interval's width is 1.96 standard errors, if it
# is roughly normal; errors of a difference add as squares.
# %% exercise="printed_difference" points=2 difficulty=4 minutes=20
def printed_difference(a: str, b: str) -> tuple[float, float, float]:
    """a minus b with its 95 % interval (value, low, high), from two printed as
    "0.42 [0.31, 0.53]"; numbers may be negative or without decimals, spaces may lack."""
    ### BEGIN SOLUTION
    values, halves = [], []
    for printed in (a, b):
        value, low, high = map(float, re.findall(r"[-+]?\d*\.?\d+", printed))
        values.append(value)
        halves.append((high - low) / 2)
    difference, half = values[0] - values[1], math.hypot(*halves)
    return difference, difference - half, difference + half
    ### END SOLUTION
# %% check="printed_difference"
# %% [markdown]
# **One paper prints 0.60 [0.50, 0.70], another 0.42 [0.31, 0.53]. Do their estimates differ by more than chance would
# make them?**
# (a) no, for the two intervals overlap; (b) unknown, without all the raw data; (c) yes, the difference leaves out 0
# %% exercise="answer_overlap" points=1 difficulty=2 minutes=4
answer_overlap = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_overlap = "c"
### END SOLUTION
# %% check="answer_overlap"
# %% [markdown]
# Numbers alone may not settle it: two papers can mean two things by one word, by another ablation, model or layer. So
# ask first: *which result would both sides call decisive?*
# %% [markdown]
# ## 6. A figure at random
#
# Who has only read cannot do this. Take a seed that you do not choose, such as today's date; it draws a paper's
# measure, on a model of this course, in a setting that nobody printed. Compute it. Your earlier notebooks are allowed.
# %%
SEED = 20260303
readings.figure(SEED)
# %% exercise="my_figure" points=3 difficulty=4 minutes=40
my_figure = None  # (SEED, value), the value computed by a cell of yours
### BEGIN SOLUTION
pairs = torch.tensor([(a, 48, 113) for a in range(113)])
_, cache = models.load("grokking", step=13_000).run_with_cache(pairs)
neurons = cache["blocks.0.mlp.hook_post"][:, -1].detach().double()
power = torch.fft.rfft(neurons, dim=0).abs().square().sum(-1)[1:]  # without the constant
my_figure = (SEED, (power.topk(5).values.sum() / power.sum()).item())
### END SOLUTION
# %% check="my_figure"
# %% [markdown]
# The definition is half of the work: over which positions, with or without the constant, which norm? Then its null:
# what is your figure before training, or of random weights? The table at the end has one, of an embedding.
#
# **You have read four papers on a topic, and feel that you know too little. What is next?**
# (a) the newest paper, as it cites the others; (b) one figure of theirs, on a model of yours; (c) the four papers
# again, more slowly
# %% exercise="answer_next" points=1 difficulty=1 minutes=2
answer_next = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_next = "b"
### END SOLUTION
# %% check="answer_next"
# %% [markdown]
# ## 7. When you are stuck
#
# [How to get unstuck](../how_to_get_unstuck.md) lies in your folder: moves by kind of being stuck. Compute is a kind of
# its own. What fits on this machine:
# %%
from concrete_steps.workspace import doctor

doctor.what_fits()
# %% [markdown]
# ## 8. Open task: a review of one page
#
# Three papers or more on *one* question that you want an answer to. Two evenings to a week. Its form is graded, and
# whether its links can be links; whether it is true, you alone see to.
#
# - Notes by claim, one a paper or more, with all fields; claim, evidence, falsifier and replication have five words or
#   more. `where` is a figure, table, section, definition or theorem by its number (a section by its title, if it has
#   none); "the abstract" is no place. `on` is one or more of `readings.models()`.
# - A link is arXiv's or a DOI, as in 3, or a page where papers appear (OpenReview, a conference, LessWrong, ...).
# - A disagreement between two of the papers, and what would settle it; or that you found none, and where you looked.
# - The solution's review is an example: read its topic only after yours.
#
# <details><summary>Hint</summary>
#
# Write the notes as text and give `parse_notes(text)` for `"notes"`. Begin with the dispute: `topics.show("ioi")` names
# one for each topic. Does the question hang on a word that the papers use differently?
#
# </details>
# %% exercise="my_review" points=8 difficulty=5 minutes=300
my_review = None  # {"question": "...?", "papers": {short name: {"link": ..., "shows": ...}},
#  "notes": [a dict with readings.FIELDS for each claim], "verdict": where you stand, and why,
#  "disagreement": {"between": [name, name], "about": ..., "settled by": ...}
#               or {"between": [], "about": that there is none, and where you looked}}
### BEGIN SOLUTION
NOTES = """
paper: nanda
claim: The network adds by rotations at five key frequencies.
evidence: Embedding and logits are sparse in the Fourier basis, and ablating the other frequencies
  lowers the loss.
where: Section 4.1 and Section 4.4
falsifier: A network whose loss stays low when its key frequencies are removed.
disputed by: zhong, for networks with other attention
replicate: Power of the embedding by frequency, beside an untrained network
on: grokking
minutes: 2

paper: zhong
claim: With attention held constant a network comes to another algorithm, the pizza.
evidence: Gradient symmetricity is 99.37 % in a network with constant attention and 33.36 % in one
  with full attention; distance irrelevance is 0.17 and 0.85.
where: Definition 4.1 and Definition 4.2
falsifier: Networks whose two measures put them on different sides.
disputed by: moisescu
replicate: Both measures on one network, by checkpoint, beside the untrained one
on: grokking
minutes: 10

paper: moisescu
claim: Uniform and learnable attention come to the same first layer, a disk, and so to one algorithm.
evidence: Phases of neurons lie on the diagonal for both, over hundreds of networks; a network that
  gets its inputs concatenated differs.
where: Theorem 4.1
falsifier: A network with learnable attention whose neurons have unrelated phases for a and b.
disputed by: zhong, before it
replicate: The two phases of each neuron, as a scatter plot, beside shuffled ones
on: grokking
minutes: 15
"""
my_review = {
    "question": "Do networks that add modulo p share one algorithm?",
    "papers": {
        "nanda": {
            "link": "https://arxiv.org/abs/2301.05217",
            "shows": "One network is taken apart: it adds by rotations at a few frequencies.",
        },
        "zhong": {
            "link": "https://arxiv.org/abs/2306.17844",
            "shows": "Networks with less attention have another algorithm by two measures.",
        },
        "moisescu": {
            "link": "https://arxiv.org/abs/2512.25060",
            "shows": "Seen as manifolds of many neurons, both kinds have the same first layer.",
        },
    },
    "notes": parse_notes(NOTES),
    "disagreement": {
        "between": ["zhong", "moisescu"],
        "about": "Whether clock and pizza are two algorithms, or two views of one representation.",
        "settled by": "An edit of the first layer whose effect the two accounts predict differently.",
    },
    "verdict": "All share waves. Two measures part them, others do not: until an edit tells the "
    "accounts apart, I would not say that there are two algorithms, nor that there is one.",
}
### END SOLUTION
# %% check="my_review"
# %% experiment=True
readings.page(my_review)
# %% [markdown]
# ## What was found
# %% experiment=True
from concrete_steps.games import modular_addition

value, low, high = printed_difference("0.60 [0.50, 0.70]", "0.42 [0.31, 0.53]")
none_known, course_known = (reading_list(NEEDS, known, wishes) for known in (set(), here))
waves = {}
for step in (0, 13_000):
    numbers = models.load("grokking", step=step).W_E[:113].detach()
    waves[step] = modular_addition.frequency_shares(numbers).topk(5).values.sum()
findings = [
    ("topics for three wishes", len(none_known), f"with the course {len(course_known)}"),
    ("made-up percentages caught, n = 25", f"{caught[1]:.0%}", f"n = 1000 {caught[-1]:.0%}"),
    ("difference of two overlapping estimates", f"{value:.2f}", f"[{low:.2f}, {high:.2f}]"),
    ("embedding's five waves, step 13,000", f"{waves[13_000]:.2f}", f"step 0 {waves[0]:.2f}"),
]
for what, value, beside in findings:
    print(f"{what:<42} {value!s:<8} {beside}")
# %% [markdown]
# What this does not show: that a paper whose numbers follow is right. Its table and its text agree, and that is all.
# %% [markdown]
# ## Bonus (not graded)
#
# 1. Let the table's means and standard deviations be rounded, as printed ones are. Which figures follow from *some*
#    table that prints so?
# 2. Replicate the first of your notes, and give your review's verdict once more.
# 3. Give the review as a talk of five minutes to somebody who has read none of it.
# %% [markdown]
# ## Recap
#
# | confusion | what holds |
# |---|---|
# | "I have read it" | say one claim, and the figure that would refute it |
# | "No gain" means "worse" | and "possible without" is not "no effect" |
# | "The intervals overlap, so they agree" | look at the difference's own interval |
# | "The numbers add up, so it is right" | table and text agree; the experiment is another matter |
# | "One paper more, then I begin" | begin: the figure tells you what to read |
#
# Read on: Neel Nanda, *An Extremely Opinionated Annotated List of My Favourite Mechanistic Interpretability Papers*
# (2022, version 2 of 2024); Brown and Heathers 2017, *The GRIM Test* (for means of whole numbers); Keshav 2007, *How to
# Read a Paper*.
