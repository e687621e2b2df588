"""Requests that build on an earlier result: it is read from the store, or asked for."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.local.results import DiskResults
from cellworker.protocol.encoding import compress
from cellworker.tasks.catalog import find

BODY: dict[str, Any] = {
    "name": "GetTrajectoryAnalysisStartingNodes",
    "embedding": {"method": "umap", "methodSettings": {}, "ETag": "e0"},
    "clustering": {"method": "louvain", "resolution": 0.8},
    "cellSets": ["served"],
}
PLACES = [[1.0, 2.0], None, [3.0, 4.0]]


@pytest.fixture(autouse=True)
def real_tasks(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks as they are join the few that the other tests of the loop make up."""
    known = sys.modules[type(world).__module__].TASKS
    for name in ("GetEmbedding", BODY["name"]):
        monkeypatch.setitem(known, name, find(name))

    async def read(experiment_id: str) -> bytes:
        child = {"key": "a", "name": "A", "cellIds": [0, 2]}
        return json.dumps({"cellSets": [{"key": experiment_id, "name": "n", "children": [child]}]}).encode()

    monkeypatch.setattr(world, "read", read)


def unnamed() -> dict[str, Any]:
    return {**BODY, "embedding": {"method": "umap"}}


def refusal(world: Any) -> tuple[str, str]:
    answer = world.answer()["response"]
    return answer["errorCode"], answer["userMessage"]


async def test_the_embedding_is_read_from_the_store_by_its_etag(world: Any) -> None:
    world.stored["e0"] = (compress(json.dumps(PLACES).encode()), {})
    world.send(body=BODY)
    await world.work()
    ((task, request),) = world.computed
    assert task == "GetTrajectoryAnalysisStartingNodes"
    assert request["embedding"] == [[1.0, 2.0], ["NA", "NA"], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (None, "body.embedding.ETag: there is no stored result 'e0'. Request it with GetEmbedding first."),
        (b"nonsense", "body.embedding.ETag: The stored result is neither zstd nor gzip."),
    ],
)
async def test_an_embedding_that_is_missing_or_damaged_is_reported(
    world: Any, stored: bytes | None, words: str
) -> None:
    if stored is not None:
        world.stored["e0"] = (stored, {})
    world.send(body=BODY)
    await world.work()
    assert refusal(world) == ("INVALID_INPUT", words)
    assert world.computed == []


async def test_an_embedding_without_a_name_is_asked_for(world: Any) -> None:
    world.value = PLACES
    world.send(body=unnamed())
    await world.work()
    assert [(task, request.get("use_saved")) for task, request in world.computed] == [
        ("GetEmbedding", True),
        ("GetTrajectoryAnalysisStartingNodes", None),
    ]
    assert world.computed[1][1]["embedding"] == [[1.0, 2.0], ["NA", "NA"], [3.0, 4.0]]


async def test_an_embedding_that_is_not_saved_is_computed_and_what_that_says_is_reported(world: Any) -> None:
    world.engine_error = WorkerError(ErrorCode.REDUCTION_NOT_FOUND, "no such thing")
    world.send(body=unnamed())
    await world.work()
    assert [request["use_saved"] for _, request in world.computed] == [True, False]
    assert refusal(world) == ("REDUCTION_NOT_FOUND", "no such thing")


async def test_results_in_a_folder_are_read_by_their_names_only(tmp_path: Path) -> None:
    results = DiskResults(tmp_path / "results")
    await results.put("abc", b"content", {})
    (tmp_path / "secret").write_bytes(b"secret")
    assert await results.get("abc") == b"content"
    assert await results.get("abd") is None
    assert await results.get("../secret") is None
    assert await results.get("abc.tags.json") is None
