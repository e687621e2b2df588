"""From any experiment file to any other: what was kept, what was renamed, what the other format has no place for."""

import errno
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Categorical, Experiment, Reduction
from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.common.annotated_columns import Annotated, annotated_columns
from cellworker.formats.common.kinds import is_zarr
from cellworker.formats.common.locating import CELL_SETS
from cellworker.formats.opening.open import OpenProgress, open_experiment
from cellworker.settings import Settings

__all__ = ["Conversion", "convert", "write_annotated_copy"]

KINDS = (".rds", ".h5ad", ".zarr")
KEYS = {"pca": "PC_", "umap": "UMAP_", "tsne": "tSNE_"}
"""How Seurat begins the names of a reduction's dimensions."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(slots=True)
class Conversion:
    """What became of an experiment's parts, in words."""

    kept: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def convert(
    source: Path,
    target: Path,
    settings: Settings,
    *,
    force: bool = False,
    on_progress: OpenProgress | None = None,
) -> Conversion:
    """Write an experiment in the format that the target's name ends in: ``.rds``, ``.h5ad`` or ``.zarr``.

    Cell sets become columns of the cells' metadata; where the source has a file of them, the same file goes beside the
    target, under the name that `locate` looks for. The target appears when it is complete, or not at all.

    Parameters
    ----------
    source
        What `open_experiment` opens.
    target
        The file (for ``.zarr`` the folder) to write.
    force
        Whether what is there already may be replaced.
    on_progress
        Told the stage and the fraction done; raising stops it and leaves nothing behind.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` for a target that cannot be written, ``DISK_FULL``, or what opening the source raises.
    """
    kind, report = target.suffix.lower(), on_progress or _silent
    beside = target.with_name(f"{target.stem}.{CELL_SETS}")
    _check_target(source, target, kind, (target,), force=force)
    opened = open_experiment(source, settings, on_progress)
    experiment = opened.experiment
    # Sets that were derived from columns are in these columns already; a person's own are not.
    own = opened.own_work.own if opened.own_work is not None else None
    cell_sets = opened.cell_sets if own is not None or not opened.derived_cell_sets else None
    # The same sets are there already where an experiment was converted to several formats.
    written = () if cell_sets is None or _holds(beside, cell_sets) else (beside,)
    _check_target(opened.source, target, kind, written, force=force)
    annotated = annotated_columns(experiment, own if opened.derived_cell_sets else cell_sets)
    if opened.derived_cell_sets and not annotated.clusters:
        _mark_derived(experiment, opened.cell_sets, annotated)
    out = _described(experiment, annotated, kind)
    out.renamed += _write(
        _Content(experiment, annotated, experiment.reductions), target, kind, settings.threads, report
    )
    if cell_sets is not None:
        _replace_file(beside, cell_sets.encode())
        out.kept.append(f"cell sets as they are, in {beside.name}")
    if opened.own_work is not None:
        out.kept.append(f"among them {opened.own_work.n_sets} of your own, from {opened.own_work.path.name}")
        out.lost += opened.own_work.notes
    return out


def write_annotated_copy(
    experiment: Experiment,
    columns: Mapping[str, Categorical | NDArray[np.bool_]],
    target: Path,
    *,
    identities: str | None = None,
    embedding: tuple[str, NDArray[np.float64]] | None = None,
    threads: int = 1,
    on_progress: OpenProgress | None = None,
) -> None:
    """Write an experiment with further columns of cell metadata, in the format that the target's name ends in.

    For ``.rds`` this makes a fresh object; one that was read from an ``.rds`` file is better edited, which keeps what
    an experiment does not hold.

    Parameters
    ----------
    columns
        One label or truth value for every cell, in matrix order; they replace columns of the same names.
    target
        Ends in ``.h5ad``, ``.zarr`` or ``.rds``. Appears when it is complete, or not at all; replaced if it exists.
    identities
        The column whose labels become Seurat's active identities.
    embedding
        A name (umap, tsne) and coordinates, float64 ``(n_cells, n_dims)``, in place of a reduction of that name.
    threads
        How many compress.
    on_progress
        Told the stage and the fraction done; raising stops it and leaves nothing behind.

    Raises
    ------
    WorkerError
        ``DISK_FULL``; ``EXPERIMENT_UNSUPPORTED`` when R cannot hold that many values.
    """
    annotated = Annotated({**experiment.metadata, **columns}, clusters=identities or "")
    reductions = dict(experiment.reductions)
    if embedding is not None:
        reductions[embedding[0]] = Reduction(embedding[1], KEYS.get(embedding[0], ""))
    content = _Content(experiment, annotated, reductions)
    _write(content, target, target.suffix.lower(), threads, on_progress or _silent)


def _silent(stage: str, fraction: float | None = None) -> None:
    pass


def _check_target(source: Path, target: Path, kind: str, written: tuple[Path, ...], *, force: bool) -> None:
    problem = ""
    if kind not in KINDS:
        problem = f"end its name in {', '.join(KINDS[:-1])} or {KINDS[-1]}"
    elif not target.parent.is_dir():
        problem = f"there is no folder {target.parent}"
    elif target.exists() and source.exists() and target.samefile(source):
        problem = "that is the experiment itself: give another name"
    elif kind != ".zarr" and target.is_dir():
        problem = "that is a folder: name a file"
    elif target.is_dir() and not is_zarr(target):
        problem = "that is a folder, but no Zarr store: name another"
    else:
        there = next((path for path in written if path.exists()), None)
        if there is not None and not force:
            problem = f"{there} exists already: give another name, or --force to replace it"
    if problem:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{target}: {problem}")


def _holds(path: Path, cell_sets: CellSets) -> bool:
    try:
        return path.read_bytes() == cell_sets.encode()
    except OSError:
        return False


def _mark_derived(experiment: StoredExperiment, cell_sets: CellSets, annotated: Annotated) -> None:
    """Keep the colours of labels, and say which column the clusters come from."""
    colors: Mapping[str, list[str]] = experiment.extra.get("colors", {})
    annotated.colors |= {name: found for name, found in colors.items() if name in annotated.columns}
    clusters = cell_sets.clusters
    annotated.clusters = clusters.column if clusters is not None and clusters.column in annotated.columns else ""


def _described(experiment: StoredExperiment, annotated: Annotated, kind: str) -> Conversion:
    counts, scaled = experiment.counts, experiment.scaled
    kept = [
        f"{experiment.n_cells:,} cells and {len(experiment.genes):,} genes",
        f"log-normalised expression ({len(experiment.data_by_cell.values):,} values)",
    ]
    if counts is not None:
        kept.append(f"raw counts ({len(counts.values):,} values)")
    if scaled is not None:
        kept.append(f"scaled values of {len(scaled.genes):,} genes")
    for what, names in (
        ("metadata", list(experiment.metadata)),
        ("reductions", list(experiment.reductions)),
        ("graphs", list(experiment.graphs)),
        ("cell sets as columns", annotated.added),
        ("colours of", list(annotated.colors) if kind != ".rds" else []),
    ):
        if names:
            kept.append(f"{what}: {', '.join(names)}")
    lost = [f"{name} of the source" for name in experiment.extra.get("left_out", [])]
    if kind == ".rds" and annotated.colors:
        lost.append(f"colours of {', '.join(annotated.colors)}: Seurat has no place for them")
    return Conversion(kept, list(annotated.renamed), [*annotated.lost, *lost])


@dataclass(frozen=True, slots=True)
class _Content:
    experiment: Experiment
    annotated: Annotated
    reductions: Mapping[str, Reduction]


def _write(content: _Content, target: Path, kind: str, threads: int, report: OpenProgress) -> list[str]:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        renamed = _write_as(content, temporary, kind, threads, report)
        _replace(temporary, target)
    except OSError as error:
        # h5py hides the error number in its sentence.
        if error.errno in _FULL or any(f"errno = {code}," in str(error) for code in _FULL):
            message = f"there is no room for {target}: free some space on its disk"
            raise WorkerError(ErrorCode.DISK_FULL, message) from error
        raise
    finally:
        _remove(temporary)
    return renamed


def _write_as(content: _Content, path: Path, kind: str, threads: int, report: OpenProgress) -> list[str]:
    experiment, annotated, reductions = content.experiment, content.annotated, content.reductions
    if kind == ".rds":
        from cellworker.formats.seurat.write.fresh import write_seurat  # noqa: PLC0415

        report("writing the Seurat object")
        return write_seurat(experiment, annotated, path, reductions=reductions)
    from cellworker.formats.anndata.writer import write_anndata  # noqa: PLC0415 - h5py only where it is needed

    if kind == ".zarr":
        from cellworker.formats.anndata.zarr_out import ZarrSink  # noqa: PLC0415

        with ZarrSink(path, threads) as store:
            return write_anndata(experiment, annotated, store, reductions=reductions, progress=report)
    from cellworker.formats.anndata.hdf5_out import Hdf5Sink  # noqa: PLC0415

    with Hdf5Sink(path, threads) as file:
        return write_anndata(experiment, annotated, file, reductions=reductions, progress=report)


def _replace(temporary: Path, target: Path) -> None:
    if target.is_dir():  # a folder cannot be renamed over another
        old = target.with_name(f".{target.name}.{secrets.token_hex(6)}.old")
        target.rename(old)
        temporary.rename(target)
        _remove(old)
    elif temporary.is_dir() and target.exists():
        target.unlink()
        temporary.rename(target)
    else:
        temporary.replace(target)


def _replace_file(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
