"""Merge what learners shared: `python scripts/hours.py FILES...` prints medians and quartiles, in the map's format.

    python scripts/hours.py FILES... --write    also write them where the course reads them

FILES are those of `scripts/progress.py --share`. Give all of them each time: the result replaces the one before.
Exercises that take twice their guess are named.
"""

import argparse
import sys
from pathlib import Path

from concrete_steps.course import load_course
from concrete_steps.errors import CourseError
from concrete_steps.standing.others import SHARED_FILE, as_toml, beyond_guess, merged


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--write", action="store_true", help=f"write {SHARED_FILE.name} beside the map's reader")
    options = parser.parse_args()
    took = merged(options.files, load_course())
    text = as_toml(took)
    print(text)
    for line in beyond_guess(took):
        print(line)
    if options.write:
        SHARED_FILE.write_text(text, encoding="utf-8", newline="\n")
        print(f"Written to {SHARED_FILE}.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CourseError as problem:
        sys.exit(str(problem))
