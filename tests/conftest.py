"""What all tests share: an environment of their own, and the data that lies around."""

import logging
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import hypothesis
import pytest

from cellworker.settings import Settings

# How long one example takes says more about the machine than about the code.
hypothesis.settings.register_profile("house", deadline=None, print_blob=True)
hypothesis.settings.load_profile("house")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No setting of the developer's shell reaches a test, and no test touches the developer's stores or data."""
    with pytest.MonkeyPatch.context() as patch:
        for item in fields(Settings):
            patch.delenv(item.name.upper(), raising=False)
        patch.setenv("STORE_DIR", str(tmp_path_factory.mktemp("stores")))
        patch.setenv("DATA_DIR", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A command that sets up logging in this process does so for its own test only."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference material beside the checkout; tests that use it are also marked ``shared``."""
    folder = ROOT.parent / "shared"
    if not (folder / "contract.md").is_file():
        pytest.skip("the reference material ../shared is not here")
    return folder


@pytest.fixture(scope="session")
def sample() -> Path:
    """The folder of the bundled sample experiment."""
    from cellworker.sample import sample_path

    return sample_path()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that one of two processes does not end up waiting for it alone."""
    items.sort(key=lambda item: item.path.parent.name != "soak")
