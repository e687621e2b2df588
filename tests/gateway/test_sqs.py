"""The queue in SQS: nothing is lost, nothing is held that was not asked for, and outages are waited for."""

import asyncio
import contextlib
import json
import logging
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiobotocore.session
import pytest

from cellworker.gateway.aws.clients import Cloud
from cellworker.gateway.aws.sqs import SqsQueue
from cellworker.gateway.aws.sqs_batches import QueueUnavailableError
from cellworker.gateway.core.ports import Delivery
from cellworker.logs import configure
from cellworker.settings import Settings

TESTS = str(Path(__file__).parent.parent)
if TESTS not in sys.path:
    sys.path.insert(0, TESTS)

from cloud.servers import TESTER as TEST_KEY  # noqa: E402
from cloud.servers import StandIn, moto_server, start_sqs  # noqa: E402
from port_suites.queues import QueueTests, QueueUnderTest  # noqa: E402

NAME = "development-queue.fifo"
RIGHTS = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueUrl"]
LONG_S = 120.0
TOKEN = "Bearer hidden-token-of-a-user"


class Sender:
    """The platform's API: makes the queue and sends to it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.url = ""

    async def create(self) -> None:
        attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        self.url = (await self.client.create_queue(QueueName=NAME, Attributes=attributes))["QueueUrl"]

    async def send(self, *bodies: str, group: str = "work", **more: Any) -> None:
        for body in bodies:
            await self.client.send_message(QueueUrl=self.url, MessageBody=body, MessageGroupId=group, **more)


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with start_sqs() as sqs:
        yield sqs


@pytest.fixture
def sqs(server: StandIn) -> StandIn:
    """SQS with the rights of the platform's role, and no queue."""
    server.clear()
    server.restrict(allow=RIGHTS)
    server.admin(reset_counts=True)
    return server


@contextlib.asynccontextmanager
async def by_test(url: str) -> AsyncIterator[Any]:
    keys = {"aws_access_key_id": TEST_KEY, "aws_secret_access_key": "any"}
    session = aiobotocore.session.get_session()
    async with session.create_client("sqs", region_name="eu-west-1", endpoint_url=url, **keys) as client:
        yield client


@pytest.fixture
async def sender(sqs: StandIn) -> AsyncIterator[Sender]:
    async with by_test(sqs.url) as client:
        made = Sender(client)
        await made.create()
        yield made
        await client.delete_queue(QueueUrl=made.url)


@pytest.fixture
async def client(sqs: StandIn) -> AsyncIterator[Any]:
    async with Cloud(Settings(aws_endpoint_url=sqs.url)) as cloud:
        yield cloud.sqs


@contextlib.asynccontextmanager
async def queue_of(client: Any, **more: Any) -> AsyncIterator[SqsQueue]:
    async with SqsQueue(client, NAME, **{"visibility_s": 30, "longest_pause_s": 0.5, **more}) as queue:
        queue.offer(10)
        yield queue


async def take(queue: SqsQueue, number: int) -> list[Delivery]:
    deliveries = queue.deliveries()
    async with asyncio.timeout(LONG_S):
        return [await anext(deliveries) for _ in range(number)]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.02)


def texts(deliveries: list[Delivery]) -> list[str]:
    return [delivery.body.decode() for delivery in deliveries]


def state(sqs: StandIn) -> dict[str, Any]:
    return sqs.admin()["queues"][NAME]


def told(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


class TestSqsQueue(QueueTests):
    @pytest.fixture
    async def line(self, client: Any, sender: Sender, sqs: StandIn) -> AsyncIterator[QueueUnderTest]:
        sqs.restrict(allow=[*RIGHTS, "sqs:ChangeMessageVisibility"])
        async with queue_of(client) as queue:
            yield QueueUnderTest(queue, sender.send, queue.close)


# Receiving


async def test_messages_arrive_in_order_with_all_that_is_known_of_them(client: Any, sender: Sender) -> None:
    await sender.send("one")
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-2-3"}}
    await sender.send("zwei ✓", MessageSystemAttributes=trace)
    async with queue_of(client) as queue:
        first, second = await take(queue, 2)
        assert texts([first, second]) == ["one", "zwei ✓"]
        assert (first.attempt, first.trace) == (1, None)
        assert (second.attempt, second.trace) == (1, "Root=1-2-3")
        assert first.message_id
        assert first.message_id != second.message_id


async def test_answered_messages_are_deleted_and_the_next_ones_come(client: Any, sender: Sender, sqs: StandIn) -> None:
    bodies = [str(number) for number in range(25)]
    await sender.send(*bodies)
    found = []
    async with queue_of(client) as queue, asyncio.timeout(LONG_S):
        async for delivery in queue.deliveries():
            found.append(delivery.body.decode())
            await delivery.done()
            if len(found) == len(bodies):
                break
    assert found == bodies
    assert state(sqs)["messages"] == []


async def test_at_most_the_capacity_is_received(client: Any, sender: Sender, sqs: StandIn) -> None:
    await sender.send(*map(str, range(15)))
    async with queue_of(client) as queue:
        queue.offer(3)
        await take(queue, 3)
        assert state(sqs)["in_flight"] == 3
        assert sqs.counts()["ReceiveMessage"] == 1  # nobody asks for more


@pytest.mark.parametrize("room", [0, 99])
async def test_a_caller_gets_at_least_one_and_at_most_ten_are_taken(
    client: Any, sender: Sender, sqs: StandIn, room: int
) -> None:
    await sender.send(*map(str, range(15)))
    async with queue_of(client) as queue:
        queue.offer(room)
        await take(queue, 1)
        assert state(sqs)["in_flight"] == (10 if room else 1)


async def test_a_queue_that_comes_later_is_waited_for(client: Any, sqs: StandIn) -> None:
    async with by_test(sqs.url) as admin, queue_of(client) as queue:
        taking = asyncio.create_task(take(queue, 1))
        await until(lambda: sqs.counts().get("GetQueueUrl", 0) > 0)
        assert queue.failing_since is None
        sender = Sender(admin)
        await sender.create()
        await sender.send("first")
        (delivery,) = await taking
        assert texts([delivery]) == ["first"]
        # And the same when it is removed while we wait, and made again.
        await delivery.done()
        taking = asyncio.create_task(take(queue, 1))
        await until(lambda: sqs.counts()["ReceiveMessage"] > 1)
        await admin.delete_queue(QueueUrl=sender.url)
        await sender.create()
        await sender.send("second")
        assert texts(await taking) == ["second"]
        assert queue.failing_since is None
        await admin.delete_queue(QueueUrl=sender.url)


async def test_a_wait_that_is_cancelled_ends_at_once_and_the_next_goes_on(client: Any, sender: Sender) -> None:
    async with queue_of(client) as queue:
        deliveries = queue.deliveries()
        waiting = asyncio.create_task(anext(deliveries))
        await until(lambda: not waiting.done() and queue._ask is not None)
        started = time.monotonic()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert time.monotonic() - started < 5
        await sender.send("later")
        async with asyncio.timeout(LONG_S):
            assert (await anext(deliveries)).body == b"later"


async def test_no_message_is_lost_however_the_waiting_is_cancelled(client: Any, sender: Sender) -> None:
    chance = random.Random(5)
    bodies = [str(number) for number in range(40)]
    found: list[str] = []
    async with queue_of(client, visibility_s=600) as queue, asyncio.timeout(LONG_S):
        await sender.send("first")
        (first,) = await take(queue, 1)  # from here on it is connected
        await first.done()
        deliveries = queue.deliveries()
        sending = asyncio.create_task(sender.send(*bodies))
        while len(found) < len(bodies):
            waiting = asyncio.create_task(anext(deliveries))
            await asyncio.wait({waiting}, timeout=chance.uniform(0, 0.03))
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                delivery = await waiting
                assert delivery.attempt == 1
                found.append(delivery.body.decode())
                await delivery.done()
        await sending
    assert found == bodies


async def test_messages_whose_answer_got_lost_are_asked_for_again(client: Any, sender: Sender, sqs: StandIn) -> None:
    await sender.send("one", "two")
    sqs.fault("ReceiveMessage", drop_answer=1)
    started = time.monotonic()
    async with queue_of(client, visibility_s=600) as queue:
        assert texts(await take(queue, 2)) == ["one", "two"]
    assert time.monotonic() - started < LONG_S


async def test_closing_ends_the_waiting_and_hands_back_untaken_messages(
    client: Any, sender: Sender, sqs: StandIn
) -> None:
    sqs.restrict(allow=None)
    await sender.send("one", "two", "three")
    async with queue_of(client) as queue:
        deliveries = queue.deliveries()
        (taken,) = await take(queue, 1)
        await deliveries.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(deliveries)
        assert [message["in_flight"] for message in state(sqs)["messages"]] == [True, False, False]
        await taken.done()
        assert [message["body"] for message in state(sqs)["messages"]] == ["two", "three"]


async def test_closing_ends_a_wait_at_the_service(client: Any, sender: Sender, sqs: StandIn) -> None:
    async with queue_of(client) as queue:
        waiting = asyncio.create_task(anext(queue.deliveries()))
        await until(lambda: sqs.counts().get("ReceiveMessage", 0) > 0)
        queue.close()
        async with asyncio.timeout(1):
            with pytest.raises(StopAsyncIteration):
                await waiting


# Deleting


async def test_deletes_of_one_moment_go_together(client: Any, sender: Sender, sqs: StandIn) -> None:
    for number in range(24):
        await sender.send(str(number), group=str(number))
    async with queue_of(client) as queue:
        taken = await take(queue, 24)
        await asyncio.gather(*(delivery.done() for delivery in taken))
    assert sqs.counts()["DeleteMessageBatch"] == 3
    assert state(sqs)["messages"] == []


@pytest.mark.parametrize("fault", [{"fail": 2}, {"drop_answer": 2}, {"fail": 2, "status": 403, "code": "ExpiredToken"}])
async def test_a_delete_is_tried_again(client: Any, sender: Sender, sqs: StandIn, fault: dict[str, Any]) -> None:
    await sender.send("one")
    async with queue_of(client) as queue:
        (delivery,) = await take(queue, 1)
        sqs.fault("DeleteMessageBatch", **fault)
        await delivery.done()
    assert state(sqs)["messages"] == []
    assert sqs.counts()["DeleteMessageBatch"] == 3


async def test_a_delete_that_does_not_succeed_in_time_is_logged(client: Any, sender: Sender, sqs: StandIn) -> None:
    await sender.send("one")
    sqs.fault("DeleteMessageBatch", fail=1000)
    async with queue_of(client, visibility_s=1) as queue:
        (delivery,) = await take(queue, 1)
        with pytest.raises(QueueUnavailableError, match=r"SlowDown \(503\)"):
            await delivery.done()
        sqs.clear()


# Keeping hidden


async def test_without_the_right_held_messages_come_back_and_that_is_logged_once(
    client: Any, sender: Sender, caplog: pytest.LogCaptureFixture, sqs: StandIn
) -> None:
    await sender.send("slow")
    async with queue_of(client, visibility_s=1) as queue:
        (first,) = await take(queue, 1)
        (second,) = await take(queue, 1)
        assert (first.message_id, second.attempt) == (first.message_id, 2)
        assert queue.degraded
        (third,) = await take(queue, 1)
        await first.done()  # its time is over, which is no trouble
        await second.release()
        assert state(sqs)["in_flight"] == 1
        await third.done()
        assert state(sqs)["messages"] == []
    assert told(caplog) == ["messages cannot be kept hidden"]
    facts = caplog.records[0].__dict__["facts"]
    assert facts["right"] == "sqs:ChangeMessageVisibility"
    assert sqs.counts()["ChangeMessageVisibilityBatch"] == 1


async def test_with_the_right_held_messages_stay_hidden(client: Any, sender: Sender, sqs: StandIn) -> None:
    sqs.restrict(allow=[*RIGHTS, "sqs:ChangeMessageVisibility"])
    await sender.send("slow", "slower")
    async with queue_of(client, visibility_s=1) as queue:
        taken = await take(queue, 2)
        await until(lambda: sqs.counts().get("ChangeMessageVisibilityBatch", 0) >= 5)
        assert [message["received"] for message in state(sqs)["messages"]] == [1, 1]
        assert state(sqs)["in_flight"] == 2
        assert not queue.degraded
        await taken[0].done()
        # What is handed back is there for others at once.
        await taken[1].release()
        (again,) = await take(queue, 1)
        assert (again.body, again.attempt) == (b"slower", 2)
        await again.done()


async def test_a_failing_extension_is_tried_again(client: Any, sender: Sender, sqs: StandIn) -> None:
    sqs.restrict(allow=None)
    await sender.send("slow")
    sqs.fault("ChangeMessageVisibilityBatch", fail=2)
    async with queue_of(client, visibility_s=2) as queue:
        await take(queue, 1)
        await until(lambda: sqs.counts().get("ChangeMessageVisibilityBatch", 0) >= 5)
        assert [message["received"] for message in state(sqs)["messages"]] == [1]
        assert not queue.degraded


# Outages


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ({"fail": 3}, None),
        ({"fail": 3, "status": 400, "code": "ThrottlingException"}, None),
        ({"fail": 3, "status": 403, "code": "ExpiredTokenException"}, None),
        ({"fail": 3, "status": 403, "code": "AccessDenied"}, None),
        ({"reset_after_bytes": 0, "times": 3}, None),
        (lambda sqs: sqs.refuse(0.5), None),
        (StandIn.kill, StandIn.start),
    ],
    ids=["unavailable", "throttled", "expired", "denied", "reset", "refused", "restarted"],
)
async def test_an_outage_is_waited_for_and_logged_at_its_beginning_and_its_end(
    client: Any, sender: Sender, caplog: pytest.LogCaptureFixture, sqs: StandIn, begin: Any, end: Any
) -> None:
    said: list[str | None] = []
    await sender.send("before")
    async with queue_of(client, on_failure=said.append) as queue:
        (delivery,) = await take(queue, 1)
        await delivery.done()
        if isinstance(begin, dict):
            sqs.fault("ReceiveMessage", **begin)
        else:
            begin(sqs)
        taking = asyncio.create_task(take(queue, 1))
        await until(lambda: bool(said))
        if end is not None:
            assert queue.failing_since is not None
            end(sqs)
            sqs.restrict(allow=RIGHTS)
        await until(lambda: None in said)
        await sender.send("after")
        assert texts(await taking) == ["after"]
        assert queue.failing_since is None
    assert told(caplog) == ["queue cannot be reached", "queue can be reached again"]
    assert len(said) == 2


async def test_a_host_that_does_not_exist_is_an_outage() -> None:
    said: list[str | None] = []
    nowhere = Cloud(Settings(aws_endpoint_url="http://nowhere.invalid:4566"))
    async with nowhere as cloud, queue_of(cloud.sqs, on_failure=said.append) as queue:
        waiting = asyncio.create_task(anext(queue.deliveries()))
        await until(lambda: bool(said))
        assert not waiting.done()
        assert queue.failing_since is not None
        queue.close()
        with pytest.raises(StopAsyncIteration):
            await waiting
    assert said == ["EndpointConnectionError"]


async def test_no_log_contains_a_secret(
    client: Any, sender: Sender, capsys: pytest.CaptureFixture[str], sqs: StandIn
) -> None:
    configure("DEBUG")
    await sender.send(json.dumps({"Authorization": TOKEN}))
    sqs.fault("*", fail=2, status=403, code="InvalidClientTokenId", message=f"my-secret-key {TOKEN}")
    async with queue_of(client, visibility_s=2) as queue:
        (delivery,) = await take(queue, 1)
        sqs.fault("*", fail=2, status=403, code="SignatureDoesNotMatch", message=f"my-secret-key {TOKEN}")
        with contextlib.suppress(QueueUnavailableError):
            await delivery.done()
    sqs.clear()
    logs = capsys.readouterr().err
    assert "queue cannot be reached" in logs
    for secret in ("hidden-token", "my-secret-key", "Signature=", "AQEB"):
        assert secret not in logs


async def test_everything_works_with_moto_as_well() -> None:
    with moto_server() as moto:
        async with by_test(moto.url) as admin, Cloud(Settings(aws_endpoint_url=moto.url)) as cloud:
            sender = Sender(admin)
            await sender.create()
            await sender.send("one", "two")
            async with queue_of(cloud.sqs, visibility_s=1, wait_s=1) as queue:
                first, second = await take(queue, 2)
                await asyncio.gather(first.done(), second.release())
                (again,) = await take(queue, 1)
                assert (again.body, again.attempt) == (b"two", 2)
                await again.done()
            attributes = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
            answer = await admin.get_queue_attributes(QueueUrl=sender.url, AttributeNames=attributes)
            assert set(answer["Attributes"].values()) == {"0"}


@pytest.fixture(params=["exact", "groups once", "moto"])
def any_sqs(request: pytest.FixtureRequest) -> Iterator[str]:
    """Servers of which two look at blocked groups once in a long poll."""
    kind = request.param
    with moto_server() if kind == "moto" else start_sqs(groups_once=kind == "groups once") as running:
        yield running.url


@pytest.mark.parametrize("end", ["done", "release"])
async def test_the_next_message_does_not_wait_for_a_poll_that_began_before_the_last_one_was_done_with(
    any_sqs: str, end: str
) -> None:
    async with by_test(any_sqs) as admin, Cloud(Settings(aws_endpoint_url=any_sqs)) as cloud:
        sender = Sender(admin)
        await sender.create()
        async with queue_of(cloud.sqs, wait_s=20) as queue:
            deliveries = queue.deliveries()
            await sender.send("0")
            for number in (1, 2):
                held = (await take(queue, 1))[0]
                waiting = asyncio.create_task(anext(deliveries))
                await sender.send(str(number))
                # A poll that begins now finds the group blocked.
                await asyncio.wait({waiting}, timeout=0.5)
                assert not waiting.done()
                started = time.monotonic()
                await getattr(held, end)()
                following = await asyncio.wait_for(waiting, LONG_S)
                assert time.monotonic() - started < 5.0
                assert texts([following]) == [str(number) if end == "done" else texts([held])[0]]
                await following.done()
                if end == "release":
                    break
                await sender.send(f"{number} again")
            queue.close()


async def test_another_group_is_looked_for_while_one_is_blocked(client: Any, sender: Sender) -> None:
    async with queue_of(client, wait_s=20) as queue:
        await sender.send("one", group="a")
        (held,) = await take(queue, 1)
        await sender.send("two", group="a")
        await sender.send("other", group="b")
        (other,) = await take(queue, 1)
        assert texts([other]) == ["other"]
        await asyncio.gather(held.done(), other.done())
        (last,) = await take(queue, 1)
        assert texts([last]) == ["two"]
        await last.done()


async def test_while_a_message_is_held_it_asks_about_once_a_second(client: Any, sender: Sender, sqs: StandIn) -> None:
    await sender.send("one")
    async with queue_of(client, wait_s=20) as queue:
        (held,) = await take(queue, 1)
        sqs.admin(reset_counts=True)
        waiting = asyncio.create_task(anext(queue.deliveries()))
        await asyncio.wait({waiting}, timeout=2.5)
        assert 1 <= sqs.admin()["counts"]["ReceiveMessage"] <= 3
        await held.done()
        queue.close()
        with pytest.raises(StopAsyncIteration):
            await waiting


async def test_a_queue_without_order_is_served_too_and_holds_nothing_up(client: Any, sqs: StandIn) -> None:
    async with by_test(sqs.url) as platform:
        url = (await platform.create_queue(QueueName="plain"))["QueueUrl"]
        try:
            for text in ("a", "b"):
                await platform.send_message(QueueUrl=url, MessageBody=text)
            async with SqsQueue(client, "plain", visibility_s=30) as queue:
                held, done = await take(queue, 2)
                await done.done()
                await platform.send_message(QueueUrl=url, MessageBody="c")
                (third,) = await take(queue, 1)
                assert sorted([*texts([held, done]), *texts([third])]) == ["a", "b", "c"]
                await held.done()
                await third.done()
        finally:
            await platform.delete_queue(QueueUrl=url)
