# %% [markdown]
# # 4.1 A Mathematical Framework, in code
#
# Without MLPs and norms, a transformer's logits are a sum: one term for each path from a token, through no head, one
# head or several, to the output. Elhage et al. (2021) read models by these terms. You will write the sum, weigh its
# terms, read skip-trigrams off the weights and check them in the law of the stories, and see where this picture ends.
#
# ![Paths from token to logits: direct, through one head of either layer, through both](figures/4.1_paths.svg)
# %% generated="overview"
# %% setup=True
import math
from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import corpus, evidence, models, plot, wired

Head = tuple[int, int]  # (layer, head)
Path = tuple[Head, ...]  # the heads that are passed, in order; () is the direct path
Triple = tuple[int, int, int]  # tokens: source, present, out
# %% [markdown]
# ## 1. No layers: a bigram table
#
# A model without layers knows one token. All that it can say is which token comes next after it: row $i$ of
# $\operatorname{softmax}(W_E W_U)$. `attn_only_0l` is such a model. (It has no positions: $W_\text{pos} = 0$.)
# %% exercise="bigram_of_zero_layers" points=1 difficulty=1 minutes=4
def bigram_of_zero_layers(model: TransformerBridge) -> Float[Tensor, "token next"]:
    """The log-probability of each next token (column) after each token (row), from W_E and
    W_U alone.
    """
    ### BEGIN SOLUTION
    return (model.W_E @ model.W_U).log_softmax(-1)
    ### END SOLUTION
# %% check="bigram_of_zero_layers"
# %% [markdown]
# The best that it can do is the stories' **bigram law**: the shares with which tokens follow a token. How far is it
# from that? In nats for each token of a text, so that frequent tokens count more:
#
# $$\sum_i p(i) \sum_j p(j \mid i)\, \log \frac{p(j \mid i)}{q(j \mid i)}$$
#
# Pairs that never occur add nothing, whatever $q$ says of them; $0 \cdot \log 0$ in PyTorch is `nan`.
# %% exercise="bigram_kl" points=2 difficulty=2 minutes=10
def bigram_kl(
    counts: Float[Tensor, "token next"], log_q: Float[Tensor, "token next"]
) -> float:
    """The mean KL, over tokens as often as they occur, from the law of these counts to the
    table log_q. A token may have no counts at all.
    """
    ### BEGIN SOLUTION
    token, after = counts.nonzero(as_tuple=True)
    n = counts[token, after]
    log_p = n.log() - counts.sum(1)[token].log()
    return ((n * (log_p - log_q[token, after])).sum() / n.sum()).item()
    ### END SOLUTION
# %% check="bigram_kl"
# %% [markdown]
# **Predict**: which is nearer to the bigram law, the model without layers, or the direct path $W_E W_U$ of the model
# with one layer, which reads stories better?
#
# <details><summary>Answer</summary>
#
# Without layers, by far. Where heads can help, the direct path need not be a bigram table alone: what it says is right
# only together with what the heads add.
#
# </details>
# %% experiment=True
zero, one, two = (models.load(f"attn_only_{n}l").requires_grad_(False) for n in range(3))
WORDS = [one.tokenizer.decode([token]) for token in range(one.cfg.d_vocab)]
stories = corpus.batch(3000, 64, seed="4.1")


def pair_counts(rows: Int[Tensor, "row pos"]) -> Float[Tensor, "token next"]:
    """How often each token (column) follows each (row); 0 is padding."""
    token, after = rows[:, :-1].flatten(), rows[:, 1:].flatten()
    code = (token * 333 + after)[after != 0]
    return torch.bincount(code, minlength=333 * 333).view(333, 333).float()


counts = pair_counts(stories)
unigram = (counts.sum(0) + 0.01).log().log_softmax(-1).expand(333, 333)
tables = {
    "no layers": bigram_of_zero_layers(zero),
    "no layers, untrained": bigram_of_zero_layers(models.load("attn_only_0l", step=0)),
    "one layer, direct path": bigram_of_zero_layers(one),
    "two layers, direct path": bigram_of_zero_layers(two),
    "unigram": unigram,
    "of another 3000 stories": (
        pair_counts(corpus.batch(3000, 64, seed="4.1 again")) + 1e-3
    ).log().log_softmax(-1),
}
kls = {name: bigram_kl(counts, table) for name, table in tables.items()}
for name, kl in kls.items():
    print(f"{name:>24}: {kl:.3f} nats from the bigram law")
# %% [markdown]
# A table counted in other stories is further away (.018): both samples are noisy. About half of the model's .011 is
# the noise of these 3,000 stories: with 10,000, and the noise subtracted, the datasheet has .004 nats.
#
# ## 2. All paths
#
# With its attention pattern $A$ held fixed, a head is linear: it mixes positions by $A$, and maps the stream by
# $W_V W_O$. The one does not care about the other: $(A \otimes W_{OV})\,x$, which is $A\,x\,W_V W_O$ in the code.
# %% exercise="through_head" points=1 difficulty=2 minutes=6
def through_head(
    model: TransformerBridge,
    x: Float[Tensor, "batch key d_model"],
    pattern: Float[Tensor, "batch query key"],
    layer: int,
    head: int,
) -> Float[Tensor, "batch query d_model"]:
    """What a query head with this pattern writes, if x is all that its values read. The model
    may have shared values (3.2).
    """
    ### BEGIN SOLUTION
    shared_by = model.W_O.shape[1] // model.W_V.shape[1]
    return pattern @ x @ model.W_V[layer, head // shared_by] @ model.W_O[layer, head]
    ### END SOLUTION
# %% check="through_head"
# %% [markdown]
# The stream into a layer is a sum, so each head splits what it writes into as many terms: one for each path so far,
# carried on. Multiply out
#
# $$\Big(1 + \sum_h A^{1,h} \otimes W_{OV}^{1,h}\Big)\Big(1 + \sum_h A^{0,h} \otimes W_{OV}^{0,h}\Big)\,x$$
#
# and each product of heads is a path. A path of two heads is a **virtual head**.
#
# **Predict**: how many paths do two layers of 4 heads have? And SmolLM2's attention, 30 layers of 9?
#
# <details><summary>Answer</summary>
#
# $(1 + 4)^2 = 25$, and $10^{30}$: no list for a real model.
#
# </details>
#
# <details><summary>Hint</summary>
#
# Keep a dictionary from path to its part of the stream. In each layer, every head carries on every entry that was
# there *before* the layer.
#
# </details>
# %% exercise="path_expansion" points=3 difficulty=4 minutes=25
def path_expansion(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"]
) -> dict[Path, Float[Tensor, "batch pos d_vocab"]]:
    """What each path adds to the logits, with all patterns as they are in this run.

    The direct path () starts from token and position embeddings, as all do; ((0, 2), (1, 3))
    goes through head 2 of layer 0, then head 3 of layer 1. The model has attention only, no
    norm, and biases of 0; shared values as before. No hook stays behind.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    parts = {(): model.W_E[tokens] + model.W_pos[: tokens.shape[1]]}
    for layer, head in product(range(model.cfg.n_layers), range(model.cfg.n_heads)):
        before = [path for path in parts if path == () or path[-1][0] < layer]
        for path in before:
            looks = cache["pattern", layer][:, head]
            parts[*path, (layer, head)] = through_head(model, parts[path], looks, layer, head)
    return {path: part @ model.W_U for path, part in parts.items()}
    ### END SOLUTION
# %% check="path_expansion"
# %% experiment=True
told = corpus.batch(100, 64, seed="4.1 told")
once = torch.randint(4, 333, (64, 30), generator=torch.Generator().manual_seed(0))
repeats = torch.cat([torch.ones(64, 1, dtype=torch.long), once, once], dim=1)
expanded = {}
for name, model in (("one layer", one), ("two layers", two)):
    for text, rows in (("stories", told), ("repeats", repeats)):
        terms = expanded[name, text] = path_expansion(model, rows)
        whole = model(rows)
        off = (sum(terms.values()) - whole).abs().max()
        single = sum(term for path, term in terms.items() if len(path) < 2)
        print(
            f"{name}, {text}: {len(terms)} paths, logits to {whole.abs().max():.0f}, off by",
            f"{off:.0e}; without virtual heads by {(single - whole).abs().max():.2g}",
        )
# %% [markdown]
# ## 3. How much is a term worth?
#
# Exact does not say important. The paper adds the terms in order of their length, and asks each time by how many nats
# the loss falls: start from nothing (all tokens alike), add the direct path, then all single heads, then all virtual
# ones.
# %% exercise="term_importance" points=2 difficulty=3 minutes=15
def term_importance(
    terms: list[Float[Tensor, "row pos d_vocab"]], tokens: Int[Tensor, "row pos"]
) -> Float[Tensor, "term row"]:
    """By how many nats a row's mean loss falls when a term is added to the logits of all the
    terms before it in the list; the first is added to logits of 0.

    The loss is over next tokens that are not padding (0).
    """
    ### BEGIN SOLUTION
    def loss(logits: Tensor) -> Float[Tensor, "row"]:
        real = tokens[:, 1:] != 0
        each = F.cross_entropy(logits[:, :-1].mT, tokens[:, 1:], reduction="none")
        return (each * real).sum(1) / real.sum(1)

    total = torch.zeros_like(terms[0])
    losses = [loss(total)]
    for term in terms:
        total = total + term
        losses.append(loss(total))
    return torch.stack(losses[:-1]) - torch.stack(losses[1:])
    ### END SOLUTION
# %% check="term_importance"
# %% [markdown]
# **Predict**: in two layers, on stories: which of the three is worth most, which least? And if you add them in the
# *opposite* order?
#
# <details><summary>Answer</summary>
#
# Single heads most, virtual heads least, as in the paper's model. Added first, virtual heads look worth 2 nats.
#
# </details>
# %% experiment=True
def by_length(terms: dict[Path, Tensor]) -> list[Tensor]:
    """Direct path, the sum of single heads, the sum of virtual heads, if any."""
    longest = max(map(len, terms))
    return [
        sum(term for path, term in terms.items() if len(path) == n)
        for n in range(longest + 1)
    ]


KINDS = ["direct path", "single heads", "virtual heads"]
worth, worth_backwards = {}, {}
for (name, text), terms in expanded.items():
    rows, groups = (told if text == "stories" else repeats), by_length(terms)
    forwards = term_importance(groups, rows)
    backwards = term_importance(groups[::-1], rows).flip(0)
    print(f"{name}, {text}")
    for kind, first, last in zip(KINDS, forwards, backwards, strict=False):
        worth[name, text, kind] = evidence.interval(first)
        worth_backwards[name, text, kind] = evidence.interval(last)
        print(
            f"  {kind:>13}: {evidence.interval(first):.2f} nats;",
            f"in opposite order {evidence.interval(last):.2f}",
        )
# The null: virtual heads' terms of another story, as large and as peaked
direct, single, virtual = by_length(expanded["two layers", "stories"])
another = evidence.interval(term_importance([direct, single, virtual.roll(1, 0)], told)[2])
print(f"virtual heads of the next story: {another:.2f}")
another_single = evidence.interval(term_importance([direct, single.roll(1, 0)], told)[1])
print(f"single heads of the next story: {another_single:.2f}")
plot.bar(
    {
        order: [values["two layers", "stories", kind].value for kind in KINDS]
        for order, values in (("in order", worth), ("opposite", worth_backwards))
    },
    x=KINDS,
    x_label="terms",
    y_label="nats",
    title="Two layers, stories: what terms are worth, added in two orders",
)
# %% [markdown]
# **Two layers: virtual heads are worth .06 nats added last and 2.2 added first. What follows?**
# (a) one of the two was computed wrongly; (b) most of what they say, the other terms say as well; (c) the model would
# lose 2.2 nats without them
# %% exercise="answer_order" points=1 difficulty=2 minutes=3
answer_order = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_order = "b"
### END SOLUTION
# %% check="answer_order"
# %% [markdown]
# **On repeats, virtual heads are worth .01 nats, though induction needs both layers (3.5). Why?**
# (a) the heads of layer 0 have learned to do induction by themselves; (b) what they say, the direct path says as
# well; (c) layer 0 acts on layer 1's patterns, which are held fixed
# %% exercise="answer_frozen" points=1 difficulty=2 minutes=3
answer_frozen = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_frozen = "c"
### END SOLUTION
# %% check="answer_frozen"
# %% [markdown]
# ## 4. One layer: skip-trigrams
#
# A head of a one-layer model looks from the **present** token at a **source** token anywhere before it and raises
# **out** tokens: source ... present -> out. QK says how much it looks, OV what it adds.
#
# Scores are comparable within a row only. So ask for a weight: how much of the attention does *one* source get, if
# `others` more keys stand beside it, drawn as often as tokens occur? With scores $s_{ij}$ of query $i$ and key $j$:
#
# $$w_{ij} = \frac{e^{s_{ij}}}{e^{s_{ij}} + \text{others} \cdot \sum_t p(t)\, e^{s_{it}}}$$
#
# Scores of trained heads can be too large for `exp`.
# %% exercise="key_weight" points=2 difficulty=3 minutes=12
def key_weight(
    scores: Float[Tensor, "query key"], frequency: Float[Tensor, "key"], others: int
) -> Float[Tensor, "query key"]:
    """The attention of a query token to one key token among `others` average keys.

    Args:
        frequency: the tokens' shares, which sum to 1; a share may be 0.
        others: how many there are, 1 or more.
    """
    ### BEGIN SOLUTION
    average = (scores + frequency.log()).logsumexp(1, keepdim=True)
    return (scores - average - math.log(others)).sigmoid()
    ### END SOLUTION
# %% check="key_weight"
# %% [markdown]
# A skip-trigram's **boost** is the weight times what OV adds to `out`, above the mean of that row: a constant for all
# logits changes nothing.
#
# Many of the largest boosts would be nonsense, since the direct path forbids the out token after the present one. So
# list those that it `allowed`.
# %% exercise="skip_trigrams" points=2 difficulty=3 minutes=15
def skip_trigrams(
    weight: Float[Tensor, "present source"],
    ov: Float[Tensor, "source out"],
    allowed: Bool[Tensor, "present out"],
    k: int,
) -> list[Triple]:
    """The k skip-trigrams (source, present, out) of a head with the largest boost, largest
    first, among those in which `out` is allowed after `present`.

    There are k of them or more, and no two have the same boost.
    """
    ### BEGIN SOLUTION
    above = ov - ov.mean(1, keepdim=True)
    present, out = allowed.nonzero(as_tuple=True)
    boost = weight[present] * above[:, out].T  # [pair source]
    best = boost.flatten().topk(k).indices
    pair, source = best // len(ov), best % len(ov)
    triples = torch.stack([source, present[pair], out[pair]], dim=1)
    return [tuple(triple) for triple in triples.tolist()]
    ### END SOLUTION
# %% check="skip_trigrams"
# %% [markdown]
# ### In the stories
#
# Weights propose; ask the stories: does `out` follow `present` more often where `source` stood before?
# %% exercise="skip_trigram_shares" points=2 difficulty=3 minutes=12
def skip_trigram_shares(
    tokens: Int[Tensor, "row pos"], source: int, present: int, out: int
) -> tuple[float, float]:
    """The share of places with the token `present` that `out` follows at once: where `source`
    stands anywhere before `present` in the row, and where it does not.

    A last place of a row, or one followed by padding (0), does not count. nan if there is no
    such place.
    """
    ### BEGIN SOLUTION
    is_source = (tokens == source).int()
    before = (is_source.cumsum(1) - is_source)[:, :-1] > 0
    place = (tokens[:, :-1] == present) & (tokens[:, 1:] != 0)
    hit = (tokens[:, 1:] == out).float()
    return hit[place & before].mean().item(), hit[place & ~before].mean().item()
    ### END SOLUTION
# %% check="skip_trigram_shares"
# %% [markdown]
# **Predict**: of the 60 strongest of each head, which share holds in the stories, on average over their sources? And
# for the same source and present, but another out that is allowed there?
#
# <details><summary>Answer</summary>
#
# Nearly all; the others in about a quarter of the cases: where one out becomes likelier, most become rarer.
#
# </details>
# %% experiment=True
frequency = counts.sum(0) / counts.sum()
allowed = bigram_of_zero_layers(zero).exp() > 0.002
allowed[:4] = False  # [BOS] and the like say nothing of the story


def head_tables(model: TransformerBridge, head: int) -> tuple[Tensor, Tensor]:
    """A layer-0 head's weights [present source], 30 others beside it, and its OV circuit."""
    queries, keys = (model.W_E @ W[0, head] for W in (model.W_Q, model.W_K))
    ov = model.W_E @ model.W_V[0, head] @ model.W_O[0, head] @ model.W_U
    return key_weight(queries @ keys.T / 32**0.5, frequency, 30), ov


def holds(source: int, present: int, out: int) -> bool:
    seen, unseen = skip_trigram_shares(stories, source, present, out)
    return seen > unseen


listed, confirmed, by_chance, shown = {}, {}, {}, {}
drawn = torch.Generator().manual_seed(0)
for head in range(4):
    listed[head] = skip_trigrams(*head_tables(one, head), allowed, 60)
    for source, present, out in listed[head]:
        seen, unseen = skip_trigram_shares(stories, source, present, out)
        if math.isnan(seen) or math.isnan(unseen):
            continue  # never with, or never without: nothing to compare
        shown.setdefault(head, []).append((source, present, out, seen, unseen))
        confirmed.setdefault((source, head), []).append(float(seen > unseen))
        others = [o for o in allowed[present].nonzero()[:, 0].tolist() if o != out]
        if others:
            pick = others[torch.randint(len(others), (1,), generator=drawn)]
            does = float(holds(source, present, pick))
            by_chance.setdefault((source, head), []).append(does)
    for source, present, out, seen, unseen in shown[head][:4]:
        said = f"{WORDS[source]!r} ... {WORDS[present]!r} -> {WORDS[out]!r}"
        print(f"head {head}: {said:<32} {seen:.2f} of places with it, {unseen:.2f} without")
# A source of a head is a unit
mean_of = {key: sum(of) / len(of) for key, of in confirmed.items()}
mean_null = {key: sum(of) / len(of) for key, of in by_chance.items()}
both = sorted(mean_of.keys() & mean_null.keys())
held, held_null = (torch.tensor([of[key] for key in both]) for of in (mean_of, mean_null))
more = evidence.difference(held, held_null, paired=True)
print(f"hold: {held.mean():.2f}; another allowed out: {held_null.mean():.2f};", end=" ")
print(f"difference {more:.2f} ({len(both)} sources)")
# %% [markdown]
# How a story ends (`' In' ... '.' -> '[EOS]'` is of its last sentence), that a quote is closed, that a list has a next
# item: read off two matrices.
#
# ## 5. The skip-trigram bug
#
# A head's boost is a product, weight(present, source) times OV(source, out): **present and out never meet**. If one
# source serves two presents with two outs, the head raises each out after *both*.
# %% exercise="skip_trigram_bug" points=2 difficulty=3 minutes=15
def skip_trigram_bug(
    weight: Float[Tensor, "present source"],
    ov: Float[Tensor, "source out"],
    wanted: list[Triple],
) -> set[Triple]:
    """What the head says besides. If (s, p1, o1) and (s, p2, o2) are wanted, (s, p1, o2) and
    (s, p2, o1) are candidates, unless they are wanted, too. Those whose boost (above the
    row's mean, as before) is at least that of the weakest wanted one of s are returned.
    """
    ### BEGIN SOLUTION
    above = ov - ov.mean(1, keepdim=True)
    bugs = set()
    for source in {source for source, _, _ in wanted}:
        pairs = [(present, out) for its, present, out in wanted if its == source]
        weakest = min(weight[present, source] * above[source, out] for present, out in pairs)
        for present, out in product({p for p, _ in pairs}, {o for _, o in pairs}):
            strong = weight[present, source] * above[source, out] >= weakest
            if strong and (present, out) not in pairs:
                bugs.add((source, present, out))
    return bugs
    ### END SOLUTION
# %% check="skip_trigram_bug"
# %% [markdown]
# **Predict**: the four heads' listed skip-trigrams that hold in the stories are what we want. Does the whole model say
# the bugs aloud? Which part of it could not let them pass?
#
# <details><summary>Answer</summary>
#
# Nearly never: the direct path knows present and out, and forbids them. Without it some can be heard.
#
# </details>
# %% experiment=True
many = corpus.batch(400, 64, seed="4.1 bugs")
real_logits = one(many)
without_direct = real_logits - path_expansion(one, many)[()]
heard, heard_without, bug_list = [], [], []
for head in range(4):
    wanted = [(s, p, o) for s, p, o, seen, unseen in shown[head] if seen > unseen + 0.02]
    for bug in sorted(skip_trigram_bug(*head_tables(one, head), wanted)):
        source, present, out = bug
        is_source = (many == source).int()
        place = (many == present) & (is_source.cumsum(1) - is_source > 0)
        place[:, -1] = False
        if place.any():
            aloud = real_logits[place].softmax(-1)[:, out].mean().item()
            freed = without_direct[place].softmax(-1)[:, out].mean().item()
            seen, _ = skip_trigram_shares(stories, *bug)
            heard.append(aloud - (0 if math.isnan(seen) else seen))
            heard_without.append(freed)
            bug_list.append((freed, head, bug, aloud, seen))
for freed, head, (source, present, out), aloud, seen in sorted(bug_list, reverse=True)[:6]:
    said = f"{WORDS[source]!r} ... {WORDS[present]!r} -> {WORDS[out]!r}"
    print(f"head {head}: {said:<30} {aloud:.3f}, no direct path {freed:.2f}, law {seen:.2f}")
print(f"{len(heard)} bugs: model minus law {evidence.interval(heard):.3f};", end=" ")
print(f"probability without the direct path {evidence.interval(heard_without):.2f}")
# %% [markdown]
# The bug is in the terms, and the sum repairs it where the direct path can: where present and out never go together in
# any story. (Of its own example, "keep ... at mind", the paper says that the *head* raises it; not what the sum does.)
#
# ## 6. Not a sum of skip-trigrams
#
# Is a one-layer model its list of skip-trigrams? No: the softmax lets sources **compete**. Take a rule that no sum of
# one number for each source can follow: say `out` if just one of A and B is in the context, not if both are, nor if
# neither is. A sum $c + f(A) + f(B)$ cannot: by the first two $2c + f(A) + f(B) > 0$, by the other two it is below 0.
#
# Two heads can. Each has a score and a value for each token of the context; its output is the softmax-weighted mean of
# the values, and the model says `out` if both outputs together are above 0.
# %% exercise="exclusive_or" points=3 difficulty=4 minutes=20
def exclusive_or() -> tuple[
    Float[Tensor, "head=2 token=3"], Float[Tensor, "head=2 token=3"]
]:
    """Scores and values, for two heads, of the tokens 0 (filler), 1 (A) and 2 (B).

    With 1 to 20 fillers and at most one A and one B in the context, the two outputs together
    are above 0.1 where just one of A and B is there, and below -0.1 otherwise.
    """
    ### BEGIN SOLUTION
    scores = torch.tensor([[0.0, 20.0, 10.0], [0.0, 10.0, 20.0]])  # A first, or B first
    values = torch.tensor([[-1.0, -1.0, 2.0], [-1.0, 2.0, -1.0]])
    return scores, values
    ### END SOLUTION
# %% check="exclusive_or"
# %% [markdown]
# **Predict**: in the trained model, how far is the effect of two sources from the sum of their effects? In a model of
# fixed patterns that is 0.
#
# <details><summary>Answer</summary>
#
# Less than a tenth of the effect, and yet not 0: two objects share a head's attention.
#
# </details>
# %% experiment=True
def first_objects(count: int) -> list[tuple[Tensor, int, int]]:
    """Stories up to a " the" after two found objects: the row, and where these stand."""
    the, found, a = (WORDS.index(word) for word in (" the", " found", " a"))
    rows = []
    for row in stories:
        ids = row.tolist()
        finds = [i for i in range(60) if ids[i] == found and ids[i + 1] == a]
        ends = [i for i in range(63) if ids[i] == the and sum(f + 3 < i for f in finds) == 2]
        if len(finds) >= 2 and ends and len(rows) < count:
            rows.append((row[: ends[0] + 1], finds[0] + 3, finds[1] + 3))
    return rows


def logit_of(row: Tensor, out: int, hooks: list = ()) -> float:
    logits = one.run_with_hooks(row[None], fwd_hooks=list(hooks))[0, -1]
    return (logits[out] - logits.mean()).item()


effects, less_effects, still, filler = [], [], [], WORDS.index(" happy")
for row, i, j in first_objects(40):
    out = row[i].item()
    _, cache = one.run_with_cache(row[None])
    pattern = cache["pattern", 0]
    held_still = [("blocks.0.attn.hook_pattern", lambda x, hook, pattern=pattern: pattern)]
    variants, of_fixed = [], []
    for hide in ((), (i,), (j,), (i, j)):
        changed = row.clone()
        changed[list(hide)] = filler
        variants.append(logit_of(changed, out))
        of_fixed.append(logit_of(changed, out, held_still))
    still.append(abs(of_fixed[2] - of_fixed[3] - of_fixed[0] + of_fixed[1]))
    both, without_i, without_j, neither = variants
    effects.append(without_j - neither)  # of the first object, where the second is not there
    less_effects.append((without_j - neither) - (both - without_i))  # less, where it is
effect, interaction = evidence.interval(effects), evidence.interval(less_effects)
print(f"first object alone raises itself after ' the' by {effect:.2f};", end=" ")
print(f"by {interaction:.2f} less, if the second is there ({effect.n} stories);", end=" ")
print(f"with the pattern held still by {max(still):.0e} at most")
# %% [markdown]
# ## 7. Do heads copy?
#
# The paper asks a head's full OV circuit $W_E W_V W_O W_U$ for its **eigenvalues**: $\lambda > 0$ means that some mix
# of tokens raises itself. It sums them up as $\sum \lambda / \sum |\lambda|$ (1.2). The circuit is `[d_vocab d_vocab]`,
# of rank `d_head`: all eigenvalues but `d_head` are 0, and $AB$ has the others in common with $BA$.
# %% exercise="copying_eigenvalues" points=2 difficulty=2 minutes=8
def copying_eigenvalues(
    model: TransformerBridge, layer: int, head: int
) -> Float[Tensor, "d_head"]:
    """The d_head eigenvalues of a query head's full OV circuit that need not be 0, complex
    and in any order, without making anything of size [d_vocab d_vocab]. Shared values as
    before.
    """
    ### BEGIN SOLUTION
    shared_by = model.W_O.shape[1] // model.W_V.shape[1]
    into = model.W_E @ model.W_V[layer, head // shared_by]
    return torch.linalg.eigvals(model.W_O[layer, head] @ model.W_U @ into)
    ### END SOLUTION
# %% check="copying_eigenvalues"
# %% [markdown]
# **Predict**: of one layer's four heads, how many score above .9? (In the paper 10 of 12 were "significantly copying".)
# And of layer 0 of two layers?
#
# <details><summary>Answer</summary>
#
# Three of four; in layer 0 of two layers none, and one is far below 0: it lowers what it looks at.
#
# </details>
# %% experiment=True
def copying_score(eigenvalues: Tensor) -> float:
    return (eigenvalues.real.sum() / eigenvalues.abs().sum()).item()


def mixed_tokens() -> Int[Tensor, "token"]:
    """An order in which tokens change places among ten that are about as frequent."""
    order = frequency.argsort()
    mixed = torch.empty_like(order)
    for some in order.split(10):
        mixed[some] = some[torch.randperm(len(some), generator=drawn)]
    return mixed


def turned() -> Float[Tensor, "d_model d_model"]:
    return torch.linalg.qr(torch.randn(128, 128, generator=drawn)).Q


scores, nulls = {}, {}
for name, layers in (("one layer", 1), ("two layers", 2)):
    model = models.load(f"attn_only_{layers}l").requires_grad_(False)
    start = models.load(f"attn_only_{layers}l", step=0).requires_grad_(False)
    W_E, W_U = model.W_E, model.W_U
    for layer in range(layers):
        scores[name, layer] = [
            copying_score(copying_eigenvalues(model, layer, head)) for head in range(4)
        ]
        made = {"turned": [], "tokens mixed": [], "untrained head": []}
        for draw in range(60):
            value, out = model.W_V[layer, draw % 4], model.W_O[layer, draw % 4]
            made["turned"].append(out @ turned() @ W_U @ W_E @ value)
            made["tokens mixed"].append(out @ W_U @ W_E[mixed_tokens()] @ value)
        for value, out in zip(start.W_V[layer], start.W_O[layer], strict=True):
            made["untrained head"].append(out @ W_U @ W_E @ value)
        nulls[name, layer] = {
            null: [copying_score(torch.linalg.eigvals(its)) for its in all_of]
            for null, all_of in made.items()
        }
        said = ", ".join(f"{score:.2f}" for score in scores[name, layer])
        print(f"{name}, layer {layer}: {said}; highest of the nulls:", end=" ")
        print(", ".join(f"{null} {max(of):.2f}" for null, of in nulls[name, layer].items()))
wide = nulls["one layer", 0]["tokens mixed"]
copies = evidence.against_null(sorted(scores["one layer", 0])[1], wide)
points = torch.stack([copying_eigenvalues(one, 0, head) for head in range(4)])
plot.scatter(
    points.real.flatten(),
    points.imag.flatten(),
    color=[f"L0H{head}" for head in range(4) for _ in range(32)],
    color_label="head",
    x_label="real part",
    y_label="imaginary part",
    title="One layer: eigenvalues of the heads' OV circuits",
)
# %% [markdown]
# *Turned* breaks the head away from the embeddings: an easy null. *Tokens mixed* keeps all three matrices, and breaks
# only which token is which, among tokens as frequent. It comes much higher, as does an untrained head between trained
# embeddings. The three of one layer are above all of them.
#
# **All eigenvalues of an OV circuit are positive. What does that say of its rows (a token looked at)?**
# (a) not which token it raises most: that may be another one; (b) that every token raises itself more than any other;
# (c) that all entries are positive, on the diagonal and off it
# %% exercise="answer_copying" points=1 difficulty=2 minutes=4
answer_copying = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_copying = "a"
### END SOLUTION
# %% check="answer_copying"
# %% [markdown]
# ## 8. A virtual head is a head
#
# A path of two heads has a pattern of its own and an OV circuit of its own. From
# $(A^1 \otimes W^1)(A^0 \otimes W^0) = (A^1 A^0) \otimes (\dots)$: in which order do patterns multiply, and in which
# the weights, which act from the right here?
# %% exercise="virtual_head" points=2 difficulty=3 minutes=12
def virtual_head(
    model: TransformerBridge,
    patterns: tuple[Float[Tensor, "batch q k"], Float[Tensor, "batch q k"]],
    path: tuple[Head, Head],
) -> tuple[Float[Tensor, "batch q k"], tuple[Tensor, Tensor]]:
    """Its pattern, and its full OV circuit from token to logits as thin factors: [d_vocab
    d_head] and [d_head d_vocab].

    Patterns and path are of the earlier head, then of the later one. Shared values as before.
    """
    ### BEGIN SOLUTION
    (below, first), (layer, second) = path
    shared_by = model.W_O.shape[1] // model.W_V.shape[1]
    a = model.W_E @ model.W_V[below, first // shared_by]
    moved = model.W_O[below, first] @ model.W_V[layer, second // shared_by]
    return patterns[1] @ patterns[0], (a, moved @ model.W_O[layer, second] @ model.W_U)
    ### END SOLUTION
# %% check="virtual_head"
# %% [markdown]
# **Predict**: L0H1 looks one position back (3.5). Where does a virtual head of it and an L1 head look? And of the 16
# virtual heads, is one worth much more than the others, left out of the whole?
#
# <details><summary>Answer</summary>
#
# One position before where the L1 head looks, with about half of its weight; L0H2 does some of it, too. None is worth
# more than about .01 nats.
#
# </details>
# %% experiment=True
terms = expanded["two layers", "stories"]
whole = sum(terms.values())
names = [path for path in terms if len(path) == 2]
each, each_null = {}, {}
for path in names:
    each[path] = term_importance([whole - terms[path], terms[path]], told)[1]
    mixed = terms[path].roll(1, 0)  # the same path's term in another story
    each_null[path] = term_importance([whole - terms[path], mixed], told)[1]
best = max(names, key=lambda path: each[path][:50].mean())  # chosen on half of the stories
best_worth, best_null = (evidence.interval(of[best][50:]) for of in (each, each_null))
print(f"best of 16: {best}, on the other half {best_worth:.4f};", end=" ")
print(f"of another story {best_null:.4f}")
_, cache = two.run_with_cache(told[:8])
later = cache["pattern", 1][:, 0]
focus = later.argmax(-1)  # where L1H0 looks most, for each query
for writer in range(4):
    patterns = cache["pattern", 0][:, writer], later
    pattern, _ = virtual_head(two, patterns, ((0, writer), (1, 0)))
    one_before = pattern.gather(-1, (focus - 1).clamp(min=0)[..., None])[..., 0]
    by_row = (one_before * (focus > 0)).sum(1) / (focus > 0).sum(1)
    print(f"L0H{writer}, L1H0: weight one before {evidence.interval(by_row):.2f} (8 stories)")
plot.imshow(
    torch.tensor([[1000 * each[(0, i), (1, j)].mean() for j in range(4)] for i in range(4)]),
    x=[f"L1H{head}" for head in range(4)],
    y=[f"L0H{head}" for head in range(4)],
    x_label="later head",
    y_label="earlier head",
    value_label="nats / 1000",
    text=True,
    title="What each virtual head is worth",
)
# %% [markdown]
# ## 9. Open task: which paths?
#
# You get a model with attention only, its weights set by hand, and texts. Its predictions come along a few paths. Name
# the **smallest set of paths whose logits, added up, give the same predictions** as the whole.
#
# Decoys are loud: paths that cancel each other, and heads that raise all logits alike. Some of the heads do nothing
# alone, and something together. There are one to three layers.
#
# Your function is tried on models that you have not seen: it must find at least 90 % of the paths, and at most 10 % of
# those that it names may be others.
#
# <details><summary>Hint</summary>
#
# Leaving out one of two that cancel does much harm. What if you start from nothing instead? And by which distance from
# the whole does adding a right term help, even before the others are there?
#
# </details>
# %%
example, truth = wired.expansions(seed=0)
example_tokens = truth.tokens(8, seed=0)
for role in sorted(set(truth.roles.values())):
    print(f"{role:>26}: {[head for head, its in truth.roles.items() if its == role]}")
print("paths:", *sorted(truth.paths))
# %% exercise="find_paths" points=5 difficulty=5 minutes=45
def find_paths(model: TransformerBridge, tokens: Int[Tensor, "row pos"]) -> set[Path]:
    """The smallest set of paths whose logits together give the model's predictions on texts
    like these. () is the direct path.
    """
    ### BEGIN SOLUTION
    terms = {
        path: term - term.mean(-1, keepdim=True)  # what is alike for all tokens says nothing
        for path, term in path_expansion(model, tokens).items()
    }
    rest = sum(terms.values())
    enough = 0.01 * rest.square().sum()
    found: set[Path] = set()
    while len(found) < len(terms):
        falls = {
            path: (2 * rest * term - term.square()).sum()
            for path, term in terms.items()
            if path not in found
        }
        best = max(falls, key=falls.get)
        if falls[best] < enough:
            break
        found.add(best)
        rest = rest - terms[best]
    return found
    ### END SOLUTION
# %% check="find_paths"
# %% experiment=True
found = find_paths(example, example_tokens)
print("missed:", sorted(truth.paths - found), " wrong:", sorted(found - truth.paths))
example_terms = path_expansion(example, example_tokens)
total = example(example_tokens).log_softmax(-1)
for path in sorted(example_terms, key=lambda path: -example_terms[path].norm())[:8]:
    left = (sum(example_terms.values()) - example_terms[path]).log_softmax(-1)
    kl = (total.exp() * (total - left)).sum(-1).mean()
    real = "real " if path in truth.paths else "decoy"
    size = example_terms[path].norm()
    print(f"  {real} {path!s:<20} norm {size:5.0f}, left out alone: KL {kl.abs():.2f}")
# The null: a model in which only decoys are loud
alone, alone_truth = wired.expansions(seed=1, real=("direct",))
print("direct path and decoys alone:", find_paths(alone, alone_truth.tokens(8, seed=0)))
# %% [markdown]
# ## What was found
#
# Value, 95 % interval (t) over what is independent, and the null that matches. (The sum's error is of two layers on
# repeats, its null on stories.)
# %% experiment=True
of_two = {kind: worth["two layers", "stories", kind] for kind in KINDS}
without = (by_length(expanded["two layers", "stories"])[2]).abs().max()
zero_kl, unigram_kl = kls["no layers"], kls["unigram"]
single_worth, virtual_worth = of_two["single heads"], of_two["virtual heads"]
third, highest, most_still = copies.value, copies.largest, max(still)
findings = [
    ("no layers: KL to the bigram law", f"{zero_kl:.3f}", f"unigram {unigram_kl:.2f}"),
    ("sum of all paths, off by", f"{off:.0e}", f"no virtual heads {without:.1f}"),
    ("single heads, nats", f"{single_worth:.2f}", f"of another story {another_single:.2f}"),
    ("virtual heads, nats", f"{virtual_worth:.3f}", f"of another story {another:.3f}"),
    ("skip-trigrams: more hold, by", f"{more:.2f}", f"others: {held_null.mean():.2f} hold"),
    ("second object takes away, logits", f"{interaction:.2f}", f"fixed {most_still:.0e}"),
    ("copying score, third of 4 heads", f"{third:.2f}", f"tokens mixed, up to {highest:.2f}"),
    ("best virtual head, nats", f"{best_worth:.4f}", f"of another story {best_null:.4f}"),
]
for what, value, beside in findings:
    print(f"{what:<36} {value:<24} {beside}")
# %% [markdown]
# Three toys trained by us, one seed each, on stories of a known law: an example, no law of transformers.
#
# ## Bonus (not graded)
#
# 1. Add the terms of section 3 at every checkpoint of the two-layer toy: when do single heads overtake the direct path?
# 2. Importance that depends on no order: average over all orders of the three groups (Shapley values).
# 3. Which skip-trigrams of the model without training are strongest, and how many hold?
# 4. A rule of three sources that two heads can follow, and one head cannot.
# 5. Merge SmolLM2's first two layers' attention into virtual heads: which copy?
#
# ## Recap
#
# Fix the patterns, and logits are a sum over paths; its terms can be weighed, and read where one layer is enough.
#
# | confusion | what holds |
# |---|---|
# | "Virtual heads are worth little, so layers do not compose" | composition in Q and K is in the patterns |
# | "A term's importance is a number" | it depends on what was added before it |
# | "The model without layers is part of the one with layers" | the direct path changes where heads can help |
# | "A head's strongest skip-trigrams are what the model says" | the direct path forbids most of them |
# | "One layer is a list of skip-trigrams" | sources compete in the softmax |
# | "Positive eigenvalues: each token raises itself most" | true on average of mixes of tokens, not row by row |
#
# Read on: Elhage et al. 2021, *A Mathematical Framework for Transformer Circuits*; Olsson et al. 2022, *In-context
# Learning and Induction Heads*; 5.2 for what happens where more features than dimensions are there.
