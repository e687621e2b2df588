"""A client of the local door: sends one request and waits for its result, as the platform's UI does."""

import asyncio
import base64
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from cellworker.errors import ErrorCode, WorkerError
from cellworker.identifiers import FileName, parse
from cellworker.local.door import engineio
from cellworker.local.door.admission import TOKEN_HEADER, split_token
from cellworker.protocol.encoding import decompress
from cellworker.protocol.events import heartbeat_event, result_event

__all__ = ["Submitted", "submit", "submit_async"]

_POLL_S = 0.5
_PIECE = 1 << 20
_UNNAMED = "result"


@dataclass(frozen=True, slots=True)
class Submitted:
    """An answer.

    Attributes
    ----------
    etag
        The name of the result.
    content
        The decoded result's JSON text; None for a file, and for tasks whose only effect is new cell sets.
    file
        A file result, saved; the caller removes it.
    repeated
        Whether it came from the store without computing.
    """

    etag: str
    content: bytes | None = None
    file: Path | None = None
    repeated: bool = False

    @property
    def value(self) -> Any:  # noqa: ANN401 - any JSON value
        """The decoded result, None where there is none."""
        return None if self.content is None else orjson.loads(self.content)


def submit(url: str, body: Mapping[str, Any], **options: Any) -> Submitted:  # noqa: ANN401
    """Send one request as `submit_async` does, for programs without an event loop."""
    return asyncio.run(submit_async(url, body, **options))


async def submit_async(
    url: str,
    body: Mapping[str, Any],
    *,
    experiment_id: str | None = None,
    request_props: Mapping[str, Any] | None = None,
    authorization: str | None = None,
    timeout_s: float = 1800.0,
    folder: Path | None = None,
    on_heartbeat: Callable[[dict[str, Any]], object] | None = None,
) -> Submitted:
    """Send one request and wait for its result.

    Parameters
    ----------
    url
        Address of the worker, for example ``http://127.0.0.1:4000``, with the token that `cellworker run` prints
        where it needs one.
    body
        The task's body, with its ``name``.
    experiment_id
        By default the id that the worker serves.
    request_props
        For example ``{"pagination": {...}}``.
    authorization
        Sent as the header of that name.
    timeout_s
        Max seconds to wait.
    folder
        Where a file result is saved; the system's temporary folder by default.
    on_heartbeat
        Called with each heartbeat of the experiment.

    Raises
    ------
    WorkerError
        The request's error; ``DEADLINE_EXCEEDED``; ``INVALID_INPUT`` when nothing answers at `url` or the request is
        refused.
    """
    url, token = split_token(url)
    client = _Client(url, folder, on_heartbeat)
    headers = {TOKEN_HEADER: token} if token else {}
    try:
        async with asyncio.timeout(timeout_s), aiohttp.ClientSession(headers=headers) as session:
            experiment_id = experiment_id or await client.served_id(session)
            question = {
                "experimentId": experiment_id,
                "timeout": (datetime.now(UTC) + timedelta(seconds=timeout_s)).isoformat(),
                "body": body,
                "requestProps": request_props or {"broadcast": False, "cacheUniquenessKey": None},
            }
            return await client.ask(session, question, authorization)
    except TimeoutError:
        message = f"No result came within {timeout_s:g} seconds. It may still be stored later: ask again."
        raise WorkerError(ErrorCode.DEADLINE_EXCEEDED, message) from None
    except aiohttp.ClientConnectionError:
        message = f"No worker answers at {url}. Start one with 'cellworker run', or name another with --url."
        raise WorkerError(ErrorCode.INVALID_INPUT, message) from None


class _Client:
    def __init__(self, url: str, folder: Path | None, on_heartbeat: Callable[[dict[str, Any]], object] | None) -> None:
        self._url = url
        self._folder = folder
        self._on_heartbeat = on_heartbeat

    async def ask(
        self, session: aiohttp.ClientSession, question: Mapping[str, Any], authorization: str | None
    ) -> Submitted:
        experiment_id = question["experimentId"]
        # Listen first, so that no event is missed.
        async with self._events(session) as events:
            headers = {} if authorization is None else {"Authorization": authorization}
            address = f"{self._url}/v2/workRequest/{experiment_id}"
            async with session.post(address, json=question, headers=headers) as response:
                answer = await _json(response)
            if response.status != 200:
                raise _told(answer)
            etag, ready = answer["data"]["ETag"], answer["data"]["signedUrl"]
            if ready is not None:
                return await self._fetch(session, etag, ready, repeated=True)
            if events is None:
                return await self._poll(session, etag)
            wanted, beat = result_event(etag), heartbeat_event(experiment_id)
            async for name, payload in events:
                if name == beat and self._on_heartbeat is not None:
                    self._on_heartbeat(payload)
                if name == wanted:
                    return await self._read(session, etag, payload)
        return await self._poll(session, etag)  # the connection is lost; the result is stored all the same

    async def served_id(self, session: aiohttp.ClientSession) -> str:
        async with session.get(f"{self._url}/health") as response:
            answer = await _json(response)
        if response.status in (401, 403):
            raise _told(answer)
        served: object = answer.get("experimentId")
        if not isinstance(served, str):
            message = f"What answers at {self._url} is no cellworker."
            raise WorkerError(ErrorCode.INVALID_INPUT, message)
        return served

    @contextlib.asynccontextmanager
    async def _events(self, session: aiohttp.ClientSession) -> AsyncIterator[AsyncIterator[tuple[str, Any]] | None]:
        """Connect to the events; None where that is not possible."""
        address = f"{self._url}/socket.io/?EIO=4&transport=websocket"
        try:
            socket = await session.ws_connect(address, max_msg_size=0)
        except aiohttp.WSServerHandshakeError:
            yield None
            return
        async with socket:
            await socket.receive_str()
            await socket.send_str(engineio.CONNECT)
            while not (await socket.receive_str()).startswith(engineio.CONNECT):
                pass
            yield _packets(socket)

    async def _read(self, session: aiohttp.ClientSession, etag: str, payload: Any) -> Submitted:  # noqa: ANN401
        if isinstance(payload, str):
            return Submitted(etag, decompress(base64.b64decode(payload)))
        response = payload["response"]
        if response["error"]:
            raise _error(response.get("errorCode"), response.get("userMessage"))
        if not response["cacheable"]:
            return Submitted(etag)
        return await self._fetch(session, etag, f"{self._url}/results/{etag}")

    async def _poll(self, session: aiohttp.ClientSession, etag: str) -> Submitted:
        address = f"{self._url}/results/{etag}"
        while True:
            async with session.head(address) as response:
                if response.status == 200:
                    break
            await asyncio.sleep(_POLL_S)
        return await self._fetch(session, etag, address)

    async def _fetch(
        self, session: aiohttp.ClientSession, etag: str, address: str, *, repeated: bool = False
    ) -> Submitted:
        async with session.get(address) as response:
            if response.status != 200:
                raise _told(await _json(response))
            name = response.content_disposition.filename if response.content_disposition else None
            if name is None:
                return Submitted(etag, decompress(await response.read()), repeated=repeated)
            folder = tempfile.mkdtemp(prefix="cellworker-") if self._folder is None else self._folder
            path = Path(folder) / (parse(FileName, name, "result") or _UNNAMED)
            with path.open("wb") as file:
                async for piece in response.content.iter_chunked(_PIECE):
                    file.write(piece)
            return Submitted(etag, file=path, repeated=repeated)


async def _packets(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[tuple[str, Any]]:
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.TEXT:
            break
        packet = message.data
        if packet == engineio.PING:
            await socket.send_str(engineio.PONG)
        elif packet.startswith(engineio.EVENT):
            name, payload = orjson.loads(packet[len(engineio.EVENT) :])
            yield name, payload


async def _json(response: aiohttp.ClientResponse) -> dict[str, Any]:
    try:
        value = orjson.loads(await response.read())
    except orjson.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {}


def _told(answer: Mapping[str, Any]) -> WorkerError:
    errors = answer.get("errors") or [{}]
    code = errors[0].get("code") if isinstance(errors[0], dict) else None
    return _error(code, answer.get("message"))


def _error(code: object, message: object) -> WorkerError:
    known = ErrorCode(code) if isinstance(code, str) and code in list(ErrorCode) else ErrorCode.INVALID_INPUT
    return WorkerError(known, str(message or "The worker refused the request without a reason."))
