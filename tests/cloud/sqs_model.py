"""Queues as SQS documents them: FIFO groups, visibility, deduplication, dead letters; kept in a log that survives.

Sources: Amazon SQS Developer Guide ("FIFO delivery logic", "Exactly-once processing", "Visibility timeout", "Using
the message deduplication ID", "Dead-letter queues") and API Reference (each action's page).
"""

import hashlib
import heapq
import os
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import orjson

DEDUPLICATION_S = 300
LONGEST_VISIBILITY_S = 43200
_COMPACT_AFTER = 20_000


@dataclass
class Message:
    """One message; times are seconds since 1970."""

    id: str
    body: str
    sent: float
    sequence: int
    group: str = ""
    deduplication: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    trace: str | None = None
    visible_at: float = 0.0
    received: int = 0
    first_received: float = 0.0
    last_received: float = 0.0
    handle: str = ""
    in_flight: bool = False


class Queue:
    """One queue. Every method is given the time, and nothing happens but by calling one."""

    def __init__(self, name: str, attributes: dict[str, str], created: float) -> None:
        self.name, self.attributes, self.created = name, attributes, created
        self.fifo = name.endswith(".fifo")
        self.messages: OrderedDict[str, Message] = OrderedDict()
        self.groups: OrderedDict[str, OrderedDict[str, Message]] = OrderedDict()
        self.busy: dict[str, int] = {}
        self.timers: list[tuple[float, str]] = []
        self.hidden: set[str] = set()
        self.recent: OrderedDict[str, tuple[float, str, int]] = OrderedDict()
        self.attempts: dict[str, tuple[float, list[tuple[str, str]]]] = {}
        self.sequence = 0

    def setting(self, name: str, default: int) -> int:
        """A whole number among the attributes."""
        return int(self.attributes.get(name, default))

    def add(self, message: Message) -> None:
        """Put a message at the end."""
        self.messages[message.id] = message
        self.sequence = max(self.sequence, message.sequence)
        group = message.group if self.fifo else ""
        self.groups.setdefault(group, OrderedDict())[message.id] = message
        if message.in_flight:
            self.busy[group] = self.busy.get(group, 0) + 1
        self._time(message)

    def remove(self, message: Message) -> None:
        """Take a message out for good."""
        self.show(message)
        del self.messages[message.id]
        name = message.group if self.fifo else ""
        group = self.groups[name]
        del group[message.id]
        if not group:
            del self.groups[name]
        self.hidden.discard(message.id)

    def hide(self, message: Message, until: float) -> None:
        """Make a message invisible until then, as being in flight."""
        if not message.in_flight:
            message.in_flight = True
            group = message.group if self.fifo else ""
            self.busy[group] = self.busy.get(group, 0) + 1
        message.visible_at = until
        self._time(message)

    def show(self, message: Message) -> None:
        """Make a message visible where it was in its group (FIFO), or at the end (standard)."""
        message.visible_at = 0.0
        self.hidden.discard(message.id)
        if message.in_flight:
            message.in_flight = False
            group = message.group if self.fifo else ""
            self.busy[group] -= 1
            if not self.busy[group]:
                del self.busy[group]
            if not self.fifo:
                self.groups[""].move_to_end(message.id)

    def settle(self, now: float) -> None:
        """Make visible what is due."""
        while self.timers and self.timers[0][0] <= now:
            due, name = heapq.heappop(self.timers)
            message = self.messages.get(name)
            if message is not None and message.visible_at == due:
                self.show(message)
        while self.recent and next(iter(self.recent.values()))[0] <= now:
            self.recent.popitem(last=False)

    def next_due(self) -> float | None:
        """When something may become visible by itself."""
        return self.timers[0][0] if self.timers else None

    def available(self, most: int, blocked: frozenset[str] = frozenset()) -> list[Message]:
        """Up to `most` visible messages in the order of delivery, none of the groups `blocked`.

        FIFO: a group gives nothing while one of its messages is in flight, else as many as possible from its front.
        """
        found: list[Message] = []
        for name, group in self.groups.items():
            if self.fifo and (self.busy.get(name) or name in blocked):
                continue
            for message in group.values():
                if len(found) == most:
                    return found
                if message.id not in self.hidden:
                    found.append(message)
                elif self.fifo:
                    break
        return found

    def _time(self, message: Message) -> None:
        if message.visible_at:
            self.hidden.add(message.id)
            heapq.heappush(self.timers, (message.visible_at, message.id))

    def report(self) -> dict[str, Any]:
        """What tests look at."""
        flying = sum(self.busy.values())
        return {
            "visible": len(self.messages) - len(self.hidden),
            "in_flight": flying,
            "delayed": len(self.hidden) - flying,
            "messages": [
                {"id": m.id, "body": m.body, "group": m.group, "received": m.received, "in_flight": m.in_flight}
                for m in self.messages.values()
            ],
        }


class State:
    """All queues, and the log of every change, which a restart reads.

    Each change is one line, written before it is acknowledged; the kernel keeps it when the process is killed. The log
    is rewritten as a snapshot when it is opened and when it has grown.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.queues: dict[str, Queue] = {}
        self.offset = 0.0
        self._lines = 0
        self._log: int | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                self._replay(path.read_bytes())
            self._compact()

    def write(self, *change: Any) -> None:
        """Add one change to the log: its verb, the queue's name, and what belongs to it."""
        if self._log is None:
            return
        os.write(self._log, orjson.dumps(change) + b"\n")
        self._lines += 1
        if self._lines > max(_COMPACT_AFTER, 4 * sum(len(queue.messages) for queue in self.queues.values())):
            self._compact()

    def sent(self, queue: Queue, message: Message, key: str) -> None:
        """Log a new message with its deduplication."""
        if self._log is not None:
            self.write("sent", queue.name, [_row(message), key])

    def save(self, queue: Queue, message: Message) -> None:
        """Log a message as it is now."""
        if self._log is not None:
            self.write("set", queue.name, _row(message))

    def touch(self, queue: Queue, *messages: Message) -> None:
        """Log what a receive or a new visibility changed."""
        if self._log is not None:
            rows = [
                (m.id, m.visible_at, m.received, m.first_received, m.last_received, m.handle, m.in_flight)
                for m in messages
            ]
            self.write("touch", queue.name, rows)

    def drop(self, queue: Queue, *messages: Message) -> None:
        """Log that messages are gone."""
        self.write("drop", queue.name, [message.id for message in messages])

    def _snapshot(self) -> Iterator[tuple[Any, ...]]:
        yield "clock", "", self.offset
        for queue in self.queues.values():
            yield "queue", queue.name, [queue.attributes, queue.created, queue.sequence]
            for message in queue.messages.values():
                yield "set", queue.name, _row(message)
            for key, value in queue.recent.items():
                yield "recent", queue.name, [key, *value]

    def _compact(self) -> None:
        assert self.path is not None
        unfinished = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        count = 0
        with unfinished.open("wb") as file:
            for change in self._snapshot():
                file.write(orjson.dumps(change) + b"\n")
                count += 1
        unfinished.replace(self.path)
        if self._log is not None:
            os.close(self._log)
        self._log = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        # What the snapshot itself takes is not growth.
        self._lines = -count

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            os.close(self._log)
            self._log = None

    def _replay(self, content: bytes) -> None:
        for line in content.split(b"\n")[:-1]:  # a line without its end was not acknowledged
            verb, name, value = orjson.loads(line)
            match verb:
                case "clock":
                    self.offset = value
                case "queue":
                    queue = self.queues.get(name) or Queue(name, value[0], value[1])
                    queue.attributes = value[0]
                    queue.sequence = max(queue.sequence, value[2])
                    self.queues[name] = queue
                case "gone":
                    self.queues.pop(name, None)
                case "set":
                    self.queues[name].add(Message(**value))
                case "sent":
                    self._sent(self.queues[name], *value)
                case "recent":
                    self.queues[name].recent[value[0]] = tuple(value[1:])  # type: ignore[assignment]
                case "drop":
                    queue = self.queues[name]
                    for each in value:
                        if each in queue.messages:
                            queue.remove(queue.messages[each])
                case "touch":
                    self._touched(self.queues[name], value)

    @staticmethod
    def _sent(queue: Queue, row: dict[str, Any], key: str) -> None:
        message = Message(**row)
        queue.add(message)
        if queue.fifo:
            queue.recent[key] = (message.sent + DEDUPLICATION_S, message.id, message.sequence)

    @staticmethod
    def _touched(queue: Queue, rows: list[list[Any]]) -> None:
        for name, visible_at, received, first, last, handle, in_flight in rows:
            message = queue.messages[name]
            message.received, message.first_received, message.last_received = received, first, last
            message.handle = handle
            if in_flight:
                queue.hide(message, visible_at)
            else:
                queue.show(message)


def _row(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in _FIELDS}


_FIELDS = [item.name for item in fields(Message)]


def content_hash(body: str) -> str:
    """The deduplication id of a queue with content-based deduplication."""
    return hashlib.sha256(body.encode()).hexdigest()


def new_id() -> str:
    """A message id."""
    return str(uuid.uuid4())
