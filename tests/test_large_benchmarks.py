"""The benchmarks "growth" and "atlas" in small: files, requests, exponents, the plot, and going on after a stop."""

import json
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from cellworker.api.experiment import open_experiment
from cellworker.errors import WorkerError
from cellworker.protocol.value_json import encode
from cellworker.settings import Settings
from cellworker.tasks import catalog

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


@pytest.mark.parametrize("as_analysed", [True, False])
def test_an_atlas_has_the_size_that_was_asked_for_and_everything_that_tasks_need(tmp_path, as_analysed):
    from benchmarks.atlas_data import GENES, Atlas, made

    atlas = Atlas(430, 700, as_analysed)
    folder = made(tmp_path, atlas)
    assert folder == made(tmp_path, atlas)
    with open_experiment(folder, Settings.from_environment(store_dir=tmp_path / "store")) as opened:
        experiment = opened.experiment
        assert (experiment.n_cells, len(experiment.genes)) == (430, GENES)
        assert experiment.data_summary.kept == atlas.values == 430 * 700
        assert experiment.counts is not None
        assert {"pca", "umap"} <= set(experiment.reductions)
        assert experiment.origin.columns["doublet_scores"]
        assert {item.key: len(item.children) for item in opened.cell_sets.classes} == {
            "louvain": 30,
            "scratchpad": 0,
            "sample": 8,
            "condition": 2,
        }
        shares = np.diff(np.asarray(experiment.data.indptr)) / 430
        assert shares.max() > 0.8  # dense genes are what a fetch is measured with
        assert np.median(shares) < 0.1


def test_both_forms_of_an_atlas_hold_the_same_counts(tmp_path):
    import h5py
    from benchmarks.atlas_data import Atlas, made

    with (
        h5py.File(made(tmp_path, Atlas(210, 500, as_analysed=True)) / "r.h5ad") as plain,
        h5py.File(made(tmp_path, Atlas(210, 500, as_analysed=False)) / "r.h5ad") as packed,
    ):
        counts = plain["layers/counts/data"][:]
        np.testing.assert_array_equal(counts, packed["X/data"][:])
        np.testing.assert_array_equal(plain["X/indices"][:], packed["X/indices"][:])
        rows = counts.reshape(210, 500)
        np.testing.assert_allclose(
            plain["X/data"][:].reshape(210, 500), np.log1p(rows / rows.sum(1, keepdims=True) * 1e4), rtol=1e-5
        )
        assert (np.diff(plain["X/indices"][:].reshape(210, 500), axis=1) > 0).all()


def test_every_operation_is_a_request_that_its_task_accepts():
    from benchmarks.large_tasks import TASKS

    for make in TASKS.values():
        name, body = make([f"GENE{i}" for i in range(10)])
        catalog.find(name).read_body(encode({"name": name, **body}))
    with pytest.raises(WorkerError):
        catalog.find("GetEmbedding").read_body(encode({"name": "GetEmbedding"}))


def test_exponents_are_the_slopes_of_what_was_measured():
    from benchmarks.growth import exponents
    from benchmarks.harness import Usage

    sizes = (10_000, 50_000, 200_000, 500_000)
    ours = {f"markers; {n:,} cells": Usage(3e-9 * n**1.25, 1, 40 * n**0.5) for n in sizes}
    ours |= {f"fetch; {n:,} cells": Usage(0.2 + 1e-5 * n, 1, 50) for n in sizes} | {
        "once; 10,000 cells": Usage(1, 1, 1)
    }
    found = exponents(ours)
    assert found["markers"] == {
        "cpu_s": 1.25,
        "cpu_s from 50,000 cells": 1.25,
        "peak_mb from 50,000 cells": 0.5,
    }
    assert found["fetch"]["cpu_s"] < found["fetch"]["cpu_s from 50,000 cells"] < 1
    assert found["once"] == {}


def test_the_plot_has_a_panel_for_each_operation_and_marks_the_steep_ones(tmp_path, monkeypatch):
    from benchmarks import growth_plot

    entries = [
        {"case": f"{name}; {n:,} cells", "ours": {"cpu_s": 1e-6 * n**power}}
        for name, power in (("markers & more", 1.0), ("UMAP", 1.3))
        for n in (10_000, 500_000)
    ]
    meta = {
        "about": {"genes": 20_000, "values_per_cell": 980},
        "machine": {"cores": 2},
        "exponents": {"markers & more": {"cpu_s": 1.0}, "UMAP": {"cpu_s": 1.2, "cpu_s from 50,000 cells": 1.3}},
    }
    monkeypatch.setattr(growth_plot, "RESULTS", tmp_path)
    (tmp_path / "growth.json").write_text(json.dumps(entries))
    (tmp_path / "growth.meta.json").write_text(json.dumps(meta))
    growth_plot.draw("growth", tmp_path / "growth.svg")
    root = ET.parse(tmp_path / "growth.svg").getroot()
    panels = {
        panel.find("./{*}text[@class='name']").text: (panel.get("class"), panel.find("./{*}polyline").get("points"))
        for panel in root.findall("{*}g")
    }
    assert {name: kind for name, (kind, _) in panels.items()} == {"markers & more": "even-growth", "UMAP": "steep"}
    assert all(len(points.split()) == 2 for _, points in panels.values())
    assert "n^1.30" in "".join(root.itertext())


def test_progress_is_judged_by_its_longest_silence_and_its_fraction(monkeypatch):
    from benchmarks import large_tasks

    clock = iter([0.0, 1.0, 1.5, 6.5, 10.0])
    monkeypatch.setattr(large_tasks.time, "perf_counter", lambda: next(clock))
    events = large_tasks.Events()
    for stage, fraction in (("reading", 0.1), ("reading", 0.2), ("sorting", None)):
        events(stage, fraction)
    assert events.facts() == {
        "events": 3,
        "longest_silence_s": 5.0,
        "silent_after": "reading, 15% of the time",
        "silences_over_a_second": 2,
        "fraction_off_by_at_most": 0.05,
    }


def test_a_long_run_leaves_out_what_fails_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    from benchmarks import harness

    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    (tmp_path / "fails").touch()
    fails = f"import pathlib, sys; sys.exit(pathlib.Path({str(tmp_path / 'fails')!r}).exists())"
    once = f"import pathlib; pathlib.Path({str(tmp_path / 'once')!r}).touch(exist_ok=False)"
    cases = [harness.Case(name, harness.Command([sys.executable, "-c", code]), repeats=1)
             for name, code in (("once", once), ("fails", fails))]  # fmt: skip

    def run() -> tuple[list[str], list[str], list[str]]:
        harness.run_cases("try", cases, {"cells": 3}, go_on=True, conclude=lambda ours: {"seen": list(ours)})
        meta = json.loads((tmp_path / "try.meta.json").read_text())
        names = [entry["case"] for entry in json.loads((tmp_path / "try.json").read_text())]
        return names, list(meta["left_out"]), meta["seen"]

    assert run() == (["once"], ["fails"], ["once"])
    (tmp_path / "fails").unlink()
    monkeypatch.setenv("BENCH_RESUME", "1")
    assert run() == (["once", "fails"], [], ["once", "fails"])
    assert "fails: failed" in capsys.readouterr().err
