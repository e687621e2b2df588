"""Tables of very many columns: the work for each is counted, since time tells little on a busy machine."""

import contextlib
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.formats.anndata_files import load, read, write
from tests.formats.test_anndata_reading import LOG, adata

from cellworker.experiment.model import Categorical
from cellworker.experiment.store.layout import StoreLayout
from cellworker.experiment.store.store import open_store, write_store
from cellworker.formats.anndata.containers.zarr_files import StoreFiles
from cellworker.formats.anndata.containers.zarr_out import ZarrSink
from cellworker.formats.common.kinds import content_hash


class Counter:
    """Counts the calls of functions, and calls them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *functions: tuple[object, str]) -> None:
        self.calls = 0
        for owner, name in functions:
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, function):
        def call(*args, **kwargs):
            self.calls += 1
            return function(*args, **kwargs)

        return call


def wide(columns: int) -> pd.DataFrame:
    index = [f"cell{i}" for i in range(len(LOG))]
    kinds = [
        lambda i: np.arange(len(LOG)) + i / 2,
        lambda i: np.arange(len(LOG)) % 2 == i % 2,
        lambda i: pd.Categorical(list("aabbcc")),
    ]
    return pd.DataFrame({f"column {i}": kinds[i % 3](i) for i in range(columns)}, index=index)


def calls_to_read(folder, monkeypatch, form: str, columns: int, *functions: tuple[object, str]) -> int:
    path = write(adata(obs=wide(columns)), folder, form, f"wide{columns}")
    with monkeypatch.context() as patch:
        counter = Counter(patch, *functions)
        draft, findings = read(path)
    assert not findings.errors
    assert draft is not None
    assert len(draft.metadata) >= columns
    return counter.calls


def test_a_column_is_opened_once_to_be_inspected_and_once_to_be_read(tmp_path, monkeypatch):
    few, many = (calls_to_read(tmp_path, monkeypatch, "h5ad", n, (h5py.h5o, "open")) for n in (30, 90))
    # Of three columns one is a group with two arrays: five objects, and nothing else is looked up.
    assert many - few <= 2 * 60 * 5 / 3


def test_no_column_of_numbers_or_labels_needs_more_than_the_plain_object_of_the_library(tmp_path, monkeypatch):
    functions = [(h5py.Dataset, "__init__"), (h5py.Group, "__getitem__"), (h5py.Group, "__contains__")]
    few, many = (calls_to_read(tmp_path, monkeypatch, "h5ad", n, *functions) for n in (30, 90))
    assert many - few <= 0


def laid_out(path, columns: int) -> int:
    """Lay a table out and return the bytes of the gaps that HDF5 keeps a list of."""
    labels = Categorical(np.zeros(6, np.int32), ["a", "b"])
    contents = [(f"m{i}", f"c{i}", labels if i % 3 == 2 else np.zeros(6)) for i in range(columns)]
    with StoreLayout(path) as layout:
        layout.table("obs", ("barcodes", list("abcdef")), contents)
        return layout._file.id.get_freespace()


def test_columns_leave_no_gaps_that_the_library_searches_for_each_of_them(tmp_path):
    few, many = laid_out(tmp_path / "few.h5ad", 300), laid_out(tmp_path / "many.h5ad", 3000)
    assert many <= few + 8192


def test_the_store_finds_no_group_by_its_path_for_a_column(tmp_path, monkeypatch):
    found = []
    for columns in (30, 90):
        with monkeypatch.context() as patch:
            counter = Counter(patch, (h5py.Group, "__getitem__"))
            laid_out(tmp_path / f"{columns}.h5ad", columns)
        found.append(counter.calls)
    assert found[0] == found[1]


def test_a_wide_store_holds_every_column_and_anndata_reads_it(tmp_path):
    table = wide(300)
    draft, _ = read(write(adata(obs=table), tmp_path, "h5ad"))
    assert draft is not None
    write_store(draft, tmp_path / "store.h5ad", key="k")
    experiment, theirs = open_store(tmp_path / "store.h5ad"), load(tmp_path / "store.h5ad")
    for name in table:
        ours = experiment.metadata[name]
        if isinstance(ours, Categorical):
            assert [ours.categories[code] for code in ours.codes] == table[name].tolist()
        else:
            assert ours.flags.aligned
            assert not ours.flags.writeable
            np.testing.assert_array_equal(ours, table[name])
        assert theirs.obs[name].tolist() == table[name].tolist()


def test_a_zarr_store_is_listed_once_and_each_description_is_read_once(tmp_path, monkeypatch):
    few, many = (calls_to_read(tmp_path, monkeypatch, "zarr-2", n, (json, "loads")) for n in (30, 90))
    # Of three columns one is a group with two arrays: five objects of a description and its attributes each.
    assert many - few <= 2 * 60 * 5 / 3
    few, many = (calls_to_read(tmp_path, monkeypatch, "zarr-2", n, (os, "scandir")) for n in (31, 91))
    assert many - few <= 60 * 5 / 3 + 1


def test_the_size_of_an_array_is_known_without_a_look_at_all_others(tmp_path):
    path = write(adata(obs=wide(30)), tmp_path, "zarr-2")
    files = StoreFiles(path)
    for place in ("", "obs", "obs/column 2", "X"):
        below = [item for item in (path / place).rglob("*") if item.is_file()]
        assert files.size(place) == sum(item.stat().st_size for item in below)
    assert files.size("not there") == 0


def test_a_wide_zarr_store_is_written_with_one_description_of_each_array_and_no_thread_per_column(
    tmp_path, monkeypatch
):
    counts = []
    for columns in (30, 90):
        with monkeypatch.context() as patch:
            counter = Counter(patch, (ThreadPoolExecutor, "submit"), (json, "loads"))
            with ZarrSink(tmp_path / f"{columns}.zarr") as sink:
                sink.group("", {})
                for number in range(columns):
                    sink.array(f"c{number}", (6,), np.float64, lambda start, stop: np.arange(start, stop, 1.0), {})
        counts.append(counter.calls)
        store = tmp_path / f"{columns}.zarr"
        consolidated = json.loads((store / ".zmetadata").read_bytes())["metadata"]
        files = [file for name in (".zgroup", ".zarray", ".zattrs") for file in store.rglob(name)]
        assert consolidated == {file.relative_to(store).as_posix(): json.loads(file.read_bytes()) for file in files}
    assert counts[0] == counts[1]


@given(st.dictionaries(st.from_regex(r"[a-c.]{1,2}(/[a-c]{1,2}){0,2}", fullmatch=True), st.binary(max_size=3)))
def test_the_hash_of_a_folder_is_that_of_its_files_in_the_order_of_their_paths(tmp_path_factory, contents):
    folder = tmp_path_factory.mktemp("hashed")
    for name, content in contents.items():
        with contextlib.suppress(OSError):  # a file where another's folder would be, or "."
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    listing = [
        (item.relative_to(folder).as_posix(), hashlib.sha256(item.read_bytes()).hexdigest())
        for item in sorted(folder.rglob("*"))
        if item.is_file()
    ]
    assert content_hash(folder) == hashlib.sha256(json.dumps(listing).encode()).hexdigest()
