"""One small AnnData with groups that differ."""

import io

import numpy as np
import pytest


def make(n: int = 400, genes: int = 300, seed: int = 0):
    """Counts of four groups and six samples, log-normalised in X."""
    anndata = pytest.importorskip("anndata")
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 4, n)
    counts = rng.poisson(rng.gamma(0.6, 1, (4, genes))[group] * rng.uniform(0.5, 2, (n, 1))).astype(np.float32)
    logs = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4).astype(np.float32)
    adata = anndata.AnnData(sparse.csr_matrix(logs))
    adata.layers["counts"] = sparse.csr_matrix(counts)
    adata.obs_names = [f"cell{i}" for i in range(n)]
    adata.var_names = [f"gene{i}" for i in range(genes)]
    adata.obs["group"] = np.array([f"g{i}" for i in group], object)
    adata.obs["group"] = adata.obs["group"].astype("category")
    adata.obs["sample"] = [f"s{i % 6}" for i in range(n)]
    adata.obs["treated"] = ["yes" if i % 6 < 3 else "no" for i in range(n)]
    adata.uns["log1p"] = {}
    return adata


@pytest.fixture
def adata():
    return make()


@pytest.fixture(scope="module")
def fonts():
    """What matplotlib keeps open from the first text on; no test's leftovers."""
    plt = pytest.importorskip("matplotlib.pyplot")
    before = plt.get_backend()
    plt.switch_backend("agg")
    figure = plt.figure()
    figure.text(0, 0, "text and $-\\log_{10}p$")
    figure.draw_without_rendering()
    # PDF opens the same font once more before matplotlib 3.11.
    figure.savefig(io.BytesIO(), format="pdf")
    plt.close(figure)
    yield
    plt.switch_backend(before)


@pytest.fixture
def drawing(fonts):
    """Pictures without a screen, all closed afterwards."""
    plt = pytest.importorskip("matplotlib.pyplot")
    yield
    plt.close("all")
