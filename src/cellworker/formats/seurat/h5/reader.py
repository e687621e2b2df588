"""From an h5Seurat file to the Seurat object that SeuratDisk would load of it; its reader and writers are Seurat's own.

Source: SeuratDisk's "h5Seurat File Format Specification".
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellworker.errors import WorkerError
from cellworker.formats.anndata.containers.tree import TreeGroup
from cellworker.formats.r.rds.build import integers, logicals, named_list, package_version, strings
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.model import RS4, RList, RNull, RStrings, RValue, RVector
from cellworker.formats.r.rds.spool import Spool
from cellworker.formats.seurat.h5.values import H5Values, damaged, is_array, is_group, is_sparse

__all__ = ["H5Seurat", "read_h5seurat"]

_OF_ASSAY = frozenset(
    {"counts", "data", "scale.data", "scaled.features", "features", "variable.features", "meta.features", "misc"}
)
_OF_REDUCTION = frozenset(
    {"cell.embeddings", "feature.loadings", "feature.loadings.projected", "features", "projected.features", "stdev"}
)
_VERSION = re.compile(r"\d+(\.\d+){1,3}")


@dataclass(frozen=True, slots=True)
class H5Seurat:
    """An object, and in words what of its file is no part of it."""

    root: RS4
    passed_over: tuple[str, ...]


def read_h5seurat(path: Path, spool: Path, limits: Limits, threads: int = 1, *, exact: bool = False) -> H5Seurat:
    """Read a file.

    Parameters
    ----------
    path
        The file.
    spool
        An existing folder for long vectors; the caller deletes it.
    limits
        Ceilings beyond which the file is refused.
    threads
        Threads that inflate compressed chunks.
    exact
        Keep the values of sparse matrices as doubles, not as float32.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` when it is damaged, or holds what SeuratDisk does not write.
    """
    from cellworker.formats.anndata.containers.hdf5 import open_hdf5  # noqa: PLC0415 - an .rds file needs no h5py
    from cellworker.formats.anndata.containers.watched import Watched  # noqa: PLC0415

    with _in_words(), open_hdf5(path, limits.max_inflated_bytes, threads) as root:
        watched = Watched(root)
        found = _Object(watched, H5Values(Spool(spool, limit=limits.writing), exact=exact)).seurat()
        return H5Seurat(found, tuple(f"{item}: no part of a Seurat object" for item in watched.passed_over()))


@contextmanager
def _in_words() -> Iterator[None]:
    """Let errors of the container name this kind of file."""
    try:
        yield
    except WorkerError as error:
        text = error.message.replace("The AnnData file", "The h5Seurat file")
        text = text.replace("write the file with anndata", "write the file with SeuratDisk::SaveH5Seurat()")
        raise WorkerError(error.code, text.replace("AnnData holds fewer", "no experiment holds as many")) from None


class _Object:
    def __init__(self, root: TreeGroup, values: H5Values) -> None:
        self._root, self._values = root, values
        self._cells = values.texts(root.get("cell.names"), "cell.names")

    def seurat(self) -> RS4:
        root, values = self._root, self._values
        assays = {name: self._assay(group, name) for name, group in self._groups("assays")}
        version = str(root.attrs.get("version", "") or "")
        slots: dict[str, RValue] = {
            "assays": named_list(assays),
            "meta.data": self._metadata(),
            "active.assay": strings(str(root.attrs.get("active.assay", "") or "")),
            "graphs": named_list(dict(self._graphs())),
            "neighbors": self._list("neighbors"),
            "reductions": named_list({name: self._reduction(group) for name, group in self._groups("reductions")}),
            "images": self._list("images"),
            "project.name": strings(str(root.attrs.get("project", "") or "SeuratProject")),
            "misc": self._list("misc"),
            "version": package_version(found[0]) if (found := _VERSION.match(version)) else RNull(),
            "commands": self._list("commands"),
            "tools": self._list("tools"),
        }  # fmt: skip
        identities = root.get("active.ident")
        if is_group(identities):
            found_identities = values.factor(identities)
            if len(self._cells) == len(found_identities):
                found_identities.attributes["names"] = self._cells
            slots["active.ident"] = found_identities
        return RS4("Seurat", "SeuratObject", slots)

    def _groups(self, name: str) -> Iterator[tuple[str, TreeGroup]]:
        group = self._root.get(name)
        for member in group.names() if is_group(group) else []:
            item = group.get(member) if is_group(group) else None
            if is_group(item):
                yield member, item

    def _list(self, name: str) -> RValue:
        group = self._root.get(name)
        return self._values.members(group) if is_group(group) else RList([])

    def _metadata(self) -> RList:
        return self._values.frame(self._root.get("meta.data"), self._cells, "meta.data")

    def _assay(self, group: TreeGroup, name: str) -> RValue:
        values, path = self._values, f"assays/{name}"
        features = values.texts(group.get("features"), f"{path}/features")
        slots: dict[str, RValue] = {}
        for kind in ("counts", "data"):
            found = self._matrix(group, kind, features)
            if found is not None:
                slots[kind] = found
        if not slots:
            raise damaged(path, "neither counts nor data")
        scaled = group.get("scale.data")
        if is_array(scaled) and 0 not in scaled.shape:
            names = group.get("scaled.features")
            rows = values.texts(names, f"{path}/scaled.features") if names is not None else features
            slots["scale.data"] = values.matrix(scaled, rows, self._cells)
        variable = group.get("variable.features")
        slots["var.features"] = values.texts(variable, f"{path}/variable.features") if variable else strings([])
        slots["key"] = strings(str(group.attrs.get("key", "") or ""))
        table = group.get("meta.features")
        slots["meta.features"] = values.frame(table, features, f"{path}/meta.features") if table else RNull()
        misc = group.get("misc")
        slots["misc"] = values.members(misc) if is_group(misc) else RNull()
        slots |= self._others(group, _OF_ASSAY)
        declared = str(group.attrs.get("s4class", "") or "")
        package, _, class_name = declared.rpartition(":")
        return RS4(class_name or "Assay", package or "SeuratObject", slots)

    def _others(self, group: TreeGroup, known: frozenset[str]) -> dict[str, RValue]:
        """Return further slots, of an assay or reduction of a class of its own."""
        items = {name: group.get(name) for name in group.names() if name not in known}
        return {name: self._values.value(item) for name, item in items.items() if item is not None}

    def _matrix(self, group: TreeGroup, kind: str, features: RStrings) -> RValue | None:
        node = group.get(kind)
        if is_sparse(node):
            found = self._values.sparse(node, features, self._cells)
            dims = found.slots["Dim"]
            assert isinstance(dims, RVector)
            if dims.values.tolist() != [len(features), len(self._cells)]:
                raise damaged(node.path, "a matrix of {} x {}".format(*dims.values.tolist()) +
                              f" for {len(features)} features and {len(self._cells)} cells")  # fmt: skip
            return found
        if is_array(node) and len(node.shape) == 2 and 0 not in node.shape:
            return self._values.matrix(node, features, self._cells)
        if is_group(node) or (is_array(node) and 0 not in node.shape):
            raise damaged(path=f"{group.path}/{kind}", what="expected a sparse or dense matrix")
        return None

    def _graphs(self) -> Iterator[tuple[str, RValue]]:
        for name, group in self._groups("graphs"):
            if is_sparse(group):
                graph = self._values.sparse(group, self._cells, self._cells, "Graph")
                graph.slots["assay.used"] = strings(str(group.attrs.get("assay.used", "") or ""))
                yield name, graph

    def _reduction(self, group: TreeGroup) -> RValue:
        values, key = self._values, str(group.attrs.get("key", "") or "")
        slots: dict[str, RValue] = {}
        embeddings = group.get("cell.embeddings")
        if not is_array(embeddings) or len(embeddings.shape) != 2:
            raise damaged(path=f"{group.path}/cell.embeddings", what="expected a matrix")
        titles = strings([f"{key}{number + 1}" for number in range(embeddings.shape[0])])
        slots["cell.embeddings"] = values.matrix(embeddings, self._cells, titles)
        for name, rows in (("feature.loadings", "features"), ("feature.loadings.projected", "projected.features")):
            loadings, features = group.get(name), group.get(rows)
            if is_array(loadings) and len(loadings.shape) == 2 and 0 not in loadings.shape:
                named = values.texts(features, f"{group.path}/{rows}") if features is not None else None
                slots[name] = values.matrix(loadings, named, titles if loadings.shape[0] == len(titles) else None)
            else:
                slots[name] = RVector(np.zeros(0), "double", {"dim": integers([0, 0])})
        stdev = group.get("stdev")
        known = is_array(stdev) and stdev.dtype is not None
        slots["stdev"] = values.vector(stdev) if known and is_array(stdev) else RVector(np.zeros(0), "double")
        slots["assay.used"] = strings(str(group.attrs.get("active.assay", "") or ""))
        slots["global"] = logicals([bool(group.attrs.get("global", 0))])
        slots["key"] = strings(key)
        slots |= self._others(group, _OF_REDUCTION)
        return RS4("DimReduc", "SeuratObject", slots)
