"""Which matrix of an AnnData file holds the counts, which the log-normalised values, and whose genes are served.

AnnData gives its matrices no fixed meaning. `common.matrices.value_kinds` decides what their values are; the
names that scverse's tutorials use, or the user (`MatrixChoice`), decide which of them is served:

* counts: ``layers["counts"]`` and its like, else ``X``, else ``raw.X``, where they hold counts;
* log-normalised values: ``X`` where it holds such, else a layer named so, else ``raw.X``;
* scaled values: ``X`` or a layer ``scaled``; they are kept beside the others.

``raw`` may have more genes than ``X``: its genes are served where only ``raw`` holds what is needed, or where it holds
log-normalised values of more genes and no counts would be lost by that.

A first choice is made by a sample of each matrix. The chosen ones are read whole, the others are scanned from
one end to the other, and then the choice is made again by all values.
"""

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.draft import SparseDraft
from cellworker.formats.anndata.containers.tree import TreeGroup
from cellworker.formats.anndata.elements import Table, is_array, is_group
from cellworker.formats.anndata.layer_names import Use, hint_of, is_scaled_name, rank_of
from cellworker.formats.anndata.looking import sample_of
from cellworker.formats.anndata.matrices import UnreadMatrix, matrix_of
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.matrices.matrix_choice import MatrixChoice, used_for
from cellworker.formats.common.matrices.value_evidence import Evidence, Pieces, gather_with_base
from cellworker.formats.common.matrices.value_kinds import Decision, Hint, Kind, decide

__all__ = ["Choice", "ChosenMatrix", "choose", "judged", "sources_of"]

Frame = Literal["var", "raw"]


@dataclass(frozen=True, slots=True)
class ChosenMatrix:
    """A matrix of the file, its genes, and the kind of its values.

    Attributes
    ----------
    field
        "X", "raw.X" or "layers/<name>".
    hint
        The kind of values that the name suggests.
    declared_base
        Base of the logarithm that ``uns["log1p"]`` declares; None where it declares none.
    """

    field: str
    frame: Frame
    matrix: UnreadMatrix
    hint: Hint
    declared_base: float | None
    evidence: Evidence
    decision: Decision

    @property
    def kind(self) -> Kind:
        """The kind of the values."""
        return self.decision.kind

    @property
    def layer(self) -> str:
        """The layer's name, empty for ``X`` and ``raw.X``."""
        return self.field.removeprefix("layers/") if self.field.startswith("layers/") else ""


@dataclass(frozen=True, slots=True)
class Choice:
    """The matrices to serve. `data` is None where it is computed from the counts.

    `as_it_is` tells that `data` was named by the user, and is not to be changed; `told` that the counts were.
    """

    frame: Frame
    counts: ChosenMatrix | None
    data: ChosenMatrix | None
    scaled: ChosenMatrix | None
    as_it_is: bool = False
    told: bool = False

    @property
    def served(self) -> list[ChosenMatrix]:
        """The matrices that are read cell after cell."""
        return [source for source in (self.counts, self.data) if source is not None]

    def report(self, sources: Mapping[str, ChosenMatrix], findings: Findings) -> list[dict[str, str]]:
        """Record for every matrix what it holds, why, and what it is used for."""
        # Without log-normalised values these are made from the counts.
        served = self.data or self.counts
        return [
            used_for(
                field,
                source.decision,
                findings,
                counts=self.counts is not None and field == self.counts.field,
                data=served is not None and field == served.field,
                scaled=self.scaled is not None and field == self.scaled.field,
                as_it_is=self.as_it_is,
                told=self.told if source is self.counts else self.as_it_is,
            )
            for field, source in sources.items()
        ]


def judged(source: ChosenMatrix, matrix: SparseDraft | Pieces, *, complete: bool = True) -> ChosenMatrix:
    """Return a source with the kind of its values, judged by all or some of them."""
    evidence = gather_with_base(matrix, declared_base=source.declared_base, complete=complete)
    return replace(source, evidence=evidence, decision=decide(evidence, source.hint))


def choose(
    sources: Mapping[str, ChosenMatrix],
    tables: tuple[Table | None, Table | None],
    wanted: MatrixChoice,
    findings: Findings,
    *,
    ours: bool = False,
    marked: Container[str] = (),
) -> Choice | None:
    """Choose matrices. None when nothing can be served.

    Parameters
    ----------
    tables
        ``var`` and ``raw.var``.
    wanted
        The user's choice; the rest is decided here.
    ours
        Whether cellworker wrote the file: ``X`` is then what was served, where the values do not tell.
    marked
        ``data`` where ``X``, ``counts`` where ``layers/counts`` is unchanged since cellworker wrote it (`is_marked`):
        then they are of that kind, whatever their values.
    """
    if "data" in marked and "X" in sources and not wanted.counts and not wanted.data:
        own_counts = sources.get("layers/counts") if "counts" in marked else None
        return Choice("var", own_counts, sources["X"], None, as_it_is=True, told=True)
    counts, data = _named(sources, wanted.counts, "counts", findings), _named(sources, wanted.data, "data", findings)
    if findings.errors:
        return None
    choice = _by_values(sources, tables, findings, counts) if data is None else None
    if data is not None:
        frame: Frame = data.frame
        own = counts or next((s for s in _all_counts(sources) if s.field != data.field and s.frame == frame), None)
        choice = Choice(frame, own, data, _scaled_of(sources, data), as_it_is=True)
    if choice is None and ours and "X" in sources:
        choice = Choice("var", counts or _first(sources, "counts", ("counts",)), sources["X"], None, as_it_is=True)
    if choice is not None and wanted.counts == "none":
        choice = replace(choice, counts=None, data=choice.data or choice.counts)
    if choice is not None:
        return replace(choice, told=bool(wanted.counts))
    held = ", ".join(f"{name} ({source.decision.title})" for name, source in sources.items()) or "no matrix"
    findings.error(
        "X", found=held, expected="raw counts or log-normalised values in X, raw.X or a layer named counts",
        advice="keep them, for example adata.layers['counts'] = adata.X.copy() before sc.pp.normalize_total(), and"
        " write the file again; or name the matrix that holds them with --counts or --data",
    )  # fmt: skip
    return None


def _named(sources: Mapping[str, ChosenMatrix], name: str, option: str, findings: Findings) -> ChosenMatrix | None:
    """Find the matrix of that name: its listed name, or a layer's name alone."""
    if not name or (option == "counts" and name == "none"):
        return None
    short = {"raw": "raw.X", "raw/X": "raw.X"}
    found = sources.get(short.get(name, name)) or sources.get(f"layers/{name}")
    if found is None:
        findings.error(
            f"--{option}", found=f"{name!r}, which the file does not hold", expected=f"one of {', '.join(sources)}",
            advice="name one of these", code=ErrorCode.INVALID_INPUT,
        )  # fmt: skip
    return found


def _all_counts(sources: Mapping[str, ChosenMatrix]) -> list[ChosenMatrix]:
    x, raw = sources.get("X"), sources.get("raw.X")
    found = [_first(sources, "counts", ("counts",)), x, raw]
    return [source for source in found if source is not None and source.kind == "counts"]


def _scaled_of(sources: Mapping[str, ChosenMatrix], data: ChosenMatrix | None) -> ChosenMatrix | None:
    x = sources.get("X")
    found = x if x is not None and x.kind == "scaled" else _first(sources, "scaled", ("scaled",))
    return found if found is not data else None


def _by_values(
    sources: Mapping[str, ChosenMatrix],
    tables: tuple[Table | None, Table | None],
    findings: Findings,
    chosen: ChosenMatrix | None,
) -> Choice | None:
    var, raw_var = tables
    x, raw = sources.get("X"), sources.get("raw.X")
    counts = chosen or _first(sources, "counts", ("counts",)) or (x if x is not None and x.kind == "counts" else None)
    log = x if x is not None and x.kind == "log" else _first(sources, "data", ("log",))
    scaled = _scaled_of(sources, log)
    if log is not None and raw is not None and raw.kind == "log" and counts is None and _wider(raw_var, var):
        findings.fallback(
            "X", found=f"{_size(var):,} genes, log-normalised, and raw with {_size(raw_var):,}",
            advice="raw.X is served, which has more genes",
        )  # fmt: skip
        return Choice("raw", None, raw, scaled)
    if log is not None:
        if counts is None and raw is not None and raw.kind == "counts" and _covers(raw_var, var):
            counts = raw
        return Choice("var", counts, log, scaled)
    if raw is not None and raw.kind == "log":
        found = "scaled values" if x is not None and x.kind == "scaled" else "no log-normalised values"
        findings.fallback("X", found=found, advice="raw.X, which is log-normalised, is served")
        same = counts is not None and _covers(raw_var, var) and _size(raw_var) == _size(var)
        return Choice("raw", counts if same or counts is chosen else None, raw, scaled)
    if counts is not None:
        return Choice(counts.frame, counts, None, scaled)
    if raw is not None and raw.kind == "counts":
        return Choice("raw", raw, None, scaled)
    candidates = [x, raw, _first(sources, "data", ("linear",)), _first(sources, "counts", ("linear",))]
    linear = next((source for source in candidates if source is not None and source.kind == "linear"), None)
    return Choice(linear.frame, None, linear, scaled) if linear is not None else None


def sources_of(
    root: TreeGroup, tables: tuple[Table | None, Table | None], n_cells: int, findings: Findings, wanted: MatrixChoice
) -> dict[str, ChosenMatrix]:
    """Read a sample of every matrix; record those that would be served and have the wrong shape.

    `tables` are ``var`` and ``raw.var``.
    """
    var, raw_var = tables
    places: list[tuple[str, str, Frame, Table | None]] = [("X", "X", "var", var), ("raw.X", "raw/X", "raw", raw_var)]
    layers = root.get("layers")
    if is_group(layers):
        places += [(f"layers/{name}", f"layers/{name}", "var", var) for name in layers.names()]
    base = _declared_base(root)
    named = {name.removeprefix("layers/") for name in (wanted.counts, wanted.data)}
    out: dict[str, ChosenMatrix] = {}
    for field, path, frame, table in places:
        node = root.get(path)
        if node is None:
            continue
        layer = field.removeprefix("layers/") if field.startswith("layers/") else ""
        hint: Hint = hint_of(layer)
        served = bool(not layer or hint or layer in named or is_scaled_name(layer))
        matrix = matrix_of(node)
        expected = (n_cells, _size(table))
        if matrix is None or matrix.shape != expected:
            if not served:
                continue
            found = "no matrix that AnnData describes" if matrix is None else "{} x {}".format(*matrix.shape)
            size = f"{expected[0]} x {expected[1]} numbers (cells x genes), dense or sparse"
            findings.error(field, found=found, expected=size, advice="the file is damaged; write it again")
            continue
        declared = None if layer else base
        source = ChosenMatrix(field, frame, matrix, hint, declared, Evidence(), Decision("counts", ""))
        try:
            some, complete = sample_of(matrix)
        except WorkerError:
            if served:
                raise
            continue
        out[field] = judged(source, some, complete=complete)
    return out


def _declared_base(root: TreeGroup) -> float | None:
    """Return the base of the logarithm from scanpy's log1p() note, None where there is none."""
    note = root.get("uns/log1p")
    if note is None:
        return None
    base = note.get("base") if is_group(note) else None
    # scanpy writes {"base": None} for e, which a file holds as an array of nothing
    if is_array(base) and not base.is_null() and base.dtype is not None and base.dtype.kind in "iuf":
        values = np.asarray(base.read()).ravel()
        value = float(values[0]) if values.size else math.e
        return value if math.isfinite(value) and value > 1 else math.e
    return math.e


def _first(sources: Mapping[str, ChosenMatrix], use: Use, kinds: tuple[Kind, ...]) -> ChosenMatrix | None:
    """Find the layer of one of these kinds whose name fits this use best."""
    ranked = [(rank_of(source.layer, use), order, source) for order, source in enumerate(sources.values())]
    found = [item for item in ranked if item[0] is not None and item[2].kind in kinds]
    return min(found, key=lambda item: item[:2])[2] if found else None


def _size(table: Table | None) -> int:
    return len(table.index) if table is not None else 0


def _wider(one: Table | None, other: Table | None) -> bool:
    return _size(one) > _size(other)


def _covers(one: Table | None, other: Table | None) -> bool:
    return one is not None and other is not None and set(other.index) <= set(one.index)
