"""Turns a parsed SingleCellExperiment or SummarizedExperiment into an experiment; records all problems.

Read are the assays that `matrices` picks, ``colData``, the names of the features with what ``rowData`` says of them,
and the reduced dimensions; an object without these opens as far as it goes. Alternative experiments are named, and
served where a matrix of theirs is (``--counts ADT/counts``). What the experiment does not hold, conversions take from
the object.
"""

from collections.abc import Container
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.draft import ExperimentDraft
from cellworker.experiment.model import Misc, Origin, Reduction
from cellworker.formats.bioconductor.features import dispersions_of, genes_of, names_of_features
from cellworker.formats.bioconductor.matrices import BioconductorExpression, read_matrices
from cellworker.formats.bioconductor.own import Own, own_of
from cellworker.formats.bioconductor.parts import (
    Part,
    alternatives,
    assays,
    cell_table,
    feature_table,
    reduced,
    table,
)
from cellworker.formats.bpcells.outside import Outside
from cellworker.formats.common.active_reduction import choose_active, default_reduction
from cellworker.formats.common.cells.cell_ids import read_cell_ids
from cellworker.formats.common.cells.measures import add_measures
from cellworker.formats.common.cells.measuring import Matrices, mitochondrial_genes
from cellworker.formats.common.cells.names import DIMENSION_PREFIXES, match_rows, unique_barcodes
from cellworker.formats.common.cells.samples import add_samples
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.matrix_choice import MatrixChoice
from cellworker.formats.common.palette import palette
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.r.rds.model import RS4, RStrings, RValue, RVector
from cellworker.formats.r.values import Frame, describe, dim, dimnames, frame, named, slot, string_list, version
from cellworker.formats.seurat.read.cells import read_metadata

__all__ = ["FAMILY", "coordinates", "read_bioconductor", "short_name"]

FAMILY = "SummarizedExperiment"
"""The value of `Origin.assay_class` for all objects of this kind."""
_TABLE = "colData"
_WIDEST = 10_000
"""Dimensions of a reduction; a wider matrix is something else."""
_BARCODES = ("barcode", "barcodes", "cell", "cell_id", "cellid")


def read_bioconductor(
    root: RS4,
    findings: Findings,
    scratch: Scratch,
    outside: Outside | None = None,
    wanted: MatrixChoice | None = None,
) -> ExperimentDraft | None:
    """Read an object; None when it cannot be served, and `findings` then says why.

    Parameters
    ----------
    root
        What `read_object` found.
    scratch
        Space for large arrays.
    outside
        Where disk-backed layers of BPCells are; without it they are refused.
    wanted
        The caller's statements about the file's matrices and samples.
    """
    wanted = wanted or MatrixChoice()
    whole = Part(root, ())
    experiment, wanted = _named_experiment(whole, wanted, findings)
    found = assays(experiment)
    cells_part = cell_table(whole)
    columns = table(cells_part.value) if cells_part is not None else None
    cells = _cell_names(columns, found, findings) if columns is not None else None
    if columns is None or cells is None or not found:
        advice = "in R: x <- updateObject(x), and save the object again"
        what = "no assays" if columns is not None and cells is not None else "no table of cells"
        findings.error("the file", found=f"{describe(root)} with {what}", expected="assays and colData", advice=advice)
        return None
    names = names_of_features(experiment, found, findings)
    if names is None or not cells:
        what = "no cells" if names is not None else "features without names"
        findings.error(
            "rownames" if names is None else "colData", found=what, expected="names of features, and cells",
            advice="in R: rownames(x) <- rowData(x)$ID or the like, and save the object again",
        )  # fmt: skip
        return None
    # Row names of colData may be missing: its rows are the cells, in order.
    metadata = read_metadata(replace(columns, rows=None, n_rows=len(cells)), cells, findings, _TABLE)
    cell_ids = read_cell_ids(metadata, len(cells), findings, table=_TABLE)
    samples = add_samples(metadata, cells, findings, table=_TABLE, wanted=wanted.sample or None)
    own = own_of(slot(root, "metadata"), len(cells), len(names))
    reductions = _reductions(whole, cells, own, findings)
    misc = own.misc(_misc(reductions, own, findings))
    expression: BioconductorExpression | None = None
    with findings.part():
        expression = read_matrices(found, (names, cells), wanted, findings, scratch, outside=outside, mark=own.mark)
    for name, part in alternatives(whole):
        size = len(names_of_features(part, assays(part), Findings()) or ())
        findings.fallback(
            "altExps", found=f"{name} with {size:,} features",
            advice=f"it is kept beside; --counts {name}/{next(iter(assays(part)), 'counts')} serves it",
        )  # fmt: skip
    if expression is None or findings.errors:
        return None
    dispersions = None
    scaled = own.scaled()
    genes = genes_of(names, feature_table(experiment), findings)
    with findings.part():
        dispersions = dispersions_of(genes, feature_table(experiment), expression.data, findings)
    if findings.errors:
        return None
    matrices = Matrices(expression.counts, expression.data, mitochondrial_genes(genes))
    chosen = {"samples": samples, **add_measures(metadata, matrices, len(cells), findings, table=_TABLE)}
    return ExperimentDraft(
        cell_ids=cell_ids,
        barcodes=unique_barcodes(cells, "cells", "barcodes", findings),
        genes=genes,
        data=expression.data,
        counts=expression.counts,
        scaled_genes=scaled[0] if scaled is not None else None,
        scaled_values=scaled[1] if scaled is not None else None,
        metadata=metadata,
        reductions=reductions,
        graphs=own.graphs(cells, findings, scratch),
        images=own.images(),
        dispersions=dispersions,
        identities=own.identities(),
        misc=misc,
        origin=Origin(
            kind="own",
            writer=_writer(root),
            assay=next(iter(expression.used.values()), next(iter(found))),
            assay_class=FAMILY,
            fallbacks=findings.fallbacks,
            columns={role: column for role, (column, _) in chosen.items()},
            reasons={role: reason for role, (_, reason) in chosen.items()},
        ),
        extra={
            "matrices": expression.matrices,
            "used": {what: list(found[name].path) for what, name in expression.used.items()},
        },
    )


def _named_experiment(whole: Part, wanted: MatrixChoice, findings: Findings) -> tuple[Part, MatrixChoice]:
    """Return the alternative experiment whose matrices were named ("ADT/counts"), else the object itself."""
    others = dict(alternatives(whole))
    prefixes = {name.partition("/")[0] for name in (wanted.counts, wanted.data) if "/" in name} & others.keys()
    if len(prefixes) != 1:
        return whole, wanted
    name = prefixes.pop()
    findings.fallback("altExps", found=f"a matrix of {name} was named", advice=f"the features of {name} are served")
    counts, data = (value.removeprefix(f"{name}/") for value in (wanted.counts, wanted.data))
    return others[name], replace(wanted, counts=counts, data=data)


def _cell_names(columns: Frame, matrices: dict[str, Part], findings: Findings) -> list[str] | None:
    """Return the names of the cells: of ``colData``, of an assay, of a column of barcodes, else numbers."""
    if columns.rows:
        return columns.rows
    for part in matrices.values():
        _, names = dimnames(part.value)
        if names is not None and len(names):
            return [name or "NA" for name in names.tolist()]
    sizes = [shape[1] for part in matrices.values() if (shape := dim(part.value)) is not None]
    n_cells = columns.n_rows or (sizes[0] if sizes else 0)
    for name, value in columns.columns:
        texts = string_list(value)
        if (name or "").casefold() in _BARCODES and len(texts) == n_cells and all(texts):
            findings.fallback("colnames", found="none", advice=f"the column {name} of colData names the cells")
            return [each or "" for each in texts]
    if not n_cells:
        return [] if columns.columns or sizes else None
    findings.fallback("colnames", found="none", advice="the cells are named cell1, cell2, ...")
    return [f"cell{number + 1}" for number in range(n_cells)]


def _reductions(root: Part, cells: list[str], own: Own, findings: Findings) -> dict[str, Reduction]:
    parts = reduced(root)
    out: dict[str, Reduction] = {}
    for name, part in parts.items():
        values = coordinates(part.value, cells)
        if values is None:
            advice = "this reduction is left out"
            findings.fallback(f"reducedDims {name}", found=describe(part.value), advice=advice)
            continue
        short = short_name(name, parts)
        out[short] = Reduction(values, own.key_of(short) or DIMENSION_PREFIXES.get(short, f"{short}_"))
    return out


def short_name(name: str, others: Container[str]) -> str:
    """Return what requests call a reduction: pca, umap, tsne in small letters, any other by its own name."""
    short = name.lower()
    return short if short in DIMENSION_PREFIXES and (short == name or short not in others) else name


def coordinates(value: RValue, cells: list[str]) -> NDArray[np.float64] | None:
    """Return one row for each cell; None for what is no matrix of numbers with such rows.

    A matrix, the factors of a LinearEmbeddingMatrix, or a data frame of numbers.
    """
    if isinstance(value, RS4):
        value = slot(value, "sampleFactors") or value
    shape = dim(value)
    if isinstance(value, RVector) and shape is not None:
        fits = value.kind in {"double", "integer"} and len(value) == shape[0] * shape[1]
        rows = match_rows(_texts(dimnames(value)[0]), shape[0], cells) if fits else None
        if rows is None and fits and shape[0] == len(cells):
            rows = np.arange(len(cells))  # other names, the same cells: int_colData has a row for each
        if rows is None or np.any(rows < 0) or not 1 <= shape[1] <= _WIDEST:
            return None
        return np.ascontiguousarray(value.values.reshape(shape[1], shape[0]).T[rows], np.float64)
    columns = table(value) if frame(value) is not None or isinstance(value, RS4) else None
    if columns is None or not 1 <= len(columns.columns) <= _WIDEST:
        return None
    numbers = [item.values for _, item in columns.columns if isinstance(item, RVector) and item.kind == "double"]
    if len(numbers) < len(columns.columns) or any(len(each) != len(cells) for each in numbers):
        return None
    return np.stack(numbers, axis=1).astype(np.float64)


def _texts(names: RStrings | None) -> list[str] | None:
    return None if names is None else [name or "" for name in names.tolist()]


def _misc(reductions: dict[str, Reduction], own: Own, findings: Findings) -> Misc:
    chosen = choose_active(reductions, [own.active_reduction])
    if chosen.name not in reductions:
        there = f" (there are: {', '.join(reductions)})" if reductions else ""
        findings.warning(
            "reducedDims", found=f"no PCA{there}", expected="principal components in reducedDim(x, 'PCA')",
            advice="new embeddings, clusterings and trajectories will be refused; run scater::runPCA() and save again",
        )  # fmt: skip
    elif chosen.found:
        findings.fallback("reducedDims", found=chosen.found, advice=f"{chosen.name} is the active reduction")
    return Misc(
        color_pool=palette(),
        num_pcs=30,
        active_reduction=chosen.name,
        default_reduction=default_reduction(reductions),
    )


def _writer(root: RS4) -> str:
    stated = dict(named(slot(root, "int_metadata"))).get("version")
    return f"{root.class_name} {version(stated)}".strip() if stated is not None else root.class_name
