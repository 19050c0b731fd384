"""Further calls of a learner's function, to tell it from a written mistake.

A check stops at its first failing assertion, often at the first and smallest of its inputs. Here all the checks of the
exercise run again, with other seeds and without a word: their assertions are taken out, so that every input of theirs
is met. Each recorded call also comes shaken: the same call, with noise on its floating-point numbers.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import io
import itertools
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concrete_steps.checking.mistakes import Call, copied, record

TESTING = "concrete_steps.checking.testing"
SEEDS = (101, 102)
SHAKEN = 4  # so many calls of a check are also shaken
MOST_CALLS, LEAST_CALLS = 60, 4  # of one check; in all, however slow they are


class Enough(BaseException):
    """Raised in place of a call when time is up; not an Exception, so that the learner's code lets it pass."""


@dataclass
class Further:
    """Where further calls come from.

    Args:
        checks: the notebook's module of checks.
        exercise: the name of the exercise.
        namespace: the learner's objects, which checks may ask for by name.
        at_hand: other arguments of checks, such as models; a check that needs one that is not here is left out.
        seconds: after so much time of this thread on a processor no more calls are made than LEAST_CALLS; other
            programs on a busy machine change no verdict.
    """

    checks: Path
    exercise: str
    namespace: dict
    at_hand: dict
    seconds: float
    seeds: tuple[int, ...] = SEEDS

    def calls(self) -> Iterator[Call]:
        """The calls, each made when it is asked for or a little before."""
        end = time.thread_time() + self.seconds
        random, checks = _Noise(), _checks_of(self.checks, self.exercise)
        met = 0
        for run, (seed, check) in enumerate(itertools.product(self.seeds, checks)):
            needed = LEAST_CALLS - met if run < len(checks) else 0
            for number, call in enumerate(self._calls_of(check, seed, end, needed)):
                yield call
                if number < SHAKEN:
                    yield from self._shaken(call, random)
                if time.thread_time() > end and number + 1 >= needed:
                    return
                met += 1

    def _calls_of(self, check: Callable, seed: int, end: float, least: int) -> list[Call]:
        """The learner's calls while one check runs quietly; when time is up only the `least` that must be."""
        from concrete_steps.checking.testing import Rng

        made: list[Call] = []
        recorded = record(self.namespace[self.exercise], made, self.exercise)

        @functools.wraps(recorded)
        def limited(*args, **kwargs):
            if len(made) >= MOST_CALLS or (len(made) >= least and time.thread_time() > end):
                raise Enough
            return recorded(*args, **kwargs)

        known = {**self.namespace, **self.at_hand, "rng": Rng(seed), self.exercise: limited}
        names = list(inspect.signature(check).parameters)
        if all(name in known for name in names):
            with contextlib.suppress(Exception, Enough):
                check(**{name: known[name] for name in names})
        # A call that did not come to an end says nothing.
        return [call for call in made if call.error is None or isinstance(call.error, Exception)]

    def _shaken(self, call: Call, random: _Noise) -> Iterator[Call]:
        """The same call with noise on its numbers; an error there is outside of what was promised, and says nothing."""
        args, kwargs = random.on(copied((call.args, call.kwargs)))
        if not random.was_used:
            return
        made: list[Call] = []
        with contextlib.suppress(Exception):
            record(self.namespace[self.exercise], made, self.exercise)(*args, **kwargs)
            yield from made


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Nothing is printed inside the block, and the random state is afterwards what it was."""
    import torch

    silent = io.StringIO()
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        yield


class _Noise:
    """Adds noise to the floating-point numbers in a value, a third of their spread."""

    def __init__(self):
        import torch

        self.generator = torch.Generator().manual_seed(0)
        self.was_used = False

    def on(self, value: Any) -> Any:
        self.was_used = False
        return self._on(value)

    def _on(self, value: Any) -> Any:
        import torch

        if isinstance(value, torch.Tensor):
            return self._on_tensor(value)
        if type(value) is float:
            return self._on_tensor(torch.tensor(value, dtype=torch.float64)).item()
        if type(value) in (list, tuple):
            return type(value)(self._on(item) for item in value)
        if type(value) is dict:
            return {key: self._on(item) for key, item in value.items()}
        return value

    def _on_tensor(self, x: Any) -> Any:
        import torch

        finite = x.detach()[x.detach().isfinite()] if x.is_floating_point() else x.flatten()[:0]
        if not finite.numel():
            return x
        self.was_used = True
        spread = finite.double().std().item() if finite.numel() > 1 else 0.0
        noise = torch.randn(x.shape, generator=self.generator, dtype=torch.float64)
        shaken = x.detach().double() + noise * (spread or finite.abs().max().item() or 1.0) / 3
        return shaken.to(x.dtype).requires_grad_(x.requires_grad)


def _checks_of(checks: Path, exercise: str) -> list[Callable]:
    namespace = _quiet(checks)
    own = [value for name, value in namespace.items() if name.split("__")[0] == f"test_{exercise}"]
    return [check for check in own if not any(_is_slow(mark) for mark in getattr(check, "pytestmark", ()))]


def _is_slow(mark: Any) -> bool:
    """Marked with a time of its own, it is too slow to run again, unless it keeps what takes the time."""
    return not mark.kwargs.get("again", False)


@functools.cache
def _quiet(path: Path) -> dict[str, Any]:
    """A module of checks, or of their helpers, whose assertions are taken out."""
    module = types.ModuleType(f"concrete_steps_quiet.{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    tree = ast.fix_missing_locations(_Quiet().visit(ast.parse(path.read_text(encoding="utf-8"))))
    exec(compile(tree, str(path), "exec", dont_inherit=True), module.__dict__)
    for name, value in list(module.__dict__.items()):
        if inspect.isfunction(value) and value.__module__.startswith(TESTING):
            source = Path(inspect.getsourcefile(inspect.unwrap(value)))
            module.__dict__[name] = _quiet(source)[value.__name__]
    return module.__dict__


class _Quiet(ast.NodeTransformer):
    """Assertions are evaluated, for the calls in them, and never fail; nor does a call, or what is assigned."""

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        return _tried(ast.Expr(node.test))

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        return _tried(node) if isinstance(node.value, ast.Call) else node

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        return _tried(node)  # the next input is met, too, where the answer to one cannot be computed

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Pass() if getattr(raised, "id", "") == "AssertionError" else node


def _tried(statement: ast.stmt) -> ast.Try:
    handler = ast.ExceptHandler(type=ast.Name("Exception", ast.Load()), name=None, body=[ast.Pass()])
    return ast.Try(body=[statement], handlers=[handler], orelse=[], finalbody=[])
