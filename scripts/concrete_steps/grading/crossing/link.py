"""The judge's end of the line to a sandbox: asks, waits, and takes what comes back for what it is worth."""

from __future__ import annotations

import builtins
import contextlib
import linecache
import time
import weakref
from typing import Any

import torch
from torch import Tensor

from concrete_steps.checking.loader import Loaded
from concrete_steps.checking.outcomes import PLACE
from concrete_steps.course import Notebook
from concrete_steps.grading.crossing import standins
from concrete_steps.grading.crossing.bridges import Bridges
from concrete_steps.grading.crossing.judging import JudgeCodec
from concrete_steps.grading.crossing.settings import RANDOM, Settings, is_watched
from concrete_steps.grading.crossing.tensors import Nonsense
from concrete_steps.grading.crossing.wire import Ended, Lost, Wire


class Link:
    """Calls into a sandbox. `log` is told what the sandbox does, as it says so."""

    def __init__(self, wire: Wire, classes: frozenset[str] = frozenset()):
        self.wire = wire
        self.classes = classes  # names of the exercises: what the learner may have classes for
        self.settings = Settings()
        self.lost = ""  # why nothing more can be asked
        self.ended = False  # because the other process has ended
        self.opening = False  # what comes now has the names of exercises, whatever its classes are called
        self.refused = False  # a check has asked for more of an object than may be seen of it here
        self.asked = 0.0  # when the last question was
        self.touched: set[str] = set()  # kinds of what the check lent, and the answer changed
        self.finished: list[int] = []  # graphs in the sandbox that nobody needs any more
        self.reset()

    def reset(self) -> None:
        """Forget all objects but the learner's own: a check has ended."""
        self.bridges = Bridges()
        self.codec = JudgeCodec(self)

    def objects(self, notebook: Notebook) -> Loaded:
        """Stand-ins for the learner's objects, all fresh: what another check has shared is forgotten.

        Raises:
            Lost: the process ended, or says what makes no sense.
        """
        self.ask({"do": "reset"})
        self.reset()
        self.opening = True
        try:
            told = self.ask({"do": "names", "names": list(notebook.exercises)})
        finally:
            self.opening = False
        try:
            found, problems, cells = told
            objects = {name: found[name] for name in notebook.exercises if name in found}
            reasons = {str(name): str(reason)[:2000] for name, reason in problems.items()}
            return Loaded(notebook.path, objects, reasons, [str(cell) for cell in cells])
        except (TypeError, ValueError, AttributeError) as error:
            self.lost = "the sandbox said what makes no sense"
            raise Lost(self.lost) from error

    # ---- what stand-ins ask for

    def call(self, target: Any, method: str | None, args: tuple, kwargs: dict) -> Any:
        return self._ask({"do": "call", "target": target, "method": method}, args, kwargs)

    def get(self, thing: Any, name: str) -> Any:
        return self._ask({"do": "get", "target": ["n", standins.number_of(thing)], "name": name})

    def construct(self, made: Any, number: int, args: tuple, kwargs: dict) -> None:
        self._ask({"do": "construct", "target": ["n", number]}, args, kwargs, into=made)

    def call_back(self, outputs: list[int], grads: list[Tensor], inputs: list[int]) -> list[Tensor | None]:
        """A product of the sandbox's, for gradients."""
        return self._ask({"do": "back", "outputs": outputs, "inputs": inputs}, tuple(grads))

    def ask(self, request: dict) -> Any:
        return self._ask(request)

    # ---- a question and its answer

    def _ask(self, request: dict, args: tuple = (), kwargs: dict | None = None, into: Any = None) -> Any:
        if not self.lost and is_watched():
            self.lost = "the check watches how the answer is found, which another process finds"
        if self.lost:
            raise Lost(self.lost)
        codec = self.codec
        try:
            inputs = self._send(request, args, kwargs or {})
            self.asked = time.monotonic()
            answer = self._receive()
        except Lost as error:
            self.ended, self.lost = isinstance(error, Ended), str(error)
            raise
        except Exception as error:  # half of what was to be lent may have been told
            self.lost = f"what the check lends cannot cross: {error}"
            raise Lost(self.lost) from error
        except BaseException as error:
            # Our own time is up: what the sandbox says from here on would be taken for other answers.
            self.lost = str(error) or type(error).__name__
            raise
        raised = None
        try:
            return self._take(answer, inputs, into)
        except _Raised as error:
            raised = error.error
        except (Nonsense, AttributeError, TypeError, KeyError, ValueError, IndexError, RuntimeError) as error:
            self.lost = f"the sandbox said what makes no sense: {error}"
            raise Lost(self.lost) from error
        finally:
            for number in codec.scope:
                codec.table.drop(number)
            codec.scope = []
            codec.table.unpin()
        raise raised

    def _send(self, request: dict, args: tuple, kwargs: dict) -> list[tuple[int, Tensor]]:
        codec = self.codec
        codec.parts, codec.written, codec.scope, codec.graph = [], 0, [], []
        request["settings"] = self.settings.changed(codec)
        request["changes"] = codec.changes()
        codec.scoped = True
        try:
            request["args"] = [codec.encode(arg) for arg in args]
            request["kwargs"] = {key: codec.encode(value) for key, value in kwargs.items()}
        finally:
            codec.scoped = False
        request["finished"], self.finished = self.finished, []
        request["gone"] = codec.table.take_gone()
        codec.remember()
        codec.table.pin()
        self.wire.send(request, codec.parts)
        live = codec.table.live() if torch.is_grad_enabled() else []
        return [(number, thing) for number, thing in live if isinstance(thing, Tensor) and thing.requires_grad]

    def _receive(self) -> dict:
        answer, self.codec.data = self.wire.receive()
        if not isinstance(answer, dict):
            raise Lost("the sandbox said what makes no sense")
        return answer

    def _take(self, answer: dict, inputs: list[tuple[int, Tensor]], into: Any) -> Any:
        codec = self.codec
        if "failed" in answer:
            raise Nonsense(f"it could not be said: {str(answer['failed'])[:300]}")
        codec.apply(answer["changes"])
        self.settings.take(codec, answer["settings"])
        self.touched |= answer["settings"].keys() - RANDOM
        error = self._error(answer["error"]) if "error" in answer else None
        result = None if error else self._result(answer, into)
        for number in answer["gone"]:
            codec.table.drop(int(number))
        if error is None:
            result = self._with_gradients(result, inputs)
        codec.remember()
        if error is not None:
            raise _Raised(error)
        return result

    def _result(self, answer: dict, into: Any) -> Any:
        codec = self.codec
        if into is None:
            return codec.decode(answer["result"])
        kind, number, _, state = answer["result"]
        if kind != "thing" or type(number) is not int or number % 2 == 0:
            raise Nonsense("no new object")
        standins.set_number(into, number, self)
        codec.table.put(number, into)
        codec.stale.add(number)
        if state is not None:
            codec.set_thing(into, state)
        return None

    def _with_gradients(self, result: Any, inputs: list[tuple[int, Tensor]]) -> Any:
        """The result, its tensors tied to the tensors that went in."""
        graph, self.codec.graph = self.codec.graph, []
        if not graph or not torch.is_grad_enabled():
            return result
        outputs, tensors = [number for number, _ in graph], [x for _, x in graph]
        tied = tensors if inputs else [*tensors]
        sources = [x for _, x in inputs] or [torch.zeros((), requires_grad=True)]
        new = _Back.apply(self, outputs, [number for number, _ in inputs], len(tied), *tied, *sources)
        exchange = {id(old): x for old, x in zip(tensors, new, strict=True)}
        for number, old in graph:
            self.codec.table.drop(number)
            self.codec.table.put(number, exchange[id(old)])
            self.codec.stale.add(number)
        return _exchanged(result, exchange)

    # ---- errors

    def _error(self, facts: dict) -> BaseException:
        error = self._known(facts) or self._made(facts)
        place = facts.get("place")
        if place is not None:
            file, line, text = str(place[0])[:300], int(place[1]), str(place[2])[:300]
            setattr(error, PLACE, (file, line))
            if 0 < line < 10**5 and ", cell " in file:  # no file of ours: what is shown of those comes from the disk
                known = linecache.cache.get(file, (0, None, [], file))[2]
                lines = [*known, *["\n"] * (line - len(known))]
                lines[line - 1] = text + "\n"
                linecache.cache[file] = (len(lines), None, lines, file)
        return error

    def _known(self, facts: dict) -> BaseException | None:
        """An error of a class that the check itself has defined."""
        if facts.get("class") is None:
            return None
        kind = self.codec.decode(facts["class"])
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, standins.Thing):
            return kind(*[self.codec.decode(arg) for arg in facts["args"]])
        return None

    def _made(self, facts: dict) -> BaseException:
        text, names = str(facts.get("text"))[:10_000], [str(name)[:100] for name in facts.get("names", ())[:20]]
        known = next((name for name in names if name in ERRORS), "Exception")
        kind = ERRORS[known]
        if names and names[0] != known and names[0].isidentifier():
            kind = type(names[0], (kind,), {"__str__": lambda self: text})
        args = [self.codec.decode(arg) for arg in facts.get("args", ())]
        try:
            error = kind(*args)
        except TypeError:
            error = ERRORS["Exception"](text)
        if isinstance(facts.get("name"), str) and isinstance(error, NameError | AttributeError | ImportError):
            error.name = facts["name"]
        return error


ERRORS = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type)
    and issubclass(kind, BaseException)
    # a check that is told of these would end, and not its answer
    and not issubclass(kind, KeyboardInterrupt | GeneratorExit)
} | {"_LinAlgError": torch.linalg.LinAlgError}


class _Raised(Exception):
    """Carries an error of the learner's past what is caught here for nonsense."""

    def __init__(self, error: BaseException):
        self.error = error


class _Back(torch.autograd.Function):
    """Gradients of what a learner's function gave, by what went into it: the product is computed in the sandbox."""

    @staticmethod
    def forward(ctx, link, outputs, inputs, n, *tensors):
        ctx.link, ctx.outputs, ctx.inputs, ctx.n = link, outputs, inputs, n
        ctx.shapes = [(x.shape, x.dtype) for x in tensors[n:]]
        weakref.finalize(ctx, link.finished.extend, list(outputs))
        return tuple(x.clone() for x in tensors[:n])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads):
        given = [(number, grad) for number, grad in zip(ctx.outputs, grads, strict=True) if grad is not None]
        found = ctx.link.call_back([number for number, _ in given], [grad for _, grad in given], ctx.inputs)
        found = found or [None] * len(ctx.shapes)
        for i, (grad, (shape, dtype)) in enumerate(zip(found, ctx.shapes, strict=True)):
            if grad is not None and (not isinstance(grad, Tensor) or grad.shape != shape or grad.dtype != dtype):
                found[i] = None
        return None, None, None, None, *[None] * ctx.n, *found


def _exchanged(value: Any, exchange: dict[int, Tensor]) -> Any:
    """The value with tensors in it, down to its lists and fields, in place of others."""
    if isinstance(value, Tensor):
        return exchange.get(id(value), value)
    if isinstance(value, list):
        value[:] = [_exchanged(item, exchange) for item in value]
    elif isinstance(value, dict):
        for key in value:
            value[key] = _exchanged(value[key], exchange)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_exchanged(item, exchange) for item in value))
    elif type(value) is tuple:
        return tuple(_exchanged(item, exchange) for item in value)
    elif hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        for name, item in list(vars(value).items()):
            if isinstance(item, Tensor) and id(item) in exchange:
                with contextlib.suppress(AttributeError):
                    vars(value)[name] = exchange[id(item)]
    return value
