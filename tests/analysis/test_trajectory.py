"""Whole trajectories: trees whose branches are known, and clouds that are hardly trajectories at all."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
from cellworker.analysis.graphs.partitions import components
from cellworker.analysis.trajectories.pseudotime import chained_pseudotime, pseudotime
from cellworker.analysis.trajectories.trajectory import learn_trajectory


def search(points, k, metric, *, on_progress):
    return fast_neighbours(points, k, metric, threads=2, on_progress=on_progress)


def branching(n, seed):
    """Cells on a stem with two branches, of which one forks again: places, and the true way from the stem's foot."""
    rng = np.random.default_rng(seed)
    fork, tip = [6, 0], [10, 4]
    segments = np.array([[[0, 0], fork], [fork, tip], [fork, [10, -4]], [tip, [15, 4]], [tip, [10, 9]]])
    before = np.array([0, 6, 6, 6 + np.sqrt(32), 6 + np.sqrt(32)])
    which, part = rng.integers(len(segments), size=n), rng.uniform(size=n)
    start, end = segments[which, 0], segments[which, 1]
    points = start + part[:, None] * (end - start) + rng.normal(size=(n, 2)) * 0.25
    return points, before[which] + part * np.linalg.norm(end - start, axis=1)


def learn(points, method="leiden", metric="euclidean", **more):
    return learn_trajectory(np.ascontiguousarray(points, float), method, metric, search, **more)


def test_known_branches_are_found():
    points, truth = branching(3000, 1)
    graph = learn(points)
    assert set(graph.partition.tolist()) == {0}
    root = graph.anchors[[np.argmin((graph.nodes**2).sum(axis=1))]]
    assert spearmanr(pseudotime(graph.nodes, graph.links, graph.places, root), truth)[0] > 0.99
    tips = graph.nodes[np.bincount(graph.links.ravel()) == 1]
    for end in ([0, 0], [10, -4], [15, 4], [10, 9]):
        assert np.linalg.norm(tips - end, axis=1).min() < 1


@pytest.mark.parametrize("method", ["louvain", "leiden"])
def test_simulated_trees_are_found_as_well_as_by_the_original(method):
    agreement = []
    for seed in range(1, 9):
        points, truth = branching(2000, seed)
        graph = learn(points, method)
        root = graph.anchors[[np.argmin((graph.nodes**2).sum(axis=1))]]
        ours = pseudotime(graph.nodes, graph.links, graph.places, root)
        theirs = chained_pseudotime(graph.nodes, graph.links, graph.places, graph.partition, root)
        agreement.append((spearmanr(ours, truth)[0], spearmanr(theirs, truth)[0]))
    ours, theirs = np.mean(agreement, axis=0).round(3)
    assert ours >= theirs > 0.9


def test_islands_are_partitions_with_trees_of_their_own():
    points = np.concatenate([branching(800, 1)[0], branching(500, 2)[0] + [40, 0], branching(300, 3)[0] + [0, 40]])
    graph = learn(points)
    assert graph.partition.tolist() == [0] * 800 + [1] * 500 + [2] * 300
    assert len(np.unique(components(len(graph.nodes), graph.links[:, 0], graph.links[:, 1]))) == 3
    ways = pseudotime(graph.nodes, graph.links, graph.places, np.array([900]))
    assert np.isfinite(ways).tolist() == [False] * 800 + [True] * 500 + [False] * 300


def test_the_metric_is_that_of_the_neighbours():
    points = np.concatenate([branching(500, 1)[0] + [30, 30], 20 * (branching(500, 1)[0] + [30, 30])])
    assert len(set(learn(points).partition.tolist())) > 1
    assert len(set(learn(points, metric="cosine").partition.tolist())) == 1


def test_the_same_bytes_every_time_whatever_the_number_of_threads():
    points, _ = branching(2000, 5)

    def one_thread(points, k, metric, *, on_progress):
        return fast_neighbours(points, k, metric, threads=1, on_progress=on_progress)

    for method in ("louvain", "leiden"):
        a, b = learn(points, method), learn_trajectory(points, method, "euclidean", one_thread)
        for x, y in (
            (a.nodes, b.nodes),
            (a.links, b.links),
            (a.places.part, b.places.part),
            (a.places.other, b.places.other),
        ):
            assert x.tobytes() == y.tobytes()


@pytest.mark.parametrize("method", ["louvain", "leiden"])
@pytest.mark.parametrize(
    "points",
    [
        np.zeros((1, 2)),
        np.array([[0, 0], [1, 0]]),
        np.array([[0, 0], [1, 0], [0, 1]]),
        np.ones((100, 2)),
        np.repeat([[0.0, 0], [5, 5]], 50, axis=0),
        np.column_stack([np.arange(60.0), np.zeros(60)]),
        np.array([[1e15, 0], [-1e15, 1], [0, 3], [0, 4], [0, 5]]),
    ],
    ids=["one cell", "two cells", "three cells", "identical", "two spots", "a line", "far apart"],
)
def test_clouds_that_are_hardly_trajectories_have_one_all_the_same(points, method):
    graph = learn(points, method)
    assert np.isfinite(graph.nodes).all()
    assert len(graph.nodes) >= 1
    assert ((graph.links[:, 0] < graph.links[:, 1]) & (graph.links[:, 1] < len(graph.nodes))).all()
    ways = pseudotime(graph.nodes, graph.links, graph.places, graph.anchors[[0]])
    assert ways[graph.anchors[0]] == 0
    assert np.array_equal(np.isfinite(ways), graph.partition == graph.partition[graph.anchors[0]])


def test_progress_is_reported_by_stage_and_may_stop():
    points, _ = branching(1500, 1)
    stages = []
    learn(points, progress=lambda stage, fraction=None: stages.append((stage, fraction)))
    assert list(dict.fromkeys(stage for stage, _ in stages)) == [
        "Finding neighbours", "Linking neighbours", "Clustering cells", "Finding partitions", "Choosing centres",
        "Growing the tree", "Closing loops", "Placing cells", "Placing nodes",
    ]  # fmt: skip
    fractions = [fraction for _, fraction in stages]
    assert fractions == sorted(fractions), "the bar went back"
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    for last in dict.fromkeys(stage for stage, _ in stages):

        def stop(stage, fraction=None, last=last):
            if stage == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            learn(points, progress=stop)
