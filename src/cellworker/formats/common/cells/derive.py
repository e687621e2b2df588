"""Derives cell sets for an experiment without any, from its identities, samples and categorical metadata."""

import re
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.cell_sets import CellClass, CellSet, CellSets
from cellworker.experiment.model import Categorical, Column, labels_of
from cellworker.experiment.store.store import StoredExperiment
from cellworker.formats.common.palette import palette

__all__ = ["derive_cell_sets", "derived_from", "has_clusters"]

MAX_LEVELS = 50
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
_CLUSTERING = re.compile(
    r"(_res\.|^res\.|cluster|leiden|louvain|annotation|cell[._ ]?type|cell[._ ]?label|letter\.idents)", re.IGNORECASE
)
_PLATFORM_KEYS = ("scratchpad", "sample")
_WORDS = ("all", "rest", "background")
"""Words of requests (contract 5.0), in any case."""
_CUSTOM = "custom_cellset-"
_IDENTITIES, _ALL_CELLS = "identities", "all cells"


def derived_from(experiment: StoredExperiment) -> CellSets:
    """Make the cell sets of an open experiment. See `derive_cell_sets`."""
    return derive_cell_sets(
        experiment.cell_ids,
        experiment.metadata,
        experiment.identities,
        experiment.misc.color_pool,
        experiment.extra.get("colors"),
        samples=experiment.origin.columns.get("samples", "samples"),
        made=experiment.extra.get("made_parts", {}).get("columns", ()),
    )


def derive_cell_sets(
    cell_ids: NDArray[np.int32],
    metadata: Mapping[str, Column],
    identities: Categorical | None,
    color_pool: list[str] | None = None,
    colors: Mapping[str, list[str]] | None = None,
    *,
    samples: str = "samples",
    made: Collection[str] = (),
) -> CellSets:
    """Make classes of cell sets from the file's own groupings, in the order that the platform's clients expect.

    * The clusters in use: the active identities where they tell more than the samples do, else ``seurat_clusters``,
      else another column that looks like a clustering, else the identities as they are. Where a column says the
      same as the identities, the class is that column's.
    * ``scratchpad``: the sets that an annotated object keeps in columns ``custom_cellset-<name>``; empty without them.
    * ``sample``: the column of samples. It answers to the column's name, too.
    * Metadata tracks: columns of 2 to 50 labels that are constant within every sample.
    * Further clusterings, told by their names (``*_res.*``, cluster, leiden, cell type, annotation), then every other
      column of 2 to 50 labels as cell-level metadata.

    Every class but ``scratchpad`` and ``sample`` has its column's name as key, and ``<key>-<label>`` are the keys of
    its sets. A column that is named ``scratchpad``, ``sample`` (without being the column of samples), or like a word of
    requests (``all``, ``rest``, ``background``, in any case) has the key ``<name> (column)``. A key that is taken has
    `` (2)``, `` (3)``, ... behind it; classes take theirs first. Keys depend on names alone, so that the same object
    gives the same file. Colours are those that the object has for a column's labels, else taken in order from the pool.

    Parameters
    ----------
    cell_ids
        int32 ``(n_cells,)``: the platform's ids, in the columns' order.
    metadata
        The file's columns.
    identities
        Seurat's active identities.
    color_pool
        Hex strings; None takes the built-in pool.
    colors
        By column: a colour for each of its categories.
    samples
        The column of samples.
    made
        Columns that the file does not hold, because they were made when it was opened. Their classes say so: new
        clusters take their place, as they take the place of the platform's.
    """
    labels = {name: found for name, column in metadata.items() if (found := _as_labels(name, column)) is not None}
    sample = labels_of(metadata.get(samples))
    source, unnamed, clusters = _clustering(labels, identities, sample, len(cell_ids))
    in_use = _Plan(source or unnamed, "cellSets", clusters, numbered=True, column=source)
    tracks, clusterings, others = [], [], []
    for name, column in labels.items():
        if name in {"cells_id", source} or name.startswith(_CUSTOM) or _is_stand_in(name, column, samples, sample):
            continue
        limit = max(MAX_LEVELS, len(cell_ids) // 5) if _CLUSTERING.search(name) else MAX_LEVELS
        if not 2 <= len(_used(column)) <= limit:
            continue
        if sample is not None and len(_used(sample)) > 1 and _constant_within(column, sample):
            tracks.append(_Plan(name, "metadataCategorical", column))
        elif _CLUSTERING.search(name):
            clusterings.append(_Plan(name, "cellSets", column))
        else:
            others.append(_Plan(name, "CLM", column))
    plans = [*tracks, *clusterings, *others]
    maker = _Maker(cell_ids, cycle(color_pool or palette()), colors or {}, made)
    # The file's own names come before those that are made here.
    first = [maker.free(_allowed(source))] if source else []
    keys = [maker.free(_allowed(plan.name)) for plan in plans]
    (used,) = first or [maker.free(unnamed)]
    classes = [maker.build(used, in_use), maker.custom(metadata)]
    if sample is not None:
        name = "Samples" if samples == "samples" else f"Samples ({samples})"
        classes.append(maker.build("sample", _Plan(name, "metadataCategorical", sample, column=samples)))
    classes += [maker.build(key, plan) for key, plan in zip(keys, plans, strict=True)]
    return CellSets(classes, {"clusters": used})


def has_clusters(metadata: Mapping[str, Column], identities: Categorical | None, samples: str, n_cells: int) -> bool:
    """Say whether anything that `derive_cell_sets` takes as clusters groups the cells otherwise than the samples do."""
    labels = {name: found for name, column in metadata.items() if (found := _as_labels(name, column)) is not None}
    sample = labels_of(metadata.get(samples))
    _, _, clusters = _clustering(labels, identities, sample, n_cells)
    return len(_used(clusters)) > 1 and not (sample is not None and _same_partition(clusters, sample))


@dataclass(frozen=True, slots=True)
class _Plan:
    """A class to be made: its name, type and labels; the column that they are from, by default the name."""

    name: str
    kind: str
    labels: Categorical
    numbered: bool = False
    column: str | None = None


def _allowed(name: str) -> str:
    reserved = name in _PLATFORM_KEYS or name.casefold() in _WORDS
    return f"{name} (column)" if reserved else name or "(no name)"


def _is_stand_in(name: str, column: Categorical, samples: str, sample: Categorical | None) -> bool:
    """Tell the column of samples, and the copy of it that readers put under the platform's name."""
    if name == samples:
        return True
    copied = name == "samples" and sample is not None and column.categories == sample.categories
    return copied and sample is not None and np.array_equal(column.codes, sample.codes)


class _Maker:
    def __init__(
        self, cell_ids: NDArray[np.int32], pool: Iterator[str], colors: Mapping[str, list[str]], made: Collection[str]
    ) -> None:
        self._cell_ids = cell_ids
        self._pool = pool
        self._colors = colors
        self._made = made
        self._taken = set(_PLATFORM_KEYS)

    def build(self, key: str, plan: _Plan) -> CellClass:
        column = plan.name if plan.column is None else plan.column
        own = self._colors.get(column, [])
        labels = plan.labels
        naming = _numbered if plan.numbered and _are_numbers(labels) else _by_value
        order = np.argsort(labels.codes, kind="stable")
        bounds = np.searchsorted(labels.codes[order], np.arange(len(labels.categories) + 1))
        children = []
        for level in _ordered(labels):
            members = self._cell_ids[order[bounds[level] : bounds[level + 1]]]
            label = labels.categories[level]
            color = own[level] if level < len(own) else next(self._pool)
            child_key = self.free(_own_id(label) if key == "sample" else f"{key}-{label}")
            children.append(CellSet(child_key, naming(label), color, np.sort(members), plan.kind))
        extra: dict[str, Any] = {"column": column} if column else {}
        if column in self._made:
            extra["made"] = True
        return CellClass(key, plan.name, plan.kind, children, extra=extra)

    def custom(self, metadata: Mapping[str, Column]) -> CellClass:
        children = []
        for name, column in metadata.items():
            if name.startswith(_CUSTOM) and isinstance(column, np.ndarray) and column.dtype == np.bool_:
                title, key = name.removeprefix(_CUSTOM), self.free(_stable("scratchpad", name))
                children.append(CellSet(key, title, next(self._pool), np.sort(self._cell_ids[column]), "cellSets"))
        return CellClass("scratchpad", "Custom cell sets", "cellSets", children)

    def free(self, key: str) -> str:
        free, number = key, 2
        while free in self._taken:
            free, number = f"{key} ({number})", number + 1
        self._taken.add(free)
        return free


def _used(column: Categorical) -> NDArray[np.int32]:
    return np.unique(column.codes[column.codes >= 0])


def _ordered(column: Categorical) -> list[int]:
    used: list[int] = _used(column).tolist()
    labels = column.categories
    if all(re.fullmatch(r"-?\d+", labels[i]) for i in used):
        return sorted(used, key=lambda i: int(labels[i]))
    return used


def _as_labels(name: str, column: Column) -> Categorical | None:
    if isinstance(column, Categorical):
        return column
    if column.dtype == np.bool_:
        return Categorical(column.astype(np.int32), ["FALSE", "TRUE"])
    # Whole numbers are labels only where the name says so (leiden, seurat_clusters, batch): counts are not.
    if not (_CLUSTERING.search(name) or re.search(r"batch|lane|replicate", name, re.IGNORECASE)):
        return None
    known = np.isfinite(column)
    values = np.unique(column[known])
    if len(values) > MAX_LEVELS or np.any(values != np.floor(values)):
        return None
    codes = np.where(known, np.searchsorted(values, np.where(known, column, 0)), -1)
    return Categorical(codes.astype(np.int32), [str(int(value)) for value in values])


def _clustering(
    labels: Mapping[str, Categorical], identities: Categorical | None, samples: Categorical | None, n_cells: int
) -> tuple[str, str, Categorical]:
    """Return the column of the clusters in use, empty where they are in none, a name for that case, and the labels."""

    def telling(column: Categorical | None) -> bool:
        return column is not None and len(_used(column)) > 1 and not (samples and _same_partition(column, samples))

    candidates: dict[str, Categorical | None] = {
        "": identities,
        "seurat_clusters": labels.get("seurat_clusters"),
    }
    # What scanpy calls its clusterings comes before other columns that look like one.
    candidates |= {name: labels.get(name) for name in ("leiden", "louvain")}
    candidates |= {name: column for name, column in labels.items() if _CLUSTERING.search(name)}
    for name, column in candidates.items():
        if column is not None and telling(column):
            return (_column_of(column, candidates, labels) if column is identities else name), _IDENTITIES, column
    if identities is not None:
        return _column_of(identities, candidates, labels), _IDENTITIES, identities
    return "", _ALL_CELLS, Categorical(np.zeros(n_cells, np.int32), ["All cells"])


def _column_of(
    identities: Categorical, candidates: Mapping[str, Categorical | None], labels: Mapping[str, Categorical]
) -> str:
    """Return the column that says the same as the identities, clusterings first; empty without one."""
    names = (name for name in dict.fromkeys([*candidates, *labels]) if name in labels)
    return next((name for name in names if _same_labels(labels[name], identities)), "")


def _same_labels(a: Categorical, b: Categorical) -> bool:
    """Return whether two columns give each cell the same label; missing ones count."""
    places = {label: code for code, label in enumerate(b.categories)}
    translated = np.array([*(places.get(label, -2) for label in a.categories), -1], np.int32)
    return bool(np.array_equal(translated[a.codes], b.codes))


def _same_partition(a: Categorical, b: Categorical) -> bool:
    pairs = np.unique(np.stack([a.codes, b.codes]), axis=1).shape[1]
    return bool(pairs == len(np.unique(a.codes)) == len(np.unique(b.codes)))


def _constant_within(column: Categorical, samples: Categorical) -> bool:
    pairs = np.unique(np.stack([samples.codes, column.codes]), axis=1)
    return bool(pairs.shape[1] == len(np.unique(samples.codes)))


def _are_numbers(column: Categorical) -> bool:
    return all(re.fullmatch(r"\d+", column.categories[i]) for i in _used(column))


def _numbered(label: str) -> str:
    return f"Cluster {label}"


def _by_value(label: str) -> str:
    return label


def _stable(*parts: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, "\0".join(("cellworker", *parts))))


def _own_id(label: str) -> str:
    """Return the key of a sample: the platform's id where it is one."""
    try:
        return str(uuid.UUID(label))
    except ValueError:
        return f"sample-{label}"
