"""Names and variability of the features, from an object's names and table."""

import re

import numpy as np

from cellworker.experiment.draft import SparseDraft
from cellworker.experiment.model import Dispersions, Genes
from cellworker.formats.bioconductor.parts import Part, feature_names, feature_table, table
from cellworker.formats.common.cells.names import unique_names
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.gene_names import told_apart
from cellworker.formats.common.matrices.variances import gene_variances
from cellworker.formats.r.rds.model import RValue, RVector
from cellworker.formats.r.values import Frame, dimnames, string_list

__all__ = ["dispersions_of", "genes_of", "names_of_features"]

_SYMBOLS = (
    "original_name", "symbol", "symbols", "gene_symbol", "gene_symbols", "gene_name", "gene_names", "gene_short_name",
    "feature_name", "external_gene_name", "genename", "hgnc_symbol", "mgi_symbol",
)  # fmt: skip
_IDS = ("id", "gene_id", "gene_ids", "ensembl", "ensembl_id", "ensembl_gene_id", "feature_id", "geneid")
_DISPLAY = ("name",)
_MEASURES = ("dispersion", "variances_norm", "vst.variance.standardized", "bio", "residual_variance")
"""Columns that rank features by variability: ours, zellkonverter's, Seurat's, scran's (its biological part)."""
_ENSEMBL = re.compile(r"ENS[A-Z]{0,6}G\d{6,}", re.IGNORECASE)
_LOOKED_AT = 1000


def names_of_features(root: Part, matrices: dict[str, Part], findings: Findings) -> list[str] | None:
    """Return the names of an object's features: its own, else those of an assay, else a column of ids or symbols."""
    own = feature_names(root)
    if own is not None:
        return own
    part = feature_table(root)
    columns = table(part.value) if part is not None else None
    if columns is not None and columns.rows:
        return columns.rows
    for matrix in matrices.values():
        names, _ = dimnames(matrix.value)
        if names is not None:
            return [name or "NA" for name in names.tolist()]
    for kind in (_IDS, _SYMBOLS):
        found = _texts(columns, kind)
        if found is not None and all(found):
            findings.fallback("rownames", found="none", advice="the features are named by a column of rowData")
            return found
    return None


def genes_of(names: list[str], part: Part | None, findings: Findings) -> Genes:
    """Tell ids and symbols apart: one is the name, the other a column of ``rowData``."""
    columns = table(part.value) if part is not None else None
    columns = columns if columns is not None and columns.n_rows in {len(names), 0} else None
    index = unique_names(names, "rownames", "names", findings)
    some = index[:_LOOKED_AT]
    are_ids = sum(map(bool, map(_ENSEMBL.match, some))) > len(some) / 2
    ids_column, symbols = _texts(columns, _IDS, len(names)), _texts(columns, _SYMBOLS, len(names))
    return told_apart(index, ids_column, symbols, _texts(columns, _DISPLAY, len(names)), are_ids=are_ids)


def _texts(columns: Frame | None, names: tuple[str, ...], length: int | None = None) -> list[str] | None:
    by_name: dict[str, RValue] = {}
    for name, value in columns.columns if columns is not None else []:
        by_name.setdefault((name or "").casefold(), value)
    for name in names:
        texts = [text or "" for text in string_list(by_name.get(name))]
        if any(texts) and (length is None or len(texts) == length):
            return texts
    return None


def dispersions_of(genes: Genes, part: Part | None, data: SparseDraft, findings: Findings) -> Dispersions:
    """Return how variable the genes are: as a column of ``rowData`` says, else the variance of the values."""
    columns = table(part.value) if part is not None else None
    for name in _MEASURES:
        value = columns.get(name) if columns is not None else None
        if isinstance(value, RVector) and value.kind == "double" and len(value) == len(genes):
            values = np.asarray(value.values, np.float64)
            return Dispersions(list(genes.names), list(genes.ids), values)
    findings.fallback(
        "rowData", found="no column that tells how variable the genes are",
        advice="the variance of the normalised values orders the gene list",
    )  # fmt: skip
    return Dispersions(list(genes.names), list(genes.ids), gene_variances(data, findings))
