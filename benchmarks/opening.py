"""Benchmark "open": reading a file, restarting from the store, genes to bytes, the engine at rest, the whole matrix."""

# ruff: noqa: PLC0415 - every case is a process of its own and pays for what it imports, and for nothing else

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

from benchmarks.generate import FULL, QUICK, experiment
from benchmarks.harness import (
    Bar,
    Case,
    Command,
    cpu_of_tree,
    descendants,
    free_port,
    pick,
    python,
    run_cases,
    say,
    timed,
)

__all__ = ["ensure_columns", "open_once", "run"]

HERE = "benchmarks.opening"
PEERS = "benchmarks.peers"
GENE_REPEATS = 20


def run(*, quick: bool, only: str = "") -> None:
    """Measure and write the results."""
    folder = experiment(QUICK if quick else FULL)
    about = json.loads((folder / "about.json").read_text())
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="bench-open-") as name:
        work = Path(name)
        store = open_once(folder, work / "warm")
        columns = ensure_columns(folder, store)
        cell_ids = work / "cell_ids.npy"
        np.save(cell_ids, _cell_ids(store))
        about["store_bytes"] = store.stat().st_size
        about["bare_interpreter_wall_s"] = _bare_interpreter()
        cases = [
            *_cold(folder, work, quick=quick),
            *_cold_anndata(folder, work, store),
            *_restart(folder, work, columns),
            *_genes(folder, work, columns, cell_ids, about["genes"]),
            *_engine(folder, work, _names(store)[:10]),
            *_matrix(folder, work, columns, about["cells"], quick=quick),
        ]
        chosen = pick(cases, only)
        run_cases("open-quick" if quick else "open", chosen, about, write=not only)


def _settings(store_dir: Path):
    from cellworker.settings import Settings

    return Settings.from_environment(store_dir=store_dir)


def _call(arguments: list[str]) -> None:
    subprocess.run(arguments, check=True)


def ensure_columns(folder: Path, store: Path) -> Path:
    """Return the matrix as the peers want it, gene after gene in an ordinary file; made once."""
    columns = folder / "columns.h5ad"
    if not columns.exists():
        _call(python(f"{HERE}:make_columns", store, columns.with_suffix(".part")))
        columns.with_suffix(".part").rename(columns)
    return columns


def open_once(folder: Path, store_dir: Path) -> Path:
    from cellworker.formats.opening.open import open_experiment

    return open_experiment(folder, _settings(store_dir)).store


def _cell_ids(store: Path) -> np.ndarray:
    from cellworker.experiment.store.store import open_store

    return np.array(open_store(store).cell_ids)


def _names(store: Path) -> list[str]:
    from cellworker.experiment.store.store import open_store

    return list(open_store(store).genes.names)


def _bare_interpreter() -> float:
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        _call([sys.executable, "-c", ""])
        seconds.append(time.perf_counter() - start)
    return round(statistics.median(seconds), 4)


# --- reading a file -------------------------------------------------------------------------------------------------


def cold_open(folder: str, store_dir: str) -> None:
    from cellworker.formats.opening.open import open_experiment

    open_experiment(Path(folder), _settings(Path(store_dir)))


def _cold(folder: Path, work: Path, *, quick: bool) -> list[Case]:
    source = folder / "r.rds"
    cold = work / "cold"
    ours = Command(python(f"{HERE}:cold_open", folder, cold), prepare=lambda: shutil.rmtree(cold, ignore_errors=True))
    inflate = {
        "inflate alone, ISA-L": Command(python(f"{PEERS}:inflate_isal", source)),
        "inflate alone, zlib": Command(python(f"{PEERS}:inflate_zlib", source)),
    }
    readers = {}
    rscript = shutil.which("Rscript")
    if rscript:
        readers["R readRDS"] = Command([rscript, "--vanilla", "-e", f'invisible(readRDS("{source}"))'])
    # At the full size they would take 13 and 24 GB of memory.
    for name in ("rds2py", "rdata"):
        if quick and _installed(name):
            readers[name] = Command(python(f"{PEERS}:read_{name}", source))
    bars = [
        Bar("wall_s", 2.5, "cold open within 2.5 x plain inflate (zlib, wall)", "inflate alone, zlib"),
        Bar("wall_s", 2.5, "cold open within 2.5 x plain inflate (ISA-L, wall)", "inflate alone, ISA-L"),
        Bar("cpu_s", 2.5, "cold open within 2.5 x plain inflate (zlib, CPU)", "inflate alone, zlib"),
        Bar("cpu_s", 2.5, "cold open within 2.5 x plain inflate (ISA-L, CPU)", "inflate alone, ISA-L"),
    ]
    if not quick:
        bars.append(Bar("wall_s", 10, "cold open from gz in under 10 s"))
    repeats = 3 if quick else 2
    return [
        Case("cold open, store written, beside inflating the file", ours, inflate, repeats, bars),
        Case("cold open, store written, beside other readers", ours, readers, repeats if quick else 1),
    ]


def convert_to(source: str, target: str, store_dir: str) -> None:
    from cellworker.formats.convert.converting import convert

    convert(Path(source), Path(target), _settings(Path(store_dir)), force=True)


def _cold_anndata(folder: Path, work: Path, store: Path) -> list[Case]:
    """Files as anndata writes them, read into a store, beside anndata reading them into memory."""
    if not _installed("anndata"):
        return []
    ours = folder / "cellworker.h5ad"
    if not ours.exists():
        _call(python(f"{HERE}:convert_to", folder, folder / "part.h5ad", store.parent))
        (folder / "part.cell_sets.json").unlink(missing_ok=True)
        (folder / "part.h5ad").rename(ours)
    cases = []
    for name in ("plain.h5ad", "gzip.h5ad", "blosc.zarr"):
        path, cold = folder / f"anndata-{name}", work / f"cold-{name}"
        if not path.exists():
            part = path.with_name(f"part-{name}")
            shutil.rmtree(part, ignore_errors=True)
            _call(python(f"{PEERS}:write_anndata", ours, part))
            part.rename(path)

        def clear(cold: Path = cold) -> None:
            shutil.rmtree(cold, ignore_errors=True)

        opened = Command(python(f"{HERE}:cold_open", path, cold), prepare=clear)
        only = Command(python(f"{HERE}:read_only", path))
        peers = {"anndata, the same into memory": Command(python(f"{PEERS}:read_anndata", path))}
        cases.append(Case(f"{name} read into memory", only, peers))
        cases.append(Case(f"{name} opened, store written", opened, peers))
    return cases


def read_only(path: str) -> None:
    """Read without a store and without a child process, libraries imported."""
    from cellworker.formats.anndata.containers.opening import open_anndata
    from cellworker.formats.anndata.reader import read_anndata
    from cellworker.formats.common.findings import Findings
    from cellworker.formats.common.scratch import Scratch

    with timed(), open_anndata(Path(path), 1 << 40, 2) as root:
        read_anndata(root, Findings(), Scratch(), lambda _stage, _part: None)


def _installed(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


# --- restart --------------------------------------------------------------------------------------------------------


def restart(folder: str, store_dir: str, gene: str) -> None:
    """Open and touch one gene, libraries imported."""
    from cellworker.formats.opening.open import open_experiment

    settings = _settings(Path(store_dir))
    with timed():
        opened = open_experiment(Path(folder), settings)
        cells, values = opened.experiment.data.gene(int(gene))
        float(values.sum()) + int(cells[-1])


def restart_process(folder: str, store_dir: str, gene: str) -> None:
    """The same, counted from the start of the interpreter."""
    from cellworker.formats.opening.open import open_experiment

    opened = open_experiment(Path(folder), _settings(Path(store_dir)))
    cells, values = opened.experiment.data.gene(int(gene))
    float(values.sum()) + int(cells[-1])


def _restart(folder: Path, work: Path, columns: Path) -> list[Case]:
    warm = work / "warm"
    peers = {"anndata, backed, by columns": Command(python(f"{PEERS}:anndata_first_gene", columns, 17))}
    return [
        Case(
            "restart: open and first gene",
            Command(python(f"{HERE}:restart", folder, warm, 17)),
            peers,
            5,
            [Bar("wall_s", 0.3, "restart from the store in under 0.3 s")],
        ),
        Case(
            "restart: whole process, interpreter and imports too",
            Command(python(f"{HERE}:restart_process", folder, warm, 17)),
            repeats=5,
        ),
    ]


# --- genes to bytes -------------------------------------------------------------------------------------------------


def genes_to_bytes(folder: str, store_dir: str, genes: str, repeats: str) -> None:
    """GeneExpression from its body to the compressed bytes that go to the result store."""
    from cellworker.api.experiment import open_experiment
    from cellworker.protocol.encoding import compress

    opened = open_experiment(folder, _settings(Path(store_dir)))
    names = [opened.experiment.genes.names[int(gene)] for gene in genes.split(",")]
    compress(opened.run_raw("GeneExpression", genes=names))
    with timed(int(repeats)) as details:
        for _ in range(int(repeats)):
            size = len(compress(opened.run_raw("GeneExpression", genes=names)))
        details["compressed_bytes"] = size


def _genes(folder: Path, work: Path, columns: Path, cell_ids: Path, n_genes: int) -> list[Case]:
    rng = np.random.default_rng(3)
    found = []
    choices = {f"{n} genes": np.sort(rng.choice(n_genes, n, replace=False)) for n in (1, 10, 50)}
    choices["10 genes found in most cells"] = _common_genes(columns, 10)
    for name, chosen in choices.items():
        text = ",".join(map(str, chosen.tolist()))
        bars = [Bar("wall_s", 0.025, "10 genes to compressed bytes in under 25 ms")] if name == "10 genes" else []
        found.append(
            Case(
                f"{name} to compressed bytes",
                Command(python(f"{HERE}:genes_to_bytes", folder, work / "warm", text, GENE_REPEATS)),
                {
                    "scipy CSC, orjson, zstd": Command(
                        python(f"{PEERS}:genes_scipy", columns, cell_ids, text, GENE_REPEATS)
                    )
                },
                3,
                bars,
            )
        )
    return found


def _common_genes(columns: Path, n: int) -> np.ndarray:
    import h5py

    with h5py.File(columns) as file:
        sizes = np.diff(file["X/indptr"][:])
    return np.sort(np.argsort(-sizes, kind="stable")[:n])


def make_columns(store: str, target: str) -> None:
    from benchmarks.peers import csc_of_store

    csc_of_store(Path(store), Path(target))


# --- the engine -----------------------------------------------------------------------------------------------------


def engine_at_rest(folder: str, store_dir: str, names: str) -> None:
    """Start the engine on a warm store; report seconds to ready, and its processes' memory beside the mapped store."""
    port = free_port()
    environment = {**os.environ, "STORE_DIR": store_dir, "LOG_LEVEL": "ERROR"}
    start = time.perf_counter()
    command = [sys.executable, "-m", "cellworker.cli.main", "engine", folder, "--port", str(port)]
    engine = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        _wait_for_health(port, engine)
        ready = time.perf_counter() - start
        if names:
            body = json.dumps({"genes": names.split(",")}).encode()
            url = f"http://127.0.0.1:{port}/v0/runExpression"
            for _ in range(5):
                urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})).read()
        time.sleep(2)
        memory = _pss_beside(engine.pid, Path(store_dir))
        cpu = cpu_of_tree(engine.pid)
    finally:
        engine.send_signal(signal.SIGTERM)
        engine.wait(30)
    say({"cpu_s": cpu, "wall_s": ready, "peak_mb": memory["beside_store_mb"]}, memory)


def _wait_for_health(port: int, engine: subprocess.Popen) -> None:
    while engine.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.005)
    message = f"the engine ended with status {engine.returncode}"
    raise RuntimeError(message)


def _pss_beside(pid: int, store_dir: Path) -> dict[str, float]:
    """Proportional set size of all processes, that of the mapped store apart."""
    beside = mapped = 0
    pids = (pid, *descendants(pid))
    for one in pids:
        in_store = False
        for line in Path(f"/proc/{one}/smaps").read_text().splitlines():
            if line.startswith("Pss:"):
                kilobytes = int(line.split()[1])
                mapped += kilobytes if in_store else 0
                beside += 0 if in_store else kilobytes
            elif "-" in line.split(" ", 1)[0] and not line.split(" ", 1)[0].endswith(":"):
                in_store = str(store_dir.resolve()) in line
    return {"beside_store_mb": beside * 1024 / 1e6, "mapped_store_mb": mapped * 1024 / 1e6, "processes": len(pids)}


def _engine(folder: Path, work: Path, names: list[str]) -> list[Case]:
    if not Path("/proc/self/smaps").exists():
        return []
    return [
        Case(
            f"engine at rest{words}: CPU, seconds to ready, memory beside the mapped store",
            Command(python(f"{HERE}:engine_at_rest", folder, work / "warm", asked)),
            repeats=3,
            bars=[
                Bar("peak_mb", 250, "idle memory under 250 MB beside mapped pages"),
                Bar("wall_s", 1.0, "start to ready in under 1 s"),
            ],
        )
        for asked, words in (("", ""), (",".join(names), ", after five requests for ten genes"))
    ]


# --- the whole matrix -----------------------------------------------------------------------------------------------


def matrix(folder: str, store_dir: str, cells: str) -> None:
    """GetNormalizedExpression; without `cells` of all cells, else of the set of that name."""
    from cellworker.api.experiment import open_experiment

    opened = open_experiment(folder, _settings(Path(store_dir)))
    with opened, timed() as details:
        path = opened.run("GetNormalizedExpression", subsetBy={"scratchpad": [cells]} if cells else {})
        details["file_bytes"] = path.stat().st_size


def _matrix(folder: Path, work: Path, columns: Path, n_cells: int, *, quick: bool) -> list[Case]:
    tenth = n_cells // 10
    peers = {"Arrow": Command(python(f"{PEERS}:matrix_arrow", columns, tenth, work / "a.csv.gz"))}
    if quick:  # over three minutes at the full size
        peers["pandas"] = Command(python(f"{PEERS}:matrix_pandas", columns, tenth, work / "p.csv.gz"))
    return [
        Case(
            f"normalised matrix of {tenth:,} cells to csv.gz",
            Command(python(f"{HERE}:matrix", folder, work / "warm", "bench-custom")),
            peers,
            1,
        ),
        Case(
            f"normalised matrix of all {n_cells:,} cells to csv.gz",
            Command(python(f"{HERE}:matrix", folder, work / "warm", "")),
            repeats=1,
            bars=[Bar("peak_mb", 300, "memory under 300 MB beside the mapped data")],
        ),
    ]
