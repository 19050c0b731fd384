"""What a notebook still lacks, by every rule that a command can check: `python scripts/ready.py 3.4` shows it.

Each rule is a function from a `Draft` to findings, one sentence each; none means that the rule holds. QUICK rules read
files; SLOW ones run the checks on the solution, on the stub, on the wrong answers and on right ones of other styles.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import nbformat

from concrete_steps.authoring import build
from concrete_steps.authoring.figures import IMAGE
from concrete_steps.authoring.source import Cell, exercise_cells, read_source
from concrete_steps.checking.loader import Loaded, defined_names, load
from concrete_steps.checking.mistakes import mistakes_of, right_answers_of
from concrete_steps.course import Notebook, load_course
from concrete_steps.errors import CourseError
from concrete_steps.paths import course_root

COLUMNS = 94  # what a 1280-pixel screen shows of a cell, in a larger font
WORDS_A_LINE, WORDS_A_SECTION = 8, 200
EXERCISES_KB, SOLUTIONS_KB = 200, 2000
DETAILS = re.compile(r"<details>.*?</details>", re.DOTALL)
OPTION = re.compile(r"\(([a-e])\)\s*(.+?)(?=[;,.?]?\s*\([a-e]\)|\Z|\n\s*\n|\n[-*] \()", re.DOTALL)
BARE = re.compile(r"<[\w.]+ (?:object )?at 0x[0-9a-f]+>|<torch\._C\.Generator")


@dataclass
class Draft:
    """A notebook as it stands: its entry in the map and the cells of its source."""

    notebook: Notebook
    cells: list[Cell]

    @classmethod
    def of(cls, notebook: Notebook) -> Draft:
        return cls(notebook, read_source(notebook.source, notebook.exercises))

    @cached_property
    def exercises(self) -> dict[str, Cell]:
        return exercise_cells(self.cells)

    @property
    def text(self) -> str:
        return "\n\n".join(cell.text for cell in self.cells if cell.kind == "markdown")

    @cached_property
    def sections(self) -> list[tuple[str, list[Cell]]]:
        """Heading and cells of each section; a markdown cell that holds headings is cut at them."""
        found: list[tuple[str, list[Cell]]] = [("the beginning", [])]
        for cell in self.cells:
            parts = (
                re.split(r"^(#{1,3} .+)$", cell.text, flags=re.MULTILINE) if cell.kind == "markdown" else [cell.text]
            )
            found[-1][1].append(Cell(cell.kind, parts[0], cell.line, cell.options))
            for heading, body in zip(parts[1::2], parts[2::2], strict=True):
                found.append((heading.lstrip("# "), [Cell(cell.kind, body, cell.line, cell.options)]))
        return found


Rule = Callable[[Draft], Iterator[str]]
LONG_READS = {"0"}  # notebook 0 is there to be read: words are not counted


def up_to_date(draft: Draft) -> Iterator[str]:
    """Both generated notebooks agree with the source, and the outputs are those of its code."""
    try:
        for path, text in build.build(draft.notebook, load_course()).items():
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                yield f"{path.name} in {path.relative_to(course_root()).parts[0]}/ differs: run scripts/build.py"
    except CourseError as error:
        yield str(error)
        return
    reason = build.stale(draft.notebook, load_course())
    if reason:
        yield f"the solutions notebook {reason}: run scripts/build.py --execute {draft.notebook.id}"


def small_enough(draft: Draft) -> Iterator[str]:
    """Exercise and solutions notebook are within their budgets of bytes."""
    for folder, most in (("notebooks", EXERCISES_KB), ("solutions", SOLUTIONS_KB)):
        path = course_root() / folder / draft.notebook.path
        if path.is_file() and path.stat().st_size > most * 1000:
            yield f"{folder}/ has {path.stat().st_size / 1000:.0f} kB; at most {most}"


def two_mistakes(draft: Draft) -> Iterator[str]:
    """Each exercise has two wrong answers or more, with sentences of their own."""
    known = mistakes_of(draft.notebook)
    for name in draft.exercises:
        sentences = [mistake.sentence for mistake in known.get(name, [])]
        if len(sentences) < 2:
            yield f"{name} has {len(sentences)} wrong answer(s)"
        if len(set(sentences)) < len(sentences):
            yield f"two wrong answers of {name} share a sentence"


def few_words(draft: Draft) -> Iterator[str]:
    """At most 8 words of prose a line of code."""
    words, lines = words_and_lines(draft.cells)
    if draft.notebook.id not in LONG_READS and words > WORDS_A_LINE * lines:
        yield f"{words} words for {lines} lines of code: {words / max(lines, 1):.1f} a line"


def words_and_lines(cells: list[Cell]) -> tuple[int, int]:
    words = sum(len(without_data(cell.text).split()) for cell in cells if cell.kind == "markdown")
    lines = [line for cell in cells if cell.kind != "markdown" for line in cell.text.splitlines()]
    return words, sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in lines)


def without_data(text: str) -> str:
    """A text without what is no prose: tables and the paths of drawings."""
    return "\n".join(line for line in IMAGE.sub("", text).splitlines() if not line.lstrip().startswith("|"))


def short_sections(draft: Draft) -> Iterator[str]:
    """A section has at most 200 words, what is folded away not counted."""
    for heading, cells in draft.sections:
        text = "\n".join(cell.text for cell in cells if cell.kind == "markdown")
        words = len(without_data(DETAILS.sub("", text)).split())
        if draft.notebook.id not in LONG_READS and words > WORDS_A_SECTION:
            yield f"'{heading}' has {words} words"


def narrow(draft: Draft) -> Iterator[str]:
    """Stubs and code that a learner reads end by column 94."""
    for cell in draft.cells:
        if cell.kind not in ("exercise", "experiment", "code"):
            continue
        shown = re.sub(r"### BEGIN SOLUTION.*?### END SOLUTION", "", cell.text, flags=re.DOTALL)
        long = [line for line in shown.splitlines() if len(line) > COLUMNS]
        if long:
            yield f"line {cell.line}: {len(long)} line(s) beyond column {COLUMNS}, such as {long[0].strip()[:40]!r}"


def even_letters(draft: Draft) -> Iterator[str]:
    """The right letters are spread evenly, and the right option is not usually the longest."""
    right = right_letters(draft)
    if len(right) < 3:
        return
    letter, most = Counter(letter for letter, _ in right.values()).most_common(1)[0]
    if most > len(right) / 2:
        yield f"({letter}) is right in {most} of {len(right)} questions"
    longest = [name for name, (_, is_longest) in right.items() if is_longest]
    if len(longest) > len(right) / 2:
        yield f"the right option is the longest in {len(longest)} of {len(right)} questions: {', '.join(longest)}"


def right_letters(draft: Draft) -> dict[str, tuple[str, bool]]:
    """By question: the right letter, and whether its option is the longest by a fifth."""
    found, asked = {}, ""
    for cell in draft.cells:
        if cell.kind == "markdown":
            asked = cell.text
        if cell.kind == "exercise" and (letter := re.search(r'^\w+ = "([a-e])"$', cell.text, re.MULTILINE)):
            options = {key: len(text.strip()) for key, text in OPTION.findall(DETAILS.sub("", asked))}
            others = [size for key, size in options.items() if key != letter[1]]
            is_longest = bool(others) and options.get(letter[1], 0) > 1.2 * max(others)
            found[cell.name] = letter[1], is_longest
    return found


def predictions_answered(draft: Draft) -> Iterator[str]:
    """Every Predict has, before the next one, an answer that is folded away, or options to choose from."""
    for part in draft.text.split("**Predict**")[1:]:
        if "<summary>Answer</summary>" not in part and not OPTION.search(part.split("\n\n")[0]):
            yield f"a Predict without an answer: {' '.join(part.split()[:8])}"


def has_diagram(draft: Draft) -> Iterator[str]:
    """There is a drawn diagram."""
    if not IMAGE.search(draft.text):
        yield "no drawing: write figures/NAME.svg and show it with ![what it shows](figures/NAME.svg)"


def has_open_task(draft: Draft) -> Iterator[str]:
    """Steps 3 to 5, but for 4.4 and placements, and 2.2 end with an open task."""
    key = draft.notebook.id
    wants = key == "2.2" or (key[0] in "345" and key != "4.4" and not draft.notebook.is_placement)
    tasks = [heading for heading, cells in draft.sections if "open task" in heading.lower() and graded(cells)]
    if wants and not tasks:
        yield "no section 'Open task' with an exercise in it"


def graded(cells: list[Cell]) -> bool:
    return any(cell.kind == "exercise" for cell in cells)


def without_optional_cells(draft: Draft) -> Iterator[str]:
    """No cell needs a name that only an experiment or a bonus defines (experiments may build on experiments)."""
    safe, skippable = {"check"}, set()
    for heading, cells in draft.sections:
        bonus = "bonus" in heading.lower()
        for cell in cells:
            if cell.kind in ("markdown", "check", "generated"):
                continue
            tree = parsed(cell)
            missing = names_used(tree) & skippable - safe - all_names(tree)
            if cell.kind != "experiment" and not bonus and missing:
                names = ", ".join(sorted(missing))
                yield f"line {cell.line}: needs {names}, which only a cell that may be skipped defines"
            (skippable if bonus or cell.kind == "experiment" else safe).update(all_names(tree))


def parsed(cell: Cell) -> ast.Module:
    return ast.parse(re.sub(r"^\s*[%!].*$", "", cell.text, flags=re.MULTILINE))


def all_names(tree: ast.Module) -> set[str]:
    """Names that a cell binds anywhere: definitions, assignments, imports, loops, arguments."""
    names = defined_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names


def names_used(tree: ast.Module) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def points_on_the_map(draft: Draft) -> Iterator[str]:
    """Notebooks that the text names are on the map."""
    known = {notebook.id for notebook in load_course().notebooks}
    for cell in draft.cells:
        if cell.kind == "markdown":
            for key in re.findall(r"\b[Nn]otebooks? \**(\d\.\d{1,2})\b", cell.text):
                if key not in known:
                    yield f"line {cell.line}: notebook {key} is not on the map"


def nothing_printed_by_accident(draft: Draft) -> Iterator[str]:
    """No output shows the address of an object."""
    path = course_root() / "solutions" / draft.notebook.path
    if not path.is_file():
        return
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", ()):
            text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
            shown = BARE.search("".join(text))
            if shown:
                yield f"cell {cell.id} shows {shown[0]}"


def mixed_difficulty(draft: Draft) -> Iterator[str]:
    """A fifth to two thirds of the exercises at difficulty 1 or 2, and some at 4 or 5."""
    levels = [cell.options["difficulty"] for cell in draft.exercises.values()]
    if draft.notebook.id == "0" or not levels:
        return
    easy = sum(level <= 2 for level in levels) / len(levels)
    if not 0.2 <= easy <= 0.67:
        yield f"{100 * easy:.0f} % of the exercises are of difficulty 1 or 2"
    if max(levels) < 4:
        yield "no exercise of difficulty 4 or 5"


def has_closing_table(draft: Draft) -> Iterator[str]:
    """A replication ends with a table: the paper's figure, this run's, the null's."""
    code = [cell.text for cell in draft.cells if cell.kind in ("experiment", "code")]
    if draft.notebook.id[0] == "5" and not any("paper" in text and "null" in text for text in code):
        yield "no cell prints the paper's figure beside this run's and the null's"


QUICK: tuple[Rule, ...] = (
    up_to_date,
    small_enough,
    two_mistakes,
    few_words,
    short_sections,
    narrow,
    even_letters,
    predictions_answered,
    has_diagram,
    has_open_task,
    without_optional_cells,
    points_on_the_map,
    nothing_printed_by_accident,
    mixed_difficulty,
    has_closing_table,
)


def solution_passes(draft: Draft) -> Iterator[str]:
    """Every check passes on the solution."""
    for name, result in run(draft, _solved(draft)).items():
        if result.outcome != "passed":
            yield f"{name}: {result.outcome}: {result.message[:100]}"


def stub_earns_nothing(draft: Draft) -> Iterator[str]:
    """Every check says 'not attempted' of the untouched notebook."""
    path = course_root() / "notebooks" / draft.notebook.path
    for name, result in run(draft, load(path, draft.notebook.exercises)).items():
        if result.outcome != "not attempted":
            yield f"{name}: {result.outcome}"


def mistakes_named(draft: Draft) -> Iterator[str]:
    """Every wrong answer is rejected and named."""
    from concrete_steps.checking.checks import run_check

    solved = _solved(draft)
    for name, mistakes in mistakes_of(draft.notebook).items():
        for mistake in mistakes:
            given = Loaded(solved.path, {**solved.namespace, name: mistake.answer(solved.namespace[name])})
            result = run_check(draft.notebook, name, given)
            if result.outcome == "passed":
                yield f"{name}: accepted: {mistake.sentence[:60]}"
            elif mistake.sentence not in result.mistake + result.message:
                yield f"{name}: not named: {mistake.sentence[:60]}"


def other_styles_pass(draft: Draft) -> Iterator[str]:
    """Right answers in other styles pass, and there are some."""
    from concrete_steps.checking.checks import run_check

    solved, answers = _solved(draft), right_answers_of(draft.notebook)
    if not answers:
        yield "no right answer in another style stands beside the wrong ones (@right)"
    for name, others in answers.items():
        for other in others:
            given = Loaded(solved.path, {**solved.namespace, name: other.answer(solved.namespace[name])})
            result = run_check(draft.notebook, name, given)
            if result.outcome != "passed":
                yield f"{name}: refused: {other.sentence[:60]}: {result.message[:60]}"


def run(draft: Draft, loaded: Loaded) -> dict:
    from concrete_steps.checking.checks import run_checks

    return run_checks(draft.notebook, draft.notebook.exercises, loaded)


def _solved(draft: Draft) -> Loaded:
    return load(course_root() / "solutions" / draft.notebook.path, draft.notebook.exercises)


SLOW: tuple[Rule, ...] = (solution_passes, stub_earns_nothing, other_styles_pass, mistakes_named)
