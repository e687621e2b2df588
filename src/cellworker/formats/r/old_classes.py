"""Converts objects in old layouts to the current layout of their packages."""

from cellworker.formats.r.rds.model import RS4, REnvironment, RValue

__all__ = ["in_new_layout"]


def in_new_layout(value: RValue) -> RValue:
    """Return a SummarizedExperiment whose assays are in its slots; anything else as it is.

    Before Bioconductor 3.10 they were an object of the reference class ShallowSimpleListAssays, whose field ``data``
    is in an environment. R's updateObject() does the same.
    """
    if not isinstance(value, RS4):
        return value
    assays = value.slots.get("assays")
    holder = assays.slots.get(".xData") if isinstance(assays, RS4) else None
    if not isinstance(holder, REnvironment) or "data" not in holder.fields:
        return value
    held = RS4("SimpleAssays", "SummarizedExperiment", {"data": holder.fields["data"]})
    return RS4(value.class_name, value.package, {**value.slots, "assays": held})
