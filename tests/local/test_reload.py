"""`RELOAD=1 make run`: a worker that is started again when what it consists of changes, and only then."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("watchfiles")

WAIT_S = 90
NEVER_COPIED = shutil.ignore_patterns("__pycache__", "*.tmp", "*.o")


class Reloading:
    """`scripts/reload.py` on a copy of the package, and what it says, line by line."""

    def __init__(self, root: Path, folder: Path, stores: Path) -> None:
        shutil.copytree(root / "src", folder / "src", ignore=NEVER_COPIED)
        self.package = folder / "src" / "cellworker"
        self.note = folder / "data" / ".run"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.lines: list[str] = []
        self._said = threading.Condition()
        variables = {"DATA_DIR": str(folder / "data"), "STORE_DIR": str(stores), "PORT": str(self.port)}
        temporary = folder / "tmp"
        temporary.mkdir()
        variables |= {"TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "scripts/reload.py", "--source", str(folder / "src")],
            cwd=root, env={**os.environ, **variables},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._said:
                self.lines.append(line)
                self._said.notify_all()

    def until(self, pattern: str) -> str:
        """Wait for a line, and forget everything up to it."""

        def found() -> int | None:
            return next((at for at, line in enumerate(self.lines) if re.search(pattern, line)), None)

        with self._said:
            assert self._said.wait_for(lambda: found() is not None, WAIT_S), f"{pattern}: {self.lines}"
            at = found()
            assert at is not None
            line = self.lines[at]
            self.skipped, self.lines = self.lines[:at], self.lines[at + 1 :]
            return line

    def change(self, name: str, how: Callable[[str], str]) -> None:
        """Write a file anew, as an editor does."""
        path = self.package / name
        part = path.with_suffix(".edit")
        part.write_text(how(path.read_text()))
        part.replace(path)

    def answers(self) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=WAIT_S) as answer:
            return bool(answer.status == 200)

    def pid(self) -> int:
        """The worker's own."""
        return int((self.note / f"{self.port}.pid").read_text())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(WAIT_S)
        finally:
            self.process.kill()
            self._reader.join()
            assert self.process.stdout
            self.process.stdout.close()


@pytest.fixture
def reloading(root: Path, tmp_path: Path, sample: Path) -> Iterator[Reloading]:
    started = Reloading(root, tmp_path / "copy", tmp_path / "stores")
    yield started
    started.close()


def test_changed_code_answers_and_nothing_else_starts_a_worker(reloading: Reloading) -> None:
    reloading.until("Open http")
    first = reloading.pid()
    # Neither a touch, nor a text that no worker reads, nor what an editor leaves.
    (reloading.package / "local" / "run.py").touch()
    (reloading.package / "notes.md").write_text("# Notes\n")
    (reloading.package / "local" / ".run.py.swp").write_text("x")
    reloading.change("local/run.py", lambda text: text.replace("cellworker listens on", "A changed worker listens on"))
    assert reloading.until("changed: ") == "changed: local/run.py\n"
    assert "changed" not in "".join(reloading.skipped)
    reloading.until("A changed worker listens on")
    reloading.until("Open http")
    assert reloading.answers()
    assert reloading.pid() != first

    # Code that does not run leaves its error, and the next change tries again.
    reloading.change("local/run.py", lambda text: text + "\nthis is no Python\n")
    reloading.until("SyntaxError")
    reloading.change("local/run.py", lambda text: text.replace("\nthis is no Python\n", ""))
    reloading.until("A changed worker listens on")
    reloading.until("Open http")
    assert reloading.answers()

    # Whoever stops the worker is done with it.
    os.kill(reloading.pid(), signal.SIGTERM)
    assert reloading.process.wait(WAIT_S) == 0


def test_kernels_are_compiled_before_the_worker_starts_again(reloading: Reloading) -> None:
    reloading.until("Open http")
    first, library = reloading.pid(), reloading.package / "native" / "_kernels.so"
    before = library.stat().st_mtime_ns
    reloading.change("native/interface.c", lambda text: text + "\nthis is no C\n")
    reloading.until("interface.c.*error")
    # The library is as it was, and so is the worker.
    assert library.stat().st_mtime_ns == before
    assert reloading.answers()
    assert reloading.pid() == first
    reloading.process.send_signal(signal.SIGINT)
    assert reloading.process.wait(WAIT_S) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", reloading.port), timeout=WAIT_S)
