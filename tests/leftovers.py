"""A plugin for pytest: whatever a test leaves behind is an error of that test.

Looked at are processes, open descriptors (files, sockets, pipes), limits of this process, and files in places that
tests share: the folder for temporary files, the checkout, the session's stores and data. What a fixture of a wider
scope opens belongs to that fixture; what a test makes it open must be gone when the fixture has ended.
"""

import gc
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import psutil
import pytest

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

GRACE_S = 60.0
"""Seconds that a process which was told to end may take, and a thread: the one that compares a store yields to all
others, and on a loaded machine notices late that the store was closed. What ends sooner is not waited for."""
_POLL_S = 0.02
_PROC = Path("/proc")
_CACHES = frozenset({".hypothesis", ".pytest_cache", ".mypy_cache", ".ruff_cache", "__pycache__", ".coverage", "build"})
_MARK = "CELLWORKER_TEST_RUN"
_LIMITS = ("RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_AS", "RLIMIT_CPU")
_LIBRARY_LOOPS = frozenset({"zarr_IO_loop", "zarr_io"})
"""Threads of event loops that libraries start once for the whole process, in whichever test comes first."""

Things = dict[str, str]
"""What is there: its identity, and how a person calls it."""


@dataclass(frozen=True)
class _Guilty:
    """A test that left something, and the wider fixtures that may still end it."""

    test: str
    name: str
    fixtures: frozenset[str]


class Leftovers:
    """Compares what is there before and after each test.

    Parameters
    ----------
    checkout
        The folder in which no test leaves a file.
    """

    def __init__(self, checkout: Path) -> None:
        self._places: list[Path] = [checkout]
        self._before: Things = {}
        self._seen: Things = {}
        self._after: Things | None = None
        self._owned: set[str] = set()
        self._alive: dict[Any, str] = {}
        self._pending: dict[str, _Guilty] = {}
        self._foreign: set[int] = set()
        self._failed = False
        self._libraries: set[str] = set()
        self._module: Path | None = None
        # Every process that a test starts inherits it, and is known by it when its parent is gone.
        self._mark = f"{os.getpid()}-{time.time_ns()}"
        os.environ[_MARK] = self._mark
        if sys.version_info >= (3, 14):
            # Bars of other libraries have locks for processes, which start it there; it ends with this process.
            resource_tracker.ensure_running()

    def watch(self, *places: Path) -> None:
        """Look at these folders too."""
        self._places += places

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        if item.path != self._module:
            self._module = item.path
            # Libraries of science hold millions of objects for good. Looking through them takes a second each time, and
            # tests of connections collect often: what is alive between two files of tests is not looked at again.
            gc.collect()
            gc.freeze()
        # Between two tests nothing runs: what was there after the one is there before the next.
        self._before, self._failed = self._after if self._after is not None else self._there(), False
        self._after = None
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[Any]:
        report = yield
        self._failed |= report.failed
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[Any]:
        if fixturedef.scope == "function":
            return (yield)
        before = self._there()
        try:
            return (yield)
        finally:
            opened = self._there().keys() - before.keys()
            self._owned |= opened
            if opened:  # one that opens nothing cannot be what a test's leftovers belong to
                self._alive[fixturedef] = fixturedef.argname

    def pytest_fixture_post_finalizer(self, fixturedef: Any) -> None:
        self._alive.pop(fixturedef, None)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        result = yield
        # pytest holds what fixtures returned until after this hook: an array that maps a file would seem to be left.
        getattr(item, "funcargs", {}).clear()
        self._give_to_libraries()
        fixtures = frozenset(self._alive.values()) & frozenset(getattr(item, "fixturenames", ()))
        deadline = time.monotonic() + GRACE_S
        while (fresh := self._fresh()) and not fixtures and time.monotonic() < deadline:
            gc.collect()  # what merely waits to be collected, as a transport in a cycle, is not left behind
            time.sleep(_POLL_S)
        for identity, name in fresh.items():
            self._pending[identity] = _Guilty(item.nodeid, name, fixtures)
        self._judge()
        self._after = self._seen
        return result

    def _give_to_libraries(self) -> None:
        started = {thread.name for thread in threading.enumerate()} & _LIBRARY_LOOPS - self._libraries
        if started:
            self._libraries |= started
            loop = ("eventpoll", "kqueue", "socket")
            self._owned |= {key for key, name in self._fresh().items() if any(word in name for word in loop)}
        self._owned |= _nursery()

    def _judge(self) -> None:
        """Fail for what was left by tests whose wider fixtures have all ended."""
        if not self._pending:
            return
        there = self._there()
        # What has been closed is forgotten: a later test may open the same file with the same number.
        self._pending = {identity: guilty for identity, guilty in self._pending.items() if identity in there}
        alive = frozenset(self._alive.values())
        due = {identity: guilty for identity, guilty in self._pending.items() if not guilty.fixtures & alive}
        deadline = time.monotonic() + GRACE_S
        while due.keys() & there.keys() and time.monotonic() < deadline:
            gc.collect()  # as above: a fixture's own objects end a moment after it
            time.sleep(_POLL_S)
            there = self._there()
        for identity in due:
            del self._pending[identity]
        found = [f"{guilty.test} leaves {guilty.name}" for identity, guilty in due.items() if identity in there]
        self._owned |= due.keys() & there.keys()  # said once
        if found:
            pytest.fail("\n".join(found), pytrace=False)

    def _fresh(self) -> Things:
        known = self._before.keys() | self._owned | self._pending.keys()
        found = {identity: name for identity, name in self._there().items() if identity not in known}
        # The traceback of a test that failed keeps its variables alive, and what these have open.
        return {key: name for key, name in found.items() if not (self._failed and key.startswith("descriptor"))}

    def _there(self) -> Things:
        self._seen = {**self._processes(), **_descriptors(), **_limits(), **_files(self._places)}
        return self._seen

    def _processes(self) -> Things:
        ours = _descendants(os.getpid()) | set(self._orphans())
        found = {}
        for pid in ours:
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                words = " ".join(process.cmdline())[:200] or process.name()
                found[f"process {pid} {process.create_time()}"] = f"a process ({process.status()}): {words}"
        return found

    def _orphans(self) -> Iterator[int]:
        """Return processes that a test started and whose parents are gone."""
        with suppress(OSError):
            pids = {int(name) for name in os.listdir(_PROC) if name.isdecimal()}  # noqa: PTH208 - names, many, for every test
            self._foreign &= pids
            for pid in pids - self._foreign - {os.getpid()}:
                try:
                    environment = (_PROC / str(pid) / "environ").read_bytes()
                except OSError:
                    environment = b""
                if f"{_MARK}={self._mark}".encode() in environment:
                    yield pid
                elif environment:  # one that has not yet replaced itself says nothing of itself
                    self._foreign.add(pid)


def _nursery() -> set[str]:
    """What this process keeps for all its readers: the process that forks them, and the socket to it."""
    module = sys.modules.get("cellworker.formats.opening.reader_processes")
    nursery = getattr(module, "_nursery", None)
    process, control = getattr(nursery, "_process", None), getattr(nursery, "_control", None)
    if process is None or control is None:
        return set()
    status = os.fstat(control.fileno())
    with suppress(psutil.Error):
        started = psutil.Process(process.pid).create_time()
        return {
            f"process {process.pid} {started}",
            f"descriptor {control.fileno()} {status.st_dev} {status.st_ino}",
        }
    return set()


def _descendants(pid: int) -> set[int]:
    try:
        lists = [(task / "children").read_text().split() for task in (_PROC / str(pid) / "task").iterdir()]
    except OSError:  # another system, or the process ends at this moment
        with suppress(psutil.Error):
            return {child.pid for child in psutil.Process(pid).children(recursive=True)}
        return set()
    children = {int(child) for words in lists for child in words}
    return children.union(*(_descendants(child) for child in children))


def _descriptors() -> Things:
    folder = _PROC / "self" / "fd" if _PROC.is_dir() else Path("/dev/fd")
    found = {}
    for name in os.listdir(folder):  # noqa: PTH208
        with suppress(OSError, ValueError):
            status = os.fstat(int(name))
            if stat.S_ISDIR(status.st_mode) and status.st_dev == folder.stat().st_dev:
                continue  # that of the listing itself
            target = str((folder / name).readlink()) if _PROC.is_dir() else stat.filemode(status.st_mode)
            found[f"descriptor {name} {status.st_dev} {status.st_ino}"] = f"an open descriptor: {target}"
    return found


def _limits() -> Things:
    """Return the limits of this process, which a test lowers for all that come after it."""
    if resource is None:
        return {}
    found = {name: resource.getrlimit(getattr(resource, name)) for name in _LIMITS if hasattr(resource, name)}
    return {f"limit {name} {limits}": f"the limit {name} at {limits}" for name, limits in found.items()}


def _files(places: Sequence[Path]) -> Things:
    found = {}
    for place in places:
        with suppress(FileNotFoundError):
            for entry in os.scandir(place):
                if entry.name not in _CACHES:
                    found[f"file {entry.path}"] = f"a file: {entry.path}"
    return found
