"""Which written mistake a learner's answer is: one, or none.

A mistake is named only when nothing tells it from the learner's function. On every call of the failing check, and on
further calls (see `further`), it gives outputs of the same type, dtype, shape, values and gradients, leaves the inputs
as the learner's function does, and raises the same errors. Two that are left with different sentences name nothing:
silence beats a wrong name. Objects of a class are not replayed: there the check's own message says it.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

from concrete_steps.checking.mistakes import Call, Mistake, copied

# Rounding differs between two ways to write the same: by this part of a number, or of the largest number around it.
RTOL, PART_OF_LARGEST = 1e-5, 1e-6


def recognise(learner: Any, calls: list[Call], candidates: list[Mistake], further: Iterable[Call]) -> Mistake | None:
    """The one mistake that does what the learner's object did, on all the calls and on all further ones.

    Args:
        learner: the learner's function, or the value of an answer.
        calls: what was recorded during the failing check.
        candidates: the written mistakes of the exercise.
        further: more calls of the learner's function; they are made as they are asked for. Without any, no name.
    """
    if inspect.isclass(learner):
        return None
    if not callable(learner):
        return _only([entry for entry in candidates if alike(learner, entry.implementation())])
    quickest_first = sorted(calls, key=lambda call: call.seconds)  # most candidates differ on any of them
    left = [
        entry
        for entry in candidates
        if calls and all(does_the_same(entry.implementation, call, learner) for call in quickest_first)
    ]
    if not left:
        return None
    compared = 0
    for call in further:
        left = [entry for entry in left if does_the_same(entry.implementation, call, learner)]
        compared += 1
        if not left:
            return None
    return _only(left) if compared else None


def one_name(sentences: Iterable[str]) -> str:
    """The sentence that all the mistakes found share; "" where they differ or there is none."""
    different = set(sentences)
    return different.pop() if len(different) == 1 else ""


def _only(entries: list[Mistake]) -> Mistake | None:
    """The first, if all say the same."""
    return entries[0] if one_name(entry.sentence for entry in entries) else None


def does_the_same(implementation: Callable, call: Call, learner: Callable) -> bool:
    """True if the implementation, called as the learner's function was, does the same."""
    import torch

    args, kwargs = copied((call.args, call.kwargs))
    state = torch.get_rng_state()
    torch.set_rng_state(call.random_state)
    try:
        output = implementation(*args, **kwargs)
    except Exception as error:
        return type(error) is type(call.error) and without_numbers(error) == without_numbers(call.error)
    finally:
        torch.set_rng_state(state)
    if call.error is not None or not alike(output, call.output) or not alike(args, call.after):
        return False
    if not any(leaf.requires_grad for leaf in _tensors((call.args, call.kwargs))):
        return True
    return alike(_gradients(implementation, call), _gradients(learner, call))


def _gradients(function: Callable, call: Call) -> list:
    """The gradients of a weighted sum of all outputs with respect to the inputs that ask for one."""
    import torch

    args, kwargs = copied((call.args, call.kwargs))
    leaves = [leaf for leaf in _tensors((args, kwargs)) if leaf.requires_grad]
    state = torch.get_rng_state()
    torch.set_rng_state(call.random_state)
    try:
        with torch.enable_grad():
            # Not the leaves themselves: PyTorch forbids to change one in place.
            given = _with_leaves_replaced((args, kwargs))
            outputs = [out for out in _tensors(function(*given[0], **given[1])) if out.requires_grad]
            sums = [
                (out * torch.arange(1, out.numel() + 1).reshape(out.shape).cos())[out.isfinite()].sum()
                for out in outputs
            ]
            return list(torch.autograd.grad(sum(sums), leaves, allow_unused=True)) if sums else []
    finally:
        torch.set_rng_state(state)


def _tensors(value: Any) -> list:
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in _tensors(item)]
    return []


def _with_leaves_replaced(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value.clone() if value.requires_grad else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_with_leaves_replaced(item) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(_with_leaves_replaced(item) for item in value)
    if isinstance(value, dict):
        return {key: _with_leaves_replaced(item) for key, item in value.items()}
    return value


def without_numbers(error: BaseException | str) -> str:
    """What a message says but for its numbers, which differ by rounding between two ways to write the same."""
    return re.sub(r"0x[0-9a-f]+|\d[\d.e+-]*", "#", str(error))


def alike(a: Any, b: Any) -> bool:
    """Nothing but rounding tells a from b: type, dtype, shape, need of a gradient, values; entry by entry."""
    import numpy as np
    import torch

    if a is b:
        return True
    if not _same_kind(a, b):
        return False
    if isinstance(a, torch.Generator):
        return torch.equal(a.get_state(), b.get_state())
    if isinstance(a, torch.Tensor):
        return a.requires_grad == b.requires_grad and _is_close(a.detach(), b.detach())
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.dtype != object and _is_close(torch.tensor(a), torch.tensor(b))
    if isinstance(a, float | complex):
        return _is_close(torch.tensor(a, dtype=torch.complex128), torch.tensor(b, dtype=torch.complex128))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(alike(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, functools.partial):
        return alike((a.func, a.args, a.keywords), (b.func, b.args, b.keywords))
    if isinstance(a, torch.nn.Module | torch.optim.Optimizer):  # two copies of one, after two functions trained them
        return alike(dict(a.state_dict()), dict(b.state_dict()))
    if dataclasses.is_dataclass(a):  # their own == would ask tensors whether they are equal
        return all(alike(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a))
    return type(a).__eq__ is not object.__eq__ and bool(a == b)


def _same_kind(a: Any, b: Any) -> bool:
    """The same type; a record (named tuple, dataclass) that a notebook and a mistake each define, if its fields are."""
    if type(a) is type(b):
        return True
    if type(a).__name__ != type(b).__name__:
        return False
    if isinstance(a, tuple) and isinstance(b, tuple):
        return getattr(a, "_fields", ()) == getattr(b, "_fields", None)
    if dataclasses.is_dataclass(a) and dataclasses.is_dataclass(b):
        return [field.name for field in dataclasses.fields(a)] == [field.name for field in dataclasses.fields(b)]
    return False


def _is_close(a: Any, b: Any) -> bool:
    """Tensors of one dtype, shape and device, and of the same numbers up to rounding."""
    import torch

    if a.dtype != b.dtype or a.shape != b.shape or a.device != b.device:
        return False
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    kind = torch.complex128 if a.is_complex() else torch.float64
    a, b = a.to(kind), b.to(kind)
    finite = b[b.isfinite()].abs()
    largest = finite.max().item() if finite.numel() else 0.0
    return torch.allclose(a, b, rtol=RTOL, atol=PART_OF_LARGEST * largest, equal_nan=True)
