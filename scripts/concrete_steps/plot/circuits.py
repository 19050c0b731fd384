"""`attention` (CircuitsVis) and `tokens`: pictures over the text itself, with no network and little to store.

CircuitsVis draws with a bundle of 1.3 MB, which its own Python puts into every figure or loads from the internet. Here
it travels compressed (0.5 MB) with one figure of a notebook, and every figure holds its data, 2 kB of code and a text.
A browser that has the bundle, from any output of the page or an earlier visit, draws; otherwise the text stays.
"""

import base64
import functools
import gzip
import json
import re
import sys
from collections.abc import Sequence
from html import escape
from importlib.metadata import distribution, version
from importlib.resources import files
from pathlib import Path
from uuid import uuid4

import numpy as np

from concrete_steps.errors import CourseError
from concrete_steps.plot.arrays import check_length, finite, largest, show_tokens, with_dims
from concrete_steps.plot.look import BLANK, NEGATIVE, POSITIVE, WIDTH

_carrier: tuple[str, str] | None = None  # the cell whose output holds the bundle, and the run that put it there
MOST_WEIGHTS = 50_000  # 12 heads of 64 tokens: 200 kB in the saved notebook


# CircuitsVis's headings are a page's, and its small pictures hide under their names in a notebook's column.
STYLE = """<style>
[data-figure] h2 {display: none}
[data-figure] h3 {font-size: 14px; font-weight: normal; margin: 4px 0 !important}
[data-figure] h4 {font-size: 11px; font-weight: normal; padding: 0 3px !important}
[data-figure] > div > h3 + div > div {flex: 0 0 84px !important; max-width: 84px !important}
[data-figure] > div > div:nth-of-type(2) div[style*="aspect-ratio"] {max-width: 520px !important}
</style>"""


NO_PICTURE = "Restart the kernel and run all cells to see the picture."


class Picture:
    """A figure made of HTML, shown by notebooks as the last value of a cell or by `show()`.

    Args:
        text: what readers without the picture get: the console, a screen reader, an untrusted notebook.
        html: the picture.
        script: JavaScript that draws it, for CircuitsVis.
    """

    def __init__(self, text: str, html: str, script: str = "") -> None:
        self.text, self.html, self.script = text, html, script

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        script = self.script + (_bundle_script() if self.script and _must_bring_bundle() else "")
        html = f"{STYLE}{self.html}<script>{script}</script>" if script else self.html
        return {"text/plain": self.text, "text/html": html}

    def show(self) -> None:
        """Show it now; a notebook does so by itself for the last value of a cell."""
        from IPython.display import display

        display(self)


def attention(
    tokens: Sequence[str], pattern, *, heads: Sequence[str] | None = None, title: str | None = None
) -> Picture:
    """Attention patterns, one small picture a head: hover over a head to enlarge it, click to keep it.

    Args:
        tokens: one string for each position, such as `model.to_str_tokens(prompt)`.
        pattern: [head query key], or [query key] for one head; a leading batch of 1 is dropped.
        heads: a name for each head ("L5H1"); by default its number.

    Rows are queries ("destination" in CircuitsVis) and columns keys ("source"). The part above the diagonal is
    grey where all of it is 0, as under a causal mask.

    Raises:
        CourseError: for another shape, tokens that do not fit, or more weights than a notebook should store.
    """
    pattern = with_dims(pattern, (2, 3, 4), "the pattern", "[head query key]", MOST_WEIGHTS)
    if pattern.ndim == 4 and len(pattern) > 1:
        raise CourseError(f"the pattern has shape {list(pattern.shape)}: choose one sequence of the batch, pattern[0].")
    pattern = finite(pattern.reshape(-1, *pattern.shape[-2:]))
    n_heads, queries, keys = pattern.shape
    if queries != keys:
        raise CourseError(f"the pattern has {queries} queries but {keys} keys; a square [head query key] is needed.")
    tokens = show_tokens(tokens, keys)
    heads = [f"head {i}" for i in range(n_heads)] if heads is None else heads
    check_length(heads, n_heads, "heads", "head")
    heads = [str(head) for head in heads]
    causal = not np.triu(pattern, 1).any()
    text = _attention_text(tokens, pattern, heads, causal)
    top = max(1.0, largest(pattern))
    props = {
        "attention": _rounded(pattern),
        "tokens": [_unmarked(token) for token in tokens],
        "attentionHeadNames": heads,
        "maxValue": top,
        "minValue": -top,
        "positiveColor": POSITIVE,
        "negativeColor": NEGATIVE,
        "maskUpperTri": causal,
    }
    figure = uuid4().hex[:12]
    box = f'<div data-figure="{figure}"><pre>{escape(text)}\n({NO_PICTURE})</pre></div>'
    names = {"FIGURE": figure, "PROPS": props, "KEY": _cache_key()}
    return Picture(f"{title}. {text}" if title else text, _frame(title, box), _filled("attention.js", names))


def tokens(tokens: Sequence[str], values, *, title: str | None = None, limit: float | None = None) -> Picture:
    """The text with each token coloured by its value: blue above 0, red below, white at 0. Hover to read the value.

    Args:
        tokens: one string for each position.
        values: [position].
        limit: the value where the colour is full; by default the largest magnitude.

    Plain HTML: it needs no code, so it also shows in an untrusted notebook.

    Raises:
        CourseError: for another shape, or tokens that do not fit.
    """
    values = with_dims(values, (1,), "the values for tokens", "[position]", MOST_WEIGHTS)
    shown = show_tokens(tokens, len(values))
    top = limit or largest(values)
    spans = "".join(
        f'<span title="{i}: {escape(token)} {value:.4g}" style="{_token_style(value / top)}">{escape(token)}</span>'
        + ("<br>" * token.count("↵"))
        for i, (token, value) in enumerate(zip(shown, values, strict=True))
    )
    legend = "".join(f'<span style="{_token_style(part)}">{part * top:.3g}</span>' for part in (-1, -0.5, 0, 0.5, 1))
    text = f"{title}\n" if title else ""
    text += " | ".join(f"{token} {value:.3g}" for token, value in zip(shown, values, strict=True))
    return Picture(text, _frame(title, f'<div>{spans}</div><div style="margin-top:8px">colours: {legend}</div>'))


def _frame(title: str | None, inner: str) -> str:
    """White like the Plotly figures, also on a dark theme, and as wide."""
    heading = f'<div style="font-size:16px;margin-bottom:8px">{escape(title)}</div>' if title else ""
    style = f"max-width:{WIDTH}px;background-color:white;color:#222;padding:10px;line-height:1.7"
    return f'<div style="{style}">{heading}{inner}</div>'


TOKEN = "display:inline-block;padding:0 1px;border:1px solid #eee"  # blocks, so that a line may end between tokens


def _token_style(strength: float) -> str:
    """CSS of a token whose value is `strength` of the full colour, from -1 to 1; grey when it is not a number."""
    if not np.isfinite(strength):
        return f"background-color:{BLANK};color:black;{TOKEN}"
    full = bytes.fromhex((POSITIVE if strength >= 0 else NEGATIVE)[1:])
    part = min(abs(strength), 1)
    rgb = ",".join(str(round(255 + part * (channel - 255))) for channel in full)
    return f"background-color:rgb({rgb});color:{'white' if part > 0.55 else 'black'};{TOKEN}"


def _attention_text(tokens, pattern, heads, causal: bool, most: int = 12) -> str:
    """The three largest weights of each head, leaving out a causal pattern's first row, which is always 1."""
    n_heads, length, _ = pattern.shape
    several = "s" if n_heads > 1 else ""
    lines = [f"Attention of {n_heads} head{several} over {length} tokens; largest weights, query -> key:"]
    rows = 1 if causal and length > 1 else 0
    for name, weights in zip(heads[:most], pattern, strict=False):
        order = np.argsort(-np.nan_to_num(weights[rows:]), axis=None, kind="stable")[:3]
        best = [divmod(int(at) + rows * length, length) for at in order]
        said = [f"{q} {tokens[q]} -> {k} {tokens[k]} {weights[q, k]:.2f}" for q, k in best]
        lines.append(f"{name}: {', '.join(said)}")
    return "\n".join(lines + ([f"and {n_heads - most} heads more"] if n_heads > most else []))


def _rounded(pattern: np.ndarray) -> list:
    """Nested lists with three decimals, whole numbers without any: what the saved notebook holds."""
    short = [int(v) if v == int(v) else v for v in np.nan_to_num(pattern.astype(float)).round(3).ravel().tolist()]
    return np.array(short, dtype=object).reshape(pattern.shape).tolist()


def _unmarked(token: str) -> str:
    """An unseen space after `<` and `&`, so that CircuitsVis, which writes tokens as HTML, shows them as they are."""
    return token.replace("<", "<\u200b").replace("&", "&\u200b")


def _filled(name: str, values: dict) -> str:
    """The script `name` of this folder with its capital names replaced by JSON."""
    script = (files(__package__) / name).read_text(encoding="utf-8")
    # "</" would end the script element, even inside a string.
    insert = {key: json.dumps(value, separators=(",", ":")).replace("</", "<\\/") for key, value in values.items()}
    return re.sub(rf"\b({'|'.join(insert)})\b", lambda match: insert[match[0]], script)


def _cache_key() -> str:
    return f"/concrete-steps/circuitsvis-{version('circuitsvis')}.js"


@functools.cache
def _bundle_script() -> str:
    # Found without importing circuitsvis, which would load torch.
    source = Path(distribution("circuitsvis").locate_file("circuitsvis/dist/cdn/iife.js")).read_bytes()
    packed = base64.b64encode(gzip.compress(source, 9, mtime=0)).decode("ascii")
    return _filled("bundle.js", {"KEY": _cache_key(), "BUNDLE": packed})


def _must_bring_bundle() -> bool:
    """Whether this output carries the bundle: the kernel's first figure does, and again when its cell is rerun.

    Outside Jupyter each output stands alone, and Colab shuts every output in a frame of its own: there all of them do.
    """
    global _carrier
    from IPython import get_ipython

    shell = get_ipython()
    if not hasattr(shell, "get_parent") or "google.colab" in sys.modules:
        return True
    request = shell.get_parent()
    cell = request["metadata"].get("cellId") or request["content"].get("code")
    run = request["header"]["msg_id"]
    if _carrier is None or (_carrier[0] == cell and _carrier[1] != run):
        _carrier = cell, run
        return True
    return False
