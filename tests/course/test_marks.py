"""When it is graded, no written wrong answer earns a mark, and no right answer in another style loses one.

test_mistakes.py puts the same answers to the checks in this process, with each commit. Here a notebook takes minutes:
all of them run once a week (`--browser all`).
"""

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from concrete_steps.checking.mistakes import Mistake, mistakes_of, right_answers_of
from concrete_steps.checking.outcomes import NOT_ATTEMPTED, PASSED
from concrete_steps.course import Notebook, load_course
from concrete_steps.grading import sandbox
from concrete_steps.grading.isolated import Limits, grade_notebook
from concrete_steps.grading.pair import Pair
from concrete_steps.paths import course_root

pytestmark = pytest.mark.skipif(bool(sandbox.why_not()), reason=sandbox.why_not())


@pytest.fixture(autouse=True)
def _weekly(request):
    if request.config.getoption("--browser") != "all":
        pytest.skip("once a week")


# As a learner's own module would lie beside the notebook. Registered answers stand in the order of the file.
CELL = """\
import {module}
from concrete_steps.checking.mistakes import {registry}
_all = [entry for entry in {registry}["{module}"] if entry.exercise == "{exercise}"]
{exercise} = _all[{number}].implementation{call}
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    notebooks = [notebook for notebook in load_course().notebooks if notebook.exercises]
    metafunc.parametrize("notebook", notebooks, ids=lambda notebook: notebook.id)


def hand_ins(answers: dict[str, list[Mistake]]) -> Iterator[dict[str, tuple[int, str]]]:
    """Of each exercise the first answer, then of each the second, ...: by exercise its number and its sentence."""
    for number in itertools.count():
        some = {name: (number, of[number].sentence) for name, of in answers.items() if number < len(of)}
        if not some:
            return
        yield some


def write(notebook: Notebook, folder: Path, answers: dict[str, tuple[int, str]], registry: str) -> Path:
    """The solutions with these answers, which come from the module beside them."""
    content = json.loads((course_root() / "solutions" / notebook.path).read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if cell["id"] in answers:
            name = cell["id"]
            call = "" if re.search(rf"^(def|class) {name}\b", "".join(cell["source"]), re.MULTILINE) else "()"
            number, module = answers[name][0], notebook.mistakes.stem
            cell["source"] = CELL.format(module=module, registry=registry, exercise=name, number=number, call=call)
    path = folder / notebook.path.name
    path.write_text(json.dumps(content), encoding="utf-8")
    shutil.copy(notebook.mistakes, folder)
    return path


def test_no_wrong_answer_earns_a_mark(notebook: Notebook, tmp_path):
    earned = {}
    with Pair([notebook], Limits().memory) as pair:
        for some in hand_ins(mistakes_of(notebook)):
            results = grade_notebook(notebook, write(notebook, tmp_path, some, "_registry"), pair=pair)
            earned |= {(name, said): "passed" for name, (_, said) in some.items() if results[name].outcome == PASSED}
            # The answer must have failed, not the cell that fetches it: the answer's own code stands in no cell.
            texts = {name: results[name].text() for name in some}
            untried = {name for name in some if results[name].outcome == NOT_ATTEMPTED or "your cell" in texts[name]}
            lost = {name: texts[name] for name in untried}
            assert lost == {}
    assert earned == {}


def test_no_right_answer_loses_one(notebook: Notebook, tmp_path):
    refused = {}
    with Pair([notebook], Limits().memory) as pair:
        for some in hand_ins(right_answers_of(notebook)):
            results = grade_notebook(notebook, write(notebook, tmp_path, some, "_right"), pair=pair)
            bad = {name: results[name] for name in some if results[name].outcome != PASSED}
            refused |= {(name, some[name][1]): result.text() for name, result in bad.items()}
    assert refused == {}
