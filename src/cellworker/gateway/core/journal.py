"""Accepted requests, kept in the object store until they are answered.

A FIFO queue delivers nothing more while a message of its group is in flight, so a long request cannot stay in the
queue while it is worked on. It is written here first and then removed from the queue: at every moment at least one of
the two holds it.

Layout, in the results bucket: ``.journal/<experiment>/<owner>/<slot>`` is one request, and the ``alive`` beside it is
renewed while the owner, a pod, has requests open; an empty one releases them all. The platform's role may write
objects but not remove them, so a closed request is an empty object, and its slot is reused: a pod leaves as many
objects as it ever had requests open at a time. ``.dead/<experiment>/<etag>`` records requests that failed for good.
"""

import asyncio
import base64
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from types import TracebackType
from typing import Protocol, Self

import msgspec

from cellworker.gateway.core.cancel_tasks import end
from cellworker.gateway.core.journal_keys import ROOT, AliveKey, EntryKey, buried_key, home_of, parse_key
from cellworker.gateway.core.ports import Delivery
from cellworker.gateway.core.sealing import Sealer
from cellworker.identifiers import ExperimentId, PodName
from cellworker.logs import log
from cellworker.protocol.envelope import InvalidEnvelopeError, WorkRequest

__all__ = ["ObjectFolder", "ObjectJournal", "StoredObject", "orphaned_experiments"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of a listing: `size` in bytes, `age_s` seconds since it was written, by the store's own clock."""

    key: str
    size: int
    age_s: float


class ObjectFolder(Protocol):
    """The operations that the journal needs of an object store."""

    async def put(self, key: str, content: bytes) -> None:
        """Write an object, whole or not at all."""
        ...

    async def get(self, key: str) -> bytes:
        """Read an object; empty when there is none."""
        ...

    async def listing(self, prefix: str) -> list[StoredObject]:
        """List all objects whose key begins so."""
        ...

    async def remove(self, key: str) -> None:
        """Remove an object, or leave it empty where removing is not allowed."""
        ...


class _Entry(msgspec.Struct, omit_defaults=True):
    """Content of a journal object: the whole message, sealed, and the message without its secrets."""

    etag: str
    message_id: str
    attempt: int
    accepted: str
    shown: msgspec.Raw
    sealed: bytes
    trace: str | None = None
    sent: str | None = None
    """Time at which its change of cell sets was sent, by its owner's clock."""


@dataclass(slots=True)
class _Open:
    key: EntryKey
    handled: bool = True
    closing: asyncio.Lock = field(default_factory=asyncio.Lock)


class ObjectJournal:
    """One pod's journal of one experiment; an async context manager that shows other pods that this one lives.

    Parameters
    ----------
    folder
        The object store.
    experiment_id
        Whose requests.
    owner
        Names this pod: the same after a restart of its container, different for every other pod.
    sealer
        Seals the messages, which hold users' tokens.
    renew_s
        Seconds between two renewals of the ``alive`` object.
    stale_s
        Requests of an owner that has not renewed it for that long are taken over.
    now
        The clock, in UTC.
    """

    def __init__(
        self,
        folder: ObjectFolder,
        experiment_id: ExperimentId,
        owner: PodName,
        sealer: Sealer,
        *,
        renew_s: float = 20.0,
        stale_s: float = 90.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._folder = folder
        self._experiment_id = experiment_id
        self._owner = owner
        self._alive_key = AliveKey(experiment_id, owner).text
        self._sealer = sealer
        self._renew_s = renew_s
        self._stale_s = stale_s
        self._now = now
        self._open: dict[int, _Open] = {}
        self._left: set[int] | None = None
        self._beginning = asyncio.Lock()
        self._renewer: asyncio.Task[None] | None = None

    @property
    def entries(self) -> int:
        """Number of requests that are open."""
        return len(self._open)

    async def __aenter__(self) -> Self:
        self._renewer = asyncio.create_task(self._renew())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end(self._renewer)
        if self._left is not None:
            # Open requests are released: other pods need not wait until this one counts as dead.
            with contextlib.suppress(Exception):
                await self._folder.put(self._alive_key, b"")

    async def write(self, delivery: Delivery) -> Delivery:
        """Store a message; see the port."""
        request = _request(delivery.body)
        entry = _Entry(
            etag=str(request.etag),  # msgspec writes no subclasses of str
            message_id=delivery.message_id,
            attempt=delivery.attempt,
            accepted=self._now().isoformat(timespec="milliseconds"),
            shown=msgspec.Raw(msgspec.json.encode(request.redacted())),
            sealed=base64.b64encode(self._sealer.seal(delivery.body, request.etag)),
            trace=delivery.trace,
        )
        opened = await self._put(entry)
        return self._delivery(opened, entry, delivery.body)

    async def orphans(self) -> list[Delivery]:
        """Take over requests that this pod's earlier process, or a dead pod, accepted and did not answer.

        Each takeover is counted in the entry before it is returned, so that a request that crashes every process that
        works on it shows in its number of attempts.
        """
        await self._begin()
        listed = await self._folder.listing(home_of(self._experiment_id))
        lost = [key for key, item in _entries(listed).items() if key.owner == self._owner and self._forsaken(key, item)]
        lost += [key for key in _orphans(listed, self._stale_s) if key.owner != self._owner]
        taken: list[Delivery] = []
        for key in lost:
            try:
                delivery = await self._take(key)
            except Exception as error:  # noqa: BLE001 - what was taken must be answered; the rest is there the next time
                log(_logger, logging.WARNING, "journal could not be read", key=key.text, reason=type(error).__name__)
                break
            if delivery is not None:
                taken.append(delivery)
        return taken

    async def sent_at(self, message_id: str) -> datetime | None:
        """Return when the holder of this message sent its change of cell sets; see the port."""
        for key, item in _entries(await self._folder.listing(home_of(self._experiment_id))).items():
            entry = _decoded(await self._folder.get(key.text)) if item.size else None
            if entry is not None and entry.message_id == message_id:
                return _time(entry.sent) or self._now()
        return None

    async def bury(self, delivery: Delivery, reason: str) -> None:
        """Store a record of a request that failed for good: the message without its secrets, and why."""
        request = _request(delivery.body)
        record = {
            "etag": str(request.etag),
            "attempts": delivery.attempt,
            "time": self._now().isoformat(timespec="milliseconds"),
            "reason": request.scrub(reason),
            "request": request.redacted(),
        }
        await self._folder.put(buried_key(self._experiment_id, request.etag), msgspec.json.encode(record))

    def _forsaken(self, key: EntryKey, item: StoredObject) -> bool:
        """Whether an entry of this pod was left by an earlier process, or released."""
        opened = self._open.get(key.slot)
        return item.size > 0 and (opened is None or not opened.handled)

    async def _take(self, key: EntryKey) -> Delivery | None:
        content = await self._folder.get(key.text)
        entry = _decoded(content)
        if entry is None:
            if content:
                log(_logger, logging.ERROR, "journal entry unreadable", key=key.text)
                await self._folder.remove(key.text)
            return None
        entry.attempt += 1
        own = key.owner == self._owner
        opened = await self._put(entry, key.slot if own else None)
        if not own:
            await self._folder.remove(key.text)
        # Where a pod with another key sealed it, everything but the user's token is known.
        body = self._sealer.open(base64.b64decode(entry.sealed), entry.etag) or bytes(entry.shown)
        log(_logger, logging.WARNING, "request taken over", etag=entry.etag, attempt=entry.attempt, own=own)
        return self._delivery(opened, entry, body)

    async def _begin(self) -> None:
        """Find the slots that an earlier process left in use, and write ``alive`` before the first request is open.

        Otherwise a new entry could overwrite an old one, or another pod could take it over.
        """
        async with self._beginning:
            if self._left is None:
                found = _entries(await self._folder.listing(home_of(self._experiment_id, self._owner)))
                await self._folder.put(self._alive_key, b"1")
                self._left = {key.slot for key, item in found.items() if item.size}

    async def _put(self, entry: _Entry, slot: int | None = None) -> _Open:
        await self._begin()
        assert self._left is not None
        if slot is None:
            slot = next(number for number in count() if number not in self._open and number not in self._left)
        opened = self._open.setdefault(slot, _Open(EntryKey(self._experiment_id, self._owner, slot)))
        opened.handled = True
        try:
            await self._folder.put(opened.key.text, msgspec.json.encode(entry))
        except BaseException:
            # It may be written all the same, or an older version of it may be there: then it is an orphan.
            opened.handled = False
            del self._open[slot]
            self._left.add(slot)
            raise
        self._left.discard(slot)
        return opened

    def _delivery(self, opened: _Open, entry: _Entry, body: bytes) -> Delivery:
        async def done() -> None:
            async with opened.closing:
                if self._open.get(opened.key.slot) is opened:
                    await self._folder.remove(opened.key.text)
                    del self._open[opened.key.slot]

        async def release() -> None:
            opened.handled = False

        async def claim() -> bool:
            async with opened.closing:
                return await self._claim(opened, entry)

        sent_at = _time(entry.sent)
        return Delivery(body, entry.attempt, done, release, entry.message_id, entry.trace, sent_at, claim)

    async def _claim(self, opened: _Open, entry: _Entry) -> bool:
        """Note that a change of cell sets is sent now; False where another pod has taken the entry over."""
        if self._open.get(opened.key.slot) is not opened:
            return False
        found = _decoded(await self._folder.get(opened.key.text))
        if found is None or (found.message_id, found.etag, found.attempt) != (
            entry.message_id,
            entry.etag,
            entry.attempt,
        ):
            del self._open[opened.key.slot]
            return False
        entry.sent = self._now().isoformat(timespec="milliseconds")
        await self._folder.put(opened.key.text, msgspec.json.encode(entry))
        return True

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._renew_s)
            if not self._open:
                continue
            try:
                await self._folder.put(self._alive_key, b"1")
            except Exception as error:  # noqa: BLE001 - the worst that follows is that a request is answered twice
                log(_logger, logging.WARNING, "journal could not be renewed", reason=type(error).__name__)


async def orphaned_experiments(folder: ObjectFolder, stale_s: float = 90.0) -> list[ExperimentId]:
    """Name the experiments with requests that no living pod answers, the longest waiting first."""
    orphans = _orphans(await folder.listing(ROOT), stale_s)
    return list(dict.fromkeys(key.experiment_id for key in orphans))


def _entries(listed: list[StoredObject]) -> dict[EntryKey, StoredObject]:
    """Return the entries of a listing; other objects are skipped."""
    found = ((parse_key(item.key), item) for item in listed)
    return {key: item for key, item in found if isinstance(key, EntryKey)}


def _orphans(listed: list[StoredObject], stale_s: float) -> list[EntryKey]:
    """Return the entries whose owner released them, or has been silent for too long; the oldest first."""
    found = [(parse_key(item.key), item) for item in listed]
    signs = {key: item for key, item in found if isinstance(key, AliveKey)}

    def orphaned(key: EntryKey, item: StoredObject) -> bool:
        if item.size == 0:
            return False
        sign = signs.get(key.alive)
        if sign is not None and sign.size == 0 and sign.age_s <= item.age_s:
            return True
        return item.age_s > stale_s and (sign is None or sign.age_s > stale_s)

    entries = [(key, item) for key, item in found if isinstance(key, EntryKey) and orphaned(key, item)]
    return [key for key, item in sorted(entries, key=lambda entry: -entry[1].age_s)]


def _decoded(content: bytes) -> _Entry | None:
    try:
        entry = msgspec.json.decode(content, type=_Entry)
        base64.b64decode(entry.sealed)
    except (msgspec.DecodeError, ValueError):
        return None
    return entry


def _time(text: str | None) -> datetime | None:
    """Read a time of an entry; None where there is none, or none that can be read."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo else found.replace(tzinfo=UTC)


def _request(body: bytes) -> WorkRequest:
    try:
        return WorkRequest.parse(body)
    except InvalidEnvelopeError as error:
        return error.request
