"""The engine asks the language model for its worker processes, which know neither its key nor how to reach it."""

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from cellworker.engine.workers.frames import Answered, ProgressFrame
from cellworker.errors import ErrorCode, WorkerError
from cellworker.logs import log
from cellworker.tasks.context import Annotator, ClusterQuestion

__all__ = ["ask"]

_logger = logging.getLogger(__name__)


class _NobodyWaitsError(Exception):
    """Raised inside `annotate` when its request has ended."""


async def ask(
    annotate: Annotator, question: bytes, scratch: Path, on_progress: Callable[[ProgressFrame], None]
) -> Answered:
    """Put a worker's question to the model. Cancelling this ends the process that asks within a quarter second.

    Parameters
    ----------
    annotate
        Asks.
    question
        `ClusterQuestion` as MessagePack, which unlike JSON knows every number.
    scratch
        The request's own folder.
    on_progress
        Called in this thread.

    Returns
    -------
    Answered
        The model's answer, or why there is none.
    """
    loop = asyncio.get_running_loop()
    stopped = threading.Event()

    def tell(stage: str, fraction: float | None = None) -> None:
        if stopped.is_set():
            raise _NobodyWaitsError
        loop.call_soon_threadsafe(on_progress, ProgressFrame(stage, fraction))

    try:
        given = ClusterQuestion(**msgspec.msgpack.decode(question))
        return Answered(await asyncio.to_thread(annotate, given, tell, scratch))
    except WorkerError as error:
        return Answered(code=error.code, message=error.message)
    except Exception as error:  # noqa: BLE001 the worker waits for a reply in every case
        log(_logger, logging.ERROR, "asking the language model failed", error=error)
        message = "The clusters could not be annotated: an unexpected error occurred."
        return Answered(code=ErrorCode.R_WORKER_CASSIA_ERROR, message=message)
    finally:
        stopped.set()
