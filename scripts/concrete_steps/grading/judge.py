"""The judge of a notebook: a process that runs the checks on stand-ins for what lives in a sandbox.

A check that passed here is proven: nothing of the learner's runs in this process, so nothing could have been forged.
"""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import asdict, replace

from concrete_steps.checking.outcomes import ERROR, NOT_ATTEMPTED, TIMED_OUT, Result
from concrete_steps.course import load_course
from concrete_steps.grading.words import private_pipe, silence

ENDED = "Your code ended the Python process while it was being checked."


def main() -> None:
    order = json.loads(sys.stdin.readline())
    say = private_pipe(order["nonce"])
    sys.modules["rfc3987_syntax"] = None  # see grading.inside
    from concrete_steps.grading.box import Box

    notebook = load_course().notebook(order["notebook"])
    files = {name: base64.b64decode(content) for name, content in order["files"].items()}
    box = Box(notebook, files, order["skip"], order["memory"], say)
    box.start()  # it imports what we import below, at the same time
    from concrete_steps.checking.checks import run_checks
    from concrete_steps.checking.loader import Loaded
    from concrete_steps.checking.mistakes import mistakes_of
    from concrete_steps.grading import sandbox
    from concrete_steps.grading.crossing.wire import Lost

    mistakes_of(notebook)
    run_checks(notebook, notebook.exercises[:1], Loaded(notebook.path))
    sandbox.limit(order["memory"])
    try:
        box.load()
        say("loaded")
        silence()
        for name in order["waiting"]:
            say("check", name=name)
            say("result", result=asdict(_judged(box, notebook, name, run_checks)), proven=True)
        say("done")
    except Lost:
        if not box.loaded:
            print(box.why_it_did_not_start(), file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        box.end()


def _judged(box, notebook, name: str, run_checks) -> Result:
    """The result of one exercise; afterwards the sandbox is fit for the next one."""
    from concrete_steps.grading.crossing.wire import Lost

    try:
        result = run_checks(notebook, (name,), box.objects())[name]
    except Lost as error:
        result = Result(name, ERROR, message=str(error))
    if box.link.lost:
        if result.outcome not in (TIMED_OUT, NOT_ATTEMPTED):
            ended = "ended" in box.link.lost or "Broken pipe" in box.link.lost
            result = Result(name, ERROR, message=ENDED if ended else f"This cannot be checked: {box.link.lost[:300]}.")
        box.end()
        box.start()
        box.load()
    # The failing call itself holds objects of this process; its text is in the result.
    return replace(result, exercise=name, call=None)


if __name__ == "__main__":
    main()
