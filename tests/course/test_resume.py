"""A run of grade.py that is interrupted or killed: nothing half-written counts, and the next run goes on."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from concrete_steps.errors import CourseError
from concrete_steps.grading import marking, received, sandbox
from concrete_steps.grading.isolated import Limits
from concrete_steps.grading.marking import Verdicts, Work, course_digest
from concrete_steps.grading.submissions import tidy
from concrete_steps.grading.temporary import LOCK, PREFIX, folder_of_this_run
from concrete_steps.grading.workers import INSTALL, workers
from concrete_steps.paths import course_root

STEP = "0_start_here"
NAME = f"{STEP}.ipynb"
SOLVED = json.loads((course_root() / "solutions" / STEP / NAME).read_text(encoding="utf-8"))
ENDLESS = "def logit_difference(logits, right, wrong):\n    while True: pass\n"
GRADE = [sys.executable, str(course_root() / "scripts" / "grade.py")]
TRUST = bool(sandbox.why_not())  # systems without a sandbox still grade, when told so
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


def autograde(home: Path) -> list[str]:
    return [*GRADE, "--home", str(home), "autograde", STEP, "--jobs", "2", *(["--trust"] if TRUST else [])]


def start(home: Path) -> subprocess.Popen:
    return subprocess.Popen(
        autograde(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(files_of_the_run(home))},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def files_of_the_run(home: Path) -> Path:
    """Where it keeps what it needs while it runs."""
    place = home.with_name(f"{home.name} files")
    place.mkdir(exist_ok=True)
    return place


def files_of(home: Path) -> set[Path]:
    return {path for path in files_of_the_run(home).rglob("*") if path.is_file()}


def wait_until(true: Callable[[], bool], run: subprocess.Popen) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert run.poll() is None and time.monotonic() < end
        time.sleep(0.1)


def graders(run: subprocess.Popen) -> list[psutil.Process]:
    """The processes that grade a submission."""
    found = []
    for child in psutil.Process(run.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += [child] if any("concrete_steps.grading." in word for word in child.cmdline()) else []
    return found


def have_ended(processes: list[psutil.Process]) -> bool:
    """Soon: to give back the memory of PyTorch takes a moment."""
    end = time.monotonic() + 10
    while left := [process for process in processes if is_alive(process)]:
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return not left


def is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_run_that_was_stopped_is_gone_on_with(tmp_path: Path):
    """What was marked stays as it is; Ctrl-C ends in seconds with a sentence, and leaves no process."""
    hand_in(tmp_path, "a")
    hand_in(tmp_path, "b", logit_difference=ENDLESS)
    marked = tmp_path / "verdicts" / "a" / STEP / "in gradebook.json"
    run = start(tmp_path)
    wait_until(marked.exists, run)
    before = marked.stat().st_mtime_ns
    children = graders(run)
    run.kill()
    run.communicate(timeout=PATIENCE)
    assert TRUST or have_ended(children)
    assert files_of(tmp_path)
    for folder in files_of_the_run(tmp_path).iterdir():
        os.utime(folder, (0, 0))  # young ones may be of a run that has just begun
    run = start(tmp_path)
    wait_until(lambda: graders(run), run)
    children = graders(run)
    started = time.monotonic()
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=PATIENCE)
    assert time.monotonic() - started < 30
    assert run.returncode == 130
    assert said.strip().endswith("Stopped. What was marked is kept, and the same command goes on from there.")
    assert have_ended(children)
    assert not files_of(tmp_path), "files are left, of this run or of the killed one"
    assert not (tmp_path / "verdicts" / "b").exists()
    hand_in(tmp_path, "b")
    done = subprocess.run(autograde(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 of 3") == 2
    assert marked.stat().st_mtime_ns == before


SWALLOWED = """
import signal, sys, time
sys.path.insert(0, sys.argv[1])
import grade

class Dropped:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

def run(options):
    Dropped()
    print("swallowed", flush=True)
    time.sleep(60 if sys.argv[2] == "stopped" else 0)
    return 0

grade.AGAIN, grade.run = 0.5, run
print(grade.until_stopped(lambda: grade.main(["export"])))
time.sleep(1)
print("the end")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers by signal")
@pytest.mark.parametrize("ends, code", [("stopped", "130"), ("before", "0")])
def test_an_interrupt_that_is_swallowed_comes_again(ends, code):
    """Python drops what a destructor raises, wherever the signal found it; what has ended is not disturbed."""
    command = [sys.executable, "-c", SWALLOWED, str(course_root() / "scripts"), ends]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.splitlines() == ["swallowed", code, "the end"], done.stderr
    assert done.stderr.count("Stopped.") == (ends == "stopped")


def test_what_a_living_run_needs_is_not_removed(tmp_path: Path, monkeypatch):
    """Nor what is young, or somebody else's, or has no lock to ask; what a killed run left is."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def left(name: str, lock: bool = True, old: bool = True) -> Path:
        folder = tmp_path / f"{PREFIX}{name}"
        (folder / "in it").mkdir(parents=True)
        if lock:
            (folder / LOCK).touch()
        if old:
            os.utime(folder, (0, 0))
        return folder

    with folder_of_this_run() as of_the_living:
        os.utime(of_the_living, (0, 0))
        killed, others = left("killed"), [left("young", old=False), left("no lock", lock=False), Path(of_the_living)]
        with folder_of_this_run():
            assert not killed.exists() and all(folder.exists() for folder in others)
    assert not Path(of_the_living).exists()


@pytest.mark.skipif(os.name == "nt", reason="owners and links of POSIX")
def test_what_others_left_and_what_a_link_points_to_is_not_removed(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / f"{PREFIX}link"
    link.symlink_to(elsewhere, target_is_directory=True)
    of_another = tmp_path / f"{PREFIX}another"
    for folder in (elsewhere, of_another):
        folder.mkdir(exist_ok=True)
        (folder / LOCK).touch()
        os.utime(folder, (0, 0))
    os.utime(link, (0, 0), follow_symlinks=False)
    monkeypatch.setattr(os, "geteuid", lambda: of_another.stat().st_uid + 1)
    with folder_of_this_run():
        assert of_another.exists() and elsewhere.exists()
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with folder_of_this_run():
        assert not of_another.exists() and elsewhere.exists() and link.is_symlink()


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
    with pytest.raises(CourseError, match="another version of the course"):
        marking.mark(Work({}, {}, Limits(), "another"))


def test_without_dask_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(CourseError, match=re.escape(INSTALL)), workers(1, "local"):
        pass
