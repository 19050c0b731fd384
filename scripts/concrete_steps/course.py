"""The map of the course, read from course.toml: steps, notebooks, success criteria and the exercises behind each."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root

MAP_FILE = Path(__file__).with_name("course.toml")


@dataclass(frozen=True)
class Criterion:
    """One thing the learner can do, and the exercises that show it.

    In a notebook of placement, `places` is the notebook about which they decide.
    """

    says: str
    evidence: tuple[str, ...]
    places: str = ""


@dataclass(frozen=True)
class Notebook:
    """One pair of notebooks with its module of checks. `needs` names shipped or fetched models.

    `open_task` is the exercise, of those that the criteria name, that is tried on what nobody has seen. `renamed` says
    what exercises were called before (pairs of new and old name), so that answers and passes find them; of two that
    were one, both name it.

    Two choices of exercises are for grading: `trusted` are those whose check and answer must share a process, each with
    its reason; `changing` are those whose answers change what the check lends them, as training changes a model.
    """

    id: str
    name: str
    title: str
    folder: str
    hours: tuple[float, float]
    criteria: tuple[Criterion, ...]
    needs: tuple[str, ...] = ()
    seconds: int = 60
    memory_gb: float = 1.0
    open_task: str = ""
    renamed: tuple[tuple[str, str], ...] = ()
    trusted: tuple[tuple[str, str], ...] = ()
    changing: tuple[str, ...] = ()

    @property
    def exercises(self) -> tuple[str, ...]:
        """Names of the graded exercises, in the order of the map, each once."""
        return tuple(dict.fromkeys(name for criterion in self.criteria for name in criterion.evidence))

    @property
    def is_placement(self) -> bool:
        """True if its exercises say which other notebooks a learner may skip."""
        return any(criterion.places for criterion in self.criteria)

    @property
    def path(self) -> Path:
        """Path below notebooks/, solutions/ or work/, without the root."""
        return Path(self.folder) / f"{self.name}.ipynb"

    @property
    def source(self) -> Path:
        """The percent file that text, stubs and solutions are written in."""
        return course_root() / "solutions" / self.path.with_suffix(".py")

    @property
    def _module(self) -> str:
        return self.name.replace(".", "_")

    @property
    def checks(self) -> Path:
        return course_root() / "tests" / f"test_{self._module}.py"

    @property
    def mistakes(self) -> Path:
        return course_root() / "tests" / f"mistakes_{self._module}.py"


@dataclass(frozen=True)
class Step:
    """One step of the guide; its folder is one nbgrader assignment."""

    folder: str
    title: str
    about: str
    notebooks: tuple[Notebook, ...]

    @property
    def hours(self) -> tuple[float, float]:
        """The guesses of its notebooks, added up; a placement stands instead of some of them."""
        low, high = zip(*(notebook.hours for notebook in self.handed_out), strict=True)
        return sum(low), sum(high)

    @property
    def handed_out(self) -> tuple[Notebook, ...]:
        """What a class gets and is marked for: a placement is each learner's own, and would count the step twice."""
        return tuple(notebook for notebook in self.notebooks if not notebook.is_placement)


@dataclass(frozen=True)
class Course:
    repository: str
    steps: tuple[Step, ...]

    @property
    def notebooks(self) -> tuple[Notebook, ...]:
        return tuple(notebook for step in self.steps for notebook in step.notebooks)

    def notebook(self, key: str) -> Notebook:
        """The notebook with this id ("1.1"), name ("1.1_tensors") or module of checks ("test_1_1_tensors")."""
        for notebook in self.notebooks:
            if key in (notebook.id, notebook.name, notebook.checks.stem, notebook.mistakes.stem):
                return notebook
        known = ", ".join(notebook.id for notebook in self.notebooks)
        raise CourseError(f"There is no notebook {key!r} in this course: use one of {known}.")


@cache
def load_course() -> Course:
    """The course as course.toml describes it."""
    raw = tomllib.loads(MAP_FILE.read_text(encoding="utf-8"))
    return Course(raw["repository"], tuple(_step(entry) for entry in raw["step"]))


def hours(low_high: tuple[float, float]) -> str:
    """A range of hours in words: '15 to 30 minutes', '10 to 40 hours'."""
    low, high = low_high
    if high <= 1:
        return f"{low * 60:g} to {high * 60:g} minutes"
    return f"{low:g} to {high:g} hours"


def _step(entry: dict) -> Step:
    notebooks = tuple(_notebook(item, entry["folder"]) for item in entry.get("notebook", ()))
    return Step(entry["folder"], entry["title"], entry["about"], notebooks)


def _notebook(entry: dict, folder: str) -> Notebook:
    criteria = tuple(
        Criterion(item["says"], tuple(item["evidence"]), item.get("places", "")) for item in entry["criterion"]
    )
    sets = {key: tuple(entry.get(key, ())) for key in ("needs", "changing")}
    sets |= {key: tuple(entry.get(key, {}).items()) for key in ("trusted", "renamed")}
    plain = {key: value for key, value in entry.items() if key not in ("criterion", "hours", *sets)}
    return Notebook(**plain, folder=folder, hours=tuple(entry["hours"]), criteria=criteria, **sets)
