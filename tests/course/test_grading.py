"""nbgrader grades right, wrong, broken and hostile notebooks in one run, each for itself.

One run of scripts/grade.py marks all of CASES; the tests look at what came of it. test_hand_ins.py has the formats and
states of honest notebooks, test_attacks.py what is tried against the sandbox.
"""

import contextlib
import csv
import importlib.util
import io
import json
import ntpath
import os
import posixpath
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from filelock import FileLock
from nbconvert.exporters import HTMLExporter
from traitlets.config import Config

from concrete_steps.checking.checks import run_checks
from concrete_steps.checking.loader import load
from concrete_steps.checking.outcomes import PASSED, Result
from concrete_steps.course import load_course
from concrete_steps.grading import grader, marking, sandbox
from concrete_steps.grading.marking import Verdicts
from concrete_steps.grading.nbgrader_paths import glob_of, regular_expression
from concrete_steps.grading.nbgrader_settings import HOME, GradeApart, leave_out_placements
from concrete_steps.grading.submissions import tidy
from concrete_steps.paths import course_root

STEP = "0_start_here"
ROOT = course_root()
NOTEBOOK = ROOT / "notebooks" / STEP / f"{STEP}.ipynb"
LINUX = sys.platform == "linux"
TRUST = bool(sandbox.why_not())  # systems without a sandbox grade only when told so
CONFIG = "c = get_config()\nc.GradeApart.patience = 10\nc.GradeApart.memory = 1500 * 2**20\n"
CONFIG += f"c.GradeApart.trust = {TRUST}\n"

RIGHT = "def logit_difference(logits, right, wrong):\n    return logits[right] - logits[wrong]\n"
WRONG = "def logit_difference(logits, right, wrong):\n    return logits[wrong] - logits[right]\n"


def body(*lines: str) -> str:
    """The function with these lines as its body."""
    return "def logit_difference(logits, right, wrong):\n" + "".join(f"    {line}\n" for line in lines)


FLOOD_PIPES = body(
    "import os",
    "for descriptor in range(3, 30):",
    "    try:",
    "        os.write(descriptor, b'x' * 10**8)",
    "    except OSError:",
    "        pass",
    "return logits[right] - logits[wrong]",
)
SWALLOWS = body("while True:", "    try:", "        while True: pass", "    except BaseException:", "        pass")
ENDLESS = """\
def wait():
    while True:
        pass

SIGN = wait()

def logit_difference(logits, right, wrong):
    return SIGN * (logits[right] - logits[wrong])
"""
NOISE = body(
    "import sys, threading, time, warnings",
    "print('x' * 10**7)",
    "warnings.warn('careful')",
    "sys.stderr.write('careful')",
    "threading.Thread(target=lambda: time.sleep(10**6)).start()",
    "return logits[right] - logits[wrong]",
)
# Patches that run with the answer: statements beside it that it does not need are never run.
PATCHED_TORCH = body(
    "import torch",
    "torch.isclose = lambda a, b, **options: torch.ones_like(a, dtype=torch.bool)",
    "return logits[wrong] - logits[right]",
)
PATCHED_JUDGE = body(
    "from concrete_steps.checking import outcomes",
    "outcomes.Judge.failed = lambda self, error, calls: self.passed()",
    "return logits[wrong] - logits[right]",
)
PATCHED_HELPER = body(
    "from concrete_steps.checking import testing",
    "testing.assert_close = testing.assert_equal = lambda *given, **named: None",
    "return logits[wrong] - logits[right]",
)
# What would make nbgrader's own grader pass anything, all in one notebook of wrong answers.
TAMPERED = """\
import ast
class Cheat(ast.NodeTransformer):
    def visit_Call(self, node):
        return ast.Constant(None)
get_ipython().ast_transformers.append(Cheat())
def check(*given, **named):
    pass
"""
EXITS = body("import os, threading, time", "threading.Timer(0.01, os._exit, (0,)).start()", "time.sleep(60)")
# None of it is needed for the answer, so none of it is run.
AFTER_IT = "while True: pass\nimport os, sys\nsys.exit(0)\nos._exit(0)\n"
MEMORY = body("taken = []", "while True:", "    taken.append(b'x' * 10**7)")


@dataclass
class Case:
    """Answers of one notebook, what is done to its JSON, the marks that it deserves and what the table remarks."""

    marks: tuple[int, int, int]
    logit_difference: str = RIGHT
    before: str = 'answer_before_running = "b"'
    know: str = 'answer_already_know = "a"'
    own: str = ""
    change: object = None
    remark: str = ""
    file_name: str = f"{STEP}.ipynb"

    def notebook(self) -> dict:
        content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
        answers = {
            "logit_difference": self.logit_difference,
            "answer_before_running": self.before,
            "answer_already_know": self.know,
        }
        for cell in content["cells"]:
            cell["source"] = answers.get(cell["id"], "".join(cell["source"]))
        if self.own:
            own = {"cell_type": "code", "id": "own", "metadata": {}, "source": self.own, "outputs": []}
            content["cells"].insert(4, {**own, "execution_count": None})
        if self.change is not None:
            self.change(content)
        return content


def with_tampered_checks(content: dict) -> None:
    """One is edited and says that it is worth much, one is not to be run, one is gone."""
    edited, tagged, gone = (cell for cell in content["cells"] if cell["id"].startswith("check_"))
    edited["source"], edited["metadata"]["nbgrader"]["points"] = "print('passed')", 100
    tagged["metadata"]["tags"] = ["skip-execution", "raises-exception", "remove-output"]
    content["cells"].remove(gone)


ONES = (1, 1, 1)
NOT_FIRST = (0, 1, 1)
CASES = {
    "right": Case(ONES),
    "wrong": Case(NOT_FIRST, WRONG),
    "blank": Case(
        (0, 0, 0), body("raise NotImplementedError"), "answer_before_running = None", "answer_already_know = None"
    ),
    "tampered": Case(
        (0, 0, 0),
        WRONG,
        before='answer_before_running = "a"',
        know='answer_already_know = "d"',
        own=TAMPERED,
        change=with_tampered_checks,
        remark="edited check of logit_difference, restored; read its code: it mentions ast_transformers",
    ),
    "patched_torch": Case(NOT_FIRST, PATCHED_TORCH),
    "patched_judge": Case(NOT_FIRST, PATCHED_JUDGE),
    "patched_helper": Case(NOT_FIRST, PATCHED_HELPER),
    "endless": Case(NOT_FIRST, SWALLOWS, remark="logit_difference timed out"),
    "endless_cell": Case(NOT_FIRST, ENDLESS, remark="blocked the process"),
    "noise": Case(ONES, NOISE),
    "floods_pipes": Case(NOT_FIRST, FLOOD_PIPES, remark="ended or blocked"),
    "exits": Case(NOT_FIRST, EXITS, remark="ended or blocked"),
    "goes_on_after_it": Case(ONES, RIGHT + AFTER_IT),
    "two_copies": Case(NOT_FIRST, WRONG, remark="more than once"),
}
if LINUX:  # only Linux limits memory
    CASES["takes_all_memory"] = Case(NOT_FIRST, MEMORY)
EXERCISES = load_course().notebook("0").exercises


@dataclass
class Class:
    """What one run left: its folder, its table, and the graded notebooks."""

    home: Path
    table: str
    code: int

    def verdicts(self, student: str) -> dict[str, bool]:
        """By exercise: whether the check cell counts as passed."""
        nb = nbformat.read(self.home / "autograded" / student / STEP / f"{STEP}.ipynb", as_version=4)
        checks = {cell.metadata.nbgrader.grade_id: cell for cell in nb.cells if "check_" in cell.id}
        return {
            name: not any(output.output_type == "error" for output in checks[f"check_{name}"].outputs)
            for name in EXERCISES
        }

    @property
    def text(self) -> str:
        """The last column read on, from line to line, as it may be wrapped anywhere."""
        lines = [line.rsplit("│", 2)[-2].strip() for line in self.table.split("\n") if line.count("│") > 1]
        return " ".join(lines)

    def row(self, student: str) -> str:
        """The student's line of the table, which may be wrapped."""
        rows = self.table.split(f"│ {student} ", 1)[1].split("\n")
        more = [line for line in rows[1:] if line.startswith("│  ")]
        own = rows[:1] + more[: next((i for i, line in enumerate(rows[1:]) if not line.startswith("│  ")), len(more))]
        return " ".join(line.rsplit("│", 2)[-2].strip() for line in own)


def grade(home: Path, *arguments: str) -> subprocess.CompletedProcess:
    """scripts/grade.py in this process."""
    spec = importlib.util.spec_from_file_location("grade", ROOT / "scripts" / "grade.py")
    command = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(command)
    before, out, err = dict(os.environ), io.StringIO(), io.StringIO()
    try:
        with contextlib.chdir(ROOT), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command.main(["--home", str(home), *arguments])
    finally:
        os.environ.clear()
        os.environ.update(before)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def hand_in(home: Path, student: str, case: Case, file_name: str | None = None) -> None:
    folder = home / "submitted" / student / STEP
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (file_name or case.file_name)).write_text(json.dumps(case.notebook()), encoding="utf-8")


@pytest.fixture(scope="session")
def graded(tmp_path_factory) -> Class:
    """All of CASES, marked in one run, by the process of these tests that needs it first; nobody changes it."""
    common = (
        tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else tmp_path_factory.mktemp("g")
    )
    home, said = common / "class", common / "said.json"
    with FileLock(common / "class.lock"):
        if not said.exists():
            done = grade_class(home)
            assert done.returncode in (0, 1), done.stderr
            said.write_text(json.dumps([done.stdout, done.returncode]), encoding="utf-8")
    return Class(home, *json.loads(said.read_text(encoding="utf-8")))


def grade_class(home: Path) -> subprocess.CompletedProcess:
    for student, case in CASES.items():
        hand_in(home, student, case)
    hand_in(home, "two_copies", CASES["right"], f"{STEP}-Copy1.ipynb")
    (home / "submitted" / "nothing" / STEP).mkdir(parents=True)
    (home / "submitted" / "nothing" / STEP / "notes.txt").write_text("I will hand it in tomorrow.")
    (home / "nbgrader_config.py").write_text(CONFIG)
    command = [sys.executable, str(ROOT / "scripts" / "grade.py"), "--home", str(home), "autograde", STEP]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


@pytest.fixture
def copy(graded, tmp_path) -> Class:
    """The marked class, to go on with."""
    return replace(graded, home=shutil.copytree(graded.home, tmp_path / "class"))


@pytest.mark.parametrize("student", CASES)
def test_each_submission_gets_the_marks_that_it_deserves(student, graded):
    verdicts = graded.verdicts(student)
    assert tuple(map(int, verdicts.values())) == CASES[student].marks, graded.row(student)


@pytest.mark.parametrize("student", [name for name, case in CASES.items() if case.remark])
def test_what_is_unusual_is_remarked(student, graded):
    assert CASES[student].remark in graded.row(student)


def test_nothing_is_remarked_of_honest_work(graded):
    for student in ("right", "wrong", "blank", "noise"):
        assert graded.row(student) == ""


def test_a_folder_without_notebooks_is_named(graded):
    assert graded.code == 1
    assert "holds no notebook" in graded.row("nothing")


def test_marks_are_exported(graded, tmp_path):
    done = grade(graded.home, "export", "--to", str(tmp_path / "marks.csv"))
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "marks.csv", encoding="utf-8") as file:
        marks = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert marks == {student: sum(case.marks) for student, case in CASES.items()}


def test_points_that_are_not_proven_are_counted_apart(copy, monkeypatch):
    """In the table, and in the exported file."""

    def known(self, notebook, nb, about):
        return {name: Result(name, PASSED, proven=name != "logit_difference") for name in notebook.exercises}

    monkeypatch.setattr(GradeApart, "grade", known)
    monkeypatch.setattr(Verdicts, "get", lambda self, name, key: None)
    monkeypatch.setattr(grader, "mark", lambda work: {name: {} for name in work.notebooks})
    done = grade(copy.home, "autograde", STEP, "--student", "right", "--force")
    assert "3 of 3 (1 trusted)" in done.stdout, done.stdout + done.stderr
    assert "trusted though it could be proven, read its code: logit_difference" in " ".join(done.stdout.split())
    grade(copy.home, "export", "--to", str(copy.home / "marks.csv"))
    rows = {row["student_id"]: row for row in csv.DictReader((copy.home / "marks.csv").open())}
    assert float(rows["right"]["trusted"]) == 1 and float(rows["noise"]["trusted"]) == 0


def test_feedback_shows_what_is_wrong(copy):
    assert grade(copy.home, "feedback", STEP, "--student", "wrong").returncode == 0
    page = copy.home / "feedback" / "wrong" / STEP / f"{STEP}.html"
    assert "the sign is turned" in page.read_text(encoding="utf-8")


def test_only_what_is_new_is_marked_again(copy):
    before = {path: path.stat().st_mtime_ns for path in (copy.home / "autograded").rglob("*.ipynb")}
    hand_in(copy.home, "blank", CASES["right"], "second try.ipynb")
    done = grade(copy.home, "autograde", STEP)
    after = {path: path.stat().st_mtime_ns for path in (copy.home / "autograded").rglob("*.ipynb")}
    changed = {path.parent.parent.name for path in after if before.get(path) != after[path]}
    assert changed == {"blank"}
    assert "3 of 3" in done.stdout.split("│ blank ")[1].split("\n")[0]
    assert {path.name for path in (copy.home / "received" / "blank" / STEP / "2").iterdir()} == {"second try.ipynb"}


def test_nbgraders_own_command_uses_the_same_grader(copy):
    """The formgrader's button and the command line run nbgrader's converter, with our configuration."""
    env = {**os.environ, HOME: str(copy.home)}
    command = [sys.executable, "-m", "nbgrader", "autograde", STEP, "--student", "exits", "--force"]
    done = subprocess.run(command, cwd=ROOT / "scripts", env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert tuple(map(int, copy.verdicts("exits").values())) == CASES["exits"].marks


# ---- Hand-ins that would stop, read or run something -----------------------------------------------------------------

PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMG = "<img src=x onerror=alert(1)>.ipynb"
LINKS = """\
[one](javascript:alert(1)) [two](JaVaScRiPt:alert(1)) [three](data:text/html;base64,x) [four](evil.html)
![five](javascript:alert(1)) <javascript:alert(1)> [six](&#106;avascript:alert(1)) [web](https://example.org)

[seven]: javascript:alert(1)
[seven]
"""
PASTED = "![mine.png](attachment:mine%20one.png) ![lost.png](attachment:lost.png) ![drawn](attachment:drawn.svg)"
ATTACHMENTS = {
    "mine one.png": {"image/png": PICTURE},
    "drawn.svg": {"image/svg+xml": "<svg onload='alert(1)'/>"},
    "odd": ["x"],
}


def with_texts(content: dict) -> None:
    """Markdown cells: links, pasted pictures, a quotation in a quotation in a quotation ..."""
    for source, attachments in ((LINKS, {}), (PASTED, ATTACHMENTS), (">" * 3000 + " at the bottom", {})):
        cell = {"cell_type": "markdown", "metadata": {}, "source": source, "attachments": attachments}
        content["cells"].append(cell)


ODD_CASES = {
    "Doe, Jane": Case(ONES, change=with_texts),
    "[bold] [x": Case(ONES, file_name="[red] \x1b[31m.ipynb"),
    "html_name": Case((0, 0, 0), file_name=IMG),
    "damaged": Case(ONES),
}
if os.name == "nt":  # where no file can have these names
    del ODD_CASES["[bold] [x"], ODD_CASES["html_name"]


@contextlib.contextmanager
def judged_here():
    """Within, the checks run in this process: who is graded there is honest."""

    def judge(notebook, path, limits, trust, pair=None):
        results = run_checks(notebook, notebook.exercises, load(path, notebook.exercises))
        return {name: replace(result, proven=True) for name, result in results.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marking, "grade_notebook", judge)
        yield


@pytest.mark.parametrize("name", ['=HYPERLINK("http://x.y","A")', "+1", "-1", "@SUM(A1)"])
def test_no_name_is_a_formula_in_the_table_of_marks(name):
    assert grader.no_formula(name) == "'" + name
    assert [grader.no_formula(its) for its in ("Doe, Jane", -1.5, None, "")] == ["Doe, Jane", -1.5, None, ""]


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Class:
    """Odd hand-ins, in a folder whose name means something in regular expressions and in patterns of file names."""
    home = tmp_path_factory.mktemp("c++ (1) [x] ") / "class"
    home.mkdir()
    (home / "nbgrader_config.py").write_text(CONFIG)
    for student, case in ODD_CASES.items():
        hand_in(home, student, case)
    folder = home / "submitted" / "Doe, Jane" / STEP
    (folder / "evil.html").write_text("<script>alert(1)</script>")
    if os.name != "nt":
        os.mkfifo(folder / "a pipe.ipynb")
        (folder / "zero.ipynb").symlink_to("/dev/zero")
        (folder / "picture.png").symlink_to(home / "gradebook.db")
        (folder / "up").symlink_to(home)
        (home / "submitted" / "html_name" / STEP / IMG).write_text('{"cells": <b>')
        (home / "submitted" / "a link").mkdir()
        (home / "submitted" / "a link" / STEP).symlink_to(folder)
    if LINUX:  # others take no bytes that are not UTF-8
        hand_in(home, os.fsdecode(b"Ren\xe9e"), Case(ONES))
        hand_in(home, "<b>", Case(ONES))
    with judged_here():
        done = grade(home, "autograde", STEP)
    assert "Traceback" not in done.stderr
    return Class(home, done.stdout, done.returncode)


@pytest.mark.parametrize("student", [name for name in ODD_CASES if name != "damaged"])  # `pages` may have damaged it
def test_odd_hand_ins_get_the_marks_that_they_deserve(student, odd):
    assert tuple(map(int, odd.verdicts(student).values())) == ODD_CASES[student].marks, odd.table


def test_names_are_shown_by_their_letters(odd):
    if os.name == "nt":
        pytest.skip("Windows has no such names")
    assert r"[red] \x1b[31m.ipynb" in odd.row("[bold] [x")
    assert "\x1b[31m" not in odd.table
    if LINUX:
        assert r"Ren\udce9e" in odd.table and "rename the folder" in odd.table
        assert odd.code == 1
    assert "is a link to another place" in odd.text


def test_what_is_no_file_is_left_out_and_never_followed(odd):
    if os.name != "nt":
        assert odd.row("Doe, Jane").replace("  ", " ") == "left out: a pipe.ipynb, picture.png, up, zero.ipynb"
    for kind in ("submitted", "autograded"):
        files = sorted(path.name for path in (odd.home / kind / "Doe, Jane" / STEP).iterdir())
        assert files == [f"{STEP}.ipynb"], kind
    assert (odd.home / "received/Doe, Jane" / STEP / "1/evil.html").is_file()


@pytest.fixture(scope="module")
def pages(odd) -> dict[str, str]:
    """The feedback pages of all odd hand-ins but one, whose marked notebook is damaged."""
    damaged = odd.home / "autograded" / "damaged" / STEP / f"{STEP}.ipynb"
    damaged.chmod(0o644)
    damaged.write_text("{")
    done = grade(odd.home, "feedback", STEP)
    assert done.returncode == 1
    assert "NO PAGE for damaged: nbgrader failed; nbgrader's own words are in" in done.stdout
    found = {path.parent.parent.name: path.read_text(encoding="utf-8") for path in odd.home.glob("feedback/*/*/*.html")}
    assert set(found) == set(ODD_CASES) - {"damaged"}
    return found


def test_a_pasted_picture_is_on_the_page_and_a_missing_one_stops_nothing(pages):
    assert f"data:image/png;base64,{PICTURE}" in pages["Doe, Jane"]
    assert "onload" not in pages["Doe, Jane"]


def test_nothing_that_a_learner_wrote_runs_on_the_page(pages):
    for student, page in pages.items():
        elements = BeautifulSoup(page, "html.parser").find_all(True)
        targets = [str(e.get(name, "")) for e in elements for name in ("href", "src")]
        assert not [t for t in targets if re.match(r"\s*(?:java|vb)script:|data:text", t, re.IGNORECASE)], student
        assert not [e for e in elements if any(name.startswith("on") for name in e.attrs)], student
        assert not [t for t in targets if "evil" in t], student
    assert 'href="https://example.org"' in pages["Doe, Jane"]
    assert "at the bottom" in pages["Doe, Jane"]
    if os.name != "nt":
        assert "onerror=alert" in BeautifulSoup(pages["html_name"], "html.parser").get_text()


def test_the_formgrader_s_page_runs_nothing_either(odd, pages):
    """Its exporter gets the server's configuration, not nbgrader's."""
    exporter = HTMLExporter(config=Config(HTMLExporter={"template_name": "classic"}))
    page, _ = exporter.from_filename(str(odd.home / "autograded" / "Doe, Jane" / STEP / f"{STEP}.ipynb"))
    assert 'href="https://example.org"' in page
    assert not re.search(r'href="\s*(?:java|data)', page, re.IGNORECASE)


def test_the_course_s_own_texts_keep_their_looks(pages):
    page = BeautifulSoup(pages["Doe, Jane"], "html.parser")
    assert page.find("details") and page.find("summary") and page.find("table")


def test_one_damaged_notebook_stops_neither_the_table_nor_the_marks(odd, pages, tmp_path):
    done = grade(odd.home, "autograde", STEP)
    assert "the marks cannot be read" in done.stdout and "│ Doe, Jane" in done.stdout
    done = grade(odd.home, "export", "--to", str(tmp_path / "marks.csv"))
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "marks.csv", encoding="utf-8") as file:
        marks = {row["student_id"]: row["score"] for row in csv.DictReader(file)}
    assert set(marks) == set(ODD_CASES)
    assert marks["Doe, Jane"] == "3.0"
    assert "cannot be read" in (tmp_path / "marks.csv").read_text(encoding="utf-8")


def test_a_name_with_brackets_can_be_asked_for(odd):
    if os.name == "nt":
        pytest.skip("Windows has no such names")
    with judged_here():
        done = grade(odd.home, "autograde", STEP, "--student", "[bold] [x", "--force")
    assert done.returncode == 0
    assert "│ [bold] [x" in done.stdout and "Doe, Jane" not in done.stdout


@pytest.mark.parametrize(
    ("system", "root", "folder", "path"),
    [
        (ntpath, r"C:\users\new (1)\grading", r"C:\users\new (1)\solutions", r"C:\users\new (1)\solutions\x+[y]\1_a"),
        (ntpath, r"C:\users\new (1)\grading", "submitted", r"C:\users\new (1)\grading\submitted\x+[y]\1_a"),
        (posixpath, "/c++/g (1)", "/c++/solutions", "/c++/solutions/x+[y]/1_a"),
        (posixpath, "/c++/g (1)", "submitted", "/c++/g (1)/submitted/x+[y]/1_a"),
    ],
)
def test_a_path_becomes_a_regular_expression_that_finds_it(system, root, folder, path):
    structure = os.path.join("{nbgrader_step}", "{student_id}", "{assignment_id}")
    student, assignment = "(?P<student_id>.*)", "(?P<assignment_id>.*)"
    found = re.match(regular_expression(root, folder, structure, student, assignment, system), path)
    assert found and found.groupdict() == {"student_id": "x+[y]", "assignment_id": "1_a"}


def test_a_pattern_means_what_is_there_by_its_letters(tmp_path):
    folder = tmp_path / "[x] *"
    folder.mkdir()
    (folder / "a.ipynb").touch()
    (folder / "b.py").touch()
    assert glob_of(str(folder / "*.ipynb")) == [str(folder / "a.ipynb")]
    assert glob_of(str(folder)) == [str(folder)]
    assert glob_of(str(tmp_path / "*" / "*.py")) == [str(folder / "b.py")]
    assert glob_of(str(tmp_path / "nothing")) == []


def test_a_course_in_a_folder_of_any_letters_beside_another_nbgrader_course(tmp_path, monkeypatch):
    course = tmp_path / "c++ (1) [x]"
    for name in ("scripts", f"notebooks/{STEP}", f"solutions/{STEP}"):
        shutil.copytree(ROOT / name, course / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", course)
    other = tmp_path / "other"
    other.mkdir()
    (other / "nbgrader_config.py").write_text("get_config().CourseDirectory.notebook_id = 'another*'")
    env = os.environ | {"PYTHONPATH": str(course / "scripts"), "JUPYTER_CONFIG_DIR": str(other)}
    command = [sys.executable, str(course / "scripts/grade.py"), "release", "0"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    released = [path.name for path in (course / "grading/release" / STEP).rglob("*") if path.is_file()]
    assert released == [f"{STEP}.ipynb"]


def test_release_gives_the_committed_notebooks(tmp_path):
    done = grade(tmp_path, "release", "0")
    assert done.returncode == 0, done.stderr
    released = nbformat.read(tmp_path / "release" / STEP / f"{STEP}.ipynb", as_version=4)
    assert released.cells == nbformat.read(NOTEBOOK, as_version=4).cells


PLACEMENTS = [(step, item) for step in load_course().steps for item in step.notebooks if item.is_placement]


@pytest.mark.parametrize(("step", "placement"), PLACEMENTS[:1], ids=lambda item: item.folder)
def test_release_leaves_a_placement_out(step, placement, tmp_path):
    done = grade(tmp_path, "release", step.folder)
    assert done.returncode == 0, done.stderr
    released = {path.name for path in (tmp_path / "release" / step.folder).iterdir()}
    assert released == {item.path.name for item in step.notebooks} - {placement.path.name}


@pytest.mark.parametrize(("step", "placement"), PLACEMENTS, ids=lambda item: item.folder)
def test_a_placement_that_is_handed_in_is_not_marked(step, placement, tmp_path):
    paths = [str(ROOT / "solutions" / item.path) for item in step.notebooks]
    leave_out_placements(step.folder, ".", paths)
    assert [Path(path).name for path in paths] == [item.path.name for item in step.handed_out]
    assert placement not in step.handed_out
    folder = tmp_path / "submitted" / "s" / step.folder
    folder.mkdir(parents=True)
    for item in (placement, step.handed_out[0]):
        shutil.copy(ROOT / "notebooks" / item.path, folder)
    submission = tidy(folder)
    assert list(submission.notebooks) == [step.handed_out[0]]
    assert submission.remarks == [f"not used: {placement.path.name} is notebook {placement.id}"]


def test_bad_input_gets_one_sentence(tmp_path):
    cases = {
        ("release", "9_nowhere"): "There is no step '9_nowhere' with notebooks: use one of 0_start_here",
        ("autograde", STEP): "There is nothing to mark",
        ("feedback", STEP): "is marked yet",
    }
    for arguments, sentence in cases.items():
        done = grade(tmp_path, *arguments)
        assert done.returncode == 1
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr


def test_without_a_sandbox_nothing_is_marked_unless_it_is_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "why_not", lambda: "There is no sandbox here.")
    hand_in(tmp_path, "right", CASES["right"])
    done = grade(tmp_path, "autograde", STEP)
    assert done.returncode == 1 and "There is no sandbox here. Or say --trust" in done.stderr
    assert not (tmp_path / "autograded").exists()
    done = grade(tmp_path, "autograde", STEP, "--trust")
    assert done.returncode == 0, done.stderr
    assert "3 of 3" in done.stdout and "Their code was trusted" in done.stdout
