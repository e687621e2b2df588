"""From any experiment file to any other: what was kept, what was renamed, what the other format has no place for.

====================  ==========================================================================================
AnnData to AnnData    the file as it is (`cellworker.formats.anndata.copying`)
Seurat to `.rds`      the object as it is (`cellworker.formats.seurat.write.annotated`)
from one to another   the experiment, and beside it every element of the source's tree
====================  ==========================================================================================

Cell sets of a file of their own become columns of the cells' metadata.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Categorical, Column, Reduction
from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.common.cells.annotated_columns import Annotated, annotated_columns
from cellworker.formats.common.kinds import content_hash
from cellworker.formats.common.ledger import Conversion
from cellworker.formats.common.locating import CELL_SETS
from cellworker.formats.convert.placing import check_target, holds, placed, replace_file
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.r.rds.model import RS4
from cellworker.formats.r.reading import read_exactly
from cellworker.progress import Progress, silent
from cellworker.settings import Settings

__all__ = ["Conversion", "convert", "write_annotated_copy"]

KEYS = {"pca": "PC_", "umap": "UMAP_", "tsne": "tSNE_"}
"""How Seurat begins the names of a reduction's dimensions."""


def convert(
    source: Path,
    target: Path,
    settings: Settings,
    *,
    force: bool = False,
    on_progress: Progress | None = None,
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
    beside = target.with_name(f"{target.stem}.{CELL_SETS}")
    check_target(source, target, kind, (target,), force=force)
    opened = open_experiment(source, settings, on_progress)
    experiment = opened.experiment
    # Sets that were derived from columns are in these columns already; a person's own are not.
    own = opened.own_work.own if opened.own_work is not None else None
    cell_sets = opened.cell_sets if own is not None or not opened.derived_cell_sets else None
    # The same sets are there already where an experiment was converted to several formats.
    written = () if cell_sets is None or holds(beside, cell_sets) else (beside,)
    check_target(opened.source, target, kind, written, force=force)
    annotated = annotated_columns(experiment, own if opened.derived_cell_sets else cell_sets)
    if opened.derived_cell_sets and not annotated.clusters:
        _mark_derived(opened.cell_sets, annotated)
    job = _Job(opened.source, experiment, annotated, kind, settings.threads, report)
    out = _described(experiment, annotated, job.write(target), kind)
    if cell_sets is not None:
        replace_file(beside, cell_sets.encode())
        out.kept.append(f"cell sets as they are, in {beside.name}")
    if opened.own_work is not None:
        out.kept.append(f"among them {opened.own_work.n_sets} of your own, from {opened.own_work.path.name}")
        out.lost += opened.own_work.notes
    return out


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
        A name (umap, tsne) and coordinates, float64 ``(n_cells, n_dims)``, in place of a reduction of that name.
    threads
        How many compress.
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
        new = (embedding[0], Reduction(embedding[1], KEYS.get(embedding[0], "")))
    return _Job(source, experiment, annotated, kind, threads, on_progress or silent, new).write(target)


def _mark_derived(cell_sets: CellSets, annotated: Annotated) -> None:
    """Say which column the clusters come from."""
    clusters = cell_sets.clusters
    annotated.clusters = clusters.column if clusters is not None and clusters.column in annotated.columns else ""


def _described(experiment: StoredExperiment, annotated: Annotated, found: Conversion, kind: str) -> Conversion:
    counts, scaled = experiment.counts, experiment.scaled
    as_it_is = (kind == ".rds") != (experiment.origin.assay_class == "AnnData")
    # What was made while the source was read is not in a copy of the source.
    made = experiment.extra.get("made_parts", {}) if as_it_is else {}
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
    if kind == ".rds" and counts is not None and counts.values.dtype == np.int64:
        rounded = int(np.count_nonzero(counts.values.astype(np.float64).astype(np.int64) != counts.values))
        if rounded:
            lost.append(f"raw counts: {rounded:,} above 2^53 are rounded, since R's numbers are doubles")
    return Conversion([*kept, *found.kept], [*annotated.renamed, *found.renamed], [*annotated.lost, *found.lost, *lost])


@dataclass(frozen=True, slots=True)
class _Job:
    """One file to write."""

    source: Path
    experiment: StoredExperiment
    annotated: Annotated
    kind: str
    threads: int
    report: Progress
    embedding: tuple[str, Reduction] | None = None

    @property
    def added(self) -> dict[str, Column]:
        """Columns that the source has not, or has otherwise."""
        return {name: column for name, column in self.annotated.columns.items() if name in self.annotated.new}

    def write(self, target: Path) -> Conversion:
        """Write it, whole or not at all."""
        with placed(target) as path:
            to_rds, from_anndata = self.kind == ".rds", self.experiment.origin.assay_class == "AnnData"
            if from_anndata and to_rds:
                return self._anndata_to_rds(path)
            if from_anndata:
                return self._anndata(path)
            return self._seurat_to_rds(path) if to_rds else self._seurat_to_anndata(path)

    def _reductions(self) -> dict[str, Reduction]:
        new = dict([self.embedding]) if self.embedding is not None else {}
        return {**self.experiment.reductions, **new}

    def _anndata(self, path: Path) -> Conversion:
        from cellworker.formats.anndata.copying import Additions, copy_anndata  # noqa: PLC0415 - h5py where needed

        colors = {name: found for name, found in self.annotated.colors.items() if name in self.annotated.new}
        additions = Additions(self.added, colors, self.embedding)
        ledger, renamed = copy_anndata(
            self.source, path, additions, zarr=self.kind == ".zarr", sha256=self.experiment.source_sha256,
            threads=self.threads, progress=self.report,
        )  # fmt: skip
        return _with(ledger.close(), renamed)

    def _anndata_to_rds(self, path: Path) -> Conversion:
        from cellworker.formats.anndata.containers.opening import open_anndata  # noqa: PLC0415
        from cellworker.formats.seurat.write.fresh import write_seurat  # noqa: PLC0415
        from cellworker.formats.seurat.write.from_anndata import extras_from_anndata  # noqa: PLC0415

        self.report("writing the Seurat object")
        with open_anndata(self.source, 1 << 50, self.threads) as root:
            found = extras_from_anndata(root, self.experiment, self.added, self.embedding)
            found.add_colors(self.annotated.colors)
            renamed = write_seurat(
                self.experiment, self.annotated, path, reductions=self._reductions(), extras=found.extras,
                held=found.misc(),
            )  # fmt: skip
        self._check(content_hash(self.source))
        return _with(found.ledger.close(), renamed)

    def _seurat_to_rds(self, path: Path) -> Conversion:
        from cellworker.formats.convert.seurat_copying import copy_seurat  # noqa: PLC0415

        labels = {name: column for name, column in self.added.items() if _is_label(column)}
        new = self.embedding
        return copy_seurat(
            self.source, path, self.experiment, labels, self.annotated, embedding=new, threads=self.threads,
            report=self.report,
        )  # fmt: skip

    def _seurat_to_anndata(self, path: Path) -> Conversion:
        from cellworker.formats.anndata.containers.stores import new_store  # noqa: PLC0415
        from cellworker.formats.anndata.writer import write_anndata  # noqa: PLC0415
        from cellworker.formats.convert.anndata_from_seurat import SeuratRest  # noqa: PLC0415

        with TemporaryDirectory(dir=path.parent, prefix=".spool-") as folder:
            found = read_exactly(self.source, Path(folder), lambda done, total: self.report("reading", done / total))
            self._check(found.sha256)
            assert isinstance(found.root, RS4)  # it was opened as an experiment
            rest = SeuratRest(found.root, self.experiment, self.added, self.embedding[0] if self.embedding else "")
            with new_store(path, self.threads, zarr=self.kind == ".zarr") as sink:
                renamed = write_anndata(
                    self.experiment, self.annotated, sink, reductions=self._reductions(), progress=self.report,
                    beside=rest.beside,
                )  # fmt: skip
            return _with(rest.ledger.close(), renamed)

    def _check(self, sha256: str) -> None:
        if sha256 != self.experiment.source_sha256:
            raise WorkerError(
                ErrorCode.EXPERIMENT_OUT_OF_DATE,
                f"{self.source.name} changed since the experiment was opened: wait until the new one is loaded and ask "
                "again.",
            )


def _is_label(column: Column) -> bool:
    return isinstance(column, Categorical) or column.dtype == np.bool_


def _with(found: Conversion, renamed: list[str]) -> Conversion:
    return Conversion(found.kept, [*found.renamed, *renamed], found.lost)
