"""A learner's notebook as a namespace of Python objects, without running its experiments.

The set-up cell runs whole. From any other cell run imports, definitions and assignments of literals, and of the rest
what gives an exercise, or something that it uses, its value (`mask = make_mask(5)`, `cache.append(1)`); checks, magics,
prints, pictures and experiments never do. Each statement runs by itself, so that a failing one costs only what depends
on it.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import functools
import inspect
import json
import linecache
import os
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from concrete_steps.checking.state import clean_state
from concrete_steps.checking.statements import Statement, compile_statement, future_flags, needed_for
from concrete_steps.course import Notebook
from concrete_steps.errors import CourseError

# Cell magics whose body is ordinary Python; a cell under any other cell magic is not Python and is left out.
PYTHON_MAGICS = ("time", "timeit", "capture", "prun")
# IPython reads a cell's whole text once for each of its magics: where there are too many, none is looked for.
MAY_BE_MAGIC = re.compile(r"^[ \t]*[%!?]|=[ \t]*[%!]|\?[ \t]*$", re.MULTILINE)
MOST_MAGICS, MOST_LINES_READ, MOST_LETTERS_READ = 50, 50_000, 10**7
# A cell that is indented as a whole or has prompts, which Jupyter runs.
PASTED = re.compile(r"\A\s*[ \t]\S|^[ \t]*(>>> |In \[\d)", re.MULTILINE)


@dataclass
class Loaded:
    """The learner's objects by name.

    Attributes:
        problems: by name, which cell kept an object from being defined.
        cells: what the learner's cells say, as far as it is known.
        module: what stands for `__main__` where the objects are not a kernel's own.
        search: where its cells look for modules, beside where everyone does.
        modules: the modules from there that its cells have imported.
    """

    path: Path
    namespace: dict = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    cells: Sequence[str] = ()
    module: types.ModuleType | None = None
    search: list[str] = field(default_factory=list)
    modules: dict[str, types.ModuleType] = field(default_factory=dict)


_loading = False


def is_loading() -> bool:
    """True while a notebook's cells run here: a check called from one of them does nothing."""
    return _loading


def read_notebook(path: Path) -> dict:
    """The notebook's JSON.

    Raises:
        CourseError: the file is missing, is not JSON or is not a notebook.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        cells = content["cells"]
        if not all(isinstance(cell, dict) and "source" in cell and "cell_type" in cell for cell in cells):
            raise KeyError("cells")
    except FileNotFoundError:
        raise CourseError(f"{path} does not exist; run scripts/start.py to make your copy.") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CourseError(
            f"{path} cannot be read as a notebook ({type(error).__name__}: {error}); save it again from Jupyter."
        ) from None
    return content


def find_copy(folder: Path, notebook: Notebook) -> Path:
    """The learner's copy of a notebook below folder: by its path, else its name, else its exercises."""
    expected = folder / notebook.path
    if expected.is_file():
        return expected
    copies = [path for path in folder.rglob("*.ipynb") if not _is_hidden(path.relative_to(folder))]
    newest_first = sorted(copies, key=lambda path: -path.stat().st_mtime)
    by_name = [path for path in newest_first if path.name == notebook.path.name]
    if by_name:
        return by_name[0]
    best, most = expected, len(notebook.exercises) // 2
    for path in newest_first:
        with contextlib.suppress(CourseError):
            names = {_cell_name(cell) for cell in read_notebook(path)["cells"]}
            found = len(names & set(notebook.exercises))
            if found > most:
                best, most = path, found
    return best


def load(
    path: Path,
    exercises: tuple[str, ...],
    skip: tuple[str, ...] = (),
    on_cell: Callable[[str], None] = lambda cell: None,
) -> Loaded:
    """Run what a check needs of the notebook at `path`.

    Args:
        path: the notebook.
        exercises: names of the exercises; a cell with such an id, or that defines such a name, runs whole.
        skip: names of cells that must not run (they killed an earlier attempt).
        on_cell: told the name of each cell before it runs.
    """
    module = types.ModuleType("__main__")
    module.display = _show_nothing
    loaded = Loaded(path, module.__dict__, cells=[], module=module)
    items = list(_statements(loaded, read_notebook(path)["cells"], exercises))
    statements = [item for item in items if isinstance(item, Statement)]
    needed = {id(one) for one in needed_for(exercises, statements)}
    label = ""
    with _as_loading(), clean_state(), beside(loaded):
        for item in items:
            if isinstance(item, _Fault):
                _blame(loaded, item.names, item.reason)
            elif item.is_definition or item.cell == "setup" or id(item) in needed:
                # What is no definition goes by its line: if it never ends, the next attempt leaves out that line alone.
                step = item.cell if item.is_definition else f"{item.cell}, line {item.node.lineno}"
                if step != label:
                    label = step
                    on_cell(label)
                _run(loaded, item, skip=label in skip)
    return loaded


@contextlib.contextmanager
def beside(loaded: Loaded) -> Iterator[None]:
    """Objects of a notebook that was loaded find here what a kernel gives them: files and modules of their own folder.

    Modules beside one notebook are not those beside another: they are kept with the notebook between two blocks.
    """
    if loaded.module is None:
        yield
        return
    folder = os.path.dirname(os.path.abspath(loaded.path))
    known, path = set(sys.modules), list(sys.path)
    before = sys.modules["__main__"], builtins.input, os.environ.get("MPLBACKEND")
    sys.modules.update({**loaded.modules, "__main__": loaded.module})
    sys.path[:0] = loaded.search or [folder]
    builtins.input = _ask_nobody
    os.environ.setdefault("MPLBACKEND", "Agg")
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        loaded.search = [entry for entry in sys.path if entry not in path]
        folders = [os.path.abspath(os.path.join(folder, entry)) for entry in loaded.search]
        new = [name for name in set(sys.modules) - known if _lies_in(name, folders)]
        loaded.modules.update((name, sys.modules.pop(name)) for name in new)
        sys.path[:] = path
        sys.modules["__main__"], builtins.input, _ = before
        if before[2] is None:
            os.environ.pop("MPLBACKEND", None)


def kind_of(name: str, cells: Sequence[str]) -> str | None:
    """ "function" or "class" if a cell defines `name` as one: so it should be what stands under that name."""
    for text in cells:
        found = re.search(rf"^(?:async +)?(def|class) +{name}\b", text, re.MULTILINE)
        if found:
            return "class" if found[1] == "class" else "function"
    return None


@dataclass(frozen=True)
class _Fault:
    """A cell, or a statement, that cannot be compiled, and the names that it was to define."""

    names: list[str]
    reason: str


def _statements(loaded: Loaded, cells: list[dict], exercises: tuple[str, ...]) -> Iterator[Statement | _Fault]:
    flags = 0
    for index, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            continue
        label = _cell_name(cell) or f"cell {index + 1}"
        text = python_of("".join(cell["source"]))
        loaded.cells.append(text)
        file_name = f"{loaded.path.name}, cell {label}"
        linecache.cache[file_name] = (len(text), None, text.splitlines(keepends=True), file_name)
        wanted = [name for name in exercises if name == label or re.search(_defining(name), text, re.MULTILINE)]
        try:
            tree = ast.parse(text, file_name)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            yield _Fault(wanted, _syntax(error, label))
            continue
        if label.startswith("check_"):
            continue
        for node in tree.body:
            if _calls(node, "get_ipython"):
                continue
            flags |= future_flags(node)
            try:
                yield compile_statement(node, file_name, label, flags)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                yield _Fault(sorted(defined_names(ast.Module([node], []))), _syntax(error, label))


def _defining(name: str) -> str:
    return rf"\b(def|class)\s+{name}\b|^{name}\s*(:.*)?=(?!=)"


def _syntax(error: Exception, label: str) -> str:
    line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
    return f"{type(error).__name__} in your cell {label}{line}: {getattr(error, 'msg', error)}"


def _run(loaded: Loaded, one: Statement, skip: bool) -> None:
    file_name = one.code.co_filename
    if skip:
        _blame(loaded, one.binds, f"your cell {one.cell} did not finish: it ran too long or ended the process")
        return
    try:
        result = eval(one.code, loaded.namespace)
        if one.code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(result)
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file_name]
        line = f", line {lines[-1]}" if lines else ""
        # A name that was defined before is not what it should be now; it is missing until it is defined again.
        _blame(loaded, one.binds, f"{type(error).__name__} in your cell {one.cell}{line}: {error}")
    else:
        for name in one.binds:
            loaded.problems.pop(name, None)


def _blame(loaded: Loaded, names: Iterable[str], reason: str) -> None:
    for name in names:
        loaded.problems[name] = reason


def _show_nothing(*objects, **options) -> None:
    """A kernel's `display`, where nobody looks."""


def _ask_nobody(prompt: object = "") -> str:
    raise EOFError("nobody can answer input() here")


def _lies_in(name: str, folders: list[str]) -> bool:
    """Whether a module, or the package that it is part of, lies in one of the folders itself."""
    top = name.partition(".")[0]
    file = getattr(sys.modules.get(top), "__file__", None)
    if not file or top == "concrete_steps":
        return False
    places = tuple(os.path.join(folder, top) + end for folder in folders for end in (".", os.sep))
    return os.path.abspath(file).startswith(places)


@functools.lru_cache(maxsize=256)
def python_of(text: str) -> str:
    """The cell's Python, with magics as calls of get_ipython (which are then dropped) and other languages emptied."""
    from IPython.core.inputtransformer2 import TransformerManager

    magic = re.match(r"\s*%%(\w+).*\n?", text)
    if magic:
        text = text[magic.end() :] if magic[1] in PYTHON_MAGICS else ""
    text = re.sub(r"^([ \t]*)%time[ \t]+(?=\S)", r"\1", text, flags=re.MULTILINE)  # `%time x = f()` assigns, too
    magics = len(MAY_BE_MAGIC.findall(text)) if re.search(r"[%!?]", text) else 0
    if not magics and (not PASTED.search(text) or _is_python(text)):
        return text
    quotes = text.count('"""') + text.count("'''")
    too_much = magics > MOST_MAGICS or magics * text.count("\n") > MOST_LINES_READ
    if too_much or quotes * max(map(len, text.split("\n"))) > MOST_LETTERS_READ:
        return text
    try:
        return TransformerManager().transform_cell(text)
    except (SyntaxError, RuntimeError):  # the second says that there are too many
        return text


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _cell_name(cell: dict) -> str | None:
    """The exercise's name: nbgrader's grade_id, which survives a new cell id (Colab), else the cell's id."""
    metadata = cell.get("metadata")
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    name = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    return name or cell.get("id")


def _calls(node: ast.stmt, name: str) -> bool:
    return not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Try) and any(
        isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == name
        for part in ast.walk(node)
    )


def defined_names(tree: ast.Module) -> set[str]:
    """Names that the module's top level defines or assigns."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)}
    return names


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


@contextlib.contextmanager
def _as_loading() -> Iterator[None]:
    global _loading
    before, _loading = _loading, True
    try:
        yield
    finally:
        _loading = before
