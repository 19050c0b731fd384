"""Train `othello_6x6`: a GPT that reads the moves of random Othello games and predicts which moves are legal next.

It never sees a board. The moves are drawn uniformly from the legal ones, so the best prediction is the uniform
distribution over them: the loss is the cross-entropy with that distribution. Its mean is that of the usual loss on the
move that was drawn, with less noise, and its lowest possible value is known: the mean of log(number of legal moves).
Every step plays new games (Li et al. 2022 trained on games stored beforehand, on 8x8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from concrete_steps import training
from concrete_steps.games import othello
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

STEPS = 8_000
WARMUP = 300
DECAY = 1_500  # over the last steps the learning rate falls to 0
GAMES_A_STEP = 32
CONFIG = {
    "d_model": 128, "d_head": 32, "n_heads": 4, "n_layers": 6, "d_mlp": 512, "act_fn": "gelu",
    "n_ctx": othello.PLIES, "d_vocab": othello.N_TOKENS, "d_vocab_out": othello.N_SQUARES + 1,
    "normalization_type": "LNPre",
}  # fmt: skip


def new_model(seed: int) -> TransformerBridge:
    """The untrained model. Input: START and the moves so far; output: squares 0..35 and PASS, after each of them."""
    from transformer_lens import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_native(TransformerBridgeConfig(**CONFIG, seed=seed), tokenizer=None)


def loss_on(logits: Float[Tensor, "game ply move"], games: othello.Games) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats with the uniform distribution over legal moves, over plies before the game's end."""
    legal = games.legal.to(logits.device).float()
    law = legal / legal.sum(-1, keepdim=True)
    per_ply = -(law * logits.log_softmax(-1)).sum(-1)
    return per_ply[~games.over.to(logits.device)].mean()


def schedule(step: int) -> float:
    """Learning-rate factor: up in WARMUP steps, then 1, then down to 0 in the last DECAY steps."""
    return max(min((step + 1) / WARMUP, 1.0, (STEPS - step) / DECAY), 0.0)


def main(argv: list[str] | None = None) -> None:
    args = training.arguments("othello_6x6", STEPS, __doc__.splitlines()[0], argv)
    model = new_model(args.seed).to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01, betas=(0.9, 0.98))

    def loss_at(step: int) -> Tensor:
        games = othello.random_games(GAMES_A_STEP, training.step_generator(args.seed, step))
        return loss_on(model(games.inputs.to(args.device)), games)

    run = training.train(
        args, model, optimizer, loss_at,
        schedule=schedule, clip=1.0,
    )  # fmt: skip
    print(run.steps_done)


if __name__ == "__main__":
    main()
