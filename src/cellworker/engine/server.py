"""The HTTP surface of the engine: that of the original's R service (contract 7), with its errors corrected.

====================================  ==========================================================================
``GET /health``                       200 ``"up"``; 409 while requests cannot be answered
``GET /health/live``                  200 as long as the process answers
``GET /health/ready``                 200 or 503, JSON: what is served, its state, the last error, the lanes
``POST /v0/<task>``                   one request of contract section 5
``POST /reload``                      check the file at once; answers when its current content is served
``GET /v0/progress/<id>``             progress of the request that was posted with ``X-Request-Id: <id>``
====================================  ==========================================================================

Answers are 200: ``{"data": <value>, "error": null}``, or ``{"data": [], "error": {"error_code", "user_message"}}``.
GeneExpression's value comes bare, its errors do not. A file result's ``data`` is the path of a file of its own, which
the caller removes; what is left is removed after an hour and when the engine ends.

While the experiment's file is newer than what is served, requests are answered from the older one, which is whole and
consistent, until the new one is ready (decisions.md, loading). 409 says that nothing can be answered: the first
load is under way, or has failed.

A request with ``X-Experiment-Id: <id>`` is about that experiment: an engine that has another one by now answers
409. An engine that was started with a path ignores the header.

Reload: 200, JSON with ``generation`` (counts contents), ``instance`` (another one after a restart) and ``experiment``
(its id, null for an engine that was started with a path); 404 when there is no experiment, 422 when it cannot be read,
both as JSON ``{"error_code", "user_message"}``.

Progress: ``?after=<sequence>`` waits up to 25 seconds for later news; ``finished`` is true at the end, and
404 means that no such request is under way.

A client that disconnects stops its computation. Listening on loopback, only requests that name a loopback host are
answered, so that no web page can reach the experiment through a browser.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import orjson
from aiohttp import web

from cellworker.engine.request_progress import ProgressBoard
from cellworker.engine.workers.runner import Answer, MalformedBodyError, StoreLostError, TaskRunner
from cellworker.errors import UNEXPECTED, ErrorCode, WorkerError
from cellworker.logs import log
from cellworker.tasks.task import Task

__all__ = ["AnswerSource", "make_app"]

_BODY_BYTES = 256 << 20
_PIECE_BYTES = 1 << 20
_POLL_S = 25.0
_OUT_OF_DATE = b'{"error":"The file is out of date and is currently being updated."}'
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})

_logger = logging.getLogger(__name__)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AnswerSource(Protocol):
    """The experiment behind the server."""

    @property
    def runner(self) -> TaskRunner | None:
        """The runner, None while there is nothing to serve."""
        ...

    @property
    def name(self) -> str | None:
        """The id of the experiment; None where requests are not to be compared with it."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what is served and its state, JSON-able; ``ready`` tells whether requests can be answered."""
        ...

    async def reload(self) -> int:
        """Return the count of contents so far when what is there now is served; raises `WorkerError`."""
        ...


def make_app(served: AnswerSource, paths: dict[str, Task], *, loopback_only: bool = True) -> web.Application:
    """Make the application.

    Parameters
    ----------
    served
        The experiment.
    paths
        The tasks, by engine path.
    loopback_only
        Refuse requests whose Host header does not name this machine.
    """
    surface = _Surface(served)
    app = web.Application(client_max_size=_BODY_BYTES, middlewares=[_own_host_only] if loopback_only else [])
    app.router.add_get("/health", surface.health)
    app.router.add_get("/health/live", surface.live)
    app.router.add_get("/health/ready", surface.ready)
    app.router.add_get("/v0/progress/{id}", surface.progress)
    app.router.add_post("/reload", surface.reload)
    for path, task in paths.items():
        app.router.add_post(f"/v0/{path}", surface.handler(task))
    return app


@web.middleware
async def _own_host_only(request: web.Request, handler: _Handler) -> web.StreamResponse:
    name = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
    if name.lower() not in _LOOPBACK_NAMES:
        raise web.HTTPForbidden(text="This engine answers only to clients on its own machine.")
    # A browser adds these for a page: programs send neither, and an address typed by a person sends "none".
    if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none").lower() != "none":
        raise web.HTTPForbidden(text="This engine answers programs, and no page in a browser.")
    return await handler(request)


class _Surface:
    def __init__(self, served: AnswerSource) -> None:
        self._served = served
        self._board = ProgressBoard()
        self._instance = secrets.token_hex(8)

    async def health(self, _: web.Request) -> web.Response:
        return _json(b'"up"') if self._served.describe()["ready"] else _out_of_date()

    async def live(self, _: web.Request) -> web.Response:
        return _json(b'{"status":"up"}')

    async def ready(self, _: web.Request) -> web.Response:
        description = self._served.describe()
        return _json(orjson.dumps(description), 200 if description["ready"] else 503)

    async def reload(self, _: web.Request) -> web.Response:
        try:
            generation = await self._served.reload()
        except WorkerError as error:
            status = 404 if error.code is ErrorCode.EXPERIMENT_NOT_FOUND else 422
            return _json(orjson.dumps({"error_code": error.code, "user_message": error.message}), status)
        known = {"generation": generation, "instance": self._instance, "experiment": self._served.name}
        return _json(orjson.dumps(known))

    async def progress(self, request: web.Request) -> web.Response:
        after = request.query.get("after")
        if after is not None and not (after.isascii() and after.isdecimal()):
            raise web.HTTPBadRequest(text="after: must be a sequence number from an earlier answer")
        latest = await self._board.latest(request.match_info["id"], None if after is None else int(after), _POLL_S)
        if latest is None:
            raise web.HTTPNotFound(text="No request with this id is under way.")
        return _json(orjson.dumps(latest))

    def handler(self, task: Task) -> _Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            started = time.perf_counter()
            facts: dict[str, Any] = {"status": 499}
            try:
                response = await self._answer(task, request, facts)
                facts["status"] = response.status
            except web.HTTPException as refusal:
                facts["status"] = refusal.status
                raise
            else:
                return response
            finally:
                log(
                    _logger,
                    logging.INFO,
                    "request",
                    task=task.name,
                    ms=round(1e3 * (time.perf_counter() - started), 1),
                    **facts,
                )

        return handle

    async def _answer(self, task: Task, request: web.Request, facts: dict[str, Any]) -> web.StreamResponse:
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="Send the request as Content-Type: application/json.")
        body = await request.read()
        # No await may come between here and the runner, so that a switch of experiments comes before or after.
        runner, name = self._served.runner, self._served.name
        if runner is None or (name is not None and request.headers.get("X-Experiment-Id", name) != name):
            return _out_of_date()
        request_id = request.headers.get("X-Request-Id")
        if request_id is not None and not self._board.begin(request_id):
            message = (
                "X-Request-Id: must be 1 to 128 letters, digits or any of _.:- and not that of a request under way"
            )
            raise web.HTTPBadRequest(text=message)
        try:
            answer = await runner.run(task, body, self._reporter(request_id))
        except MalformedBodyError as error:
            raise web.HTTPBadRequest(text=error.message) from None
        except StoreLostError:
            return _out_of_date()
        except WorkerError as error:
            facts["error_code"] = error.code
            if error.code is ErrorCode.ENGINE_BUSY:
                return web.Response(text=error.message, status=503, headers={"Retry-After": "1"})
            return _failure(error)
        except Exception as error:  # noqa: BLE001 a bug of ours: the traceback goes to the log, the generic message out
            log(_logger, logging.ERROR, "request failed", task=task.name, error=error)
            return _failure(WorkerError(ErrorCode.R_WORKER_UNHANDLED_ERROR, UNEXPECTED))
        finally:
            if request_id is not None:
                self._board.end(request_id)
        return await _success(request, task, answer, facts)

    def _reporter(self, request_id: str | None) -> Callable[[str, float | None], None] | None:
        if request_id is None:
            return None
        return lambda stage, fraction: self._board.report(request_id, stage, fraction)


async def _success(request: web.Request, task: Task, answer: Answer, facts: dict[str, Any]) -> web.StreamResponse:
    value = orjson.dumps(str(answer.file)) if answer.file else answer.data
    head, tail = (b"", b"") if task.bare else (b'{"data":', b',"error":null}')
    facts["bytes"] = len(value)
    if len(value) <= _PIECE_BYTES and answer.file is None:
        return _json(head + value + tail)
    response = web.StreamResponse()
    response.content_type = "application/json"
    response.content_length = len(head) + len(value) + len(tail)
    try:
        await response.prepare(request)
        await response.write(head)
        view = memoryview(value)
        for start in range(0, len(view), _PIECE_BYTES):
            await response.write(view[start : start + _PIECE_BYTES])
        await response.write(tail)
        await response.write_eof()
    except (OSError, asyncio.CancelledError):
        # No client knows of the file, so it is removed here.
        _remove(answer.file)
        raise
    return response


def _remove(file: Path | None) -> None:
    if file:
        file.unlink(missing_ok=True)


def _failure(error: WorkerError) -> web.Response:
    return _json(orjson.dumps({"data": [], "error": {"error_code": error.code, "user_message": error.message}}))


def _out_of_date() -> web.Response:
    return web.Response(body=_OUT_OF_DATE, status=409, content_type="text/plain")


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
