"""Wrong answers to 4.2 What features are, and what each of them is."""

import itertools
import math

import torch

from concrete_steps import concepts
from concrete_steps.checking.mistakes import mistake, right

# --- 1. Levels


def _levels(acts, label, edges, top=True, share=lambda label, here: label[here].float().mean(), size=None):
    x = acts / (acts.max() if size is None else size(acts))
    out = []
    for i in range(len(edges) - 1):
        here = (x >= edges[i]) & (x < edges[i + 1])
        if top and i == len(edges) - 2:
            here |= x >= 1
        out.append(share(label, here))
    return torch.stack(out)


@mistake("leaves the largest activation out: it belongs to the last level")
def label_by_level(acts, label, edges):
    return _levels(acts, label, edges, top=False)


@mistake("asks where the words with the label lie (recall), not which share of a level has it")
def label_by_level(acts, label, edges):
    return _levels(acts, label, edges, share=lambda label, here: (label & here).sum() / label.sum())


@mistake("compares the activations with the edges as they are: they are shares of the largest")
def label_by_level(acts, label, edges):
    return _levels(acts, label, edges, size=lambda acts: torch.ones(()))


@mistake("divides by the sum of the activations, not by the largest")
def label_by_level(acts, label, edges):
    return _levels(acts, label, edges, size=lambda acts: acts.sum())


@mistake("gives 0 for a level without words: nothing is known there, so nan")
def label_by_level(acts, label, edges):
    return _levels(acts, label, edges).nan_to_num(0.0)


@mistake("counts everything from the lower edge up, with the higher levels in it")
def label_by_level(acts, label, edges):
    return torch.stack([label[acts / acts.max() >= low].float().mean() for low in edges[:-1]])


@mistake("leaves out the lower edge and takes the upper one in: a level holds its lower edge, and not its upper")
def label_by_level(acts, label, edges):
    x = acts / acts.max()
    pairs = itertools.pairwise(edges)
    return torch.stack([label[(x > low) & (x <= high)].float().mean() for low, high in pairs])


@mistake("measures the activations from the lowest one on: a share of the largest begins at 0")
def label_by_level(acts, label, edges):
    return _levels(acts - acts.min(), label, edges)


@right("float64, and edges as activations")
def label_by_level(acts, label, edges):
    largest, out = acts.max(), []
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        last = (acts == largest) & (i == len(edges) - 2)
        out.append(label[(acts >= low * largest) & (acts < high * largest) | last].double().mean())
    return torch.stack(out)


@right("bucketize")
def label_by_level(acts, label, edges):
    x = acts / acts.max()
    level = torch.bucketize(x.contiguous(), torch.tensor(edges), right=True).clamp(max=len(edges) - 1) - 1
    return torch.stack([label[level == i].float().mean() for i in range(len(edges) - 1)])


# --- 2. Axes


def _auroc(acts, label):
    more = acts[label][:, None] - acts[~label][None]
    return ((more > 0).double() + 0.5 * (more == 0).double()).mean((0, 1))


@mistake("chooses the axis on the new words: then the best of many is judged by what chose it")
def best_axis(acts, label, new_acts, new_label):
    found = _auroc(new_acts, new_label)
    return float(torch.maximum(found, 1 - found).max())


@mistake("gives the auroc on the first words, those that chose the axis")
def best_axis(acts, label, new_acts, new_label):
    found = _auroc(acts, label)
    return float(torch.maximum(found, 1 - found).max())


@mistake("looks for axes that are high alone: an axis may tell a label by being low")
def best_axis(acts, label, new_acts, new_label):
    return float(_auroc(new_acts, new_label)[_auroc(acts, label).argmax()])


@mistake("does not turn the axis round on the new words when it is low for the label")
def best_axis(acts, label, new_acts, new_label):
    return float(_auroc(new_acts, new_label)[(_auroc(acts, label) - 0.5).abs().argmax()])


@mistake("turns the axis round by what it does on the new words: the first ones fix the sign")
def best_axis(acts, label, new_acts, new_label):
    value = float(_auroc(new_acts, new_label)[(_auroc(acts, label) - 0.5).abs().argmax()])
    return max(value, 1 - value)


def _chosen_by(score, new_acts, new_label):
    best = int(score.abs().argmax())
    value = float(_auroc(new_acts, new_label)[best])
    return value if score[best] >= 0 else 1 - value


@mistake("chooses the axis by its correlation with the label, where one outlier decides: auroc goes by order")
def best_axis(acts, label, new_acts, new_label):
    x, y = acts - acts.mean(0), label.float() - label.float().mean()
    return _chosen_by(y @ x / x.norm(dim=0), new_acts, new_label)


@mistake("chooses the axis by the difference of means: then the one with the largest values wins")
def best_axis(acts, label, new_acts, new_label):
    return _chosen_by(acts[label].mean(0) - acts[~label].mean(0), new_acts, new_label)


@right("each axis and its opposite, side by side")
def best_axis(acts, label, new_acts, new_label):
    both = _auroc(torch.cat([acts, -acts], 1), label)
    return _auroc(torch.cat([new_acts, -new_acts], 1), new_label)[both.argmax()].item()


@right("the sign goes into the activations")
def best_axis(acts, label, new_acts, new_label):
    gain = 2 * _auroc(acts, label) - 1
    best = gain.abs().argmax()
    return _auroc(gain[best].sign() * new_acts[:, best, None].double(), new_label).item()


# --- 3. Superposition


@mistake("takes the features above one half, and not the k largest")
def read_back(directions, on):
    reads = directions[on].sum(1) @ directions.T
    return (reads.gather(1, on) > 0.5).float().mean(1)


@mistake("names the largest feature alone: k were on")
def read_back(directions, on):
    best = (directions[on].sum(1) @ directions.T).argmax(1)
    return (on == best[:, None]).any(1).float() / on.shape[1]


@mistake("takes the k largest by size: a feature that is on reads positive")
def read_back(directions, on):
    named = (directions[on].sum(1) @ directions.T).abs().topk(on.shape[1]).indices
    return (named[:, :, None] == on[:, None]).any(1).float().mean(1)


@mistake("asks whether all k are named: the share of them is wanted")
def read_back(directions, on):
    named = (directions[on].sum(1) @ directions.T).topk(on.shape[1]).indices
    return (named[:, :, None] == on[:, None]).any(1).all(1).float()


@mistake("gives one number for all rows: one for each is wanted, so that there can be an interval")
def read_back(directions, on):
    named = (directions[on].sum(1) @ directions.T).topk(on.shape[1]).indices
    return (named[:, :, None] == on[:, None]).any(1).float().mean()


@mistake("compares place by place: which features are named counts, not in which order")
def read_back(directions, on):
    named = (directions[on].sum(1) @ directions.T).topk(on.shape[1]).indices
    return (named == on).float().mean(1)


@mistake("takes what it named off the sum before it reads again: all are read once, from the whole sum")
def read_back(directions, on):
    shares = []
    for row in on:
        stream, named = directions[row].sum(0), []
        for _ in row:
            reads = directions @ stream
            reads[named] = -torch.inf
            named.append(int(reads.argmax()))
            stream = stream - directions[named[-1]]
        shares.append(len(set(named) & set(row.tolist())) / len(row))
    return torch.tensor(shares)


@right("as ones and zeros, a row for each, one matrix for all dot products")
def read_back(directions, on):
    given = torch.zeros(len(on), len(directions)).scatter_(1, on, 1.0)
    reads = given @ directions @ directions.T
    named = torch.zeros_like(given).scatter_(1, reads.topk(on.shape[1], dim=1).indices, 1.0)
    return (given * named).sum(1).double() / on.shape[1]


@right("row by row, with sets")
def read_back(directions, on):
    shares = []
    for row in on:
        reads = directions @ directions[row].sum(0)
        best = set(reads.argsort(descending=True)[: len(row)].tolist())
        shares.append(len(best & set(row.tolist())) / len(row))
    return torch.tensor(shares)


# --- 4. Lines and circles


def _ridge(points, code, ridge, left_out=True, mean_in=True, code_mean=True, size=True):
    said = []
    for i in range(len(points)):
        keep = torch.arange(len(points)) != i if left_out else torch.ones(len(points), dtype=torch.bool)
        mean = points[keep].mean(0) if mean_in else torch.zeros_like(points[0])
        code_mean_here = code[keep].mean(0) if code_mean else torch.zeros_like(code[0])
        x, y = points[keep] - mean, code[keep] - code_mean_here
        kernel = x @ x.T
        m = kernel.diagonal().mean() if size else 1.0
        weights = x.T @ torch.linalg.solve(kernel + ridge * m * torch.eye(len(x), dtype=x.dtype), y)
        said.append((points[i] - mean) @ weights + code_mean_here)
    return torch.stack(said)


@mistake("leaves no point out: any order fits the points that it was fitted to")
def left_out(points, code, ridge):
    return _ridge(points, code, ridge, left_out=False)


@mistake("does not centre the points: the others' mean is to be taken off all of them")
def left_out(points, code, ridge):
    return _ridge(points, code, ridge, mean_in=False)


@mistake("forgets to add the codes' mean again")
def left_out(points, code, ridge):
    said = _ridge(points, code, ridge)
    n = len(points)
    return said - (code.sum(0) - code) / (n - 1)


@mistake("takes the ridge as it is, and not times the mean of the diagonal")
def left_out(points, code, ridge):
    return _ridge(points, code, ridge, size=False)


@mistake("centres on the mean of all points, so that the left-out one had a say")
def left_out(points, code, ridge):
    x, y = points - points.mean(0), code - code.mean(0)
    return _ridge(x, y, ridge, mean_in=False, code_mean=False) + code.mean(0)


@mistake("takes the ridge times the whole diagonal's sum: m is its mean")
def left_out(points, code, ridge):
    return _ridge(points, code, ridge * (len(points) - 1))


@mistake("does not take the others' mean off the left-out point")
def left_out(points, code, ridge):
    said = _ridge(points, code, ridge)
    for i in range(len(points)):  # what the mean itself is foretold to be comes in once more
        moved = points.clone()
        moved[i] = points[i] + torch.cat([points[:i], points[i + 1 :]]).mean(0)
        said[i] = _ridge(moved, code, ridge)[i]
    return said


@right("singular values of the others")
def left_out(points, code, ridge):
    said = []
    for i in range(len(points)):
        its = [j for j in range(len(points)) if j != i]
        mean, mean_code = points[its].mean(0), code[its].mean(0)
        u, s, vh = torch.linalg.svd(points[its] - mean, full_matrices=False)
        shrunk = s / (s.square() + ridge * s.square().sum() / len(its))
        said.append(mean_code + (points[i] - mean) @ vh.T @ (shrunk[:, None] * (u.T @ (code[its] - mean_code))))
    return torch.stack(said)


@right("weights of d by d")
def left_out(points, code, ridge):
    said = torch.empty_like(code)
    for i in range(len(points)):
        x, y = (torch.cat([its[:i], its[i + 1 :]]) for its in (points, code))
        X, Y = x - x.mean(0), y - y.mean(0)
        size = ridge * X.square().sum() / len(X)
        weights = torch.linalg.solve(X.T @ X + size * torch.eye(X.shape[1], dtype=X.dtype), X.T @ Y)
        said[i] = (points[i] - x.mean(0)) @ weights + y.mean(0)
    return said


@mistake("counts the step from the last to the first among the steps")
def closing(points):
    steps = (points - points.roll(1, 0)).norm(dim=1)
    return (steps[0] / steps.mean()).item()


@mistake("divides by the length of the whole way, not by the mean step")
def closing(points):
    return ((points[-1] - points[0]).norm() / (points[1:] - points[:-1]).norm(dim=1).sum()).item()


@mistake("takes the distance of last and first as it is: it depends on the scale")
def closing(points):
    return (points[-1] - points[0]).norm().item()


@mistake("is upside down: the mean step over the distance of last and first")
def closing(points):
    return ((points[1:] - points[:-1]).norm(dim=1).mean() / (points[-1] - points[0]).norm()).item()


@mistake("takes the mean of the steps as vectors: their lengths are meant")
def closing(points):
    return ((points[-1] - points[0]).norm() / (points[1:] - points[:-1]).mean(0).norm()).item()


@mistake("divides by the number of points: there is one step less")
def closing(points):
    steps = (points[1:] - points[:-1]).norm(dim=1)
    return ((points[-1] - points[0]).norm() / (steps.sum() / len(points))).item()


@mistake("takes squared distances: the distances themselves are compared")
def closing(points):
    steps = (points[1:] - points[:-1]).square().sum(1)
    return ((points[-1] - points[0]).square().sum() / steps.mean()).item()


@right("cdist")
def closing(points):
    apart = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return float(apart[0, -1] / apart.diagonal(1).mean())


@mistake("the codes place the words well; on a circle last and first would be one step apart")
def answer_curve():
    return "b"


@mistake("the order is shown by the left-out words; that the ends are apart does not take it back")
def answer_curve():
    return "c"


# --- 5. Dictionaries


def _rates(fires, parent, child, latent):
    return tuple(fires[its][:, latent].float().mean().item() for its in (parent & ~child, parent & child))


def _share(fires, rows):
    return fires[rows].float().mean(0)


@mistake("chooses the latent with the child's rows in it: then it may be the child's own")
def absorbed(fires, parent, child):
    return _rates(fires, parent, child, (_share(fires, parent) - _share(fires, ~parent)).argmax())


@mistake("chooses the latent that is on most often: one that is always on tells nothing")
def absorbed(fires, parent, child):
    return _rates(fires, parent, child, _share(fires, parent & ~child).argmax())


@mistake("gives the two rates the other way round: without the child comes first")
def absorbed(fires, parent, child):
    latent = (_share(fires, parent & ~child) - _share(fires, ~parent)).argmax()
    return _rates(fires, parent, child, latent)[::-1]


@mistake("counts all rows of the parent, where those without the child are meant")
def absorbed(fires, parent, child):
    latent = (_share(fires, parent & ~child) - _share(fires, ~parent)).argmax()
    return _share(fires, parent)[latent].item(), _rates(fires, parent, child, latent)[1]


@mistake("chooses a latent anew for the rows with the child: it is the same latent that may be silent there")
def absorbed(fires, parent, child):
    off = _share(fires, ~parent)
    alone, together = _share(fires, parent & ~child), _share(fires, parent & child)
    return alone[(alone - off).argmax()].item(), together[(together - off).argmax()].item()


@mistake("takes rows with neither parent nor child for the parent's being off: a child alone is off, too")
def absorbed(fires, parent, child):
    latent = (_share(fires, parent & ~child) - _share(fires, ~parent & ~child)).argmax()
    return _rates(fires, parent, child, latent)


@mistake("chooses the latent with the greatest hole: what counts is how far it is above rows without the parent")
def absorbed(fires, parent, child):
    latent = (_share(fires, parent & ~child) - _share(fires, parent & child)).argmax()
    return _rates(fires, parent, child, latent)


@mistake("counts all rows of the child, where those of parent and child are meant")
def absorbed(fires, parent, child):
    latent = (_share(fires, parent & ~child) - _share(fires, ~parent)).argmax()
    return _rates(fires, parent, child, latent)[0], _share(fires, child)[latent].item()


@right("weights that sum to one for each group of rows")
def absorbed(fires, parent, child):
    groups = torch.stack([parent & ~child, parent & child, ~parent]).double()
    shares = groups / groups.sum(1, keepdim=True) @ fires.double()
    latent = (shares[0] - shares[2]).argmax()
    return float(shares[0, latent]), float(shares[1, latent])


@right("a loop over latents")
def absorbed(fires, parent, child):
    best, found = -math.inf, (0.0, 0.0)
    for latent in fires.T:
        rates = [float(latent[rows].double().mean()) for rows in (parent & ~child, parent & child, ~parent)]
        if rates[0] - rates[2] > best:
            best, found = rates[0] - rates[2], (rates[0], rates[1])
    return found


# --- 6. Across models


def _cosines(x, centre=True, unit=True):
    x = x - x.mean(0) if centre else x
    x = x / x.norm(dim=1, keepdim=True) if unit else x
    return x @ x.T


def _correlated(a, b, pairs=True):
    which = torch.ones_like(a, dtype=torch.bool).triu(1) if pairs else torch.ones_like(a, dtype=torch.bool)
    return torch.corrcoef(torch.stack([a[which], b[which]]))[0, 1].item()


@mistake("does not take the mean off: what all words have in common makes them alike")
def geometry_agreement(a, b):
    return _correlated(_cosines(a, centre=False), _cosines(b, centre=False))


@mistake("takes each word with itself in: these cosines are 1 in every model")
def geometry_agreement(a, b):
    return _correlated(_cosines(a), _cosines(b), pairs=False)


@mistake("takes dot products: cosines do not depend on the words' lengths")
def geometry_agreement(a, b):
    return _correlated(_cosines(a, unit=False), _cosines(b, unit=False))


@mistake("takes the cosine of the two lists, where their correlation is meant")
def geometry_agreement(a, b):
    pairs = torch.ones(len(a), len(a), dtype=torch.bool).triu(1)
    return torch.cosine_similarity(_cosines(a)[pairs], _cosines(b)[pairs], dim=0).item()


@mistake("makes the words of length 1 before it takes the mean off: then they are no cosines")
def geometry_agreement(a, b):
    return _correlated(*(_cosines(x / x.norm(dim=1, keepdim=True), unit=False) for x in (a, b)))


@mistake("correlates distances between words: cosines are wanted, which do not depend on their lengths")
def geometry_agreement(a, b):
    return torch.corrcoef(torch.stack([torch.pdist(a), torch.pdist(b)]))[0, 1].item()


@right("both triangles, by scipy")
def geometry_agreement(a, b):
    from scipy.spatial.distance import cdist
    from scipy.stats import pearsonr

    apart = ~torch.eye(len(a), dtype=torch.bool).numpy()
    lists = [1 - cdist(x, x, "cosine")[apart] for x in ((its - its.mean(0)).numpy() for its in (a, b))]
    return float(pearsonr(*lists)[0])


@right("numpy and a loop over pairs")
def geometry_agreement(a, b):
    import numpy as np

    lists = []
    for x in (a, b):
        x = (x - x.mean(0)).double().numpy()
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        lists.append([x[i] @ x[j] for i in range(len(x)) for j in range(i)])
    return float(np.corrcoef(*lists)[0, 1])


@mistake("puts a word where another group was: it shuffles all words")
def shuffle_within(groups, seed):
    return torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed))


@mistake("does not shuffle: every word stays where it is")
def shuffle_within(groups, seed):
    order = torch.arange(len(groups))
    if seed < 0:
        order = order.flip(0)
    return order


@mistake("draws with replacement, and does not hold each word once")
def shuffle_within(groups, seed):
    generator = torch.Generator().manual_seed(seed)
    order = torch.arange(len(groups))
    for group in groups.unique():
        places = (groups == group).nonzero()[:, 0]
        order[places] = places[torch.randint(len(places), (len(places),), generator=generator)]
    return order


@mistake("the same seed gave another the second time")
def shuffle_within(groups, seed):
    generator = torch.Generator()
    generator.seed()
    order = torch.arange(len(groups))
    for group in groups.unique():
        places = (groups == group).nonzero()[:, 0]
        order[places] = places[torch.randperm(len(places), generator=generator)]
    return order


@mistake("each is equally likely, the groups apart from each other")
def shuffle_within(groups, seed):
    order = torch.arange(len(groups))
    for group in groups.unique():
        places = (groups == group).nonzero()[:, 0]
        same = torch.Generator().manual_seed(seed)  # the same for all groups
        order[places] = places[torch.randperm(len(places), generator=same)]
    return order


@right("numpy's generator, whole numbers of 32 bits")
def shuffle_within(groups, seed):
    import numpy as np

    generator = np.random.default_rng(seed)
    its, order = groups.numpy(), np.arange(len(groups), dtype=np.int32)
    for group in np.unique(its):
        order[its == group] = generator.permutation(np.flatnonzero(its == group))
    return torch.from_numpy(order)


@right("sorted by group, then by random numbers")
def shuffle_within(groups, seed):
    draw = torch.rand(len(groups), generator=torch.Generator().manual_seed(seed))
    mixed = draw.argsort()
    mixed = mixed[groups[mixed].argsort(stable=True)]
    order = torch.empty_like(mixed)
    order[groups.argsort(stable=True)] = mixed
    return order


@mistake("words that lie partly alike are no features that are the same")
def answer_universal():
    return "a"


@mistake("below 1 they are not the same, but .45 against .05 is no accident either")
def answer_universal():
    return "b"


# --- 7. Open task


def _halves(concept):
    half = torch.zeros(len(concept.value), dtype=torch.bool)
    for v in range(concept.n_values):
        rows = (concept.value == v).nonzero()[:, 0]
        half[rows[::2]] = True
    return half


def _explained(acts, codes, fit, on):
    x, mean = acts[fit] - acts[fit].mean(0), codes[fit].mean(0)
    weights = torch.linalg.solve(x.T @ x + 10 * torch.eye(x.shape[1]), x.T @ (codes[fit] - mean))
    left = codes[on] - mean - (acts[on] - acts[fit].mean(0)) @ weights
    return 1 - left.square().sum(0) / (codes[on] - mean).square().sum(0)


def _judge(concept, held_out=True, fold=True, ends=True, axes=True):
    acts, value, n = concept.acts.double(), concept.value, concept.n_values
    half = _halves(concept)
    angle = 2 * math.pi * (value.double() + 0.5) / n
    codes = torch.stack([value.double() - (n - 1) / 2, angle.cos()], 1)
    line, bent = _explained(acts, codes, half, ~half if held_out else half).tolist()
    if max(line, bent) < 0.25:
        return "nothing"
    if bent < 0.25 or not fold:
        r = torch.corrcoef(torch.cat([codes[:, :1], acts], dim=1).T)[0, 1:]
        return "neuron" if axes and r.abs().max() > 0.79 else "direction"
    a, b = (torch.stack([acts[its & (value == v)].mean(0) for v in range(n)]) for its in (half, ~half))

    def apart(i, j):
        return ((a[i] - a[j]) @ (b[i] - b[j])).item()

    step = sum(apart(i, i + 1) for i in range(n - 1)) / (n - 1)
    across = [apart(i, i + n // 2) for i in range(n - n // 2)]
    closes = apart(0, n - 1) < (step + sum(across) / len(across)) / 2
    return "circle" if closes or not ends else "arc"


@mistake("finds something in every noise: with so many neurons all that is fitted fits its own rows")
def find_kind(concept):
    return _judge(concept, held_out=False)


@mistake("takes every straight line for a direction: look at how well one axis alone does")
def find_kind(concept):
    return _judge(concept, axes=False)


@mistake("never says circle or arc: they are more than their line")
def find_kind(concept):
    return _judge(concept, fold=False)


@mistake("takes every bent line for a circle: do the ends meet?")
def find_kind(concept):
    return _judge(concept, ends=False)


@mistake("takes every straight line for a neuron: does one axis alone do as well as the best direction?")
def find_kind(concept):
    kind = _judge(concept)
    if kind in ("neuron", "direction"):
        variance = concept.acts.var(0)
        return "neuron" if variance.max() > 4 * variance.median() else "direction"
    return kind


@mistake("says the same of all concepts that it was asked about")
def find_kind(concept):
    return next(iter(concepts.KINDS))


@right("with the mean activations of each value")
def find_kind(concept):
    return _judge(concept)


def _means(acts, value, n):
    return torch.stack([acts[value == v].mean(0) for v in range(n)])


def _shuffles(value, draws):
    generator = torch.Generator().manual_seed(0)
    return [value[torch.randperm(len(value), generator=generator)] for _ in range(draws)]


@right("discriminants: values' means in units of the noise within values, against shuffled values")
def find_kind(concept):
    acts, value, n = concept.acts.double(), concept.value, concept.n_values

    def discriminants(value):
        means = _means(acts, value, n)
        within = acts - means[value]
        covariance = within.T @ within / (len(acts) - n) + 0.1 * torch.eye(acts.shape[1])
        return (means - means.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(covariance)).T

    u, sizes, _ = torch.linalg.svd(discriminants(value), full_matrices=False)
    chance = max(torch.linalg.svdvals(discriminants(shuffled))[0] for shuffled in _shuffles(value, 60))
    if sizes[0] <= chance:
        return "nothing"
    means = _means(acts, value, n)
    if sizes[1] <= chance:
        by_neuron = means.var(0) - (acts - means[value]).var(0) / 14
        return "neuron" if by_neuron.max() > 0.5 * by_neuron.clamp(min=0).sum() else "direction"
    plane = u[:, :2] * sizes[:2]
    return "circle" if (plane[-1] - plane[0]).norm() < 2 * (plane[1:] - plane[:-1]).norm(dim=1).mean() else "arc"


@right("a map of the values by their distances (classical scaling), the distances' noise taken off")
def find_kind(concept):
    acts, value, n = concept.acts.double(), concept.value, concept.n_values
    pairs = ~torch.eye(n, dtype=torch.bool)

    def distances(value):
        means = _means(acts, value, n)
        within = acts - means[value]
        covariance = within.T @ within / (len(acts) - n)
        inverse = torch.linalg.inv(covariance + 0.5 * torch.eye(acts.shape[1]))
        apart = means[:, None] - means[None]
        noise = 2 / 14 * (inverse @ covariance).trace()
        return ((apart @ inverse * apart).sum(-1) - noise) * pairs

    found = distances(value)
    if found[pairs].mean() <= 3 * max(distances(shuffled)[pairs].mean().abs() for shuffled in _shuffles(value, 30)):
        return "nothing"
    centre = torch.eye(n, dtype=torch.float64) - 1 / n
    sizes, axes = torch.linalg.eigh(-0.5 * centre @ found @ centre)
    if sizes[-2] < 0.25 * sizes[-1]:
        along = (axes[:, -1] @ _means(acts, value, n)).square()
        return "neuron" if along.max() > 0.5 * along.sum() else "direction"
    return "circle" if found[0, -1] < 1.2 * found.diagonal(2).mean() else "arc"


@right("codes foretold on four parts in turn, each against shuffled values; then the best neuron alone")
def find_kind(concept):
    acts, value, n = concept.acts.double(), concept.value, concept.n_values
    angle = 2 * math.pi * (value.double() + 0.5) / n
    part = torch.arange(len(value))[_shuffles(torch.arange(len(value)), 1)[0]] % 4

    def foretold(x, y):
        out = torch.zeros_like(y)
        for its in range(4):
            fit = part != its
            a, mean = x[fit] - x[fit].mean(0), y[fit].mean()
            weights = torch.linalg.solve(a.T @ a + 5 * torch.eye(x.shape[1]), a.T @ (y[fit] - mean))
            out[~fit] = (x[~fit] - x[fit].mean(0)) @ weights + mean
        return (1 - (out - y).square().sum() / (y - y.mean()).square().sum()).item()

    def beyond_chance(y):
        share = foretold(acts, y)
        return share if share > max(0.2, *(foretold(acts, other) for other in _shuffles(y, 10))) else 0.0

    line, bent, side = beyond_chance(value.double()), beyond_chance(angle.cos()), beyond_chance(angle.sin())
    if not max(line, bent, side):
        return "nothing"
    if not bent:
        best = max(foretold(acts[:, [i]], value.double()) for i in range(acts.shape[1]))
        return "neuron" if best > line - 0.1 else "direction"
    return "circle" if side > line + 0.12 else "arc"
