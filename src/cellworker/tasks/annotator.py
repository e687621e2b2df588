"""What asks a language model for cell types: the port, as tasks see it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cellworker.errors import ErrorCode, WorkerError
from cellworker.tasks.progress import Progress

__all__ = ["Annotator", "ClusterQuestion", "no_annotator"]


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
    raise WorkerError(ErrorCode.R_WORKER_CASSIA_ERROR, "This task needs a language model, and none is set up.")
