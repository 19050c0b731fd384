"""The command `scripts/placement.py`, inside the course's environment."""

import argparse
import sys

from concrete_steps.errors import CourseError
from concrete_steps.standing.placement import placement


def main() -> None:
    parser = argparse.ArgumentParser(prog="placement.py", description="Which notebooks of a step you may skip.")
    parser.add_argument("step", help="the step's number, such as 1")
    try:
        print(repr(placement(parser.parse_args().step)))
    except (CourseError, OSError) as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
