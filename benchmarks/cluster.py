"""Benchmark "cluster": a matrix that exceeds the memory of two Dask workers, tested, scored and decomposed by them.

Each worker is a process with a memory limit of 2 GB. The matrix has 4.4 GB in memory (`--quick`: 0.1 GB). The results
of some genes are compared, bit by bit, with those of this one process. Figures include the start of the workers.
"""

# ruff: noqa: PLC0415 - every case is a process of its own and pays for what it imports, and for nothing else

import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np

from benchmarks.harness import Case, Command, pick, python, run_cases, timed

__all__ = ["run"]

GENES = 20_000
VALUES = 2_000  # per cell
CELLS, QUICK = 275_000, 6_000
BLOCK = 2_000  # cells
CLUSTERS = 30
WORKERS, LIMIT = 2, "2GB"
COMPARED = 200  # genes
HERE = "benchmarks.cluster"


def run(*, quick: bool, only: str = "") -> None:
    """Make the matrix block by block as an h5ad, and run each operation on a fresh cluster."""
    cells = QUICK if quick else CELLS
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DATA"), prefix="bench-cluster-") as name:
        file = Path(name) / "atlas.h5ad"
        make(file, cells)
        values = cells * VALUES
        about = {"cells": cells, "genes": GENES, "nonzeros": values, "memory_gb": values * 8 / 1e9}
        about |= {"workers": WORKERS, "memory_limit": LIMIT, "file_bytes": file.stat().st_size}
        about["file"] = "uncompressed h5ad, just written: read from memory where that is large enough"
        cases = [
            Case(f"{operation}, {cells:,} cells", Command(python(f"{HERE}:measure", file, operation), limit_s=3000),
                 repeats=1)
            for operation in OPERATIONS
        ]  # fmt: skip
        run_cases("cluster-quick" if quick else "cluster", pick(cases, only), about, write=not only)


def make(file: Path, cells: int) -> None:
    """Write compressed rows: in each cell a gene of each of `VALUES` equal ranges; clusters differ in their values."""
    import h5py

    rng = np.random.default_rng(0)
    step = GENES // VALUES
    with h5py.File(file, "w") as out:
        matrix = out.create_group("X")
        matrix.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (cells, GENES)})
        matrix["indptr"] = np.arange(cells + 1, dtype=np.int64) * VALUES
        genes = matrix.create_dataset("indices", (cells * VALUES,), np.int32, chunks=(BLOCK * 100,))
        stored = matrix.create_dataset("data", (cells * VALUES,), np.float32, chunks=(BLOCK * 100,))
        for first in range(0, cells, BLOCK):
            n = min(BLOCK, cells - first)
            place = slice(first * VALUES, (first + n) * VALUES)
            genes[place] = (np.arange(VALUES) * step + rng.integers(0, step, (n, VALUES))).astype(np.int32).ravel()
            cluster = (first + np.arange(n)) % CLUSTERS
            counts = 1 + rng.poisson(1 + (np.arange(VALUES) % CLUSTERS == cluster[:, None]))
            stored[place] = np.log1p(counts).astype(np.float32).ravel()


def measure(path: str, operation: str) -> None:
    """Run one operation on two workers, then compare."""
    import h5py
    import pandas as pd
    from anndata import AnnData
    from anndata.experimental import read_elem_lazy
    from distributed import Client, LocalCluster

    warnings.simplefilter("ignore")
    scratch = tempfile.mkdtemp(dir=Path(path).parent)
    with h5py.File(path) as file:
        cells = int(file["X"].attrs["shape"][0])
        obs = pd.DataFrame(index=[f"cell{i}" for i in range(cells)])
        obs["cluster"] = pd.Categorical([f"c{i % CLUSTERS}" for i in range(cells)])
        adata = AnnData(
            X=read_elem_lazy(file["X"], chunks=(BLOCK, GENES)),
            obs=obs,
            var=pd.DataFrame(index=[f"gene{i}" for i in range(GENES)]),
        )
        with (
            timed() as details,
            LocalCluster(
                n_workers=WORKERS,
                threads_per_worker=1,
                memory_limit=LIMIT,
                dashboard_address=None,
                local_directory=scratch,
            ) as cluster,
            Client(cluster) as client,
        ):
            OPERATIONS[operation](adata)
            details["spilled_bytes"] = sum(spilled_bytes(client).values())
        if operation in RANKED:
            details["genes_compared_to_the_bit"] = compare(adata, file, RANKED[operation])
    shutil.rmtree(scratch, ignore_errors=True)


def spilled_bytes(client) -> dict[str, int]:
    """Return what each worker has written to the disk since its start, also where it was read and removed again."""

    def of(dask_worker) -> int:
        return int(dask_worker.data.cumulative_metrics["disk-write", "bytes"])

    return client.run(of)


def two_sets(adata) -> None:
    import cellworker as cw

    cw.tl.rank_genes_groups(adata, "cluster", groups=["c0"], reference="c1")


def markers(adata) -> None:
    import cellworker as cw

    cw.tl.rank_genes_groups(adata, "cluster")


def scores(adata) -> None:
    import cellworker as cw

    cw.tl.score_genes(adata, [f"gene{i}" for i in range(0, 500, 10)])


def components(adata) -> None:
    import cellworker as cw

    cw.pp.pca(adata, 30, mask_var=np.arange(GENES) % 10 == 0)


OPERATIONS = {"test of two sets": two_sets, "markers": markers, "scores": scores, "components": components}
RANKED = {"test of two sets": two_sets, "markers": markers}


def compare(adata, file, operate) -> int:
    """Return how many genes have the same statistics and p-values in this process, all bits."""
    from anndata import AnnData
    from scipy.sparse import csr_matrix, vstack

    parts = []
    for first in range(0, adata.n_obs, BLOCK):
        last = min(first + BLOCK, adata.n_obs)
        place, shape = slice(first * VALUES, last * VALUES), (last - first, GENES)
        indptr = np.arange(last - first + 1) * VALUES
        rows = csr_matrix((file["X/data"][place], file["X/indices"][place], indptr), shape=shape)
        parts.append(rows[:, :COMPARED])
    alone = AnnData(vstack(parts, format="csr"), obs=adata.obs.copy(), var=adata.var.iloc[:COMPARED].copy())
    operate(alone)
    found, expected = (data.uns["rank_genes_groups"] for data in (adata, alone))
    for group in expected["names"].dtype.names:
        places = {name: i for i, name in enumerate(found["names"][group])}
        chosen = [places[name] for name in expected["names"][group]]
        for field in ("scores", "pvals", "logfoldchanges"):
            assert found[field][group][chosen].tobytes() == expected[field][group].tobytes(), (group, field)
    return COMPARED
