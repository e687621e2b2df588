"""The platform's buckets: whole or not at all, tried again while that helps, and within the role's rights."""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import sys
import tracemalloc
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiobotocore.session
import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.gateway.aws.clients import Cloud
from cellworker.gateway.aws.s3 import S3CellSets, S3Files, S3Object, S3Results, StoreUnavailableError
from cellworker.logs import configure
from cellworker.settings import Settings

TESTS = str(Path(__file__).parent.parent)
if TESTS not in sys.path:
    sys.path.insert(0, TESTS)

from cloud.servers import TESTER as TEST_KEY  # noqa: E402
from cloud.servers import StandIn, moto_server, start_s3  # noqa: E402
from port_suites.results import ResultsTests, StoreUnderTest  # noqa: E402

RESULTS, CELL_SETS, FILES = "worker-results", "cell-sets", "processed-matrix"
RIGHTS = ["s3:GetObject", "s3:ListBucket", "s3:PutObject", "s3:PutObjectTagging"]
ETAG = "4b554074774c17f8a2fe41f63a57558c"
TAGS = {"experimentId": "e1", "requestType": "Get = + a/b:c"}
EXPERIMENT = "e1"
MIB = 1 << 20
LONG_S = 120.0


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with start_s3(buckets=[RESULTS, CELL_SETS, FILES]) as s3:
        yield s3


@pytest.fixture
async def s3(server: StandIn) -> AsyncIterator[StandIn]:
    """S3 with the rights of the platform's role, and empty buckets."""
    server.clear()
    server.restrict(allow=RIGHTS)
    server.admin(reset_counts=True)
    yield server
    server.clear()
    async with by_test(server.url) as admin:
        for bucket, objects in server.admin()["objects"].items():
            keys = [{"Key": key} for key in objects]
            for start in range(0, len(keys), 1000):
                await admin.delete_objects(Bucket=bucket, Delete={"Objects": keys[start : start + 1000]})
        for upload in server.admin()["uploads"]:
            await admin.abort_multipart_upload(Bucket=upload["bucket"], Key=upload["key"], UploadId=upload["id"])


@pytest.fixture
async def client(s3: StandIn) -> AsyncIterator[Any]:
    async with Cloud(Settings(aws_endpoint_url=s3.url)) as cloud:
        yield cloud.s3


@pytest.fixture
async def admin(s3: StandIn) -> AsyncIterator[Any]:
    async with by_test(s3.url) as client:
        yield client


@contextlib.asynccontextmanager
async def by_test(url: str) -> AsyncIterator[Any]:
    keys = {"aws_access_key_id": TEST_KEY, "aws_secret_access_key": "any"}
    session = aiobotocore.session.get_session()
    async with session.create_client("s3", region_name="eu-west-1", endpoint_url=url, **keys) as client:
        yield client


async def content_of(admin: Any, bucket: str, key: str) -> bytes:
    async with (await admin.get_object(Bucket=bucket, Key=key))["Body"] as body:
        content: bytes = await body.read()
    return content


async def tags_of(admin: Any, key: str) -> dict[str, str]:
    answer = await admin.get_object_tagging(Bucket=RESULTS, Key=key)
    return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.02)


def random_file(folder: Path, size: int) -> Path:
    path = folder / "result"
    path.write_bytes(os.urandom(size))
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stored(s3: StandIn, bucket: str = RESULTS) -> dict[str, Any]:
    return s3.admin()["objects"][bucket]


# Results


class TestS3Results(ResultsTests):
    @pytest.fixture
    def results(self, client: Any) -> S3Results:
        return S3Results(client, RESULTS)

    @pytest.fixture
    def store(self, results: S3Results, admin: Any) -> StoreUnderTest:
        async def fetch(url: str) -> bytes:
            content: bytes = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read())
            return content

        return StoreUnderTest(results, lambda etag: tags_of(admin, etag), fetch)


class TestS3ResultsByTheDirectWay(TestS3Results):
    @pytest.fixture
    async def results(self, client: Any, s3: StandIn) -> AsyncIterator[S3Results]:
        async with Cloud(Settings(aws_endpoint_url=s3.url)) as cloud:
            yield S3Results(cloud.s3, RESULTS, direct=cloud.direct)


async def test_a_result_that_may_not_be_read_is_reported(client: Any, s3: StandIn) -> None:
    await S3Results(client, RESULTS).put(ETAG, b"answer", TAGS)
    s3.restrict(deny=["s3:GetObject"])
    with pytest.raises(StoreUnavailableError, match="an earlier result could not be fetched"):
        await S3Results(client, RESULTS, retry_budget_s=0.01).get(ETAG)


async def test_a_result_is_stored_with_its_tags_in_one_call(client: Any, admin: Any, s3: StandIn) -> None:
    results = S3Results(client, RESULTS)
    assert not await results.exists(ETAG)
    await results.put(ETAG, b"answer", TAGS)
    assert await results.exists(ETAG)
    assert await content_of(admin, RESULTS, ETAG) == b"answer"
    assert await tags_of(admin, ETAG) == TAGS
    assert {name: count for name, count in s3.counts().items() if name != "ListObjectsV2"} == {"PutObject": 1}
    head = await admin.head_object(Bucket=RESULTS, Key=ETAG)
    assert head["ContentType"] == "binary/octet-stream"
    assert "ContentEncoding" not in head


@pytest.mark.parametrize(
    "fault",
    [
        {"fail": 3},
        {"fail": 3, "status": 500, "code": "InternalError"},
        {"fail": 3, "status": 400, "code": "RequestTimeout"},
        {"fail": 3, "status": 400, "code": "ExpiredToken"},
        {"reset_after_bytes": 100_000, "times": 3},
        {"drop_answer": 3},
    ],
    ids=["SlowDown", "InternalError", "RequestTimeout", "ExpiredToken", "reset", "answer lost"],
)
async def test_a_transient_failure_is_retried(client: Any, admin: Any, s3: StandIn, fault: dict[str, Any]) -> None:
    content = os.urandom(300_000)
    s3.fault("PutObject", **fault)
    await S3Results(client, RESULTS).put(ETAG, content, TAGS)
    assert await content_of(admin, RESULTS, ETAG) == content
    assert await tags_of(admin, ETAG) == TAGS
    assert s3.counts()["PutObject"] == 4


async def test_a_lasting_failure_is_reported_and_nothing_is_stored(client: Any, s3: StandIn) -> None:
    s3.fault("PutObject", fail=1000)
    with pytest.raises(StoreUnavailableError, match=r"the result could not be stored: SlowDown \(503\)"):
        await S3Results(client, RESULTS, retry_budget_s=0.5).put(ETAG, b"answer", TAGS)
    assert stored(s3) == {}
    assert s3.counts()["PutObject"] > 3


@pytest.mark.parametrize("deny", ["s3:PutObject", "s3:PutObjectTagging"])
async def test_a_right_that_is_missing_is_reported_at_once(client: Any, s3: StandIn, deny: str) -> None:
    s3.restrict(allow=RIGHTS, deny=[deny])
    with pytest.raises(StoreUnavailableError, match=r"AccessDenied \(403\)"):
        await S3Results(client, RESULTS).put(ETAG, b"answer", TAGS)
    assert s3.counts()["PutObject"] == 1


async def test_a_store_that_does_not_answer_is_not_a_missing_result(client: Any, s3: StandIn) -> None:
    results = S3Results(client, RESULTS, retry_budget_s=0.3)
    s3.refuse(2)
    with pytest.raises(StoreUnavailableError, match="does not say"):
        await results.exists(ETAG)
    await until(s3.ready)


async def test_storing_ends_at_its_deadline(client: Any, s3: StandIn) -> None:
    s3.fault("PutObject", bandwidth=50_000)
    with pytest.raises(StoreUnavailableError, match=r"not within 0\.5 s"):
        await S3Results(client, RESULTS, deadline_s=0.5).put(ETAG, bytes(500_000), TAGS)
    await until(lambda: stored(s3) == {})


async def test_a_small_file_is_one_upload_and_stays_where_it_is(
    client: Any, admin: Any, s3: StandIn, tmp_path: Path
) -> None:
    path = random_file(tmp_path, 3 * MIB)
    await S3Results(client, RESULTS).put(ETAG, path, TAGS)
    assert await content_of(admin, RESULTS, ETAG) == path.read_bytes()
    assert s3.counts() == {"PutObject": 1}


async def test_a_large_file_goes_in_parts_with_bounded_memory(
    client: Any, admin: Any, s3: StandIn, tmp_path: Path
) -> None:
    path = random_file(tmp_path, 150 * MIB + 7)
    tracemalloc.start()
    try:
        await S3Results(client, RESULTS).put(ETAG, path, TAGS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 110 * MIB  # three parts, of which aiohttp makes a copy
    assert stored(s3)[ETAG]["size"] == 150 * MIB + 7
    assert stored(s3)[ETAG]["etag"].endswith("-10")
    assert hashlib.md5(await content_of(admin, RESULTS, ETAG)).digest() == hashlib.md5(path.read_bytes()).digest()
    assert await tags_of(admin, ETAG) == TAGS
    assert s3.counts() == {"CreateMultipartUpload": 1, "UploadPart": 10, "CompleteMultipartUpload": 1}


@pytest.fixture
def large(tmp_path: Path) -> Path:
    return random_file(tmp_path, 65 * MIB)


@pytest.mark.parametrize(
    ("action", "fault"),
    [
        ("UploadPart", {"reset_after_bytes": 5 * MIB, "times": 3}),
        ("UploadPart", {"fail": 3}),
        ("CreateMultipartUpload", {"fail": 2}),
        ("CompleteMultipartUpload", {"fail": 2}),
        ("CompleteMultipartUpload", {"drop_answer": 1}),
    ],
)
async def test_each_part_is_tried_again(
    client: Any, admin: Any, s3: StandIn, large: Path, action: str, fault: dict[str, Any]
) -> None:
    s3.fault(action, **fault)
    await S3Results(client, RESULTS).put(ETAG, large, TAGS)
    assert await content_of(admin, RESULTS, ETAG) == await asyncio.to_thread(large.read_bytes)
    assert s3.admin()["uploads"] == []


async def test_an_upload_that_fails_leaves_no_parts(client: Any, s3: StandIn, large: Path) -> None:
    s3.restrict(allow=[*RIGHTS, "s3:AbortMultipartUpload"])
    s3.fault("UploadPart", reset_after_bytes=MIB, times=1000)
    with pytest.raises(StoreUnavailableError, match="the file could not be stored"):
        await S3Results(client, RESULTS, retry_budget_s=0.5).put(ETAG, large, TAGS)
    assert s3.admin()["uploads"] == []
    assert stored(s3) == {}


async def test_an_upload_that_is_cancelled_leaves_no_parts(client: Any, s3: StandIn, large: Path) -> None:
    s3.restrict(allow=[*RIGHTS, "s3:AbortMultipartUpload"])
    s3.fault("UploadPart", bandwidth=MIB)
    putting = asyncio.create_task(S3Results(client, RESULTS).put(ETAG, large, TAGS))
    await until(lambda: s3.counts().get("UploadPart", 0) >= 3)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert s3.admin()["uploads"] == []


async def test_parts_that_may_not_be_removed_are_reported_and_nothing_else_fails(
    client: Any, s3: StandIn, large: Path, caplog: pytest.LogCaptureFixture
) -> None:
    s3.fault("UploadPart", fail=1000)
    with pytest.raises(StoreUnavailableError, match="SlowDown"):
        await S3Results(client, RESULTS, retry_budget_s=0.2).put(ETAG, large, TAGS)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == ["parts of an upload could not be removed"]


# Cell sets


async def test_cell_sets_are_fetched_again_only_when_they_changed(client: Any, admin: Any, s3: StandIn) -> None:
    cell_sets = S3CellSets(client, CELL_SETS)
    await admin.put_object(Bucket=CELL_SETS, Key=EXPERIMENT, Body=b'{"cellSets":[1]}')
    assert await cell_sets.read(EXPERIMENT) == b'{"cellSets":[1]}'
    s3.fault("GetObject", bandwidth=1.0)  # a body would take longer than the test may
    async with asyncio.timeout(5):
        assert await cell_sets.read(EXPERIMENT) == b'{"cellSets":[1]}'
    s3.clear()
    await admin.put_object(Bucket=CELL_SETS, Key=EXPERIMENT, Body=b'{"cellSets":[2]}')
    assert await cell_sets.read(EXPERIMENT) == b'{"cellSets":[2]}'
    assert s3.counts() == {"GetObject": 3}


async def test_missing_cell_sets_are_reported_in_words(client: Any) -> None:
    with pytest.raises(WorkerError, match="has no cell sets yet") as caught:
        await S3CellSets(client, CELL_SETS).read("unknown")
    assert caught.value.code == ErrorCode.CELL_SETS_INVALID


@pytest.mark.parametrize("fault", [{"fail": 3}, {"reset_after_bytes": 1000, "times": 3}])
async def test_cell_sets_are_tried_again(client: Any, admin: Any, s3: StandIn, fault: dict[str, Any]) -> None:
    content = json.dumps({"cellSets": list(range(50_000))}).encode()
    await admin.put_object(Bucket=CELL_SETS, Key=EXPERIMENT, Body=content)
    s3.fault("GetObject", **fault)
    assert await S3CellSets(client, CELL_SETS).read(EXPERIMENT) == content


# The experiment's files


async def put_file(admin: Any, key: str, content: bytes) -> S3Object:
    answer = await admin.put_object(Bucket=FILES, Key=key, Body=content)
    return S3Object(key, len(content), answer["ETag"].strip('"'))


async def test_all_files_of_the_experiment_are_listed_and_none_of_others(client: Any, admin: Any) -> None:
    await put_file(admin, "e1/r.rds", b"abc")
    await put_file(admin, "e1/empty", b"")
    await put_file(admin, "e1/deep/er", b"x")
    await put_file(admin, "e10/r.rds", b"x")
    await put_file(admin, "e1", b"x")
    assert await S3Files(client, FILES, EXPERIMENT).list() == [
        S3Object("e1/deep/er", 1, hashlib.md5(b"x").hexdigest()),
        S3Object("e1/r.rds", 3, hashlib.md5(b"abc").hexdigest()),
    ]
    assert await S3Files(client, FILES, "e2").list() == []


async def test_more_than_a_page_of_files_is_listed(client: Any, admin: Any) -> None:
    names = [f"e1/{number:04}" for number in range(1005)]
    for start in range(0, len(names), 100):
        await asyncio.gather(*(put_file(admin, name, b"x") for name in names[start : start + 100]))
    assert [item.key for item in await S3Files(client, FILES, EXPERIMENT).list()] == names


async def test_a_file_arrives_whole(client: Any, admin: Any, tmp_path: Path) -> None:
    content = os.urandom(10 * MIB + 3)
    item = await put_file(admin, "e1/r.rds", content)
    arrived: list[int] = []
    await S3Files(client, FILES, EXPERIMENT).download(item, tmp_path / "r.rds", arrived.append)
    assert (tmp_path / "r.rds").read_bytes() == content
    assert sum(arrived) == len(content)
    assert len(arrived) > 5
    assert names_in(tmp_path) == ["r.rds"]


async def test_a_download_that_breaks_goes_on_where_it_was(
    client: Any, admin: Any, s3: StandIn, tmp_path: Path
) -> None:
    content = os.urandom(10 * MIB)
    item = await put_file(admin, "e1/r.rds", content)
    arrived: list[int] = []
    s3.fault("GetObject", reset_after_bytes=3 * MIB, times=3)
    await S3Files(client, FILES, EXPERIMENT).download(item, tmp_path / "r.rds", arrived.append)
    assert (tmp_path / "r.rds").read_bytes() == content
    assert sum(arrived) == len(content)  # nothing came twice
    assert s3.counts()["GetObject"] == 4


async def test_a_download_that_breaks_for_good_leaves_nothing(
    client: Any, admin: Any, s3: StandIn, tmp_path: Path
) -> None:
    item = await put_file(admin, "e1/r.rds", os.urandom(3 * MIB))
    s3.fault("GetObject", reset_after_bytes=0, times=1000)
    with pytest.raises(StoreUnavailableError, match="the object could not be fetched"):
        await S3Files(client, FILES, EXPERIMENT, retry_budget_s=0.5).download(item, tmp_path / "r.rds")
    assert names_in(tmp_path) == []


async def test_an_object_that_is_replaced_meanwhile_is_not_mixed_with_the_old_one(
    client: Any, admin: Any, s3: StandIn, tmp_path: Path
) -> None:
    item = await put_file(admin, "e1/r.rds", bytes(20 * MIB))
    s3.fault("GetObject", bandwidth=20 * MIB, reset_after_bytes=10 * MIB)
    started = asyncio.Event()
    files = S3Files(client, FILES, EXPERIMENT)
    downloading = asyncio.create_task(files.download(item, tmp_path / "r.rds", lambda _: started.set()))
    async with asyncio.timeout(LONG_S):
        await started.wait()
    await put_file(admin, "e1/r.rds", b"1" * 20 * MIB)
    with pytest.raises(StoreUnavailableError, match="replaced meanwhile"):
        await downloading
    assert names_in(tmp_path) == []


async def test_an_object_that_was_replaced_before_is_not_taken_for_what_was_listed(
    client: Any, admin: Any, tmp_path: Path
) -> None:
    item = await put_file(admin, "e1/r.rds", b"old")
    await put_file(admin, "e1/r.rds", b"new")
    with pytest.raises(StoreUnavailableError, match="replaced meanwhile"):
        await S3Files(client, FILES, EXPERIMENT).download(item, tmp_path / "r.rds")
    assert names_in(tmp_path) == []


async def test_a_download_that_is_cancelled_leaves_nothing(
    client: Any, admin: Any, s3: StandIn, tmp_path: Path
) -> None:
    item = await put_file(admin, "e1/r.rds", bytes(20 * MIB))
    s3.fault("GetObject", bandwidth=10 * MIB)
    started = asyncio.Event()
    files = S3Files(client, FILES, EXPERIMENT)
    downloading = asyncio.create_task(files.download(item, tmp_path / "r.rds", lambda _: started.set()))
    async with asyncio.timeout(LONG_S):
        await started.wait()
    downloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await downloading
    assert names_in(tmp_path) == []


async def test_what_a_killed_process_left_is_removed_and_nothing_else(client: Any, admin: Any, tmp_path: Path) -> None:
    item = await put_file(admin, "e1/r.rds", b"content")
    (tmp_path / ".r.rds.0123456789abcdef.tmp").write_bytes(b"half")
    (tmp_path / ".other.0123456789abcdef.tmp").write_bytes(b"half")
    await S3Files(client, FILES, EXPERIMENT).download(item, tmp_path / "r.rds")
    assert names_in(tmp_path) == [".other.0123456789abcdef.tmp", "r.rds"]


async def test_a_failure_of_the_disk_is_not_reported_as_one_of_the_store(client: Any, admin: Any, s3: StandIn) -> None:
    item = await put_file(admin, "e1/r.rds", b"content")
    with pytest.raises(OSError, match="No such file or directory"):
        await S3Files(client, FILES, EXPERIMENT).download(item, Path("/nowhere/at/all"))
    assert "GetObject" not in s3.counts()


async def test_content_that_was_damaged_on_the_way_is_not_taken(client: Any, admin: Any, tmp_path: Path) -> None:
    item = await put_file(admin, "e1/r.rds", b"content")
    wrong = hashlib.md5(b"another").hexdigest()

    class Damaging:
        """A store that answers with another content than it says."""

        async def get_object(self, **request: Any) -> Any:
            assert request.pop("IfMatch") == f'"{wrong}"'
            return await client.get_object(**request)

    with pytest.raises(StoreUnavailableError, match="damaged"):
        await S3Files(Damaging(), FILES, EXPERIMENT).download(S3Object(item.key, 7, wrong), tmp_path / "r.rds")
    with pytest.raises(StoreUnavailableError, match="7 bytes came instead of 8"):
        await S3Files(Damaging(), FILES, EXPERIMENT).download(S3Object(item.key, 8, wrong), tmp_path / "r.rds")
    assert names_in(tmp_path) == []


async def test_no_log_and_no_error_contains_a_secret(
    client: Any, s3: StandIn, capsys: pytest.CaptureFixture[str], large: Path
) -> None:
    configure("DEBUG")
    message = "my-secret-key https://x/y?X-Amz-Signature=deadbeef"
    s3.fault("*", fail=3, status=403, code="SignatureDoesNotMatch", message=message)
    results = S3Results(client, RESULTS)
    for call in (results.exists(ETAG), results.put(ETAG, b"x", TAGS), results.put(ETAG, large, TAGS)):
        with pytest.raises(StoreUnavailableError) as caught:
            await call
        assert str(caught.value).endswith(": SignatureDoesNotMatch (403)")
    logs = capsys.readouterr().err
    for secret in ("my-secret-key", "Signature=", "deadbeef"):
        assert secret not in logs


async def test_everything_works_with_moto_as_well(tmp_path: Path, large: Path) -> None:
    with moto_server() as moto:
        async with by_test(moto.url) as admin, Cloud(Settings(aws_endpoint_url=moto.url)) as cloud:
            for bucket in (RESULTS, CELL_SETS, FILES):
                await admin.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
            results = S3Results(cloud.s3, RESULTS)
            await results.put("small", b"answer", TAGS)
            await results.put("large", large, TAGS)
            assert await results.exists("small")
            assert not await results.exists("smal")
            assert await tags_of(admin, "small") == await tags_of(admin, "large") == TAGS
            assert await content_of(admin, RESULTS, "large") == await asyncio.to_thread(large.read_bytes)
            cell_sets = S3CellSets(cloud.s3, CELL_SETS)
            await admin.put_object(Bucket=CELL_SETS, Key=EXPERIMENT, Body=b"{}")
            assert [await cell_sets.read(EXPERIMENT), await cell_sets.read(EXPERIMENT)] == [b"{}", b"{}"]
            with pytest.raises(WorkerError):
                await cell_sets.read("unknown")
            files = S3Files(cloud.s3, FILES, EXPERIMENT)
            await put_file(admin, "e1/r.rds", b"abc" * MIB)
            (item,) = await files.list()
            await files.download(item, tmp_path / "r.rds")
            assert (tmp_path / "r.rds").read_bytes() == b"abc" * MIB
