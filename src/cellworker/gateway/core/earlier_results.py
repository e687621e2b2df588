"""Results that a request builds on: from the store, or computed where the request does not name one."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.gateway.core.ports import EnginePort
from cellworker.identifiers import ETag
from cellworker.protocol.bodies import convert
from cellworker.protocol.encoding import decompress
from cellworker.tasks.task import EarlierResult, PrepareInput, Task

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
        What a task says that it builds on.
    get
        Fetches a stored result as it lies there; None when there is none.
    engine, find_task
        Compute one that has no name.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the field where nothing is stored under the name, or what is stored is damaged; what
        computing it raises.
    """
    if not wanted.etag:
        return await _computed(wanted, engine, find_task)
    # A name of another form is no result's, and the bucket holds more than results.
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
    for question in wanted.bodies:
        task = find_task(question["name"])
        given = PrepareInput(convert(question, task.body, "body"), None, CellSets.empty())
        try:
            return task.finish(await engine.compute(task.name, msgspec.json.encode(task.prepare(given))))
        except WorkerError as error:
            if error.code is not ErrorCode.REDUCTION_NOT_FOUND:
                raise
            refusal = error
    assert refusal is not None, "an earlier result without a question"
    raise refusal
