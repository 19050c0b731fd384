"""Values as JSON and bytes, and back: the half that both processes share.

A number, a string, True, False and None stand for themselves; everything else is a list whose first entry says what it
is. Objects that can change are numbered (see `table`): the first time they are described, later their number is enough.
"""

from __future__ import annotations

import collections
import json
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from concrete_steps.grading.crossing import tensors
from concrete_steps.grading.crossing.table import Table
from concrete_steps.grading.crossing.tensors import Nonsense

SMALL = 2**20  # bytes; whether a larger tensor has changed is told from its version and some of its entries
MOST_DEPTH = 200


class Codec:
    """Encodes and decodes; `parts` are the bytes that a message refers to."""

    def __init__(self, first: int):
        self.table = Table(first)
        self.last: dict[int, Any] = {}  # what was known of each shared object when control crossed last
        self.stale: set[int] = set()  # numbers of objects that are no longer as `last` has them
        self.parts: list[bytes] = []
        self.data = memoryview(b"")
        self.scope: list[int] = []  # lists, dicts and sets of the call at hand
        self.scoped = False
        self.dry = False
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

    def _ordered(self, value: dict) -> Any:
        return self._container("ordered", value, lambda: [[self.encode(k), self.encode(v)] for k, v in value.items()])

    def _set(self, value: set) -> Any:
        return self._container("set", value, lambda: [self.encode(item) for item in value])

    def _container(self, kind: str, value: Any, items) -> Any:
        number = None
        if self.scoped and not self.dry:
            number = self.table.give(value, strong=True)
            self.scope.append(number)
        return [kind, number, items()]

    def other(self, value: Any) -> Any:
        raise NotImplementedError

    def record(self, cls: type) -> Any:
        raise NotImplementedError

    # ---- what has changed

    def key(self, thing: Any) -> Any:
        """Says whether a shared object is as it was when control crossed last."""
        self.dry, before = True, self.dry
        try:
            return json.dumps(self.state(thing))
        finally:
            self.dry = before

    def state(self, thing: Any) -> Any:
        """All that may change in a shared object; None for what cannot."""
        if isinstance(thing, Tensor):
            return self._tensor_state(thing)
        if isinstance(thing, torch.Generator):
            return ["generator", self.part(tensors.generator_state(thing))]
        if type(thing) in CONTAINERS:
            return PLAIN[type(thing)](self, thing) if self.dry else self._unnumbered(thing)
        return self.thing_state(thing)

    def _unnumbered(self, thing: Any) -> Any:
        before, self.scoped = self.scoped, False
        try:
            return PLAIN[type(thing)](self, thing)
        finally:
            self.scoped = before

    def _tensor_state(self, x: Tensor) -> Any:
        grad = self.encode(x.grad) if x.is_leaf else None
        needs = x.requires_grad
        if self.dry and x.numel() * x.element_size() > SMALL:
            flat = x.detach().flatten()
            some = flat[:: max(1, len(flat) // 997)].double().sum().item()
            return ["tensor", str(x.dtype), list(x.shape), x._version, x.data_ptr(), repr(some), needs, grad]
        facts, data = tensors.described(x)
        return ["tensor", facts, self.part(data), needs, grad]

    def thing_state(self, thing: Any) -> Any:
        return None

    def changes(self) -> list:
        """What has changed in shared objects since control crossed last, to be told."""
        told = []
        for number, thing in self.table.live():
            last = self.last.get(number)
            if last is not None and self.key(thing) != last:
                told.append([number, self.state(thing)])
                self.stale.add(number)
        return told

    def remember(self) -> None:
        """Control crosses: this is how things are."""
        live = dict(self.table.live())
        for number in self.last.keys() - live.keys():
            del self.last[number]
        for number, thing in live.items():
            if number not in self.last or number in self.stale:
                self.last[number] = self._known(number, thing)
        self.stale.clear()

    def _known(self, number: int, thing: Any) -> Any:
        return None if self.is_fixed(thing) else self.key(thing)

    def is_fixed(self, thing: Any) -> bool:
        """Nothing in it can change: functions and classes."""
        return isinstance(thing, type)

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
        if not (type(start) is int and type(size) is int and 0 <= start and 0 <= size <= len(self.data) - start):
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

    # ---- changes that were told

    def apply(self, changes: list) -> None:
        for number, state in changes:
            thing = self.table.get(number)
            if thing is not None and state is not None:
                self.stale.add(number)
                self.set_state(thing, state)

    def set_state(self, thing: Any, state: list) -> None:
        if isinstance(thing, Tensor) and state[0] == "tensor":
            self._set_tensor(thing, *state[1:])
        elif isinstance(thing, torch.Generator) and state[0] == "generator":
            tensors.set_generator(thing, self.piece(state[1]))
        elif type(thing) in CONTAINERS:
            refill(thing, self.decode(state))
        else:
            self.set_thing(thing, state)

    def set_thing(self, thing: Any, state: Any) -> None:
        raise Nonsense("this cannot change")

    def _set_tensor(self, x: Tensor, facts: dict, place: Any, needs: bool, grad: Any) -> None:
        new = tensors.made(facts, self.piece(place))
        if x.dtype == new.dtype and x.shape == new.shape:
            if not same_bits(x.detach(), new):
                self.write(x, new)
        else:
            x.data = new
        if x.is_leaf and x.requires_grad != needs:
            x.requires_grad_(bool(needs))
        if x.is_leaf:
            grad = self.decode(grad)
            if grad is not x.grad:
                x.grad = grad

    def write(self, x: Tensor, new: Tensor) -> None:
        with torch.no_grad():
            x.data.copy_(new)


CONTAINERS = (list, dict, collections.OrderedDict, set)


def same_bits(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all()) if a.numel() else True


def refill(old: Any, new: Any) -> None:
    """Make a list, dict or set hold what another holds, down to the lists and dicts in it."""
    if isinstance(old, list):
        if len(old) == len(new):
            for i, item in enumerate(new):
                old[i] = kept(old[i], item)
        else:
            old[:] = [*map(kept, old, new), *new[len(old) :]]
    elif isinstance(old, dict):
        merged = [(key, kept(old.get(key), value)) for key, value in new.items()]
        if list(old) != list(new):
            old.clear()
        old.update(merged)
    else:
        old.clear()
        old.update(new)


def kept(old: Any, new: Any) -> Any:
    """The new value; the old list, dict or set refilled, so that whoever holds it sees the change."""
    if type(old) is type(new) and type(old) in CONTAINERS and old is not new:
        refill(old, new)
        return old
    return new


PLAIN = {
    list: Codec._sequence,
    dict: Codec._mapping,
    collections.OrderedDict: Codec._ordered,
    collections.defaultdict: Codec._mapping,
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
