"""`pytest` grades the folder that is meant, wherever it is started, and says which."""

import os
import shutil
import subprocess
import sys

import pytest

from concrete_steps.checking.pytest_plugin import _answered
from concrete_steps.course import load_course
from concrete_steps.paths import course_root

NOTEBOOK = load_course().notebook("0")
ALL_PASS = (
    f"{NOTEBOOK.checks.read_text(encoding='utf-8').count('def test_')} passed"  # its checks, one or more an exercise
)


@pytest.fixture
def folder(tmp_path):
    """A learner's folder outside the course: the solutions of notebook 0, in a folder of its step."""
    copy = tmp_path / "mine" / NOTEBOOK.path
    copy.parent.mkdir(parents=True)
    shutil.copy(course_root() / "solutions" / NOTEBOOK.path, copy)
    return tmp_path / "mine"


def run(cwd, *arguments):
    """pytest with the plugins that are installed: the course's entry point among them, and no other way in."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    return subprocess.run([*command, *arguments], cwd=cwd, capture_output=True, text=True, env=environment)


def inside(cwd):
    """As where pyproject.toml of the course is above: it loads the plugin."""
    return run(cwd, "-p", "concrete_steps.checking.pytest_plugin")


def test_of_a_folder_from_anywhere(folder, tmp_path):
    """The entry point, which an installed course has, is enough."""
    done = run(tmp_path, "--of", str(folder))
    assert done.returncode == 0 and f"grading: {folder}" in done.stdout and ALL_PASS in done.stdout, done.stdout


def test_inside_a_folder_of_notebooks(folder):
    for place in (folder, folder / NOTEBOOK.folder):
        done = inside(place)
        assert done.returncode == 0 and f"grading: {place}" in done.stdout and ALL_PASS in done.stdout, done.stdout


def test_a_folder_without_the_courses_notebooks(tmp_path):
    (tmp_path / "other.ipynb").write_text('{"cells": []}')
    done = inside(tmp_path)
    assert done.returncode != 0 and "holds no notebook of the course" in done.stderr


def test_other_projects_are_left_alone(tmp_path):
    (tmp_path / "conftest.py").write_text("def pytest_addoption(parser):\n    parser.addoption('--seed', default='7')")
    test = "def test_seed(request):\n    assert request.config.getoption('--seed') == '7'\n"
    test += "    assert not request.config.pluginmanager.has_plugin('learner')"
    (tmp_path / "test_other.py").write_text(test)
    done = run(tmp_path)
    assert done.returncode == 0 and "1 passed" in done.stdout and "grading" not in done.stdout, done.stdout


def test_answers_typed_into_the_released_notebooks_are_seen(folder):
    assert _answered(course_root() / "notebooks") == []
    assert _answered(folder) == [NOTEBOOK.name]
