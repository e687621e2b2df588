"""Try a wheel without a checkout: `uvx --from FILE.whl cellworker run x.h5ad`, in an empty folder.

The workflow runs it on every platform that has a wheel. It prints the outcome, and ends what it started.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bootstrap import SetupError, find_uv, uv_settings

_START_S = 300
_AGAIN_S = 0.5
_MAKE = "import cellworker, pathlib; from cellworker.formats.convert.converting import convert; \
from cellworker.settings import Settings; convert(cellworker.sample_path(), pathlib.Path('x.h5ad'), Settings())"


def told(log: Path) -> str:
    """Return what the worker has said so far."""
    return log.read_text(encoding="utf-8", errors="replace")


def once_there(look: Callable[[], str | None], process: "subprocess.Popen[bytes]", log: Path, problem: str) -> str:
    """Return what is looked for, once it is there; fail when the worker has ended, or time is over."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        if (found := look()) is not None:
            return found
        time.sleep(_AGAIN_S)
    message = f"{problem}:\n{told(log)}"
    raise SetupError(message)


def fetched(url: str, process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Return what an address answers, once it does."""

    def look() -> str | None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=60) as answer:
            return str(answer.read().decode())
        return None

    return once_there(look, process, log, f"{url} did not answer")


def address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Return where the worker listens, as it says itself."""

    def look() -> str | None:
        found = re.search(r"http://[\w.]+:\d+", told(log))
        return found and found[0]

    return once_there(look, process, log, "cellworker run did not start")


def attempt(wheel: Path, folder: Path) -> None:
    """Install the wheel for one use, make an .h5ad of the bundled sample with it, serve it, and fetch the page."""
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environment = {**kept, **uv_settings(), "DATA_DIR": str(folder / "data")}
    tool = [
        str(find_uv()),
        "tool",
        "run",
        "--isolated",
        "--no-config",
        "--python",
        sys.executable,
        "--from",
        str(wheel),
    ]
    for words in (["cellworker", "version"], ["python", "-c", _MAKE], ["cellworker", "check", "x.h5ad"]):
        done = subprocess.run([*tool, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)
        print(f"$ {' '.join(words)[:60]}: {done.returncode}", flush=True)
        if done.returncode != 0:
            raise SetupError(done.stdout + done.stderr)
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*tool, "cellworker", "run", "x.h5ad", "--port", "0", "--no-browser"],
            cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        try:
            url = address(process, log)
            page = fetched(f"{url}/", process, log)
            scripts = re.findall(r'src="[^"]*?(/assets/[^"]+\.js)"', page)
            if not scripts:
                message = f"{url}/ is not the explorer:\n{page[:500]}"
                raise SetupError(message)
            print(f"the page: {len(page):,} bytes, its script {len(fetched(url + scripts[0], process, log)):,}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def main(arguments: list[str]) -> int:
    """Try the named wheel."""
    (wheel,) = arguments
    with tempfile.TemporaryDirectory(prefix="cellworker-") as scratch:
        try:
            attempt(Path(wheel).resolve(), Path(scratch))
        except SetupError as error:
            print(f"{wheel}: {error}", file=sys.stderr)
            return 1
    print(f"{wheel}: works")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
