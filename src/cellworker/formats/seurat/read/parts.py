"""The parts of a Seurat object around its matrices: reductions, graphs, scaled values, and the ``misc`` list."""

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.draft import SparseDraft
from cellworker.experiment.model import Misc, Reduction
from cellworker.formats.common.active_reduction import choose_active, default_reduction
from cellworker.formats.common.cells.names import match_rows
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.sparse import assemble, blocks, transpose
from cellworker.formats.common.palette import palette
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.r.rds.model import RS4, RList, RStrings, RValue, RVector
from cellworker.formats.r.values import (
    describe,
    dim,
    dimnames,
    is_absent,
    named,
    number,
    slot,
    string_list,
    text,
)  # fmt: skip
from cellworker.formats.seurat.read.assay import layer_map
from cellworker.formats.seurat.read.matrix import dense_values, read_layer

__all__ = ["read_graphs", "read_misc", "read_reductions", "read_scaled"]

_ROWS = 1 << 16  # rows of a reduction that are put in order at a time
_COLOR = re.compile(r"^#[0-9A-Fa-f]{6}([0-9A-Fa-f]{2})?$")


def read_reductions(
    value: RValue | None,
    cells: list[str],
    findings: Findings,
    scratch: Scratch,
    slot_name: str = "cell.embeddings",
) -> dict[str, Reduction]:
    """Read every reduction's coordinates, rows matched to the cells by name, NaN where a cell has none."""
    out: dict[str, Reduction] = {}
    for name, reduction in named(value):
        matrix = slot(reduction, slot_name)
        shape = dim(matrix)
        if shape is None or min(shape) == 0 or not isinstance(matrix, RVector):
            if shape is None:
                findings.fallback(f"reductions {name}", found=describe(matrix), advice="this reduction is left out")
            continue
        names, _ = dimnames(matrix)
        rows = match_rows([cell or "" for cell in names.tolist()] if names is not None else None, shape[0], cells)
        if len(matrix) != shape[0] * shape[1] or rows is None or not np.any(rows >= 0):
            found = f"{shape[0]} rows that match none of the {len(cells)} cells"
            findings.warning(
                f"reductions {name}", found=found, expected="a row for each cell", advice="this reduction is left out"
            )
            continue
        table: NDArray[np.float64] = scratch.empty((len(cells), shape[1]), np.float64)
        by_row = matrix.values.reshape(shape[1], shape[0]).T
        for start, end in blocks(len(cells), _ROWS):
            piece, some = table[start:end], rows[start:end]
            piece[some < 0] = np.nan
            piece[some >= 0] = by_row[some[some >= 0]]
        out[name] = Reduction(table, text(slot(reduction, "key")))
    return out


def read_graphs(value: RValue | None, cells: list[str], findings: Findings, scratch: Scratch) -> dict[str, SparseDraft]:
    """Read the cell-cell graphs that cover exactly the cells; row *i* of the result is row *i* of R's matrix."""
    out: dict[str, SparseDraft] = {}
    n = len(cells)
    for name, graph in named(value):
        field = f"graphs {name}"
        if dim(graph) in {(0, 0), (1, 1)} and n > 1:
            continue
        if dim(graph) != (n, n):
            findings.fallback(
                field, found=f"{describe(graph)} {dim(graph) or ''}".strip(), advice="this graph is left out"
            )
            continue
        with findings.part():
            layer = read_layer(graph, field, findings, scratch)
            if layer is None:
                continue
            matrix = layer.matrix
            # Shared-neighbour graphs are symmetric; others come column after column and are turned.
            if not name.endswith("snn"):
                matrix = transpose(matrix, field, findings)
            names = layer.cells if layer.cells is not None else layer.genes
            rows = match_rows([cell or "" for cell in names.tolist()] if names is not None else None, n, cells)
            if rows is None or np.any(rows < 0):
                findings.fallback(field, found="names that are not the cells'", advice="this graph is left out")
                continue
            if not np.array_equal(rows, np.arange(n)):
                places = np.empty(n, np.int64)
                places[rows] = np.arange(n)
                matrix = assemble([(matrix, places, places)], (n, n), field, findings, scratch)
            out[name] = matrix
    return out


def read_scaled(
    assays: dict[str, RValue],
    main: str,
    *,
    genes: dict[str, int],
    cells: list[str],
    findings: Findings,
    scratch: Scratch,
) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
    """Read the scaled values of the assay that the original would use: integrated, else sketch, else SCT, else `main`.

    Returns
    -------
    positions of the genes, int32 ``(k,)``, and values, float32 ``(n_cells, k)``, NaN for cells that are not covered;
    None where there are none.
    """
    for name in dict.fromkeys(("integrated", "sketch", "SCT", main)):
        if name not in assays:
            continue
        with findings.part():
            found = _scaled_of(name, assays[name], findings)
            if found is None:
                continue
            matrix, feature_names, cell_names = found
            rows = match_rows(cell_names, len(matrix), cells)
            places = np.array([genes.get(gene, -1) for gene in feature_names], np.int32)
            return _placed(f"assay {name} scale.data", matrix, rows, places, findings=findings, scratch=scratch)
    return None


def _scaled_of(
    name: str, assay: RValue, findings: Findings
) -> tuple[NDArray[np.float64], list[str], list[str] | None] | None:
    field = f"assay {name} scale.data"
    layers = dict(named(slot(assay, "layers")))
    layered = isinstance(assay, RS4) and "layers" in assay.slots
    value = layers.get("scale.data") if layered else slot(assay, "scale.data")
    shape = dim(value)
    if is_absent(value) or (shape and min(shape) == 0):
        return None
    if shape is None or not isinstance(value, RVector):
        findings.warning(
            field, found=describe(value), expected="a dense matrix",
            advice="it is left out and scaled values are computed when a request needs them",
        )  # fmt: skip
        return None
    values = dense_values(value, shape, field, findings)
    if not layered:
        features, cell_names = dimnames(value)
        if features is None or len(features) != shape[0]:
            found = "no gene names" if features is None else f"{len(features)} gene names"
            findings.warning(field, found=found, expected=f"{shape[0]} row names", advice="it is left out")
            return None
        return values, [gene or "" for gene in features.tolist()], _plain(cell_names)
    gene_map = layer_map(slot(assay, "features"), f"assay {name} features", findings)
    cell_map = layer_map(slot(assay, "cells"), f"assay {name} cells", findings)
    rows, columns = gene_map.positions("scale.data"), cell_map.positions("scale.data")
    if rows is None or columns is None or (len(rows), len(columns)) != shape:
        expected = "as many names in the assay's maps as the layer has rows and columns"
        findings.warning(field, found=f"{shape[0]} x {shape[1]}", expected=expected, advice="it is left out")
        return None
    return values, [gene_map.names[i] for i in rows], [cell_map.names[i] for i in columns]


def _placed(
    field: str, matrix: NDArray[np.float64], rows: NDArray[np.int64] | None, places: NDArray[np.int32],
    *, findings: Findings, scratch: Scratch,
) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:  # fmt: skip
    known = np.flatnonzero(places >= 0)
    if rows is None or not np.any(rows >= 0) or not len(known):
        findings.warning(
            field, found="names that are not the assay's", expected="its genes and cells", advice="it is left out"
        )
        return None
    if len(known) < len(places):
        found = f"{len(places) - len(known)} genes that the served assay does not have"
        findings.fallback(field, found=found, advice="they are left out")
    out = scratch.empty((len(rows), len(known)), np.float32)
    with np.errstate(over="ignore"):
        for start, end in blocks(len(rows), max(1, (1 << 22) // len(places))):
            block_rows = rows[start:end]
            block = matrix[np.maximum(block_rows, 0)]
            out[start:end] = block if len(known) == len(places) else block[:, known]
            out[start:end][block_rows < 0] = np.nan
    return places[known], out


def _plain(names: RStrings | None) -> list[str] | None:
    return None if names is None else [name or "" for name in names.tolist()]


def read_misc(value: RValue | None, reductions: Mapping[str, Reduction], findings: Findings) -> Misc:
    """Read the ``misc`` list (contract 6.2), with the original's defaults."""
    items = dict(named(value)) if isinstance(value, RList) else {}
    pool = [color for color in string_list(items.get("color_pool")) if color and _COLOR.match(color)]
    if not pool:
        pool = palette()
        findings.fallback("misc color_pool", found="no colours", advice="the built-in pool is used")
    pcs = number(items.get("numPCs"))
    if pcs is not None and not 1 <= pcs <= 10_000:
        findings.warning("misc numPCs", found=f"{pcs:g}", expected="1 to 10000", advice="30 is used")
        pcs = None
    microns = number(items.get("microns_per_pixel"))
    names = list(reductions)
    chosen = choose_active(reductions, [text(items.get("active.reduction"))], strict=True)
    active = chosen.name
    if chosen.found:
        findings.fallback("reductions", found=chosen.found, advice=f"{active} is the active reduction")
    if active not in reductions:
        findings.warning(
            "reductions", found=f"no reduction {active}" + (f" (there are: {', '.join(names)})" if names else ""),
            expected=f"the active reduction {active}",
            advice="new embeddings, clusterings and trajectories will be refused; run RunPCA() and save again",
        )  # fmt: skip
    return Misc(
        color_pool=pool,
        num_pcs=int(pcs) if pcs is not None else 30,
        active_reduction=active,
        default_reduction=default_reduction(names),
        technology=text(items.get("technology")),
        microns_per_pixel=microns,
        experiment_id=text(items.get("experimentId")),
        ingestion_date=text(items.get("ingestionDate")),
    )
