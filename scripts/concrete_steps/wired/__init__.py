"""Circuits of known truth, written straight into the weights of a TransformerBridge from a seed.

    model, truth = wired.build(seed=3, n_layers=3, n_heads=6, copies=2)
    tokens = wired.repeated(truth, batch=8, seed=0)
    truth.roles[(1, 4)]                                     # "induction", "decoy: offset", "idle", ...
    truth.works_without("induction", {(1, 4)})              # False: nothing else does it
    wired.measure(model, truth, "induction", tokens)        # 1.0

The model has attention only and no normalisation. Three things can be measured in its logits: "induction" (the token
that followed the current one before), "seen" (the token SEEN, where the current token occurred before) and "copying"
(tokens of the context above others). Notebook 2.2 teaches how each head is written: `Weights` holds the four matrices
of one, `to_bridge` makes a model of heads written by hand, and `riddle` gives the examples of its open task.
`properties` makes the models of notebook 3.6, which hold more than they use; `compositions` those of 3.5, whose heads
read each other; `writers` those of 3.3, in which not every head that seems to write the answer does; `steerable` those
of 3.7, which some directions steer, at a cost or not; `claim` makes those of 4.3, sound or with one fault.
"""

from concrete_steps.wired.build import build, to_bridge
from concrete_steps.wired.claims import FAULTS, SOUND, Claim, Rows, claim
from concrete_steps.wired.compositions import CompositionTruth, compositions
from concrete_steps.wired.expansions import PathTruth, expansions
from concrete_steps.wired.heads import Weights
from concrete_steps.wired.properties import PropertyTruth, properties, property_rows
from concrete_steps.wired.riddles import NO_ANSWER, riddle
from concrete_steps.wired.steerable import SteerTruth, steerable, steerable_rows
from concrete_steps.wired.truth import (
    BEHAVIOURS,
    Edge,
    Head,
    Truth,
    measure,
    measures,
    pairs,
    random_text,
    removed,
    repeated,
)
from concrete_steps.wired.writers import WriterTruth, writer_rows, writers

__all__ = [
    "BEHAVIOURS",
    "FAULTS",
    "NO_ANSWER",
    "SOUND",
    "Claim",
    "CompositionTruth",
    "Edge",
    "Head",
    "PathTruth",
    "PropertyTruth",
    "Rows",
    "SteerTruth",
    "Truth",
    "Weights",
    "WriterTruth",
    "build",
    "claim",
    "compositions",
    "expansions",
    "measure",
    "measures",
    "pairs",
    "properties",
    "property_rows",
    "random_text",
    "removed",
    "repeated",
    "riddle",
    "steerable",
    "steerable_rows",
    "to_bridge",
    "writer_rows",
    "writers",
]
