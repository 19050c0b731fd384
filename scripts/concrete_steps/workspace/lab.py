"""JupyterLab on the learner's copy of the notebooks; `scripts/start.py` runs this inside the course's environment."""

import argparse
import os
import socket
import sys
from pathlib import Path

import zmq

from concrete_steps.errors import CourseError
from concrete_steps.models.download import cache_problem
from concrete_steps.workspace.copy import ask_assistants, files_in, sync
from concrete_steps.workspace.own_jupyter import ensure_home, use_own_jupyter

COURSE = Path(__file__).resolve().parents[3]
NAMED = 3  # files of other projects that are named, at most
NBGRADER = ("formgrader", "validate_assignment", "assignment_list", "course_list")


def main() -> None:
    parser = argparse.ArgumentParser(prog="start.py")
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    work = COURSE / "work"
    try:
        if options.port is not None:
            require_free(options.port)
        for line in [*sync(COURSE, work), *ask_assistants(work), *setting_aside(work), *no_room_for_models()]:
            print(line, flush=True)
    except CourseError as problem:
        sys.exit(str(problem))
    from jupyterlab.labapp import LabApp

    LabApp.launch_instance(server_options(work, options.port, options.no_browser))


def setting_aside(work: Path) -> list[str]:
    """Make Jupyter this course's own; a line that names the files of other projects that have no say in it, if any."""
    own = work / ".jupyter"
    if ensure_home(own / "home"):
        return [f"This account has no home folder: {own / 'home'} stands in for it.", *setting_aside(work)]
    others = use_own_jupyter(own)
    if not others:
        return []
    named = ", ".join(map(str, others[:NAMED])) + (f" and {len(others) - NAMED} more" if others[NAMED:] else "")
    return [f"The course has Jupyter settings of its own; these, of other projects, are left aside: {named}."]


def no_room_for_models() -> list[str]:
    """A sentence where fetched models could not be kept. That is no reason not to start."""
    return [problem] if (problem := cache_problem()) else []


def server_options(work: Path, port: int | None, no_browser: bool) -> list[str]:
    """JupyterLab's command line: quiet, and on the first notebook."""
    options = [
        f"--ServerApp.root_dir={work}",
        f"--LabApp.default_url=/lab/tree/{first_notebook(work)}",
        f"--ServerApp.open_browser={not no_browser}",
        "--ServerApp.answer_yes=True",  # Ctrl-C stops it at once
        "--Application.log_level=ERROR",  # the address is printed all the same
        # For a learner: no news and no update checks, no teacher's buttons of nbgrader's, no layout of other projects.
        f"--LabApp.app_settings_dir={Path(__file__).with_name('lab_settings')}",
        f"--LabApp.workspaces_dir={work / '.layout'}",
        "--LabApp.extension_manager=readonly",
        # Otherwise each kernel warns, in the learner's terminal, that others on this machine could listen in.
        f"--KernelManager.transport_encryption={'auto' if zmq.has('curve') else 'disabled'}",
        *(f"--ServerApp.jpserver_extensions=nbgrader.server_extensions.{name}=False" for name in NBGRADER),
    ]
    if port is not None:
        options += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--ServerApp.allow_root=True")  # containers; it listens on this machine only, behind a token
    return options


def first_notebook(work: Path) -> str:
    """Path of 0_start_here inside work/, as in an address ("" while the course has none)."""
    return next((name for name in files_in(work) if name.endswith("0_start_here.ipynb")), "")


def require_free(port: int) -> None:
    """CourseError where a server cannot listen on this port of this machine."""
    if not 0 < port < 65536:
        raise CourseError(f"--port {port} is no port: give a number from 1024 to 65535, or leave it out.")
    with socket.socket() as listener:
        if os.name != "nt":  # on Windows this option would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as problem:
            raise CourseError(
                f"Port {port} cannot be used ({problem.strerror}): give another number to --port, or leave it out."
            ) from None


if __name__ == "__main__":
    main()
