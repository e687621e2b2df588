"""Patches of cell sets, as the platform's API takes them."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_a_set_is_dragged_to_another_place() -> None:
    scratchpad = a_class("scratchpad", *(a_set(f"k{i}") for i in range(4)))
    document = {"cellSets": [a_class("louvain"), scratchpad]}

    def dragged(to: Any) -> list[str]:
        moved = merge_cell_sets(document, [match("scratchpad", {"children": [match("k1", {"$move": to})]})])
        return keys(moved["cellSets"][1]["children"])

    assert dragged(3) == ["k0", "k2", "k3", "k1"]
    assert dragged(0.0) == ["k1", "k0", "k2", "k3"]
    assert dragged("-") == ["k0", "k2", "k3", "k1"]
    assert dragged(-1) == ["k0", "k2", "k1", "k3"]
    assert dragged({"index": 2, "value": {"name": "x"}}) == ["k0", "k2", "k1", "k3"]


@pytest.mark.parametrize("index", [None, True, "2", 1.5, [], {}, {"value": {}}, float("inf")])
def test_a_place_that_is_no_number_is_refused(index: Any) -> None:
    with pytest.raises(WorkerError, match="expected an index"):
        patched(match("louvain", {"$move": index}))


def test_a_match_changes_the_first_of_two_with_the_same_key() -> None:
    twins = {"cellSets": [a_class("a"), a_class("twin", a_set("x")), a_class("twin")]}
    assert keys(merge_cell_sets(twins, [match("twin", {"$remove": True})])["cellSets"]) == ["a", "twin"]
    renamed = merge_cell_sets(twins, [match("twin", {"name": "new"})])["cellSets"]
    assert [item["name"] for item in renamed] == ["A", "new", "Twin"]


@pytest.mark.parametrize("kind", ["CLM", "CLMPerSample"])
def test_cell_level_metadata_that_is_appended_takes_the_place_of_the_old(kind: str) -> None:
    old = [{**a_class(name), "type": name} for name in ("CLM", "CLMPerSample", "metadataCategorical")]
    new = {**a_class("new"), "type": kind}
    both = [{"$append": new}, {"$append": {**new, "key": "second"}}]
    assert keys(merge_cell_sets({"cellSets": old}, both)["cellSets"]) == ["metadataCategorical", "new", "second"]
    first = [{"$prepend": new}]
    assert keys(merge_cell_sets({"cellSets": old}, first)["cellSets"])[0] == "new"
    assert len(merge_cell_sets({"cellSets": old}, first)["cellSets"]) == 4


def test_ids_that_are_written_as_decimals_are_whole() -> None:
    classes = patched({"$append": a_class("new", a_set("x", [1.0, 2, 30000.0]))})
    assert json.dumps(classes[-1]["children"][0]["cellIds"]) == "[1, 2, 30000]"


def test_a_field_is_removed_and_one_is_replaced() -> None:
    change = {"color": {"$remove": True}, "cellIds": {"$replace": [9]}, "name": {"$remove": False}}
    (child,) = patched(match("scratchpad", {"children": [match("mine", change)]}))[1]["children"]
    assert child == {"key": "mine", "name": "Mine", "cellIds": [9]}


def test_lists_are_merged_by_position() -> None:
    (child,) = patched(match("scratchpad", {"children": [{"cellIds": [7]}]}))[1]["children"]
    assert child["cellIds"] == [7, 2]


@pytest.mark.parametrize("name", ["$import", "$expression", "$process", "$merge", "$select", "$include", "$repeat"])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_what_the_platforms_library_would_run_or_fetch_is_refused(name: str, where: int) -> None:
    evil = {name: "process.exit()"}
    patch = [evil, match("louvain", {"name": evil}), {"$append": {**a_class("x"), "name": evil}}][where]
    with pytest.raises(WorkerError, match=re.escape(f"unknown operation '{name}'")):
        patched(patch)


@pytest.mark.shared
def test_the_uis_patch_for_dragging_is_applied(shared: Path) -> None:
    patch = json.loads((shared / "cases" / "reorder_move.json").read_text())
    document = {"cellSets": [a_class("louvain"), a_class("scratchpad", *(a_set(f"k{i}") for i in range(3)))]}
    scratchpad = merge_cell_sets(document, patch)["cellSets"][1]
    assert keys(scratchpad["children"]) == ["k0", "k1", "k2"]
    document["cellSets"][1]["children"].reverse()
    document["cellSets"][1]["children"].insert(0, a_set("k9"))
    assert keys(merge_cell_sets(document, patch)["cellSets"][1]["children"]) == ["k9", "k1", "k2", "k0"]


# The rules, written as what each step does to a Python list. A step is a patch's item, and the same as a function.
Classes = list[dict[str, Any]]
Step = tuple[dict[str, Any], Callable[[Classes], Classes]]

KEYS = st.sampled_from("abcd")
NEW = st.builds(
    lambda key, kind, ids: {"key": key, "name": "new", "type": kind, "children": [a_set("x", ids)]},
    KEYS,
    st.sampled_from(["cellSets", "CLM", "CLMPerSample"]),
    st.lists(st.integers(0, 9), max_size=3),
)


def to_the_first(key: str, change: Callable[[Classes, int], Classes]) -> Callable[[Classes], Classes]:
    def act(items: Classes) -> Classes:
        found = [i for i, item in enumerate(items) if item["key"] == key]
        return change(items, found[0]) if found else items

    return act


def without(items: Classes, i: int) -> Classes:
    return items[:i] + items[i + 1 :]


def inserted(items: Classes, i: int, new: dict[str, Any]) -> Classes:
    return [*items[:i], new, *items[i:]]


@st.composite
def steps(draw: st.DrawFn) -> Step:
    key, new, i = draw(KEYS), draw(NEW), draw(st.integers(0, 6))
    end = draw(st.booleans())
    return draw(
        st.sampled_from(
            [
                ({"$append": new}, lambda items: [*items, new]),
                ({"$prepend": new}, lambda items: [new, *items]),
                ({"$insert": {"index": i, "value": new}}, lambda items: inserted(items, i, new)),
                ({"$insert": {"index": "-", "value": new}}, lambda items: [*items, new]),
                (match(key, {"$remove": True}), to_the_first(key, without)),
                (
                    match(key, {"$move": "-" if end else i}),
                    to_the_first(
                        key,
                        lambda items, at: inserted(without(items, at), len(items) if end else i, items[at]),
                    ),
                ),
                (
                    match(key, {"name": f"name {i}"}),
                    to_the_first(
                        key, lambda items, at: inserted(without(items, at), at, {**items[at], "name": f"name {i}"})
                    ),
                ),
            ]
        )
    )


@given(before=st.lists(NEW, max_size=6), patch=st.lists(steps(), max_size=5))
def test_the_outcome_is_that_of_the_written_rules(before: Classes, patch: list[Step]) -> None:
    expected = before
    if any(step.get("$append", {}).get("type", "cellSets") != "cellSets" for step, _ in patch):
        expected = [item for item in before if item["type"] == "cellSets"]
    for _, act in patch:
        expected = act(expected)
    assert merge_cell_sets({"cellSets": before}, [step for step, _ in patch])["cellSets"] == expected
