"""Joins several samples into one experiment, after all checks.

Genes are the union of the samples' genes, by id. Barcodes that two samples share get the sample's number behind them,
``_1``, ``_2``, ..., in all samples, as Seurat's ``merge`` does it in the platform's pipeline. The column ``samples``
says which sample a cell is of.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from cellworker.experiment.draft import SparseDraft
from cellworker.experiment.model import Categorical, Column
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.ledger import Conversion
from cellworker.formats.common.matrices.sparse import assemble
from cellworker.formats.common.matrices.value_evidence import gather_with_base
from cellworker.formats.common.matrices.value_kinds import decide
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.foreign.features import GENOME, species_of
from cellworker.formats.foreign.shown import SampleMatrix

__all__ = ["SAMPLES", "check_counts", "check_samples", "merged"]

SAMPLES: Final = "samples"
_MIN_COMMON: Final = 0.1
"""Samples of one species have most genes in common; less than this share is another annotation."""
_EVIDENCE_CELLS: Final = 5_000
_SURE: Final = frozenset({"10x", "Parse"})
"""Technologies whose files say which side of a matrix is its cells: one cell is what was meant."""


def check_samples(samples: Sequence[tuple[SampleMatrix, str]], findings: Findings) -> None:
    """Record all reasons against joining samples into one experiment.

    Parameters
    ----------
    samples
        Each matrix, and where it comes from, in words.
    """
    places: dict[str, list[str]] = {}
    for matrix, where in samples:
        places.setdefault(matrix.name, []).append(where)
        _check_one(matrix, where, findings, is_alone=len(samples) == 1)
    for name, listed in places.items():
        if len(listed) > 1:
            findings.error(
                "samples", found=f"{len(listed)} samples called {name!r} ({', '.join(listed)})",
                expected="a name of its own for each sample", advice="rename their files or folders",
            )  # fmt: skip
    technologies = _by([(matrix.technology, matrix.name) for matrix, _ in samples if matrix.technology])
    if len(technologies) > 1:
        findings.error(
            "samples", found="samples of several technologies: " + _listed(technologies),
            expected="one technology", advice="put the samples of each technology into a folder of their own",
        )  # fmt: skip
    species = _by([(_species(matrix)[0], matrix.name) for matrix, _ in samples if _species(matrix)])
    if len(species) > 1:
        findings.error(
            "samples", found="genes of several species: " + _listed(species),
            expected="one species", advice="put the samples of each species into a folder of their own",
        )  # fmt: skip
    elif len(samples) > 1:
        _check_common(samples, findings)


def _by(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for what, name in pairs:
        out.setdefault(what, []).append(name)
    return out


def _listed(groups: dict[str, list[str]]) -> str:
    return "; ".join(
        f"{what} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" for what, names in groups.items()
    )


def _species(matrix: SampleMatrix) -> list[str]:
    return species_of(matrix.ids, matrix.symbols, matrix.genes.get(GENOME, []))


def _check_one(matrix: SampleMatrix, where: str, findings: Findings, *, is_alone: bool) -> None:
    if not matrix.n_cells or not matrix.symbols:
        findings.error(
            where, found="no cells" if not matrix.n_cells else "no genes", expected="cells and genes",
            advice="leave this sample out, or write it again before everything is filtered out",
        )  # fmt: skip
        return
    if not np.any(matrix.values.values):
        findings.error(
            where, found="no count above 0", expected="counts of molecules",
            advice="leave this sample out, or copy its matrix here again",
        )  # fmt: skip
        return
    if matrix.n_cells == 1 and is_alone and matrix.technology in _SURE:
        findings.warning(
            where, found="one cell", expected="two cells at least", advice="nothing can be compared or laid out",
        )  # fmt: skip
    elif matrix.n_cells == 1:
        findings.error(
            where, found="one cell", expected="two cells at least",
            advice="leave this sample out; if it has more cells, its rows may be its genes: say so with --orientation",
        )  # fmt: skip
    species = _species(matrix)
    if len(species) > 1:
        genomes = sorted(set(matrix.genes.get(GENOME, [])) - {""})
        choose = (
            f"name one genome, --part {genomes[0]}" if len(genomes) > 1 else "write each species to a file of its own"
        )
        findings.error(
            where, found=f"genes of several species: {', '.join(species)}", expected="one species", advice=choose
        )


def check_counts(matrix: SampleMatrix, where: str, findings: Findings) -> None:
    """Record a sample whose values are no counts."""
    last = min(_EVIDENCE_CELLS, len(matrix.values.indptr) - 1)
    end = int(matrix.values.indptr[last])
    some = SparseDraft(
        matrix.values.indptr[: last + 1],
        matrix.values.columns[:end],
        matrix.values.values[:end],
        matrix.values.n_columns,
    )
    if not end:
        return
    evidence = gather_with_base(some)
    decision = decide(evidence, "")
    if decision.kind != "counts" or evidence.negative:
        below = f"; {evidence.negative:,} values are below 0" if evidence.negative else ""
        findings.error(
            where, found=f"{decision.title} ({decision.why}{below})", expected="counts of molecules",
            advice="samples are put together by their counts: give each sample's matrix of raw counts",
        )  # fmt: skip


def _check_common(samples: Sequence[tuple[SampleMatrix, str]], findings: Findings) -> None:
    first, where = samples[0]
    known = set(first.keys())
    for matrix, other in samples[1:]:
        own = set(matrix.keys())
        common = len(known & own)
        if common < _MIN_COMMON * min(len(known), len(own)):
            findings.error(
                "samples", found=f"{common:,} genes that {where} and {other} have in common",
                expected="the same annotation of genes",
                advice="write them with the same reference, and ids or names alike",
            )  # fmt: skip


def merged(samples: Sequence[SampleMatrix], findings: Findings, scratch: Scratch) -> SampleMatrix:
    """Join checked samples into one matrix."""
    keys: dict[str, int] = {}
    symbols: list[str] = []
    places = []
    for matrix in samples:
        own = [keys.setdefault(key, len(keys)) for key in _unique(matrix.keys())]
        symbols += [""] * (len(keys) - len(symbols))
        for at, symbol in zip(own, matrix.symbols, strict=True):
            symbols[at] = symbols[at] or symbol
        places.append(np.array(own, np.int64))
    sizes = [matrix.n_cells for matrix in samples]
    starts = np.cumsum([0, *sizes])
    parts = [
        (matrix.values, np.arange(start, start + size), None if _is_range(genes, len(keys)) else genes)
        for matrix, start, size, genes in zip(samples, starts[:-1].tolist(), sizes, places, strict=True)
    ]
    values = assemble(parts, (int(starts[-1]), len(keys)), "X", findings, scratch)
    barcodes, told = _barcodes(samples, findings)
    cells: dict[str, Column] = {
        SAMPLES: Categorical(np.repeat(np.arange(len(samples), dtype=np.int32), sizes), [one.name for one in samples])
    }
    cells |= _columns(samples, sizes)
    has_ids = all(matrix.ids for matrix in samples)
    for matrix in samples:
        told.lost += [f"{matrix.name}: {name} of its genes" for name in matrix.genes]
        said = [item for group in matrix.uns.values() for item in group.names()]
        told.lost += [f"{matrix.name}: the attribute {item!r} of its file" for item in said]
        if matrix.ids and not has_ids:
            told.lost.append(f"{matrix.name}: ids of its genes, which other samples have not")
    for matrix in samples:
        told.kept += [f"{matrix.name}: {line}" for line in matrix.told.kept]
        told.renamed += [f"{matrix.name}: {line}" for line in matrix.told.renamed]
        told.lost += [f"{matrix.name}: {line}" for line in matrix.told.lost]
    shared = len(set.intersection(*(set(one.keys()) for one in samples)))
    findings.fallback(
        SAMPLES, found=f"{len(samples)} samples ({', '.join(one.name for one in samples)})",
        advice=f"they are one experiment of {int(starts[-1]):,} cells and {len(keys):,} genes,"
        f" {shared:,} in every sample",
    )  # fmt: skip
    writers = list(dict.fromkeys(one.writer for one in samples))
    return SampleMatrix(
        "", samples[0].technology, f"{len(samples)} samples of {', '.join(writers)}", values, barcodes, symbols,
        list(keys) if has_ids else [], {}, cells, told,
    )  # fmt: skip


def _unique(names: list[str]) -> list[str]:
    """Tell repeated names of genes apart, so that the same repetition of two samples is one gene."""
    seen: Counter[str] = Counter()
    taken = set(names)
    if len(taken) == len(names):
        return names
    out = []
    for name in names:
        seen[name] += 1
        out.append(name if seen[name] == 1 else f"{name}.{seen[name] - 1}")
    return out


def _is_range(genes: "np.ndarray[tuple[int], np.dtype[np.int64]]", n: int) -> bool:
    return len(genes) == n and bool(np.array_equal(genes, np.arange(n)))


def _barcodes(samples: Sequence[SampleMatrix], findings: Findings) -> tuple[list[str], Conversion]:
    told = Conversion()
    names = [name for matrix in samples for name in matrix.barcodes]
    if len(set(names)) == len(names):
        return names, told
    repeated = len(names) - len(set(names))
    numbered = ", ".join(f"_{number} ({matrix.name})" for number, matrix in enumerate(samples[:5], 1))
    advice = f"every barcode has the number of its sample behind it: {numbered}{', ...' if len(samples) > 5 else ''}"
    findings.fallback("barcodes", found=f"{repeated:,} barcodes that are in two samples", advice=advice)
    told.renamed.append(f"barcodes: {advice}")
    return [f"{name}_{number}" for number, matrix in enumerate(samples, 1) for name in matrix.barcodes], told


def _columns(samples: Sequence[SampleMatrix], sizes: Sequence[int]) -> dict[str, Column]:
    """Join columns of cells by name: labels with labels, numbers with numbers; a sample without one has none."""
    out: dict[str, Column] = {}
    for name in dict.fromkeys(name for matrix in samples for name in matrix.cells):
        columns = [matrix.cells.get(name) for matrix in samples]
        numbers = all(not isinstance(column, Categorical) for column in columns if column is not None)
        if numbers:
            parts = [
                np.full(size, np.nan) if column is None else np.asarray(column, np.float64)
                for column, size in zip(columns, sizes, strict=True)
            ]
            out[_free(name)] = np.concatenate(parts)
            continue
        labels: dict[str, int] = {}
        codes = [_codes(column, size, labels) for column, size in zip(columns, sizes, strict=True)]
        out[_free(name)] = Categorical(np.concatenate(codes).astype(np.int32), list(labels))
    return out


def _free(name: str) -> str:
    return name if name != SAMPLES else f"{SAMPLES} (column)"


def _codes(column: Column | None, size: int, labels: dict[str, int]) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    if column is None:
        return np.full(size, -1, np.int32)
    if isinstance(column, Categorical):
        places = [labels.setdefault(label, len(labels)) for label in column.categories]
        return np.array([*places, -1], np.int32)[column.codes]
    return np.array([labels.setdefault(str(value), len(labels)) for value in column.tolist()], np.int32)
