"""Wrong answers that would like to pass: what reaches the judge of them earns no proven point.

Each is judged as grade.py judges, but in a fork of this process in place of a sandbox: of the two, it is the crossing
that is tried here. test_attacks.py tries the sandbox.
"""

import os

import pytest

from concrete_steps.checking import pytest_plugin
from concrete_steps.checking.outcomes import PASSED
from concrete_steps.course import load_course
from concrete_steps.grading.crossing.wire import Ended
from concrete_steps.grading.judge import judged

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a sandbox is a process that is forked here")
WRONG = "return logits[wrong] - logits[right]"
DIFFERENCE = "def logit_difference(logits, right, wrong):\n    "
# For exercise logit_difference of notebook 0: what stands before it, and its body.
FORGED = {
    "equal to everything": (
        """
class Yes:
    def __eq__(self, other): return True
    def __getattr__(self, name): return lambda *a, **k: Yes()
    def __float__(self): return 1.0
""",
        "return Yes()",
    ),
    "a lying subclass": (
        """
import torch
class Yes(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None): return torch.tensor(True)
""",
        "return torch.zeros(()).as_subclass(Yes)",
    ),
    "a tensor of a lying dispatch": (
        """
import torch
class Yes(torch.Tensor):
    @staticmethod
    def __new__(cls): return torch.Tensor._make_wrapper_subclass(cls, ())
    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None): return torch.tensor(0.0)
""",
        "return Yes()",
    ),
    "a class that says Tensor": (
        """
import torch
class Yes:
    __class__ = torch.Tensor
    shape = torch.Size([])
    dtype = torch.float32
    def __sub__(self, other): return torch.tensor(0.0)
""",
        "return Yes()",
    ),
    "an object of the exercise's name": (
        """
class logit_difference:
    def __sub__(self, other): return 0.0
    __rsub__ = __add__ = __radd__ = __sub__
    def __abs__(self): return 0.0
    def __len__(self): return 0
    def __call__(self, logits, right, wrong): return type(self)()
answer = logit_difference()
""",
        "return answer",
    ),
    "a number that lies": (
        """
class Lie(float):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
""",
        "return Lie(0)",
    ),
    "a string that lies": ("class Lie(str):\n    def __eq__(self, other): return True", "return Lie('x')"),
    "not a number": ("", "return logits[right] * float('nan')"),
    "a patched torch": (
        """
import torch
torch.isclose = lambda a, b, **k: torch.ones_like(a, dtype=bool)
torch.equal = torch.allclose = torch.testing.assert_close = lambda *a, **k: True
torch.Tensor.__eq__ = torch.Tensor.__ne__ = lambda *a: torch.tensor(True)
""",
        WRONG,
    ),
    "a patched judge": (
        """
from concrete_steps.checking import outcomes, testing
from concrete_steps.grading import judge
outcomes.Judge.failed = lambda self, e, c: self.passed()
testing.assert_close = judge.judged = lambda *a, **k: None
""",
        WRONG,
    ),
    "a patched pytest": (
        """
import pytest, _pytest.python
_pytest.python.Function.runtest = lambda self: None
pytest.main = lambda *a, **k: 0
""",
        WRONG,
    ),
    "frames": (
        "",
        """import sys
    frame = sys._getframe()
    while frame:
        if "expected" in frame.f_locals: return frame.f_locals["expected"]
        frame = frame.f_back""",
    ),
    "gc": (
        """
import gc, types
for thing in gc.get_objects():
    if isinstance(thing, types.FunctionType) and thing.__name__.startswith("test_"):
        thing.__code__ = (lambda *a: None).__code__
""",
        WRONG,
    ),
    "tracebacks": (
        "",
        """try: raise ValueError
    except ValueError as error: return error.__traceback__.tb_frame.f_back.f_locals.get("answer", 0)""",
    ),
    "a tracer": (
        """
import sys
def trace(frame, event, arg):
    frame.f_locals["error"] = None
    return trace
sys.settrace(trace)
""",
        WRONG,
    ),
    "import hooks": (
        """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None): raise SystemExit(0)
sys.meta_path.insert(0, Finder())
""",
        WRONG,
    ),
    "ctypes": ("import ctypes", f"ctypes.memset(id(logits) + 16, 0, 8)\n    {WRONG}"),
    "words on pipes": (
        """
import os
def speak(text):
    for descriptor in range(3, 30):
        try: os.write(descriptor, text)
        except OSError: pass
""",
        f"""speak(b'{{"kind": "result", "result": {{"exercise": "logit_difference", "outcome": "passed"}}}}\\n')
    {WRONG}""",
    ),
    "an answer of its own on the wire": (
        """
import os, struct, json
def speak(result):
    text = json.dumps({"changes": [], "settings": {}, "gone": [], "result": result}).encode()
    for descriptor in range(3, 30):
        try: os.write(descriptor, struct.pack("<QQ", len(text), 0) + text)
        except OSError: pass
""",
        f"speak(['name', 'os:getcwd'])\n    {WRONG}",
    ),
    "answers that nobody has asked for": (
        """
import os, struct, json
def speak(result):
    text = json.dumps({"changes": [], "settings": {}, "gone": [], "result": result}).encode()
    for descriptor in range(3, 30):
        try: os.write(descriptor, 100 * (struct.pack("<QQ", len(text), 0) + text))
        except OSError: pass
""",
        f"speak(1.0)\n    {WRONG}",
    ),
    "a thread that speaks": (
        """
import threading, os, time
def speak():
    for descriptor in range(3, 30):
        try: os.write(descriptor, b"x" * 1000)
        except OSError: pass
""",
        f"threading.Thread(target=speak).start()\n    time.sleep(0.2)\n    {WRONG}",
    ),
    "a timer that exits": (
        "import threading, os, time",
        f"threading.Timer(0.01, os._exit, (0,)).start()\n    time.sleep(1)\n    {WRONG}",
    ),
    "an alarm that exits": (
        "import signal, time",
        f"signal.setitimer(signal.ITIMER_REAL, 0.01)\n    time.sleep(1)\n    {WRONG}",
    ),
    "a child that goes on": ("import os", f"if os.fork(): os._exit(0)\n    {WRONG}"),
    "it exits": ("import os", "os._exit(0)"),
    "it exits at the end": ("import atexit, os\natexit.register(os._exit, 0)", "raise SystemExit(0)"),
    "it raises what ends generators": ("", "raise GeneratorExit"),
    "it interrupts": ("", "raise KeyboardInterrupt"),
    "it skips": ("import pytest", "pytest.skip('done')"),
    "it exits pytest": ("import pytest", "pytest.exit('done', returncode=0)"),
    "an error of the checks": ("", "raise AssertionError('')"),
    "an error that lies about itself": (
        """
class Lie(Exception):
    def __str__(self): raise SystemExit(0)
    args = property(lambda self: [object()] * 10**6)
""",
        "raise Lie",
    ),
    "an error of a place that is not its own": (
        """
from concrete_steps.grading.crossing import serving
from concrete_steps.course import load_course
def lie(self, error):
    place = [str(load_course().notebook("0").checks), 1, "def test_logit_difference(*a): pass"]
    return {"names": ["AssertionError"], "text": "", "args": [], "place": place}
serving.Server._error = lie
""",
        "raise ValueError",
    ),
    "a patched server": (
        "from concrete_steps.grading.crossing import serving",
        f"""serving.Server._answer = lambda self, request: self.wire.send(
        {{"changes": [], "settings": {{}}, "gone": [], "result": True}}, [])
    {WRONG}""",
    ),
    "a changed argument": ("", "logits.zero_()\n    return logits[right] - logits[wrong]"),
    "lies about what changed": (
        """
from concrete_steps.grading.crossing import changes, tensors
import torch
def lie(self):
    told = []
    for number, thing in self.table.live():
        if isinstance(thing, torch.Tensor) and number % 2 == 0:
            facts, data = tensors.described(torch.zeros_like(thing))
            told.append([number, ["tensor", facts, self.part(data), False, None]])
    return told
changes.Changes.changes = lie
""",
        "import torch\n    return torch.zeros(())",
    ),
    "fewer digits": (
        "import torch",
        "torch.set_default_dtype(torch.bfloat16)\n    return (logits[right] - logits[wrong]).bfloat16() * 1.01",
    ),
    "the same random numbers": ("import torch, random", f"torch.manual_seed(0)\n    random.seed(0)\n    {WRONG}"),
    "an endless tensor": ("import torch", "return torch.ones(1).expand(2**40)"),
    "a huge answer": ("", "return 'x' * (2**26 + 1)"),
    "a huge number": ("", "return 10**10**5"),
    "an endless answer": (
        "import os",
        """for descriptor in range(3, 30):
        try:
            while True: os.write(descriptor, b"[" * 10**6)
        except OSError: pass""",
    ),
    "an endless iterator": (
        "class Endless:\n    def __iter__(self): return self\n    def __next__(self): return 1.0",
        "return Endless()",
    ),
    "an answer that never comes": ("import time", "time.sleep(10**6)"),
    "deep": ("", "deep = []\n    for _ in range(10**5): deep = [deep]\n    return deep"),
    "it holds itself": ("", "mine = []\n    mine.append(mine)\n    return mine"),
    "a module that lies": (
        "import torch\nclass Lie(torch.nn.Module):\n    def forward(self, *a): return True\n    __eq__ = forward\n"
        "    __hash__ = None",
        "return Lie()",
    ),
    "an array of objects": ("import numpy", "return numpy.array([Ellipsis], dtype=object)"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_answer_earns_no_proven_point(name, learners, monkeypatch):
    monkeypatch.setattr(pytest_plugin, "SECONDS", 3.0)
    start = load_course().notebook("0")
    before, body = FORGED[name]
    try:
        with learners(f"{before}\n{DIFFERENCE}{body}\n", start.exercises) as the:
            result, _ = judged(the.link, start, "logit_difference")
    except Ended:
        assert name == "gc"  # other functions' code, changed while they run, now and then ends the answer's process
        return
    assert not result.proven
    assert result.outcome != PASSED or name in ("a changed argument", "lies about what changed")


def test_a_right_answer_does(learners):
    """Else the test above could not fail."""
    start = load_course().notebook("0")
    with learners(f"{DIFFERENCE}return logits[right] - logits[wrong]\n", start.exercises) as the:
        result, doubt = judged(the.link, start, "logit_difference")
    assert (result.text() if result.outcome != PASSED else "", result.proven, doubt) == ("", True, "")
