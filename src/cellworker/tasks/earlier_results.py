"""Results that a request builds on, where there is no store of results: asked for again."""

import msgspec

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Experiment
from cellworker.protocol.bodies import decode_body
from cellworker.tasks.catalog import find
from cellworker.tasks.task import Context, PrepareInput, Task

__all__ = ["ask_for_earlier"]


def ask_for_earlier(task: Task, body: msgspec.Struct, experiment: Experiment, context: Context) -> bytes | None:
    """Return the JSON text of the earlier result that a task builds on; None where it builds on none.

    Raises
    ------
    WorkerError
        What the earlier task raises.
    """
    import orjson  # noqa: PLC0415 most tasks build on nothing

    earlier = task.earlier(body) if task.earlier else None
    if earlier is None:
        return None
    refusal: WorkerError | None = None
    for question in earlier.bodies:
        asked = find(question["name"])
        request = asked.prepare(PrepareInput(decode_body(asked.name, question), None, CellSets.empty()))
        try:
            value = asked.compute(experiment, request, context)
        except WorkerError as error:
            if error.code is not ErrorCode.REDUCTION_NOT_FOUND:
                raise
            refusal = error
            continue
        return asked.finish(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
    assert refusal is not None, "an earlier result without a question"
    raise refusal
