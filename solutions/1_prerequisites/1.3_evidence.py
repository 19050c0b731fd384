# %% [markdown]
# # 1.3 Probability and evidence
#
# "Head 7 does it: 0.4!" Compared with what? Here you write what turns such a number into evidence: the language
# model's own quantities, an interval, a matched null, a fair best of many.
#
# ![A finding: a value with its interval, beside its null.](figures/1.3_evidence.svg)
# %% generated="overview"
# %% setup=True
import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor

from concrete_steps import corpus, evidence, models, plot


# %% [markdown]
# ## 1. From logits to nats
#
# $\log p_i = z_i / T - \log \sum_j e^{z_j / T}$, for logits $z$ and temperature $T$. But $e^{1000}$ is infinite:
# subtract the largest first, which changes nothing else. Write it without PyTorch's own softmax and logsumexp.
# %% exercise="log_softmax" points=1 difficulty=1 minutes=6
def log_softmax(
    logits: Float[Tensor, "... vocab"], temperature: float = 1.0
) -> Float[Tensor, "... vocab"]:
    """Log-probabilities in nats. Right for logits of any size; -inf (a forbidden token) stays
    -inf, and each row has a finite one.
    """
    ### BEGIN SOLUTION
    scaled = logits / temperature
    scaled = scaled - scaled.amax(-1, keepdim=True)
    return scaled - scaled.exp().sum(-1, keepdim=True).log()
    ### END SOLUTION


# %% check="log_softmax"
# %% [markdown]
# **Cross-entropy**: the mean $-\log p$ of the tokens that came. The logits at a
# position are about the *next* token. One number a *text* is asked for: section 5 says why.
#
# <details><summary>Hint</summary>
#
# The last logits are about no token, and the first token has none about it. What is left out may hold infinities, and 0
# times infinity is nan: choose with torch.where, not by multiplication.
#
# </details>
# %% exercise="cross_entropy" points=2 difficulty=2 minutes=12
def cross_entropy(
    logits: Float[Tensor, "text pos vocab"],
    tokens: Int[Tensor, "text pos"],
    keep: Bool[Tensor, "text pos"],
) -> Float[Tensor, "text"]:
    """For each text, the mean of -log p(token | those before it) over the tokens to keep.

    The first token follows nothing and never counts, kept or not; of the others each text
    keeps one or more. Whatever stands at the rest (nan, infinities) must not matter; a kept
    token of probability 0 makes its text's mean infinite.
    """
    ### BEGIN SOLUTION
    log_probs = log_softmax(logits[:, :-1])
    costs = -log_probs.gather(-1, tokens[:, 1:, None])[..., 0]
    kept = keep[:, 1:]
    return torch.where(kept, costs, 0).sum(1) / kept.sum(1)
    ### END SOLUTION


# %% check="cross_entropy"
# %% [markdown]
# **Perplexity** is $e^\text{cross-entropy}$ of all tokens together: as unsure as among so many equally likely tokens.
# %% exercise="perplexity" points=1 difficulty=1 minutes=4
def perplexity(losses: Float[Tensor, "text"], counts: Int[Tensor, "text"]) -> float:
    """Perplexity of all tokens together; each loss is the mean over so many, in nats."""
    ### BEGIN SOLUTION
    return math.exp((losses.double() * counts).sum() / counts.sum())
    ### END SOLUTION


# %% check="perplexity"
# %% [markdown]
# ## 2. Two distributions
#
# $H(p) = -\sum p \log p$ is how unsure $p$ is; $\operatorname{KL}(p \| q) = \sum p \log (p / q)$ what believing
# $q$ costs beyond that. A term with $p = 0$ is 0.
# %% exercise="entropy" points=1 difficulty=1 minutes=5
def entropy(log_p: Float[Tensor, "... vocab"]) -> Float[Tensor, "..."]:
    """Entropy in nats of each distribution, given by its log-probabilities (some -inf)."""
    ### BEGIN SOLUTION
    terms = log_p.exp() * log_p
    return -torch.where(log_p.isneginf(), 0, terms).sum(-1)
    ### END SOLUTION


# %% check="entropy"
# %% exercise="kl_divergence" points=1 difficulty=2 minutes=6
def kl_divergence(
    log_p: Float[Tensor, "... vocab"], log_q: Float[Tensor, "... vocab"]
) -> Float[Tensor, "..."]:
    """KL(p || q) in nats; infinite where q forbids what p allows, finite otherwise."""
    ### BEGIN SOLUTION
    terms = log_p.exp() * (log_p - log_q)
    return torch.where(log_p.isneginf(), 0, terms).sum(-1)
    ### END SOLUTION


# %% check="kl_divergence"
# %% [markdown]
# The course's stories are written by a program, so the exact $p$ of every next token is known. Cross-entropy
# is $H(p) + \operatorname{KL}(p \| q)$: what nobody can know, and what `story_lm` fails to.
#
# **Predict**: which part is larger in a trained model, H or KL?
#
# <details><summary>Answer</summary>
#
# H. Names and places are drawn at random: no model can know them.
#
# </details>
# %%
lm = models.load("story_lm")
word_ids = {word: i for i, word in enumerate(corpus.vocabulary())}


@torch.no_grad()
def logits_of(tokens: Int[Tensor, "text pos"]) -> Float[Tensor, "text pos vocab"]:
    return torch.cat([lm(rows) for rows in tokens.split(50)])


# %% experiment=True
parts = []
for number in range(12):
    story = corpus.story(number, corpus.HELD_OUT)
    log_q = log_softmax(logits_of(torch.tensor([corpus.token_ids(story.tokens[:40])]))[0])
    log_p = torch.full_like(log_q, -torch.inf)
    for place in range(len(log_p)):
        for word, p in corpus.next_token_probabilities(story.tokens[:place]).items():
            log_p[place, word_ids[word]] = math.log(p)
    known = [i for i in range(len(log_p)) if log_p[i].isfinite().any()]
    h, kl = entropy(log_p[known]), kl_divergence(log_p[known], log_q[known])
    parts.append((h.mean().item(), kl.mean().item()))
names = ("entropy of the law", "KL(law || story_lm)")
for name, values in zip(names, zip(*parts, strict=True), strict=True):
    print(f"{name:>20}: {evidence.interval(values):.3f} nats a token (12 stories)")
plot.line(
    {"entropy of the law": h, "KL to story_lm": kl},
    tokens=["[BOS]", *story.tokens[:40]][: len(h)],
    y_label="nats",
    title="What cannot be known, and what the model misses (one story)",
)


# %% [markdown]
# ## 3. Sampling and counting
#
# To draw from $p$: lay the probabilities end to end on [0, 1], throw a uniform number, see whose stretch it hits.
#
# <details><summary>Hint</summary>
#
# cumsum makes the borders, torch.searchsorted finds the stretch. Rounding may leave the last border below 1.
#
# </details>
# %% exercise="sample_categorical" points=2 difficulty=2 minutes=12
def sample_categorical(
    probs: Float[Tensor, "... vocab"], n: int, generator: torch.Generator
) -> Int[Tensor, "... n"]:
    """n independent draws from each distribution; a token of probability 0 is never drawn."""
    ### BEGIN SOLUTION
    borders = probs.double().cumsum(-1)
    borders = borders / borders[..., -1:]
    thrown = torch.rand(*probs.shape[:-1], n, generator=generator, dtype=torch.float64)
    return torch.searchsorted(borders, thrown, right=True)
    ### END SOLUTION


# %% check="sample_categorical"
# %% [markdown]
# The simplest language model counts which token follows which. `alpha` imaginary sightings of every pair keep the
# others from probability 0:
#
# $$p(b \mid a) = \frac{\text{count}(a, b) + \alpha}{\sum_{b'} (\text{count}(a, b') + \alpha)}$$
# %% exercise="bigram_model" points=2 difficulty=3 minutes=12
def bigram_model(
    texts: list[Int[Tensor, "n"]], n_vocab: int, alpha: float
) -> Float[Tensor, "n_vocab n_vocab"]:
    """Probability of each next token (column) after each token (row), in float64, alpha > 0.
    The end of one text and the start of the next are no pair.
    """
    ### BEGIN SOLUTION
    counts = torch.full((n_vocab, n_vocab), alpha, dtype=torch.float64)
    for text in texts:
        ones = torch.ones(max(len(text) - 1, 0), dtype=torch.float64)
        counts.index_put_((text[:-1], text[1:]), ones, accumulate=True)
    return counts / counts.sum(1, keepdim=True)
    ### END SOLUTION


# %% check="bigram_model"
# %% [markdown]
# **Predict**: fit it on few stories. Is its loss *on those stories* above or below its loss on others? Can either
# be below the entropy of the law?
#
# <details><summary>Answer</summary>
#
# Below. On its own stories it has seen the outcome: with one story and small alpha it undercuts the law's entropy on
# average, which nothing can do on fresh ones.
#
# </details>
# %% experiment=True
def story_ids(count: int, seed: str, first: int = 0) -> list[Tensor]:
    drawn = corpus.stories(count, seed, first)
    return [torch.tensor(corpus.token_ids(story.tokens)) for story in drawn]


def bigram_loss(model: Tensor, texts: list[Tensor]) -> float:
    costs = torch.cat([-model[text[:-1], text[1:]].log() for text in texts])
    return costs.mean().item()


fresh_texts = story_ids(300, corpus.HELD_OUT)
true_entropy, error = corpus.entropy(500)
sizes, own, others = (1, 3, 10, 100, 1000), [], []
all_texts = story_ids(1000, "bigram")
for size in sizes:
    groups = [all_texts[i : i + size] for i in range(0, 1000, size)][:20]  # 20 fits, or fewer
    fits = [bigram_model(texts, len(word_ids), alpha=1e-4) for texts in groups]
    on_own = torch.tensor([bigram_loss(*pair) for pair in zip(fits, groups, strict=True)])
    own.append(on_own.mean().item())
    others.append(sum(bigram_loss(fit, fresh_texts) for fit in fits) / len(fits))
    print(f"{size:>5} stories: on them {own[-1]:.2f},", end=" ")
    print(f"on fresh ones {others[-1]:.2f}", end=" ")
    print(f"nats (mean of {len(fits)}; {(on_own < true_entropy).sum()} below the law)")
print(f"entropy of the law: {true_entropy:.3f} +- {error:.3f}")
rows = corpus.batch(200, 128, corpus.HELD_OUT)
keep = rows != 0
losses = cross_entropy(logits_of(rows), rows, keep)
counts = keep[:, 1:].sum(1)
print(f"perplexity on fresh stories: story_lm {perplexity(losses, counts):.2f},", end=" ")
print(f"bigrams {math.exp(others[-1]):.2f}, the law {math.exp(true_entropy):.2f}")
figure = plot.line(
    {"its own stories": own, "fresh stories": others},
    x=sizes,
    log_x=True,
    x_label="stories that the bigram model has read",
    y_label="nats a token",
    title="A fit flatters itself",
)
figure.add_hline(y=true_entropy, line_dash="dash", annotation_text="entropy of the law")
figure.show()


# %% [markdown]
# ## 4. An interval, and whether it keeps its promise
#
# Of 95 % intervals, 95 % should hold the truth. The **bootstrap** draws new samples *from the sample*, with
# replacement, and sees how their mean moves. Percentile interval: its 2.5 % and 97.5 % quantiles.
# %% exercise="bootstrap_interval" points=2 difficulty=2 minutes=10
def bootstrap_interval(
    values: Float[Tensor, "n"], level: float, n_draws: int, generator: torch.Generator
) -> tuple[float, float]:
    """Percentile bootstrap interval for the mean of independent values: low, high."""
    ### BEGIN SOLUTION
    picks = torch.randint(len(values), (n_draws, len(values)), generator=generator)
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = values.double()[picks].mean(1).quantile(tails).tolist()
    return low, high
    ### END SOLUTION


# %% check="bootstrap_interval"
# %% [markdown]
# **BCa** (Efron, 1987) reads other quantiles: for each tail $t$, with $\Phi$ the normal distribution function,
#
# $$\Phi\!\left(z_0 + \frac{z_0 + \Phi^{-1}(t)}{1 - a\,(z_0 + \Phi^{-1}(t))}\right)$$
#
# - bias $z_0 = \Phi^{-1}$(share of bootstrap means below the sample's mean; equal ones count half);
# - acceleration $a = \sum d_i^3 / 6 (\sum d_i^2)^{3/2}$, where $d_i = x_i - \bar x$ (for the mean).
#
# <details><summary>Hint</summary>
#
# torch.special.ndtr and ndtri are the function and its inverse. Draw as before; only the quantiles change.
#
# </details>
# %% exercise="bca_interval" points=3 difficulty=4 minutes=20
def bca_interval(
    values: Float[Tensor, "n"], level: float, n_draws: int, generator: torch.Generator
) -> tuple[float, float]:
    """BCa bootstrap interval for the mean: low, high. Of equal values, the value twice."""
    ### BEGIN SOLUTION
    x = values.double()
    mean = x.mean()
    if x.min() == x.max():
        return x[0].item(), x[0].item()
    picks = torch.randint(len(x), (n_draws, len(x)), generator=generator)
    means = x[picks].mean(1)
    below = ((means < mean).double() + (means <= mean).double()).mean() / 2
    bias = torch.special.ndtri(below)
    d = x - mean
    acceleration = d.pow(3).sum() / (6 * d.square().sum().pow(1.5))
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    moved = bias + torch.special.ndtri(tails)
    corrected = torch.special.ndtr(bias + moved / (1 - acceleration * moved))
    low, high = means.quantile(corrected).tolist()
    return low, high
    ### END SOLUTION


# %% check="bca_interval"
# %% exercise="coverage" points=2 difficulty=2 minutes=8
def coverage(
    interval: Callable[[Float[Tensor, "n"]], tuple[float, float]],
    samples: Float[Tensor, "repeat n"],
    truth: float,
) -> tuple[float, float]:
    """The share of samples whose interval holds the truth (its ends included), and the
    standard error of that share, sqrt(share (1 - share) / repeats).
    """
    ### BEGIN SOLUTION
    held = 0
    for sample in samples:
        low, high = interval(sample)
        held += low <= truth <= high
    share = held / len(samples)
    return share, math.sqrt(share * (1 - share) / len(samples))
    ### END SOLUTION


# %% check="coverage"
# %% [markdown]
# Now the promise is measured, on skewed data of known mean (exponential; log-normal), and on normal data as a
# control.
#
# **Predict**: with 5 skewed values, how often does a "95 %" percentile interval hold the mean: 95, 90, or 75 %?
#
# <details><summary>Answer</summary>
#
# About 75: the sample seldom has seen the tail, and no resampling brings it. The t interval is too narrow as well,
# though less; BCa is no cure at 5. Even for normal data the bootstrap falls short there.
#
# </details>
# %% experiment=True
generator = torch.Generator().manual_seed(0)


def student(sample: Tensor) -> tuple[float, float]:
    found = evidence.interval(sample)
    return found.low, found.high


intervals = {
    "t": student,
    "percentile": lambda sample: bootstrap_interval(sample, 0.95, 999, generator),
    "BCa": lambda sample: bca_interval(sample, 0.95, 999, generator),
}
laws = {
    "normal": (lambda z: z, 0.0),
    "exponential": (lambda z: -torch.special.ndtr(-z).log(), 1.0),
    "log-normal": (torch.exp, math.exp(0.5)),
}
print("share of 95 % intervals that hold the mean, of 400 samples")
print(f"{'data':>12} {'n':>4}" + "".join(f"{name:>15}" for name in intervals))
curves = {}
for law, (transform, mean) in laws.items():
    for n in (5, 10, 30, 100):
        z = torch.randn(400, n, generator=generator, dtype=torch.float64)
        line = f"{law:>12} {n:>4}"
        for name, interval in intervals.items():
            share, error = coverage(interval, transform(z), mean)
            line += f"  {share:.3f} +- {error:.3f}"
            curves.setdefault(f"{name}, {law}", []).append(share)
        print(line)
figure = plot.line(
    {name: shares for name, shares in curves.items() if "log" in name},
    x=(5, 10, 30, 100),
    log_x=True,
    x_label="samples",
    y_label="share that holds the mean",
    title="Too narrow for few samples (log-normal data)",
)
figure.add_hline(y=0.95, line_dash="dash")
figure.show()


# %% [markdown]
# So: with few values t, and the values themselves shown. Later notebooks take intervals from
# `concrete_steps.evidence`, whose core you have written (scipy does its arithmetic).
#
# ## 5. The unit that is independent
#
# Tokens of one text share a topic. Count them as independent, and the interval is too narrow. Here texts of 50
# tokens, each token half its text's own level, half noise (in variance; a made-up law).
#
# **Predict**: of "95 %" intervals from the 500 tokens of 10 texts, how many hold the truth: 90, 60 or 30 %?
#
# <details><summary>Answer</summary>
#
# About 30: there are 10 independent things, not 500. One value a text mends it.
#
# </details>
# %% experiment=True
def clustered(repeats: int, share: float) -> Float[Tensor, "repeat text token"]:
    level = torch.randn(repeats, 10, 1, generator=generator) * math.sqrt(share)
    return level + torch.randn(repeats, 10, 50, generator=generator) * math.sqrt(1 - share)


for share in (0.0, 0.02, 0.5):
    values = clustered(400, share)
    by_token, error = coverage(student, values.flatten(1), 0.0)
    by_text, _ = coverage(student, values.mean(2), 0.0)
    print(f"text's share of the variance {share:.2f}:", end=" ")
    print(f"by token {by_token:.2f}, by text {by_text:.2f} (+- {error:.2f})")


def share_of_text(values: list[Tensor]) -> float:
    """The text's share of the variance (intraclass correlation; lengths alike)."""
    within = torch.stack([x.var() for x in values]).mean()
    length = sum(len(x) for x in values) / len(values)
    between = torch.stack([x.mean() for x in values]).var() - within / length
    return (between / (between + within)).item()


token_costs = -log_softmax(logits_of(rows))[:, :-1].gather(-1, rows[:, 1:, None])[..., 0]
real = [costs[kept] for costs, kept in zip(token_costs, keep[:, 1:], strict=True)]
lengths, everything = [len(x) for x in real], torch.cat(real)
null_shares = []
for _ in range(99):
    mixed = everything[torch.randperm(len(everything), generator=generator)]
    null_shares.append(share_of_text(list(mixed.split(lengths))))
print(f"losses of story_lm: {share_of_text(real):.4f}; tokens shuffled", end=" ")
print(f"among the texts (the null): {min(null_shares):.4f} to {max(null_shares):.4f}")


# %% [markdown]
# Below every shuffle: these stories differ *less* than chance, as texts written to one plan may. Whether tokens mislead
# has to be measured for each quantity. One value a text is safe as long as the texts are independent.
#
# **You ablate a head and compare losses: 5 seeds of one training, 40 prompts, 30 tokens each. The claim is about
# *models trained so*. How many independent values have you?**
# (a) 6,000: every token has a loss of its own; (b) 40: prompts were drawn one by one; (c) 5: one a training, its
# prompts averaged
# %% exercise="answer_unit" points=1 difficulty=2 minutes=3
answer_unit = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_unit = "c"


### END SOLUTION
# %% check="answer_unit"
# %% [markdown]
# ## 6. Two groups
#
# Do a and b differ? If not, their labels mean nothing, and shuffled labels give a difference as large as the real one
# often. With the real one counted, too: $p = (1 + \text{as large}) / (1 + \text{draws})$.
#
# <details><summary>Hint</summary>
#
# Put all in one row; argsort of random numbers shuffles many rows at once. Sums in another order differ in the last
# digit: allow for that when you count ties.
#
# </details>
# %% exercise="permutation_test" points=2 difficulty=3 minutes=15
def permutation_test(
    a: Float[Tensor, "n"], b: Float[Tensor, "m"], n_draws: int, generator: torch.Generator
) -> float:
    """Two-sided p of the difference of means over shuffled labels, the real labels counted
    once. Differences equal up to rounding count as equally large.
    """

    ### BEGIN SOLUTION
    def gap(rows: Float[Tensor, "draw both"]) -> Float[Tensor, "draw"]:
        return (rows[:, : len(a)].mean(1) - rows[:, len(a) :].mean(1)).abs()

    both = torch.cat([a, b]).double()
    order = torch.rand(n_draws, len(both), generator=generator).argsort(1)
    slack = 1e-9 * both.abs().max()
    as_large = (gap(both[order]) >= gap(both[None]) - slack).sum().item()
    return (1 + as_large) / (1 + n_draws)
    ### END SOLUTION


# %% check="permutation_test"
# %% [markdown]
# `story_lm` saw each of its 144,000 training stories once. Does it remember them, the first, or rather the last? For
# each story: its loss, minus the law's own cost.
#
# **Predict**: training stories or fresh ones: which does it know better, and would p be below 0.05?
#
# <details><summary>Answer</summary>
#
# Neither: a story seen once leaves no trace that these tests find. That is no proof of no memory: the intervals say how
# much there could be.
#
# </details>
# %% experiment=True
def excess(seed: str, first: int = 0) -> Float[Tensor, "text"]:
    """Nats a token by which story_lm's loss exceeds the law's cost, of 200 stories."""
    told = [s for s in corpus.stories(260, seed, first) if len(s.tokens) < 128][:200]
    rows = torch.zeros(len(told), 128, dtype=torch.long)
    for row, story in zip(rows, told, strict=True):
        row[: len(story.tokens) + 1] = torch.tensor(corpus.token_ids(story.tokens))
    own = cross_entropy(logits_of(rows), rows, rows != 0).double()
    return own - torch.tensor([-s.log_prob / len(s.tokens) for s in told])


fresh, also_fresh = excess(corpus.HELD_OUT), excess("other")
for name, a, b in (
    ("seen first against fresh", excess("train 0"), fresh),
    ("seen last against fresh", excess("train 0", 9000 * 16 - 260), fresh),
    ("fresh against fresh (the null)", also_fresh, fresh),
):
    print(f"{name:>30}: {evidence.difference(a, b):.4f} nats,", end=" ")
    print(f"p = {permutation_test(a, b, 4999, generator):.3f}")


# %% [markdown]
# **A permutation test gives p = 0.03. Which sentence is right?**
# (a) if labels meant nothing, so large a difference would come in 3 % of shuffles; (b) the probability that there
# is no difference is 3 %, so there is one with 97 %; (c) 3 % of the values differ between the groups, the other 97
# % do not
# %% exercise="answer_p" points=1 difficulty=1 minutes=2
answer_p = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_p = "a"


### END SOLUTION
# %% check="answer_p"
# %% [markdown]
# ## 7. A null that matches
#
# SmolLM2 has 270 heads. Whoever looks at all and shows the best has done a *selection*, and the null must do the
# same: same statistic, best of 270, on data whose labels are shuffled.
# %% exercise="matched_null" points=2 difficulty=3 minutes=12
def matched_null(
    statistic: Callable[[Float[Tensor, "n heads"], Float[Tensor, "n"]], float],
    x: Float[Tensor, "n heads"],
    y: Float[Tensor, "n"],
    n_draws: int,
    generator: torch.Generator,
) -> tuple[float, Float[Tensor, "n_draws"], float]:
    """statistic(x, y); the same with y shuffled against the rows of x, n_draws times; and p,
    one-sided (large is surprising), the real value counted once.
    """
    ### BEGIN SOLUTION
    value = float(statistic(x, y))
    shuffled = [y[torch.randperm(len(y), generator=generator)] for _ in range(n_draws)]
    null = torch.tensor([float(statistic(x, labels)) for labels in shuffled])
    return value, null, (1 + (null >= value).sum().item()) / (1 + n_draws)
    ### END SOLUTION


# %% check="matched_null"
# %% [markdown]
# 40 prompts of random tokens, 20 of which repeat themselves. For each head: how much the last token attends to the
# start. Labels: repeats or not (real), or a coin thrown for each prompt (nothing).
#
# **Predict**: over coins, how large is the largest |correlation| among 270 heads: 0.1, 0.4 or 0.8?
#
# <details><summary>Answer</summary>
#
# About 0.4: nothing, well searched. Test the chosen head as if it were alone, and p is small.
#
# </details>
# %%
def correlations(
    x: Float[Tensor, "n heads"], y: Float[Tensor, "n"]
) -> Float[Tensor, "heads"]:
    x, y = x - x.mean(0), y - y.mean()
    return (x * y[:, None]).sum(0) / (x.norm(dim=0) * y.norm())


def best(x: Float[Tensor, "n heads"], y: Float[Tensor, "n"]) -> float:
    return correlations(x, y).abs().max().item()


# %%
smol = models.smollm2()


@torch.no_grad()
def attention_of_the_last(seed: int) -> Float[Tensor, "prompt head place"]:
    """What each head's last token attends to, for 40 new prompts; the first 20 repeat."""
    maker = torch.Generator().manual_seed(seed)
    half, other = torch.randint(1000, 20_000, (2, 40, 12), generator=maker)
    second = torch.where(torch.arange(40)[:, None] < 20, half, other)
    start = torch.full((40, 1), smol.tokenizer.bos_token_id)
    prompts = torch.cat([start, half, second], dim=1)
    _, cache = smol.run_with_cache(prompts, names_filter=lambda name: "pattern" in name)
    last = [cache["pattern", layer][:, :, -1] for layer in range(30)]
    return torch.cat(last, dim=1).double()


last = attention_of_the_last(seed=2)
to_start = last[:, :, 0]
maker = torch.Generator().manual_seed(5)
repeats = (torch.arange(40) < 20).double()
coin = (torch.rand(40, generator=maker) < 0.5).double()
# %% experiment=True
nulls = {}
for name, labels in (("repeats", repeats), ("coin", coin)):
    value, null, p = matched_null(best, to_start, labels, 999, generator)
    nulls[name] = null
    head = correlations(to_start, labels).abs().argmax().item()
    chosen = to_start[:, head : head + 1]
    _, _, p_alone = matched_null(best, chosen, labels, 999, generator)
    print(f"{name:>8}: best is L{head // 9}H{head % 9}, |correlation| {value:.2f};", end=" ")
    print(f"null, median {null.median():.2f}; p {p:.3f}; tested as if alone {p_alone:.3f}")
plot.hist(
    nulls,
    bins=30,
    x_label="largest |correlation| of 270 heads, labels shuffled",
    y_label="how many",
    title="The best of nothing",
)


# %% [markdown]
# To say *which* heads, test each and correct. **Holm** (1979): sort the $m$ values, multiply the smallest by $m$, the
# next by $m - 1$, ... None may come out smaller than one before it, nor above 1. Whoever names what is then below
# 0.05 is wrong *anywhere* in at most 5 % of searches.
# %% exercise="holm" points=2 difficulty=3 minutes=10
def holm(p_values: Float[Tensor, "m"]) -> Float[Tensor, "m"]:
    """Holm's adjusted p-values, in the order in which the p-values came."""
    ### BEGIN SOLUTION
    order = p_values.argsort()
    factors = torch.arange(len(p_values), 0, -1)
    rising = (p_values[order] * factors).cummax(0).values.clamp(max=1)
    return torch.empty_like(rising).scatter(0, order, rising)
    ### END SOLUTION


# %% check="holm"
# %% experiment=True
for name, labels in (("repeats", repeats), ("coin", coin)):
    a, b = to_start[labels == 1].numpy(), to_start[labels == 0].numpy()
    p_values = torch.tensor(stats.ttest_ind(a, b, equal_var=False).pvalue)
    print(f"{name:>8}: {(p_values < 0.05).sum()} of 270 heads below 0.05;", end=" ")
    print(f"after Holm {(holm(p_values) < 0.05).sum()}", end=" ")
    print("(chance gives 13.5 on average, and after Holm none in 95 % of searches)")
# %% [markdown]
# **With coins 270 tests gave the count above. Of *another* coin, what do you expect?**
# (a) the same heads again, as they are the sensitive ones; (b) other heads, and quite another count: heads go
# together;
# (c) about 13 or 14 heads each time, since chance alone fixes how many there are
# %% exercise="answer_coin" points=1 difficulty=2 minutes=3
answer_coin = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_coin = "b"


### END SOLUTION
# %% check="answer_coin"
# %% experiment=True
found = []
for _ in range(20):
    labels = torch.rand(40, generator=maker) < 0.5
    groups = to_start[labels].numpy(), to_start[~labels].numpy()
    found.append(int((stats.ttest_ind(*groups, equal_var=False).pvalue < 0.05).sum()))
print(f"heads below 0.05 for 20 coins: {sorted(found)}")
print(f"mean {sum(found) / 20:.1f}; independent tests would scatter by", end=" ")
print(f"{math.sqrt(270 * 0.05 * 0.95):.1f}, these by {torch.tensor(found).float().std():.1f}")
# %% [markdown]
# ## 8. The best of many, on fresh data
#
# The best score is partly luck, and luck does not repeat: **regression to the mean**. So choose on one half of the
# prompts, report on the other. One split is luck again: average over many. Best are prompts that are new.
# %% exercise="best_of_many" points=3 difficulty=4 minutes=15
def best_of_many(
    scores: Float[Tensor, "prompt head"], n_splits: int, generator: torch.Generator
) -> tuple[float, float, float]:
    """Over random splits of the prompts into n // 2 and the rest, the means of: the score
    (mean over the first part) of the head that is best there; that head's score on the rest;
    whether it is the best there, too (0 or 1).
    """
    ### BEGIN SOLUTION
    found = []
    for _ in range(n_splits):
        order = torch.randperm(len(scores), generator=generator)
        first = scores[order[: len(scores) // 2]].mean(0)
        rest = scores[order[len(scores) // 2 :]].mean(0)
        head = first.argmax()
        found.append((first[head].item(), rest[head].item(), float(rest.argmax() == head)))
    chosen, fresh, again = (sum(column) / n_splits for column in zip(*found, strict=True))
    return chosen, fresh, again
    ### END SOLUTION


# %% check="best_of_many"
# %% [markdown]
# Two scores a head and prompt: what the last token gives to the *token before it* (some heads are made for that), and
# what it gives to a place *drawn at random*, less the mean of such places (no head can know it).
#
# **Predict**: which "best head" holds on fresh prompts?
#
# <details><summary>Answer</summary>
#
# The previous-token head keeps its score, the other loses it. What the rest of the same 40 prompts shows for it, of
# either sign, is luck in which all splits share: so ask new ones.
#
# </details>
# %% experiment=True
new = attention_of_the_last(seed=3)


def scores_of(last: Tensor) -> dict[str, Float[Tensor, "prompt head"]]:
    places = torch.randint(1, 24, (40,), generator=maker)
    at_place = last[torch.arange(40), :, places] - last[:, :, 1:24].mean(-1)
    return {"token before": last[:, :, -2], "random place": at_place}


old_scores, new_scores = scores_of(last), scores_of(new)
for name, scores in old_scores.items():
    chosen, again, agree = best_of_many(scores, 200, generator)
    print(f"{name}: chosen on half with {chosen:.3f}, on the rest {again:.3f};", end=" ")
    print(f"best on both in {agree:.0%} of splits; mean head {scores.mean():.3f}")
    fresh = new_scores[name]
    head, chosen, again = evidence.best_of_many(scores.mean(0), fresh.mean(0))
    print(f"    on all 40 L{head // 9}H{head % 9} with {chosen:.3f}; on 40 new ones", end=" ")
    print(f"{evidence.interval(fresh[:, head]):.3f}")
    figure = plot.scatter(
        scores.mean(0),
        fresh.mean(0),
        x_label="score on the 40 prompts that choose",
        y_label="score on 40 new prompts",
        title=f"270 heads: {name}",
    )
    figure.show()
# %% [markdown]
# A strong effect survives selection; a weak one needs fresh data to be told from luck. The interval on the new prompts
# is honest, since they chose nothing.
#
# ## Bonus (not graded)
#
# 1. **Paired.** Flip signs, not labels, when each prompt has both values. How much smaller is p?
# 2. **False discovery.** Benjamini and Hochberg (1995) allow 5 % of the *found* heads to be wrong. How many more?
# 3. **Entropy, estimated.** How does the entropy of counted frequencies fall short, with 10, 100, 1,000 draws?
# %% [markdown]
# ## Recap
#
# | confusion | what holds |
# |---|---|
# | "Mean of perplexities" | exponent of the mean loss over all tokens |
# | "KL is a distance" | it has a direction: expectation under the first |
# | "The bootstrap needs no assumptions" | it knows only the sample: too narrow for few values |
# | "6,000 tokens, so a tiny error" | count the units that were drawn independently |
# | "p is the probability of the null" | it is how often the null does as much |
# | "The best head scores 0.4" | so does the best of nothing: match the null, score again |
#
# Read on: Cover and Thomas, *Elements of Information Theory*; Efron and Tibshirani, *An Introduction to the
# Bootstrap*
# (1993); Efron, *Better bootstrap confidence intervals* (1987); Holm, *A simple sequentially rejective multiple test
# procedure* (1979); Miller, *Adding Error Bars to Evals* (2024).
