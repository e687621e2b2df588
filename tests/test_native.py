"""The compiled kernels and their header: one interface, read by C and by Python, and refused where they differ."""

import ctypes
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker import native
from cellworker.native.heap import large_buffer

DECLARED = native.signatures(native.HEADER.read_text())


def test_every_declared_function_is_in_the_library_and_has_a_caller(root):
    sources = "".join(path.read_text() for path in [*root.glob("src/**/*.py"), *root.glob("tests/**/*.py")])
    assert DECLARED.keys() >= {"cw_interface", "cw_rank_scan", "cw_lz4_block"}
    for name in DECLARED:
        assert native.kernel(name)
        family = re.sub(r"(?:_to_floats|_?[uf]?\d+)$", "", name)  # f"cw_qs_unshuffle{name}"
        assert family in sources, f"{name} is called by nothing"


def test_every_function_with_the_prefix_is_declared_in_the_header(root):
    defined = set()
    for path in root.glob("src/cellworker/native/**/*.c"):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
        defined |= set(re.findall(r"^(?!static)[\w *]*?\b(cw_\w+)\([^;]*?\)\s*\{", text, re.MULTILINE | re.DOTALL))
        assert "visibility" not in text, f"{path.name}: what is exported is said in the header"
    assert len(defined) > 60
    assert defined <= DECLARED.keys()


def test_signatures_are_read_as_c_means_them():
    header = """
    /* EXPORT int32_t cw_comment(void); */
    EXPORT int64_t cw_a(const int32_t *cells, uint8_t n,
                        double x);
    EXPORT const char *cw_b(void);
    EXPORT void cw_c(const Handle *handle, float rate);
    """
    assert native.signatures(header) == {
        "cw_a": (ctypes.c_int64, (ctypes.c_void_p, ctypes.c_uint8, ctypes.c_double)),
        "cw_b": (ctypes.c_void_p, ()),
        "cw_c": (None, (ctypes.c_void_p, ctypes.c_float)),
    }


@pytest.mark.parametrize("declared", ["int", "long n", "size_t n", "struct Pair pair"])
def test_a_type_without_a_fixed_width_is_refused(declared):
    with pytest.raises(ValueError, match="fixed width"):
        native.signatures(f"EXPORT void cw_x({declared if ' ' in declared else declared + ' n'});")


def test_a_function_that_is_not_declared_cannot_be_called():
    with pytest.raises(KeyError, match="cw_nope"):
        native.kernel("cw_nope")


def test_a_library_of_another_interface_is_refused_in_words():
    library = ctypes.CDLL(str(native._LIBRARY))
    native._checked(library, native.HEADER.read_bytes())
    with pytest.raises(ImportError, match="another version than this Python code: reinstall cellworker"):
        native._checked(library, native.HEADER.read_bytes() + b"\n")


def test_a_library_from_before_there_was_a_version_is_refused_too():
    with pytest.raises(ImportError, match="another version"):
        native._checked(ctypes.CDLL(None), b"")


def expected_lz4(block: bytes, capacity: int) -> bytes | None:
    """The block format as its description says it, byte after byte; None where a block is damaged."""
    out, at = bytearray(), 0

    def length(start: int) -> int | None:
        nonlocal at
        total = start
        while start == 15:
            if at >= len(block):
                return None
            total, more, at = total + block[at], block[at], at + 1
            if more != 255:
                break
        return total

    while at < len(block):
        token, at = block[at], at + 1
        literals = length(token >> 4)
        if literals is None or literals > len(block) - at or len(out) + literals > capacity:
            return None
        out += block[at : at + literals]
        at += literals
        if at == len(block):
            return bytes(out)
        if len(block) - at < 2:
            return None
        distance, at = int.from_bytes(block[at : at + 2], "little"), at + 2
        copied = length(token & 15)
        if copied is None or not 0 < distance <= len(out) or len(out) + copied + 4 > capacity:
            return None
        for _ in range(copied + 4):
            out.append(out[-distance])
    return None


@given(
    st.lists(st.sampled_from([0, 1, 2, 4, 15, 16, 17, 31, 64, 240, 241, 255]), max_size=24),
    st.integers(0, 600),
)
def test_lz4_blocks_are_decompressed_as_their_format_says(block, capacity):
    content, out = np.array(block, np.uint8), np.empty(max(capacity, 1), np.uint8)
    undo = native.kernel("cw_lz4_block")
    size = undo(native.address(content, np.uint8), len(block), native.address(out, np.uint8, writable=True), capacity)
    expected = expected_lz4(bytes(block), capacity)
    assert size == (-1 if expected is None else len(expected))
    if expected is not None:
        assert out[:size].tobytes() == expected


@pytest.mark.parametrize("capacity", [0, 100, 5_000_000])
@pytest.mark.parametrize("length", [0, 99, 6_000_001])
def test_a_large_buffer_holds_what_is_written_whatever_its_capacity(capacity, length):
    out = large_buffer(capacity)
    out.write(b"x" * length)
    out.truncate()
    assert out.getvalue() == b"x" * length
