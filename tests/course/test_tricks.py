"""More wrong answers that would like to pass, and hostile words: no proven point, and the judge goes on.

They go on from test_forged.py, whose answers are tried in the same way. test_class.py hands both in.
"""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from concrete_steps.checking import pytest_plugin
from concrete_steps.checking.outcomes import PASSED
from concrete_steps.course import load_course
from concrete_steps.grading.crossing import tensors
from concrete_steps.grading.crossing.link import Link
from concrete_steps.grading.crossing.wire import Lost
from concrete_steps.grading.judge import judged

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a sandbox is a process that is forked here")
spec = importlib.util.spec_from_file_location("tricks", Path(__file__).with_name("tricks.py"))
tricks = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tricks)
DIFFERENCE = "def logit_difference(logits, right, wrong):\n    "


@pytest.mark.parametrize("name", tricks.TRICKS)
def test_a_trick_earns_no_point(name, learners, monkeypatch):
    monkeypatch.setattr(pytest_plugin, "SECONDS", 3.0)
    start = load_course().notebook("0")
    before, body = tricks.TRICKS[name]
    with learners(f"{before}\n{DIFFERENCE}{body}\n", start.exercises) as the:
        result, _ = judged(the.link, start, "logit_difference")
    assert result.outcome != PASSED and not result.proven, result.text()


# ---- What was lent and is changed in secret: the point is then not proven


def called(wire, *arguments):
    """What comes of lending these to the process behind the wire, and the kinds of what it has changed."""
    link = Link(wire)
    held = link.ask({"do": "first"})
    try:
        result = link.call(["n", 1], None, arguments, {})
    except Lost as error:
        result = error
    return result, link.touched, held


def says(wire, *answers) -> None:
    """Answer what is asked with these in turn: changes, a result, and bytes."""
    for changes, result, data in answers:
        wire.receive()
        wire.send({"changes": changes, "settings": {}, "gone": [], "result": result}, [data])
    wire.receive()


@pytest.mark.parametrize("number", [2, 2.0, "2", True, None])
def test_a_change_by_any_number_is_seen_or_not_made(number, other_process):
    facts, data = tensors.described(torch.zeros(3))
    change = [number, ["tensor", facts, [0, len(data)], False, None]]
    with other_process(lambda wire: says(wire, ([], 0, b""), ([change], 0, data))) as wire:
        x = torch.ones(3)
        result, touched, _ = called(wire, x)
    assert torch.equal(x, torch.ones(3)) or touched == {"Tensor"}
    assert isinstance(result, Lost) == (type(number) is not int)


def test_a_change_of_one_entry_of_many_is_seen(other_process):
    new = torch.ones(2**19)
    new[1] = 5.0
    facts, data = tensors.described(new)
    change = [2, ["tensor", facts, [0, len(data)], False, None]]
    with other_process(lambda wire: says(wire, ([], 0, b""), ([change], 0, data))) as wire:
        x = torch.ones(2**19)
        _, touched, _ = called(wire, x)
    assert x[1] == 5 and touched == {"Tensor"}


def test_a_change_by_way_of_an_object_that_holds_it_is_seen(other_process):
    """An object of the sandbox's first holds the list, then is said to hold another."""
    thing = ["thing", 1, ["path", "torch.nn.modules.linear:Identity"], ["state", []]]
    changes = [[1, ["state", [["held", node]]]] for node in (["n", 2], ["list", None, [7, 7]])]
    with other_process(lambda wire: says(wire, ([], thing, b""), (changes, 0, b""))) as wire:
        numbers = [1, 2, 3]
        _, touched, _ = called(wire, numbers)
    assert numbers == [7, 7] and touched == {"list"}


def test_a_random_state_that_is_none_is_not_taken(other_process):
    """numpy takes any place among its 624 numbers for granted, and reads there."""
    kind, keys, *_ = np.random.get_state()
    for place in (-1, 625, 10**9, True, "1"):
        state = ["tuple", [kind, ["bytes", [0, keys.nbytes]], place, 0, 0.0]]

        def lie(wire, state=state) -> None:
            wire.receive()
            wire.send({"changes": [], "settings": {"numpy": state}, "gone": [], "result": 1}, [keys.tobytes()])
            wire.receive()

        with other_process(lie) as wire, pytest.raises(Lost, match="numpy"):
            Link(wire).ask({"do": "anything"})
        assert 0 <= np.random.get_state()[2] <= 624
