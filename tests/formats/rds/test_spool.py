"""Long vectors on their way to the store: whole numbers that are there already are not written again."""

import numpy as np
import pytest

from cellworker.formats.common.scratch import is_spooled
from cellworker.formats.common.write_limit import WriteLimit
from cellworker.formats.r.rds import spool as spools
from cellworker.formats.r.rds.spool import Spool, SpoolLayout

INTEGERS, DOUBLES = SpoolLayout.of(">i4", "i4"), SpoolLayout.of(">f8", "f4")
PLACES = np.arange(10_000, dtype=np.int32) * 7


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(spools, "CHUNK_BYTES", 4096)


def kept(spool, values, layout=INTEGERS):
    content = memoryview(values.astype(layout.stored).tobytes())
    width = 6_000 * layout.stored.itemsize
    return spool.keep((content[:width], content[width:]), len(values), layout)


def test_equal_whole_numbers_are_one_file(tmp_path):
    spool = Spool(tmp_path)
    one, other = kept(spool, PLACES), kept(spool, PLACES)
    assert np.array_equal(one, PLACES)
    assert np.shares_memory(one, other)
    assert is_spooled(other)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("place", [0, 1023, 1024, 5999, 6000, 9999])
def test_what_differs_somewhere_is_written_as_it_is(tmp_path, place):
    spool = Spool(tmp_path)
    changed = PLACES.copy()
    changed[place] += 1
    first = kept(spool, PLACES)
    assert np.array_equal(kept(spool, changed), changed)
    assert np.array_equal(kept(spool, changed), changed)
    assert np.array_equal(first, PLACES)
    assert np.array_equal(kept(spool, PLACES), PLACES)
    assert len(list(tmp_path.iterdir())) <= 3


def test_the_one_of_several_that_stays_equal_is_lent(tmp_path):
    spool = Spool(tmp_path)
    others = []
    for place in (9_999, 5_000, 100):
        changed = PLACES.copy()
        changed[place] = -1
        others.append((changed, kept(spool, changed)))
    for changed, earlier in others:
        assert np.shares_memory(kept(spool, changed), earlier)


def test_vectors_of_another_length_or_type_are_written(tmp_path):
    spool = Spool(tmp_path)
    held = [kept(spool, PLACES), kept(spool, PLACES[:-1]), kept(spool, PLACES, DOUBLES), kept(spool, PLACES, DOUBLES)]
    assert len(list(tmp_path.iterdir())) == 4
    assert np.array_equal(held[1], PLACES[:-1])
    assert held[3].dtype == np.float32


def test_a_vector_that_nobody_holds_is_not_lent(tmp_path):
    spool = Spool(tmp_path)
    kept(spool, PLACES)
    assert np.array_equal(kept(spool, PLACES), PLACES)
    assert len(list(tmp_path.iterdir())) == 2


def test_only_what_is_written_is_claimed(tmp_path, monkeypatch):
    claimed = []
    monkeypatch.setattr(WriteLimit, "claim", lambda _limit, n_bytes, *_: claimed.append(n_bytes))
    spool = Spool(tmp_path, limit=WriteLimit.__new__(WriteLimit))
    held = [kept(spool, PLACES), kept(spool, PLACES), kept(spool, PLACES + 1)]
    assert claimed == [PLACES.nbytes, PLACES.nbytes]
    assert len(held) == 3
