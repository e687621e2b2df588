"""Versions of cell sets: who reads knows whether they changed, and who changes says which version was read."""

import asyncio
import json
from typing import Any

CELL_SETS = "/v2/experiments/x1/cellSets"


def appending(key: str) -> list[dict[str, Any]]:
    return [{"$append": {"key": key, "name": key, "children": []}}]


async def change(worker: Any, key: str, made_on: str | None = None) -> tuple[dict[str, Any], str | None]:
    headers = {} if made_on is None else {"X-Cell-Sets-Version": made_on}
    async with worker.session.patch(worker.url + CELL_SETS, json=appending(key), headers=headers) as response:
        assert response.status == 200
        return (await response.json())["data"], response.headers.get("ETag")


async def keys(worker: Any) -> list[str]:
    _, content, _ = await worker.get(CELL_SETS)
    return [item["key"] for item in json.loads(content)["cellSets"]]


async def test_what_did_not_change_is_not_sent_again(worker: Any) -> None:
    _, content, headers = await worker.get(CELL_SETS)
    status, nothing, again = await worker.get(CELL_SETS, headers={"If-None-Match": headers["ETag"]})
    assert (status, nothing, again["ETag"]) == (304, b"", headers["ETag"])
    _, tag = await change(worker, "new")
    status, now, again = await worker.get(CELL_SETS, headers={"If-None-Match": headers["ETag"]})
    assert (status, again["ETag"]) == (200, tag)
    assert now != content


async def test_a_change_of_an_older_version_is_refused_and_changes_nothing(worker: Any) -> None:
    _, _, headers = await worker.get(CELL_SETS)
    told, first = await change(worker, "first", headers["ETag"])
    assert told["code"] == 200
    told, tag = await change(worker, "second", headers["ETag"])
    assert (told["code"], tag) == (409, None)
    assert "Read them again" in told["message"]
    assert "second" not in await keys(worker)
    told, _ = await change(worker, "second", first)
    assert told["code"] == 200
    # who names no version changes them whatever they are, as on the platform
    await change(worker, "third")
    assert (await keys(worker))[-3:] == ["first", "second", "third"]


async def test_of_changes_on_one_version_at_once_one_is_done(worker: Any) -> None:
    _, _, headers = await worker.get(CELL_SETS)
    told = await asyncio.gather(*(change(worker, f"k{i}", headers["ETag"]) for i in range(8)))
    assert sorted(answer["code"] for answer, _ in told) == [200] + 7 * [409]
    assert len([key for key in await keys(worker) if key.startswith("k")]) == 1


async def test_every_page_hears_of_changes_through_the_door_and_beside_it(worker: Any) -> None:
    async with worker.events() as one, worker.events(3) as other:
        _, tag = await change(worker, "new")
        for events in (one, other):
            while f'"{(await events.until("CellSets-x1"))["version"]}"' != tag:
                pass
        path = worker.folder / "cell_sets.json"
        document = json.loads(path.read_text())
        document["cellSets"].pop()
        path.write_text(json.dumps(document))
        told = await one.until("CellSets-x1")
    _, _, headers = await worker.get(CELL_SETS)
    assert headers["ETag"] == f'"{told["version"]}"'
    assert "new" not in await keys(worker)
