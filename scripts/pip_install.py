"""pip for environment.py: run with its progress in a line, its failures put in a sentence, and PyTorch without CUDA.

Standard library only, because it runs before anything is installed.
"""

import ast
import contextlib
import os
import platform
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CPU_INDEX_PATIENCE = 3.0  # seconds

# What pip's log says, most telling first, and what that means for the person at the keyboard.
PIP_FAILURES = (
    (
        r"No space left on device|Errno 28\b|Disk quota exceeded|WinError 112\b",
        "the disk is full; free about 3 GB and run the same command again",
    ),
    (
        r"Temporary failure in name resolution|Name or service not known|nodename nor servname|getaddrinfo failed"
        r"|NameResolutionError|NewConnectionError|ConnectTimeoutError|ReadTimeoutError|Read timed out|ProxyError"
        r"|Connection (?:refused|reset|aborted)|ConnectionResetError|Network is unreachable|IncompleteRead|SSLError"
        r"|Connection timed out|RemoteDisconnected",
        "the package index could not be reached; check the network (or pip's proxy) and run the same command again",
    ),
    (
        r"Windows Long Path|WinError 206\b",
        r"this folder's path is too long for Windows; move the course to a short one, such as C:\course, and start it",
    ),
    (
        r"Permission denied|Read-only file system|WinError 5\b",
        "a file could not be written; see that you may write in this folder and run the same command again",
    ),
)

# How an index refuses, and what can be done. pip itself then only says that it found nothing.
REFUSALS = {
    "401": "it wants a name and a password: give pip the right ones (`pip config list` shows what it uses)",
    "403": "it does not let you in: see whether pip is told of the right index (`pip config list`) and may reach it",
    "407": "the proxy wants a name and a password: give pip the right ones (`pip config list` shows what it uses)",
    "429": "too many requests came from here: wait some minutes",
}

LARGE = 20.0  # MB: smaller downloads are not worth a line of their own in a CI log


class SetupError(SystemExit):
    """Ends the program with exit code 1 and one sentence on stderr (a SystemExit: the package is not installed yet)."""


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def install(environment: Path, extras: list[str], newest: bool, root: Path) -> None:
    """Let pip install the course and what it needs; its whole output goes to a file that stays if it fails."""
    package = f".[{','.join(extras)}]" if extras else "."
    command = [str(python_of(environment)), "-m", "pip", "install", "--editable", package]
    command += ["--upgrade", "--upgrade-strategy=eager"] if newest else ["--constraint", "scripts/constraints.txt"]
    if not sys.dont_write_bytecode:  # byte code made when first used, not all at once, more than halves pip's time
        command.append("--no-compile")
    index = torch_index(environment)
    command += ["--progress-bar=off", "--no-input", "--disable-pip-version-check", *index]
    size = "about 2 GB, 6 GB with CUDA" if sys.platform == "linux" and not index else "about 2 GB"
    print(f"Installing its Python packages: {size}, one to ten minutes the first time.", flush=True)
    # What pip unpacks stays on the disk whose room was measured: a small /tmp is a common cause of failure.
    scratch = environment / "tmp"
    scratch.mkdir(exist_ok=True)
    every_word = scratch / "pip.log"
    command += ["--log", str(every_word)]
    settings = without_own_settings(os.environ) | pip_settings(environment)
    settings |= {name: str(scratch) for name in ("TMPDIR", "TEMP", "TMP")}
    settings |= {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    handle, log = tempfile.mkstemp(prefix="concrete-steps-", suffix=".log")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            failed = follow(command, root, settings, file)
            if failed and every_word.exists():
                file.writelines(refusals(every_word.read_text(encoding="utf-8", errors="replace")))
    except BaseException:
        os.unlink(log)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if failed:
        why = pip_failure(Path(log).read_text(encoding="utf-8"))
        raise SetupError(f"The Python packages could not be installed: {why} (pip's own words are in {log}).")
    os.unlink(log)


def refusals(every_word: str) -> list[str]:
    """The lines of pip's long log that tell of an index that refuses; PyTorch's does for all that it does not have."""
    lines = re.findall(r"Could not fetch URL \S+: 4\d\d .*\n", every_word)
    return [line for line in lines if CPU_INDEX not in line]


def pip_failure(log: str) -> str:
    """pip's log in half a sentence: what was wrong and what to do."""
    found_nothing = "No matching distribution found" in log
    # A connection that broke and was made again is no cause; one that stayed broken leaves pip without any version.
    telling = log if found_nothing else re.sub(r".*WARNING: Retrying.*", "", log)
    for pattern, meaning in PIP_FAILURES:
        if re.search(pattern, telling):
            return meaning
    if found_nothing and (
        refused := re.search(r"Could not fetch URL (?:\w+://)?(?:[^\s/]+@)?([^\s/]+)\S*: (4\d\d) ", log)
    ):
        host, code = refused.groups()
        if code in REFUSALS:
            return f"{host} answered {code}, {REFUSALS[code]} and run the same command again"
    if missing := re.search(r"No matching distribution found for (\S+)", log):
        here = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
        return f"there is no {missing[1]} for {here}; use a 64-bit Python 3.11, 3.12 or 3.13"
    errors = re.findall(r"^ERROR: (.+)$", log, flags=re.MULTILINE)
    return (errors[-1].rstrip(".") if errors else "pip failed") + "; put that right and run the same command again"


# --- The user's settings -----------------------------------------------------------------------------------------

# How an index is reached is the user's to say. Where and what pip installs is not: PIP_TARGET, PIP_PREFIX, PIP_USER,
# PIP_NO_DEPS, PIP_REQUIREMENT and their like would lead the packages elsewhere, or other ones here.
KEPT = (
    *("index-url", "extra-index-url", "no-index", "find-links", "trusted-host", "proxy", "cert", "client-cert"),
    *("timeout", "default-timeout", "retries", "cache-dir", "no-cache-dir", "keyring-provider", "use-deprecated"),
)


def pip_settings(environment: Path) -> dict[str, str]:
    """The settings of the user's that stay, from pip's files and from variables, all as variables.

    A file could hold the others as well, so that pip is to read none.
    """
    command = [str(python_of(environment)), "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=_speaking_utf8())
    found: dict[str, str] = {}
    # The order in which one setting beats another; a file's [global] also stands for what other commands do.
    for section in ("global", "install", ":env:"):
        for name, quoted in re.findall(rf"^{section}\.([\w-]+)=(.+)$", listed.stdout, flags=re.MULTILINE):
            if name in KEPT:
                value = str(ast.literal_eval(quoted))
                found[f"PIP_{name.upper().replace('-', '_')}"] = " ".join(value.split())
    return found | {"PIP_CONFIG_FILE": os.devnull}


def without_own_settings(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables but for pip's, and for those that would let the new environment see other packages as its own."""
    ours = {name: value for name, value in variables.items() if not name.upper().startswith("PIP_")}
    for name in ("PYTHONPATH", "PYTHONHOME"):
        ours.pop(name, None)
    return ours


def _speaking_utf8() -> dict[str, str]:
    return os.environ | {"PYTHONIOENCODING": "utf-8"}


# --- PyTorch without CUDA ----------------------------------------------------------------------------------------


def torch_index(environment: Path) -> list[str]:
    """pip options that add PyTorch's index of CPU builds.

    On Linux the ordinary index has only the CUDA build, which costs gigabytes that are of no use without an NVIDIA
    GPU. Whoever told pip to use an index of their own keeps it.
    """
    if sys.platform != "linux" or has_nvidia_gpu() or has_own_index(environment) or not answers(CPU_INDEX + "/torch/"):
        return []
    return ["--extra-index-url", CPU_INDEX]


def has_nvidia_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()


def has_own_index(environment: Path) -> bool:
    return not {"PIP_INDEX_URL", "PIP_NO_INDEX"}.isdisjoint(pip_settings(environment))


def answers(url: str) -> bool:
    """Does this address answer in time? Asked in a thread: looking up a name can take longer than its time-out."""
    import urllib.request  # here, since it is slow to import and rarely used

    found = threading.Event()

    def ask() -> None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=CPU_INDEX_PATIENCE):
            found.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CPU_INDEX_PATIENCE)
    return found.is_set()


# --- Progress ----------------------------------------------------------------------------------------------------


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
        r"\s*(?:Downloading|Using cached|Processing) \S*?([^\s/\\]+?)-\d\S*(?: \(([\d.]+) ([kMG]B)\))?", line
    ):
        name, size, unit = found.groups()
        megabytes = float(size) * {"kB": 1e-3, "MB": 1.0, "GB": 1e3}[unit] if size else 0.0
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
