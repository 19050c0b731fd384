"""What an answer must leave as it found it: its arguments, the models, the modes of PyTorch, the random state."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
BRIDGE_HOOKS = ("fwd_hooks", "bwd_hooks")  # lists of TransformerLens
# Up to here weights are copied to be compared; of larger models sums must do.
COPIED = 2_000_000


@contextlib.contextmanager
def unchanged(*inputs: Any) -> Iterator[None]:
    """Tensors, lists, dicts, generators and modules are the same after the block, and so is what they hold.

    Lists and dicts are put back, whatever became of them: a check may lend them again, to the mended answer.
    """
    before = [_Snapshot(value) for value in inputs]
    try:
        yield
        for snapshot in before:
            snapshot.compare()
    finally:
        for snapshot in before:
            snapshot.put_back()


@contextlib.contextmanager
def nothing_left_behind(*modules: nn.Module, random_state: bool = True) -> Iterator[None]:
    """After the block the modules are as before, hooks included, and so are PyTorch's modes and the random state.

    Modes are put back, whatever was left. `random_state=False` where the text allows drawing from the global state.
    """
    before, numbers, modules_loaded = _modes(), _random_state() if random_state else {}, len(sys.modules)
    try:
        with unchanged(*modules):
            yield
        for name, value in _modes().items():
            assert value == before[name], f"your code leaves {name} at {value}; it was {before[name]}"
        for name, state in _random_state().items() if random_state else ():
            if "Python" in name and len(sys.modules) > modules_loaded:
                continue  # a first import may draw, as scikit-learn's does; the next call of the check will tell
            own = "torch.Generator" if "torch" in name else "random.Random" if "Python" in name else "numpy Generator"
            assert state == numbers[name], f"your code draws from (or seeds) {name}: use a {own} of its own"
    finally:
        torch.set_grad_enabled(before["torch.is_grad_enabled()"])
        torch.set_default_dtype(before["the default dtype"])
        if torch.are_deterministic_algorithms_enabled() != before["deterministic algorithms"]:
            torch.use_deterministic_algorithms(before["deterministic algorithms"])  # imports PyTorch's compiler
        if torch.get_default_device() != before["the default device"]:
            torch.set_default_device(before["the default device"])


def settled(bridge: nn.Module) -> nn.Module:
    """The bridge after a first cached run, at which TransformerLens puts hooks of its own into it, for good.

    To be called before `unchanged` or `nothing_left_behind` looks at a bridge that has not run yet. (A plain run is
    not enough: more hooks come with the first `run_with_cache`.)
    """
    with torch.no_grad():
        bridge.run_with_cache(torch.zeros(1, 3, dtype=torch.long), names_filter=lambda name: False)
    return bridge


@contextlib.contextmanager
def as_found(bridge: nn.Module, *inputs: Any) -> Iterator[None]:
    """After the block no hook stays in the bridge, and the bridge, inputs, modes and random state are as before."""
    with unchanged(*inputs), nothing_left_behind(settled(bridge)):
        try:
            yield
        finally:
            left = [name for name, point in bridge.hook_dict.items() if point.fwd_hooks or point.bwd_hooks]
            bridge.reset_hooks()
            assert not left, (
                f"hooks stay behind in the model, at {left[0]}: run_with_hooks takes its hooks away, add_hook not"
            )


@contextlib.contextmanager
def others_hook(bridge: nn.Module) -> Iterator[None]:
    """During the block a hook of somebody else's, which does nothing, is in the bridge; it must be there afterwards."""
    point = settled(bridge).hook_dict["hook_embed"]
    point.add_hook(_nothing)
    handle = point.fwd_hooks[-1]
    handle.is_bystander = True  # so that grading may lend the bridge: it does not matter that the hook is not called
    try:
        yield
        assert any(each is handle for each in point.fwd_hooks), (
            "takes away hooks of others: reset_hooks() removes all, run_with_hooks and `with model.hooks` their own"
        )
    finally:
        bridge.reset_hooks()
        handle.hook.remove()  # where an answer in the sandbox took it away, the bridge no longer knows it


def _nothing(value: Tensor, hook: Any) -> None:
    """Looks at nothing and changes nothing."""


def answer_to(function: Callable, *inputs: Any) -> Any:
    """What the function gives for the inputs, which stay as they are; as do PyTorch's modes and random numbers."""
    with nothing_left_behind(), unchanged(*inputs):
        return function(*inputs)


def _modes() -> dict[str, Any]:
    return {
        "torch.is_grad_enabled()": torch.is_grad_enabled(),
        "torch.is_inference_mode_enabled()": torch.is_inference_mode_enabled(),
        "the default dtype": torch.get_default_dtype(),
        "the default device": torch.get_default_device(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def _random_state() -> dict[str, Any]:
    import numpy as np

    return {
        "torch's global random state": torch.get_rng_state().numpy().tobytes(),
        "numpy's global random state": np.random.get_state()[1].tobytes() + bytes([np.random.get_state()[2] % 256]),
        "Python's global random state": random.getstate(),
    }


class _Snapshot:
    """How a value was, all the way down, and what to say when it is no longer so."""

    def __init__(self, value: Any):
        self.value = value
        self.before = self._look()

    def _look(self) -> Any:
        match self.value:
            case Tensor():
                return self.value.detach().clone(), self.value.requires_grad
            case nn.Module():
                return _look_at_module(self.value)
            case torch.Generator():
                return self.value.get_state()
            case list() | tuple():
                return [_Snapshot(item) for item in self.value]
            case dict():
                return {key: _Snapshot(item) for key, item in self.value.items()}
        return None

    def compare(self) -> None:
        match self.value:
            case Tensor():
                copy, flag = self.before
                assert _equal(self.value, copy), (
                    "your code changes its input in place, as `+=` and methods ending in `_` do: "
                    "write `x = x + ...` or copy it"
                )
                assert self.value.requires_grad == flag, (
                    f"your code sets requires_grad of its input to {not flag}: work on x.detach() or x.clone()"
                )
            case nn.Module():
                for what, now in _look_at_module(self.value).items():
                    before = self.before[what]
                    if isinstance(now, frozenset):  # hooks
                        what += " is gone: remove none but your own" if before - now else " stays behind: remove it"
                    assert _equal(now, before), f"your code changes the model it was given: {what}"
            case torch.Generator():
                assert torch.equal(self.value.get_state(), self.before), "your code draws from a generator it was lent"
            case list() | tuple():
                same = len(self.value) == len(self.before) and all(
                    now is snapshot.value for now, snapshot in zip(self.value, self.before, strict=True)
                )
                assert same, "your code changes the list that it was given (append, pop, [i] = ...): copy it first"
                for snapshot in self.before:
                    snapshot.compare()
            case dict():
                same = list(self.value) == list(self.before) and all(
                    self.value[key] is snapshot.value for key, snapshot in self.before.items()
                )
                assert same, "your code changes the dict that it was given (pop, del, [key] = ...): copy it first"
                for snapshot in self.before.values():
                    snapshot.compare()

    def put_back(self) -> None:
        """Lists and dicts hold what they held, all the way down."""
        match self.value:
            case list() | tuple():
                for snapshot in self.before:
                    snapshot.put_back()
                if isinstance(self.value, list):
                    self.value[:] = [snapshot.value for snapshot in self.before]
            case dict():
                for snapshot in self.before.values():
                    snapshot.put_back()
                held = {key: snapshot.value for key, snapshot in self.before.items()}
                self.value.clear()
                self.value.update(held)


def _look_at_module(module: nn.Module) -> dict[str, Any]:
    """What can be changed in a module, by the words for it."""
    found = {}
    for name, part in module.named_modules():
        at = f" of {name}" if name else ""
        found[f"train() or eval(){at}"] = part.training
        found[f"a hook{at}"] = frozenset(
            [(kind, handle) for kind in HOOKS for handle in getattr(part, kind)]
            + [(kind, number) for kind in BRIDGE_HOOKS for number in range(len(getattr(part, kind, ())))]
        )
    few = sum(p.numel() for p in module.parameters()) <= COPIED
    for name, weight in (*module.named_parameters(), *module.named_buffers()):
        found[f"requires_grad of {name}"] = weight.requires_grad
        found[f"the values of {name}"] = weight.detach().clone() if few else _sums(weight)
    return found


def _sums(weight: Tensor) -> Tensor:
    """Enough of a large tensor to see that it was changed, for the price of reading it."""
    flat = weight.detach().flatten()
    return torch.cat([flat.sum(dtype=torch.float64)[None], flat[:: max(1, len(flat) // 97)].double()])


def _equal(a: Any, b: Any) -> bool:
    """Equal with nan = nan, and tensors of one dtype."""
    if isinstance(a, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())
    return a == b
