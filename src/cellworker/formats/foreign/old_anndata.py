"""AnnData as anndata before 0.7 wrote it.

``obs`` and ``var`` are compound tables (also ``raw.var``, and ``obsm`` and ``varm`` of the oldest). Columns of labels
are codes, whose labels are in ``uns["<column>_categories"]``. Sparse matrices carry ``h5sparse_format``. ``raw.X`` and
``raw.var`` may be in the root under these very names. All as anndata's own reader of legacy files has it
(``anndata/_io/h5ad.py``).
"""

from typing import Any, Final

import numpy as np

from cellworker.experiment.model import Categorical
from cellworker.formats.anndata.containers.memory import (
    MemoryArray,
    MemoryGroup,
    Moved,
    MovedArray,
    put_column,
    table_group,
)
from cellworker.formats.anndata.containers.tree import Array, Node, TreeGroup, damaged
from cellworker.formats.anndata.elements import is_array, is_group, members, text_of
from cellworker.formats.anndata.inventory import attributes_of, elements_of, own_attributes
from cellworker.formats.common.ledger import Ledger, Path
from cellworker.formats.foreign.shown import ForeignFile

__all__ = ["read_old_anndata"]

_TABLES: Final = {"obs": "obs", "var": "var", "raw.var": "raw/var", "raw/var": "raw/var"}
_WIDE: Final = {"obsm": "obsm", "varm": "varm", "raw.varm": "raw/varm", "raw/varm": "raw/varm"}
_INDICES: Final = ("index", "_index", "obs_names", "var_names")
_GRAPHS: Final = frozenset({"connectivities", "distances"})
_SUFFIX: Final = "_categories"


def read_old_anndata(root: TreeGroup) -> ForeignFile:
    """Show an opened file as AnnData of today.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` when a table is damaged.
    """
    attributes = list(attributes_of(root))
    ledger = Ledger(elements_of(root), attributes)
    out = MemoryGroup("", {"encoding-type": "anndata", "encoding-version": "0.1.0"})
    uns = root.get("uns")
    used = _tables(root, out, uns if is_group(uns) else None, ledger)
    _others(root, out, ledger)
    target_uns = out.group("uns")
    for name, node in members(uns):
        if name == "neighbors" and is_group(node):
            _neighbours(node, out, target_uns, ledger)
            continue
        if name in used:
            ledger.rename(("uns", name), f"the categories of {name.removesuffix(_SUFFIX)}")
            continue
        target_uns.put(name, _modern(node, f"uns/{name}"))
        _same(ledger, f"uns/{name}", f"uns/{name}")
    for name in ("layers", "obsm", "obsp", "varm", "varp"):
        if out.get(name) is None:
            out.group(name)
    told = set(attributes_of(out))
    for path, name in attributes:
        if (_place(path), name) in told:
            ledger.keep_attributes(path, (name,))
    return ForeignFile(out, "anndata before 0.7", ledger.close())


def _tables(root: TreeGroup, out: MemoryGroup, uns: TreeGroup | None, ledger: Ledger) -> set[str]:
    """Lay out the tables; returns the names of the labels in ``uns`` that went into them."""
    used: set[str] = set()
    for source, target in (*_TABLES.items(), *_WIDE.items()):
        node = root.get(source)
        if node is None or out.get(target) is not None:
            continue
        if not is_array(node):
            _put(out, target, _modern(node, target))
            _same(ledger, source, target)
        elif source in _TABLES:
            _table(node, out, target, uns, used)
            ledger.rename(tuple(source.split("/")), target, "columns of its compound table")
        else:
            _wide(node, out, target)
            ledger.rename(tuple(source.split("/")), target, "arrays of its compound table")
    return used


def _others(root: TreeGroup, out: MemoryGroup, ledger: Ledger) -> None:
    for name, node in members(root):
        target = {"raw.X": "raw/X"}.get(name, name)
        if name not in _TABLES and name not in _WIDE and name not in {"uns", "raw"}:
            _put(out, target, _modern(node, target))
            _same(ledger, name, target)
    for name, node in members(root.get("raw")):
        if name not in {"var", "varm"}:
            _put(out, f"raw/{name}", _modern(node, f"raw/{name}"))
            _same(ledger, f"raw/{name}", f"raw/{name}")


def _neighbours(node: TreeGroup, out: MemoryGroup, uns: MemoryGroup, ledger: Ledger) -> None:
    """Put the graphs of ``uns["neighbors"]`` into ``obsp``, where anndata puts them when it reads such a file."""
    graphs = [name for name, member in members(node) if name in _GRAPHS and is_group(member) and _is_sparse(member)]
    obsp = out.group("obsp")
    for name in graphs:
        member = node.get(name)
        if member is not None and obsp.get(name) is None:
            obsp.put(name, _modern(member, f"obsp/{name}"))
            _same(ledger, f"uns/neighbors/{name}", f"obsp/{name}")
    uns.put("neighbors", _Modern(node, "uns/neighbors", frozenset(graphs)))
    _same(ledger, "uns/neighbors", "uns/neighbors")


def _same(ledger: Ledger, source: str, target: str) -> None:
    where = tuple(source.split("/"))
    if ledger.is_open(where):
        if source == target:
            ledger.keep(where)
        else:
            ledger.rename(where, target)


def _place(path: Path) -> Path:
    """Return where a node of the file is in the tree."""
    if path[:2] == ("uns", "neighbors") and len(path) > 2 and path[2] in _GRAPHS:
        return ("obsp", *path[2:])
    return (*path[0].split("."), *path[1:]) if path and path[0].startswith("raw.") else path


def _is_sparse(node: TreeGroup) -> bool:
    return bool(node.attrs.get("h5sparse_format", ""))


class _Modern(Moved):
    """A group under another path whose elements say what they are, as anndata writes it today."""

    def __init__(self, group: TreeGroup, path: str, left_out: frozenset[str] = frozenset()) -> None:
        super().__init__(group, path, left_out)
        if _is_sparse(group):
            shape = group.attrs.get("h5sparse_shape", None)
            kind = f"{group.attrs.get('h5sparse_format', '')}_matrix"
            self.attrs = {**_beyond(group), "encoding-type": kind, "encoding-version": "0.1.0", "shape": shape}
        elif not group.attrs.get("encoding-type", ""):
            self.attrs = {**_beyond(group), "encoding-type": "dict", "encoding-version": "0.1.0"}
        self._plain = _is_sparse(group)

    def get(self, name: str) -> Node | None:
        """Return a member by name or path."""
        node = super().get(name)
        if node is None or self._plain:
            return node
        return _modern(node, node.path)


def _modern(node: Node, path: str) -> Node:
    if is_group(node):
        return _Modern(node, path)
    assert is_array(node)
    found = MovedArray(node, path)
    if not node.attrs.get("encoding-type", "") and not node.is_null():
        text, scalar = node.dtype is None, not node.shape
        kind = ("string" if scalar else "string-array") if text else "numeric-scalar" if scalar else "array"
        kind = "rec-array" if node.dtype is not None and node.dtype.names else kind
        found.attrs = {**_beyond(node), "encoding-type": kind, "encoding-version": "0.2.0"}
    return found


def _beyond(node: Node) -> dict[str, Any]:
    """Return what a node says beside how it is stored."""
    return {name: node.attrs.get(name) for name in own_attributes(node)}


def _put(root: MemoryGroup, path: str, node: Node) -> None:
    *before, name = path.split("/")
    for part in before:
        root = root.group(part)
    root.put(name, node)


def _table(node: Array, out: MemoryGroup, target: str, uns: TreeGroup | None, used: set[str]) -> None:
    records = node.records()
    fields = records.dtype.names or ()
    if records.ndim != 1:
        raise damaged(node.path, "expected one record for each cell or gene")
    place, _, name = target.rpartition("/")
    parent = out.group(place) if place else out
    index = next((field for field in _INDICES if field in fields), None)
    names = list(map(str, records[index].tolist())) if index is not None else list(map(str, range(len(records))))
    table = table_group(parent, name, names)
    for field in fields:
        if field == index:
            continue
        values = records[field]
        if values.ndim != 1:
            raise damaged(node.path, f"the field {field} holds several values for each record")
        stored = uns.get(field + _SUFFIX) if uns is not None else None
        labels = text_of(stored) if is_array(stored) else None
        if labels is not None and values.dtype.kind in "iu":
            codes = values.astype(np.int64)
            if len(codes) and not -1 <= codes.min() <= codes.max() < len(labels):
                raise damaged(node.path, f"a code of {field} outside its {len(labels)} categories")
            put_column(table, field, Categorical(codes.astype(np.int32), labels))
            used.add(field + _SUFFIX)
        elif values.dtype.kind in "biuf":
            put_column(table, field, np.ascontiguousarray(values))
        else:
            put_column(table, field, list(map(str, values.tolist())))


def _wide(node: Array, out: MemoryGroup, target: str) -> None:
    records = node.records()
    place, _, name = target.rpartition("/")
    group = (out.group(place) if place else out).group(name)
    for field in records.dtype.names or ():
        values = records[field]
        if values.dtype.kind in "biuf":
            group.put(field, MemoryArray(f"{target}/{field}", np.ascontiguousarray(values)))
