"""Checks of 2.3 GPT-2.

Each part gets random weights by the names that the text fixes, and is compared with PyTorch's functions. When it does
exactly what one of the known wrong classes does with the same weights, the message says which.
"""

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
    assert_precise,
    nothing_left_behind,
    strided,
    unchanged,
)
from concrete_steps.checking.testing.parts import assert_trains, how_composed, own_composition, run_part, set_weights
from concrete_steps.course import load_course


@dataclass
class Config:
    """The same fields as in the notebook. Sizes all differ, so that a mixed-up axis shows."""

    d_model: int = 6
    n_heads: int = 3
    d_head: int = 5
    d_mlp: int = 10
    n_layers: int = 2
    n_ctx: int = 7
    d_vocab: int = 11
    eps: float = 0.05  # large, so that its place shows


CONFIGS = (
    Config(),
    Config(d_model=5, n_heads=1, d_head=1, d_mlp=3, n_layers=1, n_ctx=4, d_vocab=3, eps=0.5),
    Config(d_model=1, n_heads=2, d_head=1, d_mlp=1, n_layers=1, n_ctx=4, d_vocab=1, eps=0.05),  # axes of size 1
)

# --- The parameters that the text fixes, and the reference computation


def prefixed(prefix, shapes):
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def shapes_of(part, c):
    """The parameters of a part: name to shape."""
    match part:
        case "LayerNorm":
            return {"w": (c.d_model,), "b": (c.d_model,)}
        case "Embed":
            return {"W_E": (c.d_vocab, c.d_model)}
        case "PosEmbed":
            return {"W_pos": (c.n_ctx, c.d_model)}
        case "Unembed":
            return {"W_U": (c.d_model, c.d_vocab)}
        case "MLP":
            into = {"W_in": (c.d_model, c.d_mlp), "b_in": (c.d_mlp,)}
            return into | {"W_out": (c.d_mlp, c.d_model), "b_out": (c.d_model,)}
        case "Attention":
            weights = {f"W_{name}": (c.n_heads, c.d_model, c.d_head) for name in "QKV"}
            weights |= {"W_O": (c.n_heads, c.d_head, c.d_model), "b_O": (c.d_model,)}
            return weights | {f"b_{name}": (c.n_heads, c.d_head) for name in "QKV"}
        case "TransformerBlock":
            parts = {"ln1": "LayerNorm", "attn": "Attention", "ln2": "LayerNorm", "mlp": "MLP"}
        case "GPT2":
            parts = {"embed": "Embed", "pos_embed": "PosEmbed", "ln_final": "LayerNorm", "unembed": "Unembed"}
            parts |= {f"blocks.{layer}": "TransformerBlock" for layer in range(c.n_layers)}
    return {name: shape for key, kind in parts.items() for name, shape in prefixed(key, shapes_of(kind, c)).items()}


def random_weights(part, c, rng, dtype=torch.float32):
    """Weights of a size that lets every part of the computation be seen in the output."""
    weights = {}
    for name, shape in shapes_of(part, c).items():
        fan_in = shape[-2] if len(shape) > 1 and name.split(".")[-1] not in ("W_E", "W_pos", "b_Q", "b_K", "b_V") else 1
        weights[name] = rng.normal(*shape, dtype=dtype) * (1.5 / math.sqrt(fan_in))
    return weights


def within(prefix, weights):
    return {name.removeprefix(prefix + "."): w for name, w in weights.items() if name.startswith(prefix + ".")}


def layer_norm(p, x, c):
    return F.layer_norm(x, (c.d_model,), p["w"], p["b"], c.eps)


def pattern_of(p, x, c):
    """[batch head query key], head by head and query by query."""
    batch, pos, _ = x.shape
    out = torch.zeros(batch, c.n_heads, pos, pos, dtype=x.dtype)
    for head in range(c.n_heads):
        q, k = x @ p["W_Q"][head] + p["b_Q"][head], x @ p["W_K"][head] + p["b_K"][head]
        for query in range(pos):
            scores = (k[:, : query + 1] * q[:, query, None]).sum(-1) / math.sqrt(c.d_head)
            out[:, head, query, : query + 1] = scores.softmax(-1)
    return out


def attention(p, x, c):
    total = p["b_O"].expand(x.shape).clone()
    for head in range(c.n_heads):
        q, k, v = (x @ p[f"W_{name}"][head] + p[f"b_{name}"][head] for name in "QKV")
        total = total + F.scaled_dot_product_attention(q, k, v, is_causal=True) @ p["W_O"][head]
    return total


def mlp(p, x, c):
    return F.gelu(x @ p["W_in"] + p["b_in"], approximate="tanh") @ p["W_out"] + p["b_out"]


def block(p, x, c):
    mid = x + attention(within("attn", p), layer_norm(within("ln1", p), x, c), c)
    return mid + mlp(within("mlp", p), layer_norm(within("ln2", p), mid, c), c)


def gpt2(p, tokens, c):
    """What passes each place of the model, in order: place to tensor."""
    resid = p["embed.W_E"][tokens] + p["pos_embed.W_pos"][: tokens.shape[1]]
    places = {"where the first block reads (embed + pos_embed)": resid}
    for layer in range(c.n_layers):
        resid = block(within(f"blocks.{layer}", p), resid, c)
        places[f"after blocks[{layer}]"] = resid
    places["after ln_final"] = layer_norm(within("ln_final", p), resid, c)
    places["at the logits"] = places["after ln_final"] @ p["unembed.W_U"]
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


def named(name, module, c, weights, x, methods=("forward",)):
    """The sentence of the one known wrong class that does the same, in all `methods`, with the same weights."""
    order = torch.Generator().manual_seed(0)
    shuffled = [x.flatten()[torch.randperm(x.numel(), generator=order)].reshape(x.shape) for _ in range(3)]
    found = []
    for entry in mistakes_of(load_course().notebook("2.3")).get(name, []):
        try:
            twin = entry.implementation(c).to(next(iter(weights.values())).dtype).eval()
            twin.load_state_dict(weights)
            if all(
                alike(getattr(twin, method)(given.clone()), getattr(module, method)(given.clone()))
                for method in methods
                for given in (x, *shuffled)
            ):
                found.append(entry.sentence)
        except Exception:  # a wrong class need not survive every input
            continue
    return one_name(found)


def assert_output(name, module, c, weights, x, out, expected, message, methods=("forward",)):
    """`out` is what is expected; otherwise says which known slip gives it, or where it differs."""
    shown = list(x.shape)
    if not same(out, expected):
        slip = named(name, module, c, weights, x, methods)
        if slip:
            raise AssertionError(f"{slip} (your output for an input of shape {shown} equals what comes of that)")
        assert_close(out, expected, f"{message} (input of shape {shown})")
        raise AssertionError(f"{message} (input of shape {shown}): differs by more than rounding")
    assert_precise(out, expected, f"{message} (input of shape {shown})", loosen=10)


def inputs(c, rng, dtype=torch.float32):
    """Streams [batch pos d_model] of several shapes, one that varies little around 3, one of zeros, one not contiguous.

    The first has as many positions as dimensions: there even a mean without keepdim gives numbers, so it can be named.
    """
    for batch, pos in ((1, min(c.d_model, c.n_ctx)), (2, 4), (1, 1), (3, c.n_ctx), (1, 3)):
        yield rng.normal(batch, pos, c.d_model, dtype=dtype)
    yield 3 + 0.1 * rng.normal(1, 3, c.d_model, dtype=dtype)
    yield torch.zeros(1, 2, c.d_model, dtype=dtype)
    yield strided(rng.normal(2, 3, c.d_model, dtype=dtype))


def check_part(name, cls, rng, function, message, methods=("forward",)):
    """The last of the methods agrees with the reference for both configurations, all inputs and dtypes."""
    for c in CONFIGS:
        for dtype in (torch.float32, torch.float64):
            module, weights = build(name, cls, c, rng, dtype)
            for x in inputs(c, rng, dtype):
                out = run_part(module, x, methods[-1])
                assert_output(name, module, c, weights, x, out, function(weights, x, c), message, methods)


def check_lookup(name, cls, rng, function, message, rows):
    """A part that reads tokens agrees with the reference. `rows` is the field that says how many rows its table has."""
    for c in CONFIGS:
        for dtype in (torch.float32, torch.float64):
            module, weights = build(name, cls, c, rng, dtype)
            for batch, pos in ((2, 3), (1, 1), (3, 3), (2, c.n_ctx)):
                tokens = strided(rng.integers(0, min(c.d_vocab, getattr(c, rows)), batch, pos))
                out = run_part(module, tokens)
                assert_output(name, module, c, weights, tokens, out, function(weights, tokens, c), message)
    assert_trains(module, tokens)


# --- 1. LayerNorm


def test_LayerNorm(LayerNorm, rng):
    """Mean, variance, eps, scale and shift as in torch's layer_norm, for several sizes and eps."""
    check_part("LayerNorm", LayerNorm, rng, layer_norm, "not what LayerNorm gives")


def test_LayerNorm__far(LayerNorm, rng):
    """A vector far from 0 gives what it gives near 0"""
    c = Config()
    module, _ = build("LayerNorm", LayerNorm, c, rng)
    x = (256 * rng.normal(2, 3, c.d_model)).round() / 256  # so that float32 holds x + 4096 as it is
    message = "a vector far from 0 gives another result than near it: subtract the mean before you square"
    assert_close(run_part(module, x + 4096), run_part(module, x), message, rtol=1e-2, atol=1e-2)


def test_LayerNorm__start(LayerNorm, rng):
    """w starts at 1 and b at 0, and both are trained."""
    c = Config()
    module = LayerNorm(c)
    set_weights(LayerNorm(c), random_weights("LayerNorm", c, rng), "LayerNorm")
    assert_close(module.w, torch.ones(c.d_model), "w does not start at 1")
    assert_close(module.b, torch.zeros(c.d_model), "b does not start at 0")
    assert_trains(module, rng.normal(1, c.d_model, c.d_model))


def test_answer_forgets(answer_forgets):
    """A shift of all entries goes with the mean, a factor with the deviation."""
    assert_choice(answer_forgets, "c", "what does step 1 do to the 5, and step 2 to the 3?")


# --- 2. Embed


def test_Embed(Embed, rng):
    """The row of W_E of each token, for several shapes."""
    check_lookup(
        "Embed",
        Embed,
        rng,
        lambda p, tokens, c: p["W_E"][tokens],
        "[b, p] is not the row of W_E of tokens[b, p]",
        "d_vocab",
    )


def test_PosEmbed(PosEmbed, rng):
    """The first rows of W_pos for every text, whatever its tokens."""

    def expected(p, tokens, c):
        return torch.stack([p["W_pos"][: tokens.shape[1]]] * len(tokens))

    check_lookup("PosEmbed", PosEmbed, rng, expected, "[b, p] is not row p of W_pos", "n_ctx")


# --- 3. Attention

# equivalent mutant of Attention, Add -> Sub: of b_K alone; it adds the same to a query's scores for all keys
# equivalent mutant of Attention, masked_fill -> masked_fill_: the scores are a tensor of its own, divided just before
# equivalent mutant of Attention, [-2:] -> [:]: a mask for every text and head, all alike
# equivalent mutant of Attention, drop USub: shape[2:] are the last two of four axes
# equivalent mutant of Attention, 2 -> 3: a mask for every head, all alike
# equivalent mutant of Attention, 2 -> -2: shape[2:] are the last two of four axes


def test_Attention__pattern(Attention, rng):
    """Scale, mask and softmax of the pattern, against a computation query by query."""
    check_part("Attention", Attention, rng, pattern_of, "the pattern is not GPT-2's", ("pattern",))


def test_Attention(Attention, rng):
    """Values and output of all heads, against torch's scaled_dot_product_attention."""
    check_part("Attention", Attention, rng, pattern_of, "the pattern is not GPT-2's", ("pattern",))
    message = "`pattern` is right, but not what `forward` makes of it: look at the values, at z, at W_O"
    check_part("Attention", Attention, rng, attention, message, ("pattern", "forward"))


def test_Attention__hidden(Attention, rng):
    """Later keys get weight 0 however low the other scores are, and a score of 0 is a score like any other."""
    c = Config()
    module, _ = build("Attention", Attention, c, rng, torch.float64)
    x = 1e6 * rng.normal(2, 4, c.d_model, dtype=torch.float64)
    later = run_part(module, x, "pattern").triu(1)
    assert not later.isnan().any(), (
        "weights are nan where scores are large: take the softmax of the masked scores, not exp, nor a mask after it"
    )
    assert not later.any(), "a large negative number in place of -torch.inf: later keys win over scores lower still"
    with torch.no_grad():
        module.W_Q.zero_(), module.b_Q.zero_()
    weights = run_part(module, x, "pattern")
    even = torch.ones(4, 4, dtype=torch.float64).tril() / torch.arange(1, 5)[:, None]
    message = "where all scores are 0, the keys up to the query do not share its weight evenly: is 0 taken for masked?"
    assert_close(weights, even.expand_as(weights), message)


def test_Attention__gradient(Attention, rng):
    """A gradient reaches every weight and the input, and nothing flows back from later positions."""
    c = Config()
    module, _ = build("Attention", Attention, c, rng)
    assert_trains(module, rng.normal(2, 4, c.d_model))


# --- 4. MLP


def test_MLP(MLP, rng):
    """Both matrices, both biases, and the GELU of GPT-2."""
    check_part("MLP", MLP, rng, mlp, "not what GPT-2's MLP gives")


def test_MLP__gradient(MLP, rng):
    """A gradient reaches every weight and the input."""
    c = Config()
    module, _ = build("MLP", MLP, c, rng)
    assert_trains(module, rng.normal(2, 3, c.d_model))


# --- 5. Block


def test_TransformerBlock(TransformerBlock, rng):
    """Your own parts, composed as GPT-2 does; and the whole agrees with the reference."""
    for c in CONFIGS:
        module, weights = build("TransformerBlock", TransformerBlock, c, rng, torch.float64)
        for x in inputs(c, rng, torch.float64):
            out, composed = run_part(module, x), own_composition(module, x)
            how = "" if same(out, composed) else how_composed(module, x)
            assert_output("TransformerBlock", module, c, weights, x, out, composed, how)
            message = "the parts are composed rightly, but one of them is not GPT-2's: run the checks above again"
            assert_precise(out, block(weights, x, c), message, loosen=100)
    assert_trains(module, x)


# --- 6. The whole


def test_Unembed(Unembed, rng):
    """The product with W_U, and nothing else."""
    check_part(
        "Unembed",
        Unembed,
        rng,
        lambda p, x, c: x @ p["W_U"],
        "a logit is not the stream's product with a column of W_U",
    )
    c = Config()
    assert_trains(build("Unembed", Unembed, c, rng)[0], rng.normal(2, 3, c.d_model))


def watch(model, c):
    """Hooks on the learner's parts; what passes is written to the dict returned, under the names of `gpt2`."""
    seen = {}

    def first_input(module, args):
        seen.setdefault("where the first block reads (embed + pos_embed)", args[0].detach().clone())

    def keep(place):
        return lambda module, args, out: seen.update({place: out.detach().clone()})

    model.blocks[0].register_forward_pre_hook(first_input)
    for layer in range(c.n_layers):
        model.blocks[layer].register_forward_hook(keep(f"after blocks[{layer}]"))
    model.ln_final.register_forward_hook(keep("after ln_final"))
    return seen


def test_GPT2(GPT2, rng):
    """The residual stream before and after every block, and the logits, for several sizes."""
    for c in (Config(n_layers=3), *CONFIGS):
        model, weights = build("GPT2", GPT2, c, rng, torch.float64)
        seen = watch(model, c)
        for batch, pos in ((2, 4), (1, 1), (1, c.n_ctx), (3, 3)):
            tokens = strided(rng.integers(0, c.d_vocab, batch, pos))
            seen.clear()
            out = run_part(model, tokens)
            departs = first_departure({**seen, "at the logits": out.detach()}, gpt2(weights, tokens, c))
            if departs:
                slip = named("GPT2", model, c, weights, tokens)
                raise AssertionError(f"{slip} ({departs})" if slip else departs)
    assert_trains(model, tokens)


def first_departure(seen, expected):
    """Where the learner's stream first leaves GPT-2's, or ''."""
    for place, right in expected.items():
        if place not in seen:
            continue
        got = seen[place]
        if got.shape != right.shape:
            return f"your residual stream first departs {place}: shape {list(got.shape)}, not {list(right.shape)}"
        if not torch.allclose(got, right, rtol=1e-7, atol=1e-8):
            by = (got - right).abs().max().item()
            return f"your residual stream first departs from GPT-2's {place}: entries differ by up to {by:.3g}"
    return ""


# --- 7. Real weights

# equivalent mutant of load_gpt2_weights, drop strict= of zip: three names, three chunks
# equivalent mutant of load_gpt2_weights, True -> False: three names, three chunks
# equivalent mutant of load_gpt2_weights, drop USub: axis 1 of a matrix is its last
# equivalent mutant of load_gpt2_weights, 1 -> -1: axis 1 of a matrix is its last


def their_weights(c, rng):
    """A state dict under Hugging Face's names."""
    d = c.d_model
    shapes = {"transformer.wte.weight": (c.d_vocab, d), "transformer.wpe.weight": (c.n_ctx, d)}
    for layer in range(c.n_layers):
        its = f"transformer.h.{layer}"
        for ln in ("ln_1", "ln_2"):
            shapes |= {f"{its}.{ln}.weight": (d,), f"{its}.{ln}.bias": (d,)}
        shapes |= {f"{its}.attn.c_attn.weight": (d, 3 * d), f"{its}.attn.c_attn.bias": (3 * d,)}
        shapes |= {f"{its}.attn.c_proj.weight": (d, d), f"{its}.attn.c_proj.bias": (d,)}
        shapes |= {f"{its}.mlp.c_fc.weight": (d, c.d_mlp), f"{its}.mlp.c_fc.bias": (c.d_mlp,)}
        shapes |= {f"{its}.mlp.c_proj.weight": (c.d_mlp, d), f"{its}.mlp.c_proj.bias": (d,)}
    shapes |= {"transformer.ln_f.weight": (d,), "transformer.ln_f.bias": (d,)}
    weights = {name: rng.normal(*shape) for name, shape in shapes.items()}
    return weights | {"lm_head.weight": weights["transformer.wte.weight"]}


def our_weights(theirs, c):
    """What load_gpt2_weights promises, entry by entry: name to (tensor, where it comes from)."""
    plain = {"embed.W_E": "transformer.wte.weight", "pos_embed.W_pos": "transformer.wpe.weight"}
    plain |= {"ln_final.w": "transformer.ln_f.weight", "ln_final.b": "transformer.ln_f.bias"}
    ours = {}
    for layer in range(c.n_layers):
        b, its = f"blocks.{layer}", f"transformer.h.{layer}"
        plain |= {f"{b}.ln{i}.w": f"{its}.ln_{i}.weight" for i in (1, 2)}
        plain |= {f"{b}.ln{i}.b": f"{its}.ln_{i}.bias" for i in (1, 2)}
        plain |= {f"{b}.mlp.W_in": f"{its}.mlp.c_fc.weight", f"{b}.mlp.b_in": f"{its}.mlp.c_fc.bias"}
        plain |= {f"{b}.mlp.W_out": f"{its}.mlp.c_proj.weight", f"{b}.mlp.b_out": f"{its}.mlp.c_proj.bias"}
        plain |= {f"{b}.attn.b_O": f"{its}.attn.c_proj.bias"}
        fused, fused_bias = theirs[f"{its}.attn.c_attn.weight"], theirs[f"{its}.attn.c_attn.bias"]
        for i, name in enumerate("QKV"):
            starts = [i * c.d_model + head * c.d_head for head in range(c.n_heads)]
            columns = f"columns {starts[0]}:{starts[0] + c.d_model}, d_head of them for each head, of {its}.attn.c_attn"
            cut = torch.stack([fused[:, start : start + c.d_head] for start in starts])
            ours[f"{b}.attn.W_{name}"] = cut, columns + ".weight"
            cut = torch.stack([fused_bias[start : start + c.d_head] for start in starts])
            ours[f"{b}.attn.b_{name}"] = cut, columns + ".bias"
        w_out = theirs[f"{its}.attn.c_proj.weight"]
        cut = torch.stack([w_out[head * c.d_head : (head + 1) * c.d_head] for head in range(c.n_heads)])
        ours[f"{b}.attn.W_O"] = cut, f"the rows of {its}.attn.c_proj.weight, a head after another"
    ours |= {mine: (theirs[name], name) for mine, name in plain.items()}
    return ours | {"unembed.W_U": (theirs["transformer.wte.weight"].mT, "transformer.wte.weight, transposed")}


# d_model = n_heads * d_head, as in every GPT-2
LOADED = (
    Config(d_model=6, n_heads=2, d_head=3, d_mlp=5, n_layers=2, n_ctx=4, d_vocab=9),
    Config(d_model=4, n_heads=4, d_head=1, d_mlp=16, n_layers=1, n_ctx=2, d_vocab=4),
    Config(d_model=6, n_heads=3, d_head=2, d_mlp=6, n_layers=3, n_ctx=6, d_vocab=6),
)


def test_load_gpt2_weights(load_gpt2_weights, rng):
    """Every weight lies under our name, in our shape, for several sizes."""
    for c in LOADED:
        theirs = their_weights(c, rng)
        with nothing_left_behind(random_state=False), unchanged(theirs):  # a GPT2(cfg) of one's own draws
            ours = load_gpt2_weights(theirs, c)
        assert isinstance(ours, dict), f"expected a dict from names to tensors, got {type(ours).__name__}"
        expected = our_weights(theirs, c)
        missing, extra = sorted(expected.keys() - ours.keys()), sorted(ours.keys() - expected.keys())
        assert not missing, f"these weights are missing: {', '.join(missing[:4])} ({len(missing)} in all)"
        assert not extra, f"GPT2 has no parameter of these names: {', '.join(extra[:4])} ({len(extra)} in all)"
        for name, (right, source) in expected.items():
            assert_precise(ours[name], right, f"{name} is not {source}")


@pytest.mark.seconds(120)
def test_load_gpt2_weights__logits(load_gpt2_weights, GPT2, rng):
    """With random weights your GPT2 gives the logits of transformers' GPT2LMHeadModel to 1e-4."""
    from transformers import GPT2Config, GPT2LMHeadModel

    for c in LOADED:
        c.eps = 1e-5
        sizes = {"n_embd": c.d_model, "n_head": c.n_heads, "n_layer": c.n_layers, "n_inner": c.d_mlp}
        sizes |= {"n_positions": c.n_ctx, "vocab_size": c.d_vocab, "bos_token_id": None, "eos_token_id": None}
        reference = GPT2LMHeadModel(GPT2Config(**sizes)).eval()
        theirs = their_weights(c, rng)
        reference.load_state_dict(theirs)
        model = GPT2(c).eval()
        model.load_state_dict(load_gpt2_weights(theirs, c))
        tokens = rng.integers(0, c.d_vocab, 2, c.n_ctx)
        with torch.no_grad():
            right, got = reference(tokens).logits, model(tokens)
        message = "the weights are placed rightly, but your GPT2's logits are not transformers': run its check again"
        assert_close(got, right, message, rtol=1e-4, atol=1e-4)


def test_answer_twice(answer_twice):
    """Dropout acts until .eval()."""
    assert_choice(answer_twice, "a", "what would (b) and (c) do on the second call that they did not on the first?")


# --- Where the model lives. Only a GPU can tell; without one this check does not exist.

if torch.cuda.is_available():

    def test_Attention__device(Attention, rng):
        """Works on the GPU"""
        c = Config()
        module, _ = build("Attention", Attention, c, rng)
        assert module.cuda()(rng.normal(2, 4, c.d_model).cuda()).is_cuda, "x on the GPU, but a result on the CPU"
