"""The judge: runs checks on stand-ins for what lives in a sandbox, a fork for each notebook of a learner's.

Nothing of the learner's runs in this process: what passes here is proven. Where a question could not be asked, or its
answer not be understood, it says so: such an exercise is to be graded in the sandbox, together with its check.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import asdict, replace

from concrete_steps.checking.outcomes import ERROR, NOT_ATTEMPTED, PASSED, TIMED_OUT, Result
from concrete_steps.course import Notebook, load_course
from concrete_steps.grading.forking import import_what_it_imports, own_line, serve
from concrete_steps.grading.words import Speaker
from concrete_steps.paths import course_root

MAY_CHANGE = {"Generator"}  # kinds of what a check lends that any answer may change: it was lent to be drawn from
LONG = 10.0  # seconds after which an answer counts as one that may never come
ENDED = "Your code ended the Python process while it was being checked."


def main() -> None:
    line = own_line()
    sys.modules["rfc3987_syntax"] = None  # see grading.inside
    import torch._inductor.config  # noqa: F401 (PyTorch's optimisers import it: not in a learner's time)

    from concrete_steps.grading.crossing import link  # noqa: F401 (for all forks)

    with tempfile.TemporaryDirectory(prefix="concrete-steps-", ignore_cleanup_errors=True) as folder:
        # The checks run very often, and each time pytest compiles them if it cannot keep what came of it.
        sys.dont_write_bytecode, sys.pycache_prefix = False, folder
        prepared: set[str] = set()
        serve(line, lambda order: _prepare(order["notebook"], prepared), work)


def _prepare(notebook_id: str, prepared: set[str]) -> None:
    """Import what a notebook's checks and known wrong answers import."""
    if notebook_id in prepared:
        return
    prepared.add(notebook_id)
    from concrete_steps.checking.checks import run_checks
    from concrete_steps.checking.loader import Loaded
    from concrete_steps.checking.mistakes import mistakes_of

    notebook = load_course().notebook(notebook_id)
    import_what_it_imports(course_root() / "notebooks" / notebook.path)
    mistakes_of(notebook)
    run_checks(notebook, notebook.exercises[:1], Loaded(notebook.path))


def work(order: dict, descriptor: int, pipe: int) -> None:
    """Judge the exercises of the order, over the descriptor; say what comes of it on the pipe."""
    from concrete_steps.grading import sandbox
    from concrete_steps.grading.crossing.link import Link
    from concrete_steps.grading.crossing.wire import Lost, Wire

    say = Speaker(pipe, order["nonce"])
    notebook = load_course().notebook(order["notebook"])
    say("ready", process=os.getpid())
    sandbox.limit(order["memory"])
    link = Link(Wire(descriptor, descriptor), frozenset(notebook.exercises))
    try:
        _load(link, say)
        say("loaded")
        for name in order["waiting"]:
            say("check", name=name)
            result, doubt = judged(link, notebook, name)
            say("result", result=asdict(result), doubt=doubt)
            if link.lost or result.outcome == TIMED_OUT:  # an import of ours that was cut short would stay broken
                return
        say("done")
    except Lost:
        return


def judged(link, notebook: Notebook, name: str) -> tuple[Result, str]:
    """The result of one exercise, and why it is to be doubted, if so."""
    from concrete_steps.checking.checks import run_checks
    from concrete_steps.grading.crossing.wire import Lost

    doubt = ""
    try:
        link.touched.clear()
        link.refused = False
        result = run_checks(notebook, (name,), link.objects(notebook))[name]
    except Lost as error:
        result = Result(name, ERROR, message=str(error))
    if link.lost and result.outcome not in (TIMED_OUT, NOT_ATTEMPTED):
        # A check may have caught the loss and gone on: what it then came to is no verdict.
        result = Result(name, ERROR, message=ENDED)
        doubt = "" if link.ended else link.lost
    elif result.outcome == TIMED_OUT and time.monotonic() - link.asked < LONG:
        doubt = "it was slow, but may be so because of the crossing"
    elif result.outcome == ERROR and not result.where:
        doubt = "an error of no line of the learner's"
    elif result.outcome != PASSED and link.refused:
        doubt = "an object of which too little crosses"
    # What the check compares with may have been made of what it lent: no other answer may change that.
    changed = link.touched - MAY_CHANGE and name not in notebook.changing
    result.proven = result.outcome == PASSED and not changed
    # The failing call itself holds objects of this process; its text is in the result.
    return replace(result, exercise=name, call=None), doubt[:300]


def _load(link, say: Speaker) -> None:
    """Wait until the learner's cells have run.

    Raises:
        Lost: the process ended before, or says what makes no sense.
    """
    from concrete_steps.grading.crossing.wire import Lost

    while True:
        word, _ = link.wire.receive()
        if not isinstance(word, dict) or word.get("word") not in ("cell", "loaded"):
            raise Lost("the sandbox said what makes no sense")
        if word["word"] == "loaded":
            return
        say("cell", name=str(word.get("name"))[:300])


if __name__ == "__main__":
    main()
