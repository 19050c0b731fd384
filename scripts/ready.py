"""Show what a notebook still lacks, by every rule that a command can check, the quick ones first.

python scripts/ready.py                 all notebooks, the quick rules
python scripts/ready.py 3.4             one notebook; also its checks on solution, stub, right and wrong answers
python scripts/ready.py 3.4 --measure   also seconds and memory of its execution
python scripts/ready.py 3.4 --mutants   also wrong answers that nobody wrote
python scripts/ready.py 3.4 --browser   also its run in JupyterLab, in Chromium

What no command can check, three people do who did not write the notebook: see CONTRIBUTING.md.
"""

import argparse
import subprocess
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from concrete_steps.authoring.ready import QUICK, SLOW, Draft, Rule
from concrete_steps.course import Notebook, load_course
from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="ids such as 3.4; all of them by default")
    for name in ("measure", "mutants", "browser"):
        parser.add_argument(f"--{name}", action="store_true")
    options = parser.parse_args()
    try:
        course = load_course()
        chosen = [course.notebook(key) for key in options.notebooks] or list(course.notebooks)
        lacking = sum(show(notebook, (*QUICK, *(SLOW if options.notebooks else ()))) for notebook in chosen)
        for notebook in chosen:
            for command in further(notebook, options):
                print("$", *command, flush=True)
                lacking += subprocess.call([sys.executable, *command], cwd=course_root()) != 0
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if lacking else 0


def show(notebook: Notebook, rules: tuple[Rule, ...]) -> int:
    """Print one notebook's table; how many rules do not hold."""
    draft = Draft.of(notebook)
    table = Table(
        "", "rule", title=f"{notebook.id} {notebook.title}", title_justify="left", box=None, show_header=False
    )
    lacking = 0
    for rule in rules:
        findings = list(rule(draft))
        lacking += bool(findings)
        lines = [rule.__doc__, *(escape(f"  - {finding}") for finding in findings)]
        table.add_row("✗" if findings else "✓", "\n".join(lines), style="red" if findings else None)
    Console().print(table)
    return lacking


def further(notebook: Notebook, options: argparse.Namespace) -> list[list[str]]:
    """Commands for what takes minutes."""
    commands = []
    if options.measure:
        commands.append(["scripts/benchmark.py", "--only", notebook.id])
    if options.mutants:
        commands.append(["scripts/mutate.py", notebook.id])
    if options.browser:
        commands.append(["-m", "pytest", "tests/course/test_browser.py", "--browser", notebook.id, "-q"])
    return commands


if __name__ == "__main__":
    sys.exit(main())
