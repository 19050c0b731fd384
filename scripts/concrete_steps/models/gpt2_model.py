"""GPT-2 small, the model that most papers of the course are about: 12 layers, 12 heads, d_model 768.

It comes from the Hugging Face hub (0.55 GB, MIT licence), at a pinned revision and with pinned checksums. Where the hub
cannot be reached this says so within seconds; models.smollm2() is the real model that needs no hub.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from concrete_steps.errors import CourseError
from concrete_steps.models.download import REFUSALS, is_disk_full, sha256

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import GPT2LMHeadModel, GPT2TokenizerFast

REPOSITORIES = ("openai-community/gpt2", "gpt2")  # two names of one repository; either may be in the cache already
REVISION = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
DIGESTS = {
    "config.json": "0daed7749b4f02b8f76240d5444551d7b08712dab4d0adb8239c56ba823bb7b4",
    "tokenizer.json": "8414cab924d8b9b33013f0d221c5862f365ee9be39c5c2bfae8a5a9e970478a6",
    "model.safetensors": "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
}
TOKEN = " (`hf auth logout`, or the variable HF_TOKEN)"
PATIENCE = 5.0  # seconds to wait for the hub's first answer


def gpt2(device: str = "cpu") -> "TransformerBridge":
    """GPT-2 small as a TransformerBridge in evaluation mode, float32, with its tokenizer.

    Args:
        device: "cpu" or "cuda"; tokens must lie there too (`tokens.to("cuda")`).

    Raises:
        CourseError: not in the cache and the hub does not answer, or a cached file is damaged.
    """
    from transformer_lens.model_bridge import TransformerBridge

    folder = fetch()
    model = _load_model(folder, device)
    tokenizer = _load_tokenizer(folder, add_bos_token=True)
    return TransformerBridge.boot_transformers("gpt2", hf_model=model, tokenizer=tokenizer, device=device)


def gpt2_hf(device: str = "cpu") -> "tuple[GPT2LMHeadModel, GPT2TokenizerFast]":
    """The same model as a plain transformers module, and its tokenizer: `model, tokenizer = gpt2_hf()`.

    The tokenizer is as the model's authors have it: nothing is put in front of a text. Give a bridge a copy of its own:
    it changes the module that it wraps.

    Args, Raises: as `gpt2`.
    """
    folder = fetch(instead="models.smollm2_hf()")
    return _load_model(folder, device), _load_tokenizer(folder)


def cached_folder() -> Path | None:
    """The folder in the hub's cache that holds every file of the pinned revision, or None."""
    from huggingface_hub import try_to_load_from_cache

    for repository in REPOSITORIES:
        paths = [try_to_load_from_cache(repository, name, revision=REVISION) for name in DIGESTS]
        if all(isinstance(path, str) for path in paths):
            return Path(paths[0]).parent
    return None


def fetch(instead: str = "models.smollm2()") -> Path:
    """The folder with GPT-2's files, downloaded from the hub when they are not in its cache.

    Args:
        instead: what the error recommends where the hub does not answer.

    Raises:
        CourseError: the hub does not answer, or the disk is full.
    """
    from huggingface_hub import HfApi, snapshot_download

    folder = cached_folder()
    if folder is not None:
        return folder
    try:
        # A download retries for minutes before it gives up. This question does not.
        HfApi().model_info(REPOSITORIES[0], revision=REVISION, timeout=PATIENCE)
        return Path(snapshot_download(REPOSITORIES[0], revision=REVISION, allow_patterns=list(DIGESTS)))
    except Exception as error:  # the hub's client raises errors of several libraries, other ones in each release
        if is_disk_full(error):
            raise CourseError("The disk is full: GPT-2 small needs 0.55 GB; make room and run this again.") from error
        if (code := answer_of(error)) in REFUSALS:
            raise CourseError(
                f"GPT-2 small is not on this machine and the Hugging Face hub answered {code}, {REFUSALS[code]}"
                f"{TOKEN if code == 401 else ''}; or use {instead}, which needs no hub."
            ) from error
        raise CourseError(
            "GPT-2 small is not on this machine and the Hugging Face hub did not answer: connect and run this again, "
            f"or use {instead}, which needs no hub."
        ) from error


def answer_of(error: BaseException | None) -> int | None:
    """The number of the server's answer that stands behind an error, or None if none came."""
    while error is not None:
        code = getattr(getattr(error, "response", None), "status_code", None)
        if code is not None:
            return code
        error = error.__cause__ or error.__context__
    return None


def verify(folder: Path) -> None:
    """Compare the files with their pinned checksums. Raises CourseError naming the first that is damaged."""
    for name, digest in DIGESTS.items():
        if sha256(folder / name) != digest:
            raise CourseError(
                f"The cached file {folder / name} is damaged (its sha256 is not GPT-2's); delete the folder "
                f"{folder.parent.parent} and run this again, which downloads GPT-2 small anew."
            )


def _load_model(folder: Path, device: str) -> "GPT2LMHeadModel":
    import torch
    from transformers import GPT2LMHeadModel

    verify(folder)
    return GPT2LMHeadModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).to(device).eval()


def _load_tokenizer(folder: Path, **options: bool) -> "GPT2TokenizerFast":
    from transformers import GPT2TokenizerFast

    return GPT2TokenizerFast.from_pretrained(folder, local_files_only=True, **options)
