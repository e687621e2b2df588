"""Opening an experiment: read once, then mapped; safe with many processes; nothing left behind."""

import gc
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy import sparse

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.store.store import open_store
from cellworker.formats.opening import sandbox
from cellworker.formats.opening.open import locate, open_experiment, open_source
from cellworker.formats.opening.shelf import Fingerprint, Shelf
from cellworker.formats.r.rds.build import doubles, integers, named_list
from cellworker.formats.r.rds.model import RS4
from cellworker.formats.r.rds.writer import write_rds
from cellworker.settings import Settings


@pytest.fixture
def stores(tmp_path) -> Settings:
    """Settings with a folder of stores of their own."""
    return Settings(store_dir=tmp_path / "stores", threads=1, load_memory_gb=1.0, load_timeout_s=60.0)


@pytest.fixture
def experiment(tmp_path, trees) -> Path:
    """A folder in the platform's form."""
    folder = tmp_path / "experiment"
    folder.mkdir()
    write_rds(trees.platform(), folder / "r.rds")
    children = [{"key": "louvain-0", "name": "Cluster 0", "color": "#77aadd", "cellIds": [5, 0, 3]}]
    classes = [
        {"key": "louvain", "name": "louvain clusters", "rootNode": True, "type": "cellSets", "children": children}
    ]
    (folder / "cell_sets.json").write_text(json.dumps({"cellSets": classes}))
    return folder


@pytest.fixture
def readings(monkeypatch) -> list[str]:
    """The sources that were read in a child process, in order."""
    seen: list[str] = []
    original = sandbox.run_sandboxed

    def counted(function, kwargs, **limits):
        seen.append(Path(kwargs["source"]).name)
        return original(function, kwargs, **limits)

    monkeypatch.setattr(sandbox, "run_sandboxed", counted)
    return seen


def left_in(settings: Settings) -> list[str]:
    """Everything in the folder of stores that is neither a store, its cell sets, nor the index."""
    return [
        item.name
        for item in settings.store_dir.iterdir()
        if not item.name.endswith((".h5ad", ".cell_sets.json")) and item.name not in {"index.json", ".locks"}
    ]


def test_a_folder_is_opened_with_its_cell_sets(experiment, stores, trees):
    opened = open_experiment(experiment, stores)
    assert (opened.source, opened.cell_sets_path) == (experiment / "r.rds", experiment / "cell_sets.json")
    assert not opened.derived_cell_sets
    assert opened.cell_sets.find_set("louvain-0").cell_ids.tolist() == [5, 0, 3]
    np.testing.assert_allclose(opened.experiment.data.dense(0), trees.data[:, 0], rtol=1e-6)
    assert left_in(stores) == []


def test_a_file_is_opened_as_its_folder_is(experiment, stores):
    opened = open_experiment(experiment / "r.rds", stores)
    assert opened.cell_sets_path == experiment / "cell_sets.json"


def test_a_second_opening_does_not_read_the_file_again(experiment, stores, readings):
    first, second = open_experiment(experiment, stores), open_experiment(experiment, stores)
    assert readings == ["r.rds"]
    assert first.store == second.store
    assert second.experiment.cell_ids.tolist() == [5, 0, 3, 9, 1, 2]
    assert "barcodes" not in vars(second.experiment)  # of a million cells they would take as long as all the rest


def test_a_changed_file_is_read_again(experiment, stores, readings, trees):
    first = open_experiment(experiment, stores)
    changed = trees.platform()
    changed.slots["misc"] = named_list({**dict(changed.slots["misc"].pairs()), "numPCs": integers([17])})
    write_rds(changed, experiment / "r.rds")
    second = open_experiment(experiment, stores)
    assert readings == ["r.rds", "r.rds"]
    assert (first.experiment.misc.num_pcs, second.experiment.misc.num_pcs) == (2, 17)


def test_a_copied_or_touched_file_is_not_read_again(experiment, stores, readings, tmp_path):
    first = open_experiment(experiment, stores)
    os.utime(experiment / "r.rds", (1, 1))
    copy = shutil.copytree(experiment, tmp_path / "copy")
    assert open_experiment(experiment, stores).store == open_experiment(copy, stores).store == first.store
    assert readings == ["r.rds"]


def test_other_content_of_the_same_size_is_read(experiment, stores, readings, trees, tmp_path):
    other = tmp_path / "other.rds"
    root = trees.platform()
    write_rds(root, experiment / "r.rds", compression="none")
    first = open_experiment(experiment, stores)
    root.slots["misc"] = named_list({**dict(root.slots["misc"].pairs()), "numPCs": doubles([3])})
    write_rds(root, other, compression="none")
    assert other.stat().st_size == (experiment / "r.rds").stat().st_size
    assert open_experiment(other, stores).store != first.store
    assert readings == ["r.rds", "other.rds"]


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "other bytes"])
def test_a_damaged_store_is_made_again(experiment, stores, readings, damage):
    store = open_experiment(experiment, stores).store
    content = store.read_bytes()
    if damage == "gone":
        store.unlink()
    else:
        store.chmod(0o600)
        store.write_bytes(
            {"cut": content[: len(content) // 2], "empty": b"", "other bytes": b"x" * len(content)}[damage]
        )
    assert open_experiment(experiment, stores).experiment.n_cells == 6
    assert len(readings) == 2


@pytest.mark.parametrize("index", ["", "[]", '{"a": 3}', "not json", '{"/x": {"key": null}}'])
def test_a_damaged_index_is_no_obstacle(experiment, stores, index):
    open_experiment(experiment, stores)
    (stores.store_dir / "index.json").write_text(index)
    assert open_experiment(experiment, stores).experiment.n_cells == 6


OPEN = """
import sys
from pathlib import Path
from cellworker.formats.opening.open import open_experiment
from cellworker.settings import Settings
opened = open_experiment(Path(sys.argv[1]), Settings(store_dir=Path(sys.argv[2]), threads=1))
print(opened.store.name, opened.store.stat().st_ino, opened.experiment.n_cells)
"""


def test_processes_that_open_at_once_read_the_file_once(experiment, stores):
    command = [sys.executable, "-c", OPEN, str(experiment), str(stores.store_dir)]
    others = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    # A store that was written twice would have been renamed over: another inode.
    told = {other.communicate(timeout=60)[0] for other in others}
    assert len(told) == 1
    assert told.pop().endswith(" 6\n")
    assert left_in(stores) == []


def test_a_refused_object_leaves_nothing_behind(tmp_path, stores, trees):
    path = tmp_path / "sce.rds"
    write_rds(RS4("SingleCellExperiment", "SingleCellExperiment", {"metadata": doubles([1])}), path)
    with pytest.raises(WorkerError, match="SingleCellExperiment") as caught:
        open_experiment(path, stores)
    assert caught.value.code == ErrorCode.EXPERIMENT_UNSUPPORTED
    assert [item.name for item in stores.store_dir.iterdir()] == [".locks"]


def test_a_truncated_file_leaves_nothing_behind(experiment, stores):
    path = experiment / "r.rds"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(WorkerError) as caught:
        open_experiment(experiment, stores)
    assert caught.value.code == ErrorCode.EXPERIMENT_UNREADABLE
    assert [item.name for item in stores.store_dir.iterdir()] == [".locks"]


def test_indices_outside_the_matrix_are_refused(tmp_path, stores, trees):
    root = trees.platform()
    counts = root.slots["assays"].items[0].slots["counts"]
    counts.slots["i"] = integers([*counts.slots["i"].values[:-1], 2_000_000])
    write_rds(root, tmp_path / "r.rds")
    with pytest.raises(WorkerError) as caught:
        open_experiment(tmp_path, stores)
    assert caught.value.code == ErrorCode.EXPERIMENT_UNREADABLE
    assert left_in(stores) == []


def test_a_listener_that_raises_stops_the_reading_and_nothing_is_left(experiment, stores):
    class GoneError(Exception):
        pass

    def gone(stage, fraction=None):
        raise GoneError

    with pytest.raises(GoneError):
        open_experiment(experiment, stores, gone)
    assert [item.name for item in stores.store_dir.iterdir()] == [".locks"]
    assert open_experiment(experiment, stores).experiment.n_cells == 6


def test_progress_rises_to_the_end(experiment, stores):
    told: list[tuple[str, float | None]] = []
    open_experiment(experiment, stores, lambda stage, fraction=None: told.append((stage, fraction)))
    fractions = [fraction for _, fraction in told if fraction is not None]
    assert fractions == sorted(fractions)
    assert all(0 <= fraction <= 1 for fraction in fractions)
    assert len({stage for stage, _ in told}) >= 2


@pytest.mark.parametrize("step", ["same_content", "adopt", "prune"])
def test_a_step_beside_the_child_that_stalls_is_heard_of(experiment, stores, monkeypatch, step):
    original, stalled, go_on = getattr(Shelf, step), threading.Event(), threading.Event()

    def stalling(*arguments):
        stalled.set()
        assert go_on.wait(60), f"nothing was heard during {step}"
        return original(*arguments)

    monkeypatch.setattr(Shelf, step, stalling)
    told: list[tuple[str, float | None]] = []

    def listen(stage, fraction=None):
        told.append((stage, fraction))
        if stalled.is_set():
            go_on.set()

    before = threading.active_count()
    open_experiment(experiment, stores, listen)
    fractions = [fraction for _, fraction in told if fraction is not None]
    assert fractions == sorted(fractions)
    assert threading.active_count() == before


def test_a_listener_that_has_gone_ends_the_comparison_with_known_files(experiment, stores, tmp_path):
    opened = open_experiment(experiment, stores)
    copy = Path(shutil.copy(experiment / "r.rds", tmp_path))
    shelf, size = Shelf(stores.store_dir, 1 << 30), copy.stat().st_size
    assert shelf.same_content(copy, size, np.zeros(1, np.int32)) == opened.store
    assert shelf.same_content(copy, size, np.ones(1, np.int32)) is None


def test_what_a_killed_process_left_is_removed(experiment, stores):
    (stores.store_dir / "build-dead.spool").mkdir(parents=True)
    (stores.store_dir / "build-dead.spool" / "vector").write_bytes(b"x" * 100)
    open_experiment(experiment, stores)
    assert left_in(stores) == []


def test_the_oldest_stores_go_when_there_are_too_many(tmp_path, trees):
    paths = [tmp_path / f"{i}.rds" for i in range(3)]
    for i, path in enumerate(paths):
        root = trees.seurat()
        root.slots["misc"] = named_list({"numPCs": integers([i + 1])})
        write_rds(root, path)
    roomy = Settings(store_dir=tmp_path / "stores", threads=1)
    first, second = (open_experiment(path, roomy) for path in paths[:2])
    os.utime(first.store, (1_000, 1_000))
    size = first.store.stat().st_size
    narrow = Settings(store_dir=tmp_path / "stores", threads=1, store_max_gb=2.5 * size / 2**30)

    def open_third():
        (tmp_path / "stores").joinpath("index.json").unlink(missing_ok=True)
        gc.collect()  # the parts of an experiment refer to each other
        return open_experiment(paths[2], narrow)

    third = open_third()
    assert first.store.exists(), "a store in use was removed"
    assert first.experiment.counts is not None
    # Of one byte each: they are in the map wherever they lie, where small arrays of wider numbers may be copies.
    store, cell_sets, values = first.store, first.cell_sets_path, first.experiment.counts.values
    del first
    third = open_third()
    assert store.exists(), "a store whose values are in use was removed"
    del values
    third = open_third()
    assert not store.exists()
    assert not cell_sets.exists()
    assert second.store.exists()
    assert third.store.exists()


def test_a_store_that_another_process_has_open_is_not_removed(tmp_path, trees):
    paths = [tmp_path / f"{i}.rds" for i in range(2)]
    for i, path in enumerate(paths):
        root = trees.seurat()
        root.slots["misc"] = named_list({"numPCs": integers([i + 1])})
        write_rds(root, path)
    narrow = Settings(store_dir=tmp_path / "stores", threads=1, store_max_gb=1e-9)
    store = open_experiment(paths[0], narrow).store
    script = (
        "import sys; from pathlib import Path; from cellworker.experiment.store.store import open_store\n"
        "e = open_store(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read(); print(e.n_cells)"
    )
    command = [sys.executable, "-c", script, str(store)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        second = open_experiment(paths[1], narrow)
        assert store.exists()
        out, _ = other.communicate("")
        assert int(out) > 0
    second.store.unlink()
    gc.collect()
    open_experiment(paths[1], narrow)
    assert not store.exists()


def test_a_small_store_with_a_flipped_byte_is_made_again_before_it_is_served(experiment, stores, readings, caplog):
    store = open_experiment(experiment, stores).store
    whole = store.read_bytes()
    place = open_experiment(experiment, stores).experiment._index.arrays["sorted/data"].offset
    assert not store.stat().st_mode & 0o222, "nothing is written to it by mistake"
    store.chmod(0o600)
    store.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    again = open_experiment(experiment, stores)
    assert readings == ["r.rds", "r.rds"]
    assert again.store.read_bytes() == whole
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "store damaged, to be made again"
    ]


def test_a_large_store_with_a_flipped_byte_is_found_in_the_background_and_removed(
    experiment, stores, readings, monkeypatch
):
    from cellworker.formats.opening import open as opening
    from cellworker.formats.opening import store_guard

    for module in (opening, store_guard):
        monkeypatch.setattr(module, "READ_AT_ONCE_BYTES", 0)
    opened = open_experiment(experiment, stores)
    store, place = opened.store, opened.experiment._index.arrays["sorted/data"].offset
    whole = store.read_bytes()
    store.chmod(0o600)
    with store.open("r+b") as file:
        file.seek(place)
        file.write(bytes([whole[place] ^ 1]))
    again = open_experiment(experiment, stores)
    assert readings == ["r.rds"]
    found: list[str] = []
    guard = store_guard.StoreGuard(again.experiment, found.append)
    guard.start()
    guard.join()
    assert "are not what was written" in found[0]
    store_guard.discard(again.experiment, found[0])
    assert not store.exists()
    assert open_experiment(experiment, stores).store.read_bytes() == whole


@pytest.fixture
def large_and_damaged(experiment, stores, monkeypatch):
    """A store that counts as large, one byte of whose values is not what was written."""
    from cellworker.formats.opening import open as opening
    from cellworker.formats.opening import store_guard

    for module in (opening, store_guard):
        monkeypatch.setattr(module, "READ_AT_ONCE_BYTES", 0)

    def damage(array: str = "sorted/data") -> None:
        opened = open_experiment(experiment, stores)
        place = opened.experiment._index.arrays[array].offset
        opened.store.chmod(0o600)
        with opened.store.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1]))

    return damage


def test_an_answer_for_one_use_counts_only_if_the_store_is_sound(
    experiment, stores, large_and_damaged, readings, caplog
):
    from cellworker.formats.opening.store_guard import verified

    def use(opened) -> float:
        return float(opened.experiment.data.values.sum())

    def ask() -> float:
        return verified(lambda: open_experiment(experiment, stores), lambda opened: opened.experiment, use)

    wanted = ask()
    large_and_damaged()
    assert ask() == wanted
    assert readings == ["r.rds", "r.rds"]
    assert [record.message for record in caplog.records].count("store damaged, to be made again") == 1

    def fails(opened) -> float:
        used.append(opened.store)
        raise WorkerError(ErrorCode.INVALID_INPUT, "the request's own error")

    used: list[Path] = []
    with pytest.raises(WorkerError, match="own error"):
        verified(lambda: open_experiment(experiment, stores), lambda opened: opened.experiment, fails)
    assert len(used) == 1, "an error with a sound store is the request's"

    def open_damaged():
        large_and_damaged()
        return open_experiment(experiment, stores)

    with pytest.raises(WorkerError, match="damaged twice"):
        verified(open_damaged, lambda opened: opened.experiment, use)


def test_every_one_shot_command_verifies_the_store_before_it_says_anything(
    experiment, stores, large_and_damaged, readings, tmp_path, monkeypatch
):
    from cellworker.cli.main import main
    from cellworker.formats.check.checking import check_experiment
    from cellworker.formats.convert.converting import convert

    monkeypatch.setenv("STORE_DIR", str(stores.store_dir))
    answered = tmp_path / "answer.json"
    request = ["call", "ListGenes", "--experiment", str(experiment), "--out", str(answered)]
    assert main(request) == 0
    wanted = answered.read_bytes()
    uses = [
        lambda: main(request),
        lambda: check_experiment(experiment, stores),
        lambda: convert(experiment, tmp_path / "out.h5ad", stores, force=True),
    ]
    for number, use in enumerate(uses, 1):
        large_and_damaged()
        use()
        assert readings == ["r.rds"] * (number + 1)
    assert answered.read_bytes() == wanted


def test_a_store_that_took_the_place_of_a_damaged_one_is_not_removed(experiment, stores):
    from cellworker.formats.opening.store_guard import discard

    opened = open_experiment(experiment, stores)
    opened.store.unlink()
    again = open_experiment(experiment, stores)
    discard(opened.experiment, "a byte flipped")
    assert again.store.exists()


def test_cell_sets_are_derived_where_there_is_no_file_and_kept(tmp_path, stores, trees):
    write_rds(trees.seurat(), tmp_path / "mine.rds")
    opened = open_experiment(tmp_path / "mine.rds", stores)
    assert opened.derived_cell_sets
    assert [item.key for item in opened.cell_sets.classes] == ["identities", "scratchpad", "sample"]
    assert opened.cell_sets_path.parent == stores.store_dir.resolve()
    changed = CellSets(opened.cell_sets.classes[:2])
    opened.cell_sets_path.write_bytes(changed.encode())
    assert len(open_experiment(tmp_path / "mine.rds", stores).cell_sets.classes) == 2
    opened.cell_sets_path.write_bytes(b'{"cellSets": [')
    assert len(open_experiment(tmp_path / "mine.rds", stores).cell_sets.classes) == 3


def test_bad_cell_sets_are_refused_and_the_error_names_the_problem(experiment, stores):
    (experiment / "cell_sets.json").write_text('{"cellSets": 3}')
    with pytest.raises(WorkerError) as caught:
        open_experiment(experiment, stores)
    assert caught.value.code == ErrorCode.CELL_SETS_INVALID


def test_a_folder_of_stores_that_cannot_be_made_is_named(experiment, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkerError, match="STORE_DIR") as caught:
        open_experiment(experiment, Settings(store_dir=tmp_path / "file" / "stores"))
    assert caught.value.code == ErrorCode.INVALID_INPUT


# --- what is at a path ---


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def test_the_platforms_names_go_before_other_files_and_qs_before_rds(tmp_path):
    assert locate(make(tmp_path, "a.rds", "a.qs", "r.rds")).source == tmp_path / "r.rds"
    assert locate(make(tmp_path, "r.qs")).source == tmp_path / "r.qs"


def test_a_single_file_of_another_name_is_taken(tmp_path):
    assert locate(make(tmp_path, "pbmc.RDS", ".hidden.rds", "notes.txt")).source == tmp_path / "pbmc.RDS"


def test_cell_sets_named_like_the_file_go_before_those_of_the_folder(tmp_path):
    make(tmp_path, "a.rds", "b.rds", "a.cell_sets.json", "cell_sets.json")
    assert locate(tmp_path / "a.rds").cell_sets == tmp_path / "a.cell_sets.json"
    assert locate(tmp_path / "b.rds").cell_sets == tmp_path / "cell_sets.json"


@pytest.mark.parametrize(
    ("names", "source"),
    [
        (["matrix.mtx"], ""), (["a.h5ad", "b.h5ad"], ""), (["a.h5", "b.h5"], ""), (["a.h5"], "a.h5"),
        (["a.csv.gz"], ""),
        (["s1/matrix.mtx.gz", "s2/outs/filtered/matrix.mtx"], ""), (["GSM1.txt.gz"], ""), (["a.loom", "s/b.loom"], ""),
        (["a.h5ad", "counts.csv"], "a.h5ad"), (["r.rds", "matrix.mtx"], "r.rds"),
    ],
)  # fmt: skip
def test_a_folder_of_matrices_is_an_experiment_itself(tmp_path, names, source):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert locate(tmp_path).source == tmp_path / source


@pytest.mark.parametrize(
    ("names", "path", "code", "words"),
    [
        ([], "missing", ErrorCode.EXPERIMENT_NOT_FOUND, "there is no file or folder"),
        (["notes.txt"], ".", ErrorCode.EXPERIMENT_NOT_FOUND, "holds no r.rds or r.qs: save the Seurat object there"),
        (["a.rds", "b.rds"], ".", ErrorCode.EXPERIMENT_NOT_FOUND, r"2 objects \(a.rds, b.rds\).*name the one"),
        (["v4/r.rds", "v5/r.qs"], ".", ErrorCode.EXPERIMENT_NOT_FOUND, "there is one in v4, v5: open that"),
    ],
)
def test_what_cannot_be_found_is_explained(tmp_path, names, path, code, words):
    with pytest.raises(WorkerError, match=words) as caught:
        locate(make(tmp_path, *names) / path)
    assert caught.value.code == code


# --- every object of the reference material ---

SERVED = {
    "bpcells/AML_BPCells.rds": (250, 462, 10),
    "experiments/multisample/v4/r.rds": (3477, 9015, 13),
    "experiments/pbmc3k/v4/r.rds": (2638, 16634, 11),
    "experiments/pbmc3k/v5/r.rds": (2638, 16634, 11),
    "experiments/pbmcsmall/v4/r.rds": (80, 230, 3),
    "experiments/pbmcsmall/v5/r.rds": (80, 230, 3),
    "experiments/worm/v4/r.rds": (1732, 10000, 13),
    "objects/bayesvg_pbmc3k_v5/seu_pbmc.rds": (2700, 2392, 9),
    "objects/cerebro_pbmc_small_v3/pbmc_seurat.rds": (80, 230, 3),
    "objects/checkatlas_pbmc3k_v4/pbmc3k_seurat.rds": (1000, 1000, 9),
    "objects/djvdj_citeseq_v32/test_so.rds": (100, 12331, 7),
    "objects/hdwgcna_opc_v4/test_seurat.rds": (1206, 500, 10),
    "objects/limiric_v5/test_data.rds": (1305, 20628, 10),
    "objects/pbmc_small_v4/test_seurat.rds": (80, 230, 3),
    "objects/pointillism_pbmc_v2/seurat_small.rds": (500, 500, 5),
    "objects/presto_v3/object_seurat.rds": (300, 20, 2),
    "objects/scplotter_ifnb_sub_v4/ifnb_sub.rds": (2000, 13215, 10),
    "objects/screpertoire_tcr_v5dev/scRep_example.rds": (500, 2000, 17),
    "objects/seurat_pbmc_small_v2/pbmc_small.rds": (80, 230, 4),
    "objects/seurattools_ifnb1k_v51/ifnb1k.rds": (832, 14053, 6),
    "objects/signac_atac_small_v32/atac_small.rds": (100, 500, 2),
}
"""Cells, genes, and children of the class louvain."""


@pytest.mark.shared
@pytest.mark.parametrize("name", SERVED)
def test_a_shared_object_is_served(shared, stores, name):
    opened = open_experiment(shared / "data" / name, stores)
    n_cells, n_genes, n_clusters = SERVED[name]
    found = opened.experiment
    assert (found.n_cells, len(found.genes)) == (n_cells, n_genes)
    assert len(opened.cell_sets.clusters.children) == n_clusters
    assert np.isfinite(found.data.values).all()
    assert opened.derived_cell_sets != name.startswith("experiments/")
    assert found.origin.kind == ("platform" if name.startswith("experiments/") else "own")
    again = open_store(opened.store)
    assert again.cell_ids.tolist() == found.cell_ids.tolist()


@pytest.mark.shared
def test_every_shared_object_is_in_the_table(shared):
    found = {str(path.relative_to(shared / "data")) for path in (shared / "data").rglob("*.rds")}
    assert found == SERVED.keys()


def test_a_small_h5ad_file_is_not_waited_for_as_long_as_a_large_object(tmp_path):
    from cellworker.formats.opening.open import _timeout_s

    (tmp_path / "a.h5ad").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * (1_000_000 - 8))
    (tmp_path / "r.rds").write_bytes(b"\0")
    assert _timeout_s(tmp_path / "a.h5ad", 1800.0) == 180.0
    assert _timeout_s(tmp_path / "a.h5ad", 10.0) == 10.0
    assert _timeout_s(tmp_path / "r.rds", 1800.0) == 1800.0


def test_a_folder_is_known_again_however_its_path_is_said(tmp_path, monkeypatch):
    folder = tmp_path / "a.zarr"
    (folder / "X").mkdir(parents=True)
    (folder / ".zgroup").write_text("{}")
    (folder / "X" / "0").write_bytes(b"values")
    monkeypatch.chdir(tmp_path)
    seen = Fingerprint.of(folder)
    assert seen.size == len("{}values")
    assert Fingerprint.of(Path("a.zarr")) == Fingerprint.of(Path("../" + tmp_path.name + "/a.zarr")) == seen
    (folder / "X" / "1").write_bytes(b"")
    assert Fingerprint.of(folder) != seen


@pytest.mark.parametrize("lacks", ["nothing", "doublets", "map"])
def test_the_bar_leaves_room_for_what_takes_long_to_make(tmp_path, lacks):
    """Reading ends late in the bar of a file that lacks nothing, early in that of one whose missing parts are made."""
    random = np.random.default_rng(8)
    made = anndata.AnnData(sparse.csr_matrix(random.poisson(1, (80, 30)).astype(np.float32)))
    made.obs_names, made.var_names = [f"c{i}" for i in range(80)], [f"g{i}" for i in range(30)]
    if lacks != "doublets":
        made.obs["doublet_scores"] = random.random(80)
    if lacks != "map":
        made.obsm["X_umap"] = random.normal(size=(80, 2))
    made.write_h5ad(tmp_path / "a.h5ad")
    heard: list[tuple[str, float | None]] = []
    settings = Settings.from_environment(store_dir=tmp_path / "stores")
    open_source(tmp_path / "a.h5ad", settings, lambda stage, part=None: heard.append((stage, part)))
    after = min(part for stage, part in heard if stage == "measuring the cells" and part is not None)
    assert (after > 0.2) == (lacks == "nothing")
