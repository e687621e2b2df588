"""The engine over HTTP (contract 7): asks it, follows its progress, and waits while it is down."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from itertools import count
from types import TracebackType
from typing import Any, NoReturn, Self

import aiohttp
import orjson
from yarl import URL

from cellworker.errors import UNEXPECTED, ErrorCode, WorkerError
from cellworker.gateway.core.cancel_tasks import end
from cellworker.gateway.core.retry import Backoff
from cellworker.gateway.engine_client.engine_watch import EngineAwayError, EngineWatch
from cellworker.gateway.engine_client.session import engine_session
from cellworker.logs import log
from cellworker.tasks.task import Task

__all__ = ["HttpEngine"]

OnProgress = Callable[[str, float | None], Awaitable[None]]

_QUIET_S = 0.5
"""Seconds after which the progress of a request is polled."""
_BETWEEN_NEWS_S = 0.2
_LARGE_REQUEST, _PIECE = 1 << 20, 1 << 18
"""Bytes."""
_HEAD, _TAIL, _FAILED = b'{"data":', b',"error":null}', b'{"data":[],"error":{'
_AWAY = "The part of the worker that computes could not be reached. Please try again in a few minutes."
_BUSY = "Too many requests are waiting already. Please try again in a few minutes."
_OUT_OF_DATE = "The experiment is still being read. Please try again in a few minutes."
_LOST = (
    "The part of the worker that computes ended {} times while it worked on this request. Please report this, and try "
    "again with fewer cells or genes."
)

_logger = logging.getLogger(__name__)

_Lost = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError, ConnectionError)
"""The connection broke after it was there."""
_Unreached = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, EngineAwayError)
"""There was never a connection."""


class _TryLaterError(Exception):
    """The engine cannot answer just now; holds what to say if that stays so, and when to ask again at the earliest."""

    def __init__(self, error: WorkerError, after_s: float = 0.0) -> None:
        super().__init__(error.message)
        self.error = error
        self.after_s = after_s


class HttpEngine:
    """Asks the engine; an async context manager.

    Calls wait while the engine restarts, reads the experiment or is busy: computing has no side effects, so
    that a request can be sent again. A request whose connection breaks is sent again a limited number of times,
    since it may be what crashes the engine. Cancelling a call closes its connection, which stops the computation.

    Parameters
    ----------
    url
        Where the engine listens.
    find_task
        Looks a task up by its name.
    experiment_id
        The experiment that requests are about: an engine that has changed over to another one does not answer them.
        Empty asks for the experiment that is served.
    retry_budget_s
        Retry budget while the engine does not answer, in seconds.
    crash_attempts
        Max number of times that a request is sent again after its connection breaks.
    watch
        Reports when the engine hangs: its requests are then sent again.
    traceparent
        Returns the W3C header of the span that a call belongs to; None where nothing is traced.
    """

    def __init__(
        self,
        url: str,
        find_task: Callable[[str], Task],
        *,
        experiment_id: str = "",
        retry_budget_s: float = 120.0,
        crash_attempts: int = 2,
        watch: EngineWatch | None = None,
        traceparent: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._url = URL(url.rstrip("/"))
        self._find_task = find_task
        self._headers = {"Content-Type": "application/json"}
        if experiment_id:
            self._headers["X-Experiment-Id"] = experiment_id
        self._retry_budget_s = retry_budget_s
        self._crash_attempts = crash_attempts
        self._guard: Callable[[], AbstractAsyncContextManager[None]] = watch.guard if watch else nullcontext
        self._traceparent = traceparent
        self._session: aiohttp.ClientSession | None = None
        self._paths: dict[str, URL] = {}
        self._ids = (f"{name}.{number}" for name in (secrets.token_hex(4),) for number in count())
        self._away = False

    async def __aenter__(self) -> Self:
        self._session = engine_session()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def compute(self, task: str, request: bytes, on_progress: OnProgress | None = None) -> bytes:
        """Return the JSON text of the task's value; for a file result, of the file's path.

        Raises
        ------
        WorkerError
            The engine's error; ``TASK_CRASHED`` for a request that the engine does not survive;
            ``ENGINE_BUSY``, ``EXPERIMENT_OUT_OF_DATE`` or what keeps the engine from reading the experiment, when
            the retry budget is spent.
        """
        found = self._find_task(task)
        backoff: Backoff | None = None
        lost = 0
        while True:
            try:
                value = await self._ask(found, request, on_progress)
            except _Unreached as error:
                reason, later = type(error).__name__, _TryLaterError(WorkerError(ErrorCode.TASK_CRASHED, _AWAY))
            except _Lost as error:
                lost += 1
                reason, later = type(error).__name__, _TryLaterError(WorkerError(ErrorCode.TASK_CRASHED, _AWAY))
                if lost > self._crash_attempts:
                    log(_logger, logging.ERROR, "engine lost again and again", task=task, times=lost, reason=reason)
                    raise WorkerError(ErrorCode.TASK_CRASHED, _LOST.format(lost)) from None
                # The engine answered a moment ago: this outage gets a retry budget of its own.
                backoff = None
            except _TryLaterError as error:
                reason, later = str(error.error.code), error
            else:
                self._note(away=False)
                return value
            self._note(away=True, reason=reason)
            backoff = backoff or Backoff(self._retry_budget_s)
            if not await backoff.pause(later.after_s):
                raise await self._reason(later.error) from None

    async def _ask(self, task: Task, request: bytes, on_progress: OnProgress | None) -> bytes:
        assert self._session is not None, "the engine was not entered"
        request_id = next(self._ids)
        follower: list[asyncio.Task[None]] = []
        timer: asyncio.TimerHandle | None = None
        if on_progress is not None:

            def follow() -> None:
                follower.append(asyncio.create_task(self._follow(request_id, on_progress)))

            timer = asyncio.get_running_loop().call_later(_QUIET_S, follow)
        headers = {**self._headers, "X-Request-Id": request_id}
        if traceparent := self._traceparent():
            headers["traceparent"] = traceparent
        body = request if len(request) <= _LARGE_REQUEST else _pieces(request)
        headers["Content-Length"] = str(len(request))
        try:
            async with (
                self._guard(),
                self._session.post(self._path(task.path), data=body, headers=headers) as response,
            ):
                content = await response.read()
                if response.status != 200:
                    _refused(task, response, content)
                return _value(task, content)
        finally:
            if timer is not None:
                timer.cancel()
            await end(*follower)

    async def _follow(self, request_id: str, on_progress: OnProgress) -> None:
        """Pass on the engine's progress of a request, until the engine forgets it."""
        assert self._session is not None
        address = self._url / "v0" / "progress" / request_id
        sequence = 0
        while True:
            try:
                async with self._session.get(address.with_query(after=str(sequence))) as response:
                    if response.status != 200:
                        return
                    latest = orjson.loads(await response.read())
            except (aiohttp.ClientError, ConnectionError, TimeoutError, orjson.JSONDecodeError):
                # The request itself reports the error.
                return
            if latest["sequence"] > sequence:
                sequence = latest["sequence"]
                await on_progress(latest["stage"], latest["fraction"])
            if latest["finished"]:
                return
            await asyncio.sleep(_BETWEEN_NEWS_S)

    async def _reason(self, error: WorkerError) -> WorkerError:
        """Ask an engine that serves nothing for the reason; returns `error` where it gives none."""
        if error.code is not ErrorCode.EXPERIMENT_OUT_OF_DATE or self._session is None:
            return error
        try:
            async with self._session.get(self._url / "health" / "ready") as response:
                known = orjson.loads(await response.read())["error"]
            return _engine_error(known) if known else error
        except (aiohttp.ClientError, ConnectionError, TimeoutError, ValueError, TypeError, KeyError):
            return error

    def _path(self, path: str) -> URL:
        if path not in self._paths:
            self._paths[path] = self._url / "v0" / path
        return self._paths[path]

    def _note(self, *, away: bool, reason: str = "") -> None:
        """Log once that calls wait for the engine, and once that it is back."""
        if away == self._away:
            return
        self._away = away
        if away:
            log(_logger, logging.WARNING, "waiting for the engine", url=str(self._url), reason=reason)
        else:
            log(_logger, logging.INFO, "engine answers again", url=str(self._url))


async def _pieces(request: bytes) -> AsyncIterator[memoryview]:
    """Cut a large request into pieces: sent as one, it would be copied, and would hold up the event loop."""
    view = memoryview(request)
    for start in range(0, len(request), _PIECE):
        yield view[start : start + _PIECE]


def _value(task: Task, content: bytes) -> bytes:
    """Take the value out of an answer, where possible without parsing it: it may be a hundred megabytes."""
    if task.bare:
        if not content.startswith(_FAILED):
            return content
    elif content.startswith(_HEAD) and content.endswith(_TAIL):
        return content[len(_HEAD) : -len(_TAIL)]
    try:
        answer = orjson.loads(content)
        error = answer["error"]
        if not error:
            return orjson.dumps(answer["data"])
    except (ValueError, TypeError, KeyError):
        log(_logger, logging.ERROR, "engine answered what is no answer", task=task.name, bytes=len(content))
        raise WorkerError(ErrorCode.R_WORKER_UNHANDLED_ERROR, UNEXPECTED) from None
    found = _engine_error(error)
    if found.code is ErrorCode.REQUEST_CANCELLED:
        # Only this process can cancel it: so the engine ends, or switches to another experiment.
        raise _TryLaterError(WorkerError(ErrorCode.TASK_CRASHED, _AWAY))
    raise found


def _engine_error(error: Any) -> WorkerError:  # noqa: ANN401 - any JSON value
    code, message = (error.get("error_code"), error.get("user_message")) if isinstance(error, dict) else (None, None)
    try:
        known = ErrorCode(str(code))
    except ValueError:
        known = ErrorCode.R_WORKER_UNHANDLED_ERROR
        log(_logger, logging.WARNING, "engine answered an unknown error", code=str(code)[:100])
    return WorkerError(known, message if isinstance(message, str) and message else UNEXPECTED)


def _refused(task: Task, response: aiohttp.ClientResponse, content: bytes) -> NoReturn:
    if response.status == 409:
        raise _TryLaterError(WorkerError(ErrorCode.EXPERIMENT_OUT_OF_DATE, _OUT_OF_DATE))
    if response.status == 503:
        after = response.headers.get("Retry-After", "")
        raise _TryLaterError(
            WorkerError(ErrorCode.ENGINE_BUSY, _BUSY), min(float(after), 30.0) if after.isdecimal() else 1.0
        )
    text = content[:200].decode("utf-8", errors="replace")
    log(_logger, logging.ERROR, "engine refused a request", task=task.name, status=response.status, text=text)
    raise WorkerError(ErrorCode.R_WORKER_UNHANDLED_ERROR, UNEXPECTED)
