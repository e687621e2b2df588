"""The Dask cluster that a person has connected to, or this process's own threads."""

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Cluster", "deferred", "is_lazy"]

_LOCAL_SHARE = 0.5  # of this machine's memory, where there is no cluster
_TASK_SHARE = 0.5  # of a worker's memory for each of its threads: Dask pauses a worker at 0.8


def is_lazy(values: Any) -> bool:  # noqa: ANN401
    """Tell whether something is a Dask array; Dask is not imported for it."""
    return hasattr(values, "__dask_graph__") and hasattr(values, "to_delayed")


def deferred(function: Any, **options: Any) -> Any:  # noqa: ANN401 Dask has no types
    """Return a function whose calls are tasks, or a value that tasks share (``traverse=False``)."""
    delayed: Any = importlib.import_module("dask").delayed  # an extra, and heavy
    return delayed(function, **options)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The available memory.

    Attributes
    ----------
    total_bytes
        Memory of all workers.
    task_bytes
        Max memory of a task: a share of a worker's memory, by its threads.
    """

    total_bytes: int
    task_bytes: int

    @classmethod
    def of_now(cls) -> "Cluster":
        """Return the cluster of the current client; without one, a share of this machine."""
        limits = _limits()
        if not limits:
            total = int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _LOCAL_SHARE)
            limits = [(total, os.cpu_count() or 1)]
        smallest = min(memory // max(1, threads) for memory, threads in limits)
        return cls(sum(memory for memory, _ in limits), int(smallest * _TASK_SHARE))

    @staticmethod
    def compute(tasks: Sequence[Any]) -> list[Any]:
        """Run tasks; where there is a client, on its cluster."""
        compute: Any = importlib.import_module("dask").compute
        return list(compute(*tasks))


def _limits() -> list[tuple[int, int]]:
    """Return memory and threads of each worker of the current client, [] where there is none."""
    try:
        from distributed import get_client  # noqa: PLC0415 an extra

        workers = get_client().scheduler_info(n_workers=-1)["workers"].values()
    except (ImportError, ValueError):  # not installed; no client
        return []
    return [(int(worker["memory_limit"]), int(worker["nthreads"])) for worker in workers if worker["memory_limit"]]
