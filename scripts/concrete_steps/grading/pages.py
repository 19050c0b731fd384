"""Learners' texts on an instructor's pages (feedback, formgrader): shown, and never run.

nbgrader's templates put markdown on the page as it comes out, so our filter stands in the place of nbconvert's: it
shows the pictures that were pasted into the cell, and keeps what a text needs, no scripts, and links to the web only.
"""

import html
import re
import time
from collections.abc import Callable, Iterator
from urllib.parse import unquote

import bleach
from bleach.css_sanitizer import CSSSanitizer
from jinja2 import pass_context
from nbconvert.exporters import HTMLExporter
from nbconvert.filters import markdown2html

from concrete_steps.grading.policy import restrict_pages

# What markdown makes, and what the course's own texts use beyond it.
TAGS = (
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "div", "span", "pre", "code", "kbd", "samp"),
    *("a", "img", "em", "strong", "b", "i", "del", "s", "sub", "sup", "u", "mark", "small", "abbr"),
    *("ul", "ol", "li", "dl", "dt", "dd", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "caption"),
    *("details", "summary", "input"),  # input: the boxes of a list of things to do
)
PLAIN = {"class", "id", "title", "alt", "open", "start", "colspan", "rowspan", "width", "height", "style"}
PLAIN |= {"checked", "disabled"}
PICTURE = re.compile(
    r"data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]*$"
)  # none that a page would fetch
LINK = re.compile(r"https?://|mailto:|#")
ATTACHED = re.compile(r"(?P<before>\]\(|\"|<)attachment:(?P<name>[^)\"\s>]+)")
# Of a text that is still laid out (letters, lines, marks): what lays it out takes the square of these.
LONGEST, MOST_LINES, MOST_MARKS = 200_000, 1_000, 1_000
# Of a page, after which its other texts are shown as they are; the course's longest takes less than a second.
MOST_SECONDS, SPENT = 20.0, "seconds of layout"
MARK = re.compile(r"[<>&\"\[]|\*\*|__|\\begin|\\\\\(")
GAP = re.compile(r"[^\S\n]{500}")
MOST_COLOURED = 1_000  # letters of a text whose code is coloured: for some languages that takes the square, too
FENCE = re.compile(r"^([ \t>*+\-\d.)]*(?:`{3,}(?=[^\n`]*$)|~{3,}))[^\n]*$", re.MULTILINE)
MISSING = "#picture-that-was-not-handed-in"


def show_harmlessly() -> None:
    """From here on every page that this process makes of a notebook uses our filter, and has a policy (policy.py).

    The formgrader's exporter does not look into nbgrader's configuration.
    """
    HTMLExporter.default_filters = default_filters
    restrict_pages()


_default_filters = HTMLExporter.default_filters


def default_filters(self) -> Iterator[tuple[str, Callable]]:
    yield from _default_filters(self)
    yield "markdown2html", markdown


@pass_context
def markdown(context, source: str) -> str:
    """A jinja filter: the HTML of a markdown text, with nothing in it that could run."""
    cell, of_page = context.get("cell") or {}, context.get("resources")
    spent = of_page.get(SPENT, 0.0)
    start = time.perf_counter()
    page = harmless(source, cell.get("attachments") or {}) if spent < MOST_SECONDS else _as_it_is(source)
    of_page[SPENT] = spent + time.perf_counter() - start
    return page


def harmless(source: str, attachments: dict) -> str:
    """The HTML of a text; `attachments` are nbformat's: by name, a dictionary from MIME type to base64."""

    def embedded(found: re.Match) -> str:
        forms = attachments.get(found["name"]) or attachments.get(unquote(found["name"])) or {}
        address = next((f"data:{kind};base64,{''.join(data)}" for kind, data in forms.items()), MISSING)
        return found["before"] + address

    try:
        many = source.count("\n") > MOST_LINES or len(MARK.findall(source)) > MOST_MARKS
        if many or len(source) > LONGEST or GAP.search(source):
            raise ValueError("too long to lay out")
        plain = FENCE.sub(r"\1", source) if len(source) > MOST_COLOURED else source
        page = markdown2html(ATTACHED.sub(embedded, plain))
        return bleach.clean(
            page,
            tags=TAGS,
            attributes=_may_have,
            protocols=("http", "https", "mailto", "data"),
            css_sanitizer=CSSSanitizer(allowed_css_properties=["text-align"]),
        )
    except Exception:  # a text can be made so that a library fails on it; it is shown as it is, and nobody else waits
        return _as_it_is(source)


def _as_it_is(source: str) -> str:
    return f"<pre>{html.escape(source)}</pre>"


def _may_have(tag: str, name: str, value: str) -> bool:
    if name == "src":
        return tag == "img" and PICTURE.match(value) is not None
    if name == "href":
        return tag == "a" and LINK.match(value) is not None
    if name == "type":
        return tag == "input" and value == "checkbox"
    return name in PLAIN
