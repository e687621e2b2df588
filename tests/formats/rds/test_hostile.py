"""Files that are damaged, absurd or made to harm: each is refused with one sentence, and nothing in it runs."""

import bz2
import gzip
import lzma
import os
import random
import struct
import time
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.reader import read_rds

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def words(*values: int) -> bytes:
    return struct.pack(f">{len(values)}i", *values)


def refused(read, content, *, within_s=2.0, limits=None, code=ErrorCode.EXPERIMENT_UNREADABLE):
    """Read, and return the sentence of the refusal."""
    begin = time.process_time()
    with pytest.raises(WorkerError) as caught:
        read(content, limits or Limits())
    assert time.process_time() - begin < within_s
    assert caught.value.code is code
    assert caught.value.message.endswith((".", ")")), "a sentence"
    return caught.value.message


@pytest.fixture(scope="module")
def sound(r) -> bytes:
    """A file with a bit of everything."""
    return r.file(
        r.s4(
            "Seurat",
            "SeuratObject",
            meta=r.named(
                a=r.ints([1, 2, 3], levels=r.strings(["u", "v"])),
                b=r.doubles([1.0, 2.0]),
                c=r.strings(["x", None, "é"] * 5),
                d=r.altrep("compact_intseq", r.doubles([5, 1, 1])),
            ),
            x=r.doubles([0.5] * 9),
            f=words(3 | r.TAG)
            + r.environment(frame=r.cells([("q", r.logicals([1]))]))
            + r.NULL
            + words(6)
            + r.symbol("g")
            + r.NULL,
            code=words(21, 1)
            + r.ints([1])
            + words(2, 6)
            + r.symbol("s")
            + words(1)
            + r.symbol("t")
            + words(254)
            + r.NULL
            + words(10)
            + r.logicals([1]),
        )
    )


# ---- truncation ----


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_a_file_cut_anywhere_is_refused_with_one_sentence(read, sound, pack):
    content = pack(sound)
    read(content)
    # What a compressor appends after the last block is a checksum; zstd has none by default.
    for end in range(1, len(content) - (0 if pack is not zstandard.compress else 4), 1 if pack is bytes else 7):
        message = refused(read, content[:end])
        assert "saveRDS" in message


def test_a_truncated_long_vector_says_truncated(r, read):
    content = gzip.compress(r.file(words(24, 6_000_000) + random.Random(1).randbytes(6_000_000)), 1)
    assert "truncated" in refused(read, content[: len(content) // 2])


# ---- lies about lengths ----


@pytest.mark.parametrize("kind", [10, 13, 14, 15, 16, 19, 20, 24])
@pytest.mark.parametrize("length", [words(2**31 - 1), words(-1, 65_536, 0), words(-1, 0, -1)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_a_claim_of_more_than_can_follow_is_refused_before_anything_is_allocated(r, read, tmp_path, kind, length, pack):
    message = refused(read, pack(r.file(words(kind) + length)))
    assert "claims" in message
    assert not list((tmp_path / "spool").iterdir())


@pytest.mark.parametrize("kind", [10, 13, 14, 15, 16, 19, 20, 24])
@pytest.mark.parametrize("length", [words(-2), words(-(2**31)), words(-1, -1, 0), words(-1, 65_537, 0)])
def test_an_impossible_length_is_refused(r, read, kind, length):
    assert "length" in refused(read, r.file(words(kind) + length + bytes(100)))


def test_a_string_of_negative_or_absurd_length_is_refused(r, read):
    for count in (1, 100):
        assert "negative length" in refused(read, r.file(words(16, count) + words(9, -2) + bytes(9 * count)))
        assert "claims" in refused(read, r.file(words(16, count) + words(9, 2**31 - 1) + bytes(9 * count)))


def test_lengths_inside_code_are_checked_too(r, read):
    for lie in (
        words(21, 2**31 - 1),
        words(21, -5),
        words(21, 0) + r.ints([1]) + words(2**31 - 1),
        words(7, 2**31 - 1),
        words(7, -1),
    ):
        refused(read, r.file(lie))
    inside = r.environment(frame=words(14, 2**31 - 1))
    assert "claims" in refused(read, r.file(inside))


# ---- nesting, numbers of things ----


@pytest.mark.parametrize(
    "name",
    [
        "lists",
        "attributes",
        "environments",
        "calls",
        "wrappers",
        "lists in an expression",
        "byte code",
        "bodies in byte code",
    ],
)
def test_nesting_without_end_is_refused(r, read, name):
    depth = 100_000
    opening, inner, closing = {
        "lists": (words(19, 1), r.NULL, b""),
        "attributes": (words(13 | r.ATTRIBUTES, 0) + words(2 | r.TAG) + words(1, 9, 1) + b"a", r.NULL, r.NULL),
        "environments": (words(4, 0), words(253), r.NULL * 3),
        "calls": (words(6), r.NULL, r.NULL),
        "wrappers": (words(238) + r.altrep("wrap_list", b"", b"")[4:] + words(2), r.NULL, r.NULL + r.NULL),
        "lists in an expression": (words(20, 2), r.NULL, r.NULL),
        "byte code": (words(21, 0) + r.ints([1]) + words(2, 13), r.ints([1]), words(254) + r.NULL),
        "bodies in byte code": (words(21) + r.ints([1]) + words(2), words(254) + r.NULL, words(254) + r.NULL),
    }[name]
    head = words(21, 0) + r.ints([1]) + words(1) if name == "bodies in byte code" else b""
    message = refused(read, gzip.compress(r.file(head + opening * depth + inner + closing * depth), 1), within_s=5)
    assert "nested too deeply" in message


def test_the_deepest_nesting_allowed_is_read(r, read):
    limits = Limits()
    value = read(r.file(words(19, 1) * (limits.max_depth - 1) + r.items([]))).root
    for _ in range(limits.max_depth - 1):
        value = value.items[0]
    assert len(value) == 0
    refused(read, r.file(words(19, 1) * limits.max_depth + r.items([])))


def test_more_parts_than_the_limit_are_refused(r, read):
    assert "1,000 parts" in refused(read, r.file(r.items([r.NULL] * 1000)), limits=Limits(max_items=1000))


def test_parts_that_cost_the_file_nothing_are_refused(r, read):
    content = gzip.compress(r.file(words(19, 2_000_000) + r.NULL * 2_000_000), 1)
    assert "parts" in refused(read, content, within_s=10)


def test_more_bytes_than_the_limit_are_refused(r, read):
    content = r.file(words(24, 3_000_000) + bytes(3_000_000))
    for pack in (bytes, gzip.compress, zstandard.compress):
        message = refused(read, pack(content), limits=Limits(max_inflated_bytes=1_000_000))
        assert "LOAD_MAX_GB" in message or "claims" in message


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zstd"])
def test_a_bomb_is_refused_by_its_ratio(r, read, tmp_path, monkeypatch, name):
    monkeypatch.setattr("cellworker.formats.r.rds.stream._RATIO_CHECKED_FROM", 16 << 20)
    size = 256 << 20
    pack = {
        "gzip": _Gzip,
        "bzip2": bz2.BZ2Compressor,
        "xz": lambda: lzma.LZMACompressor(preset=0),
        "zstd": zstandard.ZstdCompressor().compressobj,
    }[name]()
    zeros = bytes(4 << 20)
    total = 24 << 20  # as much as has to be there for the rule to apply; the header claims the rest
    content = pack.compress(r.file(words(24, size)))
    for _ in range(total // len(zeros)):
        content += pack.compress(zeros)
    content += pack.flush()
    message = refused(read, content, within_s=3)
    assert "times its size" in message or "claims" in message
    spooled = sum(path.stat().st_size for path in (tmp_path / "spool").iterdir())
    assert spooled <= 32 << 20


class _Gzip:
    def __init__(self):
        import zlib

        self._inner = zlib.compressobj(9, zlib.DEFLATED, 31)
        self.compress = self._inner.compress
        self.flush = self._inner.flush


# ---- compact vectors ----


def test_a_vector_that_maps_a_file_of_this_machine_is_refused(r, read):
    state = r.items([r.strings(["/etc/passwd"]), r.doubles([100.0]), r.ints([0])])
    for name in ("mmap_integer", "mmap_real"):
        assert name in refused(read, r.file(r.altrep(name, state)))
        assert name in refused(read, r.file(r.environment(frame=r.altrep(name, state))))


def test_an_unknown_compact_class_is_refused_where_its_value_is_wanted(r, read):
    vector = r.altrep("vroom_chr", r.NULL)
    assert "vroom_chr" in refused(read, r.file(vector))
    read(r.file(r.environment(frame=vector)))


@pytest.mark.parametrize("length", [2.0**60, 2.0**31, float("nan"), float("inf"), -1.0, 1.5])
@pytest.mark.parametrize("name", ["compact_intseq", "compact_realseq"])
def test_an_absurd_sequence_is_refused(r, read, tmp_path, name, length):
    refused(read, r.file(r.altrep(name, r.doubles([length, 1, 1]))))
    assert not list((tmp_path / "spool").iterdir())


def test_many_sequences_are_limited_together(r, read):
    one = r.altrep("compact_intseq", r.doubles([600, 1, 1]))
    assert "sequences" in refused(read, r.file(r.items([one, one])), limits=Limits(max_sequence=1000))


def test_a_malformed_compact_vector_is_refused(r, read):
    for state in (r.NULL, r.ints([3, 1, 1]), r.doubles([1]), r.doubles([3, 2.0**31, 1]), r.doubles([3, 0.5, 1])):
        refused(read, r.file(r.altrep("compact_intseq", state)))
    for name in ("deferred_string", "wrap_real"):
        for state in (r.NULL, r.ints([1]), r.items([])):
            refused(read, r.file(r.altrep(name, state)))
    refused(read, r.file(r.altrep("deferred_string", r.cells([("", r.strings(["a"]))]))))
    for info in (
        r.NULL,
        r.cells([]),
        r.cells([("", r.symbol("a"))]),
        r.cells([("", r.ints([1]))] * 3),
        words(2) + r.reference(9),
    ):
        refused(read, r.file(words(238) + info + r.NULL + r.NULL + bytes(64)))


# ---- structure ----


def test_references_outside_the_table_are_refused(r, read):
    for index in (
        words(255 | 1 << 8),
        words(255 | 3 << 8),
        words(255, 7),
        words(255, 0),
        words(255, -1),
        words(255 | -(1 << 8)),
    ):
        assert "reference" in refused(read, r.file(index))
    assert "reference" in refused(read, r.file(r.environment(frame=r.reference(2))))
    read(r.file(r.environment(frame=r.reference(1))))


@pytest.mark.parametrize("kind", [0, 11, 12, 18, 26, 99, 200, 236, 237, 239, 240, 243, 244, 245, 246])
def test_unknown_types_are_refused(r, read, kind):
    assert str(kind) in refused(read, r.file(words(kind) + bytes(64)))


def test_objects_of_the_writing_session_are_refused(r, read):
    refused(read, r.file(words(247, 0, 1) + r.char("x")))


def test_a_string_that_is_none_and_a_zero_byte_in_one_are_refused(r, read):
    for count in (1, 50):
        assert "string" in refused(read, r.file(words(16, count) + words(13, 0) * count))
        assert "zero byte" in refused(read, r.file(words(16, count) + r.char(b"a\x00b") * count))


def test_attributes_that_are_no_list_are_refused(r, read):
    assert "attributes" in refused(read, r.file(words(13 | r.ATTRIBUTES, 0) + r.ints([1])))


# ---- other files ----


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"X", "truncated"),
        (b"X\n", "truncated"),
        (b"A\n3\n262656\n197888\n", "ascii"),
        (b"B\n" + bytes(20), "version is 0"),
        (b"RDX3\nX\n" + bytes(20), "version is 0"),
        (b"RDA3\nA\n" + bytes(20), "as text"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5"),
        (b"\x0b\x0e\x0a\x0c" + bytes(20), "qs"),
        (b"not an rds file at all", "not an .rds"),
        (b"X\n" + words(4, 0, 0), "version is 4"),
        (b"X\n" + words(3, 0, 0, -1), "encoding"),
        (b"X\n" + words(3, 0, 0, 2_000_000_000), "encoding"),
        (b"\x1f\x8b", "damaged"),
        (b"\x1f\x8bgarbage and more garbage", "gzip"),
        (b"BZh9garbage", "bzip2"),
        (b"\xfd7zXZ\x00garbage and more garbage", "xz"),
        (b"\x28\xb5\x2f\xfdgarbage and more garbage", "zstd"),
    ],
)
def test_other_files_are_refused_in_words(read, content, word):
    message = refused(read, content)
    assert word in message or (word == "damaged" and "truncated" in message)


def test_a_missing_file_a_folder_and_a_pipe_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, code in {
        "none": ErrorCode.EXPERIMENT_NOT_FOUND,
        ".": ErrorCode.EXPERIMENT_UNREADABLE,
        "pipe": ErrorCode.EXPERIMENT_UNREADABLE,
    }.items():
        with pytest.raises(WorkerError) as caught:
            read_rds(tmp_path / name, tmp_path)
        assert caught.value.code is code


def test_a_wrong_checksum_is_refused(r, read):
    content = bytearray(gzip.compress(r.file(r.raw(bytes(1000)))))
    content[-5] ^= 1
    assert "gzip" in refused(read, bytes(content))


def test_a_full_disk_is_reported(r, read, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cellworker.formats.r.rds.spool._write", full)
    assert "TMPDIR" in refused(read, r.file(words(24, 3_000_000) + bytes(3_000_000)), code=ErrorCode.DISK_FULL)


# ---- chance ----


def _read_or_refuse(read, content):
    begin = time.perf_counter()
    codes = set()
    try:
        read(content, Limits(max_sequence=1 << 20))
    except WorkerError as refusal:
        codes.add(refusal.code)
    assert codes <= {ErrorCode.EXPERIMENT_UNREADABLE}
    assert time.perf_counter() - begin < 3


@FUZZ
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), min_size=1, max_size=4))
def test_flipped_bits_give_a_value_or_a_refusal(read, sound, flips):
    content = bytearray(sound)
    for place, bit in flips:
        content[place % len(content)] ^= 1 << bit
    _read_or_refuse(read, bytes(content))


@FUZZ
@given(start=st.integers(0, 10**6), junk=st.binary(min_size=1, max_size=40), packed=st.booleans())
def test_junk_anywhere_gives_a_value_or_a_refusal(read, sound, start, junk, packed):
    content = gzip.compress(sound) if packed else sound
    start %= len(content)
    _read_or_refuse(read, content[:start] + junk + content[start + len(junk) :])


@FUZZ
@given(
    values=st.lists(
        st.sampled_from(
            [
                0,
                1,
                2,
                3,
                4,
                6,
                9,
                13,
                14,
                16,
                19,
                20,
                21,
                22,
                25,
                238,
                240,
                243,
                244,
                254,
                255,
                0x202,
                0x402,
                0x602,
                0x210,
                -1,
                511,
            ]
        ),
        max_size=60,
    )
)
def test_any_words_give_a_value_or_a_refusal(r, read, values):
    _read_or_refuse(read, r.file(words(*values)))


@pytest.mark.shared
def test_flipped_bits_in_a_real_file_give_a_value_or_a_refusal(read, shared):
    content = gzip.decompress(Path(shared / "data/experiments/pbmcsmall/v4/r.rds").read_bytes())
    chance = random.Random(3)
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 30)):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        _read_or_refuse(read, bytes(damaged))
