"""The door of the local run, over real sockets: what the platform's API accepts and answers, and who may ask."""

import asyncio
import base64
import gzip
import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.local.etag import etag_of
from cellworker.local.submit import submit_async
from cellworker.protocol.encoding import decompress

EXPRESSION = {"name": "GeneExpression", "genes": ["LYZ", "MS4A1"]}
CELL_SET = {"key": "u1", "name": "LYZ>1", "rootNode": False, "color": "#77aadd", "cellIds": [4]}
APPEND = [{"$append": {"key": "new", "name": "New", "children": []}}]


async def test_a_request_is_answered_with_its_etag_and_then_with_events(worker: Any) -> None:
    async with worker.events() as events:
        data = await worker.post(EXPRESSION)
        assert data["signedUrl"] is None
        assert re.fullmatch("[0-9a-f]{32}", data["ETag"])
        payload = await events.until("WorkResponse-" + data["ETag"])
    assert json.loads(decompress(base64.b64decode(payload))) == worker.engine.value
    assert events.story == ["STARTED_TASK", "COMPRESSING_DATA", "UPLOADING_DATA", "FINISHED_TASK", "WorkResponse"]
    assert events.seen[0][0] == "Heartbeat-x1"


async def test_a_repeated_request_is_answered_from_the_store_at_once(worker: Any) -> None:
    first = await submit_async(worker.url, EXPRESSION)
    data = await worker.post(dict(reversed(EXPRESSION.items())))
    assert data == {"ETag": first.etag, "signedUrl": f"{worker.url}/results/{first.etag}"}
    again = await submit_async(worker.url, EXPRESSION)
    assert again.repeated
    assert again.value == first.value == worker.engine.value
    assert worker.engine.computed == ["GeneExpression"]


async def test_what_is_stored_are_the_bytes_that_the_platform_stores(worker: Any) -> None:
    etag = (await submit_async(worker.url, EXPRESSION)).etag
    status, content, headers = await worker.get(f"/results/{etag}")
    assert status == 200
    assert headers["Content-Type"] == "application/octet-stream"
    assert content.startswith(b"\x28\xb5\x2f\xfd")
    assert json.loads(decompress(content)) == worker.engine.value
    status, content, headers = await worker.get(f"/results/{etag}?decode=1")
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert json.loads(content) == worker.engine.value


def left_by_an_engine(folder: Path, name: str) -> Path:
    """A place in an engine's folder of results, the only one that files are taken from."""
    results = folder / "cellworker-scratch-test" / "results"
    results.mkdir(parents=True, exist_ok=True)
    return results / f"request-1-{name}"


async def test_a_file_result_is_served_as_the_file(worker: Any, tmp_path: Path) -> None:
    file = left_by_an_engine(tmp_path, "scratch.gz")
    file.write_bytes(gzip.compress(b", ,A\n1,G,0\n"))
    worker.engine.value = str(file)
    got = await submit_async(worker.url, {"name": "GetNormalizedExpression", "subsetBy": {}}, folder=tmp_path)
    assert got.file is not None
    assert gzip.decompress(got.file.read_bytes()) == b", ,A\n1,G,0\n"
    assert got.file.name == "NormalizedExpression.csv.gz"
    assert not file.exists()
    _, content, headers = await worker.get(f"/results/{got.etag}?decode=1")
    assert gzip.decompress(content) == b", ,A\n1,G,0\n"
    assert "attachment" in headers["Content-Disposition"]


async def test_a_downloaded_object_is_named_for_what_is_in_it(worker: Any, tmp_path: Path) -> None:
    for number, (content, name) in enumerate([(b"\x89HDF\r\n\x1a\n", "h5ad"), (b"\x1f\x8b", "rds")]):
        file = left_by_an_engine(tmp_path, f"scratch{number}")
        file.write_bytes(content)
        worker.engine.value = str(file)
        body = {"name": "DownloadAnnotSeuratObject", "isObj2s": True, "embeddingMethod": "umap", "format": name}
        got = await submit_async(worker.url, body, folder=tmp_path)
        assert got.file is not None
        assert got.file.name == f"processed_matrix.{name}"
        assert got.file.read_bytes() == content


async def test_a_large_result_comes_by_its_url(worker: Any) -> None:
    worker.engine.value = [[i, (i * 7919) % 104729 / 7] for i in range(60_000)]
    async with worker.events() as events:
        data = await worker.post(EXPRESSION)
        notice = await events.until("WorkResponse-")
    url = notice["response"]["signedUrl"]
    assert url == f"{worker.url}/results/{data['ETag']}"
    async with worker.session.get(url) as response:
        assert json.loads(decompress(await response.read())) == worker.engine.value


async def test_a_failed_request_is_reported_and_computed_anew_when_asked_again(worker: Any) -> None:
    worker.engine.error = WorkerError(ErrorCode.R_WORKER_GENE_NOT_FOUND, "Gene(s): A not found!")
    with pytest.raises(WorkerError, match="Gene\\(s\\): A not found!") as told:
        await submit_async(worker.url, {"name": "GeneExpression", "genes": ["A"]})
    assert told.value.code is ErrorCode.R_WORKER_GENE_NOT_FOUND
    worker.engine.error = None
    assert (await submit_async(worker.url, {"name": "GeneExpression", "genes": ["A"]})).value == worker.engine.value


async def test_a_task_that_refuses_its_body_says_so(worker: Any) -> None:
    with pytest.raises(WorkerError, match="expected words") as told:
        await submit_async(worker.url, {"name": "CASSIAAnnotate", "species": "Human", "tissue": " "})
    assert told.value.code is ErrorCode.INVALID_INPUT


async def test_new_cell_sets_are_in_the_file_when_the_event_comes(worker: Any) -> None:
    worker.engine.value = CELL_SET
    body = {
        "name": "GetExpressionCellSets",
        "genesConfig": [{"geneName": "LYZ", "comparisonType": "greaterThan", "thresholdValue": 1}],
    }
    async with worker.events() as events:
        await worker.post(body, requestProps={"broadcast": True, "cacheUniquenessKey": None})
        notice = await events.until("WorkResponse-")
    assert notice["response"]["cacheable"] is False
    assert events.story == ["STARTED_TASK", "ExperimentUpdates", "FINISHED_TASK", "WorkResponse"]
    _, content, _ = await worker.get("/v2/experiments/x1/cellSets")
    (made,) = json.loads(content)["cellSets"][1]["children"]
    assert made == {**CELL_SET, "key": made["key"]}
    assert uuid.UUID(made["key"]).version == 5, "of the message, so that its next attempt inserts the same set"
    assert json.loads((worker.folder / "cell_sets.json").read_text())["cellSets"][1]["children"] == [made]


async def test_cell_sets_are_read_and_patched_as_on_the_platform(worker: Any) -> None:
    url = f"{worker.url}/v2/experiments/x1/cellSets"
    headers = {"Content-Type": "application/boschni-json-merger+json"}
    async with worker.session.patch(url, data=json.dumps(APPEND), headers=headers) as response:
        assert (response.status, await response.json()) == (200, {"data": {"message": "success", "code": 200}})
    async with worker.session.get(url) as response:
        assert [item["key"] for item in (await response.json())["cellSets"]] == ["louvain", "scratchpad", "new"]
    async with worker.session.patch(url, data=b'[{"$append": 1}]', headers=headers) as response:
        answer = await response.json()
        assert response.status == 400
        assert "cellSets[3]" in answer["message"]


async def test_asking_again_while_it_is_computed_is_one_computation_and_an_event_for_each(worker: Any) -> None:
    worker.engine.hold = asyncio.Event()
    async with worker.events() as events:
        first = await worker.post(EXPRESSION)
        second = await worker.post(EXPRESSION)
        assert first == second
        worker.engine.hold.set()
        await events.until("WorkResponse-")
        await events.until("WorkResponse-")
    assert worker.engine.computed == ["GeneExpression"]


async def test_a_client_that_begins_to_listen_after_the_answer_still_hears_the_result(worker: Any) -> None:
    heard = asyncio.Event()
    async with worker.events() as events:
        for i in range(20):
            etag = (await worker.post({**EXPRESSION, "genes": [str(i)]}))["ETag"]
            await events.until("WorkResponse-" + etag)
        heard.set()
    assert heard.is_set()


async def test_requests_wait_while_the_experiment_is_opened(worker: Any) -> None:
    worker.source.opening = asyncio.Event()
    asking = asyncio.create_task(worker.post(EXPRESSION))
    _, content, _ = await worker.get("/health")
    assert json.loads(content)["status"] == "loading"
    assert not asking.done()
    worker.source.opening.set()
    assert (await asking)["signedUrl"] is None


@pytest.mark.parametrize(
    ("body", "more", "field"),
    [
        ({"name": "Nonsense"}, {}, "body.name"),
        ({}, {}, "body.name"),
        ({"name": 3}, {}, "body.name"),
        ([], {}, "body"),
        ({"name": "ListGenes", "limit": "many"}, {}, "body.limit"),
        ({"name": "GeneExpression", "genes": [1]}, {}, "body.genes[0]"),
        (EXPRESSION, {"requestProps": 3}, "requestProps"),
        (EXPRESSION, {"requestProps": {"pagination": {"limit": -1}}}, "requestProps.pagination.limit"),
        (EXPRESSION, {"requestProps": {"pagination": []}}, "requestProps.pagination"),
        (EXPRESSION, {"timeout": "soon"}, "timeout"),
        (EXPRESSION, {"timeout": "2020-01-01T00:00:00Z"}, "timeout"),
        (EXPRESSION, {"experimentId": "other"}, "experimentId"),
    ],
)
async def test_what_cannot_be_understood_is_refused_at_the_door_by_field(
    worker: Any, body: Any, more: dict[str, Any], field: str
) -> None:
    answer = await worker.post(body, expect=400, **more)
    assert field in answer["message"]
    assert answer["errors"] == [{"code": "INVALID_INPUT", "message": answer["message"]}]
    assert worker.engine.computed == []


async def test_a_time_out_in_the_future_is_accepted(worker: Any) -> None:
    timeout = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    assert (await worker.post(EXPRESSION, timeout=timeout, experimentId="x1"))["ETag"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"body": 3}'])
async def test_what_is_no_request_is_refused(worker: Any, data: bytes) -> None:
    async with worker.session.post(f"{worker.url}/v2/workRequest/x1", data=data) as response:
        assert response.status == 400
        assert (await response.json())["message"].startswith("request")


async def test_an_unknown_experiment_is_not_found(worker: Any) -> None:
    answer = await worker.post(EXPRESSION, expect=404, experiment="other")
    assert "'x1'" in answer["message"]
    for path in ("/v2/experiments/other/cellSets", "/results/abc", "/results/..%2Fcell_sets.json", "/nowhere"):
        status, content, _ = await worker.get(path)
        assert status == 404
        assert "message" in json.loads(content)


async def test_health_says_what_is_served(worker: Any) -> None:
    _, content, _ = await worker.get("/health")
    facts = json.loads(content)
    assert (facts["status"], facts["experimentId"]) == ("up", "x1")


async def test_the_console_needs_nothing_from_elsewhere(worker: Any) -> None:
    status, content, headers = await worker.get("/")
    page = content.decode()
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert not re.search(r"(src|href)=\"?(https?:)?//", page)
    assert "innerHTML" not in page
    _, content, _ = await worker.get("/console.json")
    assert json.loads(content)["examples"]["ListGenes"] == {"name": "ListGenes"}
    assert [item["sets"] for item in json.loads(content)["summary"]["cellSets"]] == [1, 0]


async def test_pages_of_this_machine_may_use_it_and_others_may_not(worker: Any) -> None:
    home, foreign = {"Origin": "http://localhost:5000"}, {"Origin": "https://example.org"}
    _, _, headers = await worker.get("/health", headers=home)
    assert headers["Access-Control-Allow-Origin"] == "http://localhost:5000"
    assert headers["Access-Control-Allow-Credentials"] == "true"
    _, _, headers = await worker.get("/socket.io/?EIO=3&transport=polling", headers=home)
    assert headers["Access-Control-Allow-Origin"] == "http://localhost:5000"
    for path in ("/health", "/v2/experiments/x1/cellSets", "/socket.io/?EIO=4&transport=polling"):
        status, _, headers = await worker.get(path, headers=foreign)
        assert status == 403
        assert "Access-Control-Allow-Origin" not in headers
    await worker.post(EXPRESSION, expect=403, headers=foreign)
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await worker.session.ws_connect(f"{worker.url}/socket.io/?EIO=4&transport=websocket", headers=foreign)
    assert worker.engine.computed == []


async def test_a_name_that_was_made_to_point_here_is_refused(worker: Any) -> None:
    status, _, _ = await worker.get("/health", headers={"Host": f"evil.example:{worker.port}"})
    assert status == 403
    status, _, _ = await worker.get("/health", headers={"Host": f"localhost:{worker.port}"})
    assert status == 200


async def test_a_preflight_is_answered(worker: Any) -> None:
    headers = {
        "Origin": "http://localhost:5000",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with worker.session.options(f"{worker.url}/v2/experiments/x1/cellSets", headers=headers) as response:
        assert response.status == 204
        assert "PATCH" in response.headers["Access-Control-Allow-Methods"]
        assert response.headers["Access-Control-Allow-Headers"] == "authorization,content-type"


def etag(body: Any = None, props: Any = None, key: str = "k", version: str = "") -> str:
    return etag_of(body or {"name": "X", "a": 1, "b": {"c": [1, 2]}}, props or {"broadcast": False}, key, version)


def test_an_etag_depends_on_all_that_matters_and_not_on_the_order_of_keys() -> None:
    assert etag() == etag({"b": {"c": [1.0, 2]}, "a": 1, "name": "X"})
    others = [
        etag({"name": "X", "a": 2, "b": {"c": [1, 2]}}),
        etag({"name": "X", "a": 1, "b": {"c": [2, 1]}}),
        etag({"name": "X", "a": True, "b": {"c": [1, 2]}}),
        etag(props={"broadcast": True}),
        etag(props={"broadcast": False, "cacheUniquenessKey": 0.5}),
        etag(key="other"),
        etag(version="other"),
    ]
    assert len({etag(), *others}) == len(others) + 1


async def test_changed_cell_sets_make_a_new_question_of_what_depends_on_them(worker: Any) -> None:
    matrix = {"name": "GetNormalizedExpression", "subsetBy": {"louvain": ["louvain-0"]}}
    worker.engine.error = WorkerError(ErrorCode.R_WORKER_EMPTY_CELL_SET, "No cells match requested filters.")
    before = [(await worker.post(body))["ETag"] for body in (matrix, {"name": "GetNGenes"})]
    await worker.cell_sets.patch("x1", APPEND)
    after = [(await worker.post(body))["ETag"] for body in (matrix, {"name": "GetNGenes"})]
    assert before[0] != after[0]
    assert before[1] == after[1]


async def test_a_request_without_a_running_worker_is_an_error() -> None:
    with pytest.raises(WorkerError, match="No worker answers at"):
        await submit_async("http://127.0.0.1:9", EXPRESSION, timeout_s=10)


async def test_waiting_ends_with_the_time_out(worker: Any) -> None:
    worker.engine.hold = asyncio.Event()
    with pytest.raises(WorkerError) as told:
        await submit_async(worker.url, EXPRESSION, timeout_s=0.2)
    assert told.value.code is ErrorCode.DEADLINE_EXCEEDED
    worker.engine.hold.set()


async def test_heartbeats_reach_who_submits(worker: Any) -> None:
    beats: list[str] = []
    await submit_async(worker.url, EXPRESSION, on_heartbeat=lambda beat: beats.append(beat["status_code"]))
    assert beats == ["STARTED_TASK", "COMPRESSING_DATA", "UPLOADING_DATA", "FINISHED_TASK"]
