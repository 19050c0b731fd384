"""The percent source of a notebook (solutions/**/NAME.py) as a list of cells, with one clear sentence for every slip.

A cell begins at `# %%` (code) or `# %% [markdown]`. What a code cell is for stands behind the marker:
    # %% setup=True                                                the one set-up cell
    # %% exercise="causal_mask" points=1 difficulty=2 minutes=10   what the learner writes; holds BEGIN/END SOLUTION
    # %% check="causal_mask"                                       its check, empty body
    # %% experiment=True                                           runs on the learner's functions, not graded
    # %% generated="overview"                                      text that is derived from course.toml, empty body
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from concrete_steps.checking.loader import defined_names
from concrete_steps.errors import CourseError

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
GENERATED = ("overview", "map")
# The keys that each kind of cell must have; the first one names the kind.
DIRECTIVES: dict[str, dict[str, type]] = {
    "exercise": {"exercise": str, "points": int, "difficulty": int, "minutes": int},
    "check": {"check": str},
    "setup": {"setup": bool},
    "experiment": {"experiment": bool},
    "generated": {"generated": str},
}


@dataclass(frozen=True)
class Cell:
    """One cell: kind is markdown, code or a key of DIRECTIVES; line is the marker's line in the file."""

    kind: str
    text: str
    line: int
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The exercise's name, for exercise and check cells."""
        return self.options[self.kind]


def read_source(path: Path, exercises: tuple[str, ...] = ()) -> list[Cell]:
    """The cells of a percent file.

    Args:
        path: the file.
        exercises: the names that course.toml lists for this notebook; a check of another name is an error.

    Raises:
        CourseError: a malformed directive, a duplicate exercise, a solution without markers, an unknown check.
    """
    import jupytext

    text = path.read_text(encoding="utf-8")
    markers = [number for number, line in enumerate(text.splitlines(), 1) if re.match(r"# ?%%( |$)", line)]
    parsed = jupytext.reads(text, fmt="py:percent").cells
    if len(parsed) != len(markers):
        raise CourseError(f"{path}, line 1: text stands before the first cell marker; begin the file with '# %%'.")
    cells = [_cell(path, cell, line) for cell, line in zip(parsed, markers, strict=True)]
    _check_names(path, cells, exercises)
    return cells


def exercise_cells(cells: list[Cell]) -> dict[str, Cell]:
    """Exercise cells by name, in order."""
    return {cell.name: cell for cell in cells if cell.kind == "exercise"}


def _cell(path: Path, parsed, line: int) -> Cell:
    options = {key: value for key, value in parsed.metadata.items() if key not in ("lines_to_next_cell", "title")}
    where = f"{path}, line {line}"
    if "title" in parsed.metadata:
        raise CourseError(f"{where}: cannot read {parsed.metadata['title']!r}; directives are key=value, as points=1.")
    if parsed.cell_type == "markdown":
        if options:
            raise CourseError(f"{where}: a markdown cell takes no options, but has {', '.join(options)}; remove them.")
        return Cell("markdown", parsed.source, line)
    kinds = [kind for kind in DIRECTIVES if kind in options]
    if len(kinds) > 1 or (options and not kinds):
        raise CourseError(
            f"{where}: the cell says {', '.join(options)}; it takes exactly one of {', '.join(DIRECTIVES)}."
        )
    if not kinds:
        return Cell("code", parsed.source, line)
    kind = kinds[0]
    _check_options(where, kind, options)
    cell = Cell(kind, parsed.source, line, options)
    if kind == "exercise":
        _check_exercise(where, cell)
    elif kind in ("check", "generated") and parsed.source.strip():
        raise CourseError(f"{where}: a {kind} cell has no body (the builder writes it); move the code to another cell.")
    if kind == "generated" and options["generated"] not in GENERATED:
        raise CourseError(f"{where}: nothing generates {options['generated']!r}; use one of {', '.join(GENERATED)}.")
    return cell


def _check_options(where: str, kind: str, options: dict[str, Any]) -> None:
    wanted = DIRECTIVES[kind]
    for key in options.keys() - wanted.keys():
        raise CourseError(f"{where}: unknown option {key!r} in a cell with {kind}=; it takes {', '.join(wanted)}.")
    for key, type_ in wanted.items():
        if not isinstance(options.get(key), type_):
            given = f"is {options[key]!r}" if key in options else "is missing"
            raise CourseError(f"{where}: {key} {given}; a cell with {kind}= needs {key} as {type_.__name__}.")
    if not 1 <= options.get("difficulty", 1) <= 5:
        raise CourseError(f"{where}: difficulty is {options['difficulty']}; it goes from 1 to 5.")
    for key in ("points", "minutes"):
        if options.get(key, 1) < 1:
            raise CourseError(f"{where}: {key} is {options[key]}; it must be at least 1.")


def _check_exercise(where: str, cell: Cell) -> None:
    begins, ends = cell.text.count(BEGIN), cell.text.count(END)
    if begins == 0 or begins != ends:
        raise CourseError(
            f"{where}: exercise {cell.name!r} has {begins} '{BEGIN}' and {ends} '{END}'; put each solution between two."
        )
    try:
        tree = ast.parse(cell.text)
    except SyntaxError as error:
        raise CourseError(
            f"{where}: exercise {cell.name!r} does not parse ({error.msg}, its line {error.lineno})."
        ) from None
    if cell.name not in defined_names(tree):
        raise CourseError(
            f"{where}: exercise {cell.name!r} does not define {cell.name}; name it as the directive does."
        )


def _check_names(path: Path, cells: list[Cell], exercises: tuple[str, ...]) -> None:
    seen: dict[str, int] = {}
    checked: dict[str, int] = {}
    for cell in cells:
        where = f"{path}, line {cell.line}"
        if cell.kind == "exercise":
            if cell.name in seen:
                raise CourseError(
                    f"{where}: exercise {cell.name!r} stands already at line {seen[cell.name]}; rename one."
                )
            if exercises and cell.name not in exercises:
                raise CourseError(
                    f"{where}: course.toml does not know exercise {cell.name!r}; list it under a criterion."
                )
            seen[cell.name] = cell.line
        elif cell.kind == "check":
            if cell.name not in seen:
                raise CourseError(f"{where}: check of {cell.name!r}, but no exercise above has that name.")
            checked[cell.name] = cell.line
    for name in seen.keys() - checked.keys():
        raise CourseError(f'{path}, line {seen[name]}: exercise {name!r} has no check; add a cell # %% check="{name}".')
    for name in exercises:
        if name not in seen:
            raise CourseError(f"{path}, line 1: course.toml lists exercise {name!r}, but no cell defines it.")
