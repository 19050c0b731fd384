"""The learner's copy of the notebooks, in work/: made, added to and brought up to date, without losing a word.

work/.released/ remembers the version that each file was copied from, which tells the learner's changes from the
course's. The rules, for each file of notebooks/:
- The course did not change it: the copy is left alone, whatever is in it.
- The course changed it and the learner did not: the copy is replaced.
- Both changed a notebook: the learner's work is carried over into the new version (carry_over.py), and the old copy
  stays beside it as NAME.before-2026-11-22.ipynb. Both changed another file: the same, without carrying over.
- The copy is missing: it is made again. So deleting a notebook starts it afresh, and a renamed one stays as it is.
- The course no longer has it: an untouched copy goes, a touched one stays.
- The copy cannot be read as a notebook: it is left alone.
A file is written under another name and then renamed, so that a crash leaves the old one or the new one.
"""

import contextlib
import datetime
import itertools
import os
import tempfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from concrete_steps.errors import CourseError
from concrete_steps.workspace.carry_over import Result, carry_over


def sync(course_root: Path, work: Path) -> list[str]:
    """Bring `work` up to date with the course's notebooks/; what there is to say about it, a line each.

    Raises:
        CourseError: notebooks/ is missing, or a file cannot be read or written.
    """
    notebooks = course_root / "notebooks"
    if not notebooks.is_dir():
        raise CourseError(
            f"{notebooks} is missing: get it back with `git restore notebooks`, or download the course anew."
        )
    bases = work / ".released"
    first_time = not bases.is_dir()
    added: list[str] = []
    said: list[str] = []
    try:
        for name in files_in(notebooks):
            if (work / name).exists():
                said += update(name, notebooks / name, work / name, bases / name)
            else:
                put(work / name, (notebooks / name).read_bytes())
                put(bases / name, (notebooks / name).read_bytes())
                added.append(name)
        for name in files_in(bases):
            if not (notebooks / name).exists():
                said += let_go(name, work / name, bases / name)
    except OSError as problem:
        raise _cannot(problem, work) from None
    if first_time and added:
        return [f"Your own copy of the notebooks is in {work}.", *said]
    return [*(f"{name}: a fresh copy is in your folder." for name in added), *said]


def ask_assistants(work: Path) -> list[str]:
    """Put AGENTS.md into `work`, which asks assistants for hints and not for answers; a line where that is news.

    It is written where there is none, and brought up to date while it is as the course wrote it. One that the learner
    wrote or changed is left alone, and one that they deleted stays away.

    Raises:
        CourseError: a file cannot be read or written.
    """
    mine, base = work / "AGENTS.md", work / ".released" / ".AGENTS.md"  # hidden: sync must not take it for a notebook
    new = Path(__file__).with_name("AGENTS.md").read_bytes()
    try:
        before = base.read_bytes() if base.is_file() else None
        current = mine.read_bytes() if os.path.lexists(mine) else None
        if current != before or new == before:
            return []
        put(mine, new)
        put(base, new)
    except OSError as problem:
        raise _cannot(problem, mine) from None
    if before is None:
        return ["AGENTS.md in your folder asks AI assistants for hints instead of answers; change or delete it freely."]
    return ["AGENTS.md: brought up to date."]


def update(name: str, released: Path, mine: Path, base: Path) -> list[str]:
    """Bring one existing copy up to date. `base` is what it was made from (it may be missing) and is renewed."""
    new = released.read_bytes()
    before = base.read_bytes() if base.is_file() else None
    if new == before:
        return []
    current = mine.read_bytes()
    said = []
    if current == before:
        put(mine, new)
        said = [f"{name}: brought up to date.", *news(before, new)]
    elif current != new and name.endswith(".ipynb"):
        readable, said = update_notebook(name, mine, current, new, before)
        if not readable:
            return said
    elif current != new:
        kept = keep_beside(mine, current)
        put(mine, new)
        said = [f"{name}: brought up to date; your changed copy is now {kept.name}."]
    put(base, new)
    return said


def _cannot(problem: OSError, where: Path) -> CourseError:
    where = problem.filename or where
    return CourseError(f"{where} cannot be read or written ({problem.strerror}): put that right and start again.")


def update_notebook(name: str, mine: Path, current: bytes, new: bytes, before: bytes | None) -> tuple[bool, list[str]]:
    """Carry the learner's work over into the new version. False where one of the two cannot be read."""
    try:
        theirs = read_notebook(new)
    except ValueError as problem:
        return False, [f"{name}: the course's new version cannot be read ({problem}); run `git restore notebooks`."]
    try:
        ours = read_notebook(current)
    except ValueError as problem:
        remedy = "to get the new version, rename your copy and start again"
        return False, [f"{name}: your copy is no notebook any more ({problem}), so it was left alone; {remedy}."]
    base = None
    if before is not None:
        with contextlib.suppress(ValueError):
            base = read_notebook(before)
    result = carry_over(ours, theirs, base)
    kept = keep_beside(mine, current) if result.holds_work else None
    put(mine, (nbformat.v4.writes(result.notebook) + "\n").encode())
    return True, report(name, result, kept)


def news(before: bytes, new: bytes) -> list[str]:
    """What an untouched copy has gained."""
    with contextlib.suppress(ValueError):
        base = read_notebook(before)
        return added(carry_over(base, read_notebook(new), base))
    return []


def added(result: Result) -> list[str]:
    return [f"  New in it: {', '.join(result.added)}."] if result.added else []


def report(name: str, result: Result, kept: Path | None) -> list[str]:
    said = f"{name}: brought up to date"
    if result.answers:
        said += f", with your answers to {', '.join(result.answers)}"
    if kept:
        said += f"; the copy as you left it is {kept.name}"
    lines = [f"{said}.", *added(result)]
    lines += [f"  {old} is now called {new}; so is your answer." for old, new in result.renamed]
    lines += [f"  {old} has become several: {new} is one more, to be written." for old, new in result.parts]
    if result.changed:
        lines.append(f"  The task changed in {', '.join(result.changed)}: compare with notebooks/{name}.")
    if result.dropped:
        lines.append(f"  No longer in the course: {', '.join(result.dropped)}; your answers stay as ordinary cells.")
    return lines


def let_go(name: str, mine: Path, base: Path) -> list[str]:
    """The course has dropped a file: remove an untouched copy, keep a touched one and say so once."""
    touched = mine.is_file() and mine.read_bytes() != base.read_bytes()
    if not touched:
        mine.unlink(missing_ok=True)
    base.unlink()
    return [f"{name}: no longer in the course; your copy stays."] if touched else []


def read_notebook(data: bytes) -> NotebookNode:
    """A version 4 notebook whose cells surely have type, source and metadata; else ValueError, with why not."""
    try:
        notebook = nbformat.v4.reads(data.decode())
        complete = notebook.nbformat == 4 and all(
            isinstance(cell.source, str)
            and isinstance(cell.cell_type, str)
            and isinstance(cell.metadata.get("nbgrader", {}), dict)
            for cell in notebook.cells
        )
    except UnicodeDecodeError:
        raise ValueError("it is no text") from None
    except (AttributeError, KeyError, TypeError):
        complete = False
    if not complete:
        raise ValueError("its cells are incomplete")
    return notebook


def keep_beside(path: Path, data: bytes) -> Path:
    """Write `data` beside `path` as NAME.before-DATE, with a number where that name is taken by something else."""
    today = datetime.date.today().isoformat()
    for number in itertools.count(1):
        suffix = "" if number == 1 else f"-{number}"
        kept = path.with_name(f"{path.stem}.before-{today}{suffix}{path.suffix}")
        if not kept.exists():
            put(kept, data)
            return kept
        if kept.read_bytes() == data:
            return kept


def put(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def files_in(folder: Path) -> list[str]:
    """Paths below `folder`, with slashes, but for hidden ones (checkpoints, half-written files)."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))
