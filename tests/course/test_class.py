"""A class of three hundred, honest and hostile, graded in one run; and a worker that is killed in another.

They take a quarter of an hour: they run where every notebook does, once a week (`--browser all`).
"""

import csv
import importlib.util
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from concrete_steps.grading import sandbox
from concrete_steps.paths import course_root

pytestmark = pytest.mark.skipif(bool(sandbox.why_not()), reason=sandbox.why_not())


def beside(name: str):
    """Another module of tests, for its cases: pytest puts no folder of tests on Python's path."""
    spec = importlib.util.spec_from_file_location(f"class_{name}", Path(__file__).with_name(f"{name}.py"))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


attacks, forged, grading, hand_ins = map(beside, ("test_attacks", "test_forged", "test_grading", "test_hand_ins"))
habits, tricks = map(beside, ("habits", "tricks"))
STEP, LEARNERS = grading.STEP, 300
CONFIG = "c = get_config()\nc.GradeApart.patience = 10\n"


@pytest.fixture(autouse=True)
def _weekly(request):
    if request.config.getoption("--browser") != "all":
        pytest.skip("once a week")


def hand_in_all(home: Path) -> dict[str, float]:
    """Write the class; by student, the points that the hand-in deserves."""
    deserved = {}
    for name, kind in hand_ins.KINDS.items():
        hand_ins.hand_in(home, kind.files, f"kind {name}")
        deserved[f"kind {name}"] = sum(kind.marks)
    for name, (files, _) in (hand_ins.REFUSED | habits.REFUSED).items():
        hand_ins.hand_in(home, files, f"refused {name}")
        deserved[f"refused {name}"] = 0
    for name, habit in habits.HABITS.items():
        hand_ins.hand_in(home, {hand_ins.NAME: habit.notebook, **(habit.files or {})}, f"habit {name}")
        deserved[f"habit {name}"] = sum(habit.marks)
    for name, (files, marks) in habits.FILES.items():
        hand_ins.hand_in(home, files, f"file {name}")
        deserved[f"file {name}"] = sum(marks)
    for name, (before, body) in (forged.FORGED | tricks.TRICKS).items():
        answer = f"{before}\n{forged.DIFFERENCE}{body}\n"
        grading.hand_in(home, f"forged {name}", grading.Case(grading.NOT_FIRST, answer))
        deserved[f"forged {name}"] = 2
    for name, body in attacks.ENDINGS.items():
        grading.hand_in(home, f"ending {name}", grading.Case(grading.NOT_FIRST, attacks.BODY + body))
        deserved[f"ending {name}"] = 2
    secrets = home / "secrets"
    secrets.mkdir()
    (secrets / "key").write_text("secret")
    code = attacks.QUIET % (str(course_root()), str(Path.home()), str(secrets))
    code = f"KEY_OF_GRADER, GRADER, PORT = {0x5EC}, {os.getpid()}, 8899\n{code}"
    for name in attacks.ATTACKS:
        answer = code + attacks.ANSWER % [name]
        grading.hand_in(home, f"attack {name}", grading.Case(grading.NOT_FIRST, answer))
        deserved[f"attack {name}"] = 2
    draw = random.Random(0)
    for number in range(len(deserved), LEARNERS):
        marks = tuple(draw.choice((0, 1)) for _ in range(3))
        name = f"honest {number}"
        grading.hand_in(home, name, honest(marks))
        deserved[name] = sum(marks)
    return deserved


def honest(marks: tuple[int, int, int]) -> grading.Case:
    first, before, know = marks
    return grading.Case(
        marks,
        grading.RIGHT if first else grading.WRONG,
        f'answer_before_running = "{"b" if before else "a"}"',
        f'answer_already_know = "{"a" if know else "d"}"',
    )


def points(home: Path) -> dict[str, tuple[float, float]]:
    """By student: proven points, and all."""
    command = [sys.executable, str(course_root() / "scripts" / "grade.py"), "--home", str(home)]
    subprocess.run([*command, "export", "--to", str(home / "marks.csv")], check=True, capture_output=True)
    with open(home / "marks.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["student_id"]: (float(row["score"]) - float(row["trusted"]), float(row["score"])) for row in rows}


def autograde(home: Path, *arguments: str) -> subprocess.Popen:
    (home / "nbgrader_config.py").write_text(CONFIG)
    command = [sys.executable, str(course_root() / "scripts" / "grade.py"), "--home", str(home), "autograde", STEP]
    with open(home / "said", "w") as said:
        return subprocess.Popen([*command, "--jobs", "2", *arguments], stdout=said, stderr=said)


def wrong_marks(deserved: dict[str, float], found: dict[str, tuple[float, float]]) -> dict[str, str]:
    """Whoever attacks the judge may lose the proof of their own other points, which are trusted then; nobody else."""
    wrong = {}
    for student, points in deserved.items():
        proven, score = found.get(student, (0.0, 0.0))
        if score != points or (proven != points and not student.startswith("forged")):
            wrong[student] = f"deserves {points}, has {score}, {proven} of them proven"
    return wrong


def test_a_mixed_class(tmp_path):
    """0 forged proven points, 0 marks lost, nothing left behind."""
    home = tmp_path / "class"
    home.mkdir()
    deserved = hand_in_all(home)
    assert len(deserved) >= LEARNERS
    before = attacks.started_by_me()
    run, most = autograde(home), Most()
    with most.watching(run):
        code = run.wait()
    said = (home / "said").read_text()
    assert code == 1, said  # some hand-ins hold no notebook
    assert wrong_marks(deserved, points(home)) == {}
    assert attacks.started_by_me() <= before, "processes are left"
    assert (home / "secrets" / "key").read_text() == "secret"
    print(f"{len(deserved)} learners; at most {most.bytes / 2**30:.2f} GB at once")


def test_a_worker_that_is_killed_costs_no_mark(tmp_path):
    """Of a Dask cluster, in the middle of a class."""
    pytest.importorskip("distributed")
    home = tmp_path / "class"
    home.mkdir()
    deserved = {}
    for number in range(12):
        marks = (number % 2, number // 2 % 2, 1)
        grading.hand_in(home, f"learner {number}", honest(marks))
        deserved[f"learner {number}"] = sum(marks)
    run = autograde(home, "--scheduler", "local")
    marked = 0
    while run.poll() is None and marked < 3:
        marked = len(list((home / "autograded").glob(f"*/{STEP}/*.ipynb")))
        threading.Event().wait(0.2)
    workers = [p for p in psutil.Process(run.pid).children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
    assert len(workers) >= 2 and marked < len(deserved), (home / "said").read_text()
    workers[0].kill()
    assert run.wait() == 0, (home / "said").read_text()
    assert wrong_marks(deserved, points(home)) == {}


class Most:
    """The most memory that a process and its children took together, in bytes (shared pages once)."""

    def __init__(self):
        self.bytes = 0

    def watching(self, run: subprocess.Popen) -> "Most":
        self.run, self.ended = run, threading.Event()
        return self

    def __enter__(self) -> None:
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def __exit__(self, *error) -> None:
        self.ended.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.ended.wait(3):
            process = psutil.Process(self.run.pid)
            self.bytes = max(self.bytes, sum(map(sandbox._share, [process, *process.children(recursive=True)])))
