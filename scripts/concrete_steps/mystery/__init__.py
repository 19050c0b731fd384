"""Six small models whose rules are sealed, and points for whoever knows them from the inside (notebook 6.2).

    from concrete_steps import mystery

    model = mystery.load("amber")
    tokens, answers = mystery.examples("amber", rows=512, seed=0)
    mystery.score("amber", account, seed=0)

An account is a function that is asked `Question`s and answers for each row, before the model runs:

"swap": one or two heads get the z (all positions) that they had in another row. Which letter does the model say?
"remove": one head gets the mean of its z over `examples(name, 512, seed=0)`, at each position. Does the letter change?
"breaks": a swap as above, but rows are drawn so that half of the edited runs are in the blind spot. Which letter?

Points are the share of the way from the best baseline to no error: 0 for whoever only watches what the model says. The
edits themselves are not here: to run them on a model is the learner's work.
"""

from concrete_steps.mystery.held import MOST, held
from concrete_steps.mystery.questions import Account, Question, questions
from concrete_steps.mystery.rows import NAMES, examples, load, unusual
from concrete_steps.mystery.scoring import Score, score, watchers

__all__ = [
    "MOST",
    "NAMES",
    "Account",
    "Question",
    "Score",
    "examples",
    "held",
    "load",
    "questions",
    "score",
    "unusual",
    "watchers",
]
