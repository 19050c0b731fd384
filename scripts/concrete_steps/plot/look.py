"""How every figure looks (size, colours, axis titles) and how a notebook stores it (small, and with a description)."""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from plotly.io.base_renderers import PlotlyRenderer

from concrete_steps.plot.arrays import plain, span

WIDTH, HEIGHT = 700, 420  # pixels: a laptop's notebook column
PLOT_WIDTH = 560  # of it inside the axes, about
LETTER, LINE = 7, 13  # pixels of one letter and one line of a label
POSITIVE, NEGATIVE = "#2166ac", "#b2182b"  # blue and red: far apart for every common kind of colour blindness

BLANK = "#d9d9d9"  # a value that is not finite

# Okabe and Ito, Color Universal Design (2008): told apart by colour-blind readers. Without its yellow, weak on white.
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000"]
# Past the palette the groups are taken to be ordered (layers, steps): dark to light along Viridis.
VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30"]

AXIS = {
    "showline": True,
    "linecolor": "#888",
    "gridcolor": "#e5e5e5",
    "zeroline": False,
    "ticks": "outside",
    "automargin": True,
    "title": {"standoff": 10},
}
# Small, and our own: Plotly's default template would add 7 kB to each figure in the saved notebook.
TEMPLATE = go.layout.Template(
    layout={
        "font": {"size": 13, "color": "#222"},
        "title": {"x": 0.01, "xanchor": "left", "font": {"size": 16}},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
        "xaxis": AXIS,
        "yaxis": AXIS,
        "hoverlabel": {"bgcolor": "white"},
        "legend": {"tracegroupgap": 0},
    }
)


def colours(count: int) -> list[str]:
    """`count` colours: the palette while it lasts, else steps along Viridis."""
    if count <= len(PALETTE):
        return PALETTE[:count]
    stops = np.array([list(bytes.fromhex(colour[1:])) for colour in VIRIDIS])
    at = np.linspace(0, len(VIRIDIS) - 1, count)
    channels = [np.interp(at, range(len(VIRIDIS)), stops[:, c]).astype(int) for c in range(3)]
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in zip(*channels, strict=True)]


def faint(colour: str) -> str:
    """`colour` (#rrggbb) with a fifth of its strength, for shades."""
    return f"rgba{(*bytes.fromhex(colour[1:]), 0.2)}"


def finish(fig: go.Figure, title: str | None, x_label: str, y_label: str, *, what: str, **layout) -> go.Figure:
    """Axis titles, the layout that all figures share, and a description in words for readers without the picture.

    Args:
        what: the description's middle, like "Heatmap of 12 rows by 12 columns". It is kept in `layout.meta`.
    """
    described = f"{what}; x axis: {x_label}; y axis: {y_label}."
    fig.update_layout(
        template=TEMPLATE,
        title_text=title,
        xaxis_title_text=x_label,
        yaxis_title_text=y_label,
        meta={"description": f"{title}. {described}" if title else described},
        **{"width": WIDTH, "height": HEIGHT, "margin": {"t": 50 if title else 20}} | layout,
    )
    return fig


def title_width(title: str | None) -> int:
    """Pixels that a title takes in the widest of its fonts, at most those of a notebook column."""
    return min(WIDTH, int(20 + 9.5 * max(map(len, (title or "").split("<br>")))))


def summary(kind: str, names: Sequence[str], groups: Sequence[np.ndarray], most: int = 8) -> str:
    """Each group's size and range in words: "Lines: train (100 points, 0.1 to 4.7)"."""
    parts = [f"{name} ({len(group)} points, {span(group)})" for name, group in zip(names[:most], groups, strict=False)]
    return f"{kind}: " + ", ".join(parts) + (f" and {len(names) - most} more" if len(names) > most else "")


def ticks(labels: Sequence[str], pitch: float, turn: bool = True) -> dict:
    """Axis settings that put `labels` at positions 0, 1, ...: equal ones stay apart.

    Args:
        pitch: pixels between neighbours. Labels are left out where they would come closer than a line of text.
        turn: for the x axis, where labels too wide for their place are turned.
    """
    every = math.ceil(LINE / pitch)
    at = list(range(0, len(labels), every))
    settings = {"tickmode": "array", "tickvals": at, "ticktext": [plain(labels[i]) for i in at]}
    if turn:
        fits = LETTER * max(map(len, labels)) + 4 <= pitch * every
        settings["tickangle"] = 0 if fits else -45 if pitch * every >= 1.5 * LINE else -90
    return settings


class NotebookRenderer(PlotlyRenderer):
    """Plotly's own mime type, which JupyterLab and VS Code draw with no network, and a text for everything else.

    A figure costs its data and 2 kB in the saved file; the drawing code (4.8 MB) is the editor's.
    """

    def to_mimebundle(self, fig_dict: dict) -> dict:
        layout = fig_dict.get("layout", {})
        meta = layout.get("meta")
        text = meta.get("description") if isinstance(meta, dict) else None
        bundle = super().to_mimebundle(fig_dict)
        bundle["application/vnd.plotly.v1+json"].get("config", {}).pop("plotlyServerURL", None)
        title = (layout.get("title") or {}).get("text")
        return bundle | {"text/plain": text or f"Plotly figure: {title or 'no title'}"}


def use_notebook_renderer() -> None:
    """Make `NotebookRenderer` Plotly's default in Jupyter and VS Code.

    Any other default (Colab's own, a browser for scripts, one that the learner chose) stays.
    """
    pio.renderers["concrete_steps"] = NotebookRenderer(config={"displaylogo": False})
    if pio.renderers.default in ("plotly_mimetype", "plotly_mimetype+notebook", "vscode"):
        pio.renderers.default = "concrete_steps"
