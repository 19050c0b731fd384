"""Checks of 6.3 Read around the field: graphs, tables and links that nobody has seen, and the form of a review."""

# equivalent mutant of supported, drop line supported = None: the line after it sets it
# equivalent mutant of parse_notes, drop line field = None: a line with no field above it is not of the template's form
# equivalent mutant of parse_notes, drop .strip() (3x): empty notes fall away; spaces around a name are left open
# equivalent mutant of canonical_link, keep str: an annotation
# equivalent mutant of canonical_link, keep None: an annotation
# equivalent mutant of could_print, LtE -> Lt: 1e-9 is the machine's allowance, not an end: just so far off is left open
# equivalent mutant of interval_from_table, drop float(...) (2x): the quantile is numpy's float64, which is a float
# equivalent mutant of does_not_follow, Eq -> LtE: "difference" is the first by alphabet; of the others it is rejected
# equivalent mutant of does_not_follow, Eq -> GtE (2x): of kinds "ratio" is the last by alphabet, of the rest "percent"
# equivalent mutant of printed_difference, 2 -> -2: halves are only squared
# equivalent mutant of printed_difference, 1 -> -1: the second of two is the last
# equivalent mutant of my_figure, drop line my_figure = None: the line at the end sets it
# equivalent mutant of my_figure, drop .double(): float32 rounds by far less than the tolerance
# equivalent mutant of my_figure, drop .detach(): .item() gives a plain number of either
# equivalent mutant of my_figure, drop USub: of [a, neuron] axis 1 is the last; position 1 is rejected
# equivalent mutant of my_figure, 1 -> -1: of [a, neuron] axis 1 is the last; position 1 and [-1:] are rejected
# equivalent mutant of my_figure, sum -> mean: of a mean over neurons the share is the same; other sums are rejected
# equivalent mutant of my_figure, 1 -> 2: without frequency 1 it is .4083, not .4088: within the tolerance
# equivalent mutant of my_review, drop line my_review = None: the line at the end sets it

import functools
import math
import re

from scipy import stats

from concrete_steps import readings, topics
from concrete_steps.checking.testing import assert_choice, assert_plain, unchanged

PAPERS, FEWEST_WORDS = 3, 5
# "Fig. 3(b)", "Tables II and III", "Appendix C.2", "§4"; not "the figure I liked", nor "a section a little later"
PROSE = r"\b(?i:argument|claim|observation|finding|hypothesis|remark|footnote|example)s?\b"  # "the remark two pages on"
KIND = (
    r"(?i:\b(fig|figure|tab|table|sec|section|ch|chapter|def|definition|thm|theorem|app|appendix|eqn?|equation|alg"
    r"|algorithm|lemma|cor|corollary|prop|proposition)s?\b\.?|§)"
)
END = r"(?=\s*([,.;:()]|$)|\s+(and|of|in|to)\b)"
FIGURE = rf"([A-Z]{{0,2}}[.-]?[0-9]+|([A-Za-z]|[IVXivx]+){END})"
NUMBER = rf"({FIGURE}|(?i:one|two|three|four|five|six|seven|eight|nine|ten)\b)"
ALONE = r"(?i:one|two|three|four|five)(?=\s*([.,;:)]|$))"
TITLE = r"(?!(?i:abstract|title)\b)"
PLACE = re.compile(
    rf"({KIND}\s*(?i:#|no\.?|nr\.?|number)?\s*\(?{NUMBER}|{PROSE}\s*(?i:#|no\.?|nr\.?|number)?\s*\(?({FIGURE}|{ALONE}))"
    rf"|\b(?i:sec(tion|\.)):?\s*([\"'“”‘’«*]\s*{TITLE}\w|{TITLE}[A-Z]\w|(?i:on|about|called|titled)\s+{TITLE}\w)"
    rf"|{TITLE}(\b(?!(?i:the|this|that|these|a|an|one|another|each|which|last|first|next)\b)[A-Z][\w-]*|[\"'“”‘’«»*])\s+section\b"
)
# Where papers appear that are not on arXiv
HOSTS = re.compile(
    r"(https?://)?(www\.)?(openreview\.net/(forum|pdf)\?id=\w+|aclanthology\.org/\w\S+|(\w+\.)?mlr\.press/\S+"
    r"|(\w+\.)*(nips|neurips|iclr|icml)\.cc/\S+|(www\.)?nature\.com/articles/\S+|(www\.)?jmlr\.org/papers/\S+"
    r"|(\w+\.)*(acm|pnas|science)\.org/doi/\S+|distill\.pub/\d{4}/\S+"
    r"|transformer-circuits\.pub/\d{4}/\S+|(lesswrong|alignmentforum)\.com/posts/\S+|alignmentforum\.org/posts/\S+)",
    re.IGNORECASE,
)
LOOKED = re.compile(
    r"\b(looked|looking|look|searched|searching|read|reading|checked|checking|went through|asked|scann?ed|browsed"
    r"|skimmed|googled|found (in|on)|in what I found|limitations|related work|citations|citing|comments|reviews)\b",
    re.IGNORECASE,
)
DENIED = re.compile(
    r"(if |that )?((the|this|my) claim|it|this) ((is|was|were|being|turned out to be|turns out to be) "
    r"(not true|false|wrong)|(does not|doesn't|did not|didn't) hold( (in|on|for) [^,;]{1,30})?)"
    r"|(if |that )?the opposite( of (the|this|my) claim)?( (is|was) \w+)?"
    r"|(there is )?(nothing|none|no (result|outcome|experiment|evidence|observation))( that| which)?( I \w+( of)?)?"
    r" (would|could|can|will)( \w+)? (refute|falsify|disprove|contradict|speak against).*",
    re.IGNORECASE,
)
# What a sentence and its denial need not have in common
DENIALS = {"not", "no", "never", "cannot"}
# Without an s at the end, as words are compared: "does", "is", "was", "has"; "ca" is of "can't".
NOTS = DENIALS | {"do", "doe", "did", "can", "ca", "will", "i", "are", "wa", "were", "ha", "have"}
PUT_OFF = re.compile(
    r"\b(more|further|future) (research|work|studies|papers)\b[^.;]{0,40}\b(needed|required|necessary)\b"
    r"|^\W*(only )?(more|further|future|additional) (research|work|studies|papers)\b"
    r"|\b(it|this|that|we) (needs?|requires?) (more|further) (research|work|studies|papers)\b"
    r"|\b(left|up|a matter) (for|to) (further|future) (research|work|studies|papers)\b",
    re.IGNORECASE,
)


# --- 1. What to read, in which order

DIAMOND = {"d": ["b", "c"], "b": ["a"], "c": ["a"], "a": [], "e": ["d"], "f": []}


def drawn(rng, n, share):
    """What n topics need: each some of those before it in a hidden order. Listed in another order, and in this one."""
    names = [f"topic {number}" for number in rng.permutation(100)[:n].tolist()]
    needs = {
        name: [earlier for earlier in names[:place] if rng.uniform(1).item() < share]
        for place, name in enumerate(names)
    }
    listed = [names[place] for place in rng.permutation(n).tolist()]
    return {name: needs[name] for name in listed}, names


def still(needs, wish, read):
    """What is to be read for a wish, itself included: by asking until nothing new comes."""
    found = {wish} - read
    while more := {other for name in found for other in needs[name]} - found - read:
        found |= more
    return found


def test_reading_list(reading_list, rng):
    """The nearest wish first, each topic after what it needs, nothing twice and nothing in vain."""
    cases = [
        (DIAMOND, set(), {"e", "f"}),
        (DIAMOND, set(), {"b", "c"}),
        (DIAMOND, {"d"}, {"e", "b"}),
        (DIAMOND, {"b"}, {"c", "e"}),
        (DIAMOND, {"e"}, {"e"}),
        (DIAMOND, set(), set()),
        (DIAMOND, {"a"}, {"e", "d", "f"}),
        ({"x": [], "y": ["x"], "z": ["y"], "long": ["z"], "m": ["x"], "n": ["m"]}, set(), {"long", "n"}),
        ({"x": [], "p": ["x"], "q": ["p"], "r": [], "s": ["r"], "t": ["s", "p"]}, set(), {"q", "t", "s"}),
    ]
    overlap = {"r": [], "a": ["r"], "w": [], "c": ["a", "w"], "u": [], "v": ["u"], "b": ["v"]}
    cases.append((overlap, set(), {"a", "b", "c"}))  # once a is read, c is nearer than b
    for n, share in ((14, 0.25), (12, 0.4), (16, 0.15)):
        needs, names = drawn(rng, n, share)
        cases += [(needs, set(), set(names[2::4])), (needs, set(names[1::5]), set(names[-3:]) | set(names[2:4]))]
    for needs, known, wishes in cases:
        before = set(known), set(wishes)
        with unchanged(needs, *needs.values()):
            order = assert_plain(reading_list(needs, known, wishes), list)
        assert (known, wishes) == before, "your code changes the set of what is known, or of the wishes: copy it first"
        said = f"needs {needs}, known {sorted(known)}, wishes {sorted(wishes)}"
        assert len(set(order)) == len(order), f"something stands in it twice: {order}"
        again = sorted(set(order) & known)
        assert not again, f"{again[0]!r} is known: it needs no reading"
        missing = sorted(wishes - known - set(order))
        assert not missing, f"the wish {missing[0]!r} is missing from {order}"
        for place, name in enumerate(order):
            late = [needed for needed in needs.get(name, ()) if needed not in known and needed not in order[:place]]
            if late:
                where = "comes later" if late[0] in order else "is missing"
                raise AssertionError(f"{name!r} needs {late[0]!r}, which {where}: {order}")
        useful = set().union(*(still(needs, wish, known) for wish in wishes))
        useless = [name for name in order if name not in useful]
        assert not useless, f"{useless[0]!r} is in it, which no wish still needs"
        read, rest = set(known), list(order)
        while left := wishes - read:
            nearest = min(left, key=lambda wish: (len(still(needs, wish, read)), wish))
            due = still(needs, nearest, read)
            came = set(rest[: len(due)])
            assert came == due, (
                f"with {sorted(read)} read, {nearest!r} is nearest ({len(due)} to read): next come {sorted(due)}, "
                f"in your list {sorted(came)}; {said}"
            )
            read |= due
            rest = rest[len(due) :]


# --- 2. What does an abstract support?


def test_supported(supported):
    """The one sentence of each four that the abstract says."""
    assert_plain(supported, dict)
    assert set(supported) == set(readings.ABSTRACTS), f"the keys are the numbers 1 to 4, not {list(supported)}"
    letters = {number: str(letter).strip(" ().").lower() for number, letter in supported.items()}
    for number, letter in letters.items():
        options = readings.ABSTRACTS[number].options
        assert letter in options, f"{number}: expected one of {', '.join(options)}, got {supported[number]!r}"
    wrong = [number for number, letter in letters.items() if letter != readings.ABSTRACTS[number].right]
    if wrong:
        number = min(wrong)
        why = readings.ABSTRACTS[number].wrong[letters[number]]
        more = f" (and {len(wrong) - 1} more)" if wrong[1:] else ""
        raise AssertionError(f"abstract {number}, sentence ({letters[number]}): {why}{more}")


def test_answer_falsifier(answer_falsifier):
    """What 'needed' claims, and what would be the null of it."""
    assert_choice(answer_falsifier, "a", "what would the ablation show if H were like any other head?")


# --- 3. Notes by claim


def _note(rng, fields):
    words = ["heads", "copy", "of 26", "loss: 2.1", "(p < .01)", "not", "by 5 %", "Table 2", "see: the appendix"]
    return {field: " ".join(rng.choice(words) for _ in range(rng.integer(1, 5))) for field in fields}


def test_parse_notes(parse_notes, rng):
    """Fields in any order and case, over several lines, with colons in them; empty ones; blank lines between notes."""
    given = parse_notes("claim: a\nwhere: Figure 2")
    assert_plain(given, list, of=dict)
    same_notes(given, [{"claim": "a", "where": "Figure 2"}], "a note of two fields")
    same_notes(parse_notes("claim: heads copy: all\n  of them\nwhere: Table 1"),
               [{"claim": "heads copy: all of them", "where": "Table 1"}], "a line that goes on")  # fmt: skip
    same_notes(parse_notes("claim: a\nsee: also b\nnot: c"), [{"claim": "a see: also b not: c"}],
               "a line with a colon whose first word is no field")  # fmt: skip
    same_notes(parse_notes("Claim: A b\nDISPUTED BY: nobody\n"), [{"claim": "A b", "disputed by": "nobody"}],
               "names of fields in capitals")  # fmt: skip
    same_notes(parse_notes("claim: a\n\nclaim: b\n \n\nclaim: c\n"), [{"claim": c} for c in "abc"], "three notes")
    same_notes(parse_notes("claim: a\n  \nclaim: b"), [{"claim": "a"}, {"claim": "b"}], "a line of spaces between two")
    same_notes(parse_notes("claim: all copy\non this text: a"), [{"claim": "all copy on this text: a"}],
               "a line that goes on, and begins with a field's word but not with its colon")  # fmt: skip
    same_notes(parse_notes("claim:\nwhere:   \non: wired"), [{"on": "wired"}], "fields with nothing in them")
    same_notes(parse_notes("claim:\n  on the next line"), [{"claim": "on the next line"}], "an entry on the next line")
    same_notes(parse_notes(""), [], "no text")
    same_notes(parse_notes("\nclaim:  a  \n\n\n"), [{"claim": "a"}], "spaces around")
    for _ in range(4):
        notes, text = [], []
        for _ in range(rng.integer(1, 4)):
            fields = [readings.FIELDS[i] for i in rng.permutation(len(readings.FIELDS)).tolist()]
            note = _note(rng, fields[: rng.integer(1, len(fields) + 1)])
            notes.append(note)
            lines = []
            for field, entry in note.items():
                first, *more = entry.split(" ")
                name = rng.choice([field, field.upper(), field.capitalize()])
                lines.append(f"{name}: {first}")
                lines += ["   " + " ".join(more)] if more else []
            text.append("\n".join(lines))
        same_notes(parse_notes("\n\n".join(text)), notes, "notes drawn at random")


def same_notes(given, expected, what):
    assert_plain(given, list, of=dict)
    assert len(given) == len(expected), f"{what}: expected {len(expected)} notes, got {len(given)}: {given}"
    for mine, right in zip(given, expected, strict=True):
        more = sorted(map(str, set(mine) - set(right)))
        assert not more, f"{what}: the field {more[0]!r} should not be there: {mine}"
        missing = sorted(set(right) - set(mine))
        assert not missing, f"{what}: the field {missing[0]!r} is missing: {mine}"
        for field in right:
            assert mine[field] == right[field], f"{what}: {field}: expected {right[field]!r}, got {mine[field]!r}"


def test_canonical_link(canonical_link, rng):
    """arXiv and DOI in all their forms, and what only looks like them."""
    month, number, version = rng.integer(1, 13), rng.integer(0, 10**5), rng.integer(1, 9)
    new = f"{rng.integer(15, 27):02d}{month:02d}.{number:05d}"
    old = f"{rng.integer(8, 15):02d}{month:02d}.{number % 10**4:04d}"
    # Fewer than sixty in all: so many are looked at before a wrong answer gets a name
    cases = {one: f"arXiv:{one}" for one in ("2301.05217", "0704.0001", "1412.6980", "1501.00001")}
    cases |= {form: f"arXiv:{one}" for one in (new, old)
              for form in (one, f"https://arxiv.org/abs/{one}", f"http://www.arxiv.org/abs/{one}v{version}",
                           f"arxiv.org/pdf/{one}", f"arXiv:{one}", f"ARXIV:{one}V1{version}", f"  {one} ")}  # fmt: skip
    for doi in ("10.23915/distill.00024", f"10.{rng.integer(1000, 10**6)}/a(b)c;{number}-x"):
        for form in (doi, f"https://doi.org/{doi}", f"doi:{doi}", f"http://www.doi.org/{doi} "):
            cases[form] = f"doi:{doi}"
    cases["DOI:10.1000/ABC"] = cases["https://doi.org/10.1000/Abc"] = "doi:10.1000/abc"
    for wrong in (
        "2313.05217", "2300.05217", "2301.5217", "2301.052171", "1412.06980", "1501.0001", "0703.0001", "2301.05217 v2",
        "https://arxiv.org/abs/", "https://example.org/2301.05217", "https://arxiv.org/abs/2301.05217/figures",
        "see arXiv:2301.05217", "see doi:10.1000/abc", "10.12/abc", "10.1000/", "10.1000/a b", "11.1000/abc", "",
        "https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru", "2301-05217", "2301x05217", "10x1000/abc", "0612.0001",
    ):  # fmt: skip
        cases[wrong] = None
    for link, expected in cases.items():
        given = canonical_link(link)
        assert given is None or isinstance(given, str), f"expected a text or None, got {type(given).__name__}"
        if expected is None:
            assert given is None, f"{link!r} has no such form, and you give {given!r}"
        else:
            assert given is not None, f"{link!r} is a link to {expected}, and you give None"
            assert given == expected, f"{link!r}: expected {expected!r}, got {given!r}"


# --- 4. Does the number follow?


def printable(value, printed):
    decimals = len(printed.split(".")[1]) if "." in printed else 0
    return abs(value - float(printed)) <= 0.5 / 10**decimals + 1e-9


def test_could_print(could_print, rng):
    """Half a unit of the last printed digit, both ends, signs, no decimals, trailing zeros."""
    cases = [(0.295, "0.30"), (0.305, "0.30"), (0.2949, "0.30"), (0.3051, "0.30"), (0.34, "0.3"), (0.34, "0.30")]
    cases += [(86.5, "87"), (87.5, "87"), (87.51, "87"), (86.49, "87"), (-1.25, "-1.2"), (-1.25, "-1.3"), (1.2, "-1.2")]
    cases += [(12.4, "+12"), (12.6, "+12"), (0.0, "0"), (0.004, "0.00"), (-0.004, "0.00"), (120.0, "120"), (124, "120")]
    cases += [
        (2.675, "2.68"),
        (2.675, "2.67"),
        (1.005, "1.00"),
        (1.005, "1.01"),
        (7, "7.0"),
        (7.04, "7.0"),
        (7.06, "7.0"),
    ]
    for _ in range(20):
        decimals, value = rng.integer(0, 4), rng.uniform(1).item() * 200 - 100
        printed = f"{value:.{decimals}f}"
        shift = (0.3, 0.7, -0.3, -0.7)[rng.integer(0, 4)] / 10**decimals
        cases += [(value, printed), (float(printed) + shift, printed)]
    for value, printed in cases:
        given = assert_plain(could_print(value, printed), bool)
        low, high = (float(printed) + side * 0.5 / 10 ** len(printed.partition(".")[2]) for side in (-1, 1))
        assert given == printable(value, printed), (
            f"{printed!r} stands for {low:.6g} to {high:.6g}: of {value:.6g} the answer is {printable(value, printed)}"
        )


def test_impossible_percentages(impossible_percentages, rng):
    """Of n things, with as many decimals as are printed; none and all of them are possible."""
    cases = [(["87.5", "88", "87.4", "0", "100.0", "50"], 25), (["87.5", "12.5", "33.3"], 8), (["33", "33.3", "34"], 3)]
    cases += [
        (["0.0", "100", "50", "0.4", "0.5"], 1),
        ([], 10),
        (["66.67", "66.66", "67", "66"], 3),
        (["101", "120"], 9),
        (["13", "12", "37", "38", "36"], 8),  # 12.5 and 37.5 are rounded either way
    ]
    cases += [(["33.4", "10.0", "33.4", "33.3"], 3)]  # one that is printed twice is in it twice
    cases += [(["112.5", "200", "100"], 8), (["14.2", "14.3", "14.29", "14.28", "14.3"], 7)]
    for _ in range(5):
        n, decimals = rng.integer(5, 90), rng.integer(0, 3)
        true = [f"{100 * rng.integer(0, n + 1) / n:.{decimals}f}" for _ in range(5)]
        made_up = [f"{rng.uniform(1).item() * 100:.{decimals}f}" for _ in range(5)]
        cases.append(([*true, *made_up], n))
    for printed, n in cases:
        with unchanged(printed):
            given = assert_plain(impossible_percentages(printed, n), list)
        right = [one for one in printed if not any(printable(100 * k / n, one) for k in range(n + 1))]
        ways = {one: [k for k in range(n + 1) if printable(100 * k / n, one)] for one in printed}
        for one in printed:
            if one in given and one not in right:
                raise AssertionError(f"{one} % of {n} can be: {ways[one][0]} of {n}")
            assert one in given or one not in right, f"{one} % of {n} cannot be: no whole number gives it"
        assert given == right, f"expected {right}, in their order, got {given}"


def test_interval_from_table(interval_from_table, rng):
    """Student's t as scipy has it, with n of 2, other levels, negative means."""
    cases = [
        (3.96, 1.5, 50, 0.95),
        (0.0, 1.0, 2, 0.95),
        (-2.0, 0.3, 6, 0.9),
        (10.0, 4.0, 12, 0.99),
        (1.0, 0.0, 5, 0.95),
    ]
    cases += [(rng.uniform(1).item() * 9 - 4, 0.2 + rng.uniform(1).item(), rng.integer(2, 40), 0.8) for _ in range(4)]
    for mean, sd, n, level in cases:
        ends = interval_from_table(mean, sd, n, level)
        assert isinstance(ends, tuple) and len(ends) == 2, f"expected two numbers, a tuple; got {ends!r}"
        half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * sd / math.sqrt(n)
        for name, end, right in zip(("lower", "upper"), ends, (mean - half, mean + half), strict=True):
            assert_plain(end, float)
            assert abs(end - right) <= 1e-6 * (1 + abs(right)), (
                f"mean {mean:.4g}, sd {sd:.4g}, n {n}, level {level}: the {name} end is {right:.5f}, you give {end:.5f}"
            )
    assert interval_from_table(1.0, 2.0, 9) == interval_from_table(1.0, 2.0, 9, 0.95), "without a level, it is 0.95"


def derived(table, kind, a, b):
    (n_a, mean_a, sd_a), (n_b, mean_b, sd_b) = table[a], table[b]
    if kind == "effect":
        pooled = math.sqrt(((n_a - 1) * sd_a**2 + (n_b - 1) * sd_b**2) / (n_a + n_b - 2))
        return (mean_a - mean_b) / pooled
    return {"difference": mean_a - mean_b, "ratio": mean_a / mean_b, "percent": 100 * (mean_a / mean_b - 1)}[kind]


def printed_of(rng, value, decimals, off):
    """The value as printed: rightly, or wrong by two to nine units of the last digit. Sometimes with a plus."""
    shift = off * rng.integer(2, 10) * rng.choice([-1, 1]) / 10**decimals
    text = f"{round(value, decimals) + shift:.{decimals}f}"
    return f"+{text}" if rng.integer(0, 3) == 0 and not text.startswith("-") else text


def test_does_not_follow(does_not_follow, rng):
    """Differences, ratios, percentages and effects of unseen tables, right or off by two units of the last digit."""
    table = {"a": (40, 9.0, 1.0), "b": (10, 6.0, 3.0)}
    # By what d is divided wrongly: each slip has a figure of its own, that others do not give
    slips = [math.sqrt(5), 1.0, 3.0, 2.0, (39 + 27) / 48, (39 + 81) / 48, math.sqrt(1 / 40 + 9 / 10)]
    singles = [
        (("difference", "a", "b", "3.0"), True),
        (("difference", "b", "a", "3.0"), False),
        (("difference", "b", "a", "-3.0"), True),
        (("ratio", "a", "b", "1.50"), True),
        (("ratio", "a", "b", "0.67"), False),
        (("percent", "a", "b", "50"), True),
        (("percent", "a", "b", "33"), False),
        (("percent", "a", "b", "150"), False),
        (("percent", "b", "a", "-33.3"), True),
        (("effect", "a", "b", f"{derived(table, 'effect', 'a', 'b'):.2f}"), True),
        *((("effect", "a", "b", f"{3.0 / scale:.2f}"), False) for scale in slips),
        (("effect", "b", "a", "-1.90"), True),
        (("effect", "b", "a", "1.90"), False),
        (("difference", "a", "b", "+3.0"), True),
    ]
    for figure, follows in singles:
        given = assert_plain(does_not_follow(table, {"it": figure}), list)
        kind, a, b, printed = figure
        right = derived(table, kind, a, b)
        assert ("it" not in given) == follows, (
            f"{kind} of {a} {table[a]} and {b} {table[b]} is {right:.4f}: printed as {printed}, it "
            f"{'follows' if follows else 'does not follow'}"
        )
    for _ in range(5):
        rows = {f"row {i}": (rng.integer(4, 60), 1 + rng.uniform(1).item() * 20, 0.3 + rng.uniform(1).item() * 4)
                for i in range(4)}  # fmt: skip
        table = {name: (n, round(mean, 2), round(sd, 2)) for name, (n, mean, sd) in rows.items()}
        figures, right = {}, []
        for number in range(8):
            a, b = (f"row {i}" for i in rng.permutation(4)[:2].tolist())
            kind, decimals, off = (
                rng.choice(["difference", "ratio", "percent", "effect"]),
                rng.integer(1, 3),
                number % 2,
            )
            name = f"figure {number}"
            figures[name] = (kind, a, b, printed_of(rng, derived(table, kind, a, b), decimals, off))
            if not printable(derived(table, kind, a, b), figures[name][3]):
                right.append(name)
        with unchanged(table, figures):
            given = assert_plain(does_not_follow(table, figures), list)
        for name, (kind, a, b, printed) in figures.items():
            assert (name in given) == (name in right), (
                f"{kind} of {table[a]} and {table[b]} (n, mean, sd) is {derived(table, kind, a, b):.4f}: printed as "
                f"{printed}, it {'does not follow' if name in right else 'follows'}"
            )
        assert given == right, f"expected {right}, in their order, got {given}"


# --- 5. Do two papers disagree?


def test_printed_difference(printed_difference, rng):
    """From the printed texts alone: errors add as squares, signs, whole numbers, intervals that are not symmetric."""
    cases = [
        ("0.60 [0.50, 0.70]", "0.42 [0.31, 0.53]", (0.18, 0.10, 0.11)),
        ("5 [1, 9]", "2 [-1, 5]", (3, 4, 3)),
        ("-0.2 [-0.5, 0.1]", "0.1 [0.1, 0.1]", (-0.3, 0.3, 0)),
        ("1.0[0.5,1.5]", "-1.0 [-1.5,-0.5]", (2, 0.5, 0.5)),
        ("0.9 [0.6, 1.0]", "0.1 [0.0, 0.4]", (0.8, 0.2, 0.2)),
        (".42 [.31, .53]", "0 [-.1, .1]", (0.42, 0.11, 0.1)),
    ]
    for _ in range(5):
        numbers = []
        for _ in range(2):
            value, below, above = (round(rng.uniform(1).item() * size, 2) for size in (6, 2, 2))
            numbers.append((round(value - 3, 2), below, above))
        texts = [f"{v:.2f} [{v - low:.2f}, {v + high:.2f}]" for v, low, high in numbers]
        (v, low, high), (w, down, up) = numbers
        cases.append((*texts, (v - w, (low + high) / 2, (down + up) / 2)))
    for a, b, (difference, half_a, half_b) in cases:
        given = printed_difference(a, b)
        assert isinstance(given, tuple) and len(given) == 3, f"expected (value, low, high), got {given!r}"
        half = math.sqrt(half_a**2 + half_b**2)
        expected = (difference, difference - half, difference + half)
        for name, mine, right in zip(("difference", "lower end", "upper end"), given, expected, strict=True):
            assert_plain(mine, float)
            assert abs(mine - right) < 1e-6, f"{a!r} minus {b!r}: the {name} is {right:.4f}, you give {mine:.4f}"


def test_answer_overlap(answer_overlap):
    """Overlap of two intervals, and the interval of a difference."""
    assert_choice(answer_overlap, "c", "put both texts into your own printed_difference")


# --- 6. A figure at random


@functools.cache
def value_of(seed):
    return readings.recomputed(seed)


def test_my_figure(my_figure):
    """A number that a seed drew, computed anew."""
    assert isinstance(my_figure, tuple) and len(my_figure) == 2, "expected (seed, value), in parentheses"
    seed, value = my_figure
    assert_plain(seed, int)
    assert isinstance(value, int | float) and not isinstance(value, bool), (
        f"the value is a plain number, not a {type(value).__name__}: .item() makes one of a tensor"
    )
    drawn, right = readings.figure(seed), value_of(seed)
    far = abs(value - right)
    if math.isfinite(value) and far <= drawn.tolerance:
        return
    by = "far off" if not far < 5 * drawn.tolerance else "near, and not near enough"
    raise AssertionError(
        f"seed {seed} ({drawn.kind}): {value:.4g} is {by}: to within {drawn.tolerance:g} is asked for. Read the "
        f"definition once more: readings.figure({seed})"
    )


def test_answer_next(answer_next):
    """What the guide says to do instead of reading on."""
    assert_choice(answer_next, "b", "reading is no substitute for coding")


# --- 8. Open task


def words(text):
    return len(text.split())


def sentence(text, where, fewest=FEWEST_WORDS):
    assert_plain(text, str)
    assert words(text) >= fewest, f"{where} has {words(text)} words: a sentence is asked for"
    no_repetition(text, where)
    assert not re.search(r"\b(TODO|TBD|FIXME)\b", text), f"{where} is still to be written: {text!r}"
    assert " ".join(text.split()).lower() not in template(), f"{where} is still the template's own text"
    return " ".join(text.split())


def no_repetition(text, where):
    different = len({word.lower() for word in text.split()})
    assert 2 * different > min(words(text), 10), f"{where} says the same {different} words over and over"


def plain(text):
    return " ".join(re.findall(r"\w+", text.lower()))


def only_denies(falsifier, claim):
    """ "It does not ...", of a claim that it does: the same words in the same order, but for the denial."""
    whole = [re.sub(r"n't\b", " not", re.sub(r"\bwon't\b", "will not", text.lower())) for text in (falsifier, claim)]
    said = [[word.removesuffix("s") for word in plain(text).split()] for text in whole]
    kept = [[word for word in its if word not in NOTS] for its in said]
    denials = [sum(word in DENIALS for word in its) for its in said]
    return DENIED.fullmatch(falsifier.rstrip(".")) or (kept[0] == kept[1] and denials[0] != denials[1])


@functools.cache
def template():
    return {line.partition(":")[2].strip().lower() for line in readings.TEMPLATE.splitlines()}


ARXIV = re.compile(
    r"((https?://)?((www\.|export\.)?arxiv\.org/(abs|pdf|html)|huggingface\.co/papers|(www\.)?alphaxiv\.org/abs)/"
    r"|arxiv:\s*|((https?://)?(dx\.)?doi\.org/|doi:\s*)?10\.48550/arxiv\.)?"
    r"(?P<number>(?P<year>\d\d)(?P<month>0[1-9]|1[0-2])\.(?P<digits>\d{4,5}))(v\d+)?(\.pdf)?([?#]\S*)?",
    re.IGNORECASE,
)
DOI = re.compile(r"((https?://)?(dx\.|www\.)?doi\.org/|doi:\s*)?(?P<doi>10\.\d{4,9}/\S+)", re.IGNORECASE)


def key_of(link):
    """What a link leads to, by arXiv's form, a DOI's, or as a page where papers appear; None of anything else."""
    arxiv, doi = ARXIV.fullmatch(link), DOI.fullmatch(link)
    if arxiv:
        its_length = 5 if int(arxiv["year"]) >= 15 else 4
        return arxiv["number"] if len(arxiv["digits"]) == its_length and arxiv["number"] >= "0704" else None
    if doi:
        return doi["doi"].lower()
    page, *mapped = (
        re.sub(r"^https?://(www\.)?", "", url).rstrip("/").lower()
        for url in (link, *(topic.url for topic in topics.load_topics().values()))
    )
    return page if page in mapped or HOSTS.fullmatch(link) else None


def test_my_review(my_review):
    """Three papers or more on one question; each claim with its place, falsifier and replication; a disagreement."""
    assert_plain(my_review, dict)
    parts = {"question", "papers", "notes", "disagreement", "verdict"}
    assert set(my_review) == parts, f"the keys are {sorted(parts)}; yours are {sorted(map(str, my_review))}"
    question = assert_plain(my_review["question"], str).strip()
    assert question.endswith("?") and words(question) >= FEWEST_WORDS, (
        f"the question {question!r} is none: five words or more, and a question mark"
    )
    no_repetition(question, "the question")
    papers = the_papers(my_review["papers"])
    claims = the_notes(my_review["notes"], papers)
    the_disagreement(my_review["disagreement"], papers)
    verdict = sentence(my_review["verdict"], "the verdict", 10)
    asks = verdict.endswith("?") and not re.search(r"[.!;:]\s", verdict)
    assert not asks, "the verdict is a question: where do *you* stand?"
    assert plain(verdict) not in claims, "the verdict is one of the claims, word for word: where do *you* stand?"


def the_papers(papers):
    assert_plain(papers, dict)
    assert len(papers) >= PAPERS, f"there are {len(papers)} papers: {PAPERS} or more are asked for"
    links, shown = {}, {}
    for name, its in papers.items():
        assert isinstance(its, dict) and set(its) == {"link", "shows"}, (
            f"paper {name!r}: the keys are 'link' and 'shows'"
        )
        link = assert_plain(its["link"], str).strip()
        key = key_of(link)
        assert key, (
            f"paper {name!r}: {link!r} has neither the form of arXiv nor of a DOI, nor is it a page where papers "
            "appear (of the map of the field, OpenReview, a conference, LessWrong, ...)"
        )
        same = links.setdefault(key, name)
        assert same == name, f"papers {same!r} and {name!r} are one: both links lead to {key}"
        its_words = plain(sentence(its["shows"], f"paper {name!r}: 'shows'"))
        same = shown.setdefault(its_words, name)
        assert same == name, f"papers {same!r} and {name!r} show the same, word for word"
    return set(papers)


def the_notes(notes, papers):
    assert_plain(notes, list, of=dict)
    known = {plain(topic.what) for topic in topics.load_topics().values()}
    known |= {plain(its.shows) for its in readings.load_readings().values()}
    claims = set()
    for number, note in enumerate(notes, 1):
        missing = [field for field in readings.FIELDS if not str(note.get(field, "")).strip()]
        assert not missing, f"note {number}: {missing[0]!r} is missing"
        more = sorted(set(map(str, note)) - set(readings.FIELDS))
        assert not more, f"note {number}: {more[0]!r} is no field of a note"
        assert note["paper"] in papers, f"note {number}: {note['paper']!r} is none of your papers {sorted(papers)}"
        texts = {field: sentence(note[field], f"note {number}, {field!r}")
                 for field in ("claim", "evidence", "falsifier", "replicate")}  # fmt: skip
        assert len(set(map(plain, texts.values()))) == len(texts), f"note {number}: two entries say the same"
        claim = texts["claim"].lower()
        assert not claim.endswith("?"), f"note {number}: the claim is a question: say what can be wrong"
        assert not only_denies(texts["falsifier"], texts["claim"]), (
            f"note {number}: 'falsifier' only denies the claim: which result would you see?"
        )
        claim = plain(claim)
        assert claim not in claims, f"note {number}: its claim stands in an earlier note"
        assert claim not in known, f"note {number}: its claim is the course's own sentence: say it yourself"
        claims.add(claim)
        where = assert_plain(note["where"], str)
        assert PLACE.search(where), f"note {number}: {where!r} is no place: a figure, table or section with its number"
        named = [its for its in re.split(r"[,;&/+]|\band\b", assert_plain(note["on"], str)) if its.strip()]
        assert named, f"note {number}: 'on' names no model; readings.models() has them"
        unknown = [one.strip() for one in named if one.strip().lower() not in readings.models()]
        assert not unknown, f"note {number}: {unknown[0]!r} is no model of this course; readings.models() has them"
        minutes = str(note["minutes"]).strip()
        assert re.fullmatch(r"\d+(\.\d+)?", minutes), f"note {number}: 'minutes' is a number, not {minutes!r}"
        assert 0 < float(minutes) <= 600, f"note {number}: {minutes} minutes: more than 0 and at most a day's 600"
    silent = sorted(papers - {note["paper"] for note in notes})
    assert not silent, f"paper {silent[0]!r} has no note: at least one claim of each"
    return claims


def the_disagreement(apart, papers):
    assert_plain(apart, dict)
    between = apart.get("between")
    assert isinstance(between, list | tuple), "the disagreement's 'between' is a list: of two papers, or empty"
    sentence(apart.get("about", ""), "the disagreement's 'about'")
    if between:
        assert len(set(between)) == len(between) == 2, "a disagreement is between two papers: name two of yours"
        unknown = [name for name in between if name not in papers]
        assert not unknown, f"the disagreement names {unknown[0]!r}, which is none of your papers"
        settled = sentence(apart.get("settled by", ""), "the disagreement's 'settled by'")
        assert not PUT_OFF.search(settled), "the disagreement's 'settled by' puts it off: which result would settle it?"
    else:
        looked = LOOKED.search(apart["about"]) and words(apart["about"]) >= 8
        assert looked, "without a disagreement, 'about' says where you looked for one"
