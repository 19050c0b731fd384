"""The corpus: the same everywhere, its law exact, its facts true, its tokenizer lossless, its files verified."""

import hashlib
import json
import math
import random
import shutil
from collections import Counter

import pytest

from concrete_steps import corpus
from concrete_steps.corpus import files, law
from concrete_steps.corpus.story import tell
from concrete_steps.errors import CourseError


def test_same_seed_same_story_on_every_machine():
    written = "\n".join(story.text for story in corpus.stories(50))
    assert hashlib.sha256(written.encode()).hexdigest() == EXPECTED_STORIES
    assert corpus.story(7).text == next(corpus.stories(1, first=7)).text
    assert corpus.story(7).text != corpus.story(7, seed=1).text


EXPECTED_STORIES = "2501278a3578aba5811cc371fc0053d19cebc2777e4bb2f34cac0f7316fedca1"


def test_every_story_can_be_written_in_one_way_only_and_its_probability_is_exact():
    for story in corpus.stories(30, "unambiguous"):
        log_probs, ways = law.read(tell, story.tokens)
        assert ways == 1, story.text
        assert sum(log_probs) == pytest.approx(story.log_prob, abs=1e-8)
        assert len(log_probs) == len(story.tokens) == len(story.token_log_probs)
        assert max(log_probs) <= 1e-12


def test_next_token_probabilities_agree_with_how_often_stories_go_on_so():
    """Independent of the law's own arithmetic: count what follows the first " met at the" in many samples."""
    places = Counter()
    for story in corpus.stories(3000, "frequencies"):
        places[story.facts["place"]] += 1
    start = corpus.story(3).tokens
    at = next(i for i, token in enumerate(start) if token in (" were", " met", " went")) + 3
    told = corpus.next_token_probabilities(start[:at])
    assert sum(told.values()) == pytest.approx(1)
    assert len(told) == len(places)
    for place, count in places.items():
        expected = told[f" {place}"]
        assert abs(count / 3000 - expected) < 5 * math.sqrt(expected / 3000), place


def test_law_of_a_grammar_small_enough_to_work_out_by_hand():
    """Two choices that begin alike: the shared token costs nothing, the second decides; and one text has two ways."""

    def grammar(writer):
        writer.word([" a b", " a c"], (1, 3))
        writer.say(writer.choose([" d", " d", " e"]))

    log_probs, ways = law.read(grammar, [" a", " c", " d"])
    assert log_probs == pytest.approx([0, math.log(3 / 4), math.log(2 / 3)])
    assert ways == 2
    assert law.next_token_probabilities(grammar, [" a"]) == pytest.approx({" b": 1 / 4, " c": 3 / 4})


def test_a_text_that_the_law_cannot_write_is_refused():
    tokens = corpus.story(0).tokens
    with pytest.raises(CourseError, match="not a story of the corpus"):
        corpus.token_log_probs([*tokens[:5], " banana"])
    assert corpus.next_token_probabilities([" banana"]) == {}


def test_entropy_is_close_to_another_sample_of_it_and_to_the_datasheet():
    value, error = corpus.entropy(1000)
    other, other_error = corpus.entropy(1000, "another sample")
    assert abs(value - other) < 4 * math.hypot(error, other_error)
    sheet = json.loads((corpus.corpus_dir() / "datasheet.json").read_text())
    assert corpus.entropy()[0] == pytest.approx(sheet["entropy_nats_per_token"], abs=1e-4)


def test_entropy_of_tokens_adds_up_to_that_of_stories():
    """The conditional entropies, summed along stories, estimate the same number by a route that does not use -log p."""
    total, length, cost = 0.0, 0, 0.0
    for story in corpus.stories(5, "conditional"):
        for position in range(len(story.tokens)):
            told = corpus.next_token_probabilities(story.tokens[:position])
            total -= sum(p * math.log(p) for p in told.values())
        length += len(story.tokens)
        cost -= story.log_prob
    assert total / length == pytest.approx(corpus.entropy(500)[0], abs=0.1)


def test_facts_are_true_of_the_text():
    for story in corpus.stories(300, "facts"):
        text, facts, genders = story.text, story.facts, {}
        for person in facts["people"]:
            assert person["name"] in text
            genders[person["name"]] = person["gender"]
        assert f" {facts['place']}." in text
        for event in facts["events"]:
            told = "".join(story.tokens[slice(*event["tokens"])])
            if event["kind"] == "give":
                assert told.startswith(f" {event['giver']} gave the {event['object']} to {event['receiver']}")
            if event["kind"] == "list":
                packed, taken_out = told.split(". Later")
                for half in (packed, taken_out):
                    words = half.replace(",", "").replace(".", "").split()
                    assert [word for word in words if word in event["items"]] == event["items"]
            if event["kind"] == "count":
                first = event["numbers"][0]
                assert event["numbers"] == list(range(first, first + len(event["numbers"])))
                assert ", ".join(map(str, event["numbers"])) in told
            if event["kind"] in ("feel", "lose"):
                assert (" she " in told) == (genders[event["who"]] == "female"), told
                assert (" he " in told) == (genders[event["who"]] == "male"), told


def test_an_object_is_given_by_its_owner_and_keeps_its_colour():
    given = 0
    for story in corpus.stories(300, "owners"):
        owner, colour = {}, {}
        for event in story.facts["events"]:
            if event["kind"] == "find":
                owner[event["object"]], colour[event["object"]] = event["who"], event["colour"]
            if event["kind"] == "give":
                assert owner[event["object"]] == event["giver"] != event["receiver"]
                owner[event["object"]] = event["receiver"]
                given += 1
            if event["kind"] == "possession":
                assert owner[event["object"]] == event["who"]
            if event["kind"] == "colour":
                assert colour[event["object"]] == event["colour"]
    assert given > 30


def test_depths_count_open_quotes_and_brackets():
    deepest = 0
    for story in corpus.stories(200, "depths"):
        depth = 0
        for token, told in zip(story.tokens, story.facts["depths"], strict=True):
            depth += token.strip() in ("(", "“", "‘")
            depth -= token in (")", "”", "’")
            assert told == depth
        assert depth == 0
        deepest = max(deepest, *story.facts["depths"])
    assert deepest == 3


def test_invented_names_recur():
    again = 0
    for story in corpus.stories(200, "names"):
        for person in story.facts["people"]:
            again += person["creature"] is not None and story.text.count(person["name"]) > 1
    assert again > 40


def test_tokenizer_cuts_a_text_into_the_tokens_that_wrote_it():
    tokenizer = corpus.tokenizer()
    for story in corpus.stories(100, "tokenizer"):
        ids = tokenizer(story.text)["input_ids"]
        assert [*ids, tokenizer.eos_token_id] == corpus.token_ids(story.tokens)
        assert tokenizer.decode(ids, skip_special_tokens=True) == story.text
    assert tokenizer.tokenize("Mary gave the ball") == [" Mary", " gave", " the", " ball"]
    assert len(tokenizer) == len(corpus.vocabulary())


def test_batch_holds_the_stories_from_bos_to_padding():
    rows = corpus.batch(4, 64, "batch")
    tokenizer = corpus.tokenizer()
    for row, story in zip(rows, corpus.stories(4, "batch"), strict=True):
        expected = corpus.token_ids(story.tokens)[:64]
        assert row.tolist() == expected + [tokenizer.pad_token_id] * (64 - len(expected))


def test_shipped_slice_is_what_the_generator_writes():
    shipped = corpus.shipped()
    assert 1e6 < (corpus.corpus_dir() / "stories.jsonl").stat().st_size < 2e6
    assert len(shipped) == files.SLICE
    for line, story in zip(shipped[:100], corpus.stories(100), strict=True):
        assert line["text"] == story.text
        assert line["facts"] == json.loads(json.dumps(story.facts))


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """data/corpus, copied to where it may be damaged."""
    folder = tmp_path / "corpus"
    shutil.copytree(corpus.corpus_dir(), folder)
    monkeypatch.setattr(corpus, "corpus_dir", lambda: folder)
    return folder


@pytest.mark.parametrize("name", ["tokenizer.json", "stories.jsonl"])
@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "no datasheet", "bad datasheet"])
def test_a_damaged_file_is_named_and_not_loaded(copied, name, damage):
    path, sheet = copied / name, copied / "datasheet.json"
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[:-10])
    elif damage == "changed":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "missing":
        path.unlink()
    elif damage == "no datasheet":
        sheet.unlink()
    else:
        sheet.write_text("{")
    with pytest.raises(CourseError) as caught:
        files.load_tokenizer() if name == "tokenizer.json" else corpus.shipped()
    message = str(caught.value)
    assert (sheet.name if "datasheet" in damage else name) in message
    assert "git checkout" in message and "\n" not in message


def test_two_writes_give_the_same_bytes(copied):
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    files.write()
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before


def test_sampler_draws_with_the_stated_probabilities():
    drawn = Counter(law.Sampler(rng=random.Random(i)).choose("abc", (1, 2, 7)) for i in range(4000))
    for option, probability in zip("abc", (0.1, 0.2, 0.7), strict=True):
        assert abs(drawn[option] / 4000 - probability) < 0.03
