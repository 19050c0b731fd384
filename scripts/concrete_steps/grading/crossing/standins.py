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
# Comparisons are not among them: an object that says of itself that it equals what is expected would always be right.
ARITHMETIC = (
    *("__neg__", "__pos__", "__abs__", "__invert__"),
    *(
        f"__{r}{name}__"
        for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
        for r in ("", "r")
    ),
)
ALWAYS = ("__call__", "__len__", "__getitem__", "__iter__", "__next__", "__reversed__", "__enter__", "__exit__")
OF_EXERCISES = (*ARITHMETIC, "__setitem__", "__delitem__", "__repr__", "__str__")
SPECIAL = (*ALWAYS, *OF_EXERCISES)
BASES = {"Module": nn.Module, "Exception": Exception}


class Thing:
    """An object of a class of the learner's. Its fields are here; its methods run where it lives."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in OWN:
            raise AttributeError(name)
        if not type(self)._open:
            self.__dict__[LINK].refused = True
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
    """A class whose objects are made and live in the sandbox.

    Only those of an exercise's own class, and modules, have fields and methods here. Any other object could answer a
    check's questions (`.mean()`) in place of the number or tensor that it should be.
    """
    name = facts.get("name")
    name = name if isinstance(name, str) and name.isidentifier() else "Learners"
    bases: tuple[type, ...] = tuple(BASES[base] for base in facts.get("bases", ()) if base in BASES)[:1]
    open_ = name in link.classes or link.opening or nn.Module in bases
    fields = facts.get("fields") if open_ else None
    if fields is not None and not bases:
        fields = [field for field in fields if isinstance(field, str) and field.isidentifier()]
        bases = (dataclasses.make_dataclass(name, fields, init=False, repr=False),)
    body: dict[str, Any] = {"_class_number": number, "__module__": "__main__", "_link": link}
    names = facts.get("names", ()) if open_ else ()
    body |= {
        "_open": open_,
        "_names": frozenset(name for name in names if isinstance(name, str)),
        "_any": open_ and bool(facts.get("any")),
    }

    def __init__(self, *args, **kwargs):
        link.construct(self, number, args, kwargs)

    body["__init__"] = __init__
    for special in facts.get("special", ()):
        if special in (SPECIAL if open_ else ALWAYS):
            body[special] = _forward(link, special)
    if issubclass(bases[0] if bases else object, nn.Module):
        body["__call__"] = _forward(link, "__call__")
        body["forward"] = _forward(link, "forward")
    return Meta(name, (Thing, *bases), body)


def _forward(link: Any, name: str) -> Any:
    def method(self, *args, **kwargs):
        result = link.call(["n", number_of(self)], name, args, kwargs)
        if name in ARITHMETIC and not isinstance(result, Thing) and result is not NotImplemented:
            raise TypeError(f"{name} of a {type(self).__name__} gave a {type(result).__name__}")
        return result

    method.__name__ = name
    return method


@functools.cache
def _record(name: str, fields: tuple[str, ...]) -> type:
    return collections.namedtuple(name, fields, rename=True)


def record(name: Any, fields: Any) -> type:
    """A named tuple of the learner's own."""
    name = name if isinstance(name, str) and name.isidentifier() else "Record"
    return _record(name, tuple(str(field)[:100] for field in fields[:100]))
