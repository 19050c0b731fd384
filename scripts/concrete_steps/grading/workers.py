"""Who grades: threads here (each waits for a process of its own), or the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import psutil

from concrete_steps.errors import CourseError
from concrete_steps.grading.marking import course_digest

LOCAL = "local"
TRIES_AFTER_DEATH = 3  # of a worker's; what kills a machine each time is no hand-in, whose code is locked up
NEEDED = "start workers with the Python of this course, at the same commit."
INSTALL = "--scheduler needs Dask: pip install distributed, here and on every worker."


@contextlib.contextmanager
def workers(jobs: int, scheduler: str | None) -> Iterator[Executor]:
    """Something to submit work to. After Ctrl-C nothing is waited for.

    Args:
        jobs: how many pieces of work are done at once; a cluster that runs already knows for itself.
        scheduler: address of a Dask scheduler, "local" to start one here, or None.

    Raises:
        CourseError: the cluster cannot be reached, or its workers cannot grade.
    """
    if scheduler is None:
        pool = ThreadPoolExecutor(jobs)
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return
    with _client(jobs, scheduler) as client:
        yield client.get_executor(pure=False, retries=TRIES_AFTER_DEATH)


def end_children(within: float = 10.0) -> None:
    """Kill whatever this process has started, and what its threads start meanwhile; gone when this returns."""
    end = time.monotonic() + within
    while (children := psutil.Process().children(recursive=True)) and time.monotonic() < end:
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        psutil.wait_procs(children, timeout=1)


@contextlib.contextmanager
def _client(jobs: int, scheduler: str):
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise CourseError(f"{INSTALL} ({error})") from None
    with contextlib.ExitStack() as stack:
        if scheduler == LOCAL:
            cluster = LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
            scheduler = stack.enter_context(cluster)
        try:
            client = stack.enter_context(Client(scheduler, timeout="10s"))
        except (OSError, ValueError, TimeoutError) as error:
            raise CourseError(f"There is no Dask scheduler at {scheduler} ({error}).") from None
        try:
            versions = set(client.run(course_digest).values())
        except Exception as error:
            raise CourseError(f"A Dask worker cannot grade ({type(error).__name__}: {error}): {NEEDED}") from None
        if not versions <= {course_digest()}:
            raise CourseError(f"A Dask worker has another version of the course: {NEEDED}")
        yield client
