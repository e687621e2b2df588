"""One assay of a Seurat object: its genes and cells, its counts and normalised values, in the versions 3, 4 and 5."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode
from cellworker.experiment.count_layers import CountLayers
from cellworker.experiment.draft import SparseDraft
from cellworker.formats.bpcells.layer import is_bpcells, read_disk_backed
from cellworker.formats.bpcells.outside import Outside
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.matrix_choice import MatrixChoice
from cellworker.formats.common.matrices.sparse import assemble, same_matrix
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.r.rds.model import RS4, RStrings, RValue, RVector
from cellworker.formats.r.values import class_names, describe, dim, dimnames, is_absent, named, same_strings, slot
from cellworker.formats.seurat.read.matrix import Layer, read_layer

__all__ = ["Assay", "LayerMap", "any_layer", "choose_assay", "layer_map", "layers_named", "read_assay"]


@dataclass(frozen=True, slots=True)
class Assay:
    """An assay's genes and cells in its own order, and what it measures. At least one matrix is there."""

    genes: list[str]
    cells: list[str]
    counts: SparseDraft | None
    data: SparseDraft | None
    count_layers: CountLayers | None = None
    """The split of the counts into layers."""


@dataclass(frozen=True, slots=True)
class LayerMap:
    """SeuratObject's LogMap: names, and which of them each layer holds, in the order of the layer's rows or columns."""

    names: list[str]
    layers: list[str]
    present: NDArray[np.bool_]

    def positions(self, layer: str) -> NDArray[np.int64] | None:
        """Return the places of a layer's names among all; None when the map does not know the layer."""
        if layer not in self.layers:
            return None
        return np.flatnonzero(self.present[:, self.layers.index(layer)])


def choose_assay(root: RS4, findings: Findings, wanted: MatrixChoice | None = None) -> tuple[str, RValue]:
    """Choose the assay that is served: the one that `wanted` names, else RNA where there is one, else the active one.

    Raises
    ------
    PartBrokenError
        When that is no assay of expression values.
    """
    assays = dict(named(slot(root, "assays")))
    active_names = slot(root, "active.assay")
    active = (active_names[0] or "") if isinstance(active_names, RStrings) and len(active_names) else ""
    chosen = _named_assay(assays, wanted or MatrixChoice(), findings)
    name = chosen or "RNA" if chosen or "RNA" in assays else active if active in assays else next(iter(assays), "")
    if not name:
        advice = "save the object again with an RNA assay"
        raise findings.broken("assays", found="no assay", expected="an RNA assay", advice=advice)
    assay = assays[name]
    kind = (class_names(assay) or ["?"])[0]
    if kind == "ChromatinAssay":
        raise findings.broken(
            field=f"assay {name}", found="a ChromatinAssay (chromatin accessibility) and no RNA assay",
            expected="gene expression",
            advice="add gene activities as an assay named RNA (Signac's GeneActivity) and save the object again",
            code=ErrorCode.EXPERIMENT_UNSUPPORTED,
        )  # fmt: skip
    if chosen:
        return name, assay
    if active and active != name:
        findings.fallback("assays", found=f"the active assay is {active}", advice=f"the assay {name} is served")
    elif name != "RNA":
        findings.fallback("assays", found="no assay is named RNA", advice=f"the active assay {name} is served")
    return name, assay


def _named_assay(assays: dict[str, RValue], wanted: MatrixChoice, findings: Findings) -> str:
    """Return the assay whose matrices were named, empty where none was.

    Raises
    ------
    PartBrokenError
        When there is no such matrix, or the two are in different assays.
    """
    there = {f"{assay}/{layer}" for assay, value in assays.items() for layer in _matrices_of(value)}
    found = set()
    for option, name in (("counts", wanted.counts), ("data", wanted.data)):
        if not name or (option == "counts" and name == "none"):
            continue
        if name not in there and not any(full.endswith(f"/{name}") for full in there):
            field = f"--{option}"
            raise findings.broken(
                field, found=f"{name!r}, which the object does not hold",
                expected=f"one of {', '.join(sorted(there))}", advice="name one of these", code=ErrorCode.INVALID_INPUT,
            )  # fmt: skip
        if name in there:
            found.add(name.rpartition("/")[0])
    if len(found) > 1:
        raise findings.broken(
            "--counts and --data", found=f"matrices of {' and '.join(sorted(found))}", expected="matrices of one assay",
            advice="name two of the same assay", code=ErrorCode.INVALID_INPUT,
        )  # fmt: skip
    return next(iter(found), "")


def _matrices_of(value: RValue) -> list[str]:
    layers = [name for name, _ in named(slot(value, "layers"))]
    return layers or [kind for kind in ("counts", "data", "scale.data") if not is_absent(slot(value, kind))]


def _picked(kind: str, wanted: MatrixChoice | None, there: Collection[str]) -> str:
    """Return the layer or slot that is read as counts, or as data: the one that was named, else `kind`."""
    name = {"counts": wanted.counts, "data": wanted.data}[kind] if wanted is not None else ""
    name = name if name in there else name.rpartition("/")[2]
    return name if name in there else kind


def read_assay(
    name: str,
    value: RValue,
    findings: Findings,
    scratch: Scratch,
    outside: Outside | None = None,
    *,
    wanted: MatrixChoice | None = None,
) -> Assay:
    """Read an assay's names, counts and data, each matrix in the assay's own order of genes and cells.

    Parameters
    ----------
    outside
        Where disk-backed layers are; without it they are refused.
    wanted
        Which layers or slots are read as counts and as data, where that is said.

    Raises
    ------
    PartBrokenError
        When there is nothing to serve in it.
    """
    if not isinstance(value, RS4):
        advice = "save the object again with an RNA assay"
        raise findings.broken(
            field=f"assay {name}", found=describe(value), expected="an Assay or Assay5", advice=advice
        )
    if "layers" in value.slots:
        return _read_layered(name, value, findings, scratch, outside, wanted=wanted)
    if "data" in value.slots or "counts" in value.slots:
        return _read_slots(name, value, findings, scratch, outside, wanted=wanted)
    raise findings.broken(
        field=f"assay {name}", found=describe(value), expected="an Assay or Assay5",
        advice="convert it with as(object[['RNA']], 'Assay5') and save the object again",
        code=ErrorCode.EXPERIMENT_UNSUPPORTED,
    )  # fmt: skip


def any_layer(
    value: RValue | None, field: str, findings: Findings, scratch: Scratch, outside: Outside | None
) -> Layer | None:
    """Read a matrix inside the object, or one of BPCells beside it; any other disk-backed one is refused."""
    if outside is not None and isinstance(value, RS4) and is_bpcells(value):
        return Layer(read_disk_backed(value, outside, field, findings, scratch), *dimnames(value))
    if isinstance(value, RS4):
        disk_backed = value.package in {"BPCells", "DelayedArray", "HDF5Array"}
        if disk_backed or {"matrix_list", "matrix", "seed"} & value.slots.keys():
            raise findings.broken(
                field, found=f"a disk-backed matrix of class {value.class_name}",
                expected="a matrix inside the object, or one of BPCells", code=ErrorCode.EXPERIMENT_UNSUPPORTED,
                advice="convert the layer with as(x, 'dgCMatrix') and save the object again",
            )  # fmt: skip
    return read_layer(value, field, findings, scratch)


def _read_slots(
    name: str, value: RS4, findings: Findings, scratch: Scratch, outside: Outside | None, *, wanted: MatrixChoice | None
) -> Assay:
    layers: dict[str, Layer] = {}
    for kind in ("counts", "data"):
        field = f"assay {name} {kind}"
        picked = _picked(kind, wanted, _matrices_of(value))
        layer = any_layer(value.slots.get(picked), field, findings, scratch, outside)
        if layer is not None:
            layers[kind] = layer
    main = layers.get("data") or layers.get("counts")
    if main is None:
        advice = "save the object again with its counts or its normalised data"
        raise findings.broken(
            field=f"assay {name}", found="neither counts nor data", expected="expression values", advice=advice
        )
    genes, cells = main.genes, main.cells
    if genes is None or cells is None:
        missing = "gene names" if genes is None else "cell names"
        advice = "set rownames and colnames and save the object again"
        raise findings.broken(
            field=f"assay {name}", found=f"a matrix without {missing}", expected=missing, advice=advice
        )
    counts = layers.get("counts")
    assay = Assay(_texts(genes), _texts(cells), None, main.matrix if main is not counts else None)
    if counts is None:
        return assay
    in_order = all(
        names is None or same_strings(names, wanted) for names, wanted in ((counts.genes, genes), (counts.cells, cells))
    )
    matrix = counts.matrix
    if not in_order:
        matrix = _aligned(counts, assay, f"assay {name} counts", findings, scratch)
    elif (len(matrix.indptr) - 1, matrix.n_columns) != (len(cells), len(genes)):
        advice = "make counts and data cover the same genes and cells, and save the object again"
        found = f"{matrix.n_columns} genes x {len(matrix.indptr) - 1} cells"
        expected = f"{len(genes)} x {len(cells)} as in data"
        raise findings.broken(field=f"assay {name} counts", found=found, expected=expected, advice=advice)
    return Assay(assay.genes, assay.cells, matrix, assay.data)


def _aligned(layer: Layer, assay: Assay, field: str, findings: Findings, scratch: Scratch) -> SparseDraft:
    gene_places = {gene: i for i, gene in enumerate(assay.genes)}
    cell_places = {cell: i for i, cell in enumerate(assay.cells)}
    genes = _texts(layer.genes) if layer.genes is not None else assay.genes
    cells = _texts(layer.cells) if layer.cells is not None else assay.cells
    columns = np.array([gene_places.get(gene, -1) for gene in genes], np.int64)
    rows = np.array([cell_places.get(cell, -1) for cell in cells], np.int64)
    lacking = (len(assay.genes) - len(set(columns[columns >= 0])), len(assay.cells) - len(set(rows[rows >= 0])))
    repeated = len(set(genes)) < len(genes) or len(set(cells)) < len(cells)
    if max(lacking) or repeated or (len(columns), len(rows)) != (layer.matrix.n_columns, len(layer.matrix.indptr) - 1):
        found = f"{lacking[0]} genes and {lacking[1]} cells of the data missing" if max(lacking) else "repeated names"
        advice = "make counts and data cover the same genes and cells, and save the object again"
        raise findings.broken(field, found=found, expected="the genes and cells of the data", advice=advice)
    return assemble([(layer.matrix, rows, columns)], (len(assay.cells), len(assay.genes)), field, findings, scratch)


def _read_layered(
    name: str, value: RS4, findings: Findings, scratch: Scratch, outside: Outside | None, *, wanted: MatrixChoice | None
) -> Assay:
    features = layer_map(value.slots.get("features"), f"assay {name} features", findings)
    cells = layer_map(value.slots.get("cells"), f"assay {name} cells", findings)
    layers = dict(named(slot(value, "layers")))
    matrices: dict[str, SparseDraft | None] = {}
    split: CountLayers | None = None
    for kind in ("counts", "data"):
        parts: list[tuple[str, Layer, NDArray[np.int64], NDArray[np.int64]]] = []
        for layer_name in layers_named(_picked(kind, wanted, layers), layers):
            field = f"assay {name} layer {layer_name}"
            layer = any_layer(layers[layer_name], field, findings, scratch, outside)
            if layer is None:
                continue
            genes, rows = features.positions(layer_name), cells.positions(layer_name)
            size = (layer.matrix.n_columns, len(layer.matrix.indptr) - 1)
            if genes is None or rows is None or (len(genes), len(rows)) != size:
                known = "no entry" if genes is None or rows is None else f"{len(genes)} features x {len(rows)} cells"
                advice = "the file is damaged; save the object again"
                found = f"{known} in the assay's maps"
                raise findings.broken(field, found=found, expected=f"{size[0]} x {size[1]}", advice=advice)
            parts.append((layer_name, layer, rows, genes))
        matrices[kind] = _joined(
            f"assay {name} layer {kind}", parts, (len(cells.names), len(features.names)), findings, scratch
        )
        if kind == "counts" and len(parts) > 1:
            split = _layers_of([(rows, genes) for _, _, rows, genes in parts], len(cells.names), len(features.names))
    if not any(matrices.values()):
        held = ", ".join(layers) or "none"
        advice = "keep the counts or the data layer and save the object again"
        raise findings.broken(field=f"assay {name}", found=f"layers: {held}", expected="counts or data", advice=advice)
    return Assay(features.names, cells.names, matrices["counts"], matrices["data"], split)


def _layers_of(parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], n_cells: int, n_genes: int) -> CountLayers:
    """Describe which cells and genes each of the layers holds."""
    layers, times = np.full(n_cells, -1, np.int64), np.zeros(n_genes, np.int64)
    for number, (rows, genes) in enumerate(parts):
        layers[rows] = number
        times[genes] += 1
    return CountLayers.of(layers, np.flatnonzero(times < len(parts)))


def layers_named(kind: str, layers: dict[str, RValue]) -> list[str]:
    """Return the layer of that name, else the layers that it was split into (``counts.1``, ``counts.sampleA``)."""
    if kind in layers:
        return [kind]
    return [name for name in layers if name.startswith(f"{kind}.") and not re.match(r"scale\.data", name)]


def _joined(
    field: str, parts: list[tuple[str, Layer, NDArray[np.int64], NDArray[np.int64]]],
    shape: tuple[int, int], findings: Findings, scratch: Scratch,
) -> SparseDraft | None:  # fmt: skip
    if not parts:
        return None
    covered = np.zeros(shape[0], np.int64)
    for _, _, rows, _ in parts:
        covered[rows] += 1
    if covered.max(initial=0) > 1:
        found = f"{int((covered > 1).sum())} cells in more than one of {', '.join(part[0] for part in parts)}"
        advice = "join the layers with JoinLayers() and save the object again"
        raise findings.broken(field, found=found, expected="each cell in one layer", advice=advice)
    gaps = int((covered == 0).sum())
    if gaps:
        findings.warning(
            field, found=f"no values for {gaps} of {shape[0]} cells", expected="every cell",
            advice="these cells are served with zeros; join the layers with JoinLayers() if that is not meant",
        )  # fmt: skip
    if len(parts) == 1 and not gaps and len(parts[0][3]) == shape[1]:
        return parts[0][1].matrix
    if len(parts) > 1:
        names = ", ".join(part[0] for part in parts[:4]) + (", ..." if len(parts) > 4 else "")
        found = f"split into {len(parts)} layers ({names})"
        findings.fallback(field, found=found, advice="they are joined, cell by cell")
    placed = [(layer.matrix, rows, genes if len(genes) < shape[1] else None) for _, layer, rows, genes in parts]
    return assemble(placed, shape, field, findings, scratch)


def layer_map(value: RValue | None, field: str, findings: Findings) -> LayerMap:
    """Read a LogMap.

    Raises
    ------
    PartBrokenError
        When it is no logical matrix with names on both sides.
    """
    matrix = slot(value, ".Data") or value
    shape = dim(matrix) or dim(value)
    names, layers = dimnames(matrix)
    if names is None or layers is None:
        names, layers = dimnames(value)
    if shape and min(shape) >= 0 and isinstance(matrix, RVector) and names is not None and layers is not None:
        fits = len(matrix) == shape[0] * shape[1] and (len(names), len(layers)) == shape
        if fits and matrix.kind == "logical":
            present = matrix.values.reshape(shape[1], shape[0]).T == 1
            return LayerMap(_texts(names), _texts(layers), present)
    advice = "the file is damaged; save the object again"
    raise findings.broken(field, found=describe(value), expected="a map of names to layers", advice=advice)


def _texts(names: RStrings) -> list[str]:
    return [name if name is not None else "NA" for name in names.tolist()]


def data_is_raw(counts: SparseDraft | None, data: SparseDraft | None) -> bool:
    """Return whether `data` is nothing but the raw counts again, as Seurat leaves it before NormalizeData."""
    return counts is not None and data is not None and same_matrix(counts, data)
