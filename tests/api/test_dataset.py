"""cellworker.open: typed methods, cells as anyone says them, tables by barcode."""

import inspect
import signal
import threading
import typing

import numpy as np
import pandas as pd
import pytest
from tests.api.conftest import make

import cellworker as cw
from cellworker import ErrorCode, WorkerError
from cellworker.experiment.store.store import StoredExperiment
from cellworker.settings import Settings


@pytest.fixture
def opened(adata):
    cw.pp.pca(adata, 12)
    with cw.open(adata, sample="sample") as experiment:
        yield experiment


@pytest.fixture(scope="module")
def looked_at():
    """One that tests only ask: opening takes longer than what is asked."""
    adata = make()
    cw.pp.pca(adata, 12)
    with cw.open(adata, sample="sample") as experiment:
        yield experiment


def test_its_repr_describes_it(looked_at):
    assert repr(looked_at).startswith("<Experiment in memory: 400 cells x 300 genes")
    assert "<b>Experiment in memory</b>: 400 cells" in looked_at._repr_html_()
    sets = looked_at.cell_sets()
    assert list(sets.columns) == ["class", "key", "name", "n_cells", "color"]
    assert sets[sets["class"] == "group"]["n_cells"].sum() == 400
    assert looked_at.cell_sets.find_class("group") is not None


def test_markers_have_statistics_and_are_ordered_by_significance(looked_at, adata):
    table = looked_at.markers("group", n=5)
    assert table.groupby("group", observed=True).size().to_dict() == dict.fromkeys(["g0", "g1", "g2", "g3"], 5)
    for _, mine in table.groupby("group"):
        assert mine["log10_p"].is_monotonic_increasing
        assert (mine["log_fold_change"] > 0).all()
        assert (mine["p_val"] <= mine["p_val_adj"]).all()
    cw.tl.rank_genes_groups(adata, "group")
    assert table[table["group"] == "g1"]["gene"].tolist() == adata.uns["rank_genes_groups"]["names"]["g1"][:5].tolist()
    assert set(looked_at.markers("group", groups=["g2"])["group"]) == {"g2"}


def test_every_way_to_name_cells_gives_the_same_result(looked_at, adata):
    mask = (adata.obs["group"] == "g1").to_numpy()
    expected = looked_at.compare("group-g1")
    ways = [
        "group == 'g1'",
        mask,
        mask.tolist(),
        pd.Series(mask, adata.obs_names)[::-1],
        adata.obs_names[mask],
        adata.obs_names[mask].tolist(),
        ["group-g1"],
        "g1",
    ]
    for cells in ways:
        found = looked_at.compare(cells)
        pd.testing.assert_frame_equal(found.drop(columns="comparison"), expected.drop(columns="comparison"))
    assert expected["comparison"].unique().tolist() == ["group-g1 vs rest"]
    assert expected["log10_p"].is_monotonic_increasing


@pytest.mark.parametrize(
    "said", [lambda m: m.to_numpy(), lambda m: m.tolist(), lambda m: m, lambda m: iter(m[m].index)]
)
def test_a_comparison_is_named_by_the_cells_that_are_chosen(looked_at, adata, said):
    mask = adata.obs["group"] == "g1"
    assert looked_at.compare(said(mask))["comparison"][0] == f"{mask.sum()} cells vs rest"
    assert looked_at.compare(["cell3", "cell3"])["comparison"][0] == "cell3 vs rest"


def test_comparisons_can_be_within_some_cells(looked_at, adata):
    found = looked_at.compare("g0", "g1", within="treated == 'yes'")
    some = adata[adata.obs["treated"] == "yes"].copy()
    cw.tl.rank_genes_groups(some, "group", groups=["g0"], reference="g1")
    assert found["comparison"][0] == "g0 vs g1 within treated == 'yes'"
    names, scores = (some.uns["rank_genes_groups"][field]["g0"] for field in ("names", "scores"))
    assert found["gene"][0] == names[np.abs(scores).argmax()]


def test_samples_are_compared(looked_at):
    found = looked_at.compare_samples("treated == 'yes'")
    assert {"comparison", "gene", "log_fold_change", "p_val", "p_val_adj", "log10_p"} <= set(found)
    assert found["log10_p"].dropna().is_monotonic_increasing


def test_new_clusters_can_be_compared_at_once_and_go_back(opened, adata, tmp_path):
    clusters = opened.cluster("leiden", resolution=0.8)
    assert clusters.index.tolist() == adata.obs_names.tolist()
    assert clusters.name == "leiden"
    assert clusters.notna().all()
    assert opened.compare("leiden-0", "leiden-1")["gene"].notna().all()
    assert opened.markers("leiden", n=1)["group"].tolist() == clusters.cat.categories.tolist()
    layout = opened.embedding("umap")
    assert layout.index.tolist() == adata.obs_names.tolist()
    assert layout.notna().all(axis=None)
    made = opened.to_anndata()
    assert made.obs["leiden"].tolist() == clusters.tolist()
    np.testing.assert_allclose(made.obsm["X_umap"], layout, rtol=1e-6)
    assert "leiden" not in adata.obs
    assert opened.to_anndata(into=adata) is adata
    assert adata.obs["leiden"].tolist() == clusters.tolist()
    again = cw.read(opened.save(tmp_path / "saved.h5ad"))
    assert again.obs["leiden"].tolist() == clusters.tolist()


def test_a_files_own_clusters_are_not_replaced(adata):
    adata.obs["leiden"] = adata.obs["group"]
    cw.pp.pca(adata, 12)
    with cw.open(adata) as experiment:
        assert experiment.cluster("leiden").name == "leiden_new"
        assert experiment.compare("leiden-g0", "leiden_new-1")["comparison"][0] == "leiden-g0 vs leiden_new-1"


def test_expression_and_scores_are_tables_by_barcode(looked_at, adata):
    table = looked_at.expression(["gene7", "gene3"], cells="group == 'g0'")
    expected = adata[adata.obs["group"] == "g0", ["gene7", "gene3"]].to_df()
    np.testing.assert_allclose(table, expected, rtol=1e-6)
    assert table.index.tolist() == expected.index.tolist()
    best = looked_at.markers("group", n=5)
    scores = looked_at.gene_sets({name: mine["gene"].tolist() for name, mine in best.groupby("group")})
    assert (scores.groupby(adata.obs["group"].to_numpy()).mean().idxmax() == ["g0", "g1", "g2", "g3"]).all()


@pytest.mark.parametrize("as_", ["polars", "arrow"])
def test_tables_come_as_they_are_asked_for(looked_at, as_):
    expected = looked_at.expression(["gene7", "gene3"], cells="g0")
    found = looked_at.expression(["gene7", "gene3"], cells="g0", as_=as_)
    assert type(found).__module__.split(".")[0] == {"polars": "polars", "arrow": "pyarrow"}[as_]
    frame = found.to_pandas()
    assert list(frame.columns) == ["barcode", "gene7", "gene3"]
    np.testing.assert_array_equal(frame[["gene7", "gene3"]], expected)
    assert frame["barcode"].tolist() == expected.index.tolist()
    table = looked_at.markers("group", n=2, as_=as_).to_pandas()
    pd.testing.assert_frame_equal(table, looked_at.markers("group", n=2), check_dtype=False)


def test_ctrl_c_ends_what_takes_long_and_the_next_question_is_answered(adata):
    def interrupted(stage, fraction=None):
        if asked:
            signal.raise_signal(signal.SIGINT)

    asked = False
    cw.pp.pca(adata, 12)
    with cw.open(adata, progress=interrupted) as experiment:
        asked = True
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
        try:
            with pytest.raises(KeyboardInterrupt):
                experiment.embedding("umap")
        finally:
            signal.signal(signal.SIGINT, before)
        asked = False
        assert experiment.embedding("umap").shape == (400, 2)


def test_trajectories_and_pseudotime(opened):
    found = opened.trajectory(cells=["g0", "g1"])
    assert list(found.nodes.columns) == ["x", "y"]
    assert found.links.to_numpy().max() < len(found.nodes)
    time = opened.pseudotime([0], cells=["g0", "g1"])
    assert time.min() == 0
    assert time[(opened.columns["group"] == "g2").to_numpy()].isna().all()


def test_a_file_is_opened_with_the_same_methods(adata, tmp_path):
    adata.write_h5ad(tmp_path / "file.h5ad")
    with cw.open(tmp_path / "file.h5ad", settings=Settings(store_dir=tmp_path / "store")) as experiment:
        assert experiment.expression("gene1").shape == (400, 1)
        assert experiment.to_anndata().shape == adata.shape


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (lambda e: e.run("ListGenes", lmit=3), r"body\.lmit: ListGenes has no field 'lmit'.*limit.*mean 'limit'\?"),
        (lambda e: e.call("ListGenes", lmit=3), r"body\.lmit"),
        (lambda e: e.call("ClusterCells", type="leiden", config={"resolutin": 1}), r"body\.config\.resolutin"),
        (
            lambda e: e.call("GetExpressionCellSets", genesConfig=[{"geneNme": "x"}]),
            r"body\.genesConfig\[0\]\.geneNme: .*geneName",
        ),
        (
            lambda e: e.compare("nope"),
            r"first: 'nope' is no cell set, barcode or query; sets are 'louvain', 'louvain-0'",
        ),
        (lambda e: e.compare("g0", "n_genes >"), r"second: 'n_genes >' is no cell set"),
        (lambda e: e.compare("grup == 'g1'"), r"first: .* \(there is no column 'grup'; did you mean 'group'\?\)"),
        (lambda e: e.compare("group == 'x'"), r"first: no cell is chosen by group == 'x'.*: group holds 'g\d', 'g"),
        (
            lambda e: e.compare("group == @one"),
            r"first: .* \(a variable after @ is not seen from here: write its value",
        ),
        (lambda e: e.compare("group"), r"first: .* \(it is not true or false of each cell\)|no cell is left"),
        (lambda e: e.compare(np.ones((400, 2), bool)), r"first: the mask must have one dimension, found an array of 2"),
        (lambda e: e.compare([True, None] * 200), r"first: the mask has missing values; fill them"),
        (lambda e: e.compare(e.columns["group"].eq("g0").sample(600, replace=True)), r"first: the mask's index "),
        (lambda e: e.compare(e.columns), r"first: expected a mask, barcodes or keys of cell sets, found a table"),
        (lambda e: e.compare([1, 0] * 200), r"first: .*found 1; a mask is of True and False, as mask.astype"),
        (lambda e: e.cluster(name=" "), r"name: expected a name for the class, as 'fine', found ' '"),
        (lambda e: e.annotate("Immune system", name=""), r"name: expected a name for the class"),
        (lambda e: e.expression([]), r"genes: name at least one gene, as 'gene0'"),
        (lambda e: e.compare(np.ones(3, bool)), r"first: the mask must have 400 values.*found 3"),
        (lambda e: e.compare(np.zeros(400, bool)), r"first: no cell is chosen"),
        (lambda e: e.compare(["cell1", "cellX"]), r"first: 1 of 2 are not there, the first is 'cellX'.*'cell0'"),
        (lambda e: e.compare([1, 2]), r"first: expected barcodes .* found 1"),
        (lambda e: e.compare("g0", "g0"), r"first: no cell is left"),
        (lambda e: e.markers("grup"), r"by: there is no class of cell sets 'grup'; expected .*'group'"),
        (lambda e: e.markers("group", groups=["g9"]), r"groups: group has no set 'g9'"),
        (lambda e: e.markers("group", n=0), r"n: expected a whole number from 1"),
        (lambda e: e.embedding(min_dist=-1), r"min_dist: expected a number from 0, found -1"),
        (lambda e: e.embedding("tsne", perplexity=0), r"perplexity: expected a number above 0"),
        (lambda e: e.embedding("tsne", learning_rate="x"), r"learning_rate: expected a number or None, found 'x'"),
        (lambda e: e.embedding(metric="manhattan"), r"metric: .*'manhattan'"),
        (lambda e: e.embedding("umpa"), r"method: .*'umpa'"),
        (lambda e: e.cluster("kmeans"), r"method: .*'kmeans'"),
        (lambda e: e.cluster(resolution=-1), r"resolution: expected a number from 0, found -1"),
        (lambda e: e.pseudotime([10**6]), r"root_nodes: expected a whole number from 0 to \d+, found 1000000"),
        (lambda e: e.pseudotime([]), r"root_nodes: expected nodes from 0 to \d+, found none"),
        (lambda e: e.trajectory(embedding="nope"), r"embedding: there is no layout 'nope'"),
        (lambda e: e.trajectory(method="kmeans"), r"method: .*'kmeans'"),
        (lambda e: e.gene_sets({"a": ["gene1"]}, n_controls=0), r"n_controls: expected a whole number from 1"),
        (lambda e: e.markers("group", as_="numpy"), r"as_: .*'numpy'"),
        (lambda e: e.gene_sets({}), r"sets: expected genes by name"),
        (lambda e: e.annotate("Immune system", method="magic"), r"method: expected 'sctype' or 'cassia'"),
    ],
)
def test_slips_are_named_with_what_would_be_right(looked_at, run, says):
    with pytest.raises(WorkerError, match=says) as caught:
        run(looked_at)
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_unknown_genes_are_named(looked_at):
    with pytest.raises(WorkerError, match="genes: there is no gene 'MS4A1'; genes are named like 'gene0'") as caught:
        looked_at.expression(["gene1", "MS4A1"])
    assert caught.value.code is ErrorCode.R_WORKER_GENE_NOT_FOUND


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_data_that_cannot_be_opened_are_reported(adata):
    for spoil, says in (
        (lambda a: setattr(a, "X", None), r"source: adata\.X is empty"),
        (lambda a: setattr(a, "var_names", ["same"] * a.n_vars), r"adata\.var_names: 'same' is there twice"),
    ):
        spoiled = adata.copy()
        spoil(spoiled)
        with pytest.raises(WorkerError, match=says):
            cw.open(spoiled)
    with pytest.raises(WorkerError, match="adata: expected an AnnData, found int"):
        cw.open(3)


def test_every_method_is_typed_and_documented(looked_at):
    for name, member in inspect.getmembers(type(looked_at), inspect.isfunction):
        if name.startswith("_"):
            continue
        assert inspect.getdoc(member), name
        assert "return" in member.__annotations__ or typing.get_type_hints(member), name
    for module in (cw.pp, cw.tl):
        for name in module.__all__:
            assert inspect.getdoc(getattr(module, name)), name


def test_progress_is_shown_only_on_what_takes_over_a_second(capsys, monkeypatch):
    from cellworker.api import progress

    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar = progress.ProgressBar()
    bar("Finding neighbours", 0.1)
    now[0] = 0.9
    bar("Finding neighbours", 0.2)
    assert capsys.readouterr().err == ""
    now[0] = 1.1
    bar("Finding neighbours", 0.5)
    assert "Finding neighbours  50%" in capsys.readouterr().err
    bar.done()


@pytest.mark.parametrize("opens", [cw.open, cw.open_experiment])
def test_closing_ends_what_compares_the_store(opens, sample, monkeypatch):
    def compared(_store, stop=None):
        assert stop is not None
        stop.wait(60)

    monkeypatch.setattr(StoredExperiment, "damage", compared)
    known = set(threading.enumerate())
    with opens(sample):
        assert [thread.name for thread in set(threading.enumerate()) - known] == ["verify-store"]
    assert set(threading.enumerate()) <= known


@pytest.mark.parametrize("said", [np.array([0, 2]), [np.int64(0), np.int64(2)], (node for node in (0, 2)), np.int64(0)])
def test_steps_say_which_roots_were_asked_for_however_they_were_said(sample, said):
    with cw.open(sample) as experiment:
        experiment.pseudotime(said)
        assert [step.task for step in experiment.steps] == ["pseudotime"]
        assert experiment.steps[0].parameters["root_nodes"] == (0 if isinstance(said, np.integer) else [0, 2])


def test_a_root_with_decimals_is_named(sample):
    with cw.open(sample) as experiment, pytest.raises(WorkerError, match="root_nodes: "):
        experiment.pseudotime(1.5)
