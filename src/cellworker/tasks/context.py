"""The context of a task beside the experiment and the request: a folder, threads, a table, a language model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cellworker.errors import ErrorCode, WorkerError
from cellworker.progress import Progress, silent

__all__ = ["Annotator", "ClusterQuestion", "Context", "Progress", "no_annotator"]


@dataclass(frozen=True, slots=True)
class ClusterQuestion:
    """Clusters of whose cell types a model is asked.

    Attributes
    ----------
    species, tissue, additional_info
        What is known of the cells, in the user's own words.
    n_clusters
        Number of clusters that have markers.
    markers
        The table of marker genes, by Seurat's names of its columns (``cluster``, counted from 1, ``gene``, ``p_val``,
        ``avg_log2FC``, ``pct.1``, ``pct.2``, ``p_val_adj``), all of one length.
    """

    species: str
    tissue: str
    additional_info: str | None
    n_clusters: int
    markers: dict[str, list[int] | list[float] | list[str]]


class Annotator(Protocol):
    """Asks and waits."""

    def __call__(self, question: ClusterQuestion, progress: Progress, scratch: Path, /) -> list[dict[int, str]]:
        """Return one grouping for each level of detail, coarse ones first: the cell type of each cluster by its number.

        Clusters without an answer are left out, and so are levels without one.

        Raises
        ------
        WorkerError
            ``R_WORKER_CASSIA_ERROR`` saying what failed, never with a key.
        """
        ...


def no_annotator(question: ClusterQuestion, progress: Progress, scratch: Path) -> list[dict[int, str]]:  # noqa: ARG001
    """Refuse."""
    raise WorkerError(
        ErrorCode.R_WORKER_CASSIA_ERROR,
        "This task asks a language model, and none is set up. ScType names cell types without one.",
    )


def _no_marker_table() -> bytes:
    raise WorkerError(ErrorCode.INVALID_INPUT, "This task needs a table of marker genes, and none was given.")


@dataclass(frozen=True, slots=True)
class Context:
    """The context of `compute`, beside the experiment and the request.

    Attributes
    ----------
    progress
        Where to report.
    scratch
        A folder for files that are results; the caller removes them.
    threads
        Max threads for kernels.
    like_original
        Reproduce the original's sampling and slips (decisions.md).
    marker_table
        Returns the content of the table of marker genes (the setting ``sctype_table``), or raises a `WorkerError` that
        says where to get it.
    annotate
        Asks a language model for the cell types of clusters (the settings ``cassia_*``).
    kept
        A folder for what another request of this engine may use again (`tasks.common.result_cache`); None where there
        is none.
    own_tables
        The result becomes tables of our own (Python, command line), which may have columns that the wire has not.
    """

    progress: Progress = silent
    scratch: Path = Path()
    threads: int = 1
    like_original: bool = False
    marker_table: Callable[[], bytes] = _no_marker_table
    annotate: Annotator = no_annotator
    kept: Path | None = None
    own_tables: bool = False
