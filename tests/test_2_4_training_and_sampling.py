"""Checks of 2.4 Training and sampling: slow loops are the reference, and what is random is tested exactly.

A test of draws compares each token's count with the binomial distribution that a right sampler has, by its exact tails.
All such tests of one check together refuse a right answer once in a million runs (FALSE_ALARM), whatever the seed.
"""

import copy
import itertools
import math

import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from concrete_steps.checking.mistakes import same
from concrete_steps.checking.testing import (
    assert_choice,
    assert_close,
    assert_draws_from,
    assert_equal,
    assert_gradient_values,
    assert_minus_infinity,
    assert_plain,
    assert_precise,
    assert_tensor,
    awkward,
    nothing_left_behind,
    shapes_with_ones,
    strided,
    unchanged,
)

PAD, END = 0, 2
F32, F64 = torch.float32, torch.float64
FALSE_ALARM = 1e-6  # how often a check of draws refuses a right answer

# Changes that make no wrong answer; scripts/mutate.py counts them apart:
# equivalent mutant of greedy, BitOr -> Add: of truth values the two are the same
# equivalent mutant of greedy, masked_fill -> masked_fill_: argmax has made a tensor of its own
# equivalent mutant of greedy, Eq -> LtE: no token is below 0
# equivalent mutant of greedy, drop USub (2x): the last axis of two is axis 1
# equivalent mutant of greedy, 1 -> -1 (2x): the last axis of two is axis 1
# equivalent mutant of apply_temperature, Eq -> LtE: no temperature is below 0
# equivalent mutant of apply_temperature, Lt -> NotEq: none is above the largest
# equivalent mutant of apply_frequency_penalty, drop USub: the last axis of two is axis 1
# equivalent mutant of apply_frequency_penalty, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of top_k, swap arguments 0 and 1 of min: min has no order
# equivalent mutant of sample_next, 0.0 -> -0.0: they are equal
# equivalent mutant of sample_next, 1.0 -> 2.0: a p of 1 or more keeps all
# equivalent mutant of sample_next, keep int: an annotation
# equivalent mutant of sample_next, keep None: an annotation
# equivalent mutant of sample_next, Is -> Eq: of None the two are the same
# equivalent mutant of sample_next, 1 -> 2: of two draws the first is taken
# equivalent mutant of sample_next, 0 -> -1: the only draw is taken
# equivalent mutant of sample_next, drop USub: the last axis of two is axis 1
# equivalent mutant of sample_next, 1 -> -1: the last axis of two is axis 1
# equivalent mutant of cached_attention, drop USub (3x): of four axes the last but one is axis 2
# equivalent mutant of cached_attention, 2 -> -2 (3x): of four axes the last but one is axis 2
# equivalent mutant of cached_attention, swap arguments 0 and 1 of transpose: the order of two axes does not matter
# equivalent mutant of cached_attention, drop device= of ones: only a GPU can tell
# equivalent mutant of cached_attention, k -> v: keys and values are as many
# equivalent mutant of cached_attention, q -> k (2x): queries and keys have the same d_head and device
# equivalent mutant of cached_attention, q -> v (2x): queries and values have the same d_head and device
# equivalent mutant of cached_attention, masked_fill -> masked_fill_: the product has made a tensor of its own
# equivalent mutant of lm_loss, 0 -> -1: the axis has one entry
# equivalent mutant of lm_loss, NotEq -> Gt: PAD is 0, and no id is below it
# equivalent mutant of lm_loss, [:-1] -> [:]: gather reads as many positions as there are targets
# equivalent mutant of get_batch, drop .tolist(): a tensor of one number is an index, too
# equivalent mutant of get_batch, drop strict= of zip: there are as many drawn as rows
# equivalent mutant of get_batch, True -> False: there are as many drawn as rows
# equivalent mutant of train_step, optimizer -> model: of the parameters that both have
# equivalent mutant of top_p, GtE -> Gt: only where a sum is p to the last digit
# equivalent mutant of top_p, GtE -> Eq: p is 1 at most
# equivalent mutant of top_p, masked_fill -> masked_fill_: the sorted logits are a tensor of its own
# equivalent mutant of top_p, drop .clone(): nothing says that the result is another tensor
# equivalent mutant of top_p, drop USub: of the tensor in which every place is then filled
# equivalent mutant of generate_with_cache, BitOr -> Add: of true and false
# equivalent mutant of generate_with_cache, Eq -> LtE: PAD is 0, and no id is below it
# equivalent mutant of generate_with_cache, masked_fill -> masked_fill_: what `choose` gives is needed no more
# equivalent mutant of generate_with_cache, drop USub: the last of two axes
# equivalent mutant of generate_with_cache, 1 -> -1: the last of two axes
# equivalent mutant of KVCache, 2 -> -2 (3x): axis 2 is the last but one
# equivalent mutant of KVCache, 0 -> 1: of keys and values, which have as many positions
# equivalent mutant of KVCache, 0 -> -1: of keys and values, which have as many positions
# equivalent mutant of KVCache, drop USub (3x): of [batch head position d_head], axis 2 is the last but one


def answer_to(function, *args, **kwargs):
    """What the function gives; its arguments and everything global are as before."""
    with nothing_left_behind(), unchanged(*args, *kwargs.values()):
        return function(*args, **kwargs)


def seeded(rng):
    return torch.Generator().manual_seed(rng.integer(0, 10**6))


def texts_of(rng, rows, longest, vocab, pad=True):
    """Rows of tokens from 1 on, each filled up with PAD from a place of its own; the first is full."""
    tokens = rng.integers(1, max(vocab, 2), rows, longest)
    for row in tokens[1:] if pad else ():
        row[rng.integer(2, longest + 1) if longest > 2 else longest :] = PAD
    return tokens


# --- 1. Loss and batches


def slow_loss(logits, tokens):
    """Position by position."""
    costs = []
    for row, ids in zip(logits, tokens.tolist(), strict=True):
        costs += [F.cross_entropy(row[i], torch.tensor(ids[i + 1])) for i in range(len(ids) - 1) if ids[i + 1] != PAD]
    return torch.stack(costs).mean()


def test_lm_loss(lm_loss, rng):
    """The mean of -log p over all next tokens but padding, for even, uneven, large and far logits, in both dtypes."""
    for dtype in (F32, F64):
        for rows, longest, vocab in ((1, 2, 2), (1, 5, 4), (2, 4, 3), (3, 6, 7), (4, 3, 5)):
            tokens = texts_of(rng, rows, longest, vocab)
            tensors = [rng.normal(rows, longest, vocab, dtype=dtype), *awkward(rng, rows, longest, vocab, dtype=dtype)]
            for logits in [*tensors, strided(tensors[0])]:
                actual = answer_to(lm_loss, logits, strided(tokens))
                assert_tensor(actual, shape=())
                message = f"not the mean of -log p of the next tokens (tokens {tokens.tolist()})"
                assert_precise(actual, slow_loss(logits, tokens), message, loosen=3)


def test_lm_loss__gradient(lm_loss, rng):
    """Its gradient is the derivative; padding and the last position get none"""
    tokens = torch.tensor([[1, 3, 2, 4], [1, 2, 0, 0]])
    assert_gradient_values(lambda logits: lm_loss(logits, tokens), rng.normal(2, 4, 5, dtype=F64))


def test_get_batch(get_batch, rng):
    """Different texts, whole and in no other order, with padding on the right up to the longest of them."""
    sizes = ((2, 2, 2), (1, 1, 3), (3, 1, 4), (6, 4, 5), (9, 9, 7), (20, 3, 9), *[(12, 3, 0)] * 15)
    for n, rows, longest in sizes:  # 0: each text is longer than the one before it, so that the widths differ
        more = [rng.integer(0, longest - 1) if longest else i for i in range(n)]
        texts = [torch.tensor([1, 3 + i, *[4] * more[i]]) for i in range(n)]
        batch = assert_tensor(get_batch_of(get_batch, texts, rows, seeded(rng)))
        assert batch.ndim == 2 and len(batch) == rows, f"expected {rows} rows, got shape {list(batch.shape)}"
        assert batch.dtype == torch.int64, f"token ids are whole numbers (int64), these are {batch.dtype}"
        which = []
        for row in batch.tolist():
            found = next((i for i in range(n) if 3 + i in row and row.index(3 + i) < 2), None)
            assert row[0] != PAD or not any(row), f"padding stands on the left: it belongs behind the text (row {row})"
            assert found is not None, f"row {row} is none of the texts: it should begin with [1, a number of its own]"
            text = texts[found].tolist()
            assert row[: len(text)] == text, f"row {row} does not hold the whole text {text}"
            assert not any(row[len(text) :]), f"what follows text {text} in row {row} is not PAD (0)"
            which.append(found)
        assert len(set(which)) == rows, f"the same text comes twice in a batch: texts {sorted(which)} were drawn"
        most, width = max(len(texts[i]) for i in which), batch.shape[1]
        assert width == most, (
            f"is {width} wide: the longest text drawn has {most} (of all there are: {longest_of(texts)})"
        )


def longest_of(texts):
    return max(map(len, texts))


def get_batch_of(get_batch, texts, rows, generator):
    """The batch; only the generator may have moved."""
    with nothing_left_behind(), unchanged(texts):
        return get_batch(texts, rows, generator)


def test_get_batch__drawn(get_batch, rng):
    """The generator decides, and every text and every pair come as often as another (refused by chance: 1 in 10^6)"""
    texts, times = [torch.tensor([1, 3 + i, *[4] * i]) for i in range(8)], 600
    assert_draws_from(lambda generator: get_batch(texts, 3, generator))
    generator = seeded(rng)
    batches = [(get_batch(texts, 3, generator)[:, 1] - 3).tolist() for _ in range(times)]
    assert any(batch != batches[0] for batch in batches), f"every call gives the same texts: {times} times {batches[0]}"
    alone = torch.tensor([sum(i in batch for batch in batches) for i in range(8)])
    pairs = list(itertools.combinations(range(8), 2))
    tests = len(alone) + len(pairs)
    surprising(alone, torch.full((8,), 3 / 8), times, tests, "batches have text", range(8))
    both = torch.tensor([sum(i in batch and j in batch for batch in batches) for i, j in pairs])
    names = [f"{i} beside text {j}" for i, j in pairs]
    surprising(both, torch.full((len(pairs),), 3 / 28), times, tests, "batches have text", names)
    seed = rng.integer(0, 10**6)
    first, again, other = (
        [get_batch(texts, 3, generator).tolist() for _ in range(5)]
        for generator in (torch.Generator().manual_seed(s) for s in (seed, seed, seed + 1))
    )
    assert first == again, "the same generator gives other texts: draw from it, and from nothing else"
    assert first != other, "another generator gives the same texts: it is not used"


def surprising(counts, probabilities, n, tests, what, names):
    """No count out of n is beyond what chance gives once in 1 / FALSE_ALARM runs, over all `tests` of the check."""
    for name, count, p in zip(names, counts.tolist(), probabilities.tolist(), strict=True):
        tails = min(stats.binom.cdf(count, n, p), stats.binom.sf(count - 1, n, p))
        assert 2 * tails > FALSE_ALARM / tests, (
            f"{count} of {n} {what} {name}; expected {n * p:.0f}. Chance is so far off less than once in "
            f"{tests / FALSE_ALARM:.0e} times"
        )


# --- 2. One step


class Pairs(nn.Module):
    """Logits from the last token alone: a table and a bias, so that two gradients can be told apart."""

    def __init__(self, rng, vocab, scale=1.0):
        super().__init__()
        self.table = nn.Parameter(scale * rng.normal(vocab, vocab))
        self.bias = nn.Parameter(scale * rng.normal(vocab))

    def forward(self, tokens):
        return self.table[tokens] + 5 * self.bias


def gradients(model, tokens):
    loss = slow_loss(model(tokens), tokens)
    return loss.item(), torch.autograd.grad(loss, list(model.parameters()))


def clipped(grads, clip):
    norm = math.sqrt(sum(g.square().sum().item() for g in grads))
    return [g * min(1, clip / norm) for g in grads]


def otherwise_clipped(grads, clip):
    """What is often taken for it, by what it is."""
    norm = math.sqrt(sum(g.square().sum().item() for g in grads))
    yield "does not clip the gradients", grads
    yield "clips in parts: the norm is that of all gradients together", [clipped([g], clip)[0] for g in grads]
    yield "cuts off each number of a gradient: all are multiplied by one factor", [g.clamp(-clip, clip) for g in grads]
    yield "brings every gradient to the norm: smaller ones stay as they are", [g * clip / norm for g in grads]


def test_train_step(train_step, rng):
    """The loss before, and the weights after: gradients cleared, clipped as one vector, at the given rate."""
    for vocab, rows, share in ((3, 2, 0.5), (4, 1, 3.0), (5, 3, 0.2), (4, 2, 0.7), (3, 2, 20.0)):
        model, tokens = Pairs(rng, vocab), texts_of(rng, rows, 5, vocab)
        rate = 0.1 + rng.uniform(1).item()
        optimizer = torch.optim.SGD([{"params": [model.table]}, {"params": [model.bias]}], lr=7.0)
        old = [rng.normal(*p.shape) for p in model.parameters()]
        for p, grad in zip(model.parameters(), old, strict=True):
            p.grad = grad.clone()
        before = [p.detach().clone() for p in model.parameters()]
        loss, grads = gradients(model, tokens)
        norms = [g.norm().item() for g in grads]
        clip = share * (min(norms) if share < 1 else sum(norms))  # below each one's norm, or above all together
        with nothing_left_behind(), unchanged(tokens):
            said = train_step(model, optimizer, tokens, rate, clip)
        assert model.training, "leaves the model in evaluation mode: there is no dropout from then on"
        after = [p.detach() for p in model.parameters()]
        moved = [(a - b) for a, b in zip(before, after, strict=True)]
        assert any(m.any() for m in moved), "the weights have not moved: no optimizer.step(), or no gradients before it"
        assert_plain(said, float)
        now = slow_loss(model(tokens), tokens).item()
        assert same(said, loss) or not same(said, now), "gives the loss after the step: before is asked for"
        assert_close(said, loss, "not the loss before the step (as lm_loss gives it)")
        if not moves(moved, clipped(grads, clip), rate):
            piled = [g + o for g, o in zip(grads, old, strict=True)]
            assert not moves(moved, clipped(piled, clip), rate), "does not clear the old gradients: they pile up"
            old_rate = moves(moved, clipped(grads, clip), 7.0)
            assert not old_rate, "keeps the optimizer's old rate: set group['lr'] before the step"
            for sentence, other in otherwise_clipped(grads, clip):
                assert not moves(moved, other, rate), f"{sentence} (clip={clip:.3g})"
        for name, m, g in zip(("first", "second"), moved, clipped(grads, clip), strict=True):
            message = f"not one step of the optimizer, for the parameter of its {name} group (clip={clip:.3g})"
            assert_close(m, rate * g, message, rtol=1e-3)


def moves(moved, grads, rate):
    """Whether the weights went by rate times these gradients."""
    return all(torch.allclose(m, rate * g, rtol=1e-3, atol=1e-5) for m, g in zip(moved, grads, strict=True))


def test_train_step__default(train_step, rng):
    """Clips to 1 unless told otherwise, and works with Adam"""
    model, tokens = Pairs(rng, 4, scale=3.0), texts_of(rng, 2, 6, 4)
    before = [p.detach().clone() for p in model.parameters()]
    _, grads = gradients(model, tokens)
    train_step(model, torch.optim.SGD(model.parameters(), lr=1.0), tokens, 0.5)
    for old, p, g in zip(before, model.parameters(), clipped(grads, 1.0), strict=True):
        assert_close(old - p.detach(), 0.5 * g, "not clipped to a norm of 1, the default", rtol=1e-3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    losses = [train_step(model, optimizer, tokens, 0.05) for _ in range(30)]
    assert losses[-1] < losses[0], f"30 steps of Adam on one batch lower no loss: {losses[0]:.3f} to {losses[-1]:.3f}"


def test_train_step__optimizer(train_step, rng):
    """The step is the given optimizer's, momentum and weight decay included, whose rate may change each time"""
    model = Pairs(rng, 4)
    twin = copy.deepcopy(model)
    optimizer, its = (torch.optim.SGD(m.parameters(), lr=1.0, momentum=0.9, weight_decay=0.1) for m in (model, twin))
    for step, rate in enumerate((0.3, 0.1, 0.5)):
        tokens = texts_of(rng, 2, 6, 4)
        train_step(model, optimizer, tokens, rate, 0.7)
        _, grads = gradients(twin, tokens)
        for p, g in zip(twin.parameters(), clipped(grads, 0.7), strict=True):
            p.grad = g
        its.param_groups[0]["lr"] = rate
        its.step()
        for p, expected in zip(model.parameters(), twin.parameters(), strict=True):
            message = f"step {step + 1} is not what the given optimizer does (SGD with momentum and weight decay)"
            assert_close(p, expected, message, rtol=1e-3, atol=1e-4)


# --- 3. A minute of training


def test_answer_below(answer_below):
    """Entropy is a mean over all stories; some cost less, the law included."""
    assert_choice(answer_below, "b", "what would the law itself lose on these 40 stories?")


# --- 4. Greedy, and hotter


class Reader(nn.Module):
    """A causal model whose every logit depends on all tokens so far and on their places, with or without a cache."""

    def __init__(self, rng, vocab, n_ctx=40, follow=None):
        super().__init__()
        self.E, self.P, self.U = (rng.normal(*shape, dtype=F64) for shape in ((vocab, 6), (n_ctx, 6), (6, vocab)))
        self.follow = torch.zeros(vocab, vocab, dtype=F64)  # what a token makes likely after it, whatever was before
        for token, next_ in (follow or {}).items():
            self.follow[token, next_] = 1000
        self.seen = []  # for each call: how many tokens, and how many positions were in the cache (None: no cache)

    def forward(self, tokens, cache=None):
        start = 0 if cache is None else len(cache)
        self.seen.append((tokens.shape[1], None if cache is None else start))
        assert tokens.ndim == 2 and tokens.shape[1], f"the model reads tokens [batch pos], not {list(tokens.shape)}"
        x = (self.E[tokens] + self.P[start : start + tokens.shape[1]])[:, None]  # batch head=1 pos d
        for layer in (0, 1):
            k, v = (x, x.tanh()) if cache is None else cache.append(layer, x, x.tanh())
            x = (x + (k.sin() * v).cumsum(-2)[..., -x.shape[-2] :, :]) / 2
        return 2 * x[:, 0] @ self.U + self.follow[tokens]


def prompts_for(rng, vocab):
    """Texts to be continued: one, several, a single token, and some that are over."""
    yield torch.tensor([[1]])
    yield rng.integers(3, vocab, 1, 4)
    yield strided(rng.integers(3, vocab, 3, 5))
    ended = rng.integers(3, vocab, 4, 4)
    ended[1, -1], ended[2, -2:] = END, torch.tensor([END, PAD])
    yield ended


ENDS = {5: END, 4: PAD, 3: 3, END: 5, PAD: 3}  # after 5 the text is over, after 4 it is filled up, after 3 it goes on


def cases_of_texts(rng):
    """Models, and texts for each of them: of any tokens; and such that rows end by and by, by END or PAD, or never."""
    for vocab in (6, 30, 4):
        yield Reader(rng, vocab), list(prompts_for(rng, vocab))
    yield Reader(rng, 6, follow=ENDS), [torch.tensor([[1, 3, 5], [3, 5, 4], [5, 4, 3], [1, 3, END], [3, END, PAD]])]
    endless = Reader(rng, 30)
    endless.follow[:, [PAD, END]] = -1000
    yield endless, [rng.integers(3, 30, 3, 6)]
    yield Reader(rng, 6, follow=ENDS), [torch.tensor([[3, 5], [3, 4]]), torch.tensor([[1, END]])]


def continued(model, tokens, n, choose):
    """Whole texts, again and again."""
    rows = tokens.tolist()
    for _ in range(n):
        logits = model(torch.tensor(rows))[:, -1]
        new = choose(logits, torch.tensor(rows)).tolist()
        rows = [[*row, PAD if row[-1] in (END, PAD) else token] for row, token in zip(rows, new, strict=True)]
    return torch.tensor(rows)


def likeliest(logits, tokens):
    return logits.argmax(-1)


def test_greedy(greedy, rng):
    """The likeliest token after the whole text, n times; a text that is over gets PAD."""
    for model, texts in cases_of_texts(rng):
        for n in (3, 12, 1, 0):
            for tokens in texts:
                with nothing_left_behind(model), unchanged(tokens):
                    actual = greedy(model, tokens, n)
                assert_text(actual, continued(model, tokens, n, likeliest), tokens, "the likeliest token each time")


def assert_ids(actual, shape):
    assert_tensor(actual, shape=shape)
    assert not actual.is_floating_point(), f"token ids are whole numbers, these are {actual.dtype}"


def assert_text(actual, expected, tokens, what):
    assert_ids(actual, expected.shape)
    known = tokens.shape[1]
    assert torch.equal(actual[:, :known], tokens), "the texts themselves are changed: new tokens come behind them"
    for got, want in zip(actual.tolist(), expected.tolist(), strict=True):
        place = next((i for i in range(known, len(want)) if got[i] != want[i]), None)
        end = {END: "END (2)", PAD: "PAD (0)"}.get(want[place - 1]) if place is not None else None
        assert not end, f"goes on after {end}: the next token is {got[place]}, and PAD is asked for"
        assert place is None, f"not {what}: text {want[:place]} goes on with {want[place]}, yours with {got[place]}"


def test_answer_temperature(answer_temperature):
    """The root of 16."""
    assert_choice(answer_temperature, "a", "p to the power of 1/T: what does that do to a ratio of 16?")


def rows_of_logits(rng, dtype):
    """Logits [... vocab] of many kinds."""
    for shape in [*shapes_with_ones(2, 3, 4), (5,), (3, 7)]:
        yield rng.normal(*shape, dtype=dtype)
    yield from awkward(rng, 2, 6, dtype=dtype)
    yield strided(rng.normal(3, 5, dtype=dtype))
    yield torch.tensor([[2.0, 1.999, 0.5, -1.0], [0.0, -1e-4, 1e-4, -5.0]], dtype=dtype)  # all but equal


def test_apply_temperature(apply_temperature, rng):
    """Logits over the temperature; at 0 only the largest stay, ties among them."""
    for dtype in (F32, F64):
        for logits in rows_of_logits(rng, dtype):
            for temperature in (2.0, 0.5, 1.0, 3, 0.01):
                actual = answer_to(apply_temperature, logits, temperature)
                assert_precise(actual, logits / temperature, f"not the logits at temperature {temperature}")
            for temperature in (0, 0.0):
                actual = assert_tensor(answer_to(apply_temperature, logits, temperature), logits.shape, logits.dtype)
                divided = actual.isnan().any() or actual.isposinf().any()
                assert not divided, "temperature 0 gives nan or infinity: nothing can be divided by 0"
                kept = logits == logits.amax(-1, keepdim=True)
                assert same(actual[kept], logits[kept]), (
                    f"at temperature 0 the largest of each row stays as it is: {logits.tolist()} gave {actual.tolist()}"
                )
                assert_minus_infinity(actual[~kept], "at temperature 0 all but the largest of each row are out")


# --- 5. Forbid and discourage


def test_apply_frequency_penalty(apply_frequency_penalty, rng):
    """The penalty once for each time, row by row; for texts of any length, none included."""
    for dtype in (F32, F64):
        for rows, length, vocab in ((1, 3, 2), (1, 0, 3), (2, 1, 1), (2, 5, 4), (3, 9, 5), (1, 1, 1), (2, 300, 2)):
            tokens = strided(rng.integers(0, vocab, rows, length)) if length else torch.zeros(rows, 0, dtype=torch.long)
            counts = torch.tensor([[text.count(i) for i in range(vocab)] for text in tokens.tolist()], dtype=F64)
            for logits in [rng.normal(rows, vocab, dtype=dtype), *awkward(rng, rows, vocab, dtype=dtype)]:
                for penalty in (1.0, 0.3, 0.0, 2, -0.5):
                    actual = answer_to(apply_frequency_penalty, logits, tokens, penalty)
                    assert_tensor(actual, logits.shape, dtype)
                    said = f"penalty {penalty}, texts {tokens.tolist() if length < 20 else f'of {length} tokens'}"
                    # A Python number times whole counts is float32; summed one by one the far logits round, too.
                    assert_close(actual, logits.double() - penalty * counts, said, rtol=1e-5, atol=5e-3)


def assert_kept(actual, logits, least, most, what):
    """Row by row at least so many, at most so many kept as they are, none of them smaller than one that is out."""
    assert_tensor(actual, logits.shape, logits.dtype)
    triples = zip(actual.reshape(-1, logits.shape[-1]), logits.reshape(-1, logits.shape[-1]), strict=True)
    for (out, row), low, high in zip(triples, least, most, strict=True):
        assert not out.isnan().any(), f"{what}: nan in {_shown(out)}, for logits {_shown(row)}"
        stays = out > -torch.inf
        changed = stays & (out != row)
        said = f"{what}: logits {_shown(row)} became {_shown(out)}"
        assert not changed.any(), f"{said}; what stays keeps its logit, all others are at minus infinity (-torch.inf)"
        assert low <= int(stays.sum()) <= high, f"{said}; {low} should stay, {int(stays.sum())} do"
        if stays.any() and not stays.all():
            assert row[stays].min() >= row[~stays].max(), f"{said}; a larger logit is out while a smaller one stays"


def _shown(row):
    return [round(x, 3) for x in row.tolist()]


def test_top_k(top_k, rng):
    """The k largest of each row with their logits, all others at minus infinity; also for k above the vocabulary."""
    for dtype in (F32, F64):
        for logits in rows_of_logits(rng, dtype):
            vocab = logits.shape[-1]
            rows = logits.reshape(-1, vocab)
            for k in (1, 2, 3, vocab, vocab + 3):
                actual = answer_to(top_k, logits, k)
                border = rows.sort(descending=True).values[:, min(k, vocab) - 1 : min(k, vocab)]
                least = [min(k, vocab)] * len(rows)
                assert_kept(actual, logits, least, (rows >= border).sum(-1).tolist(), f"top-k with k={k}")


def how_many(row, p):
    """The fewest of the likeliest that reach p, and how far p is from where this number would change."""
    sums = row.double().softmax(-1).sort(descending=True).values.cumsum(0)
    return int((sums < p).sum()) + 1, (sums - p).abs().min().item()


def test_top_p(top_p, rng):
    """The fewest likeliest tokens that reach p, with their logits; at least one, and all where p is 1."""
    for dtype in (F32, F64):
        for logits in [*rows_of_logits(rng, dtype), rng.normal(2, 50, dtype=dtype)]:
            rows = logits.reshape(-1, logits.shape[-1])
            for p in (0.5, 0.9, 0.2, 0.01, 0.99, rng.uniform(1).item()):
                numbers = [how_many(row, p) for row in rows]
                if not 0 < p < 1 or min(apart for _, apart in numbers) < 1e-4:
                    continue  # too close to call for rounding
                least = [number for number, _ in numbers]
                borders = [
                    row.sort(descending=True).values[number - 1] for row, number in zip(rows, least, strict=True)
                ]
                most = [int((row >= border).sum()) for row, border in zip(rows, borders, strict=True)]
                assert_kept(answer_to(top_p, logits, p), logits, least, most, f"top-p with p={p:.3g}")
            all_of = [logits.shape[-1]] * len(rows)
            assert_kept(answer_to(top_p, logits, 1.0), logits, all_of, all_of, "top-p with p=1, where all stay")


def test_top_p__after(top_p):
    """Tokens that are out already stay out"""
    logits = torch.tensor([[0.0, -torch.inf, 2.0, -torch.inf], [1.0, 1.5, -torch.inf, -torch.inf]])
    assert_kept(answer_to(top_p, logits, 0.5), logits, [1, 1], [1, 1], "top-p with p=0.5, after a top-k of 2")


# --- 6. Draw


def reference(logits, text, temperature=1.0, penalty=0.0, k=None, p=1.0):
    """The probabilities of one row, computed with plain numbers."""
    scores = [x - penalty * text.count(i) for i, x in enumerate(logits.tolist())]
    if temperature == 0:
        return torch.tensor([float(s == max(scores)) for s in scores], dtype=F64)
    weights = [math.exp(s / temperature) for s in scores]
    order = sorted(range(len(weights)), key=lambda i: -weights[i])[: k or len(weights)]
    total, reached, chosen = sum(weights[i] for i in order), 0.0, []
    for i in order:
        if reached >= p and p < 1:
            break
        chosen.append(i)
        reached += weights[i] / total
    kept = sum(weights[i] for i in chosen)
    return torch.tensor([w / kept if i in chosen else 0.0 for i, w in enumerate(weights)], dtype=F64)


LOGITS = torch.tensor([[2.2, 1.4, 1.0, 0.6, 0.2, -1.0], [-0.5, 3.0, 0.2, 1.2, 0.4, 0.399]])
TEXTS = torch.tensor([[0, 0, 1, 5], [1, 3, 3, 1]])
SETTINGS = (
    {},
    {"temperature": 2.0},
    {"temperature": 0.5, "penalty": 0.6},
    {"k": 3},
    {"p": 0.7},
    {"k": 3, "p": 0.8},
    {"temperature": 3.0, "penalty": 0.4, "k": 4, "p": 0.7},
    {"penalty": 1.0, "k": 2},
    {"penalty": 1.0, "p": 0.6},
    {"temperature": 0.4, "p": 0.9},
    {"temperature": 0},
    {"temperature": 0, "penalty": 1.4},
)


def test_sample_next(sample_next, rng):
    """Each token as often as its probability has it (refused by chance: 1 in 10^6), none that is out."""
    n = 1500
    for options in SETTINGS:
        logits, tokens = LOGITS.repeat(n, 1), TEXTS.repeat(n, 1)
        with nothing_left_behind(), unchanged(logits, tokens):
            drawn = sample_next(logits, tokens, seeded(rng), **options)
        assert_ids(drawn, (2 * n,))
        for row in (0, 1):
            expected = reference(LOGITS[row], TEXTS[row].tolist(), **options)
            counts = drawn[row::2].bincount(minlength=6)
            said = ", ".join(f"{key}={value}" for key, value in options.items()) or "defaults"
            never = counts * (expected == 0)
            assert not never.any(), (
                f"{said}: token {int(never.argmax())}, which is out, was drawn {int(never.max())} times of {n} "
                f"(logits {_shown(LOGITS[row])}, text {TEXTS[row].tolist()})"
            )
            surprising(counts, expected, n, 12 * len(SETTINGS), f"draws ({said}) are token", range(6))


def test_sample_next__generator(sample_next, rng):
    """The generator decides, rows are independent, one row works, and no token is left out unasked"""
    n = 800
    logits, tokens = torch.zeros(n, 120), torch.zeros(n, 2, dtype=torch.long)
    assert_draws_from(lambda generator: sample_next(logits[:3], tokens[:3], generator))
    seed = rng.integer(0, 10**6)
    first, again, other = (
        sample_next(logits, tokens, torch.Generator().manual_seed(s)) for s in (seed, seed, seed + 1)
    )
    assert torch.equal(first, again), "the same generator gives other tokens: draw from it, and from nothing else"
    assert not torch.equal(first, other), "another generator gives the same tokens: it is not used"
    met = len(first.unique())  # of 120 that are equally likely; fewer than 90 come once in 10^40 times
    assert met >= 90, f"of 120 equal tokens 800 draws gave {met}: by default all stay (k=None, p=1)"
    few = sample_next(logits[:, :4], tokens, seeded(rng))
    pairs = (few[0::2] == few[1::2]).sum()[None]
    surprising(pairs, torch.tensor([0.25]), n // 2, 1, "neighbouring rows", ["draw the same token"])
    assert_tensor(sample_next(logits[:1], tokens[:1], seeded(rng)), shape=(1,))


# --- 7. Remember


def test_KVCache(KVCache, rng):
    """All keys and all values of a layer, oldest first, for several layers, sizes, dtypes and caches."""
    for batch, heads, d_head, dtype in ((1, 2, 3, F32), (2, 3, 4, F64), (1, 1, 1, F32), (3, 1, 2, F32)):
        cache, other = KVCache(), KVCache()
        assert_equal(len(cache), 0, "len of a new cache")
        kept = {0: [], 1: [], 2: []}
        handed_out = []
        for new in (1, 1, 3, 2) if heads > 1 else (2, 1500, 1):
            for layer in kept:
                k, v = (rng.normal(batch, heads, new, d_head, dtype=dtype) for _ in range(2))
                kept[layer].append((k, v))
                with unchanged(k, v):
                    result = cache.append(layer, k, v)
                assert isinstance(result, tuple | list) and len(result) == 2, "append gives two: all keys, all values"
                expected = [torch.cat(parts, dim=2) for parts in zip(*kept[layer], strict=True)]
                assert_appended(result, expected, kept, layer)
                handed_out.append((result, expected))
                positions = sum(k.shape[2] for k, _ in kept[0])
                assert len(cache) != len(kept[0]) or positions == len(kept[0]), "len counts calls, not positions"
                assert_equal(len(cache), positions, f"len, the positions of layer 0, after those of layer {layer} came")
        assert len(other) == 0, "shares what it keeps between caches: each has its own"
        for result, expected in handed_out:
            assert same(list(result), expected), "changes what it gave out before: make new tensors"
        cache.append(1, *(rng.normal(batch, heads, 2, d_head, dtype=dtype) for _ in range(2)))
        assert_equal(len(cache), positions, "len, the positions of layer 0, when layer 1 has more")


def assert_appended(result, expected, kept, layer):
    """All keys and values of the layer; else what was given instead."""
    if not same(list(result), expected):
        k, v = kept[layer][-1]
        everything = [pair for pairs in kept.values() for pair in pairs]
        known = {
            "gives only the new ones: all are asked for, oldest first": (k, v),
            "gives values first, then keys": (expected[1], expected[0]),
            "puts the new ones before the old": tuple(
                torch.cat(parts[::-1], dim=2) for parts in zip(*kept[layer], strict=True)
            ),
        }
        for sentence, other in known.items():
            assert not same(list(result), list(other)), sentence
        for got, want in zip(result, expected, strict=True):
            assert_tensor(got)
            assert not is_mixed(got, want, everything), (
                f"mixes the layers: {got.shape[2]} positions, those of other layers too, where layer {layer} was given "
                f"{want.shape[2]}"
            )
            joined = got.numel() == want.numel() and got.shape != want.shape and len(kept[layer]) > 1
            assert got.shape == want.shape, (
                f"{'joins along the wrong axis' if joined else 'not the positions that were given'}: expected shape "
                f"{list(want.shape)} (batch head pos d_head), got {list(got.shape)}, after {len(everything)} calls"
            )
    for name, got, want in zip(("keys", "values"), result, expected, strict=True):
        assert_precise(got, want, f"not all {name} of layer {layer}, oldest first")


def is_mixed(got, want, everything):
    """More positions than the layer was given, and what other layers were given is among them."""
    if (
        got.ndim != 4
        or got.shape[2] <= want.shape[2]
        or (*got.shape[:2], got.shape[3])
        != (
            *want.shape[:2],
            want.shape[3],
        )
    ):
        return False
    columns = {tuple(column.flatten().tolist()) for pair in everything for x in pair for column in x.unbind(2)}
    return all(tuple(column.flatten().tolist()) in columns for column in got.detach().unbind(2))


def slow_attention(q, k, v):
    """Query by query."""
    new, pos = q.shape[2], k.shape[2]
    out = []
    for i in range(new):
        sees = pos - new + i + 1
        scores = (q[:, :, i, None] * k[:, :, :sees]).sum(-1) / math.sqrt(q.shape[-1])
        out.append((scores.softmax(-1)[..., None] * v[:, :, :sees]).sum(-2))
    return torch.stack(out, dim=2)


def test_cached_attention(cached_attention, rng):
    """Each query sees the keys up to its own place, counted from the end; any number of them, both dtypes."""
    for dtype in (F32, F64):
        for batch, heads, new, pos, d in (
            (1, 1, 2, 5, 2),
            (1, 2, 1, 4, 3),
            (2, 3, 4, 4, 5),
            (1, 1, 1, 1, 1),
            (2, 1, 3, 7, 4),
        ):
            k, v = (strided(rng.normal(batch, heads, pos, d, dtype=dtype)) for _ in range(2))
            for q in [rng.normal(batch, heads, new, d, dtype=dtype), *awkward(rng, batch, heads, new, d, dtype=dtype)]:
                actual = answer_to(cached_attention, q, k, v)
                message = f"not causal attention of the last {new} of {pos} positions"
                assert_precise(actual, slow_attention(q, k, v), message, loosen=20)


def test_cached_attention__gradient(cached_attention, rng):
    """Gradients of queries, keys and values are derivatives"""
    inputs = [rng.normal(1, 2, n, 3, dtype=F64) for n in (2, 4, 4)]
    assert_gradient_values(cached_attention, *inputs)


def second(logits, tokens):
    """The second likeliest if the text has an even sum, else the likeliest."""
    best = logits.topk(2).indices
    return best[torch.arange(len(best)), 1 - tokens.sum(-1) % 2]


class Watched:
    """A choice that notes what it is given, and how many positions the model has read by then."""

    def __init__(self, choose, model):
        self.choose, self.model, self.calls = choose, model, []
        self.__name__ = choose.__name__

    def __call__(self, logits, tokens):
        assert logits.ndim == 2, f"choose(logits, tokens) gets logits [batch vocab], not {list(logits.shape)}"
        read = sum(new for new, _ in self.model.seen)
        self.calls.append((logits.detach().clone(), tokens.clone(), read))
        return self.choose(logits, tokens)


def test_generate_with_cache(generate_with_cache, rng):
    """The text that comes of reading everything anew each time, though the model reads each position once."""
    for model, texts in cases_of_texts(rng):
        for n, choose in (
            (4, likeliest if (model.follow > 0).any() else second),
            (12, likeliest),
            (1, likeliest),
            (0, second),
        ):
            for tokens in texts:
                expected = continued(model, tokens, n, choose)
                model.seen.clear()
                watched = Watched(choose, model)
                with nothing_left_behind(model), unchanged(tokens):
                    actual = generate_with_cache(model, tokens, n, watched)
                seen = list(model.seen)
                cached = all(start is not None for _, start in seen)
                assert cached, "calls the model without a cache: model(new, cache)"
                begun = seen[0][1] if seen else 0
                assert not begun, f"begins with {begun} positions in the cache: each call needs a KVCache of its own"
                assert_ids(actual, expected.shape)
                for call, given in enumerate(watched.calls[:n]):
                    assert_choice_is_given(given, actual[:, : tokens.shape[1] + call], tokens.shape[1], model)
                read, total = sum(new for new, _ in seen), expected.shape[1]
                assert read <= total, f"{AGAIN}: {read} of a text of {total}, in {len(seen)} calls"
                assert_text(actual, expected, tokens, "the token that `choose` gives")


AGAIN = "reads positions again that are in the cache"


def assert_choice_is_given(given, so_far, prompt, model):
    """When `choose` is called each position has been read once; it gets the last logits, and the texts so far.

    Those are the learner's own: what should stand in them is another question.
    """
    logits, text, read = given
    known = so_far.shape[1]
    assert read <= known, f"{AGAIN}: {read} where the text has {known}"
    assert read >= known, (
        f"leaves out a part of the {'prompt' if known == prompt else 'text'}: of {known} positions {read} are read "
        f"when `choose` is called"
    )
    assert tuple(text.shape) == tuple(so_far.shape), (
        f"`choose` gets the texts so far: expected shape {list(so_far.shape)}, got {list(text.shape)}"
    )
    on = (so_far[:, -1] != END) & (so_far[:, -1] != PAD)  # of the others nothing is asked
    assert torch.equal(text[on], so_far[on]), (
        f"`choose` gets the texts so far: expected {so_far[on].tolist()}, got {text[on].tolist()}"
    )
    message = "`choose` gets the logits of the last position, as the model gives them"
    assert_close(logits[on], model(so_far)[on, -1], message, rtol=1e-6, atol=1e-6)


def test_answer_grows(answer_grows):
    """Its one query meets every key."""
    assert_choice(answer_grows, "c", "one token passes through the MLP; what does its query meet?")
