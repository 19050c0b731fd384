"""TransformerLens bridges cross as their configuration and weights."""

from __future__ import annotations

from typing import Any


class Bridges:
    def knows(self, thing: Any) -> bool:
        return False

    def encode(self, codec: Any, bridge: Any) -> Any:
        raise ValueError("a bridge cannot cross yet")
