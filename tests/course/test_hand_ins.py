"""Hand-ins of every format and in every state: graded, or told in one sentence why not; never a silent zero.

Each kind is tidied as grade.py does it, and the well-formed notebook is put to the checks, here in this process: they
are honest. test_grading.py grades some of them, and the hostile ones, through nbgrader.
"""

import base64
import contextlib
import io
import json
import os
import re
import socket
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbconvert.exporters import PythonExporter

from concrete_steps.checking.checks import run_checks
from concrete_steps.checking.loader import load
from concrete_steps.checking.outcomes import PASSED
from concrete_steps.course import load_course
from concrete_steps.errors import CourseError
from concrete_steps.grading.collect import collect
from concrete_steps.grading.submissions import literal, step_named, tidy
from concrete_steps.paths import course_root

STEP = "0_start_here"
NAME = f"{STEP}.ipynb"
RELEASED = (course_root() / "notebooks" / STEP / NAME).read_text(encoding="utf-8")
RIGHT = "def logit_difference(logits, right, wrong):\n    return logits[right] - logits[wrong]\n"
ANSWERS = {
    "logit_difference": RIGHT,
    "answer_before_running": 'answer_before_running = "b"',
    "answer_already_know": 'answer_already_know = "a"',
}
START = load_course().notebook("0")
ALL, NONE = (1, 1, 1), (0, 0, 0)
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


# ---- What programs make of a notebook --------------------------------------------------------------------------------


def right(**answers: str) -> dict:
    """The released notebook with right answers, but for those that are given."""
    content = json.loads(RELEASED)
    for cell in content["cells"]:
        source = "".join(cell["source"])
        cell["source"] = (ANSWERS | answers).get(cell["id"], source)
    return content


def text_of(content: dict, **options) -> str:
    return json.dumps(content, **options)


def cell_of(content: dict, name: str) -> dict:
    return next(cell for cell in content["cells"] if cell.get("id") == name)


def code(source: str, **more) -> dict:
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None, **more}


def without_names(content: dict, new_id: Callable[[int], str] | None = None, **metadata) -> dict:
    for number, cell in enumerate(content["cells"]):
        cell["metadata"] = dict(metadata)
        if new_id:
            cell["id"] = new_id(number)
        else:
            del cell["id"]
    return content


def colab() -> dict:
    content = right()
    content["metadata"] = {"colab": {"provenance": [], "toc_visible": True}, "accelerator": "GPU"}
    for number, cell in enumerate(content["cells"]):
        cell["metadata"] |= {"id": f"aB{number}", "colab": {"base_uri": "https://localhost:8080/"}, "outputId": "x"}
        cell["source"] = cell["source"].splitlines(keepends=True)
        del cell["id"]
    return content


def vs_code() -> dict:
    content = without_names(right(), lambda number: f"#VSC-{number:08x}", vscode={"languageId": "python"})
    content["metadata"]["orig_nbformat"] = 4
    return content


def databricks() -> dict:
    content = right()
    content["metadata"] = {"application/vnd.databricks.v1+notebook": {"language": "python", "notebookName": STEP}}
    cell_of(content, "answer_already_know")["source"] = '%python\nanswer_already_know = "a"'
    return without_names(content, **{"application/vnd.databricks.v1+cell": {"nuid": "1", "title": ""}})


def databricks_script() -> str:
    lines = ["# Databricks notebook source"]
    for cell in right()["cells"]:
        if cell["cell_type"] == "markdown":
            lines += ["# MAGIC %md", *(f"# MAGIC {line}" for line in cell["source"].splitlines())]
        else:
            lines += cell["source"].splitlines()
        lines += ["", "# COMMAND ----------", ""]
    return "\n".join(lines)


def deepnote() -> dict:
    content = right()
    content["metadata"] = {"deepnote": {}, "deepnote_notebook_id": "0a1b"}
    for number, cell in enumerate(content["cells"]):
        cell["id"] = f"{number:032x}"
        cell["metadata"] = {"cell_id": f"{number:032x}", "deepnote_cell_type": cell["cell_type"], "source_hash": "1"}
    link = "<a style='text-decoration:none' href='https://deepnote.com?utm_source=created'>Created in Deepnote</a>"
    content["cells"].append({"cell_type": "markdown", "metadata": {"created_in_deepnote_cell": True}, "source": link})
    return content


def kaggle() -> dict:
    return without_names(right(), _uuid="8f2839f25d086af736a60e9eeb907d3b93b6e0e5", _cell_guid="b1076dfc", trusted=True)


def format_3() -> dict:
    cells = []
    for cell in right()["cells"]:
        if cell["cell_type"] == "code":
            cells.append({"cell_type": "code", "input": cell["source"], "language": "python", "metadata": {}})
        elif cell["source"].startswith("## "):
            cells.append({"cell_type": "heading", "level": 2, "source": cell["source"][3:], "metadata": {}})
        else:
            cells.append({"cell_type": "markdown", "source": cell["source"], "metadata": {}})
    return {"metadata": {"name": ""}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": cells}]}


def format_3_by_nbformat() -> str:
    return nbformat.writes(nbformat.from_dict(right()), version=3)


def percent(metadata: bool = True) -> str:
    nb = nbformat.from_dict(right())
    if not metadata:
        nb = nbformat.from_dict(without_names(right()))
    return jupytext.writes(nb, fmt="py:percent")


def script_of_nbconvert() -> str:
    content = right(logit_difference="%%time\n" + RIGHT)
    script, _ = PythonExporter().from_notebook_node(nbformat.from_dict(content))
    assert "run_cell_magic('time'" in script
    return script


def script_of_colab() -> str:
    """Without marks of cells; texts are strings."""
    lines = ['# -*- coding: utf-8 -*-\n"""0_start_here.ipynb\n\nAutomatically generated by Colab.\n"""']
    for cell in right()["cells"]:
        is_text = cell["cell_type"] == "markdown"
        lines.append('"""' + cell["source"].replace("\\", "/").replace('"', "'") + '"""' if is_text else cell["source"])
    lines = [re.sub(r"^(\s*)%pip", r"\1#pip", line, flags=re.MULTILINE) for line in lines]
    return "\n\n".join(lines)


def joined() -> dict:
    """All exercises in the cell of the first."""
    content = right()
    content["cells"] = [cell for cell in content["cells"] if cell["id"] not in list(ANSWERS)[1:]]
    cell_of(content, "logit_difference")["source"] = "\n\n".join(reversed(ANSWERS.values()))
    return content


def in_one_line() -> dict:
    content = joined()
    letters = 'answer_before_running = "b"; answer_already_know = "a"'
    cell_of(content, "logit_difference")["source"] = f"{letters}\n{RIGHT}"
    return content


def by_unpacking() -> dict:
    content = right()
    content["cells"] = [cell for cell in content["cells"] if cell["id"] != "answer_already_know"]
    both = 'answer_before_running, answer_already_know = "b", "a"'
    cell_of(content, "answer_before_running")["source"] = both
    return content


def split() -> dict:
    """The cell was split after its first line; both halves keep the metadata."""
    content = right()
    place = content["cells"].index(cell_of(content, "logit_difference"))
    first = content["cells"][place]
    content["cells"][place : place + 1] = [
        first | {"source": "# My function."},
        first | {"source": RIGHT, "id": "second-half"},
    ]
    return content


def moved() -> dict:
    content = right()
    content["cells"] = list(reversed(content["cells"]))
    return content


def doubled() -> dict:
    content = right()
    content["cells"] = [cell for cell in content["cells"] for _ in range(2)]
    return content


def above_the_stub() -> dict:
    """Answered in a new cell, before the cell that should hold the answer."""
    content = json.loads(RELEASED)
    cells = []
    for cell in content["cells"]:
        if cell["id"] in ANSWERS:
            cells.append(code(ANSWERS[cell["id"]]))
        cells.append(cell)
    content["cells"] = cells
    return content


def stub_again() -> dict:
    """A copy of the stub and its check stands at the end."""
    content, released = right(), json.loads(RELEASED)
    content["cells"].append(cell_of(released, "logit_difference") | {"id": "copy"})
    content["cells"].append(cell_of(released, "check_logit_difference") | {"id": "copy-2"})
    return content


def without_checks() -> dict:
    content = right()
    content["cells"] = [cell for cell in content["cells"] if not cell["id"].startswith("check_")]
    return content


def at_the_end() -> dict:
    content = json.loads(RELEASED)
    content["cells"] += [code(answer) for answer in ANSWERS.values()]
    return content


def imported() -> dict:
    content = right(logit_difference="from helper import logit_difference")
    return without_names(content)


def star() -> dict:
    content = without_names(right())
    content["cells"] = [cell for cell in content["cells"] if cell["source"] != RIGHT]
    content["cells"].insert(6, code("from helper import *"))
    return content


def as_text() -> dict:
    """An exercise's cell became text by a slip of the keyboard."""
    content = without_names(right())
    next(cell for cell in content["cells"] if cell["source"] == RIGHT)["cell_type"] = "markdown"
    return content


def with_magics() -> dict:
    return without_names(
        right(logit_difference="%%time\n" + RIGHT, answer_already_know='%time answer_already_know = "a"')
    )


def with_odd_cells() -> dict:
    content = right()
    content["cells"] += [
        {"cell_type": "markdown", "id": ["list"], "metadata": [], "source": ["\ud800", 5]},
        {"cell_type": "raw", "metadata": None, "source": None},
        {"cell_type": "sql", "source": "select 1"},
        {"metadata": {}},
    ]
    return content


def zipped(*names_and_data: tuple[str, str | bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in names_and_data:
            archive.writestr(name, data)
        for name, target in (links or {}).items():
            link = zipfile.ZipInfo(name)
            link.external_attr = 0o120777 << 16
            archive.writestr(link, target)
    return buffer.getvalue()


def encrypted() -> bytes:
    """An archive that says that its file is encrypted."""
    data = bytearray(zipped((NAME, text_of(right()))))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    return bytes(data)


# ---- The kinds -------------------------------------------------------------------------------------------------------


@dataclass
class Kind:
    """What one learner hands in, by file; the marks that it gets, and what must be said about it in the table."""

    files: dict[str, Callable[[], str | bytes | dict]]
    marks: tuple[int, int, int] = ALL
    says: str = ""
    honest: bool = True  # nothing is said that need not be


def one(make: Callable[[], str | bytes | dict], **more) -> Kind:
    return Kind({NAME: make}, **more)


def script(make: Callable[[], str], **more) -> Kind:
    return Kind({f"{STEP}.py": make}, says=f"renamed: was {STEP}.py", **more)


HELPER = {"helper.py": lambda: RIGHT}
BLANK = {NAME: lambda: RELEASED}
KINDS = {
    # As programs save it.
    "right": one(right),
    "byte_order_mark": one(lambda: b"\xef\xbb\xbf" + text_of(right()).encode()),
    "utf_16": one(lambda: text_of(right(), ensure_ascii=False).encode("utf-16")),
    "utf_16_without_mark": one(lambda: text_of(right(), ensure_ascii=False).encode("utf-16-le")),
    "utf_32": one(lambda: text_of(right(), ensure_ascii=False).encode("utf-32")),
    "windows_letters": one(
        lambda: text_of(right(logit_difference="# caf\xe9\n" + RIGHT), ensure_ascii=False).encode("cp1252", "replace")
    ),
    "windows_line_ends": one(lambda: text_of(right(), indent=1).replace("\n", "\r\n").replace("\\n", "\\r\\n")),
    "old_mac_line_ends": one(lambda: text_of(right()).replace("\\n", "\\r")),
    "colab": one(colab),
    "vs_code": one(vs_code),
    "databricks": one(databricks),
    "deepnote": one(deepnote),
    "kaggle": one(kaggle),
    "names_lost": one(lambda: without_names(right())),
    "ids_alone": one(
        lambda: {"cells": [{k: v for k, v in cell.items() if k != "metadata"} for cell in right()["cells"]]}
    ),
    "nbgrader_names_alone": one(lambda: {"cells": [cell | {"id": None} for cell in right()["cells"]]}),
    "format_3": one(format_3),
    "format_3_by_nbformat": one(format_3_by_nbformat),
    "percent": script(percent),
    "percent_without_metadata": script(lambda: percent(metadata=False)),
    "percent_with_byte_order_mark": script(lambda: b"\xef\xbb\xbf" + percent().replace("\n", "\r\n").encode()),
    "script_of_nbconvert": script(script_of_nbconvert),
    "script_of_colab": script(script_of_colab),
    "script_of_databricks": script(databricks_script),
    # As people leave it.
    "moved": one(moved),
    "doubled": one(doubled),
    "joined": one(joined),
    "joined_without_names": one(lambda: without_names(joined())),
    "in_one_line": one(in_one_line),
    "by_unpacking": one(by_unpacking),
    "split": one(split),
    "above_the_stub": one(above_the_stub),
    "stub_again": one(stub_again),
    "at_the_end": one(at_the_end),
    "without_checks": one(without_checks),
    "as_text": one(as_text),
    "magics": one(with_magics),
    "trailing_space": one(
        lambda: without_names({"cells": [c | {"source": c["source"] + "  \n\n"} for c in right()["cells"]]})
    ),
    "odd_cells": one(with_odd_cells),
    "helper": Kind({NAME: imported} | HELPER),
    "helper_by_star": Kind({NAME: star} | HELPER),
    "renamed": Kind({"My answers (2).ipynb": right}, says="renamed: was My answers (2).ipynb"),
    "renamed_ending": Kind({f"{NAME}.txt": right}, says="renamed"),
    "json_ending": Kind({f"{STEP}.json": right}, says="renamed"),
    "capital_ending": Kind({f"{STEP.upper()}.IPYNB": right}, says="renamed"),
    "in_folders": Kind({f"course/notebooks/{STEP}/{NAME}": right}),
    "with_checkpoints": Kind({NAME: right, f".ipynb_checkpoints/{STEP}-checkpoint.ipynb": lambda: RELEASED}),
    "with_pictures": Kind({NAME: right, "plot.png": lambda: PNG, "notes.docx": lambda: b"PK\x03\x04..."}),
    "with_a_script_too": Kind({NAME: right, f"{STEP}.py": percent}, says=f"{NAME} counts, not {STEP}.py"),
    "two_copies": Kind(
        {NAME: right, f"{STEP}-Copy1.ipynb": lambda: right(answer_already_know="x = 1")}, says="more than once"
    ),
    # A good one beside one that is none.
    "empty_beside_good": Kind({NAME: lambda: "", "good.ipynb": right}, says=f"not used: {NAME} is empty"),
    "blank_beside_good": Kind({NAME: lambda: RELEASED, "good.ipynb": right}, says=f"good.ipynb counts, not {NAME}"),
    "broken_beside_good": Kind(
        {NAME: lambda: text_of(right())[:3000], "good.ipynb": right}, says=f"not used: {NAME} is no whole notebook"
    ),
    "script_beside_blank": Kind({f"{STEP}.py": percent} | BLANK, says=f"{STEP}.py counts, not {NAME}"),
    # Archives.
    "zip": Kind({"work.zip": lambda: zipped((NAME, text_of(right())))}),
    "zip_of_a_mac": Kind(
        {"work.zip": lambda: zipped((f"hw/{NAME}", text_of(right())), (f"__MACOSX/hw/._{NAME}", b"\0\5\x16\7"))}
    ),
    "zip_with_helper": Kind({"a.zip": lambda: zipped((NAME, text_of(imported())), ("helper.py", RIGHT))}),
    "zip_in_zip": Kind({"a.zip": lambda: zipped(("b.zip", zipped((NAME, text_of(right())))))}),
    "zip_with_backslashes": Kind({"a.zip": lambda: zipped((f"hw\\{NAME}", text_of(right())))}),
    "zip_that_climbs": Kind(
        {"a.zip": lambda: zipped((f"../../../{NAME}", text_of(right())), ("/etc/evil.ipynb", "{"))},
        says="not used: a.zip/etc/evil.ipynb",
    ),
    "zip_with_links": Kind({"a.zip": lambda: zipped((NAME, text_of(right())), links={"other.ipynb": "/etc/passwd"})}),
    "zip_with_long_name": Kind({"a.zip": lambda: zipped(("x" * 300 + ".ipynb", text_of(right())))}, says="renamed"),
    # What cannot be graded says so in one sentence.
    "blank": one(lambda: RELEASED, marks=NONE),
    "empty": one(lambda: "", marks=NONE, says=f"unreadable, graded as blank: {NAME} is empty"),
    "zeros": one(lambda: b"\0" * 500, marks=NONE, says="is empty"),
    "cut_off": one(lambda: text_of(right())[:3000], marks=NONE, says="is no whole notebook"),
    "conflict": one(
        lambda: text_of(right(), indent=1).replace(' "cells"', '<<<<<<< HEAD\n "cells"'),
        marks=NONE,
        says="conflict of git",
    ),
    "web_page": one(lambda: "<!DOCTYPE html><html>", marks=NONE, says="is a web page"),
    "pdf": one(lambda: b"%PDF-1.7", marks=NONE, says="is a PDF"),
    "pointer": one(lambda: "version https://git-lfs.github.com/spec/v1", marks=NONE, says="Git LFS"),
    "other_json": one(lambda: "[1, 2]", marks=NONE, says="not of a notebook"),
    "no_cells": one(lambda: '{"cells": []}', marks=NONE, says="without cells"),
    "deep_json": one(lambda: '{"cells": ' + "[" * 10**5, marks=NONE, says="is no whole notebook"),
    "long_number": one(lambda: '{"cells": ' + "9" * 10**4, marks=NONE, says="is no whole notebook"),
    "too_many_cells": one(lambda: {"cells": [code("x = 1")] * 3001}, marks=NONE, says="more than 3000 cells"),
    "too_much_text": one(lambda: right(logit_difference="#" * 5_000_001), marks=NONE, says="5 million letters"),
    "a_long_cell": one(
        lambda: right(answer_already_know="answer_already_know = '" + "a" * 300_000 + "'"), marks=(1, 1, 0)
    ),
    "another_notebook": one(
        lambda: (course_root() / "notebooks/1_prerequisites/1.1_tensors.ipynb").read_text("utf-8"),
        marks=NONE,
        says="notebook 1.1",
    ),
    "reads_a_file": Kind(
        {NAME: lambda: right(logit_difference='open("data.csv")\n' + RIGHT), "data.csv": lambda: "1"},
        says="reads data.csv",
    ),
}
REFUSED = {
    "nothing": ({"notes.txt": lambda: "Tomorrow."}, "holds no notebook"),
    "pdf_alone": ({"answers.pdf": lambda: b"%PDF-1.7"}, "it holds answers.pdf"),
    "module_alone": (HELPER, "it holds helper.py"),
    "broken_zip": ({"work.zip": lambda: b"PK\x03\x04 and no more"}, "work.zip cannot be unpacked"),
    "encrypted_zip": ({"work.zip": encrypted}, "work.zip cannot be unpacked"),
    "zip_of_too_many": ({"work.zip": lambda: zipped(*((f"{n}.txt", "") for n in range(1001)))}, "more than 1000 files"),
    "zip_bomb": ({"work.zip": lambda: zipped(*((f"{n}.ipynb", bytes(2**26)) for n in range(9)))}, "500 MB"),
    "rar": ({"work.rar": lambda: b"Rar!\x1a\x07"}, "it holds work.rar"),
}


def hand_in(home: Path, files: dict[str, Callable], student: str = "s") -> Path:
    folder = home / "submitted" / student / STEP
    for number, (name, make) in enumerate(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = make()
        data = text_of(data) if isinstance(data, dict) else data
        path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
        os.utime(path, (10**9 + number, 10**9 + number))
    return folder


def marks(folder: Path) -> tuple[int, ...]:
    """What the checks say of the well-formed notebook."""
    results = run_checks(START, START.exercises, load(folder / NAME, START.exercises))
    return tuple(int(results[name].outcome == PASSED) for name in START.exercises)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hand_in_gets_the_marks_that_it_deserves(kind: str, tmp_path: Path):
    """And tidying it again, or with the same file beside it again, changes nothing."""
    folder = hand_in(tmp_path, KINDS[kind].files)
    submission = tidy(folder)
    said = "; ".join([*submission.remarks, *submission.unusual[START]])
    assert marks(folder) == KINDS[kind].marks, said
    assert KINDS[kind].says in said
    if not KINDS[kind].says:
        assert said == ""
    before = (folder / NAME).stat().st_mtime_ns
    again = tidy(folder)
    assert (folder / NAME).stat().st_mtime_ns == before
    assert again.unusual == submission.unusual and again.remarks == submission.remarks


@pytest.mark.parametrize("kind", REFUSED)
def test_what_holds_no_notebook_is_told_in_one_sentence(kind: str, tmp_path: Path):
    files, sentence = REFUSED[kind]
    folder = hand_in(tmp_path, files)
    for _ in range(2):
        with pytest.raises(CourseError, match=re.escape(sentence)):
            tidy(folder)


@pytest.mark.skipif(os.name == "nt", reason="Windows has none of these")
def test_what_is_no_file_is_never_opened_and_named(tmp_path: Path):
    """Pipes, sockets and links of every kind, under names that a notebook would have."""
    folder = hand_in(tmp_path, {NAME: right})
    secret = tmp_path / "secret.ipynb"
    secret.write_text(RELEASED)
    os.mkfifo(folder / "pipe.ipynb")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening, contextlib.chdir(folder):
        listening.bind("socket.ipynb")
    for name, target in {
        "zero.ipynb": "/dev/zero",
        "outward.ipynb": secret,
        "dangling.ipynb": "none",
        "up": "..",
    }.items():
        (folder / name).symlink_to(target)
    (folder / "inner").mkdir()
    os.mkfifo(folder / "inner" / "helper.py")
    submission = tidy(folder)
    names = "dangling.ipynb, inner/helper.py, outward.ipynb, pipe.ipynb, socket.ipynb, up, zero.ipynb"
    assert submission.remarks == [f"left out: {names}"]
    assert marks(folder) == ALL and secret.read_text() == RELEASED
    assert [path.name for path in folder.rglob("*")] == [NAME]


ODD_NAMES = [
    "[v2].ipynb",
    "x" * 249 + ".ipynb",
    "<img src=x onerror=alert(1)>.ipynb",
    "$(reboot).ipynb",
    "-rf.ipynb",
    " .ipynb",
]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("name", [*ODD_NAMES, "two\nlines.ipynb", os.fsdecode(b"caf\xe9.ipynb"), "\x1b[31mred.ipynb"])
def test_a_file_of_any_name_is_graded_and_named(name: str, tmp_path: Path):
    try:
        folder = hand_in(tmp_path, {name: right})
    except OSError:
        pytest.skip("this file system has no such name")
    submission = tidy(folder)
    assert submission.unusual[START] == [f"renamed: was {name}"]
    assert marks(folder) == ALL
    assert name.isprintable() == (literal(name) == name) and literal(name).isprintable()


@pytest.mark.parametrize(
    ("file", "student"),
    [
        ("doejane_12345_678901_answers-1.ipynb", "doejane_12345"),
        ("doejane_LATE_12345_678901_0_start_here.ipynb", "doejane_12345"),
        ("Jane Doe_777_assignsubmission_file_/0_start_here.ipynb", "Jane Doe_777"),
        ("Jane Doe_777_assignsubmission_file/work.zip", "Jane Doe_777"),
        ("Jane Doe_777_assignsubmission_file_0_start_here.ipynb", "Jane Doe_777"),
        ("hw1/Jane Doe_777_assignsubmission_file_/0_start_here.ipynb", "Jane Doe_777"),
        ("Jane_7_assignsubmission_file_Ann_8_assignsubmission_file_x.ipynb", "Jane_7"),
        ("jane/0_start_here.ipynb", "jane"),
        ("<b>Jane_777_assignsubmission_file_/x.ipynb", "_b_Jane_777"),
    ],
)
def test_a_class_comes_as_learning_platforms_give_it(file: str, student: str, tmp_path: Path, capsys):
    archive = tmp_path / "submissions.zip"
    data = zipped((NAME, text_of(right()))) if file.endswith(".zip") else text_of(right())
    archive.write_bytes(zipped((file, data)))
    assert collect(step_named("0"), [archive], tmp_path) == 0
    [folder] = (tmp_path / "submitted").glob(f"*/{STEP}")
    assert folder.parent.name == student
    tidy(folder)
    assert marks(folder) == ALL
    assert "1 learners' files" in capsys.readouterr().out


def test_a_learner_does_not_say_when_it_was_handed_in(tmp_path: Path, capsys):
    """nbgrader reads it from a file beside the notebook, and takes points from who is late."""
    archive = tmp_path / "submissions.zip"
    archive.write_bytes(zipped((f"ann/{NAME}", text_of(right())), ("ann/timestamp.txt", "2000-01-01 00:00:00 UTC")))
    assert collect(step_named("0"), [archive], tmp_path) == 0
    assert "when this was handed in: ann/timestamp.txt" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "submitted" / "ann" / STEP).iterdir()] == [NAME]


def test_a_file_of_a_class_that_is_nobody_s_is_named(tmp_path: Path, capsys):
    archive = tmp_path / "submissions.zip"
    archive.write_bytes(zipped(("answers.ipynb", "{}")))
    assert collect(step_named("0"), [archive], tmp_path) == 1
    assert "does not say whose it is: answers.ipynb" in capsys.readouterr().out
    with pytest.raises(CourseError, match="cannot be unpacked"):
        archive.write_bytes(b"PK\x03\x04")
        collect(step_named("0"), [archive], tmp_path)
