"""The steps of a request, from its body to its result: prepare, compute, encode, finish.

All callers use these functions. Code that answers in one process (a notebook, ``cellworker call``, ``cellworker
replay``) calls `answer` or `answer_request`. In production the gateway prepares and finishes, and the engine's worker
computes and encodes.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Experiment
from cellworker.protocol.columns import encode_columns
from cellworker.protocol.value_json import encode
from cellworker.tasks.task import Context, EarlierResult, PrepareInput, Task

__all__ = ["answer", "answer_request", "compute", "earlier_requests", "passed_over"]

FindTask = Callable[[str], Task]


def answer(
    task: Task,
    body: Struct,
    experiment: Experiment,
    context: Context,
    find_task: FindTask,
    *,
    cell_sets: CellSets | None = None,
    pagination: Mapping[str, Any] | None = None,
) -> bytes | Path:
    """Answer one request in this process.

    Parameters
    ----------
    task
        The request.
    body
        The checked body (`Task.read_body`).
    experiment, cell_sets
        The experiment.
    context
        The context of `compute`.
    find_task
        Finds a task by its name; `cellworker.tasks.catalog.find` except in tests.
    pagination
        The request's.

    Returns
    -------
    bytes or Path
        The result in the form for clients: JSON text, or the path of a file.

    Raises
    ------
    WorkerError
        The task's own error.
    """
    wanted = task.earlier(body) if task.earlier else None
    earlier = None if wanted is None else _earlier(wanted, experiment, context, find_task)
    request = task.prepare(PrepareInput(body, pagination, cell_sets or CellSets.empty(), earlier))
    return answer_request(task, request, experiment, context)


def answer_request(task: Task, request: Struct, experiment: Experiment, context: Context) -> bytes | Path:
    """Answer a prepared request (`Task.read_request`) in this process. See `answer`."""
    value = compute(task, request, experiment, context)
    return value if isinstance(value, Path) else task.finish(value)


def compute(
    task: Task,
    request: Struct,
    experiment: Experiment,
    context: Context,
    before_encoding: Callable[[], None] = lambda: None,
    *,
    columns: bool = False,
) -> bytes | Path:
    """Run the engine's part of a task.

    Parameters
    ----------
    task, request, experiment, context
        As `answer_request`.
    before_encoding
        Called between computing and encoding.
    columns
        Encode typed columns (`protocol.columns`) instead of JSON; only for tasks that have them.

    Returns
    -------
    bytes or Path
        The engine's value: JSON text, typed columns, or the path of a file.
    """
    if columns:
        assert task.columns is not None, "a task without typed columns"
        table = task.columns(experiment, request, context)
        before_encoding()
        return encode_columns(table)
    value = task.compute(experiment, request, context)
    before_encoding()
    return value if isinstance(value, Path) else encode(value)


def earlier_requests(wanted: EarlierResult, find_task: FindTask) -> Iterator[tuple[Task, Struct]]:
    """Yield the requests for an earlier result that the request does not name, the likeliest first."""
    for body in wanted.bodies:
        task = find_task(body["name"])
        yield task, task.prepare(PrepareInput(task.read_body(body), None, CellSets.empty()))


def passed_over(error: WorkerError) -> bool:
    """Return whether to try the next of the `earlier_requests` after this error."""
    return error.code is ErrorCode.REDUCTION_NOT_FOUND


def _earlier(wanted: EarlierResult, experiment: Experiment, context: Context, find_task: FindTask) -> bytes:
    refusal: WorkerError | None = None
    for task, request in earlier_requests(wanted, find_task):
        try:
            result = answer_request(task, request, experiment, context)
        except WorkerError as error:
            if not passed_over(error):
                raise
            refusal = error
            continue
        assert isinstance(result, bytes), "an earlier result that is a file"
        return result
    assert refusal is not None, "an earlier result without a question"
    raise refusal
