"""DifferentialExpression and its batch: the original's answers, the wire's shapes, and what is refused."""

import gzip
import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import goldens
from builders import cell_major, cell_sets, small_experiment
from cellworker.api.experiment import OpenExperiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Categorical, Genes
from cellworker.settings import Settings
from cellworker.tasks import differential_expression
from cellworker.tasks.catalog import TASKS
from cellworker.tasks.common import compared_cells, sent_cells
from cellworker.tasks.common.sampling import like_the_original
from cellworker.tasks.task import Context

NO_MATCH = "DifferentialExpression-x-genesOnly-nomatch"


@goldens.parametrize("DifferentialExpression", skip=(NO_MATCH,))
def test_the_originals_tables_come_out(judged, pbmcsmall, case, exact):
    judged(pbmcsmall, goldens.PBMCSMALL, case, exact=exact)


def test_no_match_is_no_gene_where_the_original_made_one_up(answer, pbmcsmall):
    request = goldens.read(goldens.PBMCSMALL, NO_MATCH)["request"]
    got = answer(pbmcsmall.experiment, "DifferentialExpression", request)
    assert got == {"gene_results": {"gene_names": [], "gene_id": []}, "full_count": 0}


@pytest.mark.shared
@pytest.mark.parametrize("exact", [False, True])
def test_the_originals_tables_come_out_of_larger_experiments(all_judged, exact):
    all_judged("DifferentialExpression", exact=exact)


# Six samples of 20 cells; ids 1000 and above were removed by quality control.
SAMPLES = np.repeat(np.arange(6), 20)
CLUSTER = np.tile(np.arange(4), 30)
NAMES = ["CD3D", "Cd8a", "a.b", "a+b", "^x", "y$", "(z)", "HLA-A", "HLA-B", "MT-1", "Lyz", "lyz2"]


def dense_counts():
    random = np.random.default_rng(8)
    level = random.uniform(0.5, 6, 12)
    counts = random.poisson(level * np.where((SAMPLES >= 3)[:, None], random.uniform(0.5, 2, 12), 1))
    return counts * random.poisson(2, counts.shape)


def experiment(dense=None, **parts):
    counts = dense_counts() if dense is None else dense
    ids = [f"ENSG{i}" for i in range(counts.shape[1])]
    names = (NAMES * 20)[: counts.shape[1]]
    defaults = {
        "counts": cell_major(counts),
        "genes": Genes(ids, names, names),
        "metadata": {"samples": Categorical(SAMPLES.astype(np.int32), [f"s{i}" for i in range(6)])},
    }
    return small_experiment(np.log1p(counts), **(defaults | parts))


def sets():
    rows = np.arange(120)
    return cell_sets(
        louvain={f"l{k}": rows[k == CLUSTER] for k in range(4)},
        sample={f"s{k}": [*rows[k == SAMPLES], 1000 + k] for k in range(6)},
        track={"wild": [*rows[SAMPLES < 3], 1000], "knock": rows[SAMPLES >= 3]},
        scratchpad={
            "small": rows[:4],
            "few": rows[-4:],
            "removed": [1000, 1001],
            "empty": [],
            "nine": rows[[*range(9), *range(60, 69)]],
        },
    )


def opened(*, like_original=False, threads=2, **parts):
    chosen = Settings(like_original=like_original, threads=threads)
    return OpenExperiment(experiment(**parts), sets(), settings=chosen)


WITHIN = ["p_val", "logFC", "pct_1", "pct_2", "p_val_adj", "auc", "gene_names", "Gene"]
BETWEEN = ["p_val", "logFC", "AveExpr", "p_val_adj", "gene_names", "Gene"]


def test_within_is_a_rank_test_of_every_cell_of_the_two_sets():
    got = opened().call("DifferentialExpression", cellSet="l0", compareWith="rest", basis="wild")
    assert got["total"] == 12
    assert list(got["data"]) == WITHIN
    values = np.log1p(dense_counts()).astype(np.float32).astype(float)
    inside, outside = (CLUSTER == 0) & (SAMPLES < 3), (CLUSTER != 0) & (SAMPLES < 3)
    for gene in range(12):
        a, b = values[inside, gene], values[outside, gene]
        want = stats.mannwhitneyu(a, b, method="asymptotic")
        row = {name: column[gene] for name, column in got["data"].items()}
        assert row["p_val"] == pytest.approx(want.pvalue, rel=1e-9)
        assert row["auc"] == pytest.approx(want.statistic / len(a) / len(b))
        assert row["logFC"] == pytest.approx(float(a.mean(dtype=float) - b.mean(dtype=float)), abs=1e-9)
        assert (row["pct_1"], row["pct_2"]) == pytest.approx((100 * (a > 0).mean(), 100 * (b > 0).mean()))
    np.testing.assert_allclose(got["data"]["p_val_adj"], stats.false_discovery_control(got["data"]["p_val"]))


def test_between_sorts_by_p_and_keeps_genes_with_too_few_counts_as_gaps_at_the_end():
    counts = dense_counts()
    counts[:, 3] = 0
    got = opened(dense=counts).call(
        "DifferentialExpression", cellSet="knock", compareWith="wild", comparisonType="between"
    )
    assert got["total"] == 12
    assert list(got["data"]) == BETWEEN
    p = got["data"]["p_val"]
    assert p[:11] == sorted(p[:11])
    assert [name for name, column in got["data"].items() if column[11] is None] == BETWEEN[:4]
    assert got["data"]["Gene"][11] == "ENSG3"


def test_two_samples_are_described_but_not_tested():
    got = opened().call("DifferentialExpression", cellSet="s0", compareWith="s4", comparisonType="between")
    assert list(got["data"]) == ["logFC", "AveExpr", "gene_names", "Gene"]
    size = np.abs(got["data"]["logFC"])
    assert (np.diff(size) <= 0).all()


def page(**given):
    return {"orderBy": "p_val", "orderDirection": "ASC", "offset": 0, "limit": 50, "filters": []} | given


def test_a_page_of_one_row_has_arrays_and_the_total_of_all_pages():
    got = opened().call("DifferentialExpression", cellSet="l0", compareWith="l1", pagination=page(limit=1, offset=3))
    assert got["total"] == 12
    assert all(isinstance(column, list) and len(column) == 1 for column in got["data"].values())


def test_a_list_of_genes_starts_at_the_first_whatever_the_offset():
    ask = opened()
    body = {"cellSet": "l0", "compareWith": "l1"}
    wanted = ask.call("DifferentialExpression", **body, pagination=page(limit=4))["data"]
    got = ask.call("DifferentialExpression", **body, genesOnly=True, pagination=page(limit=4, offset=7))
    assert got == {"total": 12, "data": {"gene_names": wanted["gene_names"], "gene_id": wanted["Gene"]}}


REFUSED = [
    ({"cellSet": "nope"}, {}, ErrorCode.INVALID_INPUT, "cellSet.*'nope'"),
    ({"compareWith": "nope"}, {}, ErrorCode.INVALID_INPUT, "compareWith.*'nope'"),
    ({"basis": "nope"}, {}, ErrorCode.INVALID_INPUT, "basis.*'nope'"),
    ({"comparisonType": "across"}, {}, ErrorCode.INVALID_INPUT, r"body\.comparisonType.*'within'"),
    ({"cellSet": "removed"}, {}, ErrorCode.INVALID_INPUT, "No cell id fullfills the 1st cell set."),
    ({"cellSet": "empty"}, {}, ErrorCode.INVALID_INPUT, "No cell id fullfills the 1st cell set."),
    ({"compareWith": "removed"}, {}, ErrorCode.INVALID_INPUT, "No cell id fullfills the 2nd cell set."),
    ({"basis": "s0", "cellSet": "s0"}, {}, ErrorCode.INVALID_INPUT, "No cell id fullfills the 2nd cell set."),
    ({}, {"limit": -1}, ErrorCode.INVALID_INPUT, r"requestProps\.pagination\.limit"),
    ({}, {"limit": 2.5}, ErrorCode.INVALID_INPUT, r"requestProps\.pagination\.limit"),
    ({}, {"offset": -3}, ErrorCode.INVALID_INPUT, r"requestProps\.pagination\.offset"),
    ({}, {"orderDirection": "UP"}, ErrorCode.INVALID_INPUT, r"requestProps\.pagination\.orderDirection"),
    ({}, {"filters": [{"columnName": "age"}]}, ErrorCode.INVALID_INPUT, r"filters\[0\]\.columnName.*'age'"),
    (
        {"comparisonType": "between", "compareWith": "few"}, {}, ErrorCode.DESIGN_NOT_TESTABLE,
        "the second set does not have a sample",
    ),
    (
        {"comparisonType": "between", "cellSet": "wild", "compareWith": "knock", "basis": "nine"}, {},
        ErrorCode.DESIGN_NOT_TESTABLE, "neither set has a sample with at least 10",
    ),
    (
        {"comparisonType": "between", "cellSet": "small", "compareWith": "knock"}, {}, ErrorCode.DESIGN_NOT_TESTABLE,
        "the first set does not have a sample",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "paging", "code", "words"), REFUSED)
def test_what_cannot_be_compared_is_refused_with_a_sentence(body, paging, code, words):
    body = {"cellSet": "s0", "compareWith": "knock", "basis": "all"} | body
    with pytest.raises(WorkerError, match=words) as caught:
        opened().call("DifferentialExpression", **body, pagination=page(**paging))
    assert caught.value.code is code


def test_sets_that_share_their_samples_cannot_be_compared_between_samples():
    ask = opened()
    ask.cell_sets = cell_sets(c={"odd": np.arange(0, 120, 2), "even": np.arange(1, 120, 2)})
    with pytest.raises(WorkerError, match="cells in the same samples") as caught:
        ask.call("DifferentialExpression", cellSet="odd", compareWith="even", comparisonType="between")
    assert caught.value.code is ErrorCode.DESIGN_NOT_TESTABLE


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (np.where(SAMPLES[:, None] == 2, 0, 5) * np.ones((1, 12), int), "a sample has no counts"),
        (np.arange(120)[:, None] % 20 == np.full(12, 0), "no gene has enough counts"),
        (5 * np.ones((120, 12), int), "the samples do not differ within their groups"),
    ],
)
def test_counts_that_cannot_be_tested_are_explained(counts, words):
    with pytest.raises(WorkerError, match=words) as caught:
        opened(dense=counts.astype(int)[:, : 1 if "no gene" in words else 12]).call(
            "DifferentialExpression", cellSet="wild", compareWith="knock", comparisonType="between"
        )
    assert caught.value.code is ErrorCode.DESIGN_NOT_TESTABLE


def test_without_counts_or_samples_only_cells_can_be_compared():
    body = {"cellSet": "wild", "compareWith": "knock"}
    for parts, code in (
        ({"counts": None}, ErrorCode.EXPERIMENT_UNSUPPORTED),
        ({"metadata": {}}, ErrorCode.R_WORKER_COLUMN_NOT_FOUND),
    ):
        ask = OpenExperiment(experiment(**parts), sets())
        assert ask.call("DifferentialExpression", **body)["total"] == 12
        with pytest.raises(WorkerError) as caught:
            ask.call("DifferentialExpression", **body, comparisonType="between")
        assert caught.value.code is code


def test_missing_values_are_not_ranked():
    values = np.log1p(dense_counts()).astype(np.float32)
    values[7, 2] = np.nan
    ask = OpenExperiment(small_experiment(values), sets())
    with pytest.raises(WorkerError, match="GENE3") as caught:
        ask.call("DifferentialExpression", cellSet="l0", compareWith="l1")
    assert caught.value.code is ErrorCode.EXPERIMENT_UNSUPPORTED


tables = {
    kind: opened().call("DifferentialExpression", cellSet="knock", compareWith="wild", comparisonType=kind)["data"]
    for kind in ("within", "between")
}


@settings(max_examples=40)
@given(
    kind=st.sampled_from(["within", "between"]),
    order_by=st.sampled_from(["p_val", "logFC", "gene_names", "Gene", "auc", "nonsense"]),
    direction=st.sampled_from(["ASC", "DESC"]),
    limit=st.integers(1, 14),
    least=st.one_of(st.none(), st.floats(-1, 1)),
)
def test_pages_one_after_the_other_are_the_whole_table(kind, order_by, direction, limit, least):
    filters = [] if least is None else [{"columnName": "logFC", "comparison": "greaterThan", "value": least}]
    ask, genes, totals = opened(), [], set()
    for offset in range(0, 14, limit):
        got = ask.call(
            "DifferentialExpression", cellSet="knock", compareWith="wild", comparisonType=kind,
            pagination=page(orderBy=order_by, orderDirection=direction, offset=offset, limit=limit, filters=filters),
        )  # fmt: skip
        genes += got["data"]["Gene"]
        totals.add(got["total"])
    wanted = [
        g for g, fold in zip(tables[kind]["Gene"], tables[kind]["logFC"], strict=True) if least is None or fold > least
    ]
    assert sorted(genes) == sorted(wanted)
    assert totals == {len(wanted)}
    if order_by in ("p_val", "logFC") and direction == "DESC":
        column = dict(zip(tables[kind]["Gene"], tables[kind][order_by], strict=True))
        assert [column[g] for g in genes] == sorted((column[g] for g in wanted), reverse=True)


@settings(max_examples=40)
@given(st.one_of(st.sampled_from([".", "a.b", "(z)", "+", "[", "\\", "*", "", "hla"]), st.text(max_size=3)))
def test_a_text_filter_means_what_it_says(text):
    text = text.strip("^$")
    got = opened().call(
        "DifferentialExpression", cellSet="l0", compareWith="l1",
        pagination=page(filters=[{"columnName": "gene_names", "type": "text", "expression": text}]),
    )  # fmt: skip
    assert sorted(got["data"]["gene_names"]) == sorted(n for n in NAMES if text.casefold() in n.casefold())


@pytest.mark.parametrize("kind", ["within", "between"])
@pytest.mark.parametrize("like_original", [False, True])
def test_a_batch_is_its_comparisons_one_by_one(kind, like_original):
    ask = opened(like_original=like_original)
    for body, singles in (
        (
            {"cellSet": ["s0", "s5", "knock", "removed"], "compareWith": "background", "basis": ["all"]},
            [{"cellSet": key, "compareWith": "background", "basis": "all"} for key in ("s0", "s5", "knock")],
        ),
        (
            {"cellSet": ["knock"], "compareWith": "wild", "basis": ["l0", "louvain", "empty"][kind == "between" :]},
            [
                {"cellSet": "knock", "compareWith": "wild", "basis": key}
                for key in ("l0", "louvain")[kind == "between" :]
            ],
        ),
    ):
        got = ask.call("BatchDifferentialExpression", **body, comparisonType=kind)
        assert got.pop() == {"total": 0, "data": "No data available for this comparison"}
        for together, single in zip(got, singles, strict=True):
            alone = ask.call("DifferentialExpression", **single, comparisonType=kind)
            assert (together["total"], list(together["data"])) == (alone["total"], list(alone["data"]))
            for name, column in alone["data"].items():
                if name in ("gene_names", "Gene"):
                    assert together["data"][name] == column
                else:
                    np.testing.assert_allclose(together["data"][name], column, rtol=1e-9, atol=1e-12)


def test_a_batch_goes_on_without_a_comparison_that_cannot_be_tested():
    got = opened().call(
        "BatchDifferentialExpression", cellSet=["small", "s0"], compareWith="knock", basis=["all"],
        comparisonType="between",
    )  # fmt: skip
    assert [item["total"] for item in got] == [0, 12]
    assert got[0]["data"] == "No data available for this comparison"


@pytest.mark.parametrize(
    ("field", "value"), [("cellSet", ["l0", "nope"]), ("compareWith", "nope"), ("basis", ["l1", "nope"])]
)
def test_an_unknown_key_in_a_batch_is_an_error_and_no_gap(field, value):
    body = {"cellSet": ["l0"], "compareWith": "rest", "basis": ["all"]} | {field: value}
    with pytest.raises(WorkerError, match=f"{field}.*'nope'") as caught:
        opened().call("BatchDifferentialExpression", **body)
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_a_batch_fails_as_a_whole_where_the_engine_cannot_answer():
    body = {"cellSet": ["knock", "empty"], "compareWith": "wild", "basis": ["all"], "comparisonType": "between"}
    with pytest.raises(WorkerError) as caught:
        OpenExperiment(experiment(counts=None), sets()).call("BatchDifferentialExpression", **body)
    assert caught.value.code is ErrorCode.EXPERIMENT_UNSUPPORTED


def test_a_batch_reports_which_comparison_it_is_at():
    told = []
    ask = OpenExperiment(experiment(), sets(), progress=lambda stage, fraction=None: told.append((stage, fraction)))
    body = {"cellSet": ["s0", "s1"], "compareWith": "knock", "basis": ["all"]}
    ask.call("BatchDifferentialExpression", **body, comparisonType="between")
    assert told == [("Comparison 1 of 2", 0), ("Comparison 2 of 2", 0.5)]
    told.clear()
    ask.call("BatchDifferentialExpression", **body)
    stages = ["Comparing 2 pairs of cell sets", "Comparison 1 of 2", "Comparison 2 of 2"]
    assert list(dict.fromkeys(stage for stage, _ in told)) == stages
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(set(fractions))
    assert fractions[0] > 0
    assert fractions[-1] == 1


def test_an_empty_batch_needs_no_engine():
    got = opened().call("BatchDifferentialExpression", cellSet=["empty"], compareWith="l0", basis=["all"])
    assert got == [{"total": 0, "data": "No data available for this comparison"}]


def test_tables_are_numbered_and_leave_out_comparisons_without_data():
    result = [{"total": 0, "data": "No data available for this comparison"}, {"total": 1, "data": {"Gene": ["a"]}}]
    assert TASKS["BatchDifferentialExpression"].to_tables(result) == {"comparison_2": {"Gene": ["a"]}}
    assert TASKS["DifferentialExpression"].to_tables(result[1]) == {"genes": {"Gene": ["a"]}}


@pytest.mark.parametrize("kind", ["within", "between"])
def test_answers_do_not_depend_on_the_number_of_threads(kind):
    one, four = (
        opened(threads=threads).run_raw(
            "DifferentialExpression", cellSet="knock", compareWith="wild", comparisonType=kind
        )
        for threads in (1, 4)
    )
    assert one == four


def test_a_cancelled_comparison_stops():
    def cancel(stage, fraction=None):
        raise WorkerError(ErrorCode.REQUEST_CANCELLED, "stop")

    with pytest.raises(WorkerError) as caught:
        OpenExperiment(experiment(), sets(), progress=cancel).call(
            "DifferentialExpression", cellSet="l0", compareWith="l1"
        )
    assert caught.value.code is ErrorCode.REQUEST_CANCELLED


def test_only_like_the_original_are_cells_drawn_and_then_background_first(answer, monkeypatch):
    monkeypatch.setattr(differential_expression, "_ORIGINAL_CAP", 10)
    base, background = np.arange(0, 120, 2), np.arange(1, 120, 2)
    request = {"baseCells": base.tolist(), "backgroundCells": background.tolist()}
    drawn = like_the_original([background, base], 10)
    smaller = {"baseCells": drawn[1].tolist(), "backgroundCells": drawn[0].tolist()}
    assert [len(cells) for cells in drawn] == [10, 10]
    of_all = answer(experiment(), "DifferentialExpression", request)
    of_some = answer(experiment(), "DifferentialExpression", request, like_original=True)
    assert of_all != of_some
    monkeypatch.setattr(differential_expression, "_ORIGINAL_CAP", 10_000)
    assert of_some == answer(experiment(), "DifferentialExpression", smaller, like_original=True)


@pytest.mark.shared
def test_cells_are_drawn_as_r_draws_them(shared):
    golden = json.loads(gzip.decompress((shared / "golden/algorithms/r_rng.json.gz").read_bytes()))
    wanted = golden["seed0_groups_cap10_sizes_20_15_12_13"]
    got = like_the_original([np.arange(1, n + 1, dtype=np.int32) for n in (20, 15, 12, 13)], 10)
    assert [cells.tolist() for cells in got] == [sorted(cells) for cells in wanted]


def test_the_requests_of_either_comparison_hold_cells_and_paging(prepare):
    body = {"cellSet": "small", "compareWith": "l0", "basis": "all", "comparisonType": "between", "genesOnly": True}
    request = prepare("DifferentialExpression", body, sets())
    assert request.base_cells == [1, 2, 3]
    assert request.background_cells == list(range(4, 120, 4))
    assert (request.comparison_type, request.genes_only, request.pagination) == ("between", True, None)


@pytest.mark.parametrize("name", ["DifferentialExpression", "GetBackgroundExpressedGenes"])
def test_many_cells_of_a_request_are_the_same_cells_on_the_way_to_the_engine(prepare, monkeypatch, name):
    body = {"cellSet": "small", "compareWith": "l0", "basis": "all"}
    few = prepare(name, body, sets())
    monkeypatch.setattr(sent_cells, "_MANY", 1)
    many = prepare(name, body, sets())
    wire = msgspec.json.encode(many, enc_hook=sent_cells.written)
    for request in (many, msgspec.json.decode(wire, type=type(many))):
        for side in ("base_cells", "background_cells"):
            assert isinstance(getattr(request, side), str)
            assert sent_cells.ids_of(getattr(request, side)).tolist() == getattr(few, side)


def test_one_cell_may_come_as_a_number(answer):
    got = answer(experiment(), "DifferentialExpression", {"baseCells": 3, "backgroundCells": [4, 5, 5, 3]})
    same = TASKS["DifferentialExpression"].request(base_cells=[3], background_cells=[4, 5])
    table = TASKS["DifferentialExpression"].compute(experiment(), same, Context())["gene_results"]
    assert got["gene_results"]["p_val"] == table["p_val"].tolist()


@given(st.sets(st.integers(0, 2**31 - 1), max_size=40) | st.sets(st.integers(0, 60), max_size=40))
def test_many_cells_and_few_are_the_same_rows(ids):
    experiment = small_experiment()
    listed = np.array(sorted(ids, reverse=True), np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sent_cells, "_MANY", 1)
        sent = sent_cells.sent_cells(listed)
    wire = msgspec.json.encode(compared_cells.ComparisonCells(sent, listed.tolist()))
    read = msgspec.json.decode(wire, type=compared_cells.ComparisonCells)
    assert sorted(sent_cells.ids_of(read.base_cells).tolist()) == sorted(ids)
    rows = [compared_cells.listed_rows(experiment, side) for side in (read.base_cells, read.background_cells)]
    assert rows[0].tolist() == rows[1].tolist()
    assert len(wire) < 100 + 25 * len(ids)
