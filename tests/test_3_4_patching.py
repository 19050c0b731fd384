"""Checks of 3.4 Patching. They run on tiny random models, with shared keys and without, and on wired ones."""

import contextlib
import functools
from collections import Counter
from functools import partial

import pytest
import torch
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import wired
from concrete_steps.checking.testing import (
    assert_choice,
    assert_close,
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
# equivalent mutant of logit_diff, 0 -> -1: the axis has one entry
# equivalent mutant of logit_diff, drop USub (2x): of two axes, 1 is the last
# equivalent mutant of logit_diff, 1 -> -1 (2x): --1 is 1, of two axes the last
# equivalent mutant of patch_residual, drop line resid = resid.clone(): its run is thrown away
# equivalent mutant of patch_residual, drop .clone(): the same
# equivalent mutant of patch_heads, keep list[int]: an annotation
# equivalent mutant of patch_heads, keep None: an annotation
# equivalent mutant of patch_heads, Is -> Eq: nothing but None equals None
# equivalent mutant of patch_heads, drop line z = z.clone(): its run is thrown away
# equivalent mutant of patch_heads, drop .clone(): the same
# equivalent mutant of patch_head_part, drop line x = x.clone(): its run is thrown away
# equivalent mutant of patch_head_part, drop .clone(): the same
# equivalent mutant of patch_pattern, drop line pattern = pattern.clone(): its run is thrown away
# equivalent mutant of patch_pattern, drop .clone(): the same
# equivalent mutant of batched_head_patching, drop line z = z.clone(): its run is thrown away
# equivalent mutant of batched_head_patching, drop .clone(): the same
# equivalent mutant of attribution_patching, swap arguments 0 and 1 of transpose: the same
# equivalent mutant of attribution_patching, swap arguments 0 and 1 of zip: a product is symmetric
# equivalent mutant of attribution_patching, drop strict= of zip: both have one entry for each layer
# equivalent mutant of attribution_patching, True -> False: both have one entry for each layer
# equivalent mutant of compare_with_exact, 1 -> -1 (2x): of two axes, or entries, 1 is the last
# equivalent mutant of compare_with_exact, exact -> estimate: both have the same shape
# equivalent mutant of path_patch, drop line own[name] = own[name].clone(): the kept run is the function's own
# equivalent mutant of path_patch, drop .clone() (2x): what is written into is the run's own, and nothing reads it again
# equivalent mutant of path_patch, 1 -> -1: of two entries, 1 is the last
# equivalent mutant of find_heads, Lt -> LtE: no gap is just that
# equivalent mutant of find_heads, Gt -> GtE: no share is just that
# equivalent mutant of find_heads, drop .tolist(): one-element tensors are read as numbers
# equivalent mutant of find_heads, drop metric(...): by this, too, it is seen that a behaviour is there
# equivalent mutant of find_heads, keep high.mean(): the same
# equivalent mutant of find_heads, mean -> sum: the same

# --- 1. The measure


def test_logit_diff(logit_diff, rng):
    """For each pair its own right less its own wrong token's logit, at the last position only."""
    for pairs, pos, n, dtype in [
        (3, 4, 7, torch.float32),
        (1, 1, 5, torch.float32),
        (1, 3, 2, torch.float32),
        (4, 2, 9, torch.float64),
    ]:
        logits = strided(100 + 3 * rng.normal(pairs, pos, n, dtype=dtype))
        right = rng.integers(0, n, pairs)
        wrong = (right + rng.integers(1, n, pairs)) % n
        expected = torch.stack([logits[i, -1, right[i]] - logits[i, -1, wrong[i]] for i in range(pairs)])
        with unchanged(logits, right, wrong), nothing_left_behind():
            actual = assert_tensor(logit_diff(logits, right, wrong), shape=(pairs,))
        meaning = "entry i is not the right token's logit less the wrong token's, at pair i's last position"
        assert_precise(actual, expected, meaning, loosen=3)


def test_logit_diff__gradient(logit_diff, rng):
    """The gradient is +1 at the right token, -1 at the wrong one, 0 elsewhere"""
    logits = rng.normal(2, 3, 5).requires_grad_()
    right, wrong = torch.tensor([1, 4]), torch.tensor([0, 2])
    value = assert_tensor(logit_diff(logits, right, wrong), shape=(2,))
    assert value.requires_grad, "no gradient flows through your function, and attribution patching needs it"
    value.sum().backward()
    expected = torch.zeros(2, 3, 5)
    for i in range(2):
        expected[i, -1, right[i]], expected[i, -1, wrong[i]] = 1, -1
    assert_close(logits.grad, expected, "the gradient is not +1 at the right token and -1 at the wrong one")


def test_recovered(recovered, rng):
    """0 where the patched run is as the corrupted one, 1 where as the clean one; the ratio of the means over pairs."""
    for shape, dtype in [
        ((3, 4), torch.float32),
        ((2,), torch.float32),
        ((2, 3, 5), torch.float64),
        ((1,), torch.float64),
    ]:
        clean, corrupted = (3 + rng.normal(shape[-1], dtype=dtype), -2 + rng.normal(shape[-1], dtype=dtype))
        patched = 1 + 6 * rng.normal(*shape, dtype=dtype)
        patched = strided(patched) if len(shape) > 1 else patched
        gap = sum(clean.tolist()) - sum(corrupted.tolist())
        expected = torch.tensor(
            [(sum(row) - sum(corrupted.tolist())) / gap for row in patched.reshape(-1, shape[-1]).tolist()], dtype=dtype
        ).reshape(shape[:-1])
        with unchanged(patched, clean, corrupted), nothing_left_behind():
            actual = assert_tensor(recovered(patched, clean, corrupted), shape=shape[:-1])
        meaning = "it is not (mean patched - mean corrupted) / (mean clean - mean corrupted), the means over pairs"
        assert_precise(actual, expected, meaning, loosen=3)


def test_recovered__ends(recovered, rng):
    """The corrupted run itself scores 0, the clean run 1, with the two prompts exchanged as well"""
    high, low = 4 + rng.normal(5), rng.normal(5) - 1
    for clean, corrupted in ((high, low), (low, high)):
        ends = assert_tensor(recovered(torch.stack([corrupted, clean]), clean, corrupted), shape=(2,))
        assert_close(ends, torch.tensor([0.0, 1.0]), "the corrupted and the clean run do not score 0 and 1")


# --- The models of the checks


SIZES = {
    # query heads, heads of keys and values, layers
    "attention only": {"n_heads": 3, "n_layers": 3, "attn_only": True, "normalization_type": None},
    "shared keys": {
        "n_heads": 6,
        "n_key_value_heads": 3,  # two query heads each, not three as in SmolLM2
        "n_layers": 3,
        "normalization_type": "RMS",
        "positional_embedding_type": "rotary",
        "gated_mlp": True,
        "act_fn": "silu",
        "d_mlp": 10,
    },
    "one head": {"n_heads": 1, "n_layers": 2, "attn_only": True, "normalization_type": None},
}


@functools.cache
def blank(kind):
    """A tiny model; its weights are drawn anew by `tiny`."""
    config = TransformerBridgeConfig(
        **{"d_model": 12, "d_head": 4, "n_ctx": 16, "d_vocab": 11, "seed": 0} | SIZES[kind]
    )
    return settled(TransformerBridge.boot_native(config, tokenizer=None).eval())


def tiny(kind, rng):
    """A tiny model of random weights, large enough that each head shows in the logits."""
    model = blank(kind).requires_grad_(True)  # whatever an earlier answer did to it
    model.reset_hooks()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.grad = None
            parameter.copy_((0.7 if parameter.ndim > 1 else 0.2) * rng.normal(*parameter.shape))
            if parameter.ndim == 1 and kind == "shared keys":
                parameter += 1  # norms
    return model


def two_prompts(rng, pairs, pos):
    return rng.integers(0, 11, pairs, pos), rng.integers(0, 11, pairs, pos)


def _difference(logits, right, wrong):
    rows = torch.arange(len(logits))
    return logits[rows, -1, right] - logits[rows, -1, wrong]


def _log_prob(logits, right):
    return logits[:, -1].log_softmax(-1)[torch.arange(len(logits)), right]


def measures(rng, pairs):
    """Two metrics: a difference of logits, and a log-probability, which is not linear in them."""
    right = rng.integers(0, 11, pairs)
    return partial(_difference, right=right, wrong=(right + 1 + rng.integers(0, 9, pairs)) % 11), partial(
        _log_prob, right=right
    )


def name_of(part, layer):
    return f"blocks.{layer}.hook_{part}" if part == "resid_pre" else f"blocks.{layer}.attn.hook_{part}"


def source_of(model, tokens, part):
    """What `keep` gives for two parts: a source holds more than the part in hand, and what is in hand is not first."""
    return activations(model, tokens, *dict.fromkeys(("resid_pre", part)))


@torch.no_grad()
def activations(model, tokens, *parts):
    """A copy of these parts of all layers, by hook name."""
    kept = {}

    def watch(name):
        return lambda x, hook: kept.__setitem__(name, x.detach().clone())

    names = [name_of(part, layer) for part in parts for layer in range(model.cfg.n_layers)]
    model.run_with_hooks(tokens, fwd_hooks=[(name, watch(name)) for name in names])
    return kept


@torch.no_grad()
def patched(model, tokens, source, places, metric):
    """The metric of one run in which these places, pairs (hook name, index), come from source: a hook each."""

    def put(name, index):
        def hook(x, hook):
            x = x.clone()
            x[index] = source[name][index]
            return x

        return hook

    hooks = [(name, put(name, index)) for name, index in places]
    return metric(model.run_with_hooks(tokens, fwd_hooks=hooks))


def head_places(model, heads, part, positions=None):
    """Where a part of these query heads lies: (hook name, index)."""
    shared_by = model.cfg.n_heads // (model.cfg.n_key_value_heads or model.cfg.n_heads) if part in ("k", "v") else 1
    if part == "pattern":
        return [(name_of(part, layer), (slice(None), head)) for layer, head in heads]
    everywhere = [slice(None)] if positions is None else positions
    return [
        (name_of(part, layer), (slice(None), where, head // shared_by)) for layer, head in heads for where in everywhere
    ]


def for_others(rng, part="z"):
    """What a call needs in which a hook of somebody else's is in the model: model, tokens, source and metric."""
    model = tiny("attention only", rng)
    tokens, other = two_prompts(rng, 2, 4)
    return model, tokens, source_of(model, other, part), measures(rng, 2)[0]


def check_no_hook_left(model):
    left = [name for name, point in model.hook_dict.items() if point.fwd_hooks or point.bwd_hooks]
    model.reset_hooks()
    assert not left, f"hooks stay behind in the model, at {left[0]}: run_with_hooks takes its hooks away, add_hook not"


@contextlib.contextmanager
def as_found(model, *inputs):
    """No hook stays, and model, inputs, modes and random state are as before."""
    with unchanged(*inputs), nothing_left_behind(model):
        try:
            yield
        finally:
            check_no_hook_left(model)


def check_plain(values, what="the result"):
    assert not values.requires_grad, (
        f"{what} keeps a gradient, and with it all activations of the run: run the model under torch.no_grad()"
    )


# --- 2. The residual stream


def test_patch_residual(patch_residual, rng):
    """For each layer and position a run of its own, in which only this place of the stream comes from the source."""
    cases = [
        ("attention only", 1, 4, [1], [3]),
        ("shared keys", 2, 5, [2], [1, 4]),
        ("attention only", 3, 4, [2, 0], [0, 3]),
    ]
    models = {kind: tiny(kind, rng) for kind in ("shared keys", "attention only")}
    for i, (kind, pairs, pos, layers, positions) in enumerate(cases):
        model = models[kind]
        tokens, other = two_prompts(rng, pairs, pos)
        metric = measures(rng, pairs)[i % 2]
        source = activations(model, other, "resid_pre")
        expected = torch.stack(
            [
                torch.stack(
                    [
                        patched(model, tokens, source, [(name_of("resid_pre", layer), (slice(None), at))], metric)
                        for at in positions
                    ]
                )
                for layer in layers
            ]
        )
        with as_found(model, tokens, source, layers, positions):
            actual = patch_residual(model, tokens, source, layers, positions, metric)
            actual = assert_tensor(actual, shape=(len(layers), len(positions), pairs))
        meaning = f"layers {layers}, positions {positions}: entry [layer, position] is not the metric of that run"
        assert_close(actual, expected, meaning)
    check_plain(actual)


def test_patch_residual__others(patch_residual, rng):
    """Hooks of others stay"""
    model, tokens, source, metric = for_others(rng, "resid_pre")
    with others_hook(model):
        patch_residual(model, tokens, source, [1], [2], metric)


# --- 3. and 5. Heads and their parts

# Several of one layer, several layers, none, one; so that few calls tell wrong answers apart.
SETS = [[(2, 1), (0, 2), (1, 0), (2, 0)], [(1, 2)], [(0, 0), (0, 2)], [], [(2, 2), (1, 1)]]


def check_head_patching(call, rng, part, positions_of=lambda i: None, models=None, sets=(0, 1, 2, 3, 4)):
    """Sets of heads of two models: `call(model, tokens, source, heads, metric, positions)`."""
    models = models or {kind: tiny(kind, rng) for kind in ("shared keys", "attention only")}
    for i in sets:
        model, heads = models["attention only" if i % 2 else "shared keys"], SETS[i]
        heads = [(layer, head + 3) for layer, head in heads] if i == 4 else list(heads)  # the last of six heads
        pairs = (2, 1, 3)[i % 3]
        tokens, other = two_prompts(rng, pairs, 5)
        metric, positions = measures(rng, pairs)[i % 2], positions_of(i)
        source = source_of(model, other, part)
        expected = patched(model, tokens, source, head_places(model, heads, part, positions), metric)
        with as_found(model, tokens, source, heads, positions):
            actual = assert_tensor(call(model, tokens, source, heads, metric, positions), shape=(pairs,))
        where = "" if positions is None else f" at positions {positions}"
        meaning = f"with {part} of heads {heads}{where} from the source, entry i is not the metric of pair i"
        assert_close(actual, expected, meaning)
        check_plain(actual)


def test_patch_heads(patch_heads, rng):
    """One run in which z of all listed heads comes from the source: at all positions, or at some."""

    def call(model, tokens, source, heads, metric, positions):
        given = [] if positions is None else [positions]
        return patch_heads(model, tokens, source, heads, metric, *given)

    check_head_patching(call, rng, "z", lambda i: (None, [1, 3], [0, 4, 2], None, [])[i])


def test_patch_heads__others(patch_heads, rng):
    """Hooks of others stay"""
    model, tokens, source, metric = for_others(rng)
    with others_hook(model):
        patch_heads(model, tokens, source, [(1, 0)], metric)


def test_patch_head_part(patch_head_part, rng):
    """One run in which q, k, v or z of all listed heads comes from the source; shared keys are those that they read."""
    # One draw of weights for all calls: each is put to the written mistakes after the last.
    models = {kind: tiny(kind, rng) for kind in ("shared keys", "attention only")}
    for part, sets in (("k", (0, 1, 4)), ("q", (0, 1)), ("v", (0, 1)), ("z", (4,))):

        def call(model, tokens, source, heads, metric, positions, part=part):
            return patch_head_part(model, tokens, source, heads, part, metric)

        check_head_patching(call, rng, part, models=models, sets=sets)


def test_patch_head_part__others(patch_head_part, rng):
    """Hooks of others stay"""
    model, tokens, source, metric = for_others(rng, "k")
    with others_hook(model):
        patch_head_part(model, tokens, source, [(1, 0)], "k", metric)


def test_patch_pattern(patch_pattern, rng):
    """One run in which the patterns of all listed heads come from the source, and nothing else."""

    def call(model, tokens, source, heads, metric, positions):
        return patch_pattern(model, tokens, source, heads, metric)

    check_head_patching(call, rng, "pattern", sets=(0, 1, 4))


def test_patch_pattern__others(patch_pattern, rng):
    """Hooks of others stay"""
    model, tokens, source, metric = for_others(rng, "pattern")
    with others_hook(model):
        patch_pattern(model, tokens, source, [(1, 0)], metric)


def test_answer_needed(answer_needed):
    """Not enough alone, yet needed: it works with a part that the corrupted run lacks."""
    assert_choice(answer_needed, "b", "what must hold for a part to be needed, yet not enough alone?")


def test_answer_shared(answer_shared):
    """Query heads 3 and 4 both read head 1 of the keys."""
    assert_choice(answer_shared, "c", "which head of the keys does query head h read?")


# --- 4. All heads, quickly


@contextlib.contextmanager
def counted(model):
    """[layer]: how often each block ran in the block of code."""
    runs = Counter()

    def count(layer):
        return lambda module, args: runs.update([layer])

    handles = [block.register_forward_pre_hook(count(layer)) for layer, block in enumerate(model.blocks)]
    try:
        yield runs
    finally:
        for handle in handles:
            handle.remove()


def test_resume_from_layer(resume_from_layer, rng):
    """The last position's logits of a run that begins with this stream at this layer, hooks included."""
    hooked = {2: "", 1: "blocks.2.attn.hook_z", 0: "unembed.hook_in"}  # where a hook changes the run, by first layer
    for kind, rows in (("shared keys", 2), ("attention only", 1)):
        model = tiny(kind, rng)
        for layer, at in hooked.items():
            tokens = rng.integers(0, 11, rows, 5)
            name = name_of("resid_pre", layer)
            stream = rng.normal(rows, 5, 12)
            hooks = [(at, _halved)] if at else []
            with torch.no_grad():
                whole = model.run_with_hooks(tokens, fwd_hooks=[(name, partial(_put, value=stream)), *hooks])
            with as_found(model, stream, hooks):
                actual = resume_from_layer(model, stream, layer, hooks)
                actual = assert_tensor(actual, shape=(rows, 1, 11))
            said = f"resumed from layer {layer} of 3, {f'with a hook at {at}' if at else 'without hooks'}"
            assert_close(
                actual, whole[:, -1:], f"{said}, the logits of the last position are not those of the whole run"
            )
            check_plain(actual)


def test_resume_from_layer__work(resume_from_layer, rng):
    """Blocks before the layer do not run, and each other block runs once"""
    model = tiny("attention only", rng)
    for layer in (2, 1):
        with counted(model) as runs:
            resume_from_layer(model, rng.normal(2, 4, 12), layer, [])
        before = [i for i in range(layer) if runs[i]]
        assert not before, f"resumed from layer {layer}, but the blocks {before} before it run, too"
        times = [runs[i] for i in range(layer, 3)]
        assert times == [1] * len(times), f"resumed from layer {layer}, the blocks from there on run {times} times"


def test_resume_from_layer__others(resume_from_layer, rng):
    """Hooks of others stay"""
    model = tiny("attention only", rng)
    with others_hook(model):
        resume_from_layer(model, rng.normal(2, 4, 12), 1, [("blocks.1.attn.hook_z", _halved)])


def _halved(z, hook):
    return 0.5 * z - 0.3


def _put(x, hook, value):
    return value


def test_batched_head_patching(batched_head_patching, rng):
    """For every head the same as one run with this head patched."""
    for i, (kind, pairs, pos) in enumerate((("shared keys", 2, 5), ("attention only", 3, 4), ("one head", 1, 3))):
        model = tiny(kind, rng)
        tokens, other = two_prompts(rng, pairs, pos)
        metric, source = measures(rng, pairs)[i % 2], source_of(model, other, "z")
        layers, heads = range(model.cfg.n_layers), range(model.cfg.n_heads)
        expected = torch.stack(
            [
                torch.stack(
                    [patched(model, tokens, source, head_places(model, [(layer, head)], "z"), metric) for head in heads]
                )
                for layer in layers
            ]
        )
        with as_found(model, tokens, source):
            actual = batched_head_patching(model, tokens, source, metric)
            actual = assert_tensor(actual, shape=(len(layers), len(heads), pairs))
        assert_close(actual, expected, "entry [layer, head] is not the metric of a run with z of this head patched")
        check_plain(actual)


def test_batched_head_patching__work(batched_head_patching, rng):
    """One resumed run for each layer: no block runs more often than that"""
    model = tiny("attention only", rng)
    tokens, other = two_prompts(rng, 2, 4)
    source = source_of(model, other, "z")
    with counted(model) as runs:
        batched_head_patching(model, tokens, source, measures(rng, 2)[0])
    # Block i runs for the layers 0 to i, and once more in the run that keeps the streams.
    for layer in range(3):
        assert runs[layer] <= layer + 2, (
            f"block {layer} of 3 runs {runs[layer]} times; once for each layer up to its own, and once for the "
            f"streams, makes {layer + 2}: resume from the patched layer, with all its heads in one batch"
        )


def test_batched_head_patching__others(batched_head_patching, rng):
    """Hooks of others stay"""
    model, tokens, source, metric = for_others(rng)
    with others_hook(model):
        batched_head_patching(model, tokens, source, metric)


# --- 6. The gradient


def test_attribution_patching(attribution_patching, rng):
    """For each head the derivative of the metric along the whole way of its z from its own value to the source's."""
    for i, (kind, pairs, pos) in enumerate((("attention only", 2, 4), ("shared keys", 3, 5), ("one head", 1, 3))):
        model = tiny(kind, rng)
        tokens, other = two_prompts(rng, pairs, pos)
        metric, source = measures(rng, pairs)[1 - i % 2], source_of(model, other, "z")
        with as_found(model, tokens, source):
            actual = attribution_patching(model, tokens, source, metric)
            actual = assert_tensor(actual, shape=(model.cfg.n_layers, model.cfg.n_heads, pairs))
        check_plain(actual, "the estimate")
        filled = [name for name, weight in model.named_parameters() if weight.grad is not None]
        # In the words of the written mistake: its numbers are right, so that they tell it from no other such answer.
        assert not filled, (
            "fills .grad of the weights, as backward() does; torch.autograd.grad gives gradients and leaves nothing: "
            f"{filled[0]} has one now"
        )
        expected = first_order(model, tokens, source, metric)
        meaning = "entry [layer, head] is not the first-order change of the metric when this z becomes the source's"
        assert_close(actual, expected, meaning, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_attribution_patching__others(attribution_patching, rng):
    """Hooks of others stay"""
    model, tokens, source, metric = for_others(rng)
    with others_hook(model):
        attribution_patching(model, tokens, source, metric)


def test_attribution_patching__weights(attribution_patching, rng):
    """What stood in the weights' .grad stands there afterwards"""
    model = tiny("attention only", rng)
    tokens, other = two_prompts(rng, 2, 4)
    source = source_of(model, other, "z")
    before = {name: rng.normal(*weight.shape) for name, weight in model.named_parameters()}
    for name, weight in model.named_parameters():
        weight.grad = before[name].clone()
    attribution_patching(model, tokens, source, measures(rng, 2)[0])
    for name, weight in model.named_parameters():
        same = weight.grad is not None and torch.equal(weight.grad, before[name])
        weight.grad = None
        assert same, f"your code changes .grad of the weights ({name}): torch.autograd.grad does not"


def first_order(model, tokens, source, metric):
    """[layer head pair]: the gradient by a zero that is added to each z, along (source - own)."""
    own = activations(model, tokens, "z")
    zeros = {name: torch.zeros_like(z).requires_grad_() for name, z in own.items()}

    def add(name):
        return lambda z, hook: z + zeros[name]

    value = metric(model.run_with_hooks(tokens, fwd_hooks=[(name, add(name)) for name in own]))
    gradients = torch.autograd.grad(value.sum(), list(zeros.values()))
    layers = []
    for (name, z), gradient in zip(own.items(), gradients, strict=True):
        terms = (source[name] - z) * gradient  # [pair pos head d_head]
        layers.append(torch.stack([terms[:, :, head].sum((1, 2)) for head in range(model.cfg.n_heads)]))
    return torch.stack(layers)


def test_compare_with_exact(compare_with_exact, rng):
    """Pearson's r, how many of the best are found, and the heads that are misjudged most."""
    cases = []
    for layers, heads, count in ((3, 5, 4), (2, 2, 1), (5, 3, 6), (1, 6, 2)):
        exact = rng.normal(layers, heads) + 2
        cases.append((exact, 1 + 0.5 * exact + 0.6 * rng.normal(layers, heads), count))  # errors of both signs
    # Heads that work against the behaviour: large, and not among the best; and a sign that is misjudged.
    harmful = torch.tensor([[3.0, -8.0, 1.0], [2.0, 1.5, -7.0]])
    cases.append((harmful, torch.tensor([[1.0, -5.0, 2.8], [2.5, -1.2, -6.0]]), 2))
    for exact, estimate, count in cases:
        with unchanged(exact, estimate), nothing_left_behind():
            result = compare_with_exact(exact, estimate, count)
        assert isinstance(result, tuple | list) and len(result) == 3, (
            f"three things are to be returned: r, the number of shared heads, the misjudged heads; not {result!r:.60}"
        )
        r, shared, misjudged = result
        x, y = (values.double().flatten() - values.double().mean() for values in (exact, estimate))
        expected = float(x @ y / (x.norm() * y.norm()))
        assert_close(
            torch.tensor(float(assert_plain(r, float))), torch.tensor(expected), "r is not Pearson's r over all heads"
        )
        assert_plain(shared, int)
        both = len(set(largest(exact, count)) & set(largest(estimate, count)))
        assert shared == both, (
            f"of the {count} largest exact effects, {both} are among the {count} largest estimates; got {shared}"
        )
        named = pairs_of(misjudged, "what is misjudged")
        wanted = largest((exact - estimate).abs(), count)
        assert named == wanted, (
            f"the {count} heads with the largest |exact - estimate|, largest first, are {wanted}; got {named}"
        )


def largest(values, count):
    """The heads (layer, head) of the largest values, largest first."""
    heads = [(layer, head) for layer in range(values.shape[0]) for head in range(values.shape[1])]
    return sorted(heads, key=lambda head: -values[head].item())[:count]


def pairs_of(result, meaning):
    """The learner's heads as pairs of whole numbers."""
    try:
        return [(int(layer), int(head)) for layer, head in result]
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{meaning} is a list of pairs (layer, head), not {result!r:.80}") from error


def test_answer_slope(answer_slope):
    """Slope 0 at one end says nothing about the way to the other."""
    assert_choice(answer_slope, "a", "what did the estimate say of the previous-token head in the wired model?")


# --- 7. One path


@torch.no_grad()
def along_path(model, tokens, source, sender, receivers, part, metric):
    """The metric when only this part of the receivers sees the sender's patched z."""
    own = activations(model, tokens, "z")
    layer, head = sender
    mixed = {name: value.clone() for name, value in own.items()}
    mixed[name_of("z", layer)][:, :, head] = source[name_of("z", layer)][:, :, head]
    hooks = [(name, partial(_put, value=value)) for name, value in mixed.items()]
    with model.hooks(fwd_hooks=hooks):
        there = activations(model, tokens, part)
    return patched(model, tokens, there, head_places(model, receivers, part), metric)


def test_path_patch(path_patch, rng):
    """The sender's effect through one part of the receivers alone: q, k and v, one receiver and several."""
    cases = [
        ("attention only", (0, 1), [(2, 0)], "k"),
        ("shared keys", (0, 3), [(1, 2), (2, 0), (2, 3)], "k"),
        ("shared keys", (1, 0), [(2, 1)], "v"),
        ("attention only", (0, 2), [(2, 1), (1, 0)], "q"),
        ("attention only", (0, 0), [(1, 1), (1, 2)], "v"),
        ("shared keys", (0, 1), [(2, 2)], "q"),
    ]
    models = {kind: tiny(kind, rng) for kind in ("attention only", "shared keys")}
    for i, (kind, sender, receivers, part) in enumerate(cases):
        model, pairs = models[kind], (2, 3, 1)[i % 3]
        tokens, other = two_prompts(rng, pairs, 5)
        metric, source = measures(rng, pairs)[i % 2], source_of(model, other, "z")
        expected = along_path(model, tokens, source, sender, receivers, part, metric)
        listed = list(receivers)
        with as_found(model, tokens, source, listed):
            actual = path_patch(model, tokens, source, sender, listed, part, metric)
            actual = assert_tensor(actual, shape=(pairs,))
        said = f"from head {sender} to {part} of {receivers}"
        assert_close(actual, expected, f"{said}, entry i is not the metric of pair i")
        check_plain(actual)


def test_path_patch__others(path_patch, rng):
    """Hooks of others stay"""
    model, tokens, source, metric = for_others(rng)
    with others_hook(model):
        path_patch(model, tokens, source, (0, 1), [(2, 0)], "k", metric)


# --- 8. Open task

# seed is drawn; sizes, and how many circuits do the whole job each
WIRED = [
    {"n_layers": 2, "n_heads": 6, "noise": 0.0},
    {"n_layers": 3, "n_heads": 6, "copies": 2, "noise": 0.03},
    {"n_layers": 4, "n_heads": 4, "copies": 2, "n_tokens": 9, "noise": 0.02},
]
LACKING = {
    "n_layers": 2,
    "n_heads": 5,
    "behaviours": ("seen", "copying"),
    "decoys": ("mute previous", "offset", "rest"),
}


@pytest.mark.seconds(120)
def test_find_heads(find_heads, rng):
    """At least 90 % of the heads that carry a behaviour of unseen models, and at most 10 % others among those named."""
    tasks = [(sizes, behaviour) for sizes in WIRED for behaviour in wired.BEHAVIOURS]
    tasks += [(LACKING | {"noise": noise}, "induction") for noise in (0.0, 0.03)]
    found, missed, wrong = 0, [], []
    for sizes, behaviour in tasks:
        model, truth = wired.build(seed=rng.integer(0, 10_000), **sizes)
        prompts = wired.pairs(truth, behaviour, batch=8, seed=rng.integer(0, 10_000))
        with unchanged(*prompts), nothing_left_behind(settled(model), random_state=False):
            named = set(pairs_of(find_heads(model, *prompts), "what is found"))
        inside = all(0 <= layer < sizes["n_layers"] and 0 <= head < sizes["n_heads"] for layer, head in named)
        assert inside, f"{sorted(named)} are not all heads (layer, head) of a model with {sizes}"
        carriers = frozenset().union(*truth.paths[behaviour])
        found += len(named & carriers)
        missed += [truth.roles[head] for head in carriers - named]
        wrong += [truth.roles[head] for head in named - carriers]
    of = found + len(missed)
    said = f"in {len(tasks)} tasks, {found} of {of} heads that carry the difference were found"
    assert_mostly_found(found, missed, wrong, said)


def test_find_heads__others(find_heads, rng):
    """Hooks of others stay"""
    model, truth = wired.build(seed=rng.integer(0, 10_000), n_layers=2, n_heads=6)
    with others_hook(model):
        find_heads(model, *wired.pairs(truth, "induction", batch=2, seed=0))
