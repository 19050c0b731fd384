"""Wrong answers that nobody wrote: a solution with one small change, to measure whether its check would notice.

Each mutant changes one thing: an operator, a constant, an axis, an argument, a comparison, an einops pattern, a call or
a line. Mutation libraries were tried first: they mutate files for a test command in a process of its own, know nothing
of axes or einops patterns, and cost seconds a mutant, where a check in this process costs a tenth of one.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import difflib
import functools
import itertools
import re
import symtable
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from concrete_steps.checking.checks import run_check
from concrete_steps.checking.loader import Loaded
from concrete_steps.checking.mistakes import Call, Mistake, copied, mistakes_of, record
from concrete_steps.checking.outcomes import Result
from concrete_steps.checking.recognition import does_the_same
from concrete_steps.course import Notebook

# The method on the left may be mistaken for one of those on the right.
ALIKE = {
    "tril": ("triu",), "triu": ("tril",), "any": ("all",), "all": ("any",), "sum": ("mean", "prod"), "mean": ("sum",),
    "softmax": ("log_softmax",), "log_softmax": ("softmax",), "max": ("min",), "min": ("max",), "amax": ("amin",),
    "argmax": ("argmin",), "var": ("std",), "std": ("var",), "exp": ("log",), "log": ("exp",), "cos": ("sin",),
    "sin": ("cos",), "masked_fill": ("masked_fill_",), "zeros": ("ones",), "ones": ("zeros",), "rand": ("randn",),
    "repeat": ("repeat_interleave",), "repeat_interleave": ("repeat",), "gelu": ("relu",), "relu": ("gelu",),
}  # fmt: skip
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.MatMult, ast.Pow)
COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
FRESH_SEEDS = (901, 902, 903)
ANY = "any"  # in place of a change: whatever survives of this exercise is no wrong answer
EQUIVALENT = re.compile(r"^# equivalent mutant of (\w+), (.+?)(?: \((\d+)x\))?: .+$", re.MULTILINE)


@dataclass(frozen=True)
class Mutant:
    """One changed solution; `change` says what was done, `diff` shows it."""

    exercise: str
    change: str
    source: str
    original: str

    @property
    def diff(self) -> str:
        lines = difflib.unified_diff(self.original.splitlines(), self.source.splitlines(), lineterm="", n=0)
        return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def mutants_of(exercise: str, text: str) -> list[Mutant]:
    """All mutants of an exercise's cell, each text once."""
    tree = ast.parse(text)
    original = ast.unparse(tree)
    found: dict[str, Mutant] = {}
    for position, change, replace in changes_of(tree):
        changed = copy.deepcopy(tree)
        target = next(itertools.islice(ast.walk(changed), position, None))
        source = ast.unparse(ast.fix_missing_locations(_Replace(target, replace(target)).visit(changed)))
        if source != original and _compiles(source):
            found.setdefault(source, Mutant(exercise, change, source, original))
    return list(found.values())


def changes_of(tree: ast.Module) -> Iterator[tuple[int, str, Callable[[ast.AST], ast.AST | None]]]:
    """(position of the node in the walk, what is done to it, its replacement) of everything that can be changed."""
    for position, node in enumerate(ast.walk(tree)):
        for change, replace in _changes(node, _parameters(tree, node)):
            yield position, change, replace


def known_equivalents(checks: Path) -> dict[tuple[str, str], int]:
    """How many mutants, by exercise and change, are no wrong answers: comments beside the checks say why.

    # equivalent mutant of one_hot, drop .float(): the text allows any number type
    # equivalent mutant of one_hot, 1 -> -1 (2x): of two axes
    """
    text = checks.read_text(encoding="utf-8")
    return {(exercise, change): int(places or 1) for exercise, change, places in EQUIVALENT.findall(text)}


def assigned_by(text: str) -> set[str]:
    """Names that a cell gives values to: a mutant that lacks one must not find the solution's."""
    symbols = symtable.symtable(text, "cell", "exec").get_symbols()
    return {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}


@dataclass(eq=False)
class Names:
    """Whether what a mutant of one exercise was recognised as is true, by inputs that recognition never saw.

    What a check itself asserts is no name: it was measured there.
    """

    notebook: Notebook
    exercise: str
    solved: Loaded

    def given(self, result: Result) -> list[Mistake]:
        """The written mistakes that say what the answer was recognised as."""
        return [
            entry for entry in mistakes_of(self.notebook).get(self.exercise, []) if entry.sentence == result.mistake
        ]

    def is_true(self, wrong: Callable, entry: Mistake) -> bool:
        """True if the mutant does what the mistake does on fresh inputs; without any, nothing can be known of it."""
        alike = [does_the_same(entry.implementation, call, wrong) for call in self._calls_of(wrong)]
        return bool(alike) and all(alike)

    def _calls_of(self, wrong: Callable) -> Iterator[Call]:
        """Calls of the mutant on all the inputs that the solution meets in its checks."""
        made: list[Call] = []
        recorded = record(wrong, made, self.exercise)
        for call in self._inputs():
            with contextlib.suppress(Exception):
                args, kwargs = copied((call.args, call.kwargs))
                recorded(*args, **kwargs)
            yield made.pop()

    @functools.cache  # noqa: B019 (one object an exercise)
    def _inputs(self) -> list[Call]:
        """What the checks ask of the solution on other draws."""
        met: list[Call] = []
        for seed in FRESH_SEEDS:
            made: list[Call] = []
            recorded = record(self.solved.namespace[self.exercise], made, self.exercise)
            solved = Loaded(self.solved.path, {**self.solved.namespace, self.exercise: recorded})
            run_check(self.notebook, self.exercise, solved, seed)
            met += made
        return met


class _Replace(ast.NodeTransformer):
    """Puts `new` in the place of `target`; None removes a statement."""

    def __init__(self, target: ast.AST, new: ast.AST | None):
        self.target, self.new = target, new

    def visit(self, node: ast.AST):
        return self.new if node is self.target else super().visit(node)


Change = tuple[str, Callable[[ast.AST], ast.AST | None]]


def _changes(node: ast.AST, parameters: list[str]) -> Iterator[Change]:
    """What can be done to one node."""
    match node:
        case ast.Constant(value=bool() as value):
            yield f"{value} -> {not value}", lambda _: ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            for other in (value + 1, value - 1, -value):
                yield f"{value} -> {other}", lambda _, other=other: ast.Constant(other)
        case ast.Constant(value=str() as value) if "->" in value:
            for other in _patterns(value):
                yield f"{value!r} -> {other!r}", lambda _, other=other: ast.Constant(other)
        case ast.BinOp():
            for operator in OPERATORS:
                if not isinstance(node.op, operator):
                    name = f"{type(node.op).__name__} -> {operator.__name__}"
                    yield name, lambda n, operator=operator: ast.BinOp(n.left, operator(), n.right)
            yield f"keep {ast.unparse(node.left)}", lambda n: n.left
            yield f"keep {ast.unparse(node.right)}", lambda n: n.right
        case ast.UnaryOp():
            yield f"drop {type(node.op).__name__}", lambda n: n.operand
        case ast.Compare(ops=[operator]):
            for other in COMPARISONS:
                if not isinstance(operator, other):
                    name = f"{type(operator).__name__} -> {other.__name__}"
                    yield name, lambda n, other=other: ast.Compare(n.left, [other()], n.comparators)
        case ast.Slice(lower=lower, upper=upper) if lower or upper:
            yield f"[{ast.unparse(node)}] -> [:]", lambda _: ast.Slice()
        case ast.IfExp():
            yield "condition turned", lambda n: ast.IfExp(n.test, n.orelse, n.body)
        case ast.Name(id=name, ctx=ast.Load()) if name in parameters:
            for other in parameters:
                if other != name:
                    yield f"{name} -> {other}", lambda _, other=other: ast.Name(other, ast.Load())
        case ast.Call():
            yield from _changes_of_call(node)
        case ast.Assign() | ast.AugAssign() | ast.Expr(value=ast.Call()):
            yield f"drop line {ast.unparse(node)}", lambda _: ast.Pass()
        case ast.Return(value=ast.Tuple(elts=[first, *_])):
            yield "return shortened", lambda n, first=first: ast.Return(n.value.elts[0])


def _changes_of_call(call: ast.Call) -> Iterator[Change]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "call")
    if isinstance(call.func, ast.Attribute) and not (
        isinstance(call.func.value, ast.Name) and call.func.value.id in ("torch", "self", "nn", "F", "math")
    ):
        yield f"drop .{name}()", lambda n: n.func.value
    if len(call.args) == 1 and not isinstance(call.args[0], ast.Starred):
        yield f"drop {name}(...)", lambda n: n.args[0]
    if isinstance(call.func, ast.Attribute):
        for other in ALIKE.get(name, ()):
            yield f"{name} -> {other}", lambda n, other=other: _call(n, func=ast.Attribute(n.func.value, other))
    for i in range(len(call.args) - 1):
        yield (
            f"swap arguments {i} and {i + 1} of {name}",
            lambda n, i=i: _call(n, args=[*n.args[:i], n.args[i + 1], n.args[i], *n.args[i + 2 :]]),
        )
    for i in range(len(call.args)):
        yield f"drop argument {i} of {name}", lambda n, i=i: _call(n, args=n.args[:i] + n.args[i + 1 :])
    for i, keyword in enumerate(call.keywords):
        yield f"drop {keyword.arg}= of {name}", lambda n, i=i: _call(n, keywords=n.keywords[:i] + n.keywords[i + 1 :])


def _call(call: ast.Call, func=None, args=None, keywords=None) -> ast.Call:
    given = (call.args if args is None else args), (call.keywords if keywords is None else keywords)
    return ast.Call(func or call.func, *given)


def _patterns(pattern: str) -> list[str]:
    """An einops pattern with two names of one side exchanged, or one name gone."""
    left, arrow, right = pattern.partition("->")
    changed = [other + arrow + right for other in _sides(left)] + [left + arrow + other for other in _sides(right)]
    return [other for other in dict.fromkeys(changed) if other != pattern]


def _sides(side: str) -> list[str]:
    names = list(re.finditer(r"\w+", side))
    swapped = [
        side[: a.start()] + b[0] + side[a.end() : b.start()] + a[0] + side[b.end() :]
        for a, b in itertools.combinations(names, 2)
    ]
    return swapped + [side[: name.start()] + side[name.end() :] for name in names]


def _parameters(tree: ast.Module, node: ast.AST) -> list[str]:
    """Parameters of the functions around a node, without self."""
    functions = [function for function in ast.walk(tree) if isinstance(function, ast.FunctionDef)]
    around = [f for f in functions if any(part is node for statement in f.body for part in ast.walk(statement))]
    return [argument.arg for function in around for argument in function.args.args if argument.arg != "self"]


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except (SyntaxError, ValueError):
        return False
    return True
