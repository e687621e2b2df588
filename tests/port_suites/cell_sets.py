"""What every adapter of the port `CellSetsSource` promises."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.core.ports import CellSetsSource, Claim, NotHeldError
from cellworker.identifiers import ExperimentId

EXPERIMENT = ExperimentId("x1")
TOKEN = "Bearer eyJhbGciOi.hidden-token-of-a-user.sig"
SCRATCHPAD = {"key": "scratchpad", "name": "Custom", "rootNode": True, "children": []}
DOCUMENT: dict[str, Any] = {"cellSets": [SCRATCHPAD]}
LOUVAIN = {"key": "louvain", "name": "louvain clusters", "rootNode": True, "type": "cellSets", "children": []}
REPLACE: list[dict[str, Any]] = [
    {"$match": {"query": '$[?(@.key == "louvain")]', "value": {"$remove": True}}},
    {"$prepend": LOUVAIN},
]
SET = {"key": "5f0c", "name": "CD79B>0", "rootNode": False, "color": "#77aadd", "cellIds": [5]}
INSERT: list[dict[str, Any]] = [
    {
        "$match": {
            "query": '$[?(@.key == "scratchpad")]',
            "value": {"children": [{"$insert": {"index": "-", "value": SET}}]},
        }
    }
]


class Request:
    """The journal's side of a claim: what it knows, and how often a change was announced to it."""

    def __init__(self, *, sent: bool = False, held: bool = True) -> None:
        self.announced = 0
        self._sent_at = datetime.now(UTC) if sent else None
        self._held = held

    @property
    def claim(self) -> Claim:
        return Claim(self._earlier, self._take)

    async def _earlier(self) -> datetime | None:
        return self._sent_at

    async def _take(self) -> bool:
        self.announced += 1
        return self._held


async def classes_of(cell_sets: CellSetsSource) -> list[dict[str, Any]]:
    content = await cell_sets.read(EXPERIMENT)
    assert isinstance(content, bytes), "small cell sets are no file"
    found: list[dict[str, Any]] = json.loads(content)["cellSets"]
    return found


async def keys_of(cell_sets: CellSetsSource) -> tuple[list[str], list[str]]:
    """Return the keys of the classes, and those of the sets in them."""
    classes = await classes_of(cell_sets)
    return [item["key"] for item in classes], [child["key"] for item in classes for child in item["children"]]


class CellSetsTests:
    """A subclass gives the fixture `cell_sets`, an adapter over `DOCUMENT`."""

    async def test_cell_sets_are_read_as_they_are(self, cell_sets: CellSetsSource) -> None:
        assert await classes_of(cell_sets) == [SCRATCHPAD]

    async def test_a_set_that_is_inserted_is_read_back(self, cell_sets: CellSetsSource) -> None:
        await cell_sets.patch(EXPERIMENT, INSERT, TOKEN)
        assert await classes_of(cell_sets) == [{**SCRATCHPAD, "children": [SET]}]

    async def test_a_class_that_is_replaced_again_is_there_once(self, cell_sets: CellSetsSource) -> None:
        for _ in range(2):
            await cell_sets.patch(EXPERIMENT, REPLACE, TOKEN, claim=Request(sent=True).claim)
        assert await classes_of(cell_sets) == [LOUVAIN, SCRATCHPAD]

    async def test_changes_of_one_moment_are_all_kept(self, cell_sets: CellSetsSource) -> None:
        patches = [[{"$append": {**LOUVAIN, "key": f"c{number}"}}] for number in range(6)]
        await asyncio.gather(*(cell_sets.patch(EXPERIMENT, operations, TOKEN) for operations in patches))
        classes, _ = await keys_of(cell_sets)
        assert sorted(classes) == sorted(["scratchpad", *(f"c{number}" for number in range(6))])

    @pytest.mark.parametrize("sent", [True, False])
    async def test_what_is_there_is_not_inserted_again_whoever_did_it(
        self, cell_sets: CellSetsSource, sent: bool
    ) -> None:
        await cell_sets.patch(EXPERIMENT, INSERT, TOKEN, claim=Request().claim)
        await cell_sets.patch(EXPERIMENT, INSERT, TOKEN, claim=Request(sent=sent).claim)
        assert await keys_of(cell_sets) == (["scratchpad"], ["5f0c"])

    @pytest.mark.parametrize("sent", [True, False])
    async def test_what_an_earlier_attempt_did_not_insert_is_inserted(
        self, cell_sets: CellSetsSource, sent: bool
    ) -> None:
        await cell_sets.patch(EXPERIMENT, INSERT, TOKEN, claim=Request(sent=sent).claim)
        assert await keys_of(cell_sets) == (["scratchpad"], ["5f0c"])

    @pytest.mark.parametrize("operations", [INSERT, REPLACE], ids=["insert", "replace"])
    async def test_a_change_is_announced_before_it_is_made(
        self, cell_sets: CellSetsSource, operations: list[dict[str, Any]]
    ) -> None:
        request = Request()
        await cell_sets.patch(EXPERIMENT, operations, TOKEN, claim=request.claim)
        assert request.announced == 1

    @pytest.mark.parametrize("operations", [INSERT, REPLACE], ids=["insert", "replace"])
    async def test_whoever_has_lost_the_request_changes_nothing(
        self, cell_sets: CellSetsSource, operations: list[dict[str, Any]]
    ) -> None:
        with pytest.raises(NotHeldError):
            await cell_sets.patch(EXPERIMENT, operations, TOKEN, claim=Request(held=False).claim)
        assert await classes_of(cell_sets) == [SCRATCHPAD]

    async def test_what_is_refused_is_reported_and_changes_nothing(self, cell_sets: CellSetsSource) -> None:
        with pytest.raises(WorkerError, match="The cell sets were not changed") as told:
            await cell_sets.patch(EXPERIMENT, [{"$append": LOUVAIN}, {"$explode": 1}], TOKEN)
        assert told.value.code is ErrorCode.CELL_SETS_UPDATE_FAILED
        assert "hidden-token" not in repr(told.value)
        assert await classes_of(cell_sets) == [SCRATCHPAD]
