"""Grade a notebook of somebody else's: its code locked up, and killed when it falls silent.

A judge runs the checks on stand-ins for the learner's objects, which live in a sandbox (pair.py). What cannot be judged
so (`trusted` in the map; what the judge doubts; everything where there is no sandbox) is checked by a process that
holds both check and answer (inside.py): there nothing counts as passed unless it said so with the parent's nonce, and
every known wrong answer was then rejected by the same check in the same process (fail closed: a patched torch or a
patched check passes wrong answers too). A process that dies or falls silent costs the cell or exercise that it was at;
another one goes on with the rest. CONTRIBUTING.md says what remains possible.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from concrete_steps.checking.outcomes import ERROR, TIMED_OUT, Result
from concrete_steps.course import Notebook
from concrete_steps.errors import CourseError
from concrete_steps.grading import sandbox
from concrete_steps.grading.judge import ENDED
from concrete_steps.grading.pair import SPARE, Pair
from concrete_steps.grading.rounds import Round, listen
from concrete_steps.grading.words import Words
from concrete_steps.models import smollm2_model

LARGEST_MODULE, MOST_MODULES = 1_000_000, 50  # bytes, files: of the learner's modules beside the notebook


@dataclass(frozen=True)
class Limits:
    """What one notebook may take.

    Attributes:
        patience: seconds that one cell or one check may take before the child is killed; in a notebook with a check
            that asks for more, that.
        whole: seconds for the whole notebook; what is not done then is not graded.
        memory: bytes of address space beyond the imports (Linux).
    """

    patience: float = 90.0
    whole: float = 1800.0
    memory: int = 8 * 2**30


def grade_notebook(
    notebook: Notebook, path: Path, limits: Limits | None = None, trust: bool = False, pair: Pair | None = None
) -> dict[str, Result]:
    """Results by exercise for the learner's file at `path`.

    Args:
        trust: grade also where nothing can lock the learner's code up: it then may do what you may.
        pair: the processes that grade this learner's other notebooks, too; if not given, they are started.

    Raises:
        CourseError: the grader itself did not start; that says nothing about the learner's work.
    """
    sandbox.require(trust)
    limits = limits or Limits()
    limits = replace(limits, patience=max(limits.patience, longest_of(notebook.checks)))
    if "smollm2" in notebook.needs:
        smollm2_model.fetch()  # there is no network in a sandbox
    if sandbox.why_not():
        return _graded(notebook, path, limits, None)
    with Pair([notebook], limits.memory) if pair is None else contextlib.nullcontext(pair) as both:
        return _graded(notebook, path, limits, both)


def longest_of(checks: Path) -> float:
    """Seconds that the slowest check in this file asks for (`@pytest.mark.seconds`): none may be killed before that."""
    return max(map(float, re.findall(r"pytest\.mark\.seconds\((\d+)", checks.read_text(encoding="utf-8"))), default=0.0)


def _graded(notebook: Notebook, path: Path, limits: Limits, pair: Pair | None) -> dict[str, Result]:
    results: dict[str, Result] = {}
    skip: list[str] = []
    left = limits.whole
    inside = set(notebook.exercises if pair is None else dict(notebook.trusted))
    unfinished = "The process ended before this exercise was checked."
    fruitless = 0
    # Each round ends with all done, or with one more cell or exercise that is known to be fatal.
    while waiting := [name for name in notebook.exercises if name not in results]:
        if left <= 0:
            unfinished = f"The whole notebook took more than {limits.whole:g} seconds; this exercise was not checked."
            break
        outside = [name for name in waiting if name not in inside]
        if pair is None:
            done = _round_without_sandbox(notebook, path, waiting, skip, limits, left)
        else:
            take = pair.round if outside else pair.round_inside
            done = take(notebook, path, modules_beside(path), outside or waiting, skip, limits.patience, left)
        # Anything else that a child may say brings the end no nearer.
        found = {name: result for name, result in done.results.items() if name in waiting and name not in done.doubts}
        # What an earlier exercise does may end the process during a later one: that one is asked again, as the first.
        first = (outside or waiting)[0]
        found = {name: result for name, result in found.items() if result.message != ENDED or name == first}
        results |= found
        inside |= done.doubts.keys()
        left -= done.seconds
        kind, name = done.at
        if kind == "check" and (name == first or done.how == "silent"):
            results[name] = _ended(name, done.how, limits)
        elif kind == "cell" and name not in skip:
            skip.append(name)
        elif not found and not done.doubts:
            fruitless += 1  # the sandbox as a whole may have ended, for the memory that it took: once it starts anew
            if fruitless == 2:
                break
    return {name: results.get(name) or Result(name, ERROR, message=unfinished) for name in notebook.exercises}


def modules_beside(path: Path) -> list[Path]:
    """The learner's own modules, which the notebook may import: small files, no links, in its own folder."""
    found = [file for file in sorted(path.parent.glob("*.py")) if file.is_file() and not file.is_symlink()]
    return [file for file in found if file.stat().st_size <= LARGEST_MODULE][:MOST_MODULES]


def _ended(name: str, how: str, limits: Limits) -> Result:
    if how == "silent":
        message = f"It did not stop within {limits.patience:g} seconds; the process was killed."
        return Result(name, TIMED_OUT, message=message)
    return Result(name, ERROR, message=ENDED)


def _round_without_sandbox(
    notebook: Notebook, path: Path, waiting: list[str], skip: list[str], limits: Limits, left: float
) -> Round:
    """Exercises and their checks in one process of this user's, in a temporary folder (inside.py)."""
    nonce = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="concrete-steps-", ignore_cleanup_errors=True) as folder:
        files = {file.name: base64.b64encode(file.read_bytes()).decode() for file in (path, *modules_beside(path))}
        order = {"nonce": nonce, "notebook": notebook.id, "name": path.name, "files": files, "waiting": waiting}
        order |= {"skip": skip, "memory": limits.memory}
        with open(Path(folder) / "start.log", "wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "concrete_steps.grading.inside"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=sandbox.environment(folder, locked=False),
                start_new_session=os.name == "posix",
            )
        watch = sandbox.Watch(child, limits.memory + SPARE)
        with contextlib.suppress(OSError):
            child.stdin.write(json.dumps(order).encode() + b"\n")
            child.stdin.close()
        done = Round()
        with contextlib.closing(Words(child.stdout, nonce)) as words:
            try:
                listen(words, done, limits.patience, left, trusted=True)
            finally:
                watch.close()
                _kill(child)
        if done.process is None:
            raise CourseError(f"The grader did not start ({done.how}): {_last_line(Path(folder) / 'start.log')}")
    return done


def _kill(child: subprocess.Popen) -> None:
    """End the child and whatever it started."""
    with contextlib.suppress(OSError):
        if os.name == "posix":
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:500] if lines else "it said nothing"
