"""Writing 10x Genomics' matrix in HDF5, as Cell Ranger 3 and later write it: counts, barcodes and features.

Scanpy's ``read_10x_h5`` and Seurat's ``Read10X_h5`` read it. All else that an experiment has is
reported as left behind.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import CellMajor
from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.common.ledger import Conversion, Element, Ledger
from cellworker.formats.common.ledger import Path as Place
from cellworker.formats.common.matrices.sparse import blocks
from cellworker.formats.convert.from_r_objects import JOINED, rounding
from cellworker.formats.r.rds.model import RS4, RValue, RVector
from cellworker.progress import Progress

__all__ = ["check_counts", "write_tenx"]

_FEATURE: Final = "Gene Expression"
_NO_PLACE: Final = "a matrix of 10x holds counts, barcodes and features only"
_MAX_INT32: Final = 2**31 - 1


def check_counts(experiment: StoredExperiment, target: Path) -> CellMajor:
    """Return the raw counts.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` for an experiment without counts, which is all that a matrix of 10x holds, or whose counts are
        all 0, which no reader tells from an empty file.
    """
    counts = experiment.counts
    if counts is None:
        raise WorkerError(
            ErrorCode.INVALID_INPUT,
            f"{target.name}: a matrix of 10x holds raw counts, and the experiment has none; name them with --counts if "
            "it has, or write .h5ad.",
        )
    if not any(np.any(part) for part in _parts(counts.values)):
        raise WorkerError(
            ErrorCode.INVALID_INPUT,
            f"{target.name}: a matrix of 10x holds raw counts, and those of the experiment are all 0; write .h5ad.",
        )
    return counts


def write_tenx(source: Path, experiment: StoredExperiment, path: Path, *, threads: int, report: Progress) -> Conversion:
    """Write a file; returns what became of every element of the source.

    Raises
    ------
    WorkerError
        As `check_counts`, or what reading the source raises.
    """
    from cellworker.formats.anndata.containers.hdf5_out import Hdf5Sink  # noqa: PLC0415 - h5py where needed

    counts = check_counts(experiment, path)
    report("writing the matrix")
    genes, n = experiment.genes, len(experiment.genes)
    with Hdf5Sink(path, threads) as sink:
        sink.group("", {"filetype": "matrix", "version": 2})
        sink.group("matrix", {})
        kept = _stored(counts.values)
        for name, values in (("data", kept), ("indices", counts.genes), ("indptr", counts.indptr)):
            dtype = values.dtype if name == "data" else np.dtype(np.int64)
            sink.array(f"matrix/{name}", values.shape, dtype, lambda a, b, values=values: values[a:b], {})  # type: ignore[misc]
        shape = np.array([n, experiment.n_cells], np.int64 if max(n, experiment.n_cells) > _MAX_INT32 else np.int32)
        for name, texts in (("barcodes", experiment.barcodes),):
            _texts(sink, f"matrix/{name}", texts)
        sink.array("matrix/shape", shape.shape, shape.dtype, lambda a, b: shape[a:b], {})
        sink.group("matrix/features", {})
        features = {
            "id": genes.ids, "name": genes.original_names, "feature_type": [_FEATURE] * n, "genome": [""] * n,
            "_all_tag_keys": ["genome"],
        }  # fmt: skip
        for name, texts in features.items():
            _texts(sink, f"matrix/features/{name}", texts)
    told = _ledger(source, experiment, threads, path.parent)
    told.kept[:0] = [
        f"{experiment.n_cells:,} cells and {n:,} genes, by ids and symbols",
        f"raw counts ({len(counts.values):,} values)",
    ]
    return told


def _stored(values: NDArray[Any]) -> NDArray[Any]:
    """Return counts in the type that Cell Ranger writes, wider or with decimals where they need it."""
    if values.dtype.kind == "f":
        whole = all(np.array_equal(part, np.floor(part)) for part in _parts(values))
        largest = max((float(np.max(part, initial=0)) for part in _parts(values)), default=0.0)
        if not whole or largest > _MAX_INT32:
            return values
    elif max((int(np.max(part, initial=0)) for part in _parts(values)), default=0) > _MAX_INT32:
        return values.astype(np.int64)
    return _AsInt32(values)  # type: ignore[return-value]


def _parts(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start, end in blocks(len(values)):
        yield values[start:end]


class _AsInt32:
    """Values that are turned into int32 when they are asked for, so that no second copy of all is made."""

    dtype = np.dtype(np.int32)

    def __init__(self, values: NDArray[np.generic]) -> None:
        self._values, self.shape = values, values.shape

    def __getitem__(self, part: slice) -> NDArray[np.int32]:
        return self._values[part].astype(np.int32)


def _texts(sink: object, path: str, texts: Sequence[str]) -> None:
    """Write strings of one length, as Cell Ranger does and its readers expect."""
    from cellworker.formats.anndata.containers.hdf5_out import Hdf5Sink  # noqa: PLC0415

    assert isinstance(sink, Hdf5Sink)
    content = [text.replace("\0", "").encode("utf-8", "replace") for text in texts]
    width = max(1, *(len(text) for text in content)) if content else 1
    values = np.array(content, f"S{width}")
    sink.array(path, values.shape, values.dtype, lambda a, b: values[a:b], {})


def _ledger(source: Path, experiment: StoredExperiment, threads: int, spool: Path) -> Conversion:
    """Settle every element of the source."""
    if experiment.origin.assay_class != "AnnData":
        return _of_r_object(source, experiment, spool)
    from cellworker.formats.anndata.elements import is_group  # noqa: PLC0415
    from cellworker.formats.anndata.inventory import attributes_of, elements_of  # noqa: PLC0415
    from cellworker.formats.anndata.rounding import rounding as rounding_of  # noqa: PLC0415
    from cellworker.formats.opening.tree import open_tree  # noqa: PLC0415

    with open_tree(source, experiment.extra, threads, spool) as (root, told):
        ledger = Ledger(elements_of(root), attributes_of(root))
        used: dict[str, str] = experiment.extra.get("used", {})
        frame = "raw/var" if used.get("frame") == "raw" else "var"
        places = {used.get("counts", ""): _matrix(rounding_of(root.get(used.get("counts", "")), _held(experiment)))}
        for table, to in (("obs", "matrix/barcodes"), (frame, "matrix/features")):
            node = root.get(table)
            index = node.attrs.get("_index", "_index") if is_group(node) else "_index"
            places[f"{table}/{index}"] = to
            if table == frame and is_group(node):
                ids = next((name for name in ("gene_ids", "gene_id") if node.get(name) is not None), "")
                places[f"{table}/{ids}"] = "matrix/features/id"
        return _settled(ledger, places, told)


def _held(experiment: StoredExperiment) -> np.dtype[Any]:
    """Return the type in which the experiment keeps its counts."""
    return np.dtype(np.float32) if experiment.counts is None else experiment.counts.values.dtype


def _matrix(*notes: str) -> str:
    said = "; ".join(filter(None, notes))
    return f"matrix/data ({said})" if said else "matrix/data"


def _settled(ledger: Ledger, places: dict[str, str], before: Conversion) -> Conversion:
    for element in ledger.elements():
        to = places.get("/".join(element.path))
        if to is not None:
            ledger.rename(element.path, to)
    for element in ledger.elements():
        ledger.lose(element.path, _NO_PLACE)
    found = ledger.close()
    return Conversion([*before.kept, *found.kept], [*before.renamed, *found.renamed], [*before.lost, *found.lost])


def _of_r_object(source: Path, experiment: StoredExperiment, spool: Path) -> Conversion:
    from cellworker.formats.r.rds.elements import elements_of  # noqa: PLC0415
    from cellworker.formats.seurat.h5.files import read_exactly  # noqa: PLC0415

    with TemporaryDirectory(dir=spool, prefix=".spool-") as folder:
        read = read_exactly(source, Path(folder), lambda _done, _total: None, experiment.object_name)
        root, elements = read.root, list[Element](elements_of(read.root))
    ledger = Ledger(elements)
    if experiment.origin.family == "SummarizedExperiment":
        counts = tuple(experiment.extra.get("used", {}).get("counts", ()))
        found = [element.path for element in elements if counts and element.path[: len(counts)] == counts]
    else:
        found = [element.path for element in elements if _is_counts(element.path, experiment.origin.assay)]
    held = _held(experiment)
    layers = {path[3] for path in found if path[2:3] == ("layers",)}
    joined = f"{JOINED}; which cells it has is not kept" if len(layers) > 1 else ""
    places = {"/".join(path): _matrix(joined, _rounding_at(root, path, held)) for path in found}
    return _settled(ledger, places, Conversion(lost=list(read.passed_over)))


def _is_counts(path: Place, assay: str) -> bool:
    """Tell whether an element of a Seurat object is its counts or a part of them, as in an object of BPCells."""
    inside = path[2:] if path[:2] == ("assays", assay) else ()
    if inside[:1] == ("layers",):
        return len(inside) > 1 and (inside[1] == "counts" or inside[1].startswith("counts."))
    return inside[:1] == ("counts",) or path[:1] == ("raw.data",)


def _rounding_at(root: RValue, path: tuple[str, ...], held: np.dtype[Any]) -> str:
    """Report a matrix of an object that is not held exactly."""
    from cellworker.formats.r.rds.elements import children_of  # noqa: PLC0415

    value: RValue | None = root
    for name in path:
        value = dict(children_of(value) or ()).get(name) if value is not None else None
    is_matrix = isinstance(value, RVector) or (isinstance(value, RS4) and "x" in value.slots)
    return rounding(value, held) if is_matrix else ""
