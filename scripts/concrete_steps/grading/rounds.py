"""A round: what a process that grades says, from its start until it is done, dies, falls silent, or time is up."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields

from concrete_steps.checking.outcomes import ERROR, GRAVITY, PASSED, Result
from concrete_steps.grading.words import Words

IMPORTING = 120.0  # seconds that a process may need before it is ready
CHANGED = "Something in this notebook changes how checks work: here they pass a known wrong answer too."
TEXTS = {"exercise", "message", "case", "mistake", "where", "again"}


@dataclass
class Round:
    """What came of one process's work.

    Attributes:
        results: by exercise.
        doubts: why an exercise cannot be judged from outside, by its name.
        process: the id that it gave itself, if it began; of one in a sandbox, whatever it says.
        at: where it was when it ended, as (kind, name).
        how: "done", "died" or "silent".
        seconds: that it took, without imports.
    """

    results: dict[str, Result] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)
    process: int | None = None
    at: tuple[str, str] = ("start", "")
    how: str = "died"
    seconds: float = 0.0


def listen(words: Words, done: Round, patience: float, left: float, *, trusted: bool) -> None:
    """Note what is said, to the end. A word that makes no sense counts as not said.

    Args:
        patience: seconds that may pass between two words.
        left: seconds for all; what is imported before the word "ready" is nobody's time.
        trusted: the learner's code is in the process that speaks: it may know the nonce, and say anything.
    """
    began, end = None, time.monotonic() + patience + IMPORTING
    deadline = end
    while (word := words.next(min(deadline, end))) not in ("died", "silent"):
        deadline = time.monotonic() + patience
        kind, name = word.get("kind"), word.get("name", "")
        if kind == "ready":
            if began is None and isinstance(word.get("process"), int):
                done.process, began = word["process"], time.monotonic()
                end = began + left
        elif kind == "done":
            word = "done"
            break
        elif kind in ("cell", "loaded", "check", "result") and isinstance(name, str):
            done.at = (kind, name)
            result = _result(word.get("result")) if kind == "result" else None
            if result is not None:
                done.results[result.exercise] = confirmed(result, word.get("wrong_answers")) if trusted else result
                if word.get("doubt") and not trusted:
                    done.doubts[result.exercise] = word["doubt"]
    done.how = word
    done.seconds = 0.0 if began is None else time.monotonic() - began


def confirmed(result: Result, wrong_answers: object) -> Result:
    """The result, trusted; but a pass only if the check still rejects every wrong answer that it was shown."""
    result.proven = False
    if result.outcome == PASSED:
        rejects = isinstance(wrong_answers, list) and wrong_answers and PASSED not in wrong_answers
        return result if rejects else Result(result.exercise, ERROR, message=CHANGED)
    return result


def _result(facts: object) -> Result | None:
    """The result that these facts tell, or None."""
    if not isinstance(facts, dict) or not facts.keys() <= {each.name for each in fields(Result)}:
        return None
    verified, seed = facts.get("verified", []), facts.get("seed")
    if not all(isinstance(facts.get(name, ""), str) for name in TEXTS) or not facts.get("exercise"):
        return None
    if not (isinstance(verified, list) and all(isinstance(text, str) for text in verified)):
        return None
    if facts.get("outcome") not in GRAVITY or not isinstance(seed, int | None) or facts.get("call") is not None:
        return None
    return Result(**facts | {"proven": facts.get("proven") is True})
