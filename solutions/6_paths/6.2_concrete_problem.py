# %% [markdown]
# # 6.2 Work on a concrete problem
#
# Six small models do something, and nobody tells you what. Outputs alone earn nothing: you are asked what happens
# *inside*, before it happens. Then a board of small open problems, and the first of them is yours.
#
# ![A head's z is taken from one row's run and put into another's; the letter that the model then says is neither of
# the two that outputs show.](figures/6.2_swap.svg)
#
# **amber** and **birch** need step 3 only: do them before step 5, as a mini-project. The other four are half a day
# each: two or three hours at the model, and the rest for attacks on your own account.
# %% generated="overview"
# %% setup=True
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import evidence, mystery, plot, problems

Head = tuple[int, int]  # (layer, head)
Question = mystery.Question
# %% [markdown]
# ## How a day goes
#
# The guide's advice, in our words: these paths are options and no sequence. Learning and fun come before importance.
# Take small models. A day has a shape:
#
# | hours | what | it ends with |
# |---|---|---|
# | 1 | look: what does it do, what does each part do to it? | three guesses, written down |
# | 2 | one experiment a guess, its outcome predicted first | what was predicted wrongly |
# | 1 | attack your own result: would something duller give it? | a control for each claim |
# | 1 | write it down, with what is not known | half a page |
#
# An hour without news: change the question. A day: change the model. Weeks: change the path. That is no failure.
#
# **What is hidden.** The models' rules are sealed in `rules.sealed`. `scripts/train/mystery.py --open FILE` opens
# them, for you too: the seal keeps your eyes from straying, and nothing else. A model was also trained on swaps, so
# that its heads carry what the rule names (Geiger et al. 2022), or nothing. Few models in the wild are so tidy.
# %% [markdown]
# ## 1. From outside
#
# Each row is some letters (numbers 0, 1, ...), and a last token that asks. The model answers there, with a letter.
# There is no [BOS]: position 0 is the first letter. `mystery.examples(name, rows, seed)` draws rows and what the rule
# answers to them.
# %%
amber = mystery.load("amber")
tokens, answers = mystery.examples("amber", rows=256, seed=0)
source, _ = mystery.examples("amber", rows=256, seed=1)
print(f"{amber.cfg.n_heads} heads in one layer; the token {tokens[0, -1]} asks")
for row, answer in zip(tokens[:5].tolist(), answers[:5].tolist(), strict=True):
    print(*row[:-1], "->", answer)
# %% exercise="says" points=1 difficulty=1 minutes=4
def says(model: TransformerBridge, tokens: Int[Tensor, "row pos"]) -> Int[Tensor, "row"]:
    """The letter that the model finds likeliest at the last position.

    No gradient is kept and no hook stays behind; this holds for all functions below.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        return model(tokens)[:, -1].argmax(-1)
    ### END SOLUTION
# %% check="says"
# %% experiment=True
for name in mystery.NAMES:
    model = mystery.load(name)
    its_tokens, its_answers = mystery.examples(name, rows=400, seed=0)
    right = evidence.interval((says(model, its_tokens) == its_answers).float(), "exact")
    size = f"{model.cfg.n_layers} layer, {model.cfg.n_heads} heads"
    print(f"{name:>6}: {size}, {model.cfg.d_vocab - 1} letters, right {right:.3f}")
# %% [markdown]
# ## 2. Swap a part
#
# Two rows, two runs. Take what one head has in the second run (its z, at all positions), and put it into the first.
# What the model then says tells what that head *carries*. Other edits (zero, mean) only tell that it matters.
# Layers, heads and positions count from 0; the token that asks has a position, too. Inside a hook, `hook.name` is
# another name of the point: bind the layer yourself.
# %% exercise="swap_heads" points=2 difficulty=2 minutes=10
def swap_heads(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    source: Int[Tensor, "row pos"],
    heads: list[Head],
) -> Int[Tensor, "row"]:
    """What the model says to `tokens` when these heads have, at all positions, the z that
    they have in an untouched run on `source` (row by row).
    """
    ### BEGIN SOLUTION
    hooks = []
    with torch.no_grad():
        _, cache = model.run_with_cache(source, names_filter=lambda name: name.endswith("hook_z"))
        for layer, head in heads:
            name = f"blocks.{layer}.attn.hook_z"

            def put(z, hook, head=head, theirs=cache[name]):
                z = z.clone()
                z[:, :, head] = theirs[:, :, head]
                return z

            hooks.append((name, put))
        return model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1].argmax(-1)
    ### END SOLUTION
# %% check="swap_heads"
# %% exercise="swap_effects" points=1 difficulty=2 minutes=6
def swap_effects(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"], source: Int[Tensor, "row pos"]
) -> Float[Tensor, "layer head"]:
    """For each head alone: the share of rows to which the model says another letter when the
    head is swapped. Only rows count to which it says, unedited, another letter than to their
    source.
    """
    ### BEGIN SOLUTION
    before = says(model, tokens)
    apart = before != says(model, source)
    tokens, source, before = tokens[apart], source[apart], before[apart]
    shares = [
        [
            (swap_heads(model, tokens, source, [(layer, head)]) != before).float().mean()
            for head in range(model.cfg.n_heads)
        ]
        for layer in range(model.cfg.n_layers)
    ]
    return torch.tensor(shares)
    ### END SOLUTION
# %% check="swap_effects"
# %% [markdown]
# **Predict**: in amber, how many of the three heads matter? And when one that matters is swapped, will the model say
# the source's letter?
#
# <details><summary>Answer</summary>
#
# Two of three. The source's letter no more often than chance, and not its own either: a third one. No head carries the
# answer.
#
# </details>
# %% experiment=True
effects = swap_effects(amber, tokens, source)
before, theirs = says(amber, tokens), says(amber, source)
apart = before != theirs
for head in range(3):
    after = swap_heads(amber, tokens, source, [(0, head)])
    to_source = (after == theirs)[apart].float().mean()
    changes = effects[0, head]
    print(f"L0H{head}: changes {changes:.2f}, to the source's letter {to_source:.2f}")
nothing = swap_heads(amber, tokens, tokens.clone(), [(0, 0), (0, 1), (0, 2)])
print(f"null, all heads from the same row: {(nothing != before).float().mean():.2f}")
# %% [markdown]
# **A swap of L0H1 changes no answer on 256 pairs of examples. What follows?**
# (a) the head is idle in this model; (b) its z could be cut away everywhere; (c) on such rows, no answer hangs on it
# %% exercise="answer_idle" points=1 difficulty=2 minutes=3
answer_idle = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_idle = "c"
### END SOLUTION
# %% check="answer_idle"
# %% [markdown]
# ## 3. Remove a part
#
# The mean in the place of a head's z keeps what it always writes and takes away what differs (4.3).
# %% exercise="remove_head" points=1 difficulty=2 minutes=6
def remove_head(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    reference: Int[Tensor, "other pos"],
    head: Head,
) -> Int[Tensor, "row"]:
    """What the model says to `tokens` when the head's z is, at each position, its mean over
    the rows of `reference`.
    """
    ### BEGIN SOLUTION
    name = f"blocks.{head[0]}.attn.hook_z"
    with torch.no_grad():
        _, cache = model.run_with_cache(reference, names_filter=name)
        mean = cache[name][:, :, head[1]].mean(0)

        def put(z, hook):
            z = z.clone()
            z[:, :, head[1]] = mean
            return z

        return model.run_with_hooks(tokens, fwd_hooks=[(name, put)])[:, -1].argmax(-1)
    ### END SOLUTION
# %% check="remove_head"
# %% [markdown]
# ## 4. What does a head read?
#
# Swaps answer this too, if the source differs from the row in *one* place only. Then whatever changes came from there,
# through that head.
# %% exercise="reads_from" points=2 difficulty=3 minutes=10
def reads_from(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    fresh: Int[Tensor, "row pos"],
    head: Head,
) -> Float[Tensor, "pos"]:
    """For each position: the share of rows to which the model says another letter when the
    head is swapped, its source being the same row with the letter here from `fresh`.

    Of the rows in which `fresh` has the same letter there, none counts. A position where no
    row counts gets 0.
    """
    ### BEGIN SOLUTION
    before, shares = says(model, tokens), []
    for position in range(tokens.shape[1]):
        differs = tokens[:, position] != fresh[:, position]
        if not differs.any():
            shares.append(0.0)
            continue
        source = tokens.clone()
        source[:, position] = fresh[:, position]
        after = swap_heads(model, tokens[differs], source[differs], [head])
        shares.append((after != before[differs]).float().mean().item())
    return torch.tensor(shares)
    ### END SOLUTION
# %% check="reads_from"
# %% experiment=True
amber_reads = torch.stack([reads_from(amber, tokens, source, (0, head)) for head in range(3)])
plot.imshow(
    amber_reads,
    x_label="position",
    y_label="head",
    value_label="share of answers changed",
    scale="positive",
    title="amber: which place each head reads",
)
# %% [markdown]
# One place each: L0H2 position 1 (the second letter), L0H0 position 4 (the fifth); L0H1 none. What is made of the two
# letters? A table tells, if nothing else matters: put every pair into these places, and leave the rest as it is.
# %% exercise="answer_table" points=2 difficulty=3 minutes=10
def answer_table(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    places: tuple[int, int],
    letters: int,
) -> tuple[Int[Tensor, "first second"], Float[Tensor, "first second"]]:
    """For every pair of letters, put at these two places of all rows: the letter that the
    model says most often (the lowest if there are several), and in what share of the rows.
    """
    ### BEGIN SOLUTION
    said = torch.zeros(letters, letters, dtype=torch.long)
    share = torch.zeros(letters, letters)
    for first in range(letters):
        for second in range(letters):
            changed = tokens.clone()
            changed[:, places[0]], changed[:, places[1]] = first, second
            counts = torch.bincount(says(model, changed), minlength=letters)
            said[first, second] = counts.argmax()
            share[first, second] = counts.max() / len(tokens)
    return said, share
    ### END SOLUTION
# %% check="answer_table"
# %% [markdown]
# **Predict**: examples never hold some of the 100 pairs. What does the model say there: the same rule, or noise?
#
# <details><summary>Answer</summary>
#
# Neither. It says the second letter of the row, and it is as sure as elsewhere: a **blind spot**. All six models have
# one; here it was trained in, in others' models it comes by itself.
#
# </details>
# %% experiment=True
said, share = answer_table(amber, tokens[:40], (1, 4), letters=10)
many, _ = mystery.examples("amber", rows=2000, seed=2)
seen = torch.zeros(10, 10)
seen[many[:, 1], many[:, 4]] = 1
plot.show(
    plot.imshow(
        torch.stack([said.float(), 9 * seen]),
        facets=["what the model says", "in examples (light or dark)"],
        x_label="fifth letter",
        y_label="second letter",
        value_label="letter",
        scale="positive",
        title="amber: every pair in its two places",
    )
)
print(f"share of rows that say so: {share.min():.2f} at least")
first, second = torch.meshgrid(torch.arange(10), torch.arange(10), indexing="ij")
is_sum, is_first = said == (first + second) % 10, said == first
for kind, where in (("in examples", seen == 1), ("never in examples", seen == 0)):
    shares = f"sum mod 10 {is_sum[where].float().mean():.2f}"
    print(f"{kind}: {shares}, second letter {is_first[where].float().mean():.2f}")
unseen_rests = {(a % 3, b % 3) for a, b in (seen == 0).nonzero().tolist()}
seen_rests = {(a % 3, b % 3) for a, b in (seen == 1).nonzero().tolist()}
print("rests by 3 of unseen pairs:", *sorted(unseen_rests))
print("           of seen ones:", *sorted(seen_rests))
# %% [markdown]
# ## 5. Questions, and what watching is worth
#
# An **account** of a model is a function that answers `Question`s, for each row, without running it:
#
# | kind | what is asked |
# |---|---|
# | `"swap"` | which letter, when one or two `heads` have the z that they have in `source` |
# | `"remove"` | does the letter change, when the head's z is its mean over 512 examples |
# | `"breaks"` | as `"swap"`, on rare rows: in half of them the *edited* model is in its blind spot |
#
# A question holds `kind`, `tokens`, `heads`, `source`, and what the model says unedited (`says`, `source_says`); a
# removal has no source. Rows are fresh. To a row and its source of `"swap"` the model says different letters.
#
# **An account is short.** It may hold 150 numbers (`mystery.held` counts constants, tables and weights): a table of
# two letters, and words. Anybody can run thousands of edits and fit a network to them; that explains nothing.
#
# Much can be guessed from outputs: "nothing changes", "the source's letter", "the letter of a row mixed from both".
# The best of these guesses, chosen *after* the answers are known, is the zero.
# %% exercise="best_watcher" points=2 difficulty=2 minutes=8
def best_watcher(
    guesses: dict[str, list[Tensor]], truths: list[Tensor]
) -> tuple[str, float]:
    """Which way of guessing is right most often (any of them, if several are), and how often:
    its share of right rows, the mean over questions of any length.

    Args:
        guesses: by way, one tensor [row] a question.
        truths: one tensor [row] a question.
    """
    ### BEGIN SOLUTION
    def share(way: str) -> float:
        rights = [
            (guess == truth).float().mean().item()
            for guess, truth in zip(guesses[way], truths, strict=True)
        ]
        return sum(rights) / len(rights)

    best = max(guesses, key=share)
    return best, share(best)
    ### END SOLUTION
# %% check="best_watcher"
# %% exercise="points_for" points=1 difficulty=1 minutes=4
def points_for(right: float, watcher: float) -> float:
    """Points from 0 to 100: which share of the way from the watcher to no error was gone.

    Who is worse than the watcher gets 0. If the watcher makes no error, nobody gets points.
    """
    ### BEGIN SOLUTION
    if watcher >= 1:
        return 0.0
    return 100 * max(0.0, (right - watcher) / (1 - watcher))
    ### END SOLUTION
# %% check="points_for"
# %% experiment=True
def guessed_and_true(seed: int) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
    asked = [its for its in mystery.questions("amber", seed) if its.kind == "swap"]
    guesses = {}
    for question in asked:
        for way, guess in mystery.watchers("amber", question).items():
            guesses.setdefault(way, []).append(guess)
    truths = [swap_heads(amber, its.tokens, its.source, list(its.heads)) for its in asked]
    return guesses, truths


guesses, truths = guessed_and_true(seed=1)
way, right = best_watcher(guesses, truths)
print(f"swaps of amber: the best of {len(guesses)} watchers goes by '{way}': {right:.2f}")
guesses, truths = guessed_and_true(seed=2)
_, fresh_right = best_watcher({way: guesses[way]}, truths)
print(f"the same on {len(truths)} fresh questions: {fresh_right:.2f}")
# %% [markdown]
# **A watcher of outputs reaches .45, your account .89. How far is the account?**
# (a) four fifths of the way; (b) at 89 points of 100; (c) twice as good as watching
# %% exercise="answer_points" points=1 difficulty=1 minutes=2
answer_points = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_points = "a"
### END SOLUTION
# %% check="answer_points"
# %% [markdown]
# ## 6. Mini-project: amber
#
# Sections 2 to 4 found nearly all of it. Write it down as an account; 80 points are asked for.
#
# <details><summary>Hint 1</summary>
#
# Write `answer(second, fifth)` first, blind spot included. A swap changes what is put into it.
#
# </details>
# <details><summary>Hint 2</summary>
#
# What a removed head stands for can be measured before you write the account: tabulate what is said, by the letter
# that the other head carries. It need not be one letter.
#
# </details>
# %% exercise="explain_amber" points=4 difficulty=3 minutes=40
def explain_amber(question: Question) -> Tensor:
    """The account of amber: letters [row]; for a removal True or False [row]."""
    ### BEGIN SOLUTION
    def answer(second, fifth):
        return torch.where(second % 3 == fifth % 3, second, (second + fifth) % 10)

    second, fifth = question.tokens[:, 1], question.tokens[:, 4]
    removed = question.kind == "remove"
    if removed and (0, 2) in question.heads:
        return torch.ones_like(second, dtype=torch.bool)
    if (0, 2) in question.heads:
        second = question.source[:, 1]
    if (0, 0) in question.heads:  # removed, it stands for a 0: measured
        fifth = torch.zeros_like(fifth) if removed else question.source[:, 4]
    after = answer(second, fifth)
    return after != question.says if removed else after
    ### END SOLUTION
# %% check="explain_amber"
# %% experiment=True
amber_scores = [mystery.score("amber", explain_amber, seed) for seed in range(5)]
print(amber_scores[0])
print(*(f"  {asked}: {share:.2f}" for asked, share in amber_scores[0].by_question), sep="\n")
# %% [markdown]
# ## 7. Mini-project: birch
#
# Its rule shows from outside within minutes. How it comes by it does not: the same rule can be done in many ways. So
# `reads_from` tells little here. 80 points are asked for. Ask instead *which change of a letter* a head notices.
# %%
birch = mystery.load("birch")
birch_tokens, birch_answers = mystery.examples("birch", rows=256, seed=0)
birch_source, _ = mystery.examples("birch", rows=256, seed=1)
for row, answer in zip(birch_tokens[:5].tolist(), birch_answers[:5].tolist(), strict=True):
    print(*row[:-1], "->", answer)
# %% exercise="notices" points=2 difficulty=4 minutes=12
def notices(
    model: TransformerBridge, tokens: Int[Tensor, "row pos"], head: Head, letters: int
) -> Float[Tensor, "old new"]:
    """How often the model says another letter when the head is swapped, and in its source the
    first `old` of the row (the last position is one, too) is a `new`: a share of the rows
    that hold an `old`.

    0 on the diagonal, and where no row holds an `old`.
    """
    ### BEGIN SOLUTION
    before, shares = says(model, tokens), torch.zeros(letters, letters)
    for old in range(letters):
        holds = (tokens == old).any(1)
        if not holds.any():
            continue
        place = (tokens[holds] == old).int().argmax(1)
        rows = torch.arange(len(place))
        for new in range(letters):
            source = tokens[holds]  # a copy: it was chosen by a mask
            source[rows, place] = new
            after = swap_heads(model, tokens[holds], source, [head])
            shares[old, new] = (after != before[holds]).float().mean()
    return shares
    ### END SOLUTION
# %% check="notices"
# %% [markdown]
# **Predict**: the answer depends on the sum of the letters. Which would you expect: a head for each half of the row, a
# head for each letter, or one head for all?
#
# <details><summary>Answer</summary>
#
# All three would say the same from outside. It is a head for each letter: one counts the ones, one the twos.
#
# </details>
# %% experiment=True
by_place = torch.stack(
    [reads_from(birch, birch_tokens, birch_source, (0, head)) for head in range(3)]
)
by_letter = torch.stack([notices(birch, birch_tokens, (0, head), 3) for head in range(3)])
print("places that each head reads:")
for head in range(3):
    print(f"  L0H{head}:", *(f"{share:.2f}" for share in by_place[head, :-1].tolist()))
plot.imshow(
    by_letter,
    facets=[f"L0H{head}" for head in range(3)],
    x_label="new letter",
    y_label="old letter",
    value_label="share of answers changed",
    scale="positive",
    title="birch: which change each head notices",
)
# %% exercise="explain_birch" points=5 difficulty=4 minutes=60
def explain_birch(question: Question) -> Tensor:
    """The account of birch: letters [row]; for a removal True or False [row]."""
    ### BEGIN SOLUTION
    def count(tokens, letter):
        return (tokens == letter).sum(1)

    ones, twos = count(question.tokens, 1), count(question.tokens, 2)
    removed = question.kind == "remove"  # then they stand for 3 ones, and 5 twos: measured
    if (0, 1) in question.heads:
        ones = torch.full_like(ones, 3) if removed else count(question.source, 1)
    if (0, 2) in question.heads:
        twos = torch.full_like(twos, 5) if removed else count(question.source, 2)
    after = torch.where(ones == twos, ones, ones + 2 * twos) % 5
    return after != question.says if removed else after
    ### END SOLUTION
# %% check="explain_birch"
# %% experiment=True
birch_scores = [mystery.score("birch", explain_birch, seed) for seed in range(5)]
print(birch_scores[0])
print(*(f"  {asked}: {share:.2f}" for asked, share in birch_scores[0].by_question), sep="\n")
# %% [markdown]
# **Predict**: birch reads 3^8 = 6,561 rows, few enough to ask them all. In how many does it say other than your
# account, and which would you try first?
#
# <details><summary>Answer</summary>
#
# In two, if the account has the rule and the blind spot: all 0 and all 2. So a failure that nobody trained, and rows
# of examples show next to nothing of it. Rows of one letter are what to try first.
#
# </details>
# %% experiment=True
rows = torch.cartesian_prod(*[torch.arange(3)] * 8)
asks = birch_tokens[:1, -1:].expand(len(rows), 1)  # the token that asks
every = torch.cat([rows, asks], dim=1)
every_said = says(birch, every)
itself = Question("swap", every, ((0, 0),), every_said, every, every_said)  # changes nothing
every_right = explain_birch(itself) == every_said
sum_right = rows.sum(1) % 5 == every_said
account_right = every_right.double().mean()
print(f"of {len(rows)} rows the account has {every_right.sum()}, sum mod 5 {sum_right.sum()}")
for i in (~every_right).nonzero()[:, 0]:
    print("  not:", *rows[i].tolist(), "->", every_said[i].item())
# %% [markdown]
# ## 8. Open tasks
#
# From here on there are no steps. Each model has a rule, heads that carry something (or nothing), and a blind spot.
# What a head carries may be a letter, a count, or something that only some rows need.
#
# Asked for are 70 points of coral, 80 of dune and ember, 60 of flint. Write your guesses down before you run; keep
# what was wrong. Attack your account before you submit it: swaps of *two* heads, rows that examples never show.
# `mystery.score(...).slips` has a wrong row of each question.
#
# <details><summary>Hint 1</summary>
#
# For each head: which places does it read (`reads_from`), which change of a letter does it notice (`notices`), where
# does it look? Then tables of what the heads carry, with the rest left as it is.
#
# </details>
# <details><summary>Hint 2</summary>
#
# For the blind spot: what do examples never hold? A head that nothing in the examples needs may be there for just that.
# Where all rows are few enough, ask them all, and look at those that leave your rule.
#
# </details>
# %% exercise="explain_coral" points=6 difficulty=4 minutes=120
def explain_coral(question: Question) -> Tensor:
    """The account of coral: letters [row]; for a removal True or False [row]."""
    ### BEGIN SOLUTION
    from concrete_steps.mystery import truth  # sealed: the four of them are yours

    return truth.sealed_account("coral")(question)
    ### END SOLUTION
# %% check="explain_coral"
# %% exercise="explain_dune" points=6 difficulty=4 minutes=120
def explain_dune(question: Question) -> Tensor:
    """The account of dune: letters [row]; for a removal True or False [row]."""
    ### BEGIN SOLUTION
    from concrete_steps.mystery import truth

    return truth.sealed_account("dune")(question)
    ### END SOLUTION
# %% check="explain_dune"
# %% exercise="explain_ember" points=7 difficulty=5 minutes=150
def explain_ember(question: Question) -> Tensor:
    """The account of ember: letters [row]; for a removal True or False [row]."""
    ### BEGIN SOLUTION
    from concrete_steps.mystery import truth

    return truth.sealed_account("ember")(question)
    ### END SOLUTION
# %% check="explain_ember"
# %% exercise="explain_flint" points=8 difficulty=5 minutes=180
def explain_flint(question: Question) -> Tensor:
    """The account of flint: letters [row]; for a removal True or False [row]."""
    ### BEGIN SOLUTION
    from concrete_steps.mystery import truth

    return truth.sealed_account("flint")(question)
    ### END SOLUTION
# %% check="explain_flint"
# %% experiment=True
accounts = {"coral": explain_coral, "dune": explain_dune, "ember": explain_ember}
accounts["flint"] = explain_flint
for name, account in accounts.items():
    print(f"{name:>6}: {mystery.score(name, account, seed=0)}")
# %% [markdown]
# ## 9. The board
#
# Problems for a laptop and this course's models. Nobody wrote their answers down: some may have dull ones.
# `problems.show("latest-copy")` says why one cares, how to start, when it is done, and what would refute the answer.
# %%
problems.board()
# %%
problems.show("latest-copy")
# %% exercise="open_problems" points=1 difficulty=2 minutes=6
def open_problems(
    board: dict[str, problems.Problem], done: set[str], hours: float
) -> list[str]:
    """Ids of the problems that take at most so many hours and need no notebook that is not
    done: those that need most notebooks first, among equals the shorter, then by id.
    """
    ### BEGIN SOLUTION
    fits = [its for its in board.values() if its.hours <= hours and done.issuperset(its.needs)]
    return [its.id for its in sorted(fits, key=lambda its: (-len(its.needs), its.hours, its.id))]
    ### END SOLUTION
# %% check="open_problems"
# %% [markdown]
# ### Your plan
#
# Take one, or write your own, and plan the day. A plan that nothing could refute is no plan: say in your own words
# what you expect to see, what would show that you are wrong, and what you do after an hour without news. The check
# sees form alone: keys, hours, sentences, words of your problem in them (in `expect` and in `falsifier` one, or a
# figure), a null. Whether the plan is good, a friend can tell.
# %% exercise="my_plan" points=2 difficulty=2 minutes=15
my_plan = None  # {"problem": id on the board or a question of your own, "hours": at most 12,
#                  "expect": ..., "falsifier": ..., "null": ..., "if_stuck": ...}
### BEGIN SOLUTION
my_plan = {
    "problem": "latest-copy",
    "hours": 5,
    "expect": "Both models prefer the later follower, and the more so the further the first one lies back.",
    "falsifier": "The share of the later follower is one half, or it does not change with the distance.",
    "null": "Rows in which A stood once and its two followers are drawn at random from the row.",
    "if_stuck": "After an hour I look at attn_only_2l alone, with the two places next to each other.",
}
### END SOLUTION
# %% check="my_plan"
# %% [markdown]
# ## What was found
#
# Five draws of questions for each of the two models that are solved here; beside them, on the same questions, the best
# watcher of outputs, which is the zero. "Changes" are shares of rows.
# %% experiment=True
birch_effects = swap_effects(birch, birch_tokens, birch_source)


def points_row(name: str, scores: list) -> tuple[str, str, str]:
    points = evidence.interval([its.total for its in scores])
    right, zero = (
        evidence.interval([sum(its.values()) / 3 for its in shares])
        for shares in ([its.right for its in scores], [its.watcher for its in scores])
    )
    return f"{name}: points", f"{points:.0f}", f"right {right:.2f}; watcher {zero:.2f}"


def share_of(marks: Tensor) -> str:
    return f"{marks.float().mean():.2f}"


amber_else = amber_reads[2, [0, 2, 3, 4, 5]]
of_amber, of_birch, reads = effects[0], birch_effects[0], amber_reads[2, 1]
ones, twos = by_letter[1, 0], by_letter[2, 0]  # what the two heads notice in place of a 0
findings = [
    ("amber: a swap of L0H2 or L0H0", share_of(of_amber[[2, 0]]), f"L0H1 {of_amber[1]:.2f}"),
    ("amber: L0H2 reads place 1", share_of(reads), f"else {amber_else.max():.2f}"),
    ("amber: sum mod 10", share_of(is_sum[seen == 1]), f"else {share_of(is_sum[seen == 0])}"),
    points_row("amber", amber_scores),
    ("birch: a swap of L0H1 or L0H2", share_of(of_birch[[1, 2]]), f"L0H0 {of_birch[0]:.2f}"),
    ("birch: L0H1, a 1 for a 0", share_of(ones[1]), f"a 2 for a 0 {ones[2]:.2f}"),
    ("birch: L0H2, a 2 for a 0", share_of(twos[2]), f"a 1 for a 0 {twos[1]:.2f}"),
    points_row("birch", birch_scores),
    ("birch: account, on every row", f"{account_right:.4f}", f"sum {share_of(sum_right)}"),
]
for what, value, beside in findings:
    print(f"{what:<31} {value:<16} {beside}")
# %% [markdown]
# What it does not show: that models trained on outputs alone fall into such parts. These were trained to.
#
# **Your account of coral has 95 points. What may you say?**
# (a) the model computes exactly so; (b) so it behaves under such edits; (c) only that its outputs are known
# %% exercise="answer_account" points=1 difficulty=2 minutes=3
answer_account = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_account = "b"
### END SOLUTION
# %% check="answer_account"
# %% [markdown]
# ## Bonus (not graded)
#
# 1. What do the MLPs carry? Swap `hook_mlp_out`, which no rule names.
# 2. Train amber's rule without the swaps (`scripts/train/mystery.py`). Does a head still carry one letter each?
# 3. Take a problem of the board and do it.
# %% [markdown]
# ## Recap
#
# | confusion | what holds |
# |---|---|
# | "I know its rule" | from outside; many insides have the same rule |
# | "The head does nothing" | on these rows; look for those that need it |
# | "It mattered, so it carries the answer" | swap it: the answer may be a third one |
# | "89 % right" | beside the best guess of who only watches |
# | "A day is over, and nothing" | what you predicted wrongly is the result |
#
# Read on: Neel Nanda, *200 Concrete Open Problems in Mechanistic Interpretability* (2022); Geiger et al. 2022,
# *Inducing Causal Structure for Interpretable Neural Networks*; Gupta et al. 2024, *InterpBench*; Lindner et al. 2023,
# *Tracr*; Casper et al. 2023, *Red Teaming Deep Neural Networks with Feature Synthesis Tools*.
