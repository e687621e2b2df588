"""Chooses the column of a file that tells the samples apart."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical, Column, labels_of
from cellworker.formats.common.cells.measures import plain_name
from cellworker.formats.common.findings import Findings

__all__ = ["SampleChoice", "add_samples", "choose_sample"]

_NAMES: Final = (
    "sample", "sampleid", "samples", "samplename", "donor", "donorid", "donorname", "patient", "patientid", "subject",
    "subjectid", "individual", "individualid", "mouse", "mouseid", "animal", "animalid", "specimen", "specimenid",
    "biosample", "biosampleid", "library", "libraryid", "origident", "batch", "batchid", "batchname",
)  # fmt: skip
"""Names of sample columns without case and punctuation, in the order in which they are preferred."""
_CORE = re.compile(r"[ACGTN]{8,}", re.IGNORECASE)
"""The part of a barcode that is read from the bead; the text before and after it names the library."""
_SHOWN = 12
NO_COLUMN: Final = "no column tells samples apart, so all cells count as one sample"


@dataclass(frozen=True, slots=True)
class SampleChoice:
    """The column that was chosen.

    Attributes
    ----------
    column
        Its name; None where no column tells samples apart.
    labels
        Each cell's sample; None with `column`.
    why
        The reason, in words.
    rejected
        Every other candidate with the reason against it.
    """

    column: str | None
    labels: Categorical | None
    why: str
    rejected: Mapping[str, str] = field(default_factory=dict)


def choose_sample(
    columns: Mapping[str, Column], barcodes: Sequence[str], wanted: str | None = None, *, own: str | None = None
) -> SampleChoice:
    """Choose the column that tells the samples apart.

    Parameters
    ----------
    columns
        The file's columns of cells.
    barcodes
        The cells' names. Where a prefix or suffix tells libraries apart, columns that have one value within each
        library come first.
    wanted
        The column that the user names.
    own
        The column of the platform's own objects, which is taken as it is.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` when `wanted` is no column of labels; the sentence lists those that are.
    """
    if wanted:
        labels = labels_of(columns[wanted]) if wanted in columns else None
        if labels is None:
            raise _refused(columns, wanted)
        return SampleChoice(wanted, labels, "named by the user")
    if own is not None and (labels := labels_of(columns.get(own))) is not None:
        return SampleChoice(own, labels, "the platform's column")
    libraries = _libraries(barcodes)
    rejected: dict[str, str] = {}
    mixed: list[tuple[str, Categorical]] = []
    single: list[tuple[str, Categorical]] = []
    steady: list[tuple[str, Categorical]] = []
    for name in _candidates(columns):
        labels = labels_of(columns[name])
        if labels is None:
            rejected[name] = "numbers that are no labels"
            continue
        used = len(np.unique(labels.codes[labels.codes >= 0]))
        if used > max(2, len(barcodes) // 5):
            rejected[name] = f"{used} values for {len(barcodes)} cells"
        elif used < 2:
            rejected[name] = "one value only" if used else "no values"
            single += [(name, labels)] * used
        elif libraries is not None and not _constant(labels, libraries):
            rejected[name] = "several values within a library of barcodes"
            mixed.append((name, labels))
        else:
            steady.append((name, labels))
    if not (found := steady or mixed or single):
        return SampleChoice(None, None, NO_COLUMN, rejected)
    name, labels = _original(found)
    rejected.pop(name, None)
    rejected |= {other: f"{name} comes first" for other, _ in steady if other != name}
    tells = "one value within each library of barcodes" if libraries is not None else "the barcodes tell no libraries"
    why = tells if steady else "the only kind there is: no such column is constant within a library of barcodes"
    return SampleChoice(name, labels, why if steady or mixed else "one sample", rejected)


def _original(found: list[tuple[str, Categorical]]) -> tuple[str, Categorical]:
    """Return the first; instead of the copy that our own files have under ``samples``, the column that it copies."""
    name, labels = found[0]
    if name == "samples":
        for other, same in found[1:]:
            if same.categories == labels.categories and np.array_equal(same.codes, labels.codes):
                return other, same
    return name, labels


def _candidates(columns: Mapping[str, Column]) -> list[str]:
    order = {name: place for place, name in enumerate(_NAMES)}
    return sorted((name for name in columns if plain_name(name) in order), key=lambda name: order[plain_name(name)])


def _libraries(barcodes: Sequence[str]) -> NDArray[np.int64] | None:
    """Return each barcode's library, by the text around its bases; None where that does not distinguish several."""
    tags: dict[tuple[str, str], int] = {}
    out = np.empty(len(barcodes), np.int64)
    for cell, barcode in enumerate(barcodes):
        core = max(_CORE.finditer(barcode), key=lambda found: len(found[0]), default=None)
        if core is None:
            return None
        out[cell] = tags.setdefault((barcode[: core.start()], barcode[core.end() :]), len(tags))
    return out if 1 < len(tags) <= max(2, len(barcodes) // 5) else None


def _constant(labels: Categorical, libraries: NDArray[np.int64]) -> bool:
    known = labels.codes >= 0
    pairs = np.unique(np.stack([libraries[known], labels.codes[known]]), axis=1)
    return bool(pairs.shape[1] == len(np.unique(libraries[known])))


def _refused(columns: Mapping[str, Column], wanted: str) -> WorkerError:
    able = []
    for name, column in columns.items():
        labels = labels_of(column)
        if labels is not None and 1 < len(np.unique(labels.codes)) <= max(2, len(labels.codes) // 5):
            able.append(name)
    found = "no column of that name" if wanted not in columns else "numbers that are no labels"
    shown = ", ".join(able[:_SHOWN]) + (", ..." if len(able) > _SHOWN else "")
    advice = (
        f"columns that can tell samples apart: {shown}" if able else "no column of this file can tell samples apart"
    )
    return WorkerError(ErrorCode.INVALID_INPUT, f"sample: {wanted!r} cannot be used ({found}); {advice}.")


def add_samples(
    columns: dict[str, Column],
    barcodes: Sequence[str],
    findings: Findings,
    *,
    table: str,
    wanted: str | None = None,
    platform: bool = False,
    project: str = "sample",
) -> tuple[str, str]:
    """Choose the sample column and record it; returns its name, and the reason.

    A file without a column ``samples`` gets one, under which the platform's own programs look for it. Where no column
    tells samples apart, all cells are one sample.

    Parameters
    ----------
    columns
        The columns of the file; ``samples`` may be added.
    table
        The file's name for its table of cells.
    project
        The name of the one sample where there is no column.

    Raises
    ------
    WorkerError
        As `choose_sample`.
    """
    chosen = choose_sample(columns, barcodes, wanted, own="samples" if platform else None)
    field = f"{table} samples"
    against = "".join(f"; {name} is not taken: {why}" for name, why in chosen.rejected.items())
    if chosen.column is None or chosen.labels is None:
        name = "samples" if "samples" not in columns else "samples (computed)"
        columns[name] = Categorical(np.zeros(len(barcodes), np.int32), [project or "sample"])
        found = "no column sample, donor, patient, library, orig.ident or batch"
        findings.fallback(field, found=found, advice=f"all cells count as one sample{against}")
        return name, chosen.why
    if chosen.column == "samples" and isinstance(columns["samples"], Categorical):
        if chosen.rejected:
            findings.fallback(field, found="several columns of samples", advice=f"samples ({chosen.why}){against}")
        return "samples", chosen.why
    found = "no such column" if "samples" not in columns else f"{chosen.column} comes first"
    if chosen.why == "named by the user":
        found = f"the column {chosen.column} named by the user"
    advice = f"samples come from the column {chosen.column} ({chosen.why}){against}"
    findings.fallback(field, found=found, advice=advice)
    if "samples" not in columns:
        columns["samples"] = chosen.labels
    return chosen.column, chosen.why
