"""The work loop: takes messages from the queue, has each answered, and removes it once its answer is out.

At every moment a received request is held by the queue, which redelivers it after its visibility timeout, or by the
journal, which the next process reads. It is removed only when its answer is out. See docs/delivery.md.
"""

import asyncio
import contextlib
import logging
import time
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.core.answering import Answering, NotStoredError, Outcome, Ports
from cellworker.gateway.core.cancel_tasks import end
from cellworker.gateway.core.cancellable import CancellableWork
from cellworker.gateway.core.holding import Holding, quietly
from cellworker.gateway.core.lru import LruNames
from cellworker.gateway.core.metrics import DONE, NoMetrics
from cellworker.gateway.core.ports import Delivery, Journal, NotHeldError, Queue
from cellworker.gateway.core.question import Question, understand
from cellworker.gateway.core.retry import RetryBudgets, retry
from cellworker.gateway.core.tracing import NoTracing, Tracing
from cellworker.identifiers import ExperimentId
from cellworker.logs import context, log
from cellworker.protocol.envelope import InvalidEnvelopeError, WorkRequest
from cellworker.tasks.task import Lane, Task

__all__ = ["LoopLimits", "WorkLoop"]

_NOT_STORED = "The result could not be stored. It will be tried again; if nothing comes, please ask once more."
_SLOW_AT_A_TIME = 2
"""Max short requests that are written to the journal at a time. Where all are slow, writing all makes all slower."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """Limits on requests held at a time, on time and on attempts.

    Attributes
    ----------
    short_in_flight, long_in_flight
        Requests of each lane that are held at a time; at the limit of either nothing more is received. Requests of the
        long lane mostly wait, and must not keep the short ones outside, so there may be many.
    journal_after_s
        A request of the short lane that is not answered after this many seconds goes to the journal, because its
        message blocks the others of its group. Requests of the long lane go there at once.
    max_attempts
        Deliveries of one message before it fails for good.
    scan_s
        Seconds between two searches for requests without a holder.
    """

    short_in_flight: int = 32
    long_in_flight: int = 64
    journal_after_s: float = 0.25
    max_attempts: int = 3
    scan_s: float = 30.0


class WorkLoop:
    """Answers every message of a queue, several at a time, each ETag computed once.

    Parameters
    ----------
    queue, ports
        The ports.
    experiment_id
        The experiment that the engine serves.
    find_task
        Looks a task up by its name; `cellworker.tasks.catalog.find` outside of tests.
    journal
        Holds requests outside of the queue; without one the queue holds them until they are answered.
    limits
        Limits on requests at a time.
    budgets
        Retry budgets for failing services.
    metrics, tracing
        Called with what happens.
    tick_s
        Seconds between progress heartbeats.
    now
        The clock, in UTC.
    """

    def __init__(
        self,
        queue: Queue,
        ports: Ports,
        experiment_id: ExperimentId,
        find_task: Callable[[str], Task],
        *,
        journal: Journal | None = None,
        limits: LoopLimits | None = None,
        budgets: RetryBudgets | None = None,
        metrics: NoMetrics | None = None,
        tracing: Tracing | None = None,
        tick_s: float = 1.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._queue = queue
        self._metrics = metrics or NoMetrics()
        self._trace = tracing or NoTracing()
        self._answering = Answering(
            ports,
            experiment_id,
            find_task,
            tick_s=tick_s,
            budgets=budgets,
            metrics=self._metrics,
            tracing=self._trace,
            now=now,
        )
        self._find_task = find_task
        self._journal = journal
        self._limits = limits or LoopLimits()
        self._budgets = budgets or RetryBudgets()
        self._now = now
        self._handling: set[asyncio.Task[None]] = set()
        self._computing: dict[str, asyncio.Future[Outcome]] = {}
        self._cancellable = CancellableWork()
        self.cancel, self.running = self._cancellable.cancel, self._cancellable.running
        self._held: dict[Lane, int] = {"short": 0, "long": 0}
        self._has_capacity = asyncio.Event()
        self._slow_ones = asyncio.Semaphore(_SLOW_AT_A_TIME)
        self._current: dict[str, tuple[asyncio.Task[bool], Holding]] = {}
        self._answered = LruNames()
        self._unstored = LruNames()
        self._stopping = asyncio.Event()
        self._grace_s: float | None = None
        self._last_activity = time.monotonic()

    @property
    def busy(self) -> int:
        """Number of messages being worked on."""
        return len(self._handling)

    @property
    def idle_s(self) -> float:
        """Seconds since there was work; 0 while there is."""
        return 0.0 if self._handling else time.monotonic() - self._last_activity

    @property
    def held(self) -> dict[Lane, int]:
        """Number of requests held, by lane."""
        return dict(self._held)

    def capacity(self) -> int:
        """Return how many more messages may be taken now."""
        if self._held["long"] >= self._limits.long_in_flight:
            return 0
        # A message that was received a moment ago is in no lane yet, and counts as short.
        return max(0, self._limits.short_in_flight - (len(self._handling) - self._held["long"]))

    def stop(self, grace_s: float | None = None) -> None:
        """Receive nothing more, and end when all received requests are answered, or after `grace_s` seconds.

        Requests without an answer by then are handed back: the message to the queue, the journal entry to the pod that
        looks next.
        """
        self._grace_s = grace_s
        self._stopping.set()

    async def run(self) -> int:
        """Work until the queue is closed or `stop` is called, and until all received requests are answered.

        Cancelling stops receiving at once and hands back requests without an answer.

        Returns
        -------
        int
            Number of requests that were handed back.
        """
        receiving = asyncio.create_task(self._receive())
        scanning = asyncio.create_task(self._scan())
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({receiving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            await end(scanning, None if stopped.done() else receiving)
            if receiving.done() and not receiving.cancelled():
                receiving.result()
            else:
                await end(receiving)
            if self._handling:
                await asyncio.wait(self._handling, timeout=self._grace_s)
            return len(self._handling)
        finally:
            await end(scanning, stopped, receiving, *self._handling)

    async def _receive(self) -> None:
        deliveries = self._queue.deliveries()
        try:
            while True:
                self._offer_capacity()
                await self._has_capacity.wait()
                try:
                    delivery = await anext(deliveries)
                except StopAsyncIteration:
                    return
                self._begin(delivery, in_journal=False)
        finally:
            await _closed(deliveries)

    async def _scan(self) -> None:
        """Answer requests that an earlier process, or another pod, accepted and left."""
        while self._journal is not None:
            try:
                orphans = await self._journal.orphans()
                self._metrics.orphans_taken(len(orphans))
                for delivery in orphans:
                    self._begin(delivery, in_journal=True)
            except Exception as error:  # noqa: BLE001 - the store will be back
                log(_logger, logging.WARNING, "journal could not be read", reason=type(error).__name__)
            await asyncio.sleep(self._limits.scan_s)

    def _begin(self, delivery: Delivery, *, in_journal: bool) -> None:
        handling = asyncio.create_task(self._handle(delivery, in_journal=in_journal))
        self._handling.add(handling)
        handling.add_done_callback(self._ended)
        self._offer_capacity()

    def _ended(self, handling: "asyncio.Task[None]") -> None:
        self._handling.discard(handling)
        self._last_activity = time.monotonic()
        self._offer_capacity()

    def _offer_capacity(self) -> None:
        """Tell the queue how many messages may be taken."""
        capacity = self.capacity()
        self._queue.offer(capacity)
        if capacity:
            self._has_capacity.set()
        else:
            self._has_capacity.clear()

    async def _handle(self, delivery: Delivery, *, in_journal: bool) -> None:
        """Answer one message and remove it; raises only when cancelled."""
        self._metrics.delivered(delivery.attempt)
        if delivery.message_id in self._answered:
            await quietly(delivery.done)
            return
        current = self._current.get(delivery.message_id)
        if current is not None:  # redelivered while it is worked on
            answering, holding = current
            holding.came_back(delivery)
            await self._let_go(delivery, answered=await asyncio.shield(answering))
            return
        try:
            request = WorkRequest.parse(delivery.body)
        except InvalidEnvelopeError as error:
            await self._refuse(delivery, error)
            return
        with context(etag=request.etag, task=request.task, attempt=delivery.attempt):
            await self._hold(request, delivery, in_journal=in_journal)

    async def _hold(self, request: WorkRequest, delivery: Delivery, *, in_journal: bool) -> None:
        """Answer a request; meanwhile move it to the journal before it delays others."""
        question = understand(request, self._find_task)
        lane = question.lane if isinstance(question, Question) else "short"
        self._held[lane] += 1
        self._offer_capacity()
        holding = Holding(
            request,
            delivery,
            self._journal,
            from_journal=in_journal,
            budgets=self._budgets,
            on_moved=self._metrics.journal_written,
        )
        answering = asyncio.create_task(self._answer(request, question, delivery, holding))
        if delivery.message_id:
            self._current[delivery.message_id] = answering, holding
        try:
            if self._journal is not None and not in_journal:
                if lane == "short":
                    await asyncio.wait({answering}, timeout=self._limits.journal_after_s)
                async with self._slow_ones if lane == "short" else contextlib.nullcontext():
                    if not answering.done():
                        await holding.move()
            answered = await answering
        except asyncio.CancelledError:
            await end(answering)
            await quietly(holding.current.release)
            raise
        finally:
            self._held[lane] -= 1
            self._current.pop(delivery.message_id, None)
        if answered and delivery.message_id:
            self._answered.add(delivery.message_id)
        await self._let_go(holding.current, answered=answered)

    async def _let_go(self, holder: Delivery, *, answered: bool) -> None:
        """Delete an answered message, hand back another; what cannot be deleted is redelivered and answered again."""
        if not answered:
            await quietly(holder.release)
            return
        try:
            await retry(holder.done, self._budgets.store_s, self._budgets)
        except Exception as error:  # noqa: BLE001 - whatever a queue or a store raises
            log(_logger, logging.WARNING, "answered request could not be removed", reason=type(error).__name__)

    async def _answer(
        self, request: WorkRequest, question: Question | WorkerError, delivery: Delivery, holding: Holding
    ) -> bool:
        """Answer one request; return whether it can be removed."""
        started = time.perf_counter()
        async with self._trace.request(delivery.trace, request.task, request.etag, delivery.attempt) as span:
            try:
                outcome = await self._outcome(request, question, delivery, holding)
                answered = True
            except NotHeldError:
                log(_logger, logging.WARNING, "request was taken over by another process")
                return False
            except NotStoredError as error:
                log(_logger, logging.ERROR, "result could not be stored", reason=str(error))
                self._unstored.add(request.etag)
                outcome = Outcome(WorkerError(ErrorCode.RESULT_NOT_STORED, _NOT_STORED))
                answered = False
            except Exception:  # noqa: BLE001 - one message must not end the loop
                log(
                    _logger,
                    logging.ERROR,
                    "request could not be answered",
                    traceback=request.scrub(traceback.format_exc()),
                )
                return False
            ended = DONE if outcome.error is None else str(outcome.error.code)
            span.outcome(ended)
            await self._answering.publish(request, outcome)
        elapsed = time.perf_counter() - started
        self._metrics.answered(request.task, ended, elapsed)
        log(_logger, logging.INFO, "request answered", outcome=ended, seconds=round(elapsed, 4))
        return answered

    async def _outcome(
        self, request: WorkRequest, question: Question | WorkerError, delivery: Delivery, holding: Holding
    ) -> Outcome:
        expired = request.expired(self._now())
        exhausted = delivery.attempt > self._limits.max_attempts
        if delivery.attempt > 1 and (expired or exhausted) and await self._answering.stored(request):
            return Outcome(cacheable=True)
        if expired:
            when = f"{request.timeout:%Y-%m-%d %H:%M:%S} UTC"
            message = f"The request's time-out ({when}) had passed before it was worked on. Please try again."
            return Outcome(WorkerError(ErrorCode.REQUEST_EXPIRED, message))
        if exhausted:
            return await self._give_up(request, delivery)
        running = self._computing.get(request.etag)
        if running is not None:
            self._metrics.duplicate_joined()
            # Shielded: a follower that is handed back must not take the computation of the others with it.
            return await asyncio.shield(running)
        computing: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._computing[request.etag] = computing
        try:
            work = self._answering.work(request, question, delivery.message_id, holding.claim)
            outcome = await self._cancellable.run(request.etag, request.task, work)
        except WorkerError as error:
            outcome = Outcome(error)
        except BaseException as error:
            stopped = error if isinstance(error, Exception) else ConnectionAbortedError("the worker stops")
            computing.set_exception(stopped)
            computing.exception()  # without followers it is not asked for
            raise
        finally:
            del self._computing[request.etag]
        computing.set_result(outcome)
        return outcome

    async def _give_up(self, request: WorkRequest, delivery: Delivery) -> Outcome:
        tries = delivery.attempt - 1
        code, how = ErrorCode.TASK_CRASHED, "without coming to an end"
        if request.etag in self._unstored:
            code, how = ErrorCode.RESULT_NOT_STORED, "and its result could not be stored"
        message = f"The request was tried {tries} times {how}. It was given up; please try again later."
        log(_logger, logging.ERROR, "request given up", etag=request.etag, task=request.task, attempts=tries)
        if self._journal is not None:
            with contextlib.suppress(Exception):
                await self._journal.bury(delivery, message)
        return Outcome(WorkerError(code, message))

    async def _refuse(self, delivery: Delivery, error: InvalidEnvelopeError) -> None:
        log(_logger, logging.WARNING, "message refused", reason=error.message, etag=error.etag)
        if error.etag is not None:
            await self._answering.publish(error.request, Outcome(WorkerError(error.code, error.message)))
        await quietly(delivery.done)


async def _closed(deliveries: AsyncIterator[Delivery]) -> None:
    """Close a generator, which then hands back the messages that it holds."""
    if (close := getattr(deliveries, "aclose", None)) is not None:
        await close()
