"""The HTTP door of the local run: it takes requests as the platform's API does, and serves results and cell sets."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import orjson
from aiohttp import web

from cellworker.connections import Connections
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Experiment
from cellworker.gateway.core.cell_set_reading import CellSetsReader, whole
from cellworker.gateway.core.question import Question
from cellworker.identifiers import ETag, ExperimentId
from cellworker.local.columns import ColumnAnswers
from cellworker.local.door.admission import Admission
from cellworker.local.door.bodies import read_body
from cellworker.local.door.cell_sets import CellSetsDoor, VersionedCellSets
from cellworker.local.door.guard import add_cors, guard
from cellworker.local.door.socketio import SocketServer
from cellworker.local.etag import etag_of
from cellworker.local.notifications import SocketNotifications
from cellworker.local.page import tissue
from cellworker.local.page.facts import ExplorerFacts
from cellworker.local.page.pages import add_pages
from cellworker.local.results import DiskResults
from cellworker.protocol.columns import MEDIA_TYPE, accepts_columns
from cellworker.protocol.encoding import decompress
from cellworker.protocol.envelope import WorkRequest, parse_timeout
from cellworker.protocol.pagination import Pagination
from cellworker.protocol.validation import convert
from cellworker.tasks.task import Task
from cellworker.version import __version__

__all__ = ["LocalServer", "Served", "Source", "summarize"]

MAX_REQUEST_BYTES = 32 * 2**20
DEFAULT_TIMEOUT = timedelta(minutes=30)
REQUEST_NAME = "X-Request-Name"
"""What a client calls a request for typed columns; `DELETE` takes it in the place of an ETag."""
_NO_PROPS: Final[Mapping[str, Any]] = {"broadcast": False, "cacheUniquenessKey": None}
_STORED_AFTER_S = 1.0
"""Typed columns that took longer are stored: what is computed sooner is computed again, and fills no disk."""


@dataclass(frozen=True, slots=True)
class Served:
    """The served experiment, once it is open.

    Attributes
    ----------
    key
        Names the experiment's content.
    summary
        Facts for ``/health`` and the console, JSON-able.
    examples
        An example body of each task.
    explorer
        Facts for the explorer.
    barcodes
        Returns the barcode of each cell by its id, None for ids that no cell has.
    experiment
        The source of tissue pictures.
    """

    key: str
    summary: dict[str, Any] = field(default_factory=dict)
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)
    explorer: ExplorerFacts | None = None
    barcodes: Callable[[], list[str | None]] = list
    experiment: Experiment | None = None


class Source(Protocol):
    """Provides the experiment."""

    async def served(self) -> Served:
        """Return the served experiment; waits for the first load, and raises `WorkerError` when that fails."""
        ...

    def health(self) -> dict[str, Any]:
        """Return its state: ``status`` "up", "loading" or "failed", and more."""
        ...


class _Submission(msgspec.Struct):
    body: dict[str, Any]
    experiment_id: str | None = msgspec.field(name="experimentId", default=None)
    timeout: str | None = None
    request_props: dict[str, Any] | None = msgspec.field(name="requestProps", default=None)


class LocalServer:
    """One application with the door, the events and the results.

    Parameters
    ----------
    experiment_id
        The id that clients use.
    source, results, sockets, notifications, cell_sets
        The embedded adapters.
    submit
        Puts a message on the queue.
    find_task
        Looks a task up by its name.
    columns
        Answers requests for typed columns; None sends all requests through the queue.
    cancel
        Ends the work on an ETag; whether there was any.
    running
        Returns the ETags of the requests of the queue that are computed now, each with the name of its task.
    admission
        Decides on admission; by default as on loopback.
    connections
        Limits connections.
    """

    def __init__(
        self,
        experiment_id: ExperimentId,
        *,
        source: Source,
        results: DiskResults,
        cell_sets: VersionedCellSets,
        sockets: SocketServer,
        notifications: SocketNotifications,
        submit: Callable[[bytes], None],
        find_task: Callable[[str], Task],
        columns: ColumnAnswers | None = None,
        cancel: Callable[[str], bool] = lambda etag: False,  # noqa: ARG005 - a door without a work loop has no work to end
        running: Callable[[], dict[str, str]] = dict,
        admission: Admission | None = None,
        connections: Connections | None = None,
    ) -> None:
        self.experiment_id = experiment_id
        self._source = source
        self._results = results
        self._cell_sets = cell_sets
        self._reader = CellSetsReader()
        self._sockets = sockets
        self._notifications = notifications
        self._submit = submit
        self._find_task = find_task
        self._columns = columns
        self._cancel = cancel
        self._running = running
        self._admission = admission or Admission()
        self._connections = connections or Connections()

    def app(self) -> web.Application:
        """Return the application."""
        door = guard(self._admission, self._connections)
        app = web.Application(middlewares=[door], client_max_size=MAX_REQUEST_BYTES)
        app.on_response_prepare.append(add_cors(self._admission))
        add_pages(app, framed=self._admission.framed)
        app.router.add_get("/explorer.json", self._explorer_facts)
        app.router.add_get("/console.json", self._console_facts)
        app.router.add_get("/health", self._health)
        app.router.add_post("/v2/workRequest/{experiment}", self._work_request)
        app.router.add_get("/v2/workRequest/{experiment}", self._under_way)
        app.router.add_delete("/v2/workRequest/{experiment}/{etag}", self._cancel_request)
        routes = CellSetsDoor(
            self.experiment_id, self._cell_sets, self._sockets, check=self._check_id, largest=MAX_REQUEST_BYTES
        )
        routes.add_to(app, "/v2/experiments/{experiment}/cellSets")
        app.router.add_get("/v2/experiments/{experiment}/barcodes", self._barcodes)
        app.router.add_get("/v2/experiments/{experiment}/tissues/{number:[0-9]{1,6}}", self._tissue)
        app.router.add_get("/v2/experiments/{experiment}/tissues/{number:[0-9]{1,6}}/picture", self._tissue)
        app.router.add_get("/results/{etag}", self._result)
        self._sockets.attach(app)
        app.on_cleanup.append(self._end)
        return app

    def _check_id(self, request: web.Request) -> None:
        wanted = request.match_info["experiment"]
        if wanted != self.experiment_id:
            message = f"There is no experiment {wanted!r} here; this worker serves {self.experiment_id!r}."
            raise WorkerError(ErrorCode.EXPERIMENT_NOT_FOUND, message)

    async def _work_request(self, request: web.Request) -> web.StreamResponse:
        self._check_id(request)
        submission = convert(await _json_object(request), _Submission, "request")
        if submission.experiment_id not in (None, self.experiment_id):
            message = f"request.experimentId: is {submission.experiment_id!r}, the address says {self.experiment_id!r}."
            raise WorkerError(ErrorCode.INVALID_INPUT, message)
        question = self._check(submission)
        props = submission.request_props or _NO_PROPS
        wanted = accepts_columns(request.headers.get("Accept"))
        if wanted and self._columns is not None and question.task.columns is not None:
            return await self._in_columns(self._columns, request, submission, question)
        etag = await self._etag(submission.body, props, question.reads_cell_sets)
        url = f"{request.scheme}://{request.host}{self._admission.below}/results/{etag}"
        if self._results.find(etag) is not None:
            return web.json_response({"data": {"ETag": etag, "signedUrl": url}})
        authorization = request.headers.get("Authorization")
        envelope = {
            "signedUrl": url,
            "ETag": etag,
            **({} if authorization is None else {"Authorization": authorization}),
            "experimentId": self.experiment_id,
            "timeout": submission.timeout or (datetime.now(UTC) + DEFAULT_TIMEOUT).isoformat(),
            "body": submission.body,
            "requestProps": props,
        }
        WorkRequest.from_object(envelope)
        answer = web.json_response({"data": {"ETag": etag, "signedUrl": None}})
        try:
            await answer.prepare(request)
            await answer.write_eof()
        finally:
            self._notifications.asked(etag)
            self._submit(orjson.dumps(envelope))
        return answer

    async def _in_columns(
        self, columns: ColumnAnswers, request: web.Request, submission: _Submission, question: Question
    ) -> web.Response:
        """Answer with typed columns; a slow answer is stored under its ETag, as the results of the queue are."""
        props = submission.request_props or _NO_PROPS
        as_columns = partial(self._etag, submission.body, {**props, "as": MEDIA_TYPE}, question.reads_cell_sets)
        etag = content = None
        try:
            if question.lane == "long":
                etag = await as_columns()
                content = await self._results.get(etag)
            if content is None:
                clock = asyncio.get_running_loop().time
                begun = clock()
                named = request.headers.get(REQUEST_NAME, "")
                gone = partial(_has_gone, request)
                key = (await self._source.served()).key
                content = await columns.answer(question, props.get("pagination"), gone, named, key)
                # Not where another experiment, or other cell sets, came meanwhile: nobody knows of which it is.
                if etag is not None and clock() - begun > _STORED_AFTER_S and etag == await as_columns():
                    await self._results.put(etag, content, {"requestType": question.task.name})
        except WorkerError as error:
            # As in the event of queued requests: a task's refusal is an answer, no HTTP error.
            refusal = {"error": True, "errorCode": str(error.code), "userMessage": error.message}
            return web.json_response({"response": refusal})
        return web.Response(body=content, content_type=MEDIA_TYPE)

    async def _etag(self, body: Mapping[str, Any], props: Mapping[str, Any], reads_cell_sets: bool) -> ETag:  # noqa: FBT001
        served = await self._source.served()
        return etag_of(body, props, served.key, await self._cell_sets_version() if reads_cell_sets else "")

    def _check(self, submission: _Submission) -> Question:
        """Return what is asked; refuse what the API would refuse, naming the field."""
        name = submission.body.get("name")
        if not isinstance(name, str) or not name:
            raise WorkerError(ErrorCode.INVALID_INPUT, "body.name: expected the name of a task.")
        question = Question.of(submission.body, name, self._find_task)
        pagination = (submission.request_props or {}).get("pagination")
        if isinstance(pagination, dict):
            convert(pagination, Pagination, "requestProps.pagination")
        elif pagination is not None:
            raise WorkerError(ErrorCode.INVALID_INPUT, "requestProps.pagination: expected an object.")
        if submission.timeout is not None:
            try:
                passed = parse_timeout(submission.timeout) <= datetime.now(UTC)
            except ValueError:
                complaint = "request.timeout: expected a date and time such as 2026-07-23T17:55:43.000Z."
                raise WorkerError(ErrorCode.INVALID_INPUT, complaint) from None
            if passed:
                raise WorkerError(ErrorCode.INVALID_INPUT, "request.timeout: lies in the past.")
        return question

    async def _result(self, request: web.Request) -> web.StreamResponse:
        etag = request.match_info["etag"]
        path = self._results.find(ETag(etag)) if ETag.fits(etag) else None
        if path is None:
            raise web.HTTPNotFound(reason="There is no such result.")
        name = await asyncio.to_thread(self._file_name, ETag(etag), path)
        if name is None and request.query.get("decode") in ("1", "true"):
            content = await asyncio.to_thread(lambda: decompress(path.read_bytes()))
            return web.Response(body=content, content_type="application/json", charset="utf-8")
        headers = {"Content-Type": "application/octet-stream"}
        if name is not None:
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return web.FileResponse(path, headers=headers)

    def _file_name(self, etag: ETag, path: Path) -> str | None:
        """Return the file name of a result, None for a result that is no file."""
        try:
            task = self._find_task(self._results.tags(etag).get("requestType", ""))
        except WorkerError:
            return None
        return None if task.file_name is None else task.file_name(path)

    async def _barcodes(self, request: web.Request) -> web.Response:
        self._check_id(request)
        served = await self._source.served()
        content = await asyncio.to_thread(orjson.dumps, served.barcodes())
        return web.Response(body=content, content_type="application/json")

    async def _tissue(self, request: web.Request) -> web.Response:
        self._check_id(request)
        experiment = (await self._source.served()).experiment
        if experiment is None:
            raise web.HTTPNotFound(reason="This worker has no facts for the explorer.")
        number = int(request.match_info["number"])
        if request.path.endswith("/picture"):
            content = await asyncio.to_thread(tissue.picture, experiment, number)
            return web.Response(body=content, content_type="image/png", headers={"Cache-Control": "no-cache"})
        content = await asyncio.to_thread(tissue.places, experiment, number)
        return web.Response(body=content, content_type="application/json")

    async def _health(self, request: web.Request) -> web.Response:  # noqa: ARG002
        facts = {"status": "loading", "experimentId": self.experiment_id, "version": __version__}
        return web.json_response({**facts, **self._source.health(), "clients": self._sockets.clients})

    async def _cell_sets_version(self) -> str:
        content = await self._cell_sets.read(self.experiment_id)
        return await asyncio.to_thread(lambda: hashlib.sha256(whole(content)).hexdigest())

    async def _cancel_request(self, request: web.Request) -> web.Response:
        self._check_id(request)
        named = request.match_info["etag"]
        cancelled = self._cancel(named) or (self._columns is not None and self._columns.cancel(named))
        return web.json_response({"data": {"cancelled": cancelled}})

    async def _under_way(self, request: web.Request) -> web.Response:
        """List what is computed now: a page that was closed or loaded again finds its work."""
        self._check_id(request)
        found = [{"ETag": etag, "name": name} for etag, name in self._running().items()]
        return web.json_response({"data": found})

    async def _end(self, app: web.Application) -> None:  # noqa: ARG002
        if self._columns is not None:
            self._columns.close()

    async def _explorer_facts(self, request: web.Request) -> web.Response:  # noqa: ARG002
        served = await self._source.served()
        if served.explorer is None:
            raise web.HTTPNotFound(reason="This worker has no facts for the explorer.")
        return web.Response(body=msgspec.json.encode(served.explorer), content_type="application/json")

    async def _console_facts(self, request: web.Request) -> web.Response:  # noqa: ARG002
        served = await self._source.served()
        content = await self._cell_sets.read(self.experiment_id)
        cell_sets = summarize(await self._reader.read(content))
        facts = {"experimentId": self.experiment_id, "version": __version__, "examples": served.examples}
        return web.json_response({**facts, "summary": {**served.summary, "cellSets": cell_sets}})


def summarize(cell_sets: CellSets) -> list[dict[str, Any]]:
    """Return the console's summary of cell sets: each class with its number of sets."""
    return [
        {"key": item.key, "name": item.name, "type": item.type, "sets": len(item.children)}
        for item in cell_sets.classes
    ]


def _has_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


async def _json_object(request: web.Request) -> dict[str, Any]:
    try:
        value = orjson.loads(await read_body(request, largest=MAX_REQUEST_BYTES))
    except orjson.JSONDecodeError as error:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"request: not JSON ({error}).") from None
    if not isinstance(value, dict):
        raise WorkerError(ErrorCode.INVALID_INPUT, "request: expected an object.")
    return value
