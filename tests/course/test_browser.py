"""The main job in a real browser: open a notebook in JupyterLab, answer wrongly, read the check, mend the answer.

These tests run with `pytest tests/course --browser changed` (or all, or 0,1.1); they need Chromium (on the path, or
CHROME_PATH).
Only JupyterLab itself can be reached: a figure that wanted the internet would stay blank, and fail here.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.sign import NotebookNotary

from concrete_steps.authoring import changes
from concrete_steps.authoring.build import KERNEL
from concrete_steps.checking import log as checks_log
from concrete_steps.checking import outcomes
from concrete_steps.checking.checks import run_check
from concrete_steps.checking.loader import Loaded, load
from concrete_steps.checking.mistakes import mistakes_of
from concrete_steps.course import Notebook, load_course
from concrete_steps.paths import course_root
from concrete_steps.workspace.copy import sync
from concrete_steps.workspace.lab import server_options

# What a learner types: in each notebook an exercise that needs no other, a place in its right answer, and a slip there.
SLIPS = {
    "0": ("logit_difference", "logits[right] - logits[wrong]", "logits[wrong] - logits[right]"),
    "1.0": ("reflect", " / (direction @ direction)", ""),
    "1.1": ("causal_mask", ".tril()", ".triu()"),
    "1.2": ("project", " / (direction @ direction)", ""),
    "1.3": (
        "log_softmax",
        "scaled - scaled.exp().sum(-1, keepdim=True).log()",
        "scaled.exp() / scaled.exp().sum(-1, keepdim=True)",
    ),
    "1.4": ("unbroadcast", "grad = grad.sum(axis, keepdim=True)", "grad = grad"),
    "1.5": ("relu", "x.clamp(min=0)", "x.abs()"),
    "2.0": ("min_p", "logits.amax(-1, keepdim=True)", "logits.amax()"),
    "2.1": ("merge", "i += 2 if found else 1", "i += 1"),
    "2.2": ("value_table", "W_O[:, spaces[into]] = table", "W_O[:, spaces[into]] = table * len(table) ** 0.5"),
    "2.3": ("LayerNorm", "centred.square().mean(-1, keepdim=True)", "x.var(-1, keepdim=True)"),
    "2.4": ("apply_temperature", "logits / temperature", "logits * temperature"),
    "2.5": ("RMSNorm", "x.square().mean(-1, keepdim=True)", "x.abs().mean(-1, keepdim=True)"),
    "3.0": ("best_layer_p", "shuffled.amax(-1)", "shuffled[:, accuracies.argmax()]"),
    "3.1": ("hook_points", "model.named_modules()", "model.named_children()"),
    "3.2": ("current_token_score", "[..., 2:]", ""),
    "3.3": ("residual_decomposition", "cache[hook][:, -1]", "cache[hook][:, 0]"),
    "3.4": ("logit_diff", "logits[:, -1]", "logits[:, 0]"),
    "3.5": ("factored_norm", ".sqrt()", ""),
    "3.6": ("mean_difference_probe", "direction = true - false", "direction = false - true"),
    "3.7": ("steer", "stream[torch.arange(len(stream)), at] +=", "stream[:, at] +="),
    "4.0": ("effect_of_chosen", "over_others.argmax(0)", "over_others.abs().argmax(0)"),
    "4.1": ("bigram_of_zero_layers", ".log_softmax(-1)", ".softmax(-1)"),
    "4.2": ("label_by_level", "share = acts / acts.max()", "share = acts / acts.sum()"),
    "4.3": ("heads_that_stand", "controls.mean(1).abs().max()", "controls.mean(1).max()"),
    "4.4": ("open_topics", "topic not in known and ", ""),
    "5.2": ("importance_loss", ".sum(-1).mean(-1)", ".mean((-2, -1))"),
    "5.3": ("fourier_basis", " / waves.norm(dim=1, keepdim=True)", ""),
    "6.1": ("kept_predictions", "[:, 1:].float()", ".float()"),
    "6.2": ("says", "[:, -1].argmax(-1)", "[:, 0].argmax(-1)"),
    "6.3": ("could_print", "0.5 * 10", "1.0 * 10"),
}
TOKEN = "browser-test"
QUICK = 40  # seconds that a notebook runs, by the map
PATIENCE = 400  # seconds for one step: the machine may be busy with other things
CHROMIUM_OPTIONS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
CHROMIUM_OPTIONS += " --disable-component-update --disable-sync"


class Lab:
    """One notebook open in JupyterLab, driven as a learner does: with menus, mouse and keyboard."""

    def __init__(self, page, address: str, work: Path, notary: NotebookNotary, screenshots: Path):
        self.page, self.address, self.work, self.notary, self.screenshots = page, address, work, notary, screenshots
        self.complaints: list[str] = []  # of the browser's console
        page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, path: Path) -> None:
        """Open the notebook at `path` inside the served folder, and no other, and wait for its kernel."""
        self.cells = nbformat.read(self.work / path, as_version=4).cells
        self.page.goto(f"{self.address}/lab/tree/{path.as_posix()}?reset&token={TOKEN}")
        self.page.locator(".jp-Notebook .jp-Cell").nth(len(self.cells) - 1).wait_for(state="attached")
        self.wait_until(lambda: self.is_connected(path), f"the kernel of {path.name} to be connected")
        self.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for()

    def is_connected(self, path: Path) -> bool:
        """The server knows it; JupyterLab's own sign may say idle before, and Run All would ask for a kernel."""
        sessions = self.page.request.get(f"{self.address}/api/sessions?token={TOKEN}").json()
        kernels = [session["kernel"] for session in sessions if session["path"] == path.as_posix()]
        return any(kernel["connections"] and kernel["execution_state"] == "idle" for kernel in kernels)

    def cell(self, name: str):
        """The cell with this id: an exercise's is its name, its check's is check_ and the name."""
        index = [cell.id for cell in self.cells].index(name)
        cell = self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{index}"]')
        cell.scroll_into_view_if_needed()
        return cell

    def run(self, name: str) -> str:
        """Run one cell with the keyboard, wait for it, and return the text of its output."""
        cell = self.cell(name)
        before = run_number(cell)
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")
        self.wait_until(lambda: run_number(cell) not in (None, before), f"cell {name} to finish")
        return self.output(name)

    def run_all(self) -> None:
        """Run All Cells, and wait until nothing is left to run."""
        self.menu("Run", "Run All Cells")
        self.wait_for(self.cells)

    def run_above(self, name: str) -> None:
        """Run the cells above one, and wait for them."""
        self.cell(name).locator(".cm-content").click()
        self.menu("Run", "Run All Above Selected Cell")
        self.wait_for(self.cells[: [cell.id for cell in self.cells].index(name)])

    def wait_for(self, cells: list) -> None:
        # Prompts of cells out of sight may be old: each cell is scrolled to, the last first, before it is believed.
        code = [cell.id for cell in cells if cell.cell_type == "code"]
        for name in reversed(code):
            self.wait_until(lambda name=name: run_number(self.cell(name)) is not None, f"cell {name} to run")

    def type(self, name: str, code: str) -> None:
        """Replace the code of a cell at the keyboard, and see that the editor holds just that."""
        editor = self.cell(name).locator(".cm-content")
        editor.click()
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.insert_text(code)
        lines = [line.strip("\n\u200b") for line in editor.locator(".cm-line").all_inner_texts()]
        assert "\n".join(lines) == code

    def output(self, name: str) -> str:
        outputs = self.cell(name).locator(".jp-OutputArea-output")
        return "\n".join(outputs.all_text_contents())

    def menu(self, *names: str) -> None:
        """Choose an entry of the menu bar: menu, submenus, entry."""
        self.page.locator(".lm-MenuBar-itemLabel", has_text=re.compile(f"^{names[0]}$")).click()
        for name in names[1:]:
            self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{name}$")).click()

    def shoot(self, name: str) -> None:
        self.page.screenshot(path=self.screenshots / f"{name}.png")

    def shoot_whole(self, name: str) -> None:
        """A picture of the whole notebook: the window grows to the height of its cells."""
        height = self.page.locator(".jp-WindowedPanel-outer").evaluate("panel => panel.scrollHeight")
        self.page.set_viewport_size({"width": 1280, "height": height + 150})
        self.page.wait_for_timeout(1000)
        self.shoot(name)

    def wait_until(self, is_so, what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            if time.monotonic() > deadline:
                self.shoot("too_late")
                pytest.fail(f"waited {PATIENCE} s for {what}; see {self.screenshots}/too_late.png")
            self.page.wait_for_timeout(100)


def run_number(cell) -> int | None:
    """The number in a cell's [ ]: None while it waits or runs, or when it never ran."""
    found = re.search(r"\d+", cell.locator(".jp-InputPrompt").text_content())
    return int(found[0]) if found else None


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[tuple[str, Path, NotebookNotary]]:
    """Address, folder and notary of a JupyterLab on a fresh learner's copy, with the options of scripts/start.py."""
    if not request.config.getoption("--browser"):
        pytest.skip("drives JupyterLab in Chromium: add --browser changed")
    work, home = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("jupyter")
    sync(course_root(), work)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    signatures = {"db_file": str(home / "signatures.db"), "secret_file": str(home / "secret")}
    notary = NotebookNotary(**signatures)
    assert notary.secret  # written now, so that the server finds it
    command = [sys.executable, "-m", "jupyterlab", *server_options(work, port, no_browser=True)]
    command += [f"--NotebookNotary.{name}={path}" for name, path in signatures.items()]
    folders = {"JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"}
    settings = {name: str(home / name) for name in folders}
    settings[checks_log.FOLDER] = str(work / ".progress")
    # The kernels are offline too: a proxy at a port where nobody listens.
    settings |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    settings |= {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
    address = f"http://127.0.0.1:{port}"
    with open(home / "log.txt", "w") as log:
        command.append(f"--IdentityProvider.token={TOKEN}")
        server = subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for_server(server, address, home / "log.txt")
            yield address, work, notary
        finally:
            with contextlib.suppress(OSError):
                ask(f"{address}/api/shutdown", method="POST")  # stops the kernels too
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()


def ask(url: str, method: str = "GET") -> None:
    request = urllib.request.Request(url, method=method, headers={"Authorization": f"token {TOKEN}"})
    no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    no_proxy.open(request, timeout=10).close()


def wait_for_server(server: subprocess.Popen, address: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            return ask(f"{address}/api/status")
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROME_PATH") or shutil.which("chromium")
    assert program, "--browser needs Chromium: install it, or set CHROME_PATH to a Chrome or Chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_OPTIONS.split())
        yield browser
        browser.close()


@pytest.fixture
def lab(served, chromium, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """A fresh browser window. At the end, nothing may have asked for the internet or raised in the page."""
    address, work, notary = served
    screenshots = request.config.getoption("--screenshots") or tmp_path
    screenshots.mkdir(parents=True, exist_ok=True)
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE * 1000)
    refused: list[str] = []
    outside = re.compile(rf"^(?!{re.escape(address)})https?://")
    context.route(outside, lambda route: (refused.append(route.request.url), route.abort()))
    lab = Lab(context.new_page(), address, work, notary, screenshots)
    yield lab
    context.close()
    assert not refused, f"the page asked for {refused}"
    assert not lab.complaints, f"the browser's console says {lab.complaints}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each notebook that --browser asks for, about a minute each."""
    if "notebook" in metafunc.fixturenames:
        which = metafunc.config.getoption("--browser")
        notebooks = changes.chosen(which, load_course().notebooks) if which else []
        metafunc.parametrize("notebook", notebooks, ids=lambda notebook: notebook.id)


def test_every_notebook_has_a_slip_to_type():
    for notebook in load_course().notebooks:
        exercise, place, slip = SLIPS[notebook.id]
        assert solution(notebook, exercise).count(place) == 1 and place != slip


@pytest.mark.parametrize("each", load_course().notebooks, ids=lambda each: each.id)
def test_every_slip_is_recognised(each: Notebook, monkeypatch: pytest.MonkeyPatch):
    """Without a browser, so that a notebook that no browser opens this time is known to be right, too."""
    monkeypatch.setattr(outcomes, "SECONDS_TO_RECOGNISE", 60.0)  # on a busy machine, too
    exercise, place, slip = SLIPS[each.id]
    loaded = load(course_root() / "solutions" / each.path, each.exercises)
    namespace = dict(loaded.namespace)
    exec(compile(solution(each, exercise).replace(place, slip), f"mine.ipynb, cell {exercise}", "exec"), namespace)
    result = run_check(each, exercise, Loaded(loaded.path, namespace), seed=0)  # a change is judged on one draw
    said = result.mistake + result.message
    assert any(mistake.sentence in said for mistake in mistakes_of(each)[exercise]), result.text()


def test_a_wrong_answer_is_recognised_and_mended(lab: Lab, notebook: Notebook):
    exercise, place, slip = SLIPS[notebook.id]
    right = solution(notebook, exercise)
    assert right.count(place) == 1
    lab.open(notebook.path)
    lab.run_above(exercise)

    lab.type(exercise, right.replace(place, slip))
    lab.run(exercise)
    said = lab.run(f"check_{exercise}")
    assert f"{exercise}: wrong" in said
    assert any(mistake.sentence in said for mistake in mistakes_of(notebook)[exercise]), said
    lab.shoot(f"{notebook.id}_wrong")
    assert contrast(lab, f"check_{exercise}") >= 4.5

    lab.menu("Settings", "Theme", "JupyterLab Dark")
    lab.page.locator('body[data-jp-theme-light="false"]').wait_for(state="attached")
    lab.cell(f"check_{exercise}")
    lab.shoot(f"{notebook.id}_wrong_dark")
    assert contrast(lab, f"check_{exercise}") >= 4.5
    lab.menu("Settings", "Theme", "JupyterLab Light")
    lab.page.locator('body[data-jp-theme-light="true"]').wait_for(state="attached")

    lab.type(exercise, right)
    lab.run(exercise)
    said = lab.run(f"check_{exercise}")
    assert f"{exercise}: passed" in said
    assert f"1 of {len(notebook.exercises)} in this notebook" in said
    lab.shoot(f"{notebook.id}_passed")
    kept = [event.outcome for event in checks_log.read(lab.work / ".progress") if event.exercise == exercise]
    assert kept == [outcomes.WRONG, outcomes.PASSED]


def test_progress_is_drawn_on_light_and_dark(lab: Lab):
    cell = nbformat.v4.new_code_cell("import concrete_steps\n\nconcrete_steps.progress()", id="progress")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=KERNEL), lab.work / "progress.ipynb")
    checks_log.record("1.1", "causal_mask", outcomes.PASSED, folder=lab.work / ".progress")
    lab.open(Path("progress.ipynb"))
    assert "Next:" in lab.run("progress")
    for theme, is_light in (("JupyterLab Dark", "false"), ("JupyterLab Light", "true")):
        lab.menu("Settings", "Theme", theme)
        lab.page.locator(f'body[data-jp-theme-light="{is_light}"]').wait_for(state="attached")
        lab.shoot(f"progress_{theme.split()[-1].lower()}")
        assert contrast(lab, "progress") >= 4.5


def solution(notebook: Notebook, exercise: str) -> str:
    cells = nbformat.read(course_root() / "solutions" / notebook.path, as_version=4).cells
    return next(cell.source for cell in cells if cell.id == exercise)


def contrast(lab: Lab, name: str) -> float:
    """The lowest contrast of a text in a panel with what is behind it, as WCAG 2 counts (4.5 is its demand)."""
    return lab.cell(name).locator(".jp-RenderedHTMLCommon > div").evaluate(CONTRAST)


CONTRAST = """panel => {
  const parse = text => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((value, i) => a * value + (1 - a) * below[i]);
  const luminance = rgb => rgb
    .map(value => value / 255)
    .map(value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    if (!element) return [255, 255, 255];
    const colour = parse(getComputedStyle(element).backgroundColor);
    return colour[3] === 1 ? colour.slice(0, 3) : over(colour, behind(element.parentElement));
  };
  const opacity = element =>
    element === document.body ? 1 : getComputedStyle(element).opacity * opacity(element.parentElement);
  const ratios = [panel, ...panel.querySelectorAll("*")]
    .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
    .map(element => {
      const [r, g, b, a] = parse(getComputedStyle(element).color);
      const below = behind(element);
      const [dark, light] = [over([r, g, b, a * opacity(element)], below), below].map(luminance).sort((x, y) => x - y);
      return (light + 0.05) / (dark + 0.05);
    });
  return Math.min(...ratios);
}"""


def test_run_all_on_an_untouched_notebook_goes_to_the_end(lab: Lab):
    notebook = load_course().notebook("0")
    lab.open(notebook.path)
    lab.run_all()
    lab.shoot_whole("0_untouched")
    for exercise in notebook.exercises:
        assert f"{exercise}: not attempted" in lab.output(f"check_{exercise}")
    assert_figures_drawn(lab)


def test_every_figure_of_a_finished_notebook_is_drawn(lab: Lab, notebook: Notebook, request: pytest.FixtureRequest):
    """A learner who has solved everything: each check has passed, and each figure is drawn without the internet.

    Of the notebooks that changed only the quick ones are run; the others are opened with the outputs that they hold.
    """
    finished = nbformat.read(course_root() / "solutions" / notebook.path, as_version=4)
    outputs = [output for cell in finished.cells for output in cell.get("outputs", ())]
    figures = sum("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs)
    assert figures or notebook.is_placement
    runs = request.config.getoption("--browser") != "changed" or notebook.seconds <= QUICK
    if runs:
        for cell in finished.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
    path = Path(f"finished_{notebook.id}.ipynb")  # a name of its own: a notebook of a known name would keep its kernel
    lab.notary.sign(finished)  # outputs of a notebook that nobody signed are not drawn
    nbformat.write(finished, lab.work / path)
    lab.open(path)
    if runs:
        lab.run_all()
    lab.shoot_whole(f"{notebook.id}_finished")
    for exercise in notebook.exercises:
        assert f"{exercise}: passed" in lab.output(f"check_{exercise}")
    assert_figures_drawn(lab, figures)


def assert_figures_drawn(lab: Lab, least: int = 1) -> None:
    """Each Plotly figure holds a drawing of some size, and each CircuitsVis figure has replaced its text."""
    plotly = lab.page.locator(".jp-OutputArea-output.jp-RenderedPlotly, .jp-OutputArea-output .js-plotly-plot")
    assert plotly.count() >= least
    for figure in plotly.all():
        figure.scroll_into_view_if_needed()
        figure.locator("svg.main-svg").first.wait_for()
        size = figure.locator("svg.main-svg").first.bounding_box()
        assert min(size["width"], size["height"]) > 100
    for figure in lab.page.locator("[data-figure]").all():
        figure.scroll_into_view_if_needed()
        figure.locator("svg, canvas, img").first.wait_for()
    for figure in lab.page.locator(".jp-OutputArea-output.jp-RenderedHTMLCommon").all():
        hidden = figure.evaluate("figure => figure.scrollWidth - figure.clientWidth")
        assert hidden <= 0, f"{hidden} pixels stand beyond the edge: {figure.text_content()[:80]}"
    for drawing in lab.page.locator(".jp-MarkdownOutput img").all():
        drawing.scroll_into_view_if_needed()
        lab.wait_until(lambda drawing=drawing: drawing.evaluate("img => img.naturalWidth") > 100, "a drawing to appear")
        assert drawing.get_attribute("alt")


ASKED = """\
check = __import__("concrete_steps").notebook("0")
logit_difference = lambda logits, right, wrong: logits[wrong] - logits[right]
check("logit_difference")
"""


def test_a_failed_check_stops_a_run_without_a_person():
    """nbclient, and so nbgrader and our builder, must hear of a failure (JupyterLab's Run All goes on: see above)."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(ASKED)])
    with pytest.raises(CellExecutionError, match=r"CheckFailed.*logit_difference: wrong"):
        NotebookClient(nb, timeout=PATIENCE, kernel_name="python3").execute()
