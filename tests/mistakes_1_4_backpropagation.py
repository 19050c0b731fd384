"""Wrong answers to 1.4 Backpropagation, what each of them is, and right answers in other styles."""

import itertools

import torch

from concrete_steps.checking.mistakes import mistake, right

# --- 1. The oracle


def _shifts(x, step):
    """Each index of x, and a tensor that is step there and 0 elsewhere."""
    for index in itertools.product(*map(range, x.shape)):
        shift = torch.zeros_like(x)
        shift[index] = step
        yield index, shift


@mistake("tries one side only, f(x + h) - f(x): its error grows with h itself")
def numerical_gradient(f, x, step=1e-5):
    gradient = torch.zeros_like(x)
    for index, shift in _shifts(x, step):
        gradient[index] = (f(x + shift) - f(x)) / step
    return gradient


@mistake("divides by h: from x - h to x + h it is 2h")
def numerical_gradient(f, x, step=1e-5):
    gradient = torch.zeros_like(x)
    for index, shift in _shifts(x, step):
        gradient[index] = (f(x + shift) - f(x - shift)) / step
    return gradient


@mistake("moves all entries at once: each entry of the gradient belongs to a change of that entry alone")
def numerical_gradient(f, x, step=1e-5):
    return torch.full_like(x, float((f(x + step) - f(x - step)) / (2 * step)))


@mistake("leaves each entry moved while it tries the next one")
def numerical_gradient(f, x, step=1e-5):
    x, gradient = x.clone(), torch.zeros_like(x)
    for index, shift in _shifts(x, step):
        gradient[index] = (f(x + shift) - f(x - shift)) / (2 * step)
        x += shift
    return gradient


@mistake("has the sign turned: f(x + h) comes first")
def numerical_gradient(f, x, step=1e-5):
    gradient = torch.zeros_like(x)
    for index, shift in _shifts(x, step):
        gradient[index] = (f(x - shift) - f(x + shift)) / (2 * step)
    return gradient


@mistake("leaves x changed: move a copy, or put every entry back exactly")
def numerical_gradient(f, x, step=1e-5):
    gradient = torch.zeros_like(x)
    for index, _ in _shifts(x, step):
        x[index] += step
        above = f(x)
        x[index] -= 2 * step
        gradient[index] = (above - f(x)) / (2 * step)
    return gradient


@right("one flat loop over a copy")
def numerical_gradient(f, x, step=1e-5):
    values = []
    for i in range(x.numel()):
        sides = []
        for sign in (1, -1):
            moved = x.contiguous().flatten().clone()
            moved[i] += sign * step
            sides.append(f(moved.reshape(x.shape)))
        values.append((sides[0] - sides[1]) / (2 * step))
    return torch.stack(values).reshape(x.shape)


@mistake("does not count per weight: every entry is moved by itself, so layers do not help")
def answer_cost():
    return "a"


@mistake("counts one side: central differences call f twice for each entry")
def answer_cost():
    return "b"


# --- 2. One operation


@mistake("gives the derivative of tanh alone: by the chain rule it is multiplied by grad")
def tanh_backward(grad, x):
    return 1 - x.tanh() ** 2


@mistake("squares x, not tanh(x)")
def tanh_backward(grad, x):
    return grad * (1 - x**2)


@mistake("does not square tanh(x)")
def tanh_backward(grad, x):
    return grad * (1 - x.tanh())


@mistake("goes forward: grad times tanh(x), where the derivative of tanh belongs")
def tanh_backward(grad, x):
    return grad * x.tanh()


@right("as 1 / cosh^2")
def tanh_backward(grad, x):
    return grad / x.cosh().square()


# --- 3. Broadcasting


@mistake("sums the made axes only: stretched axes of 1 must be summed, too")
def unbroadcast(grad, shape):
    while grad.ndim > len(shape):
        grad = grad.sum(0)
    return grad


@mistake("sums the stretched axes only: the axes that shape does not have must go, too")
def unbroadcast(grad, shape):
    for axis in range(1, len(shape) + 1):
        if shape[-axis] == 1:
            grad = grad.sum(-axis, keepdim=True)
    return grad


@mistake("takes the mean: gradients of all uses add up")
def unbroadcast(grad, shape):
    while grad.ndim > len(shape):
        grad = grad.mean(0)
    for axis, size in enumerate(shape):
        if size == 1:
            grad = grad.mean(axis, keepdim=True)
    return grad


@mistake("keeps one of the copies: gradients of all uses add up")
def unbroadcast(grad, shape):
    while grad.ndim > len(shape):
        grad = grad[0]
    for axis, size in enumerate(shape):
        if size == 1:
            grad = grad.narrow(axis, 0, 1)
    return grad


@mistake("sums everything where there is nothing to sum: grad.sum(()) means all axes")
def unbroadcast(grad, shape):
    grad = grad.sum(tuple(range(grad.ndim - len(shape))))
    for axis, size in enumerate(shape):
        if size == 1:
            grad = grad.sum(axis, keepdim=True)
    return grad


@mistake("loses the stretched axis: keepdim=True leaves it as 1")
def unbroadcast(grad, shape):
    extra = grad.ndim - len(shape)
    axes = [*range(extra), *(axis + extra for axis, size in enumerate(shape) if size == 1)]
    return grad.sum(axes) if axes else grad


@right("all axes at once, then reshaped")
def unbroadcast(grad, shape):
    extra = grad.ndim - len(shape)
    axes = [axis for axis in range(grad.ndim) if axis < extra or shape[axis - extra] == 1]
    return (grad.sum(axes) if axes else grad).reshape(shape)


@right("by PyTorch's own")
def unbroadcast(grad, shape):
    return grad.sum_to_size(shape)


def _unbroadcast(grad, shape):
    return grad.sum_to_size(shape)


@mistake("gives each its own factor: x gets grad times y, y gets grad times x")
def multiply_backward(grad, x, y):
    return _unbroadcast(grad * x, x.shape), _unbroadcast(grad * y, y.shape)


@mistake("leaves the gradients broadcast: each must have the shape of its tensor")
def multiply_backward(grad, x, y):
    return grad * y, grad * x


@mistake("leaves grad out")
def multiply_backward(grad, x, y):
    return _unbroadcast(y.expand(grad.shape), x.shape), _unbroadcast(x.expand(grad.shape), y.shape)


@mistake("is the rule of addition: a product's gradient has the other factor in it")
def multiply_backward(grad, x, y):
    return _unbroadcast(grad, x.shape), _unbroadcast(grad, y.shape)


@mistake("sums grad before it multiplies: each use has a factor of its own")
def multiply_backward(grad, x, y):
    of_x, of_y = _unbroadcast(grad, x.shape), _unbroadcast(grad, y.shape)
    return _unbroadcast(of_x * y, x.shape), _unbroadcast(of_y * x, y.shape)


@mistake("divides the product by the factor's own value: where that is 0, nothing is left to divide")
def multiply_backward(grad, x, y):
    out = x * y
    return _unbroadcast(grad * out / x, x.shape), _unbroadcast(grad * out / y, y.shape)


@right("each in the shape of its own, expanded first")
def multiply_backward(grad, x, y):
    wide_x, wide_y = torch.broadcast_tensors(x, y)
    return _unbroadcast(grad * wide_y, tuple(x.shape)), _unbroadcast(grad * wide_x, tuple(y.shape))


@right("sums by hand, in a list")
def multiply_backward(grad, x, y):
    return [torch.einsum("...,...->...", grad, other).sum_to_size(own.shape) for own, other in ((x, y), (y, x))]


@mistake("does not put the summed axis back, so that grad lines up with the wrong axis")
def sum_backward(grad, x, dim=None):
    return grad.expand(x.shape)


@mistake("divides by how many were summed: that is the rule of the mean")
def sum_backward(grad, x, dim=None):
    count = x.numel() if dim is None else x.shape[dim]
    return (grad if dim is None else grad.unsqueeze(dim)).expand(x.shape) / count


@mistake("gives ones: they must be multiplied by grad")
def sum_backward(grad, x, dim=None):
    return torch.ones_like(x)


@mistake("gives back grad as it came: a gradient has the shape of its tensor")
def sum_backward(grad, x, dim=None):
    return grad


@mistake("puts the summed axis back as the last one, whichever it was")
def sum_backward(grad, x, dim=None):
    return (grad if dim is None else grad.unsqueeze(-1)).expand(x.shape)


@right("axis 0 needs no unsqueeze: broadcasting makes it")
def sum_backward(grad, x, dim=None):
    return (grad.unsqueeze(dim) if dim else grad).expand(x.shape)


@right("ones times grad")
def sum_backward(grad, x, dim=None):
    kept = torch.sum(x, dim, keepdim=True).shape if dim is not None else (1,) * x.ndim
    return torch.ones_like(x) * grad.reshape(kept)


# --- 4. The matrix product


@mistake("does not turn x and y: the sum over j needs y.mT")
def matmul_backward(grad, x, y):
    return grad @ y, x @ grad


@mistake("has the factors of y's gradient in the wrong order: x.mT comes first")
def matmul_backward(grad, x, y):
    return _unbroadcast(grad @ y.mT, x.shape), grad.mT @ x


@mistake("leaves the batch axes broadcast: each gradient must have the shape of its tensor")
def matmul_backward(grad, x, y):
    return grad @ y.mT, x.mT @ grad


@mistake("gives the two gradients in the wrong order: that of x comes first")
def matmul_backward(grad, x, y):
    return _unbroadcast(x.mT @ grad, y.shape), _unbroadcast(grad @ y.mT, x.shape)


@mistake("leaves grad out of y's gradient")
def matmul_backward(grad, x, y):
    return _unbroadcast(grad @ y.mT, x.shape), _unbroadcast(x.mT @ torch.ones_like(grad), y.shape)


@right("by einsum")
def matmul_backward(grad, x, y):
    grad_x = torch.einsum("...nm,...km->...nk", grad, y)
    grad_y = torch.einsum("...nk,...nm->...km", x, grad)
    return grad_x.sum_to_size(x.shape), grad_y.sum_to_size(y.shape)


# --- 5. Picking


@mistake("counts a repeated index once: `out[index] += grad` and `out[index] = grad` write once for each row")
def indexing_backward(grad, x, index):
    out = torch.zeros_like(x)
    out[index] += grad
    return out


@mistake("picks again: going back, gradients are put where the rows came from")
def indexing_backward(grad, x, index):
    return grad.reshape(-1, x.shape[1])[index]


@mistake("adds to x: the gradient starts at 0")
def indexing_backward(grad, x, index):
    return x.index_add(0, index.reshape(-1), grad.reshape(-1, x.shape[1]))


@mistake("gives back grad as it came: the gradient has the shape of x")
def indexing_backward(grad, x, index):
    return grad


@mistake("takes the mean of repeated rows: gradients of all uses add up")
def indexing_backward(grad, x, index):
    flat = index.reshape(-1)
    out = torch.zeros_like(x).index_add(0, flat, grad.reshape(-1, x.shape[1]))
    return out / torch.bincount(flat, minlength=len(x)).clamp(min=1)[:, None]


@right("one-hot times grad")
def indexing_backward(grad, x, index):
    hot = torch.nn.functional.one_hot(index.reshape(-1), len(x)).to(x.dtype)
    return hot.T @ grad.reshape(-1, x.shape[1])


@right("a loop")
def indexing_backward(grad, x, index):
    out = torch.zeros_like(x)
    for token, row in zip(index.flatten(), grad.reshape(-1, x.shape[1]), strict=True):
        out[token] += row
    return out


@right("by index_put")
def indexing_backward(grad, x, index):
    return torch.zeros_like(x).index_put((index,), grad, accumulate=True)


@mistake("a row that was not picked had no effect on the loss, so its gradient is exactly 0")
def answer_rows():
    return "a"


@mistake("counts positions: a row has one gradient, the sum over all positions that picked it")
def answer_rows():
    return "c"


# --- 6. A tape


def _add(grad, x, y):
    return grad.sum_to_size(x.shape), grad.sum_to_size(y.shape)


def _multiply(grad, x, y):
    return (grad * y).sum_to_size(x.shape), (grad * x).sum_to_size(y.shape)


def _matmul(grad, x, y):
    return grad @ y.mT, x.mT @ grad


def _operation(op):
    return {
        "add": (torch.add, _add),
        "multiply": (torch.mul, _multiply),
        "matmul": (torch.matmul, _matmul),
        "tanh": (torch.tanh, lambda grad, x: (grad * (1 - x.tanh() ** 2),)),
        "sum": (lambda x, dim: x.sum(dim), lambda grad, x, dim: (grad.unsqueeze(dim).expand(x.shape),)),
        "pick": (
            lambda x, index: x[index],
            lambda grad, x, index: (torch.zeros_like(x).index_put((index,), grad, accumulate=True),),
        ),
    }[op]


class _Node:
    def __init__(self, value, inputs=(), rule=None, op="leaf"):
        self.value, self.inputs, self.rule, self.op, self.grad = value, inputs, rule, op, None

    @classmethod
    def apply(cls, op, *inputs, **options):
        forward, backward_rule = _operation(op)
        nodes = tuple(x if isinstance(x, cls) else cls(torch.as_tensor(x)) for x in inputs)
        values = [node.value for node in nodes]
        return cls(forward(*values, **options), nodes, lambda grad: tuple(backward_rule(grad, *values, **options)), op)

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


@mistake("keeps the values and not the nodes they came from")
class Node(_Node):
    @classmethod
    def apply(cls, op, *inputs, **options):
        node = super().apply(op, *inputs, **options)
        node.inputs = tuple(part.value for part in node.inputs)
        return node


@mistake("makes copies of its inputs, or orders them anew")
class Node(_Node):
    @classmethod
    def apply(cls, op, *inputs, **options):
        node = super().apply(op, *inputs, **options)
        node.inputs = tuple(cls(part.value) for part in node.inputs)
        return node


@mistake("runs the rule too early")
class Node(_Node):
    @classmethod
    def apply(cls, op, *inputs, **options):
        node = super().apply(op, *inputs, **options)
        node.rule = node.rule(torch.ones_like(node.value))
        return node


@mistake("leaves something out of the rule")
class Node(_Node):
    @classmethod
    def apply(cls, op, *inputs, **options):
        node = super().apply(op, *inputs, **options)
        node.rule = _operation(op)[1]
        return node


@mistake("does not make a leaf of a plain number or tensor")
class Node(_Node):
    @classmethod
    def apply(cls, op, *inputs, **options):
        forward, backward_rule = _operation(op)
        values = [x.value for x in inputs]
        return cls(forward(*values, **options), inputs, lambda grad: backward_rule(grad, *values, **options), op)


@mistake("the node's op is the name of the operation")
class Node(_Node):
    @classmethod
    def apply(cls, op, *inputs, **options):
        node = super().apply(op, *inputs, **options)
        node.op = "made"
        return node


@mistake("keeps a node that is used twice only once")
class Node(_Node):
    @classmethod
    def apply(cls, op, *inputs, **options):
        node = super().apply(op, *inputs, **options)
        node.inputs = tuple(dict.fromkeys(node.inputs))
        return node


@mistake("has something on the way another dtype than the input?")
class Node(_Node):
    @classmethod
    def apply(cls, op, *inputs, **options):
        node = super().apply(op, *inputs, **options)
        node.value = node.value.float()
        return node


class _Rule:
    def __init__(self, backward_rule, inputs, options):
        self.backward_rule, self.inputs, self.options = backward_rule, inputs, options

    def __call__(self, grad):
        return list(self.backward_rule(grad, *(node.value for node in self.inputs), **self.options))


@right("of another name, by which its methods know it", exercise="Node")
class Value(_Node):
    @classmethod
    def apply(cls, op, *inputs, **options):
        nodes = tuple(x if isinstance(x, Value) else Value(torch.as_tensor(x)) for x in inputs)
        forward, backward_rule = _operation(op)
        values = [node.value for node in nodes]
        return Value(forward(*values, **options), nodes, lambda grad: backward_rule(grad, *values, **options), op)


@right("no apply: operators straight away, and the rule an object that can be called")
class Node:
    def __init__(self, value, inputs=(), rule=None, op="leaf"):
        self.value, self.inputs, self.rule, self.op, self.grad = value, inputs, rule, op, None

    def _combine(self, op, *others, **options):
        nodes = (self, *(x if hasattr(x, "rule") else type(self)(torch.as_tensor(x)) for x in others))
        forward, backward_rule = _operation(op)
        value = forward(*(node.value for node in nodes), **options)
        return type(self)(value, nodes, _Rule(backward_rule, nodes, options), op)

    def __add__(self, other):
        return self._combine("add", other)

    def __mul__(self, other):
        return self._combine("multiply", other)

    def __matmul__(self, other):
        return self._combine("matmul", other)

    def __getitem__(self, index):
        return self._combine("pick", index=index)

    def tanh(self):
        return self._combine("tanh")

    def sum(self, dim=None):
        return self._combine("sum", dim=dim)


# --- 7. Back along the tape


def _topological(end):
    order = []

    def visit(node):
        if all(node is not other for other in order):
            for parent in node.inputs:
                visit(parent)
            order.append(node)

    visit(end)
    return order


@mistake("writes a node down before its inputs: first visit the inputs, then write")
def topological_order(end):
    order, visited = [], set()

    def visit(node):
        if id(node) not in visited:
            visited.add(id(node))
            order.append(node)
            for parent in node.inputs:
                visit(parent)

    visit(end)
    return order


@mistake("forgets which nodes were visited, and so writes them once for each use")
def topological_order(end):
    order = []

    def visit(node):
        for parent in node.inputs:
            visit(parent)
        order.append(node)

    visit(end)
    return order


@mistake("goes by distance from the end: a node that is reached by a short and by a long way comes out too late")
def topological_order(end):
    order = [end]
    for node in order:
        order += [parent for parent in dict.fromkeys(node.inputs) if all(parent is not other for other in order)]
    return order[::-1]


@mistake("leaves the end itself out")
def topological_order(end):
    return _topological(end)[:-1]


@mistake("is the right order backwards: inputs come first")
def topological_order(end):
    return _topological(end)[::-1]


@mistake("leaves the leaves out")
def topological_order(end):
    return [node for node in _topological(end) if node.inputs]


@mistake("expected a list of the nodes themselves")
def topological_order(end):
    return [node.value for node in _topological(end)]


@right("without recursion, by a stack")
def topological_order(end):
    order, seen, stack = [], set(), [(end, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(parent, False) for parent in node.inputs if id(parent) not in seen]
    return order


@right("by Kahn: a node follows when all its inputs stand")
def topological_order(end):
    nodes, waiting = {}, [end]
    while waiting:
        node = waiting.pop()
        if id(node) not in nodes:
            nodes[id(node)] = node
            waiting += node.inputs
    order, placed = [], set()
    while len(order) < len(nodes):
        for key, node in nodes.items():
            if key not in placed and all(id(parent) in placed for parent in node.inputs):
                placed.add(key)
                order.append(node)
    return order


@mistake("keeps the last use only: the gradients of both uses add up")
def answer_uses():
    return "b"


@mistake("multiplies the uses: factors multiply along one way, different ways add up")
def answer_uses():
    return "c"


def _sweep(loss, order, start=None, keep=False):
    for node in order:
        if not keep or node.grad is None:
            node.grad = torch.zeros_like(node.value)
    loss.grad = torch.ones_like(loss.value) if start is None else start
    for node in reversed(order):
        if node.rule is not None:
            for parent, share in zip(node.inputs, node.rule(node.grad), strict=True):
                parent.grad = parent.grad + share


@mistake("overwrites: a node used twice gets the sum of both gradients")
def backward(loss):
    order = _topological(loss)
    loss.grad = torch.ones_like(loss.value)
    for node in reversed(order):
        if node.rule is not None:
            for parent, share in zip(node.inputs, node.rule(node.grad), strict=True):
                parent.grad = share


@mistake("passes a gradient on as soon as one arrives: a node must wait for all that used it")
def backward(loss):
    for node in _topological(loss):
        node.grad = torch.zeros_like(node.value)
    loss.grad = torch.ones_like(loss.value)
    waiting, visited = [loss], set()
    while waiting:
        node = waiting.pop(0)
        if id(node) not in visited and node.rule is not None:
            visited.add(id(node))
            for parent, share in zip(node.inputs, node.rule(node.grad), strict=True):
                parent.grad = parent.grad + share
                waiting.append(parent)


@mistake("starts from the loss's value: the gradient of loss with respect to itself is 1")
def backward(loss):
    _sweep(loss, _topological(loss), start=loss.value)


@mistake("adds to what an earlier call left: clear all gradients first")
def backward(loss):
    _sweep(loss, _topological(loss), keep=True)


@mistake("lets two nodes share one tensor: after `+=` on it, both have changed")
def backward(loss):
    order = _topological(loss)
    for node in order:
        node.grad = None
    loss.grad = torch.ones_like(loss.value)
    for node in reversed(order):
        if node.rule is not None:
            for parent, share in zip(node.inputs, node.rule(node.grad), strict=True):
                if parent.grad is None:
                    parent.grad = share
                else:
                    parent.grad += share


@mistake("goes through the nodes forward, so that rules meet gradients of 0")
def backward(loss):
    order = _topological(loss)
    for node in order:
        node.grad = torch.zeros_like(node.value)
    loss.grad = torch.ones_like(loss.value)
    for node in order:
        if node.rule is not None:
            for parent, share in zip(node.inputs, node.rule(node.grad), strict=True):
                parent.grad = parent.grad + share


@mistake("a gradient has the dtype of its value")
def backward(loss):
    _sweep(loss, _topological(loss), start=torch.tensor(1.0))


@right("zeros of one's own, added to in place")
def backward(loss):
    order = _topological(loss)
    for node in order:
        node.grad = torch.zeros_like(node.value)
    loss.grad += 1
    while order:
        node = order.pop()
        for parent, share in zip(node.inputs, node.rule(node.grad) if node.rule else (), strict=True):
            parent.grad += share


@right("gradients in a dictionary, written to the nodes at the end")
def backward(loss):
    order = _topological(loss)
    gradients = {id(loss): torch.ones_like(loss.value)}
    for node in reversed(order):
        shares = node.rule(gradients[id(node)]) if node.inputs else ()
        for parent, share in zip(node.inputs, shares, strict=True):
            gradients[id(parent)] = gradients.get(id(parent), 0) + share
    for node in order:
        node.grad = gradients[id(node)]


# --- 8. Learning


def _descent(x, y, steps, rate, of_w=1.0, of_b=1.0, after=False, over=None, sign=-1):
    w, b, losses = torch.zeros(x.shape[1], 1, dtype=x.dtype), torch.zeros(1, dtype=x.dtype), []
    over = len(y) if over is None else over
    for _ in range(steps):
        error = x @ w + b - y
        if not after:
            losses.append((error.square().sum() / over).item())
        w = w + sign * of_w * rate * 2 * x.T @ error / over
        b = b + sign * of_b * rate * 2 * error.sum(0) / over
        if after:
            losses.append(((x @ w + b - y).square().sum() / over).item())
    return w, b, losses


@mistake("sums the squared errors: their mean is asked for")
def linear_regression(x, y, steps, learning_rate):
    return _descent(x, y, steps, learning_rate, over=1)


@mistake("leaves the bias at 0")
def linear_regression(x, y, steps, learning_rate):
    return _descent(x, y, steps, learning_rate, of_b=0.0)


@mistake("climbs: weights move against their gradient")
def linear_regression(x, y, steps, learning_rate):
    return _descent(x, y, steps, learning_rate, sign=1)


@mistake("gives the loss after each step: it is asked for before")
def linear_regression(x, y, steps, learning_rate):
    return _descent(x, y, steps, learning_rate, after=True)


@mistake("takes half of the mean squared error")
def linear_regression(x, y, steps, learning_rate):
    return _descent(x, y, steps, learning_rate, over=2 * len(y))


@mistake("leaves out the learning rate")
def linear_regression(x, y, steps, learning_rate):
    return _descent(x, y, steps, 1.0)


@right("by formula")
def linear_regression(x, y, steps, learning_rate):
    return _descent(x, y, steps, learning_rate)


@right("on PyTorch's autograd")
def linear_regression(x, y, steps, learning_rate):
    w = torch.zeros(x.shape[1], 1, dtype=x.dtype, requires_grad=True)
    b = torch.zeros(1, dtype=x.dtype, requires_grad=True)
    losses = []
    for _ in range(steps):
        loss = (x @ w + b - y).pow(2).mean()
        of_w, of_b = torch.autograd.grad(loss, (w, b))
        losses.append(loss.item())
        with torch.no_grad():
            w -= learning_rate * of_w
            b -= learning_rate * of_b
    return w.detach(), b.detach(), losses


# --- 9. A head


def _head(grad, q, k, v, scale=None, softmax=True, axis=-1, into=None):
    """The right gradients, with a part left out or turned."""
    root = q.shape[-1] ** 0.5
    pattern = (q @ k.mT / (root if into is None else into)).softmax(-1)
    grad_pattern = grad @ v.mT
    mean = (grad_pattern * pattern).sum(axis, keepdim=True) if softmax else 0
    scores = pattern * (grad_pattern - mean) / (root if scale is None else scale)
    return scores @ k, scores.mT @ q, pattern.mT @ grad


@mistake("forgets the scale on the way back: scores were divided by the root of d")
def attention_backward(grad, q, k, v):
    return _head(grad, q, k, v, scale=1)


@mistake("forgets the sum in the rule of softmax: more weight here is less weight elsewhere")
def attention_backward(grad, q, k, v):
    return _head(grad, q, k, v, softmax=False)


@mistake("sums over the queries in the rule of softmax: each query's weights are a softmax of their own, over the keys")
def attention_backward(grad, q, k, v):
    return _head(grad, q, k, v, axis=-2)


@mistake("divides by d: its root is meant")
def attention_backward(grad, q, k, v):
    return _head(grad, q, k, v, scale=q.shape[-1], into=q.shape[-1])


@mistake("gives k's gradient turned, of shape [d key]: the product's second factor was k turned")
def attention_backward(grad, q, k, v):
    grad_q, grad_k, grad_v = _head(grad, q, k, v)
    return grad_q, grad_k.mT, grad_v


@mistake("forgets softmax on the way back altogether")
def attention_backward(grad, q, k, v):
    _, _, grad_v = _head(grad, q, k, v)
    scores = grad @ v.mT / q.shape[-1] ** 0.5
    return scores @ k, scores.mT @ q, grad_v


@mistake("takes exp of the scores as they are, which overflows: softmax first takes the largest off")
def attention_backward(grad, q, k, v):
    root = q.shape[-1] ** 0.5
    pattern = (q @ k.mT / root).exp()
    pattern = pattern / pattern.sum(-1, keepdim=True)
    grad_pattern = grad @ v.mT
    scores = pattern * (grad_pattern - (grad_pattern * pattern).sum(-1, keepdim=True)) / root
    return scores @ k, scores.mT @ q, pattern.mT @ grad


@right("softmax by hand, q scaled, and the sum from the output")
def attention_backward(grad, q, k, v):
    scaled = q / q.shape[-1] ** 0.5
    scores = scaled @ k.mT
    pattern = (scores - scores.amax(-1, keepdim=True)).exp()
    pattern = pattern / pattern.sum(-1, keepdim=True)
    grad_scores = pattern * (grad @ v.mT - (grad * (pattern @ v)).sum(-1, keepdim=True))
    return grad_scores @ k / q.shape[-1] ** 0.5, grad_scores.mT @ scaled, pattern.mT @ grad


@right("the Jacobian of softmax as a matrix")
def attention_backward(grad, q, k, v):
    root = q.shape[-1] ** 0.5
    p = (q @ k.mT / root).softmax(-1)
    jacobian = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
    scores = torch.einsum("...qij,...qj->...qi", jacobian, grad @ v.mT) / root
    return scores @ k, scores.mT @ q, p.mT @ grad
