"""Principal graphs: k-means, trees, loops, places and pseudotime, piece by piece."""

import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra, minimum_spanning_tree
from scipy.spatial.distance import cdist

from cellworker.analysis.graphs.multilevel import multilevel
from cellworker.analysis.graphs.neighbour_links import merged, neighbour_links
from cellworker.analysis.graphs.partitions import link_tests, partitions
from cellworker.analysis.graphs.snn import Links, links_of
from cellworker.analysis.trajectories.graph_projection import Places, project
from cellworker.analysis.trajectories.igraph_random import igraph_shuffle
from cellworker.analysis.trajectories.plane_kmeans import plane_kmeans
from cellworker.analysis.trajectories.plane_order import plane_order
from cellworker.analysis.trajectories.principal_graph import nearest_nodes, principal_tree, shortest_tree
from cellworker.analysis.trajectories.principal_loops import RootedTree, loop_links, pruned
from cellworker.analysis.trajectories.pseudotime import chained_pseudotime, pseudotime

coordinate = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))
clouds = st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=60).map(lambda rows: np.array(rows, float))


def tree_of(n, *links):
    return RootedTree.of(n, np.array(links, np.int32).reshape(-1, 2))


def chain(n):
    return [(i, i + 1) for i in range(n - 1)]


# ---- neighbours and clusters


def test_mutual_neighbours_are_linked_twice():
    links = neighbour_links(np.array([[1, 2], [0, 2], [3, -1], [2, 0]], np.int32))
    rows = np.repeat(np.arange(4), np.diff(links.indptr))
    assert list(zip(rows.tolist(), links.cells.tolist(), links.weights.tolist(), strict=True)) == [
        (0, 1, 2), (0, 2, 1), (0, 3, 1), (1, 0, 2), (1, 2, 1), (2, 0, 1), (2, 1, 1), (2, 3, 2), (3, 0, 1), (3, 2, 2),
    ]  # fmt: skip


def test_a_neighbour_that_is_no_cell_is_refused():
    with pytest.raises(IndexError):
        neighbour_links(np.array([[5]], np.int32))


@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_the_neighbour_graph_is_the_lists_and_their_reverse(n, k, seed):
    rng = np.random.default_rng(seed)
    lists = np.array([rng.permutation([j for j in range(n) if j != i])[:k] for i in range(n)], np.int32)
    links = neighbour_links(lists)
    dense = np.zeros((n, n))
    dense[np.repeat(np.arange(n), np.diff(links.indptr)), links.cells] = links.weights
    one_way = np.zeros((n, n))
    one_way[np.arange(n)[:, None], lists] = 1
    assert np.array_equal(dense, one_way + one_way.T)
    groups = rng.integers(3, size=n).astype(np.int32)
    groups[:3] = [0, 1, 2][: min(n, 3)]
    network = merged(links, groups)
    size = groups.max() + 1
    member = np.eye(size)[groups]
    between = member.T @ dense @ member
    np.fill_diagonal(between, 0)
    got = np.zeros((size, size))
    got[np.repeat(np.arange(size), np.diff(network.indptr)), network.cells] = network.weights
    assert np.array_equal(got, between)
    assert network.strength.tolist() == np.bincount(groups).tolist()


@pytest.mark.parametrize("thorough", [False, True])
def test_louvain_finds_rings_of_cliques_and_says_their_modularity(thorough):
    n, size = 8, 6
    matrix = np.kron(np.eye(n), np.ones((size, size)) - np.eye(size))
    for c in range(n):
        a, b = c * size, ((c + 1) % n) * size + 1
        matrix[a, b] = matrix[b, a] = 1
    links = links_of(
        np.concatenate([[0], np.cumsum((matrix > 0).sum(axis=1))]), np.nonzero(matrix)[1], matrix[matrix > 0]
    )
    labels, quality = multilevel(links, lambda n: np.arange(n, dtype=np.int32), thorough=thorough)
    assert np.array_equal(labels, np.repeat(np.arange(n), size))
    whole = matrix.sum()
    share = matrix.sum(axis=1).reshape(n, size).sum(axis=1) / whole
    assert quality == pytest.approx(n * size * (size - 1) / whole - (share**2).sum())


def test_a_search_for_clusters_can_be_stopped():
    def stop(_):
        raise KeyboardInterrupt

    links = neighbour_links(np.array([[1], [0], [1]], np.int32))
    with pytest.raises(KeyboardInterrupt):
        multilevel(links, igraph_shuffle(1), on_progress=stop)


def test_a_graph_without_links_has_single_cells():
    labels, quality = multilevel(Links(np.zeros(4, np.int64), np.empty(0, np.int32), np.empty(0)), igraph_shuffle(1))
    assert (labels.tolist(), quality) == ([0, 1, 2], 0.0)


def test_a_shuffle_is_a_permutation_that_goes_on_from_call_to_call():
    shuffle = igraph_shuffle(1)
    first, second = shuffle(50).tolist(), shuffle(50).tolist()
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert igraph_shuffle(1)(50).tolist() == first


def test_an_isolated_cluster_counts_in_holms_correction():
    """The worked example of algorithms.md, section 11.2."""
    links = links_of(np.array([0, 1, 2, 2]), np.array([1, 0]), np.ones(2))
    clusters = np.array([0, 1, 2], np.int32)
    tested = link_tests(links, clusters)
    assert tested.adjusted == pytest.approx([0.8284, 0.8284], abs=1e-3)
    assert tested.isolated.tolist() == [False, False, True]
    assert partitions(links, clusters).tolist() == [0, 1, 2]


def test_one_cluster_is_one_partition():
    links = links_of(np.array([0, 1, 2]), np.array([1, 0]), np.ones(2))
    assert partitions(links, np.zeros(2, np.int32)).tolist() == [0, 0]


# ---- points in the plane


@given(clouds)
def test_an_order_along_a_curve_holds_every_point_once(points):
    assert sorted(plane_order(points).tolist()) == list(range(len(points)))


def test_neighbours_in_the_plane_are_near_in_the_order():
    side = np.arange(32.0)
    points = np.array(list(itertools.product(side, side)))[np.random.default_rng(0).permutation(1024)]
    steps = np.linalg.norm(np.diff(points[plane_order(points)], axis=0), axis=1)
    assert np.median(steps) <= np.sqrt(2)


@given(clouds, st.integers(1, 12))
def test_no_point_would_be_better_off_in_another_cluster(points, k):
    k = min(k, len(points))
    own = plane_kmeans(points, points[:k].copy())
    assert own.min() >= 0
    assert own.max() < k
    sizes = np.bincount(own, minlength=k)
    there = np.flatnonzero(sizes)
    means = np.array([points[own == c].mean(axis=0) for c in there])
    squares = cdist(points, means) ** 2
    rank = np.searchsorted(there, own)
    size = sizes[there]
    mine = squares[np.arange(len(points)), rank]
    leaving = np.where(size[rank] > 1, mine * size[rank] / np.maximum(size[rank] - 1, 1), 0)
    joining = squares * (size / (size + 1))
    joining[np.arange(len(points)), rank] = np.inf
    assert (leaving <= joining.min(axis=1) + 1e-6 * (1 + leaving)).all()


def test_r_puts_every_point_into_the_same_cluster():
    """Also where the last point of a pass has a cluster to go to that is not one of its nearest two."""
    path = Path(__file__).parent.parent / "fixtures" / "kmeans" / "kmeans.json.gz"
    cases = json.loads(gzip.decompress(path.read_bytes()))
    for name, case in cases.items():
        own = plane_kmeans(np.array(case["points"], float), np.array(case["start"], float))
        assert own.tolist() == case["cluster"], name


def test_identical_points_are_one_cluster():
    points = np.ones((10, 2))
    assert plane_kmeans(points, points[:3].copy()).tolist() == [0] * 10


@given(clouds, clouds)
def test_the_nearest_node_is_the_nearest(points, nodes):
    found = nearest_nodes(points, nodes)
    distances = ((points[:, None] - nodes[None]) ** 2).sum(axis=2)
    assert np.array_equal(distances[np.arange(len(points)), found], distances.min(axis=1))


# ---- trees


@given(clouds)
def test_the_shortest_tree_is_as_short_as_scipys(points):
    points = np.unique(points, axis=0)
    links = shortest_tree(points)
    assert links.shape == (len(points) - 1, 2)
    squares = cdist(points, points) ** 2
    assert sorted(RootedTree.of(len(points), links).order) == list(range(len(points)))
    assert squares[links[:, 0], links[:, 1]].sum() == pytest.approx(minimum_spanning_tree(squares).sum())


def test_the_tree_of_the_worked_example():
    """Numbers of algorithms.md, section 11.3."""
    points = np.array([[0, 0], [1, 0.1], [2, -0.1], [3, 0.2], [3.2, 1]])
    tree = principal_tree(points, points[[0, 2, 4]])
    assert tree.objectives == pytest.approx([14.164757063, 2.857029263, 2.856893938, 2.856893938], abs=1e-9)
    assert tree.nodes == pytest.approx(
        np.array([[1.4030303, 0.1560606], [1.8545454, 0.2090909], [2.2696969, 0.3393940]]), abs=1e-6
    )
    assert tree.links.tolist() == [[0, 1], [1, 2]]
    first = principal_tree(points, points[[0, 2, 4]], rounds=1).nodes
    assert first == pytest.approx(np.array([[1.4012039, 0.1558909], [1.847049, 0.2081737], [2.2646993, 0.3387825]]))


@settings(max_examples=30)
@given(clouds, st.integers(1, 8), st.floats(0.01, 10))
def test_a_round_solves_the_dense_equations(points, n_nodes, sigma):
    start = np.unique(points, axis=0)[:n_nodes]
    got = principal_tree(points, start, sigma=sigma, rounds=1)
    squares = ((points[:, None] - start[None]) ** 2).sum(axis=2)
    shares = np.exp(-(squares - squares.min(axis=1, keepdims=True)) / sigma)
    misfit = -sigma * (np.log(shares.sum(axis=1)) - squares.min(axis=1) / sigma).sum()
    shares /= shares.sum(axis=1, keepdims=True)
    links = np.zeros((len(start), len(start)))
    for a, b in got.links.tolist():
        links[a, b] = links[b, a] = 1
    between = cdist(start, start) ** 2
    system = 2 * (np.diag(links.sum(axis=1)) - links) + 0.5 * np.diag(shares.sum(axis=0))
    wanted = np.linalg.lstsq(system, 0.5 * shares.T @ points, rcond=None)[0]
    assert got.objectives[0] == pytest.approx((links * between).sum() + 0.5 * misfit, rel=1e-9, abs=1e-9)
    if np.linalg.cond(system) < 1e8:
        assert got.nodes == pytest.approx(wanted, rel=1e-6, abs=1e-4)


def test_the_tree_can_be_stopped_and_reports_its_progress():
    points = np.random.default_rng(0).normal(size=(200, 2))
    told = []
    principal_tree(points, points[:20].copy(), on_progress=told.append)
    assert told == sorted(told)
    assert 0 <= told[0] <= told[-1] <= 1


# ---- loops and branches


def test_a_rooted_tree_knows_ways_and_longest_paths():
    tree = tree_of(6, (0, 1), (1, 2), (1, 3), (3, 4), (3, 5))
    assert tree.order == [0, 1, 2, 3, 4, 5]
    assert tree.way(2, 5) == [2, 1, 3, 5]
    assert tree.way(4, 4) == [4]
    assert tree.longest() == [4, 4, 1, 3, 1, 1]
    assert tree.tips.tolist() == [True, False, True, False, True, True]


def test_short_branches_are_cut_and_long_ones_stay():
    links = [*chain(30), (10, 30), (30, 31), (15, 32), *[(i, i + 1) for i in range(32, 44)]]
    kept, _ = pruned(tree_of(45, *links), np.empty((0, 2), np.int32))
    assert np.flatnonzero(~kept).tolist() == [30, 31]


def test_a_small_tree_stays_as_it_is():
    kept, _ = pruned(tree_of(5, (0, 1), (1, 2), (1, 3), (3, 4)), np.empty((0, 2), np.int32))
    assert kept.all()


def test_a_branch_that_is_part_of_a_loop_stays_and_a_narrow_loop_goes():
    links = [*chain(30), (10, 30), (30, 31)]
    kept, loops = pruned(tree_of(32, *links), np.array([[0, 31], [29, 31]], np.int32))
    assert kept.all()
    assert loops.tolist() == [[0, 31], [29, 31]]
    kept, loops = pruned(tree_of(32, *links), np.array([[5, 31]], np.int32))
    assert np.flatnonzero(~kept).tolist() == [30, 31]
    assert loops.tolist() == []


def test_the_ends_of_an_open_ring_are_linked():
    angles = np.linspace(0, 2 * np.pi, 590, endpoint=False)
    points = np.column_stack([np.cos(angles), np.sin(angles)]) * 5
    groups = (np.arange(590) // 20).astype(np.int32)  # the last has half as many: the gap is narrower than the links
    nodes = np.array([points[groups == g].mean(axis=0) for g in range(30)])
    near = np.argsort(cdist(points, points), axis=1)[:, 1:16].astype(np.int32)
    tree = tree_of(30, *chain(30))
    assert loop_links(nodes, tree, neighbour_links(near), groups).tolist() == [[0, 29]]
    assert loop_links(nodes, tree, neighbour_links(near), groups, euclidean_ratio=0.5).tolist() == []
    assert loop_links(nodes, tree, neighbour_links(near), groups, geodesic_ratio=1.1).tolist() == []


# ---- places and pseudotime

graphs = clouds.filter(lambda nodes: len(np.unique(nodes, axis=0)) == len(nodes) > 2)


@given(graphs, clouds)
def test_a_place_is_on_a_link_of_the_nearest_node_and_none_of_those_is_nearer(nodes, points):
    links = shortest_tree(nodes)
    node = nearest_nodes(points, nodes)
    places = project(points, node, nodes, links)
    assert ((places.part >= 0) & (places.part <= 1)).all()
    around = {frozenset(pair) for pair in links.tolist()}
    assert all(frozenset(pair) in around for pair in zip(node.tolist(), places.other.tolist(), strict=True))
    spots = nodes[node] + places.part[:, None] * (nodes[places.other] - nodes[node])
    apart = np.linalg.norm(points - spots, axis=1)
    assert (apart <= np.linalg.norm(points - nodes[node], axis=1) + 1e-6).all()
    for part in (0.25, 0.5, 0.75):
        for a, b in [(a, b) for pair in links.tolist() for a, b in (pair, pair[::-1])]:
            mine = node == a
            on_way = nodes[a] + part * (nodes[b] - nodes[a])
            assert (apart[mine] <= np.linalg.norm(points[mine] - on_way, axis=1) + 1e-6).all()


@settings(max_examples=40)
@given(graphs, clouds, st.integers(0, 2**32 - 1))
def test_pseudotime_is_the_shortest_way_over_nodes_and_places(nodes, points, seed):
    rng = np.random.default_rng(seed)
    links = shortest_tree(nodes)[: max(1, len(nodes) - 1 - seed % 2)]  # sometimes in two pieces
    places = project(points, nearest_nodes(points, nodes), nodes, links)
    roots = np.unique(rng.integers(len(points), size=1 + seed % 3))
    got = pseudotime(nodes, links, places, roots)
    n = len(nodes)
    spots = nodes[places.node] + places.part[:, None] * (nodes[places.other] - nodes[places.node])
    spots[places.other < 0] = nodes[places.node[places.other < 0]]
    a, b, length = [], [], []

    def join(i, j, x, y):
        a.append(i)
        b.append(j)
        length.append(np.linalg.norm(x - y) + 1e-300)

    for i, j in links.tolist():
        join(i, j, nodes[i], nodes[j])
    for i, (p, q) in enumerate(zip(places.node.tolist(), places.other.tolist(), strict=True)):
        join(n + i, p, spots[i], nodes[p])
        if q >= 0:
            join(n + i, q, spots[i], nodes[q])
        for j in range(i):
            if q >= 0 and {p, q} == {int(places.node[j]), int(places.other[j])}:
                join(n + i, n + j, spots[i], spots[j])
    size = n + len(points)
    graph = np.full((size, size), np.inf)
    for i, j, way in zip(a, b, length, strict=True):
        graph[i, j] = graph[j, i] = min(graph[i, j], way)
    wanted = dijkstra(coo_array(np.where(np.isfinite(graph), graph, 0)), indices=n + roots).min(axis=0)[n:]
    assert np.array_equal(np.isfinite(got), np.isfinite(wanted))
    there = np.isfinite(got)
    assert got[there] == pytest.approx(wanted[there], rel=1e-6, abs=1e-6)
    assert (got >= 0).all()
    assert (got[roots] == 0).all()


def test_the_originals_slips_are_reproduced():
    """Chains hang on the end that comes first as text (Y_10 before Y_2), and a step is |dx + dy| plus the smallest."""
    nodes = np.array([[float(i), 0.0] for i in range(10)])
    links = np.array([(i, i + 1) for i in range(9)] + [(1, 9)])
    places = Places(np.array([9, 9, 0], np.int32), np.array([1, 1, 1], np.int32), np.array([0.25, 0.5, 0.0]))
    got = chained_pseudotime(nodes, links, places, np.zeros(3, int), np.array([2]))
    # Of link Y_2 - Y_10 the first is Y_10; steps 2, 2 and, on Y_1 - Y_2, 0; the smallest above 0 is 2.
    assert got.tolist() == [2 + 1 + 8 + 4, 2 + 1 + 8 + 8, 0]


def test_a_single_node_has_all_cells_at_once():
    places = Places(np.zeros(2, np.int32), np.full(2, -1, np.int32), np.zeros(2))
    nodes, none = np.zeros((1, 2)), np.empty((0, 2), int)
    assert pseudotime(nodes, none, places, np.array([0])).tolist() == [0, 0]
    assert np.isfinite(chained_pseudotime(nodes, none, places, np.zeros(2, int), np.array([0]))).all()
