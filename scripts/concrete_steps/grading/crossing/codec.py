"""Values as JSON and bytes, and back: the half that both processes share.

A number, a string, True, False and None stand for themselves; everything else is a list whose first entry says what it
is. Objects that can change are numbered (see `table`): the first time they are described, later their number is enough.
"""

from __future__ import annotations

import collections
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from concrete_steps.grading.crossing import tensors
from concrete_steps.grading.crossing.changes import Changes
from concrete_steps.grading.crossing.table import Table
from concrete_steps.grading.crossing.tensors import Nonsense

MOST_DEPTH = 200


class Codec(Changes):
    """Encodes and decodes; `parts` are the bytes that a message refers to."""

    def __init__(self, first: int):
        super().__init__()
        self.table = Table(first)
        self.parts: list[bytes] = []
        self.data = memoryview(b"")
        self.scope: list[int] = []  # lists, dicts and sets of the call at hand
        self.scoped = False
        self.depth = 0
        self.leaves: dict[int, Tensor] = {}  # by number: what a gradient is taken by, where the tensor is no leaf

    # ---- out

    def encode(self, value: Any) -> Any:
        self.depth += 1
        try:
            if self.depth > MOST_DEPTH:
                raise ValueError("this is nested too deeply to be checked")
            return self._encode(value)
        finally:
            self.depth -= 1

    def _encode(self, value: Any) -> Any:
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else ["float", repr(value)]
        number = self.table.number(value)
        if number is not None:
            return ["n", number]
        if isinstance(value, Tensor):
            return self._tensor(value)
        plain = PLAIN.get(type(value))
        if plain is not None:
            return plain(self, value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return ["record", self.record(type(value)), [self.encode(item) for item in value]]
        if isinstance(value, np.ndarray | np.generic):
            kind = "array" if isinstance(value, np.ndarray) else "scalar"
            facts, data = tensors.array_described(np.asarray(value))
            return [kind, facts, self.part(data)]
        if isinstance(value, torch.Generator):
            if self.dry:
                return ["?", id(value)]
            number = self.table.give(value)
            return ["generator", number, self.part(tensors.generator_state(value))]
        return self.other(value)

    def part(self, data: bytes) -> list[int] | str:
        """A place in the message's bytes."""
        if self.dry:
            return data.hex() if len(data) < 64 else str(hash(data))
        self.parts.append(data)
        start = self.written
        self.written += len(data)
        return [start, len(data)]

    written = 0

    def _tensor(self, x: Tensor) -> Any:
        if self.dry:
            return ["?", id(x)]
        facts, data = tensors.described(x)
        number = self.table.give(x)
        facts["needs"] = x.requires_grad
        facts["leaf"] = x.is_leaf
        facts["parameter"] = isinstance(x, nn.Parameter)
        place = self.part(data)
        grad = x.grad if x.is_leaf else None
        return ["tensor", number, facts, place, self.encode(grad)]

    def _sequence(self, value: list) -> Any:
        return self._container("list", value, lambda: [self.encode(item) for item in value])

    def _mapping(self, value: dict) -> Any:
        return self._container("dict", value, lambda: [[self.encode(k), self.encode(v)] for k, v in value.items()])

    def _default(self, value: collections.defaultdict) -> Any:
        made = getattr(value.default_factory, "__name__", "")
        kind = f"default_{made}" if FACTORIES.get(made) is value.default_factory else "dict"
        return self._container(kind, value, lambda: [[self.encode(k), self.encode(v)] for k, v in value.items()])

    def _ordered(self, value: dict) -> Any:
        return self._container("ordered", value, lambda: [[self.encode(k), self.encode(v)] for k, v in value.items()])

    def _counter(self, value: collections.Counter) -> Any:
        return self._container("counter", value, lambda: [[self.encode(k), self.encode(v)] for k, v in value.items()])

    def _set(self, value: set) -> Any:
        return self._container("set", value, lambda: [self.encode(item) for item in value])

    def _container(self, kind: str, value: Any, items) -> Any:
        number = None
        if self.scoped and not self.dry:
            number = self.table.give(value, strong=True)
            self.scope.append(number)
        return [kind, number, items()]

    def plain(self, value: Any) -> Any:
        return PLAIN[type(value)](self, value)

    def other(self, value: Any) -> Any:
        raise NotImplementedError

    def record(self, cls: type) -> Any:
        raise NotImplementedError

    # ---- in

    def decode(self, node: Any) -> Any:
        if node is None or isinstance(node, bool | int | float | str):
            return node
        if not isinstance(node, list) or not node or not isinstance(node[0], str):
            raise Nonsense(f"no value is like this: {str(node)[:200]}")
        reader = READERS.get(node[0]) or getattr(type(self), f"read_{node[0]}", None)
        if reader is None:
            raise Nonsense(f"there is no kind of value {node[0][:50]!r}")
        self.depth += 1
        try:
            if self.depth > 2 * MOST_DEPTH:
                raise Nonsense("this is nested too deeply")
            return reader(self, *node[1:])
        except (TypeError, KeyError, IndexError, OverflowError) as error:
            raise Nonsense(f"{node[0]}: {error}") from None
        finally:
            self.depth -= 1

    def piece(self, place: Any) -> memoryview:
        start, size = place
        if not (type(start) is int and type(size) is int and start >= 0 and 0 <= size <= len(self.data) - start):
            raise Nonsense("bytes that are not there")
        return self.data[start : start + size]

    def read_n(self, number: int) -> Any:
        found = self.table.get(number)
        if found is None:
            raise Nonsense(f"nothing has the number {number}")
        return found

    def read_float(self, text: str) -> float:
        return {"inf": math.inf, "-inf": -math.inf}.get(text, math.nan)

    def read_tensor(self, number: int, facts: dict, place: Any, grad: Any) -> Tensor:
        x = tensors.made(facts, self.piece(place))
        x = self.arrived(number, x, facts)
        if grad is not None:
            x.grad = self.decode(grad)
        return x

    def arrived(self, number: int, x: Tensor, facts: dict) -> Tensor:
        raise NotImplementedError

    def _items(self, items: list) -> list:
        return [self.decode(item) for item in items]

    def _container_read(self, number: int | None, made: Any) -> Any:
        if number is not None:
            self.table.put(number, made, strong=True)
            self.scope.append(number)
        return made

    def read_list(self, number: int | None, items: list) -> list:
        made = self._container_read(number, [])
        made.extend(self._items(items))
        return made

    def read_dict(self, number: int | None, items: list) -> dict:
        made = self._container_read(number, {})
        made.update((self.decode(key), self.decode(value)) for key, value in items)
        return made

    def _read_default(self, factory: Any, number: int | None, items: list) -> dict:
        made = self._container_read(number, collections.defaultdict(factory))
        made.update((self.decode(key), self.decode(value)) for key, value in items)
        return made

    def read_counter(self, number: int | None, items: list) -> dict:
        made = self._container_read(number, collections.Counter())
        dict.update(made, {self.decode(key): self.decode(value) for key, value in items})
        return made

    def read_ordered(self, number: int | None, items: list) -> dict:
        made = self._container_read(number, collections.OrderedDict())
        made.update((self.decode(key), self.decode(value)) for key, value in items)
        return made

    def read_set(self, number: int | None, items: list) -> set:
        made = self._container_read(number, set())
        made.update(self._items(items))
        return made

    def read_array(self, facts: dict, place: Any) -> np.ndarray:
        return tensors.array_made(facts, self.piece(place))

    def read_scalar(self, facts: dict, place: Any) -> Any:
        return tensors.array_made(facts, self.piece(place))[()]

    def read_generator(self, number: int, place: Any) -> torch.Generator:
        made = torch.Generator()
        tensors.set_generator(made, self.piece(place))
        self.table.put(number, made)
        return made


PLAIN = {
    list: Codec._sequence,
    dict: Codec._mapping,
    collections.OrderedDict: Codec._ordered,
    collections.defaultdict: Codec._default,
    collections.Counter: Codec._counter,
    set: Codec._set,
    tuple: lambda codec, value: ["tuple", [codec.encode(item) for item in value]],
    frozenset: lambda codec, value: ["frozenset", [codec.encode(item) for item in value]],
    torch.Size: lambda codec, value: ["size", list(value)],
    torch.dtype: lambda codec, value: ["dtype", str(value).removeprefix("torch.")],
    torch.device: lambda codec, value: ["device", str(value)],
    slice: lambda codec, value: [
        "slice",
        codec.encode(value.start),
        codec.encode(value.stop),
        codec.encode(value.step),
    ],
    range: lambda codec, value: ["range", value.start, value.stop, value.step],
    complex: lambda codec, value: ["complex", codec.encode(value.real), codec.encode(value.imag)],
    bytes: lambda codec, value: ["bytes", codec.part(value)],
    type(Ellipsis): lambda codec, value: ["ellipsis"],
    type(NotImplemented): lambda codec, value: ["notimplemented"],
}
FACTORIES = {kind.__name__: kind for kind in (dict, list, set, int, float)}
READERS = {
    "tuple": lambda codec, items: tuple(codec._items(items)),
    "frozenset": lambda codec, items: frozenset(codec._items(items)),
    "size": lambda codec, items: torch.Size(items),
    "dtype": lambda codec, name: tensors.DTYPES[name],
    "device": lambda codec, name: torch.device(name),
    "slice": lambda codec, *ends: slice(*(codec.decode(end) for end in ends)),
    "range": lambda codec, *ends: range(*ends),
    "complex": lambda codec, real, imag: complex(codec.decode(real), codec.decode(imag)),
    "bytes": lambda codec, place: bytes(codec.piece(place)),
    "ellipsis": lambda codec: Ellipsis,
    "notimplemented": lambda codec: NotImplemented,
}
READERS |= {
    f"default_{name}": lambda codec, number, items, factory=factory: codec._read_default(factory, number, items)
    for name, factory in FACTORIES.items()
}
