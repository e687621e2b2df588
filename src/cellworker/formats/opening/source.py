"""Finds the source file of an open experiment."""

from pathlib import Path

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Experiment
from cellworker.formats.opening.shelf import Shelf

__all__ = ["source_of"]


def source_of(experiment: Experiment) -> Path:
    """Return the file that an experiment was read from.

    Its content may have changed since: ``experiment.key`` is the SHA-256 of what was read.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_NOT_FOUND`` when it does not exist.
    """
    if experiment.store is None:
        message = "This experiment was made in memory, and there is no file that could be annotated."
        raise WorkerError(ErrorCode.EXPERIMENT_NOT_FOUND, message)
    sources = Shelf(experiment.store.parent, 0).sources_of(experiment.store)
    if not sources:
        raise WorkerError(
            ErrorCode.EXPERIMENT_NOT_FOUND,
            "The file that the experiment was read from is not where it was, or was replaced: "
            "put it back, or open the new one and ask again.",
        )
    return sources[0]
