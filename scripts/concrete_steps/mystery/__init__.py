"""Six small models whose rules are sealed, and points for whoever knows them from the inside (notebook 6.2).

    from concrete_steps import mystery

    model = mystery.load("amber")
    tokens, answers = mystery.examples("amber", rows=512, seed=0)
    mystery.score("amber", account, seed=0)

An account is a function that is asked `Question`s and answers for each row, before the model runs:

"swap": one or two heads get the z (all positions) that they had in another row. Which letter does the model say?
"remove": one head gets the mean of its z over `examples(name, 512, seed=0)`, at each position. Does the letter change?
"breaks": nothing is edited. Does the model say another letter than the rule that all examples follow?

Points are the share of the way from the best baseline to no error: 0 for whoever only watches what the model says.
"""

from concrete_steps.mystery.edits import answers, mean_z, removed, swapped
from concrete_steps.mystery.questions import Account, Question, questions
from concrete_steps.mystery.rows import NAMES, examples, load, unusual
from concrete_steps.mystery.scoring import Score, score, watchers

__all__ = [
    "NAMES",
    "Account",
    "Question",
    "Score",
    "answers",
    "examples",
    "load",
    "mean_z",
    "questions",
    "removed",
    "score",
    "swapped",
    "unusual",
    "watchers",
]
