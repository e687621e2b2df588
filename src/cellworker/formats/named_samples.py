"""The column of samples that whoever opens a file names."""

import numpy as np

from cellworker.errors import ErrorCode
from cellworker.experiment.model import Categorical, Column
from cellworker.formats.common.findings import Findings

__all__ = ["SAMPLES", "take_named_samples"]

SAMPLES = "samples"
"""The column of an experiment that tells the sample of each cell."""


def take_named_samples(metadata: dict[str, Column], wanted: str, findings: Findings, table: str) -> None:
    """Have the column of that name tell samples apart; nothing is done where none is named.

    A column ``samples`` that is there already is kept as ``samples (column)``.
    """
    if not wanted or (wanted == SAMPLES and isinstance(metadata.get(SAMPLES), Categorical)):
        return
    labels = _labels(metadata[wanted]) if wanted in metadata else None
    if labels is None:
        usable = [name for name, column in metadata.items() if _labels(column) is not None]
        what = "no labels" if wanted in metadata else "no such column"
        findings.error(
            "--sample", found=f"{wanted!r}: {what} in {table}", expected=f"one of {', '.join(usable) or '(none)'}",
            advice="name a column of labels", code=ErrorCode.INVALID_INPUT,
        )  # fmt: skip
        return
    if SAMPLES in metadata:
        metadata[f"{SAMPLES} (column)"] = metadata.pop(SAMPLES)
    metadata[SAMPLES] = labels
    findings.fallback(f"{table} {SAMPLES}", found=f"--sample {wanted}", advice=f"samples come from the column {wanted}")


def _labels(column: Column) -> Categorical | None:
    if isinstance(column, Categorical):
        return column
    if column.dtype == np.bool_:
        return Categorical(column.astype(np.int32), ["FALSE", "TRUE"])
    known = np.isfinite(column)
    values = np.unique(column[known])
    if np.any(values != np.floor(values)):
        return None
    codes = (
        np.where(known, np.searchsorted(values, np.where(known, column, 0)), -1)
        if len(values)
        else -np.ones(len(column))
    )
    return Categorical(codes.astype(np.int32), [str(int(value)) for value in values])
