"""The genes of an AnnData file: ids, symbols and variability."""

import re

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Dispersions, Genes
from cellworker.formats.anndata.elements import Table
from cellworker.formats.common.cells.names import unique_names
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.gene_names import told_apart

__all__ = ["dispersions_of", "genes_of"]

_SYMBOLS = ("original_name", "gene_symbols", "gene_symbol", "feature_name", "gene_name", "gene_names", "symbol", "name")
_IDS = ("gene_ids", "gene_id", "ensembl_id", "ensembl", "feature_id")
_DISPLAY = ("name",)
_MEASURES = ("dispersion", "residual_variances", "variances_norm", "dispersions_norm", "dispersions", "variances")
"""Columns that rank genes by variability, as our files and scanpy's highly_variable_genes name them."""
_ENSEMBL = re.compile(r"ENS[A-Z]{0,6}G\d{6,}", re.IGNORECASE)


def genes_of(table: Table, more: Table | None, findings: Findings) -> Genes:
    """Tell ids and symbols apart: one is the index, the other a column; without such a column they are the same.

    Parameters
    ----------
    table
        ``var`` of the genes that are served.
    more
        ``var`` of others, whose columns help where `table` lacks them (``raw.var`` often has none).
    """
    index = unique_names(list(table.index), "var", "names", findings)
    ids_column = _texts(_IDS, table, more)
    symbols = _texts(_SYMBOLS, table, more)
    are_ids = sum(map(bool, map(_ENSEMBL.match, index[:1000]))) > len(index[:1000]) / 2
    if symbols is None and are_ids:
        findings.fallback(
            "var", found=f"Ensembl ids and no column {', '.join(_SYMBOLS[1:5])}",
            advice="the ids serve as gene symbols",
        )  # fmt: skip
    return told_apart(index, ids_column, symbols, _texts(_DISPLAY, table, None), are_ids=are_ids)


def _texts(names: tuple[str, ...], table: Table, more: Table | None) -> list[str] | None:
    for name in names:
        found = table.texts(name)
        if found is not None and any(found):
            return found
    if more is None or not set(table.index) <= set(more.index):
        return None
    rows = {gene: row for row, gene in enumerate(more.index)}
    found = _texts(names, more, None)
    return [found[rows[gene]] for gene in table.index] if found is not None else None


def dispersions_of(genes: Genes, table: Table, more: Table | None, findings: Findings) -> Dispersions | None:
    """Read how variable the genes are, from the columns of highly_variable_genes; None where there are none.

    Genes that were left out of the measure are the least variable.
    """
    for name in _MEASURES:
        for source in (table, more):
            values = source.get(name) if source is not None else None
            if isinstance(values, np.ndarray) and values.dtype.kind == "f" and source is not None:
                return _placed(genes, table, source, name, values, findings=findings)
    return None


def _placed(
    genes: Genes, table: Table, source: Table, name: str, values: NDArray[np.float64], *, findings: Findings
) -> Dispersions:
    out = values
    if source is not table:
        rows = {gene: row for row, gene in enumerate(source.index)}
        places = np.array([rows.get(gene, -1) for gene in table.index], np.int64)
        out = np.where(places >= 0, values[np.maximum(places, 0)], np.nan)
    lacking = np.isnan(out)
    if lacking.any() and name != "dispersion":
        findings.fallback(
            f"var {name}", found=f"no value for {int(lacking.sum())} of {len(out)} genes",
            advice="these genes count as the least variable",
        )  # fmt: skip
        out = np.where(lacking, min(0.0, float(np.nanmin(out)) if not lacking.all() else 0.0), out)
    return Dispersions(list(genes.names), list(genes.ids), np.ascontiguousarray(out, np.float64))
