"""MarkerHeatmap and DotPlot: the original's answers, sets of every awkward kind, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import goldens
from builders import cell_sets, small_experiment
from cellworker.analysis.statistics.groups import Groups
from cellworker.analysis.statistics.markers import find_markers
from cellworker.analysis.statistics.rank_tests import rank_tests
from cellworker.api.experiment import OpenExperiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellClass, CellSet, CellSets
from cellworker.experiment.model import Genes
from cellworker.settings import Settings
from cellworker.tasks import markers
from cellworker.tasks.catalog import TASKS


@pytest.mark.parametrize("task", ["MarkerHeatmap", "DotPlot"])
@pytest.mark.parametrize("exact", [False, True])
def test_the_originals_answers_come_out(judged, pbmcsmall, task, exact):
    cases = goldens.names(goldens.PBMCSMALL, task)
    assert len(cases) > 5
    for case in cases:
        judged(pbmcsmall, goldens.PBMCSMALL, case, exact=exact)


@pytest.mark.shared
@pytest.mark.parametrize("task", ["MarkerHeatmap", "DotPlot"])
@pytest.mark.parametrize("exact", [False, True])
def test_the_originals_answers_come_out_of_larger_experiments(all_judged, task, exact):
    all_judged(task, exact=exact)


# Gene k is high in the cells k * 10 to k * 10 + 9; the last gene is the same everywhere.
def values():
    random = np.random.default_rng(4)
    dense = (random.random((40, 5)) < 0.2) * random.uniform(0.1, 0.5, (40, 5))
    for k in range(4):
        dense[10 * k : 10 * k + 10, k] = random.uniform(2, 3, 10)
    dense[:, 4] = 1
    return dense.astype(np.float32)


def block(k):
    return list(range(10 * k, 10 * k + 10))


def opened(names=("beta", "Alpha", "_c", "d", "same"), *, like_original=False, **classes):
    names = list(names)
    experiment = small_experiment(values(), genes=Genes([f"E{i}" for i in range(5)], names, names))
    sets = cell_sets(louvain={f"l{k}": block(k) for k in range(4)}, **classes)
    return OpenExperiment(experiment, sets, settings=Settings(threads=2, like_original=like_original))


def test_markers_come_set_after_set_by_display_name():
    assert opened().call("MarkerHeatmap", nGenes=1, selectedCellSet="louvain") == {
        "orderedGeneNames": ["beta", "Alpha", "_c", "d"]
    }


def test_a_name_that_two_genes_share_is_listed_once():
    got = opened(names=("x", "y", "x", "z", "z")).call("MarkerHeatmap", nGenes=3, selectedCellSet="louvain")
    assert got["orderedGeneNames"] == ["x", "y", "z"]


def test_sets_without_any_marker_give_an_empty_list():
    got = opened(odd={"a": range(0, 40, 2), "b": range(1, 40, 2)}).call(
        "MarkerHeatmap", nGenes=1, selectedCellSet="odd"
    )
    assert isinstance(got["orderedGeneNames"], list)
    flat = OpenExperiment(small_experiment(np.ones((40, 2))), cell_sets(c={"a": block(0), "b": block(1)}))
    assert flat.call("MarkerHeatmap", nGenes=5, selectedCellSet="c") == {"orderedGeneNames": []}


def test_in_overlapping_sets_a_cell_counts_in_each_and_the_rest_is_every_listed_cell_outside():
    ask = opened(mine={"ab": block(0) + block(1), "bc": block(1) + block(2), "none": [99]})
    got = ask.call("MarkerHeatmap", nGenes=9, selectedCellSet="mine")["orderedGeneNames"]
    dense, listed, best = values(), np.arange(30), {}
    for gene in range(5):
        for key, inside in (("ab", range(20)), ("bc", range(10, 30))):
            a, b = dense[list(inside), gene], dense[np.setdiff1d(listed, list(inside)), gene]
            fold = float(a.mean(dtype=float) - b.mean(dtype=float))
            if fold > 0 and (a > 0).mean() >= 0.2 and (b > 0).mean() <= 0.7:
                p = stats.mannwhitneyu(a, b, method="asymptotic").pvalue
                if p < best.get(gene, (2.0,))[0]:
                    best[gene] = (p, key, fold)
    names = ["beta", "Alpha", "_c", "d", "same"]
    assert got == [names[g] for g in sorted(best, key=lambda g: (best[g][1], -best[g][2]))]
    assert got


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 39), max_size=40), min_size=2, max_size=12), st.integers(1, 4))
def test_markers_found_a_few_genes_at_a_time_are_those_of_the_whole_table(sets, n):
    data = small_experiment(values()).data
    arrays, sets = (data.indptr, data.cells, data.values), [np.unique(np.array(s, np.int64)) for s in sets]
    tests = rank_tests(arrays, Groups.from_sets(sets, 40))
    best: dict[int, tuple[float, int]] = {}
    for k, gene in np.argwhere(
        (tests.log_fold_change > 0) & (tests.auc >= 0.3) & (tests.fraction_in >= 20) & (tests.fraction_out <= 70)
    ).tolist():
        best[gene] = min(best.get(gene, (np.inf, 0)), (tests.keys[k, gene], k))
    wanted = [
        sorted((-tests.log_fold_change[k, gene], key, gene) for gene, (key, of) in best.items() if of == k)[:n]
        for k in range(len(sets))
    ]
    for threads in (1, 3):
        found = find_markers(arrays, sets, 40, n, threads=threads)
        assert [genes.tolist() for genes in found] == [[gene for *_, gene in genes] for genes in wanted]


def test_sets_that_overlap_in_thousands_of_ways_are_searched_all_the_same():
    random = np.random.default_rng(2)
    dense = (random.random((3000, 3)) < 0.4) * random.integers(1, 5, (3000, 3))
    sets = [np.flatnonzero(random.random(3000) < 0.5) for _ in range(14)]
    data = small_experiment(dense).data
    found = find_markers((data.indptr, data.cells, data.values), sets, 3000, 3, threads=2)
    owners = {int(gene): k for k, genes in enumerate(found) for gene in genes}
    listed = np.unique(np.concatenate(sets))
    for gene, owner in owners.items():
        p = [
            stats.mannwhitneyu(dense[s, gene], dense[np.setdiff1d(listed, s), gene], method="asymptotic").pvalue
            if dense[s, gene].mean() > dense[np.setdiff1d(listed, s), gene].mean()
            else 2
            for s in sets
        ]
        assert owner == int(np.argmin(p))
    assert owners


def test_only_like_the_original_are_cells_drawn(monkeypatch):
    monkeypatch.setattr(markers, "_ORIGINAL_CAP", 3)
    used = []
    monkeypatch.setattr(markers, "find_markers", lambda data, sets, *rest, **more: used.append(sets) or [])
    for like_original in (False, True):
        opened(like_original=like_original).call("MarkerHeatmap", nGenes=1, selectedCellSet="louvain")
    assert [[len(rows) for rows in sets] for sets in used] == [[10] * 4, [3] * 4]
    assert all(np.isin(few, every).all() for every, few in zip(*used, strict=True))


CUSTOM = {"useMarkerGenes": False, "groupBy": "louvain", "customGenesList": ["ALPHA", "beta", "nope"]}


def test_a_dot_plot_has_a_row_for_each_gene_in_each_group_under_sorted_names():
    got = opened().call("DotPlot", **CUSTOM)
    assert got["cellSetsNames"] == ["l0", "l1", "l2", "l3"]
    assert got["geneNames"] == ["Alpha", "beta"]
    assert got["cellSetsIdx"] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert got["geneNameIdx"] == [1, 0] * 4
    dense = values().astype(float)
    for row, (k, gene) in enumerate((k, gene) for k in range(4) for gene in (0, 1)):
        levels = [np.log1p(np.expm1(dense[block(j), gene]).mean()) for j in range(4)]
        want = np.clip((levels[k] - np.mean(levels)) / np.std(levels, ddof=1), -2.5, 2.5)
        assert got["avgExpression"][row] == pytest.approx(want)
        assert got["cellsPercentage"][row] == pytest.approx(100 * (dense[block(k), gene] > 0).mean())


def test_a_gene_that_is_the_same_in_every_group_has_no_score():
    got = opened().call("DotPlot", **CUSTOM | {"customGenesList": ["same"]})
    assert got["avgExpression"] == [None] * 4


def test_marker_dots_are_of_the_groups_own_markers():
    got = opened().call("DotPlot", useMarkerGenes=True, numberOfMarkers=1, groupBy="louvain")
    assert got["geneNames"] == ["_c", "Alpha", "beta", "d"]
    top = [got["geneNames"][got["geneNameIdx"][i]] for i in range(16) if got["avgExpression"][i] > 1]
    assert top == ["beta", "Alpha", "_c", "d"]


def test_in_overlapping_groups_a_cell_is_shown_in_the_last():
    ask = opened(mine={"all three": block(0) + block(1) + block(2), "two": block(1) + block(2), "three": block(2)})
    got = ask.call("DotPlot", **CUSTOM | {"groupBy": "mine"})
    apart = opened(mine={"all three": block(0), "two": block(1), "three": block(2)})
    assert got == apart.call("DotPlot", **CUSTOM | {"groupBy": "mine"})


def test_groups_of_the_same_name_and_genes_of_the_same_name_are_distinguished_or_share_a_line():
    ask = opened(names=("x", "X", "_c", "x", "same"))
    twins = [
        CellSet(f"k{i}", name, None, np.array(block(i), np.int32)) for i, name in enumerate(["a", "a", "b", "a.1"])
    ]
    ask.cell_sets = CellSets([CellClass("c", "c", None, twins)])
    got = ask.call("DotPlot", groupBy="c", customGenesList=["x"])
    assert got["cellSetsNames"] == ["a", "a.1", "a.2", "b"]
    assert got["geneNames"] == ["x", "X"]
    assert got["geneNameIdx"] == [0, 1, 0] * 4


def test_a_filter_leaves_only_its_cells_and_groups_without_cells_disappear():
    ask = opened(sample={"s": block(0)[:5] + block(2), "gone": [77]}, empty={})
    filtered = CUSTOM | {"filterBy": {"group": "sample", "key": "s"}}
    got = ask.call("DotPlot", **filtered)
    assert got["cellSetsNames"] == ["l0", "l2"]
    same = opened(part={"l0": block(0)[:5], "l2": block(2)}).call("DotPlot", **CUSTOM | {"groupBy": "part"})
    assert got == same
    assert ask.call("DotPlot", **CUSTOM | {"filterBy": {"group": "sample", "key": "gone"}}) == []
    assert ask.call("DotPlot", **CUSTOM | {"groupBy": "empty"}) == []
    assert ask.call("DotPlot", **CUSTOM | {"filterBy": {"group": "ALL", "key": "All"}}) == ask.call("DotPlot", **CUSTOM)


def test_a_single_group_is_shown_as_it_is_without_a_score():
    got = opened(one={"only": block(0), "gone": []}).call("DotPlot", **CUSTOM | {"groupBy": "one"})
    assert got["cellSetsNames"] == ["only"]
    want = np.log1p(np.expm1(values()[:10, :2].astype(float)).mean(axis=0))
    assert got["avgExpression"] == pytest.approx(want.tolist())


REFUSED = [
    ("MarkerHeatmap", {"nGenes": 5, "selectedCellSet": "nope"}, ErrorCode.INVALID_INPUT, "selectedCellSet.*'nope'"),
    ("MarkerHeatmap", {"nGenes": 5, "selectedCellSet": "l0"}, ErrorCode.INVALID_INPUT, "selectedCellSet.*'l0'"),
    ("MarkerHeatmap", {"nGenes": 0, "selectedCellSet": "louvain"}, ErrorCode.INVALID_INPUT, r"body\.nGenes"),
    ("MarkerHeatmap", {"nGenes": 5, "selectedCellSet": "one"}, ErrorCode.INVALID_INPUT, "at least 2 groups"),
    ("MarkerHeatmap", {"nGenes": 5, "selectedCellSet": "void"}, ErrorCode.INVALID_INPUT, "at least 2 groups"),
    ("DotPlot", CUSTOM | {"groupBy": "nope"}, ErrorCode.INVALID_INPUT, "groupBy.*'nope'"),
    (
        "DotPlot", CUSTOM | {"filterBy": {"group": "nope", "key": "x"}}, ErrorCode.INVALID_INPUT,
        r"filterBy\.group.*'nope'",
    ),
    (
        "DotPlot", CUSTOM | {"filterBy": {"group": "louvain", "key": "x"}}, ErrorCode.INVALID_INPUT,
        r"filterBy\.key.*'louvain'.*'x'",
    ),
    (
        "DotPlot", CUSTOM | {"customGenesList": ["no", "nor"]}, ErrorCode.R_WORKER_GENE_NOT_FOUND,
        r"Gene\(s\): no, nor not found!",
    ),
    ("DotPlot", CUSTOM | {"customGenesList": []}, ErrorCode.INVALID_INPUT, "customGenesList"),
    ("DotPlot", {"useMarkerGenes": True, "groupBy": "one"}, ErrorCode.INVALID_INPUT, "at least 2 groups"),
    ("DotPlot", CUSTOM | {"numberOfMarkers": -1}, ErrorCode.INVALID_INPUT, r"body\.numberOfMarkers"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "body", "code", "words"), REFUSED)
def test_what_cannot_be_answered_is_refused_with_a_sentence(task, body, code, words):
    with pytest.raises(WorkerError, match=words) as caught:
        opened(one={"x": block(0), "gone": [70]}, void={}).call(task, **body)
    assert caught.value.code is code


def test_no_marker_at_all_is_a_sentence_and_no_empty_plot():
    flat = OpenExperiment(small_experiment(np.ones((40, 2))), cell_sets(c={"a": block(0), "b": block(1)}))
    with pytest.raises(WorkerError, match="No gene marks these groups") as caught:
        flat.call("DotPlot", useMarkerGenes=True, groupBy="c")
    assert caught.value.code is ErrorCode.R_WORKER_GENE_NOT_FOUND


@pytest.mark.parametrize(("limit", "words"), [("_MAX_DOTS", "fewer genes"), ("_MAX_GROUPS", "another class")])
def test_a_plot_with_too_many_dots_is_refused(monkeypatch, limit, words):
    monkeypatch.setattr(markers, limit, 3)
    with pytest.raises(WorkerError, match=words) as caught:
        opened().call("DotPlot", **CUSTOM)
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_missing_values_are_not_ranked():
    dense = values()
    dense[3, 1] = np.nan
    ask = OpenExperiment(small_experiment(dense), cell_sets(c={"a": block(0), "b": block(1)}))
    with pytest.raises(WorkerError, match="GENE2") as caught:
        ask.call("MarkerHeatmap", nGenes=5, selectedCellSet="c")
    assert caught.value.code is ErrorCode.EXPERIMENT_UNSUPPORTED


def test_tables_have_names_in_place_of_positions():
    dots = TASKS["DotPlot"].to_tables(opened().call("DotPlot", **CUSTOM))["dots"]
    assert dots["cell_set"][:3] == ["l0", "l0", "l1"]
    assert dots["gene"][:3] == ["beta", "Alpha", "beta"]
    assert {len(column) for column in dots.values()} == {8}
    assert all(column == [] for column in TASKS["DotPlot"].to_tables([])["dots"].values())
    table = TASKS["MarkerHeatmap"].to_tables({"orderedGeneNames": ["a"]})
    assert table == {"markers": {"gene_names": ["a"]}}
