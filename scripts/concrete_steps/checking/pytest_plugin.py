"""How pytest meets a learner's objects: fixtures named like the exercises, and outcomes in the learner's words.

A check is `def test_causal_mask(causal_mask, rng)` in tests/test_NOTEBOOK.py. Every exercise of the notebook is
a fixture that gives the learner's object, from the kernel (`check("causal_mask")`), from the loaded notebook
(`pytest`), or from the solutions (`pytest --of solutions`).
"""

from __future__ import annotations

import contextlib
import functools
import re
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from concrete_steps.checking import outcomes
from concrete_steps.checking.loader import Loaded, beside, find_copy, kind_of, load, read_notebook
from concrete_steps.checking.mistakes import Call, record
from concrete_steps.checking.state import clean_state
from concrete_steps.course import Notebook, load_course
from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root

CALLS = pytest.StashKey[list[Call]]()
RESULT = pytest.StashKey[outcomes.Result]()
SECONDS = 30.0


class Learner:
    """Where the objects of each notebook come from. `given` replaces the notebooks on disk by objects at hand.

    `recognise`: whether wrong answers are compared with the written ones, which takes longer than to reject them.
    """

    def __init__(self, folder: Path | None = None, given: Loaded | None = None, recognise: bool = True):
        self.folder = folder
        self.given = given
        self.recognise = recognise
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
    config.addinivalue_line(
        "markers",
        "seconds(n, again=False): how long this check may run (else 30); `again`: it is quick when it runs again",
    )
    if not config.pluginmanager.has_plugin("learner"):
        config.pluginmanager.register(Learner(_folder(config)), "learner")


def _folder(config: pytest.Config) -> Path:
    """The folder to grade: `--of`, else the one that pytest was told or started in, else work/ or notebooks/."""
    root, here, of = course_root(), config.invocation_params.dir, config.getoption("--of")
    if of is not None:
        folder = next((folder for folder in (here / of, root / of) if folder.is_dir()), None)
        if folder is None:
            raise pytest.UsageError(f"--of {of}: there is no such folder; use work, notebooks, solutions or a path.")
        if config.args_source == pytest.Config.ArgsSource.INVOCATION_DIR:
            _check_what_is_in(folder.resolve(), config)
        return folder.resolve()
    told = (here / config.args[0]).resolve() if len(config.args) == 1 else root
    if told != root and told.is_dir() and any(told.rglob("*.ipynb")):
        _check_what_is_in(told, config)
        return told
    return root / "work" if _has_copy(root) else root / "notebooks"


def _has_copy(root: Path) -> bool:
    return any((root / "work").glob("*/*.ipynb"))


def _check_what_is_in(folder: Path, config: pytest.Config) -> None:
    """Let pytest run the checks of the course's notebooks that the folder holds: no checks lie there themselves."""
    held = [notebook for notebook in load_course().notebooks if find_copy(folder, notebook).is_file()]
    if not held:
        raise pytest.UsageError(f"{folder} holds no notebook of the course.")
    config.args[:] = [str(notebook.checks) for notebook in held]
    config.option.importmode = "importlib"


def pytest_report_header(config: pytest.Config) -> list[str]:
    learner = config.pluginmanager.get_plugin("learner")
    if learner.folder is None or not _runs_checks(config):
        return []
    return [f"grading: {learner.folder}"]


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Answers that were typed into notebooks/ while work/ is graded would be missed in silence."""
    learner = config.pluginmanager.get_plugin("learner")
    root = course_root()
    if learner.folder == root / "work" and _runs_checks(config) and (answered := _answered(root / "notebooks")):
        terminalreporter.section("answers in notebooks/", yellow=True)
        terminalreporter.write_line(
            f"Graded was your copy, {learner.folder}. There are answers in notebooks/ as well, which were not: "
            f"{', '.join(answered)}. Move them to your copy, or run `pytest --of notebooks`."
        )


def _runs_checks(config: pytest.Config) -> bool:
    paths = [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]
    return any(path.parent == course_root() / "tests" and path.suffix == ".py" for path in paths)


def _answered(folder: Path) -> list[str]:
    """Names of the notebooks in which a stub has been replaced."""
    found = []
    for notebook in load_course().notebooks:
        with contextlib.suppress(CourseError):
            cells = {cell.get("id"): "".join(cell["source"]) for cell in read_notebook(folder / notebook.path)["cells"]}
            stubs = [cells[name] for name in notebook.exercises if name in cells]
            if not all(re.search(r"raise NotImplementedError|^\w+ = None", text, re.MULTILINE) for text in stubs):
                found.append(notebook.name)
    return found


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
        overwritten = _overwritten(name, value, notebook, loaded)
        if name in loaded.problems:
            return outcomes.Broken(name, loaded.problems[name])
        if value is outcomes.MISSING:
            return outcomes.Broken(name, f"{name} is not defined: run its cell first, or restore the cell")
        if value is None:
            return outcomes.Untouched(name)
        if overwritten:
            return outcomes.Broken(name, overwritten)
        if callable(value) and not isinstance(value, type):
            return record(value, request.node.stash.setdefault(CALLS, []), name)
        return _under_its_name(value, name)

    return learners_object


def _under_its_name(value: Any, name: str) -> Any:
    """For `GPT2 = DemoTransformer` a class that is called GPT2: checks and messages go by the exercise's name."""
    if isinstance(value, type) and value.__name__ != name:

        class Renamed(type(value)):
            def __instancecheck__(cls, instance):  # what its methods make by the name that they know is one, too
                return isinstance(instance, value)

        with contextlib.suppress(TypeError):  # a class that nothing may inherit from stays as it is
            named = {"metaclass": Renamed}
            return types.new_class(name, (value,), named, lambda body: body.update(__module__=value.__module__))
    return value


def _overwritten(name: str, value: Any, notebook: Notebook, loaded: Loaded) -> str:
    """What to say of an exercise's function or class whose name holds something else by now; "" where all is well."""
    if callable(value) and (isinstance(value, type) or type(value).__name__ != name):
        return ""
    kind = kind_of(name, [*loaded.cells, *_released_cells(notebook)])
    if kind is None or (kind == "function" and callable(value)):
        return ""
    shape = getattr(value, "shape", None)
    what = f"now of type {type(value).__name__}"
    if isinstance(shape, Sequence):
        what += f" and of shape {list(shape)}"
    return (
        f"{name} should be a {kind} and is {what}: a line has given its name to something else, as "
        f"`{name} = {name}(...)` does. Call that something else, and run the {kind}'s cell again"
    )


@functools.cache
def _released_cells(notebook: Notebook) -> tuple[str, ...]:
    with contextlib.suppress(CourseError):
        cells = read_notebook(course_root() / "notebooks" / notebook.path)["cells"]
        return tuple("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return ()


def _model_fixture(name: str):
    @pytest.fixture(name=name)
    def model():
        bridge = _load_model(name)
        bridge.reset_hooks()
        with _as_it_was(bridge):
            yield bridge
        bridge.reset_hooks()

    return model


@contextlib.contextmanager
def _as_it_was(model) -> Iterator[None]:
    """Afterwards the model trains what it trained before, and has no new hooks and gradients; one with other weights
    is loaded anew for the next check."""
    parameters = [(parameter, parameter.requires_grad, parameter._version) for parameter in model.parameters()]
    modules = [
        (module, module.training, [(hooks, dict(hooks)) for hooks in _hooks(module)]) for module in model.modules()
    ]
    yield
    for module, training, tables in modules:
        module.training = training
        for hooks, before in tables:
            if hooks.keys() != before.keys():
                hooks.clear()
                hooks.update(before)
    for parameter, requires_grad, _ in parameters:
        parameter.requires_grad_(requires_grad)
        parameter.grad = None
    if any(parameter._version != version for parameter, _, version in parameters):
        _load_model.cache_clear()


def _hooks(module) -> list[dict]:
    return [module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks]


@functools.cache
def _load_model(name: str):
    """One bridge a process, as long as nothing changes its weights."""
    from concrete_steps import models

    return models.smollm2() if name == "smollm2" else models.load(name)


@pytest.fixture
def rng(request: pytest.FixtureRequest):
    """Fresh random inputs; the seed is printed on failure, and --seed repeats it."""
    from concrete_steps.checking.testing import Rng

    return Rng(request.config.getoption("--seed"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """What one check's answer sets globally does not reach the next."""
    with clean_state() if _is_check(item) else contextlib.nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """Run one check and turn whatever happens into one of the five outcomes."""
    if not _is_check(item):
        return (yield)
    notebook = load_course().notebook(item.path.stem)
    source = item.config.pluginmanager.get_plugin("learner")
    learner = source.objects(notebook)
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
        recognise=source.recognise,
    )
    # What stays if judging itself breaks down: a check that came to no verdict has not passed.
    item.stash[RESULT] = judge.no_verdict()
    stand_in = next((value for value in item.funcargs.values() if isinstance(value, outcomes.Broken)), None)
    if stand_in is not None:
        item.stash[RESULT] = judge.cannot_run(stand_in)
    else:
        try:
            with beside(learner), outcomes.time_limit(judge.seconds):
                yield
            item.stash[RESULT] = judge.passed()
            return None
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit) and not judge.is_learners(error):
                raise
            result = item.stash[RESULT] = judge.failed(error, item.stash.get(CALLS, []))
            if isinstance(error, NameError) and error.name in learner.problems:
                result.message += f" ({learner.problems[error.name]})"
    result = item.stash[RESULT]
    if result.outcome == outcomes.NOT_ATTEMPTED:
        pytest.skip("not attempted")
    pytest.fail(result.text(), pytrace=False)


def _is_check(item: pytest.Item) -> bool:
    return item.path.parent == course_root() / "tests"


def exercise_of(test_name: str) -> str:
    """test_x and test_x__aspect[case] are checks of exercise x."""
    return test_name.split("[")[0].removeprefix("test_").split("__")[0]


def first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0].rstrip(".")
