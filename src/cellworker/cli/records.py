"""What made a result, as a command knows it."""

from pathlib import Path
from typing import Any, Final

from cellworker.experiment.model import Experiment
from cellworker.formats.common.provenance import Provenance
from cellworker.settings import Settings

__all__ = ["REPLAYED_SETTINGS", "record_of"]

REPLAYED_SETTINGS: Final = (
    "like_original",
    "counts_matrix",
    "data_matrix",
    "sample_column",
    "drop_genes",
    "object_name",
)
"""Settings that change what a result says."""


def record_of(
    task: str, parameters: dict[str, Any], experiment: Experiment, source: Path, *, settings: Settings,
    pagination: dict[str, Any] | None = None,
) -> Provenance:  # fmt: skip
    """Return the record of a task or method that was asked of an open experiment."""
    default = Settings()
    given = {name: getattr(settings, name) for name in REPLAYED_SETTINGS}
    changed = {name: value for name, value in given.items() if value != getattr(default, name)}
    sha256 = experiment.source_sha256
    return Provenance.of(task, parameters, source=source, sha256=sha256, pagination=pagination, settings=changed)
