"""Filters, order and pages of tables."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.tasks.common.tables import collation_key, number_filter, ordered_rows, select_page, text_filter

NAMES = ["CD3D", "cd79a", "MS4A1", "HLA-DRA", "ACD", "LYZ", None]


def shuffled(texts):
    return random.Random(0).sample(texts, len(texts))


def matching(expression):
    return [name for name, hit in zip(NAMES, text_filter(NAMES, expression), strict=True) if hit]


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("cd", ["CD3D", "cd79a", "ACD"]),
        ("^cd", ["CD3D", "cd79a"]),
        ("cd$", ["ACD"]),
        ("^ACD$", ["ACD"]),
        ("1$", ["MS4A1"]),
        ("-", ["HLA-DRA"]),
        ("^", NAMES[:-1]),
        ("$", NAMES[:-1]),
        (".*", []),
        ("(", []),
        ("[A-Z", []),
        ("C.3", []),
        ("\\", []),
    ],
)
def test_a_filter_is_a_literal_with_anchors_whatever_the_case(expression, names):
    assert matching(expression) == names


def test_a_hostile_pattern_costs_nothing():
    assert not text_filter(["a" * 5000] * 100, "(a+)+$").any()


def test_number_filters_are_strict_and_leave_out_missing_numbers():
    column = np.array([1.0, 2.0, np.nan, 3.0])
    assert number_filter(column, "greaterThan", 2).tolist() == [False, False, False, True]
    assert number_filter(column, "lessThan", 2).tolist() == [True, False, False, False]


def test_texts_are_ordered_as_r_orders_them():
    # algorithms.md 0.4
    wanted = ["_x", "1a", "alpha", "Alpha2", "Beta", "cluster 1", "Cluster 1", "Cluster 10", "Cluster 2", "Zed"]
    assert sorted(shuffled(wanted), key=collation_key) == wanted


def test_punctuation_comes_before_digits_and_digits_before_letters():
    wanted = ["A", "A B", "A_B", "A-1", "A.1", "A1", "A1-B", "A10", "A2", "Aa", "AA", "ab", "AB", "Ab-1"]
    assert sorted(shuffled(wanted), key=collation_key) == wanted


def test_accents_and_case_decide_only_between_equals():
    assert sorted(["zebra", "Zoë", "zoé", "zoe", "Zoe", "zof"], key=collation_key) == [
        "zebra", "zoe", "Zoe", "zoé", "Zoë", "zof",
    ]  # fmt: skip


def test_order_is_stable_both_ways_with_missing_values_last():
    # order(c(2,NA,1,2), decreasing=TRUE) = 1 4 3 2 in R
    column = np.array([2, np.nan, 1, 2])
    assert ordered_rows(column, descending=True).tolist() == [0, 3, 2, 1]
    assert ordered_rows(column).tolist() == [2, 0, 3, 1]
    names = ["b", None, "a", "b"]
    assert ordered_rows(names, descending=True).tolist() == [0, 3, 2, 1]
    assert ordered_rows(names).tolist() == [2, 0, 3, 1]


@given(st.lists(st.none() | st.text(max_size=4), max_size=30), st.booleans())
def test_any_texts_are_ordered_without_loss(names, descending):
    assert sorted(ordered_rows(names, descending=descending).tolist()) == list(range(len(names)))


def test_a_page_is_sliced_after_filters_and_reports_the_number_of_matches():
    columns = {"name": ["a", "b", "c", "d", None, "f"], "value": np.array([3.0, 1, np.nan, 2, 9, 5])}
    page = select_page(columns, 6, order_by="value", descending=True, offset=1, limit=2)
    assert ([columns["name"][i] for i in page.rows], page.total) == (["a", "d"], 4)
    keep = np.array([False, True, True, True, True, True])
    page = select_page(columns, 6, keep=keep, order_by="value", offset=0, limit=10)
    assert ([columns["name"][i] for i in page.rows], page.total) == (["b", "d", "f"], 3)


def test_an_unknown_column_keeps_the_tables_order_and_a_page_beyond_the_end_is_empty():
    columns = {"value": np.array([3.0, 1, 2])}
    assert select_page(columns, 3, order_by="nope", descending=True).rows.tolist() == [0, 1, 2]
    assert select_page(columns, 3, offset=7, limit=2).rows.tolist() == []
    assert select_page(columns, 3, limit=0).rows.tolist() == []
    assert select_page(columns, 3, offset=7, limit=2).total == 3
