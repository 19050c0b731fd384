"""A check in one process, the answer that it checks in another: what crosses, and what hostile words come to."""

import json
import os
import sys
import traceback
from contextlib import contextmanager

import pytest
import torch

from concrete_steps.checking.checks import run_checks
from concrete_steps.checking.loader import Loaded
from concrete_steps.checking.outcomes import PASSED
from concrete_steps.course import load_course
from concrete_steps.grading.crossing.link import Link
from concrete_steps.grading.crossing.serving import Server
from concrete_steps.grading.crossing.tensors import Nonsense
from concrete_steps.grading.crossing.wire import HEAD, Lost, Wire

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a sandbox is a process that is forked here")
START = load_course().notebook("0")


@contextmanager
def other_process(work):
    """A wire to a process that does `work(wire)`."""
    here, out = os.pipe()
    back, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(out), os.close(back)
            work(Wire(here, there))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(here), os.close(there)
    try:
        yield Wire(back, out)
    finally:
        os.close(out), os.close(back)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


@contextmanager
def learners(code: str, classes: tuple[str, ...] = ()):
    """Stand-ins for what the code defines, which runs in another process."""

    def serve(wire: Wire) -> None:
        module = type(sys)("__main__")
        exec(compile(code, "x.ipynb, cell answer", "exec"), module.__dict__)
        Server(wire, Loaded(START.path, module.__dict__)).serve()

    with other_process(serve) as wire:
        link = Link(wire, frozenset(classes))
        names = [node for node in ("f", "g", "Thing", "logit_difference") if node in code]
        found, _, _ = link.ask({"do": "names", "names": names})
        yield type("Objects", (), {**found, "link": link})


def test_arguments_come_back_as_they_were_left():
    with learners(
        "def f(x, numbers, d):\n    x += 1\n    numbers.append(x)\n    d['k'][0] = 5\n    return numbers"
    ) as the:
        x, numbers, inner = torch.zeros(2, 3).t(), [1], [0, 1]
        result = the.f(x, numbers, {"k": inner})
        assert x.tolist() == [[1.0, 1.0]] * 3
        assert result is numbers and numbers[1] is x and inner == [5, 1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.bool, torch.int8, torch.complex64])
def test_a_tensor_crosses_as_it_is(dtype):
    with learners("def f(x):\n    return x.clone(), x.stride(), x") as the:
        for x in (torch.ones(3, 4, dtype=dtype).t(), torch.ones((), dtype=dtype), torch.ones(0, 2, dtype=dtype)):
            copy, strides, same = the.f(x)
            assert torch.equal(copy, x) and copy.dtype == dtype and strides == x.stride() and same is x
        expanded = torch.ones(3, 1, dtype=dtype).expand(3, 5)
        assert the.f(expanded)[1] == (1, 0)


def test_gradients_are_computed_over_there():
    with learners("def f(x, w):\n    return (x * w).exp(), x.detach()") as the:
        x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
        w = (2 * x).requires_grad_()
        out, detached = the.f(x, w)
        assert out.requires_grad and not detached.requires_grad
        (found,) = torch.autograd.grad(out.sum(), x)
        (right,) = torch.autograd.grad((x * (2 * x)).exp().sum(), x)
        assert torch.allclose(found, right)


def test_what_is_set_for_the_whole_process_is_seen_here():
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


def test_an_error_says_where_it_was():
    with learners(
        "def f():\n    raise KeyError('a')\ndef g():\n    import einops\n    einops.rearrange(__import__('torch').zeros(2), 'a b -> a')"
    ) as the:
        with pytest.raises(KeyError) as caught:
            the.f()
        assert caught.value.args == ("a",)
        assert caught.value._learners_place == ("x.ipynb, cell answer", 2)
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


def test_objects_live_over_there_and_their_fields_are_seen_here():
    with learners(OBJECTS, ("Thing",)) as the:
        one = the.Thing(torch.tensor(1.0))
        assert isinstance(one + one, the.Thing) and (one + one).value == 2
        assert one.double() is one and one.value == 2
        one.value = torch.tensor(7.0)
        assert one.double().value == 14
        assert the.f(one) is True and one.parts[1] is one


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
def test_a_hostile_word_ends_the_line_and_no_more(node):
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
def test_a_hostile_message_ends_the_line_and_no_more(text):
    def lie(wire: Wire) -> None:
        wire.receive()
        os.write(wire.writing, HEAD.pack(len(text), 0) + text)
        wire.receive()

    with other_process(lie) as wire, pytest.raises(Lost):
        Link(wire).ask({"do": "anything"})


def test_a_message_without_end_is_not_read():
    def lie(wire: Wire) -> None:
        wire.receive()
        os.write(wire.writing, HEAD.pack(2**50, 2**50))
        wire.receive()

    with other_process(lie) as wire, pytest.raises(Lost):
        Link(wire).ask({"do": "anything"})


# Each is an answer that is wrong and would like to pass.
FORGED = {
    "equal to everything": "class Yes:\n    def __eq__(self, other): return True\n    def __getattr__(self, name): "
    "return lambda *a, **k: Yes()\n    def __float__(self): return 1.0\ndef logit_difference(l, r, w): return Yes()",
    "a lying subclass": "import torch\nclass Yes(torch.Tensor):\n    @classmethod\n    def __torch_function__(cls, f, t, "
    "a=(), k=None): return torch.tensor(True)\ndef logit_difference(l, r, w): return torch.zeros(()).as_subclass(Yes)",
    "a class that says Tensor": "import torch\nclass Yes:\n    __class__ = torch.Tensor\n    shape = torch.Size([])\n"
    "    dtype = torch.float32\n    def __sub__(self, other): return torch.tensor(0.)\n"
    "def logit_difference(l, r, w): return Yes()",
    "a patched torch": "import torch\ntorch.isclose = lambda a, b, **k: torch.ones_like(a, dtype=bool)\n"
    "torch.equal = torch.allclose = lambda *a, **k: True\ndef logit_difference(l, r, w): return l[w] - l[r]",
    "a patched judge": "from concrete_steps.checking import outcomes, testing\n"
    "outcomes.Judge.failed = lambda self, e, c: self.passed()\ntesting.assert_close = lambda *a, **k: None\n"
    "def logit_difference(l, r, w): return l[w] - l[r]",
    "a patched pytest": "import pytest, _pytest.python\n_pytest.python.Function.runtest = lambda self: None\n"
    "pytest.main = lambda *a, **k: 0\ndef logit_difference(l, r, w): return l[w] - l[r]",
    "frames": "import sys\ndef logit_difference(l, r, w):\n    frame = sys._getframe()\n    while frame:\n"
    "        if 'expected' in frame.f_locals: return frame.f_locals['expected']\n        frame = frame.f_back\n",
    "gc": "import gc, torch\ndef logit_difference(l, r, w):\n    for o in gc.get_objects():\n"
    "        if getattr(o, '__name__', '') == 'test_logit_difference': o.__code__ = (lambda *a: None).__code__\n"
    "    return l[w] - l[r]",
    "tracebacks": "def logit_difference(l, r, w):\n    try: raise ValueError\n    except ValueError as e:\n"
    "        return e.__traceback__.tb_frame.f_back.f_locals.get('answer', 0)",
    "import hooks": "import sys\nclass Finder:\n    def find_spec(self, name, path=None, target=None): raise SystemExit(0)\n"
    "sys.meta_path.insert(0, Finder())\ndef logit_difference(l, r, w): return l[w] - l[r]",
    "ctypes": "import ctypes\ndef logit_difference(l, r, w):\n    ctypes.memset(id(l) + 16, 0, 8)\n    return l[w] - l[r]",
    "words on pipes": "import os\ndef logit_difference(l, r, w):\n    for fd in range(3, 30):\n        try:\n"
    '            os.write(fd, b\'{"kind": "result", "result": {"outcome": "passed"}}\\n\')\n'
    "        except OSError: pass\n    return l[w] - l[r]",
    "an answer of its own on the wire": "import os, struct, json\ndef logit_difference(l, r, w):\n"
    "    text = json.dumps({'changes': [], 'settings': {}, 'gone': [], 'result': ['name', 'os:getcwd']}).encode()\n"
    "    for fd in range(3, 30):\n        try: os.write(fd, struct.pack('<QQ', len(text), 0) + text)\n"
    "        except OSError: pass\n    return l[w] - l[r]",
    "a thread that speaks": "import threading, os, time\ndef logit_difference(l, r, w):\n    def speak():\n"
    "        for fd in range(3, 30):\n            try: os.write(fd, b'x' * 1000)\n            except OSError: pass\n"
    "    threading.Thread(target=speak).start()\n    time.sleep(0.2)\n    return l[w] - l[r]",
    "a timer that exits": "import threading, os, time\ndef logit_difference(l, r, w):\n"
    "    threading.Timer(0.01, os._exit, (0,)).start()\n    time.sleep(1)\n    return l[w] - l[r]",
    "it exits": "import os\ndef logit_difference(l, r, w): os._exit(0)",
    "it raises the end": "def logit_difference(l, r, w): raise SystemExit(0)",
    "it skips": "import pytest\ndef logit_difference(l, r, w): pytest.skip('done')",
    "it exits pytest": "import pytest\ndef logit_difference(l, r, w): pytest.exit('done', returncode=0)",
    "a patched server": "from concrete_steps.grading.crossing import serving\ndef logit_difference(l, r, w):\n"
    "    serving.Server._answer = lambda self, request: self.wire.send({'changes': [], 'settings': {}, 'gone': [], "
    "'result': True}, [])\n    return l[w] - l[r]",
    "a changed argument": "def logit_difference(l, r, w):\n    l.zero_()\n    return l[r] - l[w]",
    "an error of the checks": "def logit_difference(l, r, w): raise AssertionError('')",
    "an endless tensor": "import torch\ndef logit_difference(l, r, w): return torch.ones(1).expand(2**40)",
    "deep": "def logit_difference(l, r, w):\n    x = []\n    for _ in range(10**5): x = [x]\n    return x",
    "a number that lies": "class F(float):\n    def __eq__(self, o): return True\n    def __sub__(self, o): return 0.0\n"
    "def logit_difference(l, r, w): return F(0)",
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_answer_does_not_pass(name):
    with learners(FORGED[name], ("logit_difference",)) as the:
        loaded = Loaded(START.path, {"logit_difference": the.logit_difference})
        result = run_checks(START, ("logit_difference",), loaded)["logit_difference"]
        assert result.outcome != PASSED or the.link.lost


def test_nonsense_is_a_value_error():
    assert issubclass(Nonsense, ValueError)
