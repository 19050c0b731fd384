"""Wrong answers to logit_difference of notebook 0 that would like to pass: what stands before it, and its body.

They go on from test_forged.py. test_tricks.py tries each by itself, test_class.py hands them all in.
"""

WRONG = "return logits[wrong] - logits[right]"
TRICKS = {
    "right for the first call": (
        "calls = []",
        "calls.append(1)\n    return (logits[right] - logits[wrong]) * (1 if len(calls) == 1 else -1)",
    ),
    "right every other call": (
        "import itertools\nsign = itertools.cycle([1, -1])",
        "return next(sign) * (logits[right] - logits[wrong])",
    ),
    "right as often as the check once asked": (
        "calls = []",
        "calls.append(1)\n    return (logits[right] - logits[wrong]) * (1 if len(calls) < 9 else 0)",
    ),
    "a tensor whose class was changed": (
        """
import torch
class Lie(torch.Tensor):
    def __sub__(self, other): return torch.zeros(())
    __rsub__ = __mul__ = __rmul__ = __sub__
    def __eq__(self, other): return torch.tensor(True)
    __hash__ = None
""",
        "x = torch.zeros(())\n    x.__class__ = Lie\n    return x",
    ),
    "a class that says what it is to whoever asks": (
        """
import torch
class Meta(type):
    def __instancecheck__(cls, one): return True
    def __subclasscheck__(cls, one): return True
    __eq__ = __instancecheck__
    __hash__ = type.__hash__
class Yes(metaclass=Meta):
    __class__ = property(lambda self: torch.Tensor)
""",
        "return Yes()",
    ),
    "an array, an index and a number at once": (
        """
import numpy
class Yes:
    def __array__(self, *a, **k): return numpy.zeros(())
    def __index__(self): return 0
    def __len__(self): return 0
    def __float__(self): return 0.0
    __int__ = __index__
    __array_priority__ = 10**6
""",
        "return Yes()",
    ),
    "a module with a tensor's methods for fields": (
        "import torch",
        """m = torch.nn.Identity()
    for name in ("detach", "cpu", "abs", "max", "sum", "mean", "all", "any", "item", "double", "flatten"):
        setattr(m, name, lambda *a, **k: torch.zeros(()))
    m.shape, m.dtype, m.ndim = torch.Size([]), torch.float32, 0
    return m""",
    ),
    "a dataclass with a tensor's fields": (
        """
import dataclasses, torch
@dataclasses.dataclass(eq=False)
class Tensor:
    shape: tuple = ()
    dtype: object = torch.float32
    def __eq__(self, other): return True
""",
        "return Tensor()",
    ),
    "a named tuple that is equal to all": (
        "import typing\nclass Pair(typing.NamedTuple):\n    x: float = 0.0\n    def __eq__(self, other): return True",
        "return Pair()",
    ),
    "a truth for a number": ("", "return True"),
    "a tensor without memory": ("import torch", "return torch.empty((), device='meta')"),
    "sparse": ("import torch", "return torch.zeros(1).to_sparse()"),
    "eight bits": ("import torch", "return torch.zeros(()).to(torch.float8_e4m3fn)"),
    "complex": ("", "return (logits[wrong] - logits[right]).to(dtype=__import__('torch').complex64)"),
    "infinite": ("", "return logits[right] * float('inf')"),
    "not a number, by a stride of 0": (
        "import torch",
        "return torch.full((1,), float('nan')).expand(len(logits)).requires_grad_().sum()",
    ),
    "no entries": ("import torch", "return torch.zeros(0)"),
    "a parameter": ("import torch", "return torch.nn.Parameter(torch.zeros(()))"),
    "letters that are none": ("", "return '\\ud800'"),
    "an error of letters that are none": ("", "raise ValueError('\\ud800 \\x00 \\x1b[31m <b onmouseover=alert(1)>')"),
    "keys of every kind": ("", "return {1: 2, None: 3, (1, 2): 4, b'x': 5, float('nan'): 6, True: {}}"),
    "keys that collide": ("", "return {n * (2**61 - 1): 0 for n in range(3000)}"),
    "a pair in a pair": ("", "pair = ()\n    for _ in range(10**5): pair = (pair,)\n    return pair"),
    "an array of records": ("import numpy", "return numpy.zeros(1, dtype=[('a', 'f4'), ('b', 'O')])"),
    "a generator that looks about": (
        "import gc, torch",
        """def look():
        yield from (x for x in gc.get_objects() if isinstance(x, torch.Tensor) and x.ndim == 0)
    return look()""",
    ),
    "what the random numbers would be": (
        "import torch",
        "torch.randint(0, 2**31, (), generator=torch.Generator().manual_seed(torch.initial_seed() % 2**31))\n    "
        "return torch.randn(len(logits))[0]",
    ),
    "numpy's numbers from behind its own": (
        "import numpy",
        f"kind, keys, *_ = numpy.random.get_state()\n    "
        f"numpy.random.set_state((kind, keys, 10**9, 0, 0.0))\n    {WRONG}",
    ),
    "everything elsewhere": ("import torch", f"torch.set_default_device('meta')\n    {WRONG}"),
    "errors of many errors": ("", "raise ExceptionGroup('', [ValueError(), ExceptionGroup('x', [KeyError(1)])])"),
    "an error that says it was skipped": ("import unittest", "raise unittest.SkipTest('done')"),
    "an error that ends iterations": ("", "raise StopIteration(0.0)"),
    "its time is up, it says": ("from concrete_steps.checking.outcomes import TimedOut", "raise TimedOut"),
    "an error called passed": ("class passed(BaseException): outcome = 'passed'", "raise passed"),
    "patched builtins": (
        """
import builtins
def lie(*a, **k): return True
def patch(): builtins.isinstance = builtins.all = builtins.any = builtins.callable = lie
""",
        f"patch()\n    {WRONG}",
    ),
    "a patched json": ("import json", f"json.dumps = lambda *a, **k: '[]'\n    {WRONG}"),
    "a patched wire that says all twice": (
        """
from concrete_steps.grading.crossing.wire import Wire
send = Wire.send
def twice(self, message, parts):
    send(self, message, parts)
    send(self, message, parts)
""",
        f"Wire.send = twice\n    {WRONG}",
    ),
    "names that are none": (
        """
from concrete_steps.grading.crossing.serving import Server
def names(self, *a): return [{"logit_difference": 0.0}, {"logit_difference": ["passed"] * 10**4}, 7]
""",
        f"Server.do_names = names\n    {WRONG}",
    ),
    "changes under numbers that are none": (
        """
from concrete_steps.grading.crossing import changes, tensors
import torch
def lie(self):
    told = []
    for number, thing in self.table.live():
        if isinstance(thing, torch.Tensor) and number % 2 == 0:
            facts, data = tensors.described(torch.zeros_like(thing))
            told.append([float(number), ["tensor", facts, self.part(data), False, None]])
    return told
changes.Changes.changes = lie
""",
        "return logits[right] * 0",
    ),
    "both halves of a fork answer": ("import os", f"os.fork()\n    {WRONG}"),
    "it closes what it was given": ("import os", f"os.closerange(0, 64)\n    {WRONG}"),
    "it turns what it was given around": (
        "import os",
        f"""for one in range(3, 30):
        for other in range(3, 30):
            try: os.dup2(one, other + 100)
            except OSError: pass
    try: os.dup2(0, 5); os.dup2(0, 6)
    except OSError: pass
    {WRONG}""",
    ),
    "a byte a second": (
        "import os, time",
        """while True:
        for descriptor in range(3, 30):
            try: os.write(descriptor, b'\\0')
            except OSError: pass
        time.sleep(1)""",
    ),
    "a fault handler that exits": (
        "import faulthandler, time",
        "faulthandler.dump_traceback_later(0.05, exit=True)\n    time.sleep(2)",
    ),
    "deeper than the stack": (
        "import sys",
        "sys.setrecursionlimit(10**9)\n    import operator\n    f = lambda: operator.call(f)\n    return f()",
    ),
    "what dies with it": (
        "import os\nclass Last:\n    def __del__(self): os._exit(0)",
        f"last = Last()\n    {WRONG}",
    ),
    "a coroutine": ("async def later(x): return x", "return later(logits[right] - logits[wrong])"),
    "the check itself": (
        "from concrete_steps.checking.checks import Check, CheckFailed",
        "return Check.__call__",
    ),
}
