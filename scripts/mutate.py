"""Measure the checks with wrong answers that nobody wrote, and whether the written ones are named.

    python scripts/mutate.py                 every notebook
    python scripts/mutate.py 1.1             one notebook
    python scripts/mutate.py 1.1 one_hot     one exercise
    python scripts/mutate.py 1.1 --seeds 20  no mutants: what luck does to answers that were written

A name is what an answer is recognised as; it is false if the mutant that got it does otherwise than the written mistake
on fresh inputs: there must be none.
A survivor is a gap in the check (tighten it), or no wrong answer at all: then say why in a line beside the check,
`# equivalent mutant of EXERCISE, CHANGE: why`, and it is counted apart. It excuses one mutant; with `CHANGE (3x)`
three of that change, while no more of them survive. Of an open task, whose measure is the learner's own choice, CHANGE
is `any`: what finds enough on fresh cases is right. `--write` puts the figures into the README; rows of other notebooks
stay while they have as many exercises and written mistakes.

Checks draw fresh inputs. With `--seeds N` every written answer is put to N draws: a wrong one that some draw accepts
needs a fixed case in the check that rejects it, a right one that some draw refuses needs a wider margin.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from concrete_steps.authoring.build import between, write
from concrete_steps.authoring.mutants import ANY, Mutant, Names, assigned_by, known_equivalents, mutants_of
from concrete_steps.authoring.source import exercise_cells, read_source
from concrete_steps.checking import outcomes, pytest_plugin
from concrete_steps.checking.checks import run_check
from concrete_steps.checking.loader import Loaded, load
from concrete_steps.checking.mistakes import mistakes_of, right_answers_of
from concrete_steps.checking.outcomes import PASSED
from concrete_steps.course import Course, Notebook, load_course
from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root

console = Console()


@dataclass
class Figures:
    """What one exercise's check made of wrong answers."""

    exercise: str
    rejected: int = 0
    equivalent: int = 0
    survivors: list[Mutant] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    mistakes: int = 0
    named: int = 0
    mutants_named: int = 0
    false_names: list[tuple[Mutant, str]] = field(default_factory=list)
    seconds: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", nargs="?", help="id such as 1.1; all of them by default")
    parser.add_argument("exercise", nargs="?", help="one exercise of it")
    parser.add_argument("--write", action="store_true", help="put the figures of the notebooks into the README")
    parser.add_argument("--seeds", type=int, metavar="N", help="put the written answers to N draws; no mutants")
    options = parser.parse_args()
    if not options.seeds:
        pytest_plugin.SECONDS = 20.0  # a mutant that loops for ever is rejected soon, one on a busy machine is not
        outcomes.SECONDS_TO_RECOGNISE = 60.0  # on a busy machine no name may be lost: false ones are counted
    try:
        course = load_course()
        chosen = [course.notebook(options.notebook)] if options.notebook else list(course.notebooks)
        if options.exercise and options.exercise not in chosen[0].exercises:
            raise CourseError(f"{chosen[0].name} has no exercise {options.exercise!r}.")
        parts = {item: (options.exercise,) if options.exercise else item.exercises for item in chosen}
        if options.seeds:
            return int(any([luck(item, names, options.seeds) for item, names in parts.items()]))
        figures = {item: measure(item, names) for item, names in parts.items()}
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    for notebook, rows in figures.items():
        show(notebook, rows)
    if options.write:
        if options.exercise:
            print("--write needs the figures of a whole notebook: leave the exercise away.", file=sys.stderr)
            return 1
        before = (course_root() / "README.md").read_text(encoding="utf-8")
        write(course_root() / "README.md", between("mutants", readme_table(figures, course, before)))
    return int(any(row.false_names for rows in figures.values() for row in rows))


def measure(notebook: Notebook, exercises: tuple[str, ...]) -> list[Figures]:
    """Run every check on every mutant and on every written mistake."""
    loaded = load(course_root() / "solutions" / notebook.path, notebook.exercises)
    cells = exercise_cells(read_source(notebook.source, notebook.exercises))
    equivalents = known_equivalents(notebook.checks)
    rows = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(notebook.name, total=len(exercises))
        for name in exercises:
            progress.update(task, description=f"{notebook.id} {name}")
            rows.append(measure_exercise(notebook, name, cells[name].text, loaded, equivalents))
            details(rows[-1])
            progress.advance(task)
    return rows


def _without_own(text: str, namespace: dict) -> dict:
    """The namespace without the names that the cell gives values to, but those that it takes from other cells."""
    own = assigned_by(text)
    without = {name: value for name, value in namespace.items() if name not in own}
    while True:
        try:
            exec(compile(text, "solution", "exec"), dict(without))
        except NameError as error:
            if error.name in without or error.name not in namespace:
                return namespace
            without[error.name] = namespace[error.name]
        except Exception:  # as where it changes a name of Python's own
            return namespace
        else:
            return without


def measure_exercise(notebook: Notebook, name: str, text: str, loaded: Loaded, equivalents: dict) -> Figures:
    figures, names = Figures(name), Names(notebook, name, loaded)
    start, shared = time.perf_counter(), _without_own(text, loaded.namespace)
    passed: dict[str, list[Mutant]] = {}
    # The answer to a concept question is a letter: its other letters are the written mistakes.
    for mutant in [] if name.startswith("answer_") else mutants_of(name, text):
        namespace = dict(shared)
        try:
            exec(compile(mutant.source, f"mutant of {name}", "exec"), namespace)
            result = run_check(notebook, name, Loaded(loaded.path, namespace))
        except Exception:
            figures.rejected += 1
            continue
        if result.outcome != PASSED:
            figures.rejected += 1
            told = names.given(result)
            figures.mutants_named += bool(told)
            if told and not any(names.is_true(namespace[name], entry) for entry in told):
                figures.false_names.append((mutant, told[0].sentence))
        else:
            passed.setdefault(mutant.change, []).append(mutant)
    for change, mutants in passed.items():
        if (name, ANY) in equivalents or len(mutants) <= equivalents.get((name, change), 0):
            figures.equivalent += len(mutants)
        else:
            figures.survivors += mutants
    for (exercise, change), excused in equivalents.items():
        if exercise == name and change != ANY and (n := len(passed.get(change, []))) < excused:
            figures.unused.append(f"{change}: {excused} excused, {n} passed")
    for mistake in mistakes_of(notebook).get(name, []):
        wrong = {**loaded.namespace, name: mistake.answer(loaded.namespace[name])}
        figures.mistakes += 1
        figures.named += mistake.sentence in run_check(notebook, name, Loaded(loaded.path, wrong)).text()
    figures.seconds = time.perf_counter() - start
    return figures


def luck(notebook: Notebook, exercises: tuple[str, ...], n_seeds: int) -> int:
    """Put the solution, the right styles and the wrong answers to `n_seeds` draws; returns how many depend on one."""
    outcomes.Judge._recognise = lambda *_: ""  # whether it passes is asked here, not what it is
    loaded = load(course_root() / "solutions" / notebook.path, notebook.exercises)
    rows: list[tuple[str, str, str]] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(notebook.name, total=len(exercises))
        for name in exercises:
            progress.update(task, description=f"{notebook.id} {name}")
            right = loaded.namespace[name]
            answers = [("refused", "the solution", right)]
            for fault, written in (("refused", right_answers_of(notebook)), ("accepted", mistakes_of(notebook))):
                answers += [(fault, entry.sentence, entry.answer(right)) for entry in written.get(name, ())]
            for fault, sentence, answer in answers:
                given = Loaded(loaded.path, {**loaded.namespace, name: answer})
                passed = [run_check(notebook, name, given, seed).outcome == PASSED for seed in range(n_seeds)]
                faults = [seed for seed in range(n_seeds) if passed[seed] == (fault == "accepted")]
                if faults:
                    rows.append((name, sentence, f"{fault} on {len(faults)} of {n_seeds}, such as seed {faults[0]}"))
            progress.advance(task)
    table = Table("exercise", "answer", "luck", title=notebook.name)
    for row in rows:
        table.add_row(*row)
    console.print(table if rows else f"{notebook.name}: no written answer depends on the draw, of {n_seeds}.")
    return len(rows)


def share(rows: list[Figures]) -> str:
    rejected, survived = sum(row.rejected for row in rows), sum(len(row.survivors) for row in rows)
    return (
        f"{rejected} of {rejected + survived} ({rejected / (rejected + survived):.1%})"
        if rejected + survived
        else "none"
    )


def named(rows: list[Figures]) -> str:
    return f"{sum(row.named for row in rows)} of {sum(row.mistakes for row in rows)}"


def false_names(rows: list[Figures]) -> str:
    return f"{sum(len(row.false_names) for row in rows)} of {sum(row.mutants_named for row in rows)}"


def show(notebook: Notebook, rows: list[Figures]) -> None:
    columns = "exercise", "mutants rejected", "equivalent", "mistakes named", "false names", "seconds"
    table = Table(*columns, title=notebook.name)
    for name, part in [*((row.exercise, [row]) for row in rows), ("all", rows)]:
        equivalent, seconds = sum(row.equivalent for row in part), sum(row.seconds for row in part)
        table.add_row(name, share(part), str(equivalent), named(part), false_names(part), f"{seconds:.1f}")
    console.print(table)


def details(row: Figures) -> None:
    """What to look into, as soon as the exercise is measured: a whole notebook takes up to an hour."""
    console.print(f"{row.exercise}: {share([row])}, {row.equivalent} equivalent, {row.seconds:.0f} s", highlight=False)
    for mutant in row.survivors:
        console.print(f"{row.exercise} survives: {mutant.change}\n{mutant.diff}\n", markup=False, highlight=False)
    for reason in row.unused:
        console.print(f"{row.exercise} excuses more than passed: {reason}", markup=False, highlight=False)
    for mutant, sentence in row.false_names:
        text = f"{row.exercise} is falsely named: {sentence}\n{mutant.change}\n{mutant.diff}\n"
        console.print(text, markup=False, highlight=False)


HEAD = "| notebook | exercises | unseen mutants rejected | written mistakes named | false names of mutants named |"


def readme_table(figures: dict[Notebook, list[Figures]], course: Course, before: str) -> str:
    """A row for each notebook: measured now, or as it stands while its exercises and written mistakes are as many."""
    kept = before.splitlines() if HEAD in before else []
    lines = [HEAD, "|---|---|---|---|---|"]
    for notebook in course.notebooks:
        start = f"| {notebook.id} {notebook.title} | {len(notebook.exercises)} | "
        if notebook in figures:
            rows = figures[notebook]
            lines.append(f"{start}{share(rows)} | {named(rows)} | {false_names(rows)} |")
        else:
            mistakes = sum(map(len, mistakes_of(notebook).values()))
            old = (line for line in kept if line.startswith(start) and f" of {mistakes} | " in line)
            lines.append(next(old, f"{start}not measured since it changed | | |"))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
