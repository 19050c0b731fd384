"""What stands in the judge for a learner's functions, classes and objects: calls go to the sandbox and come back."""

from __future__ import annotations

import collections
import dataclasses
import functools
from typing import Any

from torch import nn

NUMBER = "_number_in_sandbox"
LINK = "_link_to_sandbox"
OWN = (NUMBER, LINK)  # fields of a stand-in that are not the learner's
SPECIAL = (
    *("__call__", "__len__", "__getitem__", "__setitem__", "__delitem__", "__contains__", "__iter__", "__next__"),
    *("__enter__", "__exit__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__bool__", "__repr__"),
    *("__str__", "__float__", "__int__", "__index__", "__neg__", "__pos__", "__abs__", "__invert__", "__reversed__"),
    *(f"__{r}{name}__" for name in "add sub mul truediv floordiv mod pow matmul and or xor".split() for r in ("", "r")),
)
BASES = {"Module": nn.Module, "Exception": Exception, "str": str, "int": int, "float": float}


class Thing:
    """An object of a class of the learner's. Its fields are here; its methods run where it lives."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in OWN:
            raise AttributeError(name)
        if isinstance(self, nn.Module):
            try:
                return nn.Module.__getattr__(self, name)
            except AttributeError:
                pass
        if name not in type(self)._names and not type(self)._any:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        return self.__dict__[LINK].get(self, name)


class Meta(type):
    """The class of stand-in classes: what they do not have here is asked for in the sandbox."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_") or name not in cls._names:
            raise AttributeError(name)
        return cls._link.get(cls, name)


def number_of(value: Any) -> int | None:
    """The number of a stand-in; None of anything else."""
    if isinstance(value, Thing):
        return value.__dict__.get(NUMBER)
    if isinstance(value, type):
        return getattr(value, "_class_number", None) if issubclass(value, Thing) else None
    return getattr(value, "__dict__", {}).get(NUMBER) if callable(value) else None


def set_number(thing: Any, number: int, link: Any) -> None:
    thing.__dict__[NUMBER], thing.__dict__[LINK] = number, link


def function(link: Any, number: int, name: str) -> Any:
    """A function that is called in the sandbox."""

    def stand_in(*args, **kwargs):
        return link.call(["n", number], None, args, kwargs)

    stand_in.__name__ = stand_in.__qualname__ = name
    stand_in.__dict__[NUMBER] = number
    return stand_in


def cls(link: Any, number: int, facts: dict) -> type:
    """A class whose objects are made and live in the sandbox."""
    name = facts.get("name")
    name = name if isinstance(name, str) and name.isidentifier() else "Learners"
    bases: tuple[type, ...] = tuple(BASES[base] for base in facts.get("bases", ()) if base in BASES)[:1]
    fields = facts.get("fields")
    if fields is not None and not bases:
        bases = (dataclasses.make_dataclass(name, list(fields), init=False, eq=False, repr=False),)
    body: dict[str, Any] = {"_class_number": number, "__module__": "__main__", "_link": link}
    names = facts.get("names", ())
    body |= {"_names": frozenset(name for name in names if isinstance(name, str)), "_any": bool(facts.get("any"))}

    def __init__(self, *args, **kwargs):
        link.construct(self, number, args, kwargs)

    body["__init__"] = __init__
    for special in facts.get("special", ()):
        if special in SPECIAL:
            body[special] = _forward(link, special)
    if "__eq__" in body:
        body["__hash__"] = object.__hash__
    if issubclass(bases[0] if bases else object, nn.Module):
        body["__call__"] = _forward(link, "__call__")
        body["forward"] = _forward(link, "forward")
    return Meta(name, (Thing, *bases), body)


def _forward(link: Any, name: str) -> Any:
    def method(self, *args, **kwargs):
        return link.call(["n", number_of(self)], name, args, kwargs)

    method.__name__ = name
    return method


@functools.cache
def _record(name: str, fields: tuple[str, ...]) -> type:
    return collections.namedtuple(name, fields, rename=True)


def record(name: Any, fields: Any) -> type:
    """A named tuple of the learner's own."""
    name = name if isinstance(name, str) and name.isidentifier() else "Record"
    return _record(name, tuple(str(field)[:100] for field in fields[:100]))
