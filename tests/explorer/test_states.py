"""What the page does when things are not as usual: names that bite, workers that go away, files that lack something."""

import csv
import json
import re
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import expect
from tests.explorer.conftest import Worker, looking, serving
from tests.explorer.seeing import Explorer, pixels_of

from cellworker.cli.formulas import without_formula

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>document.title='taken'</script>",
    "\u202egnp.exe \x1b[31mred\x07",
    '=HYPERLINK("http://example.org")',
    "javascript:alert(1)",
    "{{7*7}} ${7*7} %s",
    "x" * 300,
    "-5",
    "\uff1d1+1",
    "@SUM(1)",
    "+Inf",
    "\u202eturned\u202c",
    "\u200f\u2066",
    "👩‍🔬" * 30,
    "",
]

CONTRAST = """() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (text) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = text;
    paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const linear = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = rgba(getComputedStyle(e).backgroundColor);
      if (color[3] > 250) return color;
    }
    return [255, 255, 255, 255];
  };
  const weak = {};
  for (const e of document.querySelectorAll("body *")) {
    const text = [...e.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!(e instanceof HTMLElement) || !text || e.closest("[disabled]")) continue;
    if (!e.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const [a, b] = [light(rgba(getComputedStyle(e).color)), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) weak[e.className || e.tagName] = `${ratio.toFixed(2)} ${e.textContent.trim().slice(0, 30)}`;
  }
  return weak;
}"""
"""Text whose contrast with its ground is less than 4.5 to 1."""


def write(path: Path, cells: int = 60, *, with_map: bool = True, genes: list[str] | None = None, **obs) -> Path:
    random = np.random.default_rng(7)
    counts = random.poisson(random.gamma(1, 2, (1, len(genes) if genes else 80)) * np.ones((cells, 1)))
    names = genes or [f"GENE{i}" for i in range(counts.shape[1])]
    data = anndata.AnnData(
        np.log1p(counts.astype(np.float32)), obs=pd.DataFrame(obs, index=[f"c{i}" for i in range(cells)])
    )
    data.var_names = names
    data.layers["counts"] = counts.astype(np.float32)
    data.uns["log1p"] = {"base": None}
    data.obsm["X_pca"] = random.normal(size=(cells, min(10, max(2, cells - 1)))).astype(np.float32)
    if with_map:
        data.obsm["X_umap"] = random.normal(size=(cells, 2)).astype(np.float32)
    data.write_h5ad(path)
    return path


def test_names_from_a_file_are_shown_and_change_nothing(browser, tmp_path):
    groups = [HOSTILE[i % (len(HOSTILE) - 1)] for i in range(60)]
    genes = [f"{name}{i}" if i >= len(HOSTILE) - 1 else name for i, name in enumerate((HOSTILE[:-1] * 4)[:24])]
    file = write(
        tmp_path / "hostile.h5ad",
        genes=genes,
        **{"leiden": pd.Categorical(groups), "<b>kind": pd.Categorical(groups)},
    )
    with serving(file, tmp_path / "data") as worker, looking(browser, worker.url) as explorer:
        explorer.page.on("dialog", lambda dialog: pytest.fail(f"a name opened a dialog: {dialog.message}"))
        explorer.open()
        expect(explorer.page).to_have_title("hostile · cellworker")
        explorer.page.locator(".cls .fold").first.click()
        expect(explorer.page.locator("body")).to_contain_text(HOSTILE[0])
        explorer.page.locator(".cls .fold").first.click()
        for kind in (".set", ".gene-row"):
            rows = explorer.page.locator(kind)
            expect(rows.get_by_role("button", name="turned", exact=True).first).to_be_visible()
            expect(rows.get_by_role("button", name="(no visible name)", exact=True).first).to_be_visible()
        assert explorer.page.locator("img").count() == 0
        assert explorer.page.locator("script").count() == 1, "the page's own"
        explorer.tab("Genes")
        explorer.page.get_by_label("Find a gene", exact=True).fill("<img")
        explorer.page.keyboard.press("Enter")
        expect(explorer.legend()).to_contain_text(HOSTILE[0])
        explorer.page.keyboard.press("Escape")
        explorer.tab("Plots")
        expect(explorer.page.locator(".figure").first).to_be_visible()
        figure = explorer.download(explorer.page.locator(".figure").first.get_by_role("button", name="SVG"), tmp_path)
        assert "<img" not in figure.read_text()
        explorer.page.get_by_title("Save pictures, labels, objects").click()
        labels = explorer.download(
            explorer.page.locator(".menu").get_by_role("button", name="Labels of all cells (.csv)"), tmp_path
        )
        with labels.open(newline="", encoding="utf-8") as content:
            written = {row["leiden"] for row in csv.DictReader(content)}
        assert written == {without_formula(name) for name in HOSTILE if name}, "as the command line writes them"
        wide = explorer.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
        assert wide, "long names make nothing wider than the page"


def test_a_set_of_a_hostile_name_is_made_and_kept_as_it_is(explorer: Explorer, worker: Worker):
    explorer.draw_box(0.02, 0.1, 0.45, 0.9)
    explorer.page.keyboard.press("n")
    expect(explorer.set_row("Selection 1")).to_be_visible()
    explorer.button("Selection 1").dblclick()
    name = '"]) || true <svg onload=alert(1)> 😀'
    explorer.page.get_by_label("New name of Selection 1").fill(name)
    explorer.page.keyboard.press("Enter")
    expect(explorer.button(name)).to_be_visible()
    assert name in {item["name"] for item in worker.cell_sets()["Custom cell sets"]["children"]}


HEARS = """words => {
  const look = () => { if (document.body.textContent.includes(words)) document.documentElement.dataset.heard = words; };
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""
"""Notes what the page says from now on: a note may have come and gone before a test looks."""


def test_nothing_is_lost_while_the_worker_is_away(browser, tmp_path):
    with serving(None, tmp_path) as worker, looking(browser, worker.url) as explorer:
        explorer.open()
        explorer.draw_box(0.02, 0.1, 0.45, 0.9)
        explorer.page.keyboard.press("n")
        expect(explorer.set_row("Selection 1")).to_be_visible()
        worker.stop(kill=True)
        explorer.footer("The worker is away")
        explorer.button("Selection 1").dblclick()
        explorer.page.get_by_label("New name of Selection 1").fill("left")
        explorer.page.keyboard.press("Enter")
        expect(explorer.set_row("left")).to_be_visible()
        explorer.footer("1 change of cell sets will be saved then.")
        explorer.draw_box(0.5, 0.1, 0.98, 0.98)
        explorer.page.keyboard.press("n")
        explorer.footer("2 changes of cell sets will be saved then.")
        expect(explorer.page.locator("[data-class=scratchpad] .set")).to_have_count(3)
        made = explorer.page.locator("[data-class=scratchpad] .set .name").last.inner_text()
        explorer.page.evaluate(HEARS, "The 2 changes that waited are saved.")
        worker.start()
        expect(explorer.page.locator("html[data-heard]")).to_be_attached()
        explorer.footer("connected")
        names = [item["name"] for item in worker.cell_sets()["Custom cell sets"]["children"]]
        assert names == ["Proliferating (MKI67)", "left", made], "in order, each once"
        explorer.compare("left")
        expect(explorer.page.locator(".said")).to_contain_text("(189 against 359)")
        # what was done can be taken back after a reload of the tab
        explorer.page.reload()
        explorer.page.get_by_role("button", name=f"Undo: make {made} (U)").click()
        expect(explorer.set_row(made)).to_have_count(0)
        explorer.page.get_by_role("button", name="Undo: rename Selection 1 (U)").click()
        expect(explorer.set_row("Selection 1")).to_be_visible()
        # while nothing listens, the browser itself says so
        explorer.complaints[:] = [
            text for text in explorer.complaints if "ERR_CONNECTION" not in text and "WebSocket" not in text
        ]


def test_a_file_without_a_map_gets_one(browser, tmp_path):
    file = write(tmp_path / "plain.h5ad", with_map=False, kind=pd.Categorical(["a", "b"] * 30))
    with (
        serving(file, tmp_path / "data", MAKE_MISSING="false") as worker,
        looking(browser, worker.url) as explorer,
    ):
        explorer.open()
        expect(explorer.page.locator(".t")).to_contain_text("UMAP computed")
        image = pixels_of(explorer.canvas().screenshot())
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20


def test_one_cell_without_any_gene_is_a_page_with_a_sentence_for_each_thing(browser, tmp_path):
    data = anndata.AnnData(np.zeros((1, 3), np.float32), layers={"counts": np.zeros((1, 3), np.float32)})
    data.obs_names, data.var_names = ["lonely"], ["GENE0", "GENE1", "GENE2"]
    data.uns["log1p"] = {"base": None}
    data.obsm["X_umap"] = np.zeros((1, 2), np.float32)
    data.write_h5ad(tmp_path / "one.h5ad")
    with serving(tmp_path / "one.h5ad", tmp_path / "data") as worker, looking(browser, worker.url) as explorer:
        explorer.open()
        expect(explorer.page.locator("header")).to_contain_text("1 cell · 3 genes")
        explorer.tab("Genes")
        explorer.page.get_by_label("Find a gene", exact=True).fill("GENE1")
        explorer.page.keyboard.press("Enter")
        explorer.shows("GENE1")
        expect(explorer.legend()).to_contain_text("0 of 1 cells express it")
        explorer.tab("Plots")
        expect(
            explorer.page.locator("aside.right .figure, aside.right .hint, aside.right .state").first
        ).to_be_visible()
        explorer.tab("Clusters")
        explorer.button("Cluster all cells").click()
        expect(explorer.page.locator("aside.right").get_by_role("alert")).to_be_visible()
        said = explorer.page.locator("aside.right").get_by_role("alert").inner_text()
        assert len(said) > 30, "a sentence"
        assert "Traceback" not in said


def test_a_file_that_cannot_be_read_is_reported_in_the_engines_words(browser, tmp_path):
    file = tmp_path / "broken.h5ad"
    file.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    worker = Worker(file, tmp_path / "data")
    worker.start()
    try:
        context = browser.new_context()
        page = context.new_page()
        page.goto(worker.url)
        # It may end before the page has fetched its script: then what came with the page says so.
        said = page.get_by_role("alert").or_(page.get_by_text("If this stays, the worker has ended"))
        expect(said).to_be_visible(timeout=120_000)
        assert len(said.inner_text()) > 30
        assert "Traceback" not in said.inner_text()
        context.close()
    except Exception as error:
        # A worker that cannot serve its file ends: then there is no page to look at.
        if "ERR_CONNECTION" not in str(error):
            raise
    finally:
        worker.stop()


def test_a_worker_that_is_gone_before_the_page_is_open_is_said_and_awaited(browser, worker):
    with looking(browser, worker.url) as explorer:
        page = explorer.page
        for path in ("**/health", "**/explorer.json"):
            page.route(path, lambda route: route.abort())
        page.goto(worker.url)
        expect(page.get_by_role("alert")).to_contain_text("The worker does not answer.")
        page.unroute_all()
        expect(page.locator(".map canvas").first).to_be_visible()
        assert {said for said in explorer.complaints if "ERR_FAILED" not in said} == set()
        explorer.complaints.clear()  # the browser's own, of requests that are not answered


def test_a_refused_comparison_says_why_in_the_panel(explorer: Explorer):
    explorer.page.locator("[data-class]", has_text="Samples").locator(".fold").click()
    explorer.page.locator("[data-class]", has_text="Samples").locator(".set").first.hover()
    explorer.page.keyboard.press("a")
    explorer.page.locator("[data-class]", has_text="Samples").locator(".set").nth(1).hover()
    explorer.page.keyboard.press("b")
    explorer.set_row("T cell").hover()
    explorer.page.keyboard.press("b")
    explorer.set_row("T cell").hover()
    explorer.page.keyboard.press("a")
    explorer.page.keyboard.press("c")
    expect(explorer.page.locator("aside.right").get_by_role("alert")).to_contain_text(
        "No cell id fullfills the 1st cell set."
    )


def test_work_is_shown_with_progress_and_can_be_cancelled(browser, tmp_path):
    random = np.random.default_rng(3)
    cells = 150_000  # many enough to be under way until it is cancelled, also on a fast machine
    data = anndata.AnnData(np.log1p(random.poisson(0.3, (cells, 30)).astype(np.float32)))
    data.obsm["X_pca"] = random.normal(size=(cells, 20)).astype(np.float32)
    data.obsm["X_umap"] = data.obsm["X_pca"][:, :2]
    data.obs["kind"] = pd.Categorical(["a", "b"] * (cells // 2))
    data.uns["log1p"] = {"base": None}
    data.write_h5ad(tmp_path / "large.h5ad")
    with (
        serving(tmp_path / "large.h5ad", tmp_path / "data", MAKE_MISSING="false") as worker,
        looking(browser, worker.url) as explorer,
    ):
        explorer.open()
        explorer.page.get_by_title("Choose the map").click()
        explorer.page.locator(".menu").get_by_role("button", name="Compute", exact=True).click()
        job = explorer.page.locator("footer .job")
        expect(job).to_contain_text("UMAP map")
        explorer.page.reload()
        expect(job).to_contain_text("UMAP map")
        job.get_by_role("button", name="cancel").click()
        expect(explorer.page.locator(".map").get_by_role("alert")).to_contain_text("Cancelled.")
        expect(job).to_have_count(0)
        # what the queue does goes on without its page; another finds it
        explorer.tab("Clusters")
        explorer.button("Cluster all cells").click()
        expect(job).to_contain_text("clusters")
        with looking(browser, worker.url) as other:
            other.open()
            found = other.page.locator("footer .job")
            expect(found).to_contain_text("Clusters, begun before")
            found.get_by_role("button", name="cancel").click()
            expect(found).to_have_count(0)
        expect(job).to_have_count(0)


def test_enter_before_the_genes_are_listed_chooses_when_they_are(browser, worker):
    with looking(browser, worker.url) as explorer:
        page = explorer.page.context.new_page()
        held = []

        def hold(route):
            if "ListGenes" in (route.request.post_data or ""):
                held.append(route)
            else:
                route.continue_()

        page.route("**/*", hold)
        page.goto(worker.url)
        page.wait_for_selector("canvas[data-drawn]")
        page.keyboard.press("Control+k")
        page.keyboard.type("gnly")
        expect(page.get_by_text("The genes are being listed")).to_be_visible()
        page.keyboard.press("Enter")
        assert held, "the list was asked for"
        for route in held:
            route.continue_()
        expect(page.locator("main canvas").first).to_have_attribute("data-shows", "GNLY")
        page.close()


def test_everything_has_a_name_and_the_keyboard_reaches_it(explorer: Explorer):
    nameless = explorer.evaluate(
        """() => [...document.querySelectorAll('button, input, select, textarea, canvas, [role=img]')]
        .filter(e => !(e.getAttribute('aria-label') || e.title || e.textContent.trim() || e.labels?.length))
        .map(e => e.outerHTML.slice(0, 120))"""
    )
    assert nameless == []
    explorer.page.keyboard.press("Control+k")
    explorer.page.keyboard.type("gnly")
    explorer.page.keyboard.press("Enter")
    explorer.shows("GNLY")
    explorer.page.keyboard.press("?")
    expect(explorer.page.get_by_role("dialog", name="Keys")).to_be_visible()
    explorer.page.keyboard.press("Escape")
    expect(explorer.page.get_by_role("dialog")).to_have_count(0)
    explorer.page.keyboard.press("r")
    expect(explorer.page.get_by_title("Rectangle: draw a box around cells")).to_have_attribute("aria-pressed", "true")
    explorer.page.keyboard.press("g")
    expect(explorer.page.locator("#gene-search")).to_be_focused()
    # a list is one stop, its rows are reached by arrows; what lies over the page gives the focus back
    press = explorer.page.keyboard.press
    explorer.tab("Sets")
    for key in ("Tab", "End", "ArrowUp", "ArrowUp"):
        press(key)
    expect(explorer.button("T cell")).to_be_focused()
    press("Control+k")
    press("Tab")
    press("Escape")
    expect(explorer.button("T cell")).to_be_focused()
    press("a")
    expect(explorer.page.locator(".box.A")).to_contain_text("T cell")
    # the map: a mark that arrows move, a rectangle from Enter to Enter
    explorer.canvas().focus()
    for key in (
        ["Shift+ArrowLeft"] * 12 + ["Shift+ArrowUp"] * 8 + ["Enter"] + ["Shift+ArrowRight"] * 5 + ["ArrowRight"] * 3
    ):
        press(key)
    for key in ["Shift+ArrowDown"] * 16 + ["Enter"]:
        press(key)
    explorer.footer("189 cells selected")
    # the lasso: corners, the last of which closes it where it is set twice
    press("l")
    for key in ["Shift+ArrowLeft"] * 8 + ["Enter"] + ["Shift+ArrowUp"] * 16 + ["Enter", "Shift+ArrowRight", "Enter"]:
        press(key)
    expect(explorer.page.locator(".map .outline")).to_be_visible()
    for key in ["Backspace"] + ["Shift+ArrowRight"] * 4 + ["Shift+ArrowDown"] * 16 + ["Enter", "Enter"]:
        press(key)
    corners = explorer.page.locator(".map .outline").get_attribute("d")
    assert corners.count(",") == 3
    selected = int(explorer.page.locator("footer").inner_text().split(" cells selected")[0].split()[-1])
    assert 0 < selected < 189


def test_text_has_enough_contrast(explorer: Explorer):
    """WCAG AA: 4.5 to 1, in light and dark."""
    explorer.compare("T cell")
    for scheme in ("light", "dark"):
        expect(explorer.page.locator("html")).to_have_attribute("data-theme", scheme)
        assert explorer.evaluate(CONTRAST) == {}
        explorer.button("Light or dark").click()


def test_the_page_is_usable_at_800_pixels(browser, worker):
    with looking(browser, worker.url, viewport={"width": 800, "height": 600}) as explorer:
        explorer.open()
        assert explorer.evaluate("() => document.documentElement.scrollWidth <= 800")
        explorer.button("Fold the right panel").click()
        box = explorer.canvas().bounding_box()
        assert box["width"] > 500
        explorer.draw_box(0.02, 0.15, 0.4, 0.95)
        explorer.footer("cells selected")


def test_the_first_visit_is_guided(browser, worker):
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(worker.url)
        dialog = page.get_by_role("dialog", name="Guided tour")
        expect(dialog).to_contain_text("Every dot is a cell")
        for _ in range(3):
            dialog.get_by_role("button", name="Next").click()
        dialog.get_by_role("button", name="Begin").click()
        page.reload()
        page.wait_for_selector("canvas[data-drawn]")
        expect(dialog).to_have_count(0)
    finally:
        context.close()


def test_the_methods_text_has_versions_and_parameters(explorer: Explorer, worker: Worker):
    explorer.compare("T cell")
    explorer.page.get_by_title("Text for the methods of a paper").click()
    text = explorer.page.get_by_label("Text for the methods of a paper").last.input_value()
    facts = worker.get("/explorer.json")
    for part in (
        "548 cells and 9,810 genes",
        f"cellworker {facts['version']}",
        "T cell (85 cells)",
        "Wilcoxon",
        "Benjamini",
    ):
        assert part in text


def test_two_pages_keep_each_others_sets_and_a_lost_answer_makes_none_twice(browser, worker, explorer: Explorer):
    with looking(browser, worker.url) as other:
        other.open()
        explorer.draw_box(0.02, 0.1, 0.45, 0.9)
        explorer.page.keyboard.press("n")
        expect(explorer.set_row("Selection 1")).to_be_visible()
        lost: list[str] = []

        def lose_the_first_answer(route):
            if route.request.method == "PATCH" and not lost:
                lost.append(route.request.url)
                route.fetch()
                route.abort()
            else:
                route.continue_()

        # the other page has not seen the first one's set
        other.page.route("**/cellSets", lose_the_first_answer)
        other.button("T cell").click()
        other.page.keyboard.press("n")
        expect(other.page.locator("[data-class=scratchpad] .set")).to_have_count(3)
        assert len(lost) == 1
        # `wait_for_function` of playwright 1.50 is refused here by the page's Content-Security-Policy.
        other.page.evaluate("""() => new Promise((done) => {
            const check = () => Object.values(sessionStorage).some((text) => !text.includes('"waiting":[]'))
                ? requestAnimationFrame(check) : done();
            check();
        })""")
        sizes = [len(item["cellIds"]) for item in worker.cell_sets()["Custom cell sets"]["children"]]
        assert sorted(sizes) == [13, 85, 189]
        other.complaints[:] = [text for text in other.complaints if "ERR_FAILED" not in text]


def test_the_policy_allows_no_inline_code(worker):
    import urllib.request

    for path in ("/", "/console"):
        with urllib.request.urlopen(worker.url + path) as answer:
            policy = answer.headers["Content-Security-Policy"]
            text = answer.read().decode()
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", text)
    assert json.dumps(policy)
