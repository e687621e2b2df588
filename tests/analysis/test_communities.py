"""Louvain and Leiden clusters, and labels carried over from a sketch."""

import gzip
import json
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from analysis.slow_louvain import slow_louvain
from cellworker.analysis.graphs import leiden as leiden_module
from cellworker.analysis.graphs.leiden import leiden, modularity
from cellworker.analysis.graphs.louvain import by_falling_size, join_singletons, louvain
from cellworker.analysis.graphs.neighbours import Neighbours, nearest_neighbours
from cellworker.analysis.graphs.projection import carry_over
from cellworker.analysis.graphs.snn import Links, links_of, shared_neighbours

EMPTY = Links(np.zeros(4, np.int64), np.empty(0, np.int32), np.empty(0))


def linked(n, *pairs):
    """A graph of links (a, b, weight)."""
    matrix = np.zeros((n, n))
    for a, b, weight in pairs:
        matrix[a, b] = matrix[b, a] = weight
    rows, cells = np.nonzero(matrix)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    return links_of(indptr, cells, matrix[rows, cells])


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(5)
    which = rng.permutation(np.repeat(np.arange(4), [400, 300, 200, 100]))
    points = rng.normal(size=(4, 8))[which] * 8 + rng.normal(size=(1000, 8))
    return which, shared_neighbours(nearest_neighbours(points, 20, "euclidean").cells)


@pytest.mark.shared
@pytest.mark.parametrize("resolution", ["0.5", "2"])
def test_louvain_labels_are_the_originals(shared, resolution):
    text = gzip.decompress((shared / "golden" / "algorithms" / "snn_louvain.json.gz").read_bytes())
    original = json.loads(text)
    links = shared_neighbours(np.array(original["idx_angular"], np.int32))
    assert louvain(links, float(resolution)).tolist() == original["louvain"][resolution]


@st.composite
def graphs(draw):
    """Graphs of up to 40 nodes, sparse to complete, whose weights tie often or never."""
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights = rng.choice([1 / 3, 0.25, 1 / 7, 1], (n, n)) if draw(st.booleans()) else rng.uniform(1e-3, 1, (n, n))
    kept = np.triu(rng.random((n, n)) < draw(st.sampled_from([0.02, 0.1, 0.3, 1])), 1) * weights
    rows, cells = np.nonzero(kept + kept.T)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    return Links(indptr.astype(np.int64), cells.astype(np.int32), (kept + kept.T)[rows, cells])


@settings(max_examples=150, deadline=None)
@given(graphs(), st.sampled_from([0.0, 0.1, 0.8, 1.7, 5, 40]), st.integers(0, 2**31 - 1))
def test_kept_sums_give_the_labels_of_sums_made_anew_at_every_visit(links, resolution, seed):
    assert louvain(links, resolution, seed=seed).tolist() == slow_louvain(links, resolution, seed=seed)


@pytest.mark.parametrize("method", [louvain, leiden])
def test_clear_groups_are_found_and_numbered_by_falling_size(blobs, method):
    which, links = blobs
    assert np.array_equal(method(links, 0.5), which)


@pytest.mark.parametrize("method", [louvain, leiden])
def test_a_higher_resolution_gives_more_clusters_and_none_gives_one(blobs, method):
    _, links = blobs
    numbers = [method(links, resolution).max() + 1 for resolution in (0.5, 2, 8)]
    assert numbers == sorted(set(numbers))
    whole = linked(3, (0, 1, 1), (1, 2, 1))
    assert method(whole, 0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("method", [louvain, leiden])
def test_clustering_is_repeatable_reports_and_can_be_stopped(blobs, method):
    _, links = blobs
    told = []
    first = method(links, 1.0, on_progress=told.append)
    assert np.array_equal(first, method(links, 1.0))
    assert told == sorted(told)
    assert told[-1] < 1

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        method(links, 1.0, on_progress=stop)


@pytest.mark.parametrize("method", [louvain, leiden])
def test_cells_without_links_stay_alone(method):
    assert method(EMPTY, 1.0).tolist() == [0, 1, 2]
    assert method(linked(4, (1, 3, 3)), 1.0).tolist() == [1, 0, 2, 0]


def test_leiden_is_at_least_as_good_as_the_truth_and_louvain(blobs):
    which, links = blobs
    for resolution in (0.5, 2.0):
        best = modularity(links, leiden(links, resolution), resolution)
        assert best >= modularity(links, which, resolution) - 1e-12
        assert best >= modularity(links, louvain(links, resolution), resolution) - 1e-12


def connected(links, labels):
    """Whether each cluster is one component of the links inside it."""
    rows = np.repeat(np.arange(len(links)), np.diff(links.indptr))
    inside = labels[rows] == labels[links.cells]
    graph = csr_array((links.weights[inside], (rows[inside], links.cells[inside])), shape=(len(links), len(links)))
    return connected_components(graph)[0] == labels.max() + 1


@settings(max_examples=200, deadline=None)
@given(
    graphs(), st.sampled_from([0.1, 0.8, 1.7, 5, 40]), st.sampled_from([0.0, 1.0]), st.integers(0, 2**31 - 1),
    st.sampled_from([1, 6, 3_000]), st.sampled_from([1_000, 20_000_000]),
)  # fmt: skip
def test_leiden_clusters_are_connected_and_no_worse_than_single_cells(links, resolution, loops, seed, small, max_links):
    if not len(links.cells):
        return
    with patch.object(leiden_module, "_SMALL", small):  # the smaller, the more levels
        labels = leiden(links, resolution, seed=seed, loops=loops, max_links=max_links)
    sizes = np.bincount(labels)
    assert (np.diff(sizes) <= 0).all()
    assert sizes.min() > 0
    assert connected(links, labels)
    alone = modularity(links, np.arange(len(links)), resolution, loops=loops)
    assert modularity(links, labels, resolution, loops=loops) >= alone - 1e-12


@pytest.fixture(scope="module")
def many():
    rng = np.random.default_rng(8)
    which = rng.choice(12, 9000, p=rng.dirichlet(np.full(12, 3.0)))
    points = rng.normal(size=(12, 8))[which] * 2 + rng.normal(size=(9000, 8))
    return shared_neighbours(nearest_neighbours(points, 20, "euclidean").cells)


@pytest.mark.parametrize("max_links", [1, 20_000_000])
def test_the_way_by_smaller_graphs_is_as_good_as_searching_the_graph_itself(many, max_links):
    with patch.object(leiden_module, "_SMALL", len(many)):
        itself = leiden(many, 1.0, max_links=max_links)
    labels = leiden(many, 1.0, max_links=max_links)
    assert modularity(many, labels, 1.0) >= modularity(many, itself, 1.0) - 2e-4
    assert connected(many, labels)


def test_communities_too_weak_for_smaller_graphs_are_searched_in_the_graph_itself():
    rng = np.random.default_rng(4)
    matrix = csr_array((np.ones(40_000), rng.integers(0, 4000, (2, 40_000))), shape=(4000, 4000))
    matrix = csr_array(matrix + matrix.T)
    links = links_of(matrix.indptr, matrix.indices, matrix.data)
    with patch.object(leiden_module, "_MUCH_GAIN", 1):
        without = modularity(links, leiden(links, 1.0, loops=0, max_links=1), 1.0, loops=0)
    assert modularity(links, leiden(links, 1.0, loops=0, max_links=1), 1.0, loops=0) > without + 5e-3


@pytest.mark.parametrize("max_links", [1, 20_000_000])
def test_stars_pairs_and_cells_without_links_are_found_in_a_large_graph(max_links):
    hubs = np.repeat([0, 1500], 1499)
    leaves = np.concatenate([np.arange(1, 1500), np.arange(1501, 3000)])
    rows, cells = np.concatenate([hubs, np.arange(3000, 6000, 2)]), np.concatenate([leaves, np.arange(3001, 6000, 2)])
    matrix = csr_array((np.ones(len(rows)), (rows, cells)), shape=(6500, 6500))
    matrix = csr_array(matrix + matrix.T)
    labels = leiden(links_of(matrix.indptr, matrix.indices, matrix.data), 1.0, loops=0, max_links=max_links)
    assert np.bincount(labels).tolist() == [1500] * 2 + [2] * 1500 + [1] * 500
    assert len(set(labels[:1500])) == len(set(labels[1500:3000])) == 1
    assert (labels[3000:6000:2] == labels[3001:6000:2]).all()


def test_a_long_call_in_a_thread_of_its_own_gives_the_same_clusters_and_can_be_stopped(many):
    told = []
    short = leiden(many, 1.0)
    with patch.object(leiden_module, "_MAX_SHORT", -1):
        assert np.array_equal(leiden(many, 1.0, on_progress=told.append), short)
        assert told == sorted(told)
        assert told[-1] < 1

        def stop(fraction):
            if fraction > 0.3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            leiden(many, 1.0, on_progress=stop)


def test_modularity_counts_each_loop_twice():
    # two cells, a link of 1/2 and loops of 1: strengths 2.5, all weight 5
    links = linked(2, (0, 1, 0.5))
    assert modularity(links, np.array([0, 0]), 1.0) == pytest.approx(0)
    assert modularity(links, np.array([0, 1]), 1.0) == pytest.approx(4 / 5 - 1 / 2)


def test_labels_of_equal_size_keep_their_order():
    assert by_falling_size(np.array([5, 3, 3, 9, 9, 5, 9])).tolist() == [2, 1, 1, 0, 0, 2, 0]


def test_a_single_cell_joins_the_cluster_that_it_is_linked_to_most_on_average():
    links = linked(6, (5, 0, 0.5), (5, 1, 0.1), (5, 4, 0.4), (5, 3, 0.4))
    labels = np.array([0, 0, 0, 1, 1, 2], np.int32)
    assert join_singletons(labels, links).tolist() == [0, 0, 0, 1, 1, 1]
    assert labels.tolist() == [0, 0, 0, 1, 1, 2]


def test_a_single_cell_without_links_is_drawn_as_r_draws():
    # set.seed(1); sample(c("1", "0", "2"), 1) is "1", the cluster that comes first among the cells
    labels = np.array([1, 0, 0, 0, 1, 1, 2, 2, 3], np.int32)
    assert join_singletons(labels, linked(9, (0, 4, 1)))[8] == 1


def test_where_every_cluster_is_one_cell_nothing_joins():
    labels = np.arange(3, dtype=np.int32)
    assert join_singletons(labels, EMPTY) is labels


def neighbours(cells, distances):
    return Neighbours(np.array(cells, np.int32), np.array(distances, np.float32))


def test_near_neighbours_outweigh_many_far_ones():
    found = neighbours([[0, 1, 2, 3], [3, 2, 1, 0]], [[0.1, 9, 9, 10], [1, 9.5, 9.6, 10]])
    assert carry_over(found, ["a", "b", "b", "c"]).tolist() == ["a", "c"]


def test_labels_that_weigh_the_same_are_distinguished_by_text():
    found = neighbours([[0, 1], [1, 0], [0, 1]], [[0, 0], [2, 2], [1, 2]])
    assert carry_over(found, ["2", "10"]).tolist() == ["10", "10", "2"]


def test_one_label_becomes_all():
    assert carry_over(neighbours([[0], [0]], [[0], [1]]), ["0"]).tolist() == ["all", "all"]
