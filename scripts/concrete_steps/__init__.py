"""Concrete Steps: a guided curriculum of exercise notebooks for mechanistic interpretability.

In a notebook: `check = concrete_steps.notebook("1.1")`, then `check("causal_mask")`.
torch, TransformerLens, Plotly and pytest are imported when first used, so that this import is quick.
"""

import os
import sys

# To be said before torch is imported. Threads that wait for each other by spinning hold up every other program, and
# each other: on two cores with one other program running, training a small network took 46 s; like this it takes 3.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

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
