"""Result encoding: one zstd frame that the platform's readers accept, and what is sent inline."""

import base64
import gzip
import os

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cellworker.analysis.text.number_text import floats_json, ints_json
from cellworker.errors import WorkerError
from cellworker.protocol.encoding import compress, decompress, inline


@given(st.binary(max_size=5000))
def test_what_is_compressed_comes_back(content: bytes) -> None:
    assert decompress(compress(content)) == content
    assert decompress(gzip.compress(content)) == content


def test_a_result_is_one_frame_with_its_size_and_without_a_checksum() -> None:
    content = b'{"a":1}' * 5000
    frame = compress(content)
    parameters = zstandard.get_frame_parameters(frame)
    assert parameters.content_size == len(content)
    assert not parameters.has_checksum
    assert parameters.dict_id == 0
    assert zstandard.ZstdDecompressor().decompress(frame) == content
    assert frame == zstandard.ZstdCompressor(level=3).compress(content)


def test_large_results_are_frames_of_the_same_kind_and_as_small() -> None:
    values = np.random.default_rng(0).poisson(0.7, 1_500_000) / 7
    content = ",".join(map(str, values.tolist())).encode()
    frame = compress(content)
    parameters = zstandard.get_frame_parameters(frame)
    assert parameters.content_size == len(content)
    assert not parameters.has_checksum
    assert parameters.dict_id == 0
    assert decompress(frame) == content
    slow = zstandard.ZstdCompressor(level=3).compress(content)
    assert frame != slow
    assert len(frame) < 1.2 * len(slow)


def test_large_text_of_genes_is_hardly_longer_than_at_level_3() -> None:
    """Digits that look random, then the cells, gene after gene the same and further apart than the fast level sees."""
    random = np.random.default_rng(0)
    totals = random.integers(2_000, 14_000, 150_000)
    values = np.log1p(random.poisson(20, (4, 150_000)) / totals * 1e4).astype(np.float32)
    cells = np.tile(np.arange(150_000, dtype=np.int32), 4)
    content = b'{"values":%b,"index":%b}' % (floats_json(values.ravel()), ints_json(cells))
    frame = compress(content)
    assert decompress(frame) == content
    assert len(frame) < 1.1 * len(zstandard.ZstdCompressor(level=3).compress(content))
    assert len(frame) < 0.7 * len(zstandard.ZstdCompressor(level=1).compress(content))
    parameters = zstandard.get_frame_parameters(frame)
    assert parameters.content_size == len(content)
    assert parameters.window_size <= 8 << 20, "more than every decoder has"
    assert not parameters.has_checksum


def test_what_fits_into_the_event_is_compressed_as_before_whatever_its_size() -> None:
    content = b"[0,0,1,0,0]" * 1_000_000
    assert compress(content) == zstandard.ZstdCompressor(level=3).compress(content)
    assert inline(compress(content))


def test_old_results_without_a_size_and_in_pieces_are_read() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"x" * 100_000)
    assert decompress(frame) == b"x" * 100_000
    assert decompress(gzip.compress(b"ab") + gzip.compress(b"cd")) == b"abcd"


@pytest.mark.parametrize("content", [b"", b"plain", b"{}", b"PK\x03\x04"])
def test_what_is_neither_zstd_nor_gzip_is_refused(content: bytes) -> None:
    with pytest.raises(WorkerError, match="neither zstd nor gzip"):
        decompress(content)


@pytest.mark.parametrize("pack", [compress, gzip.compress])
def test_a_damaged_result_is_refused(pack: object) -> None:
    content = pack(os.urandom(50_000))  # type: ignore[operator]
    for broken in (content[:-1000], content[:30], content[:20] + b"\0\0\0\0" + content[24:100]):
        with pytest.raises(WorkerError, match="damaged"):
            decompress(broken)


@pytest.mark.parametrize("pack", [compress, gzip.compress])
def test_a_bomb_stops_at_the_limit(pack: object) -> None:
    bomb = pack(b"\0" * 20_000_000)  # type: ignore[operator]
    with pytest.raises(WorkerError, match="more than 5000000 bytes"):
        decompress(bomb, limit=5_000_000)


def test_a_frame_that_claims_terabytes_allocates_nothing() -> None:
    claim = b"\x28\xb5\x2f\xfd" + bytes([0xE0]) + (2**42).to_bytes(8, "little") + b"\x01\x00\x00"
    with pytest.raises(WorkerError, match="damaged"):
        decompress(claim)


def test_a_quarter_of_a_million_bytes_go_inline_and_one_more_does_not() -> None:
    content = os.urandom(250_001)
    text = inline(content[:250_000])
    assert text is not None
    assert base64.b64decode(text, validate=True) == content[:250_000]
    assert inline(content) is None
