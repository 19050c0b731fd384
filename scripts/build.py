"""Build the notebooks from their percent sources in solutions/.

python scripts/build.py              write what differs
python scripts/build.py --check      change nothing; fail, naming the file, when anything generated is out of date
python scripts/build.py --execute    also run the solutions notebooks whose code changed, to refresh their outputs
python scripts/build.py --execute 3.2    also run this one, changed or not: its plots or its model may have changed
"""

import argparse
import sys

from rich.progress import Progress

from concrete_steps.authoring import build
from concrete_steps.course import Course, Notebook, load_course
from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="ids such as 1.1; all of them by default")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="fail when anything generated differs from its source")
    action.add_argument(
        "--execute", action="store_true", help="refresh the outputs of those named, or whose code changed"
    )
    options = parser.parse_args()
    try:
        course = load_course()
        chosen = [course.notebook(key) for key in options.notebooks] or list(course.notebooks)
        if options.check:
            return check(chosen, course)
        write(chosen, course)
        if options.execute:
            execute(
                chosen if options.notebooks else [notebook for notebook in chosen if build.stale(notebook, course)],
                course,
            )
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def check(notebooks: list[Notebook], course: Course) -> int:
    """Print each generated file that is out of date; 1 if there is any."""
    problems = []
    for path, text in build.readme(course).items():
        if path.read_text(encoding="utf-8") != text:
            problems.append(f"{path} does not show the map of course.toml: run python scripts/build.py")
    for path, text in build.pages().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            problems.append(f"{path} differs from solutions/{path.name}: run python scripts/build.py")
    for notebook in notebooks:
        for path, text in build.build(notebook, course).items():
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                problems.append(f"{path} differs from {notebook.source}: run python scripts/build.py")
        reason = build.stale(notebook, course)
        if reason:
            path = course_root() / "solutions" / notebook.path
            problems.append(f"{path} {reason}: run python scripts/build.py --execute {notebook.id}")
    problems += [f"{path} has no source: delete it or restore its .py" for path in build.orphans(course)]
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"{len(notebooks)} notebooks agree with their sources.")
    return 1 if problems else 0


def write(notebooks: list[Notebook], course: Course) -> None:
    generated = build.readme(course) | build.pages()
    for notebook in notebooks:
        generated |= build.build(notebook, course)
    for path, text in generated.items():
        if build.write(path, text):
            print(f"wrote {path.relative_to(course_root())}")


def execute(notebooks: list[Notebook], course: Course) -> None:
    if not notebooks:
        print("Every solutions notebook holds the outputs of its code.")
    with Progress() as progress:
        task = progress.add_task("executing", total=len(notebooks))
        for notebook in notebooks:
            progress.update(task, description=f"executing {notebook.name}")
            build.execute(notebook, course)
            progress.advance(task)


if __name__ == "__main__":
    sys.exit(main())
