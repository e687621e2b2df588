"""Paging and filtering of tables of tested genes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.analysis.statistics.p_values import PValues
from cellworker.errors import ErrorCode, WorkerError
from cellworker.protocol.pagination import Pagination
from cellworker.protocol.validation import convert
from cellworker.tasks.common.result_table import adjusted_column, log_columns, p_column, page_of, plain, whole
from cellworker.tasks.common.tables import Ranked

GAP = np.nan


def by_itself(numbers):
    column = np.array(numbers, float)
    return Ranked(column, column)


TABLE = {
    "p_val": by_itself([0.2, 0.01, 0.01, 1.0, GAP]),
    "logFC": np.array([1.0, -2.0, 0.5, 0.0, GAP]),
    "gene_names": ["b.c", "A", "abc", "(x", "late"],
    "Gene": ["g1", "g2", "g3", "g4", "g5"],
}


def paged(*, genes_only=False, table=TABLE, **given):
    return page_of(table, convert(given, Pagination, "pagination"), genes_only=genes_only)


def genes(**given):
    return list(paged(**given)["gene_results"]["Gene"])


def test_a_table_without_pagination_is_whole_with_its_gaps():
    assert whole(TABLE) == {"gene_results": plain(TABLE), "full_count": 5}
    assert plain(TABLE)["p_val"] is TABLE["p_val"].values


def test_rows_with_gaps_are_on_no_page_and_not_counted():
    assert genes() == ["g1", "g2", "g3", "g4"]
    assert paged(limit=2)["full_count"] == 4


def test_equal_rows_keep_their_order_in_both_directions():
    assert genes(orderBy="p_val") == ["g2", "g3", "g1", "g4"]
    assert genes(orderBy="p_val", orderDirection="DESC") == ["g4", "g1", "g2", "g3"]


def test_an_unknown_order_keeps_the_tables():
    assert genes(orderBy="nonsense", orderDirection="DESC") == ["g1", "g2", "g3", "g4"]


def test_slices_beyond_the_end_or_of_nothing_are_empty_and_still_tell_the_total():
    for slicing in ({"offset": 9}, {"limit": 0}, {"offset": 10**15, "limit": 10**15}):
        got = paged(**slicing)
        assert [len(column) for column in got["gene_results"].values()] == [0] * 4
        assert got["full_count"] == 4


def number(name, comparison, value):
    return {"columnName": name, "type": "numeric", "comparison": comparison, "value": value}


def test_filters_are_strict_and_all_of_them_count():
    assert genes(filters=[number("logFC", "greaterThan", 0)]) == ["g1", "g3"]
    assert genes(filters=[number("logFC", "lessThan", 0.5), number("p_val", "lessThan", 1)]) == ["g2"]
    text = {"columnName": "gene_names", "type": "text", "expression": "B"}
    assert genes(filters=[text, number("logFC", "lessThan", 1)]) == ["g3"]


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [("a", ["g2", "g3"]), ("^a", ["g2", "g3"]), ("C$", ["g1", "g3"]), ("^a$", ["g2"]), (".", ["g1"]), ("(", ["g4"]),
     (".*", []), ("", ["g1", "g2", "g3", "g4"]), ("A|b", [])],
)  # fmt: skip
def test_a_text_is_looked_for_as_it_is_with_its_ends_anchored_on_request(expression, wanted):
    assert genes(filters=[{"columnName": "gene_names", "expression": expression}]) == wanted


def test_a_filter_on_a_column_of_the_other_kind_of_table_is_passed_over():
    assert genes(filters=[number("auc", "greaterThan", 0.5), number("AveExpr", "lessThan", 0)]) == genes()


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"columnName": "age", "expression": "x"}, r"filters\[0\]\.columnName: there is no column 'age'"),
        ({"columnName": "gene_names", "comparison": "lessThan", "value": 1}, r"filters\[0\]\.expression"),
        ({"columnName": "logFC", "expression": "x"}, r"filters\[0\]: logFC is a number"),
        ({"columnName": "logFC", "comparison": "lessThan"}, r"filters\[0\]: logFC is a number"),
        ({"columnName": "logFC", "comparison": "equals", "value": 1}, r"filters\[0\]\.comparison"),
        ({"columnName": "logFC", "comparison": "lessThan", "value": "1"}, r"filters\[0\]\.value"),
        ({"columnName": ""}, r"filters\[0\]\.columnName"),
        ({}, r"filters\[\.*0?.*\]\.columnName"),
    ],
)
def test_a_filter_that_makes_no_sense_is_named(item, words):
    with pytest.raises(WorkerError, match=words) as caught:
        paged(filters=[item])
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_a_list_of_genes_ignores_the_offset_and_has_names_and_ids_only():
    got = paged(genes_only=True, orderBy="logFC", orderDirection="DESC", offset=3, limit=2)
    assert got == {"gene_results": {"gene_names": ["b.c", "abc"], "gene_id": ["g1", "g3"]}, "full_count": 4}


numbers = st.one_of(st.just(GAP), st.sampled_from([0.0, 1.0]), st.floats(-5, 5))


@given(
    st.lists(st.tuples(numbers, numbers, st.text(max_size=3)), max_size=25),
    st.integers(1, 7),
    st.sampled_from(["p_val", "logFC", "gene_names", None]),
    st.sampled_from(["ASC", "DESC"]),
    st.one_of(st.none(), st.floats(-5, 5)),
)
def test_pages_are_the_table_cut_in_pieces(rows, limit, order_by, direction, least):
    table = {
        "p_val": by_itself([row[0] for row in rows]),
        "logFC": np.array([row[1] for row in rows], float),
        "gene_names": [row[2] for row in rows],
        "Gene": [f"g{i}" for i in range(len(rows))],
    }
    given = {"orderBy": order_by, "orderDirection": direction}
    given["filters"] = [] if least is None else [number("p_val", "greaterThan", least)]
    everything = paged(table=table, **given)
    wanted = {
        f"g{i}" for i, (p, fold, _) in enumerate(rows)
        if not np.isnan(p) and not np.isnan(fold) and (least is None or p > least)
    }  # fmt: skip
    assert set(everything["gene_results"]["Gene"]) == wanted
    assert everything["full_count"] == len(wanted)
    pieces = [paged(table=table, offset=offset, limit=limit, **given) for offset in range(0, len(rows) + 1, limit)]
    assert {piece["full_count"] for piece in pieces} == {len(wanted)}
    for name, column in everything["gene_results"].items():
        assert [x for piece in pieces for x in piece["gene_results"][name]] == list(column)


@pytest.mark.parametrize("name", ["p_val", "p_val_adj", "log10_p"])
def test_a_column_of_p_values_without_an_order_of_its_own_is_a_bug(name):
    with pytest.raises(TypeError, match=name):
        whole(TABLE | {name: np.zeros(5)})
    with pytest.raises(TypeError, match=name):
        paged(table=TABLE | {name: np.zeros(5)})


SCORES = np.array([45.0, 3.0, 60.0, 38.0, 45.0, 38.2, 0.0, 41.0, 37.6, 2.9])
"""p-values of 0, one of 0 twice with equal evidence, and below the smallest normal double."""


def underflowing(*, original=False, scores=SCORES):
    p_values = PValues.of_scores(scores, original=original)
    n = len(scores)
    return {
        "p_val": p_column(p_values), "logFC": np.zeros(n), "p_val_adj": adjusted_column(p_values),
        "gene_names": [f"n{i}" for i in range(n)], "Gene": [f"g{i}" for i in range(n)], **log_columns(p_values),
    }  # fmt: skip


@pytest.mark.parametrize("column", ["p_val", "p_val_adj", "log10_p", "log10_p_adj"])
def test_rows_whose_p_values_underflow_are_ordered_by_the_statistic_both_ways(column):
    best_first = ["g2", "g0", "g4", "g7", "g5", "g3", "g8", "g1", "g9", "g6"]
    worst_first = ["g6", "g9", "g1", "g8", "g3", "g5", "g7", "g0", "g4", "g2"]  # equal ones keep their order
    assert genes_of(underflowing(), orderBy=column) == best_first
    assert genes_of(underflowing(), orderBy=column, orderDirection="DESC") == worst_first
    pages = [genes_of(underflowing(), orderBy=column, offset=i, limit=3) for i in range(0, 10, 3)]
    assert [gene for page in pages for gene in page] == best_first
    certain = [number("p_val_adj", "lessThan", 1e-300)]
    assert genes_of(underflowing(), orderBy=column, filters=certain, offset=1, limit=3) == ["g0", "g4", "g7"]


def genes_of(table, **given):
    return list(paged(table=table, **given)["gene_results"]["Gene"])


@pytest.mark.parametrize("column", ["p_val", "p_val_adj"])
def test_like_the_original_rows_of_equal_p_values_keep_their_order(column):
    table = underflowing(original=True)
    beyond_the_cut = ["g0", "g2", "g3", "g4", "g5", "g7", "g8"]
    assert genes_of(table, orderBy=column) == [*beyond_the_cut, "g1", "g9", "g6"]
    assert genes_of(table, orderBy=column, orderDirection="DESC") == ["g6", "g9", "g1", *beyond_the_cut]


def test_equal_adjusted_p_values_are_ordered_by_the_statistic_and_like_the_original_keep_their_order():
    scores = np.array([0.1, 0.3, 0.2, 0.0, 0.4])
    best_first = ["g4", "g1", "g2", "g0", "g3"]
    assert len(set(underflowing(scores=scores)["p_val_adj"].values)) == 1
    assert genes_of(underflowing(scores=scores), orderBy="p_val_adj") == best_first
    table = underflowing(scores=scores, original=True)
    assert genes_of(table, orderBy="p_val_adj") == ["g0", "g1", "g2", "g3", "g4"]
    assert genes_of(table, orderBy="p_val") == best_first


@pytest.mark.parametrize("direction", ["ASC", "DESC"])
def test_adjusted_p_values_that_are_shown_never_fall_even_where_doubles_lose_their_digits(direction):
    scores = np.linspace(37, 39, 400)  # p-values below the smallest normal double, and 0, which is shown as that
    got = paged(table=underflowing(scores=scores), orderBy="p_val_adj", orderDirection=direction)["gene_results"]
    shown = np.array(got["p_val_adj"])
    assert (shown > 0).all()
    doubles = np.where(shown == 2.2250738585072014e-308, 0, shown)  # which stands for 0 (contract 5.3)
    assert (doubles == 0).any()
    assert (np.diff(doubles) * (1 if direction == "ASC" else -1) >= 0).all()
    assert (np.diff(got["log10_p"]) * (1 if direction == "ASC" else -1) > 0).all()
    assert min(got["log10_p"]) < -330


def test_a_table_can_be_filtered_by_its_own_columns():
    assert genes_of(underflowing(), filters=[number("log10_p", "lessThan", -500)]) == ["g2"]
    with pytest.raises(WorkerError, match="no column 'log10_p'"):
        paged(filters=[number("log10_p", "lessThan", -500)])
