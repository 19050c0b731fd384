"""From one percent source to two notebooks: the solutions (executed) and the exercises (no answers, no outputs).

Both carry nbgrader's metadata; the exercises are made from the solutions by nbgrader's own preprocessors, so that
what a learner opens is exactly what `nbgrader generate_assignment` would release.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ClearMetadataPreprocessor, ClearOutputPreprocessor
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.preprocessors import ComputeChecksums, LockCells

from concrete_steps.authoring.figures import embedded
from concrete_steps.authoring.source import Cell, exercise_cells, read_source
from concrete_steps.course import Course, Notebook, hours, load_course
from concrete_steps.errors import CourseError
from concrete_steps.grading.release import ClearAnswers, LetExperimentsFail
from concrete_steps.paths import course_root

KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
SETUP = """\
try:
    import concrete_steps
except ModuleNotFoundError:  # Colab, or an environment of your own: this one install brings the course
    %pip install --quiet "git+{repository}"
    import concrete_steps
check = concrete_steps.notebook("{id}")
"""


def solutions_notebook(notebook: Notebook, course: Course):
    """The solutions notebook without outputs, from its percent source."""
    cells = read_source(notebook.source, notebook.exercises)
    exercises = exercise_cells(cells)
    taken: set[str] = set()
    built = [_expand(cell, notebook, course, exercises, taken) for cell in cells]
    return new_notebook(cells=built, metadata={**KERNEL, "concrete_steps": _about(notebook)})


def exercise_notebook(solutions):
    """What a learner opens: answers cleared, check cells locked, checksums set, no outputs."""
    nb, resources = copy.deepcopy(solutions), {}
    nb.metadata["concrete_steps"].pop("executed", None)
    for preprocessor in (ClearAnswers, LetExperimentsFail, LockCells, ClearOutputPreprocessor, ComputeChecksums):
        nb, resources = preprocessor().preprocess(nb, resources)
    return nb


def build(notebook: Notebook, course: Course) -> dict[Path, str]:
    """File names and contents of the two generated notebooks; outputs of unchanged code are kept."""
    root = course_root()
    target = root / "solutions" / notebook.path
    solutions = solutions_notebook(notebook, course)
    if target.is_file():
        _keep_outputs(solutions, nbformat.read(target, as_version=4))
    return {target: to_text(solutions), root / "notebooks" / notebook.path: to_text(exercise_notebook(solutions))}


def to_text(nb) -> str:
    """One notebook as text: the same notebook gives the same bytes."""
    nbformat.validate(nb)
    return nbformat.writes(nb, version=4, sort_keys=True) + "\n"


def code_hash(nb) -> str:
    """Identifies the code of a notebook, so that outputs older than the code are found."""
    code = [cell.source for cell in nb.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


def stale(notebook: Notebook, course: Course) -> str | None:
    """Why the committed solutions notebook does not hold the outputs of its source's code, or None."""
    path = course_root() / "solutions" / notebook.path
    if not path.is_file():
        return "does not exist"
    executed = nbformat.read(path, as_version=4).metadata.get("concrete_steps", {}).get("executed")
    return None if executed == code_hash(solutions_notebook(notebook, course)) else "holds outputs of older code"


def execute(notebook: Notebook, course: Course, timeout: int = 600) -> None:
    """Run the solutions notebook from top to bottom and write it with its outputs.

    Raises:
        CourseError: a cell failed; the message names the cell and the error.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    target = course_root() / "solutions" / notebook.path
    nb = solutions_notebook(notebook, course)
    client = NotebookClient(nb, timeout=timeout, kernel_name="python3", record_timing=False, coalesce_streams=True)
    try:
        client.execute(cwd=str(target.parent))
    except CellExecutionError as error:
        raise CourseError(f"{notebook.source}: a cell failed while the notebook was executed.\n{error}") from None
    nb, _ = ClearMetadataPreprocessor(
        clear_notebook_metadata=False, preserve_cell_metadata_mask={"nbgrader", "editable", "deletable"}
    ).preprocess(nb, {})
    nb.metadata = {**KERNEL, "concrete_steps": {**_about(notebook), "executed": code_hash(nb)}}
    for cell in nb.cells:
        for output in cell.get("outputs", ()):
            output.pop("transient", None)
    write(target, to_text(nb))


def write(path: Path, text: str) -> bool:
    """Write only what differs; True if the file changed."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    return True


def readme(course: Course) -> dict[Path, str]:
    """The README with its map of the course brought up to date."""
    return {course_root() / "README.md": between("map", course_map(course))}


def pages() -> dict[Path, str]:
    """The learner's pages, which are no notebooks: solutions/NAME.md, copied to notebooks/NAME.md."""
    root = course_root()
    return {
        root / "notebooks" / page.name: page.read_text(encoding="utf-8") for page in (root / "solutions").glob("*.md")
    }


def between(name: str, text: str) -> str:
    """The README with `text` between the two marks that are called `name`."""
    readme_text = (course_root() / "README.md").read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: written by a command -->", f"<!-- end of {name} -->"
    before, found, rest = readme_text.partition(begin)
    if not found or end not in rest:
        raise CourseError(f"README.md has lost its marks '{begin}' and '{end}'; put them back where the table belongs.")
    return f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"


def orphans(course: Course) -> list[Path]:
    """Generated notebooks that no entry of course.toml accounts for, and pages without a source."""
    root = course_root()
    expected = {root / top / notebook.path for notebook in course.notebooks for top in ("notebooks", "solutions")}
    found = {path for top in ("notebooks", "solutions") for path in (root / top).rglob("*.ipynb")}
    found |= set((root / "notebooks").rglob("*.md"))
    expected |= set(pages())
    return sorted(path for path in found - expected if ".ipynb_checkpoints" not in path.parts)


def _about(notebook: Notebook) -> dict:
    """What a notebook says of itself, whatever its file is called."""
    return {"notebook": notebook.id} | ({"renamed": dict(notebook.renamed)} if notebook.renamed else {})


def _expand(cell: Cell, notebook: Notebook, course: Course, exercises: dict[str, Cell], taken: set[str]):
    match cell.kind:
        case "markdown":
            return new_markdown_cell(embedded(cell, notebook.source), id=_text_id(cell, taken))
        case "generated":
            text = overview(notebook, exercises) if cell.name == "overview" else course_map(load_course())
            return new_markdown_cell(text, id=cell.name)
        case "exercise":
            return _code(cell.name, f"{_heading(cell)}\n{cell.text}", solution=True)
        case "check":
            points = exercises[cell.name].options["points"]
            return _code(f"check_{cell.name}", f'check("{cell.name}")', grade=True, locked=True, points=points)
        case "setup":
            text = SETUP.format(repository=course.repository, id=notebook.id) + cell.text
            return _code("setup", text.strip(), locked=True)
        case _:
            return new_code_cell(cell.text, id=_text_id(cell, taken))


def _code(cell_id: str, text: str, *, grade=False, locked=False, solution=False, points=None):
    nbgrader = {
        "grade": grade,
        "grade_id": cell_id,
        "locked": locked,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }
    if points is not None:
        nbgrader["points"] = points
    return new_code_cell(text, id=cell_id, metadata={"nbgrader": nbgrader})


def _heading(cell: Cell) -> str:
    difficulty = "●" * cell.options["difficulty"] + "○" * (5 - cell.options["difficulty"])
    points = _counted(cell.options["points"], "point")
    minutes = _counted(cell.options["minutes"], "minute")
    return f"# {cell.name}: difficulty {difficulty}, about {minutes}, {points}"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _text_id(cell: Cell, taken: set[str]) -> str:
    """An id that a text keeps while it is unchanged, wherever it moves; a second copy of a text gets a suffix."""
    base = hashlib.sha256(f"{cell.kind}\0{cell.text}".encode()).hexdigest()[:12]
    candidate, copy = base, 1
    while candidate in taken:
        copy += 1
        candidate = f"{base}-{copy}"
    taken.add(candidate)
    return candidate


def _keep_outputs(fresh, old) -> None:
    outputs = {cell.id: cell for cell in old.cells if cell.cell_type == "code"}
    for cell in fresh.cells:
        before = outputs.get(cell.id)
        if cell.cell_type == "code" and before is not None and before.source == cell.source:
            cell.outputs, cell.execution_count = before.outputs, before.execution_count
    executed = old.metadata.get("concrete_steps", {}).get("executed")
    if executed:
        fresh.metadata["concrete_steps"]["executed"] = executed


def overview(notebook: Notebook, exercises: dict[str, Cell]) -> str:
    """The criteria, hours and exercises of one notebook, as its learner reads them."""
    points = sum(cell.options["points"] for cell in exercises.values())
    if notebook.is_placement:
        return _placement(notebook)
    lines = ["**At the end you can**\n"]
    lines += [f"- {item.says} ({_names(item.evidence)})" for item in notebook.criteria]
    lines.append(
        f"\n{len(exercises)} exercises, {points} points, {hours(notebook.hours)} (a guess: take the time you need). "
        "If you can do all this already, skip the notebook."
    )
    return "\n".join(lines)


def _placement(notebook: Notebook) -> str:
    lines = ["| you can | shown by | if all pass, skip |", "|---|---|---|"]
    for item in notebook.criteria:
        skip = load_course().notebook(item.places)
        lines.append(f"| {item.says} | {_names(item.evidence)} | {skip.id} {skip.title} |")
    return "\n".join(lines)


def course_map(course: Course) -> str:
    """The steps of the course as a table, with the notebooks that exist."""
    lines = ["| step | time | what | notebooks |", "|---|---|---|---|"]
    for number, step in enumerate(course.steps):
        names = ", ".join(f"{item.id} {item.title}" for item in step.notebooks) or "in preparation"
        lines.append(f"| {number} {step.title} | {hours(step.hours)} | {step.about} | {names} |")
    return "\n".join(lines)


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
