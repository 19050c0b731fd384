"""`line` and `scatter`: points along two axes that always say what they are."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from concrete_steps.errors import CourseError
from concrete_steps.plot.arrays import check_length, finite, named_groups, plain, show_tokens, to_array, with_dims
from concrete_steps.plot.look import PLOT_WIDTH, colours, faint, finish, summary, ticks

MOST_WRITTEN = 40  # texts written beside points; more overlap, and are shown on hover only


def line(
    ys,
    *,
    x=None,
    names: Sequence[str] | None = None,
    tokens: Sequence[str] | None = None,
    title: str | None = None,
    x_label: str | None = None,
    y_label: str = "value",
    log_x: bool = False,
    log_y: bool = False,
    bands: Sequence | None = None,
    band_label: str = "interval",
) -> go.Figure:
    """One curve or several.

    Args:
        ys: [point], [curve point], a list of curves of any lengths, or a dict from names to curves.
        x: [point], shared; or a list with one for each curve. By default 0, 1, ... (1, 2, ... with `log_x`).
        names: one for each curve, shown in the legend.
        tokens: labels for the positions, instead of `x`.
        log_x, log_y: logarithmic axes; their values must be above 0.
        bands: (low, high) for one curve, or a list with (low, high) or None for each; drawn as a shade.
        band_label: what the shade is ("95 % interval"); it is added to the y axis's title.

    Raises:
        CourseError: for lengths that differ, or values of 0 and less on a logarithmic axis.
    """
    names, curves = named_groups(ys, names, "curve")
    xs = _xs(x, curves, first=1 if log_x else 0)
    bands = _bands(bands, curves)
    if log_x:
        _check_positive(names, xs, "log_x")
    if log_y:
        _check_positive(names, curves, "log_y")
        lows = [() if band is None else band[0] for band in bands]
        _check_positive([f"the band of {name}" for name in names], lows, "log_y")

    shaded = any(band is not None for band in bands)
    fig = go.Figure()
    mode = "lines+markers" if max(map(len, curves)) <= 30 else "lines"
    for name, x_, y, band, colour in zip(names, xs, curves, bands, colours(len(curves)), strict=True):
        if band is not None:
            edge = {"x": x_, "legendgroup": name, "showlegend": False, "hoverinfo": "skip", "line_width": 0}
            fig.add_scatter(y=finite(band[0]), mode="lines", **edge)
            fig.add_scatter(y=finite(band[1]), mode="lines", fill="tonexty", fillcolor=faint(colour), **edge)
        hover = f"{plain(name)}<br>%{{x}}, %{{y:.4g}}<extra></extra>"
        look = {"mode": mode, "line": {"color": colour, "width": 2}, "hovertemplate": hover}
        fig.add_scatter(x=x_, y=finite(y), name=plain(name), legendgroup=name, **look)
    if tokens is not None:
        shown = show_tokens(tokens, max(map(len, curves)))
        fig.update_xaxes(ticks(shown, PLOT_WIDTH / len(shown)))
    fig.update_layout(showlegend=len(curves) > 1)
    _axis_types(fig, log_x, log_y)
    x_label = x_label or ("index" if tokens is None else "token")
    y_label = f"{y_label} (shade: {band_label})" if shaded else y_label
    return finish(fig, title, x_label, y_label, what=summary("Lines", names, curves))


def scatter(
    x,
    y,
    *,
    text: Sequence[str] | None = None,
    color=None,
    color_label: str = "colour",
    title: str | None = None,
    x_label: str = "x",
    y_label: str = "y",
    log_x: bool = False,
    log_y: bool = False,
) -> go.Figure:
    """Points.

    Args:
        x, y: [point].
        text: a label for each point, written beside it (hover only, for more than 40 points).
        color: a number for each point (a colour bar) or a word for each (a legend).
        color_label: what the numbers or words are.

    Raises:
        CourseError: for lengths that differ, or values of 0 and less on a logarithmic axis.
    """
    x = with_dims(x, (1,), "x of scatter", "[point]")
    y = with_dims(y, (1,), "y of scatter", "[point]")
    if len(x) != len(y):
        raise CourseError(f"scatter has {len(x)} x but {len(y)} y: give one of each for every point.")
    if log_x:
        _check_positive(["x"], [x], "log_x")
    if log_y:
        _check_positive(["y"], [y], "log_y")
    for what, labels in (("text", text), ("color", color)):
        if labels is not None:
            check_length(labels, len(x), what, "point")

    labels = np.array([plain(label) for label in text]) if text is not None else None
    words = color is not None and any(isinstance(word, str) for word in color)
    group_of = np.array([str(word) for word in color]) if words else np.full(len(x), "points")
    groups = list(dict.fromkeys(group_of.tolist()))
    fig = go.Figure()
    for name, colour in zip(groups, colours(len(groups)), strict=True):
        mine = group_of == name
        marker = {"size": 8, "color": colour, "line": {"width": 0.5, "color": "white"}}
        if color is not None and not words:
            values = with_dims(color, (1,), "color of scatter", "[point]")
            bar = {"title": {"text": color_label}, "thickness": 14, "outlinewidth": 0}
            marker |= {"color": values, "colorscale": "Viridis", "colorbar": bar}
        fig.add_scatter(
            x=finite(x[mine]),
            y=finite(y[mine]),
            name=plain(name),
            mode="markers+text" if text is not None and len(x) <= MOST_WRITTEN else "markers",
            text=labels[mine] if labels is not None else None,
            textposition="top center",
            marker=marker,
            hovertemplate=("%{text}<br>" if text is not None else "") + "%{x:.4g}, %{y:.4g}<extra></extra>",
        )
    fig.update_layout(showlegend=words, legend_title_text=color_label if words else None)
    _axis_types(fig, log_x, log_y)
    return finish(fig, title, x_label, y_label, what=f"Scatter plot of {len(x)} points")


def _xs(x, curves: list[np.ndarray], first: int) -> list[np.ndarray]:
    """Where the points of each curve lie: counted from `first`, shared, or one array for each curve."""
    if x is None:
        return [np.arange(first, first + len(y)) for y in curves]
    x = to_array(x, "x of line") if hasattr(x, "shape") or not any(np.ndim(part) for part in x) else x
    xs = [x] * len(curves) if np.ndim(x[0]) == 0 else [to_array(part, "x of line") for part in x]
    check_length(xs, len(curves), "x", "curve")
    for i, (x_, y) in enumerate(zip(xs, curves, strict=True)):
        if x_.shape != y.shape:
            raise CourseError(f"curve {i} of line has {len(y)} points, but its x has shape {list(x_.shape)}.")
    return xs


def _bands(bands, curves: list[np.ndarray]) -> list[np.ndarray | None]:
    """For each curve [low_high point] or None."""
    if bands is None:
        return [None] * len(curves)
    bands = [bands] if len(curves) == 1 and len(bands) == 2 else bands
    check_length(bands, len(curves), "bands", "curve")
    bands = [None if band is None else to_array(band, "bands of line") for band in bands]
    for i, (band, y) in enumerate(zip(bands, curves, strict=True)):
        if band is not None and band.shape != (2, len(y)):
            raise CourseError(
                f"the band of curve {i} has shape {list(band.shape)}, but needs (low, high) of {len(y)} points each."
            )
    return bands


def _check_positive(names: Sequence[str], arrays: Sequence[np.ndarray], option: str) -> None:
    """A logarithmic axis would drop values of 0 and less without a word."""
    for name, array in zip(names, arrays, strict=True):
        at = np.flatnonzero(np.asarray(array) <= 0)
        if at.size:
            value = f"{array[at[0]]:.3g} at index {at[0]}"
            raise CourseError(f"{option}=True needs values above 0, but {name} has {value}.")


def _axis_types(fig: go.Figure, log_x: bool, log_y: bool) -> None:
    for log, axis, update in ((log_x, "x", fig.update_xaxes), (log_y, "y", fig.update_yaxes)):
        if log:
            values = np.concatenate([np.asarray(trace[axis], float) for trace in fig.data])
            values = values[np.isfinite(values) & (values > 0)]
            decades = np.ptp(np.log10(values)) if values.size else 0
            digits = {"dtick": "D2"} if 1 <= decades < 4 else {}  # 1, 2, 5: all nine would run into each other
            update(type="log", exponentformat="power", minor={"ticks": "outside", "showgrid": False}, **digits)
