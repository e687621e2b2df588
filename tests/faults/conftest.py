"""The world in which faults happen."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

TESTS = Path(__file__).parent.parent
for folder in (TESTS, TESTS / "faults"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from world import Platform, Pod, World, open_platform, open_world  # noqa: E402


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Queue, object store and Redis, with the rights that the original gives its workers."""
    with open_platform(tmp_path_factory.mktemp("platform")) as opened:
        yield opened


@pytest.fixture
async def world(tmp_path: Path, platform: Platform) -> AsyncIterator[World]:
    """A world of this test alone."""
    async with open_world(tmp_path, platform) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_world(tmp_path_factory: pytest.TempPathFactory, platform: Platform) -> AsyncIterator[World]:
    """A world for the tests of one module, which leave it as they found it; they need that module's event loop."""
    async with open_world(tmp_path_factory.mktemp("world"), platform) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod(shared_world: World) -> Pod:
    """One pod for the tests of one module: none of them may do it any harm."""
    pod = shared_world.pod()
    pod.start()
    await pod.ready()
    return pod
