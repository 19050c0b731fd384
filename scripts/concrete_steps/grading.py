"""nbgrader on this repository: its configuration, and the two places where ours takes over.

Before a submission is converted it is made well-formed (`tidy_submissions`): the released notebook with the learner's
answers put in by name, under the expected file name; the original is kept. Instead of executing the notebook, each
exercise is graded in a process of its own (`GradeApart`); its verdict becomes the check cell's output, which nbgrader
turns into a mark. A check cell without a verdict is an error, so that nothing is passed by silence.
"""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell, new_output
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Float

from concrete_steps.course import Notebook, load_course
from concrete_steps.errors import CourseError
from concrete_steps.isolated import PATIENCE, grade_notebook
from concrete_steps.loader import find_copy, read_notebook
from concrete_steps.outcomes import ERROR, PASSED, Result
from concrete_steps.paths import course_root


def configure(c, home: Path | None = None) -> None:
    """Fill an nbgrader configuration: one assignment a step, and all state below one git-ignored folder.

    Args:
        c: the configuration object (`get_config()` in a config file).
        home: where submissions, grades and feedback lie; grading/ at the root of the repository by default.
    """
    home = home or course_root() / "grading"
    home.mkdir(parents=True, exist_ok=True)
    c.CourseDirectory.course_id = "concrete_steps"
    c.CourseDirectory.root = str(home)
    c.CourseDirectory.source_directory = str(course_root() / "solutions")
    c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "feedback", "*.py"]
    c.Exchange.root = str(home / "exchange")
    prepare = "nbgrader.preprocessors.{}"
    c.GenerateAssignment.preprocessors = [
        "concrete_steps.build.ClearAnswers",
        *map(prepare.format, ("LockCells", "ClearOutput", "CheckCellMetadata", "ComputeChecksums", "SaveCells")),
        *map(prepare.format, ("ComputeChecksums", "CheckCellMetadata")),
    ]
    c.Autograde.sanitize_preprocessors = [
        *map(prepare.format, ("ClearOutput", "OverwriteKernelspec", "OverwriteCells", "CheckCellMetadata")),
    ]
    c.Autograde.autograde_preprocessors = [
        "concrete_steps.grading.GradeApart",
        *map(prepare.format, ("SaveAutoGrades", "AssignLatePenalties", "CheckCellMetadata")),
    ]
    c.BaseConverter.pre_convert_hook = tidy_submissions


class GradeApart(NbGraderPreprocessor):
    """Puts each exercise's verdict, found in a process of its own, into its check cell."""

    patience = Float(PATIENCE, help="Seconds that one cell or one check may take.").tag(config=True)

    def preprocess(self, nb, resources):
        notebook = load_course().notebook(resources["nbgrader"]["notebook"])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / notebook.path.name
            nbformat.write(nb, path)
            results = grade_notebook(notebook, path, self.patience)
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
            if cell.metadata.get("nbgrader", {}).get("grade"):
                name = cell.metadata.nbgrader.grade_id.removeprefix("check_")
                silence = Result(name, ERROR, message="This exercise was not graded.")
                cell.outputs = verdict(results.get(name, silence))
        return nb, resources


def verdict(result: Result) -> list:
    """A check cell's outputs: the panel, and for all but a pass an error, which nbgrader marks with 0."""
    from concrete_steps.checks import Panel

    panel = Panel(result)
    shown = new_output("display_data", data={"text/html": panel._repr_html_(), "text/plain": repr(panel)})
    if result.outcome == PASSED:
        return [shown]
    return [shown, new_output("error", ename="CheckFailed", evalue=result.outcome, traceback=[result.outcome])]


def tidy_submissions(assignment: str, student: str, notebooks: list[str]) -> None:
    """nbgrader's pre-convert hook: make one learner's folder of a step well-formed. Changes `notebooks` in place."""
    if not notebooks or Path(notebooks[0]).parents[2].name != "submitted":
        return
    folder = Path(notebooks[0]).parent
    originals = keep_originals(folder)
    step = next((step for step in load_course().steps if step.folder == folder.name), None)
    if step is None:
        return
    sources = {notebook: find_copy(originals, notebook) for notebook in step.notebooks}
    if not any(source.is_file() for source in sources.values()):
        # Nothing is recognised: the first notebook says so to the learner, and nbgrader has something to mark with 0.
        sources = {step.notebooks[0]: originals / Path(notebooks[0]).name}
    notebooks.clear()
    for notebook, source in sources.items():
        if source.is_file():
            tidied = folder / notebook.path.name
            tidied.unlink(missing_ok=True)
            nbformat.write(well_formed(notebook, source), tidied)
            notebooks.append(str(tidied))


def keep_originals(folder: Path) -> Path:
    """What the learner handed in, kept as it was: received/STUDENT/STEP beside submitted/STUDENT/STEP.

    A file that is neither the original nor what was made of it was handed in since: it becomes the original.
    """
    received = folder.parents[2] / "received" / folder.parent.name / folder.name
    received.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.ipynb"):
        if not _is_tidied(path):
            shutil.copy2(path, received / path.name)
    return received


def well_formed(notebook: Notebook, submitted: Path):
    """The released notebook with the learner's cells put in by name, and the learner's own cells where they stood."""
    released = nbformat.read(course_root() / "notebooks" / notebook.path, as_version=4)
    released.metadata["concrete_steps"]["tidied"] = True
    try:
        cells = read_notebook(submitted)["cells"]
    except CourseError as error:
        note = f"**This submission could not be read, so it is graded as blank.** {error}"
        released.cells.insert(0, new_markdown_cell(note, id="unreadable"))
        return released
    known = {cell.id for cell in released.cells}
    theirs: dict[str, str] = {}
    extra: dict[str | None, list] = {}
    after = None
    for cell in cells:
        name = _name(cell, known)
        if name is None or name in theirs:
            extra.setdefault(after, []).append(_own_cell(cell))
        else:
            theirs[name] = "".join(cell["source"])
            after = name
    built = list(extra.get(None, ()))
    for cell in released.cells:
        cell = copy.deepcopy(cell)
        if not cell.metadata.get("nbgrader", {}).get("locked"):
            cell.source = theirs.get(cell.id, cell.source)
        built += [cell, *extra.get(cell.id, ())]
    for number, cell in enumerate(built):
        cell.id = cell.id if cell.id in known else f"own-{number}"
    released.cells = built
    return released


def _name(cell: dict, known: set[str]) -> str | None:
    """The released cell that this one is, by nbgrader's id (Colab renews cell ids) or by its own."""
    nbgrader = (cell.get("metadata") or {}).get("nbgrader") or {}
    for name in (nbgrader.get("grade_id"), cell.get("id")):
        if name in known:
            return name
    return None


def _own_cell(cell: dict):
    """A cell that the learner added: its text alone, so that no tag or metadata of theirs counts."""
    text = "".join(cell["source"])
    return nbformat.v4.new_code_cell(text) if cell["cell_type"] == "code" else new_markdown_cell(text)


def _is_tidied(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["metadata"]["concrete_steps"]["tidied"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
