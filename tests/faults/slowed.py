"""The catalog of tasks, each of which does what a file in ``$FAULT_DIR`` says before it computes.

``hold-<Task>``: it waits, reporting progress, until the file is gone. ``spin-<Task>``: it is busy until the file is
gone, and hears of nothing. ``eat-<Task>``: it takes memory without end. ``abort-<Task>``: its process aborts.
``ill-<Task>``: the engine is killed. ``big-<Task>``: its result, a file, is as many bytes as
the fault's file says.

Each computation leaves a file ``began-<Task>-<time>`` with the number of its process.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cellworker.tasks.catalog import TASKS
from cellworker.tasks.task import Context, Task


def _slowed(task: Task) -> Task:
    def compute(experiment: Any, request: Any, context: Context) -> Any:
        folder = Path(os.environ["FAULT_DIR"])
        unfinished = folder / f"begins-{task.name}-{time.monotonic_ns()}"
        unfinished.write_text(str(os.getpid()))
        unfinished.rename(folder / unfinished.name.replace("begins-", "began-"))
        if (folder / f"abort-{task.name}").exists():
            os.abort()
        if (folder / f"ill-{task.name}").exists():
            os.kill(int(os.environ["ENGINE_PID"]), signal.SIGKILL)
            signal.pause()
        hoard = []
        while (folder / f"eat-{task.name}").exists():
            hoard.append(np.ones(8 << 20))
        while (folder / f"spin-{task.name}").exists():
            pass
        held = 0
        while (folder / f"hold-{task.name}").exists():
            context.progress("Held by a test", min(1.0, held / 2000))
            held += 1
            time.sleep(0.01)
        if (folder / f"big-{task.name}").exists():
            return _file(context.scratch / "big.bin", int((folder / f"big-{task.name}").read_text()))
        return task.compute(experiment, request, context)

    slowed: Callable[..., Any] = compute
    return replace(task, compute=slowed)


def _file(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        for start in range(0, size, 1 << 20):
            file.write(bytes(min(1 << 20, size - start)))
    return path


BY_PATH = {task.path: _slowed(task) for task in TASKS.values()}
