"""Reads request bodies, within limits of size and time."""

import asyncio

from aiohttp import web
from aiohttp.http import HttpProcessingError

from cellworker.errors import ErrorCode, WorkerError

__all__ = ["read_body"]

_BODY_S = 60.0


async def read_body(request: web.Request, *, largest: int, within_s: float = _BODY_S) -> bytes:
    """Return the whole body of a request, decompressed where needed.

    Parameters
    ----------
    request
        The request.
    largest
        Max bytes, decompressed.
    within_s
        Max seconds until it has arrived.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` for a body that is damaged or cut short.
    web.HTTPException
        ``HTTPRequestEntityTooLarge``, ``HTTPRequestTimeout``.
    """
    out = bytearray()
    try:
        async with asyncio.timeout(within_s):
            while piece := await request.content.readany():
                out += piece
                if len(out) > largest:
                    raise web.HTTPRequestEntityTooLarge(max_size=largest, actual_size=len(out))
    except TimeoutError:
        reason = f"The body did not arrive within {within_s:g} seconds."
        raise web.HTTPRequestTimeout(reason=reason) from None
    except (web.RequestPayloadError, HttpProcessingError):
        raise WorkerError(ErrorCode.INVALID_INPUT, "request: its body is damaged or cut short.") from None
    return bytes(out)
