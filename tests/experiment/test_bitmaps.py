"""Cells that nobody has named, as keys."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.bitmaps import PREFIX, RANGES, cells_of_bitmap, is_bitmap, write_bitmap, write_cells
from cellworker.experiment.cell_sets import CellClass, CellSet, CellSets
from cellworker.experiment.comparisons import resolve_comparison

cells = st.sets(st.integers(0, 5000), max_size=200)


@given(cells)
def test_a_bitmap_holds_just_its_cells(wanted):
    key = write_bitmap(np.array(sorted(wanted), np.int32))
    found = cells_of_bitmap(key, "cellSet")
    assert found.dtype == np.int32
    assert found.tolist() == sorted(wanted)


@given(cells)
def test_the_same_cells_have_the_same_key_in_any_order(wanted):
    ordered = np.array(sorted(wanted), np.int32)
    assert write_bitmap(ordered) == write_bitmap(ordered[::-1])


def test_the_key_of_a_million_cells_is_small():
    assert len(write_bitmap(np.arange(1_000_000))) < 170_000


def test_it_is_written_as_the_page_writes_it():
    # data/bitmap.ts of the page: bit i % 8 of byte i // 8, base64url without padding
    assert write_bitmap(np.array([0, 3, 9])) == "cells:CQI"
    assert cells_of_bitmap("cells:CQI", "x").tolist() == cells_of_bitmap("cells:CQI=", "x").tolist() == [0, 3, 9]


@pytest.mark.parametrize("text", ["*", "CQI+", "CQ I", "ÄÖ", "C"])
def test_what_is_no_bitmap_is_refused_by_the_name_of_its_field(text):
    with pytest.raises(WorkerError) as refused:
        cells_of_bitmap(PREFIX + text, "compareWith")
    assert refused.value.code is ErrorCode.INVALID_INPUT
    assert refused.value.message.startswith("compareWith: ")


@given(st.text(max_size=40))
def test_any_text_is_cells_or_a_refusal(text):
    with contextlib.suppress(WorkerError):
        assert (np.diff(cells_of_bitmap(PREFIX + text, "cellSet")) > 0).all()


@given(cells | st.integers(0, 5000).map(lambda first: set(range(first, first + 900))))
def test_the_shorter_key_holds_just_its_cells_and_is_one_for_any_order(wanted):
    ordered = np.array(sorted(wanted), np.int32)
    key = write_cells(ordered[::-1])
    assert key == write_cells(ordered)
    assert is_bitmap(key)
    assert cells_of_bitmap(key, "cellSet").tolist() == sorted(wanted)
    assert len(key) <= len(write_bitmap(ordered)) + 1


def test_few_cells_and_neighbours_are_ranges():
    assert write_cells(np.array([1_000_000, 7])) == "ranges:7,1000000"
    assert write_cells(np.arange(1_000_000)) == "ranges:0-999999"
    assert write_cells(np.array([2**31 - 1])) == "ranges:2147483647"
    assert write_cells(np.arange(0, 1000, 2)).startswith(PREFIX)
    assert write_cells(np.empty(0, np.int32)) == PREFIX


@pytest.mark.parametrize("text", ["a", "3-1", "5,4", "1-3,3", "1-", "-1", "4294967296", "0-2147483648", "1,,2", " 1"])
def test_what_is_no_range_is_refused_by_the_name_of_its_field(text):
    with pytest.raises(WorkerError) as refused:
        cells_of_bitmap(RANGES + text, "compareWith")
    assert refused.value.code is ErrorCode.INVALID_INPUT
    assert refused.value.message.startswith("compareWith: ")


def test_a_few_characters_do_not_claim_gigabytes():
    with pytest.raises(WorkerError, match="more than"):
        cells_of_bitmap("ranges:0-2147483647", "cellSet")


@given(st.text("0123456789-,", max_size=30))
def test_any_ranges_are_cells_or_a_refusal(text):
    with contextlib.suppress(WorkerError):
        assert (np.diff(cells_of_bitmap(RANGES + text, "cellSet")) > 0).all()


def _sets() -> CellSets:
    ids = np.arange(10, dtype=np.int32)
    children = [CellSet("a", "A", None, ids[:4]), CellSet("cells:CQI", "named so", None, ids[4:])]
    return CellSets([CellClass("louvain", "clusters", "cellSets", children)])


def test_a_bitmap_is_compared_like_a_set():
    found = resolve_comparison(_sets(), cell_set="cells:Aw", compare_with="background", basis=None)
    assert found.base.tolist() == [0, 1]
    assert found.background.tolist() == list(range(2, 10))


def test_a_set_of_that_key_comes_first():
    assert _sets().cells_of("cells:CQI").tolist() == [4, 5, 6, 7, 8, 9]
