"""R's loess: fits that R made, and what any fit obeys."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.analysis.statistics.local_regression import local_quadratic

FITS = json.loads(gzip.decompress((Path(__file__).parent.parent / "fixtures" / "loess" / "loess.json.gz").read_bytes()))


@pytest.mark.parametrize("name", [name for name, fit in FITS.items() if "fitted" in fit])
def test_rs_fits_come_out(name):
    fit = FITS[name]
    got = local_quadratic(np.array(fit["x"]), np.array(fit["y"]), span=fit["span"])
    np.testing.assert_allclose(got, fit["fitted"], atol=1e-12)


@pytest.mark.parametrize("name", [name for name, fit in FITS.items() if "fitted" not in fit])
def test_where_r_has_no_number_the_neighbours_grow(name):
    fit = FITS[name]
    x, y = np.array(fit["x"]), np.array(fit["y"])
    got = local_quadratic(x, y, span=fit["span"])
    crowd = x == max(np.unique(x), key=lambda value: np.sum(x == value))
    assert got[crowd].mean() == pytest.approx(y[crowd].mean(), abs=0.05)


NUMBERS = st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=60)


@given(NUMBERS, st.floats(0.05, 1), st.randoms(use_true_random=False))
def test_the_order_of_the_points_does_not_matter(x, span, random):
    x, order = np.array(x), list(range(len(x)))
    random.shuffle(order)
    y = np.round(np.sin(x) * 100)
    fitted = local_quadratic(x, y, span=span)
    assert np.isfinite(fitted).all()
    np.testing.assert_allclose(local_quadratic(x[order], y[order], span=span), fitted[order], atol=1e-6)


@given(st.integers(30, 200), st.integers(0, 1000))
def test_a_parabola_is_its_own_fit(n, seed):
    x = np.random.default_rng(seed).normal(size=n)
    fitted = local_quadratic(x, x**2, span=0.9)
    at_places = np.argsort(np.abs(fitted - x**2))[:2]
    np.testing.assert_allclose(fitted[at_places], x[at_places] ** 2, atol=1e-6)


def test_what_is_no_curve():
    assert local_quadratic(np.array([]), np.array([]), span=0.3).shape == (0,)
    np.testing.assert_array_equal(local_quadratic(np.array([2, 2]), np.array([1, 3]), span=0.3), [2, 2])
    for x, y, span in [([1, 2], [1], 0.3), ([1, np.nan], [1, 2], 0.3), ([1, 2], [1, 2], 0), ([1, 2], [1, 2], 1.5)]:
        with pytest.raises(ValueError, match=r"x and y|span"):
            local_quadratic(np.array(x), np.array(y), span=span)
