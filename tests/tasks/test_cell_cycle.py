"""CellCycleScoring: phases as a class of cell sets."""

import json

import numpy as np
import pytest

import goldens
from builders import small_experiment
from cellworker.analysis.annotation.module_scores import G2M_GENES, S_GENES, module_scores
from cellworker.errors import WorkerError
from cellworker.experiment.model import Genes
from cellworker.gateway.core.cell_set_patches import examine
from cellworker.local.merge import merge_cell_sets
from cellworker.tasks.catalog import TASKS

TASK = TASKS["CellCycleScoring"]
FILLERS = 2500


def lively(*, ids=None, names=None, n_cells=40, seed=3):
    """An experiment with the genes of the cell cycle and enough others to draw controls from."""
    rng = np.random.default_rng(seed)
    names = names or [*S_GENES, *G2M_GENES, *(f"G{i}" for i in range(FILLERS))]
    dense = rng.gamma(1.0, 1.0, (n_cells, len(names))) * (rng.random((n_cells, len(names))) < 0.4)
    genes = Genes(ids or names, names, names)
    cell_ids = rng.permutation(2 * n_cells)[:n_cells].astype(np.int32)
    return small_experiment(dense, genes=genes, cell_ids=cell_ids)


def sets(value):
    return {child["name"]: child["cellIds"] for child in value["children"]}


def compare(got, want):
    """Everything but numbers by chance is the original's."""
    assert [child["key"] for child in got["children"]] == [child["key"] for child in want["children"]]
    for ours, theirs in zip(got["children"], want["children"], strict=True):
        assert {**ours} == {**theirs, "cellIds": goldens.many(theirs["cellIds"])}
    assert {k: v for k, v in got.items() if k != "children"} == {k: v for k, v in want.items() if k != "children"}


def test_few_genes_leave_the_phase_undetermined_as_with_the_original(answer, pbmcsmall):
    golden = goldens.read(goldens.PBMCSMALL, "CellCycleScoring-all")
    got = answer(pbmcsmall.experiment, "CellCycleScoring", golden["request"])
    compare(got, golden["response"])
    assert TASK.patch(json.dumps(got).encode()) == [
        {k: ({**v, "children": got["children"]} if k == "$prepend" else v) for k, v in part.items()}
        for part in golden["patch"]["body"]
    ]


def test_module_scores_of_the_golden_experiment(pbmcsmall):
    golden = goldens.read(goldens.PBMCSMALL, "pure-AddModuleScore")
    check_pure(pbmcsmall.experiment, golden)


def check_pure(experiment, golden):
    asked, place = golden["request"], experiment.genes.by_id
    modules = [[place[gene] for gene in module if gene in place] for module in asked["features"]]
    data = experiment.data
    means = np.array([data.dense(i).sum(dtype=np.float64) for i in range(data.n_genes)]) / data.n_cells
    scores = module_scores(
        (data.indptr, data.cells, data.values), means, modules, asked["ctrl"], data.n_cells, n_bins=asked["nbin"]
    )
    np.testing.assert_allclose(scores, [golden["response"][name] for name in ("M1", "M2")], atol=2e-6)


@pytest.mark.shared
def test_phases_are_the_originals(answer, larger):
    opened, folder = larger
    golden = goldens.read(folder, "CellCycleScoring-all")
    got = answer(opened.experiment, "CellCycleScoring", golden["request"])
    compare(got, golden["response"])
    scores = golden["scores"]
    assert sets(got) == {
        phase: [c for c, p in zip(scores["cells_id"], scores["Phase"], strict=True) if p == phase]
        for phase in dict.fromkeys(scores["Phase"])
    }


@pytest.mark.shared
def test_module_scores_of_a_larger_experiment(larger):
    opened, folder = larger
    check_pure(opened.experiment, goldens.read(folder, "pure-AddModuleScore"))


def test_every_cell_gets_one_phase_and_colours_follow_the_pool(answer):
    experiment = lively()
    got = answer(experiment, "CellCycleScoring", {})
    assert sorted(cell for cells in sets(got).values() for cell in cells) == sorted(experiment.cell_ids.tolist())
    assert set(sets(got)) == {"G1", "S", "G2M"}
    assert [child["key"] for child in got["children"]] == [f"Phase-{name}" for name in sets(got)]
    assert [child["color"] for child in got["children"]][:2] == experiment.misc.color_pool
    first = [child["cellIds"][0] for child in got["children"]]
    assert first == sorted(first, key=experiment.cell_ids.tolist().index)


def test_genes_are_found_by_symbol_or_by_id_whatever_the_case(answer):
    names = [*S_GENES, *G2M_GENES, *(f"G{i}" for i in range(FILLERS))]
    ids = [f"ENSG{i}" for i in range(len(names))]
    by_id = answer(lively(ids=ids, names=names), "CellCycleScoring", {})
    # Mouse symbols as ids and as names.
    mouse = [name.capitalize() for name in names]
    assert answer(lively(ids=ids, names=mouse), "CellCycleScoring", {}) == by_id
    assert answer(lively(ids=mouse, names=mouse), "CellCycleScoring", {}) == by_id
    # Ids alone, in the case of another species, and names that say nothing.
    nameless = Genes(mouse, [f"x{i}" for i in range(len(mouse))], mouse)
    experiment = lively()
    experiment.genes = nameless
    assert set(sets(answer(experiment, "CellCycleScoring", {}))) <= {"G1", "S", "G2M", "Undecided"}


def test_other_genes_leave_the_phase_undetermined(answer):
    experiment = lively(names=[f"G{i}" for i in range(FILLERS)])
    got = answer(experiment, "CellCycleScoring", {})
    assert sets(got) == {"Undetermined cycle phase": experiment.cell_ids.tolist()}
    assert got["children"][0]["key"] == "Phase-Undetermined_cycle_phase"


def test_missing_values_are_refused(answer):
    experiment = lively()
    experiment.data.values[experiment.data.indptr[1] - 1] = np.nan
    with pytest.raises(WorkerError, match="missing or infinite"):
        answer(experiment, "CellCycleScoring", {})


def test_the_answer_does_not_depend_on_threads(answer):
    experiment = lively(n_cells=300)
    assert len({json.dumps(answer(experiment, "CellCycleScoring", {}, threads=n)) for n in (1, 2, 7)}) == 1


def test_the_class_replaces_the_earlier_one_and_may_be_sent_twice(answer, prepare):
    operations = TASK.patch(json.dumps(answer(lively(), "CellCycleScoring", {})).encode())
    assert examine(operations).always
    file = {
        "cellSets": [{"key": "louvain", "name": "l", "children": []}, {"key": "Phase", "name": "P", "children": []}]
    }
    once = merge_cell_sets(file, operations)
    assert [item["key"] for item in once["cellSets"]] == ["Phase", "louvain"]
    assert merge_cell_sets(once, operations) == once
    assert prepare("CellCycleScoring", {}) is not None


def test_the_table_has_a_row_for_each_cell(answer):
    experiment = lively()
    (table,) = TASK.to_tables(answer(experiment, "CellCycleScoring", {})).values()
    assert sorted(table["cell_id"]) == sorted(experiment.cell_ids.tolist())
    assert len(table["phase"]) == len(table["cell_id"])
