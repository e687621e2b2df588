"""t-SNE: as faithful as the original, true to its formula, the same everywhere."""

import numpy as np
import pytest

import goldens
from cellworker.analysis.graphs.neighbours import Neighbours, nearest_neighbours
from cellworker.analysis.maps import tsne as module
from cellworker.analysis.maps.tsne import neighbours_for, tsne
from cellworker.formats.opening.open import open_experiment
from cellworker.native import address, kernel
from cellworker.settings import Settings
from quality import coordinates, preservation, trustworthiness


def exact_neighbours(points, k):
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, -1)
    cells = np.argsort(distances, axis=1, kind="stable")[:, :k]
    near = np.maximum(np.take_along_axis(distances, cells, axis=1), 0)
    return Neighbours(np.ascontiguousarray(cells, np.int32), np.ascontiguousarray(near, np.float32))


def clouds(n, groups=4, dims=6, seed=1):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, groups, n)
    return rng.normal(size=(n, dims)) + 12 * np.eye(groups, dims)[labels], labels


@pytest.fixture(scope="module")
def large():
    points, labels = clouds(2500, groups=5, dims=8)
    return nearest_neighbours(points, 31, "euclidean"), points, labels


def repulsion(layout, *, exact):
    """What the kernel says: pushes and the sum over all pairs."""
    layout = np.ascontiguousarray(layout, np.float32)
    pushes, total = np.empty_like(layout), np.empty(1)
    with module._layout(layout, 1) as held:
        failed = kernel("cw_tsne_repulsion")(
            held, exact, address(pushes, np.float32, writable=True), address(total, np.float64, writable=True)
        )
    assert not failed
    return pushes, total[0]


def similarities(neighbours, perplexity):
    """The affinities of all pairs, by the definition and bisection."""
    n = len(neighbours.cells)
    p = np.zeros((n, n))
    for i, (cells, distances) in enumerate(zip(neighbours.cells, neighbours.distances, strict=True)):
        others = (cells != i) & (cells >= 0)
        square = distances[others].astype(float) ** 2
        square -= square.min()
        low, high = 0.0, 1e12
        for _ in range(70):
            beta = (low + high) / 2 if high < 1e12 else max(2 * low, 1e-6)
            w = np.exp(-beta * square)
            w /= w.sum()
            entropy = -(w[w > 0] * np.log(w[w > 0])).sum()
            low, high = (beta, high) if entropy > np.log(perplexity) else (low, beta)
        p[i, cells[others]] = w
    return (p + p.T) / (2 * n)


def divergence(p, layout):
    d = layout[:, None].astype(float) - layout[None]
    q = 1 / (1 + (d**2).sum(axis=2))
    np.fill_diagonal(q, 0)
    q /= q.sum()
    return (p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum()


@pytest.mark.shared
@pytest.mark.parametrize("name", ["pbmcsmall/v5", "pbmc3k/v5", "multisample/v4"])
def test_neighbourhoods_are_kept_as_well_as_by_the_original(shared, tmp_path, name):
    experiment = open_experiment(shared / "data" / "experiments" / name, Settings(store_dir=tmp_path)).experiment
    points = experiment.reductions["pca"].values[:, : experiment.misc.num_pcs]
    by_id = np.argsort(experiment.cell_ids)
    wanted = [
        goldens.read(shared / "golden" / name.split("/")[0], f"GetEmbedding-{case}") for case in ("tsne", "tsne-lr10")
    ]
    config = wanted[0]["request"]["config"]
    near = nearest_neighbours(points, neighbours_for(config["perplexity"], len(points)), "euclidean", threads=2)
    layouts = [coordinates(golden["response"]) for golden in wanted]
    assert np.array_equal(*layouts)  # the original does not use the learning rate
    truth = (trustworthiness(points[by_id], layouts[0]), preservation(points[by_id], layouts[0]))
    for golden in wanted:
        config = golden["request"]["config"]
        rate, perplexity = config["learningRate"], config["perplexity"]
        layout = tsne(near, perplexity=perplexity, learning_rate=rate, points=points, threads=2)
        assert trustworthiness(points, layout) >= truth[0] - 0.01
        assert preservation(points, layout) >= truth[1] - 0.01


@pytest.mark.parametrize(
    ("spread", "accuracy"),
    [(1e-4, 1e-4), (1.0, 1e-3), (8.0, 0.01), (30.0, 0.03)],
    ids=["start", "dense", "map", "wide"],
)
def test_the_grid_pushes_as_the_sum_over_all_pairs_does(spread, accuracy):
    layout = np.random.default_rng(2).normal(size=(1500, 2)) * [spread, spread / 2] + 5
    layout = layout.astype(np.float32)
    difference = layout[:, None].astype(float) - layout[None]
    q = 1 / (1 + (difference**2).sum(axis=2))
    want, total = (difference * (q * q)[..., None]).sum(axis=1), q.sum() - len(q)
    for exact, tolerance in ((True, 1e-5), (False, accuracy)):
        got, sum_of_all = repulsion(layout, exact=exact)
        assert np.sqrt(((got - want) ** 2).sum() / (want**2).sum()) < tolerance
        assert sum_of_all == pytest.approx(total, rel=tolerance)


def test_affinities_are_those_of_the_definition():
    points, _ = clouds(60)
    near = exact_neighbours(points, 37)
    got = module._affinities(near.cells, near.distances, 12, 1, lambda _: None)
    p = np.zeros((60, 60))
    np.put_along_axis(p, near.cells.astype(int), got.astype(float), axis=1)
    np.testing.assert_allclose((p + p.T) / 120, similarities(near, 12), rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("n", [200, 800])
def test_the_layout_is_at_a_minimum_of_the_divergence(n):
    points, _ = clouds(n)
    near = exact_neighbours(points, neighbours_for(20, n))
    p = similarities(near, 20)
    layout = tsne(near, perplexity=20, points=points)
    reached = divergence(p, layout)
    assert reached < 0.5 * divergence(p, points[:, :2])
    rng = np.random.default_rng(0)
    for _ in range(5):
        assert divergence(p, layout + rng.normal(size=layout.shape) * 0.3) > reached
    assert divergence(p, layout * 0.97) > reached  # wider is better for ever: parts without links repel each other


def test_groups_stay_apart_and_whole(large):
    near, points, labels = large
    layout = tsne(near, perplexity=10, points=points, n_iterations=400, threads=2)
    assert np.abs(layout.mean(axis=0)).max() < 1e-3
    centres = np.array([np.median(layout[labels == g], axis=0) for g in range(5)])
    nearest = np.linalg.norm(layout[:, None] - centres[None], axis=2).argmin(axis=1)
    assert (nearest == labels).mean() > 0.99


def test_the_bytes_are_the_same_whatever_the_threads_and_the_time_it_takes(large, monkeypatch):
    near, points, _ = large
    one = tsne(near, perplexity=10, points=points, n_iterations=300)
    assert tsne(near, perplexity=10, points=points, n_iterations=300, threads=2).tobytes() == one.tobytes()
    monkeypatch.setattr(module, "_PAUSE", 1e-9)
    assert tsne(near, perplexity=10, points=points, n_iterations=300, threads=3).tobytes() == one.tobytes()


def test_the_bytes_are_the_same_without_wide_vectors(large, monkeypatch, narrow_kernel):
    near, points, _ = large
    wide = tsne(near, perplexity=10, points=points, n_iterations=100)
    monkeypatch.setattr(module, "kernel", narrow_kernel)
    assert tsne(near, perplexity=10, points=points, n_iterations=100).tobytes() == wide.tobytes()


def test_what_is_asked_for_is_used():
    points, _ = clouds(150)
    near = exact_neighbours(points, 91)
    plain = tsne(near, points=points, n_iterations=100)
    assert tsne(near, points=points, n_iterations=100).tobytes() == plain.tobytes()
    for more in ({"perplexity": 5}, {"learning_rate": 20}, {"seed": 2}, {"n_iterations": 120}, {"points": None}):
        given = {"points": points, "n_iterations": 100, **more}
        assert not np.array_equal(tsne(near, **given), plain), more
    automatic = tsne(near, points=points, n_iterations=100, learning_rate=None)
    assert np.array_equal(automatic, plain)  # 200 for few cells
    assert np.array_equal(tsne(near, points=points, n_iterations=100, learning_rate=0), automatic)


@pytest.mark.parametrize("rate", [1e-6, 1e5, 1e300])
def test_any_learning_rate_gives_a_layout(rate):
    points, _ = clouds(900)
    near = nearest_neighbours(points, 31, "euclidean")
    layout = tsne(near, perplexity=10, learning_rate=rate, points=points, n_iterations=60)
    assert np.isfinite(layout).all()
    assert len(np.unique(layout, axis=0)) > 800


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
def test_few_cells_have_places_of_their_own(n):
    points = np.random.default_rng(n).normal(size=(n, 3))
    perplexity = (n - 1) / 3
    near = exact_neighbours(points, neighbours_for(perplexity, n))
    layout = tsne(near, perplexity=perplexity, points=points)
    assert layout.dtype == np.float32
    assert layout.shape == (n, 2)
    assert np.isfinite(layout).all()
    assert len(np.unique(layout, axis=0)) == n


def test_a_single_cell_is_at_the_origin_and_no_cells_give_an_empty_map():
    for n in (0, 1):
        nobody = Neighbours(np.zeros((n, 1), np.int32), np.zeros((n, 1), np.float32))
        assert np.array_equal(tsne(nobody), np.zeros((n, 2)))


def test_cells_at_the_same_place_get_a_layout():
    points, labels = clouds(300)
    points[labels == 1] = points[labels == 1][0]
    near = nearest_neighbours(points, 46, "euclidean")
    layout = tsne(near, perplexity=15, points=points)
    assert np.isfinite(layout).all()
    same = np.linalg.norm(layout[labels == 1] - layout[labels == 1].mean(axis=0), axis=1)
    apart = np.linalg.norm(layout[labels == 0] - layout[labels == 1].mean(axis=0), axis=1)
    assert same.max() < apart.min()


def test_all_cells_at_one_place_get_a_layout():
    points = np.ones((100, 4))
    layout = tsne(nearest_neighbours(points, 16, "euclidean"), perplexity=5, points=points)
    assert np.isfinite(layout).all()


def test_a_cloud_without_groups_is_not_drawn_to_a_point():
    points = np.random.default_rng(4).normal(size=(1500, 20))
    near = nearest_neighbours(points, 91, "euclidean")
    layout = tsne(near, points=points, n_iterations=500)
    width = np.percentile(layout, 95, axis=0) - np.percentile(layout, 5, axis=0)
    assert width.min() > 5
    assert width.max() < 2 * width.min()


def test_neighbours_that_were_not_found_do_not_count():
    points, _ = clouds(120)
    near = exact_neighbours(points, 31)
    near.cells[::3, 20:] = -1
    near.distances[::3, 20:] = 0
    assert np.isfinite(tsne(near, perplexity=10, points=points, n_iterations=100)).all()


def test_a_perplexity_that_cannot_be_is_refused_with_the_largest_that_can():
    points, _ = clouds(31)
    assert neighbours_for(10, 31) == 31
    with pytest.raises(ValueError, match="at most 10 is possible"):
        neighbours_for(10.01, 31)
    with pytest.raises(ValueError, match="at most 10 is possible"):
        tsne(exact_neighbours(points, 31), points=points)
    with pytest.raises(ValueError, match="above 0"):
        neighbours_for(0, 31)
    with pytest.raises(ValueError, match="needs 31 neighbours, not 20"):
        tsne(exact_neighbours(points, 20), perplexity=10)


def test_what_is_not_finite_is_refused():
    points, _ = clouds(60)
    near = exact_neighbours(points, 31)
    for rate in (np.nan, np.inf, -1):
        with pytest.raises(ValueError, match="learning rate"):
            tsne(near, perplexity=10, learning_rate=rate)
    hole = points.copy()
    hole[3, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        tsne(near, perplexity=10, points=hole)
    near.distances[2, 5] = np.nan
    with pytest.raises(ValueError, match="finite"):
        tsne(near, perplexity=10)
    with pytest.raises(ValueError, match="same number"):
        tsne(exact_neighbours(points, 31), perplexity=10, points=points[:-1])


def test_progress_rises_and_may_stop_it(large):
    near, points, _ = large
    told = []
    tsne(near, perplexity=10, points=points, n_iterations=120, on_progress=told.append)
    assert told == sorted(told)
    assert told[0] >= 0
    assert told[-1] == 1

    def stop(fraction):
        told.append(fraction)
        if fraction > 0.08:
            raise KeyboardInterrupt

    told.clear()
    with pytest.raises(KeyboardInterrupt):
        tsne(near, perplexity=10, points=points, n_iterations=2000, threads=2, on_progress=stop)
    assert told[-1] < 0.2
