"""One temporary folder a run, which a later run removes where this one is killed."""

import contextlib
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

# With the machine's name: others that share the folder may not see its locks.
PREFIX = f"concrete-steps-grading-{re.sub(r'[^A-Za-z0-9]', '', platform.node())}-"
LOCK = "in use"
YOUNG = 60.0  # seconds in which a run has surely locked the folder that it made


@contextlib.contextmanager
def folder_of_this_run() -> Iterator[str]:
    """A folder that is gone at the end; before, those of runs that were killed are removed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(Exception):  # what cannot be removed is in nobody's way
            if _is_left(folder):
                shutil.rmtree(folder)
    made = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
    with made as folder, contextlib.ExitStack() as held:
        with contextlib.suppress(OSError, NotImplementedError):  # a disk without locks: there nothing is removed
            held.enter_context(FileLock(Path(folder) / LOCK))
        yield folder


def _is_left(folder: Path) -> bool:
    """Whether this user made the folder, and the run that locked it has ended."""
    about = folder.lstat()
    own = not hasattr(os, "geteuid") or about.st_uid == os.geteuid()
    if not (own and stat.S_ISDIR(about.st_mode) and (folder / LOCK).is_file()):
        return False
    if time.time() - about.st_mtime < YOUNG:
        return False
    with FileLock(folder / LOCK, timeout=0):
        return True
