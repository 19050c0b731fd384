"""A small study of one claim of a paper, for notebook 6.1: the claim card, what was run, and the write-up made of both.

    runs = study.carry_out(study.Study(card, measure, ("smollm2", "story_lm"), rows))
    text = study.write_up(card, runs, verdicts)     # every number in its table is looked up in the runs

`study.example(faults, seed)` is a made-up study with these faults in it (none: a clean one), to try an auditor on.
"""

from concrete_steps.study.cards import (
    FAULTS,
    ClaimCard,
    Run,
    Study,
    carry_out,
    fingerprint,
    gap,
    interval,
    load,
    run,
    table_row,
    write_up,
)
from concrete_steps.study.made_up import Example, example

__all__ = [
    "FAULTS",
    "ClaimCard",
    "Example",
    "Run",
    "Study",
    "carry_out",
    "example",
    "fingerprint",
    "gap",
    "interval",
    "load",
    "run",
    "table_row",
    "write_up",
]
