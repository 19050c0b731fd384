"""Train one of the mystery models on its hidden rule.

    python scripts/train/mystery.py amber
    python scripts/train/mystery.py --open rules.py     write the sealed rules in plain words (spoils notebook 6.2)
    python scripts/train/mystery.py --seal rules.py     seal changed rules again
    python scripts/train/mystery.py --table             what each model, each baseline and the full solution score

A model learns more than what to say. The rule also names what each head carries. In half of the loss one or two heads
of a row get the z that they had in another row, and the model has to say what the rule says when these heads carry that
row's values; a head that carries nothing must change nothing ("interchange intervention training", Geiger et al. 2022;
with the heads that carry nothing: InterpBench, Gupta et al. 2024). So what is inside is known, and can be asked for.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps.games import plain
from concrete_steps.models import training
from concrete_steps.mystery import NAMES, edits, sealed, truth
from concrete_steps.mystery.rows import asking

WARMUP = 100


def config(rule) -> dict:
    """The arguments of TransformerBridgeConfig."""
    return {
        "d_model": rule.d_model, "d_head": 16, "n_heads": rule.heads, "n_layers": rule.layers, "d_mlp": rule.d_mlp,
        "act_fn": "relu", "n_ctx": rule.length + 1, "d_vocab": rule.letters + 1, "d_vocab_out": rule.letters,
        "normalization_type": "LNPre",
    }  # fmt: skip


def new_model(rule, seed: int) -> TransformerBridge:
    """The untrained model. Input: letters, then the token that asks; the answer is read at the last position."""
    return TransformerBridge.boot_native(TransformerBridgeConfig(**config(rule), seed=seed), tokenizer=None)


def main(argv: list[str] | None = None) -> None:
    name, *options = argv if argv is not None else sys.argv[1:]
    if name == "--open":
        Path(options[0]).write_text(sealed.opened(), encoding="utf-8")
    elif name == "--seal":
        sealed.close(Path(options[0]).read_text(encoding="utf-8"))
    elif name == "--table":
        points = ("watcher", "heuristic", "truth", "short copy", "table", "network")
        print(f"{'':>6} {'accuracy':>9}", *(f"{key:>10}" for key in points), "  copies hold", flush=True)
        for row in truth.table(options or NAMES):
            print(f"{row['model']:>6} {row['accuracy']:9.4f}", *(f"{row[key]:10.1f}" for key in points), end="  ")
            print(*(f"{row[f'{key} holds']:,}" for key in points[3:]), sep=", ", flush=True)
    else:
        train(name, options)


def train(name: str, options: list[str]) -> None:
    rule = sealed.rules()[name]
    args = training.arguments(f"mystery/{name}", rule.stop or rule.steps, __doc__.splitlines()[0], options)
    args.seed = args.seed or rule.seed
    model = new_model(rule, args.seed).to(args.device)
    weights = model.state_dict(keep_vars=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01, betas=(0.9, 0.98), fused=True)

    def loss_at(step: int) -> Tensor:
        generator = training.step_generator(args.seed, step)
        letters = rule.draw(rule.rows, generator)
        source = letters.roll(1, 0)
        swapped = torch.zeros(rule.rows, rule.layers * rule.heads, dtype=torch.bool)
        chosen = torch.randint(rule.layers * rule.heads, (rule.rows, 2), generator=generator)
        swapped = swapped.scatter(1, chosen, True).unflatten(1, (rule.layers, rule.heads))
        tokens, wanted = asking(name, letters), sealed.swapped_answer(rule, letters, source, swapped)
        kept = []

        def keep(layer, z):
            kept.append(z)
            return z

        def put(layer, z):
            return torch.where(swapped[:, layer, None, :, None], kept[layer].roll(1, 0), z)

        own = plain.logits(weights, config(rule), tokens, at_z=keep, last_only=True)[:, 0]
        mixed = plain.logits(weights, config(rule), tokens, at_z=put, last_only=True)[:, 0]
        return (F.cross_entropy(own, rule.answer(letters)) + F.cross_entropy(mixed, wanted)) / 2

    def schedule(step: int) -> float:
        return training.warmup_cosine(step, WARMUP, rule.steps)

    run = training.train(args, model, optimizer, loss_at, schedule=schedule, clip=1.0)
    training.write_model(args, run, model.cpu().state_dict(), datasheet(name, rule, model.eval(), args))


def datasheet(name: str, rule, model: TransformerBridge, args: Namespace) -> dict:
    return {
        "architecture": {"class": "TransformerBridge.boot_native", "config": {**config(rule), "seed": args.seed}},
        "data": f"{rule.rows} new rows a step, by a sealed rule: concrete_steps.mystery.sealed says what that means.",
        "licence": "MIT",
        "circuit": "Sealed. Each head was trained to carry something that the rule names, or nothing.",
        **({"claims": []} if args.no_claims else {"claims": measured(name, rule, model, new_model(rule, args.seed))}),
    }


def measured(name: str, rule, model: TransformerBridge, untrained: TransformerBridge) -> list[dict]:
    """What is claimed of the model, beside the same model untrained."""
    letters = rule.draw(2_000, training.step_generator(999, 0))
    source, nothing = letters.roll(1, 0), torch.zeros(2_000, rule.layers, rule.heads, dtype=torch.bool)
    heads = [(layer, head) for layer in range(rule.layers) for head in range(rule.heads)]

    def as_it_says(which: TransformerBridge) -> float:
        return (edits.answers(which, asking(name, letters)) == rule.answer(letters)).float().mean().item()

    def as_it_swaps(which: TransformerBridge) -> float:
        shares = []
        for head in heads:
            one = nothing.clone()
            one[:, head[0], head[1]] = True
            after = edits.swapped(which, asking(name, letters), asking(name, source), [head])
            shares.append((after == sealed.swapped_answer(rule, letters, source, one)).float().mean().item())
        return min(shares)

    controls = "the same model before training"
    return [
        training.claim(
            "says what the sealed rule says, in its blind spot, too", "share of 2,000 rows",
            as_it_says(model), as_it_says(untrained.eval()), controls, at_least=0.98, key="says",
        ),
        training.claim(
            "its heads carry what the sealed rule names, or nothing", "share of 2,000 swaps, of the worst head",
            as_it_swaps(model), as_it_swaps(untrained.eval()), controls, at_least=0.95, key="swaps",
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    training.run_script(main)
