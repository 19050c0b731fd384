"""A process that imports once and then forks for each piece of work, with descriptors that come with the order.

What whoever started it says on the line is an order: JSON, and open descriptors for the fork to talk on. The process
says a single thing, "ready", and this before any work: so nothing that the work does can speak for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any

HEAD = struct.Struct("<Q")
READY = b"ready"
MOST_DESCRIPTORS = 4


def order(line: socket.socket, what: Any, descriptors: list[int]) -> None:
    """Send an order. The descriptors are the receiver's, too, from then on."""
    text = json.dumps(what).encode()
    socket.send_fds(line, [HEAD.pack(len(text))], descriptors)
    line.sendall(text)


def serve(line: socket.socket, prepare: Callable[[Any], None], work: Callable[..., None]) -> None:
    """Say that this process is ready, and do each order in a fork, until the line ends.

    Args:
        prepare: called with each order before the fork: what it imports stays for later orders.
        work: called in the fork with the order and its descriptors.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no fork is waited for
    line.sendall(READY)
    while (received := _receive(line)) is not None:
        what, descriptors = received
        prepare(what)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            line.close()
            try:
                work(what, *descriptors)
            except BaseException:
                traceback.print_exc()
            finally:
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.flush()
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _receive(line: socket.socket) -> tuple[Any, list[int]] | None:
    head, descriptors, _, _ = socket.recv_fds(line, HEAD.size, MOST_DESCRIPTORS)
    if len(head) < HEAD.size:
        return None
    (left,) = HEAD.unpack(head)
    text = bytearray()
    while len(text) < left:
        piece = line.recv(min(left - len(text), 2**20))
        if not piece:
            return None
        text += piece
    return json.loads(bytes(text)), list(descriptors)


def own_line() -> socket.socket:
    """The line that this process was started with as its stdin; its stdin, stdout lead nowhere from here on."""
    line = socket.socket(fileno=os.dup(0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    return line


def import_what_it_imports(path: Any) -> None:
    """Run the import statements of a notebook of the course's own, and nothing else of it."""
    import ast

    from concrete_steps.checking.loader import python_of, read_notebook

    for cell in read_notebook(path)["cells"]:
        if cell["cell_type"] == "code":
            with contextlib.suppress(SyntaxError):
                for node in ast.parse(python_of("".join(cell["source"]))).body:
                    if isinstance(node, ast.Import | ast.ImportFrom):
                        with contextlib.suppress(Exception):
                            exec(compile(ast.Module([node], []), "<imports>", "exec"), {})
