"""The middleware of the local door: it applies `admission`, and answers errors in the API's form."""

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from cellworker.connections import Connections
from cellworker.errors import UNEXPECTED, ErrorCode, WorkerError
from cellworker.local.door.admission import Admission
from cellworker.logs import log

__all__ = ["add_cors", "guard"]

_METHODS = "GET, HEAD, POST, PATCH, DELETE, OPTIONS"

_logger = logging.getLogger(__name__)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guard(admission: Admission, connections: Connections) -> Middleware:
    """Return a middleware that checks admission, answers preflights, and turns errors into the API's form.

    Parameters
    ----------
    admission
        Decides on admission.
    connections
        Called for each complete request head.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: _Handler) -> web.StreamResponse:
        connections.begun(request.transport)
        try:
            admission.check(request)
            return web.Response(status=204) if request.method == "OPTIONS" else await handler(request)
        except WorkerError as error:
            status = 404 if error.code is ErrorCode.EXPERIMENT_NOT_FOUND else 400
            return _problem(status, error.message, str(error.code))
        except web.HTTPRedirection:
            raise
        except web.HTTPException as error:
            return _problem(error.status, error.reason)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 - the last handler before the client
            log(_logger, logging.ERROR, "request to the local server failed", path=request.path, error=error)
            return _problem(500, UNEXPECTED)

    return middleware


def add_cors(admission: Admission) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return a handler for ``on_response_prepare`` that lets pages of this machine read answers.

    The origin is named: socket.io-client 2.x sends its requests with credentials, which a star does not cover.
    """

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get("Origin")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        if not admission.framed:
            response.headers.setdefault("X-Frame-Options", "SAMEORIGIN")
        if origin is None or not admission.allows(origin, request):
            return
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Vary"] = "Origin"
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = _METHODS
            wanted = request.headers.get("Access-Control-Request-Headers", "Authorization, Content-Type")
            response.headers["Access-Control-Allow-Headers"] = wanted
            response.headers["Access-Control-Max-Age"] = "600"

    return add


def _problem(status: int, message: str, code: str | None = None) -> web.Response:
    return web.json_response(
        {"message": message, "errors": [{"code": code or str(status), "message": message}]}, status=status
    )
