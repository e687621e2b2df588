"""The cells of a Seurat object: ids, barcodes, metadata columns, samples and identities."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Categorical, Column
from cellworker.formats.common.cells.labels import categorical
from cellworker.formats.common.cells.names import match_rows
from cellworker.formats.common.findings import Findings
from cellworker.formats.r.rds.model import RStrings, RValue, RVector
from cellworker.formats.r.values import NA_INTEGER, Frame, class_names, describe, slot

__all__ = ["colors_of", "read_column", "read_identities", "read_metadata"]

_COLOR = re.compile(r"#[0-9A-Fa-f]{6}([0-9A-Fa-f]{2})?")
_LAST_DAY = 700_000
"""Days around 1970 that dates may be in: the years 54 to 3886."""


def read_metadata(
    table: Frame | None, cells: list[str], findings: Findings, field: str = "meta.data"
) -> dict[str, Column]:
    """Read every usable column of ``meta.data`` (or what `field` calls it), one value for each cell in their order."""
    if table is None:
        findings.warning(
            field, found="no table of cell metadata", expected="a data.frame",
            advice="requests for metadata columns will be refused",
        )  # fmt: skip
        return {}
    rows = match_rows(table.rows, table.n_rows, cells)
    if rows is None or not np.any(rows >= 0):
        findings.error(
            field, found=f"{table.n_rows} rows that do not match the {len(cells)} cells",
            expected="a row for each cell",
            advice=f"give {field} the cells' barcodes as row names and save the object again",
        )  # fmt: skip
        return {}
    lacking = int((rows < 0).sum())
    if lacking:
        findings.warning(
            field, found=f"no row for {lacking} of {len(cells)} cells", expected="a row for each cell",
            advice="their values count as missing",
        )  # fmt: skip
    columns: dict[str, Column] = {}
    skipped: list[str] = []
    for name, value in table.columns:
        column = read_column(value, rows, table.n_rows)
        if not name or name in columns or column is None:
            skipped.append(f"{name or '(no name)'} ({describe(value)})")
        else:
            columns[name] = column
    if skipped:
        found = f"columns that are no plain vectors of one value per cell: {', '.join(skipped[:8])}"
        findings.fallback(field, found=found, advice="they are left out")
    return columns


def read_column(value: RValue, rows: NDArray[np.int64], n_rows: int) -> Column | None:  # noqa: PLR0911 - one a type
    """Read the values of some rows, -1 for a missing one; None where it is no plain vector of `n_rows` values."""
    if isinstance(value, RStrings):
        if len(value) != n_rows:
            return None
        strings = value.tolist()
        return categorical([strings[row] if row >= 0 else None for row in rows.tolist()])
    if not isinstance(value, RVector) or len(value) != n_rows or value.kind in {"complex", "raw"}:
        return None
    # Cells without a row take the first one here and are marked missing below.
    values, missing = value.values[np.maximum(rows, 0)], rows < 0
    levels = slot(value, "levels")
    if isinstance(levels, RStrings) and value.kind == "integer":
        return _factor(np.where(missing, NA_INTEGER, values), levels.tolist())
    if value.kind == "logical":
        missing = missing | (values == NA_INTEGER)
        truth = values != 0
        return Categorical(np.where(missing, -1, truth).astype(np.int32), ["FALSE", "TRUE"]) if missing.any() else truth
    classes = class_names(value)
    if "Date" in classes or "POSIXct" in classes:
        return _times(values, missing, is_date="Date" in classes)
    return _numbers(values, missing, is_integer64="integer64" in classes)


def _times(values: NDArray[Any], missing: NDArray[np.bool_], *, is_date: bool) -> Categorical:
    """Return dates, or times in UTC, as text that sorts as they do; categories in their order."""
    numbers = np.where(missing | (values == NA_INTEGER), np.nan, values.astype(np.float64))
    # Of years that have no four digits, and of what is no finite number, R has no text either.
    known = np.isfinite(numbers) & (np.abs(numbers) < (_LAST_DAY if is_date else _LAST_DAY * 86_400))
    moments, codes = np.unique(numbers[known], return_inverse=True)
    if is_date:
        texts = np.datetime_as_string(np.floor(moments).astype("M8[D]")).tolist()
    else:
        unit = "us" if np.any(moments != np.floor(moments)) else "s"
        stamps = np.round(moments * (1e6 if unit == "us" else 1)).astype(np.int64).astype(f"M8[{unit}]")
        texts = [f"{text}Z" for text in np.datetime_as_string(stamps).tolist()]
    places: dict[str, int] = {}
    order = np.array([places.setdefault(text, len(places)) for text in texts], np.int32)
    out = np.full(len(numbers), -1, np.int32)
    out[known] = order[codes] if len(order) else 0
    return Categorical(out, list(places))


def _numbers(values: NDArray[Any], missing: NDArray[np.bool_], *, is_integer64: bool) -> NDArray[Any]:
    if is_integer64:
        # Package bit64 keeps 64-bit integers in the bits of doubles; its NA is the smallest one.
        values = values.view(np.int64)
        missing = missing | (values == np.iinfo(np.int64).min)
    elif values.dtype == np.int32:
        missing = missing | (values == NA_INTEGER)
    else:
        return np.where(missing, np.nan, values.astype(np.float64))
    return np.where(missing, np.nan, values.astype(np.float64)) if missing.any() else values.astype(np.int64)


def _factor(codes: NDArray[np.int32], levels: list[str | None]) -> Categorical | None:
    present = codes[codes != NA_INTEGER]
    if len(present) and (present.min() < 1 or present.max() > len(levels)):
        return None
    places: dict[str, int] = {}
    new = np.array(
        [-1, *(-1 if level is None else places.setdefault(level, len(places)) for level in levels)], np.int32
    )
    return Categorical(new[np.where(codes == NA_INTEGER, 0, codes)], list(places))


def colors_of(misc: Mapping[str, RValue], metadata: Mapping[str, Column]) -> dict[str, list[str]]:
    """Return the colours in ``misc$<column>_colors``: by the names of the vector, else in the order of the levels."""
    out: dict[str, list[str]] = {}
    for name, column in metadata.items():
        value = misc.get(f"{name}_colors")
        if not isinstance(value, RStrings) or not isinstance(column, Categorical):
            continue
        colors, titles = value.tolist(), slot(value, "names")
        if isinstance(titles, RStrings):
            by_name = dict(zip(titles.tolist(), colors, strict=False))
            colors = [by_name.get(label) for label in column.categories]
        wanted = [color for color in colors[: len(column.categories)] if color and _COLOR.fullmatch(color)]
        if wanted and len(wanted) == len(column.categories):
            out[name] = [color[:7].lower() for color in wanted]
    return out


def read_identities(value: RValue | None, cells: list[str]) -> Categorical | None:
    """Read ``active.ident``, matched to the cells by name; None when the object has none."""
    if not isinstance(value, RVector) or value.kind != "integer":
        return None
    levels, names = slot(value, "levels"), slot(value, "names")
    if not isinstance(levels, RStrings):
        return None
    rows = match_rows(
        [name or "" for name in names.tolist()] if isinstance(names, RStrings) else None, len(value), cells
    )
    if rows is None:
        return None
    codes = value.values[np.maximum(rows, 0)] if len(value) else np.full(len(rows), NA_INTEGER, np.int32)
    return _factor(np.where(rows < 0, NA_INTEGER, codes), levels.tolist())
