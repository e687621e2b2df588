"""Checksums of a store's blocks: CRC-32, with and without the library that computes it quickly."""

import sys
import zlib

import numpy as np
import pytest

from cellworker.experiment.store import checksums
from cellworker.experiment.store.checksums import BLOCK_BYTES, block_checksums, first_damage


@pytest.fixture(params=["ISA-L", "zlib"])
def library(request, monkeypatch):
    checksums._crc32.cache_clear()
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    yield request.param
    checksums._crc32.cache_clear()


@pytest.mark.usefixtures("library")
def test_each_block_has_the_crc_32_of_its_bytes_and_a_flipped_byte_is_found(tmp_path):
    path, size = tmp_path / "a", 2 * BLOCK_BYTES + 1001
    content = np.random.default_rng(5).integers(0, 256, size).astype(np.uint8)
    content.tofile(path)
    with path.open("r+b") as file:
        found = block_checksums(file.fileno(), size, 2)
        blocks = [content[start : start + BLOCK_BYTES] for start in range(0, size, BLOCK_BYTES)]
        assert found.tolist() == [zlib.crc32(block) for block in blocks]
        assert first_damage(file.fileno(), size, found) is None
        file.seek(size - 1)
        file.write(bytes([content[-1] ^ 1]))
        file.flush()
        assert f"bytes {2 * BLOCK_BYTES:,} to {size:,}" in str(first_damage(file.fileno(), size, found))
        file.truncate(size - 1)
        assert "cut short" in str(first_damage(file.fileno(), size, found))
