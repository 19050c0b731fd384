"""The law behind the corpus: a program that makes choices of known probability, and what can be computed from it.

A story is written by calling a `Writer`: `choose` draws one of several options, `say` puts tokens on the page. The
writers share one grammar (story.py):

- `Sampler` draws at random, and adds up the log-probability of what it drew;
- `Replay` makes given choices and stops at the first token that is not the one given, so that it can read a text back;
- `read` uses it to follow every way in which the program could have written a text. This is the forward algorithm: the
  sums over these ways are the exact probability of each token given those before it, whatever the grammar.

Units: log-probabilities are in nats.
"""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

Option = TypeVar("Option")

TOKEN = re.compile(r" ?[A-Za-z]+| ?[0-9]+| ?[^ A-Za-z0-9]")
END = "[EOS]"


def split(text: str) -> list[str]:
    """The tokens of a text without invented names: words, numbers and signs, each with the space before it."""
    return TOKEN.findall(text)


@dataclass
class Writer:
    """Collects the tokens of one story and, for each, how many quotes and brackets are open after it."""

    tokens: list[str] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)

    def choose(self, options: Sequence[Option], weights: Sequence[float] | None = None) -> Option:
        """One of `options`, drawn with probability proportional to `weights` (default: all alike)."""
        raise NotImplementedError

    def say(self, text: str) -> None:
        """Put a text on the page."""
        for token in split(text):
            self.put(token)

    def word(self, options: Sequence[str], weights: Sequence[float] | None = None) -> str:
        """Choose a text and say it at once."""
        chosen = self.choose(options, weights)
        self.say(chosen)
        return chosen

    def put(self, token: str) -> None:
        """Put one token on the page."""
        depth = self.depths[-1] if self.depths else 0
        self.tokens.append(token)
        self.depths.append(depth + (token.strip() in "(“‘") - (token in ")”’"))


@dataclass
class Sampler(Writer):
    """Draws at random. `token_log_probs` holds, for each token, the log-probability of the choices made just before it.

    Their sum is the exact log-probability of the choices. One by one they are the exact conditional log-probabilities
    wherever the next token shows what was chosen; where two options begin alike ("One morning", "One evening"), the
    cost of choosing between them is booked on the shared first token. `read` books it exactly.
    """

    rng: random.Random = field(default_factory=random.Random)
    token_log_probs: list[float] = field(default_factory=list)
    pending: float = 0.0

    def choose(self, options: Sequence[Option], weights: Sequence[float] | None = None) -> Option:
        probabilities = normalise(options, weights)
        draw = self.rng.random()
        chosen = 0
        while chosen < len(options) - 1 and draw >= probabilities[chosen]:
            draw -= probabilities[chosen]
            chosen += 1
        self.pending += math.log(probabilities[chosen])
        return options[chosen]

    def put(self, token: str) -> None:
        super().put(token)
        self.token_log_probs.append(self.pending)
        self.pending = 0.0


def normalise(options: Sequence, weights: Sequence[float] | None) -> list[float]:
    """The options' probabilities."""
    if weights is None:
        return [1 / len(options)] * len(options)
    total = sum(weights)
    return [weight / total for weight in weights]


class Undecided(Exception):
    """A replay came to a choice that its script does not cover; `probabilities` are those of the options."""

    def __init__(self, probabilities: list[float]):
        self.probabilities = probabilities


class OffText(Exception):
    """A replay said something else than the text."""


class Said(Exception):
    """A replay reached the end of the given text and said one token more."""

    def __init__(self, token: str):
        self.token = token


@dataclass
class Replay(Writer):
    """Makes the choices of `script` (option numbers); checks each token against `text`; stops one token beyond it."""

    script: tuple[int, ...] = ()
    text: Sequence[str] = ()
    used: int = 0

    def choose(self, options: Sequence[Option], weights: Sequence[float] | None = None) -> Option:
        if self.used == len(self.script):
            raise Undecided(normalise(options, weights))
        self.used += 1
        return options[self.script[self.used - 1]]

    def put(self, token: str) -> None:
        position = len(self.tokens)
        if position == len(self.text):
            raise Said(token)
        if token != self.text[position]:
            raise OffText
        super().put(token)


def continuations(tell, text: Sequence[str], scripts: dict[tuple[int, ...], float]):
    """Every way to go on by one token.

    Args:
        tell: the grammar, a function of a writer.
        text: the tokens so far.
        scripts: choices that wrote `text`, each with its probability; `{(): 1.0}` covers every way.

    Returns:
        {next token: {script: probability}}; summed over scripts, the joint probability of text and next token.
    """
    found: dict[str, dict[tuple[int, ...], float]] = {}
    open_scripts = list(scripts.items())
    while open_scripts:
        script, probability = open_scripts.pop()
        try:
            tell(Replay(script=script, text=text))
        except Undecided as choice:
            open_scripts += [((*script, i), probability * p) for i, p in enumerate(choice.probabilities)]
        except Said as said:
            found.setdefault(said.token, {})[script] = probability
        except OffText:
            pass
    return found


def next_token_probabilities(tell, text: Sequence[str]) -> dict[str, float]:
    """The exact distribution of the token after `text`; empty where the law cannot have written `text`."""
    joint = {token: sum(scripts.values()) for token, scripts in continuations(tell, text, {(): 1.0}).items()}
    total = sum(joint.values())
    return {token: probability / total for token, probability in joint.items()}


def read(tell, tokens: Sequence[str]) -> tuple[list[float], int]:
    """The exact log-probability of each token given those before it, and in how many ways the program writes the text.

    Raises:
        ValueError: the law cannot write this text; the message says from which token on.
    """
    scripts: dict[tuple[int, ...], float] = {(): 1.0}
    log_probs = []
    for position, token in enumerate(tokens):
        found = continuations(tell, tokens[:position], scripts)
        if token not in found:
            raise ValueError(f"no story goes on with {token!r} at token {position}")
        total = sum(sum(ways.values()) for ways in found.values())
        scripts = found[token]
        log_probs.append(math.log(sum(scripts.values()) / total))
    return log_probs, len(scripts)
