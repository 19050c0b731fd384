"""The learner's copy: nothing that a learner wrote is ever lost, whatever happens to the course's notebooks."""

import datetime
import json

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concrete_steps.errors import CourseError
from concrete_steps.workspace import copy
from concrete_steps.workspace.carry_over import carry_over
from concrete_steps.workspace.copy import ask_assistants, sync

NAME = "1_prerequisites/1.1_tensors.ipynb"
TODAY = datetime.date.today().isoformat()
STUB = "raise NotImplementedError  # Your code here."


def text(identity, source):
    return nbformat.v4.new_markdown_cell(source, id=identity)


def code(identity, source):
    return nbformat.v4.new_code_cell(source, id=identity)


def exercise(name, source=STUB):
    marks = {"grade_id": name, "solution": True, "grade": False, "locked": False, "schema_version": 3, "task": False}
    return nbformat.v4.new_code_cell(source, id=name, metadata={"nbgrader": marks})


def check(name):
    marks = {"grade_id": f"check_{name}", "solution": False, "grade": True, "locked": True, "points": 1}
    marks |= {"schema_version": 3, "task": False}
    return nbformat.v4.new_code_cell(f'check("{name}")', id=f"check_{name}", metadata={"nbgrader": marks})


def notebook(*cells):
    return nbformat.from_dict({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def plain():
    """Text, two exercises with their checks, an experiment."""
    return notebook(
        text("intro", "# Tensors"),
        exercise("outer"),
        check("outer"),
        exercise("one_hot"),
        check("one_hot"),
        code("experiment", "show(outer)"),
    )


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


class Place:
    """A course and a learner's folder."""

    def __init__(self, folder):
        self.course, self.work = folder, folder / "work"
        self.mine = self.work / NAME
        self.released = folder / "notebooks" / NAME

    def release(self, nb):
        self.released.parent.mkdir(parents=True, exist_ok=True)
        self.released.write_text(nbformat.writes(nb, version=4) + "\n", encoding="utf-8")

    def learn(self, nb):
        self.mine.write_text(nbformat.writes(nb, version=4), encoding="utf-8")

    def sync(self):
        return sync(self.course, self.work)

    def sources(self):
        return [cell.source for cell in nbformat.read(self.mine, as_version=4).cells]

    def kept(self):
        return sorted(path.name for path in self.mine.parent.glob("*.before-*"))


def with_sources(nb, **sources):
    for cell in nb.cells:
        cell.source = sources.get(cell.id, cell.source)
    return nb


def test_first_time_copies_everything_and_the_second_run_is_silent(place):
    place.release(plain())
    assert place.sync() == [f"Your own copy of the notebooks is in {place.work}."]
    assert place.mine.read_bytes() == place.released.read_bytes()
    assert place.sync() == []


def test_a_copy_is_never_touched_while_the_course_stays_the_same(place):
    place.release(plain())
    place.sync()
    place.mine.write_text("not even a notebook", encoding="utf-8")
    assert place.sync() == []
    assert place.mine.read_text(encoding="utf-8") == "not even a notebook"


def test_a_new_notebook_is_added_beside_the_others(place):
    place.release(plain())
    place.sync()
    place.learn(with_sources(plain(), outer="my answer"))
    (place.course / "notebooks/0_start").mkdir()
    (place.course / "notebooks/0_start/0_start.ipynb").write_text("{}", encoding="utf-8")
    assert place.sync() == ["0_start/0_start.ipynb: a fresh copy is in your folder."]
    assert "my answer" in place.sources()


def test_an_untouched_copy_is_replaced(place):
    place.release(plain())
    place.sync()
    place.release(with_sources(plain(), intro="# Tensors, better said"))
    assert place.sync() == [f"{NAME}: brought up to date."]
    assert place.mine.read_bytes() == place.released.read_bytes()
    assert place.kept() == []


def test_answers_are_carried_over_by_name_into_a_changed_text(place):
    place.release(plain())
    place.sync()
    answered = with_sources(plain(), one_hot="return eye[labels]")
    place.learn(answered)
    before = place.mine.read_bytes()
    place.release(with_sources(plain(), intro="# Tensors, better said"))
    assert place.sync() == [
        f"{NAME}: brought up to date, with your answers to one_hot; "
        f"the copy as you left it is 1.1_tensors.before-{TODAY}.ipynb."
    ]
    assert place.sources()[0] == "# Tensors, better said"
    assert place.sources()[1] == STUB
    assert place.sources()[3] == "return eye[labels]"
    assert (place.mine.parent / f"1.1_tensors.before-{TODAY}.ipynb").read_bytes() == before
    assert place.sync() == []


def test_a_changed_stub_is_named_so_that_the_learner_compares(place):
    place.release(plain())
    place.sync()
    place.learn(with_sources(plain(), outer="my outer", one_hot="my one_hot"))
    place.release(with_sources(plain(), outer="def outer(a, b): ..."))
    said = place.sync()
    assert said[1:] == [f"  The task changed in outer: compare with notebooks/{NAME}."]
    assert {"my outer", "my one_hot"} <= set(place.sources())


def test_an_answer_to_an_exercise_that_is_gone_stays_as_an_ordinary_cell(place):
    place.release(plain())
    place.sync()
    place.learn(with_sources(plain(), one_hot="my one_hot"))
    shorter = plain()
    del shorter.cells[3:5]
    place.release(shorter)
    assert "  No longer in the course: one_hot; your answers stay as ordinary cells." in place.sync()
    cell = nbformat.read(place.mine, as_version=4).cells[3]
    assert cell.source == "my one_hot"
    assert "nbgrader" not in cell.metadata


def test_own_cells_stay_behind_the_cell_that_they_followed(place):
    place.release(plain())
    place.sync()
    mine = plain()
    mine.cells.insert(0, text("first", "my title"))
    mine.cells.insert(3, code("note", "outer(1, 2)"))
    mine.cells.append(text("last", "my conclusion"))
    place.learn(mine)
    longer = plain()
    longer.cells.insert(1, text("more", "more text"))
    place.release(longer)
    place.sync()
    assert place.sources() == [
        "my title",
        "# Tensors",
        "more text",
        STUB,
        "outer(1, 2)",
        'check("outer")',
        STUB,
        'check("one_hot")',
        "show(outer)",
        "my conclusion",
    ]


def test_an_edited_experiment_stays_in_place_unless_the_course_changed_it_too(place):
    place.release(plain())
    place.sync()
    place.learn(with_sources(plain(), experiment="show(outer, big=True)"))
    place.release(with_sources(plain(), intro="other text"))
    place.sync()
    assert place.sources()[5:] == ["show(outer, big=True)"]
    place.release(with_sources(plain(), intro="other text", experiment="show(outer, new=1)"))
    place.sync()
    assert place.sources()[5:] == ["show(outer, new=1)", "show(outer, big=True)"]
    assert place.kept() == [f"1.1_tensors.before-{TODAY}-2.ipynb", f"1.1_tensors.before-{TODAY}.ipynb"]


def test_a_check_cell_is_always_the_course_s_own(place):
    place.release(plain())
    place.sync()
    place.learn(with_sources(plain(), check_outer="print('passed')"))
    place.release(with_sources(plain(), intro="other text"))
    place.sync()
    cells = nbformat.read(place.mine, as_version=4).cells
    assert cells[2].source == 'check("outer")'
    assert cells[2].metadata.nbgrader.grade_id == "check_outer"
    assert cells[3].source == "print('passed')"
    assert "nbgrader" not in cells[3].metadata


def test_an_exercise_turned_into_text_comes_back_and_the_text_stays(place):
    place.release(plain())
    place.sync()
    mine = plain()
    mine.cells[1] = text("outer", "too hard for now")
    place.learn(mine)
    place.release(with_sources(plain(), intro="other text"))
    place.sync()
    assert place.sources()[1:3] == [STUB, "too hard for now"]


def test_a_copied_answer_cell_does_not_take_the_place_of_the_first(place):
    place.release(plain())
    place.sync()
    mine = with_sources(plain(), outer="first try")
    copied = exercise("outer", "second try")
    copied.id = "fresh-id"
    mine.cells.insert(2, copied)
    place.learn(mine)
    place.release(with_sources(plain(), intro="other text"))
    place.sync()
    assert place.sources()[1:3] == ["first try", "second try"]
    cells = nbformat.read(place.mine, as_version=4).cells
    assert [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in cells[1:3]] == ["outer", None]


def test_outputs_stay_with_unchanged_code_and_a_run_alone_leaves_no_old_copy(place):
    place.release(plain())
    place.sync()
    ran = plain()
    for cell in ran.cells[1:]:
        cell.outputs = [nbformat.v4.new_output("stream", text="said something")]
    place.learn(ran)
    place.release(with_sources(plain(), intro="other text"))
    assert place.sync() == [f"{NAME}: brought up to date."]
    cells = nbformat.read(place.mine, as_version=4).cells
    assert [bool(cell.outputs) for cell in cells[1:]] == [True, False, True, False, True]  # a check must be run again


def test_cells_without_ids_are_known_by_their_names(place):
    """Colab saves notebooks without cell ids."""
    place.release(plain())
    place.sync()
    mine = with_sources(plain(), outer="my outer")
    for cell in mine.cells:
        del cell["id"]
    mine.nbformat_minor = 0
    place.mine.write_text(json.dumps(mine), encoding="utf-8")
    place.release(with_sources(plain(), intro="other text"))
    place.sync()
    assert place.sources() == ["other text", "my outer", 'check("outer")', STUB, 'check("one_hot")', "show(outer)"]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (b'{"cells": [', "Expecting value"),
        (b"\xff\xfe", "it is no text"),
        (b"[1, 2]", "its cells are incomplete"),
        (b'{"cells": [{"cell_type": "code"}], "metadata": {}, "nbformat": 4}', "its cells are incomplete"),
        (b'{"cells": [3], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "its cells are incomplete"),
        (b'{"worksheets": [], "metadata": {}, "nbformat": 3, "nbformat_minor": 0}', "its cells are incomplete"),
        (b"", "Expecting value"),
    ],
)
def test_a_copy_that_is_no_notebook_is_left_alone_until_it_is_renamed(place, broken, why):
    place.release(plain())
    place.sync()
    place.mine.write_bytes(broken)
    place.release(with_sources(plain(), intro="other text"))
    for _ in range(2):
        (said,) = place.sync()
        assert said.startswith(f"{NAME}: your copy is no notebook any more ({why}")
        assert place.mine.read_bytes() == broken
    place.mine.rename(place.mine.with_name("rescued.ipynb"))
    assert place.sync() == [f"{NAME}: a fresh copy is in your folder."]
    assert place.sources()[0] == "other text"
    assert place.mine.with_name("rescued.ipynb").read_bytes() == broken


def test_a_broken_release_leaves_the_copy_alone(place):
    place.release(plain())
    place.sync()
    place.learn(with_sources(plain(), outer="my outer"))
    place.released.write_text("{", encoding="utf-8")
    (said,) = place.sync()
    assert "git restore notebooks" in said
    assert "my outer" in place.sources()


def test_without_memory_of_the_release_nothing_is_lost(place):
    place.release(plain())
    place.mine.parent.mkdir(parents=True)
    mine = with_sources(plain(), outer="my outer", intro="my title")
    place.learn(mine)
    place.sync()
    assert {"my outer", "my title", "# Tensors"} <= set(place.sources())
    assert place.kept() == [f"1.1_tensors.before-{TODAY}.ipynb"]
    assert place.sync() == []


def test_a_deleted_copy_is_made_again_and_a_renamed_one_stays(place):
    place.release(plain())
    place.sync()
    place.mine.rename(place.mine.with_name("mine.ipynb"))
    assert place.sync() == [f"{NAME}: a fresh copy is in your folder."]
    assert place.mine.with_name("mine.ipynb").exists()


@pytest.mark.parametrize("touched", [True, False])
def test_a_notebook_that_the_course_dropped(place, touched):
    place.release(plain())
    place.sync()
    if touched:
        place.learn(with_sources(plain(), outer="my outer"))
    place.released.unlink()
    assert place.sync() == ([f"{NAME}: no longer in the course; your copy stays."] if touched else [])
    assert place.mine.exists() == touched
    assert place.sync() == []


def test_other_files_are_copied_too_and_kept_aside_where_both_changed(place):
    place.release(plain())
    picture = place.released.with_name("picture.svg")
    picture.write_text("old", encoding="utf-8")
    place.sync()
    copy = place.mine.with_name("picture.svg")
    copy.write_text("mine", encoding="utf-8")
    picture.write_text("new", encoding="utf-8")
    place.sync()
    assert copy.read_text(encoding="utf-8") == "new"
    assert copy.with_name(f"picture.before-{TODAY}.svg").read_text(encoding="utf-8") == "mine"


def test_hidden_files_are_not_copied(place):
    place.release(plain())
    hidden = place.course / "notebooks/.ipynb_checkpoints/x.ipynb"
    hidden.parent.mkdir()
    hidden.write_text("{}", encoding="utf-8")
    place.sync()
    assert [path.name for path in place.work.iterdir() if path.name != ".released"] == ["1_prerequisites"]


def test_no_notebooks_and_no_room_are_one_sentence(place, monkeypatch):
    with pytest.raises(CourseError, match="notebooks is missing"):
        place.sync()
    place.release(plain())

    def full(*_):
        raise OSError(28, "No space left on device", str(place.mine))

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(CourseError, match=r"1.1_tensors.ipynb cannot be read or written \(No space left on device\)"):
        place.sync()
    assert [path for path in place.work.rglob("*") if path.is_file()] == []


# --- Whatever the learner and the course do ----------------------------------------------------------------------

EXERCISES = ("a", "b", "c")


@st.composite
def releases(draw):
    """A released notebook: exercises with checks and texts between them, in any order and number."""
    cells = []
    for name in draw(st.permutations(EXERCISES))[: draw(st.integers(0, 3))]:
        words = draw(st.sampled_from(["text 1", "text 2", "text 3"]))
        cells += [text(f"{words}-{name}".replace(" ", ""), words), exercise(name, draw(st.sampled_from(["s1", "s2"])))]
        cells += [check(name), code(f"try-{name}", draw(st.sampled_from(["try 1", "try 2"])))]
    return notebook(*cells)


@st.composite
def learned(draw, base):
    """What a learner may make of a release: edit, delete, copy, move, add cells, lose ids, metadata or types."""
    cells = [nbformat.from_dict(cell) for cell in json.loads(json.dumps(base.cells))]
    for step in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, len(cells)))
        action = draw(
            st.sampled_from(["add", "edit", "delete", "copy", "move", "no id", "no marks", "to raw", "clash"])
        )
        if action == "add" or place == len(cells):
            cells.insert(place, draw(st.sampled_from([text, code]))(f"own{step}", f"own {step}"))
        elif action == "edit":
            cells[place].source = f"edited {step}"
        elif action == "delete":
            del cells[place]
        elif action == "copy":
            copied = nbformat.from_dict(json.loads(json.dumps(cells[place])))
            copied["id"] = f"copy{step}"
            copied.source += f" copied {step}"
            cells.insert(draw(st.integers(0, len(cells))), copied)
        elif action == "move":
            cells.insert(draw(st.integers(0, len(cells) - 1)), cells.pop(place))
        elif action == "no id":
            cells[place].pop("id", None)
        elif action == "no marks":
            cells[place].metadata.pop("nbgrader", None)
        elif action == "to raw":
            cells[place] = nbformat.v4.new_raw_cell(cells[place].source, id=f"raw{step}")
        else:
            cells[place]["id"] = draw(st.sampled_from(EXERCISES))
    return notebook(*cells)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_nothing_that_the_learner_wrote_is_ever_lost(data):
    base, new = data.draw(releases()), data.draw(releases())
    mine = data.draw(learned(base))
    known = data.draw(st.booleans())
    result = carry_over(mine, new, base if known else None)
    cells = result.notebook.cells
    assert len({cell.id for cell in cells}) == len(cells)
    nbformat.validate(result.notebook)
    from_course = {(cell.cell_type, cell.source) for cell in base.cells} if known else set()
    for cell in mine.cells:
        kept = (cell.cell_type, cell.source) in {(kept.cell_type, kept.source) for kept in cells}
        assert kept or (cell.cell_type, cell.source) in from_course, f"lost: {cell}"
        if not kept:
            assert not cell.source.startswith(("own", "edited"))
    marked = [cell for cell in cells if "nbgrader" in cell.metadata]
    released = [cell for cell in new.cells if "nbgrader" in cell.metadata]
    assert [cell.metadata for cell in marked] == [cell.metadata for cell in released]  # a valid assignment, in order
    for cell, model in zip(marked, released, strict=True):
        if not cell.metadata.nbgrader.solution:
            assert cell.source == model.source
    again = carry_over(result.notebook, new, new)
    assert [cell.source for cell in again.notebook.cells] == [cell.source for cell in cells]


# --- Exercises that the course renamed, split or added ---


def renaming(nb, **names):
    nb.metadata["concrete_steps"] = {"notebook": "1.1", "renamed": names}
    return nb


def test_an_answer_follows_its_exercise_to_another_name(place):
    place.release(plain())
    place.sync()
    place.learn(with_sources(plain(), outer="def outer(a):\n    return outer_product(a)"))
    renamed = with_sources(plain(), experiment="show(product)")
    renamed.cells[1:3] = [exercise("product"), check("product")]
    place.release(renaming(renamed, product="outer"))
    said = place.sync()
    assert "  outer is now called product; so is your answer." in said
    assert not any("No longer in the course" in line or "New in it" in line for line in said)
    assert "def product(a):\n    return outer_product(a)" in place.sources()
    assert "def outer(a):\n    return outer_product(a)" not in place.sources()
    assert len(place.kept()) == 1
    assert place.sync() == []


def test_of_an_exercise_that_became_two_the_first_has_the_answer(place):
    place.release(plain())
    place.sync()
    place.learn(with_sources(plain(), outer="def outer(a): return a"))
    split = plain()
    split.cells[1:3] = [exercise("rows"), check("rows"), exercise("columns"), check("columns")]
    place.release(renaming(split, rows="outer", columns="outer"))
    said = place.sync()
    assert "  outer is now called rows; so is your answer." in said
    assert "  outer has become several: columns is one more, to be written." in said
    assert place.sources()[1] == "def rows(a): return a"
    assert place.sources()[3] == STUB


def test_a_name_that_is_still_there_is_not_renamed(place):
    place.release(plain())
    place.sync()
    place.learn(with_sources(plain(), outer="def outer(a): return a"))
    both = plain()
    both.cells[3:3] = [exercise("product"), check("product")]
    place.release(renaming(both, product="one_hot"))
    place.sync()
    assert "def outer(a): return a" in place.sources()


@pytest.mark.parametrize("touched", [False, True])
def test_new_exercises_are_told(place, touched):
    place.release(plain())
    place.sync()
    if touched:
        place.learn(with_sources(plain(), outer="mine"))
    more = plain()
    more.cells += [exercise("trace"), check("trace")]
    place.release(more)
    assert "  New in it: trace." in place.sync()


@pytest.mark.parametrize("about", ["text", {"renamed": {}}, {"renamed": {"product": "nowhere"}}])
def test_what_a_notebook_says_of_itself_may_say_nothing(place, about):
    place.release(plain())
    place.sync()
    place.learn(with_sources(plain(), outer="mine"))
    odd = with_sources(plain(), intro="# New")
    odd.metadata["concrete_steps"] = about
    place.release(odd)
    place.sync()
    assert "mine" in place.sources()


# --- AGENTS.md


def test_assistants_are_asked_for_hints_in_a_fresh_folder(place):
    place.release(plain())
    place.sync()
    (said,) = ask_assistants(place.work)
    assert said.startswith("AGENTS.md in your folder asks AI assistants for hints")
    assert "smallest that helps" in (place.work / "AGENTS.md").read_text(encoding="utf-8")
    assert ask_assistants(place.work) == [] and place.sync() == []


def test_a_learner_s_own_agents_file_is_never_touched(place):
    place.release(plain())
    place.sync()
    mine = place.work / "AGENTS.md"
    mine.write_text("help me all you can", encoding="utf-8")
    assert ask_assistants(place.work) == []
    assert mine.read_text(encoding="utf-8") == "help me all you can"


@pytest.mark.parametrize("change", ["none", "edited", "deleted"])
def test_agents_file_is_renewed_only_as_the_course_wrote_it(place, change, monkeypatch, tmp_path):
    place.release(plain())
    place.sync()
    ask_assistants(place.work)
    mine = place.work / "AGENTS.md"
    if change == "edited":
        mine.write_text(mine.read_text(encoding="utf-8") + "and speak French", encoding="utf-8")
    if change == "deleted":
        mine.unlink()
    left = mine.read_text(encoding="utf-8") if mine.exists() else None
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "AGENTS.md").write_text("newer", encoding="utf-8")
    monkeypatch.setattr(copy, "__file__", str(tmp_path / "newer" / "copy.py"))
    said = ask_assistants(place.work)
    if change == "none":
        assert said == ["AGENTS.md: brought up to date."] and mine.read_text(encoding="utf-8") == "newer"
    else:
        assert said == []
        assert (mine.read_text(encoding="utf-8") if mine.exists() else None) == left
    assert ask_assistants(place.work) == [] and place.sync() == []


def test_an_agents_file_that_cannot_be_written_is_one_sentence(place, monkeypatch):
    place.release(plain())
    place.sync()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(CourseError, match=r"AGENTS.md cannot be read or written \(No space left on device\)"):
        ask_assistants(place.work)
    assert not (place.work / "AGENTS.md").exists()
