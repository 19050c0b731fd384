"""TransformerLens bridges cross as their configuration and weights, and later as what was changed in them.

Both processes build their own and keep to it: hooks that TransformerLens puts in by itself are on both sides and count
as the beginning. Any other is told to the other side. A check's own hook runs where the learner's code does, which may
keep it from running: a check that counts by one is `trusted` in the map.
"""

from __future__ import annotations

import functools
import pickle
import types
import weakref
from typing import Any

import torch
from torch import nn

from concrete_steps.grading.crossing.standins import number_of
from concrete_steps.grading.crossing.tensors import Nonsense

TABLES = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs"),
)
LISTS = ("fwd_hooks", "bwd_hooks")  # of TransformerLens's hook points
HOOKED = "a model into which a check has put hooks of TransformerLens's, or with keywords, cannot be lent"
TRANSFORMERS = ("LlamaForCausalLM", "GPT2LMHeadModel")


def is_bridge(thing: Any) -> bool:
    return isinstance(thing, nn.Module) and hasattr(thing, "original_model") and hasattr(thing, "cfg")


class Bridges:
    """What one side knows of its bridges: how each was in the beginning, and which module is a part of which."""

    lends = True  # this is the judge's side

    def __init__(self):
        self.known: weakref.WeakKeyDictionary[nn.Module, dict] = weakref.WeakKeyDictionary()
        self.parts: weakref.WeakKeyDictionary[nn.Module, tuple[Any, str]] = weakref.WeakKeyDictionary()

    def knows(self, thing: Any) -> bool:
        return isinstance(thing, nn.Module) and thing in self.known

    def learn(self, bridge: nn.Module) -> None:
        self.known[bridge] = {name: _look(module) for name, module in bridge.named_modules()}
        for name, module in bridge.named_modules():
            if module is not bridge:
                self.parts[module] = (weakref.ref(bridge), name)

    def part(self, codec: Any, module: nn.Module) -> Any:
        """The node of a bridge's part, or None of other modules."""
        found = self.parts.get(module)
        number = codec.table.number(found[0]()) if found else None
        return None if number is None else ["part", number, found[1]]

    # ---- from the judge

    def encode(self, codec: Any, bridge: nn.Module) -> Any:
        node = self.part(codec, bridge)
        if node is not None:
            return node
        if bridge not in self.known:
            _settled(bridge)
            if any(_counted(module, kind) for module in bridge.modules() for kind in LISTS):
                raise ValueError(HOOKED)
        number = codec.table.give(bridge)
        kind = type(bridge.original_model).__name__
        facts = {"name": str(bridge.cfg.model_name)} if kind in TRANSFORMERS else None
        made = None if facts else codec.part(pickle.dumps((bridge.cfg, bridge.tokenizer)))
        parameters = list(dict(bridge.named_parameters()).items())
        values = None if facts else [[name, codec.encode(p)] for name, p in parameters]
        numbers = [[name, codec.table.give(p)] for name, p in parameters] if facts else []
        self.learn(bridge)
        return ["bridge", number, facts, made, values, numbers, self.state(codec, bridge)]

    # ---- both

    def state(self, codec: Any, bridge: nn.Module) -> Any:
        """Modes, and hooks that were not there in the beginning."""
        beginning, told = self.known[bridge], []
        for name, module in bridge.named_modules():
            tables, lengths = beginning.get(name, ({}, {}))
            new = []
            for kind in TABLES[:4]:
                for key, hook in getattr(module, kind, {}).items():
                    if key not in tables.get(kind, ()) and not _is_librarys(hook):
                        if self.lends and any(key in getattr(module, flags, ()) for flags in TABLES[4:]):
                            raise ValueError(HOOKED)
                        new.append([kind, key, codec.encode(hook)])
            more = [len(getattr(module, kind, ())) - lengths.get(kind, 0) for kind in LISTS]
            if self.lends and any(more) and not all(_may_be_lent(h) for k in LISTS for h in getattr(module, k)):
                raise ValueError(HOOKED)
            if new or any(more) or module.training != bridge.training:
                told.append([name, module.training, new, more])
        return ["bridge", bridge.training, told]

    def set_state(self, codec: Any, bridge: nn.Module, state: Any) -> None:
        """Make modes and hooks what the other side says."""
        told = {name: (training, new, more) for name, training, new, more in state[2]}
        beginning = self.known[bridge]
        for name, module in bridge.named_modules():
            training, new, more = told.get(name, (state[1], [], [0, 0]))
            module.training = bool(training)
            tables, lengths = beginning.get(name, ({}, {}))
            wanted = {(kind, key): node for kind, key, node in new}
            for kind in TABLES[:4]:
                table = getattr(module, kind, None)
                if table is None:
                    continue
                for key, hook in list(table.items()):
                    if key not in tables.get(kind, ()) and (kind, key) not in wanted and not _is_librarys(hook):
                        del table[key]
                for (where, key), node in wanted.items():
                    if where == kind and key not in table:
                        if type(key) is not int:
                            raise Nonsense("no hook")
                        table[key] = codec.decode(node)
            for kind, extra in zip(LISTS, more, strict=True):
                held = getattr(module, kind, None)
                if isinstance(held, list) and type(extra) is int and abs(extra) < 1000:
                    length = max(0, lengths.get(kind, 0) + extra)
                    held[length:] = []
                    held.extend(_Handle() for _ in range(length - len(held)))


class LentBridges(Bridges):
    """The sandbox's side: it builds them."""

    lends = False

    def __init__(self):
        super().__init__()
        self.kept: dict[str, nn.Module] = {}

    def read(self, codec: Any, number, facts, made, values, numbers, state) -> nn.Module:
        random_state = torch.get_rng_state()  # to build one draws from it
        bridge = self._by_name(facts["name"]) if facts else self._native(codec, made)
        torch.set_rng_state(random_state)
        codec.table.put(number, bridge)
        parameters = dict(bridge.named_parameters())
        for name, node in values or ():
            sent = codec.decode(node)
            own = parameters.get(name)
            if own is None:  # a check has put it there
                where, _, last = name.rpartition(".")
                own = nn.Parameter(sent.detach().clone())
                setattr(bridge.get_submodule(where), last, own)
            own.data = sent.data
            own.requires_grad_(sent.requires_grad)
            own.grad = sent.grad
            theirs = codec.table.number(sent)
            codec.table.drop(theirs)
            codec.table.put(theirs, own)
        for name, theirs in numbers:
            codec.table.put(theirs, parameters[name])
        self.learn(bridge)
        self.set_state(codec, bridge, state)
        return bridge

    def _native(self, codec: Any, made: Any) -> nn.Module:
        from transformer_lens.model_bridge import TransformerBridge

        cfg, tokenizer = pickle.loads(codec.piece(made))
        bridge = TransformerBridge.boot_native(cfg, tokenizer=tokenizer).eval()
        return _settled(bridge)

    def _by_name(self, name: str) -> nn.Module:
        from concrete_steps import models
        from concrete_steps.models import smollm2_model

        bridge = self.kept.get(name)
        if bridge is None or any(p._version != version for p, version in bridge.versions):
            bridge = models.smollm2() if name == smollm2_model.NAME else models.load(name)
            object.__setattr__(bridge, "versions", [(p, p._version) for p in bridge.parameters()])
            self.kept[name] = _settled(bridge)
        return _without_others(bridge)  # one that an earlier check has put in belongs to that check


class _Handle:
    """Stands for a hook that the other side has left in a hook point."""

    is_permanent, context_level, id = False, 0, -1

    @property
    def hook(self) -> _Handle:
        return self

    def remove(self) -> None:
        pass


def _is_librarys(hook: Any) -> bool:
    """A library's own, put in at a first run. What is added by TransformerLens's add_hook is seen by its lists.

    Nothing that came from the other side is one, whatever it says of itself.
    """
    function = hook.func if type(hook) is functools.partial else hook
    if not isinstance(function, types.FunctionType | types.MethodType) or number_of(function) is not None:
        return False
    return str(function.__module__).startswith(("transformer_lens", "transformers"))


def _tables(bridge: nn.Module) -> list[dict]:
    return [getattr(module, kind) for module in bridge.modules() for kind in TABLES[:4] if getattr(module, kind, None)]


def _without_others(bridge: nn.Module) -> nn.Module:
    """Only the library's hooks are left in it."""
    for table in _tables(bridge):
        for key in [key for key, hook in table.items() if not _is_librarys(hook)]:
            del table[key]
    return bridge


def _settled(bridge: nn.Module) -> nn.Module:
    """After a first run, at which TransformerLens puts hooks of its own into it, for good; a check's do not run."""
    before = [(table, list(table.items())) for table in _tables(bridge)]
    _without_others(bridge)
    state = torch.get_rng_state()
    try:
        with torch.no_grad():
            bridge(torch.zeros(1, 1, dtype=torch.long))
    finally:
        torch.set_rng_state(state)
        for table, items in before:
            new = [(key, hook) for key, hook in table.items() if key not in dict(items)]
            table.clear()
            table.update([*items, *new])
    return bridge


def _look(module: nn.Module) -> tuple[dict[str, set], dict[str, int]]:
    """The hooks of the beginning: a library's."""
    tables = {kind: getattr(module, kind, None) or {} for kind in TABLES[:4]}
    first = {kind: {key for key, hook in table.items() if _is_librarys(hook)} for kind, table in tables.items()}
    return first, {kind: _counted(module, kind) for kind in LISTS}


def _counted(module: nn.Module, kind: str) -> int:
    """How many hooks were there in the beginning; a check's bystanders came later, and are told to the other side."""
    return sum(not getattr(handle, "is_bystander", False) for handle in getattr(module, kind, ()))


def _may_be_lent(handle: Any) -> bool:
    """What need not be called: a stand-in, or a hook that a check puts in to see whether it stays."""
    return isinstance(handle, _Handle) or getattr(handle, "is_bystander", False)
