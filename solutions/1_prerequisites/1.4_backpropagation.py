# %% [markdown]
# # 1.4 Backpropagation
#
# Training, saliency, attribution patching, steering by optimisation: all ask how a number would change if a thousand
# others moved a little. **Backpropagation** answers for all of them in one sweep from the loss back to the inputs. Here
# you build it from nothing, on plain tensors: first a slow oracle, too simple to get wrong, then a rule for each
# operation, then a tape that strings the rules together.
#
# ![Forward, values go from x and w through multiply, add and square to the loss. Backward, each node hands its gradient
# to the nodes it came from, times the local derivative.](figures/1.4_tape.svg)
# %% generated="overview"
# %% setup=True
from collections.abc import Callable
from itertools import product

import torch
from IPython.display import SVG
from jaxtyping import Float, Int
from torch import Tensor

from concrete_steps import evidence, plot
# %% [markdown]
# Until the last section PyTorch's own autograd stays off: it is what you are building. Numbers are float64, so that
# rounding does not hide mistakes.
# %%
torch.manual_seed(0)
torch.set_printoptions(precision=4, sci_mode=False)
# %% [markdown]
# ## 1. The oracle
#
# The **gradient** of a number $f(x)$ has the shape of `x`; each entry says how fast `f` grows with that entry. It can
# be found by trial. Move one entry by $+h$, then by $-h$, and compare:
#
# $$\frac{\partial f}{\partial x_i} \approx \frac{f(x + h e_i) - f(x - h e_i)}{2h}$$
#
# where $e_i$ is 1 at entry $i$ and 0 elsewhere. Everything after this is checked against it.
#
# <details><summary>Hint</summary>
#
# `product(*map(range, x.shape))` runs over the indices of any shape; `shift[index] = step` writes at one of them.
#
# </details>
# %% exercise="numerical_gradient" points=2 difficulty=2 minutes=10
def numerical_gradient(
    f: Callable[[Tensor], Tensor], x: Float[Tensor, "..."], step: float = 1e-5
) -> Float[Tensor, "..."]:
    """The gradient of f at x by central differences, entry by entry; x is left as it was.

    Args:
        f: gives a tensor with a single number, of shape [].
        x: of any shape, [] too.
        step: the h of the formula.
    """
    ### BEGIN SOLUTION
    gradient = torch.zeros_like(x)
    for index in product(*map(range, x.shape)):
        shift = torch.zeros_like(x)
        shift[index] = step
        gradient[index] = (f(x + shift) - f(x - shift)) / (2 * step)
    return gradient
    ### END SOLUTION
# %% check="numerical_gradient"
# %% [markdown]
# **Predict**: the smaller the step, the better? And is it worth trying both sides, not $f(x + h) - f(x)$ over $h$?
#
# <details><summary>Answer</summary>
#
# No, and yes. Below some step the two values of `f` share almost all of their digits, and the difference is rounding.
# Two sides: the errors that grow with *h* itself cancel.
#
# </details>
# %% experiment=True
points = torch.linspace(0.5, 1.5, 30, dtype=torch.float64)
steps = [10.0**-power for power in range(1, 14)]
errors = {"both sides": [], "one side": [], "both sides, float32": []}
for step in steps:
    found = torch.stack([numerical_gradient(torch.sin, x, step) for x in points])
    one_side = (torch.sin(points + step) - torch.sin(points)) / step
    rounded = torch.stack([numerical_gradient(torch.sin, x, step) for x in points.float()])
    for name, slopes in zip(errors, (found, one_side, rounded), strict=True):
        errors[name].append((slopes - points.cos()).abs().mean().item())
for name, curve in errors.items():
    best = curve.index(min(curve))
    print(f"{name}: least error {curve[best]:.0e}, at step {steps[best]:.0e}")
plot.line(
    errors,
    x=steps,
    log_x=True,
    log_y=True,
    x_label="step",
    y_label="mean error",
    title="The derivative of sin at 30 points",
)
# %% [markdown]
# From now on `step=1e-5` and float64: float32 has 7 digits, and at its best step only five of them are right.
#
# **A model has 135 million weights, and one forward pass takes 0.1 seconds. The numerical gradient needs ...**
# (a) one pass for each layer; (b) 135 million passes; (c) 270 million passes
# %% exercise="answer_cost" points=1 difficulty=1 minutes=2
answer_cost = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_cost = "c"
### END SOLUTION
# %% check="answer_cost"
# %% [markdown]
# That is most of a year for one gradient.
#
# ## 2. One operation, backwards
#
# Let `out = tanh(x)`, and let a loss *L* come from `out` by whatever steps. A **backward rule** is given
# `grad`, the gradient $\partial L / \partial \text{out}$, and turns it into $\partial L / \partial x$. By the chain
# rule it needs nothing else about the loss. Each `out[i]` comes from one `x[i]`, so for each entry
#
# $$\frac{\partial L}{\partial x_i} = \frac{\partial L}{\partial \text{out}_i} \cdot \frac{d \tanh(x_i)}{dx_i},
# \qquad \frac{d\tanh(x)}{dx} = 1 - \tanh(x)^2$$
# %% exercise="tanh_backward" points=1 difficulty=1 minutes=4
def tanh_backward(
    grad: Float[Tensor, "..."], x: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    """The gradient of the loss with respect to x, given that with respect to tanh(x)."""
    ### BEGIN SOLUTION
    return grad * (1 - x.tanh() ** 2)
    ### END SOLUTION
# %% check="tanh_backward"
# %% [markdown]
# Any rule is tested like this: make a loss that reads `out` with random weights; then `grad` *is* those weights.
#
# **Predict**: at which *x* does almost no gradient come through a tanh? What does that do to ten in a row?
#
# <details><summary>Answer</summary>
#
# Far from 0, on both sides, where tanh is flat (it *saturates*). In a chain the factors multiply: gradients vanish,
# but at 0 every factor is 1.
#
# </details>
# %% experiment=True
x = torch.linspace(-4, 4, 81, dtype=torch.float64)
weights = torch.randn(81, dtype=torch.float64)
by_oracle = numerical_gradient(lambda x: (weights * x.tanh()).sum(), x)
gap = (tanh_backward(weights, x) - by_oracle).abs().max()
print(f"largest difference from the oracle: {gap:.0e}")
came_through = {}
for depth in (1, 2, 10):
    values, grad = [x], torch.ones_like(x)
    for _ in range(depth):
        values.append(values[-1].tanh())
    for value in reversed(values[:-1]):
        grad = tanh_backward(grad, value)
    came_through[f"{depth} in a row"] = grad
plot.line(
    came_through, x=x, x_label="x", y_label="gradient", title="What comes back through tanh"
)
# %% [markdown]
# ## 3. Broadcasting, undone
#
# **A gradient has the shape of its tensor.** In `x + b` a bias `b` of shape `[3]` meets an `x` of shape `[2, 3]`: it is
# used twice. Its two uses each get a gradient, and **the gradients of all uses add up**. So what was stretched going
# forward is summed going back.
#
# | `b` | with `x` of `[2, 3]` | its gradient |
# |---|---|---|
# | `[3]` | the missing axis is made | `grad` summed over axis 0: `[3]` |
# | `[2, 1]` | the axis of 1 is stretched | summed over axis 1, which stays as 1: `[2, 1]` |
# | `[]` | both axes are made | the sum of all: `[]` |
#
# <details><summary>Hint 1</summary>
#
# First the axes at the left that `shape` does not have: how many? Sum them away.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Then as many axes are left as `shape` has. Sum where `shape` says 1, with `keepdim=True`. (`grad.sum(())` sums
# *everything*: mind the case where there is nothing to do.)
#
# </details>
# %% exercise="unbroadcast" points=2 difficulty=3 minutes=12
def unbroadcast(grad: Float[Tensor, "..."], shape: tuple[int, ...]) -> Float[Tensor, "..."]:
    """The gradient of a tensor of this shape, given that of the same tensor broadcast to
    grad.shape.
    """
    ### BEGIN SOLUTION
    while grad.ndim > len(shape):
        grad = grad.sum(0)
    for axis, size in enumerate(shape):
        if size == 1:
            grad = grad.sum(axis, keepdim=True)
    return grad
    ### END SOLUTION
# %% check="unbroadcast"
# %% [markdown]
# With that, addition is done. Every rule takes `grad` and the inputs, and gives a gradient for each input:
# %%
def add_backward(grad: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return unbroadcast(grad, x.shape), unbroadcast(grad, y.shape)
# %% [markdown]
# Now the product `x * y`, entry by entry, whose inputs may broadcast as well.
# %% exercise="multiply_backward" points=1 difficulty=2 minutes=5
def multiply_backward(
    grad: Float[Tensor, "..."], x: Float[Tensor, "..."], y: Float[Tensor, "..."]
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """The gradients with respect to x and to y, in their shapes, given that of x * y."""
    ### BEGIN SOLUTION
    return unbroadcast(grad * y, x.shape), unbroadcast(grad * x, y.shape)
    ### END SOLUTION
# %% check="multiply_backward"
# %% [markdown]
# A sum is broadcasting the other way round: every entry of `x` had the same effect on its sum.
#
# <details><summary>Hint</summary>
#
# `x.sum(dim)` has lost the axis; `grad` must get it back (`unsqueeze`) before it can be stretched to `x.shape`.
#
# </details>
# %% exercise="sum_backward" points=1 difficulty=2 minutes=6
def sum_backward(
    grad: Float[Tensor, "..."], x: Float[Tensor, "..."], dim: int | None = None
) -> Float[Tensor, "..."]:
    """The gradient with respect to x, given that of x.sum(dim); dim=None sums everything."""
    ### BEGIN SOLUTION
    if dim is not None:
        grad = grad.unsqueeze(dim)
    return grad.expand(x.shape)
    ### END SOLUTION
# %% check="sum_backward"
# %% [markdown]
# **Predict**: `(x - x.mean()).sum()` has which gradient with respect to `x`? No calculation is needed.
#
# <details><summary>Answer</summary>
#
# 0: the sum is 0 whatever `x` is. Through the rules, each entry gets +1 by the direct way; by the
# mean, a quarter of a sum and subtracted 4 times, it gets -1.
#
# </details>
# %% experiment=True
x, ones = torch.randn(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
direct, through_mean = add_backward(ones, x, -x.mean())
mean_part = sum_backward(-through_mean / 4, x)
print("direct:", direct.tolist(), " through the mean:", mean_part.tolist())
print("sum of both:", (direct + mean_part).tolist())
# %% [markdown]
# Two ways from `x` to the loss, two gradients, one sum. LayerNorm is made of this.
#
# ## 4. The matrix product
#
# In `out = x @ y`, entry $\text{out}_{ij} = \sum_k x_{ik} y_{kj}$. So $x_{ik}$ reaches $\text{out}_{ij}$ for every $j$,
# each time with factor $y_{kj}$:
#
# $$\frac{\partial L}{\partial x_{ik}} = \sum_j \frac{\partial L}{\partial \text{out}_{ij}} \, y_{kj}$$
#
# Read the right side as a matrix product: of what, with what turned? Then do the same for `y`. Axes before the last two
# are batches, and broadcast.
#
# <details><summary>Hint 1</summary>
#
# The shapes leave only one choice: `grad` is `[n m]`, `y` is `[k m]` turned, the result `[n k]`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `.mT` turns the last two axes. A `y` of shape `[k m]` serves every batch entry: what undoes that?
#
# </details>
# %% exercise="matmul_backward" points=2 difficulty=3 minutes=12
def matmul_backward(
    grad: Float[Tensor, "... n m"], x: Float[Tensor, "... n k"], y: Float[Tensor, "... k m"]
) -> tuple[Float[Tensor, "... n k"], Float[Tensor, "... k m"]]:
    """The gradients with respect to x and to y, in their shapes, given that of x @ y; the
    batch axes of x and y may broadcast.
    """
    ### BEGIN SOLUTION
    return unbroadcast(grad @ y.mT, x.shape), unbroadcast(x.mT @ grad, y.shape)
    ### END SOLUTION
# %% check="matmul_backward"
# %% [markdown]
# **Predict**: a layer of 40 by 40 weights. How many times as long does the oracle take as the rule?
#
# <details><summary>Answer</summary>
#
# Thousands: two products for each of 1600 weights, against two products in all.
#
# </details>
# %% experiment=True
x, y = torch.randn(8, 40, dtype=torch.float64), torch.randn(40, 40, dtype=torch.float64)
grad = torch.randn(8, 40, dtype=torch.float64)


def by_oracle():
    return numerical_gradient(lambda y: (grad * (x @ y)).sum(), y)


def by_rule():
    return matmul_backward(grad, x, y)[1]


print(evidence.ratio_of_times(by_oracle, by_rule, repeats=5))
print(f"largest difference: {(by_oracle() - by_rule()).abs().max():.0e}")
# %% [markdown]
# The rule costs two products where forward cost one. A network's cost is mostly products, so its backward pass costs
# about twice its forward pass, however many weights there are (Kaplan et al., 2020, section 2.1, count it so).
#
# ## 5. Picking
#
# A model's first layer picks rows: `x[index]`, with the embedding as `x` and token ids as `index`. A row picked twice
# was used twice; a row never picked had no effect.
#
# <details><summary>Hint</summary>
#
# `out[index] += grad` writes once where an index repeats. Flatten `index`, and `grad` to one row for each pick; then
# look for a method of tensors whose name says that it adds by index. Loops are allowed.
#
# </details>
# %% exercise="indexing_backward" points=2 difficulty=3 minutes=8
def indexing_backward(
    grad: Float[Tensor, "... d"], x: Float[Tensor, "n d"], index: Int[Tensor, "..."]
) -> Float[Tensor, "n d"]:
    """The gradient with respect to x, given that of x[index]."""
    ### BEGIN SOLUTION
    rows = grad.reshape(-1, x.shape[1])
    return torch.zeros_like(x).index_add(0, index.reshape(-1), rows)
    ### END SOLUTION
# %% check="indexing_backward"
# %% [markdown]
# **`"the cat and the dog"` goes through an embedding of 50,000 words. After one batch of this text alone, whose rows of
# the embedding have a gradient that is not 0?**
# (a) of all words, most of them small; (b) of four words, that of *the* being a sum of two; (c) of five words, one for
# each position
# %% exercise="answer_rows" points=1 difficulty=2 minutes=2
answer_rows = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_rows = "b"
### END SOLUTION
# %% check="answer_rows"
# %% [markdown]
# So a token that no text uses is never learnt: Land and Bartolo (*Fishing for Magikarp*, 2024) find such
# under-trained tokens in many models. Where the unembedding is the same matrix (GPT-2, SmolLM2), its softmax
# gives every row a gradient, used or not.
#
# ## 6. A tape
#
# So far you knew the order of operations. Now the computation writes it down itself: a **tape**. It knows these:
# %%
def operation(op: str) -> tuple[Callable, Callable]:
    """The forward function of an operation, and your backward rule, which gives a tuple."""
    return {
        "add": (torch.add, add_backward),
        "multiply": (torch.mul, multiply_backward),
        "matmul": (torch.matmul, matmul_backward),
        "tanh": (torch.tanh, lambda grad, x: (tanh_backward(grad, x),)),
        "sum": (
            lambda x, dim: x.sum(dim),
            lambda grad, x, dim: (sum_backward(grad, x, dim),),
        ),
        "pick": (
            lambda x, index: x[index],
            lambda grad, x, index: (indexing_backward(grad, x, index),),
        ),
    }[op]
# %% [markdown]
# A **node** holds a value, the nodes it came from, and its backward rule with everything but `grad` filled in. A
# **leaf** came from nothing. So `x * y` on nodes gives a node that knows its past. `apply` makes it:
#
# <details><summary>Hint 1</summary>
#
# `forward, backward_rule = operation(op)`. First turn into a leaf what is no `Node` yet (`torch.as_tensor`).
#
# </details>
# <details><summary>Hint 2</summary>
#
# The rule is a function of `grad` alone: a `lambda` or an inner function that remembers the values and the options.
#
# </details>
# %% exercise="Node" points=2 difficulty=3 minutes=12
class Node:
    """A value on the tape. Two nodes are the same only if they are one object."""

    def __init__(self, value: Tensor, inputs: tuple = (), rule=None, op: str = "leaf"):
        self.value, self.inputs, self.rule, self.op = value, inputs, rule, op
        self.grad = None

    @classmethod
    def apply(cls, op: str, *inputs, **options) -> "Node":
        """Run an operation on the inputs' values, and record it in a new node.

        Args:
            op: a name that operation() knows; it becomes the node's op.
            inputs: nodes; a plain tensor or number becomes a leaf. They become the new
                node's inputs, a tuple of nodes.
            options: such as dim=0, for the forward function and the backward rule alike.

        The new node's rule takes grad and gives a tuple: one gradient for each input.
        """
        ### BEGIN SOLUTION
        forward, backward_rule = operation(op)
        nodes = tuple(x if isinstance(x, cls) else cls(torch.as_tensor(x)) for x in inputs)
        values = [node.value for node in nodes]

        def rule(grad):
            return backward_rule(grad, *values, **options)

        return cls(forward(*values, **options), nodes, rule, op)
        ### END SOLUTION

    def __add__(self, other):
        return self.apply("add", self, other)

    def __mul__(self, other):
        return self.apply("multiply", self, other)

    def __matmul__(self, other):
        return self.apply("matmul", self, other)

    def __getitem__(self, index):
        return self.apply("pick", self, index=index)

    def tanh(self):
        return self.apply("tanh", self)

    def sum(self, dim=None):
        return self.apply("sum", self, dim=dim)
# %% check="Node"
# %% [markdown]
# The tape can draw itself: each node one column to the right of its last input.
# %%
def draw(end: Node, names: dict[Node, str]) -> SVG:
    """The graph that leads to a node, as a picture; `names` says how to call its leaves."""
    column: dict[Node, int] = {}

    def place(node: Node) -> int:
        if node not in column:
            column[node] = 1 + max((place(parent) for parent in node.inputs), default=-1)
        return column[node]

    place(end)
    spot, filled, parts = {}, {}, []
    for node, x in column.items():
        filled[x] = filled.get(x, 0) + 1
        spot[node] = (30 + 125 * x, 56 * filled[x] - 16)
    width, height = 125 * max(column.values()) + 150, 56 * max(filled.values()) + 30
    for node, (x, y) in spot.items():
        for parent in node.inputs:
            (left, top) = spot[parent]
            ends = f'x1="{left + 90}" y1="{top + 18}" x2="{x}" y2="{y + 18}"'
            parts.append(f'<line {ends} stroke="#666"/>')
    for node, (x, y) in spot.items():
        colour = "#0072B2" if node.inputs else "#009E73"
        label = f"{names.get(node, node.op)} {list(node.value.shape)}"
        box = f'x="{x}" y="{y}" width="90" height="36" rx="6"'
        parts.append(f'<rect {box} fill="#fff" stroke="{colour}"/>')
        middle = f'x="{x + 45}" y="{y + 22}" text-anchor="middle"'
        parts.append(f'<text {middle} font-size="11" fill="#1f2328">{label}</text>')
    size = f'width="{width}" height="{height}"'
    parts.insert(0, f'<rect {size} rx="8" fill="#f6f8fa" stroke="#d0d7de"/>')
    name = 'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif"'
    return SVG(f"<svg {name} {size}>{''.join(parts)}</svg>")
# %% [markdown]
# **Predict**: draw $\sum \tanh(x W + b)^2$, with the square as `h * h`. How many boxes, and where do two lines join the
# same two boxes?
#
# <details><summary>Answer</summary>
#
# Eight: three leaves, and matmul, add, tanh, multiply, sum. `h` goes into the product twice: two lines, one upon the
# other.
#
# </details>
# %% experiment=True
x, W, b = (Node(torch.randn(*shape, dtype=torch.float64)) for shape in ((5, 3), (3, 4), (4,)))
h = (x @ W + b).tanh()
loss = (h * h).sum()
draw(loss, {x: "x", W: "W", b: "b"})
# %% [markdown]
# ## 7. Back along the tape
#
# A node may pass its gradient on only when it has **all** of it: after every node that used it. So nodes need an order
# in which inputs stand before what is made from them, a **topological order**; going back, it is reversed.
#
# ```text
# visit(node):  if it was visited, stop;  visit each of its inputs;  then write the node down
# ```
#
# A training run's tape can be longer than Python's recursion goes (1000 calls), but ours is short: recursion will do.
#
# <details><summary>Hint</summary>
#
# An inner function `visit`, a list of what is written down, a set of what was visited. When is a node written: before
# or after its inputs?
#
# </details>
# %% exercise="topological_order" points=2 difficulty=3 minutes=10
def topological_order(end: Node) -> list[Node]:
    """All nodes that end was made from, and end itself, each once; inputs stand before what
    was made from them.
    """
    ### BEGIN SOLUTION
    order, visited = [], set()

    def visit(node):
        if node not in visited:
            visited.add(node)
            for parent in node.inputs:
                visit(parent)
            order.append(node)

    visit(end)
    return order
    ### END SOLUTION
# %% check="topological_order"
# %% [markdown]
# **`y = x * x + x`, at x = 3. On the way back `x` gets the gradients 3, 3 and 1. What is its `grad`?**
# (a) 7, their sum; (b) 1, the last one; (c) 9, their product
# %% exercise="answer_uses" points=1 difficulty=1 minutes=2
answer_uses = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_uses = "a"
### END SOLUTION
# %% check="answer_uses"
# %% [markdown]
# ### The sweep
#
# Now the sweep. The gradient of the loss with respect to itself is 1. Then, from the end to the beginning: each node's
# rule turns its gradient into one for each input, and they are **added** to what those have already.
#
# <details><summary>Hint 1</summary>
#
# Clear all grads first. `zip(node.inputs, node.rule(node.grad))` pairs each input with its share.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `grad = grad + share`, not `+=`: two nodes may hold the same tensor, and `+=` would change both.
#
# </details>
# %% exercise="backward" points=3 difficulty=3 minutes=12
def backward(loss: Node) -> None:
    """Set grad of loss, and of every node it was made from, to the gradient of loss.value,
    each in the shape and dtype of its node's value.

    Args:
        loss: a node with a single number, of shape []. Gradients left from an earlier call
            are replaced.
    """
    ### BEGIN SOLUTION
    order = topological_order(loss)
    for node in order:
        node.grad = torch.zeros_like(node.value)
    loss.grad = torch.ones_like(loss.value)
    for node in reversed(order):
        if node.rule is not None:
            for parent, share in zip(node.inputs, node.rule(node.grad), strict=True):
                parent.grad = parent.grad + share
    ### END SOLUTION
# %% check="backward"
# %% [markdown]
# Does it hold for *any* graph? Make random ones: each step takes two earlier nodes and combines them. PyTorch says what
# the gradients are. As a control, the same sweep in a plausible order: breadth first, from the end.
#
# **Predict**: does the plausible order ever give a wrong gradient? In long graphs more often than in short ones?
#
# <details><summary>Answer</summary>
#
# In none of the shortest, in most of the longest: one node is enough that passes its gradient on before the longer of
# two ways has reached it.
#
# </details>
# %% experiment=True
def random_graph(steps: int, seed: int, leaf: Callable):
    """The end of a random graph, and its leaves: nodes or tensors, as `leaf` makes them."""
    generator = torch.Generator().manual_seed(seed)

    def draw_int(n):
        return int(torch.randint(n, (), generator=generator))

    options = {"generator": generator, "dtype": torch.float64}
    leaves = [leaf(torch.randn(shape, **options)) for shape in [(3, 3), (3, 1), (3,), ()]]
    made = [*leaves, leaves[0] @ leaves[0]]
    for _ in range(steps):
        a, b = made[draw_int(len(made))], made[draw_int(len(made))]
        made.append([a + b, (a * b).tanh(), (a * b + b).tanh()][draw_int(3)])
    return made[-1].sum(), leaves


def breadth_first(end: Node) -> list[Node]:
    order = [end]
    for node in order:
        order += [other for other in dict.fromkeys(node.inputs) if other not in order]
    return order[::-1]


def sweep(end: Node, order: list[Node]) -> None:
    for node in order:
        node.grad = torch.zeros_like(node.value)
    end.grad = torch.ones_like(end.value)
    for node in reversed(order):
        shares = node.rule(node.grad) if node.rule else ()
        for parent, share in zip(node.inputs, shares, strict=True):
            parent.grad = parent.grad + share


wrong = {"yours": [], "breadth first": []}
lengths = [1, 2, 4, 8, 16, 32]
for steps in lengths:
    failures = dict.fromkeys(wrong, 0)
    for seed in range(40):
        theirs, true_leaves = random_graph(steps, seed, lambda t: t.requires_grad_())
        theirs.backward()
        for name in wrong:
            end, leaves = random_graph(steps, seed, Node)
            backward(end) if name == "yours" else sweep(end, breadth_first(end))
            # a leaf that the end does not need has no grad
            pairs = zip(leaves, true_leaves, strict=True)
            agree = [b.grad is None or torch.allclose(a.grad, b.grad) for a, b in pairs]
            failures[name] += not all(agree)
    for name in wrong:
        wrong[name].append(failures[name] / 40)
for name, shares in wrong.items():
    shown = dict(zip(lengths, [f"{share:.0%}" for share in shares], strict=True))
    print(f"{name}: graphs that are wrong, by their steps: {shown}")
plot.line(
    wrong,
    x=lengths,
    log_x=True,
    x_label="steps",
    y_label="share of 40 graphs",
    title="Gradients unlike PyTorch's",
)
# %% [markdown]
# Forty graphs of one kind: they say nothing about an operation that never occurs in them, such as picking.
#
# ## 8. Learning with your own autograd
#
# Gradient descent: compute the loss, walk back, move each weight a little against its gradient. Fit
# $y \approx x w + b$, with the mean of squared errors as loss. Make fresh leaves for every step: the tape of one step
# ends with it.
#
# <details><summary>Hint</summary>
#
# `Node(x)`, `Node(w)` and `Node(b)`; the error is `x @ w + b - y`, and a node knows no minus: add `Node(-y)`. The
# mean is a sum times `1 / len(y)`.
#
# </details>
# %% exercise="linear_regression" points=3 difficulty=4 minutes=20
def linear_regression(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n 1"], steps: int, learning_rate: float
) -> tuple[Float[Tensor, "d 1"], Float[Tensor, "1"], list[float]]:
    """Fit weights w and bias b by gradient descent, both from 0, with your own autograd.

    Returns w, b, and the loss before each step: the mean over the n rows of
    (x @ w + b - y) squared.
    """
    ### BEGIN SOLUTION
    w, b = torch.zeros(x.shape[1], 1, dtype=x.dtype), torch.zeros(1, dtype=x.dtype)
    losses = []
    for _ in range(steps):
        weights, bias = Node(w), Node(b)
        error = Node(x) @ weights + bias + Node(-y)
        loss = (error * error).sum() * torch.tensor(1 / len(y), dtype=x.dtype)
        backward(loss)
        losses.append(loss.value.item())
        w, b = w - learning_rate * weights.grad, b - learning_rate * bias.grad
    return w, b, losses
    ### END SOLUTION
# %% check="linear_regression"
# %% [markdown]
# **Predict**: noise of standard deviation 0.5 is added to `y`. Where does the loss end? And where, if `y` is shuffled?
#
# <details><summary>Answer</summary>
#
# Near 0.25, the variance of the noise: no line explains that. Shuffled, there is nothing to learn: it stays near the
# variance of `y`.
#
# </details>
# %% experiment=True
x = torch.randn(200, 3, dtype=torch.float64)
true_w = torch.tensor([[2.0], [-1.0], [0.5]], dtype=torch.float64)
y = x @ true_w + 1 + 0.5 * torch.randn(200, 1, dtype=torch.float64)
w, b, losses = linear_regression(x, y, 60, 0.1)
shuffles = [linear_regression(x, y[torch.randperm(200)], 60, 0.1)[2] for _ in range(20)]
shuffled = torch.tensor(shuffles).mean(0).tolist()

their_w = torch.zeros(3, 1, dtype=torch.float64, requires_grad=True)
their_b = torch.zeros(1, dtype=torch.float64, requires_grad=True)
optimizer = torch.optim.SGD([their_w, their_b], lr=0.1)
theirs = []
for _ in range(60):
    optimizer.zero_grad()
    loss = (x @ their_w + their_b - y).square().mean()
    loss.backward()
    optimizer.step()
    theirs.append(loss.item())
gap = max(abs(a - b) for a, b in zip(losses, theirs, strict=True))
print(f"w {[round(weight, 2) for weight in w[:, 0].tolist()]}, b {b.item():.2f}")
print(f"last loss {losses[-1]:.3f}; variance of y {y.var():.2f}")
print(f"with y shuffled: {evidence.interval([curve[-1] for curve in shuffles]):.2f}")
print(f"largest difference between your curve and PyTorch's: {gap:.0e}")
plot.line(
    {"yours": losses, "PyTorch": theirs, "yours, y shuffled (mean of 20)": shuffled},
    x_label="step",
    y_label="loss",
    title="One curve, two autograds",
)
# %% [markdown]
# ## 9. A whole attention head, backwards
#
# An attention head is $\text{softmax}(q k^T / \sqrt{d})\, v$. You have the rule of the product; missing is that of
# softmax. For one row $p = \text{softmax}(s)$ with gradient $g$:
#
# $$\frac{\partial L}{\partial s_i} = p_i \Big(g_i - \sum_j g_j p_j\Big)$$
#
# Raising one score takes weight from all others: hence the sum.
#
# <details><summary>Hint</summary>
#
# Forward first, to have the pattern. Then back: the product with `v`; softmax; the scale; the product of `q` and `k`,
# whose second factor was `k` turned.
#
# </details>
# %% exercise="attention_backward" points=3 difficulty=4 minutes=20
def attention_backward(
    grad: Float[Tensor, "... query d_v"],
    q: Float[Tensor, "... query d"],
    k: Float[Tensor, "... key d"],
    v: Float[Tensor, "... key d_v"],
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients with respect to q, k and v, given that of

        softmax(q @ k.mT / sqrt(d)) @ v

    with the softmax over the keys and no mask.
    """
    ### BEGIN SOLUTION
    scale = q.shape[-1] ** 0.5
    pattern = (q @ k.mT / scale).softmax(-1)
    grad_pattern, grad_v = matmul_backward(grad, pattern, v)
    grad_scores = pattern * (grad_pattern - (grad_pattern * pattern).sum(-1, keepdim=True))
    grad_q, grad_k_turned = matmul_backward(grad_scores / scale, q, k.mT)
    return grad_q, grad_k_turned.mT, grad_v
    ### END SOLUTION
# %% check="attention_backward"
# %% [markdown]
# In attribution patching gradients stand in for experiments: *gradient times change* guesses what a change would do.
# When may one trust it?
#
# **Predict**: multiply `q`, so that the softmax goes to one key. What becomes of the gradients of `q` and of `v`? Put
# another head's `q` in its place: does the guess of the effect get better or worse? And for a hundredth of that change?
#
# <details><summary>Answer</summary>
#
# That of `v` grows a little; that of `q` falls towards 0, for the softmax is flat there. The guess loses almost all
# connection with the true effect; for a hundredth of the exchange it stays good.
#
# </details>
# %% experiment=True
# 3000 heads, 6 positions, d = 8
k, v, q, other_q, grad = torch.randn(5, 3000, 6, 8, dtype=torch.float64).unbind(0)


def effect(q, change):
    """What a change of q does to the loss, for each head."""
    before, after = (((q + part) @ k.mT / 8**0.5).softmax(-1) @ v for part in (0, change))
    return (grad * (after - before)).sum((1, 2))


agreement = {"all of the exchange": [], "a hundredth of it": [], "null: other heads": []}
sharpness = [1, 2, 4, 8, 16, 32, 64]
for times in sharpness:
    grad_q, _, grad_v = attention_backward(grad, times * q, k, v)
    change = times * (other_q - q)
    guess = (grad_q * change).sum((1, 2))  # [head]
    whole, small = effect(times * q, change), effect(times * q, 0.01 * change)
    pairs = ((guess, whole), (guess, small), (guess.roll(1), whole))
    for name, pair in zip(agreement, pairs, strict=True):
        agreement[name].append(torch.stack(pair).corrcoef()[0, 1].item())
    typical = [g.abs().mean((1, 2)).median().item() for g in (grad_q, grad_v)]
    shown = ", ".join(f"{name} {values[-1]:.2f}" for name, values in agreement.items())
    sizes = f"gradient of q {typical[0]:.4f}, of v {typical[1]:.2f}"
    print(f"q times {times:2}: {sizes}; agreement: {shown}")
plot.line(
    agreement,
    x=sharpness,
    log_x=True,
    x_label="q times",
    y_label="correlation over 3000 heads",
    title="Gradient times change against the true effect",
)
# %% [markdown]
# The gradient is right, for *small* changes. In a saturated head a patch is not small. These heads
# are random; Kramár et al. (*AtP\**, 2024) found this failure in language models, and mend it by computing the softmax
# anew.
#
# ## Bonus (not graded)
#
# 1. Write `topological_order` without recursion, and give it a chain of 100,000 nodes.
# 2. Add `exp`, `log` and a division; then train a two-layer network on XOR.
# 3. Forward mode: carry the derivative along with each value. For which shapes of functions is it cheaper?
# %% [markdown]
# ## Recap
#
# A rule for each operation, a tape that remembers them, one sweep in reverse topological order.
#
# | confusion | what holds |
# |---|---|
# | "A bias's gradient has the batch's shape" | a gradient has the shape of its tensor: what was stretched is summed |
# | "A second use overwrites the first" | gradients of all uses add up: in broadcasting, in indexing, on the tape |
# | "Any backward order will do" | a node passes its gradient on when all that used it have passed theirs |
# | "Gradient 0, so no effect" | no effect of a *small* change: softmax and tanh saturate |
#
# Read on: Karpathy, *micrograd*; Rush, *minitorch* (the numerical derivative first, as here); Baydin et al., *Automatic
# Differentiation in Machine Learning: a Survey* (2018); Nanda, *Attribution Patching* (2023). Next: **1.5 Training
# networks**.
