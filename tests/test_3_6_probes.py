"""Checks of 3.6 Probes. They run on made-up activations, tiny random models, and models of known truth."""

# equivalent mutant of causal_probe_test, drop stack(...): one's own measure_when_moved goes through either
# equivalent mutant of causal_probe_test, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of collect_activations, drop names_filter= of run_with_cache: more is kept than is read
# equivalent mutant of collect_activations, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of collect_activations, 1 -> 2 (2x): a later layer or a later position more changes nothing
# equivalent mutant of confounded_dataset, drop strict= of zip: each thing has a neighbour
# equivalent mutant of confounded_dataset, True -> False: of `strict`: each thing has a neighbour
# equivalent mutant of confounded_dataset, Lt -> LtE: a draw is on the border with probability 2^-24
# equivalent mutant of confounded_dataset, drop .item(): a tensor of one truth value is as true
# equivalent mutant of confounded_dataset, 1 -> -1: of a pair, 1 is the last
# equivalent mutant of generalisation_matrix, zeros -> ones: each entry is written afterwards
# equivalent mutant of generalisation_matrix, acts -> labels (5x): the dicts hold the same sets in one order
# equivalent mutant of generalisation_matrix, acts -> folds (5x): the dicts hold the same sets in one order
# equivalent mutant of group_folds, drop .tolist(): a list takes a whole number in a tensor for a place
# equivalent mutant of held_out_correct, drop .unique(): a fold's rows are written again, the same
# equivalent mutant of logistic_probe, zeros -> ones: it is convex: from anywhere to one least value
# equivalent mutant of logistic_probe, drop max_iter= of LBFGS: at the check's sizes 20 steps are near enough
# equivalent mutant of logistic_probe, 300 -> 301: it is there long before
# equivalent mutant of logistic_probe, 300 -> 299: it is there long before
# equivalent mutant of logistic_probe, drop .detach() (2x): of the gradient nothing is said; activations have none
# equivalent mutant of logistic_probe, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of probe_against_baseline, drop sorted(...): a vocabulary has any order; of groups it is rejected
# equivalent mutant of probe_against_baseline, drop .to(): nothing is said of the counts' dtype
# equivalent mutant of probe_against_baseline, drop argument 0 of to: nothing is said of the counts' dtype
# equivalent mutant of probe_against_baseline, 1 -> -1: of a pair, 1 is the last
# equivalent mutant of random_directions, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of shuffled_label_control, drop set(...): a group is drawn once for each row; the last draw counts
# equivalent mutant of shuffled_label_control, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of collect_activations, drop padding_side= of to_tokens: the course's tokenizers pad on the right
# equivalent mutant of collect_activations, drop stop_at_layer= of run_with_cache: the run is only longer
# equivalent mutant of collect_activations, [:last[rows].max() + 1] -> [:]: later padding changes nothing before it
# equivalent mutant of confounded_dataset, swap arguments 0 and 1 of zip: a couple's order and name are open
# equivalent mutant of logistic_probe, drop line_search_fn= of LBFGS: at the check's sizes it is near enough

import contextlib
import functools
import re
from collections import Counter
from typing import NamedTuple

import pytest
import torch

from concrete_steps import wired
from concrete_steps.checking.testing import (
    as_found,
    assert_choice,
    assert_close,
    assert_independent,
    assert_mostly_found,
    assert_precise,
    assert_tensor,
    drawn_bridge,
    nothing_left_behind,
    settled,
    strided,
    unchanged,
)

WORDS = ["Mary", "Tom", "gave", "the", "cup", "to", "in", "a", "house", "ball", "and", "red", "small", "."]


# --- 1. Collecting activations


def text_of(rng, n, end=""):
    """With an `end` such as "." a text has more tokens than words."""
    return " ".join(rng.choice(WORDS) for _ in range(n)) + end


@torch.no_grad()
def last_of_one(model, text, layers):
    """[layer d_model]: the text alone, its last position."""
    _, cache = model.run_with_cache(model.to_tokens(text), names_filter=lambda name: name.endswith("resid_post"))
    return torch.stack([cache["resid_post", layer][0, -1] for layer in layers])


@contextlib.contextmanager
def with_gradients(model):
    """The model as one that is trained: what is computed keeps a gradient, unless somebody says no."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, wanted in before:
            parameter.requires_grad_(wanted)


def test_collect_activations(collect_activations, story_lm, attn_only_2l, rng):
    """What each text gives when it runs alone: one, several, of one length or not, layers in any order."""
    cases = [
        (story_lm, [3, 6, 2, 9], [0, 2]),
        (attn_only_2l, [4], [1]),
        (story_lm, [1, 1, 12], [2, 1]),
        (story_lm, [5, 5], [1]),
    ]
    for model, lengths, layers in cases:
        texts, asked = [text_of(rng, n, "." * (i % 2)) for i, n in enumerate(lengths)], list(layers)
        expected = torch.stack([last_of_one(model, text, layers) for text in texts])
        with unchanged(texts, asked), with_gradients(model), nothing_left_behind(settled(model)):
            acts = assert_tensor(collect_activations(model, texts, asked), shape=expected.shape, dtype=expected.dtype)
        said = f"for texts of {lengths} words and layers {layers}, entry [text, layer]"
        assert_close(acts, expected, f"{said} is not what the text alone has at its last token", atol=1e-4, rtol=1e-3)
    assert not acts.requires_grad, "the activations keep a gradient: run the model under torch.no_grad()"


def test_collect_activations__many(collect_activations, attn_only_2l, rng):
    """More texts than fit into one run, in their order"""
    lengths = [1 + rng.integer(0, 5) for _ in range(70)]
    texts = [text_of(rng, n) for n in lengths]
    largest = []
    watch = [("blocks.0.hook_resid_post", lambda x, hook: largest.append(len(x)))]
    with attn_only_2l.hooks(fwd_hooks=watch):
        acts = assert_tensor(collect_activations(attn_only_2l, texts, [1]), shape=(70, 1, attn_only_2l.cfg.d_model))
    for i in (0, 31, 32, 63, 64, 69):
        expected = last_of_one(attn_only_2l, texts[i], [1])
        assert_close(acts[i], expected, f"of 70 texts, number {i} is not what it has alone", atol=1e-4, rtol=1e-3)
    assert not largest or max(largest) <= 64, f"{max(largest)} texts went through the model in one run: at most 64"


def test_answer_padding(answer_padding):
    """A position of padding has read the whole text, and is still not the text's last token."""
    assert_choice(answer_padding, "b", "what stands at position -1 of the shorter text? Does it depend on the text?")


# --- 2. The simplest probe


def as_parts(probe, d_model, dtype):
    """Direction and bias of what should be a Probe."""
    assert hasattr(probe, "direction") and hasattr(probe, "bias"), (
        f"the result is a {type(probe).__name__}: return Probe(direction, bias)"
    )
    direction = assert_tensor(probe.direction, shape=(d_model,), dtype=dtype)
    assert direction.isfinite().all(), "the direction is not finite"
    return direction.detach(), torch.as_tensor(probe.bias).detach().to(dtype)


def labelled(rng, rows, d_model, apart=1.0, dtype=torch.float32, true=None):
    """Noise, with the true rows moved; both labels occur."""
    labels = torch.zeros(rows, dtype=torch.bool)
    labels[rng.permutation(rows)[: true or rng.integer(1, rows)]] = True
    towards = rng.normal(d_model, dtype=dtype)
    return rng.normal(rows, d_model, dtype=dtype) + apart * labels[:, None] * towards, labels


def test_mean_difference_probe(mean_difference_probe, rng):
    """The direction from mean to mean, up to its length, and 0 half-way; labels of unequal number."""
    for rows, d_model, true in [(7, 3, 2), (2, 4, 1), (12, 1, 9), (40, 6, 31), (9, 2, 4)]:
        dtype = torch.float64 if rows == 40 else torch.float32
        acts, labels = labelled(rng, rows, d_model, dtype=dtype, true=true)
        acts = strided(acts + 3)  # far from 0: a threshold at 0 is no good
        with unchanged(acts, labels), nothing_left_behind():
            direction, bias = as_parts(mean_difference_probe(acts, labels), d_model, dtype)
        means = [
            torch.stack([row for row, label in zip(acts, labels, strict=True) if label == kind]).mean(0)
            for kind in (True, False)
        ]
        wanted, length = means[0] - means[1], direction.norm()
        assert length > 0, "the direction is 0"
        said = f"{true} of {rows} rows are true; "
        turned = (direction / length + wanted / wanted.norm()).norm()
        assert turned > 1e-3, f"{said}the direction points from true to false: true minus false"
        assert_precise(
            direction / length,
            wanted / wanted.norm(),
            f"{said}the direction is not mean of the true rows minus mean of the false ones",
            loosen=10,
        )
        at_middle = (direction @ (means[0] + means[1]) / 2 + bias) / (direction @ wanted)
        assert abs(at_middle) < (1e-3 if dtype == torch.float32 else 1e-7), (
            f"{said}half-way between the means the score is not 0, but {at_middle:.3g} of their scores' distance"
        )


def test_group_folds(group_folds, rng):
    """Groups stay whole, folds have the same number of groups or one more, and every fold comes."""
    for n_groups, n_folds, most in [(6, 3, 4), (7, 3, 3), (4, 4, 1), (11, 3, 6), (9, 1, 2)]:
        groups = [f"{chr(97 + i)}{i}" for i in range(n_groups) for _ in range(rng.integer(1, most + 1))]
        groups = [groups[i] for i in rng.permutation(len(groups)).tolist()]
        given = list(groups)
        with unchanged(given), nothing_left_behind():
            folds = assert_tensor(group_folds(given, n_folds, rng.integer(0, 1000)), shape=(len(groups),))
        assert not folds.is_floating_point(), f"folds are whole numbers, these are {folds.dtype}"
        assert set(folds.tolist()) <= set(range(n_folds)), (
            f"{n_folds} folds: numbers from 0 to {n_folds - 1}, here {sorted(set(folds.tolist()))}"
        )
        of_group = {}
        for group, fold in zip(groups, folds.tolist(), strict=True):
            of_group.setdefault(group, set()).add(fold)
        torn = {group: sorted(its) for group, its in of_group.items() if len(its) > 1}
        assert not torn, (
            f"groups are torn apart, such as {dict(list(torn.items())[:1])}: all rows of a group are in one fold"
        )
        sizes = [sum(fold in its for its in of_group.values()) for fold in range(n_folds)]
        assert max(sizes) - min(sizes) <= 1, f"{n_groups} groups in {n_folds} folds: the folds have {sizes} groups"


class Name(str):
    """A name whose hash depends on `salt`, as that of every str depends on the session."""

    def __new__(cls, text, salt):
        name = super().__new__(cls, text)
        name.salt = salt
        return name

    def __getnewargs__(self):
        return str(self), self.salt

    def __hash__(self):
        return hash((self.salt, str(self)))


def test_group_folds__random(group_folds, rng):
    """Drawn by the seed alone: the same again, and any two groups as often together as others"""
    groups, first = [name for name in "abcdef" for _ in range(2)], rng.integer(0, 10_000)
    together = torch.zeros(6, 6)
    for seed in range(first, first + 400):
        folds = group_folds(list(groups), 2, seed)
        if seed < first + 5:
            assert torch.equal(folds, group_folds(list(groups), 2, seed)), (
                "the same seed gave other folds the second time"
            )
        its = folds[::2]
        together += its[:, None] == its[None]
    shares = (together / 400)[~torch.eye(6, dtype=torch.bool)]
    names = [f"{chr(97 + i)}{i}" for i in range(11) for _ in range(2)]
    sessions = [tuple(group_folds([Name(name, salt) for name in names], 3, first).tolist()) for salt in range(4)]
    assert len(set(sessions)) == 1, (
        "the same seed gives other folds in another session of Python, where a set has another order: sort it"
    )
    # 0.4 for any pair; five standard deviations
    said = f"over 400 seeds two of six groups are in one fold in {shares.min():.0%} to {shares.max():.0%} of the draws"
    assert (shares - 0.4).abs().max() < 0.125, f"{said}; evenly drawn: 40 %"


class Direction(NamedTuple):
    """What a fit of the check's own returns."""

    direction: torch.Tensor
    bias: torch.Tensor


def by_sum(acts, labels):
    """A probe that depends on every row that it sees, and on its label."""
    signs = 2.0 * labels - 1
    return Direction((signs[:, None] * acts).sum(0), -(acts @ (signs[:, None] * acts).sum(0)).mean())


def correct_by_hand(acts, labels, folds, fit):
    correct = []
    for i in range(len(acts)):
        others = folds != folds[i]
        probe = fit(acts[others], labels[others])
        correct.append(bool((acts[i] @ probe.direction + probe.bias > 0) == labels[i]))
    return torch.tensor(correct)


def test_held_out_correct(held_out_correct, rng):
    """Each row is called by a probe that was fitted to the other folds' rows, all of them, and to no other."""
    for rows, d_model, n_folds in [(12, 3, 3), (6, 2, 2), (20, 5, 4), (15, 1, 5)]:
        acts, labels = labelled(rng, rows, d_model, apart=0.7, true=rows // 2)
        acts = strided(acts)
        folds = torch.arange(rows)[rng.permutation(rows)] % n_folds
        folds[folds == n_folds - 1] = n_folds + 2  # numbers may have gaps
        expected = correct_by_hand(acts, labels, folds, by_sum)
        with unchanged(acts, labels, folds), nothing_left_behind():
            correct = assert_tensor(held_out_correct(acts, labels, folds, by_sum), shape=(rows,))
        wrong = (correct.bool() != expected).nonzero().flatten().tolist()
        said = f"with {rows} rows in {n_folds} folds, whether row {wrong[0] if wrong else 0} is called right is wrong"
        assert not wrong, f"{said} ({len(wrong)} rows of {rows} differ)"
        assert correct.dtype == torch.bool, f"expected dtype bool, got {str(correct.dtype).removeprefix('torch.')}"


def test_answer_split(answer_split):
    """What is independent is the couple."""
    assert_choice(answer_split, "c", "which rows of the test does the probe know something about from training?")


# --- 3. Shuffled labels, the best layer chosen each time


def null_by_hand(acts, labels, groups, folds, draws, rng):
    """The control, drawn by the check."""
    rows_of = [torch.tensor([i for i, its in enumerate(groups) if its == group]) for group in dict.fromkeys(groups)]
    best = torch.zeros(draws)
    for draw in range(draws):
        shuffled = labels.clone()
        for rows in rows_of:
            shuffled[rows] = labels[rows[rng.permutation(len(rows))]]
        for layer in range(acts.shape[1]):
            right = 0
            for fold in folds.unique():
                here = folds == fold
                probe = means_probe(acts[~here, layer], shuffled[~here])
                right += ((acts[here, layer] @ probe.direction + probe.bias > 0) == shuffled[here]).sum()
            best[draw] = max(best[draw], right / len(acts))
    return best


def means_probe(acts, labels):
    true, false = acts[labels].mean(0), acts[~labels].mean(0)
    return Direction(true - false, -(true - false) @ (true + false) / 2)


def couples(rng, n_groups, size, n_folds):
    """[row] groups, labels (half of each group true) and folds, in a random order of rows."""
    groups = [f"g{i}" for i in range(n_groups) for _ in range(size)]
    labels = torch.tensor([i % 2 == 0 for _ in range(n_groups) for i in range(size)])
    folds = torch.tensor([i % n_folds for i in range(n_groups) for _ in range(size)])
    order = rng.permutation(len(groups))
    return [groups[i] for i in order.tolist()], labels[order], folds[order]


def says_always(acts, labels):
    """Says true of everything."""
    return Direction(torch.zeros(acts.shape[1]), torch.tensor(1.0))


def by_sign(acts, labels):
    return Direction(((2.0 * labels - 1)[:, None] * acts).sum(0), torch.tensor(0.0))


DRAWS = 40


def test_shuffled_label_control(shuffled_label_control, rng):
    """The best of the layers, labels shuffled within groups in fitting and testing: mean and spread as expected."""
    # layers of noise; one that knows the labels; copies of one layer
    cases = [(12, "noise", 6, 2), (1, "noise", 6, 2), (1, "knows", 2, 20), (9, "copies", 5, 2)]
    for n_layers, kind, n_groups, size in cases:
        groups, labels, folds = couples(rng, n_groups, size, 2)
        rows = len(groups)
        acts = rng.normal(rows, n_layers, 3)
        if kind == "knows":
            acts[:, 0, 0] += 8 * (2.0 * labels - 1)
        if kind == "copies":
            acts = acts[:, :1].repeat(1, n_layers, 1)
        acts, given = strided(acts), list(groups)
        with unchanged(acts, labels, given, folds), nothing_left_behind():
            null = shuffled_label_control(acts, labels, given, folds, means_probe, DRAWS, rng.integer(0, 10_000))
        null = assert_tensor(null, shape=(DRAWS,)).float()
        off = ((null * rows).round() - null * rows).abs().max()
        assert off < 1e-3, (
            f"with {rows} rows an accuracy is a multiple of 1/{rows}; these are not: the best layer's, no mean"
        )
        expected = null_by_hand(acts, labels, groups, folds, DRAWS, rng)
        allowed = 5 * ((expected.var() + null.var()) / DRAWS).sqrt() + 1e-6  # five standard errors
        said = f"{n_layers} layer(s) ({kind}), {DRAWS} draws: mean {null.mean():.3f}"
        said += f", by the check's own draws {expected.mean():.3f}"
        assert (null.mean() - expected.mean()).abs() < allowed, said
        wide = null.std() / expected.std().clamp(min=0.02)
        assert wide < 2.3, f"{said}; the draws spread by {null.std():.3f}, the check's by {expected.std():.3f}"


def test_shuffled_label_control__within(shuffled_label_control, rng):
    """Labels change places within their groups only; draws differ, and the seed decides"""
    groups, labels, folds = couples(rng, 8, 3, 2)
    labels = torch.tensor(
        [int(group[1:]) % 4 < 2 for group in groups]
    )  # the same in all of a group: nothing to shuffle
    acts = rng.normal(24, 2, 3)
    acts[:, 1, 0] += 20 * (2.0 * labels - 1)
    null = shuffled_label_control(acts, labels, list(groups), folds, means_probe, 5, 0)
    assert_close(
        null.float(),
        torch.ones(5),
        "all rows of a group have one label, which a shuffle within it leaves: a layer that knows it is always right",
    )
    groups, labels, folds = couples(rng, 7, 4, 2)
    null = shuffled_label_control(rng.normal(28, 2, 3), labels, list(groups), folds, says_always, 8, 0)
    assert_close(
        null.float(),
        torch.full((8,), 0.5),
        "a probe that always says true is right on the share of true labels, one half, and no shuffle within groups "
        "changes that: labels change places, and `fit` makes the probe",
    )
    # A couple's two rows lie in different folds: the probe says of one the opposite of the other's label.
    groups, labels, folds = [f"g{i // 2}" for i in range(12)], torch.arange(12) % 2 == 0, torch.arange(12) % 2
    signs = torch.tensor([1.0, -1.0]).repeat(6)[:, None]
    acts = (signs * torch.eye(6).repeat_interleave(2, 0))[:, None]
    null = shuffled_label_control(acts, labels, list(groups), folds, by_sign, 5, 0)
    assert_close(
        null.float(),
        torch.ones(5),
        "a couple's two labels are opposite in every shuffle, and a probe that says of one row the opposite of what "
        "it was fitted to on the other is right each time: fit to, and test on, the same shuffled labels",
    )
    groups, labels, folds = couples(rng, 10, 2, 2)
    acts = rng.normal(20, 2, 3)
    call = functools.partial(shuffled_label_control, acts, labels, list(groups), folds, means_probe, 20)
    draws, again, other = call(3), call(3), call(4)
    assert torch.equal(draws, again), "the same seed gave other numbers the second time"
    assert not torch.equal(draws, other), "another seed gave the same numbers"
    for salt in range(4):
        renamed = [Name(name, salt) for name in groups]
        assert torch.equal(draws, shuffled_label_control(acts, labels, renamed, folds, means_probe, 20, 3)), (
            "the same seed gives other numbers in another session of Python, where a set has another order: sort it"
        )
    assert draws.unique().numel() > 1, "all draws are the same: shuffle anew for each"


def test_answer_best(answer_best):
    """The null has to choose as the finding did."""
    assert_choice(answer_best, "a", "the .68 was the best of 30: what is the best of 30 when labels mean nothing?")


# --- 4. Logistic


def objective(direction, bias, acts, labels, penalty):
    scores = acts @ direction + bias
    signs = 2.0 * labels.to(acts.dtype) - 1
    return torch.nn.functional.softplus(-signs * scores).mean() + penalty / 2 * (direction**2).sum()


def least(acts, labels, penalty):
    """The least value, by Newton's method in float64."""
    x = torch.cat([acts.double(), torch.ones(len(acts), 1, dtype=torch.double)], dim=1)
    y, w = labels.double(), torch.zeros(x.shape[1], dtype=torch.double)
    cost = torch.full_like(w, penalty)
    cost[-1] = 0

    def value(w):
        return float(objective(w[:-1], w[-1], x[:, :-1], labels, penalty))

    for _ in range(50):
        p = torch.sigmoid(x @ w)
        gradient = x.T @ (p - y) / len(y) + cost * w
        hessian = (x.T * (p * (1 - p))) @ x / len(y) + torch.diag(cost + 1e-9)
        step, size = torch.linalg.solve(hessian, gradient), 1.0
        while value(w - size * step) > value(w) and size > 1e-6:
            size /= 2
        w = w - size * step
    return w[:-1], w[-1]


# Rows, numbers a row, true rows, penalty, how far apart; the last is of the course's size: more numbers than rows.
PROBED = [(30, 3, 8, 0.1, 1.0), (8, 12, 4, 0.05, 2.0), (60, 2, 50, 1.0, 0.5), (96, 576, 45, 0.001, 0.1)]


def test_logistic_probe(logistic_probe, rng):
    """Its loss with the penalty is the least there is, to 0.001: few and many rows, separable or not, labels uneven."""
    for rows, d_model, true, penalty, apart in PROBED:
        dtype = torch.float64 if rows == 60 else torch.float32
        acts, labels = labelled(rng, rows, d_model, apart, dtype, true)
        acts = strided(acts + 0.5)
        with unchanged(acts, labels), nothing_left_behind():
            direction, bias = as_parts(logistic_probe(acts, labels, penalty), d_model, dtype)
        w, b = least(acts, labels, penalty)
        x = acts.double()
        mine, best = (
            float(objective(*probe, x, labels, penalty)) for probe in ((direction.double(), bias.double()), (w, b))
        )
        said = (
            f"{rows} rows of {d_model} numbers, {true} true, penalty {penalty}: the loss with the penalty is {mine:.4f}"
        )
        assert mine < best + 0.001, f"{said}, and {best:.4f} can be reached"


def test_logistic_probe__default(logistic_probe, rng):
    """The penalty is 0.1 unless another is given"""
    acts, labels = labelled(rng, 30, 4, 1.5, true=15)
    with torch.no_grad(), nothing_left_behind():
        direction, bias = as_parts(logistic_probe(acts, labels), 4, torch.float32)
    mine, best = (
        float(objective(*probe, acts.double(), labels, 0.1))
        for probe in ((direction.double(), bias.double()), least(acts, labels, 0.1))
    )
    assert mine < best + 0.001, (
        f"without a third argument the loss with a penalty of 0.1 is {mine:.4f}, and {best:.4f} can be reached"
    )


# --- 5. From one set to another


def test_generalisation_matrix(generalisation_matrix, rng):
    """Entry [train, test]: probes of the first set, judged on the second's rows of the fold that they did not see."""
    for sizes, n_folds, d_model in [((11, 15), 2, 3), ((9, 13, 7), 3, 2), ((8,), 2, 4)]:  # folds of unequal size
        acts, labels, folds = {}, {}, {}
        for i, rows in enumerate(sizes):
            name = "pqr"[-1 - i]
            acts[name], labels[name] = labelled(rng, rows, d_model, apart=0.8, true=rows // 2)
            folds[name] = torch.arange(rows)[rng.permutation(rows)] % n_folds
        names = list(acts)
        expected = torch.zeros(len(names), len(names))
        for i, train in enumerate(names):
            for j, test in enumerate(names):
                right = []
                for row in range(len(acts[test])):
                    seen = folds[train] != folds[test][row]
                    probe = by_sum(acts[train][seen], labels[train][seen])
                    right.append(bool((acts[test][row] @ probe.direction + probe.bias > 0) == labels[test][row]))
                expected[i, j] = torch.tensor(right).float().mean()
        with unchanged(acts, labels, folds), nothing_left_behind():
            matrix = assert_tensor(generalisation_matrix(acts, labels, folds, by_sum), shape=expected.shape)
        assert_close(
            matrix.float(),
            expected,
            f"for {len(names)} sets of {sizes} rows in {n_folds} folds, entry [train, test] is not the share of all "
            "rows of the test set that are called right by a probe that did not see their fold",
        )


def test_answer_negated(answer_negated):
    """A direction that flips with "not" is not truth."""
    assert_choice(answer_negated, "c", "what do the two sets have in common, and what is opposite in them?")


# --- 6. Confounds


def of_statement(statement):
    """Text, truth and couple of what should be a Statement."""
    parts = [getattr(statement, name, None) for name in ("text", "true", "about")]
    assert isinstance(parts[0], str) and parts[1] is not None and parts[2] is not None, (
        f"the list holds {statement!r:.60}: it should hold Statement(text, true, about)"
    )
    return parts[0], bool(parts[1]), parts[2]


def things_of(rng, n):
    return [(f"t{i}x", f"s{rng.integer(0, 1000)}q{i}") for i in range(n)]


TEMPLATES = ("First {thing}, then {said}.", "{said}: that is {thing}")


def check_statements(statements, things, templates):
    """Each couple's four statements, right ones true, all with one `about`; returns how often the template agrees."""
    found = [of_statement(each) for each in statements]
    wanted = {}
    for (a, of_a), (b, of_b) in zip(things[::2], things[1::2], strict=True):
        for thing, said, true in ((a, of_a, True), (a, of_b, False), (b, of_b, True), (b, of_a, False)):
            for number, template in enumerate(templates):
                wanted[template.format(thing=thing, said=said)] = (true, frozenset((a, b)), number)
    assert len(found) == 2 * len(things), (
        f"{len(things)} things make {2 * len(things)} statements, four a couple; here are {len(found)}"
    )
    agrees, couple_of = [], {}
    for text, true, about in found:
        assert text in wanted, (
            f"{text!r} is no statement of a couple: a thing with its own, or with what is said of its partner"
        )
        right, couple, number = wanted[text]
        assert true == right, f"{text!r} is called {true}; of {things[:2]} it is {right}"
        couple_of.setdefault(couple, set()).add(about)
        agrees.append((number == 0) == right)
    assert len({text for text, _, _ in found}) == len(found), "a statement comes twice"
    torn = [sorted(couple) for couple, names in couple_of.items() if len(names) > 1]
    assert not torn, f"the statements of the couple {torn[:1]} do not have the same `about`"
    shared = len({name for names in couple_of.values() for name in names})
    assert shared == len(couple_of), "two couples have the same `about`"
    return agrees, [wanted[text][2] for text, _, _ in found], [true for _, true, _ in found]


def test_confounded_dataset(confounded_dataset, rng):
    """Four statements for each couple, right ones true; the template follows the truth always, never, or by chance."""
    for n, agreement in [(4, 1.0), (2, 0.0), (6, 0.5), (10, 1.0)]:
        things = things_of(rng, n)
        given = list(things)
        with unchanged(given), nothing_left_behind():
            statements = confounded_dataset(given, TEMPLATES, agreement, rng.integer(0, 1000))
        agrees, _, _ = check_statements(statements, things, TEMPLATES)
        if agreement in (0.0, 1.0):
            share = sum(agrees) / len(agrees)
            assert share == agreement, (
                f"with agreement {agreement:.0f}, {share:.0%} of the statements have the template of their truth"
            )


def test_confounded_dataset__random(confounded_dataset, rng):
    """The share is that of `agreement`, for true and false ones alike; each statement by itself; the seed decides"""
    things, seed = things_of(rng, 400), rng.integer(0, 10_000)
    for agreement in (0.8, 0.5, 0.25):
        statements = confounded_dataset(list(things), TEMPLATES, agreement, seed)
        agrees, _, truths = check_statements(statements, things, TEMPLATES)
        for kind in (True, False):
            its = [agree for agree, true in zip(agrees, truths, strict=True) if true == kind]
            share = sum(its) / len(its)
            # 400 statements, five standard deviations
            assert abs(share - agreement) < 5 * (agreement * (1 - agreement) / 400) ** 0.5, (
                f"with agreement {agreement}, {share:.0%} of the {'true' if kind else 'false'} statements use the "
                f"{'first' if kind else 'second'} template"
            )
        pairs = torch.tensor(agrees).float().reshape(-1, 4)
        pairs = pairs - agreement
        for i in range(4):
            for j in range(i):
                alike = float((pairs[:, i] * pairs[:, j]).mean() / (agreement * (1 - agreement)))
                assert abs(alike) < 6 / 200**0.5, (
                    f"two statements of a couple go together (correlation {alike:.2f}): draw each statement by itself"
                )
    again = confounded_dataset(list(things), TEMPLATES, 0.25, seed)
    assert list(again) == list(statements), "the same seed gave other statements the second time"
    other = confounded_dataset(list(things), TEMPLATES, 0.25, seed + 1)
    assert [of_statement(each)[0] for each in other] != [of_statement(each)[0] for each in statements], (
        "another seed gave the same statements"
    )


def test_bag_of_words(bag_of_words, rng):
    """Counts of whole words, letters only, lower case, in the vocabulary's order."""
    vocabulary = ["the", "capital", "rome", "is", "he", "not", "t"]
    vocabulary = [vocabulary[i] for i in rng.permutation(len(vocabulary)).tolist()]
    texts = ["The capital is Rome.", "Rome, not the Rome: the ROME", "", "Isn't he there? 3rome4", "Paris"]
    for some in (texts, texts[3:4], texts[4:]):
        words = [re.findall("[a-z]+", text.lower()) for text in some]
        expected = torch.zeros(len(some), len(vocabulary))
        for i, its in enumerate(words):
            for word, n in Counter(its).items():
                if word in vocabulary:
                    expected[i, vocabulary.index(word)] = n
        given, listed = list(some), list(vocabulary)
        with unchanged(given, listed), nothing_left_behind():
            counts = assert_tensor(bag_of_words(given, listed), shape=expected.shape)
        assert counts.is_floating_point(), f"expected floating-point numbers (probes multiply them), got {counts.dtype}"
        for text, mine, right in zip(some, counts, expected, strict=True):
            assert_close(mine.float(), right, f"the counts of {text!r} for {vocabulary} are wrong")


def test_probe_against_baseline(probe_against_baseline, rng):
    """For each group the two held-out accuracies: same fit, same folds, groups in alphabetical order."""
    for n_groups, size, n_folds in [(5, 4, 2), (6, 2, 3), (4, 3, 2)]:
        groups, labels, folds = couples(rng, n_groups, size, n_folds)
        acts = strided(rng.normal(len(groups), 3) + labels[:, None])
        words = ["red", "green", "blue", "and"]
        # Texts of different lengths; some words of false statements are in no true one.
        texts = [
            " ".join(rng.choice(words) for _ in range(rng.integer(1, 6)))
            + (" good" if label and rng.integer(0, 3) else " bad" if label or rng.integer(0, 2) else " awful awful")
            for label in labels
        ]
        vocabulary = sorted({word for text in texts for word in text.split()})
        counts = torch.tensor([[float(text.split().count(word)) for word in vocabulary] for text in texts])
        texts = [(text.upper() if i % 2 else text.title()) + "." for i, text in enumerate(texts)]
        expected = []
        for inputs in (acts, counts):
            correct = correct_by_hand(inputs, labels, folds, means_probe).float()
            expected.append(
                torch.stack(
                    [
                        correct[[i for i, its in enumerate(groups) if its == group]].mean()
                        for group in sorted(set(groups))
                    ]
                )
            )
        lists = list(texts), list(groups)
        with unchanged(acts, labels, folds, *lists), nothing_left_behind():
            result = probe_against_baseline(acts, lists[0], labels, lists[1], folds, means_probe)
        assert isinstance(result, tuple | list) and len(result) == 2, (
            "return two tensors: the probe's accuracies, the baseline's"
        )
        for mine, right, whose in zip(
            result, expected, ("the probe on acts", "the probe on the bag of words"), strict=True
        ):
            assert_close(
                assert_tensor(mine, shape=(n_groups,)).float(),
                right,
                f"{n_groups} groups: entry g is not the held-out accuracy of {whose} in group g",
            )


def test_answer_bag(answer_bag):
    """The baseline bounds what is shown."""
    assert_choice(answer_bag, "a", "what could the probe have read to reach as much as the words alone?")


# --- 7. Used?


def random_model(n_layers, d_model, rng):
    """A tiny model of random weights, with MLPs and LayerNorm: nothing in it is linear."""
    sizes = {"d_head": 4, "n_heads": 2, "n_ctx": 12, "d_vocab": 9, "d_mlp": 8}
    return drawn_bridge(rng, n_layers=n_layers, d_model=d_model, act_fn="gelu", normalization_type="LN", **sizes)


def first_less_last(logits):
    """A measure of the check's own; one number a row."""
    return logits[:, 0] - 0.5 * logits[:, -1]


def softest(logits):
    return logits.log_softmax(-1)[:, 2]


@torch.no_grad()
def pushed(model, tokens, layer, move, measure):
    """[row]: measure when move [row d_model] is added at the last position."""

    def push(stream, hook):
        stream = stream.clone()
        for row in range(len(stream)):
            stream[row, -1] += move[row]
        return stream

    return measure(model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.hook_resid_post", push)])[:, -1])


def test_measure_when_moved(measure_when_moved, rng):
    """Each move at the last position after its layer, each row its own, and nothing from one move to the next."""
    for n_layers, layer, n_moves, rows, pos in [(3, 1, 3, 2, 4), (2, 0, 1, 1, 3), (1, 0, 2, 3, 1), (4, 0, 2, 2, 6)]:
        model = random_model(n_layers, 8, rng)
        tokens, moves = rng.integers(0, 9, rows, pos), strided(2 * rng.normal(n_moves, rows, 8))
        measure = (first_less_last, softest)[pos % 2]
        expected = torch.stack([pushed(model, tokens, layer, move, measure) for move in moves])
        with as_found(model, tokens, moves):
            values = measure_when_moved(model, tokens, layer, moves, measure)
            values = assert_tensor(values, shape=expected.shape, dtype=expected.dtype)
        said = f"{n_moves} moves after layer {layer} of {n_layers}, rows of {pos} tokens"
        assert_close(
            values,
            expected,
            f"{said}: entry [move, row] is not the measure with moves[move, row] added at the last position of the row",
            atol=1e-4,
        )
    assert not values.requires_grad, "the values keep a gradient: run the model under torch.no_grad()"


def test_random_directions(random_directions, rng):
    """Length 1, no axis and no sign favoured, the cosine of two as small as chance has it; the seed decides."""
    seed = rng.integer(0, 10_000)
    for n, d_model in [(3, 5), (1, 2), (4, 1), (2, 600)]:
        with nothing_left_behind():
            drawn = assert_tensor(random_directions(n, d_model, seed), shape=(n, d_model), dtype=torch.float32)
        assert_close(drawn.float().norm(dim=1), torch.ones(n), "not every direction has length 1")
    drawn = random_directions(4000, 3, seed).double()
    assert (drawn.mean(0).abs() < 5 * (1 / 3 / 4000) ** 0.5).all(), (
        f"one side is favoured: the mean of 4000 directions is {[round(x, 2) for x in drawn.mean(0).tolist()]}"
    )
    # The mean of the sum of x^4 is 0.6 on a sphere, 0.54 for the directions of points in a cube.
    fourth = (drawn**4).sum(1).mean().item()
    assert abs(fourth - 0.6) < 0.017, (  # six standard errors
        f"not every direction is equally likely: corners or axes are favoured (mean of x^4 {fourth / 3:.3f}, "
        "evenly drawn 0.2)"
    )
    # cos^2 of two directions in 4 dimensions has mean 1/4 and standard deviation 1/4
    few = torch.stack([random_directions(2, 4, seed + i) for i in range(200)]).double()
    alike = (few[:, 0] * few[:, 1]).sum(1).square().mean().item()
    assert abs(alike - 0.25) < 6 * 0.25 / 200**0.5, (
        f"the two directions of a call have a squared cosine of {alike:.2f} on average, where independent ones have "
        "0.25: draw each by itself, whatever the others are"
    )
    assert_independent(lambda seed: random_directions(4, 500, seed), "direction")


def test_causal_probe_test(causal_probe_test, rng):
    """The direction's effect on each row, up minus down, whatever the direction's length."""
    for n_layers, layer, rows, pos, size, n_random in [
        (2, 0, 1, 3, 2.0, 2),
        (4, 1, 2, 2, 0.3, 3),
        (3, 1, 3, 4, 0.7, 1),
    ]:
        model = random_model(n_layers, 8, rng)  # models of one size are one model
        tokens, direction = rng.integers(0, 9, rows, pos), strided(3 * rng.normal(8))
        measure = (first_less_last, softest)[pos % 2]
        move = (size * direction / direction.norm()).expand(rows, -1)
        expected = pushed(model, tokens, layer, move, measure) - pushed(model, tokens, layer, -move, measure)
        with as_found(model, tokens, direction):
            result = causal_probe_test(model, tokens, layer, direction, size, measure, n_random, rng.integer(0, 1000))
        effect, _ = two_tensors(result, rows, n_random)
        assert_close(
            effect,
            expected,
            f"a push of {size} after layer {layer} of {n_layers}: the effect on row r is not the measure pushed along "
            "the direction minus pushed the other way",
            atol=1e-4,
        )
    assert not effect.requires_grad, "the effects keep a gradient: run the model under torch.no_grad()"


def two_tensors(result, rows, n_random):
    assert isinstance(result, tuple | list) and len(result) == 2, (
        "return two tensors: the effect on each row, and the random directions' mean effects"
    )
    return assert_tensor(result[0], shape=(rows,)), assert_tensor(result[1], shape=(n_random,))


# A model that is linear from the push on, so that effects of a few measures tell the directions themselves.
OPEN_D, OPEN_TOKENS = 4, 9
WEIGHTS = (1.5, -0.5)  # what a row's effect counts: rows of the two sorts, by their last token


def open_model(rng):
    """Logit k is coordinate k of the last stream, in a basis of its own; the last logit tells a row's sort."""
    basis = torch.linalg.qr(rng.normal(OPEN_D, OPEN_D)).Q
    sizes = {"d_model": OPEN_D, "d_head": 4, "n_heads": 1, "n_layers": 1, "n_ctx": 8, "d_vocab": OPEN_TOKENS}
    model = drawn_bridge(rng, attn_only=True, normalization_type=None, **sizes)
    with torch.no_grad():
        model.blocks[0].attn.o.weight.zero_()
        model.unembed.weight[:OPEN_D] = basis
        model.unembed.weight[-1] = basis[0]
        model.embed.weight += 40 * basis[0] * torch.tensor([1.0, -1.0]).repeat(OPEN_TOKENS)[:OPEN_TOKENS, None]
    return model, basis


def coordinates(logits, which):
    """The sum of some coordinates; a push does not turn the sign of the last logit, which is large."""
    up, down = WEIGHTS
    return torch.where(logits[:, -1] > 0, up, down) * logits[:, which].sum(1)


def test_causal_probe_test__null(causal_probe_test, rng):
    """Random directions as long as the push, drawn anew, no side favoured; of each the mean effect over rows"""
    model, basis = open_model(rng)
    direction = strided(3 * torch.eye(OPEN_D)[rng.integer(0, OPEN_D)] + 0.3 * rng.normal(OPEN_D))
    for last_tokens, size, n in [((2, 4, 1), 0.4, 2), ((1, 6), 1.7, 40)]:  # a few first: lengths need no more
        tokens = torch.cat([rng.integers(0, OPEN_TOKENS, len(last_tokens), 2), torch.tensor(last_tokens)[:, None]], 1)
        weights = torch.tensor([WEIGHTS[token % 2] for token in last_tokens])
        seed, every = rng.integer(0, 1000), list(range(OPEN_D))
        effects = []
        for which in [[k] for k in every] + [every]:
            measure = functools.partial(coordinates, which=which)
            result = causal_probe_test(model, tokens, 0, direction, size, measure, n, seed)
            effects.append(two_tensors(result, len(tokens), n)[1].double())
        said = f"a push of {size}, {n} random directions"
        *single, total = effects
        assert_close(
            torch.stack(single).sum(0),
            total,
            f"{said}: with the sum of four measures an entry is not the sum of what it is with each (the seed is the "
            "same): the mean over rows keeps the sign, and a seed gives the same directions again",
            atol=1e-3,
        )
        drawn = torch.stack(single, 1) @ basis.double() / (2 * size * weights.mean())  # the directions themselves
        length = drawn.norm(dim=1)
        assert (length - 1).abs().max() < 0.02, (
            f"{said}: up minus down, the mean over rows, is as of pushes {size * length.min():.2f} to "
            f"{size * length.max():.2f} long: each is to have length {size}, to be the same up, down and in every row, "
            "and to count all rows alike"
        )
    drawn_anew(drawn, direction)


def drawn_anew(units, direction):
    """No direction is likelier than another. Bounds are five standard errors and more."""
    n, d_model = units.shape
    units = units / units.norm(dim=1, keepdim=True)
    own = (units @ (direction / direction.norm()).double()).abs()
    assert own.max() < 0.99999, "the probe's own direction is among the random ones"
    alike = (units @ units.T - torch.eye(n)).abs().max().item()
    assert alike < 0.99999, "two of the random directions are the same, or opposite: draw a new one each time"
    bias = units.mean(0).norm().item()
    assert bias < 0.6, f"one side is favoured: the mean of {n} random directions has length {bias:.2f}, not about 0"
    along = own.square().mean().item() * d_model
    assert 0.25 < along < 2.2, (
        f"along the probe's direction the random ones reach {along:.2f} times as far as along others (mean square): "
        "no direction is likelier than another, nor is this one"
    )
    fourth = (units**4).sum(1).mean().item() * (d_model + 2) / 3  # 1 on a sphere, 2 along axes
    assert 0.7 < fourth < 1.4, f"not every direction is equally likely: axes or corners are favoured ({fourth:.2f})"


def test_causal_probe_test__seed(causal_probe_test, rng):
    """The seed decides the random directions"""
    model = random_model(1, 8, rng)
    tokens, direction = rng.integers(0, 9, 2, 3), rng.normal(8)
    first, again, other = (
        causal_probe_test(model, tokens, 0, direction, 1.0, softest, 6, seed)[1] for seed in (5, 5, 6)
    )
    assert torch.equal(first, again), "the same seed gave other random directions the second time"
    assert not torch.allclose(first, other), "another seed gave the same random directions"


def test_answer_used(answer_used):
    """Decodable, and the push does no more than a random one: not shown to be used there."""
    assert_choice(answer_used, "b", "what does the push show, at this layer and position, and what does it leave open?")


# --- 8. Open task

# What becomes of the properties; seeds are drawn.
MODELS = [
    {"n_layers": 3},
    {"n_layers": 2, "n_heads": 7},
    {"n_layers": 4, "kinds": ("read", "read", "mute", "bypassed", "looked at", "twin", "twin")},
    {"n_layers": 3, "kinds": ("route", "mute", "mute", "twin", "absent")},
    {"n_layers": 3, "kinds": ("mute", "bypassed", "looked at", "absent")},
]


# equivalent mutant of find_used, any: what tells enough of unseen models' used properties is right
@pytest.mark.seconds(120)
def test_find_used(find_used, rng):
    """At least 90 % of the used properties of unseen models, and at most 10 % others among those named."""
    found, missed, wrong = 0, [], []
    for sizes in MODELS * 2:
        model, truth = wired.properties(rng.integer(0, 100_000), **sizes)
        tokens, labels = wired.property_rows(truth, 300, rng.integer(0, 100_000))
        given = dict(labels)
        with nothing_left_behind(settled(model), random_state=False), unchanged(tokens, given):
            named = find_used(model, tokens, given, truth.layer)
        try:
            named = set(named)
        except TypeError as error:
            raise AssertionError(f"the result is a set of names, not {named!r:.60}") from error
        strange = [name for name in named if name not in truth.kinds]
        assert not strange, f"{strange[0]!r:.60} is not the name of a property: they are {sorted(truth.kinds)}"
        found += len(named & truth.used)
        missed += [truth.kinds[name] for name in sorted(truth.used - named)]
        wrong += [truth.kinds[name] for name in sorted(named - truth.used)]
    of = found + len(missed)
    said = f"in {2 * len(MODELS)} models, {found} of {of} used properties were found"
    assert_mostly_found(found, missed, wrong, said, "property")
