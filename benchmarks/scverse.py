"""Benchmark "scverse": a usual day on an AnnData in memory, through `cellworker.pp` and `cellworker.tl`.

Neighbours, UMAP, t-SNE, Leiden, markers and sums per sample, each in a process of its own that has the AnnData before
the clock starts. Neighbours for UMAP and Leiden are those that `cellworker.pp.neighbors` left in the file, so that all
lay out and cluster the same graph; scranpy takes coordinates, and its search is inside its clock. A figure counts
beside what it bought: of searches the share of true neighbours, of maps the trustworthiness, of clusterings the
modularity of the same graph. scanpy as it comes, Leiden by igraph; what peers compile, they compile outside the clock.
Two threads for everyone.
"""

# ruff: noqa: PLC0415 - every case is a process of its own: it pays for its own imports, and for nothing else

import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.harness import Bar, Case, Command, pick, python, run_cases, timed
from benchmarks.maps import ENVIRONMENT, THREADS, cells, map_quality

__all__ = ["run"]

HERE = "benchmarks.scverse"
MIDDLE, LARGE = 20_000, 100_000
GENES = 2_000
SAMPLES = 8
K = 15  # scanpy's
WARM_CELLS = 5_000
SAMPLED = 1_000
LIMIT_S = 900
PEERS = ("scanpy", "scranpy", "illico", "igraph", "pynndescent", "umap-learn", "scikit-learn", "anndata")


def run(*, quick: bool, only: str = "") -> None:
    """Measure 20,000 and 100,000 cells, or 20,000 if `quick`."""
    with tempfile.TemporaryDirectory(prefix="bench-scverse-") as name:
        cases = []
        for n in [MIDDLE] if quick else [MIDDLE, LARGE]:
            path = Path(name) / f"{n}.h5ad"
            make(n, path)
            cases += _cases(path, n)
        about = {"genes": GENES, "k": K, "threads": THREADS, "peers_cut_off_after_s": LIMIT_S}
        about |= {"versions": {peer: version(peer) for peer in PEERS}}
        run_cases("scverse-quick" if quick else "scverse", pick(cases, only), about, write=not only)


def _cases(path: Path, n: int) -> list[Case]:
    def command(function: str) -> Command:
        return Command(python(f"{HERE}:{function}", path), ENVIRONMENT, limit_s=LIMIT_S, once=True)

    def case(name: str, step: str, *peers: str) -> Case:
        found = {peer: command(f"{step}_{peer}") for peer in peers}
        bars = [Bar("cpu_s", 1, f"no more CPU than {peer}", peer) for peer in peers]
        return Case(f"{name}; {n // 1000}k cells", command(f"{step}_ours"), found, 1, bars)

    return [
        case(f"{K} neighbours", "neighbours", "scanpy", "scranpy"),
        case("UMAP", "umap", "scanpy", "scranpy"),
        case("t-SNE", "tsne", "scanpy", "scranpy"),
        case("Leiden", "leiden", "scanpy", "scranpy"),
        case("markers of 30 groups (Wilcoxon)", "markers", "scanpy", "illico"),
        case("pseudobulk: sums per sample (ours: and limma-voom)", "pseudobulk", "scanpy", "scranpy"),
    ]


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


def _read(path: str):
    import anndata

    warnings.simplefilter("ignore")
    return anndata.read_h5ad(path)


def _recall(adata) -> dict[str, float]:
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


def _modularity(adata, labels: np.ndarray) -> dict[str, float]:
    """Modularity at resolution 1 of the graph in the file."""
    graph = adata.obsp["connectivities"].tocoo()
    total = graph.data.sum()
    strength = np.bincount(labels, np.asarray(adata.obsp["connectivities"].sum(axis=1)).ravel())
    inside = graph.data[labels[graph.row] == labels[graph.col]].sum()
    value = inside / total - np.square(strength / total).sum()
    return {"clusters": len(strength), "modularity": round(float(value), 4)}


def neighbours_ours(path: str) -> None:
    import cellworker as cw

    adata = _read(path)
    with timed() as details:
        cw.pp.neighbors(adata, K, threads=THREADS)
    details |= _recall(adata)


def neighbours_scanpy(path: str) -> None:
    import scanpy as sc

    adata = _read(path)
    sc.pp.neighbors(adata[:WARM_CELLS].copy(), K, use_rep="X_pca")
    with timed() as details:
        sc.pp.neighbors(adata, K, use_rep="X_pca")
    details |= _recall(adata)


def neighbours_scranpy(path: str) -> None:
    import knncolle
    from scipy.sparse import csr_matrix

    adata = _read(path)
    rows = adata.obsm["X_pca"].astype(np.float64)
    with timed() as details:
        index = knncolle.build_index(knncolle.AnnoyParameters(), rows)
        found = knncolle.find_knn(index, K - 1, num_threads=THREADS)
    n = len(rows)
    bounds = np.arange(0, n * (K - 1) + 1, K - 1)
    adata.obsp["distances"] = csr_matrix((found.distance.ravel(), found.index.ravel(), bounds), shape=(n, n))
    details |= _recall(adata)


def umap_ours(path: str) -> None:
    import cellworker as cw

    adata = _read(path)
    with timed() as details:
        cw.tl.umap(adata, threads=THREADS)
    details |= map_quality(adata.obsm["X_pca"], adata.obsm["X_umap"])


def umap_scanpy(path: str) -> None:
    import scanpy as sc

    adata = _read(path)
    small = adata[:WARM_CELLS].copy()
    sc.pp.neighbors(small, K, use_rep="X_pca")
    sc.tl.umap(small)
    with timed() as details:
        sc.tl.umap(adata)
    details |= map_quality(adata.obsm["X_pca"], adata.obsm["X_umap"])


def _columns(adata) -> np.ndarray:
    return np.asfortranarray(adata.obsm["X_pca"].T.astype(np.float64))


def _two(layout) -> np.ndarray:
    out = np.asarray(layout)
    return out if out.shape[1] == 2 else out.T


def umap_scranpy(path: str) -> None:
    import scranpy

    adata = _read(path)
    with timed() as details:
        layout = scranpy.run_umap(_columns(adata), num_neighbors=K, min_dist=0.5, num_threads=THREADS)
    details |= map_quality(adata.obsm["X_pca"], _two(layout))


def tsne_ours(path: str) -> None:
    import cellworker as cw

    adata = _read(path)
    with timed() as details:
        cw.tl.tsne(adata, use_rep="X_pca", threads=THREADS)
    details |= map_quality(adata.obsm["X_pca"], adata.obsm["X_tsne"])


def tsne_scanpy(path: str) -> None:
    import scanpy as sc

    adata = _read(path)
    with timed() as details:
        sc.tl.tsne(adata, use_rep="X_pca", n_jobs=THREADS)
    details |= map_quality(adata.obsm["X_pca"], adata.obsm["X_tsne"])


def tsne_scranpy(path: str) -> None:
    import scranpy

    adata = _read(path)
    with timed() as details:
        layout = scranpy.run_tsne(_columns(adata), perplexity=30, max_iterations=1000, num_threads=THREADS)
    details |= map_quality(adata.obsm["X_pca"], _two(layout))


def leiden_ours(path: str) -> None:
    import cellworker as cw

    adata = _read(path)
    with timed() as details:
        cw.tl.leiden(adata)
    details |= _modularity(adata, adata.obs["leiden"].cat.codes.to_numpy())


def leiden_scanpy(path: str) -> None:
    import scanpy as sc

    adata = _read(path)
    with timed() as details:
        sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False)
    details |= _modularity(adata, adata.obs["leiden"].cat.codes.to_numpy())


def leiden_scranpy(path: str) -> None:
    import scranpy
    from biocutils import NamedList

    adata = _read(path)
    graph = adata.obsp["connectivities"].tocoo()
    once = graph.row < graph.col
    pairs = np.stack([graph.row[once], graph.col[once]], axis=1).ravel().astype(np.uint32)
    links = NamedList([adata.n_obs, pairs, graph.data[once].astype(np.float64)], ["vertices", "edges", "weights"])
    with timed() as details:
        found = scranpy.cluster_graph(links, "leiden", leiden_resolution=1.0)
        labels = np.asarray(found["membership"])
    details |= _modularity(adata, labels)


def markers_ours(path: str) -> None:
    import cellworker as cw

    adata = _read(path)
    with timed():
        cw.tl.rank_genes_groups(adata, "group", method="wilcoxon", tie_correct=True, threads=THREADS)


def markers_scanpy(path: str) -> None:
    import scanpy as sc

    adata = _read(path)
    with timed():
        sc.tl.rank_genes_groups(adata, "group", method="wilcoxon", tie_correct=True)


def markers_illico(path: str) -> None:
    from illico import asymptotic_wilcoxon

    adata = _read(path)

    def work(some) -> None:
        asymptotic_wilcoxon(some, is_log1p=True, group_keys="group", reference=None, n_threads=THREADS)

    work(adata[:WARM_CELLS, :50].copy())
    with timed():
        work(adata)


def pseudobulk_ours(path: str) -> None:
    import cellworker as cw

    adata = _read(path)
    with timed():
        cw.tl.pseudobulk(
            adata, "treated", sample="sample", group="yes", reference="no", layer="counts", threads=THREADS
        )


def pseudobulk_scanpy(path: str) -> None:
    import scanpy as sc

    adata = _read(path)
    with timed():
        sc.get.aggregate(adata, "sample", "sum", layer="counts")


def pseudobulk_scranpy(path: str) -> None:
    import scranpy

    adata = _read(path)
    genes = adata.layers["counts"].T
    with timed():
        scranpy.aggregate_across_cells(genes, (adata.obs["sample"].cat.codes.to_numpy(),), num_threads=THREADS)
