"""CASSIAAnnotate: what a language model says of the clusters, as up to three classes of cell sets."""

import json
import uuid

import numpy as np
import pytest

from builders import small_experiment
from cellworker.analysis.statistics.r_random import RRandom
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Genes
from cellworker.gateway.core.cell_set_patches import examine
from cellworker.local.merge import merge_cell_sets
from cellworker.tasks.catalog import TASKS
from cellworker.tasks.task import PrepareInput

TASK = TASKS["CASSIAAnnotate"]
N = 30


def blood(**parts):
    """Ten cells each of three clusters and their marker genes, the clusters in turn; ids count down."""
    dense = np.zeros((N, 4), np.float32)
    for gene in range(3):
        dense[gene::3, gene] = 1 + np.arange(10) / 10
    names = ["CD3D", "MS4A1", "LYZ", "OTHER"]
    ids = [f"ENSG{i}" for i in range(4)]
    parts = {"cell_ids": np.arange(N, 0, -1).astype(np.int32), "genes": Genes(ids, names, names)} | parts
    return small_experiment(dense, **parts)


def ids(k):
    return list(range(N - k, 0, -3))


def louvain(sets, **classes):
    children = [{"name": name, "cellIds": cells} for name, cells in sets]
    return {"louvain": {"key": "louvain", "name": "louvain clusters", "children": children}, **classes}


# Listed in another order than that of their first cells.
CLUSTERS = louvain([("Cluster 0", ids(2)), ("Cluster 1", ids(1)), ("Cluster 2", ids(0))])
ANSWERS = [{1: "Lymphoid", 2: "Lymphoid", 3: "Myeloid"}, {1: "T", 2: "B", 3: "Mono"}, {1: "CD4 T", 3: "CD14 mono"}]


@pytest.fixture
def asked():
    return []


@pytest.fixture
def ask(answer, asked):
    def ask(experiment=None, clusters=CLUSTERS, *, answers=ANSWERS, info="two donors", **more):
        def annotate(question, progress, scratch):
            asked.append(question)
            return answers

        request = {"species": "Human", "tissue": "Blood", "additionalInfo": info, "cellSets": clusters}
        return answer(experiment or blood(), "CASSIAAnnotate", request, annotate=annotate, **more)

    return ask


def refused(code, ask, *arguments, **more):
    with pytest.raises(WorkerError) as told:
        ask(*arguments, **more)
    assert told.value.code is code
    return told.value.message


def sets(value):
    return {child["name"]: child["cellIds"] for child in value["children"]}


def test_each_grouping_becomes_a_class(ask):
    got = ask()
    assert [item["name"] for item in got] == ["CASSIA-1", "CASSIA-2", "CASSIA-3"]
    assert sets(got[0]) == {"Lymphoid": sorted([*ids(0), *ids(1)], reverse=True), "Myeloid": ids(2)}
    assert sets(got[1]) == {"T": ids(0), "B": ids(1), "Mono": ids(2)}
    # A cluster that the model had no answer for.
    assert sets(got[2]) == {"CD4 T": ids(0), "Unknown": ids(1), "CD14 mono": ids(2)}
    assert len({item["key"] for item in got}) == 3
    for item in got:
        assert uuid.UUID(item["key"])
        assert (item["rootNode"], item["type"]) == (True, "cellSets")
        assert len({child["color"] for child in item["children"]}) == len(item["children"])
        for child in item["children"]:
            assert list(child) == ["key", "name", "rootNode", "type", "color", "cellIds"]
            assert uuid.UUID(child["key"])


def test_the_model_is_shown_the_markers_of_each_cluster_in_the_order_of_first_cells(ask, asked):
    ask()
    (question,) = asked
    assert (question.species, question.tissue, question.additional_info) == ("Human", "Blood", "two donors")
    assert question.markers["cluster"] == [1, 2, 3]
    assert question.markers["gene"] == ["CD3D", "MS4A1", "LYZ"]
    assert question.n_clusters == 3
    assert list(question.markers) == ["p_val", "avg_log2FC", "pct.1", "pct.2", "p_val_adj", "cluster", "gene"]
    assert question.markers["pct.1"] == [1.0] * 3
    assert question.markers["pct.2"] == [0.0] * 3
    assert all(fold > 3 for fold in question.markers["avg_log2FC"])


def test_cells_outside_every_cluster_are_left_out(ask, asked):
    got = ask(clusters=louvain([("A", ids(0)), ("B", ids(1)), ("gone", [900, 901])]))
    assert sets(got[1]) == {"T": ids(0), "B": ids(1)}
    assert asked[0].markers["cluster"] == [1, 2]


def test_like_the_original_at_most_1000_cells_of_a_cluster_are_drawn_with_seed_42(ask, asked):
    dense = np.zeros((2410, 2), np.float32)
    codes = np.array([0] * 1200 + [1] * 1200 + [-1] * 10)
    dense[:, 0] = np.where(codes == 0, 1 + np.arange(2410) % 7, 0)
    dense[::2, 1] = 1
    experiment = small_experiment(dense)
    clusters = louvain([("A", list(range(1200))), ("B", list(range(1200, 2400)))])
    ask(experiment, clusters, like_original=True)
    ask(experiment, clusters)
    stream = RRandom(42)
    drawn = [stream.sample(1200, 1000) for _ in range(2)]
    inside = np.expm1(dense[drawn[0], 0].astype(float)).sum()
    fold = np.log2((inside + 1) / 1000) - np.log2(1 / 1010)
    assert asked[0].markers["avg_log2FC"][0] == pytest.approx(fold, rel=1e-9)
    assert asked[1].markers["avg_log2FC"][0] != pytest.approx(fold, rel=1e-9)


def test_there_must_be_clusters_and_something_that_marks_them(ask):
    assert "ClusterCells" in refused(ErrorCode.INVALID_INPUT, ask, clusters={})
    assert "only one" in refused(ErrorCode.INVALID_INPUT, ask, clusters=louvain([("A", ids(0))]))
    nothing = small_experiment(np.ones((N, 2)), cell_ids=np.arange(N, 0, -1).astype(np.int32))
    assert "No gene marks any" in refused(ErrorCode.R_WORKER_CASSIA_ERROR, ask, nothing)


def test_without_a_model_the_task_says_so(answer):
    request = {"species": "Human", "tissue": "Blood", "cellSets": CLUSTERS}
    with pytest.raises(WorkerError, match="asks a language model, and none is set up"):
        answer(blood(), "CASSIAAnnotate", request)


def test_words_are_needed_and_further_information_is_handed_on():
    def prepare(**fields):
        body = TASK.read_body({"name": TASK.name, "species": "Human", "tissue": "Blood", **fields})
        return TASK.prepare(PrepareInput(body, None, CellSets.empty()))

    assert prepare(additionalInfo="two donors").additional_info == "two donors"
    assert prepare().additional_info is None
    for field in ("species", "tissue"):
        with pytest.raises(WorkerError, match=rf"body.{field}: expected words, such as"):
            prepare(**{field: " \t"})


def test_progress_is_reported_in_the_originals_words(ask):
    told = []
    ask(progress=lambda stage, fraction=None: told.append((stage, fraction)))
    assert list(dict.fromkeys(told)) == [
        ("Preparing clusters", None), ("Computing marker genes", None), ("Saving annotated cell sets", None),
    ]  # fmt: skip


def document():
    children = [
        {"key": name, "name": name, "cellIds": cells, "color": "#77aadd"}
        for name, cells in (("Cluster 0", ids(2)), ("Cluster 1", ids(1)), ("Cluster 2", ids(0)))
    ]
    return {"cellSets": [{"key": "louvain", "name": "louvain clusters", "type": "cellSets", "children": children}]}


def test_annotating_again_replaces_the_classes(ask):
    body = TASK.read_body({"name": TASK.name, "species": "Human", "tissue": "Blood"})
    content = document()
    for answers in (ANSWERS, [{1: "X", 2: "Y", 3: "Z"}] * 3):
        request = TASK.prepare(PrepareInput(body, None, CellSets.parse(json.dumps(content).encode())))
        classes = json.loads(json.dumps({k: {"name": v.name, "children": []} for k, v in request.cell_sets.items()}))
        classes |= CLUSTERS
        operations = TASK.patch(json.dumps(ask(clusters=classes, answers=answers)).encode())
        assert examine(operations).always
        content = merge_cell_sets(content, operations)
        assert [item["name"] for item in content["cellSets"]] == [
            "louvain clusters", "CASSIA-1", "CASSIA-2", "CASSIA-3",
        ]  # fmt: skip
    assert [child["name"] for child in content["cellSets"][3]["children"]] == ["X", "Y", "Z"]


def test_the_table_has_a_column_for_each_detail(ask):
    table = TASK.to_tables(ask())["cells"]
    assert list(table) == ["cell_id", "CASSIA-1", "CASSIA-2", "CASSIA-3"]
    types = dict(zip(table["cell_id"], table["CASSIA-2"], strict=True))
    assert {types[cell] for cell in ids(1)} == {"B"}
    assert len(types) == N
