"""Claim cards, runs, and the write-up: its table is made from the runs, so that no number has to be typed."""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from concrete_steps import evidence
from concrete_steps.errors import CourseError

if TYPE_CHECKING:
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

ARMS = ("claim", "null")
PRINT = 64  # weights that stand for a model
FAULTS = {
    "number": "a number that is no run's: altered, or in the wrong line of the table",
    "measure": "the null is measured in another way than the claim",
    "rows": "the null has another number of rows than the claim",
    "null": "a model's claim has no null beside it",
    "model": "there is no second model, or it is the first again",
    "falsifier": "the card's falsifier has no figure: nothing could refute the claim",
}


class ClaimCard(NamedTuple):
    """One claim of a paper, as sentences."""

    paper: str
    claim: str
    measure: str
    evidence: str
    falsifier: str
    cherry_picked: str
    breaks: str


class Run(NamedTuple):
    """What one measurement gave: one value for each row, on the claim's rows or on the null's."""

    arm: str  # "claim" or "null"
    model: str
    measure: str  # the function's name
    weights: tuple[float, ...]  # the model's fingerprint
    values: tuple[float, ...]


class Study(NamedTuple):
    """One measure for both arms and both models; `rows(model, arm)` gives it what it is run on."""

    card: ClaimCard
    measure: Callable[[TransformerBridge, Any], Tensor]
    models: tuple[str, ...]
    rows: Callable[[TransformerBridge, str], Any]


def load(name: str) -> TransformerBridge:
    """The model "smollm2", or one that comes with the course."""
    from concrete_steps import models

    return models.smollm2() if name == "smollm2" else models.load(name)


def fingerprint(model: TransformerBridge) -> tuple[float, ...]:
    """64 weights from matrices all over the model: the same for the same weights, whatever the model is called."""
    import torch

    matrices = [weight.detach() for _, weight in sorted(model.named_parameters()) if weight.ndim > 1]
    some = torch.cat([weight.flatten()[:: max(1, weight.numel() // PRINT)][:PRINT].float() for weight in matrices])
    return tuple(some[torch.linspace(0, len(some) - 1, PRINT).long()].tolist())


def run(arm: str, name: str, model: TransformerBridge, measure: Callable[..., Tensor], rows: Any) -> Run:
    """Measure, and keep what a reader will ask for."""
    if arm not in ARMS:
        raise CourseError(f"There is no arm {arm!r}: it is 'claim' or 'null'.")
    values, its_name = measure(model, rows), getattr(measure, "__name__", type(measure).__name__)
    if not hasattr(values, "ndim"):
        raise CourseError(f"A measure gives a tensor, one value a row: here is a {type(values).__name__}.")
    if values.ndim != 1 or len(values) < 2:
        raise CourseError(f"A measure gives one value a row, for two rows or more: here is {list(values.shape)}.")
    left = [point for point, its in model.hook_dict.items() if its.fwd_hooks or its.bwd_hooks]
    if left:
        raise CourseError(f"{its_name} leaves hooks in {name}, at {left[0]}: what is run next would run with them.")
    return Run(arm, name, its_name, fingerprint(model), tuple(values.tolist()))


def carry_out(study: Study) -> list[Run]:
    """Both arms on each of its models."""
    runs = []
    for name in study.models:
        model = load(name)
        runs += [run(arm, name, model, study.measure, study.rows(model, arm)) for arm in ARMS]
    return runs


def interval(run: Run) -> evidence.Interval:
    """The mean of a run's values with its 95 % interval (t)."""
    return _interval(tuple(run.values))


@functools.lru_cache(maxsize=1000)
def _interval(values: tuple[float, ...]) -> evidence.Interval:
    return evidence.interval(values)


def gap(claim: Run, null: Run) -> evidence.Interval:
    """Claim less null: row by row where there are as many."""
    return evidence.difference(claim.values, null.values, paired=len(claim.values) == len(null.values))


def table_row(run: Run) -> str:
    """The line of the write-up's table that belongs to a run."""
    its = interval(run)
    numbers = " | ".join(f"{number:.2f}" for number in (its.value, its.low, its.high))
    return f"| {run.arm} | {run.model} | {run.measure} | {len(run.values)} | {numbers} |"


def write_up(card: ClaimCard, runs: Sequence[Run], verdicts: Mapping[str, str], remarks: str = "") -> str:
    """Two pages of Markdown: the card, the table, a figure, what came out. Only `remarks` are typed by hand."""
    said = [f"- **{name.replace('_', ' ')}**: {text}" for name, text in card._asdict().items() if name != "paper"]
    of = {(its.arm, its.model): its for its in runs}
    came_out = []
    for model in dict.fromkeys(its.model for its in runs):
        claim, null = of.get(("claim", model)), of.get(("null", model))
        line = f"- *{model}*: {verdicts.get(model, 'no verdict')}."
        if claim and null:
            line += f" Claim less null: {gap(claim, null):.2f}."
        came_out.append(line)
    parts = [
        f"# One claim, run again\n\nAfter {card.paper}",
        "## The card\n\n" + "\n".join(said),
        "## What was run\n\nMeans over rows, with 95 % intervals (t).\n\n"
        "| arm | model | measure | rows | mean | low | high |\n|---|---|---|---|---|---|---|\n"
        + "\n".join(map(table_row, runs)),
        f"![Means and intervals of all runs](data:image/svg+xml;base64,{_figure(runs)})",
        "## What came out\n\n" + "\n".join(came_out),
    ]
    return "\n\n".join(parts + ([f"## Remarks\n\n{remarks}"] if remarks else [])) + "\n"


def _figure(runs: Sequence[Run]) -> str:
    """A point and a line for each run, as SVG in base64 (which has no decimal points)."""
    found = [interval(its) for its in runs]
    low, high = min(0.0, *(its.low for its in found)), max(1.0, *(its.high for its in found))
    left, width, step = 220, 380, 30

    def at(value: float) -> float:
        return left + width * (value - low) / (high - low)

    bottom = 20 + step * len(runs)
    drawn = [f'<path d="M{left} {bottom} H{left + width}" stroke="#57606a"/>']
    for tick in (low, high):
        drawn.append(f'<text x="{at(tick):.0f}" y="{bottom + 18}" text-anchor="middle">{tick:.2g}</text>')
    for i, (its, bar) in enumerate(zip(runs, found, strict=True)):
        y, colour = 24 + step * i, "#0072B2" if its.arm == "claim" else "#D55E00"
        drawn += [
            f'<text x="{left - 12}" y="{y + 5}" text-anchor="end">{its.model}, {its.arm}</text>',
            f'<path d="M{at(bar.low):.1f} {y} H{at(bar.high):.1f}" stroke="{colour}" stroke-width="3"/>',
            f'<circle cx="{at(bar.value):.1f}" cy="{y}" r="5" fill="{colour}"/>',
        ]
    box = f'viewBox="0 0 640 {bottom + 30}" width="640" font-family="sans-serif" font-size="14"'
    panel = f'<rect width="640" height="{bottom + 30}" fill="#f6f8fa"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{panel}{"".join(drawn)}</svg>'
    return base64.b64encode(svg.encode()).decode()
