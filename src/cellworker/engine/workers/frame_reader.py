"""The engine's end of the stream of frames from a worker process, within its event loop."""

import asyncio
from collections.abc import Callable

from cellworker.engine.workers.frames import HEADER, LARGEST, FrameKind

__all__ = ["FrameReader"]

_STAGE_BYTES = 1 << 16


class FrameReader(asyncio.BufferedProtocol):
    """Reads frames from a worker; large payloads go straight from the socket into their final buffer.

    Parameters
    ----------
    on_frame
        Called with each frame.
    on_lost
        Called once, when the stream ends or is malformed.
    """

    def __init__(self, on_frame: Callable[[FrameKind, bytes | bytearray], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._transport: asyncio.BaseTransport | None = None
        self._stage = bytearray(_STAGE_BYTES)
        self._held = 0
        self._kind = FrameKind.ANSWER
        self._payload: bytearray | None = None
        self._got = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Tell the owner."""
        self._on_lost()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return where the next bytes go."""
        if self._payload is not None:
            return memoryview(self._payload)[self._got :]
        return memoryview(self._stage)[self._held :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that came."""
        if self._payload is not None:
            self._got += nbytes
            if self._got == len(self._payload):
                payload, self._payload = self._payload, None
                self._on_frame(self._kind, payload)
            return
        self._held += nbytes
        self._parse()

    def _parse(self) -> None:
        start = 0
        while self._held - start >= HEADER.size:
            letter, length = HEADER.unpack_from(self._stage, start)
            body = start + HEADER.size
            if length > LARGEST or letter not in _LETTERS:
                self._held = 0
                if isinstance(self._transport, asyncio.Transport):
                    self._transport.abort()
                return
            if body + length <= self._held:
                self._on_frame(FrameKind(letter), bytes(self._stage[body : body + length]))
                start = body + length
            elif HEADER.size + length > _STAGE_BYTES:
                self._kind, self._payload, self._got = FrameKind(letter), bytearray(length), self._held - body
                self._payload[: self._got] = self._stage[body : self._held]
                start = self._held
            else:
                break
        self._stage[: self._held - start] = self._stage[start : self._held]
        self._held -= start


_LETTERS = frozenset(kind.value for kind in FrameKind)
