"""The log of checks: one line for each check and each few minutes of work, on this machine and nowhere else.

A line is `{"t": 1764201600, "n": "1.1", "e": "causal_mask", "r": "passed"}`: seconds since 1970 (so that time zones do
not matter), notebook, exercise, outcome; without the last two, a cell was run. Nothing of what was written is kept.
Each machine has a file of its own: a folder that two machines share needs no order between their clocks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from concrete_steps.paths import course_root

FOLDER = "CONCRETE_STEPS_LOG"  # environment variable: another folder for the log; empty: none is kept
BETWEEN_SIGNS = 120  # seconds: cells that are run sooner after the last sign leave none


@dataclass(frozen=True)
class Event:
    """A check (with exercise and outcome), or the sign that a cell was run in a notebook."""

    machine: str
    when: float
    notebook: str
    exercise: str = ""
    outcome: str = ""


def log_folder() -> Path | None:
    """The folder of the log: work/.progress of a checkout, else the user's own data folder; None where none is kept."""
    given = os.environ.get(FOLDER)
    if given is not None:
        return Path(given) if given else None
    root = course_root()
    if (root / "pyproject.toml").is_file():
        return root / "work" / ".progress"
    from platformdirs import user_data_path

    return user_data_path("concrete-steps") / "progress"


def record(
    notebook: str, exercise: str = "", outcome: str = "", when: float | None = None, folder: Path | None = None
) -> None:
    """Add a line to the log in `folder` (by default `log_folder()`).

    A log that cannot be written is no reason for a check to fail, so nothing is raised. A line
    begins with its line break: one that a power cut left half written does not spoil the next.
    """
    entry = {"t": int(time.time() if when is None else when), "n": notebook}
    entry |= {"e": exercise, "r": outcome} if exercise else {}
    line = "\n" + json.dumps(entry, separators=(",", ":"))
    with contextlib.suppress(OSError):
        folder = folder or log_folder()
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / f"{_machine()}.jsonl", os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
        try:
            os.write(file, line.encode())  # one call: lines of several kernels do not mix
        finally:
            os.close(file)


def read(folder: Path | None = None) -> list[Event]:
    """All events, machine by machine, in the order in which they were written; lines that say nothing are left out."""
    folder = folder or log_folder()
    if folder is None or not folder.is_dir():
        return []
    events = []
    for file in sorted(folder.glob("*.jsonl")):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        # A copy of the log beside the log holds the same lines; two true ones at one second count once, too.
        events += dict.fromkeys(event for line in lines if (event := _event(file.stem, line)))
    return events


def watch(notebook: str) -> None:
    """From now on, the cells that are run in this kernel leave a sign every few minutes."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return
    signs = getattr(shell, "concrete_steps_signs", None)
    if signs is None:
        signs = shell.concrete_steps_signs = Signs()
        shell.events.register("post_run_cell", signs)
    signs.notebook = notebook
    record(notebook)


@dataclass
class Signs:
    """Called after each cell."""

    notebook: str = ""
    last: float = 0.0

    def __call__(self, result=None) -> None:
        if abs(time.time() - self.last) >= BETWEEN_SIGNS:
            self.last = time.time()
            record(self.notebook)


def _event(machine: str, line: str) -> Event | None:
    try:
        entry = json.loads(line)
        event = Event(machine, float(entry["t"]), entry["n"], entry.get("e", ""), entry.get("r", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return event if all(isinstance(text, str) for text in (event.notebook, event.exercise, event.outcome)) else None


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
