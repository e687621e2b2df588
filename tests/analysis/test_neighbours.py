"""The forest of random hyperplane trees and the graph of shared neighbours."""

import gzip
import json
from hashlib import sha256

import numpy as np
import pytest

from cellworker.analysis.graphs.neighbours import nearest_neighbours
from cellworker.analysis.graphs.snn import Links, links_of, shared_neighbours


@pytest.fixture(scope="module")
def cloud():
    rng = np.random.default_rng(3)
    return rng.normal(size=(5000, 6)) + rng.integers(0, 4, (5000, 1)) * 3


@pytest.fixture(scope="session")
def original(shared):
    """800 points in 10 dimensions, and what R made of them."""
    text = gzip.decompress((shared / "golden" / "algorithms" / "snn_louvain.json.gz").read_bytes())
    return json.loads(text)


def dense(links):
    out = np.zeros((len(links), len(links)))
    out[np.repeat(np.arange(len(links)), np.diff(links.indptr)), links.cells] = links.weights
    return out


@pytest.mark.shared
@pytest.mark.parametrize(("metric", "name"), [("cosine", "idx_angular"), ("euclidean", "idx_euclidean")])
def test_the_neighbours_are_the_originals(original, metric, name):
    got = nearest_neighbours(np.array(original["X"]), 20, metric)
    assert got.cells.tolist() == original[name]


@pytest.mark.shared
def test_the_graph_is_the_originals(original):
    got = shared_neighbours(np.array(original["idx_angular"], np.int32))
    want = np.zeros((800, 800))
    want[original["snn"]["i"], original["snn"]["j"]] = original["snn"]["x"]
    np.fill_diagonal(want, 0)
    np.testing.assert_allclose(dense(got), want, rtol=1e-14)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_most_neighbours_are_the_true_ones_and_their_distances_are_right(cloud, metric):
    found = nearest_neighbours(cloud, 10, metric)
    points = cloud / np.linalg.norm(cloud, axis=1, keepdims=True) if metric == "cosine" else cloud
    some = np.arange(0, len(cloud), 50)
    true = np.linalg.norm(points[some, None] - points[None], axis=2)
    recall = np.mean(
        [len(set(found.cells[i]) & set(np.argsort(row)[:10])) / 10 for i, row in zip(some, true, strict=True)]
    )
    assert recall > 0.9
    assert np.all(np.diff(found.distances, axis=1) >= 0)
    np.testing.assert_allclose(
        found.distances[some], np.take_along_axis(true, found.cells[some].astype(int), axis=1), rtol=1e-2, atol=2e-3
    )


def test_the_number_of_threads_changes_nothing(cloud):
    one, three = (nearest_neighbours(cloud, 20, "cosine", threads=threads) for threads in (1, 3))
    assert np.array_equal(one.cells, three.cells)
    assert np.array_equal(one.distances, three.distances)
    graphs = [shared_neighbours(one.cells, threads=threads) for threads in (1, 3)]
    assert graphs[0].weights.tobytes() == graphs[1].weights.tobytes()


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 8, 21])
def test_few_points_find_each_other(n):
    points = np.random.default_rng(n).normal(size=(n, 5))
    found = nearest_neighbours(points, n, "euclidean")
    assert np.array_equal(np.sort(found.cells, axis=1), np.tile(np.arange(n), (n, 1)))
    assert np.array_equal(found.cells[:, 0], np.arange(n))


def test_equal_points_and_zeros_are_neighbours_like_others():
    points = np.zeros((500, 4))
    points[400:] = 1
    for metric in ("cosine", "euclidean"):
        assert nearest_neighbours(points, 20, metric).cells.min() >= 0


@pytest.mark.parametrize(
    ("metric", "dims", "scale", "expected"),
    [
        ("cosine", 3, 1.0, "9a78675e6787be12"),
        ("cosine", 3, 1e-22, "e191d80cf6b9bd57"),
        ("cosine", 10, 1.0, "70bef28678394d6f"),
        ("cosine", 10, 1e-22, "a02d8480777ab681"),
        ("cosine", 17, 1.0, "8d3c89cc18158f14"),
        ("cosine", 17, 1e-22, "4dfe618bd99d3898"),
        ("euclidean", 3, 1.0, "cee9aacad9efb938"),
        ("euclidean", 3, 1e-22, "b754b5770e50ff6e"),
        ("euclidean", 10, 1.0, "c3a434d6c17312f7"),
        ("euclidean", 10, 1e-22, "c2b384681ac48866"),
        ("euclidean", 17, 1.0, "01709a155b13c16f"),
        ("euclidean", 17, 1e-22, "0fe12fe1aa155f45"),
    ],
)
def test_points_as_near_to_one_centre_as_to_the_other_are_parted_as_ever(metric, dims, scale, expected):
    count = 900 * dims
    grid = (np.arange(count, dtype=np.int64) * 2654435761 // 65536 % 3 - 1).reshape(900, dims) * scale
    grid[::7] = 0
    grid[1::7] = -grid[2::7][: len(grid[1::7])]
    grid[3::7] = grid[3]
    found = nearest_neighbours(grid, 20, metric)
    assert sha256(found.cells.tobytes()).hexdigest()[:16] == expected


def test_other_points_can_ask(cloud):
    found = nearest_neighbours(cloud, 1, "euclidean", queries=cloud[::100])
    assert np.array_equal(found.cells[:, 0], np.arange(0, len(cloud), 100))


def test_progress_rises_and_may_stop_the_search(cloud):
    told = []
    nearest_neighbours(cloud, 5, "cosine", n_trees=5, on_progress=told.append)
    assert told == sorted(told)
    assert 0 <= told[0] < told[-1] < 1

    def stop(fraction):
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nearest_neighbours(np.tile(cloud, (4, 1)), 5, "cosine", n_trees=2, on_progress=stop)


@pytest.mark.parametrize(
    ("points", "k"),
    [([[1.0, np.nan]], 1), ([[1e39, 0]], 1), ([[1.0]], 2), ([[1.0]], 0), ([1.0], 1), (np.empty((2, 0)), 1)],
)
def test_impossible_searches_are_refused(points, k):
    with pytest.raises(ValueError):
        nearest_neighbours(np.array(points), k, "euclidean")


def test_weights_are_the_share_of_the_union_and_small_ones_are_left_out():
    lists = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 3], [3, 4, 5], [4, 3, 5], [5, 3, -1]], np.int32)
    got = dense(shared_neighbours(lists, prune=0.3))
    want = np.zeros((6, 6))
    want[0, 1] = want[3, 4] = 3 / 3
    want[0, 2] = want[1, 2] = want[3, 5] = want[4, 5] = 2 / 4
    np.testing.assert_allclose(got, want + want.T)


def test_neighbours_beyond_the_cells_are_refused():
    with pytest.raises(IndexError):
        shared_neighbours(np.array([[0, 2], [1, 0]], np.int32))


def test_a_stored_graph_gets_its_exact_weights_back(cloud):
    links = shared_neighbours(nearest_neighbours(cloud[:600], 17, "cosine").cells)
    again = links_of(links.indptr, links.cells, links.weights.astype(np.float32))
    assert again.weights.tobytes() == links.weights.tobytes()
    assert np.array_equal(again.cells, links.cells)


def test_of_a_stored_graph_what_is_below_the_diagonal_counts():
    # rows: 0 -> 0 (loop), 1 (above); 1 -> 0, 1 (loop); 2 -> 1, and a stored zero
    indptr, cells = np.array([0, 2, 4, 6]), np.array([0, 1, 0, 1, 0, 1])
    got = links_of(indptr, cells, np.array([1, 9, 0.3, 1, 0, 0.2], np.float32))
    want = np.array([[0, 0.3, 0], [0.3, 0, 0.2], [0, 0.2, 0]])
    np.testing.assert_allclose(dense(got), want, rtol=1e-7)
    assert isinstance(got, Links)


@pytest.mark.parametrize("weight", [np.nan, np.inf, -0.5])
def test_impossible_weights_are_refused(weight):
    with pytest.raises(ValueError, match="finite and not negative"):
        links_of(np.array([0, 0, 1]), np.array([0]), np.array([weight], np.float32))
