"""Concrete Steps: a guided curriculum of exercise notebooks for mechanistic interpretability.

In a notebook: `check = concrete_steps.notebook("1.1")`, then `check("causal_mask")`.
torch, TransformerLens, Plotly and pytest are imported when first used, so that this import is quick.
"""

import sys

__version__ = "0.1.0"


def notebook(key: str):
    """The `check` function of a notebook, bound to the objects of the calling cell's kernel.

    Args:
        key: the notebook's id, such as "1.1".

    Raises:
        CourseError: there is no such notebook.
    """
    from concrete_steps.checking.checks import notebook_check

    return notebook_check(key, sys._getframe(1).f_globals)


def __getattr__(name: str):
    if name in ("corpus", "evidence", "games", "models", "plot", "wired"):
        import importlib

        return importlib.import_module(f"concrete_steps.{name}")
    raise AttributeError(f"module 'concrete_steps' has no attribute {name!r}")
