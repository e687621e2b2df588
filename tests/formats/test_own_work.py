"""What a person did in a local run: kept beside the file, seen by every command, never lost."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.api.experiment import open_experiment as open_in_notebook
from cellworker.cli.main import main
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellClass, CellSet, CellSets
from cellworker.formats.check.checking import check_experiment
from cellworker.formats.convert.converting import convert
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.opening.own_work import OwnWorkFile, own_part
from cellworker.local.cell_sets_files import FileCellSets
from cellworker.local.experiment import find_experiment
from cellworker.settings import Settings

OWN = {"key": "mine", "name": "my cells", "rootNode": False, "type": "cellSets", "color": "#112233"}


def inserting(cells: list[int], key: str = "mine") -> list[dict[str, Any]]:
    value = {"children": [{"$insert": {"index": "-", "value": {**OWN, "key": key, "cellIds": cells}}}]}
    return [{"$match": {"query": '$[?(@.key == "scratchpad")]', "value": value}}]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(store_dir=tmp_path / "stores", data_dir=tmp_path / "data", threads=1)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """An .h5ad file without cell sets beside it."""
    folder = tmp_path_factory.mktemp("converted")
    shutil.copy(root / "tests/fixtures/pbmcsmall/v5/r.rds", folder / "a.rds")
    convert(folder / "a.rds", folder / "a.h5ad", Settings(store_dir=folder / "stores", threads=1))
    return folder / "a.h5ad"


@pytest.fixture(params=["h5ad", "rds", "folder"])
def experiment(request: pytest.FixtureRequest, converted: Path, root: Path, tmp_path: Path) -> Path:
    """An experiment of a person: a file alone, or a folder with cell_sets.json outside of DATA_DIR."""
    fixture = root / "tests/fixtures/pbmcsmall/v5"
    if request.param == "folder":
        return Path(shutil.copytree(fixture, tmp_path / "folder", ignore=shutil.ignore_patterns("golden")))
    source = converted if request.param == "h5ad" else fixture / "r.rds"
    return Path(shutil.copy(source, tmp_path / f"mine.{request.param}"))


async def work_on(path: Path, settings: Settings, operations: list[dict[str, Any]]) -> Path:
    """Do what the local run does with a patch."""
    opened = open_experiment(path, settings)
    keep = find_experiment(path, settings).keep_original or opened.derived_cell_sets
    await FileCellSets(opened.cell_sets_path, opened.own_work_file, keep_original=keep).patch("x", operations)
    work = opened.own_work_file.read()
    assert work is not None
    return work.path


async def test_every_command_sees_it(
    experiment: Path,
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STORE_DIR", str(settings.store_dir))
    source = open_experiment(experiment, settings).source
    before = {path: path.read_bytes() for path in source.parent.glob("*") if path.is_file()}
    cells = open_experiment(experiment, settings).experiment.cell_ids[:7].tolist()
    kept = await work_on(experiment, settings, inserting(cells))
    assert kept == source.with_name(f"{source.name}.cellworker.json")
    assert {path: path.read_bytes() for path in before} == before
    with open_in_notebook(experiment, settings) as notebook:
        assert notebook.cell_sets.cells_of("mine").tolist() == sorted(cells)
    report = check_experiment(experiment, settings)
    assert report.status == 0
    assert report.contents["own cell sets"] == f"1, in {kept}"
    status = main(["call", "GetNormalizedExpression", "--quiet", "--experiment", str(experiment), "--body",
                   json.dumps({"subsetBy": {"scratchpad": ["mine"]}})])  # fmt: skip
    printed = capsys.readouterr()
    assert status == 0, printed.err
    opened = open_experiment(experiment, settings).experiment
    chosen = {opened.barcodes[place] for place in opened.positions(np.array(cells))}
    header = set(printed.out.splitlines()[0].replace('"', "").split(","))
    assert header & set(opened.barcodes) == chosen
    target = tmp_path / "out" / "b.h5ad"
    target.parent.mkdir()
    found = convert(experiment, target, settings)
    assert any("1 of your own" in line for line in found.kept)
    assert open_experiment(target, settings).cell_sets.cells_of("mine").tolist() == sorted(cells)
    assert "custom_cellset-my cells" in open_experiment(target, settings).experiment.metadata


async def test_a_place_that_cannot_be_written_sends_it_to_the_users_data_folder(
    converted: Path, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "readonly"
    folder.mkdir()
    path = Path(shutil.copy(converted, folder))
    folder.chmod(0o555)
    kept = await work_on(path, settings, inserting([0, 1]))
    assert kept.parent == tmp_path / "user" / "home" / "cellworker"
    assert [item.name for item in folder.iterdir()] == [path.name]
    link = tmp_path / "link.h5ad"
    link.symlink_to(path)
    assert open_experiment(link, settings).cell_sets.cells_of("mine").tolist() == [0, 1]


async def test_new_clusters_replace_those_of_the_file_and_survive_another_version_of_it(
    converted: Path, settings: Settings, tmp_path: Path
) -> None:
    path = Path(shutil.copy(converted, tmp_path / "mine.h5ad"))
    before = open_experiment(path, settings).experiment
    ids, barcodes = before.cell_ids.tolist(), before.barcodes
    clusters = [
        {"key": f"louvain-{i}", "name": f"Cluster {i}", "color": "#111111", "cellIds": [ids[i], ids[i + 2]]}
        for i in range(2)
    ]
    replacing = [
        {"$match": {"query": '$[?(@.key == "louvain")]', "value": {"$remove": True}}},
        {
            "$append": {
                "key": "louvain",
                "name": "louvain clusters",
                "rootNode": True,
                "type": "cellSets",
                "children": clusters,
            }
        },
    ]
    await work_on(path, settings, replacing)
    opened = open_experiment(path, settings)
    assert opened.own_work is not None
    assert opened.own_work.n_sets == 2
    # The same cells but the first, in another order: ids are others now, barcodes are not.
    order = list(range(1, before.n_cells))[::-1]
    rewritten(path, order)
    again = open_experiment(path, settings)
    clusters_now = again.cell_sets.find_class("louvain")
    assert clusters_now is not None
    places = [again.experiment.positions(child.cell_ids) for child in clusters_now.children]
    assert [{again.experiment.barcodes[i] for i in found} for found in places] == [
        {barcodes[2]},
        {barcodes[1], barcodes[3]},
    ]
    assert again.own_work is not None
    assert again.own_work.notes == ["1 of the 2 cells of 'Cluster 0' are not in the file any more"]
    report = check_experiment(path, settings)
    assert any("are not in the file any more" in problem.found for problem in report.problems)
    # What is written now does not lose what the older content had.
    old = again.own_work.path.read_bytes()
    await work_on(path, settings, inserting([0]))
    assert [path.read_bytes() for path in set_aside(path)] == [old]
    assert {"mine", "louvain-1"} <= set(open_experiment(path, settings).cell_sets.keys)


def set_aside(path: Path) -> list[Path]:
    return list(path.parent.glob(f"{path.name}.*.cellworker.json"))


def rewritten(path: Path, order: list[int]) -> None:
    import anndata

    data = anndata.read_h5ad(path)[order].copy()
    data.obs = data.obs.drop(columns=[name for name in data.obs if name == "cells_id"])
    data.write_h5ad(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"cellworker": 99, "cellSets": []}', b'{"cellworker": 1}', b"\xff\x00",
     b'{"cellworker": 1, "cellSets": [], "experiment": "other"}',
     b'{"cellworker": 1, "cellSets": [], "experiment": "other", "cells": [1], "barcodes": []}',
     b'{"cellworker": 1, "cellSets": [], "experiment": "other", "cells": [1], "barcodes": [[]], "own": []}',
     b'{"cellworker": 1, "cellSets": [], "experiment": "other", "cells": [], "barcodes": [], "own": [3]}'],
)  # fmt: skip
async def test_a_damaged_document_is_reported_in_a_sentence_and_left_as_it_is(
    converted: Path, settings: Settings, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(shutil.copy(converted, tmp_path / "mine.h5ad"))
    opened = open_experiment(path, settings)
    damaged = path.with_name("mine.h5ad.cellworker.json")
    damaged.write_bytes(content)
    with pytest.raises(WorkerError, match="holds your own cell sets and cannot be read") as told:
        open_experiment(path, settings)
    assert told.value.code is ErrorCode.CELL_SETS_INVALID
    assert "move it away" in told.value.message
    with pytest.raises(WorkerError):
        await FileCellSets(opened.cell_sets_path, opened.own_work_file, keep_original=True).patch("x", inserting([1]))
    assert check_experiment(path, settings).status == 1
    assert damaged.read_bytes() == content
    damaged.rename(tmp_path / "away.json")
    assert open_experiment(path, settings).own_work is None


async def test_the_work_that_version_0_1_kept_is_found(converted: Path, settings: Settings, tmp_path: Path) -> None:
    path = Path(shutil.copy(converted, tmp_path / "mine.h5ad"))
    opened = open_experiment(path, settings)
    document = json.loads(opened.cell_sets.encode())
    next(item for item in document["cellSets"] if item["key"] == "scratchpad")["children"].append(
        {**OWN, "cellIds": [3]}
    )
    old = settings.data_dir / ".cell_sets" / f"mine-{opened.experiment.key[:16]}.json"
    old.parent.mkdir(parents=True)
    old.write_text(json.dumps(document))
    assert open_experiment(path, settings).cell_sets.cells_of("mine").tolist() == [3]
    kept = await work_on(path, settings, inserting([4], "second"))
    assert kept.name == "mine.h5ad.cellworker.json"
    assert {"mine", "second"} <= set(open_experiment(path, settings).cell_sets.keys)


sets = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.lists(st.integers(0, 9), unique=True)), unique_by=lambda s: s[0]
)
documents = st.lists(st.tuples(st.sampled_from("xyz"), sets), unique_by=lambda c: c[0])


def made(document: Any) -> CellSets:
    return CellSets(
        [
            CellClass(key, key, "cellSets", [CellSet(k, k, "#000000", np.array(ids, np.int32)) for k, ids in children])
            for key, children in document
        ]
    )


@given(base=documents, now=documents, later=documents)
def test_what_is_written_is_read_again_and_own_sets_outlive_a_change_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, base: Any, now: Any, later: Any
) -> None:
    source = tmp_path_factory.mktemp("own") / "a.h5ad"
    names = [f"cell{i}" for i in range(10)]
    ids = np.arange(10, dtype=np.int32)
    first = OwnWorkFile(source, "key", made(base), ids, lambda: names)
    first.write(made(now).encode())
    work = first.read()
    assert work is not None
    assert work.cell_sets.encode() == made(now).encode()
    own = own_part(made(base), made(now))
    # The file has other cell sets and its cells other ids now.
    work = OwnWorkFile(source, "another", made(later), ids[::-1].copy(), lambda: names).read()
    assert work is not None
    assert work.notes == []
    for item, child in own.sets():
        found = next(c for c in work.cell_sets.find_class(item.key).children if c.key == child.key)  # type: ignore[union-attr]
        assert [9 - cell for cell in found.cell_ids.tolist()] == child.cell_ids.tolist()


def test_the_work_on_many_classes_grows_with_their_number_and_not_with_its_square(tmp_path, monkeypatch):
    """As many lookups as classes: 20,000 of them would hold up a change for minutes otherwise."""
    looked = [0]
    column = CellClass.column.fget

    def counted(item: CellClass) -> str:
        looked[0] += 1
        return column(item)

    monkeypatch.setattr(CellClass, "column", property(counted))
    file = tmp_path / "a.h5ad"
    file.write_bytes(b"content")
    base = CellSets([CellClass("louvain", "louvain", "cellSets", [])])
    found = []
    for n_classes in (50, 100):
        looked[0] = 0
        items = [CellClass(f"c{i}", "c", "cellSets", [CellSet(f"c{i}-0", "s", None, [1])]) for i in range(n_classes)]
        for key in ("same", "other"):  # the file's content when it is written, and when it is read again
            work = OwnWorkFile(file, key, base, np.arange(3, dtype=np.int32), lambda: ["a", "b", "c"])
            if key == "same":
                work.write(CellSets([*base.classes, *items]).encode())
            kept = work.read()
            assert kept is not None
            assert [item.key for item in kept.own.classes] == [item.key for item in items]
        found.append(looked[0])
    assert found[1] <= 2 * found[0]
