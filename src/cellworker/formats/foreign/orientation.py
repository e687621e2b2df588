"""Tells names of cells from names of genes by their form."""

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["CELLS_BY_GENES", "GENES_BY_CELLS", "ORIENTATIONS", "evidence", "looks_like"]

CELLS_BY_GENES, GENES_BY_CELLS = "cells-by-genes", "genes-by-cells"
ORIENTATIONS: Final = (CELLS_BY_GENES, GENES_BY_CELLS)
_SAMPLE: Final = 5_000
_MIN_SHARE: Final = 0.5
_KNOWN: Final = re.compile(
    r"(?:ENS[A-Z]{0,6}[GT]\d{6,}(?:\.\d+)?(?:_.*)?|FBgn\d{7}|WBGene\d{8}"
    r"|RP[LS]\d+[A-Z]?\d*L?\d*|MT-?(?:ND|CO|ATP|CYB|RNR)\w*|HLA-\w+|COL\d+A\d+|SLC\d+A\d+|ZNF\d+|KRT\d+|IL\d+[A-Z]*\d*"
    r"|CD\d+[A-Z]?|GM\d{4,}|\d{7}[A-Z]\d{2}RIK|LINC\d+|MIR\d+\w*|TMEM\d+\w*|CCL\d+|CXC[LR]\d+|CCR\d+|HIST\w+|OR\d+\w+"
    r"|ACTB|GAPDH|B2M|MALAT1|EEF1A1|TMSB4X|FTL1?|FTH1|VIM|LYZ2?|NKG7|GNLY|PPBP|MS4A1|FCER1A|S100A\d+|LST1|CST3|TP53|EPCAM)",
    re.IGNORECASE,
)
"""Names that only genes have: ids of Ensembl, FlyBase and WormBase, and well-known families and genes."""
_BARCODE: Final = re.compile(r"(?:.*[^ACGTN])?[ACGTN]{8,}(?:[^ACGTN].*)?")
_WELLS: Final = re.compile(r"\d{1,3}_\d{1,3}_\d{1,3}(?:__\w+)?")
_CELLS: Final = re.compile(r"(?:.*[_.\-])?(?:cell|barcode|bc|sample|gsm|srr|err)[_.\-]?\d+.*", re.IGNORECASE)


def looks_like(names: Sequence[str]) -> str:
    """Tell "genes", "cells" or "" for a list of names, by a sample of it."""
    some = names[:: max(1, len(names) // _SAMPLE)][:_SAMPLE]
    if not some:
        return ""
    genes = sum(_KNOWN.fullmatch(name) is not None for name in some)
    cells = sum(any(form.fullmatch(name) for form in (_BARCODE, _WELLS, _CELLS)) for name in some)
    if cells >= _MIN_SHARE * len(some) and cells > genes:
        return "cells"
    # Of a genome's genes a tenth or so belong to the families above; of a short list perhaps one.
    if genes > cells and (genes >= 0.02 * len(some)):
        return "genes"
    return ""


def evidence(rows: Sequence[str], columns: Sequence[str], corner: str) -> tuple[str, str]:
    """Decide a table's orientation.

    Parameters
    ----------
    rows, columns
        Names of both.
    corner
        The name above the names of the rows.

    Returns
    -------
    The orientation ("" where unknown), and why, in words.
    """
    of_rows, of_columns = looks_like(rows), looks_like(columns)
    if {of_rows, of_columns} == {"genes", "cells"}:
        return (
            GENES_BY_CELLS if of_rows == "genes" else CELLS_BY_GENES
        ), f"rows are named like {of_rows}, columns like {of_columns}"
    if of_rows == of_columns:
        of_rows = of_columns = ""
    if of_rows or of_columns:
        said = f"rows are named like {of_rows}" if of_rows else f"columns are named like {of_columns}"
        genes_are_rows = of_rows == "genes" or of_columns == "cells"
        return (GENES_BY_CELLS if genes_are_rows else CELLS_BY_GENES), said
    word = corner.casefold().strip()
    if re.search(r"gene|feature|symbol|ensembl", word):
        return GENES_BY_CELLS, f"the names of the rows are headed {corner!r}"
    if re.search(r"cell|barcode|^bc|obs", word):
        return CELLS_BY_GENES, f"the names of the rows are headed {corner!r}"
    return "", ""
