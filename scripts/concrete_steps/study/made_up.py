"""Made-up studies, clean or with planted faults: nothing in them was measured on a model."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import NamedTuple

from concrete_steps.errors import CourseError
from concrete_steps.study.cards import FAULTS, PRINT, ClaimCard, Run, gap, interval, table_row, write_up

MEASURES = ("kept_share", "mean_weight", "recovered_share", "copying_rate", "probe_accuracy", "loss_saved")
MODELS = ("heron", "finch", "wren", "tern", "plover", "curlew")
NO_FALSIFIER = (
    "",
    "The claim would be wrong if things were otherwise.",
    "Another result than the one that is expected here.",
    "Nothing that we can think of.",
)
LEAST = 0.02  # by which an altered number differs


class Example(NamedTuple):
    """What an auditor gets."""

    text: str
    card: ClaimCard
    runs: list[Run]


def example(faults: Collection[str] = (), seed: int = 0) -> Example:
    """A made-up study with just these faults (names of `FAULTS`).

    Raises:
        CourseError: a fault that is unknown.
    """
    unknown = sorted(set(faults) - set(FAULTS))
    if unknown:
        raise CourseError(f"There is no fault {unknown[0]!r}: they are {', '.join(FAULTS)}.")
    draw = random.Random(f"{sorted(faults)} {seed}")
    runs = _runs(faults, draw)
    bar = draw.randint(20, 70) / 100
    card = _card(runs[0].measure, bar, "falsifier" in faults, draw)
    verdicts = {run.model: _verdict(run, bar) for run in runs if run.arm == "claim"}
    text = write_up(card, runs, verdicts, _remarks(runs, draw))
    return Example(_altered(text, card, runs, draw) if "number" in faults else text, card, runs)


def _runs(faults: Collection[str], draw: random.Random) -> list[Run]:
    measure, other = draw.sample(MEASURES, 2)
    rows, models = draw.randint(8, 30), draw.sample(MODELS, 2)
    prints = [tuple(draw.gauss(0, 1) for _ in range(PRINT)) for _ in models]
    if "model" in faults:
        hair = draw.choice([0.0, 1e-4, 1e-2])
        prints[1] = tuple(weight + draw.gauss(0, hair) for weight in prints[0])
    runs = []
    for model, its in zip(models, prints, strict=True):
        for arm in ("claim", "null"):
            mean, spread = draw.uniform(0.2, 0.9), draw.uniform(0.05, 0.2)
            values = tuple(draw.gauss(mean, spread) for _ in range(rows))
            runs.append(Run(arm, model, measure, its, values))
    nulls = [1] if "null" in faults else [1, 3]
    if "measure" in faults:
        at = draw.choice(nulls)
        runs[at] = runs[at]._replace(measure=other)
    if "rows" in faults:
        at = draw.choice(nulls)
        runs[at] = runs[at]._replace(values=runs[at].values[: rows - draw.randint(1, 5)])
    if "null" in faults:
        del runs[3]
    return runs


def _models(runs: list[Run]) -> list[str]:
    return list(dict.fromkeys(its.model for its in runs))


def _card(measure: str, bar: float, open_ended: bool, draw: random.Random) -> ClaimCard:
    words = measure.replace("_", " ")
    above = draw.choice([f"{bar:.2f}", f"{100 * bar:.0f} %"])
    return ClaimCard(
        paper=f"a made-up paper of {draw.randint(2019, 2025)}",
        claim=f"The {words} is above {above} on most texts.",
        measure=f"The {words} of a text, one value for each row.",
        evidence="A figure with a mean for each of its models.",
        falsifier=draw.choice(NO_FALSIFIER) if open_ended else f"A mean {words} of {above} or less on fresh rows.",
        cherry_picked="The examples in its second figure are the clearest.",
        breaks=f"In models of fewer than {draw.randint(2, 9)} layers.",
    )


def _verdict(claim: Run, bar: float) -> str:
    its = interval(claim)
    return "holds" if its.low > bar else "fails" if its.high < bar else "open"


def _remarks(runs: list[Run], draw: random.Random) -> str:
    """What somebody typed, with numbers as people write them: of a run, of a difference, and whole ones."""
    its = draw.choice(runs)
    found = interval(its)
    value = f"{found.value:.2f}" if draw.random() < 0.5 else f"{found.value:.2f}".replace("0.", ".")
    return (
        f"On {its.model} the {its.arm} has {value}, between {found.low:.2f} and {found.high:.2f}, over "
        f"{len(its.values)} rows. Read in 2024, run once with seed 3; section 6 says more."
    )


def _altered(text: str, card: ClaimCard, runs: list[Run], draw: random.Random) -> str:
    """One number changed in the table, in a difference or in a sentence; or the numbers of two lines exchanged."""
    first, second = table_row(runs[0]), table_row(runs[-1])
    cells_1, cells_2 = first.split(" | "), second.split(" | ")
    way = draw.choice(["table", "rows", "difference", "sentence", "exchange"])
    if way == "exchange" and cells_1[4:] != cells_2[4:]:
        text = text.replace(first, " | ".join(cells_1[:4] + cells_2[4:]))
        return text.replace(second, " | ".join(cells_2[:4] + cells_1[4:]))
    its = draw.choice(runs)
    line = table_row(its)
    if way == "rows":
        count = len(its.values)
        return text.replace(line, line.replace(f"| {count} |", f"| {count + draw.choice([-2, -1, 1, 12])} |", 1))
    apart = {
        model: gap(*both) for model in _models(runs) if len(both := [one for one in runs if one.model == model]) == 2
    }
    true = [x for one in (*map(interval, runs), *apart.values()) for x in (one.value, one.low, one.high)]

    def other(number: float) -> str:
        new = number
        while min(abs(new - one) for one in true) < LEAST or f"{new:.2f}" in " ".join(card):
            new = number + draw.choice([-1, 1]) * draw.uniform(LEAST, 0.4)
        return f"{new:.2f}"

    found = interval(its)
    if way == "sentence":
        return text + f"\nIn short, {its.model} reaches {other(found.value)}.\n"
    if way == "difference":
        said = draw.choice(list(apart.values()))
        return text.replace(f"null: {said.value:.2f} [", f"null: {other(said.value)} [", 1)
    old = f"{draw.choice([found.value, found.low, found.high]):.2f}"
    return text.replace(line, line.replace(f"| {old} |", f"| {other(float(old))} |", 1))
