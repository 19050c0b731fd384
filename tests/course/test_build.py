"""One source, two notebooks, same bytes; anything out of date is named."""

import shutil
import subprocess
import sys

import nbformat
import pytest

from concrete_steps.authoring import build
from concrete_steps.course import load_course
from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root

NOTEBOOKS = load_course().notebooks
each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.name)


@each_notebook
def test_two_builds_give_the_same_bytes(notebook):
    assert build.build(notebook, load_course()) == build.build(notebook, load_course())


@each_notebook
def test_exercise_notebook_holds_no_answer_and_no_output(notebook):
    nb = build.exercise_notebook(build.solutions_notebook(notebook, load_course()))
    for cell in nb.cells:
        assert "SOLUTION" not in cell.source
        assert not cell.get("outputs") and cell.get("execution_count") is None
    bodies = {cell.id: cell.source for cell in nb.cells}
    for name in notebook.exercises:
        assert "raise NotImplementedError" in bodies[name] or f"{name} = None" in bodies[name]


@each_notebook
def test_cells_carry_names_and_nbgrader_metadata(notebook):
    nb = build.exercise_notebook(build.solutions_notebook(notebook, load_course()))
    ids = [cell.id for cell in nb.cells]
    assert len(ids) == len(set(ids))
    marks = {cell.id: cell.metadata.nbgrader for cell in nb.cells if "nbgrader" in cell.metadata}
    assert set(marks) == {"setup", *notebook.exercises, *(f"check_{name}" for name in notebook.exercises)}
    for name in notebook.exercises:
        assert marks[name]["solution"] and not marks[name]["locked"] and marks[name]["checksum"]
        assert marks[f"check_{name}"]["grade"] and marks[f"check_{name}"]["locked"]
        assert marks[f"check_{name}"]["points"] >= 1


@each_notebook
def test_sizes_are_within_the_budget(notebook):
    solutions, exercises = (course_root() / top / notebook.path for top in ("solutions", "notebooks"))
    assert exercises.stat().st_size <= 200_000
    assert solutions.stat().st_size <= 2_000_000


def test_everything_generated_agrees_with_its_source():
    done = subprocess.run(
        [sys.executable, course_root() / "scripts" / "build.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def copy_of_course(tmp_path, monkeypatch):
    """The course's generated files and sources, where a test may spoil them."""
    for top in ("solutions", "notebooks"):
        shutil.copytree(course_root() / top, tmp_path / top)
    shutil.copy(course_root() / "README.md", tmp_path)
    for module in ("concrete_steps.authoring.build", "concrete_steps.course"):
        monkeypatch.setattr(f"{module}.course_root", lambda: tmp_path)
    monkeypatch.syspath_prepend(str(course_root() / "scripts"))
    import importlib.util

    spec = importlib.util.spec_from_file_location("build_command", course_root() / "scripts" / "build.py")
    command = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(command)
    monkeypatch.setattr(command, "course_root", lambda: tmp_path)
    monkeypatch.setattr(sys, "argv", ["build.py", "--check"])
    return tmp_path, command


def test_check_names_the_file_that_was_edited(copy_of_course, capsys):
    root, command = copy_of_course
    edited = root / "notebooks" / NOTEBOOKS[0].path
    edited.write_text(edited.read_text(encoding="utf-8").replace("logits", "logit", 1), encoding="utf-8")
    assert command.main() == 1
    assert f"{edited} differs from" in capsys.readouterr().err


def test_check_names_outputs_that_are_older_than_the_code(copy_of_course, capsys):
    root, command = copy_of_course
    source = root / "solutions" / NOTEBOOKS[0].path.with_suffix(".py")
    source.write_text(source.read_text(encoding="utf-8") + "# %%\nprint('new')\n", encoding="utf-8")
    assert command.main() == 1
    assert "holds outputs of older code: run python scripts/build.py --execute 0" in capsys.readouterr().err


def test_check_names_a_readme_whose_map_is_old(copy_of_course, capsys):
    root, command = copy_of_course
    readme = root / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8").replace("| 0 Start here |", "| 0 Begin |"), encoding="utf-8")
    assert command.main() == 1
    assert f"{readme} does not show the map" in capsys.readouterr().err


def test_check_names_a_notebook_without_source(copy_of_course, capsys):
    root, command = copy_of_course
    stray = root / "notebooks" / "9.9_stray.ipynb"
    stray.write_text("{}")
    assert command.main() == 1
    assert f"{stray} has no source" in capsys.readouterr().err


def test_check_names_a_page_that_differs_and_one_without_source(copy_of_course, capsys):
    root, command = copy_of_course
    (root / "solutions" / "how_to_get_unstuck.md").write_text("Try.", encoding="utf-8")
    (root / "notebooks" / "old.md").write_text("Old.", encoding="utf-8")
    assert command.main() == 1
    said = capsys.readouterr().err
    assert "how_to_get_unstuck.md differs from solutions/how_to_get_unstuck.md" in said
    assert f"{root / 'notebooks' / 'old.md'} has no source" in said


def test_building_keeps_the_outputs_of_unchanged_cells(copy_of_course):
    root, _ = copy_of_course
    notebook = NOTEBOOKS[0]
    source = root / "solutions" / notebook.path.with_suffix(".py")
    source.write_text(source.read_text(encoding="utf-8") + "# %%\nprint('new')\n", encoding="utf-8")
    text = build.build(notebook, load_course())[root / "solutions" / notebook.path]
    with_outputs = [cell for cell in nbformat.reads(text, as_version=4).cells if cell.get("outputs")]
    assert with_outputs and with_outputs[-1].source != "print('new')"


def test_executing_a_notebook_that_fails_names_the_error(copy_of_course):
    root, _ = copy_of_course
    notebook = NOTEBOOKS[0]
    source = root / "solutions" / notebook.path.with_suffix(".py")
    wrong = source.read_text(encoding="utf-8").replace("logits[right] - logits[wrong]", "logits[wrong]")
    source.write_text(wrong, encoding="utf-8")
    with pytest.raises(CourseError, match="a cell failed while the notebook was executed") as caught:
        build.execute(notebook, load_course())
    assert "logit_difference: wrong" in str(caught.value)
