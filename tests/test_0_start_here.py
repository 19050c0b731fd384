"""Checks of 0 Start here."""

import torch

from concrete_steps.checking.testing import (
    assert_choice,
    assert_gradient_values,
    assert_precise,
    assert_tensor,
    nothing_left_behind,
    strided,
    unchanged,
)


def test_logit_difference(logit_difference, rng):
    """The right token's logit minus the wrong one's, for vocabularies of several sizes."""
    for vocab in (2, 5, 50):
        for logits in (rng.normal(vocab), strided(rng.normal(vocab)), rng.normal(vocab, dtype=torch.float64)):
            right, wrong = rng.permutation(vocab)[:2].tolist()
            with nothing_left_behind(), unchanged(logits):
                actual = assert_tensor(logit_difference(logits, right, wrong), shape=())
            expected = torch.tensor(logits[right].item() - logits[wrong].item(), dtype=logits.dtype)
            assert_precise(actual, expected, "logit of right minus logit of wrong")


def test_logit_difference__gradient(logit_difference, rng):
    """A gradient reaches the logits"""
    assert_gradient_values(lambda logits: logit_difference(logits, 2, 0), rng.normal(4, dtype=torch.float64))


def test_answer_before_running(answer_before_running):
    """A prediction comes before an experiment."""
    assert_choice(answer_before_running, "b", "look again at the four steps of How to work")


def test_answer_already_know(answer_already_know):
    """Criteria decide what to skip."""
    assert_choice(answer_already_know, "a", "what tells you in a minute whether you can do it?")
