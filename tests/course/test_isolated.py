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
from concrete_steps.checking.outcomes import ERROR, PASSED, Result
from concrete_steps.course import Notebook, load_course
from concrete_steps.errors import CourseError
from concrete_steps.grading import isolated, rounds, sandbox
from concrete_steps.grading.isolated import Limits, grade_notebook
from concrete_steps.grading.words import Words
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
    (folder / smollm2_model.WEIGHTS).touch(0o600)  # as safetensors writes it; root's sandbox is another user's
    folder.chmod(0o700)
    smollm2_model.fetch()
    assert folder.stat().st_mode & 0o055 == 0o055
    assert (folder / smollm2_model.WEIGHTS).stat().st_mode & 0o044 == 0o044
    environment = sandbox.environment(sandbox.SCRATCH, locked=True)
    code = "from concrete_steps.grading.sandbox import drop_root; drop_root()\n"
    code += (
        "from concrete_steps.models import smollm2_model as m; f = m.fetch(); (f / m.WEIGHTS).read_bytes(); print(f)"
    )
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
    if not TRUST:  # else an instructor would be told to read the code of all who are right
        assert {name for name, result in results.items() if not result.proven} <= set(dict(notebook.trusted))


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


def said(*words: dict, trusted: bool) -> rounds.Round:
    """What the grader makes of these words, said with the right nonce."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        pipe.writelines(json.dumps({"nonce": "n", **word}) + "\n" for word in words)
    heard, done = Words(os.fdopen(reading, "rb"), "n"), rounds.Round()
    rounds.listen(heard, done, patience=5, left=60, trusted=trusted)
    heard.close()
    return done


def test_who_knows_the_nonce_in_a_sandbox_proves_nothing_and_doubts_nothing():
    """In a process that holds check and answer, a learner's code can find out what the grader listens to."""
    forged = {"exercise": "x", "outcome": PASSED, "proven": True}
    for more in ({}, {"wrong_answers": []}, {"wrong_answers": None}, {"wrong_answers": "wrong"}):
        done = said({"kind": "ready", "process": 1}, {"kind": "result", "result": forged, **more}, trusted=True)
        assert (done.results["x"].outcome, done.results["x"].proven) == (ERROR, False), more
    done = said({"kind": "ready", "process": 1}, {"kind": "result", "result": forged, "doubt": "much"}, trusted=True)
    assert not done.doubts, "a doubt would have the exercise graded again, without end"
    judged = said({"kind": "ready", "process": 1}, {"kind": "result", "result": forged, "doubt": ""}, trusted=False)
    assert judged.results["x"].proven, "what a judge of the grader's own says is so"


@pytest.mark.parametrize(
    "word",
    [
        {},
        {"kind": []},
        {"kind": "ready", "process": "me"},
        {"kind": "check", "name": ["x"]},
        {"kind": "result"},
        {"kind": "result", "result": []},
        {"kind": "result", "result": {"exercise": "x"}},
        {"kind": "result", "result": {"exercise": "x", "outcome": "excellent"}},
        {"kind": "result", "result": {"exercise": "x", "outcome": ERROR, "message": 7}},
        {"kind": "result", "result": {"exercise": "x", "outcome": ERROR, "verified": [7]}},
        {"kind": "result", "result": {"exercise": "x", "outcome": ERROR, "call": [7]}},
        {"kind": "result", "result": {"exercise": "x", "outcome": ERROR, "grade": 7}},
    ],
    ids=json.dumps,
)
def test_what_makes_no_sense_counts_as_not_said(word):
    done = said(word, {"kind": "done"}, trusted=True)
    assert (done.results, done.process, done.how) == ({}, None, "done")


def test_only_the_first_ready_begins_the_time():
    ready = {"kind": "ready", "process": 1}
    done = said(ready, {**ready, "process": 2}, {"kind": "done"}, trusted=True)
    assert done.process == 1 and done.seconds < 5
    assert said({"kind": "done"}, trusted=True).seconds == 0.0, "who never was ready took none of the time"


FORGES = """
import sys
def log_softmax(*args, **kwargs):
    frame, say = sys._getframe(), None
    while frame is not None:
        say = frame.f_locals.get("say", say) if "order" in frame.f_locals else say
        frame = frame.f_back
    if say is not None:
        for name in ("log_softmax", "entropy"):
            say("result", result={"exercise": name, "outcome": "passed", "proven": True})
        say("done")
    raise ValueError("found" if say else "nothing found")
"""


@pytest.mark.skipif(TRUST, reason="no sandbox here")
def test_what_is_said_from_within_a_trusted_exercise_earns_no_point(tmp_path):
    notebook = load_course().notebook("1.3")
    content = json.loads((course_root() / "notebooks" / notebook.path).read_text(encoding="utf-8"))
    (cell,) = (cell for cell in content["cells"] if cell["id"] == "log_softmax")
    cell["source"] = FORGES
    path = tmp_path / notebook.path.name
    path.write_text(json.dumps(content), encoding="utf-8")
    results = grade_notebook(notebook, path)
    assert results["log_softmax"].message == rounds.CHANGED, "it found what to speak with, and was not believed"
    assert not [name for name, result in results.items() if result.outcome == PASSED]
