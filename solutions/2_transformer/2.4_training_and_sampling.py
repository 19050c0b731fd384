# %% [markdown]
# # 2.4 Training and sampling
#
# A model of your own learns to tell stories in about a minute, on this machine. Then you decide *how* it tells them:
# what it gives is a distribution, and every way to draw from it has a price. The law of the stories is known, so each
# price can be measured. Last, you make it fast.
#
# ![Keys and values of earlier tokens are kept, layer by layer; only the newest token passes through the
# model.](figures/2.4_cache.svg)
# %% generated="overview"
# %% setup=True
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor, nn

from concrete_steps import corpus, evidence, plot
from concrete_steps.models import measures, shipped

PAD, END = 0, 2  # ids: [PAD] fills a row up, [EOS] ends a story; [BOS], 1, begins it
# %% [markdown]
# ## 1. Loss and batches
#
# A story is a row of token ids: `[BOS]`, words, `[EOS]`. At each position the model says how likely every token is to
# come **next**; a row's last logits predict nothing. Shorter rows are filled up with `[PAD]`, which nobody should learn
# to predict: leave those targets out, and take the mean over all others of the batch,
#
# $$\mathcal{L} = -\frac{1}{N} \sum_{b,\, t \,:\, x_{b,t+1} \neq \text{PAD}} \log p(x_{b,t+1} \mid x_{b,1..t})$$
# %%
print(corpus.story(1).text)
print("ids:", corpus.token_ids(corpus.story(1).tokens)[:8], "...")
# %% exercise="lm_loss" points=2 difficulty=2 minutes=8
def lm_loss(
    logits: Float[Tensor, "batch pos vocab"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, ""]:
    """Mean of -log p of each next token, in nats; targets that are PAD (0) do not count."""
    ### BEGIN SOLUTION
    targets = tokens[:, 1:]
    losses = -logits[:, :-1].log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    return losses[targets != PAD].mean()
    ### END SOLUTION
# %% check="lm_loss"
# %% [markdown]
# A batch is one tensor: several texts, drawn at random, one in each row.
#
# <details><summary>Hint</summary>
#
# `torch.randperm(n, generator=generator)[:rows]` are different numbers; a tensor full of zeros awaits the texts.
#
# </details>
# %% exercise="get_batch" points=2 difficulty=2 minutes=8
def get_batch(
    texts: list[Int[Tensor, "pos"]], rows: int, generator: torch.Generator
) -> Int[Tensor, "rows longest"]:
    """That many different texts, drawn with the generator, each filled up with PAD (0) on the
    right to the length of the longest of them.
    """
    ### BEGIN SOLUTION
    drawn = [texts[i] for i in torch.randperm(len(texts), generator=generator)[:rows].tolist()]
    batch = torch.full((rows, max(map(len, drawn))), PAD)
    for row, text in zip(batch, drawn, strict=True):
        row[: len(text)] = text
    return batch
    ### END SOLUTION
# %% check="get_batch"
# %% [markdown]
# **Predict**: 16 random stories a batch, filled up to the longest: which share of the batch is padding, about? And with
# 16 of like length?
#
# <details><summary>Answer</summary>
#
# About a third: most lengths lie within a factor of three, and the longest decides. Of like length: a few per cent. So
# we draw from ten shelves, sorted by length.
#
# </details>
# %%
stories = list(corpus.stories(4000, "2.4"))  # no other notebook uses these
texts = [torch.tensor(corpus.token_ids(story.tokens)[:128]) for story in stories]
in_order = sorted(texts, key=len)
shelves = [in_order[400 * i : 400 * (i + 1)] for i in range(10)]
# %% experiment=True
generator = torch.Generator().manual_seed(0)
for name, shelf in (("any length", texts), ("one shelf", shelves[5])):
    batches = [get_batch(shelf, 16, generator) for _ in range(50)]
    padding = [(batch == PAD).float().mean().item() for batch in batches]
    print(f"{name:>10}: {evidence.interval(padding):.2f} of a batch is padding")
# %% [markdown]
# ## 2. A model, and one step
#
# You wrote a GPT in 2.3, so this one is given, small, and fused where that is quicker. `cache` is for section 7.
# %%
@dataclass
class Config:
    """The sizes of a model."""

    d_model: int = 64
    n_heads: int = 4
    n_layers: int = 2
    n_ctx: int = 128
    d_vocab: int = len(corpus.tokenizer())


class Block(nn.Module):
    """Attention, then an MLP; each adds to the stream what it makes of a normalised copy."""

    def __init__(self, cfg: Config, layer: int):
        super().__init__()
        self.cfg, self.layer, d = cfg, layer, cfg.d_model
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x, cache=None):
        batch, new, d = x.shape
        heads = self.qkv(self.ln1(x)).view(batch, new, 3, self.cfg.n_heads, -1)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each [batch head new d_head]
        if cache is None:
            z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            k, v = cache.append(self.layer, k, v)  # now of all positions
            z = cached_attention(q, k, v)
        x = x + self.out(z.transpose(1, 2).reshape(batch, new, d))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    """Logits for each position. With a cache, `tokens` are only those that are new."""

    def __init__(self, cfg: Config):
        super().__init__()
        self.cfg = cfg
        self.embed = nn.Embedding(cfg.d_vocab, cfg.d_model)
        self.pos_embed = nn.Embedding(cfg.n_ctx, cfg.d_model)
        self.blocks = nn.ModuleList(Block(cfg, layer) for layer in range(cfg.n_layers))
        self.ln_final = nn.LayerNorm(cfg.d_model)
        self.unembed = nn.Linear(cfg.d_model, cfg.d_vocab, bias=False)
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                size = 0.02 if isinstance(part, nn.Embedding) else 0.5 / cfg.d_model**0.5
                nn.init.normal_(part.weight, std=size)

    def forward(self, tokens, cache=None):
        start = 0 if cache is None else len(cache)  # how many positions are in it
        places = torch.arange(start, start + tokens.shape[1])
        x = self.embed(tokens) + self.pos_embed(places)
        for block in self.blocks:
            x = block(x, cache)
        return self.unembed(self.ln_final(x))
# %% [markdown]
# Now and then a batch gives a far longer gradient than others, and Adam's averages keep it for a while. So gradients
# are **clipped**: let $g$ be the norm of *all* gradients as one long vector; where $g > c$, all are multiplied by
# $c / g$. The direction stays. (Leave the model in the mode that it is in: here training.)
#
# <details><summary>Hint</summary>
#
# The rate of an optimiser of PyTorch is `group["lr"]` in each of `optimizer.param_groups`.
# `nn.utils.clip_grad_norm_` clips, or write it: the root of the sum of all squares.
#
# </details>
# %% exercise="train_step" points=2 difficulty=3 minutes=12
def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tokens: Int[Tensor, "batch pos"],
    rate: float,
    clip: float = 1.0,
) -> float:
    """One step at this learning rate, gradients clipped to a norm of `clip` in all.

    Whatever gradients were there before are cleared. Returns the loss before the step.
    """
    ### BEGIN SOLUTION
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss = lm_loss(model(tokens), tokens)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return loss.item()
    ### END SOLUTION
# %% check="train_step"
# %% [markdown]
# ## 3. A minute of training
#
# The judges are 100 stories that no model here has seen. What rivals lose on the *same* stories: even guessing;
# **words** alone (how often each occurs); **pairs** (how often each follows each); and the **law** that wrote them:
# on average over all its stories, nothing predicts one in fewer nats.
# %%
fitting = (story for story in corpus.stories(130, "2.4 judges") if len(story.tokens) < 128)
judges = [next(fitting) for _ in range(100)]
judge_tokens = torch.zeros(100, 128, dtype=torch.long)
for row, story in zip(judge_tokens, judges, strict=True):
    ids = corpus.token_ids(story.tokens)
    row[: len(ids)] = torch.tensor(ids)
lengths = (judge_tokens[:, 1:] != PAD).sum(-1)
law_loss = torch.tensor([-story.log_prob for story in judges]) / lengths  # exact


def judged(logits: Float[Tensor, "100 128 vocab"]) -> Float[Tensor, "100"]:
    """Each judge's loss, in nats a token."""
    both = zip(logits, judge_tokens, strict=True)
    return torch.tensor([lm_loss(row[None], ids[None]).item() for row, ids in both])


size = Config().d_vocab
pairs = torch.full((size, size), 0.01)  # a pair never seen is unlikely, not impossible
for text in texts:
    pairs.index_put_((text[:-1], text[1:]), torch.tensor(1.0), accumulate=True)
words = pairs.sum(0).log()
rivals = {
    "even guess": torch.zeros(100, 128, size),
    "words": words.expand(100, 128, size),
    "pairs": pairs.log()[judge_tokens],
}
rival_loss = {name: judged(logits) for name, logits in rivals.items()}
# %% [markdown]
# **Predict**: after a minute (700 batches), where is your model: above the pairs, between pairs and law, at the
# law? How long until it passes the words?
#
# <details><summary>Answer</summary>
#
# Between pairs and law. The words it passes within thirty batches, the pairs before the hundredth. The rest takes
# most of the time: *what* is learnt last, section 3 ends with.
#
# </details>
# %% experiment=True
STEPS = 700
torch.set_num_threads(1)  # threads would wait for each other: these tensors are small
torch.manual_seed(0)
storyteller, untrained = GPT(Config()), GPT(Config())
optimizer = torch.optim.AdamW(storyteller.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
generator = torch.Generator().manual_seed(0)
curve, judged_at = [], {}
began = time.perf_counter()
for step in range(STEPS):
    shelf = shelves[int(torch.randint(10, (), generator=generator))]
    rate = 6e-3 * min((step + 1) / 50, 1 - step / STEPS)  # up, then down to 0
    curve.append(train_step(storyteller, optimizer, get_batch(shelf, 16, generator), rate))
    if step in (10, 30, 100, 300, 500, STEPS - 1):
        with torch.no_grad():
            judged_at[step] = judged(storyteller(judge_tokens)).mean().item()
        print(f"after step {step:3}: {judged_at[step]:.2f} nats a token on the judges")
print(f"{STEPS} batches in {time.perf_counter() - began:.0f} s")
smooth = [sum(curve[max(0, i - 9) : i + 1]) / min(i + 1, 10) for i in range(STEPS)]
rivals_and_law = (rival_loss | {"law": law_loss}).items()
flat = {name: [loss.mean().item()] * 2 for name, loss in rivals_and_law}
plot.line(
    {
        "yours, last 10 batches": smooth,
        "yours, on the judges": list(judged_at.values()),
    }
    | flat,
    x=[range(STEPS), list(judged_at), *[(0, STEPS - 1)] * len(flat)],
    x_label="step",
    y_label="nats per token",
    title="Down from an even guess, past words and pairs, towards the law",
)
# %% experiment=True
with torch.no_grad():
    mine, fresh = judged(storyteller(judge_tokens)), judged(untrained(judge_tokens))
print(f"       law: {law_loss.mean():.3f} nats a token")
for name, loss in (rival_loss | {"untrained": fresh, "your model": mine}).items():
    above = evidence.interval(loss - law_loss)
    print(f"{name:>10}: {loss.mean():.3f}; above the law, story by story: {above:.3f}")
gain = evidence.difference(rival_loss["pairs"], mine, paired=True)
print(f"pairs less your model: {gain:.3f} (100 stories, 95 % interval)")
# %% [markdown]
# "Above the law" is measured story by story. Stories differ much in what they cost, and the law's own cost swings with
# them:
#
# **Elsewhere you read that the stories' entropy is 0.70, and a model's loss on its 40 test stories is 0.68. How?**
# (a) It knows more than the law; (b) These stories are easy ones; (c) It has learnt them by heart
# %% exercise="answer_below" points=1 difficulty=2 minutes=3
answer_below = None  # "a", "b" or "c": nobody trained on these stories
### BEGIN SOLUTION
answer_below = "b"
### END SOLUTION
# %% check="answer_below"
# %% experiment=True
for first in (0, 20, 40, 60, 80):
    some = slice(first, first + 20)
    mean, gap = law_loss[some].mean(), (mine - law_loss)[some].mean()
    print(f"judges {first} to {first + 19}: law {mean:.3f}, your model less it {gap:.3f}")
for how in (True, False):
    apart = evidence.difference(mine, law_loss, paired=how)
    print("story by story:" if how else "as if on other stories:", f"{apart:.3f}")
# %% [markdown]
# ### What has it learnt?
#
# `story_lm` of notebook 2.3 is larger, saw far more stories of the same law, and is claimed to
# answer questions that have one right answer.
#
# **Predict**: on which of its claims does yours come closest: who *receives* a gift (not the giver), *agreement* of a
# pronoun with its person, a *list* told again in order, the *colour* that a thing was given? (Hanna gave the book to
# **Sam**. Sam was angry, so **he** ... Later he took out the **map** ... The stone was **white**.) Compare with a blind
# guess: one of the two people, of two pronouns, of all things, of all colours.
#
# <details><summary>Answer</summary>
#
# Agreement: the sentence's own name decides it. The others need a word from further back, chosen by what stood around
# it: there yours is no better than blind. (Of two people it names the receiver in fewer than half: rather the giver.)
#
# </details>
# %% experiment=True
sheet = shipped.datasheet("story_lm")
claims = {claim["key"]: claim for claim in sheet["claims"]}
with torch.no_grad():
    found = measures.story_model(storyteller), measures.story_model(untrained)
theirs = sum(weight.numel() for weight in shipped.state_dict("story_lm").values())
print(f"story_lm: {theirs:,} parameters, {sheet['steps']:,} batches of 16 stories")
mine_has = sum(weight.numel() for weight in storyteller.parameters())
print(f"yours:    {mine_has:,} parameters, {STEPS} batches of 16 stories\n")
blind = {"receiver": 1 / 2, "agreement": 1 / 2}
blind |= {"list": 1 / len(corpus.words.OBJECTS), "colour": 1 / len(corpus.words.COLOURS)}
print("               yours  untrained  blind  story_lm  claimed")
for key, claim in claims.items():
    bound = f"<= {claim['at_most']}" if "at_most" in claim else f">= {claim['at_least']}"
    yours, null = (f"{measured[key]:.2f}" for measured in found)
    guess = f"{blind[key]:.2f}" if key in blind else "-"
    print(f"{key:>12} {yours:>7} {null:>10} {guess:>6} {claim['measured']:9.2f}  {bound}")
counts = {topic: len(asked) for topic, asked in measures.questions().items()}
print("questions:", counts)
# %% [markdown]
# A share of 80 questions is uncertain by 0.1 or so. (`story_gap` is on other stories, long ones too, and weighs tokens
# alike, not stories.) Where in the text is the rest of the loss?
# %% experiment=True
told = corpus.words
named = {f" {word}" for word in [*told.WOMEN, *told.MEN, *told.NAME_OPENINGS]}
named |= {f" {word}" for word in told.OBJECTS} | set(told.NAME_ENDINGS)
vocabulary = corpus.tokenizer().convert_ids_to_tokens(range(size))
is_named = torch.tensor([token in named for token in vocabulary])[judge_tokens[:, 1:]]
by_law = torch.zeros(100, 127)
for row, story in zip(by_law, judges, strict=True):
    row[: len(story.tokens)] = -torch.tensor(story.token_log_probs)
with torch.no_grad():
    judge_logits = storyteller(judge_tokens)
by_mine = F.cross_entropy(judge_logits[:, :-1].mT, judge_tokens[:, 1:], reduction="none")
above = (by_mine - by_law) * (judge_tokens[:, 1:] != PAD)
print(f"people and things: {is_named.sum() / lengths.sum():.0%} of the tokens,", end=" ")
print(f"{above[is_named].sum() / above.sum():.0%} of what is above the law")
# %% [markdown]
# A mean over tokens hides which skills are missing: most words are easy, and what is not yet learnt sits in a few.
# Train longer (`STEPS`) and watch what comes next.
#
# ## 4. Greedy, and hotter
#
# The simplest way to speak: always the likeliest token. Each round gives the whole text to the model, and takes the
# logits of the last position. A row that has ended stays ended.
# %% exercise="greedy" points=2 difficulty=2 minutes=10
@torch.no_grad()
def greedy(
    model: nn.Module, tokens: Int[Tensor, "batch pos"], n: int
) -> Int[Tensor, "batch pos+n"]:
    """The texts, continued by n tokens, each the likeliest; after END (2) or PAD (0): PAD.

    model(tokens) gives logits [batch pos vocab].
    """
    ### BEGIN SOLUTION
    for _ in range(n):
        over = (tokens[:, -1] == END) | (tokens[:, -1] == PAD)
        new = model(tokens)[:, -1].argmax(-1).masked_fill(over, PAD)
        tokens = torch.cat([tokens, new[:, None]], dim=-1)
    return tokens
    ### END SOLUTION
# %% check="greedy"
# %% experiment=True
def show(tokens: Int[Tensor, "batch pos"]) -> None:
    """Print each row as a reader sees it."""
    for row in tokens.tolist():
        print("-", corpus.tokenizer().decode(row, skip_special_tokens=True))


openings = judge_tokens[:3, :6]
print("untrained:")
show(greedy(untrained, openings[:1], 30))
print("\nyours:")
show(greedy(storyteller, openings, 100))
with torch.no_grad():
    after = storyteller(openings[:1])[0, -1].softmax(-1)
best = after.topk(3)
best = zip(best.indices.tolist(), best.values.tolist(), strict=True)
print("\nafter the first opening:", {vocabulary[i]: round(p, 3) for i, p in best})
# %% [markdown]
# "Ida and Ida": no story says so. Your model finds all names about as likely there (1/31 would be even), and greedy
# takes the same one every time. The law itself draws.
#
# **Temperature** divides the logits, so that $p_T \propto p^{1/T}$: below 1 the likely gets likelier, above 1 all
# become more alike.
#
# **One token is 16 times as likely as another. At temperature 2?**
# (a) 4 times; (b) 8 times; (c) 32 times
# %% exercise="answer_temperature" points=1 difficulty=1 minutes=2
answer_temperature = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_temperature = "a"
### END SOLUTION
# %% check="answer_temperature"
# %% exercise="apply_temperature" points=1 difficulty=1 minutes=4
def apply_temperature(
    logits: Float[Tensor, "... vocab"], temperature: float
) -> Float[Tensor, "... vocab"]:
    """Logits at this temperature, 0 or more. At 0, the limit: the largest of each row stays
    as it is, all others are at minus infinity. (If several are the largest, all stay.)
    """
    ### BEGIN SOLUTION
    if temperature == 0:
        return logits.masked_fill(logits < logits.amax(-1, keepdim=True), -torch.inf)
    return logits / temperature
    ### END SOLUTION
# %% check="apply_temperature"
# %% [markdown]
# **Predict**: at which temperature does your model predict the judges best: below 1, at about 1, above 1?
#
# <details><summary>Answer</summary>
#
# At about 1: had another temperature helped much, training could have scaled the logits itself. A model that learnt its
# texts by heart would be too sure of new ones, and gain above 1. This one gains a trifle just below 1.
#
# </details>
# %% experiment=True
temperatures = [0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0]
at = {t: judged(apply_temperature(judge_logits, t)) for t in temperatures}
for t in (0.7, 0.85, 1.2, 1.5):
    worse = evidence.difference(at[t], at[1.0], paired=True)
    print(f"temperature {t}: loss less that at 1: {worse:.4f}")
plot.line(
    {"your model": [at[t].mean() for t in temperatures], "law": [law_loss.mean()] * 7},
    x=temperatures,
    x_label="temperature",
    y_label="nats per token",
    title="Which temperature predicts new stories best",
)
# %% [markdown]
# Predicting well and pleasing a reader are two aims. Here we ask only what is *true to the law*.
#
# ## 5. Discourage, and cut
#
# Models that repeat themselves get a **frequency penalty**: each time that a token has occurred takes something off its
# logit. Every token counts alike, `[PAD]` and `[BOS]` too.
#
# <details><summary>Hint</summary>
#
# One count for each row and token id: `scatter_add` of ones, or `F.one_hot` and a sum, in the logits' dtype.
#
# </details>
# %% exercise="apply_frequency_penalty" points=2 difficulty=2 minutes=10
def apply_frequency_penalty(
    logits: Float[Tensor, "batch vocab"], tokens: Int[Tensor, "batch pos"], penalty: float
) -> Float[Tensor, "batch vocab"]:
    """Each token's logit less penalty times how often the token occurs in its row's text, in
    the dtype of the logits.
    """
    ### BEGIN SOLUTION
    counts = torch.zeros_like(logits).scatter_add(-1, tokens, torch.ones_like(tokens, dtype=logits.dtype))
    return logits - penalty * counts
    ### END SOLUTION
# %% check="apply_frequency_penalty"
# %% [markdown]
# **Predict**: does a small penalty bring your model's predictions nearer to these stories, or further away?
#
# <details><summary>Answer</summary>
#
# Further away: a story comes back to its people and things, so what was said is likelier than before, and the penalty
# makes it less so. Full stops and commas cost next to nothing: where one is due, the model is too sure to be moved.
#
# </details>
# %% experiment=True
penalised = {
    "all tokens": torch.ones(size),
    "people and things": torch.tensor([token in named for token in vocabulary]),
    "signs": torch.tensor([not any(map(str.isalnum, token)) for token in vocabulary]),
}
both = [(0.1, "all tokens"), (1.0, "all tokens"), *((0.3, which) for which in penalised)]
for penalty, which in both:
    less = [
        judge_logits[:, i - 1]
        - apply_frequency_penalty(judge_logits[:, i - 1], judge_tokens[:, :i], penalty)
        for i in range(1, 128)
    ]
    less = torch.stack([*less, torch.zeros(100, size)], dim=1) * penalised[which]
    worse = evidence.difference(judged(judge_logits - less), at[1.0], paired=True)
    print(f"penalty {penalty} on {which}: loss less that without: {worse:.3f}")
# %% [markdown]
# ### The tail
#
# Many wrong tokens, each unlikely, may be likely together. **Top-k** keeps the k likeliest. **Top-p** (Holtzman et
# al., 2020) keeps the smallest set of likeliest tokens whose probability together reaches p: few where the model is
# sure, many where it is not. Of equal tokens at the border it does not matter which stay.
# %%
probs = torch.tensor([0.1, 0.5, 0.25, 0.15])
ordered = probs.sort(descending=True)
print("from the likeliest on:", ordered.indices.tolist(), "sums", ordered.values.cumsum(0))
# %% exercise="top_k" points=1 difficulty=2 minutes=6
def top_k(logits: Float[Tensor, "... vocab"], k: int) -> Float[Tensor, "... vocab"]:
    """The k largest logits of each row as they are, all others at minus infinity; k of 1 or
    more, and possibly more than there are.
    """
    ### BEGIN SOLUTION
    best = logits.topk(min(k, logits.shape[-1]))
    return torch.full_like(logits, -torch.inf).scatter(-1, best.indices, best.values)
    ### END SOLUTION
# %% check="top_k"
# %% [markdown]
# **Predict**: with p = 0.7, which of the four tokens above stay? With 0.4?
#
# <details><summary>Answer</summary>
#
# With 0.7 tokens 1 and 2: one alone has 0.5, both 0.75. With 0.4 token 1 alone: it is kept although it is *above* p.
#
# </details>
# <details><summary>Hint</summary>
#
# A token stays if those *before* it in the order have less than p together. Then put the order back: `scatter`. (With
# p = 1 do nothing: rounded sums reach 1 too early.)
#
# </details>
# %% exercise="top_p" points=2 difficulty=4 minutes=15
def top_p(logits: Float[Tensor, "... vocab"], p: float) -> Float[Tensor, "... vocab"]:
    """The likeliest tokens of each row, as few as reach probability p together, keep their
    logits; all others are at minus infinity. p is above 0; at 1 all tokens stay.
    """
    ### BEGIN SOLUTION
    if p >= 1:
        return logits.clone()
    ordered = logits.sort(descending=True)
    probs = ordered.values.softmax(-1)
    before = probs.cumsum(-1) - probs
    kept = ordered.values.masked_fill(before >= p, -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter(-1, ordered.indices, kept)
    ### END SOLUTION
# %% check="top_p"
# %% [markdown]
# Two prices, exact at each place, since the law is known: **nonsense**, the probability of drawing a token that no
# story could have here; and **silence**, the law's probability of tokens that the sampler says less than a tenth as
# often as the law.
#
# **Predict**: from top-k of 1 to 50, which of the two changes more? By a factor of two, or of ten?
#
# <details><summary>Answer</summary>
#
# Silence, by far: from a third to a few per cent, what T = 1 has. Nonsense about doubles. Most of this model's stands
# in the middle ranks: a cut that reaches it also silences much that is right. And where the favourite itself is wrong,
# no cut mends it.
#
# </details>
# %% experiment=True
ids = {token: i for i, token in enumerate(vocabulary)}
generator = torch.Generator().manual_seed(0)
laws, theirs = torch.zeros(100, 3, size), torch.zeros(100, 3, size)
for number, story in enumerate(judges):  # three places in each
    places = torch.randint(len(story.tokens), (3,), generator=generator)
    theirs[number] = judge_logits[number, places]
    for law, place in zip(laws[number], places.tolist(), strict=True):
        known = corpus.next_token_probabilities(story.tokens[:place])
        law[[ids[token] for token in known]] = torch.tensor(list(known.values()))


def prices(logits: Float[Tensor, "100 3 vocab"]) -> tuple[Tensor, Tensor]:
    """Nonsense and silence in each story."""
    p = logits.softmax(-1)
    nonsense, silence = (p * (laws == 0)).sum(-1), (laws * (p < laws / 10)).sum(-1)
    return nonsense.mean(-1), silence.mean(-1)


KINDS = ("top-k", "top-p", "T")
samplers = {f"top-k {k}": top_k(theirs, k) for k in (1, 2, 5, 20, 50)}
samplers |= {f"top-p {p}": top_p(theirs, p) for p in (0.5, 0.8, 0.9, 0.95, 0.99)}
samplers |= {f"T {t}": apply_temperature(theirs, t) for t in (0.5, 0.7, 1.0, 1.5)}
samplers["words alone"] = words.expand(100, 3, size)
rows = {name: [part.mean().item() for part in prices(x)] for name, x in samplers.items()}
for name, (nonsense, silence) in rows.items():
    print(f"{name:>12}: nonsense {nonsense:.3f}, silence {silence:.3f}")
for name in ("top-k 5", "top-p 0.9", "T 0.5"):
    pair = zip(prices(samplers[name]), prices(theirs), strict=True)
    less = [f"{evidence.difference(x, y, paired=True):.3f}" for x, y in pair]
    print(f"{name} less T 1: nonsense {less[0]}, silence {less[1]} (100 stories)")
ranked = theirs.sort(descending=True)
wrong = ranked.values.softmax(-1) * (laws.gather(-1, ranked.indices) == 0)
for first, last in ((1, 1), (2, 5), (6, 20), (21, 50), (51, size)):
    share = wrong[..., first - 1 : last].sum() / wrong.sum()
    print(f"of the nonsense at T 1, in ranks {first} to {last}: {share:.0%}")
kinds = {kind: [row for n, row in rows.items() if n.split()[0] == kind] for kind in KINDS}
plot.line(
    {kind: [silence for _, silence in found] for kind, found in kinds.items()},
    x=[[nonsense for nonsense, _ in found] for found in kinds.values()],
    x_label="nonsense: drawn, but impossible",
    y_label="silence: possible, but hardly ever drawn",
    title="What each sampler costs, setting by setting, in 100 new stories",
)
# %% [markdown]
# Which price matters is yours to say; a story of 80 words has 80 chances of nonsense. Temperature looks cheap here
# partly by definition: a token said nine times too rarely is no silence, one that is cut is. Other models have their
# nonsense elsewhere: measure, where you can.
#
# ## 6. Draw
#
# Now all of them in one: penalty, then temperature, then top-k, then top-p (on what top-k left), then the draw.
# %% exercise="sample_next" points=2 difficulty=3 minutes=12
def sample_next(
    logits: Float[Tensor, "batch vocab"],
    tokens: Int[Tensor, "batch pos"],
    generator: torch.Generator,
    temperature: float = 1.0,
    penalty: float = 0.0,
    k: int | None = None,
    p: float = 1.0,
) -> Int[Tensor, "batch"]:
    """One token for each row, drawn with the generator from what penalty, temperature, top-k
    (unless None) and top-p leave, applied in this order; `tokens` are the texts so far.
    """
    ### BEGIN SOLUTION
    logits = apply_temperature(apply_frequency_penalty(logits, tokens, penalty), temperature)
    logits = logits if k is None else top_k(logits, k)
    return top_p(logits, p).softmax(-1).multinomial(1, generator=generator)[:, 0]
    ### END SOLUTION
# %% check="sample_next"
# %% [markdown]
# How does one test a thing that is random? Count 5000 draws of a story's first word, and ask how often a right sampler
# would be as far from the probabilities by chance (chi-square).
#
# **Predict**: your draws against your model's probabilities; against the law's; the law's draws against the law: which
# are beyond chance?
#
# <details><summary>Answer</summary>
#
# Your draws against the law: they follow *your model*, and 5000 draws notice small differences. The other two are right
# samplers, so any p from 0 to 1 is about as likely as another: below 0.05 once in twenty times.
#
# </details>
# %% experiment=True
first = storyteller(judge_tokens[:1, :1])[0, 0].detach()
law = torch.zeros(size)
for token, probability in corpus.next_token_probabilities([]).items():
    law[ids[token]] = probability
say = functools.partial(sample_next, tokens=judge_tokens[:1, :0].expand(5000, 0))
generator = torch.Generator().manual_seed(1)
draws = {
    "yours against your model": (first, first.softmax(-1)),
    "yours against the law": (first, law),
    "the law's against the law": (law.log(), law),
}
for name, (logits, expected) in draws.items():
    counts = say(logits.expand(5000, size), generator=generator).bincount(minlength=size)
    common = expected * 5000 >= 5  # chi-square needs some of each
    share = expected[common].double() / expected[common].double().sum()
    test = stats.chisquare(counts[common], share * counts[common].sum())
    rare, hoped = counts[~common].sum(), 5000 * expected[~common].sum()
    print(f"{name:>26}: chi-square {test.statistic:5.1f}, p = {test.pvalue:.2g};", end=" ")
    print(f"rare words {rare}, expected {hoped:.1f}")
# %% [markdown]
# ## 7. Remember
#
# To write token 100, `greedy` computes 99 positions of which 98 are as they were a round ago: causal attention lets
# nothing of the past change. A **key-value cache** keeps what later positions ask of earlier ones: their keys and
# values, in each layer. Then only the newest token goes through the model.
# %% exercise="KVCache" points=2 difficulty=3 minutes=12
class KVCache:
    """The keys and values of all positions that were read so far, for each layer."""

    def __init__(self):
        ### BEGIN SOLUTION
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}
        ### END SOLUTION

    def append(
        self,
        layer: int,
        k: Float[Tensor, "batch head new d_head"],
        v: Float[Tensor, "batch head new d_head"],
    ) -> tuple[Float[Tensor, "batch head pos d_head"], ...]:
        """Keep the layer's new keys and values; returns all of its keys, and all of its
        values, oldest first.
        """
        ### BEGIN SOLUTION
        if layer in self.kept:
            old_k, old_v = self.kept[layer]
            k, v = torch.cat([old_k, k], dim=-2), torch.cat([old_v, v], dim=-2)
        self.kept[layer] = k, v
        return k, v
        ### END SOLUTION

    def __len__(self) -> int:
        """How many positions layer 0 has; 0 at first."""
        ### BEGIN SOLUTION
        return self.kept[0][0].shape[-2] if 0 in self.kept else 0
        ### END SOLUTION
# %% check="KVCache"
# %% [markdown]
# With a cache there are fewer queries than keys: the queries are the **last** positions. Careful:
# `scaled_dot_product_attention(..., is_causal=True)` takes them for the *first*.
#
# **Predict**: 5 keys, 2 queries. How many keys does the first query see?
#
# <details><summary>Answer</summary>
#
# 4: it is position 3 (counted from 0), and sees positions 0 to 3.
#
# </details>
# <details><summary>Hint</summary>
#
# `torch.ones(new, pos).tril(pos - new)`: the diagonal moves to the right by what is old.
#
# </details>
# %% exercise="cached_attention" points=2 difficulty=3 minutes=12
def cached_attention(
    q: Float[Tensor, "batch head new d_head"],
    k: Float[Tensor, "batch head pos d_head"],
    v: Float[Tensor, "batch head pos d_head"],
) -> Float[Tensor, "batch head new d_head"]:
    """Causal attention (scores over the root of d_head) of the last `new` positions."""
    ### BEGIN SOLUTION
    new, pos = q.shape[-2], k.shape[-2]
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    seen = torch.ones(new, pos, dtype=torch.bool, device=q.device).tril(pos - new)
    return scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v
    ### END SOLUTION
# %% check="cached_attention"
# %% [markdown]
# First the whole prompt (**prefill**), then token by token. How a token is chosen is the caller's: `choose(logits,
# tokens)` gets the last logits, `[batch vocab]`, and the texts so far. What it says of a text that is over is not used.
#
# <details><summary>Hint</summary>
#
# Call `model(new, cache)` with `new = tokens` at first, and later only the column that was added last.
#
# </details>
# %% exercise="generate_with_cache" points=3 difficulty=4 minutes=20
@torch.no_grad()
def generate_with_cache(
    model: nn.Module,
    tokens: Int[Tensor, "batch pos"],
    n: int,
    choose: Callable[[Tensor, Tensor], Int[Tensor, "batch"]],
) -> Int[Tensor, "batch pos+n"]:
    """The texts, continued by n tokens that `choose` gives; after END (2) or PAD (0): PAD.

    A KVCache of its own for each call; the model reads each position once.
    """
    ### BEGIN SOLUTION
    cache, new = KVCache(), tokens
    for _ in range(n):
        logits = model(new, cache)[:, -1]
        over = (tokens[:, -1] == END) | (tokens[:, -1] == PAD)
        new = choose(logits, tokens).masked_fill(over, PAD)[:, None]
        tokens = torch.cat([tokens, new], dim=-1)
    return tokens
    ### END SOLUTION
# %% check="generate_with_cache"
# %% [markdown]
# **Predict**: greedy with and without cache: are the texts the same? The logits?
#
# <details><summary>Answer</summary>
#
# The texts, yes; the logits up to rounding. (Where two tokens are equally likely to six digits, rounding could choose.)
#
# </details>
# %% experiment=True
def likeliest(logits: Tensor, tokens: Tensor) -> Tensor:
    """Greedy, as a choice."""
    return logits.argmax(-1)


prompts = judge_tokens[:40, :8]
slow = greedy(storyteller, prompts, 80)
quick = generate_with_cache(storyteller, prompts, 80, likeliest)
print("same text in", int((slow == quick).all(-1).sum()), "of 40 stories")
with torch.no_grad():
    cache = KVCache()
    parts = [storyteller(part, cache) for part in judge_tokens[:40, :60].split(7, dim=1)]
    apart = (torch.cat(parts, dim=1) - judge_logits[:40, :60]).abs().max()
print(f"read in pieces of 7 tokens: logits differ by {apart:.0e} at most")
generator = torch.Generator().manual_seed(0)
print("\ndrawn, top-p 0.9:")
draw = functools.partial(sample_next, generator=generator, p=0.9)
show(generate_with_cache(storyteller, openings, 100, draw))
for name, options in {
    "greedy, penalty 0.5": {"temperature": 0, "penalty": 0.5},
    "drawn, temperature 2": {"temperature": 2.0, "p": 1.0},
}.items():
    print(f"\n{name}:")
    choose = functools.partial(draw, **options)
    show(generate_with_cache(storyteller, openings[:1], 60, choose))
# %% [markdown]
# **Predict**: which text says sentences that it has said before: greedy, greedy with a penalty, drawn, a real story?
#
# <details><summary>Answer</summary>
#
# Greedy alone: every fourth sentence or so. A small penalty ends it; drawn text hardly loops, and needs none.
#
# </details>
# %% experiment=True
def said_before(tokens: Int[Tensor, "batch pos"]) -> list[float]:
    """Of each text's sentences, the share that stood in it before."""
    told = corpus.tokenizer().batch_decode(tokens, skip_special_tokens=True)
    parts = [[part for part in text.split(".") if part.strip()] for text in told]
    return [1 - len(set(sentences)) / len(sentences) for sentences in parts]


plain = functools.partial(sample_next, generator=generator)
loops = {"the judges": judge_tokens}
for name, options in {
    "greedy": {"temperature": 0},
    "greedy, penalty 0.5": {"temperature": 0, "penalty": 0.5},
    "drawn": {},
}.items():
    choose = functools.partial(plain, **options)
    loops[name] = generate_with_cache(storyteller, judge_tokens[:, :6], 100, choose)
for name, tokens in loops.items():
    print(f"{name:>20}: {evidence.interval(said_before(tokens)):.3f} said before")
# %% [markdown]
# ### What it saves, and what not
#
# **With a cache, what of the work for one more token still grows with the text?**
# (a) Nothing: it is always the same; (b) The MLPs, over all positions; (c) Attention, over all the keys
# %% exercise="answer_grows" points=1 difficulty=2 minutes=3
answer_grows = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_grows = "c"
### END SOLUTION
# %% check="answer_grows"
# %% [markdown]
# **Predict**: a model twice as wide and deep, 512 positions: by how much is the 500th token cheaper with a cache? The
# expected curves count multiplications: $12 d^2$ a position and layer for the weights, $2td$ for attention to $t$
# positions. Two numbers turn them into seconds, both measured *without* cache: a fixed cost (one position), and the
# seconds a multiplication (all positions).
#
# <details><summary>Answer</summary>
#
# By far less than 500 times: a step of one position is too small to keep the machine busy, so its fixed cost remains.
# Ten times, give or take a factor of two; more for longer texts and larger models.
#
# </details>
# %% experiment=True
large = GPT(Config(d_model=128, n_layers=4, n_ctx=512)).eval()
long = torch.randint(3, size, (1, 512), generator=torch.Generator().manual_seed(0))
places = [1, 32, 64, 128, 192, 256, 384, 500]


def multiplications(new: int, t: int) -> float:
    """Of a step that reads `new` positions of a text of length t."""
    d, layers = large.cfg.d_model, large.cfg.n_layers
    return new * (layers * (12 * d**2 + 2 * t * d) + d * large.cfg.d_vocab)


def step_seconds(t: int, cached: bool) -> float:
    """A step that gives the logits after t tokens."""
    cache = KVCache() if cached else None
    if cached and t > 1:
        large(long[:, : t - 1], cache)
    new = long[:, t - 1 : t] if cached else long[:, :t]
    return evidence.seconds(functools.partial(large, new, cache))


ways = [(t, cached) for t in places for cached in (False, True)]
with torch.no_grad():  # by turns, and the quickest: another program may be busy
    rounds = [{way: step_seconds(*way) for way in ways} for _ in range(9)]
measured = {c: [min(found[t, c] for found in rounds) for t in places] for c in (False, True)}
fixed = measured[False][0]
each = (measured[False][-1] - fixed) / multiplications(500, 500)
curves = {}
for cached, name in ((False, "whole text"), (True, "with cache")):
    curves[f"{name}, measured"] = [1000 * seconds for seconds in measured[cached]]
    counts = [multiplications(1 if cached else t, t) for t in places]
    curves[f"{name}, expected"] = [1000 * (fixed + each * count) for count in counts]
for name, times in curves.items():
    print(f"{name:>22}, ms:", dict(zip(places, [round(ms, 2) for ms in times], strict=True)))
ratio = measured[False][-1] / measured[True][-1]
print(f"token 500: {ratio:.1f} times as long without cache")
one = torch.zeros(1, 4, 1, 32)  # batch head new d_head
for pos in (1, 500):
    cache, kept = KVCache(), torch.zeros(1, 4, pos, 32)
    parts = {
        "append": functools.partial(cache.append, 0, one, one),
        "cached_attention": functools.partial(cached_attention, one, kept, kept),
    }
    cache.append(0, kept, kept)
    for name, part in parts.items():
        least = 4000 * min(evidence.seconds(part) for _ in range(7))
        print(f"{name} alone, in 4 layers, at {pos} positions: {least:.2f} ms")
kept = 2 * large.cfg.n_layers * large.cfg.d_model * 4
print(f"the cache takes {kept:,} bytes a token; the weights", end=" ")
print(f"{4 * sum(p.numel() for p in large.parameters()):,} in all")
plot.line(
    curves,
    x=places,
    x_label="length of the text",
    y_label="milliseconds for one more token",
    log_y=True,
    title="A step with and without cache, and what counting says",
)
# %% [markdown]
# Times are of this machine, in this minute. Without cache they follow the count roughly (at both ends by construction).
# With it the count says next to flat, and the clock rises somewhat more. `append` copies all that is kept at each step,
# and attention reads it: alone they rise, too, though by less. Some caches reserve their memory once (transformers'
# `StaticCache`).
#
# And memory is the price: it grows with text, layers and heads. 2.5 shares keys and values among heads: less to keep,
# and less to read.
#
# ## Bonus (not graded)
#
# 1. Beam search: with `beam_step` of notebook 1.1 and `storyteller`, find likelier stories than `greedy` does. Compare
#    their log-probability, and their length, with drawn ones.
# 2. Train with `d_model=128` for 2000 steps, in the background. Which row of the table comes last?
# 3. A penalty that counts only the last 20 tokens. Does it cost the model less?
# %% [markdown]
# ## Recap
#
# | confusion | what holds |
# |---|---|
# | "The loss is low, so it can do it" | the mean hides rare skills: ask for each |
# | "Temperature 0 gives the model's best text" | it gives the likeliest *next* token, not the likeliest text |
# | "Top-p 0.9 leaves out a tenth of the tokens" | it leaves out the unlikeliest, a tenth of the *probability* at most |
# | "The cache keeps the whole past" | only keys and values; the stream of old positions is not needed again |
#
# Read on: Holtzman et al., *The Curious Case of Neural Text Degeneration* (2020); Pope et al., *Efficiently Scaling
# Transformer Inference* (2022); Karpathy, *nanoGPT*.
# Next: **2.5 Llama**.
