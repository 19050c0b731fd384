"""Checks of 1.4 Backpropagation: PyTorch's autograd, or a formula, says what the gradients are."""

import torch

from concrete_steps.checking.mistakes import same
from concrete_steps.checking.testing import (
    assert_choice,
    assert_close,
    assert_equal,
    assert_plain,
    assert_precise,
    assert_tensor,
    awkward,
    nothing_left_behind,
    strided,
    unchanged,
)

# Changes that make no wrong answer; scripts/mutate.py counts them apart:
# equivalent mutant of numerical_gradient, 1e-05 -> -1e-05: central differences are the same from the other side
# equivalent mutant of unbroadcast, Gt -> NotEq: a gradient never has fewer axes than its tensor
# equivalent mutant of unbroadcast, Eq -> LtE: an axis of 0 sums to nothing, and nobody trains on nothing
# equivalent mutant of sum_backward, IsNot -> NotEq: an axis is a whole number
# equivalent mutant of sum_backward, keep int: an annotation
# equivalent mutant of sum_backward, keep None: an annotation
# equivalent mutant of indexing_backward, 1 -> -1: axis 1 is the last
# equivalent mutant of backward, IsNot -> NotEq: a rule is a function
# equivalent mutant of backward, drop strict= of zip: a rule gives one gradient for each input
# equivalent mutant of backward, True -> False: a rule gives one gradient for each input
# equivalent mutant of linear_regression, drop Node(...): apply makes a leaf of it
# equivalent mutant of linear_regression, drop tensor(...): apply makes a leaf of it
# equivalent mutant of linear_regression, drop dtype= of tensor: a number without axes does not change the dtype
# equivalent mutant of linear_regression, 1 -> -1: axis 1 is the last
# equivalent mutant of linear_regression, x -> y (3x): x and y have the same dtype
# equivalent mutant of linear_regression, y -> x: x and y have the same length
# equivalent mutant of attention_backward, q -> k: queries and keys have the same d


def by_pytorch(forward, grad, *inputs):
    """The gradients of the inputs, given that of forward(*inputs)."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    return torch.autograd.grad(forward(*leaves), leaves, grad)


def assert_gradients(actual, expected, names):
    """A tuple with one gradient for each name, each in the shape and dtype of its tensor."""
    assert isinstance(actual, tuple | list) and len(actual) == len(names), (
        f"expected {len(names)} gradients, of {' and '.join(names)}, got {type(actual).__name__}"
    )
    for name, mine, right in zip(names, actual, expected, strict=True):
        assert_tensor(mine)
        assert mine.shape == right.shape, (
            f"the gradient of {name} must have the shape of {name}, {list(right.shape)}, not {list(mine.shape)}"
        )
        assert_precise(mine, right, f"the gradient of {name} differs from PyTorch's", loosen=10)


# --- 1. The oracle


def test_numerical_gradient(numerical_gradient, rng):
    """Central differences for each entry, for several shapes and steps, and x left as it was."""
    cases = [(torch.tensor([1.0, 2.0], dtype=torch.float64), 0.5)]
    for shape, step in [((), 0.1), ((1,), 1e-3), ((2, 3), 0.2), ((2, 1, 2), 0.1)]:
        cases.append((rng.normal(*shape, dtype=torch.float64), step))
    cases.append((strided(rng.normal(3, 2, dtype=torch.float64)), 0.3))
    for x, step in cases:
        with unchanged(x):
            actual = assert_tensor(numerical_gradient(cubes, x, step), shape=x.shape, dtype=x.dtype)
        expected = 3 * x**2 + step**2  # exactly what central differences give for cubes
        assert_precise(actual, expected, f"not (f(x + h) - f(x - h)) / 2h with h = {step}, for f(x) = (x ** 3).sum()")


def cubes(x):
    return (x**3).sum()


def test_numerical_gradient__entries_together(numerical_gradient, rng):
    """Entries that matter together, the default step, and float32"""
    x = rng.normal(4, dtype=torch.float64)
    others = torch.stack([torch.cat([x[:i], x[i + 1 :]]).prod() for i in range(4)])
    for step in (0.5, None):
        actual = numerical_gradient(torch.prod, x) if step is None else numerical_gradient(torch.prod, x, step)
        assert_close(actual, others, "the gradient of the product of all entries")
    actual = numerical_gradient(cubes, x)
    assert_close(actual, 3 * x**2, "the gradient of cubes, with the default step", rtol=1e-7, atol=1e-7)
    x = rng.normal(2, 2)
    actual = assert_tensor(numerical_gradient(lambda x: (x * x).sum(), x, 0.5), dtype=torch.float32)
    assert_close(actual, 2 * x, "the gradient of (x * x).sum() in float32", atol=1e-4)


def test_answer_cost(answer_cost):
    """Two passes for each weight."""
    assert_choice(answer_cost, "c", "how many times does your code call f for each entry of x?")


# --- 2 to 5. Rules


def test_tanh_backward(tanh_backward, rng):
    """grad times 1 - tanh(x)^2, as PyTorch has it, for several shapes."""
    cases = [(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0]))]
    cases += [(rng.normal(*shape), 2 * rng.normal(*shape)) for shape in [(), (1,), (2, 3)]]
    cases += [(rng.normal(3, dtype=torch.float64), rng.normal(3, dtype=torch.float64))]
    cases += [(rng.normal(2, 3), x) for x in awkward(rng, 2, 3)]
    cases += [(strided(rng.normal(2, 3)), strided(rng.normal(2, 3)))]
    for grad, x in cases:
        with unchanged(grad, x):
            actual = tanh_backward(grad, x)
        assert_precise(actual, by_pytorch(torch.tanh, grad, x)[0], "the gradient of x differs from PyTorch's")


def test_unbroadcast(unbroadcast, rng):
    """Made axes are summed away, stretched ones summed to 1, all others left alone."""
    pairs = [((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3), ()), ((2, 3), (2, 3)), ((3,), (1,)), ((2, 3), (1, 1))]
    pairs += [((4, 2, 3), (2, 1)), ((4, 2, 3), (1, 3)), ((2, 1, 3), (1, 3)), ((), ()), ((2, 2), (2,)), ((1,), ())]
    pairs += [((5, 4, 1, 3), (4, 1, 1)), ((1, 1), (1,)), ((2, 3, 4), (2, 1, 4))]
    for big, shape in pairs:
        grad = torch.ones(big) if big == (2, 3) and shape == (3,) else rng.normal(*big)
        with unchanged(grad):
            actual = unbroadcast(grad, torch.Size(shape))
        expected = by_pytorch(lambda x, big=big: x.expand(big), grad, torch.zeros(shape))[0]
        message = f"a tensor of shape {list(shape)} was broadcast to {list(big)}: its gradient"
        assert_close(assert_tensor(actual), expected, message)
    grad = strided(rng.normal(4, 2, 3, dtype=torch.float64))
    assert_precise(unbroadcast(grad, (2, 1)), grad.sum((0, 2))[:, None], "grad in float64, and not contiguous")


def test_multiply_backward(multiply_backward, rng):
    """Each gets grad times the other, in its own shape, whatever was broadcast."""
    shapes = [
        ((2,), (2,)),
        ((), ()),
        ((2, 3), (3,)),
        ((3,), (2, 3)),
        ((2, 1), (1, 3)),
        ((), (2, 2)),
        ((4, 1, 2), (3, 1)),
    ]
    for dtype in (torch.float32, torch.float64):
        for of_x, of_y in shapes:
            x, y = strided(rng.normal(*of_x, dtype=dtype)), rng.normal(*of_y, dtype=dtype)
            grad = strided(rng.normal(*(x * y).shape, dtype=dtype))
            with unchanged(grad, x, y):
                actual = multiply_backward(grad, x, y)
            assert_gradients(actual, by_pytorch(torch.mul, grad, x, y), ("x", "y"))
    x, y, grad = torch.tensor([0.0, 2.0, 0.0]), torch.tensor([3.0, 0.0, 0.0]), torch.ones(3)
    assert_gradients(multiply_backward(grad, x, y), (y, x), ("x", "y"))


def test_sum_backward(sum_backward, rng):
    """Every entry gets the gradient of the sum it went into: along any axis, and along all."""
    cases = [
        ((2, 2), 1),
        ((2, 3), 0),
        ((2, 3), None),
        ((2, 3), -1),
        ((2, 3, 2), 1),
        ((2, 3, 2), -3),
        ((3,), 0),
        ((), None),
    ]
    for shape, dim in cases:
        x = rng.normal(*shape)
        grad = rng.normal(*x.sum(dim).shape)
        with unchanged(grad, x):
            actual = assert_tensor(sum_backward(grad, x, dim), shape=x.shape)
        expected = by_pytorch(lambda x, dim=dim: x.sum(dim), grad, x)[0]
        assert_close(actual, expected, f"the gradient of x, of shape {list(shape)}, summed over dim={dim}")
    x, grad = strided(rng.normal(2, 3, dtype=torch.float64)), strided(rng.normal(3, dtype=torch.float64))
    assert_precise(sum_backward(grad, x, 0), torch.stack([grad, grad]), "x in float64, and not contiguous")
    x = rng.normal(2, 3)
    assert_close(sum_backward(torch.tensor(2.0), x), torch.full((2, 3), 2.0), "dim is None when it is left away")


def test_matmul_backward(matmul_backward, rng):
    """As PyTorch has it, for odd shapes, batches, and batches that broadcast."""
    shapes = [((2, 2), (2, 2)), ((1, 1), (1, 1)), ((2, 3), (3, 4)), ((5, 2, 3), (5, 3, 1)), ((5, 2, 3), (3, 4))]
    shapes += [((2, 3), (4, 3, 2)), ((2, 1, 3, 2), (5, 2, 3)), ((3, 2, 2), (1, 2, 2))]
    for dtype in (torch.float32, torch.float64):
        for of_x, of_y in shapes:
            x, y = strided(rng.normal(*of_x, dtype=dtype)), rng.normal(*of_y, dtype=dtype)
            grad = strided(rng.normal(*(x @ y).shape, dtype=dtype))
            with unchanged(grad, x, y):
                actual = matmul_backward(grad, x, y)
            assert_gradients(actual, by_pytorch(torch.matmul, grad, x, y), ("x", "y"))


def test_indexing_backward(indexing_backward, rng):
    """Rows that were picked several times add up, rows that were never picked get 0."""
    cases = [(torch.tensor([1, 1]), 3, 1)]
    cases += [
        (rng.integers(0, n, *shape), n, d)
        for shape, n, d in [((), 2, 3), ((1,), 1, 1), ((6,), 3, 2), ((2, 3), 4, 5), ((2, 2, 4), 3, 2)]
    ]
    for index, n, d in cases:
        for dtype in (torch.float32, torch.float64):
            x, grad = rng.normal(n, d, dtype=dtype), rng.normal(*index.shape, d, dtype=dtype)
            with unchanged(grad, x, index):
                actual = assert_tensor(indexing_backward(grad, x, index), shape=x.shape, dtype=x.dtype)
            expected = torch.zeros_like(x)
            for row, token in zip(grad.reshape(-1, d), index.reshape(-1).tolist(), strict=True):
                expected[token] = expected[token] + row
            assert_precise(actual, expected, "row i is not the sum of grad where index is i")


def test_indexing_backward__turned(indexing_backward, rng):
    """Tensors that are not contiguous"""
    x, index, grad = rng.normal(3, 2), rng.integers(0, 3, 4, 2).T, rng.normal(4, 2, 2).transpose(0, 1)
    actual = indexing_backward(grad, x, index)
    expected = by_pytorch(lambda x: x[index], grad, x)[0]
    assert_close(actual, expected, "row i is not the sum of grad where index is i")


def test_answer_rows(answer_rows):
    """Only rows that were picked, and one for each different word."""
    assert_choice(
        answer_rows, "b", "what did your indexing_backward give for rows not in index, and for a repeated one?"
    )


# --- 6. A tape


def test_Node(Node, rng):
    """Value, inputs, rule and name of each operation; plain numbers become leaves; earlier nodes stay as they were."""
    index = torch.tensor([1, 1, 0])
    forward = {
        "add": torch.add,
        "multiply": torch.mul,
        "tanh": torch.tanh,
        "sum": lambda a: a.sum(1),
        "matmul": torch.matmul,
        "pick": lambda a: a[index],
    }
    for dtype in (torch.float32, torch.float64):
        x, y, z = (Node(rng.normal(*shape, dtype=dtype)) for shape in ((2, 3), (3,), (3, 2)))
        made = [("add", x + y, (x, y)), ("multiply", x * y, (x, y)), ("tanh", x.tanh(), (x,))]
        made += [("sum", x.sum(dim=1), (x,)), ("matmul", x @ z, (x, z)), ("pick", x[index], (x,))]
        made += [("add", y + y, (y, y)), ("multiply", x * x, (x, x))]
        for op, node, inputs in made:
            check_node(Node, op, node, inputs)
            assert_precise(node.value, forward[op](*(part.value for part in inputs)), f"the value of {op}")
        for op, node, _ in made:
            check_rule(op, node, forward[op], rng)


def check_node(Node, op, node, inputs):
    assert isinstance(node, Node), f"{op} on nodes must give a Node: it gave {type(node).__name__}"
    assert_equal(node.op, op, "the node's op is the name of the operation")
    assert isinstance(node.inputs, tuple), f"inputs is a tuple of nodes, not {type(node.inputs).__name__}"
    assert len(node.inputs) > 0 and all(isinstance(part, Node) for part in node.inputs), (
        "keeps the values and not the nodes they came from: the way back needs nodes in inputs"
    )
    twice = inputs[0] is inputs[-1] and len(inputs) == 2
    assert not twice or len(node.inputs) == 2, (
        f"keeps a node that is used twice only once: x {'+' if op == 'add' else '*'} x has two inputs, and its rule "
        f"gives two gradients; inputs has {len(node.inputs)}"
    )
    assert len(node.inputs) == len(inputs) and all(a is b for a, b in zip(node.inputs, inputs, strict=True)), (
        "makes copies of its inputs, or orders them anew: the way back must reach the very nodes that were combined"
    )
    assert node.grad is None, "a fresh node has no gradient yet"


def check_rule(op, node, forward, rng):
    assert callable(node.rule), "runs the rule too early: rule is a function of grad, called on the way back"
    values = [part.value for part in node.inputs]
    grad = rng.normal(*node.value.shape, dtype=node.value.dtype)
    try:
        actual = node.rule(grad)
    except TypeError as error:
        raise AssertionError(
            "leaves something out of the rule: grad alone is given later, the values and options (dim=1) are filled in "
            f"by apply. For {op}: {error}"
        ) from None
    expected = by_pytorch(forward, grad, *values)
    assert isinstance(actual, tuple | list) and len(actual) == len(values), (
        f"the rule of {op} gives one gradient per input"
    )
    for mine, right in zip(actual, expected, strict=True):
        assert_close(mine, right, f"rule(grad) of {op}, asked for after other nodes were made", atol=1e-4)


def test_Node__numbers(Node, rng):
    """Plain numbers and tensors become leaves"""
    x = Node(rng.normal(2))
    for other in (3.0, torch.tensor([2.0, 5.0])):
        try:
            node = x * other
        except AttributeError as error:
            raise AssertionError(
                f"does not make a leaf of a plain number or tensor: node * {other} gives AttributeError: {error}"
            ) from None
        assert len(node.inputs) == 2, (
            f"does not make a leaf of a plain number or tensor: node * {other} has {len(node.inputs)} inputs, not 2"
        )
        leaf = node.inputs[1]
        assert isinstance(leaf, Node) and len(leaf.inputs) == 0 and leaf.rule is None, (
            "does not make a leaf of a plain number or tensor: a Node without inputs and without rule"
        )
        assert_close(leaf.value, torch.as_tensor(other), "the leaf's value")
        assert_close(node.rule(torch.ones(2))[0], torch.as_tensor(other).expand(2), "the gradient of the other factor")


# --- 7. Back along the tape. Checks bring nodes of their own, so that only this exercise is on trial.


class Spot:
    """A node for checks. Two are equal if all the names and gradients below them are."""

    def __init__(self, name, value=None, inputs=(), rule=None):
        self.name, self.value, self.inputs, self.rule, self.op = name, value, tuple(inputs), rule, "made"
        self.grad = None

    def __eq__(self, other):
        return isinstance(other, Spot) and same(below(self), below(other))

    def __hash__(self):
        return hash(self.name)

    def __repr__(self):
        return f"node {self.name}"


def below(end):
    """Name to gradient, of a node and all that it came from."""
    found, waiting = {}, [end]
    while waiting:
        spot = waiting.pop()
        if spot.name not in found:
            found[spot.name] = spot.grad
            waiting += spot.inputs
    return found


def named(edges):
    """The nodes of a graph that is written as name: names of its inputs, in any order that works."""
    spots = {}
    for name, inputs in edges.items():
        spots[name] = Spot(name, torch.tensor(1.0), [spots[other] for other in inputs])
    return spots


GRAPHS = (
    {"a": ""},
    {"a": "", "b": "a"},
    {"a": "", "b": "", "c": "ab"},
    {"a": "", "b": "aa"},
    {"a": "", "b": "a", "c": "b", "d": "ac"},  # a short and a long way to a
    {"a": "", "b": "a", "c": "b", "d": "ca"},
    {"a": "", "b": "a", "c": "a", "d": "bc", "e": "dd", "f": "ae"},
)


def random_edges(rng, n):
    names = "abcdefghijklmnopqrstuvwxyz"[:n]
    edges = {names[0]: "", names[1]: ""}
    for i in range(2, n):
        edges[names[i]] = names[rng.integer(0, i)] + names[rng.integer(0, i)]
    return edges


def test_topological_order(topological_order, rng):
    """Every node below the end once, and none before its inputs: chains, diamonds, and random graphs."""
    for edges in (*GRAPHS, *(random_edges(rng, n) for n in (4, 6, 9, 14, 20))):
        spots = named(edges)
        end = spots[list(edges)[-1]]
        order = topological_order(end)
        assert isinstance(order, list), f"expected a list, got {type(order).__name__}"
        kinds = {type(spot).__name__ for spot in order if not isinstance(spot, Spot)}
        assert not kinds, f"expected a list of the nodes themselves, got {' and '.join(sorted(kinds))} in it"
        written = [spot.name for spot in order]
        graph = ", ".join(f"{name} from {' and '.join(inputs)}" if inputs else name for name, inputs in edges.items())
        assert len(set(written)) == len(written), f"a node stands twice in {written}; the graph: {graph}"
        assert_equal(set(written), set(below(end)), f"nodes are missing, or too many; the graph: {graph}")
        for spot in order:
            late = [other.name for other in spot.inputs if written.index(other.name) > written.index(spot.name)]
            assert not late, f"{spot.name} stands before its input {late[0]} in {written}; the graph: {graph}"


def test_topological_order__many_ways(topological_order):
    """Visits each node once, where thousands of ways lead from the end to the beginning"""
    spots = [Spot("0", torch.tensor(1.0))]
    for i in range(1, 8):
        spots.append(Spot(str(i), torch.tensor(1.0), [spots[-1], spots[-1]]))
    assert_equal(
        len(topological_order(spots[-1])), 8, "8 nodes, each made of two times the one before: how many listed"
    )


def test_topological_order__a_long_chain(topological_order):
    """Goes all the way down a chain of fifty nodes"""
    spots = [Spot("0", torch.tensor(1.0))]
    for i in range(1, 50):
        spots.append(Spot(str(i), torch.tensor(1.0), [spots[-1]]))
    written = [spot.name for spot in topological_order(spots[-1])]
    assert_equal(written, [str(i) for i in range(50)], "the order of a chain of 50 nodes, 0 to 49")


def test_answer_uses(answer_uses):
    """Gradients of all uses add up."""
    assert_choice(answer_uses, "a", "differentiate x * x + x by hand")


# How two inputs are combined in random graphs: what PyTorch does, and the rule.
COMBINE = {
    "+": (torch.add, lambda grad, a, b: (grad, grad)),
    "*": (torch.mul, lambda grad, a, b: (grad * b, grad * a)),
    "-": (torch.sub, lambda grad, a, b: (grad, -grad)),
}


def random_graph(rng, steps, shape=()):
    """The same random graph twice: of nodes, and of PyTorch's tensors; [-1] is the end."""
    values = [0.5 * rng.normal(*shape, dtype=torch.float64) for _ in range(2)]
    theirs = [value.clone().requires_grad_() for value in values]
    ours = [Spot(str(i), value) for i, value in enumerate(values)]
    told = []

    def add(kind, i, j):
        forward, rule = COMBINE[kind]
        a, b = ours[i], ours[j]
        theirs.append(forward(theirs[i], theirs[j]).tanh())
        slope = 1 - theirs[-1].detach() ** 2
        told.append(f"{len(ours)} = tanh({i} {kind} {j})")
        values = a.value, b.value
        bound = lambda grad, values=values: rule(grad * slope, *values)  # noqa: E731
        ours.append(Spot(str(len(ours)), theirs[-1].detach(), (a, b), bound))

    for _ in range(steps):
        add(rng.choice("+*-"), rng.integer(0, len(ours)), rng.integer(0, len(ours)))
    for theirs_ in theirs:
        theirs_.retain_grad()
    size = theirs[-1].sum()
    end = Spot("end", size.detach(), (ours[-1],), lambda grad: (grad * torch.ones(shape, dtype=torch.float64),))
    return end, ours, size, theirs, "; ".join(told)


def test_backward(backward, rng):
    """Random graphs, from one step to forty, have PyTorch's gradients at every node."""
    for steps in (1, 1, 2, 2, 3, 3, 4, 6, 8, 12, 20, 40):
        end, ours, size, theirs, told = random_graph(rng, steps, rng.choice([(), (2,)]))
        size.backward()
        with unchanged(*(spot.value for spot in ours)):
            backward(end)
        assert end.grad is not None, "loss.grad is not set"
        assert_close(end.grad, torch.tensor(1.0), "the gradient of loss with respect to itself")
        assert_tensor(end.grad)
        assert end.grad.dtype == end.value.dtype, (
            f"a gradient has the dtype of its value: loss.value is {end.value.dtype}, loss.grad {end.grad.dtype}, and "
            "so are the gradients of a sum; torch.ones_like(loss.value) is 1 in the right dtype"
        )
        used = below(end)
        for spot, their in zip(ours, theirs, strict=True):
            if spot.name in used:
                assert spot.grad is not None, f"node {spot.name} got no gradient; the graph: {told}"
                assert_close(
                    spot.grad, their.grad, f"grad of node {spot.name} differs from PyTorch's; the graph: {told}"
                )


def test_backward__again(backward, rng):
    """A second call replaces what the first one left"""
    for steps in (1, 4):
        end, ours, size, theirs, told = random_graph(rng, steps)
        size.backward()
        for _ in range(2):
            backward(end)
        for spot, their in zip(ours, theirs, strict=True):
            if spot.name in below(end):
                assert_close(spot.grad, their.grad, f"grad of node {spot.name} after two calls; the graph: {told}")


def test_backward__a_short_and_a_long_way(backward):
    """A node waits for all that used it, and two nodes never share one gradient tensor"""
    a = Spot("a", torch.tensor(2.0))
    b = Spot("b", torch.tensor(3.0))
    total = Spot("a + b", torch.tensor(5.0), (a, b), lambda grad: (grad, grad))
    double = Spot("2 (a + b)", torch.tensor(10.0), (total,), lambda grad: (2 * grad,))
    fourfold = Spot("4 (a + b)", torch.tensor(20.0), (double,), lambda grad: (2 * grad,))
    for inputs in ((fourfold, total), (total, fourfold)):
        end = Spot("end", torch.tensor(25.0), inputs, lambda grad: (grad, grad))
        more = Spot("end + a", torch.tensor(27.0), (end, a), lambda grad: (grad, grad))
        backward(more)
        for spot, right in ((a, 6.0), (b, 5.0), (total, 5.0), (double, 2.0), (end, 1.0), (more, 1.0)):
            assert_close(spot.grad, torch.tensor(right), f"grad of {spot.name} in ((a + b) + 4 (a + b)) + a")


# --- 8. Learning


def descent(x, y, steps, learning_rate):
    w, b, losses = torch.zeros(x.shape[1], 1, dtype=x.dtype), torch.zeros(1, dtype=x.dtype), []
    for _ in range(steps):
        error = x @ w + b - y
        losses.append(error.square().mean().item())
        w, b = w - learning_rate * 2 * x.T @ error / len(y), b - learning_rate * 2 * error.mean(0)
    return w, b, losses


def test_linear_regression(linear_regression, rng):
    """The same weights and the same losses as gradient descent by formula, step by step."""
    cases = [(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]]), 1, 0.1)]
    for n, d, steps, rate in [(1, 1, 1, 0.5), (5, 3, 4, 0.1), (4, 2, 0, 0.1), (6, 1, 12, 0.05)]:
        cases.append((rng.normal(n, d, dtype=torch.float64), rng.normal(n, 1, dtype=torch.float64), steps, rate))
    for x, y, steps, rate in cases:
        with unchanged(x, y), nothing_left_behind():
            result = linear_regression(x, y, steps, rate)
        assert isinstance(result, tuple) and len(result) == 3, "expected three results: w, b, losses"
        w, b, losses = result
        right_w, right_b, right_losses = descent(x, y, steps, rate)
        assert_plain(losses, list, of=float)
        assert_equal(len(losses), steps, "one loss for each step")
        for number, (mine, right) in enumerate(zip(losses, right_losses, strict=True)):
            assert_close(mine, torch.tensor(right), f"the loss before step {number + 1} of {steps}")
        for name, mine, right in (("w", w, right_w), ("b", b, right_b)):
            assert_tensor(mine, dtype=x.dtype)
            assert_close(mine, right, f"{name} after {steps} steps")


# --- 9. A head


def head(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def test_attention_backward(attention_backward, rng):
    """As PyTorch has it: one head, batches of heads, more keys than queries, sharp and flat patterns."""
    sizes = [((), 2, 2, 2, 2), ((), 1, 1, 1, 1), ((), 2, 3, 4, 5), ((3,), 5, 4, 2, 3), ((2, 4), 3, 2, 5, 1)]
    for dtype in (torch.float32, torch.float64):
        for batch, n_query, n_key, d, d_v in sizes:
            for scale in (1, 3):
                q, k = scale * rng.normal(*batch, n_query, d, dtype=dtype), rng.normal(*batch, n_key, d, dtype=dtype)
                v, grad = rng.normal(*batch, n_key, d_v, dtype=dtype), rng.normal(*batch, n_query, d_v, dtype=dtype)
                with unchanged(grad, q, k, v), nothing_left_behind():
                    actual = attention_backward(grad, q, k, v)
                assert_gradients(actual, by_pytorch(head, grad, q, k, v), ("q", "k", "v"))


def test_attention_backward__large_scores(attention_backward, rng):
    """Scores of a thousand and more, whose exp is infinite, but which differ by little"""
    q, k, v, grad = (rng.normal(3, 4, dtype=torch.float64) for _ in range(4))
    q[:, 0], k[:, 0] = 50.0, 50.0
    assert_gradients(attention_backward(grad, q, k, v), by_pytorch(head, grad, q, k, v), ("q", "k", "v"))
