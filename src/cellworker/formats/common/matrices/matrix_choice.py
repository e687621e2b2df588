"""The user's choice of a file's matrices, and the report about each of them."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.value_kinds import Decision

__all__ = ["MatrixChoice", "used_for"]


_LATER = frozenset({"part", "orientation", "cells_only"})


@dataclass(frozen=True, slots=True)
class MatrixChoice:
    """The user's statements about a file, which win over the reader's decisions.

    Attributes
    ----------
    counts
        The matrix of counts: "X", "raw.X" or the name of a layer (AnnData); a layer or slot, with or without its assay
        ("RNA/counts", Seurat). "none": the file holds no counts. Empty: the reader decides.
    data
        The matrix of log-normalised values, named in the same way. It is served as it is.
    sample
        The column of cell metadata that names each cell's sample.
    drop_genes
        Leave out the genes with values that are missing or infinite.
    object_name
        The object that is served, of a file that holds several.
    make
        Make principal components, clusters, a map and doublet scores where the file has none.
    part
        The part of a file that is opened: a modality (MuData), a genome or kind of features (10x).
    orientation
        "cells-by-genes" or "genes-by-cells", of a table in text.
    cells_only
        Write no gene-major side: for reading the counts of cells. No user says so; it makes stores of their own.
    """

    counts: str = ""
    data: str = ""
    sample: str = ""
    drop_genes: bool = False
    object_name: str = ""
    make: bool = True
    part: str = ""
    orientation: str = ""
    cells_only: bool = False

    def __bool__(self) -> bool:
        return self != MatrixChoice()

    def to_json(self) -> dict[str, Any]:
        """Return the choice as plain values."""
        # Stores are named by this: what came later changes no name where it is not used.
        return {name: value for name, value in asdict(self).items() if value or name not in _LATER}


def used_for(
    field: str,
    decision: Decision,
    findings: Findings,
    *,
    counts: bool,
    data: bool,
    scaled: bool = False,
    as_it_is: bool = False,
    told: bool = False,
) -> dict[str, str]:
    """Record what a matrix holds, why, and what it is used for; warn where it is used and its values prove nothing.

    Parameters
    ----------
    counts, data, scaled
        Whether it serves as such.
    as_it_is
        Whether it is served as data without a change, for any content.
    told
        Whether the user, or the program that wrote the file, says what it holds.
    """
    if (counts or data) and decision.otherwise and not told:
        findings.warning(
            field, found=f"{decision.title}, which is not certain ({decision.why})",
            expected="counts, or values with one total for all cells",
            advice=f"if they are {decision.otherwise}, fold changes and means are off by a factor: keep the counts in"
            " the file; or name what it holds with --counts or --data (natural logarithms)",
        )  # fmt: skip
    uses = [
        what
        for used, what in (
            (data, "expression and tests" + (_made(decision, as_it_is=as_it_is))),
            (counts, "comparisons of samples"),
            (scaled, "scaled values"),
        )
        if used
    ]
    return {"matrix": field, "holds": decision.title, "why": decision.why, "used for": ", ".join(uses) or "nothing"}


def _made(decision: Decision, *, as_it_is: bool) -> str:
    if decision.kind == "log" and (as_it_is or decision.base == math.e):
        return ""
    if as_it_is:
        return " (as they are)"
    if decision.kind == "log":
        return " (as natural logarithms)"
    if decision.kind == "counts" or decision.total is not None:
        return " (normalised to 10,000 per cell, log1p)"
    return " (log1p)" if decision.kind == "linear" else " (as they are)"
