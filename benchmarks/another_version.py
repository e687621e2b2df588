"""Run by the Python of another version of cellworker: one task of "growth", timed as `large_tasks` times it.

    PYTHON benchmarks/another_version.py FOLDER STORE TASK BODY

Imports nothing of this repository. In BODY (JSON) ``"dense gene 0"`` to ``"dense gene 9"`` stand for the ten genes that
most cells express. Without the harness it prints CPU seconds a time, and the fewest.
"""

# ruff: noqa: PLC0415 - only the other version's Python imports the package

import json
import sys
import time
from pathlib import Path

import numpy as np

DENSE = [f"dense gene {k}" for k in range(10)]
REPEATS = 5
MARK = "benchmark-usage "  # as in harness.py


def main(folder: str, store: str, task: str, text: str) -> None:
    """Open, do the task once, then time it."""
    try:
        from cellworker.api.experiment import open_experiment
    except ImportError:  # version 0.1.0
        from cellworker.api import open_experiment
    from cellworker.protocol.encoding import compress
    from cellworker.settings import Settings

    with open_experiment(folder, Settings.from_environment(store_dir=Path(store))) as opened:
        sizes = np.diff(np.asarray(opened.experiment.data.indptr))
        for name, k in zip(DENSE, np.argsort(-sizes, kind="stable").tolist(), strict=False):
            text = text.replace(json.dumps(name), json.dumps(opened.experiment.genes.names[k]))
        body = json.loads(text)

        def work() -> bytes:
            answer = opened.run_raw(task, **body)
            return compress(answer) if task == "GeneExpression" else answer

        work()
        cpu, wall = [], time.perf_counter()
        for _ in range(REPEATS):
            begun = time.process_time()
            answer = work()
            cpu.append(time.process_time() - begun)
        wall = (time.perf_counter() - wall) / REPEATS
    usage = {"cpu_s": sum(cpu) / REPEATS, "wall_s": wall}
    print(MARK + json.dumps({"usage": usage, "details": {"fewest_cpu_s": min(cpu), "answer_mb": len(answer) / 1e6}}))


if __name__ == "__main__":
    main(*sys.argv[1:])
