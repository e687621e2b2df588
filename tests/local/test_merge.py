"""Patches of cell sets, as the platform's API takes them."""

import copy
import json
from typing import Any

import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.local.merge import merge_cell_sets


def a_set(key: str, ids: Any = (1, 2), **more: Any) -> dict[str, Any]:
    return {"key": key, "name": key.title(), "color": "#77aadd", "cellIds": list(ids), **more}


def a_class(key: str, *children: dict[str, Any]) -> dict[str, Any]:
    return {"key": key, "name": key.title(), "rootNode": True, "type": "cellSets", "children": list(children)}


DOCUMENT = {"cellSets": [a_class("louvain", a_set("louvain-0")), a_class("scratchpad", a_set("mine"))], "other": 1}


def match(key: str, value: Any) -> dict[str, Any]:
    return {"$match": {"query": f'$[?(@.key == "{key}")]', "value": value}}


def patched(*operations: Any) -> list[dict[str, Any]]:
    before = copy.deepcopy(DOCUMENT)
    after = merge_cell_sets(DOCUMENT, list(operations))
    assert before == DOCUMENT
    assert after["other"] == 1
    return after["cellSets"]


def keys(classes: list[dict[str, Any]]) -> list[str]:
    return [item["key"] for item in classes]


def test_a_clustering_is_replaced_and_becomes_the_first() -> None:
    new = a_class("louvain", a_set("louvain-0", [7]), a_set("louvain-1", []))
    classes = patched(match("scratchpad", {"$remove": True}), match("louvain", {"$remove": True}), {"$prepend": new})
    assert classes == [new]


def test_an_annotation_is_appended() -> None:
    assert keys(patched({"$append": a_class("ScType")})) == ["louvain", "scratchpad", "ScType"]


@pytest.mark.parametrize(("index", "place"), [("-", 1), (0, 0), (99, 1)])
def test_a_set_is_inserted_where_it_is_wanted(index: Any, place: int) -> None:
    insert = {"$insert": {"index": index, "value": a_set("new", [5])}}
    children = patched(match("scratchpad", {"children": [insert]}))[1]["children"]
    assert keys(children)[place] == "new"
    assert len(children) == 2


def test_a_set_can_be_renamed_and_removed_as_the_ui_does() -> None:
    renamed = patched(match("scratchpad", {"children": [match("mine", {"name": "Ours", "color": "#000000"})]}))
    assert renamed[1]["children"] == [{**a_set("mine"), "name": "Ours", "color": "#000000"}]
    removed = patched(match("scratchpad", {"children": [match("mine", {"$remove": True})]}))
    assert removed[1]["children"] == []


def test_a_match_that_finds_nothing_changes_nothing() -> None:
    insert = {"$insert": {"index": "-", "value": a_set("new")}}
    assert patched(match("nowhere", {"children": [insert]}), match("nobody", {"$remove": True})) == DOCUMENT["cellSets"]


def test_keys_with_quotes_are_found() -> None:
    document = {"cellSets": [a_class('a"b')]}
    operation = {"$match": {"query": "$[?(@.key == " + json.dumps('a"b') + ")]", "value": {"$remove": True}}}
    assert merge_cell_sets(document, [operation])["cellSets"] == []
    single = {"$match": {"query": "$[?(@.key=='louvain')]", "value": {"$remove": True}}}
    assert keys(patched(single)) == ["scratchpad"]


@pytest.mark.parametrize(
    ("operations", "complaint"),
    [
        ([{"$append": {"key": "a", "name": "A"}}], "cellSets[2].children: expected an array"),
        ([{"$append": {"key": "a", "children": []}}], "cellSets[2].name: expected text"),
        ([{"$append": {"key": 1, "name": "A", "children": []}}], "cellSets[2].key: expected text"),
        ([{"$append": a_class("a", a_set("b", [1.5]))}], "cellIds: expected an array of integers"),
        ([{"$append": a_class("a", a_set("b", [True]))}], "cellIds: expected an array of integers"),
        ([{"$append": a_class("a", {**a_set("b"), "cellIds": 3})}], "cellIds: expected an array of integers"),
        ([{"$append": 3}], "expected an object"),
        ([{"$explode": {}}], "unknown operation '$explode'"),
        ([match("louvain", {"$explode": 1})], "unknown operation '$explode'"),
        ([{"$append": a_class("a"), "$prepend": a_class("b")}], "one operation"),
        ([3], "one operation"),
        ({}, "list of operations"),
        ("x", "list of operations"),
        ([{"$match": {"query": "$..[?(evil())]", "value": {}}}], "expected a query"),
        ([{"$match": {"query": 3, "value": {}}}], "expected a query"),
        ([{"$match": {"query": '$[?(@.key == "louvain")]'}}], "and a value"),
        ([{"$match": None}], "expected a query"),
        ([{"$insert": {"index": -1, "value": {}}}], "$insert: expected an index"),
        ([{"$insert": {"index": "-"}}], "$insert: expected an index"),
        ([match("louvain", {"children": None})], "children: expected an array"),
    ],
)
def test_a_patch_that_breaks_the_rules_is_refused_with_its_place(operations: Any, complaint: str) -> None:
    with pytest.raises(WorkerError) as refusal:
        merge_cell_sets(DOCUMENT, operations)
    assert refusal.value.code is ErrorCode.CELL_SETS_UPDATE_FAILED
    assert complaint in refusal.value.message


def test_a_bottomless_patch_is_refused() -> None:
    value: Any = {"name": "x"}
    item = a_class("louvain")
    for _ in range(100):
        value = {"children": [match("louvain", value)]}
        item = a_class("louvain", item)
    with pytest.raises(WorkerError, match="nested too deep"):
        merge_cell_sets({"cellSets": [item]}, [match("louvain", value)])
