"""check("name"): run an exercise's pytest checks on the objects of this kernel, and show what came of it in a panel."""

from __future__ import annotations

import contextlib
import dis
import html
import inspect
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

from concrete_steps.checking import log
from concrete_steps.checking.loader import Loaded, is_loading
from concrete_steps.checking.mistakes import Call
from concrete_steps.checking.outcomes import ERROR, NOT_ATTEMPTED, PASSED, TIMED_OUT, WRONG, Result, again, merge
from concrete_steps.checking.state import clean_state
from concrete_steps.course import Notebook, load_course

COLOURS = {PASSED: "#1a7f37", WRONG: "#bc4c00", ERROR: "#cf222e", TIMED_OUT: "#8250df", NOT_ATTEMPTED: "#6e7781"}
SIGNS = {PASSED: "✓", WRONG: "✗", ERROR: "!", TIMED_OUT: "⧗", NOT_ATTEMPTED: "○"}

UNSOLVED = (WRONG, ERROR, NOT_ATTEMPTED)  # what is stopped may be right, on a faster machine

PLAIN_SIGNS = {"✓": "+", "✗": "x", "⧗": "...", "○": "o"}


class CheckFailed(AssertionError):
    """Raised by a check that did not pass where something else watches: nbgrader, nbclient, pytest, a script."""


class Check:
    """A notebook's `check`: call it with the name of an exercise."""

    def __init__(self, notebook: Notebook, namespace: dict):
        self.notebook = notebook
        self.namespace = namespace
        self.passed: set[str] = set()
        self.case: Call | None = None

    def __call__(self, name: str, seed: int | None = None) -> None:
        """Check the exercise `name`; `seed` repeats the random inputs of an earlier run.

        After a failure `check.case` holds the failing call: its `args` and `kwargs` as they were given.
        """
        if is_loading():
            return
        if name not in self.notebook.exercises:
            known = ", ".join(self.notebook.exercises)
            raise ValueError(f"This notebook has no exercise {name!r}; it has {known}.")
        loaded = Loaded(self.notebook.path, self.namespace, cells=self.namespace.get("In", ()))
        result = run_check(self.notebook, name, loaded, seed)
        self.case = result.call
        if result.outcome in UNSOLVED:
            result.message += self._first(name, loaded)
        result.again = again(result, "check.case")
        (self.passed.add if result.outcome == PASSED else self.passed.discard)(name)
        panel = Panel(result, f"{len(self.passed)} of {len(self.notebook.exercises)} in this notebook")
        if not is_interactive():
            _print(repr(panel))
            if result.outcome != PASSED:
                raise CheckFailed(result.text())
            return
        from IPython.display import display

        log.record(self.notebook.id, name, result.outcome)
        display(panel)

    def _first(self, name: str, loaded: Loaded) -> str:
        """Which other exercises this answer uses that do not pass: they come first."""
        used = _used(self.namespace.get(name), self.namespace, set()) - self.passed - {name}
        others = tuple(other for other in self.notebook.exercises if other in used)
        results = run_checks(self.notebook, others, loaded, recognise=False) if others else {}
        failed = [other for other, result in results.items() if result.outcome in UNSOLVED]
        return "".join(f" It uses {other}, and {other} has not passed: do it first." for other in failed)


def _used(thing: Any, namespace: dict, seen: set[str]) -> set[str]:
    """Names in the notebook that a function of it uses, directly or through other functions of it."""
    thing = inspect.unwrap(thing) if callable(thing) else thing  # from under torch.no_grad and its like
    codes = [thing.__code__] if isinstance(thing, types.FunctionType) and thing.__globals__ is namespace else []
    for code in codes:
        codes += [its for its in code.co_consts if isinstance(its, types.CodeType)]
        variables = {its.argval for its in dis.get_instructions(code) if its.opname == "LOAD_GLOBAL"}
        for name in variables & set(namespace) - seen:
            seen.add(name)
            _used(namespace[name], namespace, seen)
    return seen


def run_check(notebook: Notebook, exercise: str, loaded: Loaded, seed: int | None = None) -> Result:
    """Run the tests of one exercise on the objects in `loaded`."""
    results = run_checks(notebook, (exercise,), loaded, seed)
    return results[exercise]


def run_checks(
    notebook: Notebook, exercises: tuple[str, ...], loaded: Loaded, seed: int | None = None, recognise: bool = True
) -> dict[str, Result]:
    """Results by exercise. Real pytest runs inside this process; tests of other exercises are not run.

    With `recognise` a wrong answer is also compared with the written ones, which takes longer than to reject it.
    """
    import pytest

    from concrete_steps.checking import pytest_plugin

    collected = _Collector(exercises)
    arguments = [str(notebook.checks), "--noconftest", "--capture=no", "--import-mode=importlib", "-c", os.devnull]
    arguments += ["--rootdir", str(notebook.checks.parent), "-p", "no:cacheprovider", "-p", "no:terminal"]
    arguments += ["-p", "no:logging", "-p", "no:warnings", "-p", "no:faulthandler", "-p", "no:unraisableexception"]
    arguments += [] if seed is None else ["--seed", str(seed)]
    with _no_settings_of_pytest(), clean_state():
        pytest.main(arguments, plugins=[pytest_plugin, _Given(loaded, recognise), collected])
    missing = Result(
        "", ERROR, message=f"No check ran: {notebook.checks} holds no working test of it; tell the authors."
    )
    return {name: merge(collected.results.get(name) or [missing]) for name in exercises}


@contextlib.contextmanager
def _no_settings_of_pytest() -> Iterator[None]:
    """The user's PYTEST_ADDOPTS, PYTEST_PLUGINS and installed plugins are for the user's own projects."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PYTEST_")}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("PYTEST_")]:
            del os.environ[name]
        os.environ.update(before)


class _Given:
    """Registers the objects at hand in place of the notebooks on disk."""

    def __init__(self, loaded: Loaded, recognise: bool):
        self.loaded, self.recognise = loaded, recognise

    def pytest_addoption(self, parser, pluginmanager) -> None:
        from concrete_steps.checking.pytest_plugin import Learner

        pluginmanager.register(Learner(given=self.loaded, recognise=self.recognise), "learner")


class _Collector:
    """Keeps the tests of the wanted exercises and collects their results."""

    def __init__(self, exercises: tuple[str, ...]):
        self.exercises = exercises
        self.results: dict[str, list[Result]] = {}

    def pytest_collection_modifyitems(self, items: list) -> None:
        from concrete_steps.checking.pytest_plugin import exercise_of

        items[:] = [item for item in items if exercise_of(item.name) in self.exercises]

    def pytest_runtest_protocol(self, item) -> bool | None:
        """The first test that an exercise fails is its result: those after it wait until it is mended."""
        from concrete_steps.checking.pytest_plugin import exercise_of

        before = self.results.get(exercise_of(item.name), [])
        return True if any(result.outcome != PASSED for result in before) else None

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed and report.when != "call":
            name = report.nodeid.split("::")[-1]
            from concrete_steps.checking.pytest_plugin import exercise_of

            result = Result(
                exercise_of(name), ERROR, message=f"The check itself could not start: {report.longreprtext[-600:]}"
            )
            self.results.setdefault(result.exercise, []).append(result)

    def pytest_runtest_teardown(self, item) -> None:
        from concrete_steps.checking.pytest_plugin import RESULT

        result = item.stash.get(RESULT, None)
        if result is not None:
            self.results.setdefault(result.exercise, []).append(result)


class Panel:
    """A result as a small panel in HTML, and the same facts in plain text."""

    def __init__(self, result: Result, progress: str = ""):
        self.result = result
        self.progress = progress

    def __repr__(self) -> str:
        sign = SIGNS[self.result.outcome]
        return f"{sign} {self.result.text()}" + (f"\n  ({self.progress})" if self.progress else "")

    def _repr_html_(self) -> str:
        colour = COLOURS[self.result.outcome]
        rows = "".join(_row(label, text) for label, text in self.result.lines())
        title = f"{SIGNS[self.result.outcome]} {html.escape(self.result.exercise)}: {self.result.outcome}"
        progress = f'<span style="float:right;opacity:.75">{html.escape(self.progress)}</span>'
        frame = f"border-left:4px solid {colour};padding:4px 12px;margin:4px 0;max-width:52em;line-height:1.45"
        badge = f"background:{colour};color:white;font-weight:600;border-radius:3px;padding:2px 8px"  # on any theme
        head = f'<div style="margin-bottom:4px"><span style="{badge}">{title}</span>{progress}</div>'
        return f'<div style="{frame}">{head}{rows}</div>'


def _row(label: str, text: str) -> str:
    text = html.escape(text).replace("\n", "<br>")
    if label in ("failing case", "the call again", "where", "repeat"):
        text = f'<code style="white-space:pre-wrap;background:none">{text}</code>'
    caption = f'<span style="opacity:.75">{label}: </span>' if label else ""
    return f'<div style="margin-top:2px">{caption}{text}</div>'


def _print(text: str) -> None:
    """Print, on a stream that has no signs (cp1252, ASCII) too."""
    try:
        print(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        text = text.translate(str.maketrans(PLAIN_SIGNS))
        print(text.encode(encoding, "backslashreplace").decode(encoding))


def is_interactive() -> bool:
    """True in a notebook in front of a person, where a failed check must not stop "run all".

    nbclient (and so nbgrader, papermill, our builder) forbids questions to the user; front ends allow them.
    """
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    with contextlib.suppress(Exception):
        return bool(kernel.get_parent("shell")["content"]["allow_stdin"])
    return False


def notebook_check(key: str, namespace: dict[str, Any]) -> Check:
    """The `check` of notebook `key` for the objects in `namespace`."""
    notebook = load_course().notebook(key)
    if is_interactive():
        log.watch(notebook.id)
    return Check(notebook, namespace)
