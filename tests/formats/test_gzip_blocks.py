"""One gzip file from many threads."""

import errno
import gzip
import random
import sys
import threading
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.r import gzip_blocks
from cellworker.formats.r.gzip_blocks import GzipWriter, combine_crc32, write_gzip


@given(st.binary(), st.binary())
def test_checksums_of_pieces_combine(first, second):
    assert combine_crc32(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


@pytest.mark.parametrize("threads", [1, 3])
def test_any_reader_gets_the_blocks_in_order_as_one_member(tmp_path, threads):
    blocks = [str(i).encode() * (i * 37 % 1000) for i in range(50)]
    path = tmp_path / "file.gz"
    write_gzip(path, [lambda block=block: block for block in blocks], threads=threads)
    reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
    content = reader.decompress(path.read_bytes())
    assert (content, reader.eof, reader.unused_data) == (b"".join(blocks), True, b"")
    assert gzip.decompress(path.read_bytes()) == content


def test_the_same_content_is_the_same_file_whatever_the_threads(tmp_path):
    blocks = [lambda i=i: bytes([i]) * 1000 for i in range(20)]
    for threads in (1, 2, 4):
        write_gzip(tmp_path / str(threads), blocks, threads=threads)
    assert len({(tmp_path / str(threads)).read_bytes() for threads in (1, 2, 4)}) == 1


def test_nothing_at_all_is_a_valid_file(tmp_path):
    write_gzip(tmp_path / "empty.gz", [])
    assert gzip.decompress((tmp_path / "empty.gz").read_bytes()) == b""


def test_it_works_without_isal(tmp_path, monkeypatch):
    monkeypatch.setattr(gzip_blocks, "deflate", zlib)
    write_gzip(tmp_path / "plain.gz", [lambda: b"a" * 99, lambda: b"b"], threads=2)
    assert gzip.decompress((tmp_path / "plain.gz").read_bytes()) == b"a" * 99 + b"b"


def failing():
    raise ValueError("no block")


def test_a_block_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="no block"):
        write_gzip(tmp_path / "file.gz", [lambda: b"x", failing, lambda: b"y"], threads=2)
    assert list(tmp_path.iterdir()) == []


def test_a_cancelled_write_leaves_no_file(tmp_path):
    class Cancelled(BaseException):
        pass

    def stop(done):
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        write_gzip(tmp_path / "file.gz", [lambda: b"x"] * 10, threads=2, on_block=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_in_words_and_leaves_no_file(tmp_path):
    def full(done):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WorkerError) as caught:
        write_gzip(tmp_path / "file.gz", [lambda: b"x"] * 10, on_block=full)
    assert caught.value.code is ErrorCode.DISK_FULL
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_not_touched(tmp_path):
    (tmp_path / "file.gz").write_text("mine")
    with pytest.raises(FileExistsError):
        write_gzip(tmp_path / "file.gz", [lambda: b"x"])
    assert (tmp_path / "file.gz").read_text() == "mine"


def test_few_blocks_are_under_way_at_a_time(tmp_path):
    made, written, most = 0, 0, 0
    lock = threading.Lock()

    def block():
        nonlocal made, most
        with lock:
            made += 1
            most = max(most, made - written)
        return b"x"

    def on_block(done):
        nonlocal written
        written = done

    write_gzip(tmp_path / "file.gz", [block] * 200, threads=2, on_block=on_block)
    assert made == 200
    assert most <= 5


@pytest.mark.parametrize("library", ["zlib_ng", "zlib"])
def test_content_written_in_pieces_is_one_member_no_larger_than_rs(tmp_path, monkeypatch, library):
    if library == "zlib":
        monkeypatch.setitem(sys.modules, "zlib_ng", None)
    draw = random.Random(1)
    words = (b"\0\0\0\1", b"\0\0\0\2", b"?\xf0\0\0")
    content = b"".join(draw.choice(words) * draw.randint(1, 4) for _ in range(600_000))
    path = tmp_path / "file.gz"
    with GzipWriter(path, threads=2, effort="small") as file:
        at = 0
        while at < len(content):
            size = draw.choice((1, 100, 70_000, 3_000_000))
            file.write(memoryview(content)[at : at + size])
            at += size
    reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert reader.decompress(path.read_bytes()) == content
    assert (reader.eof, reader.unused_data) == (True, b"")
    assert path.stat().st_size <= 1.02 * len(zlib.compress(content, 6))


def test_a_writer_that_is_left_by_an_error_leaves_no_file(tmp_path):
    def fail():
        with GzipWriter(tmp_path / "file.gz") as file:
            file.write(b"x" * 10)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []
