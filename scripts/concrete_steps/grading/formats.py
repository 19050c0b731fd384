"""What a handed-in file says, whichever program wrote it: a list of cells, or one sentence why there is none.

Jupyter's format 4 and the older ones, in any Unicode encoding, as Colab, VS Code, Databricks, Deepnote and Kaggle save
it; and scripts: Jupytext's percent format, nbconvert's, Colab's and Databricks' exports.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
import stat
import textwrap
from collections.abc import Iterator
from pathlib import Path

from concrete_steps.checking.loader import PYTHON_MAGICS
from concrete_steps.errors import CourseError

LARGEST = 100 * 2**20  # bytes of a file that is still read
MOST_CELLS, MOST_TEXT = 3000, 5_000_000  # letters; the course's longest notebook has some hundred cells
MOST_CODE = 1_000_000  # letters of code, which is parsed; the course's longest notebook has 50,000
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
BASE64 = re.compile(r"[A-Za-z0-9+/\s]*+={0,2}\s*")
BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
# How files begin that are often handed in for a notebook, and what to tell.
OTHERS = (
    (rb"PK\x03\x04", "is an archive or an office document"),
    (rb"%PDF", "is a PDF, a picture of the work rather than the work"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!", "is an archive of a kind that is not read"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8", "is a picture"),
    (rb"\s*<(?:!doctype\s+html|html|\?xml)", "is a web page, not the notebook itself"),
    (rb"version https://git-lfs", "is a pointer of Git LFS, not the notebook itself"),
)
# A line that begins a cell of a script: Jupytext, VS Code and Spyder; nbconvert; Databricks.
MARKER = re.compile(r"^# ?%%(?=\s|$)(?P<percent>.*)$|^# In ?\[[\d *]*\]:.*$|^# COMMAND -+\s*$", re.MULTILINE)
NAME_IN_MARKER = re.compile(r"""(?:\bgrade_id["']?\s*[:=]|\bid=|\bexercise=)\s*["'](\w+)["']""")
JUPYTEXT_HEADER = re.compile(r"\A# ---\n(?:#.*\n)*?# ---\n")
MAGIC_OF_DATABRICKS = re.compile(r"^# MAGIC ?", re.MULTILINE)
LANGUAGE_OF_DATABRICKS = re.compile(r"\s*%(md|md-sandbox|python)\b[ \t]*\n?")


def read_cells(path: Path) -> list[dict]:
    """The file's cells: type, text, name, metadata and pictures of each, of the right types, and nothing else.

    Raises:
        CourseError: there are none to be had; its text goes on after the file's name ("is empty").
    """
    data = _bytes_of(path)
    for beginning, is_what in OTHERS:
        if re.match(beginning, data, re.IGNORECASE):
            raise CourseError(f"{is_what}; hand in the notebook (*.ipynb)")
    text = decoded(data).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip("\0 \n\t"):
        raise CourseError("is empty")
    cells = _of_script(text) if path.suffix.lower() == ".py" else _of_json(text)
    if len(cells) > MOST_CELLS:
        raise CourseError(f"has more than {MOST_CELLS} cells")
    cells = [_as_databricks_means_it(_plain(cell)) for cell in cells]
    if sum(len(cell["source"]) for cell in cells) > MOST_TEXT:
        raise CourseError(f"holds more than {MOST_TEXT // 10**6} million letters of text and code")
    if sum(len(cell["source"]) for cell in cells if cell["cell_type"] == "code") > MOST_CODE:
        raise CourseError(f"holds more than {MOST_CODE // 10**6} million letters of code")
    return cells


def may_be_notebook(path: Path) -> bool:
    """Whether to look into the file: by its name, or because it holds a notebook under another."""
    if path.suffix.lower() in (".ipynb", ".py"):
        return True
    try:
        text = decoded(_bytes_of(path))
    except CourseError:
        return False
    return text.lstrip().startswith("{") and ('"cells"' in text or '"worksheets"' in text) and '"source"' in text


def decoded(data: bytes) -> str:
    """Text in UTF-8, 16 or 32, with a byte order mark or without; what is none of them is read as Windows writes it."""
    encoding = json.detect_encoding(data)  # by the marks, or by where the first bytes are zero
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return (
            data.decode("utf-8", "replace") if data.startswith(BYTE_ORDER_MARKS) else data.decode("cp1252", "replace")
        )


def source_of(cell: dict) -> str:
    """The text of a cell of any format, with Unix's line ends."""
    source = cell.get("source", cell.get("input", ""))  # formats before 4 call a code cell's text its input
    text = "".join(str(line) for line in source) if isinstance(source, list) else str(source or "")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.encode("utf-8", "replace").decode("utf-8")


def _bytes_of(path: Path) -> bytes:
    try:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode):
            raise CourseError("is no ordinary file")
        if about.st_size > LARGEST:
            raise CourseError(f"is larger than {LARGEST // 2**20} MB; clear its outputs and save it")
        return path.read_bytes()
    except OSError as error:
        raise CourseError(f"cannot be opened ({error.strerror})") from None


def _of_json(text: str) -> list[dict]:
    if re.search(r"^<{7} ", text, re.MULTILINE):
        raise CourseError("holds an unresolved conflict of git; resolve it and save the notebook")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CourseError(
            f"is no whole notebook ({type(error).__name__}: {error}); save it again and hand it in"
        ) from None
    cells = content.get("cells") if isinstance(content, dict) else None
    if cells is None and isinstance(content, dict) and isinstance(content.get("worksheets"), list):
        sheets = [sheet.get("cells") for sheet in content["worksheets"] if isinstance(sheet, dict)]
        cells = [cell for sheet in sheets if isinstance(sheet, list) for cell in sheet]
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise CourseError("is JSON, but not of a notebook; save it again from Jupyter")
    if not cells:
        raise CourseError("is a notebook without cells")
    return cells


def _of_script(text: str) -> list[dict]:
    """The cells of a script; without any line that begins one, the whole script is a cell."""
    text = MAGIC_OF_DATABRICKS.sub("", JUPYTEXT_HEADER.sub("", text))
    marks = list(MARKER.finditer(text))
    starts = [0, *(mark.end() for mark in marks)]
    ends = [*(mark.start() for mark in marks), len(text)]
    cells = []
    for mark, start, end in zip([None, *marks], starts, ends, strict=True):
        source = text[start:end].strip("\n")
        says = (mark and mark["percent"]) or ""
        is_text = re.search(r"\[(?:markdown|md|raw)\]", says)
        if is_text:
            source = re.sub(r"^# ?", "", source, flags=re.MULTILINE)
        name = NAME_IN_MARKER.search(says)
        if source.strip():
            kind = "markdown" if is_text else "code"
            cells.append({"cell_type": kind, "source": _without_calls(source), "id": name and name[1]})
    return cells


def _without_calls(source: str) -> str:
    """A cell's Python that nbconvert's script has in a call, `get_ipython().run_cell_magic("time", "", "...")`."""
    if "run_cell_magic(" not in source or len(source) > MOST_CODE:
        return source
    lines = source.split("\n")
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        calls = [node.value for node in ast.parse(source).body if isinstance(node, ast.Expr)]
        for call in reversed(calls):  # so that the lines before it keep their numbers
            alone = not call.col_offset and len(lines[call.end_lineno - 1].encode()) == call.end_col_offset
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "run_cell_magic" and alone:
                magic, _, body = (ast.literal_eval(argument) for argument in call.args)
                if magic in PYTHON_MAGICS:
                    lines[call.lineno - 1 : call.end_lineno] = [str(body)]
    return "\n".join(lines)


def _plain(cell: dict) -> dict:
    """A cell of which only type, name, text, metadata and pictures are left."""
    kind, source = cell.get("cell_type"), source_of(cell)
    if kind == "heading":
        kind, source = "markdown", f"# {source}"
    metadata = cell.get("metadata") if isinstance(cell.get("metadata"), dict) else {}
    return {
        "cell_type": kind if kind in ("code", "markdown") else "raw",
        "source": source,
        "id": cell["id"] if isinstance(cell.get("id"), str) else None,
        "metadata": metadata,
        "attachments": dict(_pictures(cell.get("attachments"))),
    }


def _pictures(attachments: object) -> Iterator[tuple[str, dict[str, str]]]:
    """Pictures that were pasted into a cell, by name, each in one form."""
    for name, forms in attachments.items() if isinstance(attachments, dict) else ():
        for kind in PICTURES:
            data = forms.get(kind) if isinstance(forms, dict) else None
            data = "".join(map(str, data)) if isinstance(data, list) else data
            if isinstance(data, str) and BASE64.fullmatch(data):
                yield name.encode("utf-8", "replace").decode("utf-8"), {kind: data}
                break


def _as_databricks_means_it(cell: dict) -> dict:
    """There a cell's first line may say its language."""
    found = LANGUAGE_OF_DATABRICKS.match(cell["source"]) if cell["cell_type"] == "code" else None
    if not found:
        return cell
    kind = "code" if found[1] == "python" else "markdown"
    return cell | {"cell_type": kind, "source": textwrap.dedent(cell["source"][found.end() :])}
