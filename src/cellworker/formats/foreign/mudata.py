"""MuData files and stores: one modality, an AnnData of its own below ``mod``, is what is opened."""

from typing import Final

from cellworker.errors import ErrorCode
from cellworker.formats.anndata.containers.memory import Moved
from cellworker.formats.anndata.containers.tree import TreeGroup
from cellworker.formats.anndata.elements import is_group
from cellworker.formats.anndata.inventory import attributes_of, elements_of
from cellworker.formats.common.ledger import Ledger
from cellworker.formats.foreign.shown import ForeignFile, Reading

__all__ = ["read_mudata"]

_RNA: Final = ("rna", "gex", "gene expression")
"""Names of the modality of gene expression; compared without case."""


def read_mudata(root: TreeGroup, reading: Reading) -> ForeignFile | None:
    """Show one modality as AnnData; None, with a finding, where none can be chosen.

    The modality is the one that `Reading.part` names, else ``rna``, else the only one.
    """
    mod = root.get("mod")
    modalities = {name: node for name in mod.names() if is_group(node := mod.get(name))} if is_group(mod) else {}
    wanted = reading.part
    chosen = wanted if wanted in modalities else None
    if not wanted:
        chosen = next((name for name in modalities if name.casefold() in _RNA), None)
        chosen = chosen or (next(iter(modalities)) if len(modalities) == 1 else None)
    if chosen is None:
        names = ", ".join(sorted(modalities))
        found = f"{wanted!r}, which is no modality" if wanted else f"the modalities {names}, none of them rna"
        reading.findings.error(
            "mod", found=found if modalities else "no modality",
            expected=f"one of {names}" if modalities else "the modality rna",
            advice="name one with --part" if modalities else "write the file again with mudata",
            code=ErrorCode.INVALID_INPUT if modalities else ErrorCode.EXPERIMENT_UNREADABLE,
        )  # fmt: skip
        return None
    # Those of the modality go with it into the tree, where whoever writes the tree settles them.
    apart = (item for item in attributes_of(root) if item[0][:2] != ("mod", chosen))
    ledger = Ledger(elements_of(root), apart)
    shown = Moved(modalities[chosen], "")
    others = sorted(name for name in modalities if name != chosen)
    if others:
        reading.findings.fallback(
            "mod", found=f"the modalities {', '.join(sorted(modalities))}",
            advice=f"{chosen} is opened; --part opens another by its name",
        )  # fmt: skip
    told = f"the modality {chosen}"
    if ledger.is_open(("mod", chosen)):
        ledger.rename(("mod", chosen), "the root", told)
    for element in ledger.elements():
        where = element.path
        why = (
            f"it belongs to the modality {where[1]}"
            if where[:1] == ("mod",)
            else "it belongs to all modalities together"
        )
        ledger.lose(where, why)
    return ForeignFile(shown, f"mudata, {told}", ledger.close())
