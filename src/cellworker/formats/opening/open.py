"""Opening an experiment: from its store in milliseconds, from its file when there is none yet."""

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.store.store import StoredExperiment, open_store
from cellworker.formats.common.cells.derive import derived_from
from cellworker.formats.common.companions import companions_of
from cellworker.formats.common.findings import Findings, Problem
from cellworker.formats.common.kinds import is_hdf5
from cellworker.formats.common.locating import Located, locate
from cellworker.formats.common.matrices.matrix_choice import MatrixChoice
from cellworker.formats.common.stages import OPENING
from cellworker.formats.opening.kept_cell_sets import parse_kept
from cellworker.formats.opening.own_work import OwnWork, OwnWorkFile
from cellworker.formats.opening.shelf import Fingerprint, Shelf, store_file
from cellworker.formats.opening.store_guard import CUT_SHORT, READ_AT_ONCE_BYTES, discard
from cellworker.identifiers import StoreName
from cellworker.logs import log
from cellworker.progress import Progress, RepeatedProgress
from cellworker.settings import Settings

__all__ = ["Located", "Opened", "locate", "open_experiment", "open_source", "own_work_of"]

_MIN_S, _PER_MEGABYTE_S = 120.0, 60.0
_MAKING = 0.5  # of the time for reading: making missing parts must not prevent the opening
_MEGABYTE, _GIGABYTE = 1 << 20, 1 << 30

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """An open experiment.

    Attributes
    ----------
    experiment, cell_sets
        The experiment and its cell sets.
    store
        The mapped file that the experiment is in; other processes open it with `open_store`.
    source
        The file that it was read from.
    cell_sets_path
        The file that the cell sets came from; beside the store when they were derived.
    derived_cell_sets
        Whether they were made from the experiment's own metadata, because there was no file.
    own_work_file
        Where a person's own cell sets of local runs are kept.
    own_work
        The work stored there, also part of `cell_sets`; None where there is none.
    """

    experiment: StoredExperiment
    cell_sets: CellSets
    store: Path
    source: Path
    cell_sets_path: Path
    derived_cell_sets: bool
    own_work_file: OwnWorkFile
    own_work: OwnWork | None = None


def open_experiment(path: Path, settings: Settings, on_progress: Progress | None = None) -> Opened:
    """Open an experiment and its cell sets.

    A file that was read before, and has not changed since, is not read again: its store is mapped. Otherwise it is
    read in a child process with limits on memory and time, its store is kept in ``settings.store_dir``, and nothing
    else stays behind, also after an error.

    Parameters
    ----------
    path
        A folder or a file, see `locate`.
    settings
        Where stores are, how large they may grow, and the limits of reading.
    on_progress
        Called with the progress of the reading, from this thread, and with the same again while a step is silent; not
        called when a store exists and is opened at once.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_NOT_FOUND``, ``EXPERIMENT_UNREADABLE``, ``EXPERIMENT_UNSUPPORTED``, ``CELL_SETS_INVALID``,
        ``EXPERIMENT_OUT_OF_DATE`` (the file changed while it was read), ``OUT_OF_MEMORY``, ``DEADLINE_EXCEEDED``,
        ``DISK_FULL``.
    """
    located = locate(path)
    shelf = Shelf(settings.store_dir, int(settings.store_max_gb * _GIGABYTE), matrix_choice(settings))
    progress = RepeatedProgress(on_progress, OPENING)
    store, experiment = _open_source(shelf, located.source, settings, progress)
    try:
        opened = progress.during(partial(_with_cell_sets, located, shelf, store, experiment, settings))
        if experiment.is_whole:
            return opened
        discard(experiment, CUT_SHORT)
    except Exception:
        # Names that are no text any more, for example: a large store is compared with its checksums after this.
        reason = experiment.damage()
        if reason is None:
            raise
        discard(experiment, reason)
    store, experiment = _open_source(shelf, located.source, settings, progress)
    return progress.during(partial(_with_cell_sets, located, shelf, store, experiment, settings))


def _with_cell_sets(
    located: Located, shelf: Shelf, store: Path, experiment: StoredExperiment, settings: Settings
) -> Opened:
    beside, derived = located.cell_sets, located.cell_sets is None
    if beside is None:
        beside = shelf.cell_sets_of(store)
        cell_sets = _derived(shelf, experiment, beside)
    else:
        cell_sets = _parse(shelf, store, beside)
    own_work_file = own_work_of(located.source, experiment, cell_sets, settings)
    own_work = own_work_file.read()
    return Opened(
        experiment,
        own_work.cell_sets if own_work is not None else cell_sets,
        store,
        located.source,
        beside,
        derived_cell_sets=derived,
        own_work_file=own_work_file,
        own_work=own_work,
    )


def own_work_of(source: Path, experiment: StoredExperiment, base: CellSets, settings: Settings) -> OwnWorkFile:
    """Return where a person's own work on an experiment is kept; `base` are the cell sets that it has without it."""
    from cellworker.sample import sample_path  # noqa: PLC0415 - imports what a worker in the cloud does not need

    earlier = sorted((settings.data_dir / ".cell_sets").glob(f"*-{experiment.key[:16]}.json"))
    return OwnWorkFile(
        source,
        experiment.key,
        base,
        experiment.cell_ids,
        lambda: experiment.barcodes,  # 90 MB for a million cells, which only own cell sets need
        keep_out=source.resolve().is_relative_to(sample_path().resolve()),
        earlier=earlier[0] if earlier else None,
    )


def matrix_choice(settings: Settings) -> MatrixChoice:
    """Return what the settings say about the matrices of files."""
    return MatrixChoice(
        settings.counts_matrix,
        settings.data_matrix,
        settings.sample_column,
        drop_genes=settings.drop_genes,
        object_name=settings.object_name,
        make=settings.make_missing,
        part=settings.file_part,
        orientation=settings.orientation,
    )


def open_source(
    source: Path, settings: Settings, on_progress: Progress | None = None, *, cells_only: bool = False
) -> tuple[Path, StoredExperiment]:
    """Open one experiment file without its cell sets; returns its store and what is in it.

    With `cells_only` the experiment is without `data`: reading the counts of cells needs no gene-major side.
    """
    choice = replace(matrix_choice(settings), cells_only=cells_only)
    shelf = Shelf(settings.store_dir, int(settings.store_max_gb * _GIGABYTE), choice)
    return _open_source(shelf, source, settings, RepeatedProgress(on_progress, OPENING))


def _open_source(
    shelf: Shelf, source: Path, settings: Settings, progress: RepeatedProgress
) -> tuple[Path, StoredExperiment]:
    shelf.sweep()
    found = _warm(shelf, shelf.known(source))
    if found is not None:
        return found
    with shelf.building(source, progress) as spool:
        # Another process may have read it while this one waited.
        found = _warm(shelf, shelf.known(source), alone=True)
        if found is not None:
            return found
        seen = Fingerprint.of(source)
        stop = np.zeros(1, np.int32)
        same = progress.during(partial(shelf.same_content, source, seen.size, stop), stop)
        found = _warm(shelf, same, alone=True)
        if found is not None:
            shelf.remember(source, seen, found[0])
            return found
        experiment, companions = _cold(shelf, source, spool, settings, progress, size=seen.size)
        if Fingerprint.of(source) != seen or companions_of(source.resolve().parent, companions) != companions:
            message = f"{source.name} changed while it was being read: open it again when it is complete"
            raise WorkerError(ErrorCode.EXPERIMENT_OUT_OF_DATE, message)
        shelf.remember(source, seen, experiment.store, companions)
    progress.during(partial(shelf.prune, experiment.store))
    return experiment.store, experiment


def _warm(shelf: Shelf, store: Path | None, *, alone: bool = False) -> tuple[Path, StoredExperiment] | None:
    """Map a store that exists and is undamaged; `alone` says that no other process can be making it again."""
    if store is None:
        return None
    try:
        experiment = open_store(store)
    except WorkerError as error:
        if alone and error.code is not ErrorCode.EXPERIMENT_NOT_FOUND:
            store.unlink(missing_ok=True)
            log(_logger, logging.WARNING, "store damaged, to be made again", store=store.name, reason=error.message)
        return None
    reason = experiment.damage() if experiment.n_bytes <= READ_AT_ONCE_BYTES else None
    if reason is not None:
        discard(experiment, reason)
        return None
    shelf.used(store)
    experiment.survive_faults()
    return store, experiment


def _timeout_s(source: Path, max_s: float) -> float:
    """Return the max time for reading: the HDF5 library can loop forever on damaged text, however small the file."""
    if not is_hdf5(source):
        return max_s
    return min(max_s, _MIN_S + _PER_MEGABYTE_S * source.stat().st_size / 1e6)


def _cold(
    shelf: Shelf, source: Path, spool: Path, settings: Settings, progress: RepeatedProgress, *, size: int
) -> tuple[StoredExperiment, dict[str, list[int]]]:
    from cellworker.formats.opening.sandbox import run_sandboxed  # noqa: PLC0415 - a warm open needs no child process

    timeout_s = _timeout_s(source, settings.load_timeout_s)
    answer: dict[str, Any] = run_sandboxed(
        "cellworker.formats.opening.loading:load",
        {
            "source": str(source.resolve()),
            "size": size,
            "alone": True,
            "spool": str(spool),
            "max_bytes": int(settings.load_max_gb * _GIGABYTE),
            "max_ratio": settings.load_max_ratio,
            "threads": settings.threads,
            "choice": shelf.choice.to_json(),
            "buffer_bytes": int(settings.load_buffer_mb * _MEGABYTE),
            "memory_bytes": int(settings.load_memory_gb * _GIGABYTE),
            "make_s": _MAKING * timeout_s,
        },
        memory_bytes=int(settings.load_memory_gb * _GIGABYTE),
        timeout_s=timeout_s,
        max_file_bytes=int(settings.load_max_gb * _GIGABYTE),
        on_progress=progress,
    )
    if "store" not in answer:
        findings = Findings()
        findings.problems = [Problem.from_json(problem) for problem in answer["problems"]]
        findings.raise_errors()
    key = StoreName(str(answer["store"]))
    # Opened first, so that it is in use before other processes can see it, and remove it to free space.
    experiment = open_store(spool / store_file(key))
    experiment.store = progress.during(partial(shelf.adopt, spool, key))
    experiment.survive_faults()
    return experiment, answer["companions"]


def _parse(shelf: Shelf, store: Path, path: Path) -> CellSets:
    try:
        content = path.read_bytes()
    except OSError as error:
        message = f"{path.name} cannot be read: {error.strerror or error}"
        raise WorkerError(ErrorCode.CELL_SETS_INVALID, message) from None
    return parse_kept(shelf, store, content)


def _derived(shelf: Shelf, experiment: StoredExperiment, path: Path) -> CellSets:
    if path.exists():
        try:
            return _parse(shelf, experiment.store, path)
        except WorkerError:
            # Cut short by a full disk or a killed process: made again below.
            path.unlink(missing_ok=True)
    cell_sets = derived_from(experiment)
    shelf.write(path, cell_sets.encode())
    return cell_sets
