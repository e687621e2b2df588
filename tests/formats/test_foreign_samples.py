"""A folder of folders or files is one experiment with a sample each; what speaks against it is told all at once."""

import shutil
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from tests.formats import foreign_files as files
from tests.formats.test_foreign_reading import counts_of, dense, sentences

import cellworker
from cellworker.errors import ErrorCode
from cellworker.formats.check.checking import check_experiment
from cellworker.formats.opening.open import open_experiment
from cellworker.settings import Settings

MOUSE_IDS = [f"ENSMUSG{i:011d}" for i in range(files.N_GENES)]
MOUSE = [f"Rpl{i}" for i in range(files.N_GENES)]


@pytest.fixture
def stores(tmp_path: Path) -> Settings:
    return Settings(store_dir=tmp_path / "stores", threads=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "experiment"
    made.mkdir()
    return made


def samples_of(path: Path, stores: Settings) -> dict[str, int]:
    _, column = open_experiment(path, stores).experiment.samples
    return {name: int(np.sum(column.codes == code)) for code, name in enumerate(column.categories)}


def test_a_folder_of_matrix_folders_is_an_experiment_with_a_sample_each(folder: Path, stores: Settings) -> None:
    files.tenx_folder(folder / "control")
    files.tenx_folder(folder / "treated" / "outs" / "filtered_feature_bc_matrix", counts=files.COUNTS[:20])
    opened = open_experiment(folder, stores)
    assert samples_of(folder, stores) == {"control": 60, "treated": 20}
    assert np.array_equal(counts_of(opened), np.concatenate([files.COUNTS, files.COUNTS[:20]]))
    # The same barcodes are in both: numbered as Seurat's merge does it.
    assert opened.experiment.barcodes[0] == f"{files.BARCODES[0]}_1"
    assert opened.experiment.barcodes[60] == f"{files.BARCODES[0]}_2"
    assert "every barcode has the number of its sample behind it: _1 (control), _2 (treated)" in sentences(
        check_experiment(folder, stores)
    )


def test_barcodes_that_no_two_samples_share_stay_as_they_are(folder: Path, stores: Settings) -> None:
    others = [name.replace("-1", "-2") for name in files.BARCODES]
    files.tenx_folder(folder / "a")
    files.tenx_folder(folder / "b", barcodes=others)
    assert open_experiment(folder, stores).experiment.barcodes == [*files.BARCODES, *others]


def test_files_of_geo_with_prefixes_are_a_sample_each(folder: Path, stores: Settings) -> None:
    for prefix in ("GSM101_", "GSM102_tumour_", "GSM103."):
        files.tenx_folder(folder, prefix)
    assert samples_of(folder, stores) == {"GSM101": 60, "GSM102_tumour": 60, "GSM103": 60}


def test_files_of_10x_in_hdf5_and_tables_and_anndata_are_a_sample_each(folder: Path, stores: Settings) -> None:
    files.tenx_h5(folder / "a_filtered_feature_bc_matrix.h5")
    made = anndata.AnnData(
        sparse.csr_matrix(files.COUNTS.astype(np.float32)), pd.DataFrame({"age": range(60)}, files.BARCODES),
        pd.DataFrame({"gene_ids": files.IDS}, files.SYMBOLS),
    )  # fmt: skip
    made.write_h5ad(folder / "b.h5ad")
    made.write_h5ad(folder / "c.h5ad")
    assert samples_of(folder, stores) == {"a": 60, "b": 60, "c": 60}
    read = cellworker.read(folder, settings=stores)
    assert np.array_equal(dense(read), np.concatenate([files.COUNTS] * 3))
    assert np.array_equal(read.obs["age"][60:], [*range(60)] * 2)


def test_tables_are_a_sample_each(folder: Path, stores: Settings) -> None:
    files.table(folder / "a.csv")
    files.table(folder / "b.tsv", "\t", genes_are_rows=False, packed=True)
    assert samples_of(folder, stores) == {"a": 60, "b": 60}


def test_genes_are_the_union_by_id(folder: Path, stores: Settings) -> None:
    files.tenx_folder(folder / "a", counts=files.COUNTS[:, :30], ids=files.IDS[:30], symbols=files.SYMBOLS[:30])
    order = np.arange(44, 9, -1)
    files.tenx_folder(
        folder / "b", counts=files.COUNTS[:, order], ids=[files.IDS[i] for i in order],
        symbols=[files.SYMBOLS[i] for i in order],
    )  # fmt: skip
    read = cellworker.read(folder, settings=stores)
    right = anndata.concat(
        [
            anndata.AnnData(files.COUNTS[:, :30], var=pd.DataFrame(index=files.IDS[:30])),
            anndata.AnnData(files.COUNTS[:, order], var=pd.DataFrame(index=[files.IDS[i] for i in order])),
        ],
        join="outer", fill_value=0, index_unique="-",
    )  # fmt: skip
    read.var_names = read.var["gene_ids"].astype(str)
    assert np.array_equal(dense(read[:, right.var_names]), right.X)
    assert "45 genes, 20 in every sample" in sentences(check_experiment(folder, stores))


def test_of_filtered_and_unfiltered_matrices_of_a_sample_the_filtered_is_read(folder: Path, stores: Settings) -> None:
    for name in ("s1", "s2"):
        files.tenx_folder(folder / name / "outs" / "raw_feature_bc_matrix")
        files.tenx_folder(folder / name / "outs" / "filtered_feature_bc_matrix", counts=files.COUNTS[:25])
        files.tenx_h5(folder / name / "outs" / "raw_feature_bc_matrix.h5")
        (folder / name / "outs" / "metrics_summary.csv").write_text('Cells,Reads\n"25","1000"\n')
    assert samples_of(folder, stores) == {"s1": 25, "s2": 25}
    assert "another matrix of the same sample" in sentences(check_experiment(folder, stores))


def test_tables_beside_a_matrix_are_results_of_it(folder: Path, stores: Settings) -> None:
    files.tenx_h5(folder / "filtered_feature_bc_matrix.h5")
    (folder / "analysis" / "pca").mkdir(parents=True)
    files.table(folder / "analysis" / "pca" / "projection.csv", genes_are_rows=False)
    assert open_experiment(folder, stores).experiment.n_cells == 60


def test_parse_samples_are_put_together(folder: Path, stores: Settings) -> None:
    for name in ("a", "b"):
        files.parse_folder(folder / name / "DGE_unfiltered")
    opened = open_experiment(folder, stores)
    assert opened.experiment.n_cells == 120
    assert "samples" in opened.experiment.metadata
    assert samples_of(folder, stores) in ({"a": 60, "b": 60}, {"s0": 60, "s1": 60})


def test_a_folder_that_gets_another_sample_is_another_experiment(folder: Path, stores: Settings) -> None:
    files.tenx_folder(folder / "a")
    files.tenx_folder(folder / "b")
    assert len(samples_of(folder, stores)) == 2
    files.tenx_folder(folder / "c")
    assert len(samples_of(folder, stores)) == 3
    shutil.rmtree(folder / "b")
    assert list(samples_of(folder, stores)) == ["a", "c"]


def test_everything_that_is_wrong_is_reported_at_once_with_what_to_do(folder: Path, stores: Settings) -> None:
    files.tenx_folder(folder / "good")
    files.parse_folder(folder / "parse")
    files.tenx_folder(folder / "mouse", ids=MOUSE_IDS, symbols=MOUSE)
    files.tenx_folder(folder / "twin")
    files.tenx_folder(folder / "twin_filtered_feature_bc_matrix")
    logs = np.log1p(files.COUNTS / files.COUNTS.sum(1, keepdims=True) * 1e4)
    frame = pd.DataFrame(logs, files.BARCODES, files.SYMBOLS)
    (folder / "logs").mkdir()
    frame.to_csv(folder / "logs" / "logs.csv")
    files.tenx_folder(folder / "empty", counts=np.zeros_like(files.COUNTS))
    files.tenx_folder(folder / "single", counts=files.COUNTS[:1])
    files.tenx_folder(folder / "broken")
    (folder / "broken" / "barcodes.tsv.gz").unlink()
    files.tenx_folder(folder / "torn", packed=False)
    matrix = folder / "torn" / "matrix.mtx"
    matrix.write_bytes(matrix.read_bytes()[:-40])
    report = check_experiment(folder, stores)
    assert report.status == 1
    errors = {problem.field: problem for problem in report.problems if problem.severity == "error"}
    told = sentences(report)
    for part in (
        "several technologies: 10x (", "Parse (parse)", "several species: human (", "mouse (mouse)",
        "2 samples called 'twin' (twin, twin_filtered_feature_bc_matrix)", "logs/logs.csv: found log-normalised",
        "empty: found no count above 0", "single: found one cell",
        "broken/matrix.mtx.gz: found a matrix without its barcodes", "torn: found matrix.mtx:",
    ):  # fmt: skip
        assert part in told, f"{part}\n{told}"
    assert all(problem.advice for problem in errors.values())
    assert not any("good:" in problem.sentence for problem in errors.values())


def test_genes_of_two_species_in_one_file_are_refused_with_a_way_out(tmp_path: Path, stores: Settings) -> None:
    ids = [f"GRCh38_{name}" for name in files.IDS[:25]] + [f"mm10___{name}" for name in MOUSE_IDS[:20]]
    path = files.tenx_h5(tmp_path / "barnyard.h5", ids=ids, symbols=ids)
    report = check_experiment(path, stores)
    assert "barnyard.h5: found genes of several species: human, mouse" in sentences(report)


def test_a_virus_is_no_second_species(tmp_path: Path, stores: Settings) -> None:
    path = files.tenx_h5(tmp_path / "covid.h5", ids=[*files.IDS[:40], *(f"gene-GU280_gp{i:02d}" for i in range(5))])
    assert open_experiment(path, stores).experiment.n_genes == 45


def test_a_folder_without_a_matrix_says_what_is_looked_for(folder: Path, stores: Settings) -> None:
    (folder / "notes.txt").write_text("nothing\nhere\n")
    report = check_experiment(folder, stores)
    assert report.status == 2
    assert report.problems[0].code is ErrorCode.EXPERIMENT_NOT_FOUND
    assert "give a folder of 10x, Parse or BD Rhapsody" in report.problems[0].found


def test_cell_sets_in_a_matrix_folder_are_its_own(folder: Path, stores: Settings) -> None:
    files.tenx_folder(folder)
    sets = '{"cellSets":[{"key":"mine","name":"mine","rootNode":true,"type":"cellSets","children":[]}]}'
    (folder / "cell_sets.json").write_text(sets)
    assert open_experiment(folder, stores).cell_sets_path == folder / "cell_sets.json"
