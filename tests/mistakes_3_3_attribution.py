"""Wrong answers to 3.3 Logit attribution and lenses, and what each of them is."""

import functools

import torch

from concrete_steps.checking.mistakes import mistake, right

# --- Attribution by hand


def _hooks(model):
    hooks = {"embed": "hook_embed", "pos_embed": "hook_pos_embed"}
    for layer in range(model.cfg.n_layers):
        hooks[f"{layer}_attn_out"] = f"blocks.{layer}.hook_attn_out"
        hooks[f"{layer}_mlp_out"] = f"blocks.{layer}.hook_mlp_out"
    return hooks


SEEN = ("embed", "attn_out", "mlp_out", "resid_pre", "resid_post", "hook_z", "hook_pre", "hook_post")


@torch.no_grad()
def _cache(model, tokens, *only):
    """The activations that somebody here asks for: keeping all of them takes several times as long."""
    return model.run_with_cache(tokens, names_filter=lambda name: name.endswith(only or SEEN))[1]


def _parts(model, tokens, at=-1, hooks=None):
    cache = _cache(model, tokens)
    return {name: cache[hook][:, at] for name, hook in (hooks or _hooks(model)).items() if hook in cache}


def _stream(model, tokens, at=-1):
    name = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    return _cache(model, tokens, name)[name][:, at]


def _centred(model):
    return model.cfg.normalization_type == "LN"


def _scale(model, x):
    x = x - x.mean(-1, keepdim=True) if _centred(model) else x
    return (x.square().mean(-1, keepdim=True) + model.cfg.eps).sqrt()


@torch.no_grad()
def _read(model, weight=True, centre=True, bias=True):
    W = model.W_U * model.ln_final.weight[:, None] if weight else model.W_U.clone()
    if centre and _centred(model):
        W = W - W.mean(0)
    c = model.b_U.clone()
    if bias and _centred(model):
        c = c + model.ln_final.bias @ model.W_U
    return W, c


def _directions(model, stream, right, wrong, **options):
    W, _ = _read(model, **options)
    return (W[:, right] - W[:, wrong]).T / _scale(model, stream)


# --- 1. Parts


@mistake("reads the first position: the answer comes after the last")
def residual_decomposition(model, tokens):
    return _parts(model, tokens, at=0)


@mistake("takes the stream after each layer for what its MLP wrote: that is the sum so far")
def residual_decomposition(model, tokens):
    hooks = {name: hook.replace("hook_mlp_out", "hook_resid_post") for name, hook in _hooks(model).items()}
    return _parts(model, tokens, hooks=hooks)


@mistake("takes the stream before each layer for what its attention wrote: that is the sum so far")
def residual_decomposition(model, tokens):
    hooks = {name: hook.replace("hook_attn_out", "hook_resid_pre") for name, hook in _hooks(model).items()}
    return _parts(model, tokens, hooks=hooks)


@mistake("the part 'pos_embed' is missing")
def residual_decomposition(model, tokens):
    hooks = _hooks(model)
    return _parts(model, tokens, hooks={name: hook for name, hook in hooks.items() if name != "pos_embed"})


@mistake("the part 'embed' is missing")
def residual_decomposition(model, tokens):
    hooks = _hooks(model)
    return _parts(model, tokens, hooks={name: hook for name, hook in hooks.items() if name != "embed"})


@mistake("keeps all positions: only the last one is asked for")
def residual_decomposition(model, tokens):
    return _parts(model, tokens, at=slice(None))


@right("hooks by hand, in another order")
def residual_decomposition(model, tokens):
    kept = {}
    hooks = {hook: name for name, hook in _hooks(model).items() if hook in model.hook_dict}

    def keep(x, hook, name):
        kept[name] = x[:, -1].detach().expand(len(tokens), -1)

    places = [(hook, functools.partial(keep, name=name)) for hook, name in reversed(hooks.items())]
    with torch.no_grad():
        model.run_with_hooks(tokens, fwd_hooks=places)
    return kept


@right("differences of the stream")
@torch.no_grad()
def residual_decomposition(model, tokens):
    _, cache = model.run_with_cache(tokens)
    parts = {"embed": cache["hook_embed"][:, -1]}
    if "hook_pos_embed" in cache:
        parts["pos_embed"] = cache["hook_pos_embed"][:, -1]
    for layer in range(model.cfg.n_layers):
        before, after = cache["resid_pre", layer][:, -1], cache["resid_post", layer][:, -1]
        parts[f"{layer}_attn_out"] = cache["attn_out", layer][:, -1]
        if not model.cfg.attn_only:
            parts[f"{layer}_mlp_out"] = after - before - parts[f"{layer}_attn_out"]
    return parts


# --- 2. The last norm


@mistake("leaves the norm's weights out")
def fold_layer_norm(W_U, b_U, weight, bias, centred):
    W = W_U - W_U.mean(0) if centred else W_U
    return W, b_U if bias is None else b_U + bias @ W_U


@mistake("does not centre: a LayerNorm subtracts the stream's mean")
def fold_layer_norm(W_U, b_U, weight, bias, centred):
    return weight[:, None] * W_U, b_U if bias is None else b_U + bias @ W_U


@mistake("centres although it is not asked to: RMSNorm subtracts no mean")
def fold_layer_norm(W_U, b_U, weight, bias, centred):
    W = weight[:, None] * W_U
    return W - W.mean(0), b_U if bias is None else b_U + bias @ W_U


@mistake("takes the mean over the vocabulary: the mean that is subtracted runs over d_model, each column of W its own")
def fold_layer_norm(W_U, b_U, weight, bias, centred):
    W = weight[:, None] * W_U
    W = W - W.mean(1, keepdim=True) if centred else W
    return W, b_U if bias is None else b_U + bias @ W_U


@mistake("centres before the weights are in: the mean is subtracted first, so W is centred last")
def fold_layer_norm(W_U, b_U, weight, bias, centred):
    W = weight[:, None] * (W_U - W_U.mean(0) if centred else W_U)
    return W, b_U if bias is None else b_U + bias @ W_U


@mistake("leaves the norm's bias out of c")
def fold_layer_norm(W_U, b_U, weight, bias, centred):
    W = weight[:, None] * W_U
    return W - W.mean(0) if centred else W, b_U


@mistake("leaves b_U out of c")
def fold_layer_norm(W_U, b_U, weight, bias, centred):
    W = weight[:, None] * W_U
    return W - W.mean(0) if centred else W, torch.zeros_like(b_U) if bias is None else bias @ W_U


@mistake("sends the bias through W: the norm adds it after weights and centring, so it meets W_U alone")
def fold_layer_norm(W_U, b_U, weight, bias, centred):
    W = weight[:, None] * W_U
    W = W - W.mean(0) if centred else W
    return W, b_U if bias is None else b_U + bias @ W


@right("a centring matrix and a diagonal one")
def fold_layer_norm(W_U, b_U, weight, bias, centred):
    d = len(weight)
    centring = torch.eye(d, dtype=W_U.dtype) - 1 / d if centred else torch.eye(d, dtype=W_U.dtype)
    bias = torch.zeros_like(weight) if bias is None else bias
    return centring @ torch.diag(weight) @ W_U, W_U.T @ bias + b_U


@mistake("reads raw columns of W_U: the last norm's weights belong to W")
def logit_directions(model, stream, right, wrong):
    return _directions(model, stream, right, wrong, weight=False)


@mistake("does not divide by the scale")
def logit_directions(model, stream, right, wrong):
    return _directions(model, stream, right, wrong) * _scale(model, stream)


@mistake("multiplies by the scale: the norm divides")
def logit_directions(model, stream, right, wrong):
    return _directions(model, stream, right, wrong) * _scale(model, stream) ** 2


@mistake("wrong less right: it is the other way round")
def logit_directions(model, stream, right, wrong):
    return _directions(model, stream, wrong, right)


@mistake("looks at the right token alone")
def logit_directions(model, stream, right, wrong):
    return _read(model)[0][:, right].T / _scale(model, stream)


@mistake("one direction for all rows: each row has tokens and a scale of its own")
def logit_directions(model, stream, right, wrong):
    return _directions(model, stream, right, wrong).mean(0).expand(len(stream), -1)


@right("row by row")
def logit_directions(model, stream, right, wrong):
    W, _ = _read(model)
    rows = [(W[:, a] - W[:, b]) / _scale(model, x) for x, a, b in zip(stream, right, wrong, strict=True)]
    return torch.stack(rows)


@right("the gradient of the logits with the scale detached")
def logit_directions(model, stream, right, wrong):
    with torch.enable_grad():
        x = stream.detach().clone().requires_grad_()
        W, _ = _read(model)
        logits = x / _scale(model, x).detach() @ W
        at = torch.arange(len(x))
        return torch.autograd.grad((logits[at, right] - logits[at, wrong]).sum(), x)[0]


@mistake("the scale is one and the same for all parts, and the raw terms were divided by it, too")
def answer_raw():
    return "a"


@mistake("the norms before the blocks act on what a block reads; what it wrote has passed them already")
def answer_raw():
    return "b"


# --- 3. to 5. Attribution


def _terms(model, tokens, right, wrong, parts=None, **options):
    parts = parts or _parts(model, tokens)
    directions = _directions(model, _stream(model, tokens), right, wrong, **options)
    return {name: (part * directions).sum(-1) for name, part in parts.items()}


def _bias(model, right, wrong):
    c = _read(model)[1]
    return {"bias": c[right] - c[wrong]}


@mistake("the part 'bias' is missing")
def direct_logit_attribution(model, tokens, right, wrong):
    return _terms(model, tokens, right, wrong)


@mistake("its terms are raw: W_U without the last norm's weights")
def direct_logit_attribution(model, tokens, right, wrong):
    return _terms(model, tokens, right, wrong, weight=False) | _bias(model, right, wrong)


@mistake("divides each part by the part's own scale: the norm divides by that of the whole stream")
def direct_logit_attribution(model, tokens, right, wrong):
    parts = _parts(model, tokens)
    terms = {name: (x * _directions(model, x, right, wrong)).sum(-1) for name, x in parts.items()}
    return terms | _bias(model, right, wrong)


@mistake("has the norm's bias in the term of the bias, but not b_U")
def direct_logit_attribution(model, tokens, right, wrong):
    bias = _bias(model, right, wrong)["bias"] - (model.b_U[right] - model.b_U[wrong]).detach()
    return _terms(model, tokens, right, wrong) | {"bias": bias}


@mistake("divides by the scale at the first position")
def direct_logit_attribution(model, tokens, right, wrong):
    directions = _directions(model, _stream(model, tokens, at=0), right, wrong)
    terms = {name: (x * directions).sum(-1) for name, x in _parts(model, tokens).items()}
    return terms | _bias(model, right, wrong)


@mistake("takes means over rows: each row has a term of its own")
def direct_logit_attribution(model, tokens, right, wrong):
    terms = _terms(model, tokens, right, wrong) | _bias(model, right, wrong)
    return {name: term.mean().expand(len(tokens)) for name, term in terms.items()}


@right("the bias as what is left of the true difference")
@torch.no_grad()
def direct_logit_attribution(model, tokens, right, wrong):
    terms, at = _terms(model, tokens, right, wrong), torch.arange(len(tokens))
    logits = model(tokens)[:, -1]
    return terms | {"bias": logits[at, right] - logits[at, wrong] - sum(terms.values())}


@torch.no_grad()
def _by_head(model, tokens, right, wrong, at=-1, **options):
    cache = _cache(model, tokens)
    directions = _directions(model, _stream(model, tokens), right, wrong, **options)
    z = torch.stack([cache["z", layer][:, at] for layer in range(model.cfg.n_layers)])
    W_O = torch.stack([block.attn.W_O for block in model.blocks])
    return torch.einsum("lrhd,lhdm,rm->lhr", z, W_O, directions)


@mistake("takes raw columns of W_U for each head")
def attribution_by_head(model, tokens, right, wrong):
    return _by_head(model, tokens, right, wrong, weight=False)


@mistake("reads z at the first position")
def attribution_by_head(model, tokens, right, wrong):
    return _by_head(model, tokens, right, wrong, at=0)


@mistake("has rows before heads: the result is [layer head row]")
def attribution_by_head(model, tokens, right, wrong):
    return _by_head(model, tokens, right, wrong).transpose(1, 2)


@mistake("shares the output bias out among the heads: it belongs to none")
@torch.no_grad()
def attribution_by_head(model, tokens, right, wrong):
    directions = _directions(model, _stream(model, tokens), right, wrong)
    found, heads = _by_head(model, tokens, right, wrong), model.cfg.n_heads
    bias = [torch.zeros(len(tokens)) if b is None else directions @ b / heads for b in _output_biases(model)]
    return found + torch.stack(bias)[:, None]


def _output_biases(model):
    return [getattr(block.attn, "b_O", None) for block in model.blocks]


@mistake("mixes the heads: each head's z goes with that head's W_O")
@torch.no_grad()
def attribution_by_head(model, tokens, right, wrong):
    cache = _cache(model, tokens)
    directions = _directions(model, _stream(model, tokens), right, wrong)
    rows = []
    for layer, block in enumerate(model.blocks):
        W_O = block.attn.W_O.flip(0)
        rows.append(torch.einsum("rhd,hdm,rm->hr", cache["z", layer][:, -1], W_O, directions))
    return torch.stack(rows)


@mistake("takes absolute values: a head may write against the answer")
def attribution_by_head(model, tokens, right, wrong):
    return _by_head(model, tokens, right, wrong).abs()


@right("one head at a time")
@torch.no_grad()
def attribution_by_head(model, tokens, right, wrong):
    cache = _cache(model, tokens)
    directions = _directions(model, _stream(model, tokens), right, wrong)
    out = torch.empty(model.cfg.n_layers, model.cfg.n_heads, len(tokens))
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            wrote = cache["z", layer][:, -1, head] @ model.blocks[layer].attn.W_O[head]
            out[layer, head] = (wrote * directions).sum(-1)
    return out


@torch.no_grad()
def _by_neuron(model, tokens, layer, right, wrong, at=-1, hook="post", own=None, **options):
    post = _cache(model, tokens)[hook, layer][:, at]
    directions = _directions(model, _stream(model, tokens), right, wrong, **options)
    W_out = model.blocks[layer if own is None else own].mlp.W_out
    return (post * (directions @ W_out.T)).T


@mistake("takes raw columns of W_U for each neuron")
def attribution_by_neuron(model, tokens, layer, right, wrong):
    return _by_neuron(model, tokens, layer, right, wrong, weight=False)


@mistake("takes what goes into the non-linearity: what a neuron writes is what comes out")
def attribution_by_neuron(model, tokens, layer, right, wrong):
    return _by_neuron(model, tokens, layer, right, wrong, hook="pre")


@mistake("has rows before neurons: the result is [neuron row]")
def attribution_by_neuron(model, tokens, layer, right, wrong):
    return _by_neuron(model, tokens, layer, right, wrong).T


@mistake("reads neurons at the first position")
def attribution_by_neuron(model, tokens, layer, right, wrong):
    return _by_neuron(model, tokens, layer, right, wrong, at=0)


@mistake("leaves the activations out: W_out alone says what a neuron would write at 1")
@torch.no_grad()
def attribution_by_neuron(model, tokens, layer, right, wrong):
    directions = _directions(model, _stream(model, tokens), right, wrong)
    return (directions @ model.blocks[layer].mlp.W_out.T).T


@right("the gradient times the activation, the scale detached")
def attribution_by_neuron(model, tokens, layer, right, wrong):
    post = _cache(model, tokens)["post", layer][:, -1]
    directions = _directions(model, _stream(model, tokens), right, wrong)
    with torch.enable_grad():
        x = post.detach().clone().requires_grad_()
        wrote = x @ model.blocks[layer].mlp.W_out.detach()
        gradient = torch.autograd.grad((wrote * directions).sum(), x)[0]
    return (post * gradient).T


# --- 6. Direct and total


@torch.no_grad()
def _effects(model, tokens, heads, right, wrong, to=None, at=slice(None), all_heads=False, rescale=False):
    """Direct and total effects; `to(z [row pos d_head])` is what z of the head becomes, by default its mean."""
    to = to or (lambda z: z.mean(0, keepdim=True).expand_as(z))
    cache, rows = _cache(model, tokens, "hook_z", "hook_resid_post"), torch.arange(len(tokens))
    stream, direct, total = cache["resid_post", model.cfg.n_layers - 1][:, -1], [], []
    directions = _directions(model, stream, right, wrong)
    W, c = _read(model)
    whole = model(tokens)[:, -1]
    for layer, head in heads:
        z = cache["z", layer]
        new = z.clone()
        for each in range(z.shape[2]) if all_heads else [head]:
            new[:, at, each] = to(z[:, :, each])[:, at]
        hooks = [(f"blocks.{layer}.attn.hook_z", lambda x, hook, new=new: new)]
        changed = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1]
        lost = whole - changed
        total.append(lost[rows, right] - lost[rows, wrong])
        gone = (z - new)[:, -1, head] @ model.blocks[layer].attn.W_O[head]
        if rescale:
            after = stream - gone
            fall = whole - (after / _scale(model, after) @ W + c)
            direct.append(fall[rows, right] - fall[rows, wrong])
        else:
            direct.append((gone * directions).sum(-1))
    return torch.stack(direct), torch.stack(total)


@mistake("puts zeros in place of the mean")
def direct_and_total(model, tokens, heads, right, wrong):
    return _effects(model, tokens, heads, right, wrong, to=torch.zeros_like)


@mistake("puts the mean over rows and positions: each position has a mean of its own")
def direct_and_total(model, tokens, heads, right, wrong):
    return _effects(model, tokens, heads, right, wrong, to=lambda z: z.mean((0, 1), keepdim=True).expand_as(z))


@mistake("changes z at the last position only: other positions pass on what the head wrote there")
def direct_and_total(model, tokens, heads, right, wrong):
    return _effects(model, tokens, heads, right, wrong, at=[-1])


@mistake("changes all heads of the layer in the run")
def direct_and_total(model, tokens, heads, right, wrong):
    return _effects(model, tokens, heads, right, wrong, all_heads=True)


@mistake("computes the norm's scale anew for the direct effect: it is frozen")
def direct_and_total(model, tokens, heads, right, wrong):
    return _effects(model, tokens, heads, right, wrong, rescale=True)


@mistake("takes the head's whole term for the direct effect: less what its mean would write")
def direct_and_total(model, tokens, heads, right, wrong):
    whole = _by_head(model, tokens, right, wrong)
    total = _effects(model, tokens, heads, right, wrong)[1]
    return torch.stack([whole[layer, head] for layer, head in heads]), total


@mistake("has the sign of a rise: effects say how far the difference falls")
def direct_and_total(model, tokens, heads, right, wrong):
    direct, total = _effects(model, tokens, heads, right, wrong)
    return -direct, -total


@mistake("returns the total effect first: the direct one comes first")
def direct_and_total(model, tokens, heads, right, wrong):
    return _effects(model, tokens, heads, right, wrong)[::-1]


@mistake("changes the heads together, one after the other: each is changed alone")
def direct_and_total(model, tokens, heads, right, wrong):
    direct, total = _effects(model, tokens, heads, right, wrong)
    return direct, total.cumsum(0)


@mistake("takes away hooks of others: reset_hooks() removes all")
def direct_and_total(model, tokens, heads, right, wrong):
    effects = _effects(model, tokens, heads, right, wrong)
    model.reset_hooks()
    return effects


@right("attributions less their means where all rows ask for the same, and hooks in a context")
@torch.no_grad()
def direct_and_total(model, tokens, heads, right, wrong):
    rows, directions = torch.arange(len(tokens)), _directions(model, _stream(model, tokens), right, wrong)
    whole = model(tokens)[:, -1]
    direct, total = torch.zeros(len(heads), len(tokens)), torch.zeros(len(heads), len(tokens))
    for i, (layer, head) in enumerate(heads):
        seen = []

        def swap(z, hook, seen=seen, head=head):
            seen.append(z[:, -1, head] - z[:, -1, head].mean(0))
            mean = z.mean(0, keepdim=True).expand(len(z), -1, -1, -1)
            return torch.cat([z[:, :, :head], mean[:, :, head : head + 1], z[:, :, head + 1 :]], dim=2)

        with model.hooks(fwd_hooks=[(f"blocks.{layer}.attn.hook_z", swap)]):
            lost = whole - model(tokens)[:, -1]
        total[i] = lost[rows, right] - lost[rows, wrong]
        direct[i] = (seen[0] @ model.blocks[layer].attn.W_O[head] * directions).sum(1)
    return direct, total


@mistake("the terms of this notebook add up with folded weights; raw ones may be too small as well")
def answer_direct():
    return "a"


@mistake("L23H4's total effect is larger than its direct one: neither bounds the other")
def answer_direct():
    return "c"


# --- 7. and 8. Lenses


@mistake("leaves the last norm out")
def logit_lens(model, streams):
    return (streams @ model.W_U + model.b_U).detach().log_softmax(-1)


@mistake("divides by the scale, and leaves the norm's weights out: read with the folded W")
def logit_lens(model, streams):
    W, c = _read(model, weight=False)
    return (streams / _scale(model, streams) @ W + c).log_softmax(-1)


@mistake("one scale for all streams: each has its own")
def logit_lens(model, streams):
    W, c = _read(model)
    return (streams / _scale(model, streams).mean() @ W + c).log_softmax(-1)


@mistake("gives logits: log-probabilities are asked for")
def logit_lens(model, streams):
    W, c = _read(model)
    return streams / _scale(model, streams) @ W + c


@mistake("gives probabilities: their logarithms are asked for")
def logit_lens(model, streams):
    W, c = _read(model)
    return (streams / _scale(model, streams) @ W + c).softmax(-1)


@mistake("adds a small number before the logarithm: unlikely tokens come out far too likely")
def logit_lens(model, streams):
    W, c = _read(model)
    return ((streams / _scale(model, streams) @ W + c).softmax(-1) + 1e-9).log()


@right("the model's own last norm and unembedding")
@torch.no_grad()
def logit_lens(model, streams):
    flat = streams.reshape(1, -1, streams.shape[-1])
    return model.unembed(model.ln_final(flat)).log_softmax(-1).reshape(*streams.shape[:-1], -1)


def _ridge(x, y, penalty, rows=True, centre=True, dtype=torch.float64):
    x, y = x.to(dtype), y.to(dtype)
    x_mean, y_mean = (x.mean(0), y.mean(0)) if centre else (torch.zeros(x.shape[1]).to(dtype),) * 2
    a = x - x_mean
    n = len(x) if rows else 1
    A = torch.linalg.solve(a.T @ a / n + penalty * torch.eye(x.shape[1], dtype=dtype), a.T @ (y - y_mean) / n)
    return A.float(), (y_mean - x_mean @ A).float()


@mistake("adds the penalty to sums over rows: the formula has means, so it counts n times")
def tuned_lens(streams, targets, penalty):
    return _ridge(streams, targets, penalty, rows=False)


@mistake("has no b: subtract the means first")
def tuned_lens(streams, targets, penalty):
    return _ridge(streams, targets, penalty, centre=False)


@mistake("leaves the penalty out")
def tuned_lens(streams, targets, penalty):
    return _ridge(streams, targets, 1e-9)


@mistake("the penalty counts for b as well: b costs nothing")
def tuned_lens(streams, targets, penalty):
    x = torch.cat([streams, torch.ones(len(streams), 1)], dim=1).double()
    n = len(x)
    A = torch.linalg.solve(x.T @ x / n + penalty * torch.eye(x.shape[1]).double(), x.T @ targets.double() / n)
    return A[:-1].float(), A[-1].float()


@mistake("gives the transpose of A: streams @ A comes to the targets")
def tuned_lens(streams, targets, penalty):
    A, b = _ridge(streams, targets, penalty)
    return A.T, b


@mistake("draws A to the identity, not to 0: the penalty is on A itself")
def tuned_lens(streams, targets, penalty):
    A, b = _ridge(streams, targets - streams, penalty)
    return A + torch.eye(len(A)), b


@mistake("divides the penalty by the number of axes")
def tuned_lens(streams, targets, penalty):
    return _ridge(streams, targets, penalty / streams.shape[1])


@right("scikit-learn")
def tuned_lens(streams, targets, penalty):
    from sklearn.linear_model import Ridge

    fit = Ridge(alpha=penalty * len(streams)).fit(streams.double().numpy(), targets.double().numpy())
    return torch.tensor(fit.coef_.T).float(), torch.tensor(fit.intercept_).float()


@right("least squares with rows for the penalty")
def tuned_lens(streams, targets, penalty):
    n, d = streams.shape
    x = torch.cat([streams, torch.ones(n, 1)], dim=1).double()
    extra = torch.cat([(n * penalty) ** 0.5 * torch.eye(d), torch.zeros(d, 1)], dim=1).double()
    y = torch.cat([targets.double(), torch.zeros(d, d).double()])
    found = torch.linalg.lstsq(torch.cat([x, extra]), y).solution.float()
    return found[:-1], found[-1]


@mistake("what can be predicted from a stream need not be what the model has decided, or uses")
def answer_lens():
    return "b"


@mistake("the plain lens answers its own question: what if the model stopped here?")
def answer_lens():
    return "c"


# --- 9. Examples and labels


def _top(acts, allowed, count, largest=True):
    flat = [(float(acts[t, p]), (t, p)) for t in range(len(acts)) for p in range(acts.shape[1]) if allowed[t, p]]
    return sorted(flat, reverse=largest)


def _once(ranked, count):
    seen, kept = set(), []
    for _, place in ranked:
        if place[0] not in seen:
            seen.add(place[0])
            kept.append(place)
    return kept[:count]


@mistake("more than one place of text")
def max_activating_examples(acts, allowed, count):
    return [place for _, place in _top(acts, allowed, count)[:count]]


@mistake("the smallest activations: the largest are asked for")
def max_activating_examples(acts, allowed, count):
    return _once(_top(acts, allowed, count, largest=False), count)


@mistake("takes no notice of `allowed`")
def max_activating_examples(acts, allowed, count):
    return _once(_top(acts, torch.ones_like(allowed), count), count)


@mistake("is not an allowed one: what is left out must be minus infinity, as 0 beats negative activations")
def max_activating_examples(acts, allowed, count):
    return _once(_top(acts * allowed, torch.ones_like(allowed), count), count)


@mistake("the largest in absolute value: a very negative activation is a small one")
def max_activating_examples(acts, allowed, count):
    return _once(_top(acts.abs(), allowed, count), count)


@mistake("in the order of the texts: the largest comes first")
def max_activating_examples(acts, allowed, count):
    return sorted(_once(_top(acts, allowed, count), count))


@mistake("the largest count places first, and then one of each text: too few are left")
def max_activating_examples(acts, allowed, count):
    return _once(_top(acts, allowed, count)[:count], count)


@mistake("is not a tuple (text, position)")
def max_activating_examples(acts, allowed, count):
    return [list(place) for place in _once(_top(acts, allowed, count), count)]


@right("sorting everything")
def max_activating_examples(acts, allowed, count):
    return _once(_top(acts, allowed, count), count)


def _drawn(allowed, seed):
    generator = torch.Generator().manual_seed(seed)
    places = allowed.nonzero()
    return [tuple(place) for place in places[torch.randperm(len(places), generator=generator)].tolist()]


@mistake("more than one place of text: draw texts first")
def random_examples(allowed, count, seed):
    return _drawn(allowed, seed)[:count]


@mistake("not every text is equally likely")
def random_examples(allowed, count, seed):
    return _once([(0, place) for place in _drawn(allowed, seed)], count)


@mistake("is not an allowed one: choose among the allowed positions")
def random_examples(allowed, count, seed):
    generator = torch.Generator().manual_seed(seed)
    texts = torch.randperm(len(allowed), generator=generator)[:count].tolist()
    return [(t, int(torch.randint(allowed.shape[1], (), generator=generator))) for t in texts]


@mistake("not every place is equally likely")
def random_examples(allowed, count, seed):
    generator = torch.Generator().manual_seed(seed)
    texts = allowed.any(1).nonzero()[:, 0]
    texts = texts[torch.randperm(len(texts), generator=generator)[:count]].tolist()
    return [(t, int(allowed[t].nonzero()[0])) for t in texts]


@mistake("the same seed gave other places the second time")
def random_examples(allowed, count, seed):
    return random_examples_of_now(allowed, count)


def random_examples_of_now(allowed, count):
    generator = torch.Generator()
    generator.seed()
    return _evenly(allowed, count, generator)


def _evenly(allowed, count, generator):
    texts = allowed.any(1).nonzero()[:, 0]
    texts = texts[torch.randperm(len(texts), generator=generator)[:count]].tolist()
    places = []
    for text in texts:
        at = allowed[text].nonzero()[:, 0]
        places.append((text, int(at[torch.randint(len(at), (), generator=generator)])))
    return places


@mistake("your code draws from (or seeds)")
def random_examples(allowed, count, seed):
    torch.manual_seed(seed)
    return _evenly(allowed, count, None)


@mistake("each text is to be drawn whatever the others are")
def random_examples(allowed, count, seed):
    """A random one and those that follow it."""
    texts, (first, *_) = allowed.any(1).nonzero()[:, 0].tolist(), [*_evenly(allowed, 1, _seeded(seed)), (0, 0)]
    start = texts.index(first[0]) if texts else 0
    at = dict(_evenly(allowed, len(texts), _seeded(seed)))
    return [(text, at[text]) for text in (texts[start:] + texts[:start])[:count]]


@mistake("gave the same one of their places each time: draw anew for each text")
def random_examples(allowed, count, seed):
    """The generator begins anew in each text."""
    texts = [text for text, _ in _evenly(allowed, count, _seeded(seed))]
    at = {text: allowed[text].nonzero()[:, 0] for text in texts}
    return [(text, int(at[text][torch.randint(len(at[text]), (), generator=_seeded(seed))])) for text in texts]


def _seeded(seed):
    return torch.Generator().manual_seed(seed)


@right("Python's own generator")
def random_examples(allowed, count, seed):
    import random

    draw = random.Random(seed)
    texts = [t for t in range(len(allowed)) if allowed[t].any()]
    texts = draw.sample(texts, min(count, len(texts)))
    return [(t, draw.choice([p for p in range(allowed.shape[1]) if allowed[t, p]])) for t in texts]


def _shares(acts, label, allowed, threshold, fires=None):
    fires = (acts > threshold) & allowed if fires is None else fires
    holds = label & allowed
    both = (fires & holds).sum(1).float()
    return tuple(both[of.sum(1) > 0] / of.sum(1)[of.sum(1) > 0] for of in (fires, holds))


@mistake("returns recall first: precision, the share of firing places, comes first")
def label_test(acts, label, allowed, threshold):
    return _shares(acts, label, allowed, threshold)[::-1]


@mistake("counts places that are not allowed")
def label_test(acts, label, allowed, threshold):
    return _shares(acts, label, torch.ones_like(allowed), threshold)


@mistake("counts the threshold itself as firing: above it is asked for")
def label_test(acts, label, allowed, threshold):
    return _shares(acts, label, allowed, threshold, (acts >= threshold) & allowed)


@mistake("pools all texts: a text is what is independent, so one number for each")
def label_test(acts, label, allowed, threshold):
    fires, holds = (acts > threshold) & allowed, label & allowed
    both = (fires & holds).sum().float()
    return both / fires.sum(), both / holds.sum()


@mistake("gives 0 where a text has no such place: leave it out")
def label_test(acts, label, allowed, threshold):
    fires, holds = (acts > threshold) & allowed, label & allowed
    both = (fires & holds).sum(1).float()
    return both / fires.sum(1).clamp(min=1), both / holds.sum(1).clamp(min=1)


@mistake("gives nan where a text has no such place: leave that text out")
def label_test(acts, label, allowed, threshold):
    fires, holds = (acts > threshold) & allowed, label & allowed
    both = (fires & holds).sum(1).float()
    return both / fires.sum(1), both / holds.sum(1)


@mistake("divides by all allowed places of the text")
def label_test(acts, label, allowed, threshold):
    fires, holds = (acts > threshold) & allowed, label & allowed
    both, n = (fires & holds).sum(1).float(), allowed.sum(1)
    return both[fires.any(1)] / n[fires.any(1)], both[holds.any(1)] / n[holds.any(1)]


@right("text by text")
def label_test(acts, label, allowed, threshold):
    precision, recall = [], []
    for act, holds, ok in zip(acts, label, allowed, strict=True):
        fires, holds = act[ok] > threshold, holds[ok]
        if fires.any():
            precision.append(holds[fires].float().mean())
        if holds.any():
            recall.append(fires[holds].float().mean())
    return (torch.tensor(precision), torch.tensor(recall))


@mistake("the strongest examples are no fair sample of where it is active: two in five places lay elsewhere here")
def answer_top():
    return "a"


@mistake("what it is for is a claim about what the model does with it: no example shows that")
def answer_top():
    return "c"


# --- 10. Open task


def _two(model, tokens):
    with torch.no_grad():
        return model(tokens)[:, -1].topk(2).indices.T


def _named(size, limit):
    return {(layer, head) for layer, head in (size > limit).nonzero().tolist()}


@mistake("others were named, too: ")
def find_writers(model, tokens):
    """Raw columns of W_U: falls for what the last norm wipes out."""
    return _named(_by_head(model, tokens, *_two(model, tokens), weight=False).abs().mean(-1), 1.5)


@mistake("writers were found; missed were ")
def find_writers(model, tokens):
    """By removal: a backup steps in, and feeders matter."""
    heads = [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]
    total = _effects(model, tokens, heads, *_two(model, tokens))[1].abs().mean(1)
    return {head for head, size in zip(heads, total, strict=True) if size > 3}


@mistake("writers were found, but ")
@torch.no_grad()
def find_writers(model, tokens):
    """The winner's logit alone: falls for what raises all logits alike."""
    cache, best = _cache(model, tokens), _two(model, tokens)[0]
    alone = _read(model)[0][:, best].T / _scale(model, _stream(model, tokens))
    z = torch.stack([cache["z", layer][:, -1] for layer in range(model.cfg.n_layers)])
    W_O = torch.stack([block.attn.W_O for block in model.blocks])
    return _named(torch.einsum("lrhd,lhdm,rm->lhr", z, W_O, alone).abs().mean(-1), 1.5)


@mistake("others were named, too")
@torch.no_grad()
def find_writers(model, tokens):
    """Whoever writes much."""
    cache = _cache(model, tokens)
    size = [
        torch.stack([(z[:, h] @ block.attn.W_O[h]).norm(dim=-1).mean() for h in range(model.cfg.n_heads)])
        for z, block in ((cache["z", layer][:, -1], block) for layer, block in enumerate(model.blocks))
    ]
    return _named(torch.stack(size), 0.3)


@mistake("were found; missed were")
def find_writers(model, tokens):
    """The mean over rows, and a limit that heads which are often outvoted do not reach."""
    return _named(_by_head(model, tokens, *_two(model, tokens)).mean(-1), 3.5)


@mistake("no head was named in any model")
def find_writers(model, tokens):
    return set()


@right("relative to the largest, with a floor, as a list")
def find_writers(model, tokens):
    size = _by_head(model, tokens, *_two(model, tokens)).abs().amax(-1)
    limit = max(0.3 * float(size.max()), 2.0)
    return [tuple(place) for place in (size > limit).nonzero().tolist()]


@right("taken out of the last stream by hand, with the model's own last norm")
@torch.no_grad()
def find_writers(model, tokens):
    cache, two = _cache(model, tokens), _two(model, tokens)
    stream, found = _stream(model, tokens), set()

    def gap(x):
        logits = model.unembed(model.ln_final(x[:, None]))[:, 0]
        return logits.gather(1, two.T) @ torch.tensor([1.0, -1.0])

    whole = gap(stream)
    for layer, block in enumerate(model.blocks):
        for head in range(model.cfg.n_heads):
            wrote = cache["z", layer][:, -1, head] @ block.attn.W_O[head]
            moved = gap(stream - wrote) / whole
            if (moved - moved.median()).abs().mean() > 0.15:
                found.add((layer, head))
    return found
