"""The sandbox's half: what the judge lends is made here, and what the learner's code gives is described.

It trusts the judge. Nothing here is trusted by the judge: a learner's code shares this process.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import marshal
import pickle
import sys
import types
from typing import Any

import torch
from torch import Tensor, nn

from concrete_steps.grading.crossing.bridges import LentBridges
from concrete_steps.grading.crossing.changes import kept, refill
from concrete_steps.grading.crossing.codec import Codec
from concrete_steps.grading.crossing.places import MAY_BE_MADE, find
from concrete_steps.grading.crossing.standins import BASES, SPECIAL
from concrete_steps.grading.sandbox import SCRATCH


class AnswerCodec(Codec):
    def __init__(self, bridges: LentBridges):
        super().__init__(first=1)
        self.bridges = bridges
        self.modules: dict[str, types.ModuleType] = {}
        self.files: dict[str, str] = {}  # of modules of checks, by the names that they have here

    # ---- in

    def arrived(self, number: int, x: Tensor, facts: dict) -> Tensor:
        if facts["parameter"]:
            x = nn.Parameter(x, requires_grad=facts["needs"])
        elif facts["needs"]:
            x.requires_grad_()
            if not facts["leaf"]:  # PyTorch lets a function change in place what is no leaf
                with torch.enable_grad():
                    leaf, x = x, x.clone()
                self.leaves[number] = leaf
        self.table.put(number, x)
        return x

    def read_name(self, path: str) -> Any:
        return find(path)

    def read_bridge(self, *facts: Any) -> Any:
        return self.bridges.read(self, *facts)

    def read_part(self, number: int, name: str) -> Any:
        return self.read_n(number).get_submodule(name)

    def read_pickle(self, number: int, place: Any) -> Any:
        made = pickle.loads(self.piece(place))
        self.table.put(number, made, strong=True)
        return made

    def read_source(self, number: int, path: str, texts: list[str], name: str) -> Any:
        made = self._namespace(path, texts)[name]
        self.table.put(number, made, strong=True)
        return made

    def _namespace(self, path: str, texts: list[str] | None) -> dict:
        if texts is None:
            return vars(importlib.import_module(path))
        if path not in self.modules:
            name = f"checks_{len(self.modules)}"
            self.modules[path] = sys.modules[name] = types.ModuleType(name)
            self.modules[path].__file__ = self.files[name] = path
        namespace = vars(self.modules[path])
        for text in texts:
            exec(compile(text, path, "exec", dont_inherit=True), namespace)
        return namespace

    def read_function(self, number, place, texts, code, name, defaults, kwdefaults, cells) -> Any:
        namespace = self._namespace(place, texts)
        cells = tuple(self.decode(cell) for cell in cells)
        made = types.FunctionType(marshal.loads(self.piece(code)), namespace, name, self.decode(defaults), cells)
        made.__kwdefaults__ = self.decode(kwdefaults)
        self.table.put(number, made, strong=True)
        return made

    def read_cell(self, number: int, filled: bool, value: Any) -> types.CellType:
        made = types.CellType()
        self.table.put(number, made, strong=True)
        if filled:
            before = self.scope
            self.scope = []  # a list in it is shared for good: several calls may call a hook
            try:
                made.cell_contents = self.decode(value)
            finally:
                self.scope = before
        return made

    def read_partial(self, function: Any, args: Any, kwargs: Any) -> Any:
        return functools.partial(self.decode(function), *self.decode(args), **self.decode(kwargs))

    def read_method(self, owner: Any, name: str) -> Any:
        return getattr(self.decode(owner), name)

    def read_iterator(self, items: list) -> Any:
        return iter(self._items(items))

    def read_record(self, cls: Any, items: list) -> Any:
        return self.decode(cls)(*self._items(items))

    def read_thing(self, number: int, cls: Any, state: Any) -> Any:
        kind = self.decode(cls)
        made = object.__new__(kind)
        self.table.put(number, made)
        if state is not None:
            self.set_thing(made, state)
        return made

    def set_thing(self, thing: Any, state: Any) -> None:
        if self.bridges.knows(thing):
            self.bridges.set_state(self, thing, state)
            return
        if isinstance(thing, types.CellType):
            thing.cell_contents = kept(_contents(thing), self.decode(state[1]))
            return
        fields = {key: self.decode(value) for key, value in state[1]}
        own = getattr(thing, "__dict__", None)
        if own is None:
            for key, value in fields.items():
                object.__setattr__(thing, key, value)
            return
        merged = {key: _of_its_kind(own.get(key), value) for key, value in fields.items()}
        for key in [key for key in own if key not in merged]:
            del own[key]
        own.update(merged)

    # ---- out

    def other(self, value: Any) -> Any:
        if self.dry:
            return ["?", id(value)]
        for kind in (bool, int, float, str, list, tuple, dict, set):  # a subclass of one is that one to a check
            if isinstance(value, kind):
                return self.encode(kind(value) if kind is not str else str.__str__(value))
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, nn.Module) and (part := self.bridges.part(self, value)):
            return part
        if isinstance(value, nn.Module | torch.optim.Optimizer) or not _is_function(value):
            return self._thing(value)
        number = self.table.give(value, strong=True)
        return ["function", number, getattr(value, "__name__", type(value).__name__)]

    def _thing(self, value: Any) -> Any:
        cls = type(value)
        path = f"{cls.__module__}:{cls.__qualname__}"
        kind = ["path", path] if MAY_BE_MADE.fullmatch(path) else self._class(cls)
        number = self.table.give(value)
        return ["thing", number, kind, self.thing_state(value)]

    def thing_state(self, thing: Any) -> Any:
        if self.bridges.knows(thing):
            return self.bridges.state(self, thing)
        if isinstance(thing, types.CellType):
            return ["cell", self.encode(_contents(thing))]
        if not self._has_state(thing):
            return None
        fields = dict(getattr(thing, "__dict__", {}))
        for cls in type(thing).__mro__:
            slots = vars(cls).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if not name.startswith("__") and hasattr(thing, name):
                    fields[name] = getattr(thing, name)
        return ["state", [[key, self.encode(value)] for key, value in fields.items() if not key.startswith("__")]]

    def _has_state(self, thing: Any) -> bool:
        cls = type(thing)
        if isinstance(thing, type | types.FunctionType | BaseException):
            return False
        known = isinstance(thing, nn.Module | torch.optim.Optimizer) or cls.__module__ == "__main__"
        known = known or cls.__module__.startswith(("checks_", "concrete_steps", "__main__")) or _is_beside(cls)
        return known or MAY_BE_MADE.fullmatch(f"{cls.__module__}:{cls.__qualname__}") is not None

    def _class(self, cls: type) -> Any:
        number = self.table.number(cls)
        if number is not None:
            return ["n", number]
        if cls.__module__.startswith("checks_"):
            return ["checks", self.files[cls.__module__], cls.__name__]
        facts: dict[str, Any] = {"name": cls.__name__}
        facts["bases"] = [name for name, base in BASES.items() if issubclass(cls, base)]
        facts["special"] = [name for name in SPECIAL if any(name in vars(base) for base in _own(cls))]
        facts["names"] = sorted({name for base in _own(cls) for name in vars(base) if not name.startswith("__")})
        facts["any"] = any("__getattr__" in vars(base) or "__getattribute__" in vars(base) for base in _own(cls))
        if dataclasses.is_dataclass(cls):
            facts["fields"] = [field.name for field in dataclasses.fields(cls)]
        return ["class", self.table.give(cls, strong=True), facts]

    def record(self, cls: type) -> Any:
        number = self.table.number(cls)
        path = f"{cls.__module__}:{cls.__qualname__}"
        if number is not None:
            return ["n", number]
        if MAY_BE_MADE.fullmatch(path):
            return ["path", path]
        return ["fields", cls.__name__, list(cls._fields)]

    def is_fixed(self, thing: Any) -> bool:
        return isinstance(thing, type) or _is_function(thing)


def _is_beside(cls: type) -> bool:
    """Of a module of the learner's own, which lies beside the notebook."""
    return str(getattr(sys.modules.get(cls.__module__), "__file__", "")).startswith(f"{SCRATCH}/")


def _of_its_kind(old: Any, new: Any) -> Any:
    """A field's own kind of list, dict or set, which crossed as a plain one, refilled; else the new value."""
    if old is not new and any(isinstance(old, kind) and isinstance(new, kind) for kind in (list, dict, set)):
        refill(old, new)
        return old
    return new


def _own(cls: type) -> list[type]:
    """The classes from which special methods count as the learner's."""
    return [base for base in cls.__mro__ if base is not object and base is not nn.Module]


def _is_function(value: Any) -> bool:
    kinds = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)
    return isinstance(value, kinds) or (callable(value) and inspect.isroutine(value))


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None
