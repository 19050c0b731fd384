"""Where a learner stands, as a table for a terminal and as a picture for a notebook."""

from __future__ import annotations

import html

from concrete_steps.course import Course, Step, load_course
from concrete_steps.standing.others import TWICE, Took, guesses, known
from concrete_steps.standing.placement import skippable
from concrete_steps.standing.where import Standing, next_one

DONE, BEGUN = "#1a7f37", "#bf8700"


def table(all_of_them: list[Standing], course: Course, took: dict[tuple[str, str], Took] | None = None):
    """A rich table, a row for each step and its notebooks; it fits a terminal of 80 columns."""
    from rich.table import Table

    took = known() if took is None else took
    by_id = {item.notebook.id: item for item in all_of_them}
    result = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    result.add_column("", no_wrap=True, overflow="ellipsis", max_width=34)
    for name in ("criteria", "exercises", "open", "time", "others"):
        result.add_column(name, justify="right", no_wrap=True)
    for number, step in enumerate(course.steps):
        items = [by_id[notebook.id] for notebook in step.notebooks]
        if items:
            result.add_row(*_row(f"{number} {step.title}", items), "", style="bold")
        for item in items if len(items) > 1 else ():
            colour = "green" if item.is_done else "yellow" if item.passed or item.tried else None
            name = f"  {item.notebook.id} {item.notebook.title}"
            result.add_row(*_row(name, [item]), of_others(item, took), style=colour)
    return result


def _row(name: str, items: list[Standing]) -> list[str]:
    """Criteria, exercises and open tasks "done/all", and hours:minutes, of some notebooks together."""
    if len(items) > 1:  # what a placement decides is shown beside the notebooks, and is no aim of a step
        items = [item for item in items if not item.notebook.is_placement]
    criteria = sum(len(item.met) for item in items), sum(len(item.notebook.criteria) for item in items)
    exercises = sum(len(item.passed) for item in items), sum(len(item.notebook.exercises) for item in items)
    tasks = [item for item in items if item.notebook.open_task]
    passed = sum(item.notebook.open_task in item.passed for item in tasks)
    whole = round(sum(item.total for item in items))
    return [
        name,
        "{}/{}".format(*criteria),
        "{}/{}".format(*exercises),
        f"{passed}/{len(tasks)}" if tasks else "",
        f"{whole // 60}:{whole % 60:02d}" if whole else "",
    ]


def advice(all_of_them: list[Standing], skipped: frozenset[str] = frozenset()) -> str:
    """What to do next, and how long it takes."""
    found = next_one(all_of_them, skipped)
    if found is None:
        return "Every exercise of every notebook is passed. Step 6 is yours."
    item, exercise = found
    took = known().get((item.notebook.id, exercise))
    guess = guesses(item.notebook).get(exercise)
    if took:
        time = f"half of {_people(took.people)} took {in_words(took.low)} to {in_words(took.high)}"
    else:
        time = f"a guess: {in_words(guess)}" if guess else "no guess"
    return f"Next: {exercise}, in {item.notebook.id} {item.notebook.title} ({time})."


def too_long(all_of_them: list[Standing]) -> list[str]:
    """Exercises that others need twice their guess for: nobody should think that it is them."""
    lines = []
    for item in all_of_them:
        for name, guess in guesses(item.notebook).items() if item.tried else ():
            took = known().get((item.notebook.id, name))
            if name in item.tried and took and took.median >= TWICE * guess:
                lines.append(f"{name} takes others {in_words(took.median)}, not the {in_words(guess)} of the notebook.")
    return lines


def in_words(minutes: float) -> str:
    """'8 min', '2 h 05 min'."""
    whole = round(minutes)
    if whole < 60:
        return f"{max(whole, 1)} min"
    return f"{whole // 60} h {whole % 60:02d} min"


def of_others(item: Standing, took: dict[tuple[str, str], Took]) -> str:
    """Quartiles of those who shared, else the guess of the map."""
    found = took.get((item.notebook.id, ""))
    if found:
        return f"{found.low / 60:.1f}-{found.high / 60:.1f} h"
    return "guess {:g}-{:g} h".format(*item.notebook.hours)


class Picture:
    """A bar for each step, a piece for each notebook, filled as far as its exercises are passed."""

    def __init__(self, all_of_them: list[Standing], course: Course | None = None):
        self.by_id = {item.notebook.id: item for item in all_of_them}
        self.course = course or load_course()
        self.advice = advice(all_of_them, skippable(all_of_them, self.course))
        self.table = table(all_of_them, self.course)

    def __repr__(self) -> str:
        from io import StringIO

        from rich.console import Console

        text = StringIO()
        # Without force_jupyter=False it would show itself in a notebook.
        Console(file=text, width=80, no_color=True, force_jupyter=False).print(self.table)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + f"\n{self.advice}"

    def _repr_html_(self) -> str:
        # A grid, since JupyterLab lays tables out its own way. Colours of the page itself but for the fill: it reads on
        # light and dark themes.
        head = "".join(f"<b>{name}</b>" for name in ("step", "criteria", "your time", "notebooks"))
        rows = "".join(self._step(number, step) for number, step in enumerate(self.course.steps) if step.notebooks)
        grid = "display:grid;grid-template-columns:max-content max-content max-content 1fr;gap:4px 14px"
        return (
            f'<div style="max-width:56em;line-height:1.4"><div style="{grid}">{head}{rows}</div>'
            f'<div style="margin-top:6px">{html.escape(self.advice)}</div></div>'
        )

    def _step(self, number: int, step: Step) -> str:
        items = [self.by_id[notebook.id] for notebook in step.notebooks if not notebook.is_placement]
        met, criteria = sum(len(item.met) for item in items), sum(len(item.notebook.criteria) for item in items)
        spent = sum(item.total for item in items)
        texts = f"{number} {step.title}", f"{met} of {criteria}", in_words(spent) if spent else ""
        pieces = "".join(_piece(item) for item in items)
        cells = "".join(f"<span>{html.escape(text)}</span>" for text in texts)
        return f'{cells}<div style="display:flex;gap:3px">{pieces}</div>'


def progress() -> Picture:
    """Where you stand: criteria met, exercises passed and time spent, by step, and what to do next.

    Read from the log of checks in work/.progress and from your saved notebooks; nothing leaves this machine.
    """
    from concrete_steps.standing.where import here

    return Picture(here())


def _piece(item: Standing) -> str:
    share = len(item.passed) / len(item.notebook.exercises)
    says = f"{item.notebook.id} {item.notebook.title}: {len(item.passed)} of {len(item.notebook.exercises)} exercises"
    fill = DONE if item.is_done else BEGUN
    bar = f'<div style="width:{share:.0%};height:6px;background:{fill};border-radius:3px"></div>'
    frame = "flex:1;min-width:2.4em;border:1px solid rgba(128,128,128,.6);border-radius:4px;padding:1px 3px"
    return f'<div style="{frame}" title="{html.escape(says)}">{html.escape(item.notebook.id)}{bar}</div>'


def _people(number: int) -> str:
    return "1 person" if number == 1 else f"{number} people"
