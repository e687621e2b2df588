"""A plugin for pytest: the mark ``shared`` alone decides which tests see the reference material.

A test with the mark skips where the material is not. A test without it that asks for the fixture ``shared``, or opens
a file of the material in any other way, fails wherever it runs: so no test can forget the mark.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAME = "shared"


class Plugin:
    """Skips what is marked, and catches what is not.

    Parameters
    ----------
    folder
        Where the reference material lies, or would lie.
    usual
        Where it lies when nobody says otherwise: nothing without the mark reads that either.
    """

    def __init__(self, folder: Path, usual: Path) -> None:
        self._here = (folder / "contract.md").is_file()
        self._reason = f"the reference material {os.path.relpath(folder)} is not here"
        self._prefixes = tuple(f"{place.resolve()}{os.sep}" for place in (folder, usual))
        self._may = True
        self._opened = ""
        sys.addaudithook(self._audit)

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Iterator[Any]:
        self._may = False
        try:
            result = yield
        finally:
            self._may = True
        if self._opened:
            message = f"a test module opens {self._opened} while it is imported: let a test marked {NAME} do so"
            raise pytest.UsageError(message)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        marked = item.get_closest_marker(NAME) is not None
        if marked and not self._here:
            pytest.skip(self._reason)
        if not marked and NAME in getattr(item, "fixturenames", ()):
            pytest.fail(f"{item.nodeid} uses the reference material: mark it with pytest.mark.{NAME}", pytrace=False)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        self._may, self._opened = item.get_closest_marker(NAME) is not None, ""
        try:
            return (yield)
        finally:
            self._may = True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        result = yield
        if self._opened:
            pytest.fail(f"{item.nodeid} opens {self._opened}: mark it with pytest.mark.{NAME}", pytrace=False)
        return result

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._may or event not in {"open", "os.listdir", "os.scandir"}:
            return
        path = arguments[0]
        if isinstance(path, str | os.PathLike):
            text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - called for each file that is opened
            if f"{text}{os.sep}".startswith(self._prefixes):
                self._opened = text
