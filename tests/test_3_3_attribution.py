"""Checks of 3.3 Logit attribution and lenses. They run on tiny random models, and on ones written by hand."""

import functools

import pytest
import torch
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import wired
from concrete_steps.checking.testing import (
    as_found,
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
# equivalent mutant of residual_decomposition, drop names_filter= of run_with_cache: it keeps what nobody asks for
# equivalent mutant of residual_decomposition, In -> NotEq: the same
# equivalent mutant of fold_layer_norm, keep Float[Tensor, 'd_model']: an annotation
# equivalent mutant of fold_layer_norm, keep None: an annotation
# equivalent mutant of fold_layer_norm, Is -> Eq: nothing but None equals None
# equivalent mutant of direct_logit_attribution, drop USub: of two axes, 1 is the last
# equivalent mutant of direct_logit_attribution, 1 -> -1: --1 is 1, of two axes the last
# equivalent mutant of attribution_by_head, drop names_filter= of run_with_cache: it keeps what nobody asks for
# equivalent mutant of attribution_by_neuron, drop names_filter= of run_with_cache: the same
# equivalent mutant of direct_and_total, drop names_filter= of run_with_cache: the same
# equivalent mutant of direct_and_total, drop line z = z.clone(): its run is thrown away
# equivalent mutant of direct_and_total, drop .clone(): the same
# equivalent mutant of direct_and_total, tokens -> right: both have one entry a row
# equivalent mutant of direct_and_total, tokens -> wrong: both have one entry a row
# equivalent mutant of direct_and_total, drop USub: of two axes, 1 is the last
# equivalent mutant of direct_and_total, 1 -> -1: --1 is 1, of two axes the last
# equivalent mutant of tuned_lens, Sub -> Add: the rows of x have mean 0, so what is added to all of y does not count
# equivalent mutant of tuned_lens, keep y: the same
# equivalent mutant of tuned_lens, drop dtype= of eye: float32 holds 0 and 1, and the sum is in float64
# equivalent mutant of tuned_lens, drop device= of eye: the checks run on one device
# equivalent mutant of tuned_lens, streams -> targets (2x): both are of one dtype
# equivalent mutant of tuned_lens, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of max_activating_examples, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of random_examples, 0 -> -1 (2x): nonzero of one axis has one column
# equivalent mutant of random_examples, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of label_test, drop .float(): a division of whole numbers gives floats
# equivalent mutant of label_test, BitAnd -> Mult (3x): the same of truth values
# equivalent mutant of label_test, 1 -> -1 (2x): of two axes, 1 is the last
# equivalent mutant of label_test, Gt -> NotEq (2x): a count is not negative
# equivalent mutant of find_writers, swap arguments 2 and 3 of attribution_by_head: sizes have no sign
# equivalent mutant of find_writers, Gt -> GtE: no size is just that
# equivalent mutant of find_writers, 1.5 -> 2.5: between the writers' sizes (5 and more) and those of others (below 0.3)
# equivalent mutant of find_writers, 1.5 -> 0.5: the same

# --- The models of the checks

SIZES = {
    # GPT-2's kind: positions are embedded, LayerNorm, biases everywhere
    "layer norm": {"n_heads": 3, "n_layers": 2, "d_mlp": 10, "act_fn": "gelu", "normalization_type": "LN"},
    # SmolLM2's kind: rotary, RMSNorm, shared keys and values, gated MLPs
    "rms norm": {
        "n_heads": 4,
        "n_key_value_heads": 2,
        "n_layers": 3,
        "normalization_type": "RMS",
        "positional_embedding_type": "rotary",
        "gated_mlp": True,
        "act_fn": "silu",
        "d_mlp": 9,
    },
    "attention only": {"n_heads": 1, "n_layers": 2, "attn_only": True, "normalization_type": "RMS"},
}


@functools.cache
def blank(kind):
    """A tiny model; its weights are drawn anew by `tiny`."""
    config = TransformerBridgeConfig(
        **{"d_model": 12, "d_head": 4, "n_ctx": 16, "d_vocab": 11, "seed": 0} | SIZES[kind]
    )
    model = TransformerBridge.boot_native(config, tokenizer=None).eval()
    # The unembedding has a bias, too, before `tiny` draws for the parameters that it finds: each time the same.
    model.unembed._original_component.bias = torch.nn.Parameter(torch.zeros(11))
    return model


def tiny(kind, rng):
    """A tiny model of random weights; the weights of its norms are far from 1, its biases from 0."""
    model = blank(kind).requires_grad_(True)
    model.reset_hooks()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.grad = None
            parameter.copy_(0.6 * rng.normal(*parameter.shape))
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter += 1  # norms
    return model


def drawn(rng, rows, pos=5):
    """Tokens, a right token for each row, and a wrong one that differs."""
    right = rng.integers(0, 11, rows)
    return rng.integers(0, 11, rows, pos), right, (right + rng.integers(1, 11, rows)) % 11


@torch.no_grad()
def activations(model, tokens, *names):
    """Copies of activations at the last position, by hook name; and the logits there."""
    kept = {}

    def watch(name):
        return lambda x, hook: kept.__setitem__(name, x.detach().clone())

    logits = model.run_with_hooks(tokens, fwd_hooks=[(name, watch(name)) for name in names])
    return {name: x[:, -1] for name, x in kept.items()}, logits[:, -1]


def last_stream(model, tokens):
    name = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    return activations(model, tokens, name)[0][name]


@torch.no_grad()
def gap_with_frozen_scale(model, stream, taken, right, wrong):
    """[row]: what right less wrong loses when `taken` leaves the stream and the norm divides by what it did.

    Slowly, by the norm's own definition; nothing is folded.
    """
    rows = torch.arange(len(stream))
    centred = model.cfg.normalization_type == "LN"

    def logits(x, scale):
        x = x - x.mean(-1, keepdim=True) if centred else x
        x = x / scale * model.ln_final.weight
        x = x + model.ln_final.bias if centred else x
        return x @ model.W_U + model.b_U

    x = stream - stream.mean(-1, keepdim=True) if centred else stream
    scale = (x.square().mean(-1, keepdim=True) + model.cfg.eps).sqrt()
    lost = logits(stream, scale) - logits(stream - taken, scale)
    return lost[rows, right] - lost[rows, wrong]


def check_plain(values):
    assert not values.requires_grad, (
        "the result keeps a gradient, and with it all activations of the run: work under torch.no_grad()"
    )


# --- 1. Parts


def hooks_of(model):
    """The hook of each part that the model has, by the part's name."""
    hooks = {"embed": "hook_embed"}
    if model.cfg.positional_embedding_type == "standard":
        hooks["pos_embed"] = "hook_pos_embed"
    for layer in range(model.cfg.n_layers):
        hooks[f"{layer}_attn_out"] = f"blocks.{layer}.hook_attn_out"
        if not model.cfg.attn_only:
            hooks[f"{layer}_mlp_out"] = f"blocks.{layer}.hook_mlp_out"
    return hooks


def check_names(given, expected):
    assert isinstance(given, dict), f"expected a dict from a part's name to what it wrote, got {type(given).__name__}"
    missing, extra = [name for name in expected if name not in given], [name for name in given if name not in expected]
    assert not missing, f"the part {missing[0]!r} is missing"
    assert not extra, f"there is no part {extra[0]!r} in this model: {list(expected)}"


def test_residual_decomposition(residual_decomposition, rng):
    """What each part wrote at the last position, in models with and without MLPs and embedded positions."""
    for kind, rows, pos in (("layer norm", 2, 5), ("rms norm", 3, 4), ("attention only", 1, 3)):
        model = tiny(kind, rng)
        tokens, hooks = rng.integers(0, 11, rows, pos), hooks_of(model)
        expected, _ = activations(model, tokens, *hooks.values())
        with as_found(model, tokens):
            parts = residual_decomposition(model, tokens)
        check_names(parts, hooks)
        for name, hook in hooks.items():
            actual = assert_tensor(parts[name], shape=(rows, 12))
            assert_close(actual, expected[hook], f"{kind}: {name!r} is not what this part wrote at the last position")
            check_plain(actual)
        total = sum(parts.values())
        assert_close(total, last_stream(model, tokens), f"{kind}: the parts do not add up to the last stream", 1e-3)


# --- 2. The last norm


def logits_by_definition(x, W_U, b_U, weight, bias, centred):
    """The logits of a stream, and what its norm divides by."""
    x = x - x.mean(-1, keepdim=True) if centred else x
    scale = (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    normed = x / scale * weight
    return (normed if bias is None else normed + bias) @ W_U + b_U, scale


def test_fold_layer_norm(fold_layer_norm, rng):
    """stream / scale @ W + c gives the logits of LayerNorm and of RMSNorm, for streams whose mean is not 0."""
    for d, n, centred, has_bias, dtype in [
        (4, 6, False, False, torch.float32),
        (5, 3, True, True, torch.float32),
        (7, 1, True, False, torch.float64),
        (1, 4, False, True, torch.float64),
        (6, 6, True, True, torch.float64),
    ]:
        W_U, b_U = strided(rng.normal(d, n, dtype=dtype)), rng.normal(n, dtype=dtype)
        weight = 1 + 0.7 * rng.normal(d, dtype=dtype)
        bias = rng.normal(d, dtype=dtype) if has_bias else None
        with unchanged(W_U, b_U, weight, bias), nothing_left_behind():
            result = fold_layer_norm(W_U, b_U, weight, bias, centred)
        assert isinstance(result, tuple | list) and len(result) == 2, "return Readout(W, c)"
        W, c = assert_tensor(result[0], shape=(d, n)), assert_tensor(result[1], shape=(n,))
        assert W.dtype == c.dtype == dtype, f"W_U and b_U are {dtype}, W and c are {W.dtype} and {c.dtype}"
        stream = 2 + 3 * rng.normal(5, d, dtype=dtype)
        logits, scale = logits_by_definition(stream, W_U, b_U, weight, bias, centred)
        kind = f"{'LayerNorm' if centred else 'RMSNorm'} {'with' if has_bias else 'without'} a bias"
        said = f"{kind}: stream / scale @ W + c is not the logits"
        assert_precise(stream / scale @ W + c, logits, said, loosen=10)


def test_logit_directions(logit_directions, rng):
    """A part's product with the direction is what right less wrong loses without it, the norm's scale frozen."""
    for kind, rows in (("rms norm", 3), ("layer norm", 2), ("attention only", 1)):
        model = tiny(kind, rng)
        tokens, right, wrong = drawn(rng, rows)
        stream = last_stream(model, tokens)
        with as_found(model, stream, right, wrong):
            actual = assert_tensor(logit_directions(model, stream, right, wrong), shape=(rows, 12))
        check_plain(actual)
        written = strided(rng.normal(rows, 12))
        expected = gap_with_frozen_scale(model, stream, written, right, wrong)
        said = f"{kind}: (part * direction).sum(1) is not the part's share of right less wrong"
        assert_close((written * actual).sum(1), expected, said, 1e-3, 1e-4)


def test_answer_raw(answer_raw):
    """The last norm multiplies by weights of its own: raw terms leave them out."""
    assert_choice(answer_raw, "c", "the raw terms were divided by the right scale; what else does that norm do?")


# --- 3. to 5. Attribution


def test_direct_logit_attribution(direct_logit_attribution, rng):
    """A term for each part and the bias; they add up to right less wrong."""
    for kind, rows, pos in (("layer norm", 2, 4), ("rms norm", 3, 5), ("attention only", 1, 3)):
        model = tiny(kind, rng)
        tokens, right, wrong = drawn(rng, rows, pos)
        hooks, stream = hooks_of(model), last_stream(model, tokens)
        written, logits = activations(model, tokens, *hooks.values())
        with as_found(model, tokens, right, wrong):
            terms = direct_logit_attribution(model, tokens, right, wrong)
        check_names(terms, [*hooks, "bias"])
        at = torch.arange(rows)
        for name, term in terms.items():
            check_plain(assert_tensor(term, shape=(rows,)))
            if name != "bias":
                expected = gap_with_frozen_scale(model, stream, written[hooks[name]], right, wrong)
                assert_close(
                    term, expected, f"{kind}: the term of {name!r} is not its share of right less wrong", 1e-3, 1e-4
                )
        said = f"{kind}: the terms do not add up to the right token's logit less the wrong one's"
        assert_close(sum(terms.values()), logits[at, right] - logits[at, wrong], said, 1e-3, 1e-3)


def test_attribution_by_head(attribution_by_head, rng):
    """Each head's own term, at the last position; the output bias belongs to no head."""
    for kind, rows, pos in (("rms norm", 2, 5), ("layer norm", 3, 4), ("attention only", 1, 3)):
        model = tiny(kind, rng)
        tokens, right, wrong = drawn(rng, rows, pos)
        stream = last_stream(model, tokens)
        names = [f"blocks.{layer}.attn.hook_z" for layer in range(model.cfg.n_layers)]
        z, _ = activations(model, tokens, *names)
        expected = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, rows)
        for layer, name in enumerate(names):
            for head in range(model.cfg.n_heads):
                wrote = (z[name][:, head] @ model.blocks[layer].attn.W_O[head]).detach()
                expected[layer, head] = gap_with_frozen_scale(model, stream, wrote, right, wrong)
        with as_found(model, tokens, right, wrong):
            actual = assert_tensor(attribution_by_head(model, tokens, right, wrong), shape=expected.shape)
        said = f"{kind}: entry [layer, head, row] is not that head's share of right less wrong"
        assert_close(actual, expected, said, 1e-3, 1e-4)
        check_plain(actual)


def test_attribution_by_neuron(attribution_by_neuron, rng):
    """Each neuron's own term, in plain and gated MLPs; the output bias belongs to none."""
    # One draw of weights for all calls: each is put to the written mistakes after the last.
    models = {kind: tiny(kind, rng) for kind in ("rms norm", "layer norm")}
    for kind, layer, rows, pos in (("rms norm", 1, 2, 5), ("layer norm", 0, 3, 4), ("rms norm", 2, 1, 3)):
        model = models[kind]
        tokens, right, wrong = drawn(rng, rows, pos)
        stream = last_stream(model, tokens)
        post, _ = activations(model, tokens, f"blocks.{layer}.mlp.hook_post")
        post, W_out = post[f"blocks.{layer}.mlp.hook_post"], model.blocks[layer].mlp.W_out.detach()
        expected = torch.stack(
            [
                gap_with_frozen_scale(model, stream, post[:, n : n + 1] * W_out[n], right, wrong)
                for n in range(model.cfg.d_mlp)
            ]
        )
        with as_found(model, tokens, right, wrong):
            actual = assert_tensor(attribution_by_neuron(model, tokens, layer, right, wrong), shape=expected.shape)
        said = f"{kind}, layer {layer}: entry [neuron, row] is not that neuron's share of right less wrong"
        assert_close(actual, expected, said, 1e-3, 1e-4)
        check_plain(actual)


# --- 6. Direct and total


def test_direct_and_total(direct_and_total, rng):
    """What the last stream alone loses, and what the run loses, when z of a head becomes its mean over the rows."""
    for kind, rows, pos, heads in (
        ("rms norm", 3, 4, [(2, 3), (0, 1)]),
        ("layer norm", 2, 5, [(0, 2)]),
        ("attention only", 4, 3, [(1, 0), (0, 0), (1, 0)]),
    ):
        model = tiny(kind, rng)
        tokens, right, wrong = drawn(rng, rows, pos)
        given = list(heads)
        with as_found(model, tokens, right, wrong, given):
            result = direct_and_total(model, tokens, given, right, wrong)
        assert isinstance(result, tuple | list) and len(result) == 2, "return two tensors: direct and total effects"
        shape = (len(heads), rows)
        expected = effects_by_definition(model, tokens, heads, right, wrong)
        for name, actual, right_one in zip(("direct", "total"), result, expected, strict=True):
            actual = assert_tensor(actual, shape=shape)
            said = f"{kind}: entry [head, row] of the {name} effects is not what right less wrong loses"
            assert_close(actual, right_one, said, 1e-3, 2e-4)
            check_plain(actual)


def test_direct_and_total__others(direct_and_total, rng):
    """Hooks of others stay"""
    model, (tokens, right, wrong) = tiny("rms norm", rng), drawn(rng, 2, 3)
    with others_hook(model):
        direct_and_total(model, tokens, [(1, 1)], right, wrong)


@torch.no_grad()
def effects_by_definition(model, tokens, heads, right, wrong):
    stream, at = last_stream(model, tokens), torch.arange(len(tokens))
    whole, direct, total = model(tokens)[:, -1], [], []
    for layer, head in heads:
        kept = []

        def change(z, hook, kept=kept, head=head):
            kept.append(z.clone())
            z = z.clone()
            z[:, :, head] = z[:, :, head].mean(0, keepdim=True)
            return z

        changed = model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", change)])[:, -1]
        lost = whole - changed
        total.append(lost[at, right] - lost[at, wrong])
        z = kept[0][:, -1, head]
        gone = (z - z.mean(0)) @ model.blocks[layer].attn.W_O[head]
        direct.append(gap_with_frozen_scale(model, stream, gone, right, wrong))
    return torch.stack(direct), torch.stack(total)


def test_answer_direct(answer_direct):
    """Without the head, later parts write more of the answer: the run loses less than the head wrote."""
    assert_choice(answer_direct, "b", "the model runs on without the head: what may the parts after it do?")


# --- 7. and 8. Lenses


def test_logit_lens(logit_lens, rng):
    """The last norm with each stream's own scale, and the unembedding, as log-probabilities; any leading axes."""
    models = {kind: tiny(kind, rng) for kind in SIZES}
    with torch.no_grad():
        models["rms norm"].ln_final.weight *= 4  # confident guesses: log-probabilities below -20
    for kind, shape in (("layer norm", (2, 3)), ("rms norm", (4,)), ("attention only", (1, 2, 2)), ("rms norm", ())):
        model = models[kind]
        streams = 1 + 2 * rng.normal(*shape, 12) * (1 + 9 * rng.uniform(*shape, 1))  # of very different lengths
        centred = kind == "layer norm"
        bias = model.ln_final.bias if centred else None
        with torch.no_grad():
            logits, _ = logits_by_definition(streams, model.W_U, model.b_U, model.ln_final.weight, bias, centred)
        with as_found(model, streams):
            actual = assert_tensor(logit_lens(model, streams), shape=(*shape, 11))
        said = f"{kind}: not the log-probabilities of the last norm and the unembedding on these streams"
        assert_close(actual, logits.log_softmax(-1), said, 1e-3, 1e-3)
        check_plain(actual)


def test_logit_lens__end(logit_lens, rng):
    """After the last layer the lens says what the model says"""
    model = tiny("layer norm", rng)
    tokens = rng.integers(0, 11, 2, 4)
    _, logits = activations(model, tokens)
    actual = assert_tensor(logit_lens(model, last_stream(model, tokens)), shape=(2, 11))
    assert_close(actual, logits.log_softmax(-1), "on the last stream the lens is not the model's own prediction", 1e-3)


def objective(A, b, x, y, penalty):
    return float((x @ A + b - y).square().sum(1).mean() + penalty * A.square().sum())


def test_tuned_lens(tuned_lens, rng):
    """The least squares with a penalty on A alone: the same as another way to solve it gives."""
    for rows, d, penalty in [(40, 3, 0.1), (5, 6, 1.0), (12, 2, 0.02), (300, 4, 3.0)]:
        x = 3 * rng.normal(1, d) + rng.normal(rows, d) * (0.3 + rng.uniform(1, d))
        y = strided(x @ rng.normal(d, d) + 2 + 0.5 * rng.normal(rows, d))
        with unchanged(x, y), nothing_left_behind():
            result = tuned_lens(x, y, penalty)
        assert isinstance(result, tuple | list) and len(result) == 2, "return Translator(A, b)"
        A, b = assert_tensor(result[0], shape=(d, d)), assert_tensor(result[1], shape=(d,))
        assert A.dtype == b.dtype == torch.float32, f"float32 in, float32 out: got {A.dtype} and {b.dtype}"
        check_plain(A)
        check_plain(b)
        # Rows of sqrt(n penalty) for each axis, without a constant, make the penalty an ordinary residual.
        ones = torch.ones(rows, 1, dtype=torch.float64)
        design = torch.cat([x.double(), ones], dim=1)
        extra = torch.cat([(rows * penalty) ** 0.5 * torch.eye(d), torch.zeros(d, 1)], dim=1).double()
        target = torch.cat([y.double(), torch.zeros(d, d, dtype=torch.float64)])
        expected = torch.linalg.lstsq(torch.cat([design, extra]), target).solution
        size = float(expected.abs().max())
        said = f"{rows} rows of {d}, penalty {penalty}: not the least value of the formula"
        found = objective(A.double(), b.double(), x.double(), y.double(), penalty)
        least = objective(expected[:-1], expected[-1], x.double(), y.double(), penalty)
        assert found > least * (1 - 1e-4), "the check's own solution is not the least"
        # b lies far from the rows: an error in A counts there as often as the rows' mean is large
        assert_close(A, expected[:-1], f"{said}: A differs", 0, 2e-3 * size)
        assert_close(b, expected[-1], f"{said}: b differs", 0, 5e-3 * size)


def test_answer_lens(answer_lens):
    """A fitted map predicts the answer; whether the model has decided is another question."""
    assert_choice(answer_lens, "a", "what was fitted, and to what? Which option says no more than that?")


# --- 9. Examples and labels


def check_places(result, allowed, what):
    """Plain places (text, position), allowed, each text once."""
    result = assert_plain(result, list)
    for place in result:
        assert isinstance(place, tuple) and len(place) == 2, f"{what}: {place!r} is not a tuple (text, position)"
        assert_plain(list(place), list, of=int)
        text, at = place
        inside = 0 <= text < allowed.shape[0] and 0 <= at < allowed.shape[1]
        assert inside, f"{what}: there is no place {place} among {list(allowed.shape)}"
        assert allowed[text, at], f"{what}: the place {place} is not an allowed one"
    texts = [place[0] for place in result]
    assert len(set(texts)) == len(texts), f"{what}: more than one place of text {max(texts, key=texts.count)}"
    return result


# texts, positions, count, share of allowed places: more are asked for than there are; one; none; all
TEXTS = [(6, 5, 3, 0.7), (4, 3, 9, 0.4), (1, 1, 1, 1.0), (8, 4, 8, 0.5), (3, 4, 2, 0.0), (5, 6, 2, 1.0)]


def drawn_texts(rng):
    """Which places are allowed, and how many to take; of the second and the fourth the first text has none."""
    for texts, pos, count, share in TEXTS:
        allowed = rng.uniform(texts, pos) < share
        if count >= texts > 1:
            allowed[0] = False
        yield allowed, count, f"{count} of {texts} texts"


def test_max_activating_examples(max_activating_examples, rng):
    """The largest among the allowed places, largest first, each text once; negative ones and empty texts, too."""
    cases = [
        (strided(rng.normal(*allowed.shape) - 3 * (count == 8)), allowed, count, said)  # all negative, once
        for allowed, count, said in drawn_texts(rng)
    ]
    # The smallest activation of all is the only allowed one of its text.
    least = torch.tensor([[1.0, 0.0], [2.0, -3.0]]), torch.tensor([[True, True], [False, True]])
    for acts, allowed, count, said in [*cases, (*least, 2, "2 of 2 texts")]:
        with unchanged(acts, allowed), nothing_left_behind():
            result = max_activating_examples(acts, allowed, count)
        places = check_places(result, allowed, said)
        tops = [
            max((float(acts[text, at]), (text, at)) for at in range(acts.shape[1]) if allowed[text, at])
            for text in range(len(acts))
            if allowed[text].any()
        ]
        expected = [place for _, place in sorted(tops, reverse=True)[:count]]
        assert len(places) == len(expected), f"{said}: expected {len(expected)} places, got {len(places)}"
        assert places == expected, f"{said}: expected {expected}, got {places}"


def test_random_examples(random_examples, rng):
    """Different texts, each equally likely; in a text each allowed place equally likely; the seed decides."""
    seed = rng.integer(0, 10_000)
    for allowed, count, said in drawn_texts(rng):
        with unchanged(allowed), nothing_left_behind():
            result = random_examples(allowed, count, seed)
        places = check_places(result, allowed, said)
        n = min(count, int(allowed.any(1).sum()))
        assert len(places) == n, f"{said}: expected {n} places, got {len(places)}"
        assert random_examples(allowed, count, seed) == result, "the same seed gave other places the second time"


def test_random_examples__even(random_examples, rng):
    """No text and no place is favoured"""
    allowed = torch.zeros(7, 8, dtype=torch.bool)
    three, one, eight = {0: [1, 4, 6], 1: [0, 3, 7]}, (2, 5), (4, 6)  # the texts by their numbers of places; 3 has none
    for text, at in three.items():
        allowed[text, at] = True
    allowed[one, 2], allowed[eight, :] = True, True
    n, together, within = 300, torch.zeros(7, 7), torch.zeros(2, 3)
    ranks = []  # which of their places came, where both texts of three did
    for seed in range(n):
        places = dict(check_places(random_examples(allowed, 2, seed), allowed, "2 of 7 texts"))
        assert len(places) == 2, f"2 of 7 texts: expected 2 places, got {len(places)}"
        first, second = sorted(places)
        together[first, second] += 1
        rank = {text: three[text].index(at) for text, at in places.items() if text in three}
        for text, number in rank.items():
            within[text, number] += 1
        ranks += [rank] if len(rank) == 2 else []
    share = (together + together.T).sum(1) / n
    kinds = [[round(float(share[text]), 2) for text in texts] for texts in (three, one, eight)]
    spread = 5 * (2 / 9 / n) ** 0.5
    assert all(abs(float(share[text]) - 1 / 3) < spread for text in (*three, *one, *eight)), (
        f"not every text is equally likely: two of six were drawn, those of 3 places in shares of {kinds[0]}, "
        f"of 1 place {kinds[1]}, of 8 places {kinds[2]}"
    )
    within = within.sum(0) / within.sum()
    assert (within - 1 / 3).abs().max() < 5 * (2 / 9 / (2 * n / 3)) ** 0.5, (
        f"not every place is equally likely: the three of a text were drawn in shares of {within.tolist()}"
    )
    never = [(a, b) for a in share.nonzero() for b in share.nonzero() if a < b and not together[a, b]]
    assert not never, (
        f"texts {int(never[0][0])} and {int(never[0][1])} never came together in {n} draws of two of six texts: "
        "each text is to be drawn whatever the others are"
    )
    assert any(rank[0] != rank[1] for rank in ranks), (
        "two texts of three places gave the same one of their places each time: draw anew for each text"
    )


def test_label_test(label_test, rng):
    """For each text: the share of firing places with the label, and of labelled places that fire."""
    for texts, pos, share in [(4, 6, 0.8), (7, 3, 0.5), (1, 5, 1.0), (12, 8, 0.7)]:
        acts = strided(rng.integers(-3, 4, texts, pos).float())  # with values at the threshold itself
        label, allowed = rng.uniform(texts, pos) < 0.4, rng.uniform(texts, pos) < share
        threshold = float(rng.choice([-1.0, 1.0]))
        precision, recall = [], []
        for text in range(texts):
            places = [at for at in range(pos) if allowed[text, at]]
            fires = [at for at in places if acts[text, at] > threshold]
            holds = [at for at in places if label[text, at]]
            both = len(set(fires) & set(holds))
            precision += [both / len(fires)] if fires else []
            recall += [both / len(holds)] if holds else []
        with unchanged(acts, label, allowed), nothing_left_behind():
            result = label_test(acts, label, allowed, threshold)
        assert isinstance(result, tuple | list) and len(result) == 2, "return two tensors: precision and recall"
        for name, actual, expected in zip(("precision", "recall"), result, (precision, recall), strict=True):
            actual = assert_tensor(actual, shape=(len(expected),))
            assert_close(actual, torch.tensor(expected), f"the {name} of {texts} texts is not the share text by text")


def test_answer_top(answer_top):
    """The strongest examples speak of the strongest activations, and of nothing else."""
    assert_choice(answer_top, "b", "from which part of the neuron's activations were the examples taken?")


# --- 10. Open task

# What becomes of the words; seeds are drawn.
WIRED = [
    {"n_layers": 3},
    {"n_layers": 2, "n_heads": 8},
    {"n_layers": 4, "kinds": ("plain", "backed", "backed", "even", "mute", "scaled away", "relayed", "relayed")},
    {"n_layers": 3, "kinds": ("even", "mute", "scaled away", "mute")},
]


@pytest.mark.seconds(60)
def test_find_writers(find_writers, rng):
    """At least 90 % of the heads that write the answer of unseen models, and at most 10 % others among those named."""
    found, missed, wrong = 0, [], []
    for sizes in WIRED * 2:
        model, truth = wired.writers(rng.integer(0, 100_000), **sizes)
        tokens = wired.writer_rows(truth, 64, rng.integer(0, 100_000))
        with unchanged(tokens), nothing_left_behind(settled(model), random_state=False):
            named = find_writers(model, tokens)
        try:
            named = {(int(layer), int(head)) for layer, head in named}
        except (TypeError, ValueError) as error:
            raise AssertionError(f"the result is a set of heads (layer, head), not {named!r:.60}") from error
        strange = sorted(named - truth.roles.keys())
        assert not strange, f"{strange[0]} is no head (layer, head) of a model with {max(truth.roles)} as its last one"
        found += len(named & truth.writers)
        missed += [truth.roles[head] for head in sorted(truth.writers - named)]
        wrong += [truth.roles[head] for head in sorted(named - truth.writers)]
    said = f"in {len(WIRED) * 2} models, {found} of {found + len(missed)} writers were found"
    assert_mostly_found(found, missed, wrong, said)
