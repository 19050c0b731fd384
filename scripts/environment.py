"""The course's own Python environment: `.venv` at the top of the repository, made when it is missing or out of date.

`scripts/start.py` and `scripts/test.py` call `ensure()` first. It needs nothing but the standard library, takes the
versions in `scripts/constraints.txt`, and leaves a stamp in `.venv`, so that the next run costs a few milliseconds.

`python scripts/environment.py --newest` takes the newest releases instead (the weekly run in .github/workflows).
"""

import argparse
import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pip_install import SetupError, install, python_of

ROOT = Path(__file__).resolve().parent.parent
INPUTS = ("pyproject.toml", "scripts/constraints.txt")
STAMP = "concrete-steps.json"
NEEDED = ("concrete_steps", "torch", "jupyterlab")  # what must be importable before the environment counts as made
DISK_NEEDED = 3_000_000_000  # bytes: 2.1 GB stay in .venv, the rest is unpacked and removed again


def ensure(extras: tuple[str, ...] = (), *, newest: bool = False, root: Path = ROOT) -> Path:
    """Path of the environment's Python, which is made or brought up to date first where needed.

    `extras` are names from [project.optional-dependencies]; an environment that has more of them will do. `newest`
    takes the newest releases instead of the pinned ones. Raises SetupError (one sentence); an environment that this
    call began is then removed, an older one is kept and put right by the next call.
    """
    environment = root / ".venv"
    stamp = read_stamp(environment)
    if not newest and is_current(environment, stamp, extras, root):
        mention_other_python(stamp["python"])
        return python_of(environment)
    try:
        with only_one_at_a_time(root), terminated_like_interrupted():
            make(environment, sorted({*extras, *stamp.get("extras", [])}), newest, root)
    except KeyboardInterrupt:
        print("Stopped before the set-up was finished; run the same command to begin again.", file=sys.stderr)
        raise SystemExit(130) from None
    print("The environment is ready.", flush=True)
    return python_of(environment)


def become(command: list[str]) -> None:
    """Go on as `command`, so that Ctrl-C and signals reach it and its exit code is ours. Never returns."""
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(command[0], command)
    process = subprocess.Popen(command)  # Windows has no exec: wait, and leave Ctrl-C to the child, which gets it too
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            sys.exit(process.wait())


# --- Is it there and current? ------------------------------------------------------------------------------------


def is_current(environment: Path, stamp: dict, extras: tuple[str, ...], root: Path) -> bool:
    return (
        stamp.get("inputs") == inputs_hash(root)
        and set(extras) <= set(stamp.get("extras", []))
        and version_of(python_of(environment)) == stamp.get("python")
    )


def inputs_hash(root: Path) -> str:
    """What the environment was made from: the two files, and the folder, since an environment cannot be moved."""
    parts = [str(root).encode(), *((root / name).read_bytes().replace(b"\r\n", b"\n") for name in INPUTS)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def version_of(python: Path) -> str | None:
    """Version of a Python as it runs now ("3.11.7"), or None where it does not run any more."""
    question = [str(python), "-ISc", "import platform; print(platform.python_version())"]
    try:
        return subprocess.run(question, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def read_stamp(environment: Path) -> dict:
    try:
        stamp = json.loads((environment / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(environment: Path, extras: list[str], inputs: str) -> None:
    stamp = {"inputs": inputs, "extras": extras, "python": version_of(python_of(environment))}
    (environment / STAMP).write_text(json.dumps(stamp), encoding="utf-8")


def mention_other_python(version: str) -> None:
    """A second Python on the same folder must not cost 2 GB again, but the one who asked for it should know."""
    used, called = version.rpartition(".")[0], "{}.{}".format(*sys.version_info)
    if used != called:
        print(f"Using .venv with Python {used}, not {called}: delete the folder .venv to change that.", flush=True)


# --- Making it ---------------------------------------------------------------------------------------------------


def make(environment: Path, extras: list[str], newest: bool, root: Path) -> None:
    """Make or update the environment. On any failure, an environment begun here goes; an older one loses its stamp."""
    began = not repairable(environment)
    try:
        if began:
            create(environment)
        (environment / STAMP).unlink(missing_ok=True)
        inputs = inputs_hash(root)  # as pip will read them: what changes while it works asks for another run
        install(environment, extras, newest, root)
        make_readable(environment, root)
        require_import(environment)
        write_stamp(environment, extras, inputs)
    except BaseException:
        if began:
            shutil.rmtree(environment, ignore_errors=True)
        raise


def repairable(environment: Path) -> bool:
    """Is there an environment with a working pip? Then updating it is enough. Says what will be done."""
    if not environment.exists():
        print("Making a Python environment in .venv.", flush=True)
        return False
    if not (environment / "pyvenv.cfg").exists():
        raise SetupError(f"{environment} is no Python environment: move it away and run the same command again.")
    if has_pip(environment):
        print("Bringing .venv up to date.", flush=True)
        return True
    print("The environment in .venv does not work any more, so it is made anew.", flush=True)
    return False


def create(environment: Path) -> None:
    package = "python{}.{}-venv".format(*sys.version_info)
    no_venv = SetupError(
        f"This Python cannot make environments because its venv module is missing or incomplete: install it "
        f"(on Debian and Ubuntu `sudo apt install {package}`) and run the same command again."
    )
    if not all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
        raise no_venv
    free = shutil.disk_usage(environment.parent).free
    if free < DISK_NEEDED:
        raise SetupError(
            f"The course's Python packages need about {DISK_NEEDED / 1e9:.0f} GB, and only {free / 1e9:.1f} GB are "
            f"free where {environment.parent} lies: make room and run the same command again."
        )
    import venv  # here, since a system without it must be told so above

    try:
        venv.EnvBuilder(clear=True, with_pip=True, symlinks=os.name != "nt").create(environment)
    except subprocess.CalledProcessError:  # ensurepip, which puts pip into the environment
        raise no_venv from None
    except OSError as problem:
        raise SetupError(f"No Python environment could be made in {environment}: {in_words(problem)}.") from None


def make_readable(environment: Path, root: Path) -> None:
    """Let any Python read where the course lies, whatever letters that path has.

    pip notes the folder of an editable package in a .pth file, in UTF-8; Python 3.11 on Windows reads it in the code
    page of the system, and finds no course or does not start at all. A relative path has no such letters.
    """
    scripts = root / "scripts"
    if str(scripts).isascii():
        return
    for file in environment.rglob("*.pth"):
        if file.read_bytes().decode("utf-8", "replace").strip() == str(scripts):
            file.write_text(os.path.relpath(scripts, file.parent) + "\n", encoding="ascii")


def require_import(environment: Path) -> None:
    """SetupError where the new environment cannot import the course: packages that are there need not work."""
    question = [str(python_of(environment)), "-Ic", f"import {', '.join(NEEDED)}"]
    done = subprocess.run(question, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["Python ended without a word"])[-1].rstrip(".")
        raise SetupError(f"The Python packages are installed and do not work: {why}{remedy_of(why)}.")


def remedy_of(why: str) -> str:
    if re.search(r"WinError (?:126|127|1114)\b|DLL load failed", why):
        return "; install Microsoft's Visual C++ Redistributable from https://aka.ms/vs/17/release/vc_redist.x64.exe"
    return ""


def in_words(problem: OSError) -> str:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; make room and run the same command again"
    if problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "this folder cannot be written to; copy the course to a folder of your own and start it there"
    return str(problem)


def has_pip(environment: Path) -> bool:
    try:
        return not subprocess.run([python_of(environment), "-m", "pip", "--version"], capture_output=True).returncode
    except OSError:
        return False


# --- Safety ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def only_one_at_a_time(root: Path) -> Iterator[None]:
    """Two set-ups of one folder would destroy each other's work. The lock goes with the process, however that ends."""
    home = os.path.expanduser("~")  # "~" itself where there is none
    name = hashlib.sha256(f"{home}\0{root}".encode()).hexdigest()[:16]
    with open(Path(tempfile.gettempdir()) / f"concrete-steps-{name}.lock", "w") as file:
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SetupError("Another command is setting up this folder now: wait until it is ready.") from None
        yield


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Tidy up on SIGTERM (a closed session, a cancelled CI job) as after Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--newest", action="store_true", help="the newest releases instead of the pinned ones")
    ensure(("test",), newest=parser.parse_args().newest)
