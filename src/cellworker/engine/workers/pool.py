"""Lanes of worker processes: each has a max number of requests at a time, a queue, and replaces dead processes."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from cellworker.engine.workers.frames import WorkerInit
from cellworker.engine.workers.process import ProcessLost, WorkerProcess
from cellworker.engine.workers.zygote_client import ZygoteClient
from cellworker.errors import ErrorCode, WorkerError
from cellworker.logs import log

__all__ = ["SHUTTING_DOWN", "Lane"]

SHUTTING_DOWN = "The engine is shutting down."

_CANCEL_GRACE_S = 0.25
"""Seconds in which a cancelled computation must stop; then its process is killed."""
_FIRST_RETRY_S = 0.1
_LAST_RETRY_S = 10.0

_logger = logging.getLogger(__name__)


class Lane:
    """Worker processes for one kind of request.

    Parameters
    ----------
    name
        "short" or "long".
    size
        Number of processes.
    waiting_limit
        Requests that may wait; one more is refused.
    zygote
        Makes the processes.
    init
        Called for each new process; returns its `WorkerInit`.
    explain
        Called when no process can be started; returns the error for the requests that wait for one, and whether
        the log has not had the reason yet.
    """

    def __init__(
        self,
        name: str,
        size: int,
        waiting_limit: int,
        zygote: ZygoteClient,
        *,
        init: Callable[[], WorkerInit],
        explain: Callable[[Exception], tuple[WorkerError, bool]],
    ) -> None:
        self.name = name
        self.size = size
        self.edition = 0
        self._waiting_limit = waiting_limit
        self._zygote = zygote
        self._init = init
        self._explain = explain
        self._renewed = asyncio.Event()
        self._workers: set[WorkerProcess] = set()
        self._idle: list[WorkerProcess] = []
        self._waiting: deque[asyncio.Future[WorkerProcess]] = deque()
        self._starting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_renewing = False
        """The last process went to make way for another, whose start has not failed so far."""
        self._closing = False

    @property
    def running(self) -> int:
        """Requests that are being computed."""
        return len(self._workers) - len(self._idle)

    @property
    def able(self) -> bool:
        """Whether a request would be computed, now, after those before it, or once a replaced process has started."""
        return (bool(self._workers) or self._is_renewing) and not self._closing

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    async def acquire(self) -> WorkerProcess:
        """Take a worker, in order of arrival; give it back with `release` or `drop`.

        Raises
        ------
        WorkerError
            ``ENGINE_BUSY`` when too many wait already.
        """
        if self._closing:
            raise WorkerError(ErrorCode.REQUEST_CANCELLED, SHUTTING_DOWN)
        while self._idle:
            worker = self._idle.pop()
            if not worker.lost:
                return worker
            self._forget(worker)
        if self.waiting >= self._waiting_limit:
            message = f"{self._waiting_limit} requests are waiting already. Please try again in a moment."
            raise WorkerError(ErrorCode.ENGINE_BUSY, message)
        waiter: asyncio.Future[WorkerProcess] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._waiting.remove(waiter)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release(waiter.result())
            raise

    def release(self, worker: WorkerProcess) -> None:
        """Give back a worker that has answered."""
        if (
            worker.lost
            or worker.retiring
            or self._closing
            or worker.edition != self.edition
            or len(self._workers) > self.size
        ):
            is_lost = worker.lost
            worker.hang_up()
            self._forget(worker)
            self._is_renewing = not self._workers and not is_lost
            return
        self._offer(worker)

    def drop(self, worker: WorkerProcess, *, after: Callable[[], None], patient: bool) -> None:
        """Give back a worker that is still busy with a cancelled request.

        Parameters
        ----------
        worker
            As `acquire` returned it.
        after
            Called when the request no longer runs.
        patient
            Let it react to the cancellation first; otherwise its process is killed at once.
        """
        self._background(self._drop(worker, after, patient=patient))

    async def fill(self) -> None:
        """Start all missing workers and wait for them.

        Raises
        ------
        WorkerError, ProcessLost
            If one cannot be started.
        """
        missing = self.size - len(self._workers) - self._starting
        for outcome in await asyncio.gather(*(self._start() for _ in range(missing)), return_exceptions=True):
            if outcome:
                raise outcome

    def adopt(self, worker: WorkerProcess) -> None:
        """Add a worker process of a new store and replace older ones: idle ones now, busy ones after their answer."""
        self.edition = worker.edition
        self._workers.add(worker)
        self._offer(worker)
        self.renew(worker.edition)

    def renew(self, edition: int) -> None:
        """Replace the workers of other stores."""
        self.edition = edition
        for worker in [worker for worker in self._idle if worker.edition != edition]:
            self._idle.remove(worker)
            worker.hang_up()
            self._forget(worker)
        # The store has been opened by one process at least, so that the next can be expected to open it.
        self._is_renewing = not self._workers
        self._renewed.set()
        self._renewed = asyncio.Event()

    async def close(self) -> None:
        """End all workers at once, busy or not."""
        self._closing = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(WorkerError(ErrorCode.REQUEST_CANCELLED, SHUTTING_DOWN))
        self._waiting.clear()
        for worker in list(self._workers):
            worker.kill()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.fault() for worker in self._workers))
        self._workers.clear()
        self._idle.clear()

    def _offer(self, worker: WorkerProcess) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(worker)
                return
        self._idle.append(worker)

    def _forget(self, worker: WorkerProcess) -> None:
        self._workers.discard(worker)
        self._background(self._bury(worker))
        if not self._closing and len(self._workers) + self._starting < self.size:
            self._background(self._replace())

    async def _bury(self, worker: WorkerProcess) -> None:
        await worker.fault()

    async def _drop(self, worker: WorkerProcess, after: Callable[[], None], *, patient: bool) -> None:
        try:
            if patient and await worker.interrupt(_CANCEL_GRACE_S):
                self.release(worker)
                return
            worker.kill()
            self._forget(worker)
            await worker.exit_status()
        finally:
            after()

    async def _start(self) -> None:
        self._starting += 1
        try:
            worker = await WorkerProcess.start(self._zygote, self._init())
        finally:
            self._starting -= 1
            self._is_renewing = False
        self._workers.add(worker)
        self.release(worker)

    async def _replace(self) -> None:
        delay = _FIRST_RETRY_S
        while not self._closing and len(self._workers) + self._starting < self.size:
            renewed = self._renewed
            try:
                await self._start()
            except (WorkerError, ProcessLost, OSError) as error:
                answer, news = self._explain(error)
                if news:
                    log(_logger, logging.ERROR, "worker process not started", lane=self.name, error=error)
                self._refuse_waiting(answer)
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await renewed.wait()
                delay = min(2 * delay, _LAST_RETRY_S)

    def _refuse_waiting(self, answer: WorkerError) -> None:
        """Without any worker process left, waiting requests get an error instead of waiting forever."""
        while self._waiting and not self._workers:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(answer)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
