"""A right answer, however it is written, is right three ways: in the kernel, for `pytest`, and when it is graded."""

import json
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import nbformat
from nbclient import NotebookClient

from concrete_steps.checking.outcomes import PASSED
from concrete_steps.course import Notebook, load_course
from concrete_steps.grading import sandbox
from concrete_steps.grading.isolated import grade_notebook
from concrete_steps.paths import course_root

TENSORS = load_course().notebook("1.1")
GPT2 = load_course().notebook("2.3")

MODULE = """\
import torch

def norm(x):
    return x.square().sum(-1).sqrt()
"""

# Right answers of 1.1 by exercise: a list of cells, the last of which is the exercise's own.
QUIRKS = {
    "one_hot": [
        "@torch.compile(backend='eager')\ndef one_hot(tokens, d_vocab):\n"
        "    return torch.eye(d_vocab, device=tokens.device)[tokens]\n"
        "display(one_hot(torch.tensor([[0, 1]]), 2))\nplt.show()"
    ],
    "pairwise_distances": [
        "def pairwise_distances(x, y):\n    import beside_it\n    return beside_it.norm(x[:, None] - y)"
    ],
    "bigram_counts": [
        "import functools\nF = torch.nn.functional\nOPTIONS = dict()\nOPTIONS['dtype'] = torch.float32",
        "def counted(pattern, tokens, d_vocab):\n    pairs = F.one_hot(tokens, d_vocab).to(**OPTIONS)\n"
        "    return torch.einsum(pattern, pairs[:, :-1], pairs[:, 1:])\n"
        "bigram_counts = functools.partial(counted, 'bpi,bpj->ij')",
    ],
    "attention_scores": [
        "def make_scale(power):\n    return power",
        "SCALE = make_scale(0.5)",
        "def attention_scores(q, k):\n    return torch.einsum('bqhd,bkhd->bhqk', q, k) / q.shape[-1] ** SCALE",
    ],
    "split_heads": [
        "split_heads = lambda x, n_heads, group=1: x.unflatten(-1, (n_heads, -1)).repeat_interleave(group, 2)\n"
        "print(split_heads(1 / 0, 2))"
    ],
    "image_to_patches": [
        "from einops.layers.torch import Rearrange",
        "def image_to_patches(image, size):\n"
        "    whole = torch.nn.functional.pad(image, (0, -image.shape[2] % size, 0, -image.shape[1] % size))\n"
        "    return Rearrange('b (r y) (c x) -> b (r c) (y x)', y=size, x=size)(whole)",
    ],
    "mix_values": [
        "merge = torch.nn.Flatten(2)",
        "class Mix:\n    __slots__ = ()\n    def __call__(self, pattern, v, n_kv_heads):\n"
        "        values = split_heads(v, n_kv_heads, pattern.shape[1] // n_kv_heads)\n"
        "        return merge((pattern @ values.transpose(1, 2)).transpose(1, 2))\n",
        "mix_values = Mix()",
    ],
    "causal_mask": [
        "LATER = torch.ones(64, 64, dtype=torch.bool).triu(1)",
        "def causal_mask(scores):\n    later = LATER[: scores.shape[-2], : scores.shape[-1]]\n"
        "    return scores.masked_fill(later.to(scores.device), -torch.inf)\nwhile not causal_mask:\n    pass\n"
        "name = input('your name')\nraise SystemExit",
    ],
    "attention_layer": [
        "class Layer(torch.nn.Module):\n    def forward(self, resid, W_Q, W_K, W_V, W_O, real):\n"
        "        group = len(W_Q) // len(W_K)\n        q = torch.einsum('bpd,hde->bphe', resid, W_Q)\n"
        "        k, v = (torch.einsum('bpd,hde->bphe', resid, W).repeat_interleave(group, 2) for W in (W_K, W_V))\n"
        "        seen = real[:, None, None] & torch.ones(2 * real.shape[1:], device=real.device).bool().tril()\n"
        "        scores = attention_scores(q, k).masked_fill(~seen, -torch.inf)\n"
        "        pattern = scores.softmax(-1).masked_fill(~real[:, None, :, None], 0)\n"
        "        return torch.einsum('bhqk,bkhe,hed->bqd', pattern, v, W_O)\n",
        "attention_layer = Layer()",
    ],
    "gather_log_probs": [
        "import asyncio\nasync def axis():\n    await asyncio.sleep(0)\n    return -1",
        "AXIS = await axis()",
        "def gather_log_probs(logits, tokens):\n"
        "    return logits.log_softmax(AXIS).gather(AXIS, tokens[..., None])[..., 0]\nawait axis()",
    ],
    "sliding_windows": [
        "@torch.compile(backend='eager')\ndef sliding_windows(tokens, size):\n    return tokens.unfold(1, size, 1)"
    ],
    "masked_mean": [
        "try:\n    from nowhere import mean\nexcept ImportError:\n"
        "    def mean(x, mask):\n        return x.masked_fill(~mask, 0).sum(-1) / mask.sum(-1)",
        "with torch.no_grad():\n    masked_mean = mean",
    ],
    "next_token_loss": [
        "if __name__ == '__main__':\n    first = slice(None, -1)\n    rest = slice(1, None)",
        "%time both = first, rest",
        "def next_token_loss(logits, tokens, mask):\n    a, b = both\n"
        "    return masked_mean(-gather_log_probs(logits[:, a], tokens[:, b]), mask[:, b])\n"
        "assert next_token_loss is None",
    ],
}
STATE = """
torch.set_grad_enabled(False)
torch.set_default_dtype(torch.float64)
torch.set_default_device("meta")
torch.manual_seed(0)
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
import random, warnings, numpy
random.seed(0)
numpy.random.seed(0)
numpy.seterr(all="raise")
warnings.simplefilter("error")
import os
os.environ["PYTEST_ADDOPTS"] = "--no-such-option"
os.environ["PYTEST_PLUGINS"] = "no_such_plugin"
"""


def solved(notebook: Notebook, answers: dict[str, list[str]], setup: str = ""):
    """The solutions with other answers, each in cells of its own, and more lines in the set-up cell."""
    nb = nbformat.read(course_root() / "solutions" / notebook.path, as_version=4)
    cells = []
    for cell in nb.cells:
        name = cell.get("id")
        if name == "setup":
            cell.source += setup
        if name in answers:
            *helpers, cell.source = answers[name]
            cells += map(nbformat.v4.new_code_cell, helpers)
        # Experiments take time in a kernel; the loader does not run them anyway.
        wanted = name == "setup" or name in notebook.exercises or re.search(r"\bdef |\bclass |^[A-Z_]+ = ", cell.source)
        if cell.cell_type == "code" and wanted:
            cells.append(cell)
    nb.cells = cells
    return nb


def in_kernel(notebook: Notebook, nb, folder) -> dict[str, str]:
    """Outcomes of `check` in a kernel that ran every cell, failing ones too."""
    ask = (
        "import json\nfound = {}\n"
        f"for name in {notebook.exercises}:\n"
        "    try:\n        check(name)\n        found[name] = 'passed'\n"
        "    except BaseException as error:\n        found[name] = str(error)[:300]\n"
        "print('\\n' + json.dumps(found))"
    )
    asked = nbformat.from_dict({**nb, "cells": [*nb.cells, nbformat.v4.new_code_cell(ask)]})
    NotebookClient(asked, kernel_name="python3", allow_errors=True, timeout=300).execute(cwd=str(folder))
    said = "".join(output.get("text", "") for output in asked.cells[-1].outputs)
    assert said.strip(), asked.cells[-1].outputs
    return json.loads(said.strip().splitlines()[-1])


def in_pytest(notebook: Notebook, folder) -> dict[str, str]:
    """Outcomes of `pytest --of folder`, the worst of each exercise's checks."""
    report = folder / "report.xml"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "concrete_steps.checking.pytest_plugin", "-p", "no:cacheprovider"]
    command += [str(notebook.checks), "--of", str(folder), "--junitxml", str(report)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert report.exists(), done.stderr
    found = dict.fromkeys(notebook.exercises, "no check")
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("name").removeprefix("test_").split("__")[0].split("[")[0]
        bad = next((part.get("message", "")[:300] for part in case), None)
        if bad or found[name] == "no check":
            found[name] = bad or "passed"
    return found


def graded(notebook: Notebook, path) -> dict[str, str]:
    results = grade_notebook(notebook, path, trust=bool(sandbox.why_not()))
    return {name: "passed" if result.outcome == PASSED else result.text()[:300] for name, result in results.items()}


def three_ways(notebook: Notebook, nb, folder, apart: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """What is not passed, in the kernel, by pytest and when graded.

    Graded are only the exercises of `apart`, and the others are not in the notebook then: to show each known wrong
    answer to each check takes a minute.
    """
    (folder / "beside_it.py").write_text(MODULE)
    path = folder / notebook.path.name
    nbformat.write(nb, path)
    ways = {"kernel": in_kernel(notebook, nb, folder), "pytest": in_pytest(notebook, folder)}
    nb.cells = [cell for cell in nb.cells if cell.get("id") in apart or cell.get("id") not in notebook.exercises]
    nbformat.write(nb, path)
    found = graded(notebook, path)
    ways["graded"] = {name: found[name] for name in apart}
    return {way: {name: said for name, said in found.items() if said != "passed"} for way, found in ways.items()}


def test_answers_of_every_shape_one_of_which_leaves_state_behind(tmp_path):
    """What it leaves reaches no other check; and its own may complain about it."""
    leaves = STATE.replace("\n", "\n    ")
    answer = f"def sliding_windows(tokens, size):\n    {leaves}\n    return tokens.unfold(1, size, 1)"
    answers = QUIRKS | {"sliding_windows": [answer]}
    assert answers.keys() <= set(TENSORS.exercises)
    apart = ("one_hot", "pairwise_distances", "bigram_counts", "split_heads", "mix_values", "gather_log_probs")
    found_by_way = three_ways(TENSORS, solved(TENSORS, answers), tmp_path, (*apart, "sliding_windows"))
    for way, found in found_by_way.items():
        assert found.keys() <= {"sliding_windows"}, (way, found)


def test_classes_under_other_names_and_state_that_a_cell_sets(tmp_path):
    source = {cell["id"]: cell["source"] for cell in nbformat.read(course_root() / "solutions" / GPT2.path, 4).cells}
    mine = re.sub(r"\bGPT2\b(?=[(:])", "DemoTransformer", source["GPT2"])
    norm = re.sub(r"\bLayerNorm\b(?=[(:])", "Norm", source["LayerNorm"])
    answers = {"GPT2": [mine, "GPT2 = DemoTransformer"], "LayerNorm": [norm, "LayerNorm = Norm"]}
    ways = three_ways(GPT2, solved(GPT2, answers, STATE), tmp_path, ("LayerNorm", "Embed"))
    assert ways == {"kernel": {}, "pytest": {}, "graded": {}}
