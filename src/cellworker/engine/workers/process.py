"""The engine's handle on one worker process."""

import asyncio
import inspect
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from cellworker.engine.workers.asking import ask
from cellworker.engine.workers.frame_reader import FrameReader
from cellworker.engine.workers.frames import FrameKind, ProblemFrame, ProgressFrame, RequestFrame, WorkerInit, pack
from cellworker.engine.workers.zygote_client import ZYGOTE_LOST, ZygoteClient
from cellworker.errors import ErrorCode, WorkerError
from cellworker.logs import log
from cellworker.tasks.context import Annotator, no_annotator

__all__ = ["OnProgress", "ProcessLost", "WorkerProcess"]

OnProgress = Callable[[str, float | None], Awaitable[None] | None]
"""Called with the stage and, where known, the fraction done."""

_Frame = tuple[FrameKind, bytes | bytearray]

_json = msgspec.json.Encoder()
_logger = logging.getLogger(__name__)


class ProcessLost(Exception):  # noqa: N818 it is an event, not a mistake
    """The process ended instead of answering; `status` is minus the signal, the exit code, or `ZYGOTE_LOST`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status

    @property
    def reason(self) -> str:
        """The signal's name, or the exit code."""
        if self.status == ZYGOTE_LOST:
            return "the process that starts it ended"
        if self.status < 0:
            with suppress(ValueError):
                return signal.Signals(-self.status).name
        return f"exit code {self.status}"


class WorkerProcess:
    """A worker that has opened the store and waits for requests, one at a time.

    Made by `start`. The owner sends requests with `call`; when `call` ends early, by a deadline or a
    cancellation, the worker process is still busy: the owner calls `interrupt` and then uses it again or drops it.
    """

    def __init__(self, zygote: ZygoteClient, init: WorkerInit) -> None:
        self._zygote = zygote
        self._fault_file = Path(init.fault_file)
        self._answer: asyncio.Future[_Frame | None] | None = None
        self._reporter: _Reporter | None = None
        self._ask: Callable[[bytes], Coroutine[None, None, None]] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._number = 0
        self._exited: asyncio.Future[int] | None = None
        self.edition = init.edition
        self.retiring = False
        self.lost = False

    @classmethod
    async def start(cls, zygote: ZygoteClient, init: WorkerInit) -> "WorkerProcess":
        """Make a process and wait until it has opened the store.

        Raises
        ------
        WorkerError
            If the store cannot be opened.
        ProcessLost
            If the process dies first.
        """
        self = cls(zygote, init)
        ours, theirs = socket.socketpair()
        self._number, self._exited = zygote.start_process(theirs)
        self._exited.add_done_callback(lambda _: self._on_lost())
        self._answer = asyncio.get_running_loop().create_future()
        transport, _ = await asyncio.get_running_loop().create_unix_connection(
            lambda: FrameReader(self._on_frame, self._on_lost), sock=ours
        )
        self._transport = transport
        try:
            transport.write(pack(FrameKind.INIT, _json.encode(init)))
            kind, payload = await self._wait()
        except BaseException:
            self.kill()
            raise
        if kind is FrameKind.PROBLEM:
            self.kill()
            problem = msgspec.json.decode(payload, type=ProblemFrame)
            if problem.traceback:
                message = f"the store cannot be opened: {problem.traceback.strip().splitlines()[-1]}"
                raise WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, message)
            raise WorkerError(ErrorCode(problem.code), problem.message)
        return self

    async def call(
        self,
        request: RequestFrame,
        body: bytes,
        on_progress: OnProgress | None,
        *,
        annotate: Annotator = no_annotator,
    ) -> _Frame:
        """Send a request and wait for the frame that ends it: ANSWER, FILE or PROBLEM.

        Parameters
        ----------
        request, body
            What is sent.
        on_progress
            Called with the progress.
        annotate
            Asks the language model, if the worker has a question.

        Raises
        ------
        ProcessLost
            If the process dies meanwhile.
        """
        if self.lost or self._transport is None:
            raise ProcessLost(await self.exit_status())
        self._answer = asyncio.get_running_loop().create_future()
        self._reporter = _Reporter(on_progress) if on_progress else None
        self._ask = partial(self._answer_question, annotate, Path(request.scratch))
        self._transport.write(pack(FrameKind.REQUEST, _json.encode(request)) + pack(FrameKind.BODY, body))
        try:
            return await self._wait()
        finally:
            self._ask = None
            if self._asking:
                self._asking.cancel()
            if self._reporter:
                self._reporter.stop()

    async def interrupt(self, grace_s: float) -> bool:
        """Cancel the worker's request; return whether it is free again within `grace_s` seconds."""
        if self.lost or self._transport is None:
            return False
        self._transport.write(pack(FrameKind.CANCEL))
        with suppress(TimeoutError, ProcessLost):
            async with asyncio.timeout(grace_s):
                await self._wait()
                return True
        return False

    async def exit_status(self) -> int:
        """Wait until the process has ended; return minus the signal, or the exit code."""
        return await asyncio.shield(self._exited) if self._exited else 0

    def kill(self) -> None:
        """End the process now."""
        self._zygote.kill(self._number)
        self.hang_up()

    def hang_up(self) -> None:
        """Let an idle process end by itself."""
        self.lost = True
        if self._transport:
            self._transport.abort()

    async def fault(self) -> str:
        """Wait until the process has ended; return the stack of a crash, for the log."""
        await self.exit_status()
        try:
            return self._fault_file.read_text(errors="replace").strip()
        except OSError:
            return ""
        finally:
            self._fault_file.unlink(missing_ok=True)

    async def _answer_question(self, annotate: Annotator, scratch: Path, question: bytes) -> None:
        answered = await ask(annotate, question, scratch, self._report)
        if self._transport and not self.lost:
            self._transport.write(pack(FrameKind.ANSWERED, _json.encode(answered)))

    def _report(self, progress: ProgressFrame) -> None:
        if self._reporter:
            self._reporter.put(progress)

    async def _wait(self) -> _Frame:
        # Shielded, so that another caller can still wait for the answer.
        frame = await asyncio.shield(self._answer) if self._answer else None
        if frame is None:
            raise ProcessLost(await self.exit_status())
        return frame

    def _on_frame(self, kind: FrameKind, payload: bytes | bytearray) -> None:
        if kind is FrameKind.PROGRESS:
            self._report(msgspec.json.decode(payload, type=ProgressFrame))
        elif kind is FrameKind.ASK:
            if self._ask:
                self._asking = asyncio.get_running_loop().create_task(self._ask(bytes(payload)))
        elif kind is FrameKind.RETIRE:
            self.retiring = True
        else:
            self._finish((kind, payload))

    def _on_lost(self) -> None:
        self.lost = True
        if self._transport:
            self._transport.abort()
        self._finish(None)

    def _finish(self, frame: _Frame | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(frame)


class _Reporter:
    """Passes on the latest progress; a slow listener misses steps instead of delaying the answer."""

    def __init__(self, listener: OnProgress) -> None:
        self._listener = listener
        self._latest: ProgressFrame | None = None
        self._task: asyncio.Task[None] | None = None

    def put(self, progress: ProgressFrame) -> None:
        self._latest = progress
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._hand_on())

    def stop(self) -> None:
        self._latest = None

    async def _hand_on(self) -> None:
        while self._latest:
            progress, self._latest = self._latest, None
            try:
                outcome = self._listener(progress.stage, progress.fraction)
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception as error:  # noqa: BLE001 progress that cannot be delivered is no reason to fail
                log(_logger, logging.WARNING, "progress not delivered", error=error)
