"""The samples in a folder: matrix folders, files, and folders of these, whatever they are called.

The content of a file decides its kind. Names pair a matrix with its lists (``GSM123_matrix.mtx.gz`` with
``GSM123_barcodes.tsv.gz``), name the samples, and tell filtered matrices from unfiltered ones of the same sample.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cellworker.formats.common.kinds import is_zarr

__all__ = ["FolderContent", "FolderSample", "find_samples", "market_parts", "sample_name", "unread_in"]

KindOf = Callable[[Path], str]
"""Returns the name of a file's `Kind`."""

MARKET: Final = "MATRIX_MARKET"
_FILES: Final = frozenset({"TENX", "TEXT", "ENTRIES", "LOOM", "ANNDATA", "OLD_ANNDATA", "MUDATA", "ZIPPED_ZARR"})
_TABLES: Final = frozenset({"TEXT", "ENTRIES"})
_RESULTS: Final = frozenset({"analysis", "spatial", "SC_RNA_COUNTER_CS", "figures", "process"})
"""Folders in which Cell Ranger and Parse's pipeline keep results of the matrices beside them."""
_MAX_DEPTH: Final = 5
_MAX_ENTRIES: Final = 10_000
_LISTS: Final = {
    "barcodes": re.compile(r"barcodes?|cells?(?:_names)?|cell_?ids?", re.IGNORECASE),
    "features": re.compile(r"features?|genes?(?:_names)?|gene_?ids?", re.IGNORECASE),
}
_PARSE: Final = {
    "genes": re.compile(r"(?:all_)?genes", re.IGNORECASE),
    "cells": re.compile(r"cell_metadata", re.IGNORECASE),
}
_MATRIX: Final = re.compile(r"(?:count_matrix|count_matrices|matrix|dge|counts?)$", re.IGNORECASE)
_ENDINGS: Final = re.compile(
    r"(?:\.(?:gz|bz2|xz|zst|zip|mtx|tsv|csv|txt|tab|st|h5|hdf5|h5ad|h5mu|loom|zarr))+$", re.IGNORECASE
)
_STATE: Final = re.compile(
    r"(?:sample_)?(filtered|unfiltered|raw)_?(?:feature|gene)_bc_matri(?:x|ces)(?:_h5)?|(?:dge|counts?)_(filtered|unfiltered)"
    r"|(?<![a-z])(unfiltered|filtered)(?![a-z])",
    re.IGNORECASE,
)
_WORDS: Final = re.compile(r"[_.\- ]*(?:RSEC_MolsPerCell(?:_MEX)?|Expression_Data|molecules|outs)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FolderSample:
    """One sample of a folder, unread.

    Attributes
    ----------
    name
        From the names of its folder or file.
    kind
        Name of a `Kind`, or "PARSE".
    files
        By what they are: "file", or "matrix" with its lists.
    """

    name: str
    kind: str
    files: Mapping[str, Path]

    @property
    def where(self) -> Path:
        """The file that stands for it in sentences."""
        return self.files.get("matrix") or self.files["file"]


@dataclass(slots=True)
class FolderContent:
    """Content of a folder.

    Attributes
    ----------
    samples
        In order of their names.
    passed_over
        Files and folders beside them that are not read: where, what it is, and why not.
    incomplete
        Matrices without their lists of names: the file, and what is missing.
    """

    samples: list[FolderSample] = field(default_factory=list)
    passed_over: list[tuple[str, str, str]] = field(default_factory=list)
    incomplete: list[tuple[Path, str]] = field(default_factory=list)


def sample_name(path: Path) -> str:
    """Return a file's or folder's name without endings and without words that every sample has."""
    name = _ENDINGS.sub("", path.name)
    return _WORDS.sub("", _STATE.sub("", name)).strip("_-. ")


def find_samples(folder: Path, kind_of: KindOf) -> FolderContent:
    """Look for samples in a folder and in the folders in it, five deep."""
    found = FolderContent()
    _look(folder, "", kind_of, found, 0)
    found.samples.sort(key=lambda sample: (sample.name, str(sample.where)))
    return found


def unread_in(folder: Path, used: set[Path]) -> list[str]:
    """Return what of a folder is not among the files that are used: each file, or a whole folder; hidden ones not."""
    out: list[str] = []
    waiting = [folder] if folder not in used else []
    while waiting:
        for item in sorted(waiting.pop().iterdir()):
            if item in used or item.name.startswith((".", "__MACOSX")):
                continue
            if item.is_dir() and not item.is_symlink() and any(item in path.parents for path in used):
                waiting.append(item)
            else:
                out.append(f"{item.relative_to(folder)}{'/' if item.is_dir() else ''}: no part of a sample's matrix")
    return out


def _look(folder: Path, name: str, kind_of: KindOf, found: FolderContent, depth: int) -> None:
    entries = [item for item in sorted(folder.iterdir()) if not item.name.startswith(".")][:_MAX_ENTRIES]
    links = [item for item in entries if item.is_symlink()]
    found.passed_over += [(item.name, "a symbolic link", "put the file or folder itself there") for item in links]
    entries = [item for item in entries if item not in links]
    stores = [item for item in entries if is_zarr(item)]
    files = [item for item in entries if item.is_file() and item.stat().st_size]
    folders = [item for item in entries if item.is_dir() and item not in stores and item.name not in _RESULTS]
    kinds = {item: kind_of(item) for item in [*files, *stores]}
    here = _markets(folder, name, [item for item in files if kinds[item] == MARKET], files, found)
    used = {path for sample in here for path in sample.files.values()}
    others = [item for item in kinds if item not in used and kinds[item] in _FILES]
    here += [FolderSample(_joined(name, sample_name(item)), kinds[item], {"file": item}) for item in others]
    within = FolderContent()
    for item in folders if depth < _MAX_DEPTH else []:
        _look(item, _joined(name, sample_name(item)), kind_of, within, depth + 1)
    samples = _preferred([*here, *within.samples], found)
    if any(sample.kind not in _TABLES for sample in here):
        for table in (sample for sample in samples if sample.kind in _TABLES):
            found.passed_over.append((table.where.name, "a table beside a matrix", "tables there are results of it"))
        samples = [sample for sample in samples if sample.kind not in _TABLES]
    found.samples += samples
    found.passed_over += within.passed_over
    found.incomplete += within.incomplete


def _joined(before: str, name: str) -> str:
    """Join the names of a folder and of what is in it; ``A/A_matrix`` and ``A/matrix`` are A."""
    if not name or name == before:
        return before
    return name if not before or name.startswith(before) else f"{before}_{name}"


def _preferred(samples: list[FolderSample], found: FolderContent) -> list[FolderSample]:
    """Of matrices of one sample that differ in the filter keep the filtered one; of the same in two forms the file."""
    groups: dict[str, list[FolderSample]] = {}
    for sample in samples:
        groups.setdefault(sample.name, []).append(sample)
    out = []
    for group in groups.values():
        states = [_state(sample.where) for sample in group]
        if len(group) > 1 and all(states):
            best = min(range(len(group)), key=lambda at: (states[at] != "filtered", group[at].kind == MARKET))
            for at, sample in enumerate(group):
                if at != best:
                    reason = f"{group[best].where.parent.name}/{group[best].where.name} of the same sample is read"
                    place = f"{sample.where.parent.name}/{sample.where.name}"
                    found.passed_over.append((place, "another matrix of the same sample", reason))
            group = [group[best]]  # noqa: PLW2901
        out += group
    return out


def _state(path: Path) -> str:
    """Tell "filtered", "raw" or "" by the names of a file and of its folder."""
    for name in (path.name, path.parent.name, path.parent.parent.name):
        known = _STATE.search(name)
        if known is not None:
            word = next(word for word in known.groups() if word).casefold()
            return "filtered" if word == "filtered" else "raw"
    return ""


def _markets(
    folder: Path, name: str, matrices: list[Path], files: list[Path], found: FolderContent
) -> list[FolderSample]:
    out = []
    for matrix in matrices:
        parts, missing = market_parts(matrix, files)
        if missing:
            found.incomplete.append((matrix, missing))
            continue
        stem = _MATRIX.sub("", _ENDINGS.sub("", matrix.name)).strip("_-. ")
        own = _joined(name, _STATE.sub("", stem).strip("_-. ")) if stem else name
        out.append(FolderSample(own or sample_name(folder), "PARSE" if "cells" in parts else MARKET, parts))
    return out


def market_parts(matrix: Path, files: list[Path]) -> tuple[dict[str, Path], str]:
    """Find the lists of names that belong to a matrix; returns the files by what they are, and what is missing.

    Of several lists the one with the longest common prefix is taken: ``GSM1_matrix`` has ``GSM1_barcodes``,
    and, where there is none, ``barcodes``.
    """
    others = [item for item in files if item != matrix]
    parse = {what: _best(matrix, others, form) for what, form in _PARSE.items()}
    if parse["cells"] is not None and parse["genes"] is not None:
        return {"matrix": matrix, **{what: path for what, path in parse.items() if path is not None}}, ""
    lists = {what: _best(matrix, others, form) for what, form in _LISTS.items()}
    missing = [what for what, path in lists.items() if path is None]
    if missing:
        return {}, " and ".join(missing)
    return {"matrix": matrix, **{what: path for what, path in lists.items() if path is not None}}, ""


def _best(matrix: Path, files: list[Path], form: re.Pattern[str]) -> Path | None:
    prefix = _MATRIX.sub("", _ENDINGS.sub("", matrix.name))
    able = []
    for item in files:
        stem = _ENDINGS.sub("", item.name)
        known = next((match for match in form.finditer(stem) if match.end() == len(stem)), None)
        if known is not None and prefix.startswith(stem[: known.start()]):
            able.append((known.start(), item))
    if not able:
        return None
    longest = max(start for start, _ in able)
    best = [item for start, item in able if start == longest]
    return best[0] if longest == len(prefix) or longest == 0 else None
