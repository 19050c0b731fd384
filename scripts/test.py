"""The whole test suite: `python scripts/test.py`.

Three parts: the course's machinery and its wrong answers (tests/course), the course's own solutions through the checks
(`pytest --of solutions`), and whether everything generated is up to date (`scripts/build.py --check`).

    python scripts/test.py --browser        also in a real browser (chromium): notebooks that changed, one more by turns
    python scripts/test.py --browser all    every notebook in the browser, about two minutes each; and graded apart
    python scripts/test.py -k loader        only some tests: arguments go to pytest, and the third part is left out
    python scripts/test.py tests/course/test_loader.py
"""

# Every Python must be able to read this file, so that an old one says the sentence below and not "syntax error".
# ruff: noqa: UP031, UP036, RUF005
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

if sys.version_info < (3, 11):
    sys.exit(
        "Concrete Steps needs Python 3.11 or newer and this is Python %d.%d: install one from "
        "https://www.python.org/downloads/ and run it by its name, say `python3.12 scripts/test.py`."
        % sys.version_info[:2]
    )

import environment

NO_TESTS = 5  # pytest's exit code where nothing was selected
# All tests: in as many processes as there are processors.
PARALLEL = ["-n", "logical", "--maxprocesses", "4", "--dist", "worksteal"]
SOLUTIONS = ["--of", "solutions", "--seed", "0"]  # one draw, always the same; scripts/mutate.py --seeds tries others


def main(arguments):
    """Run the parts and return the exit code: the worst of theirs, but nothing selected in one part is no failure."""
    if "-h" in arguments or "--help" in arguments:
        print(__doc__.strip())
        return 0
    python = str(environment.ensure(("test",)))
    os.chdir(str(environment.ROOT))
    browser, chosen = split_browser(arguments)
    if any(os.path.exists(argument.split("::")[0]) for argument in chosen):
        parts = [run_pytest("The tests named", python, browser + chosen)]
    else:
        parts = [
            run_pytest(
                "The machinery and the wrong answers",
                python,
                ["tests/course"] + browser + chosen + ([] if chosen else PARALLEL),
            ),
            run_pytest("The solutions", python, SOLUTIONS + chosen),
        ]
        if parts[1]["skipped"] and not chosen:
            print("A check that is skipped found no answer: that is no solution.")
            parts[1]["code"] = 1
    if not chosen:
        parts.append(run_build_check(python))
    passed, failed, skipped = (sum(part[kind] for part in parts) for kind in ("passed", "failed", "skipped"))
    print("\ntotal: %d passed, %d failed, %d skipped" % (passed, failed, skipped))
    if not passed + failed + skipped:
        return NO_TESTS
    return max(part["code"] for part in parts if part["code"] != NO_TESTS)


def split_browser(arguments):
    """The options for the browser tests, and the other arguments: --browser alone means the notebooks that changed."""
    if "--browser" not in arguments:
        return [], arguments
    place = arguments.index("--browser")
    after = arguments[place + 1 :]
    which = after[0] if after and (after[0] in ("all", "changed") or after[0][0].isdigit()) else None
    return ["--browser", which or "changed"], arguments[:place] + after[which is not None :]


def run_pytest(title, python, arguments):
    """Run pytest; its exit code and how many tests passed, failed (errors are failures) and were skipped."""
    announce(title)
    with tempfile.TemporaryDirectory() as folder:
        folder = os.environ.get("CONCRETE_STEPS_REPORTS") or folder  # to be kept, for scripts/benchmark.py --ci
        report = os.path.join(folder, title.lower().replace(" ", "_") + ".xml")
        threads = {"OMP_NUM_THREADS": "1"}  # more wait for each other where other programs run, ten times as long
        code = run([python, "-m", "pytest", "--junitxml", report] + arguments, dict(os.environ, **threads))
        if not os.path.exists(report):  # pytest itself broke off
            return {"code": code, "passed": 0, "failed": 1, "skipped": 0}
        suites = list(xml.etree.ElementTree.parse(report).iter("testsuite"))
    tests, failures, errors, skipped = (
        sum(int(suite.get(kind)) for suite in suites) for kind in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    return {"code": code, "passed": tests - failed - skipped, "failed": failed, "skipped": skipped}


def run_build_check(python):
    announce("Everything generated is up to date")
    code = run([python, "scripts/build.py", "--check"])
    return {"code": code, "passed": int(code == 0), "failed": int(code != 0), "skipped": 0}


def announce(title):
    print("\n----- %s -----" % title)
    sys.stdout.flush()


def run(command, environ=None):
    """Exit code of a command; one that a signal ended counts as a shell counts it."""
    code = subprocess.call(command, env=environ)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
