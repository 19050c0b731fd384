"""Checks of 4.4 A map of the field: ways through graphs that nobody has seen, scores by scipy, and the quiz itself."""

from scipy.stats import binom, binomtest

from concrete_steps import topics
from concrete_steps.checking.testing import assert_choice, assert_plain, unchanged

# equivalent mutant of everything_before, NotIn -> NotEq: a set takes a name twice as once; only the time grows
# equivalent mutant of share_interval, Gt -> NotEq: no share is below 0 or above all
# equivalent mutant of share_interval, Lt -> NotEq: no share is below 0 or above all
# equivalent mutant of share_interval, Gt -> GtE: at none or all right the search comes to 0 or 1 by itself
# equivalent mutant of share_interval, Lt -> LtE (2x): at all right the search comes to 1; no two shares are equal
# equivalent mutant of share_interval, right -> asked: at none or all right the search comes to 0 or 1 by itself
# equivalent mutant of share_interval, right -> level (2x): at none or all right the search comes to 0 or 1 by itself
# equivalent mutant of share_interval, 0 -> -1: at none or all right the search comes to 0 or 1 by itself
# equivalent mutant of share_interval, 0.0 -> -0.0 (2x): -0.0 is 0.0
# equivalent mutant of share_interval, 0.0 -> -1.0: another start of a search that is exact enough
# equivalent mutant of share_interval, 1.0 -> 2.0: another start of a search that is exact enough
# equivalent mutant of share_interval, 40 -> 41: another start of a search that is exact enough
# equivalent mutant of share_interval, 40 -> 39: another start of a search that is exact enough
# equivalent mutant of share_interval, 1 -> 2: there is no way to choose more than all
# equivalent mutant of objections, drop line objections = None: the line after it sets it

# By number of the sentence, which topics speak against it. 3: OV decides what is moved. 4: names that fit top examples
# can fail on the rest. 5: the paper on illusions explains by them why edits work where a fact is not (rank-1 edits).
OBJECTIONS = {
    1: {"logit_lens", "tuned_lens"},
    2: {"probes"},
    3: {"attention_as_explanation", "qk_ov"},
    4: {"feature_absorption", "auto_interp"},
    5: {"model_editing", "subspace_illusion"},
    6: {"self_repair"},
    7: {"cot_faithfulness"},
    8: {"two_algorithms", "progress_measures"},
}
ENOUGH = 0.8


def drawn(rng, n, share=0.3):
    """What n topics need: each some of those before it in a hidden order. Listed in another order, and in this one."""
    names = [f"topic {number}" for number in rng.permutation(100)[:n].tolist()]
    needs = {
        name: [earlier for earlier in names[:place] if rng.uniform(1).item() < share]
        for place, name in enumerate(names)
    }
    listed = [names[place] for place in rng.permutation(n).tolist()]
    return {name: needs[name] for name in listed}, names


def all_before(needs, topic):
    """By asking again and again, until nothing new comes."""
    found = set(needs[topic])
    while more := {other for name in found for other in needs[name]} - found:
        found |= more
    return found


# --- 1. What comes first


DIAMOND = {"d": ["b", "c"], "b": ["a"], "c": ["a"], "a": [], "e": ["d"], "f": []}
CHAIN = {"s": [], "t": ["s"], "u": ["t"], "v": ["u"], "w": ["v"], "x": ["w"], "y": ["x"]}
NIAHC = dict(reversed(CHAIN.items()))  # one way through the list is not enough in both


def test_everything_before(everything_before, rng):
    """Direct needs, theirs, and so on, in graphs drawn at random."""
    cases = [(DIAMOND, "a"), (DIAMOND, "e"), (CHAIN, "y"), (NIAHC, "y")]
    for needs, topic in [*cases, (drawn(rng, 14)[0], None), (drawn(rng, 9, 0.6)[0], None)]:
        for name in [topic] if topic else needs:
            with unchanged(needs, *needs.values()):
                found = assert_plain(everything_before(needs, name), set)
            expected = all_before(needs, name)
            assert name not in found or name in expected, "the topic itself is in it: it does not need itself"
            assert not found - expected, f"{sorted(found - expected)[0]!r} is in it, which {name!r} does not need"
            missing = expected - found
            assert not missing & set(needs[name]), f"{sorted(missing)[0]!r} is missing, which {name!r} needs directly"
            assert not missing, f"{sorted(missing)[0]!r} is missing: what {name!r} needs has needs of its own"


def test_open_topics(open_topics, rng):
    """Not known, and all that is needed directly is known; nothing known, everything known."""
    cases = [(DIAMOND, {"a", "b"}), (DIAMOND, set()), (DIAMOND, set(DIAMOND)), (DIAMOND, {"d"})]
    needs, names = drawn(rng, 14)
    cases += [(needs, set(names[::2])), (needs, set(names[:7]))]
    for needs, known in cases:
        before = set(known)
        with unchanged(needs, *needs.values()):
            found = assert_plain(open_topics(needs, known), set)
        assert known == before, "your code changes the set of what is known: copy it first"
        assert not found & known, f"{sorted(found & known)[0]!r} is known already"
        for name in sorted(needs):
            lacking = [needed for needed in needs[name] if needed not in known]
            if name in known:
                continue
            if name in found:
                assert not lacking, f"{name!r} is in it, and needs {lacking[0]!r}, which is not known"
            else:
                assert lacking, f"{name!r} is missing, which needs {needs[name]}, with {sorted(known)} known"
        assert found <= set(needs), "a name is in it that is no topic"


def test_reading_order(reading_order, rng):
    """Each after what it needs, all that is needed and nothing else, the goal last."""
    cases = [
        (DIAMOND, "e", set()),
        (DIAMOND, "e", {"d"}),  # what only the known needed is not read
        (DIAMOND, "d", {"b"}),
        (DIAMOND, "a", set()),
        (DIAMOND, "d", {"d"}),
        (CHAIN, "y", {"t"}),
        (NIAHC, "y", {"t"}),
    ]
    for n, share in ((14, 0.3), (9, 0.6)):
        needs, names = drawn(rng, n, share)
        cases += [(needs, names[-1], set()), (needs, names[-2], set(names[1:-2:3]))]
    for needs, goal, known in cases:
        before = set(known)
        with unchanged(needs, *needs.values()):
            order = assert_plain(reading_order(needs, goal, known), list)
        assert known == before, "your code changes the set of what is known: copy it first"
        assert len(set(order)) == len(order), f"something stands in it twice: {order}"
        if goal in known:
            assert order == [], f"the goal is known: there is nothing to read, and you give {order}"
            continue
        again = sorted(set(order) & known)
        assert not again, f"{again[0]!r} is known: it needs no reading"
        assert goal in order, f"the goal {goal!r} is missing"
        assert order[-1] == goal, f"the goal {goal!r} is not the last: {order}"
        for place, name in enumerate(order):
            late = [needed for needed in needs.get(name, ()) if needed not in known and needed not in order[:place]]
            if late:
                where = "comes later" if late[0] in order else "is missing"
                raise AssertionError(f"{name!r} needs {late[0]!r}, which {where}")
        useless = [name for name in order if name != goal and not _needed(needs, name, goal, known)]
        assert not useless, f"{useless[0]!r} is in it, which nothing that is still to read for {goal!r} needs"


def _needed(needs, name, goal, known):
    """Whether a way leads from the goal to `name` over topics that are not known."""
    waiting, seen = [goal], set()
    while waiting:
        for needed in needs[waiting.pop()]:
            if needed not in known and needed not in seen:
                seen.add(needed)
                waiting.append(needed)
    return name in seen


# --- 2. What a quiz can show


def test_by_guessing(by_guessing, rng):
    """The tail of a binomial distribution, its first place included."""
    cases = [(20, 16, 3), (1, 1, 2), (5, 0, 4), (4, 4, 3), (3, 3, 1), (10, 1, 5)]
    cases += [(n := rng.integer(3, 40), rng.integer(1, n), rng.integer(2, 6)) for _ in range(6)]
    for asked, enough, options in cases:
        p = assert_plain(by_guessing(asked, enough, options), float)
        tail = binom.sf(enough - 1, asked, 1 / options)
        assert abs(p - tail) <= 1e-9 + 1e-6 * tail, (
            f"{enough} or more of {asked} with {options} options: expected {tail:.6g}, got {p:.6g}"
        )


def test_share_interval(share_interval, rng):
    """Clopper and Pearson's interval as scipy has it, none and all right included."""
    cases = [(16, 20, 0.95), (0, 8, 0.95), (8, 8, 0.95), (1, 1, 0.9), (0, 1, 0.95), (48, 60, 0.99), (3, 30, 0.5)]
    cases += [(rng.integer(0, n + 1), n, 0.95) for n in (rng.integer(2, 50) for _ in range(5))]
    for right, asked, level in cases:
        ends = share_interval(right, asked, level)
        assert isinstance(ends, tuple) and len(ends) == 2, f"expected two numbers, a tuple; got {ends!r}"
        low, high = (assert_plain(end, float) for end in ends)
        exact = binomtest(right, asked).proportion_ci(level, method="exact")
        assert abs(low - exact.low) < 2e-6, (
            f"{right} of {asked}, level {level}: the lower end is {exact.low:.6f}, you give {low:.6f}"
        )
        assert abs(high - exact.high) < 2e-6, (
            f"{right} of {asked}, level {level}: the upper end is {exact.high:.6f}, you give {high:.6f}"
        )
    assert share_interval(16, 20) == share_interval(16, 20, 0.95), "without a level, it is 0.95"


def test_answer_passed(answer_passed):
    """What 16 of 20 rules out, and what not."""
    assert_choice(answer_passed, "b", "look at both ends of your interval, and at the probability by guessing")


def test_answer_best_draw(answer_best_draw):
    """The best of many draws."""
    assert_choice(answer_best_draw, "a", "think of ten people who know the same, and of the best score among them")


# --- 3. What is disputed


def test_objections(objections):
    """A topic for each of the sentences: seven or more of eight fit."""
    assert isinstance(objections, dict), f"expected a dict, got a {type(objections).__name__}"
    assert set(objections) == set(OBJECTIONS), f"the keys are the numbers 1 to 8, not {list(objections)}"
    known = topics.load_topics()
    for number, topic in objections.items():
        assert isinstance(topic, str), f"{number}: expected one id, a str, got a {type(topic).__name__}"
        assert topic in known, f"{number}: {topic!r} is the id of no topic; topics.show() has each beside its name"
    wrong = [number for number, topic in objections.items() if topic not in OBJECTIONS[number]]
    assert len(wrong) <= 1, f"sentences {wrong}: your topics do not speak against them; seven of eight are to fit"


# --- 4. The quiz


def test_answer_quiz(answer_quiz):
    """80 % of twenty questions, drawn by your seed."""
    assert isinstance(answer_quiz, tuple) and len(answer_quiz) == 2, "expected (seed, letters), in parentheses"
    seed, letters = answer_quiz
    assert_plain(seed, int)
    assert_plain(letters, str)
    quiz = topics.quiz(seed)
    given = "".join(letters.split()).lower()
    assert len(given) == len(quiz.questions), (
        f"there are {len(quiz.questions)} questions and {len(given)} letters: one for each"
    )
    assert set(given) <= {*topics.LETTERS, "-"}, (
        f"{letters!r} holds more than a, b, c, and - for a question that you leave out"
    )
    mark = quiz.mark(letters)
    assert mark.share >= ENOUGH, (
        f"{len(mark.right)} of {len(quiz.questions)} are right, {ENOUGH:.0%} are asked for; "
        f"topics.quiz({seed}).mark(...) says which are not, and why"
    )
