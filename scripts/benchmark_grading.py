"""How long grade.py and stock nbgrader take for the same hand-ins: benchmark.py --grading STEP prints it.

Stock nbgrader runs whole notebooks, experiments included, with nothing between a learner's code and the teacher. Two of
its limits are raised here: a cell may run for longer than 30 seconds, and be silent for longer than nbclient's 4, which
imports alone can take; else nbgrader gives up a submission without a mark.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from nbgrader.api import Gradebook

from concrete_steps.course import Step
from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root

CONFIG = """\
c = get_config()
c.CourseDirectory.course_id = "stock"
c.ClearSolutions.enforce_metadata = False
c.Execute.timeout = c.Execute.iopub_timeout = 1200
"""
BETWEEN = 0.2  # seconds from one look at the processes to the next
LEFT_OUT = 3  # one learner in two has left out every third exercise
STOCK = 2  # learners that stock nbgrader grades: it starts anew for each notebook, so more of them tell nothing new


def compared(step: Step, learners: int) -> Iterator[tuple[str, float, str, str]]:
    """Rows of the table: what, measured, unit, remark."""
    with tempfile.TemporaryDirectory(prefix="concrete-steps-") as folder:
        home, stock = Path(folder) / "ours", Path(folder) / "stock"
        for place, of_them in ((home, learners), (stock, min(learners, STOCK))):
            for number in range(of_them):
                hand_in(step, place / "submitted" / f"learner{number}" / step.folder, whole=number % 2 == 0)
        source = stock / "source" / step.folder
        source.mkdir(parents=True)
        for notebook in step.handed_out:
            shutil.copy(course_root() / "solutions" / notebook.path, source)
        (stock / "nbgrader_config.py").write_text(CONFIG)
        grade = [sys.executable, str(course_root() / "scripts" / "grade.py"), "--home", str(home)]
        run([*grade, "release", step.folder], course_root())
        ours = run([*grade, "autograde", step.folder, "--jobs", "1"], course_root())
        two_jobs, *_ = run([*grade, "autograde", step.folder, "--jobs", "2", "--force"], course_root())
        nbgrader = [sys.executable, "-m", "nbgrader"]
        run([*nbgrader, "generate_assignment", step.folder], stock)
        theirs = run([*nbgrader, "autograde", step.folder], stock)
        found, expected = marks(home), marks(stock)
        if not expected:
            raise CourseError("Stock nbgrader gave no marks: there is nothing to compare with.")
        found = {name: found.get(name) for name in expected}
        same = "the same marks" if found == expected else f"OTHER MARKS: {found}, {expected}"
    what = f"{len(step.handed_out)} notebooks of {step.folder}"
    costs = []  # seconds of a core a learner
    runs = (("grade.py", ours, learners), ("stock nbgrader", theirs, min(learners, STOCK)))
    for name, (wall, cpu, memory), of_them in runs:
        costs.append(cpu / of_them)
        remark = f"{of_them} learners, each {wall / of_them:.0f} s on the clock; {memory:.1f} GB at most"
        yield f"{name}, {what}", costs[-1], "s of a core a learner", remark
    yield "throughput a core, grade.py over stock nbgrader", costs[1] / costs[0], "times", same
    yield "grade.py --jobs 2 over --jobs 1", ours[0] / two_jobs, "times", f"by the clock, on {os.cpu_count()} cores"


def hand_in(step: Step, folder: Path, whole: bool) -> None:
    folder.mkdir(parents=True)
    for notebook in step.handed_out:
        solved, blank = (
            json.loads((course_root() / kind / notebook.path).read_text(encoding="utf-8"))
            for kind in ("solutions", "notebooks")
        )
        left_out = set() if whole else set(notebook.exercises[::LEFT_OUT])
        stubs = {cell["id"]: cell for cell in blank["cells"] if cell["id"] in left_out}
        solved["cells"] = [stubs.get(cell["id"], cell) for cell in solved["cells"]]
        (folder / notebook.path.name).write_text(json.dumps(solved), encoding="utf-8")


def run(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Seconds on the clock, seconds of a core, and the most memory at a time in GB, by all processes that it starts.

    They are looked at while they run: nobody waits for what dies in a sandbox, and its seconds would be lost. What a
    process did after the last look is not counted.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    start, seconds, most = time.perf_counter(), {}, 0
    with tempfile.TemporaryFile("w+") as said:
        child = psutil.Popen(command, cwd=folder, env=environment | {"PATH": path}, stdout=said, stderr=said, text=True)
        while child.poll() is None:
            taken = 0
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in [child, *child.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        spent = process.cpu_times()
                        seconds[process.pid, process.create_time()] = spent.user + spent.system
                        memory = process.memory_full_info()
                        taken += getattr(memory, "pss", memory.uss)  # what forks share is counted once
            most = max(most, taken)
            time.sleep(BETWEEN)
        said.seek(0)
        if child.returncode:
            raise CourseError(f"{' '.join(command)} failed: {said.read()[-1000:]}")
    return time.perf_counter() - start, sum(seconds.values()), most / 1e9


def marks(home: Path) -> dict[str, float]:
    with Gradebook(f"sqlite:///{home / 'gradebook.db'}") as gradebook:
        found = [submission for step in gradebook.assignments for submission in step.submissions]
        return {f"{one.student.id} {notebook.name}": notebook.score for one in found for notebook in one.notebooks}
