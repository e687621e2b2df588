"""Files of other programs give the values that these programs' own readers give."""

import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy
from scipy import sparse
from scipy.io import mmread
from tests.formats import foreign_files as files
from tests.formats.anndata_files import write
from tests.formats.test_anndata_reading import adata

import cellworker
from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.check.checking import Report, check_experiment
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.foreign.shown import Reading
from cellworker.formats.foreign.tenx import read_tenx
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.opening.recognising import FileKind, kind_of
from cellworker.settings import Settings

# SciPy 1.18 warns of what `mmread` will return one day; the word that says so is not known to 1.14.
pytestmark = pytest.mark.filterwarnings("ignore:The default value for `spmatrix` is changing:DeprecationWarning")


@pytest.fixture
def stores(tmp_path: Path) -> Settings:
    return Settings(store_dir=tmp_path / "stores", threads=1)


def counts_of(opened: Any) -> np.ndarray:
    found = opened.experiment.counts
    shape = (found.n_cells, found.n_genes)
    return sparse.csr_matrix((found.values, found.genes, found.indptr), shape).toarray()


def sentences(report: Report) -> str:
    return "\n".join(problem.sentence for problem in report.problems)


def dense(adata: anndata.AnnData) -> np.ndarray:
    return adata.X.toarray() if sparse.issparse(adata.X) else np.asarray(adata.X)


@pytest.mark.parametrize("name", ["x.h5", "x.rds", "x.h5ad", "x"])
def test_a_matrix_of_10x_version_3_is_what_scanpy_reads_whatever_it_is_called(
    tmp_path: Path, stores: Settings, name: str
) -> None:
    path = files.tenx_h5(tmp_path / name)
    right = scanpy.read_10x_h5(path)
    opened = open_experiment(path, stores)
    assert np.array_equal(counts_of(opened), dense(right))
    assert opened.experiment.barcodes == list(right.obs_names)
    assert opened.experiment.genes.ids == list(right.var["gene_ids"])
    assert opened.experiment.genes.names == list(right.var_names)
    assert opened.experiment.origin.writer == "10x Genomics (HDF5, version 3)"


def test_features_that_are_no_genes_are_named_and_left_out_or_taken(tmp_path: Path, stores: Settings) -> None:
    types = ["Gene Expression"] * 40 + ["Antibody Capture"] * 5
    path = files.tenx_h5(tmp_path / "x.h5", types=types)
    right = scanpy.read_10x_h5(path)  # leaves them out too
    assert np.array_equal(counts_of(open_experiment(path, stores)), dense(right))
    assert "found 5 of Antibody Capture in x" in sentences(check_experiment(path, stores))
    taken = cellworker.read(path, part="Antibody Capture", settings=stores)
    assert np.array_equal(dense(taken), files.COUNTS[:, 40:])
    with pytest.raises(WorkerError, match=r"--part: found 'CRISPR'.*one of Antibody Capture, GRCh38, Gene Expression"):
        cellworker.read(path, part="CRISPR", settings=stores)


def test_a_matrix_of_10x_version_2_is_read_by_its_genome(tmp_path: Path, stores: Settings) -> None:
    path = files.tenx_h5_2(tmp_path / "one.h5")
    right = scanpy.read_10x_h5(path)
    opened = open_experiment(path, stores)
    assert np.array_equal(counts_of(opened), dense(right))
    assert opened.experiment.genes.ids == list(right.var["gene_ids"])
    two = files.tenx_h5_2(tmp_path / "two.h5", ("GRCh38", "mm10"))
    with pytest.raises(WorkerError, match=r"matrices of 2 genomes \(GRCh38, mm10\): name one, --part GRCh38") as told:
        open_experiment(two, stores)
    assert told.value.code is ErrorCode.INVALID_INPUT
    assert np.array_equal(dense(cellworker.read(two, part="mm10", settings=stores)), files.COUNTS)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_a_matrix_folder_is_what_scanpy_reads(tmp_path: Path, stores: Settings, version: int, packed: bool) -> None:
    folder = files.tenx_folder(tmp_path / "sample", version=version, packed=packed)
    if packed == (version == 3):  # scanpy wants version 3 packed and version 2 plain
        right = dense(scanpy.read_10x_mtx(folder))
    else:
        right = mmread(folder / f"matrix.mtx{'.gz' * packed}").toarray().T
    opened = open_experiment(folder, stores)
    assert np.array_equal(counts_of(opened), right)
    assert (opened.experiment.barcodes, opened.experiment.genes.ids) == (files.BARCODES, files.IDS)
    by_file = open_experiment(folder / f"matrix.mtx{'.gz' * packed}", stores)
    assert np.array_equal(counts_of(by_file), right)


def test_a_list_of_names_that_changes_makes_a_matrix_another_experiment(tmp_path: Path, stores: Settings) -> None:
    folder = files.tenx_folder(tmp_path / "sample", packed=False)
    assert open_experiment(folder / "matrix.mtx", stores).experiment.barcodes == files.BARCODES
    others = [name.replace("-1", "-2") for name in files.BARCODES]
    (folder / "barcodes.tsv").write_text("\n".join(others))
    assert open_experiment(folder / "matrix.mtx", stores).experiment.barcodes == others
    assert open_experiment(folder, stores).experiment.barcodes == others


def test_entries_in_any_order_and_real_numbers_are_read(tmp_path: Path, stores: Settings) -> None:
    folder = files.tenx_folder(tmp_path / "sample", packed=False)
    head, *rest = files.market(files.COUNTS.T).decode().split("\n", 3)
    lines = [f"{line}.50" for line in rest[-1].split("\n") if line]
    np.random.default_rng(1).shuffle(lines)
    text = "\n".join([head.replace("integer", "real"), "% a comment", rest[-2], *lines])
    (folder / "matrix.mtx").write_text(text)
    right = mmread(folder / "matrix.mtx").toarray().T
    assert np.array_equal(dense(cellworker.read(folder, settings=stores)), right.astype(np.float32))


@pytest.mark.parametrize("matrix", ["count_matrix.mtx", "DGE.mtx"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_parse_is_read_with_cells_as_rows(
    tmp_path: Path, stores: Settings, matrix: str, packed: bool
) -> None:
    folder = files.parse_folder(tmp_path / "DGE_filtered", matrix, packed=packed)
    right = scanpy.read_mtx(folder / f"{matrix}{'.gz' * packed}")
    opened = open_experiment(folder, stores)
    assert np.array_equal(counts_of(opened), dense(right))
    assert opened.experiment.barcodes[:2] == ["01_00_00", "01_01_01"]
    assert opened.experiment.genes.ids == files.IDS
    name, samples = opened.experiment.samples
    assert (name, samples.categories) == ("sample", ["s0", "s1"])


@pytest.mark.parametrize("packed", [False, True])
def test_what_bd_rhapsody_writes_is_read(tmp_path: Path, stores: Settings, packed: bool) -> None:
    dense_path = files.rhapsody_table(tmp_path / "a_RSEC_MolsPerCell.csv", packed=packed)
    right = pd.read_csv(dense_path, comment="#", index_col=0)
    opened = open_experiment(dense_path, stores)
    assert np.array_equal(counts_of(opened), right.to_numpy())
    assert opened.experiment.barcodes == list(map(str, right.index))
    entries = files.rhapsody_entries(tmp_path / "a_Expression_Data.st", packed=packed)
    frame = pd.read_csv(entries, comment="#", sep="\t")
    frame = frame.pivot_table(index="Cell_Index", columns="Gene", values="RSEC_Adjusted_Molecules", fill_value=0)
    read = cellworker.read(entries, settings=stores)
    assert np.array_equal(dense(read[:, frame.columns]), frame.to_numpy())
    assert open_experiment(entries, stores).experiment.origin.writer == "BD Rhapsody (expression data)"


def test_an_archive_of_rhapsodys_matrix_folder_is_read(tmp_path: Path, stores: Settings) -> None:
    folder = files.tenx_folder(tmp_path / "in", barcodes=[str(i) for i in range(files.N_CELLS)])
    path = tmp_path / "a_RSEC_MolsPerCell_MEX.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for item in folder.iterdir():
            archive.write(item, item.name)
    opened = open_experiment(path, stores)
    assert np.array_equal(counts_of(opened), files.COUNTS)
    assert opened.experiment.origin.writer == "BD Rhapsody (matrix folder)"


@pytest.mark.parametrize("genes_are_rows", [False, True])
@pytest.mark.parametrize(("separator", "name"), [(",", "a.csv"), ("\t", "a.tsv"), (" ", "a.txt"), (";", "a.csv")])
def test_a_table_is_read_in_either_orientation_and_says_which(
    tmp_path: Path, stores: Settings, genes_are_rows: bool, separator: str, name: str
) -> None:
    packed = separator == "\t"
    corner = "gene" if separator == " " and genes_are_rows else "cell" if separator == " " else ""
    path = files.table(tmp_path / name, separator, genes_are_rows=genes_are_rows, packed=packed, corner=corner)
    if separator == ",":
        right = scanpy.read_text(path, ",")
        assert np.array_equal(dense(right.T if genes_are_rows else right), files.COUNTS)
    opened = open_experiment(path, stores)
    assert np.array_equal(counts_of(opened), files.COUNTS)
    assert (opened.experiment.barcodes, opened.experiment.genes.names) == (files.BARCODES, files.SYMBOLS)
    said = "genes by cells" if genes_are_rows else "cells by genes"
    assert f"it is read as {said}: rows are named like" in sentences(check_experiment(path, stores))


def test_a_table_as_r_writes_it_is_read(tmp_path: Path, stores: Settings) -> None:
    frame = pd.DataFrame(files.COUNTS.T, files.SYMBOLS, files.BARCODES)
    text = frame.to_csv(sep="\t", quoting=2).replace('""\t', "", 1)  # write.table: no field above the rows' names
    (tmp_path / "a.txt").write_text(text)
    assert np.array_equal(counts_of(open_experiment(tmp_path / "a.txt", stores)), files.COUNTS)


def test_a_table_without_known_names_is_read_when_its_orientation_is_given(tmp_path: Path, stores: Settings) -> None:
    frame = pd.DataFrame(files.COUNTS, [f"x{i}" for i in range(60)], [f"y{i}" for i in range(45)])
    frame.to_csv(tmp_path / "a.csv")
    with pytest.raises(WorkerError, match="--orientation cells-by-genes or --orientation genes-by-cells") as told:
        open_experiment(tmp_path / "a.csv", stores)
    assert told.value.code is ErrorCode.INVALID_INPUT
    read = cellworker.read(tmp_path / "a.csv", orientation="cells-by-genes", settings=stores)
    assert np.array_equal(dense(read), files.COUNTS)
    turned = cellworker.read(tmp_path / "a.csv", orientation="genes-by-cells", settings=stores)
    assert np.array_equal(dense(turned), files.COUNTS.T)


@pytest.mark.parametrize("name", ["spec3.loom", "spec2.loom", "no_spec.loom"])
def test_a_loom_file_is_what_loompy_reads(root: Path, tmp_path: Path, stores: Settings, name: str) -> None:
    folder = root / "tests/fixtures/foreign"
    right = np.load(folder / "loom.npz")
    opened = open_experiment(folder / name, stores)
    assert kind_of(folder / name) is FileKind.LOOM
    assert np.array_equal(counts_of(opened), right["X"])
    assert opened.experiment.barcodes == right["cells"].tolist()
    assert opened.experiment.genes.ids == right["ids"].tolist()
    read = cellworker.read(folder / name, settings=stores)
    assert np.array_equal(read.layers["spliced"].toarray(), right["spliced"])
    assert read.obs["ClusterName"].tolist() == right["cluster"].tolist()
    assert np.array_equal(read.obs["Age"], right["age"])
    assert np.array_equal(read.obsm["Embedding"], right["embedding"])
    assert np.array_equal(read.var["Length"], right["length"])
    if name == "spec3.loom":
        assert np.array_equal(read.obsp["KNN"].toarray(), right["knn"].astype(np.float32))
        assert read.uns["title"] == "made for tests"


@pytest.mark.parametrize("disguise", ["two.h5mu", "two.rds"])
def test_a_modality_of_mudata_is_what_mudata_reads(root: Path, tmp_path: Path, stores: Settings, disguise: str) -> None:
    folder = root / "tests/fixtures/foreign"
    right = np.load(folder / "two.npz")
    path = tmp_path / disguise
    path.write_bytes((folder / "two.h5mu").read_bytes())
    opened = open_experiment(path, stores)
    assert np.array_equal(counts_of(opened), right["X"])
    assert opened.experiment.barcodes == right["cells"].tolist()
    assert np.array_equal(opened.experiment.reductions["pca"].values, right["pca"])
    assert "rna is opened; --part opens another" in sentences(check_experiment(path, stores))
    assert np.array_equal(dense(cellworker.read(path, part="prot", settings=stores)), right["prot"])
    with pytest.raises(WorkerError, match=r"no modality.*one of prot, rna"):
        cellworker.read(path, part="atac", settings=stores)


def old_anndata(path: Path) -> anndata.AnnData:
    """What anndata 0.6 wrote (its h5ad.py of that time): tables of records, labels in uns, h5sparse."""
    counts = sparse.csr_matrix(files.COUNTS[:, :30].astype(np.float32))
    with h5py.File(path, "w") as file:
        obs = np.zeros(60, [("index", "S18"), ("n", "f4"), ("leiden", "i1"), ("text", "S3")])
        obs["index"], obs["n"], obs["leiden"] = np.array(files.BARCODES, "S18"), np.arange(60) / 2, np.arange(60) % 3
        obs["text"] = b"abc"
        file["obs"] = obs
        for name, genes in (("var", 30), ("raw.var", 45)):
            var = np.zeros(genes, [("index", "S20"), ("length", "i8")])
            var["index"], var["length"] = np.array(files.SYMBOLS[:genes], "S20"), np.arange(genes)
            file[name] = var
        for name, matrix in (("X", counts), ("raw.X", sparse.csr_matrix(files.COUNTS.astype(np.float32)))):
            group = file.create_group(name)
            group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = "csr", np.array(matrix.shape)
            for part in ("data", "indices", "indptr"):
                group[part] = getattr(matrix, part)
        obsm = np.zeros(60, [("X_pca", "f4", (4,)), ("X_umap", "f4", (2,))])
        obsm["X_pca"] = np.arange(240).reshape(60, 4)
        file["obsm"] = obsm
        file["uns/leiden_categories"] = np.array([b"a", b"b", b"c"])
        file["uns/note"] = b"kept"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return anndata.read_h5ad(path)


def test_anndata_before_0_7_is_what_anndata_reads(tmp_path: Path, stores: Settings) -> None:
    right = old_anndata(tmp_path / "old.h5ad")
    opened = open_experiment(tmp_path / "old.h5ad", stores)
    assert np.array_equal(counts_of(opened), dense(right))
    assert opened.experiment.barcodes == list(right.obs_names)
    column = opened.experiment.metadata["leiden"]
    assert [column.categories[code] for code in column.codes] == right.obs["leiden"].tolist()
    assert np.array_equal(opened.experiment.metadata["n"], right.obs["n"])
    assert np.array_equal(opened.experiment.reductions["pca"].values, np.asarray(right.obsm["X_pca"]))
    path = tmp_path / "new.rds"
    path.write_bytes((tmp_path / "old.h5ad").read_bytes())
    read = cellworker.read(path, settings=stores)
    assert np.array_equal(read.raw.X.toarray(), right.raw.X.toarray())
    assert read.obs["text"].tolist() == right.obs["text"].tolist()
    assert read.uns["note"] in {"kept", b"kept"}


@pytest.mark.parametrize("inner", ["", "stores/mine"])
def test_a_zipped_store_is_what_anndata_reads_of_the_store(tmp_path: Path, stores: Settings, inner: str) -> None:
    store = write(adata(), tmp_path, "zarr-2", "inner")
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w") as archive:
        for item in store.rglob("*"):
            archive.write(item, Path(inner) / item.relative_to(store))
    opened, plain = (open_experiment(path, stores).experiment for path in (tmp_path / "a.zarr.zip", store))
    assert np.array_equal(opened.data_by_cell.values, plain.data_by_cell.values)
    assert opened.barcodes == plain.barcodes
    read = cellworker.read(tmp_path / "a.zarr.zip", settings=stores)
    assert np.array_equal(dense(read), dense(anndata.read_zarr(store)))


def sources(folder: Path, root: Path) -> dict[str, Callable[[], Path]]:
    return {
        "10x.h5": lambda: files.tenx_h5(folder / "10x.h5", types=["Gene Expression"] * 40 + ["Antibody Capture"] * 5),
        "mtx": lambda: files.tenx_folder(folder / "mtx"),
        "parse": lambda: files.parse_folder(folder / "parse"),
        "st": lambda: files.rhapsody_entries(folder / "e.st"),
        "csv": lambda: files.table(folder / "a.csv"),
        "loom": lambda: root / "tests/fixtures/foreign/spec3.loom",
        "h5mu": lambda: root / "tests/fixtures/foreign/two.h5mu",
    }


@pytest.mark.parametrize("name", ["10x.h5", "mtx", "parse", "st", "csv", "loom", "h5mu"])
@pytest.mark.parametrize("ending", [".h5ad", ".zarr", ".rds", ".h5"])
def test_every_format_is_converted_to_every_other_with_a_report_of_all_its_elements(
    tmp_path: Path, stores: Settings, root: Path, name: str, ending: str
) -> None:
    from cellworker.formats.convert.converting import convert

    source = sources(tmp_path, root)[name]()
    told = convert(source, tmp_path / f"out{ending}", stores)
    before, after = open_experiment(source, stores), open_experiment(tmp_path / f"out{ending}", stores)
    assert np.array_equal(counts_of(before), counts_of(after))
    assert after.experiment.genes.names == before.experiment.genes.names
    if ending != ".rds":  # an assay of Seurat has one name for each gene
        assert after.experiment.genes.ids == before.experiment.genes.ids
    assert after.experiment.barcodes == before.experiment.barcodes
    words = "\n".join([*told.kept, *told.renamed, *told.lost])
    expected = {
        "10x.h5": ["matrix/barcodes", "matrix/features/id", "_all_tag_keys", "5 of Antibody Capture"],
        "mtx": ["matrix.mtx.gz is X", "barcodes.tsv.gz", "features.tsv.gz"],
        "parse": ["cell_metadata.csv", "all_genes.csv"],
        "st": ["RSEC_Adjusted_Molecules is X", "RSEC_Reads", "a comment"],
        "csv": ["genes by cells"],
        "loom": ["layers/spliced", "row_attrs/Length", "col_graphs/KNN/w", "attrs/title"],
        "h5mu": ["mod/prot", "obsm/X_joint", "mod/rna"],
    }
    assert [part for part in expected[name] if part not in words] == []
    if ending == ".h5":
        read = scanpy.read_10x_h5(tmp_path / "out.h5")
        assert np.array_equal(dense(read), counts_of(before))
        assert list(read.var["gene_ids"]) == before.experiment.genes.ids


def test_an_anndata_in_memory_is_written_for_10x(tmp_path: Path, stores: Settings) -> None:
    made = anndata.AnnData(sparse.csr_matrix(files.COUNTS.astype(np.float32)), pd.DataFrame(index=files.BARCODES),
                           pd.DataFrame({"gene_ids": files.IDS}, files.SYMBOLS))  # fmt: skip
    cellworker.write(made, tmp_path / "a.h5", settings=stores)
    assert np.array_equal(dense(cellworker.read(tmp_path / "a.h5", settings=stores)), files.COUNTS)
    logs = made.copy()
    scanpy.pp.normalize_total(logs, target_sum=1e4)
    scanpy.pp.log1p(logs)
    with pytest.raises(WorkerError, match="holds raw counts, and the experiment has none") as told:
        cellworker.write(logs, tmp_path / "b.h5", settings=stores)
    assert told.value.code is ErrorCode.INVALID_INPUT
    assert not (tmp_path / "b.h5").exists()


def test_a_file_of_anndata_0_6_is_what_anndata_reads(root: Path, stores: Settings) -> None:
    path = root / "tests/fixtures/foreign/old.h5ad"
    assert kind_of(path) is FileKind.OLD_ANNDATA
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        right = anndata.read_h5ad(path)
    opened = open_experiment(path, stores)
    assert np.array_equal(counts_of(opened), dense(right))
    assert opened.experiment.barcodes == list(right.obs_names)
    assert opened.experiment.genes.ids == list(right.var["gene_ids"])
    column = opened.experiment.metadata["leiden"]
    assert [column.categories[code] for code in column.codes] == right.obs["leiden"].tolist()
    assert np.array_equal(opened.experiment.reductions["umap"].values, right.obsm["X_umap"])
    assert opened.experiment.extra["colors"]["leiden"] == right.uns["leiden_colors"].tolist()


def test_other_content_of_a_10x_file_is_listed_as_lost(tmp_path):
    path = files.tenx_h5(tmp_path / "x.h5")
    with h5py.File(path, "r+") as file:
        file["matrix"].attrs["library_ids"] = "L1"
        file.attrs["a/b"] = "a name that is a path"
    told = read_tenx("x", path, Reading(Scratch(), Findings(), 1 << 30)).told
    assert any("attribute library_ids" in line for line in told.lost)
    assert any(line.startswith("the root, attribute a/b") for line in told.lost)
