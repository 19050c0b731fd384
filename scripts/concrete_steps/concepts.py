"""Activations in which one concept is held in a known way, for the open task of notebook 4.2.

    from concrete_steps import concepts
    concept = concepts.concept("circle", seed=3)
    concept.acts, concept.value          # [row neuron], and which of the ordered values each row has

Everything but the way is drawn alike for all of them: size, noise, each neuron's mean, other features in random
directions, how often each value occurs. Each set holds something in every way, and two loud neurons more: only which of
these goes with the value differs, so the activations alone, without the values, tell nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from concrete_steps.errors import CourseError

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor

KINDS = {
    "nothing": "the activations say nothing about the value",
    "neuron": "one neuron grows with the value",
    "direction": "a direction grows with the value, and no neuron by itself",
    "arc": "the values lie in order on two thirds of a circle: its two ends are far apart",
    "circle": "the values lie in order on a circle: after the last comes the first",
}
SPREAD = 4.0  # of the concept, in standard deviations of the noise
OTHERS = 12  # features that have nothing to do with the value
LOUD = 2  # neurons as loud as the concept's, which have nothing to do with the value


@dataclass(frozen=True)
class Concept:
    """Activations, and the value of a concept in each row.

    Attributes:
        acts: [row neuron]
        value: [row] 0, 1, ..., n_values - 1, in the concept's order.
        n_values: how many values there are.
    """

    acts: Float[Tensor, "row neuron"]
    value: Int[Tensor, " row"]
    n_values: int


def concept(kind: str, seed: int) -> Concept:
    """Activations that hold a concept in this way.

    Args:
        kind: one of KINDS.
        seed: decides everything else.

    Raises:
        CourseError: there is no such kind.
    """
    import torch

    if kind not in KINDS:
        raise CourseError(f"There is no kind {kind!r}; the kinds are: {', '.join(KINDS)}.")
    generator = torch.Generator().manual_seed(1000 * seed + list(KINDS).index(kind))
    n_values, neurons = (int(torch.randint(*ends, (), generator=generator)) for ends in ((7, 13), (40, 61)))
    value = torch.arange(n_values).repeat(14)
    value = value[torch.randperm(len(value), generator=generator)]
    acts = torch.randn(len(value), neurons, generator=generator)
    on = torch.rand(len(value), OTHERS, generator=generator) < 0.2
    acts += 4 * on.float() @ _directions(OTHERS, neurons, generator)
    axes = torch.eye(neurons)[torch.randperm(neurons, generator=generator)]
    ways = [way for way in KINDS if way != "nothing"]
    for i, way in enumerate(ways + LOUD * ["neuron"]):
        shuffled = value[torch.randperm(len(value), generator=generator)]
        held = value if way == kind and i < len(ways) else shuffled
        where = axes[i : i + 2] if way == "neuron" else _directions(2, neurons, generator)
        acts += SPREAD * _code(way, held, n_values) @ where
    return Concept(acts + 3 * torch.randn(neurons, generator=generator), value, n_values)


def _directions(count: int, width: int, generator: torch.Generator) -> Float[Tensor, "count width"]:
    """Random unit vectors at right angles to each other; the first two are spread over many neurons."""
    import torch

    while True:
        rows = torch.linalg.qr(torch.randn(width, count, generator=generator)).Q.T
        if rows[:2].square().max() < 0.12:
            return rows


def _code(kind: str, value: Int[Tensor, " row"], n_values: int) -> Float[Tensor, "row 2"]:
    """Where a value lies: coordinates whose squares sum to 2 on average, or to 1 on a line."""
    import torch

    place = value.float()
    if kind in ("neuron", "direction"):
        centred = place - place.mean()
        return torch.stack([centred / centred.std(), torch.zeros_like(centred)], 1)
    whole = 2 * math.pi * place
    angle = whole / n_values if kind == "circle" else 2 / 3 * whole / (n_values - 1)
    return math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], 1)
