# %% [markdown]
# # 4.4 A map of the field
#
# Sixty topics, each with its source and with what is disputed. You need no depth in most of them: what it is, why one
# would care, when to come back. Read what you do not know, and let a quiz tell you when to stop.
#
# ![A topic is read, a quiz of 20 questions is drawn; with 16 or more right you go on, else you read what was wrong and
# draw anew.](figures/4.4_quiz.svg)
# %% generated="overview"
# %% setup=True
import math

from concrete_steps import topics
# %%
FIELD = topics.load_topics()
NEEDS = {topic.id: list(topic.needs) for topic in FIELD.values()}
HERE = {topic.id for topic in FIELD.values() if topic.here}
years = [topic.year for topic in FIELD.values()]
print(f"{len(FIELD)} topics of {min(years)} to {max(years)}; {len(HERE)} are in this course")
topics.graph()
# %% [markdown]
# ## 1. What comes first
#
# `topics.show("ioi")` shows one topic, `topics.show()` all of them, each with its id. `NEEDS` says by ids what to know
# before each.
# %%
topics.show("ioi")
# %% exercise="everything_before" points=1 difficulty=2 minutes=8
def everything_before(needs: dict[str, list[str]], topic: str) -> set[str]:
    """All that `topic` needs, and all that these need, and so on; not the topic itself."""
    ### BEGIN SOLUTION
    found, waiting = set(), list(needs[topic])
    while waiting:
        needed = waiting.pop()
        if needed not in found:
            found.add(needed)
            waiting += needs[needed]
    return found
    ### END SOLUTION
# %% check="everything_before"
# %% exercise="open_topics" points=1 difficulty=1 minutes=5
def open_topics(needs: dict[str, list[str]], known: set[str]) -> set[str]:
    """Topics that are not known while all that they need directly is: open to be read."""
    ### BEGIN SOLUTION
    return {topic for topic in needs if topic not in known and known.issuperset(needs[topic])}
    ### END SOLUTION
# %% check="open_topics"
# %% exercise="reading_order" points=2 difficulty=3 minutes=15
def reading_order(needs: dict[str, list[str]], goal: str, known: set[str]) -> list[str]:
    """What to read for `goal`, each once, after what it needs; the goal last.

    What is known needs no reading, nor does what only it needed. [] if the goal is known.
    """
    ### BEGIN SOLUTION
    order: list[str] = []

    def visit(topic: str) -> None:
        if topic not in known and topic not in order:
            for needed in needs[topic]:
                visit(needed)
            order.append(topic)

    visit(goal)
    return order
    ### END SOLUTION
# %% check="reading_order"
# %% [markdown]
# **Predict**: the way to which topic is longest, if you know nothing? Is it an old one or a new one?
#
# <details><summary>Answer</summary>
#
# A new one: each newer method stands on older ones. The run says which.
#
# </details>
# %% experiment=True
lengths = {topic: len(everything_before(NEEDS, topic)) for topic in NEEDS}
for topic in sorted(lengths, key=lengths.get)[-3:]:
    way = " > ".join(reading_order(NEEDS, topic, known=set()))
    print(f"{FIELD[topic].name} ({FIELD[topic].year}), {lengths[topic]} before it:\n  {way}")
print("With the course's topics known, you can read:", *sorted(open_topics(NEEDS, HERE)))
# %% [markdown]
# ## 2. What a quiz can show
#
# The guide's criterion is 80 % of the topics. A quiz asks 20 of them, with three options each.
# %% exercise="by_guessing" points=1 difficulty=2 minutes=8
def by_guessing(asked: int, enough: int, options: int) -> float:
    """The probability that a guesser has `enough` or more of `asked` questions right."""
    ### BEGIN SOLUTION
    p = 1 / options
    ways = (math.comb(asked, k) * p**k * (1 - p) ** (asked - k) for k in range(enough, asked + 1))
    return sum(ways)
    ### END SOLUTION
# %% check="by_guessing"
# %% [markdown]
# You had `right` of `asked`. What share would you have right of very many such questions? The **Clopper-Pearson**
# interval leaves out a share if it makes `right` or more, or `right` or fewer, less probable than (1 - level) / 2.
#
# <details><summary>Hint</summary>
#
# The probability of `right` or more rises with the share. Halve the interval [0, 1] until you have the share at which
# it is (1 - level) / 2: the lower end. If nothing was right, the lower end is 0.
#
# </details>
# %% exercise="share_interval" points=2 difficulty=4 minutes=20
def share_interval(right: int, asked: int, level: float = 0.95) -> tuple[float, float]:
    """The Clopper-Pearson interval of a share, both ends to 1e-6 or better."""
    ### BEGIN SOLUTION
    def so_many(share: float, enough: int) -> float:
        ks = range(enough, asked + 1)
        return sum(math.comb(asked, k) * share**k * (1 - share) ** (asked - k) for k in ks)

    def where(enough: int, probability: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if so_many(middle, enough) < probability else (low, middle)
        return low

    tail = (1 - level) / 2
    low = where(right, tail) if right > 0 else 0.0
    high = where(right + 1, 1 - tail) if right < asked else 1.0
    return low, high
    ### END SOLUTION
# %% check="share_interval"
# %% experiment=True
print(f"16 of 20 by guessing: {by_guessing(20, 16, 3):.1e}")
for asked in (20, 100):
    right = round(0.8 * asked)
    low, high = share_interval(right, asked)
    print(f"{right} of {asked}: between {low:.0%} and {high:.0%} of very many such questions")


def of_these(known: int, enough: int) -> float:
    """The probability of `enough` or more in a quiz, which asks no topic twice."""
    n = len(FIELD)
    ways = [math.comb(known, k) * math.comb(n - known, 20 - k) for k in range(enough, 21)]
    return sum(ways) / math.comb(n, 20)


fit = [  # neither 16 or more nor 16 or fewer would be rare
    n
    for n in range(len(FIELD) + 1)
    if of_these(n, 16) >= 0.025 and 1 - of_these(n, 17) >= 0.025
]
print(f"16 of 20: between {fit[0]} and {fit[-1]} of these {len(FIELD)} topics")
known = (0.8 - 1 / 3) / (1 - 1 / 3)
print(f"Who knows {known:.0%} and guesses the rest has 80% right on average")
# %% [markdown]
# **You had 16 of 20 at the first try. What is shown?**
# (a) that you know 80 % of all topics; (b) that you did not guess them all; (c) nothing, as only 20 were asked
# %% exercise="answer_passed" points=1 difficulty=1 minutes=2
answer_passed = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_passed = "b"
### END SOLUTION
# %% check="answer_passed"
# %% [markdown]
# **And 16 of 20 at the tenth try, with other questions each time and nothing read in between?**
# (a) less: it is the best of ten draws; (b) more: ten quizzes were taken; (c) the same: the score is the same
# %% exercise="answer_best_draw" points=1 difficulty=2 minutes=3
answer_best_draw = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_best_draw = "a"
### END SOLUTION
# %% check="answer_best_draw"
# %% [markdown]
# ## 3. What is disputed
#
# Knowing a method is half of it. Which topic speaks against each of these sentences, by what it is or by what is
# disputed about it?
#
# 1. "At layer 5 the logit lens shows nothing, so the answer is not there yet."
# 2. "Our probe reads the tense with 97 %, and random labels at chance, so the model uses tense."
# 3. "Head 7 attends to the name with weight 0.9, so the name is what it moves."
# 4. "The feature 'begins with s' is a classifier of words that begin with s."
# 5. "The edit at layer 6 works, so the fact was stored at layer 6."
# 6. "Ablating the head changes nothing, so it did nothing before."
# 7. "The model wrote its reasons, and they are how it came to the answer."
# 8. "We found *the* algorithm of modular addition."
# %% exercise="objections" points=3 difficulty=3 minutes=25
objections = None  # {1: "id of a topic", 2: ..., 8: ...}
### BEGIN SOLUTION
objections = {
    1: "logit_lens",
    2: "probes",
    3: "attention_as_explanation",
    4: "feature_absorption",
    5: "model_editing",
    6: "self_repair",
    7: "cot_faithfulness",
    8: "two_algorithms",
}
### END SOLUTION
# %% check="objections"
# %% [markdown]
# ## 4. The quiz
#
# The questions ask what was found, where a method ends and what critics say: each topic's page tells it.
#
# Take any number as your seed: it draws your 20 questions. `topics.quiz(SEED).mark("abc...")` says what was wrong, and
# why. Read on, take another seed, until 16 are right. If it took several, draw once more: only that score was not
# waited for.
# %%
SEED = 0
topics.quiz(SEED).show()
# %% exercise="answer_quiz" points=4 difficulty=4 minutes=90
answer_quiz = None  # (seed, letters), such as (7, "abcabcabcabcabcabcab")
### BEGIN SOLUTION
answer_quiz = (SEED, "".join(question.right for question in topics.quiz(SEED).questions))
### END SOLUTION
# %% check="answer_quiz"
# %% experiment=True
seed, letters = answer_quiz
topics.quiz(seed).mark(letters)
# %% [markdown]
# ## Bonus (not graded)
#
# 1. Choose a topic that is not in this course and write five lines that show it on `models.smollm2()`.
# 2. Which topic do you miss? Write it as a row of `topics.toml`, with a source and with what is disputed.
# %% [markdown]
# ## Recap
#
# A method is known with its dispute. A score is a sample, and the best of several scores is not one.
#
# | confusion | what holds |
# |---|---|
# | "I must read it all" | what it is, why, and when to come back: the rest when you need it |
# | "16 of 20 means 80 %" | at a first draw, 56 to 94 % of very many such questions, some of them guessed |
# | "Disputed means wrong" | it means: know the control before you use it |
#
# Read on: each topic's source; Sharkey et al., *Open Problems in Mechanistic Interpretability* (2025).
