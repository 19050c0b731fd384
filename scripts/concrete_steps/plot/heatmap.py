"""`imshow`: matrices as colours, alone, side by side, or along a slider."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from concrete_steps.errors import CourseError
from concrete_steps.plot.arrays import check_length, finite, largest, plain, show_token, span, with_dims
from concrete_steps.plot.look import BLANK, LETTER, LINE, NEGATIVE, POSITIVE, WIDTH, finish, ticks, title_width

SLIDER = 90  # pixels for a slider and its label
MOST_TEXT = 400  # printed values; more cannot be read
# One value has one colour on both scales: the second is the upper half of the first.
ABOVE, BELOW = ["white", "#92c5de", POSITIVE, "#053061"], ["#67001f", NEGATIVE, "#f4a582"]
SCALES = {"centred": BELOW + ABOVE, "positive": ABOVE}


def imshow(
    tensor,
    *,
    title: str | None = None,
    x: Sequence | None = None,
    y: Sequence | None = None,
    x_label: str | None = None,
    y_label: str | None = None,
    tokens: Sequence[str] | None = None,
    scale: str = "centred",
    limit: float | None = None,
    value_label: str = "value",
    facets: Sequence | None = None,
    facet_label: str = "index",
    animation_frame: str | None = None,
    frames: Sequence | None = None,
    text: bool = False,
) -> go.Figure:
    """A matrix as colours, row 0 at the top.

    Args:
        tensor: [row column]; [facet row column] draws small multiples; one leading axis more with `animation_frame`.
        x, y: labels of the columns and rows; equal labels stay apart.
        x_label, y_label: what columns and rows are.
        tokens: labels for each axis that has as many entries and no labels of its own. Shown by `show_token`.
        scale: "centred" (white is 0, blue above, red below, symmetric) or "positive" (white is 0, blue above).
        limit: the value where the colour is full; by default the largest magnitude. Set it to compare figures.
        value_label: what the colours mean.
        facets: names of the small multiples; by default `facet_label` and a number.
        animation_frame: what the first axis is ("step"); it becomes a slider.
        frames: names of the slider's stops; by default their numbers.
        text: print the values, in at most 400 cells.

    Values that are not finite are left grey.

    Raises:
        CourseError: for a wrong shape, labels that do not fit, an unknown scale, negative values on a positive scale.
    """
    dims, axes = ((3, 4), "[frame row column]") if animation_frame else ((2, 3), "[row column] or [facet row column]")
    values = with_dims(tensor, dims, "the tensor for imshow", axes)
    if scale not in SCALES:
        raise CourseError(f'scale="{scale}" is unknown to imshow: use "centred" or "positive".')
    if scale == "positive" and (lowest := np.nanmin(finite(values), initial=0)) < 0:
        raise CourseError(f'scale="positive" cannot show {lowest:.3g}: use "centred".')
    if text and values.size > MOST_TEXT:
        raise CourseError(f"text=True prints at most {MOST_TEXT} values, and shape {list(values.shape)} has more.")

    pages = values if animation_frame else values[None]
    pages = pages if pages.ndim == 4 else pages[:, None]  # [frame facet row column]
    n_frames, n_facets, rows, columns = pages.shape
    if frames is not None:
        check_length(frames, n_frames, "frames", "frame")
    if facets is not None:
        check_length(facets, n_facets, "facets", "small picture")
    elif n_facets > 1:
        facets = [f"{facet_label} {i}" for i in range(n_facets)]
    x_names, x_default = _names(x, tokens, columns, "x", "column")
    y_names, y_default = _names(y, tokens, rows, "y", "row")
    if tokens is not None and "token" not in (x_default, y_default):
        raise CourseError(f"tokens has {len(tokens)} entries, but the tensor has {rows} rows and {columns} columns.")
    x_label, y_label = x_label or x_default, y_label or y_default

    grid = _grid(n_facets, x_names, y_names, title, slider=bool(animation_frame))
    fig = make_subplots(
        grid.down,
        grid.across,
        subplot_titles=[plain(name) for name in facets or []] or None,
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.03,
        vertical_spacing=grid.gap,
    )
    what = f"Heatmap of {rows} rows by {columns} columns" + (f", {n_facets} of them" if n_facets > 1 else "")
    what += f", {n_frames} frames ({animation_frame})" if animation_frame else ""
    what += f"; {value_label} from {span(values)}"
    finish(fig, title, x_label, y_label, what=what, **grid.layout)

    pictures = [_pictures(frame, x_names, y_names, x_label, y_label, value_label, text) for frame in pages]
    for i, picture in enumerate(pictures[0]):
        row, column = i // grid.across + 1, i % grid.across + 1
        lowest = i + grid.across >= n_facets
        fig.add_trace(picture, row, column)
        fig.update_xaxes(showticklabels=lowest, title_text=x_label if lowest else "", row=row, col=column)
        fig.update_yaxes(title_text=y_label if column == 1 else "", row=row, col=column)
    small = {"tickfont_size": 11 if n_facets == 1 else 10}
    fig.update_xaxes(type="category", showgrid=False, **grid.x_ticks, **small)
    fig.update_yaxes(type="category", showgrid=False, autorange="reversed", **grid.y_ticks, **small)
    fig.update_annotations(font_size=13)  # the small pictures' names
    top = limit or largest(values)
    fig.update_layout(
        plot_bgcolor=BLANK,
        coloraxis={
            "colorscale": SCALES[scale],
            "cmin": -top if scale == "centred" else 0,
            "cmax": top,
            "colorbar": {"title": {"text": value_label}, "thickness": 14, "len": 1, "outlinewidth": 0},
        },
    )
    if animation_frame:
        stops = [str(name) for name in (range(n_frames) if frames is None else frames)]
        _add_slider(fig, pictures, animation_frame, stops, below=fig.layout.margin.b - SLIDER)
    return fig


def _names(names, tokens, length: int, axis: str, kind: str) -> tuple[list[str], str]:
    """The labels along one axis, and what the axis is called when the caller does not say."""
    if names is not None:
        check_length(names, length, axis, kind)
        return [str(name) for name in names], kind
    if tokens is not None and not isinstance(tokens, str) and len(tokens) == length:
        return [show_token(token) for token in tokens], "token"
    return [str(i) for i in range(length)], kind


class _Grid(NamedTuple):
    """How the small pictures lie, with the axis settings and the layout that follow."""

    across: int
    down: int
    x_ticks: dict
    y_ticks: dict
    gap: float  # between rows of pictures, as Plotly wants it: a share of the height inside the margins
    layout: dict


def _grid(n_facets: int, x_names: list[str], y_names: list[str], title: str | None, slider: bool) -> _Grid:
    """Square cells where they fit, at most 60 pixels each, and never wider than the notebook."""
    across = min(n_facets, 3 if n_facets in (3, 5, 6, 9) else 4)
    down = math.ceil(n_facets / across)
    left = 45 + LETTER * min(20, max(map(len, y_names)))
    right = 100  # the colour bar
    cell = min(60, (WIDTH - left - right) / across / len(x_names), 460 / len(y_names))
    x_pitch, y_pitch = max(cell, 110 / len(x_names)), max(cell, 110 / len(y_names))
    x_ticks, y_ticks = ticks(x_names, x_pitch), ticks(y_names, y_pitch, turn=False)
    label = LETTER * min(20, max(map(len, x_names)))
    bottom = 50 + {0: LINE, -45: LINE + int(0.7 * label), -90: label}[x_ticks["tickangle"]]
    gap = 35
    inner = down * y_pitch * len(y_names) + (down - 1) * gap
    top = (50 if title else 20) + (20 if n_facets > 1 else 0)
    foot = bottom + (SLIDER if slider else 0)
    width = int(max(400, left + right + across * x_pitch * len(x_names)))
    beside = max(0, title_width(title) - width)  # where a title is wider than the pictures
    layout = {
        "width": width + beside,
        "height": int(top + inner + foot),
        "margin": {"l": left, "r": right + beside, "t": top, "b": foot},
    }
    return _Grid(across, down, x_ticks, y_ticks, gap / inner if down > 1 else 0, layout)


def _pictures(frame: np.ndarray, x_names, y_names, x_label, y_label, value_label, text: bool) -> list[go.Heatmap]:
    """One heatmap for each facet of [facet row column]. A number in front keeps equal labels apart."""
    number = "z.2f" if frame.dtype.kind == "f" else "d"
    return [
        go.Heatmap(
            z=finite(matrix),
            x=[f"{i}: {plain(name)}" if name != str(i) else name for i, name in enumerate(x_names)],
            y=[f"{i}: {plain(name)}" if name != str(i) else name for i, name in enumerate(y_names)],
            coloraxis="coloraxis",
            hovertemplate=f"{x_label} %{{x}}<br>{y_label} %{{y}}<br>{value_label} %{{z:.4g}}<extra></extra>",
            hoverongaps=False,
            xgap=1 if max(matrix.shape) <= 30 else 0,
            ygap=1 if max(matrix.shape) <= 30 else 0,
            **{"text": [[format(v, number) for v in row] for row in matrix], "texttemplate": "%{text}"} if text else {},
        )
        for matrix in frame
    ]


def _add_slider(fig: go.Figure, pictures: list[list[go.Heatmap]], label: str, stops: list[str], below: int) -> None:
    """A slider over the frames and a play button, `below` pixels under the axes; `fig` shows the first frame."""
    shown = list(range(len(pictures[0])))
    fig.frames = [go.Frame(data=frame, name=str(i), traces=shown) for i, frame in enumerate(pictures)]
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    moving = {"fromcurrent": True, "frame": {"duration": 400, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"method": "animate", "label": stop, "args": [[str(i)], still]} for i, stop in enumerate(stops)]
    play = {"label": "▶", "method": "animate", "args": [None, moving]}
    stop = {"label": "■", "method": "animate", "args": [[None], still]}
    buttons = 95 / (fig.layout.width - fig.layout.margin.l - fig.layout.margin.r)  # their share of the width
    place = {"x": buttons, "len": 1 - buttons, "pad": {"t": below}}
    corner = {"x": 0, "y": 0, "xanchor": "left", "yanchor": "top", "pad": {"t": below + 15, "r": 10}}
    menu = {"type": "buttons", "direction": "left", "buttons": [play, stop], "showactive": False}
    fig.update_layout(
        sliders=[{"steps": steps, "currentvalue": {"prefix": f"{label} "}} | place],
        updatemenus=[menu | corner],
    )
