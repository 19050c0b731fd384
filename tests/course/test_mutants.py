"""Mutants are what they say, and a name given to one is judged by what it does."""

import ast
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from concrete_steps.authoring.mutants import ANY, Names, assigned_by, changes_of, known_equivalents, mutants_of
from concrete_steps.authoring.source import exercise_cells, read_source
from concrete_steps.checking import pytest_plugin
from concrete_steps.checking.loader import Loaded
from concrete_steps.checking.mistakes import Mistake
from concrete_steps.checking.outcomes import WRONG, Result
from concrete_steps.course import load_course

CHECKS = """
import torch
from torch import nn

def test_step(step, rng):
    model = nn.Linear(3, 1)
    loss = step(model, torch.optim.SGD(model.parameters(), lr=0.1), rng.normal(5, 3))
    assert loss > 0

def test_scaled(scaled, rng):
    x = rng.normal(4)
    assert torch.equal(scaled(x), 2 * x), "does not double"

def test_never(never):
    assert never.__name__ == "never", "is called otherwise"
"""


def step(model, optimizer, x):
    optimizer.zero_grad()
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
    return loss.item()


def scaled(x):
    return 2 * x


def never(x):
    return x


def without_zero_grad(model, optimizer, x):
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
    return loss.item()


def ascends(model, optimizer, x):
    optimizer.zero_grad()
    loss = model(x).square().mean()
    (-loss).backward()
    optimizer.step()
    return loss.item()


def descends_otherwise(model, optimizer, x):
    for parameter in model.parameters():
        parameter.grad = None
    loss = (model(x) ** 2).mean()
    (loss * -1).backward()
    optimizer.step()
    return loss.item()


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The judge of names for one exercise of a course whose only notebook has the three above."""
    checks, solved = tmp_path / "tests" / "test_small.py", {"step": step, "scaled": scaled, "never": never}
    checks.parent.mkdir()
    checks.write_text(CHECKS)
    notebook = SimpleNamespace(
        id="9.1", name="small", checks=checks, mistakes=tmp_path / "no.py", exercises=tuple(solved), needs=()
    )
    monkeypatch.setattr(pytest_plugin, "course_root", lambda: tmp_path)
    monkeypatch.setattr(pytest_plugin, "load_course", lambda: SimpleNamespace(notebook=lambda _: notebook))
    torch.manual_seed(0)
    return lambda exercise: Names(notebook, exercise, Loaded(checks, solved))


def test_a_name_is_true_where_the_mutant_trains_the_model_as_the_mistake_does(names):
    assert names("step").is_true(descends_otherwise, Mistake("step", "climbs", ascends))


def test_a_name_is_false_where_only_the_returned_loss_is_the_same(names):
    assert not names("step").is_true(step, Mistake("step", "climbs", ascends))


def test_judging_a_name_trains_no_model_of_the_checks(names):
    judge = names("step")
    models = [call.args[0] for call in judge._inputs()]
    assert models and all(isinstance(model, nn.Linear) for model in models)
    before = [model.weight.clone() for model in models]
    judge.is_true(without_zero_grad, Mistake("step", "climbs", ascends))
    assert all(torch.equal(model.weight, weight) for model, weight in zip(models, before, strict=True))


@pytest.mark.parametrize(("factor", "true"), [(3, True), (2, False), (-3, False)])
def test_a_name_is_true_of_a_plain_function_where_values_are_the_same(names, factor, true):
    assert names("scaled").is_true(lambda x: factor * x, Mistake("scaled", "trebles", lambda x: x + x + x)) == true


def test_what_a_check_asserts_is_no_name(names):
    judge = names("scaled")
    assert not judge.given(Result("scaled", WRONG, message="does not double"))


def test_nothing_is_recognised_in_a_function_that_no_check_calls(names):
    assert not names("never").is_true(never, Mistake("never", "has no name", never))


def test_mutants_change_one_thing_and_compile():
    found = mutants_of("f", "def f(x, y):\n    return (x + 1).sum(0) - y\n")
    changes = {mutant.change for mutant in found}
    assert {"Add -> Sub", "1 -> 2", "sum -> mean", "x -> y", "drop .sum()"} <= changes
    assert len({mutant.source for mutant in found}) == len(found)
    for mutant in found:
        compile(mutant.source, "mutant", "exec")
        assert mutant.diff.count("\n+") == 1


def test_equivalents_are_read_from_comments_beside_the_checks(tmp_path):
    checks = tmp_path / "test_x.py"
    checks.write_text(
        "# equivalent mutant of one_hot, drop .float(): any number type\n"
        "# equivalent mutant of one_hot, drop tensor(...) (3x): so it does: always\n"
    )
    assert known_equivalents(checks) == {("one_hot", "drop .float()"): 1, ("one_hot", "drop tensor(...)"): 3}


@pytest.mark.parametrize("notebook", load_course().notebooks, ids=lambda notebook: notebook.id)
def test_every_known_equivalent_is_a_mutant(notebook):
    """A reason that outlives its solution would excuse the next one."""
    cells = exercise_cells(read_source(notebook.source, notebook.exercises))
    known = known_equivalents(notebook.checks)
    assert {exercise for exercise, _ in known} <= set(notebook.exercises)
    found = Counter((name, change) for name in cells for _, change, _ in changes_of(ast.parse(cells[name].text)))
    unfounded = {key: found[key] for key, places in known.items() if key[1] != ANY and found[key] < places}
    assert not unfounded, f"how many mutants there are of what is excused: {unfounded}"


def test_a_cells_own_names_are_those_that_it_assigns():
    text = "answer = None\npairs = torch.arange(3)\ndef helper(x):\n    inner = x\nanswer = helper(pairs)\n"
    assert assigned_by(text) == {"answer", "pairs", "helper"}
