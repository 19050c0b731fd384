"""Checks of 2.2 Attention by hand. Heads are judged by what they do on fresh streams, never by their numbers."""

import math

import torch

from concrete_steps import wired
from concrete_steps.checking.testing import (
    OverManyCalls,
    assert_choice,
    assert_close,
    assert_plain,
    assert_tensor,
    nothing_left_behind,
    strided,
    unchanged,
)
from concrete_steps.wired import Weights

# Changes that make no wrong answer; scripts/mutate.py counts them apart. Strengths are free where the match stands out.
# equivalent mutant of embed, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of run_layers, 1 -> -1: of a pair, 1 is the last
# equivalent mutant of strength_needed, drop dtype= of tensor: float32 is precise enough for a weight
# equivalent mutant of score_tables, swap arguments 0 and 1 of max: max is symmetric
# equivalent mutant of score_tables, 1 -> 2: d_head is free
# equivalent mutant of score_tables, 1 -> -1 (3x): of two axes, 1 is the last
# equivalent mutant of first_token_head, zeros -> ones: a score of 1 is far below that of the match
# equivalent mutant of first_token_head, drop zeros_like(...) (2x): either matrix of zeros is enough to write nothing
# equivalent mutant of previous_token_head, Mult -> Pow: scores of 1, not 0, beside the match
# equivalent mutant of duplicate_token_head, Mult -> Pow (2x): scores of 1, not 0, beside the match
# equivalent mutant of duplicate_token_head, Mult -> Sub: the own position is low enough
# equivalent mutant of duplicate_token_head, 2 -> 3 (2x): the own position is lower still, or [BOS] still in between
# equivalent mutant of duplicate_token_head, 2 -> 1: the own position scores as any other key
# equivalent mutant of induction_circuit, zeros -> ones: scores of 1, not 0, beside the match
# equivalent mutant of induction_circuit, 2 -> 3: [BOS] is still in between
# equivalent mutant of induction_circuit, Mult -> Pow: scores of 1, not 0, beside the match
# equivalent mutant of narrow_scores, 2000 -> 2001: the factor is free
# equivalent mutant of narrow_scores, 2000 -> 1999: the factor is free
# equivalent mutant of narrow_scores, Mult -> Add: (2 + pi) / n still points nearest to the position before
# equivalent mutant of narrow_scores, Mult -> Pow: 2 ** pi / n still points nearest to the position before
# equivalent mutant of narrow_scores, 1 -> -1 (2x): of two axes, 1 is the last
# equivalent mutant of widen, zeros -> ones: rows of W_O whose values are 0
# equivalent mutant of widen, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of wire_rule, 1 -> -1: of two axes, 1 is the last
# equivalent mutant of wire_rule, 1 -> 0: a space for more positions than there are
# equivalent mutant of wire_rule, 2 -> 3 (2x): strengths are free
# equivalent mutant of wire_rule, 2 -> 1 (2x): strengths are free
# equivalent mutant of wire_rule, keep 2: strengths are free
# equivalent mutant of wire_rule, keep -2: strengths are free
# equivalent mutant of wire_rule, keep MATCH: strengths are free
# equivalent mutant of wire_rule, keep torch.arange(n_ctx): strengths are free
# equivalent mutant of wire_rule, Mult -> Pow (3x): strengths are free
# equivalent mutant of wire_rule, Mult -> Sub (2x): strengths are free
# equivalent mutant of wire_rule, Mult -> Add: strengths are free
# equivalent mutant of wire_rule, Mult -> Div: strengths are free
# equivalent mutant of wire_rule, Div -> Add: strengths are free
# equivalent mutant of wire_rule, Div -> Sub: strengths are free
# equivalent mutant of wire_rule, tokens -> answers: both are of one shape

LEAST = 0.99  # of the weight, where a head looks
NAMES = ("W_Q", "W_K", "W_V", "W_O")


# --- Layouts, streams and a head of the check's own


def layout(rng, **sizes):
    """Spaces of these sizes in random order, with unused axes between them; the last in the dict is not the last."""
    spaces, start = {}, 0
    for i in rng.permutation(len(sizes)).tolist():
        name = list(sizes)[i]
        start += rng.integer(0, 3)
        spaces[name] = slice(start, start + sizes[name])
        start += sizes[name]
    return dict(reversed(spaces.items()))


def width(spaces):
    return max(space.stop for space in spaces.values())


def size(space):
    return space.stop - space.start


def random_text(rng, rows, length, n_tokens):
    """[BOS], then ordinary tokens drawn evenly."""
    tokens = rng.integers(1, n_tokens, rows, length)
    tokens[:, 0] = 0
    return tokens


def stream_of(tokens, spaces):
    """[batch pos d_model]: tokens and positions one-hot."""
    x = torch.zeros(*tokens.shape, width(spaces))
    for row, text in enumerate(tokens.tolist()):
        for place, token in enumerate(text):
            x[row, place, spaces["token"].start + token] = 1
            x[row, place, spaces["position"].start + place] = 1
    return x


def with_junk(x, spaces, rng, keep):
    """The same stream with random numbers on all axes but those of the spaces in keep."""
    junk = 100 * rng.normal(*x.shape)
    for name in keep:
        junk[..., spaces[name]] = x[..., spaces[name]]
    return junk


def pattern_of(x, W_Q, W_K):
    scores = (x @ W_Q) @ (x @ W_K).mT / math.sqrt(W_Q.shape[1])
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    pattern = scores.masked_fill(later, -torch.inf).softmax(-1)
    assert pattern.isfinite().all(), "some weights are not numbers (nan): are there scores that are not finite?"
    return pattern


def run(x, head):
    pattern = pattern_of(x, head.W_Q, head.W_K)
    return pattern, pattern @ (x @ head.W_V) @ head.W_O


def logits_of(tokens, spaces, layers):
    """The logits of a model, and the streams after each layer."""
    x = stream_of(tokens, spaces)
    streams = []
    for heads in layers:
        x = x + sum((run(x, head)[1] for head in heads), torch.zeros_like(x))
        streams.append(x)
    return x[..., spaces["out"]], streams


def matrix_of(value, name, rows=None, columns=None):
    value = assert_tensor(value)
    assert value.ndim == 2, f"{name} is a matrix, of two axes; this has shape {list(value.shape)}"
    for axis, wanted in ((0, rows), (1, columns)):
        said = f"{name} has shape {list(value.shape)}"
        assert wanted is None or value.shape[axis] == wanted, f"{said}: axis {axis} is to have {wanted} entries"
    assert value.shape[0] and value.shape[1], f"{name} has shape {list(value.shape)}: d_head is 1 or more"
    assert value.is_floating_point(), f"{name} holds {value.dtype}: use floating-point numbers"
    assert value.isfinite().all(), f"{name} holds numbers that are not finite"
    return value.detach().float()


def pair_of(result, names, d_model):
    """The learner's two matrices; the first is [d_model d_head], and so is W_K; W_O is turned."""
    right = isinstance(result, tuple | list) and len(result) == 2
    assert right, f"return the two matrices {names[0]} and {names[1]}, not {type(result).__name__}"
    first = matrix_of(result[0], names[0], rows=d_model)
    turned = names[1] == "W_O"
    second = matrix_of(result[1], names[1], *((first.shape[1], d_model) if turned else (d_model, first.shape[1])))
    return first, second


def weights_of(result, d_model):
    """The learner's head, as float32."""
    right = all(hasattr(result, name) for name in NAMES)
    assert right, f"return Weights(W_Q, W_K, W_V, W_O), not {type(result).__name__}"
    scores = pair_of((result.W_Q, result.W_K), ("W_Q", "W_K"), d_model)
    return Weights(*scores, *pair_of((result.W_V, result.W_O), ("W_V", "W_O"), d_model))


def words(tokens):
    return " ".join("^" if token == 0 else chr(96 + token) for token in tokens.tolist())


def assert_looks(pattern, wanted, tokens):
    """Every query shares its weight evenly among the wanted keys [row query key], 0.99 of it and more."""
    for row, query in wanted.any(-1).nonzero().tolist():
        weights, keys = pattern[row, query], wanted[row, query].nonzero()[:, 0].tolist()
        least = LEAST / len(keys)
        for key in keys:
            if weights[key] >= least:
                continue
            said = f"in the text {words(tokens[row])} (^ is [BOS]), query {query} is to give key {key} a weight of "
            said += f"{least:.2f} or more, and gives {math.floor(1000 * weights[key]) / 1000:.3f}"
            seen = weights[: query + 1]
            rival = int(seen.masked_fill(wanted[row, query, : query + 1], -1).argmax())
            if query and seen.max() - seen.min() < 1e-3:
                said += "; its weights are all the same"
            elif rival not in keys and seen[rival] > 0.99 * weights[key]:
                said += f"; key {rival} gets {seen[rival]:.3f}"
            elif len(keys) == 1:
                second = f", key {rival} gets {seen[rival]:.3f}" * bool(seen[rival] > 0.2 * (1 - weights[key]))
                said += f"; it is the right key, but not sure enough{second}: are the scores far enough apart?"
            raise AssertionError(said)


def assert_writes(out, expected, spaces, into, tokens, free=None):
    """What a head adds: `expected` [row pos n] in the space into, and 0 elsewhere; `free` positions are not asked."""
    inside = torch.zeros(out.shape[-1], dtype=torch.bool)
    if into is not None:
        inside[spaces[into]] = True
        for row, place in (~((out[..., inside] - expected).abs() <= 0.01).all(-1)).nonzero().tolist():
            if place == free:
                continue
            got = [round(value, 2) + 0.0 for value in out[row, place, inside].tolist()]
            want = [round(value, 2) + 0.0 for value in expected[row, place].tolist()]
            said = f"in the text {words(tokens[row])} (^ is [BOS]), at position {place} the head writes {got}"
            raise AssertionError(f'{said} into the space "{into}", not {want}')
    outside = out[..., ~inside].abs() > 0.01
    if outside.any():
        axis = (~inside).nonzero()[outside.nonzero()[0][-1], 0].item()
        named = [f'in the space "{name}"' for name, space in spaces.items() if space.start <= axis < space.stop]
        where = named[0] if named else "which is unused"
        raise AssertionError(f"the head writes on axis {axis}, {where}, where it is to write nothing")


def check_head(make, rng, extra, into, wanted_of, expected_of, scored, valued, free=None):
    """A head on many layouts and texts, with and without junk in the spaces that it does not read.

    `scored` are the spaces that it may read for scores, `valued` those for values.
    """
    for n_tokens, n_ctx, length, rows in [(4, 6, 6, 3), (2, 2, 2, 1), (3, 5, 1, 1), (7, 32, 32, 2), (5, 12, 9, 2)]:
        spaces = layout(rng, token=n_tokens, position=n_ctx, **extra(n_tokens))
        with unchanged(spaces), nothing_left_behind():
            head = weights_of(make(spaces), width(spaces))
        tokens = random_text(rng, rows, length, n_tokens)
        plain = stream_of(tokens, spaces)
        for x in (plain, with_junk(plain, spaces, rng, {*scored, *valued})):
            pattern, out = run(x, head)
            expected = expected_of(tokens, n_tokens) if into is not None else None
            try:
                assert_looks(pattern, wanted_of(tokens), tokens)
                assert_writes(out, expected, spaces, into, tokens, free)
            except AssertionError as error:
                hint = "" if x is plain else " (other spaces held numbers: read only those that the text names)"
                raise AssertionError(f"{error}{hint}") from None
        for part, spared in (("scores", scored), ("values", valued)):
            x = with_junk(plain, spaces, rng, spared)
            for_scores, for_values = (x, plain) if part == "scores" else (plain, x)
            pattern = pattern_of(for_scores, head.W_Q, head.W_K)
            try:
                assert_looks(pattern, wanted_of(tokens), tokens)
                assert_writes(pattern @ for_values @ head.W_V @ head.W_O, expected, spaces, into, tokens, free)
            except AssertionError as error:
                names = " and ".join(f'"{name}"' for name in spared) or "nothing"
                raise AssertionError(f"{error} (other spaces held numbers: {part} may read {names})") from None


def one_hot(tokens, n):
    return torch.eye(n)[tokens]


# --- 1. A stream with compartments


def test_lay_out(lay_out, rng):
    """Spaces lie side by side from axis 0, in the order of sizes, each of its size."""
    names = ["token", "position", "previous", "out", "seen", "note"]
    cases = [{"token": 5, "out": 2, "position": 3}]  # in no order but its own
    for n in (6, 0):
        cases.append({names[i]: rng.integer(1, 9) for i in rng.permutation(6).tolist()[:n]})
    for sizes in [{"token": 3}, {"token": 3, "out": 2}, *cases]:
        with unchanged(sizes), nothing_left_behind():
            spaces = lay_out(sizes)
        assert_plain(spaces, dict)
        assert set(spaces) == set(sizes), f"the names are to be {list(sizes)}, and are {list(spaces)}"
        start = 0
        for name, length in sizes.items():
            space = spaces[name]
            assert isinstance(space, slice), f"each space is a slice, this one is {space!r:.60}"
            right = (space.start or 0, space.stop, space.step or 1) == (start, start + length, 1)
            assert right, f'for sizes {sizes}, "{name}" is to be slice({start}, {start + length}), and is {space}'
            assert isinstance(space.start, int), f'"{name}" begins at {space.start!r}: write the number, 0 too'
            start += length


def test_embed(embed, rng):
    """One-hot tokens and positions in their spaces, 0 elsewhere, wherever the spaces lie."""
    for n_tokens, n_ctx, rows, length in [(3, 4, 1, 2), (4, 5, 2, 5), (2, 7, 3, 1), (6, 3, 2, 3), (9, 12, 2, 8)]:
        spaces = layout(rng, token=n_tokens, position=n_ctx, out=n_tokens, seen=1)
        tokens = strided(rng.integers(0, n_tokens - (n_tokens == 9), rows, length))  # once without the last token
        with unchanged(tokens, spaces), nothing_left_behind():
            x = assert_tensor(embed(tokens, spaces), shape=(rows, length, width(spaces)))
        assert x.is_floating_point(), f"the stream holds {x.dtype}: floating-point numbers are needed"
        expected = stream_of(tokens, spaces)
        for name in ("token", "position"):
            assert_close(x[..., spaces[name]], expected[..., spaces[name]], f'space "{name}" is not one-hot as told')
        assert_close(x, expected, "the stream is not 0 outside of the two spaces")


# --- 2. A score is a look-up in a table


def test_strength_needed(strength_needed, rng):
    """A softmax over one such score and zeros gives that weight."""
    cases = [(2, 0.5), (3, 0.25), (20, 0.99), (2000, 0.999), (2, 0.01), (7, 0.05)]
    cases += [(rng.integer(2, 500), 0.01 + 0.98 * rng.uniform(1).item()) for _ in range(6)]
    for n_keys, weight in cases:
        with nothing_left_behind():
            score = assert_plain(strength_needed(n_keys, weight), float)
        scores = torch.zeros(n_keys, dtype=torch.float64)
        scores[0] = score
        got = scores.softmax(0)[0].item()
        right = abs(got - weight) < 1e-4 * min(weight, 1 - weight) * 10
        assert right, f"score {score:.4g} among {n_keys} keys gives a weight of {got:.4g}, not {weight:.4g}"


def tables_of(rng, spaces, pairs):
    return {(a, b): strided(rng.normal(size(spaces[a]), size(spaces[b]))) for a, b in pairs}


PAIRS = [
    [("position", "position")],
    [("token", "note")],
    [("token", "token"), ("position", "position")],
    [("token", "note"), ("token", "position"), ("note", "token")],
    [("token", "note"), ("position", "note")],
    [("one", "one")],
    [("token", "position"), ("one", "token"), ("note", "note"), ("position", "one")],
    [],
]


def test_score_tables(score_tables, rng):
    """On any stream the scores are the sum of all tables' look-ups: one table, several, shared spaces, none."""
    for i, pairs in enumerate(PAIRS):
        n_tokens, n_ctx = (2, 3) if i < 2 else (rng.integer(2, 7), rng.integer(2, 9))
        spaces = layout(rng, token=n_tokens, position=n_ctx, note=n_tokens + 1, one=1)
        tables = tables_of(rng, spaces, pairs)
        with unchanged(tables, spaces), nothing_left_behind():
            result = score_tables(spaces, tables)
        W_Q, W_K = pair_of(result, ("W_Q", "W_K"), width(spaces))
        x = rng.normal(4, width(spaces), dtype=torch.float64)
        expected = torch.zeros(4, 4, dtype=torch.float64)
        for (a, b), table in tables.items():
            expected += x[:, spaces[a]] @ table.double() @ x[:, spaces[b]].T
        scores = (x @ W_Q.double()) @ (x @ W_K.double()).T / math.sqrt(W_Q.shape[1])
        said = f"with tables for {', '.join(map(str, pairs)) or 'nothing'}, and d_head {W_Q.shape[1]}"
        root = math.sqrt(W_Q.shape[1])
        facts = {
            " (exchanged, as [key, query], it would be: the table's rows belong to the query)": (scores.T, expected),
            " (before the division by sqrt(d_head) it would be)": (scores * root, expected),
            " (it is sqrt(d_head) times that)": (scores, expected * root),
            " (it is d_head times that)": (scores, expected * root**2),
        }
        said += f", [query, key] is not the tables' sum{the_fact(facts)}"
        assert_close(scores, expected, said, rtol=1e-4, atol=1e-4)


def the_fact(facts):
    """The one fact whose two tensors are alike; "" if there is none, or several."""
    holding = [fact for fact, pair in facts.items() if torch.allclose(*pair, rtol=1e-4, atol=1e-4)]
    return holding[0] if len(holding) == 1 else ""


# --- 3. What it writes is a table, too


def test_value_table(value_table, rng):
    """On any stream: the source times the table lands in the space into, and nothing elsewhere."""
    for source, into in [("token", "one"), ("note", "position"), ("one", "token"), ("token", "out"), ("note", "note")]:
        n_tokens, n_ctx = rng.integer(2, 6), rng.integer(6, 9)
        spaces = layout(rng, token=n_tokens, position=n_ctx, note=3, one=1, out=n_tokens)
        table = strided(rng.normal(size(spaces[source]), size(spaces[into])))
        with unchanged(table, spaces), nothing_left_behind():
            result = value_table(spaces, source, into, table)
        W_V, W_O = pair_of(result, ("W_V", "W_O"), width(spaces))
        x = rng.normal(4, width(spaces), dtype=torch.float64)
        expected = torch.zeros_like(x)
        expected[:, spaces[into]] = x[:, spaces[source]] @ table.double()
        out = x @ W_V.double() @ W_O.double()
        said = f'from "{source}" into "{into}" with a table of {list(table.shape)}'
        written, right = out[:, spaces[into]], expected[:, spaces[into]]
        facts = {" (it is sqrt(d_head) times that)": (written, right * math.sqrt(W_V.shape[1]))}
        if len(table) == table.shape[1]:
            turned = x[:, spaces[source]] @ table.double().T
            facts[" (it is so for a table whose rows and columns are exchanged)"] = (written, turned)
        assert_close(written, right, f"{said}, what is written is wrong{the_fact(facts)}", 1e-4, 1e-5)
        assert_close(out, expected, f"{said}, other axes are written to", 1e-4, 1e-5)


def test_answer_ov(answer_ov):
    """The scores are as before; only what is moved has changed."""
    assert_choice(answer_ov, "a", "which of the four matrices did you change, and what do the other two decide?")


# --- 4. Four heads


def test_first_token_head(first_token_head, rng):
    """Position 0 has at least 0.99 of the weight for every query, and nothing is written."""

    def first(tokens):
        wanted = torch.zeros(*tokens.shape, tokens.shape[1], dtype=torch.bool)
        wanted[:, :, 0] = True
        return wanted

    check_head(first_token_head, rng, lambda n: {"out": n}, None, first, None, ("position",), ())


def before(tokens):
    n = tokens.shape[1]
    return torch.eye(n, dtype=torch.bool).roll(1, 0).tril(-1).expand(len(tokens), n, n)


def test_previous_token_head(previous_token_head, rng):
    """The position before has at least 0.99 of the weight, and its token is written."""

    def notes(tokens, n):
        return one_hot(tokens.roll(1, 1), n)

    for into in ("previous", "note"):

        def make(spaces, into=into):
            return previous_token_head(spaces, into)

        more = {"scored": ("position",), "valued": ("token",), "free": 0}
        check_head(make, rng, lambda n: {"previous": n, "note": n}, into, before, notes, **more)


def test_copying_head(copying_head, rng):
    """Even weights over all keys so far, whose shares of tokens are written, but for [BOS]."""

    def shares(tokens, n):
        counts = one_hot(tokens, n).cumsum(1)
        counts[..., 0] = 0
        return counts / torch.arange(1, tokens.shape[1] + 1)[:, None]

    def all_before(tokens):
        n = tokens.shape[1]
        return torch.ones(len(tokens), n, n, dtype=torch.bool).tril()

    check_head(copying_head, rng, lambda n: {"out": n, "note": n}, "out", all_before, shares, (), ("token",))


def earlier_copies(tokens):
    same = tokens[:, :, None] == tokens[:, None]
    return same & torch.ones(same.shape, dtype=torch.bool).tril(-1)


def test_duplicate_token_head(duplicate_token_head, rng):
    """Earlier copies share the weight evenly, or else [BOS] has it; the flag says which."""

    def wanted(tokens):
        copies = earlier_copies(tokens)
        copies[:, :, 0] |= ~copies.any(-1)
        return copies

    def flag(tokens, n):
        return earlier_copies(tokens).any(-1, keepdim=True).float()

    read = {"scored": ("token", "position"), "valued": ("token",)}
    check_head(duplicate_token_head, rng, lambda n: {"seen": 1, "note": n}, "seen", wanted, flag, **read)


# --- 5. Two layers


def random_head(rng, d_model, scale=1.0, d_qk=None, d_v=None):
    d_qk, d_v = d_qk or rng.integer(1, 5), d_v or rng.integer(1, 5)
    shapes = [(d_model, d_qk), (d_model, d_qk), (d_model, d_v), (d_v, d_model)]
    return Weights(*(scale * rng.normal(*shape) for shape in shapes))


def test_run_layers(run_layers, rng):
    """The space "out" after all layers: no layer, one, several; several heads in a layer, or none."""
    for n_heads in ([2], [], [1], [2, 3], [0, 2], [1, 0, 2], [3, 1, 2]):
        n_tokens = rng.integer(2, 6)
        spaces = layout(rng, token=n_tokens, position=8, out=n_tokens, note=3)
        layers = [[random_head(rng, width(spaces), 0.6) for _ in range(n)] for n in n_heads]
        tokens = rng.integers(0, n_tokens, rng.integer(1, 4), rng.integer(2, 8))
        expected, _ = logits_of(tokens, spaces, layers)
        with unchanged(tokens, spaces, layers), nothing_left_behind():
            logits = run_layers(tokens, spaces, layers)
        logits = assert_tensor(logits, shape=expected.shape)
        said = f"with {n_heads} heads in its layers" if n_heads else "with no layer at all"
        assert_close(logits, expected, f"{said}, logits [batch pos token] are wrong", rtol=1e-3, atol=1e-4)


def layers_of(result, d_model):
    assert isinstance(result, list | tuple), f"return a list of layers, not {type(result).__name__}"
    for i, heads in enumerate(result):
        assert isinstance(heads, list | tuple), f"a layer is a list of heads; layer {i} here is {type(heads).__name__}"
    return [[weights_of(head, d_model) for head in heads] for heads in result]


def follower_shares(tokens, n_tokens):
    """[row pos n_tokens]: by a plain loop, what followed earlier copies; 0 where there is none."""
    shares = torch.zeros(*tokens.shape, n_tokens)
    for row, text in enumerate(tokens.tolist()):
        for here in range(len(text)):
            after = [text[i + 1] for i in range(here) if text[i] == text[here]]
            for token in after:
                shares[row, here, token] += 1 / len(after)
    return shares


def texts_for_induction(rng, n_tokens, length):
    """Random text; a block twice; the same token all the way."""
    yield random_text(rng, 3, length, n_tokens)
    block = rng.permutation(n_tokens - 1)[: (length - 1) // 2] + 1
    yield torch.cat([torch.zeros(1, dtype=torch.long), block, block])[None]
    same = torch.full((1, length), rng.integer(1, n_tokens))
    same[0, 0] = 0
    yield same


def test_induction_circuit(induction_circuit, rng):
    """On every random sequence the logits are the shares of what followed, and 0 for new tokens."""
    for n_tokens, n_ctx, length in [(4, 8, 7), (3, 4, 4), (2, 3, 3), (9, 32, 32), (12, 24, 17), (6, 16, 1)]:
        spaces = layout(rng, token=n_tokens, position=n_ctx, previous=n_tokens, out=n_tokens, seen=1)
        with unchanged(spaces), nothing_left_behind():
            layers = layers_of(induction_circuit(spaces), width(spaces))
        assert len(layers) == 2, f"the circuit has {len(layers)} layers: two are asked for"
        for tokens in texts_for_induction(rng, n_tokens, length):
            logits, streams = logits_of(tokens, spaces, layers)
            notes = streams[0][..., spaces["previous"]]
            last = pattern_of(streams[0], layers[1][0].W_Q, layers[1][0].W_K) if len(layers[1]) == 1 else None
            assert_induction(logits, follower_shares(tokens, n_tokens), tokens, notes, last)


def assert_induction(logits, expected, tokens, notes, last):
    """`last` is the pattern of layer 1, if it has one head."""
    wrong = ~((logits - expected).abs() <= 0.02)
    if not wrong.any():
        return
    row, place, token = wrong.nonzero()[0].tolist()
    text = tokens[row]
    said = f"in the text {words(text)} (^ is [BOS]), at position {place} the logit of {words(text.new_tensor([token]))}"
    said += f" is {logits[row, place, token]:.2f}, not {expected[row, place, token]:.2f}"
    if not expected[row, place].any():
        said += ": this token is new, so nothing is to be written"
    if last is not None:
        weight, key = last[row, place].max(0)
        said += f"; there layer 1 gives its largest weight, {weight:.2f}, to key {key}"
    apart = (notes[:, 1:] - one_hot(tokens[:, :-1], notes.shape[-1])).abs() > 0.05
    if apart.any():
        at = int(apart[row].any(-1).nonzero()[0]) + 1 if apart[row].any() else 1
        said += f'; after layer 0, "previous" at position {at} is not the token before, one-hot'
    raise AssertionError(said)


def test_answer_swapped(answer_swapped):
    """The query asks for its own previous token; every key that holds it matches."""
    assert_choice(
        answer_swapped, "c", "what does the query's previous hold at the last a, and which keys are that token?"
    )


# --- 6. How many axes does it take?


def test_narrow_scores(narrow_scores, rng):
    """With two axes the position before has at least 0.99 of the weight, at up to 32 positions."""
    for n_ctx, length in [(4, 4), (2, 2), (12, 12), (31, 31), (32, 32), (32, 20), (7, 1)]:
        spaces = layout(rng, token=4, position=n_ctx, previous=4)
        with unchanged(spaces), nothing_left_behind():
            W_Q, W_K = pair_of(narrow_scores(spaces), ("W_Q", "W_K"), width(spaces))
        assert W_Q.shape[1] == 2, f"d_head is {W_Q.shape[1]}, not 2"
        tokens = random_text(rng, 2, length, 4)
        plain = stream_of(tokens, spaces)
        for x in (plain, with_junk(plain, spaces, rng, ("position",))):
            assert_looks(pattern_of(x, W_Q, W_K), before(tokens), tokens)


# --- 7. Into TransformerLens


def test_widen(widen, rng):
    """The same pattern and output with the d_head that was asked for, from equal and unequal ones, also when kept."""
    for more in (2, 0, 1, 5):
        for d_qk, d_v in ((2, 2), (4, 1), (1, 3), (None, None)):
            d_model = rng.integer(3, 8)
            head = random_head(rng, d_model, d_qk=d_qk, d_v=d_v)
            d_head = max(head.W_Q.shape[1], head.W_V.shape[1]) + more
            parts = [getattr(head, name) for name in NAMES]
            with unchanged(parts), nothing_left_behind():
                result = weights_of(widen(head, d_head), d_model)
            for name in NAMES:
                assert getattr(head, name) is parts[NAMES.index(name)], f"the head that was given has another {name}"
            shapes = {name: list(getattr(result, name).shape) for name in NAMES}
            right = all(shapes[name] == [d_model, d_head] for name in NAMES[:3]) and shapes["W_O"] == [d_head, d_model]
            assert right, f"widened to d_head {d_head}, d_model {d_model}, the shapes are {shapes}"
            x = rng.normal(2, 5, d_model)
            (pattern, out), (wide_pattern, wide_out) = run(x, head), run(x, result)
            said = f"from d_head {head.W_Q.shape[1]} (values {head.W_V.shape[1]}) to {d_head}"
            assert_close(wide_pattern, pattern, f"{said}, the pattern has changed", rtol=1e-3, atol=1e-4)
            assert_close(wide_out, out, f"{said}, the output has changed", rtol=1e-3, atol=1e-3)


# --- 8. Open task


def test_wire_rule(wire_rule, rng):
    """At least 99 % of the answers on fresh rows of each rule, with other numbers of tokens and other lengths."""
    shares, slips, calls = {}, [], 0
    # Fewer and more than the examples that the notebook shows: 7 tokens, length 20.
    for n_tokens, length in ((rng.integer(8, 11), rng.integer(21, 26)), (rng.integer(5, 7), rng.integer(15, 20))):
        for rule in "DCBA":  # the hard ones first: they tell wrong answers apart soonest
            examples, fresh = (wired.riddle(rule, rows, rng.integer(0, 10**6), n_tokens, length) for rows in (40, 60))
            with unchanged(*examples), nothing_left_behind():
                result = wire_rule(*examples, n_tokens)
            guesses = guesses_of(result, fresh[0], n_tokens)
            told = fresh[1] != wired.NO_ANSWER
            hit = guesses == fresh[1]
            shares.setdefault(rule, []).append(hit[told].double().mean().item())
            if shares[rule][-1] < 0.99:
                slips.append((calls, rule, *fresh, guesses, (told & ~hit).nonzero()[0].tolist()))
            calls += 1
    if slips:
        said = "; ".join(f"{rule} {', '.join(f'{share:.0%}' for share in of)}" for rule, of in sorted(shares.items()))
        call, rule, tokens, answers, guesses, (row, place) = slips[-1]
        case = f"by rule {rule} the answer to {words(tokens[row, : place + 1])} is {words(answers[row, [place]])}"
        case += f", and the largest logit is that of {words(guesses[row, [place]])}"
        raise OverManyCalls(f"answers right on fresh rows, for two sizes: {said}. For instance, {case}", call)


def guesses_of(result, tokens, n_tokens):
    """[row pos]: the token of the largest logit."""
    pair = isinstance(result, tuple | list) and len(result) == 2 and isinstance(result[0], dict)
    assert pair, f"return the spaces, a dict, and the layers; not {type(result).__name__}"
    spaces, layers = result
    for name, least in (("token", n_tokens), ("position", tokens.shape[1]), ("out", n_tokens)):
        assert name in spaces, f'there is no space "{name}": run_layers needs it'
        assert size(spaces[name]) >= least, f'space "{name}" has {size(spaces[name])} axes; {least} are needed'
    return logits_of(tokens, spaces, layers_of(layers, width(spaces)))[0].argmax(-1)
