"""A sandbox that holds a learner's notebook, for a judge in this process: started, asked, ended, and started anew."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from concrete_steps.checking.loader import Loaded
from concrete_steps.course import Notebook
from concrete_steps.grading import sandbox
from concrete_steps.grading.crossing.link import Link
from concrete_steps.grading.crossing.wire import Lost, Wire
from concrete_steps.models import smollm2_model
from concrete_steps.paths import course_root

SPARE = 2 * 2**30  # bytes that all processes of a sandbox may take together beyond the memory of one


class Box:
    """One sandbox at a time.

    Args:
        files: the learner's files by name, the notebook's first.
        skip: cells that must not run.
        memory: bytes beyond the imports.
        say: is told what the sandbox is doing.
    """

    def __init__(
        self, notebook: Notebook, files: dict[str, bytes], skip: list[str], memory: int, say: Callable[..., None]
    ):
        self.notebook, self.files, self.skip, self.memory, self.say = notebook, files, skip, memory, say
        self.link: Link | None = None
        self.loaded = False

    def start(self) -> None:
        """Start it; `load` waits for it."""
        self.folder = tempfile.TemporaryDirectory(prefix="concrete-steps-", ignore_cleanup_errors=True)
        python = [sys.executable, "-P", "-m", "concrete_steps.grading.crossing.inside"]
        locked = not sandbox.why_not()
        environment = sandbox.environment(sandbox.SCRATCH if locked else self.folder.name, locked)
        if locked:
            given = [course_root() / "notebooks" / self.notebook.path, course_root() / "pyproject.toml"]
            given += [smollm2_model.cached_folder()] if "smollm2" in self.notebook.needs else []
            python = [*sandbox.command(given, environment), *python]
        with open(Path(self.folder.name) / "start.log", "wb") as log:
            self.process = subprocess.Popen(
                python, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=self.folder.name, env=environment
            )
        self.watch = sandbox.Watch(self.process, self.memory + SPARE)
        self.link = Link(
            Wire(self.process.stdout.fileno(), self.process.stdin.fileno()), frozenset(self.notebook.exercises)
        )
        self.loaded = False
        order: dict[str, Any] = {"notebook": self.notebook.id, "memory": self.memory, "skip": self.skip}
        order |= {"name": next(iter(self.files)), "files": {}}
        at = 0
        for name, content in self.files.items():
            order["files"][name] = [at, len(content)]
            at += len(content)
        with contextlib.suppress(Lost):
            self.link.wire.send(order, list(self.files.values()))

    def load(self) -> None:
        """Wait until the learner's cells have run.

        Raises:
            Lost: the process ended before.
        """
        while True:
            word, _ = self.link.wire.receive()
            if not isinstance(word, dict):
                raise Lost("the sandbox said what makes no sense")
            if word.get("word") == "loaded":
                self.loaded = True
                return
            if word.get("word") == "cell":
                self.say("cell", name=str(word.get("name"))[:300])
            elif word.get("word") == "ready":
                self.say("ready")
            else:
                raise Lost("the sandbox said what makes no sense")

    def objects(self) -> Loaded:
        """Stand-ins for the learner's objects, all fresh: what another check has shared is forgotten."""
        self.link.ask({"do": "reset"})
        self.link.reset()
        told = self.link.ask({"do": "names", "names": list(self.notebook.exercises)})
        try:
            found, problems, cells = told
            objects = {name: found[name] for name in self.notebook.exercises if name in found}
            reasons = {str(name): str(reason)[:2000] for name, reason in problems.items()}
            return Loaded(self.notebook.path, objects, reasons, [str(cell) for cell in cells])
        except (TypeError, ValueError, AttributeError) as error:
            self.link.lost = "the sandbox said what makes no sense"
            raise Lost(self.link.lost) from error

    def why_it_did_not_start(self) -> str:
        text = (Path(self.folder.name) / "start.log").read_text(encoding="utf-8", errors="replace").strip()
        return text.splitlines()[-1][:500] if text else "it said nothing"

    def end(self) -> None:
        self.watch.close()
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        self.folder.cleanup()
