"""A notebook graded in a process of its own: limits, honesty about the grader's own failures, nothing left behind."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from concrete_steps.authoring import changes
from concrete_steps.checking.outcomes import PASSED, Result
from concrete_steps.course import Notebook, load_course
from concrete_steps.errors import CourseError
from concrete_steps.grading import isolated, rounds, sandbox
from concrete_steps.grading.isolated import Limits, grade_notebook
from concrete_steps.models import smollm2_model
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


@pytest.mark.skipif("CONCRETE_STEPS_SANDBOX" not in os.environ, reason="only where .ci/run saw bubblewrap start")
def test_ci_has_a_sandbox():
    """Else the tests of it would be skipped without a word."""
    assert sandbox.why_not() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is of Linux")
@pytest.mark.parametrize("starts", [True, False])
def test_ci_says_in_a_line_where_bubblewrap_cannot_start(starts: bool, tmp_path):
    """And goes on; where it does start, no test of the sandbox may be skipped."""
    refusal = "echo 'bwrap: No permissions to create a new namespace' >&2; exit 1"
    programs = {
        "bwrap": "exit 0" if starts else refusal,
        "chromium": "exit 0",
        "python3": 'if [ "$1" != -c ]; then echo "sandbox: ${CONCRETE_STEPS_SANDBOX:-none}"; fi',
    }
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    run = ["bash", str(course_root() / ".ci" / "run")]
    done = subprocess.run(run, env=environment, capture_output=True, text=True)
    sentence = "bubblewrap cannot start on this machine (bwrap: No permissions to create a new namespace): "
    sentence += "the tests of the sandbox are skipped."
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == (["sandbox: 1"] if starts else [sentence, "sandbox: none"])


@pytest.mark.skipif(bool(sandbox.why_not()), reason="needs a sandbox")
def test_the_sandbox_sees_the_models_that_were_fetched(tmp_path, monkeypatch):
    """It has no network and no home: where the grader keeps them, it looks for them."""
    monkeypatch.delenv("CONCRETE_STEPS_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    folder = smollm2_model.cached_folder()
    folder.mkdir(parents=True)
    assert tmp_path in folder.parents
    environment = sandbox.environment(sandbox.SCRATCH, locked=True)
    code = "from concrete_steps.models import smollm2_model as m; print(m.fetch())"
    run = [*sandbox.command([folder], environment), sys.executable, "-P", "-c", code]
    done = subprocess.run(run, env=environment, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == (str(folder), 0), done.stderr


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


def test_no_check_is_killed_before_its_own_time():
    """What passes in a notebook in two minutes gets its mark."""
    longest = {notebook.id: isolated.longest_of(notebook.checks) for notebook in load_course().notebooks}
    assert longest["6.1"] == 600 > Limits().patience and longest["0"] == 0


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
    assert rounds.confirmed(passed, ["wrong", "error"]).outcome == PASSED
    assert rounds.confirmed(passed, ["wrong", PASSED]).message == rounds.CHANGED
    assert rounds.confirmed(passed, []).message == rounds.CHANGED
