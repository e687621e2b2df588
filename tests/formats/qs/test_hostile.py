"""Damaged and hostile `.qs` files end in one sentence, soon, and within the limits."""

import random
import struct
import time
import tracemalloc

import pytest
import zstandard

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.r.qs.header import MAGIC
from cellworker.formats.r.rds.limits import Limits

HEAD = MAGIC + bytes(4)


def refused(read, content: bytes, limits: Limits | None = None) -> str:
    """The sentence with which it is refused, in little time and memory."""
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(WorkerError) as caught:
            read(content, *([limits] if limits else []))
        assert time.process_time() - started < 2
        assert tracemalloc.get_traced_memory()[1] < (64 << 20) + 8 * len(content)
    finally:
        tracemalloc.stop()
    assert caught.value.code == ErrorCode.EXPERIMENT_UNREADABLE
    assert caught.value.message.rstrip()[-1] == "."
    return caught.value.message


def sound(w) -> bytes:
    names = w.strings([f"g{i}" for i in range(300)] + [None, "é"])
    numbers = [w.numbers(kind, range(40)) for kind in w.KINDS]
    slots = {"x": w.numbers("double", range(99)), "class": w.strings(["dgCMatrix"])}
    return w.items([w.with_attributes(w.items(numbers), {"names": names}), w.with_attributes(w.S4, slots, s4=True)])


def frame(*blocks: bytes, form: int = 0x00, parts: int | None = None, hashed: int = 0) -> bytes:
    head = HEAD + bytes([3, hashed, form, 0]) + struct.pack("<Q", len(blocks) if parts is None else parts)
    return head + b"".join(struct.pack("<I", len(block)) + block for block in blocks)


@pytest.mark.parametrize("algorithm", ["zstd", "lz4", "zstd_stream", "uncompressed"])
@pytest.mark.parametrize("hashed", [True, False])
def test_a_file_cut_anywhere_is_refused_with_one_sentence(q, read, algorithm, hashed):
    content = q().file(sound(q()), algorithm, hashed=hashed, block=1000)
    read(content)
    # Without a check value the last bytes of a Zstandard stream may be missing unnoticed: they hold nothing.
    for end in range(1, len(content) - (0 if hashed or algorithm != "zstd_stream" else 4), 13):
        assert "qsave" in refused(read, content[:end])


@pytest.mark.parametrize("algorithm", ["zstd", "lz4", "zstd_stream", "uncompressed"])
def test_a_changed_byte_is_noticed(q, read, algorithm):
    content = q().file(sound(q()), algorithm, block=1000)
    rng = random.Random(7)
    for _ in range(150):
        at = rng.randrange(28, len(content))
        refused(read, content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :])


@pytest.mark.parametrize("seed", range(6))
def test_anything_at_all_is_read_or_refused(q, read, seed):
    """Without a check value whatever the bytes say has to be dealt with."""
    rng = random.Random(seed)
    whole = sound(q())
    codes = set()
    for _ in range(120):
        item = bytearray(whole)
        for _ in range(rng.choice([1, 3, 30])):
            at = rng.randrange(len(item))
            item[at : at + rng.choice([0, 1, 1, 4])] = rng.randbytes(rng.choice([1, 1, 4]))
        try:
            read(q().file(bytes(item), "uncompressed", hashed=False))
        except WorkerError as problem:
            codes.add(problem.code)
    assert codes == {ErrorCode.EXPERIMENT_UNREADABLE}


# ---- headers ----


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (MAGIC, "ends within its first bytes"),
        (b"X\n" + bytes(30), "looks like an .rds file"),
        (b"\x1f\x8b" + bytes(30), "looks like an .rds file"),
        (b"\x0b\x0e\x0a\xc1" + bytes(30), "qs2 package"),
        (b"\x89HDF\r\n\x1a\n" + bytes(30), "HDF5"),
        (b"hello, world, hello, world, hello", "does not begin as one"),
        (HEAD + b"\3\1\0\1" + bytes(30), "other byte order"),
        (HEAD + b"\4\1\0\0" + bytes(30), "format version is 4"),
        (HEAD + b"\3\1\x5f\0" + bytes(30), "number 5, is not known"),
        (HEAD + b"\3\1\0\0" + bytes(8), "truncated"),
    ],
)
def test_other_files_are_named(read, content, words):
    assert words in refused(read, content)


# ---- lies about lengths ----


@pytest.mark.parametrize(
    "item",
    [
        bytes([code]) + bytes([255] * width)
        for code, width in (
            (0x03, 4), (0x07, 4), (0x0B, 4), (0x0F, 4), (0x13, 4), (0x15, 4), (0x17, 4), (0x19, 4), (0x1F, 4),
            (0x04, 8), (0x08, 8), (0x0C, 8), (0x10, 8), (0x14, 8), (0x16, 8), (0x18, 8), (0x1A, 8),
        )
    ]
    + [b"\x1c\x03" + b"\xff" * 4, b"\x1d\x03" + b"\xff" * 4, b"\xa1\x03" + b"\xff" * 4],
)  # fmt: skip
@pytest.mark.parametrize("algorithm", ["zstd", "lz4", "zstd_stream", "uncompressed"])
def test_a_claim_of_more_than_can_follow_is_refused_before_anything_is_allocated(q, read, tmp_path, item, algorithm):
    refused(read, q().file(item + bytes(50), algorithm))
    assert sum(file.stat().st_size for file in (tmp_path / "spool").iterdir()) == 0


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (b"\xc5", "unknown type 197"),
        (b"\x1b", "unknown type 27"),
        (b"\x1c\x77", "unknown type 119"),
        (b"\xa1\x04", "unknown form"),
        (b"\xa1\x23a\0b", "zero byte"),
        (b"\x1c\x02\x1c\x02\x00", "where none can"),
        (b"\xe1\xe1\x00", "where none can"),
        (b"\xe1\x00\x21a\x00", "comes with attributes"),
        (b"\x1c\x10\1\0\0\0", "where none can"),
        (b"\x19\4\0\0\0RDX3", "does not begin as one"),
        (b"\x19\x12\0\0\0X\n" + struct.pack(">4i", 2, 0, 0, 254), ""),
        (b"\x19\x0e\0\0\0X\n" + struct.pack(">4i", 2, 0, 0, 254), "does not take the 14 bytes"),
    ],
)
def test_what_no_writer_writes_is_refused(q, read, item, words):
    if not words:
        read(q().file(item, "uncompressed"))
        return
    assert words in refused(read, q().file(item + b"\0" * 4, "uncompressed"))


def test_a_promise_or_a_mapped_vector_within_is_not_followed(q, read, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("do not read")
    name, package = (struct.pack(">3i", 1, 9 | 64 << 12, len(word)) + word for word in (b"mmap_integer", b"base"))
    state = struct.pack(">4i", 16, 1, 9 | 64 << 12, len(str(secret))) + str(secret).encode()
    info = b"".join(struct.pack(">i", 2) + part for part in (name, package, struct.pack(">3i", 13, 1, 13)))
    altrep = b"X\n" + struct.pack(">3i", 2, 0, 0) + struct.pack(">i", 238) + info + struct.pack(">i", 254) + state
    assert "points outside the file" in refused(read, q().file(q().serialised(altrep)))


# ---- nesting and bombs ----


@pytest.mark.parametrize("level", [b"\x21", b"\x1c\x04\0\0", b"\xe1\x20\x21a", b"\x1c\x03\1\0\0\0\x0f"])
def test_deep_nesting_is_refused(q, read, level):
    assert "nested too deeply" in refused(read, q().file(level * 100_000 + b"\0"))


def test_a_hundred_thousand_levels_of_attributes_and_embedded_lists_do_not_reach_pythons_stack(q, read):
    embedded = b"X\n" + struct.pack(">3i", 2, 0, 0) + struct.pack(">2i", 19, 1) * 4_999 + struct.pack(">i", 254)
    read(q().file(b"\x21" * 4_000 + q().serialised(embedded)))


def test_more_parts_than_the_file_has_room_for_are_refused(q, read):
    nulls = struct.pack("<BI", 0x03, 5_000_000) + bytes(5_000_000)
    assert "more than 1,000,000 parts" in refused(read, q().file(nulls))


def test_so_many_empty_strings_are_refused_before_they_are_read(q, read):
    bomb = zstandard.compress(b"\x20" * (1 << 19))
    first = zstandard.compress(struct.pack("<BI", 0x13, 900_000_000) + b"\x20" * 500)
    assert "parts" in refused(read, frame(first, *[bomb] * 1_500))


def test_a_frame_that_claims_more_than_a_block_is_not_unpacked(read):
    bomb = zstandard.compress(bytes(1 << 28))
    assert "claims to hold 268,435,456" in refused(read, frame(bomb))
    unknown = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 24))
    assert "zstd compression is broken" in refused(read, frame(unknown))


def test_an_lz4_block_that_unpacks_to_more_than_a_block_is_refused(read):
    bomb = b"\x1f\0\1\0" + b"\xff" * 4_000 + b"\0\x50" + bytes(5)
    assert "lz4 compression is broken" in refused(read, frame(bomb, form=0x10))


@pytest.mark.parametrize(
    "block",
    [
        b"\x10", b"\xf0", b"\xf0\xff\xff", b"\x10a", b"\x11a\1\0", b"\x11a\0\0\x50abcde", b"\x11a\2\0\x50abcde",
        b"\x1fa\1\0\xff", b"\x1fa\1",
    ],
)  # fmt: skip
def test_broken_lz4_blocks_are_refused(read, block):
    refused(read, frame(block, form=0x10))


def test_random_lz4_blocks_never_leave_their_room(read):
    from cellworker.formats.r.qs.blocks import BLOCK_BYTES, _lz4_block

    rng = random.Random(11)
    for _ in range(3_000):
        stored = rng.randbytes(rng.choice([1, 5, 30, 400]))
        try:
            assert len(_lz4_block(stored, 0)) <= BLOCK_BYTES
        except WorkerError:
            continue


def test_a_bomb_of_zeros_is_stopped_by_the_limit_of_size(q, read):
    block = zstandard.compress(bytes(1 << 19))
    first = zstandard.compress(struct.pack("<BQ", 0x0C, 1 << 28) + bytes(100))
    message = refused(read, frame(first, *[block] * 400), Limits(max_inflated_bytes=32 << 20))
    assert "claims" in message or "larger than" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (frame() + b"\xff\xff\xff\xff" + bytes(9), "truncated"),
        (frame(parts=1) + struct.pack("<I", 600_000) + bytes(600_000), "block claims 600,000 bytes"),
        (frame(parts=1) + struct.pack("<I", 0) + bytes(4), "block claims 0 bytes"),
        (frame(zstandard.compress(b"\0"), parts=2), "truncated"),
        (frame(zstandard.compress(b"\0"), hashed=1) + bytes(8), "lie between"),
        (frame(zstandard.compress(b"\0"), hashed=1) + bytes(4), "check value"),
        (frame(b"not zstd at all"), "zstd compression is broken"),
    ],
)
def test_wrong_sizes_of_blocks_are_refused(read, content, words):
    assert words in refused(read, content)


def test_a_full_disk_is_named(q, read, monkeypatch):
    import errno

    from cellworker.formats.r.rds import spool

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool, "_write", full)
    with pytest.raises(WorkerError) as caught:
        read(q().file(q().numbers("integer", range(1000))), Limits(spool_bytes=100))
    assert caught.value.code == ErrorCode.DISK_FULL
