"""What a file does not hold is made while it is read: equal to Seurat's and scanpy's, told, and only where it lacks."""

import shutil
import subprocess
import warnings

import numpy as np
import pytest
from tests.raw_counts import counts_of_types, write_counts

from cellworker.analysis.graphs.doublets import doublet_scores
from cellworker.analysis.statistics.pca import principal_components
from cellworker.analysis.statistics.scaled_components import scaled_components
from cellworker.experiment.model import Categorical
from cellworker.formats.check.checking import check_experiment, render
from cellworker.formats.convert.converting import convert
from cellworker.formats.opening.open import open_experiment
from cellworker.settings import Settings

N_TYPES_DIMS = 3
"""Four types span three dimensions; components beyond them are noise, whose variances lie together."""


@pytest.fixture(scope="module")
def counts():
    return counts_of_types(200, 400)


@pytest.fixture(scope="module")
def raw(counts, tmp_path_factory):
    """A file of raw counts of two samples, and nothing else."""
    return write_counts(tmp_path_factory.mktemp("raw") / "raw.h5ad", counts[0], sample=["a", "b"] * 100)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(store_dir=tmp_path_factory.mktemp("store"), threads=2)


@pytest.fixture(scope="module")
def opened(raw, settings):
    return open_experiment(raw, settings).experiment


def scaled(counts):
    """Log-normalised and scaled, dense, as ScaleData does."""
    x = counts.toarray().astype(np.float64)
    x = np.log1p(1e4 * x / x.sum(axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.minimum((x - x.mean(axis=0)) / x.std(axis=0, ddof=1), 10)


def same_up_to_sign(ours, theirs, n, rtol=1e-5):
    """Compare the leading columns; those after them are of noise, whose order is nobody's."""
    for i in range(n):
        sign = np.sign(ours[:, i] @ theirs[:, i])
        np.testing.assert_allclose(ours[:, i], sign * theirs[:, i], atol=rtol * np.abs(theirs[:, i]).max())


def test_everything_that_is_missing_is_made_and_reported(raw, settings, opened, counts):
    assert {name: made.values.shape for name, made in opened.reductions.items()} == {"pca": (200, 50), "umap": (200, 2)}
    assert opened.misc.active_reduction == "pca"
    assert opened.misc.default_reduction == "umap"
    labels = opened.metadata["louvain"]
    assert isinstance(labels, Categorical)
    pure = sum(np.bincount(counts[1][labels.codes == k]).max() for k in range(len(labels.categories)))
    assert pure >= 190, "clusters are the types that the counts were drawn from"
    assert opened.origin.columns["doublet_scores"] == "doublet_scores"
    text = render(check_experiment(raw, settings))
    assert "warning" not in text
    for what in ("reductions pca", "reductions umap", "clusters", "doublet_scores", "dispersions"):
        assert f"{what}: " in text, what
        assert what in opened.extra["made"]
    assert text.count("made here: ") == 5
    assert "sample column     sample" in text, "what came from the file is named as such"


def test_genes_are_ordered_by_vst(opened, counts):
    from cellworker.analysis.statistics.variable_genes import gene_variability

    found = gene_variability(counts[0].indices, counts[0].data, n_cells=200, n_genes=400)
    np.testing.assert_allclose(opened.dispersions.dispersions, found.standardized)


def test_the_components_are_those_of_the_dense_matrix(counts):
    x = scaled(counts[0])
    data = counts[0].copy()
    data.data = np.log1p(1e4 * data.data / np.repeat(np.asarray(data.sum(axis=1)).ravel(), np.diff(data.indptr)))
    genes = np.flatnonzero(np.isfinite(x).all(axis=0))[::2]
    found = scaled_components(data.indptr.astype(np.int64), data.indices, data.data, genes, 5, n_genes=400)
    expected = np.linalg.svd(x[:, genes], full_matrices=False)
    same_up_to_sign(found.components.scores, expected[0] * expected[1], 4)
    np.testing.assert_allclose(found.project(data[:20][:, found.genes]), found.components.scores[:20], atol=1e-6)
    largest = np.abs(found.components.loadings).argmax(axis=0)
    assert (found.components.loadings[largest, range(5)] > 0).all()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_finds_the_same_bits(counts, threads):
    data = counts[0]
    args = (data.indptr.astype(np.int64), data.indices, data.data, np.arange(0, 400, 3), 10)
    one, other = (scaled_components(*args, n_genes=400, threads=n) for n in (1, threads))
    assert one.components.scores.tobytes() == other.components.scores.tobytes()
    scores = [doublet_scores(data, threads=n).scores for n in (1, threads)]
    assert scores[0].tobytes() == scores[1].tobytes()


def test_an_origin_takes_the_place_of_the_means():
    x = np.random.default_rng(1).normal(3, 1, (60, 8))
    origin = np.linspace(-1, 1, 8)
    found = principal_components(x, 3, origin=origin)
    u, s, _ = np.linalg.svd(x - origin, full_matrices=False)
    same_up_to_sign(found.scores, u * s, 3)
    assert found.total == pytest.approx(np.square(x - origin).sum() / 59)


def test_scanpy_finds_the_same_components(opened, raw):
    scanpy = pytest.importorskip("scanpy")
    import anndata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata = anndata.read_h5ad(raw)
        scanpy.pp.normalize_total(adata, target_sum=1e4)
        scanpy.pp.log1p(adata)
        scanpy.pp.scale(adata)
        adata.X = np.minimum(adata.X, 10)  # scale(max_value=10) clips below -10 as well, which Seurat does not
        scanpy.pp.pca(adata, n_comps=50, zero_center=False, svd_solver="arpack")
    same_up_to_sign(opened.reductions["pca"].values, adata.obsm["X_pca"], N_TYPES_DIMS, rtol=1e-4)


def test_seurat_finds_the_same_components(opened, counts, tmp_path):
    rscript = shutil.which("Rscript")
    if rscript is None:
        pytest.skip("Rscript is not on this machine")
    np.savetxt(tmp_path / "counts.csv", counts[0].toarray().T, "%d", ",")
    code = f"""
        if (!requireNamespace("Seurat", quietly = TRUE)) {{ cat("none"); quit() }}
        suppressMessages(library(Seurat))
        x <- as.matrix(read.csv("{tmp_path}/counts.csv", header = FALSE))
        dimnames(x) <- list(paste0("g", seq_len(nrow(x))), paste0("c", seq_len(ncol(x))))
        s <- CreateSeuratObject(as(x, "CsparseMatrix"))
        s <- NormalizeData(s, verbose = FALSE)
        s <- FindVariableFeatures(s, nfeatures = 2000, verbose = FALSE)
        s <- ScaleData(s, verbose = FALSE)
        s <- RunPCA(s, npcs = 10, verbose = FALSE, approx = FALSE)
        write.csv(Embeddings(s, "pca"), "{tmp_path}/pca.csv", row.names = FALSE)
    """
    done = subprocess.run([rscript, "--vanilla", "-e", code], capture_output=True, text=True, check=False, timeout=600)
    if done.stdout.endswith("none"):
        pytest.skip("Seurat is not on this machine")
    assert done.returncode == 0, done.stderr
    theirs = np.loadtxt(tmp_path / "pca.csv", delimiter=",", skiprows=1)
    same_up_to_sign(opened.reductions["pca"].values, theirs, N_TYPES_DIMS, rtol=1e-4)


def test_what_is_there_is_left_alone(counts, tmp_path, settings):
    path = write_counts(tmp_path / "has.h5ad", counts[0], leiden=["0", "1"] * 100, doublet_score=np.arange(200) / 200)
    with_maps = read_h5ad(path)
    with_maps.obsm["X_pca"] = np.random.default_rng(0).normal(size=(200, 6))
    with_maps.obsm["X_tsne"] = with_maps.obsm["X_pca"][:, :2].copy()
    with_maps.write_h5ad(path)
    found = open_experiment(path, settings).experiment
    assert set(found.extra["made"]) == {"dispersions"}
    assert set(found.reductions) == {"pca", "tsne"}
    np.testing.assert_array_equal(found.reductions["pca"].values, with_maps.obsm["X_pca"])


def test_clusters_and_a_map_are_made_of_components_that_are_there(counts, tmp_path, settings):
    path = write_counts(tmp_path / "pca.h5ad", counts[0])
    adata = read_h5ad(path)
    adata.obsm["X_harmony"] = np.random.default_rng(0).normal(size=(200, 20))
    adata.write_h5ad(path)
    found = open_experiment(path, settings).experiment
    assert {"clusters", "reductions umap"} <= set(found.extra["made"])
    assert "pca" not in found.reductions
    assert "harmony" in found.extra["made"]["reductions umap"]


def test_the_setting_switches_it_off(raw, settings):
    off = Settings(store_dir=settings.store_dir, make_missing=False)
    found = open_experiment(raw, off).experiment
    assert not found.reductions
    assert "made" not in found.extra
    assert "will be refused" in render(check_experiment(raw, off))
    assert open_experiment(raw, settings).experiment.reductions, "both stores are kept"


@pytest.mark.parametrize(("n_cells", "n_genes"), [(1, 5), (2, 3), (3, 1), (25, 4)])
def test_a_handful_of_cells_opens_and_says_what_is_not_made(tmp_path, n_cells, n_genes):
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(n_cells)
    x = csr_matrix(1 + rng.poisson(2, (n_cells, n_genes)).astype(np.float32))
    import anndata

    anndata.AnnData(x).write_h5ad(tmp_path / "few.h5ad")
    settings = Settings(store_dir=tmp_path / "store", threads=1)
    text = render(check_experiment(tmp_path / "few.h5ad", settings))
    assert "can be served" in text
    assert "doublet scores are not made" in text
    if n_cells == 1:
        assert "one cell does not vary" in text


def test_what_takes_too_long_is_not_made_and_the_experiment_opens(raw, tmp_path):
    from tests.formats.anndata_files import read

    from cellworker.formats.common.findings import Findings
    from cellworker.formats.common.scratch import Scratch
    from cellworker.formats.completing.complete import Completing, complete

    draft, _ = read(raw)
    assert draft is not None
    findings = Findings()
    assert complete(draft, findings, Scratch(tmp_path), Completing(seconds=0)) is draft
    assert len(findings.fallbacks) == 3
    assert all("LOAD_TIMEOUT_S" in told for told in findings.fallbacks)


def test_simulated_doublets_are_found():
    counts, types = counts_of_types(400, 600, depth=3000)
    first, second = np.arange(40), np.arange(40, 80)
    doublets = counts[first] + counts[second]
    from scipy.sparse import vstack

    found = doublet_scores(vstack([counts[80:], doublets]).tocsr(), rate=0.11)
    mixed = types[first] != types[second]
    singles, pairs = found.scores[:320], found.scores[320:][mixed]
    above = np.mean([np.mean(pair > singles) + np.mean(pair == singles) / 2 for pair in pairs])
    assert above > 0.97, "area under the ROC curve"
    assert np.mean(pairs > found.threshold) > 0.8
    assert np.mean(singles > found.threshold) < 0.05


def read_h5ad(path):
    import anndata

    return anndata.read_h5ad(path)


def test_a_copy_is_the_source_as_it_is_and_another_format_holds_what_was_made(raw, settings, tmp_path):
    report = convert(raw, tmp_path / "copy.h5ad", settings)
    assert not any(line.startswith("reductions") or "louvain" in line for line in report.kept)
    assert not read_h5ad(tmp_path / "copy.h5ad").obsm
    report = convert(raw, tmp_path / "object.rds", settings)
    assert "reductions: pca, umap" in report.kept
    found = open_experiment(tmp_path / "object.rds", settings).experiment
    assert {"pca", "umap"} <= set(found.reductions)
    assert "reductions pca" not in found.extra.get("made", {})


def test_values_that_are_no_numbers_keep_nothing_from_being_made(counts, tmp_path, settings):
    adata = read_h5ad(write_counts(tmp_path / "bad.h5ad", counts[0]))
    x = counts[0].toarray()
    x = np.log1p(1e4 * x / x.sum(axis=1, keepdims=True)).astype(np.float32)
    x[3, 4], x[5, 6] = np.nan, np.inf
    adata.X = x
    adata.layers["counts"] = counts[0]
    adata.write_h5ad(tmp_path / "bad.h5ad")
    found = open_experiment(tmp_path / "bad.h5ad", settings).experiment
    assert {"reductions pca", "reductions umap", "clusters"} <= set(found.extra["made"])
    assert np.isfinite(found.reductions["pca"].values).all()


@pytest.mark.parametrize("kind", ["memory", "thread", "disk"])
def test_what_does_not_fit_on_the_disk_is_reported_and_the_rest_is_made(raw, tmp_path, monkeypatch, kind):
    from tests.formats.anndata_files import read

    from cellworker.errors import ErrorCode, WorkerError
    from cellworker.formats.common.findings import Findings
    from cellworker.formats.common.scratch import Scratch
    from cellworker.formats.completing import complete as module

    errors = {
        "memory": MemoryError(),
        "thread": RuntimeError("can't start new thread"),
        "disk": WorkerError(ErrorCode.DISK_FULL, "full"),
    }

    def fail(*args, **kwargs):
        raise errors[kind]

    monkeypatch.setattr(module, "laid_out", fail)
    draft, _ = read(raw)
    findings = Findings()
    made = module.complete(draft, findings, Scratch(tmp_path))
    assert "pca" in made.reductions
    assert "umap" not in made.reductions
    assert any("a map is not made" in told and "no " in told for told in findings.fallbacks)


@pytest.mark.parametrize("cells", [[], [3], [2, 3, 4], [5, 1, 9], [0, 2, 4], list(range(200))])
def test_rows_are_taken_out_of_a_matrix_in_any_order(counts, cells):
    from cellworker.experiment.draft import SparseDraft
    from cellworker.formats.completing.doublets import counts_of

    x = counts[0]
    draft = SparseDraft(x.indptr.astype(np.int64), x.indices, x.data, 400)
    found = counts_of(draft, np.array(cells, np.int64))
    np.testing.assert_array_equal(found.toarray(), x[cells].toarray())
    found.data[:] = 0
    assert draft.values.all(), "what is changed is a copy"
