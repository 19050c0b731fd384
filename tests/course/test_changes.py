"""What a change's CI opens in the browser: what it touches, at most a few, and one more by turns."""

import pytest

from concrete_steps.authoring import changes
from concrete_steps.course import load_course
from concrete_steps.errors import CourseError

NOTEBOOKS = load_course().notebooks
BY_ID = {notebook.id: notebook for notebook in NOTEBOOKS}


def ids(files, turn=0):
    return [notebook.id for notebook in changes.touched(NOTEBOOKS, files, turn)]


def test_a_source_its_checks_and_its_mistakes_stand_for_the_notebook():
    for file in ("solutions/3_tooling/3.2_induction_heads.py", "tests/test_3_2_induction_heads.py"):
        assert ids([file], turn=0) == ["3.2", "0"]
    assert ids(["tests/mistakes_5_2_superposition.py", "README.md"]) == ["5.2", "0"]


def test_nothing_touched_leaves_the_one_whose_turn_it_is():
    assert [ids(["README.md"], turn) for turn in range(len(NOTEBOOKS))] == [[notebook.id] for notebook in NOTEBOOKS]


def test_machinery_opens_the_first():
    assert ids(["scripts/concrete_steps/plot/heatmap.py"], turn=1) == ["0", NOTEBOOKS[1].id]


def test_a_large_change_is_cut_and_every_notebook_has_its_turn():
    files = [f"tests/{notebook.checks.name}" for notebook in NOTEBOOKS]
    assert all(len(ids(files, turn)) <= changes.MOST + 1 for turn in range(20))
    assert {key for turn in range(len(NOTEBOOKS)) for key in ids(files, turn)} == set(BY_ID)


def test_ids_and_all():
    assert changes.chosen("all", NOTEBOOKS) == list(NOTEBOOKS)
    assert [notebook.id for notebook in changes.chosen("3.2,0", NOTEBOOKS)] == ["3.2", "0"]
    with pytest.raises(CourseError, match=r"no notebook '9\.9'"):
        changes.chosen("9.9", NOTEBOOKS)


def test_this_checkout_has_an_answer():
    assert changes.chosen("changed", NOTEBOOKS)
