"""Benchmark "prepare": raw counts of samples to an experiment, beside scanpy's pipeline and Seurat's.

scanpy starts from the same files and does the same steps: Scrublet per sample, limits by 3 MADs, normalisation,
variable genes, scaling, components, Harmony, neighbours, Leiden, UMAP, and writes an ``.h5ad``. Seurat starts from the
merged counts that we wrote and does everything from NormalizeData() to FindClusters(): genes, components, clusters.
"""

# ruff: noqa: PLC0415 - every case is a process of its own and pays for what it imports, and for nothing else

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import Bar, Case, Command, pick, python, run_cases, timed

__all__ = ["run"]

HERE = "benchmarks.preparing"
N_TYPES = 12
DOUBLETS = 0.04
LIMIT_S = 3600
ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""More would spin while others compute, and count."""

SEURAT = """
    suppressMessages(library(Seurat))
    before <- proc.time()
    x <- readRDS("{folder}/ours/r.rds")
    s <- CreateSeuratObject(slot(x[["RNA"]], "counts"))
    s <- NormalizeData(s, verbose = FALSE)
    s <- FindVariableFeatures(s, nfeatures = 2000, verbose = FALSE)
    s <- ScaleData(s, verbose = FALSE)
    s <- RunPCA(s, npcs = 50, verbose = FALSE)
    s <- FindNeighbors(s, dims = 1:10, annoy.metric = "cosine", verbose = FALSE)
    s <- FindClusters(s, resolution = 0.8, verbose = FALSE)
    taken <- proc.time() - before
    writeLines(VariableFeatures(s), "{folder}/seurat-genes.txt")
    write.csv(data.frame(cell = colnames(s), cluster = as.character(Idents(s)), Embeddings(s, "pca")[, 1:10]),
        "{folder}/seurat.csv", row.names = FALSE)
    cat(sprintf('benchmark-usage {{"usage": {{"cpu_s": %.4f, "wall_s": %.4f}}, "details": {{}}}}\\n',
        taken[[1]] + taken[[2]], taken[[3]]))
"""


@dataclass(frozen=True)
class Size:
    """How much to generate."""

    samples: int
    cells: int
    genes: int


FULL, QUICK = Size(8, 5_000, 20_000), Size(3, 800, 6_000)


def run(*, quick: bool, only: str = "") -> None:
    """Measure and write the results."""
    size = QUICK if quick else FULL
    folder = _generated(size)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="bench-prepare-") as name:
        work = Path(name)
        cases = pick(_cases(folder, work, size), only)
        about = {**asdict(size), "doublets": DOUBLETS, "types": N_TYPES}
        run_cases("prepare-quick" if quick else "prepare", cases, about, write=not only)
        if not only:
            _compare(folder, work, "prepare-quick" if quick else "prepare")


def _cases(folder: Path, work: Path, size: Size) -> list[Case]:
    def clear() -> None:
        shutil.rmtree(work / "ours", ignore_errors=True)
        shutil.rmtree(work / "stores", ignore_errors=True)

    bars = [Bar("cpu_s", 1.0, "not slower than scanpy", "scanpy")]
    if size == FULL:
        bars.append(Bar("cpu_s", 90, "8 samples of 5,000 cells in 90 CPU s"))
        bars.append(Bar("peak_mb", 3000, "40,000 cells in 3 GB"))
    ours = Command(python(f"{HERE}:ours", folder, work), prepare=clear, limit_s=LIMIT_S)
    peers = {"scanpy": Command(python(f"{HERE}:theirs", folder, work), ONE_BLAS_THREAD, limit_s=LIMIT_S)}
    cases = [Case("raw counts to an experiment", ours, peers, 1, bars)]
    rscript = shutil.which("Rscript")
    if rscript:
        code = SEURAT.format(folder=work)
        seurat = {
            "Seurat": Command(
                [rscript, "--vanilla", "-e", code], ONE_BLAS_THREAD, limit_s=LIMIT_S, prepare=lambda: _as_rds(work)
            )
        }
        one = Command(python(f"{HERE}:merged", work), ONE_BLAS_THREAD, prepare=lambda: None, limit_s=LIMIT_S)
        cases.append(Case("one matrix to clusters, samples as they are", one, seurat, 1))
    return cases


def _as_rds(work: Path) -> None:
    from cellworker.formats.convert.converting import convert
    from cellworker.settings import Settings

    target = work / "ours" / "r.rds"
    if not target.exists():
        convert(work / "ours" / "experiment.h5ad", target, Settings.from_environment(store_dir=work / "stores"))


def ours(folder: str, work: str) -> None:
    """Prepare an experiment, cold."""
    from cellworker.api.preparing import prepare
    from cellworker.settings import Settings

    settings = Settings.from_environment(store_dir=Path(work) / "stores")
    with timed() as told:
        made = prepare(sorted(Path(folder).glob("*.h5ad")), out=Path(work) / "ours", settings=settings)
        told |= {"cells": made.n_cells, "genes": made.n_genes, "clusters": made.n_clusters, "how": made.integration}


def merged(work: str) -> None:
    """Do of the merged counts what Seurat does here; the file is read in the time, too."""
    from scipy.sparse import csr_matrix

    from cellworker.analysis.statistics.scaled_components import scaled_components
    from cellworker.analysis.statistics.variable_genes import gene_variability
    from cellworker.formats.completing.making import grouped

    with timed() as told:
        counts, barcodes, genes = _counts(Path(work) / "ours" / "experiment.h5ad")
        threads = len(os.sched_getaffinity(0))
        n_cells, n_genes = counts.shape
        columns, values = counts.indices.astype(np.int32), counts.data
        top = gene_variability(columns, values, n_cells=n_cells, n_genes=n_genes, threads=threads).top(2000)
        totals = np.asarray(counts.sum(axis=1)).ravel()
        logs = csr_matrix(counts, copy=True)
        logs.data = np.log1p(1e4 * logs.data / np.repeat(totals, np.diff(logs.indptr)))
        space = scaled_components(
            logs.indptr.astype(np.int64), columns, logs.data, np.sort(top), 50, n_genes=n_genes, threads=threads
        )
        points = np.ascontiguousarray(space.components.scores[:, :10])
        labels = grouped(points, "louvain", 0.8, threads=threads, progress=lambda _: None)
    told["clusters"] = len(labels.categories)
    np.savez(
        Path(work) / "merged.npz", barcodes=np.array(barcodes), labels=labels.codes, points=points,
        genes=np.array([genes[i] for i in top.tolist()]),
    )  # fmt: skip


def _counts(path: Path):
    import anndata

    found = anndata.read_h5ad(path)
    return found.layers["counts"], found.obs_names.to_list(), found.var_names.to_list()


def theirs(folder: str, work: str) -> None:
    """Run scanpy's pipeline."""
    import warnings

    warnings.simplefilter("ignore")
    import anndata
    import harmonypy
    import scanpy

    def within(values, low, high):
        centre = np.median(values)
        spread = 1.4826 * np.median(np.abs(values - centre))
        return (values >= centre - low * spread) & (values <= centre + high * spread)

    with timed() as told:
        parts = {}
        for path in sorted(Path(folder).glob("*.h5ad")):
            part = anndata.read_h5ad(path)
            part.var["mt"] = part.var_names.str.startswith("MT-")
            scanpy.pp.calculate_qc_metrics(part, qc_vars=["mt"], percent_top=None, inplace=True)
            keep = within(part.obs["log1p_total_counts"], 3, np.inf) & within(
                part.obs["log1p_n_genes_by_counts"], 3, np.inf
            )
            part = part[keep & within(part.obs["pct_counts_mt"], np.inf, 3)].copy()
            scanpy.pp.scrublet(part, threshold=0.25, expected_doublet_rate=8e-6 * part.n_obs, verbose=False)
            limit = np.quantile(part.obs["doublet_score"], 1 - 8e-6 * part.n_obs)
            parts[path.stem] = part[part.obs["doublet_score"] <= limit].copy()
        adata = anndata.concat(parts, label="samples", index_unique=None, keys=None)
        adata.obs_names = adata.obs["samples"].astype(str) + "_" + adata.obs_names
        scanpy.pp.filter_genes(adata, min_cells=3)
        adata.layers["counts"] = adata.X.copy()
        scanpy.pp.normalize_total(adata, target_sum=1e4)
        scanpy.pp.log1p(adata)
        scanpy.pp.highly_variable_genes(adata, n_top_genes=2000)
        small = adata[:, adata.var["highly_variable"]].copy()
        scanpy.pp.scale(small, max_value=10)
        scanpy.pp.pca(small, n_comps=50)
        points = small.obsm["X_pca"][:, :30].astype(np.float64)
        found = np.asarray(harmonypy.run_harmony(points, small.obs, ["samples"], verbose=False).Z_corr)
        adata.obsm["X_harmony"] = found if found.shape == points.shape else found.T
        scanpy.pp.neighbors(adata, use_rep="X_harmony")
        scanpy.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False)
        scanpy.tl.umap(adata)
        adata.write_h5ad(Path(work) / "scanpy.h5ad")
        told |= {"cells": adata.n_obs, "genes": adata.n_vars, "clusters": adata.obs["leiden"].nunique()}


def _compare(folder: Path, work: Path, name: str) -> None:
    """Add what the results have in common to the figures."""
    import anndata
    from sklearn.metrics import adjusted_rand_score

    from benchmarks import harness

    truth = json.loads((folder / "truth.json").read_text())
    made = anndata.read_h5ad(work / "ours" / "experiment.h5ad")
    out: dict[str, object] = {}
    peer_path = work / "scanpy.h5ad"
    if peer_path.exists():
        peer = anndata.read_h5ad(peer_path)
        both = made.obs_names.intersection(peer.obs_names)
        out["cells in common with scanpy (Jaccard)"] = len(both) / len(made.obs_names.union(peer.obs_names))
        out["clusters, ARI with scanpy's"] = adjusted_rand_score(made.obs["louvain"][both], peer.obs["leiden"][both])
        for title, data, label in (("ours", made, "louvain"), ("scanpy", peer, "leiden")):
            types = np.array([truth[cell] for cell in data.obs_names])
            single = types >= 0
            out[f"{title}: ARI with the truth"] = adjusted_rand_score(types[single], data.obs[label].to_numpy()[single])
            out[f"{title}: share of cells that are doublets"] = float(np.mean(~single))
            space = data.obsm["X_harmony" if "X_harmony" in data.obsm else "X_pca"][:, :30]
            codes = data.obs["samples"].astype("category").cat.codes.to_numpy()
            out[f"{title}: iLISI (1 to {len(np.unique(codes))})"] = _lisi(space, codes)
            out[f"{title}: cLISI (1 is best)"] = _lisi(space[single], types[single])
            out[f"{title}: neighbours of components kept by the map"] = _kept(space, data.obsm["X_umap"])
        before = made.obsm["X_pca"][:, :30]
        out["before integration: iLISI"] = _lisi(before, made.obs["samples"].astype("category").cat.codes.to_numpy())
    if (work / "seurat.csv").exists():
        import pandas as pd

        seurat = pd.read_csv(work / "seurat.csv", index_col="cell")
        own = np.load(work / "merged.npz")
        theirs = set((work / "seurat-genes.txt").read_text().split())
        mine = set(own["genes"].tolist())
        out["variable genes in common with Seurat"] = len(mine & theirs) / len(mine)
        seurat = seurat.loc[own["barcodes"].tolist()]
        out["clusters of one matrix, ARI with Seurat's"] = adjusted_rand_score(own["labels"], seurat["cluster"])
        coordinates = seurat.iloc[:, 1:].to_numpy()
        same = [abs(np.corrcoef(own["points"][:, i], coordinates[:, i])[0, 1]) for i in range(10)]
        out["components, smallest correlation with Seurat's of the first ten"] = float(min(same))
    for what, value in out.items():
        print(f"{value:8.4f}  {what}")
    path = harness.RESULTS / f"{name}.meta.json"
    about = json.loads(path.read_text())
    about["quality"] = out
    path.write_text(json.dumps(about, indent=1) + "\n")


def _lisi(space, codes) -> float:
    """Mean inverse Simpson index of the labels of 30 neighbours (Korsunsky et al. 2019, without their weights)."""
    from cellworker.analysis.graphs.fast_neighbours import fast_neighbours

    near = fast_neighbours(np.ascontiguousarray(space, np.float64), 31, "euclidean", threads=2).cells[:, 1:]
    shares = np.stack([(codes[near] == code).mean(axis=1) for code in np.unique(codes)])
    return float((1 / np.square(shares).sum(axis=0)).mean())


def _kept(space, layout) -> float:
    """Share of 15 neighbours in the components that are among 15 in the map, of 2,000 cells."""
    from cellworker.analysis.graphs.fast_neighbours import fast_neighbours

    some = np.random.default_rng(0).permutation(len(space))[:2000]
    found = [
        fast_neighbours(np.ascontiguousarray(x, np.float64), 16, "euclidean", queries=x[some], threads=2).cells[:, 1:]
        for x in (space, layout)
    ]
    return float(np.mean([len(np.intersect1d(a, b)) / 15 for a, b in zip(*found, strict=True)]))


def _generated(size: Size) -> Path:
    """Return a folder of samples: types with genes of their own, a shift between samples, doublets."""
    import anndata
    from scipy.sparse import csr_matrix, vstack

    cache = Path(os.environ.get("BENCH_DATA", Path.home() / ".cache/cellworker-bench"))
    folder = cache / f"prepare-{size.samples}x{size.cells}x{size.genes}"
    if (folder / "truth.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    base = rng.lognormal(0, 1.6, size.genes)
    own = np.exp(rng.normal(0, 1.1, (N_TYPES, size.genes)) * (rng.random((N_TYPES, size.genes)) < 0.06))
    names = [f"MT-{i}" if i < 13 else f"GENE{i}" for i in range(size.genes)]
    truth: dict[str, int] = {}
    for number in range(size.samples):
        shift = np.exp(0.25 * rng.normal(0, 1, size.genes) * (rng.random(size.genes) < 0.5))
        means = base * own * shift
        means[:, :13] = base[:13] * base.sum() * 0.004 / base[:13].sum() * 10
        means /= means.sum(axis=1, keepdims=True)
        n_doublets = round(DOUBLETS * size.cells)
        total = size.cells + n_doublets
        types = rng.integers(0, N_TYPES, total)
        depths = rng.lognormal(np.log(4500), 0.45, total)
        blocks = [
            csr_matrix(rng.poisson(means[types[i : i + 500]] * depths[i : i + 500, None]).astype(np.float32))
            for i in range(0, total, 500)
        ]
        cells = vstack(blocks).tocsr()
        cells = vstack([cells[: size.cells - n_doublets], cells[-2 * n_doublets : -n_doublets] + cells[-n_doublets:]])
        codes = np.concatenate([types[: size.cells - n_doublets], np.full(n_doublets, -1)])
        index = [f"CELL{i:06d}-1" for i in range(size.cells)]
        adata = anndata.AnnData(cells.tocsr())
        adata.obs_names, adata.var_names = index, names
        adata.write_h5ad(folder / f"s{number}.h5ad", compression="gzip")
        truth |= {f"s{number}_{name}": int(code) for name, code in zip(index, codes, strict=True)}
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder
