"""nbgrader as scripts/nbgrader_config.py sets it up, and then an nbgrader_config.py in the home folder, if any."""

from __future__ import annotations

import contextlib
import csv
import glob
import hashlib
import io
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import as_completed
from pathlib import Path

import nbformat
from filelock import FileLock, Timeout
from nbgrader.api import Assignment, Gradebook, MissingEntry, Student
from nbgrader.apps.api import NbGraderAPI
from nbgrader.apps.baseapp import NbGrader
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Column, Table
from rich.text import Text

from concrete_steps.course import Step
from concrete_steps.errors import CourseError
from concrete_steps.grading import sandbox
from concrete_steps.grading.marking import Verdicts, Work, course_digest, mark
from concrete_steps.grading.nbgrader_settings import GradeApart, grading_home, trusted_points
from concrete_steps.grading.submissions import Submission, literal, tidy
from concrete_steps.grading.workers import workers
from concrete_steps.paths import course_root
from concrete_steps.workspace.copy import put
from concrete_steps.workspace.own_jupyter import use_own_jupyter

MARKS = (  # as nbgrader's own export has them
    *("assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email"),
    *("raw_score", "late_submission_penalty", "score", "max_score"),
    "trusted",  # and this one: points of the raw score that are not proven
)

CAPTION = "Points are proven but for those in brackets, which are trusted: CONTRIBUTING.md says what that means."
TRUSTED = "Their code was trusted: nothing kept it from your files, the checks and these marks."


class Grader:
    """What a teacher does with a class: each method is one command, and returns its exit code."""

    def __init__(self):
        use_own_jupyter(grading_home() / ".jupyter")  # a configuration of another nbgrader course has no say here
        os.chdir(course_root() / "scripts")  # where nbgrader finds its configuration
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

    def autograde(
        self, step: Step, student: str | None = None, force: bool = False, jobs: int = 1, scheduler: str | None = None
    ) -> int:
        """Mark what is new or changed. A submission that fails is reported, and the others are marked all the same."""
        with self._alone():
            self._know(step)
            submissions, failures = self._submissions(step, student)
            self._mark(submissions, failures, force, jobs, scheduler)
            self._print(step, submissions, failures)
        return 1 if failures else 0

    def feedback(self, step: Step, student: str | None = None) -> int:
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

    def export(self, to: Path) -> int:
        text = io.StringIO(newline="")
        with self.gradebook() as gradebook:
            # nbgrader's own export does not quote: a comma in one name would move the marks of a row.
            table = csv.DictWriter(text, MARKS)
            table.writeheader()
            for assignment in gradebook.assignments:
                for student in gradebook.students:
                    folder = self.home / "autograded" / student.id / assignment.name
                    try:
                        trusted = sum(map(trusted_points, folder.glob("*.ipynb")))
                    except (OSError, ValueError, KeyError, TypeError):  # one damaged notebook stops no other's marks
                        trusted = "cannot be read"
                    row = marks_of(gradebook, assignment, student) | {"trusted": trusted}
                    table.writerow({column: no_formula(value) for column, value in row.items()})
        put(to, text.getvalue().encode())
        print(f"{to} holds all marks.")
        return 0

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            with FileLock(self.home / ".lock", timeout=0):
                yield
        except Timeout:
            raise CourseError(f"Another run of grade.py is at work in {self.home}: wait until it has ended.") from None

    def _folders(self, kind: str, step: Step, student: str | None) -> list[Path]:
        """The folders KIND/STUDENT/STEP of all students, or of one, whose name is meant by its letters."""
        names = glob.escape(student) if student else "*"
        return sorted((self.home / kind).glob(f"{names}/{step.folder}"))

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

    def _mark(
        self, submissions: list[Submission], failures: dict[str, str], force: bool, jobs: int, scheduler: str | None
    ) -> None:
        """Find the verdicts that are not known yet, and tell nbgrader what it was not told yet."""
        grade = GradeApart(parent=self.app)
        sandbox.require(grade.trust)
        waiting = {}
        for submission in submissions:
            work = work_of(submission, grade)
            keys = [work.key(name) for name in work.notebooks]
            told = self._verdicts(submission).are_in_gradebook(keys) and self._autograded(submission).is_dir()
            if force or not told:
                waiting[submission.student] = submission, work
        if not waiting:
            return
        with workers(jobs, scheduler) as pool, Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("marking", total=len(waiting))
            started = {}
            for student, (submission, work) in waiting.items():
                verdicts = self._verdicts(submission)
                known = set() if force else {name for name in work.notebooks if verdicts.get(name, work.key(name))}
                started[pool.submit(mark, work.without(known))] = student
            for job in as_completed(started):
                student = started[job]
                progress.update(task, description=escape(literal(student)))
                try:
                    self._tell(*waiting[student], job.result())
                except Exception as error:
                    failures[student] = str(error) or type(error).__name__
                progress.advance(task)

    def _tell(self, submission: Submission, work: Work, found: dict[str, dict[str, dict]]) -> None:
        """Keep what was found, and have nbgrader mark the submission by it."""
        verdicts = self._verdicts(submission)
        for name, results in found.items():
            verdicts.keep(name, work.key(name), results)
        keys = [work.key(name) for name in work.notebooks]
        known = {name: verdicts.get(name, key) for name, key in zip(work.notebooks, keys, strict=True)}
        with GradeApart.knowing(work, known):
            answer = self.api.autograde(submission.step.folder, submission.student)
        self._must(answer, "nbgrader failed", submission.student)
        verdicts.say_in_gradebook(keys)

    def _verdicts(self, submission: Submission) -> Verdicts:
        return Verdicts(self.home / "verdicts" / submission.student / submission.step.folder)

    def _autograded(self, submission: Submission) -> Path:
        return self.home / "autograded" / submission.student / submission.step.folder

    def _print(self, step: Step, submissions: list[Submission], failures: dict[str, str]) -> None:
        names = ("student", *(notebook.name for notebook in step.handed_out), "to look at")
        caption = TRUSTED if sandbox.why_not() else CAPTION
        table = Table(*(Column(name, overflow="fold") for name in names), caption=caption)
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
            row = [student, *("-" for _ in step.handed_out), f"NOT MARKED: {reason}"]
            table.add_row(*map(shown, row), style="red")
        Console(width=None if sys.stdout.isatty() else 160).print(table)

    def _row(self, gradebook: Gradebook, submission: Submission) -> list[str]:
        saved = gradebook.find_submission(submission.step.folder, submission.student)
        marks = {notebook.name: f"{notebook.score:g} of {notebook.max_score:g}" for notebook in saved.notebooks}
        remarks = list(submission.remarks)
        for notebook in submission.step.handed_out:
            path = self._autograded(submission) / notebook.path.name
            if path.is_file():
                nb = nbformat.read(path, as_version=4)
                remarks += submission.unusual.get(notebook, []) + nb.metadata["concrete_steps"].get("unusual", [])
                if trusted := trusted_points(path):
                    marks[notebook.name] += f" ({trusted:g} trusted)"
            else:
                remarks.append(f"{notebook.name} is missing")
        return [*(marks[notebook.name] for notebook in submission.step.handed_out), "; ".join(remarks)]

    def _must(self, answer: dict, failed: str, about: str = "") -> None:
        if not answer["success"]:
            if answer.get("error", "").rstrip().endswith("KeyboardInterrupt"):  # which nbgrader takes for a failure
                raise KeyboardInterrupt
            log = self.home / f"nbgrader{about and '-' + file_name(about)}.log"
            words = f"{answer.get('log', '')}\n{answer.get('error', '')}"
            put(log, words.encode("utf-8", "backslashreplace"))
            raise CourseError(f"{failed}; nbgrader's own words are in {log}")


def work_of(submission: Submission, grade: GradeApart) -> Work:
    notebooks = {notebook.id: path.read_bytes() for notebook, path in submission.notebooks.items()}
    modules = {path.name: path.read_bytes() for path in submission.modules}
    return Work(notebooks, modules, grade.limits(), course_digest(), grade.trust)


FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # how a text begins that a spreadsheet would run


def no_formula(value: object) -> object:
    """A text that a spreadsheet would run, as a learner's name may be, behind an apostrophe; all else as it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


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


def file_name(name: str) -> str:
    """The name in letters, and of a length, that every system takes; unlike for unlike names."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:100]
    return plain if plain == name else f"{plain}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
