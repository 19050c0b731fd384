"""The wheel is enough: a notebook opened alone (Colab) finds checks, wrong answers and shipped models in it."""

import os
import subprocess
import sys
import zipfile

import pytest

from concrete_steps.paths import course_root

ALONE = """
import concrete_steps, concrete_steps.paths
check = concrete_steps.notebook("0")
def logit_difference(logits, right, wrong):
    return logits[wrong] - logits[right]
print(concrete_steps.paths.course_root())
check("logit_difference")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(course_root()),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("concrete_steps-*.whl"))


def test_wheel_holds_checks_and_data_and_no_solutions(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for needed in ("course.toml", "_course/tests/test_0_start_here.py", "_course/tests/mistakes_0_start_here.py"):
        assert f"concrete_steps/{needed}" in names
    assert any(name.startswith("concrete_steps/_course/data/") for name in names)
    assert not [name for name in names if "solutions" in name or "/course/" in name or "__pycache__" in name]


def test_a_check_works_from_the_wheel_alone(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", ALONE]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert str(tmp_path / "site" / "concrete_steps" / "_course") in done.stdout
    assert "the sign is turned" in done.stdout, done.stdout + done.stderr
