"""What can come of a check (passed, wrong, error, timed out, not attempted) and the words in which it is told."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import inspect
import linecache
import math
import re
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from concrete_steps.checking.further import Further, quietly
from concrete_steps.checking.mistakes import MOST_CALLS, Call, Mistake, mistakes_of
from concrete_steps.checking.recognition import recognise, without_numbers
from concrete_steps.course import Notebook

PASSED, WRONG, ERROR, TIMED_OUT, NOT_ATTEMPTED = "passed", "wrong", "error", "timed out", "not attempted"
# When several tests of one exercise end differently, the first of these is what the learner must hear about.
GRAVITY = (TIMED_OUT, ERROR, WRONG, NOT_ATTEMPTED, PASSED)
MISSING = object()
PLACE = "_learners_place"  # of an error that comes from another process: file name and line of the learner's code
LONGEST, LONGEST_VALUE = 2000, 200
# The second is for code that never ends: to interrupt is dangerous, since an import that is cut short stays broken.
SECONDS_FOR_FURTHER, SECONDS_TO_RECOGNISE = 0.5, 10.0
MOST_ENTRIES = 24  # a tensor of more is not printed whole


@dataclass(frozen=True)
class Broken:
    """Stands in for an object that the learner's notebook could not define."""

    name: str
    reason: str


class Untouched(Broken):
    """Stands in for an answer that is still None."""

    def __init__(self, name: str):
        super().__init__(name, f"{name} is still None")


class TimedOut(BaseException):
    """Raised in the learner's code when its time is up; not an Exception, so that `except Exception` lets it pass."""


@dataclass
class Result:
    """One check's outcome. `message` says what is wrong, `case` the failing call, `mistake` a recognised slip.

    `call` is the failing call itself, `again` a line that makes it again where `case` cannot be copied. `proven`: in
    grading, it was found where nothing of the learner's could have a hand in it.
    """

    exercise: str
    outcome: str
    verified: list[str] = field(default_factory=list)
    message: str = ""
    case: str = ""
    mistake: str = ""
    where: str = ""
    seed: int | None = None
    call: Call | None = None
    again: str = ""
    proven: bool = False

    def lines(self) -> list[tuple[str, str]]:
        """Pairs of a label and a text: the facts that panel and plain text both show."""
        rows = [("verified", text) for text in self.verified] if self.outcome == PASSED else []
        rows += [("", self.message), ("recognised", self.mistake), ("failing case", self.case)]
        rows += [("the call again", self.again), ("where", self.where)]
        if self.outcome in (WRONG, ERROR) and self.seed is not None:
            rows.append(("repeat", f'check("{self.exercise}", seed={self.seed})'))
        return [(label, text) for label, text in rows if text]

    def text(self) -> str:
        """The result in plain text."""
        rows = [f"  {label}: {text}" if label else f"  {text}" for label, text in self.lines()]
        return "\n".join([f"{self.exercise}: {self.outcome}", *rows])


def _random_state() -> Any:
    import torch

    return torch.get_rng_state()


@dataclass
class Judge:
    """Turns what happened in one test into a Result.

    `test` is the check, `given` its arguments, `random_state` torch's before it ran: with them it can run again.
    """

    notebook: Notebook
    exercise: str
    verifies: str
    namespace: dict
    seconds: float
    seed: int | None = None
    test: Callable = lambda: None
    given: dict = field(default_factory=dict)
    recognise: bool = True
    random_state: Any = field(default_factory=_random_state)

    def passed(self) -> Result:
        return Result(self.exercise, PASSED, verified=[self.verifies])

    def no_verdict(self) -> Result:
        return Result(self.exercise, ERROR, message="The check came to no verdict; tell the authors of the course.")

    def cannot_run(self, broken: Broken) -> Result:
        if isinstance(broken, Untouched):
            return Result(self.exercise, NOT_ATTEMPTED, message=f"{broken.reason}.")
        also = "" if broken.name == self.exercise else f"This check also uses {broken.name}: "
        return Result(self.exercise, ERROR, message=f"{also}{broken.reason.rstrip('.')}.")

    def failed(self, error: BaseException, calls: list[Call]) -> Result:
        """The result for an exception: whose code raised it, and what it says about the learner's answer."""
        frame = self._learners_frame(error)
        where = _place(*frame) if frame else ""
        if isinstance(error, TimedOut):
            message = f"It ran for more than {self.seconds:g} seconds and was stopped."
            return Result(self.exercise, TIMED_OUT, message=message, where=where)
        if isinstance(error, NotImplementedError) and frame:
            return Result(self.exercise, NOT_ATTEMPTED, message=f"NotImplementedError is still raised ({where}).")
        mine = [call for call in calls if call.name == self.exercise] or calls
        call = _that_shows(error, mine)
        result = Result(self.exercise, WRONG, case=_case(call), seed=self.seed, call=call)
        if isinstance(error, AssertionError) and not frame:
            result.message = _shorten(_assertion(error))
        elif frame:
            result.outcome, result.where = ERROR, where
            result.message = _shorten(f"{type(error).__name__}: {error}")
        else:
            result.message = _unusable(error, mine)
        candidates = mistakes_of(self.notebook).get(self.exercise, []) if self.recognise else []
        if not any(entry.sentence in result.message for entry in candidates):  # it says already what it is
            result.mistake = self._recognise(error, calls, candidates)
        return result

    def is_learners(self, error: BaseException) -> bool:
        """True if the exception passed through the learner's own code."""
        return self._learners_frame(error) is not None

    def _learners_frame(self, error: BaseException) -> tuple[str, int] | None:
        """File name and line of the innermost frame of the learner's own code, or None."""
        if (told := getattr(error, PLACE, None)) is not None:
            return told
        walked = traceback.walk_tb(error.__traceback__)
        places = [(frame.f_code.co_filename, line) for frame, line in walked if frame.f_globals is self.namespace]
        return places[-1] if places else None

    def _recognise(self, error: BaseException, calls: list[Call], candidates: list[Mistake]) -> str:
        """The sentence of the one written mistake that the learner's object is, or ""."""
        learner = self.namespace.get(self.exercise)
        own = [call for call in calls if call.name == self.exercise]
        further = Further(self.notebook.checks, self.exercise, self.namespace, self.given, SECONDS_FOR_FURTHER)
        with contextlib.suppress(Exception, TimedOut), time_limit(SECONDS_TO_RECOGNISE), quietly():
            mistake = recognise(learner, own, candidates, further.calls())
            if mistake and (not callable(learner) or self._fails_alike(mistake, error)):
                return mistake.sentence
        return ""

    def _fails_alike(self, mistake: Mistake, error: BaseException) -> bool:
        """True if this very check, run on the mistake, fails in the same words: then the failure is the mistake's."""
        import torch

        from concrete_steps.checking.testing import Rng

        again = {name: self.given[name] for name in inspect.signature(self.test).parameters}
        again |= {self.exercise: mistake.implementation} | ({"rng": Rng(self.seed)} if "rng" in again else {})
        torch.set_rng_state(self.random_state)
        try:
            self.test(**again)
        except Exception as other:
            return type(other) is type(error) and without_numbers(_assertion(other)) == without_numbers(
                _assertion(error)
            )
        return False


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimedOut in this thread after `seconds`, and again each second, since code may swallow one.

    Works on every system and in any thread; it cannot interrupt a single long call into C (grading uses a process).
    """
    thread, done, lock = threading.get_ident(), threading.Event(), threading.Lock()

    def interrupt(wait: float = seconds) -> None:
        while not done.wait(wait):
            with lock:
                if not done.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimedOut))
            wait = 1.0

    threading.Thread(target=interrupt, daemon=True).start()
    try:
        yield
    finally:
        with lock:
            done.set()


def merge(results: list[Result]) -> Result:
    """One result for all the tests of an exercise: the gravest, or all that was verified."""
    gravest = min(results, key=lambda result: GRAVITY.index(result.outcome))
    if gravest.outcome == PASSED:
        gravest.verified = [text for result in results for text in result.verified if text]
    return gravest


def _place(file_name: str, line: int) -> str:
    """'your cell causal_mask, line 4: scores[mask] = 0'."""
    code = linecache.getline(file_name, line).strip()
    return f"{_cell_of(file_name)}, line {line}" + (f": {code}" if code else "")


def _cell_of(file_name: str) -> str:
    named = re.search(r", cell (.+)$", file_name)
    if named:
        return f"your cell {named[1]}"
    try:
        from IPython import get_ipython

        count = get_ipython().compile._filename_map[file_name]
        return f"your cell In [{count}]"
    except (ImportError, AttributeError, KeyError):
        return "your code"


def _assertion(error: AssertionError) -> str:
    """The message of an assert, without what pytest adds about the test's own expressions."""
    return str(error).split("\nassert ")[0].strip() or "The check failed."


def _that_shows(error: BaseException, calls: list[Call]) -> Call | None:
    """The last call; where a check judged many calls together, the one that it names, if it names one."""
    at = getattr(error, "shown_by", -1)
    if at is None or not calls:
        return None
    all_kept = len(calls) < MOST_CALLS
    return calls[at] if at == -1 or (all_kept and at < len(calls)) else None


def _unusable(error: BaseException, calls: list[Call]) -> str:
    """The test itself stumbled over what the learner returned."""
    if calls and calls[-1].output is None and calls[-1].error is None:
        return f"{calls[-1].name} returned None: is a return missing?"
    returned = ""
    if calls and calls[-1].error is None:
        value = _value(calls[-1].output)
        returned = f" (it returned {_kind(calls[-1].output) if value.endswith('...') else value})"
    return _shorten(f"The check could not use your result{returned}: {type(error).__name__}: {error}")


def _kind(value: Any) -> str:
    """'a Study', or 'a tuple of Study, str'."""
    plain = isinstance(value, list | tuple) and not hasattr(value, "_fields") and len(value) < 5
    return f"a {type(value).__name__}" + (
        f" of {', '.join(type(part).__name__ for part in value)}" if plain and value else ""
    )


def again(result: Result, place: str) -> str:
    """How to make the failing call again with what is kept at `place`; "" where the printed call can be copied."""
    call = result.call
    if call is None or all(_can_be_copied(value) for value in (*call.args, *call.kwargs.values())):
        return ""
    return f"{call.name}(*{place}.args{f', **{place}.kwargs' if call.kwargs else ''})"


def _can_be_copied(value: Any) -> bool:
    """True if the printed form of a value makes that value again, up to the digits shown."""
    text = _value(value)
    if text.endswith("...") or re.search(r"\b(inf|nan)\b", text):
        return False
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return 0 < math.prod(value.shape) <= MOST_ENTRIES
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return False
    return True


def _case(call: Call | None) -> str:
    """The failing call, as a learner would type it, and what it gave."""
    if call is None:
        return ""
    if not (call.args or call.kwargs or call.error) and _value(call.output).endswith("..."):
        return ""  # nothing was given, and what came of it is long: the message says more
    given = [_value(arg) for arg in call.args] + [f"{key}={_value(arg)}" for key, arg in call.kwargs.items()]
    outcome = f"raised {type(call.error).__name__}" if call.error else f"gave {_value(call.output)}"
    return _shorten(f"{call.name}({', '.join(given)}) {outcome}")


def _value(value: Any) -> str:
    """A short form of a value: small tensors whole, large ones by type and shape. Never raises."""
    try:
        text = _tensor(value) if hasattr(value, "shape") and hasattr(value, "dtype") else _name_or_repr(value)
        if len(text) > LONGEST_VALUE and isinstance(value, dict):
            text = _large_dict(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "..."


def _name_or_repr(value: Any) -> str:
    """Of a model its class and size, of a function its name: their repr is pages of modules, or an address."""
    cfg = getattr(value, "cfg", None)
    if hasattr(cfg, "n_layers") and hasattr(cfg, "n_heads"):
        return f"{type(value).__name__}({cfg.n_layers} layers of {cfg.n_heads} heads)"
    if inspect.isfunction(value):
        return value.__name__
    if is_dataclass(value) and not isinstance(value, type):
        parts = (f"{part.name}={_value(getattr(value, part.name))}" for part in fields(value) if part.repr)
        return f"{type(value).__name__}({', '.join(parts)})"
    return repr(value)


def _tensor(value: Any) -> str:
    """A small tensor as a learner would type it, to be copied; of a large one only dtype and shape."""
    if not 0 < math.prod(value.shape) <= MOST_ENTRIES:
        return _type_and_shape(value)
    if not type(value).__module__.startswith("torch"):
        return f"np.array({_round(value.tolist())})"
    kind = str(value.dtype).removeprefix("torch.")
    usual = kind in ("float32", "int64", "bool")
    return f"torch.tensor({_round(value.tolist())}{'' if usual else f', dtype=torch.{kind}'})"


def _large_dict(value: dict) -> str:
    """The first two entries, tensors by dtype and shape alone, and how many there are: a state dict is no reading."""
    shown = [
        f"{key!r}: {_type_and_shape(item) if hasattr(item, 'dtype') else _value(item)}"
        for key, item in list(value.items())[:2]
    ]
    return f"{{{', '.join(shown)}{', ...' if len(value) > 2 else ''}}} ({len(value)} in all)"


def _type_and_shape(value: Any) -> str:
    return f"{str(value.dtype).removeprefix('torch.')}[{', '.join(map(str, value.shape))}]"


def _round(value: Any) -> Any:
    if isinstance(value, list):
        return [_round(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... ({len(text) - LONGEST} more characters)"
