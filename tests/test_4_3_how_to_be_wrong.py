"""Checks of 4.3 How to be wrong. They run on two tiny models of random weights, and on claims about wired models."""

import functools
from collections import Counter

import pytest
import torch

from concrete_steps import evidence, wired
from concrete_steps.checking.testing import (
    OverManyCalls,
    as_found,
    assert_choice,
    assert_close,
    assert_plain,
    assert_precise,
    assert_tensor,
    bent_bridge,
    nothing_left_behind,
    settled,
    strided,
    unchanged,
)

# equivalent mutant of find_fault, any: what names enough of unseen claims rightly is right
# equivalent mutant of removal_effects, drop names_filter= of run_with_cache: the same, and more that is not used
# equivalent mutant of removal_effects, drop line z = z.clone(): the run goes on with it, written into or copied
# equivalent mutant of removal_effects, drop .clone(): the run goes on with it, written into or copied
# equivalent mutant of removal_effects, Eq -> GtE: of the two words "zero" is the later one in the alphabet
# equivalent mutant of removal_effects, 1 -> -1 (2x): the second of two is the last
# equivalent mutant of heads_that_stand, BitAnd -> Mult: of booleans the product is the and
# equivalent mutant of heads_that_stand, Gt -> GtE (2x): no end of an interval is just 0, no two means are just equal
# equivalent mutant of heads_that_stand, 1 -> -1 (2x): of two axes, 1 is the last
# equivalent mutant of effect_when_frozen, drop names_filter= of run_with_cache: the same, and more that is not used
# equivalent mutant of effect_when_frozen, drop line z = z.clone(): the run goes on with it, written into or copied
# equivalent mutant of effect_when_frozen, drop .clone(): the run goes on with it, written into or copied
# equivalent mutant of effect_when_frozen, drop tuple(...): a head is a tuple
# equivalent mutant of best_under_shuffles, target -> features: both have a row for each example
# equivalent mutant of cosines_of_others, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of cosines_of_others, a -> b: both have a row for each pair
# equivalent mutant of cosines_of_others, swap arguments 0 and 1 of cosine_similarity: both are spread over both axes
# equivalent mutant of faithfulness, drop names_filter= of run_with_cache: the same, and more that is not used
# equivalent mutant of faithfulness, drop line z = z.clone(): the run goes on with it, written into or copied
# equivalent mutant of faithfulness, drop .clone(): the run goes on with it, written into or copied
# equivalent mutant of exchange_along, keep Float[Tensor, 'd_mlp']: an annotation
# equivalent mutant of exchange_along, keep None: an annotation
# equivalent mutant of exchange_along, drop names_filter= of run_with_cache (2x): the same, and more that is not used
# equivalent mutant of exchange_along, IsNot -> NotEq: a tensor is not equal to None, either
# equivalent mutant of split_by_kernel, Gt -> GtE: no size is just at the bound
# equivalent mutant of split_by_kernel, direction -> W_out: both have one dtype


tiny = functools.partial(bent_bridge, d_vocab=9, heads_matter=1.2)


def first_less_last(logits):
    """A measure of the check's own: from [row d_vocab] a number for each row."""
    return logits[:, 0] - 0.5 * logits[:, -1]


def softest(logits):
    return logits.log_softmax(-1)[:, 2]


@torch.no_grad()
def z_of(model, tokens):
    """[layer] of [row pos head d_head], in the untouched run."""
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_z"))
    return [cache["z", layer] for layer in range(model.cfg.n_layers)]


@torch.no_grad()
def with_z(model, tokens, wanted, measure):
    """[row] measure of the run in which these heads' z is what `wanted` {(layer, head): [row pos d_head]} says."""
    hooks = []
    for layer in range(model.cfg.n_layers):

        def put(z, hook, layer=layer):
            z = z.clone()
            for (at, head), new in wanted.items():
                if at == layer:
                    z[:, :, head] = new
            return z

        hooks.append((f"blocks.{layer}.attn.hook_z", put))
    return measure(model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1])


# --- 1. Two ablations


def test_removal_effects(removal_effects, rng):
    """Untouched less changed, one head at a time, at all positions; zero, and the mean over rows at each position."""
    cases = [
        (tiny(2, 2), 3, 4, [(1, 0)], "zero"),
        (tiny(3, 3), 4, 3, [(0, 1)], "mean"),
        (tiny(2, 2), 2, 5, [(0, 1), (0, 0), (1, 1)], "mean"),
        (tiny(2, 2), 2, 4, [(1, 1), (1, 0), (0, 1)], "zero"),
        (tiny(3, 3), 1, 6, [(1, 2), (1, 0)], "mean"),
    ]
    for model, rows, pos, heads, fill in cases:
        tokens, given, measure = rng.integers(0, 9, rows, pos), list(heads), (first_less_last, softest)[pos % 2]
        z, base = z_of(model, tokens), with_z(model, tokens, {}, measure)
        expected = []
        for layer, head in heads:
            own = z[layer][:, :, head]
            new = torch.zeros_like(own) if fill == "zero" else own.mean(0, keepdim=True)
            expected.append(base - with_z(model, tokens, {(layer, head): new}, measure))
        with as_found(model, tokens, given):
            effects = removal_effects(model, tokens, given, fill, measure)
        effects = assert_tensor(effects, shape=(len(heads), rows))
        assert_close(
            effects,
            torch.stack(expected),
            f"{fill!r}, {rows} rows of {pos} tokens, heads {heads}: entry [head, row] is not how far the measure falls "
            "when that head alone is replaced",
            atol=1e-4,
        )
        assert not effects.requires_grad, "the effects keep a gradient: run the model under torch.no_grad()"


def test_heads_that_stand(heads_that_stand, rng):
    """The interval of the mean lies above 0, and the mean is above every control's size."""
    fixed = torch.tensor([-1.3, 0.6, -0.5, 0.9, -0.2, 0.5])  # of mean 0; the median is above it

    def around(mean, spread=0.1):
        return mean + spread * fixed[rng.permutation(6)]

    cases = [
        ("one that stands, and one that goes the other way", [(1.0, 0.1), (-1.0, 0.1)], [(0.1, 0.1)]),
        ("less than its only control", [(0.5, 0.1), (0.9, 0.1)], [(0.7, 0.1)]),
        ("a large effect of few rows", [(0.6, 2.0), (0.6, 0.2)], [(0.1, 0.1), (0.2, 0.1)]),
        ("less than a control", [(0.5, 0.1), (0.9, 0.1)], [(0.1, 0.1), (0.7, 0.1)]),
        ("more than the smaller control alone", [(0.3, 0.1)], [(0.1, 0.1), (0.9, 0.1)]),
        ("an interval that only just reaches below 0 (Student's t, 6 rows)", [(0.84, 1.0)], [(0.1, 0.1)]),
        ("an interval that lies only just above 0 (Student's t, 6 rows)", [(0.9, 1.0)], [(0.1, 0.1)]),
        ("less than a control that goes the other way", [(0.5, 0.1), (0.9, 0.1)], [(-0.7, 0.1), (0.1, 0.1)]),
        ("more than the controls' mean, but not than each", [(0.5, 0.1)], [(0.6, 0.1), (0.0, 0.1), (0.0, 0.1)]),
        ("a control whose rows are of both signs", [(0.5, 0.1)], [(0.1, 3.0)]),
        ("a control with one row that is larger", [(0.9, 0.1)], [(0.1, 1.0)]),
        ("a clear effect whose single rows are not all above 0", [(0.5, 0.5)], [(0.1, 0.1)]),
        ("a mean above the control's, though its interval reaches below", [(0.5, 0.5)], [(0.3, 0.1)]),
        ("a mean below the control's, though half of the rows are above", [(0.5, 0.3)], [(0.52, 0.01)]),
        ("a mean above the control's, though half of the rows are below", [(0.5, 0.3)], [(0.45, 0.01)]),
    ]
    for what, heads, others in cases:
        effects = strided(torch.stack([around(*each) for each in heads]))
        controls = strided(torch.stack([around(*each) for each in others]))
        largest = max(abs(control.mean().item()) for control in controls)
        expected = [e.mean().item() > largest and evidence.interval(e).low > 0 for e in effects]
        with unchanged(effects, controls), nothing_left_behind():
            stand = assert_tensor(heads_that_stand(effects, controls), shape=(len(heads),), dtype=torch.bool)
        means = [round(effect.mean().item(), 2) for effect in effects]
        assert stand.tolist() == expected, (
            f"{what}: means {means}, controls' means {[round(c.mean().item(), 2) for c in controls]}: "
            f"expected {expected}, got {stand.tolist()}"
        )


def test_answer_attention(answer_attention):
    """The head's part in the answer is what was not shown."""
    assert_choice(answer_attention, "b", "what was measured, and what would 'carries' need?")


# --- 3. and 4. Frozen heads


def test_effect_when_frozen(effect_when_frozen, rng):
    """The head at its mean, the frozen ones as in the untouched run: none, later ones, those of its own layer."""
    cases = [
        (tiny(2, 2), 3, 4, (0, 1), []),
        (tiny(2, 2), 2, 3, (0, 0), [(1, 1)]),
        (tiny(3, 3), 4, 5, (0, 2), [(1, 0), (2, 2), (1, 1)]),
        (tiny(3, 3), 3, 4, (1, 1), [(1, 0), (1, 2), (2, 0)]),
        (tiny(3, 3), 2, 6, (2, 0), [(0, 1)]),  # before it: nothing to freeze
    ]
    for model, rows, pos, head, frozen in cases:
        tokens, given, measure = rng.integers(0, 9, rows, pos), list(frozen), (first_less_last, softest)[pos % 2]
        z = z_of(model, tokens)
        wanted = {(layer, index): z[layer][:, :, index] for layer, index in frozen}
        wanted[head] = z[head[0]][:, :, head[1]].mean(0, keepdim=True)
        expected = with_z(model, tokens, {}, measure) - with_z(model, tokens, wanted, measure)
        with as_found(model, tokens, given):
            effect = assert_tensor(effect_when_frozen(model, tokens, head, given, measure), shape=(rows,))
        assert_close(
            effect,
            expected,
            f"head {head}, frozen {frozen}, {rows} rows of {pos} tokens: entry [row] is not how far the measure falls",
            atol=1e-4,
        )
        assert not effect.requires_grad, "the effects keep a gradient: run the model under torch.no_grad()"


def test_answer_repair(answer_repair):
    """What froze the heads leaves MLPs and the norm."""
    assert_choice(answer_repair, "c", "which parts can still react when all heads after it are frozen?")


# --- 5. Best of many


def sizes(features, target):
    x, y = features - features.mean(0), target - target.mean()
    return ((x * y[:, None]).sum(0) / (x.norm(dim=0) * y.norm()).clamp(min=1e-9)).abs()


DRAWS = 300


def test_best_under_shuffles(best_under_shuffles, rng):
    """The largest size over heads under one order for all: mean and spread as the check's own draws have them."""
    for rows, heads, copies in [(8, 40, False), (12, 1, False), (10, 30, True)]:
        # Copies of one head, half of them turned round, are no more tries than one.
        features = rng.normal(rows, heads)
        if copies:
            features = features[:, :1] * (1 - 2.0 * (torch.arange(heads) % 2))
        features, target = strided(5 + features), strided(3 + 2 * rng.normal(rows))
        with unchanged(features, target), nothing_left_behind():
            null = best_under_shuffles(features, target, DRAWS, rng.integer(0, 10_000))
        null = assert_tensor(null, shape=(DRAWS,)).double()
        own = torch.stack([sizes(features, target[rng.permutation(rows)]).max() for _ in range(DRAWS)]).double()
        said = (
            f"{rows} rows, {heads} heads{' (copies of one)' if copies else ''}, {DRAWS} draws: mean {null.mean():.3f}"
        )
        said += f", by the check's own draws {own.mean():.3f}"
        assert (null >= 0).all(), f"{said}; some values are below 0: the size of a correlation counts"
        assert null.unique().numel() > 1, f"{said}; all draws gave the same: is the target shuffled, anew in each?"
        allowed = 5 * ((own.var() + null.var()) / DRAWS).sqrt()  # five standard errors
        assert (null.mean() - own.mean()).abs() < allowed, said
        wide = null.std() / own.std()
        assert 0.6 < wide < 1.6, f"{said}; the draws spread by {null.std():.3f}, the check's by {own.std():.3f}"


def test_best_under_shuffles__orders(best_under_shuffles, rng):
    """Each value is that of some order of the target; the seed decides"""
    features, target, seed = rng.normal(4, 3), rng.normal(4), rng.integer(0, 10_000)
    orders = [[a, b, c, d] for a in range(4) for b in range(4) for c in range(4) for d in range(4)]
    orders = [order for order in orders if len(set(order)) == 4]
    possible = torch.stack([sizes(features, target[order]).max() for order in orders])
    null = best_under_shuffles(features, target, 60, seed)
    off = (null[:, None] - possible).abs().min(1).values.max()
    assert off < 1e-4, (
        "4 rows: a value is that of no order of the target. Is the target shuffled, once for all heads, and whole?"
    )
    assert torch.equal(null, best_under_shuffles(features, target, 60, seed)), (
        "the same seed gave other numbers the second time"
    )
    assert not torch.equal(null, best_under_shuffles(features, target, 60, seed + 1)), (
        "another seed gave the same numbers"
    )
    met = (null[:, None] - possible).abs().argmin(1).unique().numel()
    assert met > 1, "all draws have the same order: shuffle anew in each"
    assert met > 11, f"60 shuffles of 4 rows gave {met} of the 24 orders: any order may come, each row at any place"


# --- 6. A matched null


def test_cosines_of_others(cosines_of_others, rng):
    """For each text the mean over all others, never its own; vectors of any length."""
    for texts, d_model in [(2, 3), (5, 4), (3, 1), (4, 7)]:
        dtype = torch.float64 if texts == 5 else torch.float32
        a, b = (rng.normal(texts, d_model, dtype=dtype) * (1 + 9 * rng.uniform(texts, 1).to(dtype)) for _ in range(2))
        a, b = strided(a), strided(b)
        expected = torch.stack(
            [
                torch.stack([a[i] @ b[j] / (a[i].norm() * b[j].norm()) for j in range(texts) if j != i]).mean()
                for i in range(texts)
            ]
        )
        with unchanged(a, b), nothing_left_behind():
            means = assert_tensor(cosines_of_others(a, b), shape=(texts,))
        said = f"{texts} texts: entry i is not the mean cosine of a[i] with the other texts' b"
        assert_precise(means.to(expected.dtype) if means.dtype == torch.float64 else means, expected, said, loosen=10)


def test_answer_matching(answer_matching):
    """The same procedure, without the effect."""
    assert_choice(answer_matching, "a", "what do two probes have in common when there is nothing to find?")


# --- 7. Faithfulness


def mean_only(measure):
    """A measure that tells means of rows from ratios of rows: rows differ much in height."""
    return lambda logits: measure(logits) * torch.linspace(0.2, 3, len(logits))


def test_faithfulness(faithfulness, rng):
    """0 without any head, 1 with all of them, and the ratio of means in between; order does not matter."""
    for model, rows, pos in [(tiny(2, 2), 3, 4), (tiny(3, 3), 4, 5), (tiny(3, 3), 2, 3)]:
        every = [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]
        measure = mean_only((first_less_last, softest)[pos % 2])
        ends = []
        for _ in range(8):  # the draw whose two ends are furthest apart
            tokens = rng.integers(0, 9, rows, pos)
            z = z_of(model, tokens)
            means = {head: z[head[0]][:, :, head[1]].mean(0, keepdim=True) for head in every}
            whole, none = (with_z(model, tokens, its, measure).mean() for its in ({}, means))
            ends.append((abs(whole - none), tokens, means, whole, none))
        _, tokens, means, whole, none = max(ends, key=lambda its: its[0])
        mixed = [every[i] for i in rng.permutation(len(every)).tolist()]
        for circuit in (mixed[:1], [], mixed, mixed[: len(every) // 2]):
            kept = with_z(model, tokens, {h: z_mean for h, z_mean in means.items() if h not in circuit}, measure).mean()
            given = list(circuit)
            with as_found(model, tokens, given):
                share = assert_plain(faithfulness(model, tokens, given, measure), float)
            assert_close(
                share,
                (kept - none) / (whole - none),
                f"{rows} rows, circuit {circuit} of {len(every)} heads: not the share that it holds up",
                atol=1e-3,
                rtol=1e-3,
            )


# --- 8. An illusory subspace


def test_exchange_along(exchange_along, rng):
    """At the last position of one layer: along the direction the source's, across it its own; or all of it."""
    cases = [
        (tiny(2, 2), 3, 4, 1, 1.0),
        (tiny(3, 3), 2, 5, 0, 4.0),
        (tiny(2, 2), 1, 3, 0, None),
        (tiny(3, 3), 4, 6, 2, 0.1),
        (tiny(3, 3), 3, 4, 1, None),
    ]
    for model, rows, pos, layer, length in cases:
        tokens, source = (rng.integers(0, 9, rows, pos) for _ in range(2))
        direction = None if length is None else rng.normal(10)
        if direction is not None:
            direction = strided(length * direction / direction.norm())
        measure, name = (first_less_last, softest)[pos % 2], f"blocks.{layer}.mlp.hook_post"
        with torch.no_grad():
            here, there = (model.run_with_cache(its, names_filter=name)[1][name][:, -1] for its in (tokens, source))
            new = there
            if direction is not None:
                along = direction / direction.norm()
                new = here + torch.outer((there - here) @ along, along)

            def put(hidden, hook, new=new):
                hidden = hidden.clone()
                hidden[:, -1] = new
                return hidden

            changed = measure(model.run_with_hooks(tokens, fwd_hooks=[(name, put)])[:, -1])
            expected = measure(model(tokens)[:, -1]) - changed
        with as_found(model, tokens, source, *(() if direction is None else (direction,))):
            effect = exchange_along(model, tokens, source, layer, direction, measure)
        effect = assert_tensor(effect, shape=(rows,))
        said = f"a direction of length {length}" if length else "None, so all of it"
        assert_close(
            effect,
            expected,
            f"{said}, layer {layer} of {model.cfg.n_layers}, {rows} rows: entry [row] is not how far the measure falls",
            atol=1e-4,
        )
        assert not effect.requires_grad, "the effects keep a gradient: run the model under torch.no_grad()"


def test_split_by_kernel(split_by_kernel, rng):
    """The kernel's part gives 0, the rest is orthogonal to the kernel, and both add up; W_out of any rank."""
    # d_mlp, d_model, rank; at the end weights that are small, but not 0
    shapes = [(4, 2, 2), (6, 3, 3), (3, 5, 3), (7, 4, 2), (5, 5, 4), (2, 1, 1)]
    for d_mlp, d_model, rank, size in [*((*shape, 1.0) for shape in shapes), (6, 3, 3, 1e-5), (7, 4, 2, 1e-5)]:
        for dtype in (torch.float32, torch.float64):
            basis = torch.linalg.qr(rng.normal(d_mlp, d_mlp, dtype=torch.float64)).Q
            heights = 1 + 4 * rng.uniform(rank, 1).double()
            W_out = (size * basis[:, :rank] @ (heights * rng.normal(rank, d_model, dtype=torch.float64))).to(dtype)
            if rank < min(d_mlp, d_model):  # with columns that repeat each other exactly
                W_out[:, rank:] = W_out[:, :1]
            read = torch.linalg.svd(W_out.double(), full_matrices=False)
            U = read.U[:, read.S / read.S.max() > 1e-6]
            direction, W_out = strided(3 * rng.normal(d_mlp, dtype=dtype)), strided(W_out)
            expected = (U @ (U.T @ direction.double())).to(dtype)
            with unchanged(direction, W_out), nothing_left_behind():
                result = split_by_kernel(direction, W_out)
            assert isinstance(result, tuple | list) and len(result) == 2, (
                "return two tensors: the part in the kernel, and the part that is read"
            )
            parts = [assert_tensor(part, shape=(d_mlp,), dtype=dtype) for part in result]
            said = f"W_out [{d_mlp} {d_model}], of numbers near {size:g}"
            loose = 2e-3 if dtype == torch.float32 else 1e-8
            assert_close(sum(parts), direction, f"{said}: the two parts do not add up", atol=loose, rtol=loose)
            nothing = parts[0].double() @ W_out.double() / size
            assert_close(nothing, torch.zeros(d_model), f"{said}: the kernel's part @ W_out is not 0", atol=10 * loose)
            assert_close(parts[1], expected, f"{said}: the part that is read is wrong", atol=loose, rtol=loose)


def test_answer_illusion(answer_illusion):
    """The whole carries as much, and the kernel hardly takes part."""
    assert_choice(answer_illusion, "c", "which two signs does an illusory subspace have, and are they here?")


# --- 9. Open task


# By method: which control decides.
DECIDES = {
    "attention": "on fresh rows places and content come apart; then see what depends on it",
    "zero": "put the mean in its place: what the head always writes stays",
    "removal": "alone it is not missed, whoever takes over: remove two",
    "direct": "see the total effect: others may read what it writes",
    "overlap": "run the set alone",
    "correlation": "look at fresh rows, on which the head was not chosen",
}


@pytest.mark.seconds(180)
def test_find_fault(find_fault, rng):
    """Unseen claims, three sound and three with each fault: all are named rightly. None of them is near a threshold."""
    slips, asked, first = Counter(), 0, None
    for by, faults in wired.FAULTS.items():
        for truth in ("sound", *faults):
            # Of four seeds: claims are kept, so that many answers can be tried in the time of a few.
            for seed in (1000 + i for i in rng.permutation(4)[:3].tolist()):
                claim = wired.claim(by, truth, seed)
                heads = list(claim.heads)
                with nothing_left_behind(settled(claim.model)), unchanged(claim.rows.tokens, claim.fresh.tokens, heads):
                    named = assert_plain(find_fault(claim), str)
                assert named in ("sound", *faults), f"{named!r} is none of what a claim by {by!r} can have"
                asked += 1
                if named != truth:
                    first = asked - 1 if first is None else first
                    slips[f"{by}: {truth!r} taken for {named!r} ({DECIDES[by]})"] += 1
    if slips:
        said = ", ".join(f"{what}, {n} of 3" for what, n in slips.items())
        raise OverManyCalls(f"of {asked} unseen claims {asked - slips.total()} were named rightly; {said}", first)
