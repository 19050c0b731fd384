"""Placement: which notebooks of a step to skip, which to skim, where to begin; from exercises passed and failed."""

from __future__ import annotations

import html
from dataclasses import dataclass

from concrete_steps.course import Course, Notebook, load_course
from concrete_steps.errors import CourseError
from concrete_steps.standing.where import Standing, here

SKIP, SKIM, DO, UNKNOWN = "skip", "skim", "work through", "not tried yet"


@dataclass(frozen=True)
class Verdict:
    """About one notebook; `passed`, `failed` and `untried` are the placement's exercises that decide about it."""

    notebook: Notebook
    says: str
    passed: tuple[str, ...]
    failed: tuple[str, ...]
    untried: tuple[str, ...]

    def evidence(self) -> str:
        parts = (("passed", self.passed), ("failed", self.failed), ("not tried", self.untried))
        return "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names)


def placement_of(step: int | float | str, course: Course) -> Notebook:
    """The notebook of placement of a step: 1, or as that notebook is called, "1.0".

    Raises:
        CourseError: there is no such step, or it has no placement.
    """
    number = str(step).strip().removesuffix(".0")  # as its notebook is called
    if not number.isdecimal() or int(number) >= len(course.steps):
        raise CourseError(f"There is no step {step}: the steps go from 0 to {len(course.steps) - 1}.")
    for notebook in course.steps[int(number)].notebooks:
        if notebook.is_placement:
            return notebook
    have = [str(n) for n, other in enumerate(course.steps) if any(item.is_placement for item in other.notebooks)]
    raise CourseError(
        f"Step {number} has no placement (steps that have one: {', '.join(have)}): what it holds is there to be done, "
        "not to be known already; choose by the criteria at the top of its notebooks."
    )


def verdicts(placement: Notebook, where: Standing, course: Course) -> list[Verdict]:
    """A verdict about each notebook that this one places."""
    found = []
    any_tried = bool(where.passed | where.tried)
    for item in placement.criteria:
        passed = tuple(name for name in item.evidence if name in where.passed)
        failed = tuple(name for name in item.evidence if name in where.tried)
        untried = tuple(name for name in item.evidence if name not in passed + failed)
        if len(untried) == len(item.evidence):
            says = DO if any_tried else UNKNOWN  # to leave out what one does not know is an answer
        elif len(passed) == len(item.evidence):
            says = SKIP
        else:
            says = SKIM if passed else DO
        found.append(Verdict(course.notebook(item.places), says, passed, failed, untried))
    return found


def skippable(everything: list[Standing], course: Course) -> frozenset[str]:
    """Ids of notebooks that a placement said to skip; and of placements in which nothing is left to decide.

    So it is where all is tried, and where the learner has begun a notebook that it would place: what was left out
    there, was left out.
    """
    skipped = set()
    begun = {where.notebook.id for where in everything if where.passed or where.tried}
    for where in everything:
        if where.notebook.is_placement:
            said = verdicts(where.notebook, where, course)
            skipped |= {verdict.notebook.id for verdict in said if verdict.says == SKIP}
            if not any(verdict.untried for verdict in said) or begun & {verdict.notebook.id for verdict in said}:
                skipped.add(where.notebook.id)
    return frozenset(skipped)


class Placement:
    """The verdicts on one step, as text and in a notebook."""

    def __init__(self, notebook: Notebook, said: list[Verdict]):
        self.notebook, self.said = notebook, said

    @property
    def advice(self) -> str:
        if all(verdict.says == UNKNOWN for verdict in self.said):
            first = f"{self.said[0].notebook.id} {self.said[0].notebook.title}"
            here = self.notebook.path.as_posix()
            return f"Open {here}, try what looks familiar, and come back; or, if nothing does, begin with {first}."
        for verdict in self.said:
            if verdict.says != SKIP:
                return f"Begin with {verdict.notebook.id} {verdict.notebook.title} ({verdict.says})."
        return "Skip this step."

    def rows(self) -> list[tuple[str, str, str]]:
        return [(f"{item.notebook.id} {item.notebook.title}", item.says, item.evidence()) for item in self.said]

    def __repr__(self) -> str:
        lines = [line for name, says, why in self.rows() for line in (f"{name}: {says}", f"    {why}")]
        return "\n".join([*lines, self.advice])

    def _repr_html_(self) -> str:
        cells = "".join(f"<span>{html.escape(text)}</span>" for row in self.rows() for text in row)
        head = "".join(f"<b>{text}</b>" for text in ("notebook", "verdict", "because you"))
        grid = "display:grid;grid-template-columns:max-content max-content 1fr;gap:4px 14px;max-width:60em"
        return f'<div><div style="{grid}">{head}{cells}</div><div style="margin-top:6px">{self.advice}</div></div>'


def placement(step: int | float | str) -> Placement:
    """Which notebooks of a step to skip, to skim or to work through, by what you passed in its placement."""
    course = load_course()
    notebook = placement_of(step, course)
    where = next(item for item in here() if item.notebook.id == notebook.id)
    return Placement(notebook, verdicts(notebook, where, course))
