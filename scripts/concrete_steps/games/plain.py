"""The forward pass of a native TransformerBridge without its hooks, for training: the same logits in less time."""

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def logits(
    weights: Mapping[str, Tensor],
    config: Mapping[str, Any],
    tokens: Int[Tensor, "batch pos"],
    may_read: Bool[Tensor, "batch pos"] | None = None,
    at_z: Callable[[int, Float[Tensor, "batch pos head d_head"]], Tensor] = lambda layer, z: z,
    last_only: bool = False,
) -> Float[Tensor, "batch pos d_vocab_out"]:
    """What the bridge returns for `tokens`; gradients flow into `weights`.

    Args:
        weights: the bridge's `state_dict(keep_vars=True)`.
        config: the arguments of its TransformerBridgeConfig; normalization "LN" or "LNPre", activation relu or gelu.
        may_read: the tokens that every position may attend to (bidirectional attention); None for causal attention.
        at_z: what takes the place of each layer's z, as a forward hook does.
        last_only: give the last position's logits alone, [batch 1 d_vocab_out], in less time.
    """
    mask = None if may_read is None else may_read[:, None, None, :]
    activation = {"relu": F.relu, "gelu": F.gelu}[config["act_fn"]]

    def norm(x: Tensor, name: str) -> Tensor:  # LNPre has no weights
        return F.layer_norm(x, x.shape[-1:], weights.get(f"{name}.weight"), weights.get(f"{name}.bias"), eps=1e-5)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    resid = F.embedding(tokens, weights["embed.weight"]) + weights["pos_embed.weight"][: tokens.shape[1]]
    for layer in range(config["n_layers"]):
        block = f"blocks.{layer}"
        x = norm(resid, f"{block}.ln1")
        q, k, v = (linear(x, f"{block}.attn.{part}").unflatten(-1, (config["n_heads"], -1)) for part in "qkv")
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # batch head pos d_head
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        z = at_z(layer, z.transpose(1, 2)).flatten(2)
        if last_only and layer == config["n_layers"] - 1:
            z, resid = z[:, -1:], resid[:, -1:]
        resid = resid + linear(z, f"{block}.attn.o")
        x = norm(resid, f"{block}.ln2")
        resid = resid + linear(activation(linear(x, f"{block}.mlp.in")), f"{block}.mlp.out")
    return F.linear(norm(resid, "ln_final"), weights["unembed.weight"])
