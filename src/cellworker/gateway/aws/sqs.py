"""The queue in SQS: receives up to its capacity, hides held messages, deletes answered ones, in batches."""

import asyncio
import contextlib
import logging
import math
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from cellworker.gateway.aws.errors import error_code, reason
from cellworker.gateway.aws.sqs_batches import Deletes, Handle, Visibility
from cellworker.gateway.core.cancel_tasks import end
from cellworker.gateway.core.ports import Delivery
from cellworker.gateway.core.retry import Backoff
from cellworker.logs import log

__all__ = ["SqsQueue"]

_MISSING = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
_MAX = 10
_LOOK_AGAIN_S = 1.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Ask:
    """One attempt to receive. Repeated after a lost answer, it brings the messages that the answer held."""

    id: str
    messages: int


class SqsQueue:
    """Messages of one queue, which may come to exist later; an asynchronous context manager.

    Messages are received only when somebody waits for one, and at most `offer`'s capacity. The queue needs
    the rights to receive, to delete and to look up the queue's address. Where it may also
    change the visibility of messages, they stay hidden while they are held, and released ones are visible to
    others at once; without that right the log says so, once.

    A FIFO group delivers nothing while one of its messages is held. So while this queue holds any, it waits for
    the last one to be deleted or released before it polls for long. With an earlier long poll, some servers let
    the next request wait until that poll ends: they look only once at which groups are blocked. In between it
    polls once a second without waiting, since another group may have a message.

    Parameters
    ----------
    client
        An aiobotocore client for SQS whose time-out is longer than `wait_s`.
    queue_name
        As `Names.queue` returns it.
    visibility_s
        Seconds that a received message is hidden from others.
    wait_s
        Seconds of a long poll, 0 to 20.
    on_failure
        Called with the reason when the queue cannot be reached, and with None when it can be again.
    longest_pause_s
        Between two attempts to reach it, in seconds.

    Attributes
    ----------
    failing_since
        Time of the first failure, by `time.monotonic`; None while the queue can be reached.
    """

    def __init__(
        self,
        client: Any,  # noqa: ANN401 - aiobotocore makes its clients' types at run time
        queue_name: str,
        *,
        visibility_s: int,
        wait_s: int = 20,
        on_failure: Callable[[str | None], None] = lambda _: None,
        longest_pause_s: float = 20.0,
    ) -> None:
        self._client = client
        self._name = queue_name
        self._visibility_s = visibility_s
        self._wait_s = wait_s
        self._capacity = 1
        self._on_failure = on_failure
        self._longest_pause_s = longest_pause_s
        self._url: str | None = None
        self._ask: _Ask | None = None
        self._taken: deque[Delivery] = deque()
        self._fifo = queue_name.endswith(".fifo")
        self._held: set[Handle] = set()
        self._none_held = asyncio.Event()
        self._closed = asyncio.Event()
        self._deletes = Deletes(client, visibility_s)
        self._visibility = Visibility(client, visibility_s)
        self.failing_since: float | None = None

    @property
    def degraded(self) -> bool:
        """Whether held messages are redelivered after `visibility_s`, because the right to hide them is missing."""
        return self._visibility.denied

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        await self._deletes.close()
        await self._visibility.close()

    def offer(self, capacity: int) -> None:
        """Set how many messages may be taken; a waiting receiver takes at least one."""
        self._capacity = capacity

    def deliveries(self) -> "SqsDeliveries":
        """Yield messages until `close`; retry during outages, with growing pauses.

        A waiting receiver may be cancelled and ask again: no received message is lost, and a wait
        at the service ends at once.
        """
        return SqsDeliveries(self)

    def close(self) -> None:
        """Stop receiving, and give back messages that were not taken; messages taken can still be deleted."""
        self._closed.set()

    async def next(self) -> Delivery | None:
        """Return the next message; None when the queue is closed."""
        while not self._taken and not self._closed.is_set():
            receiving = asyncio.create_task(self._receive())
            closing = asyncio.create_task(self._closed.wait())
            try:
                await asyncio.wait({receiving, closing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await end(receiving, closing)
        if self._closed.is_set():
            await self.hand_back()
            return None
        return self._taken.popleft()

    async def hand_back(self) -> None:
        """Give back messages that were received and not taken."""
        taken = [*self._taken]
        self._taken.clear()
        await asyncio.gather(*(delivery.release() for delivery in taken))

    async def _receive(self) -> None:
        """Receive some messages, or none within one poll; retry during outages."""
        backoff: Backoff | None = None
        if self._fifo and self._held:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._none_held.wait(), _LOOK_AGAIN_S)
        while True:
            try:
                messages = await self._asked()
                # Without an await since the answer came: from here on cancelling loses nothing.
                self._taken.extend([self._delivery(message) for message in messages])
            except Exception as error:  # noqa: BLE001 - whatever it is, requests must be answered again afterwards
                if error_code(error) in _MISSING:
                    # The platform makes the queue when it sends the first message.
                    self._url = self._ask = None
                    self._reached()
                    await asyncio.sleep(_LOOK_AGAIN_S)
                    return
                self._not_reached(error)
                backoff = backoff or Backoff(math.inf, self._longest_pause_s)
                await backoff.pause()
            else:
                self._ask = None
                self._reached()
                return

    async def _asked(self) -> list[dict[str, Any]]:
        if self._url is None:
            answer = await self._client.get_queue_url(QueueName=self._name)
            self._url = str(answer["QueueUrl"])
        if self._ask is None:
            self._ask = _Ask(str(uuid.uuid4()), max(1, min(_MAX, self._capacity)))
        more = {"ReceiveRequestAttemptId": self._ask.id} if self._fifo else {}
        blocked = self._fifo and self._held
        answer = await self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=self._ask.messages,
            VisibilityTimeout=self._visibility_s,
            # After an outage the answer comes at once, so that its end is known.
            WaitTimeSeconds=self._wait_s if self.failing_since is None and not blocked else 0,
            # The older name of the parameter, which stand-ins of any age know, and AWS has promised to keep.
            AttributeNames=["ApproximateReceiveCount", "AWSTraceHeader"],
            **more,
        )
        return list(answer.get("Messages", ()))

    def _delivery(self, message: dict[str, Any]) -> Delivery:
        assert self._url is not None
        handle = Handle(self._url, message["ReceiptHandle"], message["MessageId"])
        self._visibility.hold(handle)
        self._held.add(handle)
        self._none_held.clear()

        async def done() -> None:
            self._visibility.forget(handle)
            try:
                await self._deletes.delete(handle)
            finally:
                self._let_go(handle)

        async def release() -> None:
            try:
                if self._visibility.forget(handle):
                    await self._visibility.show(handle)
            finally:
                self._let_go(handle)

        async def claim() -> bool:
            return self._visibility.hides(handle)

        attributes = message.get("Attributes", {})
        return Delivery(
            body=message["Body"].encode("utf-8", "surrogatepass"),
            attempt=int(attributes.get("ApproximateReceiveCount", 1)),
            done=done,
            release=release,
            message_id=handle.message_id,
            trace=attributes.get("AWSTraceHeader"),
            claim=claim,
        )

    def _let_go(self, handle: Handle) -> None:
        self._held.discard(handle)
        if not self._held:
            self._none_held.set()

    def _not_reached(self, error: Exception) -> None:
        if self.failing_since is None:
            self.failing_since = time.monotonic()
            log(_logger, logging.WARNING, "queue cannot be reached", queue=self._name, reason=reason(error))
            self._on_failure(reason(error))

    def _reached(self) -> None:
        if self.failing_since is not None:
            seconds = round(time.monotonic() - self.failing_since, 1)
            self.failing_since = None
            log(_logger, logging.WARNING, "queue can be reached again", queue=self._name, seconds=seconds)
            self._on_failure(None)


class SqsDeliveries:
    """Iterates over a queue's messages; unlike a generator it continues after `anext` was cancelled."""

    def __init__(self, queue: SqsQueue) -> None:
        self._queue = queue

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delivery:
        delivery = await self._queue.next()
        if delivery is None:
            raise StopAsyncIteration
        return delivery

    async def aclose(self) -> None:
        """End it, and give back messages that were not taken."""
        self._queue.close()
        await self._queue.hand_back()
