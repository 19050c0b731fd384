"""The rooms of the package stand on floors, and nothing imports from a floor above its own."""

import ast
from pathlib import Path

import pytest

from concrete_steps.course import load_course
from concrete_steps.paths import course_root

FLOORS = (
    {"__init__", "errors", "paths", "course"},
    {"models", "corpus", "games", "wired", "plot", "evidence"}
    | {"concepts", "facts", "topics", "mystery", "problems", "readings", "study"},
    {"checking"},
    {"workspace", "standing"},
    {"grading"},
    {"authoring"},
)
PACKAGE = course_root() / "scripts" / "concrete_steps"


def floor_of(room: str) -> int:
    """The floor that a room (a module or a folder of the package) stands on; a new room must be given one."""
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise AssertionError(f"concrete_steps.{room} stands on no floor: put it on one in tests/course/test_house.py.")


def imports_of(text: str) -> set[str]:
    """Rooms of the package that a module imports, wherever in it."""
    rooms = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "concrete_steps":
            names = [f"concrete_steps.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("concrete_steps.")}
    return rooms


def upward(room: str, text: str) -> set[str]:
    return {other for other in imports_of(text) if floor_of(other) > floor_of(room)}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_from_a_floor_above(path: Path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    text = path.read_text(encoding="utf-8")
    if room == "__init__":  # the front door: it hands over to these on first use
        assert imports_of(text) <= {"checking", "standing"}
        return
    assert not upward(room, text), f"{path.name} imports from a floor above its own: {upward(room, text)}"


def test_an_import_from_above_is_seen():
    assert upward("models", "def f():\n    from concrete_steps.checking.checks import run_check") == {"checking"}
    assert not upward("checking", "from concrete_steps import models")


@pytest.mark.parametrize("path", sorted((course_root() / "tests").glob("mistakes_*.py")), ids=lambda path: path.stem)
def test_no_helper_of_the_wrong_answers_is_defined_twice(path):
    """The second would stand in for the first without a word."""
    names = [
        node.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.decorator_list
    ]
    assert sorted(names) == sorted(set(names))


# What these watch happens in the process where they are: a judge, who calls the answer in another one, can see nothing.
WATCHES = {"TorchDispatchMode", "TorchFunctionMode", "saved_tensors_hooks", "dual_level", "settrace", "setprofile"}


def names_in(node: ast.AST) -> set[str]:
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    names |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
    return names | {alias.name for part in ast.walk(node) if isinstance(part, ast.ImportFrom) for alias in part.names}


def definitions(*texts: str) -> dict[str, set[str]]:
    """By each name that these modules define at their top, the names that it uses."""
    found: dict[str, set[str]] = {}
    for node in (node for text in texts for node in ast.parse(text).body):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = names_in(node)
        elif isinstance(node, ast.Assign):
            found |= {target.id: names_in(node.value) for target in node.targets if isinstance(target, ast.Name)}
    return found


def watching(uses: dict[str, set[str]]) -> set[str]:
    """The exercises one of whose checks, by itself or by what it calls, watches what happens in its own process."""
    seeing = {name for name, used in uses.items() if used & WATCHES}
    while more := {name for name, used in uses.items() if used & seeing} - seeing:
        seeing |= more
    return {name.removeprefix("test_").split("__")[0] for name in seeing if name.startswith("test_")}


@pytest.mark.parametrize("notebook", load_course().notebooks, ids=lambda notebook: notebook.id)
def test_what_is_watched_from_within_is_graded_there(notebook):
    """`trusted` in the map: or else who is right is told to be doubted, and a watch that is not known sees nothing."""
    shared = sorted((PACKAGE / "checking" / "testing").glob("*.py"))
    uses = definitions(*(path.read_text(encoding="utf-8") for path in (*shared, notebook.checks)))
    assert watching(uses) & set(notebook.exercises) <= set(dict(notebook.trusted))


def test_a_watch_is_seen_through_its_helper():
    text = "class Seen(TorchDispatchMode): pass\ndef seen(f): Seen()\nkept = functools.partial(seen)\n"
    text += "def test_one__memory(one): kept(one)\ndef test_two(two): 1"
    assert watching(definitions(text)) == {"one"}
