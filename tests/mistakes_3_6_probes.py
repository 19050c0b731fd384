"""Wrong answers to 3.6 Probes, and what each of them is."""

import random
import re
from typing import NamedTuple

import numpy as np
import torch

from concrete_steps.checking.mistakes import mistake, right
from concrete_steps.facts import Statement


class Probe(NamedTuple):
    direction: torch.Tensor
    bias: torch.Tensor


# --- 1. Collecting activations


def _name(layer):
    return f"blocks.{layer}.hook_resid_post"


@torch.no_grad()
def _streams(model, tokens, layers, part="resid_post", **more):
    """[text layer pos d_model]"""
    names = [f"blocks.{layer}.hook_{part}" for layer in layers]
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name in names, **more)
    return torch.stack([cache[name] for name in names], dim=1)


def _in_parts(model, texts, layers, of_part):
    return torch.cat([of_part(texts[i : i + 32]) for i in range(0, len(texts), 32)])


def _alone(model, texts, layers, part="resid_post", position=-1, **more):
    return torch.cat([_streams(model, model.to_tokens(t, **more), layers, part)[:, :, position] for t in texts])


@mistake("takes the last position of the padded batch: for a shorter text that is padding")
def collect_activations(model, texts, layers):
    return _in_parts(model, texts, layers, lambda some: _streams(model, model.to_tokens(some), layers)[:, :, -1])


@mistake("pads on the left without an attention mask: the words attend to the padding")
def collect_activations(model, texts, layers):
    def of_part(some):
        return _streams(model, model.to_tokens(some, padding_side="left"), layers)[:, :, -1]

    return _in_parts(model, texts, layers, of_part)


@mistake("leaves out the start token, which model.to_tokens puts in front")
def collect_activations(model, texts, layers):
    return _alone(model, texts, layers, prepend_bos=False)


@mistake("reads the stream before the layer (resid_pre), not after it")
def collect_activations(model, texts, layers):
    return _alone(model, texts, layers, part="resid_pre")


@mistake("reads the last token but one")
def collect_activations(model, texts, layers):
    return _alone(model, texts, layers, position=-2)


@mistake("has the layers in ascending order, not in the order that was asked for")
def collect_activations(model, texts, layers):
    return _alone(model, texts, sorted(layers))


@mistake("[layer text d_model]: the texts come first")
def collect_activations(model, texts, layers):
    return _alone(model, texts, layers).transpose(0, 1)


@right("one text at a time")
def collect_activations(model, texts, layers):
    return _alone(model, texts, layers)


@right("hooks that keep, padding of its own")
def collect_activations(model, texts, layers):
    rows = [model.to_tokens(text)[0] for text in texts]
    found = []
    for i in range(0, len(rows), 50):
        some = rows[i : i + 50]
        last = torch.tensor([len(row) - 1 for row in some])
        kept = {}

        def keep(x, hook, layer, last=last, kept=kept):
            kept[layer] = x[torch.arange(len(x)), last].clone()

        hooks = [(_name(layer), lambda x, hook, layer=layer: keep(x, hook, layer)) for layer in layers]
        with torch.no_grad():
            model.run_with_hooks(torch.nn.utils.rnn.pad_sequence(some, batch_first=True), fwd_hooks=hooks)
        found.append(torch.stack([kept[layer] for layer in layers], dim=1))
    return torch.cat(found)


@mistake("at the shorter text's -1 stands padding; what is read there depends on the text, but is not its last token")
def answer_padding():
    return "a"


@mistake(
    "causal attention keeps later padding out of earlier positions; nothing is wrong with the text's own last token"
)
def answer_padding():
    return "c"


# --- 2. The simplest probe


def _mean_probe(acts, labels):
    true, false = acts[labels].mean(0), acts[~labels].mean(0)
    return Probe(true - false, -(true + false) @ (true - false) / 2)


@mistake("points from true to false")
def mean_difference_probe(acts, labels):
    return _mean_probe(acts, ~labels)


@mistake("has no bias: 0 is to lie half-way between the two means")
def mean_difference_probe(acts, labels):
    return Probe(_mean_probe(acts, labels).direction, torch.zeros((), dtype=acts.dtype))


@mistake("puts 0 at the mean of all rows, which lies nearer to the more frequent label: half-way between the two means")
def mean_difference_probe(acts, labels):
    direction = _mean_probe(acts, labels).direction
    return Probe(direction, -acts.mean(0) @ direction)


@mistake("has the bias with the wrong sign")
def mean_difference_probe(acts, labels):
    probe = _mean_probe(acts, labels)
    return Probe(probe.direction, -probe.bias)


@mistake("takes the sums of the rows for their means: labels may be of unequal number")
def mean_difference_probe(acts, labels):
    true, false = acts[labels].sum(0), acts[~labels].sum(0)
    return Probe(true - false, -(true + false) @ (true - false) / 2)


@mistake("the direction has length 1, and the bias is still that of the longer one")
def mean_difference_probe(acts, labels):
    probe = _mean_probe(acts, labels)
    return Probe(probe.direction / probe.direction.norm(), probe.bias)


@right("direction of length 1")
def mean_difference_probe(acts, labels):
    means = torch.stack([acts[labels == kind].mean(dim=0) for kind in (False, True)])
    direction = torch.nn.functional.normalize(means[1] - means[0], dim=0)
    return Probe(direction, -(means @ direction).mean())


@right("weights, and a tuple of its own")
def mean_difference_probe(acts, labels):
    y = labels.to(acts.dtype)
    weights = y / y.sum() - (1 - y) / (1 - y).sum()
    middle = (y / y.sum() + (1 - y) / (1 - y).sum()) / 2
    direction = acts.T @ weights
    return Probe(direction, -(middle @ (acts @ direction)))


def _folds(groups, n_folds, order):
    fold = {group: place % n_folds for place, group in enumerate(order)}
    return torch.tensor([fold[group] for group in groups])


@mistake("deals out rows, not groups, so that groups are torn apart")
def group_folds(groups, n_folds, seed):
    return torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)) % n_folds


@mistake("does not draw: the seed has to decide which groups go together")
def group_folds(groups, n_folds, seed):
    return _folds(groups, n_folds, sorted(set(groups)))


@mistake("draws a fold for each group by itself, so that folds differ in size")
def group_folds(groups, n_folds, seed):
    generator = torch.Generator().manual_seed(seed)
    fold = {group: int(torch.randint(n_folds, (), generator=generator)) for group in sorted(set(groups))}
    return torch.tensor([fold[group] for group in groups])


@mistake("gives each group a fold of its own: there are n_folds of them")
def group_folds(groups, n_folds, seed):
    names = sorted(set(groups))
    random.Random(seed).shuffle(names)
    return torch.tensor([names.index(group) for group in groups])


@mistake("counts folds from 1")
def group_folds(groups, n_folds, seed):
    names = sorted(set(groups))
    random.Random(seed).shuffle(names)
    return _folds(groups, n_folds, names) + 1


@mistake("the same seed gives other folds in another session of Python, where a set has another order")
def group_folds(groups, n_folds, seed):
    names = list(set(groups))
    random.Random(seed).shuffle(names)
    return _folds(groups, n_folds, names)


@right("random.Random, groups in the order of their first row")
def group_folds(groups, n_folds, seed):
    names = list(dict.fromkeys(groups))
    random.Random(seed).shuffle(names)
    return _folds(groups, n_folds, names)


@right("numpy, blocks of groups")
def group_folds(groups, n_folds, seed):
    names, of_row = np.unique(np.array(groups), return_inverse=True)
    blocks = np.array_split(np.random.default_rng(seed).permutation(len(names)), n_folds)
    fold = np.zeros(len(names), dtype=int)
    for number, block in enumerate(blocks):
        fold[block] = number
    return torch.from_numpy(fold[of_row])


def _says(probe, acts):
    return acts @ probe.direction + probe.bias > 0


def _held_out(acts, labels, folds, fit):
    correct = torch.zeros_like(labels)
    for fold in folds.unique():
        here = folds == fold
        correct[here] = _says(fit(acts[~here], labels[~here]), acts[here]) == labels[here]
    return correct


@mistake("fits to all rows, so that each row is judged by a probe that has seen it")
def held_out_correct(acts, labels, folds, fit):
    return _says(fit(acts, labels), acts) == labels


@mistake("fits to the fold itself, and not to the others")
def held_out_correct(acts, labels, folds, fit):
    correct = torch.zeros_like(labels)
    for fold in folds.unique():
        here = folds == fold
        correct[here] = _says(fit(acts[here], labels[here]), acts[here]) == labels[here]
    return correct


@mistake("gives what the probe says, not whether that is right")
def held_out_correct(acts, labels, folds, fit):
    return _held_out(acts, torch.ones_like(labels), folds, lambda x, _: fit(x, labels[_where(acts, x, folds)]))


def _where(acts, x, folds):
    """Which rows of acts these are."""
    return next(folds != fold for fold in folds.unique() if torch.equal(acts[folds != fold], x))


@mistake("leaves the bias out")
def held_out_correct(acts, labels, folds, fit):
    return _held_out(acts, labels, folds, lambda x, y: Probe(fit(x, y).direction, 0.0))


@mistake("concatenates fold after fold: rows are to stay in their order")
def held_out_correct(acts, labels, folds, fit):
    correct = _held_out(acts, labels, folds, fit)
    return torch.cat([correct[folds == fold] for fold in folds.unique()])


@right("one row after the other")
def held_out_correct(acts, labels, folds, fit):
    probes = {fold: fit(acts[folds != fold], labels[folds != fold]) for fold in folds.unique().tolist()}
    rows = zip(acts, labels, folds.tolist(), strict=True)
    return torch.stack([(row @ probes[fold].direction + probes[fold].bias > 0) == label for row, label, fold in rows])


@right("scores first, then one comparison")
def held_out_correct(acts, labels, folds, fit):
    scores = torch.empty(len(acts), dtype=acts.dtype)
    for fold in set(folds.tolist()):
        train, test = (folds != fold).nonzero().flatten(), (folds == fold).nonzero().flatten()
        direction, bias = fit(acts[train], labels[train])
        scores[test] = acts[test] @ direction + bias
    return (scores > 0) == labels


@mistake("rows of a couple share their words and their things: some of a test row's couple would be in training")
def answer_split():
    return "a"


@mistake("the country is new, and what is said of it is not: its partner was seen with the same words")
def answer_split():
    return "b"


# --- 3. Shuffled labels


def _rows_of(groups):
    return [torch.tensor([i for i, its in enumerate(groups) if its == group]) for group in sorted(set(groups))]


def _shuffled(labels, groups, generator):
    shuffled = labels.clone()
    for rows in _rows_of(groups):
        shuffled[rows] = labels[rows[torch.randperm(len(rows), generator=generator)]]
    return shuffled


def _control(acts, labels, groups, folds, fit, draws, seed, shuffle=_shuffled, over=torch.max, one=_held_out):
    generator = torch.Generator().manual_seed(seed)
    best = []
    for _ in range(draws):
        mixed = shuffle(labels, groups, generator)
        every = [one(acts[:, layer], mixed, folds, fit).float().mean() for layer in range(acts.shape[1])]
        best.append(over(torch.stack(every)))
    return torch.stack(best)


@mistake("takes the mean over the layers: the finding chose its best layer, so the null must, too")
def shuffled_label_control(acts, labels, groups, folds, fit, draws, seed):
    return _control(acts, labels, groups, folds, fit, draws, seed, over=torch.mean)


@mistake("uses the first layer alone: the finding chose the best of all")
def shuffled_label_control(acts, labels, groups, folds, fit, draws, seed):
    return _control(acts[:, :1], labels, groups, folds, fit, draws, seed)


@mistake("shuffles labels across groups: they change places within their group")
def shuffled_label_control(acts, labels, groups, folds, fit, draws, seed):
    across = lambda labels, groups, generator: labels[torch.randperm(len(labels), generator=generator)]  # noqa: E731
    return _control(acts, labels, groups, folds, fit, draws, seed, shuffle=across)


@mistake("draws labels by coin: the labels of a group change places, so that their number stays")
def shuffled_label_control(acts, labels, groups, folds, fit, draws, seed):
    coin = lambda labels, groups, generator: torch.rand(len(labels), generator=generator) < 0.5  # noqa: E731
    return _control(acts, labels, groups, folds, fit, draws, seed, shuffle=coin)


@mistake("fits to shuffled labels, but tests against the true ones: shuffled labels stand for them everywhere")
def shuffled_label_control(acts, labels, groups, folds, fit, draws, seed):
    def one(x, mixed, folds, fit):
        correct = torch.zeros_like(labels)
        for fold in folds.unique():
            here = folds == fold
            correct[here] = _says(fit(x[~here], mixed[~here]), x[here]) == labels[here]
        return correct

    return _control(acts, labels, groups, folds, fit, draws, seed, one=one)


@mistake("does not shuffle: this is the finding itself, not its null")
def shuffled_label_control(acts, labels, groups, folds, fit, draws, seed):
    return _control(acts, labels, groups, folds, fit, draws, seed, shuffle=lambda labels, groups, generator: labels)


@mistake("does not hold out: fits and tests on the same rows")
def shuffled_label_control(acts, labels, groups, folds, fit, draws, seed):
    one = lambda x, mixed, folds, fit: _says(fit(x, mixed), x) == mixed  # noqa: E731
    return _control(acts, labels, groups, folds, fit, draws, seed, one=one)


@right("random.Random, sorting in place of a permutation")
def shuffled_label_control(acts, labels, groups, folds, fit, draws, seed):
    draw, best = random.Random(seed), torch.zeros(draws)
    for i in range(draws):
        mixed = labels.clone()
        for group in dict.fromkeys(groups):
            rows = [row for row, its in enumerate(groups) if its == group]
            mixed[rows] = labels[draw.sample(rows, len(rows))]
        best[i] = max(_held_out(acts[:, at], mixed, folds, fit).double().mean() for at in range(acts.shape[1]))
    return best


@mistake("a null that does not choose among 30 is too low: the best of 30 is above one half without any truth")
def answer_best():
    return "b"


@mistake("an interval of the best layer does not know that it was chosen: more statements do not mend the choice")
def answer_best():
    return "c"


# --- 4. Logistic


def _logistic(acts, labels, penalty, bias_costs=False, with_bias=True, steps=25):
    """Newton's method in float64."""
    ones = torch.ones(len(acts), 1, dtype=torch.double) if with_bias else torch.zeros(len(acts), 1, dtype=torch.double)
    x = torch.cat([acts.detach().double(), ones], dim=1)
    y, w = labels.double(), torch.zeros(x.shape[1], dtype=torch.double)
    cost = torch.full_like(w, penalty)
    if not bias_costs:
        cost[-1] = 1e-9

    def value(w):
        return torch.nn.functional.binary_cross_entropy_with_logits(x @ w, y) + (cost * w**2).sum() / 2

    for _ in range(steps):
        p = torch.sigmoid(x @ w)
        hessian = (x.T * (p * (1 - p))) @ x / len(y) + torch.diag(cost + 1e-8)
        step, size = torch.linalg.solve(hessian, x.T @ (p - y) / len(y) + cost * w), 1.0
        while value(w - size * step) > value(w) and size > 1e-6:
            size /= 2
        w = w - size * step
    w = w.to(acts.dtype)
    return Probe(w[:-1], w[-1])


@mistake("has no penalty")
def logistic_probe(acts, labels, penalty=0.1):
    return _logistic(acts, labels, 1e-6)


@mistake("the penalty is on the bias as well")
def logistic_probe(acts, labels, penalty=0.1):
    return _logistic(acts, labels, penalty, bias_costs=True)


@mistake("adds the losses of the rows up: it is their mean to which the penalty is added")
def logistic_probe(acts, labels, penalty=0.1):
    return _logistic(acts, labels, penalty / len(acts))


@mistake("has no bias")
def logistic_probe(acts, labels, penalty=0.1):
    return _logistic(acts, labels, penalty, with_bias=False)


@mistake("takes the penalty for scikit-learn's C, which grows as the penalty shrinks: C = 1 / (penalty * rows)")
def logistic_probe(acts, labels, penalty=0.1):
    return _logistic(acts, labels, 1 / (penalty * len(acts)))


@mistake("takes the penalty times the squared length, without the half")
def logistic_probe(acts, labels, penalty=0.1):
    return _logistic(acts, labels, 2 * penalty)


@mistake("stops after a few steps, far from the least value")
def logistic_probe(acts, labels, penalty=0.1):
    with torch.enable_grad():
        w = torch.zeros(acts.shape[1] + 1, dtype=acts.dtype, requires_grad=True)
        for _ in range(10):
            scores = acts @ w[:-1] + w[-1]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, labels.to(acts.dtype))
            (grad,) = torch.autograd.grad(loss + penalty / 2 * (w[:-1] ** 2).sum(), w)
            w = (w - 0.01 * grad).detach().requires_grad_()
    return Probe(w[:-1].detach(), w[-1].detach())


@right("scikit-learn")
def logistic_probe(acts, labels, penalty=0.1):
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1 / (penalty * len(acts)), max_iter=2000, tol=1e-8).fit(acts.numpy(), labels.numpy())
    return Probe(torch.tensor(fitted.coef_[0]).to(acts.dtype), torch.tensor(fitted.intercept_[0]).to(acts.dtype))


def _by_adam(acts, labels, penalty, n_steps):
    with torch.enable_grad():
        w = torch.zeros(acts.shape[1] + 1, dtype=acts.dtype, requires_grad=True)
        search = torch.optim.Adam([w], lr=0.1)
        for step in range(n_steps):
            search.param_groups[0]["lr"] = 0.1 * (1 - step / n_steps)
            search.zero_grad()
            scores = acts @ w[:-1] + w[-1]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, labels.to(acts.dtype))
            (loss + penalty / 2 * (w[:-1] ** 2).sum()).backward()
            search.step()
    return Probe(w[:-1].detach(), w[-1].detach())


@right("Adam, 2,000 steps")
def logistic_probe(acts, labels, penalty=0.1):
    return _by_adam(acts, labels, penalty, 2000)


@mistake("stops before the least is reached: its steps shrink to nothing first; look whether the loss still falls")
def logistic_probe(acts, labels, penalty=0.1):
    return _by_adam(acts, labels, penalty, 400)


@right("scipy's minimize")
def logistic_probe(acts, labels, penalty=0.1):
    from scipy import optimize, special

    x, signs = acts.double().numpy(), 2.0 * labels.numpy() - 1

    def loss(w):
        margins = signs * (x @ w[:-1] + w[-1])
        pull = -signs * special.expit(-margins) / len(x)
        value = np.logaddexp(0, -margins).mean() + penalty / 2 * (w[:-1] ** 2).sum()
        return value, np.append(x.T @ pull + penalty * w[:-1], pull.sum())

    w = torch.tensor(optimize.minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x).to(acts.dtype)
    return Probe(w[:-1], w[-1])


# --- 5. From one set to another


def _matrix(acts, labels, folds, fit, seen, judged):
    """Entry [train, test] with rows seen(folds of train, fold) and judged(folds of test, fold)."""
    accuracies = torch.zeros(len(acts), len(acts))
    for i, train in enumerate(acts):
        for j, test in enumerate(acts):
            correct = []
            for fold in folds[train].unique():
                use, here = seen(folds[train], fold, i == j), judged(folds[test], fold)
                probe = fit(acts[train][use], labels[train][use])
                correct.append(_says(probe, acts[test][here]) == labels[test][here])
            accuracies[i, j] = torch.cat(correct).float().mean()
    return accuracies


def _others(its, fold, same):
    return its != fold


def _own(its, fold):
    return its == fold


@mistake("the diagonal is of rows that the probe has seen")
def generalisation_matrix(acts, labels, folds, fit):
    return _matrix(acts, labels, folds, fit, lambda its, fold, same: torch.ones_like(its) > 0, _own)


@mistake("holds out on the diagonal only: sets share groups, so a probe of another set may have seen them")
def generalisation_matrix(acts, labels, folds, fit):
    return _matrix(acts, labels, folds, fit, lambda its, fold, same: (its != fold) | (not same), _own)


@mistake("entry [test, train]: the rows are the sets that were fitted to")
def generalisation_matrix(acts, labels, folds, fit):
    return _matrix(acts, labels, folds, fit, _others, _own).T.contiguous()


@mistake("tests each probe on all rows of the other set, those of its own folds included")
def generalisation_matrix(acts, labels, folds, fit):
    return _matrix(acts, labels, folds, fit, _others, lambda its, fold: torch.ones_like(its) > 0)


@mistake("fits to the fold that it tests, not to the others")
def generalisation_matrix(acts, labels, folds, fit):
    return _matrix(acts, labels, folds, fit, lambda its, fold, same: its == fold, _own)


@mistake("sorts the sets by name: the dicts' order counts")
def generalisation_matrix(acts, labels, folds, fit):
    names = sorted(acts)
    return _matrix({name: acts[name] for name in names}, labels, folds, fit, _others, _own)


@mistake("takes the mean of the folds' accuracies: folds differ in size, and the accuracy is over all rows of the set")
def generalisation_matrix(acts, labels, folds, fit):
    def fold_by_fold(train, test):
        shares = []
        for fold in folds[train].unique():
            seen, here = folds[train] != fold, folds[test] == fold
            probe = fit(acts[train][seen], labels[train][seen])
            shares.append((_says(probe, acts[test][here]) == labels[test][here]).float().mean())
        return torch.stack(shares).mean()

    return torch.stack([torch.stack([fold_by_fold(train, test) for test in acts]) for train in acts])


@right("a comprehension over pairs")
def generalisation_matrix(acts, labels, folds, fit):
    return _matrix(acts, labels, folds, fit, _others, _own)


@right("probes first, then each row of each set")
def generalisation_matrix(acts, labels, folds, fit):
    probes = {
        (name, fold): fit(acts[name][folds[name] != fold], labels[name][folds[name] != fold])
        for name in acts
        for fold in folds[name].unique().tolist()
    }
    rows = []
    for train in acts:
        rows.append([])
        for test in acts:
            each = zip(acts[test], labels[test], folds[test].tolist(), strict=True)
            right_ones = [bool((x @ probes[train, f].direction + probes[train, f].bias > 0) == y) for x, y, f in each]
            rows[-1].append(sum(right_ones) / len(right_ones))
    return torch.tensor(rows)


@mistake("a probe that had learned nothing would be right in half of the cases, not wrong in most")
def answer_negated():
    return "a"


@mistake('the model need not misread "not": the probe would be as wrong if it read only what goes with what')
def answer_negated():
    return "b"


# --- 6. Confounds


def _confounded(things, templates, seed, agrees, about=lambda a, b: f"{a} {b}", order=((0, 0), (0, 1), (1, 1), (1, 0))):
    draw, made = random.Random(seed), []
    for i in range(0, len(things), 2):
        couple = things[i : i + 2]
        for who, whose in order:
            true = who == whose
            template = templates[0] if agrees(draw, true) == true else templates[1]
            text = template.format(thing=couple[who][0], said=couple[whose][1])
            made.append(Statement(text, true, about(couple[0][0], couple[1][0])))
    return made


@mistake(
    "the template does not follow the truth: true statements get the first with probability agreement, so do false ones"
)
def confounded_dataset(things, templates, agreement, seed):
    return _confounded(things, templates, seed, lambda draw, true: (draw.random() < agreement) == true)


@mistake("true and false ones have changed templates")
def confounded_dataset(things, templates, agreement, seed):
    return _confounded(things, templates, seed, lambda draw, true: draw.random() >= agreement)


@mistake("the template always follows the truth, whatever the agreement")
def confounded_dataset(things, templates, agreement, seed):
    return _confounded(things, templates, seed, lambda draw, true: True)


@mistake("only true statements change templates: false ones do, too")
def confounded_dataset(things, templates, agreement, seed):
    return _confounded(things, templates, seed, lambda draw, true: not true or draw.random() < agreement)


@mistake("gives each thing an `about` of its own: it is the same for the four statements of a couple")
def confounded_dataset(things, templates, agreement, seed):
    made = _confounded(things, templates, seed, lambda draw, true: draw.random() < agreement)
    return [each._replace(about=things[i // 4 * 2 + (i % 4) // 2][0]) for i, each in enumerate(made)]


@mistake("makes true statements only")
def confounded_dataset(things, templates, agreement, seed):
    agrees = lambda draw, true: draw.random() < agreement  # noqa: E731
    return _confounded(things, templates, seed, agrees, order=((0, 0), (1, 1)))


@mistake("the same seed gave other statements the second time")
def confounded_dataset(things, templates, agreement, seed):
    agrees = lambda draw, true: random.SystemRandom().random() < agreement  # noqa: E731
    return _confounded(things, templates, seed, agrees)


@mistake("draws once for a couple: each statement is drawn by itself")
def confounded_dataset(things, templates, agreement, seed):
    draw, made = random.Random(seed), []
    for i in range(0, len(things), 2):
        follows = draw.random() < agreement
        made += _confounded(things[i : i + 2], templates, seed, lambda draw, true, follows=follows: follows)
    return made


@right("random.Random, a couple's name of its own")
def confounded_dataset(things, templates, agreement, seed):
    return _confounded(things, templates, seed, lambda draw, true: draw.random() < agreement, lambda a, b: a)


@right("all draws at once, true statements first")
def confounded_dataset(things, templates, agreement, seed):
    agrees = torch.rand(2 * len(things), generator=torch.Generator().manual_seed(seed)).lt(agreement).tolist()
    made = []
    for true in (True, False):
        for i, (thing, own) in enumerate(things):
            said = own if true else things[i ^ 1][1]
            template = templates[int(agrees[len(made)] != true)]
            made.append(Statement(text=template.format(thing=thing, said=said), true=true, about=str(i // 2)))
    return made


@mistake("looks for the letters anywhere: a word is a whole run of letters")
def bag_of_words(texts, vocabulary):
    return torch.tensor([[float(text.lower().count(word)) for word in vocabulary] for text in texts])


@mistake("keeps capitals: put the text into lower case first")
def bag_of_words(texts, vocabulary):
    return torch.tensor([[float(re.findall("[a-zA-Z]+", t).count(word)) for word in vocabulary] for t in texts])


@mistake('cuts at spaces only, so that "rome." is not "rome"')
def bag_of_words(texts, vocabulary):
    return torch.tensor([[float(text.lower().split().count(word)) for word in vocabulary] for text in texts])


@mistake("says whether a word occurs, not how often")
def bag_of_words(texts, vocabulary):
    words = [re.findall("[a-z]+", text.lower()) for text in texts]
    return torch.tensor([[float(word in its) for word in vocabulary] for its in words])


@mistake("sorts the vocabulary: its order counts")
def bag_of_words(texts, vocabulary):
    words = [re.findall("[a-z]+", text.lower()) for text in texts]
    return torch.tensor([[float(its.count(word)) for word in sorted(vocabulary)] for its in words])


@mistake("counts in whole numbers: probes multiply by floating-point numbers")
def bag_of_words(texts, vocabulary):
    words = [re.findall("[a-z]+", text.lower()) for text in texts]
    return torch.tensor([[its.count(word) for word in vocabulary] for its in words])


@right("scikit-learn's CountVectorizer")
def bag_of_words(texts, vocabulary):
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(vocabulary=vocabulary, token_pattern="[a-z]+")
    return torch.tensor(counter.transform(texts).toarray()).float()


@right("a table that is filled")
def bag_of_words(texts, vocabulary):
    counts, place = torch.zeros(len(texts), len(vocabulary)), {word: i for i, word in enumerate(vocabulary)}
    for row, text in enumerate(texts):
        for word in re.split("[^a-z]+", text.lower()):
            if word in place:
                counts[row, place[word]] += 1
    return counts


def _counts(texts, lower=str.lower):
    words = [re.findall("[a-z]+", text.lower()) for text in texts]
    vocabulary = sorted({word for text in texts for word in re.findall("[a-z]+", lower(text))})
    return torch.tensor([[float(its.count(word)) for word in vocabulary] for its in words])


def _by_group(correct, groups, order=sorted):
    names = order(set(groups)) if order is sorted else list(dict.fromkeys(groups))
    return torch.stack([correct[[i for i, its in enumerate(groups) if its == name]].float().mean() for name in names])


def _both(acts, texts, labels, groups, folds, fit, of=_held_out, order=sorted):
    return tuple(_by_group(of(inputs, labels, folds, fit), groups, order) for inputs in (acts, _counts(texts)))


@mistake("judges on rows that the probes have seen")
def probe_against_baseline(acts, texts, labels, groups, folds, fit):
    seen = lambda x, y, folds, fit: _says(fit(x, y), x) == y  # noqa: E731
    return _both(acts, texts, labels, groups, folds, fit, of=seen)


@mistake("the baseline comes first: the probe's accuracies, then the baseline's")
def probe_against_baseline(acts, texts, labels, groups, folds, fit):
    return _both(acts, texts, labels, groups, folds, fit)[::-1]


@mistake("has the groups in the order of their first row: in alphabetical order")
def probe_against_baseline(acts, texts, labels, groups, folds, fit):
    return _both(acts, texts, labels, groups, folds, fit, order=list)


@mistake("gives one accuracy over all rows: one for each group")
def probe_against_baseline(acts, texts, labels, groups, folds, fit):
    return tuple(_held_out(inputs, labels, folds, fit).float().mean() for inputs in (acts, _counts(texts)))


@mistake("gives the difference alone: both accuracies, the probe's and the baseline's")
def probe_against_baseline(acts, texts, labels, groups, folds, fit):
    probe, words = _both(acts, texts, labels, groups, folds, fit)
    return probe - words


@mistake("gives the baseline what the probe gets as well, acts and words: the words alone")
def probe_against_baseline(acts, texts, labels, groups, folds, fit):
    joint = torch.cat([acts, _counts(texts)], dim=1)
    return tuple(_by_group(_held_out(inputs, labels, folds, fit), groups) for inputs in (acts, joint))


@mistake("divides the counts by the number of words: the bag of words holds counts")
def probe_against_baseline(acts, texts, labels, groups, folds, fit):
    counts = _counts(texts)
    shares = counts / counts.sum(1, keepdim=True)
    return tuple(_by_group(_held_out(inputs, labels, folds, fit), groups) for inputs in (acts, shares))


@mistake("takes the vocabulary from the texts before they are in lower case: words with a capital are cut, or lost")
def probe_against_baseline(acts, texts, labels, groups, folds, fit):
    counts = _counts(texts, lower=str)
    if not counts.numel():
        counts = torch.zeros(len(texts), 1)
    return tuple(_by_group(_held_out(inputs, labels, folds, fit), groups) for inputs in (acts, counts))


@right("sums over groups by index")
def probe_against_baseline(acts, texts, labels, groups, folds, fit):
    names = sorted(set(groups))
    of_row = torch.tensor([names.index(group) for group in groups])
    n = torch.bincount(of_row)
    result = []
    for inputs in (acts, _counts(texts)):
        correct = _held_out(inputs, labels, folds, fit).to(torch.float64)
        result.append(torch.zeros(len(names), dtype=torch.float64).index_add(0, of_row, correct) / n)
    return result[0], result[1]


@mistake("the words alone reach as much, so the accuracy does not show that the model goes beyond them")
def answer_bag():
    return "b"


@mistake("that it may read only words is not that it does: test it on a set where the words say the opposite")
def answer_bag():
    return "c"


# --- 7. Used?


@torch.no_grad()
def _moved(model, tokens, layer, move, measure, at="resid_post", everywhere=False, first=-1):
    """[row]: the measure with move [row d_model] added."""

    def push(x, hook):
        x = x.clone()
        if everywhere:
            return x + move[:, None]
        x[:, first] = x[:, first] + move
        return x

    return measure(model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.hook_{at}", push)])[:, -1])


def _all_moved(model, tokens, layer, moves, measure, **more):
    return torch.stack([_moved(model, tokens, layer, move, measure, **more) for move in moves])


@mistake("pushes at every position: only at the last")
def measure_when_moved(model, tokens, layer, moves, measure):
    return _all_moved(model, tokens, layer, moves, measure, everywhere=True)


@mistake("pushes at the first position: at the last")
def measure_when_moved(model, tokens, layer, moves, measure):
    return _all_moved(model, tokens, layer, moves, measure, first=0)


@mistake("pushes before the layer, which then changes the push: after it, at resid_post")
def measure_when_moved(model, tokens, layer, moves, measure):
    return _all_moved(model, tokens, layer, moves, measure, at="resid_pre")


@mistake("adds each move to those before it")
def measure_when_moved(model, tokens, layer, moves, measure):
    return _all_moved(model, tokens, layer, moves.cumsum(0), measure)


@mistake("gives every row the first row's move")
def measure_when_moved(model, tokens, layer, moves, measure):
    return _all_moved(model, tokens, layer, moves[:, :1].expand(-1, len(tokens), -1), measure)


@mistake("subtracts what it has without a move: the measure itself")
def measure_when_moved(model, tokens, layer, moves, measure):
    still = _moved(model, tokens, layer, torch.zeros_like(moves[0]), measure)
    return _all_moved(model, tokens, layer, moves, measure) - still


@mistake("replaces the activation by the move: add it")
@torch.no_grad()
def measure_when_moved(model, tokens, layer, moves, measure):
    def put(x, hook, move):
        return torch.cat([x[:, :-1], move[:, None]], dim=1)

    hooks = [[(_name(layer), lambda x, hook, move=move: put(x, hook, move))] for move in moves]
    return torch.stack([measure(model.run_with_hooks(tokens, fwd_hooks=hook)[:, -1]) for hook in hooks])


@right("all moves in one run")
@torch.no_grad()
def measure_when_moved(model, tokens, layer, moves, measure):
    def push(x, hook):
        x = x.clone()
        x[:, -1] += moves.flatten(0, 1)
        return x

    with model.hooks(fwd_hooks=[(_name(layer), push)]):
        logits = model(tokens.repeat(len(moves), 1))[:, -1]
    return measure(logits).reshape(moves.shape[:2])


@mistake("the random directions are uniform numbers, so that corners of the cube are likelier: normal ones")
def random_directions(n, d_model, seed):
    drawn = 2 * torch.rand(n, d_model, generator=torch.Generator().manual_seed(seed)) - 1
    return drawn / drawn.norm(dim=1, keepdim=True)


@mistake("all numbers are positive: one side is favoured")
def random_directions(n, d_model, seed):
    drawn = torch.rand(n, d_model, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=1, keepdim=True)


@mistake("not of length 1: divide by the norm")
def random_directions(n, d_model, seed):
    return torch.randn(n, d_model, generator=torch.Generator().manual_seed(seed))


@mistake("divides by the norm of all directions together: each has a norm of its own")
def random_directions(n, d_model, seed):
    drawn = torch.randn(n, d_model, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm()


@mistake("the same seed gives other numbers each time")
def random_directions(n, d_model, seed):
    generator = torch.Generator()
    generator.seed()
    return torch.nn.functional.normalize(torch.randn(n, d_model, generator=generator), dim=1)


@mistake("draws one direction, and repeats it")
def random_directions(n, d_model, seed):
    drawn = torch.randn(1, d_model, generator=torch.Generator().manual_seed(seed))
    return (drawn / drawn.norm()).expand(n, -1).clone()


@mistake("makes the directions orthogonal to each other: those that are drawn independently are not")
def random_directions(n, d_model, seed):
    generator = torch.Generator().manual_seed(seed)
    rounds = [torch.linalg.qr(torch.randn(d_model, d_model, generator=generator)).Q for _ in range(-(-n // d_model))]
    return torch.cat(rounds)[:n]


@right("numpy")
def random_directions(n, d_model, seed):
    drawn = np.random.default_rng(seed).normal(size=(n, d_model))
    return torch.tensor(drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)).float()


def _random(n, d_model, seed):
    drawn = torch.randn(n, d_model, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=1, keepdim=True)


def _tested(model, tokens, layer, direction, size, measure, n_random, seed, effect, random_size=1.0):
    """(effect on each row, mean effects of random directions); effect(move) is of one push."""
    units = torch.cat([(direction / direction.norm())[None], random_size * _random(n_random, len(direction), seed)])
    effects = [effect(size * unit.expand(len(tokens), -1)) for unit in units]
    return effects[0], torch.stack(effects[1:]).mean(1)


def _up_less_down(model, tokens, layer, measure):
    def effect(move):
        return _moved(model, tokens, layer, move, measure) - _moved(model, tokens, layer, -move, measure)

    return effect


@mistake("the push has the direction's own length: it is to have length `size`")
def causal_probe_test(model, tokens, layer, direction, size, measure, n_random, seed):
    effect = _up_less_down(model, tokens, layer, measure)
    _, null = _tested(model, tokens, layer, direction, size, measure, n_random, seed, effect)
    return effect(size * direction.expand(len(tokens), -1)), null


@mistake("compares with no push: with a push as far the other way")
def causal_probe_test(model, tokens, layer, direction, size, measure, n_random, seed):
    still = _moved(model, tokens, layer, torch.zeros(len(tokens), len(direction)), measure)
    effect = lambda move: _moved(model, tokens, layer, move, measure) - still  # noqa: E731
    return _tested(model, tokens, layer, direction, size, measure, n_random, seed, effect)


@mistake("down minus up: the push along the direction comes first")
def causal_probe_test(model, tokens, layer, direction, size, measure, n_random, seed):
    effect = _up_less_down(model, tokens, layer, measure)
    return _tested(model, tokens, layer, direction, -size, measure, n_random, seed, effect)


@mistake("random pushes are not as long as the probe's: their length is `size`, too")
def causal_probe_test(model, tokens, layer, direction, size, measure, n_random, seed):
    effect = _up_less_down(model, tokens, layer, measure)
    longer = len(direction) ** 0.5
    return _tested(model, tokens, layer, direction, size, measure, n_random, seed, effect, random_size=longer)


@mistake("takes the mean of the effect over rows: it is of each row")
def causal_probe_test(model, tokens, layer, direction, size, measure, n_random, seed):
    effect = _up_less_down(model, tokens, layer, measure)
    own, null = _tested(model, tokens, layer, direction, size, measure, n_random, seed, effect)
    return own.mean(), null


@mistake("the same random direction for all: draw a new one each time")
def causal_probe_test(model, tokens, layer, direction, size, measure, n_random, seed):
    effect = _up_less_down(model, tokens, layer, measure)
    own, null = _tested(model, tokens, layer, direction, size, measure, n_random, seed, effect)
    return own, null[:1].expand(n_random).clone()


@mistake("pushes down along another random direction than up: minus the same one")
def causal_probe_test(model, tokens, layer, direction, size, measure, n_random, seed):
    effect = _up_less_down(model, tokens, layer, measure)
    own, _ = _tested(model, tokens, layer, direction, size, measure, n_random, seed, effect)
    null = []
    for up, down in size * _random(2 * n_random, len(direction), seed).reshape(n_random, 2, 1, -1):
        pushed_up, pushed_down = (
            _moved(model, tokens, layer, move.expand(len(tokens), -1), measure) for move in (up, -down)
        )
        null.append((pushed_up - pushed_down).mean())
    return own, torch.stack(null)


@mistake("takes the random directions at a right angle to the probe's: none is likelier than another, nor less likely")
def causal_probe_test(model, tokens, layer, direction, size, measure, n_random, seed):
    effect, unit = _up_less_down(model, tokens, layer, measure), direction / direction.norm()
    drawn = _random(n_random, len(direction), seed)
    drawn = torch.nn.functional.normalize(drawn - (drawn @ unit)[:, None] * unit, dim=1)
    effects = [effect((size * each).expand(len(tokens), -1)) for each in [unit, *drawn]]
    return effects[0], torch.stack(effects[1:]).mean(1)


@mistake("takes the random directions' effects on the first row: the mean over rows")
def causal_probe_test(model, tokens, layer, direction, size, measure, n_random, seed):
    effect, unit = _up_less_down(model, tokens, layer, measure), direction / direction.norm()
    effects = [effect((size * each).expand(len(tokens), -1)) for each in [unit, *_random(n_random, len(unit), seed)]]
    return effects[0], torch.stack(effects[1:])[:, 0]


@right("all directions in one run")
@torch.no_grad()
def causal_probe_test(model, tokens, layer, direction, size, measure, n_random, seed):
    drawn = np.random.default_rng(seed).normal(size=(n_random, len(direction)))
    units = torch.cat([direction[None], torch.tensor(drawn).float()])
    units = size * torch.nn.functional.normalize(units, dim=-1)
    rows = torch.cat([units, -units]).repeat_interleave(len(tokens), 0)
    with model.hooks(fwd_hooks=[(_name(layer), lambda x, hook: _added(x, rows))]):
        values = measure(model(tokens.repeat(2 * len(units), 1))[:, -1])
    up, down = values.reshape(2, len(units), len(tokens))
    return (up - down)[0], (up - down)[1:].mean(dim=-1)


def _added(x, rows):
    x = x.clone()
    x[:, -1] += rows
    return x


@mistake("a probe can read what nobody else does: decodable is not used")
def answer_used():
    return "a"


@mistake("the push was at one layer and one position: elsewhere the model may use it")
def answer_used():
    return "c"


# --- 8. Open task


@torch.no_grad()
def _at(model, tokens, layer):
    _, cache = model.run_with_cache(tokens, names_filter=_name(layer))
    return cache["resid_post", layer][:, -1]


def _answer(logits):
    return logits[:, -2] - logits[:, -1]


def _cross(acts, labels):
    """Held-out accuracy of the mean-difference probe."""
    half = torch.arange(len(acts)) < len(acts) // 2
    return (_says(_mean_probe(acts[half], labels[half]), acts[~half]) == labels[~half]).float().mean()


def _pushes(model, tokens, labels, layer, directions):
    """By name: the mean change of the answer when each row's side is changed, in spreads of the answer."""
    still = _moved(model, tokens, layer, torch.zeros(1), _answer)
    found = {}
    for name, direction in directions.items():
        signs = 2.0 * labels[name] - 1
        flipped = _moved(model, tokens, layer, -signs[:, None] * direction, _answer)
        found[name] = float(((still - flipped) * signs).mean().abs() / still.std())
    return found


@mistake("others were named, too")
def find_used(model, tokens, labels, layer):
    """What a probe reads well."""
    acts = _at(model, tokens, layer)
    return {name for name, its in labels.items() if _cross(acts, its) > 0.6}


@mistake("used properties were found, but")
def find_used(model, tokens, labels, layer):
    """A push along the difference of means, which holds what goes together with the label."""
    acts = _at(model, tokens, layer)
    means = {name: acts[its].mean(0) - acts[~its].mean(0) for name, its in labels.items()}
    return {name for name, effect in _pushes(model, tokens, labels, layer, means).items() if effect > 0.2}


@mistake("missed were")
def find_used(model, tokens, labels, layer):
    """The gradient, which is 0 where attention is saturated."""
    with torch.enable_grad():
        kept = []

        def keep(x, hook):
            kept.append(x.detach().requires_grad_())
            return kept[0]

        logits = model.run_with_hooks(tokens, fwd_hooks=[(_name(layer), keep)])[:, -1]
        (grad,) = torch.autograd.grad(_answer(logits).sum(), kept[0])
    acts = _at(model, tokens, layer)
    spread = _answer(logits).std().item()
    directions = _own_directions(acts, labels)
    slopes = {name: float((grad[:, -1] @ d).mean().abs()) / spread for name, d in directions.items()}
    return {name for name, slope in slopes.items() if slope > 0.35}


@mistake("others were named, too:")
def find_used(model, tokens, labels, layer):
    """By the answer alone, which also depends on what is read elsewhere."""
    with torch.no_grad():
        answer = _answer(model(tokens)[:, -1])
    signs = torch.stack([2.0 * its - 1 for its in labels.values()], dim=1)
    parts = torch.linalg.lstsq(torch.cat([signs, torch.ones(len(signs), 1)], dim=1), answer[:, None]).solution[:-1, 0]
    return {name for name, part in zip(labels, parts, strict=True) if part.abs() > 0.2 * answer.std()}


@mistake("no property was named in any model")
def find_used(model, tokens, labels, layer):
    return set()


def _own_directions(acts, labels):
    """From one value to the other, the other labels held."""
    signs = torch.stack([2.0 * its - 1 for its in labels.values()], dim=1)
    found = torch.linalg.lstsq(torch.cat([signs, torch.ones(len(signs), 1)], dim=1), acts).solution
    return {name: 2 * direction for name, direction in zip(labels, found[:-1], strict=True)}


@right("own directions against random ones as long, and against the answer's spread")
def find_used(model, tokens, labels, layer):
    directions = _own_directions(_at(model, tokens, layer), labels)
    return [name for name, effect in _pushes(model, tokens, labels, layer, directions).items() if effect > 0.35]


@right("what is read of a pair of rows that differ in one property is exchanged")
def find_used(model, tokens, labels, layer):
    acts = _at(model, tokens, layer)
    directions = _own_directions(acts, labels)
    still = _moved(model, tokens, layer, torch.zeros(1), _answer)
    found = set()
    for name, direction in directions.items():
        unit = direction / direction.norm()
        if direction.norm() < 0.7:
            continue  # nothing of its own is held
        order = torch.randperm(len(acts), generator=torch.Generator().manual_seed(0))
        moves = ((acts[order] - acts) @ unit)[:, None] * unit
        change = _moved(model, tokens, layer, moves, _answer) - still
        turned = labels[name][order].float() - labels[name].float()
        slope = (change * turned).sum() / (turned**2).sum()
        if slope.abs() > 0.35 * still.std():
            found.add(name)
    return found
