"""Who may talk to a server on a person's machine: programs, and pages of the same machine; no page of the wide web."""

import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from cellworker.errors import ErrorCode, WorkerError
from cellworker.logs import log

__all__ = ["add_cors", "guard"]

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_METHODS = "GET, HEAD, POST, PATCH, DELETE, OPTIONS"
_GENERIC = "An unexpected error occurred while performing the work."

_logger = logging.getLogger(__name__)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guard(*, loopback_only: bool) -> Middleware:
    """Return a middleware that refuses foreign pages, answers preflights, and turns errors into the API's form.

    Parameters
    ----------
    loopback_only
        The server listens on loopback, so a Host header that names anything else is a page that made its own name
        point here (DNS rebinding).
    """

    @web.middleware
    async def middleware(request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            _refuse_foreigners(request, loopback_only=loopback_only)
            return web.Response(status=204) if request.method == "OPTIONS" else await handler(request)
        except WorkerError as error:
            status = 404 if error.code is ErrorCode.EXPERIMENT_NOT_FOUND else 400
            return _problem(status, error.message, str(error.code))
        except web.HTTPException as error:
            return _problem(error.status, error.reason)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 - the last line before the client
            log(_logger, logging.ERROR, "request to the local server failed", path=request.path, error=error)
            return _problem(500, _GENERIC)

    return middleware


async def add_cors(request: web.Request, response: web.StreamResponse) -> None:
    """Let pages of this machine read the answer (a signal for ``on_response_prepare``).

    The origin is named: socket.io-client 2.x sends its requests with credentials, which a star does not cover.
    """
    origin = request.headers.get("Origin")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    if origin is None or not _allowed(origin, request):
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Allow-Credentials"] = "true"
    response.headers["Vary"] = "Origin"
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        wanted = request.headers.get("Access-Control-Request-Headers", "Authorization, Content-Type")
        response.headers["Access-Control-Allow-Headers"] = wanted
        response.headers["Access-Control-Max-Age"] = "600"


def _refuse_foreigners(request: web.Request, *, loopback_only: bool) -> None:
    if loopback_only and _host_name(request.host) not in _LOOPBACK:
        raise web.HTTPForbidden(reason="This worker answers to the names of its own machine only.")
    origin = request.headers.get("Origin")
    if origin is not None and not _allowed(origin, request):
        raise web.HTTPForbidden(reason="Pages of other machines may not use this worker.")


def _allowed(origin: str, request: web.Request) -> bool:
    parts = urlsplit(origin)
    return parts.scheme in ("http", "https") and (parts.hostname in _LOOPBACK or parts.netloc == request.host)


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _problem(status: int, message: str, code: str | None = None) -> web.Response:
    return web.json_response(
        {"message": message, "errors": [{"code": code or str(status), "message": message}]}, status=status
    )
