"""What the shared helpers of checks let pass, and what they do not, with the words for it."""

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from concrete_steps.checking import testing
from concrete_steps.checking.testing import (
    Rng,
    assert_plain,
    assert_precise,
    blank_bridge,
    nothing_left_behind,
    others_hook,
    settled,
    unchanged,
)


@pytest.fixture
def rng():
    return Rng(0)


def refused(words):
    return pytest.raises(AssertionError, match=words)


# --- Inputs


def test_shapes_with_ones_hold_each_axis_at_one():
    assert testing.shapes_with_ones(2, 3) == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert testing.shapes_with_ones(1, 3) == [(1, 1), (1, 3)]


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (2, 1, 3, 4)])
def test_strided_is_the_same_and_cannot_be_viewed(rng, shape):
    x = rng.normal(*shape)
    y = testing.strided(x)
    assert torch.equal(x, y) and not y.is_contiguous()
    if len(shape) > 1:
        with pytest.raises(RuntimeError, match="view"):
            y.view(-1)


def test_awkward_numbers_hold_what_they_promise(rng):
    zeros, ties, positive, negative, large, far = testing.awkward(rng, 20, 20)
    assert (zeros == 0).any() and len(ties.unique()) == 3
    assert (positive > 0).all() and (negative < 0).all()
    assert large.std() > 50 and abs(far.mean() - 1000) < 1
    assert all(x.dtype == torch.float64 for x in testing.awkward(rng, 2, dtype=torch.float64))


# --- Values and types


def test_a_tensor_is_promised():
    for value, words in (
        (1.0, r"a tensor, got a float: leave \.item\(\)"),
        (3, r"an int: leave"),
        ([1.0], "a list: torch.stack"),
        (np.ones(2), "a numpy ndarray: keep to torch"),
        (None, "None: is a return missing"),
    ):
        with refused(words):
            testing.assert_tensor(value)
    assert testing.assert_tensor(torch.tensor(1.0)) == 1


def test_a_plain_value_is_promised():
    for value, kind, of in (
        (1, int, None),
        (1.0, float, None),
        (1, float, None),
        ("a", str, None),
        ([1, 2], list, int),
    ):
        assert assert_plain(value, kind, of) == value
    for value, kind, of, words in (
        (torch.tensor(1), int, None, r"an int, got a tensor: \.item\(\) or int\(\)"),
        (np.int64(1), int, None, r"an int, got a numpy int64: \.item\(\)"),
        (True, int, None, "an int, got a bool"),
        (torch.ones(2), list, None, r"a list, got a tensor: \.tolist\(\)"),
        ([torch.tensor(1)], list, int, "an int, got a tensor"),
        ((1, 2), list, None, "a list, got a tuple"),
        (None, str, None, "is a return missing"),
    ):
        with refused(words):
            assert_plain(value, kind, of)


def test_values_are_compared_as_closely_as_the_dtype_allows():
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert_precise(x / 3, x / 3, "a third")
    assert_precise((x / 3).float(), (x / 3).float(), "a third")
    assert_precise(torch.tensor([1]), torch.tensor([1]), "whole")
    with refused("a third .no further off than float32 rounds"):
        assert_precise((x.float() / 3).double(), x / 3, "a third")
    with refused("expected dtype float64, got float32: has something"):
        assert_precise(x.float() / 3, x / 3, "a third")
    with refused(r"^a third: at \[0\] expected 0.33333, got 0.5"):
        assert_precise(x / 2, x / 3, "a third")
    with refused("expected 0.333333333333, got 0.333333343333"):  # with as many digits as tell them apart
        assert_precise(x / 3 + 1e-8, x / 3, "a third")
    with refused("expected shape"):
        assert_precise(x[:1], x, "a third")
    with refused("3 of 3 entries differ.; only the sign is wrong"):
        assert_precise(-x / 3, x / 3, "a third")


def test_only_minus_infinity_is_minus_infinity():
    testing.assert_minus_infinity(torch.tensor([-math.inf]), "hidden")
    testing.assert_minus_infinity(torch.tensor([]), "hidden")
    for value in (-1e9, math.inf, math.nan, torch.finfo(torch.float32).min):
        with refused("hidden: expected -inf, got"):
            testing.assert_minus_infinity(torch.tensor([-math.inf, value]), "hidden")


# --- Gradients

RIGHT = (
    lambda x, y: (x * y).softmax(-1),
    lambda x, y: (x - y).relu().sum(),
    lambda x, y: (x @ y.mT).masked_fill(torch.ones(3, 3, dtype=torch.bool).triu(1), -torch.inf),
    lambda x, y: x.abs() + torch.ones_like(y),
    nn.CosineSimilarity(-1),
)


@pytest.mark.parametrize("function", RIGHT)
def test_derivatives_are_told_from_gradients_of_something_else(rng, function):
    inputs = rng.normal(3, 4, dtype=torch.float64), rng.normal(3, 4, dtype=torch.float64)
    testing.assert_gradient_values(function, *inputs, rng=rng)


@pytest.mark.parametrize(
    "function, words",
    [
        (lambda x, y: x * y.detach(), "no gradient reaches input 1"),
        (lambda x, y: x * y * x.detach(), "gradient of input 0 is not the derivative"),
        (lambda x, y: (x - y) / (x - y).std().detach(), "is not the derivative"),
        (lambda x, y: (x * y).detach(), "no gradient flows"),
        (lambda x, y: (x.float() * y.float()).sum(), "in jumps"),
        (lambda x, y: x * torch.where(y < 9, y, (y * 0).sqrt() / 0), "gradient of input 1 is nan"),
        (lambda x, y: (x * y).sum().item(), "leave .item"),
    ],
)
def test_detached_parts_are_seen(rng, function, words):
    inputs = rng.normal(3, 4, dtype=torch.float64), rng.normal(3, 4, dtype=torch.float64)
    with refused(words):
        testing.assert_gradient_values(function, *inputs, rng=rng)


def test_weights_are_moved_and_put_back(rng):
    layer, x = nn.Linear(3, 2).double(), rng.normal(4, 3, dtype=torch.float64)
    with unchanged(layer):
        testing.assert_gradient_values(layer, x, weights=layer.named_parameters(), rng=rng)
    half = lambda x: x @ layer.weight.mT * 0.5 + (x @ layer.weight.mT * 0.5).detach()  # noqa: E731
    with refused("gradient of input 0|gradient of weight"):
        testing.assert_gradient_values(half, x, weights=layer.named_parameters(), rng=rng)


# --- What is left as it was


@pytest.mark.parametrize(
    "value, change, words",
    [
        (torch.ones(2), lambda x: x.add_(1), "in place"),
        (torch.tensor([math.nan, 1.0]), lambda x: x.zero_(), "in place"),
        (torch.ones(2), lambda x: x.requires_grad_(), "requires_grad of its input to True"),
        ([1, 2], lambda x: x.clear(), "list"),
        ([torch.ones(2)], lambda x: x[0].zero_(), "in place"),
        ({"a": 1}, lambda x: x.pop("a"), "dict"),
        ({"a": [1]}, lambda x: x["a"].append(2), "list"),
        ({"a": 1}, lambda x: x.update(a=2), "dict"),
        (torch.Generator().manual_seed(0), lambda x: torch.rand(1, generator=x), "generator"),
    ],
)
def test_a_changed_argument_is_seen(value, change, words):
    with unchanged(value, torch.tensor([math.nan])):
        pass
    with refused(words), unchanged(value):
        change(value)


def test_lists_and_dicts_are_put_back():
    lent = {"a": ["b", ["c"]], "d": []}
    with refused("dict"), unchanged(lent):
        lent["a"][1].append("e")
        lent["a"].clear()
        lent["f"] = lent.pop("d")
    assert lent == {"a": ["b", ["c"]], "d": []} and list(lent) == ["a", "d"]
    with pytest.raises(KeyError), unchanged(lent):
        lent["a"].append("x")
        lent["x"]
    assert lent["a"] == ["b", ["c"]]


def model():
    from transformer_lens.hook_points import HookPoint

    model = nn.ModuleDict({"linear": nn.Linear(2, 2), "dropout": nn.Dropout(), "hook": HookPoint()})
    model["dropout"].register_forward_hook(lambda module, args, out: None)
    return model


def fill(module):
    module["linear"].weight.data.fill_(0.0)


def hook(module):
    module["hook"].add_hook(lambda activation, hook: activation)


@pytest.mark.parametrize(
    "change, words",
    [
        (fill, "the values of linear.weight"),
        (lambda m: m.requires_grad_(False), "requires_grad of linear.weight"),
        (lambda m: m.eval(), r"train\(\) or eval\(\)"),
        (lambda m: m["dropout"].eval(), r"train\(\) or eval\(\) of dropout"),
        (hook, "a hook of hook stays behind"),
        (lambda m: m["linear"].register_forward_hook(print), "a hook of linear stays behind"),
        (lambda m: m["dropout"]._forward_hooks.clear(), "a hook of dropout is gone"),
    ],
)
def test_a_changed_model_is_seen(change, words, monkeypatch):
    for most in (testing.state.COPIED, 0):  # copied, and by its sums
        monkeypatch.setattr(testing.state, "COPIED", most)
        module = model()
        with nothing_left_behind(module):
            module["linear"](torch.ones(1, 2))
        with refused(words), unchanged(module):
            change(module)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda: torch.set_grad_enabled(False), "is_grad_enabled"),
        (lambda: torch.set_default_dtype(torch.float64), "default dtype"),
        (lambda: torch.use_deterministic_algorithms(True), "deterministic"),
        (lambda: torch.rand(1), "torch's global random state"),
        (lambda: torch.manual_seed(torch.initial_seed() + 1), "torch's global random state"),
        (lambda: np.random.rand(), "numpy's global"),
        (lambda: random.random(), "Python's global"),
    ],
)
def test_what_is_left_behind_is_seen_and_put_back(change, words):
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    with refused(words), nothing_left_behind():
        change()
    assert (torch.is_grad_enabled(), torch.get_default_dtype()) == (grad, dtype)
    assert not torch.are_deterministic_algorithms_enabled()
    with nothing_left_behind(random_state=False):
        torch.rand(1)


def test_a_first_import_may_draw_and_a_call_after_it_may_not(tmp_path, monkeypatch):
    (tmp_path / "draws_at_import.py").write_text("import random\nrandom.random()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with nothing_left_behind():
        import draws_at_import  # as scikit-learn's does
    with refused("Python's global"), nothing_left_behind():
        draws_at_import.random.random()


# --- Draws


def rows(seed, step=1):
    return torch.stack([torch.randn(500, generator=torch.Generator().manual_seed(step * seed + r)) for r in range(3)])


def test_rows_that_share_their_random_numbers_are_seen():
    testing.assert_independent(lambda seed: torch.randn(3, 500, generator=torch.Generator().manual_seed(seed)))
    testing.assert_independent(lambda seed: rows(seed, step=1000))
    with refused("row 1 of seed 0 and row 0 of seed 1 are the same"):
        testing.assert_independent(rows)
    with refused("row 0 of seed 0 and row 1 of seed 0 are the same"):
        testing.assert_independent(lambda seed: rows(seed)[:1].expand(3, -1))
    with refused("the same seed gives other numbers"):
        testing.assert_independent(lambda seed: torch.randn(3, 500))
    with refused("head 0 of seed 0 and head 1 of seed 0 are not independent: their numbers have correlation"):
        testing.assert_independent(lambda seed: rows(seed, 9).cumsum(0), "head")


def test_a_generator_must_be_drawn_from():
    testing.assert_draws_from(lambda generator: torch.rand(1, generator=generator))
    with refused("the generator is as it was before"):
        testing.assert_draws_from(lambda generator: torch.Generator().manual_seed(generator.initial_seed()))


def test_uncorrelated_also_in_size(rng):
    x = rng.normal(2000)
    testing.assert_uncorrelated(x, rng.normal(2000), "apart")
    testing.assert_uncorrelated(x, torch.ones(2000), "apart")
    with refused("apart: their sizes have correlation"):
        testing.assert_uncorrelated(x, x.abs() * rng.normal(2000).sign(), "apart")


def test_too_few_found_and_too_many_others_are_told():
    testing.assert_mostly_found(9, ["induction"], ["idle"], "in 2 models, 9 of 10 were found")
    with refused("9 of 11 were found; missed were 2 induction"):
        testing.assert_mostly_found(9, ["induction"] * 2, [], "9 of 11 were found")
    with refused("but 2 others were named, too: 2 idle"):
        testing.assert_mostly_found(9, [], ["idle"] * 2, "9 of 9 were found")
    with refused("no property was named"):
        testing.assert_mostly_found(0, ["read"], [], "0 of 1 were found", "property")


def test_a_hook_of_others_must_stay():
    bridge = settled(blank_bridge(n_layers=1, n_heads=1, d_model=4, d_head=4, d_vocab=5, n_ctx=6, attn_only=True))
    tokens = torch.zeros(1, 3, dtype=torch.long)
    with others_hook(bridge):
        bridge.run_with_hooks(tokens, fwd_hooks=[("hook_embed", lambda value, hook: None)])
    with refused("takes away hooks of others"), others_hook(bridge):
        bridge.reset_hooks()
    point = bridge.hook_dict["hook_embed"]
    assert not point.fwd_hooks and not point._forward_hooks
