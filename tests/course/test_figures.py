"""Drawings stand inside the notebook, the same bytes each time, and a bad one is named with its line."""

import base64
import re

import pytest

from concrete_steps.authoring.figures import embedded
from concrete_steps.authoring.source import Cell
from concrete_steps.errors import CourseError

DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><text x="1" y="5">a</text></svg>\n'


def text_with(
    tmp_path, drawing: str | None, markdown: str = 'A head:\n\n![a "head"](figures/head.svg)\n\nand on.'
) -> str:
    (tmp_path / "figures").mkdir(exist_ok=True)
    if drawing is not None:
        (tmp_path / "figures" / "head.svg").write_text(drawing, newline="")
    return embedded(Cell("markdown", markdown, line=7), tmp_path / "9.9_heads.py")


def test_a_drawing_is_embedded_and_the_rest_of_the_text_is_kept(tmp_path):
    text = text_with(tmp_path, DRAWING)
    found = re.search(r'<img alt="a &quot;head&quot;" src="data:image/svg\+xml;base64,([^"]+)">', text)
    assert base64.b64decode(found[1]).decode() == DRAWING
    assert text.startswith("A head:\n\n<img") and text.endswith("\n\nand on.")


def test_line_ends_of_windows_give_the_same_bytes(tmp_path):
    assert text_with(tmp_path, DRAWING) == text_with(tmp_path, DRAWING.replace("\n", "\r\n"))


@pytest.mark.parametrize(
    ("drawing", "markdown", "words"),
    [
        (None, "![a](figures/none.svg)", "line 8: .*none.svg does not exist"),
        (DRAWING, "one\ntwo\n![ ](figures/head.svg)", "line 10: .*no alternative text"),
        ("<svg", "![a](figures/head.svg)", "is no SVG"),
        (DRAWING.replace(' viewBox="0 0 10 10"', ""), "![a](figures/head.svg)", "viewBox"),
        (DRAWING.replace("<text", "<script>1</script><text"), "![a](figures/head.svg)", "holds a script"),
        (DRAWING.replace("<text", '<text onclick="a()"'), "![a](figures/head.svg)", "holds a script"),
        (DRAWING.replace("<text", "<!--" + "x" * 50_000 + "--><text"), "![a](figures/head.svg)", "at most 40000"),
        (DRAWING, "![a](https://example.org/a.svg)", "is on the web"),
    ],
)
def test_a_bad_drawing_gets_one_sentence(tmp_path, drawing, markdown, words):
    with pytest.raises(CourseError, match=words):
        text_with(tmp_path, drawing, markdown)
