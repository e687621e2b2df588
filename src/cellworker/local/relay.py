"""Carries a page's requests to its door for a browser that does not reach the door's port.

A notebook behind a proxy (JupyterHub, another machine) lets the browser speak to the kernel in messages only. The
page's half is ``api/view.js``. Each request and each socket of the page has its own id. What the door answers goes
back in pieces, of which a few travel unacknowledged: a large file must not fill the connection that all cells share.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, Literal

import aiohttp
import msgspec
from yarl import URL

__all__ = ["Relay", "Send"]

Send = Callable[[dict[str, Any], list[bytes]], None]
"""Sends one message to the notebook, from any thread."""

_PIECE_BYTES: Final = 2**19
_UNACKNOWLEDGED: Final = 32
"""Pieces under way at once: 16 MB, the coordinates of two million cells, arrive while the kernel runs a cell."""
_HEADERS: Final = frozenset({"accept", "content-type", "if-none-match", "x-cell-sets-version", "x-request-name"})
"""What the page may say beside its request."""


class _Request(msgspec.Struct, tag_field="kind", tag="request"):
    id: str
    path: str
    method: Literal["GET", "POST", "PATCH", "DELETE"] = "GET"
    headers: dict[str, str] = {}
    body: str | None = None


class _Open(msgspec.Struct, tag_field="kind", tag="open"):
    id: str
    path: str


class _Told(msgspec.Struct, tag_field="kind", tag="send"):
    id: str
    text: str


class _More(msgspec.Struct, tag_field="kind", tag="more"):
    id: str


class _Cancel(msgspec.Struct, tag_field="kind", tag="cancel"):
    id: str


class _Leave(msgspec.Struct, tag_field="kind", tag="leave"):
    name: str


_Message = _Request | _Open | _Told | _More | _Cancel | _Leave


class _Exchange:
    """A request or a socket under way."""

    def __init__(self, *, is_request: bool) -> None:
        self.is_request = is_request
        self.task: asyncio.Task[None] | None = None
        self.window = asyncio.Semaphore(_UNACKNOWLEDGED)
        self.told: asyncio.Queue[str] = asyncio.Queue()


class Relay:
    """The kernel's half.

    Parameters
    ----------
    loop
        The door's loop, where the relay works.
    url
        The address of the page, which ends with a slash. Nothing else is asked for.
    send
        Sends one message, with its binary parts.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, url: str, send: Send) -> None:
        self._loop = loop
        self._url = url
        self._send = send
        self._under_way: dict[str, _Exchange] = {}
        self._is_closed = False
        self._session: aiohttp.ClientSession | None = None

    def receive(self, content: object) -> None:
        """Take one message of the page, in any thread. What is none of the relay's messages is ignored."""
        with contextlib.suppress(msgspec.ValidationError):
            message = msgspec.convert(content, _Message)
            try:
                self._loop.call_soon_threadsafe(self._take, message)
            except RuntimeError:  # the door is closed
                self._refuse(message)

    async def close(self) -> None:
        """Cancel what is under way; a page that waits for an answer is told that none comes."""
        self._is_closed = True
        waiting = [key for key, item in self._under_way.items() if item.is_request]
        tasks = [item.task for item in self._under_way.values() if item.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        for key in waiting:
            self._tell(key, "failed")

    def _take(self, message: _Message) -> None:
        match message:
            case _Request() | _Open() if self._is_closed:
                self._refuse(message)
            case _Request() | _Open():
                if message.id not in self._under_way:
                    exchange = self._under_way[message.id] = _Exchange(is_request=isinstance(message, _Request))
                    exchange.task = self._loop.create_task(self._serve(message, exchange))
            case _Leave():
                for key in [key for key in self._under_way if key.startswith(f"{message.name}-")]:
                    self._cancel(key)
            case _Cancel():
                self._cancel(message.id)
            case _More() | _Told():
                known = self._under_way.get(message.id)
                if known is not None and isinstance(message, _Told):
                    known.told.put_nowait(message.text)
                elif known is not None:
                    known.window.release()

    def _refuse(self, message: _Message) -> None:
        """Tell the page that nothing comes, where it waits for something."""
        if isinstance(message, _Request | _Open):
            self._tell(message.id, "failed" if isinstance(message, _Request) else "closed")

    def _cancel(self, key: str) -> None:
        exchange = self._under_way.get(key)
        if exchange is not None and exchange.task is not None:
            exchange.task.cancel()

    async def _serve(self, message: _Request | _Open, exchange: _Exchange) -> None:
        try:
            if isinstance(message, _Request):
                await self._answer(message, exchange)
            else:
                await self._converse(message, exchange)
        except aiohttp.ClientError:
            self._tell(message.id, "failed")
        finally:
            del self._under_way[message.id]

    async def _answer(self, message: _Request, exchange: _Exchange) -> None:
        headers = {name: value for name, value in message.headers.items() if name.lower() in _HEADERS}
        body = None if message.body is None else message.body.encode()
        async with self._door().request(message.method, self._place(message.path), headers=headers, data=body) as said:
            head = {
                "status": said.status,
                "reason": said.reason or "",
                "type": said.headers.get("Content-Type", ""),
                "etag": said.headers.get("ETag", ""),
                "disposition": said.headers.get("Content-Disposition", ""),
            }
            async for piece in said.content.iter_chunked(_PIECE_BYTES):
                await exchange.window.acquire()
                self._tell(message.id, "answer", head, piece)
                head = {}
        self._tell(message.id, "answer", {**head, "last": True})

    async def _converse(self, message: _Open, exchange: _Exchange) -> None:
        try:
            async with self._door().ws_connect(self._place(message.path)) as socket:
                telling = asyncio.create_task(_tell_on(exchange.told, socket))
                try:
                    async for heard in socket:
                        if heard.type is aiohttp.WSMsgType.TEXT:
                            self._tell(message.id, "text", {"text": heard.data})
                finally:
                    telling.cancel()
                    await asyncio.gather(telling, return_exceptions=True)
        finally:
            self._tell(message.id, "closed")

    def _door(self) -> aiohttp.ClientSession:
        if self._session is None:
            # a computation may take long: its page cancels it, no clock does
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        return self._session

    def _place(self, path: str) -> URL:
        # the page has escaped it already; a second time would ask for another name
        return URL(self._url + path.lstrip("/"), encoded=True)

    def _tell(self, key: str, kind: str, more: dict[str, Any] | None = None, piece: bytes | None = None) -> None:
        self._send({"id": key, "kind": kind, **(more or {})}, [] if piece is None else [piece])


async def _tell_on(told: asyncio.Queue[str], socket: aiohttp.ClientWebSocketResponse) -> None:
    while True:
        await socket.send_str(await told.get())
