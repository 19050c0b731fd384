"""Wrong answers to 3.2 Attention heads and induction, and what each of them is."""

import torch

from concrete_steps.checking.mistakes import mistake

# --- 1. and 2. Where a head looks


@mistake("counts query 0 too, which can only look at itself, and query 1: begin with query 2")
def current_token_score(pattern):
    return pattern.diagonal(dim1=-2, dim2=-1).mean((0, 2))


@mistake("leaves out query 0, but not query 1")
def current_token_score(pattern):
    return pattern.diagonal(dim1=-2, dim2=-1)[..., 1:].mean((0, 2))


@mistake("takes the mean over heads, too: each head has a score of its own")
def current_token_score(pattern):
    return pattern.diagonal(dim1=-2, dim2=-1)[..., 2:].mean()


@mistake("keeps the batch: take the mean over it, too")
def current_token_score(pattern):
    return pattern.diagonal(dim1=-2, dim2=-1)[..., 2:].mean(-1)


@mistake("adds the weights up: divide by the number of queries and rows")
def current_token_score(pattern):
    return pattern.diagonal(dim1=-2, dim2=-1)[..., 2:].sum((0, 2))


def _below(pattern, offset, leave_out):
    return pattern.diagonal(-offset, dim1=-2, dim2=-1)[..., leave_out:].mean((0, 2))


@mistake("counts query 1 too, whose previous position is the first: the diagonal at -1 begins with query 1, not 0")
def previous_token_score(pattern):
    return _below(pattern, 1, 0)


@mistake("leaves out query 2 as well: the diagonal at -1 begins with query 1, so only one entry goes")
def previous_token_score(pattern):
    return _below(pattern, 1, 2)


@mistake("looks at the query itself: the offset is missing")
def previous_token_score(pattern):
    return _below(pattern, 0, 2)


@mistake("looks at the next position, above the diagonal, where a causal pattern is 0: the offset is negative")
def previous_token_score(pattern):
    return pattern.diagonal(1, dim1=-2, dim2=-1)[..., 1:].mean((0, 2))


@mistake("looks two positions back")
def previous_token_score(pattern):
    return _below(pattern, 2, 0)


@mistake("counts queries 0 and 1, too: begin with query 2")
def first_token_score(pattern):
    return pattern[..., 0].mean((0, 2))


@mistake("takes what query 0 looks at, a row: the key is the last axis")
def first_token_score(pattern):
    return pattern[:, :, 0, 2:].mean((0, 2))


@mistake("looks at key 1: positions are counted from 0")
def first_token_score(pattern):
    return pattern[:, :, 2:, 1].mean((0, 2))


@mistake("counts how often position 0 has the largest weight: the score is the mean weight")
def first_token_score(pattern):
    return (pattern[:, :, 2:].argmax(-1) == 0).float().mean((0, 2))


@mistake("nothing of the text can be read there: attention is causal, and position 0 has seen the start token alone")
def answer_rest():
    return "a"


@mistake("weight is not importance: what is moved from the start token is the same in every text")
def answer_rest():
    return "c"


# --- 3. Repeated tokens


def _once(rows, block, ordinary, seed):
    generator = torch.Generator().manual_seed(seed)
    return ordinary[torch.randint(len(ordinary), (rows, block), generator=generator)]


def _after(bos, *parts):
    return torch.cat([torch.full((len(parts[0]), 1), bos), *parts], dim=1)


@mistake("leaves bos out")
def repeated_tokens(rows, block, bos, ordinary, seed):
    once = _once(rows, block, ordinary, seed)
    return torch.cat([once, once], dim=1)


@mistake("puts bos before the second copy, too")
def repeated_tokens(rows, block, bos, ordinary, seed):
    once = _after(bos, _once(rows, block, ordinary, seed))
    return torch.cat([once, once], dim=1)


@mistake("draws the second half anew: it must repeat the first")
def repeated_tokens(rows, block, bos, ordinary, seed):
    return _after(bos, _once(rows, 2 * block, ordinary, seed))


@mistake("repeats each token at once (A A B B): the whole block comes again (A B A B)")
def repeated_tokens(rows, block, bos, ordinary, seed):
    return _after(bos, _once(rows, block, ordinary, seed).repeat_interleave(2, dim=1))


@mistake("gives places in the list of ordinary tokens, not the tokens: index the list with them")
def repeated_tokens(rows, block, bos, ordinary, seed):
    once = _once(rows, block, torch.arange(len(ordinary)), seed)
    return _after(bos, once, once)


@mistake("draws from all tokens up to the largest, special ones included: draw from ordinary")
def repeated_tokens(rows, block, bos, ordinary, seed):
    once = _once(rows, block, torch.arange(int(ordinary.max()) + 1), seed)
    return _after(bos, once, once)


@mistake("gives every row the same block")
def repeated_tokens(rows, block, bos, ordinary, seed):
    once = _once(1, block, ordinary, seed).expand(rows, -1)
    return _after(bos, once, once)


@mistake("does not use the seed: the same seed gives other tokens each time")
def repeated_tokens(rows, block, bos, ordinary, seed):
    once = ordinary[torch.randint(len(ordinary), (rows, block))]
    return _after(bos, once, once)


@mistake("shuffles the list, so that no token can come twice in a block: draws are independent")
def repeated_tokens(rows, block, bos, ordinary, seed):
    generator = torch.Generator().manual_seed(seed)
    once = torch.stack([ordinary[torch.randperm(len(ordinary), generator=generator)[:block]] for _ in range(rows)])
    return _after(bos, once, once)


# --- 4. The stripe


def _stripe(pattern, back, first=1):
    """Key = query - block + back, over the queries from block + first on."""
    block = pattern.shape[-1] // 2
    queries = torch.arange(block + first, 2 * block + 1)
    return pattern[:, :, queries, queries - block + back].mean((0, 2))


@mistake("looks at the first copy of the token (key query - block), as duplicate-token heads do: take the key after")
def induction_score(pattern):
    return _stripe(pattern, 0)


@mistake("looks two positions after the first copy, not one")
def induction_score(pattern):
    return _stripe(pattern, 2)


@mistake("counts a query of the first copy, too: the second copy begins at block + 1, because of bos")
def induction_score(pattern):
    return _stripe(pattern, 1, first=0)


@mistake("takes the whole diagonal: its first two entries belong to queries of the first copy")
def induction_score(pattern):
    return _stripe(pattern, 1, first=-1)


@mistake("forgets that bos moves everything by one: its key is one position too early, and its queries, too")
def induction_score(pattern):
    block = pattern.shape[-1] // 2
    queries = torch.arange(block, 2 * block)
    return pattern[:, :, queries, queries - block + 1].mean((0, 2))


@mistake("leaves out the last query: its key, the first token of the second copy, comes after the first copy as well")
def induction_score(pattern):
    block = pattern.shape[-1] // 2
    queries = torch.arange(block + 1, 2 * block)
    return pattern[:, :, queries, queries - block + 1].mean((0, 2))


@mistake("takes the mean over heads, too: each head has a score of its own")
def induction_score(pattern):
    return _stripe(pattern, 1).mean()


@mistake("divides by the number of all positions: the mean is over the queries of the second copy")
def induction_score(pattern):
    return _stripe(pattern, 1) * (pattern.shape[-1] // 2) / pattern.shape[-1]


@mistake("induction heads look one position further, at what came after the first copy: query - block + 1")
def answer_stripe():
    return "a"


@mistake("the previous token is at query - 1; the block is longer than that")
def answer_stripe():
    return "c"


# --- 5. A hook that watches


@mistake("returns the scores, and what a hook returns replaces the activation: return nothing")
def induction_hook(pattern, hook, scores):
    scores[hook.layer()] = _stripe(pattern, 1)
    return scores


@mistake("gives the name scores to something new: write into the tensor, scores[...] = ...")
def induction_hook(pattern, hook, scores):
    scores = _stripe(pattern, 1)  # noqa: F841


@mistake("writes into every row: this layer's row is hook.layer()")
def induction_hook(pattern, hook, scores):
    scores[:] = _stripe(pattern, 1)


@mistake("always writes into row 0: this layer's row is hook.layer()")
def induction_hook(pattern, hook, scores):
    scores[0] = _stripe(pattern, 1)


@mistake("adds to what is there: the row is to hold the scores alone")
def induction_hook(pattern, hook, scores):
    scores[hook.layer()] += _stripe(pattern, 1)


@mistake("gives every head of the layer the same number")
def induction_hook(pattern, hook, scores):
    scores[hook.layer()] = _stripe(pattern, 1).mean()


# --- 6. Hooks that edit


@mistake("returns a copy in which nothing has changed")
def zero_ablate(z, hook, heads):
    return z.clone()


@mistake("forgets to return: then the model goes on with the z that it had")
def zero_ablate(z, hook, heads):
    z = z.clone()
    z[:, :, heads] = 0


@mistake("ablates every head, not the listed ones")
def zero_ablate(z, hook, heads):
    return torch.zeros_like(z)


@mistake("changes z itself: write into z.clone()")
def zero_ablate(z, hook, heads):
    z[:, :, heads] = 0
    return z


@mistake("ablates positions: heads are axis 2 of [batch pos head d_head]")
def zero_ablate(z, hook, heads):
    z = z.clone()
    z[:, [head for head in heads if head < z.shape[1]]] = 0
    return z


@mistake("ablates entries of d_head, in all heads: heads are axis 2 of [batch pos head d_head]")
def zero_ablate(z, hook, heads):
    z = z.clone()
    z[..., [head for head in heads if head < z.shape[-1]]] = 0
    return z


@mistake("ablates all heads but the listed ones")
def zero_ablate(z, hook, heads):
    out = torch.zeros_like(z)
    out[:, :, heads] = z[:, :, heads]
    return out


@mistake("ablates the first head of the list only")
def zero_ablate(z, hook, heads):
    z = z.clone()
    z[:, :, heads[0]] = 0
    return z


def _with_mean(z, heads, axes):
    z = z.clone()
    z[:, :, heads] = z[:, :, heads].mean(axes, keepdim=True).expand_as(z[:, :, heads])
    return z


@mistake("takes the mean over the batch only, another at each position: mean over positions, too")
def mean_ablate(z, hook, heads):
    return _with_mean(z, heads, 0)


@mistake("takes the mean over positions only, another in each row: mean over the batch, too")
def mean_ablate(z, hook, heads):
    return _with_mean(z, heads, 1)


@mistake("takes the mean over the listed heads, too: each head has a mean of its own")
def mean_ablate(z, hook, heads):
    return _with_mean(z, heads, (0, 1, 2))


@mistake("takes the mean over d_head, too, one number: the mean of a head is a vector [d_head]")
def mean_ablate(z, hook, heads):
    return _with_mean(z, heads, (0, 1, 3))


@mistake("puts the mean over heads in place: the mean is over batch and positions, of each head by itself")
def mean_ablate(z, hook, heads):
    z = z.clone()
    z[:, :, heads] = z.mean(2, keepdim=True)
    return z


@mistake("puts 0 in place, not the mean")
def mean_ablate(z, hook, heads):
    z = z.clone()
    z[:, :, heads] = 0
    return z


@mistake("ablates every head, not the listed ones")
def mean_ablate(z, hook, heads):
    return z.mean((0, 1)).expand_as(z).clone()


@mistake("changes z itself: write into z.clone()")
def mean_ablate(z, hook, heads):
    z[:, :, heads] = z[:, :, heads].mean((0, 1))
    return z


@mistake("forgets to return: then the model goes on with the z that it had")
def mean_ablate(z, hook, heads):
    z = z.clone()
    z[:, :, heads] = z[:, :, heads].mean((0, 1))


@mistake("zero ablation takes the mean away as well: if its variation mattered, both kinds would hurt")
def answer_zero():
    return "a"


@mistake("both can be right: they differ by what the head adds everywhere alike")
def answer_zero():
    return "c"


# --- 7. Which heads matter


def _losses(logits, tokens):
    """[row], on the second copy without its first token."""
    log_probs = logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    return -log_probs[:, tokens.shape[1] // 2 + 1 :].mean(-1)


def _z(layer):
    return f"blocks.{layer}.attn.hook_z"


@torch.no_grad()
def _loss_without(model, tokens, heads, ablate):
    hooks = [(_z(layer), lambda z, hook, head=head: ablate(z, hook, [head])) for layer, head in heads]
    return _losses(model.run_with_hooks(tokens, fwd_hooks=hooks), tokens)


@mistake("makes hooks in a loop that look variables up when they run: then all have the last ones; use partial")
@torch.no_grad()
def loss_without(model, tokens, heads, ablate):
    hooks = [(_z(layer), lambda z, hook: ablate(z, hook, [head])) for layer, head in heads]  # noqa: B023
    return _losses(model.run_with_hooks(tokens, fwd_hooks=hooks), tokens)


@mistake("ablates these heads in every layer: a pair names its layer, too")
def loss_without(model, tokens, heads, ablate):
    everywhere = sorted({(layer, head) for layer in range(model.cfg.n_layers) for _, head in heads})
    return _loss_without(model, tokens, everywhere, ablate)


@mistake("ablates the first head of the list only")
def loss_without(model, tokens, heads, ablate):
    return _loss_without(model, tokens, heads[:1], ablate)


@mistake("ablates the last head of the list only: collect all hooks, then run once")
def loss_without(model, tokens, heads, ablate):
    return _loss_without(model, tokens, heads[-1:], ablate)


@mistake("keeps one head for each layer: a layer can have several in the list")
def loss_without(model, tokens, heads, ablate):
    return _loss_without(model, tokens, list(dict(heads).items()), ablate)


@mistake("takes (layer, head) for (head, layer)")
def loss_without(model, tokens, heads, ablate):
    return _loss_without(model, tokens, [(head, layer) for layer, head in heads], ablate)


@mistake("always ablates by zero: use the hook that was given")
def loss_without(model, tokens, heads, ablate):
    def to_zero(z, hook, heads):
        z = z.clone()
        z[:, :, heads] = 0
        return z

    return _loss_without(model, tokens, heads, to_zero)


@mistake("takes the mean over rows: each row has a loss of its own")
def loss_without(model, tokens, heads, ablate):
    return _loss_without(model, tokens, heads, ablate).mean()


@mistake("does not run the model with the hooks: it gives the loss of the whole model")
def loss_without(model, tokens, heads, ablate):
    return _loss_without(model, tokens, [], ablate)


@mistake("gives the rise of the loss, not the loss itself")
def loss_without(model, tokens, heads, ablate):
    return _loss_without(model, tokens, heads, ablate) - _loss_without(model, tokens, [], ablate)


@mistake("hooks stay behind in the model")
@torch.no_grad()
def loss_without(model, tokens, heads, ablate):
    for layer, head in heads:
        model.add_hook(_z(layer), lambda z, hook, head=head: ablate(z, hook, [head]))
    return _losses(model(tokens), tokens)


def _scores(model, loss_of):
    layers, heads = range(model.cfg.n_layers), range(model.cfg.n_heads)
    return torch.tensor([[float(loss_of(layer, head)) for head in heads] for layer in layers])


@mistake("gives the loss without each head: subtract the loss of the whole model")
def ablation_scores(model, tokens, ablate):
    return _scores(model, lambda layer, head: _loss_without(model, tokens, [(layer, head)], ablate).mean())


@mistake("has the sign turned: a head that helps has a positive score")
def ablation_scores(model, tokens, ablate):
    whole = _loss_without(model, tokens, [], ablate).mean()
    return _scores(model, lambda layer, head: whole - _loss_without(model, tokens, [(layer, head)], ablate).mean())


@mistake("gives the loss as a multiple of the whole model's: subtract, do not divide")
def ablation_scores(model, tokens, ablate):
    whole = _loss_without(model, tokens, [], ablate).mean()
    return _scores(model, lambda layer, head: _loss_without(model, tokens, [(layer, head)], ablate).mean() / whole)


@mistake("leaves ablated what was ablated before: one head at a time")
def ablation_scores(model, tokens, ablate):
    whole, gone = _loss_without(model, tokens, [], ablate).mean(), []

    def rise(layer, head):
        gone.append((layer, head))
        return _loss_without(model, tokens, gone, ablate).mean() - whole

    return _scores(model, rise)


@mistake("ablates all other heads, and keeps this one")
def ablation_scores(model, tokens, ablate):
    whole = _loss_without(model, tokens, [], ablate).mean()
    everything = [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]

    def rise(layer, head):
        others = [other for other in everything if other != (layer, head)]
        return _loss_without(model, tokens, others, ablate).mean() - whole

    return _scores(model, rise)


@mistake("gives [head layer]: layers are the rows")
def ablation_scores(model, tokens, ablate):
    whole = _loss_without(model, tokens, [], ablate).mean()
    return _scores(model, lambda layer, head: _loss_without(model, tokens, [(layer, head)], ablate).mean() - whole).T


@mistake("ablates the same head of every layer at once")
def ablation_scores(model, tokens, ablate):
    whole = _loss_without(model, tokens, [], ablate).mean()

    def rise(_, head):
        column = [(layer, head) for layer in range(model.cfg.n_layers)]
        return _loss_without(model, tokens, column, ablate).mean() - whole

    return _scores(model, rise)


# --- 8. Controls


def _drawn(others, needed, generator):
    return [others[i] for i in torch.randperm(len(others), generator=generator)[:needed].tolist()]


def _by_layer(heads):
    layers = sorted({layer for layer, _ in heads})
    return {layer: [head for its_layer, head in heads if its_layer == layer] for layer in layers}


def _drawn_beside(heads, n_heads, generator, at_most=99):
    controls = []
    for layer, its in _by_layer(heads).items():
        others = [head for head in range(n_heads) if head not in its]
        controls += [(layer, head) for head in _drawn(others, min(len(its), at_most), generator)]
    return controls


@mistake("draws from all heads of the layer, the given ones included: controls are other heads")
def control_heads(heads, n_heads, seed):
    generator = torch.Generator().manual_seed(seed)
    everything = list(range(n_heads))
    return [(ly, h) for ly, its in _by_layer(heads).items() for h in _drawn(everything, len(its), generator)]


@mistake("draws each control by itself, so that one can come twice")
def control_heads(heads, n_heads, seed):
    generator = torch.Generator().manual_seed(seed)
    controls = []
    for layer, _ in heads:
        others = [head for head in range(n_heads) if (layer, head) not in heads]
        controls += [(layer, others[int(torch.randint(len(others), (), generator=generator))])]
    return controls


@mistake("takes the same numbers in another layer: controls come from the layers of the heads")
def control_heads(heads, n_heads, seed):
    return [(layer + 1, head) for layer, head in heads]


@mistake("takes the first other heads of each layer: draw them at random")
def control_heads(heads, n_heads, seed):
    by_layer = _by_layer(heads).items()
    return [(ly, h) for ly, its in by_layer for h in [x for x in range(n_heads) if x not in its][: len(its)]]


@mistake("does not use the seed: the same seed gives other heads each time")
def control_heads(heads, n_heads, seed):
    generator = torch.Generator().manual_seed(int(torch.randint(10**9, ())))
    by_layer = _by_layer(heads).items()
    return [
        (ly, h)
        for ly, its in by_layer
        for h in _drawn([x for x in range(n_heads) if x not in its], len(its), generator)
    ]


@mistake("makes the generator anew for each layer, so that all layers get the same draw")
def control_heads(heads, n_heads, seed):
    controls = []
    for layer, its in _by_layer(heads).items():
        generator = torch.Generator().manual_seed(seed)
        others = [head for head in range(n_heads) if head not in its]
        controls += [(layer, head) for head in _drawn(others, len(its), generator)]
    return controls


@mistake("draws from all layers together: each layer has as many controls as heads")
def control_heads(heads, n_heads, seed):
    layers = list(_by_layer(heads))
    others = [(layer, head) for layer in layers for head in range(n_heads) if (layer, head) not in heads]
    return _drawn(others, len(heads), torch.Generator().manual_seed(seed))


@mistake("leaves out only the one head in hand: the layer's other heads of the list are no controls either")
def control_heads(heads, n_heads, seed):
    generator = torch.Generator().manual_seed(seed)
    pairs = [(layer, [x for x in range(n_heads) if x != head]) for layer, head in heads]
    return [(layer, _drawn(others, 1, generator)[0]) for layer, others in pairs]


@mistake("takes one control for each layer: as many as the layer has heads in the list")
def control_heads(heads, n_heads, seed):
    return _drawn_beside(heads, n_heads, torch.Generator().manual_seed(seed), at_most=1)


@mistake("takes all other heads of the layers: only as many as there are in the list")
def control_heads(heads, n_heads, seed):
    return [(layer, head) for layer, its in _by_layer(heads).items() for head in range(n_heads) if head not in its]


@mistake("there is damage in both, and much more without the top two: induction matters here")
def answer_control():
    return "a"


@mistake("other heads can be taken away at little cost, as the heat map of section 7 shows")
def answer_control():
    return "c"


# --- 9. The real model


@torch.no_grad()
def _all_scores(model, tokens, back=1):
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern"))
    return torch.stack([_stripe(cache["pattern", layer], back) for layer in range(model.cfg.n_layers)])


def _pairs(places, n_heads):
    return [divmod(place, n_heads) for place in places]


@mistake("gives the heads with the lowest scores")
def induction_heads(model, tokens, count):
    scores = _all_scores(model, tokens).flatten()
    return _pairs(scores.topk(count, largest=False).indices.tolist(), model.cfg.n_heads)


@mistake("ranks by attention to the first copy itself: those are duplicate-token heads")
def induction_heads(model, tokens, count):
    scores = _all_scores(model, tokens, back=0).flatten()
    return _pairs(scores.topk(count).indices.tolist(), model.cfg.n_heads)


@mistake("turns a place in the flat list into (layer, head) by the number of layers: divide by the number of heads")
def induction_heads(model, tokens, count):
    return _pairs(_all_scores(model, tokens).flatten().topk(count).indices.tolist(), model.cfg.n_layers)


@mistake("gives (head, layer): the layer comes first")
def induction_heads(model, tokens, count):
    places = _all_scores(model, tokens).flatten().topk(count).indices.tolist()
    return [(head, layer) for layer, head in _pairs(places, model.cfg.n_heads)]


@mistake("has the right heads, but the best comes last: best first")
def induction_heads(model, tokens, count):
    places = _all_scores(model, tokens).flatten().topk(count).indices.tolist()
    return _pairs(places[::-1], model.cfg.n_heads)


@mistake("gives places in the flat list of scores, not pairs (layer, head)")
def induction_heads(model, tokens, count):
    return _all_scores(model, tokens).flatten().topk(count).indices.tolist()


@mistake("takes the best head of each layer: several of one layer can be among the best")
def induction_heads(model, tokens, count):
    best = _all_scores(model, tokens).max(dim=1)
    layers = best.values.topk(min(count, len(best.values))).indices.tolist()
    return [(layer, int(best.indices[layer])) for layer in layers]
