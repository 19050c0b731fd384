"""Train `brackets`: a small bidirectional transformer that says whether a string of brackets is balanced.

It reads START, up to 40 brackets, END and padding, and answers from its output at START. New strings at every step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from concrete_steps import training
from concrete_steps.games import brackets
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

STEPS = 5_000
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


def main(argv: list[str] | None = None) -> None:
    args = training.arguments("brackets", STEPS, __doc__.splitlines()[0], argv)
    model = new_model(args.seed).to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)

    def loss_at(step: int) -> Tensor:
        tokens, balanced, _ = brackets.sample(STRINGS_A_STEP, training.step_generator(args.seed, step))
        logits = brackets.classify(model, tokens.to(args.device))
        return torch.nn.functional.cross_entropy(logits, balanced.long().to(args.device))

    run = training.train(
        args, model, optimizer, loss_at,
        schedule=lambda step: training.warmup_cosine(step, warmup=200, length=STEPS), clip=1.0,
    )  # fmt: skip
    print(run.steps_done)


if __name__ == "__main__":
    main()
