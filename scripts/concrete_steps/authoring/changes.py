"""Which notebooks a change touches, so that what costs a minute a notebook runs for these, and for one more by turns.

A change is what came since the merge base with origin/main, or, on main itself, since the last tag or the last day of
commits, whichever exists first. The weekly workflow takes all notebooks.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from concrete_steps.course import Notebook
from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root

MOST = 3  # notebooks opened because they changed; the rest of a large change waits for the weekly run
# A change of these may show in any notebook: the first of the course is opened, and the one whose turn it is.
MACHINERY = ("scripts/concrete_steps/checking", "scripts/concrete_steps/plot", "scripts/concrete_steps/workspace")


def chosen(which: str, notebooks: Sequence[Notebook]) -> list[Notebook]:
    """The notebooks that "all", "changed" or ids separated by commas stand for.

    Raises:
        CourseError: an id that no notebook has.
    """
    if which == "all":
        return list(notebooks)
    if which == "changed":
        return touched(notebooks, changed_files(), commit_count())
    by_id = {notebook.id: notebook for notebook in notebooks}
    unknown = [key for key in which.split(",") if key not in by_id]
    if unknown:
        raise CourseError(f"There is no notebook {unknown[0]!r}: use all, changed, or ids such as 0,1.1.")
    return [by_id[key] for key in which.split(",")]


def touched(notebooks: Sequence[Notebook], files: Iterable[str], turn: int) -> list[Notebook]:
    """Notebooks whose source, checks or machinery are among the files, at most MOST, and one more by turns."""
    files = list(files)
    root = course_root()
    mine = [
        notebook
        for notebook in notebooks
        if {path.relative_to(root).as_posix() for path in (notebook.source, notebook.checks, notebook.mistakes)}
        & {*files}
    ]
    if any(file.startswith(MACHINERY) for file in files):
        mine.insert(0, notebooks[0])
    first = turn % max(len(mine), 1)
    picked = [*mine[first:], *mine[:first]][:MOST]
    return list({notebook.id: notebook for notebook in [*picked, by_turns(notebooks, turn)]}.values())


def own_files(notebook: Notebook) -> set[str]:
    """Paths of its source, checks and wrong answers, as git names them."""
    files = (notebook.source, notebook.checks, notebook.mistakes)
    return {path.relative_to(course_root()).as_posix() for path in files}


def by_turns(notebooks: Sequence[Notebook], turn: int | None = None) -> Notebook:
    """Another notebook with each commit."""
    return notebooks[(commit_count() if turn is None else turn) % len(notebooks)]


def changed_files() -> list[str]:
    """Paths that differ from the base of this change, as git names them; none where there is no git."""
    base = _git("merge-base", "HEAD", "origin/main") or ""
    if not base or base == _git("rev-parse", "HEAD"):
        base = _git("describe", "--tags", "--abbrev=0") or ""
    if not base:
        last = _git("log", "-1", "--format=%ct") or "0"
        base = _git("rev-list", "-1", f"--before={int(last) - 86_400}", "HEAD") or ""
    return (_git("diff", "--name-only", base) or "").splitlines() if base else []


def commit_count() -> int:
    return int(_git("rev-list", "--count", "HEAD") or 0)


def _git(*arguments: str, folder: Path | None = None) -> str | None:
    """What git answers, without the line end; None where it cannot."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder or course_root(), capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
