"""What a process may no longer do once it runs other people's code: limits of the system, and an audit hook.

Python cannot lock a process up from inside. This stops accidents and the obvious tries, on every system; what it cannot
stop, and what to do about that, stands in CONTRIBUTING.md under Grading.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

SCRATCH_PREFIX = "concrete-steps-"  # folders so named beside the scratch folder belong to other submissions
LARGEST_FILE = 2**30  # bytes
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
STARTS_PROCESSES = (
    *(
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.spawn",
        "os.posix_spawn",
        "os.startfile",
        "_winapi.CreateProcess",
    ),
    *("os.fork", "os.forkpty", "pty.spawn", "os.kill", "os.killpg"),
)
TALKS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "sqlite3.connect")
LOOKS = ("os.listdir", "os.scandir", "os.chdir")
# The last argument of these is a handle of the folder that a relative path starts from, or -1.
CHANGES_BELOW_HANDLE = (
    *("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.utime"),
)
CHANGES = (*CHANGES_BELOW_HANDLE, "os.truncate", "os.setxattr", "os.removexattr")


def lock_down(scratch: Path, closed: list[Path], memory: int) -> None:
    """From here on this process starts no other and talks to nobody.

    Args:
        scratch: the one folder below which it may still write.
        closed: folders below which it may no longer read: the solutions, other people's work.
        memory: bytes of address space beyond what is in use now; only Linux has this limit.
    """
    with contextlib.suppress(ImportError):
        import _posixsubprocess  # multiprocessing calls it directly, which no audit event tells

        _posixsubprocess.fork_exec = _refuse_process
    own = os.path.realpath(scratch)
    others = os.path.join(os.path.dirname(own), SCRATCH_PREFIX)
    folders = tuple(os.path.realpath(folder) + os.sep for folder in closed)
    _limit(memory)
    sys.addaudithook(_Guard(own + os.sep, (*folders, others)))


class _Guard:
    """The audit hook. Its errors are OSErrors, which libraries expect where they try for a file or a connection."""

    def __init__(self, own: str, closed: tuple[str, ...]):
        self.own = own
        self.closed = closed

    def __call__(self, event: str, arguments: tuple) -> None:
        if event == "open":
            self.opening(*arguments)
        elif event in LOOKS:
            self.path(arguments[0])
        elif event in CHANGES:
            self.changing(event, arguments)
        elif event in STARTS_PROCESSES:
            _refuse_process()
        elif event in TALKS:
            raise PermissionError(f"there are no connections while a notebook is graded ({event})")

    def opening(self, path, mode: str | None, flags: int | None) -> None:
        target = self.path(path, changes=bool((flags or 0) & WRITING))
        # mode is None for os.open. The handle of a folder would lead around the rules for paths.
        if target and mode is None and os.path.isdir(target):
            raise PermissionError(f"the folder {target} may not be opened while a notebook is graded")

    def changing(self, event: str, arguments: tuple) -> None:
        by_handle = event in CHANGES_BELOW_HANDLE and arguments[-1] not in (-1, None)
        for path in arguments:
            if isinstance(path, str | bytes | os.PathLike):
                text = os.fsdecode(path)
                if not by_handle or os.path.isabs(text) or ".." in Path(text).parts:
                    self.path(path, changes=True)

    def path(self, path, changes: bool = False) -> str | None:
        """The path's real place if that is outside the scratch folder, and allowed."""
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        target = os.path.realpath(os.fsdecode(path))
        if target == os.devnull or f"{target}{os.sep}".startswith(self.own):
            return None
        if changes:
            raise PermissionError(f"{target} may not be written while a notebook is graded")
        if f"{target}{os.sep}".startswith(self.closed):
            raise PermissionError(f"{target} may not be read while a notebook is graded")
        return target


def _refuse_process(*_) -> None:
    raise PermissionError("no other process may be started or ended while a notebook is graded")


def _limit(memory: int) -> None:
    """Limits of the system, where it has them. If memory runs out all the same, Linux is to end this process first."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        import resource
    except ImportError:
        return
    limits = [(resource.RLIMIT_FSIZE, LARGEST_FILE), (resource.RLIMIT_CORE, 0)]
    with contextlib.suppress(OSError):
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limits.append((resource.RLIMIT_AS, in_use + memory))
    for limit, most in limits:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (most, most))
