"""A run of grade.py that is interrupted or killed: nothing half-written counts, and the next run goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from concrete_steps.grading import marking, received
from concrete_steps.grading.isolated import Limits
from concrete_steps.grading.marking import Verdicts, Work, course_digest
from concrete_steps.grading.submissions import tidy
from concrete_steps.grading.workers import INSTALL
from concrete_steps.paths import course_root

STEP = "0_start_here"
NAME = f"{STEP}.ipynb"
SOLVED = json.loads((course_root() / "solutions" / STEP / NAME).read_text(encoding="utf-8"))
ENDLESS = "def logit_difference(logits, right, wrong):\n    while True: pass\n"
GRADE = [sys.executable, str(course_root() / "scripts" / "grade.py")]
PATIENCE = 300  # seconds for a step of these tests: the machine may be busy


def hand_in(home: Path, student: str = "s", **answers: str) -> Path:
    """The solved notebook with other answers to some exercises."""
    content = json.loads(json.dumps(SOLVED))
    for cell in content["cells"]:
        cell["source"] = answers.get(cell["id"], cell["source"])
    folder = home / "submitted" / student / STEP
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).write_text(json.dumps(content), encoding="utf-8")
    return folder


def wait_for(path: Path, run: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert run.poll() is None and time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.1)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("sign", ["SIGINT", "SIGKILL"])
def test_a_run_that_was_stopped_is_gone_on_with(sign: str, tmp_path: Path):
    """What was marked stays as it is; Ctrl-C ends in seconds with a sentence, and leaves no process."""
    hand_in(tmp_path, "a")
    hand_in(tmp_path, "b", logit_difference=ENDLESS)
    run = subprocess.Popen(
        [*GRADE, "--home", str(tmp_path), "autograde", STEP, "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    marked = tmp_path / "verdicts" / "a" / STEP / "in gradebook.json"
    wait_for(marked, run)
    before = marked.stat().st_mtime_ns
    children = psutil.Process(run.pid).children(recursive=True)
    started = time.monotonic()
    run.send_signal(getattr(signal, sign))
    _, said = run.communicate(timeout=PATIENCE)
    if sign == "SIGINT":
        assert time.monotonic() - started < 30
        assert run.returncode == 130
        assert said.strip().endswith("Stopped. What was marked is kept, and the same command goes on from there.")
        assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not (tmp_path / "verdicts" / "b").exists()
    hand_in(tmp_path, "b")
    done = subprocess.run([*GRADE, "--home", str(tmp_path), "autograde", STEP], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 of 3") == 2
    assert marked.stat().st_mtime_ns == before


def test_a_hand_in_that_arrived_in_part_is_completed(tmp_path: Path):
    """Killed while files were moved: the rest joins them, and it is one hand-in."""
    folder = hand_in(tmp_path)
    (folder / "helper.py").write_text("x = 1")
    place = tmp_path / "received" / "s" / STEP
    received.move(folder / NAME, place / received.ARRIVING / NAME)
    tidy(folder)
    assert [path.name for path in received.hand_ins(place)] == ["1"]
    assert {path.name for path in (place / "1").iterdir()} == {NAME, "helper.py"}
    assert {path.name for path in folder.iterdir()} == {NAME, "helper.py"}


def test_killed_before_the_well_formed_notebook_was_written(tmp_path: Path):
    """What is missing is made again of what was received; what stands there half is no hand-in."""
    folder = hand_in(tmp_path)
    tidy(folder)
    whole = (folder / NAME).read_bytes()
    (folder / NAME).unlink()
    (folder / ".half.tmp").write_bytes(whole[:100])
    submission = tidy(folder)
    assert (folder / NAME).read_bytes() == whole
    assert submission.unusual == tidy(folder).unusual


def test_a_disk_that_is_full_leaves_nothing_half(tmp_path: Path, monkeypatch):
    folder = hand_in(tmp_path)

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("concrete_steps.workspace.copy.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        received.put(folder / NAME, b"{}")
    monkeypatch.undo()
    assert [path.name for path in folder.iterdir()] == [NAME]
    assert json.loads((folder / NAME).read_text()) == SOLVED


def work(**modules: bytes) -> Work:
    return Work({"0": b"{}"}, modules, Limits(), course_digest())


def test_a_verdict_is_for_one_work(tmp_path: Path):
    """Another notebook, module, limit or course, and it is found again; half a file is none."""
    verdicts = Verdicts(tmp_path)
    key = work().key("0")
    verdicts.keep("0", key, {"x": {"exercise": "x", "outcome": "passed"}})
    assert verdicts.get("0", key)["x"].outcome == "passed"
    others = [work(a=b"1"), Work({"0": b"{ }"}, {}, Limits(), course_digest()), Work({"0": b"{}"}, {}, Limits(), "")]
    others.append(Work({"0": b"{}"}, {}, Limits(patience=1), course_digest()))
    assert not [other for other in others if verdicts.get("0", other.key("0"))]
    path = tmp_path / "0.json"
    path.write_text(path.read_text()[:40])
    assert verdicts.get("0", key) is None


def test_a_changed_check_asks_for_new_verdicts(tmp_path: Path, monkeypatch):
    before = work().key("0")
    monkeypatch.setattr(marking, "_digest_of_file", lambda path: "changed")
    assert work().key("0") != before


def test_a_worker_with_another_course_grades_nothing():
    with pytest.raises(marking.CourseError, match="another version of the course"):
        marking.mark(Work({}, {}, Limits(), "another"))


def test_without_dask_one_sentence_says_how_to_get_it(tmp_path: Path):
    hand_in(tmp_path)
    (tmp_path / "distributed.py").write_text("raise ImportError('not there')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [*GRADE, "--home", str(tmp_path), "autograde", STEP, "--scheduler", "local"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == f"{INSTALL} (not there)"
