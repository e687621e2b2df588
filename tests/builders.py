"""Small and large experiments in memory, for tests and measurements."""

from typing import Any

import numpy as np

from cellworker.experiment.cell_sets import CellClass, CellSet, CellSets
from cellworker.experiment.model import (
    CellMajor,
    Dispersions,
    Experiment,
    GeneMajor,
    Genes,
    Misc,
    Origin,
    Reduction,
)


class MemoryExperiment(Experiment):
    """An experiment whose parts are given as keyword arguments."""

    def __init__(self, **parts: Any) -> None:
        for name, value in parts.items():
            setattr(self, name, value)


def gene_major(dense: np.ndarray) -> GeneMajor:
    """Make the value-sorted matrix of a dense one, float32 ``(n_cells, n_genes)``."""
    dense = np.asarray(dense, np.float32)
    indptr, cells, values = [0], [], []
    for gene in range(dense.shape[1]):
        stored = np.flatnonzero(dense[:, gene] != 0)
        column = dense[stored, gene]
        order = np.argsort(column, kind="stable")
        cells.append(stored[order].astype(np.int32))
        values.append(column[order])
        indptr.append(indptr[-1] + len(stored))
    return GeneMajor(
        np.array(indptr, np.int64),
        np.concatenate([*cells, np.empty(0, np.int32)]),
        np.concatenate([*values, np.empty(0, np.float32)]),
        dense.shape[0],
    )


def cell_major(dense: np.ndarray) -> CellMajor:
    """Make the cell-major matrix of a dense one, float32 ``(n_cells, n_genes)``."""
    dense = np.asarray(dense, np.float32)
    rows, columns = np.nonzero(dense)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=dense.shape[0]))]).astype(np.int64)
    return CellMajor(indptr, columns.astype(np.int32), dense[rows, columns], dense.shape[1])


def small_experiment(dense: Any = None, **parts: Any) -> MemoryExperiment:
    """Make an experiment of a dense matrix, float32 ``(n_cells, n_genes)``; every part can be replaced by a keyword."""
    if dense is None:
        dense = [[0, 1.5, 0], [2, 0, 0.5], [0, 0, 0.25], [1, 3, 0]]
    dense = np.asarray(dense, np.float32)
    n_cells, n_genes = dense.shape
    ids = [f"ENSG{i:05d}" for i in range(1, n_genes + 1)]
    names = [f"GENE{i}" for i in range(1, n_genes + 1)]
    defaults: dict[str, Any] = {
        "key": "0" * 64,
        "data": gene_major(dense),
        "data_by_cell": cell_major(dense),
        "counts": None,
        "scaled": None,
        "genes": Genes(ids, names, names),
        "barcodes": [f"CELL{i}-1" for i in range(n_cells)],
        "cell_ids": np.arange(n_cells, dtype=np.int32),
        "metadata": {},
        "reductions": {"pca": Reduction(np.arange(2.0 * n_cells).reshape(n_cells, 2), "PC_")},
        "graphs": {},
        "images": {},
        "dispersions": Dispersions(names, ids, np.linspace(1.0, 2.0, n_genes)),
        "misc": Misc(color_pool=["#77aadd", "#ee8866"]),
        "origin": Origin(kind="platform"),
    }
    return MemoryExperiment(**(defaults | parts))


def synthetic_experiment(n_cells: int, n_genes: int, *, density: float = 0.067, seed: int = 0) -> MemoryExperiment:
    """Make a large experiment without a dense matrix: log-normalised counts, gene densities spread as in real data."""
    rng = np.random.default_rng(seed)
    share = rng.beta(0.35, 0.35 / density - 0.35, n_genes)
    depth = rng.uniform(1000, 12000, n_cells)
    indptr, cells, values = [0], [], []
    for gene in range(n_genes):
        stored = np.flatnonzero(rng.random(n_cells, np.float32) < share[gene]).astype(np.int32)
        counts = 1 + rng.poisson(3 * share[gene], len(stored))
        column = np.log1p(counts * 1e4 / depth[stored]).astype(np.float32)
        order = np.argsort(column, kind="stable")
        cells.append(stored[order])
        values.append(column[order])
        indptr.append(indptr[-1] + len(stored))
    data = GeneMajor(np.array(indptr, np.int64), np.concatenate(cells), np.concatenate(values), n_cells)
    names = [f"GENE{i}" for i in range(n_genes)]
    ids = [f"ENSG{i:011d}" for i in range(n_genes)]
    return MemoryExperiment(
        key="1" * 64,
        data=data,
        data_by_cell=None,
        counts=None,
        scaled=None,
        genes=Genes(ids, names, names),
        barcodes=[f"{i:016x}-1" for i in range(n_cells)],
        cell_ids=rng.permutation(n_cells).astype(np.int32),
        metadata={},
        reductions={},
        graphs={},
        images={},
        dispersions=Dispersions(names, ids, rng.random(n_genes)),
        misc=Misc(),
        origin=Origin("platform"),
    )


def cell_sets(**classes: dict[str, Any]) -> CellSets:
    """Make cell sets: for each class the ids of each set, under keys that are the names."""
    return CellSets(
        [
            CellClass(key, key, "cellSets", [CellSet(k, k, None, np.array(ids, np.int32)) for k, ids in sets.items()])
            for key, sets in classes.items()
        ]
    )
