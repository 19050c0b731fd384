"""A check in one process, the answer that it checks in another: what crosses, and what hostile words come to."""

import collections
import json
import os
import types
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from concrete_steps.checking.testing import blank_bridge
from concrete_steps.course import load_course
from concrete_steps.grading.crossing.link import Link
from concrete_steps.grading.crossing.tensors import Nonsense
from concrete_steps.grading.crossing.wire import HEAD, Lost, Wire

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a sandbox is a process that is forked here")
START = load_course().notebook("0")


def test_arguments_come_back_as_they_were_left(learners):
    with learners(
        "def f(x, numbers, d):\n    x += 1\n    numbers.append(x)\n    d['k'][0] = 5\n    return numbers"
    ) as the:
        x, numbers, inner = torch.zeros(2, 3).t(), [1], [0, 1]
        result = the.f(x, numbers, {"k": inner})
        assert x.tolist() == [[1.0, 1.0]] * 3
        assert result is numbers and numbers[1] is x and inner == [5, 1]


def test_dicts_of_every_kind_come_back_as_they_were_left(learners):
    with learners("def f(*dicts):\n    for d in dicts:\n        d['new'] = d.pop('old') + 1") as the:
        kinds = [dict, collections.OrderedDict, collections.Counter, lambda d: collections.defaultdict(int, d)]
        dicts = [kind({"first": 3, "old": 1}) for kind in kinds]
        the.f(*dicts)
        for each in dicts:
            assert [*each.items()] == [("first", 3), ("new", 2)] == [(key, each[key]) for key in each]


def test_a_field_keeps_its_kind_when_others_are_told(learners):
    """What crosses are plain dicts and lists; a learner's own object has what the learner put there."""
    code = (
        "import collections\nclass C:\n    def __init__(self):\n        self.d = collections.defaultdict(lambda: 7)\n"
    )
    code += "        self.other = 0\n    def missing(self):\n        return self.d['missing'] + self.other"
    with learners(code, names=("C",)) as the:
        made = the.C()
        made.other = 1
        assert made.missing() == 8


def test_keys_may_be_tensors_in_another_order(learners):
    with learners("def f(d):\n    d.update({k: d.pop(k) for k in reversed([*d])})") as the:
        first, second = torch.ones(2), torch.ones(2)
        the.f(d := {first: 1, second: 2})
        assert [*d.values()] == [2, 1] and next(iter(d)) is second


def test_what_a_hook_writes_is_shared_from_call_to_call(learners):
    """A check's own hook on a learner's module: the check empties the list, and the next call fills it again."""
    code = "import torch\nclass Thing(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    code += "        self.part = torch.nn.Identity()\n    def forward(self, x):\n        return self.part(x)"
    with learners(code) as the:
        model, seen = the.Thing(), {}
        model.part.register_forward_hook(lambda part, args, out: seen.setdefault("first", len(out)))
        for n in (2, 1, 3):
            seen.clear()
            model(torch.zeros(n))
            assert seen == {"first": n}


def test_a_bridge_is_lent_with_the_hooks_that_a_check_has_put_in(learners):
    """They count what runs over there; TransformerLens's own are in both, and are not told."""
    code = "import torch\ndef f(bridge):\n    bridge(torch.zeros(1, 2, dtype=torch.long))"
    with learners(code) as the:
        bridge = blank_bridge(n_layers=2, d_model=4, d_head=4, n_heads=1, d_vocab=5, n_ctx=3, attn_only=True)
        runs = collections.Counter()
        handle = bridge.blocks[1].register_forward_pre_hook(lambda block, args: runs.update(["block"]))
        for n in (1, 2):
            the.f(bridge)
            assert runs == {"block": n}
        handle.remove()
        the.f(bridge)
        assert runs == {"block": 2}
        handle = bridge.blocks[1].register_forward_pre_hook(lambda block, args, kwargs: None, with_kwargs=True)
        try:
            with pytest.raises(Lost, match="cannot be lent"):
                the.f(bridge)
        finally:
            handle.remove()


@pytest.mark.parametrize("hostile", ["thing", "part", "nothing"])
def test_no_hook_is_put_in_or_taken_away_unseen(hostile, learners):
    """Nor one that gives itself out for TransformerLens's own: the point is then not proven."""
    with learners("kept = []\ndef f(bridge):\n    kept.append(bridge)") as the:
        bridge = blank_bridge(n_layers=1, d_model=4, d_head=4, n_heads=1, d_vocab=5, n_ctx=3, attn_only=True)
        with_hook = bridge.blocks[0].register_forward_hook(lambda block, args, out: None)
        try:
            the.f(bridge)
            codec = the.link.codec
            number = codec.table.number(bridge)
            part = ["part", number, "blocks.0"]
            own = ["class", 10**6 + 1, {"name": "X", "bases": ["Module"], "special": ["__call__"]}]
            hook = {"thing": ["thing", 10**6 + 3, own, ["state", [["func", part]]]], "part": part}.get(hostile)
            told = [["blocks.0", False, [["_forward_hooks", 10**9 + 5, hook]] if hook else [], [0, 0]]]
            assert not the.link.touched
            codec.apply([[number, ["bridge", False, told]]])
            assert the.link.touched
        finally:
            with_hook.remove()
            bridge.blocks[0]._forward_hooks.clear()


@pytest.mark.parametrize("lent", [lambda seen: seen.append, lambda seen: lambda x, seen=seen: seen.append(x)])
def test_what_would_be_written_unseen_is_not_lent(lent, learners):
    with learners("def f(g):\n    g(1)") as the, pytest.raises(Lost, match="not seen here"):
        the.f(lent([]))


def test_a_hook_that_stays_behind_is_seen_here(learners):
    with learners("def f(layer):\n    layer.register_forward_hook(print)") as the:
        layer = torch.nn.Tanh()
        the.f(layer)
        assert len([*layer._forward_hooks]) == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.bool, torch.int8, torch.complex64])
def test_a_tensor_crosses_as_it_is(dtype, learners):
    with learners("def f(x):\n    return x.clone(), x.stride(), x") as the:
        for x in (torch.ones(3, 4, dtype=dtype).t(), torch.ones((), dtype=dtype), torch.ones(0, 2, dtype=dtype)):
            copy, strides, same = the.f(x)
            assert torch.equal(copy, x) and copy.dtype == dtype and strides == x.stride() and same is x
        expanded = torch.ones(3, 1, dtype=dtype).expand(3, 5)
        assert the.f(expanded)[1] == (1, 0)


def test_gradients_are_computed_over_there(learners):
    with learners("def f(x, w):\n    return (x * w).exp(), x.detach()") as the:
        x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
        w = (2 * x).requires_grad_()
        out, detached = the.f(x, w)
        assert out.requires_grad and not detached.requires_grad
        (found,) = torch.autograd.grad(out.sum(), x)
        (right,) = torch.autograd.grad((x * (2 * x)).exp().sum(), x)
        assert torch.allclose(found, right)


def test_what_is_set_for_the_whole_process_is_seen_here(learners):
    code = "import torch, random\ndef f():\n    random.random()\n    return torch.rand(3)\n"
    code += "def g():\n    torch.set_grad_enabled(False)"
    with learners(code) as the:
        torch.manual_seed(3)
        first = the.f()
        after = torch.get_rng_state()
        torch.manual_seed(3)
        assert torch.equal(first, torch.rand(3)) and torch.equal(after, torch.get_rng_state())
        try:
            the.g()
            assert not torch.is_grad_enabled()
        finally:
            torch.set_grad_enabled(True)


def test_an_error_says_where_it_was(learners):
    code = "import einops, torch\ndef f():\n    raise KeyError('a')\n"
    code += "def g():\n    einops.rearrange(torch.zeros(2), 'a b -> a')"
    with learners(code) as the:
        with pytest.raises(KeyError) as caught:
            the.f()
        assert caught.value.args == ("a",)
        assert caught.value._learners_place == ("x.ipynb, cell answer", 3)
        with pytest.raises(Exception) as caught:
            the.g()
        assert caught.type.__name__ == "EinopsError"


OBJECTS = """
class Thing:
    def __init__(self, value):
        self.value, self.parts = value, [value]
    def __add__(self, other):
        return Thing(self.value + other.value)
    def double(self):
        self.value = 2 * self.value
        return self
def f(thing):
    thing.parts.append(thing)
    return type(thing) is Thing
"""


def test_objects_live_over_there_and_their_fields_are_seen_here(learners):
    with learners(OBJECTS) as the:
        one = the.Thing(torch.tensor(1.0))
        assert isinstance(one + one, the.Thing) and (one + one).value == 2
        assert one.double() is one and one.value == 2
        one.value = torch.tensor(7.0)
        assert one.double().value == 14
        assert the.f(one) is True and one.parts[1] is one


def test_a_class_under_another_name_is_the_exercise_s_own(learners):
    """`Thing = Mine`, as learners write who keep two versions."""
    notebook = types.SimpleNamespace(exercises=("Thing",), path=Path("x.ipynb"))
    with learners(OBJECTS.replace("Thing", "Mine") + "Thing = Mine") as the:
        one = the.link.objects(notebook).namespace["Thing"](torch.tensor(1.0))
        assert one.value == 1 and one.double().value == 2 and (one + one).value == 4


def test_what_counts_and_what_has_defaults_comes_back_too(learners):
    """Also where only a function that is lent holds it."""
    with learners(
        "def f(counter, table, look):\n    counter['a'] += 2\n    table['b'].append(1)\n    look('c')"
    ) as the:
        counter, table, seen = collections.Counter("a"), collections.defaultdict(list), collections.Counter()

        def look(what):
            seen[what] += 1

        the.f(counter, table, look)
        assert (counter["a"], table["b"], seen["c"]) == (3, [1], 1)
        assert the.link.touched == {"Counter", "defaultdict"}


def test_what_would_not_be_seen_here_is_not_asked(learners):
    """A wrong verdict is worse than none: the exercise is then graded with its check beside it."""

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            return function(*args, **(kwargs or {}))

    saved = torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)
    for watch in (Watch(), saved, forward_ad.dual_level()):
        with learners("def f(x):\n    return x") as the, watch, pytest.raises(Lost, match="watches"):
            the.f(1)
    with learners("def f(x):\n    return x") as the, pytest.raises(Lost, match="cannot be lent"):
        the.f(collections.deque())


# ---- hostile words

HOSTILE = [
    ["name", "os:system"],
    ["pickle", 3, [0, 4]],
    ["function", 2, "f"],
    ["function", 4, "f"],
    ["function", "3", "f"],
    ["source", 3, "x", ["import os"], "os"],
    ["n", 10**9],
    ["n", "2"],
    ["n", None],
    ["list", 4, []],
    ["list", None, 5],
    ["dict", None, [[["list", None, []], 1]]],
    ["dict", None, [1]],
    ["thing", 3, ["path", "subprocess:Popen"], ["state", []]],
    ["thing", 3, ["path", "concrete_steps.grading.box:Box"], ["state", []]],
    ["thing", 3, ["path", "torch.nn.modules.linear:Linear.__init__"], ["state", []]],
    ["thing", 3, ["path", "torch.nn.modules.linear:Linear"], ["state", [["__class__", 1]]]],
    ["thing", 3, ["name", "os:system"], None],
    ["class", 3, []],
    ["record", ["path", "os:system"], []],
    ["record", ["fields", "x", 3], []],
    ["checks", "/etc/passwd", "x"],
    ["part", 3, "x"],
    ["cell", 3, True, 5],
    ["tensor", 3, {"dtype": "float32", "shape": [10**12], "stride": [0]}, [0, 4], None],
    ["tensor", 3, {"dtype": "float32", "shape": [2], "stride": [1]}, [0, 4], None],
    ["tensor", 3, {"dtype": "float32", "shape": [2], "stride": [-1]}, [0, 4], None],
    ["tensor", 3, {"dtype": "float32", "shape": [-1], "stride": [1]}, [0, 4], None],
    ["tensor", 3, {"dtype": "qint8", "shape": [1], "stride": [1]}, [0, 4], None],
    ["tensor", 2, {"dtype": "float32", "shape": [1], "stride": [1]}, [0, 4], None],
    ["tensor", 3, {"dtype": "float32", "shape": [1], "stride": [1]}, [-4, 4], None],
    ["tensor", 3, {"dtype": "float32", "shape": [1], "stride": [1]}, [2**70, 4], None],
    ["tensor", 3, {"dtype": "float32", "shape": [True], "stride": [1]}, [0, 4], None],
    ["tensor", 3, 5, [0, 4], None],
    ["array", {"dtype": "|O", "shape": [1]}, [0, 4]],
    ["array", {"dtype": "<f4", "shape": [5]}, [0, 4]],
    ["generator", 3, [0, 4]],
    ["float"],
    ["complex", "a", "b"],
    ["slice", 1, 2, 3, 4],
    ["range", "a", 1, 1],
    ["bytes", [0, 5]],
    ["dtype", "float7"],
    ["device", "no such"],
    ["size", ["a"]],
    [[], []],
    {"a": 1},
    [],
    ["__init__", 3],
]


@pytest.mark.parametrize("node", HOSTILE, ids=lambda node: json.dumps(node)[:60])
def test_a_hostile_word_ends_the_line_and_no_more(node, other_process):
    def lie(wire: Wire) -> None:
        while True:
            wire.receive()
            wire.send({"changes": [], "settings": {}, "gone": [], "result": node}, [b"\x80\x04K."])

    with other_process(lie) as wire:
        link = Link(wire)
        with pytest.raises(Lost):
            link.ask({"do": "anything"})
        with pytest.raises(Lost):
            link.ask({"do": "anything"})


@pytest.mark.parametrize(
    "text", [b"[", b"[" * 10**5, b"5", b'{"changes": 5}', b"{}", b'"x"', b'{"changes":[[2,["tensor"]]],"gone":["a"]}']
)
def test_a_hostile_message_ends_the_line_and_no_more(text, other_process):
    def lie(wire: Wire) -> None:
        wire.receive()
        os.write(wire.writing, HEAD.pack(len(text), 0) + text)
        wire.receive()

    with other_process(lie) as wire, pytest.raises(Lost):
        Link(wire).ask({"do": "anything"})


def test_a_message_without_end_is_not_read(other_process):
    def lie(wire: Wire) -> None:
        wire.receive()
        os.write(wire.writing, HEAD.pack(2**50, 2**50))
        wire.receive()

    with other_process(lie) as wire, pytest.raises(Lost):
        Link(wire).ask({"do": "anything"})


def test_nonsense_is_a_value_error():
    assert issubclass(Nonsense, ValueError)
