"""Whole files of other people: groupings under their own names, valid numbers, in every format."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from cellworker.api.experiment import open_experiment
from cellworker.errors import WorkerError
from cellworker.formats.check.checking import check_experiment, render
from cellworker.formats.convert.converting import convert
from cellworker.settings import Settings

N_CELLS, N_GENES = 60, 30
RANDOM = np.random.default_rng(3)
COUNTS = RANDOM.poisson(1.5, (N_CELLS, N_GENES)).astype(np.float32) + 1
LOG = np.log1p(1e4 * COUNTS / COUNTS.sum(axis=1, keepdims=True))
SCALED = (LOG - LOG.mean(axis=0)).sum(axis=1) * 10


def made(*, counts: bool) -> AnnData:
    found = AnnData(LOG.copy(), layers={"counts": COUNTS.copy()} if counts else None)
    found.obs_names = ["".join(RANDOM.choice(list("ACGT"), 16)) + f"-{cell % 3}" for cell in range(N_CELLS)]
    found.obs["total_counts"] = SCALED
    found.obs["n_counts"] = COUNTS.sum(axis=1)
    found.obs["leiden"] = pd.Categorical([str(cell % 2) for cell in range(N_CELLS)])
    found.obs["louvain"] = pd.Categorical(["xyz"[cell // 20] for cell in range(N_CELLS)])
    found.obs["mouse.id"] = pd.Categorical([f"m{cell % 3}" for cell in range(N_CELLS)])
    found.obs["orig.ident"] = pd.Categorical(["project"] * N_CELLS)
    found.obsm["X_scVI"] = RANDOM.normal(size=(N_CELLS, 5))
    return found


@pytest.fixture(scope="module", params=["h5ad", "zarr", "rds"])
def file(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    settings = Settings(store_dir=folder / "stores", threads=1)
    source = folder / "mine.h5ad"
    made(counts=True).write_h5ad(source)
    if request.param == "h5ad":
        return source, settings
    target = folder / f"copy.{request.param}"
    convert(source, target, settings)
    return target, settings


def test_each_column_answers_to_its_own_name(file):
    with open_experiment(*file) as experiment:
        keys = {item.key: [child.key for child in item.children] for item in experiment.cell_sets.classes}
        assert keys["leiden"] == ["leiden-0", "leiden-1"]
        assert keys["louvain"] == ["louvain-x", "louvain-y", "louvain-z"]
        body = {"useMarkerGenes": False, "customGenesList": ["1", "2"], "filterBy": {"group": "All", "key": "All"}}
        dots = {
            key: experiment.call("DotPlot", groupBy=key, numberOfMarkers=1, **body) for key in keys if "l" in key[:1]
        }
        assert len(dots["leiden"]["cellSetsIdx"]) == 4
        assert len(dots["louvain"]["cellSetsIdx"]) == 6


def test_no_number_comes_from_scaled_values(file):
    with open_experiment(*file) as experiment:
        found = np.array(experiment.call("GetNUmis"), np.float64)
    np.testing.assert_allclose(found, np.log10(COUNTS.sum(axis=1)), rtol=1e-6)


def test_samples_that_cannot_be_compared_are_named_by_their_column(file):
    with open_experiment(*file) as experiment, pytest.raises(WorkerError) as caught:
        experiment.call(
            "DifferentialExpression",
            cellSet="louvain-x",
            compareWith="louvain-y",
            basis="all",
            comparisonType="between",
        )
    column = "samples" if file[0].suffix == ".rds" else "mouse.id"
    assert f"Samples (column {column}) cannot be compared" in caught.value.message


def test_check_says_what_was_taken_and_why(tmp_path):
    path = tmp_path / "mine.h5ad"
    made(counts=False).write_h5ad(path)
    report = check_experiment(path, Settings(store_dir=tmp_path / "stores", threads=1))
    text = render(report)
    assert "leiden (2), scratchpad = Custom cell sets (0), sample = Samples (mouse.id) (3), louvain (3)" in text
    assert "sample column     mouse.id (one value within each library of barcodes)" in text
    assert "the column n_counts stands in" in text
    assert "total_counts is not taken: values below 0" in text
    assert "scVI is the active reduction" in text
    assert report.contents["clusters in use"] == "leiden"
