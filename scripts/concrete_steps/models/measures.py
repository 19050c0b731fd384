"""What the shipped language models claim, measured: for the datasheets that scripts/train/ writes and for the tests.

Every measure takes a TransformerBridge, so that the same number can be taken from a control: the model at step 0.
"""

import functools
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from concrete_steps import corpus

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Head = tuple[int, int]  # layer, head
FIRST_ORDINARY = len(corpus.SPECIAL)


def repeated_tokens(rows: int, block: int, d_vocab: int, seed: int = 0) -> Int[Tensor, "rows 2*block+1"]:
    """[BOS], then a block of uniformly random ordinary tokens, twice."""
    generator = torch.Generator().manual_seed(seed)
    once = torch.randint(FIRST_ORDINARY, d_vocab, (rows, block), generator=generator)
    return torch.cat([torch.full((rows, 1), 1), once, once], dim=1)


@torch.no_grad()
def patterns(
    model: "TransformerBridge", tokens: Int[Tensor, "rows pos"], hooks=()
) -> Float[Tensor, "layer rows head q k"]:
    """Every head's attention pattern, under the given forward hooks."""
    found = []
    keep = [
        (f"blocks.{layer}.attn.hook_pattern", lambda pattern, hook: found.append(pattern)) for layer in _layers(model)
    ]
    model.run_with_hooks(tokens, return_type=None, fwd_hooks=[*hooks, *keep])
    return torch.stack(found)


def _layers(model: "TransformerBridge") -> range:
    return range(model.cfg.n_layers)


def induction_scores(
    model: "TransformerBridge", tokens: Int[Tensor, "rows pos"], hooks=()
) -> Float[Tensor, "layer head"]:
    """Mean attention from a token's second copy to the token after its first (`tokens` from `repeated_tokens`)."""
    block = tokens.shape[1] // 2
    stripe = patterns(model, tokens, hooks).diagonal(1 - block, dim1=-2, dim2=-1)  # key = query - block + 1
    return stripe[..., 2:].mean((1, 3))  # the first two of them are queries in the first copy


def previous_token_scores(model: "TransformerBridge", tokens: Int[Tensor, "rows pos"]) -> Float[Tensor, "layer head"]:
    """Mean attention to the token just before, over all but the first two positions (for position 1 that is [BOS])."""
    return patterns(model, tokens).diagonal(-1, dim1=-2, dim2=-1)[..., 1:].mean((1, 3))


@torch.no_grad()
def copy_losses(model: "TransformerBridge", tokens: Int[Tensor, "rows pos"], hooks=()) -> tuple[float, float]:
    """Mean loss in nats on the first copy of the block, and on the second without its first token."""
    block = tokens.shape[1] // 2
    logits = model.run_with_hooks(tokens, fwd_hooks=list(hooks))
    losses = -logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    return losses[:, :block].mean().item(), losses[:, block + 1 :].mean().item()


@torch.no_grad()
def without_heads(model: "TransformerBridge", tokens: Int[Tensor, "rows pos"], heads: list[Head], part: str) -> list:
    """Forward hooks that take what layer-0 heads wrote away from what layer 1's `part` (q, k or v) reads, only there.

    Exact where nothing normalises: q, k and v are then linear in the residual stream.
    """
    _, cache = model.run_with_cache(tokens, names_filter="blocks.0.attn.hook_z")
    z = cache["blocks.0.attn.hook_z"]  # row pos head d_head
    written = sum(z[:, :, head] @ model.blocks[0].attn.W_O[head] for _, head in heads)  # row pos d_model
    weight = getattr(model.blocks[1].attn, f"W_{part.upper()}")  # head d_model d_head
    change = torch.einsum("rpm,hmd->rphd", written, weight)
    return [(f"blocks.1.attn.hook_{part}", lambda value, hook: value - change)]


def attention_only(model: "TransformerBridge", seed: int = 1) -> dict[str, float]:
    """All measures of an attention-only model: 64 rows of a block of 30 random tokens, twice; and held-out stories.

    story_gap: see `story_gap`. bigram_kl: see `bigram_kl`, of a model without a layer.
    copying_gain: loss in nats on the first copy minus loss on the second.
    best_induction: the highest induction score of any head.
    previous_token: the highest previous-token score in layer 0.
    best_induction_without_k and so on: the same in layer 1, after what the layer-0 heads of a previous-token score of
    0.3 or more wrote (else the best one) was taken away from layer 1's k (or q, or v) alone.
    best_induction_without_k_of_one and so on: without the best of these heads only.
    """
    found = {"story_gap": story_gap(model, 100)}
    tokens = repeated_tokens(64, 30, model.cfg.d_vocab, seed)
    first, second = copy_losses(model, tokens)
    found["copying_gain"] = first - second
    if model.cfg.n_layers == 0:
        found["bigram_kl"] = bigram_kl(model)
        return found
    found["best_induction"] = induction_scores(model, tokens).max().item()
    previous = previous_token_scores(model, tokens)[0]
    found["previous_token"] = previous.max().item()
    if model.cfg.n_layers == 1:
        return found
    best = (0, int(previous.argmax()))
    heads = [(0, head) for head in range(len(previous)) if previous[head] >= 0.3] or [best]
    for part, taken in {"k": heads, "q": heads, "v": heads, "k_of_one": [best]}.items():
        hooks = without_heads(model, tokens, taken, part[0])
        found[f"best_induction_without_{part}"] = induction_scores(model, tokens, hooks)[1].max().item()
        first, second = copy_losses(model, tokens, hooks)
        found[f"copying_gain_without_{part}"] = first - second
    return found


@torch.no_grad()
def story_gap(model: "TransformerBridge", count: int = 200) -> float:
    """Loss in nats per token on held-out stories minus the law's own on the same tokens: an estimate of the KL.

    Stories longer than the model's context are cut.
    """
    n_ctx = model.cfg.n_ctx
    tokens = corpus.batch(count, n_ctx, corpus.HELD_OUT)
    losses = -_log_probs(model, tokens)[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
    real = tokens[:, 1:] != 0
    law = sum(sum(story.token_log_probs[: n_ctx - 1]) for story in corpus.stories(count, corpus.HELD_OUT))
    return ((losses * real).sum().item() + law) / real.sum().item()


@torch.no_grad()
def bigram_kl(model: "TransformerBridge", count: int = 10_000) -> float:
    """The mean KL in nats, over tokens of held-out stories, from their bigram law to what the model says of a token.

    A table of counts is sharper than the law: its entropy is too low by about (pairs seen - rows) / (2 tokens), which
    is put right here (Miller 1955).
    """
    counts = _pair_counts(count, model.cfg.n_ctx, model.cfg.d_vocab)
    said = _log_probs(model, torch.arange(model.cfg.d_vocab)[:, None])[:, 0].double()
    law = (counts / counts.sum(1, keepdim=True).clamp(min=1)).clamp(min=1e-300).log()
    too_sharp = ((counts > 0).sum() - (counts.sum(1) > 0).sum()) / 2
    return (((counts * (law - said)).sum() - too_sharp) / counts.sum()).item()


@functools.cache  # a model and its control are measured on the same stories
def _pair_counts(count: int, n_ctx: int, d_vocab: int) -> Float[Tensor, "token next"]:
    tokens = corpus.batch(count, n_ctx, corpus.HELD_OUT)
    first, second = (part[tokens[:, 1:] != 0] for part in (tokens[:, :-1], tokens[:, 1:]))
    counts = torch.zeros(d_vocab, d_vocab, dtype=torch.float64)
    return counts.index_put((first, second), torch.ones(len(first), dtype=torch.float64), accumulate=True)


@torch.no_grad()
def _log_probs(model: "TransformerBridge", tokens: Int[Tensor, "rows pos"]) -> Float[Tensor, "rows pos vocab"]:
    return torch.cat([model(part).log_softmax(-1) for part in tokens.split(32)])


class Question(NamedTuple):
    """A place in a held-out story where only one token is right."""

    story: int  # its number in corpus.stories(..., corpus.HELD_OUT)
    position: int  # of the right token; it is predicted from the row's [BOS] and the tokens before it
    right: str


def questions(stories: int = 2000, most: int = 80, n_ctx: int = 128) -> dict[str, list[Question]]:
    """Questions on held-out stories, at most `most` of each topic.

    receiver: who gets the object, where two people are there and no creature (the giver is the tempting wrong answer).
    agreement: the pronoun after "so" or "but", for a person of a common name.
    list: each object that is taken out again, in order. colour: the colour of an object that was found.
    """
    asked: dict[str, list[Question]] = {"receiver": [], "agreement": [], "list": [], "colour": []}
    for number, story in enumerate(corpus.stories(stories, corpus.HELD_OUT)):
        creature = {person["name"]: person["creature"] for person in story.facts["people"]}
        for event in story.facts["events"]:
            start, stop = event["tokens"]
            kind, said = event["kind"], story.tokens[start:stop]
            if kind == "give" and len(creature) == 2:
                topic, places = "receiver", [said.index(" to") + 1]
            elif kind in ("feel", "lose") and creature[event["who"]] is None:
                topic, places = "agreement", [said.index(" so" if kind == "feel" else " but") + 1]
            elif kind == "list":
                topic = "list"
                places = [i for i in range(said.index(" out"), len(said)) if said[i].strip() in event["items"]]
            elif kind == "colour":
                topic, places = "colour", [said.index(" was") + 1]
            else:
                continue
            asked[topic] += [Question(number, start + place, said[place]) for place in places]
        if all(len(found) >= most for found in asked.values()):
            break
    return {
        topic: [question for question in found if question.position < n_ctx - 1][:most]
        for topic, found in asked.items()
    }


def story_model(model: "TransformerBridge") -> dict[str, float]:
    """All measures of a story model: `story_gap`, and for each topic of `questions` the share answered rightly.

    Rightly: no token of the vocabulary is likelier than the right one.
    """
    ids = corpus.tokenizer().get_vocab()
    found = {"story_gap": story_gap(model)}
    for topic, asked in questions(n_ctx=model.cfg.n_ctx).items():
        rows = [corpus.batch(1, model.cfg.n_ctx, corpus.HELD_OUT, first=question.story) for question in asked]
        log_probs = _log_probs(model, torch.cat(rows))
        right = [row[q.position].argmax().item() == ids[q.right] for row, q in zip(log_probs, asked, strict=True)]
        found[topic] = sum(right) / len(right)
    return found
