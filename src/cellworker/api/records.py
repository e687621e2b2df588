"""Records of results: a task or method, its arguments, the source and the relevant settings."""

import inspect
import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, Protocol, TypeVar

import numpy as np

from cellworker.experiment.model import Experiment
from cellworker.formats.common.provenance import Provenance
from cellworker.settings import Settings

__all__ = ["PICTURE_PREFIX", "REPLAYED_SETTINGS", "plain_arguments", "record_of", "recorded"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

PICTURE_PREFIX: Final = "pl."
"""Before the name of a function of `cellworker.pl`, in a record."""
REPLAYED_SETTINGS: Final = (
    "like_original",
    "counts_matrix",
    "data_matrix",
    "sample_column",
    "drop_genes",
    "object_name",
)
"""Settings that change results."""


def record_of(
    task: str, parameters: dict[str, Any], experiment: Experiment, source: Path | None, *, settings: Settings,
    pagination: dict[str, Any] | None = None,
) -> Provenance:  # fmt: skip
    """Return the record of a task or method called on an open experiment."""
    default = Settings()
    given = {name: getattr(settings, name) for name in REPLAYED_SETTINGS}
    changed = {name: value for name, value in given.items() if value != getattr(default, name)}
    sha256 = experiment.source_sha256
    return Provenance.of(task, parameters, source=source, sha256=sha256, pagination=pagination, settings=changed)


class _Recording(Protocol):
    """The class of recorded methods."""

    def record(self, task: str, arguments: dict[str, Any]) -> Provenance: ...
    def begin(self) -> bool: ...
    def end(self, step: Provenance | None) -> None: ...
    def barcodes_of(self, argument: str, cells: Any) -> list[str]: ...  # noqa: ANN401


def recorded(method: Callable[_P, _T]) -> Callable[_P, _T]:
    """Record a method that adds to an experiment among the steps of a saved file; it stands below `checked`.

    Methods that it calls in turn are part of it, and are not recorded again.
    """
    signature = inspect.signature(method)

    @wraps(method)
    def asked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        owner: _Recording = args[0]  # type: ignore[assignment]
        given = signature.bind(*args, **kwargs)
        outermost, step = owner.begin(), None
        try:
            result = method(*given.args, **given.kwargs)
            if outermost:
                step = owner.record(method.__name__, plain_arguments(given.arguments, owner.barcodes_of))
            return result
        finally:
            if outermost:
                owner.end(step)

    return asked


def plain_arguments(given: dict[str, Any], barcodes_of: Callable[[str, Any], list[str]]) -> dict[str, Any]:
    """Return arguments as JSON: cells that are given by a mask, or by a column, as barcodes."""
    plain = {}
    for name, value in given.items():
        if name in ("self", "as_", "ax") or value is None:
            continue
        simple = value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
        try:
            plain[name] = json.loads(json.dumps(simple, default=_plain_number))
        except TypeError:
            plain[name] = barcodes_of(name, value)
    return plain


def _plain_number(value: Any) -> Any:  # noqa: ANN401
    """Return NumPy's numbers, and arrays of them, as JSON; other types are refused."""
    if isinstance(value, np.number) or (isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.number)):
        return value.tolist()
    raise TypeError(type(value).__name__)
