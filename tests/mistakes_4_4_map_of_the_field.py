"""Wrong answers to 4.4 A map of the field, and what each of them is."""

import math

from scipy.stats import beta, binomtest

from concrete_steps import topics
from concrete_steps.checking.mistakes import mistake, right

# --- 1. What comes first


@mistake("stops at what is needed directly: that has needs of its own")
def everything_before(needs, topic):
    return set(needs[topic])


@mistake("goes two steps back and no further")
def everything_before(needs, topic):
    return set(needs[topic]) | {earlier for needed in needs[topic] for earlier in needs[needed]}


@mistake("has the topic itself among what it needs")
def everything_before(needs, topic):
    found = {topic}
    for needed in needs[topic]:
        found |= everything_before(needs, needed)
    return found


@mistake("gives what needs the topic, not what it needs")
def everything_before(needs, topic):
    found = {other for other in needs if topic in needs[other]}
    for other in list(found):
        found |= everything_before(needs, other)
    return found


@mistake("goes through the list once: what is found late has needs that were passed already")
def everything_before(needs, topic):
    found = set(needs[topic])
    for other in needs:
        if other in found:
            found |= set(needs[other])
    return found


@mistake("changes the list that it was given")
def everything_before(needs, topic):
    found = needs[topic]
    for needed in found:
        found += [other for other in needs[needed] if other not in found]
    return set(found)


@mistake("expected a set")
def everything_before(needs, topic):
    return sorted(_before(needs, topic))


def _before(needs, topic):
    found = set(needs[topic])
    for needed in needs[topic]:
        found |= _before(needs, needed)
    return found


@right("by recursion")
def everything_before(needs, topic):
    return set(needs[topic]).union(*(_before(needs, needed) for needed in needs[topic]))


@mistake("asks for one known topic among what is needed, not for all")
def open_topics(needs, known):
    return {topic for topic in needs if topic not in known and (not needs[topic] or known & set(needs[topic]))}


@mistake("lists topics that are known already")
def open_topics(needs, known):
    return {topic for topic in needs if set(needs[topic]) <= known}


@mistake("leaves out topics that need nothing")
def open_topics(needs, known):
    return {topic for topic in needs if topic not in known and needs[topic] and set(needs[topic]) <= known}


@mistake("asks for everything before a topic, too: what is known counts, however it was learnt")
def open_topics(needs, known):
    return {topic for topic in needs if topic not in known and _before(needs, topic) <= known}


@right("by a loop")
def open_topics(needs, known):
    found = set()
    for topic, needed in needs.items():
        if topic not in known and all(one in known for one in needed):
            found.add(topic)
    return found


def _order(needs, goal, known, order=None):
    order = [] if order is None else order
    if goal not in known and goal not in order:
        for needed in needs[goal]:
            _order(needs, needed, known, order)
        order.append(goal)
    return order


@mistake("the order is turned round: the goal comes first")
def reading_order(needs, goal, known):
    return _order(needs, goal, known)[::-1]


@mistake("reads what only a known topic needed")
def reading_order(needs, goal, known):
    return [topic for topic in _order(needs, goal, set()) if topic not in known] if goal not in known else []


@mistake("leaves the goal out")
def reading_order(needs, goal, known):
    return _order(needs, goal, known)[:-1]


@mistake("reads a topic again wherever it is needed")
def reading_order(needs, goal, known):
    if goal in known:
        return []
    return [topic for needed in needs[goal] for topic in reading_order(needs, needed, known)] + [goal]


@mistake("reads what is known, too")
def reading_order(needs, goal, known):
    return _order(needs, goal, set())


@mistake("is in alphabetical order, whatever needs what")
def reading_order(needs, goal, known):
    return sorted(set(_order(needs, goal, known)) - {goal}) + [goal] * (goal not in known)


@right("the unread part of a sort of everything")
def reading_order(needs, goal, known):
    def depth(topic):
        return max((depth(needed) + 1 for needed in needs[topic]), default=0)

    wanted, waiting = set(), [goal]
    while waiting:
        topic = waiting.pop()
        if topic not in known and topic not in wanted:
            wanted.add(topic)
            waiting += needs[topic]
    return sorted(wanted, key=depth)


# --- 2. What a quiz can show


def _exactly(k, n, p):
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@mistake("leaves out the case of exactly that many: 'or more' has it")
def by_guessing(asked, enough, options):
    return float(sum(_exactly(k, asked, 1 / options) for k in range(enough + 1, asked + 1)))


@mistake("gives the probability of exactly that many, not of that many or more")
def by_guessing(asked, enough, options):
    return _exactly(enough, asked, 1 / options)


@mistake("leaves out that the others are wrong, and in which places")
def by_guessing(asked, enough, options):
    return (1 / options) ** enough


@mistake("takes each guess as right half of the time, whatever the options")
def by_guessing(asked, enough, options):
    return float(sum(_exactly(k, asked, 0.5) for k in range(enough, asked + 1)))


@mistake("gives the probability of fewer: 1 minus it is asked for")
def by_guessing(asked, enough, options):
    return float(sum(_exactly(k, asked, 1 / options) for k in range(enough)))


@mistake("leaves out in how many ways so many can be right")
def by_guessing(asked, enough, options):
    p = 1 / options
    return float(sum(p**k * (1 - p) ** (asked - k) for k in range(enough, asked + 1)))


@right("by scipy")
def by_guessing(asked, enough, options):
    return float(binomtest(enough, asked, 1 / options, alternative="greater").pvalue)


def _ends(right, asked, tail):
    low = beta.ppf(tail, right, asked - right + 1) if right else 0.0
    high = beta.ppf(1 - tail, right + 1, asked - right) if right < asked else 1.0
    return float(low), float(high)


@mistake("gives each tail the whole of 1 - level, not half of it")
def share_interval(right, asked, level=0.95):
    return _ends(right, asked, 1 - level)


@mistake("is the normal approximation: the share plus and minus two standard errors")
def share_interval(right, asked, level=0.95):
    p = right / asked
    error = 1.959964 * (p * (1 - p) / asked) ** 0.5
    return max(0.0, p - error), min(1.0, p + error)


@mistake("is Wilson's interval, which is narrower")
def share_interval(right, asked, level=0.95):
    return tuple(float(end) for end in binomtest(right, asked).proportion_ci(level, method="wilson"))


@mistake("takes the upper end from 'right or more' where 'more than right' belongs")
def share_interval(right, asked, level=0.95):
    low, _ = _ends(right, asked, (1 - level) / 2)
    return low, _ends(max(right - 1, 0), asked, (1 - level) / 2)[1] if right < asked else 1.0


@mistake("does not use level")
def share_interval(right, asked, level=0.95):
    return _ends(right, asked, 0.025)


@mistake("gives numbers of answers, not shares")
def share_interval(right, asked, level=0.95):
    low, high = _ends(right, asked, (1 - level) / 2)
    return low * asked, high * asked


@right("by the beta distribution")
def share_interval(right, asked, level=0.95):
    return _ends(right, asked, (1 - level) / 2)


@mistake("the interval of 16 of 20 reaches down to 56 %")
def answer_passed():
    return "a"


@mistake("20 drawn at random do say something: what a guesser would hardly reach")
def answer_passed():
    return "c"


@mistake("each quiz is another sample, and the best of them was chosen")
def answer_best_draw():
    return "b"


@mistake("the score is the same, and its chance is not: ten draws give ten chances to be lucky")
def answer_best_draw():
    return "c"


# --- 3. What is disputed

_FIT = ["logit_lens", "probes", "attention_as_explanation", "feature_absorption"]
_FIT += ["model_editing", "self_repair", "cot_faithfulness", "two_algorithms"]


@mistake("is the id of no topic")
def objections():
    return {number: "the logit lens" for number in range(1, 9)}


@mistake("the keys are the numbers 1 to 8")
def objections():
    return dict(enumerate(_FIT))


@mistake("names the method that each sentence uses, not the topic that speaks against it")
def objections():
    used = ["logit_lens", "probes", "qk_ov", "sparse_autoencoders", "model_editing", "activation_patching"]
    return dict(enumerate([*used, "cot_faithfulness", "grokking"], 1))


@mistake("expected one id, a str")
def objections():
    return dict(enumerate([["logit_lens", "tuned_lens"], *_FIT[1:]], 1))


@right("other topics that speak against the same")
def objections():
    others = ["tuned_lens", "probes", "qk_ov", "auto_interp", "subspace_illusion", *_FIT[5:7], "progress_measures"]
    return dict(enumerate(others, 1))


@right("with one that does not fit")
def objections():
    return dict(enumerate([*_FIT[:4], "activation_patching", *_FIT[5:]], 1))


# --- 4. The quiz


@mistake("expected (seed, letters), in parentheses")
def answer_quiz():
    return "abcabcabcabcabcabcab"


@mistake("one for each")
def answer_quiz():
    return 3, "abc"


@mistake("holds more than a, b, c, and - for a question that you leave out")
def answer_quiz():
    return 3, "abcd" * 5


@mistake("80% are asked for")
def answer_quiz():
    return 3, "a" * topics.ASKED


@right("with spaces, capitals and four left out")
def answer_quiz():
    letters = [question.right.upper() for question in topics.quiz(5).questions]
    return 5, " ".join(letters[:16]) + " - - - -"
