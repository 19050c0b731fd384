"""What a learner's cells and answers set for the whole process changes no verdict, and a check gives it all back.

`torch.set_grad_enabled(False)`, a default dtype or device, a seed, a number of threads, filters of warnings: a check
runs without them, and afterwards they are as it found them.
"""

from __future__ import annotations

import contextlib
import functools
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

UNCHANGED = object()


@contextlib.contextmanager
def clean_state() -> Iterator[None]:
    """Gradients on, float32, CPU, no compiler, no warnings inside; whatever the block changes is put back after it."""
    import torch

    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for read, write, clean in _settings():
            stack.callback(_restore, read, write, read())
            if clean is not UNCHANGED and read() != clean:
                write(clean)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            torch.set_grad_enabled(True)
        if torch.get_default_device().type != "cpu":  # inside a learner's `with torch.device(...)`
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(_without_compiler())
        stack.enter_context(_careful_eigenvalues())
        yield


def _settings() -> list[tuple[Callable[[], Any], Callable[[Any], Any], Any]]:
    """How to read and to write each setting, and what it must be in a check (UNCHANGED: as it is found)."""
    import numpy as np
    import torch

    settings = [
        (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        (_default_device_set, torch.set_default_device, None),
        (torch.is_grad_enabled, torch.set_grad_enabled, True),
        (_deterministic, lambda mode: torch.use_deterministic_algorithms(mode[0], warn_only=mode[1]), UNCHANGED),
        (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, UNCHANGED),
        (torch.get_num_threads, torch.set_num_threads, UNCHANGED),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, UNCHANGED),
        (torch.get_rng_state, torch.set_rng_state, UNCHANGED),
        (np.random.get_state, np.random.set_state, UNCHANGED),
        (np.geterr, lambda kinds: np.seterr(**kinds), dict(divide="warn", over="warn", under="ignore", invalid="warn")),
        (random.getstate, random.setstate, UNCHANGED),
    ]
    if torch.cuda.is_initialized():
        settings.append((torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all, UNCHANGED))
    return settings


def _restore(read: Callable[[], Any], write: Callable[[Any], Any], before: Any) -> None:
    now = read()
    # States of random generators hold arrays, which cannot be compared at once: they are written back anyway.
    # Whether algorithms are deterministic is written only where it changed: that imports PyTorch's compiler.
    comparable = isinstance(before, str | int | bool) or read is _deterministic
    if not comparable or now != before:
        write(before)


def _deterministic() -> tuple[bool, bool]:
    import torch

    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _default_device_set():
    """What `torch.set_default_device` was last given, or None; a `with torch.device(...)` around us does not count.

    The two share one stack in PyTorch: to set a default inside such a block would leave it there for good.
    """
    import torch

    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device


@contextlib.contextmanager
def _without_compiler() -> Iterator[None]:
    """torch.compile gives back what it is given: compiling for a few small inputs takes longer than a check may."""
    import torch

    def compile(model=None, **_):
        return (lambda function: function) if model is None else model

    before, torch.compile = torch.compile, compile
    try:
        # What a kernel's cells have compiled before runs as it was written.
        already = "torch._dynamo" in sys.modules
        with torch.compiler.set_stance("force_eager") if already else contextlib.nullcontext():
            yield
    finally:
        torch.compile = before


@contextlib.contextmanager
def _careful_eigenvalues() -> Iterator[None]:
    """torch.linalg.eigvals refuses nan and infinity, as eig does: in PyTorch 2.13 they end the whole process."""
    import torch

    before = torch.linalg.eigvals

    @functools.wraps(before)
    def eigvals(A, **options):
        if not torch.isfinite(A).all():
            raise RuntimeError("torch.linalg.eigvals: input tensor should not contain infs or NaNs.")
        return before(A, **options)

    torch.linalg.eigvals = eigvals
    try:
        yield
    finally:
        torch.linalg.eigvals = before
