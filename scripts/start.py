"""Start the course: `python scripts/start.py` opens JupyterLab on your own copy of the notebooks, in work/.

The first time it also installs what the course needs into .venv, which takes a few minutes.
"""

# Every Python must be able to read this file, so that an old one says the sentence below and not "syntax error".
# ruff: noqa: UP031, UP036, RUF005
import argparse
import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Concrete Steps needs Python 3.11 or newer and this is Python %d.%d: install one from "
        "https://www.python.org/downloads/ and run it by its name, say `python3.12 scripts/start.py`."
        % sys.version_info[:2]
    )

import environment

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--no-browser", action="store_true", help="only print the address, open no browser")
parser.add_argument("--port", type=int, help="serve on this port (without it, the first free one from 8888 on)")
parser.parse_args()

environment.become([str(environment.ensure()), "-m", "concrete_steps.workspace.lab"] + sys.argv[1:])
