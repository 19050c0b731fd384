# %% [markdown]
# # 2.1 Tokens
#
# A language model never sees text. It sees **tokens**: numbers that stand for short strings, cut by a rule that was
# fixed before training. The cut decides what the model can know: whether a name is one symbol or three, whether it sees
# the digits of a number. Here you write byte-level BPE, the rule of GPT-2 and SmolLM2, and look at what it does.
#
# ![A text is cut into pieces, each piece is bytes, and merges join neighbouring symbols until none applies: the ids
# that the model gets.](figures/2.1_merges.svg)
# %% generated="overview"
# %% setup=True
import json
import math
import operator
import re
import statistics
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float
from tokenizers import Tokenizer, pre_tokenizers, trainers
from tokenizers import models as tokenizer_models
from torch import Tensor

from concrete_steps import corpus, evidence, models, plot
from concrete_steps.evidence import permutation_test
# %% [markdown]
# ## 1. Bytes, and pieces
#
# Words as tokens? The next text has a new one. Characters? Unicode 16 has 154,998. **Bytes** are 256, and UTF-8
# writes any text in them. So ids 0 to 255 are the bytes, and nothing is ever unknown.
#
# **Predict**: how many bytes have `a`, `é`, `日` and `🙂`?
#
# <details><summary>Answer</summary>
#
# 1, 2, 3 and 4.
#
# </details>
# %% experiment=True
for sign in "aé日🙂":
    print(sign, list(sign.encode()))
# %% [markdown]
# A text has many bytes, so frequent neighbours will be joined. Not across words, though: *dog.* and *dog!* should
# share a token. So the text is first cut into **pieces**, and nothing is joined across a cut. GPT-2's rules; at each
# place the first that fits takes as much as it can:
#
# | | takes | in `re` | in `"I'm  42!"` |
# |---|---|---|---|
# | 1 | an English ending | `'s` `'t` `'d` `'m` `'ll` `'ve` `'re` | `'m` |
# | 2 | letters, and one space before them if there is one | letter: `[^\W\d_]` | `I` |
# | 3 | digits, the same | digit: `\d` | `·42` |
# | 4 | other visible signs, the same | neither `\s` nor of rule 2 or 3 | `!` |
# | 5 | white space that no visible sign follows | white space: `\s` | `·`, the first of two |
# | 6 | white space that is left | | |
#
# (`·` is a space.) By rule 5, a run of spaces before a word leaves its last one to the word.
#
# <details><summary>Hint 1</summary>
#
# One pattern, the rules joined by `|`, and `re.findall`. Groups must be `(?:...)`, or findall gives the groups.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Is `_` among your signs? It is a `\w`. And `(?!\S)` fits where no visible sign follows.
#
# </details>
# %% exercise="pretokenize" points=2 difficulty=3 minutes=12
def pretokenize(text: str) -> list[str]:
    """The pieces of a text, in order. Joined, they are the text again."""
    ### BEGIN SOLUTION
    endings, letters, digits, signs = "'(?:[sdmt]|ll|ve|re)", r" ?[^\W\d_]+", r" ?\d+", r" ?(?:[^\s\w]|_)+"
    return re.findall(rf"{endings}|{letters}|{digits}|{signs}|\s+(?!\S)|\s+", text)
    ### END SOLUTION
# %% check="pretokenize"
# %% [markdown]
# **Predict**: the library `tokenizers` has GPT-2's rules, written for another regex engine. Put each character of
# Unicode into a little text, and compare. Will all agree?
#
# <details><summary>Answer</summary>
#
# No. Python's digits leave out ½, ² or Ⅷ, which are numbers to the library.
#
# </details>
# %% experiment=True
library_pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
everything = [(chr(code), unicodedata.category(chr(code))) for code in range(0x110000)]
characters = [sign for sign, kind in everything if kind not in ("Cn", "Co", "Cs")]
differs = []
for sign in characters:  # all that Python's table of Unicode has
    text = f"a{sign}a1{sign}1 {sign}!"
    starts = [start for _, (start, _) in library_pieces.pre_tokenize_str(text)]
    yours = [0, *accumulate(map(len, pretokenize(text)))][:-1]
    if starts != yours:
        differs.append(sign)
shown = [sign for sign in differs if sign.isprintable()][:20]
print(f"{len(differs)} of {len(characters)} are cut otherwise, such as", *shown)
print("their kinds:", dict(Counter(map(unicodedata.category, differs))))
# %% [markdown]
# (Kinds: No and Nl are numbers that are no decimal digits, Cc control codes.)
#
# ## 2. Count and join
#
# **Byte-pair encoding** (Gage, 1994; Sennrich et al., 2016) repeats: count all pairs of neighbours, join the most
# frequent, give it the next id. Texts repeat their pieces, so keep each piece once, as a tuple of ids, with how often
# it came: a `words` dictionary.
# %%
Pair = tuple[int, int]


def word_counts(texts: list[str]) -> dict[tuple[int, ...], int]:
    """How often each piece occurs in the texts, as a tuple of bytes."""
    pieces = [piece for text in texts for piece in pretokenize(text)]
    return dict(Counter(tuple(piece.encode()) for piece in pieces))
# %% [markdown]
# Every pair of neighbours counts, overlapping ones too: `aaa` holds (a, a) twice.
# %% exercise="pair_counts" points=1 difficulty=2 minutes=8
def pair_counts(words: dict[tuple[int, ...], int]) -> dict[Pair, int]:
    """How often each pair of neighbours occurs, in words that occur so many times."""
    ### BEGIN SOLUTION
    counts = Counter()
    for word, count in words.items():
        for pair in pairwise(word):
            counts[pair] += count
    return dict(counts)
    ### END SOLUTION
# %% check="pair_counts"
# %% [markdown]
# Joining goes from left to right, and what was joined is used up.
#
# **Predict**: what becomes of `aaaaa`, if (a, a) is joined?
#
# <details><summary>Answer</summary>
#
# `aa`, `aa`, `a`.
#
# </details>
# %% exercise="merge" points=1 difficulty=2 minutes=8
def merge(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    """The ids, with new_id wherever the pair stood; from left to right, without overlap."""
    ### BEGIN SOLUTION
    merged, i = [], 0
    while i < len(ids):
        found = tuple(ids[i : i + 2]) == pair
        merged.append(new_id if found else ids[i])
        i += 2 if found else 1
    return merged
    ### END SOLUTION
# %% check="merge"
# %% experiment=True
words = word_counts(["Anna ran and Hanna ran"])
spelled = {bytes(word).decode(): count for word, count in words.items()}
print("words:", spelled)
counts = pair_counts(words)
for pair in sorted(counts, key=counts.get, reverse=True)[:4]:
    print(repr(bytes(pair).decode()), pair, "occurs", counts[pair], "times")
# %% [markdown]
# ## 3. Train
#
# The merge number *i* (from 0) gets id 256 + *i*. The result is a dictionary from pair to id, in the order of learning:
# it *is* the tokenizer.
#
# Ties are frequent, and each decision shapes the later ones. Here, and in the library `tokenizers`, **of equally
# frequent pairs the smaller one wins**, as Python compares tuples: (97, 110) before (97, 115) before (98, 1). Where no
# pair is left, training ends early.
#
# <details><summary>Hint 1</summary>
#
# `min` with a `key` that gives a tuple: first the count, turned so that more is less, then the pair.
#
# </details>
# <details><summary>Hint 2</summary>
#
# After a merge two words can have become... the same? No: they spell other texts. So a new dictionary with the merged
# words as keys will do.
#
# </details>
# %% exercise="train_bpe" points=3 difficulty=3 minutes=20
def train_bpe(texts: list[str], n_merges: int) -> dict[Pair, int]:
    """The merges that byte-level BPE learns from texts: pair to new id, in order."""
    ### BEGIN SOLUTION
    words, merges = word_counts(texts), {}
    for new_id in range(256, 256 + n_merges):
        counts = pair_counts(words)
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges[best] = new_id
        words = {tuple(merge(word, best, new_id)): count for word, count in words.items()}
    return merges
    ### END SOLUTION
# %% check="train_bpe"
# %% [markdown]
# The library works on characters. It gets each byte as character 256 + byte, so that its order is ours.
#
# **Predict**: the first merges on the course's stories?
#
# <details><summary>Answer</summary>
#
# Letters that often stand together, many with the space before a word. Frequent short words come at once, longer ones
# later, from their parts.
#
# </details>
# %% experiment=True
def library_merges(texts: list[str], n_merges: int) -> dict[Pair, int]:
    """What the library tokenizers learns from the same pieces, in our ids."""
    alphabet = [chr(256 + byte) for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=256 + n_merges, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer = Tokenizer(tokenizer_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    lines = (
        " ".join("".join(alphabet[b] for b in piece.encode()) for piece in pretokenize(text))
        for text in texts
    )
    tokenizer.train_from_iterator(lines, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    pairs = [tuple(learned["vocab"][part] for part in pair) for pair in learned["merges"]]
    return {pair: 256 + i for i, pair in enumerate(pairs)}


some_texts = [story.text for story in corpus.stories(300, "tokens")]
merges = train_bpe(some_texts, 400)
theirs = library_merges(some_texts, 400)
spelled = {i: bytes([i]) for i in range(256)}
for (a, b), new_id in merges.items():
    spelled[new_id] = spelled[a] + spelled[b]
print("first:", *(repr(spelled[i].decode(errors="replace")) for i in range(256, 272)))
print("last:", *(repr(spelled[i].decode(errors="replace")) for i in range(646, 656)))
print("the library's merges, in order:", list(merges.items()) == list(theirs.items()))
counts = pair_counts(word_counts(some_texts))
shared = Counter(counts.values())
print(f"of {len(counts)} pairs {sum(n for n in shared.values() if n > 1)} share their count")
# %% [markdown]
# ## 4. There and back
#
# Each id spells some bytes. Decoding joins the bytes of all ids, and only then reads UTF-8: a token can end in the
# middle of a character, as `�` did above (two of a quotation mark's three bytes). Bytes that are no UTF-8 become `�`
# (`errors="replace"`).
#
# <details><summary>Hint</summary>
#
# A table from id to bytes: 256 single bytes, then each merge joins two entries that are there already.
#
# </details>
# %% exercise="decode" points=1 difficulty=2 minutes=8
def decode(ids: Sequence[int], merges: dict[Pair, int]) -> str:
    """The text that the ids spell, with � for bytes that are no UTF-8."""
    ### BEGIN SOLUTION
    spelled = {byte: bytes([byte]) for byte in range(256)}
    for (a, b), new_id in merges.items():
        spelled[new_id] = spelled[a] + spelled[b]
    return b"".join(spelled[i] for i in ids).decode("utf-8", errors="replace")
    ### END SOLUTION
# %% check="decode"
# %% [markdown]
# Encoding repeats history. In each piece, of all pairs that have a merge, the one that was learned **first** is joined,
# everywhere in the piece; then again, until no pair has one.
#
# **Predict**: why not take the longest token that fits, from left to right?
#
# <details><summary>Answer</summary>
#
# It can give other ids than training saw: the longest token may end in the middle of an earlier merge.
#
# </details>
# <details><summary>Hint</summary>
#
# Ids of merges grow in the order of learning: of the pairs of neighbours in `merges`, take that of the least id.
#
# </details>
# %% exercise="encode" points=3 difficulty=4 minutes=20
def encode(text: str, merges: dict[Pair, int]) -> list[int]:
    """The ids of a text: pieces, bytes, then merges in the order of learning."""
    ### BEGIN SOLUTION
    encoded = []
    for piece in pretokenize(text):
        ids = list(piece.encode())
        while True:
            known = [pair for pair in pairwise(ids) if pair in merges]
            if not known:
                break
            first = min(known, key=merges.get)
            ids = merge(ids, first, merges[first])
        encoded += ids
    return encoded
    ### END SOLUTION
# %% check="encode"
# %% [markdown]
# **Which holds for every text and every list of ids?**
# (a) `decode(encode(text)) == text`; (b) `encode(decode(ids)) == ids`; (c) both, as one undoes the other
# %% exercise="answer_inverse" points=1 difficulty=2 minutes=3
answer_inverse = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_inverse = "a"
### END SOLUTION
# %% check="answer_inverse"
# %% [markdown]
# **Predict**: the tokenizer has learned from 300 stories. How many bytes fit into a token of a fresh story, and how
# many into one of an English sentence? Of a Greek one? Are there tokens that the training texts never use?
#
# <details><summary>Answer</summary>
#
# Most in the story, fewer in English, and 1 in Greek, for no Greek byte was ever joined. And many are unused: steps on
# the way to a longer token, which always swallows them.
#
# </details>
# %% experiment=True
story_merges = train_bpe(some_texts, 400)
fresh_text = corpus.story(0, corpus.HELD_OUT).text
sentence = "All human beings are born free and equal in dignity and rights."
greek = "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια."
for name, text in {"story": fresh_text, "English": sentence, "Greek": greek}.items():
    ids = encode(text, story_merges)
    assert decode(ids, story_merges) == text
    print(f"{name}: {len(text.encode())} bytes, {len(text.encode()) / len(ids):.2f} a token")
print(*(repr(decode([i], story_merges)) for i in encode(fresh_text, story_merges)[:16]))
used = {i for text in some_texts for i in encode(text, story_merges)}
unused = [i for i in story_merges.values() if i not in used]
print(f"{len(unused)} of {len(story_merges)} are never used, such as", end=" ")
print(*(repr(decode([i], story_merges)) for i in unused[40:48]))
# %% [markdown]
# Of a token that its texts never use, a model learns one thing: that it does not come. Keep that in mind for section 7.
#
# ## 5. The same, quickly
#
# Your trainer counts every word anew for each merge, though few words hold the pair. Better: count once, and remember
# **where** each pair occurs. Then a merge touches only the words that hold it: take their pairs out of the counts,
# join, put their new pairs in.
#
# The check counts the lines that run: ten merges in a few words must not cost ten times all words.
#
# <details><summary>Hint 1</summary>
#
# A list of `[ids, count]`; a `Counter` of pairs; a `defaultdict(set)` from pair to places in the list.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Take the places of the best pair out with `pop`. Places that have become wrong may stay in the other sets: visiting
# such a word takes out and puts in the same. But a pair with count 0 must go.
#
# </details>
# %% exercise="train_bpe_incremental" points=4 difficulty=5 minutes=40
def train_bpe_incremental(texts: list[str], n_merges: int) -> dict[Pair, int]:
    """The same merges as train_bpe; after the first count only words that hold the pair are
    touched.
    """
    ### BEGIN SOLUTION
    words = [[list(word), count] for word, count in word_counts(texts).items()]
    counts, places, merges = Counter(), defaultdict(set), {}

    def count_in(place: int, sign: int) -> None:
        ids, count = words[place]
        for pair in pairwise(ids):
            counts[pair] += sign * count
            places[pair].add(place)
            if counts[pair] == 0:
                del counts[pair]

    for place in range(len(words)):
        count_in(place, +1)
    for new_id in range(256, 256 + n_merges):
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges[best] = new_id
        for place in places.pop(best):
            count_in(place, -1)
            words[place][0] = merge(words[place][0], best, new_id)
            count_in(place, +1)
    return merges
    ### END SOLUTION
# %% check="train_bpe_incremental"
# %% [markdown]
# **Predict**: is the gain larger in the first merges, or in the later ones?
#
# <details><summary>Answer</summary>
#
# In the later ones: early pairs are in many words, late ones in few. The slow trainer pays for all words each time.
#
# </details>
# %% experiment=True
openings, endings = corpus.words.NAME_OPENINGS, corpus.words.NAME_ENDINGS
invented = [" " + a + b + c for a in openings for b in endings for c in endings]
for n_merges in (10, 200):
    slow = partial(train_bpe, invented[::4], n_merges)
    quick = partial(train_bpe_incremental, invented[::4], n_merges)
    assert slow() == quick() == library_merges(invented[::4], n_merges)
    print(f"{n_merges} merges:", evidence.ratio_of_times(slow, quick, repeats=5))
# %% [markdown]
# ## 6. Names, numbers, spaces
#
# Now a real tokenizer: SmolLM2's, with 49,152 tokens. Its cuts follow the rules of section 1 but for one: find it.
#
# **Predict**: which of these are one token: `Anna`, ` Anna`, ` anna`, `ANNA`, ` 1984`? Do `Anna` and ` Anna` share one?
#
# <details><summary>Answer</summary>
#
# The first two, and these are different ones. Each digit is a piece of its own, and the space before it, too: that is
# the other rule.
#
# (GPT-2 and SmolLM2 show each byte as one character. Those that print stand for themselves; `Ġ` is a space, `Ċ` a line
# break.)
#
# </details>
# %% experiment=True
smollm2, smol_tokenizer = models.smollm2_hf()


def smol_ids(text: str) -> list[int]:
    return smol_tokenizer(text, add_special_tokens=False).input_ids


def cut(text: str) -> str:
    return "|".join(smol_tokenizer.convert_ids_to_tokens(smol_ids(text)))


for text in ["Anna", " Anna", " anna", "ANNA", " 1984", "3.14", " Karalo", "    x", "日本"]:
    print(f"{text!r:>10}", cut(text))
kinds = {"names": corpus.words.WOMEN + corpus.words.MEN, "objects": corpus.words.OBJECTS}
kinds["invented names"] = [name.strip() for name in invented[::130]]
for kind, members in kinds.items():
    for lead, place in (("", "at the start"), (" ", "after a space")):
        costs = [len(smol_ids(lead + word)) for word in members]
        ones, mean = costs.count(1) / len(costs), evidence.interval(costs, "bca")
        print(f"{kind}, {place}: {mean:.2f} tokens, {ones:.0%} are one")
    saved = [len(smol_ids(word)) - len(smol_ids(" " + word)) for word in members]
    less, more = sum(n > 0 for n in saved), sum(n < 0 for n in saved)
    print(f"    after a space {less} of {len(members)} cost less, {more} more")
# %% [markdown]
# (An interval holds for words drawn like these.) After a space none of these words costs more, and many cost less.
#
# The two tokens of a name are two rows of `W_E`, which share nothing by construction. Has the model learned that they
# are one name? The null: a name's row beside *other* names' rows. (The mean of all rows is taken off first.)
# %% experiment=True
W_E = smollm2.get_input_embeddings().weight.detach()
centred = W_E - W_E.mean(0)
unit = centred / centred.norm(dim=1, keepdim=True)
whole = [n for n in kinds["names"] if len(smol_ids(n)) == len(smol_ids(" " + n)) == 1]
bare, spaced = ([smol_ids(lead + name)[0] for name in whole] for lead in ("", " "))
cosines = unit[bare] @ unit[spaced].T
others = cosines[~torch.eye(len(whole), dtype=torch.bool)]
print(f"its own: {cosines.diagonal().mean():.2f}; other names: {others.mean():.2f}")
second = (unit[bare] @ unit.T).topk(2).indices[:, 1].tolist()  # the first is the row itself
found = sum(map(operator.eq, second, spaced))
print(f"the nearest of all {len(W_E)} rows is its own for {found} of {len(whole)}")
plot.imshow(
    cosines,
    x=whole,
    y=whole,
    x_label="after a space",
    y_label="at the start",
    value_label="cosine",
    title="Cosine of rows of W_E",
)
# %% [markdown]
# It has, for these names, which are one token either way.
#
# ### A space at the end
#
# **You want the model to continue a text with a name, and give it `"My name is "`, with a space at the end. What has
# the tokenizer made of that space?**
# (a) nothing, the ids are those without it; (b) a part of the name that is to come; (c) a token of its own after `is`
# %% exercise="answer_space" points=1 difficulty=1 minutes=2
answer_space = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_space = "c"
### END SOLUTION
# %% check="answer_space"
# %% experiment=True
for prompt in ("My name is", "My name is ", "She lives with", "She lives with "):
    ids = smol_ids(prompt)
    with torch.no_grad():
        after = smollm2(torch.tensor([ids])).logits[0, -1].softmax(-1)
    top = after.topk(6).indices.tolist()
    shown = zip(smol_tokenizer.convert_ids_to_tokens(top), after[top].tolist(), strict=True)
    print(f"{prompt!r}, {cut(prompt)}:", *(f"{token} {p:.2f}" for token, p in shown))
# %% [markdown]
# One space, another prediction. A lone `Ġ` stands before a number, as in ` 1984` above, and after the first prompt a
# number is what the model now expects. After the second it expects nothing in particular.
#
# ### Prompts that line up
#
# Later you will exchange activations between two prompts: *Mary gave* and *John gave*. Position by position they must
# line up: as many tokens, and another one at a single place. Find the words that allow it.
#
# `template` holds one `{}` for the word. A word fits if its prompt has as many tokens as the reference's prompt, and
# differs from it at one position **at most**.
# %% exercise="swappable" points=2 difficulty=3 minutes=10
def swappable(
    encode: Callable[[str], list[int]], template: str, reference: str, words: Sequence[str]
) -> list[str]:
    """The words that fit, in their order: prompts that differ from the reference's prompt by
    at most one exchanged token.
    """
    ### BEGIN SOLUTION
    expected = encode(template.format(reference))
    fitting = []
    for word in words:
        ids = encode(template.format(word))
        if len(ids) == len(expected) and sum(map(operator.ne, ids, expected)) <= 1:
            fitting.append(word)
    return fitting
    ### END SOLUTION
# %% check="swappable"
# %% [markdown]
# **Predict**: of the 32 names, more fit at the start of a prompt, or in its middle?
#
# <details><summary>Answer</summary>
#
# In the middle, where a space stands before them.
#
# </details>
# %% experiment=True
for template in ("{} gave the ball to Max.", "Then {} gave the ball to Max."):
    fit = swappable(smol_ids, template, "Mary", kinds["names"])
    print(f"{template}: {len(fit)} of {len(kinds['names'])}, not", end=" ")
    print(*(name for name in kinds["names"] if name not in fit))
# %% [markdown]
# ## 7. Tokens that the model hardly knows
#
# Some tokens make a model behave oddly: **glitch tokens** (Rumbelow and Watkins, *SolidGoldMagikarp*, 2023). Often the
# tokenizer learned from other texts than the model, which then hardly met some of its tokens. Land and Bartolo (2024)
# find such **under-trained tokens** from the weights: the rows of tokens that are *known* to be unused tell where
# untrained rows end up.
#
# - Take the mean of all rows off; then average the rows of the known ones: the direction $u$.
# - The suspects have the highest cosine with $u$. The known ones themselves do not count.
#
# (Their code has this measure beside two others: nothing taken off, or the first principal component.)
# %% exercise="undertrained" points=2 difficulty=3 minutes=12
def undertrained(
    W_E: Float[Tensor, "n_vocab d_model"], known: Sequence[int], count: int
) -> list[int]:
    """The ids of the `count` tokens of highest cosine, highest first, none of them known."""
    ### BEGIN SOLUTION
    centred = W_E - W_E.mean(0)
    direction = centred[list(known)].mean(0)
    cosines = torch.cosine_similarity(centred, direction, dim=-1)
    cosines[list(known)] = -torch.inf
    return cosines.topk(count).indices.tolist()
    ### END SOLUTION
# %% check="undertrained"
# %% [markdown]
# ### Does the suspicion hold?
#
# SmolLM2's ids 5 to 16 are marks such as `<jupyter_start>`; we take them for unused. A suspicion from weights is not a
# finding: let the model repeat a suspect that stands in the prompt. The null: random tokens of as many characters.
#
# **Predict**: at what rank does the model put a random token that it only has to repeat? And a suspect?
#
# <details><summary>Answer</summary>
#
# First, or nearly. Most suspects come after hundreds of others.
#
# </details>
# %% experiment=True
known = list(range(5, 17))
suspects = undertrained(W_E, known, 24)
vocabulary = {i: token for token, i in smol_tokenizer.get_vocab().items()}
generator = torch.Generator().manual_seed(0)


def like(token: int) -> int:
    """A random other token of as many characters, that is no suspect."""
    length = len(vocabulary[token])
    same = [i for i in sorted(vocabulary) if len(vocabulary[i]) == length and i > 16]
    same = [i for i in same if i not in suspects]
    return same[int(torch.randint(len(same), (), generator=generator))]


@torch.no_grad()
def repeat_ranks(tokens: list[int]) -> list[int]:
    """How many tokens the model finds likelier than the one that it should repeat."""
    before, between = smol_ids('The word is "'), smol_ids('". I repeat, the word is "')
    prompts = torch.tensor([[*before, token, *between] for token in tokens])
    last = smollm2(prompts, logits_to_keep=1).logits[:, -1]
    own = last[torch.arange(len(tokens)), tokens]
    return (last > own[:, None]).sum(1).tolist()


print("suspects:", *(vocabulary[i] for i in suspects))
chosen = {"known": known, "suspects": suspects}
chosen["as long"] = [like(token) for token in suspects for _ in range(4)]
ranks = {name: repeat_ranks(tokens) for name, tokens in chosen.items()}
for name, values in ranks.items():
    first = [vocabulary[i] for i, rank in zip(chosen[name], values, strict=True) if rank == 0]
    print(f"{name}: median rank {statistics.median(values):.0f},", end=" ")
    print(f"{len(first)} of {len(values)} are first:", *first[:8])
logs = [[math.log1p(rank) for rank in ranks[name]] for name in ("suspects", "as long")]
print(f"suspects against as long, mean log ranks: p = {permutation_test(*logs):.4f}")
nearest = (W_E[suspects] - W_E[suspects[0]]).norm(dim=1) / W_E[suspects[0]].norm()
twins = [vocabulary[suspects[i]] for i in (nearest < 0.01).nonzero()[:, 0].tolist()]
print("rows that differ from the first suspect's by less than 1 %:", *twins)
# %% [markdown]
# `<filename>`, which we took for unused, comes first: assumptions want a test, too. And `<|im_end|>` need not have been
# understood: it ends a turn of a chat. Twins are one token to the model, whatever they spell. (`W_E` was rounded to 8
# bits: smaller differences are lost.) SmolLM2 uses `W_E` to read *and* to write: the test does not tell which fails.
# That its texts lack these tokens is a guess: we have not seen them.
#
# ## 8. The baseline, and its price
#
# The simplest model with a context knows one thing: the token before. **Bigram** logits are a table, `logits[a]` for
# what follows *a*. A transformer without layers is one too: `W_E @ W_U`. In 1.3 all unseen pairs were alike. Better: a
# row leans on how frequent *b* is at all, the more so where most of what followed *a* was new (Witten and Bell, 1991):
#
# $$p(b \mid a) = \frac{c(a, b) + T(a)\, p(b)}{N(a) + T(a)}, \qquad p(b) = \frac{c(b) + 1}{C + V}$$
#
# $c(a, b)$ counts pairs; $N(a)$ is the sum of its row, $T(a)$ the number of *different* tokens after *a*; $c(b)$ is the
# sum of its column, $C$ of everything, $V$ the number of tokens. A row that was never seen is $p(b)$.
# %% exercise="bigram_logits" points=3 difficulty=3 minutes=15
def bigram_logits(texts: list[list[int]], n_vocab: int) -> Float[Tensor, "a b"]:
    """Logits of b after a, float64, whose softmax over b is p(b | a). No pair crosses from
    one text to the next.
    """
    ### BEGIN SOLUTION
    counts = torch.zeros(n_vocab, n_vocab, dtype=torch.float64)
    for (a, b), count in Counter(pair for text in texts for pair in pairwise(text)).items():
        counts[a, b] = count
    unigram = (counts.sum(0) + 1) / (counts.sum() + n_vocab)
    different = (counts > 0).sum(1, keepdim=True)
    # The softmax divides by N(a) + T(a).
    return torch.where(different > 0, counts + different * unigram, unigram).log()
    ### END SOLUTION
# %% check="bigram_logits"
# %% [markdown]
# Now the course's stories, with words as tokens: the program that writes them, their **law**, is known.
#
# **Predict**: no table can have a lower loss than the entropy of a token given the one before, which nobody told us.
# What can you measure that is too low, and what that is too high?
#
# <details><summary>Answer</summary>
#
# On average: the lowest loss that any table has on the stories that were counted is too low, for it has seen them; a
# table's loss on fresh ones is too high, for it has not seen enough. From there down to the law, only more context
# leads.
#
# </details>
# %% experiment=True
def word_ids(count: int, seed: str) -> list[list[int]]:
    return [corpus.token_ids(story.tokens) for story in corpus.stories(count, seed)]


def nats_per_token(logits: Tensor, texts: list[list[int]]) -> evidence.Interval:
    """Nats over tokens; a story is the unit that is independent."""
    costs = -logits.log_softmax(-1)
    losses = [costs[text[:-1], text[1:]].sum().item() for text in texts]
    lengths = [len(text) - 1 for text in texts]
    ratio, mean_length = sum(losses) / sum(lengths), sum(lengths) / len(lengths)
    pairs = zip(losses, lengths, strict=True)
    # A ratio of means; to first order a story moves it by this much.
    return evidence.interval([ratio + (loss - ratio * n) / mean_length for loss, n in pairs])


training, held_out = word_ids(3000, "tokens"), word_ids(500, corpus.HELD_OUT)
n_vocab = len(corpus.tokenizer())
counted = torch.zeros(n_vocab, n_vocab, dtype=torch.float64)
for (a, b), count in Counter(pair for text in training for pair in pairwise(text)).items():
    counted[a, b] = count  # as logits, their logarithm: no table has a lower loss on these
best_loss = nats_per_token(counted.log(), training)
your_loss = nats_per_token(bigram_logits(training, n_vocab), held_out)
print(f"best table, the counted stories: {best_loss:.3f} nats a token")
print(f"your table, fresh stories: {your_loss:.3f} nats a token")
law, error = corpus.entropy(500)
low, high = law - 1.96 * error, law + 1.96 * error
print(f"entropy of the law: {law:.3f} [{low:.3f}, {high:.3f}]")
# %% [markdown]
# ### One scale for all tokenizers
#
# A loss *a token* says nothing until you know how much text a token is. **Bits per byte** are one unit for all cuts:
# the cost of all tokens but each text's first, in bits, over the bytes of the texts.
# %% exercise="bits_per_byte" points=2 difficulty=2 minutes=8
def bits_per_byte(
    logits: Float[Tensor, "a b"], texts: list[list[int]], n_bytes: int
) -> float:
    """Bits that a table of logits pays for each byte: the cost of every token after the first
    of its text, over n_bytes, the bytes of all texts.
    """
    ### BEGIN SOLUTION
    costs = -logits.log_softmax(-1) / math.log(2)
    total = 0.0
    for text in texts:
        total += costs[text[:-1], text[1:]].sum().item()
    return total / n_bytes
    ### END SOLUTION
# %% check="bits_per_byte"
# %% [markdown]
# **Model A pays 3.0 nats a token, of 4.5 bytes on average. Model B reads bytes, and pays 0.9 nats each. The same texts.
# Which predicts them better?**
# (a) B, which pays less at each step; (b) A, whose tokens are longer; (c) neither, for the tokens differ
# %% exercise="answer_compare" points=1 difficulty=2 minutes=3
answer_compare = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_compare = "b"
### END SOLUTION
# %% check="answer_compare"
# %% [markdown]
# **Predict**: a bigram table over bytes, over 64 merges, 256, 512, ...: is more always better?
#
# <details><summary>Answer</summary>
#
# At first: a longer token before is more context. Then no more: no token outgrows its piece, and each row has seen
# less. The law stays out of reach.
#
# </details>
#
# (The merges are the library's, which are yours. The table takes a while.)
# %% experiment=True
texts = [story.text for story in corpus.stories(1000, "tokens")]
held_out = list(corpus.stories(300, corpus.HELD_OUT))
n_bytes = sum(len(story.text.encode()) for story in held_out)
all_merges = list(library_merges(texts, 2000).items())  # there are not so many
sizes = [0, 32, 64, 128, 256, 400, 512, 768, 1000, len(all_merges)]
curves = {"fresh stories": [], "the stories that it counted": []}
for size in sizes:
    known_merges = dict(all_merges[:size])
    encode_piece = cache(lambda piece, known=known_merges: encode(piece, known))
    end = 256 + size  # one more id: it opens and closes each text

    def marked(text, encode_piece=encode_piece, end=end):
        return [end, *(i for piece in pretokenize(text) for i in encode_piece(piece)), end]

    own, fresh = [marked(text) for text in texts], [marked(story.text) for story in held_out]
    table = bigram_logits(own, end + 1)
    curves["fresh stories"].append(bits_per_byte(table, fresh, n_bytes))
    own_bytes = sum(len(text.encode()) for text in texts)
    curves["the stories that it counted"].append(bits_per_byte(table, own, own_bytes))
    n_tokens = sum(len(ids) - 1 for ids in fresh)
    nats = curves["fresh stories"][-1] * math.log(2) * n_bytes / n_tokens
    print(f"{size:>5} merges, {n_bytes / n_tokens:.2f} bytes a token:", end=" ")
    print(f"{nats:.2f} nats a token, {curves['fresh stories'][-1]:.3f} bits per byte")
law_bits = -sum(story.log_prob for story in held_out) / math.log(2) / n_bytes
print(f"the law on the fresh stories: {law_bits:.3f} bits per byte")
figure = plot.line(
    curves,
    x=sizes,
    x_label="merges",
    y_label="bits per byte",
    title="A bigram table over ever longer tokens",
)
figure.add_hline(y=law_bits, line_dash="dash", annotation_text="the law")
figure.update_yaxes(rangemode="tozero")
figure.show()
# %% [markdown]
# Nats a token and bits per byte order the tokenizers differently. And one token of context, however long, is not
# enough: who is in the story stands further back. To look there is the business of attention.
#
# ## Bonus (not graded)
#
# 1. Much of the quick trainer's time goes into `min` over all pairs. Put a `heapq` in its place.
# 2. Let merges cross pieces. Which tokens come? What becomes of bits per byte?
# 3. Count 20,000 stories in the last table. Where is the best number of merges now?
# 4. Skip each merge with some probability (*BPE-dropout*, Provilkov et al., 2020): many spellings of one text. Which id
#    lists does the model never meet otherwise?
# %% [markdown]
# ## Recap
#
# | confusion | what holds |
# |---|---|
# | "A token is a word" | a frequent string: often a word *with the space before it* |
# | "Encoding takes the longest token" | it repeats the merges in the order of learning |
# | "A rare word is unknown" | nothing is: it costs more tokens |
# | "Lower loss a token, better model" | only with the same tokenizer; compare bits per byte |
# | "Every token means something to the model" | some it cannot even repeat |
#
# Read on: Sennrich et al., *Neural Machine Translation of Rare Words with Subword Units* (2016); Radford et al.,
# *Language Models are Unsupervised Multitask Learners* (2019); Karpathy, *minbpe*; Land and Bartolo, *Fishing for
# Magikarp* (2024). Next: **2.2 Attention by hand**.
