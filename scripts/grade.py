"""Grade a class: nbgrader with this course's configuration. One step of the course is one assignment.

python scripts/grade.py release STEP        the notebooks to hand out, in grading/release/STEP
python scripts/grade.py autograde STEP      mark grading/submitted/STUDENT/STEP/*.ipynb and print a table
python scripts/grade.py feedback STEP       a page for each learner, in grading/feedback/STUDENT/STEP
python scripts/grade.py export --to x.csv   all marks as a table
python scripts/grade.py formgrader          marks by hand, comments and all of the above in JupyterLab

STEP is a folder of notebooks/, as 1_prerequisites, or its number. Nothing is written outside grading/ (--home).
"""

import argparse
import csv
import glob
import io
import os
import re
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbgrader.api import Assignment, Gradebook, MissingEntry, Student
from nbgrader.apps.api import NbGraderAPI
from nbgrader.apps.baseapp import NbGrader
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import SAWarning

from concrete_steps.course import Step
from concrete_steps.errors import CourseError
from concrete_steps.grading import sandbox
from concrete_steps.grading.nbgrader_settings import HOME, GradeApart, grading_home
from concrete_steps.grading.submissions import Submission, literal, step_named, tidy
from concrete_steps.paths import course_root
from concrete_steps.workspace.own_jupyter import use_own_jupyter

MARKS = (  # as nbgrader's own export has them
    *("assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email"),
    *("raw_score", "late_submission_penalty", "score", "max_score"),
)
SCRIPTS = Path(__file__).resolve().parent
# nbgrader's gradebook is loud about its own use of SQLAlchemy.
warnings.filterwarnings("ignore", category=SAWarning)


def main(argv: list[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of any letters, in a terminal of few
            stream.reconfigure(errors="backslashreplace")
    if options.home:
        os.environ[HOME] = str(options.home.resolve())
    try:
        if options.command == "formgrader":
            formgrader(options.port, options.no_browser)
            return 0
        grader = Grader()
        if options.command == "export":
            return grader.export((options.to or grading_home() / "grades.csv").resolve())
        step = step_named(options.step)
        if options.command == "release":
            return grader.release(step)
        if options.command == "autograde":
            if options.trust:
                grader.app.config.GradeApart.trust = True
            return grader.autograde(step, options.student, options.force, max(1, options.jobs))
        return grader.feedback(step, options.student)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, metavar="FOLDER", help="keep all state here instead of in grading/")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in ("release", "autograde", "feedback"):
        command = commands.add_parser(name)
        command.add_argument("step", metavar="STEP")
        if name != "release":
            command.add_argument("--student", metavar="ID", help="only this one")
    autograde = commands.choices["autograde"]
    autograde.add_argument("--force", action="store_true", help="mark again what was marked and has not changed since")
    autograde.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="submissions at once")
    autograde.add_argument("--trust", action="store_true", help="grade where nothing can lock learners' code up, too")
    commands.add_parser("export").add_argument(
        "--to", type=Path, metavar="FILE.csv", help="grading/grades.csv if not given"
    )
    server = commands.add_parser("formgrader")
    server.add_argument("--port", type=int, default=8899)
    server.add_argument("--no-browser", action="store_true")
    return parser


class Grader:
    """nbgrader as scripts/nbgrader_config.py sets it up, and then an nbgrader_config.py in the home folder, if any."""

    def __init__(self):
        use_own_jupyter(grading_home() / ".jupyter")  # a configuration of another nbgrader course has no say here
        os.chdir(SCRIPTS)
        self.app = NbGrader()
        self.app.initialize([])
        self.api = NbGraderAPI(self.app.coursedir, parent=self.app)
        self.home = grading_home()

    def gradebook(self) -> Gradebook:
        return Gradebook(self.app.coursedir.db_url, self.app.coursedir.course_id)

    def release(self, step: Step) -> int:
        self._must(self.api.generate_assignment(step.folder), f"{step.folder} could not be released")
        print(f"{self.home / 'release' / step.folder} holds the notebooks to hand out.")
        return 0

    def autograde(self, step: Step, student: str | None, force: bool, jobs: int) -> int:
        """Mark what is new or changed. A submission that fails is reported, and the others are marked all the same."""
        self._know(step)
        submissions, failures = self._submissions(step, student)
        waiting = [item for item in submissions if force or item.is_new or not self._autograded(item).is_dir()]
        prepare = GradeApart(parent=self.app)
        sandbox.require(prepare.trust)

        def ahead(submission: Submission) -> None:
            for notebook, path in submission.notebooks.items():
                prepare.grade_ahead(notebook, path)

        with Progress(console=Console(stderr=True)) as progress, ThreadPoolExecutor(jobs) as pool:
            task = progress.add_task("marking", total=len(waiting))
            started = [pool.submit(ahead, submission) for submission in waiting]
            for submission, job in zip(waiting, started, strict=True):
                progress.update(task, description=escape(literal(submission.student)))
                try:
                    job.result()
                    answer = self.api.autograde(step.folder, submission.student)
                    self._must(answer, "nbgrader failed", submission.student)
                except Exception as error:
                    failures[submission.student] = str(error)
                progress.advance(task)
        self._print(step, submissions, failures)
        return 1 if failures else 0

    def feedback(self, step: Step, student: str | None) -> int:
        done = [path.parent.name for path in self._folders("autograded", step, student)]
        if not done:
            raise CourseError(
                f"Nothing of {step.folder} is marked yet: run python scripts/grade.py autograde {step.folder}"
            )
        failures = {}
        for name in done:
            try:
                self._must(self.api.generate_feedback(step.folder, name), "nbgrader failed", name)
            except Exception as error:
                failures[name] = str(error)
        print(f"{len(done) - len(failures)} pages: {self.home / 'feedback'}/STUDENT/{step.folder}/*.html")
        for name, reason in failures.items():
            print(literal(f"NO PAGE for {name}: {reason}"))
        return 1 if failures else 0

    def _folders(self, kind: str, step: Step, student: str | None) -> list[Path]:
        """The folders KIND/STUDENT/STEP of all students, or of one, whose name is meant by its letters."""
        names = glob.escape(student) if student else "*"
        return sorted((self.home / kind).glob(f"{names}/{step.folder}"))

    def export(self, to: Path) -> int:
        to.parent.mkdir(parents=True, exist_ok=True)
        with self.gradebook() as gradebook, open(to, "w", encoding="utf-8", newline="") as file:
            # nbgrader's own export does not quote: a comma in one name would move the marks of a row.
            table = csv.DictWriter(file, MARKS)
            table.writeheader()
            for assignment in gradebook.assignments:
                table.writerows(marks_of(gradebook, assignment, student) for student in gradebook.students)
        print(f"{to} holds all marks.")
        return 0

    def _know(self, step: Step) -> None:
        """nbgrader must have released a step before it can mark it."""
        with self.gradebook() as gradebook:
            try:
                gradebook.find_assignment(step.folder)
                return
            except MissingEntry:
                pass
        self._must(self.api.generate_assignment(step.folder), f"{step.folder} could not be released")

    def _submissions(self, step: Step, student: str | None) -> tuple[list[Submission], dict[str, str]]:
        """The well-formed submissions of a step, and what is wrong with the others, by student."""
        folders = self._folders("submitted", step, student)
        if not folders:
            place = self.home / "submitted" / (student or "STUDENT") / step.folder
            raise CourseError(f"There is nothing to mark: put the notebooks that were handed in at {place}/*.ipynb")
        submissions, failures = [], {}
        for folder in folders:
            try:
                submissions.append(tidy(folder))
            except Exception as error:  # whatever one of them handed in, the others are marked
                failures[folder.parent.name] = str(error) or type(error).__name__
        return submissions, failures

    def _autograded(self, submission: Submission) -> Path:
        return self.home / "autograded" / submission.student / submission.step.folder

    def _print(self, step: Step, submissions: list[Submission], failures: dict[str, str]) -> None:
        trusted = (
            sandbox.why_not() and "Their code was trusted: nothing kept it from your files, the checks and these marks."
        )
        table = Table("student", *(notebook.name for notebook in step.notebooks), "to look at", caption=trusted or None)
        with self.gradebook() as gradebook:
            for submission in submissions:
                if submission.student not in failures:
                    try:
                        row = self._row(gradebook, submission)
                    except Exception as error:
                        failures[submission.student] = f"the marks cannot be read ({type(error).__name__}: {error})"
                    else:
                        table.add_row(*map(shown, [submission.student, *row]))
        for student, reason in failures.items():
            row = [student, *("-" for _ in step.notebooks), f"NOT MARKED: {reason}"]
            table.add_row(*map(shown, row), style="red")
        Console(width=None if sys.stdout.isatty() else 160).print(table)

    def _row(self, gradebook: Gradebook, submission: Submission) -> list[str]:
        saved = gradebook.find_submission(submission.step.folder, submission.student)
        marks = {notebook.name: f"{notebook.score:g} of {notebook.max_score:g}" for notebook in saved.notebooks}
        remarks = [f"left out: {', '.join(submission.left_out)}"] if submission.left_out else []
        for notebook in submission.step.notebooks:
            path = self._autograded(submission) / notebook.path.name
            if path.is_file():
                nb = nbformat.read(path, as_version=4)
                remarks += submission.unusual.get(notebook, []) + nb.metadata["concrete_steps"].get("unusual", [])
            else:
                remarks.append(f"{notebook.name} is missing")
        return [*(marks[notebook.name] for notebook in submission.step.notebooks), "; ".join(remarks)]

    def _must(self, answer: dict, failed: str, about: str = "") -> None:
        if not answer["success"]:
            log = self.home / f"nbgrader{about and '-' + re.sub(r'[^A-Za-z0-9._-]', '_', about)}.log"
            words = f"{answer.get('log', '')}\n{answer.get('error', '')}"
            log.write_text(words, encoding="utf-8", errors="backslashreplace")
            raise CourseError(f"{failed}; nbgrader's own words are in {log}")


def marks_of(gradebook: Gradebook, assignment: Assignment, student: Student) -> dict:
    """A row of the table of all marks; who handed in nothing has 0."""
    row = {
        "assignment": assignment.name,
        "duedate": assignment.duedate,
        "student_id": student.id,
        "last_name": student.last_name,
        "first_name": student.first_name,
        "email": student.email,
        "max_score": assignment.max_score,
    }
    try:
        submission = gradebook.find_submission(assignment.name, student.id)
    except MissingEntry:
        return row | {"raw_score": 0.0, "late_submission_penalty": 0.0, "score": 0.0}
    penalty = submission.late_submission_penalty
    marks = {"raw_score": submission.score, "late_submission_penalty": penalty}
    return row | marks | {"timestamp": submission.timestamp, "score": max(0.0, submission.score - penalty)}


def shown(text: str) -> Text:
    """A learner's words in the table: no markup, no escape sequence of the terminal's."""
    return Text(literal(text))


def formgrader(port: int, no_browser: bool) -> None:
    """JupyterLab at nbgrader's formgrader, until Ctrl-C."""
    from jupyterlab.labapp import LabApp

    home = grading_home()
    home.mkdir(parents=True, exist_ok=True)
    use_own_jupyter(home / ".jupyter")
    os.environ[HOME] = str(home)
    os.chdir(SCRIPTS)  # where nbgrader finds its configuration
    root = course_root() if home.is_relative_to(course_root()) else home  # its links to the solutions lead out of home
    options = [f"--ServerApp.root_dir={root}", f"--ServerApp.port={port}", f"--ServerApp.open_browser={not no_browser}"]
    options += ["--LabApp.default_url=/formgrader", "--ServerApp.answer_yes=True", "--Application.log_level=ERROR"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--ServerApp.allow_root=True")  # containers; it listens on this machine only, behind a token
    LabApp.launch_instance(options)


if __name__ == "__main__":
    sys.exit(main())
