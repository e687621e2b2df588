"""Lays out all parts of a Seurat object beyond an experiment's matrices for AnnData.

=====================================  =============================================================================
the Seurat object                      AnnData
=====================================  =============================================================================
``meta.data`` columns                  ``obs``: ordered categories, nullable columns, dates as text; data frames and
                                       matrices in ``obsm``
``meta.features`` of the assay         ``var``; ``var.features`` also as ``highly_variable``
reductions                             ``obsm``; loadings in ``varm``
graphs                                 ``obsp``
all else                               ``uns["seurat"]``, under the same names; see `cellworker.formats.anndata.from_r`
=====================================  =============================================================================
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Categorical, Column
from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.anndata.columns_out import DICT, ColumnOut, Nullable, OrderedLabels
from cellworker.formats.anndata.from_r import FromR, has_na_level, plain_column
from cellworker.formats.anndata.writer import Beside, Writer
from cellworker.formats.common.cells.names import match_rows
from cellworker.formats.common.ledger import Ledger, Path, renamed_names
from cellworker.formats.convert.from_r_objects import FLOAT32, JOINED, is_plain, rounding
from cellworker.formats.r.rds.elements import attributes_beyond, children_of, elements_of
from cellworker.formats.r.rds.model import RS4, RValue, RVector
from cellworker.formats.r.values import class_names, dim, dimnames, frame, named, slot, string_list

__all__ = ["SeuratRest"]

_HELD = "uns/seurat"
_RESERVED = frozenset({"gene_ids", "gene_symbols", "dispersion", "original_name", "name", "_index"})
"""Columns of ``var`` by which cellworker tells genes apart: those of another meaning go to ``uns``."""
_LOADINGS = {"pca": "PCs"}


class SeuratRest:
    """Lays out an object's parts beyond an experiment.

    Parameters
    ----------
    root
        The object, read with exact values.
    experiment
        The experiment opened from it.
    replaced
        Columns of ``obs`` that the cell sets replace.
    embedding
        The name of a reduction that is replaced; "" where none is.

    Attributes
    ----------
    ledger
        Of the object; settled completely once ``beside.rest`` has written.
    """

    def __init__(
        self, root: RS4, experiment: StoredExperiment, replaced: Mapping[str, object], embedding: str = ""
    ) -> None:
        self.ledger = Ledger(elements_of(root))
        self._beside = Beside()
        self._root, self._experiment = root, experiment
        self._replaced, self._embedding = replaced, embedding
        self._notes: dict[Path, str] = {}
        if root.class_name == "Seurat":
            self._assay()
            self._metadata()
            self._reductions()
            self._graphs()
        else:
            self._version_2()

    @property
    def beside(self) -> Beside:
        """The parts with a place of their own in AnnData, and a function that writes the rest."""
        # Made for each call: a stored one would keep this object, and with it a mapped store, in a reference cycle.
        return replace(self._beside, rest=self._rest)

    def _settle(self, path: Path, to: str, note: str = "") -> None:
        if self.ledger.is_open(path):
            self.ledger.rename(path, to, note)

    def _version_2(self) -> None:
        """Settle the matrices of an object of Seurat 2; all else of it goes to ``uns``."""
        for name, to in (("raw.data", "layers/counts"), ("data", "X")):
            if self._experiment.counts is not None or name == "data":
                held = self._experiment.counts if name == "raw.data" else None
                dtype = FLOAT32 if held is None else held.values.dtype
                self._settle((name,), to, rounding(self._root.slots.get(name), dtype))

    # ---- the assay that is served ----

    def _assay(self) -> None:
        name = self._experiment.origin.assay
        assay = dict(named(slot(self._root, "assays"))).get(name)
        where: Path = ("assays", name)
        if assay is None:
            return
        layers = dict(named(slot(assay, "layers")))
        inside = (*where, "layers") if layers else where
        found = layers or dict(assay.slots if isinstance(assay, RS4) else {})
        data, counts = (
            [layer for layer in found if layer == kind or (layers and layer.startswith(f"{kind}."))]
            for kind in ("data", "counts")
        )
        is_split = max(len(data), len(counts)) > 1
        note = f"{JOINED}; which cells it has is in {_HELD}/assays/{name}/cells" if is_split else ""
        if self._experiment.counts is not None:
            for layer in counts:
                note_rounding = rounding(found[layer], self._experiment.counts.values.dtype)
                self._settle((*inside, layer), "layers/counts", _notes(note, note_rounding))
        raw_again = len(data) == len(counts) == 1 and _same_values(found[data[0]], found[counts[0]])
        for layer in data:
            to = "layers/counts (the same values); X holds what Seurat's NormalizeData makes of them"
            same = self._experiment.counts if raw_again else None
            note_rounding = rounding(found[layer], FLOAT32 if same is None else same.values.dtype)
            self._settle((*inside, layer), to if raw_again else "X", _notes(note, note_rounding))
        self._scaled(found.get("scale.data"), (*inside, "scale.data"))
        self._names(assay, found, [*data, *counts])
        self._features(assay, where)

    def _names(self, assay: RValue, found: Mapping[str, RValue], layers: list[str]) -> None:
        """Note repeated names, which are distinguished from here on."""
        features, cells = (slot(assay, what) for what in ("features", "cells"))
        sides = [dimnames(found[layer]) for layer in layers]
        for what, logmap, side, after in (
            ("genes", features, 0, self._experiment.genes.ids), ("cells", cells, 1, self._experiment.barcodes)
        ):  # fmt: skip
            own = dimnames(logmap)[0] or dimnames(slot(logmap, ".Data"))[0]
            before = own or next((names[side] for names in sides if names[side] is not None), None)
            texts = [text if text is not None else "NA" for text in before.tolist()] if before is not None else after
            for line in renamed_names(what, texts, after) if len(texts) == len(after) else []:
                self.ledger.note(line)

    def _scaled(self, value: RValue | None, path: Path) -> None:
        assays, shape, scaled = dict(named(slot(self._root, "assays"))), dim(value), self._experiment.scaled
        others = [name for name in ("integrated", "sketch", "SCT") if name in assays and name != path[1]]
        if scaled is None or shape is None or others or shape != (len(scaled.genes), self._experiment.n_cells):
            return  # another assay's values may be served: these are kept as they are
        self._settle(path, "obsm/scaled", rounding(value))

    def _features(self, assay: RValue, where: Path) -> None:
        slot_name = "meta.features" if slot(assay, "meta.features") is not None else "meta.data"
        value = slot(assay, slot_name)
        table = frame(value)
        genes = self._experiment.genes
        if table is None or value is None:
            return
        for (name, item), (key, _) in zip(table.columns, children_of(value) or [], strict=False):
            path = (*where, slot_name, key)
            column = plain_column(item)
            if not name or not is_plain(item) or column is None or _length(column) != len(genes):
                continue
            if name in _RESERVED or name in self._beside.var:
                if (
                    name in {"gene_ids", "gene_symbols"}
                    and isinstance(column, list)
                    and column == _own(genes.ids, genes.original_names, name)
                ):
                    self.ledger.move(path, "var")
                continue
            self._beside.var[name] = column
            self.ledger.move(path, "var")
        variable = set(string_list(slot(assay, "var.features")))
        if variable and "highly_variable" not in self._beside.var:
            self._beside.var["highly_variable"] = np.array([gene in variable for gene in genes.ids], np.bool_)

    # ---- cells ----

    def _metadata(self) -> None:
        frame_value = slot(self._root, "meta.data")
        table, experiment = frame(frame_value), self._experiment
        if table is None or frame_value is None:
            return
        rows = match_rows(table.rows, table.n_rows, experiment.barcodes)
        complete = rows is not None and bool(np.all(rows >= 0)) and table.n_rows == experiment.n_cells
        for (name, item), (key, _) in zip(table.columns, children_of(frame_value) or [], strict=False):
            path: Path = ("meta.data", key)
            if not complete or rows is None or not name or name in self._replaced:
                continue
            if name == "cells_id" and self._is_ids(item, rows):
                self.ledger.move(path, "obs")
            elif name in experiment.metadata and name not in self._beside.obs:
                self._column(name, item, rows, path)
            elif (
                isinstance(item, RVector)
                and item.kind == "complex"
                and len(item) == len(rows)
                and name not in self._beside.obs
            ):
                self._beside.obs[name] = item.values[rows]
                self.ledger.move(path, "obs")
            elif (columns := _columns_of(item, rows)) is not None:
                self._beside.tables[name] = columns
                if not attributes_beyond(item):
                    self._settle(path, f"obsm/{name}", "as a data frame")
        idents = slot(self._root, "active.ident")
        if experiment.identities is not None and idents is not None and not has_na_level(idents):
            self._settle(("active.ident",), "obs/seurat_identity")

    def _is_ids(self, value: RValue, rows: NDArray[np.int64]) -> bool:
        return isinstance(value, RVector) and np.array_equal(value.values[rows], self._experiment.cell_ids)

    def _column(self, name: str, value: RValue, rows: NDArray[np.int64], path: Path) -> None:
        """Put a column of the experiment into ``obs``, with what it says beyond that; the rest goes to ``uns`` too."""
        held = self._experiment.metadata[name]
        self._beside.obs[name] = _beyond(held, value, rows)
        if is_plain(value) and not has_na_level(value):
            self.ledger.move(path, "obs")
        elif has_na_level(value):
            self._notes[path] = f"obs/{name} has it too, where the level NA counts as missing"
        elif isinstance(held, Categorical) and isinstance(value, RVector) and value.kind in {"double", "integer"}:
            self._notes[path] = f"obs/{name} has it too, as text"
        else:
            self._notes[path] = f"obs/{name} has its values, too"

    # ---- reductions and graphs ----

    def _reductions(self) -> None:
        genes = self._experiment.genes
        for name, reduction in named(slot(self._root, "reductions")):
            where: Path = ("reductions", name)
            if name not in self._experiment.reductions:
                continue
            names, columns = dimnames(slot(reduction, "cell.embeddings"))
            key = self._experiment.reductions[name].key
            titled = columns is None or [f"{key}{i + 1}" for i in range(len(columns))] == columns.tolist()
            same = names is None or [text or "" for text in names.tolist()] == self._experiment.barcodes
            if titled and same and name != self._embedding:
                self._settle((*where, "cell.embeddings"), f"obsm/{name if name == 'spatial' else f'X_{name}'}")
            loadings = slot(reduction, "feature.loadings")
            places = _places(loadings, genes.by_id)
            shape = dim(loadings)
            if places is None or shape is None or not isinstance(loadings, RVector):
                continue
            values = np.full((len(genes), shape[1]), np.nan)
            values[places] = loadings.values.reshape(shape[1], shape[0]).T
            self._beside.varm[_LOADINGS.get(name, f"{name}_loadings")] = values

    def _graphs(self) -> None:
        barcodes, n_cells = self._experiment.barcodes, self._experiment.n_cells
        for name, graph in named(slot(self._root, "graphs")):
            rows, columns = dimnames(graph)
            named_like_cells = all(
                side is None or [text or "" for text in side.tolist()] == barcodes for side in (rows, columns)
            )
            if name not in self._experiment.graphs or not named_like_cells or not isinstance(graph, RS4):
                continue
            parts = [graph.slots.get(part) for part in ("p", "i", "x")]
            if not all(isinstance(part, RVector) for part in parts):
                continue
            from scipy.sparse import csc_array  # noqa: PLC0415 - only objects with graphs need it

            indptr, cells, weights = (part.values for part in parts if isinstance(part, RVector))
            turned = csc_array((weights, cells, indptr), shape=(n_cells, n_cells)).tocsr()
            self._beside.obsp[name] = (turned.indptr, turned.indices, turned.data)
            exact: Path = ("graphs", name)
            self.ledger.rename_one(exact, f"obsp/{name}")

    # ---- all else ----

    def _rest(self, writer: Writer) -> None:
        """Write all that is unsettled into ``uns["seurat"]``, under its own names."""
        if not self.ledger.is_open(()):
            return
        sink, put = writer.sink, FromR(writer.sink, self.ledger, writer.leaves)
        sink.group(_HELD, {**DICT, "r-class": [self._root.class_name]})
        for name, value in self._root.slots.items():
            if not self.ledger.is_open((name,)):
                continue
            inner = children_of(value)
            place = f"{_HELD}/{writer.leaves.free(_HELD, name)}"
            if name in _SPREAD and inner is not None and not self.ledger.is_whole((name,)):
                sink.group(place, DICT)
                for member, item in inner:
                    if self.ledger.is_open((name, member)):
                        leaf, path = writer.leaves.free(place, member), (name, member)
                        put.put(f"{place}/{leaf}", item, path, self._notes.get(path, ""))
                if self.ledger.is_open((name,)):
                    put.put(f"{place}/{writer.leaves.free(place, 'more')}", value, (name,))
            else:
                put.put(place, value, (name,))


_SPREAD = frozenset({"assays", "meta.data", "reductions", "graphs", "misc", "images", "tools", "commands", "neighbors"})


def _notes(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _same_values(one: RValue, other: RValue) -> bool:
    first, second = slot(one, "x"), slot(other, "x")
    return isinstance(first, RVector) and isinstance(second, RVector) and np.array_equal(first.values, second.values)


def _own(ids: list[str], symbols: list[str], name: str) -> list[str]:
    return ids if name == "gene_ids" else symbols


def _length(column: ColumnOut) -> int:
    if isinstance(column, Categorical | OrderedLabels):
        return len(column.codes)
    return len(column.values) if isinstance(column, Nullable) else len(column)


def _beyond(held: Column, value: RValue, rows: NDArray[np.int64]) -> ColumnOut:
    """Return an experiment's column with what it lost of the object's: an order of labels, whole numbers with gaps."""
    if isinstance(held, Categorical):
        classes = set(class_names(value))
        if isinstance(value, RVector) and value.kind == "logical":
            return Nullable(held.codes == 1, held.codes < 0)
        return OrderedLabels(held.codes, held.categories, ordered=bool(classes & {"ordered", "Date", "POSIXct"}))
    if isinstance(value, RVector) and value.kind == "integer" and not class_names(value):
        found = plain_column(RVector(value.values[rows], "integer"))
        return found if isinstance(found, Nullable) else held
    return held


def _columns_of(value: RValue, rows: NDArray[np.int64]) -> dict[str, ColumnOut] | None:
    """Return the columns of a matrix or data frame within a table; None for anything else."""
    out: dict[str, ColumnOut] = {}
    shape = dim(value)
    if isinstance(value, RVector) and shape is not None and shape[0] == len(rows) and value.kind != "raw":
        titles = dimnames(value)[1]
        table = value.values.reshape(shape[1], shape[0])
        for number in range(shape[1]):
            column = plain_column(RVector(np.asarray(table[number][rows]), value.kind))
            if column is None:
                return None
            title = titles[number] if titles is not None else None
            out[title if title and title not in out else f"{title or ''}[[{number + 1}]]"] = column
        return out
    inner = frame(value) if "data.frame" in class_names(value) else None
    if inner is None or inner.n_rows != len(rows) or not np.array_equal(rows, np.arange(len(rows))):
        return None
    for name, item in inner.columns:
        column = plain_column(item) if is_plain(item) and not has_na_level(item) else None
        if column is None or not name or name in out or _length(column) != len(rows):
            return None
        out[name] = column
    return out


def _places(loadings: RValue | None, by_id: Mapping[str, int]) -> NDArray[np.int64] | None:
    names = dimnames(loadings)[0]
    if names is None or not isinstance(loadings, RVector) or not len(loadings):
        return None
    places = np.array([by_id.get(name or "", -1) for name in names.tolist()], np.int64)
    return places if len(places) and places.min() >= 0 else None
