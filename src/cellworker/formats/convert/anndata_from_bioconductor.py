"""Lays out all parts of a SingleCellExperiment beyond an experiment's matrices for AnnData.

=====================================  =============================================================================
the object                             AnnData
=====================================  =============================================================================
``colData``, ``rowData``               ``obs``, ``var``: ordered categories, nullable columns
reduced dimensions                     ``obsm``
all else                               ``uns["bioconductor"]``, under the same names; see
                                       `cellworker.formats.anndata.from_r`
=====================================  =============================================================================
"""

from collections.abc import Mapping

from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.anndata.columns_out import DICT
from cellworker.formats.anndata.from_r import FromR, has_na_level, plain_column
from cellworker.formats.anndata.writer import Beside, Writer
from cellworker.formats.common.ledger import Ledger
from cellworker.formats.convert.from_r_objects import ANNDATA, Collected, collect, is_plain
from cellworker.formats.r.rds.model import RS4, RValue, RVector

__all__ = ["beside_from_bioconductor"]


def beside_from_bioconductor(
    root: RS4, experiment: StoredExperiment, replaced: Mapping[str, object], embedding: str
) -> tuple[Beside, Ledger]:
    """Lay out an object.

    Parameters
    ----------
    root, experiment, replaced, embedding
        As for `collect`.

    Returns
    -------
    What goes to AnnData's own places and writes the rest; and the ledger of the object, settled once that is written.
    """
    found = collect(root, experiment, replaced, embedding, ANNDATA, takes=_takes)
    obs = {name: column for name, value in found.columns.items() if (column := plain_column(value)) is not None}
    var = {name: column for name, value in found.features.items() if (column := plain_column(value)) is not None}
    return Beside(obs=obs, var=var, rest=lambda writer: _rest(writer, found)), found.ledger


def _takes(value: RValue) -> bool:
    """Tell what a column of AnnData holds exactly."""
    if not is_plain(value) or has_na_level(value):
        return False
    return (not isinstance(value, RVector) or value.kind != "raw") and plain_column(value) is not None


def _rest(writer: Writer, found: Collected) -> None:
    """Write whatever is open into ``uns``, under its own names."""
    if not found.ledger.is_open(()):
        return
    put = FromR(writer.sink, found.ledger, writer.leaves)
    writer.sink.group(ANNDATA.held, {**DICT, "r-class": [found.root.class_name]})
    for name, value in found.root.slots.items():
        if found.ledger.is_open((name,)):
            put.put(f"{ANNDATA.held}/{writer.leaves.free(ANNDATA.held, name)}", value, (name,))
