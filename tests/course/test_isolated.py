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
locked_up = pytest.mark.skipif(TRUST, reason=sandbox.why_not())
START = load_course().notebook("0")
# Every solution goes through its checks elsewhere; here the first goes, and another with each commit.
APART = list(dict.fromkeys([START, changes.by_turns(load_course().notebooks)]))


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


@pytest.mark.parametrize("notebook", APART, ids=lambda notebook: notebook.id)
def test_a_solution_passes_apart(notebook: Notebook):
    """Nothing that an honest notebook does is forbidden, and each check rejects all of its known mistakes."""
    results = grade_notebook(notebook, course_root() / "solutions" / notebook.path, trust=TRUST)
    assert {name: result.text() for name, result in results.items() if result.outcome != PASSED} == {}


MAY_NOT_HAVE = f"""\
import os
from pathlib import Path

def has(attempt):
    try:
        attempt()
        return True
    except OSError:
        return False

TRIES = {{
    "a secret": lambda: os.environ["SOME_API_TOKEN"],
    "the disk": lambda: open("large", "wb").truncate(2**31),
    "the course": lambda: open(Path({str(course_root())!r}) / "elsewhere", "w"),
    "the solutions": lambda: os.listdir(Path({str(course_root())!r}) / "solutions"),
    "the tests of others": lambda: open(Path({str(course_root())!r}) / "tests" / "test_1_1_tensors.py"),
    "a home": lambda: open({str(Path.home() / ".profile")!r}),
}}

def logit_difference(logits, right, wrong):
    found = []
    for name, attempt in TRIES.items():
        try:
            found += [name] if has(attempt) else []
        except KeyError:
            pass
    for descriptor in range(3, 20):
        try:
            os.write(descriptor, b'\\n{{"kind": "done"}}\\n{{"nonce": "", "kind": "result"}}\\n[]\\nnonsense\\n')
        except OSError:
            pass
    raise ValueError(f"it has {{found}}")
"""


@locked_up
def test_what_a_submission_may_not_have(tmp_path, monkeypatch):
    """Secrets of the environment, other submissions, a full disk, files elsewhere, a verdict of its own making."""
    monkeypatch.setenv("SOME_API_TOKEN", "secret")
    results = grade_notebook(START, notebook_with(tmp_path, MAY_NOT_HAVE))
    assert results["logit_difference"].message == "ValueError: it has []"
    assert results["answer_already_know"].outcome == PASSED


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
