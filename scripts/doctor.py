"""How well this machine can run the course: `python scripts/doctor.py`.

Prints versions, cores, memory, GPU, disk, caches, which models are there, and what each notebook will need and take.
With --fetch it first gets all models that can be got, for work offline. Exit code 1 when something needed is missing.
"""

# Every Python must be able to read this file, so that an old one says the sentence below and not "syntax error".
# ruff: noqa: UP031, UP036, RUF005
import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Concrete Steps needs Python 3.11 or newer and this is Python %d.%d: install one from "
        "https://www.python.org/downloads/ and run it by its name, say `python3.12 scripts/doctor.py`."
        % sys.version_info[:2]
    )

import argparse

import environment

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--fetch", action="store_true", help="first get all models that can be got, to work offline")
parser.parse_args()

environment.become([str(environment.ensure()), "-m", "concrete_steps.workspace.doctor"] + sys.argv[1:])
