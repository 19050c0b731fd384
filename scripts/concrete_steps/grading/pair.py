"""The two processes that grade a learner's step: a judge of the grader's own, and a sandbox with the learner's code.

Each imports once, and forks for each notebook and after each crash; the judge's process serves one learner after the
other. Between the two forks lies a line over which values cross (crossing/). What cannot be judged so is checked by a
fork of the sandbox's process alone (inside.py).
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from concrete_steps.course import Notebook
from concrete_steps.errors import CourseError
from concrete_steps.grading import sandbox
from concrete_steps.grading.forking import READY, order
from concrete_steps.grading.rounds import IMPORTING, Round, listen
from concrete_steps.grading.words import Words
from concrete_steps.models import smollm2_model
from concrete_steps.paths import course_root

CLEARING = 10.0  # seconds for a judge, in which nothing of a learner's runs, to take its compiled checks away
SPARE = 2 * 2**30  # bytes that all processes of a sandbox may take together beyond the memory of one


class Forker:
    """A process that serves orders (forking.py)."""

    def __init__(self, command: list[str], environment: dict[str, str]):
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `end`)
        self.line, theirs = socket.socketpair()
        self.line.settimeout(IMPORTING)  # who does not read orders must not hold us up
        with theirs:
            self.process = subprocess.Popen(
                command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=self.log, env=environment, cwd=os.sep
            )
        self.ready = False

    def order(self, what: dict, descriptors: list[int]) -> None:
        """Have a fork do this.

        Raises:
            CourseError: the process did not start, or has ended.
        """
        if not self.ready:
            started = select.select([self.line], [], [], IMPORTING)[0]
            if not started or self.line.recv(len(READY)) != READY:
                raise CourseError(f"The grader did not start: {self.last_line()}")
            self.ready = True
        try:
            order(self.line, what, descriptors)
        except OSError:
            raise CourseError(f"The grader has ended: {self.last_line()}") from None

    def end(self, patience: float = 0.0) -> None:
        """End the process; who is given time for it takes its files away."""
        self.line.close()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        finally:
            with contextlib.suppress(OSError):
                self.process.kill()
            self.process.wait()
            self.log.close()

    def last_line(self) -> str:
        """What the process, or a fork of it, said last of an error."""
        self.log.seek(0)
        lines = self.log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:500] if lines else "it said nothing"


class Pair:
    """A learner's sandbox, and a judge. Use it in a `with` block, in one thread.

    Args:
        notebooks: those that will be graded.
        memory: bytes that one process may take beyond the imports.
        judge: what `start_judge` gave, which goes on after the block; if None, the pair has one of its own.
    """

    def __init__(self, notebooks: list[Notebook], memory: int, judge: Forker | None = None):
        self.notebooks, self.memory, self.judge = notebooks, memory, judge
        self.answer: Forker | None = None
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *error) -> None:
        self._end()
        self.stack.close()

    def round(
        self, notebook: Notebook, path: Path, modules: list[Path], waiting: list[str], skip: list[str], patience: float,
        left: float,
    ) -> Round:  # fmt: skip
        """Judge the exercises that wait, until one of them or a cell ends the process, or time is up."""
        nonce = secrets.token_hex(16)
        here, there = socket.socketpair()
        reading, writing = os.pipe()
        with here, there:
            try:
                self._order_answer(self._given(notebook, path, modules, skip), [there.fileno()])
                about = {"notebook": notebook.id, "memory": self.memory, "waiting": waiting, "nonce": nonce}
                self.judge.order(about, [here.fileno(), writing])
            finally:
                os.close(writing)
        done = Round()
        with contextlib.closing(Words(os.fdopen(reading, "rb"), nonce)) as words:
            try:
                listen(words, done, patience, left, trusted=False)
            finally:
                if done.process is not None:
                    with contextlib.suppress(OSError):
                        os.kill(done.process, signal.SIGKILL)
        if done.process is None:
            raise CourseError("The grader did not start: the judge said nothing.")
        if done.how == "silent":
            self._end()  # whatever goes on in there goes on for nobody
        return done

    def round_inside(
        self, notebook: Notebook, path: Path, modules: list[Path], waiting: list[str], skip: list[str], patience: float,
        left: float,
    ) -> Round:  # fmt: skip
        """Have the sandbox check them itself (inside.py); it has the checks for as long as that takes."""
        about = {"checks": _contents([notebook.checks, notebook.mistakes]), "waiting": waiting}
        for _ in range(2):  # what an earlier notebook left in the sandbox may hinder: then in a fresh one
            nonce, done = secrets.token_hex(16), Round()
            reading, writing = os.pipe()
            try:
                self._order_answer(self._given(notebook, path, modules, skip) | about | {"nonce": nonce}, [writing])
            finally:
                os.close(writing)
            with contextlib.closing(Words(os.fdopen(reading, "rb"), nonce)) as words:
                listen(words, done, patience, left, trusted=True)
                said = "" if done.process is not None else self.answer.last_line()
                if done.how == "silent" or done.process is None:
                    self._end()
            if done.process is not None:
                return done
        raise CourseError(f"The grader did not start ({done.how}): {said}")

    def _given(self, notebook: Notebook, path: Path, modules: list[Path], skip: list[str]) -> dict:
        folder = f"{sandbox.SCRATCH}/{secrets.token_hex(8)}"  # nobody can have put anything there
        files = _contents([path, *modules])
        given = {"notebook": notebook.id, "name": path.name, "files": files, "skip": skip, "folder": folder}
        return given | {"memory": self.memory}

    def _order_answer(self, what: dict, descriptors: list[int]) -> None:
        if self.answer is not None:
            with contextlib.suppress(CourseError):  # an earlier notebook may have ended it
                return self.answer.order(what, descriptors)
        self._end()
        self._start()
        self.answer.order(what, descriptors)

    def _end(self) -> None:
        if self.answer is not None:
            self.watch.close()
            self.answer.end()
            self.answer = None

    def _start(self) -> None:
        environment = sandbox.environment(sandbox.SCRATCH, locked=True)
        given = [course_root() / "notebooks" / notebook.path for notebook in self.notebooks]
        given += [course_root() / "pyproject.toml"]
        if any("smollm2" in notebook.needs for notebook in self.notebooks):
            given += [smollm2_model.cached_folder()]
        python = [sys.executable, "-P", "-m", "concrete_steps.grading.answer", str(self.memory)]
        python += [notebook.id for notebook in self.notebooks]
        locked = sandbox.command(given, environment, empty=[course_root() / "tests"])
        self.answer = Forker([*locked, *python], environment)
        self.watch = sandbox.Watch(self.answer.process, self.memory + SPARE)
        if self.judge is None:  # it starts at the same time
            self.judge = start_judge()
            self.stack.callback(self.judge.end, CLEARING)


def _contents(paths: list[Path]) -> dict[str, str]:
    return {path.name: base64.b64encode(path.read_bytes()).decode() for path in paths}


def start_judge() -> Forker:
    """A judge for any number of learners, one after the other."""
    environment = sandbox.environment(tempfile.gettempdir(), locked=False)
    return Forker([sys.executable, "-P", "-m", "concrete_steps.grading.judge"], environment)
