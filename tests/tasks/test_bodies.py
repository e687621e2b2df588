"""Bodies on the wire: read leniently, refused with the field's name."""

import json

import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.protocol.pagination import Pagination
from cellworker.protocol.validation import convert
from cellworker.tasks.catalog import TASKS, find

# What the platform's browser sends (contract, section 5).
EXAMPLES = {
    "GetEmbedding": {"type": "umap", "useSaved": False, "config": {"minimumDistance": 0.3, "distanceMetric": "cosine"}},
    "ListGenes": {"selectFields": ["gene_names", "dispersions"], "orderBy": "dispersions", "orderDirection": "DESC",
                  "offset": 0, "limit": 1000000},
    "DifferentialExpression": {"experimentId": "7b1c", "cellSet": "louvain-0", "compareWith": "rest", "basis": "all",
                               "comparisonType": "within"},
    "BatchDifferentialExpression": {"experimentId": "7b1c", "cellSet": ["a", "b"], "compareWith": "background",
                                    "basis": ["all"], "comparisonType": "within"},
    "GeneExpression": {"genes": ["MS4A1", "CD79B"]},
    "GetBackgroundExpressedGenes": {"experimentId": "7b1c", "cellSet": "a", "compareWith": "rest", "basis": "all",
                                    "comparisonType": "within"},
    "ClusterCells": {"cellSetName": "Louvain clusters", "type": "louvain", "cellSetKey": "louvain",
                     "config": {"resolution": 0.6}},
    "DotPlot": {"useMarkerGenes": False, "numberOfMarkers": 3, "customGenesList": ["MS4A1"], "groupBy": "louvain",
                "filterBy": {"group": "All", "key": "All"}, "clusterNames": ["Cluster 0"]},
    "GetDoubletScore": {},
    "GetMitochondrialContent": {},
    "GetNGenes": {},
    "GetNUmis": {},
    "MarkerHeatmap": {"nGenes": 5, "selectedCellSet": "louvain"},
    "GetTrajectoryAnalysisStartingNodes": {
        "embedding": {"method": "umap", "methodSettings": {"minimumDistance": 0.3}, "ETag": "89a5"},
        "clustering": {"method": "louvain", "resolution": 0.8}, "cellSets": ["louvain"]},
    "GetTrajectoryAnalysisPseudoTime": {
        "embedding": {"method": "umap", "methodSettings": {}, "ETag": "89a5"},
        "clustering": {"method": "louvain", "resolution": 0.8}, "cellSets": ["louvain"], "rootNodes": [0, 3, 17]},
    "GetExpressionCellSets": {"genesConfig": [
        {"geneName": "CD3D", "comparisonType": "greaterThan", "thresholdValue": 0.5},
        {"geneName": "MS4A1", "comparisonType": "lessThan", "thresholdValue": 1}]},
    "GetNormalizedExpression": {"subsetBy": {"sample": ["c3f4"], "louvain": ["louvain-0"], "metadata": []}},
    "ScTypeAnnotate": {"species": "human", "tissue": "Immune system"},
    "CASSIAAnnotate": {"species": "Human", "tissue": "Blood", "additionalInfo": "PBMCs"},
    "CellCycleScoring": {},
    "DownloadAnnotSeuratObject": {"embeddingMethod": "umap", "isObj2s": False, "embeddingETag": "89a5"},
}  # fmt: skip


def message(name, body):
    with pytest.raises(WorkerError) as caught:
        find(name).read_body(body)
    assert caught.value.code is ErrorCode.INVALID_INPUT
    return caught.value.message


def test_there_are_21_tasks_and_an_example_of_each():
    platform = {name for name, task in TASKS.items() if not task.ours}
    assert len(platform) == 21
    assert set(EXAMPLES) == platform


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_the_browser_sends_is_understood_as_text_and_as_objects(name):
    body = {"name": name, "anythingElse": {"a": [1]}, **EXAMPLES[name]}
    assert find(name).read_body(json.dumps(body).encode()) == find(name).read_body(body)


@pytest.mark.parametrize(
    ("name", "body", "sentence"),
    [
        ("GeneExpression", {}, "body.genes: is required and was not given."),
        ("GeneExpression", {"genes": "LYZ"}, "body.genes: expected an array, found text."),
        ("GeneExpression", {"genes": ["LYZ", 3]}, "body.genes[1]: expected text, found a whole number."),
        ("GeneExpression", {"genes": [], "downsampleSettings": {"cellIds": [1, -2]}},
         "body.downsampleSettings.cellIds[1]: expected a whole number >= 0."),
        ("ListGenes", {"offset": -1}, "body.offset: expected a whole number >= 0."),
        ("ListGenes", {"limit": 1.5}, "body.limit: expected a whole number, found a number."),
        ("ListGenes", {"limit": True}, "body.limit: expected a whole number, found true or false."),
        ("ListGenes", {"orderDirection": "up"},
         "body.orderDirection: found 'up', expected 'ASC' or 'DESC' or 'asc' or 'desc'."),
        ("GetExpressionCellSets", {"genesConfig": []}, "body.genesConfig: expected an array of length >= 1."),
        ("GetExpressionCellSets", {"genesConfig": [{"geneName": "A", "comparisonType": "=", "thresholdValue": 1}]},
         "body.genesConfig[0].comparisonType: found '=', expected 'greaterThan' or 'lessThan'."),
        ("GetExpressionCellSets", {"genesConfig": [{"geneName": "A", "comparisonType": "lessThan"}]},
         "body.genesConfig[0].thresholdValue: is required and was not given."),
        ("GetNormalizedExpression", {"subsetBy": {"sample": "s1"}},
         "body.subsetBy[...]: expected an array, found text."),
        ("ClusterCells", {"type": "kmeans"}, "body.type: found 'kmeans', expected 'leiden' or 'louvain'."),
        ("ClusterCells", {"type": "louvain", "config": {"resolution": "1"}},
         "body.config.resolution: expected a number, found text."),
        ("GetNGenes", [], "body: expected an object, found an array."),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_what_was_expected(name, body, sentence):
    assert message(name, body) == sentence
    assert message(name, json.dumps(body).encode()) == sentence


@pytest.mark.parametrize("text", [b"", b"{", b'{"genes":["\xff"]}', b"{'genes': []}"])
def test_what_is_not_json_is_reported_to_be_so(text):
    assert message("GeneExpression", text).startswith("body: not JSON (")


@pytest.mark.parametrize("name", ["Nope", "", None, 3, ["ListGenes"], "listGenes"])
def test_an_unknown_task_is_refused_with_the_list_of_tasks(name):
    sentence = message(name, {})
    assert all(task in sentence for task in TASKS)
    assert repr(name) in sentence


def test_pagination_names_its_fields():
    with pytest.raises(WorkerError, match=r"requestProps\.pagination\.filters\[0\]\.columnName: is required"):
        convert({"filters": [{}]}, Pagination, "requestProps.pagination")


def test_the_engine_takes_a_bare_value_for_a_list_of_one_as_r_writes_it():
    assert find("GeneExpression").read_request(b'{"genes":"LYZ","cellIds":3}').cell_ids == 3
    assert find("GetNormalizedExpression").read_request(b'{"subsetBy":7,"applySubset":true}').subset_by == 7
