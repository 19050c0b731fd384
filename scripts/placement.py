"""Which notebooks of a step you may skip: `python scripts/placement.py 1`, before and after its notebook of placement.

Each such notebook (1_prerequisites/1.0_placement for step 1) has 8 to 14 small exercises, for some 40 minutes. What you
passed there decides. It is read from the log of your checks and your saved notebooks; nothing leaves this machine.
"""

# Every Python must be able to read this file, so that an old one says the sentence below and not "syntax error".
# ruff: noqa: UP031, UP036, RUF005
import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Concrete Steps needs Python 3.11 or newer and this is Python %d.%d: install one from "
        "https://www.python.org/downloads/ and run it by its name, say `python3.12 scripts/placement.py`."
        % sys.version_info[:2]
    )

import environment

if "-h" in sys.argv[1:] or "--help" in sys.argv[1:]:
    sys.exit(print(__doc__.strip()))

environment.become([str(environment.ensure()), "-m", "concrete_steps.standing.placing"] + sys.argv[1:])
