"""The peers of the benchmark "markers": scanpy, illico and scranpy on the same matrix."""

# ruff: noqa: ARG001, PLC0415 - every case is a process of its own: it pays for its own imports, and all are called alike

import warnings

import numpy as np

from benchmarks.harness import timed
from benchmarks.markers import THREADS, labels, pair_labels

warnings.simplefilter("ignore")


def _matrix(columns: str):
    import anndata

    return anndata.read_h5ad(columns).X


def _annotated(columns: str, label: np.ndarray):
    import anndata
    import pandas as pd

    matrix = _matrix(columns)
    groups = pd.Categorical([f"g{k:02d}" for k in label])
    found = anndata.AnnData(matrix, obs=pd.DataFrame({"group": groups}, index=[str(i) for i in range(len(label))]))
    found.uns["log1p"] = {"base": None}
    return found


def _cells(columns: str) -> int:
    import h5py

    with h5py.File(columns) as file:
        return int(file["X"].attrs["shape"][0])


def _pair(columns: str):
    """Both sides of the first pair, as an object of their own: what users of these tools do."""
    base, background = pair_labels(_cells(columns))[0]
    whole = _annotated(columns, np.zeros(_cells(columns), int))
    rows = np.concatenate([base, background])
    label = np.repeat([0, 1], [len(base), len(background)])
    return whole, rows, label


def _subset(whole, rows: np.ndarray, label: np.ndarray):
    import pandas as pd

    part = whole[rows].copy()
    part.obs["group"] = pd.Categorical([f"g{k:02d}" for k in label])
    return part


def _illico(found, reference: str | None) -> None:
    from illico import asymptotic_wilcoxon

    asymptotic_wilcoxon(found, is_log1p=True, group_keys="group", reference=reference, n_threads=THREADS)


def markers_illico(columns: str, clusters: str) -> None:
    found = _annotated(columns, labels(_cells(columns), int(clusters)))
    _warm_illico()
    with timed():
        _illico(found, None)


def _warm_illico() -> None:
    """Whatever it compiles, it compiles outside the clock."""
    import anndata
    import pandas as pd
    import scipy.sparse as sp

    small = anndata.AnnData(
        sp.random(60, 40, 0.3, format="csc", dtype=np.float32, random_state=0),
        obs=pd.DataFrame({"group": pd.Categorical(["g00", "g01", "g02"] * 20)}, index=[str(i) for i in range(60)]),
    )
    _illico(small, None)
    _illico(small, "g00")


batch_illico_clusters = 20


def batch_illico(columns: str, clusters: str) -> None:
    markers_illico(columns, str(batch_illico_clusters))


def two_sets_illico(columns: str, clusters: str) -> None:
    whole, rows, label = _pair(columns)
    _warm_illico()
    with timed():
        _illico(_subset(whole, rows, label), "g01")


def pairs_illico(columns: str, clusters: str) -> None:
    n = _cells(columns)
    whole = _annotated(columns, np.zeros(n, int))
    _warm_illico()
    with timed():
        for base, background in pair_labels(n):
            rows = np.concatenate([base, background])
            _illico(_subset(whole, rows, np.repeat([0, 1], [len(base), len(background)])), "g01")


def _scanpy(found, reference: str) -> None:
    import scanpy as sc

    groups = "all" if reference == "rest" else ["g00"]
    sc.tl.rank_genes_groups(
        found, "group", groups=groups, reference=reference, method="wilcoxon", tie_correct=True, use_raw=False
    )


def markers_scanpy(columns: str, clusters: str) -> None:
    found = _annotated(columns, labels(_cells(columns), int(clusters)))
    with timed():
        _scanpy(found, "rest")


def two_sets_scanpy(columns: str, clusters: str) -> None:
    whole, rows, label = _pair(columns)
    with timed():
        _scanpy(_subset(whole, rows, label), "g01")


def _scranpy(matrix, label: np.ndarray) -> None:
    import scranpy

    scranpy.score_markers(matrix, label, num_threads=THREADS)


def markers_scranpy(columns: str, clusters: str) -> None:
    matrix = _matrix(columns).T  # genes x cells, compressed by gene
    label = labels(_cells(columns), int(clusters))
    with timed():
        _scranpy(matrix, label)


def two_sets_scranpy(columns: str, clusters: str) -> None:
    whole, rows, label = _pair(columns)
    with timed():
        part = whole.X[rows].T.tocsr()
        part.sort_indices()  # scranpy takes no other
        _scranpy(part, label)


def dots_scanpy(columns: str, clusters: str) -> None:
    import scanpy as sc

    found = _annotated(columns, labels(_cells(columns), int(clusters)))
    genes = np.linspace(0, found.n_vars - 1, 3 * int(clusters)).astype(int)

    def work() -> None:
        part = found[:, genes].copy()
        part.X.data = np.expm1(part.X.data)
        sc.get.aggregate(part, by="group", func=["mean", "count_nonzero"])

    work()
    with timed(20):
        for _ in range(20):
            work()
