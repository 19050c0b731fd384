"""What each statement of a notebook's cells defines, uses and changes, and which of them the exercises need.

Names are taken from the compiled code, which tells the globals of a function from its own variables: an exercise with a
variable `model` inside must not make the loader run an experiment's `model = ...`.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import dis
import types
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
IMPORTS = ast.Import | ast.ImportFrom


@dataclass(frozen=True)
class Statement:
    """One statement at the top level of a cell.

    Attributes:
        is_definition: an import, a definition or an assignment of a literal.
        binds: names that it defines or assigns.
        changes: names of objects that it assigns into: `cache[0] = 1`, `setattr(cache, ...)`.
        calls_on: names of objects whose methods it calls for their effect: `cache.append(1)`.
        uses: global names that it, or a function defined in it, reads.
    """

    node: ast.stmt
    code: types.CodeType
    cell: str
    is_definition: bool
    binds: frozenset[str]
    changes: frozenset[str]
    calls_on: frozenset[str]
    uses: frozenset[str]


def compile_statement(node: ast.stmt, file_name: str, cell: str, flags: int = 0) -> Statement:
    """Compile one statement of a cell; `flags` are those of future imports before it.

    Raises:
        SyntaxError: it cannot stand at the top level of a cell, as `return` cannot.
    """
    # Without dont_inherit a learner's cell would take over this file's future import, and its dataclasses fail.
    flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(ast.Module([node], []), file_name, "exec", flags=flags, dont_inherit=True)
    stores = (one.argval for one in dis.get_instructions(code) if one.opname in ("STORE_NAME", "STORE_GLOBAL"))
    return Statement(
        node=node,
        code=code,
        cell=cell,
        is_definition=isinstance(node, DEFINITIONS | IMPORTS) or _is_literal(node) or _changes_the_search_path(node),
        binds=frozenset(stores),
        changes=frozenset(_assigned_into(node)),
        calls_on=frozenset(_called_for_effect(node)),
        uses=frozenset(_globals_read(code)),
    )


def future_flags(node: ast.stmt) -> int:
    """Flags of `from __future__ import ...`, which hold from there on, as in a kernel."""
    if not isinstance(node, ast.ImportFrom) or node.module != "__future__":
        return 0
    features = [getattr(__future__, alias.name, None) for alias in node.names]
    return sum(feature.compiler_flag for feature in features if feature is not None)


def needed_for(exercises: Iterable[str], statements: Sequence[Statement]) -> list[Statement]:
    """The statements that give the exercises, and what these use, their values, in the order of the notebook."""
    # A call of something imported or defined (`torch.save(x)`, `plt.show()`) changes nothing that an exercise uses.
    fixed = set().union(*(one.binds for one in statements if isinstance(one.node, DEFINITIONS | IMPORTS)))
    needed = set(exercises)
    while True:
        found = [one for one in statements if needed & (one.binds | one.changes | (one.calls_on - fixed))]
        more = set().union(*(one.uses for one in found))
        if more <= needed:
            return found
        needed |= more


def _globals_read(code: types.CodeType) -> Iterator[str]:
    for one in dis.get_instructions(code):
        if one.opname in ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"):
            yield one.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals_read(constant)


def _assigned_into(node: ast.stmt) -> Iterator[str]:
    """Roots of what is assigned to, or deleted, in part, and of setattr's first argument."""
    for part in _parts(node):
        if isinstance(part, ast.Attribute | ast.Subscript) and isinstance(part.ctx, ast.Store | ast.Del):
            yield from _root(part)
        elif isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in ("setattr", "delattr"):
            yield from _root(part.args[0] if part.args else part.func)


def _called_for_effect(node: ast.stmt) -> Iterator[str]:
    for part in _parts(node):
        call = part.value if isinstance(part, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            yield from _root(call.func)


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """The node and what is in it, but for the bodies of definitions, which do not run here."""
    if not isinstance(node, DEFINITIONS | ast.Lambda):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from _parts(child)


def _root(node: ast.AST) -> Iterator[str]:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id


def _is_literal(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            ast.literal_eval(node.value)
            return True
    return False


def _changes_the_search_path(node: ast.stmt) -> bool:
    """`sys.path.append("lib")`: imports depend on it, by no name."""
    return isinstance(node, ast.Expr) and ast.unparse(node).startswith("sys.path.")
