"""Where you stand: `python scripts/progress.py` prints criteria met, exercises passed and time spent, and what is next.

    python scripts/progress.py --exercises       each exercise that you passed or tried, with your minutes and the guess
    python scripts/progress.py --share FILE      write your minutes (counts and minutes only) for the course's authors

It reads the log of checks in work/.progress and your saved notebooks. Nothing is sent anywhere.
"""

# Every Python must be able to read this file, so that an old one says the sentence below and not "syntax error".
# ruff: noqa: UP031, UP036, RUF005
import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Concrete Steps needs Python 3.11 or newer and this is Python %d.%d: install one from "
        "https://www.python.org/downloads/ and run it by its name, say `python3.12 scripts/progress.py`."
        % sys.version_info[:2]
    )

import environment

if "-h" in sys.argv[1:] or "--help" in sys.argv[1:]:
    sys.exit(print(__doc__.strip()))

environment.become([str(environment.ensure()), "-m", "concrete_steps.standing.command"] + sys.argv[1:])
