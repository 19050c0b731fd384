"""What learners hand in, made well-formed for nbgrader: submitted/STUDENT/STEP/*.ipynb of any name and in any state.

Each hand-in is kept as it was (received.py); in its place stands, under the expected name, the released notebook with
the learner's cells put in (merging.py), and the learner's own modules beside it. Nothing else reaches nbgrader, which
would copy it to its pages' folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from concrete_steps.course import Notebook, Step, load_course
from concrete_steps.errors import CourseError
from concrete_steps.grading import merging, received
from concrete_steps.grading.formats import may_be_notebook, read_cells
from concrete_steps.workspace.copy import put

# These begin or end something in nbgrader's pages, which show a learner's name as it is.
NOT_IN_NAMES = '<>"'
PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


@dataclass
class Submission:
    """One learner's work on one step: the well-formed notebooks, and what was unusual in each and in all."""

    student: str
    step: Step
    folder: Path
    notebooks: dict[Notebook, Path] = field(default_factory=dict)
    modules: list[Path] = field(default_factory=list)
    unusual: dict[Notebook, list[str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


@dataclass
class File:
    """A file of a hand-in that may be a notebook."""

    shown: str
    path: Path
    hand_in: int
    cells: list[dict] | None = None
    error: str = ""
    found: dict[Notebook, set[str]] = field(default_factory=dict, repr=False)  # its exercises that the file holds

    def __post_init__(self):
        try:
            self.cells = read_cells(self.path)
        except CourseError as error:
            self.error = str(error)

    @property
    def is_script(self) -> bool:
        return self.path.suffix.lower() == ".py"

    def exercises_of(self, notebook: Notebook) -> set[str]:
        if notebook not in self.found:
            self.found[notebook] = merging.recognised(notebook, self.cells or [])
        return self.found[notebook]

    def is_most_of(self, notebook: Notebook) -> bool:
        return len(self.exercises_of(notebook)) > len(notebook.exercises) // 2

    def is_named_as(self, notebook: Notebook) -> bool:
        return self.path.stem == notebook.name

    def is_copy(self, notebook: Notebook, step: Step) -> bool:
        """By the exercises in it; by its name if they do not tell."""
        if self.is_script or self.is_most_of(notebook):
            return self.is_most_of(notebook)
        if any(self.is_most_of(other) for other in step.handed_out):
            return False
        if self.cells is None:
            return notebook.name in self.path.name
        most = max(len(self.exercises_of(other)) for other in step.handed_out)
        return self.is_named_as(notebook) or 0 < most == len(self.exercises_of(notebook))

    def rank(self, notebook: Notebook) -> tuple:
        """The greatest counts: what has answers, then the newest hand-in, the expected name, the newest file."""
        has_answers = bool(merging.answered(notebook, self.cells or []))
        newest = self.path.stat().st_mtime
        return (
            has_answers,
            self.cells is not None,
            self.hand_in,
            not self.is_script,
            self.is_named_as(notebook),
            newest,
        )


def step_named(name: str) -> Step:
    """The step whose folder, or whose number, this is.

    Raises:
        CourseError: there is none, or it has no notebooks yet; names those that there are.
    """
    ready = [step for step in load_course().steps if step.handed_out]
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
    place = folder.parents[2] / "received" / folder.parent.name / folder.name
    received.take_in(folder, place)
    submission = Submission(folder.parent.name, step, folder)
    files, others, failures = _files(place)
    left_out = received.left_out(place)
    submission.remarks = [*failures, *([f"left out: {', '.join(left_out)}"] if left_out else [])]
    if not any(not file.is_script or _is_script_of(file, step) for file in files):
        names = ", ".join([*(file.shown for file in files), *others][:5])
        more = "; ".join([*submission.remarks, *([f"it holds {names}"] if names else [])])
        raise CourseError(
            f"{folder} holds no notebook (*.ipynb){more and f' ({more})'}; put the learner's files there."
        )
    texts = {}
    used = set()
    for notebook in step.handed_out:
        copies = [file for file in files if file.is_copy(notebook, step)]
        if copies:
            texts[notebook.path.name] = _choose(submission, notebook, copies, others)
            used |= {id(file) for file in copies}
    strays = [file for file in files if id(file) not in used and not file.is_script]
    if not submission.notebooks and strays:
        notebook = step.handed_out[0]
        texts[notebook.path.name] = _choose(submission, notebook, strays, others)
    else:
        submission.remarks += [f"not used: {_why_not(file)}" for file in strays]
    modules = {file.path.name: file.path for file in reversed(files) if file.is_script and id(file) not in used}
    texts |= {name: path.read_bytes() for name, path in modules.items()}
    submission.modules = [folder / name for name in modules]
    received.write_record(place, texts)
    for name, data in texts.items():
        if not (folder / name).is_file() or (folder / name).read_bytes() != data:
            put(folder / name, data)
    return submission


def literal(text: str) -> str:
    """The text in letters that any terminal, file and page can show: the others as an escape of Python's."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _require_ordinary(folder: Path) -> None:
    student = folder.parent.name
    if literal(student) != student or any(letter in student for letter in NOT_IN_NAMES):
        raise CourseError("nbgrader cannot keep or show this name; rename the folder.")
    if folder.resolve().parent != folder.parent.resolve():
        raise CourseError(f"{folder} is a link to another place; put the files themselves there.")


def _files(place: Path) -> tuple[list[File], list[str], list[str]]:
    """The files of all hand-ins that may be notebooks or modules, the newest first; names of the others; failures."""
    files, others, failures = [], [], []
    for hand_in in received.hand_ins(place):
        found, failed = received.files_of(hand_in)
        failures += failed
        for shown, path in found:
            if may_be_notebook(path):
                files.append(File(shown, path, int(hand_in.name)))
            else:
                others.append(shown)
    return files, others, failures


def _is_script_of(file: File, step: Step) -> bool:
    return file.is_script and any(file.is_most_of(notebook) for notebook in step.handed_out)


def _choose(submission: Submission, notebook: Notebook, copies: list[File], others: Iterable[str]) -> bytes:
    """Of several copies the one that counts, as the well-formed notebook, and what is to be said about it."""
    best, *rest = sorted(copies, key=lambda file: file.rank(notebook), reverse=True)
    if best.cells is None:
        # In a text that is shown as markdown, names and what they hold are to be seen by their letters.
        reason = PUNCTUATION.sub(r"\\\1", literal(f"{best.shown} {best.error}."))
        text = merging.blank(notebook, f"**This submission could not be read, so it is graded as blank.** {reason}")
        unusual = [f"unreadable, graded as blank: {best.shown} {best.error}"]
    else:
        text, unusual = merging.merged(notebook, best.cells)
        code = "\n".join(cell["source"] for cell in best.cells if cell["cell_type"] == "code")
        missing = [name for name in others if Path(name).name in code]
        if not best.exercises_of(notebook):
            unusual.insert(0, f"none of its exercises is recognised: {_why_not(best)}")
        unusual += [f"its code reads {name}, which is not there when it is graded" for name in missing]
    if best.path.name != notebook.path.name:
        unusual.insert(0, f"renamed: was {best.shown}")
    if same := [file.shown for file in rest if file.hand_in == best.hand_in and file.cells is not None]:
        unusual.append(f"handed in more than once: {best.shown} counts, not {', '.join(same)}")
    unusual += [f"not used: {_why_not(file)}" for file in rest if file.cells is None or file.hand_in > best.hand_in]
    submission.notebooks[notebook] = submission.folder / notebook.path.name
    submission.unusual[notebook] = unusual
    return text


def _why_not(file: File) -> str:
    if file.error:
        return f"{file.shown} {file.error}"
    for notebook in load_course().notebooks:
        if file.is_most_of(notebook):
            return f"{file.shown} is notebook {notebook.id}"
    return f"{file.shown} has no answers"
