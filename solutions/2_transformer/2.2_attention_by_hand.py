# %% [markdown]
# # 2.2 Attention by hand
#
# Nothing is trained here. You write the numbers into $W_Q$, $W_K$, $W_V$ and $W_O$ yourself, until a transformer of two
# layers continues *any* row of different tokens that repeats. After that an attention head is a look-up in a table.
#
# ![Layer 0 notes at each position which token came before; layer 1 looks for a position whose note is the current
# token, and copies the token found there into the output](figures/2.2_wired_induction.svg)
# %% generated="overview"
# %% setup=True
from functools import partial
from string import ascii_lowercase

import torch
from jaxtyping import Float, Int
from torch import Tensor

from concrete_steps import evidence, plot, wired
from concrete_steps.wired import Weights

# %% [markdown]
# ## 1. A stream with compartments
#
# The **residual stream** of a position is a vector of d_model numbers. In a trained model no axis need mean anything.
# Here each axis has one job: a **space** is a slice of axes with a name, such as `token` or `position`.
# %%
Spaces = dict[str, slice]


def size(space: slice) -> int:
    return space.stop - space.start


def width(spaces: Spaces) -> int:
    """d_model: all axes up to the last that is used."""
    return max(space.stop for space in spaces.values())
# %% exercise="lay_out" points=1 difficulty=1 minutes=4
def lay_out(sizes: dict[str, int]) -> Spaces:
    """A space of each name and size, one after another from axis 0, in the order of sizes.

    lay_out({"token": 3, "position": 5}) is {"token": slice(0, 3), "position": slice(3, 8)}.
    """
    ### BEGIN SOLUTION
    spaces, start = {}, 0
    for name, n in sizes.items():
        spaces[name] = slice(start, start + n)
        start += n
    return spaces
    ### END SOLUTION
# %% check="lay_out"
# %% [markdown]
# At first the stream holds two **one-hot** vectors: a 1 at the token's number in `token`, a 1 at the position's number
# in `position`. All else is 0. Spaces may lie in any order, with unused axes between them.
# %% exercise="embed" points=1 difficulty=2 minutes=7
def embed(
    tokens: Int[Tensor, "batch pos"], spaces: Spaces
) -> Float[Tensor, "batch pos d_model"]:
    """The stream before the first layer: tokens and positions one-hot in the spaces "token"
    and "position", and 0 on all other axes.

    d_model is width(spaces). The space "position" may be longer than the text.
    """
    ### BEGIN SOLUTION
    x = torch.zeros(*tokens.shape, width(spaces))
    x[..., spaces["token"]] = torch.eye(size(spaces["token"]))[tokens]
    x[..., spaces["position"]] = torch.eye(size(spaces["position"]))[: tokens.shape[1]]
    return x
    ### END SOLUTION
# %% check="embed"
# %%
LETTERS = ["[BOS]", *ascii_lowercase]


def written(text: str) -> Int[Tensor, "1 pos"]:
    """[BOS], token 0, and then a is 1, b is 2, and so on."""
    return torch.tensor([[0, *(LETTERS.index(letter) for letter in text)]])


def random_text(rows: int, length: int, n_tokens: int, seed: int) -> Int[Tensor, "row pos"]:
    """Rows of [BOS] and then ordinary tokens, drawn evenly."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, n_tokens, (rows, length), generator=generator)
    tokens[:, 0] = 0
    return tokens


N_TOKENS, N_CTX = 6, 16
spaces = lay_out(
    {"token": N_TOKENS, "position": N_CTX, "previous": N_TOKENS, "seen": 1, "out": N_TOKENS}
)
# %% [markdown]
# **Predict**: take the vectors of two positions with the same token. How large is their dot product? And with another
# token? And that of a position with itself?
#
# <details><summary>Answer</summary>
#
# 1, 0 and 2: each space adds 1 where it holds the same.
#
# </details>
# %% experiment=True
text = "abcabac"
x = embed(written(text), spaces)
words = ["[BOS]", *text]
plot.show(
    plot.imshow(
        x[0],
        x=[f"{name} {i}" for name, space in spaces.items() for i in range(size(space))],
        y=words,
        x_label="axis of the stream",
        y_label="position",
        scale="positive",
        title="The stream before the first layer",
    ),
    plot.imshow(
        (x @ x.mT)[0],
        x=words,
        y=words,
        x_label="position",
        y_label="position",
        value_label="product",
        text=True,
        scale="positive",
        title="Dot products between positions",
    ),
)
# %% [markdown]
# So comparing tokens is nothing but a dot product over one space.
#
# ## 2. A score is a look-up in a table
#
# This is all that a head does. `Weights` holds its four matrices: `W_Q`, `W_K`, `W_V` are `[d_model d_head]`, `W_O` is
# `[d_head d_model]`. (Here queries and keys may have another d_head than values.)
# %%
def attend(
    x: Float[Tensor, "batch pos d_model"], head: Weights
) -> tuple[Float[Tensor, "batch query key"], Float[Tensor, "batch query d_model"]]:
    """A causal head: its attention pattern, and what it adds to the stream."""
    q, k, v = x @ head.W_Q, x @ head.W_K, x @ head.W_V
    scores = q @ k.mT / head.W_Q.shape[1] ** 0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    pattern = scores.masked_fill(later, -torch.inf).softmax(-1)
    return pattern, pattern @ v @ head.W_O
# %% [markdown]
# How sure is sure? Let one key match with score $s$ and the other $n - 1$ keys have 0. Its weight is
#
# $$w = \frac{e^s}{e^s + n - 1}$$
#
# **Predict**: which score gives 99 % to one key of 20: about 1, 8 or 100? And for 2000 keys, is it 100 times as much?
#
# <details><summary>Answer</summary>
#
# About 8, and only some 5 more for 2000 keys: the score grows with the logarithm.
#
# </details>
# %% exercise="strength_needed" points=1 difficulty=2 minutes=5
def strength_needed(n_keys: int, weight: float) -> float:
    """The score of one key that gives it this weight, if the others of n_keys score 0.

    Args:
        n_keys: all keys, the matching one among them; 2 or more.
        weight: between 0 and 1, both excluded.
    """
    ### BEGIN SOLUTION
    return torch.tensor(weight * (n_keys - 1) / (1 - weight), dtype=torch.float64).log().item()
    ### END SOLUTION
# %% check="strength_needed"
# %% experiment=True
weights = [1 - 10**-digits for digits in (0.3, 1, 2, 3, 4, 5, 6)]
needed = {f"{n} keys": [strength_needed(n, w) for w in weights] for n in (2, 20, 2000)}
for name, scores in needed.items():
    print(f"{name:>9}: 99 % takes {scores[2]:.1f}, 99.9999 % takes {scores[6]:.1f}")
plot.line(
    needed,
    x=[1 - w for w in weights],
    log_x=True,
    x_label="weight left for all other keys",
    y_label="score of the match",
    title="Exact enough is not far away",
)
# %%
MATCH = 40.0  # the score of a match, from here on: e^-40 is 4e-18
# %% [markdown]
# Let the query hold $i$ in space `a` and the key hold $j$ in space `b`. A **table** says what that shall score:
# `table[i, j]`, a row for the query, a column for the key. For a previous-token head both spaces are `position`, and
# the table has MATCH where $j = i - 1$. In general, for parts $x_a$ and $y_b$ of the streams of query and key, a head
# whose table is $T$ has the score
#
# $$x_a \, T \, y_b^\top = \frac{(x W_Q)(y W_K)^\top}{\sqrt{d_\text{head}}}$$
#
# With several tables their scores add up. Each takes columns of its own in `W_Q` and `W_K`.
#
# <details><summary>Hint 1</summary>
#
# One table: put it into the rows of `a` of `W_Q`, and an identity into the rows of `b` of `W_K`. What undoes the root?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Several tables: d_head is the sum of `table.shape[1]`, so know it before you begin. Keep count of the first free
# column.
#
# </details>
# %% exercise="score_tables" points=2 difficulty=3 minutes=15
def score_tables(
    spaces: Spaces, tables: dict[tuple[str, str], Float[Tensor, "i j"]]
) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_model d_head"]]:
    """W_Q and W_K whose scores, after division by sqrt(d_head), are the sum of the tables'.

    Args:
        tables: by the names of the query's space and the key's. Two tables may share a
            space. With no table all scores are 0.

    d_model is width(spaces); d_head is yours to choose, 1 or more.
    """
    ### BEGIN SOLUTION
    d_head = max(1, sum(table.shape[1] for table in tables.values()))
    W_Q, W_K = torch.zeros(width(spaces), d_head), torch.zeros(width(spaces), d_head)
    start = 0
    for (query, key), table in tables.items():
        columns = slice(start, start + table.shape[1])
        W_Q[spaces[query], columns] = table * d_head**0.5
        W_K[spaces[key], columns] = torch.eye(table.shape[1])
        start = columns.stop
    return W_Q, W_K
    ### END SOLUTION
# %% check="score_tables"
# %% [markdown]
# ## 3. What it writes is a table, too
#
# A head adds, for each key that it looks at, $y W_V W_O$ times the weight. If the key holds $j$ in space `source`, then
# row $j$ of a table shall land in space `into`. An identity copies.
# %% exercise="value_table" points=1 difficulty=2 minutes=6
def value_table(
    spaces: Spaces, source: str, into: str, table: Float[Tensor, "i j"]
) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_head d_model"]]:
    """W_V and W_O that read space source, multiply by the table, write the result into space
    into, and write 0 on all other axes.

    d_model is width(spaces); d_head is yours to choose.
    """
    ### BEGIN SOLUTION
    W_V, W_O = torch.zeros(width(spaces), len(table)), torch.zeros(len(table), width(spaces))
    W_V[spaces[source]] = torch.eye(len(table))
    W_O[:, spaces[into]] = table
    return W_V, W_O
    ### END SOLUTION
# %% check="value_table"
# %% [markdown]
# **A previous-token head copies tokens. You exchange the source of its `value_table` from `token` to `position`, with a
# table and a space of that size. Then it ...**
# (a) looks at the previous position, and writes which position that is; (b) looks at the same token's last place, and
# writes that place; (c) looks at the previous token, and writes the token as before
# %% exercise="answer_ov" points=1 difficulty=2 minutes=2
answer_ov = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_ov = "a"
### END SOLUTION
# %% check="answer_ov"
# %% [markdown]
# Where to look (the **QK circuit**, $W_Q W_K^\top$) and what to move (the **OV circuit**, $W_V W_O$) are two separate
# choices.
#
# ## 4. Four heads
#
# Rules for all heads from here on:
#
# - Where the text says *looks at*, that key gets a weight of **at least 0.99**, for up to 32 positions.
# - A head reads only the spaces that its text names: the others may hold anything.
# - What it writes is right to 0.01, and 0 outside the space that it writes into.
#
# First an **attention sink**: it always looks at position 0, and writes nothing. Many heads of trained models rest on
# the first token (Xiao et al. 2023; notebook 3.2): the weights sum to 1, so no head can look nowhere.
# %% exercise="first_token_head" points=1 difficulty=1 minutes=5
def first_token_head(spaces: Spaces) -> Weights:
    """Every query looks at position 0, and the head writes nothing.

    Reads "position".
    """
    ### BEGIN SOLUTION
    n = size(spaces["position"])
    table = torch.zeros(n, n)
    table[:, 0] = MATCH
    W_Q, W_K = score_tables(spaces, {("position", "position"): table})
    return Weights(W_Q, W_K, torch.zeros_like(W_Q), torch.zeros_like(W_Q.T))
    ### END SOLUTION
# %% check="first_token_head"
# %% [markdown]
# Now the head of the drawing's layer 0.
#
# <details><summary>Hint</summary>
#
# `torch.eye(n)` shifted: `.roll(1, 0)` moves rows, and the row that comes round does no harm: why?
# `torch.ones(n - 1).diag(-1)` is another way.
#
# </details>
# %% exercise="previous_token_head" points=2 difficulty=2 minutes=8
def previous_token_head(spaces: Spaces, into: str) -> Weights:
    """Each position looks at the one before, and writes that one's token, one-hot, into the
    space into. At position 0 it may look and write, into that space, as it likes.

    Reads "position" for scores, "token" for values.
    """
    ### BEGIN SOLUTION
    n = size(spaces["position"])
    before = MATCH * torch.ones(n - 1).diag(-1)
    W_Q, W_K = score_tables(spaces, {("position", "position"): before})
    return Weights(W_Q, W_K, *value_table(spaces, "token", into, torch.eye(size(spaces["token"]))))
    ### END SOLUTION
# %% check="previous_token_head"
# %% [markdown]
# **Predict**: which key does this head look at from position 5, if all tokens are the same? And if the space `position`
# is emptied (all 0)?
#
# <details><summary>Answer</summary>
#
# Still at key 4: its scores never read tokens. Without positions all scores are 0, and the weights are even.
#
# </details>
# %% experiment=True
head = previous_token_head(spaces, "previous")
x = embed(written("abcab"), spaces)
same = embed(written("aaaaa"), spaces)
lost = x.clone()
lost[..., spaces["position"]] = 0
patterns = torch.cat([attend(stream, head)[0] for stream in (x, same, lost)])
note = attend(x, head)[1][0, :, spaces["previous"]]
print("notes:", [LETTERS[i] for i in note.argmax(-1)[1:].tolist()])
plot.attention(
    ["[BOS]", *["token"] * 5],
    patterns,
    heads=["abcab", "aaaaa", "abcab, no positions"],
    title="A previous-token head",
)
# %% [markdown]
# ### Look everywhere
#
# The other extreme does not look anywhere in particular. With even weights over all that came so far, copying gives
# the *shares* of the tokens: a bag of words. It is the simplest **copying head**: what was here may come again.
# `[BOS]`, token 0, never comes again, so it is not copied.
# %% exercise="copying_head" points=1 difficulty=2 minutes=6
def copying_head(spaces: Spaces) -> Weights:
    """Each position looks evenly at itself and all before it, and writes the share of each
    token among them into "out"; but for token 0, whose entry stays 0.

    Reads "token" for values, and nothing for scores.
    """
    ### BEGIN SOLUTION
    copy = torch.eye(size(spaces["token"]))
    copy[0, 0] = 0
    return Weights(*score_tables(spaces, {}), *value_table(spaces, "token", "out", copy))
    ### END SOLUTION
# %% check="copying_head"
# %% [markdown]
# ### Look for the same
#
# A **duplicate-token head** finds earlier copies of the current token. Two cares: a position also matches *itself*; and
# where there is no earlier copy, it shall rest on `[BOS]`.
#
# | key | score |
# |---|---|
# | an earlier copy of the token | MATCH |
# | the query's own position | 0 or less |
# | `[BOS]` | MATCH / 2 |
# | any other | 0 |
#
# <details><summary>Hint 1</summary>
#
# Three wishes, two tables: one over tokens, one over positions. A whole column of the first belongs to `[BOS]`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Its own position gets MATCH for the token: by how much must the second table be negative?
#
# </details>
# %% exercise="duplicate_token_head" points=3 difficulty=4 minutes=20
def duplicate_token_head(spaces: Spaces) -> Weights:
    """Each position looks at the earlier copies of its token, evenly, and never at itself;
    if there are none, at position 0.

    Writes 1 into the one axis of "seen" where there is an earlier copy, and 0 elsewhere.
    Token 0 stands at position 0 and nowhere else; there the head may look only at itself,
    and writes 0.

    Reads "token" and "position" for scores, "token" for values.
    """
    ### BEGIN SOLUTION
    n_tokens, n_ctx = size(spaces["token"]), size(spaces["position"])
    same_token = MATCH * torch.eye(n_tokens)
    same_token[:, 0] = MATCH / 2
    itself = -2 * MATCH * torch.eye(n_ctx)
    tables = {("token", "token"): same_token, ("position", "position"): itself}
    flag = torch.ones(n_tokens, 1)
    flag[0] = 0
    return Weights(*score_tables(spaces, tables), *value_table(spaces, "token", "seen", flag))
    ### END SOLUTION
# %% check="duplicate_token_head"
# %% [markdown]
# **Predict**: the text `abcabaa`. How are the weights of the last `a` shared? What does the head write there?
#
# <details><summary>Answer</summary>
#
# A third for each of the three earlier copies. It writes 1: weights sum to 1, and every copy writes the same.
#
# </details>
# %% experiment=True
text = "abcabaa"
x = embed(written(text), spaces)
pattern, out = attend(x, duplicate_token_head(spaces))
flags = out[0, :, spaces["seen"]][:, 0]
print("weights of the last query:", [round(w, 2) for w in pattern[0, -1].tolist()])
print("seen:", dict(enumerate(round(flag, 2) for flag in flags.tolist())))
shares = attend(x, copying_head(spaces))[1][0, -1, spaces["out"]]
print("shares, by the copying head:", [round(share, 2) for share in shares.tolist()])
plot.attention(
    ["[BOS]", *text],
    torch.cat([pattern, attend(x, copying_head(spaces))[0]]),
    heads=["duplicate token", "copying"],
    title="Two heads on tokens",
)
# %% [markdown]
# A count is lost on the way: attention averages, so one earlier copy and three look alike in `seen`.
#
# ## 5. Two layers
#
# The whole model: embed; in each layer *all heads read the same stream*, and what they write is added to it; the
# logits are what `out` holds at the end.
# %% exercise="run_layers" points=1 difficulty=2 minutes=7
def run_layers(
    tokens: Int[Tensor, "batch pos"], spaces: Spaces, layers: list[list[Weights]]
) -> Float[Tensor, "batch pos n_tokens"]:
    """The logits of an attention-only transformer: space "out" after all layers.

    Args:
        layers: the heads of each layer, in order; a layer may have none.
    """
    ### BEGIN SOLUTION
    x = embed(tokens, spaces)
    for heads in layers:
        x = x + sum(attend(x, head)[1] for head in heads)
    return x[..., spaces["out"]]
    ### END SOLUTION
# %% check="run_layers"
# %% [markdown]
# ### Induction
#
# Find where the current token stood before, and say what came *next*. One head alone cannot: it matches
# a key by what that key's own position holds, and next to `b` nothing says that `a` came before.
#
# So layer 0 leaves a note, and layer 1 looks for it, as drawn above. If a token came before several times, each earlier
# place gets the same weight, and `out` the share of each follower. If it is new, `out` stays 0.
#
# <details><summary>Hint 1</summary>
#
# Layer 0 you have. For layer 1: which space of the query is compared with which of the key?
#
# </details>
# <details><summary>Hint 2</summary>
#
# A new token must rest on `[BOS]`, as in section 4, by the key's `token`: at position 1 the *note* is `[BOS]`, too. And
# copying must not bring `[BOS]` along.
#
# </details>
# %% exercise="induction_circuit" points=4 difficulty=4 minutes=25
def induction_circuit(spaces: Spaces) -> list[list[Weights]]:
    """Two layers whose logits at each position are the shares of the tokens that followed
    earlier copies of the token there, right to 0.02.

    Where the token is new, all logits are 0; token 0 stands at position 0 and nowhere else.
    The spaces are "token", "position", "previous" (of token's size), "out", and others.
    """
    ### BEGIN SOLUTION
    n = size(spaces["token"])
    rest, copy = torch.zeros(n, n), torch.eye(n)
    rest[:, 0] = MATCH / 2
    copy[0, 0] = 0
    tables = {("token", "previous"): MATCH * torch.eye(n), ("token", "token"): rest}
    induction = Weights(*score_tables(spaces, tables), *value_table(spaces, "token", "out", copy))
    return [[previous_token_head(spaces, "previous")], [induction]]
    ### END SOLUTION
# %% check="induction_circuit"
# %%
def followers(
    tokens: Int[Tensor, "batch pos"], n_tokens: int
) -> Float[Tensor, "batch pos n_tokens"]:
    """By a plain loop: how often each token followed earlier copies of the one here."""
    counts = torch.zeros(*tokens.shape, n_tokens)
    for row, text in enumerate(tokens.tolist()):
        for here, token in enumerate(text):
            for earlier in range(here):
                counts[row, here, text[earlier + 1]] += text[earlier] == token
    return counts


def right_guesses(logits, counts) -> Float[Tensor, "batch"]:
    """For each row: how often the largest logit is a token that followed before."""
    can_tell = counts.sum(-1) > 0
    hit = counts.gather(-1, logits.argmax(-1, keepdim=True))[..., 0] > 0
    return (hit & can_tell).sum(-1) / can_tell.sum(-1)


def random_twin(head: Weights, generator: torch.Generator) -> Weights:
    """Gaussian matrices of the same shapes and norms."""
    drawn = []
    for matrix in (head.W_Q, head.W_K, head.W_V, head.W_O):
        noise = torch.randn(matrix.shape, generator=generator)
        drawn.append(noise * matrix.norm() / noise.norm())
    return Weights(*drawn)
# %% [markdown]
# **Predict**: on 200 random rows, how often is the largest logit a right guess: with your circuit; with layer 0 taken
# away, so that layer 1 finds nothing and rests on `[BOS]`; with random matrices of the same norms? Which of the last
# two does better?
#
# <details><summary>Answer</summary>
#
# Always. Without notes: in *more than half*, and better than the twins! All weight but some e^-20 rests on `[BOS]`;
# what is left over copies a bag of words. Its logits are some 1e-8, but one of them is the largest. So the null to
# beat is not 0, it is the copying head.
#
# </details>
# %% experiment=True
tokens = random_text(200, N_CTX, N_TOKENS, seed=0)
circuit = induction_circuit(spaces)
counts = followers(tokens, N_TOKENS)
shares = counts / counts.sum(-1, keepdim=True).clamp(min=1)
worst = (run_layers(tokens, spaces, circuit) - shares).abs().max()
print(f"your circuit, largest error of a logit: {worst:.0e}")
generator = torch.Generator().manual_seed(0)
twins = [
    [[random_twin(head, generator) for head in heads] for heads in circuit]
    for _ in range(30)
]
cases = {
    "your circuit": [circuit],
    "without layer 0": [[[], circuit[1]]],
    "the copying head alone": [[[copying_head(spaces)]]],
    "30 random twins": twins,
}
for name, models in cases.items():
    logits = [run_layers(tokens, spaces, model) for model in models]
    guesses = torch.stack([right_guesses(each, counts) for each in logits])  # [model row]
    over = evidence.interval(guesses.mean(1) if len(models) > 1 else guesses[0])
    right = f"{over:.2f}" if over.low < over.high else f"{over.value:.2f} in every row"
    largest = torch.stack([each[:, -1].amax(-1) for each in logits]).median()
    print(f"{name:>22}: right in {right}; median of the largest logit {largest:.0e}")
# %% [markdown]
# (Intervals: over rows; for the twins, over twins.) The twins have as many parameters, of the same norms: it is not
# these that do it. And "the largest logit" is a measure that hears a whisper: look at its height, too.
# %% experiment=True
text = "abcdabcd"
x = embed(written(text), spaces)
first, added = attend(x, circuit[0][0])
second, _ = attend(x + added, circuit[1][0])
plot.attention(
    ["[BOS]", *text],
    torch.cat([second, first]),
    heads=["layer 1: induction", "layer 0: previous token"],
    title="The pattern that notebook 3.2 looks for in trained models",
)
# %% [markdown]
# ### Composition
#
# Layer 1 finds its key by what layer 0 wrote: **K-composition**. What if the note is in the query instead?
#
# **Someone confuses the sides in layer 1: the query's `previous` meets the key's `token`. At the last `a` of
# `[BOS] c b d b a`, which keys match?**
# (a) the key `d`, which follows the earlier `b`; (b) the key `c`, which stands before the earlier `b`; (c) both keys
# `b`, the one just before it too
# %% exercise="answer_swapped" points=1 difficulty=3 minutes=4
answer_swapped = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_swapped = "c"
### END SOLUTION
# %% check="answer_swapped"
# %% experiment=True
tables = {("previous", "token"): MATCH * torch.eye(N_TOKENS)}
copy = value_table(spaces, "token", "out", torch.eye(N_TOKENS))
swapped = Weights(*score_tables(spaces, tables), *copy)
x = embed(written("cbdba"), spaces)
x = x + attend(x, circuit[0][0])[1]
weights = attend(x, swapped)[0][0, -1]
for place, (letter, weight) in enumerate(zip("^cbdba", weights.tolist(), strict=True)):
    print(f"key {place} {letter}: {weight:.2f}")
# %% [markdown]
# (`^` is `[BOS]`.) That is **Q-composition**; it asks for copies of the token *before* this one. A note that is copied
# on, as a value, makes **V-composition**.
#
# ## 6. How many axes does it take?
#
# Your previous-token head has an axis in d_head for each position. In GPT-2 there are 1024 positions, and 64 axes. Do
# two suffice? Put position $p$ at an angle on a circle: the dot product of two unit vectors is the cosine of the angle
# between them, largest where they are equal.
#
# <details><summary>Hint 1</summary>
#
# Row $p$ of `W_K` within `position` is $(\cos \alpha p, \sin \alpha p)$. Which key must the query at $p$ point to?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Around the circle once: $\alpha = 2\pi / n$. Its neighbour is only $1 - \cos \alpha$ worse, so how large must the
# factor in `W_Q` be? For 32 positions: in the hundreds, or more.
#
# </details>
# %% exercise="narrow_scores" points=2 difficulty=4 minutes=20
def narrow_scores(
    spaces: Spaces,
) -> tuple[Float[Tensor, "d_model 2"], Float[Tensor, "d_model 2"]]:
    """W_Q and W_K of a previous-token head with d_head = 2, for up to 32 positions.

    Each position from 1 on looks at the one before. Reads "position".
    """
    ### BEGIN SOLUTION
    n = size(spaces["position"])
    angles = torch.arange(n) * 2 * torch.pi / n
    W_Q, W_K = torch.zeros(width(spaces), 2), torch.zeros(width(spaces), 2)
    before = angles - 2 * torch.pi / n
    W_Q[spaces["position"]] = 2000 * torch.stack([before.cos(), before.sin()], dim=1)
    W_K[spaces["position"]] = torch.stack([angles.cos(), angles.sin()], dim=1)
    return W_Q, W_K
    ### END SOLUTION
# %% check="narrow_scores"
# %% [markdown]
# **Predict**: how does the score that two axes need, for 99 %, grow with the number of positions: not at all, like
# $n$, or like $n^2$?
#
# <details><summary>Answer</summary>
#
# Like $n^2$: near 0 a cosine falls with the *square* of the angle.
#
# </details>
# %% experiment=True
lengths = [8, 16, 32, 64, 128, 256]
factor = {"one axis for each position": [], "two axes": []}
for n in lengths:
    rest = 1 - torch.cos(torch.arange(1, n) * 2 * torch.pi / n).double()  # what others lose
    low, high = 0.0, 1e6
    for _ in range(60):  # by halving
        middle = (low + high) / 2
        weight = 1 / (1 + (-middle * rest).exp().sum())
        low, high = (middle, high) if weight < 0.99 else (low, middle)
    factor["two axes"].append(high)
    factor["one axis for each position"].append(strength_needed(n, 0.99))
for name, scores in factor.items():
    print(f"{name:>26}:", [round(score) for score in scores])
plot.line(
    factor,
    x=lengths,
    log_x=True,
    log_y=True,
    x_label="positions",
    y_label="score of the match",
    title="Fewer axes, larger scores",
)
# %% [markdown]
# Few axes suffice if scores may be large. **Rotary embeddings** make each pair of axes such a circle, of another speed
# each.
#
# ## 7. Into TransformerLens
#
# There all heads of a model have one d_head, for queries, keys and values alike. Widen the small ones: the same
# pattern, the same output, more columns.
#
# <details><summary>Hint</summary>
#
# New columns of zeros change no dot product. What else depends on d_head?
#
# </details>
# %% exercise="widen" points=2 difficulty=3 minutes=10
def widen(head: Weights, d_head: int) -> Weights:
    """A head that does the same, with W_Q, W_K, W_V [d_model d_head] and W_O [d_head
    d_model].

    d_head is no smaller than before; queries and keys may have had another than values.
    """
    ### BEGIN SOLUTION
    d_model, before = head.W_Q.shape
    W_Q, W_K, W_V = (torch.zeros(d_model, d_head) for _ in range(3))
    W_Q[:, :before] = head.W_Q * (d_head / before) ** 0.5
    W_K[:, :before] = head.W_K
    W_V[:, : head.W_V.shape[1]] = head.W_V
    W_O = torch.zeros(d_head, d_model)
    W_O[: head.W_O.shape[0]] = head.W_O
    return Weights(W_Q, W_K, W_V, W_O)
    ### END SOLUTION
# %% check="widen"
# %%
def to_bridge(spaces: Spaces, layers: list[list[Weights]]):
    """The same model as a TransformerBridge; layers are filled up with idle heads."""
    n_heads = max(len(heads) for heads in layers)
    heads_of_all = [head for heads in layers for head in heads]
    d_head = max(max(head.W_Q.shape[1], head.W_V.shape[1]) for head in heads_of_all)
    nothing = torch.zeros(width(spaces), d_head)
    idle = Weights(nothing, nothing, nothing, nothing.T)
    grid = {}
    for layer, heads in enumerate(layers):
        wide = [widen(head, d_head) for head in heads] + [idle] * (n_heads - len(heads))
        grid |= {(layer, number): head for number, head in enumerate(wide)}
    axes = torch.eye(width(spaces))  # the embedding of a token is its axis
    ends = axes[spaces["token"]], axes[spaces["position"]], axes[:, spaces["out"]]
    return wired.to_bridge(grid, *ends, len(layers), n_heads)
# %% [markdown]
# Now one model of five heads and one of zeros, and 3.2's detectors on it: rows of 12 different tokens, twice. Each is a
# mean weight, over the queries of the second copy: on the key after the first copy (**prefix matching**), on the first
# copy itself (duplicate), on the key before, on the first of all. The null: a second half from another row.
# (`run_with_cache` keeps what a run computes; `run_with_hooks`, below, changes it on the way.)
#
# **Predict**: which heads score 1 on which detector? Does any of the wrong heads score on prefix matching?
#
# <details><summary>Answer</summary>
#
# Each on its own, near 1; on prefix matching the induction head alone. With the null it has what even weights give.
#
# </details>
# %% experiment=True
BLOCK, MANY = 12, 21
big = lay_out({"token": MANY, "position": 25, "previous": MANY, "seen": 1, "out": MANY})
circuit = induction_circuit(big)
sink = first_token_head(big)
layers = [[*circuit[0], duplicate_token_head(big), sink], [*circuit[1], sink]]
bridge = to_bridge(big, layers)
shuffle = torch.rand(64, MANY - 1, generator=torch.Generator().manual_seed(1)).argsort(-1) + 1
bos = torch.zeros(64, 1, dtype=torch.long)
repeated = torch.cat([bos, shuffle[:, :BLOCK], shuffle[:, :BLOCK]], dim=1)
unrepeated = torch.cat([bos, shuffle[:, :BLOCK], shuffle[:, :BLOCK].roll(1, 0)], dim=1)
with torch.no_grad():
    logits, cache = bridge.run_with_cache(repeated)
    _, other = bridge.run_with_cache(unrepeated)
gap = (logits - run_layers(repeated, big, layers)).abs().max()
print(f"largest difference between the bridge's logits and yours: {gap:.0e}")
queries = torch.arange(BLOCK + 1, 2 * BLOCK + 1)
keys = {
    "prefix matching": queries - BLOCK + 1,
    "duplicate": queries - BLOCK,
    "previous": queries - 1,
    "first": queries * 0,
}
table = torch.zeros(2, 6, len(keys))
for row, patterns in enumerate((cache, other)):
    for i in range(6):
        pattern = patterns["pattern", i // 3][:, i % 3]
        for j, key in enumerate(keys.values()):
            table[row, i, j] = pattern[:, queries, key].mean()
roles = ["previous", "duplicate", "sink", "induction", "sink", "zeros"]
plot.imshow(
    table,
    facets=["repeated", "not repeated (null)"],
    x=list(keys),
    y=[f"L{i // 3}H{i % 3} {role}" for i, role in enumerate(roles)],
    x_label="mean weight on this key",
    y_label="head",
    scale="positive",
    text=True,
    value_label="weight",
    title="What the detectors of notebook 3.2 say of heads whose truth you know",
)
# %% [markdown]
# And what does layer 1 need layer 0 *for*? Let one input of it, `q`, `k` or `v`, come from a stream without the
# previous-token head, as 3.2 does in a trained model.
#
# **Predict**: for which of the three is induction lost?
#
# <details><summary>Answer</summary>
#
# For `k` alone: only there is the note read. Here that is all or nothing; in trained weights it is a matter of degree.
#
# </details>
# %% experiment=True
@torch.no_grad()
def without_note(part: str) -> Tensor:
    """Right guesses in the second copy when one input of layer 1 lacks L0H0."""
    kept, name = [], f"blocks.1.attn.hook_{part}"

    def zero(z, hook, head):
        z = z.clone()
        z[:, :, head] = 0
        return z

    keep = (name, lambda value, hook: kept.append(value.clone()))
    lame = ("blocks.0.attn.hook_z", partial(zero, head=0))
    bridge.run_with_hooks(repeated, fwd_hooks=[lame, keep])
    patch = (name, lambda value, hook: kept[0])
    logits = bridge.run_with_hooks(repeated, fwd_hooks=[patch])
    return logits[:, BLOCK + 1 : -1].argmax(-1) == repeated[:, BLOCK + 2 :]


for part in "qkv":
    right = without_note(part).float().mean(1)
    print(f"{part} of layer 1 without the previous-token head: right in {right.mean():.2f}")
# %% [markdown]
# These weights show that two layers *can* do induction, to the precision that section 5 printed. That training finds
# such a circuit, they do not show: that takes a trained model and notebook 3.2.
#
# ## 8. Open task: a rule from examples
#
# Four rules, A to D, known only by examples. At a position marked `.` the rule says nothing. The answer depends on the
# tokens so far, never on later ones.
#
# Find the rules; wire a circuit for each. Your function gets *fresh* rows of one rule, told by nobody which: so it must
# choose, among your circuits, the one that fits. It is then tried on rows that it has not seen, with other numbers of
# tokens and other lengths, and at 99 % of the answers the largest logit must be right.
#
# <details><summary>Hint 1</summary>
#
# For each answer: where in the row does that token stand? Count from the end, or from earlier copies of the last token
# or tokens. Are there several, which one is meant?
#
# </details>
# <details><summary>Hint 2</summary>
#
# You may lay out spaces of your own, several notes among them, and add up tables: what matches twice scores twice; a
# table over positions can prefer later keys. Values may be read from a note.
#
# </details>
# %%
for rule in "ABCD":
    tokens, answers = wired.riddle(rule, rows=3, seed=0)
    print(f"rule {rule}")
    for row, told in zip(tokens.tolist(), answers.tolist(), strict=True):
        letters = ["^", *(LETTERS[token] for token in row[1:])]
        print("  tokens ", " ".join(letters))
        letters = ["." if answer == wired.NO_ANSWER else LETTERS[answer] for answer in told]
        print("  answers", " ".join(letters))


def share_right(logits, answers) -> float:
    """How often the largest logit is the answer, where there is one."""
    told = answers != wired.NO_ANSWER
    return (logits.argmax(-1) == answers)[told].float().mean().item()
# %% exercise="wire_rule" points=6 difficulty=5 minutes=60
def wire_rule(
    tokens: Int[Tensor, "row pos"], answers: Int[Tensor, "row pos"], n_tokens: int
) -> tuple[Spaces, list[list[Weights]]]:
    """Spaces and layers of a model that follows the rule of these examples, for run_layers.

    Args:
        tokens, answers: 40 rows or more of one of the rules A to D, as wired.riddle makes
            them; an answer is wired.NO_ANSWER where the rule says nothing.
        n_tokens: how many tokens there are, token 0 among them.

    The model is tried on other rows of the same rule, n_tokens and length.
    """
    ### BEGIN SOLUTION
    n_ctx = tokens.shape[1]
    notes = {"one back": n_tokens, "two back": n_tokens}
    spaces = lay_out({"token": n_tokens, "position": n_ctx, **notes, "out": n_tokens})
    same, copy = MATCH * torch.eye(n_tokens), torch.eye(n_tokens)
    itself = -2 * MATCH * torch.eye(n_ctx)
    later = (MATCH / 2 * torch.arange(n_ctx)).expand(n_ctx, -1)

    def back(distance: int, into: str) -> Weights:
        table = MATCH * torch.ones(n_ctx - distance).diag(-distance)
        tables = {("position", "position"): table}
        return Weights(*score_tables(spaces, tables), *value_table(spaces, "token", into, copy))

    def find(tables: dict, source: str) -> Weights:
        return Weights(*score_tables(spaces, tables), *value_table(spaces, source, "out", copy))

    one, two = back(1, "one back"), back(2, "two back")
    circuits = [
        [[back(2, "out")]],
        [[one], [find({("token", "token"): same, ("position", "position"): itself}, "one back")]],
        [[one], [find({("token", "one back"): n_ctx * same, ("position", "position"): later}, "token")]],
        [[one, two], [find({("token", "one back"): same, ("one back", "two back"): same}, "token")]],
    ]
    best = max(circuits, key=lambda layers: share_right(run_layers(tokens, spaces, layers), answers))
    return spaces, best
    ### END SOLUTION
# %% check="wire_rule"
# %% [markdown]
# **Predict**: let each rule's circuit answer the other rules' riddles. Where is it better than chance, a sixth?
#
# <details><summary>Answer</summary>
#
# C and D share most: both say what followed, one after a token, one after a pair. Others agree in special cases, which
# is no chance: where a token comes twice running, "two back" (A) and "before its copy" (B) are the same.
#
# </details>
# %% experiment=True
grid = torch.zeros(4, 4)
for i, wired_for in enumerate("ABCD"):
    examples = wired.riddle(wired_for, rows=40, seed=1)
    own_spaces, layers = wire_rule(*examples, n_tokens=7)
    for j, asked in enumerate("ABCD"):
        fresh, answers = wired.riddle(asked, rows=400, seed=2)
        grid[i, j] = share_right(run_layers(fresh, own_spaces, layers), answers)
plot.imshow(
    grid,
    x=list("ABCD"),
    y=list("ABCD"),
    x_label="rule that is asked",
    y_label="circuit wired for",
    value_label="share right",
    scale="positive",
    text=True,
    title="Fresh rows: each circuit on each rule",
)
# %% [markdown]
# Examples alone leave room: any rule that agrees on all of them is as good. The other circuits are the null.
#
# ## Bonus (not graded)
#
# 1. Rotate the whole stream of your bridge at random. Which tools of section 7 notice? (`wired.build` does this.)
# 2. Induction with `narrow_scores`: do the logits stay exact? And with `token` squeezed into fewer axes than tokens?
# 3. Wire induction in a single layer, for a model whose embedding already knows the token before.
# 4. Write `MATCH = 2` and run the notebook again. What fails first?
# %% [markdown]
# ## Recap
#
# Spaces, tables of scores, tables of values, layers that leave notes.
#
# | confusion | what holds |
# |---|---|
# | "A head looks at words" | it looks up a score in a table, for what query and key *hold* |
# | "Where it looks decides what it writes" | QK and OV are separate tables |
# | "No match, no attention" | weights sum to 1: give it somewhere to rest |
# | "Attention counts" | it averages: three copies weigh what one does |
# | "An induction head does induction" | two heads do, and the note between them |
#
# Read on: Elhage et al. 2021, *A Mathematical Framework for Transformer Circuits*; Weiss et al. 2021, *Thinking Like
# Transformers* (a language for such circuits); Lindner et al. 2023, *Tracr* (its compiler); Edelman et al. 2024, *The
# Evolution of Statistical Induction Heads* (the shares of section 5, learned). Next: **2.3 GPT-2**.
