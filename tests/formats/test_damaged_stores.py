"""Stores that are damaged or cut short anywhere: made again by themselves, with one line, before anything is computed.

A file is read once for all of these tests; what "reads" it later puts the same store there again.
"""

import json
import os
from pathlib import Path

import pytest

from cellworker.cli.main import main
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.store import store as stores
from cellworker.formats.opening import open as opening
from cellworker.formats.opening import sandbox, store_guard
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.opening.shelf import store_file
from cellworker.formats.opening.store_guard import verified
from cellworker.formats.r.rds.writer import write_rds
from cellworker.identifiers import StoreName
from cellworker.settings import Settings

AGAIN = "store damaged, to be made again"


class Damaged:
    """An experiment that was opened before, and ways to damage its store."""

    def __init__(self, source: Path, settings: Settings) -> None:
        self.source, self.settings = source, settings
        self.made: list[str] = []
        opened = open_experiment(source, settings)
        self.store = opened.store
        self.whole = opened.store.read_bytes()
        self.arrays = dict(opened.experiment._index.arrays)
        self.data_bytes = opened.experiment._index.data_bytes

    def open(self):
        return open_experiment(self.source, self.settings)

    def cut(self, size: int) -> None:
        self.store.chmod(0o600)
        os.truncate(self.store, size)

    def flip(self, place: int, bits: int = 0xFF) -> None:
        # in place, as a disk does it: the time of the last change is put back
        status = self.store.stat()
        self.store.chmod(0o600)
        with self.store.open("r+b") as file:
            file.seek(place)
            file.write(bytes([self.whole[place] ^ bits]))
        os.utime(self.store, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture
def damaged(tmp_path, trees, monkeypatch) -> Damaged:
    folder = tmp_path / "experiment"
    folder.mkdir()
    write_rds(trees.platform(), folder / "r.rds")
    settings = Settings(store_dir=tmp_path / "stores", threads=1, load_memory_gb=1.0, load_timeout_s=120.0)
    monkeypatch.setenv("STORE_DIR", str(settings.store_dir))
    first = sandbox.run_sandboxed
    answers = []

    def read(function, kwargs, **limits):
        answers.append(first(function, kwargs, **limits))
        return answers[-1]

    def put_again(function, kwargs, **_):
        found.made.append(function)
        (Path(kwargs["spool"]) / store_file(StoreName(answers[0]["store"]))).write_bytes(found.whole)
        return answers[0]

    monkeypatch.setattr(sandbox, "run_sandboxed", read)
    found = Damaged(folder, settings)
    monkeypatch.setattr(sandbox, "run_sandboxed", put_again)
    return found


@pytest.fixture
def large(monkeypatch) -> None:
    """Stores of every size are as large ones: not compared with their checksums when they are opened."""
    for module in (opening, store_guard):
        monkeypatch.setattr(module, "READ_AT_ONCE_BYTES", 0)


def everything(opened) -> tuple:
    experiment = opened.experiment
    values = experiment.data
    return (
        values.indptr.tobytes(), values.cells.tobytes(), values.values.tobytes(), tuple(experiment.genes.names),
        tuple(experiment.barcodes), tuple(experiment.metadata), opened.cell_sets.encode(),
    )  # fmt: skip


def use(damaged: Damaged) -> tuple:
    return verified(damaged.open, lambda opened: opened.experiment, everything)


def again(caplog) -> int:
    told = [record for record in caplog.records if record.message == AGAIN]
    caplog.clear()
    return len(told)


@pytest.mark.usefixtures("large")
def test_a_flipped_byte_in_any_array_is_found_before_it_is_used(damaged, caplog) -> None:
    wanted = use(damaged)
    filled = {name: place for name, place in damaged.arrays.items() if place.n_bytes}
    assert len(filled) > 10
    for number, (name, place) in enumerate(filled.items(), 1):
        damaged.flip(place.offset + place.n_bytes // 2)
        assert use(damaged) == wanted, name
        assert again(caplog) == 1, name
        assert len(damaged.made) == number
        assert damaged.store.read_bytes() == damaged.whole


def test_a_byte_anywhere_in_the_index_and_its_footer_is_found(damaged, caplog) -> None:
    wanted = use(damaged)
    end = len(damaged.whole) - 24  # of the footer's bytes the last ones say nothing
    for place in [*range(damaged.data_bytes, end, (end - damaged.data_bytes) // 19), *range(end - 40, end), 0, 1]:
        damaged.flip(place)
        assert use(damaged) == wanted, place
        assert again(caplog) == 1, place
    assert damaged.store.read_bytes() == damaged.whole


@pytest.mark.parametrize("grown", [False, True])
def test_a_store_of_another_length_is_made_again(damaged, caplog, grown) -> None:
    wanted, end = use(damaged), len(damaged.whole)
    sizes = [end + 1, end + 4096, 2 * end] if grown else [0, 1, 8, 4096, *range(end // 17, end, end // 17), end - 1]
    for size in sizes:
        damaged.cut(size)
        assert use(damaged) == wanted, size
        assert again(caplog) == 1, size


@pytest.mark.usefixtures("large")
def test_names_that_are_no_text_any_more_do_not_keep_an_experiment_from_being_opened(damaged, caplog) -> None:
    (damaged.source / "cell_sets.json").unlink(missing_ok=True)
    wanted = everything(damaged.open())
    for name in [name for name in damaged.arrays if "barcodes" in name or "cell_ids" in name]:
        place = damaged.arrays[name]
        if place.n_bytes:
            damaged.flip(place.offset, 0x80)
    # derived again from the damaged file
    for kept in damaged.settings.store_dir.glob("*.cell_sets.json"):
        kept.unlink()
    assert use(damaged) == wanted
    assert again(caplog) == 1


def test_a_store_cut_short_while_it_is_used_is_used_again(damaged, caplog) -> None:
    asked = []

    def cut_the_first_time(opened) -> int:
        asked.append(opened.store)
        if len(asked) == 1:
            damaged.cut(4096)
            raise ValueError("whatever comes of it")
        return opened.experiment.n_cells

    cells = damaged.open().experiment.n_cells
    assert verified(damaged.open, lambda opened: opened.experiment, cut_the_first_time) == cells
    assert (len(asked), again(caplog)) == (2, 1)

    def always(opened) -> None:
        damaged.cut(4096)

    with pytest.raises(WorkerError, match="damaged twice") as caught:
        verified(damaged.open, lambda opened: opened.experiment, always)
    assert caught.value.code is ErrorCode.EXPERIMENT_UNREADABLE


@pytest.mark.usefixtures("large")
def test_the_command_line_answers_from_a_damaged_store(damaged, tmp_path) -> None:
    out, requests = tmp_path / "answer.json", tmp_path / "requests.jsonl"
    body = {"orderBy": "gene_names", "orderDirection": "ASC", "offset": 0, "limit": 5}
    requests.write_text(json.dumps({"name": "ListGenes", **body}) + "\n")
    one = ["call", "ListGenes", "--body", json.dumps(body), "--experiment", str(damaged.source), "--out", str(out)]
    many = ["call", "--requests", str(requests), "--experiment", str(damaged.source), "--out", str(out)]
    for command in (one, many):
        answers = set()
        for place in (None, damaged.arrays["sorted/indices"].offset + 3, damaged.arrays["sorted/indptr"].offset + 7):
            if place is not None:
                damaged.flip(place)
            assert main(command) == 0
            answers.add(out.read_text())
            out.unlink()
        assert len(answers) == 1
        assert damaged.store.read_bytes() == damaged.whole


def test_a_store_cut_short_while_it_is_opened_is_made_again(damaged, caplog, monkeypatch) -> None:
    wanted = everything(damaged.open())
    for module, name in ((stores, "read_index"), (opening, "own_work_of")):
        first = getattr(module, name)
        cuts = []

        def cut_once(*args, first=first, cuts=cuts, **kwargs):
            found = first(*args, **kwargs)
            if not cuts:
                damaged.cut(4096)
                cuts.append(4096)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(module, name, cut_once)
            assert everything(damaged.open()) == wanted, name
        assert again(caplog) == 1, name
