"""Drawn diagrams: `![what it shows](figures/NAME.svg)` in a text becomes a picture that stands inside the notebook.

An <img> with a data URI is shown by JupyterLab, VS Code, Colab and nbconvert alike, offline and in a file by itself.
(Markdown's own image syntax refuses SVG data in VS Code, and attachments are lost in Colab.)
"""

from __future__ import annotations

import base64
import html
import re
import xml.etree.ElementTree
from pathlib import Path

from concrete_steps.authoring.source import Cell
from concrete_steps.errors import CourseError

IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<path>[^)\s]+)\)")
SVG = "{http://www.w3.org/2000/svg}"
LARGEST = 40_000  # bytes of one drawing: an exercise notebook has 200 kB in all


def embedded(cell: Cell, source: Path) -> str:
    """The text of a markdown cell with its drawings inside.

    Raises:
        CourseError: a drawing that is missing, is no SVG, has no viewBox, holds a script or is too large, or an image
            without alternative text.
    """

    def picture(found: re.Match) -> str:
        line = cell.line + 1 + cell.text[: found.start()].count("\n")
        where = f"{source}, line {line}"
        if not found["alt"].strip():
            raise CourseError(f"{where}: the image {found['path']} has no alternative text; write what it shows in [].")
        if "://" in found["path"]:
            raise CourseError(f"{where}: {found['path']} is on the web; notebooks work offline: draw it in figures/.")
        drawing = _verified(source.parent / found["path"], where)
        data = base64.b64encode(drawing).decode("ascii")
        return f'<img alt="{html.escape(found["alt"])}" src="data:image/svg+xml;base64,{data}">'

    return IMAGE.sub(picture, cell.text)


def _verified(path: Path, where: str) -> bytes:
    """The bytes of a drawing that is safe to show anywhere, with the line ends of Unix."""
    try:
        drawing = path.read_bytes().replace(b"\r\n", b"\n")
        root = xml.etree.ElementTree.fromstring(drawing)
    except FileNotFoundError:
        raise CourseError(f"{where}: {path} does not exist; draw it, or mend the name.") from None
    except xml.etree.ElementTree.ParseError as error:
        raise CourseError(f"{where}: {path} is no SVG ({error}); mend it.") from None
    if root.tag != f"{SVG}svg" or "viewBox" not in root.attrib:
        raise CourseError(f'{where}: {path} needs <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 W H">.')
    for element in root.iter():
        attributes = [name for name in element.attrib if name.lower().startswith("on")]
        links = [value for name, value in element.attrib.items() if name.endswith("href") and not value.startswith("#")]
        if element.tag in (f"{SVG}script", f"{SVG}foreignObject") or attributes or links:
            raise CourseError(f"{where}: {path} holds a script, a link or foreign content; a drawing has none.")
    if len(drawing) > LARGEST:
        raise CourseError(f"{where}: {path} has {len(drawing)} bytes; at most {LARGEST} fit: simplify it.")
    return drawing
