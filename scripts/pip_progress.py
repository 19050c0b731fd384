"""Run pip and say what it is doing in one changing line (a terminal) or in a few lines (a file or CI)."""

import contextlib
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

LARGE = 20.0  # MB: smaller downloads are not worth a line of their own in a CI log


def follow(command: list[str], folder: Path, settings: Mapping[str, str], log: TextIO) -> int:
    """Exit code of a pip command run in `folder`, whose output goes to `log`. On any exception pip is ended first."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    display = Display()
    try:
        while (line := _next(lines)) is not None:
            log.write(line)
            display.show(line)
        return process.wait()
    finally:
        display.close()
        _end(process)


class Display:
    """What pip is doing now: in a terminal one line, redrawn with the seconds; elsewhere a line for each new fact."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.begun = time.monotonic()
        self.packages = 0
        self.doing = "looking up packages"

    def show(self, line: str) -> None:
        """Take in one line of pip's output; an empty one means that time has passed."""
        if line.startswith("Collecting "):
            self.packages += 1
        if news := _in_words(line):
            self.doing, megabytes = news
            if not self.live and megabytes >= LARGE:
                print(f"  {self.doing}", flush=True)
        if self.live:
            text = f"  {time.monotonic() - self.begun:4.0f} s  {self.packages:3d} packages  {self.doing}"
            print(f"\r{text[:79]:<79}", end="", flush=True)

    def close(self) -> None:
        if self.live:
            print("\r" + " " * 79 + "\r", end="", flush=True)


def _in_words(line: str) -> tuple[str, float] | None:
    """What a line of pip's output says, and its size in MB (infinite for what is always worth a line)."""
    if found := re.match(
        r"\s*(?:Downloading|Using cached|Processing) \S*?([^\s/\\]+?)-\d\S*(?: \((.+?) (\w+)\))?", line
    ):
        name, size, unit = found.groups()
        megabytes = float(size) * {"kB": 1e-3, "MB": 1.0, "GB": 1e3}.get(unit, 0.0) if size else 0.0
        return (f"downloading {name} ({size} {unit})" if size else f"fetching {name}"), megabytes
    if line.startswith("Installing collected packages:"):
        return f"installing {line.count(',') + 1} packages, about a minute", float("inf")
    return None


def _read(stream: TextIO, lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _next(lines: queue.Queue[str | None]) -> str | None:
    """The next line, "" after a second without one, None at the end."""
    try:
        return lines.get(timeout=1)
    except queue.Empty:
        return ""


def _end(process: subprocess.Popen) -> None:
    """pip gets Ctrl-C as well and tidies up by itself; whatever still runs is ended."""
    if process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.terminate()
            process.wait(timeout=10)
        process.kill()
