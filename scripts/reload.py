"""`RELOAD=1 make run`: serve an experiment, and start the worker again when its code changes.

It watches the files of the package. A file that is only touched, or that no worker reads, restarts nothing.
After a change of C files the kernels are compiled first. Code that does not run or compile leaves its error on the
terminal, and the next change tries again. `make kill` or Ctrl-C ends the worker and this script.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

from watchfiles import watch

ROOT = Path(__file__).resolve().parent.parent
COMPILED = frozenset({".c", ".h"})
READ = frozenset({".py", ".html", ".js", ".css"}) | COMPILED
STOP_TIMEOUT_S = 30
LOOK_MS = 300
"""Seconds between two checks that the worker still runs."""


class Sources:
    """Content of the package's files, to tell a change from a touch.

    Parameters
    ----------
    folder
        Where the package `cellworker` lies.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known = {path: _digest(path) for path in folder.rglob("*") if self.wanted(path)}

    def wanted(self, path: Path) -> bool:
        """Whether a worker reads this file."""
        parts = path.relative_to(self._folder).parts
        return path.suffix in READ and not any(part.startswith(".") or part == "__pycache__" for part in parts)

    def changed(self, paths: set[Path]) -> list[Path]:
        """Return the files whose content has changed since the last call, in order."""
        found = []
        for path in sorted(filter(self.wanted, paths)):
            digest = _digest(path)
            if self._known.get(path) != digest:
                self._known[path] = digest
                found.append(path)
        return found


def _digest(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:  # removed, or being replaced
        return None


class Worker:
    """`cellworker run` as a child that can be started again.

    Parameters
    ----------
    source
        The folder that holds the package.
    arguments
        Arguments of ``cellworker run``.
    """

    def __init__(self, source: Path, arguments: list[str]) -> None:
        self._command = [sys.executable, "-m", "cellworker.cli.main", "run", *arguments]
        self._environment = {**os.environ, "PYTHONPATH": str(source)}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches it only through this script."""
        self._process = subprocess.Popen(self._command, env=self._environment, start_new_session=True)

    def ended(self) -> int | None:
        """Return the exit status of a worker that has ended by itself since the last call, else None."""
        status = self._process.poll() if self._process else None
        if status is not None:
            self._process = None
        return status

    def stop(self) -> None:
        """End it, and wait until it has."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def compiled(source: Path, changed: list[Path]) -> bool:
    """Compile the kernels of the package; False where the compiler refuses and prints why.

    First the changed files are checked alone: that takes a moment, and finds typing errors.
    """
    sys.path.insert(0, str(ROOT))
    import hatch_build  # noqa: PLC0415 - only who changes C pays for it

    compiler = hatch_build.find_compiler()
    files = [str(path) for path in changed if path.suffix == ".c" and path.exists()]
    if compiler and files:
        include = f"-I{source / 'cellworker/native/include'}"
        look = [*compiler, *hatch_build.FLAGS, "-fsyntax-only", include, '-DCW_INTERFACE=""', *files]
        if subprocess.run(look, check=False).returncode:
            return False
    try:
        hatch_build.build(source.parent)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr, flush=True)
        return False
    return True


def follow(source: Path, arguments: list[str], stop: threading.Event) -> int:
    """Run the worker until it ends, and return its exit status; 0 where this script is asked to end.

    Parameters
    ----------
    source
        The folder that holds the package.
    arguments
        Arguments of ``cellworker run``.
    stop
        Ends everything when set.
    """
    package = source / "cellworker"
    sources = Sources(package)
    worker = Worker(source, arguments)
    worker.start()
    try:
        for changes in watch(package, stop_event=stop, rust_timeout=LOOK_MS, yield_on_timeout=True, watch_filter=None):
            if worker.ended() == 0:
                return 0
            found = sources.changed({Path(path) for _, path in changes})
            if not found:
                continue
            print(f"changed: {', '.join(str(path.relative_to(package)) for path in found)}", flush=True)
            if any(path.suffix in COMPILED for path in found) and not compiled(source, found):
                continue
            worker.stop()
            worker.start()
    finally:
        worker.stop()
    return 0


def main(arguments: list[str]) -> int:
    """Watch, and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--source", type=Path, default=ROOT / "src", help="the folder that holds the package")
    options, rest = parser.parse_known_args(arguments)
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return follow(options.source.resolve(), rest, stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
