"""Tasks of our own: columns, scores, summaries, compositions, subsets, stored results."""

import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import cell_sets, small_experiment
from cellworker.analysis.statistics.composition import overlaps
from cellworker.analysis.statistics.summaries import PROBABILITIES, density, summary
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.bitmaps import write_bitmap, write_cells
from cellworker.experiment.model import Categorical, Reduction, StoredTable
from cellworker.tasks.catalog import find
from cellworker.tasks.common import groupings

SCORES = Path(__file__).parent.parent / "fixtures" / "scores" / "seurat.json"
IDS = np.array([5, 0, 3, 2], np.int32)


@pytest.fixture
def ask(answer, prepare):
    """Ask both halves of a task."""

    def both(experiment, name, body, sets=None, **more):
        request = prepare(name, body, sets)
        return answer(experiment, find(name).path, json.loads(msgspec.json.encode(request)), **more)

    return both


def expressed(n_cells: int, n_genes: int):
    """Log-normalised counts of genes of all means, and many that no cell has."""
    random = np.random.default_rng(n_cells)
    counts = random.poisson(random.gamma(0.3, 2.0, n_genes), (n_cells, n_genes))
    dense = np.log1p(1e4 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    return small_experiment(dense, cell_ids=random.permutation(n_cells + 5)[:n_cells].astype(np.int32))


def refused(call) -> tuple[ErrorCode, str]:
    with pytest.raises(WorkerError) as caught:
        call()
    return caught.value.code, caught.value.message


# --- columns --------------------------------------------------------------------------------------------------------


@pytest.fixture
def annotated():
    codes = np.array([0, 1, -1, 0], np.int32)
    experiment = small_experiment(
        cell_ids=IDS,
        metadata={
            "type": Categorical(codes, ["B", "T"]),
            "treated": Categorical(codes, ["FALSE", "TRUE"]),
            "fresh": np.array([True, False, True, True]),
            "when": Categorical(codes, ["2024-02-28", "2024-02-29"]),
            "moment": Categorical(codes, ["2024-02-28T10:00:00Z", "2024-02-28T10:00:00.500000Z"]),
            "size": np.array([1.5, np.nan, np.inf, -2.0]),
            "n": np.array([3, 1, 2, 2]),
        },
    )
    experiment.colors = {"type": ["#112233", "#445566"]}
    return experiment


def test_columns_are_listed_with_what_is_in_them(ask, annotated) -> None:
    found = {column["name"]: column for column in ask(annotated, "ListCellColumns", {})["columns"]}
    assert list(found) == list(annotated.metadata)
    kinds = {name: column["kind"] for name, column in found.items()}
    assert kinds == {
        "type": "category", "treated": "logical", "fresh": "logical", "when": "date", "moment": "time",
        "size": "number", "n": "number",
    }  # fmt: skip
    assert (found["type"]["levels"], found["type"]["missing"], found["type"]["hasColors"]) == (2, 1, True)
    assert (found["size"]["min"], found["size"]["max"], found["size"]["missing"]) == (-2.0, 1.5, 1)
    assert (found["n"]["integer"], found["size"]["integer"]) == (True, False)
    assert (found["when"]["min"], found["when"]["max"]) == ("2024-02-28", "2024-02-29")


def test_a_column_of_labels_that_hardly_repeat_is_text(ask) -> None:
    column = Categorical(np.arange(30, dtype=np.int32), [f"cell {i}" for i in range(30)])
    experiment = small_experiment(np.ones((30, 2)), metadata={"note": column})
    assert ask(experiment, "ListCellColumns", {})["columns"][0]["kind"] == "text"


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("type", "category", [1, None, 0, None, None, 0]),
        ("treated", "logical", [True, None, False, None, None, False]),
        ("fresh", "logical", [False, None, True, True, None, True]),
        ("size", "number", [None, None, -2.0, None, None, 1.5]),
        ("n", "integer", [1, None, 2, 2, None, 3]),
    ],
)
def test_a_column_is_given_by_cell_id(ask, annotated, name, kind, values) -> None:
    found = ask(annotated, "GetCellColumn", {"column": name})
    (column,) = found["columns"]
    assert (column["name"], column["kind"], column["values"]) == (name, kind, values)
    assert found["colors"] == (["#112233", "#445566"] if name == "type" else None)


def test_tables_of_columns_have_labels_and_leave_out_gaps(annotated) -> None:
    from cellworker.api.experiment import OpenExperiment

    table = OpenExperiment(annotated).run("GetCellColumn", column="type")
    assert table.to_dict("list") == {"cell_id": [0, 2, 5], "type": ["T", "B", "B"]}


def test_a_column_that_is_not_there_is_named(ask, annotated) -> None:
    code, message = refused(lambda: ask(annotated, "GetCellColumn", {"column": "nope"}))
    assert (code, message[:12]) == (ErrorCode.R_WORKER_COLUMN_NOT_FOUND, "body.column:")


# --- scores ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [0, 1])
@pytest.mark.parametrize("which", ["a", "b"])
def test_scores_are_seurats(ask, pbmcsmall, case, which) -> None:
    told = json.loads(SCORES.read_text())
    asked = told["cases"][case]
    body = {"genes": asked["genes"][which], **{name: asked[name] for name in ("nControls", "nBins", "seed")}}
    found = ask(pbmcsmall.experiment, "ScoreGenes", body)
    by_id = found["columns"][0]["values"]
    mine = {
        name: by_id[i] for name, i in zip(pbmcsmall.experiment.barcodes, pbmcsmall.experiment.cell_ids, strict=True)
    }
    # Expression is kept as float32, and Seurat has doubles.
    assert [mine[cell] for cell in told["cells"]] == pytest.approx(asked["scores"][which], abs=2e-7)
    assert found["method"] == "seurat"
    assert found["notFound"] == []


@pytest.mark.parametrize(("n_controls", "n_bins", "seed"), [(50, 25, 0), (5, 10, 3), (1000, 2, 1), (10, 1000, 0)])
def test_scores_are_scanpys(ask, n_controls, n_bins, seed) -> None:
    scanpy, anndata = pytest.importorskip("scanpy"), pytest.importorskip("anndata")
    import pandas as pd
    from scipy.sparse import csr_matrix

    experiment = expressed(150, 400)
    by_cell = experiment.data_by_cell
    # In doubles: of single-precision values scanpy makes single-precision sums.
    values = by_cell.values.astype(np.float64)
    matrix = csr_matrix((values, by_cell.genes, by_cell.indptr), shape=(150, 400))
    names = experiment.genes.names
    data = anndata.AnnData(matrix, var=pd.DataFrame(index=names))
    genes = [names[i] for i in (3, 17, 200, 399)]
    scanpy.tl.score_genes(data, genes, ctrl_size=n_controls, n_bins=n_bins, random_state=seed)
    body = {"genes": [*genes, "NOPE"], "method": "scanpy", "nControls": n_controls, "nBins": n_bins, "seed": seed}
    found = ask(experiment, "ScoreGenes", body)
    scores = np.array(found["columns"][0]["values"])[experiment.cell_ids].astype(np.float64)
    assert scores == pytest.approx(data.obs["score"].to_numpy(), abs=1e-12)
    assert found["notFound"] == ["NOPE"]


def test_scores_do_not_depend_on_threads(ask) -> None:
    experiment = expressed(300, 500)
    body = {"genes": experiment.genes.names[:4], "method": "scanpy"}
    assert ask(experiment, "ScoreGenes", body, threads=1) == ask(experiment, "ScoreGenes", body, threads=3)


def test_what_cannot_be_scored_is_refused(ask, pbmcsmall) -> None:
    gene = pbmcsmall.experiment.genes.names[0]
    code, message = refused(lambda: ask(pbmcsmall.experiment, "ScoreGenes", {"genes": [gene]}))
    assert code is ErrorCode.INVALID_INPUT
    assert "nControls" in message
    code, _ = refused(lambda: ask(pbmcsmall.experiment, "ScoreGenes", {"genes": ["NOPE"]}))
    assert code is ErrorCode.R_WORKER_GENE_NOT_FOUND
    code, message = refused(lambda: ask(pbmcsmall.experiment, "ScoreGenes", {"genes": []}))
    assert (code, message[:10]) == (ErrorCode.INVALID_INPUT, "body.genes")


# --- summaries and compositions -------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan) | st.just(math.inf), max_size=60))
def test_a_summary_is_numpys(values) -> None:
    given_values = np.array(values, np.float64)
    known = given_values[np.isfinite(given_values)]
    edges = np.linspace(-1e6, 1e6, 11)
    found = summary(given_values, edges)
    assert (found.n, found.missing) == (len(known), len(values) - len(known))
    assert found.counts.tolist() == np.histogram(known, edges)[0].tolist()
    assert found.counts.sum() == len(known)
    if len(known):
        assert found.mean == np.mean(known)
        assert found.quantiles.tolist() == np.quantile(known, PROBABILITIES).tolist()
    else:
        assert np.isnan([found.mean, *found.quantiles]).all()


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 300))
def test_a_density_is_the_gaussian_kernels(seed, n) -> None:
    values = np.random.default_rng(seed).gamma(2.0, size=n)
    at = np.linspace(values.min(), values.max(), 64)
    deviation = np.std(values, ddof=1)
    spread = min(deviation, np.subtract(*np.quantile(values, (0.75, 0.25))) / 1.34)
    width = 0.9 * spread * n**-0.2
    exact = np.exp(-0.5 * ((at[:, None] - values) / width) ** 2).sum(axis=1) / (n * width * math.sqrt(2 * math.pi))
    cell = (at[-1] - at[0]) / 1023
    # Linear binning moves the mass of a value within a cell of the grid: an error of the second order.
    assert density(values, at) == pytest.approx(exact, abs=exact.max() * (0.01 + (cell / width) ** 2))


def test_a_gene_is_summarised_by_class_with_common_edges(ask) -> None:
    dense = np.array([[0, 1.0], [2, 0], [4, 0], [1, 0]])
    experiment = small_experiment(dense, cell_ids=IDS)
    sets = cell_sets(louvain={"a": [5, 0, 77], "b": [3]})
    gene = experiment.genes.names[0]
    found = ask(
        experiment, "GetGroupSummaries", {"of": {"gene": gene}, "groupBy": {"class": "louvain"}, "nBins": 4}, sets
    )
    one, other = found["groups"]
    assert (one["cells"], one["positive"], one["mean"], one["counts"]) == (2, 1, 1.0, [1, 0, 1, 0])
    assert (other["cells"], other["mean"], other["quantiles"]) == (1, 4.0, [4.0] * 7)
    assert (found["min"], found["max"], found["edges"]) == (0.0, 4.0, [0, 1, 2, 3, 4])
    assert len(one["density"]) == len(found["points"]) == 128
    within = write_bitmap(np.array([0, 3]))
    body = {"of": {"gene": gene}, "groupBy": {"class": "louvain"}, "within": within}
    assert [group["cells"] for group in ask(experiment, "GetGroupSummaries", body, sets)["groups"]] == [1, 1]


def test_columns_and_scores_are_summarised_by_column(ask, annotated) -> None:
    found = ask(annotated, "GetGroupSummaries", {"of": {"column": "size"}, "groupBy": {"column": "type"}})
    told = {
        group["name"]: tuple(group[name] for name in ("cells", "missing", "mean", "color")) for group in found["groups"]
    }
    assert told == {"B": (2, 0, -0.25, "#112233"), "T": (1, 1, None, "#445566")}
    experiment = expressed(100, 300)
    experiment.metadata = {"half": np.arange(100) % 2 == 0}
    score = {"genes": experiment.genes.names[:3], "method": "scanpy"}
    values = np.array(ask(experiment, "ScoreGenes", score)["columns"][0]["values"])[experiment.cell_ids]
    found = ask(experiment, "GetGroupSummaries", {"of": {"score": score}, "groupBy": {"column": "half"}})
    means = {group["name"]: group["mean"] for group in found["groups"]}
    assert means == pytest.approx({"FALSE": values[1::2].mean(), "TRUE": values[::2].mean()})


@pytest.mark.parametrize(
    ("body", "begin"),
    [
        ({"of": {}, "groupBy": {"column": "type"}}, "body.of: expected exactly one"),
        ({"of": {"gene": "a", "column": "n"}, "groupBy": {"column": "type"}}, "body.of: expected exactly one"),
        ({"of": {"column": "n"}, "groupBy": {}}, "body.groupBy: expected exactly one"),
        ({"of": {"column": "n"}, "groupBy": {"column": "type", "sets": []}}, "body.groupBy: expected exactly one"),
        ({"of": {"column": "type"}, "groupBy": {"column": "type"}}, "body.of.column: 'type' holds labels"),
        ({"of": {"column": "n"}, "groupBy": {"column": "size"}}, "body.groupBy.column: 'size' holds measurements"),
        ({"of": {"column": "n"}, "groupBy": {"column": "nope"}}, "body.groupBy.column: the experiment has no"),
        ({"of": {"column": "n"}, "groupBy": {"class": "nope"}}, "body.groupBy.class: there is no class"),
        ({"of": {"column": "n"}, "groupBy": {"sets": ["nope"]}}, "body.groupBy.sets[0]: the experiment has no"),
        ({"of": {"column": "n"}, "groupBy": {"column": "n"}, "within": "ranges:9-1"}, "body.within: expected asc"),
        ({"of": {"column": "n"}, "groupBy": {"column": "n"}, "nBins": 0}, "body.nBins: expected"),
    ],
)  # fmt: skip
def test_a_summary_that_makes_no_sense_is_refused_by_the_name_of_its_field(ask, annotated, body, begin) -> None:
    assert refused(lambda: ask(annotated, "GetGroupSummaries", body))[1].startswith(begin)


sets_of_rows = st.lists(st.sets(st.integers(0, 29), max_size=30), max_size=6)


@given(sets_of_rows, sets_of_rows)
def test_overlaps_are_counted_for_sets_that_overlap_each_other_too(rows, columns) -> None:
    def arrays(sets):
        return [np.array(sorted(one), np.int32) for one in sets]

    found = overlaps(arrays(rows), arrays(columns), 30)
    assert found.tolist() == [[len(one & other) for other in columns] for one in rows]


def test_a_composition_counts_cells(ask, annotated) -> None:
    sets = cell_sets(louvain={"a": [5, 0], "b": [3, 2, 99]})
    body = {"groupBy": {"class": "louvain"}, "splitBy": {"column": "type"}}
    found = ask(annotated, "GetComposition", body, sets)
    assert [part["name"] for part in found["parts"]] == ["B", "T"]
    assert found["counts"] == [[1, 1], [1, 0]]
    assert (found["cells"], [group["cells"] for group in found["groups"]]) == (4, [2, 2])
    picked = {"sets": ["louvain", write_cells(np.array([0]))]}
    assert ask(annotated, "GetComposition", {**body, "groupBy": picked}, sets)["counts"] == [[2, 1], [0, 1]]


# --- subsets --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clumps():
    """Four clumps of 60 cells: two far apart, each of two that only components of their own tell apart."""
    random = np.random.default_rng(1)
    dense = random.poisson(1.0, (240, 60)).astype(np.float64)
    for clump in range(4):
        dense[60 * clump : 60 * (clump + 1), 10 * clump : 10 * (clump + 1)] += random.poisson(6.0, (60, 10))
    experiment = small_experiment(np.log1p(dense), cell_ids=np.arange(240, dtype=np.int32) * 2)
    far = np.repeat([[0.0, 0.0], [50.0, 0.0]], 120, axis=0) + random.normal(size=(240, 2))
    experiment.reductions = {"pca": Reduction(far)}
    return experiment


def test_a_subset_is_clustered_by_components_of_its_own(ask, clumps) -> None:
    half = write_cells(clumps.cell_ids[:120])
    body = {"cellSet": half, "type": "leiden", "config": {"resolution": 0.5}, "components": "own", "className": "Half"}
    found = ask(clumps, "ClusterSubset", body)
    members = [set(child["cellIds"]) for child in found["children"]]
    assert sorted(map(min, members)) == [0, 120]
    assert all(len(one) == 60 for one in members)
    assert found["name"] == "Half"
    assert ask(clumps, "ClusterSubset", body, threads=3) == found
    operations = find("ClusterSubset").patch(json.dumps(found).encode())
    assert operations[-1] == {"$prepend": found}


def test_a_subset_is_clustered_by_saved_components_alone(ask, clumps) -> None:
    chosen = write_cells(clumps.cell_ids[60:180])
    found = ask(clumps, "ClusterSubset", {"cellSet": chosen, "type": "leiden", "config": {"resolution": 0.1}})
    assert sorted(min(child["cellIds"]) for child in found["children"]) == [120, 240]


@pytest.mark.parametrize("kind", ["umap", "pca"])
def test_a_map_of_a_subset_places_its_cells_and_no_others(ask, clumps, kind) -> None:
    chosen = clumps.cell_ids[:120]
    body = {"cellSet": write_cells(chosen), "type": kind, "components": "own"}
    found = {column["name"]: column["values"] for column in ask(clumps, "GetSubsetEmbedding", body)["columns"]}
    placed = [i for i, (x, y) in enumerate(zip(found["x"], found["y"], strict=True)) if x is not None and y is not None]
    assert placed == chosen.tolist()
    points = np.array([[found["x"][i], found["y"][i]] for i in placed])
    apart = np.linalg.norm(points[:60].mean(axis=0) - points[60:].mean(axis=0))
    assert apart > 2 * points[:60].std(axis=0).max()


def test_own_components_are_those_of_the_subset_alone(ask, clumps) -> None:
    rows = np.arange(30, 150)
    body = {"cellSet": write_cells(clumps.cell_ids[rows]), "type": "pca", "components": "own", "nGenes": 5000}
    found = {column["name"]: column["values"] for column in ask(clumps, "GetSubsetEmbedding", body)["columns"]}
    dense = np.stack([clumps.data.dense(i) for i in range(60)], axis=1)[rows].astype(np.float64)
    scores = np.linalg.svd(dense - dense.mean(axis=0), full_matrices=False)
    for i, name in enumerate("xy"):
        mine = np.array([found[name][cell] for cell in clumps.cell_ids[rows].tolist()])
        wanted = scores[0][:, i] * scores[1][i]
        assert np.abs(mine) == pytest.approx(np.abs(wanted), abs=1e-4)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"cellSet": "ranges:1001"}, ErrorCode.R_WORKER_EMPTY_CELL_SET),
        ({"cellSet": "ranges:0,2", "components": "own"}, ErrorCode.INVALID_INPUT),
        ({"cellSet": "nope"}, ErrorCode.INVALID_INPUT),
        ({}, ErrorCode.INVALID_INPUT),
        ({"cellSet": "ranges:0-90", "config": {"perplexity": 500}, "type": "tsne"}, ErrorCode.INVALID_INPUT),
    ],
)
def test_a_subset_that_cannot_be_mapped_is_refused(ask, clumps, body, code) -> None:
    assert refused(lambda: ask(clumps, "GetSubsetEmbedding", {"type": "umap", **body}))[0] is code


def test_one_cell_is_a_cluster(ask, clumps) -> None:
    found = ask(clumps, "ClusterSubset", {"cellSet": "ranges:4", "type": "louvain"})
    assert [child["cellIds"] for child in found["children"]] == [[4]]


# --- stored results -------------------------------------------------------------------------------------------------


@pytest.fixture
def with_results():
    experiment = small_experiment()
    codes = np.array([0, 0, 1], np.int32)
    columns = {
        "group": Categorical(codes, ["B", "T"]),
        "names": Categorical(np.array([0, 1, 0], np.int32), ["CD79A", "LYZ"]),
        "scores": np.array([3.5, np.nan, -1.0]),
        "ok": np.array([True, False, True]),
    }
    experiment.stored = {"tests": StoredTable("uns/tests", "tests", columns, {"method": "wilcoxon"})}
    return experiment


def test_stored_results_are_listed_and_given_as_tables(ask, with_results) -> None:
    (listed,) = ask(with_results, "ListStoredResults", {})["results"]
    assert listed == {
        "name": "tests", "source": "uns/tests", "kind": "tests", "rows": 3,
        "columns": ["group", "names", "scores", "ok"], "groups": ["B", "T"], "parameters": {"method": "wilcoxon"},
    }  # fmt: skip
    found = ask(with_results, "GetStoredResult", {"result": "tests", "group": "T"})
    columns = {column["name"]: column for column in found["columns"]}
    assert (found["total"], columns["scores"]["values"], columns["ok"]["values"]) == (1, [-1.0], [True])
    assert [columns["names"]["labels"][i] for i in columns["names"]["values"]] == ["CD79A"]
    page = ask(with_results, "GetStoredResult", {"result": "tests", "offset": 1, "limit": 1})
    assert (page["total"], page["columns"][2]["values"]) == (3, [None])


def test_a_result_or_group_that_is_not_there_is_refused_with_those_that_are(ask, with_results) -> None:
    assert "it has tests" in refused(lambda: ask(with_results, "GetStoredResult", {"result": "x"}))[1]
    assert "B, T" in refused(lambda: ask(with_results, "GetStoredResult", {"result": "tests", "group": "x"}))[1]
    assert "it has none" in refused(lambda: ask(small_experiment(), "GetStoredResult", {"result": "x"}))[1]


def test_names_of_a_hostile_file_do_not_fill_a_sentence(ask):
    table = StoredTable("uns", "list", {"group": Categorical(np.zeros(1, np.int32), ["g" * 10_000] * 2000)}, {})
    hostile = small_experiment()
    hostile.stored = {f"{number}{'n' * 10_000}": table for number in range(200)}
    for body in ({"result": "x"}, {"result": f"7{'n' * 10_000}", "group": "x"}):
        assert len(refused(lambda body=body: ask(hostile, "GetStoredResult", body))[1]) < 15_000


def test_too_many_selections_are_refused_before_any_is_looked_up(ask, clumps, monkeypatch):
    monkeypatch.setattr(groupings, "cells_key", lambda *_: pytest.fail("a selection was looked up"))
    sets = {"groupBy": {"sets": ["ranges:0-16777215"] * 2001}}
    body = {"of": {"gene": clumps.genes.names[0]}, **sets}
    assert refused(lambda: ask(clumps, "GetGroupSummaries", body))[1].startswith(
        "body.groupBy.sets: gives 2,001 groups"
    )


# --- the same answers as columns ------------------------------------------------------------------------------------


def decoded(opened, name, body):
    """The answer of a task as typed columns, and as JSON."""
    from tests.column_reader import decode_columns

    from cellworker.tasks.steps import compute
    from cellworker.tasks.task import Context, PrepareInput

    task = find(name)
    request = task.prepare(PrepareInput(task.read_body({"name": name, **body}), None, opened.cell_sets))
    content = compute(task, request, opened.experiment, Context(), columns=True)
    plain = compute(task, request, opened.experiment, Context())
    return decode_columns(content), json.loads(task.finish(plain))


def test_columns_of_genes_are_those_of_the_json(pbmcsmall) -> None:
    names = pbmcsmall.experiment.genes.names[:12]
    table, plain = decoded(pbmcsmall, "GeneExpression", {"genes": names})
    sparse = plain["rawExpression"]
    assert list(table.columns) == plain["orderedGeneNames"]
    assert table.facts["stats"] == plain["stats"]
    for i, column in enumerate(table.columns.values()):
        wanted = np.zeros(sparse["size"][0], np.float32)
        stored = slice(sparse["ptr"][i], sparse["ptr"][i + 1])
        wanted[sparse["index"][stored]] = sparse["values"][stored]
        found = np.zeros_like(wanted)
        if hasattr(column, "rows"):
            found[column.rows] = column.values
        else:
            found[:] = column.values
        assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize("name", ["GetNUmis", "GetNGenes", "GetMitochondrialContent", "GetDoubletScore"])
def test_columns_of_numbers_are_those_of_the_json(pbmcsmall, name) -> None:
    table, plain = decoded(pbmcsmall, name, {})
    wanted = np.array([np.nan if value is None else value for value in plain], np.float32)
    assert np.array_equal(table.columns["value"].values, wanted, equal_nan=True)


def test_columns_of_a_map_are_those_of_the_json(pbmcsmall) -> None:
    table, plain = decoded(pbmcsmall, "GetEmbedding", {"type": "pca", "useSaved": True})
    for i, name in enumerate("xy"):
        wanted = np.array([np.nan if point is None else point[i] for point in plain], np.float32)
        assert np.array_equal(table.columns[name].values, wanted, equal_nan=True)


def test_columns_of_a_comparison_are_those_of_the_json(pbmcsmall) -> None:
    first = pbmcsmall.cell_sets.clusters.children[0].key
    body = {"cellSet": first, "compareWith": "rest", "basis": "all", "comparisonType": "within"}
    table, plain = decoded(pbmcsmall, "DifferentialExpression", body)
    assert table.facts["total"] == plain["total"]
    assert set(table.columns) == set(plain["data"])
    assert table.columns["Gene"].texts == plain["data"]["Gene"]
    wanted = [np.nan if value is None else value for value in plain["data"]["logFC"]]
    assert np.array_equal(table.columns["logFC"].values, np.array(wanted), equal_nan=True)
