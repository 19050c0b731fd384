"""The reading list keeps its rules, figures at random have one value, and a review becomes a page."""

import tomllib

import pytest
import torch

from concrete_steps import readings, topics
from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root
from concrete_steps.readings import figures

LISTED = readings.load_readings()
SEEDS = range(60)


def test_there_are_twenty_five_or_more_and_each_is_a_topic():
    assert len(LISTED) >= 25
    keys = set(tomllib.loads((course_root() / "scripts/concrete_steps/readings.toml").read_text(encoding="utf-8")))
    assert keys == set(LISTED), f"no topics: {sorted(keys - set(LISTED))}"


@pytest.mark.parametrize("reading", LISTED.values(), ids=lambda reading: reading.topic)
def test_a_reading_is_whole(reading):
    assert reading.topic in topics.load_topics()
    assert reading.on and set(reading.on) <= set(readings.models()), f"no model of the course: {reading.on}"
    assert reading.shows.endswith(".") and 6 <= len(reading.shows.split()) <= 25
    assert reading.replicate.endswith((".", "?")) and 6 <= len(reading.replicate.split()) <= 25
    assert reading.shows != topics.load_topics()[reading.topic].what


def test_the_table_has_a_row_for_each_in_the_order_asked_for():
    lines = readings.table().data.splitlines()
    assert len(lines) == 2 + len(LISTED)
    chosen = readings.table(["ioi", "grokking", "ccs"]).data.splitlines()[2:]
    assert [line.split("`")[1] for line in chosen] == ["ioi", "grokking"]  # nothing of "ccs" can be replicated here
    assert "https://arxiv.org/abs/2211.00593" in chosen[0] and LISTED["ioi"].replicate in chosen[0]
    with pytest.raises(CourseError, match="no topic 'ioy'"):
        readings.table(["ioy"])


def test_each_abstract_has_four_sentences_of_one_length_and_says_what_is_wrong_with_three():
    for its in readings.ABSTRACTS.values():
        assert set(its.options) == set("abcd") == {its.right, *its.wrong}
        sizes = [len(option) for option in its.options.values()]
        assert max(sizes) <= 1.2 * min(sizes)
    assert {its.right for its in readings.ABSTRACTS.values()} == set("abcd")
    assert readings.abstracts().data.count("- (a)") == len(readings.ABSTRACTS)


def test_a_seed_draws_the_same_figure_and_all_kinds_are_drawn():
    drawn = [readings.figure(seed) for seed in SEEDS]
    assert {figure.kind for figure in drawn} == set(figures.KINDS)
    for seed, figure in zip(SEEDS, drawn, strict=True):
        again = readings.figure(seed)
        assert (again.kind, again.setting, again.what) == (figure.kind, figure.setting, figure.what)
        assert figure.topic in topics.load_topics() and figure.tolerance > 0
    assert "**Recompute**" in drawn[0]._repr_markdown_() and "arxiv.org" in _of("fourier")[1]._repr_markdown_()


def _of(kind):
    return next((seed, readings.figure(seed)) for seed in SEEDS if readings.figure(seed).kind == kind)


def test_prefix_matching_by_another_way():
    from concrete_steps.models import load

    seed, figure = _of("prefix")
    model = load("attn_only_2l", step=figure.setting[0])
    once = torch.randint(3, model.cfg.d_vocab, (64, 25), generator=torch.Generator().manual_seed(5))
    tokens = torch.cat([torch.ones(64, 1, dtype=torch.long), once, once], 1)
    _, cache = model.run_with_cache(tokens, names_filter="blocks.1.attn.hook_pattern")
    places = [cache["pattern", 1][:, :, 26 + place, 2 + place].mean(0) for place in range(25)]
    score = torch.stack(places).mean(0).max().item()
    assert score == pytest.approx(readings.recomputed(seed), abs=figure.tolerance)


def test_eigenvalues_and_composition_by_the_whole_matrices():
    from concrete_steps.models import load

    seed, figure = _of("eigenvalues")
    layers, layer, head = figure.setting
    model = load(f"attn_only_{layers}l")
    with torch.no_grad():
        whole = model.W_E @ model.W_V[layer, head] @ model.W_O[layer, head] @ model.W_U
        values = torch.linalg.eigvals(whole.double())
        score = (values.real.sum() / values.abs().sum()).item()
    assert score == pytest.approx(readings.recomputed(seed), abs=figure.tolerance)
    seed, figure = _of("composition")
    early, late = figure.setting
    model = load("attn_only_2l")
    with torch.no_grad():
        asks = model.W_Q[1, late] @ model.W_K[1, late].T  # the other way round, as a query reads it
        moved = model.W_V[0, early] @ model.W_O[0, early]
        score = ((asks @ moved.T).norm() / asks.norm() / moved.norm()).item()
    assert score == pytest.approx(readings.recomputed(seed), abs=figure.tolerance)


def test_waves_and_accuracy_by_the_model_itself():
    from concrete_steps.games import modular_addition
    from concrete_steps.models import load

    seed, figure = _of("fourier")
    step, count, second = figure.setting
    model = load("grokking", step=step)
    inside = getattr(model.blocks[0].mlp, "in").weight.detach().double()
    rows = torch.stack([torch.arange(113), torch.full((113,), second), torch.full((113,), 113)], 1)
    with torch.no_grad():
        _, cache = model.run_with_cache(rows, names_filter="blocks.0.hook_resid_mid")
    table = torch.relu(cache["blocks.0.hook_resid_mid"][:, -1].double() @ inside.T)
    angles = 2 * torch.pi * torch.arange(113).double()[:, None] * torch.arange(1, 57) / 113
    power = sum((wave(angles).T @ table).square().sum(1) for wave in (torch.cos, torch.sin))
    share = (power.sort(descending=True).values[:count].sum() / power.sum()).item()
    assert share == pytest.approx(readings.recomputed(seed), abs=figure.tolerance)
    seed, figure = _of("accuracy")
    pairs = modular_addition.all_pairs()
    with torch.no_grad():
        said = load("grokking", step=figure.setting[0])(modular_addition.tokens(pairs))[:, -1, :113].argmax(-1)
    share = (said == pairs.sum(1) % 113).float().mean().item()
    assert share == pytest.approx(readings.recomputed(seed), abs=figure.tolerance)


def test_dimensions_by_loops():
    seed, figure = _of("dimensions")
    W, (feature,) = figure.given, figure.setting
    own = W[:, feature]
    shared = sum(float(own @ W[:, other]) ** 2 / float(own @ own) for other in range(W.shape[1]))
    assert float(own @ own) / shared == pytest.approx(readings.recomputed(seed), abs=figure.tolerance)


def test_a_review_becomes_a_page_and_a_half_written_one_too():
    note = dict(zip(readings.FIELDS, "abcdefghi", strict=True))
    review = {
        "question": "Why?",
        "papers": {"a": {"link": "arXiv:2301.05217", "shows": "That."}},
        "notes": [note],
        "disagreement": {"between": ["a", "b"], "about": "This.", "settled by": "An edit."},
        "verdict": "Open.",
    }
    text = readings.page(review).data
    for part in ("## Why?", "arXiv:2301.05217", "**1. b** (a, d)", "(a and b): This. An edit.", "Open."):
        assert part in text
    assert "no two of these papers" in readings.page({}).data
    assert all(f"{field}: " in readings.TEMPLATE for field in readings.FIELDS)
