"""What check announces is what the tasks do: every task is asked of every fixture, and both are compared."""

from pathlib import Path

import numpy as np
import pytest

from cellworker.engine.contexts import make_context
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.comparisons import EmptySideError
from cellworker.formats.check.checking import check_experiment
from cellworker.formats.opening.open import open_experiment
from cellworker.settings import Settings
from cellworker.tasks import catalog, steps

_ABOUT_THE_REQUEST = frozenset(
    {
        ErrorCode.INVALID_INPUT, ErrorCode.R_WORKER_EMPTY_CELL_SET, ErrorCode.R_WORKER_GENE_NOT_FOUND,
        ErrorCode.DESIGN_NOT_TESTABLE, ErrorCode.R_WORKER_CASSIA_ERROR,
        ErrorCode.R_WORKER_TRAJECTORY_ANALYSIS_EMPTY_ROOT_NODES,
    }
)  # fmt: skip
"""What a request is refused with that fits no experiment of this size, or asks for what is not set up here."""


def requests_of(bodies):
    """Every task, and those of its requests that the announcements tell apart."""
    import orjson

    for name, body in bodies.items():
        if name in {"DifferentialExpression", "BatchDifferentialExpression"}:
            for kind in ("within", "between"):
                yield name, f"{kind} samples", orjson.dumps({**body, "comparisonType": kind})
        elif name == "DotPlot":
            yield name, "", orjson.dumps(body)
            yield name, "with marker genes", orjson.dumps({**body, "useMarkerGenes": True})
        elif name in {"ClusterSubset", "GetSubsetEmbedding"}:
            for components, when in (("saved", "by saved components"), ("own", "by components of their own")):
                yield name, when, orjson.dumps({**body, "components": components})
        elif name == "GetEmbedding":
            yield name, "new maps", orjson.dumps({**body, "type": "umap", "useSaved": False})
        else:
            yield name, "", orjson.dumps(body)


def answer(opened, name, body, settings, scratch):
    """Return the refusal, None where the task answers."""
    task = catalog.find(name)
    context = make_context(settings, lambda *_: None, scratch)
    try:
        value = steps.answer(
            task, task.read_body(body), opened.experiment, context, catalog.find, cell_sets=opened.cell_sets
        )
        if isinstance(value, Path):
            value.unlink()
    except (WorkerError, EmptySideError) as error:
        return error
    return None


def walk(path, tmp_path):
    """Ask every task of an experiment; return what was announced otherwise than it came."""
    settings = Settings(store_dir=tmp_path / "stores", threads=1)
    report = check_experiment(path, settings)
    if report.status:
        with pytest.raises(WorkerError):
            open_experiment(path, settings)
        return []
    announced = {
        (item["task"], item["requests"].replace("all", "")): item
        for item in report.tasks
        if item["effect"] == "refused"
    }
    opened = open_experiment(path, settings)
    wrong = []
    for name, when, body in requests_of(catalog.example_bodies(opened.experiment, opened.cell_sets)):
        refusal = answer(opened, name, body, settings, tmp_path)
        expected = announced.get((name, when))
        about_the_request = refusal is not None and refusal.code in _ABOUT_THE_REQUEST
        if expected is None and refusal is not None and not about_the_request:
            wrong.append((path.name, name, when, "answers", str(refusal)))
        if expected is not None and not about_the_request and (refusal is None or refusal.message != expected["why"]):
            wrong.append((path.name, name, when, expected["why"], str(refusal)))
    return wrong


def made_files(tmp_path):
    """Files that lack one thing each, and one that lacks nothing."""
    import anndata
    import pandas as pd
    from tests.formats.anndata_files import write

    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.lognormal(1, 1, 60)[None] * np.ones((80, 1))).astype(np.float32)
    logs = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))

    def adata(x=logs, layers=None, **obs):
        columns = {
            "leiden": pd.Categorical(["0", "1"] * 40),
            "sample": pd.Categorical(["a"] * 20 + ["b"] * 20 + ["c"] * 40),
        }
        out = anndata.AnnData(
            x.copy(), obs=pd.DataFrame(columns | obs, index=[f"c{i}" for i in range(80)]),
            var=pd.DataFrame(index=[f"g{i}" for i in range(60)]),
            layers={"counts": counts} if layers is None else layers,
        )  # fmt: skip
        out.obsm["X_pca"] = rng.normal(size=(80, 10)).astype(np.float32)
        out.obsm["X_umap"] = rng.normal(size=(80, 2)).astype(np.float32)
        return out

    bad = logs.copy()
    bad[3, 4], bad[5, 6] = np.nan, np.inf
    below = counts.copy()
    below[0, 0] = -1
    gap = counts.copy()
    gap[0, 0] = np.nan
    whole = adata(pct_counts_mt=rng.random(80), doublet_score=rng.random(80))
    flat = adata()
    del flat.obsm["X_pca"]
    bare = adata()
    del bare.obsm["X_pca"], bare.obsm["X_umap"]
    unplaced = adata()
    unplaced.obsm["X_pca"][3] = np.nan
    few = adata()[:, :1].copy()  # of one gene no components can be made
    del few.obsm["X_pca"], few.obsm["X_umap"]
    ids = adata()
    ids.var_names = [f"ENSG{i:011d}" for i in range(60)]
    made = {
        "whole": whole, "no counts": adata(layers={}), "missing": adata(bad), "below": adata(layers={"counts": below}),
        "gap": adata(layers={"counts": gap}), "corrected": adata(layers={"counts": counts * np.float32(0.93)}),
        "no pca": flat, "no maps": bare, "ids": ids, "raw": adata(counts, {}),
        "unplaced": unplaced, "one gene": few,
    }  # fmt: skip
    return [write(each, tmp_path, "h5ad", name) for name, each in made.items()]


def test_check_announces_what_tasks_do_with_files_that_lack_something(tmp_path):
    assert [line for path in made_files(tmp_path) for line in walk(path, tmp_path)] == []


def test_check_announces_what_tasks_do_with_the_fixtures(tmp_path):
    fixtures = Path(__file__).parents[1] / "fixtures"
    paths = sorted(path for suffix in ("rds", "qs", "h5ad") for path in fixtures.rglob(f"*.{suffix}"))
    assert paths
    assert [line for path in paths for line in walk(path, tmp_path)] == []


@pytest.mark.shared
def test_check_announces_what_tasks_do_with_our_reference_cases(tmp_path, shared):
    paths = sorted(path for suffix in ("rds", "h5ad") for path in (shared / "cases").glob(f"*.{suffix}"))
    assert paths
    # 4,000 cells are for another test.
    small = [path for path in paths if path.stem != "b24_underflow"]
    assert [line for path in small for line in walk(path, tmp_path)] == []


def test_comparisons_of_samples_on_counts_below_zero_are_refused_and_corrected_ones_warned_of(tmp_path):
    settings = Settings(store_dir=tmp_path / "stores", threads=1)
    paths = {path.stem: path for path in made_files(tmp_path)}
    for name, effect, words in (
        ("below", "refused", "1 of the counts are below 0"),
        ("corrected", "misleading", "corrected"),
    ):
        told = [item for item in check_experiment(paths[name], settings).tasks if item["requests"] == "between samples"]
        assert {item["task"] for item in told} == {"DifferentialExpression", "BatchDifferentialExpression"}
        assert all(item["effect"] == effect and words in item["why"] for item in told)
