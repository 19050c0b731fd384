"""Wrong answers to 5.2 Toy Models of Superposition, and what each of them is."""

import math

import torch
from torch import nn

from concrete_steps.checking.mistakes import mistake

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


@mistake("the ReLU sets the negative echo to 0")
def answer_pair():
    return "a"


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


@mistake("takes the absolute error: it is squared")
def importance_loss(x, out, importance):
    return (importance[:, None] * (x - out).abs()).sum(-1).mean(-1)


@mistake("the bias and W have the same sizes in both")
def answer_linear():
    return "a"


@mistake("more steps do not help: its best solution has no superposition")
def answer_linear():
    return "c"


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
    return _geometry(W, cosine=lambda unit: (kept.T @ kept).abs())


@mistake("groups only what is linked directly: links of links belong to the group too")
def find_geometry(W):
    return _geometry(W, steps=0)


@mistake("measures dimensions with W as it is: make the directions units first")
def find_geometry(W):
    return _geometry(W, dims=lambda unit, kept, g: int((torch.linalg.svdvals(kept[:, g]) > 0.5).sum()))


@mistake("takes the exact rank: a digon that is a little bent has rank 2, so count singular values above 0.5")
def find_geometry(W):
    return _geometry(W, dims=lambda unit, kept, g: int(torch.linalg.matrix_rank(unit[:, g])))


@mistake("gives each group all hidden dimensions: count those that its own directions need")
def find_geometry(W):
    return _geometry(W, dims=lambda unit, kept, g: len(unit))


@mistake("gives (dimensions, features): features come first")
def find_geometry(W):
    return sorted(((d, n) for n, d in _geometry(W)), reverse=True)


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


@mistake("takes the absolute value of x itself: the neurons have to compute it")
class AbsoluteModel(_AbsoluteModel):
    def forward(self, x):
        return super().forward(x.abs())


@mistake("never adds b")
class AbsoluteModel(_AbsoluteModel):
    def forward(self, x):
        return ((x @ self.W_in.mT).relu() @ self.W_out.mT).relu()
