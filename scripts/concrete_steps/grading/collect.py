"""What a learning platform gives for a whole class, an archive, put where each learner's hand-in belongs."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from concrete_steps.course import Step
from concrete_steps.errors import CourseError
from concrete_steps.grading import received
from concrete_steps.grading.submissions import NOT_IN_NAMES, literal

# By platform, how the archive names a learner's file; `who` is unique in a class, as people's names are not.
PATTERNS = (
    # Moodle: "Jane Doe_12345_assignsubmission_file_/answers.ipynb", or all in one folder without the last slash.
    re.compile(r"(?P<who>[^/]+?_\d+)_assignsubmission_(?:file|onlinetext)_?/?(?P<file>.+)"),
    # Canvas: "doejane_LATE_12345_678901_answers-1.ipynb".
    re.compile(r"(?P<who>[^/_]+(?:_LATE)?_\d+)_\d+_(?P<file>[^/]+)"),
    # A folder a learner, as most others have it.
    re.compile(r"(?P<who>[^/]+)/(?P<file>.+)"),
)


def collect(step: Step, archives: list[Path], home: Path) -> int:
    """Copy what the archives hold to submitted/STUDENT/STEP, and say for whom."""
    students, strays, times = set(), [], []
    for archive in archives:
        with tempfile.TemporaryDirectory() as folder:
            for name, path in _files(archive, Path(folder)):
                found = next((found for pattern in PATTERNS if (found := pattern.fullmatch(name))), None)
                if not found:
                    strays.append(name)
                    continue
                if found["file"].lower() == received.TIMESTAMP:
                    times.append(name)
                    continue
                student = student_of(found["who"])
                target = home / "submitted" / student / step.folder / found["file"]
                received.move(path, target)
                students.add(student)
    print(f"{len(students)} learners' files are in {home / 'submitted'}/STUDENT/{step.folder}.")
    for name in strays:
        print(literal(f"Left out, as it does not say whose it is: {name}"))
    for name in times:
        print(literal(f"Left out, as nbgrader would believe that it says when this was handed in: {name}"))
    return 1 if strays or not students else 0


def student_of(name: str) -> str:
    """A name that nbgrader can keep and show."""
    name = literal(name.replace("_LATE", "")).strip(" .")
    return re.sub(rf"[{NOT_IN_NAMES}\\/:*?|]", "-", name)[:100] or "nameless"


def _files(archive: Path, folder: Path) -> list[tuple[str, Path]]:
    copy = folder / "class.zip"
    try:
        shutil.copyfile(archive, copy)
    except OSError as error:
        raise CourseError(f"{archive} cannot be opened ({error.strerror}).") from None
    try:
        unpacked = received.unpacked(copy, most_files=100_000, most_bytes=20 * 2**30)
    except CourseError as error:
        raise CourseError(f"{archive} {error}.") from None
    files = [(path.relative_to(unpacked), path) for path in received.all_below(unpacked)]
    tops = {name.parts[0] for name, _ in files}
    if len(tops) == 1 and all(len(name.parts) > 2 for name, _ in files):  # all in one folder
        files = [(name.relative_to(name.parts[0]), path) for name, path in files]
    return [(name.as_posix(), path) for name, path in files]
