"""Concrete Steps: a guided curriculum of exercise notebooks for mechanistic interpretability.

In a notebook: `check = concrete_steps.notebook("1.1")`, then `check("causal_mask")`.
torch, TransformerLens, Plotly and pytest are imported when first used, so that this import is quick.
"""

import os
import sys

# To be said before torch is imported. A processor of a cloud is half a core, and threads that wait for each other by
# spinning hold up everything else, and each other: beside other programs, on two such processors, notebook 1.5 took
# 271 s with torch's own settings and 76 s with these.
PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, PROCESSORS // 2)))
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


def progress():
    """Where you stand in the course, what is next, and how long it took: as a picture in a notebook."""
    from concrete_steps.standing.show import progress

    return progress()


def placement(step: int):
    """Which notebooks of a step to skip or to skim, by what you passed in its placement (1.0 for step 1)."""
    from concrete_steps.standing.placement import placement

    return placement(step)


def __getattr__(name: str):
    if name in ("corpus", "evidence", "games", "models", "plot", "topics", "wired"):
        import importlib

        return importlib.import_module(f"concrete_steps.{name}")
    raise AttributeError(f"module 'concrete_steps' has no attribute {name!r}")
