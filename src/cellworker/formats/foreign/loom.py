"""Loom files (specification 2 and 3, and those that name none): genes x cells, with attributes of both.

====================  =============================================================================================
loom                  AnnData
====================  =============================================================================================
matrix, layers        X and layers, turned to cells x genes, sparse
col_attrs, row_attrs  obs and var; with several values for each cell or gene: obsm and varm
CellID, Gene          the index of obs, the index of var; Accession is var/gene_ids
col_graphs            obsp (entries a, b, w)
row_graphs            varp
attrs                 uns
====================  =============================================================================================

The specification: "Loom file format specs" of linnarssonlab.org/loompy.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from cellworker.formats.anndata.containers.memory import (
    MemoryArray,
    MemoryGroup,
    MemoryMatrix,
    MemoryTexts,
    put_column,
    table_group,
)
from cellworker.formats.anndata.containers.tree import TreeGroup
from cellworker.formats.anndata.elements import is_array, is_group, members, text_of
from cellworker.formats.anndata.inventory import attributes_of, elements_of
from cellworker.formats.anndata.matrices import nonzeros_of
from cellworker.formats.anndata.turning import turned
from cellworker.formats.common.ledger import Ledger
from cellworker.formats.common.matrices.exact_values import single
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.foreign.entries import by_cell
from cellworker.formats.foreign.root_attributes import keep_root_attributes
from cellworker.formats.foreign.shown import ForeignFile, Reading, refused

__all__ = ["read_loom"]

_AGAIN: Final = "copy the file here again, or write it again with loompy"
_CELLS: Final = ("CellID", "obs_names", "cell_id", "cell_names", "barcode", "barcodes", "Cell", "index")
_GENES: Final = ("Gene", "var_names", "gene", "gene_names", "gene_symbols", "Name", "index")
_IDS: Final = ("Accession", "gene_ids", "ensembl", "EnsemblID", "GeneID")


def read_loom(root: TreeGroup, path: Path, reading: Reading) -> ForeignFile:
    """Show an opened file as AnnData; matrices are read when they are asked for.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` when it is damaged, or attributes have other lengths than the matrix.
    """
    matrix = root.get("matrix")
    if not is_array(matrix) or len(matrix.shape) != 2 or matrix.dtype is None or matrix.dtype.kind not in "biuf":
        raise refused(path, "its matrix holds no numbers of genes x cells", _AGAIN)
    n_genes, n_cells = matrix.shape
    ledger = Ledger(elements_of(root), attributes_of(root))
    out = MemoryGroup("", {"encoding-type": "anndata", "encoding-version": "0.1.0"})
    _matrices(root, out, (n_genes, n_cells), ledger, reading.scratch)
    _attributes(root, out, ("col_attrs", "obs", "obsm", _CELLS), n_cells, path, ledger=ledger)
    _attributes(root, out, ("row_attrs", "var", "varm", _GENES), n_genes, path, ledger=ledger)
    _graphs(root, out, ("col_graphs", "obsp"), n_cells, path, ledger=ledger, scratch=reading.scratch)
    _graphs(root, out, ("row_graphs", "varp"), n_genes, path, ledger=ledger, scratch=reading.scratch)
    uns = out.group("uns")
    for name, node in members(root.get("attrs")):
        texts = text_of(node)
        if texts is not None and ledger.is_open(("attrs", name)):
            uns.put(
                name,
                MemoryTexts(f"uns/{name}", texts[:1], ()) if len(texts) == 1 else MemoryTexts(f"uns/{name}", texts),
            )
            ledger.rename(("attrs", name), f"uns/{name}")
    for name in keep_root_attributes(root, uns, ledger):  # where version 2 keeps them
        ledger.note(f"the attribute {name!r} is {uns.place(name)}")
    for element in ledger.elements():
        ledger.lose(element.path, "AnnData has no place for it")
    version = text_of(root.get("attrs/LOOM_SPEC_VERSION")) or [str(root.attrs.get("LOOM_SPEC_VERSION", ""))]
    return ForeignFile(
        out, f"loom (specification {version[0]})" if version[0] else "loom (no specification named)", ledger.close()
    )


def _matrices(root: TreeGroup, out: MemoryGroup, shape: tuple[int, int], ledger: Ledger, scratch: Scratch) -> None:
    found = [("matrix", "X", out, root.get("matrix"))]
    layers = out.group("layers")
    found += [(f"layers/{name}", name, layers, node) for name, node in members(root.get("layers"))]
    for source, name, group, node in found:
        where = tuple(source.split("/"))
        if not is_array(node) or node.shape != shape or node.dtype is None or node.dtype.kind not in "biuf":
            if ledger.is_open(where):
                ledger.lose(where, "no numbers of genes x cells")
            continue
        place = group.place(name)
        group.put(name, lambda node=node, place=place: MemoryMatrix(place, turned(nonzeros_of(node, scratch), scratch)))  # type: ignore[misc]
        ledger.rename(where, place, "cells x genes, sparse")


def _attributes(
    root: TreeGroup,
    out: MemoryGroup,
    places: tuple[str, str, str, Sequence[str]],
    n: int,
    path: Path,
    *,
    ledger: Ledger,
) -> None:
    source, table_name, wide_name, index_names = places
    group = root.get(source)
    nodes = {name: node for name, node in members(group) if is_array(node)}
    lists = {name: node for name, node in nodes.items() if len(node.shape) == 1}
    wrong = [name for name, node in nodes.items() if not node.shape or node.shape[0] != n]
    if wrong:
        raise refused(path, f"{source}/{wrong[0]} has not {n:,} values, as the matrix has", _AGAIN)
    index = next((name for name in index_names if name in lists), None)
    ids = next((name for name in _IDS if name in lists and name != index), None) if table_name == "var" else None
    if index is None and ids is not None:
        index, ids = ids, None
    names = text_of(nodes[index]) if index is not None else None
    table = table_group(out, table_name, names if names is not None else [str(number) for number in range(n)])
    if index is not None:
        ledger.rename((source, index), f"the index of {table_name}")
    else:
        ledger.note_loss(f"{source}: no {index_names[0]}; {table_name} is numbered from 0")
    wide = out.group(wide_name)
    for name, node in nodes.items():
        if name == index:
            continue
        if node.dtype is not None and node.dtype.kind not in "biuf":
            continue
        if len(node.shape) == 1:
            to = "gene_ids" if name == ids else name
            put_column(table, to, node.texts() if node.dtype is None else node.read())
            ledger.rename((source, name), f"{table_name}/{to}")
        elif len(node.shape) == 2 and node.dtype is not None:
            wide.put(name, MemoryArray(wide.place(name), node.read()))
            ledger.rename((source, name), f"{wide_name}/{name}")


def _graphs(
    root: TreeGroup, out: MemoryGroup, places: tuple[str, str], n: int, path: Path, *, ledger: Ledger, scratch: Scratch
) -> None:
    source, target = places
    group = out.group(target)
    for name, node in members(root.get(source)):
        parts = [node.get(part) if is_group(node) else None for part in ("a", "b", "w")]
        arrays = [part.read() for part in parts if is_array(part) and len(part.shape) == 1 and part.dtype is not None]
        if len(arrays) != 3 or len({len(array) for array in arrays}) != 1:
            continue
        a, b, w = arrays
        if a.dtype.kind not in "iu" or b.dtype.kind not in "iu" or w.dtype.kind not in "biuf":
            continue
        if len(a) and (min(int(a.min()), int(b.min())) < 0 or max(int(a.max()), int(b.max())) >= n):
            raise refused(path, f"{source}/{name} names a node outside 0 to {n - 1}", _AGAIN)
        draft = by_cell(a.astype(np.int32), b.astype(np.int32), single(w), (n, n), scratch)
        group.put(name, MemoryMatrix(group.place(name), draft))
        for part in ("a", "b", "w"):
            ledger.rename((source, name, part), f"{target}/{name}", part)
