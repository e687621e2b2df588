"""GetTrajectoryAnalysisStartingNodes and GetTrajectoryAnalysisPseudoTime."""

import json

import numpy as np
import orjson
import pytest
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

import goldens
from cellworker import OpenExperiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.formats.opening.open import open_experiment
from cellworker.settings import Settings
from cellworker.tasks import catalog, trajectory
from cellworker.tasks.steps import earlier_requests
from cellworker.tasks.task import PrepareInput

NODES, TIME = "runTrajectoryAnalysisStartingNodesTask", "runTrajectoryAnalysisPseudoTimeTask"
SMALL = goldens.names(goldens.PBMCSMALL, "TrajectoryStartingNodes")
SMALL_TIMES = [name for name in goldens.names(goldens.PBMCSMALL, "TrajectoryPseudoTime") if "no-roots" not in name]


def places(response):
    return np.column_stack([goldens.floats(response["x"]), goldens.floats(response["y"])])


def starting_nodes_of(folder, case):
    return goldens.read(folder, "TrajectoryStartingNodes-" + "-".join(case.split("-")[1:-1]))


def apart(a, b):
    worst = max(np.quantile(cKDTree(b).query(a)[0], 0.95), np.quantile(cKDTree(a).query(b)[0], 0.95))
    return worst / np.ptp(b, axis=0).max()


def ways(answer, experiment, folder, case, **more):
    """Ours and the original's pseudotime from the same roots."""
    want, nodes = goldens.read(folder, case), starting_nodes_of(folder, case)
    ours = places(answer(experiment, NODES, nodes["request"], **more))
    theirs = places(nodes["response"])[goldens.many(want["request"]["root_nodes"])]
    roots = sorted({int(i) for i in cKDTree(ours).query(theirs)[1]})
    got = answer(experiment, TIME, {**want["request"], "root_nodes": roots}, **more)["pseudotime"]
    wanted = [x if isinstance(x, float | int) else np.nan for x in want["response"]["pseudotime"]]
    assert len(got) == len(wanted)
    return goldens.floats(got), np.array(wanted, float)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("case", SMALL)
def test_the_graph_is_the_originals(answer, pbmcsmall, case, exact):
    golden = goldens.read(goldens.PBMCSMALL, case)
    got = answer(pbmcsmall.experiment, NODES, golden["request"], like_original=exact)
    assert sorted(map(tuple, places(got).round(9))) == sorted(map(tuple, places(golden["response"]).round(9)))
    assert sum(map(len, got["connectedNodes"])) == golden["intermediate"]["n_edges"]
    assert all(other > node for node, others in enumerate(got["connectedNodes"]) for other in others)


@pytest.mark.parametrize("case", SMALL_TIMES)
def test_pseudotime_is_much_like_the_originals(answer, pbmcsmall, case):
    got, wanted = ways(answer, pbmcsmall.experiment, goldens.PBMCSMALL, case)
    assert np.array_equal(np.isfinite(got), np.isfinite(wanted))
    there = np.isfinite(got)
    assert spearmanr(got[there], wanted[there])[0] > 0.94


@pytest.mark.parametrize("case", [case for case in SMALL_TIMES if "louvain" in case])
def test_pseudotime_is_the_originals_to_the_last_digits_where_asked(answer, pbmcsmall, case):
    got, wanted = ways(answer, pbmcsmall.experiment, goldens.PBMCSMALL, case, like_original=True)
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def worm(shared, tmp_path_factory):
    settings = Settings(store_dir=tmp_path_factory.mktemp("store"))
    return open_experiment(shared / "data" / "experiments" / "worm" / "v4", settings), shared / "golden" / "worm"


@pytest.mark.shared
def test_the_worms_embryo_is_the_originals_to_the_last_digits_where_asked(answer, worm, tmp_path):
    opened, folder = worm
    cases = [case for case in goldens.names(folder, "TrajectoryPseudoTime") if "no-roots" not in case]
    assert len(cases) == 5
    for case in cases:
        got, wanted = ways(answer, opened.experiment, folder, case, like_original=True, kept=tmp_path / "kept")
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9, err_msg=case)


@pytest.mark.shared
def test_the_worms_embryo_is_much_like_the_originals(answer, worm, tmp_path):
    opened, folder = worm
    for case in [case for case in goldens.names(folder, "TrajectoryPseudoTime") if "no-roots" not in case]:
        got, wanted = ways(answer, opened.experiment, folder, case, kept=tmp_path / "kept")
        assert np.array_equal(np.isfinite(got), np.isfinite(wanted)), case
        there = np.isfinite(got)
        assert spearmanr(got[there], wanted[there])[0] > 0.96, case
    for case in goldens.names(folder, "TrajectoryStartingNodes"):
        golden = goldens.read(folder, case)
        got = answer(opened.experiment, NODES, golden["request"], kept=tmp_path / "kept")
        assert apart(places(got), places(golden["response"])) < 0.02, case


@pytest.mark.shared
@pytest.mark.parametrize("method", ["leiden", "louvain"])
def test_the_embryos_time_is_found_as_well_as_by_the_original(answer, worm, method, tmp_path):
    """The roots are where the youngest cells are, in each part that the graph joins."""
    opened, folder = worm
    experiment = opened.experiment
    age = np.asarray(experiment.metadata["embryo.time"], float)
    golden = goldens.read(folder, f"TrajectoryStartingNodes-{method}-all")
    request = golden["request"]
    points = np.array([request["embedding"][cell] for cell in experiment.cell_ids.tolist()], float)
    agreement = {}
    for exact in (False, True):
        kept = {"like_original": exact, "kept": tmp_path / "kept"}
        nodes = places(answer(experiment, NODES, request, **kept))
        told, left = [], np.ones(len(points), bool)
        while left.any():
            there = np.flatnonzero(left)
            near = there[cKDTree(points[there]).query(points[there], min(20, len(there)))[1]]
            first = points[there[np.argmin(age[near].mean(axis=1))]]
            root = int(cKDTree(nodes).query(first)[1])
            way = goldens.floats(answer(experiment, TIME, {**request, "root_nodes": [root]}, **kept)["pseudotime"])
            reached = np.isfinite(way[experiment.cell_ids])
            told.append((int(reached.sum()), spearmanr(way[experiment.cell_ids][reached], age[reached])[0]))
            left &= ~reached
        agreement[exact] = sum(n * rho for n, rho in told) / sum(n for n, _ in told)
    assert agreement[False] >= agreement[True] > 0.7


@pytest.mark.shared
def test_the_graphs_of_several_samples_are_the_originals(answer, shared, tmp_path_factory):
    settings = Settings(store_dir=tmp_path_factory.mktemp("store"))
    opened = open_experiment(shared / "data" / "experiments" / "multisample" / "v4", settings)
    folder = shared / "golden" / "multisample"
    golden = goldens.read(folder, "TrajectoryStartingNodes-leiden-all")
    got = answer(opened.experiment, NODES, golden["request"])
    assert len(got["x"]) == len(golden["response"]["x"])
    assert apart(places(got), places(golden["response"])) < 1e-4
    got, wanted = ways(
        answer, opened.experiment, folder, "TrajectoryPseudoTime-louvain-subset012-root1", like_original=True
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


# ---- what else is asked


@pytest.fixture
def asked():
    request = goldens.read(goldens.PBMCSMALL, "TrajectoryStartingNodes-louvain-all")["request"]
    return lambda **changes: {**request, **changes}


def test_choosing_roots_does_not_learn_the_graph_again(answer, pbmcsmall, asked, tmp_path, monkeypatch):
    experiment, kept = pbmcsmall.experiment, tmp_path / "kept"
    first = answer(experiment, NODES, asked(), kept=kept)
    fresh = answer(experiment, TIME, asked(root_nodes=[1]))

    def learn(*_, **__):
        raise AssertionError("learnt again")

    monkeypatch.setattr(trajectory, "learn_trajectory", learn)
    assert answer(experiment, TIME, asked(root_nodes=[1]), kept=kept) == fresh
    assert answer(experiment, NODES, asked(), kept=kept) == first
    moved = [[1.5, 2.5], *asked()["embedding"][1:]]
    others = (
        {"clustering_settings": {"method": "leiden"}},
        {"cell_ids": asked()["cell_ids"][:40]},
        {"embedding": [[x + 1 if isinstance(x, float) else x for x in row] for row in moved]},
    )
    for changes in others:
        with pytest.raises(AssertionError, match="learnt again"):
            answer(experiment, NODES, asked(**changes), kept=kept)
    with pytest.raises(AssertionError, match="learnt again"):
        answer(experiment, NODES, asked(), kept=kept, like_original=True)


@pytest.mark.parametrize("roots", [[], None])
def test_without_roots_the_error_is_the_originals(answer, pbmcsmall, asked, prepare, roots):
    with pytest.raises(WorkerError, match=r"^R_WORKER_\w+: No root nodes were selected for the analysis\.$") as caught:
        answer(pbmcsmall.experiment, TIME, asked(**({} if roots is None else {"root_nodes": roots})))
    assert caught.value.code is ErrorCode.R_WORKER_TRAJECTORY_ANALYSIS_EMPTY_ROOT_NODES


def test_a_root_that_does_not_exist_is_named_with_those_that_do(answer, pbmcsmall, asked):
    with pytest.raises(WorkerError, match=r"no node 46; .* nodes 0 to 45") as caught:
        answer(pbmcsmall.experiment, TIME, asked(root_nodes=[3, 46]))
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_the_nearest_cell_of_a_root_has_pseudotime_0_and_missing_cells_have_none(answer, pbmcsmall, asked):
    cells = asked()["cell_ids"]
    table = [list(row) for row in asked()["embedding"]]
    table[cells[0]], table[cells[1]], table[cells[2]] = None, [], ["NA", "NA"]
    table[cells[3]] = [1.0, "NaN"]
    got = answer(pbmcsmall.experiment, TIME, asked(embedding=table, root_nodes=0))["pseudotime"]
    assert len(got) == max(cells) + 1
    assert [got[cell] for cell in cells[:4]] == [None] * 4
    assert min(x for x in got if x is not None) == 0
    assert [x for cell, x in enumerate(got) if cell not in set(cells) and x is not None] == []


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"cell_ids": [10**6]}, ErrorCode.R_WORKER_EMPTY_CELL_SET, "None of the selected cells is left"),
        ({"cell_ids": []}, ErrorCode.R_WORKER_EMPTY_CELL_SET, "None of the selected cells is left"),
        ({"embedding": []}, ErrorCode.INVALID_INPUT, "embedding: none of the selected cells has coordinates"),
        ({"embedding": {"x": 1}}, ErrorCode.INVALID_INPUT, "embedding: expected two coordinates"),
        ({"embedding": [[1, [2]]]}, ErrorCode.INVALID_INPUT, "embedding: expected two coordinates"),
        ({"embedding": [[1, 2, 3, 4]] * 200}, ErrorCode.INVALID_INPUT, "embedding: some cells have 4 coordinates"),
        ({"embedding": [[1e300, 0]] * 200}, ErrorCode.INVALID_INPUT, "embedding: coordinates must not be larger"),
        ({"clustering_settings": {"method": "kmeans"}}, ErrorCode.INVALID_INPUT, "expected louvain or leiden"),
    ],
)
def test_what_cannot_have_a_trajectory_is_reported_why(answer, pbmcsmall, asked, changes, code, words):
    with pytest.raises(WorkerError, match=words) as caught:
        answer(pbmcsmall.experiment, NODES, asked(**changes))
    assert caught.value.code is code


@pytest.mark.parametrize("n", [1, 2, 3])
def test_very_few_cells_have_an_answer(answer, pbmcsmall, asked, n):
    cells = asked()["cell_ids"][:n]
    got = answer(pbmcsmall.experiment, NODES, asked(cell_ids=cells[0] if n == 1 else cells))
    assert 1 <= len(got["x"]) == len(got["y"]) == len(got["connectedNodes"]) <= n
    reached = answer(pbmcsmall.experiment, TIME, asked(cell_ids=cells, root_nodes=[0]))["pseudotime"]
    assert min(x for x in reached if x is not None) == 0


def test_identical_places_have_an_answer(answer, pbmcsmall, asked):
    got = answer(pbmcsmall.experiment, TIME, asked(embedding=[[1, 2]] * 200, root_nodes=[0]))["pseudotime"]
    assert {x for x in got if x is not None} == {0}


# ---- from the body to the engine's request, and from the answer to tables

BODY = {
    "embedding": {"method": "umap", "methodSettings": {"distanceMetric": "cosine"}, "ETag": "e0"},
    "clustering": {"method": "leiden", "resolution": 0.8},
    "cellSets": ["a", "b-0"],
}
SETS = CellSets.parse(
    json.dumps(
        {
            "cellSets": [
                {"key": "a", "name": "A", "children": [
                    {"key": "a-0", "name": "0", "cellIds": [4, 0]}, {"key": "a-1", "name": "1", "cellIds": [2]},
                ]},
                {"key": "b", "name": "B", "children": [
                    {"key": "b-0", "name": "0", "cellIds": [2, 3]}, {"key": "b-1", "name": "1", "cellIds": [1]},
                ]},
            ]
        }
    ).encode()
)  # fmt: skip


def prepared(name, earlier=b"[[1.5,2.0],null,[],[3.0,4.0]]", **changes):
    task = catalog.find(name)
    body = task.read_body({"name": name, **BODY, **changes})
    return orjson.loads(orjson.dumps(_plain(task.prepare(PrepareInput(body, None, SETS, earlier)))))


def _plain(request):
    import msgspec

    return msgspec.json.decode(msgspec.json.encode(request))


def test_the_engine_is_asked_what_the_original_is_asked():
    request = prepared("GetTrajectoryAnalysisPseudoTime", rootNodes=[0, 2])
    assert request == {
        "embedding": [[1.5, 2.0], ["NA", "NA"], [], [3.0, 4.0]],
        "cell_ids": [0, 2, 3, 4],
        "embedding_settings": {"method": "umap", "methodSettings": {"distanceMetric": "cosine"}},
        "clustering_settings": {"method": "leiden", "resolution": 0.8},
        "root_nodes": [0, 2],
    }
    assert "root_nodes" not in prepared("GetTrajectoryAnalysisStartingNodes")


def test_the_embedding_is_the_earlier_result_of_the_etag():
    task = catalog.find("GetTrajectoryAnalysisStartingNodes")
    earlier = task.earlier(task.read_body({"name": task.name, **BODY}))
    assert (earlier.etag, earlier.field) == ("e0", "body.embedding.ETag")
    asked = list(earlier_requests(earlier, catalog.find))
    assert [(task.name, request.type, request.use_saved) for task, request in asked] == [
        ("GetEmbedding", "umap", True), ("GetEmbedding", "umap", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cellSets": ["nope"]}, "body.cellSets: .*'nope'"),
        ({"cellSets": []}, "body.cellSets: expected the keys"),
        ({"clustering": {"method": "kmeans"}}, "body.clustering.method: expected louvain or leiden, found 'kmeans'"),
    ],
)
def test_bodies_that_cannot_be_understood_are_refused_by_field(changes, words):
    with pytest.raises(WorkerError, match=words):
        prepared("GetTrajectoryAnalysisStartingNodes", **changes)


def test_a_body_without_roots_is_refused_before_the_engine_is_asked():
    with pytest.raises(WorkerError) as caught:
        prepared("GetTrajectoryAnalysisPseudoTime", rootNodes=[])
    assert caught.value.code is ErrorCode.R_WORKER_TRAJECTORY_ANALYSIS_EMPTY_ROOT_NODES


def test_a_notebook_needs_no_etag(pbmcsmall, monkeypatch):
    opened = OpenExperiment(pbmcsmall.experiment, pbmcsmall.cell_sets, settings=Settings(threads=1))
    question = {"embedding": {"method": "umap"}, "cellSets": ["louvain"]}
    frames = opened.run("GetTrajectoryAnalysisStartingNodes", **question)
    assert list(frames) == ["nodes", "links"]
    assert list(frames["nodes"].columns) == ["node", "x", "y"]
    assert (frames["links"]["from"] < frames["links"]["to"]).all()
    monkeypatch.setattr(trajectory, "learn_trajectory", None)  # what the first call learnt is kept
    table = opened.run("GetTrajectoryAnalysisPseudoTime", **question, rootNodes=[0])
    assert list(table.columns) == ["cell_id", "pseudotime"]
    assert table["pseudotime"].min() == 0
    assert len(table) == 80  # what the root does not reach has a row, without a number
    assert table["pseudotime"].isna().any()
    opened.close()
