"""A parsed request: its task, its checked body, and its lane."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from cellworker.errors import WorkerError
from cellworker.protocol.envelope import WorkRequest
from cellworker.tasks.task import Lane, Task

__all__ = ["Question", "understand"]


@dataclass(frozen=True, slots=True)
class Question:
    """A task with the checked body of a request."""

    task: Task
    body: Struct

    @property
    def lane(self) -> Lane:
        """The lane that answers it."""
        return self.task.lane_of(self.body)

    @property
    def reads_cell_sets(self) -> bool:
        """Whether the answer depends on the cell sets."""
        return self.task.reads_cell_sets(self.body)

    @classmethod
    def of(cls, body: Mapping[str, Any], name: str, find_task: Callable[[str], Task]) -> "Question":
        """Read the body of a task.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` for a name that no task has, or naming the field.
        """
        task = find_task(name)
        return cls(task, task.read_body(body))


def understand(request: WorkRequest, find_task: Callable[[str], Task]) -> Question | WorkerError:
    """Return the parsed request, or the error that is its answer."""
    try:
        return Question.of(request.body, request.task, find_task)
    except WorkerError as error:
        return error
