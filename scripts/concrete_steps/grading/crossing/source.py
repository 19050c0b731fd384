"""What of a module of checks a sandbox needs to have one of its classes or functions: that, and what it uses.

Checks lend the learner's code objects of classes of their own: a network that counts its calls, a hook. Their
statements go along, and nothing else of the module: no test, no expected value that is not used by them.
"""

from __future__ import annotations

import ast
import functools
import types
from pathlib import Path

from concrete_steps.paths import course_root


def is_of_checks(namespace: dict) -> bool:
    """Whether this is the namespace of a module of checks."""
    return Path(namespace.get("__file__", "")).parent == course_root() / "tests"


class Statements:
    """The statements of a module of checks, given out once each."""

    def __init__(self, path: Path):
        self.texts, self.needs, self.where = _read(path)
        self.given: set[int] = set()

    def for_names(self, names: set[str]) -> list[str]:
        """The texts of statements that define the names, and the names that those use, in the module's order."""
        wanted: set[int] = set()
        waiting = list(names)
        while waiting:
            for index in self.where.get(waiting.pop(), ()):
                if index not in wanted:
                    wanted.add(index)
                    waiting += self.needs[index]
        new = sorted(wanted - self.given)
        self.given |= wanted
        return [self.texts[index] for index in new]


def names_in(code: types.CodeType) -> set[str]:
    """The names that a function may look up among its globals, in functions within it too."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return set(code.co_names).union(*map(names_in, inner))


@functools.cache
def _read(path: Path) -> tuple[list[str], list[set[str]], dict[str, list[int]]]:
    text = path.read_text(encoding="utf-8")
    texts, needs, where = [], [], {}
    for index, node in enumerate(ast.parse(text).body):
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
        texts.append("\n" * (first - 1) + "\n".join(text.splitlines()[first - 1 : node.end_lineno]))
        needs.append({leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)})
        for name in _defined(node):
            where.setdefault(name, []).append(index)
    return texts, needs, where


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [] if node.name.startswith("test_") else [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)]
    return []
