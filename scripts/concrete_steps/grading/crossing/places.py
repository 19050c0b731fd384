"""Where importable functions and classes stand, as both processes find them; and what is made of a mere place."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from typing import Any

from concrete_steps.grading.crossing.source import is_of_checks

# Classes whose instances may be made here from what the sandbox says, by setting their fields alone.
MAY_BE_MADE = re.compile(
    r"torch\.nn\.modules\.\w+:\w+|torch\.optim\.\w+:\w+|types:SimpleNamespace"
    r"|concrete_steps\.(wired|games|models|evidence|corpus)(\.\w+)*:\w+"
)


def find(path: str) -> Any:
    """What stands at "module:name.name"."""
    module, _, names = path.partition(":")
    found = importlib.import_module(module)
    for name in filter(None, names.split(".")):
        found = getattr(found, name)
    return found


def path_of(thing: Any) -> str | None:
    """Where an importable function or class stands; None where it does not."""
    name = getattr(thing, "__qualname__", None)
    owner = getattr(thing, "__objclass__", None)
    for module in (getattr(thing, "__module__", None), getattr(owner, "__module__", None)):
        if isinstance(module, str) and isinstance(name, str) and module in sys.modules:
            if is_of_checks(vars(sys.modules[module])):
                return None
            with contextlib.suppress(AttributeError, ImportError):
                if find(f"{module}:{name}") is thing:
                    return f"{module}:{name}"
    for module in ("torch", "torch.nn.functional", "math", "builtins"):
        if getattr(sys.modules.get(module), str(getattr(thing, "__name__", "")), None) is thing:
            return f"{module}:{thing.__name__}"
    return None
