"""Models whose predictions come along few paths of many: the open task of notebook 4.1.

    model, truth = wired.expansions(seed=0)
    truth.paths                 # {(), ((0, 2),), ((0, 1), (1, 3))}: heads in the order in which they are passed

Decoys move logits as far as the real paths do, or further, and change no prediction when all of them are gone: two that
cancel, and heads that raise every logit alike.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from concrete_steps.errors import CourseError
from concrete_steps.wired import heads as wiring
from concrete_steps.wired.build import add_noise, hide, stream_ends, to_bridge
from concrete_steps.wired.heads import Spaces, Weights
from concrete_steps.wired.truth import OUT_GAIN, Head

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

Path = tuple[Head, ...]
DIRECT, SINGLE, VIRTUAL = "direct", "single", "virtual"
CANCEL, CANCEL_VIRTUAL, ALIKE = "cancelling", "cancelling virtual", "alike"
GAIN, LOUD = 4.0, 7.0  # logits that a real path, and a decoy, adds


@dataclass(frozen=True)
class PathTruth:
    """Along which paths the predictions come.

    Attributes:
        paths: the smallest set of paths whose logits, added up, give the model's predictions. () is the direct path.
        roles: what each head was made as.
        n_tokens: ordinary tokens have the ids 1 .. n_tokens; 0 is [BOS].
    """

    paths: frozenset[Path]
    roles: dict[Head, str]
    n_tokens: int
    n_ctx: int

    def tokens(self, rows: int, seed: int) -> Int[Tensor, "row pos"]:
        """[BOS] and random tokens, as long as the model can read."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(1, self.n_tokens + 1, (rows, self.n_ctx - 1), generator=generator)
        return torch.cat([torch.zeros(rows, 1, dtype=torch.long), drawn], dim=1)


def expansions(
    seed: int,
    *,
    n_layers: int = 2,
    n_heads: int = 6,
    n_tokens: int = 8,
    n_ctx: int = 16,
    real: tuple[str, ...] = (DIRECT, SINGLE, VIRTUAL),
    decoys: tuple[str, ...] = (CANCEL, CANCEL_VIRTUAL, ALIKE),
    rotate: bool = True,
    noise: float = 0.0,
) -> tuple[TransformerBridge, PathTruth]:
    """A model of attention alone whose predictions come along `real` paths, at random places, and the truth about it.

    Args:
        real: "direct" (once), "single" heads, and "virtual" ones, of two heads of which neither does anything alone.
        decoys: "cancelling" are two heads that look at one place and write opposite logits; "cancelling virtual" the
            same behind one writer; "alike" raises all logits by the same.
        rotate, noise: as in `build`.

    Raises:
        CourseError: for a path or decoy that is not known, and where the heads do not fit into the layers.
    """
    draw = random.Random(f"expansions {seed}")
    generator = torch.Generator().manual_seed(draw.getrandbits(31))
    known = (DIRECT, SINGLE, VIRTUAL, CANCEL, CANCEL_VIRTUAL, ALIKE)
    unknown = [kind for kind in (*real, *decoys) if kind not in known]
    if unknown:
        raise CourseError(f"There is no {unknown[0]!r}: use {', '.join(known)}.")
    notes = real.count(VIRTUAL) + decoys.count(CANCEL_VIRTUAL)
    spaces = Spaces(n_tokens, n_ctx, notes)
    maker = _filled(draw, generator, spaces, n_layers, n_heads, kinds=(*real, *decoys))
    embed, positions, unembed = stream_ends(spaces.size, spaces)
    unembed[spaces.seen] = OUT_GAIN  # along this axis all logits rise alike
    if DIRECT in real:
        unembed[spaces.words, 1 : n_tokens + 1] = GAIN * torch.eye(n_tokens)[maker.shuffled()]
    ends = embed, positions, unembed
    if rotate:
        ends = hide(maker.grid, *ends, generator)
    if noise:
        add_noise(maker.grid, list(ends), noise, generator)
    model = to_bridge(maker.grid, *ends, n_layers, n_heads)
    return model, PathTruth(frozenset(maker.paths), maker.roles, n_tokens, n_ctx)


def _filled(draw, generator, spaces: Spaces, n_layers: int, n_heads: int, kinds: tuple[str, ...]) -> _Maker:
    """Places are drawn one by one, and may leave none above a late writer: then they are all drawn again."""
    for tries_left in reversed(range(50)):
        maker = _Maker(draw, generator, spaces, n_layers, n_heads)
        try:
            for kind in kinds:
                maker.add(kind)
        except CourseError:
            if not tries_left:
                raise
        else:
            return maker


class _Maker:
    """Writes heads at random free places."""

    def __init__(self, draw, generator, spaces: Spaces, n_layers: int, n_heads: int):
        self.draw, self.generator, self.spaces = draw, generator, spaces
        places = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
        d_head = wiring.needed_d_head(spaces.n_tokens, spaces.n_ctx)
        self.grid = {place: wiring.blank(spaces.size, d_head) for place in places}
        self.roles = dict.fromkeys(places, "idle")
        self.free = draw.sample(places, len(places))
        self.last_layer = n_layers - 1
        self.paths: set[Path] = set()
        self.unread = list(spaces.previous)
        self.offsets = draw.sample(range(spaces.n_ctx // 2), spaces.n_ctx // 2)
        self.reached: set[int] = set()  # how far back heads fetch a token: no two from one place
        for head in self.grid.values():  # idle: looks somewhere, writes where nobody reads
            self.writes(head, draw.randint(0, 3), spaces.words, spaces.junk, 1.0)

    def add(self, kind: str) -> None:
        if kind == DIRECT:
            self.paths.add(())
        elif kind == SINGLE:
            self.paths.add((self.to_logits(kind, GAIN),))
        elif kind == ALIKE:
            place = self.take(kind)
            self.writes(self.grid[place], self.draw.randint(0, 3), self.spaces.words, None, LOUD)
        elif kind == CANCEL:
            back = self.offset()
            for sign in (1, -1):
                self.to_logits(kind, sign * LOUD, back)
        else:
            note = self.unread.pop()
            writer = self.take(f"{kind}: writer", before_last=True)
            ahead = self.draw.randint(0, 2)
            self.writes(self.grid[writer], ahead, self.spaces.words, note, 1.0)
            back = self.offset(ahead)
            for gain in (GAIN,) if kind == VIRTUAL else (LOUD, -LOUD):
                reader = self.to_logits(f"{kind}: reader", gain, back, note, above=writer[0])
                if kind == VIRTUAL:
                    self.paths.add((writer, reader))

    def to_logits(self, role, gain, back=None, source=None, above: int = -1) -> Head:
        """A head that raises the logits of what it finds `back` positions ago."""
        place = self.take(role, above=above)
        source = self.spaces.words if source is None else source
        self.writes(self.grid[place], self.offset() if back is None else back, source, self.spaces.out, gain / OUT_GAIN)
        return place

    def writes(self, head: Weights, back: int, source: slice, into: slice | None, gain: float) -> None:
        """Looks `back` and writes what `source` holds there; `into` None: a constant for all logits."""
        n = self.spaces.n_tokens
        for matrix in (head.W_Q, head.W_K, head.W_V, head.W_O):
            matrix.zero_()
        wiring.look_back(head, self.spaces, back)
        head.W_V[source, :n] = torch.eye(n)
        if into is None:
            head.W_O[:n, self.spaces.seen] = gain / OUT_GAIN
        else:
            head.W_O[:n, into] = gain * torch.eye(n)

    def take(self, role: str, above: int = -1, before_last: bool = False) -> Head:
        """A free place in a layer after `above`."""
        for place in self.free:
            if place[0] > above and not (before_last and place[0] == self.last_layer):
                self.free.remove(place)
                self.roles[place] = role
                return place
        raise CourseError("The layers do not hold these paths and decoys: give more heads.")

    def offset(self, ahead: int = 0) -> int:
        """How far back a head looks that finds what one before it fetched from `ahead` further back.

        A decoy that fetched what a real path fetches would say the same, only louder.
        """
        for back in reversed(self.offsets):
            if back + ahead not in self.reached:
                self.offsets.remove(back)
                self.reached.add(back + ahead)
                return back
        raise CourseError("There are more paths than places to look at: give a longer n_ctx.")

    def shuffled(self) -> Tensor:
        return torch.randperm(self.spaces.n_tokens, generator=self.generator)
