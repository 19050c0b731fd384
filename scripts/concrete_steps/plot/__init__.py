"""Pictures of tensors for the notebooks: `from concrete_steps import plot`.

    plot.imshow(tensor)              matrices as colours: one, small multiples, or along a slider
    plot.line, plot.scatter          curves and points
    plot.bar, plot.hist              amounts and distributions
    plot.attention(tokens, pattern)  attention heads (CircuitsVis), plot.tokens(tokens, values) coloured text
    plot.show(figure, ...)           show several in one cell

Every helper takes torch tensors (gradient, bfloat16, CUDA), arrays or lists and returns the figure; a notebook shows
the last one of a cell. All but `attention` and `tokens` return ordinary Plotly figures, to change further:
`figure.add_hline(y=0)`.
Nothing is fetched from the internet, and figures are small in the saved notebook.
"""

from concrete_steps.plot.bars import bar, hist
from concrete_steps.plot.circuits import attention, tokens
from concrete_steps.plot.curves import line, scatter
from concrete_steps.plot.heatmap import imshow
from concrete_steps.plot.look import use_notebook_renderer

__all__ = ["attention", "bar", "hist", "imshow", "line", "scatter", "show", "tokens"]

use_notebook_renderer()


def show(*figures) -> None:
    """Show each figure, where a cell makes more than one."""
    for figure in figures:
        figure.show()
