"""Who is let in at the local door: real sockets, headers as browsers send them, and clients that behave badly."""

import asyncio
import contextlib
import logging
import re
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from cellworker.errors import ErrorCode, WorkerError
from cellworker.local.door import bodies
from cellworker.local.door.admission import TOKEN_HEADER, Admission, split_token, warnings_of
from cellworker.local.submit import submit_async
from cellworker.settings import Settings

from .conftest import WAIT_S, Worker, running

TOKEN = "a-token-that-nobody-guesses"
HELD = {"name": "GeneExpression", "genes": ["LYZ"]}
EVERYWHERE = [
    ("GET", "/"), ("GET", "/health"), ("GET", "/console.json"), ("GET", "/nowhere"), ("HEAD", "/health"),
    ("POST", "/v2/workRequest/x1"), ("PUT", "/v2/workRequest/x1"), ("DELETE", "/v2/workRequest/x1"),
    ("PATCH", "/v2/experiments/x1/cellSets"), ("OPTIONS", "/v2/experiments/x1/cellSets"), ("TRACE", "/health"),
    ("GET", "/results/abc"), ("GET", "/socket.io/?EIO=4&transport=polling"),
    ("POST", "/socket.io/?EIO=4&transport=polling"),
]  # fmt: skip


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Worker]:
    """A worker that HOST opened to a network."""
    async with aiohttp.ClientSession() as session:
        worker = Worker(tmp_path, session)
        worker.admission = Admission("0.0.0.0", allowed_hosts=["box.lab.example"], token=TOKEN)
        async with running(worker):
            yield worker


async def status(worker: Worker, method: str = "GET", path: str = "/health", **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with worker.session.request(method, f"{worker.url}{path}", headers=named, allow_redirects=False) as response:
        await response.read()
        return response.status


@pytest.mark.parametrize(("method", "path"), EVERYWHERE)
async def test_a_page_of_elsewhere_is_refused_everywhere(worker: Worker, method: str, path: str) -> None:
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": f"http://localhost.evil.example:{worker.port}"},
        {"Origin": f"http://localhost:{worker.port}.evil.example"},
        {"Origin": "http://evil.example\\@localhost"},
        {"Origin": "http://evil.example@localhost"},
        {"Origin": "http://localhost:99999999"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"},
        {"Sec_Fetch_Site": "of-later-days"},
        {"Sec_Fetch_Site": ""},
        {"Host": "evil.example"},
        {"Host": f"localhost.evil.example:{worker.port}"},
    ):
        assert await status(worker, method, path, **headers) == 403, headers
    assert worker.sockets.clients == 0


async def test_programs_and_pages_of_this_machine_are_let_in(worker: Worker) -> None:
    assert await status(worker) == 200
    for headers in (
        {"Origin": "http://localhost:5000", "Sec_Fetch_Site": "cross-site"},  # from localhost to 127.0.0.1
        {"Origin": worker.url, "Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Host": f"localhost:{worker.port}"},
        {"Host": f"[::1]:{worker.port}"},
    ):
        assert await status(worker, **headers) == 200, headers


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Host", ["127.0.0.1", "evil.example"]),
        ("Origin", ["http://127.0.0.1", "https://evil.example"]),
        ("Sec-Fetch-Site", ["none", "cross-site"]),
    ],
)
async def test_a_repeated_header_is_refused(worker: Worker, name: str, values: list[str]) -> None:
    for order in (values, values[::-1]):
        headers = [("Host", "127.0.0.1")] * (name != "Host") + [(name, value) for value in order]
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
        lines = "".join(f"{header}: {value}\r\n" for header, value in headers)
        writer.write(f"GET /health HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
        async with asyncio.timeout(WAIT_S):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert answer.split(b" ")[1] in (b"400", b"403"), answer


async def test_a_link_in_another_page_leads_to_the_page_and_nowhere_else(worker: Worker) -> None:
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert await status(worker, path="/", **link) in (200, 302)
    assert await status(worker, path="/health", **link) == 403
    assert await status(worker, "POST", "/", **link) == 403
    assert await status(worker, path="/socket.io/?EIO=4&transport=polling", **link) == 403


async def test_requests_of_elsewhere_take_no_session_from_others(worker: Worker) -> None:
    foreign = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}
    answers = [await status(worker, path="/socket.io/?EIO=4&transport=polling", **foreign) for _ in range(300)]
    assert set(answers) == {403}
    async with worker.events():
        assert worker.sockets.clients == 1


async def test_one_origin_cannot_take_all_sessions(worker: Worker) -> None:
    path = "/socket.io/?EIO=4&transport=polling"
    greedy = [await status(worker, path=path, Origin="http://localhost:1") for _ in range(worker.sockets.max_sessions)]
    assert greedy.count(200) == worker.sockets.max_per_origin < worker.sockets.max_sessions
    assert await status(worker, path=path, Origin="http://localhost:2") == 200
    async with worker.events() as events:
        await worker.post(HELD)
        await events.until("WorkResponse-")


async def test_without_its_token_an_opened_worker_answers_nothing(opened: Worker) -> None:
    for method, path in EVERYWHERE:
        if method not in ("OPTIONS", "TRACE"):
            assert await status(opened, method, path) == 401, path
    assert await status(opened, path="/?token=wrong") == 401
    assert await status(opened, Cookie=f"cellworker-{opened.port}={TOKEN}") == 401
    assert await status(opened, **{TOKEN_HEADER: ""}) == 401
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await opened.session.ws_connect(f"{opened.url}/socket.io/?EIO=4&transport=websocket")
    with pytest.raises(WorkerError, match="needs its token"):
        await submit_async(opened.url, HELD)
    assert opened.engine.computed == []


async def test_the_address_with_the_token_opens_the_page_and_a_cookie_all_else(opened: Worker) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.get(opened.admission.address(opened.url)) as response:
            assert response.status == 200
            assert "token" not in str(response.url)
            first = response.history[0]
            kept = first.headers["Set-Cookie"]
        assert "HttpOnly" in kept
        assert "SameSite=Lax" in kept
        assert TOKEN not in kept
        async with browser.ws_connect(f"{opened.url}/socket.io/?EIO=4&transport=websocket") as events:
            assert (await events.receive_str()).startswith("0{")
        async with browser.get(f"{opened.url}/console.json") as response:
            assert response.status == 200
        assert await status(opened) == 401
        foreign = {"Origin": "https://evil.example"}
        async with browser.post(f"{opened.url}/v2/workRequest/x1", json={"body": HELD}, headers=foreign) as response:
            assert response.status == 403


async def test_programs_send_the_token_in_the_address_or_a_header(opened: Worker) -> None:
    answer = await submit_async(opened.admission.address(opened.url), HELD)
    assert answer.value == opened.engine.value
    assert await status(opened, path=f"/health?token={TOKEN}") == 200
    assert await status(opened, **{TOKEN_HEADER.replace("-", "_"): TOKEN}) == 200


async def test_an_opened_worker_answers_to_names_that_are_listed_and_to_numbers(opened: Worker) -> None:
    known = {TOKEN_HEADER.replace("-", "_"): TOKEN}
    for name in ("box.lab.example", "BOX.lab.example.", "192.0.2.7", "[2001:db8::7]", "localhost"):
        assert await status(opened, Host=f"{name}:{opened.port}", **known) == 200, name
    for name in ("evil.example", "box.lab.example.evil.example", "user@localhost", "localhost:x", "[", ""):
        assert await status(opened, Host=name, **known) == 403, name
    for origin in ("http://localhost:5000", "http://other.lab.example"):
        assert await status(opened, Host="box.lab.example", Origin=origin, **known) == 403, origin
    assert await status(opened, Host="box.lab.example", Origin="http://box.lab.example", **known) == 200
    assert await status(opened, Host="box.lab.example", Sec_Fetch_Site="same-site", **known) == 403


def test_a_token_is_made_where_one_is_needed_and_none_is_set() -> None:
    assert Admission.of(Settings()).token == ""
    made = {Admission.of(Settings(host="0.0.0.0")).token for _ in range(3)}
    assert len(made) == 3
    assert min(map(len, made)) >= 32
    assert Admission.of(Settings(access_token=TOKEN)).token == TOKEN
    with pytest.raises(WorkerError, match="ACCESS_TOKEN: expected at least 16"):
        Admission.of(Settings(access_token="short"))


def test_what_is_open_is_reported() -> None:
    assert warnings_of(Settings()) == []
    told = " ".join(warnings_of(Settings(host="0.0.0.0", allowed_hosts="box.lab.example, ")))
    assert "HOST=0.0.0.0" in told
    assert "unencrypted" in told
    assert "box.lab.example" in told


@given(st.text(min_size=1))
def test_a_token_comes_back_from_its_address(token: str) -> None:
    admission = Admission("0.0.0.0", token=token)
    assert split_token(admission.address("http://box:4000")) == ("http://box:4000", token)


@given(st.text(), st.text(), st.booleans())
def test_whatever_the_headers_hold_a_request_is_let_in_or_refused_in_words(
    host: str, origin: str, opened: bool
) -> None:
    admission = Admission("0.0.0.0" if opened else "127.0.0.1", allowed_hosts=["box"])
    request: Any = SimpleNamespace(
        headers=CIMultiDict({"Host": host, "Origin": origin}), method="GET", path="/", cookies={}, query={}
    )
    ours = re.fullmatch(r"(?i)(localhost|127\.0\.0\.1|\[?::1\]?|box|[0-9a-f.:\[\]%]+)\.?(:\d*)?", host)
    with contextlib.suppress(aiohttp.web.HTTPForbidden):
        admission.check(request)
        assert ours


def connected(worker: Worker, content: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", worker.port))
    client.sendall(content)
    return client


async def answered(client: socket.socket, within_s: float = WAIT_S) -> bytes:
    """What comes until the worker closes the connection."""
    client.setblocking(False)
    out = b""
    async with asyncio.timeout(within_s):
        while True:
            try:
                piece = await asyncio.get_running_loop().sock_recv(client, 65536)
            except ConnectionResetError:
                return out
            if not piece:
                return out
            out += piece


async def test_half_a_request_is_closed_in_time_and_blocks_no_other_client(worker: Worker) -> None:
    halves = [connected(worker, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ") for _ in range(60)]
    assert await status(worker) == 200
    assert worker.connections.waiting <= 20
    assert await asyncio.gather(*(answered(half) for half in halves)) == [b""] * 60
    for half in halves:
        half.close()
    assert worker.connections.waiting == 0


async def test_half_a_body_is_refused_in_time(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bodies.read_body.__kwdefaults__, "within_s", 0.2)
    for line in (b"POST /v2/workRequest/x1", b"PATCH /v2/experiments/x1/cellSets"):
        head = line + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"
        client = connected(worker, head)
        client.setblocking(False)
        async with asyncio.timeout(WAIT_S):
            content = await asyncio.get_running_loop().sock_recv(client, 65536)
        assert b" 408 " in content
        client.close()


async def test_a_body_that_grows_when_unpacked_is_refused(worker: Worker) -> None:
    import gzip

    packed = gzip.compress(bytes(80 << 20))
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    async with worker.session.post(f"{worker.url}/v2/workRequest/x1", data=packed, headers=headers) as response:
        assert response.status == 413


MALFORMED = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a browser that tries TLS
    b"nonsense\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    b"POST /v2/workRequest/x1 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v2/workRequest/x1 HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    b"GET /health HTTP/1.1\r\nHost: [\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[\r\n\r\n",
    b"GET /health HTTP/1.0\r\n\r\n",
    b"GET http://[/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET //[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n",
]


@pytest.mark.parametrize("content", MALFORMED, ids=range(len(MALFORMED)))
async def test_what_is_malformed_is_answered_without_a_traceback(
    worker: Worker, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = connected(worker, content)
    client.setblocking(False)
    async with asyncio.timeout(WAIT_S):
        told = await asyncio.get_running_loop().sock_recv(client, 65536)
    client.close()
    assert re.match(rb"HTTP/1\.[01] 4\d\d ", told), told
    assert b"Traceback" not in told
    assert [record for record in caplog.records if record.exc_info] == []
    assert await status(worker) == 200


ASKING = b'{"body": {"name": "GeneExpression", "genes": ["LYZ"]}}'
UPGRADE = b"\r\n".join(
    [
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1",
        b"Host: localhost",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        b"",
        b"",
    ]
)
LEFT = [
    b"",
    b"GET /hea",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /v2/workRequest/x1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
    b"POST /v2/workRequest/x1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(ASKING), ASKING),
    b"PATCH /v2/experiments/x1/cellSets HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[{",
    b"POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n4",
    b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n\r\n",
    UPGRADE,
]


@pytest.mark.parametrize("content", LEFT, ids=range(len(LEFT)))
async def test_a_client_that_goes_away_leaves_no_traceback(
    worker: Worker, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    worker.source.opening = asyncio.Event()  # so that whoever asks for work leaves while it waits
    caplog.set_level(logging.DEBUG)
    for _ in range(3):
        client = connected(worker, content)
        await status(worker)  # what was sent before has arrived
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # at once, by a reset
    worker.source.opening.set()
    assert await status(worker) == 200
    assert [record for record in caplog.records if record.exc_info and record.levelno > logging.DEBUG] == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_patch_that_the_reader_would_refuse_changes_nothing(worker: Worker) -> None:
    def change(value: Any) -> list[dict[str, Any]]:
        step = {"$match": {"query": '$[?(@.key == "louvain-0")]', "value": value}}
        return [{"$match": {"query": '$[?(@.key == "louvain")]', "value": {"children": [step]}}}]

    url = f"{worker.url}/v2/experiments/x1/cellSets"
    before = (worker.folder / "cell_sets.json").read_bytes()
    for value, words in (
        ({"color": 5}, "color: expected text, found a number"),
        ({"cellIds": [-5]}, "cellIds[0]: -5 is not a cell id"),
        ({"cellIds": [1 << 40]}, "is not a cell id"),
        ({"cellIds": "many"}, "cellIds"),
        ({"type": ["x"]}, "type: expected text"),
        ({"children": [{"key": "a", "name": "b", "cellIds": []}]}, "only two levels"),
    ):
        async with worker.session.patch(url, json=change(value)) as response:
            answer = await response.json()
            assert response.status == 400, value
        assert words in answer["message"]
        assert answer["errors"][0]["code"] == ErrorCode.CELL_SETS_UPDATE_FAILED
    assert (worker.folder / "cell_sets.json").read_bytes() == before
    async with worker.session.patch(url, json=change({"color": "#000000"})) as response:
        assert response.status == 200
    assert (await submit_async(worker.url, HELD)).value == worker.engine.value
