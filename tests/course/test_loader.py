"""The loader takes a learner's notebook as it comes."""

import json
import time

import pytest

from concrete_steps.checking.loader import find_copy, load
from concrete_steps.course import load_course
from concrete_steps.errors import CourseError

EXERCISES = ("double", "triple", "answer")


def code(text, name=None, **metadata):
    if name:
        metadata["nbgrader"] = {"grade_id": name, "solution": True}
    return {"cell_type": "code", "source": text, "metadata": metadata, "outputs": [], "execution_count": None}


def loaded(tmp_path, *cells, **options):
    path = tmp_path / "mine.ipynb"
    path.write_text(json.dumps({"cells": list(cells), "nbformat": 4, "metadata": {}}), encoding="utf-8")
    return load(path, EXERCISES, **options)


SETUP = code("import math\nfactor = math.sqrt(4)", "setup")
DOUBLE = code("def double(x):\n    return factor * x", "double")


def test_setup_and_exercises_run(tmp_path):
    result = loaded(tmp_path, SETUP, DOUBLE, code("answer = 'b'", "answer"))
    assert result.namespace["double"](3) == 6 and result.namespace["answer"] == "b"
    assert not result.problems


def test_a_syntax_error_costs_only_its_cell(tmp_path):
    result = loaded(tmp_path, SETUP, DOUBLE, code("def triple(x):\n    return 3 *", "triple"))
    assert result.namespace["double"](3) == 6
    assert "SyntaxError in your cell triple, line 2" in result.problems["triple"]


def test_an_error_while_running_names_cell_and_line(tmp_path):
    result = loaded(tmp_path, SETUP, code("x = 1\ndef triple(y=missing):\n    return y", "triple"))
    assert "NameError in your cell triple, line 2: name 'missing'" in result.problems["triple"]


def test_a_dataclass_in_a_cell_is_defined(tmp_path):
    text = "from dataclasses import dataclass\n@dataclass\nclass Config:\n    d_model: int = 8"
    result = loaded(tmp_path, SETUP, code(text))
    assert result.namespace["Config"]().d_model == 8 and not result.problems


def test_leaving_the_program_costs_only_what_it_defines(tmp_path):
    text = "import sys\ndef triple(x):\n    return 3 * x\nsys.exit()\nanswer = sys.exit()"
    result = loaded(tmp_path, SETUP, DOUBLE, code(text, "triple"))
    assert result.namespace["double"](3) == 6 and result.namespace["triple"](3) == 9
    assert list(result.problems) == ["answer"] and "SystemExit in your cell triple, line 5" in result.problems["answer"]


def test_experiments_checks_and_calls_do_not_run(tmp_path):
    start = time.monotonic()
    result = loaded(
        tmp_path,
        SETUP,
        code("import time\nready = True\nslow = time.sleep(60)\ntime.sleep(60)\nprint(1 / 0)"),
        code("raise SystemExit", "check_double"),
        DOUBLE,
    )
    assert time.monotonic() - start < 30
    assert result.namespace["ready"] is True and "slow" not in result.namespace
    assert not result.problems


def test_helpers_in_other_cells_are_defined(tmp_path):
    helper = code("from math import pi\nTWO = 2\ndef helper(x):\n    return TWO * x\nhelper(1 / 0)")
    result = loaded(tmp_path, SETUP, helper, code("def double(x):\n    return helper(x)", "double"))
    assert result.namespace["double"](4) == 8


def test_magics_are_left_out(tmp_path):
    cells = [
        code("%matplotlib inline\n!ls\n?print\nimport math\nfactor = 2", "setup"),
        code("%%time\ndef double(x):\n    return factor * x", "double"),
        code("%%bash\nthis is not python", "elsewhere"),
        code("files = !ls\nanswer = 'a'", "answer"),
    ]
    result = loaded(tmp_path, *cells)
    assert result.namespace["double"](2) == 4 and result.namespace["answer"] == "a"
    assert not result.problems


def test_an_exercise_moved_to_a_cell_of_ones_own_is_found(tmp_path):
    result = loaded(tmp_path, SETUP, code("scale = len('ab')\ndef double(x):\n    return scale * x"))
    assert result.namespace["double"](2) == 4


def test_what_a_later_cell_defines_again_is_well(tmp_path):
    result = loaded(tmp_path, code("def double(x:\n    pass", "double"), code("def double(x):\n    return 2 * x"))
    assert result.namespace["double"](2) == 4 and "double" not in result.problems


def test_colab_keeps_names_in_the_metadata(tmp_path):
    cell = code("def double(x):\n    return 2 * x", "double", colab={"base_uri": "x"}, id="xYz", outputId="1")
    result = loaded(tmp_path, {**cell, "id": "renewed-by-colab"})
    assert result.namespace["double"](2) == 4


def test_source_as_a_list_of_lines(tmp_path):
    assert loaded(tmp_path, code(["def double(x):\n", "    return 2 * x"], "double")).namespace["double"](2) == 4


def test_a_check_called_while_loading_does_nothing(tmp_path):
    setup = code("import concrete_steps\ncheck = concrete_steps.notebook('0')", "setup")
    result = loaded(tmp_path, setup, code("def double(x):\n    return 2 * x\ncheck('logit_difference')", "double"))
    assert "double" not in result.problems


def test_skipped_cells_say_so(tmp_path):
    result = loaded(tmp_path, SETUP, DOUBLE, skip=("double",))
    assert "did not finish" in result.problems["double"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": 3}', '{"cells": [{"a": 1}]}', '{"cells": [null]}'])
def test_a_file_that_is_no_notebook_is_one_sentence(tmp_path, text):
    path = tmp_path / "broken.ipynb"
    path.write_text(text)
    with pytest.raises(CourseError, match=r"broken.ipynb cannot be read as a notebook .*save it again"):
        load(path, EXERCISES)


def test_a_renamed_copy_is_found_by_its_exercises(tmp_path):
    notebook = load_course().notebook("0")
    cells = [code("pass", name) for name in notebook.exercises]
    (tmp_path / "mine").mkdir()
    renamed = tmp_path / "mine" / "Copy of start.ipynb"
    renamed.write_text(json.dumps({"cells": cells}))
    (tmp_path / "other.ipynb").write_text(json.dumps({"cells": [code("pass", "unrelated")]}))
    (tmp_path / "broken.ipynb").write_text("{")
    assert find_copy(tmp_path, notebook) == renamed


def test_the_expected_path_comes_first(tmp_path):
    notebook = load_course().notebook("0")
    expected = tmp_path / notebook.path
    for path in (expected, tmp_path / ".ipynb_checkpoints" / notebook.path.name):
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    assert find_copy(tmp_path, notebook) == expected
