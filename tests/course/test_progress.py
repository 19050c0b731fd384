"""Progress and time: the log of checks, what simulated learners' logs come to, and what is shared and merged."""

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from concrete_steps.checking import log
from concrete_steps.checking.checks import run_checks
from concrete_steps.checking.loader import Loaded, load
from concrete_steps.checking.log import Event
from concrete_steps.checking.mistakes import mistakes_of
from concrete_steps.checking.outcomes import NOT_ATTEMPTED, PASSED, WRONG
from concrete_steps.course import Course, load_course
from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root
from concrete_steps.standing import others
from concrete_steps.standing.placement import DO, SKIM, SKIP, UNKNOWN, Placement, placement_of, skippable, verdicts
from concrete_steps.standing.show import Picture, advice, table
from concrete_steps.standing.times import minutes, spans
from concrete_steps.standing.where import Standing, next_one, passed_in, standing

COURSE = load_course()
START = 1_764_201_600
FIRST = COURSE.notebook("1.1")
A, B, C = FIRST.exercises[:3]


def where_in(key: str, events: list[Event], seen: dict | None = None) -> Standing:
    return next(item for item in standing(COURSE, events, seen) if item.notebook.id == key)


def learner(*lines: tuple, machine: str = "laptop") -> list[Event]:
    """Events from (minute, notebook) or (minute, notebook, exercise, outcome)."""
    return [Event(machine, START + 60 * minute, *rest) for minute, *rest in lines]


FAST = learner((0, "1.1"), (2, "1.1", A, PASSED), (4, "1.1", B, PASSED))
SLOW = learner((0, "1.1"), (15, "1.1", A, WRONG), (30, "1.1"), (45, "1.1", A, WRONG), (60, "1.1", A, PASSED))
SKIPPING = learner(
    (0, "1.1"), (5, "1.1", C, PASSED), (6, "2.1"), (16, "2.1", COURSE.notebook("2.1").exercises[-1], WRONG)
)
INTERRUPTED = learner((0, "1.1"), (10, "1.1", A, WRONG), (190, "1.1"), (195, "1.1", A, PASSED), (196, "1.1", A, PASSED))
TWO_MACHINES = FAST + learner((3, "1.1"), (10, "1.1", C, PASSED), machine="desktop")
CLOCK_BACK = learner((0, "1.1"), (10, "1.1", A, WRONG), (-170, "1.1", A, WRONG), (-165, "1.1", A, PASSED))
CLOCK_AHEAD = learner((0, "1.1"), (10, "1.1", A, WRONG), (10_010, "1.1", A, WRONG), (10_015, "1.1", A, PASSED))
COPIED_LOG = FAST + [Event("copy", *(event.when, event.notebook, event.exercise, event.outcome)) for event in FAST]
AGAIN = learner((0, "1.1"), (8, "1.1", A, PASSED), (10, "1.1", A, WRONG), (15, "1.1", A, PASSED))


@pytest.mark.parametrize(
    ("events", "passed", "spent"),
    [
        (FAST, {A, B}, {A: 2, B: 2}),
        (SLOW, {A}, {A: 60}),
        (SKIPPING, {C}, {C: 5}),
        (INTERRUPTED, {A}, {A: 15, "": 1}),  # three hours of lunch; a run after the pass is the notebook's
        (TWO_MACHINES, {A, B, C}, {A: 2, B: 2, C: 6}),  # at 3 to 4 min both were on: it counts once
        (CLOCK_BACK, {A}, {A: 15}),
        (CLOCK_AHEAD, {A}, {A: 15}),
        (COPIED_LOG, {A, B}, {A: 2, B: 2}),
        (AGAIN, {A}, {A: 8, "": 7}),  # broken and mended again: it was met once
        ([], set(), {}),
    ],
    ids=[
        "fast",
        "slow",
        "skipping",
        "interrupted",
        "two_machines",
        "clock_back",
        "clock_ahead",
        "copied_log",
        "again",
        "nobody",
    ],
)
def test_simulated_learners(events, passed, spent):
    where = where_in("1.1", events)
    assert where.passed == passed
    assert where.minutes == pytest.approx(spent)


def test_no_time_counts_twice_and_none_is_negative():
    for events in (FAST, SLOW, INTERRUPTED, TWO_MACHINES, CLOCK_BACK, CLOCK_AHEAD, COPIED_LOG):
        assert all(span.end > span.start for span in spans(events) if span.start != span.end)
        assert all(value >= 0 for value in minutes(events).values())
    assert sum(minutes(TWO_MACHINES).values()) == pytest.approx(10)


def test_an_untouched_stub_whose_check_ran_was_not_tried():
    where = where_in("1.1", learner((0, "1.1", A, NOT_ATTEMPTED), (5, "1.1", B, WRONG), (6, "1.1", C, NOT_ATTEMPTED)))
    assert where.tried == {B}
    assert where.minutes == {B: 5, C: 1}


def test_a_criterion_is_met_when_all_its_exercises_are_passed():
    criterion = FIRST.criteria[0]
    events = [Event("m", START + n, "1.1", name, PASSED) for n, name in enumerate(criterion.evidence)]
    assert where_in("1.1", events).met == [criterion]
    assert where_in("1.1", events[:-1]).met == []


def test_an_open_task_is_an_exercise_under_its_heading():
    for notebook in COURSE.notebooks:
        _, _, below = notebook.source.read_text(encoding="utf-8").partition("Open task:")
        under = re.findall(r'^# %% exercise="(\w+)"', below, re.MULTILINE)
        assert under == ([notebook.open_task] if notebook.open_task else []), notebook.id


def test_next_is_what_was_begun_then_the_first_that_no_placement_skips():
    everything = standing(COURSE, learner((0, "2.1", COURSE.notebook("2.1").exercises[0], PASSED)))
    assert next_one(everything)[0].notebook.id == "2.1"
    everything = standing(COURSE, [])
    assert next_one(everything)[0].notebook.id == "0"
    assert next_one(everything, frozenset({"0", "1.0", "1.1"}))[0].notebook.id == "1.2"
    every = [
        Event("m", START, notebook.id, name, PASSED) for notebook in COURSE.notebooks for name in notebook.exercises
    ]
    assert next_one(standing(COURSE, every)) is None
    assert "Step 6" in advice(standing(COURSE, every))


def test_a_pass_under_an_earlier_name_counts_and_one_that_was_split_is_done_again():
    (now, *_), (one, two, *_) = FIRST.criteria[0].evidence, FIRST.criteria[1].evidence
    notebook = replace(FIRST, renamed=((now, "before"), (one, "both"), (two, "both")))
    course = Course("", (replace(COURSE.steps[1], notebooks=(notebook,)),))
    events = [Event("m", START, "1.1", "before", PASSED), Event("m", START, "1.1", "both", PASSED)]
    (where,) = standing(course, events)
    assert where.passed == {now} and where.tried == {one, two}


# --- Placement ----------------------------------------------------------------------------------------------------


def placed(step: int, passed=(), failed=()) -> Placement:
    notebook = placement_of(step, COURSE)
    events = [Event("m", START, notebook.id, name, PASSED) for name in passed]
    events += [Event("m", START, notebook.id, name, WRONG) for name in failed]
    return Placement(notebook, verdicts(notebook, where_in(notebook.id, events), COURSE))


PLACEMENTS = [number for number, step in enumerate(COURSE.steps) if any(item.is_placement for item in step.notebooks)]


@pytest.mark.parametrize("step", PLACEMENTS)
def test_placement_says_what_was_shown(step):
    every = placement_of(step, COURSE).exercises
    assert {item.says for item in placed(step, passed=every).said} == {SKIP}
    assert placed(step, passed=every).advice == "Skip this step."
    assert {item.says for item in placed(step, failed=every).said} == {DO}
    assert f"Begin with {placement_of(step, COURSE).criteria[0].places}" in placed(step, failed=every).advice
    assert {item.says for item in placed(step).said} == {UNKNOWN}
    assert placement_of(step, COURSE).path.name in placed(step).advice
    assert f"begin with {placement_of(step, COURSE).criteria[0].places}" in placed(step).advice
    first, second, *rest = every
    mixed = placed(step, passed=[first, *rest], failed=[second])
    assert [item.says for item in mixed.said] == [SKIM] + [SKIP] * (len(mixed.said) - 1)
    assert mixed.said[0].evidence() == f"passed {first}; failed {second}"
    assert f"failed {second}" in repr(mixed) and f"failed {second}" in mixed._repr_html_()


def test_what_a_placement_skips_is_not_next():
    notebook = placement_of(1, COURSE)
    events = [Event("m", START, notebook.id, name, PASSED) for name in notebook.exercises[:2]]
    events += [Event("m", START, "0", name, PASSED) for name in COURSE.notebook("0").exercises]
    everything = standing(COURSE, events)
    assert skippable(everything, COURSE) == {"1.1"}
    assert next_one(everything, skippable(everything, COURSE))[0].notebook.id == "1.0"  # it was begun
    events += [Event("m", START, notebook.id, name, WRONG) for name in notebook.exercises[2:]]
    everything = standing(COURSE, events)
    assert skippable(everything, COURSE) == {"1.0", "1.1"}
    assert next_one(everything, skippable(everything, COURSE))[0].notebook.id == "1.2"


@pytest.mark.parametrize("step", PLACEMENTS)
def test_verdicts_about_people_of_each_kind(step):
    notebook = placement_of(step, COURSE)
    evidence = [criterion.evidence for criterion in notebook.criteria]
    places = [COURSE.notebook(criterion.places) for criterion in notebook.criteria]
    # who knows the first notebooks, none of them up to all but one, and fails at the rest or leaves it alone
    for n in range(len(evidence)):
        known, unknown = sum(evidence[:n], ()), sum(evidence[n:], ())
        for failed in (unknown, ()) if n else (unknown,):
            person = placed(step, passed=known, failed=failed)
            assert [item.says for item in person.said] == [SKIP] * n + [DO] * (len(evidence) - n)
            assert person.advice == f"Begin with {places[n].id} {places[n].title} (work through)."
            assert [item.failed or item.untried for item in person.said[n:]] == evidence[n:]
    # who knows the last ones alone begins at the first, and skips them later
    person = placed(step, passed=sum(evidence[1:], ()), failed=evidence[0])
    assert [item.says for item in person.said] == [DO] + [SKIP] * (len(evidence) - 1)
    assert person.advice == f"Begin with {places[0].id} {places[0].title} (work through)."
    # who knows all, but for a slip in each of the notebooks by turns
    for number, (slip, *_) in enumerate(evidence):
        for failed in ((slip,), ()):
            person = placed(step, passed=set(notebook.exercises) - {slip}, failed=failed)
            assert [item.says for item in person.said] == [SKIM if n == number else SKIP for n in range(len(evidence))]
            assert person.advice == f"Begin with {places[number].id} {places[number].title} (skim)."
    # who mends the slip has shown it
    assert placed(step, passed=notebook.exercises, failed=evidence[1][:1]).advice == "Skip this step."
    # who fails at the first and goes home
    person = placed(step, failed=evidence[0][:1])
    assert {item.says for item in person.said} == {DO}
    assert f"Begin with {places[0].id}" in person.advice


@pytest.mark.parametrize("step", PLACEMENTS)
def test_whoever_begins_a_notebook_has_done_with_its_placement(step):
    notebook = placement_of(step, COURSE)
    before = [item for item in COURSE.notebooks if item.folder < notebook.folder]
    events = [Event("m", START, item.id, name, PASSED) for item in before for name in item.exercises]
    events += [Event("m", START, notebook.id, name, PASSED) for name in notebook.criteria[0].evidence]
    first, second = (criterion.places for criterion in notebook.criteria[:2])
    everything = standing(COURSE, events)
    assert next_one(everything, skippable(everything, COURSE))[0].notebook.id == notebook.id
    events.append(Event("m", START, second, COURSE.notebook(second).exercises[0], WRONG))
    everything = standing(COURSE, events)
    assert {first, notebook.id} <= skippable(everything, COURSE)
    assert next_one(everything, skippable(everything, COURSE))[0].notebook.id == second


@pytest.mark.parametrize("step", PLACEMENTS[-1:])  # the way is the same for all
def test_verdicts_on_answers_that_were_checked(step):
    """The first half is right, and the other answers are wrong, as their checks see it."""
    notebook = placement_of(step, COURSE)
    half = notebook.exercises[: len(notebook.exercises) // 2]
    solved = load(course_root() / "solutions" / notebook.path, notebook.exercises)
    wrong = {name: its[0].answer(solved.namespace[name]) for name, its in mistakes_of(notebook).items()}
    given = solved.namespace | {name: wrong[name] for name in notebook.exercises if name not in half}
    results = run_checks(notebook, notebook.exercises, Loaded(solved.path, given), recognise=False)
    events = [Event("m", START, notebook.id, name, result.outcome) for name, result in results.items()]
    said = verdicts(notebook, where_in(notebook.id, events), COURSE)
    assert [name for item in said for name in item.passed] == list(half)
    assert [item.says for item in said] == [SKIP if not item.failed else SKIM if item.passed else DO for item in said]


def test_a_step_without_placement_is_told_in_one_sentence():
    without = next(number for number in range(1, len(COURSE.steps)) if number not in PLACEMENTS)
    said = rf"Step {without} has no placement \(steps that have one: {', '.join(map(str, PLACEMENTS))}\)"
    for step in {0, without, len(COURSE.steps) - 1}:
        with pytest.raises(CourseError, match=said.replace(f"Step {without}", f"Step {step}")) as raised:
            placement_of(step, COURSE)
        assert str(raised.value).count(". ") == 0
    for step in (9, -1, "one", ""):
        with pytest.raises(CourseError, match=f"There is no step {step}"):
            placement_of(step, COURSE)


def test_a_step_may_be_called_as_its_placement_is():
    assert (
        placement_of("1.0", COURSE) == placement_of(1.0, COURSE) == placement_of("1", COURSE) == placement_of(1, COURSE)
    )


def test_a_placement_places_every_other_notebook_of_its_step():
    for step in COURSE.steps:
        for notebook in step.notebooks:
            if notebook.is_placement:
                others_ = [item.id for item in step.notebooks if not item.is_placement]
                assert [criterion.places for criterion in notebook.criteria] == others_


# --- The log -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(log.FOLDER, str(tmp_path / "log"))
    return tmp_path / "log"


def test_what_is_recorded_is_read_and_damage_is_left_out(folder):
    log.record("1.1", A, PASSED, when=START)
    (file,) = folder.iterdir()
    with file.open("ab") as damaged:
        damaged.write(b'\n{"t": 17642\xff')  # a power cut
    log.record("1.1", when=START + 60)
    with file.open("a") as damaged:
        damaged.write('\n{"t": "soon", "n": "1.1"}\n[]\n{"t": 1, "n": 5}')
    assert [(event.when, event.exercise, event.outcome) for event in log.read()] == [
        (START, A, PASSED),
        (START + 60, "", ""),
    ]


def test_ten_thousand_checks_make_less_than_two_megabytes(folder):
    for number in range(100):
        log.record("1.1", max((name for item in COURSE.notebooks for name in item.exercises), key=len), WRONG)
        assert number or folder.is_dir()
    assert sum(file.stat().st_size for file in folder.iterdir()) * 100 < 2e6


def test_a_log_that_cannot_be_kept_is_no_reason_to_fail(folder, monkeypatch):
    folder.write_text("a file where the folder should be")
    log.record("1.1", A, PASSED)
    assert log.read() == []
    monkeypatch.setenv(log.FOLDER, "")
    assert log.log_folder() is None
    log.record("1.1", A, PASSED)
    assert log.read() == []


def test_lines_of_several_kernels_do_not_mix(folder):
    code = "from concrete_steps.checking import log\nfor n in range(200): log.record('1.1', 'x' * 100, 'passed')"
    kernels = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert all(kernel.wait() == 0 for kernel in kernels)
    (file,) = folder.iterdir()
    lines = file.read_text().split("\n")[1:]
    assert len(lines) == 600 and all(json.loads(line)["r"] == PASSED for line in lines)


def test_only_a_person_at_a_notebook_is_recorded(folder):
    """pytest, the builder and nbgrader run checks as well."""
    from concrete_steps.checking.checks import CheckFailed, notebook_check

    with pytest.raises(CheckFailed):
        notebook_check("0", {})("logit_difference")
    assert not folder.exists()


# --- What saved notebooks say -------------------------------------------------------------------------------------


def saved(key: str, *panels: str) -> str:
    outputs = [{"output_type": "display_data", "data": {"text/plain": [panel]}, "metadata": {}} for panel in panels]
    cells = [{"cell_type": "code", "source": "", "outputs": outputs}, {"cell_type": "markdown", "source": ""}]
    return json.dumps({"metadata": {"concrete_steps": {"notebook": key}}, "cells": cells})


def test_saved_notebooks_count_whatever_they_are_called(tmp_path):
    (tmp_path / "1_prerequisites").mkdir()
    (tmp_path / "1_prerequisites" / "my copy (2).ipynb").write_text(saved("1.1", f"✓ {A}: passed\n  verified: it"))
    (tmp_path / "reset.ipynb").write_text(saved("1.1", f"✗ {B}: wrong\n  {C}: passed"))
    (tmp_path / "broken.ipynb").write_text("{")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "old.ipynb").write_text(saved("1.1", f"✓ {C}: passed"))
    seen = passed_in(tmp_path)
    assert seen == {"1.1": {A}}
    assert where_in("1.1", [], seen).passed == {A}
    assert where_in("1.1", [], {"9.9": {A}, "1.1": {"gone"}}).passed == set()


# --- Shown --------------------------------------------------------------------------------------------------------


def test_the_table_fits_eighty_columns_and_the_picture_says_the_same(tmp_path):
    console = Console(width=80, file=(tmp_path / "out").open("w"))
    everything = standing(COURSE, SLOW + FAST)
    console.print(table(everything, COURSE, {}))
    console.file.close()
    lines = (tmp_path / "out").read_text().splitlines()
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if "1.1 Tensors" in line)
    assert f"2/{len(FIRST.exercises)}" in row and "…" not in row
    picture = Picture(everything)
    assert "1.1 Tensors" in repr(picture)
    assert f"1.1 Tensors: 2 of {len(FIRST.exercises)} exercises" in picture._repr_html_()


# --- Shared and merged ---------------------------------------------------------------------------------------------


def test_what_is_shared_is_merged_into_the_maps_format(tmp_path):
    files = []
    for number, slow in enumerate((10, 20, 40)):
        everything = standing(COURSE, learner((0, "1.1"), (slow / 4, "1.1", A, PASSED)))
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(others.to_share(everything)))
    took = others.merged([*files, files[0]], COURSE)
    assert took[("1.1", A)] == others.Took(3.8, 5.0, 7.5, 3)
    assert ("1.1", "") not in took  # nobody was done with it
    entry = tomllib.loads(others.as_toml(took))["notebook"][0]
    assert entry == {"id": "1.1", A: {"minutes": [3.8, 5.0, 7.5], "people": 3}}
    (tmp_path / "hours.toml").write_text(others.as_toml(took))
    assert others.known(tmp_path / "hours.toml") == took
    assert [line.split(":")[0] for line in others.beyond_guess(took)] == [f"1.1 {A}"]  # guessed: 2 minutes


def test_only_counts_and_minutes_are_shared():
    shared = json.dumps(others.to_share(standing(COURSE, SLOW)))
    assert json.loads(shared)["notebooks"] == {"1.1": {"done": False, "minutes": 60.0, "exercises": {A: 60.0}}}
    assert "laptop" not in shared and str(START)[:5] not in shared


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"concrete_steps_minutes": 2, "notebooks": {}}',
        '{"concrete_steps_minutes": 1, "notebooks": {"1.1": {"done": true, "minutes": NaN, "exercises": {}}}}',
        '{"concrete_steps_minutes": 1, "notebooks": {"1.1": {"done": true, "minutes": 5, "exercises": {"a": -1}}}}',
        '{"concrete_steps_minutes": 1, "notebooks": {"1.1": {"done": true, "minutes": "5", "exercises": {}}}}',
    ],
)
def test_a_file_of_a_stranger_is_refused_in_one_sentence(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(CourseError, match=r"x\.json is no file of scripts/progress\.py --share"):
        others.merged([tmp_path / "x.json"], COURSE)


def test_every_exercise_has_a_guess():
    for notebook in COURSE.notebooks:
        assert set(others.guesses(notebook)) == set(notebook.exercises)
