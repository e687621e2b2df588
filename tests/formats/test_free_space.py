"""Too little disk or memory is known before the work begins; what is written is given back as soon as it can be."""

import functools
from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy import sparse

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.store.spent_pages import can_give_back
from cellworker.formats.common import free_space
from cellworker.formats.common import scratch as scratches
from cellworker.formats.common.free_space import Figures, FreeSpace, free_disk, free_memory
from cellworker.formats.common.scratch import Scratch, give_back, is_spooled
from cellworker.formats.opening import loading
from cellworker.formats.opening.loading import load
from cellworker.sample import sample_path

CELLS, GENES = 3000, 400


@pytest.fixture(scope="module", params=["csr", "csc", "dense"])
def source(request, tmp_path_factory) -> Path:
    """Counts in a layer and their logarithms in X, in each way that AnnData has for a matrix."""
    made = sparse.random(CELLS, GENES, 0.3, "csr", np.float32, random_state=np.random.default_rng(3))
    made.data = np.ceil(made.data * 5)
    data = made.copy()
    data.data = np.log1p(made.data * np.repeat(1e4 / made.sum(axis=1).A1, np.diff(made.indptr)).astype(np.float32))
    kept = {"csr": lambda x: x, "csc": sparse.csc_matrix, "dense": lambda x: x.toarray()}[request.param]
    found = anndata.AnnData(kept(data), layers={"counts": kept(made)})
    found.obs_names = [f"cell{i}" for i in range(CELLS)]
    found.var_names = [f"gene{i}" for i in range(GENES)]
    path = tmp_path_factory.mktemp("space") / "a.h5ad"
    found.write_h5ad(path)
    return path


def loaded(source: Path, folder: Path, **options) -> list[tuple[str, int]]:
    """Load a file; returns each stage with the bytes that then lie in the folder, unnamed files included."""
    folder.mkdir()
    seen: list[tuple[str, int]] = []
    load(
        str(source), str(folder), max_bytes=1 << 40, max_ratio=250.0, threads=2, choice={"make": False},
        progress=lambda stage, part=None: seen.append((stage, taken_in(folder))), **options,
    )  # fmt: skip
    return seen


def taken_in(folder: Path) -> int:
    """Bytes that the files of a folder take on the disk, also those that have no name any more."""
    found = {}
    # A map keeps a descriptor of its file.
    for path in [*folder.iterdir(), *Path("/proc/self/fd").iterdir()]:
        try:
            if path.parent == folder or str(path.readlink()).startswith(str(folder)):
                status = path.stat()
                found[status.st_ino] = status.st_blocks * 512
        except OSError:
            continue
    return sum(found.values())


@pytest.mark.parametrize("what", ["disk", "memory"])
def test_too_little_is_said_with_figures_before_a_matrix_is_read(source, tmp_path, monkeypatch, what):
    stages: list[str] = []
    monkeypatch.setattr(loading, "FreeSpace", _Small.of(what))
    folder = tmp_path / "spool"
    folder.mkdir()
    with pytest.raises(WorkerError) as caught:
        load(
            str(source), str(folder), max_bytes=1 << 40, max_ratio=250.0, threads=1,
            progress=lambda stage, part=None: stages.append(stage),
        )  # fmt: skip
    assert caught.value.code is (ErrorCode.DISK_FULL if what == "disk" else ErrorCode.OUT_OF_MEMORY)
    assert f"{CELLS:,} cells and {GENES:,} genes" in caught.value.message
    assert "1 MB are free" in caught.value.message
    assert ("STORE_DIR" if what == "disk" else "a machine with more memory") in caught.value.message
    assert stages == []
    assert list(folder.iterdir()) == []


class _Small:
    """Free space of 1 MB of something, and all that the machine has of the other."""

    @staticmethod
    def of(what: str):
        def made(folder: Path, memory_bytes: float, buffer_bytes: int) -> FreeSpace:
            disk, memory = (lambda _: 10**6, free_memory) if what == "disk" else (free_disk, lambda: 1e6)
            return FreeSpace(folder, memory_bytes, buffer_bytes, disk, memory)

        return made


def test_the_limit_of_the_process_that_reads_is_named(source, tmp_path):
    with pytest.raises(WorkerError, match=r"may use 105 MB: raise LOAD_MEMORY_GB") as caught:
        loaded(source, tmp_path / "spool", memory_bytes=100 << 20)
    assert caught.value.code is ErrorCode.OUT_OF_MEMORY


def test_an_r_object_is_refused_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "FreeSpace", lambda *arguments: FreeSpace(*arguments, disk=lambda _: 10**6))
    with pytest.raises(WorkerError, match=r"takes at least .* MB more of the disk .* 1 MB are free") as caught:
        loaded(sample_path() / "r.rds", tmp_path / "spool")
    assert caught.value.code is ErrorCode.DISK_FULL


def test_a_disk_that_fills_up_meanwhile_is_told_before_each_array(source, tmp_path, monkeypatch):
    left = iter([10**12, 10**12, *[1000] * 100])
    monkeypatch.setattr(loading, "FreeSpace", lambda *arguments: FreeSpace(*arguments, disk=lambda _: next(left)))
    monkeypatch.setattr(scratches, "_IN_MEMORY", 1 << 16)
    with pytest.raises(WorkerError, match=r"1 kB are free") as caught:
        loaded(source, tmp_path / "spool")
    assert caught.value.code is ErrorCode.DISK_FULL


def test_what_is_needed_is_what_is_taken(source, tmp_path, monkeypatch):
    """The store of a file is at least what was foretold for it, and not twice of it."""
    foretold: list[Figures] = []
    original = FreeSpace.require
    monkeypatch.setattr(FreeSpace, "require", lambda free, figures: (foretold.append(figures), original(free, figures)))
    loaded(source, tmp_path / "spool")
    (figures,) = foretold
    (store,) = (tmp_path / "spool").glob("*.h5ad")
    assert 0.4 * store.stat().st_size < figures.store_bytes <= store.stat().st_size


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells which files without a name there are")
def test_opening_takes_little_more_of_the_disk_than_the_store(source, tmp_path, monkeypatch):
    if not can_give_back(tmp_path):
        pytest.skip("the file system gives no piece of a file back")
    from cellworker.experiment.store import rows, sorted_side

    monkeypatch.setattr(scratches, "_IN_MEMORY", 1 << 14)
    monkeypatch.setattr(rows, "_BLOCK", 1 << 15)
    monkeypatch.setattr(sorted_side, "_RESIDENT", 0)
    monkeypatch.setattr(sorted_side, "_SHELF", 1 << 15)
    stages = loaded(source, tmp_path / "spool")
    (store,) = (tmp_path / "spool").glob("*.h5ad")
    size = store.stat().st_size
    peak = max(taken for stage, taken in stages)
    assert peak < 1.2 * size
    assert {"checking", "writing", "sorting"} <= {stage for stage, _ in stages}


def test_the_store_is_the_same_whether_its_sources_are_kept_or_given_back(source, tmp_path, monkeypatch):
    monkeypatch.setattr(scratches, "_IN_MEMORY", 1 << 14)
    loaded(source, tmp_path / "given")
    monkeypatch.setattr(loading, "give_back", None)
    loaded(source, tmp_path / "kept", buffer_bytes=1 << 16)
    (one,), (other,) = ((tmp_path / name).glob("*.h5ad") for name in ("given", "kept"))
    assert one.read_bytes() == other.read_bytes()


def test_only_temporary_files_are_given_back(tmp_path):
    scratch = Scratch(tmp_path)
    made = scratch.empty((9 << 20,), np.float32)
    made[:] = 1
    assert is_spooled(made[5:])
    give_back(made[1 << 20 : 2 << 20])
    assert made[(1 << 20) - 1] == made[2 << 20] == 1
    assert not made[(1 << 20) + 4096 : (2 << 20) - 4096].any() or not can_give_back(tmp_path)
    path = tmp_path / "mine"
    np.ones(1 << 16, np.float32).tofile(path)
    mine = np.memmap(path, np.float32, "r+")
    give_back(mine)
    in_memory = np.ones(10)
    give_back(in_memory)
    assert mine.all()
    assert in_memory.all()
    assert [item.name for item in tmp_path.iterdir()] == ["mine"]


def test_memory_is_what_the_machine_or_the_container_has_left(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:     5000 kB\n")
    monkeypatch.setattr(free_space, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(free_space, "_CGROUP", tmp_path)
    assert free_memory() == 5000 * 1024
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("2500000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 400000\nactive_file 100000\n")
    assert free_memory() == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() == 5000 * 1024
    (tmp_path / "meminfo").unlink()
    assert free_memory() == float("inf")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_full_disk_gives_nothing_back_and_is_refused_in_words_by_who_asks(tmp_path, monkeypatch):
    full = functools.partial(open, "/dev/full", "r+b")
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: full())
    assert not can_give_back(tmp_path)
