"""The command `scripts/progress.py`, inside the course's environment."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from concrete_steps.course import load_course
from concrete_steps.errors import CourseError
from concrete_steps.standing.others import guesses, to_share
from concrete_steps.standing.placement import skippable
from concrete_steps.standing.show import advice, in_words, table, too_long
from concrete_steps.standing.where import Standing, here


def main() -> int:
    parser = argparse.ArgumentParser(prog="progress.py", description="Where you stand, and what is next.")
    parser.add_argument("--exercises", action="store_true", help="a row for each exercise that you passed or tried")
    parser.add_argument("--share", type=Path, metavar="FILE", help="write your minutes to FILE, after showing them")
    parser.add_argument("--yes", action="store_true", help="with --share: do not ask")
    options = parser.parse_args()
    everything = here()
    if options.share:
        return share(everything, options.share, options.yes)
    console = Console(highlight=False)
    if options.exercises:
        console.print(of_exercises(everything))
    else:
        console.print(table(everything, load_course()))
    console.print()
    for line in [*too_long(everything), advice(everything, skippable(everything, load_course()))]:
        console.print(line, soft_wrap=True)
    return 0


def of_exercises(everything: list[Standing]) -> Table:
    result = Table(box=None, pad_edge=False, header_style="bold")
    result.add_column("notebook", no_wrap=True)
    result.add_column("exercise", no_wrap=True, overflow="ellipsis", max_width=40)
    for name in ("", "your time", "guess"):
        result.add_column(name, justify="right", no_wrap=True)
    for item in everything:
        guess = guesses(item.notebook)
        for name in item.notebook.exercises:
            if name in item.passed | item.tried:
                spent = item.minutes.get(name)
                result.add_row(
                    item.notebook.id,
                    name,
                    "passed" if name in item.passed else "tried",
                    "" if spent is None else in_words(spent),
                    in_words(guess[name]) if name in guess else "",
                    style="green" if name in item.passed else "yellow",
                )
    return result


def share(everything: list[Standing], file: Path, yes: bool) -> int:
    text = json.dumps(to_share(everything), indent=1)
    print(text)
    if file.exists():
        raise CourseError(f"{file} exists already: give another name, or remove it.")
    if not yes and input(f"\nThis, and nothing else, is written to {file}. Write it? [y/N] ").strip().lower() != "y":
        print("Nothing was written.")
        return 0
    file.write_text(text + "\n", encoding="utf-8")
    print(f"Written to {file}. Nothing is sent: give it to whom you like.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (CourseError, OSError) as problem:
        sys.exit(str(problem))
    except (KeyboardInterrupt, EOFError):
        sys.exit(130)
