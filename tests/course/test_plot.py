"""The plot helpers: what each figure holds, how little a notebook stores, and one sentence for bad input."""

import base64
import gzip
import json
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import nbformat
import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest
import torch
from nbclient import NotebookClient

from concrete_steps import plot
from concrete_steps.errors import CourseError
from concrete_steps.plot import circuits, look
from concrete_steps.plot.arrays import show_token, to_array

TOKENS = ["<bos>", " the", " the", "\n", "<b>"]
PATTERN = torch.full((2, 5, 5), 0.0).masked_fill(torch.ones(5, 5).tril().bool(), 1.0)
PATTERN = PATTERN / PATTERN.sum(-1, keepdim=True)


def stored(fig: go.Figure) -> dict:
    """What a notebook stores of a Plotly figure."""
    return look.NotebookRenderer(config={"displaylogo": False}).to_mimebundle(fig.to_dict())


FIGURES = {
    "imshow": lambda: plot.imshow(torch.randn(3, 4)),
    "imshow tokens": lambda: plot.imshow(torch.randn(5, 5), tokens=TOKENS, title="Scores"),
    "imshow facets": lambda: plot.imshow(torch.randn(6, 3, 4), facet_label="head"),
    "imshow frames": lambda: plot.imshow(torch.randn(4, 3, 4), animation_frame="step"),
    "line": lambda: plot.line([1, 4, 9]),
    "line bands": lambda: plot.line([1.0, 4.0], bands=([0, 3], [2, 5]), band_label="95 % interval"),
    "scatter": lambda: plot.scatter([1, 2], [3, 4]),
    "bar": lambda: plot.bar([1, 2]),
    "bar tokens": lambda: plot.bar(range(5), tokens=TOKENS),
    "hist": lambda: plot.hist(torch.randn(100)),
}


@pytest.mark.parametrize("make", FIGURES.values(), ids=FIGURES)
def test_every_figure_says_what_its_axes_are_and_stores_little(make):
    fig = make()
    xs = [axis.title.text for axis in fig.select_xaxes() if axis.showticklabels is not False]
    ys = [axis.title.text for axis in fig.select_yaxes()]
    assert xs and all(xs), f"an x axis has no title: {xs}"
    assert ys[0], "the y axis has no title"
    bundle = stored(fig)
    assert fig.layout.width <= 700
    assert len(json.dumps(bundle)) < 20_000
    assert "http" not in json.dumps(bundle)
    assert f"x axis: {xs[0]}; y axis: {ys[0]}" in bundle["text/plain"]


@pytest.mark.parametrize(
    "values",
    [
        torch.tensor([[1.0, -2.0], [0.5, 0.0]], requires_grad=True),
        torch.tensor([[1.0, -2.0], [0.5, 0.0]], dtype=torch.bfloat16),
        np.array([[1.0, -2.0], [0.5, 0.0]]),
        [[1, -2], [0.5, 0]],
        [torch.tensor([1.0, -2.0], requires_grad=True), np.array([0.5, 0])],
        [[torch.tensor(1.0), torch.tensor(-2.0)], [0.5, 0]],
    ],
)
def test_tensors_arrays_and_lists_are_all_taken(values):
    fig = plot.imshow(values)
    assert np.array_equal(fig.data[0].z, [[1, -2], [0.5, 0]])
    assert (fig.layout.coloraxis.cmin, fig.layout.coloraxis.cmax) == (-2, 2), "the centred scale is not symmetric"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_tensor_on_a_gpu_is_taken():
    assert to_array(torch.ones(2, device="cuda", requires_grad=True)).tolist() == [1, 1]


def test_masks_and_integers():
    assert plot.imshow(torch.ones(2, 2).bool()).data[0].z.sum() == 4
    assert plot.imshow(torch.eye(2).long(), text=True).data[0].text[0] == ["1", "0"]
    assert plot.imshow([[-0.001, 1.0]], text=True).data[0].text[0] == ["0.00", "1.00"]


def test_a_small_picture_has_room_for_its_title():
    long = "Loss on the second copy: who feeds which input of layer 1"
    assert plot.imshow(torch.eye(2), title="short").layout.width < plot.imshow(torch.eye(2), title=long).layout.width
    assert plot.imshow(torch.eye(2), title=9 * long).layout.width == plot.imshow(torch.eye(90, 400)).layout.width


def test_colour_scales():
    assert plot.imshow([[0, 3]], scale="positive").layout.coloraxis.cmin == 0
    assert plot.imshow([[1, 3]], limit=10).layout.coloraxis.cmin == -10
    assert plot.imshow(torch.zeros(2, 2)).layout.coloraxis.cmax == 1, "all zero must still have a scale"
    centred = dict(plot.imshow([[1, 3]]).layout.coloraxis.colorscale)
    assert centred[0.5] == "white"
    assert dict(plot.imshow([[1, 3]], scale="positive").layout.coloraxis.colorscale)[0] == "white"


def test_minus_infinity_is_left_blank():
    fig = plot.imshow([[1.0, -torch.inf], [1.0, 2.0]], text=True)
    assert np.isnan(fig.data[0].z[0][1]) and fig.layout.coloraxis.cmax == 2
    assert fig.data[0].text[0][1] == "-inf"


def test_nothing_finite_is_said_not_raised(recwarn):
    nothing = torch.full((2, 2), torch.nan)
    assert "no finite value" in plot.imshow(nothing).layout.meta["description"]
    assert "no finite value" in plot.line(nothing).layout.meta["description"]
    assert not recwarn.list


def test_equal_tokens_stay_apart():
    fig = plot.imshow(torch.randn(5, 5), tokens=TOKENS)
    assert len(set(fig.data[0].x)) == 5 and len(set(fig.data[0].y)) == 5
    assert fig.layout.xaxis.ticktext == ("[BOS]", "·the", "·the", "↵", "&lt;b>")
    bars = plot.bar([1, 2, 3, 4, 5], tokens=TOKENS)
    assert bars.data[0].x is None and bars.layout.xaxis.tickvals == (0, 1, 2, 3, 4)


def test_tokens_label_the_axes_that_they_fit():
    fig = plot.imshow(torch.randn(3, 5), tokens=TOKENS, y_label="layer")
    assert (fig.layout.xaxis.title.text, fig.layout.yaxis.title.text) == ("token", "layer")
    assert fig.layout.yaxis.ticktext == ("0", "1", "2")


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("<bos>", "[BOS]"),
        ("<|endoftext|>", "[ENDOFTEXT]"),
        ("</s>", "[/S]"),
        ("<div>", "<div>"),
        (" the", "·the"),
        ("Ġthe", "·the"),
        ("▁the", "·the"),
        ("\n\n", "↵↵"),
        ("\t", "⇥"),
        ("", "[EMPTY]"),
        (" <", "·<"),
        (7, "7"),
    ],
)
def test_show_token(token, shown):
    assert show_token(token) == shown


def test_small_multiples_and_frames():
    fig = plot.imshow(torch.arange(24).reshape(6, 2, 2), facets=list("abcdef"))
    assert [note.text for note in fig.layout.annotations] == list("abcdef")
    assert [trace.z[0][0] for trace in fig.data] == [0, 4, 8, 12, 16, 20]
    fig = plot.imshow(torch.arange(24).reshape(3, 2, 2, 2), animation_frame="step")
    assert [frame.data[1].z[0][0] for frame in fig.frames] == [4, 12, 20]
    assert [stop.label for stop in fig.layout.sliders[0].steps] == ["0", "1", "2"]
    fig = plot.imshow(torch.zeros(2, 2, 2), animation_frame="density", frames=[0.1, 1.0])
    assert [stop.label for stop in fig.layout.sliders[0].steps] == ["0.1", "1.0"]
    with pytest.raises(CourseError, match="frames has 3 entries, but there are 2"):
        plot.imshow(torch.zeros(2, 2, 2), animation_frame="density", frames=[1, 2, 3])


def test_row_0_is_at_the_top():
    assert plot.imshow(torch.eye(2)).layout.yaxis.autorange == "reversed"


def test_lines_of_any_length_with_names_bands_and_log_axes():
    fig = plot.line({"a": [1, 2, 3], "b": torch.tensor([4.0, 5.0])}, bands=[None, ([3, 4], [5, 6])], log_x=True)
    assert [(t.name, len(t.x)) for t in fig.data if t.name] == [("a", 3), ("b", 2)]
    assert fig.data[0].x[0] == 1, "a logarithmic axis cannot begin at 0"
    assert fig.layout.xaxis.type == "log" and fig.layout.yaxis.type is None
    assert [list(t.y) for t in fig.data if t.name is None] == [[3, 4], [5, 6]]
    assert "(shade: interval)" in fig.layout.yaxis.title.text
    assert len(plot.line(torch.randn(3, 10)).data) == 3
    assert plot.line([torch.tensor(1.0, requires_grad=True), 2.0]).data[0].y.tolist() == [1, 2]


def test_a_logarithmic_axis_of_few_decades_names_1_2_and_5():
    """All nine digits run into each other; of many decades the powers alone are named."""
    assert plot.line([1.0, 30.0], log_y=True).layout.yaxis.dtick == "D2"
    assert plot.scatter([1e-3, 1e3], [1, 2], log_x=True).layout.xaxis.dtick is None
    assert plot.line([float("nan"), float("nan")], log_y=True).layout.yaxis.dtick is None


def test_one_x_for_each_curve():
    fig = plot.line([[1, 2], [1, 2, 3]], x=[[0, 5], [0, 1, 2]])
    assert [list(t.x) for t in fig.data] == [[0, 5], [0, 1, 2]]


def test_scatter_colours_are_numbers_or_words():
    words = plot.scatter([1, 2, 3], [4, 5, 6], color=["x", "y", "x"], text=["<b>", "q", "r"])
    assert [(t.name, list(t.x), list(t.text)) for t in words.data] == [
        ("x", [1, 3], ["&lt;b>", "r"]),
        ("y", [2], ["q"]),
    ]
    numbers = plot.scatter([1, 2], [4, 5], color=torch.tensor([0.5, 1.5]), color_label="norm")
    assert numbers.data[0].marker.color.tolist() == [0.5, 1.5]
    assert numbers.data[0].marker.colorbar.title.text == "norm"


def test_hist_stores_counts_not_values():
    values = torch.randn(300_000)
    values[0] = torch.nan
    fig = plot.hist({"a": values, "b": torch.randn(100)}, bins=20)
    assert [t.y.sum() for t in fig.data] == [299_999, 100]
    assert list(fig.data[0].x) == list(fig.data[1].x), "the groups do not share their bins"
    assert "1 not finite" in fig.layout.xaxis.title.text
    area = plot.hist(torch.randn(50, 20), density=True).data[0]
    assert (area.y * area.width).sum() == pytest.approx(1)


def test_many_curves_have_different_colours():
    assert len(set(look.colours(7))) == 7 and len(set(look.colours(30))) == 30


BAD = {
    "shape [2, 3, 4, 5]": lambda: plot.imshow(torch.randn(2, 3, 4, 5)),
    "nothing to draw": lambda: plot.imshow(torch.empty(0, 3)),
    "1,000,000 numbers": lambda: plot.imshow(torch.zeros(1000, 1000)),
    "not str": lambda: plot.imshow("text"),
    "real numbers": lambda: plot.imshow(torch.zeros(2, 2, dtype=torch.complex64)),
    "different shapes": lambda: plot.imshow([torch.zeros(2), torch.zeros(3)]),
    'scale="blue"': lambda: plot.imshow(torch.eye(2), scale="blue"),
    "cannot show -1": lambda: plot.imshow(-torch.eye(2), scale="positive"),
    "at most 400": lambda: plot.imshow(torch.zeros(30, 30), text=True),
    "tokens has 5 entries": lambda: plot.imshow(torch.zeros(3, 4), tokens=TOKENS),
    "x has 1 entries": lambda: plot.imshow(torch.zeros(3, 4), x=["a"]),
    "single string": lambda: plot.bar([1, 2], x="ab"),
    "transpose": lambda: plot.line(torch.zeros(100, 2), names=["a", "b"]),
    "names has 1": lambda: plot.line(torch.zeros(3, 2), names=["a"]),
    "0 at index 1": lambda: plot.line([1, 0, 2], log_y=True),
    "-1 at index 0": lambda: plot.scatter([-1, 2], [1, 2], log_x=True),
    "band of curve 0": lambda: plot.line([1, 2, 3], bands=([1, 2], [3, 4])),
    "its x has shape [2]": lambda: plot.line([1, 2, 3], x=[1, 2]),
    "2 x but 3 y": lambda: plot.scatter([1, 2], [1, 2, 3]),
    "equal length": lambda: plot.bar([[1, 2], [1]]),
    "errors of bar": lambda: plot.bar([1, 2], errors=[1]),
    "no finite value": lambda: plot.hist([float("nan")]),
    "pattern[0]": lambda: plot.attention(TOKENS, PATTERN[None].repeat(3, 1, 1, 1)),
    "2 queries but 5 keys": lambda: plot.attention(TOKENS, PATTERN[:, :2]),
    "tokens has 2": lambda: plot.attention(["a", "b"], PATTERN),
    "heads has 1": lambda: plot.attention(TOKENS, PATTERN, heads=["a"]),
    "500,000 numbers": lambda: plot.attention(["a"] * 500, torch.zeros(2, 500, 500)),
    "[position]": lambda: plot.tokens(TOKENS, PATTERN),
}


@pytest.mark.parametrize("part", BAD)
def test_bad_input_gets_one_sentence(part):
    with pytest.raises(CourseError, match=re.escape(part)) as caught:
        BAD[part]()
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and ". " not in message


@pytest.mark.parametrize("default", ["plotly_mimetype", "plotly_mimetype+notebook", "vscode"])
def test_notebooks_get_the_small_renderer(monkeypatch, default):
    monkeypatch.setattr(pio.renderers, "default", default)
    look.use_notebook_renderer()
    assert pio.renderers.default == "concrete_steps"


@pytest.mark.parametrize("default", ["colab", "browser", "png"])
def test_another_default_renderer_stays(monkeypatch, default):
    monkeypatch.setattr(pio.renderers, "default", default)
    look.use_notebook_renderer()
    assert pio.renderers.default == default


def test_another_persons_figure_is_described_too():
    assert stored(go.Figure(go.Bar(y=[1])).update_layout(title="Mine"))["text/plain"] == "Plotly figure: Mine"
    assert "no title" in stored(go.Figure())["text/plain"]


# ---- Attention and tokens --------------------------------------------------------------------------------------------


class Shell:
    """What `get_ipython()` gives inside a kernel, for cells that we choose."""

    def __init__(self) -> None:
        self.run, self.cell = 0, ""

    def execute(self, cell: str) -> None:
        self.run, self.cell = self.run + 1, cell

    def get_parent(self) -> dict:
        return {"header": {"msg_id": str(self.run)}, "metadata": {"cellId": self.cell}, "content": {"code": ""}}


@pytest.fixture
def shell(monkeypatch) -> Shell:
    import IPython

    shell = Shell()
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr(circuits, "_carrier", None)
    return shell


def html(picture) -> str:
    return picture._repr_mimebundle_()["text/html"]


def brings_bundle(picture) -> bool:
    return "DecompressionStream" in html(picture)


def props(picture) -> dict:
    return json.loads(re.search(r"CircuitsVis\.AttentionHeads, (\{.*\})\);", html(picture))[1])


def test_one_output_of_the_kernel_brings_the_bundle(shell):
    picture = plot.attention(TOKENS, PATTERN)
    shell.execute("first")
    assert brings_bundle(picture) and not brings_bundle(picture), "one cell must bring it once"
    shell.execute("second")
    assert not brings_bundle(picture)
    shell.execute("first")
    assert brings_bundle(picture), "rerunning the cell has thrown the bundle away with the old output"
    shell.execute("second")
    assert not brings_bundle(picture)


def test_where_outputs_stand_alone_each_brings_the_bundle(shell, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", object())
    picture = plot.attention(TOKENS, PATTERN)
    assert brings_bundle(picture) and brings_bundle(picture)


def test_the_bundle_is_the_one_of_circuitsvis(shell):
    packed = max(re.findall(r'atob\("([^"]*)"\)', html(plot.attention(TOKENS, PATTERN))), key=len)
    assert len(packed) < 600_000
    installed = Path(distribution("circuitsvis").locate_file("circuitsvis/dist/cdn/iife.js"))
    assert gzip.decompress(base64.b64decode(packed)) == installed.read_bytes()


def test_an_attention_figure_is_small_and_fetches_nothing(shell):
    shell.execute("first")
    html(plot.attention(TOKENS, PATTERN))
    shell.execute("second")
    page = html(plot.attention(TOKENS, PATTERN))
    assert len(page) < 6_000
    assert not re.search(r"https?:|src=|import\b|fetch\(", page)


def test_attention_holds_the_pattern_and_the_tokens(shell):
    data = props(plot.attention(TOKENS, PATTERN.bfloat16().requires_grad_()[None], heads=["L0H0", "L0H1"]))
    assert np.allclose(data["attention"], PATTERN, atol=0.005)
    assert data["tokens"][:4] == ["[BOS]", "·the", "·the", "↵"]
    assert data["tokens"][4].replace("\u200b", "") == "<b>" != data["tokens"][4], "a browser would take <b> for a tag"
    assert data["attentionHeadNames"] == ["L0H0", "L0H1"] and data["maskUpperTri"] is True
    assert props(plot.attention(TOKENS, PATTERN[0].mT))["maskUpperTri"] is False


def test_without_the_picture_there_is_a_text(shell):
    pattern = torch.eye(5) / 2
    pattern[3] = torch.tensor([0, 0.9, 0.1, 0, 0])
    bundle = plot.attention(TOKENS, pattern, title="Layer 3")._repr_mimebundle_()
    assert bundle["text/plain"].startswith("Layer 3. ") and bundle["text/html"].count("Layer 3") == 1
    plain_html = re.sub(r"<script>.*</script>|<style>.*</style>", "", bundle["text/html"], flags=re.DOTALL)
    for text in (bundle["text/plain"], plain_html.replace("&gt;", ">")):
        assert "3 ↵ -> 1 ·the 0.90" in text, "an untrusted notebook would show a blank box"


def test_tokens_cannot_end_the_script(shell):
    page = html(plot.attention(["</script>", "PROPS", "KEY"], torch.eye(3)))
    assert page.count("</script>") == 1
    assert props(plot.attention(["</script>", "PROPS", "KEY"], torch.eye(3)))["tokens"][1:] == ["PROPS", "KEY"]


def test_coloured_tokens_need_no_script():
    bundle = plot.tokens(TOKENS, [0, 1, -1, 0.5, float("nan")], title="Loss")._repr_mimebundle_()
    page = bundle["text/html"]
    assert "<script" not in page and len(page) < 4_000
    colours = [re.search(rf"background-color:([^;]*);[^>]*>{token}<", page)[1] for token in (r"\[BOS\]", "·the", "↵")]
    assert colours == ["rgb(255,255,255)", "rgb(33,102,172)", "rgb(144,178,214)"]
    assert "rgb(178,24,43)" in page
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert bundle["text/plain"] == "Loss\n[BOS] 0 | ·the 1 | ·the -1 | ↵ 0.5 | <b> nan"


def test_a_kernel_shows_and_stores_them(tmp_path):
    sources = [
        "from concrete_steps import plot",
        "plot.attention(['a', 'b'], [[1, 0], [0.5, 0.5]])",
        "plot.show(plot.line([1, 2]), plot.attention(['a', 'b'], [[1, 0], [0.5, 0.5]]))",
        "plot.imshow([[1, 2]])",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, resources={"metadata": {"path": tmp_path}}, timeout=120, kernel_name="python3").execute()
    kinds = [[sorted(output.data) for output in cell.outputs] for cell in notebook.cells]
    page, figure = ["text/html", "text/plain"], ["application/vnd.plotly.v1+json", "text/plain"]
    assert kinds == [[], [page], [figure, page], [figure]]
    text = nbformat.writes(notebook)
    assert text.count("DecompressionStream") == 1
    assert "http" not in text
    assert len(text) < 520_000


def test_importing_plot_does_not_load_torch():
    code = "import sys; from concrete_steps import plot; sys.exit(bool({'torch', 'circuitsvis'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
