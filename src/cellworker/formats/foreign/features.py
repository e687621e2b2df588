"""Selects the rows of a matrix that are genes, by types of features and genomes."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode
from cellworker.experiment.draft import SparseDraft
from cellworker.formats.anndata.containers.growing import Growing
from cellworker.formats.common.matrices.sparse import blocks
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.foreign.shown import Reading, SampleMatrix

__all__ = ["EXPRESSION", "GENOME", "TYPES", "only_genes", "species_of", "with_columns"]

EXPRESSION: Final = "Gene Expression"
"""10x's name for features that are genes."""
TYPES, GENOME = "feature_types", "genome"
"""Columns of ``var``, as scanpy's readers name them."""
_ENSEMBL: Final = re.compile(r"(?:^|_)ENS([A-Z]{3,4})?G\d{9,}", re.IGNORECASE)
_SPECIES: Final = {
    "": "human", "MUS": "mouse", "RNO": "rat", "DAR": "zebrafish", "GAL": "chicken", "SSC": "pig", "MMU": "macaque",
}  # fmt: skip
_GENOMES: Final = {
    "grch38": "human", "grch37": "human", "hg19": "human", "hg38": "human", "human": "human", "homo": "human",
    "mm10": "mouse", "mm9": "mouse", "mm39": "mouse", "grcm38": "mouse", "grcm39": "mouse", "mouse": "mouse",
    "rn6": "rat", "rn7": "rat", "grcz11": "zebrafish", "danrer11": "zebrafish",
}  # fmt: skip
_CAPITALS: Final = re.compile(r"(?:RP[LS]\d+[A-Z]?|MT-[A-Z0-9]+|ACTB|GAPDH|B2M|MALAT1|EEF1A1|TMSB4X|FTL|FTH1)")
_TITLES: Final = re.compile(r"(?:Rp[ls]\d+[a-z]?|mt-[A-Z][a-z0-9]+|Actb|Gapdh|B2m|Malat1|Eef1a1|Tmsb4x|Ftl1|Fth1)")
_MIN_SHARE: Final = 0.05
"""Min share of a species among the genes that show one: less is spike-ins and reporters."""


def only_genes(matrix: SampleMatrix, reading: Reading) -> SampleMatrix:
    """Leave out features that are no genes, and genes of another genome than the one that was named.

    What is left out is named in a finding, and in the conversion's report. Where no feature is a gene all are kept.
    """
    types, genomes = matrix.genes.get(TYPES), matrix.genes.get(GENOME)
    n = len(matrix.symbols)
    keep = np.ones(n, np.bool_)
    wanted = reading.part
    if types is not None and (wanted in types or EXPRESSION in types):
        keep &= np.array([item == (wanted if wanted in types else EXPRESSION) for item in types], np.bool_)
    if genomes is not None and wanted in genomes:
        keep &= np.array([item == wanted for item in genomes], np.bool_)
    elif wanted and (types is None or wanted not in types):
        there = sorted({*(types or []), *(genomes or [])} - {""})
        reading.findings.error(
            "--part", found=f"{wanted!r}, which {matrix.name} does not hold",
            expected=f"one of {', '.join(there)}" if there else "none: it has one kind of features",
            advice="name one of these", code=ErrorCode.INVALID_INPUT,
        )  # fmt: skip
        return matrix
    if keep.all():
        return matrix
    gone = Counter((types or [""] * n)[at] or "features of no type" for at in np.flatnonzero(~keep).tolist())
    listed = ", ".join(f"{number:,} of {name}" for name, number in sorted(gone.items()))
    reading.findings.fallback(
        "features", found=f"{listed} in {matrix.name}",
        advice="they are left out; --part opens one kind (or genome) by its name in place of the genes",
    )  # fmt: skip
    names = [matrix.symbols[at] for at in np.flatnonzero(~keep).tolist()]
    shown = ", ".join(names[:100]) + (", ..." if len(names) > 100 else "")
    matrix.told.lost.append(f"features that are no genes of this experiment ({listed}): {shown}")
    return _subset(matrix, keep, reading.scratch)


def _subset(matrix: SampleMatrix, keep: NDArray[np.bool_], scratch: Scratch) -> SampleMatrix:
    places = np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int64)
    chosen = np.flatnonzero(keep).tolist()
    matrix.values = with_columns(matrix.values, places, int(keep.sum()), scratch)
    matrix.symbols = [matrix.symbols[at] for at in chosen]
    matrix.ids = [matrix.ids[at] for at in chosen] if matrix.ids else []
    matrix.genes = {name: [texts[at] for at in chosen] for name, texts in matrix.genes.items()}
    return matrix


def with_columns(matrix: SparseDraft, places: NDArray[np.int64], n_columns: int, scratch: Scratch) -> SparseDraft:
    """Return a matrix whose column `i` is at ``places[i]``; -1 leaves it out."""
    kept = Growing(np.int32, scratch), Growing(matrix.values.dtype, scratch)
    running = np.zeros(len(matrix.indptr), np.int64)
    done = 0
    for start, end in blocks(len(matrix.columns)):
        new = places[matrix.columns[start:end]]
        inside = new >= 0
        kept[0].append(new[inside])
        kept[1].append(np.asarray(matrix.values[start:end])[inside])
        # Rows that end in this block end behind as many kept entries as are before their old end.
        first, last = np.searchsorted(matrix.indptr, [start, end], "right")
        counted = np.concatenate([[0], np.cumsum(inside)]) + done
        running[first:last] = counted[matrix.indptr[first:last] - start]
        done = int(counted[-1])
    return SparseDraft(running, kept[0].finish(), kept[1].finish(), n_columns)


def species_of(ids: Sequence[str], symbols: Sequence[str], genomes: Sequence[str]) -> list[str]:
    """Return the species of these genes, most genes first; empty where unknown.

    Ensembl's ids tell for certain, then the names of genomes, then how well-known genes are written.
    """
    found: Counter[str] = Counter()
    for names in (ids, symbols):
        for name in names:
            known = _ENSEMBL.search(name)
            if known is not None:
                species = _SPECIES.get((known[1] or "").upper())
                found[species or f"Ensembl's {(known[1] or '').upper()}"] += 1
        if found:
            return _main(found)
    for genome in genomes:
        species = next((name for word, name in _GENOMES.items() if genome.casefold().startswith(word)), None)
        if species is not None:
            found[species] += 1
    if found:
        return _main(found)
    found["human"] = sum(_CAPITALS.fullmatch(name) is not None for name in symbols)
    found["mouse"] = sum(_TITLES.fullmatch(name) is not None for name in symbols)
    return _main(found)


def _main(found: Counter[str]) -> list[str]:
    total = sum(found.values())
    return [name for name, number in found.most_common() if number and number >= _MIN_SHARE * total]
