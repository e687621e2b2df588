"""Results that a request builds on: from the store, or computed where the request does not name one."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.core.ports import EnginePort
from cellworker.identifiers import ETag
from cellworker.protocol.encoding import decompress
from cellworker.tasks.steps import earlier_requests, passed_over
from cellworker.tasks.task import EarlierResult, Task

__all__ = ["earlier_result"]


async def earlier_result(
    wanted: EarlierResult,
    get: Callable[[ETag], Awaitable[bytes | None]],
    engine: EnginePort,
    find_task: Callable[[str], Task],
) -> bytes:
    """Return an earlier result as JSON text.

    Parameters
    ----------
    wanted
        The earlier result that a task asks for.
    get
        Fetches a stored result unchanged; None when there is none.
    engine, find_task
        Compute one that has no name.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the field, where nothing is stored under the name or the content is damaged; errors of
        computing it.
    """
    if not wanted.etag:
        return await _computed(wanted, engine, find_task)
    # The bucket holds more than results: other names are not looked up.
    content = await get(ETag(wanted.etag)) if ETag.fits(wanted.etag) else None
    if content is None:
        name = wanted.bodies[0]["name"]
        message = f"{wanted.field}: there is no stored result {wanted.etag!r}. Request it with {name} first."
        raise WorkerError(ErrorCode.INVALID_INPUT, message)
    try:
        return await asyncio.to_thread(decompress, content)
    except WorkerError as error:
        raise WorkerError(error.code, f"{wanted.field}: {error.message}") from None


async def _computed(wanted: EarlierResult, engine: EnginePort, find_task: Callable[[str], Task]) -> bytes:
    refusal: WorkerError | None = None
    for task, request in earlier_requests(wanted, find_task):
        try:
            return task.finish(await engine.compute(task.name, msgspec.json.encode(request)))
        except WorkerError as error:
            if not passed_over(error):
                raise
            refusal = error
    assert refusal is not None, "an earlier result without a question"
    raise refusal
