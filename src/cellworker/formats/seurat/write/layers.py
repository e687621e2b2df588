"""Loads layers of a Seurat object from folders of BPCells into memory (contract 5.21)."""

from pathlib import Path
from typing import Final

from cellworker.formats.bpcells.layer import read_disk_backed
from cellworker.formats.bpcells.outside import Outside
from cellworker.formats.common.findings import Findings, PartBrokenError
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.r.rds import build
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.model import RS4, RList, RValue
from cellworker.formats.r.values import named, slot

__all__ = ["PACKAGE", "disk_backed_layers", "in_memory", "with_layers"]

PACKAGE: Final = "BPCells"
"""The R package whose matrices are in folders."""


def disk_backed_layers(root: RValue) -> dict[tuple[str, str], RS4]:
    """Return the layers that are outside an object, by assay and layer."""
    return {
        (assay, layer): value
        for assay, whole in named(slot(root, "assays"))
        for layer, value in named(slot(whole, "layers"))
        if isinstance(value, RS4) and value.package == PACKAGE
    }


def in_memory(value: RS4, what: tuple[str, str], outside: Outside, spool: Path) -> RS4:
    """Return a layer as a dgCMatrix, genes x cells, its arrays maps of files in `spool`.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` or ``EXPERIMENT_UNSUPPORTED`` when it cannot be read, ``DISK_FULL``.
    """
    findings = Findings()
    try:
        matrix = read_disk_backed(value, outside, f"assay {what[0]} {what[1]}", findings, Scratch(spool))
    except PartBrokenError:
        findings.raise_errors()
        raise
    return build.dgc_matrix(matrix.indptr, matrix.columns, matrix.values, matrix.n_columns)


def with_layers(root: RS4, source: Path, spool: Path) -> RS4:
    """Return an object that was read from `source` with all layers in memory."""
    found = disk_backed_layers(root)
    assays = root.slots.get("assays")
    if not found or not isinstance(assays, RList):
        return root
    outside = Outside(source.parent, spool, Limits())
    changed: list[RValue] = []
    for assay, whole in assays.pairs():
        layers = slot(whole, "layers")
        if isinstance(whole, RS4) and isinstance(layers, RList):
            items = [
                in_memory(found[assay, name], (assay, name), outside, spool) if (assay, name) in found else item
                for name, item in layers.pairs()
            ]
            changed.append(
                RS4(whole.class_name, whole.package, {**whole.slots, "layers": RList(items, layers.attributes)})
            )
        else:
            changed.append(whole)
    return RS4(root.class_name, root.package, {**root.slots, "assays": RList(changed, assays.attributes)})
