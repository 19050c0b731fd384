"""Wrong answers to 6.3 Read around the field, and what each of them is."""

import copy
import math
import re
from decimal import Decimal

import torch
from scipy import stats

from concrete_steps import models, readings
from concrete_steps.checking.mistakes import mistake, right

# --- 1. What to read, in which order


def _way(needs, topic, read, order=None):
    order = [] if order is None else order
    if topic not in read and topic not in order:
        for needed in needs[topic]:
            _way(needs, needed, read, order)
        order.append(topic)
    return order


def _listed(needs, known, wishes, key, alone=False):
    listed = []
    while left := wishes - known - set(listed):
        ways = {wish: _way(needs, wish, known | (set() if alone else set(listed))) for wish in left}
        listed += [topic for topic in ways[min(left, key=lambda wish: key(ways, wish))] if topic not in listed]
    return listed


@mistake("takes the wishes by alphabet, not the nearest first")
def reading_list(needs, known, wishes):
    return _listed(needs, known, wishes, lambda ways, wish: wish)


@mistake("takes the farthest wish first")
def reading_list(needs, known, wishes):
    return _listed(needs, known, wishes, lambda ways, wish: (-len(ways[wish]), wish))


@mistake("sorts the wishes once: what was read for one brings others nearer")
def reading_list(needs, known, wishes):
    order = sorted(wishes - known, key=lambda wish: (len(_way(needs, wish, known)), wish))
    listed = []
    for wish in order:
        listed += _way(needs, wish, known | set(listed))
    return listed


@mistake("counts what is known among what is still to read")
def reading_list(needs, known, wishes):
    listed = []
    while left := wishes - known - set(listed):
        nearest = min(left, key=lambda wish: (len(_way(needs, wish, set(listed))), wish))
        listed += _way(needs, nearest, known | set(listed))
    return listed


@mistake("counts direct needs alone: these have needs of their own")
def reading_list(needs, known, wishes):
    listed = []
    while left := wishes - known - set(listed):
        read = known | set(listed)
        nearest = min(left, key=lambda wish: (len(set(needs[wish]) - read), wish))
        listed += _way(needs, nearest, read)
    return listed


@mistake("reads what is known, too")
def reading_list(needs, known, wishes):
    return _listed(needs, set(), wishes, lambda ways, wish: (len(ways[wish]), wish))


@mistake("leaves out what the wishes need")
def reading_list(needs, known, wishes):
    order = _listed(needs, known, wishes, lambda ways, wish: (len(ways[wish]), wish))
    return [topic for topic in order if topic in wishes]


@mistake("something stands in it twice")
def reading_list(needs, known, wishes):
    order = sorted(wishes - known, key=lambda wish: (len(_way(needs, wish, known)), wish))
    return [topic for wish in order for topic in _way(needs, wish, known)]


@right("by the set of what is still to read, then sorted by depth")
def reading_list(needs, known, wishes):
    def still(topic, read):
        found, waiting = set(), [topic]
        while waiting:
            one = waiting.pop()
            if one not in read and one not in found:
                found.add(one)
                waiting += needs[one]
        return found

    def depth(topic):
        return 1 + max(map(depth, needs[topic]), default=0)

    read, order = set(known), []
    while wishes - read:
        _, wish = min((len(still(wish, read)), wish) for wish in wishes - read)
        order += sorted(still(wish, read), key=depth)
        read |= set(order)
    return order


# --- 2. What does an abstract support?

_SAID = {1: "b", 2: "c", 3: "a", 4: "d"}


@mistake("it turns 'not consistently' into 'never'")
def supported():
    return {**_SAID, 1: "a"}


@mistake("it goes from the score to the circuit")
def supported():
    return {**_SAID, 2: "a"}


@mistake("it takes 'possible without' for 'no effect'")
def supported():
    return {**_SAID, 3: "b"}


@mistake("it is the strong form of universality")
def supported():
    return {**_SAID, 4: "a"}


@mistake("the keys are the numbers 1 to 4")
def supported():
    return {str(number): letter for number, letter in _SAID.items()}


@mistake("expected one of a, b, c, d")
def supported():
    return {**_SAID, 2: "both"}


@right("in another order, in capitals")
def supported():
    return {number: _SAID[number].upper() for number in (4, 3, 2, 1)}


@mistake("rest there costs nothing: a head may rest on most texts and act on some")
def answer_falsifier():
    return "b"


@mistake("that others hold the copy does not say that H is not needed")
def answer_falsifier():
    return "c"


# --- 3. Notes by claim


def _notes(text, fields=readings.FIELDS, joint=" ", lower=True, empty=False, strip=True, first=False):
    notes = []
    for block in re.split(r"\n\s*\n", text.strip()):
        note, field = {}, None
        for line in block.splitlines():
            name, colon, entry = line.partition(":")
            known = (name.strip().lower() if lower else name.strip()) in fields
            if colon and known:
                field = name.strip().lower()
                note[field] = entry.strip() if strip else entry
            elif field and not first:
                note[field] = (note[field] + joint + line.strip()).strip()
        note = note if empty else {key: entry for key, entry in note.items() if entry}
        notes += [note] if note else []
    return notes


@mistake("lets a line that goes on fall away")
def parse_notes(text):
    return _notes(text, first=True)


@mistake("joins a line that goes on without the space")
def parse_notes(text):
    return _notes(text, joint="")


@mistake("keeps the line's end where one space is asked for")
def parse_notes(text):
    return _notes(text, joint="\n")


@mistake("knows the names of fields in small letters only")
def parse_notes(text):
    return _notes(text, lower=False)


@mistake("keeps fields with nothing in them")
def parse_notes(text):
    return _notes(text, empty=True)


@mistake("takes any word before a colon for a field")
def parse_notes(text):
    notes = []
    for block in re.split(r"\n\s*\n", text.strip()):
        note, field = {}, None
        for line in block.splitlines():
            name, colon, entry = line.partition(":")
            if colon:
                field = name.strip().lower()
                note[field] = entry.strip()
            elif field:
                note[field] = f"{note[field]} {line.strip()}".strip()
        note = {key: entry for key, entry in note.items() if entry}
        notes += [note] if note else []
    return notes


@mistake("cuts an entry at its own colon")
def parse_notes(text):
    return [{field: entry.split(":")[0].strip() for field, entry in note.items()} for note in _notes(text)]


@mistake("puts all notes into one")
def parse_notes(text):
    whole = "\n".join(line for line in text.splitlines() if line.strip())
    return _notes(whole)


@mistake("parts notes at empty lines alone: a line of spaces is blank, too")
def parse_notes(text):
    return [note for block in text.split("\n\n") for note in _notes(re.sub(r"\n\s*\n", "\n", block))]


@mistake("begins a field at its word, though no colon follows")
def parse_notes(text):
    notes = []
    for block in re.split(r"\n\s*\n", text.strip()):
        note, field = {}, None
        for line in block.splitlines():
            named = [its for its in readings.FIELDS if line.lower().startswith(its)]
            if named:
                field = named[0]
                note[field] = line.partition(":")[2].strip()
            elif field:
                note[field] = f"{note[field]} {line.strip()}".strip()
        note = {key: entry for key, entry in note.items() if entry}
        notes += [note] if note else []
    return notes


@right("a line with spaces before it begins no field")
def parse_notes(text):
    notes, field = [{}], None
    for line in text.splitlines():
        begun = [its for its in readings.FIELDS if line.lower().startswith(f"{its}:")]
        if not line.strip():
            notes, field = [*notes, {}], None
        elif begun:
            field = begun[0]
            notes[-1][field] = line[len(field) + 1 :].strip()
        elif field:
            notes[-1][field] = f"{notes[-1][field]} {line.strip()}".strip()
    return [note for note in ({key: its for key, its in note.items() if its} for note in notes) if note]


@right("by one pattern of all fields")
def parse_notes(text):
    names = "|".join(map(re.escape, readings.FIELDS))
    notes = [{}]
    field = None
    for line in text.split("\n"):
        if not line.strip():
            notes, field = [*notes, {}], None
        elif found := re.match(rf"\s*({names})\s*:(.*)", line, re.IGNORECASE):
            field = found[1].lower()
            notes[-1][field] = found[2].strip()
        elif field:
            notes[-1][field] = " ".join([*notes[-1][field].split(), *line.split()])
    kept = [{key: entry for key, entry in note.items() if entry} for note in notes]
    return [note for note in kept if note]


def _link(link, month=True, length=True, since=True, version=True, whole=True, lower=True, doi=True, bare=True):
    link = link.strip()
    number = r"(\d\d)(\d\d)\.(\d{4,5})" + (r"(?:v\d+)?" if version else "")
    ask = "?" if bare else ""
    arxiv = rf"(?:(?:https?://)?(?:www\.)?arxiv\.org/(?:abs|pdf)/|arxiv:){ask}" + number
    match = re.fullmatch if whole else re.search
    if found := match(arxiv, link, re.IGNORECASE):
        year, its_month, digits = found.groups()
        right_month = not month or 1 <= int(its_month) <= 12
        right_length = not length or len(digits) == (4 if int(year) < 15 else 5)
        if right_month and right_length and (not since or int(year + its_month) >= 704):
            return f"arXiv:{year}{its_month}.{digits}"
    if doi and (found := match(r"(?:(?:https?://)?(?:www\.)?doi\.org/|doi:)?(10\.\d{4,9}/\S+)", link, re.IGNORECASE)):
        return f"doi:{found[1].lower() if lower else found[1]}"
    return None


@mistake("takes a month above 12, or 00")
def canonical_link(link):
    return _link(link, month=False)


@mistake("takes four or five digits in any year")
def canonical_link(link):
    return _link(link, length=False)


@mistake("takes months before April 2007")
def canonical_link(link):
    return _link(link, since=False)


@mistake("refuses a version")
def canonical_link(link):
    return _link(link, version=False)


@mistake("knows versions of one digit: v12 is one, too")
def canonical_link(link):
    return None if re.search(r"v\d\d+\s*$", link, re.IGNORECASE) and "10." not in link else _link(link)


@mistake("finds the number anywhere in the text, whatever stands around it")
def canonical_link(link):
    return _link(link, whole=False)


@mistake("keeps a DOI's capitals")
def canonical_link(link):
    return _link(link, lower=False)


@mistake("knows no DOI")
def canonical_link(link):
    return _link(link, doi=False)


@mistake("knows no bare number of arXiv's")
def canonical_link(link):
    return _link(link, bare=False)


@right("by prefixes taken away one after another")
def canonical_link(link):
    rest, kind = link.strip().lower(), None
    for start in ("https://", "http://", "www.", "dx."):
        rest = rest.removeprefix(start)
    for start, its in (
        ("arxiv.org/abs/", "a"),
        ("arxiv.org/pdf/", "a"),
        ("arxiv:", "a"),
        ("doi.org/", "d"),
        ("doi:", "d"),
    ):
        if rest.startswith(start):
            rest, kind = rest.removeprefix(start), its
            break
    if kind != "d":
        found = re.fullmatch(r"((\d\d)(\d\d))\.(\d+)(v\d+)?", rest)
        of_its_time = found and len(found[4]) == (5 if int(found[2]) >= 15 else 4)
        if of_its_time and 1 <= int(found[3]) <= 12 and int(found[1]) >= 704:
            return f"arXiv:{found[1]}.{found[4]}"
    if kind != "a" and re.fullmatch(r"10\.\d{4,9}/\S+", rest):
        return "doi:" + rest
    return None


# --- 4. Does the number follow?


@mistake("rounds a half one way only: both ends are included")
def could_print(value, printed):
    decimals = len(printed.partition(".")[2])
    return float(f"{value:.{decimals}f}") == float(printed)


@mistake("allows a whole unit of the last digit, not half of one")
def could_print(value, printed):
    return abs(value - float(printed)) <= 10 ** -len(printed.partition(".")[2]) + 1e-9


@mistake("lets zeros at the end fall away: they are printed digits")
def could_print(value, printed):
    decimals = len(printed.partition(".")[2].rstrip("0"))
    return abs(value - float(printed)) <= 0.5 * 10**-decimals + 1e-9


@mistake("cuts off, where a number is rounded")
def could_print(value, printed):
    unit = 10 ** -len(printed.partition(".")[2])
    return -1e-9 <= abs(value) - abs(float(printed)) < unit and value * float(printed) >= 0


@mistake("leaves out the signs")
def could_print(value, printed):
    decimals = len(printed.partition(".")[2])
    return abs(abs(value) - abs(float(printed))) <= 0.5 * 10**-decimals + 1e-9


@right("in decimal numbers")
def could_print(value, printed):
    shown = Decimal(printed)
    half = Decimal(5).scaleb(shown.as_tuple().exponent - 1)
    return bool(abs(Decimal(value) - shown) <= half + Decimal("1e-9"))


def _fits(value, printed):
    return abs(value - float(printed)) <= 0.5 * 10 ** -len(printed.partition(".")[2]) + 1e-9


@mistake("gives those that are possible")
def impossible_percentages(printed, n):
    return [one for one in printed if any(_fits(100 * k / n, one) for k in range(n + 1))]


@mistake("stops before all of them: n of n is possible")
def impossible_percentages(printed, n):
    return [one for one in printed if not any(_fits(100 * k / n, one) for k in range(n))]


@mistake("begins at one: 0 of n is possible")
def impossible_percentages(printed, n):
    return [one for one in printed if not any(_fits(100 * k / n, one) for k in range(1, n + 1))]


@mistake("rounds a half one way only: 12.5 may be printed as 12 or 13")
def impossible_percentages(printed, n):
    def shown(one):
        decimals = len(one.partition(".")[2])
        return {f"{100 * k / n:.{decimals}f}" for k in range(n + 1)}

    return [one for one in printed if f"{float(one):.{len(one.partition('.')[2])}f}" not in shown(one)]


@mistake("asks for a whole number without rounding: 33.3 % of 3 is possible")
def impossible_percentages(printed, n):
    return [one for one in printed if abs(float(one) * n / 100 - round(float(one) * n / 100)) > 1e-9]


@mistake("rounds all to one decimal, however many are printed")
def impossible_percentages(printed, n):
    shares = {f"{100 * k / n:.1f}" for k in range(n + 1)}
    return [one for one in printed if f"{float(one):.1f}" not in shares]


@mistake("goes beyond all of them: more than n of n things is no share")
def impossible_percentages(printed, n):
    return [one for one in printed if not any(_fits(100 * k / n, one) for k in range(2 * n + 1))]


@mistake("gives one that is printed twice once")
def impossible_percentages(printed, n):
    return list(dict.fromkeys(one for one in printed if not any(_fits(100 * k / n, one) for k in range(n + 1))))


@right("by the nearest whole number")
def impossible_percentages(printed, n):
    def possible(one):
        nearest = round(float(one) * n / 100)
        return any(0 <= k <= n and _fits(100 * k / n, one) for k in (nearest - 1, nearest, nearest + 1))

    return [one for one in printed if not possible(one)]


def _interval(mean, sd, n, level, df=1, root=True, tail=True):
    quantile = (
        stats.t.ppf((1 + level) / 2 if tail else level, n - df) if df is not None else stats.norm.ppf((1 + level) / 2)
    )
    half = quantile * sd / (math.sqrt(n) if root else 1)
    return float(mean - half), float(mean + half)


@mistake("takes the normal quantile: too narrow for few")
def interval_from_table(mean, sd, n, level=0.95):
    return _interval(mean, sd, n, level, df=None)


@mistake("takes the standard deviation for the error of the mean")
def interval_from_table(mean, sd, n, level=0.95):
    return _interval(mean, sd, n, level, root=False)


@mistake("leaves 1 - level on each side, not half of it")
def interval_from_table(mean, sd, n, level=0.95):
    return _interval(mean, sd, n, level, tail=False)


@mistake("has n degrees of freedom, not n - 1")
def interval_from_table(mean, sd, n, level=0.95):
    return _interval(mean, sd, n, level, df=0)


@mistake("divides by n, not by its root")
def interval_from_table(mean, sd, n, level=0.95):
    return _interval(mean, sd / math.sqrt(n), n, level)


@mistake("does not use level")
def interval_from_table(mean, sd, n, level=0.95):
    return _interval(mean, sd, n, 0.95)


@right("by scipy's interval")
def interval_from_table(mean, sd, n, level=0.95):
    if sd == 0:
        return float(mean), float(mean)
    low, high = stats.t(n - 1, loc=mean, scale=sd / n**0.5).interval(level)
    return float(low), float(high)


def _derived(row_a, row_b, kind, pooled=None, percent_of="b", swap=()):
    (n_a, mean_a, sd_a), (n_b, mean_b, sd_b) = (row_b, row_a) if kind in swap else (row_a, row_b)
    if kind == "difference":
        return mean_a - mean_b
    if kind == "ratio":
        return mean_a / mean_b
    if kind == "percent":
        return 100 * (mean_a - mean_b) / (mean_b if percent_of == "b" else mean_a)
    variance = ((n_a - 1) * sd_a**2 + (n_b - 1) * sd_b**2) / (n_a + n_b - 2)
    scale = math.sqrt(variance) if pooled is None else pooled(sd_a, sd_b, n_a, n_b)
    return (mean_a - mean_b) / scale


def _wrong(table, figures, fits=_fits, **changes):
    return [
        name
        for name, (kind, a, b, printed) in figures.items()
        if not fits(_derived(table[a], table[b], kind, **changes), printed)
    ]


@mistake("takes the mean of the two variances, whatever the ns")
def does_not_follow(table, figures):
    return _wrong(table, figures, pooled=lambda s, t, n, m: math.sqrt((s**2 + t**2) / 2))


@mistake("divides the effect by the first row's standard deviation alone")
def does_not_follow(table, figures):
    return _wrong(table, figures, pooled=lambda s, t, n, m: s)


@mistake("pools standard deviations, not variances")
def does_not_follow(table, figures):
    return _wrong(table, figures, pooled=lambda s, t, n, m: ((n - 1) * s + (m - 1) * t) / (n + m - 2))


@mistake("takes percent of row a, not of row b")
def does_not_follow(table, figures):
    return _wrong(table, figures, percent_of="a")


@mistake("subtracts the other way round")
def does_not_follow(table, figures):
    return _wrong(table, figures, swap=("difference", "effect"))


@mistake("divides by the standard error of the difference: that is t, not d")
def does_not_follow(table, figures):
    return _wrong(table, figures, pooled=lambda s, t, n, m: math.sqrt(s**2 / n + t**2 / m))


@mistake("takes the effect without its sign")
def does_not_follow(table, figures):
    return [
        name
        for name, (kind, a, b, printed) in figures.items()
        if not _fits((abs if kind == "effect" else float)(_derived(table[a], table[b], kind)), printed)
    ]


@mistake("divides the other way round")
def does_not_follow(table, figures):
    return _wrong(table, figures, swap=("ratio",))


@mistake("gives those that follow")
def does_not_follow(table, figures):
    wrong = _wrong(table, figures)
    return [name for name in figures if name not in wrong]


@right("by a table of functions")
def does_not_follow(table, figures):
    kinds = {
        "difference": lambda n, m, s, k, w, t: m - w,
        "ratio": lambda n, m, s, k, w, t: m / w,
        "percent": lambda n, m, s, k, w, t: 100 * m / w - 100,
        "effect": lambda n, m, s, k, w, t: (m - w) / (((n - 1) * s * s + (k - 1) * t * t) / (n + k - 2)) ** 0.5,
    }
    found = []
    for name, (kind, a, b, printed) in figures.items():
        if not _fits(kinds[kind](*table[a], *table[b]), printed):
            found.append(name)
    return found


# --- 5. Do two papers disagree?


def _read(printed):
    return [float(number) for number in re.findall(r"[-+]?\d*\.?\d+", printed)]


def _apart(a, b, half):
    (v, low, high), (w, down, up) = _read(a), _read(b)
    by = half((high - low) / 2, (up - down) / 2)
    return v - w, v - w - by, v - w + by


@mistake("adds the two halves: errors add as squares")
def printed_difference(a, b):
    return _apart(a, b, lambda one, other: one + other)


@mistake("takes the larger of the two halves")
def printed_difference(a, b):
    return _apart(a, b, max)


@mistake("subtracts the errors' squares, as the values")
def printed_difference(a, b):
    return _apart(a, b, lambda one, other: math.sqrt(abs(one**2 - other**2)))


@mistake("multiplies by 1.96 what is an interval's half already")
def printed_difference(a, b):
    return _apart(a, b, lambda one, other: 1.96 * math.hypot(one, other))


@mistake("takes whole widths for halves")
def printed_difference(a, b):
    return _apart(a, b, lambda one, other: 2 * math.hypot(one, other))


@mistake("subtracts a from b")
def printed_difference(a, b):
    return _apart(b, a, math.hypot)


@mistake("reads no signs")
def printed_difference(a, b):
    return _apart(a.replace("-", " "), b.replace("-", " "), math.hypot)


@right("by standard errors, and the brackets cut off")
def printed_difference(a, b):
    def parts(printed):
        value, _, ends = printed.partition("[")
        low, high = ends.rstrip(" ]").split(",")
        return float(value), (float(high) - float(low)) / 2 / 1.959964

    (v, error_v), (w, error_w) = parts(a), parts(b)
    half = 1.959964 * (error_v**2 + error_w**2) ** 0.5
    return v - w, v - w - half, v - w + half


@mistake("two intervals can overlap and the difference's leave out 0")
def answer_overlap():
    return "a"


@mistake("the intervals are enough for this: half of a width is 1.96 standard errors")
def answer_overlap():
    return "b"


# --- 6. A figure at random


@mistake("0.9 is far off")
def my_figure():
    return 20260303, 0.9


@mistake("near, and not near enough")
def my_figure():
    return 20260303, readings.recomputed(20260303) + 2 * readings.figure(20260303).tolerance


def _neurons(seed, constant=False, after="post", shift=0):
    step, count, second = readings.figure(seed).setting
    pairs = torch.tensor([(first, (second + shift) % 113, 113) for first in range(113)])
    _, cache = models.load("grokking", step=step).run_with_cache(pairs)
    neurons = cache[f"blocks.0.mlp.hook_{after}"][:, -1].detach().double()
    power = torch.fft.rfft(neurons, dim=0).abs().square().sum(-1)[0 if constant else 1 :]
    return seed, (power.topk(count).values.sum() / power.sum()).item()


@mistake("0.8132 is far off")  # the constant is among the frequencies
def my_figure():
    return _neurons(20260303, constant=True)


@mistake("0.4452 is far off")  # before the ReLU
def my_figure():
    return _neurons(20260303, after="pre")


@right("by the neurons themselves")
def my_figure():
    return _neurons(20260303)


@mistake("expected (seed, value), in parentheses")
def my_figure():
    return 0.385


@mistake("the value is a plain number")
def my_figure():
    return 20260303, "0.385"


@mistake("nan is far off")
def my_figure():
    return 20260303, math.nan


@right("another seed")
def my_figure():
    return 11, readings.recomputed(11) + 0.01


@mistake("it would be the fifth that you have read and not made")
def answer_next():
    return "a"


@mistake("again without code, it is the same reading")
def answer_next():
    return "c"


# --- 8. Open task


def _review(**changes):
    note = {
        "paper": "olsson",
        "claim": "Induction heads form in a narrow window of training.",
        "evidence": "Prefix matching rises with the fall of the loss late in the context.",
        "where": "Figure 3",
        "falsifier": "A model whose loss falls so without any such head.",
        "disputed by": "nobody in these papers",
        "replicate": "The score at each checkpoint, beside one layer's",
        "on": "attn_only_2l, attn_only_1l",
        "minutes": 4,
    }
    review = {
        "question": "When does a model begin to copy from its context?",
        "papers": {
            "olsson": {
                "link": "https://transformer-circuits.pub/2022/in-context-learning-and-induction-heads/index.html",
                "shows": "Heads that copy form at once, early in training.",
            },
            "elhage": {
                "link": "https://transformer-circuits.pub/2021/framework/index.html",
                "shows": "Such heads need two layers, and keys that know the token before.",
            },
            "xiao": {"link": "arXiv:2309.17453v4", "shows": "Many heads rest on the first token of a text."},
        },
        "notes": [
            note,
            {**note, "paper": "elhage", "claim": "One layer alone cannot do induction, as its keys know one token."},
            {**note, "paper": "xiao", "claim": "Heads with nothing to do look at the first token."},
        ],
        "disagreement": {
            "between": [],
            "about": "None that I found; I looked in the limitations and in who cites them.",
        },
        "verdict": "In small models the jump is there, and I would still like to see it with a different law.",
    }
    for path, value in changes.items():
        *parts, last = [int(part) if part.isdigit() else part for part in path.split("__")]
        at = review = copy.deepcopy(review)
        for part in parts:
            at = at[part]
        at[last] = value
    return review


@mistake("there are 2 papers")
def my_review():
    review = _review()
    return {**review, "papers": {name: review["papers"][name] for name in ("olsson", "elhage")}}


@mistake("is no place: a figure, table or section with its number")
def my_review():
    return _review(notes__1__where="the abstract")


@mistake("'falsifier' is missing")
def my_review():
    return _review(notes__0__falsifier=" ")


@mistake("'falsifier' has 1 words: a sentence is asked for")
def my_review():
    return _review(notes__0__falsifier="none")


@mistake("is no model of this course")
def my_review():
    return _review(notes__2__on="Llama 3 70B")


@mistake("minutes: more than 0 and at most a day's 600")
def my_review():
    return _review(notes__2__minutes=5000)


@mistake("has neither the form of arXiv nor of a DOI")
def my_review():
    return _review(papers__xiao__link="https://arxiv.org/abs/2313.17453")


@mistake("are one: both links lead to 2309.17453")
def my_review():
    return _review(papers__elhage__link="https://arxiv.org/pdf/2309.17453")


@mistake("has no note: at least one claim of each")
def my_review():
    return _review(notes__2__paper="elhage", notes__2__claim="Keys carry what the earlier layer wrote into them.")


@mistake("'about' says where you looked for one")
def my_review():
    return _review(disagreement__about="There is no disagreement between them at all, really.")


@mistake("which is none of your papers")
def my_review():
    return _review(disagreement={"between": ["olsson", "nanda"], "about": "Whether one layer is enough for it.",
                                 "settled by": "A run of one layer on other data."})  # fmt: skip


@mistake("is still the template's own text")
def my_review():
    return _review(notes__0__claim="one sentence that can be wrong")


@mistake("two entries say the same")
def my_review():
    return _review(notes__0__falsifier="Prefix matching rises with the fall of the loss late in the context.")


@mistake("is the course's own sentence: say it yourself")
def my_review():
    shown = readings.load_readings()["induction_heads"].shows
    return _review(notes__0__claim=shown)


@mistake("is none: five words or more, and a question mark")
def my_review():
    return _review(question="Induction heads and how they form")


@mistake("the claim is a question: say what can be wrong")
def my_review():
    return _review(notes__0__claim="Do induction heads form in one window?")


@mistake("only denies the claim: which result would you see?")
def my_review():
    return _review(notes__0__falsifier="If the claim turned out to be false.")


@mistake("over and over")
def my_review():
    return _review(notes__0__falsifier="TODO TODO TODO TODO TODO")


@mistake("'the figure I liked most' is no place")
def my_review():
    return _review(notes__0__where="the figure I liked most")


@mistake("note 2: 'falsifier' only denies the claim")
def my_review():
    return _review(notes__1__falsifier="One layer alone can do induction, as its keys know one token.")


@mistake("note 3: 'falsifier' only denies the claim")
def my_review():
    return _review(notes__2__falsifier="There is no result that would refute it.")


@mistake("note 1: 'falsifier' only denies the claim")
def my_review():
    return _review(notes__0__falsifier="That it does not hold in experiments.")


@mistake("'falsifier' only denies the claim")
def my_review():
    return _review(notes__0__falsifier="Induction heads do not form in a narrow window of training.")


@mistake("'the remark two pages later' is no place")
def my_review():
    return _review(notes__0__where="the remark two pages later")


@mistake("the verdict is still to be written")
def my_review():
    return _review(verdict="TODO write here where I stand once I have read all three")


@mistake("the verdict is a question: where do *you* stand?")
def my_review():
    return _review(verdict="When does a model begin to copy from its context, and why does it?")


@mistake("show the same, word for word")
def my_review():
    return _review(papers__xiao__shows="Heads that copy form at once, early in training.")


@mistake("its claim stands in an earlier note")
def my_review():
    return _review(notes__1__claim="Induction heads form in a narrow window of training")


@mistake("'on' names no model")
def my_review():
    return _review(notes__0__on=" , ")


@mistake("puts it off: which result would settle it?")
def my_review():
    return _review(disagreement={"between": ["olsson", "xiao"], "about": "Whether one layer is enough for it.",
                                 "settled by": "More research is needed to settle it."})  # fmt: skip


@mistake("the question says the same 2 words over and over")
def my_review():
    return _review(question="copy copy copy copy copy copy?")


@mistake("papers 'olsson' and 'xiao' are one")
def my_review():
    return _review(papers__olsson__link="https://huggingface.co/papers/2309.17453")


@mistake("both links lead to 2309.17453")
def my_review():
    return _review(papers__elhage__link="https://doi.org/10.48550/arXiv.2309.17453")


@right("links as people copy them, models as people write them")
def my_review():
    return _review(
        papers__xiao__link="arxiv.org/abs/2309.17453",
        papers__elhage__link="https://openreview.net/forum?id=9XFSbDPmdW",
        notes__0__on="attn_only_2l & attn_only_1l",
        notes__1__on="attn_only_2l, attn_only_1l, and SmolLM2",
        notes__0__where="the section on K-composition",
        notes__1__where="Section: Results",
        notes__2__where="Eqn 5",
    )


@right(
    "links from a browser's line, places as the field's papers have them, a falsifier with some of the claim's words"
)
def my_review():
    return _review(
        papers__xiao__link="https://arxiv.org/abs/2309.17453?context=cs",
        papers__elhage__link="https://www.nature.com/articles/s41586-024-07421-0",
        notes__0__where="Argument 3",
        notes__1__where="Hypothesis 2, Remark 1",
        notes__0__falsifier="Heads form over the whole of training, and not in a narrow window.",
        verdict="It begins with two layers, and early. But does it in models of one layer, with other data?",
    )


@right("the claim's words in another order, a link without www., more work that is no putting off")
def my_review():
    return _review(
        notes__0__claim="Induction heads form before the loss falls.",
        notes__0__falsifier="The loss falls before induction heads form.",
        notes__0__where="Remark B.2, footnote 4",
        papers__elhage__link="https://pnas.org/doi/10.1073/pnas.1907367117/full",
        disagreement={
            "between": ("olsson", "elhage"),
            "about": "How much of learning in context is induction.",
            "settled by": "Whether later heads do more work once the patterns are held as they are.",
        },
    )


@right("with places of several kinds, and a dispute")
def my_review():
    return _review(
        notes__0__where="Sec. 4, Fig. 2b",
        notes__1__where='Section "Induction heads"',
        notes__2__where="appendix B, Figure S3",
        notes__2__minutes="2.5",
        disagreement={
            "between": ("olsson", "elhage"),
            "about": "How much of learning in context is induction.",
            "settled by": "A loss with the heads' patterns held as they are.",
        },
    )
