"""Checks of 3.0, the placement of step 3. In each the smallest case comes first: a learner is shown that one."""

# equivalent mutant of as_strong, drop USub: the last axis of two is axis 1
# equivalent mutant of as_strong, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of best_layer_p, drop USub: the last axis of two is axis 1
# equivalent mutant of best_layer_p, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of blind_at_distance, drop .clone(): the tensor is the run's own, and no gradient is kept
# equivalent mutant of held_out_scores, BitAnd -> Mult (2x): of truth values a product is "and"
# equivalent mutant of induction_of_blocks, drop device= of arange: where there is one device
# equivalent mutant of induction_of_blocks, pattern -> length: of their device, where there is one device
# equivalent mutant of induction_of_blocks, BitAnd -> Mult: of truth values a product is "and"
# equivalent mutant of induction_of_blocks, 2 -> 3: a pattern has as many keys as queries
# equivalent mutant of induction_of_blocks, 2 -> -2: of four axes, 2 is the last but one
# equivalent mutant of match_gain, drop device= of eye: where there is one device
# equivalent mutant of match_gain, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of settles_at, drop names_filter= of run_with_cache: more is kept than is read
# equivalent mutant of settles_at, drop .endswith(): a name is true, so all is kept, which is more than is read
# equivalent mutant of settles_at, drop endswith(...): a text is true, so all is kept, which is more than is read
# equivalent mutant of settles_at, drop USub: of the logits at one position the last axis of two is axis 1
# equivalent mutant of settles_at, 1 -> -1: a double minus is a plus: the last axis of two is axis 1
# equivalent mutant of split_logit, drop USub: the stream has two axes: the last is axis 1
# equivalent mutant of split_logit, 1 -> -1: a double minus is a plus: the last axis of two is axis 1
# equivalent mutant of steer_from, drop device= of arange: where there is one device
# equivalent mutant of steer_from, resid -> push: of their device, where there is one device
# equivalent mutant of steer_from, resid -> start: of their device, where there is one device
# equivalent mutant of transplant, drop line resid = resid.clone(): the tensor is the run's own, and no gradient is kept
# equivalent mutant of transplant, drop .clone(): the tensor is the run's own, and no gradient is kept
# equivalent mutant of transplant, drop names_filter= of run_with_cache: more is kept than is read
# equivalent mutant of transplant, tokens -> at: there is one place a row
# equivalent mutant of transplant, tokens -> other: both have as many rows
# equivalent mutant of transplant, tokens -> other_at: there is one place a row
# equivalent mutant of blind_at_distance, drop line pattern = pattern.clone(): the tensor is the run's own
# equivalent mutant of held_out_scores, drop .unique(): a group's scores are written again, the same
# equivalent mutant of held_out_scores, 0 -> -1: any column has the scores' shape; all are written afterwards
# equivalent mutant of steer_from, resid -> tokens (2x): as many positions; of its device, where there is one device

import copy
import math

import torch
from torch import nn

from concrete_steps.checking.testing import (
    answer_to,
    assert_close,
    assert_equal,
    assert_gradient_values,
    assert_plain,
    assert_precise,
    assert_tensor,
    drawn_bridge,
    nothing_left_behind,
    settled,
    shapes_with_ones,
    strided,
    unchanged,
)

BOTH = (torch.float32, torch.float64)


# --- The models of the checks

SIZES = {
    "norms": {"n_heads": 2, "n_layers": 3, "d_mlp": 8, "act_fn": "gelu", "normalization_type": "LN"},
    "one layer": {"n_heads": 3, "n_layers": 1, "d_mlp": 6, "act_fn": "relu", "normalization_type": "LN"},
    "deep": {"n_heads": 2, "n_layers": 5, "d_mlp": 8, "act_fn": "gelu", "normalization_type": "LN"},
    "shared keys": {
        "n_heads": 4,
        "n_key_value_heads": 2,
        "n_layers": 2,
        "normalization_type": "RMS",
        "positional_embedding_type": "rotary",
        "gated_mlp": True,
        "act_fn": "silu",
        "d_mlp": 10,
    },
}
D_MODEL, D_VOCAB = 8, 11


def tiny(kind, rng):
    """A tiny model of random weights, large enough that every part shows in the logits."""
    sizes = {"d_model": D_MODEL, "d_head": 4, "n_ctx": 16, "d_vocab": D_VOCAB} | SIZES[kind]
    return copy.deepcopy(drawn_bridge(rng, **sizes))  # of its own: a call put again later must find the same weights


def resid(layer):
    return f"blocks.{layer}.hook_resid_post"


@torch.no_grad()
def stream_at(model, tokens, layer):
    """The stream after this layer, [row pos d_model]."""
    seen = []
    model.run_with_hooks(tokens, fwd_hooks=[(resid(layer), lambda x, hook: seen.append(x.clone()))])
    return seen[0]


def logits_from(function, model, *inputs, shape):
    """What the function gives for the model and these inputs: no hook is left, no gradient, and all is as it was."""
    with unchanged(*inputs), nothing_left_behind(settled(model)):
        try:
            logits = function(model, *inputs)
        finally:
            left = [name for name, point in model.hook_dict.items() if point.fwd_hooks]
            model.reset_hooks()
            assert not left, (
                f"a hook stays behind in the model, at {left[0]}: run_with_hooks takes its hooks away, add_hook not"
            )
    assert_tensor(logits, shape=shape)
    assert not logits.requires_grad, "the result keeps a gradient: run the model under torch.no_grad()"
    return logits


# --- 1. Hooks


class Broken(Exception):
    pass


class Part(nn.Module):
    """Calls its parts as often as it is told, some never."""

    def __init__(self, parts, plan, breaks_at=None):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.plan, self.breaks_at = plan, breaks_at

    def forward(self, x):
        for step, name in enumerate(self.plan):
            if step == self.breaks_at:
                raise Broken("the model breaks off")
            x = self.get_submodule(name)(x)
        return x


def nested(rng, breaks_at=None):
    """A model whose parts run 0 to 3 times, and how often each does."""
    inner = [rng.integer(0, 3) for _ in range(2)]
    block = Part({"a": nn.Identity(), "b": nn.Tanh()}, ["a"] * inner[0] + ["b"] * inner[1])
    first, times, again = rng.integer(0, 2), rng.integer(1, 4), rng.integer(1, 3)
    parts = {"block": block, "pair": nn.Sequential(nn.Identity(), nn.Tanh()), "heap": nn.ModuleList([nn.Tanh()])}
    plan = ["heap.0"] * first + ["block"] * times + ["pair"] * again
    counts = {"block": times, "block.a": times * inner[0], "block.b": times * inner[1]}
    counts |= {"pair": again, "pair.0": again, "pair.1": again, "heap": 0, "heap.0": first}
    return Part(parts, plan, breaks_at), counts


def test_times_called(times_called, rng):
    """Parts within parts, called several times, once, and never; whatever runs has its own count."""
    cases = [(Part({"a": nn.Tanh(), "b": nn.Tanh()}, ["a"]), {"a": 1, "b": 0})]
    cases += [(Part({"a": nn.Tanh(), "b": nn.Tanh()}, ["a", "b", "b"]), {"a": 1, "b": 2})]
    cases += [(nn.Sequential(nn.Sequential(nn.Tanh()), nn.Identity()), {"0": 1, "0.0": 1, "1": 1})]
    cases += [nested(rng) for _ in range(6)]
    for model, expected in cases:
        with unchanged(x := rng.normal(1, 2)), nothing_left_behind(model):
            counts = assert_plain(times_called(model, x), dict)
        missing, extra = [path for path in expected if path not in counts], set(counts) - set(expected)
        assert not missing, f"the part at {missing[0]!r} has no entry; it is called {expected[missing[0]]} x"
        assert not extra, f"there is an entry for {sorted(map(str, extra))[0]!r}, which is no part of the model"
        for path, number in expected.items():
            said = f"of parts called {expected}, the count of {path!r}"
            assert_equal(assert_plain(counts[path], int), number, said)


def test_times_called__failing(times_called, rng):
    """Where the run fails, its error reaches the caller, and no hook stays"""
    model, counts = nested(rng, breaks_at=1)
    try:
        times_called(model, rng.normal(1, 2))
    except Broken:
        hooked = [path for path in counts if hooks_of(model.get_submodule(path))]
        said = "where the run fails, a hook stays behind"
        assert not hooked, f"{said}, at {(hooked or [''])[0]!r}: remove your hooks in a finally clause"
        return
    raise AssertionError("the model's own error does not reach the caller")


def hooks_of(part):
    return [*part._forward_hooks, *part._forward_pre_hooks]


def test_times_called__others(times_called, rng):
    """Hooks that somebody else had put there stay, and are called"""
    model, expected = Part({"a": nn.Tanh(), "b": nn.Tanh()}, ["a", "b", "a"]), {"a": 2, "b": 1}
    seen = []
    model.a.register_forward_hook(lambda part, args, out: seen.append(out))
    model.b.register_forward_pre_hook(lambda part, args: None)
    with nothing_left_behind(model):
        assert_equal(times_called(model, rng.normal(1, 2)), expected, "with a hook of somebody else's at 'a'")
    assert_equal(len(seen), 2, "the model was to run once: so often was the hook of somebody else at 'a' called")


@torch.no_grad()
def idle(model, tokens, layers):
    """Logits of a run in which attention and MLP of these layers write nothing."""

    def nothing(x, hook):
        return torch.zeros_like(x)

    hooks = [(f"blocks.{layer}.hook_{part}", nothing) for layer in layers for part in ("attn_out", "mlp_out")]
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


def test_without_layers(without_layers, rng):
    """One layer, the first, the last, neighbours, all, none; as if its attention and its MLP wrote nothing."""
    cases = [("one layer", 1, 1, [0]), ("norms", 1, 3, [1]), ("norms", 2, 4, [0, 1]), ("deep", 3, 5, [4, 1, 2])]
    cases += [("shared keys", 2, 3, [0]), ("norms", 2, 3, [2]), ("shared keys", 1, 4, [0, 1]), ("norms", 1, 2, [])]
    for kind, rows, pos, layers in cases:
        model, tokens = tiny(kind, rng), rng.integers(0, D_VOCAB, rows, pos)
        expected, listed = idle(model, tokens, layers), list(layers)
        logits = logits_from(without_layers, model, tokens, listed, shape=expected.shape)
        said = f"layers {layers} of {model.cfg.n_layers} left out: not the logits of a run in which they write nothing"
        assert_close(logits, expected, said, atol=1e-4)


# --- 2. Attention heads and induction


def patterns(rng, rows, heads, pos):
    """Causal patterns of random weights."""
    later = torch.ones(pos, pos, dtype=torch.bool).triu(1)
    return (2 * rng.normal(rows, heads, pos, pos)).masked_fill(later, -torch.inf).softmax(-1)


def test_induction_of_blocks(induction_of_blocks, rng):
    """The key after the query's token in the first block; blocks of one length and of several; padding and none."""
    cases = [(1, 1, 4, [2]), (1, 2, 7, [2]), (2, 1, 8, [4, 2]), (3, 3, 12, [5, 2, 6]), (2, 2, 9, [3, 3])]
    for rows, heads, pos, lengths in cases:
        pattern, length = strided(patterns(rng, rows, heads, pos)), torch.tensor(lengths)
        actual = assert_tensor(answer_to(induction_of_blocks, pattern, length), shape=(heads,))
        weights = []
        for row, n in enumerate(lengths):
            tokens = list(range(n)) * 2
            for query in range(n, 2 * n):
                weights.append(pattern[row, :, query, tokens.index(tokens[query]) + 1])
        said = f"blocks of {lengths} in {pos} positions: not the mean over the {len(weights)} queries"
        assert_close(actual, torch.stack(weights).mean(0), said)
    pattern, length = patterns(rng, 2, 2, 7).double(), torch.tensor([3, 2])
    expected = sum(pattern[0, :, q, q - 2] for q in (3, 4, 5)) + sum(pattern[1, :, q, q - 1] for q in (2, 3))
    assert_precise(induction_of_blocks(pattern, length), expected / 5, "loses digits")
    assert_gradient_values(lambda x: induction_of_blocks(x, length), pattern, rng=rng)


@torch.no_grad()
def blinded(model, tokens, layer, head, back):
    """Logits of a run in which this head's weights are rewritten query by query."""

    def rewrite(pattern, hook):
        pattern = pattern.clone()
        for query in range(back, pattern.shape[2]):
            seen = [key for key in range(query + 1) if key != query - back]
            total = pattern[:, head, query, seen].sum(-1, keepdim=True)
            pattern[:, head, query, seen] /= total
            pattern[:, head, query, query - back] = 0
        return pattern

    return model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_pattern", rewrite)])


def test_blind_at_distance(blind_at_distance, rng):
    """One head of one layer, at distances up to beyond the text; the other weights in proportion, sum 1."""
    cases = [("one layer", 1, 2, 0, 0, 1), ("norms", 1, 3, 1, 1, 1), ("norms", 2, 5, 0, 0, 2)]
    cases += [("shared keys", 2, 6, 1, 3, 1), ("norms", 3, 4, 2, 1, 3), ("shared keys", 2, 3, 0, 2, 5)]
    cases.append(("norms", 1, 3, 1, 0, 3))  # just beyond the text: a negative position is no position
    for kind, rows, pos, layer, head, back in cases:
        model, tokens = tiny(kind, rng), rng.integers(0, D_VOCAB, rows, pos)
        expected = blinded(model, tokens, layer, head, back)
        logits = logits_from(blind_at_distance, model, tokens, layer, head, back, shape=expected.shape)
        assert not logits.isnan().any(), f"{back} back in {pos} positions: the logits have nan in them"
        said = f"layer {layer}, head {head}, {back} back: not the logits of that run"
        assert_close(logits, expected, said, atol=1e-4)


# --- 3. Logit attribution and lenses


def test_split_logit(split_logit, rng):
    """A term for each part and the bias's; they add up to the logit; parts of one size and of many, not centred."""
    for parts, rows, d_model, d_vocab in [(1, 1, 2, 2), *shapes_with_ones(3, 2, 6, 5)[1:3], (3, 2, 6, 5), (4, 3, 5, 7)]:
        for size, eps in ((1.0, 1e-5), (3.0, 0.1)):
            written = size * rng.normal(parts, rows, d_model) + rng.normal(parts, 1, 1)
            weight, bias, W_U = 1 + 0.5 * rng.normal(d_model), rng.normal(d_model), rng.normal(d_model, d_vocab)
            token = rng.integers(0, d_vocab, rows)
            given = strided(written), strided(weight), strided(bias), strided(W_U), token, eps
            actual = assert_tensor(answer_to(split_logit, *given), shape=(parts + 1, rows))
            stream, norm = written.sum(0), (weight, bias, eps)
            logits = torch.nn.functional.layer_norm(stream, (d_model,), *norm) @ W_U
            whole = logits[torch.arange(rows), token]
            expected = torch.zeros(parts + 1, rows)
            for row in range(rows):
                column, centred = W_U[:, token[row]], stream[row] - sum(stream[row]) / d_model
                scale = (sum(centred**2) / d_model + eps) ** 0.5
                for part in range(parts):
                    own = written[part, row] - sum(written[part, row]) / d_model
                    expected[part, row] = (own / scale * weight) @ column
                expected[parts, row] = bias @ column
            near = {"rtol": 1e-3, "atol": 1e-3}
            assert_close(
                actual.sum(0), whole, "the terms of the parts and of the bias do not add up to the logit", **near
            )
            assert_close(actual, expected, "the terms add up to the logit, but one is not what its part wrote", **near)
    given = [rng.normal(3, 2, 4, dtype=torch.float64), *(rng.normal(4, dtype=torch.float64) for _ in range(2))]
    given.append(rng.normal(4, 5, dtype=torch.float64))
    token = torch.tensor([1, 4])
    logits = torch.nn.functional.layer_norm(given[0].sum(0), (4,), *given[1:3], 1e-5) @ given[3]
    total = split_logit(*given, token)
    assert_precise(total.sum(0), logits[[0, 1], token], "the terms do not add up to the logit: digits are lost")


@torch.no_grad()
def lens_by_layer(model, tokens):
    """Logits at the last position after each layer, by the norm's formula: [layer row d_vocab]."""
    streams = []
    hooks = [(resid(layer), lambda x, hook: streams.append(x[:, -1].clone())) for layer in range(model.cfg.n_layers)]
    model.run_with_hooks(tokens, fwd_hooks=hooks)
    x = torch.stack(streams).double()
    has_mean = model.cfg.normalization_type == "LN"
    x = x - x.mean(-1, keepdim=True) if has_mean else x
    x = x / (x.square().mean(-1, keepdim=True) + model.cfg.eps).sqrt() * model.ln_final.weight
    return (x + model.ln_final.bias if has_mean else x) @ model.unembed.weight.double().T


def settling(said):
    """First layer of agreement for good, and of agreement at all, row by row; of what is said, [layer row]."""
    agrees = (said == said[-1]).T.tolist()
    return [next(i for i in range(len(row)) if all(row[i:])) for row in agrees], [row.index(True) for row in agrees]


def answers_of_each_kind(kind, rng, pos, some, mild=False):
    """A model, and tokens whose answers settle at different layers, the first in another than where it first came.

    With `some` 0 it is the one row that settles first. With a `mild` last norm (but for the length it changes little)
    most answers are the same without it: so what never agrees is told from what leaves the norm out.
    """
    while True:
        model, tokens = tiny(kind, rng), rng.integers(0, D_VOCAB, 60, pos)
        with torch.no_grad():
            if mild:
                model.ln_final.weight.mul_(0.3).add_(1)
                model.ln_final.bias.mul_(0.3)
                model.unembed.weight -= model.unembed.weight.mean(1, keepdim=True)
            for layer in model.blocks:
                for parameter in layer.parameters():
                    parameter *= 0.8 if parameter.ndim > 1 else 1  # so that what was there counts for something
        logits = lens_by_layer(model, tokens)
        best, second = logits.topk(2, dim=-1).values.unbind(-1)
        clear = ((best - second) > 1e-4).all(0).tolist()
        settled_at, first_seen = settling(logits.argmax(-1))
        turns = [row for row in range(60) if clear[row] and first_seen[row] < settled_at[row]]
        first_of = {settled_at[row]: row for row in range(60) if clear[row]}
        if (turns or model.cfg.n_layers < 3) and len(first_of) >= min(3, model.cfg.n_layers):
            if not some:
                return model, tokens[[first_of[min(first_of)]]]
            chosen = [*turns[:2], *first_of.values(), *(row for row in range(60) if clear[row])]
            return model, tokens[list(dict.fromkeys(chosen))[:some]]


def test_settles_at(settles_at, rng):
    """Answers that stand from the start, come late, come and go; one layer and five, two kinds of norms."""
    cases = [("norms", 1, 3), ("one layer", 2, 4), ("deep", 12, 5, True), ("shared keys", 6, 3), ("deep", 12, 5)]
    for kind, some, pos, *mild in [*cases, ("deep", 0, 3)]:
        model, tokens = answers_of_each_kind(kind, rng, pos, some, *mild)
        said = lens_by_layer(model, tokens).argmax(-1)
        with unchanged(tokens), nothing_left_behind(settled(model)):
            actual = assert_tensor(settles_at(model, tokens), shape=(len(tokens),))
        assert not actual.is_floating_point(), "a layer is a whole number"
        for row, layer in enumerate(settling(said)[0]):
            shown = f"row {row}: the lens says {said[:, row].tolist()} after layers 0 to {len(said) - 1}"
            assert_equal(int(actual[row]), layer, f"{shown}, and the last is the model's answer; the layer")


# --- 4. Patching


@torch.no_grad()
def moved_vectors(model, tokens, at, other, other_at, layer):
    """Logits of runs of one row each, in which the stream is put together again."""
    logits = []
    for row, (to, from_) in enumerate(zip(at, other_at, strict=True)):
        vector = stream_at(model, other[row : row + 1], layer)[:, from_ : from_ + 1]

        def put(x, hook, vector=vector, to=to):
            return torch.cat([x[:, :to], vector, x[:, to + 1 :]], dim=1)

        logits.append(model.run_with_hooks(tokens[row : row + 1], fwd_hooks=[(resid(layer), put)]))
    return torch.cat(logits)


def test_transplant(transplant, rng):
    """One vector of each row, after its layer, from and to places of its own; texts of other lengths."""
    # Not after the last layer: of TransformerLens 4.3 a run that is to stop there gives logits, not the stream.
    cases = [("norms", 1, 2, 3, 0), ("norms", 1, 4, 4, 1), ("shared keys", 3, 4, 6, 0), ("deep", 2, 5, 3, 2)]
    cases += [("deep", 3, 5, 5, 3), ("shared keys", 4, 4, 2, 0)]
    for kind, rows, pos, other_pos, layer in cases:
        model = tiny(kind, rng)
        tokens, other = rng.integers(0, D_VOCAB, rows, pos), rng.integers(0, D_VOCAB, rows, other_pos)
        at, other_at = rng.integers(0, pos, rows), rng.integers(0, other_pos, rows)
        if rows > 1:
            at[0], other_at[0], at[1], other_at[1] = 0, other_pos - 1, pos - 1, 0
        else:
            at[0], other_at[0] = 0, 1
        expected = moved_vectors(model, tokens, at.tolist(), other, other_at.tolist(), layer)
        given = model, tokens, at, other, other_at, layer
        logits = logits_from(transplant, *given, shape=(rows, pos, D_VOCAB))
        said = f"after layer {layer}, from positions {other_at.tolist()} to {at.tolist()}, one a row: wrong logits"
        assert_close(logits, expected, said, atol=1e-4)


def test_enough_and_needed(enough_and_needed, rng):
    """Heads that are both, one alone, neither, and harmful ones; the clean prompt's measure above, or below."""
    first = (4.0, 0.0, torch.tensor([[4.0, 0.0, 4.0, 0.0]]), torch.tensor([[0.0, 0.0, 4.0, 4.0]]), 0.5)
    cases = [first, (4.0, 0.0, torch.tensor([[2.0, 1.0]]), torch.tensor([[2.0, 3.0]]), 0.5)]  # just the share
    cases.append((0.0, 4.0, torch.tensor([[2.0], [3.0]]), torch.tensor([[2.0], [1.0]]), 0.5))
    for layers, heads, share in [(1, 1, 0.5), (2, 3, 0.3), (3, 4, 0.7), (3, 4, 0.3), (4, 1, 0.5)]:
        for way in (1, -1):
            clean, corrupted = way * (1 + rng.uniform(1).item()) + 3, 3 - way * (1 + rng.uniform(1).item())
            tables = [corrupted + (clean - corrupted) * rng.uniform(layers, heads, low=-0.5, high=1.5) for _ in "xx"]
            cases.append((clean, corrupted, strided(tables[0]), strided(tables[1]), share))
    for clean, corrupted, into_corrupted, into_clean, share in cases:
        result = answer_to(enough_and_needed, clean, corrupted, into_corrupted, into_clean, share)
        assert isinstance(result, tuple | list) and len(result) == 2, "return two tensors: enough, needed"
        enough, needed = (assert_tensor(x, shape=into_clean.shape, dtype=torch.bool) for x in result)
        for layer, head in torch.cartesian_prod(*map(torch.arange, into_clean.shape)).tolist():
            back = (into_corrupted[layer, head].item() - corrupted) / (clean - corrupted)
            lost = 1 - (into_clean[layer, head].item() - corrupted) / (clean - corrupted)
            measured = f"clean {clean:.3g}, corrupted {corrupted:.3g}, share {share}"
            for actual, part, value, words in (
                (enough, back, into_corrupted, "enough: in the corrupted run the measure becomes"),
                (needed, lost, into_clean, "needed: in the clean run the measure becomes"),
            ):
                if part == share or abs(part - share) > 1e-4:  # not near the border, where rounding decides
                    not_ = "" if part >= share else "not "
                    said = f"{measured}: head {layer}, {head} is {not_}{words} {value[layer, head].item():.3g}"
                    assert bool(actual[layer, head]) == (part >= share), said


# --- 5. Circuits in the weights


def test_raised_most(raised_most, rng):
    """From the token looked at to the token raised, for heads with values of their own and shared ones."""
    for d_vocab, d_model, value_heads, heads, d_head in [
        (2, 3, 1, 1, 2),
        (3, 2, 1, 1, 1),
        (4, 3, 1, 3, 2),
        (5, 4, 2, 4, 2),
        (7, 6, 3, 6, 3),
        (6, 5, 3, 3, 1),
    ]:
        W_E, W_U = rng.normal(d_vocab, d_model), rng.normal(d_model, d_vocab)
        W_V, W_O = rng.normal(value_heads, d_model, d_head), rng.normal(heads, d_head, d_model)
        given = [strided(x) for x in (W_E, W_V, W_O, W_U)]
        actual = assert_tensor(answer_to(raised_most, *given), shape=(heads, d_vocab))
        assert not actual.is_floating_point(), "tokens are whole numbers"
        for head in range(heads):
            shared = head * value_heads // heads
            for token in range(d_vocab):
                raised = W_E[token].double() @ W_V[shared].double() @ W_O[head].double() @ W_U.double()
                if raised.topk(2).values.diff().abs() > 1e-4:
                    said = f"query heads: {heads}, value heads: {value_heads}; head {head} looks at {token} and raises "
                    said += f"{[round(x, 2) for x in raised.tolist()]}, most of all token"
                    assert_equal(int(actual[head, token]), int(raised.argmax()), said)


def test_match_gain(match_gain, rng):
    """The mean over matches less the mean over mismatches, in units of scores; heads of other sizes, two tokens."""
    for d_vocab, d_model, d_w, d_r in [(2, 1, 1, 1), (2, 3, 2, 2), (3, 4, 1, 2), (6, 5, 3, 4), (4, 5, 4, 1)]:
        W_E = rng.normal(d_vocab, d_model) + 0.5
        W_V, W_O = rng.normal(d_model, d_w), rng.normal(d_w, d_model)
        W_Q, W_K = rng.normal(d_model, d_r), rng.normal(d_model, d_r)
        given = strided(W_E), (strided(W_V), strided(W_O)), (strided(W_Q), strided(W_K))
        actual = assert_tensor(answer_to(match_gain, *given), shape=())
        matches, others = [], []
        for query in range(d_vocab):
            for noted in range(d_vocab):
                q, k = (W_E[query] @ W_Q).double(), (W_E[noted] @ W_V @ W_O @ W_K).double()
                (matches if query == noted else others).append((q @ k).item() / d_r**0.5)
        gain = sum(matches) / len(matches) - sum(others) / len(others)
        size = max(map(abs, matches + others))
        said = f"{d_vocab} tokens, d_head {d_w} and {d_r}: not the mean score of matches less that of mismatches"
        assert_close(actual, torch.tensor(gain), said, rtol=1e-3, atol=1e-4 * size)
    W_E, W_V, W_O, W_Q, W_K = (
        rng.normal(*shape, dtype=torch.float64) for shape in ((4, 3), (3, 2), (2, 3), (3, 2), (3, 2))
    )
    table = W_E @ W_Q @ (W_E @ W_V @ W_O @ W_K).T / math.sqrt(2)
    expected = table.trace() / 4 - (table.sum() - table.trace()) / 12
    assert_precise(match_gain(W_E, (W_V, W_O), (W_Q, W_K)), expected, "loses digits", loosen=10)


# --- 6. Probes


def probed(rng, sizes, d_model, dtype=torch.float32):
    """Rows of groups of these sizes, in any order, with labels of both kinds outside of each."""
    groups = torch.cat([torch.full((n,), 3 * number + 1) for number, n in enumerate(sizes)])
    while True:
        labels = rng.uniform(len(groups)) < 0.35
        if all(0 < labels[groups != group].sum() < (groups != group).sum() for group in groups.unique()):
            break
    order = rng.permutation(len(groups))
    labels, groups = labels[order], groups[order]
    acts = rng.normal(len(groups), d_model, dtype=dtype) + labels[:, None] + 0.5 * groups[:, None].to(dtype)
    return acts + 2, labels, groups


def test_held_out_scores(held_out_scores, rng):
    """Groups of one row and of many, uneven labels, activations far from 0; no row of a group helps to score it."""
    small = torch.tensor([[0.0], [4.0], [1.0], [7.0]]), torch.tensor([0, 1, 0, 1]).bool(), torch.tensor([0, 0, 1, 1])
    cases = [small]
    cases += [probed(rng, *sizes) for sizes in [((1, 1, 1, 1), 1), ((3, 2, 4), 2), ((6, 1, 5, 2), 4), ((8, 7), 3)]]
    acts, labels, groups = probed(rng, (4, 3, 5), 3)
    cases.append((strided(acts), strided(labels), strided(groups)))
    for acts, labels, groups in cases:
        actual = assert_tensor(answer_to(held_out_scores, acts, labels, groups), shape=labels.shape)
        expected = scores_of(acts, labels, groups)
        row = int((actual.double() - expected).abs().argmax())
        seen = int((groups != groups[row]).sum())
        said = f"row {row} is of group {groups[row]}: not its score by the probe of the {seen} rows of other groups"
        assert_close(actual, expected, said, rtol=1e-3, atol=1e-3)
    acts, labels, groups = probed(rng, (3, 3, 2), 3, torch.float64)
    assert_precise(held_out_scores(acts, labels, groups), scores_of(acts, labels, groups), "loses digits", loosen=10)


def scores_of(acts, labels, groups):
    """Row by row, as a distance from both means."""
    scores = []
    for row, own in enumerate(groups.tolist()):
        seen = [i for i, group in enumerate(groups.tolist()) if group != own]
        means = [
            sum(acts[i].double() for i in seen if labels[i] == truth) / sum(labels[i] == truth for i in seen)
            for truth in (True, False)
        ]
        x = acts[row].double()
        scores.append(((x - means[1]).square().sum() - (x - means[0]).square().sum()) / 2)
    return torch.stack(scores)


def test_best_layer_p(best_layer_p, rng):
    """The best of each draw counts, ties as well; draws that all, none and some beat it; one layer and one draw."""
    cases = [(torch.tensor([0.5, 0.75]), torch.tensor([[0.875, 0.5], [0.5, 0.625], [0.5, 0.75]]))]
    cases += [(torch.tensor([0.75]), torch.tensor([[0.5]])), (torch.tensor([0.75]), torch.tensor([[0.75]]))]
    for layers, draws in [(3, 9), (6, 40), (1, 20), (12, 99), (4, 1)]:
        table = 0.5 + rng.integers(-20, 17, draws, layers) / 64
        cases += [(0.5 + rng.integers(5, 17, layers) / 64, strided(table)), (torch.full((layers,), 0.9375), table)]
        cases.append((torch.full((layers,), 0.5), table))
    for accuracies, shuffled in cases:
        p = assert_plain(answer_to(best_layer_p, accuracies, shuffled), float)
        best = max(accuracies.tolist())
        as_good = sum(max(row) >= best for row in shuffled.tolist())
        said = f"best layer {best:.3g}; {as_good} of {len(shuffled)} draws have a best layer as good: the p value"
        assert_close(p, torch.tensor((1 + as_good) / (1 + len(shuffled))), said)


# --- 7. Steering


@torch.no_grad()
def steered(model, tokens, layer, push, start):
    """Logits with the push and the length put right, position by position."""

    def hook(x, hook):
        x = x.clone()
        for row, first in enumerate(start.tolist()):
            for pos in range(first, x.shape[1]):
                moved = x[row, pos] + push
                x[row, pos] = moved / moved.square().sum() ** 0.5 * x[row, pos].square().sum() ** 0.5
        return x

    return model.run_with_hooks(tokens, fwd_hooks=[(resid(layer), hook)])


def test_steer_from(steer_from, rng):
    """From each row's own position on, after its layer, no longer or shorter than before; from the end, the start."""
    cases = [("one layer", 1, 2, 0, [1]), ("norms", 2, 4, 1, [2, 1]), ("shared keys", 3, 5, 0, [4, 0, 2])]
    cases += [("norms", 1, 3, 2, [0]), ("norms", 3, 4, 0, [3, 3, 1]), ("shared keys", 2, 4, 1, [2, 0])]
    for kind, rows, pos, layer, starts in cases:
        model, tokens = tiny(kind, rng), rng.integers(0, D_VOCAB, rows, pos)
        push, start = strided(3 * rng.normal(D_MODEL)), torch.tensor(starts)
        if pos == 4:  # against the stream, which it makes shorter
            push = -0.6 * stream_at(model, tokens, layer)[0, starts[0]]
        expected = steered(model, tokens, layer, push, start)
        logits = logits_from(steer_from, model, tokens, layer, push, start, shape=expected.shape)
        said = f"after layer {layer}, from positions {starts} of {pos} on: not the logits of that run"
        assert_close(logits, expected, said, atol=1e-4)


def bend(rng, d_model):
    """An effect that is not linear, and not the same to both sides."""
    weight, turn = rng.normal(d_model, dtype=torch.float64), rng.normal(d_model, d_model, dtype=torch.float64)

    def effect(push):
        assert_tensor(push, shape=(d_model,))
        x = push.double()
        return float(weight @ (torch.tanh(turn @ x) + 0.3 * x + 0.2 * x * x))

    return effect


def test_as_strong(as_strong, rng):
    """Brought to the vector's length, and counted on both sides; vectors that are best, weak, long, short, turned."""
    axes = torch.eye(2)

    def first_axis(push):
        return float(assert_tensor(push, shape=(2,))[0])

    cases = [(first_axis, axes[0] + axes[1], torch.stack([axes[0] * 0.1, axes[1] * 9, -axes[0] * 5]), 2)]
    cases.append((first_axis, 3 * axes[0] + axes[1], torch.stack([axes[0] - axes[1], axes[1]]), 0))
    cases.append((first_axis, 2 * axes[0], torch.stack([axes[0] * 8, axes[1], -axes[0] / 2]), 2))  # just as far
    for d_model, n, size in [(1, 1, 2.0), (3, 8, 0.2), (5, 12, 3.0), (8, 30, 1.0), (6, 10, 30.0)]:
        for _ in range(100):
            effect, vector = bend(rng, d_model), size * rng.normal(d_model)
            others = rng.normal(n, d_model) * (0.2 + 3 * rng.uniform(n, 1))
            moved = [effect(push / push.norm() * vector.norm()) for push in others]
            mine = effect(vector)
            if all(abs(abs(value) - abs(mine)) > 1e-3 * abs(mine) for value in moved):
                break
        cases.append((effect, strided(vector), strided(others), sum(abs(value) > abs(mine) for value in moved)))
    for effect, vector, others, expected in cases:
        actual = assert_plain(answer_to(as_strong, effect, vector, others), int)
        moved = [round(effect(push / push.norm() * vector.norm()), 3) for push in others[:4]]
        more = ", ..." if len(others) > 4 else ""
        said = (
            f"the vector moves the measure by {effect(vector):.3f}, others as long by {moved}{more}: as far, or further"
        )
        assert_equal(actual, expected, said)
