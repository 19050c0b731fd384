"""Wrong answers to 3.0, the placement of step 3, and what each of them is."""

import math

import torch

from concrete_steps.checking.mistakes import mistake, right


def run(model, tokens, *hooks):
    with torch.no_grad():
        return model.run_with_hooks(tokens, fwd_hooks=list(hooks))


def streams(model, tokens, part="post"):
    """The stream after each layer (or before it), [layer row pos d_model]."""
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith(f"hook_resid_{part}"))
    return torch.stack([cache[f"blocks.{layer}.hook_resid_{part}"] for layer in range(model.cfg.n_layers)])


def after(layer):
    return f"blocks.{layer}.hook_resid_post"


# --- 1. Hooks


def counted(model, x, parts, remove=True, whatever=True):
    """Calls of these parts; hooks may be left, always or when the run fails."""
    counts, handles = dict.fromkeys(parts, 0), []
    for path, part in parts.items():

        def count(part, args, output, path=path):
            counts[path] += 1

        handles.append(part.register_forward_hook(count))
    try:
        model(x)
    except Exception:
        remove = remove and whatever
        raise
    finally:
        for handle in handles if remove else ():
            handle.remove()
    return counts


def parts_of(model):
    return {path: part for path, part in model.named_modules() if path}


@mistake("stays behind: remove it")
def times_called(model, x):
    return counted(model, x, parts_of(model), remove=False)


@mistake("is gone: remove none but your own")
def times_called(model, x):
    counts = counted(model, x, parts_of(model))
    for part in model.modules():
        part._forward_pre_hooks.clear()
    return counts


@mistake("the model's own error does not reach the caller")
def times_called(model, x):
    try:
        return counted(model, x, parts_of(model))
    except Exception:
        return {}


@mistake("where the run fails, a hook stays behind")
def times_called(model, x):
    return counted(model, x, parts_of(model), whatever=False)


@mistake("counts the innermost parts alone: those that hold others are parts as well")
def times_called(model, x):
    return counted(model, x, {path: part for path, part in parts_of(model).items() if not list(part.children())})


@mistake("counts the outermost parts alone: named_modules goes to any depth")
def times_called(model, x):
    return counted(model, x, dict(model.named_children()))


@mistake("leaves out the parts that are never called: they have an entry, 0")
def times_called(model, x):
    return {path: number for path, number in counted(model, x, parts_of(model)).items() if number}


@mistake("all hooks count for the last part: path is looked up when they run, and the loop is over by then")
def times_called(model, x):
    counts = dict.fromkeys(parts_of(model), 0)
    path, handles = "", []

    def count(part, args, output):
        counts[path] += 1

    for path, part in parts_of(model).items():  # noqa: B007
        handles.append(part.register_forward_hook(count))
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return counts


@mistake("counts the model itself, too, by the path ''")
def times_called(model, x):
    return counted(model, x, dict(model.named_modules()))


@mistake("gives 1 for whatever runs: how often is asked for")
def times_called(model, x):
    return {path: min(number, 1) for path, number in counted(model, x, parts_of(model)).items()}


@right("a list of what was called, counted afterwards; hooks that end with a stack")
def times_called(model, x):
    import contextlib

    paths, called = {part: path for path, part in model.named_modules()}, []
    with contextlib.ExitStack() as stack:
        for part in paths:
            if part is not model:
                handle = part.register_forward_hook(lambda part, args, out: called.append(paths[part]))
                stack.callback(handle.remove)
        model(x)
    return {path: called.count(path) for path in paths.values() if path}


@mistake("takes what comes in from a run with all layers: with an earlier layer left out, something else comes in")
def without_layers(model, tokens, layers):
    before = streams(model, tokens, "pre")
    return run(model, tokens, *((after(layer), lambda x, hook: before[hook.layer()]) for layer in layers))


@mistake("leaves out the attention alone: the MLP still writes")
def without_layers(model, tokens, layers):
    names = [f"blocks.{layer}.hook_attn_out" for layer in layers]
    return run(model, tokens, *((name, lambda x, hook: torch.zeros_like(x)) for name in names))


@mistake("leaves out the MLP alone: the attention still writes")
def without_layers(model, tokens, layers):
    names = [f"blocks.{layer}.hook_mlp_out" for layer in layers]
    return run(model, tokens, *((name, lambda x, hook: torch.zeros_like(x)) for name in names))


@mistake("empties the whole stream: what earlier layers wrote stays in it")
def without_layers(model, tokens, layers):
    return run(model, tokens, *((after(layer), lambda x, hook: torch.zeros_like(x)) for layer in layers))


@mistake("leaves out the last layer of the list alone: none of them is to write in the run")
def without_layers(model, tokens, layers):
    return skipped(model, tokens, layers[-1:])


def skipped(model, tokens, layers):
    names = [f"blocks.{layer}.hook_{part}" for layer in layers for part in ("attn_out", "mlp_out")]
    return run(model, tokens, *((name, lambda x, hook: torch.zeros_like(x)) for name in names))


@right("attention and MLP write nothing")
def without_layers(model, tokens, layers):
    return skipped(model, tokens, layers)


@right("PyTorch's own hooks on the blocks")
def without_layers(model, tokens, layers):
    def put_back(block, args, kwargs, out):
        entered = args[0] if args else kwargs["hidden_states"]
        return (entered, *out[1:]) if isinstance(out, tuple) else entered

    handles = [model.blocks[layer].register_forward_hook(put_back, with_kwargs=True) for layer in layers]
    try:
        with torch.no_grad():
            return model(tokens)
    finally:
        for handle in handles:
            handle.remove()


@mistake("keeps a gradient: run the model under torch.no_grad()")
def without_layers(model, tokens, layers):
    with torch.enable_grad():
        names = [f"blocks.{layer}.hook_{part}" for layer in layers for part in ("attn_out", "mlp_out")]
        return model.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: 0 * x) for name in names])


@mistake("leaves out the other layers: those in the list are to write nothing")
def without_layers(model, tokens, layers):
    return skipped(model, tokens, [layer for layer in range(model.cfg.n_layers) if layer not in layers])


@right("a hook context, and a list for each layer")
def without_layers(model, tokens, layers):
    hooks = []
    for layer in layers:
        kept = []
        hooks.append((f"blocks.{layer}.hook_resid_pre", lambda x, hook, kept=kept: kept.append(x.clone())))
        hooks.append((after(layer), lambda x, hook, kept=kept: kept.pop()))
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        return model(tokens)


# --- 2. Attention heads and induction


def weights_at(pattern, length, shift, first=1.0, last=2.0):
    """Weights of queries from first * length to last * length on the key `shift` after one block before."""
    pos = torch.arange(pattern.shape[2])
    inside = (pos >= first * length[:, None]) & (pos < last * length[:, None])
    row, query = inside.nonzero(as_tuple=True)
    return pattern[row, :, query, query - length[row] + shift], row


@mistake("looks at the same token in the first block: an induction head looks at the one after it")
def induction_of_blocks(pattern, length):
    return weights_at(pattern, length, 0)[0].mean(0)


@mistake("looks at the token before the query's token in the first block: an induction head looks at the one after it")
def induction_of_blocks(pattern, length):
    return weights_at(pattern, length + 0, -1, first=1 + 1e-6)[0].mean(0)


@mistake("takes the mean of each row first: then a query of a short block counts more")
def induction_of_blocks(pattern, length):
    weights, row = weights_at(pattern, length, 1)
    return torch.stack([weights[row == r].mean(0) for r in range(len(length))]).mean(0)


@mistake("counts the queries in the padding, too")
def induction_of_blocks(pattern, length):
    return weights_at(pattern, length, 1, last=1e6)[0].mean(0)


@mistake("exchanges query and key: the first of the last two axes is the query's")
def induction_of_blocks(pattern, length):
    return weights_at(pattern.mT, length, 1)[0].mean(0)


@mistake("takes the longest block for all rows: each row has its own")
def induction_of_blocks(pattern, length):
    return weights_at(pattern, torch.full_like(length, int(length.max())), 1)[0].mean(0)


@mistake("leaves the last query of each second block out: its key is the first token of that block")
def induction_of_blocks(pattern, length):
    weights = [pattern[row, :, torch.arange(n, 2 * n - 1), torch.arange(1, n)] for row, n in enumerate(length.tolist())]
    return torch.cat(weights, dim=1).mean(1)


@mistake("is the sum over the queries, not the mean")
def induction_of_blocks(pattern, length):
    return weights_at(pattern, length, 1)[0].sum(0)


@right("a mask over queries and keys, and einsum")
def induction_of_blocks(pattern, length):
    pos = torch.arange(pattern.shape[2])
    query, key, n = pos[None, :, None], pos[None, None], length[:, None, None]
    wanted = ((query - key == n - 1) & (query >= n) & (query < 2 * n)).to(pattern.dtype)
    return torch.einsum("rhqk,rqk->h", pattern, wanted) / wanted.sum()


@right("row by row, by diagonals")
def induction_of_blocks(pattern, length):
    found = []
    for row, n in zip(pattern, length.tolist(), strict=True):
        stripe = row.diagonal(1 - n, -2, -1)  # entry i belongs to query i + n - 1
        found.append(stripe[:, 1 : n + 1])
    return torch.cat(found, dim=1).mean(1)


def rewritten(model, tokens, layer, rewrite):
    def hook(pattern, hook):
        return rewrite(pattern.clone())

    return run(model, tokens, (f"blocks.{layer}.attn.hook_pattern", hook))


def at_distance(pattern, back):
    pos = torch.arange(pattern.shape[-1])
    return pos[:, None] - pos == back


@mistake("leaves the other weights as they are: they no longer sum to 1")
def blind_at_distance(model, tokens, layer, head, back):
    def rewrite(pattern):
        pattern[:, head] = pattern[:, head].masked_fill(at_distance(pattern, back), 0)
        return pattern

    return rewritten(model, tokens, layer, rewrite)


@mistake("blinds all heads of the layer: this one is meant")
def blind_at_distance(model, tokens, layer, head, back):
    def rewrite(pattern):
        pattern = pattern.masked_fill(at_distance(pattern, back), 0)
        return pattern / pattern.sum(-1, keepdim=True)

    return rewritten(model, tokens, layer, rewrite)


@mistake("takes softmax of the weights once more: they are to grow by one factor")
def blind_at_distance(model, tokens, layer, head, back):
    def rewrite(pattern):
        hidden = at_distance(pattern, back) | torch.ones(pattern.shape[-2:], dtype=torch.bool).triu(1)
        pattern[:, head] = pattern[:, head].masked_fill(hidden, -torch.inf).softmax(-1)
        return pattern

    return rewritten(model, tokens, layer, rewrite)


@mistake("hides all keys that stand so far back, or further: one distance is meant")
def blind_at_distance(model, tokens, layer, head, back):
    def rewrite(pattern):
        seen = pattern[:, head].triu(1 - back)
        pattern[:, head] = seen / seen.sum(-1, keepdim=True)
        return pattern

    return rewritten(model, tokens, layer, rewrite)


@mistake("counts back round the end: a query that has no key so far back loses nothing")
def blind_at_distance(model, tokens, layer, head, back):
    def rewrite(pattern):
        queries = torch.arange(pattern.shape[-1])
        pattern[:, head, queries, (queries - back) % len(queries)] = 0
        pattern[:, head] /= pattern[:, head].sum(-1, keepdim=True)
        return pattern

    return rewritten(model, tokens, layer, rewrite)


@mistake("changes nothing: the logits are those of a run without hooks")
def blind_at_distance(model, tokens, layer, head, back):
    return rewritten(model, tokens, layer, lambda pattern: pattern)


@mistake("shares the weight out evenly: all weights are to grow by the same factor")
def blind_at_distance(model, tokens, layer, head, back):
    def rewrite(pattern):
        hidden, seen = at_distance(pattern, back), pattern[:, head]
        others = torch.ones_like(hidden).tril() & ~hidden
        lost = (seen * hidden).sum(-1, keepdim=True)
        pattern[:, head] = seen * ~hidden + others * lost / others.sum(-1, keepdim=True)
        return pattern

    return rewritten(model, tokens, layer, rewrite)


@mistake("gives all of the lost weight to the query's own position: all weights are to grow by the same factor")
def blind_at_distance(model, tokens, layer, head, back):
    def rewrite(pattern):
        hidden, seen = at_distance(pattern, back), pattern[:, head]
        pattern[:, head] = seen * ~hidden + torch.diag_embed((seen * hidden).sum(-1))
        return pattern

    return rewritten(model, tokens, layer, rewrite)


@right("from the logarithms of the weights, by a softmax")
def blind_at_distance(model, tokens, layer, head, back):
    def rewrite(pattern):
        pattern[:, head] = pattern[:, head].log().masked_fill(at_distance(pattern, back), -torch.inf).softmax(-1)
        return pattern

    return rewritten(model, tokens, layer, rewrite)


@right("the weight that is left, divided by 1 less what was there")
def blind_at_distance(model, tokens, layer, head, back):
    def rewrite(pattern):
        own = pattern[:, head]
        lost = (own * at_distance(pattern, back)).sum(-1, keepdim=True)
        pattern[:, head] = own.masked_fill(at_distance(pattern, back), 0) / (1 - lost)
        return pattern

    return rewritten(model, tokens, layer, rewrite)


@right("query by query")
def blind_at_distance(model, tokens, layer, head, back):
    def rewrite(pattern):
        for query in range(back, pattern.shape[2]):
            pattern[:, head, query, query - back] = 0
            pattern[:, head, query] /= pattern[:, head, query].sum(-1, keepdim=True)
        return pattern

    return rewritten(model, tokens, layer, rewrite)


# --- 3. Logit attribution and lenses


def centred(x):
    return x - x.mean(-1, keepdim=True)


def scale_of(x, eps, correction=0):
    return (x.var(-1, keepdim=True, correction=correction) + eps).sqrt()


def terms_of(normalised, bias, W_U, token):
    rows = torch.cat([normalised, bias.expand(1, *normalised.shape[1:])])
    return (rows * W_U.T[token]).sum(-1)


@mistake("gives each part a scale of its own: the norm divides all by that of the whole stream")
def split_logit(parts, weight, bias, W_U, token, eps=1e-5):
    return terms_of(centred(parts) / scale_of(parts, eps) * weight, bias, W_U, token)


@mistake("does not subtract the mean: LayerNorm does, of each part as well")
def split_logit(parts, weight, bias, W_U, token, eps=1e-5):
    return terms_of(parts / scale_of(parts.sum(0), eps) * weight, bias, W_U, token)


@mistake("leaves the norm's weight out")
def split_logit(parts, weight, bias, W_U, token, eps=1e-5):
    return terms_of(centred(parts) / scale_of(parts.sum(0), eps), bias, W_U, token)


@mistake("leaves the norm out: parts times W_U are not terms of the logit")
def split_logit(parts, weight, bias, W_U, token, eps=1e-5):
    return terms_of(parts, bias, W_U, token)


@mistake("subtracts the mean of the whole stream from each part: then it is subtracted once for each")
def split_logit(parts, weight, bias, W_U, token, eps=1e-5):
    stream = parts.sum(0)
    return terms_of((parts - stream.mean(-1, keepdim=True)) / scale_of(stream, eps) * weight, bias, W_U, token)


@mistake("divides by d_model - 1 in the variance, as x.var() does: LayerNorm divides by d_model")
def split_logit(parts, weight, bias, W_U, token, eps=1e-5):
    return terms_of(centred(parts) / scale_of(parts.sum(0), eps, 1) * weight, bias, W_U, token)


@mistake("divides as an RMSNorm does, by the root of the mean square: LayerNorm subtracts the mean first")
def split_logit(parts, weight, bias, W_U, token, eps=1e-5):
    scale = (parts.sum(0).square().mean(-1, keepdim=True) + eps).sqrt()
    return terms_of(centred(parts) / scale * weight, bias, W_U, token)


@mistake("adds the bias to each part: it belongs to none, and has a term of its own")
def split_logit(parts, weight, bias, W_U, token, eps=1e-5):
    return terms_of(centred(parts) / scale_of(parts.sum(0), eps) * weight + bias, bias, W_U, token)


@right("the norm of the whole is linear once its scale is known")
def split_logit(parts, weight, bias, W_U, token, eps=1e-5):
    d_model = parts.shape[-1]
    linear = (torch.eye(d_model, dtype=parts.dtype) - 1 / d_model) @ (weight[:, None] * W_U[:, token])  # [d_model row]
    scale = scale_of(parts.sum(0), eps)[:, 0]
    terms = torch.einsum("prd,dr->pr", parts, linear) / scale
    return torch.vstack([terms, W_U[:, token].T @ bias])


@right("all logits first, then those of the tokens")
def split_logit(parts, weight, bias, W_U, token, eps=1e-5):
    normalised = centred(parts) / scale_of(parts.sum(0), eps) * weight
    logits = torch.cat([normalised, bias.expand_as(normalised[:1])]) @ W_U
    return logits.gather(-1, token[None, :, None].expand(len(logits), -1, 1))[..., 0]


def lens(model, x, norm=True):
    with torch.no_grad():
        return model.unembed(model.ln_final(x) if norm else x).argmax(-1)


def first_for_good(agrees):
    return len(agrees) - agrees.flip(0).cumprod(0).sum(0)


def answer(model, tokens):
    return run(model, tokens)[:, -1].argmax(-1)


@mistake("gives the first layer that has the answer on top: a later one may lose it again")
def settles_at(model, tokens):
    agrees = lens(model, streams(model, tokens)[:, :, -1]) == answer(model, tokens)
    return agrees.int().argmax(0)


@mistake("leaves the last norm out")
def settles_at(model, tokens):
    said = lens(model, streams(model, tokens)[:, :, -1], norm=False)
    return first_for_good(said == answer(model, tokens))


@mistake("leaves the last norm out, in the answer, too")
def settles_at(model, tokens):
    said = lens(model, streams(model, tokens)[:, :, -1], norm=False)
    return first_for_good(said == said[-1])


@mistake("reads the stream before each layer, not after it")
def settles_at(model, tokens):
    agrees = lens(model, streams(model, tokens, "pre")[:, :, -1]) == answer(model, tokens)
    return first_for_good(agrees)


@mistake("counts layers from 1")
def settles_at(model, tokens):
    return first_for_good(lens(model, streams(model, tokens)[:, :, -1]) == answer(model, tokens)) + 1


@mistake("looks at the first position: the answer comes after the last")
def settles_at(model, tokens):
    said = lens(model, streams(model, tokens)[:, :, 0])
    return first_for_good(said == said[-1])


@mistake("gives the last layer that has another answer: the next one is the first for good")
def settles_at(model, tokens):
    return first_for_good(lens(model, streams(model, tokens)[:, :, -1]) == answer(model, tokens)) - 1


@mistake("norms all streams by the last one's scale: the lens takes each for the last, and norms it by its own")
def settles_at(model, tokens):
    x = streams(model, tokens)[:, :, -1]
    norm, has_mean = model.ln_final, model.cfg.normalization_type == "LN"
    x = centred(x) if has_mean else x
    with torch.no_grad():
        x = x / (x[-1].square().mean(-1, keepdim=True) + model.cfg.eps).sqrt() * norm.weight
        said = model.unembed(x + norm.bias if has_mean else x).argmax(-1)
    return first_for_good(said == said[-1])


@mistake("reads what each layer wrote by itself: the lens reads the stream, in which all before it is still there")
def settles_at(model, tokens):
    x = streams(model, tokens)[:, :, -1] - streams(model, tokens, "pre")[:, :, -1]
    agrees = lens(model, x) == answer(model, tokens)
    agrees[-1] = True
    return first_for_good(agrees)


@mistake("waits until the answers of all rows are settled: each row has a layer of its own")
def settles_at(model, tokens):
    agrees = lens(model, streams(model, tokens)[:, :, -1]) == answer(model, tokens)
    return first_for_good(agrees.all(1, keepdim=True)).expand(len(tokens)).clone()


@right("from the last layer back, with hooks")
def settles_at(model, tokens):
    seen = {}
    hooks = [(after(n), lambda x, hook, n=n: seen.update({n: x[:, -1:]})) for n in range(model.cfg.n_layers)]
    final = run(model, tokens, *hooks)[:, -1].argmax(-1)
    layers = []
    for row in range(len(tokens)):
        layer = model.cfg.n_layers - 1
        while layer and lens(model, seen[layer - 1])[row, 0] == final[row]:
            layer -= 1
        layers.append(layer)
    return torch.tensor(layers)


@right("one after the last layer that disagrees")
def settles_at(model, tokens):
    wrong = lens(model, streams(model, tokens)[:, :, -1]) != answer(model, tokens)
    numbers = torch.arange(1, len(wrong) + 1)[:, None]
    return (wrong * numbers).amax(0)


# --- 4. Patching


def put_in(model, tokens, layer, change):
    return run(model, tokens, (after(layer), lambda x, hook: change(x.clone())))


@mistake("patches the other way round: the run is to be on tokens")
def transplant(model, tokens, at, other, other_at, layer):
    source, rows = streams(model, tokens)[layer], torch.arange(len(tokens))

    def change(x):
        x[rows, other_at] = source[rows, at]
        return x

    return put_in(model, other, layer, change)


@mistake("puts it at the place where it was: it goes from other_at to at")
def transplant(model, tokens, at, other, other_at, layer):
    source, rows = streams(model, other)[layer], torch.arange(len(tokens))

    def change(x):
        x[rows, other_at] = source[rows, other_at]
        return x

    return put_in(model, tokens, layer, change)


@mistake("takes it from the place where it goes: it goes from other_at to at")
def transplant(model, tokens, at, other, other_at, layer):
    source, rows = streams(model, other)[layer], torch.arange(len(tokens))

    def change(x):
        x[rows, at] = source[rows, at]
        return x

    return put_in(model, tokens, layer, change)


@mistake("patches every row at all the positions of `at`: x[:, at], where row r has position at[r] alone")
def transplant(model, tokens, at, other, other_at, layer):
    source = streams(model, other)[layer]

    def change(x):
        x[:, at] = source[:, other_at]
        return x

    return put_in(model, tokens, layer, change)


@mistake("patches before the layer (resid_pre), not after it")
def transplant(model, tokens, at, other, other_at, layer):
    source, rows = streams(model, other, "pre")[layer], torch.arange(len(tokens))

    def change(x, hook):
        x = x.clone()
        x[rows, at] = source[rows, other_at]
        return x

    return run(model, tokens, (f"blocks.{layer}.hook_resid_pre", change))


@mistake("adds the other vector: it takes the place of the one that was there")
def transplant(model, tokens, at, other, other_at, layer):
    source, rows = streams(model, other)[layer], torch.arange(len(tokens))

    def change(x):
        x[rows, at] += source[rows, other_at]
        return x

    return put_in(model, tokens, layer, change)


@right("by a mask, and a vector that is gathered")
def transplant(model, tokens, at, other, other_at, layer):
    source = streams(model, other)[layer]
    vector = source.gather(1, other_at[:, None, None].expand(-1, 1, source.shape[-1]))
    here = torch.arange(tokens.shape[1]) == at[:, None]
    return run(model, tokens, (after(layer), lambda x, hook: torch.where(here[..., None], vector, x)))


@right("by the next layer's way in, or the last norm's")
def transplant(model, tokens, at, other, other_at, layer):
    source = streams(model, other)[layer]
    last = layer == model.cfg.n_layers - 1
    name = "ln_final.hook_in" if last else f"blocks.{layer + 1}.hook_resid_pre"

    def change(x, hook):
        x = x.clone()
        for row in range(len(x)):
            x[row, at[row]] = source[row, other_at[row]]
        return x

    return run(model, tokens, (name, change))


@mistake("exchanges the two runs: enough is seen in the corrupted run, needed in the clean one")
def enough_and_needed(clean, corrupted, into_corrupted, into_clean, share):
    gap = clean - corrupted
    return (clean - into_clean) / gap >= share, (into_corrupted - corrupted) / gap >= share


@mistake("measures both runs from the corrupted prompt: what is lost is counted from the clean one")
def enough_and_needed(clean, corrupted, into_corrupted, into_clean, share):
    gap = clean - corrupted
    return (into_corrupted - corrupted) / gap >= share, (into_clean - corrupted) / gap >= share


@mistake("takes the clean prompt's measure to be the larger one: divide by the gap, with its sign")
def enough_and_needed(clean, corrupted, into_corrupted, into_clean, share):
    gap = abs(clean - corrupted)
    return (into_corrupted - corrupted) / gap >= share, (clean - into_clean) / gap >= share


@mistake("counts a change to either side: a head that makes it worse brings nothing back")
def enough_and_needed(clean, corrupted, into_corrupted, into_clean, share):
    gap = abs(clean - corrupted)
    return (into_corrupted - corrupted).abs() / gap >= share, (clean - into_clean).abs() / gap >= share


@mistake("divides by the clean measure: the share is of the gap between both prompts")
def enough_and_needed(clean, corrupted, into_corrupted, into_clean, share):
    return (into_corrupted - corrupted) / clean >= share, (clean - into_clean) / clean >= share


@mistake("compares a difference of logits with a share: divide by the gap between both prompts")
def enough_and_needed(clean, corrupted, into_corrupted, into_clean, share):
    sign = 1 if clean > corrupted else -1
    return sign * (into_corrupted - corrupted) >= share, sign * (clean - into_clean) >= share


@mistake("calls needed whatever leaves less than the share: it is needed if the share or more is lost")
def enough_and_needed(clean, corrupted, into_corrupted, into_clean, share):
    gap = clean - corrupted
    return (into_corrupted - corrupted) / gap >= share, (into_clean - corrupted) / gap < share


@mistake("leaves out what reaches just the share: 'or more' has it")
def enough_and_needed(clean, corrupted, into_corrupted, into_clean, share):
    gap = clean - corrupted
    return (into_corrupted - corrupted) / gap > share, (clean - into_clean) / gap > share


@mistake("calls needed what is not enough: a head may be both, or neither")
def enough_and_needed(clean, corrupted, into_corrupted, into_clean, share):
    enough = (into_corrupted - corrupted) / (clean - corrupted) >= share
    return enough, ~enough


@right("by thresholds on the measure itself")
def enough_and_needed(clean, corrupted, into_corrupted, into_clean, share):
    up, down = corrupted + share * (clean - corrupted), clean - share * (clean - corrupted)
    if clean > corrupted:
        return into_corrupted >= up, into_clean <= down
    return into_corrupted <= up, into_clean >= down


# --- 5. Circuits in the weights


def shared_out(W_V, heads):
    return W_V.repeat_interleave(heads // len(W_V), 0)


@mistake("finds the token looked at that raises each token most: tokens looked at are the rows")
def raised_most(W_E, W_V, W_O, W_U):
    return (W_E @ shared_out(W_V, len(W_O)) @ W_O @ W_U).argmax(-2)


@mistake("lets heads 0, n, 2n, ... share values: neighbouring heads do, 0 1 2, then 3 4 5")
def raised_most(W_E, W_V, W_O, W_U):
    return (W_E @ W_V.repeat(len(W_O) // len(W_V), 1, 1) @ W_O @ W_U).argmax(-1)


@mistake("finds the largest change of either sign: the token raised is asked for")
def raised_most(W_E, W_V, W_O, W_U):
    return (W_E @ shared_out(W_V, len(W_O)) @ W_O @ W_U).abs().argmax(-1)


@mistake("adds the heads up: each has a row of its own")
def raised_most(W_E, W_V, W_O, W_U):
    total = (W_E @ shared_out(W_V, len(W_O)) @ W_O @ W_U).sum(0)
    return total.argmax(-1).expand(len(W_O), -1)


@mistake("leaves the head out: its W_V and W_O stand between embedding and unembedding")
def raised_most(W_E, W_V, W_O, W_U):
    return (W_E @ W_U).argmax(-1).expand(len(W_O), -1)


@mistake("adds the token's own embedding: what the head writes is asked for")
def raised_most(W_E, W_V, W_O, W_U):
    return ((W_E + W_E @ shared_out(W_V, len(W_O)) @ W_O) @ W_U).argmax(-1)


@mistake("finds the token that is lowered most")
def raised_most(W_E, W_V, W_O, W_U):
    return (W_E @ shared_out(W_V, len(W_O)) @ W_O @ W_U).argmin(-1)


@right("head by head, each with thin factors")
def raised_most(W_E, W_V, W_O, W_U):
    group = len(W_O) // len(W_V)
    return torch.stack([((W_E @ W_V[h // group]) @ (W_O[h] @ W_U)).argmax(1) for h in range(len(W_O))])


@right("grouped axes")
def raised_most(W_E, W_V, W_O, W_U):
    grouped = W_O.unflatten(0, (len(W_V), -1))
    circuit = torch.einsum("tm,kmd,kgdn,nv->kgtv", W_E, W_V, grouped, W_U)
    return circuit.flatten(0, 1).max(-1).indices


def match_table(W_E, writer, reader):
    (W_V, W_O), (W_Q, W_K) = writer, reader
    return W_E @ W_Q @ (W_E @ W_V @ W_O @ W_K).T / math.sqrt(W_Q.shape[1])


def gain_of(table):
    n = len(table)
    return table.trace() / n - (table.sum() - table.trace()) / (n * n - n)


@mistake("does not divide by the root of d_head, as scores are")
def match_gain(W_E, writer, reader):
    return gain_of(match_table(W_E, writer, reader)) * math.sqrt(reader[0].shape[1])


@mistake("divides by the root of the writer's d_head: the reader makes the score")
def match_gain(W_E, writer, reader):
    return gain_of(match_table(W_E, writer, reader)) * math.sqrt(reader[0].shape[1] / writer[0].shape[1])


@mistake("reads the note in the query (Q-composition): it is in the key")
def match_gain(W_E, writer, reader):
    return gain_of(match_table(W_E, writer, reader[::-1]))


@mistake("leaves the writer out: the key holds what it wrote, W_E W_V W_O, not the token itself")
def match_gain(W_E, writer, reader):
    W_Q, W_K = reader
    return gain_of(W_E @ W_Q @ (W_E @ W_K).T / math.sqrt(W_Q.shape[1]))


@mistake("subtracts the mean over all notes: matches are among them")
def match_gain(W_E, writer, reader):
    table = match_table(W_E, writer, reader)
    return table.diagonal().mean() - table.mean()


@mistake("is the matches' score alone: a head may score every note as high")
def match_gain(W_E, writer, reader):
    return match_table(W_E, writer, reader).diagonal().mean()


@mistake("adds the token's own part of the key: the note's part is asked for")
def match_gain(W_E, writer, reader):
    (W_V, W_O), (W_Q, W_K) = writer, reader
    keys = (W_E + W_E @ W_V @ W_O) @ W_K
    return gain_of(W_E @ W_Q @ keys.T / math.sqrt(W_Q.shape[1]))


@mistake("takes a softmax of the scores: what comes before it is asked for")
def match_gain(W_E, writer, reader):
    return gain_of(match_table(W_E, writer, reader).softmax(-1))


@right("a trace and a sum, from thin factors")
def match_gain(W_E, writer, reader):
    (W_V, W_O), (W_Q, W_K) = writer, reader
    n, queries, keys = len(W_E), W_E @ W_Q, W_E @ W_V @ (W_O @ W_K)
    matches = (queries * keys).sum()
    everything = queries.sum(0) @ keys.sum(0)
    return (matches / n - (everything - matches) / (n * (n - 1))) / W_K.shape[1] ** 0.5


# --- 6. Probes


def score_rows(acts, labels, seen_by, middle=None, unit=False):
    """Scores by the probe made from seen_by[row], for each row."""
    scores = []
    for x, seen in zip(acts, seen_by, strict=True):
        true, false = acts[seen & labels].mean(0), acts[seen & ~labels].mean(0)
        direction = (true - false) / ((true - false).norm() if unit else 1)
        centre = (true + false) / 2 if middle is None else middle(acts[seen], true, false)
        scores.append((x - centre) @ direction)
    return torch.stack(scores)


def others(groups):
    return groups[:, None] != groups


@mistake("makes one probe from all rows: the row that it scores, and its group, have helped")
def held_out_scores(acts, labels, groups):
    return score_rows(acts, labels, torch.ones_like(others(groups)))


@mistake("leaves out the row alone: the others of its group are about the same thing")
def held_out_scores(acts, labels, groups):
    return score_rows(acts, labels, ~torch.eye(len(acts), dtype=torch.bool))


@mistake("makes the probe from the row's own group: it is the one to be held out")
def held_out_scores(acts, labels, groups):
    return score_rows(acts, labels, ~others(groups))


@mistake("centres on the mean of all rows: 0 is half-way between the two means, however many rows each has")
def held_out_scores(acts, labels, groups):
    return score_rows(acts, labels, others(groups), lambda seen, true, false: seen.mean(0))


@mistake("leaves the middle out: a point half-way between the two means scores 0")
def held_out_scores(acts, labels, groups):
    return score_rows(acts, labels, others(groups), lambda seen, true, false: 0 * true)


@mistake("brings the direction to length 1: it is not scaled")
def held_out_scores(acts, labels, groups):
    return score_rows(acts, labels, others(groups), unit=True)


@mistake("points from true to false: true rows are to score high")
def held_out_scores(acts, labels, groups):
    return -score_rows(acts, labels, others(groups))


@mistake("calls rows right or wrong, or true or false: the score itself is asked for")
def held_out_scores(acts, labels, groups):
    return score_rows(acts, labels, others(groups)) > 0


@mistake("takes the mean of the groups' means: all rows of other groups count the same")
def held_out_scores(acts, labels, groups):
    scores = torch.empty_like(acts[:, 0])
    for group in groups.unique():
        left = [groups == other for other in groups.unique() if other != group]
        true, false = (
            torch.stack([acts[rows & side].mean(0) for rows in left if (rows & side).any()]).mean(0)
            for side in (labels, ~labels)
        )
        scores[groups == group] = (acts[groups == group] - (true + false) / 2) @ (true - false)
    return scores


@right("all probes at once, by matrix products")
def held_out_scores(acts, labels, groups):
    seen = others(groups).to(acts.dtype)
    yes, no = labels.to(acts.dtype), (~labels).to(acts.dtype)
    true = seen * yes @ acts / (seen * yes).sum(1, keepdim=True)
    false = seen * no @ acts / (seen * no).sum(1, keepdim=True)
    return ((acts - (true + false) / 2) * (true - false)).sum(1)


@right("row by row, a direction and a bias")
def held_out_scores(acts, labels, groups):
    scores = []
    for row in range(len(acts)):
        seen = groups != groups[row]
        true, false = (acts[seen & (labels == truth)].mean(0) for truth in (True, False))
        direction = true - false
        scores.append(acts[row] @ direction - (direction @ true + direction @ false) / 2)
    return torch.stack(scores)


def p_of(count, draws):
    return (1 + int(count)) / (1 + draws)


@mistake("compares with the same layer's draws alone: in each draw, too, the best layer would have been chosen")
def best_layer_p(accuracies, shuffled):
    best = int(accuracies.argmax())
    return p_of((shuffled[:, best] >= accuracies[best]).sum(), len(shuffled))


@mistake("leaves the real labels out of the draws: then p can be 0")
def best_layer_p(accuracies, shuffled):
    return float((shuffled.amax(1) >= accuracies.max()).double().mean())


@mistake("counts draws that are better alone: those that are as good count, too")
def best_layer_p(accuracies, shuffled):
    return p_of((shuffled.amax(1) > accuracies.max()).sum(), len(shuffled))


@mistake("takes each layer of each draw for a draw: a draw has one best layer")
def best_layer_p(accuracies, shuffled):
    return p_of((shuffled >= accuracies.max()).sum(), shuffled.numel())


@mistake("compares means over the layers: the best one is reported")
def best_layer_p(accuracies, shuffled):
    return p_of((shuffled.mean(1) >= accuracies.mean()).sum(), len(shuffled))


@mistake("counts the draws that are worse: p is the share of those as good or better")
def best_layer_p(accuracies, shuffled):
    return p_of((shuffled.amax(1) < accuracies.max()).sum(), len(shuffled))


@mistake("counts draws that are as far below chance, too: the best layer is the one with most right")
def best_layer_p(accuracies, shuffled):
    far = (shuffled - 0.5).abs().amax(1) >= accuracies.max() - 0.5
    return p_of(far.sum(), len(shuffled))


@right("plain Python, the real ones among the draws")
def best_layer_p(accuracies, shuffled):
    best = [max(row) for row in [accuracies.tolist(), *shuffled.tolist()]]
    return sum(value >= best[0] for value in best) / len(best)


# --- 7. Steering


def from_start(x, start):
    return (torch.arange(x.shape[1]) >= start[:, None])[..., None]


def as_long(moved, x):
    return moved * x.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True)


@mistake("leaves the sum as long as it comes out: it is brought to the length that the stream had")
def steer_from(model, tokens, layer, push, start):
    return put_in(model, tokens, layer, lambda x: x + push * from_start(x, start))


@mistake("pushes every position: row r from start[r] on")
def steer_from(model, tokens, layer, push, start):
    return put_in(model, tokens, layer, lambda x: as_long(x + push, x))


@mistake("pushes the position start[r] alone: the later ones of the row as well")
def steer_from(model, tokens, layer, push, start):
    def change(x):
        here = (torch.arange(x.shape[1]) == start[:, None])[..., None]
        return torch.where(here, as_long(x + push, x), x)

    return put_in(model, tokens, layer, change)


@mistake("begins one position too late: start[r] itself is pushed")
def steer_from(model, tokens, layer, push, start):
    return put_in(model, tokens, layer, lambda x: torch.where(from_start(x, start + 1), as_long(x + push, x), x))


@mistake("begins at the smallest start in all rows: each row has its own")
def steer_from(model, tokens, layer, push, start):
    first = torch.full_like(start, int(start.min()))
    return put_in(model, tokens, layer, lambda x: torch.where(from_start(x, first), as_long(x + push, x), x))


@mistake("pushes before the layer (resid_pre), not after it")
def steer_from(model, tokens, layer, push, start):
    def change(x, hook):
        return torch.where(from_start(x, start), as_long(x + push, x), x)

    return run(model, tokens, (f"blocks.{layer}.hook_resid_pre", change))


@mistake("brings the push to the stream's length: the sum is to be as long as the stream was")
def steer_from(model, tokens, layer, push, start):
    return put_in(model, tokens, layer, lambda x: x + as_long(push.expand_as(x), x) * from_start(x, start))


@mistake("takes one length for a whole row, or for all: each position has its own")
def steer_from(model, tokens, layer, push, start):
    def change(x):
        moved = x + push * from_start(x, start)
        return moved * x.norm() / moved.norm()

    return put_in(model, tokens, layer, change)


@mistake("shortens what has become longer, and leaves what has become shorter: both are brought to the old length")
def steer_from(model, tokens, layer, push, start):
    def change(x):
        moved = x + push * from_start(x, start)
        return moved * (x.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True)).clamp(max=1)

    return put_in(model, tokens, layer, change)


@right("in place, row by row")
def steer_from(model, tokens, layer, push, start):
    def change(x, hook):
        x = x.clone()
        for row, first in enumerate(start):
            lengths = x[row, first:].norm(dim=-1, keepdim=True)
            x[row, first:] += push
            x[row, first:] *= lengths / x[row, first:].norm(dim=-1, keepdim=True)
        return x

    return run(model, tokens, (after(layer), change))


@right("the push is 0 before the start, and all lengths are put right")
def steer_from(model, tokens, layer, push, start):
    def change(x):
        moved = x + from_start(x, start) * push
        return torch.nn.functional.normalize(moved, dim=-1) * x.norm(dim=-1, keepdim=True)

    return put_in(model, tokens, layer, change)


def scaled(vector, rows):
    return rows / rows.norm(dim=1, keepdim=True) * vector.norm()


@mistake("pushes along the others as they are: a longer push moves more, so bring them to the vector's length")
def as_strong(effect, vector, others):
    return sum(abs(effect(push)) >= abs(effect(vector)) for push in others)


@mistake("counts those that move it as far to the same side alone: chance has two sides")
def as_strong(effect, vector, others):
    mine = effect(vector)
    sign = 1 if mine > 0 else -1
    return sum(sign * effect(push) >= abs(mine) for push in scaled(vector, others))


@mistake("counts what raises the measure by more: a push that lowers it as far is as strong")
def as_strong(effect, vector, others):
    return sum(effect(push) >= effect(vector) for push in scaled(vector, others))


@mistake("brings the others to length 1: they are to be as long as the vector")
def as_strong(effect, vector, others):
    return sum(abs(effect(push / push.norm())) >= abs(effect(vector)) for push in others)


@mistake("pushes both ways along each direction: one push each")
def as_strong(effect, vector, others):
    return sum(max(abs(effect(push)), abs(effect(-push))) >= abs(effect(vector)) for push in scaled(vector, others))


@mistake("counts those that move it further alone: as far counts, too")
def as_strong(effect, vector, others):
    return sum(abs(effect(push)) > abs(effect(vector)) for push in scaled(vector, others))


@mistake("counts the weaker ones")
def as_strong(effect, vector, others):
    return sum(abs(effect(push)) < abs(effect(vector)) for push in scaled(vector, others))


@mistake("counts the vector itself as well: how many of the others is asked for")
def as_strong(effect, vector, others):
    return 1 + sum(abs(effect(push)) >= abs(effect(vector)) for push in scaled(vector, others))


@mistake("brings all to length 1, the vector too: an effect is not in proportion to the length")
def as_strong(effect, vector, others):
    return sum(abs(effect(push / push.norm())) >= abs(effect(vector / vector.norm())) for push in others)


@mistake("scales the effect with the length, not the push: an effect is not in proportion to the length")
def as_strong(effect, vector, others):
    return sum(abs(effect(push)) * float(vector.norm() / push.norm()) >= abs(effect(vector)) for push in others)


@right("a tensor of effects")
def as_strong(effect, vector, others):
    moved = torch.tensor([effect(row * (vector.norm() / row.norm())) for row in others], dtype=torch.float64)
    return int((moved.abs() >= abs(effect(vector))).sum())
