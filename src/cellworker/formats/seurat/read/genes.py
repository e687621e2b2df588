"""Names of the genes and their variability, from the platform's tables or from what Seurat left in the assay."""

import re

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.draft import SparseDraft
from cellworker.experiment.model import Dispersions, Genes
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.variances import VARIANCE_ORDERS, gene_variances
from cellworker.formats.r.rds.model import RS4, RValue, RVector
from cellworker.formats.r.values import NA_INTEGER, Frame, frame, slot, string_list

__all__ = ["read_dispersions", "read_genes"]

# Columns of Seurat's tables that rank genes by variability, the most informative first.
_MEASURES = ("residual_variance", "variance.standardized", "dispersion.scaled", "dispersion")


def read_genes(ids: list[str], annotations: RValue | None, findings: Findings) -> Genes:
    """Give every feature id of the assay its display name and its original symbol.

    The table ``misc$gene_annotations`` is looked up by id; the order of its rows means nothing.
    """
    table = frame(annotations)
    inputs = string_list(table.get("input")) if table else []
    if table and not inputs and table.rows:
        inputs = list(table.rows)
    names = string_list(table.get("name")) if table else []
    originals = string_list(table.get("original_name")) if table else []
    if table is None or not inputs or len(names) != len(inputs):
        found = (
            "no table of gene annotations" if table is None else "gene annotations without the columns input and name"
        )
        findings.fallback(
            "misc gene_annotations", found=found, advice="the assay's feature names serve as gene symbols"
        )
        return Genes(ids, list(ids), list(ids))
    if len(originals) != len(inputs):
        findings.fallback("misc gene_annotations", found="no column original_name", advice="the column name stands in")
        originals = names
    rows = {gene: row for row, gene in reversed(list(enumerate(inputs))) if gene is not None}
    # Seurat replaces underscores in feature names; tables made before that keep them.
    for gene, row in list(rows.items()):
        rows.setdefault(gene.replace("_", "-"), row)
    found_rows = [rows.get(gene) for gene in ids]
    lacking = [gene for gene, row in zip(ids, found_rows, strict=True) if row is None]
    if lacking:
        shown = ", ".join(lacking[:5]) + (", ..." if len(lacking) > 5 else "")
        findings.warning(
            "misc gene_annotations", found=f"no row for {len(lacking)} of {len(ids)} genes ({shown})",
            expected="a row for every feature of the assay", advice="these genes are shown by their ids",
        )  # fmt: skip
    display = [(names[row] if row is not None else None) or gene for gene, row in zip(ids, found_rows, strict=True)]
    symbols = [gene if row is None else originals[row] or "" for gene, row in zip(ids, found_rows, strict=True)]
    return Genes(ids, display, symbols)


def read_dispersions(
    genes: Genes, table: RValue | None, assay: RValue | None, data: SparseDraft | None, findings: Findings
) -> tuple[Dispersions | None, bool]:
    """Read the table that orders genes by variability; returns it, and whether nothing but the variance stands in.

    Parameters
    ----------
    table
        ``misc$gene_dispersion``; its rows stay in their order. Where it is absent or unusable, the assay's own table of
        highly variable features stands in (the mean over split layers), and where there is none, the variance of the
        normalised values.
    """
    own = frame(table)
    if own is not None:
        columns = _repaired(own)
        values = next((_doubles(columns.get(name)) for name in _MEASURES[:2] if name in columns), None)
        symbols, ids = string_list(columns.get("SYMBOL")), string_list(columns.get("ENSEMBL"))
        if values is not None and len(symbols) == len(values):
            if len(ids) != len(values):
                ids = list(symbols)
            keep = [i for i, symbol in enumerate(symbols) if symbol is not None]
            return Dispersions([symbols[i] or "" for i in keep], [ids[i] or "" for i in keep], values[keep]), False
        held = ", ".join(str(name) for name, _ in own.columns)
        findings.warning(
            "misc gene_dispersion", found=f"columns {held}", advice="the gene list is ordered by a stand-in",
            expected="SYMBOL, ENSEMBL and variance.standardized or residual_variance",
        )  # fmt: skip
    found = "no usable gene_dispersion table"
    ranked = _from_assay(len(genes), assay)
    if ranked is not None:
        values, source = ranked
        findings.fallback("misc gene_dispersion", found=found, advice=f"the assay's {source} orders the gene list")
    elif data is not None:
        values = gene_variances(data, findings)
        findings.fallback(
            "misc gene_dispersion", found=f"{found} and no highly variable features", advice=VARIANCE_ORDERS
        )
    else:
        return None, False
    return Dispersions(list(genes.names), list(genes.ids), values), ranked is None


def _repaired(table: Frame) -> dict[str, RValue]:
    names = [name for name, _ in table.columns]
    # Some old objects lost the fourth column's name when a column was inserted before it (algorithms.md, section 5).
    if names[2:4] == ["variance.standardized", None]:
        names[2:4] = ["variance.expected", "variance.standardized"]
    columns: dict[str, RValue] = {}
    for name, (_, value) in zip(names, table.columns, strict=True):
        if name is not None:
            columns.setdefault(name, value)
    return columns


def _doubles(value: RValue | None) -> NDArray[np.float64] | None:
    if isinstance(value, RVector) and value.kind in {"double", "integer"}:
        out = value.values.astype(np.float64)
        if value.kind == "integer":
            out[value.values == NA_INTEGER] = np.nan
        return out
    return None


def _from_assay(n_genes: int, assay: RValue | None) -> tuple[NDArray[np.float64], str] | None:
    if not isinstance(assay, RS4):
        return None
    tables = [frame(slot(assay, name)) for name in ("meta.features", "meta.data")]
    columns = [pair for table in tables if table for pair in table.columns]
    for measure in _MEASURES:
        # v3: vst.variance.standardized; v5: vf_vst_counts.1_variance.standardized, one for each layer.
        pattern = re.compile(rf"(^|[._]){re.escape(measure)}$")
        found = [(name, _doubles(value)) for name, value in columns if name and pattern.search(name)]
        usable = [(name, values) for name, values in found if values is not None and len(values) == n_genes]
        if usable:
            stacked = np.stack([values for _, values in usable])
            known = ~np.isnan(stacked)
            counts = known.sum(axis=0)
            sums = np.where(known, stacked, 0).sum(axis=0)
            means = np.divide(sums, counts, out=np.full(n_genes, np.nan), where=counts > 0)
            return means, usable[0][0] + (" (mean over layers)" if len(usable) > 1 else "")
    return None
