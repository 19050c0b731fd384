"""The map of the field: its data keep the rules that are said at their head, and the quiz is fair."""

import collections
import re

import pytest

from concrete_steps import topics
from concrete_steps.course import load_course
from concrete_steps.errors import CourseError

TOPICS = list(topics.load_topics().values())


def test_there_are_fifty_or_more():
    assert len(TOPICS) >= 50


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.id)
def test_a_topic_is_whole(topic):
    for field in ("what", "why", "back", "disputed"):
        text = getattr(topic, field)
        assert text.endswith((".", ")")) and len(text) > 20, f"{field}: {text!r}"
    assert topic.question.endswith("?")
    assert re.fullmatch(r"https://\S+", topic.url)
    assert topic.here in {"", *(notebook.id for notebook in load_course().notebooks)}, f"no notebook {topic.here}"
    assert len(topic.wrong) == 2 and len({topic.right, *(option for option, _ in topic.wrong)}) == 3
    assert all(why for _, why in topic.wrong)


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.id)
def test_a_source_is_as_old_as_its_address(topic):
    if number := re.search(r"arxiv\.org/abs/(\d\d)\d\d\.\d{5}", topic.url):
        assert topic.year == 2000 + int(number[1])
    if said := re.search(r"transformer-circuits\.pub/(\d{4})/", topic.url):
        assert topic.year == int(said[1])


def test_each_stands_after_what_it_needs():
    place = {topic.id: number for number, topic in enumerate(TOPICS)}
    assert all(place[needed] < place[topic.id] for topic in TOPICS for needed in topic.needs)
    assert topics.depths()["residual_stream"] == 0 and topics.depths()["qk_ov"] == 1


def test_the_right_option_does_not_give_itself_away():
    longest = [topic.id for topic in TOPICS if len(topic.right) > max(len(option) for option, _ in topic.wrong)]
    assert len(longest) < len(TOPICS) / 2.5, longest
    drawn = collections.Counter(question.right for seed in range(50) for question in topics.quiz(seed).questions)
    assert min(drawn[letter] for letter in topics.LETTERS) > 0.28 * drawn.total()


HEDGED = re.compile(
    r"\b(may|might|can|could|often|mostly|usually|partly|little|not always|perhaps|likely|unknown)\b", re.I
)
FLAT = re.compile(r"\b(always|never|only|all|any|every|nothing|none|no|must|cannot|yes)\b", re.I)


def test_no_tone_gives_the_right_option_away():
    """The right option is not the careful one among flat ones, nor the shortest, nor a No against two Yes."""
    careful = [t.id for t in TOPICS if HEDGED.search(t.right) and not any(HEDGED.search(w) for w, _ in t.wrong)]
    assert len(careful) <= 1, careful
    rightly = sum(bool(FLAT.search(t.right)) for t in TOPICS) / len(TOPICS)
    wrongly = sum(bool(FLAT.search(w)) for t in TOPICS for w, _ in t.wrong) / (2 * len(TOPICS))
    assert wrongly < 2 * rightly, f"flat words: {rightly:.0%} of the right options, {wrongly:.0%} of the wrong ones"
    shortest = [t.id for t in TOPICS if len(t.right) < min(len(w) for w, _ in t.wrong)]
    assert len(shortest) < len(TOPICS) / 2.5, shortest
    verdicts = [t.id for t in TOPICS if any(re.match("(Yes|No|Not)\\b[,:]", o) for o in (t.right, *dict(t.wrong)))]
    assert not verdicts, f"of three options two would say the same: {verdicts}"


def test_the_same_seed_asks_the_same_and_none_asks_anew():
    assert topics.quiz(3) == topics.quiz(3) != topics.quiz(4)
    assert topics.quiz() != topics.quiz()
    assert len({question.topic for question in topics.quiz(3).questions}) == topics.ASKED


def test_a_mark_counts_and_explains():
    quiz = topics.quiz(1, asked=3)
    first, second, third = quiz.questions
    slip = next(letter for letter in "abc" if letter != second.right)
    mark = quiz.mark(f"{first.right} {slip.upper()} -")
    assert mark.right == (first.topic,) and list(mark.wrong) == [second.topic, third.topic]
    assert mark.share == pytest.approx(1 / 3)
    assert mark.wrong[second.topic].startswith(second.why[slip])
    assert second.options[second.right] in mark.wrong[second.topic]
    assert "left out" in mark.wrong[third.topic]
    assert "**1 of 3 (33%)**" in mark._repr_markdown_()


@pytest.mark.parametrize("letters, words", [("ab", "2 letters"), ("abcd", "'d' is no option")])
def test_letters_that_cannot_be_marked_are_named(letters, words):
    with pytest.raises(CourseError, match=words):
        topics.quiz(0, asked=4 if "d" in letters else 3).mark(letters)


@pytest.mark.parametrize("asked", [0, 1000])
def test_a_quiz_of_too_few_or_too_many_is_refused(asked):
    with pytest.raises(CourseError, match="1 to"):
        topics.quiz(asked=asked)


def test_a_page_says_all_of_a_topic():
    (topic,) = (topic for topic in TOPICS if topic.id == "ioi")
    text = topics.show("ioi").data
    for part in (topic.what, topic.why, topic.back, topic.title, topic.url, str(topic.year), "Path patching"):
        assert part in text
    assert topics.show().data.count("### ") == len(TOPICS)
    with pytest.raises(CourseError, match="no topic"):
        topics.show("ioy")


def test_the_graph_shows_every_topic_and_every_need():
    figure = topics.graph()
    assert [text.replace("<br>", " ") for text in figure.data[-1].text] == [topic.name for topic in TOPICS]
    assert len(figure.data) - 1 == sum(len(topic.needs) for topic in TOPICS)
