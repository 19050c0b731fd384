"""Claims about heads of models that nobody has seen, sound or with one fault, for the open task of notebook 4.3.

    claim = wired.claim("attention", "the pattern is about places", seed=3)

A claim is a record of what was looked at and of the figure that was printed. Whoever reads the record alone cannot tell
a sound claim from a faulty one: the figures are the same, and the heads stand at random places.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from concrete_steps.errors import CourseError
from concrete_steps.wired.build import build
from concrete_steps.wired.truth import OUT_GAIN, Head, Truth, removed, repeated

SOUND = "sound"
FAULTS = {
    "attention": {
        "the pattern is about places": "the head looks a fixed way back, which passes for more on these rows",
        "attended, not used": "the head looks where it is said to, and nothing depends on it",
    },
    "zero": {"zero is no neutral value": "the head writes the same in every row, and only zero takes that away"},
    "removal": {
        "another head takes over": "the head works; another writes the same: remove either, and nothing is missed"
    },
    "direct": {"others carry it on": "the head writes nothing that the logits read, and what reads it needs it"},
    "overlap": {"overlap is not faithfulness": "most heads are in the set, and one that is needed is not"},
    "correlation": {"best of many": "the head was the best of all on these rows, by luck"},
}
ROWS, FEW = 20, 7  # rows of a claim, and of one that searches all heads


@dataclass(frozen=True)
class Rows:
    """Data: [BOS], different tokens, and again the first of them; then the right next token is known.

    Attributes:
        tokens: [row pos]; the last token stood once before, at the same place in every row.
        right: [row] the token that followed it there.
        rated: [row] a number for each row, from outside; used by claims "correlation" alone.
    """

    tokens: Int[Tensor, "row pos"]
    right: Int[Tensor, " row"]
    rated: Float[Tensor, " row"]


@dataclass(frozen=True)
class Claim:
    """What was claimed, by which method, on which data.

    Attributes:
        by: one of FAULTS' keys, the method.
        heads: the heads (layer, head) that the claim is about; one, but for "overlap".
        reference: the heads of a circuit found by others; used by claims "overlap" alone.
        value, null: the printed figure, and what it was compared with.
        model: the model that the claim is about.
        rows: the data that it was made on.
        fresh: other data; the distance between a token's two places is another there.
    """

    by: str
    heads: tuple[Head, ...]
    reference: tuple[Head, ...]
    value: float
    null: float
    model: object
    rows: Rows
    fresh: Rows

    def measure(self, logits: Float[Tensor, "row pos d_vocab"], rows: Rows) -> Float[Tensor, " row"]:
        """The probability of the right token, at the last position of each row."""
        return logits[:, -1].softmax(-1).gather(-1, rows.right[:, None])[:, 0]

    def __str__(self) -> str:
        named = ", ".join(f"L{layer}H{head}" for layer, head in self.heads)
        says = {
            "attention": f"{named} carries the answer: it looks at the right place, {self.value} (even: {self.null})",
            "zero": f"{named} carries the answer: zeroed, P(right) falls by {self.value} (others' median: {self.null})",
            "removal": f"{named} is idle: with its mean in its place P(right) falls by {self.value}",
            "direct": f"{named} is idle: it adds {self.value} to the right token's logit",
            "overlap": f"{named} suffice: {self.value:.0%} of them are in the known circuit (random: {self.null:.0%})",
            "correlation": f"{named} foretells the rating: its attention to [BOS] has r = {self.value} (|r|), null 0",
        }
        return f"{says[self.by]}; {len(self.rows.tokens)} rows"


def claim(by: str, fault: str, seed: int) -> Claim:
    """A claim made by this method, with this fault or sound.

    Args:
        by: "attention", "zero", "removal", "direct", "overlap" or "correlation".
        fault: one of FAULTS[by], or "sound".
        seed: decides everything else.

    Raises:
        CourseError: no such method, or it has no such fault.
    """
    if by not in FAULTS or fault not in {SOUND, *FAULTS[by]}:
        raise CourseError(f"There is no claim by {by!r} with the fault {fault!r}: see wired.FAULTS.")
    return _claim(by, fault, seed)


@functools.lru_cache(maxsize=128)  # the same claims are asked for again where answers are compared on them
def _claim(by: str, fault: str, seed: int) -> Claim:
    draw = random.Random(f"claim {by} {fault} {seed}")
    made = None
    while made is None:  # not every model has a head of which this can be claimed
        made = attempt(by, fault, draw)
    return made


def attempt(by: str, fault: str, draw: random.Random) -> Claim | None:
    n_tokens = draw.randint(10, 13)
    model, truth = build(
        draw.getrandbits(30),
        n_layers=3 if by == "removal" else draw.choice([2, 3]),
        n_heads=draw.choice([5, 6]),
        n_tokens=n_tokens,
        copies=2 if by == "removal" else 1,
        behaviours=("induction",),
        noise=0.005,
    )
    cut = draw.randint(1, 2)
    other = draw.choice([n for n in range(4, n_tokens + 1) if n != truth.period])
    rows = rows_of(truth, truth.period, cut, FEW if by == "correlation" else ROWS, draw)
    fresh = rows_of(truth, other, cut, 5 * ROWS, draw)
    if by == "correlation":
        made = rated(model, truth, rows, fresh, fault, draw)
        return made and Claim(by, (made[2],), (), 0.9, 0.0, model, *made[:2])
    made = MAKERS[by](model, truth, fault, draw)
    if made and by == "zero" and round(fall_at_zero(model, made[0][0], rows), 1) != made[2]:
        return None
    return made and Claim(by, *made, model, rows, fresh)


def rows_of(truth: Truth, period: int, cut: int, count: int, draw: random.Random) -> Rows:
    whole = repeated(truth, count, draw.getrandbits(30), length=period)
    return Rows(whole[:, :-cut].clone(), whole[:, -cut].clone(), torch.zeros(count))


def one_of(draw: random.Random, truth: Truth, *roles: str) -> Head:
    return draw.choice(sorted(head for head, role in truth.roles.items() if role in roles))


def by_attention(model, truth: Truth, fault: str, draw: random.Random):
    role = {
        SOUND: "induction",
        "attended, not used": "decoy: mute induction",
        "the pattern is about places": "decoy: offset",
    }
    return (one_of(draw, truth, role[fault]),), (), 1.0, 0.1


def by_zero(model, truth: Truth, fault: str, draw: random.Random):
    if fault == SOUND:
        return (one_of(draw, truth, "previous", "induction"),), (), 0.9, 0.0
    head = one_of(draw, truth, "decoy: rest")
    hold_down(model, truth, head, draw)
    return (head,), (), 0.9, 0.0


def by_removal(model, truth: Truth, fault: str, draw: random.Random):
    """Idle heads have the patterns of those that work, so that a look at one does not tell.

    Whoever takes over stands in other layers than the head: a search of its own layer finds nobody.
    """
    role = draw.choice(["previous", "induction"])
    if fault == SOUND:
        return (one_of(draw, truth, f"decoy: mute {role}"),), (), 0.0, 0.0
    head = one_of(draw, truth, role)
    spare = next(path for path in truth.paths["induction"] if head not in path)
    return None if head[0] in {layer for layer, _ in spare} else ((head,), (), 0.0, 0.0)


def by_direct(model, truth: Truth, fault: str, draw: random.Random):
    """Idle heads look as those that work, and stand where others could read them; None where this one does not."""
    head = one_of(draw, truth, "decoy: mute previous" if fault == SOUND else "previous")
    return ((head,), (), 0.0, 0.0) if head[0] < model.cfg.n_layers - 1 else None


def by_overlap(model, truth: Truth, fault: str, draw: random.Random):
    """Four of the five heads of the known circuit, which holds more than is needed, and one more."""
    needed = sorted(truth.with_role("previous") | truth.with_role("induction"))
    alike = sorted(truth.with_role("decoy: mute previous") | truth.with_role("decoy: mute induction"))
    others = draw.sample(sorted(set(truth.roles) - {*needed, *alike}), 2)
    reference = needed + alike + others[:1]
    missing = draw.choice(alike if fault == SOUND else needed)
    claimed = [head for head in reference if head != missing] + others[1:]
    share = round(len(reference) / len(truth.roles), 1)
    return tuple(sorted(claimed)), tuple(sorted(reference)), 0.8, share


@torch.no_grad()
def fall_at_zero(model, head: Head, rows: Rows) -> float:
    """By how much P(right) falls when the head writes nothing: what a claim "zero" prints must be so."""

    def right() -> Tensor:
        return model(rows.tokens)[:, -1].softmax(-1).gather(-1, rows.right[:, None]).mean()

    whole = right()
    with removed(model, [head]):
        return float(whole - right())


MAKERS = {
    "attention": by_attention,
    "zero": by_zero,
    "removal": by_removal,
    "direct": by_direct,
    "overlap": by_overlap,
}


@torch.no_grad()
def hold_down(model, truth: Truth, head: Head, draw: random.Random) -> None:
    """One token is favoured everywhere, and this head, which rests on [BOS], takes that away in every row alike."""
    layer, index = head
    token, much = draw.randint(1, truth.n_tokens), OUT_GAIN + draw.uniform(2.2, 2.8)
    column = model.W_U[:, token]
    towards = much * column / (column @ column)  # adds `much` to the token's logit
    _, cache = model.run_with_cache(torch.zeros(1, 1, dtype=torch.long))
    stream = cache["resid_pre", layer][0, 0]  # of [BOS]
    weights = model.state_dict()
    d_head = model.cfg.d_head
    rows, prefix = slice(index * d_head, (index + 1) * d_head), f"blocks.{layer}.attn"
    value = torch.randn(d_head, generator=torch.Generator().manual_seed(draw.getrandbits(30)))
    value /= value.norm()
    weights[f"{prefix}.v.weight"][rows] = value[:, None] * stream / (stream @ stream)
    weights[f"{prefix}.o.weight"][:, rows] = -towards[:, None] * value
    weights["pos_embed.weight"] += towards


@torch.no_grad()
def rated(model, truth: Truth, rows: Rows, fresh: Rows, fault: str, draw: random.Random):
    """The rows with ratings that a head's attention to [BOS] foretells, or that are noise; and the best head there.

    None where no head comes out as wanted.
    """
    generator = torch.Generator().manual_seed(draw.getrandbits(30))
    heads = sorted(truth.roles)
    of_rows, of_fresh = (attention_to_bos(model, its.tokens, heads) for its in (rows, fresh))
    varied = [i for i, its in enumerate(of_rows) if min(its.std(), of_fresh[i].std()) > 0.05]
    for _ in range(400 if varied else 0):
        chosen = draw.choice(varied)
        ratings = [torch.randn(len(its.tokens), generator=generator) for its in (rows, fresh)]
        if fault == SOUND:
            attended = (of_rows[chosen], of_fresh[chosen])
            sign = draw.choice([-1, 1])  # noise has either, too
            ratings = [sign * (x - x.mean()) / x.std() + 0.4 * y for x, y in zip(attended, ratings, strict=True)]
        r = torch.stack([correlation(its, ratings[0]).abs() for its in of_rows])
        best = int(r.argmax())
        again = float(correlation(of_fresh[best], ratings[1]).abs())  # of noise small, or a right test would be misled
        as_wanted = best == chosen if fault == SOUND else again < 0.15
        if 0.85 <= r[best] < 0.95 and best in varied and as_wanted:
            new = [Rows(its.tokens, its.right, rating) for its, rating in zip((rows, fresh), ratings, strict=True)]
            return *new, heads[best]
    return None


def attention_to_bos(model, tokens: Tensor, heads: list[Head]) -> Float[Tensor, "head row"]:
    """From the last position."""
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("pattern"))
    return torch.stack([cache["pattern", layer][:, head, -1, 0] for layer, head in heads])


def correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(), b - b.mean()
    return (a @ b) / (a.norm() * b.norm()).clamp(min=1e-9)
