"""The kept cells of all samples as one matrix, in files rather than in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.draft import SparseDraft
from cellworker.experiment.model import Categorical, Column, Genes
from cellworker.formats.common.cells.measures import ROLES
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.sparse import assemble
from cellworker.formats.common.scratch import Scratch
from cellworker.preparing.inputs import Sample
from cellworker.preparing.quality import Quality

__all__ = ["Merged", "merge"]

_MADE = {*ROLES, "samples", "cells_id"}


@dataclass(frozen=True, slots=True)
class Merged:
    """Cells of all samples, one sample after the other.

    Attributes
    ----------
    counts
        Raw counts of the kept genes.
    genes, barcodes
        Names; barcodes begin with the sample's name where there are several samples.
    samples
        Each cell's sample.
    metadata
        Quality measures, and the samples' own columns.
    """

    counts: SparseDraft
    genes: Genes
    barcodes: list[str]
    samples: Categorical
    metadata: dict[str, Column]


def merge(samples: Sequence[Sample], qualities: Sequence[Quality], min_cells: int, scratch: Scratch) -> Merged:
    """Join the samples; genes are those of any sample that occur in enough of all kept cells.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` where fewer than two cells, or no genes, are left.
    """
    genes, places = _genes(samples, qualities, min_cells)
    sizes = [len(quality.kept) for quality in qualities]
    n_cells = sum(sizes)
    if n_cells < 2 or not len(genes):
        limits = "; ".join(
            f"{sample.name}: {dict(quality.steps)}" for sample, quality in zip(samples, qualities, strict=True)
        )
        message = (
            f"{n_cells} cells and {len(genes)} genes are left after quality control ({limits}): widen the limits with "
            "--set"
        )
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    parts, barcodes, first = [], list[str](), 0
    for sample, quality, place in zip(samples, qualities, places, strict=True):
        cells = np.full(sample.experiment.n_cells, -1, np.int64)
        cells[quality.kept] = first + np.arange(len(quality.kept))
        first += len(quality.kept)
        parts.append((sample.counts, cells, place))
        begin = f"{sample.name}_" if len(samples) > 1 else ""
        names = sample.experiment.barcodes
        barcodes += [f"{begin}{names[row]}" for row in quality.kept.tolist()]
    counts = _assembled(parts, (n_cells, len(genes)), scratch)
    labels = Categorical(np.repeat(np.arange(len(samples), dtype=np.int32), sizes), [s.name for s in samples])
    return Merged(counts, genes, barcodes, labels, _metadata(samples, qualities))


def _assembled(
    parts: list[tuple[SparseDraft, NDArray[np.int64], NDArray[np.int64]]], shape: tuple[int, int], scratch: Scratch
) -> SparseDraft:
    """Write the samples into one matrix. Samples of one file are cells of the same matrix, and are written together."""
    files: dict[int, tuple[SparseDraft, NDArray[np.int64], NDArray[np.int64]]] = {}
    for matrix, cells, genes in parts:
        key = matrix.values.__array_interface__["data"][0]
        before = files.get(key)
        files[key] = (matrix, cells if before is None else np.maximum(before[1], cells), genes)
    findings = Findings()
    found = assemble(list(files.values()), shape, "counts", findings, scratch)
    findings.raise_errors()
    return found


def _genes(
    samples: Sequence[Sample], qualities: Sequence[Quality], min_cells: int
) -> tuple[Genes, list[NDArray[np.int64]]]:
    """Return the genes to keep, in the order in which they first occur, and each sample's places among them."""
    order: dict[str, int] = {}
    names: list[tuple[str, str]] = []
    everywhere = []
    for sample in samples:
        genes = sample.experiment.genes
        for gene, name, original in zip(genes.ids, genes.names, genes.original_names, strict=True):
            if gene not in order:
                order[gene] = len(order)
                names.append((name, original))
        everywhere.append(np.array([order[gene] for gene in genes.ids], np.int64))
    cells = np.zeros(len(order), np.int64)
    for place, quality in zip(everywhere, qualities, strict=True):
        cells[place] += quality.detected
    kept = cells >= max(1, min_cells)
    new = np.where(kept, np.cumsum(kept) - 1, -1)
    ids = [gene for gene, keep in zip(order, kept.tolist(), strict=True) if keep]
    chosen = [pair for pair, keep in zip(names, kept.tolist(), strict=True) if keep]
    taken: dict[str, int] = {}
    unique = []
    for name, _ in chosen:
        number = taken.get(name, 0)
        taken[name] = number + 1
        unique.append(f"{name}.{number}" if number else name)
    return Genes(ids, unique, [original for _, original in chosen]), [new[place] for place in everywhere]


def _metadata(samples: Sequence[Sample], qualities: Sequence[Quality]) -> dict[str, Column]:
    measures = {
        "nCount_RNA": np.concatenate([quality.counts[quality.passed] for quality in qualities]),
        "nFeature_RNA": np.concatenate([quality.genes[quality.passed] for quality in qualities]).astype(np.int64),
        "percent.mt": np.concatenate([quality.mt[quality.passed] for quality in qualities]),
    }
    out: dict[str, Column] = dict(measures)
    scores = np.concatenate([quality.doublets[quality.passed] for quality in qualities])
    if np.isfinite(scores).any():
        out["doublet_scores"] = np.nan_to_num(scores)
    columns: dict[str, None] = {}
    for sample in samples:
        used = {*_MADE, *sample.experiment.origin.columns.values()}
        columns |= dict.fromkeys(name for name in sample.experiment.metadata if name not in used)
    for name in columns:
        found = [sample.experiment.metadata.get(name) for sample in samples]
        joined = _joined(found, [quality.kept for quality in qualities])
        if joined is not None:
            out[name] = joined
    return out


def _joined(columns: Sequence[Column | None], rows: Sequence[NDArray[np.int64]]) -> Column | None:
    """Join a column of some samples; None where it holds labels in some and numbers in others."""
    there = [column for column in columns if column is not None]
    if all(isinstance(column, Categorical) for column in there):
        labels: Mapping[str, int] = {
            label: place
            for place, label in enumerate(
                dict.fromkeys(label for column in there for label in column.categories)  # type: ignore[union-attr]
            )
        }
        parts = []
        for column, own in zip(columns, rows, strict=True):
            if not isinstance(column, Categorical):
                parts.append(np.full(len(own), -1, np.int32))
                continue
            places = np.array([*(labels[label] for label in column.categories), -1], np.int32)
            parts.append(places[column.codes[own]])
        return Categorical(np.concatenate(parts), list(labels))
    if any(isinstance(column, Categorical) for column in there):
        return None
    same = len(there) == len(columns) and len({column.dtype for column in there}) == 1  # type: ignore[union-attr]
    if same:
        return np.concatenate([column[own] for column, own in zip(columns, rows, strict=True)])  # type: ignore[index]
    return np.concatenate(
        [
            np.full(len(own), np.nan) if column is None else np.asarray(column, np.float64)[own]
            for column, own in zip(columns, rows, strict=True)
        ]
    )
