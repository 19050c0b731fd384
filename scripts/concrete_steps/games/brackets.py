"""Strings of brackets, balanced and almost balanced, as tokens with their labels.

A string is balanced when, read from the left, its height (how many "(" are still open) never falls below 0 and ends at
0. A string of at most 40 brackets becomes 42 tokens: START, the brackets, END, then PAD.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

PAD, START, OPEN, CLOSE, END = range(5)
N_TOKENS = 5
MAX_BRACKETS = 40
N_CTX = MAX_BRACKETS + 2
BALANCED, ONE_FLIPPED, TWO_SWAPPED, SHUFFLED, RANDOM = range(5)
KINDS = {
    BALANCED: "balanced: drawn uniformly from all balanced strings of its length",
    ONE_FLIPPED: "one flipped: a balanced string with one bracket turned round, so the count is wrong",
    TWO_SWAPPED: 'two swapped: a balanced string with a "(" and a ")" exchanged, so the count is right',
    SHUFFLED: "shuffled: as many ( as ), in any order",
    RANDOM: "random: every bracket by a coin, any length",
}
MIX = [0.4, 0.15, 0.15, 0.15, 0.15]  # so that a little under half of all strings are balanced

# Inside this module a string is a row of steps: +1 for "(", -1 for ")", 0 after its end.
Steps = Int[Tensor, "string position"]


def heights(tokens: Int[Tensor, "string token"]) -> Int[Tensor, "string token"]:
    """How many brackets are open after each token; negative after too many ")"."""
    return ((tokens == OPEN).long() - (tokens == CLOSE).long()).cumsum(-1)


def is_balanced(tokens: Int[Tensor, "string token"]) -> Bool[Tensor, " string"]:
    """Whether each string is balanced."""
    height = heights(tokens)
    return (height.amin(-1) >= 0) & (height[:, -1] == 0)


def sample(
    n_strings: int, generator: torch.Generator
) -> tuple[Int[Tensor, "string token"], Bool[Tensor, " string"], Int[Tensor, " string"]]:
    """Random strings, whether each is balanced, and the kind (a key of KINDS) as which it was drawn.

    A string drawn as TWO_SWAPPED, SHUFFLED or RANDOM may be balanced by chance; the label is always the truth.
    """
    weights = torch.tensor(MIX)
    kind = torch.multinomial(weights, n_strings, replacement=True, generator=generator)
    pairs = torch.randint(1, MAX_BRACKETS // 2 + 1, (n_strings,), generator=generator)
    balanced = _balanced(pairs, generator)
    drawn = torch.stack(
        [
            balanced,
            _flip_one(balanced, generator),
            _swap_two(balanced, generator),
            _shuffled(pairs, pairs, generator)[:, :MAX_BRACKETS],
            _random(n_strings, generator),
        ]
    )
    tokens = _tokens(drawn[kind, torch.arange(n_strings)])
    return tokens, is_balanced(tokens), kind


def classify(model: "TransformerBridge", tokens: Int[Tensor, "string token"]) -> Float[Tensor, "string 2"]:
    """The logits of "not balanced" and "balanced"; padding is masked out of the attention."""
    return model(tokens, attention_mask=(tokens != PAD).long())[:, 0]


def tokenise(strings: list[str]) -> Int[Tensor, "string token"]:
    """Strings such as "(())()", of at most 40 brackets, as tokens."""
    steps = torch.zeros(len(strings), MAX_BRACKETS, dtype=torch.long)
    for row, string in enumerate(strings):
        if len(string) > MAX_BRACKETS or set(string) - set("()"):
            raise ValueError(f"{string!r} is not a string of at most {MAX_BRACKETS} brackets ( and )")
        steps[row, : len(string)] = torch.tensor([1 if bracket == "(" else -1 for bracket in string])
    return _tokens(steps)


def to_strings(tokens: Int[Tensor, "string token"]) -> list[str]:
    """The brackets of each row of tokens, without START, END and PAD."""
    names = {OPEN: "(", CLOSE: ")"}
    return ["".join(names.get(token, "") for token in row) for row in tokens.tolist()]


def _tokens(steps: Steps) -> Int[Tensor, "string token"]:
    n_strings, lengths = len(steps), (steps != 0).sum(-1)
    tokens = torch.full((n_strings, N_CTX), PAD)
    tokens[:, 0] = START
    tokens[:, 1:-1] = torch.where(steps == 1, OPEN, torch.where(steps == -1, CLOSE, PAD))
    tokens[torch.arange(n_strings), lengths + 1] = END
    return tokens


def _shuffled(n_open: Int[Tensor, " string"], n_close: Int[Tensor, " string"], generator: torch.Generator) -> Steps:
    """`n_open` steps up and `n_close` down in uniformly random order; one position longer than a string."""
    position = torch.arange(MAX_BRACKETS + 1)
    length = n_open + n_close
    keys = torch.rand(len(n_open), MAX_BRACKETS + 1, generator=generator)
    keys = keys.masked_fill(position >= length[:, None], 2.0)  # positions past the end come last
    rank = keys.argsort(-1).argsort(-1)
    steps = torch.where(rank < n_open[:, None], 1, -1)
    return steps.masked_fill(position >= length[:, None], 0)


def _balanced(pairs: Int[Tensor, " string"], generator: torch.Generator) -> Steps:
    """Uniform balanced strings by the cycle lemma (Dvoretzky and Motzkin 1947).

    Of the 2n+1 rotations of n steps up and n+1 down, exactly one stays at 0 or above until its very last step: the one
    that begins right after the lowest point is first reached. Without that last step it is a balanced string.
    """
    steps = _shuffled(pairs, pairs + 1, generator)
    length = 2 * pairs[:, None] + 1
    position = torch.arange(MAX_BRACKETS + 1)
    height = steps.cumsum(-1).masked_fill(position >= length, MAX_BRACKETS)
    begin = (height * N_CTX + position).argmin(-1, keepdim=True) + 1  # the first of equally low points
    rotated = steps.gather(1, (begin + position) % length)
    return rotated.masked_fill(position >= length - 1, 0)[:, :MAX_BRACKETS]


def _pick(allowed: Bool[Tensor, "string position"], generator: torch.Generator) -> Int[Tensor, " string"]:
    """For each string one of the allowed positions, uniformly."""
    luck: Float[Tensor, "string position"] = torch.rand(allowed.shape, generator=generator)
    return luck.masked_fill(~allowed, -1.0).argmax(-1)


def _flip_one(steps: Steps, generator: torch.Generator) -> Steps:
    rows, where = torch.arange(len(steps)), _pick(steps != 0, generator)
    flipped = steps.clone()
    flipped[rows, where] = -steps[rows, where]
    return flipped


def _swap_two(steps: Steps, generator: torch.Generator) -> Steps:
    rows, up, down = torch.arange(len(steps)), _pick(steps == 1, generator), _pick(steps == -1, generator)
    swapped = steps.clone()
    swapped[rows, up], swapped[rows, down] = -1, 1
    return swapped


def _random(n_strings: int, generator: torch.Generator) -> Steps:
    coin = torch.randint(0, 2, (n_strings, MAX_BRACKETS), generator=generator) * 2 - 1
    length = torch.randint(1, MAX_BRACKETS + 1, (n_strings, 1), generator=generator)
    return coin.masked_fill(torch.arange(MAX_BRACKETS) >= length, 0)
