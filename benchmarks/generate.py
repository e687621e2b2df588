"""Generated experiments of any size with the profiles of real genes, for benchmarks.

    python -m benchmarks.generate --cells 20000 --genes 20000

A cell is a number of molecules drawn from one of 40 states. A state is the mean profile of a cluster of real cells (10x
PBMC 3k of ../shared where it is, else the bundled sample), each gene of it varied by a gamma factor, which gives the
overdispersion of real counts. Genes beyond those of the source are copies of its genes at a tenth of their level.
Totals of molecules vary between cells as in the source, and their number is chosen to give the wanted number of
non-zeros.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellworker.experiment.model import Genes
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.r.rds.build import doubles, integers, strings
from cellworker.formats.r.rds.reader import read_rds
from cellworker.formats.r.rds.writer import write_rds
from cellworker.formats.seurat.read.reader import read_seurat
from cellworker.formats.seurat.write.platform_object import ObjectParts, ReductionPart, SparsePart, seurat_object
from cellworker.sample import sample_path

__all__ = ["Size", "experiment"]

VERSION = 1
"""Raised when the same size would give another file."""
SHARED = Path(__file__).parents[2] / "shared/data/experiments/pbmc3k/v4"
STATES, TABLE = 40, 1 << 20
CELLS_AT_ONCE = 200
GAMMA_SHAPE = 2.0
SEED = 7


@dataclass(frozen=True)
class Size:
    """How large an experiment is; `nonzeros_per_cell` genes are found in a cell on average."""

    cells: int = 100_000
    genes: int = 30_000
    nonzeros_per_cell: int = 2_000
    gzip_level: int = 6

    @property
    def name(self) -> str:
        """Of the folder and in every table: other profiles are other data, so their source is part of it."""
        what = f"{self.cells}x{self.genes}-nnz{self.nonzeros_per_cell}-gz{self.gzip_level}-v{VERSION}"
        return f"{what}-{_source()[1]}"


FULL = Size()
QUICK = Size(20_000, 20_000, 2_240)


def experiment(size: Size) -> Path:
    """Return the folder of a generated experiment: r.rds, cell_sets.json, about.json. It is made when missing."""
    folder = Path(os.environ.get("BENCH_DATA", Path.home() / ".cache/cellworker-bench"))
    target = folder / size.name
    if not (target / "about.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="making-") as work:
            made = Path(work) / "made"
            made.mkdir()
            _make(size, made, Path(work))
            shutil.rmtree(target, ignore_errors=True)
            made.rename(target)
    return target


def _source() -> tuple[Path, str]:
    """Return the folder of the real cells, and its name."""
    return (SHARED, SHARED.parent.name) if SHARED.exists() else (sample_path(), "bundled-sample")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _make(size: Size, target: Path, work: Path) -> None:
    start = time.perf_counter()
    rng = np.random.default_rng(SEED)
    source, source_name = _source()
    profiles, cluster_of_state, relative_totals, symbols = _profiles(source, size.genes, work, rng)
    molecules = _calibrate(profiles, relative_totals, size.nonzeros_per_cell)
    _say(f"generating {size.name}: {molecules:.0f} molecules per cell on average, from {source}")

    state = rng.integers(0, STATES, size.cells)
    totals = np.maximum(rng.choice(relative_totals, size.cells) * molecules, 200).astype(np.int64)
    indptr, genes_file, counts_file = _draw(size, profiles, state, totals, work, rng)
    nonzeros = int(indptr[-1])
    genes = np.memmap(genes_file, np.uint16, "r", shape=(nonzeros,))
    counts = np.memmap(counts_file, np.uint16, "r", shape=(nonzeros,))
    data = np.memmap(work / "data", np.float64, "w+", shape=(nonzeros,))
    n_count = np.zeros(size.cells)
    for a in range(0, size.cells, 2000):
        b = min(a + 2000, size.cells)
        piece = counts[indptr[a] : indptr[b]].astype(np.float64)
        lengths = np.diff(indptr[a : b + 1])
        n_count[a:b] = np.add.reduceat(piece, indptr[a:b] - indptr[a])
        data[indptr[a] : indptr[b]] = np.log1p(piece / np.repeat(n_count[a:b], lengths) * 1e4)
    _say(f"{nonzeros:,} non-zeros after {time.perf_counter() - start:.0f} s; writing")

    cluster = cluster_of_state[state]
    parts = _parts(size, symbols, indptr, genes, counts, data, state, cluster, n_count, rng)
    write_rds(seurat_object(parts), target / "r.rds", level=size.gzip_level)
    _cell_sets(target / "cell_sets.json", size, cluster, parts)
    about = {
        "cells": size.cells,
        "genes": size.genes,
        "nonzeros": nonzeros,
        "source": source_name,
        "file_bytes": (target / "r.rds").stat().st_size,
        "seconds_to_make": round(time.perf_counter() - start, 1),
    }
    (target / "about.json").write_text(json.dumps(about, indent=1))
    _say(f"made in {about['seconds_to_make']} s, {about['file_bytes'] / 1e6:.0f} MB")


def _profiles(source: Path, n_genes: int, work: Path, rng: np.random.Generator):
    """Gene proportions of each state, ``(STATES, n_genes)``; its cluster; cells' totals over their mean; symbols."""
    spool = work / "spool"
    spool.mkdir()
    findings = Findings()
    draft = read_seurat(read_rds(source / "r.rds", spool).root, findings, Scratch(None))
    findings.raise_errors()
    assert draft is not None
    louvain = json.loads((source / "cell_sets.json").read_text())["cellSets"][0]["children"]
    cluster_of_id = {cell: k for k, child in enumerate(louvain) for cell in child["cellIds"]}
    cluster = np.array([cluster_of_id.get(int(i), 0) for i in draft.cell_ids])
    counts = draft.counts
    totals = np.add.reduceat(counts.values.astype(np.float64), counts.indptr[:-1])
    cell = np.repeat(np.arange(len(cluster)), np.diff(counts.indptr))
    n_clusters, n_source = int(cluster.max()) + 1, counts.n_columns
    where = cluster[cell] * n_source + counts.columns
    sums = np.bincount(where, counts.values / totals[cell], n_clusters * n_source).reshape(n_clusters, n_source)
    means = sums / np.maximum(np.bincount(cluster, minlength=n_clusters), 1)[:, None]
    symbols = list(draft.genes.original_names)
    if n_genes <= n_source:
        kept = np.sort(np.argsort(-means.sum(0), kind="stable")[:n_genes])
        means, symbols = means[:, kept], [symbols[i] for i in kept]
    else:
        copied = rng.integers(0, n_source, n_genes - n_source)
        means = np.concatenate((means, 0.1 * means[:, copied]), axis=1)
        symbols += [f"{symbols[j]}-COPY{i}" for i, j in enumerate(copied)]
    weights = np.bincount(cluster, minlength=n_clusters) / len(cluster)
    cluster_of_state = np.sort(rng.choice(n_clusters, STATES, p=weights))
    profiles = means[cluster_of_state] * rng.gamma(GAMMA_SHAPE, 1 / GAMMA_SHAPE, (STATES, n_genes))
    profiles /= profiles.sum(1, keepdims=True)
    return profiles, cluster_of_state, totals / totals.mean(), symbols


def _calibrate(profiles: np.ndarray, relative_totals: np.ndarray, wanted: int) -> float:
    """Molecules per cell that give the wanted number of genes per cell, by bisection."""
    low, high = 100.0, 200_000.0
    spread = np.quantile(relative_totals, np.linspace(0.05, 0.95, 10))
    for _ in range(30):
        middle = (low * high) ** 0.5
        found = np.mean([(1 - np.exp(-middle * f * profiles[::4])).sum(1).mean() for f in spread])
        low, high = (middle, high) if found < wanted else (low, middle)
    return low


def _draw(
    size: Size, profiles: np.ndarray, state: np.ndarray, totals: np.ndarray, work: Path, rng: np.random.Generator
):
    """Draw each molecule's gene from a table of its state; molecules of the same gene are a count."""
    offsets = rng.random(STATES)
    tables = np.empty((STATES, TABLE), np.uint16)
    for k in range(STATES):
        quantiles = (np.arange(TABLE) + offsets[k]) / TABLE
        tables[k] = np.minimum(np.searchsorted(np.cumsum(profiles[k]), quantiles), size.genes - 1)
    indptr = np.zeros(size.cells + 1, np.int64)
    genes_file, counts_file = work / "genes", work / "counts"
    with genes_file.open("wb") as genes_out, counts_file.open("wb") as counts_out:
        for a in range(0, size.cells, CELLS_AT_ONCE):
            b = min(a + CELLS_AT_ONCE, size.cells)
            row = np.repeat(np.arange(b - a), totals[a:b])
            picks = rng.integers(0, TABLE, len(row), np.uint32)
            gene = tables.ravel()[np.repeat(state[a:b] * TABLE, totals[a:b]) + picks]
            counts = np.bincount(row * size.genes + gene, minlength=(b - a) * size.genes)
            found = np.flatnonzero(counts)
            genes_out.write((found % size.genes).astype(np.uint16).tobytes())
            counts_out.write(counts[found].astype(np.uint16).tobytes())
            indptr[a + 1 : b + 1] = indptr[a] + np.searchsorted(found, np.arange(1, b - a + 1) * size.genes)
    return indptr, genes_file, counts_file


def _parts(size, symbols, indptr, genes, counts, data, state, cluster, n_count, rng) -> ObjectParts:
    n = size.cells
    ids = [f"ENSG{i + 1:011d}" for i in range(size.genes)]
    barcodes = _barcodes(n, rng)
    sample = rng.integers(0, 6, n)
    uuids = [str(uuid.uuid5(uuid.NAMESPACE_URL, f"bench/{i}")) for i in range(6)]
    # A twentieth of the ids belongs to cells that quality control took out.
    cell_ids = rng.permutation(n + n // 20)[:n].astype(np.int32)
    centres = rng.normal(0, 8, (STATES, 30)) / (1 + np.arange(30)) ** 0.5
    pcs = centres[state] + rng.normal(0, 1, (n, 30))
    umap = centres[state][:, :2] + rng.normal(0, 1, (n, 2))
    mean = np.zeros(size.genes)
    square = np.zeros(size.genes)
    for a in range(0, len(genes), 1 << 24):
        piece = counts[a : a + (1 << 24)].astype(np.float64)
        mean += np.bincount(genes[a : a + (1 << 24)], piece, size.genes)
        square += np.bincount(genes[a : a + (1 << 24)], piece**2, size.genes)
    mean /= n
    variance = (square - n * mean**2) / (n - 1)
    # A stand-in with the meaning of vst's column: no benchmark depends on its values.
    standardised = variance / np.maximum(mean + mean**2 / GAMMA_SHAPE, 1e-9)
    variable = np.argsort(-standardised, kind="stable")[:2000]
    return ObjectParts(
        barcodes=barcodes,
        genes=Genes(ids, symbols, symbols),
        counts=SparsePart(indptr, genes, counts),
        data=SparsePart(indptr, genes, data),
        metadata={
            "nCount_RNA": doubles(n_count),
            "nFeature_RNA": integers(np.diff(indptr)),
            "cells_id": integers(cell_ids),
            "samples": strings([uuids[i] for i in sample]),
            "percent.mt": doubles(rng.gamma(4, 1, n)),
            "doublet_scores": doubles(rng.beta(1, 20, n)),
            "Group": strings([("A", "B")[i % 2] for i in sample]),
            "cluster": integers(cluster),
        },
        reductions={
            "pca": ReductionPart(pcs, "PC_", pcs.std(0)),
            "umap": ReductionPart(umap, "UMAP_"),
        },
        gene_dispersion={"mean": mean, "variance": variance, "variance.standardized": standardised},
        variable_features=[ids[i] for i in variable],
        misc={
            "color_pool": strings([f"#{i * 43691 % 2**24:06x}" for i in range(1, 381)]),
            "numPCs": integers(30),
            "active.reduction": strings("pca"),
            "technology": strings("10x"),
            "experimentId": strings("bench"),
        },
    )


def _barcodes(n: int, rng: np.random.Generator) -> list[str]:
    letters = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, (n, 16))]
    return [f"{row.tobytes().decode()}-{i}" for i, row in enumerate(letters)]


def _cell_sets(path: Path, size: Size, cluster: np.ndarray, parts: ObjectParts) -> None:
    ids = parts.metadata["cells_id"].values
    samples = np.array(parts.metadata["samples"].tolist())
    groups = np.array(parts.metadata["Group"].tolist())
    colors = iter([f"#{i * 43691 % 2**24:06x}" for i in range(1, 381)])

    def klass(key: str, name: str, kind: str, children: list[tuple[str, str, np.ndarray]]) -> dict:
        sets = [
            {
                "key": k,
                "name": title,
                "rootNode": False,
                "type": kind,
                "color": next(colors),
                "cellIds": ids[mask].tolist(),
            }
            for k, title, mask in children
        ]
        return {"key": key, "name": name, "rootNode": True, "type": kind, "children": sets}

    found = [f"louvain-{c}" for c in np.unique(cluster)]
    classes = [
        klass(
            "louvain",
            "louvain clusters",
            "cellSets",
            [(k, k.replace("louvain-", "Cluster "), cluster == int(k[8:])) for k in found],
        ),
        klass(
            "scratchpad",
            "Custom cell sets",
            "cellSets",
            [("bench-custom", "Every tenth", np.arange(size.cells) % 10 == 0)],
        ),
        klass(
            "sample",
            "Samples",
            "metadataCategorical",
            [(s, f"Sample {i + 1}", samples == s) for i, s in enumerate(np.unique(samples))],
        ),
        klass("Group", "Group", "metadataCategorical", [(f"Group-{g}", g, groups == g) for g in ("A", "B")]),
    ]
    path.write_text(json.dumps({"cellSets": classes}, separators=(",", ":")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=FULL.cells)
    parser.add_argument("--genes", type=int, default=FULL.genes)
    parser.add_argument("--nonzeros-per-cell", type=int, default=FULL.nonzeros_per_cell)
    parser.add_argument("--gzip-level", type=int, default=FULL.gzip_level)
    options = parser.parse_args()
    print(experiment(Size(options.cells, options.genes, options.nonzeros_per_cell, options.gzip_level)))


if __name__ == "__main__":
    main()
