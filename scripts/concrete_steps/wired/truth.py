"""What is true of a wired model: the role of every head, the edges between them, and what each removal does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from concrete_steps.errors import CourseError

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

Head = tuple[int, int]  # (layer, head)
Edge = tuple[Head, Head, str]  # (writer, reader, which of the reader's inputs: "k")
BEHAVIOURS = ("induction", "seen", "copying")
OUT_GAIN = 10.0  # logit that one induction circuit gives the expected token, and one duplicate-token head SEEN
COPY_GAIN = 4.0  # logit that a token of the context gets from a copying head, times its share of the context


@dataclass(frozen=True)
class Truth:
    """The exact truth about one wired model.

    Attributes:
        n_tokens: ordinary tokens have the ids 1 .. n_tokens; 0 is [BOS], n_tokens + 1 the output SEEN.
        n_ctx: longest sequence.
        roles: each head's role; those that begin with "decoy" have a telling pattern and no effect on any logit,
            and "idle" ones have neither.
        edges: which head feeds which other one, and where.
        paths: for each behaviour the sets of heads that do it; while one set is whole, the behaviour stands.
        period: how far back the offset decoys look, and so the length of repeats on which they pass for induction.
    """

    n_tokens: int
    n_ctx: int
    roles: dict[Head, str]
    edges: frozenset[Edge]
    paths: dict[str, tuple[frozenset[Head], ...]]
    period: int

    @property
    def seen_id(self) -> int:
        return self.n_tokens + 1

    @property
    def used(self) -> frozenset[Head]:
        """Heads that some behaviour runs through, spare copies included; all others change no logit."""
        return frozenset().union(*(path for paths in self.paths.values() for path in paths))

    @property
    def decoys(self) -> frozenset[Head]:
        """Heads that look like part of a circuit and are not."""
        return frozenset(head for head, role in self.roles.items() if role.startswith("decoy"))

    def with_role(self, role: str) -> frozenset[Head]:
        """Heads of exactly this role, such as "induction" or "decoy: offset"."""
        return frozenset(head for head, named in self.roles.items() if named == role)

    def works_without(self, behaviour: str, heads: Iterable[Head]) -> bool:
        """True if the behaviour stands when these heads are removed."""
        return self.share_left(behaviour, heads) > 0

    def share_left(self, behaviour: str, heads: Iterable[Head]) -> float:
        """The share of the behaviour's height in the logits that stands when these heads are removed."""
        gone, paths = set(heads), self.paths[behaviour]
        return sum(path.isdisjoint(gone) for path in paths) / max(len(paths), 1)


def repeated(truth: Truth, batch: int, seed: int, length: int | None = None) -> Int[Tensor, "batch pos"]:
    """[BOS], then `length` different tokens in random order, twice: each token of the second half has one precedent."""
    import torch

    length = length or min(truth.n_tokens, (truth.n_ctx - 1) // 2)
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(batch, truth.n_tokens, generator=generator).argsort(-1)[:, :length] + 1
    return torch.cat([torch.zeros(batch, 1, dtype=torch.long), order, order], dim=1)


def random_text(truth: Truth, batch: int, length: int, seed: int) -> Int[Tensor, "batch pos"]:
    """[BOS], then `length` tokens drawn evenly with replacement."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(1, truth.n_tokens + 1, (batch, length), generator=generator)
    return torch.cat([torch.zeros(batch, 1, dtype=torch.long), drawn], dim=1)


def pairs(truth: Truth, behaviour: str, batch: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clean and corrupted prompts [batch pos] that differ in what one behaviour reads, right and wrong tokens [batch].

    induction: two tokens change places, so that another one follows the last token's precedent; seen: the last token's
    precedent is replaced, `wrong` being a token of neither prompt; copying: one token of the context is replaced. The
    other behaviours give right and wrong the same logit in both prompts.
    """
    import torch

    if behaviour not in BEHAVIOURS:
        raise CourseError(f"There is no behaviour {behaviour!r}: use one of {', '.join(BEHAVIOURS)}.")
    generator = torch.Generator().manual_seed(seed)
    n, rows = truth.n_tokens, []
    length = min(n, truth.n_ctx) - 2  # two tokens stay out, and the last position is the query's
    for _ in range(batch):
        *row, spare, other = (torch.randperm(n, generator=generator)[: length + 2] + 1).tolist()
        first, second = sorted((torch.randperm(length // 2, generator=generator)[:2] * 2).tolist())
        changed = list(row)
        if behaviour == "induction":
            changed[first], changed[second] = row[second], row[first]
            answers, last = (row[first + 1], row[second + 1]), [row[first]]
        elif behaviour == "seen":
            changed[first] = spare
            answers, last = (truth.seen_id, other), [row[first]]
        else:
            changed[first] = spare
            answers, last = (row[first], spare), [other]
        rows.append(([0, *row, *last], [0, *changed, *last], *answers))
    return tuple(torch.tensor(column) for column in zip(*rows, strict=True))


@contextlib.contextmanager
def removed(model: TransformerBridge, heads: Iterable[Head]) -> Iterator[None]:
    """Within the block these heads write nothing: their z is zero."""
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        by_layer.setdefault(layer, []).append(head)

    def zero(which: list[int]):
        def hook(z, hook):
            z = z.clone()
            z[:, :, which] = 0
            return z

        return hook

    hooks = [(f"blocks.{layer}.attn.hook_z", zero(which)) for layer, which in by_layer.items()]
    with model.hooks(fwd_hooks=hooks):
        yield


def measure(model: TransformerBridge, truth: Truth, behaviour: str, tokens: Int[Tensor, "batch pos"]) -> float:
    """How well one behaviour stands, from 0 to 1, on rows that `repeated` made: see `measures`."""
    if behaviour not in BEHAVIOURS:
        raise CourseError(f"There is no behaviour {behaviour!r}: use one of {', '.join(BEHAVIOURS)}.")
    return measures(model, truth, tokens)[behaviour]


def measures(model: TransformerBridge, truth: Truth, tokens: Int[Tensor, "batch pos"]) -> dict[str, float]:
    """How well each behaviour stands, from 0 to 1, on rows that `repeated` made.

    induction: share of right next tokens in the second half. seen: share of positions at which SEEN's logit is above
    half of its height just where the current token occurred before. copying: share of positions of the first half at
    which the tokens so far have a higher mean logit than the others, by a tenth of what copying gives them.
    """
    import torch

    with torch.no_grad():
        logits = model(tokens)
    half = (tokens.shape[1] - 1) // 2
    ordinary = logits[..., 1 : truth.n_tokens + 1]
    guesses = ordinary[:, half + 1 : -1].argmax(-1) + 1
    before = torch.arange(1, tokens.shape[1]) > half
    places = torch.arange(1, half)
    context = torch.nn.functional.one_hot(tokens[:, places], truth.n_tokens + 2)[..., 1:-1].cumsum(1) > 0
    inside = (ordinary[:, places] * context).sum(-1) / context.sum(-1)
    outside = (ordinary[:, places] * ~context).sum(-1) / (~context).sum(-1)
    return {
        "induction": (guesses == tokens[:, half + 2 :]).double().mean().item(),
        "seen": ((logits[:, 1:, truth.seen_id] > OUT_GAIN / 2) == before).double().mean().item(),
        "copying": (inside - outside > COPY_GAIN / 10 / (1 + places)).double().mean().item(),
    }
