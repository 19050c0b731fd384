"""Wrong answers to 3.7 Steering, and what each of them is."""

import random

import torch

from concrete_steps.checking.mistakes import mistake, right

# --- 1. A push


def _name(layer, part="resid_post"):
    return f"blocks.{layer}.hook_{part}"


def _steer(model, tokens, layer, move, at=None, part="resid_post"):
    """Logits with `move` added; its factor is part of it."""

    def push(stream, hook):
        stream = stream.clone()
        if at is None:
            stream += move
        else:
            stream[torch.arange(len(stream)), at] += move
        return stream

    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=[(_name(layer, part), push)])


@mistake("adds it before the layer (resid_pre), not after it")
def steer(model, tokens, layer, direction, strength, at=None):
    return _steer(model, tokens, layer, strength * direction, at, part="resid_pre")


@mistake("brings the direction to length 1 first: strength 1 adds the direction as it is")
def steer(model, tokens, layer, direction, strength, at=None):
    return _steer(model, tokens, layer, strength * direction / direction.norm(), at)


@mistake("leaves the strength out")
def steer(model, tokens, layer, direction, strength, at=None):
    return _steer(model, tokens, layer, direction, at)


@mistake("pushes every row at all the positions of `at`: x[:, at], where row r has position at[r] alone")
def steer(model, tokens, layer, direction, strength, at=None):
    def push(stream, hook):
        stream = stream.clone()
        stream[:, slice(None) if at is None else at.unique()] += strength * direction
        return stream

    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=[(_name(layer), push)])


@mistake("replaces the stream by the push, where it is to be added")
def steer(model, tokens, layer, direction, strength, at=None):
    def push(stream, hook):
        stream = stream.clone()
        if at is None:
            stream[:] = strength * direction
        else:
            stream[torch.arange(len(stream)), at] = strength * direction
        return stream

    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=[(_name(layer), push)])


@mistake("ignores `at`, and pushes at every position")
def steer(model, tokens, layer, direction, strength, at=None):
    return _steer(model, tokens, layer, strength * direction)


@mistake("takes away hooks of others: reset_hooks() removes all")
def steer(model, tokens, layer, direction, strength, at=None):
    logits = _steer(model, tokens, layer, strength * direction, at)
    model.reset_hooks()
    return logits


@mistake("takes position 0 for no position: ask `at is None`")
def steer(model, tokens, layer, direction, strength, at=None):
    return _steer(model, tokens, layer, strength * direction, at if at is not None and at.any() else None)


def _hold(model, tokens, layer, direction, strength, at=None):
    """Logits with the stream's part along the direction set to strength * direction."""
    unit = direction / direction.norm()

    def put(stream, hook):
        held = stream + (strength * direction.norm() - stream @ unit)[..., None] * unit
        if at is None:
            return held
        stream = stream.clone()
        stream[torch.arange(len(stream)), at] = held[torch.arange(len(stream)), at]
        return stream

    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=[(_name(layer), put)])


@mistake("sets the stream's part along the direction to the push, where it is to be added to what is there")
def steer(model, tokens, layer, direction, strength, at=None):
    return _hold(model, tokens, layer, direction, strength, at)


@right("a mask over positions")
def steer(model, tokens, layer, direction, strength, at=None):
    where = torch.ones(tokens.shape)
    if at is not None:
        where = torch.nn.functional.one_hot(at, tokens.shape[1]).float()
    with (
        torch.no_grad(),
        model.hooks(fwd_hooks=[(_name(layer), lambda x, hook: x + strength * where[..., None] * direction)]),
    ):
        return model(tokens)


# --- 2. A vector from opposite texts


@torch.no_grad()
def _streams(model, texts, layer, position=-1, part="resid_post", **more):
    """[text d_model], text by text."""
    found = []
    for text in texts:
        _, cache = model.run_with_cache(model.to_tokens(text, **more), names_filter=_name(layer, part))
        stream = cache[_name(layer, part)][0]
        found.append(stream.mean(0) if position is None else stream[position])
    return torch.stack(found)


def _contrast(positive, negative):
    return (positive - negative).mean(0), positive - negative


@mistake("points from positive to negative")
def contrastive_vector(model, positive, negative, layer):
    return _contrast(_streams(model, negative, layer), _streams(model, positive, layer))


@mistake("takes the last position of the padded batch: for a shorter text that is padding")
def contrastive_vector(model, positive, negative, layer):
    def last(texts):
        with torch.no_grad():
            tokens = model.to_tokens(texts, padding_side="right")
            return model.run_with_cache(tokens, names_filter=_name(layer))[1][_name(layer)][:, -1]

    return _contrast(last(positive), last(negative))


@mistake("averages over all positions of a text: its last token alone is asked for")
def contrastive_vector(model, positive, negative, layer):
    return _contrast(_streams(model, positive, layer, None), _streams(model, negative, layer, None))


@mistake("reads the stream before the layer (resid_pre), not after it")
def contrastive_vector(model, positive, negative, layer):
    return _contrast(*(_streams(model, its, layer, part="resid_pre") for its in (positive, negative)))


@mistake("leaves out the start token, which model.to_tokens puts in front")
def contrastive_vector(model, positive, negative, layer):
    return _contrast(*(_streams(model, its, layer, prepend_bos=False) for its in (positive, negative)))


@mistake("brings the vector to length 1: it is the differences' mean as it is")
def contrastive_vector(model, positive, negative, layer):
    vector, differences = _contrast(*(_streams(model, its, layer) for its in (positive, negative)))
    return vector / vector.norm(), differences


@right("text by text")
def contrastive_vector(model, positive, negative, layer):
    return _contrast(*(_streams(model, its, layer) for its in (positive, negative)))


@right("both lists in one batch")
def contrastive_vector(model, positive, negative, layer):
    texts = list(positive) + list(negative)
    last = [len(model.to_tokens(text)[0]) - 1 for text in texts]
    with torch.no_grad():
        _, cache = model.run_with_cache(model.to_tokens(texts), names_filter=[_name(layer)])
    ends = torch.stack([row[i] for row, i in zip(cache[_name(layer)], last, strict=True)])
    differences = ends[: len(positive)] - ends[len(positive) :]
    return differences.sum(0) / len(differences), differences


# --- 3. Dose and response


def _ends(logits, last):
    return logits[torch.arange(len(last)), last]


def _moved(model, tokens, last, layer, direction, strengths, measure, at=None):
    plain = measure(_ends(_steer(model, tokens, layer, 0 * direction), last))
    values = [measure(_ends(_steer(model, tokens, layer, s * direction, at), last)) for s in strengths]
    return torch.stack(values) - plain


@mistake("gives the measure itself, the plain run's not taken away")
def dose_response(model, tokens, last, layer, direction, strengths, measure):
    values = [measure(_ends(_steer(model, tokens, layer, s * direction), last)) for s in strengths]
    return torch.stack(values)


@mistake("measures at position -1, which is padding in the shorter rows")
def dose_response(model, tokens, last, layer, direction, strengths, measure):
    return _moved(model, tokens, torch.full_like(last, -1), layer, direction, strengths, measure)


@mistake("pushes at each row's last token alone: a tone is pushed at every position")
def dose_response(model, tokens, last, layer, direction, strengths, measure):
    return _moved(model, tokens, last, layer, direction, strengths, measure, at=last)


@mistake("takes the first strength's run for the plain one")
def dose_response(model, tokens, last, layer, direction, strengths, measure):
    moved = _moved(model, tokens, last, layer, direction, strengths, measure)
    return moved - moved[0]


@mistake("adds the pushes up: each strength on top of those before it")
def dose_response(model, tokens, last, layer, direction, strengths, measure):
    sums = torch.tensor(strengths, dtype=torch.float64).cumsum(0).tolist()
    return _moved(model, tokens, last, layer, direction, sums, measure)


@mistake("takes the mean over rows: each row has a value of its own")
def dose_response(model, tokens, last, layer, direction, strengths, measure):
    return _moved(model, tokens, last, layer, direction, strengths, measure).mean(1)


@right("the plain run among the pushed ones")
def dose_response(model, tokens, last, layer, direction, strengths, measure):
    values = torch.stack([measure(_ends(_steer(model, tokens, layer, s * direction), last)) for s in (0.0, *strengths)])
    return values[1:] - values[0]


def _price(model, tokens, last, layer, direction, strength, at=None, turned=False, to=None, base=None, first=0):
    """KL and rise of the loss; the rest are ways to be wrong."""
    plain = _steer(model, tokens, layer, 0 * direction).log_softmax(-1)
    pushed = _steer(model, tokens, layer, strength * direction, at).log_softmax(-1)
    a, b = (pushed, plain) if turned else (plain, pushed)
    kl = (a.exp() * (a - b)).sum(-1)
    rise = (plain - pushed)[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
    places = torch.arange(tokens.shape[1])
    real = (places >= first) & (places <= (last if to is None else to)[:, None])
    return (kl * real).sum(1) / real.sum(1) / (base or 1), (rise * real[:, 1:]).sum(1) / real[:, 1:].sum(1) / (
        base or 1
    )


@mistake("counts the padding, too")
def side_effects(model, tokens, last, layer, direction, strength):
    whole = torch.full_like(last, tokens.shape[1] - 1)
    return _price(model, tokens, last, layer, direction, strength, to=whole)


@mistake("has KL the other way round, from the steered to the plain distribution")
def side_effects(model, tokens, last, layer, direction, strength):
    return _price(model, tokens, last, layer, direction, strength, turned=True)


@mistake("gives bits: the logarithm is the natural one")
def side_effects(model, tokens, last, layer, direction, strength):
    return _price(model, tokens, last, layer, direction, strength, base=0.6931471805599453)


@mistake("pushes at each text's last token alone")
def side_effects(model, tokens, last, layer, direction, strength):
    return _price(model, tokens, last, layer, direction, strength, at=last)


@mistake("has the loss with the wrong sign: it rises where the text becomes less likely")
def side_effects(model, tokens, last, layer, direction, strength):
    kl, rise = _price(model, tokens, last, layer, direction, strength)
    return kl, -rise


@mistake("scores each token by the prediction at its own place, which was made after seeing it")
def side_effects(model, tokens, last, layer, direction, strength):
    kl, _ = _price(model, tokens, last, layer, direction, strength)
    plain, pushed = (_steer(model, tokens, layer, s * direction).log_softmax(-1) for s in (0.0, strength))
    rise = (plain - pushed).gather(-1, tokens[..., None])[..., 0][:, 1:]
    real = torch.arange(1, tokens.shape[1]) <= last[:, None]
    return kl, (rise * real).sum(1) / real.sum(1)


@mistake("adds over positions, where it should average")
def side_effects(model, tokens, last, layer, direction, strength):
    kl, rise = _price(model, tokens, last, layer, direction, strength)
    return kl * (last + 1), rise * last


@mistake("takes the mean over rows: each text has a price of its own")
def side_effects(model, tokens, last, layer, direction, strength):
    kl, rise = _price(model, tokens, last, layer, direction, strength)
    return kl.mean(), rise.mean()


@mistake("divides KL by the number of words, as kl_div does with reduction='mean': it is a sum over them")
def side_effects(model, tokens, last, layer, direction, strength):
    kl, rise = _price(model, tokens, last, layer, direction, strength)
    return kl / model.cfg.d_vocab, rise


def _drawn(model, tokens, last, layer, direction, strength, n=1):
    """KL of each row by n tokens that are drawn from each plain prediction."""
    plain, pushed = (_steer(model, tokens, layer, s * direction).log_softmax(-1) for s in (0.0, strength))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(plain.exp().flatten(0, 1), n, replacement=True, generator=generator)
    each = (plain - pushed).gather(-1, drawn.reshape(*tokens.shape, n)).mean(-1)
    real = torch.arange(tokens.shape[1]) <= last[:, None]
    return (each * real).sum(1) / real.sum(1)


@mistake("draws a token at each position and compares its probabilities: KL is the sum over all tokens")
def side_effects(model, tokens, last, layer, direction, strength):
    _, rise = _price(model, tokens, last, layer, direction, strength)
    return _drawn(model, tokens, last, layer, direction, strength), rise


@mistake("compares the probabilities of the text's own tokens alone: KL is the sum over all tokens")
def side_effects(model, tokens, last, layer, direction, strength):
    _, rise = _price(model, tokens, last, layer, direction, strength)
    return rise, rise


@right("torch's kl_div and cross_entropy, text by text")
def side_effects(model, tokens, last, layer, direction, strength):
    kls, rises = [], []
    for row, end in zip(tokens, last.tolist(), strict=True):
        text = row[None, : end + 1]
        plain, pushed = (_steer(model, text, layer, s * direction)[0] for s in (0.0, strength))
        divergence = torch.nn.functional.kl_div(
            pushed.log_softmax(-1), plain.log_softmax(-1), log_target=True, reduction="batchmean"
        )
        losses = [torch.nn.functional.cross_entropy(logits[:-1], text[0, 1:]) for logits in (plain, pushed)]
        kls.append(divergence)
        rises.append(losses[1] - losses[0])
    return torch.stack(kls), torch.stack(rises)


def _generate(model, tokens, n_new, layer, direction, strength, at_of=lambda tokens: None, pick=torch.argmax):
    for _ in range(n_new):
        logits = _steer(model, tokens, layer, strength * direction, at_of(tokens))
        tokens = torch.cat([tokens, pick(logits[:, -1], -1)[:, None]], dim=1)
    return tokens


@mistake("pushes at the newest position alone")
def generate_steered(model, tokens, n_new, layer, direction, strength):
    return _generate(model, tokens, n_new, layer, direction, strength, lambda x: torch.full((len(x),), x.shape[1] - 1))


@mistake("returns the new tokens without those it was given")
def generate_steered(model, tokens, n_new, layer, direction, strength):
    return _generate(model, tokens, n_new, layer, direction, strength)[:, tokens.shape[1] :]


@mistake("takes all new tokens from one run: each has to be predicted from the one before")
def generate_steered(model, tokens, n_new, layer, direction, strength):
    best = _steer(model, tokens, layer, strength * direction)[:, -1].argmax(-1)
    return torch.cat([tokens, best[:, None].expand(-1, n_new)], dim=1)


@mistake("pushes at the prompt's positions alone, not at the new ones")
def generate_steered(model, tokens, n_new, layer, direction, strength):
    n = tokens.shape[1]

    def push(stream, hook):
        stream = stream.clone()
        stream[:, :n] += strength * direction
        return stream

    for _ in range(n_new):
        with torch.no_grad():
            logits = model.run_with_hooks(tokens, fwd_hooks=[(_name(layer), push)])
        tokens = torch.cat([tokens, logits[:, -1].argmax(-1)[:, None]], dim=1)
    return tokens


@mistake("takes the least likely token")
def generate_steered(model, tokens, n_new, layer, direction, strength):
    return _generate(model, tokens, n_new, layer, direction, strength, pick=torch.argmin)


@mistake("sets the stream's part along the direction to the push, where it is to be added to what is there")
def generate_steered(model, tokens, n_new, layer, direction, strength):
    for _ in range(n_new):
        best = _hold(model, tokens, layer, direction, strength)[:, -1].argmax(-1)
        tokens = torch.cat([tokens, best[:, None]], dim=1)
    return tokens


@right("row by row, into a buffer")
def generate_steered(model, tokens, n_new, layer, direction, strength):
    rows, n = tokens.shape
    buffer = torch.zeros(rows, n + n_new, dtype=tokens.dtype)
    buffer[:, :n] = tokens
    for row in buffer:
        for end in range(n, n + n_new):
            row[end] = _steer(model, row[None, :end], layer, strength * direction)[0, -1].topk(1).indices.item()
    return buffer


# --- 4. Other pushes


def _random(model, tokens, last, layer, direction, strength, measure, n, seed, draw=torch.randn, length=True):
    generator = torch.Generator().manual_seed(seed)
    drawn = draw(n, len(direction), generator=generator)
    if length:
        drawn = drawn / drawn.norm(dim=1, keepdim=True) * direction.norm()
    pushed = [measure(_ends(_steer(model, tokens, layer, strength * each), last)) for each in drawn]
    return torch.stack(pushed) - measure(_ends(_steer(model, tokens, layer, 0 * direction), last))


@mistake("random directions of length 1: they are to be as long as the direction")
def random_direction_control(model, tokens, last, layer, direction, strength, measure, n, seed):
    longer = direction / direction.norm()
    return _random(model, tokens, last, layer, longer, strength, measure, n, seed)


@mistake("does not bring the normal numbers to a length at all")
def random_direction_control(model, tokens, last, layer, direction, strength, measure, n, seed):
    return _random(model, tokens, last, layer, direction, strength, measure, n, seed, length=False)


@mistake("draws from torch.rand, all numbers positive: one side is favoured")
def random_direction_control(model, tokens, last, layer, direction, strength, measure, n, seed):
    return _random(model, tokens, last, layer, direction, strength, measure, n, seed, draw=torch.rand)


@mistake("draws one direction and uses it every time")
def random_direction_control(model, tokens, last, layer, direction, strength, measure, n, seed):
    one = _random(model, tokens, last, layer, direction, strength, measure, 1, seed)
    return one.expand(n, -1).clone()


@mistake("shuffles the entries of the direction: as long, but not every direction is equally likely")
def random_direction_control(model, tokens, last, layer, direction, strength, measure, n, seed):
    generator = torch.Generator().manual_seed(seed)
    drawn = [direction[torch.randperm(len(direction), generator=generator)] for _ in range(n)]
    return torch.stack([_moved(model, tokens, last, layer, each, [strength], measure)[0] for each in drawn])


@mistake("along the direction itself")
def random_direction_control(model, tokens, last, layer, direction, strength, measure, n, seed):
    """Orthogonal ones alone: the part along the direction is taken out."""
    generator, unit, rows = torch.Generator().manual_seed(seed), direction / direction.norm(), []
    for _ in range(n):
        drawn = torch.randn(len(direction), generator=generator)
        drawn = torch.nn.functional.normalize(drawn - (drawn @ unit) * unit, dim=0) * direction.norm()
        rows.append(_moved(model, tokens, last, layer, drawn, [strength], measure)[0])
    return torch.stack(rows)


@mistake("is the push at every position?")
def random_direction_control(model, tokens, last, layer, direction, strength, measure, n, seed):
    """At each row's last token alone."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.nn.functional.normalize(torch.randn(n, len(direction), generator=generator), dim=1) * direction.norm()
    return torch.stack([_moved(model, tokens, last, layer, each, [strength], measure, at=last)[0] for each in drawn])


@mistake("brings points of a cube (torch.rand - 0.5) to the length: its corners are likelier than others")
def random_direction_control(model, tokens, last, layer, direction, strength, measure, n, seed):
    def draw(*shape, generator):
        return torch.rand(*shape, generator=generator) - 0.5

    return _random(model, tokens, last, layer, direction, strength, measure, n, seed, draw=draw)


@mistake("one of the random directions is the direction itself")
def random_direction_control(model, tokens, last, layer, direction, strength, measure, n, seed):
    others = _random(model, tokens, last, layer, direction, strength, measure, n - 1, seed)
    return torch.cat([_moved(model, tokens, last, layer, direction, [strength], measure), others])


@mistake("takes the mean over rows: each row has a value of its own")
def random_direction_control(model, tokens, last, layer, direction, strength, measure, n, seed):
    return _random(model, tokens, last, layer, direction, strength, measure, n, seed).mean(1)


@right("all of them in one run, measured at once")
def random_direction_control(model, tokens, last, layer, direction, strength, measure, n, seed):
    drawn = torch.randn(n + 1, len(direction), generator=torch.Generator().manual_seed(seed))
    drawn = drawn / drawn.norm(dim=1, keepdim=True) * direction.norm()
    drawn[0] = 0
    push = strength * drawn.repeat_interleave(len(tokens), 0)[:, None]
    logits = _steer(model, tokens.repeat(n + 1, 1), layer, push)
    none, *pushed = measure(_ends(logits, last.repeat(n + 1))).reshape(n + 1, -1)
    return torch.stack(pushed) - none


@right("normalize, in a loop")
def random_direction_control(model, tokens, last, layer, direction, strength, measure, n, seed):
    generator, rows = torch.Generator().manual_seed(seed), []
    for _ in range(n):
        unit = torch.nn.functional.normalize(torch.randn(direction.shape, generator=generator), dim=0)
        rows.append(_moved(model, tokens, last, layer, unit * direction.norm(), [strength], measure)[0])
    return torch.stack(rows)


def _swapped(differences, n, seed, signs_of=None):
    generator = torch.Generator().manual_seed(seed)
    shape = (n, len(differences))
    signs = (
        2.0 * torch.randint(0, 2, shape, generator=generator) - 1 if signs_of is None else signs_of(shape, generator)
    )
    return signs.to(differences.dtype) @ differences / len(differences)


def _as_long(vectors, differences):
    return vectors / vectors.norm(dim=1, keepdim=True) * differences.mean(0).norm()


@mistake("leaves the means as short as they come out: differences of mixed signs cancel")
def swapped_sides_control(differences, n, seed):
    return _swapped(differences, n, seed)


@mistake("turns all couples of a draw together: one coin for each couple")
def swapped_sides_control(differences, n, seed):
    def together(shape, generator):
        return (2.0 * torch.randint(0, 2, (shape[0], 1), generator=generator) - 1).expand(shape)

    return _as_long(_swapped(differences, n, seed, together), differences)


@mistake("draws couples anew in place of turning them: that keeps the tone")
def swapped_sides_control(differences, n, seed):
    def counts(shape, generator):
        drawn = torch.randint(0, shape[1], shape, generator=generator)
        return torch.nn.functional.one_hot(drawn, shape[1]).sum(1).float()

    return _as_long(_swapped(differences, n, seed, counts), differences)


@mistake("leaves out the couples that are not turned: each is taken once, as it is or turned")
def swapped_sides_control(differences, n, seed):
    def some(shape, generator):
        coins = torch.randint(0, 2, shape, generator=generator).float()
        coins[:, 0] = 1
        return -coins

    return _as_long(_swapped(differences, n, seed, some), differences)


@mistake("makes all vectors of length 1")
def swapped_sides_control(differences, n, seed):
    vectors = _swapped(differences, n, seed)
    return vectors / vectors.norm(dim=1, keepdim=True)


@mistake("as long as a couple's difference on average; the true vector, the mean of them, is shorter")
def swapped_sides_control(differences, n, seed):
    vectors = _swapped(differences, n, seed)
    return vectors / vectors.norm(dim=1, keepdim=True) * differences.norm(dim=1).mean()


@right("random.Random and a loop")
def swapped_sides_control(differences, n, seed):
    draw, vectors = random.Random(seed), []
    for _ in range(n):
        mixed = sum(each if draw.random() < 0.5 else -each for each in differences)
        vectors.append(torch.nn.functional.normalize(mixed, dim=0) * differences.mean(0).norm())
    return torch.stack(vectors)


@mistake("a smaller p would only say more surely that the push differs from random ones, which are a weak null")
def answer_null():
    return "a"


@mistake("random directions miss what the texts have in common beside the tone, and what the push breaks")
def answer_null():
    return "c"


def _at_cost(model, tokens, last, layer, direction, cost, most, price=None):
    price = price or (lambda s: _price(model, tokens, last, layer, direction, s)[0].mean().item())
    if price(most) <= cost:
        return float(most)
    low, high = 0.0, float(most)
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if price(middle) < cost else (low, middle)
    return (low + high) / 2


@mistake("takes the cost to grow in proportion to the strength: at first it grows with the square")
def strength_at_cost(model, tokens, last, layer, direction, cost, most):
    whole = _price(model, tokens, last, layer, direction, most)[0].mean().item()
    return float(min(most, most * cost / whole))


@mistake("takes the cost to grow with the square all the way")
def strength_at_cost(model, tokens, last, layer, direction, cost, most):
    whole = _price(model, tokens, last, layer, direction, most)[0].mean().item()
    return float(min(most, most * (cost / whole) ** 0.5))


@mistake("guesses as if the cost grew with the square, again and again: keep a strength too low and one too high, too")
def strength_at_cost(model, tokens, last, layer, direction, cost, most):
    strength = float(most)
    for _ in range(30):
        found = _price(model, tokens, last, layer, direction, strength)[0].mean().item()
        if abs(found - cost) < 0.02 * cost or (strength == most and found < cost):
            break
        strength *= (cost / max(found, 1e-12)) ** 0.5
    return strength


@mistake("meets the cost by the rise of the loss: KL is asked for")
def strength_at_cost(model, tokens, last, layer, direction, cost, most):
    return _at_cost(
        model, tokens, last, layer, direction, cost, most,
        lambda s: _price(model, tokens, last, layer, direction, s)[1].mean().item(),
    )  # fmt: skip


@mistake("returns the length of the push: the strength is what the direction is multiplied by")
def strength_at_cost(model, tokens, last, layer, direction, cost, most):
    return _at_cost(model, tokens, last, layer, direction, cost, most) * direction.norm().item()


@mistake("looks at ten strengths and takes the nearest: not near enough to the cost")
def strength_at_cost(model, tokens, last, layer, direction, cost, most):
    tried = [most * i / 10 for i in range(1, 11)]
    costs = [_price(model, tokens, last, layer, direction, s)[0].mean().item() for s in tried]
    return min(zip(tried, costs, strict=True), key=lambda each: abs(each[1] - cost))[0]


@mistake("takes the KL from the steered to the plain prediction: it goes from the plain one")
def strength_at_cost(model, tokens, last, layer, direction, cost, most):
    real = torch.arange(tokens.shape[1]) <= last[:, None]

    def price(strength):
        plain, pushed = (_steer(model, tokens, layer, s * direction).log_softmax(-1) for s in (0.0, strength))
        each = (pushed.exp() * (pushed - plain)).sum(-1) * real
        return (each.sum(1) / real.sum(1)).mean().item()

    return _at_cost(model, tokens, last, layer, direction, cost, most, price)


@mistake("takes one mean over the positions of all rows: of each row first, and then over rows")
def strength_at_cost(model, tokens, last, layer, direction, cost, most):
    def price(strength):
        kl, _ = _price(model, tokens, last, layer, direction, strength)
        return ((kl * (last + 1)).sum() / (last + 1).sum()).item()

    return _at_cost(model, tokens, last, layer, direction, cost, most, price)


@mistake("counts the padding, too")
def strength_at_cost(model, tokens, last, layer, direction, cost, most):
    whole = torch.full_like(last, tokens.shape[1] - 1)

    def price(strength):
        return _price(model, tokens, last, layer, direction, strength, to=whole)[0].mean().item()

    return _at_cost(model, tokens, last, layer, direction, cost, most, price)


@mistake("divides KL by the number of words, as kl_div does with reduction='mean': it is a sum over them")
def strength_at_cost(model, tokens, last, layer, direction, cost, most):
    return _at_cost(model, tokens, last, layer, direction, cost * model.cfg.d_vocab, most)


@mistake("compares the probabilities of tokens that are drawn: KL is the sum over all tokens")
def strength_at_cost(model, tokens, last, layer, direction, cost, most):
    def price(strength):
        return _drawn(model, tokens, last, layer, direction, strength, 100).mean().item()

    return _at_cost(model, tokens, last, layer, direction, cost, most, price)


@right("bisection, fourteen times")
def strength_at_cost(model, tokens, last, layer, direction, cost, most):
    return _at_cost(model, tokens, last, layer, direction, cost, most)


@right("scipy's brentq")
def strength_at_cost(model, tokens, last, layer, direction, cost, most):
    from scipy import optimize

    def over(strength):
        return _price(model, tokens, last, layer, direction, strength)[0].mean().item() - cost

    return float(most) if over(most) <= 0 else float(optimize.brentq(over, 0.0, most, rtol=1e-4))


@right("a guess by the square, kept between one too low and one too high")
def strength_at_cost(model, tokens, last, layer, direction, cost, most):
    low, high, strength = 0.0, float(most), float(most)
    while True:
        found = _price(model, tokens, last, layer, direction, strength)[0].mean().item()
        if abs(found - cost) <= 0.03 * cost or (strength == most and found <= cost):
            return strength
        low, high = (strength, high) if found < cost else (low, strength)
        guess = strength * (cost / max(found, 1e-12)) ** 0.5
        strength = guess if low < guess < high else (low + high) / 2


@mistake("at the same length A costs four times as much: a shorter A might do less than B")
def answer_cost():
    return "a"


@mistake("a length is no price: the same length costs more in one direction than in another")
def answer_cost():
    return "b"


# --- 5. A vector from heads


def _prompts(pairs, queries, shots, seed, shuffled, without=True, colon=": ", end=":", mix=None, anew=True):
    draw, prompts = random.Random(seed), []
    for query in queries:
        if not anew:
            draw = random.Random(seed)
        chosen = draw.sample([pair for pair in pairs if pair[0] != query or not without], shots)
        asked, answers = [a for a, _ in chosen], [b for _, b in chosen]
        if shuffled:
            answers = mix(draw, answers) if mix else draw.sample(answers, shots)
        lines = [f"{a}{colon}{b}\n" for a, b in zip(asked, answers, strict=True)]
        prompts.append("".join(lines) + query + end)
    return prompts


@mistake("the query may be among its own shots, and so its answer")
def few_shot_prompts(pairs, queries, shots, seed, shuffled=False):
    return _prompts(pairs, queries, shots, seed, shuffled, without=False)


@mistake("ends in a space, after the colon: the answer's token begins with that space")
def few_shot_prompts(pairs, queries, shots, seed, shuffled=False):
    return _prompts(pairs, queries, shots, seed, shuffled, end=": ")


@mistake("all prompts have the same shots: draw anew for each")
def few_shot_prompts(pairs, queries, shots, seed, shuffled=False):
    return _prompts(pairs, queries, shots, seed, shuffled, anew=False)


@mistake("takes the first pairs, in their order: they are to be drawn")
def few_shot_prompts(pairs, queries, shots, seed, shuffled=False):
    prompts = []
    for query in queries:
        chosen = [pair for pair in pairs if pair[0] != query][:shots]
        answers = [b for _, b in chosen]
        if shuffled:
            random.Random(seed + len(prompts)).shuffle(answers)
        lines = [f"{a}: {b}\n" for (a, _), b in zip(chosen, answers, strict=True)]
        prompts.append("".join(lines) + f"{query}:")
    return prompts


@mistake("pairs that follow each other in the list")
def few_shot_prompts(pairs, queries, shots, seed, shuffled=False):
    """A piece of the list, from a drawn place on."""
    draw, prompts = random.Random(seed), []
    for query in queries:
        others = [pair for pair in pairs if pair[0] != query]
        start = draw.randrange(len(others))
        answers = [b for _, b in (others * 2)[start : start + shots]]
        asked = [a for a, _ in (others * 2)[start : start + shots]]
        if shuffled:
            draw.shuffle(answers)
        prompts.append("".join(f"{a}: {b}\n" for a, b in zip(asked, answers, strict=True)) + f"{query}:")
    return prompts


@mistake("change places in the same way: draw it anew")
def few_shot_prompts(pairs, queries, shots, seed, shuffled=False):
    """Each answer goes to the next shot."""
    return _prompts(pairs, queries, shots, seed, shuffled, mix=lambda draw, answers: answers[1:] + answers[:1])


@mistake("draws pairs with replacement, so that one may be shown twice in a prompt")
def few_shot_prompts(pairs, queries, shots, seed, shuffled=False):
    draw, prompts = random.Random(seed), []
    for query in queries:
        chosen = draw.choices([pair for pair in pairs if pair[0] != query], k=shots)
        prompts.append("".join(f"{a}: {b}\n" for a, b in chosen) + f"{query}:")
    return prompts


@mistake("shuffled answers come from all pairs: they are those of the prompt's own shots")
def few_shot_prompts(pairs, queries, shots, seed, shuffled=False):
    every = [b for _, b in pairs]
    return _prompts(
        pairs, queries, shots, seed, shuffled, mix=lambda draw, answers: draw.choices(every, k=len(answers))
    )


@right("a generator of torch's, permutations")
def few_shot_prompts(pairs, queries, shots, seed, shuffled=False):
    generator = torch.Generator().manual_seed(seed)
    prompts = []
    for query in queries:
        others = [pair for pair in pairs if pair[0] != query]
        chosen = [others[i] for i in torch.randperm(len(others), generator=generator)[:shots].tolist()]
        order = torch.randperm(shots, generator=generator).tolist() if shuffled else range(shots)
        shown = [f"{chosen[i][0]}: {chosen[j][1]}" for i, j in enumerate(order)]
        prompts.append("\n".join([*shown, f"{query}:"]))
    return prompts


def _z(model, tokens, part="attn.hook_z"):
    """[row pos layer head d_head]"""
    names = [f"blocks.{layer}.{part}" for layer in range(model.cfg.n_layers)]
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=names)
    return torch.stack([cache[name] for name in names], dim=2)


@mistake("reads position -1, which is padding in the shorter rows")
def mean_head_outputs(model, tokens, last):
    return _z(model, tokens)[:, -1].mean(0)


@mistake("averages over all positions: the task is written at the last token")
def mean_head_outputs(model, tokens, last):
    return _z(model, tokens).mean((0, 1))


@mistake("gives every row's own z: average over rows")
def mean_head_outputs(model, tokens, last):
    return _z(model, tokens)[torch.arange(len(tokens)), last]


@mistake("adds over rows, where it should average")
def mean_head_outputs(model, tokens, last):
    return _z(model, tokens)[torch.arange(len(tokens)), last].sum(0)


@mistake("reads the first row's last position in all rows")
def mean_head_outputs(model, tokens, last):
    return _z(model, tokens)[:, last[0]].mean(0)


@right("row by row, without padding")
def mean_head_outputs(model, tokens, last):
    ends = [_z(model, row[None, : end + 1])[0, -1] for row, end in zip(tokens, last.tolist(), strict=True)]
    return torch.stack(ends).mean(0)


def _effects(model, tokens, last, answers, means, heads, together=False, everywhere=False, value="log", less=True):
    rows = torch.arange(len(tokens))

    def said(which):
        def hook_of(layer, head):
            def put(z, hook):
                z = z.clone()
                if everywhere:
                    z[:, :, head] = means[layer, head]
                else:
                    z[rows, last, head] = means[layer, head]
                return z

            return f"blocks.{layer}.attn.hook_z", put

        with torch.no_grad():
            logits = model.run_with_hooks(tokens, fwd_hooks=[hook_of(*head) for head in which])[rows, last]
        kinds = {"log": logits.log_softmax(-1), "logit": logits, "probability": logits.softmax(-1)}
        return kinds[value][rows, answers]

    values = torch.stack([said(heads[: i + 1] if together else [head]) for i, head in enumerate(heads)])
    return values - said([]) if less else values


@mistake("replaces z at all positions: at the last token alone")
def indirect_effects(model, tokens, last, answers, means, heads):
    return _effects(model, tokens, last, answers, means, heads, everywhere=True)


@mistake("leaves the heads before it replaced: each head in a run of its own")
def indirect_effects(model, tokens, last, answers, means, heads):
    return _effects(model, tokens, last, answers, means, heads, together=True)


@mistake("measures the answer's logit, not its log probability")
def indirect_effects(model, tokens, last, answers, means, heads):
    return _effects(model, tokens, last, answers, means, heads, value="logit")


@mistake("measures the probability: its logarithm is asked for")
def indirect_effects(model, tokens, last, answers, means, heads):
    return _effects(model, tokens, last, answers, means, heads, value="probability")


@mistake("does not take the plain run's log probability away")
def indirect_effects(model, tokens, last, answers, means, heads):
    return _effects(model, tokens, last, answers, means, heads, less=False)


@mistake("averages over rows: an effect for each head and row")
def indirect_effects(model, tokens, last, answers, means, heads):
    return _effects(model, tokens, last, answers, means, heads).mean(1)


@right("hooks in a with block, gathered")
def indirect_effects(model, tokens, last, answers, means, heads):
    values = []
    for which in (None, *heads):

        def put(z, hook, which=which):
            here = torch.zeros(z.shape[:3], dtype=torch.bool)
            here[torch.arange(len(z)), last, which[1]] = True
            return torch.where(here[..., None], means[which], z)

        hooks = [] if which is None else [(f"blocks.{which[0]}.attn.hook_z", put)]
        with torch.no_grad(), model.hooks(fwd_hooks=hooks):
            logits = model(tokens)
        ends = logits.gather(1, last[:, None, None].expand(-1, 1, logits.shape[-1]))[:, 0]
        values.append(ends.gather(1, answers[:, None])[:, 0] - ends.logsumexp(-1))
    return torch.stack(values[1:]) - values[0]


def _written(model, means, heads):
    with torch.no_grad():
        return sum(means[head] @ model.W_O[head] for head in heads)


@mistake("averages over the heads, where they add up in the stream")
def function_vector(model, means, heads):
    return _written(model, means, heads) / len(heads)


@mistake("takes the first heads of each layer's W_O: each head writes through its own")
def function_vector(model, means, heads):
    with torch.no_grad():
        return sum(means[layer, head] @ model.W_O[layer, 0] for layer, head in heads)


@mistake("adds the output layers' biases, which are no head's")
def function_vector(model, means, heads):
    with torch.no_grad():
        biases = [model.blocks[layer].attn.o.bias for layer in {layer for layer, _ in heads}]
        return _written(model, means, heads) + sum(bias for bias in biases if bias is not None)


@mistake("sums all heads of these layers")
def function_vector(model, means, heads):
    every = [(layer, head) for layer in {layer for layer, _ in heads} for head in range(means.shape[1])]
    return _written(model, means, every)


@mistake("takes a head for (head, layer): the layer comes first")
def function_vector(model, means, heads):
    n_layers, n_heads = means.shape[:2]
    return _written(model, means, [(head % n_layers, layer % n_heads) for layer, head in heads])


@right("einsum over all heads, with a mask")
def function_vector(model, means, heads):
    mask = torch.zeros(means.shape[:2])
    for head in heads:
        mask[head] = 1
    with torch.no_grad():
        return torch.einsum("lh,lhd,lhdm->m", mask, means, model.W_O)


def _random_heads(model, means, heads, n, seed, leave_out=True, scaled=True, replaced=False):
    draw = random.Random(seed)
    every = [(layer, head) for layer in range(means.shape[0]) for head in range(means.shape[1])]
    others = [head for head in every if head not in heads or not leave_out]
    pick = (lambda: draw.choices(others, k=len(heads))) if replaced else (lambda: draw.sample(others, len(heads)))
    vectors = torch.stack([_written(model, means, pick()) for _ in range(n)])
    if not scaled:
        return vectors
    return vectors / vectors.norm(dim=1, keepdim=True) * _written(model, means, heads).norm()


@mistake("draws from all heads: those of the vector are to be left out")
def random_head_control(model, means, heads, n, seed):
    return _random_heads(model, means, heads, n, seed, leave_out=False)


@mistake("does not bring them to the length of the function vector")
def random_head_control(model, means, heads, n, seed):
    return _random_heads(model, means, heads, n, seed, scaled=False)


@mistake("may draw a head twice for one vector: all different")
def random_head_control(model, means, heads, n, seed):
    return _random_heads(model, means, heads, n, seed, replaced=True)


@mistake("draws once, and gives the same vector n times")
def random_head_control(model, means, heads, n, seed):
    return _random_heads(model, means, heads, 1, seed).expand(n, -1).clone()


@mistake("draws single heads, where it should be as many as there are in the vector")
def random_head_control(model, means, heads, n, seed):
    draw = random.Random(seed)
    every = [(layer, head) for layer in range(means.shape[0]) for head in range(means.shape[1])]
    others = [head for head in every if head not in heads]
    vectors = torch.stack([_written(model, means, [draw.choice(others)]) for _ in range(n)])
    return vectors / vectors.norm(dim=1, keepdim=True) * _written(model, means, heads).norm()


@right("torch's permutation of the other heads")
def random_head_control(model, means, heads, n, seed):
    generator = torch.Generator().manual_seed(seed)
    others = [divmod(i, means.shape[1]) for i in range(means.shape[:2].numel())]
    others = [head for head in others if head not in {tuple(each) for each in heads}]
    length, vectors = _written(model, means, heads).norm(), []
    for _ in range(n):
        chosen = torch.randperm(len(others), generator=generator)[: len(heads)].tolist()
        vectors.append(torch.nn.functional.normalize(_written(model, means, [others[i] for i in chosen]), dim=0))
    return length * torch.stack(vectors)


@mistake("how a task is carried that the model cannot do was not tested: there is nothing to carry")
def answer_gate():
    return "b"


@mistake("a search among more heads and lengths finds something by luck; the base rate stays what it is")
def answer_gate():
    return "c"


# --- 6. Open task


def _rise(now, plain):
    """Of the answer, the mean over rows."""
    return ((now - plain)[:, -2] - (now - plain)[:, -1]).mean().item()


def _spoilt(now, plain):
    """The mean KL."""
    a = plain.log_softmax(-1)
    return (a.exp() * (a - now.log_softmax(-1))).sum(-1).mean().item()


def _added(model, tokens, layer, direction, strength, at):
    return _steer(model, tokens, layer, strength * direction, at)


def _scan(
    model, asked, others, directions, strengths=(1.6, 2.0, 4.0, 8.0), effect=_rise, cost=_spoilt, everywhere=False,
    push=_added,
):  # fmt: skip
    """{(name, layer)} by the two criteria, at one and the same strength; each is a function of new and old logits."""
    both = torch.cat([asked, others])
    end = None if everywhere else torch.full((len(both),), asked.shape[1] - 1)

    with torch.no_grad():
        plain, plain_others = model(both)[:, -1].split([len(asked), len(others)])

    def is_clean(layer, direction, strength):
        answers = push(model, both, layer, direction, strength, end)[:, -1]
        now, now_others = answers.split([len(asked), len(others)])
        return (not effect or effect(now, plain) >= 4) and (not cost or cost(now_others, plain_others) <= 0.05)

    places = [(name, layer) for name in directions for layer in range(model.cfg.n_layers)]
    return {(name, layer) for name, layer in places if any(is_clean(layer, directions[name], s) for s in strengths)}


@mistake("clean pushes were found, but")
def find_steering(model, asked, others, directions):
    """By the effect alone, whatever it costs."""
    return _scan(model, asked, others, directions, (2.0, 4.0, 8.0), cost=None)


@mistake("others were named, too:")
def find_steering(model, asked, others, directions):
    """The effect at a long push, and the price at a short one."""
    cheap = _scan(model, asked, others, directions, (0.5,), effect=None)
    return _scan(model, asked, others, directions, (8.0,), cost=None) & cheap


@mistake("missed were")
def find_steering(model, asked, others, directions):
    """The longest push alone."""
    return _scan(model, asked, others, directions, (8.0,))


@mistake("; missed were")
def find_steering(model, asked, others, directions):
    """One push, neither short nor long."""
    return _scan(model, asked, others, directions, (4.0,))


@mistake("no push was named in any model")
def find_steering(model, asked, others, directions):
    """A push at every position."""
    return _scan(model, asked, others, directions, everywhere=True)


@mistake("others were named, too: 3 lowers")
def find_steering(model, asked, others, directions):
    """How far the answer goes, whether up or down."""
    return _scan(model, asked, others, directions, effect=lambda now, plain: abs(_rise(now, plain)))


@mistake("others were named, too: 3 faint")
def find_steering(model, asked, others, directions):
    """Pushes longer than 8."""
    return _scan(model, asked, others, directions, (1.6, 2.0, 4.0, 8.0, 16.0, 32.0))


@mistake("others were named, too: 3 even")
def find_steering(model, asked, others, directions):
    """The logit of YES alone."""
    return _scan(model, asked, others, directions, effect=lambda now, plain: 2 * (now - plain)[:, -2].mean())


@mistake("named, too: 3 lowers")
def find_steering(model, asked, others, directions):
    """The logit of NO alone."""
    return _scan(model, asked, others, directions, effect=lambda now, plain: 2 * (plain - now)[:, -1].mean())


@mistake("too: 3 even")
def find_steering(model, asked, others, directions):
    """The log probability of YES: it rises wherever both answers do."""

    def log_p(now, plain):
        return 4 * ((now.log_softmax(-1) - plain.log_softmax(-1))[:, -2].mean() >= 3)

    return _scan(model, asked, others, directions, effect=log_p)


@mistake("missed were 3 kept")
def find_steering(model, asked, others, directions):
    """Overwrites what is held along the direction, where a push adds to it."""
    return _scan(model, asked, others, directions, (1.0, 1.6, 2.0, 3.0, 4.0, 5.5, 8.0), push=_hold)


@mistake("others were named, too: 3 scatters")
def find_steering(model, asked, others, directions):
    """The row that rises most, not the mean over rows."""

    def highest(now, plain):
        return ((now - plain)[:, -2] - (now - plain)[:, -1]).max()

    return _scan(model, asked, others, directions, effect=highest)


@mistake("others were named, too: 3 leaks")
def find_steering(model, asked, others, directions):
    """The price in the two answers of the other question alone."""

    def of_two(now, plain):
        return _spoilt(now[:, -4:-2], plain[:, -4:-2])

    return _scan(model, asked, others, directions, cost=of_two)


@mistake("others were named, too: 3 flips")
def find_steering(model, asked, others, directions):
    """What is predicted on average, where each row's prediction counts."""

    def on_average(now, plain):
        return _spoilt(now.softmax(-1).mean(0, keepdim=True).log(), plain.softmax(-1).mean(0, keepdim=True).log())

    return _scan(model, asked, others, directions, cost=on_average)


@mistake("clean pushes were found; missed were")
def find_steering(model, asked, others, directions):
    """YES is to win, where a rise is asked for."""
    return _scan(model, asked, others, directions, effect=lambda now, plain: 4 * ((now[:, -2] - now[:, -1]).mean() > 0))


@mistake("takes away hooks of others: reset_hooks() removes all")
def find_steering(model, asked, others, directions):
    named = _scan(model, asked, others, directions)
    model.reset_hooks()
    return named


@mistake("push was named in any model")
def find_steering(model, asked, others, directions):
    return set()


@right("a finer scan")
def find_steering(model, asked, others, directions):
    return _scan(model, asked, others, directions, (1.0, 2.0, 3.0, 4.0, 5.5, 8.0))


@right("the price by one drawn token in each row: the gap is wider than that noise")
def find_steering(model, asked, others, directions):
    def drawn(now, plain):
        tokens = torch.multinomial(plain.softmax(-1), 1, generator=torch.Generator().manual_seed(0))
        return abs((plain.log_softmax(-1) - now.log_softmax(-1)).gather(1, tokens).mean().item())

    return _scan(model, asked, others, directions, cost=drawn)


@right("kl_div's mean over words as well, and a line of its own")
def find_steering(model, asked, others, directions):
    def over_words(now, plain):
        return 10 * torch.nn.functional.kl_div(now.log_softmax(-1), plain.log_softmax(-1), log_target=True)

    return _scan(model, asked, others, directions, cost=over_words)


@right("how often the prediction of others stays, and hooks in a with block")
@torch.no_grad()
def find_steering(model, asked, others, directions):
    named, own, before = [], model(asked)[:, -1], model(others)[:, -1].argmax(-1)
    for layer in range(model.cfg.n_layers):
        for name, direction in directions.items():
            for strength in (1.5, 2.2, 3.3, 5.0, 8.0):
                move = strength * direction
                hook = (_name(layer), lambda x, hook, move=move: _pushed_at_last(x, move.expand(len(x), -1)))
                with model.hooks(fwd_hooks=[hook]):
                    now, after = model(asked)[:, -1], model(others)[:, -1].argmax(-1)
                if _rise(now, own) > 3 and (after == before).float().mean() > 0.9:
                    named.append((name, layer))
                    break
    return named


@right("lines and measures of its own: largest change of an others' logit, and a rise above 3 at any of ten strengths")
@torch.no_grad()
def find_steering(model, asked, others, directions):
    rows, strengths = torch.cat([asked, others]), torch.linspace(0.8, 8, 10)
    n, signs = len(asked), torch.tensor([1.0, -1.0])
    plain, named = model(rows)[:, -1], set()
    for name, direction in directions.items():
        for layer in range(model.cfg.n_layers):
            pushes = (strengths[:, None] * direction).repeat_interleave(len(rows), 0)
            hook = (f"blocks.{layer}.hook_resid_post", lambda x, hook, pushes=pushes: _pushed_at_last(x, pushes))
            logits = model.run_with_hooks(rows.repeat(len(strengths), 1), fwd_hooks=[hook])[:, -1]
            change = logits.unflatten(0, (len(strengths), -1)) - plain
            rises = (change[:, :n, -2:] @ signs).mean(1)
            stays = change[:, n:].abs().amax((1, 2)) < 1
            if (rises[stays] > 3).any():
                named.add((name, layer))
    return named


def _pushed_at_last(x, pushes):
    return torch.cat([x[:, :-1], x[:, -1:] + pushes[:, None]], dim=1)
