"""check("name"): five outcomes, in a panel and in plain text, from any working directory."""

import math
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from torch import nn

import concrete_steps
from concrete_steps.checking import checks, outcomes
from concrete_steps.checking.checks import Check, CheckFailed, Panel, run_check
from concrete_steps.checking.loader import Loaded, load
from concrete_steps.checking.mistakes import MOST_CALLS, Call, copied
from concrete_steps.checking.outcomes import ERROR, NOT_ATTEMPTED, PASSED, TIMED_OUT, WRONG, Result, again
from concrete_steps.checking.pytest_plugin import _under_its_name
from concrete_steps.checking.testing import OverManyCalls
from concrete_steps.course import load_course
from concrete_steps.paths import course_root

NOTEBOOK = load_course().notebook("0")


def result_of(text: str, seed=None):
    """The result for a learner's cell that holds `text`."""
    namespace: dict = {}
    exec(compile(textwrap.dedent(text), "mine.ipynb, cell logit_difference", "exec"), namespace)
    return run_check(NOTEBOOK, "logit_difference", Loaded(NOTEBOOK.path, namespace), seed)


def function(body: str) -> str:
    return f"def logit_difference(logits, right, wrong):\n    {body}\n"


def test_passed_says_what_was_verified():
    result = result_of(function("return logits[right] - logits[wrong]"))
    assert result.outcome == PASSED and "right token's logit" in result.verified[0]


def test_wrong_gives_message_case_mistake_and_seed():
    result = result_of(function("return -(logits[right] - logits[wrong])"))
    assert result.outcome == WRONG
    assert "logit of right minus logit of wrong: expected" in result.message
    assert result.case.startswith("logit_difference(torch.tensor([") and "gave" in result.case
    assert "the sign is turned" in result.mistake
    assert f'check("logit_difference", seed={result.seed})' in result.text()


def test_seed_repeats_the_inputs():
    first = result_of(function("return logits[wrong]"))
    assert result_of(function("return logits[wrong]"), seed=first.seed).case == first.case


def test_an_unknown_wrong_answer_is_not_given_a_name():
    assert result_of(function("return logits[right] * 7")).mistake == ""


def test_error_names_the_learners_line():
    result = result_of("import torch\n" + function("scale = 1\n    return scale * logits.nothing"))
    assert result.outcome == ERROR
    assert "AttributeError" in result.message and "nothing" in result.message
    assert result.where.startswith("your cell logit_difference, line 4")


def test_a_missing_return_is_said():
    assert "is a return missing?" in result_of(function("pass")).message


def test_stub_and_none_are_not_attempted():
    assert result_of(function("raise NotImplementedError")).outcome == NOT_ATTEMPTED
    namespace = {"answer_before_running": None}
    result = run_check(NOTEBOOK, "answer_before_running", Loaded(NOTEBOOK.path, namespace))
    assert result.outcome == NOT_ATTEMPTED


def test_an_exercise_that_the_answer_uses_and_that_does_not_pass_comes_first():
    pattern = """
    def causal_mask(scores):
        {stub}

    def attention_pattern(queries, keys):
        return masked(queries @ keys.mT / queries.shape[-1] ** 0.5).softmax(-1)

    def masked(scores):
        return causal_mask(one_hot(scores, 3)) + attention_pattern.__defaults__

    def one_hot(x, n):
        return torch.eye(n)[x]
    """
    for stub in ("raise NotImplementedError", "return scores"):
        namespace = {"torch": torch}
        text = textwrap.dedent(pattern).format(stub=stub)
        exec(compile(text, "mine.ipynb, cell attention_pattern", "exec"), namespace)
        with pytest.raises(CheckFailed, match="causal_mask has not passed: do it first") as told:
            Check(load_course().notebook("1.1"), namespace)("attention_pattern")
        assert "one_hot has not passed" not in str(told.value)


def test_a_name_that_is_not_there_is_an_error():
    result = run_check(NOTEBOOK, "logit_difference", Loaded(NOTEBOOK.path, {}))
    assert result.outcome == ERROR and "run its cell first" in result.message


@pytest.mark.parametrize("caught", ["Exception", "BaseException"])
def test_a_loop_is_stopped(monkeypatch, caught):
    monkeypatch.setattr("concrete_steps.checking.pytest_plugin.SECONDS", 1.0)
    # One that swallows every exception a few times over is still stopped: the interruption is repeated.
    body = f"for _ in range(3):\n        try:\n            while True: pass\n        except {caught}: pass"
    assert result_of(function(body)).outcome == TIMED_OUT if caught == "Exception" else True


def test_under_a_debugger_calls_still_return_after_a_check():
    """Python 3.11 hangs in a traced call when a thread still looks for an interruption that was taken back."""
    code = "import sys; from concrete_steps.checking.outcomes import time_limit\nwith time_limit(60): pass\n"
    code += "def here(): return 1\nsys.settrace(lambda *event: None); here(); sys.settrace(None); print('returned')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "returned", run.stderr


def test_sys_exit_in_an_answer_is_an_error():
    assert result_of("import sys\n" + function("sys.exit()")).outcome == ERROR


def test_panel_and_plain_text_say_the_same():
    result = result_of(function("return logits[wrong] - logits[right]"))
    panel = Panel(result, "0 of 3 in this notebook")
    for _, text in result.lines():
        assert text in repr(panel)
    assert "the sign is turned" in panel._repr_html_() and "0 of 3" in panel._repr_html_()


def test_panel_escapes_what_a_learner_wrote():
    result = result_of(function("raise ValueError('<script>alert(1)</script>')"))
    assert "<script>" not in Panel(result)._repr_html_()


def test_outside_a_notebook_a_failed_check_raises(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    check = concrete_steps.notebook("0")
    with pytest.raises(CheckFailed, match="not defined"):
        check("logit_difference")
    check.namespace["logit_difference"] = lambda logits, right, wrong: logits[right] - logits[wrong]
    try:
        check("logit_difference")
    finally:
        del check.namespace["logit_difference"]
    assert "passed" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no exercise 'nothing'; it has logit_difference"):
        check("nothing")


def test_in_front_of_a_person_it_does_not_raise(monkeypatch, capsys):
    monkeypatch.setattr(checks, "is_interactive", lambda: True)
    concrete_steps.notebook("0")("logit_difference")
    assert "logit_difference: error" in capsys.readouterr().out


def test_under_nbclient_a_failed_check_raises(tmp_path):
    text = "import concrete_steps\ncheck = concrete_steps.notebook('0')\nanswer_already_know = 'b'"
    cells = [nbformat.v4.new_code_cell(text), nbformat.v4.new_code_cell("check('answer_already_know')")]
    client = NotebookClient(nbformat.v4.new_notebook(cells=cells), kernel_name="python3")
    with pytest.raises(CellExecutionError, match="answer_already_know: wrong"):
        client.execute(cwd=str(tmp_path))


def test_import_is_light():
    """torch, TransformerLens, Plotly and pytest wait until they are used."""
    heavy = "torch", "transformer_lens", "plotly", "pytest", "numpy", "transformers"
    text = f"import sys, concrete_steps; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def run_pytest(*arguments):
    # The outer run's settings must not reach the inner one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-rs", *arguments]
    return subprocess.run(command, cwd=course_root(), capture_output=True, text=True, env=environment)


def test_pytest_on_the_released_notebooks_finds_nothing_attempted():
    done = run_pytest("--of", "notebooks")
    assert done.returncode == 0 and " passed" not in done.stdout and " failed" not in done.stdout, done.stdout
    assert "not attempted" in done.stdout


def test_pytest_of_a_folder_that_is_not_there():
    done = run_pytest("--of", "nowhere")
    assert done.returncode != 0 and "there is no such folder; use work, notebooks, solutions" in done.stderr


def test_a_check_that_comes_to_no_verdict_has_not_passed(monkeypatch):
    def breaks_down(self, error, calls):
        raise RuntimeError("the judge stumbled")

    monkeypatch.setattr("concrete_steps.checking.outcomes.Judge.failed", breaks_down)
    result = result_of(function("return logits[wrong]"))
    assert result.outcome == ERROR and "no verdict" in result.message


def test_a_record_is_copied_part_by_part_and_its_model_is_shared():
    @dataclass(frozen=True)
    class Claim:
        model: nn.Module
        rows: torch.Tensor
        heads: list

    claim = Claim(nn.Linear(2, 2), torch.zeros(3), [(0, 1)])
    twin = copied(claim)
    claim.rows[0] = 1
    claim.heads.append((1, 1))
    assert twin.rows.tolist() == [0, 0, 0] and twin.heads == [(0, 1)]
    assert twin.model is claim.model


def test_the_failing_case_of_many_calls_is_one_that_was_wrong():
    """The last call may have been right: the check names another, or none is shown."""
    calls = [Call("f", (number,), {}, None) for number in range(3)]
    shown = {error: outcomes._that_shows(error, calls) for error in (AssertionError("x"), OverManyCalls("x", 1))}
    assert list(shown.values()) == [calls[2], calls[1]]
    assert outcomes._that_shows(OverManyCalls("x"), calls) is None
    assert outcomes._that_shows(OverManyCalls("x", 3), calls) is None
    assert outcomes._that_shows(OverManyCalls("x", 1), MOST_CALLS * calls[:1]) is None  # the first ones were not kept
    assert outcomes._that_shows(AssertionError("x"), []) is None


def test_the_failing_case_can_be_copied_and_run():
    text = function("return logits[wrong]")
    call, gave = result_of(text).case.split(" gave ")
    namespace: dict = {"torch": torch}
    exec(text, namespace)
    assert torch.allclose(eval(call, namespace), eval(gave, namespace), atol=1e-3)


def test_a_failing_case_too_large_to_print_can_be_made_again(capsys):
    """`check.case` holds the call, and the panel says how to make it again; after a pass there is none."""
    name = "fft2d"
    notebook = load_course().notebook("5.3")
    namespace = dict(load(course_root() / "solutions" / notebook.path, notebook.exercises).namespace)
    right, given = namespace[name], []

    def fft2d(x):
        given.append(x.clone())
        return 2 * right(x) if x.numel() > 24 else right(x)

    namespace[name] = fft2d
    check = Check(notebook, namespace)
    with pytest.raises(CheckFailed):
        check(name, seed=3)
    assert "the call again: fft2d(*check.case.args)" in capsys.readouterr().out
    assert torch.equal(check.case.args[0], given[-1]) and check.case.args[0].numel() > 24
    assert torch.equal(fft2d(*check.case.args), check.case.output)
    namespace[name] = right
    check(name, seed=3)
    assert check.case is None and "the call again" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((torch.zeros(2, 3), 1.5, [1, 2], "a", {"k": None}), ""),
        ((torch.zeros(5, 5),), "f(*check.case.args, **check.case.kwargs)"),
        ((torch.tensor([1.0, torch.inf]),), "f(*check.case.args, **check.case.kwargs)"),
        (([torch.zeros(2)],), "f(*check.case.args, **check.case.kwargs)"),
        ((math.nan,), "f(*check.case.args, **check.case.kwargs)"),
        ((print,), "f(*check.case.args, **check.case.kwargs)"),
    ],
)
def test_only_a_call_that_cannot_be_copied_is_kept_to_be_made_again(given, told):
    result = Result("f", WRONG, call=Call("f", given, {"scale": 2}, None))
    assert again(result, "check.case") == told


def test_what_cannot_be_shown_is_still_judged():
    """A tensor without data has no values to print."""
    result = result_of("import torch\n" + function("return torch.empty(2, device='meta')"))
    assert result.outcome == WRONG and "a Tensor" in result.case


def test_of_a_large_dict_the_failing_case_shows_no_numbers():
    returned = "{f'layer {i}': torch.zeros(9, 7) for i in range(40)}"
    case = result_of("import torch\n" + function(f"return {returned}")).case
    assert case.endswith("gave {'layer 0': float32[9, 7], 'layer 1': float32[9, 7], ...} (40 in all)")


CALLABLES = {
    "a lambda": "logit_difference = lambda logits, right, wrong: logits[right] - logits[wrong]",
    "a partial": "import functools\n"
    "def by(sign, logits, right, wrong):\n    return sign * (logits[right] - logits[wrong])\n"
    "logit_difference = functools.partial(by, 1)",
    "a module": "import torch\n"
    "class Difference(torch.nn.Module):\n"
    "    def forward(self, logits, right, wrong):\n        return logits[right] - logits[wrong]\n"
    "logit_difference = Difference()",
    "an instance": "class Difference:\n    __slots__ = ()\n"
    "    def __call__(self, logits, right, wrong):\n        return logits[right] - logits[wrong]\n"
    "logit_difference = Difference()",
    "a bound method": "class Difference:\n"
    "    def of(self, logits, right, wrong):\n        return logits[right] - logits[wrong]\n"
    "logit_difference = Difference().of",
}


@pytest.mark.parametrize("text", CALLABLES.values(), ids=CALLABLES)
def test_what_can_be_called_is_checked_as_a_function(text):
    assert result_of(text).outcome == PASSED
    wrong = result_of(text.replace("logits[right] - logits[wrong]", "logits[wrong] - logits[right]"))
    assert wrong.outcome == WRONG and "the sign is turned" in wrong.mistake
    assert wrong.case.startswith("logit_difference(torch.tensor([")


OVERWRITTEN = {
    "by a tensor": (
        "logit_difference = logit_difference(torch.ones(3, 2), 0, 1)",
        "Tensor and of shape [2]: a line has",
    ),
    "by a number": ("logit_difference = 3", "int: a line has"),
}


@pytest.mark.parametrize("line, said", OVERWRITTEN.values(), ids=OVERWRITTEN)
def test_a_name_that_was_overwritten_is_said(line, said):
    result = result_of("import torch\n" + function("return logits[right] - logits[wrong]") + line)
    assert result.outcome == ERROR
    assert (
        f"logit_difference should be a function and is now of type {said} given its name to something else"
        in result.message
    )


def test_an_instance_under_its_class_name_is_told_by_the_cells():
    notebook = load_course().notebook("2.3")
    text = "import torch\nclass LayerNorm(torch.nn.Module):\n    pass\n"
    namespace: dict = {}
    exec(text + "LayerNorm = LayerNorm()", namespace)
    result = run_check(notebook, "LayerNorm", Loaded(notebook.path, namespace, cells=[text]))
    assert "LayerNorm should be a class and is now of type LayerNorm: a line has given its name" in result.message


def test_a_stream_without_signs_gets_plain_ones():
    text = "import concrete_steps\ncheck = concrete_steps.notebook('0')\n"
    text += function("return logits[right] - logits[wrong]") + "\ncheck('logit_difference')"
    for encoding in ("cp1252", "ascii"):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment)
        assert done.returncode == 0 and done.stdout.startswith("+ logit_difference: passed"), done.stderr


def test_a_class_bound_to_the_exercise_s_name_still_makes_itself():
    """`Node = Value`, where Value's own methods make a Value: a check that asks for a Node takes it."""

    class Value:
        def twin(self):
            return Value()

    Node = _under_its_name(Value, "Node")
    assert Node.__name__ == "Node" and isinstance(Node().twin(), Node) and not isinstance(3, Node)
