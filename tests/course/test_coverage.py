"""What another course has its learners write is written here, or to come, or left out for a reason."""

import re
import tomllib
from pathlib import Path

import pytest

from concrete_steps.course import load_course

TABLE = Path(__file__).with_name("coverage_arena.toml")
PLACE = re.compile(r"^(\d\.\d) (?:bonus (\d+)|(\w+(?:, \w+)*))$")
NOTEBOOKS = {notebook.id: notebook for notebook in load_course().notebooks}


def rows():
    for section in tomllib.loads(TABLE.read_text(encoding="utf-8"))["section"]:
        for kind in section.keys() - {"id", "title"}:
            for item, value in section[kind].items():
                yield section["id"], kind, item, value


def test_each_section_has_rows_and_each_item_one_row():
    items = [(section, item) for section, _, item, _ in rows()]
    assert len(items) == len(set(items)) > 60
    assert {section for section, _ in items} == {"1.1", "1.2", "1.3.1", "1.3.2", "1.4.1"}


@pytest.mark.parametrize(("section", "item", "places"), [(s, i, v) for s, kind, i, v in rows() if kind == "here"])
def test_what_is_here_is_on_the_map(section, item, places):
    for place in places.split("; "):
        found = PLACE.match(place)
        assert found, f"{section} {item}: {place!r} is no 'NOTEBOOK exercise, exercise' and no 'NOTEBOOK bonus N'"
        notebook, bonus, exercises = found.groups()
        assert notebook in NOTEBOOKS, f"{section} {item}: there is no notebook {notebook}"
        if bonus:
            text = NOTEBOOKS[notebook].source.read_text(encoding="utf-8")
            assert re.search(rf"^# {bonus}\. ", text[text.index("## Bonus") :], re.MULTILINE), f"no bonus {bonus}"
        else:
            unknown = set(exercises.split(", ")) - set(NOTEBOOKS[notebook].exercises)
            assert not unknown, f"{section} {item}: {notebook} has no exercise {', '.join(sorted(unknown))}"


def test_what_is_to_come_is_not_here_yet():
    written = {(item, value) for _, kind, item, value in rows() if kind == "to_come" and value in NOTEBOOKS}
    assert not written, f"these notebooks are written; name the exercises: {written}"


def test_what_is_left_out_has_a_reason():
    reasons = [value for _, kind, _, value in rows() if kind == "left_out"]
    assert reasons and all(len(reason.split()) > 5 for reason in reasons)
