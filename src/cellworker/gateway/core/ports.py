"""The gateway's seams: what it needs from outside, each with an embedded twin and a production adapter."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from cellworker.gateway.core.cell_set_reading import CellSetsFile
from cellworker.identifiers import ETag, ExperimentId
from cellworker.protocol.events import Status

__all__ = [
    "CellSetsSource",
    "Claim",
    "Delivery",
    "EnginePort",
    "ExperimentFiles",
    "Journal",
    "NotHeldError",
    "Notifications",
    "Queue",
    "Results",
]


class NotHeldError(Exception):
    """Another process has taken the request over, and answers it."""


async def _granted() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to change cell sets for one request; it is lost when another process takes the request over.

    Attributes
    ----------
    earlier
        Returns when an earlier attempt sent the same change, or may have; None when none has.
    take
        Called right before a change is sent: notes it where the next attempt looks, and returns whether the request is
        still ours.
    """

    earlier: Callable[[], Awaitable[datetime | None]]
    take: Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message from the queue.

    Until `done` or `release` is called, the queue keeps the message hidden for as long as it can. Both may be
    called when it could not: a message that is redelivered meanwhile is a delivery of its own.

    Attributes
    ----------
    body
        The message's text.
    attempt
        Counts deliveries, from 1.
    done
        Removes the message for good.
    release
        Hands it back at once where the role may do so, else when its visibility timeout ends.
    message_id
        The same for every delivery of one message, and different for two messages of the same text.
    trace
        The ``AWSTraceHeader`` of the message.
    sent_at
        When an earlier attempt sent its change of cell sets, as far as the journal knows.
    claim
        Returns whether the message is still ours; an entry of the journal notes that a change of cell sets is sent now.
    """

    body: bytes
    attempt: int
    done: Callable[[], Awaitable[None]]
    release: Callable[[], Awaitable[None]]
    message_id: str = ""
    trace: str | None = None
    sent_at: datetime | None = None
    claim: Callable[[], Awaitable[bool]] = _granted


class Queue(Protocol):
    """The source of requests."""

    def offer(self, capacity: int) -> None:
        """Set how many messages may be taken from now on; each waiting call takes one."""
        ...

    def deliveries(self) -> AsyncIterator[Delivery]:
        """Yield messages until the queue is closed; retry during outages, with growing pauses."""
        ...


class Journal(Protocol):
    """Keeps accepted requests outside of the queue and of the process until they are answered."""

    async def write(self, delivery: Delivery) -> Delivery:
        """Store a message, and return the delivery that stands for it from now on.

        The returned delivery's `done` closes the entry, its `release` leaves it to the next pod that looks. The message
        itself may be removed from the queue once this has returned.

        Raises
        ------
        Exception
            When it could not be stored; the message must stay in the queue.
        """
        ...

    async def orphans(self) -> list[Delivery]:
        """Take over requests that this pod's earlier process, or a dead pod, accepted and did not answer."""
        ...

    async def sent_at(self, message_id: str) -> datetime | None:
        """Return when the holder of this message in the journal sent its change of cell sets.

        None when it is not held; now, when it is held and the change may be sent at any moment.
        """
        ...

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Store a record of a request that is given up."""
        ...


class Results(Protocol):
    """The store of results, by ETag."""

    async def exists(self, etag: ETag) -> bool:
        """Whether a result is stored."""
        ...

    async def get(self, etag: ETag) -> bytes | None:
        """Return a stored result unchanged; None when there is none."""
        ...

    async def put(self, etag: ETag, content: bytes | Path, tags: Mapping[str, str]) -> None:
        """Store a result with its tags in one step; a file is moved or uploaded as it is.

        Temporary errors are retried for a short time.
        """
        ...

    async def url(self, etag: ETag) -> str:
        """Return the address of a result for clients."""
        ...


class Notifications(Protocol):
    """Sends events to browsers. Events arrive in the order in which they are posted or emitted."""

    def post(self, event: str, payload: Any, told: Callable[[bool], None]) -> None:  # noqa: ANN401
        """Send one event to everyone, without waiting for it; an event that cannot be sent soon is dropped.

        Parameters
        ----------
        event, payload
            The event.
        told
            Called with whether it was sent.
        """
        ...

    async def emit(self, event: str, payload: Any) -> None:  # noqa: ANN401
        """Send one event to everyone.

        Raises
        ------
        Exception
            When it could not be sent just now.
        """
        ...


class CellSetsSource(Protocol):
    """Reads and changes cell sets."""

    async def read(self, experiment_id: ExperimentId) -> bytes | CellSetsFile:
        """Return the current cell_sets.json; a large one may come as a file."""
        ...

    async def patch(
        self,
        experiment_id: ExperimentId,
        operations: list[dict[str, Any]],
        authorization: str | None,
        *,
        claim: Claim | None = None,
    ) -> None:
        """Apply operations of contract 5.22.

        Parameters
        ----------
        experiment_id
            Whose cell sets.
        operations
            The patch.
        authorization
            The request's own, passed on verbatim.
        claim
            The right to do so, where a request asks for it: inserted sets are then looked for first, since an earlier
            attempt or another process may have inserted them.

        Raises
        ------
        WorkerError
            CELL_SETS_UPDATE_FAILED with the platform's words when refused.
        NotHeldError
            When the claim was lost; nothing was sent then.
        """
        ...


class ExperimentFiles(Protocol):
    """Keeps the engine's copy of the experiment up to date."""

    async def sync(self, on_stage: Callable[[Status], Awaitable[None]]) -> None:
        """Return once the engine serves the content at the time of the call, or newer content.

        Parameters
        ----------
        on_stage
            Called with DOWNLOADING and LOADING, where something is fetched.

        Raises
        ------
        WorkerError
            When the experiment cannot be served.
        """
        ...


class EnginePort(Protocol):
    """Computes requests."""

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
            The engine's error.
        """
        ...
