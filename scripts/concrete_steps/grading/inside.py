"""An exercise and its check in one process, both in the sandbox: for what cannot be judged from outside.

Its points are trusted, not proven: whoever gets hold of the check from within passes it. A fork of the sandbox's
process does this (answer.py), or, where there is no sandbox, a child of isolated.py: either has an order, and says what
comes of it.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

from concrete_steps.checking.outcomes import PASSED
from concrete_steps.course import load_course
from concrete_steps.grading import sandbox
from concrete_steps.grading.words import Speaker, private_pipe, silence
from concrete_steps.paths import course_root

PYTEST = "PYTEST_"  # variables of this name change how every check runs


def main() -> None:
    """Where there is no sandbox: do one order, which comes on stdin."""
    order = json.loads(sys.stdin.readline())
    say = private_pipe(order["nonce"])
    write_files(order["files"], Path.cwd())
    # jsonschema (behind plotly's nbformat) imports this if it can, and does without it: 2 seconds for a grammar of web
    # addresses, half of what a healthy submission costs.
    sys.modules["rfc3987_syntax"] = None
    import torch._inductor.config  # noqa: F401 (checks that watch operations import it: not in the learner's time)

    check(order, say)


def write_files(files: dict[str, str], folder: Path) -> None:
    """Files of an order, by name, in base64."""
    for name, content in files.items():
        (folder / name).write_bytes(base64.b64decode(content))


def check(order: dict, say: Speaker) -> None:
    """Load the notebook of the order from the present folder, check the exercises that wait, say what comes of it."""
    from concrete_steps.checking.checks import run_checks
    from concrete_steps.checking.loader import load
    from concrete_steps.checking.mistakes import mistakes_of

    notebook, waiting = load_course().notebook(order["notebook"]), tuple(order["waiting"])

    def prepare() -> None:
        """Before each run of the checks: as they were sent, where they were sent, and pytest without settings."""
        write_files(order.get("checks", {}), course_root() / "tests")
        _forget_pytest_settings()

    prepare()
    mistakes = mistakes_of(notebook)
    # The checks run very often, and each time pytest compiles them if it cannot keep what came of it.
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(Path.cwd() / ".compiled")
    # The released notebook first: what it and its checks import is imported before the learner's code can put something
    # else in its place, and the time that it takes is not the learner's.
    run_checks(notebook, waiting, load(course_root() / "notebooks" / notebook.path, notebook.exercises))
    sandbox.limit(order["memory"])
    silence()
    say("ready", process=os.getpid())
    loaded = load(
        Path.cwd() / order["name"], notebook.exercises, tuple(order["skip"]), lambda cell: say("cell", name=cell)
    )
    say("loaded")
    for name in waiting:
        say("check", name=name)
        prepare()
        # The failing call itself holds objects of this process; its text is in the result.
        result = replace(run_checks(notebook, (name,), loaded)[name], exercise=name, call=None)
        wrong_answers = []
        for mistake in mistakes[name] if result.outcome == PASSED else ():
            say("check", name=name)
            prepare()
            answer = mistake.answer(loaded.namespace[name])
            wrong = replace(loaded, namespace={**loaded.namespace, name: answer})
            # A check with random inputs may, rarely, be lucky for a wrong answer: twice it is not.
            tries = (run_checks(notebook, (name,), wrong, recognise=False)[name].outcome for _ in range(2))
            wrong_answers.append(next((outcome for outcome in tries if outcome != PASSED), PASSED))
        say("result", result=asdict(result), wrong_answers=wrong_answers)
    say("done")


def _forget_pytest_settings() -> None:
    for name in [name for name in os.environ if name.upper().startswith(PYTEST)]:
        del os.environ[name]


if __name__ == "__main__":
    main()
