"""A stand-in for Amazon SQS with exact FIFO semantics, over the AWS JSON 1.0 protocol.

``python tests/cloud/sqs_server.py --port 0 --ready-file F [--state FILE] [--allow sqs:ReceiveMessage,...]``. What can
be changed while it runs tells `stand_in`. Not there: messages past their retention period, limits on messages in
flight, digests of message attributes, encryption, tags, policies of queues.
"""

import asyncio
import hashlib
import random
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import orjson
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent))

from sqs_model import DEDUPLICATION_S, LONGEST_VISIBILITY_S, Message, Queue, State, content_hash, new_id
from stand_in import Door, RefusedError, arguments, is_tester, make_door, run

ACCOUNT = "000000000000"
REGION = "eu-west-1"
LARGEST_MESSAGE = 1 << 20
MOST = 10

_JSON = "application/x-amz-json-1.0"
_PREFIX = "AmazonSQS."
_MISSING_QUEUE = "AWS.SimpleQueueService.NonExistentQueue"
_HANDLE = re.compile(r"AQEB([0-9a-f-]{36})\.\d+\.[0-9a-f]{16}")
# Codes as old clients know them (the header that botocore prefers), and the shapes that the JSON protocol names.
_SHAPES = {
    _MISSING_QUEUE: "com.amazonaws.sqs#QueueDoesNotExist",
    "QueueAlreadyExists": "com.amazonaws.sqs#QueueNameExists",
    "ReceiptHandleIsInvalid": "com.amazonaws.sqs#ReceiptHandleIsInvalid",
    "AWS.SimpleQueueService.MessageNotInflight": "com.amazonaws.sqs#MessageNotInflight",
    "AWS.SimpleQueueService.EmptyBatchRequest": "com.amazonaws.sqs#EmptyBatchRequest",
    "AWS.SimpleQueueService.TooManyEntriesInBatchRequest": "com.amazonaws.sqs#TooManyEntriesInBatchRequest",
    "AWS.SimpleQueueService.BatchEntryIdsNotDistinct": "com.amazonaws.sqs#BatchEntryIdsNotDistinct",
    "AWS.SimpleQueueService.BatchRequestTooLong": "com.amazonaws.sqs#BatchRequestTooLong",
    "AWS.SimpleQueueService.UnsupportedOperation": "com.amazonaws.sqs#UnsupportedOperation",
    "InvalidAttributeName": "com.amazonaws.sqs#InvalidAttributeName",
    "AccessDenied": "com.amazon.coral.service#AccessDeniedException",
    "InvalidAction": "com.amazon.coral.service#UnknownOperationException",
    "ThrottlingException": "com.amazon.coral.availability#ThrottlingException",
    "InternalError": "com.amazon.coral.service#InternalFailure",
}
_ATTRIBUTES = {
    "VisibilityTimeout": "30",
    "MaximumMessageSize": str(LARGEST_MESSAGE),
    "MessageRetentionPeriod": "345600",
    "DelaySeconds": "0",
    "ReceiveMessageWaitTimeSeconds": "0",
}
_SETTABLE = {
    *_ATTRIBUTES,
    "Policy",
    "RedrivePolicy",
    "RedriveAllowPolicy",
    "FifoQueue",
    "ContentBasedDeduplication",
    "DeduplicationScope",
    "FifoThroughputLimit",
    "KmsMasterKeyId",
    "KmsDataKeyReusePeriodSeconds",
    "SqsManagedSseEnabled",
}

Answer = dict[str, Any] | None


def refuse(message: str, code: str = "InvalidParameterValue") -> NoReturn:
    """Answer that the client made a mistake."""
    raise RefusedError(400, code, message)


class Sqs:
    """The actions, each a method of the action's name."""

    name = "sqs"

    def __init__(self, door: Door, state: State, *, groups_once: bool = False) -> None:
        self.door, self.state = door, state
        self.groups_once = groups_once
        door.offset = state.offset
        self.waiting: dict[str, set[asyncio.Future[None]]] = {}
        self.actions: dict[str, Callable[[dict[str, Any], str], Answer]] = {
            action.__name__: action
            for action in (
                self.CreateQueue,
                self.DeleteQueue,
                self.ListQueues,
                self.GetQueueUrl,
                self.GetQueueAttributes,
                self.SetQueueAttributes,
                self.PurgeQueue,
                self.SendMessage,
                self.SendMessageBatch,
                self.DeleteMessage,
                self.DeleteMessageBatch,
                self.ChangeMessageVisibility,
                self.ChangeMessageVisibilityBatch,
            )
        }

    # The way of one request

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Carry out one request."""
        action = request.headers.get("X-Amz-Target", "").removeprefix(_PREFIX)
        try:
            fault = await self.door.enter(request, action)
            parameters = orjson.loads(await request.read() or b"{}")
            self.authorize(request, action, parameters)
            self.door.reset_before(fault)
            if action == "ReceiveMessage":
                told: Answer = await self.receive(parameters)
            elif action in self.actions:
                told = self.actions[action](parameters, _base(request))
            else:
                refuse(f"The action {action} is not valid for this endpoint.", "InvalidAction")
            self.door.leave(fault)
        except RefusedError as error:
            return _refused(error)
        return web.Response(body=orjson.dumps(told) if told is not None else b"{}", headers={"Content-Type": _JSON})

    def authorize(self, request: web.BaseRequest, action: str, parameters: dict[str, Any]) -> None:
        """Apply the policy; a batch needs the permission of the single action, there are none for batches."""
        if is_tester(request):
            return
        permission = action.removesuffix("Batch")
        queue = parameters.get("QueueName") or str(parameters.get("QueueUrl", "")).rpartition("/")[2]
        if not self.door.permits(permission, queue):
            verb = f"sqs:{permission.lower()}"
            raise RefusedError(
                403,
                "AccessDenied",
                f"User: arn:aws:sts::{ACCOUNT}:assumed-role/worker/pod is not authorized to perform: {verb} "
                f"on resource: arn:aws:sqs:{REGION}:{ACCOUNT}:{queue} because no identity-based policy allows the "
                f"{verb} action",
            )

    def report(self) -> dict[str, Any]:
        """What the queues hold."""
        now = self.door.now()
        for queue in self.state.queues.values():
            queue.settle(now)
        return {"queues": {queue.name: queue.report() for queue in self.state.queues.values()}}

    def clock_moved(self) -> None:
        """Look at every queue again."""
        self.state.offset = self.door.offset
        self.state.write("clock", "", self.door.offset)
        for queue in self.state.queues.values():
            self.wake(queue)

    # Queues

    def find(self, parameters: dict[str, Any]) -> Queue:
        """The queue that a request is about, with everything due done."""
        if not parameters.get("QueueUrl"):
            refuse("The request must contain the parameter QueueUrl.", "MissingParameter")
        return self.named(str(parameters["QueueUrl"]).rpartition("/")[2])

    def named(self, name: str) -> Queue:
        """A queue by its name."""
        queue = self.state.queues.get(name)
        if queue is None:
            refuse("The specified queue does not exist.", _MISSING_QUEUE)
        queue.settle(self.door.now())
        return queue

    def CreateQueue(self, parameters: dict[str, Any], base: str) -> Answer:  # noqa: N802
        name, attributes = parameters["QueueName"], dict(parameters.get("Attributes") or {})
        fifo = attributes.get("FifoQueue") == "true"
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo", name):
            refuse("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
        if name.endswith(".fifo") != fifo:
            refuse(
                "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, "
                "must end with .fifo suffix and be 1 to 80 in length."
            )
        _check_attributes(attributes)
        queue = self.state.queues.get(name)
        if queue is not None:
            if any(queue.attributes.get(key, _ATTRIBUTES.get(key)) != value for key, value in attributes.items()):
                refuse(
                    "A queue already exists with the same name and a different value for an attribute",
                    "QueueAlreadyExists",
                )
        else:
            queue = self.state.queues[name] = Queue(name, attributes, self.door.now())
            self.state.write("queue", name, [attributes, queue.created, 0])
        return {"QueueUrl": f"{base}/{ACCOUNT}/{name}"}

    def DeleteQueue(self, parameters: dict[str, Any], base: str) -> Answer:  # noqa: N802
        queue = self.find(parameters)
        del self.state.queues[queue.name]
        self.state.write("gone", queue.name, None)
        self.wake(queue)
        return None

    def ListQueues(self, parameters: dict[str, Any], base: str) -> Answer:  # noqa: N802
        prefix = parameters.get("QueueNamePrefix") or ""
        names = [name for name in self.state.queues if name.startswith(prefix)]
        return {"QueueUrls": [f"{base}/{ACCOUNT}/{name}" for name in names]} if names else {}

    def GetQueueUrl(self, parameters: dict[str, Any], base: str) -> Answer:  # noqa: N802
        return {"QueueUrl": f"{base}/{ACCOUNT}/{self.named(parameters['QueueName']).name}"}

    def GetQueueAttributes(self, parameters: dict[str, Any], base: str) -> Answer:  # noqa: N802
        queue = self.find(parameters)
        report = queue.report()
        values = {
            **_ATTRIBUTES,
            **queue.attributes,
            "ApproximateNumberOfMessages": str(report["visible"]),
            "ApproximateNumberOfMessagesNotVisible": str(report["in_flight"]),
            "ApproximateNumberOfMessagesDelayed": str(report["delayed"]),
            "CreatedTimestamp": str(int(queue.created)),
            "LastModifiedTimestamp": str(int(queue.created)),
            "QueueArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue.name}",
        }
        if queue.fifo:
            values.setdefault("ContentBasedDeduplication", "false")
        wanted = parameters.get("AttributeNames") or []
        chosen = values if "All" in wanted else {key: value for key, value in values.items() if key in wanted}
        return {"Attributes": chosen} if chosen else {}

    def SetQueueAttributes(self, parameters: dict[str, Any], base: str) -> Answer:  # noqa: N802
        queue = self.find(parameters)
        attributes = parameters.get("Attributes") or {}
        _check_attributes(attributes)
        queue.attributes.update(attributes)
        self.state.write("queue", queue.name, [queue.attributes, queue.created, queue.sequence])
        return None

    def PurgeQueue(self, parameters: dict[str, Any], base: str) -> Answer:  # noqa: N802
        queue = self.find(parameters)
        self.remove(queue, *queue.messages.values())
        return None

    # Sending

    def SendMessage(self, parameters: dict[str, Any], base: str) -> Answer:  # noqa: N802
        return self.send(self.find(parameters), parameters)

    def SendMessageBatch(self, parameters: dict[str, Any], base: str) -> Answer:  # noqa: N802
        queue = self.find(parameters)
        if sum(len(entry["MessageBody"].encode()) for entry in parameters.get("Entries") or []) > LARGEST_MESSAGE:
            refuse(
                f"Batch requests cannot be longer than {LARGEST_MESSAGE} bytes.",
                "AWS.SimpleQueueService.BatchRequestTooLong",
            )
        return self.each(parameters, lambda entry: self.send(queue, entry))

    def send(self, queue: Queue, entry: dict[str, Any]) -> dict[str, Any]:
        """Take one message."""
        body = entry.get("MessageBody")
        if not body:
            refuse("The request must contain the parameter MessageBody.", "MissingParameter")
        if len(body.encode()) > queue.setting("MaximumMessageSize", LARGEST_MESSAGE):
            refuse(
                "One or more parameters are invalid. Reason: Message must be shorter than "
                f"{queue.setting('MaximumMessageSize', LARGEST_MESSAGE)} bytes."
            )
        digest = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
        now = self.door.now()
        group = entry.get("MessageGroupId") or ""
        deduplication = ""
        key = ""
        if queue.fifo:
            if not group:
                refuse("The request must contain the parameter MessageGroupId.", "MissingParameter")
            if entry.get("DelaySeconds"):
                refuse(
                    f"Value {entry['DelaySeconds']} for parameter DelaySeconds is invalid. Reason: "
                    "The request include parameter that is not valid for this queue type."
                )
            deduplication = entry.get("MessageDeduplicationId") or ""
            if not deduplication:
                if queue.attributes.get("ContentBasedDeduplication") != "true":
                    refuse(
                        "The queue should either have ContentBasedDeduplication enabled or "
                        "MessageDeduplicationId provided explicitly"
                    )
                deduplication = content_hash(body)
            scoped = queue.attributes.get("DeduplicationScope") == "messageGroup"
            key = f"{group}\n{deduplication}" if scoped else deduplication
            if key in queue.recent:
                _, known, sequence = queue.recent[key]
                return {"MessageId": known, "MD5OfMessageBody": digest, "SequenceNumber": f"{sequence:020d}"}
        elif entry.get("MessageDeduplicationId"):
            refuse(
                f"Value {entry['MessageDeduplicationId']} for parameter MessageDeduplicationId is "
                "invalid. Reason: The request includes a parameter that is not valid for this queue type."
            )
        delay = entry.get("DelaySeconds")
        delay = queue.setting("DelaySeconds", 0) if delay is None else int(delay)
        trace = ((entry.get("MessageSystemAttributes") or {}).get("AWSTraceHeader") or {}).get("StringValue")
        message = Message(
            id=new_id(),
            body=body,
            sent=now,
            sequence=queue.sequence + 1,
            group=group,
            deduplication=deduplication,
            attributes=entry.get("MessageAttributes") or {},
            trace=trace,
            visible_at=now + delay if delay else 0.0,
        )
        queue.add(message)
        if queue.fifo:
            queue.recent[key] = (now + DEDUPLICATION_S, message.id, message.sequence)
        self.state.sent(queue, message, key)
        self.wake(queue)
        told = {"MessageId": message.id, "MD5OfMessageBody": digest}
        if queue.fifo:
            told["SequenceNumber"] = f"{message.sequence:020d}"
        return told

    # Receiving

    async def receive(self, parameters: dict[str, Any]) -> Answer:
        """Give out messages, as soon as there are some and within the waiting time."""
        queue = self.find(parameters)
        most = _between(parameters, "MaxNumberOfMessages", 1, 1, MOST)
        wait_s = _between(parameters, "WaitTimeSeconds", queue.setting("ReceiveMessageWaitTimeSeconds", 0), 0, 20)
        default = queue.setting("VisibilityTimeout", 30)
        visibility = _between(parameters, "VisibilityTimeout", default, 0, LONGEST_VISIBILITY_S)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        blocked = frozenset(queue.busy) if self.groups_once else frozenset()
        while True:
            messages = self.take(queue, most, visibility, parameters.get("ReceiveRequestAttemptId"), blocked)
            left = deadline - loop.time()
            if messages or left <= 0:
                break
            due = queue.next_due()
            await self.change(queue, left if due is None else max(0.0, min(left, due - self.door.now())))
            queue = self.find(parameters)
        if not messages:
            return {}
        names = {*(parameters.get("AttributeNames") or ()), *(parameters.get("MessageSystemAttributeNames") or ())}
        return {"Messages": [_told(queue, m, names, parameters.get("MessageAttributeNames") or ()) for m in messages]}

    def take(
        self, queue: Queue, most: int, visibility: int, attempt: str | None, blocked: frozenset[str] = frozenset()
    ) -> list[Message]:
        """Give out what is visible now; the same again for a repeated attempt on a FIFO queue."""
        now = self.door.now()
        if attempt and queue.fifo:
            again = self.repeated(queue, attempt, now)
            if again:
                for message in again:
                    queue.hide(message, now + visibility)
                self.state.touch(queue, *again)
                return again
        messages: list[Message] = []
        buried = False
        redrive = orjson.loads(queue.attributes.get("RedrivePolicy") or "{}")
        for message in queue.available(most, blocked):
            if redrive and message.received >= int(redrive["maxReceiveCount"]):
                buried = self.bury(queue, message, str(redrive["deadLetterTargetArn"]).rpartition(":")[2])
                if buried:
                    continue
            message.received += 1
            message.first_received = message.first_received or now
            message.last_received = now
            message.handle = f"AQEB{message.id}.{message.received}.{random.getrandbits(64):016x}"
            if visibility:
                queue.hide(message, now + visibility)
            messages.append(message)
        if messages:
            self.state.touch(queue, *messages)
            if attempt and queue.fifo:
                queue.attempts[attempt] = (now + DEDUPLICATION_S, [(m.id, m.handle) for m in messages])
        elif buried:
            return self.take(queue, most, visibility, attempt, blocked)
        return messages

    @staticmethod
    def repeated(queue: Queue, attempt: str, now: float) -> list[Message]:
        """What an earlier receive of this attempt gave out, if nothing of it was deleted or changed since."""
        until, given = queue.attempts.get(attempt, (0.0, []))
        if until <= now:
            queue.attempts.pop(attempt, None)
            return []
        messages = [queue.messages.get(name) for name, _ in given]
        handles = [handle for _, handle in given]
        found = [m for m, handle in zip(messages, handles, strict=True) if m and m.in_flight and m.handle == handle]
        return found if len(found) == len(given) else []

    def bury(self, queue: Queue, message: Message, target: str) -> bool:
        """Move a message that was received too often to the dead-letter queue, if there is one of its kind."""
        letters = self.state.queues.get(target)
        if letters is None or letters.fifo != queue.fifo:
            return False
        queue.remove(message)
        message.visible_at, message.sequence = 0.0, letters.sequence + 1
        letters.add(message)
        # In this order a process that is killed in between leaves two, not none.
        self.state.save(letters, message)
        self.state.drop(queue, message)
        self.wake(letters)
        return True

    async def change(self, queue: Queue, seconds: float) -> None:
        """Wait until something happens to the queue, or so long."""
        changed = asyncio.get_running_loop().create_future()
        waiting = self.waiting.setdefault(queue.name, set())
        waiting.add(changed)
        try:
            await asyncio.wait_for(changed, seconds)
        except TimeoutError:
            pass
        finally:
            waiting.discard(changed)

    def wake(self, queue: Queue) -> None:
        """Let those who wait look again."""
        for changed in self.waiting.get(queue.name, ()):
            if not changed.done():
                changed.set_result(None)

    # After receiving

    def DeleteMessage(self, parameters: dict[str, Any], base: str) -> Answer:  # noqa: N802
        self.delete(self.find(parameters), parameters, expired="InvalidParameterValue")
        return None

    def DeleteMessageBatch(self, parameters: dict[str, Any], base: str) -> Answer:  # noqa: N802
        queue = self.find(parameters)
        return self.each(parameters, lambda entry: self.delete(queue, entry, expired="ReceiptHandleIsInvalid"))

    def delete(self, queue: Queue, entry: dict[str, Any], expired: str) -> dict[str, Any]:
        """Delete one message; what is deleted already is deleted again without complaint."""
        handle, message = self.held(queue, entry)
        if message is None:
            return {}
        if queue.fifo and (message.handle != handle or not message.in_flight):
            reason = "The receipt handle has expired"
            if expired == "InvalidParameterValue":
                reason = f"Value {handle} for parameter ReceiptHandle is invalid. Reason: {reason}."
            refuse(reason, expired)
        if message.handle == handle:
            self.remove(queue, message)
            self.wake(queue)
        return {}

    def ChangeMessageVisibility(self, parameters: dict[str, Any], base: str) -> Answer:  # noqa: N802
        self.set_visibility(self.find(parameters), parameters)
        return None

    def ChangeMessageVisibilityBatch(self, parameters: dict[str, Any], base: str) -> Answer:  # noqa: N802
        queue = self.find(parameters)
        return self.each(parameters, lambda entry: self.set_visibility(queue, entry))

    def set_visibility(self, queue: Queue, entry: dict[str, Any]) -> dict[str, Any]:
        """Change when one message becomes visible, counted from now."""
        seconds = _between(entry, "VisibilityTimeout", None, 0, LONGEST_VISIBILITY_S)
        handle, message = self.held(queue, entry)
        if message is None or message.handle != handle or (queue.fifo and not message.in_flight):
            refuse(
                f"Value {handle} for parameter ReceiptHandle is invalid. Reason: Message does not exist or "
                "is not available for visibility timeout change."
            )
        if not message.in_flight:
            refuse(
                f"Value {handle} for parameter ReceiptHandle is invalid. Reason: The message is not in flight.",
                "AWS.SimpleQueueService.MessageNotInflight",
            )
        now = self.door.now()
        if now + seconds > message.last_received + LONGEST_VISIBILITY_S:
            refuse(
                f"Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Total "
                f"VisibilityTimeout for the message is beyond the limit [{LONGEST_VISIBILITY_S} seconds]."
            )
        if seconds:
            queue.hide(message, now + seconds)
        else:
            queue.show(message)
        self.state.touch(queue, message)
        self.wake(queue)
        return {}

    @staticmethod
    def held(queue: Queue, entry: dict[str, Any]) -> tuple[str, Message | None]:
        """The handle of a request, and the message it was given for, if that is still there."""
        handle = entry.get("ReceiptHandle") or ""
        parts = _HANDLE.fullmatch(handle)
        if parts is None:
            raise RefusedError(
                404, "ReceiptHandleIsInvalid", f'The input receipt handle "{handle}" is not a valid receipt handle.'
            )
        return handle, queue.messages.get(parts[1])

    def remove(self, queue: Queue, *messages: Message) -> None:
        """Take messages out for good."""
        for message in list(messages):
            queue.remove(message)
        self.state.drop(queue, *messages)

    @staticmethod
    def each(parameters: dict[str, Any], act: Callable[[dict[str, Any]], dict[str, Any]]) -> Answer:
        """Carry out the entries of a batch, each on its own."""
        entries = parameters.get("Entries") or []
        prefix = "AWS.SimpleQueueService."
        if not entries:
            refuse("There should be at least one entry in the request.", f"{prefix}EmptyBatchRequest")
        if len(entries) > MOST:
            message = f"Maximum number of entries per request are {MOST}. You have sent {len(entries)}."
            refuse(message, f"{prefix}TooManyEntriesInBatchRequest")
        names = [entry["Id"] for entry in entries]
        if len(set(names)) < len(names):
            refuse("Two or more batch entries have the same Id.", f"{prefix}BatchEntryIdsNotDistinct")
        done: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for entry in entries:
            try:
                done.append({"Id": entry["Id"], **act(entry)})
            except RefusedError as error:
                failed.append({"Id": entry["Id"], "SenderFault": True, "Code": error.code, "Message": error.message})
        return {"Successful": done, "Failed": failed} if failed else {"Successful": done}


def _base(request: web.BaseRequest) -> str:
    return f"http://{request.host}"


def _between(parameters: dict[str, Any], name: str, default: int | None, low: int, high: int) -> int:
    value = parameters.get(name)
    if value is None:
        if default is None:
            refuse(f"The request must contain the parameter {name}.", "MissingParameter")
        return default
    if not low <= int(value) <= high:
        reason = f"Must be between {low} and {high}, if provided."
        refuse(f"Value {value} for parameter {name} is invalid. Reason: {reason}")
    return int(value)


def _check_attributes(attributes: dict[str, str]) -> None:
    for name in attributes:
        if name not in _SETTABLE:
            refuse(f"Unknown Attribute {name}.", "InvalidAttributeName")


def _told(queue: Queue, message: Message, names: set[str], wanted: Sequence[str]) -> dict[str, Any]:
    """A message as ReceiveMessage tells it."""
    told: dict[str, Any] = {
        "MessageId": message.id,
        "ReceiptHandle": message.handle,
        "MD5OfBody": hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest(),
        "Body": message.body,
    }
    if names:
        system = {
            "SenderId": "AIDATESTER",
            "SentTimestamp": str(int(message.sent * 1000)),
            "ApproximateReceiveCount": str(message.received),
            "ApproximateFirstReceiveTimestamp": str(int(message.first_received * 1000)),
        }
        if message.group:
            system["MessageGroupId"] = message.group
        if queue.fifo:
            system["MessageDeduplicationId"] = message.deduplication
            system["SequenceNumber"] = f"{message.sequence:020d}"
        if message.trace is not None:
            system["AWSTraceHeader"] = message.trace
        chosen = system if "All" in names else {key: value for key, value in system.items() if key in names}
        if chosen:
            told["Attributes"] = chosen
    if wanted and message.attributes:
        prefixes = tuple(name.removesuffix(".*") for name in wanted if name.endswith(".*"))
        everything = "All" in wanted or ".*" in wanted
        attributes = {
            name: value
            for name, value in message.attributes.items()
            if everything or name in wanted or (prefixes and name.startswith(prefixes))
        }
        if attributes:
            told["MessageAttributes"] = attributes
    return told


def _refused(error: RefusedError) -> web.Response:
    shape = _SHAPES.get(error.code, f"com.amazon.coral.service#{error.code}")
    fault = "Receiver" if error.status >= 500 else "Sender"
    headers = {"Content-Type": _JSON, "x-amzn-query-error": f"{error.code};{fault}"}
    return web.Response(
        body=orjson.dumps({"__type": shape, "message": error.message}), status=error.status, headers=headers
    )


def main() -> None:
    """Serve until SIGTERM."""
    parser = arguments("A stand-in for Amazon SQS.")
    parser.add_argument("--state", type=Path, help="file that keeps everything over a restart, SIGKILL included")
    parser.add_argument(
        "--groups-once",
        action="store_true",
        help="as moto: a receive looks only once, when it begins, at which groups are blocked by a message in flight",
    )
    options = parser.parse_args()
    door = make_door("sqs", options)
    run(Sqs(door, State(options.state), groups_once=options.groups_once), door, options)


if __name__ == "__main__":
    main()
