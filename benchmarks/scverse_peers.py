"""The peers of the benchmark "scverse": scanpy, scranpy, illico, PyDESeq2 and limma on the same AnnData.

Each function runs in a process of its own, in `BENCH_PEERS_PYTHON`; `how` names a peer's other back end. "sklearnex" is
scikit-learn with Intel's extension under scanpy.
"""

# ruff: noqa: ARG001, PLC0415 - every case is a process of its own: it pays for its own imports, and all are called alike

import json
import platform
import subprocess
import tempfile
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from benchmarks.harness import say, timed
from benchmarks.maps import THREADS, map_quality
from benchmarks.scverse import (
    COMPONENTS,
    MIN_DIST,
    PERPLEXITY,
    WARM_CELLS,
    K,
    modularity,
    read,
    recall,
    variance_of,
)

LIMMA = """
counts <- as.matrix(read.csv(commandArgs(TRUE)[1], row.names = 1))
yes <- as.integer(strsplit(commandArgs(TRUE)[2], "")[[1]])
suppressPackageStartupMessages({library(limma); library(edgeR)})
robust <- requireNamespace("statmod", quietly = TRUE)  # which it needs; ours is robust always
work <- function(counts) {
  design <- model.matrix(~ yes)
  all <- DGEList(counts)
  all <- calcNormFactors(all[filterByExpr(all, design), , keep.lib.sizes = TRUE])
  topTable(eBayes(lmFit(voomWithQualityWeights(all, design), design), robust = robust), coef = 2, number = Inf)
}
invisible(work(counts[1:500, ]))
before <- proc.time()
found <- work(counts)
spent <- proc.time() - before
cat(sum(spent[c("user.self", "sys.self")]), spent[["elapsed"]], as.character(packageVersion("limma")), nrow(found))
"""


def say_versions(*names: str) -> None:
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    print(json.dumps(found))


def _with_extension(how: str) -> None:
    if how == "sklearnex":
        from sklearnex import patch_sklearn

        patch_sklearn(verbose=False)


def components_scanpy(path: str, how: str) -> None:
    import scanpy as sc

    adata = read(path)
    solver = {"svd_solver": how} if how else {}
    sc.pp.pca(adata[:WARM_CELLS].copy(), COMPONENTS, **solver)
    with timed() as details:
        sc.pp.pca(adata, COMPONENTS, **solver)
    details |= variance_of(adata.obsm["X_pca"])


def components_scranpy(path: str, how: str) -> None:
    import scranpy

    adata = read(path)
    genes = adata.X.T
    with timed() as details:
        found = scranpy.run_pca(genes, COMPONENTS, num_threads=THREADS)
    details |= variance_of(np.asarray(found["components"]).T)


def neighbours_scanpy(path: str, how: str) -> None:
    _with_extension(how)
    import scanpy as sc

    adata = read(path)
    search = {"transformer": "sklearn"} if how else {}
    sc.pp.neighbors(adata[:WARM_CELLS].copy(), K, use_rep="X_pca", **search)
    with timed() as details:
        sc.pp.neighbors(adata, K, use_rep="X_pca", **search)
    details |= recall(adata)


def neighbours_scranpy(path: str, how: str) -> None:
    """The search alone, without the connectivities that the others compute."""
    import knncolle
    from scipy.sparse import csr_matrix

    adata = read(path)
    rows = adata.obsm["X_pca"].astype(np.float64)
    parameters = getattr(knncolle, f"{how}Parameters")()
    with timed() as details:
        index = knncolle.build_index(parameters, rows)
        found = knncolle.find_knn(index, K - 1, num_threads=THREADS)
    n = len(rows)
    bounds = np.arange(0, n * (K - 1) + 1, K - 1)
    adata.obsp["distances"] = csr_matrix((found.distance.ravel(), found.index.ravel(), bounds), shape=(n, n))
    details |= recall(adata)


def umap_scanpy(path: str, how: str) -> None:
    import scanpy as sc

    adata = read(path)
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


def umap_scranpy(path: str, how: str) -> None:
    import scranpy

    adata = read(path)
    with timed() as details:
        layout = scranpy.run_umap(_columns(adata), num_neighbors=K, min_dist=MIN_DIST, num_threads=THREADS)
    details |= map_quality(adata.obsm["X_pca"], _two(layout))


def tsne_scanpy(path: str, how: str) -> None:
    _with_extension(how)
    import scanpy as sc

    adata = read(path)
    with timed() as details:
        sc.tl.tsne(adata, use_rep="X_pca", n_jobs=THREADS)
    details |= map_quality(adata.obsm["X_pca"], adata.obsm["X_tsne"])


def tsne_scranpy(path: str, how: str) -> None:
    import scranpy

    adata = read(path)
    with timed() as details:
        layout = scranpy.run_tsne(_columns(adata), perplexity=PERPLEXITY, max_iterations=1000, num_threads=THREADS)
    details |= map_quality(adata.obsm["X_pca"], _two(layout))


def leiden_scanpy(path: str, how: str) -> None:
    import scanpy as sc

    adata = read(path)
    sc.tl.leiden(adata[:WARM_CELLS].copy(), flavor="igraph", n_iterations=2, directed=False)
    with timed() as details:
        sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False)
    details |= modularity(adata, adata.obs["leiden"].cat.codes.to_numpy())


def leiden_scranpy(path: str, how: str) -> None:
    import scranpy
    from biocutils import NamedList

    adata = read(path)
    graph = adata.obsp["connectivities"].tocoo()
    once = graph.row < graph.col
    pairs = np.stack([graph.row[once], graph.col[once]], axis=1).ravel().astype(np.uint32)
    links = NamedList([adata.n_obs, pairs, graph.data[once].astype(np.float64)], ["vertices", "edges", "weights"])
    with timed() as details:
        found = scranpy.cluster_graph(links, "leiden", leiden_resolution=1.0)
        labels = np.asarray(found["membership"])
    details |= modularity(adata, labels)


def _warm(adata, work) -> None:
    """Whatever it compiles, it compiles on a few cells."""
    work(adata[:WARM_CELLS, :50].copy())


def markers_scanpy(path: str, how: str) -> None:
    import scanpy as sc

    adata = read(path)
    _warm(adata, lambda some: sc.tl.rank_genes_groups(some, "group", method="wilcoxon", tie_correct=True))
    with timed():
        sc.tl.rank_genes_groups(adata, "group", method="wilcoxon", tie_correct=True)


def markers_illico(path: str, how: str) -> None:
    from illico import asymptotic_wilcoxon

    adata = read(path)

    def work(some) -> None:
        asymptotic_wilcoxon(some, is_log1p=True, group_keys="group", reference=None, n_threads=THREADS)

    _warm(adata, work)
    with timed():
        work(adata)


def sums_scanpy(path: str, how: str) -> None:
    import scanpy as sc

    adata = read(path)
    _warm(adata, lambda some: sc.get.aggregate(some, "sample", "sum", layer="counts"))
    with timed():
        sc.get.aggregate(adata, "sample", "sum", layer="counts")


def sums_scranpy(path: str, how: str) -> None:
    import scranpy

    adata = read(path)
    genes = adata.layers["counts"].T
    with timed():
        scranpy.aggregate_across_cells(genes, (adata.obs["sample"].cat.codes.to_numpy(),), num_threads=THREADS)


def samples_pydeseq2(path: str, how: str) -> None:
    """scanpy's sums, then the test."""
    import pandas as pd
    import scanpy as sc
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.default_inference import DefaultInference
    from pydeseq2.ds import DeseqStats

    adata = read(path)
    treated = adata.obs.groupby("sample", observed=True)["treated"].first().astype(str)
    inference = DefaultInference(n_cpus=1)  # processes of its own cost more than they save here

    def work(some) -> None:
        sums = sc.get.aggregate(some, "sample", "sum", layer="counts")
        counts = pd.DataFrame(sums.layers["sum"], sums.obs_names, sums.var_names).astype(int)
        samples = pd.DataFrame({"treated": treated.loc[list(sums.obs_names)]})
        samples.index = counts.index
        found = DeseqDataSet(counts=counts, metadata=samples, design="~treated", inference=inference, quiet=True)
        found.deseq2()
        DeseqStats(found, contrast=["treated", "yes", "no"], inference=inference, quiet=True).summary()

    _warm(adata, work)
    with timed():
        work(adata)


def samples_limma(path: str, how: str) -> None:
    """The test alone, timed by R after a first call."""
    import pandas as pd

    adata = read(path)
    codes, counts = adata.obs["sample"].cat.codes.to_numpy(), adata.layers["counts"]
    sums = {f"s{i}": np.asarray(counts[codes == i].sum(axis=0)).ravel().astype(int) for i in range(codes.max() + 1)}
    treated = adata.obs.groupby("sample", observed=True)["treated"].first() == "yes"
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        pd.DataFrame(sums, adata.var_names).to_csv(file.name)
        line = ["Rscript", "-e", LIMMA, file.name, "".join(str(int(one)) for one in treated)]
        said = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
    say({"cpu_s": float(said[0]), "wall_s": float(said[1])}, {"limma": said[2], "genes": int(said[3])})
