"""What cells and answers set for the whole process changes no verdict, and a check gives everything back."""

import random
import warnings

import numpy as np
import pytest
import torch

from concrete_steps.checking.checks import run_check
from concrete_steps.checking.loader import Loaded
from concrete_steps.checking.outcomes import PASSED
from concrete_steps.checking.state import clean_state
from concrete_steps.course import load_course

NOTEBOOK = load_course().notebook("0")


def everything() -> dict:
    """The settings that a check must give back."""
    return {
        "gradients": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device().type,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "threads": torch.get_num_threads(),
        "precision": torch.get_float32_matmul_precision(),
        "seed": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),
        "errors": np.geterr(),
        "random": random.getstate(),
        "warnings": list(warnings.filters),
        "compile": torch.compile,
    }


def change_everything() -> None:
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.autograd.set_detect_anomaly(True)
    torch.set_num_threads(2 if torch.get_num_threads() != 2 else 1)
    torch.set_float32_matmul_precision("medium")
    torch.manual_seed(1234)
    np.random.seed(1234)
    np.seterr(all="raise")
    random.seed(1234)
    warnings.simplefilter("error")


@pytest.fixture
def scratch_state():
    """Whatever a test sets is taken back."""
    with clean_state():
        yield


def test_what_a_block_changes_is_given_back(scratch_state):
    before = everything()
    with clean_state():
        change_everything()
        assert all(everything()[name] != value for name, value in before.items() if name != "compile")
    assert everything() == before


def test_a_block_starts_clean_and_gives_a_strange_state_back(scratch_state):
    change_everything()
    before = everything()
    with clean_state():
        assert torch.is_grad_enabled() and torch.zeros(1).dtype == torch.float32 and torch.zeros(1).device.type == "cpu"
        assert np.geterr()["over"] == "warn"
        warnings.warn("nobody is disturbed", stacklevel=1)
        torch.rand(3)
    assert everything() == before


def test_a_block_inside_inference_mode_and_a_device(scratch_state):
    with torch.inference_mode(), torch.device("meta"):
        with clean_state():
            assert torch.zeros(1, requires_grad=True).exp().requires_grad and torch.zeros(1).device.type == "cpu"
        assert torch.is_inference_mode_enabled() and torch.zeros(1).device.type == "meta"


ANSWER = "import torch\ndef logit_difference(logits, right, wrong):\n    return logits[right] - logits[wrong]\n"


def outcome(text: str) -> str:
    namespace: dict = {}
    exec(text, namespace)
    return run_check(NOTEBOOK, "logit_difference", Loaded(NOTEBOOK.path, namespace)).outcome


def test_a_check_in_a_kernel_of_strange_state(scratch_state):
    change_everything()
    before = everything()
    assert outcome(ANSWER) == PASSED
    assert everything() == before


def test_what_an_answer_leaves_behind_does_not_reach_the_kernel(scratch_state):
    before = everything()
    changed = ANSWER.replace("    return", "    torch.set_grad_enabled(False); torch.manual_seed(0)\n    return")
    outcome(changed + "import warnings\nwarnings.simplefilter('ignore')")
    assert {**everything(), "warnings": None} == {**before, "warnings": None}


@pytest.mark.parametrize("name, value", [("PYTEST_ADDOPTS", "--no-such-option"), ("PYTEST_PLUGINS", "no_such_plugin")])
def test_settings_of_pytest_are_not_ours(monkeypatch, name, value):
    import os

    monkeypatch.setenv(name, value)
    assert outcome(ANSWER) == PASSED
    assert os.environ[name] == value


def test_what_was_compiled_before_is_checked_as_it_was_written():
    compiled = ANSWER + "logit_difference = torch.compile(logit_difference, backend=refuse)"
    namespace = {"refuse": lambda graph, inputs: 1 / 0}
    exec(compiled, namespace)
    assert run_check(NOTEBOOK, "logit_difference", Loaded(NOTEBOOK.path, namespace)).outcome == PASSED


def test_eigenvalues_of_nan_are_an_error_and_not_the_end():
    before = torch.linalg.eigvals
    with clean_state(), pytest.raises(RuntimeError, match="infs or NaNs"):
        torch.linalg.eigvals(torch.full((3, 3), torch.nan))
    assert torch.linalg.eigvals is before
