"""How long it takes: the authors' guesses, and what learners chose to share, merged into medians and quartiles."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from concrete_steps.course import Course, Notebook, load_course
from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root
from concrete_steps.standing.where import Standing

SHARED_FILE = Path(__file__).with_name("hours.toml")
FORMAT = 1
LONGEST = 100 * 60  # minutes for one exercise: more is no time that was worked
TWICE = 2.0
FEWEST = 3  # people, before their median is held against a guess


@dataclass(frozen=True)
class Took:
    """Lower quartile, median and upper quartile, in minutes, of how many people."""

    low: float
    median: float
    high: float
    people: int


def guesses(notebook: Notebook) -> dict[str, int]:
    """The authors' guess in minutes for each exercise, as the released notebook says it; {} where it is not at hand."""
    path = course_root() / "notebooks" / notebook.path
    if not path.is_file():
        return {}
    sources = ("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
    found = (re.match(r"# (\w+): difficulty \S+, about (\d+) minute", source) for source in sources)
    return {match[1]: int(match[2]) for match in found if match}


def to_share(all_of_them: list[Standing]) -> dict:
    """What a learner may give: minutes until each exercise was passed, and nothing else."""
    notebooks = {}
    for item in all_of_them:
        exercises = {name: round(item.minutes[name], 1) for name in item.notebook.exercises if name in item.minutes}
        exercises = {name: value for name, value in exercises.items() if name in item.passed}
        if exercises:
            notebooks[item.notebook.id] = {
                "done": item.is_done,
                "minutes": round(item.total, 1),
                "exercises": exercises,
            }
    return {"concrete_steps_minutes": FORMAT, "notebooks": notebooks}


def merged(files: list[Path], course: Course) -> dict[tuple[str, str], Took]:
    """Quartiles by (notebook, exercise) over the people's files; exercise "" is a notebook that was done to its end.

    Raises:
        CourseError: a file is none that `progress.py --share` wrote.
    """
    given = {json.dumps(_read(path), sort_keys=True): _read(path) for path in files}  # a file given twice counts once
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for person in given.values():
        for notebook in course.notebooks:
            entry = person.get(notebook.id)
            if entry is None:
                continue
            for name in notebook.exercises:
                if name in entry["exercises"]:
                    values[notebook.id, name].append(entry["exercises"][name])
            if entry["done"]:
                values[notebook.id, ""].append(entry["minutes"])
    return {key: _quartiles(found) for key, found in values.items()}


def as_toml(took: dict[tuple[str, str], Took]) -> str:
    """As the map writes it: a table for each notebook."""
    lines = ["# What learners chose to share, merged by scripts/hours.py: minutes as [lower quartile, median, upper]."]
    for key in dict.fromkeys(key for key, _ in took):
        lines += ["", "[[notebook]]", f'id = "{key}"']
        for (of, name), value in took.items():
            if of == key:
                numbers = f"[{value.low:g}, {value.median:g}, {value.high:g}]"
                lines.append(f"{name or 'whole'} = {{ minutes = {numbers}, people = {value.people} }}")
    return "\n".join(lines) + "\n"


@cache
def known(file: Path = SHARED_FILE) -> dict[tuple[str, str], Took]:
    """What is known of others' times, as scripts/hours.py wrote it; {} while nobody has shared theirs."""
    if not file.is_file():
        return {}
    raw = tomllib.loads(file.read_text(encoding="utf-8"))
    return {
        (entry["id"], "" if name == "whole" else name): Took(*value["minutes"], value["people"])
        for entry in raw.get("notebook", ())
        for name, value in entry.items()
        if name != "id"
    }


def beyond_guess(took: dict[tuple[str, str], Took], course: Course | None = None) -> list[str]:
    """A sentence for each exercise whose median is twice its guess or more."""
    said = []
    for notebook in (course or load_course()).notebooks:
        for name, guess in guesses(notebook).items():
            found = took.get((notebook.id, name))
            if found and found.people >= FEWEST and found.median >= TWICE * guess:
                people = f"{found.people} people"
                said.append(f"{notebook.id} {name}: a median of {found.median:g} minutes ({people}), guess {guess}.")
    return said


def _read(path: Path) -> dict[str, dict]:
    """The notebooks of one person's file, tried entry by entry: it comes from a stranger."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["concrete_steps_minutes"] != FORMAT:
            raise ValueError(f"format {raw['concrete_steps_minutes']!r}")
        return {
            str(key): {
                "done": entry["done"] is True,
                "minutes": _minutes(entry["minutes"]),
                "exercises": {str(name): _minutes(value) for name, value in entry["exercises"].items()},
            }
            for key, entry in raw["notebooks"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
        raise CourseError(
            f"{path} is no file of scripts/progress.py --share ({type(problem).__name__}: {problem}); leave it out."
        ) from None


def _minutes(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number of minutes")
    if not 0 <= value <= LONGEST:
        raise ValueError(f"{value:g} minutes are no time that was worked")
    return float(value)


def _quartiles(values: list[float]) -> Took:
    import numpy as np

    low, median, high = (round(float(value), 1) for value in np.quantile(values, (0.25, 0.5, 0.75)))
    return Took(low, median, high, len(values))
