"""What has changed in the objects that two processes share, told to the other side and put in place there."""

from __future__ import annotations

import collections
import json
from typing import Any

import torch
from torch import Tensor

from concrete_steps.grading.crossing import tensors
from concrete_steps.grading.crossing.table import Table
from concrete_steps.grading.crossing.tensors import Nonsense

SMALL = 2**20  # bytes; whether a larger tensor has changed is told from its version and some of its entries
CONTAINERS = (list, dict, collections.OrderedDict, collections.defaultdict, collections.Counter, set)


class Changes:
    """The half of a codec that compares shared objects with how they were when control crossed last."""

    table: Table
    encode: Any
    decode: Any
    part: Any
    piece: Any
    plain: Any
    scoped: bool

    def __init__(self):
        self.last: dict[int, Any] = {}  # what was known of each shared object when control crossed last
        self.stale: set[int] = set()  # numbers of objects that are no longer as `last` has them
        self.dry = False  # to compare, not to tell

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
            return self.plain(thing) if self.dry else self._unnumbered(thing)
        return self.thing_state(thing)

    def _unnumbered(self, thing: Any) -> Any:
        before, self.scoped = self.scoped, False
        try:
            return self.plain(thing)
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
        if len(old) != len(new) or not all(map(_same_key, old, new)):
            old.clear()
        # A Counter's own update adds, and an OrderedDict does not see what dict's own puts into it.
        (collections.OrderedDict if isinstance(old, collections.OrderedDict) else dict).update(old, merged)
    else:
        old.clear()
        old.update(new)


def _same_key(a: Any, b: Any) -> bool:
    try:
        return a is b or bool(a == b)
    except RuntimeError:  # tensors, alone or in a tuple, are equal entry by entry
        return False


def kept(old: Any, new: Any) -> Any:
    """The new value; the old list, dict or set refilled, so that whoever holds it sees the change."""
    if type(old) is type(new) and type(old) in CONTAINERS and old is not new:
        refill(old, new)
        return old
    return new
