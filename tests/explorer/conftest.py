"""The explorer in a real browser, before a real local run."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.explorer.seeing import Explorer

from cellworker.local.page.pages import has_explorer

pytest.importorskip("playwright", reason="playwright is not installed (make setup)")
from playwright.sync_api import Browser, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Software GL, as on a machine without a graphics card.
SWITCHES = [
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-dev-shm-usage",
]
WAIT_S = 60

expect.set_options(timeout=WAIT_S * 1000)


def find_chromium() -> str | None:
    """Return a browser of this machine: CHROMIUM, else the first that the PATH has."""
    return os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)


# Not of the session: Playwright's loop runs in this thread as long as it lives, and asynchronous tests need the thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("Chromium is not here (apt-get install chromium)")
    if not has_explorer():
        pytest.skip("the explorer is not built (make web)")
    with sync_playwright() as playwright:
        arguments = [*SWITCHES, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        started = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield started
        started.close()


def marker_table(folder: Path) -> str:
    """Write a small table of ScType, and return the setting that names it: the published one would be fetched."""
    table = folder / "markers.json"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(json.dumps({"Immune system": {"positive": {"T": ["CD3D", "TRAC"], "B": ["CD79A"], "M": ["LYZ"]}}}))
    return f"{table}#sha256={hashlib.sha256(table.read_bytes()).hexdigest()}"


class Worker:
    """A `cellworker run` of its own."""

    def __init__(self, experiment: Path | None, data: Path, **settings: str) -> None:
        self.data = data
        self._experiment = experiment
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.url = ""

    def start(self) -> None:
        """Start, on the same port as before where there was one, and wait until it listens."""
        command = [sys.executable, "-m", "cellworker.cli.main", "run", "--no-browser", "--port", str(self.port)]
        command += [] if self._experiment is None else [str(self._experiment)]
        environment = {
            **os.environ, "DATA_DIR": str(self.data), "XDG_DATA_HOME": str(self.data / "own"),
            "SCTYPE_TABLE": marker_table(self.data), **self._settings,
        }  # fmt: skip
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        found = re.search(r"http://[\d.]+:(\d+)", self._process.stdout.readline())
        assert found, "the worker did not start"
        self.url, self.port = found[0], int(found[1])

    def stop(self, *, kill: bool = False) -> None:
        """End it, as a person or as the system does."""
        if self._process is not None:
            self._process.kill() if kill else self._process.terminate()
            self._process.wait(WAIT_S)
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=WAIT_S) as answer:
            return json.loads(answer.read())

    def cell_sets(self) -> dict[str, dict[str, Any]]:
        """Return the classes by name, as the worker serves them."""
        facts = self.get("/explorer.json")
        found = self.get(f"/v2/experiments/{facts['experimentId']}/cellSets")["cellSets"]
        return {item["name"]: item for item in found}

    def forget_changes(self) -> None:
        """Take back what tests did to the cell sets."""
        for own in self.data.rglob("*.cellworker.json"):
            own.unlink()


@contextlib.contextmanager
def serving(experiment: Path | None, data: Path, **settings: str) -> Iterator[Worker]:
    worker = Worker(experiment, data, **settings)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()


@pytest.fixture(scope="module")
def sample_worker(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with serving(None, tmp_path_factory.mktemp("explorer")) as worker:
        yield worker


@pytest.fixture
def worker(sample_worker: Worker) -> Iterator[Worker]:
    """The sample, served; what a test does to its cell sets ends with it."""
    yield sample_worker
    sample_worker.forget_changes()


@contextlib.contextmanager
def looking(browser: Browser, url: str, **options: Any) -> Iterator[Explorer]:
    """Open a page; whatever the browser complains about, and every request to elsewhere, fails the test."""
    settings = {"viewport": {"width": 1440, "height": 900}, "accept_downloads": True, **options}
    context = browser.new_context(**settings)
    context.set_default_timeout(WAIT_S * 1000)
    context.add_init_script(
        "localStorage.getItem('cellworker-tour-seen') ?? localStorage.setItem('cellworker-tour-seen', 'yes')"
    )
    try:
        explorer = Explorer(context.new_page(), url)
        yield explorer
        assert explorer.complaints == []
        assert explorer.foreign == []
    finally:
        context.close()


@pytest.fixture
def explorer(browser: Browser, worker: Worker) -> Iterator[Explorer]:
    """The page on the sample, with its map drawn."""
    with looking(browser, worker.url) as explorer:
        explorer.open()
        yield explorer
