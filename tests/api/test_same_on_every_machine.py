"""Methods give the same bytes on every processor: the hashes here hold on x86_64 and on aarch64 (`make test-arm`).

The data are made of whole numbers, so that nothing but our own code decides the bytes. Left out is what differs in its
last bit, as NumPy's exponentials and sums do from processor to processor: p-values (their logarithms, by which all is
ordered, are here), scores of gene sets; and components, which a linear algebra library computes.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

import cellworker as cw

CELLS, GENES, GROUPS = 400, 120, 4
MANY = 4_000
"""Cells whose graph Leiden's method makes smaller first: it does so above 3,000."""


def spread(n: int, seed: int, top: int) -> Any:
    """Whole numbers below `top`, by a multiplication: no library's random numbers."""
    state = (np.arange(1, n + 1, dtype=np.uint64) + np.uint64(seed * 7919)) * np.uint64(0x9E3779B97F4A7C15)
    state ^= state >> np.uint64(29)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    return ((state >> np.uint64(33)) % np.uint64(top)).astype(np.int64)


def coordinates(n: int) -> Any:
    """Twelve coordinates by 1/64 for each cell, of four groups in turn."""
    group = np.arange(n) % GROUPS
    whole = spread(n * 12, 3, 64).reshape(n, 12) + 48 * (np.arange(12) % GROUPS == group[:, None])
    return (whole / 64).astype(np.float32)


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Four groups of cells: counts, log values by eighths, and twelve coordinates by 1/64."""
    group = np.arange(CELLS) % GROUPS
    counts = np.maximum(spread(CELLS * GENES, 1, 9).reshape(CELLS, GENES) - 5, 0)
    counts[:, : GENES // 2] += (np.arange(GENES // 2) % GROUPS == group[:, None]) * (
        spread(CELLS * GENES // 2, 2, 6).reshape(CELLS, -1)
    )
    points = coordinates(CELLS)
    adata = AnnData(
        csr_matrix(counts / 8).astype(np.float32),
        obs=pd.DataFrame(
            {
                "group": pd.Categorical([f"g{code}" for code in group]),
                "sample": pd.Categorical([f"s{code}" for code in spread(CELLS, 4, 4)]),
            },
            index=[f"cell{k}" for k in range(CELLS)],
        ),
        var=pd.DataFrame(index=[f"gene{k}" for k in range(GENES)]),
        layers={"counts": csr_matrix(counts)},
    )
    adata.obs["condition"] = pd.Categorical(np.where(adata.obs["sample"].isin(["s0", "s1"]), "one", "two"))
    adata.obsm["X_pca"] = points
    adata.obsm["X_umap"] = 4 * points[:, :2]
    adata.obsm["X_start"] = points[:, 2:4].copy()
    cw.pp.neighbors(adata, n_neighbors=15)
    return adata


def digest(*arrays: Any) -> str:
    """Return the start of the hash of arrays' bytes, in little-endian order."""
    seen = hashlib.sha256()
    for array in arrays:
        found = np.asarray(array)
        found = found if found.dtype.kind != "O" else found.astype("U")
        seen.update(np.ascontiguousarray(found.astype(found.dtype.newbyteorder("<"))).tobytes())
    return seen.hexdigest()[:16]


def neighbours(adata: AnnData) -> str:
    found = adata.obsp["distances"]
    links = adata.obsp["connectivities"]
    return digest(found.indices, found.data, links.indices, links.data)


def ranks(adata: AnnData) -> str:
    cw.tl.rank_genes_groups(adata, "group", method="wilcoxon", tie_correct=True)
    found = adata.uns["rank_genes_groups"]
    names = ("names", "scores", "logfoldchanges")
    return digest(*(found[name][group] for name in names for group in found[name].dtype.names))


def sums(adata: AnnData) -> str:
    cw.tl.pseudobulk(adata, "condition", sample="sample", group="one")
    found = adata.uns["pseudobulk"]
    return digest(*(found[name]["one"] for name in ("names", "scores", "logfoldchanges")))


def types(adata: AnnData) -> str:
    markers = {f"type {k}": [f"gene{gene}" for gene in range(k, 60, 4)] for k in range(GROUPS)}
    cw.tl.cell_types(adata, "group", markers=markers)
    return digest(adata.obs["cell_type"])


def umap(adata: AnnData) -> str:
    cw.tl.umap(adata, maxiter=50)
    return digest(adata.obsm["X_umap"])


def tsne(adata: AnnData) -> str:
    cw.tl.tsne(adata, use_rep="X_pca", perplexity=10)
    return digest(adata.obsm["X_tsne"])


def leiden(adata: AnnData) -> str:
    cw.tl.leiden(adata, 2)
    return digest(adata.obs["leiden"])


def leiden_by_smaller_graphs(_: AnnData) -> str:
    many = AnnData(csr_matrix(np.ones((MANY, 1), np.float32)), obsm={"X_pca": coordinates(MANY)})
    cw.pp.neighbors(many, n_neighbors=15, use_rep="X_pca")
    cw.tl.leiden(many, 2)
    return digest(many.obs["leiden"])


def louvain(adata: AnnData) -> str:
    cw.tl.louvain(adata, 2)
    return digest(adata.obs["louvain"])


def trajectory(adata: AnnData) -> str:
    cw.tl.trajectory(adata)
    cw.tl.pseudotime(adata, 0)
    found = adata.uns["trajectory"]
    return digest(found["nodes"], found["links"], adata.obs["pseudotime"])


@pytest.mark.parametrize(("method", "expected"), [
    (neighbours, "4d21f8be7974cf43"), (ranks, "9f1e7760455d709b"), (sums, "5f02e289c47afd3d"),
    (types, "9df5a6e61108ecd2"), (umap, "18a9e66c6ce55f4b"),
    (tsne, "13d57bfc9a2caa5e"), (leiden, "e9fb0ec87c9f629c"),
    (leiden_by_smaller_graphs, "0ccab7ef36e974b5"), (louvain, "fe482afbbd11ddb2"),
    (trajectory, "5a2aa7dc85e25faa"),
])  # fmt: skip
def test_bytes_are_those_of_every_machine(method: Callable[[AnnData], str], expected: str, cells: AnnData):
    assert method(cells.copy()) == expected
