"""Train attn_only_0l, attn_only_1l or attn_only_2l: attention and nothing else, on stories and repeated random tokens.

    python scripts/train/attn_only.py 2

No layer norm, no MLP, and biases frozen at zero: then logits are an exact sum over paths, as in "A Mathematical
Framework for Transformer Circuits" (Elhage et al. 2021). A quarter of each batch is blocks of uniformly random tokens,
repeated, so that an induction head pays whatever the tokens are ("In-context Learning and Induction Heads", Olsson et
al. 2022). Without a layer there is nothing to induce with, and no reader of positions but the logits: attn_only_0l sees
stories alone, and its positions are frozen at zero, so that what it can learn is the stories' bigram table.
"""

import sys

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import corpus
from concrete_steps.errors import CourseError
from concrete_steps.models import measures
from concrete_steps.models import training as tr

STEPS = 3000
N_CTX = 64
N_HEADS = 4
D_POSITION = 32  # dimensions in which positions start
STORIES, REPEATS = 24, 8  # rows of a batch
LEARNING_RATE = 3e-3
KEPT = [*range(0, 1000, 25), *range(1000, STEPS + 1, 100)]  # for resuming and choosing
STORED = [0, 100, 200, 300, 400, 450, 475, 500, 525, 550, 575, 600, 650, 700, 800, 1000, 1500, 2000, 3000]


def config(layers: int) -> dict:
    """The arguments of TransformerBridgeConfig."""
    return {
        "d_model": 128,
        "d_head": 32,
        "n_heads": N_HEADS,
        "n_layers": layers,
        "n_ctx": N_CTX,
        "d_vocab": len(corpus.tokenizer()),
        "attn_only": True,
        "normalization_type": None,
        "init_weights": False,
    }


def sinusoids(positions: int, size: int) -> Float[Tensor, "positions size"]:
    """Sines and cosines of each position, at size / 2 frequencies from 1 down to 1/30 a token."""
    frequencies = 30.0 ** -torch.linspace(0, 1, size // 2)
    angles = torch.arange(positions)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@torch.no_grad()
def initialise(weights: dict[str, Tensor]) -> None:
    """Biases at zero for good; positions as sinusoids in the first D_POSITION dimensions, tokens mostly in the others.

    Without a layer positions are zero for good.

    With random positions and no norm, attention stays flat for thousands of steps: every pair of neighbours has to be
    learned on its own. Everything else starts as torch's own layers do.
    """
    for name, weight in weights.items():
        if name.endswith("bias"):
            weight.zero_().requires_grad_(False)
    positions = weights["pos_embed.weight"].zero_()
    if "blocks.0.attn.q.weight" not in weights:
        positions.requires_grad_(False)
        return
    positions[:, :D_POSITION] = 2 * sinusoids(N_CTX, D_POSITION)
    weights["embed.weight"][:, :D_POSITION] *= 0.1


def repeated_tokens(rows: int, d_vocab: int, generator: torch.Generator) -> Int[Tensor, "rows n_ctx"]:
    """[BOS], then a block of uniformly random ordinary tokens, repeated to fill the row.

    Blocks are 4 to 31 tokens long, short ones likelier (log-uniform): in them induction is learned first.
    """
    block = torch.randint(len(corpus.SPECIAL), d_vocab, (rows, N_CTX), generator=generator)
    lengths = 4 * 8 ** torch.rand(rows, 1, generator=generator)
    tokens = block.gather(1, torch.arange(N_CTX - 1) % lengths.long())
    return torch.cat([torch.full((rows, 1), 1), tokens], dim=1)


def batch(seed: int, step: int, layers: int) -> Int[Tensor, "rows n_ctx"]:
    """Stories, then rows of repeated tokens; without a layer stories alone."""
    if layers == 0:
        return corpus.batch(STORIES + REPEATS, N_CTX, seed=f"train {seed}", first=step * (STORIES + REPEATS))
    stories = corpus.batch(STORIES, N_CTX, seed=f"train {seed}", first=step * STORIES)
    return torch.cat([stories, repeated_tokens(REPEATS, len(corpus.tokenizer()), tr.step_generator(seed, step))])


def forward(
    weights: dict[str, Tensor], tokens: Int[Tensor, "rows pos"], layers: int
) -> Float[Tensor, "rows pos vocab"]:
    """The bridge's own logits, without its hooks: half the time a step."""
    resid = F.embedding(tokens, weights["embed.weight"]) + weights["pos_embed.weight"][: tokens.shape[1]]
    for layer in range(layers):
        q, k, v, o = (weights[f"blocks.{layer}.attn.{part}.weight"] for part in "qkvo")
        q, k, v = ((resid @ weight.T).unflatten(-1, (N_HEADS, -1)).transpose(1, 2) for weight in (q, k, v))
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        resid = resid + z.transpose(1, 2).flatten(2) @ o.T
    return resid @ weights["unembed.weight"].T


COPYING = "loss on the first copy of 30 random tokens minus loss on the second, nats, 64 rows"
INDUCTION = "mean attention from a token's second copy to the token after its first, best head, 30 random tokens twice"
PREVIOUS = "mean attention to the token before, best layer-0 head, random tokens"
WITHOUT = (
    "the same in layer 1, when all that layer-0 heads of previous-token score >= 0.3 wrote is taken from its {} alone"
)
ONE = "the same in layer 1, when only what the best previous-token head wrote is taken from its k alone"
BIGRAM = "KL from the bigram law of 10,000 held-out stories to the model's table, nats per token"
GAP = "loss on 100 held-out stories minus their exact -log p, nats per token, first 63 tokens"
CIRCUITS = {
    0: "None: logits are W_E W_U, a bigram table.",
    1: "Skip-trigrams: heads copy earlier tokens whatever came before them; no induction.",
    2: "Induction: a layer-0 head writes the previous token, and layer 1's keys read it (K-composition).",
}


def claims(layers: int, model: TransformerBridge, control: TransformerBridge) -> list[dict]:
    """The datasheet's claims about `model`, each beside the same measure of `control`."""
    got, null = measures.attention_only(model), measures.attention_only(control)

    def claim(key: str, text: str, how: str, **bound: float) -> dict:
        return tr.claim(text, how, got[key], null[key], "the same model at step 0", key=key, **bound)

    lines = [
        claim("story_gap", "learned the stories as far as its depth allows", GAP, at_most=[1.5, 0.15, 0.1][layers])
    ]
    if layers == 0:
        lines.append(claim("bigram_kl", "is the bigram table of the stories", BIGRAM, at_most=0.02))
    if layers < 2:
        lines.append(claim("copying_gain", "gains less from a second copy", COPYING, at_most=[0.5, 2.5][layers]))
    if layers == 1:
        lines.append(claim("best_induction", "has no induction head", INDUCTION, at_most=0.1))
    if layers == 2:
        lines += [
            claim("best_induction", "has induction heads", INDUCTION, at_least=0.5),
            claim("copying_gain", "predicts the second copy", COPYING, at_least=3.0),
            claim("previous_token", "has a previous-token head", PREVIOUS, at_least=0.5),
            claim("best_induction_without_k", "induction heads read them in k", WITHOUT.format("k"), at_most=0.1),
            claim("best_induction_without_k_of_one", "one of them does most of it", ONE, at_most=0.5),
            claim("best_induction_without_q", "not in q", WITHOUT.format("q"), at_least=0.7),
            claim("best_induction_without_v", "not in v", WITHOUT.format("v"), at_least=0.7),
        ]
    return lines


def main(argv: list[str] | None = None) -> None:
    """Train, measure, write. The first argument is the number of layers."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] not in (["0"], ["1"], ["2"]):
        raise CourseError(
            "Say how many layers: attn_only.py 0, attn_only.py 1 or attn_only.py 2 (then --help for more)."
        )
    layers = int(argv[0])
    args = tr.arguments(f"attn_only_{layers}l", STEPS, __doc__, argv[1:])
    model = TransformerBridge.boot_native(TransformerBridgeConfig(**config(layers)), device=args.device)
    weights = model.state_dict(keep_vars=True)
    initialise(weights)
    trained = [parameter for parameter in weights.values() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    probe = batch(args.seed, 0, layers).to(args.device)
    torch.testing.assert_close(forward(weights, probe, layers), model(probe), atol=1e-4, rtol=1e-4)

    def loss_at(step: int) -> Tensor:
        tokens = batch(args.seed, step, layers).to(args.device)
        logits = forward(weights, tokens, layers)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=0)

    def schedule(step: int) -> float:
        return tr.warmup_cosine(step, 100, STEPS, 0.05)

    run = tr.train(args, model, optimizer, loss_at, schedule=schedule, clip=1.0, checkpoint_steps=KEPT)
    stored = STORED if layers else [0, STEPS]
    run.checkpoints = {step: weights for step, weights in run.checkpoints.items() if step in stored}
    control = TransformerBridge.boot_native(TransformerBridgeConfig(**config(layers)))
    control.load_state_dict(run.checkpoints[0])
    sheet = {
        "architecture": {"class": "boot_native", "config": config(layers), "tokenizer": "corpus"},
        "data": f"each batch {STORIES if layers else STORIES + REPEATS} fresh stories of concrete_steps.corpus "
        f"(seed 'train {args.seed}'), cut at {N_CTX} tokens"
        + f", and {REPEATS} rows of a block of 4 to 31 uniformly random tokens, repeated"
        * (layers > 0),
        "training": f"AdamW, learning rate {LEARNING_RATE} with 100 steps of warm-up and a cosine, clipped at 1; "
        + (f"positions start as sinusoids in {D_POSITION} dimensions; " if layers else "positions are frozen at 0; ")
        + "biases are frozen at 0; no norm",
        "licence": "MIT",
        "circuit": CIRCUITS[layers],
        "claims": [] if args.no_claims else claims(layers, model.cpu().eval(), control.eval()),
    }
    tr.write_model(args, run, model.state_dict(), sheet)


if __name__ == "__main__":
    tr.run_script(main)
