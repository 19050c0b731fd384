"""How pytest meets a learner's objects: fixtures named like the exercises, and outcomes in the learner's words.

A check is `def test_causal_mask(causal_mask, rng)` in tests/test_NOTEBOOK.py. Every exercise of the notebook is
a fixture that gives the learner's object, from the kernel (`check("causal_mask")`), from the loaded notebook
(`pytest`), or from the solutions (`pytest --of solutions`).
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from concrete_steps.checking import outcomes
from concrete_steps.checking.loader import Loaded, find_copy, load
from concrete_steps.checking.mistakes import Call, record
from concrete_steps.course import Notebook, load_course
from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root

CALLS = pytest.StashKey[list[Call]]()
RESULT = pytest.StashKey[outcomes.Result]()
SECONDS = 30.0


class Learner:
    """Where the objects of each notebook come from. `give` replaces the notebooks on disk by objects at hand."""

    def __init__(self, folder: Path | None = None, given: Loaded | None = None):
        self.folder = folder
        self.given = given
        self._loaded: dict[str, Loaded] = {}

    def objects(self, notebook: Notebook) -> Loaded:
        if self.given is not None:
            return self.given
        if notebook.id not in self._loaded:
            try:
                loaded = load(find_copy(self.folder, notebook), notebook.exercises)
            except CourseError as error:
                loaded = Loaded(notebook.path, {}, dict.fromkeys(notebook.exercises, str(error)))
            self._loaded[notebook.id] = loaded
        return self._loaded[notebook.id]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("concrete steps")
    group.addoption(
        "--of", metavar="FOLDER", help="grade these notebooks: work (default where it exists), notebooks, solutions"
    )
    group.addoption("--seed", type=int, help="repeat the random inputs of a failing check")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "seconds(n): how long this check may run; the default is 30")
    if not config.pluginmanager.has_plugin("learner"):
        config.pluginmanager.register(Learner(_folder(config.getoption("--of"))), "learner")


def _folder(of: str | None) -> Path:
    root = course_root()
    if of is None:
        has_copy = any((root / "work").glob("*/*.ipynb"))
        return root / "work" if has_copy else root / "notebooks"
    for folder in (root / of, Path(of).resolve()):
        if folder.is_dir():
            return folder
    raise pytest.UsageError(f"--of {of}: there is no such folder; use work, notebooks, solutions or a path.")


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Before pytest looks for fixtures in a module of checks, give it one for each exercise and each model."""
    if isinstance(collector, pytest.Module) and collector.path.parent == course_root() / "tests":
        notebook = load_course().notebook(collector.path.stem)
        for name in notebook.exercises:
            setattr(collector.obj, f"_fixture_{name}", _fixture(name))
        for name in notebook.needs:
            setattr(collector.obj, f"_model_{name}", _model_fixture(name))


def _fixture(name: str):
    @pytest.fixture(name=name)
    def learners_object(request: pytest.FixtureRequest):
        notebook = load_course().notebook(request.path.stem)
        loaded = request.config.pluginmanager.get_plugin("learner").objects(notebook)
        value = loaded.namespace.get(name, outcomes.MISSING)
        if name in loaded.problems:
            return outcomes.Broken(name, loaded.problems[name])
        if value is outcomes.MISSING:
            return outcomes.Broken(name, f"{name} is not defined: run its cell first, or restore the cell")
        if value is None:
            return outcomes.Untouched(name)
        if callable(value) and not isinstance(value, type):
            return record(value, request.node.stash.setdefault(CALLS, []), name)
        return value

    return learners_object


def _model_fixture(name: str):
    @pytest.fixture(name=name)
    def model():
        bridge = _load_model(name)
        bridge.reset_hooks()
        return bridge

    return model


@functools.cache
def _load_model(name: str):
    """One bridge a process: checks must leave its weights alone."""
    from concrete_steps import models

    return models.smollm2() if name == "smollm2" else models.load(name)


@pytest.fixture
def rng(request: pytest.FixtureRequest):
    """Fresh random inputs; the seed is printed on failure, and --seed repeats it."""
    from concrete_steps.checking.testing import Rng

    return Rng(request.config.getoption("--seed"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """Run one check and turn whatever happens into one of the five outcomes."""
    if item.path.parent != course_root() / "tests":
        return (yield)
    notebook = load_course().notebook(item.path.stem)
    learner = item.config.pluginmanager.get_plugin("learner").objects(notebook)
    marker = item.get_closest_marker("seconds")
    judge = outcomes.Judge(
        notebook=notebook,
        exercise=exercise_of(item.name),
        verifies=first_line(item.function.__doc__),
        namespace=learner.namespace,
        seconds=marker.args[0] if marker else SECONDS,
        seed=getattr(item.funcargs.get("rng"), "seed", None),
        test=item.function,
        given=dict(item.funcargs),
    )
    # What stays if judging itself breaks down: a check that came to no verdict has not passed.
    item.stash[RESULT] = judge.no_verdict()
    stand_in = next((value for value in item.funcargs.values() if isinstance(value, outcomes.Broken)), None)
    if stand_in is not None:
        item.stash[RESULT] = judge.cannot_run(stand_in)
    else:
        try:
            with outcomes.time_limit(judge.seconds):
                yield
            item.stash[RESULT] = judge.passed()
            return None
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit) and not judge.is_learners(error):
                raise
            item.stash[RESULT] = judge.failed(error, item.stash.get(CALLS, []))
    result = item.stash[RESULT]
    if result.outcome == outcomes.NOT_ATTEMPTED:
        pytest.skip("not attempted")
    pytest.fail(result.text(), pytrace=False)


def exercise_of(test_name: str) -> str:
    """test_x and test_x__aspect[case] are checks of exercise x."""
    return test_name.split("[")[0].removeprefix("test_").split("__")[0]


def first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0].rstrip(".")
