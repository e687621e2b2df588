"""R objects that are not served, and how to convert each into one that is."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cellworker.formats.r.rds.model import RS4, RValue
from cellworker.formats.r.values import class_names, dim

__all__ = ["advice_on"]

_SEURAT: Final = "Seurat::CreateSeuratObject"
_SAVED: Final = "in R, with the object as x: saveRDS({}, 'r.rds')"
_OF_BIOBASE: Final = _SAVED.format(f"{_SEURAT}(x@assayData$exprs, meta.data = x@phenoData@data)")
_ADVICE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "CellDataSet": _OF_BIOBASE,
        "ExpressionSet": _OF_BIOBASE,
        "SCESet": _OF_BIOBASE.replace("$exprs", "$counts"),  # its exprs are logarithms
        "data.frame": _SAVED.format(f"{_SEURAT}(as.matrix(x))"),
        "giotto": _SAVED.format("Giotto::giottoToSeuratV5(x)"),
        "liger": _SAVED.format("rliger::ligerToSeurat(x)"),
        "MultiAssayExperiment": _SAVED.format("MultiAssayExperiment::getWithColData(x, 1L)")
        + "; 1 is the place of the experiment of genes in names(x)",
        "ArchRProject": "in R, with the object as x: m <- ArchR::getMatrixFromProject(x, 'GeneScoreMatrix'); "
        "rownames(m) <- SummarizedExperiment::rowData(m)$name; saveRDS(m, 'r.rds')",
        "snap": "in R, with the object as x: m <- Matrix::t(x@gmat); colnames(m) <- x@barcode; "
        f"saveRDS({_SEURAT}(m), 'r.rds')",
    }
)  # fmt: skip
"""By the class. The converters of Giotto, rliger, MultiAssayExperiment and ArchR are their own, by their manuals."""


def advice_on(value: RValue) -> str:
    """Return what makes an object that is served of one that is not; of an unknown class, to save one that is."""
    for name in class_names(value):
        if name in _ADVICE:
            return _ADVICE[name]
    is_sparse = isinstance(value, RS4) and value.package == "Matrix"
    if is_sparse or len(dim(value) or ()) == 2:
        return _SAVED.format(f"{_SEURAT}(x)") + ", with genes in rows"
    return "save such an object itself with saveRDS()"
