# %% [markdown]
# # 1.1 Tensors
#
# Everything a language model computes is a **tensor**: numbers in a box with named axes. Below is one, an *attention
# pattern* of shape `[head query key]`: for each head, how much each word (query) reads from each word up to it (key). A
# *head* is one of several such readers that work side by side. Soon you will write the whole of this plan, from
# residual stream to residual stream, and read its shapes like sentences:
#
# ![Attention as a plan: q and k make scores, the pattern mixes v, W_O writes back](figures/attention_plan.svg)
# %% generated="overview"
# %% [markdown]
# Run this first.
# %% setup=True
import torch
from einops import einsum, rearrange, reduce, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from concrete_steps import plot
from concrete_steps.evidence import ratio_of_times

# %%
torch.manual_seed(0)  # the same random numbers in every run
words = ["The", "cat", "sat", "on", "the", "mat"]
pattern = torch.zeros(3, 6, 6)  # [head query key]
for query in range(6):
    pattern[0, query, max(query - 1, 0)] = 1
    pattern[1, query, 0] = 1
    pattern[2, query, : query + 1] = 1 / (query + 1)
heads = ["previous word", "first word", "all so far"]
plot.imshow(
    pattern,
    tokens=words,
    facets=heads,
    x_label="key",
    y_label="query",
    value_label="weight",
    scale="positive",
    title="Three attention heads, made by hand",
)
# %% [markdown]
# Aim: **no Python loops over entries**. The checks accept loops as well; section 3 measures what they cost. Keep to
# torch operations and leave the inputs as they are: training needs both. A tensor of floats comes back in the dtype in
# which it came, float32 or float64, computed in that dtype; inputs may be views of other tensors.
#
# ## 1. A shape is a sentence
#
# `Float[Tensor, "batch pos d_model"]` reads: floats, with three axes called *batch*, *pos* and *d_model*. A name that
# occurs twice has the same size both times; `...` is any number of axes; `""` is a single number; `head*d_head` is a
# product. `Int` and `Bool` likewise.
# %%
def project(
    resid: Float[Tensor, "batch pos d_model"], direction: Float[Tensor, "d_model"]
) -> Float[Tensor, "batch pos"]:
    """How far each position's vector points along a direction."""
    return resid @ direction
# %% [markdown]
# **`resid` has shape `[2, 5, 768]`. What must `direction` be, and what comes back?**
# (a) `[768]`, giving `[2, 5]`; (b) `[5]`, giving `[2, 768]`; (c) `[2, 5, 768]`, giving `[2, 5]`
# %% exercise="answer_annotation" points=1 difficulty=1 minutes=2
answer_annotation = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_annotation = "a"
### END SOLUTION
# %% check="answer_annotation"
# %% [markdown]
# **Predict**: which of these fit `Float[Tensor, "... pos 768"]`: floats of shape `[2, 5, 768]`, `[5, 768]`, `[768]`, or
# whole numbers of shape `[5, 768]`?
#
# <details><summary>Answer</summary>
#
# The first two. `...` may be nothing, but *pos* must be there, and whole numbers are not floats.
#
# </details>
# %% experiment=True
for tensor in (
    torch.zeros(2, 5, 768),
    torch.zeros(5, 768),
    torch.zeros(768),
    torch.zeros(5, 768).long(),
):
    fits = isinstance(tensor, Float[Tensor, "... pos 768"])
    print(f"{tensor.dtype} {list(tensor.shape)}: {'fits' if fits else 'does not fit'}")
# %% [markdown]
# In a function the annotation is a promise to the reader. Python itself does not hold you to it.
#
# ## 2. Broadcasting
#
# **Broadcasting** combines tensors of different shapes. Align the shapes at the *right*. A missing axis counts as 1; an
# axis of 1 is stretched to fit the other; any other mismatch is an error. `x[:, None]` inserts an axis of 1.
# %%
column = torch.tensor([[10], [20], [30]])  # [3 1]
row = torch.tensor([1, 2])  # [2], read as [1 2]
print(column + row)
# %% [markdown]
# **`x` has shape `[4, 1, 3]` and `y` has shape `[5, 1]`. What is `x + y`?**
# (a) an error; (b) of shape `[4, 5, 3]`; (c) of shape `[4, 1, 3, 5, 1]`
# %% exercise="answer_broadcast" points=1 difficulty=2 minutes=3
answer_broadcast = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_broadcast = "b"
### END SOLUTION
# %% check="answer_broadcast"
# %% [markdown]
# With it, each entry of one vector meets each of another, and no loop is left:
# %%
x, y = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 10.0])
outer = torch.zeros(3, 2)
for i in range(3):
    for j in range(2):
        outer[i, j] = x[i] * y[j]
print(outer.tolist(), torch.equal(outer, x[:, None] * y))
# %% [markdown]
# ### One-hot rows and distances
#
# A token is a number; a model meets it as a **one-hot** row, all 0 but for a 1 at the token's place. Make new tensors
# where the input lives (`device`: CPU or GPU), or your code breaks on a GPU.
#
# <details><summary>Hint</summary>
#
# `torch.arange(d_vocab, device=tokens.device)` holds each token once. Compare (`==`) every token with all of
# them; which axis is missing?
#
# </details>
# %% exercise="one_hot" points=1 difficulty=2 minutes=6
def one_hot(
    tokens: Int[Tensor, "batch pos"], d_vocab: int
) -> Float[Tensor, "batch pos d_vocab"]:
    """1.0 at [b, p, tokens[b, p]] and 0.0 elsewhere; on the device of the tokens."""
    ### BEGIN SOLUTION
    return (tokens[..., None] == torch.arange(d_vocab, device=tokens.device)).float()
    ### END SOLUTION
# %% check="one_hot"
# %% [markdown]
# Put the pieces together: the Euclidean distance from each of n points to each of m others. Subtract before you square:
# $|x|^2 + |y|^2 - 2\,x \cdot y$ is the same on paper, and loses everything for near points far from 0.
#
# <details><summary>Hint 1</summary>
#
# First all differences, of shape `[n m d]`. Which axis does each input lack?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Of the differences you want the length of each vector, along the last axis.
#
# </details>
# %% exercise="pairwise_distances" points=2 difficulty=2 minutes=8
def pairwise_distances(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]
) -> Float[Tensor, "n m"]:
    """Entry [i, j] is the Euclidean distance between point x[i] and point y[j]."""
    ### BEGIN SOLUTION
    return (x[:, None] - y).norm(dim=-1)
    ### END SOLUTION
# %% check="pairwise_distances"
# %% [markdown]
# **Predict**: put seven days evenly round a circle. How many different distances between two days are there? And
# evenly along a line?
#
# <details><summary>Answer</summary>
#
# Three on the circle: one, two or three days apart, whichever way round. Six on the line.
#
# </details>
# %% experiment=True
days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
angle = 2 * torch.pi * torch.arange(7) / 7
circle = torch.stack([angle.cos(), angle.sin()], dim=-1)  # [day xy]
line = torch.stack([torch.arange(7) / 3, torch.zeros(7)], dim=-1)
scattered = torch.randn(7, 2)
distances = torch.stack(
    [pairwise_distances(points, points) for points in (circle, line, scattered)]
)
for place, from_monday in zip(("circle", "line"), distances[:, 0], strict=False):
    print(f"on the {place}, from Monday:", [round(d, 2) for d in from_monday.tolist()])
plot.imshow(
    distances,
    tokens=days,
    facets=["on a circle", "on a line", "scattered at random"],
    x_label="day",
    y_label="day",
    value_label="distance",
    scale="positive",
    title="Distances between seven points",
)
# %% [markdown]
# Even spacing gives stripes along the diagonals, on a circle and on a line; random points show none. On a circle the
# stripes *wrap round*: Sunday is next to Monday, so two corners look as the diagonal's neighbours do. Engels et al.
# (*Not All Language Model Features Are One-Dimensionally Linear*, 2024) found weekdays on circles inside language
# models. We placed ours there ourselves.
#
# ## 3. einsum: name the axes, drop what is summed
#
# `einsum(a, b, "i k, k j -> i j")` is the loops below in one line. Each name is a loop. A name that stands left of the
# arrow only is **summed over**; the right side orders the result's axes.
#
# **Predict**: how many times slower are the loops: about 10, 100 or 1000 times?
#
# <details><summary>Answer</summary>
#
# About 1000 times, even for matrices this small.
#
# </details>
# %% experiment=True
a, b = torch.randn(20, 15), torch.randn(15, 25)


def matmul_loops(a, b):
    out = torch.zeros(20, 25)
    for i in range(20):
        for j in range(25):
            for k in range(15):
                out[i, j] += a[i, k] * b[k, j]
    return out


def matmul_einsum(a, b):
    return einsum(a, b, "i k, k j -> i j")


print(
    "loops against einsum:",
    ratio_of_times(lambda: matmul_loops(a, b), lambda: matmul_einsum(a, b)),
)
print(f"largest difference: {(matmul_loops(a, b) - matmul_einsum(a, b)).abs().max():.1e}")
# %% [markdown]
# A name may stand twice in one input: then both indices move together, along the diagonal. On the
# right of the arrow each name stands once: two axes of the same size need two names.
# %%
matrices = torch.tensor([[[1, 2], [3, 5]], [[4, 1], [0, 3]]])  # [batch i i]
for plan in (
    "batch i i -> batch i",
    "batch i i -> batch",
    "batch i i ->",
    "batch i j -> batch",
):
    print(f"{plan:>20}: {einsum(matrices, plan).tolist()}")
# %% [markdown]
# How well does a query fit a key? Each head scores by itself, divided so that the size does not grow with d_head:
#
# $$s_{ij} = \frac{q_i \cdot k_j}{\sqrt{d_\text{head}}}$$
#
# <details><summary>Hint</summary>
#
# Which name of the inputs is missing in the result? `q.shape[-1]` is d_head.
#
# </details>
# %% exercise="attention_scores" points=1 difficulty=2 minutes=6
def attention_scores(
    q: Float[Tensor, "batch query head d_head"], k: Float[Tensor, "batch key head d_head"]
) -> Float[Tensor, "batch head query key"]:
    """Dot product of each query with each key of the same batch entry and head, over the
    root of d_head.
    """
    ### BEGIN SOLUTION
    scores = einsum(q, k, "batch query head d_head, batch key head d_head -> batch head query key")
    return scores / q.shape[-1] ** 0.5
    ### END SOLUTION
# %% check="attention_scores"
# %% [markdown]
# The simplest language model only knows which token follows which. Each row of `tokens` is a text of its own.
#
# <details><summary>Hint 1</summary>
#
# `tokens[:, :-1]` and `tokens[:, 1:]` are the firsts and seconds of all pairs. Make both one-hot.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A pair (a, b) is counted where both one-hots are 1, so their product is. Over which axes do you sum?
#
# </details>
# %% exercise="bigram_counts" points=2 difficulty=3 minutes=10
def bigram_counts(
    tokens: Int[Tensor, "batch pos"], d_vocab: int
) -> Float[Tensor, "d_vocab d_vocab"]:
    """Entry [a, b] is how often token b comes directly after token a, within a row."""
    ### BEGIN SOLUTION
    first, second = one_hot(tokens[:, :-1], d_vocab), one_hot(tokens[:, 1:], d_vocab)
    return einsum(first, second, "batch pos a, batch pos b -> a b")
    ### END SOLUTION
# %% check="bigram_counts"
# %% [markdown]
# **Predict**: count the letters of the text below. What comes after *h*? And which row has the most different
# followers?
#
# <details><summary>Answer</summary>
#
# Only *e*: every *h* here stands in *the* or *then*. The space, shown as `·`, has most: words begin with many letters.
#
# </details>
# %% experiment=True
text = "the cat sat on the mat. the dog sat on the log. "
text += "the cat saw the dog, and then the dog saw the cat."
letters = sorted(set(text))
ids = torch.tensor([[letters.index(letter) for letter in text]])  # [batch=1 pos]
counts = bigram_counts(ids, len(letters))
for letter in "h ":
    followers = counts[letters.index(letter)]
    print(
        repr(letter),
        {
            letters[i]: int(followers[i])
            for i in followers.argsort(descending=True)
            if followers[i]
        },
    )
plot.imshow(
    counts,
    tokens=letters,
    x_label="next letter",
    y_label="letter",
    value_label="count",
    scale="positive",
    title="Which letter follows which",
)
# %% [markdown]
# A zero-layer transformer can learn nothing but such a table. It knows pairs, not *which* cat is meant.
#
# ## 4. Cut and join axes
#
# `rearrange` reorders axes. Brackets hold an axis that is a product of two, and **the first name in the brackets moves
# slowest**. `repeat` adds an axis, `reduce` removes one (by `"mean"`, `"sum"`, `"max"`). Give the sizes that it
# cannot infer as keywords (`row=3`). Annotations write `head*d_head`, einops `(head d_head)`.
# %%
for names in ("(x copy)", "(copy x)"):
    print(names, repeat(torch.tensor([1, 2]), f"x -> {names}", copy=2).tolist())
cut = [
    rearrange(torch.arange(12), f"({names}) -> row column", row=3)
    for names in ("row column", "column row")
]
plot.imshow(
    torch.stack(cut),
    facets=["(row column)", "(column row)"],
    text=True,
    scale="positive",
    title="0 to 11, cut into 3 rows of 4",
)
# %% [markdown]
# A model stores all heads' vectors side by side, in one axis: head 0 first, then head 1, and so on. To save memory, in
# Llama-like models a *group* of neighbouring query heads shares one key head (*grouped-query attention*). With
# `group=3`, query heads 0, 1, 2 use key head 0, and 3, 4, 5 use key head 1.
#
# **Predict**: `x.reshape(batch, n_heads, pos, d_head)` runs without complaint. Does it separate heads?
#
# <details><summary>Answer</summary>
#
# No. `reshape` only cuts the reading order: its "head 0" gets the first positions, all heads mixed.
#
# </details>
# <details><summary>Hint</summary>
#
# Brackets may stand on both sides. Which name on the right moves slowest: the head or its copies? Only `batch` and
# `pos` can be inferred.
#
# </details>
# %% exercise="split_heads" points=1 difficulty=2 minutes=8
def split_heads(
    x: Float[Tensor, "batch pos head*d_head"], n_heads: int, group: int = 1
) -> Float[Tensor, "batch pos head*group d_head"]:
    """Cut the last axis into n_heads equal pieces, head 0 the first, and give each `group`
    times, the copies next to each other.
    """
    ### BEGIN SOLUTION
    plan = "batch pos (head d_head) -> batch pos (head group) d_head"
    return repeat(x, plan, head=n_heads, group=group)
    ### END SOLUTION
# %% check="split_heads"
# %% [markdown]
# An image model reads patches as a language model reads tokens. Where `height` or `width` is no multiple of `size`,
# zeros fill the last patches up: at the bottom and at the right.
#
# <details><summary>Hint 1</summary>
#
# How many rows are missing? For height 7 and size 3 it is 2, for height 6 it is 0: `%` of a negative number is handy.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.nn.functional.pad(image, (left, right, top, bottom))`. Then cut both axes in two.
#
# </details>
# %% exercise="image_to_patches" points=2 difficulty=3 minutes=10
def image_to_patches(
    image: Float[Tensor, "batch height width"], size: int
) -> Float[Tensor, "batch patch size*size"]:
    """Cut images into size x size squares, filled up with zeros at the bottom and the right.

    Patches, and the pixels in each patch, are in reading order: left to right, then down.
    """
    ### BEGIN SOLUTION
    _, height, width = image.shape
    whole = torch.nn.functional.pad(image, (0, -width % size, 0, -height % size))
    return rearrange(whole, "batch (row y) (column x) -> batch (row column) (y x)", y=size, x=size)
    ### END SOLUTION
# %% check="image_to_patches"
# %% [markdown]
# **Predict**: in an image of 12 by 12 pixels with patches of 4 by 4, where is patch 5?
#
# <details><summary>Answer</summary>
#
# Middle row, right end: patches 0 to 2 are the top row, 3 to 5 the middle one.
#
# </details>
# %% experiment=True
y, x = torch.meshgrid(torch.arange(12) - 5.5, torch.arange(12) - 5.5, indexing="ij")
face = (
    ((x**2 + y**2 < 33) & (x**2 + y**2 > 20))
    | ((y == 2.5) & (x.abs() < 3))
    | ((y == -1.5) & (x.abs() == 1.5))
)
patches = image_to_patches(face.float()[None], 4)[0]  # [patch pixel]
tiles = rearrange(patches, "patch (y x) -> patch y x", y=4)
apart = torch.nn.functional.pad(
    tiles, (0, 1, 0, 1), value=torch.nan
)  # a grey line behind each patch
back = rearrange(apart, "(row column) y x -> (row y) (column x)", row=3)[:-1, :-1]
ink = {"scale": "positive", "value_label": "ink"}
plot.show(
    plot.imshow(
        back, title="The image, cut", x_label="x, with cuts", y_label="y, with cuts", **ink
    ),
    plot.imshow(patches, title="What a model reads", x_label="pixel", y_label="patch", **ink),
)
# %% [markdown]
# ### Values
#
# Now compose. Each query reads a mix of **values**, weighted by its row of the pattern; then the heads are joined side
# by side, head 0 first, as `split_heads` found them.
#
# <details><summary>Hint 1</summary>
#
# Give every query head its values, mix, join. How many query heads share a value head?
#
# </details>
# <details><summary>Hint 2</summary>
#
# The mix sums over `key`. Joining is a bracket on the right of the arrow.
#
# </details>
# %% exercise="mix_values" points=2 difficulty=3 minutes=10
def mix_values(
    pattern: Float[Tensor, "batch head query key"],
    v: Float[Tensor, "batch key kv_head*d_head"],
    n_kv_heads: int,
) -> Float[Tensor, "batch query head*d_head"]:
    """Each head's average of its values, weighted by the pattern; neighbouring query heads
    share a value head.
    """
    ### BEGIN SOLUTION
    values = split_heads(v, n_kv_heads, pattern.shape[1] // n_kv_heads)
    mixed = einsum(pattern, values, "batch head query key, batch key head d_head -> batch query head d_head")
    return rearrange(mixed, "batch query head d_head -> batch query (head d_head)")
    ### END SOLUTION
# %% check="mix_values"
# %% [markdown]
# **Predict**: take the three heads from the top, and let word *i* carry the one-hot vector of *i* as its value. What
# does the output look like?
#
# <details><summary>Answer</summary>
#
# The three patterns, side by side: the weight of word *i* lands in column *i*.
#
# </details>
# %% experiment=True
whose = torch.eye(6)[
    None
]  # [batch=1 key d_head]: word i has value one-hot at i, for all heads
output = mix_values(pattern[None], whose, n_kv_heads=1)
plot.imshow(
    output[0],
    y=words,
    x=words * 3,
    y_label="query",
    x_label="which word was read, by each head",
    value_label="weight",
    scale="positive",
    title="What each word has read: " + ", ".join(heads),
)
# %% [markdown]
# A pattern shows from where something is moved; *what* is up to the values.
#
# ## 5. Triangles
#
# A word must not read what comes later, or predicting the next one would be cheating. So later keys' scores become
# minus infinity, which softmax turns into weight 0. Note what a score of 0 does instead:
# %%
scores = torch.tensor([2.0, 1.0, 3.0])
for later in (0.0, -torch.inf):
    scores[2] = later
    print(
        f"{scores.tolist()} -> {[round(weight, 2) for weight in scores.softmax(-1).tolist()]}"
    )
# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `torch.ones(3, 3, device=scores.device).tril()` keeps the lower triangle, `.triu(1)` what lies above the diagonal.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `scores.masked_fill(where, value)`, with `where` of type bool. `masked_fill_`, with underscore, would change the
# input.
#
# </details>
# %% exercise="causal_mask" points=1 difficulty=2 minutes=6
def causal_mask(scores: Float[Tensor, "... query key"]) -> Float[Tensor, "... query key"]:
    """A copy of the scores with every key after its query at minus infinity. There are as
    many keys as queries.
    """
    ### BEGIN SOLUTION
    allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    return scores.masked_fill(~allowed, -torch.inf)
    ### END SOLUTION
# %% check="causal_mask"
# %% [markdown]
# **Predict**: all scores are 0. What does causal attention make of values 1, 2, 3, ...?
#
# <details><summary>Answer</summary>
#
# Their running mean: each query's weight is spread evenly up to itself.
#
# </details>
# %% experiment=True
values = torch.arange(1.0, 7.0)
triangle = torch.ones(6, 6).tril()
average = causal_mask(torch.zeros(6, 6)).softmax(-1)
print("attention with equal scores:", (average @ values).tolist())
print("running sum:                ", (triangle @ values).tolist())
print("running sum / how many:     ", (triangle @ values / torch.arange(1, 7)).tolist())
plot.imshow(
    torch.stack([triangle, average]),
    facets=["adds up", "averages"],
    x_label="key",
    y_label="query",
    value_label="weight",
    scale="positive",
    text=True,
    title="One triangle, two uses",
)
# %% [markdown]
# Now the whole first half of attention, from flat queries and keys to a pattern.
#
# <details><summary>Hint</summary>
#
# Every step is a function of yours but the last. Each query's weights sum to 1: over which axis?
#
# </details>
# %% exercise="attention_pattern" points=3 difficulty=3 minutes=12
def attention_pattern(
    q: Float[Tensor, "batch pos head*d_head"],
    k: Float[Tensor, "batch pos kv_head*d_head"],
    n_heads: int,
    n_kv_heads: int,
) -> Float[Tensor, "batch head query key"]:
    """The causal attention pattern; neighbouring query heads share a key head."""
    ### BEGIN SOLUTION
    keys = split_heads(k, n_kv_heads, n_heads // n_kv_heads)
    return causal_mask(attention_scores(split_heads(q, n_heads), keys)).softmax(-1)
    ### END SOLUTION
# %% check="attention_pattern"
# %% [markdown]
# **Predict**: head 0 gets the word's one-hot as query and as key. Head 1 asks for position *i - 1*, and keys say their
# position. Where will the second *dog* look, in each?
#
# <details><summary>Answer</summary>
#
# Head 0: half at itself, half at the first *dog*. Head 1: at the word before it, *the*.
#
# </details>
# %% experiment=True
story = ["the", "cat", "saw", "the", "dog", "and", "the", "dog", "saw", "the", "cat"]
known = sorted(set(story))
n = len(story)
same_word = one_hot(
    torch.tensor([[known.index(word) for word in story]]), n
)  # [batch=1 pos d_head=n]
position = torch.eye(n)[None]
q = 8 * torch.cat(
    [same_word, position.roll(1, dims=1)], dim=-1
)  # query i asks for position i - 1
k = 8 * torch.cat([same_word, position], dim=-1)
hand_made = attention_pattern(q, k, n_heads=2, n_kv_heads=2)
for head, weights in enumerate(hand_made[0, :, 7]):
    read = {
        f"{story[i]} {i}": round(weight, 2)
        for i, weight in enumerate(weights.tolist())
        if weight > 0.01
    }
    print(f"head {head}, second dog:", read)
plot.attention(story, hand_made[0], heads=["same word", "word before"])
# %% [markdown]
# Nobody trained these heads. Does your whole attention agree with PyTorch's own?
# %% experiment=True
q, k, v = torch.randn(2, 10, 32), torch.randn(2, 10, 16), torch.randn(2, 10, 16)
ours = mix_values(attention_pattern(q, k, n_heads=4, n_kv_heads=2), v, n_kv_heads=2)
by_head = [
    rearrange(split_heads(t, n), "b p h d -> b h p d") for t, n in ((q, 4), (k, 2), (v, 2))
]
theirs = torch.nn.functional.scaled_dot_product_attention(
    *by_head, is_causal=True, enable_gqa=True
)
difference = (ours - rearrange(theirs, "batch head pos d -> batch pos (head d)")).abs().max()
print(f"largest difference from torch's scaled_dot_product_attention: {difference:.1e}")
# %% [markdown]
# ## 6. A layer of attention
#
# Now the whole plan at the top, from residual stream to residual stream. Its weights are stored a head at a time, as
# all later notebooks have them; $h$ runs over the heads, and each head's output is *added* to the stream:
#
# $$\text{out} = \sum_h \text{softmax}\!\left(\frac{Q_h K_h^\top}{\sqrt{d_\text{head}}} + \text{mask}\right)
# V_h\, W_O^h$$
#
# And a batch holds texts of different lengths. When a model writes on, they are padded on the **left**, so that all end
# together: nobody may read the padding. A padding position then finds nothing that it may read. What is a softmax of
# minus infinities only?
# %%
print(torch.full((3,), -torch.inf).softmax(-1).tolist())
# %% [markdown]
# Such a row must not spoil the others, nor any gradient: padding writes 0.
#
# <details><summary>Hint 1</summary>
#
# Write the plan first: one line of names for each product. Which axes of the scores does `real` have, and where does it
# need new ones?
#
# </details>
# <details><summary>Hint 2</summary>
#
# A key is hidden if it is later *or* padding. Only after the softmax, give the rows of padding queries weight 0.
#
# </details>
# %% exercise="attention_layer" points=4 difficulty=4 minutes=25
def attention_layer(
    resid: Float[Tensor, "batch pos d_model"],
    W_Q: Float[Tensor, "head d_model d_head"],
    W_K: Float[Tensor, "kv_head d_model d_head"],
    W_V: Float[Tensor, "kv_head d_model d_head"],
    W_O: Float[Tensor, "head d_head d_model"],
    real: Bool[Tensor, "batch pos"],
) -> Float[Tensor, "batch pos d_model"]:
    """What all heads write together, and 0 where `real` is False.

    A query reads real positions only, up to its own; neighbouring query heads share a key
    and value head. `real` may be False anywhere.
    """
    ### BEGIN SOLUTION
    project = "batch pos d_model, head d_model d_head -> batch pos head d_head"
    group = len(W_Q) // len(W_K)
    q = einsum(resid, W_Q, project)
    k, v = (einsum(resid, W.repeat_interleave(group, dim=0), project) for W in (W_K, W_V))
    scores = causal_mask(attention_scores(q, k)).masked_fill(~real[:, None, None], -torch.inf)
    pattern = scores.softmax(-1).masked_fill(~real[:, None, :, None], 0)
    z = einsum(pattern, v, "batch head query key, batch key head d_head -> batch query head d_head")
    return einsum(z, W_O, "batch query head d_head, head d_head d_model -> batch query d_model")
    ### END SOLUTION
# %% check="attention_layer"
# %% [markdown]
# **Predict**: a text of 4 words, alone and in a batch with a longer one. By how much does what attention writes at its
# last word change if it is padded on the left, and if nobody minds the padding?
#
# <details><summary>Answer</summary>
#
# Not at all, but for rounding: the 4 words see one another as before. Read as words, the padding changes it much.
#
# </details>
# %% experiment=True
weights = [torch.randn(n, 16, 8) / 4 for n in (4, 2, 2)] + [
    torch.randn(4, 8, 16) / 6
]  # W_Q, W_K, W_V, W_O
short, long = torch.randn(1, 4, 16), torch.randn(1, 7, 16)
padded = torch.cat(
    [torch.cat([torch.randn(1, 3, 16), short], dim=1), long]
)  # [text=2 pos=7 d_model]
real = torch.tensor([[False] * 3 + [True] * 4, [True] * 7])
alone = attention_layer(short, *weights, torch.ones(1, 4, dtype=torch.bool))[0, -1]
minded = attention_layer(padded, *weights, real)[0, -1]
unminded = attention_layer(padded, *weights, torch.ones_like(real))[0, -1]
print(
    "padding hidden: differs from alone by",
    f"{(minded - alone).norm() / alone.norm():.1e} of its length",
)
print(
    "padding read:   differs from alone by",
    f"{(unminded - alone).norm() / alone.norm():.1e} of its length",
)
# %% [markdown]
# Real models also tell positions apart (2.3), and must then count them from each text's first word.
#
# ## 7. Pick by index
#
# Two index tensors pick **pairs**: `x[rows, columns]` has entry *i* at `x[rows[i], columns[i]]`. Index tensors
# broadcast. To pick one entry per row of the last axis, `x.gather(-1, index)`: `index` has as many axes as x,
# and `out[b, p, 0] = x[b, p, index[b, p, 0]]`.
# %%
grid = torch.tensor([[1, 2, 3], [4, 5, 6]])
print("pairs: ", grid[torch.tensor([0, 1]), torch.tensor([2, 0])])
print("gather:", grid.gather(-1, torch.tensor([[2], [0]])))
# %% [markdown]
# A model gives each token of the vocabulary a logit; `log_softmax` makes them log-probabilities (`softmax` and then
# `log` would round small ones to minus infinity). Pick those of the tokens given.
#
# <details><summary>Hint</summary>
#
# The index needs as many axes as the logits, the result one fewer.
#
# </details>
# %% exercise="gather_log_probs" points=1 difficulty=2 minutes=7
def gather_log_probs(
    logits: Float[Tensor, "batch pos d_vocab"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos"]:
    """Entry [b, p] is the log-probability that logits[b, p] give to tokens[b, p]."""
    ### BEGIN SOLUTION
    return logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    ### END SOLUTION
# %% check="gather_log_probs"
# %% [markdown]
# A **view** shows the same numbers under another shape: write into it and the original changes.
# Slices, `rearrange` and `.T` give views where they can; picking by tensor or list copies.
#
# **`y = x[:, 0]` and `z = x[:, [0]]`. Then `y.zero_()`. What has changed?**
# (a) only `y`; (b) `x` and `y`; (c) `x`, `y` and `z`
# %% exercise="answer_view" points=1 difficulty=2 minutes=3
answer_view = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_view = "b"
### END SOLUTION
# %% check="answer_view"
# %% [markdown]
# ### Windows
#
# All runs of `size` tokens, each begins one token later: `[5, 6, 7, 8]` has the windows of two `[5, 6]`, `[6, 7]`,
# `[7, 8]`.
#
# <details><summary>Hint 1</summary>
#
# How many windows fit into `pos` tokens? Try sizes 1 and `pos`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Entry `[w, i]` is token `w + i`: a sum that broadcasts makes the index. (`x.unfold` does it too.)
#
# </details>
# %% exercise="sliding_windows" points=2 difficulty=3 minutes=8
def sliding_windows(
    tokens: Int[Tensor, "batch pos"], size: int
) -> Int[Tensor, "batch window size"]:
    """Entry [b, w] holds the tokens w to w + size - 1 of row b."""
    ### BEGIN SOLUTION
    starts = torch.arange(tokens.shape[1] - size + 1, device=tokens.device)
    return tokens[:, starts[:, None] + torch.arange(size, device=tokens.device)]
    ### END SOLUTION
# %% check="sliding_windows"
# %% [markdown]
# **Predict**: which share of the text's windows occurs more than once, as they get longer? And if we shuffle its
# letters?
#
# <details><summary>Answer</summary>
#
# Both fall, the shuffled text's far faster: only chance repeats there. Induction heads live on repetition.
#
# </details>
# %% experiment=True
def repeated_share(tokens, size):
    _, which, times = sliding_windows(tokens, size)[0].unique(
        dim=0, return_inverse=True, return_counts=True
    )
    return (times[which] > 1).float().mean().item()


sizes = range(1, 13)
shuffled = ids[:, torch.randperm(ids.shape[1])]
shares = {
    name: [repeated_share(t, s) for s in sizes]
    for name, t in (("text", ids), ("shuffled", shuffled))
}
print(
    {name: round(share[3], 2) for name, share in shares.items()},
    "of windows of 4 letters occur again",
)
plot.line(
    shares,
    x=list(sizes),
    x_label="letters in the window",
    y_label="share that occurs more than once",
    title="Language repeats itself",
)
# %% [markdown]
# This is one small, repetitive text: the gap is real, its size means little.
#
# ### Beams
#
# To write on, a model draws one token after another, or keeps several texts and lets them compete: **beam search**.
# Every text (*beam*) may go on by every token. Of all these continuations the best stay, and some beams have several
# heirs, others none: so their histories must be *gathered*, too.
#
# <details><summary>Hint 1</summary>
#
# All continuations of a batch entry compete: one flat axis of `beam * d_vocab`, and `topk` on it. From a place in the
# flat axis, how do you get beam and token back? (`//` and `%`)
#
# </details>
# <details><summary>Hint 2</summary>
#
# `tokens.gather(1, index)`: the index has tokens' axes, and says for each entry from which *beam* it comes.
# `expand` fits it to all positions.
#
# </details>
# %% exercise="beam_step" points=4 difficulty=4 minutes=25
def beam_step(
    scores: Float[Tensor, "batch beam"],
    logits: Float[Tensor, "batch beam d_vocab"],
    tokens: Int[Tensor, "batch beam pos"],
) -> tuple[Float[Tensor, "batch beam"], Int[Tensor, "batch beam pos+1"]]:
    """One step of beam search: the new scores, and the texts with their new token.

    A text's score grows by the log-probability of its new token. Of each batch entry's
    continuations the best stay, as many as there were beams, best first.
    """
    ### BEGIN SOLUTION
    totals = scores[..., None] + logits.log_softmax(-1)
    best = rearrange(totals, "batch beam vocab -> batch (beam vocab)").topk(scores.shape[1])
    parent, token = best.indices // logits.shape[-1], best.indices % logits.shape[-1]
    histories = tokens.gather(1, repeat(parent, "batch beam -> batch beam pos", pos=tokens.shape[-1]))
    return best.values, torch.cat([histories, token[..., None]], dim=-1)
    ### END SOLUTION
# %% check="beam_step"
# %% [markdown]
# **Predict**: 14 letters after *dog*, by our table of letter pairs. One beam takes the likeliest letter each time. Do
# more beams find a text that is likelier as a whole? And is a text that is *drawn* from the table likelier, or less
# likely?
#
# <details><summary>Answer</summary>
#
# A little likelier: with 4 beams a full stop, unlikely by itself, stays long enough to pay. (In general a wider beam
# can also end worse.) Drawn texts are far less likely: the likeliest text is not a typical one.
#
# </details>
# %% experiment=True
pair_logits = (
    counts + 0.01
).log()  # [letter next]; a pair never seen is unlikely, not impossible


def search(n_beams: int) -> tuple[float, str]:
    """The likeliest continuation that so many beams find, and its log-probability."""
    tokens = torch.tensor([[letters.index(letter) for letter in "dog"]]).repeat(n_beams, 1)[
        None
    ]
    scores = torch.full((1, n_beams), -torch.inf)
    scores[:, 0] = 0  # at first all beams are the same text: only one may compete
    for _ in range(14):
        scores, tokens = beam_step(scores, pair_logits[tokens[..., -1]], tokens)
    return scores[0, 0].item(), "".join(letters[i] for i in tokens[0, 0])


for n_beams in (1, 2, 4, 32):
    score, found = search(n_beams)
    print(f"{n_beams:>2} beams: log-probability {score:6.1f}  {found}")
drawn = torch.full((200, 1), letters.index("g"))
for _ in range(14):
    drawn = torch.cat([drawn, pair_logits[drawn[:, -1]].softmax(-1).multinomial(1)], dim=1)
score = gather_log_probs(pair_logits[drawn[:, :-1]], drawn[:, 1:]).sum(-1)
print(
    f"200 drawn: log-probability {score.mean():6.1f} on average, the best {score.max():.1f}"
)
# %% [markdown]
# ## 8. Reduce, and mind the padding
#
# `x.sum(dim=1)` removes axis 1; with `keepdim=True` it stays, with size 1, ready for broadcasting.
# %%
print(
    "dim=1:        ",
    grid.sum(dim=1).shape,
    "or",
    reduce(grid, "row column -> row", "sum").shape,
)
print(
    "keepdim:      ",
    grid.sum(dim=1, keepdim=True).shape,
    "or",
    reduce(grid, "row column -> row 1", "sum").shape,
)
print("share of row:\n", grid / grid.sum(dim=1, keepdim=True))
# %% [markdown]
# **`p` is `[3, 3]`, and each row should sum to 1. What does `p / p.sum(-1)` do?**
# (a) what it should; (b) it fails, `[3, 3]` and `[3]` do not fit; (c) it divides column *j* by the sum of row *j*
# %% exercise="answer_keepdim" points=1 difficulty=2 minutes=3
answer_keepdim = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_keepdim = "c"
### END SOLUTION
# %% check="answer_keepdim"
# %% [markdown]
# Sentences in a batch differ in length, so short ones are padded, and the padding must not count. It may hold anything,
# even `nan`, and `0 * nan` is `nan`. Every row has at least one real entry.
#
# <details><summary>Hint</summary>
#
# `x.masked_fill(~mask, 0)` makes padding harmless in the sum. By what do you divide?
#
# </details>
# %% exercise="masked_mean" points=1 difficulty=2 minutes=6
def masked_mean(
    x: Float[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"]
) -> Float[Tensor, "batch"]:
    """For each row, the mean of the entries where mask is True."""
    ### BEGIN SOLUTION
    return x.masked_fill(~mask, 0).sum(-1) / mask.sum(-1)
    ### END SOLUTION
# %% check="masked_mean"
# %% [markdown]
# Finally, what every language model is trained on: `logits[:, p]` predict the token at **p + 1**. Over the n real
# tokens $t_2, t_3, \ldots$ of a row, padded at its end,
#
# $$L = -\frac{1}{n} \sum_p \log p(t_{p+1} \mid t_1 \ldots t_p)$$
#
# <details><summary>Hint 1</summary>
#
# The last logits predict nothing; the first token is predicted by nothing. Cut each.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `gather_log_probs`, a minus sign, `masked_mean`. Cut the mask like the tokens.
#
# </details>
# %% exercise="next_token_loss" points=3 difficulty=3 minutes=10
def next_token_loss(
    logits: Float[Tensor, "batch pos d_vocab"],
    tokens: Int[Tensor, "batch pos"],
    mask: Bool[Tensor, "batch pos"],
) -> Float[Tensor, "batch"]:
    """For each row, the mean -log p(token) of its real tokens (mask True) after the first.

    p comes from the logits one position earlier.
    """
    ### BEGIN SOLUTION
    log_probs = gather_log_probs(logits[:, :-1], tokens[:, 1:])
    return masked_mean(-log_probs, mask[:, 1:])
    ### END SOLUTION
# %% check="next_token_loss"
# %% [markdown]
# **Predict**: a model that knows only our letter pairs: how does its loss on the sentences compare with that on the
# same letters shuffled, and with guessing evenly?
#
# <details><summary>Answer</summary>
#
# Lowest on the sentences. On shuffled letters it is *worse* than an even guess: it is confidently
# wrong. (Its top-3 accuracy is not: frequent letters are still frequent.)
#
# </details>
# %% experiment=True
sentences = [sentence.strip() + "." for sentence in text.split(".") if sentence]
longest = max(len(sentence) for sentence in sentences)
batch = torch.zeros(len(sentences), longest, dtype=torch.long)
mask = torch.zeros(len(sentences), longest, dtype=torch.bool)
scrambled = batch.clone()
for i, sentence in enumerate(sentences):
    batch[i, : len(sentence)] = torch.tensor([letters.index(letter) for letter in sentence])
    scrambled[i, : len(sentence)] = batch[i, torch.randperm(len(sentence))]
    mask[i, : len(sentence)] = True
for name, tokens in (("as written", batch), ("scrambled", scrambled)):
    logits = pair_logits[tokens]  # [sentence pos d_vocab]: the row of each token
    is_among_3 = (logits[:, :-1].topk(3).indices == tokens[:, 1:, None]).any(-1)
    top3 = is_among_3[mask[:, 1:]].float().mean()
    losses = [round(loss, 2) for loss in next_token_loss(logits, tokens, mask).tolist()]
    print(f"{name:>10}: loss of each sentence {losses}, top-3 accuracy {top3:.0%}")
print(
    f"even guess: loss {torch.tensor(float(len(letters))).log():.2f},"
    f" top-3 accuracy {3 / len(letters):.0%}"
)
# %% [markdown]
# The model was tested on the text that it counted, so this says nothing about new text.
#
# ## The first third of numpy-100, in PyTorch
#
# Rougier's *100 NumPy exercises* are a common measure of fluency. Where this notebook has met numbers 1 to 33:
#
# | numpy-100 | met in |
# |---|---|
# | 3, 6, 7, 9 (make, fill, count, reshape) | `one_hot`, `sliding_windows`, the worked examples |
# | 11, 18 (identity, below the diagonal) | `mix_values`, `causal_mask` |
# | 12 to 14 (random numbers, extremes, mean) | `masked_mean`, the experiments |
# | 15, 16 (borders) | `image_to_patches` |
# | 17, 28 (nan and infinity) | `masked_mean`, `attention_layer` |
# | 20 (one number to several indices) | `beam_step` |
# | 22 (normalise) | `answer_keepdim` |
# | 24 (matrix product) | `attention_scores` and after |
# | 25 (change in place) | `answer_view` |
# | 4, 8, 10, 19, 21, 26, 27, 29, 30, 32 | the next cell |
# | 1, 2, 5, 23, 31, 33 (NumPy itself, records, dates) | no counterpart in tensors |
#
# Say each line's result before you run it.
# %% experiment=True
z = torch.tensor([1, 2, 0, 0, 4, 0])
print("4, bytes:         ", z.numel() * z.element_size())
print("8, reversed:      ", z.flip(0).tolist())
print("10, where not 0:  ", z.nonzero()[:, 0].tolist())
print("19, checkerboard: ", ((torch.arange(4)[:, None] + torch.arange(4)) % 2).tolist())
print("21, by tiles:     ", torch.tensor([[0, 1], [1, 0]]).tile(2, 2).tolist())
print("26, -1 is a start:", sum(range(5), -1), "or an axis:", torch.arange(5).sum(-1).item())
print(
    "27, legal or not: ",
    (z**z).tolist(),
    (2 << z >> 2).tolist(),
    (z < -z).tolist(),
    (1j * z).dtype,
)
print(
    "29, away from 0:  ", (x := torch.tensor([-1.5, 0.2])).abs().ceil().copysign(x).tolist()
)
print("30, in both:      ", z[torch.isin(z, torch.tensor([4, 2, 9]))].tolist())
print(
    "32, roots of -1:  ",
    torch.tensor(-1.0).sqrt().item(),
    torch.tensor(-1 + 0j).sqrt().item(),
)
# %% [markdown]
# ## Bonus (not graded)
#
# 1. Write `patches_to_image`, and test it by a round trip.
# 2. For each token, find the latest earlier position with the same token: `==`, a triangle, `argmax`.
# 3. Give `beam_step` an end token: a beam that has ended must not grow.
# %% [markdown]
# ## Recap
#
# Write the annotation first: it tells you which axes to add (broadcast), sum (einsum) or cut (rearrange).
#
# | confusion | what holds |
# |---|---|
# | "The shape is right, so the code is" | `reshape`, `(group head)`, a missing `keepdim`: same shape, other numbers |
# | "Masked means 0" | before softmax minus infinity, after a mean left out of the count |
# | "`dim=1` sums axis 1, so it stays" | the axis you name is the one that goes |
# | "`y = x[0]` is a copy" | a view; `.clone()` copies |
# | "0 weight makes nan harmless" | `0 * nan` is nan: fill before, not after |
#
# Read on: PyTorch, *Broadcasting semantics* (docs.pytorch.org); *einops tutorial* (einops.rocks); *jaxtyping*
# (docs.kidger.site/jaxtyping); Rush, *Tensor Puzzles*. Next: **1.2 Linear algebra for interpretability**.
