"""Wrong answers that people really give, and the record of what a learner's function does.

A mistake is a wrong implementation under the exercise's own name, with the sentence that tells a learner what it is:

    @mistake("sums every entry, not the diagonal")
    def batched_trace(x):
        return x.sum((-1, -2))

For an answer (`answer_axis = "b"`) the function takes no arguments and returns the wrong value. Which of them a
learner's answer is, is found in `recognition`.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from concrete_steps.course import Notebook

# Recording stops here: a check is small, and a learner's loop may call a function very often.
MOST_CALLS = 200
MOST_STEPS = 20  # of calls that train a model: each is kept with copies of it

_registry: dict[str, list[Mistake]] = {}
_right: dict[str, list[Mistake]] = {}


@dataclass(frozen=True)
class Mistake:
    """A wrong implementation of one exercise and the sentence that names it."""

    exercise: str
    sentence: str
    implementation: Any

    def answer(self, learner: Any) -> Any:
        """What stands in the learner's place: the implementation, or the value that it returns for an answer."""
        return self.implementation if callable(learner) else self.implementation()


@dataclass
class Call:
    """One call of a learner's function: inputs as they were, outcome, and inputs as they were afterwards."""

    name: str
    args: tuple
    kwargs: dict
    random_state: Any
    output: Any = None
    error: BaseException | None = None
    after: tuple = field(default_factory=tuple)
    seconds: float = 0.0


def mistake(sentence: str) -> Callable[[Any], Any]:
    """Register a wrong answer; the function or class carries the name of its exercise."""

    def register(implementation: Any) -> Any:
        entry = Mistake(implementation.__name__, sentence, implementation)
        _registry.setdefault(implementation.__module__, []).append(entry)
        return implementation

    return register


def right(style: str, exercise: str = "") -> Callable[[Any], Any]:
    """Register a right answer in another style than the solution's: no check may refuse it.

    It carries its exercise's name; one that cannot (a partial, an instance) names the `exercise`.
    """

    def register(implementation: Any) -> Any:
        entry = Mistake(exercise or implementation.__name__, style, implementation)
        _right.setdefault(implementation.__module__, []).append(entry)
        return implementation

    return register


def right_answers_of(notebook: Notebook) -> dict[str, list[Mistake]]:
    """The right answers in other styles that stand beside a notebook's wrong ones, by exercise."""
    _load_mistakes(notebook.mistakes)
    found: dict[str, list[Mistake]] = {}
    for entry in _right.get(_module_name(notebook.mistakes), ()):
        found.setdefault(entry.exercise, []).append(entry)
    return found


def mistakes_of(notebook: Notebook) -> dict[str, list[Mistake]]:
    """The wrong answers of a notebook, by exercise."""
    found: dict[str, list[Mistake]] = {}
    for entry in _load_mistakes(notebook.mistakes):
        found.setdefault(entry.exercise, []).append(entry)
    return found


@functools.cache
def _load_mistakes(path: Path) -> tuple[Mistake, ...]:
    if not path.is_file():
        return ()
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    _registry.pop(name, None)
    _right.pop(name, None)
    spec.loader.exec_module(module)
    return tuple(_registry.get(name, ()))


def _module_name(path: Path) -> str:
    return f"concrete_steps_mistakes.{path.stem}"


def record(function: Callable, calls: list[Call], name: str = "") -> Callable:
    """The function, with its calls written to `calls` under `name`: a partial, a module or an instance has none."""
    import torch

    name = name or function.__name__

    @functools.wraps(function)
    def recorded(*args, **kwargs):
        most = MOST_STEPS if _has_optimizer((args, kwargs)) else MOST_CALLS
        if len(calls) >= most:  # the newest takes the place of the one before it: it may be the one that fails
            latest = [place for place, call in enumerate(calls) if call.name == name]
            if not latest:
                return function(*args, **kwargs)
            del calls[latest[-1]]
        call = Call(name, *copied((args, kwargs)), torch.get_rng_state())
        calls.append(call)
        start = time.perf_counter()
        try:
            output = function(*args, **kwargs)
        except BaseException as error:
            call.error = error
            raise
        finally:
            call.seconds = time.perf_counter() - start
        call.output, (call.after, _) = copied(output), copied((args, kwargs))
        return output

    return recorded


def same(a: Any, b: Any) -> bool:
    """Equal in meaning: tensors, arrays and numbers up to rounding; containers entry by entry."""
    import numpy as np
    import torch

    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and same(torch.tensor(a), torch.tensor(b))
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        if not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)) or a.shape != b.shape:
            return False
        if a.is_complex() or b.is_complex():
            return torch.allclose(a.to(torch.complex128), b.to(torch.complex128), rtol=1e-4, atol=1e-5, equal_nan=True)
        return torch.allclose(a.detach().double(), b.detach().double(), rtol=1e-4, atol=1e-5, equal_nan=True)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 1e-5 + 1e-4 * abs(b) or (a != a and b != b)
    if type(a).__eq__ is object.__eq__:
        return type(a) is type(b)
    return bool(a == b)


def copied(value: Any) -> Any:
    """A copy that later changes in place do not reach; functions are shared, and modules unless an optimizer is there.

    With an optimizer among the values all are copied as one, so that it stays tied to its model: a function that
    trains one must not meet it twice.
    """
    import torch

    if isinstance(value, list | tuple | dict) and _has_optimizer(value):
        with contextlib.suppress(Exception):  # what cannot be copied as one is copied part by part, and the tie is lost
            return copy.deepcopy(value)
    if isinstance(value, torch.Tensor):
        leaf = value.detach().clone().requires_grad_(value.requires_grad)
        return leaf if value.is_leaf else leaf.clone()  # PyTorch lets a function change in place what is no leaf
    if isinstance(value, torch.Generator):
        return value.clone_state()
    if isinstance(value, torch.nn.Module) or callable(value):
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(copied(item) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    try:
        if is_dataclass(value) and not isinstance(value, type):  # part by part: a model in it is shared, as it is alone
            twin = copy.copy(value)
            for part in fields(value):
                object.__setattr__(twin, part.name, copied(getattr(value, part.name)))
            return twin
        return copy.deepcopy(value)
    except Exception:
        return value


def _has_optimizer(value: Any) -> bool:
    import torch

    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, torch.optim.Optimizer) or any(_has_optimizer(part) for part in parts)
