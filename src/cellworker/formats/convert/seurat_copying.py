"""Copies a Seurat object to another file by `write_annotated`, and reports on its elements."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical, Reduction
from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.common.cells.annotated_columns import Annotated
from cellworker.formats.common.ledger import Conversion, Element, Ledger
from cellworker.formats.convert.from_r_objects import NO_CODE
from cellworker.formats.r.gzip_blocks import GzipWriter
from cellworker.formats.r.rds.copying import Copier, copy_rds
from cellworker.formats.r.rds.elements import CODE, elements_of
from cellworker.formats.r.rds.limits import OPENED_BEFORE
from cellworker.formats.r.reading import is_plain_rds
from cellworker.formats.seurat.h5.files import read_exactly
from cellworker.formats.seurat.write.annotated import LOOKING, write_annotated
from cellworker.formats.seurat.write.annotation import Annotation, Embedding
from cellworker.formats.seurat.write.layers import PACKAGE, disk_backed_layers
from cellworker.formats.seurat.write.survey import SeuratSurvey, survey_seurat
from cellworker.progress import Progress

__all__ = ["copy_seurat"]


def copy_seurat(
    source: Path,
    target: Path,
    experiment: StoredExperiment,
    columns: Mapping[str, Categorical | NDArray[np.bool_]],
    annotated: Annotated,
    *,
    embedding: tuple[str, Reduction] | None,
    threads: int,
    report: Progress,
) -> Conversion:
    """Copy an object with further columns of ``meta.data``.

    An `.rds` file is copied as it is serialised, with code and environments; the object of any other file (`.qs`,
    `.rda`, `.h5seurat`) is read and written again, without them.

    Returns
    -------
    What became of every element.

    Raises
    ------
    WorkerError
        As `write_annotated`.
    """

    def progress(fraction: float) -> None:
        report("writing the Seurat object", fraction)

    is_copied = is_plain_rds(source)
    with TemporaryDirectory(dir=target.parent, prefix=".spool-") as folder:
        # A file that is copied as it is serialised is one element: nothing of it can be forgotten.
        found = None
        if not is_copied:
            name = experiment.object_name
            found = read_exactly(source, Path(folder), lambda done, total: progress(done / total), name)
        ledger = Ledger([Element((), "the object")] if found is None else elements_of(found.root))
    for line in found.passed_over if found is not None else ():
        ledger.note_loss(line)
    for element in ledger.elements():
        if element.kind in CODE:
            ledger.lose(element.path, NO_CODE)
    survey = _survey(source, lambda done, total: progress(LOOKING * done / total)) if is_copied else None
    if found is not None:
        on_disk = list(disk_backed_layers(found.root))
    else:
        assays = survey.assays if survey is not None else []
        on_disk = [(assay.name, layer) for assay in assays for layer, package in assay.layers if package == PACKAGE]
    for assay, layer in on_disk:
        ledger.note(f"assays/{assay}/layers/{layer} is a matrix of the object, no longer in a folder of BPCells")
    if is_copied and survey is None:
        _copy_whole(source, target, experiment, threads, progress)
        for name in columns:
            ledger.note_loss(f"the cell sets {name} as a column: objects of Seurat 2 are copied as they are")
    else:
        new = Embedding(embedding[0], embedding[1].values) if embedding is not None else None
        identities = annotated.clusters if annotated.identities is not None else None
        annotation = Annotation(columns, identities=identities or None, embedding=new)
        write_annotated(source, target, experiment, annotation, threads=threads, progress=progress, survey=survey)
        _note_replaced(ledger, experiment, annotation)
    ledger.keep_rest()
    return ledger.close()


def _survey(source: Path, on_bytes: Callable[[int, int], None]) -> SeuratSurvey | None:
    """Look at an object; None for one that takes no columns."""
    try:
        return survey_seurat(source, OPENED_BEFORE, on_bytes)
    except WorkerError as error:
        if error.code is not ErrorCode.EXPERIMENT_UNSUPPORTED:
            raise
        return None


def _copy_whole(
    source: Path, target: Path, experiment: StoredExperiment, threads: int, progress: Callable[[float], None]
) -> None:
    with GzipWriter(target, threads=threads, effort="small") as file:
        sha256 = copy_rds(
            source, file, Copier.copy, limits=OPENED_BEFORE, on_bytes=lambda done, total: progress(done / total)
        )
    if sha256 != experiment.source_sha256:
        message = f"{source.name} changed since the experiment was opened: open it again when it is complete"
        raise WorkerError(ErrorCode.EXPERIMENT_OUT_OF_DATE, message)


def _note_replaced(ledger: Ledger, experiment: StoredExperiment, annotation: Annotation) -> None:
    for name in annotation.columns:
        if name in experiment.metadata and not (name == "samples" and "sample_ids" in annotation.columns):
            ledger.note_loss(f"meta.data/{name}: replaced by the column that the cell sets have under this name")
    if annotation.identities is not None:
        ledger.note_loss(f"active.ident: replaced by {annotation.identities}")
    if annotation.embedding is not None and annotation.embedding.name in experiment.reductions:
        ledger.note_loss(f"reductions/{annotation.embedding.name}: replaced by the stored embedding")
