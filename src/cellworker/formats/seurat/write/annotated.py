"""Writing a Seurat object back with additions: meta data, identities, an embedding (contract 5.21, algorithms 12.6).

The source is copied as it is serialised, and only what changes is written again: closures, environments, commands and
everything else that we do not understand comes back identical, and no vector is ever held in memory. Layers that are
outside the object, in a BPCells folder, are written into it. A `.qs` file has another form: it is read, and written
anew.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Experiment
from cellworker.formats.bpcells.outside import Outside
from cellworker.formats.r.code import without_code
from cellworker.formats.r.gzip_blocks import GzipWriter
from cellworker.formats.r.rds.copying import Copier, Editor, copy_rds
from cellworker.formats.r.rds.limits import OPENED_BEFORE
from cellworker.formats.r.rds.model import RS4
from cellworker.formats.r.rds.reader import read_rds
from cellworker.formats.r.reading import is_plain_rds
from cellworker.formats.seurat.h5.files import read_exactly
from cellworker.formats.seurat.write.annotated_value import annotate_value, write_value
from cellworker.formats.seurat.write.annotation import Annotation, AnnotationValues, values_for
from cellworker.formats.seurat.write.layers import PACKAGE, disk_backed_layers, in_memory, with_layers
from cellworker.formats.seurat.write.survey import AssaySurvey, SeuratSurvey, survey_seurat

__all__ = ["LOOKING", "write_annotated"]

LOOKING = 0.15
"""The part of the whole time that the first look takes, for the progress bar."""


def write_annotated(
    source: Path,
    target: Path,
    experiment: Experiment,
    annotation: Annotation,
    *,
    threads: int = 1,
    progress: Callable[[float], None] = lambda _: None,
    survey: SeuratSurvey | None = None,
) -> None:
    """Write an experiment's object with additions, as an `.rds` file as large as R makes it.

    Parameters
    ----------
    source
        The file that the experiment was read from: plain or compressed with gzip, bzip2, xz or Zstandard.
    target
        A file that does not exist yet; it appears when it is complete, or not at all.
    experiment
        The experiment read from it; ``experiment.key`` shows whether the file is still the same.
    annotation
        The additions.
    threads
        Threads that compress.
    progress
        Called with the fraction done; may raise to stop.
    survey
        Of the source, where it was made already, in the first `LOOKING` of the time.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_OUT_OF_DATE`` when the source was replaced; ``EXPERIMENT_UNSUPPORTED`` for an object that cannot be
        annotated; ``EXPERIMENT_NOT_FOUND``, ``EXPERIMENT_UNREADABLE``; ``DISK_FULL``.
    """

    def reporter(start: float, share: float) -> Callable[[int, int], None]:
        return lambda done, total: progress(start + share * done / total)

    with TemporaryDirectory(dir=target.parent, prefix=".spool-") as name:
        spool = Path(name)
        if not is_plain_rds(source):
            found = read_exactly(source, spool, reporter(0.0, 0.5), experiment.object_name)
            _check_same(source, experiment, found.sha256)
            assert isinstance(found.root, RS4)  # it was opened as an experiment
            root = with_layers(annotate_value(found.root, annotation, experiment.barcodes), source, spool)
            # Of functions and environments, which Seurat keeps with its record of calls, nothing was read.
            write_value(without_code(root), target, threads=threads)
            progress(1.0)
            return
        survey = survey or survey_seurat(source, OPENED_BEFORE, reporter(0.0, LOOKING))
        _check_same(source, experiment, survey.sha256)
        values = values_for(
            annotation, experiment.barcodes, survey.rows, survey.n_rows, assay=survey.assay, package=survey.package
        )
        edit = partial(_edit, survey=survey, values=values, assays=_assay_editors(survey.assays, source, spool))
        with _whole(target) as part, GzipWriter(part, threads=threads, effort="small") as file:
            sha256 = copy_rds(source, file, edit, limits=OPENED_BEFORE, on_bytes=reporter(LOOKING, 1 - LOOKING))
            _check_same(source, experiment, sha256)


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """Give a place to write to; the file gets its name when all is written."""
    part = target.with_name(f".{target.name}.part")
    yield part
    part.replace(target)


def _check_same(source: Path, experiment: Experiment, sha256: str) -> None:
    if sha256 != experiment.source_sha256:
        raise WorkerError(
            ErrorCode.EXPERIMENT_OUT_OF_DATE,
            f"{source.name} changed since the experiment was opened: wait until the new one is loaded and ask again.",
        )


def _edit(copier: Copier, *, survey: SeuratSurvey, values: AnnotationValues, assays: dict[int, Editor]) -> None:
    editors: dict[str, Editor] = {
        "meta.data": lambda copier: copier.named_list(
            survey.columns, replaced={}, removed=values.columns.keys(), added=values.columns
        )
    }
    identities = values.identities
    if identities is not None:
        editors["active.ident"] = lambda copier: copier.replace(identities)
    if values.reductions:
        known = values.reductions.keys() & set(survey.reductions)
        editors["reductions"] = lambda copier: copier.named_list(
            survey.reductions,
            replaced={name: values.reductions[name] for name in known},
            removed=set(),
            added={name: value for name, value in values.reductions.items() if name not in known},
        )
    if assays:
        editors["assays"] = lambda copier: copier.elements(assays)
    copier.slots(editors)


# ---- layers that are in BPCells folders ----


def _assay_editors(assays: list[AssaySurvey], source: Path, spool: Path) -> dict[int, Editor]:
    """Return editors for the assays, by position, that have layers on disk."""
    out: dict[int, Editor] = {}
    on_disk = {name for assay in assays for name, package in assay.layers if package == PACKAGE}
    if not on_disk:
        return out
    # The object is small, since its matrices are elsewhere.
    root = read_rds(source, spool, OPENED_BEFORE).root
    outside = Outside(source.parent, spool, OPENED_BEFORE)
    values = disk_backed_layers(root)
    for position, assay in enumerate(assays):
        layers: dict[int, Editor] = {
            i: partial(
                _write_layer, value=values[assay.name, layer], what=(assay.name, layer), outside=outside, spool=spool
            )
            for i, (layer, package) in enumerate(assay.layers)
            if package == PACKAGE
        }
        if layers:
            slots: dict[str, Editor] = {"layers": partial(Copier.elements, editors=layers)}
            out[position] = partial(Copier.slots, editors=slots)
    return out


def _write_layer(copier: Copier, *, value: RS4, what: tuple[str, str], outside: Outside, spool: Path) -> None:
    copier.replace(in_memory(value, what, outside, spool))
