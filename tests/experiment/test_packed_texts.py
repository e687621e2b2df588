"""Names of cells in one piece of memory: they are a list to whoever reads them, and take a fraction of one."""

import sys
import tracemalloc

import pytest

from cellworker.experiment import packed_texts
from cellworker.experiment.packed_texts import PackedTexts, all_differ, text_pieces

TEXTS = ["AAAC-1", "", "ü", "日本", "lone \udcff", "with\0zero", "AAAC-1"]


@pytest.fixture(params=[1, 3, 100])
def packed(request, monkeypatch):
    monkeypatch.setattr(packed_texts, "_PIECE", request.param)
    return PackedTexts(text_pieces(TEXTS))


def test_they_are_what_was_packed(packed):
    assert list(packed) == TEXTS
    assert packed == TEXTS
    assert packed == TEXTS
    assert len(packed) == len(TEXTS)
    assert [packed[i] for i in range(-len(TEXTS), len(TEXTS))] == TEXTS * 2
    assert "日本" in packed
    assert packed.index("ü") == 2


def test_slices_are_lists(packed):
    for part in (slice(None), slice(2, 5), slice(5, 2), slice(-2, None), slice(None, None, -2), slice(9, 12)):
        assert packed[part] == TEXTS[part]


def test_places_outside_are_refused(packed):
    for place in (len(TEXTS), -len(TEXTS) - 1):
        with pytest.raises(IndexError):
            packed[place]


def test_others_are_not_equal(packed):
    assert packed != TEXTS[:-1]
    assert packed != [*TEXTS[:-1], "another"]
    assert packed != "".join(TEXTS)
    assert packed != 7


def test_no_text_is_an_empty_list():
    assert list(PackedTexts([])) == []
    assert PackedTexts([[], []]) == []


def test_a_repetition_is_found():
    assert not all_differ(TEXTS)
    assert all_differ(TEXTS[1:])
    assert all_differ([])


def test_they_take_a_fraction_of_python_strings():
    names = [f"{i:016d}-1" for i in range(200_000)]
    as_list = sys.getsizeof(names) + sum(map(sys.getsizeof, names))
    tracemalloc.start()
    packed = PackedTexts(text_pieces(names))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert packed[199_999] == names[-1]
    assert held < as_list / 3
