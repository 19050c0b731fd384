"""Wrong answers to 4.3 How to be wrong, and what each of them is."""

import torch

from concrete_steps import evidence, wired
from concrete_steps.checking.mistakes import mistake, right


def _name(layer, part="attn.hook_z"):
    return f"blocks.{layer}.{part}"


@torch.no_grad()
def _z(model, tokens):
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_z"))
    return {layer: cache["z", layer] for layer in range(model.cfg.n_layers)}


@torch.no_grad()
def _run(model, tokens, wanted, position=-1, at=slice(None)):
    """Logits [row d_vocab] with these heads' z, {(layer, head): new}, at these positions."""
    hooks = []
    for (layer, head), new in wanted.items():

        def put(z, hook, head=head, new=new):
            z = z.clone()
            z[:, at, head] = new.expand_as(z[:, :, head])[:, at]
            return z

        hooks.append((_name(layer), put))
    return model.run_with_hooks(tokens, fwd_hooks=hooks)[:, position]


# --- 1. Two ablations


def _removal(model, tokens, heads, fill, measure, mean=lambda own: own.mean(0), at=slice(None), together=False, sign=1):
    z, base, effects, so_far = _z(model, tokens), measure(_run(model, tokens, {})), [], {}
    for layer, head in heads:
        own = z[layer][:, :, head]
        new = torch.zeros_like(own) if fill == "zero" else mean(own).expand_as(own)
        so_far = {**(so_far if together else {}), (layer, head): new}
        effects.append(sign * (base - measure(_run(model, tokens, so_far, at=at))))
    return torch.stack(effects)


@mistake("gives changed minus untouched, and so the sign is turned round")
def removal_effects(model, tokens, heads, fill, measure):
    return _removal(model, tokens, heads, fill, measure, sign=-1)


@mistake("replaces the head at the last position only: it writes at all of them")
def removal_effects(model, tokens, heads, fill, measure):
    return _removal(model, tokens, heads, fill, measure, at=slice(-1, None))


@mistake("removes head after head without putting the earlier ones back")
def removal_effects(model, tokens, heads, fill, measure):
    return _removal(model, tokens, heads, fill, measure, together=True)


@mistake("averages over positions as well: the mean is over rows, at each position")
def removal_effects(model, tokens, heads, fill, measure):
    return _removal(model, tokens, heads, fill, measure, mean=lambda own: own.mean((0, 1)))


@mistake("puts zeros in, whatever the fill")
def removal_effects(model, tokens, heads, fill, measure):
    return _removal(model, tokens, heads, "zero", measure)


@mistake("gives what the measure is without the head, and not how far it falls")
def removal_effects(model, tokens, heads, fill, measure):
    base = measure(_run(model, tokens, {}))
    return base - _removal(model, tokens, heads, fill, measure)


@right("the output of the head taken out of attn_out's stream, all heads in one batch")
def removal_effects(model, tokens, heads, fill, measure):
    n, z = len(tokens), _z(model, tokens)
    hooks = []
    for i, (layer, head) in enumerate(heads):

        def put(x, hook, i=i, head=head, own=z[layer][:, :, head]):
            x = x.clone()
            x[i * n : (i + 1) * n, :, head] = 0 if fill == "zero" else own.mean(dim=0)
            return x

        hooks.append((_name(layer), put))
    with torch.no_grad():
        changed = model.run_with_hooks(tokens.repeat(len(heads), 1), fwd_hooks=hooks)[:, -1]
        base = measure(model(tokens)[:, -1])
    return torch.stack([base - measure(part) for part in changed.split(n)])


@right("a hook that takes the mean as it runs")
def removal_effects(model, tokens, heads, fill, measure):
    found = []
    with torch.no_grad():
        for layer, head in heads:

            def put(z, hook, head=head):
                keep = torch.ones(z.shape[2]).scatter(0, torch.tensor([head]), 0.0)[:, None]
                instead = z.mean(0, keepdim=True) if fill == "mean" else torch.zeros_like(z)
                return z * keep + instead * (1 - keep)

            with model.hooks(fwd_hooks=[(_name(layer), put)]):
                found.append(measure(model(tokens)[:, -1]))
        return measure(model(tokens)[:, -1]) - torch.stack(found)


def _low(effects):
    return torch.tensor([evidence.interval(effect).low for effect in effects])


@mistake("asks only whether the interval is clear of 0: the controls have effects, too")
def heads_that_stand(effects, controls):
    return _low(effects) > 0


@mistake("asks only whether the mean is above the controls: a mean of few rows may be luck")
def heads_that_stand(effects, controls):
    return effects.mean(1) > controls.mean(1).abs().max()


@mistake("takes effects of either sign: a head whose removal raises the measure does not carry it")
def heads_that_stand(effects, controls):
    intervals = [evidence.interval(effect) for effect in effects]
    clear = torch.tensor([its.low > 0 or its.high < 0 for its in intervals])
    return clear & (effects.mean(1).abs() > controls.mean(1).abs().max())


@mistake("compares with the mean of all controls, not with the largest")
def heads_that_stand(effects, controls):
    return (_low(effects) > 0) & (effects.mean(1) > controls.mean(1).abs().mean())


@mistake("compares with the controls' largest mean, sign and all: a control may go the other way")
def heads_that_stand(effects, controls):
    return (_low(effects) > 0) & (effects.mean(1) > controls.mean(1).max())


@mistake("compares with the controls' largest single row: it is the mean of a control that counts")
def heads_that_stand(effects, controls):
    return (_low(effects) > 0) & (effects.mean(1) > controls.abs().max())


@mistake("takes the controls' sizes before the mean: rows of both signs are no effect")
def heads_that_stand(effects, controls):
    return (_low(effects) > 0) & (effects.mean(1) > controls.abs().mean(1).max())


@mistake("asks that the interval lie above the controls: above 0 it must lie, above them the mean")
def heads_that_stand(effects, controls):
    return _low(effects) > controls.mean(1).abs().max()


@mistake("takes 1.96 standard errors: with few rows Student's interval is wider, and evidence.interval has it")
def heads_that_stand(effects, controls):
    error = effects.std(1) / effects.shape[1] ** 0.5
    return (effects.mean(1) - 1.96 * error > 0) & (effects.mean(1) > controls.mean(1).abs().max())


@mistake("compares with the smallest of the controls, not with the largest")
def heads_that_stand(effects, controls):
    return (_low(effects) > 0) & (effects.mean(1) > controls.mean(1).abs().min())


@right("Student's t by hand")
def heads_that_stand(effects, controls):
    from scipy import stats

    x, n = effects.double(), effects.shape[1]
    low = x.mean(1) - float(stats.t.ppf(0.975, n - 1)) * x.std(1) / n**0.5
    return (low > 0) & (effects.mean(1)[:, None] > controls.mean(1).abs()).all(1)


@right("a loop")
def heads_that_stand(effects, controls):
    bar = max(abs(float(control.mean())) for control in controls)
    return torch.tensor([evidence.interval(e).low > 0 and float(e.mean()) > bar for e in effects])


@mistake("it may write a lot that the answer does not depend on; writing was not measured")
def answer_attention():
    return "a"


@mistake("attention was measured where the answer is read; it is the step to 'carries' that is missing")
def answer_attention():
    return "c"


# --- 3. and 4. Frozen heads


def _frozen(model, tokens, head, frozen, measure, keep=lambda own: own, gone=lambda own: own.mean(0), sign=1, at=-1):
    z = _z(model, tokens)
    wanted = {(layer, index): keep(z[layer][:, :, index]) for layer, index in frozen}
    wanted[tuple(head)] = gone(z[head[0]][:, :, head[1]]).expand_as(z[head[0]][:, :, head[1]])
    base = measure(_run(model, tokens, {}))
    return sign * (base - measure(_run(model, tokens, wanted)))


@mistake("does not freeze anything: this is the total effect")
def effect_when_frozen(model, tokens, head, frozen, measure):
    return _frozen(model, tokens, head, [], measure)


@mistake("keeps one hook for a layer: of several frozen heads in it the last alone is frozen")
def effect_when_frozen(model, tokens, head, frozen, measure):
    last = {layer: (layer, index) for layer, index in frozen if layer != head[0]}
    return _frozen(model, tokens, head, list(last.values()), measure)


@mistake("removes the frozen heads, too: frozen means as in the untouched run, not at their mean")
def effect_when_frozen(model, tokens, head, frozen, measure):
    return _frozen(model, tokens, head, frozen, measure, keep=lambda own: own.mean(0))


@mistake("puts zero in the head's place, and not its mean over rows")
def effect_when_frozen(model, tokens, head, frozen, measure):
    return _frozen(model, tokens, head, frozen, measure, gone=lambda own: torch.zeros_like(own))


@mistake("changed minus untouched: the effect is how far the measure falls")
def effect_when_frozen(model, tokens, head, frozen, measure):
    return _frozen(model, tokens, head, frozen, measure, sign=-1)


@mistake("freezes whole layers: only the heads that are named stay as they were")
def effect_when_frozen(model, tokens, head, frozen, measure):
    whole = {(layer, i) for layer, _ in frozen for i in range(model.cfg.n_heads)} - {tuple(head)}
    return _frozen(model, tokens, head, sorted(whole), measure)


@mistake("freezes the last position only: a frozen head stays as it was at all of them")
def effect_when_frozen(model, tokens, head, frozen, measure):
    z, hooks = _z(model, tokens), []
    own = z[head[0]][:, :, head[1]].mean(0)
    for layer, index in [tuple(head), *frozen]:

        def put(x, hook, layer=layer, index=index):
            x = x.clone()
            if (layer, index) == tuple(head):
                x[:, :, index] = own
            else:
                x[:, -1, index] = z[layer][:, -1, index]
            return x

        hooks.append((_name(layer), put))
    with torch.no_grad():
        changed = measure(model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1])
    return measure(_run(model, tokens, {})) - changed


@mistake("makes hooks in a loop that all look up its last layer and head: bind them (h=h) as each hook is made")
def effect_when_frozen(model, tokens, head, frozen, measure):
    z = _z(model, tokens)
    if not frozen:
        return _frozen(model, tokens, head, frozen, measure)
    own, (layer, index) = z[head[0]][:, :, head[1]], frozen[-1]
    hooks = [(_name(head[0]), head[1], own.mean(0).expand_as(own))]
    hooks += [(_name(at), index, z[layer][:, :, index]) for at, _ in frozen]

    def put(z, hook, index, new):
        z = z.clone()
        z[:, :, index] = new
        return z

    with torch.no_grad():
        changed = model.run_with_hooks(
            tokens,
            fwd_hooks=[(name, lambda z, hook, i=i, new=new: put(z, hook, i, new)) for name, i, new in hooks],
        )
    return measure(_run(model, tokens, {})) - measure(changed[:, -1])


@right("one hook a layer")
def effect_when_frozen(model, tokens, head, frozen, measure):
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_z"))

        def put(z, hook, layer):
            z, untouched = z.clone(), cache["z", layer]
            still = [index for at, index in frozen if at == layer]
            z[:, :, still] = untouched[:, :, still]
            if layer == head[0]:
                z[:, :, head[1]] = untouched[:, :, head[1]].mean(0)
            return z

        hooks = [
            (_name(layer), lambda z, hook, layer=layer: put(z, hook, layer)) for layer in range(model.cfg.n_layers)
        ]
        changed = model.run_with_hooks(tokens, fwd_hooks=hooks)
        return measure(logits[:, -1]) - measure(changed[:, -1])


@mistake("heads that are frozen cannot react: what they write is what it was")
def answer_repair():
    return "a"


@mistake("direct and total differ when something reacts; neither number is false for that")
def answer_repair():
    return "b"


# --- 5. Best of many


def _r(features, target):
    x, y = features - features.mean(0), target - target.mean()
    return (x * y[:, None]).sum(0) / (x.norm(dim=0) * y.norm()).clamp(min=1e-9)


def _draws(features, target, draws, seed, of=lambda r: r.abs().max(), shuffle=None):
    generator = torch.Generator().manual_seed(seed)
    shuffle = shuffle or (lambda y, generator: y[torch.randperm(len(y), generator=generator)])
    return torch.stack([of(_r(features, shuffle(target, generator))) for _ in range(draws)])


@mistake("takes the largest correlation, not the largest size: -.9 was as good a find as .9")
def best_under_shuffles(features, target, draws, seed):
    return _draws(features, target, draws, seed, of=lambda r: r.max())


@mistake("takes the mean size over heads: the finding chose the best")
def best_under_shuffles(features, target, draws, seed):
    return _draws(features, target, draws, seed, of=lambda r: r.abs().mean())


@mistake("looks at the first head alone: the finding searched all")
def best_under_shuffles(features, target, draws, seed):
    return _draws(features[:, :1], target, draws, seed)


@mistake("does not shuffle: this is the finding itself")
def best_under_shuffles(features, target, draws, seed):
    return _draws(features, target, draws, seed, shuffle=lambda y, generator: y)


@mistake("draws rows with replacement: an order has each row once")
def best_under_shuffles(features, target, draws, seed):
    def drawn(y, generator):
        return y[torch.randint(len(y), (len(y),), generator=generator)]

    return _draws(features, target, draws, seed, shuffle=drawn)


@mistake("shuffles every head by itself: one order for all heads, which go together")
def best_under_shuffles(features, target, draws, seed):
    generator, best = torch.Generator().manual_seed(seed), []
    for _ in range(draws):
        order = torch.rand(features.shape, generator=generator).argsort(0)
        best.append(_r(features.gather(0, order), target).abs().max())
    return torch.stack(best)


@mistake("turns the rows round like a wheel: of all orders it meets only as many as there are rows")
def best_under_shuffles(features, target, draws, seed):
    def turned(y, generator):
        return y.roll(int(torch.randint(len(y), (1,), generator=generator)))

    return _draws(features, target, draws, seed, shuffle=turned)


@mistake("shuffles for the head that was found alone: the finding searched all")
def best_under_shuffles(features, target, draws, seed):
    best = int(_r(features, target).abs().argmax())
    return _draws(features[:, best : best + 1], target, draws, seed)


@right("numpy's generator and its corrcoef")
def best_under_shuffles(features, target, draws, seed):
    import numpy as np

    rng, best = np.random.default_rng(seed), []
    for _ in range(draws):
        table = np.corrcoef(features.double().numpy(), rng.permutation(target.double().numpy()), rowvar=False)
        best.append(abs(table[-1, :-1]).max())
    return torch.tensor(best)


@right("the rows of features change places; all draws at once")
def best_under_shuffles(features, target, draws, seed):
    generator = torch.Generator().manual_seed(seed)
    orders = torch.rand(draws, len(target), generator=generator).argsort(-1)
    x, y = features - features.mean(0), target - target.mean()
    x, y = x / x.norm(dim=0).clamp(min=1e-9), y / y.norm()
    return (y[orders] @ x).abs().amax(-1)


# --- 6. A matched null


def _cosines(a, b):
    return torch.nn.functional.normalize(a, dim=-1) @ torch.nn.functional.normalize(b, dim=-1).T


@mistake("counts the text's own partner in: the null is about the other texts")
def cosines_of_others(a, b):
    return _cosines(a, b).mean(1)


@mistake("compares with the other texts of a, not of b")
def cosines_of_others(a, b):
    cosines = _cosines(a, a)
    return (cosines.sum(1) - cosines.diagonal()) / (len(a) - 1)


@mistake("takes dot products: a cosine does not depend on lengths")
def cosines_of_others(a, b):
    products = a @ b.T
    return (products.sum(1) - products.diagonal()) / (len(a) - 1)


@mistake("gives entry j for the text of b: one number for each text of a")
def cosines_of_others(a, b):
    cosines = _cosines(a, b)
    return (cosines.sum(0) - cosines.diagonal()) / (len(a) - 1)


@mistake("divides by the number of texts, though one of them is left out")
def cosines_of_others(a, b):
    cosines = _cosines(a, b)
    return (cosines.sum(1) - cosines.diagonal()) / len(a)


@mistake("takes the cosine with the mean of the others, which is not the mean of the cosines")
def cosines_of_others(a, b):
    others = (b.sum(0) - b) / (len(b) - 1)
    return torch.cosine_similarity(a, others, dim=-1)


@right("in float64, whatever came in")
def cosines_of_others(a, b):
    cosines = _cosines(a.double(), b.double())
    return cosines[~torch.eye(len(a), dtype=torch.bool)].view(len(a), -1).mean(1)


@right("a loop and cosine_similarity")
def cosines_of_others(a, b):
    rows = []
    for i, x in enumerate(a):
        others = torch.cat([b[:i], b[i + 1 :]])
        rows.append(torch.cosine_similarity(x[None], others, dim=-1).mean())
    return torch.stack(rows)


@mistake("random directions were never fitted to these data: they have nothing in common from the start")
def answer_matching():
    return "b"


@mistake("two fits to one kind of activations agree on much that is no label: see what they agree on without any")
def answer_matching():
    return "c"


# --- 7. Faithfulness


def _share(model, tokens, circuit, measure, fill=lambda own: own.mean(0), ratio=None, swap=False, at_all=True):
    z = _z(model, tokens)
    every = [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]
    means = {head: fill(z[head[0]][:, :, head[1]]).expand_as(z[head[0]][:, :, head[1]]) for head in every}
    circuit = set(map(tuple, circuit))
    gone = {head: its for head, its in means.items() if (head in circuit) == swap}
    whole, none, kept = (measure(_run(model, tokens, its)) for its in ({}, means, gone))
    ratio = ratio or (lambda whole, none, kept: (kept.mean() - none.mean()) / (whole.mean() - none.mean()))
    return float(ratio(whole, none, kept))


@mistake("puts zeros in the place of the others: their mean over rows stays")
def faithfulness(model, tokens, circuit, measure):
    return _share(model, tokens, circuit, measure, fill=torch.zeros_like)


@mistake("removes the circuit and keeps the others")
def faithfulness(model, tokens, circuit, measure):
    return _share(model, tokens, circuit, measure, swap=True)


@mistake("takes the ratio of each row, and then the mean: means over rows come first")
def faithfulness(model, tokens, circuit, measure):
    def ratio(whole, none, kept):
        return ((kept - none) / (whole - none)).mean()

    return _share(model, tokens, circuit, measure, ratio=ratio)


@mistake("divides what the circuit holds by what the whole model has: without any head it is not 0")
def faithfulness(model, tokens, circuit, measure):
    return _share(model, tokens, circuit, measure, ratio=lambda whole, none, kept: kept.mean() / whole.mean())


@mistake("gives the share that is lost, not what is held up")
def faithfulness(model, tokens, circuit, measure):
    return 1 - _share(model, tokens, circuit, measure)


@mistake("averages over positions, too: the mean is over rows, at each position")
def faithfulness(model, tokens, circuit, measure):
    return _share(model, tokens, circuit, measure, fill=lambda own: own.mean((0, 1)))


@mistake("takes the means of the run that is being changed: they are those of the untouched run")
def faithfulness(model, tokens, circuit, measure):
    def value(kept):
        hooks = []
        for layer in range(model.cfg.n_layers):
            gone = [head for head in range(model.cfg.n_heads) if (layer, head) not in kept]

            def put(z, hook, gone=gone):
                z = z.clone()
                z[:, :, gone] = z[:, :, gone].mean(0)
                return z

            hooks.append((_name(layer), put))
        with torch.no_grad():
            return measure(model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1]).mean()

    none = value(set())
    return float((value(set(map(tuple, circuit))) - none) / (measure(_run(model, tokens, {})).mean() - none))


@mistake("holds the circuit's heads at what they were: they go on working, on what is left of the rest")
def faithfulness(model, tokens, circuit, measure):
    z, kept = _z(model, tokens), set(map(tuple, circuit))
    whole = measure(_run(model, tokens, {})).mean()

    def value(kept):
        wanted = {}
        for layer in range(model.cfg.n_layers):
            for head in range(model.cfg.n_heads):
                own = z[layer][:, :, head]
                wanted[layer, head] = own if (layer, head) in kept else own.mean(0).expand_as(own)
        return measure(_run(model, tokens, wanted)).mean()

    return float((value(kept) - value(set())) / (whole - value(set())))


@mistake("cuts the share off at 0 and 1: a circuit without what works against the answer can hold up more")
def faithfulness(model, tokens, circuit, measure):
    return min(1.0, max(0.0, _share(model, tokens, circuit, measure)))


@right("hooks of all layers, a mask of heads")
def faithfulness(model, tokens, circuit, measure):
    mask = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, dtype=torch.bool)
    for layer, head in circuit:
        mask[layer, head] = True
    untouched = _z(model, tokens)

    @torch.no_grad()
    def value(mask):
        def only(z, hook, layer):
            return torch.where(mask[layer][:, None], z, untouched[layer].mean(0))

        hooks = [(_name(i), lambda z, hook, i=i: only(z, hook, i)) for i in range(model.cfg.n_layers)]
        return measure(model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1]).mean().item()

    nothing, everything = value(torch.zeros_like(mask)), value(torch.ones_like(mask))
    return (value(mask) - nothing) / (everything - nothing)


# --- 8. An illusory subspace


@torch.no_grad()
def _exchange(model, tokens, source, layer, direction, measure, move, at=slice(-1, None), sign=1):
    name = _name(layer, "mlp.hook_post")
    logits, here = model.run_with_cache(tokens, names_filter=name)
    _, there = model.run_with_cache(source, names_filter=name)

    def put(hidden, hook):
        hidden = hidden.clone()
        hidden[:, at] += move(here[name][:, at], there[name][:, at], direction)
        return hidden

    changed = model.run_with_hooks(tokens, fwd_hooks=[(name, put)])
    return sign * (measure(logits[:, -1]) - measure(changed[:, -1]))


def _along(here, there, direction):
    if direction is None:
        return there - here
    unit = direction / direction.norm()
    return ((there - here) @ unit)[..., None] * unit


@mistake("does not bring the direction to length 1")
def exchange_along(model, tokens, source, layer, direction, measure):
    def move(here, there, direction):
        return there - here if direction is None else ((there - here) @ direction)[..., None] * direction

    return _exchange(model, tokens, source, layer, direction, measure, move)


@mistake("exchanges at all positions: the last one alone")
def exchange_along(model, tokens, source, layer, direction, measure):
    return _exchange(model, tokens, source, layer, direction, measure, _along, at=slice(None))


@mistake("adds the source's part without taking the row's own away")
def exchange_along(model, tokens, source, layer, direction, measure):
    def move(here, there, direction):
        return _along(torch.zeros_like(here), there, direction)

    return _exchange(model, tokens, source, layer, direction, measure, move)


@mistake("takes the row's part away and puts nothing in its place")
def exchange_along(model, tokens, source, layer, direction, measure):
    def move(here, there, direction):
        return _along(here, torch.zeros_like(there), direction)

    return _exchange(model, tokens, source, layer, direction, measure, move)


@mistake("exchanges all of the activation, whatever the direction")
def exchange_along(model, tokens, source, layer, direction, measure):
    return _exchange(model, tokens, source, layer, None, measure, _along)


@mistake("gives the changed run less the untouched one: it is asked how far the measure falls")
def exchange_along(model, tokens, source, layer, direction, measure):
    return _exchange(model, tokens, source, layer, direction, measure, _along, sign=-1)


@right("a projection matrix")
def exchange_along(model, tokens, source, layer, direction, measure):
    name = _name(layer, "mlp.hook_post")
    kept = {}
    with torch.no_grad():
        for key, rows in (("there", source), ("here", tokens)):
            kept[key] = model.run_with_cache(rows, names_filter=name)[1][name][:, -1]
        n = kept["here"].shape[-1]
        onto = torch.eye(n) if direction is None else torch.outer(direction, direction) / (direction @ direction)
        new = kept["here"] @ (torch.eye(n) - onto) + kept["there"] @ onto

        def put(hidden, hook):
            hidden = hidden.clone()
            hidden[:, -1] = new
            return hidden

        with model.hooks(fwd_hooks=[(name, put)]):
            changed = measure(model(tokens)[:, -1])
        return measure(model(tokens)[:, -1]) - changed


def _read(direction, W_out, tolerance=1e-5):
    U, S, _ = torch.linalg.svd(W_out.double(), full_matrices=False)
    U = U[:, tolerance * S.max() < S]
    return (U @ (U.T @ direction.double())).to(direction.dtype)


@mistake("takes small weights for 0: what is 0 is told by the largest size")
def split_by_kernel(direction, W_out):
    U, S, _ = torch.linalg.svd(W_out.double(), full_matrices=False)
    U = U[:, S > 1e-3]
    read = (U @ (U.T @ direction.double())).to(direction.dtype)
    return direction - read, read


@mistake("has the two parts in the other order: the kernel's comes first")
def split_by_kernel(direction, W_out):
    read = _read(direction, W_out)
    return read, direction - read


@mistake("projects onto the columns of W_out one by one, though they are not at right angles")
def split_by_kernel(direction, W_out):
    units = W_out / W_out.norm(dim=0)
    read = units @ (units.T @ direction)
    return direction - read, read


@mistake("takes W_out @ W_out.T for the projection: its columns have lengths and angles")
def split_by_kernel(direction, W_out):
    read = W_out @ (W_out.T @ direction)
    return direction - read, read


@mistake("gives both parts at length 1: they have to add up to the direction")
def split_by_kernel(direction, W_out):
    read = _read(direction, W_out)
    kernel = direction - read
    return kernel / kernel.norm().clamp(min=1e-6), read / read.norm().clamp(min=1e-6)


@mistake("counts every singular direction as read, also those of singular value 0")
def split_by_kernel(direction, W_out):
    read = _read(direction, W_out, tolerance=-1)
    return direction - read, read


@mistake("takes the orthogonal columns of a QR for what is read, also where columns repeat each other")
def split_by_kernel(direction, W_out):
    Q = torch.linalg.qr(W_out).Q
    read = Q @ (Q.T @ direction)
    return direction - read, read


@right("a pseudo-inverse")
def split_by_kernel(direction, W_out):
    W = W_out.double()
    read = W @ (torch.linalg.pinv(W, rtol=1e-5) @ direction.double())
    return (direction.double() - read).to(direction.dtype), read.to(direction.dtype)


@right("an eigenbasis of W W^T")
def split_by_kernel(direction, W_out):
    W = W_out.double()
    values, vectors = torch.linalg.eigh(W @ W.T)
    null = vectors[:, values <= 1e-10 * values.max()]
    kernel = null @ (null.T @ direction.double())
    return kernel.to(direction.dtype), (direction.double() - kernel).to(direction.dtype)


@mistake("an illusion does more than the whole, and needs the kernel: neither is so here")
def answer_illusion():
    return "a"


@mistake("exchanges can show something: this one was compared with the whole and with what can be read")
def answer_illusion():
    return "b"


# --- 9. Open task


@torch.no_grad()
def _p(claim, gone, fill="mean", z=None):
    z = z or _z(claim.model, claim.rows.tokens)
    wanted = {}
    for layer, head in gone:
        own = z[layer][:, :, head]
        wanted[layer, head] = own.mean(0).expand_as(own) if fill == "mean" else torch.zeros_like(own)
    logits = _run(claim.model, claim.rows.tokens, wanted)
    return claim.measure(logits[:, None], claim.rows).mean().item()


@torch.no_grad()
def _attention(claim, rows):
    layer, head = claim.heads[0]
    name = _name(layer, "attn.hook_pattern")
    _, cache = claim.model.run_with_cache(rows.tokens, names_filter=name)
    return cache[name][:, head, -1]


def _looks(claim, rows):
    place = (rows.tokens[:, :-1] == rows.tokens[:, -1:]).float().argmax(1) + 1
    return _attention(claim, rows).gather(1, place[:, None]).mean() > 0.5


def _correlated(claim, rows):
    return torch.corrcoef(torch.stack([_attention(claim, rows)[:, 0], rows.rated]))[0, 1].abs() > 0.4


def _every(claim):
    return [(i, j) for i in range(claim.model.cfg.n_layers) for j in range(claim.model.cfg.n_heads)]


def _judge(claim, **other):
    """The controls; `other` has what one answer does instead, by method."""
    if claim.by in other:
        return other[claim.by](claim)
    heads, z = set(claim.heads), _z(claim.model, claim.rows.tokens)
    base = _p(claim, [], z=z)
    falls = base - _p(claim, heads, z=z) > 0.3
    match claim.by:
        case "attention":
            if not _looks(claim, claim.fresh):
                return "the pattern is about places"
            return "sound" if falls else "attended, not used"
        case "zero":
            return "sound" if falls else "zero is no neutral value"
        case "direct":
            return "others carry it on" if falls else "sound"
        case "removal":
            others = [head for head in _every(claim) if head not in heads]
            repaired = any(_p(claim, [head], z=z) - _p(claim, [head, *heads], z=z) > 0.3 for head in others)
            return "another head takes over" if repaired else "sound"
        case "overlap":
            left = _p(claim, [head for head in _every(claim) if head not in heads])
            return "sound" if left > 0.5 * base else "overlap is not faithfulness"
    return "sound" if _correlated(claim, claim.fresh) else "best of many"


@mistake("overlap: 'overlap is not faithfulness' taken for 'sound'")
def find_fault(claim):
    return "sound"


@mistake("attention: 'sound' taken for 'the pattern is about places'")
def find_fault(claim):
    return next(iter(wired.FAULTS[claim.by]))


@mistake("attention: 'the pattern is about places' taken for 'attended, not used'")
def find_fault(claim):
    def attention(claim):
        return "sound" if _p(claim, []) - _p(claim, claim.heads) > 0.3 else "attended, not used"

    return _judge(claim, attention=attention)


@mistake("removal: 'another head takes over' taken for 'sound'")
def find_fault(claim):
    def removal(claim):
        return "another head takes over" if _p(claim, []) - _p(claim, claim.heads) > 0.3 else "sound"

    return _judge(claim, removal=removal)


@mistake("zero: 'zero is no neutral value' taken for 'sound'")
def find_fault(claim):
    def zero(claim):
        falls = _p(claim, []) - _p(claim, claim.heads, fill="zero") > 0.3
        return "sound" if falls else "zero is no neutral value"

    return _judge(claim, zero=zero)


@mistake("correlation: 'best of many' taken for 'sound'")
def find_fault(claim):
    def again(claim):
        return "sound" if _correlated(claim, claim.rows) else "best of many"

    return _judge(claim, correlation=again)


@mistake("removal: 'another head takes over' taken for 'sound' (alone it is not missed")
def find_fault(claim):
    z = _z(claim.model, claim.rows.tokens)

    def removal(claim):
        """Looks at the head's own layer."""
        heads = list(claim.heads)
        others = [head for head in _every(claim) if head not in heads and head[0] == heads[0][0]]
        fallen = any(_p(claim, [head], z=z) - _p(claim, [head, *heads], z=z) > 0.3 for head in others)
        return "another head takes over" if fallen else "sound"

    return _judge(claim, removal=removal)


@mistake("correlation: 'sound' taken for 'best of many'")
def find_fault(claim):
    def again(claim):
        r = torch.corrcoef(torch.stack([_attention(claim, claim.fresh)[:, 0], claim.fresh.rated]))[0, 1]
        return "sound" if r > 0.4 else "best of many"

    return _judge(claim, correlation=again)


@right("judged by method, each control by itself")
def find_fault(claim):
    return _judge(claim)
