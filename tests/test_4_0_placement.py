"""Checks of 4.0, the placement of step 4. In each the smallest case comes first: a learner is shown that one."""

# equivalent mutant of effect_of_chosen, 0 -> -1: of what was gathered, which is one row
# equivalent mutant of effect_of_chosen, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of label_p, False -> True: that word has the label in every draw
# equivalent mutant of label_p, mean -> sum: in all draws the share is of the same words
# equivalent mutant of label_p, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of paths_through, drop line z = z.clone(): the tensor is the run's own
# equivalent mutant of paths_through, drop .clone(): the tensor is the run's own
# equivalent mutant of reading_margin, Gt -> NotEq: strengths are 0 or above
# equivalent mutant of reading_margin, 1 -> -1 (2x): the last axis of two is axis 1
# equivalent mutant of resampled_effects, drop names_filter= of run_with_cache: more is kept than is read
# equivalent mutant of resampled_effects, drop line z = z.clone(): the tensor is the run's own
# equivalent mutant of resampled_effects, drop .clone(): the tensor is the run's own
# equivalent mutant of label_p, drop line reached[best] = False: that word has the label in every draw
# equivalent mutant of reading_margin, masked_fill -> masked_fill_: of the second call; of the first it is rejected

import copy
import functools
import itertools

import torch

from concrete_steps.checking.testing import (
    answer_to,
    as_found,
    assert_close,
    assert_plain,
    assert_precise,
    assert_tensor,
    bent_bridge,
    drawn_bridge,
    settled,
    strided,
)

# --- 1. A Mathematical Framework

SIZES = {
    "one layer": {"n_layers": 1, "n_heads": 2},
    "one feature a head": {"n_layers": 2, "n_heads": 3, "d_head": 1},
    "shared values": {"n_layers": 2, "n_heads": 4, "n_key_value_heads": 2},
    "three layers": {"n_layers": 3, "n_heads": 2},
}
D_VOCAB = 9


def tiny(kind, rng):
    """Attention only, random weights, no biases; of its own: a call put again later must find the same weights."""
    sizes = {"d_model": 8, "d_head": 3, "n_ctx": 8, "d_vocab": D_VOCAB, **SIZES[kind]}
    model = copy.deepcopy(drawn_bridge(rng, 0.6, biases=False, attn_only=True, normalization_type=None, **sizes))
    return settled(model.requires_grad_(False))


def in_words(model):
    layers, heads, shared = model.cfg.n_layers, model.cfg.n_heads, model.cfg.n_key_value_heads or model.cfg.n_heads
    said = f"{layers} layer{'s' * (layers > 1)} of {heads} heads"
    return said if shared == heads else f"{said} that share {shared} values"


def ov(model, layer, head):
    """The head's matrix from stream to stream, read from the modules in float64."""
    cfg, attn = model.cfg, model.blocks[layer].attn
    kv = head // (cfg.n_heads // (cfg.n_key_value_heads or cfg.n_heads))
    value = attn.v.weight.double().T[:, kv * cfg.d_head : (kv + 1) * cfg.d_head]
    return value @ attn.o.weight.double().T[head * cfg.d_head : (head + 1) * cfg.d_head]


@torch.no_grad()
def sum_through(model, tokens, through):
    """Path by path: all that pass this head."""
    _, cache = model.run_with_cache(tokens)
    start = model.embed.weight.double()[tokens] + model.pos_embed.weight.double()[: tokens.shape[1]]
    total = 0
    for stations in itertools.product([None, *range(model.cfg.n_heads)], repeat=model.cfg.n_layers):
        if stations[through[0]] == through[1]:
            x = start
            for layer, head in enumerate(stations):
                if head is not None:
                    x = cache["pattern", layer][:, head].double() @ x @ ov(model, layer, head)
            total = total + x @ model.unembed.weight.double().T
    return total


def test_paths_through(paths_through, rng):
    """Through a head of the first, a middle and the last layer: path by path, with the patterns of this run."""
    cases = [("one layer", 1, 2, 0, 1), ("three layers", 1, 3, 1, 0), ("shared values", 2, 4, 0, 1)]
    cases += [("three layers", 3, 4, 2, 0), ("shared values", 1, 3, 1, 2), ("one feature a head", 2, 3, 0, 2)]
    cases.append(("three layers", 2, 3, 0, 1))  # from here paths pass several later heads
    for kind, rows, pos, layer, head in cases:
        model, tokens = tiny(kind, rng), rng.integers(0, D_VOCAB, rows, pos)
        expected = sum_through(model, tokens, (layer, head))
        with as_found(model, tokens):
            actual = paths_through(model, tokens, layer, head)
        assert_tensor(actual, shape=expected.shape)
        assert not actual.requires_grad, "the result keeps a gradient: run the model under torch.no_grad()"
        said = f"{in_words(model)}: not the sum of all paths through head {layer}, {head}"
        assert_close(actual.double(), expected, said, rtol=1e-3, atol=1e-3)


def clear_path(kind, path, rng):
    """A model, and the path's score, one that float32 can tell: rounding drowns small eigenvalues of large matrices."""
    for _ in range(200):
        model, scores = tiny(kind, rng), []
        for dtype in (torch.float64, torch.float32):
            moved = model.embed.weight.to(dtype)
            for layer, head in path:
                moved = moved @ ov(model, layer, head).to(dtype)
            eigenvalues = torch.linalg.eigvals(moved @ model.unembed.weight.to(dtype).T)
            scores.append(eigenvalues.real.sum().double() / eigenvalues.abs().sum().double())
        if abs(scores[0] - scores[1]) < 1e-4:
            break
    return model, scores[0]


def test_path_copies(path_copies, rng):
    """Paths of one, two and three heads, in their order; shared values, heads of one feature."""
    cases = [("one layer", [(0, 1)]), ("one feature a head", [(1, 0)]), ("three layers", [(0, 1), (2, 0)])]
    cases += [("shared values", [(0, 1)]), ("shared values", [(0, 2), (1, 1)]), ("three layers", [(1, 1)])]
    cases += [("three layers", [(0, 0), (1, 1), (2, 0)]), ("one layer", [(0, 0)]), ("shared values", [(1, 3)])]
    for kind, path in cases:
        (model, expected), given = clear_path(kind, path, rng), list(path)
        with as_found(model, given):
            actual = assert_plain(path_copies(model, given), float)
        said = f"the path {path}, {in_words(model)}: the sum over that of sizes"
        assert_close(actual, expected, said, rtol=1e-3, atol=1e-3)


# --- 2. What features are


def neuron(rng, words, draws, concepts):
    """Activations in eighths of the largest one; concepts that go with them a little; the same, shuffled."""
    size = 2.0 ** rng.integer(-2, 4)
    acts = rng.integers(-3, 8, words)
    acts[rng.integer(0, words)] = 8
    concept = rng.integers(0, concepts, words)
    named = concept[acts.argmax()].clone()
    concept = torch.where((acts >= 3) & (rng.uniform(words) < 0.35), named, concept)
    shuffled = torch.stack([concept[rng.permutation(words)] for _ in range(draws)])
    return acts * size / 8, concept, shuffled


def test_label_p(label_p, rng):
    """Words beside the one that chose the label; levels just reached, high and low; draws with labels of their own."""
    acts, concept = torch.tensor([0.5, 4.0, 3.0, 2.0]), torch.tensor([1, 0, 0, 1])
    shuffled = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 0], [0, 1, 0, 1]])
    cases = [(acts, concept, [0.75], shuffled), (acts, concept, [0.5, 0.125], shuffled)]
    for words, draws, concepts, levels in [(9, 5, 2, [0.25]), (30, 40, 3, [0.75, 0.5, 0.25, 0.0])] * 2:
        drawn = neuron(rng, words, draws, concepts)
        while (drawn[0] >= max(levels) * drawn[0].max()).sum() < 2:
            drawn = neuron(rng, words, draws, concepts)
        cases.append((strided(drawn[0]), strided(drawn[1]), levels, strided(drawn[2])))
    for acts, concept, levels, shuffled in cases:
        actual = assert_tensor(answer_to(label_p, acts, concept, levels, shuffled), shape=(len(levels),))
        assert actual.is_floating_point(), "p values are floating-point numbers"
        for i, level in enumerate(levels):
            strongest = max(range(len(acts)), key=acts.tolist().__getitem__)
            others = [w for w in range(len(acts)) if w != strongest and acts[w] >= level * acts[strongest]]
            scores = [sum(row[w] == row[strongest] for w in others) for row in (concept.tolist(), *shuffled.tolist())]
            as_good = sum(score >= scores[0] for score in scores)
            said = f"level {level:g}: the label holds of {scores[0]} of {len(others)} other words; "
            said += f"in {as_good - 1} of {len(shuffled)} draws its own label holds of as many, or more; the p value"
            assert_close(actual[i].double(), torch.tensor(as_good / len(scores)).double(), said)


def test_reading_margin(reading_margin, rng):
    """Strengths that differ, one on, one off, opposite directions; fewer dimensions than features, and as many."""
    corner = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    cases = [(corner, torch.tensor([[1.0, 0.0]])), (torch.tensor([[1.0], [-1.0]]), torch.tensor([[0.0, 2.0]]))]
    cases.append((torch.eye(3), torch.tensor([[2.0, 0.0, 3.0], [0.0, 0.0, 1.0]])))
    for features, d, rows, share in [(5, 3, 4, 0.4), (12, 5, 6, 0.3), (7, 7, 1, 0.5), (9, 2, 3, 0.7)]:
        cases.append((directions_of(rng, features, d), strengths_of(rng, rows, features, share)))
    for directions, strengths in cases:
        given = strided(directions), strided(strengths)
        actual = assert_tensor(answer_to(reading_margin, *given), shape=(len(strengths),))
        for row, its in enumerate(strengths):
            least, largest = ends_of(directions, its)
            said = f"row {row}, strengths {[round(x, 2) for x in its.tolist()]}: the least reading of what is on is "
            said += f"{least:.3f}, the largest of what is off {largest:.3f}; their difference"
            assert_close(actual[row].double(), least - largest, said, rtol=1e-3, atol=1e-4)
    directions, strengths = directions_of(rng, 6, 4, torch.float64), strengths_of(rng, 3, 6, 0.5).double()
    expected = torch.stack([least - largest for least, largest in (ends_of(directions, its) for its in strengths)])
    assert_precise(reading_margin(directions, strengths), expected, "loses digits", loosen=10)


def directions_of(rng, features, d, dtype=torch.float32):
    drawn = rng.normal(features, d, dtype=dtype)
    return drawn / drawn.norm(dim=1, keepdim=True)


def strengths_of(rng, rows, features, share):
    while True:
        on = rng.uniform(rows, features) < share
        if on.any(1).all() and not on.all(1).any():
            return on * (0.2 + 2 * rng.uniform(rows, features))


def ends_of(directions, strengths):
    """The least reading of what is on, the largest of what is off; feature by feature."""
    on, off = [], []
    for i, direction in enumerate(directions.double()):
        others = zip(strengths.double(), directions.double(), strict=True)
        reading = sum(strength * (other @ direction) for strength, other in others)
        (on if strengths[i] > 0 else off).append(reading)
    return min(on), max(off)


# --- 3. How to be wrong


def clear_effects(rng, heads, rows):
    """Effects whose best head is clear, whichever row is left out, and not the same for all rows."""
    for _ in range(500):
        effects = rng.normal(heads, rows) + 0.3
        chosen = []
        for row in range(rows):
            means = [sum(its[r] for r in range(rows) if r != row) / (rows - 1) for its in effects.tolist()]
            best = sorted(means)[-2:]
            chosen.append(means.index(best[-1]) if heads == 1 or best[1] - best[0] > 0.01 else None)
        if None not in chosen and (heads == 1 or len(set(chosen)) > 1):
            break
    return effects, chosen


def test_effect_of_chosen(effect_of_chosen, rng):
    """Chosen on all rows but the one, where another head is best; one head, two rows, many."""
    small = torch.tensor([[3.0, 0.0, 1.0], [0.0, 1.0, 2.0]]), [1, 0, 0]
    cases = [small, (torch.tensor([[2.0, -1.0]]), [0, 0])]
    cases += [clear_effects(rng, *size) for size in [(2, 2), (3, 4), (9, 6), (40, 12)]]
    first, chosen = clear_effects(rng, 4, 5)
    cases.append((first - 6, chosen))  # all are below 0
    for effects, chosen in cases:
        actual = assert_tensor(answer_to(effect_of_chosen, strided(effects)), shape=(effects.shape[1],))
        for row, head in enumerate(chosen):
            said = f"row {row}: over the others head {head} of {len(effects)} has the largest mean; its effect"
            assert_close(actual[row].double(), effects[head, row].double(), said)
    effects, chosen = clear_effects(rng, 3, 3)
    expected = torch.stack([effects[head, row] for row, head in enumerate(chosen)]).double()
    assert_precise(effect_of_chosen(effects.double()), expected, "loses digits")


bent = functools.partial(bent_bridge, d_vocab=D_VOCAB, heads_matter=1.2)


def first_less_last(logits):
    """A measure of the check's own."""
    return logits[:, 0] - 0.5 * logits[:, -1]


def softest(logits):
    return logits.log_softmax(-1)[:, 2]


@torch.no_grad()
def fall_of(model, tokens, heads, order, measure):
    """The run in which z of these heads is that of a run on the rows in this order."""
    _, other = model.run_with_cache(tokens[order])
    hooks = []
    for layer, head in heads:

        def put(z, hook, head=head, new=other["z", layer]):
            return torch.cat([z[:, :, :head], new[:, :, head : head + 1], z[:, :, head + 1 :]], dim=2)

        hooks.append((f"blocks.{layer}.attn.hook_z", put))
    before, after = model(tokens), model.run_with_hooks(tokens, fwd_hooks=hooks)
    return measure(before[:, -1]) - measure(after[:, -1])


def test_resampled_effects(resampled_effects, rng):
    """Heads of one layer and of several, together; rows that swap, that go round, that keep their own; many draws."""
    cases = [(2, 2, 2, [(0, 1)], [[1, 0]]), (2, 3, 3, [(0, 0), (1, 1)], [[1, 2, 0]])]
    cases += [(3, 4, 3, [(2, 0), (0, 2), (0, 1)], [[2, 0, 3, 1], [0, 1, 2, 3], [3, 3, 0, 1]])]
    cases += [(3, 1, 4, [(1, 0)], [[0]]), (2, 5, 2, [(1, 0), (1, 1)], rng.integers(0, 5, 3, 5).tolist())]
    for layers, rows, pos, heads, orders in cases:
        model, tokens = bent(layers, layers), rng.integers(0, D_VOCAB, rows, pos)
        given, measure, table = list(heads), (first_less_last, softest)[pos % 2], torch.tensor(orders)
        with as_found(model, tokens, given, table):
            actual = resampled_effects(model, tokens, given, table, measure)
        assert_tensor(actual, shape=table.shape)
        assert not actual.requires_grad, "the result keeps a gradient: run the model under torch.no_grad()"
        for draw, order in enumerate(orders):
            expected = fall_of(model, tokens, heads, order, measure)
            said = f"heads {heads} together, rows get z of rows {order}: not how far the measure of each row falls"
            assert_close(actual[draw], expected, said, rtol=1e-3, atol=1e-4)


# --- 4. The field

# By question, the right letter, and what the two others are
TOPICS = [
    ("b", {"a": "that is a sparse autoencoder", "c": "that is a tuned lens"}),
    ("c", {"a": "that is circuit discovery, as by ACDC", "b": "that is causal abstraction"}),
    ("b", {"a": "that is attribution patching", "c": "that is activation patching"}),
    ("a", {"b": "that is polysemanticity", "c": "that is superposition"}),
    ("c", {"a": "that is copy suppression", "b": "that is an attention sink"}),
    ("a", {"b": "that is contrast-consistent search", "c": "that is what patchscopes do"}),
    ("b", {"a": "that is a function vector", "c": "that is parameter decomposition"}),
    ("c", {"a": "that happens with the logit lens", "b": "that is what control tasks are for"}),
    ("b", {"a": "that is emergent misalignment", "c": "that is unfaithful chain of thought"}),
    ("a", {"b": "that is developmental interpretability", "c": "that is universality"}),
]
CLAIMS = [
    ("b", {"a": "queries, keys and values do", "c": "they have to: B reads what A wrote before"}),
    ("a", {"b": "what fits nearly may hold nearly", "c": "they often are, among kinds that can do little"}),
    (
        "c",
        {
            "a": "in superposition a neuron takes part in many features",
            "b": "what a neuron answers to again and again is no noise",
        },
    ),
    ("b", {"a": "their number does not say whose they are", "c": "what rebuilds need not be the model's"}),
    ("c", {"a": "it is: it was planted", "b": "so would whoever audits another model"}),
    (
        "a",
        {
            "b": "it is taken out of all that writes to the stream",
            "c": "whether they come is decided before, in the stream",
        },
    ),
]


def check_letters(answer, questions, enough):
    """Enough of these letters are right; what is wrong is told by the number of the question."""
    letters = "".join(assert_plain(answer, str).split()).lower()
    assert len(letters) == len(questions), (
        f"there are {len(questions)} questions and {len(letters)} letters: give one for each"
    )
    unknown = sorted(set(letters) - set("abc-"))
    assert not unknown, f"{(unknown or [''])[0]!r} is no option: use a, b, c, or - for one that you leave out"
    wrong = []
    for number, (letter, (right, why)) in enumerate(zip(letters, questions, strict=True), 1):
        if letter != right:
            wrong.append(f"{number} ({letter}): {why[letter]}" if letter in why else f"{number}: left out")
    right = len(questions) - len(wrong)
    assert right >= enough, f"{right} of {len(questions)} are right, {enough} are asked for. {'; '.join(wrong)}"


def test_answer_topics(answer_topics):
    """What ten topics are: eight or more are right."""
    check_letters(answer_topics, TOPICS, 8)


def test_answer_claims(answer_claims):
    """What is to be said against six claims: five or more are right."""
    check_letters(answer_claims, CLAIMS, 5)
