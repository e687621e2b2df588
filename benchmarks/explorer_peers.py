"""cellxgene beside the explorer: how long a person waits from the address to the map, in the same browser.

It runs where the variable CELLXGENE names its command (`benchmarks/README.md` says how to install it). The files are
those of the explorer's benchmark, converted by us: cellxgene's anndata does not read what today's writes.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from benchmarks.harness import cpu_of_tree, free_port

WAIT_S = 300
# When the first picture of at least half of the cells is drawn; its page says so nowhere.
WATCH = """(cells) => {
  for (const kind of [WebGLRenderingContext, WebGL2RenderingContext]) {
    const draw = kind.prototype.drawArrays;
    kind.prototype.drawArrays = function (mode, first, count) {
      if (count >= cells / 2) requestAnimationFrame(() => (window.drawnAt ??= performance.now()));
      return draw.call(this, mode, first, count);
    };
  }
}"""


@contextlib.contextmanager
def _serving(command: str, file: Path) -> Iterator[str]:
    port = free_port()
    arguments = [command, "launch", str(file), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                message = f"cellxgene does not serve {file.name}"
                raise RuntimeError(message)
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def measure_cellxgene(name: str, cells: int, experiment: Path, chromium: str, switches: list[str]) -> dict[str, Any]:
    """Return the row of cellxgene's map of an experiment; the second visit counts, as with ours."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.h5ad"
        convert = [sys.executable, "-m", "cellworker.cli.main", "convert", str(experiment), str(file)]
        subprocess.run(convert, check=True, stdout=subprocess.DEVNULL)
        with _serving(os.environ["CELLXGENE"], file) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=switches)
            context = browser.new_context(viewport={"width": 1600, "height": 1000})
            context.add_init_script(f"({WATCH})({cells})")
            context.set_default_timeout(WAIT_S * 1000)
            page = context.new_page()
            page.goto(url, wait_until="commit")
            page.wait_for_function("window.drawnAt")
            page.wait_for_load_state("networkidle")
            before = cpu_of_tree(os.getpid())
            page.reload(wait_until="commit")
            page.wait_for_function("window.drawnAt")
            wall = page.evaluate("window.drawnAt / 1000")
            spent = cpu_of_tree(os.getpid()) - before
            browser.close()
    return {"size": name, "what": "cellxgene: address to map", "wall_s": round(wall, 3), "cpu_s": round(spent, 3)}
