"""Benchmark "scverse": a usual day on an AnnData in memory, through `cellworker.pp` and `cellworker.tl`.

Components, neighbours, UMAP, t-SNE, Leiden, markers, sums per sample and a comparison of samples, each in a process
of its own that has the AnnData before the clock starts. Neighbours for UMAP and Leiden are those that
`cellworker.pp.neighbors` left in the file, so that all lay out and cluster the same graph; scranpy takes coordinates,
and its search is inside its clock. A figure counts beside what it bought: of components the variance that they hold,
of searches the share of true neighbours, of maps the trustworthiness, of clusterings the modularity of the same
graph. What anyone imports or compiles at a first call, on a few cells, is outside the clock. Two threads for
everyone. The peers run in `BENCH_PEERS_PYTHON` where it is set: the newest ones need another Python, or other
libraries, than ours.
"""

# ruff: noqa: PLC0415 - every case is a process of its own: it pays for its own imports, and for nothing else

import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from benchmarks.harness import Bar, Case, Command, pick, python, run_cases, timed
from benchmarks.maps import ENVIRONMENT, THREADS, WARM_UP_S, cells, map_quality

__all__ = [
    "COMPONENTS",
    "MIN_DIST",
    "PERPLEXITY",
    "WARM_CELLS",
    "K",
    "modularity",
    "read",
    "recall",
    "run",
    "variance_of",
]

HERE = "benchmarks.scverse"
PEERS_PYTHON = os.environ.get("BENCH_PEERS_PYTHON", sys.executable)
MIDDLE, LARGE = 20_000, 100_000
GENES = 2_000
COMPONENTS = 50
SAMPLES = 8
K, MIN_DIST, PERPLEXITY = 15, 0.5, 30  # scanpy's
WARM_CELLS = 5_000
SAMPLED = 1_000
LIMIT_S = {MIDDLE: 60, LARGE: 300}  # a peer that needs more is told as that
HOPELESS = {  # left out at 100,000 cells: far behind the fastest at 20,000
    "neighbours": ("scanpy",),
    "tsne": ("scanpy",),
}
OUR_PYTHON = ("limma",)  # peers that are programs of their own: the Python only hands them their data
REPEATS = 1
PEERS = (
    "scanpy", "scranpy", "knncolle", "illico", "scikit-learn-intelex", "igraph", "pynndescent", "umap-learn",
    "scikit-learn", "anndata", "numba", "numpy", "scipy", "pydeseq2",
)  # fmt: skip
STEPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "components": (f"{COMPONENTS} principal components", ("scanpy", "scanpy, covariance_eigh", "scranpy")),
    "neighbours": (
        f"{K} neighbours",
        ("scanpy", "scanpy, sklearnex", "scranpy, Annoy", "scranpy, Hnsw", "scranpy, Vptree", "scranpy, Kmknn"),
    ),
    "umap": ("UMAP", ("scanpy", "scranpy")),
    "leiden": ("Leiden", ("scanpy", "scranpy")),
    "markers": ("markers of 30 groups (Wilcoxon)", ("scanpy", "illico")),
    "sums": ("pseudobulk: sums per sample (ours: checked to be counts)", ("scanpy", "scranpy")),
    "samples": ("pseudobulk: sums and test (limma in R: the test alone)", ("pydeseq2", "limma")),
    # last: its peers take longer than all else together
    "tsne": ("t-SNE", ("scanpy", "scanpy, sklearnex", "scranpy")),
}


def run(*, quick: bool, only: str = "") -> None:
    """Measure 100,000 cells, or 20,000 if `quick`."""
    n = MIDDLE if quick else LARGE
    with tempfile.TemporaryDirectory(prefix="bench-scverse-") as name:
        path = Path(name) / f"{n}.h5ad"
        make(n, path)
        cases = [_case(path, n, step) for step in STEPS]
        about = {"genes": GENES, "k": K, "threads": THREADS, "peers_cut_off_after_cpu_s": LIMIT_S[n]}
        about |= {} if quick else {"left_out_as_hopeless": HOPELESS}
        about |= {"versions": _versions()}
        run_cases("scverse-quick" if quick else "scverse", pick(cases, only), about, write=not only)


def _versions() -> dict[str, str]:
    """Return the versions of the peers' Python and of what is installed there."""
    line = [PEERS_PYTHON, *python(f"{HERE}_peers:say_versions", *PEERS)[1:]]
    return json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)


def _case(path: Path, n: int, step: str) -> Case:
    title, listed = STEPS[step]
    peers = [peer for peer in listed if n < LARGE or peer not in HOPELESS.get(step, ())]
    ours = Command(python(f"{HERE}:{step}_ours", path), ENVIRONMENT, limit_s=LIMIT_S[n])
    found = {}
    for peer in peers:
        who, _, how = peer.partition(", ")
        line = python(f"{HERE}_peers:{step}_{who}", path, how)
        if peer not in OUR_PYTHON:
            line[0] = PEERS_PYTHON
        found[peer] = Command(line, ENVIRONMENT, limit_s=LIMIT_S[n], warm_up_s=WARM_UP_S)
    bars = [Bar("cpu_s", 1, f"no more CPU than {peer}", peer) for peer in peers]
    return Case(f"{title}; {n // 1000}k cells", ours, found, REPEATS, bars)


def make(n: int, path: Path) -> None:
    """Write an AnnData: counts and logs of 30 groups and 8 samples, principal components, and neighbours."""
    import anndata
    import pandas as pd
    from scipy.sparse import csr_matrix, vstack

    import cellworker as cw

    points, groups = cells(n)
    random = np.random.default_rng(3)
    rates = random.gamma(0.3, 0.5, (30, GENES))
    parts = [csr_matrix(random.poisson(rates[groups[i : i + 5000]]).astype(np.float32)) for i in range(0, n, 5000)]
    counts = vstack(parts, format="csr")
    logs = counts.copy()
    totals = np.asarray(counts.sum(axis=1)).ravel()
    logs.data = np.log1p(logs.data * np.repeat(1e4 / np.maximum(1, totals), np.diff(logs.indptr))).astype(np.float32)
    names = pd.Index([f"cell{i}" for i in range(n)])
    obs = pd.DataFrame({"group": pd.Categorical([f"g{g:02d}" for g in groups])}, index=names)
    obs["sample"] = pd.Categorical([f"s{i % SAMPLES}" for i in range(n)])
    obs["treated"] = pd.Categorical(["yes" if i % SAMPLES < SAMPLES // 2 else "no" for i in range(n)])
    made = anndata.AnnData(logs, obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(GENES)]))
    made.layers["counts"] = counts
    made.uns["log1p"] = {"base": None}
    made.obsm["X_pca"] = points
    cw.pp.neighbors(made, K, threads=THREADS)
    made.write_h5ad(path)


def read(path: str):
    import anndata

    warnings.simplefilter("ignore")
    return anndata.read_h5ad(path)


def variance_of(scores: np.ndarray) -> dict[str, float]:
    """Variance of the cells along all components."""
    return {"variance": round(float(scores.astype(np.float64).var(axis=0, ddof=1).sum()), 4)}


def recall(adata) -> dict[str, float]:
    """Share of true neighbours of 1,000 cells among those in ``obsp``."""
    points = adata.obsm["X_pca"].astype(np.float64)
    graph, hits = adata.obsp["distances"].tocsr(), 0
    rows = np.random.default_rng(1).choice(len(points), SAMPLED, replace=False)
    for row in rows:
        far = ((points - points[row]) ** 2).sum(axis=1)
        far[row] = np.inf
        truth = np.argpartition(far, K - 1)[: K - 1]
        hits += len(np.intersect1d(truth, graph.indices[graph.indptr[row] : graph.indptr[row + 1]]))
    return {"recall": round(hits / (SAMPLED * (K - 1)), 4)}


def modularity(adata, labels: np.ndarray) -> dict[str, float]:
    """Modularity at resolution 1 of the graph in the file."""
    graph = adata.obsp["connectivities"].tocoo()
    total = graph.data.sum()
    strength = np.bincount(labels, np.asarray(adata.obsp["connectivities"].sum(axis=1)).ravel())
    inside = graph.data[labels[graph.row] == labels[graph.col]].sum()
    value = inside / total - np.square(strength / total).sum()
    return {"clusters": len(strength), "modularity": round(float(value), 4)}


def components_ours(path: str) -> None:
    import cellworker as cw

    adata = read(path)
    few = adata[:WARM_CELLS].copy()
    cw.pp.pca(few, COMPONENTS, threads=THREADS)
    with timed() as details:
        cw.pp.pca(adata, COMPONENTS, threads=THREADS)
    details |= variance_of(adata.obsm["X_pca"])


def neighbours_ours(path: str) -> None:
    import cellworker as cw

    adata = read(path)
    few = adata[:WARM_CELLS].copy()
    cw.pp.neighbors(few, K, threads=THREADS)
    with timed() as details:
        cw.pp.neighbors(adata, K, threads=THREADS)
    details |= recall(adata)


def umap_ours(path: str) -> None:
    import cellworker as cw

    adata = read(path)
    few = adata[:WARM_CELLS].copy()
    cw.tl.umap(few, threads=THREADS)
    with timed() as details:
        cw.tl.umap(adata, threads=THREADS)
    details |= map_quality(adata.obsm["X_pca"], adata.obsm["X_umap"])


def tsne_ours(path: str) -> None:
    import cellworker as cw

    adata = read(path)
    with timed() as details:
        cw.tl.tsne(adata, use_rep="X_pca", threads=THREADS)
    details |= map_quality(adata.obsm["X_pca"], adata.obsm["X_tsne"])


def leiden_ours(path: str) -> None:
    import cellworker as cw

    adata = read(path)
    few = adata[:WARM_CELLS].copy()
    cw.tl.leiden(few)
    with timed() as details:
        cw.tl.leiden(adata)
    details |= modularity(adata, adata.obs["leiden"].cat.codes.to_numpy())


def markers_ours(path: str) -> None:
    import cellworker as cw

    adata = read(path)
    few = adata[:WARM_CELLS].copy()
    cw.tl.rank_genes_groups(few, "group", method="wilcoxon", tie_correct=True, threads=THREADS)
    with timed():
        cw.tl.rank_genes_groups(adata, "group", method="wilcoxon", tie_correct=True, threads=THREADS)


def sums_ours(path: str) -> None:
    """What `cellworker.tl.pseudobulk` does before its test."""
    from cellworker.api.anndata.matrix import chosen_values
    from cellworker.api.anndata.samples import sample_sums

    adata = read(path)

    def work(some) -> None:
        sample_sums(chosen_values(some, layer="counts"), some.obs["sample"].cat.codes.to_numpy(), SAMPLES, THREADS)

    work(adata[:WARM_CELLS].copy())
    with timed():
        work(adata)


def samples_ours(path: str) -> None:
    import cellworker as cw

    adata = read(path)

    def work(some) -> None:
        cw.tl.pseudobulk(some, "treated", sample="sample", group="yes", reference="no", layer="counts", threads=THREADS)

    work(adata[:WARM_CELLS].copy())
    with timed():
        work(adata)
