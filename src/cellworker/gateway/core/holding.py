"""The holder of a request while it is worked on: the queue, later perhaps the journal."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from cellworker.gateway.core.answering import NotStoredError
from cellworker.gateway.core.ports import Claim, Delivery, Journal
from cellworker.gateway.core.retry import RetryBudgets, retry
from cellworker.logs import log
from cellworker.protocol.envelope import WorkRequest

__all__ = ["Holding", "quietly"]

_RELEASE_S = 3.0
"""Max time for handing back requests at the end."""

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")


class Holding:
    """A received request, and where it is held.

    Parameters
    ----------
    request
        The request.
    delivery
        As it was received.
    journal
        Where it may move to; None where there is none, and for requests taken over from it.
    from_journal
        Whether it was taken over from the journal.
    budgets
        Retry budgets for the journal.
    on_moved
        Called when it is written to the journal.

    Attributes
    ----------
    current
        The delivery that stands for the request now.
    """

    def __init__(
        self,
        request: WorkRequest,
        delivery: Delivery,
        journal: Journal | None,
        *,
        from_journal: bool,
        budgets: RetryBudgets,
        on_moved: Callable[[], None],
    ) -> None:
        self.current = delivery
        self.message_id, self.attempt = delivery.message_id, delivery.attempt
        self._request = request
        self._journal = None if from_journal else journal
        self._from_journal = from_journal
        self._sent_at = delivery.sent_at
        self._budgets = budgets
        self._on_moved = on_moved
        self._moved = False
        self._moving = asyncio.Lock()

    @property
    def claim(self) -> Claim:
        """The right to change cell sets for this request."""
        return Claim(self._earlier, self._take)

    def came_back(self, delivery: Delivery) -> None:
        """Note that the queue redelivered the message to this process, which holds it again."""
        if not self._moved and not self._from_journal:
            self.current = delivery

    async def move(self) -> None:
        """Move the request from the queue to the journal; where that fails it stays in the queue."""
        try:
            await self._move()
        except Exception as error:  # noqa: BLE001 - the queue still holds it
            reason = self._request.scrub(f"{type(error).__name__}: {error}")
            log(_logger, logging.WARNING, "request could not be journalled", etag=self._request.etag, reason=reason)

    async def _move(self) -> None:
        async with self._moving:
            if self._journal is None or self._moved:
                return
            entry = await self._journal.write(self.current)
            message, self.current, self._moved = self.current, entry, True
            self._on_moved()
            await quietly(message.done)

    async def _earlier(self) -> datetime | None:
        """Return the latest time at which an earlier attempt may have sent its patch; None when none has."""
        if self.attempt <= 1:
            return None
        if self._from_journal:
            return self._sent_at
        if self._journal is None:
            return datetime.now(UTC)
        journal = self._journal
        return await self._patiently(lambda: journal.sent_at(self.message_id))

    async def _take(self) -> bool:
        """Return whether the request is still held, and note in the journal that its change is sent now.

        So a pod that takes the request over knows that the change was sent, whenever this pod dies.
        """
        if self._journal is None or self._moved:
            return await self._patiently(self.current.claim)
        if not await self.current.claim():
            return False
        await self._patiently(self._move)
        return await self._patiently(self.current.claim)

    async def _patiently(self, step: Callable[[], Awaitable[_T]]) -> _T:
        try:
            return await retry(step, self._budgets.store_s, self._budgets)
        except Exception as error:  # noqa: BLE001 - whatever a store raises
            raise NotStoredError(self._request.scrub(f"{type(error).__name__}: {error}")) from None


async def quietly(step: Callable[[], Awaitable[None]]) -> None:
    """Try a step that need not succeed: another process or a later attempt makes up for it."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_RELEASE_S):
            await step()
