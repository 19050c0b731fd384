"""The tokenizer of notebook 2.1 gives back every text that UTF-8 can write, whatever it was trained on."""

from hypothesis import given, settings
from hypothesis import strategies as st

from concrete_steps.checking.loader import load
from concrete_steps.course import load_course
from concrete_steps.paths import course_root

NOTEBOOK = load_course().notebook("2.1")
ANSWERS = load(course_root() / "solutions" / NOTEBOOK.path, NOTEBOOK.exercises).namespace
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(training=st.lists(TEXTS, max_size=3), text=TEXTS, n_merges=st.integers(0, 30))
@settings(deadline=None, max_examples=50)
def test_any_text_comes_back(training, text, n_merges):
    merges = ANSWERS["train_bpe"]([*training, text], n_merges)
    ids = ANSWERS["encode"](text, merges)
    assert ANSWERS["decode"](ids, merges) == text
    assert len(ids) <= len(text.encode())


@given(training=st.lists(st.text("ab é1'\n"), max_size=4), n_merges=st.integers(0, 30))
@settings(deadline=None, max_examples=50)
def test_both_trainers_learn_the_same(training, n_merges):
    slow = ANSWERS["train_bpe"](training, n_merges)
    assert list(slow.items()) == list(ANSWERS["train_bpe_incremental"](training, n_merges).items())
