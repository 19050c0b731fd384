"""Checks of a model's part that the learner writes as an nn.Module: its weights are set by the names of the text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from concrete_steps.checking.mistakes import same
from concrete_steps.checking.testing.gradients import assert_gradient_values
from concrete_steps.checking.testing.state import nothing_left_behind, unchanged
from concrete_steps.checking.testing.values import assert_tensor


def set_weights(module: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    """Write the weights into the module's parameters; every slip in names, shapes or kinds is named."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for key, value in weights.items():
        if key not in parameters:
            raise AssertionError(f"{name}(cfg) has no parameter {key} {list(value.shape)}{_why_missing(module, key)}")
        shape = tuple(parameters[key].shape)
        assert shape == tuple(value.shape), f"{key} has shape {list(shape)}, the text asks for {list(value.shape)}"
    extra = sorted(parameters.keys() - weights.keys())
    shown = ", ".join(extra[:4]) + (f", ... ({len(extra)} in all)" if len(extra) > 4 else "")
    assert not extra, f"{name}(cfg) has parameters that the text does not name: {shown}"
    buffers = sorted(module.state_dict().keys() - parameters.keys())
    assert not buffers, f"the state dict also holds {', '.join(buffers)}: use register_buffer(..., persistent=False)"
    slots: dict[int, list[str]] = {}
    for key, parameter in parameters.items():
        slots.setdefault(parameter.data_ptr(), []).append(key)
    shared = next((keys for keys in slots.values() if len(keys) > 1), None)
    assert not shared, (
        f"uses one and the same part more than once: make a new one for each place ({', '.join((shared or [])[:2])})"
    )
    for key, value in weights.items():
        parameters[key].data = value.clone()


def _why_missing(module: Any, key: str) -> str:
    """What stands in the place of a parameter that is missing."""
    path = key.split(".")
    for step, part in enumerate(path):
        found = getattr(module, part, None) if not isinstance(module, list | tuple) else module[int(part)]
        if found is None:
            return f": {'.'.join(path[: step + 1])} is missing"
        if isinstance(found, list | tuple):
            return ": blocks is a plain list, which hides its blocks from PyTorch: use nn.ModuleList"
        module = found
    if isinstance(module, nn.Module):
        kind = type(module).__name__
        return f": what stands there is a module ({kind}), and the text asks for nn.Parameter(...) itself"
    is_plain = isinstance(module, Tensor) and not isinstance(module, nn.Parameter)
    return ": it is a plain tensor, not a parameter: wrap it in nn.Parameter" if is_plain else ""


def run_part(module: nn.Module, x: Tensor, method: str = "forward") -> Tensor:
    """The module's output; input, weights, hooks and modes stay as they are, and a second call gives the same."""
    function = module if method == "forward" else getattr(module, method)
    with nothing_left_behind(module, random_state=False), unchanged(x):  # dropout has words of its own, below
        out = assert_tensor(function(x))
    if not same(out, function(x)):
        assert not _is_drawn(function, x), (
            "gives another output each time, even after .eval(): dropout is on; leave it out, or use nn.Dropout"
        )
        raise AssertionError("gives another output for the same input the next time: what does it keep between calls?")
    return out


def _is_drawn(function: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """The output is the same if only the random numbers are."""
    outs = []
    for _ in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            outs.append(function(x))
    return same(*outs)


def own_composition(module: nn.Module, x: Tensor) -> Tensor:
    """What a block of these very parts, ln1, attn, ln2 and mlp, should give."""
    mid = x + module.attn(module.ln1(x))
    return mid + module.mlp(module.ln2(mid))


def how_composed(module: nn.Module, x: Tensor) -> str:
    """Where the block first departs from that: what each part read and gave, by hooks."""
    seen = {}

    def keep(part):
        return lambda _, args, out: seen.update({part: (args[0].detach().clone(), out.detach().clone())})

    hooks = [getattr(module, part).register_forward_hook(keep(part)) for part in ("ln1", "attn", "ln2", "mlp")]
    module(x.clone())
    for hook in hooks:
        hook.remove()
    unseen = [part for part in ("ln1", "attn", "ln2", "mlp") if part not in seen]
    if unseen:
        return f"your block does not call {unseen[0]}"
    (ln1_read, ln1), (attn_read, attn), (ln2_read, ln2), (mlp_read, _) = (
        seen[part] for part in ("ln1", "attn", "ln2", "mlp")
    )
    steps = [
        (ln1_read, x, "ln1 does not read the block's input"),
        (attn_read, ln1, "attn does not read what ln1 gives"),
        (ln2_read, x + attn, "ln2 does not read the new stream, the block's input plus attn's output"),
        (mlp_read, ln2, "mlp does not read what ln2 gives"),
    ]
    wrong = next((text for got, right, text in steps if not same(got, right)), None)
    return wrong or "the parts read what they should, but the output is not the new stream plus mlp's output"


def assert_trains(module: nn.Module, x: Tensor, function: Callable[[Tensor], Tensor] | None = None) -> None:
    """A gradient reaches the input and every parameter, and each is the derivative of the output.

    Args:
        function: what is differentiated, if it is not the module alone.
    """
    function = function or module
    leaf = x.clone().requires_grad_() if x.is_floating_point() else x
    # Not the leaf itself: PyTorch forbids to change one in place, in words that tell a learner little.
    out = function(leaf.clone())
    assert out.requires_grad, "no gradient flows through your class: keep to torch operations (no .data, no numpy)"
    (out * torch.arange(1, out.numel() + 1).reshape(out.shape).sin()).sum().backward()
    without = [name for name, parameter in module.named_parameters() if parameter.grad is None]
    assert not without, f"no gradient reaches {', '.join(without)}: is it used, and not detached?"
    assert not x.is_floating_point() or leaf.grad is not None, "no gradient reaches the input: is it detached?"
    module.zero_grad()
    module.double()
    x = x.double() if x.is_floating_point() else x
    assert_gradient_values(function, x, weights=module.named_parameters())
