"""A notebook graded in a process of its own: limits, honesty about the grader's own failures, nothing left behind."""

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest

from concrete_steps.authoring import changes
from concrete_steps.checking.outcomes import PASSED, Result
from concrete_steps.course import Notebook, load_course
from concrete_steps.errors import CourseError
from concrete_steps.grading import isolated, sandbox
from concrete_steps.grading.isolated import Limits, grade_notebook
from concrete_steps.paths import course_root

TRUST = bool(sandbox.why_not())  # systems without a sandbox still grade, when told so
START = load_course().notebook("0")


def notebook_with(folder: Path, logit_difference: str) -> Path:
    """The solutions of notebook 0 with another cell for logit_difference."""
    content = json.loads((course_root() / "solutions" / START.path).read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if cell["id"] == "logit_difference":
            cell["source"] = logit_difference
    path = folder / START.path.name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.skipif("CONCRETE_STEPS_SANDBOX" not in os.environ, reason="only CI must have a sandbox")
def test_ci_has_a_sandbox():
    """Else the tests of it would be skipped without a word."""
    assert sandbox.why_not() == ""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every solution goes through its checks elsewhere; here another with each commit, and all once a week."""
    if "notebook" in metafunc.fixturenames:
        notebooks = load_course().notebooks
        weekly = metafunc.config.getoption("--browser") == "all"
        chosen = notebooks if weekly else [changes.by_turns(notebooks)]
        metafunc.parametrize("notebook", chosen, ids=lambda notebook: notebook.id)


def test_a_solution_passes_apart(notebook: Notebook):
    """Nothing that an honest notebook does is forbidden, and each check rejects all of its known mistakes."""
    results = grade_notebook(notebook, course_root() / "solutions" / notebook.path, trust=TRUST)
    assert {name: result.text() for name, result in results.items() if result.outcome != PASSED} == {}


def test_the_whole_notebook_has_a_limit(tmp_path):
    path = notebook_with(tmp_path, "import time\nlogit_difference = time.sleep(10**6)")
    started = time.monotonic()
    results = grade_notebook(START, path, Limits(whole=1), TRUST)
    assert time.monotonic() - started < 60
    assert all("took more than 1 seconds" in result.message for result in results.values())


def test_a_grader_that_cannot_start_says_so():
    """It raises, so that nobody gets 0 for what is wrong with the grader."""
    unknown = dataclasses.replace(START, id="nowhere")
    with pytest.raises(CourseError, match=r"did not start.*There is no notebook 'nowhere'"):
        grade_notebook(unknown, course_root() / "solutions" / START.path, trust=TRUST)


def test_a_pass_needs_all_wrong_answers_rejected():
    passed = Result("x", PASSED)
    assert isolated._proven(passed, ["wrong", "error"]).outcome == PASSED
    assert isolated._proven(passed, ["wrong", PASSED]).message == isolated.CHANGED
    assert isolated._proven(passed, []).message == isolated.CHANGED
