"""Genes whose p-values are all 0 in a double, in several clusters: what owns them, and how tables order them."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from builders import cell_major, cell_sets, small_experiment
from cellworker.analysis.statistics.markers import find_markers
from cellworker.analysis.statistics.p_values import PValues
from cellworker.api.experiment import OpenExperiment, open_experiment
from cellworker.cli.main import main
from cellworker.experiment.model import Categorical
from cellworker.settings import Settings
from cellworker.tasks.catalog import TASKS

CLUSTERS, CELLS, GENES = 8, 1000, 90
CLUSTER = np.repeat(np.arange(CLUSTERS), CELLS)
SETS = {f"c{k}": np.flatnonzero(k == CLUSTER) for k in range(CLUSTERS)}
WITHIN = ["p_val", "logFC", "pct_1", "pct_2", "p_val_adj", "auc", "gene_names", "Gene"]
BETWEEN = ["p_val", "logFC", "AveExpr", "p_val_adj", "gene_names", "Gene"]
LOGS = ["log10_p", "log10_p_adj"]


def expression(seed, n_genes):
    """Genes that are high in two of eight clusters, more so in the one or the other; the last two are copies of one."""
    random = np.random.default_rng(seed)
    dense = np.zeros((CLUSTERS * CELLS, n_genes), np.float32)
    for gene in range(n_genes):
        first, second = random.permutation(CLUSTERS)[:2]
        for cluster, level in ((first, 3.0), (second, 3.0 + random.uniform(-1.5, 1.5))):
            seen = random.random(CELLS) < random.uniform(0.85, 1)
            dense[cluster == CLUSTER, gene] = (seen * np.maximum(0, random.normal(level, 0.5, CELLS))).round(2)
        noise = (random.random(len(dense)) < 0.04) & (dense[:, gene] == 0)
        dense[noise, gene] = random.uniform(0.5, 4, noise.sum()).round(2)
    dense[:, -1] = dense[:, -2] = dense[:, 3]
    return dense


DENSE = expression(5, GENES)


def scores(dense, inside, outside, *, original=False):
    """Normal scores by scipy's ranks, gene by gene, with presto's ties where `original`."""
    out = []
    for gene in range(dense.shape[1]):
        both = np.concatenate([dense[inside, gene], dense[outside, gene]]).astype(float)
        n1, n0, n = len(inside), len(outside), len(both)
        distance = abs(stats.rankdata(both)[:n1].sum() - n1 * (n1 + 1) / 2 - n1 * n0 / 2)
        _, ties = np.unique(both, return_counts=True)
        ties = ties[: len(ties) - original].astype(float)
        sigma = np.sqrt(n1 * n0 / 12 * (n + 1 - (ties**3 - ties).sum() / (n * (n - 1))))
        out.append(0.0 if distance == 0 else abs(distance - 0.5) / sigma)
    return np.array(out)


def log10_tail(z):
    return (stats.norm.logsf(z) + np.log(2)) / np.log(10)


def rs_p(z):
    """R's 2 * pnorm(-z): 0 at 37.5193 and beyond."""
    return np.where(z < 37.5193, 2 * stats.norm.sf(z), 0.0)


def evidence_for(dense, sets, evidence, **more):
    """The evidence for each gene in each set where it may mark it, else inf, and the fold changes."""
    listed, found, folds = np.unique(np.concatenate(sets)), [], []
    for inside in sets:
        outside = np.setdiff1d(listed, inside)
        a, b = dense[inside].astype(float), dense[outside].astype(float)
        fold = a.mean(axis=0) - b.mean(axis=0)
        marks = (fold > 0) & ((a > 0).mean(axis=0) >= 0.2) & ((b > 0).mean(axis=0) <= 0.7)
        found.append(np.where(marks, evidence(scores(dense, inside, outside, **more)), np.inf))
        folds.append(fold)
    return np.array(found), np.array(folds)


def best(found, folds, n):
    """The n markers of each set: genes belong to the first set with the smallest evidence."""
    owner, marks = np.argmin(found, axis=0), np.isfinite(found).any(axis=0)
    out = []
    for k, fold in enumerate(folds):
        genes = np.flatnonzero(marks & (owner == k))
        out.append(genes[np.lexsort((found[k][genes], -fold[genes]))][:n].tolist())
    return out


def opened(dense=DENSE, sets=SETS, *, like_original=False, **parts):
    chosen = Settings(like_original=like_original)
    return OpenExperiment(small_experiment(dense, **parts), cell_sets(louvain=sets), settings=chosen)


def markers(dense, sets, n, *, original=False):
    data = small_experiment(dense).data
    lists = find_markers((data.indptr, data.cells, data.values), sets, len(dense), n, original=original)
    return [genes.tolist() for genes in lists]


def names(lists):
    return list(dict.fromkeys(f"GENE{gene + 1}" for genes in lists for gene in genes))


def test_marker_lists_are_those_of_the_log_domain_where_genes_underflow_in_several_clusters():
    found, folds = evidence_for(DENSE, list(SETS.values()), log10_tail)
    assert ((found < -330).sum(axis=0) >= 2).sum() > 40  # the double is 0 in two clusters and more
    by_position = np.argmin(np.where(found < -330, -np.inf, found), axis=0)
    assert (by_position != np.argmin(found, axis=0)).sum() > 15
    want = names(best(found, folds, 5))
    assert opened().call("MarkerHeatmap", nGenes=5, selectedCellSet="louvain")["orderedGeneNames"] == want
    dots = opened().call("DotPlot", useMarkerGenes=True, numberOfMarkers=5, groupBy="louvain")
    assert sorted(dots["geneNames"]) == sorted(want)


@settings(max_examples=3)
@given(st.integers(0, 10**6))
def test_marker_lists_are_those_of_the_log_domain_in_sets_that_overlap_or_have_one_cell(seed):
    random = np.random.default_rng(seed)
    dense = expression(seed, 16)
    groups = [np.isin(CLUSTER, random.permutation(CLUSTERS)[: random.integers(1, 4)]) for _ in range(4)]
    sets = [*map(np.flatnonzero, groups), np.array([random.integers(len(dense))])]
    assert markers(dense, sets, 5) == best(*evidence_for(dense, sets, log10_tail), 5)


def test_like_the_original_a_gene_whose_p_values_are_zero_belongs_to_the_first_set_of_them():
    sets = list(SETS.values())
    found, folds = evidence_for(DENSE, sets, rs_p, original=True)
    assert ((found == 0).sum(axis=0) >= 2).sum() > 40
    assert markers(DENSE, sets, GENES, original=True) == best(found, folds, GENES)
    assert markers(DENSE, sets, GENES, original=True) != markers(DENSE, sets, GENES)
    heatmap = opened(like_original=True).call("MarkerHeatmap", nGenes=5, selectedCellSet="louvain")
    assert heatmap["orderedGeneNames"] == names(best(found, folds, 5))


def test_a_language_model_is_shown_the_markers_in_the_order_of_the_statistic(answer):
    for like_original in (False, True):
        asked = []

        def annotate(question, progress, scratch, asked=asked):
            asked.append(question)
            return [{}]

        children = [{"name": key, "cellIds": rows.tolist()} for key, rows in SETS.items()]
        clusters = {"louvain": {"key": "louvain", "name": "louvain", "children": children}}
        request = {"species": "Human", "tissue": "Blood", "cellSets": clusters}
        answer(
            small_experiment(DENSE), "CASSIAAnnotate", request, annotate=annotate, like_original=like_original
        )  # fmt: skip
        table = {name: np.array(column) for name, column in asked[0].markers.items()}
        measure = rs_p if like_original else log10_tail
        evidence, _ = evidence_for(DENSE, list(SETS.values()), measure, original=like_original)
        ties = 0
        for k in range(CLUSTERS):
            rows = table["cluster"] == k + 1
            genes = np.array([int(name[4:]) - 1 for name in table["gene"][rows]])
            order = np.lexsort((genes, -table["avg_log2FC"][rows], evidence[k][genes]))
            assert order.tolist() == list(range(len(genes)))
            ties += (table["p_val"][rows] == 0).sum()
        assert ties > 100


WITHIN_BODY = {"cellSet": "c0", "compareWith": "rest"}


def within(*, like_original=False):
    """Two sets of 4,000 cells that 60 genes tell apart beyond any double, by falling and rising evidence."""
    random = np.random.default_rng(11)
    dense = np.zeros((8000, 80), np.float32)
    base = np.arange(8000) < 4000
    for gene in range(80):
        strength = random.uniform(1, 6) if gene < 60 else 0
        dense[:, gene] = np.maximum(0, random.normal(3 + strength * base, 1.5)).round(2)
    dense[:, 17] = dense[:, 40]
    dense[:, 70] = 1
    sets = {"c0": np.flatnonzero(base), "c1": np.flatnonzero(~base), "one": np.array([3])}
    return opened(dense, sets, like_original=like_original), dense, sets


_ASK, TWO, TWO_SETS = within()
TWO_SCORES = scores(TWO, TWO_SETS["c0"], TWO_SETS["c1"])
BODY = {"cellSet": "c0", "compareWith": "c1"}


@pytest.fixture(scope="module")
def ask():
    """The experiment of these cells; the folder that its first answer makes goes with it."""
    _ASK.call("DifferentialExpression", **BODY)
    yield _ASK
    _ASK.close()


def zeros_again(shown):
    """The doubles behind a column in which the smallest normal double stands for 0 (contract 5.3)."""
    return [0.0 if p == 2.2250738585072014e-308 else p for p in shown]


@settings(max_examples=25)
@given(
    column=st.sampled_from(["p_val", "p_val_adj"]), direction=st.sampled_from(["ASC", "DESC"]),
    limit=st.integers(1, 90), least=st.one_of(st.none(), st.floats(-1, 4)),
)  # fmt: skip
def test_pages_of_a_rank_test_are_in_the_order_of_the_statistic(ask, column, direction, limit, least):
    filters = [] if least is None else [{"columnName": "logFC", "comparison": "greaterThan", "value": least}]
    fold = TWO[:4000].mean(axis=0, dtype=float) - TWO[4000:].mean(axis=0, dtype=float)
    rows = np.arange(80) if least is None else np.flatnonzero(fold > least)
    order = rows[np.argsort((-1 if direction == "ASC" else 1) * TWO_SCORES[rows], kind="stable")]
    got, shown = [], []
    for offset in range(0, 80, limit):
        page = {"orderBy": column, "orderDirection": direction, "offset": offset, "limit": limit, "filters": filters}
        data = ask.call("DifferentialExpression", **BODY, pagination=page)["data"]
        assert list(data) == WITHIN
        got += data["gene_names"]
        shown += data[column]
    assert got == [f"GENE{gene + 1}" for gene in order]
    doubles = zeros_again(shown)
    assert doubles == sorted(doubles, reverse=direction == "DESC")


def test_the_wire_has_its_columns_and_our_tables_the_logarithms_too(ask):
    assert (TWO_SCORES > 40).sum() > 40
    wire = ask.call("DifferentialExpression", **BODY)["data"]
    frame = ask.run("DifferentialExpression", **BODY)
    assert (list(wire), list(frame.columns)) == (WITHIN, [*WITHIN, *LOGS])
    for name in WITHIN:
        assert frame[name].tolist() == wire[name]
    np.testing.assert_allclose(frame["log10_p"], log10_tail(TWO_SCORES), rtol=1e-9)
    assert wire["p_val"] == [0.0 if z > 38.7 else p for z, p in zip(TWO_SCORES, wire["p_val"], strict=True)]
    assert 2.2250738585072014e-308 in wire["p_val_adj"]
    assert 0 not in wire["p_val_adj"]
    order = np.argsort(frame["log10_p"].to_numpy(), kind="stable")
    adjusted = frame["log10_p"].to_numpy()[order] + np.log10(80 / np.arange(1, 81))
    want = np.minimum(0, np.minimum.accumulate(adjusted[::-1])[::-1])
    np.testing.assert_allclose(frame["log10_p_adj"].to_numpy()[order], want, rtol=1e-12, atol=1e-12)


def test_our_tables_can_be_paged_by_the_logarithms_and_a_batch_has_them(ask):
    page = {"orderBy": "log10_p", "orderDirection": "ASC", "offset": 0, "limit": 7, "filters": []}
    frame = ask.run("DifferentialExpression", **BODY, pagination=page)
    assert frame["gene_names"].tolist() == [f"GENE{i + 1}" for i in np.argsort(-TWO_SCORES, kind="stable")[:7]]
    (batch,) = [ask.run("BatchDifferentialExpression", cellSet=["c0"], compareWith="c1", basis=["all"])]
    assert list(batch.columns) == [*WITHIN, *LOGS]
    np.testing.assert_array_equal(batch["log10_p"], ask.run("DifferentialExpression", **BODY)["log10_p"])


def test_a_set_of_one_cell_is_tested_and_ordered_like_any(ask):
    frame = ask.run("DifferentialExpression", cellSet="one", compareWith="c1")
    z = scores(TWO, [3], TWO_SETS["c1"])
    np.testing.assert_allclose(frame["log10_p"], log10_tail(z), rtol=1e-9, atol=1e-15)
    page = {"orderBy": "p_val_adj", "orderDirection": "ASC", "offset": 0, "limit": 80, "filters": []}
    got = ask.run("DifferentialExpression", cellSet="one", compareWith="c1", pagination=page)["gene_names"]
    assert got.tolist() == [f"GENE{i + 1}" for i in np.argsort(-z.round(12), kind="stable")]


@pytest.mark.parametrize("column", ["p_val", "p_val_adj"])
def test_like_the_original_pages_keep_the_order_of_genes_among_equal_p_values(column):
    ask, dense, sets = within(like_original=True)
    p = rs_p(scores(dense, sets["c0"], sets["c1"], original=True))
    page = {"orderBy": column, "orderDirection": "ASC", "offset": 0, "limit": 50, "filters": []}
    got = ask.call("DifferentialExpression", **BODY, pagination=page)["data"]
    wanted = np.argsort(p, kind="stable")[:50]
    assert (p == 0).sum() > 40
    assert got["gene_names"] == [f"GENE{i + 1}" for i in wanted]
    assert [x == 0 for x in got["p_val"]] == (p[wanted] == 0).tolist()


def log10_student(t, df):
    """Student's two-sided tail in the log domain, by the trapezoidal rule in the logarithm of t."""
    rate = (df + 1) * t**2 / (df + t**2) - 1
    v = np.linspace(0, 60, 200_001) / rate
    inside = v - (df + 1) / 2 * (np.log1p((t * np.exp(v)) ** 2 / df) - np.log1p(t**2 / df))
    return (np.log(2 * t) + stats.t.logpdf(t, df) + np.log(np.trapezoid(np.exp(inside), v))) / np.log(10)


def between(*, like_original=False):
    """Forty samples of ten cells with huge counts: moderated t-statistics far beyond what a double's p-value tells."""
    random = np.random.default_rng(3)
    sample = np.repeat(np.arange(40), 10)
    fold = np.concatenate([random.uniform(-2, 2, 50), np.zeros(10)])
    level = random.uniform(2e4, 2e5, 60)
    counts = random.poisson(level * np.exp(np.where((sample >= 20)[:, None], fold, 0))).astype(float)
    counts[:, 7] = 0
    metadata = {"samples": Categorical(sample.astype(np.int32), [f"s{i}" for i in range(40)])}
    sets = {"knock": np.flatnonzero(sample >= 20), "wild": np.flatnonzero(sample < 20)}
    return opened(np.log1p(counts), sets, like_original=like_original, counts=cell_major(counts), metadata=metadata)


BETWEEN_BODY = {"cellSet": "knock", "compareWith": "wild", "comparisonType": "between"}


def test_comparisons_between_samples_are_ordered_by_their_t_statistics(monkeypatch):
    seen = []
    make = PValues.of_t

    def of_t(t, df, **more):
        seen.append((t, df))
        return make(t, df, **more)

    monkeypatch.setattr(PValues, "of_t", of_t)
    ask = between()
    wire = ask.call("DifferentialExpression", **BETWEEN_BODY)["data"]
    t, df = seen[0]
    tested = np.flatnonzero(~np.isnan(t))
    assert len(tested) == 59
    assert np.ptp(df[tested]) > 50  # genes whose variances stand out have their own: t alone does not tell the order
    reference = np.array([log10_student(abs(t[gene]), df[gene]) if abs(t[gene]) > 3 else 0 for gene in range(60)])
    large = np.abs(t[tested]) > 3
    assert large.sum() > 45
    assert list(wire) == BETWEEN
    assert wire["p_val"].count(0) > 20
    order = [int(name[4:]) - 1 for name in wire["gene_names"]]
    assert sorted(order) == list(range(60))
    assert order[: large.sum()] == tested[large][np.argsort(reference[tested[large]])].tolist()
    assert order[-1] == 7
    assert (np.diff(wire["p_val"][:-1]) >= 0).all()
    frame = ask.run("DifferentialExpression", **BETWEEN_BODY)
    assert list(frame.columns) == [*BETWEEN, *LOGS]
    logs = frame["log10_p"].to_numpy()
    assert np.isnan(logs[-1])
    assert np.isnan(frame["log10_p_adj"].to_numpy()[-1])
    assert (np.diff(logs[:-1]) >= 0).all()
    np.testing.assert_allclose(logs[: large.sum()], reference[order[: large.sum()]], rtol=1e-6)
    assert logs[0] < -330
    for column in ("p_val", "p_val_adj"):
        for direction, wanted in (("ASC", order[:-1]), ("DESC", order[-2::-1])):
            page = {"orderBy": column, "orderDirection": direction, "offset": 3, "limit": 40, "filters": []}
            got = ask.call("DifferentialExpression", **BETWEEN_BODY, pagination=page)
            assert got["total"] == 59
            assert got["data"]["gene_names"] == [f"GENE{i + 1}" for i in wanted[3:43]]
    page = {"orderBy": "nothing", "orderDirection": "ASC", "offset": 0, "limit": 5, "filters": []}
    got = ask.call("DifferentialExpression", **BETWEEN_BODY, pagination=page)["data"]["gene_names"]
    assert got == [f"GENE{i + 1}" for i in order[:5]]


def test_like_the_original_genes_of_equal_p_values_between_samples_keep_their_order():
    wire = between(like_original=True).call("DifferentialExpression", **BETWEEN_BODY)["data"]
    genes = [int(name[4:]) for name in wire["gene_names"]]
    zeros = [gene for gene, p in zip(genes, wire["p_val"], strict=True) if p == 0]
    assert len(zeros) > 20
    assert genes[: len(zeros)] == zeros == sorted(zeros)


def test_the_command_lines_tables_have_the_logarithms_and_its_json_is_the_wires(sample, tmp_path, capsys):
    body = '{"cellSet": "louvain-0", "compareWith": "rest", "basis": "all"}'
    for name in ("a.csv", "a.json"):
        asked = ["call", "DifferentialExpression", "--experiment", str(sample), "--body", body]
        assert main([*asked, "--out", str(tmp_path / name)]) == 0
    capsys.readouterr()
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*WITHIN, *LOGS]
    logs = np.array([float(row["log10_p"]) for row in rows])
    np.testing.assert_allclose(logs, np.log10([float(row["p_val"]) for row in rows]), rtol=1e-12, atol=1e-15)
    assert list(json.loads((tmp_path / "a.json").read_text())["data"]) == WITHIN


def test_a_table_that_came_over_the_wire_has_the_logarithms_of_the_doubles_that_it_has():
    data = {
        "p_val": [1e-5, 0.0, None, 1.0],
        "p_val_adj": [1e-4, 2.2250738585072014e-308, None, 1.0],
        "Gene": list("abcd"),
    }
    table = TASKS["DifferentialExpression"].to_tables({"total": 4, "data": data})["genes"]
    assert table["log10_p"] == [pytest.approx(-5), None, None, 0]
    assert table["log10_p_adj"] == [pytest.approx(-4), None, None, 0]
    names_only = {"gene_names": ["a"], "gene_id": ["b"]}
    assert TASKS["DifferentialExpression"].to_tables({"total": 1, "data": names_only})["genes"] == names_only


@pytest.mark.shared
@pytest.mark.parametrize("like_original", [False, True])
def test_the_case_that_was_seen_is_ordered_by_its_statistics(shared, tmp_path, like_original):
    chosen = Settings(store_dir=tmp_path, like_original=like_original)
    with open_experiment(shared / "cases" / "b24_underflow.h5ad", chosen) as ask:
        for kind in ask.cell_sets.classes:
            for child in kind.children if len(kind.children) > 1 else ():
                body = {"cellSet": child.key, "compareWith": "rest", "basis": "all"}
                frame = ask.run("DifferentialExpression", **body)
                p, logs = frame["p_val"].to_numpy(), frame["log10_p"].to_numpy()
                order = np.argsort(p if like_original else logs, kind="stable")
                page = {"orderBy": "p_val", "orderDirection": "ASC", "offset": 0, "limit": 10**6, "filters": []}
                got = ask.call("DifferentialExpression", **body, pagination=page)["data"]["Gene"]
                assert got == frame["Gene"].to_numpy()[order].tolist()
