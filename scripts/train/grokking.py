"""Train `grokking`: one-layer addition modulo 113, as in Nanda et al. 2023, *Progress measures for grokking*.

    python scripts/train/grokking.py

The model reads "a b =" and must say (a + b) mod 113. It memorises its 30 % of all pairs first, and generalises much
later. Trained in full batches with `modular_addition.fast_logits`.
"""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from concrete_steps.games import measures
from concrete_steps.games import modular_addition as addition
from concrete_steps.games.modular_addition import P, loss_and_accuracy
from concrete_steps.models import training

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

STEPS = 25_000
WARMUP = 10
CURVE_EVERY = 50
MEMORISING = [0, 50, 100, 150, 200, 300, 500, 1000]
FORMING_THE_CIRCUIT = [2000, 4000, 6000, 8000, 9000, 10_000, 11_000, 12_000, 12_500, 13_000, 13_500, 14_000]
CLEANING_UP = [14_500, 15_000, 15_500, 16_000, 16_500, 17_000, 18_000, 20_000, 22_500, 25_000]
CHECKPOINTS = [*MEMORISING, *FORMING_THE_CIRCUIT, *CLEANING_UP]
CONFIG = {
    "d_model": 128, "d_head": 32, "n_heads": 4, "n_layers": 1, "n_ctx": 3, "d_vocab": P + 1, "d_vocab_out": P,
    "d_mlp": 512, "act_fn": "relu", "normalization_type": None,
}  # fmt: skip


def new_model(seed: int) -> TransformerBridge:
    """The untrained model: biases exist in the library's modules but are zero and stay zero (the paper has none)."""
    from transformer_lens import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    model = TransformerBridge.boot_native(TransformerBridgeConfig(**CONFIG, seed=seed), tokenizer=None)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.requires_grad_(False)
    return model


def main(argv: list[str] | None = None) -> None:
    args = training.arguments("grokking", STEPS, __doc__.splitlines()[0], argv)
    model = new_model(args.seed).to(args.device)
    train_pairs, test_pairs = (pairs.to(args.device) for pairs in addition.split_pairs(args.seed))
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=1.0, betas=(0.9, 0.98))
    curve_file = args.cache / "curve.jsonl"
    curve_file.parent.mkdir(parents=True, exist_ok=True)

    def loss_at(step: int) -> Tensor:
        loss, accuracy = loss_and_accuracy(addition.fast_logits(model, train_pairs), train_pairs)
        if step % CURVE_EVERY == 0:
            with torch.no_grad():
                test_loss, test_accuracy = loss_and_accuracy(addition.fast_logits(model, test_pairs), test_pairs)
            point = {"step": step, "train_loss": loss.item(), "train_accuracy": accuracy}
            point |= {"test_loss": test_loss.item(), "test_accuracy": test_accuracy}
            with curve_file.open("a") as file:
                file.write(json.dumps(point) + "\n")
        return loss

    run = training.train(
        args, model, optimizer, loss_at,
        schedule=lambda step: min((step + 1) / WARMUP, 1.0), checkpoint_steps=CHECKPOINTS, log_every=10,
    )  # fmt: skip
    curve = read_curve(curve_file, run.steps_done)
    training.write_model(args, run, model.state_dict(), datasheet(model.cpu(), curve, args))
    add_to_losses(args.out, curve)


def read_curve(file: Path, steps_done: int) -> dict[str, list[float]]:
    """Train and test loss and accuracy every CURVE_EVERY steps; of a step run twice (after resuming) the later line."""
    points = {point["step"]: point for point in map(json.loads, file.read_text().splitlines())}
    kept = [points[step] for step in sorted(points) if step < steps_done]
    return {key: [point[key] for point in kept] for key in kept[0]}


def add_to_losses(folder: Path, curve: dict[str, list[float]]) -> None:
    """Put the curve into losses.json, as "curve", and seal the datasheet with the file's new checksum."""
    losses, sheet = (json.loads((folder / name).read_text()) for name in ("losses.json", "datasheet.json"))
    (folder / "losses.json").write_bytes(json.dumps({**losses, "curve": curve}).encode() + b"\n")
    sheet["files"]["losses.json"] = {
        "bytes": (folder / "losses.json").stat().st_size,
        "sha256": training.sha256(folder / "losses.json"),
    }
    sheet["seal"] = training.seal(sheet)
    (folder / "datasheet.json").write_bytes(json.dumps(sheet, indent=1).encode() + b"\n")


def first_step(curve: dict[str, list[float]], which: str, at_least: float) -> int | None:
    """The first recorded step at which the accuracy is high enough, if there is one."""
    reached = [step for step, accuracy in zip(curve["step"], curve[which], strict=True) if accuracy >= at_least]
    return reached[0] if reached else None


def datasheet(model: TransformerBridge, curve: dict[str, list[float]], args: Namespace) -> dict:
    """What is claimed of the model, measured beside the same model untrained."""
    frequencies = addition.key_frequencies(model.embed.weight[:P].detach())
    has, control = (measures.grokking(which, frequencies, args.seed) for which in (model, new_model(args.seed)))
    memorised = first_step(curve, "train_accuracy", 1.0)
    generalised = first_step(curve, "test_accuracy", 0.99)
    is_control = "the same model before training"
    claims = [
        training.claim(
            "adds pairs that it was never shown", "accuracy on the 8939 pairs held out",
            has["test_accuracy"], control["test_accuracy"], is_control, at_least=1.0, key="test_accuracy",
        ),
        training.claim(
            f"holds numbers as waves of {len(frequencies)} key frequencies: {frequencies}",
            "share of the embedding's Fourier power (without the constant) in these frequencies",
            has["embedding_share"], control["embedding_share"], is_control, at_least=0.8, key="embedding_share",
        ),
        training.claim(
            "its logits are sums of cos(2 pi k (a + b - c) / 113) over the key frequencies k",
            "share of the variance of all logits that these waves explain",
            has["cosine_share"], control["cosine_share"], is_control, at_least=0.8, key="cosine_share",
        ),
    ]  # fmt: skip
    later = -1 if memorised is None else memorised + 2000
    if later in curve["step"]:
        test, train = (curve[f"{part}_accuracy"][curve["step"].index(later)] for part in ("test", "train"))
        groks = f"groks: it memorises by step {memorised}, and reaches test accuracy 0.99 only at step {generalised}"
        how = f"test accuracy at step {later}"
        claims.append(training.claim(groks, how, test, train, "train accuracy then", at_most=0.1, key="memorising"))
    return {
        "architecture": {"class": "TransformerBridge.boot_native", "config": {**CONFIG, "seed": args.seed}},
        "data": "concrete_steps.games.modular_addition: all 113 x 113 pairs, 30 % for training, in one batch",
        "licence": "MIT",
        "circuit": "The embedding turns a and b into waves of a few frequencies; attention brings both to '=', where "
        "the MLP multiplies them into waves of a + b; the unembedding compares these with the wave of every c "
        "(Nanda et al. 2023). Verified by the two shares below; attention and MLP are left for you to read.",
        "key_frequencies": frequencies,
        "train_loss": has["train_loss"],
        "test_loss": has["test_loss"],
        "claims": [] if args.no_claims else claims,
    }


if __name__ == "__main__":
    main()
