"""Feedback pages and the formgrader's: what a learner wrote is shown, and runs nothing, in a real browser too."""

import os
import shutil
from pathlib import Path

import nbformat
import nbgrader
import pytest
from bs4 import BeautifulSoup
from nbconvert.exporters import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from traitlets.config import Config

from concrete_steps.grading import pages
from concrete_steps.grading.pages import show_harmlessly
from concrete_steps.grading.policy import CONFIGURATION, with_policy

PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
RUN = "window.ran=1"  # what each payload tries; 1 is the least that it would leave
SVG = f"<svg xmlns='http://www.w3.org/2000/svg' onload='{RUN}'><script>{RUN}</script></svg>"
PAYLOADS = {
    "script": f"<script>{RUN}</script>",
    "script in capitals": f"<ScRiPt >{RUN}</sCrIpT>",
    "script that is not ended": f"<script>{RUN}//",
    "script of mathjax": f'<script type="text/x-mathjax-config">{RUN}</script>',
    "module": f'<script type="module">{RUN}</script>',
    "image": f"<img src=x onerror={RUN}>",
    "image with slashes": f"<img/src=x/onerror={RUN}>",
    "nested tags": f"<scr<script>ipt>{RUN}</scr</script>ipt>",
    "svg": SVG,
    "svg with a link": f'<svg><a xlink:href="javascript:{RUN}"><text y="20">click</text></a></svg>',
    "svg that animates": f'<svg><animate onbegin="{RUN}" attributeName=x dur=1s>',
    "math": f'<math href="javascript:{RUN}">click</math>',
    "body": f"<body onload={RUN}>",
    "frame": f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe>',
    "frame with an address": f'<iframe src="javascript:parent.{RUN}"></iframe>',
    "object": f'<object data="data:text/html,<script>parent.{RUN}</script>"></object>',
    "embed": f'<embed src="javascript:{RUN}">',
    "focus": f"<input autofocus onfocus={RUN}>",
    "details": f"<details open ontoggle={RUN}><summary>x</summary></details>",
    "video": f"<video><source onerror={RUN}></video>",
    "style": f'<div style="background:url(javascript:{RUN})">x</div>',
    "style sheet": f'<style>@import "javascript:{RUN}";</style>',
    "base": '<base href="https://evil.example/">',
    "refresh": f'<meta http-equiv="refresh" content="0;url=javascript:{RUN}">',
    "form": f'<form action="javascript:{RUN}"><button>click</button></form>',
    "link": f"[click](javascript:{RUN})",
    "link in capitals": f"[click](JaVaScRiPt:{RUN})",
    "link with an entity": f"[click](&#106;avascript:{RUN})",
    "link with a tab": f'<a href="java\tscript:{RUN}">click</a>',
    "link with a control sign": f'<a href="\x01javascript:{RUN}">click</a>',
    "link to data": f"[click](data:text/html,<script>opener.{RUN}</script>)",
    "link by reference": f"[click][1]\n\n[1]: javascript:{RUN}",
    "link in brackets": f"<javascript:{RUN}>",
    "link of vbscript": f"[click](vbscript:{RUN})",
    "picture as a link": f"![x](javascript:{RUN})",
    "title": f'[x](https://example.org "onmouseover={RUN} x=\\"")',
    "attribute by markdown": f'![x" onerror="{RUN}](https://example.org/none.png)',
    "comment": f"<!--><script>{RUN}</script>-->",
    "cdata": f"<![CDATA[<script>{RUN}</script>]]>",
    "noscript": f'<noscript><p title="</noscript><img src=x onerror={RUN}>"></noscript>',
    "textarea": f"<textarea></textarea><img src=x onerror={RUN}>",
    "mathml mutation": f"<math><mtext><table><mglyph><style><img src=x onerror={RUN}></style></mglyph></table></math>",
    "code": f"```html\n<script>{RUN}</script>\n```",
    "code of a language": f'```"><script>{RUN}</script>\nx\n```',
    "formula": f"$\\href{{javascript:{RUN}}}{{click}}$ $$<img src=x onerror={RUN}>$$",
    "formula with a unicode sign": f"$\\unicode{{<img src=x onerror={RUN}>}}$",
    "heading": f"# <img src=x onerror={RUN}> [click](javascript:{RUN})",
    "table": f"| a |\n|---|\n| <img src=x onerror={RUN}> |",
    "attachment": "![x](attachment:x.svg)",
    "name of an attachment": f'![x](attachment:a"onerror={RUN})',
}


def page_of(nb, template: str) -> str:
    """The page that nbgrader makes, with our filter and policy."""
    show_harmlessly()
    templates = Path(nbgrader.__file__).parent / "server_extensions" / "formgrader" / "templates"
    styles = templates.parent / "static/node_modules/bootstrap/dist/css"
    options = {
        "template_name": template,
        "extra_template_basedirs": [str(templates)],
        "extra_template_paths": [str(styles)],
    }
    exporter = HTMLExporter(config=Config(HTMLExporter=options))
    about = {"notebook": "n", "score": 1, "max_score": 2, "late_penalty": 0}
    resources = {"nbgrader": about, "notebook_id": "n", "index": 0, "total": 1, "base_url": "", "submission_id": "s"}
    return exporter.from_notebook_node(nb, resources)[0]


@pytest.fixture(scope="module")
def hostile():
    """A notebook of all payloads, as text, as code, as a raw cell, and what a check would say of them."""
    nb = new_notebook()
    for payload in PAYLOADS.values():
        attachments = {"x.svg": {"image/svg+xml": SVG}, f'a"onerror={RUN}': {"image/png": PICTURE}}
        nb.cells += [new_markdown_cell(payload, attachments=attachments), new_code_cell(payload)]
        nb.cells.append(nbformat.v4.new_raw_cell(payload))
        nb.cells[-2].outputs = [new_output("stream", text=payload)]
    nb.cells.append(new_markdown_cell("![mine](attachment:mine.png)", attachments={"mine.png": {"image/png": PICTURE}}))
    nb.cells.append(new_markdown_cell("[web](https://example.org) $x^2$"))
    return nb


@pytest.fixture(scope="module", params=["feedback", "formgrade"])
def page(request, hostile) -> str:
    return page_of(hostile, request.param)


def test_no_payload_is_left_on_the_page(page):
    soup = BeautifulSoup(page, "html.parser")
    body = soup.find(id="notebook")
    assert not [
        e.name for e in body.find_all(["script", "iframe", "object", "embed", "form", "base", "meta", "svg", "style"])
    ]
    assert not [e for e in body.find_all(True) if any(name.startswith("on") for name in e.attrs)]
    targets = [str(e[name]) for e in body.find_all(True) for name in ("href", "src", "action") if e.has_attr(name)]
    assert not [t for t in targets if not t.startswith(("https://", "data:image/", "#"))]
    assert f"data:image/png;base64,{PICTURE}" in targets and "https://example.org" in targets


@pytest.mark.parametrize("template", ["feedback", "formgrade"])
def test_a_page_that_takes_long_to_lay_out_shows_the_rest_as_it_is(template, monkeypatch):
    monkeypatch.setattr(pages, "MOST_SECONDS", 1e-9)
    texts = [new_markdown_cell("**first**"), new_markdown_cell("**second** <b>")]
    body = BeautifulSoup(page_of(new_notebook(cells=texts), template), "html.parser").find(id="notebook")
    assert [e.text for e in body.find_all("strong")] == ["first"]
    assert [e.text for e in body.find_all("pre")] == ["**second** <b>"]


def test_the_policy_lets_only_the_template_s_scripts_run(page):
    policy = BeautifulSoup(page, "html.parser").find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe-inline" not in rules["script-src"] and "unsafe-eval" not in rules["script-src"]
    assert CONFIGURATION["tex2jax"]["inlineMath"][0] == ["$", "$"] and "window.MathJax = {" in page
    assert "text/x-mathjax-config" not in BeautifulSoup(page, "html.parser").decode(formatter=None).split("<body")[0]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = os.environ.get("CHROME_PATH") or shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("there is no Chromium here")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


CLICK = """() => {
    const stays = element => element.closest("a[href^='http'], a[href^='#']");
    addEventListener("click", event => stays(event.target) && event.preventDefault());
    for (const element of document.querySelectorAll("#notebook a, #notebook button, #notebook input")) {
        element.dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}));
        element.focus();
    }
}"""


class Visitor:
    """A tab of the browser that opens a page, clicks on everything, and tells whether anything ran."""

    def __init__(self, browser):
        self.tab = browser.new_page()
        self.text = ""
        self.stopped: list[str] = []
        self.tab.on("console", lambda message: self.stopped.append(message.text))
        self.tab.route("**", self._answer)

    def _answer(self, route) -> None:
        if route.request.url == "http://page.test/":
            route.fulfill(body=self.text, content_type="text/html; charset=utf-8")
        else:
            route.abort()

    def ran(self, text: str, wait: float = 100) -> bool:
        self.text = text
        self.tab.goto("http://page.test/", wait_until="load")
        self.tab.evaluate(CLICK)
        self.tab.wait_for_timeout(wait)
        return bool(self.tab.evaluate("window.ran"))


def test_nothing_runs_in_a_real_browser(browser, page):
    assert not Visitor(browser).ran(page, wait=1000)


def test_what_would_get_past_the_filter_is_stopped_by_the_policy(browser):
    """The payloads as they are, on a page without the policy (else a browser that runs none would do) and with it."""
    template = "<html><head><title>x</title></head><body><div id='notebook'>{}</div></body></html>"
    visitor = Visitor(browser)
    pages = {name: template.replace("{}", text) for name, text in PAYLOADS.items() if name not in ("base", "refresh")}
    ran = [name for name, text in pages.items() if visitor.ran(text)]
    assert len(ran) > 15, ran
    assert not [name for name, text in pages.items() if visitor.ran(with_policy(text, template))]
    assert [message for message in visitor.stopped if "Content Security Policy" in message]
