"""Turns arguments about matrices, of both ways to open an experiment, into settings."""

import dataclasses
from typing import Any

from cellworker.settings import Settings

__all__ = ["with_roles"]


def with_roles(
    settings: Settings | None,
    *,
    counts: str | None,
    data: str | None,
    sample: str | None,
    drop_genes: bool | None,
    object_name: str | None,
    part: str | None = None,
    orientation: str | None = None,
) -> Settings:
    """Return settings in which the arguments that are not None win.

    Parameters
    ----------
    settings
        None reads the environment.
    counts, data, sample, drop_genes, object_name, part, orientation
        As in `cellworker.open`.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the variable of the environment that cannot be understood.
    """
    named: dict[str, Any] = {
        "counts_matrix": counts,
        "data_matrix": data,
        "sample_column": sample,
        "drop_genes": drop_genes,
        "object_name": object_name,
        "file_part": part,
        "orientation": orientation,
    }
    given = {name: value for name, value in named.items() if value is not None}
    return dataclasses.replace(settings or Settings.from_environment(), **given)
