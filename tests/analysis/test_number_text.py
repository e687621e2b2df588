"""Numbers as text: short, exact, the same whatever the number of threads."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker import native
from cellworker.analysis.text.number_text import floats_json, ints_json, points_json

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def texts(values):
    return floats_json(np.array(values, np.float32))[1:-1].decode().split(",")


def significant(text):
    """The digits of a number without its layout."""
    return text.lstrip("-").split("e")[0].replace(".", "").strip("0")


def test_the_table_of_powers_of_ten_is_what_its_formula_says():
    table = native.constant("cw_powers_of_ten", np.uint64, 77).tolist()
    for exponent, entry in zip(range(-31, 46), table, strict=True):
        power = Fraction(10) ** exponent
        log2 = power.numerator.bit_length() - power.denominator.bit_length()
        log2 -= Fraction(2) ** log2 > power
        assert entry == -((-power * Fraction(2) ** (63 - log2)) // 1)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=300))
def test_any_float_reads_back_as_itself_and_is_as_short_as_numpy_writes_it(bits):
    values = np.array(bits, np.uint32).view(np.float32)
    values = values[np.isfinite(values)]
    if not len(values):
        return
    written = texts(values)
    np.testing.assert_array_equal(np.array(written, np.float32).view(np.uint32), values.view(np.uint32))
    shortest = [np.format_float_scientific(value, unique=True, trim="-") for value in values]
    assert [significant(text) for text in written] == [significant(text) for text in shortest]


@given(st.lists(finite, max_size=50))
def test_floats_are_json(values):
    values = np.array(values, np.float32)
    np.testing.assert_array_equal(np.array(json.loads(floats_json(values)), np.float32), values)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (-1.0, "-1.0"),
        (10.0, "10.0"),
        (0.1, "0.1"),
        (5.779448, "5.779448"),
        (1e-05, "0.00001"),
        (1e-06, "1e-6"),
        (1.5e-07, "1.5e-7"),
        (123456.789, "123456.79"),
        (16777216.0, "16777216.0"),
        (100000000000000.0, "100000000000000.0"),
        (1000000000000000.0, "1e15"),
        (3.4028235e38, "3.4028235e38"),
        (1e-45, "1e-45"),
        (1.17549435e-38, "1.1754944e-38"),
        (123456.0, "123456.0"),
        (9.5367432e-07, "9.536743e-7"),
        (33554432.0, "33554432.0"),
    ],
)
def test_floats_are_laid_out_for_people(value, text):
    assert texts([value]) == [text]


def test_what_json_cannot_say_is_null():
    assert floats_json(np.array([1, np.nan, np.inf, -np.inf], np.float32)) == b"[1.0,null,null,null]"
    assert points_json(np.array([1, np.nan], np.float32), np.array([2, 3], np.float32)) == b"[[1.0,2.0],null]"


def test_nothing_is_an_empty_array():
    empty = np.empty(0, np.float32)
    assert floats_json(empty) == points_json(empty, empty) == ints_json(np.empty(0, np.int32)) == b"[]"


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=50))
def test_integers_are_written_in_full(values):
    assert json.loads(ints_json(np.array(values, np.int32))) == values


def test_every_number_of_digits_is_written_in_full():
    values = [sign * (10**n + delta) for n in range(10) for delta in (-1, 0, 1) for sign in (1, -1)]
    assert json.loads(ints_json(np.array(values, np.int32))) == values


def test_threads_do_not_change_the_text():
    random = np.random.default_rng(0)
    floats = random.normal(size=100_003).astype(np.float32)
    ints = random.integers(-(2**31), 2**31, 100_003).astype(np.int32)
    assert floats_json(floats, 3) == floats_json(floats)
    assert ints_json(ints, 3) == ints_json(ints)
    assert points_json(floats, floats[::-1], 3) == points_json(floats, floats[::-1])


def test_points_need_both_coordinates():
    with pytest.raises(ValueError, match="one length"):
        points_json(np.zeros(2, np.float32), np.zeros(3, np.float32))
