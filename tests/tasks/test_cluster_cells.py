"""ClusterCells: the original's louvain to the label, leiden as good as the original's, sketches, stored graphs."""

import gzip
import json

import numpy as np
import orjson
import pytest

import goldens
from builders import small_experiment
from cellworker.analysis.graphs.leiden import leiden, modularity
from cellworker.analysis.graphs.neighbours import nearest_neighbours
from cellworker.analysis.graphs.snn import shared_neighbours
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Graph, Misc, Origin, Reduction
from cellworker.tasks.cluster_cells import CLUSTER_CELLS
from cellworker.tasks.task import Context

RESOLUTIONS = (0.1, 0.5, 0.8, 1, 2)
PATH = "getClusters"


def louvain_at(resolution):
    return {"type": "louvain", "config": {"resolution": resolution}}


def same_as_original(answer, opened, golden):
    got = answer(opened.experiment, PATH, golden["request"])
    patch = CLUSTER_CELLS.patch(orjson.dumps(got))
    want = golden["patch"]["body"]
    for child in want[1]["$prepend"]["children"]:
        child["cellIds"] = goldens.many(child["cellIds"])
    assert patch == want


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_louvain_clusters_and_their_patch_are_the_originals(answer, pbmcsmall, resolution):
    same_as_original(answer, pbmcsmall, goldens.read(goldens.PBMCSMALL, f"ClusterCells-louvain-{resolution}"))


@pytest.mark.shared
def test_louvain_clusters_of_larger_experiments_are_the_originals(answer, larger):
    opened, folder = larger
    for resolution in RESOLUTIONS:
        same_as_original(answer, opened, goldens.read(folder, f"ClusterCells-louvain-{resolution}"))


def graph_of(experiment, metric):
    points = experiment.reductions["pca"].values[:, :10]
    return shared_neighbours(nearest_neighbours(points, 20, metric).cells)


def same_graph(links, want):
    rows = np.repeat(np.arange(len(links)), np.diff(links.indptr))
    others = want[want[:, 0] != want[:, 1]]
    others = others[np.lexsort((others[:, 1], others[:, 0]))]
    assert np.array_equal(np.column_stack([rows, links.cells]), others[:, :2])
    np.testing.assert_allclose(links.weights, others[:, 2], rtol=1e-13)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_and_graph_are_the_originals(pbmcsmall, metric):
    want = goldens.read(goldens.PBMCSMALL, f"SNN-{metric}")["response"]
    points = pbmcsmall.experiment.reductions["pca"].values[:, :10]
    assert nearest_neighbours(points, 20, metric).cells.tolist() == want["nn_idx"]
    same_graph(graph_of(pbmcsmall.experiment, metric), np.column_stack([want["i"], want["j"], want["x"]]))


@pytest.mark.shared
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_graphs_of_larger_experiments_are_the_originals(larger, metric):
    opened, folder = larger
    with gzip.open(folder / f"SNN-{metric}.csv.gz") as file:
        same_graph(graph_of(opened.experiment, metric), np.loadtxt(file, delimiter=",", skiprows=1))


def as_good_as_the_original(experiment, folder):
    runs = json.loads((folder / "SNN-leiden-quality-by-seed.json").read_text())["response"]
    links = graph_of(experiment, "euclidean")
    for resolution in RESOLUTIONS:
        theirs = [run["quality"] for run in runs if run["resolution"] == resolution]
        ours = modularity(links, leiden(links, resolution), resolution)
        assert ours >= max(theirs) - 1e-9, resolution


def test_leiden_is_as_good_as_the_originals_best_of_five(pbmcsmall):
    as_good_as_the_original(pbmcsmall.experiment, goldens.PBMCSMALL)


@pytest.mark.shared
def test_leiden_of_larger_experiments_is_as_good_as_the_originals_best_of_five(larger):
    opened, folder = larger
    as_good_as_the_original(opened.experiment, folder)


def test_leiden_is_reported_under_the_same_key(answer, pbmcsmall):
    got = answer(pbmcsmall.experiment, PATH, {"type": "leiden", "config": {"resolution": 1}})
    assert (got["key"], got["name"]) == ("louvain", "leiden clusters")
    assert [child["key"] for child in got["children"]] == [f"leiden-{i}" for i in range(5)]
    sizes = [len(child["cellIds"]) for child in got["children"]]
    assert sizes == sorted(sizes, reverse=True)


def blobs(sizes, seed=0):
    """Points around centres: which centre, and 12 coordinates."""
    rng = np.random.default_rng(seed)
    which = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = rng.normal(size=(len(sizes), 12)) * 10
    return which, centres[which] + rng.normal(size=(len(which), 12))


def experiment_of(points, **parts):
    n = len(points)
    made = {"reductions": {"pca": Reduction(points, "PC_")}, "cell_ids": np.arange(n, dtype=np.int32)[::-1] * 2} | parts
    return small_experiment(np.ones((n, 2)), **made)


def members(got):
    return [child["cellIds"] for child in got["children"]]


def test_clusters_hold_cell_ids_in_the_objects_order(answer):
    which, points = blobs([60, 40])
    experiment = experiment_of(points)
    got = answer(experiment, PATH, louvain_at(0.2))
    assert members(got) == [experiment.cell_ids[which == i].tolist() for i in (0, 1)]
    assert [child["color"] for child in got["children"]] == ["#77aadd", "#ee8866"]


def test_the_number_of_threads_changes_nothing(answer):
    experiment = experiment_of(blobs([2500, 2000, 500])[1])
    assert answer(experiment, PATH, louvain_at(1), threads=1) == answer(experiment, PATH, louvain_at(1), threads=3)


def test_the_objects_own_graph_is_used(answer):
    points = np.random.default_rng(1).normal(size=(6, 12))
    # two triangles, in compressed rows with loops
    block = np.ones((3, 3), np.float32)
    matrix = np.kron(np.eye(2, dtype=np.float32), block)
    rows, cells = np.nonzero(matrix)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows))]).astype(np.int64)
    graph = Graph(indptr, cells.astype(np.int32), matrix[rows, cells])
    experiment = experiment_of(points, graphs={"RNA_snn": graph}, reductions={})
    assert members(answer(experiment, PATH, louvain_at(1))) == [[10, 8, 6], [4, 2, 0]]
    damaged = Graph(graph.indptr, graph.cells, np.full_like(graph.weights, np.nan))
    with pytest.raises(WorkerError, match="RNA_snn") as caught:
        answer(experiment_of(points, graphs={"RNA_snn": damaged}), PATH, louvain_at(1))
    assert caught.value.code is ErrorCode.EXPERIMENT_UNREADABLE


def test_a_graph_of_another_assay_is_not_used(answer):
    _, points = blobs([60, 40])
    empty = Graph(np.zeros(101, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    experiment = experiment_of(points, graphs={"SCT_snn": empty}, origin=Origin(kind="platform"))
    assert [len(cells) for cells in members(answer(experiment, PATH, louvain_at(0.2)))] == [60, 40]


def sketched(points, chosen):
    sketch = np.full((len(points), 10), np.nan)
    sketch[chosen] = points[chosen, :10]
    return experiment_of(
        points,
        reductions={"pca.sketch": Reduction(sketch), "pca": Reduction(points)},
        misc=Misc(active_reduction="pca.sketch", color_pool=["#77aadd", "#ee8866"]),
    )


@pytest.mark.parametrize("kind", ["louvain", "leiden"])
def test_clusters_of_a_sketch_are_carried_over_to_all_cells(answer, kind):
    which, points = blobs([900, 700, 500], seed=2)
    experiment = sketched(points, np.arange(0, len(points), 5))
    got = answer(experiment, PATH, {"type": kind, "config": {"resolution": 0.2}})
    assert members(got) == [experiment.cell_ids[which == i].tolist() for i in range(3)]


def test_clusters_of_a_sketch_are_in_the_order_of_text(answer):
    _, points = blobs([200] * 12, seed=4)
    got = answer(sketched(points, np.arange(0, len(points), 2)), PATH, louvain_at(1))
    assert [child["name"] for child in got["children"]][:4] == ["Cluster 0", "Cluster 1", "Cluster 10", "Cluster 11"]


def test_a_sketch_of_one_cluster_is_all(answer):
    _, points = blobs([300])
    got = answer(sketched(points, np.arange(0, 300, 3)), PATH, louvain_at(0))
    assert [child["key"] for child in got["children"]] == ["louvain-all"]
    assert len(members(got)[0]) == 300


@pytest.mark.parametrize("n", [0, 1, 2, 5, 19, 20, 21])
@pytest.mark.parametrize("kind", ["louvain", "leiden"])
def test_few_cells_are_clustered_too(answer, n, kind):
    got = answer(experiment_of(np.random.default_rng(n).normal(size=(n, 5))), PATH, {"type": kind, "config": {}})
    assert sorted(cell for cells in members(got) for cell in cells) == [2 * i for i in range(n)]


def test_a_missing_or_incomplete_reduction_is_reported(answer):
    points = blobs([30])[1]
    with pytest.raises(WorkerError, match=r"'pca'.*is missing: it has none") as caught:
        answer(experiment_of(points, reductions={}), PATH, louvain_at(1))
    assert caught.value.code is ErrorCode.REDUCTION_NOT_FOUND
    points[3] = np.nan
    with pytest.raises(WorkerError, match=r"'pca'.*has no coordinates for 1 of 30 cells"):
        answer(experiment_of(points), PATH, louvain_at(1))
    with pytest.raises(WorkerError, match=r"'pca'.*has no coordinates for 1 of 30 cells"):
        answer(sketched(points, np.arange(10, 30)), PATH, louvain_at(1))


def test_the_body_becomes_a_request_and_defaults_to_a_half(prepare):
    asked = prepare("ClusterCells", {"type": "leiden", "cellSetName": "x", "cellSetKey": "leiden"})
    assert (asked.type, asked.config.resolution) == ("leiden", 0.5)


@pytest.mark.parametrize("method", ["louvain", "leiden"])
def test_progress_is_reported_in_stages_and_never_goes_back(method):
    told = []
    CLUSTER_CELLS.compute(
        experiment_of(blobs([60, 40])[1]),
        CLUSTER_CELLS.request(type=method),
        Context(progress=lambda stage, fraction=None: told.append((stage, fraction))),
    )
    assert list(dict.fromkeys(stage for stage, _ in told)) == [
        "Finding neighbours", "Linking neighbours", "Finding clusters",
    ]  # fmt: skip
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)


def test_the_table_has_a_row_for_each_cell(answer):
    got = answer(experiment_of(blobs([60, 40])[1]), PATH, louvain_at(0.2))
    table = CLUSTER_CELLS.to_tables(got)["cells"]
    assert len(table["cell_id"]) == len(table["cluster"]) == 100
    assert table["cluster"][0] == "Cluster 0"
