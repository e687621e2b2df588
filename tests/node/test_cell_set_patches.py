"""Our merging of cell-set patches beside the library that the platform's API merges them with (contract 5.22, 10)."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellworker.errors import ErrorCode, WorkerError
from cellworker.local.merge import merge_cell_sets, validate_cell_sets

pytestmark = pytest.mark.node

HERE = Path(__file__).parent
Apply = Callable[[list[Any], list[Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def platform(node: list[str]) -> Iterator[Apply]:
    process = subprocess.Popen(
        [*node, str(HERE / "patches.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE
    )
    with process:
        assert process.stdin
        assert process.stdout

        def apply(classes: list[Any], patch: list[Any]) -> dict[str, Any]:
            process.stdin.write(json.dumps([classes, patch]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield apply


# Few keys, so that most matches find something and some keys are there twice.
KEYS = st.sampled_from(["a", "b", "c", 'd"e', "f\\g", "ä\n"])
TYPES = st.sampled_from(["cellSets", "CLM", "CLMPerSample", "metadataCategorical"])
IDS = st.lists(st.one_of(st.integers(0, 9), st.integers(0, 9).map(float)), max_size=3)
COLORS = st.sampled_from(["#77aadd", None])
INDEXES = st.one_of(st.just("-"), st.integers(0, 5), st.integers(0, 5).map(float))

SETS = st.fixed_dictionaries(
    {"key": KEYS, "name": KEYS, "cellIds": IDS}, optional={"color": COLORS, "rootNode": st.just(False)}
)
CLASSES = st.fixed_dictionaries(
    {"key": KEYS, "name": KEYS, "type": TYPES, "children": st.lists(SETS, max_size=4)},
    optional={"rootNode": st.just(True)},
)


def query(key: str) -> str:
    return f"$[?(@.key == {json.dumps(key)})]"


def lists_of_steps(new: st.SearchStrategy[Any], change: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """What a patch can say about a list, whose items are added as `new` and changed as `change`."""
    moves = st.one_of(
        INDEXES,
        st.integers(-4, -1),
        st.fixed_dictionaries({"index": INDEXES}, optional={"value": change}),
    )
    on_one = st.one_of(
        change,
        st.just({"$remove": True}),
        st.just({"$remove": False}),
        moves.map(lambda value: {"$move": value}),
        new.map(lambda value: {"$replace": value}),
    )
    matches = st.builds(lambda key, value: {"$match": {"query": query(key), "value": value}}, KEYS, on_one)
    steps = st.one_of(
        matches,
        matches,
        new.map(lambda value: {"$append": value}),
        new.map(lambda value: {"$prepend": value}),
        st.builds(lambda index, value: {"$insert": {"index": index, "value": value}}, INDEXES, new),
        change,
        moves.map(lambda value: {"$move": value}),
    )
    return st.lists(steps, min_size=1, max_size=4)


SET_CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "name": KEYS,
        "color": st.one_of(COLORS, st.just({"$remove": True})),
        "cellIds": st.one_of(IDS, IDS.map(lambda ids: {"$replace": ids})),
        "more": st.fixed_dictionaries({"x": st.integers()}),
    },
)
CLASS_CHANGES = st.fixed_dictionaries(
    {}, optional={"name": KEYS, "type": TYPES, "children": lists_of_steps(SETS, SET_CHANGES)}
)
PATCHES = lists_of_steps(CLASSES, CLASS_CHANGES)


def is_valid(classes: Any) -> bool:
    try:
        validate_cell_sets(classes)
    except WorkerError:
        return False
    return True


@given(classes=st.lists(CLASSES, max_size=5), patch=PATCHES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_patch_has_the_outcome_that_it_has_on_the_platform(
    platform: Apply, classes: list[Any], patch: list[Any]
) -> None:
    theirs = platform(classes, patch).get("classes")
    if is_valid(theirs):
        assert merge_cell_sets({"cellSets": classes}, patch)["cellSets"] == theirs
    else:
        with pytest.raises(WorkerError) as refusal:
            merge_cell_sets({"cellSets": classes}, patch)
        assert refusal.value.code is ErrorCode.CELL_SETS_UPDATE_FAILED


@given(key=st.text(st.characters(codec="utf-8", exclude_characters=")]"), max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_key_is_found_as_the_platform_finds_it(platform: Apply, key: str) -> None:
    classes = [{"key": f"{key}-", "name": "", "children": []}, {"key": key, "name": "", "children": []}]
    patch = [{"$match": {"query": query(key), "value": {"$remove": True}}}]
    assert merge_cell_sets({"cellSets": classes}, patch)["cellSets"] == platform(classes, patch)["classes"]
