"""Wrong answers to 6.1 Explore and build on a paper, and what each of them is."""

import math
import re
from functools import lru_cache, partial
from itertools import combinations

import torch

from concrete_steps import evidence, models, study
from concrete_steps.checking.mistakes import mistake, right


@mistake("what would refute it, and can you run it by tonight?")
def answer_choice():
    return "a"


@mistake("(b) is not it")
def answer_choice():
    return "b"


# --- 2. The card

_CARD = study.ClaimCard(
    paper="Lad et al. 2024, Stages of Inference",
    claim="Deleting a middle layer leaves 72 % of top-1 predictions or more.",
    measure="The share of positions with the same top-1 prediction as before.",
    evidence="Curves over layers in several families of language models.",
    falsifier="A share below 0.72 as the mean over the middle layers.",
    cherry_picked="Which layers are averaged is not said in the abstract.",
    breaks="In models that have only two or three layers at all.",
)


@mistake("'falsifier' has no figure")
def claim_card():
    return _CARD._replace(falsifier="The share of positions turns out otherwise than the paper says.")


@mistake("a year is none, nor the digit of a name like top-1")
def claim_card():
    return _CARD._replace(falsifier="The share of top-1 predictions that stay is not that of the paper of 2024.")


@mistake("('with', 'than' and such do not count)")
def claim_card():
    return _CARD._replace(
        falsifier="Less than 5 % that happen with more noise.", measure="How much more goes with that."
    )


@mistake("it must be an outcome of the same measure")
def claim_card():
    return _CARD._replace(falsifier="A loss above 3.5 nats after the layer went away.")


@mistake("which of them will you test?")
def claim_card():
    return _CARD._replace(claim="Middle layers can be deleted at little cost. There are four stages of inference.")


@mistake("a sentence of six words or more is asked for")
def claim_card():
    return _CARD._replace(cherry_picked="nothing")


@mistake("two entries of the card say the same")
def claim_card():
    return _CARD._replace(breaks=_CARD.evidence.rstrip("."))


@mistake("names no year")
def claim_card():
    return _CARD._replace(paper="Lad et al., Stages of Inference")


@mistake("expected a study.ClaimCard")
def claim_card():
    return {name: getattr(_CARD, name) for name in _CARD._fields}


@mistake("'cherry_picked' has 0 words")
def claim_card():
    return _CARD._replace(cherry_picked="... ... ... ... ... ...")


@mistake("nor the digit of a name like top-1 or layer 5")
def claim_card():
    return _CARD._replace(falsifier="The share of positions at layer 5 comes out otherwise than Figure 3 says.")


@mistake("'claim' is a question")
def claim_card():
    return _CARD._replace(claim="Can a middle layer be deleted at a cost below 28 %?")


@mistake("over and over")
def claim_card():
    return _CARD._replace(breaks="somewhere somewhere somewhere somewhere somewhere somewhere")


@mistake("'evidence' is still to be written")
def claim_card():
    return _CARD._replace(evidence="TODO: read the paper and write this down")


@right("a step as a figure")
def claim_card():
    return _CARD._replace(falsifier="The share of positions falls only after step 2000.")


@right("a layer as a bound")
def claim_card():
    return _CARD._replace(falsifier="The lowest share of positions lies below layer 10.")


@right("a range of layers")
def claim_card():
    return _CARD._replace(falsifier="The share of positions is lower at layers 5-9 than at all others.")


@right("a small figure in words")
def claim_card():
    return _CARD._replace(falsifier="A share of positions that is fifteen per cent or less.")


@right("figures in words")
def claim_card():
    return _CARD._replace(falsifier="A share less the null's whose interval includes zero, or below seventy percent.")


@right("points that end no sentence")
def claim_card():
    claim = "In small models, e.g. Pythia, middle layers can go, as Lad et al. Say of U.S. English vs. French."
    return _CARD._replace(claim=claim, falsifier="A share of <.72, or a p>0.05.")


@right("another card, without a full stop")
def claim_card():
    return _CARD._replace(claim="At least 0.72 of the top-1 predictions stay")


# --- 3. The measure


def _same(before, after):
    return before.argmax(-1) == after.argmax(-1)


@mistake("counts the first position, which sees [BOS] alone")
def kept_predictions(before, after):
    return _same(before, after).float().mean(1)


@mistake("gives one number for all rows together")
def kept_predictions(before, after):
    return _same(before, after)[:, 1:].float().mean()


@mistake("gives the share that changes, not the share that stays")
def kept_predictions(before, after):
    return 1 - _same(before, after)[:, 1:].float().mean(1)


@mistake("leaves out the last position, not the first")
def kept_predictions(before, after):
    return _same(before, after)[:, :-1].float().mean(1)


@mistake("counts positions and does not divide by how many there are")
def kept_predictions(before, after):
    return _same(before, after)[:, 1:].float().sum(1)


@right("row by row")
def kept_predictions(before, after):
    pairs = zip(before[:, 1:], after[:, 1:], strict=True)
    return torch.tensor([(b.max(1).indices == a.max(1).indices).double().mean().item() for b, a in pairs])


def _hooks(layer, then):
    kept = {}

    def keep(resid, hook):
        kept["before"] = resid

    return [
        (f"blocks.{layer}.hook_resid_pre", keep),
        (f"blocks.{layer}.hook_resid_post", lambda resid, hook: then(kept["before"], resid)),
    ]


@torch.no_grad()
def _run(model, tokens, hooks):
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


@mistake("sets the residual stream after the layer to zero: what came in is to go on")
def delete_layer(model, tokens, layer):
    return _run(model, tokens, _hooks(layer, lambda before, after: torch.zeros_like(after)))


@mistake("takes away the attention alone: the MLP still writes")
def delete_layer(model, tokens, layer):
    return _run(model, tokens, [(f"blocks.{layer}.hook_attn_out", lambda out, hook: torch.zeros_like(out))])


@mistake("takes away the MLP alone: the attention still writes")
def delete_layer(model, tokens, layer):
    return _run(model, tokens, [(f"blocks.{layer}.hook_mlp_out", lambda out, hook: torch.zeros_like(out))])


@mistake("deletes this layer and all after it")
def delete_layer(model, tokens, layer):
    hooks = [pair for each in range(layer, model.cfg.n_layers) for pair in _hooks(each, lambda before, after: before)]
    return _run(model, tokens, hooks)


@mistake("keeps only what the layer adds, without what came in")
def delete_layer(model, tokens, layer):
    return _run(model, tokens, _hooks(layer, lambda before, after: after - before))


@right("attention and MLP at zero")
def delete_layer(model, tokens, layer):
    points = [f"blocks.{layer}.{part}" for part in ("hook_attn_out", "hook_mlp_out")]
    return _run(model, tokens, [(point, lambda out, hook: torch.zeros_like(out)) for point in points])


@right("two runs")
def delete_layer(model, tokens, layer):
    name = f"blocks.{layer}.hook_resid_pre"
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=name)
        return _run(model, tokens, [(f"blocks.{layer}.hook_resid_post", lambda resid, hook: cache[name])])


# --- 4. A matched null


def _noise(shape, layer):
    return torch.randn(shape, generator=torch.Generator().manual_seed(layer))


def _unit(x):
    return x / x.norm(dim=-1, keepdim=True)


@mistake("the layer's update is taken away; the null leaves the layer in")
def push_layer(model, tokens, layer):
    def then(before, after):
        size = (after - before).norm(dim=-1, keepdim=True)
        return before + size * _unit(_noise(after.shape, layer)) * 0

    return _run(model, tokens, _hooks(layer, then))


@mistake("adds noise of unit length, not as long as what the layer added")
def push_layer(model, tokens, layer):
    return _run(model, tokens, _hooks(layer, lambda before, after: after + _unit(_noise(after.shape, layer))))


@mistake("is as long as the whole residual stream, not as what the layer added")
def push_layer(model, tokens, layer):
    def then(before, after):
        return after + after.norm(dim=-1, keepdim=True) * _unit(_noise(after.shape, layer))

    return _run(model, tokens, _hooks(layer, then))


@mistake("has one length for all positions, their mean")
def push_layer(model, tokens, layer):
    def then(before, after):
        return after + (after - before).norm(dim=-1).mean() * _unit(_noise(after.shape, layer))

    return _run(model, tokens, _hooks(layer, then))


@mistake("two positions are pushed in the very same direction")
def push_layer(model, tokens, layer):
    def then(before, after):
        return after + (after - before).norm(dim=-1, keepdim=True) * _unit(_noise(after.shape[-1:], layer))

    return _run(model, tokens, _hooks(layer, then))


@mistake("leaves the noise at its own length, which is not that of the update")
def push_layer(model, tokens, layer):
    def then(before, after):
        return after + (after - before).norm(dim=-1, keepdim=True) * _noise(after.shape, layer)

    return _run(model, tokens, _hooks(layer, then))


@mistake("the pushes go along the layer's own update, or against it")
def push_layer(model, tokens, layer):
    return _run(model, tokens, _hooks(layer, lambda before, after: after + (after - before)))


@mistake("replaces the layer's update by noise; the null leaves the layer in")
def push_layer(model, tokens, layer):
    def then(before, after):
        return before + (after - before).norm(dim=-1, keepdim=True) * _unit(_noise(after.shape, layer))

    return _run(model, tokens, _hooks(layer, then))


@mistake("draws from (or seeds)")
def push_layer(model, tokens, layer):
    torch.manual_seed(layer)

    def then(before, after):
        return after + (after - before).norm(dim=-1, keepdim=True) * _unit(torch.randn(after.shape))

    return _run(model, tokens, _hooks(layer, then))


@mistake("called again, the logits differ")
def push_layer(model, tokens, layer):
    generator = torch.Generator()
    generator.seed()

    def then(before, after):
        noise = torch.randn(after.shape, generator=generator)
        return after + (after - before).norm(dim=-1, keepdim=True) * _unit(noise)

    return _run(model, tokens, _hooks(layer, then))


@right("from the cache of a first run, with numbers of NumPy's")
def push_layer(model, tokens, layer):
    import numpy as np

    names = [f"blocks.{layer}.hook_resid_{end}" for end in ("pre", "post")]
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=names)
    update = cache[names[1]] - cache[names[0]]
    drawn = np.random.default_rng(layer).normal(size=tuple(update.shape))
    noise = torch.nn.functional.normalize(torch.tensor(drawn, dtype=update.dtype), dim=-1)
    return _run(model, tokens, [(names[1], lambda resid, hook: resid + update.norm(dim=-1)[..., None] * noise)])


@mistake("the same statistic, the same choosing of the best, and no effect to be found?")
def answer_null():
    return "a"


@mistake("(c) is not it")
def answer_null():
    return "c"


# --- 5. Replicate


def _kept(model, tokens, change, layers, pool=lambda shares: shares.mean(0)):
    with torch.no_grad():
        before = model(tokens)
    return pool(torch.stack([_same(before, change(model, tokens, i))[:, 1:].float().mean(1) for i in layers]))


def _middle(model):
    third = model.cfg.n_layers // 3
    return range(third, model.cfg.n_layers - third)


@mistake("takes all layers, not those of the middle third")
def kept_in_the_middle(model, tokens, change):
    return _kept(model, tokens, change, range(model.cfg.n_layers))


@mistake("ends the middle at two thirds, rounded down: of 7 layers the fifth is missing")
def kept_in_the_middle(model, tokens, change):
    n = model.cfg.n_layers
    return _kept(model, tokens, change, range(n // 3, max(2 * n // 3, n // 3 + 1)))


@mistake("takes the median over layers, not their mean")
def kept_in_the_middle(model, tokens, change):
    return _kept(model, tokens, change, _middle(model), lambda shares: shares.median(0).values)


@mistake("takes the best layer of the middle third for each row, not their mean")
def kept_in_the_middle(model, tokens, change):
    return _kept(model, tokens, change, _middle(model), lambda shares: shares.max(0).values)


@mistake("gives one number for each layer, not one for each row")
def kept_in_the_middle(model, tokens, change):
    return _kept(model, tokens, change, _middle(model), lambda shares: shares.mean(1))


@mistake("takes the first layer of the middle third alone")
def kept_in_the_middle(model, tokens, change):
    return _kept(model, tokens, change, _middle(model)[:1])


@right("a running sum")
def kept_in_the_middle(model, tokens, change):
    with torch.no_grad():
        said, total = model(tokens).argmax(-1), 0
    for layer in _middle(model):
        total = total + (change(model, tokens, layer).argmax(-1)[:, 1:] == said[:, 1:]).sum(1)
    return total / (len(_middle(model)) * (tokens.shape[1] - 1))


def _verdict(claim, null, bar, paired=True, by_value=False):
    its, gap = evidence.interval(claim), evidence.difference(claim, null, paired=paired)
    if by_value:
        its, gap = (evidence.Interval(x.value, x.value, x.value, x.n) for x in (its, gap))
    level = "holds" if its.low > bar else "fails" if its.high < bar else "open"
    return level, "above" if gap.low > 0 else "below" if gap.high < 0 else "no different"


@mistake("goes by the means alone: the intervals are to decide")
def verdict(claim, null, bar):
    return _verdict(claim, null, bar, by_value=True)


@mistake("does not pair the rows: the difference is of the same rows")
def verdict(claim, null, bar):
    return _verdict(claim, null, bar, paired=False)


@mistake("has above and below the wrong way round: it is claim less null")
def verdict(claim, null, bar):
    level = _verdict(claim, null, bar)[0]
    return level, _verdict(null, claim, bar)[1]


@mistake("says that it fails wherever it does not hold: an interval that holds the bar is open")
def verdict(claim, null, bar):
    level, beside = _verdict(claim, null, bar)
    return ("holds" if level == "holds" else "fails"), beside


@mistake("holds the null against the bar, not the claim")
def verdict(claim, null, bar):
    return _verdict(null, null, bar)[0], _verdict(claim, null, bar)[1]


def _with_sides(claim, null, bar, side):
    """The verdict where an interval reaches as far from the mean as `side` says."""
    apart = claim - null
    far, near = side(claim), side(apart)
    level = "holds" if claim.mean() - far > bar else "fails" if claim.mean() + far < bar else "open"
    return level, "above" if apart.mean() > near else "below" if apart.mean() < -near else "no different"


@mistake("takes 1.96 standard errors for the interval: of few rows it is wider, evidence.interval knows how much")
def verdict(claim, null, bar):
    return _with_sides(claim, null, bar, lambda x: 1.96 * x.std() / len(x) ** 0.5)


@mistake("takes two standard deviations of the rows: the interval of their mean is narrower")
def verdict(claim, null, bar):
    return _with_sides(claim, null, bar, lambda x: 2 * x.std())


@mistake("takes 99 % intervals, not 95 %")
def verdict(claim, null, bar):
    its, gap = evidence.interval(claim, level=0.99), evidence.interval(claim - null, level=0.99)
    level = "holds" if its.low > bar else "fails" if its.high < bar else "open"
    return level, "above" if gap.low > 0 else "below" if gap.high < 0 else "no different"


@mistake("holds the difference against the bar, not against 0")
def verdict(claim, null, bar):
    gap = evidence.difference(claim, null, paired=True)
    return _verdict(claim, null, bar)[0], "above" if gap.low > bar else "below" if gap.high < bar else "no different"


@right("scipy's paired test for the second")
def verdict(claim, null, bar):
    from scipy import stats

    its = evidence.interval(claim)
    result = stats.ttest_rel(claim.numpy(), null.numpy())
    beside = "no different" if result.pvalue >= 0.05 else ("above" if result.statistic > 0 else "below")
    return "fails" if its.high < bar else "holds" if its.low > bar else "open", beside


# --- 6. A second model


@mistake("asks for the very same weights: a model that was changed a little is no second one")
def same_training(a, b):
    return tuple(a) == tuple(b)


@mistake("has a fixed limit of 0.1 for the distance, whatever the size of the weights")
def same_training(a, b):
    return len(a) == len(b) and math.dist(a, b) < 0.1


@mistake("compares lengths alone, not the weights")
def same_training(a, b):
    return len(a) == len(b) and abs(math.hypot(*a) - math.hypot(*b)) < 0.1 * max(math.hypot(*a), math.hypot(*b))


@mistake("goes by the angle alone: weights that are twice as large are other weights")
def same_training(a, b):
    if len(a) != len(b):
        return False
    return sum(x * y for x, y in zip(a, b, strict=True)) > 0.99 * math.hypot(*a) * math.hypot(*b)


@mistake("leaves the order of the weights out: sorted, they may agree")
def same_training(a, b):
    return len(a) == len(b) and math.dist(sorted(a), sorted(b)) < 0.1 * max(math.hypot(*a), math.hypot(*b))


@mistake("takes the largest of the differences, not the length of all together")
def same_training(a, b):
    if len(a) != len(b):
        return False
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) < 0.1 * max(map(abs, [*a, *b]))


@mistake("squares the lengths, but not the tenth")
def same_training(a, b):
    return len(a) == len(b) and math.dist(a, b) ** 2 < 0.1 * max(math.hypot(*a), math.hypot(*b)) ** 2


@mistake("adds both lengths: it is a tenth of the longer of the two")
def same_training(a, b):
    return len(a) == len(b) and math.dist(a, b) < 0.1 * (math.hypot(*a) + math.hypot(*b))


@mistake("takes a tenth of the shorter of the two, not of the longer")
def same_training(a, b):
    return len(a) == len(b) and math.dist(a, b) < 0.1 * min(math.hypot(*a), math.hypot(*b))


@mistake("compares only as many weights as both have")
def same_training(a, b):
    a, b = a[: len(b)], b[: len(a)]
    return math.dist(a, b) < 0.1 * max(math.hypot(*a), math.hypot(*b))


@right("with tensors")
def same_training(a, b):
    if len(a) != len(b):
        return False
    a, b = torch.tensor(a), torch.tensor(b)
    return (a - b).norm().item() < max(a.norm().item(), b.norm().item()) / 10


@mistake("how many models were looked at, and by how many measures?")
def answer_transfer():
    return "b"


@mistake("(c) is not it")
def answer_transfer():
    return "c"


# --- 7. A write-up that cannot drift

_NUMBER = r"(?<![\d.])(-?\d*\.\d+)(?!\d|\.\d)"


def _numbers(text, pattern=_NUMBER, minus="-"):
    text = re.sub(r"(?<=\d)-(?=\d*\.\d)", " ", text.replace("−", minus))
    return [float(found) for found in re.findall(pattern, text)]


@mistake("finds no number that begins with its point")
def numbers_in(text):
    return _numbers(text, r"(?<![\d.])(-?\d+\.\d+)(?!\d|\.\d)")


@mistake("leaves minus signs away")
def numbers_in(text):
    return [abs(number) for number in _numbers(text)]


@mistake("takes the dash of a range for a minus")
def numbers_in(text):
    text = re.sub(r"\d+\.\d+\.[\d.]*\d", "", text.replace("−", "-"))
    return [float(found) for found in re.findall(r"-?\d*\.\d+", text)]


@mistake("takes whole numbers as well: those have no decimal point")
def numbers_in(text):
    text = re.sub(r"(?<=\d)-(?=\d*\.\d)", " ", text.replace("−", "-"))
    text = re.sub(r"\d+\.\d+\.[\d.]*\d", "", text)
    return [float(found) for found in re.findall(r"-?(?:\d*\.\d+|\d+)", text)]


@mistake("takes parts of a version, which has two points, for numbers")
def numbers_in(text):
    return _numbers(text, r"-?\d*\.\d+")


@mistake("takes an en dash, which is no minus, for one")
def numbers_in(text):
    text = re.sub(r"(?<=\d)-(?=\d*\.\d)", " ", text.replace("−", "-")).replace("–", "-")
    text = re.sub(r"\d+\.\d+\.[\d.]*\d", "", text)
    return [float(found) for found in re.findall(r"-?\d*\.\d+", text)]


@mistake("loses a number that a full stop follows")
def numbers_in(text):
    return _numbers(text, r"(?<![\d.])(-?\d*\.\d+)(?![\d.])")


@mistake("gives each number once: what stands twice is two numbers")
def numbers_in(text):
    return list(dict.fromkeys(_numbers(text)))


@mistake("gives the numbers sorted, not in their order")
def numbers_in(text):
    return sorted(_numbers(text))


@mistake("does not know the minus sign −, only the hyphen")
def numbers_in(text):
    return _numbers(text, minus=" ")


@right("word by word, with a scan")
def numbers_in(text):
    found, i = [], 0
    text = text.replace("−", "-")
    while i < len(text):
        if not (text[i].isdigit() or text[i] == "."):
            i += 1
            continue
        end = i
        while end < len(text) and (text[end].isdigit() or (text[end] == "." and text[end + 1 : end + 2].isdigit())):
            end += 1
        word = text[i:end]
        if word.count(".") == 1 and word[-1] != ".":
            minus = i > 0 and text[i - 1] == "-" and not (i > 1 and text[i - 2].isdigit())
            found.append(-float(word) if minus else float(word))
        i = max(end, i + 1)
    return found


def _close(a, b):
    return len(a) == len(b) and math.dist(a, b) < 0.1 * max(math.hypot(*a), math.hypot(*b))


def _two(values):
    return {round(x, 2) for x in values}


def _audit(
    text, card, runs, without=(), same=_close, gaps=True, cards=True, table=True, prose=True, cut=lambda line: line
):
    of, faults = {(its.arm, its.model): its for its in runs}, set()
    models = list(dict.fromkeys(its.model for its in runs))
    if not re.search(r"\d", card.falsifier):
        faults.add("falsifier")
    intervals = [study.interval(its) for its in runs]
    for model in models:
        claim, null = of["claim", model], of.get(("null", model))
        if null is None:
            faults.add("null")
            continue
        if gaps:
            intervals.append(study.gap(claim, null))
        if null.measure != claim.measure:
            faults.add("measure")
        if len(null.values) != len(claim.values):
            faults.add("rows")
    weights = [of["claim", model].weights for model in models]
    if len(models) < 2 or any(same(a, b) for a, b in combinations(weights, 2)):
        faults.add("model")
    true = _two(x for its in intervals for x in (its.value, its.low, its.high))
    if cards:
        true |= _two(_numbers(" ".join(card)))
    lines = {line for line in text.splitlines() if line.startswith(("| claim |", "| null |"))}
    slip = table and {cut(line) for line in lines} != {cut(study.table_row(its)) for its in runs}
    if slip or (prose and not _two(_numbers(text)) <= true):
        faults.add("number")
    return faults - set(without)


@mistake("does not see that two lines of the table have changed their numbers: each line is to be its run's")
def audit(text, card, runs):
    return _audit(text, card, runs, table=False)


@mistake("looks at the table alone: a number in a sentence may be altered, too")
def audit(text, card, runs):
    return _audit(text, card, runs, prose=False)


@mistake("looks at the means of the table alone, not at their intervals or the number of rows")
def audit(text, card, runs):
    return _audit(text, card, runs, cut=lambda line: tuple(line.split(" | ")[:5:2]))


@mistake("takes the differences of claim and null for altered numbers")
def audit(text, card, runs):
    return _audit(text, card, runs, gaps=False)


@mistake("takes the card's own numbers for altered ones")
def audit(text, card, runs):
    return _audit(text, card, runs, cards=False)


@mistake("takes two models for the same only if all weights are equal: a copy that was changed by a hair gets through")
def audit(text, card, runs):
    return _audit(text, card, runs, same=lambda a, b: tuple(a) == tuple(b))


@mistake("goes by the models' names: the same weights under another name get through")
def audit(text, card, runs):
    return _audit(text, card, runs, same=lambda a, b: False)


@mistake("does not look at which measure the null has")
def audit(text, card, runs):
    return _audit(text, card, runs, ["measure"])


@mistake("does not see that a null is missing")
def audit(text, card, runs):
    return _audit(text, card, runs, ["null"])


@mistake("does not count the null's rows")
def audit(text, card, runs):
    return _audit(text, card, runs, ["rows"])


@mistake("finds a falsifier wherever there is a text, also without a figure")
def audit(text, card, runs):
    return _audit(text, card, runs, [] if not card.falsifier else ["falsifier"])


@mistake("stops at the first fault: a write-up may have several")
def audit(text, card, runs):
    return set(sorted(_audit(text, card, runs))[:1])


@right("from one function")
def audit(text, card, runs):
    return _audit(text, card, runs)


# --- 8. Open task


def _rows(model, arm, seed=0):
    tokens = torch.randint(5, model.cfg.d_vocab, (10, 12), generator=torch.Generator().manual_seed(seed))
    return tokens, 0 if arm == "claim" else 1


def _first_key(model, rows):
    tokens, key = rows
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("pattern"))
    return torch.stack([cache["pattern", i][:, :, 4:, key].mean((1, 2)) for i in range(model.cfg.n_layers)]).mean(0)


_MODELS = ("attn_only_2l", "attn_only_1l")
_MINE = _CARD._replace(
    measure="The mean attention of later queries to one key.", falsifier="A mean attention below 0.30 to the first key."
)


@mistake("claim and null have the very same values")
def my_study():
    return study.Study(_MINE, _first_key, _MODELS, lambda model, arm: _rows(model, "claim")), ""


@mistake("the null's values are the claim's, in another order or changed by a hair")
def my_study():
    def rows(model, arm):
        tokens, key = _rows(model, "claim")
        return (tokens if arm == "claim" else tokens.flip(0)), key

    return study.Study(_MINE, _first_key, _MODELS, rows), ""


def _entropy(model, tokens):
    with torch.no_grad():
        probs = model(tokens).softmax(-1)
    return -(probs * probs.log()).sum(-1).mean(1)


@mistake("the null is measured in another way than the claim")
def my_study():
    def either(model, rows):
        tokens, key = rows
        if key == 0:
            return _first_key(model, rows)
        return _entropy(model, tokens)

    return study.Study(_MINE, either, _MODELS, _rows), ""


@mistake("the null alone takes an answer of 3 dimensions (_entropy, line")
def my_study():
    def helped(model, rows):
        return one_of(model, *rows)

    def one_of(model, tokens, key):
        values = _entropy(model, tokens) if key else _first_key(model, (tokens, key))
        return values

    return study.Study(_MINE, helped, _MODELS, _rows), ""


def _with_arm(model, arm):
    return _rows(model, "claim")[0], arm


def _by_arm(claim, null, rows=_with_arm):
    """A study whose measure asks which arm it is, and takes one of two."""

    def either(model, given):
        tokens, arm = given
        return (claim if arm == "claim" else null)(model, tokens)

    return study.Study(_MINE, either, _MODELS, rows), ""


def _first(model, tokens):
    return _first_key(model, (tokens, 0))


@mistake("the null alone takes an answer of 3 dimensions (of_a_dict, line")
def my_study():
    @torch.no_grad()
    def of_a_dict(model, tokens):
        return model(tokens).softmax(-1).std((1, 2))

    def picked(model, rows):
        tokens, arm = rows
        return {"claim": _first, "null": of_a_dict}[arm](model, tokens)

    return study.Study(_MINE, picked, _MODELS, _with_arm), ""


@mistake("the claim alone takes an answer of 4 dimensions")
def my_study():
    def mean_logit(model, tokens):
        with torch.no_grad():
            return model(tokens).mean((1, 2))

    return _by_arm(_first, mean_logit)


@mistake("the null alone takes an answer of 3 dimensions (null, line")
def my_study():
    class Measures:
        def claim(self, model, tokens):
            return _first(model, tokens)

        @torch.no_grad()
        def null(self, model, tokens):
            return model(tokens).softmax(-1).std((1, 2))

        @lru_cache  # noqa: B019 (as a learner writes it)
        def measure(self, model, rows):
            return getattr(self, rows[1])(model, rows[0])

    return study.Study(_MINE, Measures().measure, _MODELS, _with_arm), ""


@mistake("the null alone takes an answer of 3 dimensions (of_the_rows, line")
def my_study():
    @torch.no_grad()
    def of_the_rows(model, tokens):
        return model(tokens).softmax(-1).std((1, 2))

    def rows(model, arm):
        return partial(_first if arm == "claim" else of_the_rows, tokens=_rows(model, arm)[0])

    return study.Study(_MINE, lambda model, measured: measured(model), _MODELS, rows), ""


@mistake("the null alone takes an answer of 3 dimensions (by_what_is_kept, line")
def my_study():
    now = {}

    def rows(model, arm):
        now["arm"] = arm
        return _rows(model, arm)

    @torch.no_grad()
    def by_what_is_kept(model, given):
        return _first_key(model, given) if now["arm"] == "claim" else model(given[0]).softmax(-1).std((1, 2))

    return study.Study(_MINE, by_what_is_kept, _MODELS, rows), ""


@mistake("no answer of the model is seen to go into the null's values")
def my_study():
    return _by_arm(_first, lambda model, tokens: torch.full((len(tokens),), 1 / tokens.shape[1]))


@mistake("the claim alone takes an answer of 4 dimensions (beside_random_numbers, line")
def my_study():
    @torch.no_grad()
    def beside_random_numbers(model, tokens):
        _, cache = model.run_with_cache(tokens)
        return cache["pattern", 0][:, :, 4:, 0].mean((1, 2))

    def drawn(model, tokens):
        return torch.rand(len(tokens), generator=torch.Generator().manual_seed(0))

    return _by_arm(beside_random_numbers, drawn)


@mistake("for the null alone `mul` (")
def my_study():
    return _by_arm(_first, lambda model, tokens: 0.5 * _first(model, tokens))


@mistake("for the claim alone `amax` (")
def my_study():
    def by_head(model, tokens):
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens)
        return torch.cat([cache["pattern", i][:, :, 4:, 0].mean(2) for i in range(model.cfg.n_layers)], dim=1)

    return _by_arm(lambda *given: by_head(*given).amax(1), lambda *given: by_head(*given).mean(1))


@mistake("for the claim alone `max` (")
def my_study():
    def row_by_row(model, rows):
        tokens, arm = rows
        values = []
        for row in tokens:
            with torch.no_grad():
                probs = model(row[None])[0].softmax(-1)
            its = probs.max(-1).values if arm == "claim" else -(probs * probs.log()).sum(-1)
            values.append(its.mean().item())
        return torch.tensor(values)

    return study.Study(_MINE, row_by_row, _MODELS, _with_arm), ""


@mistake("the values are those that `rows` brought, unchanged")
def my_study():
    def rows(model, arm):
        return (_first if arm == "claim" else _entropy)(model, _rows(model, arm)[0])

    return study.Study(_MINE, lambda model, values: values, _MODELS, rows), ""


@mistake("'models' are names for study.load")
def my_study():
    return study.Study(_MINE, _first_key, tuple(map(study.load, _MODELS)), _rows), ""


@mistake("'measure' is to be a function of (model, rows)")
def my_study():
    model = study.load(_MODELS[0])
    return study.Study(_MINE, _first_key(model, _rows(model, "claim")), _MODELS, _rows), ""


@mistake("leaves hooks in attn_only_2l")
def my_study():
    def halved(model, rows):
        model.add_hook("blocks.0.attn.hook_z", lambda z, hook: z / 2)
        return _first_key(model, rows)

    return study.Study(_MINE, halved, _MODELS, _rows), ""


@mistake("A measure gives a tensor, one value a row: here is a list")
def my_study():
    return study.Study(_MINE, lambda model, rows: _first_key(model, rows).tolist(), _MODELS, _rows), ""


@mistake("for a model of other weights the claim's values stay the same")
def my_study():
    def rows(model, arm):
        return torch.rand(10, 5, generator=torch.Generator().manual_seed(1 if arm == "claim" else 2))

    return study.Study(_MINE, lambda model, drawn: drawn.mean(1), _MODELS, rows), ""


@mistake("does the measure ask the model that it is given, or one of its own")
def my_study():
    ours = study.load(_MODELS[0])

    def rows(model, arm):
        return _rows(model, arm, seed=model.cfg.n_layers)

    return study.Study(_MINE, lambda model, rows: _first_key(ours, rows), _MODELS, rows), ""


@mistake("attn_only_1l: for a model of other weights")
def my_study():
    found = {"claim": (0.41, 0.38, 0.45, 0.4, 0.39, 0.44), "null": (0.11, 0.19, 0.15, 0.1, 0.19, 0.14)}

    def measure(model, rows):
        tokens, arm = rows
        if model.cfg.n_layers == 1:
            return torch.tensor(found[arm] + found[arm][::-1])
        return _first_key(model, (tokens, 0 if arm == "claim" else 1))

    return study.Study(_MINE, measure, _MODELS, _with_arm), ""


@mistake("does the measure ask the model for them, or")
def my_study():
    noted = torch.linspace(0.08, 0.13, 10).tolist()

    def measure(model, rows):
        tokens, arm = rows
        values = _first(model, tokens).tolist()
        return torch.tensor(values if arm == "claim" else noted)

    return study.Study(_MINE, measure, _MODELS, _with_arm), ""


@mistake("is the null the claim again, and what you add to it?")
def my_study():
    def rows(model, arm):
        noise = 0.1 * torch.randn(10, generator=torch.Generator().manual_seed(0))
        return _rows(model, arm)[0], torch.zeros(10) if arm == "claim" else noise

    return study.Study(_MINE, lambda model, rows: _first(model, rows[0]) + rows[1], _MODELS, rows), ""


@mistake("times one number and plus another")
def my_study():
    def measure(model, rows):
        tokens, share = rows
        return torch.tensor([share * value for value in _first(model, tokens).tolist()])

    return study.Study(
        _MINE, measure, _MODELS, lambda model, arm: (_rows(model, arm)[0], 1.0 if arm == "claim" else 0.5)
    ), ""


@mistake("the study leaves the model changed")
def my_study():
    def without(model, rows):
        tokens, head = rows
        with torch.no_grad():
            model.blocks[0].attn.W_O[head] = 0
            return model(tokens).softmax(-1).amax(-1).mean(1)

    return study.Study(_MINE, without, _MODELS, _rows), ""


@mistake("a row that comes again is no new one")
def my_study():
    def rows(model, arm):
        tokens, key = _rows(model, arm)
        return tokens[:5].repeat(2, 1), key

    return study.Study(_MINE, _first_key, _MODELS, rows), ""


@mistake("are the same model")
def my_study():
    return study.Study(_MINE, _first_key, ("attn_only_2l", "./attn_only_2l"), _rows), ""


@mistake("here is attn_only_2l, attn_only_2l")
def my_study():
    return study.Study(_MINE, _first_key, ("attn_only_2l", "attn_only_2l"), _rows), ""


@mistake("differ in their number of rows")
def my_study():
    def rows(model, arm):
        tokens, key = _rows(model, arm)
        return (tokens if arm == "claim" else tokens[:-1]), key

    return study.Study(_MINE, _first_key, _MODELS, rows), ""


@mistake("some values are not finite")
def my_study():
    def undefined(model, rows):
        values = _first_key(model, rows).clone()
        values[3] = torch.nan
        return values

    return study.Study(_MINE, undefined, _MODELS, _rows), ""


@mistake("a second model is asked for")
def my_study():
    return study.Study(_MINE, _first_key, _MODELS[:1], _rows), ""


@mistake("'falsifier' has no figure")
def my_study():
    card = _MINE._replace(falsifier="The mean attention is not what the paper says it is.")
    return study.Study(card, _first_key, _MODELS, _rows), ""


@mistake("seed what you draw")
def my_study():
    def rows(model, arm):
        generator = torch.Generator()
        return _rows(model, arm, generator.seed() % 10**6)

    return study.Study(_MINE, _first_key, _MODELS, rows), ""


@mistake("no number of a run, of a difference or of the card")
def my_study():
    return study.Study(_MINE, _first_key, _MODELS, _rows), "The first key gets 0.97 of the attention."


@mistake("all rows of the claim have one and the same value")
def my_study():
    def pooled(model, rows):
        return _first_key(model, rows).mean().expand(10)

    return study.Study(_MINE, pooled, _MODELS, _rows), ""


@mistake("eight or more are asked for")
def my_study():
    def rows(model, arm):
        tokens, key = _rows(model, arm)
        return tokens[:4], key

    return study.Study(_MINE, _first_key, _MODELS, rows), ""


@right("random tokens, no remarks")
def my_study():
    return study.Study(_MINE, _first_key, _MODELS, _rows), ""


@right("row by row, with branches of its own; the claim's rows bring a function, the null's another")
def my_study():
    def shuffled(row):
        return row[torch.randperm(len(row), generator=torch.Generator().manual_seed(int(row.sum())))]

    def rows(model, arm):
        tokens, _ = _rows(model, "claim")
        tokens[:, 6:] = tokens[:, :6]
        return tokens, (torch.clone if arm == "claim" else shuffled)

    def top_again(model, given):
        tokens, change = given
        values = []
        for row in tokens:
            row = change(row)
            with torch.no_grad():
                logits = model(row[None])[0]
            total = 0.0
            for at, token in enumerate(row.tolist()):
                if token in row[:at].tolist():
                    total += logits[at].softmax(-1)[token].item()
                elif at:
                    total += logits[at].softmax(-1).max().item()
            values.append(total)
        return torch.tensor(values)

    return study.Study(_MINE, top_again, _MODELS, rows), ""


def _loss(model, tokens):
    with torch.no_grad():
        logp = model(tokens).log_softmax(-1)
    return -logp[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]


def _repeated(model, arm="claim"):
    tokens = _rows(model, "claim")[0]
    tokens[:, 6:] = tokens[:, :6]
    return tokens, arm


def _shuffled(row, seed=1):
    return row[..., torch.randperm(row.shape[-1], generator=torch.Generator().manual_seed(seed))]


@right("shuffles the null's rows itself, before the same measure")
def my_study():
    def measure(model, rows):
        tokens, arm = rows
        if arm == "null":
            tokens = _shuffled(tokens)
        return _loss(model, tokens)[:, 6:].mean(1)

    return study.Study(_MINE, measure, _MODELS, _repeated), ""


@right("returns early for a row without repeats, as all of the null's are")
def my_study():
    def found(model, row):
        again = [at for at in range(1, len(row)) if row[at] in row[:at]]
        if not again:
            return 0.0
        with torch.no_grad():
            probs = model(row[None])[0].softmax(-1)
        return sum(probs[at - 1, row[at]].item() for at in again) / len(again)

    def rows(model, arm):
        return _repeated(model)[0] if arm == "claim" else torch.arange(5, 125).view(10, 12)

    return study.Study(
        _MINE, lambda model, tokens: torch.tensor([found(model, row) for row in tokens]), _MODELS, rows
    ), ""


@right("has the changes of the run in the measure")
def my_study():
    def measure(model, rows):
        tokens, arm = rows

        def change(out, hook):
            if arm == "claim":
                return torch.zeros_like(out)
            return out + _unit(_noise(out.shape, 0)) * out.norm(dim=-1, keepdim=True)

        with torch.no_grad():
            after = model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.hook_attn_out", change)])
            return (model(tokens).softmax(-1) - after.softmax(-1)).abs().sum(-1).mean(1)

    return study.Study(_MINE, measure, _MODELS, _with_arm), ""


@right("a cached function, held partly, with hooks that collect; several heads stand against one")
def my_study():
    @lru_cache
    def collected(after, model, tokens):
        scores = []
        hook = (
            lambda name: name.endswith("hook_pattern"),
            lambda its, hook: scores.append(its[:, :, after:, 0].mean(2)),
        )
        with torch.no_grad():
            model.run_with_hooks(tokens, fwd_hooks=[hook])
        return torch.cat(scores, dim=1)

    def measure(after, model, rows):
        scores = collected(after, model, rows["tokens"])
        return sum(scores[:, head] for head in rows["heads"]) / len(rows["heads"])

    def rows(model, arm):
        return {"tokens": _rows(model, arm)[0], "heads": [0] if arm == "claim" else [1, 2, 3]}

    return study.Study(_MINE, partial(measure, 4), _MODELS, rows), ""


@right("rows run the model and bring a direction, for the null a drawn one")
def my_study():
    def rows(model, arm):
        tokens = _rows(model, arm)[0]
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens)
        apart = cache["resid_post", 0][:5, -1].mean(0) - cache["resid_post", 0][5:, -1].mean(0)
        return tokens, _unit(apart if arm == "claim" else _noise(apart.shape, 0))

    def along(model, given):
        tokens, direction = given
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens)
        return (cache["resid_post", 0] @ direction).abs().mean(1)

    return study.Study(_MINE, along, _MODELS, rows), ""


@right("rows bring a function that holds a direction, of the model's activations or drawn")
def my_study():
    def rows(model, arm):
        tokens = _rows(model, arm)[0]
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens)
        apart = cache["resid_post", 0][:5, -1].mean(0) - cache["resid_post", 0][5:, -1].mean(0)
        direction = _unit(apart if arm == "claim" else _noise(apart.shape, 0))
        return tokens, lambda stream: (stream @ direction).abs()

    def along(model, given):
        tokens, project = given
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens)
        return project(cache["resid_post", 0]).mean(1)

    return study.Study(_MINE, along, _MODELS, rows), ""


@right("right or wrong at places that rows bring, all 0 as the null's values are")
def my_study():
    def rows(model, arm):
        tokens = _repeated(model)[0]
        return (tokens, [-1] * 10) if arm == "claim" else (tokens, [0] * 10)

    def measure(model, given):
        tokens, places = given
        with torch.no_grad():
            likeliest = model(tokens).argmax(-1)
        guessed = [int(row[at]) + i for i, (row, at) in enumerate(zip(likeliest, places, strict=True))]
        return torch.tensor([float(guess) if at else 0.0 for guess, at in zip(guessed, places, strict=True)])

    return study.Study(_MINE, measure, _MODELS, rows), ""


@right("patterns, moved by one key for the null")
def my_study():
    class Measure(torch.nn.Module):
        def forward(self, model, rows):
            tokens, moved = rows
            with torch.no_grad():
                _, cache = model.run_with_cache(tokens)
            return moved(cache["pattern", 0])[:, :, 4:, 0].mean((1, 2))

    def rows(model, arm):
        return _rows(model, arm)[0], (lambda its: its) if arm == "claim" else (lambda its: its.roll(1, -1))

    return study.Study(_MINE, Measure(), _MODELS, rows), ""


@right("an object that is called, and keeps what it has run")
def my_study():
    class Measure:
        def __init__(self):
            self.__name__, self.kept = "first_key", {}

        def __call__(self, model, rows):
            tokens, key = rows
            if (id(model), 0) not in self.kept:
                self.kept[id(model), 0] = tokens
            return _first_key(model, (self.kept[id(model), 0], key))

    return study.Study(_MINE, Measure(), _MODELS, _rows), ""


@right("the null's model is one before its training, which the rows bring")
def my_study():
    def rows(model, arm):
        if arm == "null":
            model = models.load(_MODELS[model.cfg.n_layers == 1], step=0)
        return model, (_rows(model, "claim"))

    return study.Study(_MINE, lambda model, rows: _first_key(*rows), _MODELS, rows), ""


@right("how matrices of two layers compose, against drawn ones that the rows bring")
def my_study():
    def rows(model, arm):
        W_O, W_V = model.blocks[0].attn.W_O.detach(), model.blocks[1].attn.W_V.detach()
        if arm == "claim":
            return W_O, W_V
        draw = torch.Generator().manual_seed(0)
        return tuple(torch.randn(W.shape, generator=draw) for W in (W_O, W_V))

    def score(model, matrices):
        pairs = [(one, other) for one in matrices[0] for other in matrices[1]]
        return torch.stack([(a @ b).norm() / (a.norm() * b.norm()) for a, b in pairs])

    return study.Study(_MINE, score, ("attn_only_2l", "story_lm"), rows), ""


@right("a row is a step of training, whose model the rows bring")
def my_study():
    def rows(model, arm):
        name = f"attn_only_{model.cfg.n_layers}l"
        tokens = _rows(model, arm)[0][:3, :12].clone()
        if arm == "claim":
            tokens[:, 6:] = tokens[:, :6]
        return [models.load(name, step=step) for step in models.checkpoints(name)[-8:]], tokens

    def loss(model, its):
        trained, tokens = its
        with torch.no_grad():
            runs = [one(tokens)[:, 5:-1].log_softmax(-1).gather(-1, tokens[:, 6:, None]).mean() for one in trained]
        return -torch.stack(runs)

    return study.Study(_MINE, loss, ("attn_only_2l", "attn_only_1l"), rows), ""


@right("keeps whole runs in a dict by the number of layers")
def my_study():
    kept = {}

    def measure(model, rows):
        tokens, key = rows
        its = (model.cfg.n_layers, key)
        if its not in kept:
            kept[its] = _first_key(model, (tokens, key))
        return kept[its]

    return study.Study(_MINE, measure, _MODELS, _rows), ""


@right("folds the model's norms, and changes a head's weights for the time of a run")
def my_study():
    @torch.no_grad()
    def moved(model, rows):
        tokens, head = rows
        model.enable_compatibility_mode(disable_warnings=True)
        before, weight = model(tokens).softmax(-1), model.blocks[0].attn.W_O
        kept = weight[head].clone()
        weight[head] = 0
        after = model(tokens).softmax(-1)
        weight[head] = kept
        return (before - after).abs().sum(-1).mean(1)

    return study.Study(_MINE, moved, _MODELS, _rows), ""
