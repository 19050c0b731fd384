"""What is set for the whole process, told to the other side: a call there meets what it would meet here.

Random states, the default dtype, whether gradients are on: what a learner's code leaves behind is then seen here.
"""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad
from torch.overrides import _get_current_function_mode
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _get_current_dispatch_mode

from concrete_steps.grading.crossing.tensors import Nonsense

RANDOM = {"torch", "numpy", "random"}  # who draws changes these


class Settings:
    """`told` is what both sides know."""

    def __init__(self):
        self.told: dict[str, Any] = {}

    def changed(self, codec: Any) -> dict:
        """What is no longer as it was told."""
        now = _now()
        new = {name: value for name, value in now.items() if self.told.get(name) != value}
        self.told = now
        return {name: codec.encode(value) for name, value in new.items()}

    def take(self, codec: Any, told: dict) -> None:
        for name, node in told.items():
            if name not in SET:
                raise Nonsense(f"there is no setting {str(name)[:50]!r}")
            try:
                SET[name](codec.decode(node))
            except (TypeError, ValueError, RuntimeError, KeyError, IndexError) as error:
                raise Nonsense(f"{name}: {error}") from None
        self.told = _now()


def _now() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (kind, keys.tobytes(), *rest),
        "random": random.getstate(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _set_torch(state: bytes) -> None:
    torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


def _set_numpy(state: tuple) -> None:
    kind, keys, place, *rest = state
    if type(place) is not int or not 0 <= place <= 624:  # numpy would read whatever lies behind its numbers
        raise ValueError(place)
    np.random.set_state((kind, np.frombuffer(keys, dtype=np.uint32), place, *rest))


def _set_deterministic(on: bool) -> None:
    if on != torch.are_deterministic_algorithms_enabled():  # to write it imports PyTorch's compiler
        torch.use_deterministic_algorithms(on, warn_only=True)


def _set_dtype(dtype: torch.dtype) -> None:
    if dtype not in (torch.float32, torch.float64):  # fewer digits would also be asked for by the check
        raise ValueError(dtype)
    torch.set_default_dtype(dtype)


SET = {
    "torch": _set_torch,
    "numpy": _set_numpy,
    "random": random.setstate,
    "dtype": _set_dtype,
    "gradients": lambda on: torch.set_grad_enabled(bool(on)),
    "deterministic": lambda on: _set_deterministic(bool(on)),
}


def is_watched() -> bool:
    """Whether something in this process looks at each line or each operation that an answer would do here."""
    if sys.gettrace() or sys.getprofile() or forward_ad._current_level >= 0:
        return True
    if torch._C._autograd._top_saved_tensors_default_hooks(False) is not None:
        return True
    modes = (_get_current_dispatch_mode(), _get_current_function_mode())
    return any(mode and not isinstance(mode, DeviceContext) for mode in modes)
