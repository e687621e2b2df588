"""The benchmark harness and its generated data, in small."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.formats.seurat_drafts import draft_from_seurat

from cellworker.formats.r.rds.reader import read_rds

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


def test_a_peer_beyond_its_cpu_seconds_uses_more_and_a_warm_up_does_not_count(tmp_path, monkeypatch, capsys):
    from benchmarks import harness

    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    fine = harness.Command([sys.executable, "-c", "pass"])
    busy, start = "while True: pass", "from benchmarks.harness import timed\n"
    warm = f"{start}import time\nwhile time.process_time() < 1.5: pass\nwith timed():\n    "
    path = {"PYTHONPATH": str(ROOT)}
    peers = {
        "endless": harness.Command([sys.executable, "-c", busy], limit_s=1),
        "endless, timed": harness.Command([sys.executable, "-c", warm + busy], path, limit_s=1, warm_up_s=9),
        "warm": harness.Command([sys.executable, "-c", warm + "sum(range(1_000_000))"], path, limit_s=1, warm_up_s=9),
        "always cold": harness.Command([sys.executable, "-c", warm + "pass"], path, limit_s=0, warm_up_s=1),
        "idle": harness.Command([sys.executable, "-c", "import time; time.sleep(1.5)"], limit_s=1),
    }
    bars = [harness.Bar("cpu_s", 1, "no more CPU", "endless"), harness.Bar("wall_s", 1, "no longer", "endless")]
    harness.run_cases("try", [harness.Case("slow peers", fine, peers, 1, bars)], {})
    (entry,) = json.loads((tmp_path / "try.json").read_text())
    assert entry["peers"]["endless"] == entry["peers"]["endless, timed"] == {"more_than_cpu_s": 1}
    assert entry["peers"]["idle"]["wall_s"] > 1.5
    assert entry["peers"]["warm"]["cpu_s"] < 0.5, "what comes before the clock does not count"
    assert entry["ratio"] == pytest.approx(entry["peers"]["warm"]["cpu_s"] / entry["ours"]["cpu_s"], rel=0.01)
    told = json.loads((tmp_path / "try.meta.json").read_text())
    assert told["left_out"] == {"slow peers: always cold": "used 1 CPU s before its clock started"}
    assert [(bar["bar"], bar["met"]) for bar in told["bars"]] == [("no more CPU", True)]
    assert capsys.readouterr().out.count("more than 1 CPU s") == 2


def test_a_peer_that_hangs_without_using_the_processor_is_cut_off_and_told(tmp_path, monkeypatch, capsys):
    from benchmarks import harness

    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    monkeypatch.setattr(harness, "HANGS_AFTER", 0.3)
    fine, hung = [sys.executable, "-c", "pass"], [sys.executable, "-c", "import signal; signal.pause()"]
    peers = {"hung": harness.Command(hung, limit_s=1)}
    harness.run_cases("try", [harness.Case("a peer", harness.Command(fine, limit_s=100), peers, 1)], {})
    found = json.loads((tmp_path / "try.meta.json").read_text())["left_out"]
    assert found == {"a peer: hung": "hung: cut off after 0.3 s by the clock"}
    assert "cut off" in capsys.readouterr().err


def test_only_ours_leaves_out_the_peers_alone():
    from benchmarks import harness

    command = harness.Command([sys.executable])
    cases = [harness.Case("neighbours", command, {"peer": command}), harness.Case("clusters", command)]
    assert [(case.name, dict(case.peers)) for case in harness.pick(cases, "ours")] == [
        ("neighbours", {}),
        ("clusters", {}),
    ]
    assert harness.pick(cases, "clus") == cases[1:]


def test_the_readme_names_every_benchmark_with_its_command():
    from benchmarks.__main__ import BENCHMARKS

    text = (ROOT / "benchmarks" / "README.md").read_text()
    assert [name for name in BENCHMARKS if f"make bench NAME={name} " not in text or f"| `{name}` |" not in text] == []


def test_quality_of_maps_separates_structure_from_chance(tmp_path):
    from benchmarks import maps

    points, groups = maps.cells(600)
    again, _ = maps.cells(600)
    np.testing.assert_array_equal(points, again)
    assert points.std(axis=0).argmax() == 0
    assert maps.map_quality(points, points) == {"trustworthiness": 1, "preserved": 1}
    noise = np.random.default_rng(0).normal(size=(600, 2))
    found = maps.map_quality(points, noise)
    assert found["trustworthiness"] == pytest.approx(0.5, abs=0.05)
    assert found["preserved"] == pytest.approx(30 / 599, abs=0.03)
    np.save(tmp_path / "groups.npy", groups)
    assert maps.agreement(tmp_path, (groups + 3) % 30)["rand_index"] == 1
    assert abs(maps.agreement(tmp_path, np.random.default_rng(0).permutation(groups))["rand_index"]) < 0.05


def test_cpu_time_and_memory_of_child_processes_count():
    from benchmarks import harness

    child = "x = bytearray(80_000_000); sum(range(6_000_000))"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    usage, _ = harness._run(harness.Command([sys.executable, "-c", parent]))
    assert usage.cpu_s > 0.05
    assert usage.peak_mb > 80


def test_a_peer_that_fails_is_left_out_and_reported(tmp_path, monkeypatch, capsys):
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


@pytest.mark.skipif(sys.platform != "linux", reason="the processes that still live are read from /proc")
def test_a_case_that_measures_itself_counts_children_that_still_live():
    """As the process from which readers are forked."""
    from benchmarks import harness

    code = (
        "import subprocess, sys; from benchmarks.harness import timed\n"
        "burn = 'import time\\nwhile time.process_time() < .4: pass\\nprint(flush=True); input()'\n"
        "with timed():\n"
        "    child = subprocess.Popen([sys.executable, '-c', burn], stdin=-1, stdout=-1)\n"
        "    child.stdout.readline()\n"
        "child.communicate(b'\\n')"
    )
    usage, _ = harness._run(harness.Command([sys.executable, "-c", code], {"PYTHONPATH": str(ROOT)}))
    assert 0.35 < usage.cpu_s < 5


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
