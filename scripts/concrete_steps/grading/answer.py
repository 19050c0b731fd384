"""What runs in a learner's sandbox: for each notebook a fork that loads it, and answers a judge's questions.

Another fork holds answer and check, for what cannot be judged from outside (inside.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from concrete_steps.course import load_course
from concrete_steps.grading import sandbox
from concrete_steps.grading.crossing.wire import Lost, Wire
from concrete_steps.grading.forking import import_what_it_imports, own_line, serve
from concrete_steps.grading.inside import check, write_files
from concrete_steps.grading.words import Speaker, silence
from concrete_steps.paths import course_root


def main() -> None:
    if not sandbox.is_inside():  # `_clear` ends every process and empties folders
        raise SystemExit("concrete_steps.grading.answer runs in a sandbox alone: use scripts/grade.py.")
    line = own_line()
    sys.modules["rfc3987_syntax"] = None  # see grading.inside
    import torch._inductor.config  # noqa: F401 (PyTorch's optimisers import it: not in a learner's time)

    from concrete_steps.checking import checks, testing  # noqa: F401 (for all forks)
    from concrete_steps.grading.crossing import serving  # noqa: F401

    memory, *notebooks = sys.argv[1:]
    for notebook_id in notebooks:
        import_what_it_imports(course_root() / "notebooks" / load_course().notebook(notebook_id).path)
    sandbox.limit(int(memory))
    serve(line, lambda order: _clear(), work)


def work(order: dict, descriptor: int) -> None:
    """Load the notebook of the order, say so, and answer until the line ends; or check it here."""
    from concrete_steps.checking.loader import load
    from concrete_steps.grading.crossing.serving import Server

    folder = Path(order["folder"])
    folder.mkdir()
    os.chdir(folder)
    write_files(order["files"], folder)
    if "checks" in order:
        return check(order, Speaker(descriptor, order["nonce"]))
    silence(2)
    wire = Wire(descriptor, descriptor)
    notebook = load_course().notebook(order["notebook"])
    with contextlib.suppress(Lost):
        loaded = load(
            folder / order["name"],
            notebook.exercises,
            tuple(order["skip"]),
            lambda cell: wire.send({"word": "cell", "name": cell}, []),
        )
        wire.send({"word": "loaded"}, [])
        Server(wire, loaded).serve()


def _clear(seconds: float = 2.0) -> None:
    """End what earlier notebooks have left running, and their files: in a sandbox there is nobody else."""
    end = time.monotonic() + seconds
    while len(_processes()) > 2 and time.monotonic() < end:
        with contextlib.suppress(OSError):
            os.kill(-1, signal.SIGKILL)
        time.sleep(0.002)
    for folder in (sandbox.SCRATCH, "/tmp", "/dev/shm", str(course_root() / "tests")):
        with contextlib.suppress(OSError, RecursionError):
            _empty(folder)


def _empty(folder: str) -> None:
    for entry in os.scandir(folder):
        with contextlib.suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry, 0o700)  # a learner's code may have closed it
                _empty(entry.path)
                os.rmdir(entry)
            else:
                os.unlink(entry)


def _processes() -> list[str]:
    """Those of the sandbox that run: its first one, this one, and what they left."""
    return [name for name in os.listdir("/proc") if name.isdigit()]


if __name__ == "__main__":
    main()
