"""What the authors of checks use: awkward inputs, and assertions that speak to a learner.

Every assertion says what is wrong in the learner's terms, with shapes and the smallest failing values. What a check
always tries, where it applies:

| what goes wrong unseen                        | tried by |
|---|---|
| batch 1, one feature, one head                | `shapes_with_ones` |
| zeros, ties, one sign, cancellation           | `awkward` |
| `.view` of what is not contiguous             | `strided` |
| float32 inside a float64 formula              | `assert_precise` |
| a part of the gradient detached               | `assert_gradient_values` |
| `.item()`, lists, numpy where not promised    | `assert_tensor`, `assert_plain` |
| -1e9 for minus infinity                       | `assert_minus_infinity` |
| arguments or models changed                   | `unchanged` |
| a product multiplied out                      | `refuse_large` |
| hooks, modes, random state left behind        | `nothing_left_behind`, of a bridge that is `settled` |
| hooks of others taken away                    | `others_hook` |
| a generator seeded anew in every call         | `assert_draws_from` |
| rows or runs that share their random numbers  | `assert_independent`, `assert_uncorrelated` |

Tiny transformers of random weights to try answers on: `drawn_bridge`, and `bent_bridge`, in which nothing is linear.
"""

from concrete_steps.checking.testing.draws import assert_draws_from, assert_independent, assert_uncorrelated
from concrete_steps.checking.testing.gradients import assert_gradient_flows, assert_gradient_values
from concrete_steps.checking.testing.inputs import Rng, awkward, shapes_with_ones, strided
from concrete_steps.checking.testing.memory import refuse_large
from concrete_steps.checking.testing.state import (
    answer_to,
    as_found,
    nothing_left_behind,
    others_hook,
    settled,
    unchanged,
)
from concrete_steps.checking.testing.tiny import bent_bridge, blank_bridge, drawn_bridge
from concrete_steps.checking.testing.values import (
    OverManyCalls,
    assert_choice,
    assert_close,
    assert_equal,
    assert_minus_infinity,
    assert_mostly_found,
    assert_plain,
    assert_precise,
    assert_tensor,
)

__all__ = [
    "OverManyCalls",
    "Rng",
    "answer_to",
    "as_found",
    "assert_choice",
    "assert_close",
    "assert_draws_from",
    "assert_equal",
    "assert_gradient_flows",
    "assert_gradient_values",
    "assert_independent",
    "assert_minus_infinity",
    "assert_mostly_found",
    "assert_plain",
    "assert_precise",
    "assert_tensor",
    "assert_uncorrelated",
    "awkward",
    "bent_bridge",
    "blank_bridge",
    "drawn_bridge",
    "nothing_left_behind",
    "others_hook",
    "refuse_large",
    "settled",
    "shapes_with_ones",
    "strided",
    "unchanged",
]
