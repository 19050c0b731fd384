"""nbgrader on this repository: its configuration, and the two places where ours takes over.

Before a submission is graded it is made well-formed (submissions.py). Instead of executing the notebook, each exercise
is graded in a process that can be killed (isolated.py); its verdict becomes the check cell's output, which nbgrader
turns into a mark. A check cell without a verdict is an error, so that nothing is passed by silence. What nbgrader
writes is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import nbformat
from nbconvert.writers import FilesWriter
from nbformat.v4 import new_output
from nbgrader.converters import base
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Bool, Float, Int

from concrete_steps.checking.outcomes import ERROR, PASSED, TIMED_OUT, Result
from concrete_steps.course import Notebook, load_course
from concrete_steps.grading import sandbox
from concrete_steps.grading.isolated import Limits, modules_beside
from concrete_steps.grading.judge import ENDED
from concrete_steps.grading.marking import Work, course_digest, mark
from concrete_steps.grading.merging import to_bytes
from concrete_steps.grading.nbgrader_paths import take_paths_by_their_letters
from concrete_steps.grading.pages import show_harmlessly
from concrete_steps.grading.rounds import CHANGED
from concrete_steps.grading.submissions import tidy
from concrete_steps.paths import course_root
from concrete_steps.workspace.copy import put

TRUSTED = "trusted"  # in an autograded notebook's metadata: points by exercise
HOME = "CONCRETE_STEPS_GRADING"  # environment variable: the folder of all grading state


def grading_home() -> Path:
    """Where submissions, grades and feedback lie: grading/ in the repository, unless the environment says otherwise."""
    return Path(os.environ.get(HOME) or course_root() / "grading").resolve()


def configure(c) -> None:
    """Fill an nbgrader configuration: one assignment a step, and all state below one git-ignored folder."""
    take_paths_by_their_letters()
    show_harmlessly()
    base.FilesWriter = WholeFiles
    home = grading_home()
    home.mkdir(parents=True, exist_ok=True)
    # nbgrader calls `alembic` by its name when it makes a database, also where no environment is activated.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    c.CourseDirectory.course_id = "concrete_steps"
    c.CourseDirectory.root = str(home)
    c.CourseDirectory.source_directory = str(course_root() / "solutions")
    c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "feedback", "figures", "*.py"]
    c.Exchange.root = str(home / "exchange")
    c.ExportApp.plugin_class = "nbgrader.plugins.CsvExportPlugin"
    prepare = "nbgrader.preprocessors.{}"
    c.GenerateAssignment.pre_convert_hook = "concrete_steps.grading.nbgrader_settings.leave_out_placements"
    c.GenerateAssignment.preprocessors = [
        "concrete_steps.grading.release.ClearAnswers",
        "concrete_steps.grading.release.LetExperimentsFail",
        *map(prepare.format, ("LockCells", "ClearOutput", "CheckCellMetadata", "ComputeChecksums", "SaveCells")),
        *map(prepare.format, ("ComputeChecksums", "CheckCellMetadata")),
    ]
    c.Autograde.pre_convert_hook = "concrete_steps.grading.nbgrader_settings.tidy_submission"
    c.Autograde.sanitize_preprocessors = [
        *map(prepare.format, ("ClearOutput", "OverwriteKernelspec", "OverwriteCells", "CheckCellMetadata")),
    ]
    c.Autograde.autograde_preprocessors = [
        "concrete_steps.grading.nbgrader_settings.GradeApart",
        *map(prepare.format, ("SaveAutoGrades", "AssignLatePenalties", "CheckCellMetadata")),
    ]


def leave_out_placements(assignment: str, student: str, notebooks: list[str]) -> None:
    """nbgrader's pre-convert hook: of a step's notebooks those that a class is given; changes `notebooks`."""
    given = {notebook.name for notebook in load_course().notebooks if not notebook.is_placement}
    notebooks[:] = [path for path in notebooks if Path(path).stem in given]


def tidy_submission(assignment: str, student: str, notebooks: list[str]) -> None:
    """nbgrader's pre-convert hook: puts the well-formed notebooks in place of those handed in; changes `notebooks`."""
    folder = Path(notebooks[0]).parent
    notebooks.clear()  # nbgrader ignores an error in a hook; without notebooks it refuses this one submission
    notebooks += map(str, tidy(folder).notebooks.values())


class GradeApart(NbGraderPreprocessor):
    """Puts each exercise's verdict, found in a process of its own, into its check cell."""

    patience = Float(Limits.patience, help="Seconds that one cell or one check may take.").tag(config=True)
    whole = Float(Limits.whole, help="Seconds that a whole notebook may take.").tag(config=True)
    memory = Int(Limits.memory, help="Bytes that a learner's code may take (Linux).").tag(config=True)
    trust = Bool(False, help="Grade where nothing can lock a learner's code up, too.").tag(config=True)

    # Results that were found ahead of nbgrader's own run, by the work that they belong to.
    _known: ClassVar[dict[str, dict[str, Result]]] = {}

    def preprocess(self, nb, resources):
        notebook = load_course().notebook(resources["nbgrader"]["notebook"])
        results = self._known.get(_key(notebook, nb)) or self.grade(notebook, nb, resources["nbgrader"])
        trusted = {}
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
            if cell.metadata.get("nbgrader", {}).get("grade"):
                name = cell.metadata.nbgrader.grade_id.removeprefix("check_")
                silence = Result(name, ERROR, message="This exercise was not graded.")
                result = results.get(name, silence)
                cell.outputs = verdict(result)
                if result.outcome == PASSED and not result.proven:
                    trusted[name] = cell.metadata.nbgrader.points
        nb.metadata["concrete_steps"] |= {"unusual": _unusual(notebook, results), TRUSTED: trusted}
        return nb, resources

    def limits(self) -> Limits:
        return Limits(self.patience, self.whole, self.memory)

    def grade(self, notebook: Notebook, nb, about: dict) -> dict[str, Result]:
        """Results by exercise for a well-formed notebook; `about` is nbgrader's, whose button or command this is."""
        submitted = grading_home() / "submitted" / about["student"] / about["assignment"] / notebook.path.name
        modules = {path.name: path.read_bytes() for path in modules_beside(submitted)}
        verdicts = mark(Work({notebook.id: to_bytes(nb)}, modules, self.limits(), course_digest(), self.trust))
        return {name: Result(**result) for name, result in verdicts[notebook.id].items()}

    @classmethod
    @contextlib.contextmanager
    def knowing(cls, work: Work, results: dict[str, dict[str, Result]]) -> Iterator[None]:
        """In the block, these are the results by notebook of this work; any other is graded."""
        keys = {}
        for notebook_id, found in results.items():
            nb = nbformat.reads(work.notebooks[notebook_id].decode(), as_version=4)
            keys[_key(load_course().notebook(notebook_id), nb)] = found
        cls._known = keys
        try:
            yield
        finally:
            cls._known = {}


class WholeFiles(FilesWriter):
    """nbconvert's writer, whose files appear whole or not at all."""

    def write(self, output, resources, notebook_name=None, **options):
        if resources.get("outputs") or resources.get("attachments") or self.files:
            return super().write(output, resources, notebook_name=notebook_name, **options)
        path = Path(self.build_directory) / f"{notebook_name}{resources.get('output_extension') or ''}"
        put(path, output.encode() if isinstance(output, str) else output)
        return path


def verdict(result: Result) -> list:
    """A check cell's outputs: the panel, and for all but a pass an error, which nbgrader marks with 0."""
    from concrete_steps.checking.checks import Panel

    panel = Panel(result)
    forms = {"text/html": panel._repr_html_(), "text/plain": repr(panel)}
    # A learner's error may hold letters that no file can (halves of a pair): nbgrader could not write the notebook.
    forms = {kind: text.encode("utf-8", "backslashreplace").decode("utf-8") for kind, text in forms.items()}
    shown = new_output("display_data", data=forms)
    if result.outcome == PASSED:
        return [shown]
    return [shown, new_output("error", ename="CheckFailed", evalue=result.outcome, traceback=[result.outcome])]


def _key(notebook: Notebook, nb) -> str:
    work = [notebook.id, *([cell.get("id"), cell.cell_type, cell.source] for cell in nb.cells)]
    return hashlib.sha256(json.dumps(work).encode()).hexdigest()


def trusted_points(path: Path) -> float:
    """Of the points of an autograded notebook those that are not proven."""
    return sum(nbformat.read(path, as_version=4).metadata["concrete_steps"][TRUSTED].values())


def _unusual(notebook: Notebook, results: dict[str, Result]) -> list[str]:
    """What an instructor should look at, a line an exercise."""
    remarks = []
    if not sandbox.why_not():
        # The map says of some that they are trusted; others need somebody to read them.
        odd = [name for name, result in results.items() if result.outcome == PASSED and not result.proven]
        odd = [name for name in odd if name not in dict(notebook.trusted)]
        remarks += [f"trusted though it could be proven, read its code: {', '.join(odd)}"] if odd else []
    for name, result in results.items():
        if result.outcome == TIMED_OUT:
            remarks.append(f"{name} timed out")
        elif result.message == ENDED or "did not finish" in result.message:
            remarks.append(f"{name} ended or blocked the process")
        elif result.message == CHANGED:
            remarks.append(f"{name}: the checks were changed")
    return remarks
