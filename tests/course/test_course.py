"""The map: each criterion has exercises, each exercise a check, wrong answers, points, difficulty and minutes."""

import ast

import nbformat
import pytest

from concrete_steps.authoring.source import exercise_cells, read_source
from concrete_steps.checking.mistakes import mistakes_of
from concrete_steps.checking.pytest_plugin import exercise_of, first_line
from concrete_steps.course import Course, hours, load_course
from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root

NOTEBOOKS = load_course().notebooks
each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.name)


def checks_of(notebook) -> list[ast.FunctionDef]:
    tree = ast.parse(notebook.checks.read_text(encoding="utf-8"))
    return [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


@each_notebook
def test_every_criterion_has_an_exercise(notebook):
    for criterion in notebook.criteria:
        assert criterion.evidence, f"{notebook.name}: no exercise shows that a learner can {criterion.says}"


@each_notebook
def test_map_and_source_name_the_same_exercises(notebook):
    assert set(exercise_cells(read_source(notebook.source))) == set(notebook.exercises)


@each_notebook
def test_every_exercise_has_a_check_that_says_what_it_verifies(notebook):
    tests = checks_of(notebook)
    assert {exercise_of(test.name) for test in tests} == set(notebook.exercises)
    for test in tests:
        assert first_line(ast.get_docstring(test)), f"{test.name} has no docstring: the panel shows it on a pass"


@each_notebook
def test_every_assert_has_a_message(notebook):
    tree = ast.parse(notebook.checks.read_text(encoding="utf-8"))
    silent = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert) and node.msg is None]
    assert not silent, f"{notebook.checks.name}: asserts without a message at lines {silent}"


@each_notebook
def test_checks_do_not_read_the_solutions(notebook):
    for path in (notebook.checks, notebook.mistakes):
        assert "solutions" not in path.read_text(encoding="utf-8"), f"{path.name} speaks of the solutions"


@each_notebook
def test_every_exercise_has_two_mistakes_each_with_a_sentence_of_its_own(notebook):
    mistakes = mistakes_of(notebook)
    assert set(mistakes) <= set(notebook.exercises), "a mistake carries the name of no exercise"
    for name in notebook.exercises:
        sentences = [mistake.sentence for mistake in mistakes.get(name, [])]
        assert len(sentences) >= 2, f"{name} has {len(sentences)} mistakes"
        assert len(set(sentences)) == len(sentences), f"{name}: two mistakes share a sentence"


def words_and_lines(notebook) -> tuple[int, int]:
    cells = read_source(notebook.source)
    words = sum(len(cell.text.split()) for cell in cells if cell.kind == "markdown")
    lines = [line for cell in cells if cell.kind != "markdown" for line in cell.text.splitlines()]
    return words, sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in lines)


@pytest.mark.parametrize("notebook", [item for item in NOTEBOOKS if item.id != "0"], ids=lambda notebook: notebook.name)
def test_at_most_eight_words_of_prose_a_line_of_code(notebook):
    # Notebook 0 is the exception: it is there to be read.
    words, lines = words_and_lines(notebook)
    assert words <= 8 * lines, f"{notebook.name}: {words} words for {lines} lines of code"


@each_notebook
def test_a_stub_is_not_cut_off_on_a_laptop(notebook):
    """A stub says what to write: JupyterLab 1280 pixels wide shows 105 columns of a cell, a larger font fewer."""
    cells = nbformat.read(course_root() / "notebooks" / notebook.path, as_version=4).cells
    stubs = [cell.source for cell in cells if cell.id in notebook.exercises]
    long = [line for stub in stubs for line in stub.splitlines() if len(line) > 94]
    assert not long, f"break these lines of the solutions source, in stubs, at 94 columns: {long}"


def test_notebook_is_found_by_id_name_and_module():
    course = load_course()
    assert course.notebook("0") is course.notebook("0_start_here") is course.notebook("test_0_start_here")


def test_unknown_notebook_is_one_sentence():
    with pytest.raises(CourseError, match=r"no notebook '9\.9'.*use one of 0"):
        load_course().notebook("9.9")


def test_steps_come_in_order():
    assert isinstance(load_course(), Course)
    assert [step.folder[0] for step in load_course().steps] == list("0123456")


def test_hours_are_ranges():
    assert hours((0.25, 0.5)) == "15 to 30 minutes"
    assert hours((10, 40)) == "10 to 40 hours"
