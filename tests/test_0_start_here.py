"""Checks of 0 Start here."""

from concrete_steps.testing import assert_close, assert_equal, assert_tensor


def test_logit_difference(logit_difference, rng):
    """The right token's logit minus the wrong one's, for vocabularies of several sizes."""
    for vocab in (2, 5, 50):
        logits = rng.normal(vocab)
        right, wrong = rng.permutation(vocab)[:2].tolist()
        actual = assert_tensor(logit_difference(logits, right, wrong), shape=())
        assert_close(actual, logits[right].item() - logits[wrong].item(), "logit of right minus logit of wrong")


def test_answer_before_running(answer_before_running):
    """A prediction comes before an experiment."""
    assert_equal(str(answer_before_running).strip().lower(), "b", "how to meet an experiment")


def test_answer_already_know(answer_already_know):
    """Criteria decide what to skip."""
    assert_equal(str(answer_already_know).strip().lower(), "c", "what to do with what you may know")
