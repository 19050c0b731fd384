"""Tiny transformers of random weights, on which checks try what answers do with a model."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch

from concrete_steps.checking.testing.inputs import Rng
from concrete_steps.checking.testing.state import settled

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@functools.cache
def blank_bridge(**sizes) -> TransformerBridge:
    """A native bridge of these sizes, in evaluation mode: the same object for the same sizes. No random state is moved.

    Args:
        sizes: what TransformerBridgeConfig takes; d_model, d_head, n_heads, n_layers, n_ctx and d_vocab among them.
    """
    from transformer_lens import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    state = torch.random.get_rng_state()
    try:
        config = TransformerBridgeConfig(init_weights=False, **sizes)  # they are drawn by who asks
        return TransformerBridge.boot_native(config, tokenizer=None).eval()
    finally:
        torch.random.set_rng_state(state)


def drawn_bridge(rng: Rng, scale: float = 0.5, biases: bool = True, **sizes) -> TransformerBridge:
    """The blank bridge of these sizes with weights drawn anew, normal times scale; no hooks, and it asks for gradients.

    What a recorded call has seen changes with the next draw: copy the bridge where that matters.

    Args:
        biases: False for biases of 0 (what has one dimension alone, norms included).
    """
    bridge = blank_bridge(**sizes).requires_grad_(True)  # whatever an earlier answer did to it
    bridge.eval().reset_hooks(including_permanent=True)
    with torch.no_grad():
        for parameter in bridge.parameters():
            drawn = biases or parameter.ndim > 1
            parameter.copy_(scale * rng.normal(*parameter.shape) if drawn else torch.zeros(parameter.shape))
    return bridge


@functools.cache
def bent_bridge(n_layers: int, n_heads: int, d_vocab: int, heads_matter: float) -> TransformerBridge:
    """Random weights, with LayerNorm and MLPs: nothing in it is linear. Made once for all, and never to be changed.

    Args:
        heads_matter: the scale of the heads' weights; all others have .6.
    """
    bridge = blank_bridge.__wrapped__(  # of its own: nobody draws its weights anew
        d_model=8,
        d_head=3,
        n_heads=n_heads,
        n_layers=n_layers,
        n_ctx=6,
        d_vocab=d_vocab,
        d_mlp=10,
        act_fn="gelu",
        normalization_type="LN",
    )
    generator = torch.Generator().manual_seed(10 * n_layers + n_heads)
    with torch.no_grad():
        for name, parameter in bridge.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            scale = heads_matter if ".attn." in name else 0.6
            parameter.copy_(1 + 0.2 * drawn if "ln" in name and "weight" in name else scale * drawn)
    return settled(bridge)
