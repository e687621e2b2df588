"""Results in ``uns`` of an AnnData file as tables: scanpy's tests of genes, data frames, lists, and mappings of them.

scanpy's tests (``rank_genes_groups``) become one table with the columns of ``scanpy.get.rank_genes_groups_df``.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.errors import WorkerError
from cellworker.experiment.model import Categorical, Column
from cellworker.formats.anndata.containers.tree import Array, Node, TreeGroup
from cellworker.formats.anndata.elements import column, is_array, is_group, members, table_of, text_of
from cellworker.formats.common.cells.labels import categorical
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.stored_results import DEEPEST, ResultTables, values_table

__all__ = ["stored_results"]

_OWN = frozenset({"cellworker", "images", "gene_dispersion", "misc", "origin"})
"""Content of our own files there, which is served in other ways."""
_TITLES = {"pts": "pct_nz_group", "pts_rest": "pct_nz_reference"}
_SPARSE = frozenset({"csr_matrix", "csc_matrix"})
_MAX_MATRIX_COLUMNS = 100


def stored_results(root: TreeGroup, findings: Findings) -> ResultTables:
    """Collect the results in ``uns``; broken ones are left out and reported, and never make the file refused."""
    found = ResultTables()
    ours = root.get("uns/cellworker") is not None
    for name, node in members(root.get("uns")):
        if name.endswith("_colors") or name == "cellworker" or (ours and name in _OWN):
            continue
        try:
            _collect(found, name, node, f"uns/{name}", 0)
        except WorkerError:
            found.leave_out(name)
    found.tell(findings, "uns")
    return found


def _collect(found: ResultTables, name: str, node: Node, source: str, depth: int) -> None:
    if is_array(node):
        _collect_array(found, name, node, source)
    elif is_group(node):
        _collect_group(found, name, node, source, depth)


def _collect_array(found: ResultTables, name: str, node: Array, source: str) -> None:
    if node.is_null() or not node.shape:
        return
    if node.dtype is not None and node.dtype.names:
        found.add(name, source, "table", _fields(node.records().ravel()))
    elif len(node.shape) == 2 and node.dtype is not None and node.shape[1] <= _MAX_MATRIX_COLUMNS:
        values = node.read()
        if values.dtype.kind in "biuf":
            columns: dict[str, Column] = {str(i + 1): _numbers(values[:, i]) for i in range(values.shape[1])}
            found.add(name, source, "table", columns)
    elif len(node.shape) == 1:
        values_or_texts = _list(node)
        if values_or_texts is not None:
            found.add(name, source, "list", {"value": values_or_texts})


def _collect_group(found: ResultTables, name: str, node: TreeGroup, source: str, depth: int) -> None:
    kind = str(node.attrs.get("encoding-type", ""))
    names = node.get("names")
    if kind in _SPARSE:
        return
    if is_array(names) and names.dtype is not None and names.dtype.names:
        found.add(name, source, "tests", _tests(node, names.records()), _parameters(node))
        return
    if kind == "dataframe":
        found.add(name, source, "table", _frame(node))
        return
    if node.get("codes") is not None or node.get("mask") is not None:
        return  # a column that is here alone; `_columns_of` reads it where it is part of a mapping
    single = _parameters(node, inside=False)
    if single:
        found.add(name, source, "values", values_table(single))
    columns = _columns_of(node)
    together = len({_length(one) for one in columns.values()}) == 1 and len(columns) > 1
    if together:
        found.add(f"{name}.table" if single else name, source, "table", columns)
    for member, child in members(node):
        if member not in columns and depth < DEEPEST:
            _collect(found, f"{name}.{member}", child, f"{source}/{member}", depth + 1)
        elif member in columns and not together:
            found.add(f"{name}.{member}", f"{source}/{member}", "list", {"value": columns[member]})


def _columns_of(node: TreeGroup) -> dict[str, Column]:
    """Return the members that are columns: lists, categoricals and lists with a mask."""
    out: dict[str, Column] = {}
    for member, child in members(node):
        alone = is_array(child) and len(child.shape) == 1 and not (child.dtype is not None and child.dtype.names)
        if alone or (is_group(child) and (child.get("codes") is not None or child.get("mask") is not None)):
            got = column(node, member, None)
            if got is not None:
                out[member] = got
    return out


def _length(one: Column) -> int:
    return len(one.codes if isinstance(one, Categorical) else one)


def _list(node: Array) -> Column | None:
    if node.dtype is None:
        return categorical(node.texts())
    return _numbers(node.read()) if node.dtype.kind in "biuf" else None


def _numbers(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype == np.bool_:
        return values
    return values.astype(np.int64 if values.dtype.kind in "iu" and values.dtype != np.uint64 else np.float64)


def _fields(records: NDArray[Any]) -> dict[str, Column]:
    names: tuple[str, ...] = records.dtype.names or ()
    return {
        name: categorical(records[name].tolist()) if records.dtype[name].kind == "O" else _numbers(records[name])
        for name in names
        if records.dtype[name].kind in "Obiuf"
    }


def _frame(node: TreeGroup) -> dict[str, Column]:
    table = table_of(node)
    if table is None:
        return {}
    at = node.attrs.get("_index", "")
    title = at if isinstance(at, str) and at not in {"", "_index"} and at not in table.columns else "index"
    out: dict[str, Column] = {title: categorical(table.index)}
    for name in table.columns:
        got = table.get(name)
        if got is not None and name not in out:
            out[name] = got
    return out


def _tests(node: TreeGroup, names: NDArray[Any]) -> dict[str, Column]:
    """Return scanpy's tests, group after group, each in its order."""
    groups: list[str] = list(names.dtype.names or ())
    n_rows = len(names.ravel())
    genes = categorical([gene for group in groups for gene in names[group].ravel().tolist()])
    codes = np.repeat(np.arange(len(groups), dtype=np.int32), n_rows)
    out: dict[str, Column] = {"group": Categorical(codes, groups), "names": genes}
    for title in ("scores", "logfoldchanges", "pvals", "pvals_adj"):
        field = node.get(title)
        if not is_array(field) or field.dtype is None or field.dtype.names != tuple(groups):
            continue
        records = field.records()
        parts = [np.asarray(records[group], np.float64).ravel() for group in groups]
        if all(len(part) == n_rows for part in parts):
            out[title] = np.concatenate(parts)
    for member, title in _TITLES.items():
        shares = _shares(node.get(member), groups, genes, n_rows)
        if shares is not None:
            out[title] = shares
    return out


def _shares(node: Node | None, groups: list[str], genes: Categorical, n_rows: int) -> NDArray[np.float64] | None:
    """Return the share of cells that express each gene, found in a data frame of genes and groups."""
    table = table_of(node)
    if table is None:
        return None
    place = {gene: i for i, gene in enumerate(table.index)}
    rows = np.array([place.get(gene, -1) for gene in genes.categories], np.int64)[genes.codes]
    out = np.full(len(rows), math.nan)
    for number, group in enumerate(groups):
        values = table.get(group)
        if not isinstance(values, np.ndarray):
            return None
        part = slice(number * n_rows, (number + 1) * n_rows)
        out[part] = np.where(rows[part] >= 0, values.astype(np.float64)[rows[part]], math.nan)
    return out


def _parameters(node: TreeGroup, *, inside: bool = True) -> dict[str, str]:
    """Return the single values of a mapping, or of its ``params``, as text."""
    place = node.get("params") if inside else node
    if not is_group(place):
        return {}
    out = {}
    for name, child in members(place):
        if is_array(child) and not child.shape and not child.is_null() and not _has_fields(child):
            texts = text_of(child)
            if texts:
                out[name] = texts[0]
    return out


def _has_fields(node: Array) -> bool:
    return node.dtype is not None and isinstance(node.dtype.names, Mapping | tuple)
