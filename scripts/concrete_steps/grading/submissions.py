"""What learners hand in, made well-formed for nbgrader: submitted/STUDENT/STEP/*.ipynb of any name and in any state.

Each hand-in is kept as it was in received/STUDENT/STEP/1, 2, ...; in its place stands, under the expected name, the
released notebook with the learner's cells put in. So a deleted or edited check, a tag, a changed number of points, a
broken file or a new cell id never reaches nbgrader. Nor does any other file, which it would copy to its pages' folders:
links and what is no file go to received/STUDENT/STEP/left out, other files to "other files" beside it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

from concrete_steps.checking.loader import defined_names, find_copy, read_notebook
from concrete_steps.course import Notebook, Step, load_course
from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root

LARGEST = 100 * 2**20  # bytes of a file that is still read
LEFT_OUT, OTHER_FILES = "left out", "other files"
# nbgrader's own file, by which a hand-in is late.
TIMESTAMP = "timestamp.txt"
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
BASE64 = re.compile(r"[A-Za-z0-9+/\s]*={0,2}\s*")
# These begin or end something in nbgrader's pages, which show a learner's name as it is.
NOT_IN_NAMES = '<>"'
# Begins HTML. nbgrader's pages show a learner's text as it is; a script in it would run with the instructor's rights.
HTML = re.compile("<(?=[A-Za-z/!?])")
# Names by which code looks behind the checks; whoever uses one in an exercise is worth a look, and no more than that.
LOOKS_BEHIND = (
    *("gc", "ctypes", "_getframe", "f_back", "__closure__", "__globals__", "__traceback__", "settrace", "setprofile"),
    *("ast_transformers", "addaudithook", "monkeypatch", "pytest", "_pytest", "run_checks", "pytest_plugin"),
)


PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


@dataclass
class Submission:
    """One learner's work on one step: the well-formed notebooks, and what was unusual in each."""

    student: str
    step: Step
    folder: Path
    is_new: bool
    notebooks: dict[Notebook, Path] = field(default_factory=dict)
    unusual: dict[Notebook, list[str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def step_named(name: str) -> Step:
    """The step whose folder, or whose number, this is.

    Raises:
        CourseError: there is none, or it has no notebooks yet; names those that there are.
    """
    ready = [step for step in load_course().steps if step.notebooks]
    for step in ready:
        if name in (step.folder, step.folder.partition("_")[0]):
            return step
    raise CourseError(
        f"There is no step {name!r} with notebooks: use one of {', '.join(step.folder for step in ready)}."
    )


def tidy(folder: Path) -> Submission:
    """Make the folder submitted/STUDENT/STEP well-formed. Doing it again changes nothing.

    Raises:
        CourseError: the folder holds no notebook, or STEP is no step of the course.
    """
    step = step_named(folder.name)
    _require_ordinary(folder)
    received = folder.parents[2] / "received" / folder.parent.name / folder.name
    _set_aside(folder, received)
    left_out = sorted(path.relative_to(received / LEFT_OUT).as_posix() for path in _all_below(received / LEFT_OUT))
    seen = _read_record(received)
    is_new = _take_in(folder, received, seen)
    hand_ins = _hand_ins(received)
    if not hand_ins:
        more = f" (left out: {', '.join(left_out)})" if left_out else ""
        raise CourseError(f"{folder} holds no notebook (*.ipynb){more}; put the learner's files there.")
    submission = Submission(folder.parent.name, step, folder, is_new, left_out=left_out)
    for notebook in step.notebooks:
        for hand_in in hand_ins:
            if (source := find_copy(hand_in, notebook)).is_file():
                _put(submission, notebook, source, hand_in)
                break
    if not submission.notebooks:
        stray = next(path for path in hand_ins[0].rglob("*.ipynb"))
        _put(submission, step.notebooks[0], stray, hand_ins[0])
        submission.unusual[step.notebooks[0]].insert(0, "none of this step's notebooks is recognised")
    seen = {str(path.relative_to(folder)): _digest(path) for path in folder.rglob("*.ipynb") if path.is_file()}
    (received / "seen.json").write_text(json.dumps(seen), encoding="utf-8")
    return submission


def _require_ordinary(folder: Path) -> None:
    student = folder.parent.name
    if literal(student) != student or any(letter in student for letter in NOT_IN_NAMES):
        raise CourseError("nbgrader cannot keep or show this name; rename the folder.")
    if folder.resolve().parent != folder.parent.resolve():
        raise CourseError(f"{folder} is a link to another place; put the files themselves there.")


def _set_aside(folder: Path, received: Path) -> None:
    """Move what is no notebook out of nbgrader's way. What is no ordinary file is never opened."""
    for path in list(_all_below(folder)):
        ordinary = stat.S_ISREG(path.lstat().st_mode) and path.lstat().st_size <= LARGEST
        is_module = path.suffix == ".py" and path.parent == folder  # which the notebook may import; nbgrader ignores it
        if ordinary and (path.suffix == ".ipynb" or is_module or path == folder / TIMESTAMP):
            continue
        place = received / (OTHER_FILES if ordinary else LEFT_OUT) / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)


def _all_below(folder: Path) -> Iterator[Path]:
    """All but folders, links to folders included; no link is followed."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        yield from (Path(place) / name for name in (*files, *links))


def literal(text: str) -> str:
    """The text in letters that any terminal, file and page can show: the others as an escape of Python's."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _take_in(folder: Path, received: Path, seen: dict[str, str]) -> bool:
    """Keep the files that were handed in since the last time, as they are; True if there were any."""
    fresh = [
        path
        for path in folder.rglob("*.ipynb")
        if path.is_file() and seen.get(str(path.relative_to(folder))) != _digest(path)
    ]
    number = 1 + max((int(path.name) for path in _hand_ins(received)), default=0)
    for path in fresh:
        kept = received / str(number) / path.relative_to(folder)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, kept)
    return bool(fresh)


def _hand_ins(received: Path) -> list[Path]:
    """The folders 1, 2, ... of what was handed in, the newest first."""
    numbered = [path for path in received.glob("[0-9]*") if path.is_dir() and path.name.isdecimal()]
    return sorted(numbered, key=lambda path: -int(path.name))


def _put(submission: Submission, notebook: Notebook, source: Path, hand_in: Path) -> None:
    """Write the well-formed notebook where nbgrader looks for it."""
    text, unusual = well_formed(notebook, source)
    target = submission.folder / notebook.path.name
    if source.name != target.name:
        unusual.insert(0, f"renamed: was {source.name}")
    if not target.is_file() or target.read_bytes() != text:
        target.unlink(missing_ok=True)
        target.write_bytes(text)
    submission.notebooks[notebook] = target
    copies = [path for path in hand_in.rglob("*.ipynb") if path != source and _is_copy(path, notebook)]
    if copies:
        names = ", ".join(str(path.relative_to(hand_in)) for path in copies)
        unusual.append(f"handed in more than once: {source.relative_to(hand_in)} counts, not {names}")
    submission.unusual[notebook] = unusual


def _is_copy(path: Path, notebook: Notebook) -> bool:
    try:
        cells = read_notebook(path)["cells"]
    except CourseError:
        return False
    return len({_id(cell) for cell in cells} & set(notebook.exercises)) > len(notebook.exercises) // 2


def well_formed(notebook: Notebook, submitted: Path) -> tuple[bytes, list[str]]:
    """The released notebook with the learner's cells put in, as the bytes of a file, and what was unusual."""
    released = nbformat.read(course_root() / "notebooks" / notebook.path, as_version=4)
    try:
        if submitted.stat().st_size > LARGEST:
            raise CourseError(f"{submitted.name} is larger than {LARGEST // 2**20} MB; clear its outputs and save it.")
        cells = [_plain(cell) for cell in read_notebook(submitted)["cells"]]
    except (CourseError, OSError) as error:
        # In a text that is shown as markdown, names and what they hold are to be seen by their letters.
        reason = PUNCTUATION.sub(r"\\\1", literal(str(error).replace(str(submitted), submitted.name)))
        note = f"**This submission could not be read, so it is graded as blank.** {reason}"
        released.cells.insert(0, new_markdown_cell(note, id="unreadable"))
        return _to_bytes(released), ["unreadable, graded as blank"]
    texts = {cell.source for cell in released.cells}
    for cell in cells:
        if cell["cell_type"] != "code" and cell["source"] not in texts:
            cell["source"] = HTML.sub("&lt;", cell["source"])
    answers, own, unusual = _sort_out(cells, released, notebook.exercises)
    built = list(own.get(None, ()))
    for cell in released.cells:
        if not cell.metadata.get("nbgrader", {}).get("locked"):
            cell.source = answers.get(cell.id, cell)["source"]
            if cell.cell_type == "markdown" and (pictures := answers.get(cell.id, {}).get("attachments")):
                cell["attachments"] = {**cell.get("attachments", {}), **pictures}
        built += [cell, *own.get(cell.id, ())]
    for number, cell in enumerate(built, 1):
        cell.id = cell.get("id") or f"number-{number}"
    released.cells = built
    return _to_bytes(released), unusual


def _sort_out(cells: list[dict], released, exercises: tuple[str, ...]):
    """Texts by the released cell that they belong to, the learner's own cells by the one they follow, and remarks."""
    texts = {cell.id: cell.source for cell in released.cells}
    answers: dict[str, dict] = {}
    own: dict[str | None, list] = {}
    names = [_id(cell) for cell in cells]
    # Where ids were lost, an exercise is known by its heading or by what its cell defines.
    present = set(names)
    for index, cell in enumerate(cells):
        if names[index] not in texts and cell["cell_type"] == "code":
            names[index] = next((name for name in exercises if name not in present and _answers(cell, name)), None)
            present.add(names[index])
    after = None
    for name, cell in zip(names, cells, strict=True):
        if name in texts and name not in answers:
            answers[name] = cell
            after = name
        elif cell["source"] not in texts.values():
            own.setdefault(after, []).append(_own_cell(cell))
    unusual = [
        f"edited check of {name}, restored"
        for name in exercises
        if f"check_{name}" in answers and answers[f"check_{name}"]["source"].strip() != texts[f"check_{name}"].strip()
    ]
    theirs = [cell["source"] for cell in cells if cell["cell_type"] == "code" and cell["source"] not in texts.values()]
    code = "\n".join(theirs)
    behind = [name for name in LOOKS_BEHIND if re.search(rf"\b{name}\b", code)]
    return answers, own, unusual + ([f"read its code: it mentions {', '.join(behind)}"] if behind else [])


def _answers(cell: dict, name: str) -> bool:
    if cell["source"].startswith(f"# {name}: difficulty"):
        return True
    try:
        return name in defined_names(ast.parse(cell["source"]))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _plain(cell: dict) -> dict:
    """A cell of which only type, names, text and pictures are left, of the right types."""
    source = cell["source"]
    text = "".join(str(line) for line in source) if isinstance(source, list) else str(source)
    text = text.encode("utf-8", "replace").decode("utf-8")
    plain = {"cell_type": cell["cell_type"], "source": text, "id": cell.get("id"), "metadata": cell.get("metadata")}
    return plain | {"attachments": _pictures(cell.get("attachments"))}


def _pictures(attachments: object) -> dict[str, dict[str, str]]:
    """Pictures that were pasted into a cell, by name, each in one form."""
    kept = {}
    for name, forms in attachments.items() if isinstance(attachments, dict) else ():
        for kind in PICTURES:
            data = forms.get(kind) if isinstance(forms, dict) else None
            data = "".join(map(str, data)) if isinstance(data, list) else data
            if isinstance(data, str) and BASE64.fullmatch(data):
                kept[literal(name)] = {kind: data}
                break
    return kept


def _id(cell: dict) -> str | None:
    """nbgrader's name of the cell, which survives Colab's new cell ids, or the cell's own id."""
    metadata = cell.get("metadata")
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    name = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    name = name or cell.get("id")
    return name if isinstance(name, str) else None


def _own_cell(cell: dict):
    """A cell that the learner added: text and pictures alone, so that no tag or metadata of theirs counts."""
    new = new_code_cell if cell["cell_type"] == "code" else new_markdown_cell
    built = new(cell["source"])
    if cell["cell_type"] != "code" and cell["attachments"]:
        built["attachments"] = cell["attachments"]
    del built["id"]
    return built


def _to_bytes(nb) -> bytes:
    return (nbformat.writes(nb, version=4, sort_keys=True) + "\n").encode("utf-8", "replace")


def _read_record(received: Path) -> dict[str, str]:
    try:
        return json.loads((received / "seen.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
