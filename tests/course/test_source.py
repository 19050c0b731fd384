"""A slip in a percent source is one sentence with file and line."""

import pytest

from concrete_steps.authoring.source import read_source
from concrete_steps.errors import CourseError

EXERCISE = """\
# %% exercise="double" points=1 difficulty=1 minutes=2
def double(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION
# %% check="double"
"""

SLIPS = {
    "unknown option": ("# %% exercise=", "# %% colour=", r"line 1: .*exactly one of"),
    "extra option": ("minutes=2", "minutes=2 stars=3", r"line 1: unknown option 'stars'"),
    "missing points": (" points=1", "", r"line 1: points is missing"),
    "points are words": ("points=1", 'points="one"', r"line 1: points is 'one'"),
    "difficulty too high": ("difficulty=1", "difficulty=9", r"line 1: difficulty is 9; it goes from 1 to 5"),
    "no minutes": ("minutes=2", "minutes=0", r"line 1: minutes is 0"),
    "words in the directive": ("# %% exercise", "# %% an exercise", r"line 1: cannot read"),
    "no markers": ("    ### BEGIN SOLUTION\n", "", r"line 1: exercise 'double' has 0 '### BEGIN SOLUTION' and 1"),
    "another name": ("def double", "def triple", r"line 1: exercise 'double' does not define double"),
    "does not parse": ("return 2 * x", "return 2 *", r"line 1: exercise 'double' does not parse"),
    "check of nothing": ('check="double"', 'check="treble"', r"line 6: check of 'treble', but no exercise above"),
    "no check": ('# %% check="double"\n', "", r"line 1: exercise 'double' has no check"),
    "two kinds": ('check="double"', 'check="double" setup=True', r"line 6: the cell says"),
    "check with a body": ('check="double"\n', 'check="double"\nprint()\n', r"line 6: a check cell has no body"),
    "generates nothing": (
        '# %% check="double"\n',
        '# %% check="double"\n# %% generated="poem"\n',
        r"line 7: nothing gen",
    ),
    "markdown with options": (
        "# %% exercise",
        "# %% [markdown] tag=1\n# %% exercise",
        r"line 1: a markdown cell takes no",
    ),
}


def read(tmp_path, text, exercises=()):
    path = tmp_path / "9.9_slips.py"
    path.write_text(text, encoding="utf-8")
    return read_source(path, exercises)


def test_a_right_source_is_read(tmp_path):
    cells = read(tmp_path, "# %% [markdown]\n# # Title\n" + EXERCISE, ("double",))
    assert [(cell.kind, cell.line) for cell in cells] == [("markdown", 1), ("exercise", 3), ("check", 8)]
    assert cells[1].options == {"exercise": "double", "points": 1, "difficulty": 1, "minutes": 2}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_names_file_line_and_remedy(tmp_path, slip):
    before, after, message = SLIPS[slip]
    assert before in EXERCISE
    with pytest.raises(CourseError, match=message) as caught:
        read(tmp_path, EXERCISE.replace(before, after))
    assert "9.9_slips.py" in str(caught.value) and "\n" not in str(caught.value)


def test_duplicate_exercise(tmp_path):
    with pytest.raises(CourseError, match=r"line 7: exercise 'double' stands already at line 1"):
        read(tmp_path, EXERCISE + EXERCISE)


def test_exercise_that_the_map_does_not_know(tmp_path):
    with pytest.raises(CourseError, match=r"line 1: course.toml does not know exercise 'double'"):
        read(tmp_path, EXERCISE, ("treble",))


def test_exercise_that_the_source_does_not_have(tmp_path):
    with pytest.raises(CourseError, match=r"course.toml lists exercise 'treble', but no cell defines it"):
        read(tmp_path, EXERCISE, ("double", "treble"))


def test_text_before_the_first_marker(tmp_path):
    with pytest.raises(CourseError, match="text stands before the first cell marker"):
        read(tmp_path, "x = 1\n" + EXERCISE)
