"""ListGenes beyond what the goldens show."""

import json

import numpy as np
import pytest

from builders import small_experiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.model import Dispersions
from cellworker.tasks.catalog import TASKS


def experiment(names=("b", "a", "C", "d"), values=(1.0, 3.0, np.nan, 2.0)):
    table = Dispersions(list(names), [f"id-{name}" for name in names], np.array(values))
    return small_experiment(dispersions=table)


def test_the_total_counts_matches_before_slicing_and_leaves_out_rows_that_miss_a_value(answer):
    got = answer(experiment(), "listGenes", {"orderBy": "dispersions", "orderDirection": "DESC", "limit": 1})
    assert got == {"gene_results": {"gene_names": ["a"], "dispersions": [3.0]}, "full_count": 3}


def test_columns_are_arrays_however_few_rows_there_are(answer):
    got = answer(experiment(), "listGenes", {"geneNamesFilter": "^d$"})
    assert got["gene_results"] == {"gene_names": ["d"], "dispersions": [2.0]}
    got = answer(experiment(), "listGenes", {"geneNamesFilter": "zzz"})
    assert got == {"gene_results": {"gene_names": [], "dispersions": []}, "full_count": 0}


def test_without_an_order_the_table_keeps_its_own(answer):
    assert answer(experiment(), "listGenes", {})["gene_results"]["gene_names"] == ["b", "a", "d"]


@pytest.mark.parametrize("word", ["desc", "DESC"])
def test_descending_is_understood_in_capitals_or_not(answer, word):
    got = answer(experiment(), "listGenes", {"orderBy": "gene_names", "orderDirection": word})
    assert got["gene_results"]["gene_names"] == ["d", "b", "a"]


@pytest.mark.parametrize("field", [{"offset": -1}, {"limit": -5}, {"limit": "all"}])
def test_nonsense_is_refused_with_the_field(answer, field):
    with pytest.raises(WorkerError, match=rf"request\.{next(iter(field))}") as caught:
        answer(experiment(), "listGenes", field)
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_the_browser_gets_total_and_two_columns(answer, prepare):
    task = TASKS["ListGenes"]
    body = {"selectFields": ["gene_names"], "orderBy": "dispersions", "orderDirection": "ASC", "offset": 1, "limit": 9}
    request = prepare("ListGenes", body)
    assert (request.order_by, request.offset, request.limit) == ("dispersions", 1, 9)
    engine = {"gene_results": {"gene_names": ["d"], "dispersions": [2.0]}, "full_count": 3}
    result = json.loads(task.finish(json.dumps(engine).encode()))
    assert result == {"total": 3, "gene_names": ["d"], "dispersions": [2.0]}
    assert task.to_tables(result) == {"genes": {"gene_names": ["d"], "dispersions": [2.0]}}


def test_an_object_without_a_table_lists_its_genes(answer):
    got = answer(small_experiment(dispersions=None), "listGenes", {})
    assert got["gene_results"]["gene_names"] == ["GENE1", "GENE2", "GENE3"]
