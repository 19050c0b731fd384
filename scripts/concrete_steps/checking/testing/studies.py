"""How a study that somebody wrote is watched while it runs (the open task of 6.1).

What it does with the model's answers in both arms, and whether its values are the model's at all.
"""

import contextlib
import importlib.util
import os
import re
import statistics
import sys
import sysconfig

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

from concrete_steps import study


def folder_of(package):
    return os.path.join(os.path.dirname(importlib.util.find_spec(package).origin), "")


MODELS = tuple(map(folder_of, ("transformer_lens", "transformers")))
LIBRARIES = (*map(sysconfig.get_path, ("stdlib", "purelib", "platlib")), folder_of("concrete_steps"), "<frozen")
MODEL, ANSWER = "the model", "an answer of "
MOVES = re.compile(  # what only moves and copies: it measures nothing
    r"adjoint|array|as_tensor|asarray|bfloat16|bool|broadcast_to|cat|chunk|clone|complex|concat|concatenate"
    r"|contiguous|copy|cpu|detach|diagonal|dim|double|[dhv]stack|expand(_as)?|flatten|flip(lr|ud)?|float|format"
    r"|from_numpy|gather|getitem|half|index(_copy|_select)?|int|is_floating_point|item|iter|len|long"
    r"|masked_select|moveaxis|movedim|narrow|numel|numpy|permute|ravel|repeat(_interleave)?|repr|requires_grad"
    r"|reshape(_as)?|roll|rot90|scatter|select|setitem|size|split|squeeze|stack|stride|swap(axes|dims)|t"
    r"|take(_along_dim)?|tensor(_split)?|tile|to|tolist|transpose|type(_as)?|unbind|unflatten|unsqueeze"
    r"|view(_as)?"
)
READS = {"item", "tolist", "numpy", "__float__", "__int__", "__bool__", "__index__", "__array__"}


class Watch(TorchFunctionMode):
    """Which operations made a tensor of the model's answers: what is computed counts, not which lines compute it.

    How `rows` make of the model's answers what they bring is their own affair: they are not watched, and neither is
    a direction that a function holds which they bring (a view of a weight is). Seen in the measure are the operations
    of torch, whoever calls them: functions by name or from a dict, partials, methods, hooks, what `rows` bring and the
    measure calls.
    Not seen: NumPy and plain numbers after `.item()`, torch.jit, numbers such as a threshold or a dimension, and
    which of the model's answers is read, but for how many dimensions it has; and what is measured of activations that
    `rows` brought.
    """

    def __init__(self):
        super().__init__()
        self.made_by = WeakIdKeyDictionary()  # of a tensor's storage, which its views share
        self.read, self.places = frozenset(), {}

    def of(self, tensor):
        return self.made_by.get(stored(tensor), frozenset())

    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        its_name = function.__name__
        name = re.sub("^[ri](?=add|sub|mul|div|truediv|pow|matmul)", "", its_name.strip("_"))
        made = [one for one in tree_leaves(out) if isinstance(one, torch.Tensor)]
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        frame = asked_by(sys._getframe(1))
        if name == "get" or name.endswith("_like") or name.startswith("new_"):
            return out
        if its_name == "__setitem__":
            made = given[:1]
        if frame is None:
            self.made_by.update({stored(one): frozenset({MODEL}) for one in made if one.is_floating_point()})
            return out
        way = frozenset().union(*map(self.of, given))
        if MODEL in way:
            way |= {f"{ANSWER}{one.ndim} dimension{'s' * (one.ndim != 1)}" for one in given if self.of(one) == {MODEL}}
            way |= set() if MOVES.fullmatch(name) else {name}
            for one in way:
                self.places.setdefault(one, f"{frame.f_code.co_name}, line {frame.f_lineno}")
            if its_name in READS:
                self.read |= way
        if way:
            self.made_by.update({stored(one): way for one in made})
        return out

    def way_of(self, measure, model, rows):
        """The values, and what was done with the model's answers on the way to them."""
        self.read = frozenset()
        self.made_by.update({stored(weight): frozenset({MODEL}) for weight in model.parameters()})
        with self:
            values = measure(model, rows)
        seen = self.of(values) if isinstance(values, torch.Tensor) else frozenset()
        return values, (seen or self.read) - {MODEL}


def stored(tensor):
    try:
        return tensor.untyped_storage()
    except (RuntimeError, NotImplementedError):  # of torch.func, sparse
        return tensor


def asked_by(frame):
    """The frame of the code that asked for an operation, past all libraries; None where the model itself did."""
    while frame and not frame.f_code.co_filename.startswith(MODELS):
        if not frame.f_code.co_filename.startswith(LIBRARIES):
            return frame
        frame = frame.f_back
    return None


def with_data_of(claim, null):
    """The null's rows with the claim's data in them: tensors, and long lists of texts and numbers."""
    if type(claim) is type(null) and getattr(null, "ndim", 0):
        return claim
    if isinstance(null, dict) and isinstance(claim, dict) and claim.keys() == null.keys():
        return {key: with_data_of(claim[key], null[key]) for key in null}
    if not (isinstance(null, list | tuple) and type(claim) is type(null)):
        return null
    if len(null) >= 8 and all(isinstance(one, str | int | float) for one in (*claim, *null)):
        return claim
    if len(claim) != len(null):
        return null
    parts = [with_data_of(*pair) for pair in zip(claim, null, strict=True)]
    return type(null)(*parts) if hasattr(null, "_fields") else type(null)(parts)


def with_noise(rows):
    """The rows with all that is no whole number or text in them changed."""
    return tree_map(
        lambda one: (
            one + torch.randn_like(one) * (1 + one.abs().mean())
            if isinstance(one, torch.Tensor) and one.is_floating_point()
            else one
        ),
        rows,
    )


def ready_made(rows, values):
    """Whether the values are what the rows brought, or a part of it; of one and the same number, nobody knows."""
    parts, shape = tree_leaves(rows), tuple(values.shape)
    brought = [one.tolist() for one in parts if getattr(one, "shape", None) == shape]
    numbers = [one for one in parts if isinstance(one, int | float)]
    brought += [numbers, torch.tensor(numbers, dtype=values.dtype).tolist()]
    return bool((values != values[0]).any()) and values.tolist() in brought


def carried_out(its, watch):
    """The runs of a study, and of each (model, rows, values, way); none of these where it cannot run under a watch."""
    ways = []

    def measure(model, rows):
        values, way = watch.way_of(its.measure, model, rows)
        ways.append((model, rows, values, way))
        return values

    measure.__name__ = getattr(its.measure, "__name__", type(its.measure).__name__)
    try:
        return study.carry_out(study.Study(its.card, measure, its.models, its.rows)), ways
    except Exception:  # the learner's, which comes again below, or the watch's own
        ways.clear()
    return study.carry_out(its), ways


def parted(watch, measure, claim, null):
    """What is done with the model's answers for one arm alone, in words; "" if nothing, on the data of the claim."""
    (model, claim_rows, _, claim_way), (_, null_rows, _, null_way) = claim, null
    if claim_way == null_way:
        return ""
    try:
        if watch.way_of(measure, model, with_data_of(claim_rows, null_rows))[1] == claim_way:
            return ""
    except Exception:  # what rows bring for the null does not go with the claim's data
        pass
    said = []
    for arm, alone in (("claim", claim_way - null_way), ("null", null_way - claim_way)):
        its = {one: f"({watch.places[one]})" for one in sorted(alone)}
        answers = [f"{one} {place}" for one, place in its.items() if one.startswith(ANSWER)]
        done = [f"`{one}` {place}" for one, place in its.items() if not one.startswith(ANSWER)]
        more = f" and {len(done) - 3} more" if done[3:] else ""
        said += [f"the {arm} alone takes {' and '.join(answers)}"] if answers else []
        if done:
            said.append(f"for the {arm} alone {', '.join(done[:3])}{more} {'are' if done[1:] else 'is'} applied")
    if not null_way:
        said.append("no answer of the model is seen to go into the null's values")
    return "; ".join(said)


def is_moved(claim, null):
    """Whether the null's values are the claim's, times one number and plus another, and not by their extremes alone."""
    pairs = list(zip(claim, null, strict=True))
    while len(set(pairs)) > 3:
        scaled = [[(x - min(arm)) / ((max(arm) - min(arm)) or 1.0) for x in arm] for arm in zip(*pairs, strict=True)]
        if any(abs(x - y) >= 1e-3 for x, y in zip(*scaled, strict=True)):
            return False
        middle = statistics.median(x for x, _ in pairs)
        pairs.remove(max(pairs, key=lambda pair: abs(pair[0] - middle)))
    return len(set(claim)) > 3


def brings_a_model(rows):
    return any(isinstance(part, torch.nn.Module) for part in tree_leaves(rows))


def asks_the_model(its, claim, null):
    """Of a model with other weights come other values, and it is left as it was.

    Rows may bring a model of their own, such as one before training. A null of one and the same number (of heads that
    look there, say: 0) may be just that again. One of random activations changes with the claim's in their place, one
    of a model kept elsewhere with what all modules answer.
    """
    model, generator = study.load(claim.model), torch.Generator().manual_seed(0)

    def answers():
        device = next(model.parameters()).device  # the measure may have moved it
        with torch.no_grad():
            return model(torch.arange(3, device=device)[None]).log_softmax(-1).double().cpu()

    def values(rows):
        return torch.as_tensor(its.measure(model, rows)).detach().double().cpu()

    def stay(one, other):
        apart, spread = (one - other).abs().max() if one.shape == other.shape else torch.inf, one.max() - one.min()
        return bool(spread > 0 and apart < 1e-4 * spread)

    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(torch.randn(weight.shape, generator=generator))
    intact = answers()
    try:
        of_claim = its.rows(model, "claim")
        claim_now = values(of_claim)
        of_null = its.rows(model, "null")
        null_now = values(of_null)
        less = claim_now - null_now
    except Exception:  # what is looked for may not be there, in a model that learned nothing
        return
    left = torch.allclose(answers(), intact, rtol=1e-2, atol=1e-2, equal_nan=True)
    assert left, f"{claim.model}: the study leaves the model changed (its weights?): what is run next is run on that"
    ours = [torch.tensor(run.values, dtype=torch.float64) for run in (claim, null)]
    said = f"{claim.model}: for a model of other weights "
    if not brings_a_model(of_claim):
        assert not stay(ours[0], claim_now), (
            f"{said}the claim's values stay the same, row by row: does the measure ask the model that it is given, "
            "or one of its own, or what was kept of an earlier run?"
        )
        assert not stay(ours[0] - ours[1], less), (
            f"{said}claim less null stays the same, row by row: is the null the claim again, and what you add to it?"
        )
    if brings_a_model(of_null) or not stay(ours[1], null_now):
        return
    try:
        made_up = stay(ours[1], values(with_data_of(of_claim, of_null)))
    except Exception:  # they may be of another shape: other activations are to give other values, too
        made_up = True
        with contextlib.suppress(Exception):
            made_up = stay(ours[1], values(with_noise(of_null)))
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, given, out: out.roll(1, -1) if isinstance(out, torch.Tensor) and out.ndim else None
    )
    try:
        made_up = made_up and stay(ours[1], values(its.rows(model, "null")))
    except Exception:
        made_up = False
    finally:
        hook.remove()
    assert not made_up, (
        f"{said}the null's values stay the same, row by row: does the measure ask the model for them, "
        "or what was kept of an earlier run?"
    )
