"""A board of small open problems for a laptop and this course's models (problems.toml), for notebook 6.2.

problems.board()                  # all of them, as a table
problems.show("sink")             # one, with its start, when it is done, and what would refute it
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from concrete_steps.errors import CourseError

if TYPE_CHECKING:
    from IPython.display import Markdown


@dataclass(frozen=True)
class Problem:
    """One row of problems.toml; `needs` are ids of notebooks, `hours` a guess from doing the like."""

    id: str
    question: str
    why: str
    start: str
    done_when: str
    falsifier: str
    models: tuple[str, ...]
    needs: tuple[str, ...]
    hours: int


@functools.cache
def load_problems() -> dict[str, Problem]:
    """All problems by id, in the board's order: the shorter ones first."""
    text = resources.files("concrete_steps").joinpath("problems.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)["problem"]
    made = [Problem(**{**row, "models": tuple(row["models"]), "needs": tuple(row["needs"])}) for row in rows]
    return {problem.id: problem for problem in sorted(made, key=lambda problem: problem.hours)}


def board() -> Markdown:
    """The board as a table: question, models, what to know before, hours."""
    from IPython.display import Markdown

    lines = ["| id | question | models | needs | hours |", "|---|---|---|---|---|"]
    lines += [
        f"| `{its.id}` | {its.question} | {', '.join(its.models)} | {', '.join(its.needs)} | {its.hours} |"
        for its in load_problems().values()
    ]
    return Markdown("\n".join(lines))


def show(key: str) -> Markdown:
    """One problem whole.

    Raises:
        CourseError: there is no such problem.
    """
    from IPython.display import Markdown

    known = load_problems()
    if key not in known:
        raise CourseError(f"There is no problem {key!r} on the board: use one of {', '.join(known)}.")
    its = known[key]
    parts = {"Why": its.why, "Start": its.start, "Done when": its.done_when, "Falsifier": its.falsifier}
    head = f"**{its.question}** ({', '.join(its.models)}; {its.hours} hours; after {', '.join(its.needs)})"
    return Markdown("\n".join([head, "", *(f"- *{name}*: {text}" for name, text in parts.items())]))
