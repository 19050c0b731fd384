"""How many numbers an account holds: an explanation is short, a copy of the model's answers is not."""

from __future__ import annotations

import contextlib
import dis
import functools
import importlib
import pickle
import sys
import sysconfig
import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST = 150  # numbers of one account: a table of two letters of ten each, and room for what is said in words
BITS = 16  # of one number; an integer of more is several, written one after another
LONGEST_WORD = 20  # of a text; a longer one is data, and so is each digit
READERS = {"__doc__", "getdoc", "__annotations__", "get_annotations", "get_type_hints", "__code__"}  # of such texts
INSTALLED = ("stdlib", "platstdlib", "purelib", "platlib")
LIBRARIES = (str(Path(__file__).parents[1]), *(str(Path(sysconfig.get_path(its))) for its in INSTALLED))


@dataclass
class _Walk:
    """What was met on the way: things counted already, and texts that count only if any code reads such texts."""

    seen: dict[int, Any] = field(default_factory=dict)  # by id; kept, so that the id stays theirs
    parts: set[tuple[str, str]] = field(default_factory=set)  # of modules of one's own
    texts: list[tuple[str, Any]] = field(default_factory=list)
    reads: bool = False


def held(account: Any) -> dict[str, int]:
    """By the name of what holds them, how many numbers an account holds.

    They are the constants of its code, the entries of tensors, arrays and collections, the weights of networks: its
    own, those in its closure, defaults and attributes, and of the variables, functions and modules that it names.
    Libraries hold none; nor do docstrings and annotations, as long as none of its code reads such texts.
    """
    found: dict[str, int] = {}
    walk = _Walk()
    pairs = list(_numbers(account, "its code", walk))
    if walk.reads:
        pairs += [pair for name, text in walk.texts for pair in _numbers(text, name, walk)]
    for name, number in pairs:
        found[name] = found.get(name, 0) + number
    return found


def _numbers(thing: Any, name: str, walk: _Walk) -> Iterator[tuple[str, int]]:
    """Pairs of a holder's name and a number of numbers."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if thing is None or isinstance(thing, type(...)):
        return
    if isinstance(thing, int):  # a bool is one, and a long integer is many
        yield name, max(1, -(-abs(thing).bit_length() // BITS))
        return
    if isinstance(thing, float | complex) or (numpy and isinstance(thing, numpy.generic)):
        yield name, 1
        return
    if isinstance(thing, str):
        long = sum(len(word) if len(word) > LONGEST_WORD else sum(map(str.isdigit, word)) for word in thing.split())
        yield name, max(1, long, len(thing) // LONGEST_WORD)
        return
    if id(thing) in walk.seen:
        return
    walk.seen[id(thing)] = thing
    if isinstance(thing, bytes | bytearray):
        yield name, len(thing)
    elif torch and isinstance(thing, torch.Tensor):
        yield name, _entries(thing)
    elif numpy and isinstance(thing, numpy.ndarray):
        whole = torch and thing.dtype.kind in "iu"
        yield name, _entries(torch.from_numpy(thing.astype(numpy.int64, order="C"))) if whole else thing.size
    elif torch and isinstance(thing, torch.nn.Module):
        yield name, sum(its.numel() for its in [*thing.parameters(), *thing.buffers()])
    elif isinstance(thing, Mapping):
        for pair in list(thing.items()):
            yield from _numbers(pair, name, walk)
    elif isinstance(thing, Collection) and not isinstance(thing, range | type):
        for each in list(thing):
            yield from _numbers(each, name, walk)
        if not _of_library(_file(type(thing))) and type(thing).__module__ != "builtins":  # a class of one's own
            yield from _of_instance(thing, name, walk)
    else:
        yield from _of_object(thing, name, walk)


def _entries(tensor: Any) -> int:
    """How many there are; an integer of more than BITS bits is several."""
    import torch

    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        return tensor.numel()
    sizes = [tensor.long().abs() >> BITS * more for more in range(1, 64 // BITS)]
    return tensor.numel() + sum(int((size > 0).sum()) for size in sizes)


def _of_object(thing: Any, name: str, walk: _Walk) -> Iterator[tuple[str, int]]:
    if isinstance(thing, functools.partial):
        yield from _numbers((thing.func, thing.args, thing.keywords), name, walk)
    elif isinstance(thing, types.MethodType):
        yield from _numbers((thing.__func__, thing.__self__), name, walk)
    elif isinstance(thing, types.FunctionType):
        if not _of_library(thing.__code__.co_filename):
            yield from _of_function(thing, name, walk)
        yield from _numbers(getattr(thing, "__wrapped__", None), name, walk)  # as checks wrap what they watch
    elif isinstance(thing, type):
        if thing.__module__ == "__main__" or not _of_library(_file(thing)):
            fields = [its for key, its in vars(thing).items() if not key.startswith("__") or callable(its)]
            yield from _numbers(fields, name, walk)
            walk.texts.append((thing.__name__, (thing.__doc__, vars(thing).get("__annotations__"))))
    elif hasattr(thing, "__wrapped__"):  # functools.cache and its like
        yield from _numbers(thing.__wrapped__, name, walk)
    elif isinstance(thing, types.BuiltinFunctionType | types.MethodWrapperType):  # as a method of a table
        owner = thing.__self__
        yield from () if isinstance(owner, types.ModuleType | type) else _numbers(owner, name, walk)
    elif not isinstance(thing, types.ModuleType):
        yield from _of_instance(thing, name, walk)


def _of_function(function: types.FunctionType, name: str, walk: _Walk) -> Iterator[tuple[str, int]]:
    variables, names, imported = set(), set(), set()  # attributes are names: `question.source` is no variable `source`
    for code in _codes(function.__code__):
        steps = list(dis.get_instructions(code))
        variables |= {its.argval for its in steps if its.opname == "LOAD_GLOBAL"}
        imported |= {its.argval for its in steps if its.opname == "IMPORT_NAME"}
        names.update(code.co_names)
        constants = [its for its in code.co_consts if not isinstance(its, types.CodeType)]
        loaded = [its.argval for its in steps if its.opcode in dis.hasconst]
        if constants and isinstance(constants[0], str) and constants[0] not in loaded:  # a docstring
            text = constants.pop(0)
            walk.texts += [(code.co_name, text)] * (text != function.__doc__)
        yield from _numbers(constants, name, walk)
        read = {its.argval for its in steps if not its.opname.startswith("STORE_") and isinstance(its.argval, str)}
        walk.reads |= not READERS.isdisjoint(read) or not READERS.isdisjoint(map(str, constants))
    yield from _numbers((function.__defaults__, function.__kwdefaults__), name, walk)
    yield from _numbers({key: its for key, its in vars(function).items() if key != "__wrapped__"}, name, walk)
    walk.texts.append((function.__name__, (function.__doc__, function.__annotations__)))
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not yet filled
            continue
        yield from _numbers(value, variable, walk)
    for variable in sorted(variables & set(function.__globals__)):
        value = function.__globals__[variable]
        if isinstance(value, types.ModuleType):
            yield from _of_module(value, names, variable, walk)
        else:
            yield from _numbers(value, variable, walk)
    for module in sorted(imported):  # inside the function: so it is no variable yet
        with contextlib.suppress(Exception):  # what cannot be imported the account does not get either
            yield from _of_module(importlib.import_module(module), names, module, walk)


def _of_module(module: types.ModuleType, names: set[str], name: str, walk: _Walk) -> Iterator[tuple[str, int]]:
    """Of a module of one's own: what of it is named."""
    if module.__name__ != "__main__" and _of_library(getattr(module, "__file__", None)):
        return
    for part in sorted(names & set(vars(module))):
        if (module.__name__, part) in walk.parts:  # modules may import each other
            continue
        walk.parts.add((module.__name__, part))
        value = vars(module)[part]
        if isinstance(value, types.ModuleType):
            yield from _of_module(value, names, f"{name}.{part}", walk)
        else:
            yield from _numbers(value, f"{name}.{part}", walk)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for its in code.co_consts:
        if isinstance(its, types.CodeType):
            yield from _codes(its)


def _of_instance(thing: Any, name: str, walk: _Walk) -> Iterator[tuple[str, int]]:
    """Of an object of a class: what its fields hold and what its class does; of one without fields, what it weighs."""
    if type(thing).__module__.startswith("concrete_steps."):
        return
    yield from _numbers(type(thing), name, walk)
    if hasattr(thing, "__dict__"):
        yield from _numbers(vars(thing), name, walk)
        return
    try:
        size = len(pickle.dumps(thing))
    except Exception:  # whatever another's object raises: then nobody knows
        return
    yield name, size // 8 if size > 200 else 0


def _file(thing: type) -> str | None:
    module = sys.modules.get(thing.__module__)
    return getattr(module, "__file__", None) if module else ""


def _of_library(file: str | None) -> bool:
    """Whether this file is of Python, an installed package or the course; what has no file is built in."""
    return file is None or file.startswith(("<frozen", *LIBRARIES))
