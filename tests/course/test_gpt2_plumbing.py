"""GPT-2 through the same plumbing as the real one, on a tiny model with random weights in a hub cache of its own."""

import errno
import http.server
import re
import shutil
import socket
import threading
import time
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from concrete_steps import models
from concrete_steps.errors import CourseError
from concrete_steps.models import gpt2_model
from concrete_steps.models.download import sha256


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """An empty hub cache; the hub itself cannot be reached."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path


@pytest.fixture(scope="module")
def tiny_gpt2(tmp_path_factory) -> Path:
    """The three files of a GPT-2 of 2 layers and 3 heads, as the hub has them."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers import models as token_models
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    folder = tmp_path_factory.mktemp("gpt2")
    letters = sorted(bytes_to_unicode().values())
    vocabulary = {token: index for index, token in enumerate([*letters, "Ġt", "<|endoftext|>"])}
    tokenizer = Tokenizer(token_models.BPE(vocabulary, [("Ġ", "t")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))

    torch.manual_seed(0)
    end = vocabulary["<|endoftext|>"]
    config = GPT2Config(
        vocab_size=len(vocabulary), n_embd=48, n_layer=2, n_head=3, bos_token_id=end, eos_token_id=end, n_positions=64
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(params=gpt2_model.REPOSITORIES)
def cached(request, tiny_gpt2, hub_cache, monkeypatch) -> Path:
    """The tiny model in the cache, under either name of the repository, with its own checksums pinned."""
    folder = hub_cache / f"models--{request.param.replace('/', '--')}" / "snapshots" / gpt2_model.REVISION
    folder.mkdir(parents=True)
    for name in gpt2_model.DIGESTS:
        shutil.copy(tiny_gpt2 / name, folder)
    monkeypatch.setattr(gpt2_model, "DIGESTS", {name: sha256(tiny_gpt2 / name) for name in gpt2_model.DIGESTS})
    return folder


def test_cached_model_needs_no_hub(cached, tiny_gpt2):
    from transformers import GPT2LMHeadModel

    bridge = models.gpt2()
    plain = GPT2LMHeadModel.from_pretrained(tiny_gpt2).eval()
    tokens = bridge.to_tokens("to the test")
    with torch.no_grad():
        logits, cache = bridge.run_with_cache(tokens)
        assert (logits - plain(tokens).logits).abs().max() <= 1e-4
    assert cache["pattern", 1].shape == (1, 3, tokens.shape[1], tokens.shape[1])
    assert bridge.W_Q.shape == (2, 3, 48, 16)
    assert bridge.W_pos.shape == (64, 48)
    assert not bridge.training, "dropout would change every run"


def test_plain_model_needs_no_hub(cached, tiny_gpt2):
    from transformers import GPT2LMHeadModel

    model, tokenizer = models.gpt2_hf()
    right = GPT2LMHeadModel.from_pretrained(tiny_gpt2).state_dict()
    assert type(model) is GPT2LMHeadModel
    assert not model.training, "dropout would change every run"
    assert model.state_dict().keys() == right.keys()
    assert all(w.equal(right[name]) and w.dtype == torch.float32 for name, w in model.state_dict().items())
    tokens = tokenizer("<|endoftext|>a to").input_ids
    assert tokenizer.convert_ids_to_tokens(tokens) == ["<|endoftext|>", "a", "Ġt", "o"]
    assert tokenizer("a").input_ids == tokens[1:2], "nothing is put in front of a text"
    again, _ = models.gpt2_hf()
    assert again is not model, "a learner who changes one must not change the next"


def test_a_text_starts_with_the_end_of_another(cached):
    bridge = models.gpt2()
    assert bridge.to_str_tokens("a to") == ["<|endoftext|>", "a", " t", "o"]
    assert bridge.to_string(bridge.to_tokens("a to", prepend_bos=False)[0]) == "a to"


@pytest.mark.parametrize("load", [models.gpt2, models.gpt2_hf])
def test_damaged_file_is_named(cached, load):
    path = cached / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)
    with pytest.raises(CourseError, match="is damaged") as error:
        load()
    assert str(path) in str(error.value) and str(cached.parent.parent) in str(error.value)


def assert_names_the_alternative(load=models.gpt2, instead="models.smollm2()"):
    start = time.perf_counter()
    with pytest.raises(CourseError, match=rf"hub did not answer.* use {re.escape(instead)}, ") as error:
        load()
    assert "\n" not in str(error.value)
    assert time.perf_counter() - start < 60  # without a limit it is minutes


def test_hub_out_of_reach(hub_cache):
    assert_names_the_alternative()


def test_plain_model_out_of_reach(hub_cache):
    assert_names_the_alternative(load=models.gpt2_hf, instead="models.smollm2_hf()")


def test_hub_switched_off(hub_cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_names_the_alternative()


def test_hub_that_never_answers(hub_cache, monkeypatch):
    """A network that swallows packets: without a limit the hub's own client waits for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(gpt2_model, "PATIENCE", 1.0)
        assert_names_the_alternative()


@pytest.mark.parametrize(
    ("answer", "words"),
    [(401, "HF_TOKEN"), (403, "does not let this machine in"), (429, "too many requests"), (404, None), (500, None)],
)
def test_hub_that_refuses_is_named_with_its_answer(hub_cache, monkeypatch, answer, words):
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(answer)

        do_HEAD = do_GET

        def log_message(self, *_):
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(CourseError) as error:
            models.gpt2()
        server.shutdown()
    said = str(error.value)
    assert "use models.smollm2(), which needs no hub" in said and "\n" not in said
    assert (f"hub answered {answer}, " in said and words in said) if words else "hub did not answer" in said


def test_half_a_download_is_no_model(cached):
    (cached / "tokenizer.json").unlink()
    assert gpt2_model.cached_folder() is None


def test_fetch_asks_for_the_pinned_files_only(hub_cache, monkeypatch):
    asked = {}

    def download(repository, **options):
        asked.update(options, repository=repository)
        return "folder"

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert gpt2_model.fetch() == Path("folder")
    assert asked == {
        "repository": "openai-community/gpt2",
        "revision": gpt2_model.REVISION,
        "allow_patterns": ["config.json", "tokenizer.json", "model.safetensors"],
    }


def test_full_disk(hub_cache, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(CourseError, match="The disk is full"):
        models.gpt2()
