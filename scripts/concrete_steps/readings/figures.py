"""A number at random of what was read, for notebook 6.3: a paper's measure on a model of this course, in a setting that
nobody printed.

    readings.figure(7)              # what to compute, on what, and how near it must come
    readings.recomputed(7)          # the course's own value: what the check compares with
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from concrete_steps.topics import load_topics

if TYPE_CHECKING:
    from torch import Tensor

# Checkpoints at which the measure is no longer what it was at the start, and not yet what it is at the end
PREFIX_STEPS = (525, 550, 575, 600, 650, 700, 800, 1000)
GROKKING_STEPS = (4000, 6000, 8000, 9000, 10000, 11000, 12000, 12500, 13000)
ROWS = 256  # of random tokens: the mean then varies by less than a tenth of the tolerance


@dataclass(frozen=True)
class Figure:
    """A number to be recomputed. `paper` says what the paper prints of this measure, `given` is a matrix, if any."""

    kind: str
    topic: str
    what: str
    paper: str
    tolerance: float
    setting: tuple[int, ...]
    given: Tensor | None = None

    def _repr_markdown_(self) -> str:
        of = load_topics()[self.topic]
        source = f"{of.authors} {of.year}, [{of.title}]({of.url})"
        return f"**Recompute**: {self.what}\n\n- to within {self.tolerance:g}\n- {source}: {self.paper}"


def figure(seed: int) -> Figure:
    """The figure that this seed draws; where it is about a matrix of its own, `given` holds that."""
    draw = random.Random(f"figure {seed}")
    made, _ = KINDS[draw.choice(list(KINDS))]
    return made(draw)


def recomputed(seed: int) -> float:
    """The value of the figure that this seed draws, by the course's own code."""
    drawn = figure(seed)
    _, value = KINDS[drawn.kind]
    return value(drawn)


# --- Olsson et al. 2022: prefix matching


def _prefix(draw: random.Random) -> Figure:
    step = draw.choice(PREFIX_STEPS)
    return Figure(
        "prefix",
        "induction_heads",
        f"the prefix-matching score of `models.load('attn_only_2l', step={step})`: token 1, then 25 random tokens (3 "
        "or more), then these 25 again. Over many rows, the mean attention of the second copy's positions to the token "
        "*after* their first copy; the largest of the four heads of layer 1.",
        "the paper has its 25 random tokens four times, and the same mean, for heads of many models.",
        0.04,
        (step,),
    )


def _prefix_value(drawn: Figure) -> float:
    from concrete_steps.models import load, measures

    model = load("attn_only_2l", step=drawn.setting[0])
    tokens = measures.repeated_tokens(ROWS, 25, model.cfg.d_vocab)
    return measures.induction_scores(model, tokens)[1].max().item()


# --- Elhage et al. 2021: eigenvalues of OV circuits, composition


def _eigenvalues(draw: random.Random) -> Figure:
    model, layer, head = draw.randint(1, 2), 0, draw.randrange(4)
    if model == 2:
        layer = draw.randrange(2)
    return Figure(
        "eigenvalues",
        "qk_ov",
        f"the copying score of head L{layer}H{head} of `models.load('attn_only_{model}l')`: of the eigenvalues of its "
        "full OV circuit (embedding, W_V, W_O, unembedding, from weights alone), the sum over the sum of absolute "
        "values; of a complex one, its real part above.",
        "10 of 12 heads of a one-layer model copy, by this score.",
        0.002,
        (model, layer, head),
    )


def _eigenvalues_value(drawn: Figure) -> float:
    import torch

    from concrete_steps.models import load

    layers, layer, head = drawn.setting
    model = load(f"attn_only_{layers}l")
    writes = model.W_O[layer, head] @ model.W_U
    small = (writes @ (model.W_E @ model.W_V[layer, head])).detach().double()  # AB and BA share what is not 0
    values = torch.linalg.eigvals(small)
    return (values.real.sum() / values.abs().sum()).item()


def _composition(draw: random.Random) -> Figure:
    early, late = draw.randrange(4), draw.randrange(4)
    return Figure(
        "composition",
        "composition",
        f"the K-composition score of heads L0H{early} and L1H{late} of `models.load('attn_only_2l')`: with rows "
        "multiplied from the left, M = W_V W_O of the first and N = W_K W_Qᵀ of the second, ‖M N‖ / (‖M‖ ‖N‖), in "
        "Frobenius norms.",
        "induction heads are found among the pairs of high K-composition.",
        0.001,
        (early, late),
    )


def _composition_value(drawn: Figure) -> float:
    from concrete_steps.models import load

    model, (early, late) = load("attn_only_2l"), drawn.setting
    moved = (model.W_V[0, early] @ model.W_O[0, early]).detach().double()
    asked = (model.W_K[1, late] @ model.W_Q[1, late].T).detach().double()
    return ((moved @ asked).norm() / (moved.norm() * asked.norm())).item()


# --- Nanda et al. 2023: waves of modular addition; Power et al. 2022: its accuracy


def _fourier(draw: random.Random) -> Figure:
    step, count = draw.choice(GROKKING_STEPS), draw.randint(2, 5)
    second = draw.randrange(113)
    return Figure(
        "fourier",
        "progress_measures",
        f"the share of the neurons' Fourier power in its {count} strongest frequencies, in `models.load('grokking', "
        f"step={step})`: it reads a, {second} and token 113; take the MLP's activations after the ReLU, at the last "
        "position, as functions of a from 0 to 112. Over the frequencies 1 to 56 (the constant left out), cos and sin "
        "and all neurons summed.",
        "five key frequencies carry the final network.",
        0.003,
        (step, count, second),
    )


def _fourier_value(drawn: Figure) -> float:
    import torch

    from concrete_steps.games import modular_addition
    from concrete_steps.models import load

    step, count, second = drawn.setting
    pairs = torch.tensor([(first, second) for first in range(modular_addition.P)])
    with torch.no_grad():
        _, cache = load("grokking", step=step).run_with_cache(modular_addition.tokens(pairs))
    neurons = cache["blocks.0.mlp.hook_post"][:, -1]
    return modular_addition.frequency_shares(neurons).topk(count).values.sum().item()


def _accuracy(draw: random.Random) -> Figure:
    step = draw.choice(GROKKING_STEPS)
    return Figure(
        "accuracy",
        "grokking",
        f"the accuracy of `models.load('grokking', step={step})` on *all* 113 × 113 pairs (a, b): it reads a, b and "
        "token 113, and answers a + b modulo 113 at the last position.",
        "validation accuracy rises from chance toward 100 % long after the training data are fitted.",
        0.002,
        (step,),
    )


def _accuracy_value(drawn: Figure) -> float:
    import torch

    from concrete_steps.games import modular_addition
    from concrete_steps.models import load

    pairs = modular_addition.all_pairs()
    with torch.no_grad():
        logits = modular_addition.fast_logits(load("grokking", step=drawn.setting[0]), pairs)
    return modular_addition.loss_and_accuracy(logits, pairs)[1]


# --- Elhage et al. 2022: dimensions per feature


def _dimensions(draw: random.Random) -> Figure:
    import torch

    n, m, key = draw.randint(5, 9), draw.randint(2, 4), draw.randrange(10**6)
    feature = draw.randrange(n)
    given = torch.randn(m, n, generator=torch.Generator().manual_seed(key))
    return Figure(
        "dimensions",
        "superposition",
        f"the dimensionality of feature {feature} in W = `readings.figure(SEED).given`, [{m} dimensions, {n} "
        "features]: its column's squared norm, over the sum, over all features j, of the squared product of its "
        "*unit* column with column j.",
        "features lie on lines such as 1/2 (two share a dimension) and 2/5 (a pentagon).",
        0.002,
        (feature,),
        given,
    )


def _dimensions_value(drawn: Figure) -> float:
    W, column = drawn.given.double(), drawn.given[:, drawn.setting[0]].double()
    return (column.square().sum() / ((column / column.norm()) @ W).square().sum()).item()


# How each kind of figure is drawn, and how its value is found
KINDS = {
    "prefix": (_prefix, _prefix_value),
    "eigenvalues": (_eigenvalues, _eigenvalues_value),
    "composition": (_composition, _composition_value),
    "fourier": (_fourier, _fourier_value),
    "accuracy": (_accuracy, _accuracy_value),
    "dimensions": (_dimensions, _dimensions_value),
}
