"""Grade a notebook of somebody else's in a process of its own, which can be killed.

The parent (`grade_notebook`) starts a child, which loads the notebook and checks one exercise after the other, and says
what it is doing on a private pipe. A child that dies or falls silent costs the cell or exercise that it was at; another
child goes on with the rest. Nothing counts as passed unless the child said so with the parent's nonce, after it had seen
a known wrong answer fail by the same check in the same process (fail closed: a patched torch or a patched check passes
wrong answers too). CONTRIBUTING.md says what one process cannot prevent.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path

from concrete_steps.course import Notebook, load_course
from concrete_steps.outcomes import ERROR, PASSED, TIMED_OUT, Result
from concrete_steps.paths import course_root

PATIENCE = 90.0  # seconds without a word from the child
MEMORY = 12 * 2**30  # bytes of address space, where the system can limit it
LONGEST_REPORT = 2_000_000  # characters that a child may report in all


def grade_notebook(notebook: Notebook, path: Path, patience: float = PATIENCE) -> dict[str, Result]:
    """Results by exercise for the notebook at `path`.

    Args:
        notebook: which notebook of the course it is.
        path: the learner's file.
        patience: seconds that one cell or one check may take before the child is killed.
    """
    results: dict[str, Result] = {}
    skip: list[str] = []
    # Each round ends with all done, or with one more cell or exercise that is known to be fatal.
    for _ in range(len(notebook.exercises) + 50):
        waiting = [name for name in notebook.exercises if name not in results]
        if not waiting:
            break
        found, at, how = _run_child(notebook, path, waiting, skip, patience)
        results |= found
        if at is None:
            break
        kind, name = at
        if kind == "cell" and name not in skip:
            skip.append(name)
        elif kind == "check":
            results[name] = _ended(name, how, patience)
        else:
            break
    unfinished = "The grader could not finish this exercise: the process ended before its check was done."
    return {name: results.get(name) or Result(name, ERROR, message=unfinished) for name in notebook.exercises}


def _ended(name: str, how: str, patience: float) -> Result:
    if how == "silent":
        return Result(name, TIMED_OUT, message=f"It did not stop within {patience:g} seconds; the process was killed.")
    return Result(name, ERROR, message="Your code ended the Python process while it was being checked.")


def _run_child(notebook: Notebook, path: Path, waiting: list[str], skip: list[str], patience: float):
    """One child's results, and where it was when it ended early: (results, ("cell"|"check", name) or None, how)."""
    nonce = secrets.token_hex(16)
    results: dict[str, Result] = {}
    at = None
    with tempfile.TemporaryDirectory(prefix="concrete-steps-", ignore_cleanup_errors=True) as scratch:
        child = subprocess.Popen(
            [sys.executable, "-m", "concrete_steps.isolated"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=scratch,
            env={
                **os.environ,
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONUTF8": "1",
                "TMPDIR": scratch,
                "MPLBACKEND": "Agg",
            },
            start_new_session=os.name == "posix",
        )
        order = {"nonce": nonce, "notebook": notebook.id, "path": str(path.resolve()), "waiting": waiting, "skip": skip}
        with contextlib.suppress(OSError):
            child.stdin.write(json.dumps(order).encode() + b"\n")
            child.stdin.close()
        lines: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=_read, args=(child.stdout, lines), daemon=True).start()
        how = "died"
        deadline = time.monotonic() + patience + 60  # the first word comes after the imports
        try:
            while True:
                try:
                    line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    how = "silent"
                    break
                if line is None:
                    break
                word = _trusted(line, nonce)
                if word is None:
                    continue
                deadline = time.monotonic() + patience
                if word["kind"] == "done":
                    return results, None, "done"
                if word["kind"] == "result":
                    result = Result(**word["result"])
                    results[result.exercise], at = result, None
                else:
                    at = (word["kind"], word["name"])
        finally:
            _kill(child)
    return results, at, how


def _read(pipe, lines: queue.Queue) -> None:
    """Pass on what the child reports, up to a limit; then the end."""
    read = 0
    with contextlib.suppress(OSError, ValueError):
        while read < LONGEST_REPORT:
            line = pipe.readline(LONGEST_REPORT)
            if not line:
                break
            read += len(line)
            lines.put(line)
    lines.put(None)


def _trusted(line: bytes, nonce: str) -> dict | None:
    try:
        word = json.loads(line)
    except ValueError:
        return None
    return word if isinstance(word, dict) and word.get("nonce") == nonce else None


def _kill(child: subprocess.Popen) -> None:
    """End the child and whatever it started."""
    with contextlib.suppress(OSError):
        if os.name == "posix":
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()
    child.stdout.close()


# ---- in the child ----------------------------------------------------------------------------------------------------


def main() -> None:
    order = json.loads(sys.stdin.readline())
    say = _private_pipe(order["nonce"])
    _limit_memory()
    from concrete_steps.checks import run_checks
    from concrete_steps.loader import Loaded, load
    from concrete_steps.mistakes import mistakes_of

    notebook = load_course().notebook(order["notebook"])
    wrong_answers = mistakes_of(notebook)
    # Import everything that a check uses before the learner's code can put something else in its place.
    run_checks(notebook, notebook.exercises, Loaded(notebook.path))
    _forbid(course_root())
    path = Path(order["path"])
    loaded = load(path, notebook.exercises, tuple(order["skip"]), on_cell=lambda cell: say("cell", name=cell))
    for name in order["waiting"]:
        say("check", name=name)
        result = run_checks(notebook, (name,), loaded)[name]
        if result.outcome == PASSED and not _rejects_wrong_answers(notebook, name, loaded, wrong_answers[name]):
            result = Result(
                name, ERROR, message="The notebook changes how checks work: a known wrong answer passes too."
            )
        say("result", result=asdict(result))
    say("done")


def _rejects_wrong_answers(notebook: Notebook, name: str, loaded, wrong_answers: list) -> bool:
    """The check, in this very process, still rejects a known wrong answer."""
    from concrete_steps.checks import run_check
    from concrete_steps.loader import Loaded

    wrong = secrets.choice(wrong_answers).answer(loaded.namespace[name])
    return run_check(notebook, name, Loaded(loaded.path, {**loaded.namespace, name: wrong})).outcome != PASSED


def _private_pipe(nonce: str):
    """A function that reports to the parent; the ordinary stdout and stderr, and stdin, lead nowhere from here on."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)

    def say(kind: str, **facts) -> None:
        pipe.write(json.dumps({"nonce": nonce, "kind": kind, **facts}) + "\n")
        pipe.flush()

    return say


def _limit_memory() -> None:
    """A submission may not take the whole machine. Windows has no such limit."""
    try:
        import resource
    except ImportError:
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


STARTS_PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.kill")


def _forbid(root: Path) -> None:
    """From here on, this process cannot open the solutions, other people's work or the grades, nor write to the course."""
    closed = [str(root / name) + os.sep for name in ("solutions", "grading", ".git")]
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    course = str(root) + os.sep

    def guard(event: str, arguments: tuple) -> None:
        if event in STARTS_PROCESSES or event == "sqlite3.connect":
            raise PermissionError(f"{event} is not allowed while a notebook is graded")
        if event == "open" or event.startswith(("os.", "shutil.")):
            for argument in arguments:
                if isinstance(argument, str | bytes | os.PathLike):
                    target = os.path.realpath(os.fsdecode(argument))
                    if f"{target}{os.sep}".startswith(tuple(closed)):
                        raise PermissionError(f"{target} may not be read while a notebook is graded")
                    if event == "open" and target.startswith(course) and (arguments[2] or 0) & writing:
                        raise PermissionError(f"{target} may not be changed while a notebook is graded")

    sys.addaudithook(guard)


if __name__ == "__main__":
    main()
