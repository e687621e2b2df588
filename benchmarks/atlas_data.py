"""Large experiments of any size as an .h5ad with clusters, samples, components and a map, made block by block.

Cells are around the 30 groups of the benchmark "maps" in 30 principal components, and on trees in their map. A cell has
values for a fixed number of genes, so that the size of the file is known before. The genes are cut into as many
ranges as a cell has values, each of the same total probability, and each cell has one gene of each range: a gene's
probability falls with its rank as a power, and differs between groups by gamma factors. Counts come from tables of
zero-truncated Poisson distributions with the mean that belongs to the gene's probability, times the cell's depth.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem
from isal import isal_zlib

from benchmarks.maps import GROUPS, cells
from benchmarks.trajectories import cells as plane

__all__ = ["GENES", "SAMPLES", "Atlas", "made"]

GENES, SAMPLES = 20_000, 8
AT_ONCE, CELLS_IN_CHUNK = 2_000, 100
DRAWS = 256  # places of a table: one byte chooses
DEPTHS = np.array([0.5, 0.8, 1.0, 1.6, 2.5])
LEVELS = 64  # of abundance, each with a table of counts
HIGHEST = 0.95  # probability of a gene
SEED = 19
THREADS = 2
VERSION = 1
"""Raised when the same size would give another file."""


@dataclass(frozen=True)
class Atlas:
    """How large a file is, and in which of two forms.

    `as_analysed`: log-normalised values in X and counts in a layer, uncompressed. Else: counts in X, compressed.
    """

    cells: int
    per_cell: int
    as_analysed: bool

    @property
    def values(self) -> int:
        """Number of stored counts."""
        return self.cells * self.per_cell

    @property
    def name(self) -> str:
        """Of its folder."""
        form = "logs-and-counts" if self.as_analysed else "gzip-counts"
        return f"atlas-{self.cells}x{GENES}-nnz{self.per_cell}-{form}-v{VERSION}"


def made(folder: Path, atlas: Atlas) -> Path:
    """Return the folder of an experiment, ``r.h5ad`` and ``cell_sets.json``; made when missing."""
    target = folder / atlas.name
    if (target / "cell_sets.json").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    with h5py.File(target / "r.h5ad", "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        points, group = cells(atlas.cells)
        sample = np.random.default_rng(SEED).integers(0, SAMPLES, atlas.cells)
        _write_tables(file, points, group, sample)
        del points
        _write_matrices(file, atlas, group)
    _write_cell_sets(target / "cell_sets.json", group, sample)
    return target


def _write_tables(file: h5py.File, points: np.ndarray, group: np.ndarray, sample: np.ndarray) -> None:
    obs = pd.DataFrame(index=pd.Index([f"cell{i}" for i in range(len(group))]))
    obs["cluster"] = pd.Categorical.from_codes(group, [f"group {k}" for k in range(GROUPS)])
    obs["sample"] = pd.Categorical.from_codes(sample, [f"donor {k}" for k in range(SAMPLES)])
    obs["condition"] = pd.Categorical.from_codes(sample % 2, ["control", "treated"])
    obs["doublet_scores"] = np.random.default_rng(SEED + 1).beta(1, 20, len(group))  # else opening would make them
    write_elem(file, "obs", obs)
    write_elem(file, "var", pd.DataFrame(index=pd.Index([f"GENE{i}" for i in range(GENES)])))
    write_elem(file, "obsm", {"X_pca": points, "X_umap": plane(len(group)).astype(np.float32)})


def _write_matrices(file: h5py.File, atlas: Atlas, group: np.ndarray) -> None:
    matrices = [("X", "logs"), ("layers/counts", "counts")] if atlas.as_analysed else [("X", "counts")]
    options = {} if atlas.as_analysed else {"chunks": (CELLS_IN_CHUNK * atlas.per_cell,), "compression": "gzip"}
    outputs = []
    for name, kind in matrices:
        out = file.create_group(name)
        out.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (atlas.cells, GENES)})
        out["indptr"] = np.arange(atlas.cells + 1, dtype=np.int64) * atlas.per_cell
        outputs.append((out.create_dataset("indices", (atlas.values,), np.int32, **options), "genes"))
        outputs.append((out.create_dataset("data", (atlas.values,), np.float32, **options), kind))
    with ThreadPoolExecutor(THREADS) as pool:
        for first, block in _blocks(atlas, group, pool):
            for dataset, kind in outputs:
                _append(dataset, first * atlas.per_cell, block[kind], pool)


def _append(dataset: h5py.Dataset, at: int, values: np.ndarray, pool: ThreadPoolExecutor) -> None:
    if dataset.chunks is None:
        dataset[at : at + len(values)] = values
        return
    step = dataset.chunks[0]  # a block ends where a chunk ends; the last chunk of the file is filled up
    pieces = [np.pad(piece, (0, step - len(piece))) for piece in np.split(values, range(step, len(values), step))]
    for k, packed in enumerate(pool.map(lambda piece: isal_zlib.compress(piece.tobytes(), 1), pieces)):
        dataset.id.write_direct_chunk((at + k * step,), packed)


def _blocks(atlas: Atlas, group: np.ndarray, pool: ThreadPoolExecutor) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield the first cell of each block and its values; the next one is drawn while one is written."""
    tables = _Tables(atlas.per_cell)
    starts = list(range(0, atlas.cells, AT_ONCE))

    def draw(first: int) -> dict[str, np.ndarray]:
        return tables.draw(first, group[first : first + AT_ONCE], logs=atlas.as_analysed)

    waiting = pool.submit(draw, starts[0])
    for first, following in zip(starts, [*starts[1:], None], strict=True):
        block = waiting.result()
        if following is not None:
            waiting = pool.submit(draw, following)
        yield first, block


class _Tables:
    """What a random byte chooses: the gene of a range in a group, the count of a gene in a cell of some depth."""

    def __init__(self, per_cell: int) -> None:
        random = np.random.default_rng(SEED)
        chances = _chances(per_cell)[random.permutation(GENES)]
        bounds = np.searchsorted(np.cumsum(chances) * per_cell / chances.sum(), np.arange(1, per_cell))
        self._genes = np.empty((GROUPS, per_cell, DRAWS), np.uint16)
        for k in range(GROUPS):
            weights = chances * random.gamma(2.0, 0.5, GENES)
            for part, own in enumerate(np.split(np.arange(GENES), bounds)):
                reached = np.cumsum(weights[own])
                places = (np.arange(DRAWS) + 0.5) / DRAWS * reached[-1]
                self._genes[k, part] = own[np.searchsorted(reached, places)]
        means = -np.log1p(-np.minimum(chances, 0.99))
        edges = np.quantile(means, (np.arange(LEVELS) + 0.5) / LEVELS)
        self._level = np.minimum(np.searchsorted(edges, means), LEVELS - 1).astype(np.uint16)
        self._counts = np.array([[_truncated_poisson(mean * depth * 3) for mean in edges] for depth in DEPTHS])

    def draw(self, first: int, group: np.ndarray, *, logs: bool) -> dict[str, np.ndarray]:
        """Return genes and counts, and where asked log-normalised values, of some cells, row after row."""
        random = np.random.default_rng((SEED, first))
        n, per_cell = len(group), self._genes.shape[1]
        which = random.integers(0, DRAWS, (n, per_cell), np.uint8)
        genes = self._genes[group[:, None], np.arange(per_cell), which]
        depth = random.integers(0, len(DEPTHS), n)
        which = random.integers(0, DRAWS, (n, per_cell), np.uint8)
        counts = self._counts[depth[:, None], self._level[genes], which]
        block = {"genes": genes.astype(np.int32).ravel(), "counts": counts.ravel()}
        if logs:
            block["logs"] = np.log1p(counts * (1e4 / counts.sum(axis=1, keepdims=True))).astype(np.float32).ravel()
        return block


def _chances(per_cell: int) -> np.ndarray:
    """Return the probability of each gene, by rank: a power that gives the wanted sum, found by bisection."""
    rank = np.arange(1, GENES + 1, dtype=np.float64)
    low, high = 1e-3, 1e6
    for _ in range(80):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if _capped(rank, middle).sum() < per_cell else (low, middle)
    return _capped(rank, low)


def _capped(rank: np.ndarray, scale: float) -> np.ndarray:
    return np.minimum(HIGHEST, scale * rank**-0.9)


def _truncated_poisson(mean: float) -> np.ndarray:
    """Return the quantiles of a Poisson count that is not zero, float32 ``(DRAWS,)``."""
    counts = np.arange(1, 200)
    log_weights = counts * np.log(mean) - np.cumsum(np.log(counts))
    reached = np.cumsum(np.exp(log_weights - log_weights.max()))
    return counts[np.searchsorted(reached, (np.arange(DRAWS) + 0.5) / DRAWS * reached[-1])].astype(np.float32)


def _write_cell_sets(path: Path, group: np.ndarray, sample: np.ndarray) -> None:
    def of(key: str, kind: str, codes: np.ndarray, names: list[str]) -> dict[str, object]:
        children = [
            {
                "key": f"{key}-{k}",
                "name": name,
                "rootNode": False,
                "type": kind,
                "color": f"#{(k + 1) * 43691 % 2**24:06x}",
                "cellIds": np.flatnonzero(codes == k).tolist(),
            }
            for k, name in enumerate(names)
        ]
        return {"key": key, "name": key, "rootNode": True, "type": kind, "children": children}

    classes = [
        of("louvain", "cellSets", group, [f"group {k}" for k in range(GROUPS)]),
        {"key": "scratchpad", "name": "Custom cell sets", "rootNode": True, "type": "cellSets", "children": []},
        of("sample", "metadataCategorical", sample, [f"donor {k}" for k in range(SAMPLES)]),
        of("condition", "metadataCategorical", sample % 2, ["control", "treated"]),
    ]
    path.write_text(json.dumps({"cellSets": classes}, separators=(",", ":")))
