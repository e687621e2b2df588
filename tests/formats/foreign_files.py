"""Files of other formats, small, as their own programs write them; for the tests of our readers."""

import gzip
import io
from pathlib import Path

import h5py
import numpy as np
from scipy import sparse
from scipy.io import mmwrite

RNG = np.random.default_rng(5)
N_CELLS, N_GENES = 60, 45
COUNTS = RNG.poisson(0.7, (N_CELLS, N_GENES)).astype(np.int32)
COUNTS[:, 0] = 1  # no cell without a count
IDS = [f"ENSG{i:011d}" for i in range(N_GENES)]
SYMBOLS = [f"RPL{i}" for i in range(N_GENES)]
BARCODES = ["".join(RNG.choice(list("ACGT"), 16)) + "-1" for _ in range(N_CELLS)]


def put(path: Path, content: bytes, *, packed: bool) -> Path:
    """Write a file, with `packed` as gzip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.with_name(path.name + ".gz") if packed else path
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    return path


def market(matrix: np.ndarray) -> bytes:
    """Matrix Market's text of a matrix, as scipy writes it."""
    out = io.BytesIO()
    mmwrite(out, sparse.coo_matrix(matrix))
    return out.getvalue()


def tenx_folder(
    folder: Path, prefix: str = "", *, version: int = 3, packed: bool = True, counts: np.ndarray = COUNTS,
    barcodes: list[str] | None = None, ids: list[str] | None = None, symbols: list[str] | None = None,
    types: list[str] | None = None,
) -> Path:  # fmt: skip
    """A matrix folder of Cell Ranger."""
    barcodes, ids, symbols = barcodes or BARCODES[: len(counts)], ids or IDS, symbols or SYMBOLS
    types = types or ["Gene Expression"] * len(ids)
    put(folder / f"{prefix}matrix.mtx", market(counts.T), packed=packed)
    put(folder / f"{prefix}barcodes.tsv", "".join(f"{name}\n" for name in barcodes).encode(), packed=packed)
    rows = zip(ids, symbols, types, strict=True)
    text = "".join(("\t".join(row) if version == 3 else "\t".join(row[:2])) + "\n" for row in rows)
    put(folder / f"{prefix}{'features' if version == 3 else 'genes'}.tsv", text.encode(), packed=packed)
    return folder


def tenx_h5(
    path: Path, *, counts: np.ndarray = COUNTS, types: list[str] | None = None, genome: str = "GRCh38",
    ids: list[str] | None = None, symbols: list[str] | None = None,
) -> Path:  # fmt: skip
    """A matrix in HDF5 of Cell Ranger 3."""
    columns = sparse.csc_matrix(counts.T)
    ids, symbols = ids or IDS, symbols or SYMBOLS
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for name in ("data", "indices", "indptr"):
            values = getattr(columns, name).astype("i4" if name == "data" else "i8")
            group.create_dataset(name, data=values, compression="gzip", shuffle=True)
        group["shape"] = np.array(columns.shape, np.int32)
        group["barcodes"] = np.array(BARCODES[: len(counts)], "S18")
        features = group.create_group("features")
        for name, texts in (
            ("id", ids), ("name", symbols), ("feature_type", types or ["Gene Expression"] * len(ids)),
            ("genome", [genome] * len(ids)), ("_all_tag_keys", ["genome"]),
        ):  # fmt: skip
            features[name] = np.array(texts, "S")
    return path


def tenx_h5_2(path: Path, genomes: tuple[str, ...] = ("GRCh38",)) -> Path:
    """A matrix in HDF5 of Cell Ranger 2, with a group for each genome."""
    columns = sparse.csc_matrix(COUNTS.T)
    with h5py.File(path, "w") as file:
        for genome in genomes:
            group = file.create_group(genome)
            for name in ("data", "indices", "indptr"):
                group[name] = getattr(columns, name).astype("i4" if name == "data" else "i8")
            group["shape"] = np.array(columns.shape, np.int32)
            group["barcodes"] = np.array(BARCODES, "S18")
            group["genes"], group["gene_names"] = np.array(IDS, "S"), np.array(SYMBOLS, "S")
    return path


def parse_folder(folder: Path, matrix: str = "count_matrix.mtx", *, packed: bool = False) -> Path:
    """What Parse's pipeline writes: cells are rows."""
    put(folder / matrix, market(COUNTS), packed=packed)
    genes = ["gene_id,gene_name,genome", *(f"{i},{s},hg38" for i, s in zip(IDS, SYMBOLS, strict=True))]
    put(folder / "all_genes.csv", "\n".join(genes).encode(), packed=packed)
    cells = ["bc_wells,sample,species,gene_count", *(f"01_{i:02d}_{i:02d},s{i % 2},hg38,{i}" for i in range(N_CELLS))]
    put(folder / "cell_metadata.csv", "\n".join(cells).encode(), packed=packed)
    return folder


RHAPSODY_COMMENTS = "## BD Rhapsody(TM) Sequence Analysis Pipeline\n## Analysis Date: 2024-01-01\n"


def rhapsody_table(path: Path, *, packed: bool = False) -> Path:
    """``_RSEC_MolsPerCell.csv``."""
    rows = [",".join(["Cell_Index", *SYMBOLS])]
    rows += [",".join(map(str, [1000 + cell, *COUNTS[cell]])) for cell in range(N_CELLS)]
    return put(path, (RHAPSODY_COMMENTS + "\n".join(rows) + "\n").encode(), packed=packed)


def rhapsody_entries(path: Path, *, packed: bool = False) -> Path:
    """``_Expression_Data.st``: some entries were corrected away and are 0."""
    rows = ["Cell_Index\tGene\tRSEC_Reads\tRaw_Molecules\tRSEC_Adjusted_Molecules"]
    for cell in range(N_CELLS):
        for gene in range(N_GENES):
            n = COUNTS[cell, gene]
            if n or (cell + gene) % 7 == 0:
                rows.append(f"{1000 + cell}\t{SYMBOLS[gene]}\t{5 * n + 3}\t{n + 1}\t{n}")
    return put(path, ("####\n" + RHAPSODY_COMMENTS + "\n".join(rows) + "\n").encode(), packed=packed)


def table(
    path: Path, separator: str = ",", *, genes_are_rows: bool = True, packed: bool = False, corner: str = ""
) -> Path:
    """A dense table."""
    values, rows, columns = COUNTS, BARCODES, SYMBOLS
    if genes_are_rows:
        values, rows, columns = values.T, columns, rows
    lines = [separator.join([corner, *columns])]
    lines += [separator.join([row, *map(str, line)]) for row, line in zip(rows, values.tolist(), strict=True)]
    return put(path, ("\n".join(lines) + "\n").encode(), packed=packed)
