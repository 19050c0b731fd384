"""Where a learner's code runs: on Linux under bubblewrap, a machine of its own with nearly nothing on it.

In there: no network, its own processes, users and IPC, empty folders in memory, and, read-only, Python, the
course's package, its data, and the files that it was given. Nothing else of the disk has a name. All of it ends with
the grader. Limits of memory, processes and files are set by `limit`, inside, before the learner's code runs.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import platform
import re
import shutil
import site
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil

import concrete_steps
from concrete_steps.errors import CourseError
from concrete_steps.models.download import CACHE_VARIABLE, cache_dir
from concrete_steps.paths import data_dir

INSTALL = "sudo apt install bubblewrap"
SCRATCH = "/scratch"
SCRATCH_BYTES, SHARED_BYTES = 2**30, 2**28  # of files in memory: the scratch folder, and /dev/shm
CHECKS_BYTES = 2**22  # the folder of a notebook's checks, empty but while a trusted exercise is checked
LARGEST_FILE = 2**30  # bytes
MOST_TASKS = 96  # processes and threads; an honest answer has a few of PyTorch's
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store")
# Of /etc what programs need to find their libraries and the time.
SETTINGS = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")
# What the learner's code may know of the grader's environment; where it is trusted, all but these.
VARIABLES = re.compile("LANG|LC_.*|TZ|LD_LIBRARY_PATH|PYTHONPATH")
LEFT_OUT = re.compile("TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|^PYTEST_", re.IGNORECASE)
# A user for each sandbox, where the grader is root: from the range that systemd keeps for such.
USER, FIRST_USER, USERS = "CONCRETE_STEPS_USER", 61184, 4336
_numbers = itertools.count(os.getpid())


@functools.cache
def why_not() -> str:
    """Why learners' code cannot be locked up here, in a sentence; "" where it can."""
    if sys.platform != "linux":
        return "Only Linux has bubblewrap, which locks learners' code up: grade in the container of CONTRIBUTING.md."
    if shutil.which("bwrap") is None:
        return f"bubblewrap, which locks learners' code up, is not installed: {INSTALL}"
    done = subprocess.run([*command([]), "/usr/bin/env", "true"], capture_output=True, text=True, errors="replace")
    if done.returncode == 0:
        return ""
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:300]
    return f"bubblewrap, which locks learners' code up, does not work here ({last}): see CONTRIBUTING.md, Grading."


def require(trust: bool) -> None:
    """Refuse to run other people's code where it cannot be locked up, unless it is trusted.

    Raises:
        CourseError: why it cannot be.
    """
    if why_not() and not trust:
        raise CourseError(f"{why_not()} Or say --trust: their code may then do all that you may.")


def command(given: list[Path], environment: dict[str, str] | None = None, empty: Sequence[Path] = ()) -> list[str]:
    """The beginning of a command line; what follows it runs locked up.

    Args:
        given: files and folders to read.
        empty: folders of the disk that are to be there, in memory and with nothing in them, to write into.
    """
    line = [shutil.which("bwrap"), "--die-with-parent", "--new-session", "--clearenv"]
    line += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    # Root makes no namespace of users: there the number of processes has no limit. `drop_root` takes its rights away.
    line += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if _is_root() else _as_user()
    line += ["--proc", "/proc", "--dev", "/dev"]
    for place, size in ((SCRATCH, SCRATCH_BYTES), ("/tmp", SHARED_BYTES), ("/dev/shm", SHARED_BYTES)):
        line += ["--perms", "1777", "--size", str(size), "--tmpfs", place]
    for path in map(Path, SYSTEM):
        if path.is_symlink():
            line += ["--symlink", os.readlink(path), str(path)]
        elif path.exists():
            line += ["--ro-bind", str(path), str(path)]
    paths = [*map(Path, SETTINGS), *_python(), Path(concrete_steps.__file__).parent, data_dir(), *given]
    for parent in sorted({parent for path in paths for parent in path.parents[:-1]} - set(map(Path, SYSTEM))):
        if Path("/usr") not in parent.parents:
            line += ["--perms", "0755", "--dir", str(parent)]  # bubblewrap's own would be closed to all but root
    for path in paths:
        line += ["--ro-bind-try", str(path), str(path)]
    for path in empty:
        line += ["--perms", "1777", "--size", str(CHECKS_BYTES), "--tmpfs", str(path)]
    line += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", SCRATCH]
    for name, value in (environment or {}).items():
        line += ["--setenv", name, value]
    return [*line, "--"]


def environment(scratch: str, locked: bool) -> dict[str, str]:
    """The environment of a learner's code: no secrets, no GPU, one core; no home but the scratch folder if `locked`.

    Each call gives another user to be, for where the grader is root.
    """
    known = VARIABLES.fullmatch if locked else lambda name: not LEFT_OUT.search(name)
    kept = {name: value for name, value in os.environ.items() if known(name)}
    package = str(Path(concrete_steps.__file__).parent.parent)
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [package, kept.get("PYTHONPATH")]))
    own = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1", "MPLBACKEND": "Agg"}
    own |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), scratch)
    if locked:
        own |= {"HOME": scratch, "USER": "learner", "PATH": "/usr/local/bin:/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
        own |= {USER: str(FIRST_USER + next(_numbers) % USERS)}
        with contextlib.suppress(CourseError):  # else it would be below the home that is none
            own |= {CACHE_VARIABLE: str(cache_dir())}
    return kept | own


def limit(memory: int) -> None:
    """In the sandbox: limits of the system for this process and all that it starts, which cannot be raised again.

    Args:
        memory: bytes of address space beyond what is in use now, for each process; only Linux has this limit.
    """
    with contextlib.suppress(OSError):  # if memory runs out all the same, Linux is to end this process first
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        import resource
    except ImportError:
        return
    limits = [(resource.RLIMIT_FSIZE, LARGEST_FILE), (resource.RLIMIT_CORE, 0)]
    with contextlib.suppress(OSError):
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limits.append((resource.RLIMIT_AS, in_use + memory))
    if is_inside() and _counts_by_sandbox():
        limits.append((resource.RLIMIT_NPROC, MOST_TASKS))
    for kind, most in limits:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))
    drop_root()


def drop_root() -> None:
    """In the sandbox: become a user of its own, who owns nothing."""
    if is_inside() and os.getuid() == 0:
        user = int(os.environ[USER])
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def is_inside() -> bool:
    return USER in os.environ


class Watch:
    """Ends a process when it and all that came from it take more memory than they may, together."""

    def __init__(self, process: subprocess.Popen, memory: int):
        self.process = psutil.Process(process.pid)
        self.memory = memory
        self.ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        with contextlib.suppress(psutil.Error):
            while not self.ended.wait(0.5):
                processes = [self.process, *self.process.children(recursive=True)]
                # What processes share by forking counts once; to find out takes longer, so only where it matters.
                if sum(map(_resident, processes)) > self.memory and sum(map(_share, processes)) > self.memory:
                    self.process.kill()

    def close(self) -> None:
        self.ended.set()


def _resident(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return process.memory_info().rss
    return 0


def _share(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return process.memory_full_info().pss
    return 0


def _is_root() -> bool:
    return os.geteuid() == 0


def _as_user() -> list[str]:
    line = ["--unshare-user", "--uid", str(FIRST_USER), "--gid", str(FIRST_USER)]
    return [*line, "--disable-userns"] if "--disable-userns" in _options() else line


@functools.cache
def _options() -> str:
    return subprocess.run(["bwrap", "--help"], capture_output=True, text=True).stdout


def _python() -> list[Path]:
    """The folders of this Python and its packages."""
    found = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable)), *site.getsitepackages()]
    found += [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    found += [os.path.realpath(path) for path in found]
    return [Path(path) for path in dict.fromkeys(found) if not path.startswith("/usr/")]


def _counts_by_sandbox() -> bool:
    """Linux before 5.14 counts the processes of the user's other programs, too: no limit is right there."""
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    return bool(release) and tuple(map(int, release.groups())) >= (5, 14)
