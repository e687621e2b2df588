"""Chooses the served object of a file that holds several: a workspace of `save`, or a list of objects."""

from dataclasses import dataclass
from typing import Final

from cellworker.errors import ErrorCode
from cellworker.formats.common.findings import Findings
from cellworker.formats.r.foreign_objects import advice_on
from cellworker.formats.r.rds.model import RS4, RList, RValue
from cellworker.formats.r.values import attributes, class_names, describe

__all__ = ["ONE_OBJECT", "ChosenObject", "choose_object", "is_summarized"]

ONE_OBJECT: Final = "a Seurat object, a SingleCellExperiment or a SummarizedExperiment"
"""What a file is expected to hold, for messages."""
SEURAT: Final = frozenset({"Seurat", "seurat"})
_MAX_LISTED: Final = 20


@dataclass(frozen=True, slots=True)
class ChosenObject:
    """An object, and its name in the file; "" where the file is this object."""

    value: RValue
    name: str = ""


def choose_object(root: RValue, wanted: str, findings: Findings, *, is_workspace: bool) -> ChosenObject:
    """Choose the object that is served: the one that was named, else the only one that can be served.

    Parameters
    ----------
    root
        The file's content.
    wanted
        The name; "" for none.
    is_workspace
        Whether `save` wrote the file. A plain list of named objects, which `qs::qsavem` writes, is treated as one.

    Raises
    ------
    PartBrokenError
        When there is no such object, none that can be served, or several.
    """
    objects = list(root.pairs()) if isinstance(root, RList) and "class" not in attributes(root) else []
    objects = [(name, value) for name, value in objects if name]
    served = [(name, value) for name, value in objects if _is_served(value)]
    if not is_workspace and not served:
        if wanted:
            raise findings.broken(
                "--object", found=f"{wanted!r}, and a file that holds {describe(root)} and no objects by name",
                expected="no name", advice="open the file without a name", code=ErrorCode.INVALID_INPUT,
            )  # fmt: skip
        return ChosenObject(root)
    listed = ", ".join(f"{name} ({describe(value)})" for name, value in objects[:_MAX_LISTED])
    listed += f", and {len(objects) - _MAX_LISTED} more" if len(objects) > _MAX_LISTED else ""
    if wanted:
        found = next((value for name, value in objects if name == wanted), None)
        if found is None:
            raise findings.broken(
                "--object", found=f"{wanted!r}, which the file does not hold", expected=f"one of {listed or 'none'}",
                advice="name one of these", code=ErrorCode.INVALID_INPUT,
            )  # fmt: skip
        return ChosenObject(found, wanted)
    if len(served) == 1:
        if len(objects) > 1:
            findings.fallback(
                "the file", found=f"{len(objects)} objects: {listed}",
                advice=f"{served[0][0]} is served, the only one that can be",
            )  # fmt: skip
        return ChosenObject(served[0][1], served[0][0])
    if served:
        raise findings.broken(
            "the file", found=f"{len(served)} objects that can be served among {len(objects)}: {listed}",
            expected="the name of one",
            advice=f"name it: --object {served[0][0]} on the command line, object={served[0][0]!r} in Python, or"
            " OBJECT_NAME in the environment",
            code=ErrorCode.INVALID_INPUT,
        )  # fmt: skip
    advice = advice_on(objects[0][1]) if len(objects) == 1 else "save such an object with save() or saveRDS()"
    raise findings.broken(
        "the file", found=f"no object that can be served among {len(objects)}: {listed or 'none'}",
        expected=ONE_OBJECT,
        advice=advice, code=ErrorCode.EXPERIMENT_UNSUPPORTED,
    )  # fmt: skip


def is_summarized(value: RValue) -> bool:
    """Tell a SummarizedExperiment, or an object of a class that extends it, by its slots."""
    return isinstance(value, RS4) and {"assays", "colData"} <= value.slots.keys()


def _is_served(value: RValue) -> bool:
    return is_summarized(value) or (isinstance(value, RS4) and bool(SEURAT & set(class_names(value))))
