"""The statements of notebook 3.6: no word of a couple tells what is true, and the lists are their datasheet's."""

import hashlib
import json
import re
from collections import Counter

import pytest

from concrete_steps import facts
from concrete_steps.errors import CourseError
from concrete_steps.paths import data_dir


@pytest.mark.parametrize("name", facts.names())
def test_within_a_couple_every_word_is_as_often_true_as_false(name):
    couples = {}
    for statement in facts.statements(name):
        couples.setdefault(statement.about, []).append(statement)
    assert len(couples) >= 20
    for about, its in couples.items():
        words = {True: Counter(), False: Counter()}
        for statement in its:
            words[statement.true].update(re.findall("[a-z]+", statement.text.lower()))
        assert words[True] == words[False], about
        assert len({statement.text for statement in its}) == len(its)


def test_negation_turns_every_label_round():
    plain, negated = facts.statements("capitals"), facts.statements("not the capital")
    for a, b in zip(plain, negated, strict=True):
        assert b == (a.text.replace(" is ", " is not "), not a.true, a.about)


def test_the_two_of_a_couple_differ_in_what_is_right():
    for listed in ("capitals", "kinds"):
        pairs = facts.pairs(listed)
        assert len({thing for thing, _ in pairs}) == len(pairs)
        assert all(a[1] != b[1] for a, b in zip(pairs[::2], pairs[1::2], strict=True))


def test_lists_are_those_of_the_datasheet():
    sheet = json.loads((data_dir() / "facts" / "datasheet.json").read_text("utf-8"))
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (data_dir() / "facts").glob("*.csv")}
    assert found == sheet["files"]


def test_unknown_names_are_said_plainly():
    with pytest.raises(CourseError, match="capitals, not the capital"):
        facts.statements("rivers")
    with pytest.raises(CourseError, match="missing or damaged"):
        facts.pairs("rivers")
