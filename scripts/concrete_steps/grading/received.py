"""What learners hand in, kept as it was: received/STUDENT/STEP/1, 2, ..., each there whole or not at all.

Files are moved there from submitted/STUDENT/STEP, where their well-formed versions will stand. Links, and what is no
file, go to "left out" beside them and are never opened. A run that was killed is gone on with by the next.
"""

from __future__ import annotations

import errno
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from concrete_steps.errors import CourseError
from concrete_steps.grading.formats import LARGEST
from concrete_steps.workspace.copy import put

LEFT_OUT, ARRIVING, RECORD = "left out", "arriving", "seen.json"
TIMESTAMP = "timestamp.txt"  # nbgrader's own file, by which a hand-in is late
MOST_FILES, MOST_BYTES, DEEPEST = 1000, 500 * 2**20, 2  # of an archive, and of archives in archives
UNPACKED = "unpacked-"
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)
# Errors of the system that are the archive's own doing; of bzip2's damaged data the number is None.
OF_THE_ARCHIVE = (None, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
# Folders and files that programs leave, not people.
JUNK = re.compile(r"^(\.|__MACOSX$|__pycache__$)")


def take_in(folder: Path, place: Path) -> None:
    """Keep the files that were put into `folder` since the last time as the next hand-in at `place`."""
    seen = read_record(place)
    for path in list(all_below(folder)):
        name = path.relative_to(folder)
        if not _is_ordinary(path):
            move(path, place / LEFT_OUT / name)
        elif name.as_posix() != TIMESTAMP and seen.get(name.as_posix()) != digest(path.read_bytes()):
            move(path, place / ARRIVING / name)
    for below, _, _ in os.walk(folder, topdown=False):
        if below != str(folder) and not os.listdir(below):
            os.rmdir(below)
    if (place / ARRIVING).is_dir():
        number = 1 + max((int(path.name) for path in hand_ins(place)), default=0)
        os.replace(place / ARRIVING, place / str(number))


def hand_ins(place: Path) -> list[Path]:
    """The folders 1, 2, ... of what was handed in, the newest first."""
    numbered = [path for path in place.glob("[0-9]*") if path.is_dir() and path.name.isdecimal()]
    return sorted(numbered, key=lambda path: -int(path.name))


def left_out(place: Path) -> list[str]:
    return sorted(path.relative_to(place / LEFT_OUT).as_posix() for path in all_below(place / LEFT_OUT))


def read_record(place: Path) -> dict[str, str]:
    """By path below submitted/STUDENT/STEP, the digest of the file that we put there."""
    try:
        return json.loads((place / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_record(place: Path, files: dict[str, bytes]) -> None:
    put(place / RECORD, json.dumps({name: digest(data) for name, data in files.items()}).encode())


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def all_below(folder: Path) -> Iterator[Path]:
    """All but folders, links to folders included; no link is followed."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        yield from (Path(place) / name for name in (*files, *links))


def files_of(hand_in: Path) -> tuple[list[tuple[str, Path]], list[str]]:
    """A hand-in's files and those of its archives, each with its name for people; and what could not be unpacked."""
    return _files_of(hand_in, "", DEEPEST)


def move(path: Path, target: Path) -> None:
    """Rename; where that is another disk, copy whole first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(path, target)
    except OSError as error:
        if error.errno != errno.EXDEV or not _is_ordinary(path):
            raise
        put(target, path.read_bytes())
        shutil.copystat(path, target)
        path.unlink()


def _is_ordinary(path: Path) -> bool:
    """A file of a size that is read, and that may be."""
    about = path.lstat()
    return stat.S_ISREG(about.st_mode) and about.st_size <= LARGEST and os.access(path, os.R_OK)


def _files_of(folder: Path, shown: str, deep: int) -> tuple[list[tuple[str, Path]], list[str]]:
    found, failures = [], []
    for path in sorted(all_below(folder)):
        parts = path.relative_to(folder).parts
        if any(JUNK.match(part) or part.startswith(UNPACKED) for part in parts) or not _is_ordinary(path):
            continue
        name = shown + "/".join(parts)
        if path.suffix.lower() == ".zip":
            try:
                if not deep:
                    raise CourseError("is an archive in an archive in an archive")
                more, failed = _files_of(unpacked(path), f"{name}/", deep - 1)
                found += more
                failures += failed
            except CourseError as error:
                failures.append(f"{name} {error}")
        else:
            found.append((name, path))
    return found, failures


def unpacked(archive: Path, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES) -> Path:
    """The folder of an archive's files, unpacked beside it.

    Raises:
        CourseError: it cannot be unpacked; its text goes on after the archive's name.
    """
    target = archive.with_name(UNPACKED + digest(os.fsencode(archive.name))[:12])
    if target.is_dir():
        return target
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=UNPACKED) as temporary:
        try:
            with zipfile.ZipFile(archive) as opened:
                _unpack(opened, Path(temporary) / "all", most_files, most_bytes)
        except OSError as error:  # as where a file has the name of a folder, or bzip2's data are damaged
            if error.errno not in OF_THE_ARCHIVE:  # a full disk is not the learner's
                raise
            raise CourseError(f"cannot be unpacked ({error.strerror or error})") from None
        except (*DAMAGED, EOFError, ValueError, NotImplementedError, RuntimeError, MemoryError) as error:
            raise CourseError(f"cannot be unpacked ({error})") from None
        os.replace(Path(temporary) / "all", target)
    return target


def _unpack(archive: zipfile.ZipFile, target: Path, most_files: int, left: int) -> None:
    members = [member for member in archive.infolist() if not member.is_dir()]
    too_much = CourseError(f"unpacks to more than {most_files} files or {left // 2**20} MB")
    if len(members) > most_files or sum(member.file_size for member in members) > left:
        raise too_much
    target.mkdir()
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        parts = [part for part in re.split(r"[/\\]", member.filename) if part not in ("", ".", "..")]
        if kind not in (0, stat.S_IFREG) or not parts or any(JUNK.match(part) for part in parts):
            continue
        path = target.joinpath(*map(_short, parts))
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, open(path, "wb") as file:
            while part := source.read(2**20):
                left -= len(part)
                if left < 0:
                    raise too_much
                file.write(part)
        with_date = time.mktime((*member.date_time, 0, 0, -1))
        os.utime(path, (with_date, with_date))


def _short(name: str) -> str:
    """A name that every system can have, with its ending."""
    name = re.sub(r'[<>:"|?*\0]', "_", name)
    stem, dot, ending = name.rpartition(".")
    while len(os.fsencode(name)) > 200 and stem:
        stem = stem[:-1]
        name = f"{stem}{dot}{ending}"
    return name
