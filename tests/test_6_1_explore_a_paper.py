"""Checks of 6.1 Explore and build on a paper: tiny models, made-up studies, and the learner's own study, run again."""

import functools
import math
import re

import pytest
import torch

from concrete_steps import evidence, study
from concrete_steps.checking.testing import (
    as_found,
    assert_choice,
    assert_close,
    assert_plain,
    assert_tensor,
    blank_bridge,
    nothing_left_behind,
    settled,
    unchanged,
)
from concrete_steps.checking.testing.studies import Watch, asks_the_model, carried_out, is_moved, parted, ready_made
from concrete_steps.errors import CourseError

# A point that ends no sentence; words that two sentences share whatever they say.
ABBREVIATED = r"\b(?:e\.g|i\.e|et al|vs|cf|approx|resp|Dr|Fig|Sec|Eq|Tab|App|No|[A-Z])\."
FILLERS = {"have", "less", "more", "most", "only", "over", "than", "that", "this", "what", "when", "which", "with"}
# What a number is the name of
NAMED = (  # "Figure 3-5", "at layer 5"; not "below layer 10", nor "layers 5-9"
    r"(?i:\b(fig|figure|tab|table|sec|section|appendix|page)s?\b\.? *\d[\d.]*([-–] ?\d+)?"
    r"|(?<!before )(?<!after )(?<!below )(?<!above )(?<!until )(?<!from )(?<!than )(?<!past )"
    r"(?<!beyond )(?<!between )\b(layer|head|block)s?\b\.? *\d[\d.]*"
    r"(?! ?([-–]|to|until) ?\d)(?!\d))"
)
FIELDS = ("paper", "claim", "measure", "evidence", "falsifier", "cherry_picked", "breaks")


# equivalent mutant of claim_card, drop line claim_card = None: the learner's own card stands below it
# equivalent mutant of kept_predictions, 1 -> -1: of row and position, dimension 1 is the last one
# equivalent mutant of push_layer, drop .manual_seed(): a new Generator has one and the same seed in every run
# equivalent mutant of push_layer, Add -> Sub: a random direction turned round is as random
# equivalent mutant of kept_in_the_middle, swap arguments 0 and 1 of kept_predictions: it compares two runs
# equivalent mutant of same_training, Lt -> LtE: no case is a tenth to the last bit, and no model has only zeros
# equivalent mutant of same_training, swap arguments 0 and 1 of dist: a distance is the same from either end
# equivalent mutant of same_training, swap arguments 0 and 1 of max: the larger of two, in any order
# equivalent mutant of audit, drop list(...): a dictionary is walked through and counted by its keys, too
# equivalent mutant of audit, Is -> Eq: a run is never equal to None
# equivalent mutant of my_study, any: what is measured, on which rows and with which models, is the learner's own choice
# equivalent mutant of audit, swap arguments 0 and 1 of same_training: it compares two models, in any order


@functools.cache
def tiny(n_layers, zeroed=(), norm=None):
    """Random weights, more tokens than dimensions; the layers in `zeroed` add nothing. Made once, never changed."""
    sizes = {"d_model": 6, "d_head": 3, "n_heads": 2, "n_layers": n_layers, "n_ctx": 12, "d_vocab": 9, "d_mlp": 10}
    model = blank_bridge.__wrapped__(**sizes, act_fn="gelu", normalization_type=norm)  # of its own, one for each case
    generator = torch.Generator().manual_seed(n_layers)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * drawn if "ln" in name and "weight" in name else 0.5 * drawn)
            layer = re.match(r"layers\.(\d+)\.", name)
            writes = ".o._original" in name or "fc_out" in name
            if layer and int(layer[1]) in zeroed and writes:
                parameter.zero_()
    return settled(model)


def test_answer_choice(answer_choice):
    """A claim that is a number, on models that you have."""
    assert_choice(answer_choice, "c", "what would refute it, and can you run it by tonight?")


# --- 2. The card


def has_figure(text):
    """Whether a number stands there on its own: no year of these, no digit of a name ("top-1", "L5H1", "layer 5").

    Or in words that are no number of things: "one half", "twice the null's", "zero"; not "one head".
    """
    halves = r"(?<!first )(?<!second )(?<!the )(?<!other )\bhalf"
    shares = r"\b(one|two) thirds?|\b(a|one|three) quarters?|\bone (fifth|tenth)"
    few = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(thir|four|fif|six|seven|eigh|nine)teen"
    tens = rf"\b({few}|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred)([- ][a-z]+)? per ?cent(age)?"
    if re.search(rf"({halves}|{shares}|{tens}|\btwice|\bzero(?![- ](?:shot|abla|init)))\b", text, re.IGNORECASE):
        return True
    text = re.sub(
        NAMED,
        "",
        re.sub(r"(?i:(?<!step )(?<!steps ))\b20[012]\d\b(?! (steps?|tokens|rows|texts|prompts|positions)\b)", "", text),
    )
    return bool(re.search(r"(?<![A-Za-z\d._])(?<![A-Za-z]-)[-+−]?\.?\d", text))


def card_is_whole(card):
    """The structure of a card; what it says, no check can judge."""
    missing = [name for name in FIELDS if not hasattr(card, name)]
    assert not missing, f"expected a study.ClaimCard; it has no {', '.join(missing)}"
    texts = {name: getattr(card, name) for name in FIELDS}
    for name, text in texts.items():
        assert_plain(text, str)
        assert text.strip(), f"{name!r} is empty"
    assert re.search(r"\b(19|20)\d\d\b", card.paper), f"'paper' names no year: {card.paper!r}"
    for name in FIELDS[1:]:
        count = sum(any(map(str.isalnum, word)) for word in texts[name].split())
        assert count >= 6, f"{name!r} has {count} words: a sentence of six words or more is asked for"
        different = len({word.lower() for word in texts[name].split()})
        assert 2 * different > min(count, 10), f"{name!r} says the same {different} words over and over"
        assert not re.search(r"\b(TODO|TBD|FIXME)\b", texts[name]), f"{name!r} is still to be written: {texts[name]!r}"
    said = [" ".join(re.findall(r"\w+", text.lower())) for text in texts.values()]
    assert len(set(said)) == len(said), "two entries of the card say the same"
    assert not card.claim.strip().endswith("?"), "'claim' is a question: say what can be wrong"
    sentences = 1 + len(re.findall(r"[.!?]\s+(?=[A-Z])", re.sub(ABBREVIATED, "", card.claim.strip())))
    assert sentences == 1, f"'claim' is to be one sentence, here are {sentences}: which of them will you test?"
    assert has_figure(card.falsifier), (
        "'falsifier' has no figure (a year is none, nor the digit of a name like top-1 or layer 5): which outcome "
        "would refute the claim?"
    )
    words = [set(re.findall(r"[^\W\d_]{4,}", text.lower())) - FILLERS for text in (card.measure, card.falsifier)]
    assert words[0] & words[1], (
        "'falsifier' shares no word of four letters or more with 'measure' ('with', 'than' and such do not count): it "
        "must be an outcome of the same measure"
    )


def test_claim_card(claim_card):
    """Structure: one claim, a measure, a falsifier with a figure. Whether it is a good card, a reader must say."""
    card_is_whole(claim_card)


# --- 3. The measure


def test_kept_predictions(kept_predictions, rng):
    """Of each row, positions from 1 on whose likeliest token is the same."""
    for rows, pos, vocab in [(1, 2, 3), (4, 7, 5), (6, 2, 2), (5, 11, 4)]:
        before, after = rng.normal(rows, pos, vocab), rng.normal(rows, pos, vocab)
        after = torch.where(rng.uniform(rows, pos, 1) < 0.5, before + 0.01, after) - 20
        expected = []
        for row in range(rows):
            same = [int(before[row, p].argmax()) == int(after[row, p].argmax()) for p in range(1, pos)]
            expected.append(sum(same) / len(same))
        with unchanged(before, after), nothing_left_behind():
            given = kept_predictions(before, after)
        given = assert_tensor(given, shape=(rows,), dtype=torch.float32)
        assert_close(given, torch.tensor(expected), f"{rows} rows of {pos} positions, {vocab} tokens")


def test_delete_layer(delete_layer, rng):
    """The logits are those of a model in which this layer writes nothing; the others work as before."""
    for n_layers, layer, rows, pos, norm in [
        (2, 0, 3, 4, None),
        (3, 1, 4, 6, "LN"),
        (3, 2, 1, 5, None),
        (1, 0, 2, 3, "LN"),
        (4, 2, 3, 12, None),
    ]:
        tokens, model = rng.integers(0, 9, rows, pos), tiny(n_layers, (), norm)
        with torch.no_grad():
            expected = tiny(n_layers, (layer,), norm)(tokens)
        with as_found(model, tokens):
            given = delete_layer(model, tokens, layer)
        given = assert_tensor(given, shape=tuple(expected.shape), dtype=torch.float32)
        assert not given.requires_grad, "the logits keep a gradient: run under torch.no_grad()"
        said = f"layer {layer} of {n_layers}, {rows} rows: these are not the logits without what that layer writes"
        assert_close(given, expected, said, rtol=1e-3, atol=1e-3)


# --- 4. A matched null


def pushes(model, tokens, given):
    """[row pos d_model] what was added to the last residual stream: there are more tokens than dimensions."""
    with torch.no_grad():
        W_U = next(weight for name, weight in model.named_parameters() if name.startswith("head"))
        return torch.linalg.lstsq(W_U.double(), (given - model(tokens)).double().flatten(0, 1).T).solution.T.view(
            *tokens.shape, -1
        )


def test_push_layer(push_layer, rng):
    """As long as the layer's update at each row and position, in directions that have nothing in common."""
    for n_layers, layer, rows, pos in [(1, 0, 3, 4), (2, 1, 40, 12), (3, 1, 30, 10), (2, 0, 1, 5)]:
        later = tuple(range(layer + 1, n_layers))
        model, tokens = tiny(n_layers, later), rng.integers(0, 9, rows, pos)
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens)
            update = cache["resid_post", layer] - cache["resid_pre", layer]
        with as_found(model, tokens):
            given = push_layer(model, tokens, layer)
        with torch.no_grad():
            given = assert_tensor(given, shape=(rows, pos, 9), dtype=torch.float32)
        assert not given.requires_grad, "the logits keep a gradient: run under torch.no_grad()"
        added, where = pushes(model, tokens, given), f"layer {layer} of {n_layers}, {rows} rows of {pos}"
        without = (added + update.double()).norm() < 1e-3 * update.norm()
        assert not without, f"{where}: the layer's update is taken away; the null leaves the layer in"
        sizes = added.norm(dim=-1), update.double().norm(dim=-1)
        assert_close(sizes[0], sizes[1], f"{where}: lengths of what is added [row pos]", rtol=1e-2, atol=1e-2)
        unit = (added / added.norm(dim=-1, keepdim=True)).flatten(0, 1)
        along = (unit * (update / update.norm(dim=-1, keepdim=True)).double().flatten(0, 1)).sum(1)
        if rows > 9:
            assert along.mean().abs() < 0.15, f"{where}: the pushes go along the layer's own update, or against it"
            cosines = (unit @ unit.T)[~torch.eye(len(unit), dtype=torch.bool)]
            assert cosines.abs().max() < 0.9999, f"{where}: two positions are pushed in the very same direction"
            assert cosines.mean().abs() < 0.15, f"{where}: the pushes have a direction in common"
            assert unit.mean(0).norm() < 0.3, f"{where}: the pushes have a direction in common"
        again = push_layer(model, tokens, layer)
        assert_close(again, given, f"{where}: called again, the logits differ")
    model = tiny(3)
    tokens = rng.integers(0, 9, 4, 6)
    with torch.no_grad():
        intact = model(tokens)
    moved = (push_layer(model, tokens, 0) - intact).abs().max()
    assert moved > 1e-3, "layer 0 of 3: the logits are those of the untouched run"


def test_answer_null(answer_null):
    """The same selection, without the effect."""
    assert_choice(answer_null, "b", "the same statistic, the same choosing of the best, and no effect to be found?")


# --- 5. Replicate


def test_kept_in_the_middle(kept_in_the_middle, rng):
    """Layers from a third on to the last third, each changed alone; means over them, row by row."""
    for n_layers, rows, pos in [(3, 4, 5), (9, 6, 11), (6, 3, 7), (7, 5, 6), (1, 2, 4), (2, 3, 3), (5, 1, 9)]:
        model, tokens = tiny(n_layers), rng.integers(0, 9, rows, pos)
        with torch.no_grad():
            intact = model(tokens)
        changed = [torch.where(rng.uniform(rows, pos, 1) < 0.5, intact, -intact) for _ in range(n_layers)]
        third = n_layers // 3
        middle = range(third, n_layers - third)
        shares = [(changed[i].argmax(-1) == intact.argmax(-1))[:, 1:].float().mean(1) for i in middle]

        def change(model, its_tokens, layer, changed=changed, tokens=tokens):
            of_it = isinstance(model, torch.nn.Module) and model.cfg.n_layers == len(changed)
            assert of_it, "change is asked for another thing than the model first"
            whole = isinstance(its_tokens, torch.Tensor) and torch.equal(its_tokens, tokens)
            assert whole, "change is asked for other tokens than those that were given"
            return changed[layer]

        with as_found(model, tokens):
            given = kept_in_the_middle(model, tokens, change)
        given = assert_tensor(given, shape=(rows,), dtype=torch.float32)
        expected = torch.stack(shares).mean(0)
        assert_close(given, expected, f"{n_layers} layers (the middle: {list(middle)}), {rows} rows of {pos}")


def standardised(x):
    """With mean 0 and standard deviation 1, so that every interval is where the case wants it.

    Of 12 such values the 95 % interval reaches .635 to each side; 90 % reaches .518, 99 % .897, and 1.96 errors .566.
    """
    return (x - x.mean()) / x.std()


def test_verdict(verdict, rng):
    """By the intervals: on either side of the bar, or open; of the paired difference, on either side of 0."""
    cases = []
    for bar in (0.5, 0.72):
        for level in (-0.1, -0.077, 0.077, 0.1):  # the interval reaches .0826
            for gap in (-0.05, -0.0075, -0.006, 0.006, 0.0075):  # and this one .00635
                noise, own = (sd * standardised(rng.normal(12)) for sd in (0.13, 0.01))
                claim = bar + level + noise
                cases.append((claim, claim - gap - own, bar, level, gap))
    for claim, null, bar, level, gap in cases:
        with unchanged(claim, null):
            given = verdict(claim, null, bar)
        assert isinstance(given, tuple | list) and len(given) == 2, "return two texts: about the bar, about the null"
        expected = (
            "open" if abs(level) < 0.09 else "holds" if level > 0 else "fails",
            "no different" if abs(gap) < 0.007 else "above" if gap > 0 else "below",
        )
        its, apart = evidence.interval(claim), evidence.difference(claim, null, paired=True)
        said = f"claim {its:.3f}, bar {bar}; claim less null, paired {apart:.4f} (95 %)"
        assert tuple(given) == expected, f"{said}: expected {expected}, got {tuple(given)}"
    given = tuple(verdict(torch.full((12,), 0.5), 0.45 - 0.01 * standardised(rng.normal(12)), 0.5))
    assert given == ("open", "above"), (
        f"all values of the claim are the bar itself, and so is its interval, which lies neither above nor below: "
        f"expected ('open', 'above'), got {given}"
    )


# --- 6. A second model


def test_same_training(same_training, rng):
    """The same weights, and those changed by less than a tenth; other models, other lengths."""
    for size in (64, 20):
        a = rng.normal(size)
        other, step = rng.normal(size), rng.normal(size)
        even = step.sign() / size**0.5 * a.norm()  # each weight by as much
        step = step / step.norm() * a.norm()
        cases = [
            (a, a, True, "the same weights"),
            (a, a + 0.001 * step, True, "the same, changed by a thousandth"),
            (a, a.bfloat16().float(), True, "the same, kept in bfloat16"),
            (a, 1.05 * a, True, "the same, each 5 % larger"),
            (10 * a, 10 * a + 0.5 * step, True, "large weights, changed by a twentieth of their length"),
            (a, 0.907 * a, True, "the same, each 9.3 % smaller: less than a tenth of the longer"),
            (a, a + 0.25 * step, False, "changed by a quarter of their length"),
            (a, a + 0.15 * step, False, "changed by 15 % of their length"),
            (a, a + 0.15 * even, False, "changed by 15 % of their length, a bit at each weight"),
            (0.01 * a, 0.01 * other, False, "small weights of two trainings"),
            (a, other, False, "weights of two trainings"),
            (a, 2 * a, False, "twice as large"),
            (a, -a, False, "signs turned"),
            (a, a.flip(0), False, "the same in another order"),
            (a, a[:-1], False, "one weight fewer"),
            (a, torch.cat([a, a]), False, "twice as many"),
        ]
        for first, second, expected, what in cases:
            for pair in ((first, second), (second, first)):
                given = same_training(*(tuple(its.tolist()) for its in pair))
                assert bool(given) == expected, f"{what}: expected {expected}, got {given}"


def test_answer_transfer(answer_transfer):
    """What one second model shows."""
    assert_choice(answer_transfer, "a", "how many models were looked at, and by how many measures?")


# --- 7. A write-up that cannot drift


def test_numbers_in(numbers_in, rng):
    """Decimal numbers with their signs, in order; no whole ones, versions or dots that end a sentence."""
    draw = [f"{x:.2f}" for x in rng.normal(3).tolist()]
    cases = {
        "the mean is 0.66": [0.66],
        "it has .66, over 12 rows.": [0.66],
        f"{draw[0]}, then {draw[1]} and {draw[2]}": [float(x) for x in draw],
        "In 2024 we read 12. Then 3 more.": [],
        "-0.05 [-0.07, -0.02]": [-0.05, -0.07, -0.02],
        "from 0.63-0.70": [0.63, 0.7],
        "a fall of −0.05": [-0.05],
        "from .63−.70": [0.63, 0.7],
        "from 0.63–0.70, an en dash": [0.63, 0.7],
        "transformer_lens 4.3.0": [],
        "It is 0.72. And 1.5.": [0.72, 1.5],
        "| claim | wren | 10 | 0.72 | 12.50 | -.08 |": [0.72, 12.5, -0.08],
        "(0.72)": [0.72],
        "between 0.1, 100.25 and 3": [0.1, 100.25],
        "": [],
        "twice: 0.5 and 0.5": [0.5, 0.5],
    }
    for text, expected in cases.items():
        given = assert_plain(numbers_in(text), list, float)
        assert len(given) == len(expected) and all(map(math.isclose, given, expected)), (
            f"in {text!r}: expected {expected}, got {given}"
        )


PLANTED = ("number", "measure", "rows", "null", "model", "falsifier")
TOGETHER = (("number", "model"), ("measure", "falsifier"), ("rows", "null"), ("number", "measure", "rows"))


def audited(rng):
    """Write-ups that nobody has seen, in the order in which they are asked about: (what it is, example, its faults)."""
    yield from altered_lines(rng)
    text, card, runs = clean = study.example((), rng.integer(0, 10**9))
    bare = re.sub(r" Claim less null: .*", "", text)
    yield "a clean write-up that leaves the differences out", (bare, card, runs), set()
    precise = card._replace(falsifier="A mean of 0.305 or less on fresh rows.")
    yield "a card with a number of three decimals", (study.write_up(precise, runs, {}), precise, runs), set()
    yield "a sentence says 7.77, which is no run's", (text + "\nIn short, it reaches 7.77.\n", card, runs), {"number"}
    blank = card._replace(falsifier="")
    yield "no falsifier at all", (study.write_up(blank, runs, {}), blank, runs), {"falsifier"}
    yield from other_nulls(clean)
    yield from other_models(clean)
    for faults in [(), *((fault,) for fault in PLANTED), *TOGETHER]:
        for _ in range(8 if faults in ((), ("number",)) else 4):
            seed = rng.integer(0, 10**9)
            yield f"study.example({list(faults)}, {seed})", study.example(faults, seed), set(faults)


def altered_lines(rng):
    """One cell of one line is altered, also to a number of another line: each line is to be its run's."""
    for column, what in ((5, "mean"), (6, "low end"), (7, "high end"), (4, "number of rows")):
        seed = rng.integer(0, 10**9)
        text, card, runs = study.example((), seed)
        line, other = (study.table_row(its).split("|") for its in (runs[0], runs[-1]))
        line[column] = f" {len(runs[0].values) + 1} " if column == 4 or line[column] == other[column] else other[column]
        text = text.replace(study.table_row(runs[0]), "|".join(line))
        said = f"study.example([], {seed}), with another {what} in the first line of its table, {'|'.join(line)}"
        yield said, (text, card, runs), {"number"}


def other_nulls(clean):
    _, card, runs = clean
    for at, which in ((1, "first"), (3, "second")):
        its = runs[at]
        changes = [
            ("fewer rows", "rows", {"values": its.values[:-1]}),
            ("more rows", "rows", {"values": (*its.values, its.values[0])}),
            ("another measure", "measure", {"measure": "a" + its.measure}),
            ("another measure", "measure", {"measure": "z" + its.measure}),
        ]
        for what, fault, changed in changes:
            other = [*runs[:at], its._replace(**changed), *runs[at + 1 :]]
            said = f"the null of the {which} model has {what} than the claim"
            yield said, (study.write_up(card, other, {}), card, other), {fault}


def other_models(clean):
    text, card, runs = clean
    copied = [*runs[:2], *(its._replace(weights=runs[0].weights) for its in runs[2:])]
    yield "two models have the very same weights", (text, card, copied), {"model"}
    yield "a study of one model", (study.write_up(card, runs[:2], {}), card, runs[:2]), {"model"}
    for weights, what, faults in (
        (runs[-1].weights, "the third has the weights of the second", {"model"}),
        (tuple(-3 * weight for weight in runs[0].weights), "each with weights of its own", set()),
    ):
        three = [*runs, *(its._replace(model="again", weights=weights) for its in runs[:2])]
        yield f"three models, {what}", (study.write_up(card, three, {}), card, three), faults


def test_audit(audit, rng):
    """Each planted fault, alone and with others, in made-up studies that nobody has seen; no alarm at clean ones."""
    cases, found = list(audited(rng)), []
    for _, (text, card, runs), _ in cases:  # all of them first: by a few, wrong answers could not be told apart
        with unchanged(runs):
            given = audit(text, card, runs)
        assert isinstance(given, set | frozenset), f"expected a set, got {type(given).__name__}"
        found.append(set(given))
    for (said, _, faults), given in zip(cases, found, strict=True):
        unknown = sorted(map(str, given - set(PLANTED)))
        assert not unknown, f"{unknown[0]!r} is none of study.FAULTS"
        missed, extra = sorted(faults - given), sorted(given - faults)
        assert not missed, f"{said}: {missed[0]!r} is not found: {study.FAULTS[missed[0]]}"
        assert not extra, f"{said}: {extra[0]!r} is named, but it does not have that fault"


# --- 8. Open task


@pytest.mark.seconds(600)
def test_my_study(my_study):
    """Card, runs that come again and change with the weights, a null by the same measure, in the remarks their numbers.

    The same measure: what torch does with the model's answers on the way to the values, as `Watch` sees it.
    """
    given = my_study()
    assert isinstance(given, tuple | list) and len(given) == 2, "return two things: the study, and the remarks"
    its, remarks = given
    assert_plain(remarks, str)
    lacks = [name for name in ("card", "measure", "models", "rows") if not hasattr(its, name)]
    assert not lacks, f"expected a study.Study; it has no {', '.join(lacks)}"
    card_is_whole(its.card)
    for part, takes in (("measure", "(model, rows)"), ("rows", "(model, arm)")):
        kind = type(getattr(its, part)).__name__
        assert callable(getattr(its, part)), f"{part!r} is to be a function of {takes}; here is a {kind}"
    names = [its.models] if isinstance(its.models, str) else list(its.models)
    for name in names:
        assert isinstance(name, str), (
            f"'models' are names for study.load, as \"smollm2\"; here is a {type(name).__name__}"
        )
    assert len(set(names)) >= 2, f"a second model is asked for; here is {', '.join(map(str, names)) or 'none'}"
    watch = Watch()
    try:
        runs, ways = carried_out(its, watch)
    except CourseError as error:
        raise AssertionError(f"study.carry_out cannot run this study: {error}") from None
    for run in runs:
        said = f"{run.model}, {run.arm}"
        assert len(run.values) >= 8, f"{said}: {len(run.values)} rows; eight or more are asked for"
        assert all(map(math.isfinite, run.values)), f"{said}: some values are not finite"
    for claim, null in zip(runs[::2], runs[1::2], strict=True):
        assert len(claim.values) == len(null.values), f"{claim.model}: claim and null differ in their number of rows"
        flat = max(claim.values) == min(claim.values)
        assert not flat, (
            f"{claim.model}: all rows of the claim have one and the same value: no interval can be made of that"
        )
        assert claim.values != null.values, (
            f"{claim.model}: claim and null have the very same values: is the null run on rows of its own?"
        )
        hair = 1e-3 * (max(claim.values) - min(claim.values))
        pairs = zip(sorted(claim.values), sorted(null.values), strict=True)
        again = len(set(claim.values)) > 3 and all(abs(a - b) < hair for a, b in pairs)
        assert not again, f"{claim.model}: the null's values are the claim's, in another order or changed by a hair"
    rows, n_rows = set(zip(*(run.values for run in runs), strict=False)), len(runs[0].values)
    doubled = 2 < len(rows) <= n_rows / 2 and all(len(set(run.values)) == len(rows) for run in runs)
    assert not doubled, f"of {n_rows} rows only {len(rows)} differ in any run: a row that comes again is no new one"
    prints = {run.model: torch.tensor(run.weights, dtype=torch.float64) for run in runs}
    for i, one in enumerate(names):
        for other in names[:i]:
            a, b = prints[one], prints[other]
            assert (a - b).norm() >= 0.1 * max(a.norm(), b.norm()), f"{one} and {other} are the same model"
    again, later = carried_out(its, watch)
    for before, after in zip(runs, again, strict=True):
        slack = 1e-4 * max(1.0, *map(abs, before.values))
        apart = max(abs(a - b) for a, b in zip(before.values, after.values, strict=True))
        assert apart <= slack, (
            f"{before.model}, {before.arm}: run again, values differ by {apart:.2g}: seed what you draw"
        )
    for _, rows, values, way in ways:
        assert way or not ready_made(rows, values), (
            "the values are those that `rows` brought, unchanged: rows are to bring what the measure is run on "
            "(tokens, a place, a change), and the measure makes the values of it"
        )
    for at, name in enumerate(names[: len(ways) // 2]):
        pairs = [its_ways[2 * at : 2 * at + 2] for its_ways in (ways, later) if its_ways]
        apart = [parted(watch, its.measure, *pair) for pair in pairs]
        assert not all(apart), (
            f"{name}: the null is measured in another way than the claim: on the way from the model's answers to the "
            f"values {apart[0]}. Let rows bring what differs (tokens, a place, a change of the run), and the measure "
            "do the same with what the model answers"
        )
    for claim, null in zip(runs[::2], runs[1::2], strict=True):
        moved = is_moved(claim.values, null.values)
        assert not moved, f"{claim.model}: the null's values are the claim's, times one number and plus another"
    afresh, _ = my_study()  # what it keeps of its runs begins anew
    for pair in zip(runs[::2], runs[1::2], strict=True):
        asks_the_model(afresh, *pair)
    true = {round(x, 2) for text in its.card for x in decimals(text)}
    gaps = [study.gap(*pair) for pair in zip(runs[::2], runs[1::2], strict=True)]
    for interval in [*map(study.interval, runs), *gaps]:
        true |= {round(number, 2) for number in (interval.value, interval.low, interval.high)}
    true |= {abs(round(number, 2)) for gap in gaps for number in (gap.value, gap.low, gap.high)}  # "0.04 lower"
    for number in decimals(remarks):
        assert round(number, 2) in true, (
            f"the remarks say {number}, which is, to two decimals, no number of a run, of a difference or of the card"
        )


def decimals(text):
    return [float(found) for found in re.findall(r"(?<![\d.])-?\d*\.\d+(?!\d|\.\d)", text.replace("−", "-"))]
