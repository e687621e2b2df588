"""Colours that tell interlaced clusters apart."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cellworker.analysis.annotation.colours import first_colours
from cellworker.analysis.annotation.lab import from_lab, to_lab
from cellworker.analysis.annotation.spaco import Slice, interlacement, spatial_colours

FIXTURE = Path(__file__).parent.parent / "fixtures" / "spaco"
POOL = ["#77aadd", "#ee8866", "#eedd88"]


def tissue(seed, k, n=1500, mix=1.0):
    """Cells of `k` clusters, each around a centre, the more `mix` the more among each other."""
    rng = np.random.default_rng(seed)
    places, centres = rng.random((n, 2)) * 20, rng.random((k, 2)) * 20
    squared = ((places[:, None] - centres[None]) ** 2).sum(axis=2)
    return Slice(places, np.argmin(squared * rng.exponential(1, (n, k)) ** mix, axis=1), 2.0)


def by_definition(cells, k):
    """Cell by cell."""
    n = len(cells.labels)
    total = np.zeros((k, k))
    for i in range(n):
        distance = np.sqrt(((cells.coordinates - cells.coordinates[i]) ** 2).sum(axis=1))
        distance[i] = -1
        nearest = np.lexsort((np.arange(n), distance))[:16]
        near = [j for j in nearest.tolist() if distance[j] <= cells.radius]
        if sum(cells.labels[j] == cells.labels[i] for j in near) < 3:
            continue
        for j in near[1:]:
            total[cells.labels[i], cells.labels[j]] += 1 / distance[j] / len(near)
    total = np.maximum(total, total.T)
    np.fill_diagonal(total, 0)
    return total


def test_it_is_what_r_gives():
    cells = np.loadtxt(FIXTURE / "cells.csv", delimiter=",", skiprows=1)
    wanted = np.loadtxt(FIXTURE / "interlacement.csv", delimiter=",")
    found = interlacement(Slice(cells[:, :2], cells[:, 2].astype(np.int64), 2.0), len(wanted))
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=0)


def test_two_squares_side_by_side():
    places = np.array([(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (10, 10)], float)
    found = interlacement(Slice(places, np.array([0] * 4 + [1] * 4 + [0]), 1.5), 2)
    assert found[0, 1] == found[1, 0] == pytest.approx(0.5690355937, abs=1e-9)
    assert found[0, 0] == found[1, 1] == 0


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(4, 60), st.booleans())
def test_any_tissue_is_measured_by_the_definition(seed, k, n, grid):
    cells = tissue(seed, k, n)
    if grid:  # many cells are equally far
        cells = Slice(np.indices((8, 8)).reshape(2, -1).T[:n].astype(float), cells.labels, 2.5)
    np.testing.assert_allclose(interlacement(cells, k), by_definition(cells, k), rtol=1e-9)


def test_threads_and_cells_without_a_cluster_or_a_place_change_nothing():
    cells = tissue(1, 6)
    wanted = interlacement(cells, 6)
    assert np.array_equal(interlacement(cells, 6, threads=2), wanted)
    more = Slice(
        np.concatenate([cells.coordinates, [(5, 5), (np.nan, 1)]]), np.concatenate([cells.labels, [-1, 2]]), 2.0
    )
    assert np.array_equal(interlacement(more, 6), wanted)


def test_cells_on_one_spot_are_interlaced_without_end():
    places = np.array([(0, 0), (0, 0), (0, 1), (0, 1), (1, 0), (1, 0)], float)
    found = interlacement(Slice(places, np.array([0, 1, 0, 1, 0, 1]), 2.0), 2)
    assert np.isinf(found[0, 1])
    labels = np.arange(60) % 6
    spots = Slice(np.zeros((60, 2)), labels, 1.0)
    assert len(set(spatial_colours([spots, tissue(0, 6)], 6, POOL))) == 6


def contrast(colours):
    lab = to_lab(colours)
    return np.sqrt(((lab[:, None] - lab[None]) ** 2).sum(axis=2))


@pytest.mark.parametrize("k", [5, 7, 10, 16, 30, 60])
@pytest.mark.parametrize("seed", range(3))
def test_interlaced_clusters_get_colours_that_are_far_apart(seed, k):
    cells = tissue(seed, k)
    mixed = interlacement(cells, k)
    colours = spatial_colours([cells], k, POOL)
    assert len(set(colours)) == k
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)
    far, pairs = contrast(colours), np.triu_indices(k, 1)
    rng = np.random.default_rng(0)
    by_chance = []
    for _ in range(100):
        order = rng.permutation(k)
        by_chance.append(stats.spearmanr(mixed[pairs], far[np.ix_(order, order)][pairs])[0])
    assert stats.spearmanr(mixed[pairs], far[pairs])[0] > np.quantile(by_chance, 0.95)
    most = mixed[pairs] > np.quantile(mixed[pairs], 0.75)
    assert np.median(far[pairs][most]) > np.median(far[pairs])
    assert far[pairs].min() > 2.3  # what the eye just sees


def test_slices_are_added_up_and_the_answer_is_always_the_same():
    slices = [tissue(1, 8), tissue(2, 8)]
    assert spatial_colours(slices, 8, POOL) == spatial_colours(iter(slices), 8, POOL, threads=2)
    assert spatial_colours(slices, 8, POOL) != spatial_colours(slices[:1], 8, POOL)


@pytest.mark.parametrize("k", [0, 1, 4, 101])
def test_with_few_or_too_many_clusters_the_pool_serves(k):
    labels = np.arange(900) % max(k, 1)
    cells = Slice(np.random.default_rng(0).random((900, 2)), labels, 1.0)
    assert spatial_colours([cells], k, POOL) == first_colours(POOL, k)


def test_where_nothing_interlaces_the_pool_serves():
    apart = Slice(np.repeat(np.arange(6.0) * 100, 10)[:, None] + np.zeros((1, 2)), np.repeat(np.arange(6), 10), 1.0)
    assert spatial_colours([apart], 6, POOL) == first_colours(POOL, 6)
    assert spatial_colours([], 6, POOL) == first_colours(POOL, 6)
    few = Slice(np.zeros((3, 2)), np.arange(3), 1.0)
    assert spatial_colours([few], 6, POOL) == first_colours(POOL, 6)


def test_progress_can_stop_it():
    def stop(fraction):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spatial_colours([tissue(0, 6)], 6, POOL, on_progress=stop)


def test_lab_is_what_farver_makes_of_it():
    lab = np.array([(55, 0, 0), (60, 40, -20), (30, -100, -100), (80, 100, 100)], float)
    assert from_lab(lab) == ["#848484", "#c576b5", "#0069e9", "#ff4800"]


@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=20))
def test_every_colour_is_unchanged_after_conversion_to_lab_and_back(rgb):
    colours = ["#" + bytes(colour).hex() for colour in rgb]
    assert from_lab(to_lab(colours)) == colours
