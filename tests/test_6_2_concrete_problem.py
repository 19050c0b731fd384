"""Checks of 6.2 Work on a concrete problem: tools on tiny models of random weights, accounts on fresh questions."""

# equivalent mutant of says, drop USub: of the logits at one position [row, letter] axis 1 is the last
# equivalent mutant of says, 1 -> -1: argmax over axis 1 of two is over the last; the logits of position 1 are rejected
# equivalent mutant of swap_heads, drop names_filter= of run_with_cache: then more is kept than is used
# equivalent mutant of swap_heads, drop .endswith(): then more is kept than is used
# equivalent mutant of swap_heads, drop endswith(...): then more is kept than is used
# equivalent mutant of swap_heads, drop line z = z.clone(): nothing but this hook's output is made of the run's own z
# equivalent mutant of swap_heads, drop .clone(): nothing but this hook's output is made of the run's own z
# equivalent mutant of swap_heads, drop USub: of the logits at one position [row, letter] axis 1 is the last
# equivalent mutant of swap_heads, 1 -> -1: argmax over axis 1 of two is over the last; of position 1 it is rejected
# equivalent mutant of remove_head, drop names_filter= of run_with_cache: then more is kept than is used
# equivalent mutant of remove_head, drop line z = z.clone(): nothing but this hook's output is made of the run's own z
# equivalent mutant of remove_head, drop .clone(): nothing but this hook's output is made of the run's own z
# equivalent mutant of remove_head, drop USub: of the logits at one position [row, letter] axis 1 is the last
# equivalent mutant of remove_head, 1 -> -1 (3x): the last of a pair, or of two axes; of position 1 it is rejected
# equivalent mutant of reads_from, 1 -> -1: axis 1 of two is the last
# equivalent mutant of reads_from, drop .item(): torch.tensor takes tensors of one number as well
# equivalent mutant of reads_from, tokens -> fresh: the two have as many positions; in the other places it is rejected
# equivalent mutant of reads_from, 0.0 -> -0.0: they are equal
# equivalent mutant of best_watcher, swap arguments 0 and 1 of zip: which is called the guess does not matter to ==
# equivalent mutant of best_watcher, drop strict= of zip: a way has one guess for each question
# equivalent mutant of best_watcher, True -> False: a way has one guess for each question
# equivalent mutant of points_for, GtE -> Eq: a share is 1 at most
# equivalent mutant of points_for, 0.0 -> -0.0 (2x): they are equal
# equivalent mutant of points_for, swap arguments 0 and 1 of max: which comes first matters only where they are equal
# equivalent mutant of explain_amber, NotEq -> Lt: points decide, 80 are asked for, and it has 81 to 87 on nine draws
# equivalent mutant of explain_amber, NotEq -> Gt: points decide, 80 are asked for, and it has 82 to 88 on nine draws
# equivalent mutant of notices, 1 -> -1 (2x): axis 1 of two is the last
# equivalent mutant of explain_birch, swap arguments 0 and 1 of count (4x): either side of == may stand left
# equivalent mutant of explain_birch, 1 -> -1: the sum's axis 1 of two is the last; a letter or a head of -1 is rejected
# equivalent mutant of explain_birch, NotEq -> Gt: points decide, 80 are asked for, and it has 82 to 87 on nine draws
# equivalent mutant of explain_birch, 3 -> 4: points decide, 80 are asked for, and it has 80 to 85 on nine draws
# equivalent mutant of explain_birch, 3 -> 2: points decide, 80 are asked for, and it has 88 to 95 on nine draws
# equivalent mutant of explain_birch, 3 -> -3: points decide, 80 are asked for, and it has 86 to 92 on nine draws
# equivalent mutant of explain_birch, 5 -> 6: points decide, 80 are asked for, and it has 89 to 93 (% 6 is rejected)
# equivalent mutant of explain_birch, 5 -> 4: points decide, 80 are asked for, and it has 89 to 95 (% 4 is rejected)
# equivalent mutant of explain_birch, 5 -> -5: modulo 5 the same answer, also where ones are 5 (% -5 is rejected)
# equivalent mutant of my_plan, drop line my_plan = None: the line after it sets it
# equivalent mutant of my_plan, 5 -> 6: a day of 6 hours is as good
# equivalent mutant of my_plan, 5 -> 4: a day of 4 hours is as good

import functools
import re

import pytest
import torch

from concrete_steps import mystery, problems
from concrete_steps.checking.testing import (
    as_found,
    assert_choice,
    assert_close,
    assert_plain,
    assert_tensor,
    bent_bridge,
    nothing_left_behind,
    unchanged,
)
from concrete_steps.errors import CourseError

POINTS = {"amber": 80, "birch": 80, "coral": 70, "dune": 80, "ember": 80, "flint": 60}
DRAWS = 4  # of questions: they are kept, so that many answers can be tried in the time of a few


tiny = functools.partial(bent_bridge, d_vocab=6, heads_matter=1.5)


@torch.no_grad()
def letters_of(model, tokens, wanted=None):
    """[row] the likeliest letter where these heads' z is what `wanted` {(layer, head): [row pos d_head]} says."""
    hooks = []
    for (layer, head), new in (wanted or {}).items():

        def put(z, hook, head=head, new=new):
            z = z.clone()
            z[:, :, head] = new
            return z

        hooks.append((f"blocks.{layer}.attn.hook_z", put))
    return model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1].argmax(-1)


@torch.no_grad()
def z_of(model, tokens):
    """By head (layer, head), its z [row pos d_head] in the untouched run."""
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_z"))
    layers, heads = range(model.cfg.n_layers), range(model.cfg.n_heads)
    return {(layer, head): cache["z", layer][:, :, head] for layer in layers for head in heads}


def after_swap(model, tokens, source, heads):
    theirs = z_of(model, source)
    return letters_of(model, tokens, {head: theirs[head] for head in heads})


def same_letters(given, expected, said):
    given = assert_tensor(given, shape=tuple(expected.shape), dtype=torch.int64)
    assert torch.equal(given, expected), (
        f"{said}: expected the letters {expected[:8].tolist()}, got {given[:8].tolist()}"
        f"{' (the first eight)' if len(expected) > 8 else ''}"
    )


# --- 1. From outside


def test_says(says, rng):
    """The likeliest letter at the last position; one row, one position, many."""
    for model, rows, pos in [(tiny(2, 2), 5, 4), (tiny(3, 3), 1, 6), (tiny(2, 2), 30, 1), (tiny(3, 3), 40, 5)]:
        tokens = rng.integers(0, 6, rows, pos)
        with as_found(model, tokens):
            given = says(model, tokens)
        same_letters(given, letters_of(model, tokens), f"{rows} rows of {pos} tokens")


# --- 2. Swap a part


def test_swap_heads(swap_heads, rng):
    """These heads, of one layer or several, have z of the source's untouched run at all positions; no other has."""
    cases = [
        (tiny(2, 2), 40, 4, [(1, 0)]),
        (tiny(2, 2), 40, 5, [(0, 1)]),
        (tiny(3, 3), 40, 4, [(0, 2), (0, 0)]),
        (tiny(3, 3), 40, 6, [(2, 1), (0, 1)]),
        (tiny(3, 3), 40, 4, [(0, 2), (1, 0)]),
        (tiny(2, 2), 40, 3, []),
        (tiny(2, 2), 1, 4, [(0, 0)]),
    ]
    for model, rows, pos, heads in cases:
        tokens, source, given = rng.integers(0, 6, rows, pos), rng.integers(0, 6, rows, pos), list(heads)
        with as_found(model, tokens, source, given):
            after = swap_heads(model, tokens, source, given)
        same_letters(after, after_swap(model, tokens, source, heads), f"{rows} rows, heads {heads} swapped")


def test_swap_effects(swap_effects, rng):
    """Shares of changed letters, each head alone, among rows that differ from their source's letter."""
    for model, rows, pos in [(tiny(2, 2), 60, 4), (tiny(3, 3), 50, 5), (tiny(2, 3), 40, 3)]:
        tokens, source = rng.integers(0, 6, rows, pos), rng.integers(0, 6, rows, pos)
        before = letters_of(model, tokens)
        apart = before != letters_of(model, source)
        n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
        expected = torch.tensor(
            [
                [
                    (after_swap(model, tokens, source, [(layer, head)]) != before)[apart].float().mean()
                    for head in range(n_heads)
                ]
                for layer in range(n_layers)
            ]
        )
        with as_found(model, tokens, source):
            shares = swap_effects(model, tokens, source)
        shares = assert_tensor(shares, shape=(n_layers, n_heads), dtype=torch.float32)
        assert_close(
            shares,
            expected,
            f"{rows} rows, of which {int(apart.sum())} count: entry [layer, head] is not the share that changes",
            atol=1e-4,
        )


def test_answer_idle(answer_idle):
    """What no change on examples shows."""
    assert_choice(answer_idle, "c", "which rows were looked at, and which not?")


# --- 3. Remove a part


def test_remove_head(remove_head, rng):
    """The mean over the reference's rows, at each position, for that head alone."""
    cases = [(tiny(2, 2), 40, 4, (1, 1)), (tiny(2, 2), 40, 5, (0, 0)), (tiny(3, 3), 40, 6, (0, 2))]
    for model, rows, pos, head in [*cases, (tiny(3, 3), 1, 4, (1, 0)), (tiny(2, 2), 40, 4, (0, 1))]:
        tokens, reference = rng.integers(0, 6, rows, pos), rng.integers(0, 3, 7, pos)
        mean = z_of(model, reference)[head].mean(0)
        with as_found(model, tokens, reference):
            after = remove_head(model, tokens, reference, head)
        same_letters(after, letters_of(model, tokens, {head: mean}), f"{rows} rows, {head} removed")


# --- 4. What does a head read?


def test_reads_from(reads_from, rng):
    """The source differs in one position; the head alone is swapped; rows with the same letter there do not count."""
    cases = [(tiny(2, 2), 60, 4, (0, 1)), (tiny(3, 3), 50, 5, (1, 2)), (tiny(2, 2), 50, 3, (1, 0))]
    for model, rows, pos, head in cases:
        tokens, fresh = rng.integers(0, 6, rows, pos), rng.integers(0, 6, rows, pos)
        fresh[:, -1] = tokens[:, -1]  # no row counts there
        before, expected = letters_of(model, tokens), torch.zeros(pos)
        for place in range(pos - 1):
            source = tokens.clone()
            source[:, place] = fresh[:, place]
            counts = tokens[:, place] != fresh[:, place]
            expected[place] = (after_swap(model, tokens, source, [head]) != before)[counts].float().mean()
        with as_found(model, tokens, fresh):
            shares = reads_from(model, tokens, fresh, head)
        shares = assert_tensor(shares, shape=(pos,), dtype=torch.float32)
        assert_close(
            shares,
            expected,
            f"{rows} rows of {pos}, head {head}: entry [pos] is not the share of counted rows that change",
            atol=1e-4,
        )


def with_a_tie(rng, model, places, letters):
    """Two rows that, for some pair at these places, say one letter each, the higher first."""
    while True:
        tokens = rng.integers(0, 6, 2, 5)
        put = tokens.repeat(letters * letters, 1, 1)
        put[:, :, places] = torch.cartesian_prod(torch.arange(letters), torch.arange(letters))[:, None]
        first, second = letters_of(model, put.flatten(0, 1)).view(-1, 2).T
        if (first > second).any():
            return tokens


def test_answer_table(answer_table, rng):
    """Every pair at the two places of all rows, whichever comes first; what most rows say, and their share; ties."""
    letters = 4
    for model, rows, pos, places in [
        (tiny(2, 2), 9, 4, (0, 2)),
        (tiny(3, 3), 8, 5, (3, 1)),
        (tiny(2, 2), 1, 3, (0, 1)),
        (tiny(3, 3), 2, 5, (3, 1)),
    ]:
        tokens = with_a_tie(rng, model, places, letters) if rows == 2 else rng.integers(0, 6, rows, pos)
        with as_found(model, tokens):
            result = answer_table(model, tokens, places, letters)
        assert isinstance(result, tuple | list) and len(result) == 2, "return two tensors: letters and shares"
        said = assert_tensor(result[0], shape=(letters, letters), dtype=torch.int64)
        share = assert_tensor(result[1], shape=(letters, letters), dtype=torch.float32)
        for first in range(letters):
            for second in range(letters):
                put = tokens.clone()
                put[:, places[0]], put[:, places[1]] = first, second
                counts = torch.bincount(letters_of(model, put))
                most = int(torch.nonzero(counts == counts.max())[0])
                where = f"{first} at place {places[0]} and {second} at place {places[1]} of {rows} rows"
                assert int(said[first, second]) == most, (
                    f"{where}: the model says {most} most often, you have {int(said[first, second])}"
                )
                expected = int(counts.max()) / rows
                assert abs(float(share[first, second]) - expected) < 1e-4, (
                    f"{where}: {expected:.3f} of them say so, you have {float(share[first, second]):.3f}"
                )


# --- 5. Questions


def test_best_watcher(best_watcher, rng):
    """The mean of the questions' shares decides, letters or truth values, questions of different length."""
    cases = [{"long": ([1, 1, 1, 1, 1, 1, 1, 0], [0, 0]), "even": ([1, 1, 1, 1, 1, 0, 0, 0], [1, 1])}]
    cases.append({"first": ([1, 0, 1], [1, 0]), "poor": ([0, 0, 0], [0, 0]), "second": ([0, 1, 1], [0, 1])})  # a tie
    for sizes in ((3, 20, 7), (5,), (40, 2)):
        ways = ("says", "source", "half")
        cases.append({way: tuple((rng.uniform(n) < 0.5).int().tolist() for n in sizes) for way in ways})
    for number, rights in enumerate(cases):
        sizes = [len(its) for its in next(iter(rights.values()))]
        truths = [rng.integers(0, 5, n) if number % 2 == 0 else rng.uniform(n) < 0.5 for n in sizes]
        guesses = {}
        for way, marks in rights.items():
            wrong = [(t + 1) % 5 if t.dtype == torch.int64 else ~t for t in truths]
            guesses[way] = [
                torch.where(torch.tensor(mark) == 1, t, w) for mark, t, w in zip(marks, truths, wrong, strict=True)
            ]
        means = {way: sum(sum(mark) / len(mark) for mark in marks) / len(marks) for way, marks in rights.items()}
        with unchanged(guesses, truths):
            result = best_watcher(guesses, truths)
        assert isinstance(result, tuple | list) and len(result) == 2, "return two things: the way, and its share"
        way, share = result
        assert way in guesses, f"{way!r} is none of the ways {list(guesses)}"
        said = f"questions of {sizes} rows, shares { ({w: round(m, 3) for w, m in means.items()}) }"
        assert abs(means[way] - max(means.values())) < 1e-6, f"{said}: the best is not {way!r}"
        assert abs(assert_plain(share, float) - means[way]) < 1e-5, f"{said}: {way!r} does not have {share:.3f}"


def test_points_for(points_for, rng):
    """From the watcher (0) to no error (100), never below 0, also where the watcher makes no error."""
    cases = [(0.8, 0.6, 50.0), (1.0, 0.3, 100.0), (0.4, 0.5, 0.0), (0.5, 0.5, 0.0), (1.0, 1.0, 0.0), (0.9, 1.0, 0.0)]
    for _ in range(4):
        watcher = rng.uniform(1, high=0.9).item()
        right = watcher + (1 - watcher) * rng.uniform(1).item()
        cases.append((right, watcher, 100 * (right - watcher) / (1 - watcher)))
    for right, watcher, expected in cases:
        given = assert_plain(points_for(right, watcher), float)
        assert abs(given - expected) < 1e-3, (
            f"right {right:.3f}, watcher {watcher:.3f}: expected {expected:.2f} points, got {given:.2f}"
        )


def test_answer_points(answer_points):
    """The share of the way."""
    assert_choice(answer_points, "a", "how far is it from the watcher to 1, and how much of that was gone?")


# --- 6. and 7. Mini-projects


NOTHING = "says that no edit changes anything"
EVERYTHING = "takes every edited head for one that carries the whole answer"


ASK = {
    "swap": "what does each head carry",
    "remove": "what does the mean of a head's z stand for",
    "breaks": "what does it say in its blind spot, and which edits lead there",
}


def judged(name, account, rng):
    """The account has enough points on fresh questions; else what it predicts worst is said."""
    seed, enough = 1000 + rng.integer(0, DRAWS), POINTS[name]
    try:
        with nothing_left_behind():
            score = mystery.score(name, account, seed)
    except CourseError as problem:
        raise AssertionError(str(problem)) from None
    worst = sorted(zip(score.by_question, score.slips, strict=True), key=lambda its: its[0][1])[:3]
    # What breaks a model is a swap, too: who does not know what heads carry needs that first.
    begin = "swap" if score.points["swap"] < 20 else min(score.points, key=score.points.get)
    assert score.total >= enough, (
        f"your account {sort_of(account, name, seed, score.total)}: {score.total:.0f} points, {enough} are asked for; "
        + "by kind "
        + ", ".join(f"{kind} {points:.0f}" for kind, points in score.points.items())
        + f". Begin with {begin!r}: {ASK[begin]}? Predicted worst: "
        + ", ".join(f"{asked} ({share:.0%} of rows)" for (asked, share), _ in worst)
        + (f". A row of the worst: {worst[0][1]}" if worst[0][1] else "")
    )


def sort_of(account, name, seed, total):
    """What an account does that looks at nothing inside; or that it has too little."""
    noted = [(question, account(question)) for question in mystery.questions(name, seed)]
    swaps = [(question, said) for question, said in noted if question.kind != "remove"]
    others = [said for question, said in noted if question.kind == "remove"]
    if all((said == its.says).all() for its, said in swaps) and not any(said.any() for said in others):
        return NOTHING
    if all((said == its.source_says).all() for its, said in swaps) and all(said.all() for said in others):
        return EVERYTHING
    return "beats watching by too little" if total > 0 else "does not beat watching"


@pytest.mark.seconds(120)
def test_explain_amber(explain_amber, rng):
    """Swaps, removals and its blind spot, predicted without running it: 80 points over the best watcher."""
    judged("amber", explain_amber, rng)


def test_notices(notices, rng):
    """The first such letter of each row that has one is another in the source; the head alone is swapped."""
    for model, rows, pos, head in [
        (tiny(2, 2), 60, 5, (0, 1)),
        (tiny(3, 3), 50, 6, (1, 0)),
        (tiny(2, 2), 9, 4, (1, 1)),
    ]:
        letters = 4
        tokens = rng.integers(0, letters - (rows == 9), rows, pos)  # once no row has the last letter
        before, expected = letters_of(model, tokens), torch.zeros(letters, letters)
        for old in range(letters):
            for new in range(letters):
                source, holds = tokens.clone(), (tokens == old).any(1)
                if old == new or not holds.any():
                    continue
                for i in holds.nonzero()[:, 0].tolist():
                    source[i, source[i].tolist().index(old)] = new
                expected[old, new] = (after_swap(model, tokens, source, [head]) != before)[holds].float().mean()
        with as_found(model, tokens):
            shares = notices(model, tokens, head, letters)
        shares = assert_tensor(shares, shape=(letters, letters), dtype=torch.float32)
        assert_close(
            shares,
            expected,
            f"{rows} rows of {pos}, head {head}: entry [old, new] is not the share of rows with an `old` that change",
            atol=1e-4,
        )


@pytest.mark.seconds(120)
def test_explain_birch(explain_birch, rng):
    """Swaps, removals and its blind spot, predicted without running it: 80 points over the best watcher."""
    judged("birch", explain_birch, rng)


# --- 8. Open tasks


@pytest.mark.seconds(120)
def test_explain_coral(explain_coral, rng):
    """Swaps, removals and its blind spot, predicted without running it: 70 points over the best watcher."""
    judged("coral", explain_coral, rng)


@pytest.mark.seconds(120)
def test_explain_dune(explain_dune, rng):
    """Swaps, removals and its blind spot, predicted without running it: 80 points over the best watcher."""
    judged("dune", explain_dune, rng)


@pytest.mark.seconds(120)
def test_explain_ember(explain_ember, rng):
    """Swaps, removals and its blind spot, predicted without running it: 80 points over the best watcher."""
    judged("ember", explain_ember, rng)


@pytest.mark.seconds(120)
def test_explain_flint(explain_flint, rng):
    """Swaps, removals and its blind spot, predicted without running it: 60 points over the best watcher."""
    judged("flint", explain_flint, rng)


# --- 9. The board


def a_board(rng, n):
    """Problems with needs and hours drawn at random; many of one length."""
    notebooks = ["1.2", "3.2", "3.4", "3.5"]
    made = {}
    for number in rng.permutation(n).tolist():
        needs = tuple(key for key in notebooks if rng.uniform(1).item() < 0.4) or ("3.2",)
        key = f"p{number:02d}"
        made[key] = problems.Problem(key, "?", "", "", "", "", ("smollm2",), needs, rng.integer(4, 8))
    return made


def test_open_problems(open_problems, rng):
    """All of what is needed is done, the hours suffice, to the hour; in the order that the text says."""
    cases = [(problems.load_problems(), {"3.2", "3.4", "4.3"}, 8)]
    cases += [(a_board(rng, 20), done, hours) for done, hours in [({"3.2", "3.4"}, 6), ({"1.2", "3.2", "3.5"}, 5.5)]]
    cases += [(a_board(rng, 12), {"1.2", "3.2", "3.4", "3.5"}, 7), (a_board(rng, 5), set(), 9)]
    for board, done, hours in cases:
        before = set(done)
        with unchanged(board):
            given = assert_plain(open_problems(board, done, hours), list)
        assert done == before, "your code changes the set of what is done: copy it first"
        expected = [key for key, its in board.items() if its.hours <= hours and set(its.needs) <= done]
        for key in given:
            assert key in board, f"{key!r} is the id of no problem on this board"
            assert key in expected, (
                f"{key!r} is in it, which takes {board[key].hours} hours of {hours} and needs {board[key].needs}; "
                f"done is {sorted(done)}"
            )
        missing = [key for key in expected if key not in given]
        assert not missing, (
            f"{missing[0]!r} is missing: it takes {board[missing[0]].hours} hours of {hours} and needs "
            f"{board[missing[0]].needs}; done is {sorted(done)}"
        )
        in_order = sorted(expected, key=lambda key: (-len(board[key].needs), board[key].hours, key))
        assert given == in_order, f"the order is another: expected {in_order[:4]} first, got {given[:4]}"


BOARD_TERMS, OWN_TERMS = 3, 2  # words of the problem that a plan has to use: on the board, or a question of one's own
COMMON, EVERYDAY = 0.25, 0.4  # words in more of the board's problems than this share are of no problem; of no question


def stems(text, without=frozenset()):
    """The first four letters of each word of three letters or more; "copies" begins as "copy" does, LayerNorm is 2."""
    words = re.findall(r"[^\W\d_]{3,}", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower())
    return [word[:4].replace("y", "i") for word in words if not {word, word.removesuffix("s")} & without]


def terms_of(chosen, board, without=frozenset()):
    """Beginnings of the words that are this problem's own: few problems of the board have them."""
    texts = {key: " ".join(vars(its)[part] for part in PARTS) for key, its in board.items()}
    whole = {key: set(stems(text)) for key, text in texts.items()}
    if chosen in board:
        own, most = set(stems(texts[chosen], without)), COMMON
    else:
        own, most = {it for it in stems(chosen, without) if len(it) > 3}, EVERYDAY
    return {word for word in own if sum(word in its for its in whole.values()) <= most * len(whole)}


# Words that say nothing of a problem, however few problems use them: "read", but not "reading"
FILLERS = set(
    re.findall(
        r"\w+",
        "about after again alone also always another any before both down each either else ever find found from good "
        "have having here interesting into just like liked many may more most much must never nobody none not often "
        "once one only other own perhaps read really result say said same see seen show showed shown some something "
        "still such than that the then there thing this those though too turn turned under use used using very way "
        "well what whatever when where whether which who whose will with work worked would write written yes "
        "you your",
    )
)
DENIES = r"(needed|necessary|applicable|required)\b"
NONE_OF = "(null|control|baseline)s?"
NO_NULL = re.compile(  # said of the null as a whole: "heads that are not needed" are one
    r"^\W*(my null:\s*)?("
    r"((there('s| is| are)|(I|we) (have|need|see|use)|(it|this|my|the)( (problem|question|plan))? (has|needs)) )?"
    rf"(no {NONE_OF}(?=\s*([.,;:!]|$)|( is| was)? {DENIES}| for this| at all)|without (a|any) {NONE_OF}\s*([.;!]|$))"
    rf"|(none|not)( (is|was|here))? {DENIES}|none(?=\s*([.,;!]|$))|no need (for|of) (a|any) {NONE_OF}"
    rf"|(I|we) (do not|don't|did not|didn't) (need|have|use|want) (a|any) {NONE_OF}"
    rf"|((I think|as) )?(a|any|the|my) {NONE_OF}( here)? (is not|isn't) {DENIES})",
    re.IGNORECASE,
)
CLAUSE = re.compile(r"[.;:?!](?:\s|$)")


def plain(text):
    return " ".join(re.findall(r"\w+", text.lower()))


PARTS = ("question", "why", "start", "done_when", "falsifier")
PLAN = {"problem", "hours", "expect", "falsifier", "null", "if_stuck"}


def test_my_plan(my_plan):
    """The form of a plan: problem, hours, and sentences of your own in the problem's terms; not whether it is good."""
    assert isinstance(my_plan, dict), f"expected a dict, got {type(my_plan).__name__}"
    assert set(my_plan) == PLAN, f"the keys are {sorted(PLAN)}; yours are {sorted(map(str, my_plan))}"
    for key in PLAN - {"hours"}:
        assert_plain(my_plan[key], str)
    hours = my_plan["hours"]
    assert isinstance(hours, int | float) and not isinstance(hours, bool), "hours are a number"
    assert 0 < hours <= 12, f"{hours} hours are no day: at most 12, or make the question smaller"
    board = problems.load_problems()
    chosen = my_plan["problem"].strip()
    assert chosen in board or (chosen.endswith("?") and len(chosen.split()) >= 5), (
        f"{chosen!r} is neither an id on the board nor a question (five words or more, and a question mark)"
    )
    texts = {key: my_plan[key].strip() for key in ("expect", "falsifier", "null", "if_stuck")}
    for key, text in texts.items():
        its_words = [word for word in text.lower().split() if any(map(str.isalnum, word))]
        assert len(its_words) >= 6, f"{key!r} has {len(its_words)} words: a sentence is asked for"
        different = len({word for word in its_words if any(map(str.isalpha, word))})
        assert different >= 4, f"{key!r} has only {different} different words: a sentence is asked for"
    assert len({plain(text) for text in texts.values()}) == len(texts), "two entries say the same"
    asks = texts["expect"].endswith("?") and not re.search(r"[.!;:]\s", texts["expect"])
    assert not asks, "'expect' is a question: say what you expect to see"
    assert not NO_NULL.search(texts["null"]), (
        "'null' says that there is none: where would the same measure find nothing, if you are right?"
    )
    if chosen in board:
        printed = [plain(part) for text in (vars(board[chosen])[part] for part in PARTS) for part in CLAUSE.split(text)]
        whole = plain(" ".join(vars(board[chosen])[part] for part in PARTS))
        for key, text in ((key, plain(text)) for key, text in texts.items()):
            copied = sum(len(part.split()) for part in printed if part in text and len(part.split()) >= 6)
            word_for_word = text in whole or 2 * copied > len(text.split())
            assert not word_for_word, f"{key!r} stands on the board word for word: say it in your own words"
    terms = terms_of(chosen, board)
    used = sorted(terms & set(stems(" ".join(texts[key] for key in ("expect", "falsifier", "null")))))
    enough = min(BOARD_TERMS if chosen in board else OWN_TERMS, len(terms))
    assert len(used) >= enough, (
        f"'expect', 'falsifier' and 'null' use {len(used)} words that are this problem's own, {enough} are asked for: "
        "say what you expect of *this* problem, in its terms"
    )
    telling = terms_of(chosen, board, FILLERS)
    for key, says in (("expect", "what you expect"), ("falsifier", "what would show that you are wrong")):
        says_something = telling & set(stems(texts[key], FILLERS)) or re.search(r"\d", texts[key])
        assert says_something or not telling, (
            f"{key!r} has neither a word of this problem nor a figure: say {says}, in its terms"
        )


def test_answer_account(answer_account):
    """What points over a watcher show."""
    assert_choice(answer_account, "b", "what was tested: outputs, edits, or each step of a computation?")
