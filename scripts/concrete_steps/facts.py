"""Statements that are true or false, for notebook 3.6: made from the lists in data/facts, which were written for it.

    facts.statements("capitals")[0]    # Statement("The capital of France is Paris.", True, "France, Italy")

Things come in couples which swap what is said of them: of France and Italy, with Paris and Rome, four statements are
made. So within a couple every word stands as often in true statements as in false ones, and `about` names the couple.
"""

from __future__ import annotations

import csv
from typing import NamedTuple

from concrete_steps.errors import CourseError
from concrete_steps.paths import data_dir

# Which list, and how a statement is made of it
TEMPLATES = {
    "capitals": ("capitals", "The capital of {thing} is {said}."),
    "not the capital": ("capitals", "The capital of {thing} is not {said}."),
    "kinds": ("kinds", "A {thing} is a {said}."),
}
NUMBERS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"]
NUMBERS += ["fourteen", "fifteen", "sixteen"]


class Statement(NamedTuple):
    """A text, whether it is true, and which couple of things it is about."""

    text: str
    true: bool
    about: str


def names() -> list[str]:
    """Which sets of statements there are."""
    return [*TEMPLATES, "larger"]


def statements(name: str) -> list[Statement]:
    """All statements of a set, couple after couple.

    Raises:
        CourseError: for an unknown name.
    """
    if name == "larger":
        return _larger()
    if name not in TEMPLATES:
        raise CourseError(f"There are no statements {name!r}: use one of {', '.join(names())}.")
    listed, template = TEMPLATES[name]
    return swapped(pairs(listed), template, negated=" not " in template)


def pairs(listed: str) -> list[tuple[str, str]]:
    """The rows of data/facts/`listed`.csv: what is said (second) of which thing (first)."""
    path = data_dir() / "facts" / f"{listed}.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [(row[0], row[1]) for row in csv.reader(file)][1:]
    except (OSError, IndexError) as error:
        raise CourseError(f"{path} is missing or damaged; restore it with `git checkout -- data/facts`.") from error


def swapped(things: list[tuple[str, str]], template: str, negated: bool = False) -> list[Statement]:
    """Four statements for each two neighbours: each thing with its own, and with the other's."""
    made = []
    for (a, of_a), (b, of_b) in zip(things[::2], things[1::2], strict=True):
        for thing, said, right in ((a, of_a, True), (a, of_b, False), (b, of_b, True), (b, of_a, False)):
            made.append(Statement(template.format(thing=thing, said=said), right != negated, f"{a}, {b}"))
    return made


def _larger() -> list[Statement]:
    """Numbers `a` and the one three, or seven, after it: which of the two is larger?"""
    made = []
    for step in (3, 7):
        for low, high in zip(NUMBERS, NUMBERS[step:], strict=False):
            for a, b, right in ((high, low, True), (low, high, False)):
                made.append(Statement(f"{a.capitalize()} is larger than {b}.", right, f"{low}, {high}"))
    return made
