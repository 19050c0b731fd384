"""Which statements of a notebook the loader runs: those that an exercise needs, each by itself."""

import sys

import nbformat
import pytest

from concrete_steps.checking.loader import beside, load


def code(text, name=None):
    return nbformat.v4.new_code_cell(text, **({"id": name} if name else {}))


SETUP = code("import math\nfactor = math.sqrt(4)", "setup")
DOUBLE = code("def double(x):\n    return factor * x", "double")


def loaded(folder, *cells, **options):
    path = folder / "mine.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)
    return load(path, ("double", "triple"), **options)


def test_a_value_that_an_exercise_uses_is_made_wherever_its_cell_stands(tmp_path):
    cells = [
        code("def make(n):\n    return [n] * BASE"),
        code("BASE = len('abc')"),
        code("TABLE = make(2)\nTABLE[0] = 5\nTABLE.append(7)\nsetattr(make, 'used', True)"),
        code("def double(x):\n    return TABLE", "double"),
    ]
    result = loaded(tmp_path, SETUP, *cells)
    assert result.namespace["double"](0) == [5, 2, 2, 7] and result.namespace["TABLE"] is not None


def test_of_the_rest_nothing_runs(tmp_path):
    """Values that no exercise uses; a variable inside an exercise is not a global of the same name."""
    experiments = "model = 1 / 0\nscores = [1 / 0]\nfor i in range(3):\n    scores.append(1 / 0)\nwhile True:\n    pass"
    answer = "def double(x, scores=2):\n    model = factor\n    return (lambda i: model * i)(x)"
    result = loaded(tmp_path, SETUP, code(experiments), code(answer, "double"))
    assert result.namespace["double"](2) == 4 and "model" not in result.namespace and not result.problems


AFTER = {
    "display": "display(double(1))",
    "a picture": "import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()",
    "a failing line": "double(1 / 0)",
    "a question": "name = input('your name')",
    "an endless loop": "while True:\n    pass",
    "the end": "raise SystemExit",
    "await": "import asyncio\nawait asyncio.sleep(0)",
    "an impossible line": "return",
    "a magic": "%timeit double(1)\n!ls\ndouble?",
}


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
def test_what_comes_after_a_definition_costs_nothing(tmp_path, after):
    result = loaded(tmp_path, SETUP, code(f"def double(x):\n    return 2 * x\n{after}", "double"))
    assert result.namespace["double"](2) == 4 and "double" not in result.problems


def test_a_failing_helper_costs_what_it_defines_and_says_why(tmp_path):
    values = code("A = len(3)\nB = len('ab')", "values")
    result = loaded(tmp_path, SETUP, values, code("double = lambda x: B * x\ntriple = lambda x: A * x"))
    assert result.namespace["double"](2) == 4 and list(result.problems) == ["A"]
    assert "TypeError in your cell values, line 1" in result.problems["A"]


FORMS = {
    "an instance": "class Double:\n    def __call__(self, x):\n        return 2 * x\ndouble = Double()",
    "a partial": "import functools, operator\ndouble = functools.partial(operator.mul, 2)",
    "a branch": "if factor:\n    def double(x):\n        return 2 * x",
    "a decorated function": "import functools\n@functools.lru_cache\ndef double(x):\n    return 2 * x",
    "awaited": "async def two():\n    return 2\nTWO = await two()\ndef double(x):\n    return TWO * x",
    "timed": "%time double = lambda x: 2 * x",
    "its main part": "if __name__ == '__main__':\n    double = lambda x: 2 * x",
    "annotations of the future": "from __future__ import annotations\ndef double(x: nothing):\n    return 2 * x",
    "a class under another name": "class Mine:\n    def __new__(cls, x):\n        return 2 * x\ndouble = Mine",
    "compiled": "import torch\n@torch.compile\ndef double(x):\n    return 2 * x",
    "compiled with options": "import torch\n@torch.compile(fullgraph=True)\ndef double(x):\n    return 2 * x",
}


@pytest.mark.parametrize("named", [True, False], ids=["in its cell", "in a cell of one's own"])
@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_forms_of_an_answer(tmp_path, text, named):
    result = loaded(tmp_path, SETUP, code(text, "double" if named else None))
    assert result.namespace["double"](2) == 4 and not result.problems


def test_a_line_that_never_ends_is_left_out_alone_the_next_time(tmp_path):
    told = []
    cells = (
        SETUP,
        code("TABLE = list(range(3))\nDOUBLE = len(TABLE) - 1\ndef double(x):\n    return DOUBLE * x", "double"),
    )
    loaded(tmp_path, *cells, on_cell=told.append)
    assert told == ["setup", "setup, line 2", "double, line 1", "double, line 2", "double"]
    result = loaded(tmp_path, *cells, skip=("double, line 2",))
    assert result.namespace["TABLE"] == [0, 1, 2] and "double" in result.namespace
    assert "did not finish" in result.problems["DOUBLE"]


def test_modules_beside_a_notebook_are_its_own(tmp_path):
    answers = code(
        "from helper import FACTOR\ndef double(x):\n    import helper\n    return helper.FACTOR * x", "double"
    )
    results = []
    for factor in (2, 3):
        folder = tmp_path / str(factor)
        folder.mkdir()
        (folder / "helper.py").write_text(f"FACTOR = {factor}")
        results.append(loaded(folder, answers))
    assert [result.namespace["FACTOR"] for result in results] == [2, 3]
    path, main = list(sys.path), sys.modules["__main__"]
    for result in results:
        with beside(result):
            assert result.namespace["double"](1) == result.namespace["FACTOR"]
    assert "helper" not in sys.modules and sys.path == path and sys.modules["__main__"] is main


def test_a_search_path_of_ones_own(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "deeper.py").write_text("TWO = 2")
    path = list(sys.path)
    cells = [
        code("import sys\nsys.path.append('lib')"),
        code("def double(x):\n    import deeper\n    return deeper.TWO * x"),
    ]
    result = loaded(tmp_path, SETUP, *cells)
    with beside(result):
        assert result.namespace["double"](2) == 4
    assert sys.path == path and "deeper" not in sys.modules
