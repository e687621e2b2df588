"""Large cell sets are parsed once, and what is kept is never taken for what it is not."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellClass, CellSet, CellSets
from cellworker.formats.opening import kept_cell_sets
from cellworker.formats.opening.kept_cell_sets import parse_kept
from cellworker.formats.opening.shelf import Shelf


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Shelf:
    monkeypatch.setattr(kept_cell_sets, "LARGE_BYTES", 1)
    return Shelf(tmp_path / "stores", 1 << 30)


@pytest.fixture
def parsings(monkeypatch) -> list[int]:
    """One entry for each text that was parsed."""
    found: list[int] = []
    original = CellSets.parse.__func__

    def counted(cls, content):
        found.append(len(content))
        return original(cls, content)

    monkeypatch.setattr(CellSets, "parse", classmethod(counted))
    return found


def two_sets(colors: tuple[str | None, ...] = ("#77aadd", None)) -> bytes:
    sets = [
        CellSet(f"louvain-{i}", f"Cluster {i} é", color, np.arange(i, 50, 2, dtype=np.int32), "cellSets", {"more": [i]})
        for i, color in enumerate(colors)
    ]
    classes = [
        CellClass("louvain", "clusters", "cellSets", sets, extra={"column": "x"}),
        CellClass("scratchpad", "mine", None, []),
    ]
    return CellSets(classes, {"version": 2}).encode()


def same(one: CellSets, other: CellSets) -> bool:
    ids = all(
        a.cell_ids.dtype == b.cell_ids.dtype == np.int32 and not a.cell_ids.flags.writeable
        for (_, a), (_, b) in zip(one.sets(), other.sets(), strict=True)
    )
    return ids and one.encode() == other.encode() and one.extra == other.extra


def test_the_same_text_is_parsed_once(shelf, parsings):
    store, content = shelf.folder / "a-1.1.h5ad", two_sets()
    first = parse_kept(shelf, store, content)
    again = parse_kept(shelf, store, content)
    assert len(parsings) == 1
    assert same(first, again)
    assert same(again, CellSets.parse(content))


def test_another_text_replaces_what_was_kept(shelf, parsings):
    store = shelf.folder / "a-1.1.h5ad"
    for number, content in enumerate([two_sets(), two_sets(("#000000",)), two_sets()]):
        assert same(parse_kept(shelf, store, content), CellSets.parse(content))
        assert len(parsings) == 2 * number + 2
    assert len([path for path in shelf.folder.iterdir() if path.is_file()]) == 1


@pytest.mark.parametrize("place", [0, 30, 60, 70, 300, -1])
def test_what_is_damaged_is_parsed_again(shelf, parsings, place):
    store, content = shelf.folder / "a-1.1.h5ad", two_sets()
    parse_kept(shelf, store, content)
    (kept,) = (path for path in shelf.folder.iterdir() if path.is_file())
    damaged = bytearray(kept.read_bytes())
    damaged[place] ^= 1
    kept.write_bytes(bytes(damaged))
    assert same(parse_kept(shelf, store, content), CellSets.parse(content))
    assert len(parsings) == 3
    kept.write_bytes(kept.read_bytes()[:place])
    parse_kept(shelf, store, content)
    assert len(parsings) == 4
    parse_kept(shelf, store, content)
    assert len(parsings) == 4


def test_a_broken_text_is_refused_and_not_kept(shelf):
    with pytest.raises(WorkerError) as caught:
        parse_kept(shelf, shelf.folder / "a-1.1.h5ad", b'{"cellSets": [{"key": 1}]}')
    assert caught.value.code is ErrorCode.CELL_SETS_INVALID
    assert not [path for path in shelf.folder.iterdir() if path.is_file()]


def test_without_free_disk_it_is_parsed_each_time(shelf, parsings, monkeypatch):
    def full(path: Path, content: bytes) -> None:
        raise WorkerError(ErrorCode.DISK_FULL, "full")

    monkeypatch.setattr(shelf, "write", full)
    for _ in range(2):
        parse_kept(shelf, shelf.folder / "a-1.1.h5ad", two_sets())
    assert len(parsings) == 2


texts = st.text(max_size=8)


@settings(max_examples=40)
@given(
    sets=st.lists(
        st.tuples(texts, texts, st.none() | texts, st.lists(st.integers(0, 2**31 - 1), max_size=6)), max_size=4
    )
)
def test_any_cell_sets_come_back(tmp_path_factory, sets):
    children = [CellSet(key, name, color, np.array(ids, np.int32)) for key, name, color, ids in sets]
    content = CellSets([CellClass("k", "n", None, children)]).encode()
    shelf = Shelf(tmp_path_factory.mktemp("kept"), 1 << 30)
    mark = b"\1" * 32
    path = shelf.folder / "kept"
    parsed = CellSets.parse(content)
    path.write_bytes(kept_cell_sets._packed(parsed, mark))
    found = kept_cell_sets._read(path, mark)
    assert found is not None
    assert same(found, parsed)
    assert kept_cell_sets._read(path, b"\2" * 32) is None
