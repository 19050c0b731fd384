"""A check here, the answer that it checks in a sandbox: calls and plain values cross between the two processes.

Both hold twins of each object that they share (a tensor, a module, an instance). Before control crosses, the side that
has it tells what changed in them: so arguments come back as the learner left them. The judge runs nothing that comes
from the sandbox: it reads JSON and bytes, within bounds, and makes plain objects of them.
"""
