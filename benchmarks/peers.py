"""The same answers by the alternatives: each function runs in a process of its own."""

# ruff: noqa: PLC0415 - every case is a process of its own and pays for what it imports, and for nothing else

import gzip
import zlib
from pathlib import Path

import numpy as np

from benchmarks.harness import timed

__all__ = [
    "anndata_first_gene",
    "genes_scipy",
    "inflate_isal",
    "inflate_zlib",
    "matrix_pandas",
    "read_rdata",
    "read_rds2py",
]

_STEP = 1 << 22


def inflate_zlib(path: str) -> None:
    stream = zlib.decompressobj(wbits=31)
    with Path(path).open("rb") as file:
        while content := file.read(_STEP):
            while content:
                stream.decompress(content, 4 * _STEP)
                content = stream.unconsumed_tail


def inflate_isal(path: str) -> None:
    from isal import isal_zlib

    stream = isal_zlib.decompressobj(wbits=31)
    with Path(path).open("rb") as file:
        while content := file.read(_STEP):
            while content:
                stream.decompress(content, 4 * _STEP)
                content = stream.unconsumed_tail


def read_rds2py(path: str) -> None:
    from rds2py import parse_rds

    parse_rds(path)


def read_rdata(path: str) -> None:
    import rdata

    with gzip.open(path, "rb") as file:
        rdata.parser.parse_data(file.read())


def write_anndata(source: str, target: str) -> None:
    """Write with anndata's defaults, or with its gzip where the name says so."""
    import anndata

    found = anndata.read_h5ad(source)
    if target.endswith(".zarr"):
        found.write_zarr(target)
    else:
        found.write_h5ad(target, compression="gzip" if "gzip" in target else None)


def read_anndata(path: str) -> None:
    import anndata

    with timed():
        found = anndata.read_zarr(path) if path.endswith(".zarr") else anndata.read_h5ad(path)
    assert found.n_obs


def anndata_first_gene(path: str, gene: str) -> None:
    """One gene of a file on disk whose matrix is stored gene after gene."""
    with timed():
        import anndata

        found = anndata.read_h5ad(path, backed="r")
        np.asarray(found[:, int(gene)].X.todense())


def csc_of_store(store: Path, target: Path) -> None:
    """The matrix as an ordinary ``.h5ad`` of compressed columns, for the peers."""
    import anndata
    import h5py
    import scipy.sparse as sp

    with h5py.File(store) as file:
        group = file["X"]
        matrix = sp.csc_matrix(
            (group["data"][:], group["indices"][:], group["indptr"][:]), shape=tuple(group.attrs["shape"])
        )
    matrix.sort_indices()  # by value in the store
    anndata.AnnData(matrix).write_h5ad(target)


def genes_scipy(path: str, cell_ids: str, genes: str, repeats: str) -> None:
    """The answer of GeneExpression from a scipy matrix in memory: statistics, sparse columns, orjson, zstd."""
    import anndata
    import orjson
    import zstandard

    matrix = anndata.read_h5ad(path).X
    ids = np.load(cell_ids)
    chosen = [int(gene) for gene in genes.split(",")]

    def answer() -> bytes:
        columns = matrix[:, chosen]
        n = columns.shape[0]
        mean = np.asarray(columns.mean(axis=0)).ravel()
        deviation = np.sqrt((np.asarray(columns.multiply(columns).mean(axis=0)).ravel() - mean**2) * n / (n - 1))
        dense = columns.toarray()
        caps = np.quantile(dense, 0.95, axis=0)
        for j in np.flatnonzero(caps == 0):
            for level in np.arange(0.96, 1.001, 0.01):
                caps[j] = np.quantile(dense[:, j], min(level, 1.0))
                if caps[j]:
                    break
        content = orjson.dumps(
            {
                "orderedGeneNames": [str(j) for j in chosen],
                "stats": {
                    "rawMean": mean,
                    "rawStdev": deviation,
                    "truncatedMin": dense.min(axis=0),
                    "truncatedMax": caps,
                },
                "rawExpression": {
                    "values": columns.data,
                    "index": ids[columns.indices],
                    "ptr": columns.indptr,
                    "size": [int(ids.max()) + 1, len(chosen)],
                },
                "cellIds": [],
            },
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
        return zstandard.ZstdCompressor(level=3).compress(content)

    answer()
    with timed(int(repeats)) as details:
        for _ in range(int(repeats)):
            size = len(answer())
        details["compressed_bytes"] = size


def matrix_pandas(path: str, cells: str, target: str) -> None:
    """The normalised matrix of the first cells as a compressed CSV file."""
    import anndata
    import pandas as pd

    matrix = anndata.read_h5ad(path).X
    with timed() as details:
        table = pd.DataFrame(matrix[: int(cells)].T.toarray())
        table.to_csv(target, compression={"method": "gzip", "compresslevel": 6})
        details["file_bytes"] = Path(target).stat().st_size


def matrix_arrow(path: str, cells: str, target: str) -> None:
    """The same through Arrow's CSV writer."""
    import anndata
    import pyarrow as pa
    import pyarrow.csv

    matrix = anndata.read_h5ad(path).X
    with timed() as details:
        rows = matrix[: int(cells)].toarray()
        table = pa.table({str(i): row for i, row in enumerate(rows)})
        with gzip.open(target, "wb", compresslevel=6) as file:
            pyarrow.csv.write_csv(table, file)
        details["file_bytes"] = Path(target).stat().st_size
