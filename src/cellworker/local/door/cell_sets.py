"""Cell sets over HTTP, and the news that they have changed.

Several pages may show one experiment, and a task, another program or a notebook's cell may change its cell sets. Each
content has a version. Pages hear of a new one (``CellSets-EXPERIMENT``), and say with a change which version they
made it on: a change on another version is refused, so that no one's work is written over unseen. The refusal is an
answer and no HTTP error, because it is no fault of anyone, and browsers log errors.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol

import orjson
from aiohttp import web

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.core.cell_set_reading import whole
from cellworker.gateway.core.ports import CellSetsSource
from cellworker.identifiers import ExperimentId
from cellworker.local.door.bodies import read_body
from cellworker.local.door.socketio import SocketServer
from cellworker.protocol.events import cell_sets_event

__all__ = ["CellSetsDoor", "ChangedMeanwhileError", "VersionedCellSets"]

_LOOK_INTERVAL_S: Final = 0.5
"""Seconds between looks for changes that were not made through this door; each is one question to the file system."""


_MADE_ON: Final = "X-Cell-Sets-Version"
"""Header of a change: the ETag of the cell sets that it was made on."""


class ChangedMeanwhileError(Exception):
    """The cell sets have another version than the one that a change was made on."""


class VersionedCellSets(CellSetsSource, Protocol):
    """Cell sets whose contents have versions."""

    async def version(self) -> str:
        """Name the current content, without reading it."""
        ...

    async def change(self, operations: list[dict[str, Any]], expected: str | None) -> str:
        """Apply operations of contract 5.22, and return the new version.

        Raises
        ------
        ChangedMeanwhileError
            When `expected` is not the current version; nothing was changed then.
        WorkerError
            ``CELL_SETS_UPDATE_FAILED`` naming what was refused.
        """
        ...


class CellSetsDoor:
    """The routes of cell sets.

    Parameters
    ----------
    experiment_id
        Whose cell sets.
    cell_sets
        Where they are.
    sockets
        Tells pages.
    check
        Refuses requests for other experiments.
    largest
        Bytes of a change.
    """

    def __init__(
        self,
        experiment_id: ExperimentId,
        cell_sets: VersionedCellSets,
        sockets: SocketServer,
        *,
        check: Callable[[web.Request], None],
        largest: int,
    ) -> None:
        self._experiment_id = experiment_id
        self._cell_sets = cell_sets
        self._sockets = sockets
        self._check = check
        self._largest = largest
        self._told = ""

    def add_to(self, app: web.Application, path: str) -> None:
        """Serve the routes, and watch for changes while the application runs."""
        app.router.add_get(path, self._get)
        app.router.add_patch(path, self._patch)
        app.cleanup_ctx.append(self._watching)

    async def _get(self, request: web.Request) -> web.Response:
        self._check(request)
        # before the content: a change between the two is then heard of, never missed
        tag = _tag(await self._cell_sets.version())
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        content = await asyncio.to_thread(whole, await self._cell_sets.read(self._experiment_id))
        return web.Response(body=content, content_type="application/json", headers=headers)

    async def _patch(self, request: web.Request) -> web.Response:
        self._check(request)
        try:
            operations = orjson.loads(await read_body(request, largest=self._largest))
        except orjson.JSONDecodeError as error:
            raise WorkerError(ErrorCode.INVALID_INPUT, f"request: not JSON ({error}).") from None
        expected = request.headers.get(_MADE_ON)
        try:
            version = await self._cell_sets.change(operations, None if expected is None else expected.strip('"'))
        except ChangedMeanwhileError:
            message = "Nothing was changed: the cell sets have another version now. Read them again."
            return web.json_response({"data": {"message": message, "code": 409}})
        self._tell(version)
        return web.json_response({"data": {"message": "success", "code": 200}}, headers={"ETag": _tag(version)})

    async def _watching(self, app: web.Application) -> AsyncIterator[None]:  # noqa: ARG002
        watching = asyncio.create_task(self._watch())
        yield
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_INTERVAL_S)
            if self._sockets.clients:
                with contextlib.suppress(WorkerError, OSError):  # a page that asks for the cell sets is told why
                    self._tell(await self._cell_sets.version())

    def _tell(self, version: str) -> None:
        if version != self._told:
            self._told = version
            self._sockets.broadcast(cell_sets_event(self._experiment_id), {"version": version})


def _tag(version: str) -> str:
    return f'"{version}"'
