"""Which matrix of an AnnData file holds the counts, which the log-normalised values, and whose genes are served.

AnnData gives its matrices no fixed meaning, so values decide together with the names that scverse's tutorials use:

* counts: ``layers["counts"]`` and its like, else ``X``, else ``raw.X``, where the values are whole numbers;
* log-normalised values: ``X`` where it looks so, else a layer named so, else ``raw.X``;
* scaled values (some are negative): ``X`` or a layer ``scaled``; they are kept beside the others.

``raw`` may have more genes than ``X``: its genes are served where only ``raw`` holds what is needed, or where it holds
log-normalised values of more genes and no counts would be lost by that.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.formats.anndata.elements import Matrix, Table, is_group, matrix_of
from cellworker.formats.anndata.tree import Group
from cellworker.formats.common.findings import Findings

__all__ = ["Choice", "Source", "choose"]

Kind = Literal["counts", "log", "linear", "scaled"]
Frame = Literal["var", "raw"]

_COUNTS = ("counts", "raw_counts", "count", "umi", "umis", "raw")
_LOG = ("logcounts", "log1p", "lognorm", "log_norm", "log_normalized", "log1p_norm", "normalized", "norm", "data")
_SCALED = ("scaled", "scale.data", "scale_data")
_LARGEST_LOG = 25.0
"""Above any logarithm of normalised counts: exp(25) would be 72 thousand million."""


@dataclass(frozen=True, slots=True)
class Source:
    """A matrix of the file, the genes that it is about, and what its values look like."""

    field: str
    frame: Frame
    matrix: Matrix
    kind: Kind


@dataclass(frozen=True, slots=True)
class Choice:
    """What to serve. `data` is None where it is to be computed from the counts, `linear` tells that it wants log1p."""

    frame: Frame
    counts: Source | None
    data: Source | None
    scaled: Source | None
    linear: bool = False


def kind_of(sample: NDArray[np.float32]) -> Kind:
    """Tell what values look like from some of them, zeros left out."""
    if np.any(sample < 0):
        return "scaled"
    known = sample[np.isfinite(sample)]
    if np.all(known == np.floor(known)):
        return "counts"
    return "log" if known.max(initial=0) <= _LARGEST_LOG else "linear"


def choose(  # noqa: PLR0911 - one for each situation
    root: Group, var: Table | None, raw_var: Table | None, n_cells: int, findings: Findings
) -> Choice | None:
    """Choose matrices; every one of the wrong shape is recorded. None when nothing can be served."""
    sources = _sources(root, var, raw_var, n_cells, findings)
    x, raw = sources.get("X"), sources.get("raw.X")
    layers = {name.removeprefix("layers/").casefold(): s for name, s in sources.items() if name.startswith("layers/")}
    counts = _first(layers, _COUNTS, ("counts", "linear")) or (x if x is not None and x.kind == "counts" else None)
    log = x if x is not None and x.kind == "log" else _first(layers, _LOG, ("log",))
    scaled = x if x is not None and x.kind == "scaled" else _first(layers, _SCALED, ("scaled",))
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
        return Choice("raw", counts if same else None, raw, scaled)
    if counts is not None:
        return Choice("var", counts, None, scaled)
    if raw is not None and raw.kind == "counts":
        return Choice("raw", raw, None, scaled)
    linear = x if x is not None and x.kind == "linear" else raw if raw is not None and raw.kind == "linear" else None
    if linear is not None:
        return Choice(linear.frame, None, linear, scaled, linear=True)
    held = ", ".join(f"{name} ({source.kind})" for name, source in sources.items()) or "no matrix"
    findings.error(
        "X", found=held, expected="raw counts or log-normalised values in X, raw.X or a layer named counts",
        advice="keep them, for example adata.layers['counts'] = adata.X.copy() before sc.pp.normalize_total(), and"
        " write the file again",
    )  # fmt: skip
    return None


def _sources(
    root: Group, var: Table | None, raw_var: Table | None, n_cells: int, findings: Findings
) -> dict[str, Source]:
    places: list[tuple[str, str, Frame, Table | None]] = [("X", "X", "var", var), ("raw.X", "raw/X", "raw", raw_var)]
    layers = root.get("layers")
    if is_group(layers):
        places += [(f"layers/{name}", f"layers/{name}", "var", var) for name in layers.names()]
    wanted = {*_COUNTS, *_LOG, *_SCALED}
    out: dict[str, Source] = {}
    for field, path, frame, table in places:
        node = root.get(path)
        if node is None or (field.startswith("layers/") and field[7:].casefold() not in wanted):
            continue
        matrix = matrix_of(node)
        expected = (n_cells, _size(table))
        if matrix is None or matrix.shape != expected:
            found = "no matrix that AnnData describes" if matrix is None else "{} x {}".format(*matrix.shape)
            size = f"{expected[0]} x {expected[1]} numbers (cells x genes), dense or sparse"
            findings.error(field, found=found, expected=size, advice="the file is damaged; write it again")
            continue
        out[field] = Source(field, frame, matrix, kind_of(matrix.sample()))
    return out


def _first(layers: dict[str, Source], names: tuple[str, ...], kinds: tuple[Kind, ...]) -> Source | None:
    found = (layers.get(name) for name in names)
    return next((source for source in found if source is not None and source.kind in kinds), None)


def _size(table: Table | None) -> int:
    return len(table.index) if table is not None else 0


def _wider(one: Table | None, other: Table | None) -> bool:
    return _size(one) > _size(other)


def _covers(one: Table | None, other: Table | None) -> bool:
    return one is not None and other is not None and set(other.index) <= set(one.index)
