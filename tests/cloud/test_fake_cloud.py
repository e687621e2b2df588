"""The stand-ins behave as AWS does: where moto is right they agree with it; where it is lax, AWS's documents rule."""

import asyncio
import contextlib
import io
import json
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiobotocore.session
import aiohttp
import pytest
import redis
from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError
from redis.backoff import NoBackoff
from redis.retry import Retry

from cloud import servers
from cloud.servers import TESTER, Server, StandIn

FIFO = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
ROLE = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueUrl"]
MIB = 1 << 20
BROKEN = (EndpointConnectionError, HTTPClientError)


@pytest.fixture(scope="module")
def sqs() -> Iterator[StandIn]:
    with servers.start_sqs() as server:
        yield server


@pytest.fixture(scope="module")
def s3() -> Iterator[StandIn]:
    with servers.start_s3() as server:
        yield server


@pytest.fixture(scope="module")
def moto() -> Iterator[Server]:
    with servers.moto_server() as server:
        yield server


@pytest.fixture(autouse=True)
def as_new(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test leaves the servers without faults and restrictions."""
    yield
    for name in {"sqs", "s3"} & set(request.fixturenames):
        request.getfixturevalue(name).admin(clear=True, allow=None, deny=[])


@contextlib.asynccontextmanager
async def client(service: str, server: Server, key: str = "worker", **config: Any) -> AsyncIterator[Any]:
    settings = AioConfig(retries={"total_max_attempts": 1}, read_timeout=25, **config)
    async with aiobotocore.session.get_session().create_client(
        service,
        region_name="eu-west-1",
        endpoint_url=server.url,
        aws_access_key_id=key,
        aws_secret_access_key="secret",
        config=settings,
    ) as made:
        yield made


@pytest.fixture(params=["fake", "moto"])
async def either_sqs(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    async with client("sqs", request.getfixturevalue("sqs" if request.param == "fake" else "moto")) as made:
        yield made


@pytest.fixture(params=["fake", "moto"])
async def either_s3(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    async with client("s3", request.getfixturevalue("s3" if request.param == "fake" else "moto")) as made:
        yield made


@pytest.fixture
async def queues(sqs: StandIn) -> AsyncIterator[Any]:
    async with client("sqs", sqs) as made:
        yield made


@pytest.fixture
async def objects(s3: StandIn) -> AsyncIterator[Any]:
    async with client("s3", s3) as made:
        yield made


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name for this test's own queue or bucket."""
    return f"t{zlib.crc32(request.node.nodeid.encode()):08x}"


async def fifo(sqs: Any, name: str, **attributes: str) -> str:
    made = await sqs.create_queue(QueueName=f"{name}.fifo", Attributes={**FIFO, **attributes})
    return str(made["QueueUrl"])


async def bucket(s3: Any, name: str) -> str:
    await s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return name


async def send(sqs: Any, url: str, *bodies: str, group: str = "work") -> None:
    for body in bodies:
        await sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=group)


async def receive(sqs: Any, url: str, **more: Any) -> list[dict[str, Any]]:
    got = await sqs.receive_message(QueueUrl=url, **{"MaxNumberOfMessages": 10, **more})
    return list(got.get("Messages", []))


def bodies(messages: list[dict[str, Any]]) -> list[str]:
    return [message["Body"] for message in messages]


async def until(happened: Callable[[], bool]) -> None:
    """Wait for what only the server's door or folder tells."""
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


# Queues, where moto is right


async def test_a_message_arrives_with_its_facts_and_is_deleted(either_sqs: Any, name: str) -> None:
    url = await fifo(either_sqs, name)
    before = time.time()
    await either_sqs.send_message(
        QueueUrl=url,
        MessageBody='{"a": "ü"}',
        MessageGroupId="work",
        MessageSystemAttributes={"AWSTraceHeader": {"StringValue": "Root=1-5-9", "DataType": "String"}},
    )
    for asked in ({"MessageSystemAttributeNames": ["All"]}, {"AttributeNames": ["All"]}):
        (message,) = await receive(either_sqs, url, VisibilityTimeout=0, **asked)
        assert message["Body"] == '{"a": "ü"}'
        facts = message["Attributes"]
        assert facts["MessageGroupId"] == "work"
        assert facts["AWSTraceHeader"] == "Root=1-5-9"
        assert before - 1 <= int(facts["SentTimestamp"]) / 1000 <= time.time() + 1
    assert facts["ApproximateReceiveCount"] == "2"
    (message,) = await receive(either_sqs, url)
    assert "Attributes" not in message or set(message["Attributes"]) == set()
    await either_sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert await receive(either_sqs, url) == []


async def test_only_the_asked_attributes_come(either_sqs: Any, name: str) -> None:
    url = await fifo(either_sqs, name)
    await send(either_sqs, url, "a")
    (message,) = await receive(either_sqs, url, MessageSystemAttributeNames=["ApproximateReceiveCount"])
    assert message["Attributes"] == {"ApproximateReceiveCount": "1"}


async def test_a_missing_queue_has_its_old_code(either_sqs: Any) -> None:
    with pytest.raises(ClientError) as error:
        await either_sqs.get_queue_url(QueueName="nobody.fifo")
    assert code(error) == "AWS.SimpleQueueService.NonExistentQueue"
    assert isinstance(error.value, either_sqs.exceptions.QueueDoesNotExist)


async def test_the_same_text_within_five_minutes_is_one_message(either_sqs: Any, name: str) -> None:
    url = await fifo(either_sqs, name)
    await send(either_sqs, url, "same", "same")
    assert bodies(await receive(either_sqs, url)) == ["same"]


async def test_a_group_keeps_its_order_and_waits_for_what_is_in_flight(either_sqs: Any, name: str) -> None:
    url = await fifo(either_sqs, name)
    await send(either_sqs, url, "1", "2", "3")
    (one,) = await receive(either_sqs, url, MaxNumberOfMessages=1)
    assert one["Body"] == "1"
    assert await receive(either_sqs, url) == []
    await either_sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
    assert bodies(await receive(either_sqs, url)) == ["2", "3"]


async def test_a_batch_is_deleted_each_on_its_own(either_sqs: Any, name: str) -> None:
    url = await fifo(either_sqs, name)
    await send(either_sqs, url, "1", "2")
    messages = await receive(either_sqs, url)
    entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
    answer = await either_sqs.delete_message_batch(
        QueueUrl=url, Entries=[*entries, {"Id": "x", "ReceiptHandle": "nonsense"}]
    )
    assert [each["Id"] for each in answer["Successful"]] == ["0", "1"]
    assert [(each["Id"], each["Code"]) for each in answer["Failed"]] == [("x", "ReceiptHandleIsInvalid")]
    assert await receive(either_sqs, url) == []


async def test_a_message_handed_back_comes_again_first(either_sqs: Any, name: str) -> None:
    url = await fifo(either_sqs, name)
    await send(either_sqs, url, "1", "2")
    (one,) = await receive(either_sqs, url, MaxNumberOfMessages=1)
    await either_sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"], VisibilityTimeout=0)
    messages = await receive(either_sqs, url)
    assert bodies(messages) == ["1", "2"]
    assert messages[0]["ReceiptHandle"] != one["ReceiptHandle"]


async def test_the_counts_of_a_queue(either_sqs: Any, name: str) -> None:
    url = await fifo(either_sqs, name, VisibilityTimeout="77")
    await send(either_sqs, url, "1", "2")
    await send(either_sqs, url, "3", group="other")
    await receive(either_sqs, url, MaxNumberOfMessages=1)
    told = (await either_sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]))["Attributes"]
    assert told["ApproximateNumberOfMessagesNotVisible"] == "1"
    assert told["ApproximateNumberOfMessages"] == "2"
    assert told["VisibilityTimeout"] == "77"
    assert told["FifoQueue"] == "true"


async def test_eleven_messages_at_a_time_are_too_many(either_sqs: Any, name: str) -> None:
    url = await fifo(either_sqs, name)
    with pytest.raises(ClientError) as error:
        await receive(either_sqs, url, MaxNumberOfMessages=11)
    assert code(error) == "InvalidParameterValue"


async def test_a_standard_queue_gives_out_what_is_not_in_flight(either_sqs: Any, name: str) -> None:
    url = (await either_sqs.create_queue(QueueName=name))["QueueUrl"]
    for body in "abc":
        await either_sqs.send_message(QueueUrl=url, MessageBody=body)
    first = await receive(either_sqs, url, MaxNumberOfMessages=1)
    rest = await receive(either_sqs, url)
    assert sorted(bodies(first + rest)) == ["a", "b", "c"]


async def test_a_message_received_too_often_goes_to_the_dead_letters(either_sqs: Any, name: str) -> None:
    letters = await fifo(either_sqs, f"{name}d")
    arn = (await either_sqs.get_queue_attributes(QueueUrl=letters, AttributeNames=["QueueArn"]))["Attributes"][
        "QueueArn"
    ]
    url = await fifo(either_sqs, name)
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    await either_sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})
    await send(either_sqs, url, "poison", "next")
    for _ in range(2):
        assert bodies(await receive(either_sqs, url, MaxNumberOfMessages=1, VisibilityTimeout=0)) == ["poison"]
    assert bodies(await receive(either_sqs, url)) == ["next"]
    assert bodies(await receive(either_sqs, letters)) == ["poison"]


# Queues, exactly


async def test_a_fifo_handle_expires_with_its_visibility(sqs: StandIn, queues: Any, name: str) -> None:
    url = await fifo(queues, name)
    await send(queues, url, "a")
    (message,) = await receive(queues, url, VisibilityTimeout=5)
    sqs.advance(5.001)
    handle = message["ReceiptHandle"]
    with pytest.raises(ClientError, match="The receipt handle has expired") as error:
        await queues.delete_message(QueueUrl=url, ReceiptHandle=handle)
    assert code(error) == "InvalidParameterValue"
    answer = await queues.delete_message_batch(QueueUrl=url, Entries=[{"Id": "0", "ReceiptHandle": handle}])
    assert answer["Failed"][0]["Code"] == "ReceiptHandleIsInvalid"
    with pytest.raises(ClientError, match="not available for visibility timeout change"):
        await queues.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=9)
    (again,) = await receive(queues, url)
    with pytest.raises(ClientError, match="expired"):
        await queues.delete_message(QueueUrl=url, ReceiptHandle=handle)
    await queues.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
    await queues.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])


async def test_a_standard_handle_deletes_after_its_visibility_unless_there_is_a_newer_one(
    sqs: StandIn, queues: Any, name: str
) -> None:
    url = (await queues.create_queue(QueueName=name))["QueueUrl"]
    await queues.send_message(QueueUrl=url, MessageBody="a")
    (old,) = await receive(queues, url, VisibilityTimeout=5)
    sqs.advance(6)
    (new,) = await receive(queues, url, VisibilityTimeout=5)
    sqs.advance(6)
    await queues.delete_message(QueueUrl=url, ReceiptHandle=old["ReceiptHandle"])
    assert sqs.admin()["queues"][name]["visible"] == 1
    await queues.delete_message(QueueUrl=url, ReceiptHandle=new["ReceiptHandle"])
    assert sqs.admin()["queues"][name]["messages"] == []


async def test_a_group_with_part_of_it_in_flight_gives_nothing(sqs: StandIn, queues: Any, name: str) -> None:
    url = await fifo(queues, name)
    await send(queues, url, *map(str, range(12)))
    await send(queues, url, "x", group="other")
    messages = await receive(queues, url)
    assert bodies(messages) == list(map(str, range(10)))  # as many of one group as possible
    for message in messages[:9]:
        await queues.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert bodies(await receive(queues, url)) == ["x"]
    sqs.advance(30.001)
    assert bodies(await receive(queues, url)) == ["9", "10", "11", "x"]


async def test_a_group_waits_for_a_later_message_too(sqs: StandIn, queues: Any, name: str) -> None:
    url = await fifo(queues, name)
    await send(queues, url, "a", "b", "c")
    first, second = await receive(queues, url, MaxNumberOfMessages=2)
    await queues.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    assert await receive(queues, url) == []
    await queues.delete_message(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"])
    assert bodies(await receive(queues, url)) == ["a", "c"]


async def test_a_deleted_text_stays_a_duplicate_for_five_minutes(sqs: StandIn, queues: Any, name: str) -> None:
    url = await fifo(queues, name)
    first = await queues.send_message(QueueUrl=url, MessageBody="a", MessageGroupId="work")
    (message,) = await receive(queues, url)
    await queues.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    sqs.advance(290)
    again = await queues.send_message(QueueUrl=url, MessageBody="a", MessageGroupId="work")
    assert again["MessageId"] == first["MessageId"]
    assert await receive(queues, url) == []
    sqs.advance(11)
    await send(queues, url, "a")
    assert bodies(await receive(queues, url)) == ["a"]


@pytest.mark.parametrize("what", ["sent", "handed back", "due", "deleted before it"])
async def test_a_long_poll_answers_at_once(what: str, sqs: StandIn, queues: Any, name: str) -> None:
    url = await fifo(queues, name)
    handle = ""
    if what != "sent":
        await send(queues, url, "a", "b")
        (held,) = await receive(queues, url, MaxNumberOfMessages=1, VisibilityTimeout=1 if what == "due" else 30)
        handle = held["ReceiptHandle"]
    sqs.admin(reset_counts=True)
    began = time.monotonic()
    poll = asyncio.create_task(receive(queues, url, WaitTimeSeconds=20))
    await until(lambda: sqs.counts().get("ReceiveMessage") == 1)
    if what == "sent":
        await send(queues, url, "a")
    elif what == "handed back":
        await queues.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    elif what == "deleted before it":
        await queues.delete_message(QueueUrl=url, ReceiptHandle=handle)
    messages = await poll
    assert time.monotonic() - began < 5
    assert bodies(messages) == {"sent": ["a"], "deleted before it": ["b"]}.get(what, ["a", "b"])


async def test_a_receiver_that_went_away_takes_nothing(sqs: StandIn, queues: Any, name: str) -> None:
    url = await fifo(queues, name)
    async with aiohttp.ClientSession() as session:
        headers = {"X-Amz-Target": "AmazonSQS.ReceiveMessage"}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await session.post(sqs.url, data=json.dumps({"QueueUrl": url, "WaitTimeSeconds": 20}), headers=headers)
    await send(queues, url, "a")
    assert bodies(await receive(queues, url)) == ["a"]


async def test_a_repeated_attempt_gets_the_same_messages(sqs: StandIn, queues: Any, name: str) -> None:
    url = await fifo(queues, name)
    await send(queues, url, "a", "b")
    sqs.fault("ReceiveMessage", drop_answer=1)
    with pytest.raises(BROKEN):
        await receive(queues, url, ReceiveRequestAttemptId="one")
    assert await receive(queues, url, ReceiveRequestAttemptId="two") == []
    assert bodies(await receive(queues, url, ReceiveRequestAttemptId="one")) == ["a", "b"]


async def test_visibility_ends_after_twelve_hours_altogether(sqs: StandIn, queues: Any, name: str) -> None:
    url = await fifo(queues, name)
    await send(queues, url, "a")
    (message,) = await receive(queues, url, VisibilityTimeout=43200)
    sqs.advance(100)
    with pytest.raises(ClientError, match="beyond the limit"):
        await queues.change_message_visibility(
            QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=43200
        )


async def test_who_may_only_receive_and_delete(sqs: StandIn, queues: Any, name: str) -> None:
    url = await fifo(queues, name)
    await send(queues, url, "a")
    sqs.restrict(allow=ROLE)
    (message,) = await receive(queues, url)
    with pytest.raises(ClientError) as error:
        await queues.change_message_visibility(
            QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )
    assert code(error) == "AccessDenied"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    # There is no permission of its own for a batch.
    answer = await queues.delete_message_batch(
        QueueUrl=url, Entries=[{"Id": "0", "ReceiptHandle": message["ReceiptHandle"]}]
    )
    assert "Failed" not in answer
    async with client("sqs", sqs, key=TESTER) as tester:
        await send(tester, url, "b")
    sqs.restrict(allow=["sqs:ReceiveMessage/other*"])
    with pytest.raises(ClientError):
        await receive(queues, url)


async def test_a_queue_survives_sigkill(name: str) -> None:
    with servers.start_sqs() as sqs:
        async with client("sqs", sqs) as queues:
            url = await fifo(queues, name)
            await send(queues, url, "a", "b", "c", "d")
            held = await receive(queues, url, MaxNumberOfMessages=2)
            await queues.delete_message(QueueUrl=url, ReceiptHandle=held[0]["ReceiptHandle"])
            sqs.kill()
            with pytest.raises(BROKEN):
                await receive(queues, url)
        sqs.restart()
        async with client("sqs", sqs) as queues:
            await send(queues, url, "a")  # still a duplicate
            assert await receive(queues, url) == []  # "b" is still in flight
            await queues.delete_message(QueueUrl=url, ReceiptHandle=held[1]["ReceiptHandle"])
            assert bodies(await receive(queues, url)) == ["c", "d"]
            sqs.advance(31)
        sqs.restart()
        async with client("sqs", sqs) as queues:
            messages = await receive(queues, url, MessageSystemAttributeNames=["ApproximateReceiveCount"])
            assert bodies(messages) == ["c", "d"]
            assert messages[0]["Attributes"]["ApproximateReceiveCount"] == "2"


def test_a_log_that_has_grown_is_rewritten_and_says_the_same(tmp_path: Path) -> None:
    sys.path.insert(0, str(servers.HERE))
    try:
        import sqs_model
    finally:
        sys.path.remove(str(servers.HERE))
    path = tmp_path / "state"
    state = sqs_model.State(path)
    queue = state.queues["a.fifo"] = sqs_model.Queue("a.fifo", {"FifoQueue": "true"}, 1.0)
    state.write("queue", "a.fifo", [queue.attributes, 1.0, 0])
    largest = 0
    for number in range(30_000):
        message = sqs_model.Message(f"m{number}", "x" * 200, 1.0, number + 1, "work", f"d{number}")
        queue.add(message)
        state.sent(queue, message, f"d{number}")
        if number % 1000:
            queue.remove(message)
            state.drop(queue, message)
        queue.recent.clear()
        largest = max(largest, path.stat().st_size)
    assert largest < 8 * MIB
    state.close()
    reread = sqs_model.State(path)
    again = reread.queues["a.fifo"]
    reread.close()
    assert list(again.messages) == [f"m{number}" for number in range(0, 30_000, 1000)]
    assert again.sequence == queue.sequence


# Objects, where moto is right


async def test_an_object_is_stored_with_its_tags(either_s3: Any, name: str) -> None:
    await bucket(either_s3, name)
    put = await either_s3.put_object(
        Bucket=name, Key="4b55", Body=b"hello", Tagging="experimentId=a%20b&requestType=GetEmbedding"
    )
    got = await either_s3.get_object(Bucket=name, Key="4b55")
    assert await got["Body"].read() == b"hello"
    assert got["ETag"] == put["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'
    assert got["ContentLength"] == 5
    assert got["LastModified"].microsecond == 0
    assert got["ContentType"] == "binary/octet-stream"
    tags = (await either_s3.get_object_tagging(Bucket=name, Key="4b55"))["TagSet"]
    assert sorted((t["Key"], t["Value"]) for t in tags) == [("experimentId", "a b"), ("requestType", "GetEmbedding")]
    await either_s3.put_object_tagging(Bucket=name, Key="4b55", Tagging={"TagSet": [{"Key": "a+b/c: @", "Value": "1"}]})
    tags = (await either_s3.get_object_tagging(Bucket=name, Key="4b55"))["TagSet"]
    assert tags == [{"Key": "a+b/c: @", "Value": "1"}]
    head = await either_s3.head_object(Bucket=name, Key="4b55")
    assert (head["ContentLength"], head["ETag"]) == (5, put["ETag"])


async def test_parts_of_an_object(either_s3: Any, name: str) -> None:
    await bucket(either_s3, name)
    await either_s3.put_object(Bucket=name, Key="k", Body=b"0123456789")
    for wanted, content, told in [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ]:
        got = await either_s3.get_object(Bucket=name, Key="k", Range=wanted)
        assert (await got["Body"].read(), got["ContentRange"]) == (content, told)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    with pytest.raises(ClientError) as error:
        await either_s3.get_object(Bucket=name, Key="k", Range="bytes=10-12")
    assert code(error) == "InvalidRange"


async def test_an_unchanged_object_is_not_sent_again(either_s3: Any, name: str) -> None:
    await bucket(either_s3, name)
    etag = (await either_s3.put_object(Bucket=name, Key="k", Body=b"one"))["ETag"]
    with pytest.raises(ClientError) as error:
        await either_s3.get_object(Bucket=name, Key="k", IfNoneMatch=etag)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 304
    await either_s3.put_object(Bucket=name, Key="k", Body=b"two")
    got = await either_s3.get_object(Bucket=name, Key="k", IfNoneMatch=etag)
    assert await got["Body"].read() == b"two"
    with pytest.raises(ClientError) as error:
        await either_s3.get_object(Bucket=name, Key="k", IfMatch=etag)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412


async def test_what_is_not_there(either_s3: Any, name: str) -> None:
    with pytest.raises(ClientError) as error:
        await either_s3.get_object(Bucket=name, Key="k")
    assert code(error) == "NoSuchBucket"
    await bucket(either_s3, name)
    with pytest.raises(ClientError) as error:
        await either_s3.get_object(Bucket=name, Key="k")
    assert code(error) == "NoSuchKey"
    with pytest.raises(ClientError) as error:
        await either_s3.head_object(Bucket=name, Key="k")
    assert code(error) == "404"
    with pytest.raises(ClientError) as error:
        await either_s3.get_object_tagging(Bucket=name, Key="k")
    assert code(error) == "NoSuchKey"
    await either_s3.delete_object(Bucket=name, Key="k")


async def test_only_the_first_of_two_writers_wins(either_s3: Any, name: str) -> None:
    await bucket(either_s3, name)
    await either_s3.put_object(Bucket=name, Key="k", Body=b"one", IfNoneMatch="*")
    with pytest.raises(ClientError) as error:
        await either_s3.put_object(Bucket=name, Key="k", Body=b"two", IfNoneMatch="*")
    assert code(error) == "PreconditionFailed"
    assert await (await either_s3.get_object(Bucket=name, Key="k"))["Body"].read() == b"one"


KEYS = ["a", "a b/ü+%&.txt", ".journal/e/1", ".journal/e/2", ".journal/f/1", "z" * 900, "a/b", "a/c/d"]


async def test_lists_of_objects(either_s3: Any, name: str) -> None:
    await bucket(either_s3, name)
    for key in KEYS:
        await either_s3.put_object(Bucket=name, Key=key, Body=key.encode())
    got = await either_s3.list_objects_v2(Bucket=name)
    assert [row["Key"] for row in got["Contents"]] == sorted(KEYS)
    assert [row["Size"] for row in got["Contents"]] == [len(key.encode()) for key in sorted(KEYS)]
    assert (got["KeyCount"], got["IsTruncated"]) == (len(KEYS), False)
    pages = either_s3.get_paginator("list_objects_v2").paginate(Bucket=name, PaginationConfig={"PageSize": 3})
    assert [row["Key"] async for page in pages for row in page["Contents"]] == sorted(KEYS)
    got = await either_s3.list_objects_v2(Bucket=name, Prefix=".journal/e/")
    assert [row["Key"] for row in got["Contents"]] == [".journal/e/1", ".journal/e/2"]
    got = await either_s3.list_objects_v2(Bucket=name, Prefix=".journal/", Delimiter="/")
    assert [row["Prefix"] for row in got["CommonPrefixes"]] == [".journal/e/", ".journal/f/"]
    assert "Contents" not in got
    pages = either_s3.get_paginator("list_objects_v2").paginate(
        Bucket=name, Delimiter="/", PaginationConfig={"PageSize": 1}
    )
    rolled, plain = [], []
    async for page in pages:
        rolled += [row["Prefix"] for row in page.get("CommonPrefixes", [])]
        plain += [row["Key"] for row in page.get("Contents", [])]
    assert (rolled, plain) == ([".journal/", "a b/", "a/"], ["a", "z" * 900])
    got = await either_s3.list_objects_v2(Bucket=name, StartAfter="a/b")
    assert [row["Key"] for row in got["Contents"]] == ["a/c/d", "z" * 900]
    pages = either_s3.get_paginator("list_objects").paginate(Bucket=name, PaginationConfig={"PageSize": 2})
    assert [row["Key"] async for page in pages for row in page["Contents"]] == sorted(KEYS)
    for key in KEYS[:2]:
        got = await either_s3.get_object(Bucket=name, Key=key)
        assert (await got["Body"].read()).decode() == key
    answer = await either_s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": key} for key in KEYS]})
    assert sorted(row["Key"] for row in answer["Deleted"]) == sorted(KEYS)
    assert "Contents" not in await either_s3.list_objects_v2(Bucket=name)


async def test_a_multipart_upload(either_s3: Any, name: str) -> None:
    await bucket(either_s3, name)
    content = [bytes([65 + i]) * size for i, size in enumerate((5 * MIB, 5 * MIB, 7))]
    made = await either_s3.create_multipart_upload(Bucket=name, Key="big/one", Tagging="a=1&b=2")
    about = {"Bucket": name, "Key": "big/one", "UploadId": made["UploadId"]}
    parts = []
    for number, part in enumerate(content, 1):
        etag = (await either_s3.upload_part(**about, PartNumber=number, Body=part))["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    listed = await either_s3.list_parts(**about)
    assert [(part["PartNumber"], part["Size"]) for part in listed["Parts"]] == [(1, 5 * MIB), (2, 5 * MIB), (3, 7)]
    open_ones = await either_s3.list_multipart_uploads(Bucket=name)
    assert [row["Key"] for row in open_ones["Uploads"]] == ["big/one"]
    with pytest.raises(ClientError):
        await either_s3.get_object(Bucket=name, Key="big/one")
    wrong = [{**parts[0], "ETag": parts[1]["ETag"]}, *parts[1:]]
    with pytest.raises(ClientError) as error:
        await either_s3.complete_multipart_upload(**about, MultipartUpload={"Parts": wrong})
    assert code(error) == "InvalidPart"
    done = await either_s3.complete_multipart_upload(**about, MultipartUpload={"Parts": parts})
    assert done["ETag"].endswith('-3"')
    got = await either_s3.get_object(Bucket=name, Key="big/one")
    assert await got["Body"].read() == b"".join(content)
    assert got["ETag"] == done["ETag"]
    tags = (await either_s3.get_object_tagging(Bucket=name, Key="big/one"))["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"a": "1", "b": "2"}
    assert "Uploads" not in await either_s3.list_multipart_uploads(Bucket=name)


async def test_an_aborted_upload_leaves_nothing(either_s3: Any, name: str) -> None:
    await bucket(either_s3, name)
    made = await either_s3.create_multipart_upload(Bucket=name, Key="k")
    about = {"Bucket": name, "Key": "k", "UploadId": made["UploadId"]}
    await either_s3.upload_part(**about, PartNumber=1, Body=b"x")
    await either_s3.abort_multipart_upload(**about)
    with pytest.raises(ClientError) as error:
        await either_s3.list_parts(**about)
    assert code(error) == "NoSuchUpload"
    assert "Contents" not in await either_s3.list_objects_v2(Bucket=name)


async def test_parts_but_the_last_have_five_mebibytes(either_s3: Any, name: str) -> None:
    await bucket(either_s3, name)
    made = await either_s3.create_multipart_upload(Bucket=name, Key="k")
    about = {"Bucket": name, "Key": "k", "UploadId": made["UploadId"]}
    parts = [
        {"PartNumber": number, "ETag": (await either_s3.upload_part(**about, PartNumber=number, Body=b"x"))["ETag"]}
        for number in (1, 2)
    ]
    with pytest.raises(ClientError) as error:
        await either_s3.complete_multipart_upload(**about, MultipartUpload={"Parts": parts})
    assert code(error) == "EntityTooSmall"


@pytest.mark.parametrize("version", ["s3v4", "s3"])
@pytest.mark.parametrize("which", ["s3", "moto"])
async def test_a_signed_url_is_served(which: str, version: str, name: str, request: pytest.FixtureRequest) -> None:
    async with client("s3", request.getfixturevalue(which), signature_version=version) as made:
        await bucket(made, name)
        await made.put_object(Bucket=name, Key="4b55", Body=b"hello")
        url = await made.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "4b55"}, ExpiresIn=900)
    async with aiohttp.ClientSession() as browser, browser.get(url) as answer:
        assert (answer.status, await answer.read()) == (200, b"hello")


# Objects, exactly


@pytest.mark.parametrize("version", ["s3v4", "s3"])
async def test_a_signed_url_expires_and_an_unsigned_one_is_refused(version: str, name: str) -> None:
    with servers.start_s3(buckets=[name]) as s3:
        async with client("s3", s3, signature_version=version) as objects:
            await objects.put_object(Bucket=name, Key="k", Body=b"hello")
            url = await objects.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "k"}, ExpiresIn=900)
        async with aiohttp.ClientSession() as browser:
            async with browser.get(url.partition("?")[0]) as answer:
                assert answer.status == 403
            s3.advance(890)
            async with browser.get(url) as answer:
                assert answer.status == 200
            s3.advance(20)
            async with browser.get(url) as answer:
                assert answer.status == 403
                assert "Request has expired" in await answer.text()


async def test_who_may_not_list_does_not_learn_what_is_missing(s3: StandIn, objects: Any, name: str) -> None:
    await bucket(objects, name)
    s3.restrict(allow=["s3:GetObject", "s3:PutObject"])
    for asked in (objects.get_object, objects.head_object):
        with pytest.raises(ClientError) as error:
            await asked(Bucket=name, Key="k")
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    s3.restrict(allow=["s3:GetObject", "s3:PutObject", "s3:ListBucket"])
    with pytest.raises(ClientError) as error:
        await objects.head_object(Bucket=name, Key="k")
    assert code(error) == "404"


async def test_tags_need_their_own_permission(s3: StandIn, objects: Any, name: str) -> None:
    await bucket(objects, name)
    s3.restrict(allow=[f"s3:PutObject/{name}/*"])
    await objects.put_object(Bucket=name, Key="k", Body=b"x")
    with pytest.raises(ClientError) as error:
        await objects.put_object(Bucket=name, Key="k", Body=b"y", Tagging="a=1")
    assert code(error) == "AccessDenied"
    s3.restrict(allow=["s3:PutObject*"], deny=["s3:DeleteObject"])
    await objects.put_object(Bucket=name, Key="k", Body=b"y", Tagging="a=1")
    with pytest.raises(ClientError) as error:
        await objects.delete_object(Bucket=name, Key="k")
    assert code(error) == "AccessDenied"
    answer = await objects.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "k"}]})
    assert answer["Errors"][0]["Code"] == "AccessDenied"
    assert list(s3.admin()["objects"][name]) == ["k"]


async def test_a_body_that_does_not_match_its_digest_is_refused(s3: StandIn, objects: Any, name: str) -> None:
    await bucket(objects, name)
    for digest in ({"ContentMD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}, {"ChecksumCRC32": "AAAAAA=="}):
        with pytest.raises(ClientError) as error:
            await objects.put_object(Bucket=name, Key="k", Body=b"hello", **digest)
        assert code(error) == "BadDigest"
    assert s3.admin()["objects"][name] == {}


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("split", [1, 7, 100_000])
async def test_a_chunked_body_with_trailers_is_understood(
    s3: StandIn, objects: Any, name: str, split: int, signed: bool
) -> None:
    await bucket(objects, name)
    content = bytes(range(256)) * 3
    crc = zlib.crc32(content).to_bytes(4, "big")
    extra = b";chunk-signature=" + b"0" * 64 if signed else b""
    body = b"".join(
        b"%x%s\r\n%s\r\n" % (len(chunk), extra, chunk) for chunk in (content[:500], content[500:])
    ) + b"0%s\r\nx-amz-checksum-crc32:%s\r\n\r\n" % (extra, _base64(crc))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), split):
            yield body[start : start + split]

    headers = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=x/y",
        "Content-Encoding": "gzip,aws-chunked",
        "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-decoded-content-length": str(len(content)),
    }
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{s3.url}/{name}/k", data=pieces(), headers=headers) as answer:
            assert answer.status == 200
        async with session.put(f"{s3.url}/{name}/l", data=body[:-60], headers=headers) as answer:
            assert answer.status == 400
    got = await objects.get_object(Bucket=name, Key="k")
    assert await got["Body"].read() == content
    assert got["ContentEncoding"] == "gzip"
    assert list(s3.admin()["objects"][name]) == ["k"]


def _base64(data: bytes) -> bytes:
    import base64

    return base64.b64encode(data)


async def test_a_body_stays_as_it_was_encoded(objects: Any, name: str) -> None:
    await bucket(objects, name)
    content = zlib.compress(b"hello" * 100, wbits=31)
    await objects.put_object(Bucket=name, Key="k", Body=content, ContentEncoding="gzip", Metadata={"a": "b"})
    got = await objects.head_object(Bucket=name, Key="k")
    assert (got["ContentLength"], got["ContentEncoding"], got["Metadata"]) == (len(content), "gzip", {"a": "b"})


async def test_objects_survive_sigkill_whole_with_tags_or_not_at_all(name: str, tmp_path: Path) -> None:
    with servers.start_s3(buckets=[name], folder=tmp_path / "s3") as s3:
        async with client("s3", s3) as objects:
            await objects.put_object(Bucket=name, Key="k", Body=b"old", Tagging="a=1")
            await objects.put_object(Bucket=name, Key="t", Body=b"tagged")
            await objects.put_object_tagging(Bucket=name, Key="t", Tagging={"TagSet": [{"Key": "late", "Value": "1"}]})
            made = await objects.create_multipart_upload(Bucket=name, Key="m", Tagging="m=1")
            about = {"Bucket": name, "Key": "m", "UploadId": made["UploadId"]}
            etag = (await objects.upload_part(**about, PartNumber=1, Body=b"part"))["ETag"]
            s3.fault("PutObject", bandwidth=100_000)
            put = asyncio.create_task(objects.put_object(Bucket=name, Key="k", Body=b"new" * MIB, Tagging="a=2"))
            await until(lambda: any(path.stat().st_size for path in (tmp_path / "s3" / ".incoming").iterdir()))
            s3.kill()
            with pytest.raises(BROKEN):
                await put
            s3.restart()
            got = await objects.get_object(Bucket=name, Key="k")
            assert await got["Body"].read() == b"old"
            assert (await objects.get_object_tagging(Bucket=name, Key="k"))["TagSet"] == [{"Key": "a", "Value": "1"}]
            assert (await objects.get_object_tagging(Bucket=name, Key="t"))["TagSet"][0]["Key"] == "late"
            assert await (await objects.get_object(Bucket=name, Key="t"))["Body"].read() == b"tagged"
            assert list((tmp_path / "s3" / ".incoming").iterdir()) == []
            parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
            await objects.complete_multipart_upload(**about, MultipartUpload=parts)
            assert s3.admin()["uploads"] == []
        s3.restart()
        async with client("s3", s3) as objects:
            assert await (await objects.get_object(Bucket=name, Key="m"))["Body"].read() == b"part"


async def test_files_put_there_by_hand_are_objects(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "e1%2Fr.rds").write_bytes(b"hello")
    with servers.start_s3(folder=tmp_path) as s3:
        async with client("s3", s3) as objects:
            got = await objects.get_object(Bucket=name, Key="e1/r.rds")
            assert (await got["Body"].read(), got["ETag"]) == (b"hello", '"5d41402abc4b2a76b9719d911017c592"')


async def test_a_big_object_takes_little_memory(s3: StandIn, objects: Any, name: str) -> None:
    await bucket(objects, name)

    def resident() -> int:
        assert s3.process is not None
        status = Path(f"/proc/{s3.process.pid}/status")
        if not status.exists():
            pytest.skip("no /proc here")
        return int(status.read_text().split("VmHWM:")[1].split()[0]) << 10

    before = resident()
    await objects.put_object(Bucket=name, Key="big", Body=io.BytesIO(bytes(128 * MIB)))
    got = await objects.get_object(Bucket=name, Key="big")
    size = 0
    async for chunk in got["Body"].iter_chunks():
        size += len(chunk)
    assert size == 128 * MIB
    assert resident() - before < 32 * MIB


# Faults


async def test_requests_fail_as_configured_and_no_others(s3: StandIn, objects: Any, name: str) -> None:
    await bucket(objects, name)
    s3.admin(reset_counts=True)
    s3.fault("PutObject", fail=2, status=503, code="SlowDown")
    for _ in range(2):
        with pytest.raises(ClientError) as error:
            await objects.put_object(Bucket=name, Key="k", Body=b"x" * 100_000)
        assert code(error) == "SlowDown"
    assert s3.admin()["objects"][name] == {}
    await objects.put_object(Bucket=name, Key="k", Body=b"x")
    assert s3.counts() == {"PutObject": 3}


async def test_botocore_retries_what_fails_for_a_while(sqs: StandIn, name: str) -> None:
    sqs.fault("GetQueueUrl", fail=1, code="ThrottlingException", status=400)
    config = {"retries": {"total_max_attempts": 3, "mode": "standard"}}
    async with aiobotocore.session.get_session().create_client(
        "sqs",
        region_name="eu-west-1",
        endpoint_url=sqs.url,
        aws_access_key_id="worker",
        aws_secret_access_key="secret",
        config=AioConfig(**config),
    ) as queues:
        await fifo(queues, name)
        await queues.get_queue_url(QueueName=f"{name}.fifo")


# aiohttp itself sends a PUT, GET or DELETE whose connection breaks once more, below botocore and its retries.
TWICE = 2


async def test_a_connection_is_reset_in_the_middle_of_a_part(s3: StandIn, name: str) -> None:
    async with client("s3", s3) as objects:
        await bucket(objects, name)
        made = await objects.create_multipart_upload(Bucket=name, Key="k")
        about = {"Bucket": name, "Key": "k", "UploadId": made["UploadId"]}
        s3.fault("UploadPart", reset_after_bytes=MIB, times=TWICE)
        with pytest.raises(BROKEN):
            await objects.upload_part(**about, PartNumber=1, Body=bytes(6 * MIB))
        assert [upload["parts"] for upload in s3.admin()["uploads"] if upload["bucket"] == name] == [[]]
        await objects.upload_part(**about, PartNumber=1, Body=bytes(6 * MIB))
        assert [upload["parts"] for upload in s3.admin()["uploads"] if upload["bucket"] == name] == [[1]]


async def test_a_download_is_reset_in_the_middle(s3: StandIn, name: str) -> None:
    async with client("s3", s3) as objects:
        await bucket(objects, name)
        await objects.put_object(Bucket=name, Key="k", Body=bytes(40 * MIB))
        s3.fault("GetObject", reset_after_bytes=20 * MIB)
        got = await objects.get_object(Bucket=name, Key="k")
        async with got["Body"] as body:
            with pytest.raises((*BROKEN, aiohttp.ClientError)):
                await body.read()
        got = await objects.get_object(Bucket=name, Key="k")
        async with got["Body"] as body:
            assert len(await body.read()) == 40 * MIB


async def test_a_lost_answer_is_of_a_request_that_was_carried_out(s3: StandIn, name: str) -> None:
    async with client("s3", s3) as objects:
        await bucket(objects, name)
        s3.fault("PutObject", drop_answer=TWICE)
        with pytest.raises(BROKEN):
            await objects.put_object(Bucket=name, Key="k", Body=b"x")
    assert list(s3.admin()["objects"][name]) == ["k"]


async def test_latency_and_bandwidth(s3: StandIn, objects: Any, name: str) -> None:
    await bucket(objects, name)
    s3.fault("HeadBucket", latency_s=0.3)
    began = time.monotonic()
    await objects.head_bucket(Bucket=name)
    assert time.monotonic() - began >= 0.3
    s3.fault("PutObject", bandwidth=1_000_000)
    s3.fault("GetObject", bandwidth=1_000_000)
    began = time.monotonic()
    await objects.put_object(Bucket=name, Key="k", Body=bytes(300_000))
    between = time.monotonic()
    await (await objects.get_object(Bucket=name, Key="k"))["Body"].read()
    assert between - began >= 0.3
    assert time.monotonic() - between >= 0.25


async def test_the_test_itself_meets_no_fault(s3: StandIn, name: str) -> None:
    s3.restrict(allow=[])
    s3.fault("*", fail=1_000_000)
    s3.admin(reset_counts=True)
    async with client("s3", s3, key=TESTER) as objects:
        await bucket(objects, name)
        await objects.put_object(Bucket=name, Key="k", Body=b"x")
        url = await objects.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "k"})
    async with aiohttp.ClientSession() as browser, browser.get(url) as answer:
        assert answer.status == 200
    assert s3.counts() == {}


def test_refused_connections_come_back() -> None:
    with servers.start_sqs() as sqs:
        with socket.create_connection(("127.0.0.1", sqs.port)) as before:
            sqs.refuse(0.3)
            with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", sqs.port)):
                pass
            with pytest.raises(ConnectionResetError):
                before.recv(1)
        deadline = time.monotonic() + 5
        while not sqs.ready():
            assert time.monotonic() < deadline
        assert sqs.counts() == {}


def test_an_unknown_fault_in_a_test_is_refused(s3: StandIn) -> None:
    with pytest.raises(ValueError, match="latency"):
        s3.fault("PutObject", latency=3)


# Processes


@pytest.mark.parametrize("script", ["sqs_server.py", "s3_server.py"])
def test_a_server_reports_its_address_and_ends_on_sigterm(script: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    command = [sys.executable, str(servers.HERE / script), "--port", "0", "--ready-file", str(ready)]
    if script == "s3_server.py":
        command += ["--folder", str(tmp_path / "objects")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert ready.read_text() == url
        with urllib.request.urlopen(f"{url}/_admin", timeout=5) as answer:
            assert json.loads(answer.read())["counts"] == {}
        process.terminate()
        assert process.wait(5) == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", urlsplit(url).port or 0)) != 0


ONE_TRY = Retry(NoBackoff(), 0)


def test_redis_with_a_password_and_a_restart() -> None:
    with servers.start_redis(password="hidden") as server:
        assert server.command_of("PING")
        with redis.Redis(port=server.port, retry=ONE_TRY) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        server.kill()
        with pytest.raises(redis.ConnectionError):
            server.command_of("PING")
        server.restart()
        assert server.command_of("PING")


def test_redis_with_tls() -> None:
    with servers.start_redis(tls=True, password="hidden") as server:
        assert server.command_of("PING")
        with (
            redis.Redis.from_url(server.url, retry=ONE_TRY) as distrusting,
            pytest.raises(redis.ConnectionError, match="certificate verify failed"),
        ):
            distrusting.ping()
    with servers.start_redis(tls=True, names=["other.example"]) as server:
        context = ssl.create_default_context(cafile=str(server.ca_file))
        plain = socket.create_connection(("127.0.0.1", server.port))
        with plain, pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
            context.wrap_socket(plain, server_hostname="127.0.0.1")
