"""Train `grokking`: one-layer modular addition, as in Nanda et al. 2023, *Progress measures for grokking*.

The model reads "a b =" and must say (a + b) mod 113. It memorises 30 % of all pairs first and generalises much later.
Only the last position is read, so the training computes queries, MLP and logits there alone, and keys and values once
per number instead of once per pair: the same function (a test compares it with the bridge) at ten times the speed.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from concrete_steps import training

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

P = 113
EQUALS = P  # the token "=", one past the numbers 0..112
TRAIN_FRACTION = 0.3
WARMUP = 10
STEPS = 25_000
CURVE_EVERY = 50
CHECKPOINTS = [0, 50, 100, 150, 200, 300, 400, *range(500, STEPS + 1, 250)]


def new_model(seed: int) -> TransformerBridge:
    """The untrained model: biases exist in the library's modules but are zero and stay zero (the paper has none)."""
    from transformer_lens import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    config = TransformerBridgeConfig(
        d_model=128, d_head=32, n_heads=4, n_layers=1, n_ctx=3, d_vocab=P + 1, d_vocab_out=P, d_mlp=512,
        act_fn="relu", normalization_type=None, seed=seed,
    )  # fmt: skip
    model = TransformerBridge.boot_native(config, tokenizer=None)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.requires_grad_(False)
    return model


def split_pairs(seed: int) -> tuple[Int[Tensor, "train 2"], Int[Tensor, "test 2"]]:
    """All 113 x 113 pairs (a, b), shuffled by the seed; the first 30 % (3830) are for training."""
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    pairs = pairs[torch.randperm(P * P, generator=torch.Generator().manual_seed(seed))]
    n_train = int(P * P * TRAIN_FRACTION)
    return pairs[:n_train], pairs[n_train:]


def tokens(pairs: Int[Tensor, "pair 2"]) -> Int[Tensor, "pair 3"]:
    """What the bridge reads: a, b, "="."""
    return torch.cat([pairs, torch.full_like(pairs[:, :1], EQUALS)], dim=1)


def fast_logits(model: TransformerBridge, pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, "pair p"]:
    """`model(tokens(pairs))[:, -1]`, without the work that cannot reach the last position."""
    cfg, attn, mlp = model.cfg, model.blocks[0].attn, model.blocks[0].mlp
    embed, pos = model.embed.weight, model.pos_embed.weight
    equals = embed[EQUALS] + pos[2]  # the last position's resid_pre is the same for every pair

    def heads(x: Float[Tensor, "... d_model"], weight: Tensor) -> Float[Tensor, "... head d_head"]:
        return (x @ weight.T).unflatten(-1, (cfg.n_heads, cfg.d_head))

    q = heads(equals, attn.q.weight)
    scores, values = [], []
    for resid, token in [(embed[:P] + pos[0], pairs[:, 0]), (embed[:P] + pos[1], pairs[:, 1])]:
        scores.append((heads(resid, attn.k.weight) * q).sum(-1)[token])
        values.append(heads(resid, attn.v.weight)[token])
    scores.append((heads(equals, attn.k.weight) * q).sum(-1).expand_as(scores[0]))
    values.append(heads(equals, attn.v.weight))

    pattern = (torch.stack(scores, dim=-1) / math.sqrt(cfg.d_head)).softmax(-1)
    z = sum(weight[..., None] * value for weight, value in zip(pattern.unbind(-1), values, strict=True))
    resid_mid = equals + z.flatten(-2) @ attn.o.weight.T
    post = torch.relu(resid_mid @ getattr(mlp, "in").weight.T)
    return (resid_mid + post @ mlp.out.weight.T) @ model.unembed.weight.T


def loss_and_accuracy(logits: Float[Tensor, "pair p"], pairs: Int[Tensor, "pair 2"]) -> tuple[Tensor, float]:
    """Mean cross-entropy in nats, in float64 (in float32 losses below 1e-7 round to 0 and training jumps); accuracy."""
    answers = pairs.sum(-1) % P
    loss = torch.nn.functional.cross_entropy(logits.double(), answers)
    return loss, (logits.argmax(-1) == answers).double().mean().item()


def main(argv: list[str] | None = None) -> None:
    args = training.arguments("grokking", STEPS, __doc__.splitlines()[0], argv)
    model = new_model(args.seed).to(args.device)
    train_pairs, test_pairs = (pairs.to(args.device) for pairs in split_pairs(args.seed))
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=1.0, betas=(0.9, 0.98))
    curve_file = args.cache / "curve.jsonl"
    curve_file.parent.mkdir(parents=True, exist_ok=True)

    def loss_at(step: int) -> Tensor:
        loss, accuracy = loss_and_accuracy(fast_logits(model, train_pairs), train_pairs)
        if step % CURVE_EVERY == 0:
            with torch.no_grad():
                test_loss, test_accuracy = loss_and_accuracy(fast_logits(model, test_pairs), test_pairs)
            point = {"step": step, "train_loss": loss.item(), "train_accuracy": accuracy}
            point |= {"test_loss": test_loss.item(), "test_accuracy": test_accuracy}
            with curve_file.open("a") as file:
                file.write(json.dumps(point) + "\n")
        return loss

    run = training.train(
        args, model, optimizer, loss_at,
        schedule=lambda step: min((step + 1) / WARMUP, 1.0), checkpoint_steps=CHECKPOINTS, log_every=10,
    )  # fmt: skip
    print(run.steps_done)


if __name__ == "__main__":
    main()
