"""The sandbox's end of the line: does what the judge asks, in turns, until the line ends."""

from __future__ import annotations

import linecache
import traceback
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from concrete_steps.checking.loader import Loaded, beside
from concrete_steps.grading.crossing.answering import AnswerCodec
from concrete_steps.grading.crossing.bridges import LentBridges
from concrete_steps.grading.crossing.settings import Settings
from concrete_steps.grading.crossing.wire import Lost, Wire

FIRST_HOOK = 10**9  # hooks are numbered in both processes; the numbers must differ


class Server:
    """Answers a judge's questions about a loaded notebook."""

    def __init__(self, wire: Wire, loaded: Loaded):
        self.wire = wire
        self.loaded = loaded
        self.bridges = LentBridges()
        self.codec = AnswerCodec(self.bridges)
        self.settings = Settings()
        self.graphs: dict[int, Any] = {}
        RemovableHandle.next_id = FIRST_HOOK

    def serve(self) -> None:
        with beside(self.loaded):
            while True:
                try:
                    request, self.codec.data = self.wire.receive()
                except Lost:
                    return
                self._answer(request)

    def _answer(self, request: dict) -> None:
        codec = self.codec
        codec.parts, codec.written, codec.scope = [], 0, []
        for number in request["gone"]:
            codec.table.drop(number)
            codec.leaves.pop(number, None)
        for number in request["finished"]:
            self.graphs.pop(number, None)
        first = codec.table.next
        codec.table.pin()
        answer: dict[str, Any] = {}
        crossing = True  # what fails is the crossing, not the learner's code
        try:
            self.settings.take(codec, request["settings"])
            codec.apply(request["changes"])
            args = [codec.decode(arg) for arg in request["args"]]
            kwargs = {key: codec.decode(value) for key, value in request["kwargs"].items()}
            codec.remember()
            crossing = False
            result = getattr(self, f"do_{request['do']}")(request, args, kwargs)
            crossing = True
            answer["changes"] = codec.changes()
            answer["result"] = codec.encode(result)
            self._keep_graphs()
        except BaseException as error:
            codec.parts, codec.written = [], 0
            for number in range(first, codec.table.next, 2):  # were not told
                codec.table.drop(number)
            if crossing:
                answer = {"failed": _text(error), "changes": []}
            else:
                answer = {"changes": codec.changes(), "error": self._error(error)}
        answer["settings"] = self.settings.changed(codec)
        codec.table.pin()
        args = kwargs = result = error = None  # noqa: F841 (so that nothing holds what came)
        for number in codec.scope:
            codec.table.drop(number)
        codec.table.unpin(lent=0)  # our own stay until the judge lets go of them
        answer["gone"] = codec.table.take_gone()
        codec.table.pin()
        codec.remember()
        self.wire.send(answer, codec.parts)

    def _keep_graphs(self) -> None:
        """What gradients may be asked for later, and by what, must not be forgotten, though nobody here holds it."""
        live = [(n, x) for n, x in self.codec.table.live() if isinstance(x, torch.Tensor) and x.requires_grad]
        new = {n: x for n, x in live if n % 2 and not x.is_leaf and n not in self.graphs}
        inputs = {n: self.codec.leaves.get(n, x) for n, x in live} if new else {}
        self.graphs |= {n: (x, inputs) for n, x in new.items()}

    # ---- what can be asked

    def do_call(self, request: dict, args: list, kwargs: dict) -> Any:
        target = self.codec.decode(request["target"])
        function = getattr(target, request["method"]) if request["method"] else target
        return function(*args, **kwargs)

    def do_construct(self, request: dict, args: list, kwargs: dict) -> Any:
        return self.codec.decode(request["target"])(*args, **kwargs)

    def do_get(self, request: dict, args: list, kwargs: dict) -> Any:
        return getattr(self.codec.decode(request["target"]), request["name"])

    def do_names(self, request: dict, args: list, kwargs: dict) -> Any:
        """The learner's objects of these names."""
        namespace = self.loaded.namespace
        found = {name: namespace[name] for name in request["names"] if name in namespace}
        return [found, dict(self.loaded.problems), list(map(str, self.loaded.cells))]

    def do_reset(self, request: dict, args: list, kwargs: dict) -> None:
        self.codec = AnswerCodec(self.bridges)
        self.graphs = {}

    def do_back(self, request: dict, args: list, kwargs: dict) -> list:
        outputs, inputs = zip(*(self.graphs[number] for number in request["outputs"]), strict=True)
        asked = {n: inputs[0][n] for n in request["inputs"] if n in inputs[0] and inputs[0][n].requires_grad}
        with torch.enable_grad():
            found = torch.autograd.grad(outputs, list(asked.values()), args, retain_graph=True, allow_unused=True)
        grads = dict(zip(asked, found, strict=True))
        return [grads.get(n) for n in request["inputs"]]

    # ---- errors

    def _error(self, error: BaseException) -> dict:
        kind = type(error)
        facts: dict[str, Any] = {"names": [cls.__name__ for cls in kind.__mro__], "text": _text(error)}
        if kind.__module__ in self.codec.files:
            facts["class"] = self.codec.encode(kind)
        try:
            facts["args"] = [self.codec.encode(arg) for arg in error.args]
        except Exception:
            facts["args"], facts["class"] = [], None
        if isinstance(getattr(error, "name", None), str):
            facts["name"] = error.name
        walked = traceback.walk_tb(error.__traceback__)
        own = [(f.f_code.co_filename, line) for f, line in walked if f.f_globals is self.loaded.namespace]
        if own:
            file, line = own[-1]
            facts["place"] = [file, line, linecache.getline(file, line).rstrip("\n")]
        return facts


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return type(error).__name__
