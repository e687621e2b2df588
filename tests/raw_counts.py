"""Raw counts as a sequencer's software leaves them, for the tests of what is made of them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

N_TYPES = 4
MARKERS = ("CD3D", "CD3E", "MS4A1", "CD79A", "LYZ", "PCNA", "MCM5", "TOP2A", "MKI67", "CDK1", "MCM2", "TYMS", "HMGB2")
"""Genes that ScType and the scores of the cell cycle look for."""


def gene_names(n_genes: int) -> list[str]:
    """Return names: some of markers, ten of mitochondrial genes, the rest made up."""
    names = [*MARKERS, *(f"MT-G{i}" for i in range(10))]
    return [*names, *(f"GENE{i}" for i in range(n_genes - len(names)))]


def counts_of_types(
    n_cells: int, n_genes: int, *, seed: int = 0, shift: float = 0.0, depth: float = 1500
) -> tuple[Any, NDArray[np.int64]]:
    """Return counts, compressed rows float32, and each cell's type; `shift` is how far this sample lies from others."""
    profiles = np.random.default_rng(42)
    base = profiles.lognormal(0, 1.3, n_genes)
    own = np.exp(profiles.normal(0, 1.2, (N_TYPES, n_genes)) * (profiles.random((N_TYPES, n_genes)) < 0.15))
    rng = np.random.default_rng(seed)
    batch = np.exp(shift * rng.normal(0, 1, n_genes))
    means = base * own * batch
    means[:, len(MARKERS) : len(MARKERS) + 10] *= 0.5
    means /= means.sum(axis=1, keepdims=True)
    types = rng.integers(0, N_TYPES, n_cells)
    depths = rng.lognormal(np.log(depth), 0.3, n_cells)
    return csr_matrix(rng.poisson(means[types] * depths[:, None]).astype(np.float32)), types


def write_counts(path: Path, counts: Any, **obs: Any) -> Path:
    """Write counts alone, with anndata."""
    import anndata
    import pandas as pd

    n_cells, n_genes = counts.shape
    index = [f"{path.stem.upper()}{i:05d}-1" for i in range(n_cells)]
    adata = anndata.AnnData(counts, obs=pd.DataFrame(obs, index=index), var=pd.DataFrame(index=gene_names(n_genes)))
    adata.write_h5ad(path)
    return path
