"""The map of the field as data (topics.toml): what each topic is, where it was said, what is disputed; and a quiz.

topics.show("superposition")    # one topic, as a page of the notebook
topics.show()                   # all of them, in an order in which each stands after what it needs
topics.graph()                  # which needs which
quiz = topics.quiz(seed=7)      # 20 questions, drawn at random
quiz.show()
quiz.mark("abcabca...")         # how many are right; each wrong option explains itself
"""

from __future__ import annotations

import functools
import graphlib
import random
import textwrap
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from concrete_steps.course import load_course
from concrete_steps.errors import CourseError

if TYPE_CHECKING:
    from IPython.display import Markdown
    from plotly.graph_objects import Figure

LETTERS = "abc"
ASKED = 20  # questions of a quiz


@dataclass(frozen=True)
class Topic:
    """One topic of topics.toml. `here` is the id of a notebook, or "" where a laptop's models do not show it."""

    id: str
    name: str
    what: str
    why: str
    back: str
    authors: str
    title: str
    year: int
    url: str
    here: str
    disputed: str
    question: str
    right: str
    wrong: tuple[tuple[str, str], ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """A question with its options in a drawn order. `why` says of each wrong option's letter what is wrong with it."""

    topic: str
    text: str
    options: dict[str, str]
    right: str
    why: dict[str, str]


@dataclass(frozen=True)
class Mark:
    """How a quiz went: the topics answered rightly and wrongly, and what is wrong with each wrong answer."""

    right: tuple[str, ...]
    wrong: dict[str, str]

    @property
    def share(self) -> float:
        """Of all questions, between 0 and 1."""
        return len(self.right) / (len(self.right) + len(self.wrong))

    def _repr_markdown_(self) -> str:
        asked = len(self.right) + len(self.wrong)
        lines = [f"**{len(self.right)} of {asked} ({self.share:.0%})**"]
        topics = load_topics()
        lines += [f"- {topics[topic].name}: {why}. See `topics.show({topic!r})`." for topic, why in self.wrong.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class Quiz:
    """Questions drawn from the topics."""

    questions: tuple[Question, ...]

    def show(self) -> Markdown:
        """The questions, numbered, with lettered options."""
        from IPython.display import Markdown

        blocks = []
        for number, question in enumerate(self.questions, 1):
            options = "\n".join(f"   - ({letter}) {text}" for letter, text in question.options.items())
            blocks.append(f"{number}. {question.text}\n{options}")
        return Markdown("\n".join(blocks))

    def mark(self, letters: str) -> Mark:
        """What became of these answers, one letter a question; a dash for one that you leave out.

        Raises:
            CourseError: there are more or fewer letters than questions, or one is no option.
        """
        given = "".join(letters.split()).lower()
        if len(given) != len(self.questions):
            raise CourseError(f"There are {len(self.questions)} questions and {len(given)} letters: give one for each.")
        if unknown := sorted(set(given) - set(LETTERS + "-")):
            raise CourseError(f"{unknown[0]!r} is no option: use a, b, c, or - for one that you leave out.")
        right, wrong = [], {}
        for question, letter in zip(self.questions, given, strict=True):
            if letter == question.right:
                right.append(question.topic)
            else:
                said = question.why.get(letter, "left out")
                wrong[question.topic] = f"{said}; right is: {question.options[question.right]}"
        return Mark(tuple(right), wrong)


def quiz(seed: int | None = None, asked: int = ASKED) -> Quiz:
    """`asked` questions, each of another topic; the same seed draws the same ones. None draws anew."""
    if not 0 < asked <= len(load_topics()):
        raise CourseError(f"A quiz has 1 to {len(load_topics())} questions, not {asked}.")
    draw = random.Random(seed)
    return Quiz(tuple(_question(topic, draw) for topic in draw.sample(list(load_topics().values()), asked)))


def _question(topic: Topic, draw: random.Random) -> Question:
    options = [(topic.right, ""), *topic.wrong]
    draw.shuffle(options)
    lettered = dict(zip(LETTERS, options, strict=True))
    (right,) = (letter for letter, (_, why) in lettered.items() if not why)
    texts = {letter: text for letter, (text, _) in lettered.items()}
    why = {letter: why for letter, (_, why) in lettered.items() if why}
    return Question(topic.id, topic.question, texts, right, why)


@functools.cache
def load_topics() -> dict[str, Topic]:
    """All topics by id, each after those that it needs.

    Raises:
        CourseError: a topic lacks something, or needs one that is not there or that needs it.
    """
    listed = {}
    for row in tomllib.loads(resources.files("concrete_steps").joinpath("topics.toml").read_text("utf-8"))["topic"]:
        row |= {"wrong": tuple(map(tuple, row["wrong"])), "needs": tuple(row.get("needs", ()))}
        try:
            listed[row["id"]] = Topic(**row)
        except TypeError as error:
            raise CourseError(f"topics.toml, {row.get('id', 'a topic without an id')}: {error}") from None
    for topic in listed.values():
        if missing := sorted(set(topic.needs) - set(listed)):
            raise CourseError(f"topics.toml, {topic.id}: needs {missing[0]!r}, which is not there.")
    try:
        order = [*graphlib.TopologicalSorter({topic.id: topic.needs for topic in listed.values()}).static_order()]
    except graphlib.CycleError as error:
        raise CourseError(f"topics.toml: these need each other: {', '.join(error.args[1])}") from None
    return {topic: listed[topic] for topic in order}


def show(topic: str | None = None) -> Markdown:
    """A topic as text, or all of them.

    Raises:
        CourseError: there is no such topic.
    """
    from IPython.display import Markdown

    topics = load_topics()
    if topic is not None and topic not in topics:
        raise CourseError(f"There is no topic {topic!r}: topics.load_topics() has their ids.")
    return Markdown("\n\n".join(map(_page, topics.values() if topic is None else [topics[topic]])))


def _page(topic: Topic) -> str:
    names = [load_topics()[needed].name for needed in topic.needs]
    in_course = {notebook.id: notebook.title for notebook in load_course().notebooks}
    here = f"{topic.here} {in_course[topic.here]}" if topic.here in in_course else "nothing yet; read the source"
    return (
        f"### {topic.name} (`{topic.id}`)\n{topic.what}\n\n"
        f"- **Why care**: {topic.why}\n- **Come back**: {topic.back}\n"
        + (f"- **First**: {', '.join(names)}\n" if names else "")
        + f"- **Source**: {topic.authors} ({topic.year}), [{topic.title}]({topic.url})\n"
        f"- **Here**: {here}\n- **Disputed**: {topic.disputed}"
    )


def depths() -> dict[str, int]:
    """Of each topic, how many steps the longest way to it from one that needs nothing has."""
    found: dict[str, int] = {}
    for topic in load_topics().values():
        found[topic.id] = max((found[needed] + 1 for needed in topic.needs), default=0)
    return found


def graph() -> Figure:
    """Which topic needs which: lines to the right, one column for each depth."""
    import plotly.graph_objects as go

    from concrete_steps.plot.look import TEMPLATE, WIDTH

    depth, topics = depths(), load_topics()
    columns = {d: [topic for topic in topics if depth[topic] == d] for d in range(max(depth.values()) + 1)}
    tallest = max(map(len, columns.values()))
    place = {}
    for column, members in columns.items():
        for row, topic in enumerate(members):
            place[topic] = (column, -(row + 0.5) * tallest / len(members))
    lines = textwrap.TextWrapper(15, break_on_hyphens=False, break_long_words=False)
    figure = go.Figure()
    for topic in topics.values():
        for needed in topic.needs:
            (x0, y0), (x1, y1) = place[needed], place[topic.id]
            figure.add_scatter(
                x=[x0, x1], y=[y0, y1], mode="lines", line=dict(color="#cccccc", width=1), hoverinfo="skip"
            )
    figure.add_scatter(
        x=[place[topic][0] for topic in topics],
        y=[place[topic][1] for topic in topics],
        mode="markers+text",
        text=["<br>".join(lines.wrap(topic.name)) for topic in topics.values()],
        textposition="bottom center",
        textfont_size=10,
        cliponaxis=False,
        marker=dict(size=9, color=[("#0072B2" if topic.here else "#999999") for topic in topics.values()]),
        hovertext=[topic.what for topic in topics.values()],
        hoverinfo="text",
    )
    title = "Topics, and what each needs, to its left (blue: in this course)"
    return figure.update_layout(
        template=TEMPLATE,
        title_text=title,
        meta={"description": f"{title}: {len(topics)} topics in {len(columns)} columns."},
        showlegend=False,
        width=WIDTH,
        height=100 + 60 * tallest,
        margin=dict(l=10, r=10, t=50, b=20),
        xaxis=dict(visible=False, range=[-0.5, max(columns) + 0.5]),
        yaxis=dict(visible=False, range=[-tallest - 0.2, 0]),
    )
