"""Checks of 0 Start here."""

from concrete_steps.checking.testing import assert_choice, assert_close, assert_tensor


def test_logit_difference(logit_difference, rng):
    """The right token's logit minus the wrong one's, for vocabularies of several sizes."""
    for vocab in (2, 5, 50):
        logits = rng.normal(vocab)
        right, wrong = rng.permutation(vocab)[:2].tolist()
        actual = assert_tensor(logit_difference(logits, right, wrong), shape=())
        assert_close(actual, logits[right].item() - logits[wrong].item(), "logit of right minus logit of wrong")


def test_answer_before_running(answer_before_running):
    """A prediction comes before an experiment."""
    assert_choice(answer_before_running, "b", "look again at the four steps of How to work")


def test_answer_already_know(answer_already_know):
    """Criteria decide what to skip."""
    assert_choice(answer_already_know, "c", "what tells you in a minute whether you can do it?")
