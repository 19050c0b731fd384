"""Train attn_only_0l, attn_only_1l or attn_only_2l: attention and nothing else, on stories and on repeated random tokens.

    python scripts/train/attn_only.py 2

No layer norm, no MLP, and biases frozen at zero: then logits are an exact sum over paths, as in "A Mathematical Framework
for Transformer Circuits" (Elhage et al. 2021). Half of each batch is stories; the other half is blocks of uniformly random
tokens, repeated, so that an induction head pays whatever the tokens are ("In-context Learning and Induction Heads", Olsson
et al. 2022).
"""

import sys

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import corpus
from concrete_steps import training as tr

STEPS = 4000
N_CTX = 96
N_HEADS = 4
ROWS = 16  # of each kind in a batch
LEARNING_RATE = 2e-3


def config(layers: int) -> dict:
    """The arguments of TransformerBridgeConfig.

    Without a norm, its own initialisation (embeddings of 0.07) leaves attention flat for thousands of steps; torch's
    (embeddings of 1) does not.
    """
    size = {"d_model": 128, "d_head": 32, "n_heads": N_HEADS, "n_layers": layers, "n_ctx": N_CTX}
    return size | {
        "d_vocab": len(corpus.tokenizer()),
        "attn_only": True,
        "normalization_type": None,
        "init_weights": False,
    }


def repeated_tokens(rows: int, d_vocab: int, generator: torch.Generator) -> Int[Tensor, "rows n_ctx"]:
    """[BOS], then a block of 8 to 47 uniformly random ordinary tokens, repeated to fill the row."""
    block = torch.randint(len(corpus.SPECIAL), d_vocab, (rows, N_CTX), generator=generator)
    lengths = torch.randint(8, N_CTX // 2, (rows, 1), generator=generator)
    tokens = block.gather(1, torch.arange(N_CTX - 1) % lengths)
    return torch.cat([torch.full((rows, 1), 1), tokens], dim=1)


def batch(seed: int, step: int) -> Int[Tensor, "rows n_ctx"]:
    """Stories, then as many rows of repeated tokens."""
    stories = corpus.batch(ROWS, N_CTX, seed=f"train {seed}", first=step * ROWS)
    return torch.cat([stories, repeated_tokens(ROWS, len(corpus.tokenizer()), tr.step_generator(seed, step))])


def forward(weights: dict[str, Tensor], tokens: Int[Tensor, "rows pos"], layers: int) -> Float[Tensor, "rows pos vocab"]:
    """The bridge's own logits, without its hooks: half the time a step."""
    resid = F.embedding(tokens, weights["embed.weight"]) + weights["pos_embed.weight"][: tokens.shape[1]]
    for layer in range(layers):
        q, k, v, o = (weights[f"blocks.{layer}.attn.{part}.weight"] for part in "qkvo")
        q, k, v = ((resid @ weight.T).unflatten(-1, (N_HEADS, -1)).transpose(1, 2) for weight in (q, k, v))
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        resid = resid + z.transpose(1, 2).flatten(2) @ o.T
    return resid @ weights["unembed.weight"].T


if __name__ == "__main__":
    layers = int(sys.argv[1])
    args = tr.arguments(f"attn_only_{layers}l", STEPS, __doc__, sys.argv[2:])
    model = TransformerBridge.boot_native(TransformerBridgeConfig(**config(layers)), device=args.device)
    weights = model.state_dict(keep_vars=True)
    for name, parameter in weights.items():
        if name.endswith("bias"):
            torch.nn.init.zeros_(parameter).requires_grad_(False)
    trained = [parameter for parameter in weights.values() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    probe = batch(args.seed, 0).to(args.device)
    torch.testing.assert_close(forward(weights, probe, layers), model(probe), atol=1e-4, rtol=1e-4)

    def loss_at(step: int) -> Tensor:
        tokens = batch(args.seed, step).to(args.device)
        logits = forward(weights, tokens, layers)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=0)

    def schedule(step: int) -> float:
        return tr.warmup_cosine(step, 100, STEPS, 0.05)

    kept = range(0, STEPS + 1, 50)
    run = tr.train(args, model, optimizer, loss_at, schedule=schedule, clip=1.0, checkpoint_steps=kept)
