"""Checks of 2.1 Tokens.

Pieces, merges and ids are compared with slow computations of another kind: pieces by classifying characters one by one,
merges by replacing in a list that is written as text. The library `tokenizers` is asked as well.
"""

import collections
import itertools
import json
import math
import sys
import unicodedata

import torch

from concrete_steps import corpus
from concrete_steps.checking.testing import (
    assert_choice,
    assert_close,
    assert_equal,
    assert_plain,
    assert_precise,
    assert_tensor,
    nothing_left_behind,
    strided,
    unchanged,
)

# equivalent mutant of pair_counts, drop dict(...): a Counter is a dict
# equivalent mutant of merge, Lt -> NotEq: of a pair at the end both are there, so i never passes the length
# equivalent mutant of decode, drop argument 0 of decode: UTF-8 is what it takes by itself
# equivalent mutant of encode, drop list(...): bytes are a sequence of ints
# equivalent mutant of train_bpe_incremental, drop list(...): merge takes tuples, too
# equivalent mutant of train_bpe_incremental, Eq -> LtE: no count falls below 0
# equivalent mutant of train_bpe_incremental, drop UAdd (2x): +1 is 1
# equivalent mutant of swappable, swap arguments 1 and 2 of map: a differs from b as b from a
# equivalent mutant of undertrained, mean -> sum: a direction has no length
# equivalent mutant of undertrained, drop list(...) (2x): known is a list
# equivalent mutant of undertrained, swap arguments 0 and 1 of cosine_similarity: a cosine has no order
# equivalent mutant of undertrained, drop dim= of cosine_similarity: axis 1 is the one that it takes by itself
# equivalent mutant of undertrained, drop USub: axis 1 is the last
# equivalent mutant of undertrained, 1 -> -1: axis 1 is the last
# equivalent mutant of bigram_logits, Gt -> NotEq (2x): counts are not negative
# equivalent mutant of bigram_logits, 1 -> -1: axis 1 is the last
# equivalent mutant of bits_per_byte, 0.0 -> -0.0: zero has no sign that counts
# equivalent mutant of bits_per_byte, drop USub: axis 1 is the last
# equivalent mutant of bits_per_byte, 1 -> -1: axis 1 is the last

# --- Texts


def random_text(rng, length):
    """Letters, digits, signs and white space, often the awkward ones."""
    often = "aabbnnABéß日ж٣19  \n\t__''’!?“🙂"
    return "".join(rng.choice(often) for _ in range(length))


def any_text(rng, length):
    """Any characters that UTF-8 can write."""
    codes = [rng.integer(0, (0x80, 0x800, 0x10000, 0x110000)[rng.integer(0, 4)]) for _ in range(length)]
    return "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)


def plain_text(rng, length):
    """Words of few letters, so that the same pairs come again."""
    return "".join(rng.choice("aaabbn  ") for _ in range(length))


# --- 1. Pieces

ENDINGS = ("'s", "'t", "'d", "'m", "'ll", "'ve", "'re")


def kind(sign):
    if sign.isspace():
        return "white"
    if sign.isdecimal():
        return "digit"
    return "letter" if sign.isalnum() else "sign"


def pieces_of(text):
    """The rules of the table, character by character."""
    pieces, start = [], 0
    while start < len(text):
        end = end_of_piece(text, start)
        pieces.append(text[start:end])
        start = end
    return pieces


def end_of_piece(text, start):
    for ending in ENDINGS:
        if text.startswith(ending, start):
            return start + len(ending)
    first = start + 1 if text[start] == " " and start + 1 < len(text) else start
    end = first
    while end < len(text) and kind(text[end]) == kind(text[first]):
        end += 1
    if kind(text[first]) != "white":
        return end
    return end if end in (len(text), start + 1) else end - 1


PIECES = {
    "a": "letters stay together",
    "ab": "letters stay together",
    "a b": "a space goes with the word after it (rule 2)",
    "a 42": "digits stay together, a space with them (rule 3)",
    "a1b2": "letters and digits are cut from each other",
    "a!": "signs are cut from letters",
    "a !? b": "signs stay together, a space with them (rule 4)",
    "a_b": "_ is a sign (rule 4): it is no letter, though \\w holds it",
    "it's": "an English ending is a piece (rule 1)",
    "we'll've'd": "English endings are pieces, one after the other (rule 1)",
    "'sam": "rule 1 comes before rule 4: 's at the front is taken as an ending",
    "'tell": "an ending is one of seven, here 't: the letters after it are another piece",
    "IT'S": "rule 1 has small letters only",
    "it’s": "rule 1 has the straight apostrophe only, ’ is a sign",
    "a 's": "no ending begins with a space: the space goes with the sign (rule 4)",
    "a 12345": "digits stay together, however many (rule 3)",
    "a!_?": "_ stays together with other signs (rule 4)",
    "a  b": "of two spaces the last goes with the word (rule 5, then 2)",
    "a    b": "of many spaces the last goes with the word (rule 5, then 2)",
    "a  !": "of two spaces the last goes with the sign (rule 5, then 4)",
    "a  ": "white space at the end is one piece (rule 5)",
    "a\nb": "a line break before a word is a piece of its own (rule 6): only a space joins the word",
    "a\n b": "the space goes with the word, the line break is left to rule 5",
    "a\n\nb": "of two line breaks rule 5 takes the first, rule 6 the last",
    "a\n \nb": "white space of several lines is one run: rule 5 takes all but its last sign",
    "a \tb": "a space before other white space is no part of a word",
    "": "an empty text has no pieces",
    "é日本 ж": "letters of any script are letters",
    "a٣4": "digits of any script are digits",
    "a🙂🙂": "what is no letter, digit or white space is a sign",
    "e\u0301": "an accent that stands by itself is a sign: the text stays as it is",
    "a\u00a0\u00a0b": "white space of any kind is white space, but only a space joins the word",
}


def test_pretokenize(pretokenize, rng):
    """Every rule on a text of its own, then random texts, character by character."""
    for text, rule in PIECES.items():
        actual = assert_plain(pretokenize(text), list, str)
        assert_equal(actual, pieces_of(text), f"{text!r}: {rule}")
    for length in (3, 5, 10, 30, 60, 200):
        text = random_text(rng, length)
        assert_equal(pretokenize(text), pieces_of(text), f"the pieces of {text!r}")


def test_pretokenize__joined(pretokenize, rng):
    """The pieces of any text, joined, are the text; and letters, digits and signs of all scripts"""
    for length in (1, 5, 40, 200):
        text = any_text(rng, length)
        assert_equal("".join(pretokenize(text)), text, f"the pieces of {text!r}, joined, are another text")
    for _ in range(4):
        # Numbers that are no digits are left out: the engines of regular expressions differ there.
        signs = [sign for sign in any_text(rng, 200) if unicodedata.category(sign) in KNOWN_KINDS]
        text = "".join(signs)
        assert_equal(pretokenize(text), pieces_of(text), f"the pieces of {text!r}")


KNOWN_KINDS = {"Lu", "Ll", "Lo", "Nd", "Po", "Ps", "Pd", "Sm", "Sc", "So", "Zs", "Mn", "Mc"}


# --- 2. Count and join


def test_pair_counts(pair_counts, rng):
    """Each pair of neighbours, overlapping ones too, times the count of its word."""
    cases = [
        ({(1, 2): 1}, "one pair"),
        ({(1, 2): 3}, "a word that occurs three times has its pairs three times"),
        ({(1, 2, 1): 1}, "(1, 2) and (2, 1) are different pairs"),
        ({(1, 1, 1): 2}, "overlapping pairs count: (1, 1, 1) holds (1, 1) twice"),
        ({(1, 2, 3): 2, (4, 2, 3): 5}, "a pair's counts in several words add up"),
        ({(1, 2, 9, 1, 2): 4}, "a pair that comes twice in a word counts twice"),
        ({}, "no words, no pairs"),
        ({(5,): 7}, "a word of one id has no pairs"),
        ({(1, 2): 1, (3, 4): 2}, "no pair crosses from word to word"),
    ]
    for _ in range(3):
        drawn = [tuple(rng.integers(0, 4, rng.integer(1, 9)).tolist()) for _ in range(6)]
        cases.append(({word: rng.integer(1, 50) for word in drawn}, "random words"))
    for words, message in cases:
        with unchanged(words):
            actual = assert_plain(pair_counts(words), dict)
        expected = {}
        for word, count in words.items():
            for i in range(len(word) - 1):
                expected[word[i], word[i + 1]] = expected.get((word[i], word[i + 1]), 0) + count
        assert_equal(dict(actual), expected, f"{message}; pairs in {words}")


def by_commas(ids, pair, new_id):
    """The merge as a replacement in text: ,1,,2, stands for the ids 1 and 2."""
    text = "".join(f",{i}," for i in ids).replace(f",{pair[0]},,{pair[1]},", f",{new_id},")
    return [int(part) for part in text.split(",") if part]


def test_merge(merge, rng):
    """From left to right, without overlap, for lists and tuples, and ids left as they were."""
    cases = [
        ([1, 2], (1, 2), 300),
        ([1, 2, 3], (1, 2), 300),
        ([3, 1, 2], (1, 2), 300),
        ([1, 2, 1, 2], (1, 2), 300),
        ([2, 1], (1, 2), 300),
        ([1, 3, 2], (1, 2), 300),
        ([1, 1, 1], (1, 1), 300),
        ([1, 1, 1, 1], (1, 1), 300),
        ([1, 1, 2], (1, 2), 300),
        ([1, 2, 2], (1, 2), 300),
        ([300, 1], (300, 1), 301),
        ([5], (5, 5), 300),
        ([1], (2, 3), 300),
        ([2, 3, 1], (1, 2), 300),
        ([], (1, 2), 300),
        ((1, 2, 7, 1, 2), (1, 2), 300),
        ([31, 2, 1, 25], (1, 2), 300),
    ]
    for _ in range(6):
        pair = (rng.integer(1, 4), rng.integer(1, 4))
        cases.append((rng.integers(1, 4, rng.integer(1, 20)).tolist(), pair, rng.integer(256, 999)))
    for ids, pair, new_id in cases:
        with unchanged(ids):
            actual = assert_plain(merge(ids, pair, new_id), list, int)
        assert_equal(actual, by_commas(ids, pair, new_id), f"{list(ids)} with {pair} joined to {new_id}")


# --- 3. Train


def slow_merges(texts, n_merges):
    """The merges, by counting everything anew in every piece that occurs."""
    words = [list(piece.encode()) for text in texts for piece in pieces_of(text)]
    learned = {}
    for new_id in range(256, 256 + n_merges):
        counts = collections.Counter(pair for word in words for pair in itertools.pairwise(word))
        if not counts:
            break
        most = max(counts.values())
        best = min(pair for pair, count in counts.items() if count == most)
        learned[best] = new_id
        words = [by_commas(word, best, new_id) for word in words]
    return learned


def library_merges(texts, n_merges):
    """What the library learns, with byte b as character 256 + b, so that its order is that of bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    alphabet = [chr(256 + byte) for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=256 + n_merges, initial_alphabet=alphabet, show_progress=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    lines = [" ".join("".join(alphabet[b] for b in piece.encode()) for piece in pieces_of(text)) for text in texts]
    tokenizer.train_from_iterator(lines, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    pairs = [tuple(learned["vocab"][part] for part in pair) for pair in learned["merges"]]
    return {pair: 256 + number for number, pair in enumerate(pairs)}


TRAINING = [
    (["ab"], 1, "the only pair"),
    (["abab"], 2, "two merges: the second joins what the first made"),
    (["xy ab ab"], 1, "the most frequent pair"),
    (["b a ba ab"], 1, "of equally frequent pairs the smaller wins"),
    (["xyz", "xyz", "abc"], 2, "counts add up over the texts"),
    (["ba ba ba", "ab ab ab"], 3, "of equally frequent pairs the smaller wins, each time"),
    (["aaaa aaa"], 3, "pairs of equal ids"),
    (["zzz", "xy"], 1, "overlapping pairs count: zzz holds (z, z) twice"),
    (["a", "b", "a", "b"], 1, "no pair crosses from text to text"),
    (["abcd"], 3, "pairs that a merge leaves alone still count"),
    (["AB ab AB"], 2, "capitals are other bytes"),
    (["ab"], 0, "no merges asked for"),
    (["ab"], 5, "where no pair is left, training ends early"),
    ([], 3, "no texts, no merges"),
    (["", "a"], 3, "no pairs, no merges"),
    (["an an. an! an?", "n. n."], 6, "no merge crosses from piece to piece"),
    (["éé è"], 2, "the ids that are joined first are bytes, not characters"),
]


def check_training(train, rng):
    for texts, n_merges, message in TRAINING:
        compare_training(train, texts, n_merges, message)
    for number in range(6):
        draw = plain_text if number % 2 else random_text
        texts = [draw(rng, rng.integer(1, 60)) for _ in range(3)]
        compare_training(train, texts, 12, "random texts")
    texts = [story.text for story in corpus.stories(20, rng.seed)]
    actual = train(texts, 60)
    assert list(actual.items()) == list(library_merges(texts, 60).items()), (
        "the library tokenizers learns other merges from 20 stories: "
        + first_difference(actual, library_merges(texts, 60), 60)
    )


def compare_training(train, texts, n_merges, message):
    texts = list(texts)  # a call that empties it leaves the next check its texts
    with unchanged(texts):
        actual = assert_plain(train(texts, n_merges), dict)
    expected = slow_merges(texts, n_merges)
    assert list(actual.items()) == list(expected.items()), (
        f"{message}; {n_merges} merge(s) from {texts}: {first_difference(actual, expected, n_merges)}"
    )


def first_difference(actual, expected, n_merges):
    ids = list(actual.values())
    if ids and list(actual) == list(expected)[: len(ids)] and ids != list(range(256, 256 + len(ids))):
        later = " (a pair that is learned again stands where it was, with the later id)" * (len(ids) < n_merges)
        return f"the pairs are right, their ids are to be 256, 257, ..., and are {ids}{later}"
    for number, (mine, right) in enumerate(zip(actual.items(), expected.items(), strict=False)):
        if mine != right:
            return f"merge {number}: expected {right[0]} -> {right[1]}, got {mine[0]} -> {mine[1]}"
    return f"expected {len(expected)} merges, got {len(actual)}"


def test_train_bpe(train_bpe, rng):
    """The merges of a slow computation and of the library tokenizers, in order, ties included."""
    check_training(train_bpe, rng)


def test_train_bpe_incremental(train_bpe_incremental, rng):
    """The merges of a slow computation and of the library tokenizers, in order, ties included."""
    check_training(train_bpe_incremental, rng)


def test_train_bpe_incremental__lines(train_bpe_incremental):
    """Ten more merges, each in one or two words of 734, run fewer lines than there are words"""
    others = ["".join(letters) for letters in itertools.product("xyz", repeat=6)]
    texts = [" ".join(["abcd", "efgh", "ijkl", "mnop"] * 600 + others)]
    few, many = (lines_run(train_bpe_incremental, texts, n_merges) for n_merges in (1, 11))
    assert many - few < 10 * 600, (
        f"does more for each merge than the words that hold the pair need: one merge runs {few} lines of code, eleven "
        f"run {many}, so that each further one costs {(many - few) // 10}, though its pair is in one or two of the "
        "734 different words; keep each word once, count once, then touch only what holds the pair"
    )


def lines_run(function, *args):
    """How many lines of Python run during a call: a measure of work that no busy machine disturbs."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(*args)
    finally:
        sys.settrace(before)
    return count


# --- 4. There and back


def spellings(merges):
    spelled = {byte: bytes([byte]) for byte in range(256)}
    for (a, b), new_id in merges.items():
        spelled[new_id] = spelled[a] + spelled[b]
    return spelled


def random_merges(rng, count):
    """Merges of random ids, so that tokens end anywhere."""
    merges = {}
    while len(merges) < count:
        pool = [*b"abn \xc3\xa9\xc3\x9f", *range(256, 256 + len(merges))]
        merges.setdefault((rng.choice(pool), rng.choice(pool)), 256 + len(merges))
    return merges


def test_decode(decode, rng):
    """Bytes of all ids, then UTF-8; characters that lie across tokens, and bytes that are no UTF-8."""
    er = {(0x65, 0x72): 256}
    accent = {(0x61, 0xC3): 256, (0xA9, 0x62): 257}  # a and half of é; the other half and b
    cases = [
        ([104, 105], {}, "bytes"),
        ([256], er, "one merge"),
        ([104, 256, 101], er, "bytes and a merge"),
        ([257], {(104, 105): 256, (256, 33): 257}, "a merge of a merge"),
        ([], er, "no ids"),
        ([0xC3, 0xA9], {}, "a character of two bytes in two tokens"),
        ([256, 257], accent, "a character that lies across two tokens"),
        ([256], accent, "half a character at the end becomes �"),
        ([0xC3], {}, "half a character becomes �"),
        ([0, 255, 97], {}, "the first byte and the last"),
        ([0xF0, 0x9F, 0x99, 0x82], {}, "a character of four bytes"),
        ((72, 256), er, "ids in a tuple"),
        ([32, 104, 10], {}, "white space at the ends is text, too"),
    ]
    for _ in range(4):
        merges = random_merges(rng, 12)
        ids = [rng.choice([*b"abn \xc3\xa9", *merges.values()]) for _ in range(12)]
        cases.append((ids, merges, "random ids"))
        cases.append((list(any_text(rng, 6).encode()), merges, "any characters"))
    for ids, merges, message in cases:
        with unchanged(ids, merges):
            try:
                actual = decode(ids, merges)
            except UnicodeDecodeError as error:
                raise AssertionError(
                    f'{message}: stops at bytes that are no UTF-8 ({error}): errors="replace" makes them �'
                ) from None
        expected = b"".join(spellings(merges)[i] for i in ids).decode("utf-8", errors="replace")
        assert_plain(actual, str)
        assert_equal(actual, expected, f"{message}; the ids {list(ids)} with the merges {merges}")


def slow_ids(text, merges):
    """Every merge by turns, on each piece."""
    found = []
    for piece in pieces_of(text):
        ids = list(piece.encode())
        for pair, new_id in merges.items():
            ids = by_commas(ids, pair, new_id)
        found += ids
    return found


def test_encode(encode, rng):
    """Pieces, bytes, then merges in the order of learning; the library's ids too."""
    ab, b_c, abc = {(97, 98): 256}, {(98, 99): 256, (97, 98): 257}, {(97, 98): 256, (98, 99): 257, (256, 257): 258}
    cases = [
        ("ab", ab, "one merge"),
        ("abc", {(97, 98): 256, (98, 99): 257}, "the merge that was learned first is applied first"),
        ("abc", {(98, 99): 256, (97, 256): 257, (97, 98): 258}, "the merge that was learned first is applied first"),
        ("abc", b_c, "the merge that was learned first is applied first"),
        ("ab", {}, "without merges: bytes"),
        ("é", {}, "bytes, not characters"),
        ("abab", ab, "a merge applies everywhere"),
        ("abbc", abc, "merges of merges"),
        ("abcab", abc, "merges of merges"),
        ("aaaaa", {(97, 97): 256, (256, 256): 257}, "from left to right"),
        ("a b", {(97, 32): 256, (32, 98): 257}, "no merge crosses from piece to piece"),
        ("", ab, "an empty text"),
        ("xyz", ab, "no merge applies"),
    ]
    # The longest token that fits first, abcd, would leave e; but bc was learned before ab.
    cases.append(("abcd", {(98, 99): 256, (97, 98): 257, (257, 99): 258, (258, 100): 259}, "in the order of learning"))
    for _ in range(4):
        texts = [plain_text(rng, 50), random_text(rng, 50)]
        merges = slow_merges(texts, 15)
        cases += [(draw(rng, 30), merges, "a random text") for draw in (plain_text, random_text, any_text)]
    for text, merges, message in cases:
        with unchanged(merges):
            actual = assert_plain(encode(text, merges), list, int)
        assert_equal(actual, slow_ids(text, merges), f"{message}; the ids of {text!r} with the merges {merges}")


def test_encode__round_trip(encode, rng):
    """Any text, with merges learned from stories, comes back whole"""
    merges = slow_merges([story.text for story in corpus.stories(5, rng.seed)], 40)
    spelled = spellings(merges)
    texts = [draw(rng, 60) for draw in (any_text, any_text, random_text)] + [corpus.story(rng.integer(0, 99)).text]
    for text in texts:
        ids = encode(text, merges)
        assert_equal(b"".join(spelled[i] for i in ids).decode(), text, f"{text!r} does not come back")
        assert_equal(ids, slow_ids(text, merges), f"the ids of {text!r}")


def test_answer_inverse(answer_inverse):
    """Every text comes back; other ids may spell the same text."""
    assert_choice(
        answer_inverse,
        "a",
        "take the merge of a and b to 256: which text do the ids [97, 98] spell, and what are the ids of that text? "
        "And does any text lose a byte?",
    )


# --- 6. Names, numbers, spaces


def by_characters(text):
    return [ord(sign) for sign in text]


def by_words(text):
    return [sum(ord(sign) * 31**place for place, sign in enumerate(word)) for word in text.split(" ")]


def by_pairs(text):
    """Two characters a token: what stands later moves with the length of what stands before."""
    return [int.from_bytes(text[i : i + 2].encode(), "big") for i in range(0, len(text), 2)]


def by_parts(text):
    """Words of up to four letters are one token, longer ones a token for each letter."""
    ids = []
    for word in text.split(" "):
        ids += [hash_of(word)] if len(word) <= 4 else by_characters(word)
    return ids


def by_any_case(text):
    """Words, capitals or not."""
    return by_words(text.lower())


def hash_of(word):
    return int.from_bytes(word.encode(), "big") + 1000


def test_swappable(swappable, rng):
    """For tokenizers of several kinds: as many tokens as the reference's prompt, at most one exchanged."""
    names = ["Anna", "Mary", "Karalo", "Tom", "Jo", "Hanna", "Maro", "Mark", "John", "Johanna"]
    cases = [
        (by_words, "{} gave", "Mary", ["John"], "another word at one place fits"),
        (by_characters, "{} gave", "Mary", ["John"], "four tokens are exchanged: at most one may be"),
        (by_characters, "{} gave", "Mary", ["Mark", "Maro", "Mary", "Mara", "Mar"], "one token exchanged, at most"),
        (by_parts, "{} gave", "Mary", ["Karalo", "Tom"], "a word of several tokens makes the prompt longer"),
        (by_parts, "Then {} left", "Karalo", ["Karala", "Tom", "Anna", "Marina"], "a reference of several tokens"),
        (by_any_case, "to {}", "Mary", ["mary", "tom"], "other words can have the same tokens: none is exchanged"),
        (by_words, "to {}", "Mary", ["Mary"], "no token is exchanged: the reference fits, too"),
        (by_words, "{} sat", "Mary Ann", ["Ann Mary", "Mary Mary"], "the same tokens in other places are exchanged"),
        (by_words, "{} sat", "Mary Ann", ["Jo Jo", "Jo Ann"], "a token that comes in at two places is exchanged twice"),
        (by_words, "to {}", "Mary", [], "no words"),
        (by_words, "to {}", "Mary", ["Tom Max", "Ann"], "a longer prompt does not fit, even if it begins alike"),
        (by_words, "{}", "Mary Ann", ["Mary", "Mary Jo", "Jo Ann", "Al Jo"], "a shorter prompt does not fit"),
        (by_pairs, "{} gave it", "Mary", ["Ma", "Maro", "Mara", "Maryam"], "what follows must stay in line"),
        (by_pairs, "a {}!", "Mary", ["Mar", "Mark", "Maria"], "the word is cut together with what stands around it"),
    ]
    for encode in (by_characters, by_words, by_pairs, by_parts):
        template = rng.choice(["{} ran", "So {} ran.", "it was {}", "A{}"])
        order = [names[i] for i in rng.permutation(len(names)).tolist()]
        cases.append((encode, template, order[0], order, "the names, in their order"))
    for encode, template, reference, words, message in cases:
        with unchanged(words):
            actual = assert_plain(swappable(encode, template, reference, words), list, str)
        base = encode(template.replace("{}", reference))
        expected = [word for word in words if exchanged(encode(template.replace("{}", word)), base) <= 1]
        assert_equal(
            actual,
            expected,
            f"{message}; tokenizer {encode.__name__}, template {template!r}, reference {reference!r}, words {words}",
        )


def exchanged(ids, base):
    """How many tokens differ; 99 where the lengths do."""
    return 99 if len(ids) != len(base) else sum(ids[i] != base[i] for i in range(len(base)))


def test_answer_space(answer_space):
    """The space is a token of its own, which no name follows as it did in training."""
    assert_choice(
        answer_space,
        "c",
        "apply your pretokenize to the prompt: rule 5. Nothing is lost, for decoding gives every text back; and a cut "
        "cannot wait for a name that is not there",
    )


# --- 7. Tokens that the model hardly knows


# Rows around 0: the known ones, 1 and 4, point to (3, 0) together, and each elsewhere; 3, 0 and 6 lie nearest to that.
# Row 2 is long and points away; 0 is longer than 3, and 6 nearer to (3, 0) than both.
ROWS = [[6.0, 3.0], [1.0, -1.0], [-12.0, -0.1], [1.0, 0.2], [5.0, 1.0], [-3.0, -1.85], [2.0, -1.25]]


def test_undertrained(undertrained, rng):
    """The highest cosines with the mean of the known rows, the mean row taken off, and none of the known."""
    rows, common = torch.tensor(ROWS, dtype=torch.float64), torch.tensor([10.0, 10.0])
    cases = [
        (rows, [1, 4], 3, f"the rows {ROWS}, whose mean is 0"),
        (rows + common, [1, 4], 3, f"the rows {ROWS}, each plus (10, 10), which is then their mean"),
        (rows, [1, 4], 5, f"the rows {ROWS}, whose mean is 0: all but the known ones"),
    ]
    for n_vocab, d_model, known, count, dtype in [
        (4, 2, [0], 1, torch.float64),
        (6, 3, [1, 4], 2, torch.float64),
        (12, 5, [3], 1, torch.float32),
        (40, 8, [0, 7, 39], 10, torch.float64),
        (30, 2, [2, 5], 1, torch.float64),
    ]:
        for offset in (0.0, 5.0):  # rows with a large common part, as real ones have
            rows = rng.normal(n_vocab, d_model, dtype=dtype) * (1 + 3 * rng.uniform(n_vocab, 1)) + offset
            cases.append((rows, known, count, f"{n_vocab} random rows"))
    far = rng.normal(20, 4, dtype=torch.float64)
    far[3] = -8 * far[0]  # long, and on the other side
    far[4] = 0.01 * far[0] + far.mean(0)
    cases.append((far, [0, 1], 5, "20 random rows"))
    cases.append((strided(rng.normal(15, 6, dtype=torch.float64)), [2, 11], 3, "15 random rows"))
    for W_E, known, count, message in cases:
        with unchanged(W_E, known), nothing_left_behind():
            actual = assert_plain(undertrained(W_E, known, count), list, int)
        message = f"the {count} most suspect, likeliest first, where {known} are known, of {message}"
        assert_equal(len(actual), count, f"{message}: so many ids")
        doubled = [i for i in actual if i in known]
        assert not doubled, f"{message}: {doubled} are known"
        assert_equal(actual, most_suspect(W_E.double(), known, count), message)


def most_suspect(W_E, known, count):
    mean = sum(W_E) / len(W_E)
    u = sum(W_E[i] - mean for i in known) / len(known)
    cosines = {i: cosine(row - mean, u) for i, row in enumerate(W_E) if i not in known}
    return sorted(cosines, key=cosines.get, reverse=True)[:count]


def cosine(a, b):
    return float((a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt())


# --- 8. The baseline


def test_bigram_logits(bigram_logits, rng):
    """Witten and Bell's mixture of row and column counts, for seen and unseen rows, in float64."""
    cases = [
        ([[0, 1]], 2, "one pair"),
        ([[0, 1, 1, 0]], 2, "two tokens"),
        ([[0, 1], [2, 0]], 3, "no pair crosses from one text to the next"),
        ([[0, 1, 0, 1, 0, 2]], 4, "token 3 never comes: its row is p(b)"),
        ([], 3, "no texts: every token is as likely as any"),
        ([[2], [0, 0, 0], [1]], 3, "texts of one token have no pairs"),
        ([[], [1, 0]], 3, "an empty text"),
        ([[0, 0, 0]], 1, "a single token"),
    ]
    for n_vocab in (2, 5, 9):
        texts = [rng.integers(0, n_vocab, rng.integer(1, 12)).tolist() for _ in range(4)]
        cases.append((texts, n_vocab + 2, "random texts, two tokens never seen"))
    for texts, n_vocab, message in cases:
        with unchanged(texts):
            actual = assert_tensor(bigram_logits(texts, n_vocab), (n_vocab, n_vocab), torch.float64)
        rows = [[witten_bell(texts, n_vocab, a, b) for b in range(n_vocab)] for a in range(n_vocab)]
        expected = torch.tensor(rows, dtype=torch.float64)
        message = f"{message}; p(b | a) in row a, for the texts {texts}"
        assert not actual.isnan().any(), f"{message}: nan in the logits: what is N(a) + T(a) for a that never came?"
        assert_precise(actual.softmax(-1), expected, message)


def witten_bell(texts, n_vocab, a, b):
    pairs = [pair for text in texts for pair in itertools.pairwise(text)]
    p = (sum(second == b for _, second in pairs) + 1) / (len(pairs) + n_vocab)
    after = [second for first, second in pairs if first == a]
    different = len(set(after))
    return (after.count(b) + different * p) / (len(after) + different) if after else p


def test_bits_per_byte(bits_per_byte, rng):
    """All tokens but each text's first, in bits, over the bytes; logits may be shifted."""
    even = torch.zeros(4, 4, dtype=torch.float64)
    cases = [
        (even, [[0, 1]], 1, "one of four even tokens is 2 bits"),
        (even, [[0, 1, 2]], 8, "two tokens of 2 bits over 8 bytes"),
        (even + 5, [[0, 1, 2]], 8, "logits are no log-probabilities: the softmax comes first"),
        (even, [[0], [1, 2]], 4, "the first token of each text is free"),
        (even, [[3]], 4, "a text of one token costs nothing"),
        (torch.tensor([[0, math.log(2), 0], [0, 0, 0], [0, 0, 0]]), [[0, 1]], 1, "row a says what follows a"),
    ]
    for n_vocab in (3, 6):
        logits = 2 * rng.normal(n_vocab, n_vocab, dtype=torch.float64)
        texts = [rng.integers(0, n_vocab, rng.integer(1, 9)).tolist() for _ in range(4)]
        texts.append([0] * 7)  # texts of other lengths: a mean of means is another number
        cases.append((logits, texts, rng.integer(20, 90), "random texts"))
        cases.append((strided(logits.float()), texts, rng.integer(20, 90), "random texts, float32"))
    for logits, texts, n_bytes, message in cases:
        with unchanged(logits, texts):
            actual = assert_plain(bits_per_byte(logits, texts, n_bytes), float)
        bits = 0.0
        for text in texts:
            for a, b in itertools.pairwise(text):
                row = [math.exp(value) for value in logits[a].double().tolist()]
                bits -= math.log2(row[b] / sum(row))
        assert_close(actual, torch.tensor(bits / n_bytes), f"{message}; {n_bytes} bytes, texts {texts}")


def test_answer_compare(answer_compare):
    """Nats a token over bytes a token: 0.67 against 0.9 nats per byte."""
    assert_choice(
        answer_compare,
        "b",
        "what does each model pay for the same 45 bytes of text? The texts are the same, whatever the tokens",
    )
