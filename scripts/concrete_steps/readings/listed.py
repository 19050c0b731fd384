"""The reading list (readings.toml), joined with the topics' papers."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from concrete_steps.errors import CourseError
from concrete_steps.topics import load_topics

if TYPE_CHECKING:
    from IPython.display import Markdown


@dataclass(frozen=True)
class Reading:
    """A topic's paper: what it shows, what to replicate, and on which of the course's models."""

    topic: str
    shows: str
    replicate: str
    on: tuple[str, ...]


@functools.cache
def load_readings() -> dict[str, Reading]:
    """All readings by their topic's id, each after those that it needs."""
    rows = tomllib.loads(resources.files("concrete_steps").joinpath("readings.toml").read_text("utf-8"))
    return {
        topic: Reading(topic, **{**rows[topic], "on": tuple(rows[topic]["on"])})
        for topic in load_topics()
        if topic in rows
    }


def models() -> list[str]:
    """What a replication may name: the course's models, and "wired" and "trained here"."""
    from concrete_steps import mystery
    from concrete_steps.models import names

    return [*names(), "smollm2", "gpt2", *mystery.NAMES, "wired", "trained here"]


def table(topics: list[str] | None = None) -> Markdown:
    """The reading list as a table: all of it, or these topics in this order; topics that it lacks are left out.

    Raises:
        CourseError: there is no such topic.
    """
    from IPython.display import Markdown

    known, readings = load_topics(), load_readings()
    unknown = [topic for topic in topics or () if topic not in known]
    if unknown:
        raise CourseError(f"There is no topic {unknown[0]!r}: topics.load_topics() has their ids.")
    lines = ["| topic | paper | it shows | replicate | on |", "|---|---|---|---|---|"]
    for topic in readings if topics is None else [topic for topic in topics if topic in readings]:
        its, of = readings[topic], known[topic]
        paper = f"[{of.authors} {of.year}]({of.url})"
        lines.append(f"| `{topic}` | {paper} | {its.shows} | {its.replicate} | {', '.join(its.on)} |")
    return Markdown("\n".join(lines))
