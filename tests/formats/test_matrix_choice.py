"""Which matrix of a file is served, in every container and form, by its values or as whoever opens it says."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from tests.formats.anndata_files import dense, load, read, write
from tests.formats.seurat_drafts import draft_from_seurat
from tests.formats.test_value_kinds import corrected, counts, shares

from cellworker import open_experiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.check.checking import check_experiment, render
from cellworker.formats.convert.converting import convert
from cellworker.formats.r.rds.build import named_list
from cellworker.formats.r.rds.writer import write_rds
from cellworker.settings import Settings

COUNTS = counts(n_cells=60, n_genes=40) + np.eye(60, 40)
LOG = np.log1p(1e4 * shares(COUNTS))
FORMS = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}


def adata(x, **parts):
    cells, genes = x.shape
    obs = pd.DataFrame({"cond": pd.Categorical((["a", "b"] * 30)[:cells])}, index=[f"c{i}" for i in range(cells)])
    names = {"obs": obs, "var": pd.DataFrame(index=[f"g{i}" for i in range(genes)])}
    return anndata.AnnData(x.astype(np.float32), **(names | parts))


def placed(values, place, form):
    """Put a matrix into X, a layer or raw, and nothing useful elsewhere."""
    made = FORMS[form](values.astype(np.float32))
    if place == "X":
        return adata(made)
    nothing = (LOG - LOG.mean(axis=0)).astype(np.float32)
    if place == "raw":
        out = adata(nothing)
        out.raw = adata(made)
        return out
    return adata(nothing, layers={place: made})


def ways():
    for place in ("X", "raw", "counts"):
        for form in FORMS:
            for container in ("h5ad", "zarr-3"):
                yield place, form, container


@pytest.mark.parametrize(("place", "form", "container"), list(ways()))
def test_shares_are_normalised_to_ten_thousand_in_any_layer(tmp_path, place, form, container):
    draft, findings = read(write(placed(shares(COUNTS), place, form), tmp_path, container))
    assert not findings.errors
    np.testing.assert_allclose(dense(draft.data), LOG, rtol=1e-5, atol=1e-6)
    assert draft.counts is None


@pytest.mark.parametrize("note", [{"base": None}, {}, {"base": np.array([])}], ids=str)
@pytest.mark.parametrize("container", ["h5ad", "zarr-3"])
def test_the_note_that_scanpy_leaves_of_its_logarithm_is_read_in_every_form(tmp_path, container, note):
    draft, findings = read(write(adata(LOG, uns={"log1p": note}), tmp_path, container))
    assert not findings.errors
    np.testing.assert_allclose(dense(draft.data), LOG, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("place", "form", "container"), list(ways()))
def test_corrected_counts_are_counts_in_any_layer(tmp_path, place, form, container):
    made = corrected(COUNTS)
    draft, findings = read(write(placed(made, place, form), tmp_path, container))
    assert not findings.errors
    np.testing.assert_allclose(dense(draft.counts), made, rtol=1e-6)
    np.testing.assert_allclose(dense(draft.data), np.log1p(1e4 * shares(made)), rtol=1e-5, atol=1e-6)


def test_logarithms_to_another_base_are_served_as_natural_ones(tmp_path):
    draft, findings = read(write(adata(np.log2(1 + 1e4 * shares(COUNTS))), tmp_path, "h5ad"))
    np.testing.assert_allclose(dense(draft.data), LOG, rtol=1e-5, atol=1e-6)
    assert any("base 2" in problem.found for problem in findings.problems)


def test_values_behind_the_sample_count_too(tmp_path, monkeypatch):
    """The first and the middle cells hold whole numbers; the rest says that these are no raw counts."""
    monkeypatch.setattr("cellworker.formats.anndata.looking._SAMPLE", 200)
    made = 1e4 * shares(COUNTS)
    made[:5], made[30:35] = 0, 0
    made[:5, 0], made[30:35, 0] = 10_000, 10_000
    for form, make in FORMS.items():
        draft, _ = read(write(adata(make(made.astype(np.float32))), tmp_path, "h5ad", form))
        assert draft.counts is None
        assert draft.extra["matrices"][0]["holds"] == "normalised values without a logarithm"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("container", ["h5ad", "zarr-3"])
def test_matrices_that_are_not_served_are_judged_by_all_values_too(tmp_path, monkeypatch, container, form):
    """The cells that a sample would see hold whole numbers; the rest are shares."""
    monkeypatch.setattr("cellworker.formats.anndata.looking._SAMPLE", 200)
    monkeypatch.setattr("cellworker.formats.anndata.looking._BLOCK", 300)
    other = 1e4 * shares(COUNTS)
    other[:5], other[30:35] = 0, 0
    other[:5, 0], other[30:35, 0] = 10_000, 10_000
    made = adata(FORMS[form](LOG.astype(np.float32)), layers={"other": FORMS[form](other.astype(np.float32))})
    draft, findings = read(write(made, tmp_path, container, form))
    assert not findings.errors
    told = {each["matrix"]: each for each in draft.extra["matrices"]}
    assert told["layers/other"]["holds"] == "normalised values without a logarithm"
    assert "all of the cells add up to 10,000" in told["layers/other"]["why"]
    assert told["layers/other"]["used for"] == "nothing"


def test_values_outside_the_sample_of_an_unserved_matrix_can_decide(tmp_path, monkeypatch):
    """By its first and middle cells the layer is no counts, so that X would be normalised without any."""
    monkeypatch.setattr("cellworker.formats.anndata.looking._SAMPLE", 200)
    kept = COUNTS.copy()
    kept[:6] = LOG[:6]
    kept[30:36] = LOG[30:36]
    kept[6:30] *= 3
    draft, _ = read(write(adata(LOG, layers={"umi_counts": kept}), tmp_path, "h5ad"))
    assert draft.counts is not None
    np.testing.assert_allclose(dense(draft.counts), kept, rtol=1e-6)


NAMED_COUNTS = [
    "counts",
    "Counts",
    "raw_counts",
    "cellbender_counts",
    "counts_corrected",
    "ambientCorrectedCounts",
    "X_umis",
]


@pytest.mark.parametrize("name", NAMED_COUNTS)
@pytest.mark.parametrize("make", [np.asarray, corrected], ids=["whole", "decimals"])
def test_a_layer_of_counts_is_found_by_the_words_of_its_name(tmp_path, name, make):
    kept = make(COUNTS)
    layers = {"unspliced_counts": COUNTS * 2, "norm_counts": 1e6 * shares(COUNTS), name: kept}
    draft, findings = read(write(adata(LOG, layers=layers), tmp_path, "h5ad"))
    assert not findings.errors
    np.testing.assert_allclose(dense(draft.counts), kept, rtol=1e-6)
    np.testing.assert_allclose(dense(draft.data), LOG, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["unspliced", "spliced_counts", "background_counts", "ambiguous", "velocity"])
def test_a_layer_that_holds_part_of_the_counts_is_none_of_them(tmp_path, name):
    draft, _ = read(write(adata(LOG, layers={name: COUNTS}), tmp_path, "h5ad"))
    assert draft.counts is None


def test_counts_with_a_stray_value_below_zero_are_served(tmp_path):
    made = COUNTS.copy()
    made[3, 7] = -1
    draft, findings = read(write(adata(made), tmp_path, "h5ad"))
    assert not findings.errors
    made[3, 7] = 0
    expected = np.log1p(1e4 * made / (made.sum(axis=1, keepdims=True) - (np.arange(60) == 3)[:, None]))
    np.testing.assert_allclose(dense(draft.data), expected, rtol=1e-5, atol=1e-6)
    assert any("1 of" in problem.found and "below 0" in problem.found for problem in findings.problems)


@pytest.mark.parametrize("slots", [{"data": "shares"}, {"counts": "shares"}])
def test_shares_in_a_seurat_object_are_normalised_too(trees, slots):
    made = {name: trees.sparse(shares(trees.counts)) for name in slots}
    assay = trees.assay(**{"counts": trees.empty(), "data": trees.empty()} | made)
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay})))
    np.testing.assert_allclose(dense(draft.data), trees.data, rtol=1e-5, atol=1e-6)
    assert draft.counts is None


def test_corrected_counts_of_a_seurat_object_are_normalised(trees):
    made = trees.sparse(trees.counts * 0.9)
    assay = trees.assay(counts=made, data=made)
    draft = draft_from_seurat(trees.seurat(assays=named_list({"RNA": assay})))
    np.testing.assert_allclose(dense(draft.data), trees.data, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dense(draft.counts), trees.counts * 0.9, rtol=1e-6)


# --- whoever knows better says so -----------------------------------------------------------------------------------


@pytest.fixture
def stores(tmp_path):
    return Settings(store_dir=tmp_path / "stores", threads=1)


@pytest.fixture
def path(tmp_path):
    made = adata(LOG, layers={"spliced": COUNTS * 2, "counts": COUNTS, "smooth": LOG / 2})
    made.obs["donor"] = pd.Categorical(["x", "y", "z"] * 20)
    return write(made, tmp_path, "h5ad")


def test_named_matrices_and_samples_are_taken(path, stores):
    with (
        open_experiment(path, stores) as usual,
        open_experiment(path, stores, counts="spliced", data="layers/smooth", sample="cond") as chosen,
    ):
        assert usual.experiment.store != chosen.experiment.store
        assert usual.experiment.counts.values.sum() * 2 == chosen.experiment.counts.values.sum()
        halved = np.asarray(chosen.experiment.data_by_cell.values)
        np.testing.assert_allclose(halved * 2, usual.experiment.data_by_cell.values)
        assert chosen.experiment.metadata["samples"].categories == ["a", "b"]
        assert usual.experiment.metadata["samples"].categories == ["x", "y", "z"]
    # Each choice has its own store, which is found again.
    with open_experiment(path, stores, counts="spliced", data="layers/smooth", sample="cond") as again:
        assert again.experiment.store == chosen.experiment.store


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"counts": "umi"}, ["--counts", "X", "layers/spliced", "layers/counts"]),
        ({"data": "logs"}, ["--data", "X", "layers/smooth"]),
        ({"sample": "patient"}, ["sample", "cond", "donor"]),
    ],
)
def test_a_wrong_name_lists_the_valid_ones(path, stores, options, names):
    with pytest.raises(WorkerError) as caught:
        open_experiment(path, stores, **options)
    for name in names:
        assert name in caught.value.message


def test_none_leaves_out_counts(path, stores):
    with open_experiment(path, stores, counts="none") as chosen:
        assert chosen.experiment.counts is None


def test_slots_of_seurat_objects_are_named_with_or_without_their_assay(tmp_path, trees, stores):
    root = trees.seurat(
        assays=named_list({"RNA": trees.assay(), "ADT": trees.assay(counts=trees.sparse(trees.counts * 3))})
    )
    write_rds(root, tmp_path / "a.rds")
    with open_experiment(tmp_path / "a.rds", stores, counts="ADT/counts") as chosen:
        assert chosen.experiment.counts.values.sum() == 3 * trees.counts.sum()
        assert chosen.experiment.origin.assay == "ADT"
    with open_experiment(tmp_path / "a.rds", stores, data="counts") as chosen:
        assert np.sum(chosen.experiment.data_by_cell.values) == trees.counts.sum()
    with pytest.raises(WorkerError, match="RNA/counts"):
        open_experiment(tmp_path / "a.rds", stores, counts="SCT/counts")


def test_check_says_of_every_matrix_what_it_holds_and_why(path, stores):
    report = check_experiment(path, stores)
    told = {item["matrix"]: item for item in report.contents["matrices"]}
    assert set(told) == {"X", "layers/spliced", "layers/counts", "layers/smooth"}
    assert told["X"]["holds"] == "log-normalised values"
    assert "10,000" in told["X"]["why"]
    assert told["layers/counts"]["used for"] == "comparisons of samples"
    assert told["layers/spliced"]["used for"] == "nothing"
    assert "used for: comparisons of samples" in render(report)


# --- exact counts, genes that cannot be used, files that cannot be served -------------------------------------------

LARGE = [2**24 + 1, 2**31 + 5, 2**53 + 1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("container", ["h5ad", "zarr-3"])
def test_large_counts_stay_exact_through_store_and_conversion(tmp_path, stores, form, container):
    made = COUNTS.astype(np.int64)
    made[0, :3] = LARGE
    whole = anndata.AnnData(FORMS[form](made), obs=pd.DataFrame(index=[f"c{i}" for i in range(60)]),
                            var=pd.DataFrame(index=[f"g{i}" for i in range(40)]))  # fmt: skip
    path = write(whole, tmp_path, container)
    with open_experiment(path, stores) as opened:
        stored = opened.experiment.counts
        first = dict(
            zip(stored.genes[: stored.indptr[1]].tolist(), stored.values[: stored.indptr[1]].tolist(), strict=True)
        )
        assert [first[gene] for gene in range(3)] == LARGE
    for name in ("out.h5ad", "out.zarr"):
        convert(path, tmp_path / name, stores)
        np.testing.assert_array_equal(filled(load(tmp_path / name).X), made)
    made[0, 2] = 2**53  # what R's numbers hold
    whole.X = FORMS[form](made)
    path = write(whole, tmp_path, container, "r")
    convert(path, tmp_path / "out.rds", stores)
    convert(tmp_path / "out.rds", tmp_path / "back.h5ad", stores)
    np.testing.assert_array_equal(load(tmp_path / "back.h5ad").layers["counts"].toarray(), made)


def test_counts_that_r_rounds_are_reported(tmp_path, stores):
    made = COUNTS.astype(np.int64)
    made[0, 0] = 2**53 + 1
    whole = anndata.AnnData(made, obs=pd.DataFrame(index=[f"c{i}" for i in range(60)]))
    report = convert(write(whole, tmp_path, "h5ad"), tmp_path / "out.rds", stores)
    assert any("2^53" in line and "1 " in line for line in report.lost)


def filled(matrix):
    return matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)


@pytest.mark.parametrize("shape", [(0, 40), (60, 0)])
def test_files_without_cells_or_genes_are_refused_in_words(tmp_path, stores, shape):
    report = check_experiment(write(adata(COUNTS[: shape[0], : shape[1]]), tmp_path, "h5ad"), stores)
    assert report.status == 1
    assert any(("no cells" in p.found) or ("no genes" in p.found) for p in report.problems)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gene_with_values_that_are_no_numbers_is_named_and_can_be_left_out(tmp_path, stores, bad):
    made = LOG.copy()
    made[2, 5] = bad
    path = write(adata(made, layers={"counts": COUNTS}), tmp_path, "h5ad")
    report = check_experiment(path, stores)
    warning = next(p for p in report.problems if "missing or infinite" in p.found)
    assert "g5" in warning.found
    assert "MarkerHeatmap" in warning.advice
    assert "--drop-genes" in warning.advice
    with open_experiment(path, stores) as opened:
        key = next(item for item in opened.cell_sets.classes if len(item.children) == 2).children[0].key
        body = {"cellSet": key, "compareWith": "rest", "basis": "all", "comparisonType": "within"}
        with pytest.raises(WorkerError, match="g5") as caught:
            opened.call("DifferentialExpression", **body)
        assert caught.value.code is ErrorCode.EXPERIMENT_UNSUPPORTED
    with open_experiment(path, stores, drop_genes=True) as opened:
        assert "g5" not in opened.experiment.genes.names
        assert len(opened.experiment.genes) == 39
        assert np.isfinite(opened.experiment.data.values).all()
        assert any("g5" in note and "left out" in note for note in opened.experiment.origin.fallbacks)


def test_text_in_a_column_of_that_name_refuses_nothing(tmp_path, stores):
    made = adata(LOG)
    made.obs["cells_id"] = [f"id{i}" for i in range(60)]
    with open_experiment(write(made, tmp_path, "h5ad"), stores) as opened:
        assert opened.experiment.cell_ids.tolist() == list(range(60))
        assert "cells_id (column)" in opened.experiment.metadata


# --- the cases of our reference material ----------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize(("case", "mean"), [("c02_fractions", 5.3889), ("d05_soupx_max", 7.3261)])
def test_cases_have_the_mean_that_scanpy_finds(shared, stores, case, mean):
    with open_experiment(shared / "cases" / f"{case}.h5ad", stores) as opened:
        assert opened.experiment.data.dense(0).mean() == pytest.approx(mean, abs=5e-5)


@pytest.mark.shared
def test_a_layer_of_counts_with_decimals_is_counts_and_x_stays(shared, stores):
    path = shared / "cases" / "d04_countslayer_float.h5ad"
    with open_experiment(path, stores) as opened:
        expected = load(path)
        assert opened.experiment.counts.values.max() == np.float32(15.81)
        np.testing.assert_array_equal(opened.experiment.data.dense(0), np.asarray(expected[:, 0].to_df())[:, 0])


@pytest.mark.shared
def test_cases_of_large_counts_and_no_cells(shared, stores, tmp_path):
    path = shared / "cases" / "b22_bigcounts.h5ad"
    convert(path, tmp_path / "out.h5ad", stores)
    original = load(path).X
    np.testing.assert_array_equal(filled(load(tmp_path / "out.h5ad").X), filled(original))
    report = check_experiment(shared / "cases" / "c12_zerocells.h5ad", stores)
    assert report.status == 1
    assert report.problems[0].found == "no cells"
