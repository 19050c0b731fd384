"""Train attn_only_0l, attn_only_1l or attn_only_2l: attention and nothing else, on the stories and on repeated random tokens.

    python scripts/train/attn_only.py 2

No layer norm, no MLP, and biases frozen at zero: then logits are an exact sum over paths, as in "A Mathematical Framework for Transformer
Circuits" (Elhage et al. 2021). Half of each batch is stories; the other half is blocks of uniformly random tokens, repeated, so that an
induction head pays whatever the tokens are ("In-context Learning and Induction Heads", Olsson et al. 2022).
"""

import sys

import torch
from torch.nn.functional import cross_entropy
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import corpus
from concrete_steps import training as tr

STEPS = {0: 2000, 1: 6000, 2: 6000}
N_CTX = 96
ROWS = 16  # of each kind in a batch
LEARNING_RATE = 1e-3


def config(layers: int, seed: int, d_vocab: int) -> dict:
    """The arguments of TransformerBridgeConfig. Its own initialisation divides by the layers, so 0 layers keep torch's."""
    return {
        "d_model": 128, "d_head": 32, "n_heads": 4, "n_layers": layers, "n_ctx": N_CTX, "d_vocab": d_vocab,
        "attn_only": True, "normalization_type": None, "seed": seed, "init_weights": layers > 0,
    }  # fmt: skip


def repeated_tokens(rows: int, d_vocab: int, generator: torch.Generator) -> torch.Tensor:
    """[BOS], then a block of 8 to 47 uniformly random ordinary tokens, repeated to fill the row: (rows, n_ctx)."""
    first = len(corpus.SPECIAL)
    block = torch.randint(first, d_vocab, (rows, N_CTX), generator=generator)
    lengths = torch.randint(8, N_CTX // 2, (rows, 1), generator=generator)
    tokens = block.gather(1, torch.arange(N_CTX) % lengths)
    tokens[:, 1:] = tokens[:, :-1].clone()
    tokens[:, 0] = 1
    return tokens


def batch(seed: int, step: int, d_vocab: int) -> torch.Tensor:
    stories = corpus.batch(ROWS, N_CTX, seed=f"train {seed}", first=step * ROWS)
    return torch.cat([stories, repeated_tokens(ROWS, d_vocab, tr.step_generator(seed, step))])


if __name__ == "__main__":
    layers = int(sys.argv[1])
    name = f"attn_only_{layers}l"
    args = tr.arguments(name, STEPS[layers], __doc__, sys.argv[2:])
    d_vocab = len(corpus.tokenizer())
    model = TransformerBridge.boot_native(TransformerBridgeConfig(**config(layers, args.seed, d_vocab)))
    weights = [p for n, p in model.named_parameters() if not n.endswith("bias")]
    for n, p in model.named_parameters():
        p.requires_grad_(not n.endswith("bias"))
    opt = torch.optim.AdamW(weights, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)

    def loss_at(step):
        x = batch(args.seed, step, d_vocab).to(args.device)
        logits = model(x)
        return cross_entropy(logits[:, :-1].flatten(0, 1), x[:, 1:].flatten(), ignore_index=0)

    run = tr.train(args, model, opt, loss_at, schedule=lambda s: tr.warmup_cosine(s, 100, STEPS[layers], 0.1), clip=1.0,
                   checkpoint_steps=range(0, STEPS[layers] + 1, 50))
