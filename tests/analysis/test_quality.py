"""The figures by which maps of cells are judged, against their definitions."""

import numpy as np
import pytest

from quality import preservation, trustworthiness


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(5)
    space = rng.normal(size=(700, 5))
    return space, space[:, :2] + rng.normal(size=(700, 2)) * 0.3


def ranks(points):
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return distances.argsort(axis=1).argsort(axis=1) + 1


def test_both_are_what_they_are_defined_as(pair):
    space, layout = (ranks(points) for points in pair)
    n, k = 700, 12
    far = np.where((layout <= k) & (space > k), space - k, 0).sum()
    assert trustworthiness(*pair, k=k) == pytest.approx(1 - 2 * far / (n * k * (2 * n - 3 * k - 1)), abs=1e-12)
    assert preservation(*pair, k=k) == pytest.approx(((layout <= k) & (space <= k)).sum() / (n * k), abs=1e-12)


def test_a_faithful_map_is_best_and_a_random_one_is_not(pair):
    space, _ = pair
    assert trustworthiness(space, space) == 1
    assert preservation(space, space) == 1
    random = np.random.default_rng(1).normal(size=(700, 2))
    assert trustworthiness(space, random) < 0.6
    assert preservation(space, random) < 0.1
