"""10x Genomics' matrices in HDF5: of Cell Ranger 3 and later (one group ``matrix``), and before (one for each genome).

They hold features x barcodes in compressed columns, which is cells x genes in compressed rows. Described in 10x's
documentation, "Feature Barcode Matrices (HDF5 Format)".
"""

from pathlib import Path
from typing import Final

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.draft import SparseDraft
from cellworker.formats.anndata.containers.hdf5 import open_hdf5
from cellworker.formats.anndata.containers.memory import MemoryGroup
from cellworker.formats.anndata.containers.tree import TreeGroup
from cellworker.formats.anndata.elements import is_array, is_group, text_of
from cellworker.formats.anndata.inventory import attributes_of, elements_of
from cellworker.formats.anndata.matrices import matrix_of
from cellworker.formats.common.ledger import Ledger
from cellworker.formats.foreign.features import GENOME, TYPES, only_genes
from cellworker.formats.foreign.root_attributes import keep_root_attributes
from cellworker.formats.foreign.shown import Reading, SampleMatrix, check_lengths, refused

__all__ = ["read_tenx"]

_AGAIN: Final = "copy the file here again, or write it again"
_MATRIX: Final = "matrix"
_OWN: Final = "10x"
"""Where in ``uns`` the attributes of the root are: a name there means nothing to other programs."""
_PARTS: Final = ("data", "indices", "indptr", "shape")
_MARKS: Final = ("filetype", "version")
"""Attributes of the root that say what the file is."""


def read_tenx(name: str, path: Path, reading: Reading) -> SampleMatrix:
    """Read a file.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` when it is damaged; ``INVALID_INPUT`` when it has several genomes (version 2) and
        none is named, or another.
    """
    with open_hdf5(path, reading.max_bytes, reading.threads) as root:
        group, version = _group(root, path, reading.part)
        ledger = Ledger(elements_of(root), attributes_of(root))
        ledger.keep_attributes((), _MARKS)
        said = MemoryGroup(f"uns/{_OWN}")
        keep_root_attributes(root, said, ledger, _MARKS)
        at = group.path
        values = _values(group, path, reading)
        barcodes = _texts(group, "barcodes", path)
        ledger.rename((*_path(at), "barcodes"), "the index of obs")
        for part in _PARTS:
            ledger.rename((*_path(at), part), "X", f"its {part}")
        genes: dict[str, list[str]] = {}
        if version == 2:
            ids, symbols = _texts(group, "genes", path), _texts(group, "gene_names", path)
            ledger.rename((*_path(at), "genes"), "var/gene_ids")
            ledger.rename((*_path(at), "gene_names"), "the index of var")
            genes[GENOME] = [group.path] * len(ids)
        else:
            features = group.get("features")
            if not is_group(features):
                raise refused(path, "it has no group matrix/features", _AGAIN)
            ids, symbols = _texts(features, "id", path), _texts(features, "name", path)
            ledger.rename((*_path(at), "features", "id"), "var/gene_ids")
            ledger.rename((*_path(at), "features", "name"), "the index of var")
            _further(features, genes, len(ids), ledger, at)
        check_lengths(
            path.name,
            [
                ("barcodes", len(barcodes), len(values.indptr) - 1), ("ids of features", len(ids), values.n_columns),
                ("names of features", len(symbols), values.n_columns),
            ],
        )  # fmt: skip
        for element in ledger.elements():
            ledger.lose(element.path, "no part of the matrix")
        matrix = SampleMatrix(
            name, "10x", f"10x Genomics (HDF5, version {version})", values, barcodes, symbols, ids, genes,
            told=ledger.close(), uns={_OWN: said} if said.names() else {},
        )  # fmt: skip
    return only_genes(matrix, reading)


def _path(text: str) -> tuple[str, ...]:
    return tuple(text.split("/"))


def _group(root: TreeGroup, path: Path, wanted: str) -> tuple[TreeGroup, int]:
    found = root.get(_MATRIX)
    if is_group(found) and found.get("features") is not None:
        return found, 3
    genomes: dict[str, TreeGroup] = {}
    for name in root.names():
        node = root.get(name)
        if is_group(node) and {"barcodes", "genes", "gene_names", *_PARTS} <= set(node.names()):
            genomes[name] = node
    if wanted in genomes:
        return genomes[wanted], 2
    if len(genomes) == 1 and not wanted:
        return next(iter(genomes.values())), 2
    if not genomes:
        raise refused(path, "it holds no whole matrix of 10x", _AGAIN)
    names = ", ".join(sorted(genomes))
    raise WorkerError(
        ErrorCode.INVALID_INPUT,
        f"{path.name} holds matrices of {len(genomes)} genomes ({names}): name one, --part {min(genomes)}.",
    )


def _values(group: TreeGroup, path: Path, reading: Reading) -> SparseDraft:
    stored = group.get("shape")
    shape = stored.read().ravel().tolist() if is_array(stored) and stored.dtype is not None else []
    if len(shape) != 2 or not all(isinstance(length, int) for length in shape):
        raise refused(path, f"{group.path}/shape does not give rows and columns", _AGAIN)
    # Compressed columns of features x barcodes are compressed rows of cells x genes.
    view = MemoryGroup(group.path, {"encoding-type": "csr_matrix", "shape": shape[::-1]})
    for name in ("data", "indices", "indptr"):
        node = group.get(name)
        if node is not None:
            view.put(name, node)
    matrix = matrix_of(view)
    if matrix is None:
        raise refused(path, f"{group.path}/shape gives {shape[0]} rows and {shape[1]} columns", _AGAIN)
    return matrix.read(reading.scratch, lambda _: None)


def _texts(group: TreeGroup, name: str, path: Path) -> list[str]:
    texts = text_of(group.get(name))
    if texts is None:
        raise refused(path, f"{group.path}/{name} is no list of names", _AGAIN)
    return texts


def _further(features: TreeGroup, genes: dict[str, list[str]], n: int, ledger: Ledger, at: str) -> None:
    for name, column in (("feature_type", TYPES), ("genome", GENOME)):
        texts = text_of(features.get(name))
        if texts is not None and len(texts) == n:
            genes[column] = texts
            ledger.rename((*_path(at), "features", name), f"var/{column}")
    for name in features.names():
        node = features.get(name)
        where = (*_path(at), "features", name)
        if not ledger.is_open(where) or not is_array(node) or node.shape != (n,) or name.startswith("_"):
            continue
        texts = text_of(node)
        if texts is not None:
            genes[name] = texts
            ledger.rename(where, f"var/{name}")
