"""The map: each criterion has exercises, each exercise a check, wrong answers, points, difficulty and minutes."""

import ast

import pytest

from concrete_steps.authoring.source import exercise_cells, read_source
from concrete_steps.checking.pytest_plugin import exercise_of, first_line
from concrete_steps.course import Course, hours, load_course
from concrete_steps.errors import CourseError

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
