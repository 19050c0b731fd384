"""`bar` and `hist`: amounts as bars from zero."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from concrete_steps.errors import CourseError
from concrete_steps.plot.arrays import check_length, finite, named_groups, plain, show_tokens
from concrete_steps.plot.look import PLOT_WIDTH, colours, finish, summary, ticks


def bar(
    values,
    *,
    x: Sequence | None = None,
    tokens: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    errors=None,
    title: str | None = None,
    x_label: str | None = None,
    y_label: str = "value",
) -> go.Figure:
    """Bars, or groups of bars side by side.

    Args:
        values: [bar], [group bar], or a dict from a group's name to [bar].
        x: a label for each bar; equal labels stay apart.
        tokens: the same for tokens, shown by `show_token`.
        names: one for each group, shown in the legend.
        errors: half the length of an error bar, in the shape of `values`.

    Raises:
        CourseError: for lengths that differ.
    """
    names, groups = named_groups(values, names, "group")
    length = len(groups[0])
    if any(len(group) != length for group in groups):
        raise CourseError(f"bar needs groups of equal length, not {[len(group) for group in groups]}.")
    half = [None] * len(groups)
    if errors is not None:
        _, half = named_groups(errors, None, "group of errors")
        if [len(h) for h in half] != [length] * len(groups):
            raise CourseError(f"errors of bar must have the shape of the values, [{len(groups)}, {length}].")
    if tokens is not None:
        labels = show_tokens(tokens, length)
    else:
        check_length(x if x is not None else range(length), length, "x", "bar")
        labels = [str(label) for label in (x if x is not None else range(length))]

    fig = go.Figure()
    hover = "%{customdata}<br>%{y:.4g}<extra></extra>"
    for name, group, error, colour in zip(names, groups, half, colours(len(groups)), strict=True):
        whisker = {"array": error, "color": "#444", "thickness": 1.5} if error is not None else None
        look = {"marker_color": colour, "error_y": whisker, "hovertemplate": hover}
        fig.add_bar(y=finite(group), name=plain(name), customdata=[plain(label) for label in labels], **look)
    fig.update_xaxes(ticks(labels, PLOT_WIDTH / length))
    fig.update_yaxes(zeroline=True, zerolinecolor="#888")
    fig.update_layout(showlegend=len(groups) > 1, barmode="group", bargap=0.25)
    x_label = x_label or ("index" if tokens is None else "token")
    return finish(fig, title, x_label, y_label, what=summary("Bars", names, groups))


def hist(
    values,
    *,
    names: Sequence[str] | None = None,
    bins: int = 40,
    density: bool = False,
    title: str | None = None,
    x_label: str = "value",
    y_label: str | None = None,
) -> go.Figure:
    """How often each value occurs; several groups lie over each other on the same bins.

    Args:
        values: a tensor of any shape (one group), a list of [value] or a dict from names to them (several groups).
        names: one for each group.
        density: scale each group to area 1, to compare groups of different sizes.

    Only the counts are stored, so a million values cost no more than ten. Values that are not finite are left out, and
    the x axis says so.

    Raises:
        CourseError: for names that do not fit, or a group with no finite value.
    """
    if hasattr(values, "shape"):
        values = [values.reshape(-1)]
    names, groups = named_groups(values, names, "group", most=None)
    kept = [group[np.isfinite(group)] for group in groups]
    for name, group in zip(names, kept, strict=True):
        if group.size == 0:
            raise CourseError(f"hist found no finite value in {name}.")
    left_out = sum(map(len, groups)) - sum(map(len, kept))
    edges = np.histogram_bin_edges(np.concatenate(kept).astype(np.float64), bins)

    fig = go.Figure()
    hover = f"{x_label} %{{x:.4g}}<br>%{{y:.4g}}<extra></extra>"
    for name, group, colour in zip(names, kept, colours(len(kept)), strict=True):
        counts, _ = np.histogram(group, edges, density=density)
        look = {"marker_color": colour, "marker_line_width": 0, "opacity": 1 if len(kept) == 1 else 0.6}
        middles, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
        fig.add_bar(x=middles, y=counts, width=widths, name=plain(name), hovertemplate=hover, **look)
    fig.update_layout(barmode="overlay", showlegend=len(kept) > 1)
    x_label = f"{x_label} ({left_out:,} not finite, left out)" if left_out else x_label
    y_label = y_label or ("density" if density else "count")
    return finish(fig, title, x_label, y_label, what=summary("Histogram", names, kept))
