"""Cell sets for an experiment that brings none: from its identities, its samples and its categorical metadata."""

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.cell_sets import CellClass, CellSet, CellSets
from cellworker.experiment.model import Categorical, Column
from cellworker.formats.common.palette import palette

__all__ = ["derive_cell_sets"]

MAX_LEVELS = 50
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
_CLUSTERING = re.compile(
    r"(_res\.|^res\.|cluster|leiden|louvain|annotation|cell[._ ]?type|cell[._ ]?label|letter\.idents)", re.IGNORECASE
)
_RESERVED = ("louvain", "scratchpad", "sample")
_CUSTOM = "custom_cellset-"
_PLATFORM_COLUMNS = frozenset({"cells_id", "samples"})


def derive_cell_sets(
    cell_ids: NDArray[np.int32],
    metadata: Mapping[str, Column],
    identities: Categorical | None,
    color_pool: list[str] | None = None,
    colors: Mapping[str, list[str]] | None = None,
) -> CellSets:
    """Make the classes that the platform's clients expect (contract 6.1), in its order.

    * ``louvain``: the active identities where they tell more than the samples do, else ``seurat_clusters``, else
      another column that looks like a clustering, else the identities as they are.
    * ``scratchpad``: the sets that an annotated object keeps in columns ``custom_cellset-<name>``; empty without them.
    * ``sample``: the column ``samples``, which readers always provide.
    * metadata tracks: columns of 2 to 50 labels that are constant within every sample.
    * further clusterings, told by their names (``*_res.*``, cluster, leiden, cell type, annotation), then every other
      column of 2 to 50 labels as cell-level metadata.

    Keys depend on names alone, so that the same object gives the same file. Colours are those that the object has for a
    column's labels (`colors`, by column), else taken in order from the pool.
    """
    labels = {name: found for name, column in metadata.items() if (found := _as_labels(name, column)) is not None}
    samples = labels.get("samples")
    maker = _Maker(cell_ids, cycle(color_pool or palette()), colors or {})
    source, clusters = _clustering(labels, identities, samples, len(cell_ids))
    classes = [
        maker.build(
            "louvain", f"Clusters ({source})", "cellSets", clusters, _numbered("louvain", clusters), source=source
        ),
        maker.custom(metadata),
    ]
    if samples is not None:
        classes.append(maker.build("sample", "Samples", "metadataCategorical", samples, _sample_keys))
    # A column that only says the clusters again would be the same class twice; other labels for them are news.
    repeated_labels = {clusters.categories[i] for i in _used(clusters)}
    tracks, clusterings, others = [], [], []
    for name, column in labels.items():
        if (
            name in {*_PLATFORM_COLUMNS, source}
            or name.startswith(_CUSTOM)
            or (not 2 <= len(_used(column)) <= MAX_LEVELS)
        ):
            continue
        if samples is not None and _same_partition(column, samples):
            continue
        if {column.categories[i] for i in _used(column)} == repeated_labels and _same_partition(column, clusters):
            continue
        key = f"{name} (column)" if name in _RESERVED else name
        by_value = _by_value(key)
        if samples is not None and len(_used(samples)) > 1 and _constant_within(column, samples):
            tracks.append(maker.build(key, name, "metadataCategorical", column, by_value))
        elif _CLUSTERING.search(name):
            clusterings.append(maker.build(key, name, "cellSets", column, by_value))
        else:
            others.append(maker.build(_stable(name), name, "CLM", column, _stable_keys(name)))
    return CellSets([*classes, *tracks, *clusterings, *others])


class _Maker:
    def __init__(self, cell_ids: NDArray[np.int32], pool: Iterator[str], colors: Mapping[str, list[str]]) -> None:
        self._cell_ids = cell_ids
        self._pool = pool
        self._colors = colors
        self._taken = set(_RESERVED)

    def build(
        self,
        key: str,
        name: str,
        kind: str,
        column: Categorical,
        keys: Callable[[str], tuple[str, str]],
        *,
        source: str | None = None,
    ) -> CellClass:
        own = self._colors.get(source or name, [])
        key = key if key in _RESERVED else self._free(key)
        order = np.argsort(column.codes, kind="stable")
        bounds = np.searchsorted(column.codes[order], np.arange(len(column.categories) + 1))
        children = []
        for level in _ordered(column):
            members = self._cell_ids[order[bounds[level] : bounds[level + 1]]]
            child_key, child_name = keys(column.categories[level])
            color = own[level] if level < len(own) else next(self._pool)
            children.append(CellSet(self._free(child_key), child_name, color, np.sort(members), kind))
        return CellClass(key, name, kind, children)

    def custom(self, metadata: Mapping[str, Column]) -> CellClass:
        children = []
        for name, column in metadata.items():
            if name.startswith(_CUSTOM) and isinstance(column, np.ndarray) and column.dtype == np.bool_:
                title, key = name.removeprefix(_CUSTOM), self._free(_stable("scratchpad", name))
                children.append(CellSet(key, title, next(self._pool), np.sort(self._cell_ids[column]), "cellSets"))
        return CellClass("scratchpad", "Custom cell sets", "cellSets", children)

    def _free(self, key: str) -> str:
        while key in self._taken:
            key += "'"
        self._taken.add(key)
        return key


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
) -> tuple[str, Categorical]:
    def telling(column: Categorical | None) -> bool:
        return column is not None and len(_used(column)) > 1 and not (samples and _same_partition(column, samples))

    candidates: dict[str, Categorical | None] = {
        "identities": identities,
        "seurat_clusters": labels.get("seurat_clusters"),
    }
    # What scanpy calls its clusterings comes before other columns that look like one.
    candidates |= {name: labels.get(name) for name in ("leiden", "louvain")}
    candidates |= {name: column for name, column in labels.items() if _CLUSTERING.search(name)}
    for name, column in candidates.items():
        if column is not None and telling(column):
            return name, column
    if identities is not None:
        return "identities", identities
    return "all cells", Categorical(np.zeros(n_cells, np.int32), ["All cells"])


def _same_partition(a: Categorical, b: Categorical) -> bool:
    pairs = np.unique(np.stack([a.codes, b.codes]), axis=1).shape[1]
    return bool(pairs == len(np.unique(a.codes)) == len(np.unique(b.codes)))


def _constant_within(column: Categorical, samples: Categorical) -> bool:
    pairs = np.unique(np.stack([samples.codes, column.codes]), axis=1)
    return bool(pairs.shape[1] == len(np.unique(samples.codes)))


def _numbered(key: str, column: Categorical) -> Callable[[str], tuple[str, str]]:
    numeric = all(re.fullmatch(r"\d+", column.categories[i]) for i in _used(column))
    return lambda label: (f"{key}-{label}", f"Cluster {label}" if numeric else label)


def _by_value(key: str) -> Callable[[str], tuple[str, str]]:
    return lambda label: (f"{key}-{label}", label)


def _stable(*parts: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, "\0".join(("cellworker", *parts))))


def _stable_keys(name: str) -> Callable[[str], tuple[str, str]]:
    return lambda label: (_stable(name, label), label)


def _sample_keys(label: str) -> tuple[str, str]:
    try:
        return str(uuid.UUID(label)), label
    except ValueError:
        return _stable("sample", label), label
