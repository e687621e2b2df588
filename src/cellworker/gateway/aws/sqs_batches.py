"""Batched calls on received messages: deleting them, keeping them hidden, showing them to others."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cellworker.gateway.aws.errors import DENIED, error_code, reason
from cellworker.gateway.core.cancel_tasks import end
from cellworker.gateway.core.retry import Backoff
from cellworker.logs import log

__all__ = ["Deletes", "Handle", "QueueUnavailableError", "Visibility"]

_MAX = 10
_CALLS_AT_A_TIME = 1
"""Requests that arrive meanwhile go with the next call; a FIFO group delivers nothing before its last one anyway."""
_SHOW_S = 5.0
_ON_THE_WAY_S = 1.0
"""Max age of an answer of the service when it arrives."""
_LONGEST_PAUSE_S = 5.0
_GONE = frozenset({
    # A handle that is no longer valid: the message was redelivered, or it or the queue is deleted. A batch
    # and a single call, and FIFO and other queues, each have a code of their own for it.
    "ReceiptHandleIsInvalid", "InvalidParameterValue", "AWS.SimpleQueueService.MessageNotInflight",
    "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "MessageNotInflight",
})  # fmt: skip

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")


class QueueUnavailableError(Exception):
    """A message could not be deleted before its visibility timeout; it will be redelivered.

    Parameters
    ----------
    why
        The code of the service's answer, or the kind of error.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"the message could not be deleted: {why}")


@dataclass(frozen=True, slots=True)
class Handle:
    """The handle by which a received message is deleted or hidden.

    Attributes
    ----------
    url
        The queue's.
    receipt
        Another one for each delivery.
    message_id
        The message's, for the log.
    """

    url: str
    receipt: str = field(repr=False)
    message_id: str


@dataclass(eq=False, slots=True)
class _Entry:
    handle: Handle
    done: "asyncio.Future[None]"


class _Batches:
    """Collects the requests of one turn of the event loop, and sends them in batches, one at a time.

    While a call is under way the next batch fills up, so that batches grow under load and nothing waits without load.
    """

    def __init__(self, send: Callable[[list[_Entry]], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: deque[_Entry] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._scheduled = False

    async def add(self, handle: Handle) -> None:
        """Add a handle, and return when its batch is done."""
        loop = asyncio.get_running_loop()
        entry = _Entry(handle, loop.create_future())
        self._waiting.append(entry)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush)
        await entry.done

    async def close(self) -> None:
        """Wait until all is done; cancelling ends it."""
        try:
            while self._calls or self._waiting:
                if self._calls:
                    await asyncio.wait(self._calls)
                await asyncio.sleep(0)
        finally:
            await end(*self._calls)

    def _flush(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._calls) < _CALLS_AT_A_TIME:
            entries = [self._waiting.popleft() for _ in range(min(_MAX, len(self._waiting)))]
            call = asyncio.create_task(self._call(entries))
            self._calls.add(call)
            call.add_done_callback(self._called)

    def _called(self, call: "asyncio.Task[None]") -> None:
        self._calls.discard(call)
        self._flush()

    async def _call(self, entries: list[_Entry]) -> None:
        try:
            await self._send(entries)
        except asyncio.CancelledError:
            for entry in entries:
                _fail(entry, QueueUnavailableError("the queue was closed"))
            raise


class Deletes:
    """Removes messages for good.

    Parameters
    ----------
    client
        An aiobotocore client for SQS.
    retry_budget_s
        Retry budget in seconds; at most the time that a message stays hidden, after which it is redelivered anyway.
    """

    def __init__(self, client: Any, retry_budget_s: float) -> None:  # noqa: ANN401 - made at run time
        self._client = client
        self._retry_budget_s = retry_budget_s
        self._batches = _Batches(self._delete)

    async def delete(self, handle: Handle) -> None:
        """Return when the message is deleted, or redelivered.

        Raises
        ------
        QueueUnavailableError
            When the queue did not confirm it in time.
        """
        await self._batches.add(handle)

    async def close(self) -> None:
        """Wait until all is deleted."""
        await self._batches.close()

    async def _delete(self, entries: list[_Entry]) -> None:
        backoff = Backoff(self._retry_budget_s, _LONGEST_PAUSE_S)
        while True:
            entries, why = await self._try(entries)
            if not entries:
                return
            log(_logger, logging.DEBUG, "messages not deleted yet", messages=len(entries), reason=why)
            if not await backoff.pause():
                for entry in entries:
                    _fail(entry, QueueUnavailableError(why))
                return

    async def _try(self, entries: list[_Entry]) -> tuple[list[_Entry], str]:
        """Delete what can be deleted; return what to retry, and why."""
        try:
            failed = await _each(self._client.delete_message_batch, [entry.handle for entry in entries])
        except Exception as error:  # noqa: BLE001 - whatever it is, the message is to be deleted
            if error_code(error) not in _GONE:
                return entries, reason(error)
            failed = dict.fromkeys(range(len(entries)), error_code(error))
        again = []
        for number, entry in enumerate(entries):
            code = failed.get(number)
            if code is not None and code not in _GONE:
                again.append(entry)
                continue
            if code is not None:
                log(_logger, logging.DEBUG, "message was gone", message_id=entry.handle.message_id, code=code)
            _succeed(entry)
        return again, ", ".join(sorted({*failed.values()} - _GONE))


class Visibility:
    """Keeps messages hidden while they are held, and shows them to others when they are handed back.

    Parameters
    ----------
    client
        An aiobotocore client for SQS.
    visibility_s
        Seconds that a message is hidden after it is received or extended.

    Attributes
    ----------
    denied
        Whether the role lacks the right; then it is not tried again.
    """

    def __init__(self, client: Any, visibility_s: float) -> None:  # noqa: ANN401 - made at run time
        self._client = client
        self._visibility_s = visibility_s
        self._due: dict[Handle, float] = {}
        self._hidden_until: dict[Handle, float] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._batches = _Batches(self._show)
        self.denied = False

    def hold(self, handle: Handle) -> None:
        """Keep a message hidden that was received just now."""
        if not self.denied and (self._keeper is None or self._keeper.done()):
            self._keeper = asyncio.create_task(self._keep())
        now = asyncio.get_running_loop().time()
        self._due[handle] = now + self._visibility_s / 2
        self._hidden_until[handle] = now + self._visibility_s - _ON_THE_WAY_S

    def forget(self, handle: Handle) -> bool:
        """Stop keeping a message hidden; return whether it was held."""
        self._hidden_until.pop(handle, None)
        return self._due.pop(handle, None) is not None

    def hides(self, handle: Handle) -> bool:
        """Whether a message is certainly hidden from others, however long this process was paused."""
        return asyncio.get_running_loop().time() < self._hidden_until.get(handle, 0.0)

    async def show(self, handle: Handle) -> None:
        """Show a message to others at once, where that is allowed and possible."""
        if not self.denied:
            await self._batches.add(handle)

    async def close(self) -> None:
        """Wait until all returned messages are visible, and stop hiding the rest."""
        await self._batches.close()
        await end(self._keeper)

    async def _keep(self) -> None:
        """Extend what is due, as long as anything is held."""
        loop = asyncio.get_running_loop()
        while self._due and not self.denied:
            soon = loop.time() + self._visibility_s / 10  # together with what is due in a moment
            due = [handle for handle, at in self._due.items() if at <= soon]
            if due:
                await asyncio.gather(*map(self._extend, _chunks(due)))
            else:
                await asyncio.sleep(min(self._due.values()) - loop.time())

    async def _extend(self, handles: Sequence[Handle]) -> None:
        now = asyncio.get_running_loop().time()
        codes = await self._change(handles, int(self._visibility_s), self._visibility_s / 4)
        for number, handle in enumerate(handles):
            if handle not in self._due:
                continue
            if codes.get(number) in _GONE:
                log(_logger, logging.DEBUG, "message came back while it was held", message_id=handle.message_id)
                del self._due[handle]
                self._hidden_until.pop(handle, None)
            else:
                self._due[handle] = now + self._visibility_s / (8 if number in codes else 2)
                if number not in codes:
                    self._hidden_until[handle] = now + self._visibility_s - _ON_THE_WAY_S

    async def _show(self, entries: list[_Entry]) -> None:
        await self._change([entry.handle for entry in entries], 0, _SHOW_S)
        for entry in entries:
            _succeed(entry)

    async def _change(self, handles: Sequence[Handle], seconds: int, timeout_s: float) -> dict[int, str]:
        """Set the time that messages are hidden from now on; return the codes of those for which it failed."""
        try:
            async with asyncio.timeout(timeout_s):
                failed = await _each(self._client.change_message_visibility_batch, handles, VisibilityTimeout=seconds)
        except Exception as error:  # noqa: BLE001 - the messages come back a little later, or earlier
            failed = dict.fromkeys(range(len(handles)), error_code(error) or reason(error))
        if not self.denied and DENIED & {*failed.values()}:
            self.denied = True
            log(
                _logger,
                logging.WARNING,
                "messages cannot be kept hidden",
                right="sqs:ChangeMessageVisibility",
                effect=f"what is held for more than {self._visibility_s:g} s is delivered again meanwhile",
            )
        elif failed:
            log(_logger, logging.DEBUG, "visibility not changed", codes=sorted({*failed.values()}))
        return failed


async def _each(call: Callable[..., Awaitable[Any]], handles: Sequence[Handle], **more: int) -> dict[int, str]:
    """Make one call for all handles; return the codes of those for which it failed, by their place."""
    answer = await call(
        QueueUrl=handles[0].url,  # all are of one queue, whose address never changes
        Entries=[{"Id": str(number), "ReceiptHandle": handle.receipt, **more} for number, handle in enumerate(handles)],
    )
    return {int(item["Id"]): str(item.get("Code", "")) for item in answer.get("Failed", ())}


def _chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (items[start : start + _MAX] for start in range(0, len(items), _MAX))


def _succeed(entry: _Entry) -> None:
    if not entry.done.done():
        entry.done.set_result(None)


def _fail(entry: _Entry, error: Exception) -> None:
    if not entry.done.done():
        entry.done.set_exception(error)
