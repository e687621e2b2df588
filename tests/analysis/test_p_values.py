"""p-values: their logarithms against mpmath, their order, the original's cut against R, and adjustment."""

import csv
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from cellworker.analysis.statistics.p_values import PValues, benjamini_hochberg, score_keys

TAILS = Path(__file__).parent.parent / "fixtures" / "tails"


def fixture(name):
    with (TAILS / name).open() as file:
        rows = list(csv.DictReader(file))
    return {column: [row[column] for row in rows] for column in rows[0]}


def numbers(texts):
    return np.array(texts, float)


def off(got, want):
    """Relative errors, in decimal digits that a double does not have."""
    return np.array([
        float(abs((Decimal(float(g)) - Decimal(w)) / Decimal(w))) for g, w in zip(got, want, strict=True)
    ])  # fmt: skip


def test_logarithms_of_normal_tails_are_exact_from_the_middle_to_ten_thousand_standard_deviations():
    table = fixture("normal.csv")
    p_values = PValues.of_scores(numbers(table["z"]))
    assert off(p_values.log, table["log_p"]).max() < 1e-14
    np.testing.assert_allclose(p_values.log10, numbers(table["log_p"]) / np.log(10), rtol=1e-14)


def test_logarithms_of_students_tails_are_exact_for_any_degrees_of_freedom():
    table = fixture("student.csv")
    t, df = numbers(table["t"]), numbers(table["df"])
    for sign in (1, -1):
        assert off(PValues.of_t(sign * t, df).log, table["log_p"]).max() < 1e-12


def test_infinite_degrees_of_freedom_are_the_normal_distribution():
    z = np.array([0.0, 0.3, 2.0, 40.0, 500.0, np.inf, np.nan])
    np.testing.assert_allclose(PValues.of_t(z, np.full(7, np.inf)).log, PValues.of_scores(z).log, rtol=1e-13)


def test_no_evidence_is_one_endless_evidence_is_zero_and_no_test_is_nothing():
    z = np.array([0.0, np.inf, np.nan])
    for p_values in (PValues.of_scores(z), PValues.of_t(z, np.full(3, 5.0))):
        np.testing.assert_array_equal(p_values.values, [1, 0, np.nan])
        np.testing.assert_array_equal(p_values.log10, [0, -np.inf, np.nan])
        assert not np.signbit(p_values.log10[0])
        assert np.isnan(p_values.key).tolist() == [False, False, True]
        assert p_values.key[1] < p_values.key[0]


scores = st.lists(st.one_of(st.floats(0, 60), st.floats(0, 3000), st.sampled_from([0.0, 39.0, 40.0])), max_size=40)


@given(scores)
def test_the_key_of_normal_p_values_ascends_as_their_scores_fall(z):
    z = np.array(z)
    p_values = PValues.of_scores(z)
    order = np.argsort(p_values.key, kind="stable")
    assert order.tolist() == np.argsort(-z, kind="stable").tolist()
    assert (np.diff(p_values.log[order]) >= -1e-13 * np.abs(p_values.log[order][1:])).all()


t_and_df = st.lists(st.tuples(st.floats(0, 1e5), st.floats(1, 1e6)), min_size=1, max_size=40)


@given(t_and_df)
@example([(1e80, 4.0), (1e90, 4.0), (1e70, 5.0), (600.0, 200.0), (700.0, 200.0), (0.0, 1.0)])
def test_the_key_of_students_p_values_ascends_as_their_logarithms_and_as_their_doubles(rows):
    t, df = np.array(rows).T
    p_values = PValues.of_t(t, df)
    order = np.argsort(p_values.key, kind="stable")
    logs, shown = p_values.log[order], p_values.values[order]
    assert (np.diff(logs) >= -1e-12 * np.abs(logs[1:]) - 1e-15).all()
    assert (np.diff(shown)[shown[1:] > 1e-290] >= 0).all()
    np.testing.assert_allclose(p_values.values, 2 * stats.t.sf(t, df), rtol=1e-14)


def rs_cut(z):
    """Where R's pnorm(-z) is not 0, by the condition in its ``pnorm_both``: -37.5193 < x, for x below -5.657."""
    return not (z > 5.657 and not -z > -37.5193)


near = st.integers(-2000, 2000).map(lambda k: 37.5193 + k * 2.0**-47)


@given(st.one_of(near, st.floats(0, 60), st.floats(0, 1e6)))
@example(37.5193)
@example(float(np.nextafter(37.5193, 0)))
@example(float(np.nextafter(37.5193, 99)))
def test_like_the_original_p_values_are_zero_where_rs_are_and_only_there(z):
    ours, originals = (PValues.of_scores(np.array([z]), original=original) for original in (False, True))
    assert originals.values[0] == (ours.values[0] if rs_cut(z) else 0)
    assert originals.log[0] == ours.log[0]
    beyond = score_keys(np.array([38.0, 1e9, z]), original=True)
    assert beyond[0] == beyond[1]
    assert (beyond[2] == beyond[0]) == (not rs_cut(z))


def test_normal_p_values_like_the_original_are_rs():
    table = fixture("pnorm.csv")
    z, want = numbers(table["z"]), numbers(table["p"])
    got = PValues.of_scores(z, original=True)
    assert ((got.values == 0) == (want == 0)).all()
    np.testing.assert_allclose(got.values, want, rtol=1e-12)
    assert [rs_cut(x) for x in z] == (want > 0).tolist()
    # In the order of R: equal p-values, as all those of 0, where they were.
    assert np.argsort(got.key, kind="stable").tolist() == np.argsort(want, kind="stable").tolist()


def test_students_p_values_like_the_original_are_rs_down_to_the_last_double():
    table = fixture("pt.csv")
    t, df, want = (numbers(table[name]) for name in ("t", "df", "p"))
    got = PValues.of_t(t, df, original=True)
    full = want > 1e-306
    np.testing.assert_allclose(got.values[full], want[full], rtol=1e-9)
    np.testing.assert_allclose(got.values[~full], want[~full], rtol=1e-9, atol=1.5e-323)
    # The last double above 0 falls as it may; below it both are 0.
    assert not got.values[got.log < -746].any()
    assert got.values[want > 1e-323].all()
    assert ((want > 0) & (want < 2.3e-308)).sum() > 20  # R goes on below the smallest normal double


@pytest.mark.parametrize("original", [False, True])
@given(scores)
@example([50.0, 60.0, 45.0, 38.0, 1.0, 1.0, 0.9])
def test_adjusted_p_values_never_fall_and_equal_ones_have_an_order(original, z):
    z = np.array([*z, np.nan])
    p_values = PValues.of_scores(z, original=original)
    adjusted = p_values.adjusted()
    n = len(z) - 1
    order = np.argsort(adjusted.key, kind="stable")[:n]
    assert (np.diff(adjusted.values[order]) >= 0).all()
    np.testing.assert_array_equal(adjusted.values, benjamini_hochberg(p_values.values))
    if not original:
        assert order.tolist() == np.argsort(-z[:n], kind="stable").tolist()
        assert (np.diff(adjusted.log[order]) >= 0).all()
    else:
        assert order.tolist() == np.argsort(adjusted.values[:n], kind="stable").tolist()
    held = adjusted.values[:n] > 1e-300
    np.testing.assert_allclose(adjusted.log[:n][held], np.log(adjusted.values[:n][held]), rtol=1e-12, atol=1e-15)
    assert np.isnan(adjusted.log[n])


def test_adjusted_logarithms_go_on_where_p_values_underflow():
    p_values = PValues.of_scores(np.array([50.0, 49.0, 0.0, 60.0]))
    want = p_values.log + np.log([4 / 2, 4 / 3, 1, 4 / 1])
    np.testing.assert_allclose(p_values.adjusted().log, want, rtol=1e-15)
    two = PValues.of_scores(np.array([[50.0, 49.0], [1.0, np.nan]])).adjusted()
    np.testing.assert_allclose(two.log[1], [np.log(stats.norm.sf(1) * 2), np.nan])


def test_bonferronis_adjustment_is_a_product_up_to_one():
    p_values = PValues.of_scores(np.array([50.0, 3.0, 0.1]))
    got = p_values.times(100)
    np.testing.assert_allclose(got.values, np.minimum(1, p_values.values * 100))
    np.testing.assert_allclose(got.log, np.minimum(0, p_values.log + np.log(100)))
    assert got.key is p_values.key


def test_some_p_values_are_those_of_their_rows():
    p_values = PValues.of_scores(np.array([[1.0, 2.0], [3.0, 4.0]])).take(1)
    np.testing.assert_array_equal(p_values.key, [-3, -4])
    np.testing.assert_allclose(p_values.values, 2 * stats.norm.sf([3, 4]))
