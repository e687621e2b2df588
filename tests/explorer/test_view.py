"""`experiment.view()`: the page in a frame of a notebook, served by the process that has the experiment open."""

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.explorer.seeing import Explorer

from cellworker import WorkerError, open_experiment
from cellworker.local.submit import submit

pytest.importorskip("anywidget", reason="anywidget is not installed (make setup brings it)")

# What anywidget's front end does with a widget: it imports the module and renders it with the widget's traits.
NOTEBOOK = """<!doctype html><title>notebook</title><link rel="icon" href="data:,"><main></main><script type="module">
import widget from "./widget.js";
const traits = await (await fetch("./traits.json")).json();
const model = { get: (name) => traits[name], on() {}, off() {} };
widget.render({ model, el: document.querySelector("main") });
</script>"""


@contextmanager
def notebook(widget) -> Iterator[str]:
    """Serve a page that shows a widget, from another port than the widget's own."""
    import json

    traits = json.dumps({name: getattr(widget, name) for name in ("port", "path", "height")})
    files = {
        "/": ("text/html", NOTEBOOK),
        "/widget.js": ("text/javascript", str(widget._esm)),
        "/traits.json": ("application/json", traits),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, text = files[self.path]
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def shown(sample: Path):
    with open_experiment(sample) as experiment:
        widget = experiment.view(height=640)
        yield experiment, widget
        widget.close()


def test_the_page_is_shown_in_a_frame_and_its_sets_are_the_experiments(browser, shown):
    experiment, widget = shown
    with notebook(widget) as url:
        context = browser.new_context(viewport={"width": 1300, "height": 800})
        context.add_init_script("localStorage.setItem('cellworker-tour-seen', 'yes')")
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        frame = page.frame_locator("iframe")
        expect(frame.locator("canvas[data-drawn]")).to_be_visible(timeout=60_000)
        expect(frame.locator("header")).to_contain_text("548 cells")
        assert page.locator("iframe").bounding_box()["height"] == pytest.approx(640, abs=3)
        frame.get_by_role("button", name="T cell", exact=True).click()
        expect(frame.locator("footer")).to_contain_text("85 cells selected")
        frame.locator("body").press("n")
        expect(frame.get_by_role("button", name="Selection 1", exact=True)).to_be_visible()
        made = next(item for _, item in experiment.cell_sets.sets() if item.name == "Selection 1")
        assert len(made.cell_ids) == 85
        frame.locator("body").press("a")
        frame.locator("body").press("c")
        expect(frame.locator(".said")).to_contain_text("All 9,810 genes, every cell (85 against 463)")
        right = experiment.call("DifferentialExpression", cellSet=made.key, compareWith="background", basis="all")
        best = right["data"]["gene_names"][right["data"]["p_val_adj"].index(min(right["data"]["p_val_adj"]))]
        expect(frame.locator(".table tbody")).to_contain_text(best)
        assert complaints == []
        context.close()


def test_requests_without_the_secret_are_refused(shown):
    _, widget = shown
    get = partial(urllib.request.urlopen, timeout=30)
    with get(widget.url) as answer:
        assert "frame-ancestors" not in answer.headers["Content-Security-Policy"], "a notebook frames it"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert len(widget.path.strip("/")) >= 32
    root = f"http://127.0.0.1:{widget.port}"
    for path in ("/", "/explorer.json", "/console", f"/{'x' * len(widget.path.strip('/'))}/explorer.json"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(root + path)
        assert refused.value.code == 404
        refused.value.close()
    request = urllib.request.Request(f"{widget.url}explorer.json", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(request)
    assert refused.value.code == 403
    refused.value.close()


def test_the_tab_of_its_own_shows_the_same(browser, shown):
    _, widget = shown
    context = browser.new_context()
    context.add_init_script("localStorage.setItem('cellworker-tour-seen', 'yes')")
    try:
        explorer = Explorer(context.new_page(), widget.url.rstrip("/"))
        explorer.open()
        explorer.shows("Cell type")
        assert explorer.complaints == explorer.foreign == []
    finally:
        context.close()


def test_closing_stops_the_server_and_the_browser_shows_it(browser, shown):
    experiment, _ = shown
    widget = experiment.view()
    port = widget.port
    widget.close()
    widget.close()
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    with notebook(widget) as url:
        page = browser.new_page()
        page.goto(url)
        expect(page.get_by_role("alert")).to_contain_text("this browser does not reach it")
        page.close()


@pytest.mark.parametrize("height", [0, 10**6, 300.5, "700", True])
def test_a_height_that_is_none_is_refused(shown, height):
    with pytest.raises(WorkerError, match="height: expected a whole number"):
        shown[0].view(height=height)


def test_a_programs_repeated_request_finds_its_result_below_the_secret(shown):
    _, widget = shown
    url = widget.url.rstrip("/")
    # Nobody else asks for this page of the list: the tests of a session share the results that are stored.
    body = {"name": "ListGenes", "selectFields": ["gene_names"], "orderBy": "gene_names", "orderDirection": "ASC"}
    body |= {"limit": 7, "offset": 4321}
    # Playwright's loop runs in this thread.
    with ThreadPoolExecutor(1) as thread:
        first, again = (thread.submit(submit, url, body, timeout_s=120).result() for _ in range(2))
    assert (first.repeated, again.repeated) == (False, True)
    assert first.content == again.content
