"""The pages of a run in a Chromium without a network: formulas, requests, widths."""

import os
import shutil

import nbformat
import pytest
from evaluations import write_evaluation

from segcal_lite.kit import index_page, own_page, pages
from segcal_lite.kit.commands import NOTEBOOKS
from segcal_lite.report import draw_figures
from segcal_lite.report.verdicts import write_verdicts
from segcal_lite.runs.folders import project_root, write_json

pytestmark = pytest.mark.slow

NAMES = [*NOTEBOOKS, "99_wide"]
MATH = "Inline $\\hat S_k$ and\n\n$$\\frac{a}{b} = " + " + ".join(["\\sum_{i=1}^N x_i"] * 30) + "$$"
TEXT = "document.querySelectorAll('pre, code').forEach(e => e.remove()), document.body.innerText"
SIZES = "[...document.querySelectorAll('math')].map(e => e.getBoundingClientRect())"
SMALL = f"{SIZES}.filter(box => box.width < 2 || box.height < 5).length"


@pytest.fixture(scope="module")
def chromium():
    """A Chromium; without one the tests skip, or fail where nothing may be skipped."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        missing = "needs playwright (pip install segcal_lite[slow]) and Chromium on the path"
        pytest.fail(missing) if os.environ.get("SEGCAL_SKIP_NOTHING") else pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def wide_notebook():
    """All that could be too wide: a formula, code, a printed line, a table, an error."""
    cell = nbformat.v4.new_code_cell("x = " + "1 + " * 200 + "1")
    row = "".join(f"<td>a wide column {number}</td>" for number in range(40))
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="word" * 100 + "\n" + "a b " * 100),
        nbformat.v4.new_output("display_data", {"text/html": f"<table><tr>{row}</tr></table>"}),
        nbformat.v4.new_output("error", ename="E", evalue="e", traceback=["trace " * 100]),
    ]
    table = "|" + " a column |" * 40 + "\n|" + "---|" * 40 + "\n|" + " value |" * 40
    texts = ["# 99 Wide\n\n**Is it?** `" + "word" * 100 + "`", MATH, table]
    cells = [*map(nbformat.v4.new_markdown_cell, texts), cell]
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of all notebooks as they are stored, and of a wide one."""
    folder = tmp_path_factory.mktemp("run")
    for name in ("notebooks", "tables", "figures"):
        (folder / name).mkdir()
    for name in NOTEBOOKS:
        shutil.copy(project_root() / "notebooks" / f"{name}.ipynb", folder / "notebooks")
    nbformat.write(wide_notebook(), folder / "notebooks" / "99_wide.ipynb")
    for name in NAMES:
        pages.write_page(folder / "notebooks" / f"{name}.ipynb", NAMES)
    for path in (project_root() / "results" / "smoke").glob("*.png"):
        shutil.copy(path, folder / "figures")
    names = ",".join(f"Dice segment {number}" for number in range(30))
    cells = ",".join(["0.8 (0.7 to 0.9) *"] * 30)
    table = f"loss,method,{names}\nce,baseline,{cells}\ndice,baseline,{cells}\n"
    (folder / "tables" / "calibration.csv").write_text(table)
    reasons = "no conclusion: " + "no_such_thing" * 20
    write_verdicts(folder, "03_calibration", {"a claim": reasons, "another": "seen"})
    run = {"task": {"name": "heart"}, "data": "phantoms", "profile": "smoke", "seed": 0}
    write_json(folder / "run.json", run)
    write_json(folder / "provenance.json", {"commit": "0" * 40, "processor": "a processor"})
    index_page.write_index(folder, NAMES)
    evaluation = write_evaluation(folder / "mine", n_new=60, n_pictures=3)
    draw_figures(evaluation)
    own_page.write_page(evaluation)
    return folder


@pytest.fixture
def opened(chromium, run):
    """Return a maker of opened pages; each must get all it needs from its own folder."""
    contexts, asked = [], []

    def open_page(name, width=1200, scheme="light"):
        view = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
        contexts.append(chromium.new_context(offline=True, **view))
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto((run / name).as_uri())
        page.evaluate("document.fonts.ready")
        return page

    yield open_page
    for context in contexts:
        context.close()
    base = run.as_uri()
    assert [url for url in asked if not url.startswith((base, "data:"))] == []


OWN = "mine/index.html"
PAGES = ["index.html", *(f"notebooks/{name}.html" for name in NAMES)]


@pytest.mark.parametrize("name", PAGES)
def test_formulas_are_rendered_without_a_network(opened, name):
    page = opened(name)
    assert page.evaluate("document.querySelectorAll('math').length > 0") == (name != "index.html")
    assert page.evaluate(SMALL) == 0
    text = page.evaluate(TEXT)
    assert "$" not in text
    assert "\\" not in text
    if name != "index.html":
        assert page.evaluate("[...document.fonts].map(font => font.status)") == ["loaded"]


@pytest.mark.parametrize("width", [1200, 420])
@pytest.mark.parametrize("name", [*PAGES, OWN])
def test_nothing_is_wider_than_the_page(opened, name, width):
    page = opened(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    overflowing = "[...document.querySelectorAll('main > *')].map(e => e.getBoundingClientRect())"
    assert page.evaluate(f"Math.max(...{overflowing}.map(box => box.right))") <= width


def test_pages_are_dark_where_the_reader_wants_that(opened):
    for name in ("index.html", "notebooks/03_calibration.html"):
        colour = "getComputedStyle(document.body).backgroundColor"
        light, dark = (opened(name, scheme=scheme).evaluate(colour) for scheme in ("light", "dark"))
        assert (light, dark) == ("rgb(255, 255, 255)", "rgb(20, 24, 28)")


def test_pictures_of_the_report_are_found(opened):
    page = opened("index.html")
    page.evaluate("document.querySelectorAll('img').forEach(e => e.loading = 'eager')")
    images = "[...document.querySelectorAll('img')]"
    page.wait_for_function(f"{images}.every(e => e.complete)")
    assert page.evaluate(f"{images}.map(e => e.naturalWidth > 100)") == [True] * len(NOTEBOOKS)


def test_the_page_of_an_evaluation_shows_its_pictures_and_prints(opened):
    page = opened(OWN)
    sizes = page.evaluate("[...document.querySelectorAll('img')].map(e => e.naturalWidth)")
    assert len(sizes) == 8 + 3 and min(sizes) > 500  # figures, and images to review
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 within its margins
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
