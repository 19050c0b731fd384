"""Verdicts on learners' work: found by any thread, process or machine that has the course, and kept until they age.

A verdict depends on the work, the learner's modules beside it, the checks, the course's code, the limits, and whether
the code was locked up; while none of these has changed, it is taken from the disk. So a run that was killed is gone on
with, and only what is new is graded again.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from concrete_steps.checking.outcomes import Result
from concrete_steps.course import load_course
from concrete_steps.errors import CourseError
from concrete_steps.grading import sandbox
from concrete_steps.grading.isolated import Limits, grade_notebook
from concrete_steps.grading.pair import Forker, Pair, start_judge
from concrete_steps.paths import course_root
from concrete_steps.workspace.copy import put

# Rooms of the package that no verdict depends on.
NO_PART = ("authoring", "workspace")
_own = threading.local()


@dataclass(frozen=True)
class Work:
    """One learner's well-formed notebooks of a step, by the notebooks' ids, and all else that a verdict depends on."""

    notebooks: dict[str, bytes]
    modules: dict[str, bytes]
    limits: Limits
    course: str  # the digest of the course that is to grade it
    trust: bool = False  # grade also where nothing can lock the code up

    def key(self, notebook_id: str) -> str:
        """Equal for works that get the same verdicts."""
        notebook = load_course().notebook(notebook_id)
        files = [notebook.checks, notebook.mistakes, course_root() / "notebooks" / notebook.path]
        parts = [self.course, repr(self.limits), sandbox.why_not(), notebook_id, *map(_digest_of_file, files)]
        parts += [name + _digest(data) for name, data in sorted(self.modules.items())]
        return _digest(json.dumps([*parts, _digest(self.notebooks[notebook_id])]).encode())

    def without(self, known: set[str]) -> Work:
        """The same but for the notebooks with these ids."""
        return replace(self, notebooks={name: data for name, data in self.notebooks.items() if name not in known})


def mark(work: Work) -> dict[str, dict[str, dict]]:
    """By notebook and exercise what came of it, as plain values, which travel.

    Raises:
        CourseError: the grader itself did not start, or this machine has another version of the course.
    """
    if work.course != course_digest():
        raise CourseError("A worker has another version of the course: give all machines the same.")
    verdicts = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, data in work.modules.items():
            (Path(folder) / name).write_bytes(data)
        notebooks = [load_course().notebook(notebook_id) for notebook_id in work.notebooks]
        with Pair(notebooks, work.limits.memory, _judge()) as pair:
            for notebook in notebooks:
                path = Path(folder) / notebook.path.name
                path.write_bytes(work.notebooks[notebook.id])
                results = grade_notebook(notebook, path, work.limits, work.trust, pair)
                verdicts[notebook.id] = {name: asdict(replace(result, call=None)) for name, result in results.items()}
                path.unlink()
    return verdicts


def _judge() -> Forker | None:
    """This thread's judge, for all learners whom it grades; it ends with the thread."""
    if sandbox.why_not():
        return None
    judge = getattr(_own, "judge", None)
    if judge is None or judge.process.poll() is not None:
        judge = _own.judge = start_judge()
    return judge


class Verdicts:
    """What is known of one learner's work on a step, in a folder of its own. Files appear whole or not at all."""

    def __init__(self, folder: Path):
        self.folder = folder

    def get(self, notebook_id: str, key: str) -> dict[str, Result] | None:
        """The verdicts by exercise, if they were found for the same work."""
        try:
            kept = json.loads((self.folder / f"{notebook_id}.json").read_text(encoding="utf-8"))
            if kept["key"] == key:
                return {name: Result(**result) for name, result in kept["verdicts"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        return None

    def keep(self, notebook_id: str, key: str, verdicts: dict[str, dict]) -> None:
        put(self.folder / f"{notebook_id}.json", json.dumps({"key": key, "verdicts": verdicts}).encode())

    def are_in_gradebook(self, keys: list[str]) -> bool:
        """Whether nbgrader was told the verdicts with these keys, and was done with them."""
        try:
            return json.loads((self.folder / "in gradebook.json").read_text(encoding="utf-8")) == keys
        except (OSError, ValueError):
            return False

    def say_in_gradebook(self, keys: list[str]) -> None:
        put(self.folder / "in gradebook.json", json.dumps(keys).encode())


@cache
def course_digest() -> str:
    """Changes with any code of the course that a verdict may depend on."""
    files = list(_code())
    return _digest("".join(name + _digest_of_file(path) for name, path in files).encode())


def _code() -> Iterator[tuple[str, Path]]:
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package).as_posix()
        if path.suffix in (".py", ".toml") and not name.startswith(NO_PART):
            yield name, path


@cache
def _digest_of_file(path: Path) -> str:
    return _digest(path.read_bytes()) if path.is_file() else ""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
