"""Checks of 2.5 Llama.

Each part gets random weights by the names that the text fixes, and is compared with a slow computation of its own and,
as a whole, with transformers' LlamaForCausalLM. When a class does exactly what one of the known wrong classes does with
the same weights, the message says which.
"""

import inspect
import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from concrete_steps.checking.mistakes import mistakes_of, same
from concrete_steps.checking.recognition import alike, one_name
from concrete_steps.checking.testing import (
    assert_choice,
    assert_close,
    assert_equal,
    assert_gradient_values,
    assert_plain,
    assert_precise,
    assert_tensor,
    awkward,
    nothing_left_behind,
    strided,
    unchanged,
)
from concrete_steps.checking.testing.parts import assert_trains, how_composed, own_composition, run_part, set_weights
from concrete_steps.course import load_course


@dataclass
class Config:
    """The same fields as in the notebook. Sizes all differ, so that a mixed-up axis shows."""

    d_model: int = 7
    n_heads: int = 6
    n_kv_heads: int = 2
    d_head: int = 4
    d_mlp: int = 10
    n_layers: int = 2
    d_vocab: int = 11
    eps: float = 0.05  # large, so that its place shows
    theta: float = 50.0


CONFIGS = (
    Config(),
    Config(d_model=5, n_heads=3, n_kv_heads=3, d_head=2, d_mlp=3, n_layers=1, d_vocab=3, eps=0.5, theta=9.0),
    Config(d_model=4, n_heads=4, n_kv_heads=1, d_head=6, d_mlp=9, n_layers=3, d_vocab=5, eps=0.05, theta=1000.0),
    Config(d_model=1, n_heads=1, n_kv_heads=1, d_head=2, d_mlp=1, n_layers=1, d_vocab=1, eps=0.05),  # axes of size 1
)
N_CTX = 6  # the longest text of a check

# --- The parameters that the text fixes, and the slow computation


def prefixed(prefix, shapes):
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def shapes_of(part, c):
    """The parameters of a part: name to shape."""
    match part:
        case "RMSNorm":
            return {"w": (c.d_model,)}
        case "SwiGLU":
            return {"W_gate": (c.d_model, c.d_mlp), "W_up": (c.d_model, c.d_mlp), "W_down": (c.d_mlp, c.d_model)}
        case "LlamaAttention":
            shared = {f"W_{name}": (c.n_kv_heads, c.d_model, c.d_head) for name in "KV"}
            return {"W_Q": (c.n_heads, c.d_model, c.d_head), **shared, "W_O": (c.n_heads, c.d_head, c.d_model)}
        case "LlamaBlock":
            parts = {"ln1": "RMSNorm", "attn": "LlamaAttention", "ln2": "RMSNorm", "mlp": "SwiGLU"}
        case "Llama":
            parts = {f"blocks.{layer}": "LlamaBlock" for layer in range(c.n_layers)} | {"ln_final": "RMSNorm"}
    shapes = {name: shape for key, kind in parts.items() for name, shape in prefixed(key, shapes_of(kind, c)).items()}
    return {"W_E": (c.d_vocab, c.d_model), **shapes} if part == "Llama" else shapes


def random_weights(part, c, rng, dtype=torch.float32):
    """Weights of a size that lets every part of the computation be seen in the output."""
    weights = {}
    for name, shape in shapes_of(part, c).items():
        fan_in = shape[-2] if len(shape) > 1 and name != "W_E" else 1
        weights[name] = rng.normal(*shape, dtype=dtype) * (1.5 / math.sqrt(fan_in))
    return weights


def within(prefix, weights):
    return {name.removeprefix(prefix + "."): w for name, w in weights.items() if name.startswith(prefix + ".")}


def rms_norm(p, x, c):
    return F.rms_norm(x, (c.d_model,), p["w"], c.eps)


def turned(x, positions, theta):
    """A pair is a complex number, and turning is a product with one of length 1."""
    half = x.shape[-1] // 2
    frequencies = torch.tensor([theta ** (-2 * i / x.shape[-1]) for i in range(half)], dtype=torch.float64)
    angles = positions.double()[:, None] * frequencies
    turns = torch.polar(torch.ones_like(angles), angles)[:, None]
    pairs = torch.complex(x[..., :half].double(), x[..., half:].double()) * turns
    return torch.cat([pairs.real, pairs.imag], dim=-1).to(x.dtype)


def grouped(q, k, v):
    """Head by head and query by query."""
    out = torch.zeros_like(q)
    past = k.shape[1] - q.shape[1]
    for head in range(q.shape[2]):
        shared = head // (q.shape[2] // k.shape[2])
        for query in range(q.shape[1]):
            seen = past + query + 1
            scores = (k[:, :seen, shared] * q[:, query, None, head]).sum(-1) / math.sqrt(q.shape[3])
            out[:, query, head] = (scores.softmax(-1)[..., None] * v[:, :seen, shared]).sum(1)
    return out


def attention(p, x, c):
    q, k, v = (torch.stack([x @ w for w in p[f"W_{name}"]], dim=2) for name in "QKV")
    positions = torch.arange(x.shape[1])
    z = grouped(turned(q, positions, c.theta), turned(k, positions, c.theta), v)
    return sum(z[:, :, head] @ p["W_O"][head] for head in range(c.n_heads))


def swiglu(p, x, c):
    return (F.silu(x @ p["W_gate"]) * (x @ p["W_up"])) @ p["W_down"]


def block(p, x, c):
    mid = x + attention(within("attn", p), rms_norm(within("ln1", p), x, c), c)
    return mid + swiglu(within("mlp", p), rms_norm(within("ln2", p), mid, c), c)


def llama(p, tokens, c):
    """What passes each place of the model, in order: place to tensor."""
    resid = p["W_E"][tokens]
    places = {"where the first block reads (rows of W_E)": resid}
    for layer in range(c.n_layers):
        resid = block(within(f"blocks.{layer}", p), resid, c)
        places[f"after blocks[{layer}]"] = resid
    places["after ln_final"] = rms_norm(within("ln_final", p), resid, c)
    places["at the logits"] = places["after ln_final"] @ p["W_E"].T
    return places


# --- Building a learner's part, and saying what it does


def build(name, cls, c, rng, dtype=torch.float32):
    """The learner's part `name` with random weights, in evaluation mode, and the weights by name."""
    module = cls(c)
    assert isinstance(module, torch.nn.Module), f"{name} is no nn.Module: write class {name}(nn.Module)"
    made = len(module.blocks) if hasattr(getattr(module, "blocks", None), "__len__") else c.n_layers
    assert made == c.n_layers, f"{name}(cfg) makes {made} blocks where cfg.n_layers is {c.n_layers}"
    weights = random_weights(name, c, rng, dtype)
    set_weights(module, weights, name)
    return module.to(dtype).eval(), weights


def whole(module, x):
    return [module(x)]


def in_pieces(caches):
    """A run that hands the module the text piece by piece, with what `caches` makes as its cache."""

    def run(module, x):
        cache = caches()
        return [module(piece, cache) for piece in pieces_of(x)]

    return run


def pieces_of(x):
    """Positions 0 and 1, position 2 alone, and the others, as far as there are any."""
    return [piece for piece in (x[:, :2], x[:, 2:3], x[:, 3:]) if piece.shape[1]]


def named(name, module, c, weights, x, runs):
    """The sentence of the one known wrong class that gives the same outputs, in all `runs`, with the same weights."""
    order = torch.Generator().manual_seed(0)
    shuffled = [x.flatten()[torch.randperm(x.numel(), generator=order)].reshape(x.shape) for _ in range(3)]
    found = []
    for entry in mistakes_of(load_course().notebook("2.5")).get(name, []):
        try:
            twin = entry.implementation(c).to(next(iter(weights.values())).dtype).eval()
            twin.load_state_dict(weights)
            if all(
                alike(run(twin, given.clone()), run(module, given.clone())) for run in runs for given in (x, *shuffled)
            ):
                found.append(entry.sentence)
        except Exception:  # a wrong class need not survive every input
            continue
    return one_name(found)


def assert_output(name, module, c, weights, x, out, expected, message, runs=(whole,)):
    """`out` is what is expected; otherwise says which known slip gives it, or where it differs."""
    at = f"input of shape {list(x.shape)}"
    if not same(out, expected):
        slip = named(name, module, c, weights, x, runs)
        assert not slip, f"{slip} (your output for an {at} equals what comes of that)"
        assert_close(out, expected, f"{message} ({at})")
        raise AssertionError(f"{message} ({at}): differs by more than rounding")
    assert_precise(out, expected, f"{message} ({at})", loosen=10)


def inputs(c, rng, dtype=torch.float32):
    """Streams [batch pos d_model] of several shapes, some awkward, one not contiguous."""
    for batch, pos in ((1, c.d_model), (2, 4), (1, 1), (3, N_CTX), (1, 3)):
        yield rng.normal(batch, pos, c.d_model, dtype=dtype)
    yield 3 + 0.1 * rng.normal(1, 3, c.d_model, dtype=dtype)
    yield torch.zeros(1, 2, c.d_model, dtype=dtype)
    yield strided(rng.normal(2, 3, c.d_model, dtype=dtype))


def check_part(name, cls, rng, function, message):
    """The part agrees with the slow computation for all configurations, inputs and dtypes."""
    for c in CONFIGS:
        for dtype in (torch.float32, torch.float64):
            module, weights = build(name, cls, c, rng, dtype)
            for x in inputs(c, rng, dtype):
                assert_output(name, module, c, weights, x, run_part(module, x), function(weights, x, c), message)


def check_pieces(name, cls, rng, function, caches, given):
    """Piece by piece, with a cache, a part gives what it should give for the whole text."""
    for c in CONFIGS:
        module, weights = build(name, cls, c, rng, torch.float64)
        run = in_pieces(lambda c=c: caches(c))
        for batch, pos in ((1, 2), (2, 3), (2, N_CTX)):
            x = given(c, batch, pos)
            with nothing_left_behind(module, random_state=False), unchanged(x):
                outs = [assert_tensor(out) for out in run(module, x)]
            expected = function(weights, x, c)
            lengths = [piece.shape[1] for piece in pieces_of(x)]
            message = (
                f"a text of {pos} positions, in pieces of {' + '.join(map(str, lengths))} with a cache, "
                "does not give what the whole text gives"
            )
            for out, length in zip(outs, lengths, strict=True):
                assert_tensor(out, (batch, length, expected.shape[-1]))
            out = torch.cat(outs, dim=1)
            assert_output(name, module, c, weights, x, out, expected, message, (whole, run))
            again = module(x)
            assert same(again, expected), "after a text with a cache, one without a cache gives another output"


# --- 1. RMSNorm


def test_RMSNorm(RMSNorm, rng):
    """Root mean square, eps and scale as in torch's rms_norm, for several sizes and eps."""
    check_part("RMSNorm", RMSNorm, rng, rms_norm, "not what RMSNorm gives")


def test_RMSNorm__start(RMSNorm, rng):
    """w starts at 1, and is trained."""
    c = Config()
    module = RMSNorm(c)
    set_weights(RMSNorm(c), random_weights("RMSNorm", c, rng), "RMSNorm")
    assert_close(module.w, torch.ones(c.d_model), "w does not start at 1")
    assert_trains(module, rng.normal(1, c.d_model, c.d_model))


def test_answer_shifted(answer_shifted):
    """The factor is divided out, the shift is not."""
    assert_choice(answer_shifted, "c", "which of the 3 and the 5 does dividing by the root mean square undo?")


# --- 2. rope

# equivalent mutant of rope, drop device= of arange: where there is one device
# equivalent mutant of rope, x -> positions: of their device, where there is one device


def test_rope(rope, rng):
    """Each pair is turned by position times frequency, for several sizes, positions and thetas."""
    for dtype in (torch.float32, torch.float64):
        for batch, pos, heads, d_head, theta in (
            (1, 1, 1, 2, 10.0),
            (1, 2, 1, 2, 10.0),
            (1, 3, 1, 6, 100.0),
            (2, 4, 3, 8, 10000.0),
            (1, 3, 3, 4, 7.0),
            (2, 5, 1, 6, 100000.0),
        ):
            for places in (
                torch.arange(pos),
                torch.arange(pos) + 30,
                rng.permutation(40)[:pos],
                *far_places(pos, dtype),
            ):
                x = rng.normal(batch, pos, heads, d_head, dtype=dtype)
                check_turned(rope, x, places, theta)
        check_turned(rope, strided(rng.normal(2, 3, 4, 6, dtype=dtype)), strided(torch.tensor([4, 0, 9])), 50.0)
        for x in awkward(rng, 2, 3, 2, 6, dtype=dtype):
            check_turned(rope, x, torch.tensor([0, 1, 5]), 50.0)


def far_places(pos, dtype):
    """Positions that no table of a fixed length holds; angles of float32 are too coarse there."""
    return [torch.arange(pos) * 40_000 + 5000] if dtype == torch.float64 else []


def check_turned(rope, x, places, theta):
    with nothing_left_behind(), unchanged(x, places):
        out = rope(x, places, theta)
    message = f"not x turned by the angles of positions {places.tolist()} (theta {theta:g}, d_head {x.shape[-1]})"
    # Angles of float32 are exact to a millionth or so, and that times x is what must be allowed.
    far = max(1.0, places.max().item() / 1000)
    assert_precise(out, turned(x, places, theta), message, loosen=10 * far * max(1.0, x.abs().max().item()))


def test_rope__far(rope, rng):
    """At position 5000 a score still depends on the distance alone."""
    q, k = rng.normal(1, 4, 2, 8, dtype=torch.float64), rng.normal(1, 4, 2, 8, dtype=torch.float64)
    scores = []
    for start in (0, 5000):
        places = torch.arange(start, start + 4)
        scores.append(torch.einsum("bqhd,bkhd->bhqk", rope(q, places, 1e4), rope(k, places, 1e4)))
    assert_close(
        scores[1], scores[0], "moved by 5000 positions, the same queries and keys give other scores", atol=1e-3
    )


def test_rope__gradient(rope, rng):
    """The gradient of x is the derivative."""
    x = rng.normal(2, 3, 2, 6, dtype=torch.float64)
    assert_gradient_values(lambda x: rope(x, torch.tensor([2, 3, 7]), 20.0), x)


def test_answer_moved(answer_moved):
    """Both turn by the same more, and their product keeps the difference."""
    assert_choice(answer_moved, "b", "by how much more is each query turned, and by how much more each key?")


# --- 3. Two conventions


def test_pairs_to_halves(pairs_to_halves, rng):
    """Row 2i of each head becomes its row i, and row 2i + 1 its row i + d_head / 2."""
    for n_heads, d_head, d_model in ((1, 2, 1), (1, 6, 1), (1, 8, 3), (2, 4, 5), (3, 6, 4), (4, 2, 8), (2, 8, 16)):
        labels = torch.arange(n_heads * d_head * d_model).reshape(-1, d_model)
        for weight in (labels.float(), strided(rng.normal(*labels.shape, dtype=torch.float64))):
            with nothing_left_behind(), unchanged(weight):
                out = pairs_to_halves(weight, n_heads)
            heads = []
            for head in weight.split(d_head):
                heads += [*head[::2], *head[1::2]]
            message = f"rows of {n_heads} head(s) of {d_head} are not in halves"
            assert_precise(out, torch.stack(heads), message)


def test_pairs_to_halves__scores(pairs_to_halves, rng):
    """Reordered, a file's weights give with halves the scores that they give with neighbours."""
    n_heads, d_head, d_model, theta = 2, 6, 5, 30.0
    x, places = rng.normal(1, 4, d_model, dtype=torch.float64), torch.tensor([0, 1, 2, 9])
    in_file = [rng.normal(n_heads * d_head, d_model, dtype=torch.float64) for _ in "qk"]

    def scores(weights, coordinates):
        """With pairs of coordinates: those that `coordinates` puts first, and those that it puts second."""
        made = [(x @ w.T).unflatten(-1, (n_heads, d_head))[..., coordinates] for w in weights]
        return torch.einsum("bqhd,bkhd->bhqk", *(turned(m, places, theta) for m in made))

    neighbours = scores(in_file, [0, 2, 4, 1, 3, 5])
    halves = scores([pairs_to_halves(w, n_heads) for w in in_file], range(d_head))
    assert_close(halves, neighbours, "the scores are not those of the file's own convention")


# --- 4. Grouped queries


def triples(rng, dtype=torch.float32):
    """q, k, v of several shapes: with and without a past, with one, several and all heads of keys and values."""
    for batch, n_query, n_key, heads, kv_heads, d_head in (
        (1, 1, 1, 1, 1, 1),
        (1, 2, 2, 1, 1, 2),
        (1, 3, 3, 2, 1, 4),
        (2, 3, 3, 4, 4, 3),
        (2, 4, 4, 6, 3, 2),
        (1, 1, 5, 4, 2, 3),
        (2, 2, 5, 6, 2, 4),
        (3, 3, 3, 9, 3, 3),
    ):
        yield tuple(
            rng.normal(batch, n, h, d_head, dtype=dtype)
            for n, h in ((n_query, heads), (n_key, kv_heads), (n_key, kv_heads))
        )


def check_grouped(function, q, k, v):
    with nothing_left_behind(), unchanged(q, k, v):
        out = function(q, k, v)
    shapes = f"q {list(q.shape)}, k and v {list(k.shape)}"
    assert_precise(out, grouped(q, k, v), f"z is not the mean of each group's values ({shapes})", loosen=10)


def test_grouped_query_attention(grouped_query_attention, rng):
    """Groups, scale, mask and mean, head by head and query by query; with keys of the past, too."""
    for dtype in (torch.float32, torch.float64):
        for q, k, v in triples(rng, dtype):
            check_grouped(grouped_query_attention, q, k, v)
            check_grouped(grouped_query_attention, strided(q), strided(k), strided(v))
        # 9 heads over 3 and 6 over 2 may be told apart by chance; 12 over 4 has groups of 3
        q, (k, v) = rng.normal(1, 2, 12, 2, dtype=dtype), rng.normal(2, 1, 3, 4, 2, dtype=dtype)
        check_grouped(grouped_query_attention, q, k, v)


def test_grouped_query_attention__hidden(grouped_query_attention, rng):
    """Later keys get weight 0 however low the other scores are, and a score of 0 is a score like any other."""
    for scale in (0.0, 1e6):
        for q, k, v in triples(rng, torch.float64):
            check_grouped(grouped_query_attention, scale * q, scale * k, v)


def test_grouped_query_attention__gradient(grouped_query_attention, rng):
    """The gradients of queries, keys and values are derivatives."""
    for q, k, v in list(triples(rng, torch.float64))[2:7:2]:
        assert_gradient_values(grouped_query_attention, q, k, v)


# --- 5. A cache

# equivalent mutant of LayerCache, Is -> Eq: of None
# equivalent mutant of LayerCache, k -> v: no positions of v are as good as none of k
# equivalent mutant of LayerCache, v -> k: no positions of k are as good as none of v
# equivalent mutant of LayerCache, 0 -> 1: there are as many values as keys
# equivalent mutant of LayerCache, 0 -> -1: there are as many values as keys
# equivalent mutant of LayerCache, 1 -> -1: the last of two is the second


def _joined(axis):
    return lambda parts: torch.cat(parts, axis)


CACHE_SLIPS = {
    "returns only the new keys and values: all of them are meant": lambda parts: parts[-1],
    "puts the new in front of the old: positions go on behind": lambda parts: torch.cat(parts[::-1], 1),
    "keeps only the latest piece: the earlier ones are lost": lambda parts: torch.cat(parts[-2:], 1),
    "returns what it held before, without the new": lambda parts: torch.cat(parts[:-1] or [parts[0][:, :0]], 1),
    **{f"joins along axis {axis}: axis 1 holds the positions": _joined(axis) for axis in (0, 2, 3)},
}


def test_LayerCache(LayerCache, rng):
    """All keys and values so far, in order, and how many positions; each cache by itself."""
    for lengths in ((1, 1, 1), (2, 1, 3, 1), (1, 4), (1, 1500, 1)):
        for batch, heads, d_head, dtype in (
            (1, 1, 1, torch.float32),
            (2, 3, 4, torch.float64),
            (3, 2, 2, torch.float32),
        ):
            check_cache(LayerCache, [[rng.normal(batch, n, heads, d_head, dtype=dtype) for n in lengths] for _ in "kv"])


def check_cache(LayerCache, pieces):
    cache, outs, lengths = LayerCache(), [], [0]
    assert_equal(assert_plain(len(cache), int), 0, "shares what it keeps with other caches? len of a new one")
    for k, v in zip(*pieces, strict=True):
        with nothing_left_behind(), unchanged(k, v):
            out = cache.extend(k, v)
        assert isinstance(out, tuple | list) and len(out) == 2, "extend should return two tensors: all k, all v"
        outs.append([assert_tensor(x).clone() for x in out])
        lengths.append(assert_plain(len(cache), int))
    sofar = [[parts[: n + 1] for parts in pieces] for n in range(len(outs))]
    right = [[torch.cat(parts, 1) for parts in both] for both in sofar]
    assert not same(outs, [both[::-1] for both in right]), "returns the values first: keys, then values"
    for n, (out, expected, both) in enumerate(zip(outs, right, sofar, strict=True), 1):
        assert same(out, expected) or not cache_slip(outs, sofar), f"{cache_slip(outs, sofar)} ({len(both[0])} pieces)"
        for name, got, want in zip(("keys", "values"), out, expected, strict=True):
            assert_precise(got, want, f"the {name} after {n} piece(s) are not all {name} in order")
    positions = [0, *(both[0].shape[1] for both in right)]
    if positions[-1] != len(outs):
        assert lengths != list(range(len(outs) + 1)), "len counts the pieces: positions are meant"
    assert_equal(lengths, positions, "len of a new cache and after each piece is not the number of its positions")


def cache_slip(outs, sofar):
    """The one slip that gives all of these outputs, or ''."""

    def explains(slip):
        try:
            return all(same(out, [slip(parts) for parts in both]) for out, both in zip(outs, sofar, strict=True))
        except RuntimeError:  # pieces of different lengths, which only axis 1 joins
            return False

    return one_name(text for text, slip in CACHE_SLIPS.items() if explains(slip))


# --- 6. Attention

# equivalent mutant of LlamaAttention, drop device= of arange: where there is one device
# equivalent mutant of LlamaAttention, IsNot -> NotEq: of None
# equivalent mutant of LlamaAttention, Is -> Eq: of None
# equivalent mutant of LlamaAttention, keep LayerCache: an annotation
# equivalent mutant of LlamaAttention, keep None: an annotation
# equivalent mutant of LlamaAttention, 0 -> 1: without a past only distances count, so any start will do
# equivalent mutant of LlamaAttention, 0 -> -1: without a past only distances count, so any start will do
# equivalent mutant of LlamaAttention, swap arguments 0 and 1 of transpose: the same two axes
# equivalent mutant of LlamaAttention, 2 -> -2: axis 2 of four


def test_LlamaAttention(LlamaAttention, rng):
    """Projections, rope on queries and keys, groups, and what the heads write."""
    check_part("LlamaAttention", LlamaAttention, rng, attention, "not what Llama's attention gives")


def test_LlamaAttention__cache(LlamaAttention, LayerCache, rng):
    """Piece by piece with a cache it gives what the whole text gives; the cache holds every position."""

    def given(c, batch, pos):
        return rng.normal(batch, pos, c.d_model, dtype=torch.float64)

    check_pieces("LlamaAttention", LlamaAttention, rng, attention, lambda c: LayerCache(), given)
    c = Config()
    module, _ = build("LlamaAttention", LlamaAttention, c, rng)
    cache = LayerCache()
    module(rng.normal(1, 3, c.d_model), cache)
    assert_equal(len(cache), 3, "after a text of 3 positions the cache holds another number")


def test_LlamaAttention__gradient(LlamaAttention, rng):
    """A gradient reaches every weight and the input, and each is the derivative."""
    c = Config()
    module, _ = build("LlamaAttention", LlamaAttention, c, rng)
    assert_trains(module, rng.normal(2, 4, c.d_model))


# --- 7. SwiGLU


def test_SwiGLU(SwiGLU, rng):
    """SiLU of the gate, times up, times W_down."""
    check_part("SwiGLU", SwiGLU, rng, swiglu, "not what SwiGLU gives")


def test_SwiGLU__gradient(SwiGLU, rng):
    """A gradient reaches every weight and the input."""
    c = Config()
    module, _ = build("SwiGLU", SwiGLU, c, rng)
    assert_trains(module, rng.normal(2, 3, c.d_model))


# --- 8. Block and whole

# equivalent mutant of LlamaBlock, keep LayerCache: an annotation
# equivalent mutant of LlamaBlock, keep None: an annotation
# equivalent mutant of Llama, keep list[LayerCache]: an annotation
# equivalent mutant of Llama, keep None: an annotation


def test_LlamaBlock(LlamaBlock, rng):
    """Your own parts, composed as Llama does; and the whole agrees with the slow computation."""
    for c in CONFIGS:
        module, weights = build("LlamaBlock", LlamaBlock, c, rng, torch.float64)
        for x in inputs(c, rng, torch.float64):
            out, composed = run_part(module, x), own_composition(module, x)
            how = "" if same(out, composed) else how_composed(module, x)
            assert_output("LlamaBlock", module, c, weights, x, out, composed, how)
            message = "the parts are composed rightly, but one of them is not Llama's: run the checks above again"
            assert_precise(out, block(weights, x, c), message, loosen=100)
    assert_trains(module, x)


def test_LlamaBlock__cache(LlamaBlock, LayerCache, rng):
    """Piece by piece with a cache it gives what the whole text gives."""

    def given(c, batch, pos):
        return rng.normal(batch, pos, c.d_model, dtype=torch.float64)

    check_pieces("LlamaBlock", LlamaBlock, rng, block, lambda c: LayerCache(), given)


def watch(model, c):
    """Hooks on the learner's parts; what passes is written to the dict returned, under the names of `llama`."""
    seen = {}

    def first_input(module, args, kwargs):
        read = [*args, *kwargs.values()]
        seen.setdefault("where the first block reads (rows of W_E)", read[0].detach().clone())

    def keep(place):
        return lambda module, args, out: seen.update({place: out.detach().clone()})

    blocks = [model.get_submodule(f"blocks.{layer}") for layer in range(c.n_layers)]
    blocks[0].register_forward_pre_hook(first_input, with_kwargs=True)
    for layer, block_ in enumerate(blocks):
        block_.register_forward_hook(keep(f"after blocks[{layer}]"))
    model.ln_final.register_forward_hook(keep("after ln_final"))
    return seen


def test_Llama(Llama, rng):
    """The residual stream before and after every block, and the logits, for several sizes."""
    for c in (Config(n_layers=3), *CONFIGS):
        model, weights = build("Llama", Llama, c, rng, torch.float64)
        seen = watch(model, c)
        for batch, pos in ((2, 4), (1, 1), (1, N_CTX), (3, 3)):
            tokens = strided(rng.integers(0, c.d_vocab, batch, pos))
            seen.clear()
            out = assert_tensor(run_part(model, tokens), dtype=torch.float64)
            departs = first_departure({**seen, "at the logits": out.detach()}, llama(weights, tokens, c))
            if departs:
                slip = named("Llama", model, c, weights, tokens, (whole,))
                raise AssertionError(f"{slip} ({departs})" if slip else departs)
    assert_trains(model, tokens)


def first_departure(seen, expected):
    """Where the learner's stream first leaves Llama's, or ''."""
    for place, right in expected.items():
        if place not in seen:
            continue
        got = seen[place]
        if got.shape != right.shape:
            return f"your residual stream first departs {place}: shape {list(got.shape)}, not {list(right.shape)}"
        if not torch.allclose(got, right, rtol=1e-7, atol=1e-8):
            by = (got - right).abs().max().item()
            return f"your residual stream first departs from Llama's {place}: entries differ by up to {by:.3g}"
    return ""


def test_Llama__cache(Llama, LayerCache, rng):
    """Piece by piece, a cache for each layer, it gives the logits of the whole text."""

    def given(c, batch, pos):
        return rng.integers(0, c.d_vocab, batch, pos)

    def logits(weights, tokens, c):
        return llama(weights, tokens, c)["at the logits"]

    check_pieces("Llama", Llama, rng, logits, lambda c: [LayerCache() for _ in range(c.n_layers)], given)


# --- 9. Real weights


def their_weights(c, rng):
    """A state dict under Hugging Face's names."""
    d, queries, shared = c.d_model, c.n_heads * c.d_head, c.n_kv_heads * c.d_head
    shapes = {"model.embed_tokens.weight": (c.d_vocab, d)}
    for layer in range(c.n_layers):
        its = f"model.layers.{layer}"
        shapes |= {f"{its}.self_attn.q_proj.weight": (queries, d), f"{its}.self_attn.k_proj.weight": (shared, d)}
        shapes |= {f"{its}.self_attn.v_proj.weight": (shared, d), f"{its}.self_attn.o_proj.weight": (d, queries)}
        shapes |= {f"{its}.mlp.{name}_proj.weight": (c.d_mlp, d) for name in ("gate", "up")}
        shapes |= {f"{its}.mlp.down_proj.weight": (d, c.d_mlp)}
        shapes |= {f"{its}.{name}_layernorm.weight": (d,) for name in ("input", "post_attention")}
    shapes |= {"model.norm.weight": (d,)}
    weights = {name: rng.normal(*shape) for name, shape in shapes.items()}
    return weights | {"lm_head.weight": weights["model.embed_tokens.weight"]}


def our_weights(theirs, c):
    """What load_smollm2 promises, entry by entry: name to (tensor, where it comes from)."""
    ours = {"W_E": (theirs["model.embed_tokens.weight"], "model.embed_tokens.weight")}
    ours |= {"ln_final.w": (theirs["model.norm.weight"], "model.norm.weight")}
    for layer in range(c.n_layers):
        b, its = f"blocks.{layer}", f"model.layers.{layer}"
        for mine, name in (("ln1.w", "input_layernorm.weight"), ("ln2.w", "post_attention_layernorm.weight")):
            ours[f"{b}.{mine}"] = theirs[f"{its}.{name}"], f"{its}.{name}"
        for letter in "QKV":
            name = f"{its}.self_attn.{letter.lower()}_proj.weight"
            heads = torch.stack([rows.T for rows in theirs[name].split(c.d_head)])
            ours[f"{b}.attn.W_{letter}"] = heads, f"the rows of {name}, d_head for each head, transposed"
        name = f"{its}.self_attn.o_proj.weight"
        heads = torch.stack([columns.T for columns in theirs[name].split(c.d_head, dim=1)])
        ours[f"{b}.attn.W_O"] = heads, f"the columns of {name}, d_head for each head, transposed"
        for part in ("gate", "up", "down"):
            name = f"{its}.mlp.{part}_proj.weight"
            ours[f"{b}.mlp.W_{part}"] = theirs[name].mT, f"{name}, transposed"
    return ours


# the last has n_heads * d_head = d_model, as SmolLM2 has: two more matrices are square
LOADED = (
    Config(d_model=4, n_heads=2, n_kv_heads=1, d_head=2, d_mlp=3, n_layers=12, d_vocab=3),  # layers of two digits
    Config(d_model=6, n_heads=2, n_kv_heads=1, d_head=4, d_mlp=7, n_layers=2, d_vocab=9),
    Config(d_model=9, n_heads=3, n_kv_heads=3, d_head=2, d_mlp=16, n_layers=1, d_vocab=4),
    Config(d_model=24, n_heads=4, n_kv_heads=2, d_head=6, d_mlp=24, n_layers=3, d_vocab=6),
)


def test_load_smollm2(load_smollm2, rng):
    """Every weight lies under our name, in our shape, for several sizes."""
    for c in LOADED:
        theirs = their_weights(c, rng)
        with nothing_left_behind(), unchanged(theirs):
            ours = load_smollm2(theirs, c)
        assert isinstance(ours, dict), f"expected a dict from names to tensors, got {type(ours).__name__}"
        expected = our_weights(theirs, c)
        missing, extra = sorted(expected.keys() - ours.keys()), sorted(ours.keys() - expected.keys())
        assert not missing, f"these weights are missing: {', '.join(missing[:4])} ({len(missing)} in all)"
        assert not extra, f"Llama has no parameter of these names: {', '.join(extra[:4])} ({len(extra)} in all)"
        for name, (right, source) in expected.items():
            assert_precise(ours[name], right, f"{name} is not {source}")


@pytest.mark.seconds(120)
def test_load_smollm2__logits(load_smollm2, Llama, rng):
    """With random weights your Llama gives the logits of transformers' LlamaForCausalLM to 1e-4."""
    from transformers import LlamaConfig, LlamaForCausalLM

    for c in LOADED:
        sizes = {"hidden_size": c.d_model, "intermediate_size": c.d_mlp, "num_hidden_layers": c.n_layers}
        sizes |= {"num_attention_heads": c.n_heads, "num_key_value_heads": c.n_kv_heads, "head_dim": c.d_head}
        sizes |= {"vocab_size": c.d_vocab, "rms_norm_eps": c.eps, "tie_word_embeddings": True}
        sizes |= {"rope_parameters": {"rope_type": "default", "rope_theta": c.theta}}
        tokens = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
        reference = LlamaForCausalLM(LlamaConfig(**sizes, **tokens)).eval()
        # Small enough for rounding to stay small: transformers turns by angles in float32.
        theirs = {name: w / w.shape[-1] ** 0.5 if w.ndim > 1 else w for name, w in their_weights(c, rng).items()}
        reference.load_state_dict(theirs)
        model = Llama(c).eval()
        model.load_state_dict(load_smollm2(theirs, c))
        text = rng.integers(0, c.d_vocab, 2, N_CTX)
        with torch.no_grad():
            right, got = reference(text).logits, model(text)
        message = "the weights are placed rightly, but your Llama's logits are not transformers': run its check again"
        assert_close(got, right, message, rtol=1e-4, atol=1e-4)


def smollm2():
    """The real model's state dict, a text's tokens, and the logits that it gives them. Loaded anew: it is large."""
    from concrete_steps import models

    reference, tokenizer = models.smollm2_hf()
    tokens = tokenizer("<|endoftext|>The Eiffel Tower stands in the city of", return_tensors="pt").input_ids
    with torch.no_grad():
        return reference.state_dict(), tokens, reference(tokens).logits


@pytest.mark.seconds(120)
def test_load_smollm2__real(load_smollm2, Llama):
    """The real SmolLM2-135M in your class: logits within 1e-3 of the reference's, on the same weights."""
    theirs, tokens, right = smollm2()
    c = Config(576, 9, 3, 64, 1536, 30, 49152, 1e-5, 100000.0)
    model = Llama(c).eval()
    # Not the recorded function: it would keep copies of half a gigabyte.
    model.load_state_dict(inspect.unwrap(load_smollm2)(theirs, c))
    with torch.no_grad():
        got = model(tokens)
    assert_close(got, right, "the logits of SmolLM2 in your class are not the reference's", rtol=0, atol=1e-3)


def test_answer_limit(answer_limit):
    """Each token needs every weight once, and only two operations with it."""
    assert_choice(answer_limit, "a", "how many bytes come from memory for one multiplication, and how many in all?")
