"""The calls that every request needs mean the same as those of the general client."""

import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError

TESTS = Path(__file__).parent.parent
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

from cellworker.gateway.aws.clients import Cloud  # noqa: E402
from cellworker.gateway.aws.s3 import S3Results, StoreUnavailableError  # noqa: E402
from cellworker.gateway.aws.s3_direct import DirectS3  # noqa: E402
from cellworker.settings import Settings  # noqa: E402
from cloud.servers import Server, StandIn, moto_server, start_s3  # noqa: E402

BUCKET = "worker-results-development-000000000000"
TAGS = {"experimentId": "a b+c=d/é:@", "requestType": "ListGenes"}


@pytest.fixture(scope="module", params=["stand-in", "moto"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with start_s3() if request.param == "stand-in" else moto_server() as running:
        yield running


@pytest.fixture
async def cloud(server: Server) -> AsyncIterator[Cloud]:
    async with Cloud(Settings(aws_endpoint_url=server.url)) as opened:
        with contextlib.suppress(
            opened.s3.exceptions.BucketAlreadyOwnedByYou, opened.s3.exceptions.BucketAlreadyExists
        ):
            await opened.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        yield opened


@pytest.mark.parametrize("key", ["4b554074774c17f8a2fe41f63a57558c", "A-b_c.d", "folder/x y+z&é"])
async def test_what_is_put_is_there_with_its_tags(cloud: Cloud, key: str) -> None:
    results = S3Results(cloud.s3, BUCKET, direct=cloud.direct)
    assert not await results.exists(key)
    await results.put(key, b"answer", TAGS)
    assert await results.exists(key)
    assert not await results.exists(key[:-1])
    answer = await cloud.s3.get_object(Bucket=BUCKET, Key=key)
    async with answer["Body"] as body:
        assert await body.read() == b"answer"
    tags = await cloud.s3.get_object_tagging(Bucket=BUCKET, Key=key)
    assert {tag["Key"]: tag["Value"] for tag in tags["TagSet"]} == TAGS


async def test_an_error_has_the_code_of_the_service(cloud: Cloud) -> None:
    with pytest.raises(ClientError) as caught:
        await cloud.direct.put("there-is-no-such-bucket", "x", b"", "")
    assert caught.value.response["Error"]["Code"] == "NoSuchBucket"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


async def test_a_busy_service_is_asked_again_and_a_missing_right_is_reported() -> None:
    with start_s3(buckets=[BUCKET]) as s3:
        stand_in: StandIn = s3
        async with Cloud(Settings(aws_endpoint_url=s3.url)) as cloud:
            results = S3Results(cloud.s3, BUCKET, direct=cloud.direct)
            stand_in.fault("PutObject", fail=2, status=503, code="SlowDown")
            await results.put("e1", b"answer", TAGS)
            assert await results.exists("e1")
            stand_in.restrict(deny=["s3:PutObject"])
            with pytest.raises(StoreUnavailableError, match=r"AccessDenied \(403\)"):
                await results.put("e2", b"answer", TAGS)
            stand_in.kill()
            with pytest.raises(StoreUnavailableError):
                await S3Results(cloud.s3, BUCKET, direct=cloud.direct, retry_budget_s=0.2).exists("e1")


class Session:
    """Credentials that are renewed, as those of a pod's role."""

    def __init__(self) -> None:
        self.asked = 0

    async def get_credentials(self) -> "Session":
        return self

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        self.asked += 1
        return ReadOnlyCredentials(f"AKIA{self.asked}", "secret", f"token-{self.asked}")


async def test_each_call_is_signed_with_the_credentials_of_the_moment_for_the_buckets_own_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[str, str, dict[str, str]]] = []

    def request(self: Any, method: str, url: Any, *, data: bytes, headers: dict[str, str]) -> Any:
        seen.append((method, str(url), headers))
        raise aiohttp.ClientConnectionError

    monkeypatch.setattr(aiohttp.ClientSession, "request", request)
    async with DirectS3(Session(), "https://s3.eu-west-1.amazonaws.com", "eu-west-1", by_path=False) as direct:
        for number in (1, 2):
            with pytest.raises(aiohttp.ClientConnectionError):
                await direct.put("bucket", "key", b"content", "a=b")
            method, url, headers = seen.pop()
            assert (method, url) == ("PUT", "https://bucket.s3.eu-west-1.amazonaws.com/key")
            assert headers["X-Amz-Security-Token"] == f"token-{number}"
            assert f"Credential=AKIA{number}/" in headers["Authorization"]
            assert "x-amz-tagging" in headers["Authorization"]
            assert headers["X-Amz-Content-SHA256"] == "UNSIGNED-PAYLOAD"
