"""The judge's half: what a check gives is described for the sandbox, and what comes back becomes plain objects.

From the sandbox nothing is unpickled, imported or called. Of classes only PyTorch's layers and optimisers and the
course's own records are made anew here, without running their code; all else is a stand-in.
"""

from __future__ import annotations

import collections
import functools
import inspect
import marshal
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from concrete_steps.grading.crossing import standins
from concrete_steps.grading.crossing.bridges import is_bridge
from concrete_steps.grading.crossing.changes import CONTAINERS, kept
from concrete_steps.grading.crossing.codec import FACTORIES, Codec
from concrete_steps.grading.crossing.places import MAY_BE_MADE, find, path_of
from concrete_steps.grading.crossing.source import Statements, is_of_checks, names_in
from concrete_steps.grading.crossing.tensors import Nonsense, described


class JudgeCodec(Codec):
    """Encodes for the sandbox, which may trust us; decodes what comes from it, which we may not trust."""

    def __init__(self, link: Any):
        super().__init__(first=2)
        self.link = link
        self.statements: dict[str, Statements] = {}
        self.namespaces: dict[str, dict] = {}
        self.graph: list[tuple[int, Tensor]] = []  # results of this call that a gradient flows through

    # ---- out

    def other(self, value: Any) -> Any:
        if standins.number_of(value) is not None:
            return ["n", standins.number_of(value)]
        if self.dry:
            return ["?", id(value)]
        if isinstance(value, types.ModuleType):
            return ["name", f"{value.__name__}:"]
        if isinstance(value, types.CellType):
            return self._cell(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, functools.partial):
            return ["partial", *map(self.encode, (value.func, value.args, value.keywords))]
        if isinstance(value, types.BuiltinMethodType) and type(value.__self__) in CONTAINERS:
            raise ValueError(f"{value.__name__} of a list or dict cannot be lent: what it writes is not seen here")
        if isinstance(value, types.MethodType):
            return ["method", self.encode(value.__self__), value.__func__.__name__]
        wrapped = inspect.unwrap(value) if callable(value) else value
        if wrapped is not value and standins.number_of(wrapped) is not None:
            return ["n", standins.number_of(wrapped)]
        if callable(value) and (path := path_of(value)):
            return ["name", path]
        if isinstance(value, types.FunctionType) or hasattr(value, "__wrapped__"):
            return self._function(value)
        if isinstance(value, Iterator):
            return ["iterator", [self.encode(item) for item in value]]
        if isinstance(value, nn.Module) and self.link.bridges.part(self, value) is not None:
            return self.link.bridges.part(self, value)
        if is_bridge(value):
            return self.link.bridges.encode(self, value)
        if isinstance(value, nn.Module | torch.optim.Optimizer) or is_of_checks(_globals_of(type(value))):
            return self._thing(value)
        if hasattr(value, "__dict__") and type(value).__module__.startswith("concrete_steps"):
            return self._thing(value)
        if isinstance(value, list | dict | set | bytearray | collections.deque):
            raise ValueError(f"a {type(value).__name__} cannot be lent: what changes in it would not be seen here")
        number = self.table.give(value, strong=True)
        return ["pickle", number, self.part(pickle.dumps(value))]

    def _thing(self, value: Any) -> Any:
        cls = self._class(type(value))
        number = self.table.give(value)
        return ["thing", number, cls, self.thing_state(value)]

    def thing_state(self, thing: Any) -> Any:
        if isinstance(thing, types.CellType):
            return ["cell", self.encode(_contents(thing))]
        if isinstance(thing, type | types.FunctionType) or not hasattr(thing, "__dict__"):
            return None
        if self.link.bridges.knows(thing):
            return self.link.bridges.state(self, thing)
        return ["state", [[key, self.encode(value)] for key, value in vars(thing).items() if key not in standins.OWN]]

    def _class(self, cls: type) -> Any:
        number = standins.number_of(cls) or self.table.number(cls)
        if number is not None:
            return ["n", number]
        if path := path_of(cls):
            return ["name", path]
        return self._from_checks(cls, cls.__name__, _globals_of(cls))

    def _from_checks(self, thing: Any, name: str, namespace: dict) -> Any:
        if not is_of_checks(namespace) or namespace.get(name) is not thing:
            raise ValueError(f"{name} cannot be lent to a sandbox: it is not at the top of a module of checks")
        texts = self._texts(namespace, {name})
        return ["source", self.table.give(thing, strong=True), namespace["__file__"], texts, name]

    def _texts(self, namespace: dict, names: set[str]) -> list[str]:
        path = namespace["__file__"]
        if path not in self.statements:
            self.statements[path], self.namespaces[path] = Statements(Path(path)), namespace
        return self.statements[path].for_names(names)

    def _function(self, value: Any) -> Any:
        inner = inspect.unwrap(value)
        namespace = inner.__globals__
        if namespace.get(value.__name__) is value and is_of_checks(namespace):
            return self._from_checks(value, value.__name__, namespace)
        defaults = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        if any(type(default) in CONTAINERS for default in defaults):
            raise ValueError(f"{value.__name__} cannot be lent: what changes in its defaults is not seen here")
        code = value.__code__
        if is_of_checks(namespace):
            place, texts = namespace["__file__"], self._texts(namespace, names_in(code))
        else:
            place, texts = namespace["__name__"], None
        number = self.table.give(value, strong=True)
        before, self.scoped = self.scoped, False
        try:
            cells = [self.encode(cell) for cell in value.__closure__ or ()]
            defaults = self.encode(value.__defaults__), self.encode(value.__kwdefaults__)
        finally:
            self.scoped = before
        return ["function", number, place, texts, self.part(marshal.dumps(code)), value.__name__, *defaults, cells]

    def _cell(self, cell: types.CellType) -> Any:
        number = self.table.give(cell, strong=True)
        try:
            value = cell.cell_contents
        except ValueError:
            return ["cell", number, False, None]
        if type(value) in CONTAINERS and self.table.number(value) is None:
            # Shared for good, not for one call: a hook may be called by several.
            before, self.scope, self.scoped = self.scope, [], True
            try:
                node = self.encode(value)
            finally:
                self.scope, self.scoped = before, False
            return ["cell", number, True, node]
        return ["cell", number, True, self.encode(value)]

    def record(self, cls: type) -> Any:
        return self._class(cls)

    def is_fixed(self, thing: Any) -> bool:
        return isinstance(thing, type | types.FunctionType)

    # ---- in

    def arrived(self, number: int, x: Tensor, facts: dict) -> Tensor:
        if facts.get("parameter") and x.is_floating_point():
            x = nn.Parameter(x, requires_grad=bool(facts.get("needs")))
        elif facts.get("needs") and (x.is_floating_point() or x.is_complex()):
            if facts.get("leaf"):
                x.requires_grad_()
            else:
                self.graph.append((number, x))
        if type(number) is not int or number % 2 == 0:
            raise Nonsense("this number is not the sandbox's to give")
        self.table.put(number, x)
        return x

    def decode(self, node: Any) -> Any:
        # Numbers that the sandbox gives are odd: what it says can only refer to our objects, never replace them.
        gives = isinstance(node, list) and len(node) > 1 and node[0] in GIVEN and node[1] is not None
        if gives and (type(node[1]) is not int or node[1] % 2 == 0 or self.table.get(node[1]) is not None):
            raise Nonsense("this number is not the sandbox's to give")
        return super().decode(node)

    def read_record(self, cls: Any, items: list) -> Any:
        values = self._items(items)
        if cls[0] == "fields":
            return standins.record(cls[1], cls[2])(*values)
        made = self.decode(cls)
        if not (isinstance(made, type) and issubclass(made, tuple) and hasattr(made, "_fields")):
            raise Nonsense("no record")
        return tuple.__new__(made, values)

    def read_thing(self, number: int, cls: Any, state: Any) -> Any:
        kind = self._kind(cls)
        made = kind.__new__(kind) if issubclass(kind, standins.Thing) else object.__new__(kind)
        if issubclass(kind, standins.Thing):
            standins.set_number(made, number, self.link)
        self.table.put(number, made)
        if state is not None and getattr(kind, "_open", True):
            self.set_thing(made, state)
        return made

    def _kind(self, cls: Any) -> type:
        if cls[0] == "path":
            if not isinstance(cls[1], str) or not MAY_BE_MADE.fullmatch(cls[1]):
                raise Nonsense(f"nothing of {str(cls[1])[:100]} is made here")
            kind = find(cls[1])
        else:
            kind = self.decode(cls)
        if not isinstance(kind, type) or not kind.__dictoffset__:
            raise Nonsense("no class")
        return kind

    def read_checks(self, path: str, name: str) -> type:
        """A class of the checks' own, which was lent."""
        found = self.namespaces.get(path, {}).get(name)
        if not isinstance(found, type) or not is_of_checks(_globals_of(found)):
            raise Nonsense("no class of the checks")
        return found

    def read_part(self, number: int, name: str) -> Any:
        bridge = self.read_n(number)
        if not self.link.bridges.knows(bridge):
            raise Nonsense("no part of a bridge")
        return bridge.get_submodule(name)

    def read_function(self, number: int, name: str) -> Any:
        made = standins.function(self.link, number, str(name)[:100])
        self.table.put(number, made, strong=True)
        return made

    def read_class(self, number: int, facts: dict) -> type:
        made = standins.cls(self.link, number, facts)
        self.table.put(number, made, strong=True)
        return made

    def apply(self, changes: list) -> None:
        """Put in place what the sandbox says has changed, and note what of ours has."""
        if not changes:
            return
        if not all(type(number) is int for number, _ in changes):  # 2.0 would find the object of number 2
            raise Nonsense("a change of nothing that has a number")
        told = {number for number, _ in changes}
        # Of tensors only the told ones can change; a list or a field of ours, also by what holds it over there.
        ours = [(number, thing) for number, thing in self.table.live() if number % 2 == 0]
        ours = [thing for number, thing in ours if number in told or not isinstance(thing, Tensor)]
        before = [self._look(thing) for thing in ours]
        super().apply(changes)
        for thing, look in zip(ours, before, strict=True):
            if self._look(thing) != look:
                self.link.touched.add(type(thing).__name__)

    def _look(self, thing: Any) -> Any:
        """All of it: by some entries of a large tensor a change of others would not be seen."""
        if isinstance(thing, Tensor) and thing.layout == torch.strided:
            facts, data = described(thing)
            return facts, data, thing.requires_grad, id(thing.grad)
        return None if self.is_fixed(thing) else self.key(thing)

    def set_thing(self, thing: Any, state: Any) -> None:
        if isinstance(thing, types.CellType):
            thing.cell_contents = kept(_contents(thing), self.decode(state[1]))
            return
        if self.link.bridges.knows(thing):
            self.link.bridges.set_state(self, thing, state)
            return
        if isinstance(thing, type | types.FunctionType):
            raise Nonsense("nothing in it can change")
        if not getattr(type(thing), "_open", True):
            return
        fields = {}
        for key, node in state[1]:
            if not isinstance(key, str) or key in standins.OWN or key.startswith("__"):
                raise Nonsense("no field has this name")
            fields[key] = node
        set_fields(thing, {key: self.decode(node) for key, node in fields.items()})


GIVEN = ("tensor", "list", "dict", "ordered", "counter", "set", "generator", "thing", "function", "class")
GIVEN += tuple(f"default_{name}" for name in FACTORIES)


def set_fields(thing: Any, fields: dict) -> None:
    """Make an object's fields these; lists and dicts in them stay the same objects."""
    own = thing.__dict__
    merged = {key: kept(own.get(key), value) for key, value in fields.items()}
    for key in [key for key in own if key not in merged and key not in standins.OWN]:
        del own[key]
    own.update(merged)


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _globals_of(cls: type) -> dict:
    return vars(sys.modules.get(cls.__module__, types.ModuleType("none")))
