"""The work loop: takes messages from the queue, has each answered, and removes it once its answer is out."""

import asyncio
import contextlib
import logging
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.answering import Answering, Outcome, Ports
from cellworker.gateway.ports import Delivery, Queue
from cellworker.logs import log
from cellworker.protocol.envelope import InvalidEnvelopeError, WorkRequest
from cellworker.tasks.task import Task

__all__ = ["WorkLoop"]

MAX_ATTEMPTS = 3

_logger = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


class WorkLoop:
    """Answers every message of a queue, several at a time, each ETag computed once.

    A message is removed after its result is stored and announced. When storing or announcing fails it is handed back,
    and after `max_attempts` deliveries it is answered with an error and removed.

    Parameters
    ----------
    queue, ports
        The world.
    experiment_id
        The experiment that the engine serves.
    find_task
        Looks a task up by its name; `cellworker.tasks.catalog.find` outside of tests.
    in_flight
        Largest number of messages that are worked on at a time. It is well above the number of engine processes,
        because requests of the long lane wait here too and must not keep the short ones outside.
    max_attempts
        Deliveries of one message before it is given up.
    tick_s
        Seconds between progress heartbeats.
    now
        The clock, in UTC.
    """

    def __init__(
        self,
        queue: Queue,
        ports: Ports,
        experiment_id: str,
        find_task: Callable[[str], Task],
        *,
        in_flight: int = 64,
        max_attempts: int = MAX_ATTEMPTS,
        tick_s: float = 1.0,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._queue = queue
        self._answering = Answering(ports, experiment_id, find_task, tick_s=tick_s)
        self._slots = asyncio.Semaphore(in_flight)
        self._max_attempts = max_attempts
        self._now = now
        self._handling: set[asyncio.Task[None]] = set()
        self._computing: dict[str, asyncio.Future[Outcome]] = {}

    @property
    def busy(self) -> int:
        """Number of messages being worked on."""
        return len(self._handling)

    async def run(self) -> None:
        """Work until the queue is closed, and on what was taken until it is answered.

        Cancelling stops receiving at once and hands back what is not answered yet.
        """
        deliveries = self._queue.deliveries()
        try:
            while True:
                await self._slots.acquire()
                try:
                    delivery = await anext(deliveries)
                except StopAsyncIteration:
                    self._slots.release()
                    break
                handling = asyncio.create_task(self._handle(delivery))
                self._handling.add(handling)
                handling.add_done_callback(self._handled)
            await asyncio.gather(*self._handling)
        finally:
            for handling in self._handling:
                handling.cancel()
            await asyncio.gather(*self._handling, return_exceptions=True)

    def _handled(self, handling: "asyncio.Task[None]") -> None:
        self._handling.discard(handling)
        self._slots.release()

    async def _handle(self, delivery: Delivery) -> None:
        """Answer one message, then remove it; never raises but when cancelled."""
        try:
            request = WorkRequest.parse(delivery.body)
        except InvalidEnvelopeError as error:
            await self._refuse(delivery, error)
            return
        started = time.perf_counter()
        repeatable = True
        try:
            outcome = await self._outcome(request, delivery.attempt)
            repeatable = outcome.error is not None or outcome.cacheable
            await self._answering.publish(request, outcome)
            await delivery.done()
        except asyncio.CancelledError:
            await _quietly(delivery.release if repeatable else delivery.done)
            raise
        except Exception:  # noqa: BLE001 - one message must not end the loop
            give_up = delivery.attempt > self._max_attempts or not repeatable
            facts = {"etag": request.etag, "attempt": delivery.attempt, "given_up": give_up}
            trace = request.scrub(traceback.format_exc())
            log(_logger, logging.ERROR, "request could not be answered", **facts, traceback=trace)
            await _quietly(delivery.done if give_up else delivery.release)
            return
        facts = {"etag": request.etag, "task": request.task, "attempt": delivery.attempt}
        ended = "done" if outcome.error is None else str(outcome.error.code)
        elapsed = round(time.perf_counter() - started, 4)
        log(_logger, logging.INFO, "request answered", **facts, outcome=ended, seconds=elapsed)

    async def _outcome(self, request: WorkRequest, attempt: int) -> Outcome:
        if request.expired(self._now()):
            when = f"{request.timeout:%Y-%m-%d %H:%M:%S} UTC"
            message = f"The request's time-out ({when}) had passed before work began. Please try again."
            return Outcome(WorkerError(ErrorCode.REQUEST_EXPIRED, message))
        running = self._computing.get(request.etag)
        if running is not None:
            # Shielded: a follower that is handed back must not take the computation of the others with it.
            return await asyncio.shield(running)
        computing: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._computing[request.etag] = computing
        try:
            outcome = await self._first_outcome(request, attempt)
        except BaseException as error:
            computing.set_exception(
                error if isinstance(error, Exception) else ConnectionAbortedError("the worker stops")
            )
            computing.exception()  # where nobody follows, nobody asks for it
            raise
        else:
            computing.set_result(outcome)
            return outcome
        finally:
            del self._computing[request.etag]

    async def _first_outcome(self, request: WorkRequest, attempt: int) -> Outcome:
        if await self._answering.stored(request):
            return Outcome(cacheable=True)
        if attempt > self._max_attempts:
            message = f"The request was tried {self._max_attempts} times without coming to an end, and was given up."
            return Outcome(WorkerError(ErrorCode.TASK_CRASHED, message))
        return await self._answering.work(request)

    async def _refuse(self, delivery: Delivery, error: InvalidEnvelopeError) -> None:
        log(_logger, logging.WARNING, "message refused", reason=error.message, etag=error.etag)
        if error.etag is not None:
            try:
                await self._answering.publish(error.request, Outcome(WorkerError(error.code, error.message)))
            except Exception as failure:  # noqa: BLE001 - the message is useless, whoever sent it will time out
                reason = error.request.scrub(str(failure))
                log(_logger, logging.WARNING, "refusal could not be announced", reason=reason, etag=error.etag)
        await _quietly(delivery.done)


async def _quietly(step: "Callable[[], object]") -> None:
    with contextlib.suppress(Exception):
        await step()  # type: ignore[misc]
