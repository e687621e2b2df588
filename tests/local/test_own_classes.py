"""New clusters beside a file's own columns of the same names."""

import numpy as np
import orjson

from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Categorical
from cellworker.formats.common.cells.derive import derive_cell_sets
from cellworker.local.own_classes import patched
from cellworker.tasks.common.annotated_class import replace_class

IDS = np.arange(6, dtype=np.int32)


def derived(*names: str) -> dict:
    column = Categorical(np.array([0, 1, 0, 1, 0, 1], np.int32), ["0", "1"])
    return orjson.loads(derive_cell_sets(IDS, dict.fromkeys(names, column), None).encode())


def clustering(method: str, n: int) -> list:
    sets = [{"key": f"{method}-{i}", "name": f"Cluster {i}", "rootNode": False, "type": "cellSets", "color": "#000000",
             "cellIds": [i]} for i in range(n)]  # fmt: skip
    new = {"key": "louvain", "name": f"{method} clusters", "rootNode": True, "type": "cellSets", "children": sets}
    return replace_class(new, "$prepend")


def read(document: dict) -> CellSets:
    return CellSets.parse(orjson.dumps(document))


def test_the_files_own_classes_stay_and_new_clusters_are_in_use():
    before = derived("leiden", "louvain")
    once = read(patched(before, clustering("leiden", 3)))
    assert [item.key for item in once.classes] == ["louvain (new)", "leiden", "scratchpad", "louvain"]
    assert once.clusters.name == "leiden clusters"
    assert once.repeated_keys == []
    assert once.cells_of("leiden-0").tolist() == [0, 2, 4]
    assert once.cells_of("leiden-0 (new)").tolist() == [0]


def test_clusters_that_are_made_again_replace_those_that_were_made_before():
    once = patched(derived("leiden", "louvain"), clustering("leiden", 3))
    twice = read(patched(once, clustering("louvain", 2)))
    assert [item.key for item in twice.classes] == ["louvain (new)", "leiden", "scratchpad", "louvain"]
    assert [child.key for child in twice.clusters.children] == ["louvain-0 (new)", "louvain-1 (new)"]
    assert patched(orjson.loads(twice.encode()), clustering("louvain", 2)) == orjson.loads(twice.encode())


def test_without_a_column_of_that_name_the_key_is_the_platforms():
    found = read(patched(derived("cell_type"), clustering("louvain", 2)))
    assert [item.key for item in found.classes] == ["louvain", "cell_type", "scratchpad"]
    assert found.clusters.key == "louvain"
    assert [child.key for child in found.clusters.children] == ["louvain-0", "louvain-1"]


def test_the_next_clustering_is_in_use_when_one_is_removed():
    document = patched(derived("leiden"), clustering("leiden", 2))
    remove = [{"$match": {"query": '$[?(@.key == "louvain")]', "value": {"$remove": True}}}]
    assert read(patched(document, remove)).clusters.key == "leiden"


def test_the_platforms_own_file_is_patched_as_its_api_does_it():
    document = {"cellSets": [{"key": "louvain", "name": "old", "children": []}]}
    assert patched(document, clustering("louvain", 2))["cellSets"][0]["name"] == "louvain clusters"
    assert "clusters" not in patched(document, clustering("louvain", 2))


def test_clusters_that_were_made_when_the_file_was_opened_give_way_to_new_ones():
    column = Categorical(np.array([0, 1, 0, 1, 0, 1], np.int32), ["0", "1"])
    before = orjson.loads(derive_cell_sets(IDS, {"louvain": column}, None, made=["louvain"]).encode())
    found = read(patched(before, clustering("louvain", 3)))
    assert [item.key for item in found.classes] == ["louvain", "scratchpad"]
    assert [child.key for child in found.clusters.children] == ["louvain-0", "louvain-1", "louvain-2"]
    again = read(patched(orjson.loads(found.encode()), clustering("leiden", 2)))
    assert [item.key for item in again.classes] == ["louvain", "scratchpad"]
    assert again.clusters.name == "leiden clusters"
