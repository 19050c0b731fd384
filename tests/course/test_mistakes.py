"""Every written wrong answer is rejected, and the learner is told which it is."""

import contextlib
import math
import textwrap
from collections import namedtuple
from dataclasses import make_dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from concrete_steps.checking import outcomes
from concrete_steps.checking.checks import run_check
from concrete_steps.checking.further import Further
from concrete_steps.checking.loader import Loaded, load
from concrete_steps.checking.mistakes import MOST_CALLS, Call, Mistake, mistakes_of, record, right_answers_of, same
from concrete_steps.checking.outcomes import ERROR, PASSED, TIMED_OUT, WRONG
from concrete_steps.checking.recognition import alike, recognise
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


# A change is judged on one draw of inputs, always the same; `scripts/mutate.py --seeds` measures what luck does.
SEED = 0


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Whether a mistake is recognised is asked here, not how quickly on a busy machine."""
    monkeypatch.setattr(outcomes, "SECONDS_TO_RECOGNISE", 60.0)


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
    given = Loaded(loaded.path, {**loaded.namespace, mistake.exercise: answer})
    result = run_check(notebook, mistake.exercise, given, SEED)
    assert result.outcome in (WRONG, ERROR, TIMED_OUT), f"the check accepts: {mistake.sentence}"
    # Of a class, and where it is not values that are wrong, the check's own message says it.
    said = result.mistake == mistake.sentence or mistake.sentence in result.message
    assert said, f"rejected, but not named; the learner reads:\n{result.text()}"


@pytest.mark.parametrize(
    ("notebook", "answer"), RIGHT, ids=[f"{n.id}-{a.exercise}-{a.sentence[:40]}" for n, a in RIGHT]
)
def test_right_answer_in_another_style_passes(notebook, answer):
    loaded = solved(notebook)
    given = answer.answer(loaded.namespace[answer.exercise])
    result = run_check(
        notebook, answer.exercise, Loaded(loaded.path, {**loaded.namespace, answer.exercise: given}), SEED
    )
    assert result.outcome == PASSED, f"refused though right: {answer.sentence}\n{result.text()}"


# --- What is said of answers that nobody listed: each is a slip that was once given another slip's name.


def check_of(key: str, exercise: str, text: str, seed: int = 3):
    """The result for the solution's objects with a learner's cell `text` after them."""
    loaded = solved(load_course().notebook(key))
    namespace = dict(loaded.namespace)
    exec(compile(textwrap.dedent(text), f"mine.ipynb, cell {exercise}", "exec"), namespace)
    return run_check(load_course().notebook(key), exercise, Loaded(loaded.path, namespace), seed)


UNLISTED = {
    "detached": (
        "1.1",
        "masked_mean",
        """
        def masked_mean(x, mask):
            return x.masked_fill(~mask, 0).detach().sum(-1) / mask.sum(-1)
        """,
    ),
    "float32": (
        "5.3",
        "predict_from_trig",
        """
        right = predict_from_trig
        def predict_from_trig(p, amplitudes):
            return right(p, amplitudes).float()
        """,
    ),
    "r inverted": (
        "5.2",
        "phase_change",
        """
        right = phase_change
        def phase_change(W, p, r):
            return right(W, p, 1 / r)
        """,
    ),
    "squeezed": (
        "3.2",
        "current_token_score",
        """
        right = current_token_score
        def current_token_score(*given):
            return right(*given).squeeze()
        """,
    ),
    "numpy's integers": (
        "5.2",
        "find_geometry",
        """
        import numpy as np
        right = find_geometry
        def find_geometry(W):
            return [(np.int64(features), np.int64(dimensions)) for features, dimensions in right(W)]
        """,
    ),
}


@pytest.mark.parametrize(("key", "exercise", "text"), UNLISTED.values(), ids=UNLISTED)
@pytest.mark.parametrize("seed", [3, 4])
def test_an_unlisted_slip_gets_no_name(key, exercise, text, seed):
    result = check_of(key, exercise, text, seed)
    assert result.outcome == WRONG, result.text()
    assert not result.mistake, result.text()


def test_a_crash_on_every_input_is_not_a_slip_that_crashes_on_some():
    """Inputs behind the one that crashes are met, too: there the listed slip gives windows."""
    result = check_of(
        "1.1",
        "sliding_windows",
        """
        def sliding_windows(tokens, size):
            starts = torch.arange(tokens.shape[1] + size + 1)
            return tokens[:, starts[:, None] + torch.arange(size)]
        """,
    )
    assert result.outcome == ERROR and "IndexError" in result.message, result.text()
    assert not result.mistake, result.text()


MESSAGES = {
    "a mask that hides the query's own key, by -inf": (
        "1.1",
        "attention_pattern",
        """
        def attention_pattern(q, k, n_heads, n_kv_heads):
            keys = split_heads(k, n_kv_heads, n_heads // n_kv_heads)
            scores = attention_scores(split_heads(q, n_heads), keys)
            return scores.masked_fill(torch.ones_like(scores).triu().bool(), -torch.inf).softmax(-1)
        """,
        "where a query has no key left (its own stays)",
    ),
    "a mask that hides the query's own key, by -1e9": (
        "1.1",
        "attention_pattern",
        """
        def attention_pattern(q, k, n_heads, n_kv_heads):
            keys = split_heads(k, n_kv_heads, n_heads // n_kv_heads)
            scores = attention_scores(split_heads(q, n_heads), keys)
            return scores.masked_fill(torch.ones_like(scores).triu().bool(), -1e9).softmax(-1)
        """,
        "gives its own key no weight",
    ),
    "a block composed in a way of its own": (
        "2.3",
        "TransformerBlock",
        """
        class TransformerBlock(TransformerBlock):
            def forward(self, x):
                return self.ln1(x) + self.mlp(self.ln2(x + self.attn(x)))
        """,
        "attn does not read what ln1 gives",
    ),
    "a module for a parameter": (
        "2.3",
        "Embed",
        """
        class Embed(nn.Module):
            def __init__(self, cfg):
                super().__init__()
                self.W_E = nn.Embedding(cfg.d_vocab, cfg.d_model)
        """,
        "what stands there is a module (Embedding)",
    ),
    "popped keys": (
        "2.3",
        "load_gpt2_weights",
        """
        right = load_gpt2_weights
        def load_gpt2_weights(theirs, cfg):
            made = right(theirs, cfg)
            theirs.pop("lm_head.weight")
            return made
        """,
        "changes the dict that it was given",
    ),
    "layers of a fixed number": (
        "2.3",
        "GPT2",
        """
        class GPT2(GPT2):
            def __init__(self, cfg):
                super().__init__(cfg)
                self.blocks = nn.ModuleList(TransformerBlock(cfg) for _ in range(12))
        """,
        "makes 12 blocks where cfg.n_layers is",
    ),
}


@pytest.mark.parametrize(("key", "exercise", "text", "told"), MESSAGES.values(), ids=MESSAGES)
def test_the_message_says_what_is_wrong(key, exercise, text, told):
    result = check_of(key, exercise, text)
    assert result.outcome == WRONG and told in result.message, result.text()
    # A name is none, or the one that is true: the popped keys are a written mistake, too.
    assert result.mistake in ("", "takes entries out of the state dict that it was given: it should stay as it is")
    assert not result.mistake or exercise == "load_gpt2_weights", result.text()
    assert len(result.message) < 400


def test_a_listed_slip_written_another_way_gets_its_name():
    """The unlisted ones get none for what they are, not because nothing is named."""
    result = check_of(
        "1.1",
        "masked_mean",
        """
        def masked_mean(values, real):
            return torch.stack([(v * r).sum() / r.sum() for v, r in zip(values, real)])
        """,
    )
    assert "multiplies by the mask" in result.mistake, result.text()


def test_a_mistake_is_not_named_for_a_failure_that_it_does_not_have(monkeypatch):
    """The check is run on the mistake, too: where that passes or fails in other words, nothing is named."""
    text = "def logit_difference(logits, right, wrong):\n    return logits[wrong] - logits[right]"
    assert "the sign is turned" in check_of("0", "logit_difference", text).mistake
    monkeypatch.setattr("concrete_steps.checking.outcomes.Judge._fails_alike", lambda *_: False)
    assert not check_of("0", "logit_difference", text).mistake


def test_recognition_gives_up_when_time_is_up(monkeypatch):
    text = "def logit_difference(logits, right, wrong):\n    return logits[wrong] - logits[right]"
    monkeypatch.setattr("concrete_steps.checking.outcomes.SECONDS_TO_RECOGNISE", 0.2)

    def for_ever(self):
        while True:
            yield from ()
            math.sqrt(2)

    monkeypatch.setattr("concrete_steps.checking.further.Further.calls", for_ever)
    result = check_of("0", "logit_difference", text)
    assert result.outcome == WRONG and result.message and not result.mistake


def test_recognition_prints_nothing_and_leaves_the_random_state(capsys):
    text = """
    def logit_difference(logits, right, wrong):
        print("called")
        return logits[wrong] - logits[right]
    """
    torch.manual_seed(5)
    result = check_of("0", "logit_difference", text)
    after, printed = torch.get_rng_state(), capsys.readouterr().out.count("called")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("concrete_steps.checking.outcomes.Judge._recognise", lambda *_: "")
        torch.manual_seed(5)
        check_of("0", "logit_difference", text)
    assert "the sign is turned" in result.mistake
    assert printed == capsys.readouterr().out.count("called") > 0 and torch.equal(after, torch.get_rng_state())


# --- Recognition by itself


def calls_of(function, *inputs):
    calls: list[Call] = []
    recorded = record(function, calls)
    for given in inputs:
        with contextlib.suppress(ValueError):
            recorded(*given)
    return calls


def name_of(function, candidates, *inputs, further=None):
    """The sentence told for `function`, with these inputs in the failing check and `further` ones after it."""
    found = recognise(function, calls_of(function, *inputs), candidates, calls_of(function, *(further or inputs)))
    return found.sentence if found else None


def total(x):
    return x.sum()


def mean(x):
    return x.mean()


SUM, MEAN = Mistake("f", "sums", total), Mistake("f", "means", mean)
ONE, TWO = (torch.tensor([3.0]),), (torch.tensor([1.0, 2.0]),)


def test_the_newest_call_is_kept_however_many_there_were():
    """It is the one that failed, and that the learner is shown."""
    calls: list[Call] = []
    helper, recorded = record(abs, calls), record(total, calls, "f")
    for count in range(MOST_CALLS + 5):
        helper(-1)
        recorded(torch.ones(count))
    assert len(calls) == MOST_CALLS
    assert [len(call.args[0]) for call in calls if call.name == "f"][-1] == MOST_CALLS + 4
    assert [len(call.args[0]) for call in calls if call.name == "f"][:3] == [0, 1, 2]


def test_recognised_by_what_it_does_not_by_its_name():
    def f(x):
        return x.cumsum(0)[-1]

    assert name_of(f, [MEAN, SUM], TWO) == "sums"


def test_nothing_is_guessed():
    def f(x):
        return x.prod()

    assert name_of(f, [MEAN, SUM], (torch.tensor([3.0, 2.0]),)) is None
    assert recognise(f, [], [MEAN, SUM], calls_of(total, ONE)) is None
    assert recognise(total, calls_of(total, TWO), [SUM], []) is None, "without a further call there is no name"


def test_one_call_that_differs_is_enough_to_rule_a_mistake_out():
    def f(x):
        return x.sum() if len(x) == 1 else x.prod()

    assert name_of(f, [SUM], ONE, (torch.tensor([3.0, 4.0]),)) is None
    assert name_of(f, [SUM], ONE, further=[(torch.tensor([3.0, 4.0]),)]) is None


def test_of_two_mistakes_that_cannot_be_told_apart_none_is_named():
    def f(x):
        return x[0]

    assert name_of(f, [MEAN, SUM], ONE) is None
    assert name_of(total, [MEAN, SUM], ONE, further=[TWO]) == "sums", "a further call can tell them apart"


def test_one_sentence_for_two_ways_to_make_a_mistake():
    assert name_of(total, [SUM, Mistake("f", "sums", lambda x: x.mean() * len(x))], TWO) == "sums"


@pytest.mark.parametrize(
    "other",
    [
        lambda x: x.sum().double(),
        lambda x: x.sum().item(),
        lambda x: x.sum().numpy(),
        lambda x: x.sum()[None],
        lambda x: (x.sum(),),
        lambda x: x.sum() * 1.001,
    ],
    ids=["dtype", "number", "numpy", "shape", "tuple", "value"],
)
def test_a_mistake_of_another_type_dtype_or_shape_is_none_of_ours(other):
    assert name_of(other, [SUM], TWO) is None


def test_gradients_tell_two_functions_of_the_same_values_apart():
    def detached(x):
        return x.detach().sum()

    def straight_through(x):
        return (3 * x - 2 * x.detach()).sum()

    wants_gradient = (torch.tensor([1.0, 2.0], requires_grad=True),)
    for function in (detached, straight_through):
        assert name_of(function, [SUM], TWO) == "sums", "where nobody asks for a gradient, they are the same"
        assert name_of(function, [SUM], TWO, further=[wants_gradient]) is None
    assert name_of(lambda x: x.cumsum(0)[-1], [SUM], TWO, further=[wants_gradient]) == "sums"


def test_errors_must_be_the_very_same():
    def f(x):
        raise ValueError(f"{len(x)} entries are too many")

    def same_error(x):
        raise ValueError(f"{len(x)} entries are too many")

    def other_error(x):
        raise ValueError(f"{len(x)} entries are too few")

    assert name_of(f, [Mistake("f", "cannot count", same_error)], TWO) == "cannot count"
    assert name_of(f, [Mistake("f", "cannot count", other_error), SUM], TWO) is None
    assert name_of(total, [Mistake("f", "cannot count", f)], TWO) is None


def test_letters_are_compared_exactly():
    def letter(value):
        return Mistake("answer", f"chose {value}", lambda: value)

    options = [letter("a"), letter("c")]
    assert recognise("c", [], options, []).sentence == "chose c"
    assert recognise("C", [], options, []) is None
    assert recognise(1, [], [letter(True), letter(1.0)], []) is None


def test_a_change_in_place_is_part_of_what_a_function_does():
    def f(x):
        x += 1
        return x

    def pure(x):
        return x + 1

    assert name_of(f, [Mistake("f", "pure", pure)], ONE) is None
    assert name_of(f, [Mistake("f", "in place", f)], ONE) == "in place"


def test_random_functions_replay_with_the_same_random_state():
    def f(x):
        return x + torch.rand(3)

    def g(x):
        return x + torch.rand(3)

    state = torch.get_rng_state()
    assert name_of(f, [Mistake("f", "adds noise", g)], (torch.zeros(3),)) == "adds noise"
    assert not torch.equal(state, torch.get_rng_state()), "the learner's call itself draws from the generator"


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (torch.tensor([1.0]), torch.tensor([1.0 + 1e-7]), True),
        (torch.tensor([1e-7]), torch.tensor([8e-7]), False),
        (torch.tensor([1.0, 1e-9]), torch.tensor([1.0, 0.0]), True),
        (torch.tensor([math.inf, math.nan]), torch.tensor([math.inf, math.nan]), True),
        (torch.tensor([1]), torch.tensor([True]), False),
        (torch.tensor([1.0], requires_grad=True), torch.tensor([1.0]), False),
        (np.int64(3), 3, False),
        (np.array([1.0, 2.0]), np.array([1.0, 2.0]), True),
        (True, 1, False),
        (1, 1.0, False),
        ((1, 2), [1, 2], False),
        ({"a": 1.0}, {"a": 1.0 + 1e-9}, True),
        (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2), False),
        (torch.Generator().manual_seed(1), torch.Generator().manual_seed(1), True),
        (object(), object(), False),
        # records that two modules define: by name and fields
        (namedtuple("Probe", "w b")(1.0, 2.0), namedtuple("Probe", "w b")(1.0, 2.0), True),
        (namedtuple("Probe", "w b")(1.0, 2.0), namedtuple("Probe", "w b")(1.0, 3.0), False),
        (namedtuple("Probe", "w b")(1.0, 2.0), namedtuple("Probe", "b w")(1.0, 2.0), False),
        (namedtuple("Probe", "w b")(1.0, 2.0), namedtuple("Lens", "w b")(1.0, 2.0), False),
        (namedtuple("Probe", "w b")(1.0, 2.0), (1.0, 2.0), False),
        (make_dataclass("Run", ["x"])(1.0), make_dataclass("Run", ["x"])(1.0), True),
        (make_dataclass("Run", ["x"])(1.0), make_dataclass("Run", ["x"])(2.0), False),
        (make_dataclass("Run", ["x"])(1.0), make_dataclass("Run", ["y"])(1.0), False),
        (nn.Linear(1, 1), nn.Linear(1, 1), False),  # other random weights
    ],
)
def test_alike(a, b, equal):
    assert alike(a, b) is equal


# --- Further calls


def test_further_calls_meet_every_input_of_every_check(tmp_path):
    """Assertions do not end them; other seeds, noise, and the calls of all checks of the exercise, and of no other."""
    checks = tmp_path / "checks.py"
    text = """
    from concrete_steps.checking.testing import assert_close, assert_tensor

    def test_f(f, rng):
        for n in (1, 2, 3):
            x = rng.normal(n)
            assert_close(assert_tensor(f(x)), x, "not x")
            assert f(x).shape == (9,), "not nine"
            if f(x)[0] != 0:
                raise AssertionError("not 0")

    def test_f__whole(f):
        f(7)

    def test_f__other(f, something):
        f("not to be had")

    def test_g(f):
        f("of another exercise")
    """
    checks.write_text(textwrap.dedent(text), encoding="utf-8")
    calls = list(Further(checks, "f", {"f": lambda x: x}, {}, 30.0, seeds=(1, 2)).calls())
    given = [call.args[0] for call in calls]
    assert {len(x) for x in given if isinstance(x, torch.Tensor)} == {1, 2, 3}
    assert [x for x in given if not isinstance(x, torch.Tensor)] == [7, 7]
    first = {x.item() for x in given if isinstance(x, torch.Tensor) and len(x) == 1}
    assert len(first) > 2, "two seeds, and noise"


def test_however_slow_a_few_further_calls_are_made():
    """One call can be the very first case again, which says nothing new."""
    notebook = load_course().notebook("1.1")
    namespace = solved(notebook).namespace
    calls = list(Further(notebook.checks, "masked_mean", namespace, {}, 0.0).calls())
    assert 4 <= len({str(call.args) for call in calls}) <= 40
    assert len(list(Further(notebook.checks, "masked_mean", namespace, {}, 30.0).calls())) > len(calls)


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
