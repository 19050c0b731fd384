"""Train story_lm: a GPT-2 of three layers on the stories, close to their entropy.

    python scripts/train/story_lm.py

The weights are stored under the names of Hugging Face's GPT2LMHeadModel, so that any GPT-2 can load them.
"""

import functools

import torch
from attn_only import repeated_tokens
from torch.nn.functional import cross_entropy, pad
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2Config, GPT2LMHeadModel

from concrete_steps import corpus
from concrete_steps.models import measures
from concrete_steps.models import training as tr

STORIES, REPEATS, STEPS = 5000, 7000, 9000  # where each phase ends, see schedule()
N_CTX = 128
ROWS = 16
CHUNK = 8  # batches that are sorted by length together
REPEATED_ROWS = 8
WEIGHT = 5  # of the token after " to", from the second phase on; the best prediction does not depend on it
LEARNING_RATE = 1.5e-3
KEPT = range(0, STEPS + 1, 250)  # for resuming and choosing
STORED = [0, 500, 1500, STORIES, STEPS]


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
    """The step's rows, cut after the longest: (rows, tokens). In the second phase repeated random tokens, too."""
    stories = chunk(seed, step // CHUNK)[step % CHUNK]
    if not STORIES <= step < REPEATS:
        return stories
    repeats = repeated_tokens(REPEATED_ROWS, len(corpus.tokenizer()), tr.step_generator(seed, step))
    width = max(stories.shape[1], repeats.shape[1])
    return torch.cat([pad(rows, (0, width - rows.shape[1])) for rows in (stories, repeats)])


def schedule(step: int) -> float:
    """A cosine over the stories; up again for the repeats; and down to 0.

    Stories alone teach who gives and who receives, but not to copy a list, for which induction heads are needed.
    Repeats from the start bring those first, and then the giver is never told from the receiver.
    """
    if step < STORIES:
        return tr.warmup_cosine(step, 200, STORIES, 0.02)
    return 2 / 3 * max(min((step - STORIES + 1) / 100, 1, (STEPS - step) / (STEPS - REPEATS)), 0)


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

    known = [claim(topic, f"knows: {topic}", how, at_least=0.9) for topic, how in TOPICS.items()]
    return [claim("story_gap", "is within 0.15 nats of the entropy", GAP, at_most=0.15), *known]


def main(argv: list[str] | None = None) -> None:
    """Train, measure, write."""
    args = tr.arguments("story_lm", STEPS, __doc__, argv)
    model = GPT2LMHeadModel(GPT2Config(**config())).to(args.device)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE, betas=(0.9, 0.98))

    to = corpus.tokenizer().convert_tokens_to_ids(" to")

    def loss_at(step: int) -> torch.Tensor:
        x = batch(args.seed, step).to(args.device)
        losses = cross_entropy(model(x).logits[:, :-1].transpose(1, 2), x[:, 1:], reduction="none")
        weights = (x[:, 1:] != 0) * torch.where((x[:, :-1] == to) & (step >= STORIES), WEIGHT, 1)
        return (weights * losses).sum() / weights.sum()

    run = tr.train(args, model, optimizer, loss_at, schedule=schedule, clip=1.0, checkpoint_steps=KEPT)
    run.checkpoints = {step: weights for step, weights in run.checkpoints.items() if step in STORED}
    control = GPT2LMHeadModel(GPT2Config(**config()))
    control.load_state_dict(run.checkpoints[0])
    sheet = {
        "architecture": {"class": "GPT2LMHeadModel", "config": config(), "tokenizer": "corpus"},
        "data": f"each batch {ROWS} fresh stories of concrete_steps.corpus (seed 'train {args.seed}'); between steps "
        f"{STORIES} and {REPEATS} also {REPEATED_ROWS} rows of repeated random tokens, for induction heads",
        "training": f"AdamW, learning rate {LEARNING_RATE}, 200 steps of warm-up, a cosine until step {STORIES}; then "
        f"2/3 of it until {REPEATS}, falling to 0; decay 0.05, clipped at 1. From step {STORIES} on, the token after "
        f"' to' counts {WEIGHT} times in the loss (and in its log)",
        "licence": "MIT",
        "circuit": "Names, lists and colours come from the story, nobody gives to herself, pronouns agree with the "
        "subject. Which heads do it is for the learner to find: no circuit is claimed.",
        "entropy_nats_per_token": round(corpus.entropy()[0], 4),
        "claims": [] if args.no_claims else claims(model.cpu(), control),
    }
    tr.write_model(args, run, model.state_dict(), sheet)


if __name__ == "__main__":
    tr.run_script(main)
