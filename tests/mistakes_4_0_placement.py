"""Wrong answers to 4.0, the placement of step 4, and what each of them is."""

import itertools

import torch

from concrete_steps.checking.mistakes import mistake, right


def run(model, tokens, *hooks):
    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=list(hooks))


def z_at(layer):
    return f"blocks.{layer}.attn.hook_z"


# --- 1. A Mathematical Framework


def value_head(model, head):
    return head // (model.W_O.shape[1] // model.W_V.shape[1])


def ov(model, layer, head):
    return model.W_V[layer, value_head(model, head)] @ model.W_O[layer, head]


def patterns_of(model, tokens):
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    return [cache["pattern", layer] for layer in range(model.cfg.n_layers)]


def without_head(model, tokens, layer, head, frozen=True):
    """Logits with this head's z at 0, patterns as they were or made anew."""
    hooks = []
    if frozen:
        held = patterns_of(model, tokens)
        hooks = [(f"blocks.{i}.attn.hook_pattern", lambda x, hook, own=own: own) for i, own in enumerate(held)]

    def nothing(z, hook):
        z = z.clone()
        z[:, :, head] = 0
        return z

    return run(model, tokens, *hooks, (z_at(layer), nothing))


@torch.no_grad()
def carried(model, tokens, layer, head, before=True, after=True, pos=True, through=ov):
    """The stream into the head, made of paths, and what becomes of what it writes."""
    patterns = patterns_of(model, tokens)
    x = model.W_E[tokens] + (model.W_pos[: tokens.shape[1]] if pos else 0)

    def written(x, layer, head):
        return patterns[layer][:, head] @ x @ through(model, layer, head)

    for earlier in range(layer if before else 0):
        x = x + sum(written(x, earlier, h) for h in range(model.cfg.n_heads))
    x = written(x, layer, head)
    for later in range(layer + 1, model.cfg.n_layers if after else 0):
        x = x + sum(written(x, later, h) for h in range(model.cfg.n_heads))
    return x @ model.W_U


@mistake("lets later heads look anew once the head is gone: all patterns are to stay as they are in this run")
def paths_through(model, tokens, layer, head):
    with torch.no_grad():
        return model(tokens) - without_head(model, tokens, layer, head, frozen=False)


@mistake("is what the head adds straight to the logits: paths go on through later heads, too")
def paths_through(model, tokens, layer, head):
    return carried(model, tokens, layer, head, after=False)


@mistake("is what the head makes of the embeddings alone: paths come to it through earlier heads, too")
def paths_through(model, tokens, layer, head):
    return carried(model, tokens, layer, head, before=False)


@mistake("is the one path of this head alone: there are those through other heads before and after it")
def paths_through(model, tokens, layer, head):
    return carried(model, tokens, layer, head, before=False, after=False)


@mistake("is the sum of the paths that do not pass the head")
def paths_through(model, tokens, layer, head):
    return without_head(model, tokens, layer, head)


@mistake("keeps a gradient: run the model under torch.no_grad()")
def paths_through(model, tokens, layer, head):
    with torch.enable_grad():
        start = torch.zeros(1, requires_grad=True)
        return carried(model, tokens, layer, head) + start


@mistake("leaves the position embeddings out: every path begins with them, too")
def paths_through(model, tokens, layer, head):
    return carried(model, tokens, layer, head, pos=False)


@mistake("only the sign is wrong")
def paths_through(model, tokens, layer, head):
    return -carried(model, tokens, layer, head)


@mistake("takes query heads and value heads in turn: neighbouring heads share their values")
def paths_through(model, tokens, layer, head):
    return carried(model, tokens, layer, head, through=in_turn)


@mistake("goes on through one later head at most: paths pass several, one after the other")
def paths_through(model, tokens, layer, head):
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
        x = cache["z", layer][:, :, head] @ model.W_O[layer, head]
        after = [(later, h) for later in range(layer + 1, model.cfg.n_layers) for h in range(model.cfg.n_heads)]
        return (x + sum(cache["pattern", i][:, h] @ x @ ov(model, i, h) for i, h in after)) @ model.W_U


def in_turn(model, layer, head):
    return model.W_V[layer, head % model.W_V.shape[1]] @ model.W_O[layer, head]


@right("path by path")
def paths_through(model, tokens, layer, head):
    patterns, total = patterns_of(model, tokens), 0
    with torch.no_grad():
        for stations in itertools.product([None, *range(model.cfg.n_heads)], repeat=model.cfg.n_layers):
            if stations[layer] != head:
                continue
            x = model.W_E[tokens] + model.W_pos[: tokens.shape[1]]
            for i, station in enumerate(stations):
                if station is not None:
                    x = patterns[i][:, station] @ x @ ov(model, i, station)
            total = total + x @ model.W_U
    return total


@right("the stream before the head from a cache, and forwards from there")
def paths_through(model, tokens, layer, head):
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
        x = cache["z", layer][:, :, head] @ model.W_O[layer, head]
        for later in range(layer + 1, model.cfg.n_layers):
            heads = range(model.cfg.n_heads)
            x = x + sum(cache["pattern", later][:, h] @ x @ ov(model, later, h) for h in heads)
        return x @ model.W_U


@right("hooks for a stretch of code, the difference of two runs with held patterns")
def paths_through(model, tokens, layer, head):
    held = patterns_of(model, tokens)
    logits = []
    for factor in (1, 0):

        def scale(z, hook, factor=factor):
            keep = torch.ones(z.shape[2], 1)
            keep[head] = factor
            return z * keep

        with (
            torch.no_grad(),
            model.hooks(
                fwd_hooks=[
                    (z_at(layer), scale),
                    *((f"blocks.{i}.attn.hook_pattern", lambda x, hook, own=own: own) for i, own in enumerate(held)),
                ]
            ),
        ):
            logits.append(model(tokens))
    return logits[0] - logits[1]


def circuit(model, path, through=ov):
    with torch.no_grad():
        moved = model.W_E
        for layer, head in path:
            moved = moved @ through(model, layer, head)
        return moved @ model.W_U


@mistake("takes the heads in the opposite order: the weights act from the right, the first head's first")
def path_copies(model, path):
    values = torch.linalg.eigvals(circuit(model, path[::-1]))
    return (values.sum().real / values.abs().sum()).item()


@mistake("divides by the singular values, which are not the sizes of the eigenvalues")
def path_copies(model, path):
    moved = circuit(model, path)
    return (moved.trace() / torch.linalg.svdvals(moved).sum()).item()


@mistake("takes the real parts alone for the sizes: that of a complex number has both parts")
def path_copies(model, path):
    values = torch.linalg.eigvals(circuit(model, path)).real
    return (values.sum() / values.abs().sum()).item()


@mistake("asks the heads from stream to stream: the circuit goes from token to logits, with W_E and W_U")
def path_copies(model, path):
    with torch.no_grad():
        moved = torch.eye(model.W_E.shape[1])
        for layer, head in path:
            moved = moved @ ov(model, layer, head)
        values = torch.linalg.eigvals(moved)
        return (values.sum().real / values.abs().sum()).item()


@mistake("asks the last head alone: what comes to it has passed the others")
def path_copies(model, path):
    values = torch.linalg.eigvals(circuit(model, path[-1:]))
    return (values.sum().real / values.abs().sum()).item()


@mistake("asks the first head alone: what it writes passes the others")
def path_copies(model, path):
    values = torch.linalg.eigvals(circuit(model, path[:1]))
    return (values.sum().real / values.abs().sum()).item()


@mistake("is the mean of the heads' own scores: what a head makes of another's output is not in them")
def path_copies(model, path):
    scores = []
    for station in path:
        values = torch.linalg.eigvals(circuit(model, [station]))
        scores.append((values.sum().real / values.abs().sum()).item())
    return sum(scores) / len(scores)


@mistake("takes the values of another head: neighbouring heads share theirs")
def path_copies(model, path):
    values = torch.linalg.eigvals(circuit(model, path, lambda _, i, head: model.W_V[i, head] @ model.W_O[i, head]))
    return (values.sum().real / values.abs().sum()).item()


@mistake("expected a float")
def path_copies(model, path):
    values = torch.linalg.eigvals(circuit(model, path))
    return values.sum().real / values.abs().sum()


@right("turned round, so that it is as small as a head")
def path_copies(model, path):
    (first, head), *rest = path
    with torch.no_grad():
        small = model.W_O[first, head]
        for layer, station in rest:
            small = small @ ov(model, layer, station)
        values = torch.linalg.eigvals(small @ model.W_U @ model.W_E @ model.W_V[first, value_head(model, head)])
    return float(values.real.sum() / values.abs().sum())


@right("from the other end, transposed; the middle of the circuit first")
def path_copies(model, path):
    with torch.no_grad():
        moved = model.W_E.T @ model.W_U.T
        for layer, head in reversed(path):
            moved = moved @ ov(model, layer, head).T
        values = torch.linalg.eigvals(moved.double())
    return values.sum().real.item() / values.abs().sum().item()


@right("by numpy in double precision; the trace is the sum")
def path_copies(model, path):
    import numpy as np

    moved = circuit(model, path).double().numpy()
    return float(np.trace(moved) / np.abs(np.linalg.eigvals(moved)).sum())


# --- 2. What features are


def p_by_level(acts, concept, levels, shuffled, *, own=True, alone=True, enough=torch.ge, one_more=1, reach=None):
    """The p value in the course of which one thing may be done in another way."""
    best = int(acts.argmax())
    found = []
    for level in levels:
        reached = (acts >= level * acts[best]) if reach is None else reach(acts, level)
        if alone:
            reached = reached & (torch.arange(len(acts)) != best)

        def score(concepts, reached=reached):
            label = concepts[best] if own else concept[best]
            return (concepts[reached] == label).float().mean()

        real = score(concept)
        as_good = sum(bool(enough(score(draw), real)) for draw in shuffled)
        found.append((one_more + as_good) / (one_more + len(shuffled)))
    return torch.tensor(found)


@mistake("keeps the real label in every draw: the search is to be made again in each")
def label_p(acts, concept, levels, shuffled):
    return p_by_level(acts, concept, levels, shuffled, own=False)


@mistake("keeps the real label in every draw, and counts the word that chose it")
def label_p(acts, concept, levels, shuffled):
    return p_by_level(acts, concept, levels, shuffled, own=False, alone=False)


@right("with the strongest word, which has the label in every draw")
def label_p(acts, concept, levels, shuffled):
    return p_by_level(acts, concept, levels, shuffled, alone=False)


@mistake("counts the draws that do better: those that do as well count, too")
def label_p(acts, concept, levels, shuffled):
    return p_by_level(acts, concept, levels, shuffled, enough=torch.gt)


@mistake("leaves out that the real concepts count as one more draw")
def label_p(acts, concept, levels, shuffled):
    return p_by_level(acts, concept, levels, shuffled, one_more=0)


@mistake("compares activations with the levels: these are parts of the largest one")
def label_p(acts, concept, levels, shuffled):
    return p_by_level(acts, concept, levels, shuffled, reach=lambda acts, level: acts >= level)


@mistake("leaves out the words that just reach the level: 'at least' has them")
def label_p(acts, concept, levels, shuffled):
    return p_by_level(acts, concept, levels, shuffled, reach=lambda acts, level: acts > level * acts.max())


@mistake("takes the words below the level, not those that reach it")
def label_p(acts, concept, levels, shuffled):
    return p_by_level(acts, concept, levels, shuffled, reach=lambda acts, level: acts < level * acts.max())


@mistake("counts the draws that do no better: the p value is of those that do as well, or better")
def label_p(acts, concept, levels, shuffled):
    return p_by_level(acts, concept, levels, shuffled, enough=torch.le)


@mistake("takes the commonest concept of the words that reach the level for the label, not the strongest word's")
def label_p(acts, concept, levels, shuffled):
    found = []
    for level in levels:
        reached = acts >= level * acts.max()
        reached[acts.argmax()] = False
        scores = [int(row[reached].bincount().max()) for row in (concept, *shuffled)]
        found.append(sum(score >= scores[0] for score in scores) / len(scores))
    return torch.tensor(found)


@right("words sorted by activation; counts in place of shares")
def label_p(acts, concept, levels, shuffled):
    order = acts.argsort(descending=True)
    ranked = torch.vstack([concept, shuffled])[:, order]
    right_so_far = (ranked[:, 1:] == ranked[:, :1]).long().cumsum(1)
    found = []
    for level in levels:
        counts = right_so_far[:, int((acts / acts.max() >= level).sum()) - 2]
        found.append((counts >= counts[0]).double().mean())
    return torch.stack(found).float()


@right("plain Python")
def label_p(acts, concept, levels, shuffled):
    acts, real, draws = acts.tolist(), concept.tolist(), shuffled.tolist()
    best = acts.index(max(acts))

    def score(row, level):
        its = [row[i] == row[best] for i in range(len(row)) if i != best and acts[i] >= level * acts[best]]
        return sum(its) / len(its)

    p = [(1 + sum(score(row, level) >= score(real, level) for row in draws)) / (1 + len(draws)) for level in levels]
    return torch.tensor(p)


def readings_of(directions, strengths):
    return strengths @ directions @ directions.T


def margin(readings, on):
    return readings.masked_fill(~on, torch.inf).amin(1) - readings.masked_fill(on, -torch.inf).amax(1)


@mistake("takes the means of what is on and of what is off: one that reads wrongly is enough to be mistaken")
def reading_margin(directions, strengths):
    readings, on = readings_of(directions, strengths), strengths > 0
    return (readings * on).sum(1) / on.sum(1) - (readings * ~on).sum(1) / (~on).sum(1)


@mistake("takes the sizes of the readings: what is off may read far below 0, and does no harm there")
def reading_margin(directions, strengths):
    return margin(readings_of(directions, strengths).abs(), strengths > 0)


@mistake("leaves the strengths out: what is on counts as 1")
def reading_margin(directions, strengths):
    on = strengths > 0
    return margin(readings_of(directions, on.to(strengths.dtype)), on)


@mistake("takes the strongest reading of what is on: the least one decides")
def reading_margin(directions, strengths):
    readings, on = readings_of(directions, strengths), strengths > 0
    return readings.masked_fill(~on, -torch.inf).amax(1) - readings.masked_fill(on, -torch.inf).amax(1)


@mistake("takes the least and the largest over all rows: each row has its own threshold")
def reading_margin(directions, strengths):
    readings, on = readings_of(directions, strengths), strengths > 0
    return (readings[on].min() - readings[~on].max()).expand(len(strengths)).clone()


@mistake("takes the strength of what is on for its reading: other features that are on are read, too")
def reading_margin(directions, strengths):
    readings, on = readings_of(directions, strengths), strengths > 0
    return margin(torch.where(on, strengths, readings), on)


@mistake("takes what is off for 0 where it reads less: its readings may be below 0")
def reading_margin(directions, strengths):
    readings, on = readings_of(directions, strengths), strengths > 0
    return readings.masked_fill(~on, torch.inf).amin(1) - (readings * ~on).amax(1)


@mistake("brings the sum to length 1 before it is read")
def reading_margin(directions, strengths):
    stream = strengths @ directions
    return margin(stream / stream.norm(dim=1, keepdim=True) @ directions.T, strengths > 0)


@mistake("only the sign is wrong")
def reading_margin(directions, strengths):
    return -margin(readings_of(directions, strengths), strengths > 0)


@right("row by row, with masks")
def reading_margin(directions, strengths):
    found = []
    for row in strengths:
        reading = directions @ (row[:, None] * directions).sum(0)
        found.append(reading[row != 0].min() - reading[row == 0].max())
    return torch.stack(found)


@right("einsum over pairs, and where")
def reading_margin(directions, strengths):
    cosines = torch.einsum("id,jd->ij", directions, directions)
    readings = torch.einsum("rj,ij->ri", strengths, cosines)
    far = torch.tensor(torch.finfo(readings.dtype).max / 4, dtype=readings.dtype)
    least = torch.where(strengths > 0, readings, far).min(dim=1).values
    return least - torch.where(strengths > 0, -far, readings).max(dim=1).values


# --- 3. How to be wrong


@mistake("chooses on all rows: the row itself helps to choose its head")
def effect_of_chosen(effects):
    return effects[effects.mean(1).argmax()]


@mistake("chooses on the row itself: its best head is lucky there")
def effect_of_chosen(effects):
    return effects.amax(0)


@mistake("chooses by the size of the mean: the largest mean is asked for")
def effect_of_chosen(effects):
    chosen = (effects.sum(1, keepdim=True) - effects).abs().argmax(0)
    return effects.gather(0, chosen[None])[0]


@mistake("gives the mean over the rows that chose the head: the row left out is asked for")
def effect_of_chosen(effects):
    return (effects.sum(1, keepdim=True) - effects).amax(0) / (effects.shape[1] - 1)


@mistake("gives which head is chosen, not its effect")
def effect_of_chosen(effects):
    return (effects.sum(1, keepdim=True) - effects).argmax(0)


@mistake("chooses by the largest single effect on the other rows, not by their mean")
def effect_of_chosen(effects):
    rows = range(effects.shape[1])
    others = [[r for r in rows if r != row] for row in rows]
    return torch.stack([effects[effects[:, its].amax(1).argmax(), row] for row, its in zip(rows, others, strict=True)])


@mistake("leaves the row's effect in the sum, and divides by fewer: the row itself helps to choose its head")
def effect_of_chosen(effects):
    own = effects / effects.shape[1]
    chosen = (effects.mean(1, keepdim=True) + own).argmax(0)
    return effects.gather(0, chosen[None])[0]


@mistake("chooses the head with the smallest mean")
def effect_of_chosen(effects):
    chosen = (effects.sum(1, keepdim=True) - effects).argmin(0)
    return effects.gather(0, chosen[None])[0]


@right("row by row, the others by a mask")
def effect_of_chosen(effects):
    found = []
    for row in range(effects.shape[1]):
        others = torch.arange(effects.shape[1]) != row
        found.append(effects[effects[:, others].mean(1).argmax(), row])
    return torch.stack(found)


@right("a matrix with zeros on the diagonal, then indices")
def effect_of_chosen(effects):
    n = effects.shape[1]
    best = (effects @ (1 - torch.eye(n, dtype=effects.dtype)) / (n - 1)).max(dim=0).indices
    return effects[best, torch.arange(n)]


def put_in(model, tokens, heads, new, measure):
    """How far the measure falls when z of each of these heads becomes new(z of the layer in this run, layer, head)."""

    def put(z, hook):
        changed = z.clone()
        for layer, head in heads:
            if z_at(layer) == hook.name or layer == hook.layer():
                changed[:, :, head] = new(z, layer, head)
        return changed

    hooks = [(z_at(layer), put) for layer in {layer for layer, _ in heads}]
    with torch.no_grad():
        before = model(tokens)
    return measure(before[:, -1]) - measure(run(model, tokens, *hooks)[:, -1])


def cached(model, tokens):
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    return cache


@mistake("sets z to 0: it is to be what it is in another row")
def resampled_effects(model, tokens, heads, orders, measure):
    fall = put_in(model, tokens, heads, lambda z, layer, head: 0 * z[:, :, head], measure)
    return fall.expand(len(orders), -1).clone()


@mistake("sets z to its mean over rows: it is to be what it is in another row")
def resampled_effects(model, tokens, heads, orders, measure):
    cache = cached(model, tokens)
    fall = put_in(model, tokens, heads, lambda z, layer, head: cache["z", layer][:, :, head].mean(0), measure)
    return fall.expand(len(orders), -1).clone()


@mistake("removes one head at a time and adds up the falls: they are to be replaced together")
def resampled_effects(model, tokens, heads, orders, measure):
    cache, falls = cached(model, tokens), []
    for order in orders:

        def new(z, layer, head, order=order):
            return cache["z", layer][order, :, head]

        falls.append(sum(put_in(model, tokens, [head], new, measure) for head in heads))
    return torch.stack(falls)


@mistake("takes z of later layers from the changed run: it is to be that of the untouched one")
def resampled_effects(model, tokens, heads, orders, measure):
    falls = []
    for order in orders:
        falls.append(put_in(model, tokens, heads, lambda z, layer, head, order=order: z[order, :, head], measure))
    return torch.stack(falls)


@mistake("goes the other way: z of row r is put into row orders[draw, r]")
def resampled_effects(model, tokens, heads, orders, measure):
    cache, falls = cached(model, tokens), []
    for order in orders:

        def new(z, layer, head, order=order):
            moved = cache["z", layer][:, :, head].clone()
            for r, to in enumerate(order.tolist()):
                moved[to] = cache["z", layer][r, :, head]
            return moved

        falls.append(put_in(model, tokens, heads, new, measure))
    return torch.stack(falls)


@mistake("replaces z at the last position alone: all positions are meant")
def resampled_effects(model, tokens, heads, orders, measure):
    cache, falls = cached(model, tokens), []
    for order in orders:

        def new(z, layer, head, order=order):
            return torch.cat([z[:, :-1, head], cache["z", layer][order, -1:, head]], dim=1)

        falls.append(put_in(model, tokens, heads, new, measure))
    return torch.stack(falls)


@mistake("replaces the first of the heads alone: all of them are meant, together")
def resampled_effects(model, tokens, heads, orders, measure):
    return resampled(model, tokens, heads[:1], orders, measure)


@mistake("replaces all heads of these layers: those in the list are meant")
def resampled_effects(model, tokens, heads, orders, measure):
    every = [(layer, head) for layer in {layer for layer, _ in heads} for head in range(model.cfg.n_heads)]
    return resampled(model, tokens, every, orders, measure)


@mistake("is the mean over the draws: each draw is asked for")
def resampled_effects(model, tokens, heads, orders, measure):
    return resampled(model, tokens, heads, orders, measure).mean(0)


@mistake("only the sign is wrong")
def resampled_effects(model, tokens, heads, orders, measure):
    return -resampled(model, tokens, heads, orders, measure)


@mistake("keeps a gradient: run the model under torch.no_grad()")
def resampled_effects(model, tokens, heads, orders, measure):
    return resampled(model, tokens, heads, orders, measure) + torch.zeros(1, requires_grad=True)


@mistake("is the measure itself after the change: how far it falls is asked for")
def resampled_effects(model, tokens, heads, orders, measure):
    with torch.no_grad():
        before = measure(model(tokens)[:, -1])
    return before - resampled(model, tokens, heads, orders, measure)


def resampled(model, tokens, heads, orders, measure):
    cache, falls = cached(model, tokens), []
    for order in orders:

        def new(z, layer, head, order=order):
            return cache["z", layer][order, :, head]

        falls.append(put_in(model, tokens, heads, new, measure))
    return torch.stack(falls)


@right("all draws in one batch")
def resampled_effects(model, tokens, heads, orders, measure):
    draws, rows = orders.shape
    many, source = tokens.repeat(draws, 1), orders.flatten()
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens)
        hooks = []
        for layer, head in heads:

            def put(z, hook, head=head, own=cache["z", layer]):
                z = z.clone()
                z[:, :, head] = own[source][:, :, head]
                return z

            hooks.append((z_at(layer), put))
        after = measure(model.run_with_hooks(many, fwd_hooks=hooks)[:, -1])
    return measure(logits[:, -1]) - after.view(draws, rows)


@right("a mask of heads, and a run on the other rows")
def resampled_effects(model, tokens, heads, orders, measure):
    masks = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, dtype=torch.bool)
    for layer, head in heads:
        masks[layer, head] = True
    found = torch.empty(orders.shape)
    with torch.inference_mode(False), torch.no_grad():
        before = measure(model(tokens)[:, -1])
        for draw, order in enumerate(orders.tolist()):
            _, other = model.run_with_cache(tokens[order])

            def swap(z, hook, other=other):
                layer = hook.layer()
                return torch.where(masks[layer][:, None], other["z", layer], z)

            changed = model.run_with_hooks(tokens, fwd_hooks=[(lambda name: name.endswith("hook_z"), swap)])
            found[draw] = before - measure(changed[:, -1])
    return found


# --- 4. The field


@mistake("1 (a): that is a sparse autoencoder; 3 (c): that is activation patching; 4 (c): that is superposition")
def answer_topics():
    return "accccabcba"


@mistake("6 (b): that is contrast-consistent search; 9 (c): that is unfaithful chain of thought; 10: left out")
def answer_topics():
    return "bcbacbbcc-"


@mistake("there are 10 questions and 3 letters: give one for each")
def answer_topics():
    return "bcb"


@mistake("'d' is no option: use a, b, c, or - for one that you leave out")
def answer_topics():
    return "bcbacabcbd"


@mistake("expected a str, got a list")
def answer_topics():
    return list("bcbacabcba")


@right("capitals and spaces; one left out, one wrong")
def answer_topics():
    return "BCBAC -BCBB"


@mistake("1 (a): queries, keys and values do; 5 (a): it is: it was planted")
def answer_claims():
    return "aacbaa"


@mistake("3 (b): what a neuron answers to again and again is no noise; 4 (c): what rebuilds need not be the model's")
def answer_claims():
    return "babcca"


@mistake("there are 6 questions and 5 letters: give one for each")
def answer_claims():
    return "bacbc"


@right("with one that is left out")
def answer_claims():
    return "bacb-a"
