"""A small reader for GGUF, the single-file format in which llama.cpp keeps a model: metadata, then tensors.

A file is: the letters GGUF, a version, two counts, the metadata (key, type, value), a table of tensors (name, shape,
type, offset), then the tensors' bytes. Everything is little-endian. Weights are stored in blocks of 32 small integers
with a float16 scale; `Gguf.tensor` turns them back into float32.

Source: the format's description, docs/gguf.md in ggml-org/ggml. Only what the course needs is read: versions 2 and 3,
tensors of type F32, F16, Q4_1 and Q8_0.
"""

import struct
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from concrete_steps.errors import CourseError

BLOCK = 32  # weights that share one scale
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True)
class TensorPlace:
    """Where one tensor lies: its shape (rows first, as in numpy), its storage type and its offset in bytes."""

    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class Gguf:
    """A parsed file: `metadata` by key, and the place of each tensor by name."""

    data: bytes
    metadata: dict[str, Any]
    places: dict[str, TensorPlace]

    def tensor(self, name: str) -> np.ndarray:
        """The tensor `name` as a new float32 array, dequantised exactly as ggml defines it.

        Raises CourseError when its storage type is one that this reader does not know, or when the file ends early.
        """
        place = self.places[name]
        if place.kind not in KINDS:
            raise CourseError(f"Tensor {name} is stored as GGUF type {place.kind}; this reader knows {sorted(KINDS)}.")
        weights_in_block, block_bytes, unpack = KINDS[place.kind]
        n_bytes = prod(place.shape) // weights_in_block * block_bytes
        raw = np.frombuffer(self.data[place.offset : place.offset + n_bytes], np.uint8)
        if raw.size != n_bytes:
            raise CourseError(f"The GGUF file ends inside tensor {name}; fetch the file again.")
        return unpack(raw.reshape(-1, block_bytes)).reshape(place.shape)


def read(data: bytes) -> Gguf:
    """Parse the bytes of a GGUF file. Tensors are dequantised later, one at a time, by `Gguf.tensor`.

    Raises CourseError when the bytes are not a GGUF file of version 2 or 3, or end too early.
    """
    if data[:4] != b"GGUF":
        raise CourseError("This is not a GGUF file: it does not begin with the letters GGUF.")
    try:
        return _parse(data)
    except (struct.error, UnicodeDecodeError) as error:
        raise CourseError(f"The GGUF file is cut off or damaged ({error}); fetch it again.") from error


def _parse(data: bytes) -> Gguf:
    cursor = _Cursor(data, position=4)
    version, n_tensors, n_metadata = cursor.take("IQQ")
    if version not in (2, 3):
        raise CourseError(f"This is a GGUF file of version {version}; this reader knows versions 2 and 3.")

    metadata = {}
    for _ in range(n_metadata):
        key = cursor.string()
        (kind,) = cursor.take("I")
        metadata[key] = cursor.value(kind)

    table = []
    for _ in range(n_tensors):
        name = cursor.string()
        (n_dims,) = cursor.take("I")
        shape = cursor.take("Q" * n_dims)[::-1]  # ggml names the fastest-moving dimension first
        kind, offset = cursor.take("IQ")
        table.append((name, shape, kind, offset))

    alignment = metadata.get("general.alignment", 32)
    start = -(-cursor.position // alignment) * alignment  # the tensors begin at the next multiple
    places = {name: TensorPlace(shape, kind, start + offset) for name, shape, kind, offset in table}
    return Gguf(data, metadata, places)


@dataclass
class _Cursor:
    """Reads values one after another."""

    data: bytes
    position: int

    def take(self, codes: str) -> tuple:
        layout = struct.Struct("<" + codes)
        values = layout.unpack_from(self.data, self.position)
        self.position += layout.size
        return values

    def string(self) -> str:
        (length,) = self.take("Q")
        (raw,) = self.take(f"{length}s")
        return raw.decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            item_kind, length = self.take("IQ")
            if item_kind in SCALARS:
                return list(self.take(f"{length}{SCALARS[item_kind]}"))
            return [self.value(item_kind) for _ in range(length)]
        if kind not in SCALARS:
            raise CourseError(f"The GGUF metadata holds a value of type {kind}, which the format does not define.")
        return self.take(SCALARS[kind])[0]


def _float32(blocks: np.ndarray) -> np.ndarray:
    return blocks.view("<f4").astype(np.float32)


def _float16(blocks: np.ndarray) -> np.ndarray:
    return blocks.view("<f2").astype(np.float32)


def _q4_1(blocks: np.ndarray) -> np.ndarray:
    """Per block: float16 scale, float16 minimum, 16 bytes of two 4-bit numbers. weight = scale * number + minimum."""
    scale, minimum = _float16(blocks[:, 0:2].copy()), _float16(blocks[:, 2:4].copy())
    packed = blocks[:, 4:]
    numbers = np.concatenate([packed & 0x0F, packed >> 4], axis=1)  # low halves are weights 0-15, high halves 16-31
    return scale * numbers.astype(np.float32) + minimum


def _q8_0(blocks: np.ndarray) -> np.ndarray:
    """Per block: float16 scale, 32 signed bytes. weight = scale * number."""
    scale = _float16(blocks[:, 0:2].copy())
    return scale * blocks[:, 2:].view(np.int8).astype(np.float32)


# GGUF type number: (weights in a block, bytes in a block, how to unpack rows of that many bytes)
KINDS = {0: (1, 4, _float32), 1: (1, 2, _float16), 3: (BLOCK, 20, _q4_1), 8: (BLOCK, 34, _q8_0)}
