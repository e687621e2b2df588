"""Which assay of a SummarizedExperiment holds the counts and which the log-normalised values.

Names decide where they say it (``counts``, ``logcounts``), and the values then have to agree; else the values decide.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import ErrorCode
from cellworker.experiment.draft import SparseDraft
from cellworker.formats.bioconductor.parts import Part
from cellworker.formats.bpcells.outside import Outside
from cellworker.formats.common.findings import Findings, PartBrokenError
from cellworker.formats.common.matrices.marks import mark_of
from cellworker.formats.common.matrices.matrix_choice import MatrixChoice, used_for
from cellworker.formats.common.matrices.normalise import as_logarithms, log_normalise, tell_about_counts
from cellworker.formats.common.matrices.sparse import assemble
from cellworker.formats.common.matrices.value_evidence import gather_with_base
from cellworker.formats.common.matrices.value_kinds import Decision, Hint, decide
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.r.rds.model import RS4, RValue
from cellworker.formats.r.values import dim, slot
from cellworker.formats.seurat.read.assay import any_layer
from cellworker.formats.seurat.read.matrix import Layer

__all__ = ["BioconductorExpression", "ReadAssay", "read_matrices", "unwrapped"]

_COUNTS = (
    "counts", "raw_counts", "umi", "umis", "raw", "decontxcounts", "soupx", "soupx_counts", "cellbender",
    "spliced", "exonic",
)  # fmt: skip
_DATA = ("logcounts", "lognorm", "logtpm", "logcpm", "logumi", "data", "normalized", "norm_data")
_LINEAR = ("normcounts", "cpm", "tpm", "fpkm")
_UNKNOWN = 3
_IN_MEMORY = frozenset({"DelayedMatrix", "DelayedArray"})
_NAMES_ONLY = frozenset({"DelayedSetDimnames", "DelayedDimnames"})
_MAX_WRAPPERS = 20


@dataclass(frozen=True, slots=True)
class ReadAssay:
    """An assay that was read, and the kind of its values."""

    field: str
    matrix: SparseDraft
    decision: Decision


@dataclass(frozen=True, slots=True)
class BioconductorExpression:
    """The served matrices.

    Attributes
    ----------
    counts
        None where there are none.
    used
        By "counts" and "data": the assay that the matrix was read from unchanged.
    matrices
        The report about each assay (`used_for`).
    """

    counts: SparseDraft | None
    data: SparseDraft
    used: dict[str, str]
    matrices: list[dict[str, str]]


def unwrapped(value: RValue, field: str, findings: Findings) -> RValue:
    """Return the matrix in memory that a DelayedMatrix stands for.

    Raises
    ------
    PartBrokenError
        When its values are in another file, or have yet to be computed.
    """
    for _ in range(_MAX_WRAPPERS):
        if not isinstance(value, RS4) or "seed" not in value.slots:
            return value
        inner = slot(value, "seed")
        if isinstance(inner, RS4) and {"file", "filepath"} & inner.slots.keys():
            found = f"a matrix whose values lie in another file ({inner.class_name})"
            break
        if value.class_name not in _IN_MEMORY | _NAMES_ONLY:
            found = f"a matrix that has yet to be computed ({value.class_name})"
            break
        if inner is None:
            found = f"a {value.class_name} without values"
            break
        value = inner
    else:
        found = f"more than {_MAX_WRAPPERS} delayed operations"
    name = field.removeprefix("assay ")
    raise findings.broken(
        field, found=found, expected="a matrix inside the object",
        advice=f"in R, with the object as x: assay(x, '{name}') <- as(assay(x, '{name}'), 'dgCMatrix'), and save it",
        code=ErrorCode.EXPERIMENT_UNSUPPORTED,
    )  # fmt: skip


class _Reader:
    """Reads each assay once, at its first use."""

    def __init__(
        self,
        parts: Mapping[str, Part],
        names: tuple[list[str], list[str]],
        findings: Findings,
        scratch: Scratch,
        outside: Outside | None,
    ) -> None:
        self._parts, self._findings, self._scratch, self._outside = parts, findings, scratch, outside
        self._genes, self._cells = names
        self.read: dict[str, ReadAssay] = {}
        self._failed: set[str] = set()

    @property
    def names(self) -> Collection[str]:
        """The names of the assays."""
        return self._parts.keys()

    def take(self, name: str) -> ReadAssay:
        """Read an assay.

        Raises
        ------
        PartBrokenError
            When it cannot be.
        """
        if name not in self.read:
            field = f"assay {name}"
            value = unwrapped(self._parts[name].value, field, self._findings)
            layer = any_layer(value, field, self._findings, self._scratch, self._outside)
            shape = (len(self._genes), len(self._cells))
            if layer is None or (layer.matrix.n_columns, len(layer.matrix.indptr) - 1) != shape:
                found = "{} x {}".format(*(dim(value) or (0, 0)))
                raise self._findings.broken(
                    field, found=found, expected="{} x {} as the object has features and cells".format(*shape),
                    advice="the file is damaged; save the object again",
                )  # fmt: skip
            matrix = self._in_order(layer, field)
            self.read[name] = ReadAssay(field, matrix, decide(gather_with_base(matrix), hint_of(name)))
        return self.read[name]

    def tried(self, name: str) -> ReadAssay | None:
        """Read an assay; None, and a note, where that fails."""
        if name in self._failed:
            return None
        own, self._findings = self._findings, Findings()
        try:
            return self.take(name)
        except PartBrokenError:
            self._failed.add(name)
            problem = self._findings.errors[0]
            own.fallback(problem.field, found=problem.found, advice="it is not looked at, since its name says nothing")
            return None
        finally:
            self._findings = own

    def _in_order(self, layer: Layer, field: str) -> SparseDraft:
        """Put rows and columns in the object's order, where the matrix has names of its own in another one."""
        places: list[NDArray[np.int64] | None] = []
        for names, own in ((layer.cells, self._cells), (layer.genes, self._genes)):
            texts = [name or "NA" for name in names.tolist()] if names is not None else own
            known = {name: row for row, name in enumerate(own)}
            if texts == own or len(known) < len(own) or set(texts) != set(own):
                places.append(None)  # other names say nothing about the order
            else:
                places.append(np.array([known[name] for name in texts], np.int64))
        if places[0] is None and places[1] is None:
            return layer.matrix
        rows, columns = (
            place if place is not None else np.arange(len(own))
            for place, own in zip(places, (self._cells, self._genes), strict=True)
        )
        shape = (len(self._cells), len(self._genes))
        return assemble([(layer.matrix, rows, columns)], shape, field, self._findings, self._scratch)


def hint_of(name: str) -> Hint:
    """Return what the name of an assay says of its values."""
    plain = name.casefold()
    return "counts" if plain in _COUNTS else "data" if plain in _DATA else ""


def read_matrices(
    parts: Mapping[str, Part],
    names: tuple[list[str], list[str]],
    wanted: MatrixChoice,
    findings: Findings,
    scratch: Scratch,
    *,
    outside: Outside | None = None,
    mark: Callable[[Literal["counts", "data"]], str] = lambda what: "",  # noqa: ARG005
) -> BioconductorExpression:
    """Choose and read the assays that are served.

    Parameters
    ----------
    parts
        The assays.
    names
        Those of the object's features, and of its cells.
    wanted
        An assay that the caller named is taken for what the caller says.
    mark
        The mark of what cellworker wrote as counts, or as normalised values: an assay that still has it is that.

    Raises
    ------
    PartBrokenError
        When there is nothing to serve.
    """
    reader = _Reader(parts, names, findings, scratch, outside)
    counts = _named(parts, wanted.counts, "counts", reader, findings)
    data = _named(parts, wanted.data, "data", reader, findings)
    as_it_is = bool(wanted.data)
    if not wanted.data and not wanted.counts:
        counts, data = _marked("counts", mark("counts"), reader), _marked("logcounts", mark("data"), reader)
        as_it_is = data is not None
    order = sorted(parts, key=_rank)
    if counts is None and wanted.counts != "none":
        counts = _first(order, reader, lambda found: found.decision.kind == "counts", stop=data)
    if data is None:
        data = _first(order, reader, lambda found: found.decision.kind == "log")
    if data is None and counts is None:
        any_kind = wanted.counts == "none"
        data = _first(order, reader, lambda found: any_kind or found.decision.kind in {"linear", "roots"})
    if counts is None and data is None:
        held = ", ".join(f"{name} ({found.decision.title})" for name, found in reader.read.items())
        raise findings.broken(
            "assays", found=held or "none", expected="raw counts or log-normalised values",
            advice="keep the counts in assay(x, 'counts') and save the object again; or name the assay with --counts or"
            " --data",
        )  # fmt: skip
    served = _served(counts, data, findings, scratch, as_it_is=as_it_is)
    if counts is None:
        findings.warning(
            "assays", found="no raw counts", expected="raw counts in an assay, counts for example",
            advice="comparisons between samples and other requests that need counts will be refused",
        )  # fmt: skip
    else:
        tell_about_counts(counts.field, counts.matrix, findings)
    main = data or counts
    matrices = [
        used_for(
            found.field, found.decision, findings, counts=found is counts, data=found is main,
            as_it_is=as_it_is and found is data,
            told=as_it_is if found is data else bool(wanted.counts),
        )
        for found in reader.read.values()
    ]  # fmt: skip
    matrices += [
        {"matrix": f"assay {name}", "holds": "not looked at", "why": "others serve", "used for": "nothing"}
        for name in parts
        if name not in reader.read
    ]
    by_matrix = {id(found): name for name, found in reader.read.items()}
    used = {"counts": by_matrix[id(counts)]} if counts is not None else {}
    if main is not None and served is main.matrix:
        used["data"] = by_matrix[id(main)]
    return BioconductorExpression(counts.matrix if counts is not None else None, served, used, matrices)


def _rank(name: str) -> tuple[int, int]:
    plain = name.casefold()
    for number, names in enumerate((_COUNTS, _DATA, _LINEAR)):
        if plain in names:
            return number, names.index(plain)
    return _UNKNOWN, 0


def _named(parts: Mapping[str, Part], name: str, option: str, reader: _Reader, findings: Findings) -> ReadAssay | None:
    if not name or (option == "counts" and name == "none"):
        return None
    short = name if name in parts else name.removeprefix("assays/")
    if short not in parts:
        raise findings.broken(
            field=f"--{option}", found=f"{name!r}, which the object does not hold",
            expected=f"one of {', '.join(sorted(parts)) or 'none'}", advice="name one of these",
            code=ErrorCode.INVALID_INPUT,
        )  # fmt: skip
    return reader.take(short)


def _marked(name: str, mark: str, reader: _Reader) -> ReadAssay | None:
    """Return the assay of that name where it is the one that cellworker wrote."""
    found = reader.take(name) if mark and name in reader.names else None
    return found if found is not None and mark_of(found.matrix.values) == mark else None


def _first(
    order: list[str], reader: _Reader, fits: Callable[[ReadAssay], bool], *, stop: ReadAssay | None = None
) -> ReadAssay | None:
    """Return the first assay that fits.

    One whose name says nothing and that cannot be read is left alone.
    """
    for name in order:
        if _rank(name)[0] < _UNKNOWN:
            found: ReadAssay | None = reader.take(name)
        else:
            found = reader.tried(name)
        if found is not None and found is not stop and fits(found):
            return found
    return None


def _served(
    counts: ReadAssay | None, data: ReadAssay | None, findings: Findings, scratch: Scratch, *, as_it_is: bool
) -> SparseDraft:
    if data is not None:
        if as_it_is:
            return data.matrix
        return as_logarithms(data.matrix, data.field, data.decision, findings, scratch)
    assert counts is not None
    if counts.decision.kind != "counts":
        return as_logarithms(counts.matrix, counts.field, counts.decision, findings, scratch)
    findings.fallback(
        counts.field, found=f"{counts.decision.title} and no log-normalised values",
        advice="they are normalised to 10,000 per cell and log1p is taken",
    )  # fmt: skip
    return log_normalise(counts.matrix, counts.field, findings, scratch)
