"""The small models that come with the course: data/models/NAME, made by scripts/train/, loaded as a TransformerBridge.

`load` checks everything before a weight reaches a model: the datasheet's seal, each file's sha256, and that names and
shapes are those of the architecture. What does not agree raises a CourseError that names the file and the remedy.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concrete_steps.errors import CourseError
from concrete_steps.paths import data_dir

if TYPE_CHECKING:
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

withheld: list[str] = []  # while anything stands here, no weights are given out, for the reason that stands last
REMEDY = "restore it with `git checkout -- data/models`, or install concrete-steps again"


def names() -> list[str]:
    """The shipped models, in alphabetical order."""
    return sorted(sheet.parent.name for sheet in (data_dir() / "models").glob("*/datasheet.json"))


def datasheet(name: str) -> dict[str, Any]:
    """The model's datasheet: architecture, data, steps, seed, wall time, licence, circuit and measured claims."""
    from concrete_steps.models.training import seal

    path = _folder(name) / "datasheet.json"
    try:
        sheet = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CourseError(f"{path} is missing; {REMEDY}.") from None
    except (ValueError, UnicodeDecodeError):
        raise CourseError(f"{path} is not valid JSON; {REMEDY}.") from None
    if not isinstance(sheet, dict) or sheet.get("seal") != seal(sheet):
        raise CourseError(f"{path} was changed after the model was made (its seal does not agree); {REMEDY}.")
    return sheet


def checkpoints(name: str) -> list[int]:
    """The training steps at which weights were kept, in order; each can be given to `load` as `step`."""
    return datasheet(name)["checkpoints"]


def state_dict(name: str, step: int | None = None) -> "dict[str, Tensor]":
    """The model's verified weights in float32, by parameter name: the final ones, or those after `step` updates.

    Raises:
        CourseError: unknown name or step; or a file that is missing or does not agree with the datasheet.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    sheet = datasheet(name)
    if step is not None and step not in sheet["checkpoints"]:
        kept = ", ".join(map(str, sheet["checkpoints"])) or "none"
        raise CourseError(f"{name} has no checkpoint at step {step!r}; the steps are: {kept}.")
    file, prefix = ("model.safetensors", "") if step is None else ("checkpoints.safetensors", f"{step:06d}/")
    path = verified_file(name, file, sheet)
    try:
        with safe_open(path, framework="pt") as weights:
            keys = [key for key in weights.keys() if key.startswith(prefix)]  # noqa: SIM118 (not a dict)
            return {key.removeprefix(prefix): weights.get_tensor(key).to(torch.float32) for key in keys}
    except SafetensorError as problem:
        raise CourseError(f"{path} is not a readable safetensors file ({problem}); {REMEDY}.") from problem


def load(name: str, step: int | None = None, device: str = "cpu") -> "TransformerBridge":
    """A shipped model in evaluation mode, final or after `step` updates, with its tokenizer where it has one.

    All but "story_lm" are native to TransformerLens: in these `cache["attn_scores", layer]` holds the pattern, not the
    scores, and edits there are lost (notebook 3.1 says so, and makes the scores from queries and keys).

    Args:
        name: one of `names()`.
        step: one of `checkpoints(name)`, or None for the final weights.
        device: "cpu" or "cuda"; tokens must lie there too (`tokens.to("cuda")`).

    Raises:
        CourseError: as `state_dict`; or names or shapes of the weights that are not the architecture's.
    """
    sheet = datasheet(name)
    weights = state_dict(name, step)
    architecture = sheet["architecture"]
    tokenizer = _tokenizer(architecture.get("tokenizer"))
    where = _folder(name)
    if architecture["class"] == "GPT2LMHeadModel":
        bridge = _gpt2(name, architecture["config"], weights, tokenizer, where, device)
    else:
        bridge = _native(architecture["config"], weights, tokenizer, where, device)
    return bridge.eval()


def verified_file(name: str, file: str, sheet: dict[str, Any] | None = None) -> Path:
    """The path of one of the model's files, after its size and sha256 were compared with the datasheet's."""
    from concrete_steps.models.training import sha256

    if withheld:
        raise CourseError(withheld[-1])
    sheet = sheet or datasheet(name)
    path = _folder(name) / file
    if file not in sheet["files"]:
        raise CourseError(f"{path} is not among the files of {name}; they are: {', '.join(sheet['files'])}.")
    if not path.is_file():
        raise CourseError(f"{path} is missing; {REMEDY}.")
    if path.stat().st_size != sheet["files"][file]["bytes"] or sha256(path) != sheet["files"][file]["sha256"]:
        raise CourseError(f"{path} is damaged (its sha256 is not the datasheet's); {REMEDY}.")
    return path


def _folder(name: str) -> Path:
    folder = data_dir() / "models" / str(name)
    shelves = data_dir() / "models", data_dir() / "models" / "mystery"
    if not folder.is_dir() or folder.parent not in shelves:
        raise CourseError(
            f"There is no shipped model {name!r}; the shipped models are: {', '.join(names()) or 'none'}."
        )
    return folder


def _native(config: dict, weights: "dict[str, Tensor]", tokenizer, where: Path, device: str) -> "TransformerBridge":
    from transformer_lens import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_native(TransformerBridgeConfig(**config), tokenizer=tokenizer, device=device)
    _require_same_shapes(bridge.state_dict(), weights, where)
    bridge.load_state_dict(weights)
    return bridge


def _gpt2(
    name: str, config: dict, weights: "dict[str, Tensor]", tokenizer, where: Path, device: str
) -> "TransformerBridge":
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(**config)).eval()
    _require_same_shapes(model.state_dict(), weights, where)
    model.load_state_dict(weights)
    return TransformerBridge.boot_transformers(name, hf_model=model.to(device), tokenizer=tokenizer, device=device)


def _require_same_shapes(expected: "dict[str, Tensor]", given: "dict[str, Tensor]", where: Path) -> None:
    wrong = sorted(
        key
        for key in expected.keys() | given.keys()
        if key not in expected or key not in given or expected[key].shape != given[key].shape
    )
    if wrong:
        raise CourseError(f"The weights in {where} do not fit their architecture (first: {wrong[0]}); {REMEDY}.")


def _tokenizer(which: str | None):
    if which is None:
        return None
    from concrete_steps import corpus

    return corpus.tokenizer()
