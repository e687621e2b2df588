"""The cells of an AnnData file: the columns of ``obs`` under the names that requests know, samples, colours."""

import re

import numpy as np

from cellworker.experiment.model import Categorical, Column
from cellworker.formats.anndata.elements import Table, is_group, text_of
from cellworker.formats.anndata.tree import Group
from cellworker.formats.common.findings import Findings

__all__ = ["IDENTITIES", "add_samples", "colors_of", "read_obs"]

IDENTITIES = "seurat_identity"
"""The column that our own files keep Seurat's active identities in."""

_ALIASES = {
    "percent.mt": ("pct_counts_mt", "pct_counts_mito", "percent_mt", "percent_mito", "percent.mito", "mt_frac"),
    "doublet_scores": ("doublet_score", "scrublet_score", "scDblFinder_score", "doublet.score"),
    "nCount_RNA": ("total_counts", "n_counts", "nCount", "n_umi", "nUMI"),
    "nFeature_RNA": ("n_genes_by_counts", "n_genes", "nFeature", "nGene"),
}
"""What the platform's requests ask for, and what the tools of scverse call it."""
_FRACTIONS = frozenset({"percent_mito", "mt_frac"})
"""What scanpy's first tutorials put into these columns goes from 0 to 1, whatever they are called."""
_SAMPLES = re.compile(r"(sample|sample[._ ]?(id|name)?|donor([._ ]?id)?|library([._ ]?id)?|orig\.ident)", re.IGNORECASE)
_BATCH = re.compile(r"(batch|batch[._ ]?(id|name)?|patient([._ ]?id)?)", re.IGNORECASE)
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}([0-9A-Fa-f]{2})?")


def read_obs(table: Table, findings: Findings) -> dict[str, Column]:
    """Read every usable column, and stand-ins for those that requests need under another name."""
    columns: dict[str, Column] = {}
    skipped = []
    for name in table.columns:
        found = table.get(name)
        if found is None:
            skipped.append(name)
        else:
            columns[name] = found
    if skipped:
        names = ", ".join(skipped[:8]) + (", ..." if len(skipped) > 8 else "")
        findings.fallback("obs", found=f"columns that are no plain values: {names}", advice="they are left out")
    for wanted, others in _ALIASES.items():
        other = next((name for name in others if _is_number(columns.get(name))), None)
        if wanted in columns or other is None:
            continue
        columns[wanted] = columns[other]
        advice = f"the column {other} stands in"
        if other in _FRACTIONS and isinstance(values := columns[other], np.ndarray) and values.max(initial=0) <= 1:
            columns[wanted] = 100.0 * values
            advice += ", times 100, since it holds fractions"
        findings.fallback(f"obs {wanted}", found="no such column", advice=advice)
    return columns


def _is_number(column: Column | None) -> bool:
    return isinstance(column, np.ndarray) and column.dtype != np.bool_


def add_samples(columns: dict[str, Column], n_cells: int, findings: Findings) -> None:
    """Add the column ``samples``, from the one that names samples, donors, libraries, else batches; else one sample."""
    named = columns.get("samples")
    if isinstance(named, Categorical):
        return
    likely = [
        (name, labels)
        for pattern in (_SAMPLES, _BATCH)
        for name, column in columns.items()
        if pattern.fullmatch(name)
        and (labels := _as_labels(column)) is not None
        and len(labels.categories) <= max(2, n_cells // 5)
    ]
    telling = [(name, labels) for name, labels in likely if len(np.unique(labels.codes)) > 1] or likely
    if not telling:
        columns["samples"] = Categorical(np.zeros(n_cells, np.int32), ["sample"])
        findings.fallback(
            "obs samples", found="no column samples, sample, donor, library or batch",
            advice="all cells count as one sample",
        )  # fmt: skip
        return
    name, labels = telling[0]
    columns["samples"] = labels
    findings.fallback("obs samples", found="no such column", advice=f"samples come from the column {name}")


def _as_labels(column: Column) -> Categorical | None:
    if isinstance(column, Categorical):
        return column
    if column.dtype != np.int64:
        return None
    values, codes = np.unique(column, return_inverse=True)
    return Categorical(codes.astype(np.int32), [str(value) for value in values.tolist()])


def colors_of(root: Group, columns: dict[str, Column]) -> dict[str, list[str]]:
    """Return the colours of ``uns["<column>_colors"]``, one for each category, where they are hex colours."""
    uns = root.get("uns")
    out: dict[str, list[str]] = {}
    for name, column in columns.items():
        if not is_group(uns) or not isinstance(column, Categorical) or "/" in name:
            continue
        colors = text_of(uns.get(f"{name}_colors"))
        if colors and len(colors) >= len(column.categories) and all(map(_COLOR.fullmatch, colors)):
            out[name] = [color[:7].lower() for color in colors[: len(column.categories)]]
    return out
