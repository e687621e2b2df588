"""Cell sets at the platform's API, played by a server that merges as the real one does."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.core.cell_set_patches import applied, examine
from cellworker.gateway.core.ports import Claim, NotHeldError
from cellworker.gateway.platform import api as platform_api
from cellworker.gateway.platform import fenced_body
from cellworker.gateway.platform.api import PlatformCellSets
from cellworker.local.merge import merge_cell_sets
from port_suites.cell_sets import DOCUMENT, INSERT, LOUVAIN, REPLACE, TOKEN, CellSetsTests

Answer = Callable[["Api", web.Request], Awaitable[web.StreamResponse]]


class Api:
    """Applies patches; `answers`, one a call, can say something else before or instead."""

    def __init__(self) -> None:
        self.document = DOCUMENT
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[Answer] = []
        self.at_once = 0
        self.most_at_once = 0
        self.reads = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.requests.append((request.path, dict(request.headers), await request.read()))
            return await (self.answers.pop(0) if self.answers else ok)(self, request)
        finally:
            self.at_once -= 1

    def apply(self) -> None:
        self.document = merge_cell_sets(self.document, json.loads(self.requests[-1][2]))

    async def read(self, experiment_id: str) -> bytes:
        self.reads += 1
        return json.dumps(self.document).encode()

    def sets(self) -> list[str]:
        return [child["key"] for item in self.document["cellSets"] for child in item["children"]]

    def classes(self) -> list[str]:
        return [item["key"] for item in self.document["cellSets"]]


async def ok(api: Api, request: web.Request) -> web.StreamResponse:
    try:
        api.apply()
    except WorkerError as error:
        return web.json_response({"message": error.message}, status=400)
    return web.json_response({"data": {"message": "success", "code": 200}})


def says(status: int, body: Any = None, *, applies: bool = False, **headers: str) -> Answer:
    async def answer(api: Api, request: web.Request) -> web.StreamResponse:
        if applies:
            api.apply()
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, headers=headers, content_type="application/json")

    return answer


def breaks(*, applies: bool) -> Answer:
    async def answer(api: Api, request: web.Request) -> web.StreamResponse:
        if applies:
            api.apply()
        assert request.transport
        request.transport.abort()
        return web.Response()

    return answer


async def hangs(api: Api, request: web.Request) -> web.StreamResponse:
    api.apply()
    await asyncio.Event().wait()
    raise AssertionError


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    api = Api()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", api.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield api
    await runner.cleanup()


@pytest.fixture
async def cell_sets(api: Api) -> AsyncIterator[PlatformCellSets]:
    async with PlatformCellSets(api.read, api.url + "/", retry_budget_s=1.0, timeout_s=0.5, settle_s=0.05) as made:
        yield made


class TestPlatformCellSets(CellSetsTests):
    """With the fixture `cell_sets` of this file."""


def claimed(*, sent_s: float | None = None, held: bool = True) -> Claim:
    """A claim whose earlier attempt sent its change so many seconds ago."""

    async def earlier() -> datetime | None:
        return None if sent_s is None else datetime.now(UTC) - timedelta(seconds=sent_s)

    async def take() -> bool:
        return held

    return Claim(earlier, take)


async def refusal(cell_sets: PlatformCellSets, operations: Any = INSERT, token: str | None = TOKEN, **more: Any) -> str:
    with pytest.raises(WorkerError) as caught:
        await cell_sets.patch("x1", operations, token, **more)
    assert caught.value.code is ErrorCode.CELL_SETS_UPDATE_FAILED
    assert "hidden-token" not in repr(caught.value)
    return caught.value.message


async def test_a_patch_is_sent_to_the_letter(api: Api, cell_sets: PlatformCellSets) -> None:
    await cell_sets.patch("a b", REPLACE, TOKEN)
    ((path, headers, body),) = api.requests
    assert path == "/v2/experiments/a b/cellSets"
    assert headers["Authorization"] == TOKEN
    assert headers["Content-Type"] == "application/boschni-json-merger+json"
    assert headers["Accept"] == "application/json, text/xml, application/xml, */*"
    assert body.decode() == (
        '[{"$match":{"query":"$[?(@.key == \\"louvain\\")]","value":{"$remove":true}}},{"$prepend":{"key":"louvain",'
        '"name":"louvain clusters","rootNode":true,"type":"cellSets","children":[]}}]'
    )
    assert api.classes() == ["louvain", "scratchpad"]
    assert await cell_sets.read("x1") == await api.read("x1")


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (
            400,
            {"message": "cellIds must be array", "errors": ["at /0", "at /1"]},
            "cellIds must be array: at /0: at /1",
        ),
        (400, {"errors": [{"message": "no key"}]}, "no key"),
        (400, {"message": "x" * 5000}, "x" * 300),
        (500, "<html>oops</html>", "500 Internal Server Error"),
        (401, {"message": f"bad token {TOKEN}"}, "sign in and try again"),
        (403, "", "403 Forbidden"),
        (302, "", "302 Found"),
    ],
)
async def test_a_refusal_is_reported_in_the_platforms_words(
    api: Api, cell_sets: PlatformCellSets, status: int, body: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    api.answers = [says(status, body, Location=f"{api.url}/elsewhere")]
    message = await refusal(cell_sets)
    assert message.startswith("The cell sets were not changed: the platform refused: ")
    assert words in message
    assert len(message) < 420
    assert len(api.requests) == 1
    assert "hidden-token" not in caplog.text + repr([vars(record) for record in caplog.records])


@pytest.mark.parametrize("token", [None, "", "  ", "Bearer a\r\nX-Evil: 1"])
async def test_without_authorization_nothing_is_sent(api: Api, cell_sets: PlatformCellSets, token: str | None) -> None:
    assert "sign in" in await refusal(cell_sets, token=token)
    assert api.requests == []


UNSURE = [breaks, lambda *, applies: says(502, applies=applies), lambda *, applies: says(504, "x", applies=applies)]


@pytest.mark.parametrize("trouble", UNSURE)
@pytest.mark.parametrize("applies", [True, False])
@pytest.mark.parametrize("operations", [INSERT, REPLACE])
async def test_what_may_have_been_applied_is_applied_once(
    api: Api, cell_sets: PlatformCellSets, trouble: Any, applies: bool, operations: Any
) -> None:
    api.answers = [trouble(applies=applies), trouble(applies=False)]
    if applies and operations is INSERT:
        api.answers.pop()
    await cell_sets.patch("x1", operations, TOKEN)
    assert api.sets() == (["5f0c"] if operations is INSERT else [])
    assert api.classes().count("louvain") == (operations is REPLACE)
    assert len(api.requests) == (1 if applies and operations is INSERT else 3)


async def test_waiting_for_an_answer_has_a_timeout(api: Api, cell_sets: PlatformCellSets) -> None:
    api.answers = [hangs]
    await cell_sets.patch("x1", INSERT, TOKEN)
    assert api.sets() == ["5f0c"]
    assert len(api.requests) == 1


async def test_a_patch_that_is_applied_late_is_not_sent_again(api: Api) -> None:
    async def late(api: Api, request: web.Request) -> web.StreamResponse:
        asyncio.get_running_loop().call_later(0.2, api.apply)
        return web.Response(status=504)

    api.answers = [late]
    async with PlatformCellSets(api.read, api.url, settle_s=5.0) as cell_sets:
        await cell_sets.patch("x1", INSERT, TOKEN)
    assert api.sets() == ["5f0c"]
    assert len(api.requests) == 1


async def test_a_patch_of_another_kind_is_not_sent_twice(api: Api, cell_sets: PlatformCellSets) -> None:
    api.answers = [breaks(applies=True)]
    message = await refusal(cell_sets, [{"$append": LOUVAIN}])
    assert "did not say whether" in message
    assert len(api.requests) == 1
    assert "did not say whether" in await refusal(cell_sets, [{"$append": LOUVAIN}], claim=claimed(sent_s=0.0))
    assert len(api.requests) == 1


async def test_too_many_requests_is_tried_again(api: Api, cell_sets: PlatformCellSets) -> None:
    api.answers = [says(429), says(429)]
    await cell_sets.patch("x1", [{"$append": LOUVAIN}], TOKEN)
    assert api.classes() == ["scratchpad", "louvain"]


@pytest.mark.parametrize("there", [True, False])
async def test_a_second_attempt_looks_before_it_sends(api: Api, cell_sets: PlatformCellSets, there: bool) -> None:
    if there:
        await cell_sets.patch("x1", INSERT, TOKEN)
    await cell_sets.patch("x1", INSERT, TOKEN, claim=claimed(sent_s=9.0))
    assert api.sets() == ["5f0c"]
    assert len(api.requests) == 1
    reads = api.reads
    await cell_sets.patch("x1", REPLACE, TOKEN, claim=claimed(sent_s=0.0))
    assert api.classes() == ["louvain", "scratchpad"]
    assert api.reads == reads, "a class that is replaced twice is the same"


async def test_a_pod_that_lost_the_request_sends_nothing(api: Api, cell_sets: PlatformCellSets) -> None:
    for operations in (INSERT, REPLACE):
        with pytest.raises(NotHeldError):
            await cell_sets.patch("x1", operations, TOKEN, claim=claimed(held=False))
    assert api.requests == []


async def test_an_existing_set_is_never_sent_again(api: Api, cell_sets: PlatformCellSets) -> None:
    await cell_sets.patch("x1", INSERT, TOKEN, claim=claimed())
    await cell_sets.patch("x1", INSERT, TOKEN, claim=claimed())
    assert api.sets() == ["5f0c"]
    assert len(api.requests) == 1


async def test_what_an_earlier_attempt_has_sent_is_waited_for_as_long_as_an_answer_may_take(api: Api) -> None:
    async with PlatformCellSets(api.read, api.url, timeout_s=60.0, settle_s=0.0) as cell_sets:
        patching = asyncio.create_task(cell_sets.patch("x1", INSERT, TOKEN, claim=claimed(sent_s=5.0)))
        while api.reads < 2:
            await asyncio.sleep(0.01)
        assert api.requests == []
        api.document = merge_cell_sets(api.document, INSERT)
        await patching
    assert api.requests == []
    assert api.sets() == ["5f0c"]


async def test_after_a_pause_between_check_and_send_it_checks_again(
    api: Api, cell_sets: PlatformCellSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []

    async def take() -> bool:
        taken.append(0.0)
        if len(taken) == 1:  # a pause, in which another process inserts the set
            api.document = merge_cell_sets(api.document, INSERT)
            monkeypatch.setattr("cellworker.gateway.platform.api._JUST_NOW_S", 0.0)
        return True

    await cell_sets.patch("x1", INSERT, TOKEN, claim=Claim(claimed().earlier, take))
    assert api.requests == []
    assert api.sets() == ["5f0c"]


@pytest.mark.parametrize("there", [True, False])
async def test_after_a_pause_while_connecting_it_withholds_the_body_and_checks_again(
    api: Api, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    clock, make, pauses_s = platform_api.awake_s, platform_api._socket, [0.0]

    def paused(address: Any) -> Any:
        if len(pauses_s) == 1:
            pauses_s.append(3600.0)  # an hour between the looks and the first byte
            if there:
                api.document = merge_cell_sets(api.document, INSERT)
        return make(address)

    for module in (fenced_body, platform_api):
        monkeypatch.setattr(module, "awake_s", lambda: clock() + sum(pauses_s))
    monkeypatch.setattr(platform_api, "_socket", paused)
    async with PlatformCellSets(api.read, api.url, retry_budget_s=1.0, timeout_s=5.0) as cell_sets:
        await cell_sets.patch("x1", INSERT, TOKEN, claim=claimed())
    assert len(pauses_s) == 2
    assert len(api.requests) == (0 if there else 1), "of the request that was late the body never came"
    assert api.sets() == ["5f0c"]


async def test_where_it_cannot_be_looked_nothing_is_sent_again(api: Api) -> None:
    async def unreadable(experiment_id: str) -> bytes:
        raise OSError("S3 is away")

    async with PlatformCellSets(unreadable, api.url) as cell_sets:
        assert "did not say whether" in await refusal(cell_sets, claim=claimed(sent_s=0.0))
    assert api.requests == []


async def test_an_api_that_is_not_there_is_waited_for(api: Api, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with PlatformCellSets(api.read, url, retry_budget_s=0.2) as cell_sets:
        assert "could not be reached" in await refusal(cell_sets, [{"$append": LOUVAIN}])
    async with PlatformCellSets(api.read, url, retry_budget_s=10) as cell_sets:
        patching = asyncio.create_task(cell_sets.patch("x1", [{"$append": LOUVAIN}], TOKEN))
        assert not (await asyncio.wait({patching}, timeout=0.1))[0]
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", api.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
        await patching
        await runner.cleanup()
    assert api.classes() == ["scratchpad", "louvain"]


async def test_patches_of_one_experiment_are_sent_one_after_the_other(api: Api, cell_sets: PlatformCellSets) -> None:
    patches = [[{"$append": {**LOUVAIN, "key": f"c{number}"}}] for number in range(5)]
    await asyncio.gather(*(cell_sets.patch("x1", operations, TOKEN) for operations in patches))
    assert api.most_at_once == 1
    assert api.classes() == ["scratchpad", "c0", "c1", "c2", "c3", "c4"]


async def test_logs_name_no_token(api: Api, cell_sets: PlatformCellSets, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    api.answers = [breaks(applies=False), says(502), says(400, {"message": TOKEN})]
    await refusal(cell_sets)
    assert "hidden-token" not in caplog.text + repr([vars(record) for record in caplog.records])


@pytest.mark.parametrize(
    ("operations", "always", "inserted"),
    [
        (REPLACE, True, ()),
        (INSERT, False, (("scratchpad", "5f0c"),)),
        ([*REPLACE, *INSERT], False, (("scratchpad", "5f0c"),)),
        ([{"$append": LOUVAIN}], False, ()),
        ([REPLACE[1], REPLACE[0]], False, ()),
        ([{"$match": {"query": "$[0]", "value": {"$remove": True}}}], False, ()),
        ([{"$match": {"query": '$[?(@.key == "a")]', "value": {"name": "b"}}}], False, ()),
        ([{"$insert": {"index": 0, "value": LOUVAIN}}], False, ()),
        ([{"$match": {"query": r"""$[?(@.key === 'it\'s')]""", "value": {"$remove": True}}}], True, ()),
    ],
)
def test_the_outcomes_of_a_patch(operations: Any, always: bool, inserted: Any) -> None:
    known = examine(operations)
    assert (known.always, known.inserted) == (always, inserted)


def test_a_set_is_there_only_in_its_own_class() -> None:
    document = json.dumps({"cellSets": [{"key": "a", "children": [{"key": "s"}]}, {"key": "b", "children": []}]})
    assert applied(document.encode(), (("a", "s"),))
    assert not applied(document.encode(), (("b", "s"),))
    assert not applied(b"no json", (("a", "s"),))
