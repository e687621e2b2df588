"""GetBackgroundExpressedGenes: against the original, and against adding up by hand."""

import numpy as np
import pytest

import goldens
from builders import cell_major, cell_sets, small_experiment
from cellworker.api.experiment import OpenExperiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Genes


@goldens.parametrize("GetBackgroundExpressedGenes")
def test_the_originals_genes_come_out(judged, pbmcsmall, case, exact):
    judged(pbmcsmall, goldens.PBMCSMALL, case, exact=exact)


@pytest.mark.shared
def test_the_originals_genes_come_out_of_larger_experiments(all_judged):
    all_judged("GetBackgroundExpressedGenes", exact=False)


COUNTS = np.array([[8, 15, 9, 0], [8, 0, 3, 0], [0, 1, 3, 99]], np.float32)


def opened(**parts):
    genes = Genes(["a", "b", "c", "d"], ["A", "B", "C - c", "D"], ["A", "B", "C", ""])
    experiment = small_experiment(COUNTS, counts=cell_major(COUNTS), genes=genes, cell_ids=np.array([4, 7, 2]), **parts)
    return OpenExperiment(experiment, cell_sets(louvain={"x": [4, 5], "y": [7], "z": [2]}, gone={"g": [5, 6]}))


def test_genes_with_more_than_fifteen_counts_are_listed_by_their_own_symbols_in_matrix_order():
    ask = opened()
    assert ask.call("GetBackgroundExpressedGenes", cellSet="x", compareWith="y") == {"genes": ["A"]}
    assert ask.call("GetBackgroundExpressedGenes", cellSet="x", compareWith="z", basis="all") == {"genes": ["B", ""]}
    assert ask.call("GetBackgroundExpressedGenes", cellSet="x", compareWith="rest") == {"genes": ["A", "B", ""]}


def test_a_list_of_none_is_a_list():
    ask = opened()
    ask.cell_sets = cell_sets(c={"y": [7], "none": [4]})
    ask.experiment.counts = cell_major(COUNTS * 0)
    assert ask.call("GetBackgroundExpressedGenes", cellSet="y", compareWith="none") == {"genes": []}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"cellSet": "x", "compareWith": "nope"}, "compareWith.*'nope'"),
        ({"cellSet": "nope", "compareWith": "x"}, "cellSet.*'nope'"),
        ({"cellSet": "x", "compareWith": "y", "basis": "nope"}, "basis.*'nope'"),
        ({"cellSet": "x", "compareWith": "x"}, "1st cell set"),
        ({"cellSet": "x", "compareWith": "g"}, "2nd cell set"),
        ({"cellSet": "g", "compareWith": "x"}, "1st cell set"),
        ({"cellSet": "", "compareWith": "x"}, r"body\.cellSet"),
        ({"compareWith": "x"}, r"body\.cellSet"),
    ],
)
def test_what_cannot_be_added_up_is_refused_with_a_sentence(body, words):
    with pytest.raises(WorkerError, match=words) as caught:
        opened().call("GetBackgroundExpressedGenes", **body)
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_an_object_without_counts_is_refused():
    ask = opened()
    ask.experiment.counts = None
    with pytest.raises(WorkerError, match="raw counts") as caught:
        ask.call("GetBackgroundExpressedGenes", cellSet="x", compareWith="y")
    assert caught.value.code is ErrorCode.EXPERIMENT_UNSUPPORTED


def test_many_cells_are_added_up_by_any_number_of_threads(answer):
    random = np.random.default_rng(5)
    counts = (random.random((9000, 5)) < 0.001 * np.arange(1, 6)).astype(np.float32)
    experiment = small_experiment(counts, counts=cell_major(counts))
    request = {"baseCells": list(range(0, 9000, 2)), "backgroundCells": list(range(1, 9000, 2))}
    wanted = [f"GENE{i + 1}" for i in np.flatnonzero(counts.sum(axis=0) > 15)]
    assert 0 < len(wanted) < 5
    for threads in (1, 4):
        assert answer(experiment, "getBackgroundExpressedGenes", request, threads=threads) == {"genes": wanted}


def test_the_table_has_one_column():
    from cellworker.tasks.catalog import TASKS

    assert TASKS["GetBackgroundExpressedGenes"].to_tables({"genes": ["A"]}) == {"genes": {"gene": ["A"]}}
