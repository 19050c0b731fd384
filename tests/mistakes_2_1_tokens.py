"""Wrong answers to 2.1 Tokens, what each of them is, and right answers in other styles."""

import heapq
import itertools
import math
import re
from collections import Counter, defaultdict

import torch

from concrete_steps.checking.mistakes import mistake, right

# --- 1. Pieces

PARTS = ("'(?:[sdmt]|ll|ve|re)", r" ?[^\W\d_]+", r" ?\d+", r" ?(?:[^\s\w]|_)+", r"\s+(?!\S)", r"\s+")


def _pieces(text):
    return re.findall("|".join(PARTS), text)


@mistake("cuts at spaces and throws them away: joined, the pieces must be the text")
def pretokenize(text):
    return text.split()


@mistake("keeps the space as a piece of its own: it goes with the word, the digits or the signs after it")
def pretokenize(text):
    return re.findall("|".join(part.removeprefix(" ?") for part in PARTS), text)


@mistake("puts the space behind the word: it goes with what comes after it")
def pretokenize(text):
    return re.findall("|".join(part.removeprefix(" ?") + " ?" * (" ?" in part) for part in PARTS), text)


@mistake("takes letters and digits together: they are pieces of different rules")
def pretokenize(text):
    return re.findall("|".join([PARTS[0], r" ?[^\W_]+", *PARTS[3:]]), text)


@mistake("loses _: it is a \\w and no letter, so it belongs to the signs")
def pretokenize(text):
    return re.findall("|".join([*PARTS[:3], r" ?[^\s\w]+", *PARTS[4:]]), text)


@mistake("takes _ as a letter: \\w holds it, the rule does not")
def pretokenize(text):
    return re.findall("|".join([PARTS[0], r" ?[^\W\d]+", PARTS[2], r" ?[^\s\w]+", *PARTS[4:]]), text)


@mistake("has no English endings (rule 1)")
def pretokenize(text):
    return re.findall("|".join(PARTS[1:]), text)


@mistake("takes all white space in one piece: rule 5 leaves the last sign to what follows")
def pretokenize(text):
    return re.findall("|".join([*PARTS[:4], PARTS[5]]), text)


@mistake("knows English letters only: letters of any script are letters")
def pretokenize(text):
    return re.findall("|".join([PARTS[0], " ?[a-zA-Z]+", PARTS[2], r" ?[^\sa-zA-Z\d]+", *PARTS[4:]]), text)


@mistake("lets white space of any kind go with the word: only a space does")
def pretokenize(text):
    return re.findall("|".join(part.replace(" ?", r"\s?") for part in PARTS), text)


@mistake("lets all the spaces before a word go with it: only the last one does")
def pretokenize(text):
    return re.findall("|".join(part.replace(" ?", " *") for part in PARTS), text)


@mistake("takes endings in capitals, too: rule 1 has small letters")
def pretokenize(text):
    return re.findall("|".join(PARTS), text, re.IGNORECASE)


@mistake("gives what the group matched, not the pieces: write (?:...), not (...)")
def pretokenize(text):
    return re.findall("|".join(["'([sdmt]|ll|ve|re)", *PARTS[1:]]), text)


@mistake("knows English letters only, and loses all others")
def pretokenize(text):
    return re.findall("|".join([PARTS[0], " ?[a-zA-Z]+", *PARTS[2:]]), text)


@right("a compiled pattern with verbose layout")
def pretokenize(text):
    pattern = re.compile(
        r"""'s|'t|'d|'m|'ll|'ve|'re
          | [ ]?(?:(?![\d_])\w)+
          | [ ]?\d+
          | [ ]?(?:(?!\w)\S|_)+
          | \s+(?!\S)
          | \s+""",
        re.VERBOSE,
    )
    return [found.group() for found in pattern.finditer(text)]


# --- 2. Count and join


@mistake("leaves the words' counts out: a word that occurs three times has its pairs three times")
def pair_counts(words):
    return dict(Counter(pair for word in words for pair in itertools.pairwise(word)))


@mistake("overwrites: a pair's counts in several places add up")
def pair_counts(words):
    return {pair: count for word, count in words.items() for pair in itertools.pairwise(word)}


@mistake("takes every second pair only: neighbours overlap")
def pair_counts(words):
    counts = {}
    for word, count in words.items():
        for i in range(0, len(word) - 1, 2):
            counts[word[i], word[i + 1]] = counts.get((word[i], word[i + 1]), 0) + count
    return counts


@mistake("counts pairs without their order: (1, 2) and (2, 1) are different pairs")
def pair_counts(words):
    counts = {}
    for word, count in words.items():
        for pair in itertools.pairwise(word):
            pair = tuple(sorted(pair))
            counts[pair] = counts.get(pair, 0) + count
    return counts


@mistake("counts a pair once in each word, however often it comes there")
def pair_counts(words):
    counts = {}
    for word, count in words.items():
        for pair in set(itertools.pairwise(word)):
            counts[pair] = counts.get(pair, 0) + count
    return counts


@mistake("counts single ids, not pairs of neighbours")
def pair_counts(words):
    counts = {}
    for word, count in words.items():
        for i in word:
            counts[i] = counts.get(i, 0) + count
    return counts


@right("a Counter for each word, added up")
def pair_counts(words):
    total = Counter()
    for word, count in words.items():
        total.update({pair: times * count for pair, times in Counter(itertools.pairwise(word)).items()})
    return total


@right("a defaultdict and indices")
def pair_counts(words):
    counts = defaultdict(int)
    for word in words:
        for i in range(1, len(word)):
            counts[word[i - 1], word[i]] += words[word]
    return counts


def _pair_counts(words):
    counts = {}
    for word, count in words.items():
        for pair in itertools.pairwise(word):
            counts[pair] = counts.get(pair, 0) + count
    return counts


@mistake("joins the first place only: the pair is joined wherever it stands")
def merge(ids, pair, new_id):
    ids = list(ids)
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            return [*ids[:i], new_id, *ids[i + 2 :]]
    return ids


@mistake("puts new_id in and keeps the second id of the pair: both are used up")
def merge(ids, pair, new_id):
    return [new_id if (ids[i], ids[i + 1 : i + 2]) == (pair[0], ids[:0] + type(ids)([pair[1]])) else ids[i]
            for i in range(len(ids))]  # fmt: skip


@mistake("loses the last id where it is in no pair")
def merge(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids) - 1:
        found = (ids[i], ids[i + 1]) == pair
        merged.append(new_id if found else ids[i])
        i += 1 + found
    return merged


@mistake("goes from right to left: of aaa the first two are joined")
def merge(ids, pair, new_id):
    merged, i = [], len(ids) - 1
    while i >= 0:
        found = i > 0 and (ids[i - 1], ids[i]) == pair
        merged.append(new_id if found else ids[i])
        i -= 1 + found
    return merged[::-1]


@mistake("joins the pair in either order: (1, 2) is not (2, 1)")
def merge(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        found = tuple(ids[i : i + 2]) in (pair, pair[::-1])
        merged.append(new_id if found else ids[i])
        i += 1 + found
    return merged


@right("in a copy, place by place")
def merge(ids, pair, new_id):
    ids, i = list(ids), 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) == tuple(pair):
            ids[i : i + 2] = [new_id]
        i += 1
    return ids


@right("as characters, by str.replace")
def merge(ids, pair, new_id):
    return [ord(sign) for sign in "".join(map(chr, ids)).replace("".join(map(chr, pair)), chr(new_id))]


@right("looks back at what was written")
def merge(ids, pair, new_id):
    merged, open_ = [], False
    for i in ids:
        if open_ and i == pair[1]:
            merged[-1], open_ = new_id, False
        else:
            merged.append(i)
            open_ = i == pair[0]
    return merged


def _merge(ids, pair, new_id):
    merged, i = [], 0
    while i < len(ids):
        found = tuple(ids[i : i + 2]) == pair
        merged.append(new_id if found else ids[i])
        i += 1 + found
    return merged


# --- 3. Train


def _words(texts, pieces=_pieces):
    return Counter(tuple(piece.encode()) for text in texts for piece in pieces(text))


def _train(words, n_merges, choose, first=256):
    merges = {}
    for number in range(n_merges):
        counts = _pair_counts(words)
        if not counts:
            break
        best = choose(counts)
        merges[best] = first + number
        words = {tuple(_merge(word, best, first + number)): count for word, count in words.items()}
    return merges


def _smallest(counts):
    return min(counts, key=lambda pair: (-counts[pair], pair))


@mistake("takes the first of equally frequent pairs that it meets: the smaller pair wins")
def train_bpe(texts, n_merges):
    return _train(_words(texts), n_merges, lambda counts: max(counts, key=counts.get))


@mistake("takes the larger of equally frequent pairs: the smaller one wins")
def train_bpe(texts, n_merges):
    return _train(_words(texts), n_merges, lambda counts: max(counts, key=lambda pair: (counts[pair], pair)))


@mistake("does not cut into pieces first: merges cross from word to word")
def train_bpe(texts, n_merges):
    return _train(_words(texts, lambda text: [text]), n_merges, _smallest)


@mistake("counts once and takes the most frequent pairs of that count: after each merge the pairs are others")
def train_bpe(texts, n_merges):
    counts = _pair_counts(_words(texts))
    best = sorted(counts, key=lambda pair: (-counts[pair], pair))[:n_merges]
    return {pair: 256 + number for number, pair in enumerate(best)}


@mistake("stops where pairs occur only once: training ends where no pair is left")
def train_bpe(texts, n_merges):
    merges, words = {}, _words(texts)
    for new_id in range(256, 256 + n_merges):
        counts = _pair_counts(words)
        if not counts or max(counts.values()) < 2:
            break
        merges[best := _smallest(counts)] = new_id
        words = {tuple(_merge(word, best, new_id)): count for word, count in words.items()}
    return merges


@mistake("begins with id 255, which is a byte: the first merge is 256")
def train_bpe(texts, n_merges):
    return _train(_words(texts), n_merges, _smallest, first=255)


@mistake("joins characters, not bytes")
def train_bpe(texts, n_merges):
    words = Counter(tuple(map(ord, piece)) for text in texts for piece in _pieces(text))
    return _train(words, n_merges, _smallest)


@mistake("counts each different piece once, however often it occurs")
def train_bpe(texts, n_merges):
    return _train(dict.fromkeys(_words(texts), 1), n_merges, _smallest)


@mistake("puts the texts together first, so that pairs cross from one to the next")
def train_bpe(texts, n_merges):
    return _train(_words(["".join(texts)]), n_merges, _smallest)


@right("sorts the pairs, and keeps a list of pieces")
def train_bpe(texts, n_merges):
    pieces = [list(piece.encode("utf-8")) for text in texts for piece in _pieces(text)]
    merges = {}
    while len(merges) < n_merges:
        counts = Counter(pair for piece in pieces for pair in itertools.pairwise(piece))
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if not ranked:
            return merges
        pair, new_id = ranked[0][0], 256 + len(merges)
        merges[pair] = new_id
        pieces = [_merge(piece, pair, new_id) for piece in pieces]
    return merges


# --- 4. There and back


def _spellings(merges):
    spelled = {byte: bytes([byte]) for byte in range(256)}
    for (a, b), new_id in merges.items():
        spelled[new_id] = spelled[a] + spelled[b]
    return spelled


@mistake("reads each token as UTF-8 by itself: a character can lie across tokens")
def decode(ids, merges):
    spelled = _spellings(merges)
    return "".join(spelled[i].decode("utf-8", errors="replace") for i in ids)


@mistake('stops at bytes that are no UTF-8: errors="replace" makes them �')
def decode(ids, merges):
    spelled = _spellings(merges)
    return b"".join(spelled[i] for i in ids).decode("utf-8")


@mistake("leaves out bytes that are no UTF-8: they become �")
def decode(ids, merges):
    spelled = _spellings(merges)
    return b"".join(spelled[i] for i in ids).decode("utf-8", errors="ignore")


@mistake("takes each byte as a character: é is two bytes")
def decode(ids, merges):
    spelled = _spellings(merges)
    return b"".join(spelled[i] for i in ids).decode("latin-1")


@mistake("joins the second part of a pair before the first")
def decode(ids, merges):
    spelled = {byte: bytes([byte]) for byte in range(256)}
    for (a, b), new_id in merges.items():
        spelled[new_id] = spelled[b] + spelled[a]
    return b"".join(spelled[i] for i in ids).decode("utf-8", errors="replace")


@mistake("drops white space at the ends: that is text, too")
def decode(ids, merges):
    spelled = _spellings(merges)
    return b"".join(spelled[i] for i in ids).decode("utf-8", errors="replace").strip()


@right("takes ids apart until only bytes are left")
def decode(ids, merges):
    parts = {new_id: pair for pair, new_id in merges.items()}
    found, waiting = bytearray(), list(reversed(ids))
    while waiting:
        i = waiting.pop()
        if i in parts:
            waiting += reversed(parts[i])
        else:
            found.append(i)
    return str(found, "utf-8", "replace")


def _encode_piece(ids, merges):
    while True:
        known = [pair for pair in itertools.pairwise(ids) if pair in merges]
        if not known:
            return ids
        first = min(known, key=merges.get)
        ids = _merge(ids, first, merges[first])


@mistake("joins from left to right, whatever was learned first")
def encode(text, merges):
    found = []
    for piece in _pieces(text):
        ids = list(piece.encode())
        while known := [pair for pair in itertools.pairwise(ids) if pair in merges]:
            ids = _merge(ids, known[0], merges[known[0]])
        found += ids
    return found


@mistake("takes the longest token that fits, from left to right: merges apply in the order of learning")
def encode(text, merges):
    by_spelling = {}
    for i, spelled in _spellings(merges).items():
        by_spelling.setdefault(spelled, i)
    found = []
    for piece in _pieces(text):
        rest = piece.encode()
        while rest:
            size = next(n for n in range(len(rest), 0, -1) if rest[:n] in by_spelling)
            found.append(by_spelling[rest[:size]])
            rest = rest[size:]
    return found


@mistake("takes the merge that was learned last first")
def encode(text, merges):
    found = []
    for piece in _pieces(text):
        ids = list(piece.encode())
        while known := [pair for pair in itertools.pairwise(ids) if pair in merges]:
            ids = _merge(ids, max(known, key=merges.get), merges[max(known, key=merges.get)])
        found += ids
    return found


@mistake("does not cut into pieces first: merges cross from word to word")
def encode(text, merges):
    return _encode_piece(list(text.encode()), merges)


@mistake("joins once: what was joined can be joined again")
def encode(text, merges):
    found = []
    for piece in _pieces(text):
        ids = list(piece.encode())
        known = [pair for pair in itertools.pairwise(ids) if pair in merges]
        if known:
            first = min(known, key=merges.get)
            ids = _merge(ids, first, merges[first])
        found += ids
    return found


@mistake("takes each character's number, where its bytes belong")
def encode(text, merges):
    return [i for piece in _pieces(text) for i in _encode_piece(list(map(ord, piece)), merges)]


@mistake("takes the pair that is most frequent in the piece: what counts is the order of learning")
def encode(text, merges):
    found = []
    for piece in _pieces(text):
        ids = list(piece.encode())
        while known := Counter(pair for pair in itertools.pairwise(ids) if pair in merges):
            often = max(known, key=known.get)
            ids = _merge(ids, often, merges[often])
        found += ids
    return found


@right("applies every merge by turns")
def encode(text, merges):
    found = []
    for piece in _pieces(text):
        ids = list(piece.encode("utf-8"))
        for pair, new_id in merges.items():
            ids = _merge(ids, pair, new_id)
        found.extend(ids)
    return found


@mistake("has it the wrong way round: the bytes of `ab` spell the same text as the token `ab`")
def answer_inverse():
    return "b"


@mistake("takes encode to be one to one on ids: several lists of ids spell the same text")
def answer_inverse():
    return "c"


# --- 5. The same, quickly


@mistake("does more for each merge than the words that hold the pair need")
def train_bpe_incremental(texts, n_merges):
    return _train(_words(texts), n_merges, _smallest)


def _incremental(texts, n_merges, take_out=True, put_in=True, scaled=True, choose=_smallest):
    words = [[list(word), count] for word, count in _words(texts).items()]
    counts, places, merges = Counter(), defaultdict(set), {}

    def count_in(place, sign):
        ids, count = words[place]
        for pair in itertools.pairwise(ids):
            counts[pair] += sign * (count if scaled else 1)
            places[pair].add(place)
            if counts[pair] == 0:
                del counts[pair]

    for place in range(len(words)):
        count_in(place, 1)
    for new_id in range(256, 256 + n_merges):
        if not counts:
            break
        merges[best := choose(counts)] = new_id
        for place in places.pop(best, ()):
            if take_out:
                count_in(place, -1)
            words[place][0] = _merge(words[place][0], best, new_id)
            if put_in:
                count_in(place, 1)
        counts.pop(best, None)
    return merges


@mistake("leaves the old neighbours' pairs in the counts: take a word's pairs out before joining")
def train_bpe_incremental(texts, n_merges):
    return _incremental(texts, n_merges, take_out=False)


@mistake("does not count the new pairs: after joining, put the word's pairs in again")
def train_bpe_incremental(texts, n_merges):
    return _incremental(texts, n_merges, put_in=False)


@mistake("counts each different word once, however often it occurs")
def train_bpe_incremental(texts, n_merges):
    return _incremental(texts, n_merges, scaled=False)


@mistake("takes the first of equally frequent pairs that it meets: the smaller pair wins")
def train_bpe_incremental(texts, n_merges):
    return _incremental(texts, n_merges, choose=lambda counts: max(counts, key=counts.get))


@mistake("more for each merge than the words that hold the pair need")
def train_bpe_incremental(texts, n_merges):
    words = [[list(word), count] for word, count in _words(texts).items()]
    counts, merges = Counter(_pair_counts(_words(texts))), {}
    for new_id in range(256, 256 + n_merges):
        if not counts:
            break
        merges[best := _smallest(counts)] = new_id
        for word in words:  # all of them
            if best in itertools.pairwise(word[0]):
                for pair in itertools.pairwise(word[0]):
                    counts[pair] -= word[1]
                word[0] = _merge(word[0], best, new_id)
                for pair in itertools.pairwise(word[0]):
                    counts[pair] += word[1]
        counts = +counts
    return merges


@right("changes only the neighbours of each place, the best pair found by a loop")
def train_bpe_incremental(texts, n_merges):
    words = [(list(word), count) for word, count in _words(texts).items()]
    counts, places, merges = Counter(), defaultdict(set), {}
    for place, (ids, count) in enumerate(words):
        for pair in itertools.pairwise(ids):
            counts[pair] += count
            places[pair].add(place)

    def change(pair, count, place):
        counts[pair] += count
        places[pair].add(place)

    for new_id in range(256, 256 + n_merges):
        best = None
        for pair, count in counts.items():
            if count > 0 and (best is None or (-count, pair) < (-counts[best], best)):
                best = pair
        if best is None:
            break
        merges[best] = new_id
        del counts[best]
        for place in places.pop(best):
            ids, count = words[place]
            i = 0
            while i < len(ids) - 1:
                if (ids[i], ids[i + 1]) == best:
                    if i > 0:
                        change((ids[i - 1], ids[i]), -count, place)
                        change((ids[i - 1], new_id), count, place)
                    if i + 2 < len(ids):
                        change((ids[i + 1], ids[i + 2]), -count, place)
                        change((new_id, ids[i + 2]), count, place)
                    ids[i : i + 2] = [new_id]
                i += 1
        counts = Counter({pair: count for pair, count in counts.items() if count > 0})
    return merges


@right("a heap, whose stale entries are skipped")
def train_bpe_incremental(texts, n_merges):
    words = [(list(word), count) for word, count in _words(texts).items()]
    counts, places = Counter(), defaultdict(set)
    for place, (ids, count) in enumerate(words):
        for pair in itertools.pairwise(ids):
            counts[pair] += count
            places[pair].add(place)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges = {}
    while heap and len(merges) < n_merges:
        negative, pair = heapq.heappop(heap)
        if -negative != counts[pair] or negative == 0:
            continue
        new_id = merges[pair] = 256 + len(merges)
        changed = set()
        for place in places[pair]:
            ids, count = words[place]
            joined = _merge(ids, pair, new_id)
            for old in itertools.pairwise(ids):
                counts[old] -= count
                changed.add(old)
            for new in itertools.pairwise(joined):
                counts[new] += count
                places[new].add(place)
                changed.add(new)
            words[place] = joined, count
        for other in changed:
            heapq.heappush(heap, (-counts[other], other))
    return merges


# --- 6. Names, numbers, spaces


@mistake("looks at the number of tokens alone: all but one must be the same as in the reference's prompt")
def swappable(encode, template, reference, words):
    length = len(encode(template.format(reference)))
    return [word for word in words if len(encode(template.format(word))) == length]


@mistake("does not compare the lengths: a longer prompt does not line up")
def swappable(encode, template, reference, words):
    base = encode(template.format(reference))
    prompts = {word: encode(template.format(word)) for word in words}
    return [word for word in words if sum(a != b for a, b in zip(prompts[word], base, strict=False)) <= 1]


@mistake("encodes the word without its prompt: the cut depends on what stands around it")
def swappable(encode, template, reference, words):
    base = encode(reference)
    fits = []
    for word in words:
        ids = encode(word)
        if len(ids) == len(base) and sum(a != b for a, b in zip(ids, base, strict=True)) <= 1:
            fits.append(word)
    return fits


@mistake("takes words of one token: what counts is the prompt, beside the reference's")
def swappable(encode, template, reference, words):
    return [word for word in words if len(encode(word)) == 1]


@mistake("wants exactly one exchanged token: at most one, so that the reference itself fits")
def swappable(encode, template, reference, words):
    base = encode(template.format(reference))
    prompts = {word: encode(template.format(word)) for word in words}
    return [
        word
        for word, ids in prompts.items()
        if len(ids) == len(base) and sum(a != b for a, b in zip(ids, base, strict=True)) == 1
    ]


@mistake("compares which tokens there are, not where they stand")
def swappable(encode, template, reference, words):
    base = encode(template.format(reference))
    prompts = [(word, encode(template.format(word))) for word in words]
    return [word for word, ids in prompts if len(ids) == len(base) and len(set(ids) - set(base)) <= 1]


@right("numpy-like, with a set of positions")
def swappable(encode, template, reference, words):
    def positions(word):
        return dict(enumerate(encode(template.replace("{}", word)))).items()

    base = positions(reference)
    return [word for word in words if len(positions(word)) == len(base) and len(base - positions(word)) < 2]


@mistake("takes the space as lost: decoding gives every text back")
def answer_space():
    return "a"


@mistake("lets the space wait for the name: a tokenizer cuts the text that it has")
def answer_space():
    return "b"


# --- 7. Tokens that the model hardly knows


def _suspects(rows, direction, known, count):
    cosines = torch.cosine_similarity(rows, direction, dim=-1)
    cosines[list(known)] = -torch.inf
    return cosines.topk(count).indices.tolist()


@mistake("does not take the mean of all rows off")
def undertrained(W_E, known, count):
    return _suspects(W_E, W_E[list(known)].mean(0)[None], known, count)


@mistake("takes the dot product: long rows come first, whatever their direction")
def undertrained(W_E, known, count):
    rows = W_E - W_E.mean(0)
    scores = rows @ rows[list(known)].mean(0)
    scores[list(known)] = -torch.inf
    return scores.topk(count).indices.tolist()


@mistake("counts the known ones as suspects")
def undertrained(W_E, known, count):
    rows = W_E - W_E.mean(0)
    cosines = torch.cosine_similarity(rows, rows[list(known)].mean(0)[None], dim=-1)
    return cosines.topk(count).indices.tolist()


@mistake("gives the least alike first: suspects have the highest cosine")
def undertrained(W_E, known, count):
    rows = W_E - W_E.mean(0)
    return _suspects(rows, -rows[list(known)].mean(0)[None], known, count)


@mistake("takes off the mean of the known rows: the mean of all rows goes")
def undertrained(W_E, known, count):
    rows = W_E - W_E[list(known)].mean(0)
    return _suspects(rows, rows.mean(0)[None] - rows[list(known)].mean(0)[None], known, count)


@mistake("takes the mean off the known rows only: all rows are compared without it")
def undertrained(W_E, known, count):
    return _suspects(W_E, (W_E - W_E.mean(0))[list(known)].mean(0)[None], known, count)


@mistake("takes the mean off the rows that it compares, but not off the known ones")
def undertrained(W_E, known, count):
    return _suspects(W_E - W_E.mean(0), W_E[list(known)].mean(0)[None], known, count)


@mistake("takes off each row's own mean: what goes is the mean row")
def undertrained(W_E, known, count):
    rows = W_E - W_E.mean(1, keepdim=True)
    return _suspects(rows, rows[list(known)].mean(0)[None], known, count)


@mistake("measures how far away a row lies: what counts is its direction")
def undertrained(W_E, known, count):
    rows = W_E - W_E.mean(0)
    distances = (rows - rows[list(known)].mean(0)).norm(dim=1)
    distances[list(known)] = torch.inf
    return distances.topk(count, largest=False).indices.tolist()


@mistake("takes the size of the cosine, so that rows of the opposite direction come first, too")
def undertrained(W_E, known, count):
    rows = W_E - W_E.mean(0)
    cosines = torch.cosine_similarity(rows, rows[list(known)].mean(0)[None], dim=-1).abs()
    cosines[list(known)] = -1
    return cosines.topk(count).indices.tolist()


@right("with numpy")
def undertrained(W_E, known, count):
    rows = W_E.double().numpy() - W_E.double().numpy().mean(0)
    cosines = rows @ rows[list(known)].mean(0) / (rows**2).sum(1) ** 0.5
    cosines[list(known)] = -float("inf")
    return [int(i) for i in (-cosines).argsort()[:count]]


@right("sorted, by a loop")
def undertrained(W_E, known, count):
    mean = W_E.mean(dim=0, keepdim=True)
    unit = torch.nn.functional.normalize(W_E - mean, dim=1)
    u = (W_E - mean)[torch.tensor(known)].sum(0)
    order = (unit @ u).argsort(descending=True).tolist()
    return [i for i in order if i not in set(known)][:count]


# --- 8. The baseline


def _counts(texts, n_vocab):
    counts = torch.zeros(n_vocab, n_vocab, dtype=torch.float64)
    for text in texts:
        for a, b in itertools.pairwise(text):
            counts[a, b] += 1
    return counts


def _smoothed(counts, unigram=None, different=None):
    unigram = (counts.sum(0) + 1) / (counts.sum() + len(counts)) if unigram is None else unigram
    different = (counts > 0).sum(1, keepdim=True) if different is None else different
    total = counts.sum(1, keepdim=True)
    return torch.where(total == 0, unigram, (counts + different * unigram) / (total + different).clamp(min=1e-9))


@mistake("lets pairs cross from one text to the next")
def bigram_logits(texts, n_vocab):
    return _smoothed(_counts([[i for text in texts for i in text]], n_vocab)).log()


@mistake("gives probabilities, where logits belong: take the logarithm")
def bigram_logits(texts, n_vocab):
    return _smoothed(_counts(texts, n_vocab))


@mistake("has b in the rows and a in the columns")
def bigram_logits(texts, n_vocab):
    return _smoothed(_counts(texts, n_vocab)).log().T


@mistake("leans on 1 / V, where p(b) belongs")
def bigram_logits(texts, n_vocab):
    return _smoothed(_counts(texts, n_vocab), torch.full((n_vocab,), 1 / n_vocab, dtype=torch.float64)).log()


@mistake("takes N(a) for T(a): T counts how many different tokens came")
def bigram_logits(texts, n_vocab):
    counts = _counts(texts, n_vocab)
    return _smoothed(counts, different=counts.sum(1, keepdim=True)).log()


@mistake("divides 0 by 0 in rows that never came: they are p(b)")
def bigram_logits(texts, n_vocab):
    counts = _counts(texts, n_vocab)
    unigram = (counts.sum(0) + 1) / (counts.sum() + n_vocab)
    different = (counts > 0).sum(1, keepdim=True)
    return ((counts + different * unigram) / (counts.sum(1, keepdim=True) + different)).log()


@mistake("leaves the 1 and V out of p(b): what never came second gets probability 0")
def bigram_logits(texts, n_vocab):
    counts = _counts(texts, n_vocab)
    return _smoothed(counts, counts.sum(0) / counts.sum().clamp(min=1)).log()


@mistake("gives all tokens the same chance in rows that never came: they are p(b)")
def bigram_logits(texts, n_vocab):
    counts = _counts(texts, n_vocab)
    even = torch.full((n_vocab,), 1 / n_vocab, dtype=torch.float64)
    return torch.where(counts.sum(1, keepdim=True) == 0, even, _smoothed(counts)).log()


@mistake("takes p(b) from the sums of rows: b stands second, so its counts are a column")
def bigram_logits(texts, n_vocab):
    counts = _counts(texts, n_vocab)
    return _smoothed(counts, (counts.sum(1) + 1) / (counts.sum() + n_vocab)).log()


@mistake("counts all tokens for p(b): c(b) is the sum of b's column, so a text's first token is none of it")
def bigram_logits(texts, n_vocab):
    often = torch.zeros(n_vocab, dtype=torch.float64)
    for text in texts:
        for token in text:
            often[token] += 1
    return _smoothed(_counts(texts, n_vocab), (often + 1) / (often.sum() + n_vocab)).log()


@right("as an interpolation, row by row, shifted")
def bigram_logits(texts, n_vocab):
    counts = _counts(texts, n_vocab)
    unigram = (counts.sum(0) + 1) / (counts.sum() + n_vocab)
    rows = []
    for row in counts:
        n, t = row.sum(), (row > 0).sum()
        share = t / (n + t) if n else torch.tensor(1.0, dtype=torch.float64)
        rows.append(((1 - share) * row / n.clamp(min=1) + share * unigram).log() - 3)
    return torch.stack(rows)


def _total(logits, texts):
    return sum(float(-logits[a, b]) for text in texts for a, b in itertools.pairwise(text))  # of log-probabilities


@mistake("gives nats: a bit is log(2) of them")
def bits_per_byte(logits, texts, n_bytes):
    return _total(logits.log_softmax(-1), texts) / n_bytes


@mistake("takes logits for log-probabilities: the softmax comes first")
def bits_per_byte(logits, texts, n_bytes):
    return _total(logits, texts) / math.log(2) / n_bytes


@mistake("gives bits a token: divide by the bytes")
def bits_per_byte(logits, texts, n_bytes):
    return _total(logits.log_softmax(-1), texts) / math.log(2) / max(sum(len(text) - 1 for text in texts), 1)


@mistake("multiplies by log(2): one nat is 1 / log(2) bits")
def bits_per_byte(logits, texts, n_bytes):
    return _total(logits.log_softmax(-1), texts) * math.log(2) / n_bytes


@mistake("lets pairs cross from one text to the next: the first token of each text is free")
def bits_per_byte(logits, texts, n_bytes):
    joined = [[i for text in texts for i in text]]
    return _total(logits.log_softmax(-1), joined) / math.log(2) / n_bytes


@mistake("takes the softmax over a: each row is a distribution over b")
def bits_per_byte(logits, texts, n_bytes):
    return _total(logits.log_softmax(0), texts) / math.log(2) / n_bytes


@mistake("reads the table the wrong way round: row a is what follows a")
def bits_per_byte(logits, texts, n_bytes):
    return _total(logits.log_softmax(-1).T, texts) / math.log(2) / n_bytes


@right("cross_entropy, text by text")
def bits_per_byte(logits, texts, n_bytes):
    nats = 0.0
    for text in texts:
        if len(text) > 1:
            before, after = torch.tensor(text[:-1]), torch.tensor(text[1:])
            nats += torch.nn.functional.cross_entropy(logits[before], after, reduction="sum").item()
    return nats / math.log(2) / n_bytes


@right("with log2 of probabilities, pair by pair")
def bits_per_byte(logits, texts, n_bytes):
    p = logits.double().softmax(1)
    return -sum(p[a, b].log2().item() for text in texts for a, b in itertools.pairwise(text)) / n_bytes


@mistake("compares steps of different size: A needs far fewer of them for the same text")
def answer_compare():
    return "a"


@mistake("gives up too early: the texts are the same, so the cost of a byte can be compared")
def answer_compare():
    return "c"
