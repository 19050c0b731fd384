"""Messages between two processes: JSON and bytes, with bounds. Nothing that is read is run."""

from __future__ import annotations

import json
import os
import select
import struct
from typing import Any

HEAD = struct.Struct("<QQ")  # bytes of JSON, bytes of what it refers to
MOST_JSON, MOST_BYTES = 64 * 2**20, 2**30
PIECE = 2**16  # bytes written at once: who does not read them must not hold us up
PATIENCE = 0.2  # seconds after which a wait lets other exceptions through


class Lost(Exception):
    """Nothing more can come of this line: the other process has ended, or says what makes no sense."""


class Ended(Lost):
    """The other process has ended."""


class Wire:
    """Two file descriptors, over which messages go in turns."""

    def __init__(self, reading: int, writing: int):
        self.reading, self.writing = reading, writing

    def send(self, message: Any, parts: list[bytes]) -> None:
        text = json.dumps(message, separators=(",", ":")).encode()
        size = sum(map(len, parts))
        if len(text) > MOST_JSON or size > MOST_BYTES:
            raise ValueError("this is too large to be checked")
        try:
            for part in (HEAD.pack(len(text), size), text, *parts):
                self._write(memoryview(part))
        except OSError as error:
            raise Ended(str(error)) from None

    def receive(self) -> tuple[Any, memoryview]:
        """The next message: what it says, and the bytes that it refers to."""
        n_text, n_bytes = HEAD.unpack(self._read(HEAD.size))
        if n_text > MOST_JSON or n_bytes > MOST_BYTES:
            raise Lost("a message is too large")
        text, parts = self._read(n_text), self._read(n_bytes)
        try:
            return json.loads(bytes(text)), parts
        except (ValueError, RecursionError) as error:
            raise Lost(f"a message makes no sense: {error}") from None

    def _write(self, data: memoryview) -> None:
        while data:
            if select.select([], [self.writing], [], PATIENCE)[1]:
                data = data[os.write(self.writing, data[:PIECE]) :]

    def _read(self, size: int) -> memoryview:
        data, at = memoryview(bytearray(size)), 0
        while at < size:
            if select.select([self.reading], [], [], PATIENCE)[0]:
                try:
                    read = os.readv(self.reading, [data[at : at + 2**20]])
                except OSError as error:
                    raise Ended(str(error)) from None
                if not read:
                    raise Ended("the process has ended")
                at += read
        return data
