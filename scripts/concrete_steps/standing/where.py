"""Where a learner stands: for each notebook, what is passed and tried, how long it took, and what comes next."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from concrete_steps.checking.checks import SIGNS
from concrete_steps.checking.log import Event, read
from concrete_steps.checking.outcomes import NOT_ATTEMPTED, PASSED
from concrete_steps.course import Course, Criterion, Notebook, load_course
from concrete_steps.paths import course_root
from concrete_steps.standing.times import minutes


@dataclass
class Standing:
    """One notebook: exercises passed once and tried, and minutes by exercise ("" is the rest of the notebook)."""

    notebook: Notebook
    passed: set[str] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)
    minutes: dict[str, float] = field(default_factory=dict)

    @property
    def met(self) -> list[Criterion]:
        """Criteria of which every exercise was passed."""
        return [item for item in self.notebook.criteria if self.passed.issuperset(item.evidence)]

    @property
    def is_done(self) -> bool:
        return self.passed.issuperset(self.notebook.exercises)

    @property
    def total(self) -> float:
        """Minutes in all."""
        return sum(self.minutes.values())


def standing(course: Course, events: list[Event], seen: dict[str, set[str]] | None = None) -> list[Standing]:
    """Where the learner stands in each notebook of the course, in its order.

    Args:
        events: the log. An exercise that was passed once stays passed: a reset notebook takes nothing back.
        seen: exercises by notebook that the learner's saved notebooks show as passed (`passed_in`), which counts
            where the log was not kept: work that was done on another machine.
    """
    spent: dict[str, dict[str, float]] = defaultdict(dict)
    for (key, exercise), value in minutes(events).items():
        spent[key][exercise] = value
    by_id = {item.id: Standing(item, minutes=spent[item.id]) for item in course.notebooks}
    for event in events:
        if event.notebook in by_id and event.outcome != NOT_ATTEMPTED:  # as "run all" leaves of every stub
            where = by_id[event.notebook]
            (where.passed if event.outcome == PASSED else where.tried).add(event.exercise)
    for key, names in (seen or {}).items():
        if key in by_id:
            by_id[key].passed |= names
    for where in by_id.values():
        _as_named_now(where)
    return list(by_id.values())


def _as_named_now(where: Standing) -> None:
    """Passes of an exercise that has another name now are its own; of one that became several, all are only tried."""
    parts = Counter(old for _, old in where.notebook.renamed)
    for new, old in where.notebook.renamed:
        if old in where.passed | where.tried:
            (where.passed if old in where.passed and parts[old] == 1 else where.tried).add(new)
    where.passed &= set(where.notebook.exercises)
    where.tried = where.tried & set(where.notebook.exercises) - where.passed


def passed_in(folder: Path) -> dict[str, set[str]]:
    """Exercises by notebook whose panel says "passed" in a notebook below this folder, whatever the file is called."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in folder.rglob("*.ipynb"):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            key = saved["metadata"]["concrete_steps"]["notebook"]
            panels = [
                "".join(output["data"]["text/plain"])
                for cell in saved["cells"]
                for output in cell.get("outputs", ())
                if output.get("output_type") == "display_data" and "text/plain" in output.get("data", {})
            ]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue  # no notebook of this course
        first_words = [panel.split(":")[0].split() for panel in panels if f": {PASSED}" in panel.split("\n")[0]]
        found[key] |= {words[1] for words in first_words if len(words) == 2 and words[0] == SIGNS[PASSED]}
    return dict(found)


def here() -> list[Standing]:
    """Where the learner at this machine stands."""
    return standing(load_course(), read(), passed_in(course_root() / "work"))


def next_one(all_of_them: list[Standing], skipped: frozenset[str] = frozenset()) -> tuple[Standing, str] | None:
    """The notebook to go on with and its first exercise that is not passed; None where nothing is left.

    A notebook that was begun comes before one that was not; `skipped` are ids that a placement said to skip.
    """
    open_ones = [item for item in all_of_them if not item.is_done and item.notebook.id not in skipped]
    begun = [item for item in open_ones if item.passed or item.tried]
    for item in begun + open_ones:
        return item, next(name for name in item.notebook.exercises if name not in item.passed)
    return None
