"""The explorer in a browser: how long a person waits for the map, a colour, a selection, a comparison.

Chromium draws in software, as on a machine without a graphics card. Times are from the action to the first
frame that shows its outcome; CPU seconds are those of browser and worker together, and depend less on what else the
machine does. On a busy machine ``chrt -r 1`` (as root) before the command gives it priority. The
experiments of 100,000 and 1,000,000 cells are made here, at random: clusters in a plane, 20,000 genes.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from playwright.sync_api import sync_playwright

from benchmarks.explorer_peers import measure_cellxgene
from benchmarks.harness import RESULTS, cpu_of_tree, descendants, machine, memory_mb
from cellworker.sample import sample_path

SIZES = {"sample": 0, "100k": 100_000, "1M": 1_000_000}
SAMPLE_CELLS = 548
GENES = 20_000
VALUES = 60_000_000
CLUSTERS = 20
BARS = {
    ("sample", "address to map"): 1.5,
    ("100k", "colour by a gene"): 0.3,
    ("1M", "colour by a gene"): 1.5,
    ("100k", "lasso to comparison"): 1.0,
}
HEAP_BAR_MB = 600
SWITCHES = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--no-sandbox"]

WHEN = """(condition) => new Promise((resolve) => {
  const holds = new Function('return ' + condition);
  const look = () => (holds() ? resolve() : requestAnimationFrame(look));
  look();
})"""


def run(*, quick: bool, only: str = "") -> None:
    """Measure all sizes, or the sample and 100,000 cells."""
    wanted = [name for name in SIZES if only in name and not (quick and name == "1M")]
    rows = [row for name in wanted for row in measure(name, SIZES[name])]
    if "CELLXGENE" in os.environ:
        rows += [row for name in wanted if name != "1M" for row in beside(name)]
    for row in rows:
        bar = BARS.get((row["size"], row["what"]))
        verdict = "" if bar is None else f"  bar {bar} s: {'met' if row['wall_s'] <= bar else 'missed'}"
        print(f"{row['size']:>7}  {row['what']:<24} {row['wall_s']:7.2f} s  {row['cpu_s']:7.2f} CPU s{verdict}")
    if only:
        return
    name = "explorer-quick" if quick else "explorer"
    (RESULTS / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    about = {
        "machine": machine(),
        "load_at_the_end": _load(),
        "chromium": _chromium_version(),
        "bars_s": {" ".join(k): v for k, v in BARS.items()},
    }
    (RESULTS / f"{name}.meta.json").write_text(json.dumps({**about, "heap_bar_mb": HEAP_BAR_MB}, indent=1) + "\n")


def beside(name: str) -> list[dict[str, Any]]:
    """Measure cellxgene on the same cells; no row, and a sentence, where it does not open the file."""
    file = generated(SIZES[name]) if SIZES[name] else sample_path()
    try:
        return [measure_cellxgene(name, SIZES[name] or SAMPLE_CELLS, file, chromium(), SWITCHES)]
    except RuntimeError as error:
        print(f"{name:>7}  {error}")
        return []


def _renderers() -> list[int]:
    """Processes of the browser that hold pages: their memory has arrays in it, which the heap has not."""
    found = []
    for one in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if b"--type=renderer" in Path(f"/proc/{one}/cmdline").read_bytes():
                found.append(one)
    return found


def _load() -> dict[str, Any]:
    """The machine's other load, and whether this run had priority over it (``chrt -r 1 make bench NAME=explorer``)."""
    ahead = hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) in {os.SCHED_FIFO, os.SCHED_RR}
    return {"load_average": [round(one, 1) for one in os.getloadavg()], "real_time_priority": ahead}


def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        raise SystemExit("Chromium is not here: apt-get install chromium")
    return found


def _chromium_version() -> str:
    said = subprocess.run([chromium(), "--version"], capture_output=True, text=True, check=False).stdout
    return said.strip().splitlines()[-1]


def generated(cells: int) -> Path:
    """Make an .h5ad of this many cells, once; it is kept in the user's cache."""
    target = Path.home() / ".cache" / "cellworker-benchmarks" / f"explorer-{cells}.h5ad"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(11)
    cluster = random.integers(0, CLUSTERS, cells)
    each = VALUES // cells
    # every cluster prefers some genes: draws from a power law, turned by the cluster
    genes = (GENES * random.power(0.35, (cells, each))).astype(np.int32)
    genes = (genes + 37 * cluster[:, None]) % GENES
    genes.sort(axis=1)
    keep = np.ones_like(genes, bool)
    keep[:, 1:] = genes[:, 1:] != genes[:, :-1]
    indptr = np.concatenate([[0], np.cumsum(keep.sum(axis=1))])
    values = np.log1p(random.integers(1, 30, int(indptr[-1]), dtype=np.int16).astype(np.float32) / 3)
    matrix = sp.csr_matrix((values, genes[keep], indptr), (cells, GENES))
    centres = 8 * random.normal(size=(CLUSTERS, 2))
    obs = pd.DataFrame(
        {
            "leiden": pd.Categorical([f"{k}" for k in cluster]),
            "sample": pd.Categorical([f"donor {k}" for k in random.integers(0, 8, cells)]),
        },
        index=[f"cell{i}" for i in range(cells)],
    )
    data = anndata.AnnData(matrix, obs=obs)
    data.var_names = [f"GENE{i}" for i in range(GENES)]
    data.obsm["X_umap"] = (centres[cluster] + random.normal(size=(cells, 2))).astype(np.float32)
    data.obsm["X_pca"] = np.hstack([data.obsm["X_umap"], random.normal(size=(cells, 8))]).astype(np.float32)
    # without a base: what today's anndata writes for None, the one of cellxgene (0.8) cannot read
    data.uns["log1p"] = {}
    partial = target.with_suffix(".tmp")
    data.write_h5ad(partial)
    partial.rename(target)
    return target


@contextlib.contextmanager
def serving(experiment: Path | None) -> Iterator[tuple[str, int]]:
    """Run a worker; yields its address and process id once the experiment is open."""
    command = [sys.executable, "-m", "cellworker.cli.main", "run", "--no-browser", "--port", "0"]
    command += [] if experiment is None else [str(experiment)]
    with tempfile.TemporaryDirectory() as data:
        environment = {**os.environ, "DATA_DIR": data, "XDG_DATA_HOME": data}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            found = re.search(r"http://[\d.]+:\d+", process.stdout.readline())
            assert found
            for line in process.stdout:
                if line.startswith("Open "):
                    break
            yield found[0], process.pid
        finally:
            process.terminate()
            process.wait()


def measure(name: str, cells: int) -> list[dict[str, Any]]:
    """Return a row for each wait of a person, and one for the memory at the end."""
    experiment = None if cells == 0 else generated(cells)
    with serving(experiment) as (url, worker), sync_playwright() as playwright:
        # outside of the policy, so that conditions can be text
        browser = playwright.chromium.launch(executable_path=chromium(), args=SWITCHES)
        context = browser.new_context(viewport={"width": 1600, "height": 1000}, bypass_csp=True)
        context.set_default_timeout(120_000)
        context.add_init_script("localStorage.setItem('cellworker-tour-seen', 'yes')")
        page = context.new_page()
        roots = [os.getpid()]
        rows: list[dict[str, Any]] = []

        def timed(what: str, act: Any, condition: str) -> None:
            before = sum(cpu_of_tree(pid) for pid in roots)
            started = time.perf_counter()
            act()
            page.evaluate(WHEN, condition)
            wall = time.perf_counter() - started
            rows.append({"size": name, "what": what, "wall_s": round(wall, 3)})
            rows[-1]["cpu_s"] = round(sum(cpu_of_tree(pid) for pid in roots) - before, 3)

        page.goto(url, wait_until="commit")
        page.wait_for_selector("canvas[data-drawn]")
        page.wait_for_load_state("networkidle")
        before = sum(cpu_of_tree(pid) for pid in roots)
        page.reload(wait_until="commit")
        page.wait_for_selector("canvas[data-drawn]")
        ended = page.evaluate("performance.now() / 1000")
        rows.append({"size": name, "what": "address to map", "wall_s": round(ended, 3)})
        rows[-1]["cpu_s"] = round(sum(cpu_of_tree(pid) for pid in roots) - before, 3)
        page.wait_for_load_state("networkidle")

        shows = "document.querySelector('canvas').dataset.shows"
        press = "document.querySelector({!r}).click()".format
        other = page.locator(".class .paint:not([disabled])").last
        class_name = other.evaluate("e => e.closest('.class').querySelector('b').textContent")
        timed("colour by a category", lambda: other.evaluate("e => e.click()"), f"{shows} === {class_name!r}")
        gene = page.locator(".variable .gene").first.inner_text()
        timed("colour by a gene", lambda: page.evaluate(press(".variable .gene")), f"{shows} === {gene!r}")

        page.get_by_title("Rectangle: draw a box around cells").click()
        box = page.locator("canvas").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 0.12 * box["width"], box["y"] + 0.15 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.9 * box["height"], steps=5)
        timed("lasso to counts", page.mouse.up, "document.querySelector('.selected')")
        page.evaluate("window.dispatchEvent(new KeyboardEvent('keydown', { key: 'a' }))")
        page.wait_for_selector(".box.A b")
        again = "window.dispatchEvent(new KeyboardEvent('keydown', { key: 'c' }))"
        timed("lasso to comparison", lambda: page.evaluate(again), "document.querySelector('.table tbody tr')")

        session = context.new_cdp_session(page)
        session.send("HeapProfiler.collectGarbage")
        session.send("Performance.enable")
        metrics = {item["name"]: item["value"] for item in session.send("Performance.getMetrics")["metrics"]}
        rows[-1]["heap_mb"] = round(metrics["JSHeapUsedSize"] / 1e6, 1)
        rows[-1]["page_mb"] = round(max(map(memory_mb, _renderers())), 1)
        rows[-1]["engine_mb"] = round(memory_mb(worker), 1)
        rows[-1]["selected"] = page.locator(".selected b").inner_text()
        browser.close()
    return rows
