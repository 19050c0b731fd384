"""Train story_lm: a GPT-2 of three layers on the stories, close to their entropy.

    python scripts/train/story_lm.py

The weights are stored under the names of Hugging Face's GPT2LMHeadModel, so that any GPT-2 can load them.
"""

import functools

import torch
from torch.nn.functional import cross_entropy
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2Config, GPT2LMHeadModel

from concrete_steps import corpus
from concrete_steps import training as tr
from concrete_steps.models import measures

STEPS = 5000
N_CTX = 128
ROWS = 16
CHUNK = 8  # batches that are sorted by length together
LEARNING_RATE = 1.5e-3
KEPT = range(0, STEPS + 1, 250)  # for resuming and choosing
STORED = [0, 500, 1500, STEPS]


def config() -> dict:
    """The arguments of GPT2Config."""
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    size = {"n_layer": 3, "n_embd": 128, "n_head": 4, "n_positions": N_CTX, "vocab_size": len(corpus.tokenizer())}
    return size | no_dropout | special


@functools.lru_cache(maxsize=1)
def chunk(seed: int, number: int) -> list[torch.Tensor]:
    """CHUNK batches in random order, each of stories of like length: little is spent on padding."""
    count = ROWS * CHUNK
    rows = corpus.batch(count, N_CTX, seed=f"train {seed}", first=number * count)
    lengths = (rows != 0).sum(1)
    order = lengths.argsort(stable=True).view(CHUNK, ROWS)
    shuffled = torch.randperm(CHUNK, generator=tr.step_generator(seed, number))
    return [rows[order[i]][:, : lengths[order[i]].max()] for i in shuffled]


def batch(seed: int, step: int) -> torch.Tensor:
    """The step's stories, cut after the longest: (rows, tokens)."""
    return chunk(seed, step // CHUNK)[step % CHUNK]


def schedule(step: int) -> float:
    return tr.warmup_cosine(step, 200, STEPS, 0.02)


GAP = "loss on 200 held-out stories minus their exact -log p, nats per token"
RIGHT = "share of {} in held-out stories where no token is likelier than the right one"
TOPICS = {
    "receiver": RIGHT.format("80 receivers' names, after 'A gave the ball to' with A and B there,"),
    "agreement": RIGHT.format("80 pronouns after 'so' or 'but'"),
    "list": RIGHT.format("80 objects taken out again in the order in which they were packed"),
    "colour": RIGHT.format("80 colours, after 'The ball was'"),
}


def bridge(model: GPT2LMHeadModel) -> TransformerBridge:
    """A bridge around a copy of the model."""
    copied = GPT2LMHeadModel(GPT2Config(**config())).eval()
    copied.load_state_dict(model.state_dict())
    return TransformerBridge.boot_transformers("story_lm", hf_model=copied, tokenizer=corpus.tokenizer())


def claims(model: GPT2LMHeadModel, control: GPT2LMHeadModel) -> list[dict]:
    """The datasheet's claims about `model`, each beside the same measure of `control`."""
    got, null = measures.story_model(bridge(model)), measures.story_model(bridge(control))

    def claim(key: str, text: str, how: str, **bound: float) -> dict:
        return tr.claim(text, how, got[key], null[key], "the same model at step 0", key=key, **bound)

    known = [claim(topic, f"knows: {topic}", TOPICS[topic], at_least=0.9) for topic in ("receiver", "agreement")]
    unknown = [claim(topic, f"does not know: {topic}", TOPICS[topic], at_most=0.2) for topic in ("list", "colour")]
    return [claim("story_gap", "is within 0.15 nats of the entropy", GAP, at_most=0.15), *known, *unknown]


def main(argv: list[str] | None = None) -> None:
    """Train, measure, write."""
    args = tr.arguments("story_lm", STEPS, __doc__, argv)
    model = GPT2LMHeadModel(GPT2Config(**config())).to(args.device)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE, betas=(0.9, 0.98))

    def loss_at(step: int) -> torch.Tensor:
        x = batch(args.seed, step).to(args.device)
        logits = model(x).logits
        return cross_entropy(logits[:, :-1].flatten(0, 1), x[:, 1:].flatten(), ignore_index=0)

    run = tr.train(args, model, optimizer, loss_at, schedule=schedule, clip=1.0, checkpoint_steps=KEPT)
    run.checkpoints = {step: weights for step, weights in run.checkpoints.items() if step in STORED}
    control = GPT2LMHeadModel(GPT2Config(**config()))
    control.load_state_dict(run.checkpoints[0])
    sheet = {
        "architecture": {"class": "GPT2LMHeadModel", "config": config(), "tokenizer": "corpus"},
        "data": f"each batch {ROWS} fresh stories of concrete_steps.corpus (seed 'train {args.seed}')",
        "training": f"AdamW, learning rate {LEARNING_RATE}, 200 steps of warm-up, a cosine, decay 0.05, clipped at 1",
        "licence": "MIT",
        "circuit": "Names come from the story, nobody gives to herself, pronouns agree with the subject. Which heads "
        "do it is for the learner to find. It has no induction heads: lists and colours are not recalled.",
        "entropy_nats_per_token": round(corpus.entropy()[0], 4),
        "claims": [] if args.no_claims else claims(model.cpu(), control),
    }
    tr.write_model(args, run, model.state_dict(), sheet)


if __name__ == "__main__":
    tr.run_script(main)
