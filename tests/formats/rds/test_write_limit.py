"""Compact sequences cost the file nothing: what they would write is counted before it is written."""

import gzip

import pytest

from cellworker.errors import WorkerError
from cellworker.formats.common.write_limit import WriteLimit
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.reader import read_rds


@pytest.mark.parametrize("times", [1, 16])
@pytest.mark.parametrize(("name", "kind"), [("compact_intseq", 13), ("compact_realseq", 14)])
def test_compact_sequences_are_counted_one_long_one_as_many_short_ones(r, tmp_path, name, kind, times):
    one = r.altrep(name, r.doubles([2**28 // times, 1, 1]), kind=kind)
    path = tmp_path / "r.rds"
    path.write_bytes(gzip.compress(r.file(r.items([one] * times))))
    spool = tmp_path / "spool"
    spool.mkdir()
    writing = WriteLimit(path.stat().st_size, 250.0, 1 << 39)
    with pytest.raises(WorkerError, match="would write"):
        read_rds(path, spool, Limits(writing=writing))
    assert sum(path.stat().st_blocks * 512 for path in spool.iterdir()) <= writing.allowed


def test_many_sequences_too_short_for_a_file_of_their_own_are_counted_too(r, tmp_path):
    one = r.altrep("compact_intseq", r.doubles([2**17, 1, 1]), kind=13)
    path = tmp_path / "r.rds"
    path.write_bytes(gzip.compress(r.file(r.items([one] * 1000))))
    with pytest.raises(WorkerError, match="would write"):
        read_rds(path, tmp_path, Limits(writing=WriteLimit(path.stat().st_size, 250.0, 1 << 39)))
