"""The journal's objects in a bucket, with the platform's rights and with more."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

from cellworker.gateway.aws.clients import Cloud  # noqa: E402
from cellworker.gateway.aws.s3_folder import S3Folder  # noqa: E402
from cellworker.settings import Settings  # noqa: E402
from cloud.servers import StandIn, start_s3  # noqa: E402

BUCKET = "results"


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with start_s3(buckets=[BUCKET]) as running:
        yield running


@pytest.fixture
async def folder(server: StandIn) -> AsyncIterator[S3Folder]:
    server.restrict()
    server.clear()
    async with Cloud(Settings(aws_endpoint_url=server.url)) as cloud:
        yield S3Folder(cloud.s3, BUCKET)


async def test_what_is_written_is_read_and_listed_with_its_age(folder: S3Folder, server: StandIn) -> None:
    await folder.put("a/1", b"one")
    await folder.put("b/1", b"other")
    server.advance(100)
    await folder.put("a/2", b"")
    listed = {item.key: item for item in await folder.listing("a/")}
    assert {key: item.size for key, item in listed.items()} == {"a/1": 3, "a/2": 0}
    assert 99 <= listed["a/1"].age_s <= 102
    assert listed["a/2"].age_s <= 2
    assert await folder.get("a/1") == b"one"
    assert await folder.get("a/none") == b""


async def test_a_long_listing_is_whole(folder: S3Folder) -> None:
    for number in range(1100):
        await folder.put(f"long/{number}", b"x")
    assert len(await folder.listing("long/")) == 1100


async def test_a_removed_object_is_deleted_where_that_is_allowed(folder: S3Folder) -> None:
    await folder.put("c/1", b"one")
    await folder.remove("c/1")
    assert await folder.listing("c/") == []


async def test_a_removed_object_is_emptied_where_deleting_is_not_allowed_and_that_is_logged_once(
    folder: S3Folder, server: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    server.restrict(deny=["s3:DeleteObject"])
    await folder.put("d/1", b"one")
    await folder.put("d/2", b"two")
    with caplog.at_level("INFO"):
        await folder.remove("d/1")
        await folder.remove("d/2")
    assert {item.key: item.size for item in await folder.listing("d/")} == {"d/1": 0, "d/2": 0}
    assert [record.message for record in caplog.records].count("objects may not be removed") == 1
