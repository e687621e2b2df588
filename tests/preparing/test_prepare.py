"""`cellworker prepare`: what a person gets of raw counts, and how it goes when something is in the way."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.sparse import csr_matrix, vstack
from tests.formats import foreign_files as files
from tests.raw_counts import counts_of_types, gene_names, write_counts

from cellworker.api.preparing import prepare
from cellworker.cli.main import main
from cellworker.errors import WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Categorical
from cellworker.formats.check.checking import check_experiment
from cellworker.formats.common.findings import RefusedError
from cellworker.formats.common.provenance import read_provenance
from cellworker.formats.opening.open import open_experiment

PBMC_SMALL = Path(__file__).parents[1] / "fixtures/pbmcsmall/v5/r.rds"


def test_the_folder_opens_with_nothing_left_to_make(prepared, settings, types):
    made, _ = prepared
    opened = open_experiment(made.folder, settings)
    experiment = opened.experiment
    assert experiment.n_cells == made.n_cells > 400
    assert not experiment.extra.get("made")
    assert experiment.misc.active_reduction == "harmony"
    assert {"pca", "harmony", "umap"} <= set(experiment.reductions)
    assert not opened.derived_cell_sets
    assert [item.key for item in opened.cell_sets.classes][:3] == ["louvain", "scratchpad", "sample"]
    clusters = experiment.metadata["louvain"]
    assert isinstance(clusters, Categorical)
    truth = np.array([types[barcode] for barcode in experiment.barcodes])
    pure = sum(np.bincount(truth[clusters.codes == k]).max() for k in range(len(clusters.categories)))
    assert pure > 0.95 * experiment.n_cells
    assert experiment.counts is not None
    assert not check_experiment(made.folder, settings).tasks, "no task has anything to complain of"


def test_a_sample_that_was_prepared_opens_with_its_genes(prepared, samples, settings):
    """Preparing reads cells alone, and its stores have no genes to read."""
    import anndata

    experiment = open_experiment(samples["one"], replace(settings, make_missing=False)).experiment
    raw = anndata.read_h5ad(samples["one"]).X.toarray()
    expected = np.log1p(1e4 * raw / raw.sum(axis=1, keepdims=True))
    genes = np.repeat(np.arange(experiment.n_genes), np.diff(experiment.data.indptr))
    np.testing.assert_allclose(np.bincount(genes, experiment.data.values), expected.sum(axis=0), rtol=1e-5)


def test_counts_are_those_of_the_samples(prepared, samples, settings):
    import anndata

    made, _ = prepared
    merged = anndata.read_h5ad(made.folder / "experiment.h5ad")
    assert set(merged.obs["samples"]) == set(samples)
    for name, path in samples.items():
        ours = merged[merged.obs["samples"] == name]
        theirs = anndata.read_h5ad(path)[[barcode.removeprefix(f"{name}_") for barcode in ours.obs_names]]
        theirs = theirs[:, ours.var_names]
        np.testing.assert_array_equal(ours.layers["counts"].toarray(), theirs.X.toarray())
        totals = np.asarray(theirs.X.sum(axis=1)).ravel()
        np.testing.assert_allclose(ours.obs["nCount_RNA"], totals, rtol=0.02)  # of rare genes too


def test_harmony_mixes_the_samples(prepared):
    made, _ = prepared
    page = made.report.read_text()
    before, after = map(float, re.search(r"samples: ([\d.]+) before, ([\d.]+) after", page).groups())
    assert before > 0.2
    assert after < 0.05


def test_it_reports_its_progress(prepared):
    _, told = prepared
    parts = [part for _, part in told if part is not None]
    assert parts[-1] == 1.0
    assert all(0 <= part <= 1 for part in parts)
    stages = " ".join(stage for stage, _ in told)
    for word in ("reading", "quality of two", "components", "integrating", "laying out", "clusters", "writing"):
        assert word in stages


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.addresses, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]


def test_the_report_is_one_self_contained_file(prepared, samples):
    made, _ = prepared
    text = made.report.read_text()
    page = _Page()
    page.feed(text)
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert len(page.addresses) == 3, "samples before and after, clusters"
    assert "script" not in page.tags
    assert "http" not in text.replace("http-equiv", "").lower()
    assert page.tags.count("svg") == 5 * len(samples)
    for name in samples:
        assert f"<h3>{name}</h3>" in text
    for word in ("max 50 (set)", "(suggested)", "integration: ", "numpy", "after doublets"):
        assert word in text


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_yaml_makes_the_same_bytes_for_any_number_of_threads(prepared, settings, tmp_path_factory):
    import dataclasses

    made, _ = prepared
    again = made.folder.parent / "again"
    prepare(config=made.folder / "prepare.yaml", out=again, settings=dataclasses.replace(settings, threads=1))
    assert digests(again) == digests(made.folder)
    assert set(digests(again)) == {"cell_sets.json", "experiment.h5ad", "prepare.yaml", "report.html"}


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("word", ["components", "laying out", "writing"])
def test_it_goes_on_where_it_stopped(prepared, samples, settings, tmp_path, word):
    made, _ = prepared
    kwargs = {"out": made.folder.parent / f"stopped-{word[:3]}", "settings": settings, "integration": "harmony"}
    kwargs["thresholds"] = ["max_mt=50"]

    def stop(stage, part):
        if word in stage and (part or 0) > 0.3:
            raise StoppedError

    with pytest.raises(StoppedError):
        prepare(list(samples.values()), on_progress=stop, **kwargs)
    assert not (kwargs["out"] / "experiment.h5ad").exists()
    assert [path.name for path in kwargs["out"].iterdir()] == [".prepare"]
    told = []
    prepare(list(samples.values()), on_progress=lambda stage, part: told.append((stage, part)), **kwargs)
    within = [stage for stage, part in told if "quality" in stage]
    assert len(within) == len(samples), "each sample is named, none is computed again"
    assert digests(kwargs["out"]) == digests(made.folder)


KILLED = """
import os, signal, sys
from pathlib import Path
from cellworker.api.preparing import prepare
from cellworker.preparing import pipeline
from cellworker.settings import Settings

out, store, word, *samples = sys.argv[1:]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if word == "report":
    pipeline.report = die
prepare(samples, out=out, settings=Settings(store_dir=Path(store), threads=2), thresholds=["max_mt=50"],
        integration="harmony", on_progress=lambda stage, part: die() if word in stage and (part or 0) > 0.2 else None)
"""


@pytest.mark.parametrize("word", ["quality of two", "joining", "report"])
def test_a_run_that_is_killed_leaves_nothing_that_the_next_does_not_use_or_remove(
    prepared, samples, settings, tmp_path, word
):
    made, _ = prepared
    out = made.folder.parent / f"killed-{word[:4]}"
    command = [sys.executable, "-c", KILLED, str(out), str(settings.store_dir), word, *map(str, samples.values())]
    assert subprocess.run(command, timeout=300, check=False).returncode == -signal.SIGKILL
    assert (out / ".prepare").is_dir()
    told = []
    prepare(
        list(samples.values()), out=out, settings=settings, thresholds=["max_mt=50"], integration="harmony",
        on_progress=lambda stage, part: told.append(stage),
    )  # fmt: skip
    assert told.count("quality of one") == 1, "told, not computed again"
    assert digests(out) == digests(made.folder)


def test_a_changed_parameter_computes_what_depends_on_it_and_nothing_else(samples, settings, tmp_path, monkeypatch):
    from cellworker.preparing import pipeline

    ran = []
    for name in ("assess", "scaled_components", "integrate", "laid_out", "grouped"):
        function = getattr(pipeline, name)
        monkeypatch.setattr(pipeline, name, lambda *a, f=function, n=name, **k: ran.append(n) or f(*a, **k))

    def stop(stage, part):
        if stage == "writing":
            raise StoppedError

    def computed(**changed):
        ran.clear()
        with pytest.raises(StoppedError):
            prepare(
                {"a": samples["one"], "b": samples["two"]}, out=tmp_path / "out", settings=settings, on_progress=stop,
                **{"integration": "none", "thresholds": ["max_mt=60"], **changed},
            )  # fmt: skip
        return list(ran)

    assert computed() == ["assess", "assess", "scaled_components", "integrate", "laid_out", "grouped"]
    assert computed() == []
    assert computed(resolution=0.3) == ["grouped"]
    assert computed(dimensions=20) == ["integrate", "laid_out", "grouped"]
    assert computed(components=20) == ["scaled_components", "integrate", "laid_out", "grouped"]
    assert computed(thresholds=["max_mt=60", "b:min_genes=1"])[:2] == ["assess", "scaled_components"]


def test_limits_of_one_sample_are_its_own(samples, settings, tmp_path):
    made = prepare(
        {"a": samples["one"], "b": samples["two"]}, out=tmp_path / "out", settings=settings, integration="none",
        thresholds=["b:min_counts=100000000", "max_mt=100"], mads=50,
    )  # fmt: skip
    assert made.kept["b"]["counts"] == 0
    assert made.kept["a"]["genes"] == 160
    assert "not integrated" in made.integration


def test_empty_droplets_are_left_out(settings, tmp_path):
    cells, _ = counts_of_types(120, 400, depth=2500)
    rng = np.random.default_rng(1)
    soup = np.asarray(cells.sum(axis=0)).ravel() / cells.sum()
    empty = rng.multinomial(rng.poisson(rng.lognormal(3, 0.8, 1500)), soup)
    path = write_counts(tmp_path / "raw.h5ad", vstack([cells, csr_matrix(empty.astype(np.float32))]).tocsr())
    made = prepare(path, out=tmp_path / "out", settings=settings, thresholds=["max_mt=100"], mads=9)
    assert made.kept["raw"]["barcodes"] == 1620
    assert 115 <= made.kept["raw"]["cells"] <= 130
    assert "hold cells (knee at" in made.report.read_text()


def test_everything_that_is_wrong_is_reported_at_once(samples, settings, tmp_path):
    import anndata

    def write(name, x, names=None):
        path = tmp_path / f"{name}.h5ad"
        adata = anndata.AnnData(csr_matrix(np.asarray(x, np.float32)))
        adata.var_names = names or gene_names(adata.n_vars)
        adata.write_h5ad(path)
        return path

    rng = np.random.default_rng(0)
    fine = rng.poisson(3, (40, 400))
    mouse = [f"ENSMUSG{i:011d}" for i in range(400)]
    given = [
        samples["one"],
        tmp_path / "missing.h5ad",
        write("normalised", np.log1p(fine / 3)),
        write("single", fine[:1]),
        write("empty", np.zeros((5, 400))),
        write("mouse", fine, mouse),
        write("both", fine, [f"ENSG{i:011d}" for i in range(200)] + mouse[:200]),
    ]
    (tmp_path / "more").mkdir()
    given.append(write_counts(tmp_path / "more" / "one.h5ad", counts_of_types(50, 400)[0]))
    with pytest.raises(RefusedError) as caught:
        prepare(given, out=tmp_path / "out", settings=settings)
    text = str(caught.value)
    for sentence in (
        "missing: ", "normalised: counts: found none", "single: cells: found 1", "empty: counts",
        "genes of man and mouse",
        "sample one: found 2 of that name", "name them: NAME=PATH", "mouse: genes: found 0 of 400",
    ):  # fmt: skip
        assert sentence in text, (sentence, text)
    assert all(problem.advice for problem in caught.value.problems if problem.severity == "error")
    assert not (tmp_path / "out").exists()


def test_samples_of_any_format_in_one_folder_are_all_read(settings, tmp_path):
    import anndata

    folder = tmp_path / "mixed"
    files.tenx_folder(folder / "one")
    files.tenx_h5(folder / "two.h5", counts=files.COUNTS[:40])
    adata = anndata.AnnData(csr_matrix(files.COUNTS[10:].astype(np.float32)))
    adata.obs_names, adata.var_names = files.BARCODES[10:], files.IDS
    adata.write_h5ad(folder / "three.h5ad")
    made = prepare(folder, out=tmp_path / "out", settings=settings, thresholds=["max_mt=100"], mads=50)
    assert {name: steps["cells"] for name, steps in made.kept.items()} == {"one": 60, "three": 50, "two": 40}
    shutil.copy(PBMC_SMALL, folder / "object.rds")
    with pytest.raises(WorkerError, match=r"object\.rds beside other samples .*name each that is meant"):
        prepare(folder, out=tmp_path / "again", settings=settings)


def test_samples_of_several_technologies_are_told_with_what_else_is_wrong(settings, tmp_path):
    given = [
        files.tenx_h5(tmp_path / "a.h5"), files.parse_folder(tmp_path / "parse"),
        files.rhapsody_table(tmp_path / "b_RSEC_MolsPerCell.csv"), tmp_path / "missing.h5",
    ]  # fmt: skip
    with pytest.raises(RefusedError) as caught:
        prepare(given, out=tmp_path / "out", settings=settings)
    text = str(caught.value)
    for sentence in ("10x: a; Parse: s0, s1; BD Rhapsody: b", "prepare each group on its own", "missing: "):
        assert sentence in text, text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"resolution": -1}, "resolution"),
        ({"integration": "magic"}, "integration"),
        ({"colour": "red"}, "colour"),
        ({"thresholds": ["max_mt"]}, "expected [SAMPLE:]LIMIT=NUMBER"),
        ({"thresholds": ["nobody:max_mt=3"]}, "no sample 'nobody'"),
        ({"thresholds": ["max_mt=300"]}, "max_mt"),
    ],
)
def test_what_is_asked_in_a_wrong_way_is_named(samples, settings, tmp_path, arguments, sentence):
    with pytest.raises(WorkerError) as caught:
        prepare(samples["one"], out=tmp_path / "out", settings=settings, **arguments)
    assert sentence in str(caught.value)


def test_nothing_is_replaced_that_is_not_its_own(prepared, samples, settings, tmp_path):
    made, _ = prepared
    with pytest.raises(WorkerError, match="--force"):
        prepare(samples["one"], out=made.folder, settings=settings)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(WorkerError, match="not empty"):
        prepare(samples["one"], out=tmp_path, settings=settings)


def test_the_error_of_no_remaining_cell_has_the_numbers(samples, settings, tmp_path):
    with pytest.raises(WorkerError, match=r"0 cells .*'barcodes': 160.*--set"):
        prepare(samples["one"], out=tmp_path / "out", settings=settings, thresholds=["min_counts=1000000000"])


def test_replay_prepares_the_same_samples_again_and_no_others(prepared, samples, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STORE_DIR", str(tmp_path / "stores"))
    made, _ = prepared
    monkeypatch.chdir(samples["one"].parent)
    for source in (made.folder / "experiment.h5ad", made.report):
        assert read_provenance(source)[0].task == "prepare"
    assert main(["replay", str(made.report), "--out", str(tmp_path / "again"), "--quiet"]) == 0
    first, again = (folder / "experiment.h5ad" for folder in (made.folder, tmp_path / "again"))
    assert read_provenance(again) == read_provenance(first)
    assert_same_content(first, again)
    assert (tmp_path / "again/cell_sets.json").read_bytes() == (made.folder / "cell_sets.json").read_bytes()

    others = tmp_path / "others"
    others.mkdir()
    for name, other in (("one", "two"), ("two", "one"), ("three", "three")):
        shutil.copy(samples[other], others / samples[name].name)
    monkeypatch.chdir(others)
    capsys.readouterr()
    assert main(["replay", str(first), "--out", str(tmp_path / "third"), "--quiet"]) == 1
    assert "the samples are not what they were" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()
    assert main(["replay", str(first), "--experiment", "x", "--out", str(tmp_path / "third")]) == 1
    assert "--experiment: samples are found by their names" in capsys.readouterr().err


def assert_same_content(first: Path, second: Path) -> None:
    """Compare all values of two .h5ad files."""
    with h5py.File(first) as one, h5py.File(second) as two:
        names: list[str] = []
        one.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert len(names) > 20
        for name in names:
            np.testing.assert_array_equal(one[name][()], two[name][()], err_msg=name)


def test_the_command_line_makes_a_seurat_object_too(samples, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STORE_DIR", str(tmp_path / "stores"))
    out = tmp_path / "out"
    status = main(["prepare", f"first={samples['one']}", "--out", str(out), "--set", "max_mt=60", "--rds", "--quiet"])
    assert status == 0
    said = capsys.readouterr().out
    assert "first: 160 barcodes" in said
    assert f"cellworker run {out}" in said
    assert (out / "r.rds").exists()
    sets = CellSets.parse((out / "cell_sets.json").read_bytes())
    assert sets.clusters is not None
    assert json.loads((out / "cell_sets.json").read_bytes())
    assert main(["check", str(out)]) == 0
    assert "written by        Seurat" in capsys.readouterr().out


def test_run_prepares_once_and_serves_what_came_of_it(samples, tmp_path, settings, monkeypatch, capsys):
    from cellworker.cli.commands import run as command

    source = tmp_path / "mine.h5ad"
    source.write_bytes(samples["one"].read_bytes())
    monkeypatch.setenv("STORE_DIR", str(settings.store_dir))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    served = []

    async def serve(experiment, settings, **rest):
        served.append(experiment)
        return 0

    monkeypatch.setattr(command, "run_local", serve)
    for _ in range(2):
        assert main(["run", str(source), "--prepare", "--port", "0", "--no-browser"]) == 0
    assert served == [tmp_path / "mine-prepared"] * 2
    said = capsys.readouterr().out
    assert said.count("prepared: ") == said.count("prepared before: ") == 1
    assert open_experiment(served[0], settings).experiment.reductions
    assert main(["run", "--prepare"]) == 1
    assert "expected a file or folder of raw counts" in capsys.readouterr().err
