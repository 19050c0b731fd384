"""A round: what a process that grades says, from its start until it is done, dies, falls silent, or time is up."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from concrete_steps.checking.outcomes import ERROR, PASSED, Result
from concrete_steps.grading.words import Words

IMPORTING = 120.0  # seconds that a process may need before it is ready
CHANGED = "Something in this notebook changes how checks work: here they pass a known wrong answer too."


@dataclass
class Round:
    """What came of one process's work.

    Attributes:
        results: by exercise.
        doubts: why an exercise cannot be judged from outside, by its name.
        process: the id that it gave itself, if it began.
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


def listen(words: Words, patience: float, left: float) -> Round:
    """Note what is said, to the end.

    Args:
        patience: seconds that may pass between two words.
        left: seconds for all; what is imported before the word "ready" is nobody's time.
    """
    done = Round()
    end = deadline = time.monotonic() + patience + IMPORTING
    while (word := words.next(min(deadline, end))) not in ("died", "silent"):
        deadline = time.monotonic() + patience
        if word["kind"] == "ready":
            done.process, end = word["process"], time.monotonic() + left
            continue
        done.at = (word["kind"], word.get("name", ""))
        if word["kind"] == "result":
            result = Result(**word["result"])
            if "wrong_answers" in word:
                result = confirmed(result, word["wrong_answers"])
            done.results[result.exercise] = result
            if word.get("doubt"):
                done.doubts[result.exercise] = word["doubt"]
        elif word["kind"] == "done":
            word = "done"
            break
    done.how = word
    done.seconds = time.monotonic() - (end - left)
    return done


def confirmed(result: Result, wrong_answers: list[str]) -> Result:
    """The result, trusted; but a pass only if the check still rejects every wrong answer that it was shown."""
    result.proven = False
    if result.outcome == PASSED and (not wrong_answers or PASSED in wrong_answers):
        return Result(result.exercise, ERROR, message=CHANGED)
    return result
