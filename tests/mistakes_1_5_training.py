"""Wrong answers to 1.5 Training networks, what each of them is, and right answers in other styles."""

import itertools
import math

import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from concrete_steps.checking.mistakes import mistake, right

# --- 1. Layers


class _Linear(nn.Module):
    def __init__(self, d_in, d_out):
        super().__init__()
        bound = d_in**-0.5
        self.weight = nn.Parameter(torch.empty(d_out, d_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(d_out).uniform_(-bound, bound))

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


@mistake("does not add the bias")
class Linear(_Linear):
    def forward(self, x):
        return x @ self.weight.T


@mistake("subtracts the bias")
class Linear(_Linear):
    def forward(self, x):
        return x @ self.weight.T - self.bias


@mistake("does not turn the weights: it is x @ weight.T")
class Linear(_Linear):
    def forward(self, x):
        return x @ self.weight + self.bias


@mistake("starts too large")
class Linear(_Linear):
    def __init__(self, d_in, d_out):
        super().__init__(d_in, d_out)
        self.weight = nn.Parameter(torch.randn(d_out, d_in))


@mistake("does not reach from -1 / sqrt(d_in) to 1 / sqrt(d_in)")
class Linear(_Linear):
    def __init__(self, d_in, d_out):
        super().__init__(d_in, d_out)
        self.bias = nn.Parameter(torch.zeros(d_out))


@mistake("the parameters of Linear")
class Linear(_Linear):
    def __init__(self, d_in, d_out):
        super().__init__(d_in, d_out)
        del self.bias
        self.bias = torch.zeros(d_out)


@mistake("no gradient flows back")
class Linear(_Linear):
    def forward(self, x):
        return F.linear(x, self.weight.data, self.bias.data)


@right("the bias first, by einsum")
class Linear(nn.Module):
    def __init__(self, d_in, d_out):
        super().__init__()
        self.bias = nn.Parameter((2 * torch.rand(d_out) - 1) / math.sqrt(d_in))
        self.weight = nn.Parameter((2 * torch.rand(d_out, d_in) - 1) / math.sqrt(d_in))

    def forward(self, x):
        return torch.einsum("...i,oi->...o", x, self.weight) + self.bias


@right("as PyTorch's own")
class Linear(nn.Linear):
    pass


@mistake("gives the absolute value: below 0 it is 0")
def relu(x):
    return x.abs()


@mistake("writes into its input")
def relu(x):
    x[x < 0] = 0
    return x


@mistake("cuts off at 1 as well")
def relu(x):
    return x.clamp(0, 1)


@mistake("keeps what is below 0: the sign is turned")
def relu(x):
    return x.clamp(max=0)


@mistake("is a step, 1 above 0: relu gives x itself there")
def relu(x):
    return (x > 0).to(x.dtype) * (x * 0 + 1)


@right("x times whether it is positive")
def relu(x):
    return x * (x > 0)


class _MLP(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


@mistake("ends in a relu: logits may be negative")
class MLP(_MLP):
    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return x


@mistake("has no relu between the layers, and so is one linear map")
class MLP(_MLP):
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@mistake("applies relu to the input")
class MLP(_MLP):
    def forward(self, x):
        return super().forward(x.relu())


@mistake("ends in a softmax: cross-entropy wants logits")
class MLP(_MLP):
    def forward(self, x):
        return super().forward(x).softmax(-1)


@mistake("has no parameters that PyTorch can see: nn.ModuleList, not a plain list")
class MLP(_MLP):
    def __init__(self, sizes):
        nn.Module.__init__(self)
        self.layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]


@mistake("no gradient reaches")
class MLP(_MLP):
    def forward(self, x):
        for layer in self.layers[:-1]:
            x = layer(x).relu().detach()
        return self.layers[-1](x)


@right("lists of parameters, all weights before all biases")
class MLP(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.weights = nn.ParameterList(layer.weight for layer in layers)
        self.biases = nn.ParameterList(layer.bias for layer in layers)

    def forward(self, x):
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = F.linear(x.relu() if i else x, weight, bias)
        return x


@right("a layer and the rest, which is an MLP again")
class MLP(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.first = nn.Linear(*sizes[:2])
        self.rest = type(self)(sizes[1:]) if len(sizes) > 2 else None

    def forward(self, x):
        return self.rest(self.first(x).relu()) if self.rest else self.first(x)


@right("nn.Sequential")
class MLP(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        parts = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(*parts[:-1])

    def forward(self, x):
        return self.net(x)


@mistake("that is the loss of a network which gives the right class 0.9: this one gives it a tenth")
def answer_start():
    return "a"


@mistake("that is the loss at a probability of 0.37: with ten classes a tenth is left for each")
def answer_start():
    return "b"


# --- 2. The size of the start


def _sizes(x, n_layers, gain, generator, power=0.5, active=True, measure=None, reuse=False):
    width, found, w = x.shape[1], [], None
    for _ in range(n_layers):
        if w is None or not reuse:
            w = torch.randn(width, width, generator=generator) * (gain / width) ** power
        x = x @ w.T
        before = x
        x = x.clamp(min=0) if active else x
        found.append(measure(x, before) if measure else x.square().mean())
    return torch.stack(found)


@mistake("multiplies the weights by the variance: by its root, for that variance")
def init_variance(x, n_layers, gain, generator):
    return _sizes(x, n_layers, gain, generator, power=1)


@mistake("leaves out the relu")
def init_variance(x, n_layers, gain, generator):
    return _sizes(x, n_layers, gain, generator, active=False)


@mistake("gives the variance, not the mean square: after a relu the mean is not 0")
def init_variance(x, n_layers, gain, generator):
    return _sizes(x, n_layers, gain, generator, measure=lambda x, before: x.var())


@mistake("measures before the relu")
def init_variance(x, n_layers, gain, generator):
    return _sizes(x, n_layers, gain, generator, measure=lambda x, before: before.square().mean())


@mistake("uses the same weights in every layer: draw them anew")
def init_variance(x, n_layers, gain, generator):
    return _sizes(x, n_layers, gain, generator, reuse=True)


@mistake("gives the root of the mean square")
def init_variance(x, n_layers, gain, generator):
    return _sizes(x, n_layers, gain, generator, measure=lambda x, before: x.square().mean().sqrt())


@right("all weights in one draw")
def init_variance(x, n_layers, gain, generator):
    found = torch.zeros(n_layers)
    weights = torch.randn(n_layers, x.shape[1], x.shape[1], generator=generator) * (gain / x.shape[1]) ** 0.5
    for i, w in enumerate(weights):
        x = torch.relu(x @ w.T)
        found[i] = (x * x).mean()
    return found


@right("by torch.normal")
def init_variance(x, n_layers, gain, generator):
    width, found = x.shape[1], []
    for _ in range(n_layers):
        w = torch.normal(0.0, (gain / width) ** 0.5, (width, width), generator=generator)
        x = torch.einsum("bi,oi->bo", x, w).clamp(min=0)
        found.append(x.pow(2).mean())
    return torch.stack(found)


# --- 3. Optimisers


class _SGD:
    def __init__(self, params, lr, momentum=0.0):
        self.params, self.lr, self.momentum = list(params), lr, momentum
        self.velocity = [torch.zeros_like(p) for p in self.params]

    def zero_grad(self):
        for p in self.params:
            p.grad = None

    def move(self, p, v):
        v.mul_(self.momentum).add_(p.grad)
        p.sub_(self.lr * v)

    @torch.no_grad()
    def step(self):
        for p, v in zip(self.params, self.velocity, strict=True):
            if p.grad is not None:
                self.move(p, v)


@mistake("climbs: parameters move against the gradient")
class SGD(_SGD):
    def move(self, p, v):
        v.mul_(self.momentum).add_(p.grad)
        p.add_(self.lr * v)


@mistake("ignores momentum")
class SGD(_SGD):
    def move(self, p, v):
        p.sub_(self.lr * p.grad)


@mistake("weights the new gradient by 1 - momentum: that is Adam's mean, SGD adds it whole")
class SGD(_SGD):
    def move(self, p, v):
        v.mul_(self.momentum).add_((1 - self.momentum) * p.grad)
        p.sub_(self.lr * v)


@mistake("zero_grad leaves gradients")
class SGD(_SGD):
    def zero_grad(self):
        pass


@mistake("a parameter whose grad is None must be left alone")
class SGD(_SGD):
    @torch.no_grad()
    def step(self):
        for p, v in zip(self.params, self.velocity, strict=True):
            self.move(p, v)


@mistake("step() changes the gradients themselves")
class SGD(_SGD):
    def move(self, p, v):
        p.grad.add_(self.momentum * v)
        v.copy_(p.grad)
        p.sub_(self.lr * v)
        p.grad.mul_(0)


@mistake("it has moved, by the velocity of earlier steps")
class SGD(_SGD):
    @torch.no_grad()
    def step(self):
        for p, v in zip(self.params, self.velocity, strict=True):
            v.mul_(self.momentum).add_(0 if p.grad is None else p.grad)
            p.sub_(self.lr * v)


@mistake("stops at a parameter whose grad is None")
class SGD(_SGD):
    @torch.no_grad()
    def step(self):
        for p, v in zip(self.params, self.velocity, strict=True):
            if p.grad is None:
                return
            self.move(p, v)


@mistake("the parameters have not moved")
class SGD(_SGD):
    @torch.no_grad()
    def step(self):
        self.params = [p if p.grad is None else p - self.lr * p.grad for p in self.params]


@mistake("forgets the velocity when gradients are cleared")
class SGD(_SGD):
    def zero_grad(self):
        super().zero_grad()
        self.velocity = [torch.zeros_like(p) for p in self.params]


@mistake("what is kept of them must be a tensor of its own")
class SGD(_SGD):
    @torch.no_grad()
    def step(self):
        for i, p in enumerate(self.params):
            if p.grad is not None:
                if self.velocity[i].any():
                    self.velocity[i].mul_(self.momentum).add_(p.grad)
                else:
                    self.velocity[i] = p.grad
                p.sub_(self.lr * self.velocity[i])


@right("torch's own, in a shell")
class SGD(torch.optim.SGD):
    pass


@right("velocities in a dictionary, made when they are needed, and gradients zeroed in place")
class SGD:
    def __init__(self, params, lr, momentum=0.0):
        self.params, self.lr, self.momentum, self.state = [*params], lr, momentum, {}

    def zero_grad(self):
        for p in self.params:
            if p.grad is not None:
                p.grad.zero_()

    def step(self):
        for p in self.params:
            if p.grad is not None:
                self.state[p] = self.momentum * self.state.get(p, 0) + p.grad
                p.data = p.data - self.lr * self.state[p]


class _Adam:
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        self.params, self.lr, self.betas, self.eps, self.t = list(params), lr, betas, eps, 0
        self.m = [torch.zeros_like(p) for p in self.params]
        self.s = [torch.zeros_like(p) for p in self.params]

    def zero_grad(self):
        for p in self.params:
            p.grad = None

    def corrected(self, m, s):
        return m / (1 - self.betas[0] ** self.t), s / (1 - self.betas[1] ** self.t)

    def divide(self, m, s):
        return m / (s.sqrt() + self.eps)

    def update(self, m, s, grad):
        m.lerp_(grad, 1 - self.betas[0])
        s.mul_(self.betas[1]).add_((1 - self.betas[1]) * grad**2)

    @torch.no_grad()
    def step(self):
        self.t += 1
        for p, m, s in zip(self.params, self.m, self.s, strict=True):
            if p.grad is not None:
                self.update(m, s, p.grad)
                p.sub_(self.lr * self.divide(*self.corrected(m, s)))


@mistake("leaves out the correction of the first steps")
class Adam(_Adam):
    def corrected(self, m, s):
        return m, s


@mistake("a parameter whose grad is None must be left alone")
class Adam(_Adam):
    @torch.no_grad()
    def step(self):
        for p in self.params:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        super().step()


@mistake("corrects as if every step were the first")
class Adam(_Adam):
    def corrected(self, m, s):
        return m / (1 - self.betas[0]), s / (1 - self.betas[1])


@mistake("adds eps under the root: it is added after")
class Adam(_Adam):
    def divide(self, m, s):
        return m / (s + self.eps).sqrt()


@mistake("does not take the root of the mean square")
class Adam(_Adam):
    def divide(self, m, s):
        return m / (s + self.eps)


@mistake("does not square the gradients in the second mean")
class Adam(_Adam):
    def update(self, m, s, grad):
        m.lerp_(grad, 1 - self.betas[0])
        s.lerp_(grad.abs(), 1 - self.betas[1])


@mistake("counts steps once for each parameter: t grows by one a step")
class Adam(_Adam):
    @torch.no_grad()
    def step(self):
        for p, m, s in zip(self.params, self.m, self.s, strict=True):
            self.t += 1
            self.update(m, s, p.grad)
            p.sub_(self.lr * self.divide(*self.corrected(m, s)))


@right("torch's own, in a shell")
class Adam(torch.optim.Adam):
    pass


class _AdamW(_Adam):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, lr, betas, eps)
        self.weight_decay = weight_decay

    def moving(self):
        return [p for p in self.params if p.grad is not None]

    @torch.no_grad()
    def step(self):
        for p in self.moving():
            p.mul_(1 - self.lr * self.weight_decay)
        super().step()


@mistake("a parameter whose grad is None must be left alone: it has moved")
class AdamW(_AdamW):
    def moving(self):
        return self.params


@mistake("puts the decay into the gradient, where Adam divides it away: that is Adam with L2")
class AdamW(_AdamW):
    @torch.no_grad()
    def step(self):
        kept = [p.grad for p in self.params]
        for p in self.moving():
            p.grad = p.grad + self.weight_decay * p
        _Adam.step(self)
        for p, grad in zip(self.params, kept, strict=True):
            p.grad = grad


@mistake("does not decay at all")
class AdamW(_AdamW):
    def step(self):
        _Adam.step(self)


@mistake("decays by weight_decay alone: it is times the learning rate")
class AdamW(_AdamW):
    @torch.no_grad()
    def step(self):
        for p in self.moving():
            p.mul_(1 - self.weight_decay)
        _Adam.step(self)


@mistake("decays after Adam's step: before it, the weights are still the old ones")
class AdamW(_AdamW):
    @torch.no_grad()
    def step(self):
        _Adam.step(self)
        for p in self.moving():
            p.mul_(1 - self.lr * self.weight_decay)


@mistake("keeps the rate that it began with: lr may be changed between steps")
class AdamW(_AdamW):
    @torch.no_grad()
    def step(self):
        now, self.lr = self.lr, self.born
        super().step()
        self.lr = now

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, lr, betas, eps, weight_decay)
        self.born = lr


@right("torch's own, in a shell")
class AdamW(torch.optim.AdamW):
    pass


@right("built on Adam")
class AdamW(_AdamW):
    pass


# --- 4. The rate over time


def _rate(step, warmup, total, peak, floor, first=1, start=None, scale=0.5, over=None, cap=True):
    if step < warmup:
        return peak * (step + first) / warmup
    u = (step - (warmup if start is None else start)) / ((total - warmup) if over is None else over)
    u = min(u, 1) if cap else u
    return floor + (peak - floor) * scale * (1 + math.cos(math.pi * u))


@mistake("begins at 0, so that the first step does nothing: it is (step + 1) / warmup")
def warmup_cosine(step, warmup, total, peak, floor=0.0):
    return _rate(step, warmup, total, peak, floor, first=0)


@mistake("counts the cosine from step 0, so that it jumps at the end of the warm-up: u starts at 0 there")
def warmup_cosine(step, warmup, total, peak, floor=0.0):
    return _rate(step, warmup, total, peak, floor, start=0, over=total)


@mistake("rises again after the end: u stays 1 there")
def warmup_cosine(step, warmup, total, peak, floor=0.0):
    return _rate(step, warmup, total, peak, floor, cap=False)


@mistake("falls to 0: it falls to the floor")
def warmup_cosine(step, warmup, total, peak, floor=0.0):
    return _rate(step, warmup, total, peak, 0.0)


@mistake("falls in a straight line, not along a cosine")
def warmup_cosine(step, warmup, total, peak, floor=0.0):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak + (floor - peak) * min((step - warmup) / (total - warmup), 1)


@mistake("adds the floor to the cosine of the whole peak: it begins at peak + floor")
def warmup_cosine(step, warmup, total, peak, floor=0.0):
    return _rate(step, warmup, total, peak, 0.0) + (floor if step >= warmup else 0.0)


# --- 5. The loop


def _epoch(model, optimizer, x, y, batch_size, generator, clear=True, order=None, keep=True, after=False, mode=True):
    model.train(mode)
    order = torch.randperm(len(x), generator=generator) if order is None else order
    losses = []
    for rows in order.split(batch_size):
        if len(rows) < batch_size and not keep:
            break
        if clear:
            optimizer.zero_grad()
        loss = F.cross_entropy(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        losses.append((F.cross_entropy(model(x[rows]), y[rows]) if after else loss).item())
    return losses


@mistake("does not clear the gradients before each step, so that they pile up")
def train_epoch(model, optimizer, x, y, batch_size, generator):
    return _epoch(model, optimizer, x, y, batch_size, generator, clear=False)


@mistake("the order is not drawn: examples come as they stand")
def train_epoch(model, optimizer, x, y, batch_size, generator):
    return _epoch(model, optimizer, x, y, batch_size, generator, order=torch.arange(len(x)))


@mistake("drops the last, smaller batch")
def train_epoch(model, optimizer, x, y, batch_size, generator):
    return _epoch(model, optimizer, x, y, batch_size, generator, keep=False)


@mistake("some examples come twice in an epoch")
def train_epoch(model, optimizer, x, y, batch_size, generator):
    order = torch.randint(len(x), (len(x),), generator=generator)
    return _epoch(model, optimizer, x, y, batch_size, generator, order=order)


@mistake("never moves the weights")
def train_epoch(model, optimizer, x, y, batch_size, generator):
    model.train()
    return [
        F.cross_entropy(model(x[rows]), y[rows]).item()
        for rows in torch.randperm(len(x), generator=generator).split(batch_size)
    ]


@mistake("the model is not in training mode: model.train() comes first")
def train_epoch(model, optimizer, x, y, batch_size, generator):
    return _epoch(model, optimizer, x, y, batch_size, generator, mode=False)


@mistake("draws the order of the batches only")
def train_epoch(model, optimizer, x, y, batch_size, generator):
    batches = torch.arange(len(x)).split(batch_size)
    order = torch.cat([batches[i] for i in torch.randperm(len(batches), generator=generator)])
    if len(x) % batch_size:  # the smaller batch stays the last
        order = torch.cat([order[order < len(x) - len(x) % batch_size], batches[-1]])
    return _epoch(model, optimizer, x, y, batch_size, generator, order=order)


@mistake("gives each batch's loss after its update: before is asked for")
def train_epoch(model, optimizer, x, y, batch_size, generator):
    return _epoch(model, optimizer, x, y, batch_size, generator, after=True)


@right("the order by sorting uniform numbers, gradients cleared before and after")
def train_epoch(model, optimizer, x, y, batch_size, generator):
    model.train()
    optimizer.zero_grad()
    losses = []
    for rows in torch.rand(len(x), generator=generator).argsort().split(batch_size):
        loss = -model(x[rows]).log_softmax(-1).gather(1, y[rows][:, None]).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@right("by a DataLoader")
def train_epoch(model, optimizer, x, y, batch_size, generator):
    model.train()
    data, losses = torch.utils.data.TensorDataset(x, y), []
    for some_x, some_y in torch.utils.data.DataLoader(data, batch_size, shuffle=True, generator=generator):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(some_x), some_y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@right("by slices of a shuffled copy")
def train_epoch(model, optimizer, x, y, batch_size, generator):
    model.train()
    order, losses = torch.randperm(x.shape[0], generator=generator), []
    x, y = x[order], y[order]
    for start in range(0, len(x), batch_size):
        loss = nn.CrossEntropyLoss()(model(x[start : start + batch_size]), y[start : start + batch_size])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def _evaluate(model, x, y, off=True, back=True, graph=False, reduction="mean"):
    before = model.training
    if off:
        model.eval()
    with torch.set_grad_enabled(graph):
        logits = model(x)
        loss = F.cross_entropy(logits, y, reduction=reduction)
    if back:
        model.train(before)
    return loss.item(), (logits.argmax(-1) == y).float().mean().item()


@mistake("the model is not in evaluation mode, so dropout is on")
def evaluate(model, x, y):
    return _evaluate(model, x, y, off=False)


@mistake("your code changes the model it was given: train() or eval()")
def evaluate(model, x, y):
    return _evaluate(model, x, y, back=False)


@mistake("builds a graph: no gradients are needed here")
def evaluate(model, x, y):
    return _evaluate(model, x, y, graph=True)


@mistake("gives the sum of the losses: their mean is asked for")
def evaluate(model, x, y):
    return _evaluate(model, x, y, reduction="sum")


@mistake("counts the right answers: their share is asked for")
def evaluate(model, x, y):
    loss, share = _evaluate(model, x, y)
    return loss, share * len(y)


@mistake("gives accuracy first: the loss comes first")
def evaluate(model, x, y):
    return _evaluate(model, x, y)[::-1]


@right("in batches of two")
def evaluate(model, x, y):
    before, total, right_ones = model.training, 0.0, 0
    model.eval()
    with torch.inference_mode():
        for rows in torch.arange(len(x)).split(2):
            logits = model(x[rows])
            total += F.cross_entropy(logits, y[rows], reduction="sum").item()
            right_ones += int((logits.argmax(-1) == y[rows]).sum())
    model.train(before)
    return total / len(x), right_ones / len(x)


@mistake("no image was trained on, but the setting was chosen on these images: the best of 20 was also lucky")
def answer_chosen():
    return "a"


@mistake("a little less data hardly matters: being the best of 20 on these very images does")
def answer_chosen():
    return "c"


# --- 6. What went wrong?


def _overfit(model, optimizer, x, y, steps, clear=True, after=False):
    model.train()
    losses = []
    for _ in range(steps):
        if clear:
            optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append((F.cross_entropy(model(x), y) if after else loss).item())
    return losses


@mistake("does not clear the gradients before each step, so that they pile up")
def overfit_one_batch(model, optimizer, x, y, steps):
    return _overfit(model, optimizer, x, y, steps, clear=False)


@mistake("gives the loss after each step: before is asked for")
def overfit_one_batch(model, optimizer, x, y, steps):
    return _overfit(model, optimizer, x, y, steps, after=True)


@mistake("one loss for each step")
def overfit_one_batch(model, optimizer, x, y, steps):
    return _overfit(model, optimizer, x, y, steps)[-1:]


@mistake("in a step: all of the batch in each is asked for")
def overfit_one_batch(model, optimizer, x, y, steps):
    return [_overfit(model, optimizer, x[i % len(x)][None], y[i % len(x)][None], 1)[0] for i in range(steps)]


@mistake("one loss for each step: expected 100")
def overfit_one_batch(model, optimizer, x, y, steps):
    losses = []
    while len(losses) < steps and not (losses and losses[-1] < 0.1):
        losses += _overfit(model, optimizer, x, y, 1)
    return losses


@right("a loop of its own")
def overfit_one_batch(model, optimizer, x, y, steps):
    return _overfit(model, optimizer, x, y, steps)


def _diagnose(run, without=()):
    """A right diagnosis but for the steps that are left out."""
    rules = {
        "leaked test set": lambda: bool((run.train_images[:, None] == run.test_images).all(-1).any()),
        "no eval mode": lambda: not torch.equal(run.outputs, run.outputs_again),
        "softmax twice": lambda: torch.allclose(run.outputs.sum(-1), torch.ones(len(run.outputs))),
        "nothing": lambda: bool(run.loss[-20:].mean() < 1),
        "no zero_grad": lambda: bool(run.gradient_norm[-50:].mean() > 5 * run.gradient_norm[:5].mean()),
        "dead ReLUs": lambda: bool((run.hidden == 0).all()) and run.weight_change < 0.1,
        "rate too low": lambda: run.weight_change < 0.05,
        "rate too high": lambda: run.weight_change > 0.7,
    }
    for fault, holds in rules.items():
        if fault not in without and holds():
            return fault
    return "labels shuffled"


@mistake("looks at curves alone, and so takes a leak and a forgotten eval() for sound runs")
def what_is_wrong(run):
    return _diagnose(run, without=("leaked test set", "no eval mode"))


@mistake("calls every flat loss a rate that is too low: five faults are flat at log(10)")
def what_is_wrong(run):
    if run.loss[-20:].mean() > 2 and run.loss[:50].max() < 2.5 and run.gradient_norm[-50:].mean() < 1:
        return "rate too low"
    return _diagnose(run)


@mistake("takes every run with dead ReLUs for one that began with them: too high a rate kills them, too")
def what_is_wrong(run):
    return "dead ReLUs" if bool((run.hidden == 0).all()) else _diagnose(run)


@mistake("calls every run sound")
def what_is_wrong(run):
    return "nothing"


@right("points for each fault, the best wins")
def what_is_wrong(run):
    same_rows = {tuple(row) for row in run.train_images.tolist()} & {tuple(row) for row in run.test_images.tolist()}
    if same_rows:
        return "leaked test set"
    if (run.outputs - run.outputs_again).abs().max() > 1e-4:
        return "no eval mode"
    if run.outputs.min() >= 0 and run.outputs.max() <= 1 and float(run.outputs.sum()) > 63.9:
        return "softmax twice"
    if run.test_accuracy[-1] > 0.5:
        return "nothing"
    if run.gradient_norm[-1] > 4 * run.gradient_norm[0] and run.weight_change > 10:
        return "no zero_grad" if run.gradient_norm[-30:].mean() > 2 else "rate too high"
    dead = bool((run.hidden <= 0).all())
    if dead:
        return "dead ReLUs" if run.weight_change < 0.2 else "rate too high"
    if run.weight_change < 0.03:
        return "rate too low"
    return "labels shuffled" if run.weight_change < 0.7 else "rate too high"


# --- 7. Digits


@mistake("reads too few of the held-out images")
def read_digits(images, labels, seed):
    return _read(images, labels, seed, steps=15)


@mistake("gives a score for each digit, not the digit")
def read_digits(images, labels, seed):
    return _read(images, labels, seed, steps=15, label=False)


@mistake("hardly better than guessing")
def read_digits(images, labels, seed):
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return _read(images, labels[order], seed, steps=30)


@mistake("the same seed gives another reader")
def read_digits(images, labels, seed):
    return _read(images, labels, torch.Generator().seed() % 2**32, steps=600)


@mistake("your code draws from (or seeds) torch's global random state")
def read_digits(images, labels, seed):
    torch.manual_seed(seed)
    return _read(images, labels, seed, steps=600)


def _read(images, labels, seed, steps, label=True):
    generator = torch.Generator().manual_seed(seed)
    start = torch.get_rng_state()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    torch.set_rng_state(start)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(steps):
        rows = torch.randint(len(images), (128,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(images[rows]), labels[rows]).backward()
        optimizer.step()
    return (lambda new: model(new).argmax(-1)) if label else model


@mistake("digits are whole numbers")
def read_digits(images, labels, seed):
    nearest = KNeighborsClassifier(1).fit(images.numpy(), labels.numpy())
    return lambda new: torch.as_tensor(nearest.predict(new.numpy())).float()


@right("the nearest training image: no rule says that it must be a network")
def read_digits(images, labels, seed):
    nearest = KNeighborsClassifier(1).fit(images.numpy(), labels.numpy())
    return lambda new: torch.as_tensor(nearest.predict(new.numpy()))
