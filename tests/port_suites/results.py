"""What every adapter of the port `Results` promises."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cellworker.gateway.core.ports import Results
from cellworker.identifiers import ETag

ETAG = ETag("4b554074774c17f8a2fe41f63a57558c")
TAGS = {"experimentId": "e1", "requestType": "Get = + a/b:c"}
EVERY_BYTE = bytes(range(256)) * 300


@dataclass(frozen=True)
class StoreUnderTest:
    """An adapter over an empty store, with ways around it.

    Attributes
    ----------
    results
        The adapter.
    tags
        Returns the tags that lie beside a result.
    fetch
        Returns what a client gets at a URL.
    """

    results: Results
    tags: Callable[[ETag], Awaitable[dict[str, str]]]
    fetch: Callable[[str], Awaitable[bytes]]


class ResultsTests:
    """A subclass gives the fixture `store`, a `StoreUnderTest`."""

    async def test_what_was_not_stored_is_not_there(self, store: StoreUnderTest) -> None:
        assert not await store.results.exists(ETAG)
        assert await store.results.get(ETAG) is None

    @pytest.mark.parametrize("content", [b"answer", b"", EVERY_BYTE], ids=["text", "empty", "every byte"])
    async def test_a_result_comes_back_byte_for_byte_with_its_tags(self, store: StoreUnderTest, content: bytes) -> None:
        await store.results.put(ETAG, content, TAGS)
        assert await store.results.exists(ETAG)
        assert await store.results.get(ETAG) == content
        assert await store.tags(ETAG) == TAGS

    async def test_a_file_is_stored_as_it_is(self, store: StoreUnderTest, tmp_path: Path) -> None:
        path = tmp_path / "result.to.store"
        path.write_bytes(EVERY_BYTE)
        await store.results.put(ETAG, path, TAGS)
        assert await store.results.get(ETAG) == EVERY_BYTE
        assert await store.tags(ETAG) == TAGS

    async def test_a_result_is_found_by_its_whole_name_alone(self, store: StoreUnderTest) -> None:
        await store.results.put(ETag(f"{ETAG}-more"), b"another", TAGS)
        for other in (ETAG, ETag(ETAG[:-1])):
            assert not await store.results.exists(other)
            assert await store.results.get(other) is None

    async def test_a_result_that_is_stored_again_takes_the_place_of_the_first(self, store: StoreUnderTest) -> None:
        await store.results.put(ETAG, b"a longer first answer", {"requestType": "First"})
        await store.results.put(ETAG, b"second", TAGS)
        assert await store.results.get(ETAG) == b"second"
        assert await store.tags(ETAG) == TAGS

    async def test_of_results_that_are_stored_at_once_one_is_there_whole(self, store: StoreUnderTest) -> None:
        contents = [bytes([number]) * 100_000 for number in range(6)]
        await asyncio.gather(*(store.results.put(ETAG, content, TAGS) for content in contents))
        assert await store.results.get(ETAG) in contents

    async def test_a_client_fetches_the_result_at_its_url(self, store: StoreUnderTest) -> None:
        await store.results.put(ETAG, EVERY_BYTE, TAGS)
        assert await store.fetch(await store.results.url(ETAG)) == EVERY_BYTE
