"""Whether a gradient arrives, and whether it is the derivative."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from concrete_steps.checking.testing.inputs import Rng
from concrete_steps.checking.testing.values import assert_tensor

STEP = 1e-5
NO_GRADIENT = "no gradient flows through your function: keep to torch operations (no .item(), .data, numpy)"


def assert_gradient_flows(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """A gradient reaches every floating-point input."""
    leaves = [x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
    output = assert_tensor(function(*leaves))
    assert output.requires_grad, NO_GRADIENT
    output[output.isfinite()].sum().backward()
    for number, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            assert leaf.grad is not None, f"no gradient reaches input {number}: is it detached or copied to numpy?"


def assert_gradient_values(
    function: Callable[..., Tensor],
    *inputs: Tensor,
    weights: Iterable[tuple[str, Tensor]] = (),
    rng: Rng | None = None,
    rtol: float = 1e-4,
) -> None:
    """Gradients with respect to each float64 input, and to `weights` (a module's named_parameters()), are derivatives.

    The derivative of the function itself, measured in one random direction for each: so a detached part is seen.
    """
    rng = rng or Rng()
    leaves = [x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
    named = {f"input {number}": leaf for number, leaf in enumerate(leaves) if leaf.is_floating_point()} | dict(weights)
    assert all(x.dtype == torch.float64 for x in named.values()), "a numerical derivative needs float64 inputs"
    # Not the leaves themselves: PyTorch forbids to change one in place, in words that tell a learner little.
    output = assert_tensor(function(*(x.clone() for x in leaves)))
    assert output.requires_grad, NO_GRADIENT
    finite = output.detach().isfinite()
    weighting = rng.normal(*output.shape, dtype=torch.float64)

    def total(out: Tensor) -> Tensor:
        return (out.double() * weighting)[finite].sum()

    gradients = torch.autograd.grad(total(output), list(named.values()), allow_unused=True)
    for (name, x), gradient in zip(named.items(), gradients, strict=True):
        direction = rng.normal(*x.shape, dtype=torch.float64)
        slope, doubtful = _slope(lambda: total(function(*(x.detach().clone() for x in leaves))), x, direction)
        size = abs(slope) + rtol
        assert doubtful < rtol * size, (
            f"the result moves in jumps when {name} moves by {STEP}: is it rounded, or float32 on the way?"
        )
        if gradient is None:
            assert abs(slope) < rtol, f"no gradient reaches {name}: is it detached or copied to numpy?"
            continue
        assert not gradient.isnan().any(), (
            f"the gradient of {name} is nan: somewhere on the way it meets 0 times nan or infinity"
        )
        found = float((gradient * direction).sum())
        assert abs(found - slope) < 10 * rtol * size, (
            f"the gradient of {name} is not the derivative of your result: in a random direction it says {found:.5g}, "
            f"moving {name} a little changes the result by {slope:.5g}; is a part of the computation detached?"
        )


def _slope(total: Callable[[], Tensor], x: Tensor, direction: Tensor) -> tuple[float, float]:
    """The derivative of `total` as x moves along `direction`, and how much two measurements of it differ."""
    before, values = x.detach().clone(), []
    try:
        for step in (STEP, -STEP, 2 * STEP, -2 * STEP):
            x.data = before + step * direction
            values.append(float(total().detach()))
    finally:
        x.data = before
    near, far = (values[0] - values[1]) / (2 * STEP), (values[2] - values[3]) / (4 * STEP)
    return near, abs(near - far)
