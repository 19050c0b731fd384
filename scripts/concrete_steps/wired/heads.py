"""The heads, one function each: what they read and write in a residual stream whose spaces are known.

A head's four matrices act on the plain basis; `build` rotates them afterwards. A score of MATCH at one key and 0 at
the others gives it all of the attention but e^-MATCH; [BOS] gets half of that from heads that may find no match.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

MATCH = 40.0


@dataclass
class Spaces:
    """Which axes of the plain residual stream hold what. Token axes: [BOS], then the ordinary tokens."""

    n_tokens: int
    n_ctx: int
    copies: int
    token: slice = field(init=False)
    position: slice = field(init=False)
    previous: list[slice] = field(init=False)  # one space a copy of the circuit: the token before
    out: slice = field(init=False)  # read by the unembedding
    seen: slice = field(init=False)
    junk: slice = field(init=False)  # read by nobody
    size: int = field(init=False)

    def __post_init__(self):
        self.size = 0
        self.token = self._take(1 + self.n_tokens)
        self.position = self._take(self.n_ctx)
        self.previous = [self._take(self.n_tokens) for _ in range(self.copies)]
        self.out = self._take(self.n_tokens)
        self.seen = self._take(1)
        self.junk = self._take(self.n_tokens)

    def _take(self, n: int) -> slice:
        self.size += n
        return slice(self.size - n, self.size)

    @property
    def words(self) -> slice:
        """The token axes without [BOS]."""
        return slice(self.token.start + 1, self.token.stop)

    @property
    def bos(self) -> int:
        return self.token.start


@dataclass
class Weights:
    """One head. W_Q, W_K, W_V: [d_model d_head]; W_O: [d_head d_model]. Scores are divided by sqrt(d_head)."""

    W_Q: Float[Tensor, "d_model d_head"]
    W_K: Float[Tensor, "d_model d_head"]
    W_V: Float[Tensor, "d_model d_head"]
    W_O: Float[Tensor, "d_head d_model"]


def blank(d_model: int, d_head: int) -> Weights:
    return Weights(*(torch.zeros(d_model, d_head) for _ in range(3)), torch.zeros(d_head, d_model))


def needed_d_head(n_tokens: int, n_ctx: int) -> int:
    """The duplicate-token head compares tokens and positions, and has an axis for [BOS]."""
    return n_tokens + n_ctx + 1


def look_back(head: Weights, spaces: Spaces, offset: int) -> None:
    """Attention to the position `offset` before the query, or to position 0 where there is none."""
    n = spaces.n_ctx
    target = (torch.arange(n) - offset).clamp(min=0)
    head.W_Q[spaces.position, :n] = torch.eye(n)[target]
    head.W_K[spaces.position, :n] = torch.eye(n) * strength(head)


def look_for_token(head: Weights, spaces: Spaces, key_space: slice) -> None:
    """Attention to the keys whose `key_space` holds the query's token, shared evenly, or else to [BOS]."""
    n = spaces.n_tokens
    head.W_Q[spaces.words, :n] = torch.eye(n)
    head.W_K[key_space, :n] = torch.eye(n) * strength(head)
    rest_on_bos(head, spaces, axis=head.W_Q.shape[1] - 1, share=0.5)


def not_itself(head: Weights, spaces: Spaces) -> None:
    """Takes twice a match away from the query's own position."""
    axes = slice(spaces.n_tokens, spaces.n_tokens + spaces.n_ctx)
    head.W_Q[spaces.position, axes] = torch.eye(spaces.n_ctx)
    head.W_K[spaces.position, axes] = -2 * torch.eye(spaces.n_ctx) * strength(head)


def rest_on_bos(head: Weights, spaces: Spaces, axis: int = 0, share: float = 1.0) -> None:
    """Every query gives [BOS] this share of a match: the attention sink."""
    head.W_Q[spaces.token, axis] = 1
    head.W_K[spaces.bos, axis] = share * strength(head)


def copy_token(head: Weights, spaces: Spaces, into: slice, gain: float) -> None:
    """Writes the attended token, but for [BOS], into a space."""
    n = spaces.n_tokens
    head.W_V[spaces.words, :n] = torch.eye(n)
    head.W_O[:n, into] = gain * torch.eye(n)


def write_flag(head: Weights, spaces: Spaces, into: slice, gain: float) -> None:
    """Writes `gain` where an ordinary token is attended to, and nothing for [BOS]."""
    head.W_V[spaces.words, 0] = 1
    head.W_O[0, into] = gain


def strength(head: Weights) -> float:
    """What makes a product of two unit entries a score of MATCH."""
    return MATCH * head.W_Q.shape[1] ** 0.5
