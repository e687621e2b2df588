"""A store that is cut short, or found damaged, under a notebook: right answers, one line, and no SIGBUS."""

import mmap
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import cellworker as cw
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.store.page_faults import PagesLostError, watch_pages
from cellworker.formats.opening.store_guard import discard

AGAIN = "store damaged, to be made again"


@pytest.fixture
def opened(adata):
    cw.pp.pca(adata, 12)
    with cw.open(adata, sample="sample") as experiment:
        yield experiment


def cut(experiment, size: int = 4096) -> None:
    experiment.experiment.store.chmod(0o600)
    os.truncate(experiment.experiment.store, size)


def lines(caplog) -> int:
    return sum(record.message == AGAIN for record in caplog.records)


def test_methods_and_requests_answer_as_before(opened, caplog):
    asked = {
        "a task": lambda: opened.cluster("leiden", name="fine").tolist(),
        "a test of genes": lambda: opened.markers("group", n=3).to_csv(),
        "values": lambda: opened.expression(["gene3", "gene5"]).to_csv(),
        "scores": lambda: opened.gene_sets({"a": ["gene1", "gene2"]}).to_csv(),
        "names": lambda: list(opened.genes["name"]),
    }
    for number, (name, ask) in enumerate(asked.items(), 1):
        wanted = ask()
        cut(opened)
        assert ask() == wanted, name
        assert lines(caplog) == number, name


def test_what_touches_the_values_itself_is_stopped(opened, caplog):
    wanted = opened.experiment.data.values.sum()
    values = opened.experiment.data.values
    cut(opened)
    with pytest.raises(PagesLostError, match="ask once more") as caught:
        values.sum()
    assert caught.value.code is ErrorCode.EXPERIMENT_OUT_OF_DATE
    assert opened.experiment.data.values.sum() == wanted
    assert lines(caplog) == 1


def test_other_threads_get_no_zeros_either(opened):
    wanted, got = opened.run_raw("GetNUmis"), []
    cut(opened)
    thread = threading.Thread(target=lambda: got.append(opened.run_raw("GetNUmis")))
    thread.start()
    thread.join()
    assert got == [wanted]


def test_a_store_whose_bytes_flipped_is_not_answered_from(opened, caplog):
    wanted, damaged = opened.run_raw("GetNUmis"), opened.experiment
    discard(damaged, "its bytes 0 to 4 are not what was written")  # as what compares it in the background does
    assert opened.run_raw("GetNUmis") == wanted
    assert opened.experiment is not damaged
    assert lines(caplog) == 1


def test_a_file_that_has_changed_since_is_to_be_opened_again(adata, tmp_path, monkeypatch):
    monkeypatch.setenv("STORE_DIR", str(tmp_path / "stores"))
    cw.pp.pca(adata, 12)
    adata.write_h5ad(tmp_path / "a.h5ad")
    with cw.open(tmp_path / "a.h5ad") as experiment:
        adata[:300].copy().write_h5ad(tmp_path / "a.h5ad")
        cut(experiment)
        with pytest.raises(WorkerError, match="has changed since; open it again") as caught:
            experiment.run_raw("GetNUmis")
    assert caught.value.code is ErrorCode.EXPERIMENT_OUT_OF_DATE


@pytest.mark.parametrize("left", [0, 1, 4096, 5000, 8192 + 4, 3 * 4096 - 1])
def test_lost_bounds_of_rows_never_descend(tmp_path, left):
    path, count = tmp_path / "bounds", 2048
    bounds = np.arange(7, 7 + count)
    path.write_bytes(bytes(24) + bounds.tobytes() + bytes(5000))
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        lost = watch_pages(pages, file.fileno(), [(24, count)])
    mapped = np.frombuffer(pages, np.int64, count, 24)
    assert mapped.tolist() == bounds.tolist()
    assert not lost()
    os.truncate(path, left)
    with pytest.raises(PagesLostError):
        mapped[-1:].sum()
    assert lost()
    there = max(0, left - 24) // 8
    assert mapped[:there].tolist() == bounds[:there].tolist()
    assert set(mapped[there:].tolist()) == {bounds[there - 1] if there else 0}


def test_a_fault_elsewhere_ends_the_process_as_ever(tmp_path):
    (tmp_path / "a").write_bytes(bytes(8192))
    code = f"""
import mmap, os
from cellworker.experiment.store.page_faults import watch_pages
file = open({str(tmp_path / "a")!r}, "rb")
watched, other = (mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) for _ in range(2))
lost = watch_pages(watched, file.fileno(), [])
os.truncate(file.name, 0)
other[5000]
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGBUS
