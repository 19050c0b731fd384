"""Checks of 4.2 What features are. They run on made-up numbers, and on concepts that are held in a known way."""

import math
from collections import Counter

import pytest
import torch

from concrete_steps import concepts
from concrete_steps.checking.testing import (
    OverManyCalls,
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

# equivalent mutant of find_kind, any: what names enough of unseen concepts rightly is right
# equivalent mutant of label_by_level, drop strict= of zip: both parts have one length
# equivalent mutant of label_by_level, True -> False: both parts have one length
# equivalent mutant of label_by_level, BitAnd -> Mult: of booleans the product is the and
# equivalent mutant of label_by_level, Eq -> GtE: no interval comes after the last
# equivalent mutant of label_by_level, GtE -> Eq: no share is above 1
# equivalent mutant of best_axis, drop int(...): a whole number in a tensor is an index, too
# equivalent mutant of best_axis, GtE -> Gt: at exactly .5 neither sign was better
# equivalent mutant of best_axis, 0 -> -1: of one axis the first is the last
# equivalent mutant of best_axis, 1 -> 2: of two columns the first is taken
# equivalent mutant of read_back, sum -> mean: the scale does not change an order
# equivalent mutant of read_back, drop dim= of topk: its default is the last axis, of two
# equivalent mutant of read_back, 1 -> -1 (4x): the last axis; two lists of one length share as many either way
# equivalent mutant of read_back, 1 -> 2: two lists of one length share as many either way
# equivalent mutant of left_out, drop dtype= of eye: what it is added to has the dtype
# equivalent mutant of left_out, points -> code (2x): both have one length
# equivalent mutant of left_out, Sub -> Add: x is centred, so that a constant in the code is lost
# equivalent mutant of left_out, keep code[others]: x is centred, so that a constant in the code is lost
# equivalent mutant of closing, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of absorbed, BitAnd -> Mult (2x): of booleans the product is the and
# equivalent mutant of geometry_agreement, 1 -> -1 (2x): of two, the last
# equivalent mutant of shuffle_within, drop .unique(): a group shuffled again is shuffled as fairly
# equivalent mutant of shuffle_within, 0 -> -1: of one axis the first is the last


# --- 1. Levels


def test_label_by_level(label_by_level, rng):
    """Share of words with the label at each level; the largest belongs to the last, nan where no word lies."""
    cases = [
        ([4.0, 2.0, 1.0, 0.0], [True, True, False, True], [0.0, 0.25, 0.5, 1.0]),  # on the edges
        ([-3.0, 1.5, 1.5, 1.2, -0.5], [True, True, False, False, True], [0.0, 0.5, 1.0]),  # below all, and empty
        ([10.0, 9.0, 6.0, 5.5, 3.0, 2.0], [False, True, True, True, False, False], [0.1, 0.25, 0.5, 0.75, 1.0]),
        ([0.5], [True], [0.5, 1.0]),
    ]
    for acts, label, edges in cases:
        for scale in (1.0, 7.0):
            order = rng.permutation(len(acts))
            x, y = strided(scale * torch.tensor(acts)[order]), strided(torch.tensor(label)[order])
            expected = []
            for i in range(len(edges) - 1):
                last = i == len(edges) - 2
                below = math.inf if last else edges[i + 1]
                its = [y for x, y in zip(acts, label, strict=True) if edges[i] <= x / max(acts) < below]
                expected.append(sum(its) / len(its) if its else math.nan)
            given = list(edges)
            with unchanged(x, y, given), nothing_left_behind():
                shares = assert_tensor(label_by_level(x, y, given), shape=(len(edges) - 1,))
            said = f"activations {[round(v, 2) for v in x.tolist()]}, label {y.int().tolist()}, edges {edges}"
            empty = [math.isnan(v) for v in expected]
            assert shares.isnan().tolist() == empty, f"{said}: nan where no word lies, and only there; got {shares}"
            assert_close(shares.nan_to_num(-1.0), torch.tensor(expected).nan_to_num(-1.0), f"{said}: wrong share")


# --- 2. Axes


def ranked(acts, label):
    """auroc of one axis by counting pairs."""
    yes, no = acts[label].tolist(), acts[~label].tolist()
    return sum((a > b) + 0.5 * (a == b) for a in yes for b in no) / (len(yes) * len(no))


def test_best_axis(best_axis, rng):
    """The axis is chosen on the first words, and judged, with the same sign, on the new ones."""
    for words, new, axes, low in [(12, 9, 3, False), (10, 14, 4, True), (8, 8, 1, True), (16, 10, 6, False)]:
        label, new_label = torch.arange(words) < words // 3, torch.arange(new) < new // 2
        label, new_label = label[rng.permutation(words)], new_label[rng.permutation(new)]
        # The best axis on the first words is not the best on the new ones, nor on all.
        acts, new_acts = rng.normal(words, axes), rng.normal(new, axes)
        best = rng.integer(0, axes)
        acts[label.nonzero()[0]] = acts[(~label).nonzero()[0]]  # so that no other axis is without a fault
        acts[:, best] += (-6.0 if low else 6.0) * label
        new_acts[:, best] += (-0.7 if low else 0.7) * new_label
        new_acts[:, (best + 1) % axes] += (0.0 if axes == 1 else 9.0) * new_label
        # Ties on both, and axes of which some are far louder than the best.
        loud = 10.0 ** rng.integer(1, 3) * (torch.arange(axes) != best) + 1
        acts, new_acts = (strided((2 * its).round() / 2 * loud) for its in (acts, new_acts))
        found = torch.tensor([ranked(acts[:, i], label) for i in range(axes)])
        chosen = int((found - 0.5).abs().argmax())
        expected = ranked(new_acts[:, chosen], new_label)
        expected = expected if found[chosen] >= 0.5 else 1 - expected
        with unchanged(acts, label, new_acts, new_label), nothing_left_behind():
            value = assert_plain(best_axis(acts, label, new_acts, new_label), float)
        assert_close(
            value,
            expected,
            f"{axes} axes, {words} first and {new} new words, best by being {'low' if low else 'high'}: not the auroc "
            "on the new words of the axis that tells the label best on the first",
        )


def test_best_axis__turned(best_axis):
    """An axis that is low for the label on the first words, and high on the new ones, has less than one half"""
    label = torch.tensor([True, True, False, False, False])
    acts = torch.tensor([[0.0, 1.0], [1.0, 4.0], [5.0, 2.0], [6.0, 3.0], [7.0, 0.0]])
    new = torch.tensor([[9.0, 0.0], [8.0, 9.0], [1.0, 5.0], [2.0, 3.0], [8.5, 1.0]])
    assert_close(
        best_axis(acts, label, new, label), torch.tensor(1 / 6), "low on the first words, mostly high on the new ones"
    )


def test_best_axis__by_order(best_axis):
    """The axis is the one of the best auroc on the first words: order counts, neither outliers nor size"""
    label = torch.tensor([True, True, True, True, False, False, False, False, False, False])
    orderly = torch.tensor([1.0, 1.1, 1.2, 1.3, 0.0, 0.2, 0.4, 0.6, 0.8, -100.0])  # auroc 1, correlation .3
    loud = torch.tensor([50.0, 50.0, 50.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0])  # auroc .85, correlation .8
    new_label = torch.tensor([True, False, False, True])
    new = torch.tensor([[3.0, 9.0], [1.0, 0.0], [2.0, 0.0], [0.0, 8.0]])
    for low in (False, True):
        first = torch.stack([-orderly if low else orderly, loud], 1)
        later = torch.stack([-new[:, 0] if low else new[:, 0], new[:, 1]], 1)
        assert_close(
            best_axis(first, label, later, new_label),
            torch.tensor(0.5),
            "an axis on which all words with the label come first, one outlier among the others, beside an axis of "
            "auroc .85 with larger values: the first is the better",
        )


# --- 3. Superposition


def test_read_back(read_back, rng):
    """Sum of the k directions, dot products with all, the k largest: the share of those that were on."""
    for features, d, rows, k in [(6, 4, 3, 1), (12, 3, 5, 3), (30, 5, 7, 4), (9, 9, 1, 2), (40, 6, 4, 8)]:
        directions = rng.normal(features, d)
        directions = strided(directions / directions.norm(dim=1, keepdim=True))
        on = torch.stack([rng.permutation(features)[:k] for _ in range(rows)])
        expected = []
        for row in on.tolist():
            stream = sum(directions[i] for i in row)
            reads = [(stream @ direction).item() for direction in directions]
            best = sorted(range(features), key=lambda i: -reads[i])[:k]
            expected.append(len(set(best) & set(row)) / k)
        given = strided(on)
        with unchanged(directions, given), nothing_left_behind():
            shares = assert_tensor(read_back(directions, given), shape=(rows,))
        assert_close(
            shares,
            torch.tensor(expected),
            f"{features} directions in {d} dimensions, {k} on: entry [row] is not the share that is read back",
        )


# --- 4. Lines and circles


def test_left_out(left_out, rng):
    """Each point's code from the others alone: their means, their weights."""
    for n, d, k, ridge in [(5, 8, 1, 0.1), (7, 3, 2, 0.5), (4, 20, 3, 0.01), (9, 2, 1, 2.0), (3, 4, 2, 0.1)]:
        points, code = 3 + rng.normal(n, d, dtype=torch.float64), 5 + 2 * rng.normal(n, k, dtype=torch.float64)
        points, code = strided(points), strided(code)
        expected = []
        for i in range(n):
            x, y = (torch.cat([its[:i], its[i + 1 :]]) for its in (points, code))
            X, Y = x - x.mean(0), y - y.mean(0)
            size = X.square().sum(1).mean()
            # The same weights in the other form, of d by d.
            weights = torch.linalg.inv(X.T @ X + ridge * size * torch.eye(d, dtype=torch.float64)) @ X.T @ Y
            expected.append((points[i] - x.mean(0)) @ weights + y.mean(0))
        with unchanged(points, code), nothing_left_behind():
            said = assert_tensor(left_out(points, code, ridge), shape=(n, k))
        assert_precise(
            said, torch.stack(expected), f"{n} points in {d} dimensions, ridge {ridge}: row i is not foretold", 10
        )


def test_closing(closing, rng):
    """Last to first, over the mean of the n - 1 steps; whatever the scale and the place."""
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    line = torch.arange(5.0)[:, None].repeat(1, 3)
    uneven = torch.tensor([[0.0, 0.0], [1.0, 0.0], [4.0, 0.0], [4.0, 2.0]])
    for what, points, expected in [
        ("a square", square, 1.0),
        ("a line of five points", line, 4.0),
        ("steps of 1, 3 and 2", uneven, 20**0.5 / 2),
        ("three points", torch.tensor([[0.0], [2.0], [1.0]]), 1 / 1.5),
    ]:
        points = strided(rng.integer(1, 5) * points + rng.integer(-3, 3))
        with unchanged(points), nothing_left_behind():
            value = assert_plain(closing(points), float)
        assert_close(value, torch.tensor(expected), f"{what}: not last to first in mean steps")


def test_answer_curve(answer_curve):
    """Ordered, and open."""
    assert_choice(answer_curve, "a", "one number is about the order, the other about the ends: what does each say?")


# --- 5. Dictionaries


def test_absorbed(absorbed, rng):
    """The parent's latent by rows without the child, and how often it is on alone and with the child."""
    cases = [
        # shares on of each latent: (parent alone, parent and child, neither, child alone), and which is the parent's
        ("a hole where the child is on", [(0.9, 0.1, 0.05, 0.05), (0.1, 1.0, 0.0, 0.0), (0.5, 0.5, 0.5, 0.5)], 0),
        ("no hole", [(0.2, 0.3, 0.3, 0.3), (0.8, 0.8, 0.1, 0.1)], 1),
        ("a latent that is always on", [(1.0, 1.0, 1.0, 1.0), (0.4, 0.9, 0.2, 0.2), (0.7, 0.5, 0.0, 0.0)], 2),
        ("only one", [(0.3, 0.7, 0.1, 0.1)], 0),
        ("a child far more frequent", [(0.7, 0.2, 0.1, 0.1), (0.3, 1.0, 0.1, 0.1)], 0),
        ("another latent has the greater hole", [(0.9, 0.8, 0.0, 0.0), (0.6, 0.0, 0.0, 0.0)], 0),
        ("a latent that is silent on the parent", [(0.1, 0.1, 0.9, 0.9), (0.6, 0.5, 0.0, 0.0)], 1),
        ("most rows are without the parent", [(0.9, 0.5, 0.3, 0.3), (0.3, 0.4, 0.0, 0.0)], 0),
        ("a child without its parent", [(0.8, 0.8, 0.0, 1.0), (0.6, 0.7, 0.0, 0.0)], 1),
    ]
    for what, shares, at in cases:
        alone_child = 0 if what == "only one" else 20  # a child may be on without its parent, too
        sizes = (20, 80 if what.startswith("a child far") else 40, 40, alone_child)
        parts = []
        for part, n in enumerate(sizes):
            on = torch.stack([torch.arange(n) < round(share[part] * n) for share in shares], 1)
            parts.append(torch.stack([on[rng.permutation(n), i] for i in range(len(shares))], 1))
        fires = torch.cat(parts)
        row = torch.arange(len(fires))
        parent = row < sizes[0] + sizes[1]
        child = ((row >= sizes[0]) & parent) | (row >= len(fires) - alone_child)
        order = rng.permutation(len(fires))
        fires, parent, child = strided(fires[order]), strided(parent[order]), strided(child[order])
        with unchanged(fires, parent, child), nothing_left_behind():
            rates = absorbed(fires, parent, child)
        assert isinstance(rates, tuple | list) and len(rates) == 2, "return two numbers: without the child, and with it"
        rates = [assert_plain(rate, float) for rate in rates]
        expected = [round(shares[at][part] * n) / n for part, n in enumerate(sizes[:2])]
        parts_are = "(share on: parent alone, parent and child, neither, child alone)"
        assert_close(torch.tensor(rates), torch.tensor(expected), f"{what}: latents {shares} {parts_are}")


# --- 6. Across models


def test_geometry_agreement(geometry_agreement, rng):
    """Cosines of pairs of different words after the mean was taken off, correlated over pairs."""
    for words, d, e, alike in [(4, 3, 5, True), (7, 6, 2, False), (9, 4, 4, True), (3, 5, 4, False)]:
        a = rng.normal(words, d) * (0.2 + 5 * rng.uniform(words, 1)) + 2
        b = rng.normal(words, e) - 1
        if alike:
            turned = torch.linalg.qr(rng.normal(max(d, e), max(d, e))).Q[:d, :e]
            b = 3 * a @ turned + 0.1 * rng.normal(words, e) + rng.normal(e)
        a, b = strided(a), strided(b)

        def cosines(x, words=words):
            x = (x - x.mean(0)).double()
            return [
                (x[i] @ x[j] / (x[i].norm() * x[j].norm())).item() for i in range(words) for j in range(i + 1, words)
            ]

        expected = torch.corrcoef(torch.tensor([cosines(a), cosines(b)]))[0, 1]
        with unchanged(a, b), nothing_left_behind():
            value = assert_plain(geometry_agreement(a, b), float)
        assert_close(
            value, expected, f"{words} words, {d} and {e} dimensions: not the correlation", rtol=1e-3, atol=1e-4
        )


def test_shuffle_within(shuffle_within, rng):
    """An order that stays in its groups, each equally likely, by the seed."""
    for groups in ([0, 0, 1, 1, 1], [7, 2, 7, 2, 7, 2, 2, 7], [3], [1, 2, 3], [5] * 6, [0, 0, 0, 2, 2, 2, 2]):
        given = strided(torch.tensor(groups)[rng.permutation(len(groups))])
        seed = rng.integer(0, 10_000)
        with unchanged(given), nothing_left_behind():
            order = assert_tensor(shuffle_within(given, seed), shape=(len(groups),))
        assert order.dtype in (torch.int64, torch.int32), (
            f"an order is of whole numbers (such as torch.int64), so that it can index; got {order.dtype}"
        )
        said = f"groups {given.tolist()}: order {order.tolist()}"
        assert sorted(order.tolist()) == list(range(len(groups))), f"{said} does not hold each word once"
        assert torch.equal(given[order], given), f"{said} puts a word where another group was"
        assert torch.equal(order, shuffle_within(given, seed)), f"{said}; the same seed gave another the second time"
    groups, draws = torch.tensor([4, 1, 4, 1, 4, 1]), 720
    first = rng.integer(0, 10_000)
    seen = Counter(tuple(shuffle_within(groups, first + i).tolist()) for i in range(draws))
    said = f"groups {groups.tolist()}, {draws} seeds: of the 36 orders that there are"
    assert len(seen) > 1, f"{said} one came up: does not shuffle, or not by the seed"
    assert len(seen) == 36, f"{said} {len(seen)} came up: each is equally likely, the groups apart from each other"
    assert max(seen.values()) < 50, f"{said} one came up {max(seen.values())} times, where 20 were to be expected"


def test_answer_universal(answer_universal):
    """Partly, and by training."""
    assert_choice(answer_universal, "c", "what do the two nulls rule out, and how far from 1 is it?")


# --- 7. Open task


@pytest.mark.seconds(60)
def test_find_kind(find_kind, rng):
    """Unseen concepts, six of each kind: nine of ten are named rightly, in any order of rows and neurons."""
    wrong, said_of, calls, first = Counter(), Counter(), 0, None
    for kind in concepts.KINDS:
        for seed in (1000 + i for i in rng.permutation(400)[:6].tolist()):
            concept = concepts.concept(kind, seed)
            with unchanged(concept.acts, concept.value), nothing_left_behind():
                named = assert_plain(find_kind(concept), str)
            assert named in concepts.KINDS, f"{named!r} is not among concepts.KINDS"
            wrong[f"{kind!r} taken for {named!r}"] += named != kind
            said_of[kind, named] += 1
            first = calls if named != kind and first is None else first
            calls += 1
    asked = 6 * len(concepts.KINDS)
    missed = ", ".join(f"{what} ({n} of 6)" for what, n in wrong.items() if n)
    said = f"of {asked} unseen concepts {asked - wrong.total()} were named rightly; {missed}"
    says = {named for _, named in said_of}

    def every(kinds, named):
        return all(said_of[kind, named] == 6 for kind in kinds)

    straight, bent = ("neuron", "direction"), ("arc", "circle")
    finds = "finds something in every noise: with so many neurons all that is fitted fits its own rows"
    direction = "takes every straight line for a direction: look at how well one axis alone does"
    neuron = "takes every straight line for a neuron: does one axis alone do as well as the best direction?"
    tells = {
        "says the same of all concepts that it was asked about": len(says) == 1,
        finds: "nothing" not in says,
        "never says circle or arc: they are more than their line": not says & set(bent),
        "takes every bent line for a circle: do the ends meet?": every(bent, "circle"),
        direction: every(straight, "direction"),
        neuron: every(straight, "neuron"),
    }
    said += next((f": it {what}" for what, is_so in tells.items() if is_so), "")
    if wrong.total() > 0.1 * asked:
        raise OverManyCalls(said, first)
    # The order of rows and of neurons does not matter, nor does a constant added to a neuron.
    for kind in ("circle", "neuron"):
        concept = concepts.concept(kind, seed=5)
        rows = torch.arange(len(concept.value)).flip(0)
        other = concepts.Concept(concept.acts[rows].flip(1) + 1, concept.value[rows], concept.n_values)
        assert_equal(find_kind(other), kind, f"{kind!r}, rows and neurons in reverse order")
