"""Training runs with one fault each, for notebook 1.5: small networks that learn to read scikit-learn's digits.

    run = broken_runs.train("dead ReLUs", seed=3)

A seed draws the split, the learning rate, the width and the network, so no two runs are alike. `fault` is what a
learner has to find from the rest.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FAULTS = (
    "nothing",
    "no zero_grad",
    "softmax twice",
    "labels shuffled",
    "rate too high",
    "rate too low",
    "dead ReLUs",
    "no eval mode",
    "leaked test set",
)
EPOCHS, BATCH, HELD_OUT, WATCHED = 10, 64, 300, 64


@dataclass(frozen=True)
class Run:
    """What a training script logged, and the tensors that it can still show.

    Attributes:
        loss: [step] the loss of each batch, before its update.
        gradient_norm: [step] the norm of all gradients as the optimiser used them.
        train_accuracy, test_accuracy: [epoch] as the script measured them after each epoch.
        outputs, outputs_again: [64 10] what the loss function is given for the first 64 test images: at the end, as the
            script evaluates, twice in a row.
        hidden: [64 width] the last hidden layer's activations (after the ReLU) for the same images.
        weight_change: how far the weights have moved in all, relative to their norm at the start.
        train_images, train_labels, test_images, test_labels: what the script took for them.
    """

    loss: Tensor
    gradient_norm: Tensor
    train_accuracy: Tensor
    test_accuracy: Tensor
    outputs: Tensor
    outputs_again: Tensor
    hidden: Tensor
    weight_change: float
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's 1797 handwritten digits: images [n 64] between 0 and 1, and labels [n]."""
    import torch
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)


@functools.lru_cache(maxsize=64)  # the same run is asked for again where answers are compared on it
def train(fault: str, seed: int) -> Run:
    """Train a network with this fault; the global random state is left as it was."""
    import torch

    if fault not in FAULTS:
        raise ValueError(f"there is no fault {fault!r}; use one of {', '.join(FAULTS)}")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        return _train(fault)


def _train(fault: str) -> Run:
    import torch
    from torch import nn

    images, labels = digits()
    order = torch.randperm(len(images))
    test, train = order[:HELD_OUT], order[HELD_OUT:]
    if fault == "leaked test set":
        train = torch.cat([train[HELD_OUT // 2 :], test[: HELD_OUT // 2]])  # as many as ever: the number tells nothing
    x, y, test_x, test_y = images[train], labels[train], images[test], labels[test]
    if fault == "labels shuffled":
        y = y[torch.randperm(len(y))]

    rate = 0.2 + 0.2 * torch.rand(()).item()
    rate *= {"rate too high": 40.0, "rate too low": 1 / 300}.get(fault, 1.0)
    width = int(torch.randint(40, 65, ()))
    inner = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, width), nn.ReLU())
    if fault == "dead ReLUs":
        nn.init.constant_(inner[3].bias, -4.0)
    last = nn.Sequential(nn.Linear(width, 10), *([nn.Softmax(-1)] if fault == "softmax twice" else []))
    model = nn.Sequential(inner, last)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    start = _flat(model.parameters())

    losses, norms, accuracies = [], [], []
    for _ in range(EPOCHS):
        model.train()
        for rows in torch.randperm(len(x)).split(BATCH):
            if fault != "no zero_grad":
                optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            losses.append(loss.item())
            norms.append(_flat(p.grad for p in model.parameters()).norm().item())
            optimizer.step()
        if fault != "no eval mode":
            model.eval()
        with torch.no_grad():
            pairs = ((x, y), (test_x, test_y))
            accuracies.append([(model(a).argmax(-1) == b).float().mean().item() for a, b in pairs])

    with torch.no_grad():
        watched = test_x[:WATCHED]
        outputs, again, hidden = model(watched), model(watched), inner(watched)
    change = (_flat(model.parameters()) - start).norm() / start.norm()
    by_epoch = torch.tensor(accuracies)
    return Run(
        loss=torch.tensor(losses),
        gradient_norm=torch.tensor(norms),
        train_accuracy=by_epoch[:, 0],
        test_accuracy=by_epoch[:, 1],
        outputs=outputs,
        outputs_again=again,
        hidden=hidden,
        weight_change=change.item(),
        train_images=x,
        train_labels=y,
        test_images=test_x,
        test_labels=test_y,
    )


def _flat(tensors) -> Tensor:
    import torch

    return torch.cat([tensor.detach().flatten() for tensor in tensors])
