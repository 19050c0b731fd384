"""How long was worked, and at what: spans between the lines of the log."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from concrete_steps.checking.log import Event
from concrete_steps.checking.outcomes import PASSED

BREAK = 20 * 60  # seconds without a line in the log: a break


@dataclass(frozen=True)
class Span:
    """Seconds of work from `start` to `end` at an exercise, or at a notebook's other cells where exercise is ""."""

    start: float
    end: float
    notebook: str
    exercise: str = ""


def spans(events: list[Event]) -> list[Span]:
    """Work without breaks.

    The time before a line belongs to what the line names; cells run before a check of the same notebook, to the check.
    After its first pass (on the same machine) an exercise takes no more: that time is the notebook's.
    A clock that jumps, forward by more than a break or back, is a break: what lies between cannot be known. Where the
    logs of two machines cover the same time, it counts once.
    """
    found: list[Span] = []
    for _, own in groupby(events, key=lambda event: event.machine):
        of_this, passed = [], set()
        for before, event in pairwise(own):
            passed |= {(before.notebook, before.exercise)} if before.outcome == PASSED else set()
            exercise = "" if (event.notebook, event.exercise) in passed else event.exercise
            if 0 <= event.when - before.when <= BREAK:
                of_this.append(Span(before.when, event.when, event.notebook, exercise))
        others = _runs(found)
        found += [piece for span in _led_to_checks(of_this) for piece in _outside(span, others)]
    return found


def minutes(events: list[Event]) -> dict[tuple[str, str], float]:
    """Minutes by (notebook, exercise)."""
    total: dict[tuple[str, str], float] = defaultdict(float)
    for span in spans(events):
        total[span.notebook, span.exercise] += (span.end - span.start) / 60
    return dict(total)


def _led_to_checks(of_one_machine: list[Span]) -> list[Span]:
    """Cells run on the way to a check belong to it."""
    result: list[Span] = []
    after: Span | None = None
    for span in reversed(of_one_machine):
        if not span.exercise and after and after.start == span.end and after.notebook == span.notebook:
            span = replace(span, exercise=after.exercise)
        result.append(span)
        after = span
    return result[::-1]


def _runs(of_others: list[Span]) -> list[tuple[float, float]]:
    """The time that spans cover, as few intervals as there are sittings."""
    runs: list[tuple[float, float]] = []
    for start, end in sorted((span.start, span.end) for span in of_others):
        if runs and start <= runs[-1][1]:
            runs[-1] = runs[-1][0], max(end, runs[-1][1])
        else:
            runs.append((start, end))
    return runs


def _outside(span: Span, covered: list[tuple[float, float]]) -> list[Span]:
    """The pieces of a span that lie outside of all these intervals."""
    pieces = [(span.start, span.end)]
    for start, end in covered:
        cut = [part for low, high in pieces for part in ((low, min(high, start)), (max(low, end), high))]
        pieces = [(low, high) for low, high in cut if low < high]
    return [replace(span, start=low, end=high) for low, high in pieces]
