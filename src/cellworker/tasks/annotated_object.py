"""DownloadAnnotSeuratObject (contract 5.21): the object with its cell sets and embedding, as a file to download."""

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Raw, Struct, field
from numpy.typing import NDArray

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical, Experiment
from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.common.kinds import is_hdf5
from cellworker.formats.seurat.write.annotation import Annotation, Embedding
from cellworker.protocol.validation import Text
from cellworker.tasks.common.annotated_class import AnnotatedClass
from cellworker.tasks.common.requested_sets import RequestedClass, RequestedSet
from cellworker.tasks.common.sent_cells import ids_of, sent_later
from cellworker.tasks.task import Context, EarlierResult, PrepareInput, Task

__all__ = ["ANNOTATED_OBJECT"]

_CLUSTERS, _CUSTOM, _SAMPLES = "louvain", "scratchpad", "sample"
_CLUSTER_COLUMN, _SAMPLE_COLUMN = "seurat_clusters", "samples"
_IDS = "cells_id"
_METHODS = ("umap", "tsne")
_STAGE = "Writing the annotated object"
_NOWHERE = [np.nan, np.nan]

_points = msgspec.json.Decoder(list[list[float | str | None] | None] | None)


class DownloadBody(Struct):
    """DownloadAnnotSeuratObject. `format`, the kind of file, is our own field."""

    embedding_method: Text = field(name="embeddingMethod")
    is_obj2s: bool = field(name="isObj2s", default=False)
    embedding_etag: str | None = field(name="embeddingETag", default=None)
    format: str = "rds"


class TypedClass(AnnotatedClass):
    """A class of cell sets with its name and type."""

    type: str | None = None


class AnnotatedObjectRequest(Struct):
    """``DownloadAnnotSeuratObject``.

    `cell_sets`: all classes by key. `embedding`: the JSON text of a GetEmbedding result, null for none; The R engine
    gets a pair of "NA" for a cell without coordinates.
    """

    cell_sets: dict[str, TypedClass] = field(name="cellSets")
    embedding_method: str = field(name="embeddingMethod")
    is_obj2s: bool = field(name="isObj2s", default=False)
    embedding: Raw = Raw(b"null")
    format: str = "rds"


def prepare(given: PrepareInput) -> AnnotatedObjectRequest:
    """Send all cell sets, and the stored embedding unless the object has its own.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the field, for an unknown kind of file or of embedding, or an embedding that does not
        exist.
    """
    body: DownloadBody = given.body
    _check(body.format, body.embedding_method, attach=not body.is_obj2s, where="body.")
    embedding = b"null"
    if not body.is_obj2s:
        if given.earlier is None:
            raise WorkerError(
                ErrorCode.INVALID_INPUT,
                f"body.embeddingETag: there is no stored embedding under {body.embedding_etag!r}: request GetEmbedding "
                "first and give its ETag, or set isObj2s to keep the embeddings that the object has.",
            )
        embedding = given.earlier
    classes = {
        key: TypedClass(
            children=[RequestedSet(child.name, sent_later(child.cell_ids)) for child in item.children],
            name=item.name,
            type=item.type,
        )
        for key, item in given.cell_sets.by_platform_key().items()
    }
    return AnnotatedObjectRequest(
        cell_sets=classes,
        embedding_method=body.embedding_method,
        is_obj2s=body.is_obj2s,
        embedding=Raw(embedding),
        format=body.format,
    )


def _earlier(body: DownloadBody) -> EarlierResult | None:
    if body.is_obj2s:
        return None
    kinds = [{"name": "GetEmbedding", "type": body.embedding_method, "useSaved": saved} for saved in (True, False)]
    return EarlierResult(body.embedding_etag or "", "body.embeddingETag", tuple(kinds))


def compute(experiment: Experiment, request: AnnotatedObjectRequest, context: Context) -> Path:
    """Write the file and return its path.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` as in `prepare`, and the errors of `write_annotated`.
    """
    _check(request.format, request.embedding_method, attach=not request.is_obj2s, where="")
    columns = _columns(experiment, request.cell_sets)
    annotation = Annotation(
        columns,
        identities=_CLUSTER_COLUMN if _CLUSTER_COLUMN in columns else None,
        embedding=None if request.is_obj2s else _embedding(experiment, request),
    )
    target = context.scratch / f"AnnotatedObject-{uuid.uuid4().hex}.{request.format}"
    _WRITERS[request.format](experiment, annotation, target, context)
    return target


def _check(kind: str, method: str, *, attach: bool, where: str) -> None:
    if kind not in _WRITERS:
        allowed = " or ".join(_WRITERS)
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{where}format: expected {allowed}, found {kind!r}.")
    if attach and method not in _METHODS:
        allowed = " or ".join(_METHODS)
        message = (
            f"{where}embeddingMethod: expected {allowed}, found {method!r}; set isObj2s to keep the embeddings that "
            "the object has."
        )
        raise WorkerError(ErrorCode.INVALID_INPUT, message)


def _write_rds(experiment: Experiment, annotation: Annotation, target: Path, context: Context) -> None:
    if experiment.origin.family != "Seurat":  # there is no Seurat object to add to
        _write_copy(experiment, annotation, target, context)
        return
    from cellworker.formats.opening.source import source_of  # noqa: PLC0415
    from cellworker.formats.seurat.write.annotated import write_annotated  # noqa: PLC0415 - one task in 21 writes objects

    def progress(fraction: float) -> None:
        context.progress(_STAGE, fraction)

    write_annotated(source_of(experiment), target, experiment, annotation, threads=context.threads, progress=progress)


def _write_copy(experiment: Experiment, annotation: Annotation, target: Path, context: Context) -> None:
    from cellworker.formats.convert.converting import write_annotated_copy  # noqa: PLC0415
    from cellworker.formats.opening.source import source_of  # noqa: PLC0415

    def progress(stage: str, fraction: float | None = None) -> None:  # noqa: ARG001 - one stage in the user's words
        context.progress(_STAGE, fraction)

    embedding = annotation.embedding
    assert isinstance(experiment, StoredExperiment)  # one made in memory has no source: handled above
    write_annotated_copy(
        source_of(experiment),
        experiment,
        annotation.columns,
        target,
        identities=annotation.identities,
        embedding=None if embedding is None else (embedding.name, embedding.values),
        threads=context.threads,
        on_progress=progress,
    )


_WRITERS: Mapping[str, Callable[[Experiment, Annotation, Path, Context], None]] = {
    "rds": _write_rds,
    "h5ad": _write_copy,
}
"""The kinds of file, by the request's `format`."""


def _columns(experiment: Experiment, classes: Mapping[str, TypedClass]) -> dict[str, Categorical | NDArray[np.bool_]]:
    """Return the columns of cell metadata, in the original's order, each with a unique name."""
    columns: dict[str, Categorical | NDArray[np.bool_]] = {}
    for key, name in ((_SAMPLES, _SAMPLE_COLUMN), (_CLUSTERS, _CLUSTER_COLUMN)):
        if key in classes:
            columns[name] = _labels(experiment, classes[key])
    for child in classes[_CUSTOM].children if _CUSTOM in classes else []:
        # Names of custom sets may repeat: a cell is marked when it is in any set of the name.
        column = columns.setdefault(f"custom_cellset-{child.name}", np.zeros(experiment.n_cells, np.bool_))
        assert isinstance(column, np.ndarray)
        column[_rows(experiment, child)] = True
    for key, item in classes.items():
        if key not in (_SAMPLES, _CLUSTERS, _CUSTOM) and item.type == "cellSets":
            columns[_unused(item.name, {*columns, _IDS})] = _labels(experiment, item)
    return columns


def _unused(name: str, taken: set[str]) -> str:
    number, unique = 0, name
    while unique in taken:
        number += 1
        unique = f"{name}.{number}"
    return unique


def _labels(experiment: Experiment, item: RequestedClass) -> Categorical:
    """Return the name of each cell's set; where sets overlap, that of the first."""
    codes = np.full(experiment.n_cells, -1, np.int32)
    numbers: dict[str, int] = {}
    for child in item.children:
        rows = _rows(experiment, child)
        codes[rows[codes[rows] < 0]] = numbers.setdefault(child.name, len(numbers))
    return Categorical(codes, list(numbers))


def _rows(experiment: Experiment, child: RequestedSet) -> NDArray[np.int32]:
    rows = experiment.positions(ids_of(child.cell_ids))
    return rows[rows >= 0]


def _embedding(experiment: Experiment, request: AnnotatedObjectRequest) -> Embedding:
    """Convert the embedding from an order by cell id to the order of the cells."""
    try:
        points = _points.decode(request.embedding)
    except msgspec.DecodeError as error:
        raise _bad_embedding(str(error)) from None
    listed = points or []
    pairs = [point if point and None not in point and "NA" not in point else _NOWHERE for point in listed]
    try:
        places = np.array(pairs, np.float64).reshape(len(pairs), 2)
    except ValueError as error:
        raise _bad_embedding(str(error)) from None
    by_id = np.full((experiment.max_cell_id + 1, 2), np.nan)
    known = min(len(by_id), len(places))
    by_id[:known] = places[:known]
    values = by_id[experiment.cell_ids]
    if experiment.n_cells and np.isnan(values).all():
        raise _bad_embedding("none of the cells has a place in it")
    return Embedding(request.embedding_method, values)


def _bad_embedding(what: str) -> WorkerError:
    message = f"embedding: expected two numbers for each cell, null for those without: {what}."
    return WorkerError(ErrorCode.INVALID_INPUT, message)


def _file_name(file: Path) -> str:
    return f"processed_matrix.{'h5ad' if is_hdf5(file) else 'rds'}"


ANNOTATED_OBJECT = Task(
    name="DownloadAnnotSeuratObject",
    path="DownloadAnnotSeuratObject",
    about="the object with its cell sets and embedding, as an .rds or .h5ad file",
    example=lambda _: {"embeddingMethod": "umap", "isObj2s": True},
    body=DownloadBody,
    request=AnnotatedObjectRequest,
    prepare=prepare,
    compute=compute,
    lane="long",
    needs_cell_sets=True,
    file_name=_file_name,
    earlier=_earlier,
)
