"""`experiment.view()`: the page in a frame of a notebook, served by the process that has the experiment open."""

import json
import socket
import threading
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from unittest.mock import patch

import anndata
import numpy as np
import pytest
from playwright.sync_api import FrameLocator, Page, expect

from cellworker import WorkerError, open_experiment
from cellworker import open as open_dataset
from cellworker.experiment.cell_sets import CellSet, CellSets
from cellworker.local.submit import submit

pytest.importorskip("anywidget", reason="anywidget is not installed (make setup brings it)")

# What anywidget's front end does with a widget: it imports the module, renders it with the widget's traits, and carries
# messages to the kernel and back.
NOTEBOOK = """<!doctype html><title>notebook</title><link rel="icon" href="data:,"><main></main><script type="module">
import widget from "./widget.js";
const traits = await (await fetch("./traits.json")).json();
const heard = new Set();
const lost = new Set();
window.loseKernel = () => lost.forEach((listener) => listener());
const model = {
  get: (name) => traits[name],
  on: (name, listener) => {
    if (name === "msg:custom") heard.add(listener);
    if (name === "comm_live_update") lost.add(listener);
  },
  off: (name, listener) => heard.delete(listener),
  send: (said) => fetch("./kernel", { method: "POST", body: JSON.stringify(said) }),
};
new EventSource("./messages").onmessage = ({ data }) => {
  const { said, pieces } = JSON.parse(data);
  const views = pieces.map((text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer));
  for (const listener of heard) listener(said, views);
};
widget.render({ model, el: document.querySelector("main") });
</script>"""


@contextmanager
def notebook(widget, name: str = "localhost") -> Iterator[str]:
    """Serve a page that shows a widget, from another port than the widget's own, under one name or another."""
    traits = json.dumps({name: getattr(widget, name) for name in ("port", "path", "height")})
    files = {
        "/": ("text/html", NOTEBOOK),
        "/widget.js": ("text/javascript", str(widget._esm)),
        "/traits.json": ("application/json", traits),
    }
    messages: SimpleQueue[str | None] = SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, text = files.get(self.path, ("text/event-stream", ""))
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(text.encode())
            while self.path == "/messages" and (message := messages.get()) is not None:
                self.wfile.write(f"data: {message}\n\n".encode())

        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()
            widget._handle_custom_msg(said, [])

        def log_message(self, *_: object) -> None: ...

    def send(said: dict[str, Any], pieces: Sequence[bytes] = ()) -> None:
        messages.put(json.dumps({"said": said, "pieces": [b64encode(piece).decode() for piece in pieces]}))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with patch.object(widget, "send", send):
            yield f"http://{name}:{server.server_port}/"
    finally:
        messages.put(None)
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def shown(sample: Path):
    with open_experiment(sample) as experiment:
        widget = experiment.view(height=640)
        yield experiment, widget
        widget.close()


@contextmanager
def framed(browser, widget, name: str) -> Iterator[tuple[Page, FrameLocator]]:
    """Open the stand-in of a notebook, and wait for the map in its frame."""
    with notebook(widget, name) as url:
        context = browser.new_context(viewport={"width": 1300, "height": 800}, accept_downloads=True)
        context.add_init_script("localStorage.setItem('cellworker-tour-seen', 'yes')")
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        frame = page.frame_locator("iframe")
        expect(frame.locator("canvas[data-drawn]")).to_be_visible(timeout=60_000)
        expect(frame.locator("header")).to_contain_text("548 cells")
        assert page.locator("iframe").bounding_box()["height"] == pytest.approx(640, abs=3)
        yield page, frame
        assert complaints == []
        assert any(f":{widget.port}/" in url for url in asked) == (name == "localhost"), asked
        context.close()


def test_a_browser_that_reaches_the_port_shows_the_page_in_a_frame(browser, shown):
    _, widget = shown
    with framed(browser, widget, "localhost") as (page, _):
        page.goto(widget.url)  # in a tab of its own
        expect(page.locator("canvas[data-drawn]")).to_be_visible()


def test_one_that_does_not_reach_it_asks_through_the_notebook_and_sets_are_the_experiments(browser, shown, tmp_path):
    experiment, widget = shown
    with framed(browser, widget, "hub.localhost") as (page, frame):
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
        frame.get_by_title("Save pictures, labels, objects").click()
        with page.expect_download() as waiting:
            frame.get_by_role("button", name="AnnData (.h5ad)").click()
        waiting.value.save_as(tmp_path / waiting.value.suggested_filename)
        taken = anndata.read_h5ad(tmp_path / "processed_matrix.h5ad")
        assert "custom_cellset-Selection 1" in taken.obs


def with_one_more(cell_sets: CellSets, name: str) -> CellSets:
    made = CellSet(name, name, "#aa0000", np.arange(5, dtype=np.int32))
    own = cell_sets.find_class("scratchpad")
    return replace(
        cell_sets,
        classes=[replace(item, children=[*item.children, made]) if item is own else item for item in cell_sets.classes],
    )


@pytest.mark.parametrize("name", ["localhost", "hub.localhost"])
def test_the_page_hears_what_a_cell_of_the_notebook_does_to_the_sets(browser, shown, name):
    experiment, widget = shown
    with framed(browser, widget, name) as (_, frame):
        experiment.cell_sets = with_one_more(experiment.cell_sets, f"cell of {name}")
        expect(frame.get_by_role("button", name=f"cell of {name}", exact=True)).to_be_visible()


def test_sets_that_the_page_changed_are_still_a_table_in_the_notebook(sample):
    with open_dataset(sample) as data:
        widget = data.view()
        made = {"key": "k", "name": "New", "children": [{"key": "k1", "name": "Made", "cellIds": [1, 2]}]}
        with urllib.request.urlopen(f"{widget.url}explorer.json", timeout=60) as answer:
            experiment_id = json.loads(answer.read())["experimentId"]
        url = f"{widget.url}v2/experiments/{experiment_id}/cellSets"
        request = urllib.request.Request(url, json.dumps([{"$append": made}]).encode(), method="PATCH")
        urllib.request.urlopen(request, timeout=60).close()
        assert data.cell_sets().set_index("key").loc["k1", "n_cells"] == 2
        widget.close()


@pytest.mark.parametrize("name", ["localhost", "hub.localhost"])
def test_a_view_whose_kernel_has_ended_says_so_in_its_place(browser, shown, name):
    experiment, _ = shown
    widget = experiment.view()
    with notebook(widget, name) as url:
        page = browser.new_page()
        page.goto(url)
        expect(page.frame_locator("iframe").locator("canvas[data-drawn]")).to_be_visible()
        widget.close()
        page.evaluate("window.loseKernel()")
        expect(page.get_by_role("alert")).to_have_text("The kernel that shows this view has ended. Run the cell again.")
        expect(page.locator("iframe")).to_have_count(0)
        page.close()


def test_a_saved_notebook_says_what_the_view_was(shown):
    _, widget = shown
    assert repr(widget).startswith("The explorer of ")
    assert repr(widget).endswith(": run this cell to see it.")


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
        expect(page.get_by_role("alert")).to_contain_text("The view was closed. Run the cell again.")
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
