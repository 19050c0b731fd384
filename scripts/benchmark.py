"""Print the course's budgets beside what was measured on this machine. Speed is shown here and asserted nowhere.

python scripts/benchmark.py               everything (several minutes: every solutions notebook is executed)
python scripts/benchmark.py --quick       without executing the notebooks
python scripts/benchmark.py --only 3.2    of the notebooks only this one
python scripts/benchmark.py --ci FOLDER   what CI costs, and would with 40 notebooks, from the reports of a run of
                                          CONCRETE_STEPS_REPORTS=FOLDER python scripts/test.py --browser
python scripts/benchmark.py --grading 1   grade.py beside stock nbgrader, on the same hand-ins of a step
python scripts/benchmark.py --json FILE   also write the measurements to FILE
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from rich.console import Console
from rich.progress import track
from rich.table import Table

from concrete_steps.checking.checks import run_check
from concrete_steps.checking.loader import load
from concrete_steps.checking.outcomes import PASSED
from concrete_steps.course import Notebook, load_course
from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root, data_dir

# The budgets, for two cores without a GPU. Nothing is asked of the first check, which also imports torch and pytest.
IMPORT_SECONDS = 0.3
LOAD_SECONDS = 3.0
CHECK_SECONDS_MEDIAN, CHECK_SECONDS_WORST = 1.0, 5.0
NOTEBOOK_SECONDS, NOTEBOOK_GB = 120.0, 4.0
CI_MINUTES, PLANNED = 40.0, 40  # minutes of CI, when there are so many notebooks
EXERCISES_KB, SOLUTIONS_KB, DATA_MB = 200.0, 2000.0, 60.0

FIRST_CHECK = """\
import sys, time
start = time.perf_counter()
from concrete_steps.checking.checks import run_check
from concrete_steps.course import load_course
from concrete_steps.checking.loader import load
from concrete_steps.paths import course_root
notebook = load_course().notebooks[0]
loaded = load(course_root() / "solutions" / notebook.path, notebook.exercises)
run_check(notebook, notebook.exercises[0], loaded)
print(time.perf_counter() - start)
"""
REAL_MODEL = """\
import time
import torch, transformers, transformer_lens.model_bridge
from concrete_steps import models
models.smollm2()  # fetches it where that was not done
start = time.perf_counter()
smollm2 = models.smollm2()
print(time.perf_counter() - start)
tokens = smollm2.to_tokens("When Mary and John went to the store, John gave a drink to")
seconds = []
with torch.no_grad():
    for _ in range(5):
        start = time.perf_counter()
        smollm2.run_with_cache(tokens)
        seconds.append(time.perf_counter() - start)
print(min(seconds))
"""
IMPORT = "import time; start = time.perf_counter(); import concrete_steps; print(time.perf_counter() - start)"


@dataclass(frozen=True)
class Row:
    """One measurement. `budget` is None where nothing is asked."""

    what: str
    measured: float
    unit: str
    budget: float | None = None
    note: str = ""

    @property
    def exceeded(self) -> bool:
        return self.budget is not None and self.measured > self.budget


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="do not execute the solutions notebooks")
    parser.add_argument("--only", metavar="NOTEBOOK", help="of the notebooks only this one")
    parser.add_argument("--ci", type=Path, metavar="FOLDER", help="project CI's time from these reports")
    parser.add_argument("--grading", metavar="STEP", help="only: grade.py beside stock nbgrader")
    parser.add_argument("--learners", type=int, default=2, help="how many hand-ins are graded for --grading")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the measurements to FILE")
    options = parser.parse_args()
    try:
        course = load_course()
        if options.ci:
            Console().print(table(list(ci(options.ci))))
            return 0
        if options.grading:
            rows = [Row(*row[:3], note=row[3]) for row in grading(options.grading, options.learners)]
            Console().print(table(rows))
            return 0
        chosen = [course.notebook(options.only)] if options.only else course.notebooks
        rows = [*sizes(chosen), *starts(), *checks(chosen)]
        if not options.quick:
            for notebook in track(chosen, "executing notebooks", console=Console(stderr=True)):
                rows += executed(notebook)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    Console().print(table(rows))
    if options.json:
        content = [asdict(row) | {"exceeded": row.exceeded} for row in rows]
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def grading(step: str, learners: int) -> list[tuple[str, float, str, str]]:
    from benchmark_grading import compared  # stock nbgrader is slow to import
    from concrete_steps.grading.submissions import step_named

    return list(compared(step_named(step), learners))


def sizes(notebooks: Sequence[Notebook]) -> Iterator[Row]:
    for notebook in notebooks:
        for folder, budget in (("notebooks", EXERCISES_KB), ("solutions", SOLUTIONS_KB)):
            path = course_root() / folder / notebook.path
            if not path.is_file():
                raise CourseError(f"{path} does not exist; run scripts/build.py to make it.")
            yield Row(f"{notebook.name}, size in {folder}/", path.stat().st_size / 1e3, "kB", budget)
    size = sum(path.stat().st_size for path in data_dir().rglob("*") if path.is_file())
    yield Row("size of data/", size / 1e6, "MB", DATA_MB)


def starts() -> Iterator[Row]:
    """Fresh processes: the import, and all that happens until the first check has answered."""
    fresh(IMPORT)  # the first of all reads from the disk
    yield Row("import concrete_steps", statistics.median(fresh(IMPORT)[0] for _ in range(5)), "s", IMPORT_SECONDS)
    yield Row("first check", *fresh(FIRST_CHECK), "s", note="loads torch, pytest and the notebook")
    load_seconds, forward_seconds = fresh(REAL_MODEL)
    yield Row("SmolLM2, later load", load_seconds, "s", LOAD_SECONDS, "beyond imports")
    yield Row("SmolLM2, forward of 15 tokens, all activations cached", forward_seconds, "s")


def fresh(code: str) -> list[float]:
    """The numbers that `code` prints, a line each, in a new Python process."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CourseError(f"A fresh Python could not run the course: {done.stderr.strip().splitlines()[-1]}")
    return [float(line) for line in done.stdout.splitlines()]


def checks(notebooks: Sequence[Notebook]) -> Iterator[Row]:
    """Every check of the course on its solution, after a first one."""
    seconds: dict[str, float] = {}
    failed: list[str] = []
    warm = False
    for notebook in notebooks:
        loaded = load(course_root() / "solutions" / notebook.path, notebook.exercises)
        if not warm:
            run_check(notebook, notebook.exercises[0], loaded)
            warm = True
        for exercise in notebook.exercises:
            start = time.perf_counter()
            result = run_check(notebook, exercise, loaded)
            seconds[f"{notebook.id} {exercise}"] = time.perf_counter() - start
            if result.outcome != PASSED:
                failed.append(f"{notebook.id} {exercise}: {result.outcome}")
    worst = max(seconds, key=seconds.get)
    note = f"{len(seconds)} checks" + (f"; NOT PASSED: {', '.join(failed)}" if failed else "")
    yield Row("later checks, median", statistics.median(seconds.values()), "s", CHECK_SECONDS_MEDIAN, note)
    yield Row("later checks, worst", seconds[worst], "s", CHECK_SECONDS_WORST, worst)


def executed(notebook: Notebook) -> list[Row]:
    """Wall seconds and peak memory of a solutions notebook, run from top to bottom in a fresh kernel."""
    path = course_root() / "solutions" / notebook.path
    nb = nbformat.read(path, as_version=4)
    note = ""
    with PeakMemory() as memory:
        start = time.perf_counter()
        try:
            NotebookClient(nb, timeout=1200, kernel_name="python3").execute(cwd=str(path.parent))
        except CellExecutionError as error:
            note = f"STOPPED: {error.ename}: {error.evalue}"[:100]
        seconds = time.perf_counter() - start
    what = notebook.name
    return [
        Row(f"{what}, solutions executed", seconds, "s", NOTEBOOK_SECONDS, note),
        Row(f"{what}, peak memory", memory.peak / 1e9, "GB", NOTEBOOK_GB),
    ]


def ci(reports: Path) -> Iterator[Row]:
    """Minutes of tests by kind; then of a whole run with PLANNED notebooks, each as dear as the mean of these.

    A test belongs to a notebook whose id or name stands in its own name; browser tests stay as many as they are. As
    many tests run side by side as in the run reported: its tests' time over its own.
    """
    notebooks = load_course().notebooks
    once, for_each, browser = 0.0, 0.0, 0.0
    files = sorted(reports.glob("*.xml"))
    if not files:
        raise CourseError(f"{reports} holds no reports: run CONCRETE_STEPS_REPORTS={reports} python scripts/test.py.")
    suites = [suite for file in files for suite in xml.etree.ElementTree.parse(file).iter("testsuite")]
    for case in (case for suite in suites for case in suite.iter("testcase")):
        seconds, name = float(case.get("time")), f"{case.get('classname')}.{case.get('name')}"
        if "test_browser" in name:
            browser += seconds
        elif any(is_of(notebook, name) for notebook in notebooks):
            for_each += seconds
        else:
            once += seconds
    yield Row("tests of the machinery", once / 60, "min")
    yield Row("tests of the browser, of the notebooks chosen", browser / 60, "min")
    yield Row(f"tests of {len(notebooks)} notebooks", for_each / 60, "min")
    at_a_time = (once + browser + for_each) / sum(float(suite.get("time")) for suite in suites)
    whole = (once + browser + for_each / len(notebooks) * PLANNED) / 60 / at_a_time
    yield Row(f"all, with {PLANNED} notebooks", whole, "min", CI_MINUTES, f"{at_a_time:.1f} tests at a time")


def is_of(notebook: Notebook, test: str) -> bool:
    """True if a test's name says that it is one of this notebook's."""
    module = notebook.checks.stem
    return (
        module in test or notebook.name in test or bool(re.search(rf"\[(.*-)?{re.escape(notebook.id)}(-.*)?\]$", test))
    )


class PeakMemory:
    """The most memory that this process's children (the kernel and what it starts) held at one time, in bytes."""

    def __enter__(self) -> "PeakMemory":
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.peak = max(self.peak, sum(map(resident, psutil.Process().children(recursive=True))))


def resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:  # it has just ended
        return 0


def table(rows: list[Row]) -> Table:
    shown = Table("what", title="Budgets and measurements")
    shown.add_column("measured", justify="right")
    shown.add_column("at most", justify="right")
    shown.add_column("")
    for row in rows:
        budget = "" if row.budget is None else f"{row.budget:g} {row.unit}"
        remark = "; ".join(filter(None, ["EXCEEDED" if row.exceeded else "", row.note]))
        colour = "red" if row.exceeded else None
        shown.add_row(row.what, f"{row.measured:.3g} {row.unit}", budget, remark, style=colour)
    return shown


if __name__ == "__main__":
    sys.exit(main())
