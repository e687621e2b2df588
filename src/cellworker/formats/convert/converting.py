"""Converts any experiment file to any other, and reports what is kept, renamed, or without a place in the other format.

====================  ==========================================================================================
AnnData to AnnData    the file as it is (`cellworker.formats.anndata.copying`)
Seurat to `.rds`      the object as it is (`cellworker.formats.seurat.write.annotated`)
Bioconductor to       the object as it is (`cellworker.formats.convert.bioconductor_copying`)
`.sce.rds`
from one to another   the experiment, and beside it every element of the source's tree
anything to 10x       counts, barcodes and features (`cellworker.formats.convert.tenx`)
other formats         shown as AnnData (`cellworker.formats.foreign`), then as above
====================  ==========================================================================================

Cell sets of a file of their own become columns of the cells' metadata.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Categorical, Reduction
from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.common.cells.annotated_columns import Annotated, annotated_columns
from cellworker.formats.common.cells.names import DIMENSION_PREFIXES
from cellworker.formats.common.ledger import Conversion
from cellworker.formats.common.locating import CELL_SETS
from cellworker.formats.common.provenance import Provenance, stamp
from cellworker.formats.common.whole_files import write_whole
from cellworker.formats.convert.conversion_job import TENX, ConversionJob, RdsClass
from cellworker.formats.convert.placing import check_target, holds, placed, remove
from cellworker.formats.opening.open import Opened, open_experiment
from cellworker.formats.opening.store_guard import verified
from cellworker.formats.opening.tree import is_foreign
from cellworker.progress import Progress, silent
from cellworker.settings import Settings

__all__ = ["Conversion", "RdsClass", "convert", "write_annotated_copy"]

_SCE_ENDING = ".sce.rds"


def convert(
    source: Path,
    target: Path,
    settings: Settings,
    *,
    force: bool = False,
    rds_class: RdsClass = "Seurat",
    records: Sequence[Provenance] | None = None,
    on_progress: Progress | None = None,
) -> Conversion:
    """Write an experiment in the format that the target's name ends in: ``.rds``, ``.h5ad``, ``.zarr``, ``.h5`` (10x).

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
    rds_class
        The class of the object in an ``.rds`` file. A name that ends in ``.sce.rds`` asks for a SingleCellExperiment.
    records
        The steps recorded as making the target, where the source is only a file on the way; by default this conversion.
    on_progress
        Called with the stage and the fraction done; raising stops it and leaves nothing behind.

    Returns
    -------
    What became of every element of the source.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` for a target that cannot be written, ``DISK_FULL``, ``EXPERIMENT_OUT_OF_DATE`` when the source
        changes meanwhile, or what opening the source raises.
    """
    kind, report = target.suffix.lower(), on_progress or silent
    check_target(source, target, kind, (target,), force=force)
    with placed(target) as place:
        out, cell_sets = verified(
            lambda: open_experiment(source, settings, on_progress),
            lambda opened: opened.experiment,
            lambda opened: _written(
                opened, target, place, settings, force=force, rds_class=rds_class, report=report, records=records
            ),
        )
    if cell_sets is not None:
        write_whole(_beside(target), cell_sets.encode())
    return out


def _written(
    opened: Opened,
    target: Path,
    place: Path,
    settings: Settings,
    *,
    force: bool,
    rds_class: RdsClass,
    report: Progress,
    records: Sequence[Provenance] | None,
) -> tuple[Conversion, CellSets | None]:
    """Write the target's content to a place; returns the cell sets that go beside the target, None where none do."""
    remove(place)
    kind, experiment = target.suffix.lower(), opened.experiment
    beside = _beside(target)
    # Sets that were derived from columns are in these columns already; a person's own are not.
    own = opened.own_work.own if opened.own_work is not None else None
    cell_sets = opened.cell_sets if own is not None or not opened.derived_cell_sets else None
    # The same sets are there already where an experiment was converted to several formats.
    written = () if cell_sets is None or holds(beside, cell_sets) else (beside,)
    check_target(opened.source, target, kind, written, force=force)
    annotated = annotated_columns(experiment, own if opened.derived_cell_sets else cell_sets)
    if opened.derived_cell_sets and not annotated.clusters:
        _mark_derived(opened.cell_sets, annotated)
    if target.name.lower().endswith(_SCE_ENDING):
        rds_class = "SingleCellExperiment"
    job = ConversionJob(opened.source, experiment, annotated, kind, settings.threads, report, rds_class=rds_class)
    out = job.write(place) if kind == TENX else _described(job, job.write(place))
    parameters = {"rds_class": rds_class} if kind == ".rds" and rds_class != "Seurat" else {}
    made = Provenance.of("convert", parameters, source=opened.source, sha256=experiment.source_sha256)
    # A copy of an AnnData to which nothing was added is its source to the byte, with the source's own records.
    if not (job.is_plain_copy and not is_foreign(experiment.extra)):
        stamp(place, [made] if records is None else records, kind=kind)
    if cell_sets is not None:
        out.kept.append(f"cell sets as they are, in {beside.name}")
    if opened.own_work is not None:
        out.kept.append(f"among them {opened.own_work.n_sets} of your own, from {opened.own_work.path.name}")
        out.lost += opened.own_work.notes
    return out, cell_sets


def _beside(target: Path) -> Path:
    """Return where `locate` looks for the cell sets of a target."""
    return target.with_name(f"{target.stem}.{CELL_SETS}")


def write_annotated_copy(
    source: Path,
    experiment: StoredExperiment,
    columns: Mapping[str, Categorical | NDArray[np.bool_]],
    target: Path,
    *,
    identities: str | None = None,
    embedding: tuple[str, NDArray[np.float64]] | None = None,
    threads: int = 1,
    on_progress: Progress | None = None,
) -> Conversion:
    """Write an experiment with further columns of cell metadata, in the format that the target's name ends in.

    Everything else of the source is in the copy, as `convert` has it.

    Parameters
    ----------
    source
        The file that the experiment was read from.
    columns
        One label or truth value for every cell, in matrix order; they replace columns of the same names.
    target
        Ends in ``.h5ad``, ``.zarr`` or ``.rds``. Appears when it is complete, or not at all; replaced if it exists.
    identities
        The column whose labels become Seurat's active identities.
    embedding
        A name (umap, tsne) and coordinates, float64 ``(n_cells, n_dims)``, instead of a reduction of that name.
    threads
        Threads that compress.
    on_progress
        Called with the stage and the fraction done; raising stops it and leaves nothing behind.

    Raises
    ------
    WorkerError
        ``DISK_FULL``; ``EXPERIMENT_OUT_OF_DATE`` when the source has changed; ``EXPERIMENT_UNSUPPORTED`` when R cannot
        hold that many values.
    """
    annotated = Annotated({**experiment.metadata, **columns}, clusters=identities or "", new=set(columns))
    labels = columns.get(identities) if identities is not None else None
    annotated.identities = labels if isinstance(labels, Categorical) else None
    kind = target.suffix.lower()
    new = None
    if embedding is not None:
        new = (embedding[0], Reduction(embedding[1], DIMENSION_PREFIXES.get(embedding[0], "")))
    with placed(target) as place:
        return ConversionJob(source, experiment, annotated, kind, threads, on_progress or silent, new).write(place)


def _mark_derived(cell_sets: CellSets, annotated: Annotated) -> None:
    """Say which column the clusters come from."""
    clusters = cell_sets.clusters
    annotated.clusters = clusters.column if clusters is not None and clusters.column in annotated.columns else ""


def _described(job: ConversionJob, found: Conversion) -> Conversion:
    experiment, annotated = job.experiment, job.annotated
    counts, scaled = experiment.counts, experiment.scaled
    made = experiment.extra.get("made_parts", {}) if job.is_copy else {}
    kept = [
        f"{experiment.n_cells:,} cells and {len(experiment.genes):,} genes",
        f"log-normalised expression ({len(experiment.data_by_cell.values):,} values)",
    ]
    if counts is not None:
        kept.append(f"raw counts ({len(counts.values):,} values)")
    if scaled is not None:
        kept.append(f"scaled values of {len(scaled.genes):,} genes")
    for what, names in (
        ("metadata", [name for name in experiment.metadata if name not in made.get("columns", ())]),
        ("reductions", [name for name in experiment.reductions if name not in made.get("reductions", ())]),
        ("graphs", list(experiment.graphs)),
        ("cell sets as columns", annotated.added),
        ("colours of", list(annotated.colors)),
    ):
        if names:
            kept.append(f"{what}: {', '.join(names)}")
    lost = []
    if job.kind == ".rds" and counts is not None and counts.values.dtype == np.int64:
        rounded = int(np.count_nonzero(counts.values.astype(np.float64).astype(np.int64) != counts.values))
        if rounded:
            lost.append(f"raw counts: {rounded:,} above 2^53 are rounded, since R's numbers are doubles")
    return Conversion([*kept, *found.kept], [*annotated.renamed, *found.renamed], [*annotated.lost, *found.lost, *lost])
