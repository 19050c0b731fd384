"""Train `brackets`: a small bidirectional transformer that says whether a string of brackets is balanced.

It reads START, up to 40 brackets, END and padding, and answers from its output at START. New strings at every step.
"""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from concrete_steps.games import brackets, measures, plain
from concrete_steps.models import training

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

STEPS = 3_000
WARMUP = 200
DECAY = 1_300  # over the last steps the learning rate falls to 0; before that, slowly along a longer cosine
STRINGS_A_STEP = 256
CONFIG = {
    "d_model": 56, "d_head": 28, "n_heads": 2, "n_layers": 3, "d_mlp": 56, "act_fn": "relu",
    "n_ctx": brackets.N_CTX, "d_vocab": brackets.N_TOKENS, "d_vocab_out": 2,
    "normalization_type": "LN", "attention_dir": "bidirectional",
}  # fmt: skip


def new_model(seed: int) -> TransformerBridge:
    """The untrained model. Input: tokens of `games.brackets`; output at position 0: "not balanced", "balanced"."""
    from transformer_lens import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_native(TransformerBridgeConfig(**CONFIG, seed=seed), tokenizer=None)


def schedule(step: int) -> float:
    """Learning-rate factor of each step."""
    return training.warmup_cosine(step, WARMUP, length=5_000) * max(min(1.0, (STEPS - step) / DECAY), 0.0)


def main(argv: list[str] | None = None) -> None:
    args = training.arguments("brackets", STEPS, __doc__.splitlines()[0], argv)
    model = new_model(args.seed).to(args.device)
    weights = model.state_dict(keep_vars=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)

    def loss_at(step: int) -> Tensor:
        tokens, balanced, _ = brackets.sample(STRINGS_A_STEP, training.step_generator(args.seed, step))
        tokens = tokens.to(args.device)
        logits = plain.logits(weights, CONFIG, tokens, may_read=tokens != brackets.PAD)[:, 0]
        return torch.nn.functional.cross_entropy(logits, balanced.long().to(args.device))

    run = training.train(args, model, optimizer, loss_at, schedule=schedule, clip=1.0)
    model.cpu()
    training.write_model(args, run, model.state_dict(), datasheet(model, args))


def datasheet(model: TransformerBridge, args: Namespace) -> dict:
    return {
        "architecture": {"class": "TransformerBridge.boot_native", "config": {**CONFIG, "seed": args.seed}},
        "data": f"concrete_steps.games.brackets: {STRINGS_A_STEP} new strings a step. Long held-out strings were never "
        "trained on; of the short ones (up to about 12 brackets) there are so few that many were.",
        "licence": "MIT",
        "circuit": "A string fails for two reasons: the count is wrong, or the height falls below 0. Both can be read "
        "at START, where the verdict is given. Verified by linear probes among unbalanced strings (probe_r2), beside "
        "the same probes on the untrained model; which heads and neurons do it is left for you to find.",
        **({"claims": []} if args.no_claims else measured(model, args.seed)),
    }


def measured(model: TransformerBridge, seed: int) -> dict:
    """What is claimed of the model, beside the same model untrained."""
    has, control = (measures.bracket_classifier(which) for which in (model, new_model(seed).eval()))
    least = {"accuracy": 0.999} | {f"accuracy {kind}": 0.99 for kind in brackets.KINDS}
    claims = [
        training.claim(
            "tells balanced strings from the others" if key == "accuracy" else brackets.KINDS[int(key[-1])],
            "accuracy on 5,000 held-out strings" if key == "accuracy" else "accuracy on the held-out strings so drawn",
            has[key], control[key], "the same model before training", at_least=least[key], key=key,
        )
        for key in least
    ]  # fmt: skip
    probes = {
        who: {key: round(value, 4) for key, value in found.items() if "_r2" in key}
        for who, found in [("trained", has), ("untrained", control)]
    }
    return {"probe_r2": probes, "claims": claims}


if __name__ == "__main__":
    main()
