"""The benchmark harness and its generated data, in small."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cellworker.formats.rds.reader import read_rds
from cellworker.formats.seurat import draft_from_seurat

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


def test_results_have_the_agreed_form(tmp_path, monkeypatch, capsys):
    from benchmarks import harness

    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    busy = [sys.executable, "-c", "sum(range(4_000_000))"]
    idle = [sys.executable, "-c", "pass"]
    case = harness.Case("nothing", harness.Command(idle), {"busy": harness.Command(busy)}, 1)
    harness.run_cases("try", [case], {"cells": 1})
    (entry,) = json.loads((tmp_path / "try.json").read_text())
    assert set(entry) == {"case", "ours", "peers", "ratio"}
    assert set(entry["ours"]) == set(entry["peers"]["busy"]) == {"cpu_s", "wall_s", "peak_mb"}
    assert entry["peers"]["busy"]["cpu_s"] > entry["ours"]["cpu_s"] > 0
    assert entry["ratio"] == pytest.approx(entry["peers"]["busy"]["cpu_s"] / entry["ours"]["cpu_s"], rel=0.01)
    assert json.loads((tmp_path / "try.meta.json").read_text())["machine"]["cores"] >= 1
    assert "busy" in capsys.readouterr().out


def test_cpu_time_and_memory_of_child_processes_count():
    from benchmarks import harness

    child = "x = bytearray(80_000_000); sum(range(6_000_000))"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    usage, _ = harness._run(harness.Command([sys.executable, "-c", parent]))
    assert usage.cpu_s > 0.05
    assert usage.peak_mb > 80


def test_a_peer_that_fails_is_left_out_and_said(tmp_path, monkeypatch, capsys):
    from benchmarks import harness

    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    fine, broken = [sys.executable, "-c", "pass"], [sys.executable, "-c", "raise SystemExit(3)"]
    case = harness.Case("broken peer", harness.Command(fine), {"broken": harness.Command(broken)}, 1)
    harness.run_cases("try", [case], {})
    (entry,) = json.loads((tmp_path / "try.json").read_text())
    assert (entry["peers"], entry["ratio"]) == ({}, None)
    assert "broken failed" in capsys.readouterr().err


def test_a_case_may_measure_itself():
    from benchmarks import harness

    code = "from benchmarks.harness import timed\nwith timed(10) as details: details['n'] = 1"
    usage, details = harness._run(harness.Command([sys.executable, "-c", code], {"PYTHONPATH": str(ROOT)}))
    assert usage.wall_s < 0.01
    assert details == {"n": 1}


def test_generated_experiments_are_platform_experiments_with_the_wanted_density(tmp_path, monkeypatch):
    from benchmarks import generate

    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(generate, "SHARED", tmp_path / "absent")
    size = generate.Size(400, 12_000, 500, gzip_level=1)
    folder = generate.experiment(size)
    assert folder == generate.experiment(size)
    draft = draft_from_seurat(read_rds(folder / "r.rds", tmp_path).root)
    assert draft.origin.kind == "platform"
    assert draft.origin.fallbacks == []
    assert (len(draft.cell_ids), len(draft.genes)) == (400, 12_000)
    assert len(draft.counts.values) / 400 == pytest.approx(500, rel=0.25)
    totals = np.add.reduceat(draft.counts.values.astype(np.float64), draft.counts.indptr[:-1])
    np.testing.assert_allclose(totals, draft.metadata["nCount_RNA"])
    sets = json.loads((folder / "cell_sets.json").read_text())["cellSets"]
    louvain = np.concatenate([child["cellIds"] for child in sets[0]["children"]])
    np.testing.assert_array_equal(np.sort(louvain), np.sort(draft.cell_ids))
    assert [path.name for path in (tmp_path / "data").iterdir()] == [size.name]
