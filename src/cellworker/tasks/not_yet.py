"""The tasks that this version knows but cannot do yet: an honest error instead of an invented answer."""

from typing import Any, NoReturn

from cellworker.errors import ErrorCode, WorkerError
from cellworker.protocol.bodies import BODIES
from cellworker.protocol.engine_bodies import AnyRequest
from cellworker.tasks.task import Task

__all__ = ["NOT_YET"]


def _task(name: str, path: str, *, cacheable: bool = True, needs_cell_sets: bool = True) -> Task:
    def refuse(*_: Any) -> NoReturn:  # noqa: ANN401
        raise WorkerError(ErrorCode.TASK_NOT_AVAILABLE, f"{name} is not available yet in this version of cellworker.")

    return Task(
        name=name,
        path=path,
        body=BODIES[name],
        request=AnyRequest,
        prepare=refuse,
        compute=refuse,
        lane="long",
        cacheable=cacheable,
        needs_cell_sets=needs_cell_sets,
    )


NOT_YET = [
]
