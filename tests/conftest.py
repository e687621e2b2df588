"""What all tests share: an environment of their own, the data that lies around, and a look at what they leave."""

import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import hypothesis
import pytest

from cellworker.settings import Settings

TESTS = Path(__file__).parent
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

pytest.register_assert_rewrite("port_suites")

import reference_material  # noqa: E402
from leftovers import Leftovers  # noqa: E402

# scanpy compiles its functions when they are first called, here for a few hundred cells: optimizing takes longest.
os.environ.setdefault("NUMBA_OPT", "0")

# How long one example takes says more about the machine than about the code.
hypothesis.settings.register_profile("house", deadline=None, print_blob=True)
hypothesis.settings.load_profile("house")

ROOT = TESTS.parent
SHARED = ROOT.parent / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shared", type=Path, default=SHARED, help="where the reference material lies")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(reference_material.Plugin(config.getoption("--shared"), SHARED))
    config.pluginmanager.register(Leftovers(ROOT), "leftovers")


STARTED_FIRST = (
    "soak/test_soak.py",
    "test_asan.py",
    "explorer/test_rows.py",
    "faults/",
    "api/test_beside_scanpy.py",
    "formats/test_own_work.py",
    "formats/test_read_again.py",
    "deploy/test_image.py",
    "explorer/",
)
"""What takes longest: a worker that began it last would let the others wait."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(TESTS).as_posix()
        return next((at for at, start in enumerate(STARTED_FIRST) if path.startswith(start)), len(STARTED_FIRST))

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[None]:
    """No setting of the developer's shell reaches a test, and no test touches the developer's stores or data.

    Temporary files go to a folder of the session, too, so that those that a test leaves are told from everybody else's.
    """
    stores, data, home, temporary = (tmp_path_factory.mktemp(name) for name in ("stores", "data", "home", "tmp"))
    with pytest.MonkeyPatch.context() as patch:
        for item in fields(Settings):
            patch.delenv(item.name.upper(), raising=False)
        patch.setenv("STORE_DIR", str(stores))
        patch.setenv("DATA_DIR", str(data))
        patch.setenv("XDG_DATA_HOME", str(home))
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr("tempfile.tempdir", None)
        pytestconfig.pluginmanager.get_plugin("leftovers").watch(stores / ".locks", data, home, temporary)
        yield


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test keeps as a user would is seen by no other test."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "user" / "data"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user" / "home"))


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
def shared(pytestconfig: pytest.Config) -> Path:
    """The reference material; only tests that are marked ``shared`` may use it, and these skip where it is not."""
    folder: Path = pytestconfig.getoption("--shared")
    return folder


@pytest.fixture(scope="session")
def sample() -> Path:
    """The folder of the bundled sample experiment."""
    from cellworker.sample import sample_path

    return sample_path()


@pytest.fixture(autouse=True)
def no_marker_table_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test depend on whether the table that ScType publishes can be fetched here."""
    monkeypatch.setattr("cellworker.engine.annotators.marker_table._FETCHED_FROM", "http://127.0.0.1:9/none")
