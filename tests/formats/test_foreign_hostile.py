"""Foreign files of ill will: refused with a sentence, and nothing outside of them is touched."""

import gzip
import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.formats import foreign_files as files

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.common.write_limit import WriteLimit
from cellworker.formats.foreign.shown import Reading
from cellworker.formats.foreign.text import lines
from cellworker.formats.foreign.text.lines import blocks_of_lines
from cellworker.formats.foreign.text.market import read_market
from cellworker.formats.foreign.unpacking import unpacked
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.opening.recognising import kind_of
from cellworker.native import address, kernel
from cellworker.settings import Settings

MARKET = "%%MatrixMarket matrix coordinate integer general\n"


def reading(folder: Path | None = None, max_bytes: int = 1 << 30, limit: WriteLimit | None = None) -> Reading:
    return Reading(Scratch(folder, limit), Findings(), max_bytes)


def refusal(path: Path, tmp_path: Path) -> str:
    with pytest.raises(WorkerError) as told:
        open_experiment(path, Settings(store_dir=tmp_path / "stores", threads=1))
    assert told.value.code in {ErrorCode.EXPERIMENT_UNREADABLE, ErrorCode.EXPERIMENT_NOT_FOUND}
    return told.value.message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (MARKET + "3 2 1\n4 1 1\n", "a row from 1 to 3"), (MARKET + "3 2 1\n0 1 1\n", "is no entry"),
        (MARKET + "3 2 1\n-1 1 1\n", "is no entry"), (MARKET + "3 2 1\n1 3 1\n", "a column from 1 to 2"),
        (MARKET + "3 2 1\n1 99999999999999999999 1\n", "is no entry"), (MARKET + "3 2 1\n1 1 1 1\n", "is no entry"),
        (MARKET + "3 2 1\n1 1 0x10\n", "is no entry"), (MARKET + "3 2 1\n1 1 nan\n", "is no entry"),
        (MARKET + "3 2 1\n1 1\n", "is no entry"), (MARKET + "3 2 2\n1 1 1\n", "1 entries where its size says 2"),
        (MARKET + "3 2 0\n1 1 1\n", "1 entries where its size says 0"), (MARKET + "3 2\n", "its size is"),
        (MARKET + "3 2 -1\n", "its size is"), (MARKET + "99999999999 2 0\n", "its size is"),
        (MARKET, "before its size"),
        (MARKET.replace("coordinate", "array") + "3 2\n1\n", "its header is"),
        (MARKET.replace("integer", "complex") + "3 2 0\n", "complex general"),
        (MARKET.replace("general", "symmetric") + "3 3 0\n", "integer symmetric"),
    ],
)  # fmt: skip
def test_a_text_matrix_with_wrong_sizes_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "matrix.mtx"
    path.write_text(text)
    with pytest.raises(WorkerError, match=r"matrix\.mtx: ") as told:
        read_market(path, reading(), cells_are_rows=False)
    assert why in told.value.message


@pytest.mark.parametrize("name", ["matrix.mtx", "barcodes.tsv", "features.tsv"])
def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path, name: str) -> None:
    folder = files.tenx_folder(tmp_path / "sample", packed=False)
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    message = refusal(folder, tmp_path)
    assert "without its" in message or "holds no matrix" in message


def test_a_pipe_in_place_of_a_list_is_not_waited_for(tmp_path: Path) -> None:
    folder = files.tenx_folder(tmp_path / "sample", packed=False)
    (folder / "barcodes.tsv").unlink()
    os.mkfifo(folder / "barcodes.tsv")
    assert "without its barcodes" in refusal(folder, tmp_path)


def test_text_that_swells_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"0,0,0,0\n" * 400_000))
    with pytest.raises(WorkerError, match="after decompression"):
        for _ in blocks_of_lines(path, 1 << 20):
            pass
    monkeypatch.setattr(lines, "_MAX_LINE", 6 << 20)
    path.write_bytes(gzip.compress(b"0" * 8_000_000, 1))
    with pytest.raises(WorkerError, match="a line of more than 256 MB"):
        for _ in blocks_of_lines(path, 1 << 40):
            pass


def test_a_truncated_file_is_called_truncated(tmp_path: Path) -> None:
    folder = files.tenx_folder(tmp_path / "sample")
    path = folder / "matrix.mtx.gz"
    path.write_bytes(path.read_bytes()[:-30])
    assert "compression is broken or cut short" in refusal(folder, tmp_path)


def test_lists_of_other_lengths_are_refused(tmp_path: Path) -> None:
    folder = files.tenx_folder(tmp_path / "sample", packed=False)
    (folder / "barcodes.tsv").write_text("\n".join(files.BARCODES[:-1]))
    assert "59 barcodes for 60 in the matrix" in refusal(folder, tmp_path)


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out", "a\\b", "x" * 10 + "/" + "/".join("d" * 80)])
def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(WorkerError, match=r"no ordinary file|in it"):
        unpacked(path, tmp_path / "spool" / "in", reading(tmp_path))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "spool" / "out").exists()


def test_an_archive_of_links_or_of_too_much_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("matrix.mtx")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(WorkerError, match="no ordinary file"):
        unpacked(tmp_path / "a.zip", tmp_path / "in", reading(tmp_path))
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(200_000_000))
    small = WriteLimit((tmp_path / "b.zip").stat().st_size, 250, 1 << 40)
    with pytest.raises(WorkerError, match="LOAD_MAX_RATIO"):
        unpacked(tmp_path / "b.zip", tmp_path / "in2", reading(tmp_path, limit=small))


def foreign_indices(path: Path) -> None:
    files.tenx_h5(path)
    with h5py.File(path, "r+") as file:
        values = file["matrix/indices"][:]
        values[3] = 2**40
        file["matrix/indices"][:] = values


def descending_bounds(path: Path) -> None:
    files.tenx_h5(path)
    with h5py.File(path, "r+") as file:
        file["matrix/indptr"][5] = 2**50


def other_shape(path: Path) -> None:
    files.tenx_h5(path)
    with h5py.File(path, "r+") as file:
        file["matrix/shape"][:] = [2**31 - 1, 2**31 - 1]


def outside(path: Path) -> None:
    files.tenx_h5(path)
    with h5py.File(path, "r+") as file:
        del file["matrix/barcodes"]
        file["matrix/barcodes"] = h5py.ExternalLink("/etc/passwd", "/x")


@pytest.mark.parametrize("bend", [foreign_indices, descending_bounds, other_shape, outside])
def test_a_10x_matrix_with_wrong_sizes_is_refused(tmp_path: Path, bend) -> None:
    bend(tmp_path / "a.h5")
    assert refusal(tmp_path / "a.h5", tmp_path)


def test_a_graph_of_loom_that_names_strange_nodes_is_refused(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.loom"
    path.write_bytes((root / "tests/fixtures/foreign/spec3.loom").read_bytes())
    with h5py.File(path, "r+") as file:
        file["col_graphs/KNN/a"][0] = 10_000
    assert "names a node outside" in refusal(path, tmp_path)


def test_a_code_outside_the_labels_of_an_old_file_is_refused(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.h5ad"
    path.write_bytes((root / "tests/fixtures/foreign/old.h5ad").read_bytes())
    with h5py.File(path, "r+") as file:
        table = file["obs"][:]
        table["leiden"] = 100
        file["obs"][:] = table
    assert "a code of leiden outside its 4 categories" in refusal(path, tmp_path)


NUMBERS = st.one_of(
    st.integers(-(10**18), 10**18).map(str), st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=7).map(str),
)  # fmt: skip


@given(texts=st.lists(NUMBERS, min_size=1, max_size=20), separator=st.sampled_from(",\t; "))
def test_numbers_in_text_are_read_to_the_last_bit(texts: list[str], separator: str) -> None:
    line = np.frombuffer(separator.join(texts).encode(), np.uint8)
    out, at = np.empty(len(texts)), np.zeros(1, np.int64)
    found = kernel("cw_delimited_numbers")(
        address(line, np.uint8), len(line), ord(separator), len(out), address(out, np.float64, writable=True),
        address(at, np.int64, writable=True),
    )  # fmt: skip
    assert found == len(texts)
    assert out.tolist() == [float(text) for text in texts]


@given(content=st.binary(max_size=300), separator=st.sampled_from(b",\t; "))
def test_any_bytes_end_in_numbers_or_in_a_refusal(content: bytes, separator: int) -> None:
    line = np.frombuffer(content or b" ", np.uint8)
    out, at = np.empty(8), np.zeros(1, np.int64)
    found = kernel("cw_delimited_numbers")(
        address(line, np.uint8), len(line), separator, len(out), address(out, np.float64, writable=True),
        address(at, np.int64, writable=True),
    )  # fmt: skip
    assert -1 <= found <= 9
    assert 0 <= at[0] <= len(line)


def test_the_kind_of_a_huge_line_is_reported_in_bounded_time(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a," * 3_000_000)
    assert kind_of(tmp_path / "a")
