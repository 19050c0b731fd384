"""Wrong answers to 5.2 Toy Models of Superposition, and what each of them is."""

import math

import torch
from torch import nn

from concrete_steps.checking.mistakes import mistake, right

# --- 1. The model. The underscored classes are right; the wrong ones vary them.


class _ToyModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.W = nn.Parameter(torch.randn(cfg.n_instances, cfg.d_hidden, cfg.n_features))
        self.b = nn.Parameter(torch.zeros(cfg.n_instances, cfg.n_features))

    def last(self, out):
        return out if self.cfg.is_linear else out.relu()

    def forward(self, x):
        return self.last(x @ self.W.mT @ self.W + self.b[:, None])


@mistake("adds b along the batch: b is [instance feature] and needs an axis for the samples, self.b[:, None]")
class ToyModel(_ToyModel):
    def forward(self, x):
        return self.last(x @ self.W.mT @ self.W + self.b)


@mistake("puts a ReLU on the hidden dimensions: they are linear, only the output has one")
class ToyModel(_ToyModel):
    def forward(self, x):
        return self.last((x @ self.W.mT).relu() @ self.W + self.b[:, None])


@mistake("leaves out the ReLU at the end")
class ToyModel(_ToyModel):
    def last(self, out):
        return out


@mistake("uses the ReLU even where cfg.is_linear says no")
class ToyModel(_ToyModel):
    def last(self, out):
        return out.relu()


@mistake("uses the ReLU when cfg.is_linear is True, and none otherwise: it is the other way round")
class ToyModel(_ToyModel):
    def last(self, out):
        return out.relu() if self.cfg.is_linear else out


@mistake("never adds b")
class ToyModel(_ToyModel):
    def forward(self, x):
        return self.last(x @ self.W.mT @ self.W)


@mistake("adds b after the ReLU: it belongs inside")
class ToyModel(_ToyModel):
    def forward(self, x):
        return self.last(x @ self.W.mT @ self.W) + self.b[:, None]


@mistake("gives every instance the W of instance 0: does the instance keep its letter in your einsum?")
class ToyModel(_ToyModel):
    def forward(self, x):
        return self.last(x @ self.W[0].mT @ self.W[0] + self.b[:, None])


@mistake("sums over the instances: does the instance stay on both sides of your einsum?")
class ToyModel(_ToyModel):
    def forward(self, x):
        hidden = torch.einsum("ibf,jhf->ibh", x, self.W)
        return self.last(torch.einsum("ibh,jhf->ibf", hidden, self.W) + self.b[:, None])


@mistake("W is transposed: it has shape")
class ToyModel(_ToyModel):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.W = nn.Parameter(torch.randn(cfg.n_instances, cfg.n_features, cfg.d_hidden))

    def forward(self, x):
        return self.last(x @ self.W @ self.W.mT + self.b[:, None])


@mistake("it is a plain tensor, not a parameter: wrap it in nn.Parameter")
class ToyModel(_ToyModel):
    def __init__(self, cfg):
        super().__init__(cfg)
        del self.W
        self.W = torch.randn(cfg.n_instances, cfg.d_hidden, cfg.n_features)


@mistake("has requires_grad=False: it is to be trained")
class ToyModel(_ToyModel):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.W.requires_grad_(False)


@mistake("starts every instance from the same W: draw each its own")
class ToyModel(_ToyModel):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.W = nn.Parameter(torch.randn(1, cfg.d_hidden, cfg.n_features).repeat(cfg.n_instances, 1, 1))


@mistake("b does not start at 0")
class ToyModel(_ToyModel):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.b = nn.Parameter(torch.randn(cfg.n_instances, cfg.n_features))


@mistake("is a part of the computation detached?")
class ToyModel(_ToyModel):
    def forward(self, x):
        return self.last(x @ self.W.mT @ self.W.detach() + self.b[:, None])


@mistake("keep the dtype of x")
class ToyModel(_ToyModel):
    def forward(self, x):
        return super().forward(x).float()


@mistake("the ReLU sets the negative echo to 0")
def answer_pair():
    return "b"


@mistake("each output reads hidden with its own weight, 1 or -1: nothing is shared out")
def answer_pair():
    return "c"


# --- 2. Data and loss


def _rand(density, batch_size):
    return torch.rand(len(density), batch_size, density.shape[1])


@mistake("takes density for the sparsity: a feature is on with probability density, not 1 - density")
def generate_batch(density, batch_size):
    return _rand(density, batch_size) * (_rand(density, batch_size) > density[:, None])


@mistake("draws normal values, which can be negative: uniform in [0, 1] is meant")
def generate_batch(density, batch_size):
    return torch.randn(len(density), batch_size, density.shape[1]) * (_rand(density, batch_size) < density[:, None])


@mistake("gives every instance the same samples: draw for each instance")
def generate_batch(density, batch_size):
    one = torch.rand(1, batch_size, density.shape[1])
    return one * (torch.rand(1, batch_size, density.shape[1]) < density[:, None])


@mistake("decides once for the whole batch which features are on: decide for every sample")
def generate_batch(density, batch_size):
    return _rand(density, batch_size) * (torch.rand(density.shape) < density)[:, None]


@mistake("decides by the value itself, so that no value is above density: draw a second number to decide")
def generate_batch(density, batch_size):
    x = _rand(density, batch_size)
    return x * (x < density[:, None])


@mistake("gives all instances the same values, and only draws for each what is on")
def generate_batch(density, batch_size):
    return torch.rand(1, batch_size, density.shape[1]) * (_rand(density, batch_size) < density[:, None])


@mistake("draws a few samples and repeats them: draw every sample")
def generate_batch(density, batch_size):
    half = generate_batch_right(density, (batch_size + 1) // 2)
    return half.repeat(1, 2, 1)[:, :batch_size]


@mistake("switches all features of a sample together: draw a number for each feature")
def generate_batch(density, batch_size):
    return _rand(density, batch_size) * (torch.rand(len(density), batch_size, 1) < density[:, None])


@mistake("puts the batch first: the instance is the first axis")
def generate_batch(density, batch_size):
    x = torch.rand(batch_size, *density.shape)
    return x * (torch.rand(batch_size, *density.shape) < density)


@mistake("sets what is on to 1: its value is uniform in [0, 1]")
def generate_batch(density, batch_size):
    return (_rand(density, batch_size) < density[:, None]).float()


@mistake("two calls give the same samples: draw anew in each, fix no seed inside")
def generate_batch(density, batch_size):
    rng = torch.Generator().manual_seed(0)
    values, decide = torch.rand(2, len(density), batch_size, density.shape[1], generator=rng)
    return values * (decide < density[:, None])


@mistake("multiplies by density instead of switching features off")
def generate_batch(density, batch_size):
    return _rand(density, batch_size) * density[:, None]


@mistake("multiplies the error by the importance before squaring: that squares the importance too")
def importance_loss(x, out, importance):
    return (importance[:, None] * (x - out)).square().sum(-1).mean(-1)


@mistake("takes the mean over features: they are summed")
def importance_loss(x, out, importance):
    return (importance[:, None] * (x - out).square()).mean((1, 2))


@mistake("sums over the samples: the mean over the batch is meant")
def importance_loss(x, out, importance):
    return (importance[:, None] * (x - out).square()).sum((1, 2))


@mistake("takes the mean over features and sums over samples: it is the other way round")
def importance_loss(x, out, importance):
    return (importance[:, None] * (x - out).square()).mean(-1).sum(-1)


@mistake("gives one number for all instances: each has its own loss")
def importance_loss(x, out, importance):
    return (importance[:, None] * (x - out).square()).sum(-1).mean()


@mistake("gives a loss for each sample: the mean over the batch is missing")
def importance_loss(x, out, importance):
    return (importance[:, None] * (x - out).square()).sum(-1)


@mistake("leaves the importance out")
def importance_loss(x, out, importance):
    return (x - out).square().sum(-1).mean(-1)


@mistake("leaves out features that are 0: an output that is not 0 there is an error, too")
def importance_loss(x, out, importance):
    return (importance[:, None] * (x - out).square().masked_fill(x == 0, 0)).sum(-1).mean(-1)


@mistake("takes the absolute error: it is squared")
def importance_loss(x, out, importance):
    return (importance[:, None] * (x - out).abs()).sum(-1).mean(-1)


@mistake("the bias and W have the same sizes in both")
def answer_linear():
    return "a"


@mistake("more steps do not help: its best solution has no superposition")
def answer_linear():
    return "b"


# --- 4. Dimensionality


def _unit(W):
    return W / W.norm(dim=-2, keepdim=True).clamp(min=1e-12)


@mistake("does not square the products in the sum")
def feature_dimensionality(W):
    return W.square().sum(-2) / (_unit(W).mT @ W).abs().sum(-1).clamp(min=1e-12)


@mistake("has |W_i| above the line: it is squared")
def feature_dimensionality(W):
    return W.norm(dim=-2) / (_unit(W).mT @ W).square().sum(-1).clamp(min=1e-12)


@mistake("makes both directions of a product units: W_j keeps its length, so that weak features crowd less")
def feature_dimensionality(W):
    return W.square().sum(-2) / (_unit(W).mT @ _unit(W)).square().sum(-1).clamp(min=1e-12)


@mistake("makes neither direction of a product a unit: Ŵ_i has length 1")
def feature_dimensionality(W):
    return W.square().sum(-2) / (W.mT @ W).square().sum(-1).clamp(min=1e-12)


@mistake("makes W_j a unit instead of W_i")
def feature_dimensionality(W):
    return W.square().sum(-2) / (W.mT @ _unit(W)).square().sum(-1).clamp(min=1e-12)


@mistake("leaves feature i itself out of the sum")
def feature_dimensionality(W):
    squares = (_unit(W).mT @ W).square()
    return W.square().sum(-2) / (squares.sum(-1) - squares.diagonal(dim1=-2, dim2=-1)).clamp(min=1e-12)


@mistake("squares after summing: each product is squared first")
def feature_dimensionality(W):
    return W.square().sum(-2) / (_unit(W).mT @ W).sum(-1).square().clamp(min=1e-12)


@mistake("takes rows of W for features: feature i is column i")
def feature_dimensionality(W):
    product = W @ W.mT
    return product.diagonal(dim1=-2, dim2=-1).square() / product.square().sum(-1).clamp(min=1e-12)


@mistake("divides 0 by 0 where a feature is absent: its D is 0")
def feature_dimensionality(W):
    product = W.mT @ W
    return product.diagonal(dim1=-2, dim2=-1).square() / product.square().sum(-1)


# --- 5. Geometry


def _geometry(W, least=0.5, cosine=lambda unit: (unit.T @ unit).abs(), steps=None, dims=None):
    kept = W[:, W.norm(dim=0) >= least]
    if kept.numel() == 0:
        return []
    unit = kept / kept.norm(dim=0)
    reach = cosine(unit) > 0.25
    for _ in range(len(reach) if steps is None else steps):
        reach = reach.float() @ reach.float() > 0
    count = dims or (lambda unit, kept, group: int((torch.linalg.svdvals(unit[:, group]) > 0.5).sum()))
    return sorted(((int(g.sum()), count(unit, kept, g)) for g in reach.unique(dim=0)), reverse=True)


@mistake("counts a negative cosine as no link: antipodal features are linked, take the absolute value")
def find_geometry(W):
    return _geometry(W, cosine=lambda unit: unit.T @ unit)


@mistake("keeps features that are hardly there: leave out those shorter than 0.5")
def find_geometry(W):
    return _geometry(W, least=1e-9)


@mistake("links by the dot product of W_i and W_j: divide by their lengths")
def find_geometry(W):
    kept = W[:, W.norm(dim=0) >= 0.5]
    return _geometry(W, cosine=lambda unit: (kept.T @ kept).abs().fill_diagonal_(1.0))


@mistake("groups only what is linked directly: links of links belong to the group too")
def find_geometry(W):
    return _geometry(W, steps=0)


@mistake("measures dimensions with W as it is: make the directions units first")
def find_geometry(W):
    return _geometry(W, dims=lambda unit, kept, g: int((torch.linalg.svdvals(kept[:, g]) > 0.5).sum()))


@mistake("takes the exact rank: a digon that is a little bent has rank 2, so count singular values above 0.5")
def find_geometry(W):
    return _geometry(W, dims=lambda unit, kept, g: int(torch.linalg.matrix_rank(unit[:, g])))


@mistake("counts singular values above half of the largest: above 0.5 is asked for")
def find_geometry(W):
    def above_half(unit, kept, group):
        values = torch.linalg.svdvals(unit[:, group])
        return int((values > 0.5 * values.max()).sum())

    return _geometry(W, dims=above_half)


@mistake("gives each group all hidden dimensions: count those that its own directions need")
def find_geometry(W):
    return _geometry(W, dims=lambda unit, kept, g: len(unit))


@mistake("gives tensors of one number: int(...) makes plain numbers")
def find_geometry(W):
    return [(torch.tensor(n), torch.tensor(d)) for n, d in _geometry(W)]


@mistake("gives lists of two numbers: pairs are tuples")
def find_geometry(W):
    return [list(pair) for pair in _geometry(W)]


@mistake("gives (dimensions, features): features come first")
def find_geometry(W):
    return sorted(((d, n) for n, d in _geometry(W)), reverse=True)


@mistake("sorts by dimensions: the largest group has the most features")
def find_geometry(W):
    return sorted(_geometry(W), key=lambda pair: (pair[1], pair[0]), reverse=True)


@mistake("puts the smallest group first")
def find_geometry(W):
    return _geometry(W)[::-1]


@mistake("that would be a change without a jump; the figure shows both shapes at one ratio")
def answer_crossing():
    return "a"


@mistake("the lowest loss is continuous where the curves cross: what jumps is the shape")
def answer_crossing():
    return "c"


# --- 8. Correlated features


def _active(density, batch_size):
    return _rand(density, batch_size) < density[:, None]


@mistake("decides for each feature by itself: the features of a set are on together")
def correlated_features(density, size, batch_size):
    return generate_batch_right(density.repeat_interleave(size, dim=-1), batch_size)


def generate_batch_right(density, batch_size):
    return _rand(density, batch_size) * _active(density, batch_size)


@mistake("gives all features of a set one value: each has its own")
def correlated_features(density, size, batch_size):
    x = _rand(density, batch_size) * _active(density, batch_size)
    return x.repeat_interleave(size, dim=-1)


@mistake("makes sets of features that lie apart (repeat): neighbours form a set (repeat_interleave)")
def correlated_features(density, size, batch_size):
    active = _active(density, batch_size).repeat(1, 1, size)
    return torch.rand(active.shape) * active


@mistake("takes density for the sparsity: a set is active with probability density")
def correlated_features(density, size, batch_size):
    active = (~_active(density, batch_size)).repeat_interleave(size, dim=-1)
    return torch.rand(active.shape) * active


@mistake("makes all sets active together: each decides for itself")
def correlated_features(density, size, batch_size):
    active = torch.rand(len(density), batch_size, 1) < density[:, None]
    return _rand(density.repeat_interleave(size, dim=-1), batch_size) * active.repeat_interleave(size, dim=-1)


def _one_of(density, size, batch_size, chosen, active):
    values = torch.rand(len(density), batch_size, density.shape[1] * size)
    return values * (active[..., None] & (chosen == torch.arange(size))).flatten(-2)


@mistake("switches all features of a set together: that is the correlated kind")
def anticorrelated_features(density, size, batch_size):
    active = _active(density, batch_size).repeat_interleave(size, dim=-1)
    return torch.rand(active.shape) * active


@mistake("gives each feature the probability density: that is the probability of the whole set")
def anticorrelated_features(density, size, batch_size):
    active = _rand(density, batch_size) < (size * density[:, None]).clamp(max=1)
    return _one_of(density, size, batch_size, torch.randint(size, (*active.shape, 1)), active)


@mistake("always switches on the first feature of a set: draw which")
def anticorrelated_features(density, size, batch_size):
    active = _active(density, batch_size)
    return _one_of(density, size, batch_size, torch.zeros(*active.shape, 1), active)


@mistake("lets every feature be on by itself: two of a set may then meet")
def anticorrelated_features(density, size, batch_size):
    return generate_batch_right(density.repeat_interleave(size, dim=-1) / size, batch_size)


@mistake("draws once which feature it is, for the whole batch: draw for every sample")
def anticorrelated_features(density, size, batch_size):
    chosen = torch.randint(size, (len(density), 1, density.shape[1], 1))
    return _one_of(density, size, batch_size, chosen, _active(density, batch_size))


@mistake("lets the value decide which feature it is, so that each has values of its own range: draw them apart")
def anticorrelated_features(density, size, batch_size):
    active = _active(density, batch_size)[..., None]
    values = torch.rand(active.shape)
    return (values * active * ((values * size).long() == torch.arange(size))).flatten(-2)


@mistake("switches the same feature on in every instance: draw for each instance")
def anticorrelated_features(density, size, batch_size):
    chosen = torch.randint(size, (1, batch_size, density.shape[1], 1))
    return _one_of(density, size, batch_size, chosen, _active(density, batch_size))


@mistake("switches the same place on in every set: each set draws for itself")
def anticorrelated_features(density, size, batch_size):
    chosen = torch.randint(size, (len(density), batch_size, 1, 1))
    return _one_of(density, size, batch_size, chosen, _active(density, batch_size))


# --- 9 and 10. Phase diagram


def _losses(p, r, constant=lambda p: p / 3 - p**2 / 4, both=lambda p: p**2 / 6):
    return torch.stack([r * constant(p), constant(p), (1 + r) * both(p)], -1)


@mistake("lets the ignored output be 0: the best constant is the mean, p/2, which leaves only the variance")
def candidate_losses(p, r):
    return _losses(p, r, constant=lambda p: p / 3)


@mistake("takes the variance of a value that is always on, 1/12: it is on with probability p")
def candidate_losses(p, r):
    return _losses(p, r, constant=lambda p: 0 * p + 1 / 12)


@mistake("weights 'both on' with p: two independent features are both on with probability p²")
def candidate_losses(p, r):
    return _losses(p, r, both=lambda p: p / 6)


@mistake("counts one of the two errors of the superposed pair: both outputs are wrong by the smaller value")
def candidate_losses(p, r):
    return torch.stack([*_losses(p, r).unbind(-1)[:2], p**2 / 6], -1)


@mistake("exchanges ignored and dedicated: if feature 1 is ignored, the loss has its importance r")
def candidate_losses(p, r):
    return _losses(p, r)[..., [1, 0, 2]]


@mistake("takes the mean of the smaller value, 1/3: its square has mean 1/6")
def candidate_losses(p, r):
    return _losses(p, r, both=lambda p: p**2 / 3)


@mistake("puts the candidates on the first axis: they are the last")
def candidate_losses(p, r):
    return _losses(p, r).movedim(-1, 0)


def _found(W, zero=0, one=1, size=torch.abs, threshold=0.5):
    there = size(W[:, 0]) >= threshold
    return torch.where(there[:, one], torch.where(there[:, zero], 2, 1), 0)


@mistake("looks at W without its sign taken off: a feature may point either way")
def phase_change(W, p, r):
    return _found(W, size=lambda w: w), _losses(p, r).argmin(-1)


@mistake("exchanges the two features: the question is what became of feature 1")
def phase_change(W, p, r):
    return _found(W, zero=1, one=0), _losses(p, r).argmin(-1)


@mistake("takes the most expensive candidate")
def phase_change(W, p, r):
    return _found(W), _losses(p, r).argmax(-1)


@mistake("exchanges p and r in candidate_losses: first the density p, then the importance r")
def phase_change(W, p, r):
    return _found(W), _losses(r, p).argmin(-1)


@mistake("calls two features of the same sign dedicated: by the rule of the text the signs do not matter")
def phase_change(W, p, r):
    first, second = W[:, 0].unbind(-1)
    opposite = (first.abs() >= 0.5) & (first * second < 0)
    return torch.where(second.abs() < 0.5, 0, torch.where(opposite, 2, 1)), _losses(p, r).argmin(-1)


@mistake("gives lists: two tensors are asked for")
def phase_change(W, p, r):
    return _found(W).tolist(), _losses(p, r).argmin(-1).tolist()


@mistake("gives one number for all models: each instance has its own")
def phase_change(W, p, r):
    return _found(W)[0].item(), _losses(p, r).argmin(-1)[0].item()


@mistake("gives what theory expects first: first what was found")
def phase_change(W, p, r):
    return _losses(p, r).argmin(-1), _found(W)


@mistake("calls every represented feature superposed: if feature 0 is absent, it is dedicated")
def phase_change(W, p, r):
    return torch.where(W[:, 0, 1].abs() >= 0.5, 2, 0), _losses(p, r).argmin(-1)


# --- 11. Attack


def _attack(W, length, change=lambda product: product, axis=-1):
    product = change(W.mT @ W)
    return length * product / product.norm(dim=axis, keepdim=True).clamp(min=1e-12)


@mistake("has the wrong sign: it lowers the output")
def adversarial_interference(W, length):
    return -_attack(W, length)


@mistake("leaves feature i itself out: the best attack uses it too")
def adversarial_interference(W, length):
    return _attack(W, length, lambda product: product - torch.diag_embed(product.diagonal(dim1=-2, dim2=-1)))


@mistake("divides by the length along the wrong axis: row i is the attack on feature i")
def adversarial_interference(W, length):
    return _attack(W, length, axis=-2)


@mistake("does not divide by the length of the row: every attack has the length asked for")
def adversarial_interference(W, length):
    return length * W.mT @ W


@mistake("divides by the length of the whole matrix: each row is an attack, and divided by its own length")
def adversarial_interference(W, length):
    product = W.mT @ W
    return length * product / product.flatten(-2).norm(dim=-1)[:, None, None].clamp(min=1e-12)


@mistake("divides by the squared length of the row")
def adversarial_interference(W, length):
    product = W.mT @ W
    return length * product / product.square().sum(-1, keepdim=True).clamp(min=1e-12)


@mistake("takes cosines instead of products: longer features change the output more")
def adversarial_interference(W, length):
    return _attack(_unit(W), length)


@mistake("takes signs: that is the best attack where each entry is bounded, not the length")
def adversarial_interference(W, length):
    return _attack(W, length, torch.sign)


@mistake("divides 0 by 0 where a feature is absent")
def adversarial_interference(W, length):
    product = W.mT @ W
    return length * product / product.norm(dim=-1, keepdim=True)


# --- 12. Computing


@mistake("moves every value to [-1, 1], also those that are off: 0 must stay 0")
def signed_batch(density, batch_size):
    return 2 * generate_batch_right(density, batch_size) - 1


@mistake("has no negative values")
def signed_batch(density, batch_size):
    return generate_batch_right(density, batch_size)


@mistake("draws one sign for a whole sample: each feature has its own")
def signed_batch(density, batch_size):
    signs = torch.where(torch.rand(len(density), batch_size, 1) < 0.5, 1.0, -1.0)
    return generate_batch_right(density, batch_size) * signs


@mistake("draws one sign for each feature, the same in all samples")
def signed_batch(density, batch_size):
    signs = torch.where(torch.rand(len(density), 1, density.shape[1]) < 0.5, 1.0, -1.0)
    return generate_batch_right(density, batch_size) * signs


@mistake("two calls are not independent")
def signed_batch(density, batch_size):
    x = generate_batch_right(density, batch_size)
    return x * (2 * torch.randint(0, 2, x.shape, generator=torch.Generator().manual_seed(0)) - 1)


@mistake("lets the size decide the sign: small values positive, large ones negative")
def signed_batch(density, batch_size):
    x = generate_batch_right(density, batch_size)
    return torch.where(x < 0.5, x, -x)


@mistake("multiplies by a number in [-1, 1] instead of a sign: large values become rare")
def signed_batch(density, batch_size):
    return generate_batch_right(density, batch_size) * (2 * _rand(density, batch_size) - 1)


class _AbsoluteModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        start = torch.randn(cfg.n_instances, cfg.d_hidden, cfg.n_features) / math.sqrt(cfg.d_hidden)
        self.W_in, self.W_out = nn.Parameter(start), nn.Parameter(start.mT.abs())
        self.b = nn.Parameter(torch.zeros(cfg.n_instances, cfg.n_features))

    def forward(self, x):
        return ((x @ self.W_in.mT).relu() @ self.W_out.mT + self.b[:, None]).relu()


@mistake("leaves out the ReLU of the neurons: without it no absolute value can be computed")
class AbsoluteModel(_AbsoluteModel):
    def forward(self, x):
        return (x @ self.W_in.mT @ self.W_out.mT + self.b[:, None]).relu()


@mistake("leaves out the ReLU of the output")
class AbsoluteModel(_AbsoluteModel):
    def forward(self, x):
        return (x @ self.W_in.mT).relu() @ self.W_out.mT + self.b[:, None]


@mistake("reads back with W_in transposed: this model has a W_out of its own")
class AbsoluteModel(_AbsoluteModel):
    def forward(self, x):
        return ((x @ self.W_in.mT).relu() @ self.W_in + self.b[:, None]).relu()


@mistake("adds b along the batch: it needs an axis for the samples, self.b[:, None]")
class AbsoluteModel(_AbsoluteModel):
    def forward(self, x):
        return ((x @ self.W_in.mT).relu() @ self.W_out.mT + self.b).relu()


@mistake("no gradient reaches input 0")
class AbsoluteModel(_AbsoluteModel):
    def forward(self, x):
        neurons = (x @ self.W_in.mT).relu()
        return (neurons.detach() @ self.W_out.mT + self.b[:, None]).relu()


@mistake("takes the absolute value of x itself: the neurons have to compute it")
class AbsoluteModel(_AbsoluteModel):
    def forward(self, x):
        return super().forward(x.abs())


@mistake("never adds b")
class AbsoluteModel(_AbsoluteModel):
    def forward(self, x):
        return ((x @ self.W_in.mT).relu() @ self.W_out.mT).relu()


# --- Open task


def _pairs(is_pair, given_back):
    n = len(given_back)
    return [(i, j) for j in range(n) for i in range(j) if is_pair[i, j] and given_back[i] and given_back[j]]


def _given_back(W_in, W_out, b):
    own = (W_in * W_out.mT).sum(0)
    return (own + b).relu() - b.relu() > 0.25


def _unit_columns(W):
    return W / W.norm(dim=0)


def _changes(W_in, W_out, b):
    """[i j] how much j changes output i where both are on."""
    product = W_out @ W_in
    alone = product.diagonal()[:, None] + b[:, None]
    return ((alone + product).relu() - alone.relu()).abs()


@mistake("compares columns of W_in: what counts is what W_out makes of them")
def find_disturbing_pairs(W_in, W_out, b):
    unit = _unit_columns(W_in)
    return _pairs((unit.mT @ unit).abs() > 0.25, _given_back(W_in, W_out, b))


@mistake("compares rows of W_out: what counts is what W_in writes along them")
def find_disturbing_pairs(W_in, W_out, b):
    unit = _unit_columns(W_out.mT)
    return _pairs((unit.mT @ unit).abs() > 0.25, _given_back(W_in, W_out, b))


@mistake("turns on one feature at a time: the ReLU hides what happens where both are on")
def find_disturbing_pairs(W_in, W_out, b):
    echo = (W_out @ W_in + b[:, None]).relu() - b.relu()[:, None]
    return _pairs((echo > 0.2) | (echo.mT > 0.2), _given_back(W_in, W_out, b))


@mistake("counts features that are not given back: their output stays as it is")
def find_disturbing_pairs(W_in, W_out, b):
    product = (W_out @ W_in).abs()
    return _pairs(torch.maximum(product, product.mT) > 0.2, torch.ones(len(b)))


@mistake("looks at what the later feature does to the earlier alone: one of the two is enough")
def find_disturbing_pairs(W_in, W_out, b):
    return _pairs(_changes(W_in, W_out, b) > 0.2, _given_back(W_in, W_out, b))


@mistake("asks that each disturbs the other: one of the two is enough")
def find_disturbing_pairs(W_in, W_out, b):
    change = _changes(W_in, W_out, b)
    return _pairs((change > 0.2) & (change.mT > 0.2), _given_back(W_in, W_out, b))


@mistake("asks for half of the output: neighbours in a pentagon disturb each other by 0.31")
def find_disturbing_pairs(W_in, W_out, b):
    change = _changes(W_in, W_out, b)
    return _pairs(torch.maximum(change, change.mT) > 0.5, _given_back(W_in, W_out, b))


@mistake("takes every change above a thousandth: all directions overlap a little")
def find_disturbing_pairs(W_in, W_out, b):
    change = _changes(W_in, W_out, b)
    return _pairs(torch.maximum(change, change.mT) > 1e-3, _given_back(W_in, W_out, b))


# --- Right answers in other styles


@right("einsum, and the ReLU as clamp")
class ToyModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.linear = cfg.is_linear
        start = torch.empty(cfg.n_instances, cfg.d_hidden, cfg.n_features)
        self.W = nn.Parameter(nn.init.xavier_normal_(start))
        self.b = nn.Parameter(torch.zeros(cfg.n_instances, cfg.n_features))

    def forward(self, x):
        hidden = torch.einsum("imf,ibf->ibm", self.W, x)
        out = torch.einsum("imf,ibm->ibf", self.W, hidden) + self.b.unsqueeze(1)
        return out if self.linear else out.clamp_min(0)


@right("baddbmm and a module for the last step")
class ToyModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.W = nn.Parameter(torch.rand(cfg.n_instances, cfg.d_hidden, cfg.n_features) - 0.5)
        self.b = nn.Parameter(torch.zeros(cfg.n_instances, cfg.n_features))
        self.last = nn.Identity() if cfg.is_linear else nn.ReLU()

    def forward(self, x):
        return self.last(torch.baddbmm(self.b[:, None], torch.bmm(x, self.W.transpose(1, 2)), self.W))


@right("bernoulli, and torch.where")
def generate_batch(density, batch_size):
    p = density.unsqueeze(1).expand(-1, batch_size, -1)
    return torch.where(torch.bernoulli(p).bool(), torch.rand_like(p), 0.0)


@right("one draw, which decides, and is the value once divided by density")
def generate_batch(density, batch_size):
    p = density[:, None].double()
    draw = torch.rand(len(density), batch_size, density.shape[1], dtype=torch.float64)
    return torch.where(draw < p, draw / p.clamp(min=1e-300), 0).to(density.dtype)


@right("feature by feature, in a loop")
def generate_batch(density, batch_size):
    x = torch.zeros(len(density), batch_size, density.shape[1])
    for i, row in enumerate(density.tolist()):
        for f, p in enumerate(row):
            is_on = torch.rand(batch_size) < p
            x[i, is_on, f] = torch.rand(int(is_on.sum()))
    return x


@right("einsum, divided by the number of samples")
def importance_loss(x, out, importance):
    return torch.einsum("ibf,if->i", (x - out) ** 2, importance) / x.shape[1]


@right("the mean over samples first")
def importance_loss(x, out, importance):
    return (((out - x) ** 2).mean(dim=1) * importance).sum(dim=1)


@right("as the formula stands, NaN taken off")
def feature_dimensionality(W):
    squares = W.square().sum(-2)
    crowd = torch.einsum("idf,idg->ifg", W / W.norm(dim=-2, keepdim=True), W).square().sum(-1)
    return torch.where(squares > 0, squares / crowd, 0.0)


@right("one instance after the other")
def feature_dimensionality(W):
    out = []
    for one in W:
        gram = one.T @ one
        top = gram.diag() ** 2
        out.append(torch.where(top == 0, 0, top / (gram**2).sum(0).clamp_min(1e-30)))
    return torch.stack(out)


@right("a search through the graph, and the rank by torch")
def find_geometry(W):
    unit = nn.functional.normalize(W, dim=0)
    left = {f for f in range(W.shape[1]) if W[:, f].norm() >= 0.5}
    groups = []
    while left:
        group, front = set(), [left.pop()]
        while front:
            f = front.pop()
            group.add(f)
            near = {g for g in left if abs(float(unit[:, f] @ unit[:, g])) > 0.25}
            left -= near
            front += near
        rank = torch.linalg.matrix_rank(unit[:, sorted(group)], atol=0.5)
        groups.append((len(group), rank.item()))
    return sorted(groups, key=lambda pair: (-pair[0], -pair[1]))


@right("scipy's connected components")
def find_geometry(W):
    from scipy.sparse.csgraph import connected_components

    kept = W[:, W.norm(dim=0) >= 0.5]
    unit = kept / kept.norm(dim=0)
    count, label = connected_components(((unit.T @ unit).abs() > 0.25).numpy())
    groups = [unit[:, torch.from_numpy(label) == g] for g in range(count)]
    return sorted([(g.shape[1], int((torch.linalg.svdvals(g) > 0.5).sum())) for g in groups], reverse=True)


@right("bernoulli, and a view of sets")
def correlated_features(density, size, batch_size):
    p = density[:, None, :, None].expand(-1, batch_size, -1, size)
    on = torch.bernoulli(p[..., :1])
    return (on * torch.rand(p.shape)).reshape(len(density), batch_size, -1)


@right("one_hot of a random integer")
def anticorrelated_features(density, size, batch_size):
    shape = (density.shape[0], batch_size, density.shape[1])
    which = nn.functional.one_hot(torch.randint(0, size, shape), size)
    values = torch.rand(shape) * (torch.rand(shape) < density[:, None])
    return (values[..., None] * which).flatten(2)


@right("the largest of random numbers is on")
def anticorrelated_features(density, size, batch_size):
    draws = torch.rand(len(density), batch_size, density.shape[1], size)
    which = draws == draws.max(-1, keepdim=True).values
    on = torch.rand(draws.shape[:-1]) < density[:, None]
    return (which * on[..., None] * torch.rand_like(draws)).flatten(-2)


@right("one draw says whether and which: [0, density) in equal parts")
def anticorrelated_features(density, size, batch_size):
    draw = torch.rand(len(density), batch_size, density.shape[1], dtype=torch.float64)
    part = (size * draw / density[:, None].double().clamp(min=1e-300)).floor()
    return ((part[..., None] == torch.arange(size)) * torch.rand(*draw.shape, 1)).flatten(-2)


@right("the variance by E[x²] - E[x]², written to a tensor")
def candidate_losses(p, r):
    variance = p / 3 - (p / 2) ** 2
    out = torch.empty(*p.shape, 3, dtype=p.dtype)
    out[..., 0], out[..., 1], out[..., 2] = r * variance, variance, (1 + r) * p**2 / 6
    return out


@right("arithmetic with truth values, and a dictionary of costs")
def phase_change(W, p, r):
    w = W.squeeze(1).abs() >= 0.5
    return w[:, 1].long() * (1 + w[:, 0].long()), _losses(p, r).min(dim=-1).indices


@right("model by model, as 32-bit integers")
def phase_change(W, p, r):
    found = [0 if abs(b) < 0.5 else 1 if abs(a) < 0.5 else 2 for a, b in W[:, 0].tolist()]
    costs = _losses(p, r)
    return torch.tensor(found, dtype=torch.int32), torch.tensor([int(c.argmin()) for c in costs], dtype=torch.int32)


@right("normalize does it")
def adversarial_interference(W, length):
    return length * nn.functional.normalize(torch.einsum("idf,idg->ifg", W, W), dim=-1)


@right("by autograd, target after target")
def adversarial_interference(W, length):
    out = []
    for one in W.detach():
        x = torch.zeros(one.shape[1], dtype=W.dtype, requires_grad=True)
        rows = [torch.autograd.grad((one.T @ (one @ x))[i], x)[0] for i in range(len(x))]
        out.append(torch.stack([torch.zeros_like(g) if g.norm() == 0 else length * g / g.norm() for g in rows]))
    return torch.stack(out)


@right("uniform in [-1, 1], switched off")
def signed_batch(density, batch_size):
    p = density[:, None].expand(-1, batch_size, -1)
    return torch.empty(p.shape).uniform_(-1, 1) * torch.bernoulli(p)


@right("a sign of random integers")
def signed_batch(density, batch_size):
    x = generate_batch_right(density, batch_size)
    return x * (2 * torch.randint(0, 2, x.shape) - 1)


@right("einsum")
class AbsoluteModel(_AbsoluteModel):
    def forward(self, x):
        neurons = torch.einsum("inf,ibf->ibn", self.W_in, x).clamp(min=0)
        return (torch.einsum("ifn,ibn->ibf", self.W_out, neurons) + self.b.unsqueeze(1)).clamp(min=0)


@right("the product of the matrices, by a fixed threshold")
def find_disturbing_pairs(W_in, W_out, b):
    change = _changes(W_in, W_out, b)
    return _pairs(torch.maximum(change, change.mT) > 0.2, _given_back(W_in, W_out, b))


@right("runs of the model on random inputs, against the spread of the small changes")
def find_disturbing_pairs(W_in, W_out, b):
    n = len(b)

    def run(*on):
        x = torch.zeros(n)
        x[list(on)] = 1
        return (W_out @ (W_in @ x) + b).relu()

    silent = run()
    kept = [i for i in range(n) if abs(run(i)[i] - silent[i]) > 0.3]
    change = {}
    for i in kept:
        for j in kept:
            if i < j:
                both = run(i, j)
                change[i, j] = max(abs(float(both[i] - run(i)[i])), abs(float(both[j] - run(j)[j])))
    bar = sorted(change.values())[int(0.8 * len(change))]
    return [pair for pair, size in change.items() if size > max(4 * bar, 0.1)]
