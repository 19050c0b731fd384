"""Grade a class: nbgrader with this course's configuration. One step of the course is one assignment.

python scripts/grade.py release STEP        the notebooks to hand out, in grading/release/STEP
python scripts/grade.py collect STEP ZIP    what Canvas or Moodle gives for all learners, to grading/submitted
python scripts/grade.py autograde STEP      mark grading/submitted/STUDENT/STEP/*.ipynb and print a table
python scripts/grade.py feedback STEP       a page for each learner, in grading/feedback/STUDENT/STEP
python scripts/grade.py export --to x.csv   all marks as a table
python scripts/grade.py formgrader          marks by hand, comments and all of the above in JupyterLab

STEP is a folder of notebooks/, as 1_prerequisites, or its number. Nothing is written outside grading/ (--home).
"""

import argparse
import contextlib
import io
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SAWarning, SQLAlchemyError

from concrete_steps.errors import CourseError
from concrete_steps.grading.collect import collect
from concrete_steps.grading.grader import Grader
from concrete_steps.grading.nbgrader_settings import HOME, grading_home
from concrete_steps.grading.submissions import literal, step_named
from concrete_steps.grading.temporary import folder_of_this_run
from concrete_steps.grading.workers import end_children
from concrete_steps.paths import course_root
from concrete_steps.workspace.own_jupyter import use_own_jupyter

STOPPED = 130  # as shells tell Ctrl-C
AGAIN = 20.0  # seconds until an interrupt that ended nothing is raised again; a cluster may take half of that to close
# nbgrader's gradebook is loud about its own use of SQLAlchemy.
warnings.filterwarnings("ignore", category=SAWarning)


def main(argv: list[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of any letters, in a terminal of few
            stream.reconfigure(errors="backslashreplace")
    if options.home:
        os.environ[HOME] = str(options.home.resolve())
    try:
        if options.command == "formgrader":
            formgrader(options.port, options.no_browser)
            return 0
        hear_interrupts()
        return run(options)
    except (CourseError, OSError, SQLAlchemyError) as error:
        print(literal(str(error)), file=sys.stderr)
        return 1


def run(options: argparse.Namespace) -> int:
    step = step_named(options.step) if "step" in options else None
    if options.command == "collect":
        return collect(step, [path.resolve() for path in options.files], grading_home())
    grader = Grader()
    if options.command == "export":
        return grader.export((options.to or grading_home() / "grades.csv").resolve())
    if options.command == "release":
        return grader.release(step)
    if options.command == "autograde":
        if options.trust:
            grader.app.config.GradeApart.trust = True
        return grader.autograde(step, options.student, options.force, max(1, options.jobs), options.scheduler)
    return grader.feedback(step, options.student)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, metavar="FOLDER", help="keep all state here instead of in grading/")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in ("release", "collect", "autograde", "feedback"):
        command = commands.add_parser(name)
        command.add_argument("step", metavar="STEP")
        if name in ("autograde", "feedback"):
            command.add_argument("--student", metavar="ID", help="only this one")
    commands.choices["collect"].add_argument("files", type=Path, nargs="+", metavar="FILE.zip")
    autograde = commands.choices["autograde"]
    autograde.add_argument("--force", action="store_true", help="mark again what was marked and has not changed since")
    autograde.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="submissions at once")
    autograde.add_argument("--trust", action="store_true", help="grade where nothing can lock learners' code up, too")
    autograde.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster that grades; local: start one here, of --jobs workers"
    )
    commands.add_parser("export").add_argument(
        "--to", type=Path, metavar="FILE.csv", help="grading/grades.csv if not given"
    )
    server = commands.add_parser("formgrader")
    server.add_argument("--port", type=int, default=8899)
    server.add_argument("--no-browser", action="store_true")
    return parser


def formgrader(port: int, no_browser: bool) -> None:
    """JupyterLab at nbgrader's formgrader, until Ctrl-C."""
    from jupyterlab.labapp import LabApp

    home = grading_home()
    home.mkdir(parents=True, exist_ok=True)
    use_own_jupyter(home / ".jupyter")
    os.environ[HOME] = str(home)
    os.chdir(course_root() / "scripts")  # where nbgrader finds its configuration
    root = course_root() if home.is_relative_to(course_root()) else home  # its links to the solutions lead out of home
    options = [f"--ServerApp.root_dir={root}", f"--ServerApp.port={port}", f"--ServerApp.open_browser={not no_browser}"]
    options += ["--LabApp.default_url=/formgrader", "--ServerApp.answer_yes=True", "--Application.log_level=ERROR"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--ServerApp.allow_root=True")  # containers; it listens on this machine only, behind a token
    LabApp.launch_instance(options)


def hear_interrupts() -> None:
    """A request to end is heard like Ctrl-C, and both again and again until this ends (but on Windows).

    Where Ctrl-C is ignored, as in the background of a script, it stays so.
    """
    names = ["SIGTERM", "SIGALRM"]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        names.append("SIGINT")
    _set(names, as_interrupt)


def as_interrupt(*_) -> None:
    """Once more after a while: what a destructor raises, Python drops, and libraries catch all that is raised."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
    raise KeyboardInterrupt


def until_stopped(work: Callable[[], int]) -> int:
    """What `work` gives; or STOPPED, and no interrupt is heard any more: what is left to do takes seconds."""
    code = STOPPED
    with contextlib.suppress(KeyboardInterrupt):  # the next one, while the first is dealt with
        with contextlib.suppress(KeyboardInterrupt):
            code = work()
        _set(["SIGALRM"], signal.SIG_IGN)
    if code == STOPPED:
        _set(["SIGALRM", "SIGINT", "SIGTERM"], signal.SIG_IGN)
        print("Stopped. What was marked is kept, and the same command goes on from there.", file=sys.stderr)
    return code


def _set(names: list[str], handler: Any) -> None:
    for name in names:
        with contextlib.suppress(AttributeError, ValueError, OSError):
            signal.signal(getattr(signal, name), handler)


if __name__ == "__main__":
    # Below one folder, a scheduler's workers here included, so that children that are killed leave nothing either.
    with folder_of_this_run() as tempfile.tempdir:
        os.environ |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), tempfile.tempdir)
        code = until_stopped(main)
        sys.stdout.flush()
        if code == STOPPED:
            end_children()
    if code == STOPPED:
        os._exit(code)  # threads wait for the processes of learners
    sys.exit(code)
