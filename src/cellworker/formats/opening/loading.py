"""The work of the sandboxed child: reads a file, makes it an experiment, writes its store."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import WorkerError
from cellworker.experiment.draft import ExperimentDraft, SparseDraft
from cellworker.experiment.store.sorted_side import BUFFER_BYTES
from cellworker.experiment.store.spent_pages import can_give_back
from cellworker.experiment.store.store import write_store
from cellworker.formats.anndata.containers.tree import TreeGroup
from cellworker.formats.bpcells.outside import Outside
from cellworker.formats.common.companions import companions_of
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.folder_hash import FolderHash
from cellworker.formats.common.free_space import FreeSpace, in_words
from cellworker.formats.common.kinds import FOREIGN, content_hash
from cellworker.formats.common.matrices.matrix_choice import MatrixChoice
from cellworker.formats.common.matrices.sparse import blocks
from cellworker.formats.common.matrices.unusable_genes import leave_out_unusable
from cellworker.formats.common.scratch import Scratch, give_back, is_spooled
from cellworker.formats.common.stages import MEASURING_CELLS, MEASURING_GENES, NORMALISING, heard
from cellworker.formats.common.write_limit import WriteLimit, size_of
from cellworker.formats.opening.recognising import READ, FileKind, kind_of, not_read, unknown
from cellworker.formats.opening.shelf import keyed, store_file
from cellworker.formats.r.choosing import is_summarized
from cellworker.formats.r.rds.inflate import HEAD_BYTES, codec_of, expansion
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.model import RS4
from cellworker.formats.seurat.h5.files import read_object
from cellworker.formats.seurat.read.reader import read_seurat
from cellworker.identifiers import StoreName
from cellworker.native.heap import return_free_memory
from cellworker.progress import Progress, part_of

__all__ = ["load"]

_EXACT_IN_FLOAT32 = 2.0**24
_HALVED = 0.5


@dataclass(frozen=True, slots=True)
class _Shares:
    """The fractions of the time after which the file is read, its matrices are passed over, and what it lacks is made.

    As measured; where nothing is made, the writing follows at once and has the rest of the bar.
    """

    read: float
    passed: float
    made: float

    @classmethod
    def of(cls, kind: FileKind, *, make: bool) -> "_Shares":
        """Return those of a kind of file; `make` says that what a file lacks is made, as most files lack doublets."""
        if kind is not FileKind.ANNDATA and kind.name not in FOREIGN:
            return cls(0.45, 0.55, 0.85)  # the platform's objects lack nothing, and are decompressed
        return cls(0.1, 0.15, 0.95) if make else cls(0.25, 0.32, 0.32)


_PASSES: Mapping[str, tuple[float, float]] = {
    NORMALISING: (0.0, 0.7),
    MEASURING_CELLS: (0.7, 0.85),
    MEASURING_GENES: (0.85, 1.0),
}
"""Where each pass begins and ends among them, of all passes; a file that holds logarithms needs only the last two."""


def load(
    source: str,
    spool: str,
    *,
    max_bytes: int,
    max_ratio: float,
    threads: int,
    choice: dict[str, Any] | None = None,
    make_s: float = math.inf,
    buffer_bytes: int = BUFFER_BYTES,
    memory_bytes: float = math.inf,
    size: int | None = None,
    alone: bool = False,
    progress: Progress,
) -> dict[str, Any]:
    """Read one experiment into a store.

    Parameters
    ----------
    source, spool
        The file, and a folder for spool files that the caller removes; the store is written there too, so that nothing
        of it is left wherever this process is killed.
    max_bytes
        Largest size after decompression.
    max_ratio
        Bytes that may be written for each byte of the file.
    threads
        For the kernels that write the store.
    choice
        `MatrixChoice.to_json` of the user's choice.
    make_s
        Seconds that making what the file lacks may take.
    buffer_bytes
        Memory of the buffers with which the store is sorted.
    memory_bytes
        Memory that this process may use.
    size
        Bytes of the file, or of all files in the folder, where they are known.
    alone
        Whether this process does nothing else: the system then keeps every file that it writes within the limits.
    progress
        Called with the stage and the fraction of all work done.

    Returns
    -------
    ``store`` (its key; absent when there are errors), ``problems``, every one found, and ``companions``, the
    files beside the source that were read too, as `Companion.to_json` gives them.

    Raises
    ------
    WorkerError
        When the file is of a kind that is not read, when it is damaged, when the store cannot be written, or when the
        disk or the memory is too small for it.
    """
    folder, findings = Path(spool), Findings()
    companions: dict[str, list[int]] = {}
    kind = kind_of(Path(source))
    if kind not in READ:
        raise not_read(kind, Path(source))
    if kind is FileKind.UNKNOWN and (error := unknown(Path(source))) is not None:
        raise error
    wanted = MatrixChoice(**(choice or {}))
    course = _Course(progress, _Shares.of(kind, make=wanted.make))
    size = size_of(Path(source)) if size is None else size
    free = FreeSpace(folder, memory_bytes, buffer_bytes)
    free.require_disk(_least(kind, Path(source), size, free), f"for a file of {in_words(size)}")
    writing = WriteLimit(size, max_ratio, max_bytes, free)
    if alone:
        writing.hold(is_all=kind is FileKind.ANNDATA or kind.name in FOREIGN - {"MATRIX_MARKET"})
    how = _How(folder, findings, max_bytes, threads, wanted, writing, course, alone)
    with heard(course.passing):
        if kind is FileKind.ANNDATA:
            draft, key = _anndata(Path(source), how)
        elif kind.name in FOREIGN:
            draft, key, companions = _foreign(kind, Path(source), how)
        else:
            draft, key, companions = _r_object(Path(source), how)
    if draft is not None:
        draft = leave_out_unusable(draft, findings, Scratch(folder, writing), drop=wanted.drop_genes)
    lacks = draft is not None and draft.origin.kind != "platform"  # the platform's pipeline made all of it
    if draft is not None and lacks and wanted.make and not findings.errors:
        draft = _completed(draft, how, make_s)
    problems = [problem.to_json() for problem in findings.problems]
    if draft is None or findings.errors:
        return {"problems": problems}
    draft.extra["problems"] = problems
    draft.extra.setdefault("sha256", key)
    name = StoreName(keyed(key, wanted))
    store = folder / store_file(name)

    def claim(n_bytes: int, beside: int, spent: Sequence[NDArray[Any]]) -> None:
        freed = beside + sum(array.nbytes for array in spent if is_spooled(array)) if can_give_back(folder) else 0
        writing.claim(n_bytes, freed)

    return_free_memory()
    write_store(
        draft, store, key=name, threads=threads, progress=part_of(course, course.reached, 1), give_back=give_back,
        buffer_bytes=buffer_bytes, claim=claim, by_gene=not wanted.cells_only,
    )  # fmt: skip
    return {"store": name, "problems": problems, "companions": companions}


def _least(kind: FileKind, source: Path, size: int, free: FreeSpace) -> int:
    """Return the min bytes that opening a file writes, by its size alone; 0 where even the max is free.

    An R object is unpacked, and its decimal numbers halved. Of an AnnData file the shapes of its matrices say more.
    """
    if kind is FileKind.ANNDATA or kind.name in FOREIGN or not source.is_file():
        return 0
    with source.open("rb") as file:
        # What a decoder has taken lags behind what it gives: twice the ratio is more than any beginning shows.
        if _HALVED * size * 2 * codec_of(file.read(HEAD_BYTES)).ratio <= free.disk(free.folder):
            return 0
        return int(_HALVED * size * expansion(file.fileno()))


def _completed(draft: ExperimentDraft, how: "_How", seconds: float) -> ExperimentDraft:
    """Make the parts that the file lacks; their bytes follow from its matrix's size, and count for no limit."""
    from cellworker.formats.completing.complete import Completing, complete  # noqa: PLC0415 - most files lack nothing

    tell = part_of(how.course, how.course.shares.passed, how.course.shares.made)
    return complete(draft, how.findings, Scratch(how.folder), Completing(how.threads, seconds, tell))


@dataclass(frozen=True, slots=True)
class _How:
    folder: Path
    findings: Findings
    max_bytes: int
    threads: int
    wanted: MatrixChoice
    writing: WriteLimit
    course: "_Course"
    alone: bool


class _Course:
    """The progress of all of it: it never goes back, whatever order a reader has."""

    def __init__(self, progress: Progress, shares: _Shares) -> None:
        self._progress = progress
        self.shares = shares
        self.reached = 0.0

    def __call__(self, stage: str, fraction: float | None = None) -> None:
        self.reached = max(self.reached, fraction or 0.0)
        self._progress(stage, self.reached if fraction is not None else None)

    def passing(self, stage: str, fraction: float) -> None:
        """Report a pass over a whole matrix."""
        begin, end = _PASSES[stage]
        part_of(self, self.shares.read, self.shares.passed)(stage, begin + (end - begin) * fraction)


def _r_object(source: Path, how: _How) -> tuple[ExperimentDraft | None, str, dict[str, list[int]]]:
    folder, course = how.folder, how.course

    def on_bytes(done: int, total: int) -> None:
        course("reading the file", course.shares.read * done / total if total else None)

    limits = Limits(max_inflated_bytes=how.max_bytes, writing=how.writing)
    outside = Outside(source.parent, folder, limits)

    def made(spool: Path, findings: Findings, *, exact: bool) -> tuple[ExperimentDraft | None, str]:
        draft, sha256 = None, ""
        with findings.part():  # every failure is already reported
            file = read_object(
                source, spool, limits, on_bytes, exact=exact, wanted=how.wanted.object_name, findings=findings,
                threads=how.threads,
            )  # fmt: skip
            sha256 = file.sha256
            course("making the experiment", course.shares.read)
            root, scratch = file.root, Scratch(spool, how.writing)
            if isinstance(root, RS4) and is_summarized(root):
                from cellworker.formats.bioconductor.reader import read_bioconductor  # noqa: PLC0415 - few objects

                draft = read_bioconductor(root, findings, scratch, outside, how.wanted)
            else:
                draft = read_seurat(root, findings, scratch, outside, how.wanted)
            if draft is not None and file.name:
                draft.extra["object"] = file.name
        return draft, sha256

    found = Findings()
    draft, sha256 = made(folder, found, exact=False)
    if draft is not None and draft.counts is not None and _is_rounded(draft.counts):
        again = folder / "exact"
        again.mkdir()
        found = Findings()
        draft, sha256 = made(again, found, exact=True)
    how.findings.problems += found.problems
    if draft is not None:
        draft.extra["sha256"] = sha256
    companions = {name: companion.to_json() for name, companion in outside.companions.items()}
    return draft, outside.key(sha256), companions


def _is_rounded(counts: SparseDraft) -> bool:
    """Return whether counts are so large that the float32 in which they were read may have rounded them."""
    if counts.values.dtype != np.float32:
        return False
    return any(
        bool(np.any(np.isfinite(block) & (block >= _EXACT_IN_FLOAT32)))
        for block in (counts.values[start:end] for start, end in blocks(len(counts.values)))
    )


def _anndata(source: Path, how: _How) -> tuple[ExperimentDraft | None, str]:
    from cellworker.formats.anndata.containers.opening import open_anndata  # noqa: PLC0415 - an .rds file needs no h5py here
    from cellworker.formats.anndata.reader import read_anndata  # noqa: PLC0415

    hashes = FolderHash()
    with (
        ThreadPoolExecutor(1, "hash") as background,
        open_anndata(source, how.max_bytes, how.threads, hashes, maps=how.alone) as root,
    ):
        how.course.shares = _Shares.of(FileKind.ANNDATA, make=how.wanted.make and _lacks_much(root))
        is_folder = source.is_dir()
        key = background.submit(content_hash, source) if not is_folder else None
        large = background.submit(hashes.hash_large, source)

        tell = part_of(how.course, 0, how.course.shares.read)
        draft = read_anndata(root, how.findings, Scratch(how.folder, how.writing), tell, how.wanted)
        large.result()
        return draft, key.result() if key is not None else hashes.finish(source)


def _lacks_much(root: TreeGroup) -> bool:
    """Guess by names whether a file lacks what takes long to make: doublet scores, or a map. For progress alone."""
    from cellworker.formats.anndata.elements import is_group  # noqa: PLC0415 - an .rds file needs none

    with suppress(WorkerError):
        found = [root.get(place) for place in ("obs", "obsm")]
        columns, arrays = ([name.lower() for name in node.names()] if is_group(node) else [] for node in found)
        has_map = any(kind in name for kind in ("umap", "tsne") for name in arrays)
        return not (has_map and any("doublet" in name for name in columns))
    return True


def _foreign(kind: FileKind, source: Path, how: _How) -> tuple[ExperimentDraft | None, str, dict[str, list[int]]]:
    from cellworker.formats.anndata.reader import read_anndata  # noqa: PLC0415
    from cellworker.formats.foreign.showing import companions_of_matrix, show  # noqa: PLC0415
    from cellworker.formats.foreign.shown import Reading  # noqa: PLC0415

    names = companions_of_matrix(source) if kind is FileKind.MATRIX_MARKET else []
    companions = companions_of(source.parent, names)
    how.writing.admit(sum(size_of(source.parent / name) for name in names))
    scratch = Scratch(how.folder, how.writing)
    wanted = how.wanted
    reading = Reading(scratch, how.findings, how.max_bytes, how.threads, wanted.part, wanted.orientation)
    how.course("reading the file", 0.0)
    with ThreadPoolExecutor(1, "hash") as background:
        hashes = [background.submit(content_hash, path) for path in (source, *(source.parent / name for name in names))]
        with show(kind.name, source, reading, lambda path: kind_of(path).name) as shown:
            if shown is None:
                return None, "", companions

            tell = part_of(how.course, how.course.shares.read / 2, how.course.shares.read)
            draft = read_anndata(shown.root, how.findings, scratch, tell, wanted)
    sha256, *others = (found.result() for found in hashes)
    if draft is not None:
        draft.origin = replace(draft.origin, writer=shown.writer or draft.origin.writer)
        draft.extra["sha256"] = sha256
        draft.extra["shown"] = {"kind": kind.name, "part": wanted.part, "orientation": wanted.orientation}
    key = hashlib.sha256(json.dumps([sha256, *others]).encode()).hexdigest() if others else sha256
    return draft, key, companions
