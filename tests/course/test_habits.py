"""Honest notebooks of people with habits: each gets what its answers deserve, or a sentence that says why not.

The formats of files are in test_hand_ins.py; here it is what stands in the cells, and beside them. Graded as there.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest

from concrete_steps.checking.checks import run_checks
from concrete_steps.checking.loader import load
from concrete_steps.checking.outcomes import ERROR, PASSED, Result
from concrete_steps.errors import CourseError
from concrete_steps.grading import merging, pages
from concrete_steps.grading.formats import read_cells
from concrete_steps.grading.nbgrader_settings import verdict
from concrete_steps.grading.submissions import tidy

spec = importlib.util.spec_from_file_location("habits", Path(__file__).with_name("habits.py"))
habits = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(habits)
hand_ins = habits.hand_ins


@pytest.mark.parametrize("name", habits.HABITS)
def test_an_honest_notebook_gets_what_it_deserves(name: str, tmp_path: Path):
    habit = habits.HABITS[name]
    folder = hand_ins.hand_in(tmp_path, {hand_ins.NAME: habit.notebook, **(habit.files or {})})
    submission = tidy(folder)
    said = [*submission.remarks, *submission.unusual[hand_ins.START]]
    exercises = hand_ins.START.exercises
    results = run_checks(hand_ins.START, exercises, load(folder / hand_ins.NAME, exercises))
    said += [result.text() for result in results.values() if result.outcome != PASSED]
    assert tuple(int(results[name].outcome == PASSED) for name in exercises) == habit.marks, said
    assert habit.says in "; ".join(said)
    assert "Traceback" not in "; ".join(said)


@pytest.mark.parametrize("name", habits.FILES)
def test_an_odd_file_gets_what_it_deserves(name: str, tmp_path: Path):
    files, marks = habits.FILES[name]
    folder = hand_ins.hand_in(tmp_path, files)
    tidy(folder)
    assert hand_ins.marks(folder) == marks


@pytest.mark.parametrize("name", habits.REFUSED)
def test_what_is_no_notebook_is_told_in_one_sentence(name: str, tmp_path: Path):
    files, sentence = habits.REFUSED[name]
    with pytest.raises(CourseError, match=sentence):
        tidy(hand_ins.hand_in(tmp_path, files))


# ---- What would take hours: the square of a length, in what reads or shows a hand-in outside of any sandbox

LONG = {
    "empty lines": "\n" * 190_000 + "%x",
    "magics": "%pip list\n" * 20_000,
    "calls of magics": "get_ipython().run_cell_magic('time', '', 'x')\n" * 4000,
    "statements": "a=1\n" * 10_000,
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_cell_is_read_in_a_moment(name: str, tmp_path: Path):
    """By the names of each exercise, as a hand-in is."""
    path = tmp_path / "x.py"
    path.write_text(LONG[name])
    began = time.process_time()
    cells = read_cells(path)
    for exercise in hand_ins.START.exercises:
        for cell in cells:
            merging.bound_names(cell["source"], (exercise,))
    assert time.process_time() - began < 6


def test_more_code_than_anybody_writes_is_not_read(tmp_path: Path):
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps({"cells": [hand_ins.code("a=1\n" * 50_000)] * 6}))
    with pytest.raises(CourseError, match="more than 1 million letters of code"):
        read_cells(path)


SHOWN = {
    "table": "|a|\n|-|\n" + "|b|\n" * 40_000,
    "tags": "<div>" * 30_000,
    "formulas": "\\begin{a}" * 20_000,
    "a gap": "a" + " " * 150_000 + "b",
    "quotes": '"' * 190_000,
    "fences": "```\n" * 40_000,
    "brackets": "\\\\(" * 20_000,
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_text_that_would_be_laid_out_for_minutes_is_shown_as_it_is(name: str):
    assert pages.harmless(SHOWN[name], {}).startswith("<pre>")
    assert "<table>" in pages.harmless("|a|\n|-|\n" + "|b|\n" * 100, {})


def test_code_in_a_long_text_has_no_colours():
    """Of some languages they take the square of its length."""
    short, long = (pages.harmless(f"```perl\n{'s{ ' * times}\n```", {}) for times in (10, 2_000))
    assert "<span" in short and "<span" not in long and "s{ s{" in long


def test_letters_that_no_file_can_hold_cost_no_marks():
    """Halves of pairs, as bytes that are no text become them: in a learner's error, in a value that is shown."""
    for outputs in map(verdict, (Result("x", ERROR, message="\ud800 \x00"), Result("x", ERROR, case="f('\udce9')"))):
        text = json.dumps(outputs, ensure_ascii=False).encode("utf-8").decode()
        assert "\\ud800" in text or "\\udce9" in text
