"""The kind of values that the name of an AnnData layer suggests: people name the same thing in many ways.

A name is judged by its words. Usual names come first, then any name with a matching word:
``cellbender_counts``, ``countsAmbientCorrected`` and ``X_umis`` are counts, ``norm_counts`` and ``log1p.cpm`` are
normalised. Values have the last word (`cellworker.formats.common.matrices.value_kinds`).
"""

import re
from typing import Final, Literal

from cellworker.formats.common.matrices.value_kinds import Hint

__all__ = ["Use", "hint_of", "is_scaled_name", "rank_of"]

Use = Literal["counts", "data", "scaled"]

_USUAL: Final[dict[Use, tuple[str, ...]]] = {
    "counts": ("counts", "rawcounts", "count", "umi", "umis", "raw", "correctedcounts", "soupx", "soupxcounts",
               "cellbender", "decontx", "decontxcounts"),
    "data": ("logcounts", "log1p", "lognorm", "lognormalized", "log1pnorm", "normalized", "norm", "data"),
    "scaled": ("scaled", "scaledata"),
}  # fmt: skip
"""Without case and punctuation, the most usual one first."""
_WORDS: Final[dict[Use, frozenset[str]]] = {
    "counts": frozenset(
        ("counts", "count", "umi", "umis", "raw", "soupx", "cellbender", "decontx", "corrected")
    ),
    "data": frozenset(
        ("log", "log1p", "log2", "log10", "logcounts", "lognorm", "lognormalized", "lognormalised", "norm",
         "normalized", "normalised", "normcounts", "cpm", "tpm", "fpkm", "rpkm", "cp10k", "data")
    ),
    "scaled": frozenset(("scaled", "scale", "zscore", "zscores", "residuals")),
}  # fmt: skip
_PARTS: Final = frozenset(
    ("spliced", "unspliced", "ambiguous", "splice", "intronic", "exonic", "introns", "exons", "mature", "nascent",
     "binary", "binarized", "background", "removed", "std", "var", "variance")
)  # fmt: skip
"""Words of layers that hold part of the counts, or something about them."""


def _words(name: str) -> list[str]:
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", apart.casefold()) if word]


def rank_of(name: str, use: Use) -> int | None:
    """Return how well a layer's name fits a use, 0 the best; None where it does not fit."""
    plain = re.sub(r"[^a-z0-9]", "", name.casefold())
    if plain in _USUAL[use]:
        return _USUAL[use].index(plain)
    if not name or any(plain in usual for usual in _USUAL.values()):
        return None
    words = set(_words(name)) | {plain}
    if words & _PARTS:
        return None
    # A name of several words is of the use that is furthest from the counts: scaled_log_counts, norm_counts.
    said = next((each for each in ("scaled", "data", "counts") if words & _WORDS[each]), None)
    return len(_USUAL[use]) if said == use else None


def hint_of(name: str) -> Hint:
    """Return the kind of values that a layer's name suggests: "counts", "data" or nothing."""
    if rank_of(name, "counts") is not None:
        return "counts"
    return "data" if rank_of(name, "data") is not None else ""


def is_scaled_name(name: str) -> bool:
    """Tell whether a layer's name says that its values are scaled."""
    return rank_of(name, "scaled") is not None
