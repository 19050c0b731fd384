"""Bring a learner's work into a new version of the notebook it was done in (pure; workspace.py does the files).

Cells are known by their nbgrader grade_id (an exercise's is its name), else by their cell id, else by their text. The
new notebook's metadata say which exercises had another name before; of two that were one, the first has the answer.
Three notebooks are compared: the learner's, the new one, and the base, which the learner's was made from. What differs
from the base is the learner's and is kept; the rest is the course's and becomes what the new version says.
"""

import copy
import re
import uuid
from collections import defaultdict
from dataclasses import dataclass, field

from nbformat import NotebookNode


@dataclass
class Result:
    """The new version with the learner's work in it, and what there is to tell."""

    notebook: NotebookNode
    answers: list[str] = field(default_factory=list)  # exercises whose answers were carried over
    changed: list[str] = field(default_factory=list)  # those of them whose stub is another one now
    dropped: list[str] = field(default_factory=list)  # exercises of the old version that were answered and are gone
    added: list[str] = field(default_factory=list)  # exercises that the version which the learner had did not have
    renamed: list[tuple[str, str]] = field(default_factory=list)  # of the answers, those with another name: old, new
    parts: list[tuple[str, str]] = field(default_factory=list)  # old name, and what else it has become
    others: int = 0  # further cells of the learner's that were kept

    @property
    def holds_work(self) -> bool:
        """Did the learner write anything at all?"""
        return bool(self.answers or self.dropped or self.others)


def carry_over(mine: NotebookNode, new: NotebookNode, base: NotebookNode | None) -> Result:
    """The new notebook with everything that the learner wrote.

    An answer goes into the exercise of its name. A text or an experiment that the learner edited stays as edited where
    the course left it alone. Whatever else they edited follows the new cell, as a cell of their own, and so do cells
    that they added. Outputs stay with code that is still the same, except those of checks, which may judge
    differently now.
    """
    result = Result(copy.deepcopy(new))
    cells = result.notebook.cells
    before = {name_of(cell) for cell in (base or mine).cells}
    names = earlier_names(new, before)
    partners = match(mine.cells, new.cells, names)
    origins = match(mine.cells, base.cells) if base else {}
    following = defaultdict(list)  # position in the new notebook -> the learner's cells that come after it
    position = -1
    for index, cell in enumerate(mine.cells):
        origin = base.cells[origins[index]] if index in origins else None
        position = partners.get(index, position)
        untouched = origin is not None and same(cell, origin)
        if index not in partners:
            if untouched:
                continue
            following[position].append(own(cell))
            if origin is not None and is_marked(origin, "solution"):
                result.dropped.append(name_of(origin))
            else:
                result.others += 1
            continue
        target = new.cells[position]
        if same(cell, target):
            if cell.cell_type == "code" and not is_marked(target, "grade"):
                cells[position].outputs = cell.get("outputs", [])
                cells[position].execution_count = cell.get("execution_count")
        elif untouched:
            continue
        elif is_marked(target, "solution") and cell.cell_type == target.cell_type:
            name, called = name_of(target), name_of(cell)
            cells[position].source = cell.source
            result.answers.append(name)
            if name in names and names[name] == called:
                cells[position].source = re.sub(rf"\b{re.escape(called)}\b", name, cell.source)
                result.renamed.append((called, name))
            if origin is None or not same(origin, target):
                result.changed.append(name)
        else:
            result.others += 1
            if origin is not None and same(origin, target) and name_of(target) is None:
                cells[position] = own(cell)
                cells[position]["id"] = target.get("id")
            else:
                following[position].append(own(cell))
    result.notebook.cells = following[-1] + [
        placed for position, cell in enumerate(cells) for placed in [cell, *following[position]]
    ]
    carried = {names[name] for name in result.answers if name in names}
    result.parts = [(old, name) for name, old in names.items() if old in carried and name not in result.answers]
    exercises = [name_of(cell) for cell in new.cells if is_marked(cell, "solution")]
    result.added = [name for name in exercises if name not in before and name not in names]
    give_ids([cell for group in following.values() for cell in group], {cell.get("id") for cell in cells})
    return result


def earlier_names(new: NotebookNode, before: set[str | None]) -> dict[str, str]:
    """What exercises and their checks were called in the version that had the names `before`: old by new name."""
    about = new.metadata.get("concrete_steps", {})
    renamed = about.get("renamed", {}) if isinstance(about, dict) else {}
    exercises = {name: old for name, old in renamed.items() if old in before and name not in before}
    return exercises | {f"check_{name}": f"check_{old}" for name, old in exercises.items()}


def match(cells: list[NotebookNode], others: list[NotebookNode], names: dict[str, str] | None = None) -> dict[int, int]:
    """Which of `others` each cell is, by position: a partial one-to-one map, the surest sign first.

    A copied cell has the nbgrader metadata of its model, so of several with one name the one with the right id goes
    first; the copies remain without partner. `names` are earlier names of the others, by the present ones.
    """
    signs = (
        lambda cell: (name_of(cell), cell.get("id")) if name_of(cell) else None,
        name_of,
        lambda cell: cell.get("id"),
        lambda cell: (cell.cell_type, cell.source) if cell.source.strip() else None,
    )
    pairs: dict[int, int] = {}
    for sign in signs:
        taken = set(pairs.values())
        free = {sign(other): place for place, other in enumerate(others) if place not in taken and sign(other)}
        if sign is name_of and names:
            for place, other in reversed(list(enumerate(others))):  # of two that were one, the first
                if place not in taken and name_of(other) in names:
                    free[names[name_of(other)]] = place
        for index, cell in enumerate(cells):
            if index not in pairs and sign(cell) in free:
                pairs[index] = free.pop(sign(cell))
    return pairs


def name_of(cell: NotebookNode) -> str | None:
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def is_marked(cell: NotebookNode, mark: str) -> bool:
    """nbgrader's marks: "solution" (the learner's to write), "grade" (a check), "locked"."""
    return bool(cell.metadata.get("nbgrader", {}).get(mark))


def same(cell: NotebookNode, other: NotebookNode) -> bool:
    return cell.cell_type == other.cell_type and cell.source == other.source


def own(cell: NotebookNode) -> NotebookNode:
    """A copy as an ordinary cell of the learner's: two cells with one nbgrader name would make the notebook invalid."""
    copied = copy.deepcopy(cell)
    for mark in ("nbgrader", "deletable", "editable"):
        copied.metadata.pop(mark, None)
    return copied


def give_ids(cells: list[NotebookNode], taken: set[str]) -> None:
    """A new id for each of the learner's cells that has none, or one that is taken by a released cell or another."""
    for cell in cells:
        if not cell.get("id") or cell["id"] in taken:
            cell["id"] = uuid.uuid4().hex[:12]
        taken.add(cell["id"])
