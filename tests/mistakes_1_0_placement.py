"""Wrong answers to 1.0, the placement of step 1, and what each of them is."""

import math

import numpy as np
import torch
from torch import nn

from concrete_steps.checking.mistakes import mistake, right

# --- 1. Tensors


@mistake("takes the position `end` with it: the stretch stops just before")
def mean_of_stretch(resid, start, end):
    pos = torch.arange(resid.shape[1])
    inside = (pos >= start[:, None]) & (pos <= end[:, None])
    return (resid * inside[..., None]).sum(1) / inside.sum(1)[:, None]


@mistake("divides by all positions, not by those in the stretch")
def mean_of_stretch(resid, start, end):
    pos = torch.arange(resid.shape[1])
    inside = (pos >= start[:, None]) & (pos < end[:, None])
    return (resid * inside[..., None]).mean(1)


@mistake("takes the stretch of the first row for all rows")
def mean_of_stretch(resid, start, end):
    return resid[:, start[0] : end[0]].mean(1)


@mistake("gives the sum over the stretch: divide by its length")
def mean_of_stretch(resid, start, end):
    pos = torch.arange(resid.shape[1])
    inside = (pos >= start[:, None]) & (pos < end[:, None])
    return (resid * inside[..., None]).sum(1)


@right("row by row")
def mean_of_stretch(resid, start, end):
    return torch.stack([row[first:last].mean(0) for row, first, last in zip(resid, start, end, strict=True)])


@mistake("sums over the heads: each head's output is asked for apart")
def head_outputs(z, W_O):
    return torch.einsum("bphi,him->bpm", z, W_O)


@mistake("uses the matrix of the first head for all heads")
def head_outputs(z, W_O):
    return z @ W_O[0]


@mistake("puts the heads before the positions: the order is batch, pos, head, d_model")
def head_outputs(z, W_O):
    return torch.einsum("bphi,him->bhpm", z, W_O)


@right("a matrix product over a new axis")
def head_outputs(z, W_O):
    return (z[..., None, :] @ W_O)[..., 0, :]


# --- 2. Linear algebra


@mistake("takes the direction for a unit vector: divide by direction @ direction")
def reflect(x, direction):
    return x - 2 * (x @ direction)[..., None] * direction


@mistake("removes the part along the direction once: that makes it 0, twice turns it round")
def reflect(x, direction):
    return x - ((x @ direction) / (direction @ direction))[..., None] * direction


@mistake("turns the rest round and keeps the part along the direction")
def reflect(x, direction):
    return 2 * ((x @ direction) / (direction @ direction))[..., None] * direction - x


@mistake("divides by the direction's length once: it stands twice in the formula, so its square is needed")
def reflect(x, direction):
    return x - 2 * ((x @ direction) / direction.norm())[..., None] * direction


@right("a matrix")
def reflect(x, direction):
    unit = direction / direction.norm()
    return x @ (torch.eye(len(unit), dtype=x.dtype) - 2 * torch.outer(unit, unit))


@mistake("adds up the singular values, not their squares")
def directions_needed(W, share):
    values = torch.linalg.svdvals(W.double())
    return int((values.cumsum(0) / values.sum() < share).sum()) + 1


@mistake("counts from 0: where the first direction is enough, the answer is 1")
def directions_needed(W, share):
    squares = torch.linalg.svdvals(W.double()).square()
    return int((squares.cumsum(0) / squares.sum() < share).sum())


@mistake("counts the directions that each hold more than the share: what they hold together is asked")
def directions_needed(W, share):
    squares = torch.linalg.svdvals(W.double()).square()
    return max(1, int((squares / squares.sum() > share).sum()))


@mistake("asks for more than the share: directions that hold just the share are enough")
def directions_needed(W, share):
    squares = torch.linalg.svdvals(W.double()).square()
    return int((squares.cumsum(0) / squares.sum() <= share).sum()) + 1


@mistake("compares the squares themselves with the share: divide by their sum")
def directions_needed(W, share):
    squares = torch.linalg.svdvals(W.double()).square()
    return int((squares.cumsum(0) < share).sum()) + 1


@right("eigenvalues, in a loop")
def directions_needed(W, share):
    squares = torch.linalg.eigvalsh(W.double() @ W.double().T).flip(0).clamp(min=0)
    held = 0.0
    for number, square in enumerate(squares.tolist(), 1):
        held += square
        if held >= share * float(squares.sum()):
            return number
    return len(squares)


# --- 3. Probability and evidence


@mistake("is in nats: divide by ln 2, or take log2")
def bits_saved(logits, tokens, frequency):
    return (logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0] - frequency.log()[tokens]).mean()


@mistake("gives the bits lost: the model's log probability comes first")
def bits_saved(logits, tokens, frequency):
    return (frequency.log2()[tokens] - logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0] / math.log(2)).mean()


@mistake("takes logits for log probabilities: softmax them first")
def bits_saved(logits, tokens, frequency):
    return (logits.gather(-1, tokens[:, None])[:, 0] / math.log(2) - frequency.log2()[tokens]).mean()


@mistake("takes the logarithm of a probability that was rounded to 0: log_softmax has it without that")
def bits_saved(logits, tokens, frequency):
    p = logits.softmax(-1).gather(-1, tokens[:, None])[:, 0]
    return (p.log2() - frequency[tokens].log2()).mean()


@mistake("is the sum over positions, not their mean")
def bits_saved(logits, tokens, frequency):
    return (logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0] / math.log(2) - frequency.log2()[tokens]).sum()


@mistake("takes the log of the mean probability: the mean of the logs is asked for")
def bits_saved(logits, tokens, frequency):
    p = logits.softmax(-1).gather(-1, tokens[:, None])[:, 0]
    return p.mean().log2() - frequency[tokens].mean().log2()


@right("cross entropies")
def bits_saved(logits, tokens, frequency):
    model = torch.nn.functional.cross_entropy(logits, tokens)
    return (torch.nn.functional.nll_loss(frequency.log().expand(len(tokens), -1), tokens) - model) / math.log(2)


def flipped_means(differences, draws, generator):
    signs = 2.0 * torch.randint(0, 2, (draws, len(differences)), generator=generator) - 1
    return (signs * differences).mean(1)


@mistake("looks at one side only: a mean as far below 0 counts as well")
def sign_flip_p(differences, draws, generator):
    means = flipped_means(differences, draws, generator)
    return (1 + int((means >= differences.mean() * (1 - 1e-6)).sum())) / (1 + draws)


@mistake("leaves out the measured signs: with no draw as far, p would be 0")
def sign_flip_p(differences, draws, generator):
    means = flipped_means(differences, draws, generator).abs()
    return int((means >= differences.mean().abs() * (1 - 1e-6)).sum()) / draws


@mistake("counts only draws that are farther: one that is as far counts as well")
def sign_flip_p(differences, draws, generator):
    means = flipped_means(differences, draws, generator).abs()
    return (1 + int((means > differences.mean().abs() * (1 + 1e-6)).sum())) / (1 + draws)


@mistake("finds every draw as far: all flipped together, or shuffled, keep the mean's size; each needs its own sign")
def sign_flip_p(differences, draws, generator):
    signs = 2.0 * torch.randint(0, 2, (draws, 1), generator=generator) - 1
    means = (signs * differences).mean(1).abs()
    return (1 + int((means >= differences.mean().abs() * (1 - 1e-6)).sum())) / (1 + draws)


@mistake("leaves no room for rounding: means that ought to be equal differ in their last digits")
def sign_flip_p(differences, draws, generator):
    means = flipped_means(differences, draws, generator).abs()
    return (1 + int((means >= differences.mean().abs()).sum())) / (1 + draws)


@right("in a loop")
def sign_flip_p(differences, draws, generator):
    count, values = 1, differences.double()
    for start in range(0, draws, 1000):
        coins = torch.rand(min(1000, draws - start), len(values), generator=generator, dtype=torch.float64)
        means = torch.where(coins < 0.5, values, -values).mean(1)
        count += int((means.abs() >= values.mean().abs() - 1e-9).sum())
    return count / (draws + 1)


# --- 4. Backpropagation


@mistake("leaves out the length: the derivative of a length has length 1, so divide x by it")
def length_backward(grad, x):
    return grad[:, None] * x


@mistake("is the derivative of the squared length")
def length_backward(grad, x):
    return 2 * grad[:, None] * x


@mistake("leaves out grad: the chain rule multiplies by it")
def length_backward(grad, x):
    return x / x.norm(dim=-1, keepdim=True)


@mistake("divides by the length of the whole x: each row has its own")
def length_backward(grad, x):
    return grad[:, None] * x / x.norm()


@mistake("uses autograd: the derivative is to be worked out by hand")
def length_backward(grad, x):
    leaf = x.detach().clone().requires_grad_()
    return torch.autograd.grad(leaf.norm(dim=1), leaf, grad)[0]


@mistake("uses autograd: the derivative is to be worked out")
def length_backward(grad, x):
    with torch.enable_grad():
        leaf = torch.tensor(x.tolist(), dtype=x.dtype, requires_grad=True)
        (leaf.norm(dim=1) * grad).sum().backward()
    return leaf.grad


@mistake("uses autograd: the derivative")
def length_backward(grad, x):
    return torch.func.vjp(lambda rows: rows.norm(dim=1), x)[1](grad)[0]


@mistake("uses autograd")
def length_backward(grad, x):
    jacobian = torch.func.jacfwd(lambda rows: rows.norm(dim=1))(x)
    return torch.einsum("r,rsd->sd", grad, jacobian)


@right("square roots by hand")
def length_backward(grad, x):
    return x * (grad / (x * x).sum(1).sqrt()).unsqueeze(1)


@right("row by row, written in place")
def length_backward(grad, x):
    result = x.clone()
    for row, number in zip(result, grad, strict=True):
        row *= number / row.norm()
    return result


@right("numpy")
def length_backward(grad, x):
    lengths = np.linalg.norm(x.numpy(), axis=1)
    return torch.from_numpy((grad.numpy() / lengths)[:, None] * x.numpy())


@right("a formula for one row, mapped")
@torch.no_grad()
def length_backward(grad, x):
    return torch.func.vmap(lambda number, row: number * row / row.norm())(grad, x)


@mistake("leaves out that a score lowers the probability of the others: subtract p times the sum of grad times p")
def softmax_backward(grad, p):
    return grad * p


@mistake("uses autograd: the derivative is to be worked out by hand")
def softmax_backward(grad, p):
    scores = p.detach().log().requires_grad_()
    scores.softmax(-1).backward(grad)
    return scores.grad


@mistake("uses autograd: the derivative is to be worked out")
def softmax_backward(grad, p):
    with torch.enable_grad():
        scores = p.log().clone().requires_grad_()
        return torch.autograd.grad((scores.softmax(-1) * grad).sum(), scores)[0]


@mistake("uses autograd: the derivative")
def softmax_backward(grad, p):
    return torch.autograd.functional.vjp(lambda scores: scores.softmax(-1), p.log(), grad)[1]


@mistake("uses autograd")
def softmax_backward(grad, p):
    return torch.func.grad(lambda scores: (scores.softmax(-1) * grad).sum())(p.log())


@mistake("takes the mean of grad, not its mean weighed by p")
def softmax_backward(grad, p):
    return p * (grad - grad.mean(-1, keepdim=True))


@mistake("is sigmoid's derivative: p (1 - p) is only the diagonal")
def softmax_backward(grad, p):
    return grad * p * (1 - p)


@mistake("sums over all axes: each row is a softmax of its own")
def softmax_backward(grad, p):
    return p * (grad - (grad * p).sum())


@mistake("has the right numbers with the wrong sign")
def softmax_backward(grad, p):
    return p * ((grad * p).sum(-1, keepdim=True) - grad)


@right("the Jacobian, row by row")
def softmax_backward(grad, p):
    jacobian = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
    return torch.einsum("...ij,...j->...i", jacobian, grad)


@right("each pair of entries, in a loop")
@torch.inference_mode()
def softmax_backward(grad, p):
    result = torch.zeros_like(p)
    for i in range(p.shape[-1]):
        for j in range(p.shape[-1]):
            result[..., i] += grad[..., j] * p[..., j] * (float(i == j) - p[..., i])
    return result


@right("numpy")
def softmax_backward(grad, p):
    g, probs = grad.numpy(), p.numpy()
    return torch.from_numpy(probs * (g - (g * probs).sum(-1, keepdims=True)))


@right("a formula for one row, mapped")
def softmax_backward(grad, p):
    rows = torch.func.vmap(lambda g, probs: probs * (g - g @ probs))
    return rows(grad.reshape(-1, grad.shape[-1]), p.reshape(-1, p.shape[-1])).reshape(p.shape)


# --- 5. Training


def length_of(gradients):
    return sum(float(gradient.double().square().sum()) for gradient in gradients) ** 0.5


@mistake("shortens each gradient on its own: one factor for all keeps the direction")
def clip_gradients(gradients, longest):
    return [g * min(1.0, longest / float(g.norm())) if g.any() else g for g in gradients]


@mistake("cuts each entry to at most `longest`: that turns the gradient another way")
def clip_gradients(gradients, longest):
    return [g.clamp(-longest, longest) for g in gradients]


@mistake("lengthens short gradients as well: those within `longest` stay as they are")
def clip_gradients(gradients, longest):
    length = length_of(gradients)
    return [g * (longest / length) if length else g for g in gradients]


@mistake("adds the lengths: the length of one long vector is the root of the sum of their squares")
def clip_gradients(gradients, longest):
    length = sum(float(g.norm()) for g in gradients)
    return [g * min(1.0, longest / length) if length else g for g in gradients]


@mistake("takes the squared length for the length: the root is missing")
def clip_gradients(gradients, longest):
    length = length_of(gradients) ** 2
    return [g * min(1.0, longest / length) if length else g for g in gradients]


@right("on gradients of parameters")
def clip_gradients(gradients, longest):
    parameters = [torch.zeros_like(g, requires_grad=True) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    length = length_of(gradients)
    return [parameter.grad * min(1.0, longest / length) if length else parameter.grad for parameter in parameters]


def trained(x, y, seed, layers, steps=400):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = layers()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        (network(x).reshape(-1) - y).square().mean().backward()
        optimizer.step()
    return network


@mistake("is there a nonlinearity between two layers, and is it trained?")
def fit(x, y, seed):
    return trained(x, y, seed, lambda: nn.Sequential(nn.Linear(x.shape[1], 64), nn.Linear(64, 1), nn.Flatten(0)))


@mistake("against [sample, 1], y would be spread to a square")
def fit(x, y, seed):
    return trained(x, y, seed, lambda: nn.Sequential(nn.Linear(x.shape[1], 64), nn.Tanh(), nn.Linear(64, 1)), steps=20)


@mistake("give the same network: is the seed used that comes in?")
def fit(x, y, seed):
    def layers():
        linear = nn.Linear(x.shape[1], 64), nn.Linear(64, 64), nn.Linear(64, 1)
        return nn.Sequential(linear[0], nn.Tanh(), linear[1], nn.Tanh(), linear[2], nn.Flatten(0))

    return trained(x, y, 0, layers)


@mistake("expected a network (nn.Module)")
def fit(x, y, seed):
    network = trained(
        x, y, seed, lambda: nn.Sequential(nn.Linear(x.shape[1], 64), nn.Tanh(), nn.Linear(64, 1)), steps=20
    )
    return lambda z: network(z).reshape(-1)


@right("mini-batches and ReLU")
def fit(x, y, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(x.shape[1], 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1), nn.Flatten(0)
        )
        optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
        for _ in range(60):
            for batch in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                nn.functional.mse_loss(network(x[batch]), y[batch]).backward()
                optimizer.step()
    return network


@right("PyTorch's own random state")
def fit(x, y, seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(x.shape[1], 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
    network.append(nn.Flatten(0))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(400):
        optimizer.zero_grad()
        nn.functional.mse_loss(network(x), y).backward()
        optimizer.step()
    return network
