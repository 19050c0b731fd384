"""How many numbers an account holds: an explanation is short, a copy of the model's answers is not."""

from __future__ import annotations

import dis
import functools
import pickle
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MOST = 150  # numbers of one account: a table of two letters of ten each, and room for what is said in words
BITS = 16  # of one number; an integer of more is several, written one after another
LONGEST_WORD = 20  # of a text; a longer one is data, and so is each digit
INSTALLED = ("stdlib", "platstdlib", "purelib", "platlib")
LIBRARIES = (str(Path(__file__).parents[1]), *(str(Path(sysconfig.get_path(its))) for its in INSTALLED))


def held(account: Any) -> dict[str, int]:
    """By the name of what holds them, how many numbers an account holds.

    They are the constants of its code, the entries of tensors, arrays and collections, the weights of networks: its
    own, those in its closure and its defaults, and of the variables and functions that it names. Libraries hold none.
    """
    found: dict[str, int] = {}
    for name, number in _numbers(account, "its code", {}):
        found[name] = found.get(name, 0) + number
    return found


def _numbers(thing: Any, name: str, seen: dict[int, Any]) -> Iterator[tuple[str, int]]:
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
    if id(thing) in seen:
        return
    seen[id(thing)] = thing  # kept, so that its id stays its own
    if isinstance(thing, bytes | bytearray):
        yield name, len(thing)
    elif torch and isinstance(thing, torch.Tensor):
        yield name, thing.numel()
    elif numpy and isinstance(thing, numpy.ndarray):
        yield name, thing.size
    elif torch and isinstance(thing, torch.nn.Module):
        yield name, sum(its.numel() for its in [*thing.parameters(), *thing.buffers()])
    elif isinstance(thing, Mapping):
        for pair in list(thing.items()):
            yield from _numbers(pair, name, seen)
    elif isinstance(thing, list | tuple | set | frozenset):
        for each in list(thing):
            yield from _numbers(each, name, seen)
    else:
        yield from _of_object(thing, name, seen)


def _of_object(thing: Any, name: str, seen: dict[int, Any]) -> Iterator[tuple[str, int]]:
    if isinstance(thing, functools.partial):
        yield from _numbers((thing.func, thing.args, thing.keywords), name, seen)
    elif isinstance(thing, types.MethodType):
        yield from _numbers((thing.__func__, thing.__self__), name, seen)
    elif isinstance(thing, types.FunctionType):
        if not _of_library(thing.__code__.co_filename):
            yield from _of_function(thing, name, seen)
        yield from _numbers(getattr(thing, "__wrapped__", None), name, seen)  # as checks wrap what they watch
    elif isinstance(thing, type):
        if thing.__module__ == "__main__" or not _of_library(_file(thing)):
            fields = [its for key, its in vars(thing).items() if not key.startswith("__") or callable(its)]
            yield from _numbers(fields, name, seen)
    elif hasattr(thing, "__wrapped__"):  # functools.cache and its like
        yield from _numbers(thing.__wrapped__, name, seen)
    elif isinstance(thing, types.BuiltinFunctionType | types.MethodWrapperType):  # as a method of a table
        owner = thing.__self__
        yield from () if isinstance(owner, types.ModuleType | type) else _numbers(owner, name, seen)
    elif not isinstance(thing, types.ModuleType):
        yield from _of_instance(thing, name, seen)


def _of_function(function: types.FunctionType, name: str, seen: dict[int, Any]) -> Iterator[tuple[str, int]]:
    variables, names = set(), set()  # attributes are among the names: `question.source` is no variable `source`
    for code in _codes(function.__code__):
        variables |= {its.argval for its in dis.get_instructions(code) if its.opname == "LOAD_GLOBAL"}
        names.update(code.co_names)
        its_text = function.__doc__ in code.co_consts[:1] and "__doc__" not in code.co_names  # who reads it has a table
        constants = code.co_consts[1:] if its_text else code.co_consts
        yield from _numbers([its for its in constants if not isinstance(its, types.CodeType)], name, seen)
    yield from _numbers((function.__defaults__, function.__kwdefaults__), name, seen)
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not yet filled
            continue
        yield from _numbers(value, variable, seen)
    for variable in sorted(variables & set(function.__globals__)):
        value = function.__globals__[variable]
        if isinstance(value, types.ModuleType) and not _of_library(getattr(value, "__file__", None)):
            for part in sorted(names & set(vars(value))):
                yield from _numbers(vars(value)[part], f"{variable}.{part}", seen)
        else:
            yield from _numbers(value, variable, seen)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for its in code.co_consts:
        if isinstance(its, types.CodeType):
            yield from _codes(its)


def _of_instance(thing: Any, name: str, seen: dict[int, Any]) -> Iterator[tuple[str, int]]:
    """Of an object of a class: what its fields hold and what its class does; of one without fields, what it weighs."""
    if type(thing).__module__.startswith("concrete_steps."):
        return
    yield from _numbers(type(thing), name, seen)
    if hasattr(thing, "__dict__"):
        yield from _numbers(vars(thing), name, seen)
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
