"""Addition modulo 113: the pairs, their split for the model `grokking`, its logits at speed, and its spectrum."""

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

P = 113
EQUALS = P  # the token "=", one past the numbers 0..112
TRAIN_FRACTION = 0.3
KEY_SHARE = 2 / 56  # a key frequency has more than this share of the embedding's power: twice that of an even spread


def split_pairs(seed: int = 0) -> tuple[Int[Tensor, "train 2"], Int[Tensor, "test 2"]]:
    """All 113 x 113 pairs (a, b), shuffled by the seed: the first 30 % (3830) for training, the others for testing."""
    pairs = all_pairs()[torch.randperm(P * P, generator=torch.Generator().manual_seed(seed))]
    n_train = int(P * P * TRAIN_FRACTION)
    return pairs[:n_train], pairs[n_train:]


def tokens(pairs: Int[Tensor, "pair 2"]) -> Int[Tensor, "pair 3"]:
    """What the model reads: a, b, "="."""
    return torch.cat([pairs, torch.full_like(pairs[:, :1], EQUALS)], dim=1)


def all_pairs() -> Int[Tensor, "pair 2"]:
    """The 113 x 113 pairs in order: (0, 0), (0, 1), ..., (112, 112)."""
    return torch.cartesian_prod(torch.arange(P), torch.arange(P))


def correct(pairs: Int[Tensor, "pair 2"]) -> Int[Tensor, " pair"]:
    """(a + b) mod 113."""
    return pairs.sum(-1) % P


def fast_logits(model: "TransformerBridge", pairs: Int[Tensor, "pair 2"]) -> Float[Tensor, "pair p"]:
    """`model(tokens(pairs))[:, -1]` for a model of the shape of `grokking`, several times as fast; gradients flow.

    Left out is the work that cannot reach the last position: query, MLP and logits are computed there alone, keys and
    values once per number instead of once per pair. Biases are taken to be zero. No hook fires.
    """
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
    loss = torch.nn.functional.cross_entropy(logits.double(), correct(pairs))
    return loss, (logits.argmax(-1) == correct(pairs)).double().mean().item()


def frequency_shares(embedding: Float[Tensor, "p d_model"]) -> Float[Tensor, " frequency"]:
    """Each frequency's share of the Fourier power of the numbers' embedding; entry k - 1 is frequency k, 1 to 56.

    The constant is left out: it is the same for every number and cannot help to add.
    """
    power = torch.fft.rfft(embedding.double(), dim=0).abs().square().sum(-1)[1:]
    return (power / power.sum()).float()


def key_frequencies(embedding: Float[Tensor, "p d_model"]) -> list[int]:
    """The frequencies with more than KEY_SHARE of the embedding's power, in order."""
    return [k + 1 for k, share in enumerate(frequency_shares(embedding).tolist()) if share > KEY_SHARE]


def cosine_share(logits: Float[Tensor, "pair p"], frequencies: list[int]) -> float:
    """The share of the logits' variance that is a sum of cos(2 pi k (a + b - c) / 113) over the given frequencies k.

    `logits` are those of `all_pairs()`. What is the same for all answers c is
    no part of the variance: it does not change a probability.
    """
    logits = logits.double().view(P, P, P)
    logits = logits - logits.mean(-1, keepdim=True)
    numbers = torch.arange(P)
    distance = (numbers[:, None, None] + numbers[None, :, None] - numbers) % P
    explained = 0.0
    for k in frequencies:
        wave = torch.cos(2 * torch.pi * k * distance.double() / P)  # different k are orthogonal
        explained += (logits * wave).sum().square().item() / wave.square().sum().item()
    return explained / logits.square().sum().item()
