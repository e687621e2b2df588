"""What is kept for later requests, and what damage and a full disk do to it."""

import os

import numpy as np
import pytest

from cellworker.tasks.common import result_cache as module
from cellworker.tasks.common.result_cache import kept


@pytest.fixture
def make():
    calls = []

    def made():
        calls.append(None)
        return {"a": np.arange(1000), "b": np.array([0.5])}

    made.calls = calls
    return made


def test_what_is_kept_is_not_made_again(tmp_path, make):
    first = kept(tmp_path / "kept", "k", make)
    again = kept(tmp_path / "kept", "k", make)
    assert len(make.calls) == 1
    assert {name: (x.dtype, x.tolist()) for name, x in first.items()} == {
        name: (x.dtype, x.tolist()) for name, x in again.items()
    }
    kept(tmp_path / "kept", "other", make)
    assert len(make.calls) == 2
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["k.npz", "other.npz"]


def test_without_a_folder_nothing_is_kept(make):
    kept(None, "k", make)
    kept(None, "k", make)
    assert len(make.calls) == 2


@pytest.mark.parametrize("damage", [b"", b"nonsense", None, "flip", "objects"])
def test_a_damaged_file_is_made_again(tmp_path, make, damage):
    kept(tmp_path, "k", make)
    file = tmp_path / "k.npz"
    content = file.read_bytes()
    if damage == "flip":
        middle = len(content) // 2
        content = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    elif damage == "objects":
        np.savez(file, a=np.array([{}], object))
        content = file.read_bytes()
    else:
        content = content[: len(content) // 2] if damage is None else damage
    file.write_bytes(content)
    assert kept(tmp_path, "k", make)["a"].tolist() == list(range(1000))
    assert len(make.calls) == 2
    kept(tmp_path, "k", make)
    assert len(make.calls) == 2


def test_what_was_used_longest_ago_goes_first(tmp_path, make, monkeypatch):
    monkeypatch.setattr(module, "_MOST_FILES", 2)
    for age, key in enumerate(("a", "b")):
        kept(tmp_path, key, make)
        os.utime(tmp_path / f"{key}.npz", (1000 + age, 1000 + age))
    kept(tmp_path, "a", make)  # used again
    kept(tmp_path, "c", make)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "c"]


def test_all_together_stay_within_their_bytes(tmp_path, make, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 10_000)
    for age, key in enumerate("abc"):
        kept(tmp_path, key, make)
        os.utime(tmp_path / f"{key}.npz", (1000 + age, 1000 + age))
    assert [path.stem for path in tmp_path.iterdir()] == ["c"]


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path, make):
    (tmp_path / "file").write_text("")
    assert kept(tmp_path / "file", "k", make)["b"].tolist() == [0.5]
