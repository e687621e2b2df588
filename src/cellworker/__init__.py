"""cellworker: the analysis worker of the Cellenics single-cell platform, in Python alone."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cellworker.errors import ErrorCode, WorkerError
from cellworker.version import __version__

if TYPE_CHECKING:
    from cellworker.api import pl, pp, tl
    from cellworker.api.experiment import OpenExperiment, open_experiment
    from cellworker.api.io import read, write
    from cellworker.api.opening import open  # noqa: A004 the name that everybody looks for
    from cellworker.api.preparing import prepare
    from cellworker.sample import sample_path

__all__ = [
    "ErrorCode",
    "OpenExperiment",
    "WorkerError",
    "__version__",
    "open",
    "open_experiment",
    "pl",
    "pp",
    "prepare",
    "read",
    "sample_path",
    "tl",
    "write",
]

_LAZY = {
    "OpenExperiment": "cellworker.api.experiment",
    "open_experiment": "cellworker.api.experiment",
    "open": "cellworker.api.opening",
    "pl": "cellworker.api.pl",
    "pp": "cellworker.api.pp",
    "prepare": "cellworker.api.preparing",
    "read": "cellworker.api.io",
    "sample_path": "cellworker.sample",
    "tl": "cellworker.api.tl",
    "write": "cellworker.api.io",
}
"""The modules of lazily imported names, so that a worker process does not import every format."""


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _LAZY:
        message = f"module 'cellworker' has no attribute {name!r}"
        raise AttributeError(message)
    module = import_module(_LAZY[name])
    value = module if name in ("pl", "pp", "tl") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
