"""Files that are not read are told by what is in them, whatever their names, and the advice works."""

import bz2
import contextlib
import gzip
import json
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from tests.formats.anndata_files import write
from tests.formats.test_anndata_reading import adata
from tests.formats.test_converting import has_seurat

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.check.checking import check_experiment
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.opening.recognising import READ, FileKind, kind_of, not_read, unknown
from cellworker.settings import Settings


@pytest.fixture
def stores(tmp_path: Path) -> Settings:
    return Settings(store_dir=tmp_path / "stores", threads=1)


def old_anndata(path: Path) -> None:
    """What anndata 0.6 wrote: obs and var as compound tables, sparse matrices with an attribute of their own."""
    data = adata()
    with h5py.File(path, "w") as file:
        for name, frame in (("obs", data.obs), ("var", data.var)):
            table = np.zeros(len(frame), [("index", "S20"), ("n", "f8")])
            table["index"] = [label.encode() for label in frame.index]
            file[name] = table
        file["X"] = np.asarray(data.X.todense() if sparse.issparse(data.X) else data.X, np.float32)


def loom(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["matrix"] = np.ones((3, 4))
        for name, field, size in (("row_attrs", "Gene", 3), ("col_attrs", "CellID", 4)):
            file[f"{name}/{field}"] = np.array([f"{field}{i}".encode() for i in range(size)])
        for name in ("layers", "row_graphs", "col_graphs"):
            file.create_group(name)


def mudata(path: Path) -> None:
    import anndata

    with h5py.File(path, "w", userblock_size=512) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.attrs["encoding-type"] = "MuData"
        for name in ("prot", "rna"):
            anndata.io.write_elem(file.require_group("mod"), name, adata())
        anndata.io.write_elem(file, "obs", adata().obs)
        anndata.io.write_elem(file, "var", adata().var)
    with path.open("r+b") as block:  # what the package mudata writes there
        block.write(b"MuData (format-version=0.1.0;creator=muon;creator-version=0.1)")


def tenx(path: Path) -> None:
    counts = sparse.random(4, 3, 0.5, "csc", random_state=1)
    with h5py.File(path, "w") as file:
        for name in ("data", "indices", "indptr"):
            file[f"matrix/{name}"] = getattr(counts, name)
        file["matrix/shape"], file["matrix/barcodes"] = (4, 3), [b"a", b"b", b"c"]
        for name in ("id", "name", "feature_type", "genome"):
            file[f"matrix/features/{name}"] = [b"x"] * 4


def tenx_2(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name in ("data", "indices", "indptr", "shape", "barcodes", "genes", "gene_names"):
            file[f"GRCh38/{name}"] = [1]


def zarr(path: Path) -> Path:
    return write(adata(), path.parent, "zarr-2", "inner")


def zipped(path: Path) -> None:
    store = zarr(path)
    with zipfile.ZipFile(path, "w") as archive:
        for item in store.rglob("*"):
            archive.write(item, item.relative_to(store))


def zipped_inside(path: Path) -> None:
    store = zarr(path)
    with zipfile.ZipFile(path, "w") as archive:
        for item in store.rglob("*"):
            archive.write(item, Path("stores") / "mine" / item.relative_to(store))


def zip_of_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")


def tarred(path: Path) -> None:
    (path.parent / "member").write_text("a")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(path.parent / "member", "member")


def packed(path: Path) -> None:
    path.write_bytes(gzip.compress(write(adata(), path.parent, "h5ad", "inner").read_bytes()))


def bytes_of(content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(content)

    return make


def hdf5_of(*names: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name in names:
                file[name] = [1]

    return make


def spreadsheet(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")


MADE: dict[str, tuple[Callable[[Path], None], FileKind, str]] = {
    "keras.h5": (lambda path: h5py.File(path, "w").close(), FileKind.HDF5, "it is empty; an experiment in HDF5 is"),
    "weights.loom": (hdf5_of("matrix"), FileKind.HDF5, "it holds matrix; an experiment in HDF5 is"),
    "a.snap": (hdf5_of("HD", "BD", "FM", "AM"), FileKind.SNAP, "gene activities"),
    "set.h5ads": (hdf5_of("_dataset"), FileKind.ANNDATASET, "snapatac2.read_dataset('set.h5ads')"),
    # As SnapATAC2 2.9 writes it: tables of its own, and the names of the files in uns.
    "new.h5ads": (
        hdf5_of("obs/index", "var/_index", "uns/AnnDataSet/file_path"),
        FileKind.ANNDATASET,
        "snapatac2.read_dataset",
    ),
    "molecule_info.h5": (hdf5_of("barcode_idx", "umi", "count"), FileKind.MOLECULES, "filtered_feature_bc_matrix.h5"),
    "a.parquet": (
        bytes_of(b"PAR1" + bytes(20)),
        FileKind.PARQUET,
        "pandas.read_parquet('a.parquet'); t.to_csv('a.csv'",
    ),
    "a.feather": (bytes_of(b"ARROW1\0\0"), FileKind.ARROW, "pandas.read_feather('a.feather')"),
    "a.pkl": (bytes_of(b"\x80\x04\x95abc"), FileKind.PICKLE, "no code is loaded"),
    "a.xlsx": (spreadsheet, FileKind.SPREADSHEET, "pandas.read_excel('a.xlsx')"),
    "a.png": (bytes_of(b"\x89PNG\r\n\x1a\n"), FileKind.PICTURE, "that it belongs to"),
    "a.pdf": (bytes_of(b"%PDF-1.4"), FileKind.PDF, "that it belongs to"),
    "a.cram": (bytes_of(b"CRAM\3\0"), FileKind.READS, "count them first"),
    "a.bam": (bytes_of(gzip.compress(b"BAM\1" + bytes(9))), FileKind.READS, "count them first"),
    "a.tar.gz": (tarred, FileKind.TAR, "unpack it"),
    "a.h5ad.gz": (packed, FileKind.PACKED_HDF5, "unpack it (gunzip, bunzip2, unxz or unzstd) and open a.h5ad."),
    "a.rda": (
        bytes_of(gzip.compress(b"RDA3\nA\n")),
        FileKind.TEXT_WORKSPACE,
        "saveRDS(get(load('a.rda')[1]), 'a.rds')",
    ),
    "b.RData": (bytes_of(bz2.compress(b"RDA2\nA\n")), FileKind.TEXT_WORKSPACE, "load('b.RData')"),
    "c.RData": (bytes_of(lzma.compress(b"RDA2\nA\n")), FileKind.TEXT_WORKSPACE, "load('c.RData')"),
    "it's.rda": (bytes_of(b"RDA3\nA\n"), FileKind.TEXT_WORKSPACE, r"load('it\'s.rda')"),
    "a.qd": (bytes_of(b"\x0b\x0e\x0a\xcd" + bytes(60)), FileKind.QDATA, "qs2::qd_read('a.qd')"),
    "lfs.rds": (bytes_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), FileKind.LFS, "git lfs pull"),
    "page.h5ad": (bytes_of(b"<!DOCTYPE html><html>Sign in</html>"), FileKind.WEB_PAGE, "download the file again"),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("disguise", ["", "r.rds", "x.h5ad", "x.bin"])
def test_a_file_that_is_not_read_is_named_for_what_it_is(
    tmp_path: Path, stores: Settings, name: str, disguise: str
) -> None:
    make, kind, advice = MADE[name]
    path = tmp_path / name
    make(path)
    assert kind_of(path) is kind
    if disguise:
        path = path.rename(tmp_path / disguise)
        assert kind_of(path) is kind
        return
    with pytest.raises(WorkerError) as told:
        open_experiment(path, stores)
    assert told.value.code is ErrorCode.EXPERIMENT_UNSUPPORTED
    assert told.value.message.startswith(f"{name}: {kind}, which is not read; ")
    assert advice in told.value.message
    report = check_experiment(path, stores)
    assert (report.status, report.problems[0].found) == (2, told.value.message)


@pytest.mark.parametrize("kind", [kind for kind in FileKind if kind not in READ])
def test_every_kind_has_advice_that_makes_a_file_of_another_name(kind: FileKind, tmp_path: Path) -> None:
    for name in ("a.h5ad", "a.rds", "a"):
        path = tmp_path / name
        (path if kind is FileKind.SPATIALDATA else tmp_path).mkdir(exist_ok=True)
        if kind is FileKind.MUDATA and not path.exists():
            mudata(path)
        message = not_read(kind, path).message
        for made in re.findall(r"write_h5ad\('([^']*)'\)|, '([^']*\.rds)'\)", message):
            assert "".join(made) not in {"", name}
        for code in re.findall(r"in Python: (.*?)\.?$", message):
            compile(code.partition(", in the folder")[0], "advice", "exec")


def test_advice_for_a_spatialdata_store_names_each_of_its_tables(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    (store / "tables").mkdir(parents=True)
    assert "it holds no table" in not_read(FileKind.SPATIALDATA, store).message
    (store / "tables" / "nuclei").mkdir()
    assert "open its table: s.zarr/tables/nuclei." in not_read(FileKind.SPATIALDATA, store).message
    (store / "tables" / "cells").mkdir()
    listed = "open one of its tables: s.zarr/tables/cells, s.zarr/tables/nuclei."
    assert listed in not_read(FileKind.SPATIALDATA, store).message


def test_an_anndata_file_is_read_whatever_it_is_called(tmp_path: Path, stores: Settings) -> None:
    made = write(adata(), tmp_path, "h5ad")
    for name in ("a.h5", "a.hdf5", "a.rds", "a"):
        folder = tmp_path / f"of-{name}"
        folder.mkdir()
        path = Path(shutil.copy(made, folder / name))
        assert kind_of(path) is FileKind.ANNDATA
        assert open_experiment(path, stores).experiment.n_cells == adata().n_obs
    assert open_experiment(tmp_path / "of-a.h5", stores).source.name == "a.h5"


def test_a_mudata_store_is_read_by_its_modality(tmp_path: Path, stores: Settings) -> None:
    store = tmp_path / "m.zarr"
    (store / "mod").mkdir(parents=True)
    for place in (store, store / "mod"):
        (place / ".zgroup").write_text('{"zarr_format": 2}')
    write(adata(), store / "mod", "zarr-2", "made").rename(store / "mod" / "rna")
    assert kind_of(store) is FileKind.MUDATA
    assert open_experiment(store, stores).experiment.n_cells == adata().n_obs


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (old_anndata, FileKind.OLD_ANNDATA), (loom, FileKind.LOOM), (mudata, FileKind.MUDATA), (tenx, FileKind.TENX),
        (tenx_2, FileKind.TENX), (zipped, FileKind.ZIPPED_ZARR), (zipped_inside, FileKind.ZIPPED_ZARR),
        (zip_of_text, FileKind.ZIP),
        (bytes_of(gzip.compress(b"%%MatrixMarket matrix coordinate integer general\n1 1 0\n")), FileKind.MATRIX_MARKET),
        (bytes_of(b",c1,c2\ng1,0,1\ng2,3,4\n"), FileKind.TEXT),
        (bytes_of(b"## a comment\nCell_Index\tGene\tRSEC_Adjusted_Molecules\n1\tA\t2\n"), FileKind.ENTRIES),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["r.rds", "x.h5ad", "x.bin"])
def test_a_file_that_is_read_is_reported_by_its_content(
    tmp_path: Path, make: Callable[[Path], None], kind: FileKind, name: str
) -> None:
    make(tmp_path / name)
    assert kind_of(tmp_path / name) is kind
    assert kind in READ


@pytest.mark.parametrize(
    "text", ["a,b\nc,d\n", "one line", "# only\n# comments\n", "1,2\n3,4\n5", "name,x\n", "{}\n[]\n"]
)
def test_text_without_a_matrix_is_distinguished_from_a_matrix(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_text(text)
    assert kind_of(tmp_path / "a") is FileKind.UNKNOWN


@pytest.mark.parametrize(
    ("name", "promise"),
    [
        ("a.loom", "a loom file is an HDF5 file"), ("a.h5ad", "an AnnData file is an HDF5 file"),
        ("a.h5mu", "a MuData file"), ("a.h5", "a matrix of 10x Genomics"), ("a.h5seurat", "an h5Seurat file"),
        ("a.mtx", "%%MatrixMarket"), ("a.csv", "a table of numbers"), ("a.qs2", "package qs2"), ("a.qs", "package qs "),
        ("a.rda", "RDX"), ("a.zarr", "is a folder"), ("a.zip", "PK"),
    ],
)  # fmt: skip
def test_junk_is_told_by_what_its_name_promises(tmp_path: Path, name: str, promise: str) -> None:
    path = tmp_path / name
    for content, words in ((b"junk of no kind\x00", promise), (b"", "the file is empty")):
        path.write_bytes(content)
        assert kind_of(path) is FileKind.UNKNOWN
        told = unknown(path)
        assert told is not None
        assert words in told.message
        assert "saveRDS" not in told.message


def test_junk_that_is_opened_is_refused_in_these_words(tmp_path: Path, stores: Settings) -> None:
    (tmp_path / "a.loom").write_bytes(b"junk of no kind\x00")
    with pytest.raises(WorkerError, match="a loom file is an HDF5 file, and this does not begin as one") as told:
        open_experiment(tmp_path / "a.loom", stores)
    assert told.value.code is ErrorCode.EXPERIMENT_UNREADABLE
    (tmp_path / "a.rds").write_bytes(b"junk of no kind\x00")
    assert unknown(tmp_path / "a.rds") is None, "its reader tells what is wrong"


def test_who_follows_the_advice_for_a_table_of_parquet_has_one_that_is_read(tmp_path, stores, monkeypatch) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    genes = pandas.DataFrame({"gene": ["ENSG1", "ENSG2", "ENSG3"], "AAAC-1": [1, 0, 2], "AAAG-1": [0, 3, 1]})
    monkeypatch.chdir(tmp_path)
    for name, table in (("a", genes), ("b", genes.set_index("gene")), ("c", genes.set_index("gene").rename_axis(None))):
        table.to_parquet(tmp_path / f"{name}.parquet")
        with pytest.raises(WorkerError) as told:
            open_experiment(tmp_path / f"{name}.parquet", stores)
        exec(told.value.message.partition("in Python: ")[2].rstrip("."), {"pandas": pandas})
        assert kind_of(tmp_path / f"{name}.csv") is FileKind.TEXT
        assert (tmp_path / f"{name}.csv").read_text().splitlines()[1] == "ENSG1,1,0"


OBJECTS = {
    "matrix": "matrix(rpois(60, 3), 10, dimnames = list(paste0('g', 1:10), paste0('c', 1:6)))",
    "sparse": "as(matrix(rpois(60, 3) + 0., 10, dimnames = list(paste0('g', 1:10), paste0('c', 1:6))), 'dgCMatrix')",
    "table": "as.data.frame(matrix(rpois(60, 3), 10, dimnames = list(paste0('g', 1:10), paste0('c', 1:6))))",
    # Of packages that are not here: the class and its slots.
    "CellDataSet": """{ setClass('AD', representation(data = 'data.frame'));
      setClass('CellDataSet', representation(assayData = 'environment', phenoData = 'AD'));
      e <- new.env(); e$exprs <- matrix(rpois(60, 3), 10, dimnames = list(paste0('g', 1:10), paste0('c', 1:6)));
      table <- new('AD', data = data.frame(k = 1:6, row.names = paste0('c', 1:6)));
      new('CellDataSet', assayData = e, phenoData = table) }""",
    "snap": """{ setClass('snap', representation(gmat = 'dgCMatrix', barcode = 'character'));
      new('snap', barcode = paste0('c', 1:6),
          gmat = as(matrix(rpois(60, 3) + 0., 6, dimnames = list(NULL, paste0('g', 1:10))), 'dgCMatrix')) }""",
}


@pytest.mark.skipif(not has_seurat(), reason="there is no R with Seurat here")
def test_who_follows_the_advice_for_another_object_of_r_has_one_that_is_read(tmp_path, stores) -> None:
    def run(*lines: str) -> None:
        code = "suppressMessages(library(Matrix)); set.seed(1); " + "; ".join(lines)
        subprocess.run(["Rscript", "--vanilla", "-e", code], cwd=tmp_path, check=True, capture_output=True, timeout=300)

    run(*(f"saveRDS({made}, '{name}.rds')" for name, made in OBJECTS.items()))
    steps = []
    for name in OBJECTS:
        problem = next(p for p in check_experiment(tmp_path / f"{name}.rds", stores).problems if p.severity == "error")
        code = problem.advice.partition("in R, with the object as x: ")[2].partition(", with genes")[0]
        assert code, problem
        steps.append(f"x <- readRDS('{name}.rds'); {code.replace('r.rds', f'{name}-made.rds')}")
    run(*steps)
    for name in OBJECTS:
        assert open_experiment(tmp_path / f"{name}-made.rds", stores).experiment.n_cells == 6, name


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="there is no R here")
def test_who_follows_the_advice_for_a_workspace_has_an_object_that_is_read(
    tmp_path: Path, stores: Settings, root: Path
) -> None:
    object_ = root / "tests/fixtures/pbmcsmall/v5/r.rds"
    run = lambda code: subprocess.run(  # noqa: E731
        ["Rscript", "--vanilla", "-e", code], cwd=tmp_path, check=True, capture_output=True
    )
    run(f"mine <- readRDS('{object_}'); save(mine, file = 'mine.rda', ascii = TRUE)")
    with pytest.raises(WorkerError, match="an R workspace") as told:
        open_experiment(tmp_path / "mine.rda", stores)
    run(told.value.message.partition("in R: ")[2].rstrip("."))
    assert open_experiment(tmp_path / "mine.rds", stores).experiment.n_cells > 0


MAGIC = [b"", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\x00", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"\x89HDF\r\n\x1a\n"]


@given(content=st.binary(max_size=600), prefix=st.sampled_from(MAGIC))
def test_the_kind_of_any_bytes_is_reported_without_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, prefix: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any-{os.getpid()}"
    path.write_bytes(prefix + content)
    try:
        kind = kind_of(path)
        assert kind in FileKind
        with contextlib.suppress(KeyError):
            assert json.dumps(not_read(kind, path).message)
    finally:
        path.unlink()
