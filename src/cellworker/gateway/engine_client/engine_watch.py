"""Watches the engine: whether it answers, whether it serves, and whether it hangs.

A process that died breaks its connections. One that hangs (stopped, out of memory, stuck in the kernel) keeps them open
and answers nobody, so it is probed every second with a request that takes no time to answer.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import aiohttp
import orjson

from cellworker.gateway.core.cancel_tasks import end
from cellworker.gateway.engine_client.session import engine_session
from cellworker.logs import log

__all__ = ["EngineAwayError", "EngineHungError", "EngineWatch"]

_EVERY_S = 1.0
_MIN_SILENT_S = 1.0
_PROBE_TIMEOUT_S = 5.0
"""Timeout of one probe, in seconds. The engine never blocks its event loop that long."""

_logger = logging.getLogger(__name__)


class EngineHungError(ConnectionError):
    """The engine stopped answering during a call."""


class EngineAwayError(ConnectionError):
    """The engine hangs already; nothing is sent."""


class EngineWatch:
    """Probes the engine's health; an async context manager.

    Parameters
    ----------
    url
        Where the engine listens.
    silent_s
        Seconds without an answer after which an engine that takes connections counts as hanging.
    start_s
        If given, a refused connection counts as silence too, and the first answer may take this many seconds.
        Without it, an engine that does not listen counts as down, not as hanging.
    every_s, probe_timeout_s
        Seconds between two probes, and the timeout of one.

    Attributes
    ----------
    answers
        Whether it answered the last probe.
    serves
        Whether that answer said that it serves an experiment.
    hung
        Set while it hangs.
    """

    def __init__(
        self,
        url: str,
        *,
        silent_s: float,
        start_s: float | None = None,
        every_s: float = _EVERY_S,
        probe_timeout_s: float = _PROBE_TIMEOUT_S,
    ) -> None:
        self._url = f"{url.rstrip('/')}/health/ready"
        silent_s = max(silent_s, _MIN_SILENT_S)
        self._silent_s = silent_s
        self._start_s = start_s
        self._every_s = min(every_s, silent_s / 4)
        self._probe_timeout_s = min(probe_timeout_s, silent_s / 2)
        self._session: aiohttp.ClientSession | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._guards: set[asyncio.Timeout] = set()
        self._noted = 0
        self.answers = False
        self.serves = False
        self.hung = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._session = engine_session()
        self._watcher = asyncio.create_task(self._watch(), name="engine watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end(self._watcher)
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def trouble(self) -> str | None:
        """The engine's trouble, in a sentence; None while it answers."""
        if self.answers:
            return None
        return "The engine hangs." if self.hung.is_set() else "The engine does not answer."

    @contextlib.asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """End the block with an error when the engine hangs.

        Raises
        ------
        EngineAwayError
            At once, when it hangs already.
        EngineHungError
            When it begins to hang inside the block.
        """
        if self.hung.is_set():
            raise EngineAwayError("the engine hangs")
        limit = asyncio.timeout(None)
        self._guards.add(limit)
        try:
            async with limit:
                yield
        except TimeoutError:
            if limit.expired():
                raise EngineHungError("the engine hangs") from None
            raise
        finally:
            self._guards.discard(limit)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        silence_s, allowed_s = 0.0, max(self._silent_s, self._start_s or 0.0)
        while True:
            began = loop.time()
            heard = await self._ask()
            if heard:
                silence_s, allowed_s = 0.0, self._silent_s
                self._note_answer()
            elif heard is None:
                silence_s = 0.0
                self.hung.clear()
            else:
                # Time in which this process itself was paused does not count as the engine's silence.
                silence_s += min(loop.time() - began, self._probe_timeout_s) + self._every_s
                if silence_s >= allowed_s:
                    self._note_hung(silence_s)
            await asyncio.sleep(self._every_s)

    async def _ask(self) -> bool | None:
        """Probe once; return whether it answered, None for a refused connection that does not count as silence."""
        assert self._session is not None
        noted = self._noted
        try:
            async with asyncio.timeout(self._probe_timeout_s), self._session.get(self._url) as response:
                answer = orjson.loads(await response.read())
        except aiohttp.ClientConnectorError:
            self.answers = self.serves = False
            return None if self._start_s is None else False
        except (aiohttp.ClientError, ConnectionError, TimeoutError, ValueError):
            self.answers = self.serves = False
            return False
        self.answers = True
        if self._noted == noted:
            self.serves = isinstance(answer, dict) and answer.get("ready") is True
        return True

    def note_serving(self) -> None:
        """Note another caller's answer, which says that an experiment is served."""
        self._noted += 1
        self.answers = self.serves = True

    def _note_answer(self) -> None:
        if self.hung.is_set():
            log(_logger, logging.WARNING, "engine answers again after it hung")
            self.hung.clear()

    def _note_hung(self, silence_s: float) -> None:
        if self.hung.is_set():
            return
        log(_logger, logging.ERROR, "engine hangs", silent_s=round(silence_s, 1), requests=len(self._guards))
        self.hung.set()
        now = asyncio.get_running_loop().time()
        for limit in self._guards:
            limit.reschedule(now)
