"""Reads the samples, and finds all their problems before anything is computed."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.draft import SparseDraft
from cellworker.experiment.model import Genes, StrangeCounts
from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.common.findings import Findings, RefusedError
from cellworker.formats.common.locating import locate
from cellworker.formats.foreign.samples import find_samples
from cellworker.formats.opening.open import open_source
from cellworker.formats.opening.recognising import kind_of
from cellworker.formats.opening.store_guard import opened_sound
from cellworker.preparing.parameters import Parameters, SampleInput, Thresholds, plain_name
from cellworker.progress import Progress
from cellworker.settings import Settings

__all__ = ["Sample", "read_samples"]


_MIN_SHARED = 0.5
"""Min share of the smaller sample's genes that two samples have in common."""
_ENSEMBL = re.compile(r"^(ENS(?:[A-Z]{3})?)G\d{6,}|^(GRCh38|GRCh37|hg19|hg38|mm10|mm39|GRCm39|GRCm38)_+")
_SPECIES = {
    "ENS": "man", "ENSMUS": "mouse", "ENSRNO": "rat", "ENSDAR": "zebrafish", "GRCh38": "man", "GRCh37": "man",
    "hg19": "man", "hg38": "man", "mm10": "mouse", "mm39": "mouse", "GRCm39": "mouse", "GRCm38": "mouse",
}  # fmt: skip
_TECHNOLOGIES = ("10x", "Parse", "BD Rhapsody")
_MIN_SPECIES = 0.05
"""Min share of genes by which a species counts as present."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample that was read.

    Attributes
    ----------
    name
        Unique among the samples.
    experiment
        The open file; one file may hold several samples.
    rows
        int64: the sample's barcodes in it.
    thresholds
        Limits of its own.
    path
        Where it came from.
    """

    name: str
    experiment: StoredExperiment
    rows: NDArray[np.int64]
    thresholds: Thresholds
    path: str

    @property
    def counts(self) -> SparseDraft:
        """The counts of the whole file."""
        found = self.experiment.counts
        assert found is not None
        # Samples are read and merged a piece at a time, and pieces may have narrow numbers of genes as the store has.
        return SparseDraft(found.indptr, cast("NDArray[np.int32]", found.genes), found.values, found.n_genes)


def read_samples(parameters: Parameters, settings: Settings, progress: Progress) -> list[Sample]:
    """Read every sample.

    Raises
    ------
    RefusedError
        ``INVALID_INPUT``: `problems` and the message list every problem, each with what to do.
    """
    findings, samples = Findings(), list[Sample]()
    settings = replace(settings, make_missing=False)
    for number, given in enumerate(parameters.samples):
        part = number / len(parameters.samples)
        progress(f"reading {plain_name(given.path)}", part)
        samples += _read(given, settings, findings, partial(_tell, progress, part))
    _check_together(samples, findings)
    if findings.errors:
        several = len(findings.errors) > 1
        told = [f"({i}) {one.sentence}" if several else one.sentence for i, one in enumerate(findings.errors, 1)]
        message = f"the samples cannot be prepared: {'; '.join(told)}"
        raise RefusedError(ErrorCode.INVALID_INPUT, message, findings.problems)
    return samples


def _tell(progress: Progress, part: float, stage: str, fraction: float | None = None) -> None:  # noqa: ARG001
    progress(stage, part)


def _read(given: SampleInput, settings: Settings, findings: Findings, progress: Progress) -> list[Sample]:
    name = given.name or plain_name(given.path)
    try:
        source = _source(Path(given.path))
        experiment = opened_sound(
            lambda: open_source(source, settings, progress, cells_only=True)[1], lambda experiment: experiment
        )
    except RefusedError as error:
        findings.problems += [replace(p, field=f"{name}: {p.field}") for p in error.problems if p.severity == "error"]
        return []
    except WorkerError as error:
        found, _, advice = error.message.rstrip(".").rpartition(": ")
        expected = "a sample that opens"
        findings.error(name, found=found or advice, expected=expected, advice=advice, code=error.code)
        return []
    _check_one(name, experiment, findings)
    parts = experiment.samples
    codes = parts[1].codes if parts is not None else np.zeros(experiment.n_cells, np.int32)
    labels = parts[1].categories if parts is not None else [name]
    used = [code for code in range(len(labels)) if np.any(codes == code)]
    if len(used) < 2:
        return [Sample(name, experiment, np.arange(experiment.n_cells), given.thresholds, given.path)]
    return [
        Sample(f"{given.name}{'-' * bool(given.name)}{labels[code]}", experiment, np.flatnonzero(codes == code),
               given.thresholds, given.path)
        for code in used
    ]  # fmt: skip


def _source(path: Path) -> Path:
    """Return the inputs of a path: for a folder of several samples all of them, in any formats.

    Raises
    ------
    WorkerError
        Where an R object, which opening would take as the experiment, lies beside samples of other formats.
    """
    source = locate(path).source
    if source == path or not path.is_dir() or not source.is_relative_to(path):
        return source
    samples = find_samples(path, lambda file: kind_of(file).name).samples
    if all(sample.where == source for sample in samples):
        return source
    if any(sample.where == source for sample in samples):
        return path
    names = ", ".join(sample.where.relative_to(path).as_posix() for sample in samples[:5])
    message = f"{path} holds the object {source.name} beside other samples ({names}): name each that is meant"
    raise WorkerError(ErrorCode.INVALID_INPUT, message)


def _check_one(name: str, experiment: StoredExperiment, findings: Findings) -> None:
    summary = experiment.counts_summary
    if summary is None:
        findings.error(
            f"{name}: counts", found="none: its values are no whole numbers", expected="raw counts",
            advice="give the matrix that the sequencer's software wrote, or name the counts with --counts",
        )  # fmt: skip
    elif experiment.strange_counts != StrangeCounts():
        strange = experiment.strange_counts
        findings.error(
            f"{name}: counts",
            found=f"{strange.negative:,} below 0, {strange.missing:,} missing, {strange.fractional:,} no whole numbers",
            expected="whole numbers from 0 up",
            advice="give raw counts, not corrected or normalised values",
        )
    elif not summary.kept:
        findings.error(
            f"{name}: counts", found="nothing but zeros", expected="counts",
            advice="leave the sample out, or look why it is empty",
        )  # fmt: skip
    if experiment.n_cells < 2:
        findings.error(
            f"{name}: cells", found=f"{experiment.n_cells}", expected="at least two",
            advice="leave the sample out: one cell has no neighbours",
        )  # fmt: skip
    species = species_of(experiment.genes)
    if len(species) > 1:
        findings.error(
            f"{name}: genes", found=f"genes of {' and '.join(species)}", expected="one species",
            advice="keep the barcodes and genes of one species, and prepare each on its own",
        )  # fmt: skip


def species_of(genes: Genes) -> list[str]:
    """Return the species by gene ids or prefixes of references, else by the spelling of symbols."""
    found: Counter[str] = Counter()
    for names in zip(genes.ids, genes.names, strict=True):
        match = next((m for m in map(_ENSEMBL.match, names) if m), None)
        if match is not None:
            found[_SPECIES.get(match[1] or match[2], match[1] or match[2])] += 1
    known = sorted(name for name, number in found.items() if number > _MIN_SPECIES * len(genes))
    if known:
        return known
    letters = [name for name in genes.names if len(name) > 2 and name[:2].isalpha()]
    upper = sum(name[:3] == name[:3].upper() for name in letters)
    if len(letters) < 50 or _MIN_SPECIES * len(letters) < min(upper, len(letters) - upper):
        return []
    return ["man"] if 2 * upper > len(letters) else ["mouse"]


def _check_together(samples: list[Sample], findings: Findings) -> None:
    for name, number in Counter(sample.name for sample in samples).items():
        if number > 1:
            where = ", ".join(sorted({sample.path for sample in samples if sample.name == name}))
            findings.error(
                f"sample {name}", found=f"{number} of that name ({where})", expected="a name for each",
                advice="name them: NAME=PATH",
            )  # fmt: skip
    for what, of in (("species", _species), ("technology", _technology)):
        groups: dict[str, list[str]] = {}
        for sample in samples:
            if found := of(sample.experiment):
                groups.setdefault(found, []).append(sample.name)
        if len(groups) > 1:
            told = "; ".join(f"{found}: {', '.join(names[:5])}" for found, names in groups.items())
            findings.error(
                f"the samples' {what}", found=told, expected="one for all", advice="prepare each group on its own"
            )
    _check_genes(samples, findings)


def _species(experiment: StoredExperiment) -> str:
    found = species_of(experiment.genes)
    return found[0] if len(found) == 1 else ""


def _technology(experiment: StoredExperiment) -> str:
    """Return the object's own statement, else the program that wrote the file; empty where neither is known."""
    told = experiment.misc.technology or experiment.origin.writer
    known = (name for name in _TECHNOLOGIES if told.casefold().startswith(name.casefold()))
    return next(known, experiment.misc.technology)


def _check_genes(samples: list[Sample], findings: Findings) -> None:
    if len(samples) < 2:
        return
    first = set(samples[0].experiment.genes.ids)
    for sample in samples[1:]:
        ids = sample.experiment.genes.ids
        shared = sum(gene in first for gene in ids)
        if shared < _MIN_SHARED * min(len(first), len(ids)):
            findings.error(
                f"{sample.name}: genes",
                found=f"{shared:,} of {len(ids):,} are genes of {samples[0].name}, too",
                expected="genes of the same reference",
                advice="map the samples to one reference, or name genes alike (all Ensembl ids, or all symbols)",
            )
