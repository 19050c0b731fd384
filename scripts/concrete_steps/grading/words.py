"""What a grading process says to the one that started it: a line of JSON a word, on a pipe of its own."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time

LONGEST_REPORT = 2_000_000  # characters that a process may report in all


class Speaker:
    """Says words to the parent, on a pipe."""

    def __init__(self, descriptor: int, nonce: str):
        self.pipe = os.fdopen(descriptor, "w", encoding="utf-8")
        self.nonce = nonce
        self.dumps = json.dumps  # a learner's code may replace the module's

    def __call__(self, kind: str, **facts) -> None:
        self.pipe.write(self.dumps({"nonce": self.nonce, "kind": kind, **facts}) + "\n")
        self.pipe.flush()


def private_pipe(nonce: str) -> Speaker:
    """Words on what was stdout; the ordinary stdin and stdout lead nowhere from here on."""
    speaker = Speaker(os.dup(1), nonce)
    silence(0, 1)
    return speaker


def silence(*descriptors: int) -> None:
    """Let these descriptors, else stderr, lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors or (2,):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


class Words:
    """What a child says with the right nonce, read by a thread, so that waiting for it can end."""

    def __init__(self, pipe, nonce: str):
        self.pipe = pipe
        self.nonce = nonce
        self.lines: queue.Queue[bytes | None] = queue.Queue()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def next(self, deadline: float) -> dict | str:
        """The next word, or "died" (nothing more will come), or "silent" (the deadline has passed)."""
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return "silent"
            if line is None:
                return "died"
            with contextlib.suppress(ValueError, RecursionError):
                word = json.loads(line)
                if isinstance(word, dict) and word.get("nonce") == self.nonce:
                    return word

    def close(self) -> None:
        # If a process that escaped still holds the pipe, closing it here would wait for that process.
        self.thread.join(timeout=2)
        if not self.thread.is_alive():
            self.pipe.close()

    def _read(self) -> None:
        read = 0
        with contextlib.suppress(OSError, ValueError):
            while read < LONGEST_REPORT and (line := self.pipe.readline(LONGEST_REPORT)):
                read += len(line)
                self.lines.put(line)
        self.lines.put(None)
