"""The shipped language models do what their datasheets say, their controls do not, and nothing damaged is loaded."""

import functools
import importlib
import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from concrete_steps import corpus
from concrete_steps.errors import CourseError
from concrete_steps.models import measures, shipped
from concrete_steps.models.training import seal, sha256
from concrete_steps.paths import course_root, data_dir

ATTENTION_ONLY = ["attn_only_0l", "attn_only_1l", "attn_only_2l"]
MODELS = [*ATTENTION_ONLY, "story_lm"]

load = functools.cache(shipped.load)


@functools.cache
def measured(name: str, step: int | None) -> dict[str, float]:
    measure = measures.story_model if name == "story_lm" else measures.attention_only
    return measure(load(name, step))


@functools.cache
def claims(name: str) -> dict[str, dict]:
    return {claim["key"]: claim for claim in shipped.datasheet(name)["claims"]}


# What they can do


@pytest.mark.parametrize("name", MODELS)
def test_every_claim_holds_and_its_numbers_are_the_measured_ones(name):
    assert claims(name)
    for key, claim in claims(name).items():
        value, control = measured(name, None)[key], measured(name, 0)[key]
        assert value == pytest.approx(claim["measured"], abs=0.01), claim["property"]
        assert control == pytest.approx(claim["control"], abs=0.01), claim["property"]
        assert value >= claim.get("at_least", value), claim["property"]
        assert value <= claim.get("at_most", value), claim["property"]


def test_two_layers_do_induction_through_keys_and_fewer_layers_do_not():
    two = measured("attn_only_2l", None)
    assert two["best_induction"] >= 0.5
    assert two["best_induction_without_k"] < 0.1
    assert min(two["best_induction_without_q"], two["best_induction_without_v"]) > 0.8 * two["best_induction"]
    assert two["copying_gain_without_k"] < 0.3 * two["copying_gain"]
    assert measured("attn_only_2l", 0)["best_induction"] < 0.1
    assert measured("attn_only_1l", None)["best_induction"] < 0.1
    assert two["best_induction_without_k_of_one"] < 0.5 * two["best_induction"]
    assert measured("attn_only_1l", None)["copying_gain"] < 0.4 * two["copying_gain"]


def test_story_lm_is_near_the_entropy_and_knows_what_the_stories_are_about():
    knows, control = measured("story_lm", None), measured("story_lm", 0)
    assert knows["story_gap"] < 0.15 < control["story_gap"]
    for topic in ("receiver", "agreement", "list", "colour"):
        assert knows[topic] >= 0.9, topic
        assert control[topic] <= 0.1, topic


@pytest.mark.parametrize("name", ["attn_only_1l", "attn_only_2l"])
def test_checkpoints_are_many_and_densest_around_the_change(name):
    steps = shipped.checkpoints(name)
    assert len(steps) >= 12 and steps == sorted(steps) and steps[0] == 0
    assert steps[-1] == shipped.datasheet(name)["steps"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(steps)]
    assert min(gaps) * 4 <= max(gaps)


def test_the_induction_heads_of_the_two_layer_model_form_during_the_checkpoints():
    tokens = measures.repeated_tokens(16, 30, len(corpus.tokenizer()), seed=2)
    steps = shipped.checkpoints("attn_only_2l")
    scores = [measures.induction_scores(shipped.load("attn_only_2l", step), tokens).max().item() for step in steps]
    half = scores[-1] / 2
    assert scores[0] < 0.1 < half
    during = [step for step, score in zip(steps, scores, strict=True) if 0.2 * scores[-1] < score < 0.9 * scores[-1]]
    assert len(during) >= 4, "the checkpoints pass over the change"


@pytest.mark.parametrize("name", ATTENTION_ONLY)
def test_attention_only_models_have_no_bias_and_no_norm(name):
    for key, value in shipped.state_dict(name).items():
        assert not key.endswith("bias") or value.eq(0).all(), key
        assert "ln" not in key.replace("unembed", "")


def test_the_last_checkpoint_is_the_final_model():
    for name in MODELS:
        final, last = shipped.state_dict(name), shipped.state_dict(name, shipped.checkpoints(name)[-1])
        for key, value in final.items():
            torch.testing.assert_close(last[key], value, atol=2e-3, rtol=2e-3)


def test_tokenizer_of_a_loaded_model():
    for name in ("story_lm", "attn_only_2l"):
        model = load(name)
        tokens = model.to_tokens("Mary gave the ball")
        assert tokens.tolist() == [corpus.token_ids([" Mary", " gave", " the", " ball"])]
        assert model.to_str_tokens("Mary gave the ball") == ["[BOS]", " Mary", " gave", " the", " ball"]
        assert model.to_string(tokens[0, 1:]) == " Mary gave the ball"
        assert not model.training


def test_story_lm_is_an_ordinary_gpt2():
    """Its state dict goes into transformers' own class, and both say the same."""
    from transformers import GPT2Config, GPT2LMHeadModel

    plain = GPT2LMHeadModel(GPT2Config(**shipped.datasheet("story_lm")["architecture"]["config"])).eval()
    plain.load_state_dict(shipped.state_dict("story_lm"))
    tokens = corpus.batch(2, 64, corpus.HELD_OUT)
    with torch.no_grad():
        torch.testing.assert_close(load("story_lm")(tokens), plain(tokens).logits, atol=1e-3, rtol=1e-3)


def test_all_shipped_data_fits_the_budget():
    assert sum(path.stat().st_size for path in data_dir().rglob("*") if path.is_file()) <= 60e6


# Retraining


@pytest.mark.parametrize(
    ("script", "argv", "name", "steps"),
    [
        ("attn_only", ["0"], "attn_only_0l", 200),
        ("attn_only", ["2"], "attn_only_2l", 15),
        ("story_lm", [], "story_lm", 200),
    ],
)
def test_the_first_steps_of_a_retraining_repeat_the_logged_losses(script, argv, name, steps, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(course_root() / "scripts" / "train")
    options = ["--steps", str(steps), "--out", str(tmp_path), "--no-claims"]
    importlib.import_module(script).main([*argv, *options])
    new, logged = (
        json.loads((folder / "losses.json").read_text()) for folder in (tmp_path, data_dir() / "models" / name)
    )
    known = dict(zip(logged["step"], logged["loss"], strict=True))
    compared = [(loss, known[step]) for step, loss in zip(new["step"], new["loss"], strict=True) if step in known]
    assert compared
    for loss, expected in compared:
        assert loss == pytest.approx(expected, abs=1e-3)


# Damage


@pytest.fixture
def copied(tmp_path, monkeypatch) -> Path:
    """data/models with one model, copied to where it may be damaged."""
    folder = tmp_path / "models" / "attn_only_1l"
    shutil.copytree(data_dir() / "models" / "attn_only_1l", folder)
    monkeypatch.setattr(shipped, "data_dir", lambda: tmp_path)
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["model.safetensors", "checkpoints.safetensors", "datasheet.json"])
@pytest.mark.parametrize("damage", [cut, flip_a_bit, Path.unlink])
def test_a_damaged_file_is_named_with_the_remedy(copied, file, damage):
    damage(copied / file)
    with pytest.raises(CourseError) as caught:
        shipped.load("attn_only_1l", step=0 if file == "checkpoints.safetensors" else None)
    message = str(caught.value)
    assert file in message and "git checkout" in message and "\n" not in message


def test_an_edited_datasheet_is_refused(copied):
    sheet = json.loads((copied / "datasheet.json").read_text())
    sheet["architecture"]["config"]["n_heads"] = 8
    (copied / "datasheet.json").write_text(json.dumps(sheet))
    with pytest.raises(CourseError, match=r"datasheet\.json was changed"):
        shipped.load("attn_only_1l")


@pytest.mark.parametrize("change", ["missing", "surplus", "another shape"])
def test_weights_that_do_not_fit_the_architecture_are_refused(copied, change):
    """Even where the checksums were made to agree."""
    path = copied / "model.safetensors"
    weights = load_file(path)
    if change == "missing":
        del weights["embed.weight"]
    elif change == "surplus":
        weights["blocks.1.attn.q.weight"] = torch.zeros(2, 2)
    else:
        weights["embed.weight"] = weights["embed.weight"][:-1].clone()
    save_file(weights, path)
    sheet = json.loads((copied / "datasheet.json").read_text())
    sheet["files"]["model.safetensors"] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    sheet["seal"] = seal(sheet)
    (copied / "datasheet.json").write_text(json.dumps(sheet))
    with pytest.raises(CourseError, match="do not fit their architecture"):
        shipped.load("attn_only_1l")


@pytest.mark.parametrize("name", ["attn_only_9l", "", ".", "../corpus"])
def test_an_unknown_model_is_refused_with_the_names_there_are(name):
    with pytest.raises(CourseError, match=r"attn_only_2l.*story_lm"):
        shipped.load(name)


def test_an_unknown_step_is_refused_with_the_steps_there_are():
    with pytest.raises(CourseError, match="no checkpoint at step 17; the steps are: 0,"):
        shipped.load("attn_only_2l", step=17)


def test_native_models_have_the_pattern_for_scores_as_notebook_3_1_says():
    """Where this fails, TransformerLens has mended it: take the warning out of `load` and of notebook 3.1."""
    tokens = corpus.batch(1, 8, corpus.HELD_OUT)
    with torch.no_grad():
        _, native = load("attn_only_2l", None).run_with_cache(tokens)
        _, gpt2 = load("story_lm", None).run_with_cache(tokens)
    assert torch.equal(native["attn_scores", 0], native["pattern", 0])
    assert not torch.allclose(gpt2["attn_scores", 0].softmax(-1), gpt2["attn_scores", 0])
