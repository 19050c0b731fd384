"""A learner's notebook as a namespace of Python objects, without running its experiments.

Set-up and exercise cells run whole; from any other cell only imports, definitions and literal assignments run; checks,
magics and experiments never do. Each cell is compiled by itself, so that an error in one costs only what depends on it.
"""

from __future__ import annotations

import ast
import contextlib
import json
import linecache
import re
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from concrete_steps.course import Notebook
from concrete_steps.errors import CourseError

# Cell magics whose body is ordinary Python; a cell under any other cell magic is not Python and is left out.
PYTHON_MAGICS = ("time", "timeit", "capture", "prun")


@dataclass
class Loaded:
    """The learner's objects by name; `problems` says, by name, which cell kept an object from being defined."""

    path: Path
    namespace: dict = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


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
    module = types.ModuleType("learner")
    loaded = Loaded(path, module.__dict__)
    with _as_loading():
        for index, cell in enumerate(read_notebook(path)["cells"]):
            if cell["cell_type"] == "code":
                label = _cell_name(cell) or f"cell {index + 1}"
                on_cell(label)
                _run_cell(loaded, cell, label, exercises, skip)
    return loaded


def _run_cell(loaded: Loaded, cell: dict, label: str, exercises: tuple[str, ...], skip: tuple[str, ...]) -> None:
    text = _python_of("".join(cell["source"]))
    file_name = f"{loaded.path.name}, cell {label}"
    linecache.cache[file_name] = (len(text), None, text.splitlines(keepends=True), file_name)
    # A name that an earlier cell failed to define is still missing: what is known of it is kept until it is defined.
    wanted = [name for name in exercises if name == label or re.search(rf"\b(def|class)\s+{name}\b", text)]
    try:
        tree = ast.parse(text, file_name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        _blame(loaded, wanted, f"{type(error).__name__} in your cell {label}{line}: {getattr(error, 'msg', error)}")
        return
    whole = label == "setup" or label in exercises or bool(wanted)
    tree.body = [node for node in tree.body if not _calls(node, "get_ipython") and (whole or _is_harmless(node))]
    if label.startswith("check_") or not tree.body:
        return
    defined = sorted(defined_names(tree))
    if label in skip:
        _blame(loaded, [*wanted, *defined], f"your cell {label} did not finish: it ran too long or ended the process")
        return
    try:
        # Without dont_inherit a learner's cell would take over this file's future import, and its dataclasses fail.
        exec(compile(tree, file_name, "exec", dont_inherit=True), loaded.namespace)
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file_name]
        line = f", line {lines[-1]}" if lines else ""
        _blame(loaded, [*wanted, *defined], f"{type(error).__name__} in your cell {label}{line}: {error}")
    else:
        for name in defined:
            loaded.problems.pop(name, None)


def _blame(loaded: Loaded, names: list[str], reason: str) -> None:
    for name in names:
        loaded.problems[name] = reason


def _python_of(text: str) -> str:
    """The cell's Python, with magics as calls of get_ipython (which are then dropped) and other languages emptied."""
    from IPython.core.inputtransformer2 import TransformerManager

    magic = re.match(r"\s*%%(\w+).*\n?", text)
    if magic:
        text = text[magic.end() :] if magic[1] in PYTHON_MAGICS else ""
    if not re.search(r"[%!?]", text):
        return text
    try:
        return TransformerManager().transform_cell(text)
    except SyntaxError:
        return text


def _cell_name(cell: dict) -> str | None:
    """The exercise's name: nbgrader's grade_id, which survives a new cell id (Colab), else the cell's id."""
    metadata = cell.get("metadata")
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    name = nbgrader.get("grade_id") if isinstance(nbgrader, dict) else None
    return name or cell.get("id")


def _is_harmless(node: ast.stmt) -> bool:
    """An import, a definition or an assignment of a literal."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return True
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            ast.literal_eval(node.value)
            return True
    return False


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
