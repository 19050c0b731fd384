"""What every script in scripts/train/ shares: a seeded, resumable loop, and the files that a shipped model consists of.

A training writes data/models/NAME/ with

- `model.safetensors`: the final weights, under the model's own parameter names;
- `checkpoints.safetensors` (optional): weights along the way, as `STEP/parameter name` with STEP in six digits;
- `losses.json`: `{"step": [...], "loss": [...]}`, the loss of the batch of each logged step;
- `datasheet.json`: how to rebuild the model, what it was trained on, what it is claimed to do and how that was
  measured, and the sha256 of the other files. It is sealed: it carries the sha256 of its own contents.

Step k draws its data from `step_generator(seed, k)` alone, so a resumed run sees the same batches as an uninterrupted
one, and the first 300 steps of a long run are the same as a run of 300 steps.
"""

import argparse
import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from torch import Tensor

from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root, data_dir

SECONDS_BETWEEN_SAVES = 60
StateDict = dict[str, Tensor]


@dataclass
class Training:
    """What a run has done so far; exactly what is saved for resuming, apart from the model and the optimiser."""

    steps_done: int = 0
    seconds: float = 0.0
    logged_steps: list[int] = field(default_factory=list)
    logged_losses: list[float] = field(default_factory=list)
    checkpoints: dict[int, StateDict] = field(default_factory=dict)  # step -> the weights after that many updates


def arguments(name: str, steps: int, description: str, argv: list[str] | None = None) -> argparse.Namespace:
    """The options that all training scripts take: --steps, --out, --device, --seed and so on.

    With another --out (a retraining in CI, say) the resume file lies there too, and never mixes with the shipped run's.
    """
    shipped = data_dir() / "models" / name
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--steps", type=int, default=steps, help="optimiser steps (default %(default)s)")
    parser.add_argument("--out", type=Path, default=shipped, help=f"folder to write (default data/models/{name})")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; the shipped models come from the cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--restart", action="store_true", help="forget an earlier run instead of resuming it")
    parser.add_argument("--no-claims", action="store_true", help="measure nothing: only the losses are wanted")
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error("--steps must be 1 or more")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no CUDA device here; leave the option out to train on the CPU")
    args.name = name
    args.cache = course_root() / "work" / "train" / name if args.out == shipped else args.out / "resume"
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    return args


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; what a person can put right is one sentence and exit code 1."""
    try:
        main()
    except CourseError as problem:
        raise SystemExit(str(problem)) from None


def step_generator(seed: int, step: int) -> torch.Generator:
    """A CPU random generator that depends on the seed and the step only: draw the step's batch from it."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def warmup_cosine(step: int, warmup: int, length: int, floor: float = 0.0) -> float:
    """Learning-rate factor: linear from 0 to 1 over `warmup` steps, then a cosine down to `floor` at step `length`.

    `length` is a constant of the recipe, not the steps asked for: a short run must repeat a long one's first steps.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = min((step - warmup) / max(length - warmup, 1), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def train(
    args: argparse.Namespace,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_at: Callable[[int], Tensor],
    *,
    schedule: Callable[[int], float] = lambda step: 1.0,
    checkpoint_steps: Iterable[int] = (),
    log_every: int = 10,
    clip: float | None = None,
) -> Training:
    """Train `model` for `args.steps` steps, going on where an earlier run stopped; return the record of the whole run.

    Args:
        args: from `arguments`.
        loss_at: the scalar loss of step k (0 is the first) on that step's batch; depends on k and the weights only.
        schedule: factor on each parameter group's own learning rate at step k.
        checkpoint_steps: numbers of updates after which a copy of the weights is kept (0 is before the first).
        log_every: log the batch's loss at every such step, and at the last.
        clip: largest norm of the gradient, or None.

    Raises:
        CourseError: the resume file has another seed, is unreadable, or is beyond `args.steps`; the loss is not finite.
    """
    resume_file = args.cache / "resume.pt"
    base_rates = [group["lr"] for group in optimizer.param_groups]
    wanted = set(checkpoint_steps)
    run = Training()
    if args.restart:
        resume_file.unlink(missing_ok=True)
        args.restart = False
    if resume_file.exists():
        run = _resume(resume_file, args, model, optimizer)
    elif 0 in wanted:
        run.checkpoints[0] = _copy(model)

    trainable = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    model.train()
    started, saved_at, seconds_before = time.monotonic(), time.monotonic(), run.seconds
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, TextColumn("loss {task.fields[loss]}")) as progress:
        bar = progress.add_task(args.name, total=args.steps, completed=run.steps_done, loss="")
        for step in range(run.steps_done, args.steps):
            for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
                group["lr"] = rate * schedule(step)
            torch.manual_seed(args.seed * 1_000_003 + step)  # dropout, where there is any
            loss = loss_at(step)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(trainable, clip)
            optimizer.step()

            run.steps_done = step + 1
            if step % log_every == 0 or run.steps_done == args.steps:
                value = loss.item()
                if not math.isfinite(value):
                    raise CourseError(
                        f"{args.name}: the loss is {value} at step {step}; lower the learning rate and use --restart."
                    )
                run.logged_steps.append(step)
                run.logged_losses.append(round(value, 6))
                progress.update(bar, loss=f"{value:.4f}")
            progress.update(bar, completed=run.steps_done)
            if run.steps_done in wanted:
                run.checkpoints[run.steps_done] = _copy(model)
            run.seconds = seconds_before + time.monotonic() - started
            if time.monotonic() - saved_at > SECONDS_BETWEEN_SAVES or run.steps_done == args.steps:
                _save_resume(resume_file, args, model, optimizer, run)
                saved_at = time.monotonic()
                if not progress.console.is_terminal:  # a log file shows no moving bar
                    progress.console.print(
                        f"{args.name}: step {run.steps_done} of {args.steps}, loss {loss.item():.4f}"
                    )
    model.eval()
    return run


def _copy(model: torch.nn.Module) -> StateDict:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _save_resume(path: Path, args, model, optimizer, run: Training) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "seed": args.seed,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "run": vars(run),
    }
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)  # a run killed here leaves no half file


def _resume(path: Path, args, model, optimizer) -> Training:
    try:
        state = torch.load(path, map_location=args.device, weights_only=True)
        run = Training(**state["run"])
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except Exception as problem:
        raise CourseError(
            f"Cannot resume from {path}: {_one_line(problem)}; add --restart to train from the start."
        ) from problem
    if state["seed"] != args.seed:
        raise CourseError(f"{path} is a run with --seed {state['seed']}; use that seed, or add --restart.")
    if run.steps_done > args.steps:
        raise CourseError(
            f"{path} is already at step {run.steps_done}, beyond --steps {args.steps}; add --restart, or another --out."
        )
    return run


def _one_line(problem: BaseException) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(datasheet: Mapping[str, Any]) -> str:
    """The sha256 of a datasheet's contents, without its "seal", that an edited datasheet no longer agrees with."""
    contents = {key: value for key, value in datasheet.items() if key != "seal"}
    return hashlib.sha256(json.dumps(contents, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def machine(device: str) -> str:
    """The machine in words, for a datasheet."""
    chip = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{platform.machine()} CPU"
    software = f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}"
    return f"{chip}, {torch.get_num_threads()} thread(s), {software}"


def claim(
    text: str,
    how: str,
    measured: float,
    control: float,
    control_is: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    key: str | None = None,
) -> dict:
    """One line of a datasheet's "claims": a property, how it was measured, and the same measure on a control.

    `key` is the measure's name in concrete_steps.models.measures, where it has one.
    """
    bound = {"at_least": at_least} if at_least is not None else {"at_most": at_most}
    numbers = {"measured": round(float(measured), 4), "control": round(float(control), 4)}
    return {"property": text, "key": key, "how": how, **numbers, "control_is": control_is, **bound}


def write_model(
    args: argparse.Namespace,
    run: Training,
    final: Mapping[str, Tensor],
    datasheet: Mapping[str, Any],
    *,
    checkpoint_dtype: torch.dtype = torch.float16,
) -> None:
    """Write the four files of a shipped model into `args.out`.

    `datasheet` gives at least: architecture (a dict), data, licence, circuit, claims (a list of `claim`s). Name, steps,
    seed, wall time, machine, final loss (mean over the last 5 % of logged steps), checksums and seal are added here.
    `run.checkpoints` are stored in `checkpoint_dtype`.
    """
    missing = {"architecture", "data", "licence", "circuit", "claims"} - datasheet.keys()
    if missing:
        raise CourseError(
            f"The datasheet of {args.name} lacks {', '.join(sorted(missing))}; add it in the training script."
        )
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.detach().cpu().clone().contiguous() for name, tensor in final.items()},
        args.out / "model.safetensors",
    )
    names = ["model.safetensors", "losses.json"]
    if run.checkpoints:
        stored = {
            f"{step:06d}/{name}": tensor.to(checkpoint_dtype).contiguous()
            for step, state in sorted(run.checkpoints.items())
            for name, tensor in state.items()
        }
        save_file(stored, args.out / "checkpoints.safetensors")
        names.append("checkpoints.safetensors")
    for written in args.out.glob("*.safetensors"):
        written.chmod(0o644)  # safetensors leaves them readable by their owner alone
    losses = json.dumps({"step": run.logged_steps, "loss": run.logged_losses})
    (args.out / "losses.json").write_bytes(losses.encode() + b"\n")

    last = run.logged_losses[-max(len(run.logged_losses) // 20, 1) :]
    sheet = {
        "name": args.name,
        **datasheet,
        "steps": run.steps_done,
        "seed": args.seed,
        "wall_seconds": round(run.seconds),
        "machine": machine(args.device),
        "final_loss": round(sum(last) / len(last), 4),
        "made_by": "scripts/train",
        "checkpoints": sorted(run.checkpoints),
        "files": {
            name: {"bytes": (args.out / name).stat().st_size, "sha256": sha256(args.out / name)} for name in names
        },
    }
    sheet = json.loads(json.dumps(sheet))
    sheet["seal"] = seal(sheet)
    (args.out / "datasheet.json").write_bytes(json.dumps(sheet, indent=1).encode() + b"\n")
