"""cell_sets.json: read, checked, looked up, written back."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets

FILE = {
    "cellSets": [
        {
            "key": "louvain",
            "name": "louvain clusters",
            "rootNode": True,
            "type": "cellSets",
            "children": [
                {"key": "louvain-0", "name": "Cluster 0", "rootNode": False, "type": "cellSets", "color": "#77aadd",
                 "cellIds": [7, 0, 4]},
                {"key": "louvain-1", "name": "Cluster 1", "type": "cellSets", "color": None, "cellIds": []},
            ],
        },
        {"key": "scratchpad", "name": "Custom cell sets", "rootNode": True, "type": "cellSets", "children": []},
        {
            "key": "sample",
            "name": "Samples",
            "rootNode": True,
            "type": "metadataCategorical",
            "note": {"from": "the pipeline"},
            "children": [
                {"key": "s1", "name": "WT", "color": "#8c564b", "cellIds": [0, 1, 4]},
                {"key": "s2", "name": "WT", "color": "#e377c2", "cellIds": [7, 9], "note": [1, 2]},
            ],
        },
    ]
}  # fmt: skip


def parse(value):
    return CellSets.parse(json.dumps(value).encode())


def refused(value):
    with pytest.raises(WorkerError) as caught:
        CellSets.parse(value if isinstance(value, bytes) else json.dumps(value).encode())
    assert caught.value.code is ErrorCode.CELL_SETS_INVALID
    return caught.value.message


def test_what_is_read_is_written_back_with_order_and_unknown_fields():
    written = json.loads(parse({**FILE, "version": 3}).encode())
    assert written == {**FILE, "version": 3}
    assert [c["key"] for c in written["cellSets"]] == ["louvain", "scratchpad", "sample"]


@pytest.mark.shared
def test_real_files_come_through_unchanged(shared):
    files = sorted((shared / "data" / "experiments").glob("*/*/cell_sets.json"))
    assert files
    for file in files:
        assert json.loads(CellSets.parse(file.read_bytes()).encode()) == json.loads(file.read_bytes())


def test_one_cell_may_come_as_a_bare_number_and_leaves_as_a_list():
    one = {"key": "a", "name": "A", "children": [{"key": "a-1", "name": "1", "cellIds": 3}]}
    cell_sets = parse({"cellSets": [one]})
    assert cell_sets.find_set("a-1").cell_ids.tolist() == [3]
    assert json.loads(cell_sets.encode())["cellSets"][0]["children"][0]["cellIds"] == [3]


def test_sets_and_classes_are_found_by_key():
    cell_sets = parse(FILE)
    assert cell_sets.find_class("sample").name == "Samples"
    assert cell_sets.find_set("louvain-0").color == "#77aadd"
    assert cell_sets.find_class("louvain-0") is None
    assert cell_sets.find_set("louvain") is None
    assert cell_sets.class_of("s2").key == "sample"
    assert cell_sets.class_of("sample") is None
    assert cell_sets.keys == ["louvain", "louvain-0", "louvain-1", "scratchpad", "sample", "s1", "s2"]


def test_cells_are_those_of_a_set_or_the_union_of_a_class():
    cell_sets = parse(FILE)
    assert cell_sets.cells_of("louvain-0").tolist() == [0, 4, 7]
    assert cell_sets.cells_of("sample").tolist() == [0, 1, 4, 7, 9]
    assert cell_sets.cells_of("scratchpad").tolist() == []
    assert cell_sets.all_cell_ids().tolist() == [0, 1, 4, 7, 9]
    assert CellSets.empty().all_cell_ids().tolist() == []


def test_an_unknown_key_is_named():
    with pytest.raises(WorkerError, match=r"basis: .*'nope'") as caught:
        parse(FILE).cells_of("nope", "basis")
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_no_look_up_changes_anything():
    cell_sets = parse(FILE)
    before = cell_sets.encode()
    cell_sets.cells_of("sample")
    cell_sets.all_cell_ids()
    with pytest.raises(ValueError, match="read-only"):
        cell_sets.find_set("s1").cell_ids[0] = 5
    assert cell_sets.encode() == before


def test_every_problem_is_named_with_its_place():
    message = refused(
        {
            "cellSets": [
                {"key": 3, "name": "A", "children": [{"key": "x", "name": "X", "cellIds": [1, 2.5]}]},
                {"key": "b", "name": "B"},
                {"key": "c", "name": "C", "children": [{"key": "y", "cellIds": [-1]}, {"key": "z", "name": "Z"}, 7]},
                "d",
            ]
        }
    )
    for place in (
        "$.cellSets[0].key: expected text, found a number",
        "$.cellSets[0].children[0].cellIds[1]: expected an integer, found a fraction",
        "$.cellSets[1].children: expected an array, found nothing",
        "$.cellSets[2].children[0].name: expected text, found nothing",
        "$.cellSets[2].children[0].cellIds[0]: -1 is not a cell id",
        "$.cellSets[2].children[1].cellIds: expected an array of integers, found nothing",
        "$.cellSets[2].children[2]: expected an object, found a number",
        "$.cellSets[3]: expected an object, found text",
    ):
        assert place in message
    assert message.count("; ") == 7


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"cellSets":{}}', b"\xff", b"null"])
def test_what_is_no_cell_sets_file_is_refused(value):
    assert refused(value).startswith("The cell sets ")


@pytest.mark.parametrize("ids", [[True], ["1"], [None], [2**31], [[1]], "1", {"a": 1}, 1.0, True])
def test_ids_are_whole_numbers_in_range(ids):
    one = {"key": "a", "name": "A", "children": [{"key": "a-1", "name": "1", "cellIds": ids}]}
    assert "$.cellSets[0].children[0].cellIds" in refused({"cellSets": [one]})


def test_a_long_list_of_problems_is_cut_and_counted():
    assert "; and 80 more" in refused({"cellSets": [7] * 100})


def test_a_third_level_is_refused():
    deep = {"key": "x", "name": "X", "cellIds": [], "children": [{"key": "y", "name": "Y", "cellIds": []}]}
    assert "only two levels" in refused({"cellSets": [{"key": "a", "name": "A", "children": [deep]}]})


def test_repeated_keys_are_served_and_reported():
    twice = parse({"cellSets": [FILE["cellSets"][2], FILE["cellSets"][2]]})
    assert twice.repeated_keys == ["sample", "s1", "s2"]
    assert twice.find_set("s1").cell_ids.tolist() == [0, 1, 4]
    assert parse(FILE).repeated_keys == []


FIELDS = st.sampled_from(["cellSets", "key", "name", "children", "cellIds", "type", "color"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(FIELDS, inner),
    max_leaves=15,
)


@given(JSON)
def test_anything_that_is_json_is_read_or_refused(value):
    try:
        cell_sets = CellSets.parse(json.dumps({"cellSets": value}).encode())
    except WorkerError:
        return
    assert all(child.cell_ids.dtype == np.int32 for _, child in cell_sets.sets())
    assert [c.key for c in CellSets.parse(cell_sets.encode()).classes] == [c.key for c in cell_sets.classes]


def test_ids_that_are_written_as_decimals_are_whole_numbers():
    one = {"key": "a", "name": "A", "children": [{"key": "a-1", "name": "1", "cellIds": [1.0, 2, 30.0]}]}
    assert parse({"cellSets": [one]}).find_set("a-1").cell_ids.tolist() == [1, 2, 30]
    one["children"][0]["cellIds"] = [1.0, 2.5]
    assert "cellIds[1]: expected an integer" in refused({"cellSets": [one]})


NAMES = st.sampled_from(["", "louvain", "leiden", "sample", "donor"])


@given(
    st.lists(st.tuples(NAMES, st.sampled_from([None, "", "louvain", "donor", "leiden"])), max_size=5),
    st.sampled_from([None, "louvain", "leiden", "gone"]),
    st.booleans(),
)
def test_a_class_is_found_by_its_key_then_its_column_then_as_the_platform_calls_it(named, clusters, on_wire):
    classes = [
        {"key": key, "name": "", "children": [], **({} if column is None else {"column": column})}
        for key, column in named
    ]
    sets = parse({"cellSets": classes, **({} if clusters is None else {"clusters": clusters})})
    sets = sets.for_wire() if on_wire else sets

    for wanted in ("", "louvain", "leiden", "sample", "donor"):
        by_key = [item for item in sets.classes if item.key == wanted]
        by_column = [item for item in sets.classes if wanted and item.column == wanted]
        by_platform = [sets.clusters] if on_wire and wanted == "louvain" else []
        first = next(iter(by_key + by_column + by_platform), None)
        assert sets.find_class(wanted) is first
        assert sets.classes_by_key().get(wanted) is first
