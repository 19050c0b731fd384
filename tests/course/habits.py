"""What honest people, and some who are not, hand in of notebook 0, by what is odd; test_habits.py grades it."""

import importlib.util
import io
import json
import sys
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path


def beside(name: str):
    """Another module of tests, for what it holds: pytest puts no folder of tests on Python's path."""
    spec = importlib.util.spec_from_file_location(f"habits_{name}", Path(__file__).with_name(f"{name}.py"))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hand_ins = beside("test_hand_ins")
ALL, NOT_FIRST = (1, 1, 1), (0, 1, 1)
RIGHT = hand_ins.RIGHT
BODY = "    return logits[right] - logits[wrong]\n"
HEAD = "def logit_difference(logits, right, wrong):\n"


@dataclass
class Habit:
    """The cell of logit_difference, cells before and after it, and what is deserved or said (of it, or in the table).

    `change` does something to the notebook's JSON, and `files` lie beside it.
    """

    answer: str = RIGHT
    before: str = ""
    after: str = ""
    marks: tuple[int, int, int] = ALL
    says: str = ""
    change: object = None
    files: dict | None = None

    def notebook(self) -> dict:
        content = hand_ins.right(logit_difference=self.answer)
        place = content["cells"].index(hand_ins.cell_of(content, "logit_difference"))
        for source, at in ((self.after, place + 1), (self.before, place)):
            if source:
                content["cells"].insert(at, hand_ins.code(source))
        if self.change:
            self.change(content)
        return content


def giant_outputs(content: dict) -> None:
    output = {"output_type": "stream", "name": "stdout", "text": ["x" * 10**6] * 20}
    hand_ins.cell_of(content, "logit_difference")["outputs"] = [output]


def forged_outputs(content: dict) -> None:
    """Nothing is answered; outputs and metadata say that all has passed."""
    panel = {"output_type": "display_data", "data": {"text/html": "<b>passed</b>"}, "metadata": {}}
    for cell in content["cells"]:
        if cell["id"] in hand_ins.ANSWERS:
            cell["source"] = hand_ins.cell_of(json.loads(hand_ins.RELEASED), cell["id"])["source"]
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [panel], 1
    content["metadata"]["concrete_steps"] = {"trusted": {"logit_difference": 9}, "unusual": []}
    content["metadata"]["kernelspec"] = {"name": "../../bin/sh", "display_name": "<script>", "language": "sh"}


def names_of_others(content: dict) -> None:
    """The cells of answers say that they are each other's, and worth more."""
    cells = [hand_ins.cell_of(content, name) for name in hand_ins.ANSWERS]
    names = [*list(hand_ins.ANSWERS)[1:], "logit_difference"]
    for cell, name in zip(cells, names, strict=True):
        cell["metadata"]["nbgrader"] = {"grade_id": name, "grade": True, "points": 1000, "solution": True}


def doubled_checks(content: dict) -> None:
    """A second check of the same name, which passes, before the first."""
    for name in hand_ins.ANSWERS:
        check = hand_ins.cell_of(content, f"check_{name}")
        content["cells"].insert(0, check | {"source": "pass", "metadata": {**check["metadata"], "tags": ["x"]}})


def as_checks(content: dict) -> None:
    """The answer's cell is called a check."""
    cell = hand_ins.cell_of(content, "logit_difference")
    cell["id"], cell["metadata"] = "check_logit_difference_2", {}


def lists_of_lines(content: dict) -> None:
    for cell in content["cells"]:
        cell["source"] = list("".join(cell["source"]))  # a letter a line


def without_code(content: dict) -> None:
    """Code became raw text, as a program does that knows no Python."""
    for cell in content["cells"]:
        cell["cell_type"] = "raw" if cell["cell_type"] == "code" else "markdown"


def without_dates() -> bytes:
    """An archive as small programs write it: no dates, a name twice (the last counts), names of no letters."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's of the doubled name
        for name, text in ((hand_ins.NAME, "{}"), ("..", "x"), (hand_ins.NAME, json.dumps(hand_ins.right()))):
            entry = zipfile.ZipInfo(name)
            entry.date_time = (1980, 0, 0, 0, 0, 0)
            archive.writestr(entry, text)
    return buffer.getvalue()


def script_without_marks() -> str:
    """As nbconvert writes it with --no-prompt: cells of magics become calls, several in what is one cell."""
    cells = [f"get_ipython().run_cell_magic('time', '', {RIGHT!r})", *list(hand_ins.ANSWERS.values())[1:]]
    return "#!/usr/bin/env python\n# coding: utf-8\n\n" + "\n\n".join(
        [*cells, "get_ipython().run_cell_magic('capture', 'out', 'x = 1\\n')", "get_ipython().system('ls')"]
    )


FILES = {
    "an archive without dates": ({"work.zip": without_dates}, ALL),
    "a script without marks": ({f"{hand_ins.STEP}.py": script_without_marks}, ALL),
    "a picture that is none": (
        {hand_ins.NAME: lambda: Habit(change=lambda c: c["cells"].append(PICTURE)).notebook()},
        ALL,
    ),
}
PICTURE = {"cell_type": "markdown", "source": "x", "metadata": {}}
PICTURE["attachments"] = {"a.png": {"image/png": " " * 10**6 + "!"}}  # to look for its end again from each place

HABITS = {
    # Code that a person writes.
    "a helper in a later cell": Habit(
        HEAD + "    return minus(logits[right], logits[wrong])\n", after="def minus(a, b):\n    return a - b"
    ),
    "a helper in an earlier cell": Habit(
        HEAD + "    return minus(logits[right], logits[wrong])\n", "minus = lambda a, b: a - b"
    ),
    "letters of another alphabet": Habit(
        "def разность(л, п, н):\n    return л[п] - л[н]\n\nlogit_difference = разность"
    ),
    "async cells": Habit(
        HEAD + "    return FACTOR * (logits[right] - logits[wrong])\n",
        "import asyncio\nasync def one():\n    await asyncio.sleep(0)\n    return 1\nFACTOR = await one()",
    ),
    "an error in the middle of a cell": Habit(f"x = 1\n1 / 0\nprint(undefined)\n{RIGHT}\nassert False, 'later'"),
    "a cell that ends the kernel": Habit(f"{RIGHT}\nexit()\nquit()\nimport sys; sys.exit(1)"),
    "input": Habit(f"name = input('Who are you? ')\n{RIGHT}"),
    "input that is used": Habit(
        HEAD + "    return SIGN * (logits[right] - logits[wrong])\n",
        "SIGN = int(input('sign? '))",
        marks=NOT_FIRST,
        says="nobody can answer input() here",
    ),
    "installs": Habit(f"!pip install numpy\n%pip install -q numpy\n{RIGHT}", "%%bash\npip install numpy\nexit 1"),
    "captures": Habit(f"%%capture out\n{RIGHT}"),
    "magics in between": Habit(
        f"%matplotlib inline\n%load_ext autoreload\n{RIGHT}\n%timeit 1 + 1\n?print\nprint?\nfiles = !ls"
    ),
    "too many magics": Habit(RIGHT, "%pip list\n" * 2000),
    "pictures": Habit(f"import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n{RIGHT}\nplt.savefig('a.png')"),
    "if it is the main program": Habit("def main():\n    pass\n\nif __name__ == '__main__':\n    main()\n\n" + RIGHT),
    "in the main program": Habit(
        "if __name__ == '__main__':\n" + "".join(f"    {line}\n" for line in RIGHT.splitlines())
    ),
    "hints that are no types": Habit(
        "def logit_difference(logits: Tensr, right: int, wrong: int) -> Flot:\n" + BODY,
        marks=NOT_FIRST,
        says="Tensr",
    ),
    "hints that wait": Habit(
        "from __future__ import annotations\ndef logit_difference(logits: Tensr, right: int, wrong: int) -> Flot:\n"
        + BODY
    ),
    "an object with slots": Habit(
        "class Difference:\n    __slots__ = ('calls',)\n    def __init__(self):\n        self.calls = 0\n"
        "    def __call__(self, logits, right, wrong):\n        self.calls += 1\n    "
        + BODY
        + "logit_difference = Difference()"
    ),
    "partly given": Habit(
        "import functools\ndef times(factor, logits, r, w):\n    return factor * (logits[r] - logits[w])\n"
        "logit_difference = functools.partial(times, 1.0)"
    ),
    "decorated": Habit(
        "import functools\ndef logged(f):\n    @functools.wraps(f)\n    def g(*a, **k):\n        print(a)\n"
        f"        return f(*a, **k)\n    return g\n\n@logged\n{RIGHT}"
    ),
    "state of the whole notebook": Habit(
        HEAD + "    global N\n    N += 1\n    CACHE[N] = N\n    SEEN.append(N)\n" + BODY, "N, CACHE = 0, {}\nSEEN = []"
    ),
    "another folder": Habit(f"import os\nos.chdir('/')\n%cd ..\n{RIGHT}\nos.chdir('..')"),
    "a path of Windows": Habit(RIGHT, "DATA = 'C:\\Users\\me\\data'"),
    "a path of Windows in the answer": Habit(
        HEAD + '    path = "C:\\Users\\me"\n' + BODY, marks=NOT_FIRST, says="unicodeescape"
    ),
    "deep": Habit(
        HEAD
        + "    def down(n):\n        return 0 if n == 0 else down(n - 1)\n"
        + "    return down(800) + logits[right] - logits[wrong]\n"
    ),
    "warnings are errors": Habit(
        HEAD + "    import warnings\n    warnings.simplefilter('error')\n" + BODY,
        "import warnings\nwarnings.simplefilter('error')",
    ),
    "much is printed": Habit(HEAD + "    print('x' * 10**6)\n" + BODY, "for i in range(10**9): print(i)"),
    "a name of the library's, later": Habit(
        "import torch\n" + HEAD + "    return torch.sub(logits[right], logits[wrong])\n",
        after="torch = 5",
        marks=NOT_FIRST,
        says="'int' object has no attribute 'sub'",
    ),
    "a name of the library's, in an experiment": Habit(
        "import torch\n" + HEAD + "    return torch.sub(logits[right], logits[wrong])\n",
        after="x = torch = print(3)",
        marks=NOT_FIRST,
        says="'NoneType' object has no attribute 'sub'",
    ),
    "a debugger": Habit(HEAD + "    breakpoint()\n" + BODY, marks=NOT_FIRST),
    "the newest grammar": Habit(
        HEAD
        + "    match right:\n        case int() as r if (w := wrong) is not None:\n"
        + "            return logits[r] - logits[w]\n"
    ),
    "threads": Habit(
        "from concurrent.futures import ThreadPoolExecutor\n" + HEAD + "    with ThreadPoolExecutor(2) as pool:\n"
        "        r, w = pool.map(lambda i: logits[i], (right, wrong))\n    return r - w\n"
    ),
    "answered twice": Habit(RIGHT.replace("right] -", "right] +") + "\n" + RIGHT, "logit_difference = None"),
    "a package that is not there": Habit(
        f"import seaborn_of_tomorrow as sns\n{RIGHT}\ntry:\n    import cupy\nexcept ImportError:\n    cupy = None"
    ),
    # Text that Python does not take.
    "quotes of a word processor": Habit(
        HEAD + "    “difference”\n" + BODY, marks=NOT_FIRST, says="invalid character '“'"
    ),
    "spaces of a web page": Habit(HEAD + BODY.replace(" ", "\xa0"), marks=NOT_FIRST, says="U+00A0"),
    "prose below the code": Habit(RIGHT + "\nI think that this is right.", marks=NOT_FIRST, says="SyntaxError"),
    "tabs and spaces": Habit(HEAD + "    x = 1\n\ty = 2\n" + BODY, marks=NOT_FIRST, says="TabError"),
    "only newlines": Habit(RIGHT, "\n" * 190_000 + "1"),
    # The file.
    "giant outputs": Habit(change=giant_outputs),
    "a letter a line": Habit(change=lists_of_lines),
    "forged outputs": Habit(change=forged_outputs, marks=(0, 0, 0)),
    "names of others": Habit(change=names_of_others),
    "doubled checks": Habit(change=doubled_checks, says="edited check of logit_difference"),
    "an answer called a check": Habit(change=as_checks),
    "all raw": Habit(change=without_code),
    "modules that are called as libraries": Habit(
        files={
            f"{name}.py": lambda: "raise SystemExit('mine')"
            for name in ("torch", "json", "conftest", "sitecustomize", "concrete_steps")
        }
    ),
    "two of one name but for capitals": Habit(
        files={hand_ins.NAME.upper(): lambda: hand_ins.RELEASED}, says="more than once"
    ),
    "a module of the notebook's name": Habit(files={"0_start_here.py": lambda: "x = 1"}),
}

REFUSED = {
    "a script of marimo": (
        {"0_start_here.py": lambda: f"import marimo\napp = marimo.App()\n@app.cell\ndef _():\n    {BODY}"},
        "it holds 0_start_here.py",
    ),
    "a document of quarto": ({"0.qmd": lambda: f"```{{python}}\n{RIGHT}```"}, "it holds 0.qmd"),
    "a checkpoint alone": ({".ipynb_checkpoints/0_start_here-checkpoint.ipynb": hand_ins.right}, "holds no notebook"),
    "a file in a folder's place": (
        {"a.zip": lambda: hand_ins.zipped(("a", "x"), ("a/b.ipynb", "{}"))},
        "a.zip cannot be unpacked",
    ),
}
