"""nbgrader on this repository: its configuration, and the two places where ours takes over.

Before a submission is graded it is made well-formed (submissions.py). Instead of executing the notebook, each exercise
is graded in a process that can be killed (isolated.py); its verdict becomes the check cell's output, which nbgrader
turns into a mark. A check cell without a verdict is an error, so that nothing is passed by silence.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbformat.v4 import new_output
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Bool, Float, Int

from concrete_steps.checking.outcomes import ERROR, PASSED, TIMED_OUT, Result
from concrete_steps.course import Notebook, load_course
from concrete_steps.grading.isolated import CHANGED, ENDED, Limits, grade_notebook, modules_beside
from concrete_steps.grading.nbgrader_paths import take_paths_by_their_letters
from concrete_steps.grading.pages import show_harmlessly
from concrete_steps.grading.submissions import tidy
from concrete_steps.paths import course_root

HOME = "CONCRETE_STEPS_GRADING"  # environment variable: the folder of all grading state
# Results that were found ahead of nbgrader's own run, by the work that they belong to.
_ahead: dict[str, dict[str, Result]] = {}


def grading_home() -> Path:
    """Where submissions, grades and feedback lie: grading/ in the repository, unless the environment says otherwise."""
    return Path(os.environ.get(HOME) or course_root() / "grading").resolve()


def configure(c) -> None:
    """Fill an nbgrader configuration: one assignment a step, and all state below one git-ignored folder."""
    take_paths_by_their_letters()
    show_harmlessly()
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

    def preprocess(self, nb, resources):
        notebook = load_course().notebook(resources["nbgrader"]["notebook"])
        results = _ahead.pop(_key(notebook, nb), None) or self.grade(notebook, nb)
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
            if cell.metadata.get("nbgrader", {}).get("grade"):
                name = cell.metadata.nbgrader.grade_id.removeprefix("check_")
                silence = Result(name, ERROR, message="This exercise was not graded.")
                cell.outputs = verdict(results.get(name, silence))
        nb.metadata["concrete_steps"]["unusual"] = _unusual(notebook, results)
        return nb, resources

    def grade(self, notebook: Notebook, nb, modules: Iterable[Path] = ()) -> dict[str, Result]:
        """Results by exercise for a well-formed notebook, with the learner's modules that lay beside it."""
        limits = Limits(self.patience, self.whole, self.memory)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / notebook.path.name
            nbformat.write(nb, path)
            for module in modules:
                shutil.copyfile(module, path.with_name(module.name))
            return grade_notebook(notebook, path, limits, self.trust)

    def grade_ahead(self, notebook: Notebook, path: Path) -> None:
        """Grade a well-formed file now, in any thread; `preprocess` will find the results."""
        nb = nbformat.read(path, as_version=4)
        _ahead[_key(notebook, nb)] = self.grade(notebook, nb, modules_beside(path))


def verdict(result: Result) -> list:
    """A check cell's outputs: the panel, and for all but a pass an error, which nbgrader marks with 0."""
    from concrete_steps.checking.checks import Panel

    panel = Panel(result)
    shown = new_output("display_data", data={"text/html": panel._repr_html_(), "text/plain": repr(panel)})
    if result.outcome == PASSED:
        return [shown]
    return [shown, new_output("error", ename="CheckFailed", evalue=result.outcome, traceback=[result.outcome])]


def _key(notebook: Notebook, nb) -> str:
    work = [notebook.id, *([cell.get("id"), cell.cell_type, cell.source] for cell in nb.cells)]
    return hashlib.sha256(json.dumps(work).encode()).hexdigest()


def _unusual(notebook: Notebook, results: dict[str, Result]) -> list[str]:
    """What an instructor should look at, a line an exercise; and what of the points is trusted, not proven."""
    trusted = [name for name, _ in notebook.trusted if name in results and results[name].outcome == PASSED]
    remarks = [f"trusted, not proven: {', '.join(trusted)}"] if trusted else []
    for name, result in results.items():
        if result.outcome == TIMED_OUT:
            remarks.append(f"{name} timed out")
        elif result.message == ENDED or "did not finish" in result.message:
            remarks.append(f"{name} ended or blocked the process")
        elif result.message == CHANGED:
            remarks.append(f"{name}: the checks were changed")
    return remarks
