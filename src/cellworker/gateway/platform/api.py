"""The platform's API: changes cell sets there, in the name of the user who asked (contract 5.22)."""

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.core.cell_set_patches import Repeatable, applied, examine
from cellworker.gateway.core.cell_set_reading import CellSetsFile
from cellworker.gateway.core.ports import Claim, NotHeldError
from cellworker.gateway.core.retry import Backoff
from cellworker.gateway.platform.fenced_body import FencedBody, awake_s
from cellworker.identifiers import ExperimentId
from cellworker.logs import log, redact

__all__ = ["PlatformCellSets"]

_HEADERS = {
    "Content-Type": "application/boschni-json-merger+json",
    "Accept": "application/json, text/xml, application/xml, */*",
}
_LONGEST_REASON = 300
_CONNECT_S = 10.0
_LOOK_AGAIN_S = 0.5
_JUST_NOW_S = 30.0
"""Less than the silence after which a request is taken over (90 s), less the time between two renewals (20 s)."""
_UNAUTHORIZED = "the request carries no authorization. Please reload the page, sign in and try again"
_MAY_HAVE = "The platform did not say whether it changed the cell sets ({}). Please reload the page and look."

_logger = logging.getLogger(__name__)

_Sent = Literal["done", "withheld", "not sent", "unsure", "under way"]
"""How far a patch came. "under way": the API may still be working on it, for as long as an answer may take."""
_NO_VERDICT: dict[int, _Sent] = {429: "not sent", 502: "unsure", 503: "unsure", 504: "under way"}
"""A proxy between us and the API sends the last three: the API may have applied the patch before it failed."""


class PlatformCellSets:
    """Cell sets as the platform keeps them; an async context manager.

    One patch at a time is sent for an experiment, because the API reads and writes without a lock.

    Parameters
    ----------
    reader
        Returns the cell_sets.json of an experiment as it is at the time of the call.
    api_url
        Where the API is.
    retry_budget_s
        Retry budget in seconds.
    timeout_s
        Timeout of one answer, in seconds.
    settle_s
        Seconds that the API may still work on a patch whose answer was lost.
    """

    def __init__(
        self,
        reader: Callable[[ExperimentId], Awaitable[bytes | CellSetsFile]],
        api_url: str,
        *,
        retry_budget_s: float = 60.0,
        timeout_s: float = 120.0,
        settle_s: float = 10.0,
    ) -> None:
        self._reader = reader
        self._url = api_url.rstrip("/")
        self._retry_budget_s = retry_budget_s
        self._timeout_s = timeout_s
        self._settle_s = settle_s
        self._session: aiohttp.ClientSession | None = None
        self._locks: dict[str, asyncio.Lock] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(socket_factory=_socket),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=_CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def read(self, experiment_id: ExperimentId) -> bytes | CellSetsFile:
        """Return the current cell_sets.json."""
        return await self._reader(experiment_id)

    async def patch(
        self,
        experiment_id: ExperimentId,
        operations: list[dict[str, Any]],
        authorization: str | None,
        *,
        claim: Claim | None = None,
    ) -> None:
        """Apply operations of contract 5.22, once.

        Raises
        ------
        WorkerError
            ``CELL_SETS_UPDATE_FAILED`` with the platform's words when it refuses, or when it cannot be known whether it
            applied them.
        NotHeldError
            When the claim was lost.
        """
        token = (authorization or "").strip()
        if not token or not token.isprintable():
            raise _unchanged(_UNAUTHORIZED)
        known = examine(operations)
        content = orjson.dumps(operations)
        async with self._locks.setdefault(experiment_id, asyncio.Lock()):
            sent_at = await claim.earlier() if claim is not None and not known.always else None
            if sent_at is not None:
                if not known.inserted:
                    raise WorkerError(ErrorCode.CELL_SETS_UPDATE_FAILED, _MAY_HAVE.format("at an earlier attempt"))
                # The API may still be at work on what an earlier attempt sent, for as long as an answer may take.
                left_s = self._timeout_s - (datetime.now(UTC) - sent_at).total_seconds()
                log(_logger, logging.INFO, "waiting for an earlier change of the cell sets", at_most_s=round(left_s, 1))
                if await self._becomes_applied(experiment_id, known, left_s):
                    log(_logger, logging.INFO, "cell sets had been changed already", experiment=experiment_id)
                    return
            await self._patch(experiment_id, content, token, known, claim)

    async def _patch(
        self, experiment_id: ExperimentId, content: bytes, token: str, known: Repeatable, claim: Claim | None
    ) -> None:
        loop = asyncio.get_running_loop()
        backoff: Backoff | None = None
        maybe_applied = False
        while True:
            looked_at_s = await self._needs_sending(experiment_id, known, claim)
            if looked_at_s is None:
                return
            began = loop.time()
            sent, reason = await self._send(experiment_id, FencedBody(content, looked_at_s + _JUST_NOW_S), token)
            if sent == "withheld":
                log(_logger, logging.INFO, "change of cell sets withheld after a pause", experiment=experiment_id)
                continue
            if sent == "done":
                return
            log(_logger, logging.WARNING, "cell sets not changed yet", experiment=experiment_id, reason=reason)
            maybe_applied |= sent != "not sent"
            if sent != "not sent" and not known.always:
                if not known.inserted:
                    raise WorkerError(ErrorCode.CELL_SETS_UPDATE_FAILED, _MAY_HAVE.format(reason))
                left_s = self._timeout_s - (loop.time() - began) if sent == "under way" else 0.0
                if await self._becomes_applied(experiment_id, known, max(self._settle_s, left_s)):
                    return
            backoff = backoff or Backoff(self._retry_budget_s)
            if not await backoff.pause():
                if maybe_applied and known.always:
                    raise WorkerError(ErrorCode.CELL_SETS_UPDATE_FAILED, _MAY_HAVE.format(reason))
                why = f"the platform could not be reached ({reason}). Please try again in a few minutes"
                raise _unchanged(why)

    async def _needs_sending(self, experiment_id: ExperimentId, known: Repeatable, claim: Claim | None) -> float | None:
        """Look for the sets to insert, and make sure that this process still holds the request.

        A process that was paused in between checks again: others take a request over only after a longer silence.

        Returns
        -------
        When the checks began, on the clock of `awake_s`; None when nothing needs to be sent.

        Raises
        ------
        NotHeldError
            When another process has the request.
        """
        while True:
            began = awake_s()
            if known.inserted and await self._was_applied(experiment_id, known):
                log(_logger, logging.INFO, "cell sets had been changed already", experiment=experiment_id)
                return None
            if claim is not None and not await claim.take():
                raise NotHeldError
            if awake_s() - began < _JUST_NOW_S:
                return began

    async def _send(self, experiment_id: ExperimentId, body: FencedBody, token: str) -> tuple[_Sent, str]:
        """Send a patch once; returns how far it came, and what went wrong."""
        assert self._session is not None, "the cell sets were not entered"
        address = URL(f"{self._url}/v2/experiments/{quote(experiment_id, safe='')}/cellSets", encoded=True)
        headers = {**_HEADERS, "Authorization": token}
        try:
            # A redirect would send the user's token elsewhere.
            async with self._session.patch(address, data=body, headers=headers, allow_redirects=False) as response:
                if 200 <= response.status < 300:
                    return "done", ""
                words = _status_words(response.status)
                if response.status in _NO_VERDICT:
                    return _NO_VERDICT[response.status], words
                raise _refusal(await _text(response), response.status, words, token)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return "not sent", "no connection"
        except TimeoutError:
            return ("withheld" if body.withheld else "unsure"), "no answer in time"
        except (aiohttp.ClientError, ConnectionError):
            return ("withheld" if body.withheld else "under way"), "the connection broke"

    async def _becomes_applied(self, experiment_id: ExperimentId, known: Repeatable, within_s: float) -> bool:
        """Look until the change shows, or the API must have finished with it."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        while True:
            last = loop.time() >= end
            if await self._was_applied(experiment_id, known):
                return True
            if last:
                return False
            await asyncio.sleep(min(_LOOK_AGAIN_S, max(0.0, end - loop.time())))

    async def _was_applied(self, experiment_id: ExperimentId, known: Repeatable) -> bool:
        try:
            return await asyncio.to_thread(applied, await self._reader(experiment_id), known.inserted)
        except Exception as error:  # noqa: BLE001 - whatever the store's client raises
            log(
                _logger,
                logging.WARNING,
                "cell sets cannot be read",
                experiment=experiment_id,
                reason=type(error).__name__,
            )
            raise WorkerError(ErrorCode.CELL_SETS_UPDATE_FAILED, _MAY_HAVE.format("they cannot be read")) from None


def _socket(address: Any) -> socket.socket:  # noqa: ANN401 a row of getaddrinfo
    """Return a socket that gives up undelivered data after seconds, not minutes."""
    made = socket.socket(*address[:3])
    made.setblocking(False)  # noqa: FBT003
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_JUST_NOW_S * 1000))
    return made


async def _text(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of a refusal; empty where it does not arrive, since the status says enough."""
    try:
        return await response.read()
    except (aiohttp.ClientError, ConnectionError, TimeoutError):
        return b""


def _refusal(answer: bytes, status: int, words: str, token: str) -> WorkerError:
    """Return, in the API's own words, why it refused."""
    reason = _message(answer) or words
    for secret in sorted({token, *token.split()}, key=len, reverse=True):
        reason = reason.replace(secret, "[secret]") if len(secret) >= 8 else reason
    reason = re.sub(r"\s+", " ", redact(reason)).strip()[:_LONGEST_REASON].rstrip(". ")
    log(_logger, logging.WARNING, "cell sets refused", status=status, reason=reason)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        reason += ". Please reload the page, sign in and try again"
    why = f"the platform refused: {reason}"
    return _unchanged(why)


def _message(answer: bytes) -> str:
    """Return ``message`` and ``errors`` of an answer, as one text; empty where it has none."""
    try:
        found = orjson.loads(answer)
    except ValueError:
        return ""
    if not isinstance(found, dict):
        return ""
    errors = found.get("errors")
    parts = [found.get("message"), *(errors if isinstance(errors, list) else [errors])]
    parts = [part.get("message", part) if isinstance(part, dict) else part for part in parts]
    texts = [part if isinstance(part, str) else orjson.dumps(part).decode() for part in parts if part]
    return ": ".join(dict.fromkeys(texts))


def _status_words(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"status {status}"


def _unchanged(reason: str) -> WorkerError:
    return WorkerError(ErrorCode.CELL_SETS_UPDATE_FAILED, f"The cell sets were not changed: {reason}.")
