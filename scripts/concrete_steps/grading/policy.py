"""A content security policy on every page that this process makes of a notebook: only the template's scripts run.

Scripts, and what an element does on a click, are known by their digests, taken from the same page without any cell. So
even what got past the sanitiser (pages.py) would not run; nor does the page load anything that a learner names.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re

from bs4 import BeautifulSoup
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode

MATHJAX = "https://cdnjs.cloudflare.com/ajax/libs/mathjax/2.7.7/"
# The template configures MathJax by a script that MathJax evaluates, which a policy would have to allow for all.
CONFIGURED = re.compile(
    r'(<script src="[^"]*mathjax[^"]*">\s*</script>).*?<script type="text/x-mathjax-config">.*?</script>', re.DOTALL
)
CONFIGURATION = {
    "TeX": {"equationNumbers": {"autoNumber": "AMS", "useLabelIds": True}},
    "tex2jax": {
        "inlineMath": [["$", "$"], ["\\(", "\\)"]],
        "displayMath": [["$$", "$$"], ["\\[", "\\]"]],
        "processEscapes": True,
        "processEnvironments": True,
    },
    "displayAlign": "center",
    "messageStyle": "none",
}

_from_notebook_node = HTMLExporter.from_notebook_node


def restrict_pages() -> None:
    HTMLExporter.from_notebook_node = from_notebook_node


def from_notebook_node(self, nb, resources=None, **options):
    """In place of HTMLExporter's own."""
    page, resources = _from_notebook_node(self, nb, resources, **options)
    without_cells = NotebookNode(nb | {"cells": []})
    template, _ = _from_notebook_node(self, without_cells, dict(resources), **options)
    return with_policy(page, template), resources


def with_policy(page: str, template: str) -> str:
    """The page under a policy that allows what the template holds: the page that the same exporter makes of nothing."""
    allowed = BeautifulSoup(_configure(template), "html.parser")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{policy_for(allowed)}">'
    return _configure(page).replace("<head>", f"<head>\n{policy}", 1)


def policy_for(template: BeautifulSoup) -> str:
    scripts = template.find_all("script")
    inline = {_digest(script.string or "") for script in scripts if not script.get("src")}
    handlers = {
        _digest(value) for tag in template.find_all(True) for name, value in tag.attrs.items() if name[:2] == "on"
    }
    own_server = any(script.get("src", "").startswith("/") for script in scripts)
    sources = [*sorted(inline), *(["'unsafe-hashes'", *sorted(handlers)] if handlers else [])]
    sources += ["'self'"] if own_server else []
    rules = {
        "default-src": "'none'",
        "script-src": " ".join([*sources, MATHJAX]),
        "style-src": f"'unsafe-inline' {MATHJAX} 'self'",
        "font-src": f"{MATHJAX} 'self'",
        "img-src": "data: 'self'" if own_server else "data:",
        "connect-src": "'self'" if own_server else "'none'",
        "form-action": "'none'",
        "base-uri": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _configure(page: str) -> str:
    """MathJax's configuration as an ordinary script before it."""
    script = f"<script>window.MathJax = {json.dumps(CONFIGURATION)};</script>"
    return CONFIGURED.sub(lambda found: f"{script}\n{found[1]}", page, count=1)


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
