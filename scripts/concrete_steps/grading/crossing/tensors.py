"""Tensors, arrays and generators as facts and bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

MOST_AXES, MOST_ENTRIES = 64, 2**27
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex128, torch.complex64),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}


class Nonsense(ValueError):
    """What is said of a tensor cannot be true."""


def described(x: Tensor) -> tuple[dict, bytes]:
    """Dtype, shape and strides, and the bytes of what lies between its first and its last entry."""
    x = torch.Tensor.detach(x)
    if x.layout != torch.strided or x.device.type not in ("cpu", "meta"):
        raise ValueError(f"a tensor of layout {x.layout} on {x.device} cannot be checked")
    kind = str(x.dtype).removeprefix("torch.")
    if kind not in DTYPES:
        raise ValueError(f"a tensor of {x.dtype} cannot be checked")
    facts = {"dtype": kind, "shape": list(x.shape)}
    if x.device.type == "meta":
        return facts | {"meta": True}, b""
    x = x.resolve_conj().resolve_neg()
    span = _span(x.shape, x.stride())
    if span > 4 * x.numel() + 64:
        x = x.contiguous()
        span = x.numel()
    facts["stride"] = list(x.stride())
    flat = torch.as_strided(x, (span,), (1,), x.storage_offset()).contiguous()
    return facts, flat.view(torch.uint8).numpy().tobytes() if span else b""


def made(facts: dict, data: memoryview) -> Tensor:
    """The tensor that was described. Every fact is tested against the bytes that there are."""
    dtype, shape, stride = DTYPES.get(facts.get("dtype")), facts.get("shape"), facts.get("stride")
    if dtype is None or not _are_sizes(shape) or math.prod(shape) > MOST_ENTRIES:
        raise Nonsense(f"no tensor is like this: {str(facts)[:200]}")
    if facts.get("meta"):
        return torch.empty(shape, dtype=dtype, device="meta")
    if not _are_sizes(stride) or len(stride) != len(shape):
        raise Nonsense(f"no tensor has the strides {str(stride)[:200]}")
    if _span(shape, stride) * dtype.itemsize != len(data):
        raise Nonsense(f"{len(data)} bytes are no tensor of shape {shape} and strides {stride}")
    if not data:
        return torch.empty_strided(shape, stride, dtype=dtype)
    flat = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    if dtype == torch.bool:
        flat = flat.ne(0)
    return torch.as_strided(flat.view(dtype), shape, stride)


def _span(shape, stride) -> int:
    """Entries between the first and the last one, both included."""
    if 0 in shape:
        return 0
    return 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MOST_AXES and all(type(n) is int and 0 <= n < 2**40 for n in value)


def array_described(x: np.ndarray) -> tuple[dict, bytes]:
    if x.dtype.kind not in "biufcUS":
        raise ValueError(f"an array of {x.dtype} cannot be checked")
    return {"dtype": x.dtype.str, "shape": list(x.shape)}, np.ascontiguousarray(x).tobytes()


def array_made(facts: dict, data: memoryview) -> np.ndarray:
    kind, shape = facts.get("dtype"), facts.get("shape")
    if not (isinstance(kind, str) and len(kind) < 12 and kind[1:2] in tuple("biufcUS")) or not _are_sizes(shape):
        raise Nonsense(f"no array is like this: {str(facts)[:200]}")
    try:
        return np.frombuffer(bytearray(data), dtype=np.dtype(kind)).reshape(shape)
    except (TypeError, ValueError) as error:
        raise Nonsense(str(error)) from None


def generator_state(generator: torch.Generator) -> bytes:
    return generator.get_state().numpy().tobytes()


def set_generator(generator: torch.Generator, data: memoryview) -> None:
    try:
        generator.set_state(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    except (RuntimeError, TypeError, ValueError) as error:
        raise Nonsense(str(error)) from None
