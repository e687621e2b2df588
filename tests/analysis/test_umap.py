"""UMAP: as faithful as the original's maps, the same bytes however it is run, and what users ask for honoured."""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))

import goldens
from cellworker.analysis.graphs.neighbours import Neighbours
from cellworker.analysis.maps import umap as module
from cellworker.analysis.maps.umap import umap, umap_transform
from cellworker.analysis.maps.umap_graph import curve, fuzzy_graph
from cellworker.formats.opening.open import open_experiment
from cellworker.settings import Settings
from quality import coordinates, preservation, trustworthiness


def exact(points, k, queries=None):
    asked = points if queries is None else queries
    # with the mean taken off, products are as good as differences
    both = [rows - points.mean(axis=0) for rows in (asked, points)]
    squares = [(rows**2).sum(axis=1) for rows in both]
    distances = squares[0][:, None] + squares[1] - 2 * (both[0] @ both[1].T)
    if queries is None:
        np.fill_diagonal(distances, -1)
    cells = np.argpartition(distances, k - 1, axis=1)[:, :k]
    cells = np.take_along_axis(cells, np.argsort(np.take_along_axis(distances, cells, axis=1), axis=1), axis=1)
    found = np.sqrt(np.maximum(np.take_along_axis(distances, cells, axis=1), 0))
    return Neighbours(cells.astype(np.int32), found.astype(np.float32))


def blobs(n, n_blobs=5, apart=2.0, dims=8, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, n_blobs, n)
    return rng.normal(size=(n, dims)) + apart * rng.normal(size=(n_blobs, dims))[label], label


@cache
def cloud():
    points, _ = blobs(2500)
    return points, exact(points, 15)


@pytest.mark.parametrize(
    ("min_dist", "a", "b"), [(0.1, 1.576943, 0.895061), (0.3, 0.992176, 1.112253), (0.5, 0.58303, 1.33417)]
)
def test_the_curve_is_the_one_that_r_fits(min_dist, a, b):
    assert curve(min_dist, 1.0) == pytest.approx((a, b), rel=1e-5)


@settings(max_examples=40)
@given(st.floats(0, 10), st.floats(1e-3, 1e3))
def test_the_curve_goes_with_the_scale_and_can_always_be_laid_out(share, spread):
    a, b = curve(share * spread * (1 - 1e-12), spread)
    assert np.isfinite([a, b]).all()
    assert a > 0
    assert b > 0
    there = 1 / (1 + a * (share * spread) ** (2 * b)) if share else 1
    assert there > 0.5  # points at the least distance count as near


@pytest.mark.shared
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("name", ["pbmcsmall/v4", "pbmc3k/v5", "multisample/v4"])
def test_maps_are_as_faithful_as_the_originals(shared, name, metric, tmp_path):
    experiment = open_experiment(shared / "data" / "experiments" / name, Settings(store_dir=tmp_path)).experiment
    golden = goldens.read(shared / "golden" / name.split("/")[0], f"GetEmbedding-umap-{metric}")
    space = experiment.reductions["pca"].values[:, : experiment.misc.num_pcs or 30][np.argsort(experiment.cell_ids)]
    lengths = np.linalg.norm(space, axis=1, keepdims=True)
    searched = space / lengths if metric == "cosine" else space
    ours = umap(
        exact(searched, 30), min_dist=golden["request"]["config"]["minimumDistance"], metric=metric, points=space,
        threads=2,
    )  # fmt: skip
    theirs = coordinates(golden["response"])
    for judged in (searched, space):
        assert trustworthiness(judged, ours, 15) >= trustworthiness(judged, theirs, 15) - 0.01
        assert preservation(judged, ours, 30) >= preservation(judged, theirs, 30) - 0.01


def test_memberships_add_up_and_their_union_is_symmetric():
    points, _ = blobs(500)
    found = exact(points, 15)
    with ThreadPoolExecutor(2) as run:
        graph = fuzzy_graph(found, run, metric="euclidean", report=lambda part: None)
    dense = np.zeros((len(points), len(points)), np.float32)
    dense[np.repeat(np.arange(len(points)), np.diff(graph.first)), graph.to] = graph.weight
    assert np.array_equal(dense, dense.T)
    assert not dense.diagonal().any()
    # the definition, for one direction
    d = found.distances[:, 1:].astype(float)
    scale = np.full(len(d), 1.0)
    low, high = np.zeros(len(d)), np.full(len(d), np.inf)
    for _ in range(100):
        total = np.exp(-(d - d[:, :1]) / scale[:, None]).sum(axis=1)
        low, high = np.where(total < np.log2(15), scale, low), np.where(total < np.log2(15), high, scale)
        scale = np.where(np.isinf(high), 2 * scale, (low + high) / 2)
    one = np.zeros_like(dense)
    np.put_along_axis(one, found.cells[:, 1:].astype(int), np.exp(-(d - d[:, :1]) / scale[:, None]), axis=1)
    want = one + one.T - one * one.T
    np.testing.assert_allclose(dense, np.where(want < 1 / 500, 0, want), atol=2e-3)


def test_threads_processors_and_repetition_change_nothing(monkeypatch, narrow_kernel):
    points, found = cloud()
    one = umap(found, min_dist=0.3, points=points, n_epochs=20)
    assert one.dtype == np.float32
    for threads in (1, 2, 3):
        assert umap(found, min_dist=0.3, points=points, n_epochs=20, threads=threads).tobytes() == one.tobytes()
    monkeypatch.setattr(module, "kernel", narrow_kernel)
    assert umap(found, min_dist=0.3, points=points, n_epochs=20, threads=2).tobytes() == one.tobytes()


def test_bytes_are_those_of_every_other_machine():
    """Neighbours on a ring of whole numbers: nothing but our own code decides the bytes."""
    n = 300
    offsets = np.array([0, 1, -1, 2, -2, 3, -3, 4, -4])
    cells = ((np.arange(n)[:, None] + offsets) % n).astype(np.int32)
    found = Neighbours(cells, np.tile(np.abs(offsets).astype(np.float32), (n, 1)))
    layout = umap(found, min_dist=0.3, n_epochs=30)
    assert hashlib.sha256(layout.astype("<f4").tobytes()).hexdigest()[:16] == "4906185aa5f7da5a"


def test_another_seed_makes_another_map():
    _, found = cloud()
    one, two = (umap(found, min_dist=0.3, n_epochs=10, seed=seed) for seed in (1, 2))
    assert not np.array_equal(one, two)
    np.testing.assert_allclose(one.mean(axis=0), 0, atol=1e-4)


def test_a_larger_least_distance_spreads_neighbours():
    points, found = cloud()
    apart = []
    for min_dist in (0.0, 0.3, 0.9):
        layout = umap(found, min_dist=min_dist, points=points, n_epochs=100)
        apart.append(np.median(np.linalg.norm(layout - layout[found.cells[:, 1]], axis=1)))
    assert apart[0] < 0.7 * apart[1] < 0.5 * apart[2]


def test_cosine_distances_are_one_less_the_cosine():
    points, _ = blobs(400)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    chords = exact(unit, 15)
    halved = replace(chords, distances=chords.distances.astype(float) ** 2 / 2)
    with ThreadPoolExecutor(1) as run:
        cosine, same, other = (
            fuzzy_graph(found, run, metric=metric, report=lambda part: None)
            for found, metric in ((chords, "cosine"), (halved, "euclidean"), (chords, "euclidean"))
        )
    np.testing.assert_allclose(cosine.strength, same.strength, rtol=1e-3)
    assert np.abs(cosine.strength / other.strength - 1).max() > 0.02


@pytest.mark.parametrize("given_points", [True, False])
def test_parts_without_links_between_them_are_separate(given_points):
    points, label = blobs(900, 3, apart=40.0)
    layout = umap(exact(points, 12), min_dist=0.1, points=points if given_points else None)
    away = np.linalg.norm(layout[:, None] - layout[None], axis=2)
    np.fill_diagonal(away, np.inf)
    assert np.mean(label[away.argmin(axis=1)] == label) > 0.99


@pytest.mark.parametrize("n", [1, 2, 3, 5, 29])
def test_few_points_can_be_laid_out(n):
    points, _ = blobs(n)
    layout = umap(exact(points, min(30, n)), min_dist=0.3, n_epochs=30)
    assert layout.shape == (n, 2)
    assert np.isfinite(layout).all()
    assert len(np.unique(layout, axis=0)) == n


def test_equal_points_get_different_places():
    points = np.repeat(blobs(20)[0], 40, axis=0)
    layout = umap(exact(points, 15), min_dist=0.3, n_epochs=50)
    assert np.isfinite(layout).all()
    assert len(np.unique(layout, axis=0)) == len(points)


def test_a_search_that_left_the_point_itself_out_does_no_harm():
    _, found = cloud()
    cells, distances = found.cells.copy(), found.distances.copy()
    cells[5, 0], distances[5, 0] = 77, 0  # a copy of the point, and it is not listed itself
    cells[6, 9:] = -1
    assert np.isfinite(umap(Neighbours(cells, distances), min_dist=0.3, n_epochs=5)).all()


def test_progress_rises_and_may_stop_it_between_any_two_epochs():
    points, found = cloud()
    told = []
    umap(found, min_dist=0.3, points=points, n_epochs=50, threads=2, on_progress=told.append)
    assert told == sorted(told)
    assert told[0] == 0
    assert 0.95 < told[-1] < 1
    assert len(told) > 50
    after = []

    def stop(part):
        after.append(part)
        if part > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        umap(found, min_dist=0.3, points=points, n_epochs=50, threads=2, on_progress=stop)
    assert sum(part > 0.5 for part in after) == 1


def test_new_points_are_placed_among_similar_ones():
    points, label = blobs(3000, 6, apart=3.0)
    old, new = slice(0, 1200), slice(1200, None)
    layout = umap(exact(points[old], 30), min_dist=0.3, points=points[old], n_epochs=200)
    found = exact(points[old], 30, points[new])
    placed = umap_transform(found, layout, min_dist=0.3, n_epochs=30)
    assert placed.tobytes() == umap_transform(found, layout, min_dist=0.3, n_epochs=30, threads=2).tobytes()
    both = np.vstack([layout, placed])
    assert trustworthiness(points, both) > trustworthiness(points[old], layout) - 0.02
    nearest = np.linalg.norm(placed[:, None] - layout[None], axis=2).argmin(axis=1)
    assert np.mean(label[old][nearest] == label[new]) > 0.95


@pytest.mark.parametrize(
    "change",
    [
        {"min_dist": -0.1},
        {"min_dist": np.nan},
        {"min_dist": 11.0},
        {"spread": 0.0},
        {"n_epochs": 0},
        {"seed": -1},
        {"points": np.full((2500, 2), np.nan)},
        {"points": np.zeros((2499, 2))},
    ],
)
def test_impossible_requests_are_refused(change):
    _, found = cloud()
    with pytest.raises(ValueError):
        umap(found, **{"min_dist": 0.3, **change})


def test_impossible_neighbours_are_refused():
    _, found = cloud()
    for broken in (
        replace(found, distances=np.full_like(found.distances, np.nan)),
        replace(found, distances=-found.distances),
        replace(found, distances=found.distances[:, 1:]),
        replace(found, cells=found.cells + np.int32(1)),
        Neighbours(np.empty((0, 5), np.int32), np.empty((0, 5), np.float32)),
    ):
        with pytest.raises(ValueError):
            umap(broken, min_dist=0.3)
    with pytest.raises(ValueError):
        umap_transform(found, np.zeros((2500, 3)), min_dist=0.3)
    with pytest.raises(ValueError):
        umap_transform(replace(found, cells=np.full_like(found.cells, -1)), np.zeros((2500, 2)), min_dist=0.3)
