"""A parsed request: its task, its checked body, and its lane."""

from collections.abc import Callable
from dataclasses import dataclass

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


def understand(request: WorkRequest, find_task: Callable[[str], Task]) -> Question | WorkerError:
    """Return the parsed request, or the error that is its answer."""
    try:
        task = find_task(request.task)
        return Question(task, task.read_body(request.body))
    except WorkerError as error:
        return error
