"""Wrong answers to 3.1 Hooks, and what each of them is."""

import contextlib
import itertools

import torch
from torch import nn
from transformer_lens import utilities as utils

from concrete_steps.checking.mistakes import mistake, right

ALL = slice(None)

# --- 1. Points


@mistake("goes one level deep only: named_modules reaches every depth, named_children does not")
def hook_points(model):
    return {name: part for name, part in model.named_children() if isinstance(part, nn.Identity)}


@mistake("takes every part that has no parts of its own: only those that are an nn.Identity")
def hook_points(model):
    return {name: part for name, part in model.named_modules() if name and not list(part.children())}


@mistake("compares the type by ==, and so misses classes that are made from nn.Identity: use isinstance")
def hook_points(model):
    return {name: part for name, part in model.named_modules() if type(part) is nn.Identity}


@mistake("keeps the last piece of each path: the keys are whole paths, such as body.mid")
def hook_points(model):
    return {name.split(".")[-1]: part for name, part in model.named_modules() if isinstance(part, nn.Identity)}


@right("a loop over paths")
def hook_points(model):
    found = {}
    for path in [path for path, _ in model.named_modules()]:
        part = model.get_submodule(path)
        if issubclass(part.__class__, nn.Identity):
            found[path] = part
    return found


@right("by recursion")
def hook_points(model):
    found = {}
    for name, part in model.named_children():
        if isinstance(part, nn.Identity):
            found[name] = part
        found |= {f"{name}.{path}": inner for path, inner in hook_points.__wrapped__(part).items()}
    return found


hook_points.__wrapped__ = hook_points


# --- 2. Edit


def _hooked(model, x, hooks, register="register_forward_hook", wrap=lambda function, path, value: None, clean=True):
    handles = []
    for path, function in hooks:

        def call(part, args, value, function=function, path=path):
            return wrap(function, path, value)

        handles.append(model.get_submodule(path).register_forward_hook(call))
    try:
        return model(x)
    finally:
        for handle in handles if clean else []:
            handle.remove()


def _plainly(function, path, value):
    return function(value, hook=path)


@mistake("does not hand on what the function returns: the hook that PyTorch calls must return it")
def run_with_hooks(model, x, hooks):
    def drop(function, path, value):
        function(value, hook=path)

    return _hooked(model, x, hooks, wrap=drop)


@mistake("looks its variables up after the loop: every hook calls the last function, with the last path")
def run_with_hooks(model, x, hooks):
    last = hooks[-1] if hooks else None
    return _hooked(model, x, hooks, wrap=lambda function, path, value: _plainly(last[1], last[0], value))


@mistake("keeps one function for each part, the last: several may stand at one part")
def run_with_hooks(model, x, hooks):
    return _hooked(model, x, list(dict(hooks).items()), wrap=_plainly)


@mistake("calls the functions in reverse order")
def run_with_hooks(model, x, hooks):
    return _hooked(model, x, hooks[::-1], wrap=_plainly)


@mistake("gives each function what its part was given, not what it returned: a pre-hook comes before the part")
def run_with_hooks(model, x, hooks):
    handles = []
    for path, function in hooks:

        def call(part, args, function=function, path=path):
            return function(args[0], hook=path)

        handles.append(model.get_submodule(path).register_forward_pre_hook(call))
    try:
        return model(x)
    finally:
        for handle in handles:
            handle.remove()


@mistake("it is to be the path")
def run_with_hooks(model, x, hooks):
    parts = {path: part for path, part in model.named_modules()}
    return _hooked(model, x, hooks, wrap=lambda function, path, value: function(value, hook=parts[path]))


@mistake("the function must get the value itself, not detached")
def run_with_hooks(model, x, hooks):
    return _hooked(model, x, hooks, wrap=lambda function, path, value: function(value.detach(), hook=path))


@mistake("a hook stays behind")
def run_with_hooks(model, x, hooks):
    handles = []
    for path, function in hooks:

        def call(part, args, value, function=function, path=path):
            return function(value, hook=path)

        handles.append(model.get_submodule(path).register_forward_hook(call))
    output = model(x)
    for handle in handles:
        handle.remove()
    return output


@mistake("removes the hooks of others as well")
def run_with_hooks(model, x, hooks):
    try:
        return _hooked(model, x, hooks, wrap=_plainly)
    finally:
        for part in model.modules():
            part._forward_hooks.clear()


@mistake("the error does not reach the caller: it is swallowed")
def run_with_hooks(model, x, hooks):
    with contextlib.suppress(Exception):
        return _hooked(model, x, hooks, wrap=_plainly)


@right("an ExitStack, and PyTorch's own handles as contexts")
def run_with_hooks(model, x, hooks):
    parts = dict(model.named_modules())
    with contextlib.ExitStack() as stack:
        for path, function in hooks:
            stack.enter_context(
                parts[path].register_forward_hook(
                    lambda part, args, value, function=function, path=path: function(value, hook=path)
                )
            )
        return model(x)


@right("forward replaced on the part, and put back")
def run_with_hooks(model, x, hooks):
    with contextlib.ExitStack() as stack:
        for path, function in hooks:
            part = model.get_submodule(path)

            def forward(*args, old=part.forward, function=function, path=path):
                value = old(*args)
                new = function(value, hook=path)
                return value if new is None else new

            before = part.__dict__.get("forward")
            stack.callback(
                lambda part=part, old=before: setattr(part, "forward", old) if old else delattr(part, "forward")
            )
            part.forward = forward
        return model(x)


@right("one hook for each part that calls all of its functions")
def run_with_hooks(model, x, hooks):
    handles = []

    def call_all(path, functions):
        def call(part, args, value):
            for function in functions:
                new = function(value, hook=path)
                value = value if new is None else new
            return value

        return call

    try:
        for path in dict(hooks):
            part = model.get_submodule(path)
            functions = [function for at, function in hooks if at == path]
            handles.append(part.register_forward_hook(call_all(path, functions)))
        return model(x)
    finally:
        [handle.remove() for handle in handles]


@mistake("changes its input in place: copy x first")
def put(x, hook, index, new):
    x[index] = new
    return x


@mistake("returns the new value alone: the rest of x stays around it")
def put(x, hook, index, new):
    return x[index] * 0 + new


@mistake("adds to what is there: it should replace it")
def put(x, hook, index, new):
    x = x.clone()
    x[index] += new
    return x


@mistake("sets everything but the index: it is the other way round")
def put(x, hook, index, new):
    inside = torch.zeros_like(x, dtype=torch.bool)
    inside[index] = True
    y = torch.zeros_like(x)
    y[index] = new if isinstance(new, float) else new.mean()
    return torch.where(inside, x, y.sum() / inside.sum())


@mistake("is detached, so that no gradient reaches x")
def put(x, hook, index, new):
    x = x.detach().clone()
    x[index] = new
    return x


@mistake("makes a list of the index: x[1, 2] is one place, x[[1, 2]] two rows")
def put(x, hook, index, new):
    x = x.clone()
    x[list(index) if isinstance(index, tuple) else index] = new
    return x


@right("index_put by a mask, without writing")
def put(x, hook, index, new):
    there = torch.zeros(x.shape, dtype=torch.bool)
    there[index] = True
    wide = torch.zeros_like(x)
    wide[index] = new
    return torch.where(there, wide, x)


@right("adding nothing is a copy, too")
def put(x, hook=None, index=None, new=None):
    y = x + 0
    y[index] = new
    return y


# --- 3. Read


def _cache(model, x, names, keep):
    """The output, and keep(part, args, value) by path."""
    kept, handles = {}, []
    try:
        for name in names:

            def look(part, args, value, name=name):
                kept[name] = keep(part, args, value)

            handles.append(model.get_submodule(name).register_forward_hook(look))
        return model(x), kept
    finally:
        for handle in handles:
            handle.remove()


def _points(model):
    return [name for name, part in model.named_modules() if isinstance(part, nn.Identity)]


def _copy(part, args, value):
    return value.detach().clone()


@mistake("the cached value has changed, the model wrote into it after the point: keep a copy")
def run_with_cache(model, x, names=None):
    return _cache(model, x, _points(model) if names is None else names, lambda part, args, value: value.detach())


@mistake("keeps a gradient, and the whole run: detach it")
def run_with_cache(model, x, names=None):
    return _cache(model, x, _points(model) if names is None else names, lambda part, args, value: value.clone())


@mistake("keeps what each part was given, not what it returned")
def run_with_cache(model, x, names=None):
    names = _points(model) if names is None else names
    return _cache(model, x, names, lambda part, args, value: args[0].detach().clone())


@mistake("keeps all hook points, whatever names says")
def run_with_cache(model, x, names=None):
    return _cache(model, x, _points(model), _copy)


@mistake("takes an empty list for None: no names means nothing is kept")
def run_with_cache(model, x, names=None):
    return _cache(model, x, names or _points(model), _copy)


@mistake("the output has lost its gradient")
def run_with_cache(model, x, names=None):
    with torch.no_grad():
        return _cache(model, x, _points(model) if names is None else names, _copy)


@mistake("has the cache first: the model's output comes first")
def run_with_cache(model, x, names=None):
    return _cache(model, x, _points(model) if names is None else names, _copy)[::-1]


@right("torch's own hooks, and a copy by torch.tensor's way")
def run_with_cache(model, x, names=None):
    names = _points(model) if names is None else list(names)
    output, kept = _cache(model, x, names, lambda part, args, value: torch.empty_like(value).copy_(value).detach())
    return output, {name: kept[name] for name in names}


@right("a list of pairs, made to a dict")
def run_with_cache(model, x, names=None):
    pairs, names = [], _points(model) if names is None else names
    with contextlib.ExitStack() as stack:
        for name in names:
            hook = lambda part, args, value, name=name: pairs.append((name, value.clone().detach()))  # noqa: E731
            stack.enter_context(model.get_submodule(name).register_forward_hook(hook))
        output = model(x)
    return [output, dict(pairs)]


@mistake("another run makes tensors of its own: those that the cache holds stay as they are")
def answer_copy():
    return "a"


@mistake("what is returned is a new tensor, beside the one that the cache holds")
def answer_copy():
    return "c"


# --- 4. Stop


class _Stop(Exception):
    pass


def _until(model, x, name, caught=_Stop, keep=lambda part, args, value: value, clean=True):
    kept = []

    def stop(part, args, value):
        kept.append(keep(part, args, value))
        raise _Stop

    handle = model.get_submodule(name).register_forward_hook(stop)
    try:
        model(x)
    except caught:
        pass
    finally:
        if clean:
            handle.remove()
    return kept[0] if kept else None


@mistake("the model ran on after the part that you wanted: raise an error of your own there")
def run_until(model, x, name):
    return _cache(model, x, [name], _copy)[1][name]


@mistake("catch only the one that your hook raises")
def run_until(model, x, name):
    return _until(model, x, name, caught=Exception)


@mistake("swallows a RuntimeError of the model")
def run_until(model, x, name):
    kept = []

    def stop(part, args, value):
        kept.append(value)
        raise RuntimeError("that is enough")

    with model.get_submodule(name).register_forward_hook(stop), contextlib.suppress(RuntimeError):
        model(x)
    return kept[0] if kept else None


@mistake("returns what the part was given, not what it returns")
def run_until(model, x, name):
    return _until(model, x, name, keep=lambda part, args, value: args[0])


@mistake("a hook of enter stays behind: remove it")
def run_until(model, x, name):
    return _until(model, x, name, clean=False)


@right("the value travels in the error")
def run_until(model, x, name):
    class Found(BaseException):
        pass

    def stop(part, args, value):
        raise Found(value)

    with model.get_submodule(name).register_forward_hook(stop):
        try:
            model(x)
        except Found as found:
            return found.args[0]


@right("a copy without gradient")
def run_until(model, x, name):
    return _until(model, x, name, keep=lambda part, args, value: value.detach().clone())


# --- 5. Back


def _slope(model, x, name, measure, put_in=lambda value: value.detach().clone().requires_grad_(), **options):
    """The gradient of the measure by a leaf that takes the value's place."""
    kept = []

    def branch_off(part, args, value):
        kept.append(put_in(value))
        return kept[-1]

    with torch.enable_grad(), model.get_submodule(name).register_forward_hook(branch_off):
        return torch.autograd.grad(measure(model(x)), kept[0], **options)[0], kept[0]


@mistake("multiplies by the value: the gradient alone was asked for")
def gradient_at(model, x, name, measure):
    gradient, value = _slope(model, x, name, measure)
    return gradient * value.detach()


@mistake("has the opposite sign")
def gradient_at(model, x, name, measure):
    return -_slope(model, x, name, measure)[0]


@mistake("differentiates the sum of the model's output: it should be the measure of it")
def gradient_at(model, x, name, measure):
    return _slope(model, x, name, torch.sum)[0]


@mistake("is scaled to length 1: the gradient has its own length")
def gradient_at(model, x, name, measure):
    gradient = _slope(model, x, name, measure)[0]
    return gradient / gradient.norm()


@mistake("changes the .grad of weights")
def gradient_at(model, x, name, measure):
    kept = []

    def branch_off(part, args, value):
        kept.append(value.detach().clone().requires_grad_())
        return kept[-1]

    with torch.enable_grad(), model.get_submodule(name).register_forward_hook(branch_off):
        measure(model(x)).backward()
    return kept[0].grad


@mistake("fails under torch.no_grad(), with weights that ask for no gradient")
def gradient_at(model, x, name, measure):
    kept = []

    def branch_off(part, args, value):
        kept.append(value.detach().clone().requires_grad_())
        return kept[-1]

    with model.get_submodule(name).register_forward_hook(branch_off):
        return torch.autograd.grad(measure(model(x)), kept[0])[0]


@right("a zero that is added, whose gradient is the same")
def gradient_at(model, x, name, measure):
    zeros = []

    def add(part, args, value):
        zeros.append(torch.zeros_like(value).requires_grad_())
        return value + zeros[0]

    with torch.enable_grad(), model.get_submodule(name).register_forward_hook(add):
        (gradient,) = torch.autograd.grad(measure(model(x)), zeros)
    return gradient


@right("functional: torch.func.grad of what follows")
def gradient_at(model, x, name, measure):
    part = model.get_submodule(name)
    with torch.no_grad():
        value = _cache(model, x, [name], _copy)[1][name]

    def rest(value):
        with part.register_forward_hook(lambda part, args, old: value):
            return measure(model(x))

    with torch.enable_grad():
        return torch.func.grad(rest)(value).detach()


# --- 6. TransformerLens


@mistake("the point is called after the pattern was used: an even spread would need the scores before the softmax")
def answer_scores():
    return "a"


@mistake("nothing reads this tensor any more, whatever stands in it: zeros at hook_pattern would do that")
def answer_scores():
    return "b"


def _pattern(q, k, scale=None, repeat=lambda k, n: k.repeat_interleave(n, dim=2), mask=True, dim=-1):
    scores = torch.einsum("bqhd,bkhd->bhqk", q, repeat(k, q.shape[2] // k.shape[2]))
    scores = scores / (q.shape[-1] ** 0.5 if scale is None else scale)
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return (scores.masked_fill(later, -torch.inf) if mask else scores).softmax(dim)


@mistake("does not divide by the root of d_head")
def pattern_from_qk(q, k):
    return _pattern(q, k, scale=1.0)


@mistake("divides by d_head: it is its root")
def pattern_from_qk(q, k):
    return _pattern(q, k, scale=q.shape[-1])


@mistake("looks at later keys, too: the pattern is causal")
def pattern_from_qk(q, k):
    return _pattern(q, k, mask=False)


@mistake("query head h reads key head h % n: neighbours share keys, so repeat each key head in place")
def pattern_from_qk(q, k):
    return _pattern(q, k, repeat=lambda k, n: k.repeat(1, 1, n, 1))


@mistake("softmax over the queries: the weights of one query sum to 1 over the keys")
def pattern_from_qk(q, k):
    return _pattern(q, k, dim=-2)


@mistake("has queries and keys exchanged: the query comes before the key")
def pattern_from_qk(q, k):
    return _pattern(q, k).transpose(-1, -2).contiguous()


@right("groups of queries, matmul and a large negative bias that rounds away")
def pattern_from_qk(q, k):
    batch, pos, heads, d_head = q.shape
    groups = q.reshape(batch, pos, k.shape[2], heads // k.shape[2], d_head).permute(0, 2, 3, 1, 4)
    scores = groups @ k.permute(0, 2, 3, 1)[:, :, None] / d_head**0.5
    mask = torch.full((pos, pos), -torch.inf, dtype=q.dtype).triu(1)
    return (scores + mask).softmax(-1).reshape(batch, heads, pos, pos)


@right("exponentials of what is left of the largest")
def pattern_from_qk(q, k):
    k = torch.stack([k[:, :, head * k.shape[2] // q.shape[2]] for head in range(q.shape[2])], dim=2)
    scores = (q.transpose(1, 2) @ k.permute(0, 2, 3, 1)) / q.shape[-1] ** 0.5
    later = torch.ones(q.shape[1], q.shape[1]).triu(1).bool()
    scores = scores.masked_fill(later, float("-inf"))
    weights = (scores - scores.amax(-1, keepdim=True).detach()).exp()
    return weights / weights.sum(-1, keepdim=True)


def _guesses(model, tokens):
    with torch.no_grad():
        return model(tokens).argmax(-1)


@mistake("compares each guess with the token at its own position: it is about the next one")
def token_accuracy(model, tokens):
    return (_guesses(model, tokens) == tokens).float().mean().item()


@mistake("counts right guesses: divide by how many there were")
def token_accuracy(model, tokens):
    return float((_guesses(model, tokens)[:, :-1] == tokens[:, 1:]).sum())


@mistake("divides by all tokens, and the first of a row has no guess")
def token_accuracy(model, tokens):
    return ((_guesses(model, tokens)[:, :-1] == tokens[:, 1:]).sum() / tokens.numel()).item()


@mistake("compares with the token before: the guess at position i is about token i + 1")
def token_accuracy(model, tokens):
    return (_guesses(model, tokens)[:, 1:] == tokens[:, :-1]).float().mean().item()


@mistake("takes the token of the lowest logit")
def token_accuracy(model, tokens):
    with torch.no_grad():
        guesses = model(tokens)[:, :-1].argmin(-1)
    return (guesses == tokens[:, 1:]).float().mean().item()


@right("row by row, with the cache's logits")
def token_accuracy(model, tokens):
    right_ones = []
    for row in tokens:
        with torch.no_grad():
            logits, _ = model.run_with_cache(row[None], names_filter=lambda name: False)
        right_ones += [int(logits[0, i].argmax()) == int(row[i + 1]) for i in range(len(row) - 1)]
    return sum(right_ones) / len(right_ones)


@right("ranks by topk")
def token_accuracy(model, tokens):
    with torch.inference_mode():
        best = model(tokens)[:, :-1].topk(1).indices[..., 0]
    return float(best.eq(tokens[:, 1:]).double().mean())


# --- 7. The map of points


def _shapes(model, tokens):
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    return {name: tuple(value.shape) for name, value in cache.items()}


@mistake("has a point once for each of its names: of several, keep the last")
def activation_shapes(model, tokens):
    return _shapes(model, tokens)


@mistake("uses the first of a point's names, its canonical one: the last was asked for")
def activation_shapes(model, tokens):
    shapes, found = _shapes(model, tokens), {}
    for name, point in model.hook_dict.items():
        found.setdefault(id(point), name)
    return {name: shapes[name] for name in found.values() if name in shapes}


@mistake("leaves out the points outside the layers, such as hook_embed")
def activation_shapes(model, tokens):
    shapes = _shapes(model, tokens)
    names = {id(point): name for name, point in model.hook_dict.items()}
    return {name: shapes[name] for name in names.values() if name in shapes and name.startswith("blocks.")}


@mistake("takes one row of the batch: the shape has the batch as its first axis")
def activation_shapes(model, tokens):
    shapes = _shapes(model, tokens)
    names = {id(point): name for name, point in model.hook_dict.items()}
    return {name: shapes[name][1:] for name in names.values() if name in shapes}


@mistake("reads what PyTorch's own hooks see, where heads are not apart: shapes are those in a cache")
def activation_shapes(model, tokens):
    seen, handles = {}, []
    for point, name in {point: name for name, point in model.hook_dict.items()}.items():

        def look(part, args, value, name=name):
            seen[name] = tuple(value.shape)

        handles.append(point.register_forward_hook(look))
    with torch.no_grad():
        model(tokens)
    for handle in handles:
        handle.remove()
    return seen


@right("hooks that keep shapes and no tensor")
def activation_shapes(model, tokens):
    seen, names, handles = {}, {}, []
    for name, point in model.hook_dict.items():
        names[point] = name
    try:
        for point, name in names.items():

            def look(value, hook, name=name):
                seen[name] = tuple(int(size) for size in value.shape)

            handles.append((point, point.add_hook(look, level=-7)))
        with torch.no_grad():
            model(tokens, output_attentions=True) if "GPT2" in str(model.cfg.architecture) else model(tokens)
    finally:
        for point, _ in handles:
            point.remove_hooks(level=-7)
    return seen


@right("names reversed, the first of each kept")
def activation_shapes(model, tokens):
    shapes, done, found = _shapes(model, tokens), set(), {}
    for name, point in reversed(list(model.hook_dict.items())):
        if id(point) not in done and name in shapes:
            found[name] = shapes[name]
        done.add(id(point))
    return dict(reversed(found.items()))


# --- 8. Read little


def _only(model, tokens, parts, layers, position, stop=1, query=-2, keep=torch.clone, start=0):
    names = {(part, layer): utils.get_act_name(part, layer) for part, layer in itertools.product(parts, layers)}
    with torch.no_grad():
        _, cache = model.run_with_cache(
            tokens, names_filter=list(names.values()), stop_at_layer=max(layers) + stop if stop else None
        )
    return {key: keep(cache[name].select(query if key[0] == "pattern" else 1, position)) for key, name in names.items()}


@mistake("takes the pattern's head axis for the position: its axes are [row head query key]")
def cache_only(model, tokens, parts, layers, position):
    names = {(part, layer): utils.get_act_name(part, layer) for part, layer in itertools.product(parts, layers)}
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=list(names.values()))
    return {key: cache[name][:, position].clone() for key, name in names.items()}


@mistake("takes the key at that position: of a pattern it is the query")
def cache_only(model, tokens, parts, layers, position):
    return _only(model, tokens, parts, layers, position, query=-1)


@mistake("stop_at_layer is the first that does not")
def cache_only(model, tokens, parts, layers, position):
    return _only(model, tokens, parts, layers, position, stop=2)


@mistake("is a view: it keeps the activation at all positions in memory")
def cache_only(model, tokens, parts, layers, position):
    return _only(model, tokens, parts, layers, position, keep=torch.Tensor.contiguous)  # of one row it copies nothing


@mistake("keeps the position's axis, with size 1")
def cache_only(model, tokens, parts, layers, position):
    found = _only(model, tokens, parts, layers, position)
    return {key: x.unsqueeze(2 if key[0] == "pattern" else 1).clone() for key, x in found.items()}


@mistake("keys are the pairs (part, layer)")
def cache_only(model, tokens, parts, layers, position):
    found = _only(model, tokens, parts, layers, position)
    return {utils.get_act_name(part, layer): x for (part, layer), x in found.items()}


@right("pos_slice, and no axis of size 1")
def cache_only(model, tokens, parts, layers, position):
    names = [utils.get_act_name(part, layer) for part in parts for layer in layers]
    with torch.no_grad():
        _, cache = model.run_with_cache(
            tokens, names_filter=names, pos_slice=position, stop_at_layer=1 + max(layers), return_type=None
        )
    return {
        (part, layer): cache[part, layer].squeeze(2 if part == "pattern" else 1).clone()
        for part in parts
        for layer in layers
    }


@right("hooks that copy, and one that stops")
def cache_only(model, tokens, parts, layers, position):
    found = {}

    def keeper(part, layer):
        def keep(x, hook):
            found[part, layer] = (x[:, :, position] if part == "pattern" else x[:, position]).detach().clone()

        return utils.get_act_name(part, layer), keep

    hooks = [keeper(part, layer) for part in parts for layer in layers]
    with torch.no_grad():
        model.run_with_hooks(tokens, fwd_hooks=hooks, stop_at_layer=max(layers) + 1)
    return found


# --- 9. Traps


@mistake("caches have no place of their own: their hooks are added like all others, at the end of the line")
def answer_order():
    return "b"


@mistake("a point takes any number of hooks")
def answer_order():
    return "c"


def _seen(model, tokens, name, prepend=(True, False), copies=True, clean=True):
    point, seen = model.hook_dict[name], []

    def look(value, hook):
        seen.append(value.detach().clone() if copies else value.detach())

    try:
        for first in prepend:
            point.add_hook(look, prepend=first, level=-1)
        with torch.no_grad():
            model(tokens)
    finally:
        if clean:
            point.remove_hooks(level=-1)
    return tuple(seen)


@mistake("looks twice after the other hooks: the first look goes in front of them, by prepend=True")
def before_and_after(model, tokens, name):
    return _seen(model, tokens, name, prepend=(False, False))


@mistake("looks twice before the other hooks: the second look goes behind them")
def before_and_after(model, tokens, name):
    return _seen(model, tokens, name, prepend=(True, True))


@mistake("has after first: the activation as the model made it comes first")
def before_and_after(model, tokens, name):
    return _seen(model, tokens, name)[::-1]


@mistake("keeps the tensor itself, into which a later hook may write: keep a copy")
def before_and_after(model, tokens, name):
    return _seen(model, tokens, name, copies=False)


@mistake("a hook of yours stays behind")
def before_and_after(model, tokens, name):
    point, seen = model.hook_dict[name], []

    def look(value, hook):
        seen.append(value.detach().clone())

    point.add_hook(look, prepend=True, level=-1)
    point.add_hook(look, level=-1)
    with torch.no_grad():
        model(tokens)
    point.remove_hooks(level=-1)
    return seen[0], seen[1]


@mistake("takes away hooks of others")
def before_and_after(model, tokens, name):
    found = _seen(model, tokens, name, clean=False)
    model.reset_hooks()
    return found


@right("the handles of PyTorch, one by one")
def before_and_after(model, tokens, name):
    point, seen, handles = model.hook_dict[name], {}, []

    def look(key):
        def keep(value, hook):
            seen[key] = value.detach().clone()

        return keep

    try:
        handles.append(point.add_hook(look("before"), prepend=True))
        handles.append(point.add_hook(look("after")))
        with torch.no_grad():
            model.forward(tokens)
    finally:
        for handle in handles:
            handle.hook.remove()
            point.fwd_hooks.remove(handle)
    return seen["before"], seen["after"]


@right("behind by a run with a cache, before by a hook in front")
def before_and_after(model, tokens, name):
    point, seen = model.hook_dict[name], []
    point.add_hook(lambda value, hook: seen.append(value.detach().clone()), prepend=True, level=99)
    try:
        with torch.no_grad():
            _, cache = model.run_with_cache(tokens, names_filter=[name])
    finally:
        point.remove_hooks(level=99)
    return [seen[0], cache[name].clone()]


# --- 10. Compatibility mode


@mistake("the other words' logits moved as far, and the softmax sees differences only")
def answer_folded():
    return "a"


@mistake("a shift that all words share leaves every probability exactly where it was")
def answer_folded():
    return "c"


# --- 11. Open task


def _largest(tried, logits, own):
    return (tried - logits).abs().flatten(1).amax(1)


def _angle(tried, logits, own):
    return 1 - torch.cosine_similarity((tried - own).flatten(1), (logits - own).flatten(), dim=1)


def _at_first(tried, logits, own):
    """At the first position that differs, and no other."""
    first = int(((logits - own).abs().amax((0, 2)) > 1e-3).float().argmax())
    return _largest(tried[:, :, first], logits[:, first], own)


def _size(tried, logits, own):
    return ((tried - own).norm(dim=-1) - (logits - own).norm(dim=-1)).abs().flatten(1).amax(1)


def _search(model, tokens, logits, parts, close=1e-3, positions=None, gap=_largest):
    """The places among these parts that give the logits, and before them the nearest of each point."""
    with torch.no_grad():
        own, cache = model.run_with_cache(tokens)
    differs = ((logits - own).abs() > close).any(-1).any(0).nonzero()
    if not len(differs):
        return None, []
    first, found = int(differs[0]), []
    for part, layer in itertools.product(parts, range(model.cfg.n_layers)):
        name = utils.get_act_name(part, layer)
        if name not in cache:
            continue
        heads = range(cache[name].shape[2]) if cache[name].ndim == 4 else [None]
        places = list(itertools.product(range(first + 1) if positions is None else positions(first), heads))

        def zero(x, hook, places=places):
            x = x.clone()
            for i, (position, head) in enumerate(places):
                row = x[i * len(tokens) : (i + 1) * len(tokens), position]
                (row if head is None else row[:, head]).zero_()
            return x

        with torch.no_grad():
            tried = model.run_with_hooks(tokens.repeat(len(places), 1), fwd_hooks=[(name, zero)])
        gaps = gap(tried.reshape(len(places), *logits.shape), logits, own)
        found.append((float(gaps.min()), (name, *places[int(gaps.argmin())])))
    return found, [place for gap, place in found if gap < close]


PARTS = ("resid_pre", "attn_out", "mlp_out", "q", "k", "v", "z")


@mistake("others were named, too")
def find_hook(model, tokens, logits):
    found, _ = _search(model, tokens, logits, PARTS)
    return min(found)[1] if found else None


@mistake("named though one row alone was edited")
def find_hook(model, tokens, logits):
    _, places = _search(model, tokens[:1], logits[:1], PARTS)
    return places[0] if places else None


@mistake("hooks in models of four kinds")
def find_hook(model, tokens, logits):
    _, places = _search(model, tokens, logits, ("z", "attn_out"))
    return places[0] if places else None


@mistake("named though an activation was halved")
def find_hook(model, tokens, logits):
    """By the direction of the change, whatever its size."""
    found, _ = _search(model, tokens, logits, PARTS, gap=_angle)
    return min(found)[1] if found and min(found)[0] < 0.2 else None


@mistake("others were named, too: 2 named though two positions were set to 0")
def find_hook(model, tokens, logits):
    """By the logits at the first position that differs."""
    _, places = _search(model, tokens, logits, PARTS, gap=_at_first)
    return places[0] if places else None


@mistake("others were named, too: 2 named though an activation was doubled, not set to 0")
def find_hook(model, tokens, logits):
    """By how far the logits went at each position, whichever way."""
    _, places = _search(model, tokens, logits, PARTS, gap=_size)
    return places[0] if places else None


@mistake("were found; missed were 3 k")
def find_hook(model, tokens, logits):
    """Without keys."""
    _, places = _search(model, tokens, logits, [part for part in PARTS if part != "k"])
    return places[0] if places else None


@mistake("takes away hooks of others: reset_hooks() removes all")
def find_hook(model, tokens, logits):
    _, places = _search(model, tokens, logits, PARTS)
    model.reset_hooks()
    return places[0] if places else None


@mistake("no hook was named in any model")
def find_hook(model, tokens, logits):
    return None


@right("only at the first position that differs, and before it where that does not do")
def find_hook(model, tokens, logits):
    for positions in (lambda first: [first], None):
        _, places = _search(model, tokens, logits, PARTS, positions=positions)
        if places:
            return places[0]
    return None


@right("one run for each place, from the streams on")
def find_hook(model, tokens, logits):
    with torch.no_grad():
        own = model(tokens)
    gap = (logits - own).abs().amax((0, 2))
    if gap.max() < 1e-3:
        return None
    first = int((gap > 1e-3).nonzero()[0])
    for layer, position in itertools.product(range(model.cfg.n_layers), range(first, -1, -1)):
        for part in PARTS:
            name = utils.get_act_name(part, layer)
            if name not in model.hook_dict:
                continue
            shared = model.cfg.n_key_value_heads if part in "kv" else None
            for head in range(shared or model.cfg.n_heads) if part in "qkvz" else [None]:
                index = (ALL, position) if head is None else (ALL, position, head)

                def zero(x, hook, index=index):
                    x = x.clone()
                    x[index] = 0
                    return x

                with torch.no_grad():
                    logits_there = model.run_with_hooks(tokens, fwd_hooks=[(name, zero)])
                if torch.allclose(logits_there, logits, atol=1e-3):
                    return name, position, head
    return None
