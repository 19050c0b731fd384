"""Small stories whose law is known: who gave what to whom, and exactly how likely every word was.

    from concrete_steps import corpus
    story = corpus.story(0)             # the same story on every machine
    print(story.text)
    story.facts["people"]               # what produced the text
    corpus.entropy()                    # nats per token, with its standard error
    corpus.next_token_probabilities(story.tokens[:10])   # the law's own prediction, exact

A model trained on these stories can be compared with the truth: its loss cannot be below the entropy, and every feature
that the text depends on is written down.
"""

import functools
import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concrete_steps.corpus import law, words
from concrete_steps.corpus.story import tell
from concrete_steps.errors import CourseError
from concrete_steps.paths import data_dir

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

PAD, BOS, END, UNKNOWN = "[PAD]", "[BOS]", law.END, "[UNK]"
SPECIAL = (PAD, BOS, END, UNKNOWN)
HELD_OUT = "held out"  # the seed of the stories that no shipped model was trained on


@dataclass(frozen=True)
class StoryText:
    """One story: its tokens (the last is [EOS]; no [BOS]), the facts behind it, and its log-probabilities in nats."""

    tokens: list[str]
    facts: dict[str, Any]
    token_log_probs: list[float]

    @property
    def text(self) -> str:
        """The story as a reader sees it."""
        return "".join(self.tokens).removesuffix(END)

    @property
    def log_prob(self) -> float:
        """The exact log-probability of the whole story, in nats."""
        return sum(self.token_log_probs)


def story(index: int, seed: int | str = 0) -> StoryText:
    """Story number `index` of the endless sequence `seed`; the same on every platform.

    `facts` holds people (name, gender, creature), place, events (kind, who takes part, `tokens` = [first, after last]),
    and depths (for each token, how many quotes and brackets are open after it). `token_log_probs`: see `law.Sampler`;
    their sum is exact.
    """
    writer = law.Sampler(rng=random.Random(f"{seed}/{index}"))
    facts = tell(writer)
    return StoryText(writer.tokens, facts, writer.token_log_probs)


def stories(count: int, seed: int | str = 0, first: int = 0) -> Iterator[StoryText]:
    """`count` stories of the sequence `seed`, from number `first` on."""
    return (story(index, seed) for index in range(first, first + count))


def entropy(samples: int = 2000, seed: int | str = HELD_OUT) -> tuple[float, float]:
    """The law's entropy per token, in nats, and the standard error of this estimate.

    Method: -log p(story) is exact for each sampled story, because every choice has a known probability and no two sets
    of choices write the same story (the tests check both). The entropy per token is E[-log p] / E[tokens], estimated as
    a ratio of sample means; the standard error is that of a ratio estimator.
    """
    drawn = list(stories(samples, seed))
    costs, lengths = [-s.log_prob for s in drawn], [len(s.tokens) for s in drawn]
    ratio = sum(costs) / sum(lengths)
    residuals = [cost - ratio * length for cost, length in zip(costs, lengths, strict=True)]
    spread = math.sqrt(sum(r * r for r in residuals) / (samples - 1))
    return ratio, spread / math.sqrt(samples) / (sum(lengths) / samples)


def token_log_probs(tokens: Sequence[str]) -> list[float]:
    """The exact log-probability in nats of each token of a story given those before it, by the forward algorithm.

    Raises:
        CourseError: the law cannot write this text.
    """
    try:
        return law.read(tell, list(tokens))[0]
    except ValueError as problem:
        raise CourseError(f"This is not a story of the corpus: {problem}; take tokens from corpus.story().") from None


def next_token_probabilities(tokens: Sequence[str]) -> dict[str, float]:
    """The law's exact distribution of the token after `tokens` (without [BOS]); empty when no story begins so."""
    return law.next_token_probabilities(tell, list(tokens))


@functools.cache
def vocabulary() -> list[str]:
    """All tokens in the order of their ids: the special ones, then all that 20,000 stories show, sorted."""
    seen = {token for s in stories(20_000, "vocabulary") for token in s.tokens}
    return [*SPECIAL, *sorted(seen - set(SPECIAL))]


def corpus_dir() -> Path:
    """The folder of the shipped slice and the tokenizer."""
    return data_dir() / "corpus"


@functools.cache
def tokenizer() -> "PreTrainedTokenizerFast":
    """The word-level tokenizer: a word with the space before it is one token, an invented name three; [BOS] is first.

    Raises:
        CourseError: data/corpus/tokenizer.json is missing or damaged.
    """
    from concrete_steps.corpus.files import load_tokenizer

    return load_tokenizer()


def token_ids(tokens: Sequence[str]) -> list[int]:
    """[BOS] and the tokens, as ids."""
    ids = _ids()
    return [ids[BOS], *(ids[token] for token in tokens)]


def batch(count: int, n_ctx: int, seed: int | str = 0, first: int = 0) -> "Int[Tensor, 'count n_ctx']":
    """Stories as rows of ids: [BOS], the tokens, then [PAD]; longer stories are cut at `n_ctx` tokens."""
    import torch

    rows = torch.full((count, n_ctx), _ids()[PAD])
    for row, s in zip(rows, stories(count, seed, first), strict=True):
        ids = token_ids(s.tokens)[:n_ctx]
        row[: len(ids)] = torch.tensor(ids)
    return rows


@functools.cache
def _ids() -> dict[str, int]:
    return tokenizer().get_vocab()


def shipped() -> list[dict[str, Any]]:
    """The shipped slice: one dict a story, with text, facts and log_prob; written from `stories(seed=0)`.

    Raises:
        CourseError: data/corpus/stories.jsonl is missing or damaged.
    """
    from concrete_steps.corpus.files import verified

    lines = verified("stories.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


__all__ = [
    "BOS", "END", "HELD_OUT", "PAD", "SPECIAL", "StoryText", "batch", "entropy", "next_token_probabilities", "shipped",
    "stories", "story", "token_ids", "token_log_probs", "tokenizer", "vocabulary", "words",
]  # fmt: skip
