"""Wrong answers to 3.4 Patching, and what each of them is."""

import functools
import itertools

import torch

from concrete_steps.checking.mistakes import mistake, right

# --- 1. The measure


@mistake("looks at the first position: the answer comes after the last")
def logit_diff(logits, right, wrong):
    rows = torch.arange(len(logits))
    return logits[rows, 0, right] - logits[rows, 0, wrong]


@mistake("subtracts the right token's logit from the wrong one's: it is the other way round")
def logit_diff(logits, right, wrong):
    rows = torch.arange(len(logits))
    return logits[rows, -1, wrong] - logits[rows, -1, right]


@mistake("takes the mean over pairs: each pair has a difference of its own")
def logit_diff(logits, right, wrong):
    rows = torch.arange(len(logits))
    return (logits[rows, -1, right] - logits[rows, -1, wrong]).mean()


@mistake("subtracts probabilities: logits are what the parts of a model add up to")
def logit_diff(logits, right, wrong):
    rows, last = torch.arange(len(logits)), logits[:, -1].softmax(-1)
    return last[rows, right] - last[rows, wrong]


@mistake("crosses all pairs with all answers: pair i has answer i")
def logit_diff(logits, right, wrong):
    return logits[:, -1][:, right] - logits[:, -1][:, wrong]


@mistake("keeps an axis of size 1 from gather")
def logit_diff(logits, right, wrong):
    last = logits[:, -1]
    return last.gather(-1, right[:, None]) - last.gather(-1, wrong[:, None])


@right("log-probabilities, whose normaliser cancels")
def logit_diff(logits, right, wrong):
    last, rows = logits[:, -1].log_softmax(-1), range(len(logits))
    return torch.stack([last[row, right[row]] - last[row, wrong[row]] for row in rows])


@right("advanced indexing")
def logit_diff(logits, right, wrong):
    rows = torch.arange(logits.shape[0])
    return logits[rows, -1, right] - logits[rows, -1, wrong]


@mistake("a mean of ratios, one for each pair: take the means over pairs first, then one ratio")
def recovered(patched, clean, corrupted):
    return ((patched - corrupted) / (clean - corrupted)).mean(-1)


@mistake("divides by the clean value: the scale begins at the corrupted run, so divide by the gap between the two")
def recovered(patched, clean, corrupted):
    return (patched.mean(-1) - corrupted.mean()) / clean.mean()


@mistake("patched over clean: the scale begins at the corrupted run, which must be subtracted above and below")
def recovered(patched, clean, corrupted):
    return patched.mean(-1) / clean.mean()


@mistake("has 1 where it should have 0: it is the share that is lost, measured from the clean run")
def recovered(patched, clean, corrupted):
    return (clean.mean() - patched.mean(-1)) / (clean.mean() - corrupted.mean())


@mistake("one number for everything: take the mean over pairs, the last axis, and keep the others")
def recovered(patched, clean, corrupted):
    return (patched.mean() - corrupted.mean()) / (clean.mean() - corrupted.mean())


@mistake("keeps the pairs: take the mean over them")
def recovered(patched, clean, corrupted):
    return (patched - corrupted.mean()) / (clean.mean() - corrupted.mean())


@mistake("takes the absolute value of the gap: with the prompts exchanged the gap is negative, and so it must stay")
def recovered(patched, clean, corrupted):
    return (patched.mean(-1) - corrupted.mean()) / (clean.mean() - corrupted.mean()).abs()


@mistake("cuts off at 0 and 1: a patch can make things worse than corrupted, or better than clean")
def recovered(patched, clean, corrupted):
    return ((patched.mean(-1) - corrupted.mean()) / (clean.mean() - corrupted.mean())).clamp(0, 1)


@right("sums, whose counts cancel")
def recovered(patched, clean, corrupted):
    return (patched - corrupted).sum(dim=-1) / (clean - corrupted).sum()


# --- Patching by hand


def _name(part, layer):
    return f"blocks.{layer}.hook_{part}" if part.startswith("resid") else f"blocks.{layer}.attn.hook_{part}"


def _put(x, hook, index, kept):
    x = x.clone()
    x[index] = kept[index]
    return x


def _hook(source, name, index):
    return name, functools.partial(_put, index=index, kept=source[name])


@torch.no_grad()
def _run(model, tokens, hooks, metric):
    return metric(model.run_with_hooks(tokens, fwd_hooks=hooks))


ALL = slice(None)

# --- 2. The residual stream


def _stream(model, tokens, source, layers, positions, metric, index=lambda at: (ALL, at), part="resid_pre"):
    values = []
    for layer, at in itertools.product(layers, positions):
        name = _name(part, layer)
        hook = (name, functools.partial(_put, index=index(at), kept=source[_name("resid_pre", layer)]))
        values.append(_run(model, tokens, [hook], metric))
    return torch.stack(values).reshape(len(layers), len(positions), -1)


@mistake("replaces the stream at every position: only the one in hand")
def patch_residual(model, tokens, source, layers, positions, metric):
    return _stream(model, tokens, source, layers, positions, metric, lambda at: (ALL, ALL))


@mistake("indexes the pairs by the position: the axes of resid_pre are [pair pos d_model]")
def patch_residual(model, tokens, source, layers, positions, metric):
    return _stream(model, tokens, source, layers, positions, metric, lambda at: (at % len(tokens),))


@mistake("replaces everything from the position on")
def patch_residual(model, tokens, source, layers, positions, metric):
    return _stream(model, tokens, source, layers, positions, metric, lambda at: (ALL, slice(at, None)))


@mistake("writes to resid_post, one layer late")
def patch_residual(model, tokens, source, layers, positions, metric):
    return _stream(model, tokens, source, layers, positions, metric, part="resid_post")


@mistake("numbers layers and positions from 0 instead of taking those of the lists")
def patch_residual(model, tokens, source, layers, positions, metric):
    return _stream(model, tokens, source, range(len(layers)), range(len(positions)), metric)


@mistake("has positions first: the result is [layer position pair]")
def patch_residual(model, tokens, source, layers, positions, metric):
    return _stream(model, tokens, source, layers, positions, metric).transpose(0, 1).contiguous()


@mistake("takes the mean over pairs: the result has a value for each pair")
def patch_residual(model, tokens, source, layers, positions, metric):
    return _stream(model, tokens, source, layers, positions, metric).mean(-1)


@mistake("hooks whose variables are looked up after the loop: all of them patch the last place, in one run")
def patch_residual(model, tokens, source, layers, positions, metric):
    places = list(itertools.product(layers, positions))
    layer, at = places[-1]
    value = _run(model, tokens, [_hook(source, _name("resid_pre", layer), (ALL, at))], metric)
    return torch.stack([value] * len(places)).reshape(len(layers), len(positions), -1)


@mistake("takes away hooks of others: reset_hooks() removes all")
def patch_residual(model, tokens, source, layers, positions, metric):
    values = _stream(model, tokens, source, layers, positions, metric)
    model.reset_hooks()
    return values


@right("add_hook, and the hook's own handle taken away")
@torch.no_grad()
def patch_residual(model, tokens, source, layers, positions, metric):
    values = torch.zeros(len(layers), len(positions), len(tokens))
    for (i, layer), (j, at) in itertools.product(enumerate(layers), enumerate(positions)):
        name = _name("resid_pre", layer)
        point = model.hook_dict[name]
        point.add_hook(_hook(source, name, (ALL, at))[1])
        mine = point.fwd_hooks[-1]
        try:
            values[i, j] = metric(model(tokens))
        finally:
            mine.hook.remove()
            point.fwd_hooks.remove(mine)
    return values


@right("model.hooks, and a mask in place of an index")
@torch.no_grad()
def patch_residual(model, tokens, source, layers, positions, metric):
    rows = []
    for layer in layers:
        name, row = _name("resid_pre", layer), []
        for at in positions:
            here = (torch.arange(tokens.shape[1]) == at)[None, :, None]
            with model.hooks(fwd_hooks=[(name, lambda x, hook, here=here, name=name: x.where(~here, source[name]))]):
                row.append(metric(model(tokens)))
        rows.append(torch.stack(row))
    return torch.stack(rows)


@right("a pre-hook of PyTorch on the block")
@torch.no_grad()
def patch_residual(model, tokens, source, layers, positions, metric):
    result = torch.zeros(len(layers), len(positions), len(tokens))
    for i, layer in enumerate(layers):
        for j, at in enumerate(positions):
            kept = source[_name("resid_pre", layer)][:, at]

            def swap(module, args, kwargs, kept=kept, at=at):
                x = (args[0] if args else kwargs["hidden_states"]).clone()
                x[:, at] = kept
                return ((x, *args[1:]), kwargs) if args else ((), {**kwargs, "hidden_states": x})

            handle = model.blocks[layer].register_forward_pre_hook(swap, with_kwargs=True)
            try:
                result[i, j] = metric(model(tokens))
            finally:
                handle.remove()
    return result


# --- 3. Heads and their parts


def _shared_by(model, part):
    kv = model.cfg.n_key_value_heads if part in ("k", "v") else None
    return model.cfg.n_heads // kv if kv else 1


def _at(positions):
    return ALL if positions is None else positions


def _heads(model, tokens, source, heads, part, metric, positions=None, of=lambda head: head):
    hooks = [_hook(source, _name(part, layer), (ALL, _at(positions), of(head))) for layer, head in heads]
    return _run(model, tokens, hooks, metric)


@mistake("patches the last position only: z matters wherever a later layer reads")
def patch_heads(model, tokens, source, heads, metric, positions=None):
    return _heads(model, tokens, source, heads, "z", metric, [-1] if positions is None else positions)


@mistake("does not use positions: where some are given, only these are to be patched")
def patch_heads(model, tokens, source, heads, metric, positions=None):
    return _heads(model, tokens, source, heads, "z", metric)


@mistake("patches only the first head of the list")
def patch_heads(model, tokens, source, heads, metric, positions=None):
    return _heads(model, tokens, source, heads[:1], "z", metric, positions)


@mistake("patches only the last head of each layer: a dictionary from layer to head holds one")
def patch_heads(model, tokens, source, heads, metric, positions=None):
    return _heads(model, tokens, source, list(dict(heads).items()), "z", metric, positions)


@mistake("hooks whose variables are looked up after the loop: all of them put the last head there")
def patch_heads(model, tokens, source, heads, metric, positions=None):
    if not heads:
        return _run(model, tokens, [], metric)
    name, head = _name("z", heads[-1][0]), heads[-1][1]
    hooks = [(_name("z", layer), _hook(source, name, (ALL, _at(positions), head))[1]) for layer, _ in heads]
    return _run(model, tokens, hooks, metric)


@mistake("patches all heads of the layers, not only those of the list")
def patch_heads(model, tokens, source, heads, metric, positions=None):
    everything = [(layer, head) for layer, _ in heads for head in range(model.cfg.n_heads)]
    return _heads(model, tokens, source, everything, "z", metric, positions)


@mistake("patches each head in a run of its own and adds the changes up: all of them in one run")
def patch_heads(model, tokens, source, heads, metric, positions=None):
    whole = _run(model, tokens, [], metric)
    changes = [_heads(model, tokens, source, [head], "z", metric, positions) - whole for head in heads]
    return whole + sum(changes, torch.zeros_like(whole))


@mistake("sets the heads to 0: that is ablation; patching puts the source's z there")
def patch_heads(model, tokens, source, heads, metric, positions=None):
    nothing = {name: torch.zeros_like(kept) for name, kept in source.items()}
    return _heads(model, tokens, nothing, heads, "z", metric, positions)


@mistake("gives the mean over pairs: each pair has a value of its own")
def patch_heads(model, tokens, source, heads, metric, positions=None):
    return _heads(model, tokens, source, heads, "z", metric, positions).mean()


@mistake("takes away hooks of others: reset_hooks() removes all")
@torch.no_grad()
def patch_heads(model, tokens, source, heads, metric, positions=None):
    """As in older code: all hooks away, one's own in, the run, all away again."""
    model.reset_hooks()
    for layer, head in heads:
        model.add_hook(*_hook(source, _name("z", layer), (ALL, _at(positions), head)))
    values = metric(model(tokens))
    model.reset_hooks()
    return values


@right("one hook for each layer, found by the layer")
@torch.no_grad()
def patch_heads(model, tokens, source, heads, metric, positions=None):
    positions = list(range(tokens.shape[1])) if positions is None else positions
    hooks = []
    for layer in {layer for layer, _ in heads}:
        mask = torch.zeros(1, tokens.shape[1], model.cfg.n_heads, 1)
        for its, head in heads:
            if its == layer:
                mask[:, positions, head] = 1
        name = _name("z", layer)
        hooks.append((name, lambda z, hook, m=mask, s=source[name]: z * (1 - m) + s * m))
    with model.hooks(fwd_hooks=hooks):
        return metric(model(tokens))


@right("an object that is a hook")
def patch_heads(model, tokens, source, heads, metric, positions=None):
    class Swap:
        def __call__(self, z, hook):
            z = z.clone()
            for layer, head in heads:
                if layer == hook.layer():
                    z[:, _at(positions), head] = source[_name("z", layer)][:, _at(positions), head]
            return z

    hooks = [(_name("z", layer), Swap()) for layer in sorted({layer for layer, _ in heads})]
    return _run(model, tokens, hooks, metric)


@mistake("takes query heads for heads of keys and values: query head h reads h // (query heads per key head)")
def patch_head_part(model, tokens, source, heads, part, metric):
    most = source[_name(part, 0)].shape[2]
    return _heads(model, tokens, source, heads, part, metric, of=lambda head: min(head, most - 1))


@mistake("numbers the shared heads in turn (h % n): neighbours share, so it is h // (query heads per key head)")
def patch_head_part(model, tokens, source, heads, part, metric):
    n = source[_name(part, 0)].shape[2]
    return _heads(model, tokens, source, heads, part, metric, of=lambda head: head % n)


@mistake("divides by 3, as in SmolLM2: other models have other numbers, n_heads and n_key_value_heads")
def patch_head_part(model, tokens, source, heads, part, metric):
    by = 3 if part in ("k", "v") else 1
    return _heads(model, tokens, source, heads, part, metric, of=lambda head: head // by)


@mistake("divides the head's number for q and z, too: only keys and values are shared")
def patch_head_part(model, tokens, source, heads, part, metric):
    by = _shared_by(model, "k")
    return _heads(model, tokens, source, heads, part, metric, of=lambda head: head // by)


@mistake("patches z, whichever part was asked for")
def patch_head_part(model, tokens, source, heads, part, metric):
    return _heads(model, tokens, {**source, **_own(model, tokens, "z")}, heads, "z", metric)


@mistake("patches only the first head of the list")
def patch_head_part(model, tokens, source, heads, part, metric):
    by = _shared_by(model, part)
    return _heads(model, tokens, source, heads[:1], part, metric, of=lambda head: head // by)


@mistake("patches the last position only: keys and values matter where they stand")
def patch_head_part(model, tokens, source, heads, part, metric):
    by = _shared_by(model, part)
    return _heads(model, tokens, source, heads, part, metric, [-1], of=lambda head: head // by)


def _own(model, tokens, part):
    names = [_name(part, layer) for layer in range(model.cfg.n_layers)]
    kept = {}
    hooks = [(name, functools.partial(_watch, kept=kept, name=name)) for name in names]
    with torch.no_grad():
        model.run_with_hooks(tokens, fwd_hooks=hooks)
    return kept


def _watch(x, hook, kept, name):
    kept[name] = x.detach().clone()


@mistake("takes away hooks of others: reset_hooks() removes all")
def patch_head_part(model, tokens, source, heads, part, metric):
    by = _shared_by(model, part)
    values = _heads(model, tokens, source, heads, part, metric, of=lambda head: head // by)
    model.reset_hooks()
    return values


@right("the number of shared heads from the source itself, and torch.where")
@torch.no_grad()
def patch_head_part(model, tokens, source, heads, part, metric):
    hooks = []
    for layer, head in heads:
        kept = source[_name(part, layer)]
        there = head * kept.shape[2] // model.cfg.n_heads
        mask = (torch.arange(kept.shape[2]) == there)[:, None]
        hooks.append((_name(part, layer), lambda x, hook, mask=mask, kept=kept: torch.where(mask, kept, x)))
    return metric(model.run_with_hooks(tokens, fwd_hooks=hooks))


def _patterns(model, tokens, source, heads, metric, index):
    hooks = [_hook(source, _name("pattern", layer), index(head)) for layer, head in heads]
    return _run(model, tokens, hooks, metric)


@mistake("takes the third axis for the heads, as in z: the axes of a pattern are [pair head query key]")
def patch_pattern(model, tokens, source, heads, metric):
    return _patterns(model, tokens, source, heads, metric, lambda head: (ALL, ALL, head))


@mistake("patches the last query only")
def patch_pattern(model, tokens, source, heads, metric):
    return _patterns(model, tokens, source, heads, metric, lambda head: (ALL, head, -1))


@mistake("patches the patterns of all heads of the layer")
def patch_pattern(model, tokens, source, heads, metric):
    return _patterns(model, tokens, source, heads, metric, lambda head: (ALL,))


@mistake("patches only the first head of the list")
def patch_pattern(model, tokens, source, heads, metric):
    return _patterns(model, tokens, source, heads[:1], metric, lambda head: (ALL, head))


@mistake("divides the head's number as for keys: a pattern belongs to a query head")
def patch_pattern(model, tokens, source, heads, metric):
    by = _shared_by(model, "k")
    return _patterns(model, tokens, source, heads, metric, lambda head: (ALL, head // by))


@mistake("takes away hooks of others: reset_hooks() removes all")
def patch_pattern(model, tokens, source, heads, metric):
    model.reset_hooks()
    return _patterns(model, tokens, source, heads, metric, lambda head: (ALL, head))


@right("index_copy, a hook for each layer")
@torch.no_grad()
def patch_pattern(model, tokens, source, heads, metric):
    hooks = []
    for layer in {layer for layer, _ in heads}:
        here = torch.tensor(sorted({head for its, head in heads if its == layer}))
        kept = source[_name("pattern", layer)]
        hooks.append((_name("pattern", layer), lambda x, hook, h=here, k=kept: x.index_copy(1, h, k[:, h])))
    with model.hooks(fwd_hooks=hooks):
        return metric(model(tokens))


@mistake("a head that does nothing cannot destroy anything: noising shows that the difference runs through it")
def answer_needed():
    return "a"


@mistake("with a stand-in, noising the one head would leave the difference standing")
def answer_needed():
    return "c"


@mistake("it was one run, patched once: two heads cannot be told apart by what they share")
def answer_shared():
    return "a"


@mistake("the hook point was right: it holds 3 heads, and both query heads read the same one of them")
def answer_shared():
    return "b"


# --- 4. All heads, quickly


def _block(model, layer, resid):
    angles = {}
    if hasattr(model, "rotary_emb"):
        angles = {"position_embeddings": model.rotary_emb(resid, torch.arange(resid.shape[1])[None])}
    out = model.blocks[layer](resid, **angles)
    return out[0] if isinstance(out, tuple) else out


@torch.no_grad()
def _resume(model, resid, layer, fwd_hooks, last=None, norm=True):
    with model.hooks(fwd_hooks=list(fwd_hooks)):
        for later in range(layer, model.cfg.n_layers if last is None else last):
            resid = _block(model, later, resid)
        return model.unembed(model.ln_final(resid[:, -1:]) if norm else resid[:, -1:])


@mistake("begins one block late: resid enters the block of this layer")
def resume_from_layer(model, resid, layer, fwd_hooks):
    return _resume(model, resid, layer + 1, fwd_hooks)


@mistake("leaves out the last block")
def resume_from_layer(model, resid, layer, fwd_hooks):
    return _resume(model, resid, layer, fwd_hooks, last=model.cfg.n_layers - 1)


@mistake("leaves out the final norm, ln_final")
def resume_from_layer(model, resid, layer, fwd_hooks):
    return _resume(model, resid, layer, fwd_hooks, norm=False)


@mistake("takes the hooks away before the unembedding, where one may stand, too")
@torch.no_grad()
def resume_from_layer(model, resid, layer, fwd_hooks):
    with model.hooks(fwd_hooks=list(fwd_hooks)):
        for later in range(layer, model.cfg.n_layers):
            resid = _block(model, later, resid)
    return model.unembed(model.ln_final(resid[:, -1:]))


@mistake("does not use the hooks")
def resume_from_layer(model, resid, layer, fwd_hooks):
    return _resume(model, resid, layer, [])


@mistake("before it run, too")
@torch.no_grad()
def resume_from_layer(model, resid, layer, fwd_hooks):
    """By start_at_layer, which runs every block."""
    return model.run_with_hooks(resid, start_at_layer=layer, fwd_hooks=fwd_hooks)[:, -1:]


@mistake("gives the first position's logits: the last is asked for")
@torch.no_grad()
def resume_from_layer(model, resid, layer, fwd_hooks):
    return model.run_with_hooks(resid, start_at_layer=layer, fwd_hooks=fwd_hooks)[:, :1]


@mistake("gives the logits of all positions: only the last is asked for")
@torch.no_grad()
def resume_from_layer(model, resid, layer, fwd_hooks):
    return model.run_with_hooks(resid, start_at_layer=layer, fwd_hooks=fwd_hooks)


@mistake("hooks stay behind in the model")
@torch.no_grad()
def resume_from_layer(model, resid, layer, fwd_hooks):
    for name, hook in fwd_hooks:
        model.add_hook(name, hook)
    return _resume(model, resid, layer, [])


@mistake("takes away hooks of others: reset_hooks() removes all")
@torch.no_grad()
def resume_from_layer(model, resid, layer, fwd_hooks):
    for name, hook in fwd_hooks:
        model.add_hook(name, hook)
    logits = _resume(model, resid, layer, [])
    model.reset_hooks()
    return logits


@right("a slice of the blocks, hooks added and taken away")
@torch.no_grad()
def resume_from_layer(model, resid, layer, fwd_hooks):
    x = resid
    angles = {}
    if hasattr(model, "rotary_emb"):
        angles["position_embeddings"] = model.rotary_emb(x, torch.arange(x.shape[1]).unsqueeze(0))
    with model.hooks(fwd_hooks=fwd_hooks):
        for block in model.blocks[layer:]:
            x = block(x, **angles)
            x = x if isinstance(x, torch.Tensor) else x[0]
        return model.unembed(model.ln_final(x))[:, -1:]


def _batched(model, tokens, source, metric, repeat=None, head_of=lambda head: head, rows_of=None, resumed=True):
    n_heads, n = model.cfg.n_heads, len(tokens)
    repeat = repeat or (lambda x: x.repeat(n_heads, 1, 1))
    rows_of = rows_of or (lambda head: slice(head * n, (head + 1) * n))
    streams, values = _own(model, tokens, "resid_pre"), []
    for layer in range(model.cfg.n_layers):
        name = _name("z", layer)

        def swap(z, hook, kept=source[name]):
            z = z.clone()
            for head in range(n_heads):
                z[rows_of(head), :, head_of(head)] = kept[:, :, head_of(head)]
            return z

        logits = _resume(model, repeat(streams[_name("resid_pre", layer)]), layer, [(name, swap)])
        values.append(torch.stack([metric(logits[rows_of(head)]) for head in range(n_heads)]))
    return torch.stack(values)


@mistake("patches head 0 in every copy: in copy h it is head h")
def batched_head_patching(model, tokens, source, metric):
    return _batched(model, tokens, source, metric, head_of=lambda head: 0)


@mistake("patches all heads in every copy: one head in each")
def batched_head_patching(model, tokens, source, metric):
    return _batched(model, tokens, source, metric, head_of=lambda head: ALL)


@mistake("copies pair by pair, but reads head by head: repeat_interleave where repeat is meant")
def batched_head_patching(model, tokens, source, metric):
    return _batched(model, tokens, source, metric, lambda x: x.repeat_interleave(model.cfg.n_heads, 0))


@mistake("patches the last position only: z at all positions")
def batched_head_patching(model, tokens, source, metric):
    own = _own(model, tokens, "z")
    at_end = {name: torch.cat([own[name][:, :-1], source[name][:, -1:]], 1) for name in own}
    return _batched(model, tokens, at_end, metric)


@mistake("takes the mean over pairs: the result is [layer head pair]")
def batched_head_patching(model, tokens, source, metric):
    return _batched(model, tokens, source, metric).mean(-1)


@mistake("resume from the patched layer, with all its heads in one batch")
def batched_head_patching(model, tokens, source, metric):
    """A whole run for each head: right, and slow."""
    layers, heads = range(model.cfg.n_layers), range(model.cfg.n_heads)
    rows = [torch.stack([_heads(model, tokens, source, [(ly, h)], "z", metric) for h in heads]) for ly in layers]
    return torch.stack(rows)


@mistake("with all its heads in one batch")
def batched_head_patching(model, tokens, source, metric):
    """Resumed, but a run for each head."""
    streams, result = _own(model, tokens, "resid_pre"), []
    for layer in range(model.cfg.n_layers):
        name = _name("z", layer)
        hooks = [_hook(source, name, (ALL, ALL, head)) for head in range(model.cfg.n_heads)]
        resid = streams[_name("resid_pre", layer)]
        result.append(torch.stack([metric(_resume(model, resid, layer, [hook])) for hook in hooks]))
    return torch.stack(result)


@mistake("gives the change against the plain run: the metric itself is asked for")
def batched_head_patching(model, tokens, source, metric):
    return _batched(model, tokens, source, metric) - _run(model, tokens, [], metric)


@mistake("takes away hooks of others: reset_hooks() removes all")
def batched_head_patching(model, tokens, source, metric):
    values = _batched(model, tokens, source, metric)
    model.reset_hooks()
    return values


@right("copies pair by pair all the way")
@torch.no_grad()
def batched_head_patching(model, tokens, source, metric):
    heads = model.cfg.n_heads
    return _batched(
        model,
        tokens,
        source,
        metric,
        lambda x: x.repeat_interleave(heads, 0),
        rows_of=lambda head: slice(head, None, heads),
    )


# --- 6. The gradient


def _linear(model, tokens, source, metric, move=None):
    names, own = [_name("z", layer) for layer in range(model.cfg.n_layers)], {}
    hooks = [(name, functools.partial(own_z, own=own, name=name)) for name in names]
    value = metric(model.run_with_hooks(tokens, fwd_hooks=hooks))
    gradients = torch.autograd.grad(value.sum(), [own[name] for name in names])
    move = move or (lambda there, here: there - here)
    terms = [move(source[n], own[n].detach()) * g for n, g in zip(names, gradients, strict=True)]
    return torch.stack(terms)  # [layer pair pos head d_head]


def own_z(z, hook, own, name):
    own[name] = z
    return z


@mistake("leaves out the own value: the step is from the own z to the source's")
def attribution_patching(model, tokens, source, metric):
    return _linear(model, tokens, source, metric, lambda there, here: there).sum((2, 4)).transpose(1, 2)


@mistake("the own z minus the source's: the step goes the other way, so the sign is wrong")
def attribution_patching(model, tokens, source, metric):
    return -_linear(model, tokens, source, metric).sum((2, 4)).transpose(1, 2)


@mistake("gradient times own value: that estimates removing the head, not putting the source's z there")
def attribution_patching(model, tokens, source, metric):
    return _linear(model, tokens, source, metric, lambda there, here: here).sum((2, 4)).transpose(1, 2)


@mistake("takes the last position only: z moves at all positions")
def attribution_patching(model, tokens, source, metric):
    return _linear(model, tokens, source, metric)[:, :, -1].sum(-1).transpose(1, 2)


@mistake("takes the mean over positions: the contributions add up")
def attribution_patching(model, tokens, source, metric):
    return _linear(model, tokens, source, metric).sum(-1).mean(2).transpose(1, 2)


@mistake("has pairs before heads: the result is [layer head pair]")
def attribution_patching(model, tokens, source, metric):
    return _linear(model, tokens, source, metric).sum((2, 4))


@mistake("takes the gradient of the mean over pairs: each is divided by their number; differentiate the sum")
def attribution_patching(model, tokens, source, metric):
    return _linear(model, tokens, source, metric).sum((2, 4)).transpose(1, 2) / len(tokens)


@mistake("adds the absolute values up: contributions of both signs cancel")
def attribution_patching(model, tokens, source, metric):
    return _linear(model, tokens, source, metric).abs().sum((2, 4)).transpose(1, 2)


@mistake("the hook must return the very tensor that it kept: the run goes on with another one")
def attribution_patching(model, tokens, source, metric):
    names, own = [_name("z", layer) for layer in range(model.cfg.n_layers)], {}
    hooks = [(name, functools.partial(_kept_only, own=own, name=name)) for name in names]
    value = metric(model.run_with_hooks(tokens, fwd_hooks=hooks))
    gradients = torch.autograd.grad(value.sum(), [own[name] for name in names])
    terms = [((source[n] - own[n].detach()) * g).sum((1, 3)) for n, g in zip(names, gradients, strict=True)]
    return torch.stack(terms).transpose(1, 2)


def _kept_only(z, hook, own, name):
    own[name] = z


@mistake("takes away hooks of others: reset_hooks() removes all")
def attribution_patching(model, tokens, source, metric):
    estimates = _linear(model, tokens, source, metric).sum((2, 4)).transpose(1, 2)
    model.reset_hooks()
    return estimates


@mistake("fills .grad of the weights, as backward() does; torch.autograd.grad gives gradients and leaves nothing")
def attribution_patching(model, tokens, source, metric):
    names, own = [_name("z", layer) for layer in range(model.cfg.n_layers)], {}

    def watch(z, hook, name):
        z.retain_grad()
        own[name] = z
        return z

    hooks = [(name, functools.partial(watch, name=name)) for name in names]
    metric(model.run_with_hooks(tokens, fwd_hooks=hooks)).sum().backward()
    terms = [((source[name] - own[name].detach()) * own[name].grad).sum((1, 3)) for name in names]
    return torch.stack(terms).transpose(1, 2)


@right("z made a leaf of zeros that is added, and torch.func-like gradients by layer")
def attribution_patching(model, tokens, source, metric):
    own = _own(model, tokens, "z")
    zero = {name: torch.zeros_like(z).requires_grad_() for name, z in own.items()}
    hooks = [(name, lambda z, hook, name=name: z + zero[name]) for name in own]
    with torch.enable_grad(), model.hooks(fwd_hooks=hooks):
        value = metric(model(tokens)).sum()
    gradients = dict(zip(own, torch.autograd.grad(value, list(zero.values())), strict=True))
    return torch.stack([torch.einsum("bphd,bphd->hb", source[n] - own[n], gradients[n]) for n in own])


def _largest(values, count):
    return [divmod(i, values.shape[1]) for i in values.flatten().topk(count).indices.tolist()]


def _r(x, y):
    return torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1].item()


def _shared(exact, estimate, count):
    return len(set(_largest(exact, count)) & set(_largest(estimate, count)))


@mistake("r is a cosine: Pearson's r subtracts the means first")
def compare_with_exact(exact, estimate, count):
    cosine = torch.cosine_similarity(exact.flatten(), estimate.flatten(), dim=0).item()
    return cosine, _shared(exact, estimate, count), _largest((exact - estimate).abs(), count)


@mistake("r is squared")
def compare_with_exact(exact, estimate, count):
    return _r(exact, estimate) ** 2, _shared(exact, estimate, count), _largest((exact - estimate).abs(), count)


@mistake("compares ranks place by place: count the heads that are in both lists, in any order")
def compare_with_exact(exact, estimate, count):
    pairs = zip(_largest(exact, count), _largest(estimate, count), strict=True)
    same = sum(a == b for a, b in pairs)
    return _r(exact, estimate), same, _largest((exact - estimate).abs(), count)


@mistake("counts heads that harm among the best: the largest effects with their sign, only the error without it")
def compare_with_exact(exact, estimate, count):
    both = _shared(exact.abs(), estimate.abs(), count)
    return _r(exact, estimate), both, _largest((exact - estimate).abs(), count)


@mistake("takes the absolute value before the difference: a sign that is misjudged counts, too")
def compare_with_exact(exact, estimate, count):
    worst = _largest((exact.abs() - estimate.abs()).abs(), count)
    return _r(exact, estimate), _shared(exact, estimate, count), worst


@mistake("misjudged without the absolute value: only heads that are underestimated")
def compare_with_exact(exact, estimate, count):
    return _r(exact, estimate), _shared(exact, estimate, count), _largest(exact - estimate, count)


@mistake("has the right misjudged heads, but the smallest error comes first")
def compare_with_exact(exact, estimate, count):
    return _r(exact, estimate), _shared(exact, estimate, count), _largest((exact - estimate).abs(), count)[::-1]


@mistake("divides by the number of layers: a place in the flat list is layer * heads + head")
def compare_with_exact(exact, estimate, count):
    flat = (exact - estimate).abs().flatten().topk(count).indices.tolist()
    return _r(exact, estimate), _shared(exact, estimate, count), [divmod(i, exact.shape[0]) for i in flat]


@mistake("gives the share of the best heads that are found: their number is asked for")
def compare_with_exact(exact, estimate, count):
    return _r(exact, estimate), _shared(exact, estimate, count) / count, _largest((exact - estimate).abs(), count)


@right("scipy, and sorting")
def compare_with_exact(exact, estimate, count):
    from scipy import stats

    heads = list(itertools.product(*map(range, exact.shape)))
    best = [set(sorted(heads, key=lambda head: -x[head])[:count]) for x in (exact, estimate)]
    worst = sorted(heads, key=lambda head: -abs(exact[head] - estimate[head]))[:count]
    return float(stats.pearsonr(exact.flatten().numpy(), estimate.flatten().numpy())[0]), len(best[0] & best[1]), worst


@mistake("a slope says what a small step does: in the wired model the head with slope 0 had an effect of 1")
def answer_slope():
    return "b"


@mistake("a correlation over all heads hides single ones: the best head can be missed at any r below 1")
def answer_slope():
    return "c"


# --- 7. One path


def _mixed(model, tokens, source, sender):
    own = _own(model, tokens, "z")
    name = _name("z", sender[0])
    own[name][:, :, sender[1]] = source[name][:, :, sender[1]]
    return own


def _replaced(x, hook, kept):
    return kept


def _seen(model, tokens, z, part):
    hooks = [(name, functools.partial(_replaced, kept=kept)) for name, kept in z.items()]
    with model.hooks(fwd_hooks=hooks):
        return _own(model, tokens, part)


def _through(model, tokens, there, receivers, part, metric):
    by = _shared_by(model, part)
    return _heads(model, tokens, there, receivers, part, metric, of=lambda head: head // by)


@mistake("lets the heads between change: all other heads are frozen, so that only the direct path counts")
def path_patch(model, tokens, source, sender, receivers, part, metric):
    mixed = _mixed(model, tokens, source, sender)
    name = _name("z", sender[0])
    there = _seen(model, tokens, {name: mixed[name]}, part)
    return _through(model, tokens, there, receivers, part, metric)


@mistake("patches the sender by every path: its effect is to pass through the receivers alone")
def path_patch(model, tokens, source, sender, receivers, part, metric):
    return _heads(model, tokens, source, [sender], "z", metric)


@mistake("freezes the other heads at the source's z: they stay as they are in the run on tokens")
def path_patch(model, tokens, source, sender, receivers, part, metric):
    there = _seen(model, tokens, source, part)
    return _through(model, tokens, there, receivers, part, metric)


@mistake("patches z of the receivers: only the part that was asked for")
def path_patch(model, tokens, source, sender, receivers, part, metric):
    mixed = _mixed(model, tokens, source, sender)
    own, name = _own(model, tokens, "z"), _name("z", sender[0])
    keys = _seen(model, tokens, mixed, part)
    changed = {}
    for each in "qkv":
        changed |= _seen(model, tokens, mixed, each)
    hooks = []
    for each in "qkv":
        by = _shared_by(model, each)
        hooks += [_hook(changed, _name(each, layer), (ALL, ALL, head // by)) for layer, head in receivers]
    del own, name, keys
    return _run(model, tokens, hooks, metric)


@mistake("patches the part for the first receiver only")
def path_patch(model, tokens, source, sender, receivers, part, metric):
    there = _seen(model, tokens, _mixed(model, tokens, source, sender), part)
    return _through(model, tokens, there, receivers[:1], part, metric)


@mistake("patches the part for all heads of the receivers' layers")
def path_patch(model, tokens, source, sender, receivers, part, metric):
    there = _seen(model, tokens, _mixed(model, tokens, source, sender), part)
    everything = [(layer, head) for layer, _ in receivers for head in range(model.cfg.n_heads)]
    return _through(model, tokens, there, everything, part, metric)


@mistake("keeps the sender and the frozen heads patched in the last run: there only the receivers' part is replaced")
def path_patch(model, tokens, source, sender, receivers, part, metric):
    mixed = _mixed(model, tokens, source, sender)
    there = _seen(model, tokens, mixed, part)
    by = _shared_by(model, part)
    hooks = [_hook(source, _name("z", sender[0]), (ALL, ALL, sender[1]))]
    hooks += [_hook(there, _name(part, layer), (ALL, ALL, head // by)) for layer, head in receivers]
    return _run(model, tokens, hooks, metric)


@mistake("takes away hooks of others: reset_hooks() removes all")
@torch.no_grad()
def path_patch(model, tokens, source, sender, receivers, part, metric):
    there = _seen(model, tokens, _mixed(model, tokens, source, sender), part)
    model.reset_hooks()  # the frozen heads
    return _through(model, tokens, there, receivers, part, metric)


@right("freezes only what lies between, by subtracting nothing")
@torch.no_grad()
def path_patch(model, tokens, source, sender, receivers, part, metric):
    mixed = _mixed(model, tokens, source, sender)
    last = max(layer for layer, _ in receivers)
    there = {}
    hooks = [(_name("z", ly), lambda z, hook, ly=ly: mixed[_name("z", ly)]) for ly in range(sender[0], last)]
    hooks += [(_name(part, ly), functools.partial(_watch, kept=there, name=_name(part, ly))) for ly, _ in receivers]
    model.run_with_hooks(tokens, fwd_hooks=hooks, stop_at_layer=last + 1)
    return _through(model, tokens, there, receivers, part, metric)


# --- 8. Open task


def _diff(logits, right, wrong):
    rows = torch.arange(len(logits))
    return logits[rows, -1, right] - logits[rows, -1, wrong]


def _grid(model):
    return list(itertools.product(range(model.cfg.n_layers), range(model.cfg.n_heads)))


def _ends(model, clean, corrupted, metric):
    return _run(model, clean, [], metric).mean(), _run(model, corrupted, [], metric).mean()


@mistake("heads that carry the difference were found; missed were")
def find_heads(model, clean, corrupted, right, wrong):
    """By where they look: whoever's last query looks elsewhere, or looks at what changed."""
    a, b = _own(model, clean, "pattern"), _own(model, corrupted, "pattern")
    changed = (clean != corrupted).float()
    named = set()
    for layer, head in _grid(model):
        name = _name("pattern", layer)
        moved = (a[name][:, head] - b[name][:, head]).abs().sum(-1).amax(-1).mean()
        looked = (a[name][:, head].amax(1) * changed).amax(-1).mean()
        if moved > 0.5 or looked > 0.5:
            named.add((layer, head))
    return named


@mistake("that carry the difference were found; missed were")
def find_heads(model, clean, corrupted, right, wrong):
    """By the gradient, which does not see through a saturated softmax."""
    metric = functools.partial(_diff, right=right, wrong=wrong)
    high, low = _ends(model, clean, corrupted, metric)
    if high - low < 0.2:
        return set()
    estimate = _linear(model, corrupted, _own(model, clean, "z"), metric).sum((2, 4)).mean(1) / (high - low)
    return {tuple(head) for head in (estimate > 0.15).nonzero().tolist()}


@mistake("the difference were found; missed were")
def find_heads(model, clean, corrupted, right, wrong):
    """Patched at the last position only, where previous-token heads do not work."""
    metric = functools.partial(_diff, right=right, wrong=wrong)
    high, low = _ends(model, clean, corrupted, metric)
    if high - low < 0.2:
        return set()
    source = _own(model, clean, "z")
    shares = {h: (_heads(model, corrupted, source, [h], "z", metric, [-1]).mean() - low) for h in _grid(model)}
    return {head for head, share in shares.items() if share > 0.15 * (high - low)}


@mistake("were found; missed were")
def find_heads(model, clean, corrupted, right, wrong):
    """Only what does the whole job: spare circuits give half each."""
    metric = functools.partial(_diff, right=right, wrong=wrong)
    high, low = _ends(model, clean, corrupted, metric)
    source = _own(model, clean, "z")
    shares = {h: (_heads(model, corrupted, source, [h], "z", metric).mean() - low) for h in _grid(model)}
    return {head for head, share in shares.items() if high - low > 0.2 and share > 0.8 * (high - low)}


@mistake("no head was named in any model")
def find_heads(model, clean, corrupted, right, wrong):
    return set()


@mistake("others were named, too")
def find_heads(model, clean, corrupted, right, wrong):
    """Everybody whose patch changes anything at all."""
    metric = functools.partial(_diff, right=right, wrong=wrong)
    source = _own(model, clean, "z")
    low = _run(model, corrupted, [], metric)
    return {h for h in _grid(model) if (_heads(model, corrupted, source, [h], "z", metric) - low).abs().max() > 1e-4}


@mistake("takes away hooks of others: reset_hooks() removes all")
def find_heads(model, clean, corrupted, right, wrong):
    metric = functools.partial(_diff, right=right, wrong=wrong)
    high, low = _ends(model, clean, corrupted, metric)
    source = _own(model, clean, "z")
    shares = {h: (_heads(model, corrupted, source, [h], "z", metric).mean() - low) for h in _grid(model)}
    model.reset_hooks()
    return {head for head, share in shares.items() if high - low > 0.2 and share > 0.2 * (high - low)}


@right("noising, one head at a time, and a null of another row's activations")
def find_heads(model, clean, corrupted, right, wrong):
    metric = functools.partial(_diff, right=right, wrong=wrong)
    whole = _run(model, clean, [], metric)
    if whole.mean() - _run(model, corrupted, [], metric).mean() < 0.25:
        return []
    source, gap = _own(model, corrupted, "z"), whole.mean() - _run(model, corrupted, [], metric).mean()
    lost = {h: (whole - _heads(model, clean, source, [h], "z", metric)).mean() / gap for h in _grid(model)}
    return [head for head, share in lost.items() if share > 0.2]


@right("both ways, a t statistic over pairs")
def find_heads(model, clean, corrupted, right, wrong):
    metric = functools.partial(_diff, right=right, wrong=wrong)
    high, low = _run(model, clean, [], metric), _run(model, corrupted, [], metric)
    if (high - low).mean() < 4 * (high - low).std() / len(high) ** 0.5 or (high - low).mean() < 0.2:
        return set()
    source, back = _own(model, clean, "z"), _own(model, corrupted, "z")
    named = set()
    for head in _grid(model):
        gained = _heads(model, corrupted, source, [head], "z", metric) - low
        lost = high - _heads(model, clean, back, [head], "z", metric)
        if (gained + lost).mean() > 0.3 * (high - low).mean():
            named.add(head)
    return named
