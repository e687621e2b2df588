"""The gateway's seams: what it needs from the world, each with an embedded twin and a production adapter."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

__all__ = ["CellSetsSource", "Delivery", "EnginePort", "Notifications", "Queue", "Results"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message from the queue. `attempt` counts from 1; `done` removes it for good; `release` hands it back."""

    body: bytes
    attempt: int
    done: Callable[[], Awaitable[None]]
    release: Callable[[], Awaitable[None]]


class Queue(Protocol):
    """Where requests come from."""

    def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield messages until the queue is closed."""
        ...


class Results(Protocol):
    """Where results are kept, by ETag."""

    async def exists(self, etag: str) -> bool:
        """Whether a result is stored."""
        ...

    async def put(self, etag: str, content: bytes | Path, tags: Mapping[str, str]) -> None:
        """Store a result with its tags in one step; a file is moved or uploaded as it is."""
        ...

    async def url(self, etag: str) -> str:
        """Where a client can fetch the result."""
        ...


class Notifications(Protocol):
    """How browsers hear of results."""

    async def emit(self, event: str, payload: Any) -> None:  # noqa: ANN401
        """Send one event to everyone."""
        ...


class CellSetsSource(Protocol):
    """Where cell sets are read and changed."""

    async def read(self, experiment_id: str) -> bytes:
        """Return the current cell_sets.json."""
        ...

    async def patch(self, experiment_id: str, operations: list[dict[str, Any]], authorization: str | None) -> None:
        """Apply operations of contract 5.22; raises `WorkerError` CELL_SETS_UPDATE_FAILED when refused."""
        ...


class EnginePort(Protocol):
    """Where computation happens."""

    async def compute(
        self,
        task: str,
        request: bytes,
        on_progress: Callable[[str, float | None], Awaitable[None]] | None = None,
    ) -> bytes:
        """Return the JSON text of the engine's value (of ``data`` where there is an envelope).

        Raises
        ------
        WorkerError
            What the engine answered as its error.
        """
        ...
