"""What an answer may make on the way."""

from __future__ import annotations

import math

import torch


class refuse_large:
    """Within the block an operation that makes more entries than this is an error, and says so."""

    def __init__(self, most: int, too_large: str = "makes the whole product, which the factors are there to avoid"):
        self.most = most
        self.too_large = too_large

    def __enter__(self):
        from torch.utils._python_dispatch import TorchDispatchMode

        most, too_large = self.most, self.too_large

        class Refuse(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                with torch.no_grad():
                    sizes = [x.shape for x in args if isinstance(x, torch.Tensor)]
                made = _result_size(func, sizes)
                assert made <= most, f"{too_large}: {made:,} entries at once"
                return func(*args, **(kwargs or {}))

        self.mode = Refuse()
        self.mode.__enter__()

    def __exit__(self, *error):
        self.mode.__exit__(*error)


def _result_size(func, sizes) -> int:
    """Entries that a matrix product or an outer product would make, before it is made; 0 for what is not known."""
    name = func._schema.name
    if name in ("aten::mm", "aten::bmm", "aten::matmul") and len(sizes) == 2:
        return math.prod(sizes[0][:-1]) * sizes[1][-1]
    if name.startswith(("aten::mul", "aten::add")) and len(sizes) == 2:
        return math.prod(torch.broadcast_shapes(*sizes))
    return 0
