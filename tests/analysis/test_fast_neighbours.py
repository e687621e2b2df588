"""The neighbour search for embeddings: exact where it promises to be, near enough elsewhere, the same every time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.analysis.graphs.fast_neighbours import fast_neighbours


def brute(points, k, queries=None):
    """Distances summed in the order of the dimensions in single precision, ties by number, a point itself first."""
    asked = points if queries is None else queries
    squared = np.zeros((len(asked), len(points)), np.float32)
    for d in range(points.shape[1]):
        squared += (asked[:, d : d + 1] - points[None, :, d]) ** 2
    if queries is None:
        np.fill_diagonal(squared, -1)
    cells = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return cells, np.sqrt(np.maximum(np.take_along_axis(squared, cells, 1), 0))


def clusters(n, dims, seed=0, groups=12):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(groups, dims)) * np.linspace(8, 2, dims)
    return (centres[random.integers(groups, size=n)] + random.normal(size=(n, dims))).astype(np.float32)


@pytest.mark.parametrize(("n", "dims"), [(700, 30), (700, 1), (700, 2), (700, 3), (45, 21), (33, 7), (32, 2), (2, 5)])
def test_few_points_are_searched_exactly(n, dims):
    points = clusters(n, dims)
    found = fast_neighbours(points, min(n, 30), "euclidean")
    cells, distances = brute(points, min(n, 30))
    np.testing.assert_array_equal(found.cells, cells)
    np.testing.assert_array_equal(found.distances, distances)
    assert (found.cells.dtype, found.distances.dtype) == (np.int32, np.float32)


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=2, max_size=2), min_size=1, max_size=90),
    st.integers(1, 90),
    st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=2), max_size=5),
)
def test_ties_go_by_number_and_a_point_comes_first_among_equals(rows, k, asked):
    points, k = np.array(rows, np.float32), min(k, len(rows))
    np.testing.assert_array_equal(fast_neighbours(points, k, "euclidean").cells, brute(points, k)[0])
    queries = np.array(asked, np.float32).reshape(-1, 2)
    np.testing.assert_array_equal(
        fast_neighbours(points, k, "euclidean", queries=queries).cells, brute(points, k, queries)[0]
    )


def test_queries_find_points():
    points, queries = clusters(900, 12), clusters(50, 12, seed=1)
    found = fast_neighbours(points, 5, "euclidean", queries=queries)
    cells, distances = brute(points, 5, queries)
    np.testing.assert_array_equal(found.cells, cells)
    np.testing.assert_array_equal(found.distances, distances)


def test_cosine_is_the_distance_of_unit_vectors():
    points = clusters(400, 10)
    unit = points / np.linalg.norm(points.astype(float), axis=1, keepdims=True)
    found = fast_neighbours(points * np.linspace(0.01, 100, 400)[:, None], 10, "cosine")
    np.testing.assert_allclose(found.distances, brute(unit, 10)[1], atol=1e-6)
    assert np.mean(found.cells == brute(unit, 10)[0]) > 0.99


def test_zero_vectors_are_at_a_right_angle_to_all_others_under_cosine():
    points = np.array([[3, 0], [0, 0], [0, 2], [0, 0]], float)
    found = fast_neighbours(points, 4, "cosine")
    assert found.cells.tolist() == [[0, 1, 2, 3], [1, 3, 0, 2], [2, 0, 1, 3], [3, 1, 0, 2]]
    np.testing.assert_allclose(found.distances[1], [0, 0, 2**0.5, 2**0.5], rtol=1e-6)
    alone = fast_neighbours(points[[0, 2]], 1, "cosine", queries=np.zeros((1, 2)))
    np.testing.assert_allclose(alone.distances, [[2**0.5]], rtol=1e-6)


@pytest.fixture(scope="module")
def many():
    return clusters(21_000, 30, groups=40)


def test_many_points_are_searched_nearly_exactly_and_the_same_with_any_number_of_threads(many):
    found = fast_neighbours(many, 30, "euclidean")
    again = fast_neighbours(many, 30, "euclidean", threads=3)
    assert found.cells.tobytes() == again.cells.tobytes()
    assert found.distances.tobytes() == again.distances.tobytes()
    some = np.arange(0, len(many), 70)
    true = brute(many, 30, many[some])[0]
    hits = [len(np.intersect1d(*pair)) for pair in zip(found.cells[some], true, strict=True)]
    assert np.mean(hits) / 30 > 0.97
    np.testing.assert_array_equal(found.cells[:, 0], np.arange(len(many)))
    assert (np.diff(found.distances, axis=1) >= 0).all()
    assert all(len(set(row)) == 30 for row in found.cells[some].tolist())


def test_new_points_are_looked_up_among_many(many):
    queries = many[:300] + np.float32(0.01)
    found = fast_neighbours(many, 10, "euclidean", queries=queries)
    hits = [len(np.intersect1d(*pair)) for pair in zip(found.cells, brute(many, 10, queries)[0], strict=True)]
    assert np.mean(hits) / 10 > 0.97


def test_where_the_nearest_lists_do_not_suffice_everything_is_looked_at():
    """Thousands of lists of a single point: 64 of them hold fewer than 100 neighbours."""
    random = np.random.default_rng(0)
    points = np.zeros((20_500, 4), np.float32)
    points[::205] = random.normal(size=(100, 4)) * 1000  # where the first centres are
    found = fast_neighbours(points, 120, "euclidean", queries=points[:210])
    np.testing.assert_array_equal(found.distances, brute(points, 120, points[:210])[1])


def test_equal_points_are_found():
    points = np.ones((20_100, 4), np.float32)
    found = fast_neighbours(points, 3, "euclidean")
    assert not found.distances.any()
    assert found.cells[100].tolist() == [100, 0, 1]


@pytest.mark.parametrize(
    ("points", "k", "queries"),
    [
        (np.zeros((4, 2)), 5, None),
        (np.zeros((4, 2)), 0, None),
        (np.zeros((0, 2)), 1, None),
        (np.zeros((4, 0)), 1, None),
        (np.zeros(4), 1, None),
        (np.array([[0, np.nan], [1, 1]]), 1, None),
        (np.array([[0, np.inf], [1, 1]]), 1, None),
        (np.array([[0, 1e300], [1, 1]]), 1, None),
        (np.zeros((4, 2)), 1, np.zeros((1, 3))),
        (np.zeros((4, 2)), 1, np.array([[np.nan, 0]])),
    ],
)
def test_what_cannot_be_searched_is_refused(points, k, queries):
    with pytest.raises(ValueError, match=r"cannot find|dimensions|finite|matrix"):
        fast_neighbours(points, k, "euclidean", queries=queries)


def test_nothing_asked_nothing_found():
    found = fast_neighbours(np.zeros((4, 2)), 3, "euclidean", queries=np.zeros((0, 2)))
    assert found.cells.shape == found.distances.shape == (0, 3)


@pytest.mark.parametrize("n", [5000, 21_000])
def test_progress_rises_and_can_stop_the_search(many, n):
    told = []
    fast_neighbours(many[:n], 15, "euclidean", on_progress=told.append)
    assert told == sorted(told)
    assert len(told) > 3
    assert told[-1] < 1

    def stop(fraction):
        if fraction > 0.3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fast_neighbours(many[:n], 15, "euclidean", on_progress=stop)
