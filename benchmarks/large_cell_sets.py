"""The gateway reads cell sets of a million cells in twenty classes: its memory, and how long its event loop is blocked.

The loop is due every 5 ms while the cell sets are read, and three requests are prepared and sent: two of single sets,
and a download, which needs all of them. The delay beyond that is reported twice: by the process's own processor time,
which other programs do not touch, and by the clock, which on a busy machine counts these too.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

__all__ = ["N_CELLS", "N_CLASSES", "N_SETS", "measure", "write_cell_sets"]

N_CELLS, N_CLASSES, N_SETS = 1_000_000, 20, 25
TICK_S = 0.005
_ANSWER = b'{"data":[],"error":null}'
BODIES = [
    {"name": "DifferentialExpression", "cellSet": "class3-1", "compareWith": "rest", "basis": "all"},
    {"name": "MarkerHeatmap", "nGenes": 2, "selectedCellSet": "class5"},
    {"name": "DownloadAnnotSeuratObject", "isObj2s": True, "embeddingMethod": "umap"},
]


def measure(rounds: int) -> dict[str, Any]:
    """Return the figures of a process that has the gateway's modules loaded."""
    with TemporaryDirectory() as folder:
        source = Path(folder) / "cell_sets.json"
        write_cell_sets(source)
        command = [sys.executable, "-m", "benchmarks.large_cell_sets", str(source), str(rounds)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        figures: dict[str, Any] = json.loads(done.stdout)
        return {"cells": N_CELLS, "classes": N_CLASSES, "file_mb": source.stat().st_size >> 20, **figures}


def write_cell_sets(path: Path) -> None:
    """Write a cell_sets.json in which every cell is in one set of each class."""
    labels = np.arange(N_CELLS) % N_SETS
    lists = [",".join(map(str, np.flatnonzero(labels == number).tolist())) for number in range(N_SETS)]
    with path.open("w") as file:
        file.write('{"cellSets":[')
        for place in range(N_CLASSES):
            name = f"class{place}"
            file.write("," * (place > 0))
            file.write(f'{{"key":"{name}","name":"{name}","rootNode":true,"type":"cellSets","children":[')
            for number, ids in enumerate(lists):
                file.write("," * (number > 0))
                file.write(f'{{"key":"{name}-{number}","name":"{number}","color":"#aabbcc","cellIds":[{ids}]}}')
            file.write("]}")
        file.write("]}")


async def _serve(source: str, rounds: int) -> dict[str, Any]:
    from cellworker.gateway import service  # noqa: F401, PLC0415 what the gateway has in memory
    from cellworker.gateway.core.answering import _prepared  # noqa: PLC0415
    from cellworker.gateway.core.cell_set_reading import CellSetsFile, CellSetsReader  # noqa: PLC0415
    from cellworker.gateway.engine_client.http_engine import HttpEngine  # noqa: PLC0415
    from cellworker.protocol.validation import convert  # noqa: PLC0415
    from cellworker.tasks import catalog  # noqa: PLC0415
    from cellworker.tasks.task import PrepareInput  # noqa: PLC0415

    lags: list[tuple[float, float]] = []

    async def watch() -> None:
        while True:
            cpu, clock = time.process_time(), time.perf_counter()
            await asyncio.sleep(TICK_S)
            lags.append((time.process_time() - cpu, max(0.0, time.perf_counter() - clock - TICK_S)))

    watching = asyncio.create_task(watch())
    taken: list[float] = []
    reader = CellSetsReader()
    command = [sys.executable, "-m", "benchmarks.large_cell_sets"]
    sink = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert sink.stdout is not None
    try:
        port = (await sink.stdout.readline()).decode().strip()
        async with HttpEngine(f"http://127.0.0.1:{port}", catalog.find) as engine:
            for _ in range(rounds):
                content = CellSetsFile()
                content.path.unlink()
                content.path.hardlink_to(source)
                began = time.perf_counter()
                cell_sets = await reader.read(content)
                for body in BODIES:
                    task = catalog.find(body["name"])
                    given = PrepareInput(convert(body, task.body, "body"), None, cell_sets)
                    await engine.compute(task.name, await asyncio.to_thread(_prepared, task, given))
                taken.append(time.perf_counter() - began)
    finally:
        sink.kill()
        await sink.wait()
    watching.cancel()
    cpu_ms, wall_ms = (1000 * np.array(column) for column in zip(*lags, strict=True))
    return {
        "rounds": rounds,
        "turns_of_the_loop": len(lags),
        "seconds_per_round": round(float(np.median(taken)), 2),
        "loop_cpu_ms": {"p99": _short(np.percentile(cpu_ms, 99)), "max": _short(cpu_ms.max())},
        "loop_wall_ms": {"p99": _short(np.percentile(wall_ms, 99)), "max": _short(wall_ms.max())},
        "memory_mb": _peak_mb(),
        "load": round(os.getloadavg()[0], 1),
    }


def _sink() -> None:
    """Be an engine that takes requests and answers nothing: a process of its own, since its memory does not count."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            left = int(self.headers["Content-Length"])
            while left:
                left -= len(self.rfile.read(min(left, 1 << 20)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(_ANSWER)))
            self.end_headers()
            self.wfile.write(_ANSWER)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


def _peak_mb() -> int:
    # Not ru_maxrss, which a new program inherits from the process that started it.
    (peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return int(peak) >> 10


def _short(value: float) -> float:
    return float(f"{value:.3g}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))))
    else:
        _sink()
