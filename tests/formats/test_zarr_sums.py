"""The CRC-32C sums of Zarr's pieces: right ones are read, wrong ones are told in words."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.anndata.containers.codecs import decompress, without_sum
from cellworker.formats.anndata.containers.opening import open_anndata
from cellworker.native import address, kernel

VALUES = np.random.default_rng(3).poisson(2, 24).astype(np.float32).reshape(6, 4)


def crc32c(content: bytes) -> int:
    array = np.frombuffer(content, np.uint8)
    return kernel("cw_crc32c")(address(array, np.uint8), len(array))


@pytest.mark.parametrize(
    ("content", "expected"),
    [  # RFC 3720, appendix B.4, and the check value of the catalogues of CRCs
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_sums_are_those_of_the_standard(content, expected):
    assert crc32c(content) == expected


def bit_by_bit(content: bytes) -> int:
    total = 0xFFFFFFFF
    for byte in content:
        total ^= byte
        for _ in range(8):
            total = total >> 1 ^ (0x82F63B78 if total & 1 else 0)
    return total ^ 0xFFFFFFFF


@given(st.binary(max_size=70))
def test_sums_are_those_of_the_definition_for_any_length(content):
    assert crc32c(content) == bit_by_bit(content)


@given(st.binary(max_size=40), st.data())
def test_any_changed_bit_is_found(content, data):
    whole = content + struct.pack("<I", crc32c(content))
    assert without_sum(whole, "X") == content
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WorkerError, match="X: the CRC-32C sum of a piece differs from its content"):
        decompress("crc32c", bytes(changed), len(content), "X")


@pytest.mark.parametrize("size", range(4))
def test_a_chunk_too_short_for_its_checksum_is_reported(size):
    with pytest.raises(WorkerError, match="a piece is cut short \\(CRC-32C\\)"):
        decompress("crc32c", bytes(size), 100, "X")


@pytest.fixture(params=["sums", "numcodecs", "twice", "shards", "shards, index first"])
def store(tmp_path, request):
    import zarr
    from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec

    sums, plain = Crc32cCodec(), {"compressors": None, "filters": None}
    where = {"shards": "end", "shards, index first": "start"}.get(request.param)
    if where:
        shard = ShardingCodec(
            chunk_shape=(2, 2), codecs=[BytesCodec(), ZstdCodec(), sums], index_codecs=[BytesCodec(), sums],
            index_location=where,
        )  # fmt: skip
        plain = {"serializer": shard, **plain}
    else:
        plain["compressors"] = [sums, ZstdCodec(), sums] if request.param == "twice" else [sums]
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    made = root.create_array("X", shape=VALUES.shape, chunks=VALUES.shape, dtype="float32", **plain)
    made[:] = VALUES
    if request.param == "numcodecs":  # the same sums under the name that the package numcodecs gives them
        about = tmp_path / "a.zarr" / "X" / "zarr.json"
        about.write_text(about.read_text().replace('"crc32c"', '"numcodecs.crc32c"'))
    return tmp_path / "a.zarr"


def read(path):
    with open_anndata(path, 1 << 30) as root:
        return root.get("X").read()


def test_pieces_with_sums_are_read(store):
    assert read(store).tolist() == VALUES.tolist()


def test_no_changed_byte_of_a_piece_is_read(store):
    piece = store / "X" / "c" / "0" / "0"
    content = piece.read_bytes()
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 0x10
        piece.write_bytes(bytes(changed))
        with pytest.raises(WorkerError, match="The AnnData file is damaged or incomplete: X: ") as caught:
            read(store)
        assert caught.value.code == ErrorCode.EXPERIMENT_UNREADABLE
    piece.write_bytes(content)
    assert read(store).tolist() == VALUES.tolist()


def test_sums_at_the_start_are_refused_in_words(store):
    about = store / "X" / "zarr.json"
    text = json.loads(about.read_text())
    text["codecs"] = [text["codecs"][0], {"name": "numcodecs.crc32c", "configuration": {"location": "start"}}]
    about.write_text(json.dumps(text))
    with pytest.raises(WorkerError, match="keeps its CRC-32C sums at the start; write it again"):
        read(store)
