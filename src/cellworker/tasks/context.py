"""The context of a task: a folder, threads, a table of markers, a language model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cellworker.errors import ErrorCode, WorkerError
from cellworker.progress import Progress, silent

__all__ = ["Annotator", "ClusterQuestion", "Context", "Progress", "no_annotator"]


@dataclass(frozen=True, slots=True)
class ClusterQuestion:
    """A question to a model for the cell types of clusters.

    Attributes
    ----------
    species, tissue, additional_info
        Facts about the cells, in the user's own words.
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
    """Asks a model and waits for its answer."""

    def __call__(self, question: ClusterQuestion, progress: Progress, scratch: Path, /) -> list[dict[int, str]]:
        """Return one mapping for each level of detail, coarse ones first: cluster number to cell type.

        Clusters and levels without an answer are left out.

        Raises
        ------
        WorkerError
            ``R_WORKER_CASSIA_ERROR`` saying what failed; the message never holds a key.
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
        A folder for result files; the caller removes them.
    threads
        Max threads for kernels.
    like_original
        Reproduce the original's sampling and slips (decisions.md).
    marker_table
        Returns the content of the table of marker genes (setting ``sctype_table``), or raises a `WorkerError` that says
        where to get it.
    annotate
        Asks a language model for the cell types of clusters (settings ``cassia_*``).
    kept
        A folder for arrays that later requests of this engine can use (`tasks.common.result_cache`), or None.
    own_tables
        Whether the result becomes our own tables (Python, command line), which may have columns that the wire lacks.
    """

    progress: Progress = silent
    scratch: Path = Path()
    threads: int = 1
    like_original: bool = False
    marker_table: Callable[[], bytes] = _no_marker_table
    annotate: Annotator = no_annotator
    kept: Path | None = None
    own_tables: bool = False
