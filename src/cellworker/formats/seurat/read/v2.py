"""The old ``seurat`` class (Seurat 2): the same parts under other names."""

from cellworker.errors import ErrorCode
from cellworker.formats.common.findings import Findings
from cellworker.formats.r.rds.build import named_list, strings
from cellworker.formats.r.rds.model import RS4, RValue
from cellworker.formats.r.values import is_absent, slot

__all__ = ["from_version_2"]


def from_version_2(root: RS4, findings: Findings) -> RS4:
    """Return the object in the shape of its successor, with one assay, as UpdateSeuratObject() would lay it out.

    Raises
    ------
    PartBrokenError
        When it lacks the parts that a Seurat 2 object has.
    """
    if is_absent(root.slots.get("data")) and is_absent(root.slots.get("raw.data")):
        raise findings.broken(
            "the file", found="an object of the old class seurat without data", expected="a Seurat object",
            advice="update it with UpdateSeuratObject() and save it again", code=ErrorCode.EXPERIMENT_UNSUPPORTED,
        )  # fmt: skip
    advice = "it is read as its successor; UpdateSeuratObject() would update it"
    findings.fallback("the file", found="the old class seurat (version 2)", advice=advice)
    assay = RS4("Assay", "Seurat", _slots(root, {"counts": "raw.data", "data": "data", "scale.data": "scale.data"}))
    slots = _slots(
        root,
        {"meta.data": "meta.data", "active.ident": "ident", "reductions": "dr", "misc": "misc", "version": "version",
         "project.name": "project.name"},
    )  # fmt: skip
    slots["assays"] = named_list({"RNA": assay})
    slots["active.assay"] = strings("RNA")
    snn = slot(root, "snn")
    if isinstance(snn, RS4):
        slots["graphs"] = named_list({"RNA_snn": snn})
    return RS4("Seurat", "SeuratObject", slots)


def _slots(root: RS4, names: dict[str, str]) -> dict[str, RValue]:
    return {new: value for new, old in names.items() if (value := slot(root, old)) is not None}
