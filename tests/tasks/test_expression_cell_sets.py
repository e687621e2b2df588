"""A new cell set from conditions on expression."""

import json
import uuid

import numpy as np
import pytest

from builders import small_experiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.tasks.catalog import TASKS
from cellworker.tasks.expression_cell_sets import r_number

TASK = TASKS["GetExpressionCellSets"]


def condition(gene, comparison, value):
    return {"geneName": gene, "comparisonType": comparison, "thresholdValue": value}


def ask(answer, *conditions, experiment=None, **more):
    experiment = experiment or small_experiment(cell_ids=np.array([5, 0, 3, 2], np.int32))
    return answer(experiment, "getExpressionCellSet", {"genesConfig": list(conditions), **more})


def test_cells_meet_every_condition_and_keep_the_objects_order(answer):
    assert ask(answer, condition("GENE1", "lessThan", 2))["cellIds"] == [5, 3, 2]
    both = ask(answer, condition("GENE1", "lessThan", 2), condition("GENE3", "lessThan", 0.25))
    assert both["cellIds"] == [5, 2]
    assert both["name"] == "GENE1<2, GENE3<0.25"


def test_one_cell_is_still_a_list(answer):
    assert ask(answer, condition("GENE1", "greaterThan", 1))["cellIds"] == [0]


def test_comparisons_are_strict_also_below_zero(answer):
    experiment = small_experiment([[-1.0], [0.0], [2.0]])
    assert ask(answer, condition("GENE1", "greaterThan", -1), experiment=experiment)["cellIds"] == [1, 2]
    assert ask(answer, condition("GENE1", "lessThan", 0), experiment=experiment)["cellIds"] == [0]


def test_what_is_shown_as_a_tenth_is_not_above_a_tenth(answer):
    experiment = small_experiment([[0.1], [0.2]])
    assert ask(answer, condition("GENE1", "greaterThan", 0.1), experiment=experiment)["cellIds"] == [1]
    with pytest.raises(WorkerError, match="No cells match"):
        ask(answer, condition("GENE1", "lessThan", 0.1), experiment=experiment)


def test_a_threshold_beyond_every_float_is_no_crash(answer):
    assert len(ask(answer, condition("GENE1", "lessThan", 1e300))["cellIds"]) == 4


def test_the_new_set_has_a_time_based_key_that_does_not_tell_the_machine(answer):
    keys = [uuid.UUID(ask(answer, condition("GENE1", "lessThan", 9))["key"]) for _ in range(2)]
    assert [key.version for key in keys] == [1, 1]
    assert keys[0] != keys[1]
    assert uuid.getnode() not in {key.node for key in keys}


def test_the_colour_is_the_next_that_no_sibling_has(answer, prepare):
    siblings = [{"key": "a", "name": "A", "color": "#77AADD", "cellIds": []}, {"key": "b", "name": "B", "cellIds": []}]
    file = {"cellSets": [{"key": "scratchpad", "name": "Custom", "children": siblings}]}
    body = {"genesConfig": [condition("GENE1", "lessThan", 9)]}
    request = prepare("GetExpressionCellSets", body, CellSets.parse(json.dumps(file).encode()))
    assert request.used_colors == ["#77AADD"]
    assert ask(answer, *body["genesConfig"], usedColors=request.used_colors)["color"] == "#ee8866"
    assert ask(answer, *body["genesConfig"])["color"] == "#77aadd"


def test_names_of_genes_count_with_their_case(answer):
    with pytest.raises(WorkerError) as caught:
        ask(answer, condition("GENE1", "lessThan", 9), condition("gene2", "lessThan", 9))
    assert caught.value.code is ErrorCode.R_WORKER_EMPTY_CELL_SET
    assert caught.value.message == "Requested ExpressionCellSet with gene name(s) that are not present."


def test_no_condition_is_refused(answer):
    with pytest.raises(WorkerError, match="genesConfig"):
        ask(answer)


def test_the_patch_adds_the_set_to_the_custom_sets():
    new = {"key": "k", "name": "A>1", "rootNode": False, "color": "#77aadd", "cellIds": [5]}
    (operation,) = TASK.patch(json.dumps(new).encode())
    assert operation == {
        "$match": {
            "query": '$[?(@.key == "scratchpad")]',
            "value": {"children": [{"$insert": {"index": "-", "value": new}}]},
        }
    }
    assert not TASK.cacheable


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (0.5, "0.5"),
        (-0.5, "-0.5"),
        (1.0, "1"),
        (0, "0"),
        (0.0, "0"),
        (100000, "100000"),
        (100000.0, "1e+05"),
        (123456.0, "123456"),
        (0.0001, "1e-04"),
        (0.00012, "0.00012"),
        (1e-10, "1e-10"),
        (0.1 + 0.2, "0.3"),
        (1 / 3, "0.333333333333333"),
        (1e22, "1e+22"),
        (1.5e-300, "1.5e-300"),
        (1234567.25, "1234567.25"),
        (3e9, "3e+09"),
    ],
)
def test_thresholds_are_written_as_r_writes_numbers(value, text):
    assert r_number(value) == text
