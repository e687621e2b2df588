"""Objects that R's own packages made and saved, what R says is in them, and containers built by their description."""

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
import zstandard

from cellworker.experiment.store.store import StoredExperiment, open_store
from cellworker.formats.common.findings import Findings, Problem
from cellworker.formats.opening.loading import load
from cellworker.formats.opening.shelf import store_file

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "rformats"
BLOCK = 1 << 20


def shuffled(block: bytes) -> bytes:
    """Sort the bytes of whole words by their place in the word, as the description of qs2 has it."""
    whole = len(block) // 8 * 8
    return np.frombuffer(block[:whole], np.uint8).reshape(-1, 8).T.tobytes() + block[whole:]


def qs2(
    content: bytes, *, block: int = BLOCK, shuffle: bool = True, check: int | None = None, big: bool = False
) -> bytes:
    """Pack R's serialisation as the package qs2 does: every other block is shuffled."""
    word = ">" if big else "<"
    body = b""
    for number, start in enumerate(range(0, len(content), block)):
        piece = content[start : start + block]
        turned = shuffle and number % 2 == 0
        stored = zstandard.compress(shuffled(piece) if turned else piece)
        body += struct.pack(f"{word}I", len(stored) | (turned << 31)) + stored
    value = (xxhash.xxh3_64_intdigest(body) or 1) if check is None else check
    head = bytes([0x0B, 0x0E, 0x0A, 0xC1, 1, 1, 1 if big else 2, shuffle]) + bytes(8)
    return head + struct.pack(f"{word}Q", value) + body


def plain(name: str) -> bytes:
    """Return the content of a file of `saveRDS`, unpacked."""
    content = (FIXTURES / name).read_bytes()
    return zlib.decompress(content, 31) if content.startswith(b"\x1f\x8b") else content


@pytest.fixture(scope="session")
def truth() -> dict[str, Any]:
    found = json.loads((FIXTURES / "truth.json").read_text())
    matrices = ("counts", "logcounts", "pca", "tsne", "antibodies", "scaled")
    return found | {name: np.array(found[name], np.float64) for name in matrices}  # of text, with all digits


@pytest.fixture
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., StoredExperiment]:
    """Open a file, of the fixtures where a name is given: what the sandboxed child does, done here."""

    def open_(path: str | Path, **choice: Any) -> StoredExperiment:
        spool = tmp_path_factory.mktemp("spool")
        found = load(
            str(FIXTURES / path), str(spool), max_bytes=1 << 30, max_ratio=250.0, threads=1, choice=choice,
            progress=lambda _stage, _fraction: None,
        )  # fmt: skip
        findings = Findings()
        findings.problems += map(Problem.from_json, found["problems"])
        findings.raise_errors()
        return open_store(spool / store_file(found["store"]))

    return open_


def dense(matrix: Any, n_genes: int) -> np.ndarray:
    """Return genes x cells of a matrix of cells."""
    out = np.zeros((n_genes, len(matrix.indptr) - 1))
    for cell, (start, end) in enumerate(zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)):
        out[matrix.genes[start:end], cell] = matrix.values[start:end]
    return out
