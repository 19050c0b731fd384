"""Checks of 3.1 Hooks. They run on small networks, on tiny random bridges, and on wired models."""

import functools

import pytest
import torch
from torch import nn
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import models, wired
from concrete_steps.checking.testing import (
    assert_choice,
    assert_close,
    assert_gradient_values,
    assert_mostly_found,
    assert_plain,
    assert_precise,
    assert_tensor,
    nothing_left_behind,
    others_hook,
    settled,
    strided,
    unchanged,
)

# Changes that make no wrong answer; scripts/mutate.py counts them apart:
# equivalent mutant of put, keep Tensor: an annotation
# equivalent mutant of put, keep float: an annotation
# equivalent mutant of run_with_cache, keep list[str]: an annotation
# equivalent mutant of run_with_cache, keep None: an annotation
# equivalent mutant of run_with_cache, Is -> Eq: nothing but None equals None
# equivalent mutant of run_until, 0 -> -1: one value is kept
# equivalent mutant of gradient_at, 0 -> -1 (2x): one value is kept, and one gradient comes back
# equivalent mutant of gradient_at, drop .clone(): a tensor of its own, unless the model writes into it
# equivalent mutant of gradient_at, drop .detach(): the gradient stops at the tensor that it is asked for
# equivalent mutant of pattern_from_qk, 2 -> -2 (4x): of four axes, 2 is -2, too
# equivalent mutant of pattern_from_qk, drop USub: of four axes, 2 is -2, too
# equivalent mutant of pattern_from_qk, 2 -> 3: a mask with the axis of heads, alike for all
# equivalent mutant of pattern_from_qk, [-2:] -> [:]: a mask with all four axes, alike for all rows and heads
# equivalent mutant of pattern_from_qk, drop device= of ones: only a GPU can tell
# equivalent mutant of pattern_from_qk, masked_fill -> masked_fill_: the scores are the function's own
# equivalent mutant of pattern_from_qk, q -> k (2x): both have one size of head, and one device
# equivalent mutant of activation_shapes, drop id(...): a point is as good a key as its id
# equivalent mutant of activation_shapes, drop tuple(...): a torch.Size is a tuple
# equivalent mutant of cache_only, drop names_filter= of run_with_cache: what is not asked for is dropped afterwards
# equivalent mutant of cache_only, drop return_type= of run_with_cache: the logits are thrown away
# equivalent mutant of cache_only, drop USub: of four axes, 2 is -2, too
# equivalent mutant of cache_only, 2 -> -2: of four axes, 2 is -2, too
# equivalent mutant of before_and_after, 1 -> -1: of two values
# equivalent mutant of before_and_after, drop .detach(): the run is without gradient
# equivalent mutant of find_hook, any: what names the hooks of enough unseen models is right

# --- The networks of sections 1 to 5


class Point(nn.Identity):
    """A point of another name."""


class Net(nn.Module):
    """A few layers with points at several depths."""

    def __init__(self, rng, width=4, dtype=torch.float32):
        super().__init__()
        self.enter = nn.Identity()
        self.body = nn.ModuleDict({"mix": nn.Linear(width, width), "mid": Point()})
        self.steps = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.Identity()) for _ in range(2))
        self.drop = nn.Dropout(0.0)
        self.out = nn.Identity()
        self.to(dtype)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.6 * rng.normal(*parameter.shape, dtype=dtype))

    def forward(self, x):
        x = self.enter(x)
        x = x + self.body["mid"](self.body["mix"](x).tanh())
        for step in self.steps:
            x = x + self.drop(step(x))
        return self.out(x)


def by_hand(net, x, hooks):
    """The same computation without any hook: functions are called where they belong."""

    def at(path, value):
        for name, function in hooks:
            if name == path:
                new = function(value, hook=path)
                value = value if new is None else new
        return value

    def linear(path, value):
        part = net.get_submodule(path)
        return at(path, value @ part.weight.T + part.bias)

    x = at("enter", x)
    x = x + at("body.mid", linear("body.mix", x).tanh())
    for i in range(2):
        inner = at(f"steps.{i}.1", linear(f"steps.{i}.0", x))
        x = x + at("drop", at(f"steps.{i}", inner))
    return at("out", x)


POINTS = ["enter", "body.mid", "steps.0.1", "steps.1.1", "out"]


# Functions without a memory, so that a call can be repeated.
def halve(value, hook):
    return 0.5 * value + 1


def square(value, hook):
    return value * value - 0.2


def name_length(value, hook):
    return value + 0.1 * len(hook)


def look(value, hook):
    return None


class Broken(Exception):
    """Of a function, or of a part."""


def fail(value, hook):
    raise Broken("this hook fails")


class Breaks(nn.Module):
    def __init__(self, kind=Broken):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        raise self.kind("this part fails")


class Writes(nn.Module):
    """Writes into its values after their points have returned them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Identity(), nn.Identity()

    def forward(self, x):
        x = self.first(x + 1)
        x += 1
        y = self.second(2 * x)
        y *= 3
        return x + y


def hooks_of(net):
    return {name: len(part._forward_hooks) + len(part._forward_pre_hooks) for name, part in net.named_modules()}


# --- 1. Points


def test_hook_points(hook_points, rng):
    """Every nn.Identity at any depth, by its path, in the order of named_modules; nothing else."""
    nets = [
        (nn.Sequential(nn.Linear(2, 2)), []),
        (nn.Sequential(nn.Identity(), nn.Linear(2, 2)), ["0"]),
        (Net(rng), ["enter", "body.mid", "steps.0.1", "steps.1.1", "out"]),
        (nn.ModuleDict({"b": Writes(), "a": nn.Sequential(nn.ReLU(), Net(rng))}), None),
    ]
    for net, names in nets:
        names = ["b.first", "b.second", *(f"a.1.{name}" for name in POINTS)] if names is None else names
        with nothing_left_behind(net):
            found = hook_points(net)
        assert_plain(found, dict)
        missing, extra = [n for n in names if n not in found], [n for n in found if n not in names]
        assert not missing, f"of a model with points at {names}, {missing[0]!r} is not found"
        assert not extra, f"{extra[0]!r} is no nn.Identity of the model; its points are {names}"
        assert list(found) == names, f"the points are in another order than named_modules has: {list(found)}"
        wrong = [name for name in names if found[name] is not net.get_submodule(name)]
        assert not wrong, f"what stands under {wrong[:1]} is not that part of the model"


# --- 2. Edit


def test_run_with_hooks(run_with_hooks, rng):
    """Each function gets what its part returned, and its path; what it returns takes the place, None leaves it."""
    told = []
    run_with_hooks(Net(rng), rng.normal(1, 4), [("body.mid", lambda value, hook: told.append(hook))])
    assert told, "the function at 'body.mid' is not called"
    assert told == ["body.mid"], f"the function at 'body.mid' is called with hook={told[0]!r:.60}: it is to be the path"
    cases = [
        [],
        [("enter", halve)],
        [("body.mix", square)],
        [("out", look), ("body.mid", halve), ("steps.0.1", look)],
        [("steps.0.1", halve), ("steps.1.1", square)],
        [("steps.1.0", name_length), ("body.mid", name_length), ("enter", name_length)],
        [("body.mid", square), ("enter", look), ("body.mid", halve)],
        [("out", halve), ("out", square), ("out", name_length)],
        [("steps.1", square), ("drop", halve)],
    ]
    for i, hooks in enumerate(cases):
        net, x = Net(rng), strided(rng.normal(*[(1, 4), (3, 4), (2, 3, 4)][i % 3]))
        expected = by_hand(net, x, hooks)
        given = list(hooks)
        with unchanged(x, given), nothing_left_behind(net):
            actual = assert_tensor(run_with_hooks(net, x, given), shape=x.shape)
        said = ", ".join(f"{function.__name__} at {path}" for path, function in hooks) or "no hook"
        assert_close(actual, expected, f"with {said}, this is not what the model gives")
    assert actual.requires_grad, "no gradient flows back through the run: leave the gradient on"


def test_run_with_hooks__gradient(run_with_hooks, rng):
    """Gradients flow back through what the functions get and return, to x and to the weights"""
    for hooks in ([], [("body.mid", square)], [("steps.0.1", look), ("out", square)]):
        net, x = Net(rng, dtype=torch.float64), rng.normal(2, 4, dtype=torch.float64).requires_grad_()
        leaves = {"x": x, **dict(net.named_parameters())}
        outputs = by_hand(net, x, hooks), assert_tensor(run_with_hooks(net, x, hooks), shape=x.shape)
        assert outputs[1].requires_grad, "no gradient flows back through the run: leave the gradient on"
        slopes = [torch.autograd.grad(y.sin().sum(), leaves.values(), allow_unused=True) for y in outputs]
        said = ", ".join(f"{function.__name__} at {path}" for path, function in hooks) or "no hook"
        for name, expected, actual in zip(leaves, *slopes, strict=True):
            assert actual is not None, f"with {said}, no gradient reaches {name}: run the model itself, and not a copy"
            what = (
                f"with {said}, the gradient of {name} is another: the function must get the value itself, not detached"
            )
            assert_precise(actual, expected, what, loosen=10)


def test_run_with_hooks__failing(run_with_hooks, rng):
    """When a function, the model or a path fails, the error reaches the caller and no hook stays"""
    broken = nn.Sequential(nn.Identity(), Breaks(), nn.Identity())
    cases = [
        (Net(rng), [("enter", halve), ("out", fail)], Broken, "a function fails"),
        (broken, [("0", halve), ("2", halve)], Broken, "the model fails"),
        (Net(rng), [("enter", halve), ("nowhere", halve)], (AttributeError, KeyError, ValueError), "a path is wrong"),
    ]
    for net, hooks, kind, when in cases:
        error = _error_of(run_with_hooks, net, rng.normal(2, 4), hooks)
        left = [name for name, number in hooks_of(net).items() if number]
        assert error is not None, f"when {when}, the error does not reach the caller: it is swallowed"
        assert isinstance(error, kind), f"when {when}, another error comes out: {type(error).__name__}: {error}"
        assert not left, f"when {when}, a hook stays behind at {left[0]!r}: remove it in a finally clause"


def _error_of(function, *args):
    try:
        function(*args)
    except NotImplementedError:  # the stub's: nothing was attempted
        raise
    except Exception as error:
        return error
    return None


def test_run_with_hooks__others(run_with_hooks, rng):
    """Hooks of others are called, and stay"""
    net, x = Net(rng), rng.normal(2, 4)
    seen = []
    handle = net.enter.register_forward_hook(lambda part, args, value: seen.append(value))
    result = run_with_hooks(net, x, [("enter", halve)])
    assert seen, "a hook that somebody else had put there is not called during the run"
    assert handle.id in net.enter._forward_hooks, (
        "removes the hooks of others as well: remove only yours, by their handles"
    )
    assert_close(result, by_hand(net, x, [("enter", halve)]), "with a hook of somebody else the result is another")


def test_put(put, rng):
    """A copy with the new value at the index, for every kind of index."""
    cases = [
        ((3,), 1),
        ((2, 3), (slice(None), -1)),
        ((3, 4), (1, 2)),
        ((2, 4, 3), (0, slice(1, 3))),
        ((2, 4, 3), (slice(None), slice(None), [0, 2])),
        ((2, 4, 3, 2), (slice(None), 1, 2)),
        ((2, 3), slice(None)),
        ((2, 4, 3), (..., 0)),
    ]
    for i, (shape, index) in enumerate(cases):
        dtype = (torch.float32, torch.float64)[i % 2]
        x = strided(rng.normal(*shape, dtype=dtype))
        new = (2.5, rng.normal(*x[index].shape, dtype=dtype))[i % 2] if i != 5 else rng.normal(2, dtype=dtype)
        expected = x.clone()
        expected[index] = new
        with unchanged(x, new), nothing_left_behind():
            actual = assert_tensor(put(x, None, index, new), shape=shape)
        assert_precise(actual, expected, f"with index {index!r} of shape {list(shape)} the copy is another")


def test_put__by_name(put, rng):
    """It can be called as a hook is: put(x, hook=..., index=..., new=...)"""
    x = rng.normal(2, 3)
    expected = x.clone()
    expected[:, 0] = 0
    assert_close(put(x, hook="somewhere", index=(slice(None), 0), new=0.0), expected, "column 0 is not 0 in the copy")


def test_put__gradient(put, rng):
    """Gradients flow to x where it stays, and to the new value"""
    index = (slice(None), 1)
    assert_gradient_values(
        lambda x, new: put(x, None, index, new),
        rng.normal(2, 3, dtype=torch.float64),
        rng.normal(2, dtype=torch.float64),
        rng=rng,
    )


# --- 3. Read


def test_run_with_cache(run_with_cache, rng):
    """The model's output, and a detached copy of what each named part returned."""
    cases = [
        ["enter"],
        ["steps.1.1", "body.mix"],
        ["body.mid", "out", "steps.0"],
        [],
        None,
    ]
    for i, names in enumerate(cases):
        net, x = Net(rng), rng.normal(*[(1, 4), (3, 4), (2, 3, 4)][i % 3])
        wanted = POINTS if names is None else names
        kept = {}
        expected = by_hand(net, x, [(name, _keep_in(kept)) for name in wanted])
        given = [net, x] if names is None else [net, x, list(names)]
        with unchanged(*given[1:]), nothing_left_behind(net):
            result = run_with_cache(*given)
        output, cache = _two(result)
        said = "all hook points" if names is None else str(names)
        assert_close(output, expected, f"asked for {said}, the first result is not the model's output")
        assert output.requires_grad, "the output has lost its gradient: only the copies in the cache are detached"
        assert_plain(cache, dict)
        missing, extra = [n for n in wanted if n not in cache], [n for n in cache if n not in wanted]
        assert not missing, f"asked for {said}, the cache lacks {missing[0]!r}"
        assert not extra, f"asked for {said}, the cache also has {extra[0]!r}"
        for name in wanted:
            value = assert_tensor(cache[name], shape=kept[name].shape)
            assert_close(value, kept[name], f"what the cache has for {name!r} is not what that part returned")
            assert not value.requires_grad, f"{name!r} in the cache keeps a gradient, and the whole run: detach it"


def _keep_in(kept):
    def keep(value, hook):
        kept[hook] = value.detach().clone()

    return keep


def _two(result):
    assert isinstance(result, tuple | list) and len(result) == 2, (
        f"two things are to be returned, the output and the cache, not {result!r:.60}"
    )
    return result


def test_run_with_cache__copies(run_with_cache, rng):
    """What is kept stays as it was, though the model writes into the same tensors later"""
    for x in (torch.tensor([[1.0]]), rng.normal(2, 3)):
        _, cache = _two(run_with_cache(Writes(), x, ["first", "second"]))
        assert set(cache) == {"first", "second"}, f"asked for 'first' and 'second', the cache has {list(cache)}"
        what = "the model wrote into it after the point: keep a copy"
        assert_close(cache["first"], x + 1, f"the cached value has changed, {what}")
        assert_close(cache["second"], 2 * (x + 2), f"the cached value has changed, {what}")


def test_run_with_cache__failing(run_with_cache, rng):
    """No hook stays where the model fails"""
    net = nn.Sequential(nn.Identity(), Breaks())
    error = _error_of(run_with_cache, net, rng.normal(2, 2), ["0"])
    assert isinstance(error, Broken), "an error of the model does not reach the caller"
    assert not any(hooks_of(net).values()), (
        "a hook stays behind when the model fails: use your run_with_hooks, once its own check passes"
    )


def test_answer_copy(answer_copy):
    """Writing into the tensor reaches whoever holds it."""
    assert_choice(answer_copy, "b", "which of the three writes into the tensor that the cache holds?")


# --- 4. Stop


def test_run_until(run_until, rng):
    """What the named part returns, and nothing after it runs."""
    for i, name in enumerate(["enter", "body.mix", "steps.0.1", "steps.1", "out"]):
        net, x = Net(rng), rng.normal(*[(1, 4), (3, 4)][i % 2])
        kept = {}
        by_hand(net, x, [(name, _keep_in(kept))])
        with unchanged(x), nothing_left_behind(net):
            actual = assert_tensor(run_until(net, x, name), shape=kept[name].shape)
        assert_close(actual, kept[name], f"this is not what {name!r} returns")


def test_run_until__stops(run_until, rng):
    """The parts after it do not run"""
    x = rng.normal(2, 4)
    net = nn.Sequential(nn.Linear(4, 4), nn.Identity(), Breaks())
    try:
        actual = run_until(net, x, "1")
    except Broken:
        actual = None
    assert actual is not None, "the model ran on after the part that you wanted: raise an error of your own there"
    assert_close(actual, x @ net[0].weight.T + net[0].bias, "this is not what part '1' returns")
    assert not any(hooks_of(net).values()), "a hook stays behind after the stop"


def test_run_until__errors(run_until, rng):
    """An error of the model before that part reaches the caller, whatever its kind"""
    for kind in (Broken, RuntimeError, ValueError):
        net = nn.Sequential(nn.Identity(), Breaks(kind), nn.Identity())
        error = _error_of(run_until, net, rng.normal(2, 2), "2")
        what = f"{kind.__name__} of the model"
        assert error is not None, f"swallows a {what}: catch only the one that your hook raises"
        assert type(error) is kind, (
            f"a {what} comes out as another: {type(error).__name__}: {error}; catch only the one that your hook raises"
        )
        assert not any(hooks_of(net).values()), "a hook stays behind when the model fails"


# --- 5. Back


def sum_of_squares(output):
    return (output * output).sum()


def weighted(output):
    return (output * torch.arange(output.numel(), dtype=output.dtype).reshape(output.shape).cos()).sum()


def only_last(output):
    return output[-1].exp().mean()


def test_gradient_at(gradient_at, rng):
    """The derivative of the measure by what the part returned, at several parts and for several measures."""
    cases = [
        ("out", sum_of_squares),
        ("steps.1.1", weighted),
        ("body.mix", sum_of_squares),
        ("enter", only_last),
        ("body.mid", weighted),
        ("steps.0", sum_of_squares),
    ]
    for i, (name, measure) in enumerate(cases):
        dtype = (torch.float32, torch.float64)[i % 2]
        net, x = Net(rng, dtype=dtype), rng.normal(*[(1, 4), (3, 4), (2, 3, 4)][i % 3], dtype=dtype)
        expected = slope_at(net, x, name, measure)
        with unchanged(x), nothing_left_behind(net):
            actual = assert_tensor(gradient_at(net, x, name, measure), shape=expected.shape)
        assert_precise(actual, expected, f"this is not how the measure changes with what {name!r} returns", loosen=10)
        assert not actual.requires_grad, "the gradient needs a gradient itself: create_graph is not needed"


def slope_at(net, x, name, measure):
    """The derivative, through the computation by hand."""
    kept = {}

    def leaf(value, hook):
        kept[hook] = value.detach().clone().requires_grad_()
        return kept[hook]

    with torch.enable_grad():
        return torch.autograd.grad(measure(by_hand(net, x, [(name, leaf)])), kept[name])[0]


def test_gradient_at__modes(gradient_at, rng):
    """Under torch.no_grad(), of frozen weights, and without a trace in any weight's .grad"""
    net, x = Net(rng), rng.normal(2, 4)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    expected = slope_at(net, x, "body.mid", sum_of_squares)
    assert_close(gradient_at(net, x, "body.mid", sum_of_squares), expected, "the gradient at 'body.mid' is another")
    grown = [
        name for name, p in net.named_parameters() if p.grad is None or not torch.equal(p.grad, torch.ones_like(p))
    ]
    assert not grown, f"changes the .grad of weights ({grown[0]}): torch.autograd.grad does not, .backward() does"
    net.requires_grad_(False)
    with torch.no_grad():
        error = _error_of(gradient_at, net, x, "body.mid", sum_of_squares)
        assert error is None, (
            f"fails under torch.no_grad(), with weights that ask for no gradient: {error}; torch.enable_grad() helps"
        )
        with nothing_left_behind():
            actual = gradient_at(net, x, "body.mid", sum_of_squares)
    assert_close(actual, expected, "under torch.no_grad() the gradient is another")
    asks = [name for name, p in net.named_parameters() if p.requires_grad]
    assert not asks, f"sets requires_grad of weights ({asks[:1]}): only the value at the point needs a gradient"


# --- 6. TransformerLens

SIZES = {
    "attention only": {"n_heads": 3, "n_layers": 3, "attn_only": True, "normalization_type": None},
    "shared keys": {
        "n_heads": 6,
        "n_key_value_heads": 2,
        "n_layers": 3,
        "normalization_type": "RMS",
        "positional_embedding_type": "rotary",
        "gated_mlp": True,
        "act_fn": "silu",
        "d_mlp": 10,
    },
    "one layer": {"n_heads": 1, "n_layers": 1, "attn_only": True, "normalization_type": None},
}


def new(kind, rng, d_vocab=11, scale=0.7):
    """A tiny bridge of random weights, large enough that each head shows in the logits."""
    config = TransformerBridgeConfig(
        **{"d_model": 12, "d_head": 4, "n_ctx": 16, "d_vocab": d_vocab, "seed": 0} | SIZES[kind]
    )
    state = torch.get_rng_state()
    model = TransformerBridge.boot_native(config, tokenizer=None).eval()
    torch.set_rng_state(state)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((scale if parameter.ndim > 1 else 0.2) * rng.normal(*parameter.shape))
            if parameter.ndim == 1 and kind == "shared keys":
                parameter += 1  # norms
    return settled(model)


@functools.cache
def story_lm():
    return settled(models.load("story_lm"))


def test_answer_scores(answer_scores):
    """The point is filled in afterwards, so an edit there is lost."""
    assert_choice(answer_scores, "c", "when is this point called, before the pattern was used or after?")


def test_pattern_from_qk(pattern_from_qk, rng):
    """Softmax of the scaled products over the keys up to the query; neighbouring query heads share keys."""
    for batch, pos, heads, key_heads, d_head, dtype in [
        (1, 1, 1, 1, 1, torch.float32),
        (1, 3, 1, 1, 4, torch.float64),
        (2, 4, 3, 3, 2, torch.float32),
        (2, 5, 6, 2, 4, torch.float64),
        (1, 6, 4, 1, 3, torch.float32),
        (3, 2, 9, 3, 8, torch.float32),
    ]:
        q = strided(2 * rng.normal(batch, pos, heads, d_head, dtype=dtype))
        k = strided(2 * rng.normal(batch, pos, key_heads, d_head, dtype=dtype))
        expected = slow_pattern(q, k)
        with unchanged(q, k), nothing_left_behind():
            actual = assert_tensor(pattern_from_qk(q, k), shape=(batch, heads, pos, pos))
        assert_precise(actual, expected, f"{heads} query heads, {key_heads} of keys: the pattern is another", loosen=3)


def slow_pattern(q, k):
    batch, pos, heads, d_head = q.shape
    pattern = torch.zeros(batch, heads, pos, pos, dtype=q.dtype)
    for b in range(batch):
        for head in range(heads):
            shared = head * k.shape[2] // heads
            for query in range(pos):
                scores = [float(q[b, query, head] @ k[b, key, shared]) / d_head**0.5 for key in range(query + 1)]
                exps = [torch.tensor(score - max(scores), dtype=torch.float64).exp() for score in scores]
                for key, value in enumerate(exps):
                    pattern[b, head, query, key] = value / sum(exps)
    return pattern


def test_pattern_from_qk__large(pattern_from_qk, rng):
    """Large scores, and no weight at all on later keys"""
    q, k = 30 * rng.normal(1, 5, 2, 4), 30 * rng.normal(1, 5, 2, 4)
    pattern = assert_tensor(pattern_from_qk(q, k), shape=(1, 2, 5, 5))
    assert not pattern.isnan().any(), "large scores make nan: exponentials overflow unless softmax does them"
    assert (pattern.triu(1) == 0).all(), "some weight lies on keys after the query"
    assert_close(pattern, slow_pattern(q, k), "with large scores the pattern is another", atol=1e-4)


def test_pattern_from_qk__gradient(pattern_from_qk, rng):
    """Gradients flow to queries and keys"""
    assert_gradient_values(
        pattern_from_qk,
        rng.normal(1, 3, 4, 2, dtype=torch.float64),
        rng.normal(1, 3, 2, 2, dtype=torch.float64),
        rng=rng,
    )


def test_token_accuracy(token_accuracy, rng):
    """The share of tokens, from the second on, that had the highest logit at the position before."""
    for kind, rows, pos in [("attention only", 1, 2), ("one layer", 4, 9), ("shared keys", 5, 7), ("one layer", 3, 5)]:
        model = new(kind, rng, d_vocab=4)
        tokens = rng.integers(0, 4, rows, pos)
        with torch.no_grad():
            guesses = model(tokens).argmax(-1).tolist()
        # half of the tokens are what the model would guess; later ones then see other tokens, so all is counted anew
        for row in range(rows):
            for i in range(1, pos, 2):
                tokens[row, i] = guesses[row][i - 1]
        with torch.no_grad():
            guesses = model(tokens).argmax(-1).tolist()
        right = [guesses[row][i - 1] == int(tokens[row, i]) for row in range(rows) for i in range(1, pos)]
        with unchanged(tokens), nothing_left_behind(model):
            actual = assert_plain(token_accuracy(model, tokens), float)
        assert abs(actual - sum(right) / len(right)) < 1e-5, (
            f"of {len(right)} tokens ({rows} rows of {pos}, without the first of each row) {sum(right)} were the first "
            f"guess, a share of {sum(right) / len(right):.4f}; got {actual:.4f}"
        )


# --- 7. The map of points


def test_activation_shapes(activation_shapes, rng):
    """One entry for each hook point that a run reaches, under the last of its names."""
    cases = [("one layer", 1, 3), ("attention only", 2, 5), ("shared keys", 3, 4), ("story_lm", 2, 6)]
    for kind, rows, pos in cases:
        model = story_lm() if kind == "story_lm" else new(kind, rng)
        tokens = rng.integers(0, 11, rows, pos)
        expected = shapes_by_point(model, tokens)
        with unchanged(tokens), nothing_left_behind(model):
            actual = assert_plain(activation_shapes(model, tokens), dict)
        doubled = {name for name in actual if name in model.hook_dict and name not in expected}
        double = min(doubled, default="")
        assert not double, f"{double!r} should not be there: it is another name of a point, or a point not reached"
        unknown = [name for name in actual if name not in expected]
        assert not unknown, f"{unknown[0]!r} is no name of a hook point in model.hook_dict"
        missing = [name for name in expected if name not in actual]
        assert not missing, f"{missing[0]!r} is missing: the last name of a point that run_with_cache reaches"
        for name, shape in expected.items():
            assert_plain(actual[name], tuple, of=int)
            assert tuple(actual[name]) == shape, f"{name} has shape {shape} in a cache, got {tuple(actual[name])}"


def shapes_by_point(model, tokens):
    """What a run with a cache reaches, and its shapes there."""
    last = {id(point): name for name, point in model.hook_dict.items()}
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    reached = {id(model.hook_dict[name]): tuple(cache[name].shape) for name in cache}
    return {last[point]: shape for point, shape in reached.items()}


# --- 8. Read little


def test_cache_only(cache_only, rng):
    """The parts of the layers at one position, each by (part, layer), with nothing around it."""
    cases = [
        ("one layer", 1, 3, ["z"], [0], 1),
        ("attention only", 2, 5, ["resid_post", "q"], [1], -1),
        ("shared keys", 3, 4, ["k", "mlp_out", "pattern"], [1, 0], 2),
        ("attention only", 2, 4, ["pattern", "resid_pre"], [0, 2], -2),
        ("story_lm", 2, 6, ["z", "pattern", "resid_mid"], [1], 0),
    ]
    for kind, rows, pos, parts, layers, position in cases:
        model = story_lm() if kind == "story_lm" else new(kind, rng)
        tokens = rng.integers(0, 11, rows, pos)
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens)
        given = (list(parts), list(layers))
        with unchanged(tokens, *given), nothing_left_behind(model):
            actual = assert_plain(cache_only(model, tokens, *given, position), dict)
        keys = [(part, layer) for part in parts for layer in layers]
        missing, extra = [key for key in keys if key not in actual], [key for key in actual if key not in keys]
        assert not missing, f"{missing[0]} is missing among {list(actual)}"
        assert not extra, f"{extra[0]} was not asked for: keys are the pairs (part, layer)"
        for part, layer in keys:
            whole = cache[part, layer]
            expected = whole[:, :, position] if part == "pattern" else whole[:, position]
            if part == "pattern" and expected.shape != (rows, pos, pos):
                assert getattr(actual[part, layer], "shape", None) != (rows, pos, pos), (
                    "takes the pattern's head axis for the position: its axes are [row head query key]"
                )
            value = assert_tensor(actual[part, layer], shape=expected.shape)
            assert_close(value, expected, f"{part} of layer {layer} at position {position} is another")
            assert not value.requires_grad, f"({part!r}, {layer}) keeps a gradient, and with it the whole run"


def test_cache_only__stops(cache_only, rng):
    """Layers after the last one needed do not run"""
    model, tokens = new("attention only", rng), rng.integers(0, 11, 2, 4)

    def ran(part, args):
        raise Broken("ran on")

    handle = model.blocks[2].attn.register_forward_pre_hook(ran)
    try:
        actual = cache_only(model, tokens, ["z"], [1, 0], 1)
    except Broken:
        actual = None
    finally:
        handle.remove()
        model.reset_hooks()
    assert actual is not None, "asked for layers 0 and 1, layer 2 runs, too: stop_at_layer is the first that does not"
    assert set(actual) == {("z", 0), ("z", 1)}, f"asked for z of layers 1 and 0, the keys are {list(actual)}"


def test_cache_only__memory(cache_only, rng):
    """What is returned holds its own memory and no more, of one row as of several"""
    model = new("shared keys", rng)
    for rows in (3, 1):  # of one row the slice is contiguous: .contiguous() copies nothing there
        found = cache_only(model, rng.integers(0, 11, rows, 9), ["resid_post", "pattern"], [0, 1], 4)
        for key, value in found.items():
            held, needed = value.untyped_storage().nbytes(), value.numel() * value.element_size()
            assert held == needed, (
                f"{key} is a view: it keeps the activation at all positions in memory, {held} bytes for {needed}; "
                "copy the one position"
            )


# --- 9. Traps


def test_answer_order(answer_order):
    """Hooks run in the order in which they were added."""
    assert_choice(answer_order, "a", "which of the two hooks was added first, and what does the second one get?")


def zero_head(value, hook):
    value = value.clone()
    value[:, :, 0] = 0
    return value


def write_into(value, hook):
    value[:, 1] = 3


def test_before_and_after(before_and_after, rng):
    """What the model made and what the hooks there leave; edits by return and by writing, one and several."""
    cases = [
        ("attention only", "blocks.0.attn.hook_z", []),
        ("attention only", "blocks.0.attn.hook_z", [zero_head]),
        ("shared keys", "blocks.1.attn.hook_q", [halve, zero_head]),
        ("one layer", "blocks.0.hook_resid_pre", [write_into]),
        ("shared keys", "blocks.2.attn.hook_pattern", [halve, write_into]),
        ("attention only", "blocks.1.attn.o.hook_in", [square]),
    ]
    for kind, name, edits in cases:
        model, tokens = new(kind, rng), rng.integers(0, 11, 2, 4)
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens)
        made = cache[name].clone()
        left = made
        for edit in edits:
            copy = left.clone()
            result = edit(copy, None)
            left = copy if result is None else result
            model.add_hook(name, edit)
        with unchanged(tokens), nothing_left_behind():
            result = before_and_after(model, tokens, name)
        before, after = _two_values(result)
        said = f"{', '.join(edit.__name__ for edit in edits) or 'no hook'} at {name}"
        assert_close(before, made, f"with {said}, the first is not what the model made")
        assert_close(after, left, f"with {said}, the second is not what the hooks leave")
        assert not (before.requires_grad or after.requires_grad), "they keep a gradient, and with it the whole run"
        kinds = {before.dtype, after.dtype}
        assert kinds == {made.dtype}, f"copies have the dtype of the activation, {made.dtype}; these have {kinds}"


def _two_values(result):
    assert isinstance(result, tuple | list) and len(result) == 2, (
        f"two tensors are to be returned, before and after, not {result!r:.60}"
    )
    return [assert_tensor(value) for value in result]


def test_before_and_after__leaves(before_and_after, rng):
    """The model's hooks are what they were, permanent ones too, also where the run fails"""
    name, tokens = "blocks.1.attn.hook_z", rng.integers(0, 11, 2, 4)
    for last, fails in ((zero_head, False), (fail, True)):
        model = new("attention only", rng)
        model.add_hook(name, halve, is_permanent=True)
        model.add_hook("blocks.0.attn.hook_q", zero_head)
        model.add_hook(name, last)
        before = _handles(model)
        error = _error_of(before_and_after, model, tokens, name)
        now = _handles(model)
        when = "the run fails" if fails else "other hooks are there"
        assert (error is not None) == fails, f"when {when}: {error or 'the error does not reach the caller'}"
        gone, more = before - now, now - before
        assert not gone, f"takes away hooks of others: reset_hooks() and remove_hooks() remove all ({len(gone)} gone)"
        assert not more, f"when {when}, a hook of yours stays behind: remove it in a finally clause"


def _handles(model):
    points = {id(point): point for point in model.hook_dict.values()}
    lists = {(id(handle.hook), handle.hook.id) for point in points.values() for handle in point.fwd_hooks}
    own = {(key, number) for key, point in points.items() for number in point._forward_hooks}
    pre = {(key, number) for key, point in points.items() for number in point._forward_pre_hooks}
    return lists | own | pre


# --- 10. Compatibility mode


def test_answer_folded(answer_folded):
    """A shift that all words share changes no probability."""
    assert_choice(answer_folded, "b", "what have the logits of all other words done at that position?")


# --- 11. Open task

HEADS = ("q", "k", "v", "z")
# The hooks of unseen models. Each part is there twice or more, so that to leave one out shows; so are the last layer
# and the first position. A "late" one is seen two positions or more after its own: a key or a value that nobody looks
# at before.
LEFT = [
    ("attention only", "resid_pre last layer"),
    ("story_lm", "resid_pre"),
    ("shared keys", "attn_out first position"),
    ("wired", "attn_out"),
    ("shared keys", "mlp_out last layer"),
    ("story_lm", "mlp_out first position"),
    ("attention only", "q"),
    ("wired", "q"),
    ("shared keys", "k"),
    ("wired", "k late"),
    ("wired", "k late"),
    ("shared keys", "v last layer"),
    ("wired", "v late"),
    ("wired", "v late"),
    ("attention only", "z"),
    ("wired", "z"),
]
OWN, ONE_ROW, HALVED, DOUBLED, TWO = (
    "named though the logits were the model's own",
    "named though one row alone was edited",
    "named though an activation was halved, not set to 0",
    "named though an activation was doubled, not set to 0",
    "named though two positions were set to 0",
)
FACTORS = {HALVED: 0.5, DOUBLED: 2.0}
OTHERS = [
    ("story_lm", OWN),
    ("shared keys", OWN),
    ("attention only", ONE_ROW),
    ("shared keys", ONE_ROW),
    ("attention only", HALVED),
    ("attention only", HALVED),
    ("shared keys", HALVED),
    ("attention only", DOUBLED),
    ("attention only", DOUBLED),
    ("shared keys", TWO),
    ("attention only", TWO),
]
# Where no norm comes after, half an edit moves logits half as far, and a doubling just as far, the other way.
STRAIGHT = ["attn_out last layer", "v last layer", "z last layer"]


def unseen(kind, rows, rng, drawn):
    """One of two models of this kind, which `drawn` keeps, and tokens that it reads."""
    if kind == "story_lm":
        return story_lm(), rng.integers(4, 333, 1, 8)
    known = drawn.setdefault(kind, [])
    if len(known) < 2 and kind == "wired":
        model, truth = wired.build(seed=rng.integer(0, 10_000), n_layers=2, n_heads=6, noise=0.03)
        known.append((settled(model), truth))
    elif len(known) < 2:  # without norms, streams grow from layer to layer: rounding would show
        known.append((new(kind, rng, scale=0.35 if kind == "attention only" else 0.7), None))
    model, truth = rng.choice(known)
    if truth:
        return model, wired.random_text(truth, rows, 10, seed=rng.integer(0, 10_000))
    return model, rng.integers(0, 11, rows, 7)


def point_name(part, layer):
    return f"blocks.{layer}.attn.hook_{part}" if part in HEADS else f"blocks.{layer}.hook_{part}"


@torch.no_grad()
def edited(model, tokens, name, places, factor=0.0):
    """The logits [place row pos d_vocab] with each of these (position, head) at 0, or multiplied by a factor."""
    rows = len(tokens)
    reached = []

    def edit(x, hook):
        x = x.clone()
        for i, (position, head) in enumerate(places):
            block = x[i * rows : (i + 1) * rows, position]
            reached.append((block if head is None else block[:, head]).mul_(factor))
        return x

    logits = model.run_with_hooks(tokens.repeat(len(places), 1), fwd_hooks=[(name, edit)])
    assert reached, "is never reached"
    return logits.reshape(len(places), rows, *logits.shape[1:])


def logits_with_edit(model, tokens, own, part, rng, factor=0.0, two=False):
    """The logits with an edit that shows at a place of this part; None where the drawn layer has none.

    With `two` a later position is edited, too, and shows from there on.
    """
    part, *where = part.split()
    shared = model.cfg.n_key_value_heads if part in ("k", "v") else None
    # of keys that query heads share not the first: the second is no query head's number
    heads = range(1 if shared else 0, shared or model.cfg.n_heads) if part in HEADS else [None]
    name = point_name(part, model.cfg.n_layers - 1 if "last" in where else rng.integer(0, model.cfg.n_layers))
    places = [(position, head) for position in range(1 if "first" in where else tokens.shape[1]) for head in heads]
    logits = edited(model, tokens, name, places, factor)
    gaps = (logits - own).abs().amax((1, 3))  # [place pos]
    firsts = (gaps > 1e-3).float().argmax(1).tolist()
    shows = (gaps.amax(1) > 0.05).tolist()
    apart = 2 if "late" in where else 0
    fit = [
        place for place, first, shown in zip(places, firsts, shows, strict=True) if shown and first >= place[0] + apart
    ]
    if not fit:
        return None
    place = rng.choice(fit)
    if not two:
        return edited(model, tokens, name, [place], factor)[0]  # alone, as the colleague ran it
    later = [other for other in fit if other[0] > place[0] and other[1] == place[1]]
    return both_edited(model, tokens, name, place, rng.choice(later)) if later else None


@torch.no_grad()
def both_edited(model, tokens, name, *places):
    def edit(x, hook):
        x = x.clone()
        for position, head in places:
            (x[:, position] if head is None else x[:, position, head]).zero_()
        return x

    return model.run_with_hooks(tokens, fwd_hooks=[(name, edit)])


def left_behind(kind, part, rows, rng, drawn):
    """A model of this kind, tokens, and the logits with a hook left at this part, or with something else done."""
    while True:
        model, tokens = unseen(kind, rows, rng, drawn)
        with torch.no_grad():
            own = model(tokens)
        if part == OWN:
            return model, tokens, own
        where = part
        if (kind, part) in OTHERS:
            straight = part in FACTORS and kind == "attention only"
            where = rng.choice(STRAIGHT if straight else ["resid_pre", "attn_out", "v", "z"])
        some = 1 if part == ONE_ROW else len(tokens)
        logits = logits_with_edit(model, tokens[:some], own[:some], where, rng, FACTORS.get(part, 0.0), two=part == TWO)
        if logits is not None:
            return model, tokens, torch.cat([logits, own[some:]])


def explains(model, tokens, place, logits):
    """True if an edit at the place gives these logits."""
    try:
        name, position, head = place
        found = edited(model, tokens, str(name), [(int(position), None if head is None else int(head))])[0]
    except Exception as error:
        raise AssertionError(
            f"{place!r} is no place of the model: (name of a point, position, head or None), as {error!r:.80} says"
        ) from error
    return bool((found - logits).abs().max() < 5e-3)


@pytest.mark.seconds(120)
def test_find_hook(find_hook, rng):
    """At least 90 % of the hooks in unseen models, and at most 10 % wrong of what is named, other edits included."""
    found, missed, wrong, drawn = 0, [], [], {}
    for i, (kind, part) in enumerate(LEFT + OTHERS):
        is_hook = i < len(LEFT)
        model, tokens, logits = left_behind(kind, part, 1 + i % 2 if is_hook else 2, rng, drawn)
        with unchanged(tokens, logits), nothing_left_behind(model):
            named = find_hook(model, tokens, logits.clone())
        if is_hook and named is not None and explains(model, tokens, named, logits):
            found += 1
        elif is_hook:
            missed.append(part.split()[0])
            wrong += [f"named in place of {missed[-1]}"] if named is not None else []
        elif named is not None:
            wrong.append(part)
    said = f"of {len(LEFT)} hooks in models of four kinds, {found} were found"
    assert_mostly_found(found, missed, wrong, said, kind="hook")


def test_find_hook__others(find_hook, rng):
    """Hooks of others stay"""
    model, tokens = new("one layer", rng), rng.integers(0, 11, 1, 3)
    with others_hook(model):
        find_hook(model, tokens, edited(model, tokens, point_name("resid_pre", 0), [(1, None)])[0])
