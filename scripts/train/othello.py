"""Train `othello_6x6`: a GPT that reads the moves of random Othello games and predicts which moves are legal next.

It never sees a board. The moves are drawn uniformly from the legal ones, so the best prediction is the uniform
distribution over them: the loss is the cross-entropy with that distribution. Its mean is that of the usual loss on the
move that was drawn, with less noise, and its lowest possible value is known: the mean of log(number of legal moves).
Every step plays new games (Li et al. 2022 trained on games stored beforehand, on 8x8).
"""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from concrete_steps.games import measures, othello, plain
from concrete_steps.models import training

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

STEPS = 45_000
WARMUP = 300
FALLS = [(15_000, 20_000, 1.0), (20_000, 30_000, 0.6), (30_000, STEPS, 0.8)]  # from step, to step, first factor
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
    """Learning-rate factor: up in WARMUP steps, then 1, then in each of FALLS anew down to 0."""
    for start, end, factor in FALLS:
        if start <= step < end:
            return factor * (end - step) / (end - start)
    return min((step + 1) / WARMUP, 1.0) if step < STEPS else 0.0


def main(argv: list[str] | None = None) -> None:
    args = training.arguments("othello_6x6", STEPS, __doc__.splitlines()[0], argv)
    model = new_model(args.seed).to(args.device)
    weights = model.state_dict(keep_vars=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01, betas=(0.9, 0.98))

    def loss_at(step: int) -> Tensor:
        games = othello.random_games(GAMES_A_STEP, training.step_generator(args.seed, step))
        return loss_on(plain.logits(weights, CONFIG, games.inputs.to(args.device)), games)

    run = training.train(args, model, optimizer, loss_at, schedule=schedule, clip=1.0)
    model.cpu().load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    stored = {name: tensor.half() for name, tensor in model.state_dict().items()}  # exact: half the file, same claims
    training.write_model(args, run, stored, datasheet(model, args))


def datasheet(model: TransformerBridge, args: Namespace) -> dict:
    return {
        "architecture": {"class": "TransformerBridge.boot_native", "config": {**CONFIG, "seed": args.seed}},
        "data": f"concrete_steps.games.othello: {GAMES_A_STEP} new games a step, every move uniform among the legal "
        "ones. After some ten moves hardly any held-out game occurred in training.",
        "licence": "MIT",
        "circuit": "Early layers work out the board as the mover's and the opponent's discs, later ones the legal "
        "moves (Li et al. 2022; Nanda et al. 2023). Verified by linear probes after every layer (probe_accuracy): they "
        "read mine and yours far better than black and white, and far better than from an untrained model.",
        **({"claims": []} if args.no_claims else measured(model, args.seed)),
    }


def measured(model: TransformerBridge, seed: int) -> dict:
    """What is claimed of the model (with its weights as stored), beside the same model untrained."""
    has, control = (measures.othello_6x6(which) for which in (model, new_model(seed).eval()))
    is_control, held_out = "the same model before training", "500 held-out games, all plies before the end"
    best = max(range(CONFIG["n_layers"]), key=lambda layer: has[f"mine_yours {layer}"])
    claims = [
        training.claim(
            "its likeliest move is legal", f"share of positions; {held_out}",
            has["top1_legal"], control["top1_legal"], is_control, at_least=0.99, key="top1_legal",
        ),
        training.claim(
            "it gives most probability to legal moves", f"mean probability of the legal moves; {held_out}",
            has["legal_mass"], control["legal_mass"], is_control, at_least=0.9, key="legal_mass",
        ),
        training.claim(
            "it is close to the law of the games", f"mean KL divergence in nats from the uniform law; {held_out}",
            has["gap"], control["gap"], is_control, at_most=0.1, key="gap",
        ),
        training.claim(
            f"it holds the board, as the mover sees it, in the residual stream after layer {best}",
            "share of squares whose state (empty, the mover's, the opponent's) a linear probe reads rightly",
            has[f"mine_yours {best}"], control[f"mine_yours {best}"], is_control, at_least=0.9,
            key=f"mine_yours {best}",
        ),
    ]  # fmt: skip
    probes = {key: round(value, 4) for key, value in has.items() if "mine" in key or "black" in key}
    return {"probe_accuracy": probes, "claims": claims}


if __name__ == "__main__":
    main()
