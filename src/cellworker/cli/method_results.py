"""Results of methods of an experiment, as tables for files and terminals, or as AnnData."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellworker.cli.output import Destination, write_file, write_result
from cellworker.formats.common.half_written import half_written, is_stream
from cellworker.formats.common.provenance import KEY, Provenance, encode, stamp
from cellworker.tasks.common.table_frames import Tables

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame

    from cellworker.api.dataset import Dataset

__all__ = ["write_method_result"]

_ROWS = "rows"
_H5AD = ".h5ad"
_KEPT = frozenset({"embedding", "cluster", "annotate", "pseudotime"})
"""Methods whose results `to_anndata` puts in their places."""


def write_method_result(
    destination: Destination,
    result: Any,  # noqa: ANN401 what a method returns
    dataset: "Dataset",
    records: Sequence[Provenance],
) -> None:
    """Write a table, or several, in the destination's format.

    JSON is an object with the rows, and with the record of what made them under ``cellworker``; ``.h5ad`` is the whole
    experiment with the result in it.
    """
    frames = _frames(result)
    if destination.format == "h5ad":
        _write_annotated(destination, _annotated(dataset, frames, records), records)
        return
    tables: Tables = {name: _columns(frame) for name, frame in frames.items()}
    if destination.format != "json":
        write_result(destination, None, lambda _: tables, records)
        return
    rows = {
        name: [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
        for name, table in tables.items()
    }
    from msgspec import to_builtins  # noqa: PLC0415 heavy

    write_result(destination, {KEY: to_builtins(list(records)), **rows}, None)


def _frames(result: Any) -> dict[str, "DataFrame"]:  # noqa: ANN401
    if dataclasses.is_dataclass(result):
        return {item.name: getattr(result, item.name) for item in dataclasses.fields(result)}
    return {_ROWS: result.to_frame() if result.ndim == 1 else result}


def _columns(frame: "DataFrame") -> dict[str, Sequence[Any]]:
    """Return columns of plain values, barcodes first; missing values are None."""
    if frame.index.name is not None:
        frame = frame.reset_index()
    return {str(name): _plain(column) for name, column in frame.items()}


def _plain(column: Any) -> list[Any]:  # noqa: ANN401
    values = column.astype(object)
    plain: list[Any] = values.where(column.notna(), None).tolist()
    return plain


def _annotated(dataset: "Dataset", frames: dict[str, "DataFrame"], records: Sequence[Provenance]) -> "AnnData":
    adata, task = dataset.to_anndata(), records[-1].task
    for name, frame in frames.items():
        if frame.index.name == "barcode":
            if task not in _KEPT:
                adata.obsm[task] = frame.reindex(adata.obs_names)
            continue
        table = frame.reset_index(drop=True)
        table.index = table.index.astype(str)
        adata.uns[task if name == _ROWS else f"{task}_{name}"] = table
    adata.uns[KEY] = {"provenance": encode(records)}
    return adata


def _write_annotated(destination: Destination, adata: "AnnData", records: Sequence[Provenance]) -> None:
    if destination.path is None or is_stream(destination.path):
        with tempfile.TemporaryDirectory(prefix="cellworker-") as folder:
            made = Path(folder) / f"result{_H5AD}"
            adata.write_h5ad(made)
            stamp(made, records)
            write_file(destination, made)
        return
    with half_written(destination.path) as made:
        adata.write_h5ad(made)
        stamp(made, records, kind=_H5AD)
        made.replace(destination.path)
