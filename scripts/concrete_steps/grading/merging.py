"""A learner's cells put into the released notebook, so that nothing else of a hand-in reaches nbgrader.

A deleted or edited check, a tag, a changed number of points or a new cell id counts for nothing; answers are found by
nbgrader's names, by the cells' own, or by what they define, wherever they stand.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

from concrete_steps.checking.loader import python_of
from concrete_steps.checking.statements import compile_statement
from concrete_steps.course import Notebook
from concrete_steps.paths import course_root

# Names by which code looks behind the checks; whoever uses one in an exercise is worth a look, and no more than that.
LOOKS_BEHIND = (
    *("gc", "ctypes", "_getframe", "f_back", "__closure__", "__globals__", "__traceback__", "settrace", "setprofile"),
    *("ast_transformers", "addaudithook", "monkeypatch", "pytest", "_pytest", "run_checks", "pytest_plugin"),
)
LONGEST = 200_000  # letters of a cell that is still parsed
ALL = "*"  # what `from helpers import *` may bind
BROKEN = (SyntaxError, ValueError, RecursionError, MemoryError)


def released_notebook(notebook: Notebook):
    return nbformat.read(course_root() / "notebooks" / notebook.path, as_version=4)


def merged(notebook: Notebook, cells: list[dict]) -> tuple[bytes, list[str]]:
    """The released notebook with the learner's cells in it, as the bytes of a file, and what was unusual."""
    released = released_notebook(notebook)
    texts = {cell.id: _normal(cell.source) for cell in released.cells}
    cells = [part for cell in cells for part in _one_exercise_each(cell, notebook.exercises)]
    answers, own = _sort_out(cells, texts, notebook.exercises)
    theirs = [*answers.items(), *((None, cell) for cells in own.values() for cell in cells)]
    built = list(map(_own_cell, own.get(None, ())))
    for cell in released.cells:
        if not cell.metadata.get("nbgrader", {}).get("locked"):
            answer = answers.get(cell.id)
            if cell.id in notebook.exercises and (not answer or _normal(answer["source"]) == texts[cell.id]):
                # An untouched stub is no answer, and must not stand after one in another cell.
                others = (one["source"] for name, one in theirs if name != cell.id and one["cell_type"] == "code")
                if any({cell.id, ALL} & bound_names(source, (cell.id,)) for source in others):
                    cell.source = f"# {cell.id} is defined in another cell."
            elif answer:
                cell.source = answer["source"]
            if cell.cell_type == "markdown" and answer and answer["attachments"]:
                cell["attachments"] = {**cell.get("attachments", {}), **answer["attachments"]}
        built += [cell, *map(_own_cell, own.get(cell.id, ()))]
    released.cells = built
    for number, cell in enumerate(released.cells, 1):
        cell.id = cell.get("id") or f"number-{number}"
    return to_bytes(released), _remarks(cells, answers, texts, notebook.exercises)


def blank(notebook: Notebook, note: str) -> bytes:
    """The released notebook, in which nothing is answered, under a note."""
    released = released_notebook(notebook)
    released.cells.insert(0, new_markdown_cell(note, id="unreadable"))
    return to_bytes(released)


def to_bytes(nb) -> bytes:
    return (nbformat.writes(nb, version=4, sort_keys=True) + "\n").encode("utf-8", "replace")


def recognised(notebook: Notebook, cells: list[dict]) -> set[str]:
    """The exercises that the cells answer or hold the stub of."""
    names = {name_of(cell) for cell in cells} & set(notebook.exercises)
    for cell in cells:
        names |= bound_names(cell["source"], notebook.exercises) & set(notebook.exercises)
    return names


def answered(notebook: Notebook, cells: list[dict]) -> set[str]:
    """The exercises of which something else than the stub was handed in."""
    stubs = {_normal(cell.source) for cell in released_notebook(notebook).cells}
    return recognised(
        notebook, [cell for cell in cells if cell["source"].strip() and _normal(cell["source"]) not in stubs]
    )


def name_of(cell: dict) -> str | None:
    """nbgrader's name of the cell, which survives Colab's new cell ids, or the cell's own id."""
    nbgrader = cell["metadata"].get("nbgrader")
    name = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    name = name or cell["id"]
    return name if isinstance(name, str) else None


def bound_names(source: str, of_broken: tuple[str, ...] = ()) -> frozenset[str]:
    """Names that the cell's top level defines, assigns or imports; of broken Python, those of `of_broken`."""
    found = _names_of(source)
    if found is not None:
        return found
    pattern = r"^(?:async +)?(?:def|class) +{0}\b|^{0} *(?::.*)?=(?!=)"
    return frozenset(name for name in of_broken if re.search(pattern.format(name), source, re.MULTILINE))


@lru_cache(maxsize=4096)
def _names_of(source: str) -> frozenset[str] | None:
    """None where the text is broken, or too long to look for names."""
    try:
        if len(source) > LONGEST:
            return None
        return frozenset(name for node in ast.parse(python_of(source)).body for name in _binds(node))
    except BROKEN:
        return None


def _binds(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ImportFrom) and node.names[0].name == ALL:
        return {ALL}
    return set(compile_statement(node, "cell", "cell").binds)


def _one_exercise_each(cell: dict, exercises: tuple[str, ...]) -> Iterator[dict]:
    """The cell, in parts if it holds several exercises: cells that were joined, or a script without marks."""
    source = cell["source"] if cell["cell_type"] == "code" else ""
    source = python_of(source) if len(source) <= LONGEST else source
    if len(source) > LONGEST or sum(name in source for name in exercises) < 2:
        yield cell
        return
    try:
        nodes = ast.parse(source).body
        ends = [node for node in nodes if _binds(node) & set(exercises)]
        parts = len({name for node in ends for name in _binds(node) & set(exercises)})
    except BROKEN:
        ends, parts = [], 0
    if len(ends) < 2 or parts < 2:
        yield cell
        return
    lines = source.splitlines(keepends=True)
    share_a_line = any(a.end_lineno == b.lineno for a, b in pairwise(nodes))
    start = 0
    for end in ends:
        stop = nodes.index(end) + 1 if end is not ends[-1] else len(nodes)
        if share_a_line:
            text = ast.unparse(ast.Module(nodes[start:stop], []))
        else:
            first = nodes[start - 1].end_lineno if start else 0
            text = "".join(lines[first : nodes[stop - 1].end_lineno if stop < len(nodes) else None])
        names = sorted(_binds(end) & set(exercises))
        yield cell | {"source": text.strip("\n"), "id": names[0], "metadata": {}}
        start = stop


def _sort_out(cells: list[dict], texts: dict[str, str], exercises: tuple[str, ...]):
    """The learner's cells by the released cell that they stand for, and the others by the one that they follow."""
    names = [name_of(cell) for cell in cells]
    by_text = {text: name for name, text in texts.items()}
    present = set(names)
    # Where ids were lost, a released cell is known by its text, an exercise by what its cell defines; and at last by
    # what a cell would define that became one of text by a slip.
    for is_code in (True, False):
        for index, cell in enumerate(cells):
            if names[index] not in texts and (cell["cell_type"] == "code" or not is_code):
                same = by_text.get(_normal(cell["source"]))
                bound = () if same else bound_names(cell["source"], exercises if is_code else ())
                known = [same, *(name for name in exercises if name in bound)]
                names[index] = next((name for name in known if name and name not in present), None)
                present.add(names[index])
    answers: dict[str, dict] = {}
    own: dict[str | None, list[dict]] = {}
    after = None
    for name, cell in zip(names, cells, strict=True):
        if name in texts and name not in answers:
            answers[name] = cell
            after = name
        elif cell["source"].strip() and _normal(cell["source"]) not in by_text:
            own.setdefault(after, []).append(cell)
    return answers, own


def _remarks(cells, answers: dict[str, dict], texts: dict[str, str], exercises: tuple[str, ...]) -> list[str]:
    remarks = []
    for name in exercises:
        check = answers.get(f"check_{name}")
        if check and _normal(check["source"]) != texts[f"check_{name}"]:
            remarks.append(f"edited check of {name}, restored")
    known = set(texts.values())
    theirs = [cell["source"] for cell in cells if cell["cell_type"] == "code" and _normal(cell["source"]) not in known]
    code = "\n".join(theirs)
    behind = [name for name in LOOKS_BEHIND if re.search(rf"\b{name}\b", code)]
    return remarks + ([f"read its code: it mentions {', '.join(behind)}"] if behind else [])


def _own_cell(cell: dict):
    """A cell that the learner added: text and pictures alone, so that no tag or metadata of theirs counts."""
    new = new_code_cell if cell["cell_type"] == "code" else new_markdown_cell
    built = new(cell["source"])
    if cell["cell_type"] != "code" and cell["attachments"]:
        built["attachments"] = cell["attachments"]
    del built["id"]
    return built


def _normal(text: str) -> str:
    """The text without what programs change in saving it: space at the ends of lines, of the cell, and its kind."""
    return "\n".join(line.rstrip() for line in text.replace("\xa0", " ").strip().splitlines())
