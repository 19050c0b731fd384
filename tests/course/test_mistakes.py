"""Every written wrong answer is rejected, and the learner is told which it is."""

import inspect
from functools import cache

import pytest
import torch

from concrete_steps.checking.checks import run_check
from concrete_steps.checking.loader import Loaded, load
from concrete_steps.checking.mistakes import Call, Mistake, mistakes_of, recognise, record, right_answers_of, same
from concrete_steps.checking.outcomes import ERROR, PASSED, TIMED_OUT, WRONG
from concrete_steps.course import load_course
from concrete_steps.paths import course_root

CASES = [
    (notebook, mistake)
    for notebook in load_course().notebooks
    for mistakes in mistakes_of(notebook).values()
    for mistake in mistakes
]


RIGHT = [
    (notebook, answer)
    for notebook in load_course().notebooks
    for answers in right_answers_of(notebook).values()
    for answer in answers
]


@cache
def solved(notebook) -> Loaded:
    return load(course_root() / "solutions" / notebook.path, notebook.exercises)


@pytest.mark.parametrize(
    ("notebook", "mistake"), CASES, ids=[f"{n.id}-{m.exercise}-{m.sentence[:40]}" for n, m in CASES]
)
def test_mistake_is_rejected_and_named(notebook, mistake):
    loaded = solved(notebook)
    right = loaded.namespace[mistake.exercise]
    answer = mistake.answer(right)
    result = run_check(notebook, mistake.exercise, Loaded(loaded.path, {**loaded.namespace, mistake.exercise: answer}))
    assert result.outcome in (WRONG, ERROR, TIMED_OUT), f"the check accepts: {mistake.sentence}"
    told = result.message if inspect.isclass(right) else result.mistake
    assert mistake.sentence in told, f"rejected, but not named; the learner reads:\n{result.text()}"


@pytest.mark.parametrize(
    ("notebook", "answer"), RIGHT, ids=[f"{n.id}-{a.exercise}-{a.sentence[:40]}" for n, a in RIGHT]
)
def test_right_answer_in_another_style_passes(notebook, answer):
    loaded = solved(notebook)
    given = answer.answer(loaded.namespace[answer.exercise])
    result = run_check(notebook, answer.exercise, Loaded(loaded.path, {**loaded.namespace, answer.exercise: given}))
    assert result.outcome == PASSED, f"refused though right: {answer.sentence}\n{result.text()}"


def calls_of(function, *inputs):
    calls: list[Call] = []
    recorded = record(function, calls)
    for given in inputs:
        recorded(*given)
    return calls


def total(x):
    return x.sum()


def mean(x):
    return x.mean()


SUM, MEAN = Mistake("f", "sums", total), Mistake("f", "means", mean)


def test_recognised_by_what_it_does_not_by_its_name():
    def f(x):
        return x.cumsum(0)[-1]

    assert recognise(f, calls_of(f, (torch.tensor([1.0, 2.0]),)), [MEAN, SUM]) == "sums"


def test_nothing_is_guessed():
    def f(x):
        return x.prod()

    assert recognise(f, calls_of(f, (torch.tensor([3.0, 2.0]),)), [MEAN, SUM]) is None
    assert recognise(f, [], [MEAN, SUM]) is None


def test_one_call_that_differs_is_enough_to_rule_a_mistake_out():
    def f(x):
        return x.sum() if len(x) == 1 else x.prod()

    calls = calls_of(f, (torch.tensor([3.0]),), (torch.tensor([3.0, 4.0]),))
    assert recognise(f, calls, [SUM]) is None


def test_two_mistakes_that_cannot_be_told_apart_are_both_named():
    def f(x):
        return x[0]

    assert recognise(f, calls_of(f, (torch.tensor([3.0]),)), [MEAN, SUM]) == "means; or: sums"


def test_a_change_in_place_is_part_of_what_a_function_does():
    def f(x):
        x += 1
        return x

    def pure(x):
        return x + 1

    calls = calls_of(f, (torch.tensor([3.0]),))
    assert recognise(f, calls, [Mistake("f", "pure", pure)]) is None
    assert recognise(f, calls, [Mistake("f", "in place", f)]) == "in place"


def test_random_functions_replay_with_the_same_random_state():
    def f(x):
        return x + torch.rand(3)

    def g(x):
        return x + torch.rand(3)

    state = torch.get_rng_state()
    assert recognise(f, calls_of(f, (torch.zeros(3),)), [Mistake("f", "adds noise", g)]) == "adds noise"
    assert not torch.equal(state, torch.get_rng_state()), "the learner's call itself draws from the generator"


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (torch.tensor([1.0]), torch.tensor([1.0 + 1e-7]), True),
        (torch.tensor([1.0]), torch.tensor([[1.0]]), False),
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), True),
        (torch.tensor([1, 2]), [1, 2], False),
        ((1, [2.0, 3.0]), (1, [2.0, 3.0 + 1e-9]), True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ("b", "c", False),
    ],
)
def test_same(a, b, equal):
    assert same(a, b) is equal
