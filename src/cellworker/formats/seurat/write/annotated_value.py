"""Adding to a Seurat object that was read as a value, for sources that are no `.rds` files; see `seurat_annotated`."""

from collections.abc import Mapping
from pathlib import Path

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.r.gzip_blocks import GzipWriter
from cellworker.formats.r.rds.model import RS4, RList, RStrings, RValue
from cellworker.formats.r.rds.scan import strings_of
from cellworker.formats.r.rds.writer import ItemWriter, References
from cellworker.formats.seurat.write.annotation import Annotation, values_for
from cellworker.formats.seurat.write.survey import row_names

__all__ = ["annotate_value", "write_value"]


def annotate_value(root: RS4, annotation: Annotation, barcodes: list[str]) -> RS4:
    """Return a Seurat object that was read as a value, with additions; see `write_annotated`.

    Parameters
    ----------
    root
        The object; it is not changed.
    annotation
        The additions.
    barcodes
        The experiment's cells, which the annotation is about.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNSUPPORTED`` for an object that cannot be annotated.
    """
    table, reductions = root.slots.get("meta.data"), root.slots.get("reductions")
    if not isinstance(table, RList) or not isinstance(reductions, RList):
        raise WorkerError(
            ErrorCode.EXPERIMENT_UNSUPPORTED,
            f"Only objects of Seurat 3 and later can be annotated; this one, of class {root.class_name}, has no "
            "meta.data or reductions.",
        )
    values = values_for(
        annotation,
        barcodes,
        *row_names(table.attributes.get("row.names")),
        assay=_first_text(root.slots.get("active.assay")),
        package=root.package,
    )
    slots = dict(root.slots)
    slots["meta.data"] = _with(table, {}, values.columns)
    if values.identities is not None:
        slots["active.ident"] = values.identities
    slots["reductions"] = _with(reductions, values.reductions, {})
    return RS4(root.class_name, root.package, slots)


def write_value(root: RValue, target: Path, *, threads: int = 1) -> None:
    """Write a value as an `.rds` file as large as R makes it, whole or not at all.

    Parameters
    ----------
    root
        The value.
    target
        A file that does not exist yet.
    threads
        Threads that compress.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNSUPPORTED`` for code and environments, which readers skip; ``DISK_FULL``.
    """
    part = target.with_name(f".{target.name}.part")
    with GzipWriter(part, threads=threads, effort="small") as file:
        writer = ItemWriter(file, References())
        writer.header(3)
        writer.item(root)
    part.replace(target)


def _with(old: RList, replaced: Mapping[str, RValue], moved: Mapping[str, RValue]) -> RList:
    """Return a list with other elements: `replaced` in place where there are any of that name, `moved` at the end."""
    names = [name for name in old.names if name not in moved]
    items = [replaced.get(name, item) for name, item in old.pairs() if name not in moved]
    added = {name: value for name, value in replaced.items() if name not in names} | dict(moved)
    attributes = {**old.attributes, "names": strings_of([*names, *added])}
    return RList([*items, *added.values()], attributes)


def _first_text(value: RValue | None) -> str:
    return (value[0] or "") if isinstance(value, RStrings) and len(value) else ""
