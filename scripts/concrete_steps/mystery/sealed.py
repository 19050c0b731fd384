"""The hidden rules behind the mystery models, closed so that nobody reads them by accident.

They are Python, squeezed by zlib and mixed with a stream of bytes that the phrase below makes. This is a curtain and no
lock: whoever runs `python scripts/train/mystery.py --open FILE` reads all of it, and so may whoever wants to. It keeps
the rules from eyes that browse, from searches, and from a language model that reads the repository for a hint.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import types
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concrete_steps.errors import CourseError
from concrete_steps.paths import data_dir

if TYPE_CHECKING:
    from jaxtyping import Bool, Int
    from torch import Tensor

PHRASE = b"I want to know how it ends"


def file() -> Path:
    return data_dir() / "models" / "mystery" / "rules.sealed"


def opened() -> str:
    """The sealed source in plain words."""
    try:
        return zlib.decompress(_mixed(file().read_bytes())).decode()
    except (OSError, zlib.error, UnicodeDecodeError) as problem:
        raise CourseError(
            f"{file()} is missing or damaged: restore it with `git checkout -- data/models/mystery`."
        ) from problem


def close(source: str) -> None:
    """Seal this source in the place of what is sealed now."""
    file().parent.mkdir(parents=True, exist_ok=True)
    file().write_bytes(_mixed(zlib.compress(source.encode(), 9)))


@functools.cache
def rules() -> dict[str, Any]:
    """The rules by the names of their models."""
    module = types.ModuleType("concrete_steps.mystery.hidden")
    sys.modules[module.__name__] = module  # dataclasses look there
    exec(compile(opened(), "<sealed>", "exec"), module.__dict__)
    return module.RULES


def swapped_answer(
    rule: Any, letters: Int[Tensor, "row length"], source: Tensor, swaps: Bool[Tensor, "row layer head"], blind=True
) -> Int[Tensor, " row"]:
    """What the rule says where the marked heads carry what they carry in `source`; not `blind`: the examples' rule."""
    import torch

    theirs = {}

    def remember(head: tuple[int, int], value: Tensor) -> Tensor:
        theirs[head] = value
        return value

    def part(head: tuple[int, int], value: Tensor) -> Tensor:
        mark = swaps[:, head[0], head[1]]
        return torch.where(mark.view(-1, *[1] * (value.ndim - 1)), theirs[head], value)

    rule.answer(source, remember)
    return rule.answer(letters, part, blind)


def _mixed(data: bytes) -> bytes:
    stream = hashlib.shake_256(PHRASE).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))
