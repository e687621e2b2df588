"""cellworker: the analysis worker of the Cellenics single-cell platform, in Python alone."""

from typing import TYPE_CHECKING, Any

from cellworker.errors import ErrorCode, WorkerError
from cellworker.version import __version__

if TYPE_CHECKING:
    from cellworker.api.experiment import OpenExperiment, open_experiment

__all__ = ["ErrorCode", "OpenExperiment", "WorkerError", "__version__", "open_experiment"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    # Lazy, so that a worker process that needs only the engine does not import every format.
    if name in ("OpenExperiment", "open_experiment"):
        from cellworker import api  # noqa: PLC0415

        return getattr(api, name)
    message = f"module 'cellworker' has no attribute {name!r}"
    raise AttributeError(message)
